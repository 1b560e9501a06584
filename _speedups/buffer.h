/* A growing run of bytes. It grows with what is put in, never with what a length field promises. */
#ifndef AIBRIDGE_BUFFER_H
#define AIBRIDGE_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_KEPT 65536 /* memory up to this stays for the next call */

typedef struct {
    uint8_t *data;
    size_t size;
    size_t room;
} buffer;

/* Make room for `more` bytes behind the last. Returns 0, or -1 where memory is out. */
static inline int buffer_reserve(buffer *to, size_t more)
{
    if (to->room - to->size >= more)
        return 0;
    size_t room = to->size + more + to->size / 2 + 64;
    uint8_t *data = (uint8_t *)realloc(to->data, room);
    if (data == NULL)
        return -1;
    to->data = data;
    to->room = room;
    return 0;
}

static inline int buffer_add(buffer *to, const void *data, size_t size)
{
    if (buffer_reserve(to, size) < 0)
        return -1;
    if (size)
        memcpy(to->data + to->size, data, size);
    to->size += size;
    return 0;
}

/* Drop the first `size` bytes. */
static inline void buffer_drop(buffer *from, size_t size)
{
    from->size -= size;
    if (size && from->size)
        memmove(from->data, from->data + size, from->size);
}

static inline void buffer_free(buffer *one)
{
    free(one->data);
    memset(one, 0, sizeof *one);
}

/* Forget the content, and the memory too where it is much. */
static inline void buffer_clear(buffer *one)
{
    one->size = 0;
    if (one->room > BUFFER_KEPT)
        buffer_free(one);
}

#endif
