/* The table of error and warning codes.
 * In: codes.def. Out: rows by code or name. Invariant: codes ascend. Idea: one row, one place to explain. */
#include "passes/codes.h"

#include <string.h>
#include <strings.h>

const CodeRow CODES[] = {
#define CODE(code, name, title, text) {code, name, title, text},
#include "passes/codes.def"
#undef CODE
};
const size_t N_CODES = sizeof CODES / sizeof *CODES;

const CodeRow *code_find(const char *s)
{
    for (size_t i = 0; i < N_CODES; i++)
        if (strcasecmp(CODES[i].code, s) == 0 || (*CODES[i].name && strcasecmp(CODES[i].name, s) == 0))
            return &CODES[i];
    return NULL;
}

const char *const *warning_names(void)
{
    static const char *const names[] = {
#define CODE(code, name, title, text) name,
#include "passes/codes.def"
#undef CODE
        NULL,
    };
    const char *const *first = names;
    while (*first && !**first) /* errors have no name; they come first */
        first++;
    return first;
}
