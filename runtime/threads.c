/* The thread pool.
 * In: a job: steps of numbered slices. Out: every slice has run once, and its writes are visible to the caller.
 * Invariant: each thread's lane holds the number of the step it was dealt for and the slices left of its range, so that a
 * thread that wakes late and takes a slice with a compare-and-swap can only get one of the step it looked at. Nobody waits for
 * a thread that has no slice: with more threads than cores, a sleeping or preempted thread costs at most the slice it is in.
 * Idea: a step's slices are dealt out in ranges, thread i always the i-th, so that a thread meets in one step what it wrote in
 * the step before, in its own caches; a thread that is done takes slices from the ends of the others' ranges. Whoever finishes
 * a step's last slice deals out the next. A thread without work looks for the next step for some microseconds and then sleeps on its
 * number (a futex); starting a step is a store per thread, and a system call only when somebody sleeps. */
#include "runtime/threads.h"
#include "runtime/cores.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS_WORKER = 500, SPINS_CALLER = 20000, LINE = 64, MOST_UNITS = 65535, MOST_THREADS = 1024 };
enum { ENDED = 1 };
enum { WAKE_WORKERS = 1, WAKE_CALLER = 2 };   /* who sleeps on Threads.number: futex bits */

typedef struct {
    Threads *pool;
    int number;
    pthread_t thread;
} Worker;

/* Units left of a thread's range: number of the step << 32 | next << 16 | end. Its owner takes the next, others the last. */
typedef struct { _Alignas(LINE) _Atomic uint64_t left; } Lane;

struct Threads {
    _Alignas(LINE) _Atomic uint32_t number; /* futex word: of the newest step, even; with bit ENDED when its job is done */
    _Atomic int sleepers;                   /* workers */
    _Atomic bool caller_sleeps, stop;
    _Alignas(LINE) _Atomic uint32_t done;   /* units finished of the current step */
    /* The current step; its fields may be trusted by a thread that has taken a slice of it. */
    _Alignas(LINE) _Atomic(const ThreadsJob *) job;
    _Atomic int64_t slices;
    _Atomic int step;
    _Atomic uint32_t units, unit, ranges;   /* a unit is so many slices: 1, but for steps of more than MOST_UNITS; lanes that hold ranges */
    int n, wanted, spins_worker, spins_caller;
    Lane *lanes;     /* wanted */
    Worker *workers; /* wanted - 1 */
};

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(Threads *t, uint32_t value, uint32_t who)
{
    syscall(SYS_futex, (void *)&t->number, FUTEX_WAIT_BITSET_PRIVATE, value, NULL, NULL, who);
}

static void futex_wake(Threads *t, int n, uint32_t who)
{
    syscall(SYS_futex, (void *)&t->number, FUTEX_WAKE_BITSET_PRIVATE, n, NULL, NULL, who);
}

/* Takes a unit of step `number` from a lane: its first or last one; -1: none is left. */
static int take(Lane *l, uint32_t number, bool first)
{
    uint64_t left = atomic_load_explicit(&l->left, memory_order_acquire);
    for (;;) {
        uint32_t next = (uint32_t)left >> 16, end = (uint32_t)left & MOST_UNITS;
        if ((uint32_t)(left >> 32) != number || next >= end)
            return -1;
        uint64_t rest = first ? left + (1 << 16) : left - 1;
        if (atomic_compare_exchange_weak_explicit(&l->left, &left, rest, memory_order_acq_rel, memory_order_acquire))
            return (int)(first ? next : end - 1);
    }
}

/* The same from any lane, the thread's own before the others'. */
static int take_any(Threads *t, uint32_t number, uint32_t ranges, uint32_t thread)
{
    uint32_t own = thread % ranges;
    int unit = take(&t->lanes[own], number, true);
    for (uint32_t i = 1; unit < 0 && i < ranges; i++)
        unit = take(&t->lanes[(own + i) % ranges], number, false);
    return unit;
}

#define GET(field) atomic_load_explicit(&t->field, memory_order_relaxed)
#define SET(field, value) atomic_store_explicit(&t->field, value, memory_order_relaxed)

/* Deals out a step. No thread can hold a slice of the last one: all its slices were done. A late one finds its lanes empty. */
static void deal(Threads *t, int step, int64_t slices)
{
    uint32_t number = (GET(number) | ENDED) + 1;
    int64_t unit = (slices + MOST_UNITS - 1) / MOST_UNITS;
    uint32_t units = (uint32_t)((slices + unit - 1) / unit), ranges = units < (uint32_t)t->n ? units : (uint32_t)t->n;
    SET(done, 0);
    SET(step, step);
    SET(slices, slices);
    SET(unit, (uint32_t)unit);
    SET(units, units);
    SET(ranges, ranges);
    for (uint32_t i = 0; i < ranges; i++) {
        uint64_t next = (uint64_t)units * i / ranges, end = (uint64_t)units * (i + 1) / ranges;
        atomic_store_explicit(&t->lanes[i].left, (uint64_t)number << 32 | next << 16 | end, memory_order_release);
    }
    /* seq_cst, here and where threads fall asleep: one of the two sees the other. */
    atomic_store(&t->number, number);
    if (atomic_load(&t->sleepers) > 0)
        futex_wake(t, units - 1 < (uint32_t)t->n - 1 ? (int)units - 1 : t->n - 1, WAKE_WORKERS);
    if (atomic_load(&t->caller_sleeps))
        futex_wake(t, 1, WAKE_CALLER);
}

/* Starts the first step from `step` on that has slices to share, or ends the job. Nothing of the job is touched afterwards. */
static void start_step(Threads *t, int thread, int step)
{
    const ThreadsJob *job = GET(job);
    for (; step < job->steps; step++) {
        int64_t slices = job->open(job->context, thread, step);
        if (slices > 1) {
            deal(t, step, slices);
            return;
        }
        if (slices == 1)
            job->run(job->context, thread, step, 0);
    }
    atomic_store(&t->number, GET(number) | ENDED);
    if (atomic_load(&t->caller_sleeps))
        futex_wake(t, 1, WAKE_CALLER);
}

/* Takes slices of step `number` until none is left; whoever finishes the last one starts the next step. */
static void work_on(Threads *t, uint32_t number, int thread)
{
    uint32_t ranges = GET(ranges), finished = 0;
    for (int u; (u = take_any(t, number, ranges, (uint32_t)thread)) >= 0; finished++) {
        const ThreadsJob *job = GET(job);
        int64_t size = GET(unit), slices = GET(slices);
        int step = GET(step);
        for (int64_t i = u * size; i < (u + 1) * size && i < slices; i++)
            job->run(job->context, thread, step, i);
    }
    if (!finished)
        return;
    uint32_t units = GET(units);
    int step = GET(step);
    if (atomic_fetch_add(&t->done, finished) + finished == units)
        start_step(t, thread, step + 1);
}

/* The next step's number, looked for some thousand times; `seen` when there is none. */
static uint32_t look_out(Threads *t, uint32_t seen, int spins)
{
    uint32_t number = atomic_load_explicit(&t->number, memory_order_acquire);
    for (int i = 0; number == seen && i < spins; i++) {
        pause_cpu();
        number = atomic_load_explicit(&t->number, memory_order_acquire);
    }
    return number;
}

static void *worker_main(void *arg)
{
    Worker *w = arg;
    Threads *t = w->pool;
    uint32_t seen = ENDED;
    while (!atomic_load(&t->stop)) {
        uint32_t number = look_out(t, seen, t->spins_worker);
        if (number == seen) {
            atomic_fetch_add(&t->sleepers, 1);
            futex_wait(t, seen, WAKE_WORKERS);
            atomic_fetch_sub(&t->sleepers, 1);
            continue;
        }
        seen = number;
        work_on(t, number, w->number);
    }
    return NULL;
}

/* Workers take no signals: the owner's thread handles interruption. */
static void start_workers(Threads *t)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < t->wanted; i++) {
        Worker *w = &t->workers[i - 1];
        *w = (Worker){.pool = t, .number = i};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0)
            break;
        t->n++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void threads_release(Threads *t)
{
    free(t->lanes);
    free(t->workers);
    free(t);
}

Threads *threads_new(int n)
{
    int cores = cores_allowed();
    if (n <= 0)
        n = cores;
    if (n > MOST_THREADS)
        n = MOST_THREADS;
    Threads *t = aligned_alloc(LINE, sizeof *t);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    t->n = 1;
    t->wanted = n;
    t->number = ENDED;
    t->ranges = 1;   /* a worker woken to stop before the first job looks into a lane, which is empty */
    /* A worker that looks out for long on a core that another process wants, too, has used up its share when work comes: it
     * sleeps after microseconds. With more threads than cores, every look takes time from those who work. */
    t->spins_worker = n <= cores ? SPINS_WORKER : 0;
    t->spins_caller = n <= cores ? SPINS_CALLER : 100;
    t->workers = calloc((size_t)n, sizeof *t->workers);
    t->lanes = aligned_alloc(LINE, (size_t)n * sizeof *t->lanes);
    if (!t->workers || !t->lanes) {
        threads_release(t);
        return NULL;
    }
    memset(t->lanes, 0, (size_t)n * sizeof *t->lanes);
    start_workers(t);
    return t;
}

int threads_count(const Threads *t) { return t->n; }

/* As a worker does, until the job is done, whoever runs its last slice. */
static void work_until_end(Threads *t)
{
    uint32_t number = atomic_load_explicit(&t->number, memory_order_acquire);
    while (!(number & ENDED)) {
        work_on(t, number, 0);
        uint32_t next = look_out(t, number, t->spins_caller);
        if (next == number) {
            atomic_store(&t->caller_sleeps, true);
            futex_wait(t, number, WAKE_CALLER);
            atomic_store(&t->caller_sleeps, false);
            next = atomic_load_explicit(&t->number, memory_order_acquire);
        }
        number = next;
    }
}

static void run_alone(const ThreadsJob *job)
{
    for (int step = 0; step < job->steps; step++) {
        int64_t slices = job->open(job->context, 0, step);
        for (int64_t i = 0; i < slices; i++)
            job->run(job->context, 0, step, i);
    }
}

void threads_run_job(Threads *t, const ThreadsJob *job)
{
    if (t->n == 1) {
        run_alone(job);
        return;
    }
    SET(job, job);
    start_step(t, 0, 0);
    work_until_end(t);
}

typedef struct {
    ThreadsFn fn;
    void *context;
    int64_t slices;
} OneStep;

static int64_t one_step_open(void *context, int thread, int step)
{
    (void)thread, (void)step;
    return ((OneStep *)context)->slices;
}

static void one_step_run(void *context, int thread, int step, int64_t slice)
{
    OneStep *o = context;
    (void)step;
    o->fn(o->context, thread, slice);
}

void threads_run(Threads *t, ThreadsFn fn, void *context, int64_t slices)
{
    OneStep o = {fn, context, slices};
    threads_run_job(t, &(ThreadsJob){1, one_step_open, one_step_run, &o});
}

void threads_free(Threads *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    atomic_fetch_add(&t->number, ENDED + 1);
    futex_wake(t, t->n, WAKE_WORKERS);
    for (int i = 0; i < t->n - 1; i++)
        pthread_join(t->workers[i].thread, NULL);
    threads_release(t);
}

void threads_forget(Threads *t)
{
    t->n = 1;
    for (int i = 0; i < t->wanted; i++)
        SET(lanes[i].left, 0);
    SET(number, GET(number) | ENDED);
    SET(sleepers, 0);
    SET(caller_sleeps, false);
}

void threads_restart(Threads *t) { start_workers(t); }
