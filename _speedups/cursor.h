/* The checked cursor: every read of foreign bytes in the frame code goes through `take`. Big-endian loads. */
#ifndef AIBRIDGE_CURSOR_H
#define AIBRIDGE_CURSOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} cursor;

/* Return the next `size` bytes and pass over them, or NULL where fewer are left. */
static inline const uint8_t *take(cursor *from, size_t size)
{
    const uint8_t *taken = from->at;
    if ((size_t)(from->end - from->at) < size)
        return NULL;
    from->at += size;
    return taken;
}

static inline uint32_t load_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Return the number in `size` bytes (1, 2, 4 or 8), in two's complement. */
static inline int64_t load_signed(const uint8_t *at, size_t size)
{
    uint64_t value = at[0] & 0x80 ? ~(uint64_t)0 : 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | at[i];
    return (int64_t)value;
}

#endif
