/* Diagnostics: errors and warnings about the user's text, as values. They live in the arena given to diags_new.
 * A problem caused only by another is not reported: whoever meets an unknown value stays silent. */
#ifndef CNNC_IR_BASE_DIAG_H
#define CNNC_IR_BASE_DIAG_H
#include "ir/base/source.h"
#include <stdio.h>

typedef enum { DIAG_ERROR, DIAG_WARNING } DiagKind;
typedef enum { DIAG_HUMAN, DIAG_SHORT, DIAG_JSON } DiagFormat;
typedef struct Label { struct Label *next; Span span; const char *text; } Label;   /* a second place: "note: ..." */
typedef struct Diag {
    struct Diag *next;
    DiagKind kind;
    const char *code;      /* "E0307", "W02" */
    const char *name;      /* warnings: the name for -W no-NAME; errors: NULL */
    Span span;
    const char *text;      /* no code, no newline, no full stop */
    const char *help;      /* a sentence, or NULL */
    const char *fix;       /* replacement text for `span`, or NULL */
    const char *torch;     /* PyTorch's message for the same mistake, or NULL */
    Label *notes;
} Diag;
typedef struct Diags {
    Arena *arena;
    const Source *src;
    Diag *first, **tail, *last;
    int errors, warnings;
    int repeated;          /* told already for the same place: not counted as errors */
    int hidden;            /* counted but not kept: a loop that makes one mistake thousands of times */
    bool warnings_are_errors;
    const char **off;      /* names of warnings turned off, NULL-terminated, or NULL */
} Diags;

void diags_init(Diags *d, Arena *a, const Source *src);
/* Always false, so that `return diag_error(...)` reads well. The text is printf-style. */
bool diag_error(Diags *d, Span span, const char *code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void diag_warning(Diags *d, Span span, const char *code, const char *name, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* These attach to the diagnostic reported last. */
void diag_note(Diags *d, Span span, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_help(Diags *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void diag_fix(Diags *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));      /* text that replaces the span */
void diag_torch(Diags *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sorted by place; the only function that computes lines and columns. color: ANSI escapes (human form only). */
void diags_print(Diags *d, FILE *to, DiagFormat format, bool color);

/* The nearest of `names` (NULL-terminated) to `word`, or NULL when none is near (Damerau-Levenshtein, case ignored). */
const char *nearest_word(const char *word, const char *const *names);

/* Our fault, not the user's: prints place and text, aborts. */
_Noreturn void bug_at(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define BUG(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)
#endif
