/* Running compiled functions: memory for state, work and per-thread scratch, and the loop over stages.
 * An Exec owns its memory and borrows the model and the pool. Nothing is allocated after exec_new. */
#ifndef CNNC_RUNTIME_EXEC_H
#define CNNC_RUNTIME_EXEC_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include "runtime/threads.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct { char *at; void *map; size_t size; } Block;   /* map: NULL when it came from malloc */

typedef struct Exec {
    const CnncModel *model;
    Threads *threads;
    char *state;             /* model->state_bytes, zeroed; plain layout of model->tensors */
    char *work, *scratch;    /* largest of the functions; scratch: one block per thread */
    int64_t work_bytes, scratch_stride;
    double *stage_ticks;     /* when set (by the caller, n_stages of the function run): ticks are added per stage */
    Block blocks[3];
} Exec;

/* NULL when memory runs out or the model's ABI version is another. */
Exec *exec_new(const CnncModel *model, const CnncFunction *const *functions, int n, Threads *threads, RtError *e);
/* Fills in args->state, work and consts; the caller gives in, labels, out, scalars, results and n (1..function->batch). */
void exec_run(Exec *e, const CnncFunction *function, CnncArgs *args);
/* More threads than this would find no slice in any stage of a call of n samples. */
int exec_useful_threads(const CnncFunction *function, int64_t n);
void exec_free(Exec *e);
double exec_seconds(void);   /* monotonic clock */
double exec_ticks(void);     /* a counter that costs nanoseconds to read; its rate is measured against exec_seconds */
#endif
