/* The thread pool.
 * In: a function and a number of slices. Out: every slice has run once, and its writes are visible to the caller.
 * Invariant: each thread's lane holds the job's number and the slices left of its range, so that a thread that wakes late and
 * takes a slice with a compare-and-swap can only get one of the job it looked at. Nobody waits for a thread that has no
 * slice: with more threads than cores, a sleeping or preempted thread costs at most the slice it is in.
 * Idea: a job's slices are dealt out in ranges, thread i always the i-th, so that a thread meets in one stage what it wrote in
 * the stage before, in its own caches; a thread that is done takes slices from the ends of the others' ranges. A thread
 * without work looks for the next job a few thousand times and then sleeps on its number (a futex); starting a job is a
 * store per thread, and a system call only when somebody sleeps. */
#include "runtime/threads.h"
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

enum { SPINS_WORKER = 4000, SPINS_CALLER = 20000, LINE = 64, MOST_UNITS = 65535 };

typedef struct {
    Threads *pool;
    int number;
    pthread_t thread;
} Worker;

/* Units left of a thread's range: job << 32 | next << 16 | end. Its owner takes the next, others the last. */
typedef struct { _Alignas(LINE) _Atomic uint64_t left; } Lane;

struct Threads {
    _Alignas(LINE) _Atomic uint32_t job;    /* futex word: number of the newest job */
    _Atomic int sleepers;
    _Atomic bool stop;
    _Alignas(LINE) _Atomic uint32_t done; /* futex word: units finished of the current job */
    _Atomic bool caller_sleeps;
    /* The current job; read with relaxed loads, trusted only after a lane's compare-and-swap. */
    _Alignas(LINE) _Atomic(ThreadsFn) fn;
    _Atomic(void *) context;
    _Atomic int64_t slices;
    _Atomic uint32_t units, unit, ranges;   /* a unit is so many slices: 1, but for jobs of more than MOST_UNITS; lanes that hold ranges */
    int n, spins_worker, spins_caller;
    Lane *lanes;     /* n */
    Worker *workers; /* n - 1 */
};

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n) { syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0); }

/* Cores that the control group's quota allows, rounded up; 0 when there is none. */
static int quota_cores(void)
{
    static const char *const files[] = {"/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"};
    char text[64];
    long quota = 0, period = 100000;
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(files[i], "re");
        if (!f)
            continue;
        bool read = fgets(text, sizeof text, f) != NULL;
        fclose(f);
        if (read && sscanf(text, "%ld %ld", &quota, &period) >= 1 && quota > 0 && period > 0)
            return (int)((quota + period - 1) / period);
    }
    return 0;
}

int threads_default_count(void)
{
    int n = (int)sysconf(_SC_NPROCESSORS_ONLN);
#ifdef CPU_COUNT
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
#endif
    int quota = quota_cores();
    if (quota > 0 && quota < n)
        n = quota;
    return n > 0 ? n : 1;
}

/* Takes a unit of job `job` from a lane: its first or last one; -1: none is left. */
static int take(Lane *l, uint32_t job, bool first)
{
    uint64_t left = atomic_load_explicit(&l->left, memory_order_acquire);
    for (;;) {
        uint32_t next = (uint32_t)left >> 16, end = (uint32_t)left & MOST_UNITS;
        if ((uint32_t)(left >> 32) != job || next >= end)
            return -1;
        uint64_t rest = first ? left + (1 << 16) : left - 1;
        if (atomic_compare_exchange_weak_explicit(&l->left, &left, rest, memory_order_acq_rel, memory_order_acquire))
            return (int)(first ? next : end - 1);
    }
}

/* The same from any lane, the thread's own before the others'. */
static int take_any(Threads *t, uint32_t job, uint32_t ranges, uint32_t thread)
{
    uint32_t own = thread % ranges;
    int unit = take(&t->lanes[own], job, true);
    for (uint32_t i = 1; unit < 0 && i < ranges; i++)
        unit = take(&t->lanes[(own + i) % ranges], job, false);
    return unit;
}

/* Takes slices of job `job` until none is left. */
static void work_on(Threads *t, uint32_t job, int thread)
{
    uint32_t ranges = atomic_load_explicit(&t->ranges, memory_order_relaxed), finished = 0;
    ThreadsFn fn = atomic_load_explicit(&t->fn, memory_order_relaxed);
    void *context = atomic_load_explicit(&t->context, memory_order_relaxed);
    int64_t size = atomic_load_explicit(&t->unit, memory_order_relaxed), slices = atomic_load_explicit(&t->slices, memory_order_relaxed);
    uint32_t units = atomic_load_explicit(&t->units, memory_order_relaxed);
    for (int u; (u = take_any(t, job, ranges, (uint32_t)thread)) >= 0; finished++)
        for (int64_t i = u * size; i < (u + 1) * size && i < slices; i++)
            fn(context, thread, i);
    /* seq_cst pairs with the caller's store to caller_sleeps: one of the two sees the other. */
    if (finished && atomic_fetch_add(&t->done, finished) + finished == units && atomic_load(&t->caller_sleeps))
        futex_wake(&t->done, 1);
}

static void *worker_main(void *arg)
{
    Worker *w = arg;
    Threads *t = w->pool;
    uint32_t seen = 0;
    while (!atomic_load(&t->stop)) {
        uint32_t job = atomic_load_explicit(&t->job, memory_order_acquire);
        for (int i = 0; job == seen && i < t->spins_worker; i++) {
            pause_cpu();
            job = atomic_load_explicit(&t->job, memory_order_acquire);
        }
        if (job == seen) {
            atomic_fetch_add(&t->sleepers, 1);
            futex_wait(&t->job, seen);
            atomic_fetch_sub(&t->sleepers, 1);
            continue;
        }
        seen = job;
        work_on(t, job, w->number);
    }
    return NULL;
}

/* Workers take no signals: the owner's thread handles interruption. */
static void start_workers(Threads *t, int wanted)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < wanted; i++) {
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
    int cores = threads_default_count();
    if (n <= 0)
        n = cores;
    if (n > 1024)
        n = 1024;
    Threads *t = aligned_alloc(LINE, sizeof *t);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    t->n = 1;
    /* With more threads than cores, spinning takes time from those who work. */
    t->spins_worker = n <= cores ? SPINS_WORKER : 0;
    t->spins_caller = n <= cores ? SPINS_CALLER : 100;
    t->workers = calloc((size_t)n, sizeof *t->workers);
    t->lanes = aligned_alloc(LINE, (size_t)n * sizeof *t->lanes);
    if (!t->workers || !t->lanes) {
        threads_release(t);
        return NULL;
    }
    memset(t->lanes, 0, (size_t)n * sizeof *t->lanes);
    start_workers(t, n);
    return t;
}

int threads_count(const Threads *t) { return t->n; }

static void wait_done(Threads *t, uint32_t units)
{
    for (int i = 0; i < t->spins_caller; i++) {
        if (atomic_load_explicit(&t->done, memory_order_acquire) == units)
            return;
        pause_cpu();
    }
    atomic_store(&t->caller_sleeps, true);
    for (uint32_t done; (done = atomic_load(&t->done)) != units;)
        futex_wait(&t->done, done);
    atomic_store(&t->caller_sleeps, false);
}

/* No thread can hold a slice of the last job: all its slices were done. A late one finds its lanes empty. */
static uint32_t deal(Threads *t, ThreadsFn fn, void *context, int64_t slices, uint32_t job)
{
    int64_t unit = (slices + MOST_UNITS - 1) / MOST_UNITS;
    uint32_t units = (uint32_t)((slices + unit - 1) / unit), ranges = units < (uint32_t)t->n ? units : (uint32_t)t->n;
    atomic_store_explicit(&t->done, 0, memory_order_relaxed);
    atomic_store_explicit(&t->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&t->context, context, memory_order_relaxed);
    atomic_store_explicit(&t->slices, slices, memory_order_relaxed);
    atomic_store_explicit(&t->unit, (uint32_t)unit, memory_order_relaxed);
    atomic_store_explicit(&t->units, units, memory_order_relaxed);
    atomic_store_explicit(&t->ranges, ranges, memory_order_relaxed);
    for (uint32_t i = 0; i < ranges; i++) {
        uint64_t next = (uint64_t)units * i / ranges, end = (uint64_t)units * (i + 1) / ranges;
        atomic_store_explicit(&t->lanes[i].left, (uint64_t)job << 32 | next << 16 | end, memory_order_release);
    }
    return units;
}

void threads_run(Threads *t, ThreadsFn fn, void *context, int64_t slices)
{
    if (t->n == 1 || slices <= 1) {
        for (int64_t i = 0; i < slices; i++)
            fn(context, 0, i);
        return;
    }
    uint32_t job = atomic_load_explicit(&t->job, memory_order_relaxed) + 1;
    uint32_t units = deal(t, fn, context, slices, job);
    atomic_store(&t->job, job);
    if (atomic_load(&t->sleepers) > 0)
        futex_wake(&t->job, slices - 1 < t->n - 1 ? (int)slices - 1 : t->n - 1);
    work_on(t, job, 0);
    wait_done(t, units);
}

void threads_free(Threads *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    atomic_fetch_add(&t->job, 1);
    futex_wake(&t->job, t->n);
    for (int i = 0; i < t->n - 1; i++)
        pthread_join(t->workers[i].thread, NULL);
    threads_release(t);
}
