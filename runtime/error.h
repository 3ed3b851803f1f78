/* Errors of the runtime, as values: what kind (which is the program's exit status) and one text.
 * The caller owns the RtError, usually on its stack; every function that takes one leaves it alone on success. */
#ifndef CNNC_RUNTIME_ERROR_H
#define CNNC_RUNTIME_ERROR_H
#include <stdarg.h>
#include <stdbool.h>

typedef enum {
    RT_OK = 0,
    RT_FAIL = 1,        /* the run itself failed: verify beyond tolerance, training turned NaN */
    RT_USAGE = 2,       /* wrong options */
    RT_FILE = 3,        /* data, weights or output missing, unreadable, mismatched or not writable */
    RT_DEVICE = 4,      /* device missing, CPU too old */
    RT_INTERNAL = 70,   /* our fault, or no memory */
    RT_INTERRUPTED = 130
} RtErrorKind;
typedef struct { RtErrorKind kind; char text[16384]; } RtError;
/* text: no "error: ", no full stop; a second and further lines only list tensors or files, and end with "and N more" when cut. */

/* Always false, so that `return rt_error(...)` reads well. e may be NULL. */
bool rt_error(RtError *e, RtErrorKind kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As rt_error(RT_FILE), followed by ": " and what the system says of errno. */
bool rt_error_errno(RtError *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool rt_error_memory(RtError *e, unsigned long long bytes);
#endif
