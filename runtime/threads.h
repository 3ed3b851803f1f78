/* A small thread pool: one job at a time, made of numbered slices that threads take in order as they come.
 * The slices are fixed by the caller, so results never depend on the number of threads. The caller's thread works too
 * (as thread 0); a pool of one thread starts none and runs everything inline. One owner: threads_run is not re-entrant. */
#ifndef CNNC_RUNTIME_THREADS_H
#define CNNC_RUNTIME_THREADS_H
#include <stdint.h>

typedef struct Threads Threads;
typedef void (*ThreadsFn)(void *context, int thread, int64_t slice);

int threads_default_count(void);        /* cores this process may use: affinity mask and control-group quota, at least 1 */
Threads *threads_new(int n);            /* n >= 1 (0: the default); fewer when the system refuses; NULL: out of memory */
int threads_count(const Threads *t);
/* Calls fn(context, thread, slice) once for each slice in 0..slices-1 and returns when all are done; slices < 2^31. */
void threads_run(Threads *t, ThreadsFn fn, void *context, int64_t slices);
void threads_free(Threads *t);          /* t may be NULL */
#endif
