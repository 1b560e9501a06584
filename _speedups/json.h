/* JSON looked at, never built: one pass over the text, no tree, no recursion, nothing kept but offsets.
 *
 * Accepts exactly RFC 8259 in UTF-8, with lone surrogate escapes, nested up to JSON_DEPTH. Each function takes the text
 * as [at, end), and returns the place behind what it took, or NULL where that is not there.
 */
#ifndef AIBRIDGE_JSON_H
#define AIBRIDGE_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define JSON_DEPTH 512 /* aibridge.jsontext.MAX_DEPTH */

/* Pass over bytes that mean nothing inside a string: all but '"', '\\', controls and what is not ASCII. */
static inline const uint8_t *json_plain(const uint8_t *at, const uint8_t *end)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), blank = _mm_set1_epi8(0x20);
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        /* Signed: below 0x20 are the controls and all from 0x80 on. */
        __m128i found = _mm_or_si128(_mm_cmplt_epi8(bytes, blank),
                                     _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)));
        unsigned mask = (unsigned)_mm_movemask_epi8(found);
        if (mask)
            return at + __builtin_ctz(mask);
    }
#endif
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    for (; end - at >= 8; at += 8) {
        uint64_t bytes, quote, backslash;
        memcpy(&bytes, at, 8);
        quote = bytes ^ ones * '"';
        backslash = bytes ^ ones * '\\';
        /* A byte below n borrows from its high bit; bytes that have it are found anyway. */
        if (((bytes - ones * 0x20) | (quote - ones) | (backslash - ones) | bytes) & high)
            break;
    }
    while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* One character of two to four bytes, as in table 3-7 of the Unicode standard: no surrogates, no overlong forms. */
static inline const uint8_t *utf8_character(const uint8_t *at, const uint8_t *end)
{
    size_t more = *at >= 0xC2 && *at <= 0xDF ? 1 : *at >= 0xE0 && *at <= 0xEF ? 2 : *at >= 0xF0 && *at <= 0xF4 ? 3 : 0;
    uint8_t low = *at == 0xE0 ? 0xA0 : *at == 0xF0 ? 0x90 : 0x80;
    uint8_t high = *at == 0xED ? 0x9F : *at == 0xF4 ? 0x8F : 0xBF;
    if (more == 0 || (size_t)(end - at) <= more || at[1] < low || at[1] > high)
        return NULL;
    for (size_t i = 2; i <= more; i++)
        if ((at[i] & 0xC0) != 0x80)
            return NULL;
    return at + more + 1;
}

static inline int is_hexadecimal(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* An escape; `at` is the backslash. */
static inline const uint8_t *json_escape(const uint8_t *at, const uint8_t *end)
{
    if (end - at < 2)
        return NULL;
    switch (at[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return at + 2;
    case 'u':
        if (end - at < 6)
            return NULL;
        for (int i = 2; i < 6; i++)
            if (!is_hexadecimal(at[i]))
                return NULL;
        return at + 6;
    default:
        return NULL;
    }
}

/* A string; `at` is behind its opening quote. `*ascii` becomes 0 where it is not. */
static inline const uint8_t *json_string(const uint8_t *at, const uint8_t *end, int *ascii)
{
    while (at != NULL && (at = json_plain(at, end)) < end) {
        if (*at == '"')
            return at + 1;
        if (*at == '\\') {
            at = json_escape(at, end);
        } else if (*at >= 0x80) {
            *ascii = 0;
            do
                at = utf8_character(at, end);
            while (at != NULL && at < end && *at >= 0x80);
        } else {
            return NULL; /* a control character */
        }
    }
    return NULL;
}

static inline const uint8_t *json_digits(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *begin = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at == begin ? NULL : at;
}

static inline const uint8_t *json_integer(const uint8_t *at, const uint8_t *end)
{
    if (at < end && *at == '-')
        at++;
    if (at < end && *at == '0')
        return at + 1;
    return json_digits(at, end);
}

static inline const uint8_t *json_number(const uint8_t *at, const uint8_t *end)
{
    at = json_integer(at, end);
    if (at != NULL && at < end && *at == '.')
        at = json_digits(at + 1, end);
    if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = json_digits(at, end);
    }
    return at;
}

static inline const uint8_t *json_word(const uint8_t *at, const uint8_t *end, const char *word)
{
    size_t size = strlen(word);
    return (size_t)(end - at) >= size && memcmp(at, word, size) == 0 ? at + size : NULL;
}

static inline const uint8_t *json_blanks(const uint8_t *at, const uint8_t *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* A value that is neither array nor object. */
static inline const uint8_t *json_scalar(const uint8_t *at, const uint8_t *end)
{
    int ascii;
    switch (*at) {
    case '"': return json_string(at + 1, end, &ascii);
    case 't': return json_word(at, end, "true");
    case 'f': return json_word(at, end, "false");
    case 'n': return json_word(at, end, "null");
    default: return json_number(at, end);
    }
}

/* A top-level member, as offsets: its key with the quotes, its value without blanks around it. */
typedef struct {
    size_t key_start, key_end, value_start, value_end;
} json_member;

typedef struct {
    json_member *items;
    size_t count, room;
    int is_object;
} json_members;

/* Return a new member, zeroed, or NULL where memory is out. */
static inline json_member *json_members_add(json_members *members)
{
    if (members->count == members->room) {
        size_t room = members->room * 2 + 16;
        json_member *items = (json_member *)realloc(members->items, room * sizeof *items);
        if (items == NULL)
            return NULL;
        members->items = items;
        members->room = room;
    }
    return memset(&members->items[members->count++], 0, sizeof(json_member));
}

enum { JSON_VALID = 0, JSON_INVALID = -1, JSON_NO_MEMORY = -2 };

/* Look at one whole text. Fills `members`, unless that is NULL; whoever made it frees its items. */
static int json_check(const uint8_t *at, const uint8_t *end, json_members *members)
{
    const uint8_t *begin = at;
    uint8_t closers[JSON_DEPTH + 1]; /* closers[depth]: what closes the array or object at that depth */
    int depth = 0, ascii;
    json_member *member = NULL; /* the one we are in */

    if (members != NULL)
        members->count = members->is_object = 0;

value:
    at = json_blanks(at, end);
    if (at == end)
        return JSON_INVALID;
    if (depth == 1 && member != NULL)
        member->value_start = (size_t)(at - begin);
    if (*at != '{' && *at != '[') {
        at = json_scalar(at, end);
        if (at == NULL)
            return JSON_INVALID;
        goto behind_value;
    }
    if (depth == JSON_DEPTH)
        return JSON_INVALID;
    closers[++depth] = *at == '{' ? '}' : ']';
    if (depth == 1 && members != NULL)
        members->is_object = *at == '{';
    at = json_blanks(at + 1, end);
    if (at < end && *at == closers[depth]) {
        at++;
        depth--;
        goto behind_value;
    }
    if (closers[depth] == ']')
        goto value;

key:
    at = json_blanks(at, end);
    if (at == end || *at != '"')
        return JSON_INVALID;
    if (depth == 1 && members != NULL) {
        member = json_members_add(members);
        if (member == NULL)
            return JSON_NO_MEMORY;
        member->key_start = (size_t)(at - begin);
    }
    at = json_string(at + 1, end, &ascii);
    if (at == NULL)
        return JSON_INVALID;
    if (depth == 1 && member != NULL)
        member->key_end = (size_t)(at - begin);
    at = json_blanks(at, end);
    if (at == end || *at != ':')
        return JSON_INVALID;
    at++;
    goto value;

behind_value:
    if (depth == 0)
        return json_blanks(at, end) == end ? JSON_VALID : JSON_INVALID;
    if (depth == 1 && member != NULL)
        member->value_end = (size_t)(at - begin);
    at = json_blanks(at, end);
    if (at == end)
        return JSON_INVALID;
    if (*at == closers[depth]) {
        at++;
        depth--;
        goto behind_value;
    }
    if (*at++ != ',')
        return JSON_INVALID;
    if (closers[depth] == '}')
        goto key;
    goto value;
}

/* Return the last quote in [begin, at), or `begin`. */
static inline const uint8_t *json_quote_before(const uint8_t *begin, const uint8_t *at)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"');
    for (; at - begin >= 16; at -= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(at - 16));
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, quote));
        if (mask)
            return at - 16 + (31 - __builtin_clz(mask));
    }
#endif
    while (at > begin)
        if (*--at == '"')
            return at;
    return begin;
}

/* In valid JSON: return the place where the element or member before `at` begins, in the array or object at `begin`. */
static const uint8_t *json_element_start(const uint8_t *begin, const uint8_t *at)
{
    size_t depth = 0;
    while (at > begin) {
        switch (*--at) {
        case '"': /* the closing one; the opening one has no backslash before it */
            do
                at = json_quote_before(begin, at);
            while (at > begin && at[-1] == '\\');
            break;
        case ']': case '}':
            depth++;
            break;
        case '[': case '{':
            if (depth == 0)
                return at + 1;
            depth--;
            break;
        case ',':
            if (depth == 0)
                return at + 1;
        }
    }
    return begin;
}

#endif
