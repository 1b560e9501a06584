/* CRC-32 as in zlib, without zlib: folded with PCLMULQDQ where the processor has it, sixteen tables elsewhere.
 *
 * The folding is that of Intel's paper "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction"
 * (Gopal et al., 2009), bit-reflected, with the paper's constants for this polynomial.
 */
#ifndef AIBRIDGE_CRC32_H
#define AIBRIDGE_CRC32_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define AIBRIDGE_FOLD 1
#include <immintrin.h>
#endif

static uint32_t crc32_tables[16][256];
static int crc32_folds;

/* Fill the tables; ask the processor. To be called once, before anything else here. */
static void crc32_begin(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        crc32_tables[0][byte] = crc;
    }
    for (int table = 1; table < 16; table++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = crc32_tables[table - 1][byte];
            crc32_tables[table][byte] = crc >> 8 ^ crc32_tables[0][crc & 0xFF];
        }
#ifdef AIBRIDGE_FOLD
    __builtin_cpu_init();
    crc32_folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

#ifdef AIBRIDGE_FOLD
#define FOLD(x, k) _mm_xor_si128(_mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11))
#define LOAD(p) _mm_loadu_si128((const __m128i *)(p))

/* `size` is at least 64, and a multiple of 16. Takes and gives the inverted state. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t crc32_fold(uint32_t crc, const uint8_t *at, size_t size)
{
    const __m128i by_64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i by_4 = _mm_set_epi64x(0, 0x0163cd6124);
    const __m128i polynomial = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    const __m128i low_halves = _mm_set_epi32(0, -1, 0, -1);
    __m128i a = _mm_xor_si128(LOAD(at), _mm_cvtsi32_si128((int)crc));
    __m128i b = LOAD(at + 16), c = LOAD(at + 32), d = LOAD(at + 48), rest;

    for (at += 64, size -= 64; size >= 64; at += 64, size -= 64) {
        a = _mm_xor_si128(FOLD(a, by_64), LOAD(at));
        b = _mm_xor_si128(FOLD(b, by_64), LOAD(at + 16));
        c = _mm_xor_si128(FOLD(c, by_64), LOAD(at + 32));
        d = _mm_xor_si128(FOLD(d, by_64), LOAD(at + 48));
    }
    a = _mm_xor_si128(FOLD(a, by_16), b);
    a = _mm_xor_si128(FOLD(a, by_16), c);
    a = _mm_xor_si128(FOLD(a, by_16), d);
    for (; size >= 16; at += 16, size -= 16)
        a = _mm_xor_si128(FOLD(a, by_16), LOAD(at));

    /* 128 bits to 64, to 32, and Barrett's reduction. */
    a = _mm_xor_si128(_mm_srli_si128(a, 8), _mm_clmulepi64_si128(a, by_16, 0x10));
    rest = _mm_srli_si128(a, 4);
    a = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a, low_halves), by_4, 0x00), rest);
    rest = _mm_clmulepi64_si128(_mm_and_si128(a, low_halves), polynomial, 0x10);
    rest = _mm_clmulepi64_si128(_mm_and_si128(rest, low_halves), polynomial, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, rest), 1);
}
#undef FOLD
#undef LOAD
#endif

/* Sixteen bytes a step; byte by byte, so that the order of bytes in a word does not matter. */
static uint32_t crc32_by_table(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 16; at += 16, size -= 16) {
        uint32_t next = crc32_tables[15][at[0] ^ (crc & 0xFF)] ^ crc32_tables[14][at[1] ^ (crc >> 8 & 0xFF)] ^
                        crc32_tables[13][at[2] ^ (crc >> 16 & 0xFF)] ^ crc32_tables[12][at[3] ^ (crc >> 24)];
        for (int i = 4; i < 16; i++)
            next ^= crc32_tables[15 - i][at[i]];
        crc = next;
    }
    if (size >= 8) {
        uint32_t next = crc32_tables[7][at[0] ^ (crc & 0xFF)] ^ crc32_tables[6][at[1] ^ (crc >> 8 & 0xFF)] ^
                        crc32_tables[5][at[2] ^ (crc >> 16 & 0xFF)] ^ crc32_tables[4][at[3] ^ (crc >> 24)];
        for (int i = 4; i < 8; i++)
            next ^= crc32_tables[7 - i][at[i]];
        crc = next;
        at += 8;
        size -= 8;
    }
    for (; size; at++, size--)
        crc = crc >> 8 ^ crc32_tables[0][(crc ^ *at) & 0xFF];
    return crc;
}

/* Like zlib's: `crc` is 0, or the checksum of what stands before. */
static inline uint32_t crc32_of(uint32_t crc, const uint8_t *at, size_t size)
{
    crc = ~crc;
#ifdef AIBRIDGE_FOLD
    if (size >= 64 && crc32_folds) {
        size_t folded = size & ~(size_t)15;
        crc = crc32_fold(crc, at, folded);
        at += folded;
        size -= folded;
    }
#endif
    return ~crc32_by_table(crc, at, size);
}

#endif
