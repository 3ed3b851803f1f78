/* A program's text, compiled.
 * In: a Program with its CUDA text, the GPUs wanted. Out: the same with an image for each of them.
 * Relies on gpu_emit having run. Leaves: NVRTC closed, results in the cache.
 * Idea: a text is compiled once for each GPU, its parts by a thread a core; what the cache has needs no NVRTC beyond its version. */
#include "codegen/gpu/images.h"
#include "codegen/gpu/cache.h"
#include "codegen/gpu/nvrtc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- --gpu ---- */

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

bool gpu_targets_parse(Arena *a, const char *text, GpuTargets *out, const char **why)
{
    *out = (GpuTargets){.ptx = CNNC_GPU_OLDEST};
    for (const char *at = text ? text : "sm_80,sm_90,sm_100"; *at; at += strspn(at, ", ")) {
        char *end;
        size_t length = strcspn(at, ", ");
        const char *digits = strncmp(at, "sm_", 3) == 0 ? at + 3 : at;
        long sm = strtol(digits, &end, 10);
        if (end == digits || end != at + length || sm < 10 || sm > 999) {
            *why = arena_printf(a, "--gpu takes GPUs such as sm_80 or sm_90, not '%.*s'", (int)length, at);
            return false;
        }
        if (!gpu_target((int)sm)) {
            *why = arena_printf(a, "--gpu sm_%ld: the oldest GPU is sm_%d", sm, CNNC_GPU_OLDEST);
            return false;
        }
        if (out->n == MAX_GPU_TARGETS) {
            *why = arena_printf(a, "--gpu takes at most %d GPUs", MAX_GPU_TARGETS);
            return false;
        }
        out->sm[out->n++] = (int)sm;
        at += length;
    }
    if (out->n == 0) {
        *why = "--gpu needs at least one GPU, such as sm_90";
        return false;
    }
    qsort(out->sm, (size_t)out->n, sizeof *out->sm, by_number);
    return true;
}

/* ---- one compilation ---- */
enum { MOST_THREADS = 64 };

typedef struct {
    Arena *arena;                   /* of its own: the job may run in a thread */
    Nvrtc *nvrtc;
    const char *text, *key;
    int sm;
    bool ptx, fine;
    NvrtcCode code;
} Job;

/* The driver has no part in it: PTX is kept as PTX, and what the driver makes of it the driver keeps. */
static const char *key_of(Arena *a, const Nvrtc *n, const Job *j)
{
    return arena_printf(a, "cnnc %s, NVRTC %s, %s%d, %s\n%s", CNNC_VERSION, nvrtc_version(n), j->ptx ? "ptx " : "sm_", j->sm, nvrtc_options(),
                        j->text);
}

static void *run_job(void *context)
{
    Job *j = context;
    CachePart parts[2];
    j->key = key_of(j->arena, j->nvrtc, j);
    j->fine = cache_get(j->arena, j->key, parts, 2);
    if (j->fine) {
        j->code = (NvrtcCode){parts[0].bytes, parts[0].size, arena_strndup(j->arena, parts[1].bytes, parts[1].size)};
        return NULL;
    }
    j->fine = nvrtc_compile(j->nvrtc, j->arena, j->text, j->sm, j->ptx, &j->code);
    if (j->fine)
        cache_put(j->arena, j->key, (CachePart[]){{j->code.bytes, j->code.size}, {j->code.log, strlen(j->code.log)}}, 2);
    return NULL;
}

typedef struct { Job *jobs; int n; atomic_int next; } Work;

static void *run_some(void *context)
{
    Work *w = context;
    for (int i; (i = atomic_fetch_add(&w->next, 1)) < w->n;)
        run_job(&w->jobs[i]);
    return NULL;
}

static int cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MOST_THREADS ? MOST_THREADS : (int)n;
}

/* A thread a core; this one is the first. */
static void run_jobs(Job *jobs, int n)
{
    Work w = {.jobs = jobs, .n = n};
    pthread_t thread[MOST_THREADS];
    int threads = n < cores() ? n : cores(), started = 1;
    while (started < threads && pthread_create(&thread[started], NULL, run_some, &w) == 0)
        started++;
    run_some(&w);
    for (int i = 1; i < started; i++)
        pthread_join(thread[i], NULL);
}

/* ---- all of them ---- */

static Job new_job(Nvrtc *n, const char *text, int sm, bool ptx)
{
    Job j = {.arena = arena_new(), .nvrtc = n, .text = text, .sm = sm, .ptx = ptx};
    if (nvrtc_architecture(n, sm) != sm) {   /* a GPU newer than NVRTC: PTX, which its driver compiles */
        j.sm = nvrtc_architecture(n, sm);
        j.ptx = true;
    }
    return j;
}

static int cut(Arena *a, GpuParts how, const char *text, const char *parts[CNNC_GPU_PARTS])
{
    enum { FEW = 4, MANY = 16 };   /* kernels of a part: each part costs a module of the driver */
    parts[0] = text;
    return how == GPU_WHOLE            ? 1
           : how == GPU_PARTS_BY_CORES ? gpu_text_parts(a, text, cores(), FEW, parts)
                                       : gpu_text_parts(a, text, CNNC_GPU_PARTS, MANY, parts);
}

static int fill_jobs(Arena *a, Job *jobs, const GpuTargets *t, Nvrtc *n, const char *text)
{
    const char *parts[CNNC_GPU_PARTS];
    int count = 0, n_parts = cut(a, t->parts, text, parts);
    for (int i = 0; i < t->n; i++)
        for (int k = 0; k < n_parts; k++)
            jobs[count++] = new_job(n, parts[k], t->sm[i], false);
    for (int k = 0; t->ptx && k < n_parts; k++)
        jobs[count++] = new_job(n, parts[k], t->ptx, true);
    return count;
}

/* Adds a part's kernels to those of its GPU. */
static void add_uses(Arena *a, GpuUses *to, const GpuUses *part)
{
    GpuUse *all = NEWN(a, GpuUse, to->n + part->n);
    for (int i = 0; i < to->n + part->n; i++)
        all[i] = i < to->n ? to->uses[i] : part->uses[i - to->n];
    *to = (GpuUses){part->sm, all, to->n + part->n};
}

/* Copies what the jobs made into the arena. */
static void keep_images(Arena *a, Program *p, const Job *jobs, int n, int n_gpus, GpuUses *uses)
{
    int n_code = 0;
    for (int i = 0; i < n; i++)
        n_code += !jobs[i].ptx;
    CnncGpu *g = NEW(a, CnncGpu);
    CnncGpuImage *images = NEWN(a, CnncGpuImage, n);
    *g = *p->model.gpu;
    for (int i = 0; i < n; i++) {
        char *bytes = arena_alloc(a, jobs[i].code.size);
        memcpy(bytes, jobs[i].code.bytes, jobs[i].code.size);
        images[i] = (CnncGpuImage){.sm = jobs[i].sm, .ptx = jobs[i].ptx, .bytes = bytes, .size = (int64_t)jobs[i].code.size};
        if (uses && !jobs[i].ptx) {
            GpuUses part = gpu_read_uses(a, jobs[i].sm, jobs[i].code.log);
            add_uses(a, &uses[i * n_gpus / n_code], &part);
        }
    }
    g->images = images;
    g->n_images = n;
    p->model.gpu = g;
}

static ImagesStatus compile_with(Arena *a, Program *p, const GpuTargets *targets, Nvrtc *nvrtc, GpuUses *uses, const char **why)
{
    Job jobs[(MAX_GPU_TARGETS + 1) * CNNC_GPU_PARTS];
    int n = fill_jobs(a, jobs, targets, nvrtc, p->model.gpu->text);
    ImagesStatus status = IMAGES_FINE;
    run_jobs(jobs, n);
    for (int i = 0; i < n && status == IMAGES_FINE; i++)
        if (!jobs[i].fine) {
            *why = gpu_explain_log(a, &p->model, jobs[i].text, jobs[i].code.log);
            status = IMAGES_REFUSED;
        }
    if (status == IMAGES_FINE)
        keep_images(a, p, jobs, n, targets->n, uses);
    for (int i = 0; i < n; i++)
        arena_free(jobs[i].arena);
    return status;
}

ImagesStatus gpu_compile(Arena *a, Program *p, const GpuTargets *targets, GpuUses *uses, const char **why)
{
    gpu_add_feed(a, p);
    Nvrtc *nvrtc = nvrtc_open(a, why);
    if (!nvrtc)
        return IMAGES_NO_COMPILER;
    ImagesStatus status = compile_with(a, p, targets, nvrtc, uses, why);
    nvrtc_close(nvrtc);
    return status;
}
