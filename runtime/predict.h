/* Classes of the samples in files and folders, as text or JSON. */
#ifndef CNNC_RUNTIME_PREDICT_H
#define CNNC_RUNTIME_PREDICT_H
#include "runtime/session.h"
#include <stdio.h>

typedef struct {
    int64_t top;             /* classes per sample; 0: 3 */
    bool json;
    FILE *to;                /* results */
    FILE *complaints;        /* one line per file that cannot be read; may be NULL */
    const char *program;     /* starts those lines */
} PredictOptions;

/* paths: files, or folders whose pictures and arrays are taken in the order of their names, at any depth.
 * Files that cannot be read are complained of and left out; then the result is false at the end, with an empty text when
 * all has been said to `complaints`. */
bool predict_paths(Session *s, char *const *paths, int n, const PredictOptions *o, RtError *e);
#endif
