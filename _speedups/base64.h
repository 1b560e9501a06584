/* Strict base64 (RFC 4648): the standard alphabet, padded to a multiple of four, nothing behind the padding. */
#ifndef AIBRIDGE_BASE64_H
#define AIBRIDGE_BASE64_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define BASE64_BAD 0x80000000u

/* base64_tables[i][c]: the bits that character c adds at place i of a group of four; BASE64_BAD for no character. */
static uint32_t base64_tables[4][256];

static void base64_begin(void)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int place = 0; place < 4; place++)
        for (int c = 0; c < 256; c++)
            base64_tables[place][c] = BASE64_BAD;
    for (uint32_t value = 0; value < 64; value++)
        for (int place = 0; place < 4; place++)
            base64_tables[place][(uint8_t)alphabet[value]] = value << (18 - 6 * place);
}

static inline uint32_t base64_group(const uint8_t *at)
{
    return base64_tables[0][at[0]] | base64_tables[1][at[1]] | base64_tables[2][at[2]] | base64_tables[3][at[3]];
}

/* Decode `size` characters to `to`, which has room for size / 4 * 3 bytes. Returns the number of bytes, or -1. */
static ssize_t base64_decode(const uint8_t *at, size_t size, uint8_t *to)
{
    uint8_t *begin = to;
    uint8_t last[4];
    uint32_t bits, seen = 0;
    size_t padding;

    if (size == 0)
        return 0;
    if (size % 4)
        return -1;
    for (size -= 4; size; size -= 4, at += 4, to += 3) {
        seen |= bits = base64_group(at);
        to[0] = (uint8_t)(bits >> 16);
        to[1] = (uint8_t)(bits >> 8);
        to[2] = (uint8_t)bits;
    }
    memcpy(last, at, 4);
    padding = last[3] != '=' ? 0 : last[2] != '=' ? 1 : 2;
    memset(last + 4 - padding, 'A', padding);
    seen |= bits = base64_group(last);
    if (seen & BASE64_BAD)
        return -1;
    to[0] = (uint8_t)(bits >> 16);
    if (padding < 2)
        to[1] = (uint8_t)(bits >> 8);
    if (padding < 1)
        to[2] = (uint8_t)bits;
    return to + 3 - padding - begin;
}

#endif
