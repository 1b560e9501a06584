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

/* Tell whether [at, end) matches, whole. `*ascii` becomes 0 where a string in it is not ASCII. */
static int template_matches(const uint8_t *text, const template_step *steps, size_t count, const uint8_t *at,
                            const uint8_t *end, int *ascii)
{
    for (const template_step *step = steps; step < steps + count; step++) {
        switch (step->kind) {
        case STEP_LITERAL:
            if ((size_t)(end - at) < step->size || memcmp(at, text + step->start, step->size) != 0)
                return 0;
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
            return 0;
    }
    return at == end;
}

#endif
