/* The table of error and warning codes (codes.def). Constant data. */
#ifndef CNNC_PASSES_CODES_H
#define CNNC_PASSES_CODES_H
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *code, *name, *title, *text;
} CodeRow; /* name: "" for errors */
extern const CodeRow CODES[];
extern const size_t N_CODES;
const CodeRow *code_find(const char *code_or_name); /* case ignored; NULL: none */
/* The names of all warnings, NULL-terminated: what -W takes. */
const char *const *warning_names(void);
#endif
