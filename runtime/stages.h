/* The stage loop: a function's stages in order, each over its slices, on a pool of threads. No ownership, no allocation. */
#ifndef CNNC_RUNTIME_STAGES_H
#define CNNC_RUNTIME_STAGES_H
#include "runtime/abi.h"
#include "runtime/threads.h"

/* scratch: one block of `stride` bytes per thread. ticks: NULL, or where each stage's ticks are added. */
typedef struct { const CnncFunction *function; const CnncArgs *args; char *scratch; int64_t stride; double *ticks; } StagesCall;
void stages_run(Threads *t, const StagesCall *call);   /* t: NULL: on the calling thread */
/* More threads than this would find no slice in any stage of a call of n samples. */
int stages_useful_threads(const CnncFunction *f, int64_t n);
/* A counter that costs nanoseconds to read. */
double stages_ticks(void);
#endif
