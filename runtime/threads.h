/* A small thread pool: one job at a time, made of steps, each of numbered slices that threads take in order as they come.
 * The slices are fixed by the caller, so results never depend on the number of threads. The caller's thread works too
 * (as thread 0); a pool of one thread starts none and runs everything inline. One owner: threads_run is not re-entrant. */
#ifndef CNNC_RUNTIME_THREADS_H
#define CNNC_RUNTIME_THREADS_H
#include <stdint.h>

typedef struct Threads Threads;
typedef void (*ThreadsFn)(void *context, int thread, int64_t slice);

/* A job of several steps. Each starts when the one before it is done, on whichever thread finished that: no thread waits for
 * the caller, which another process may have taken from its core. */
typedef struct {
    int steps;
    /* How many slices a step has. A step that is not worth sharing is run here, on `thread`, and has 0. */
    int64_t (*open)(void *context, int thread, int step);
    void (*run)(void *context, int thread, int step, int64_t slice);
    void *context;
} ThreadsJob;

Threads *threads_new(int n);            /* n >= 1 (0: as many as cores_allowed); fewer when the system refuses; NULL: out of memory */
int threads_count(const Threads *t);
/* Calls fn(context, thread, slice) once for each slice in 0..slices-1 and returns when all are done; slices < 2^31. */
void threads_run(Threads *t, ThreadsFn fn, void *context, int64_t slices);
void threads_run_job(Threads *t, const ThreadsJob *job);
void threads_free(Threads *t);          /* t may be NULL */

/* In the child of a fork, which has none of the workers: forgets them; safe in a handler of pthread_atfork. The pool then has
 * one thread, until threads_restart starts as many as it was made with. */
void threads_forget(Threads *t);
void threads_restart(Threads *t);
#endif
