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

double exec_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
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

void exec_run(Exec *e, const CnncFunction *function, CnncArgs *args)
{
    args->state = e->state;
    args->work = e->work;
    args->consts = e->model->consts;
    stages_run(e->threads, &(StagesCall){function, args, e->scratch, e->scratch_stride, e->stage_ticks});
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
