/* Running a function: its stages in order, each over its slices.
 * In: a CnncFunction and its arguments. Out: out, results and state as the function leaves them.
 * Invariant: scratch belongs to a thread, slices are fixed by the model, so that threads never change a bit.
 * Idea: work and scratch are shared by all functions of a model, since only one runs at a time. */
#include "runtime/exec.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { ALIGN = 64, HUGE = 2 << 20 };
/* Below this many multiply-accumulates (some ten microseconds in a whole call, one in a stage) waking other threads costs
 * more than it saves. Stages that count none (pooling, sums) are judged by their function. */
static const double MACS_TO_SHARE = 1e6, MACS_TO_SHARE_STAGE = 1e5;

typedef struct {
    const CnncStage *stage;
    const CnncArgs *args;
    char *scratch;
    int64_t stride;
} Job;

double exec_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The clock may be a system call of microseconds on virtual machines. */
double exec_ticks(void)
{
#if defined(__x86_64__)
    return (double)__builtin_ia32_rdtsc();
#else
    return exec_seconds();
#endif
}

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static void measure(const CnncFunction *const *functions, int n, int64_t *work, int64_t *scratch)
{
    *work = *scratch = 0;
    for (int i = 0; i < n; i++) {
        const CnncFunction *f = functions[i];
        if (f && f->work_bytes > *work)
            *work = f->work_bytes;
        if (f && f->scratch_bytes > *scratch)
            *scratch = f->scratch_bytes;
    }
    *work = round_up(*work, ALIGN);
    /* One line more than needed keeps two threads' scratch off the same cache sets when sizes are powers of two. */
    *scratch = *scratch ? round_up(*scratch, ALIGN) + ALIGN : 0;
}

static int64_t exec_bytes(const CnncModel *model, const CnncFunction *const *functions, int n, int threads)
{
    int64_t work, scratch;
    measure(functions, n, &work, &scratch);
    return round_up(model->state_bytes, ALIGN) + work + scratch * threads;
}

/* Zeroed, aligned, never empty. Large blocks are mapped, so that their pages cost nothing before they are used, and
 * ask for huge pages. */
static bool block_new(Block *b, int64_t bytes)
{
    if (bytes < HUGE) {
        size_t size = (size_t)round_up(bytes ? bytes : 1, ALIGN);
        b->at = aligned_alloc(ALIGN, size);
        if (b->at)
            memset(b->at, 0, size);
        return b->at != NULL;
    }
    size_t size = (size_t)round_up(bytes, HUGE) + HUGE;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return false;
    *b = (Block){.at = (char *)(((uintptr_t)map + HUGE - 1) & ~(uintptr_t)(HUGE - 1)), .map = map, .size = size};
#ifdef MADV_HUGEPAGE
    madvise(b->at, size - HUGE, MADV_HUGEPAGE);
#endif
    return true;
}

static void block_free(Block *b)
{
    if (b->map)
        munmap(b->map, b->size);
    else
        free(b->at);
}

static bool check_model(const CnncModel *model, RtError *error)
{
    if (model->abi_version != CNNC_ABI_VERSION)
        return rt_error(error, RT_FILE, "the model has ABI version %d, this runtime %d: build it again", model->abi_version,
                        CNNC_ABI_VERSION);
    return !model->gpu || &exec_cuda ||
           rt_error(error, RT_DEVICE, "this program was built without GPU code (--device cuda at build time)");
}

/* A GPU has its own work and scratch. */
static bool take_memory(Exec *e, const CnncFunction *const *functions, int n)
{
    if (!e->model->gpu)
        measure(functions, n, &e->work_bytes, &e->scratch_stride);
    if (!block_new(&e->blocks[0], e->model->state_bytes) || !block_new(&e->blocks[1], e->work_bytes) ||
        !block_new(&e->blocks[2], e->scratch_stride * threads_count(e->threads)))
        return false;
    e->state = e->blocks[0].at;
    e->work = e->blocks[1].at;
    e->scratch = e->blocks[2].at;
    return true;
}

Exec *exec_new(const CnncModel *model, const CnncFunction *const *functions, int n, Threads *threads, RtError *error)
{
    if (!check_model(model, error))
        return NULL;
    Exec *e = calloc(1, sizeof *e);
    if (e)
        *e = (Exec){.model = model, .device = model->gpu ? &exec_cuda : &exec_cpu, .threads = threads};
    bool fine = e && take_memory(e, functions, n);
    if (!fine)
        rt_error_memory(error, (unsigned long long)exec_bytes(model, functions, n, threads_count(threads)));
    if (fine && e->device->open(e, functions, n, error))
        return e;
    exec_free(e);
    return NULL;
}

static void run_slice(void *context, int thread, int64_t slice)
{
    Job *j = context;
    j->stage->fn(j->args, j->scratch + j->stride * thread, slice);
}

static int64_t slices_needed(const CnncStage *s, int64_t n)
{
    if (s->samples_per_slice <= 0)
        return s->slices;
    int64_t needed = (n + s->samples_per_slice - 1) / s->samples_per_slice;
    return needed < s->slices ? needed : s->slices;
}

static bool stage_is_small(const CnncStage *s, int64_t n) { return s->macs > 0 && s->macs * (double)n < MACS_TO_SHARE_STAGE; }

static bool function_is_small(const CnncFunction *f, int64_t n)
{
    double macs = 0;
    for (int i = 0; i < f->n_stages; i++)
        macs += f->stages[i].macs;
    return macs > 0 && macs * (double)n < MACS_TO_SHARE;
}

int exec_useful_threads(const CnncFunction *f, int64_t n)
{
    int64_t most = 1;
    for (int i = 0; i < f->n_stages && !function_is_small(f, n); i++)
        if (!stage_is_small(&f->stages[i], n) && slices_needed(&f->stages[i], n) > most)
            most = slices_needed(&f->stages[i], n);
    return most < 1024 ? (int)most : 1024;
}

static void run_stage(Exec *e, const CnncStage *s, const CnncArgs *args, bool alone)
{
    int64_t slices = slices_needed(s, args->n);
    Job job = {s, args, e->scratch, e->scratch_stride};
    if (slices > 1 && !alone && !stage_is_small(s, args->n)) {
        threads_run(e->threads, run_slice, &job, slices);
        return;
    }
    for (int64_t i = 0; i < slices; i++)
        s->fn(args, e->scratch, i);
}

void exec_run(Exec *e, const CnncFunction *function, CnncArgs *args)
{
    args->state = e->state;
    args->work = e->work;
    args->consts = e->model->consts;
    bool alone = threads_count(e->threads) == 1 || function_is_small(function, args->n);
    for (int i = 0; i < function->n_stages; i++) {
        double start = e->stage_ticks ? exec_ticks() : 0;
        run_stage(e, &function->stages[i], args, alone);
        if (e->stage_ticks)
            e->stage_ticks[i] += exec_ticks() - start;
    }
}

void exec_free(Exec *e)
{
    if (!e)
        return;
    e->device->close(e);
    for (int i = 0; i < 3; i++)
        block_free(&e->blocks[i]);
    free(e);
}
