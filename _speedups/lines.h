/* Lines of server-sent events: they end with LF, CR LF or CR. */
#ifndef AIBRIDGE_LINES_H
#define AIBRIDGE_LINES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Return the place of the next LF or CR in [at, end), or `end`. */
static inline const uint8_t *next_break(const uint8_t *at, const uint8_t *end)
{
#if defined(__SSE2__)
    const __m128i lf = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r');
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(bytes, lf), _mm_cmpeq_epi8(bytes, cr)));
        if (mask)
            return at + __builtin_ctz(mask);
    }
#endif
    while (at < end && *at != '\n' && *at != '\r')
        at++;
    return at;
}

/* Return the size of the line end that begins at `at`: 0 (none), 1 or 2. */
static inline size_t line_end(const uint8_t *at, const uint8_t *end)
{
    if (at == end)
        return 0;
    if (*at == '\n')
        return 1;
    if (*at != '\r')
        return 0;
    return end - at > 1 && at[1] == '\n' ? 2 : 1;
}

#endif
