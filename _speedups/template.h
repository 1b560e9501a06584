/* Quiet templates, matched directly on the bytes. Twin of the regular expressions in aibridge/wire/template.py. */
#ifndef AIBRIDGE_TEMPLATE_H
#define AIBRIDGE_TEMPLATE_H

#include "json.h"

enum { STEP_LITERAL, STEP_INTEGER, STEP_STRING, STEP_BRACE };

/* One step of a template; `start` and `size` say where a literal stands in it. */
typedef struct {
    int kind;
    size_t start, size;
} template_step;

/* Cut a template into steps; there is room for one a byte. Returns their number. */
static size_t template_compile(const uint8_t *text, size_t size, template_step *steps)
{
    size_t count = 0;
    for (size_t at = 0; at < size; at++) {
        int kind = text[at] == '#' ? STEP_INTEGER : text[at] == '$' ? STEP_STRING : text[at] == '}' ? STEP_BRACE
                                                                                                  : STEP_LITERAL;
        if (kind == STEP_LITERAL && count && steps[count - 1].kind == STEP_LITERAL) {
            steps[count - 1].size++;
            continue;
        }
        steps[count].kind = kind;
        steps[count].start = at;
        steps[count].size = 1;
        count++;
    }
    return count;
}

/* Return how many first steps two templates have in common. */
static size_t template_shared(const uint8_t *text, const template_step *steps, size_t count, const uint8_t *other_text,
                              const template_step *other_steps, size_t other_count)
{
    size_t shared = 0;
    while (shared < count && shared < other_count && steps[shared].kind == other_steps[shared].kind
           && steps[shared].size == other_steps[shared].size
           && memcmp(text + steps[shared].start, other_text + other_steps[shared].start, steps[shared].size) == 0)
        shared++;
    return shared;
}

/* Return how many steps match what begins at `*from`; where all do, move it behind that. `*ascii` becomes 0 where a
   string in it is not ASCII. No step matches a line end. */
static size_t template_begin(const uint8_t *text, const template_step *steps, size_t count, const uint8_t **from,
                             const uint8_t *end, int *ascii)
{
    const uint8_t *at = *from;
    for (const template_step *step = steps; step < steps + count; step++) {
        switch (step->kind) {
        case STEP_LITERAL:
            if ((size_t)(end - at) < step->size || memcmp(at, text + step->start, step->size) != 0)
                return step - steps;
            at += step->size;
            break;
        case STEP_INTEGER:
            at = json_integer(at, end);
            break;
        case STEP_STRING:
            at = at < end && *at == '"' ? json_string(at + 1, end, ascii) : NULL;
            break;
        default:
            while (at < end && *at == ' ')
                at++;
            at = at < end && *at == '}' ? at + 1 : NULL;
        }
        if (at == NULL)
            return step - steps;
    }
    *from = at;
    return count;
}

/* The same for [at, end), and one step more where the last of them ends at `end`: then it matches, whole. */
static inline size_t template_match(const uint8_t *text, const template_step *steps, size_t count, const uint8_t *at,
                                    const uint8_t *end, int *ascii)
{
    size_t matched = template_begin(text, steps, count, &at, end, ascii);
    return matched + (matched == count && at == end);
}

#endif
