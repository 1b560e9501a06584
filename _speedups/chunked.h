/* The size of a chunk in HTTP's chunked coding. */
#ifndef AIBRIDGE_CHUNKED_H
#define AIBRIDGE_CHUNKED_H

#include <stddef.h>
#include <stdint.h>

#define CHUNKED_DIGITS 15 /* more are given back; so many fit any size */
#define CHUNKED_HALF (CHUNKED_DIGITS + 1) /* the longest that may still become a plain size and its line end */

enum { CHUNKED_PLAIN, CHUNKED_HALF_WAY, CHUNKED_OTHER };

static inline int hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Look at the size and the line end at `*from`. Where they are plain, set `*size`, and move `*from` behind them. */
static inline int chunk_size(const uint8_t **from, const uint8_t *end, uint64_t *size)
{
    const uint8_t *at = *from;
    const uint8_t *most = end - at > CHUNKED_DIGITS ? at + CHUNKED_DIGITS : end;
    uint64_t value = 0;
    for (int digit; at < most && (digit = hex_value(*at)) >= 0; at++)
        value = value << 4 | (uint64_t)digit;
    if (at == end)
        return CHUNKED_HALF_WAY;
    if (at == *from || *at++ != '\r')
        return CHUNKED_OTHER;
    if (at == end)
        return CHUNKED_HALF_WAY;
    if (*at++ != '\n' || value == 0)
        return CHUNKED_OTHER;
    *from = at;
    *size = value;
    return CHUNKED_PLAIN;
}

#endif
