/* Strict base64 (RFC 4648): the standard alphabet, padded to a multiple of four, nothing behind the padding. */
#ifndef AIBRIDGE_BASE64_H
#define AIBRIDGE_BASE64_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define AIBRIDGE_SHUFFLE 1
#include <immintrin.h>
#endif

#define BASE64_BAD 0x80000000u

/* base64_tables[i][c]: the bits that character c adds at place i of a group of four; BASE64_BAD for no character. */
static uint32_t base64_tables[4][256];
static int base64_shuffles;

static void base64_begin(void)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int place = 0; place < 4; place++)
        for (int c = 0; c < 256; c++)
            base64_tables[place][c] = BASE64_BAD;
    for (uint32_t value = 0; value < 64; value++)
        for (int place = 0; place < 4; place++)
            base64_tables[place][(uint8_t)alphabet[value]] = value << (18 - 6 * place);
#ifdef AIBRIDGE_SHUFFLE
    __builtin_cpu_init();
    base64_shuffles = __builtin_cpu_supports("ssse3") != 0;
#endif
}

#ifdef AIBRIDGE_SHUFFLE
/* Decode sixteen characters a step, as Mula and Lemire describe ("Faster Base64 Encoding and Decoding using AVX2
 * Instructions", 2018): both halves of a character index a table of bits, which have one in common if it is none of ours.
 * Writes four bytes more than it gives. Returns the number of characters taken: it stops before the first bad one's step.
 */
__attribute__((target("ssse3"))) static size_t base64_steps(const uint8_t *at, size_t size, uint8_t *to)
{
    const __m128i of_low = _mm_setr_epi8(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1A, 0x1B,
                                         0x1B, 0x1B, 0x1A);
    const __m128i of_high = _mm_setr_epi8(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10,
                                          0x10, 0x10, 0x10);
    const __m128i to_value = _mm_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m128i in_order = _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    const __m128i nibble = _mm_set1_epi8(0x0F), slash = _mm_set1_epi8('/');
    size_t taken = 0;

    for (; size - taken >= 16; taken += 16, to += 12) {
        __m128i text = _mm_loadu_si128((const __m128i *)(at + taken));
        __m128i high = _mm_and_si128(_mm_srli_epi32(text, 4), nibble);
        __m128i bad = _mm_and_si128(_mm_shuffle_epi8(of_low, _mm_and_si128(text, nibble)),
                                    _mm_shuffle_epi8(of_high, high));
        if (_mm_movemask_epi8(_mm_cmpgt_epi8(bad, _mm_setzero_si128())))
            break;
        text = _mm_add_epi8(text, _mm_shuffle_epi8(to_value, _mm_add_epi8(_mm_cmpeq_epi8(text, slash), high)));
        text = _mm_maddubs_epi16(text, _mm_set1_epi32(0x01400140));
        text = _mm_madd_epi16(text, _mm_set1_epi32(0x00011000));
        _mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(text, in_order));
    }
    return taken;
}
#endif

static inline uint32_t base64_group(const uint8_t *at)
{
    return base64_tables[0][at[0]] | base64_tables[1][at[1]] | base64_tables[2][at[2]] | base64_tables[3][at[3]];
}

/* Decode `size` characters to `to`, which has room for size / 4 * 3 + 4 bytes. Returns the number of bytes, or -1. */
static ptrdiff_t base64_decode(const uint8_t *at, size_t size, uint8_t *to)
{
    uint8_t *begin = to;
    uint8_t last[4];
    uint32_t bits, seen = 0;
    size_t padding;

    if (size == 0)
        return 0;
    if (size % 4)
        return -1;
    size -= 4;
#ifdef AIBRIDGE_SHUFFLE
    if (base64_shuffles) {
        size_t taken = base64_steps(at, size, to);
        at += taken;
        size -= taken;
        to += taken / 4 * 3;
    }
#endif
    for (; size; size -= 4, at += 4, to += 3) {
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
