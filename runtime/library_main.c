/* The pool of a library that was built with --threads N.
 * In: calls of the library's infer functions, from any thread. Out: their stages on N threads.
 * Invariant: a call allocates nothing; no call waits for another. Leaves: no thread behind when the library is unloaded.
 * Idea: the pool is made when the library is loaded and freed when it goes. One call at a time has it; whoever finds it taken
 * runs on the calling thread alone, to the same bits. A forked child has no workers: its first call starts them anew.
 * `build` joins this file, the pool and the library's code into one object and makes the names in between local, so that
 * several libraries of a program have a pool each. */
#include "runtime/abi.h"
#include "runtime/stages.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static Threads *pool;          /* NULL: no memory for one */
static _Atomic bool taken;     /* by a call; for ever once the library goes */
static bool workers_are_gone;  /* in a forked child */

static void in_child(void)
{
    if (pool)
        threads_forget(pool);
    workers_are_gone = true;
    atomic_store(&taken, false);   /* the thread that had it may not be in the child */
}

__attribute__((constructor)) static void library_load(void)
{
    pool = threads_new(cnnc_library_threads);
    pthread_atfork(NULL, NULL, in_child);
}

/* When the process ends while another thread computes, its pool is left to it. */
__attribute__((destructor)) static void library_unload(void)
{
    if (!atomic_exchange(&taken, true))
        threads_free(pool);
}

void cnnc_library_run(const CnncFunction *f, const CnncArgs *args, char *scratch, int64_t stride)
{
    bool mine = !atomic_exchange_explicit(&taken, true, memory_order_acquire);
    if (mine && workers_are_gone) {
        workers_are_gone = false;
        if (pool)
            threads_restart(pool);
    }
    stages_run(mine ? pool : NULL, &(StagesCall){f, args, scratch, stride, NULL});
    if (mine)
        atomic_store_explicit(&taken, false, memory_order_release);
}
