/* What the two bench programs share: time, a histogram of durations, and giving up. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define SECOND 1000000000ull

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static inline _Noreturn void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline void *need(void *memory) {
    if (!memory) die("memory");
    return memory;
}

static inline void nonblocking(int fd) {
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) die("fcntl");
}

/* The whole of a file; the caller keeps it for the life of the program or frees it. */
static inline char *slurp(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) die(path);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = need(malloc(*size + 1));
    if (fread(bytes, 1, *size, file) != *size) die(path);
    bytes[*size] = 0;
    fclose(file);
    return bytes;
}

/* The value of a header inside `head` (which ends in a NUL), or NULL. */
static inline const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, name, length) && line[length] == ':') {
            const char *value = line + length + 1;
            return value + strspn(value, " \t");
        }
    }
    return NULL;
}

/* Durations in buckets about 1.5 % wide: bounded memory, any number of samples. */
#define FINE 64
typedef struct {
    uint64_t count, most;
    uint64_t bucket[64 * FINE];
} Histogram;

static inline void observe(Histogram *h, uint64_t value) {
    unsigned shift = 0;
    while ((value >> shift) >= 2 * FINE) shift++;
    h->bucket[shift * FINE + (value >> shift)]++;
    h->count++;
    if (value > h->most) h->most = value;
}

static inline double quantile_ms(const Histogram *h, double q) {
    uint64_t wanted = (uint64_t)(q * (double)h->count), seen = 0;
    for (unsigned i = 0; i < 64 * FINE; i++) {
        seen += h->bucket[i];
        if (seen <= wanted) continue;
        unsigned shift = i < 2 * FINE ? 0 : i / FINE - 1;
        return (double)((uint64_t)(i - shift * FINE) << shift) / 1e6;
    }
    return (double)h->most / 1e6;
}

static inline void print_histogram(const char *name, const Histogram *h) {
    printf("\"%s\": {\"n\": %llu, \"p50\": %.4f, \"p99\": %.4f, \"max\": %.4f}", name, (unsigned long long)h->count,
           quantile_ms(h, 0.50), quantile_ms(h, 0.99), (double)h->most / 1e6);
}

#endif
