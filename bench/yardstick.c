/* A plain C loop over Bedrock frames: both checksums (slice-by-16), base64, and the text of a server-sent event.
 *
 * It is what a kernel that does the same work is measured by: the same compiler builds it where the bench runs. It knows its
 * input: frames that lie in memory one after the other, each with one event in base64, as data.py makes them.
 * Under callgrind, `count_from` and `count_to` bracket what is to be counted; elsewhere they do nothing.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef CALLGRIND
#include <valgrind/callgrind.h>
#endif

#define PAYLOAD_BEGIN "{\"bytes\":\""
#define TYPE_BEGIN "{\"type\":\""

static uint32_t table[16][256];
static int8_t digit[256];

void prepare(void) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t sum = byte;
        for (int bit = 0; bit < 8; bit++) sum = sum & 1 ? sum >> 1 ^ 0xEDB88320u : sum >> 1;
        table[0][byte] = sum;
        digit[byte] = -1;
    }
    for (int slice = 1; slice < 16; slice++)
        for (int byte = 0; byte < 256; byte++) table[slice][byte] = table[slice - 1][byte] >> 8 ^ table[0][table[slice - 1][byte] & 255];
    for (int value = 0; value < 64; value++) digit[(uint8_t)alphabet[value]] = (int8_t)value;
}

void count_from(void) {
#ifdef CALLGRIND
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
#endif
}

void count_to(const char *name) {
#ifdef CALLGRIND
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
#else
    (void)name;
#endif
}

static uint32_t big_endian(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }

static uint32_t checksum(const uint8_t *at, size_t size) {
    uint32_t sum = ~0u;
    for (; size >= 16; at += 16, size -= 16) {
        uint32_t word[4];
        memcpy(word, at, 16);
        word[0] ^= sum;
        sum = 0;
        for (int i = 0; i < 4; i++)
            sum ^= table[15 - 4 * i][word[i] & 255] ^ table[14 - 4 * i][word[i] >> 8 & 255] ^ table[13 - 4 * i][word[i] >> 16 & 255] ^
                   table[12 - 4 * i][word[i] >> 24];
    }
    while (size--) sum = sum >> 8 ^ table[0][(sum ^ *at++) & 255];
    return ~sum;
}

/* Returns the bytes written, or 0 for what is no base64. */
static size_t decode(const uint8_t *from, size_t size, uint8_t *to) {
    uint8_t *begin = to;
    for (; size >= 4; from += 4, size -= 4) {
        int a = digit[from[0]], b = digit[from[1]], c = digit[from[2]], d = digit[from[3]];
        if (from[3] == '=') {
            *to++ = (uint8_t)(a << 2 | b >> 4);
            if (from[2] != '=') *to++ = (uint8_t)(b << 4 | c >> 2);
            break;
        }
        if ((a | b | c | d) < 0) return 0;
        to[0] = (uint8_t)(a << 2 | b >> 4);
        to[1] = (uint8_t)(b << 4 | c >> 2);
        to[2] = (uint8_t)(c << 6 | d);
        to += 3;
    }
    return (size_t)(to - begin);
}

static uint8_t *put(uint8_t *to, const void *from, size_t size) {
    memcpy(to, from, size);
    return to + size;
}

/* Returns the bytes of text written to `out`, which has room for as many as `in` has; 0 when a frame is not as it should be. */
size_t frames_to_text(const uint8_t *in, size_t size, uint8_t *out) {
    static uint8_t event[1 << 16];
    uint8_t *to = out;
    while (size) {
        uint32_t total = big_endian(in), headers = big_endian(in + 4);
        if (size < total || checksum(in, 8) != big_endian(in + 8) || checksum(in, total - 4) != big_endian(in + total - 4)) return 0;
        const uint8_t *payload = in + 12 + headers;
        if (memcmp(payload, PAYLOAD_BEGIN, sizeof PAYLOAD_BEGIN - 1)) return 0;
        payload += sizeof PAYLOAD_BEGIN - 1;
        const uint8_t *quote = memchr(payload, '"', total - 16 - headers);
        size_t length = decode(payload, (size_t)(quote - payload), event);
        if (!length || memcmp(event, TYPE_BEGIN, sizeof TYPE_BEGIN - 1)) return 0;
        const uint8_t *type = event + sizeof TYPE_BEGIN - 1, *type_end = memchr(type, '"', length);
        to = put(to, "event: ", 7);
        to = put(to, type, (size_t)(type_end - type));
        to = put(to, "\ndata: ", 7);
        to = put(to, event, length);
        to = put(to, "\n\n", 2);
        in += total;
        size -= total;
    }
    return (size_t)(to - out);
}
