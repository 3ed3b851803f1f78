/* An NVIDIA GPU as a device: memory, one CUDA graph a call, uploads beside the computation.
 * In: a model with launch tables and images of its kernels. Out: what the CPU would compute, within rounding.
 * Invariant: all memory is taken in open and call_open. Kernels and answers follow each other in one stream, so that calls may
 * share x, out and work; a call's staging block is written again only after exec_finish.
 * Idea: a call is one graph launch. Where samples come from a data set, the next call's block goes over in a second stream while
 * this one computes; the graph then starts with the kernel that makes inputs of samples. Loss and right answers are written by
 * their kernel into the host's pinned memory, so that a training step has no copy back.
 *
 *     upload    | block of call 1 | block of call 2 |
 *     compute                     | graph of call 1           | graph of call 2 ...
 *     host      fills 1  fills 2    fills 3 ...    answer of 1                             */
#include "runtime/exec_cuda.h"
#include "runtime/data.h"
#include "runtime/eval.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 };

static int64_t round_up(int64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

/* ---- memory ---- */

static bool no_memory(const Gpu *g, int64_t bytes, RtError *e)
{
    size_t left = 0, total = 0;
    g->cuda.api.memory_info(&left, &total);
    return rt_error(e, RT_DEVICE, "%s has not enough memory: %.1f MiB more are needed, %.1f of %.1f MiB are free; a smaller --batch helps",
                    g->cuda.name, (double)bytes / 1048576, (double)left / 1048576, (double)total / 1048576);
}

static bool take(Gpu *g, CudaPtr *at, int64_t bytes, RtError *e)
{
    int result = g->cuda.api.alloc(at, (size_t)(bytes > 0 ? bytes : 1));
    if (result == CUDA_ERROR_MEMORY)
        return no_memory(g, bytes, e);
    return cuda_fine(&g->cuda, result, e, "memory of the GPU");
}

static bool take_pinned(Gpu *g, void *at, int64_t bytes, RtError *e)
{
    if (!cuda_fine(&g->cuda, g->cuda.api.host_alloc(at, (size_t)(bytes > 0 ? bytes : 1), 0), e, "memory the GPU can reach"))
        return false;
    memset(*(void **)at, 0, (size_t)bytes);
    return true;
}

/* From memory that is not pinned. The driver may return with the last bytes still on their way, in its own stream, for which ours do
 * not wait. */
static bool put(Gpu *g, CudaPtr to, const void *from, int64_t bytes, const char *what, RtError *e)
{
    return bytes <= 0 || (cuda_fine(&g->cuda, g->cuda.api.to_device(to, from, (size_t)bytes), e, what) &&
                          cuda_fine(&g->cuda, g->cuda.api.stream_wait(NULL), e, what));
}

static void give(Gpu *g, CudaPtr at)
{
    if (at)
        g->cuda.api.free(at);
}

/* ---- the model's code ---- */

/* Machine code for this GPU or an older one of its generation, else PTX, newest first. */
static const CnncGpuImage *choose_image(const CnncGpu *m, int sm)
{
    const CnncGpuImage *best = NULL;
    for (int32_t i = 0; i < m->n_images; i++) {
        const CnncGpuImage *x = &m->images[i];
        bool runs = x->sm <= sm && (x->ptx || x->sm / 10 == sm / 10);
        if (runs && (!best || x->ptx < best->ptx || (x->ptx == best->ptx && x->sm > best->sm)))
            best = x;
    }
    return best;
}

static bool load_module(Gpu *g, const CnncGpuImage *image, RtError *e)
{
    char log[1024] = "";
    int options[] = {CUDA_JIT_ERROR_LOG, CUDA_JIT_ERROR_LOG_SIZE};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    int result = g->cuda.api.module_load(&g->modules[g->n_modules], image->bytes, 2, options, values);
    g->n_modules += result == 0;
    return cuda_fine(&g->cuda, result, e, log[0] ? log : "loading the kernels");
}

/* All parts of the text that are compiled like the best one. */
static bool load_modules(Gpu *g, const CnncGpu *m, RtError *e)
{
    const CnncGpuImage *best = choose_image(m, g->cuda.sm);
    if (!best)
        return rt_error(e, RT_DEVICE, "the program has no code for this GPU (%s, sm_%d)", g->cuda.name, g->cuda.sm);
    for (int32_t i = 0; i < m->n_images; i++)
        if (m->images[i].sm == best->sm && m->images[i].ptx == best->ptx && g->n_modules < CNNC_GPU_PARTS && !load_module(g, &m->images[i], e))
            return false;
    return true;
}

/* Asking for registers also has the driver load the kernel now, not inside a capture. */
static bool find_kernel(Gpu *g, const char *entry, int shared_bytes, CudaKernel *out, RtError *e)
{
    int registers, found = CUDA_ERROR_NOT_FOUND;
    const CudaApi *a = &g->cuda.api;
    for (int i = 0; i < g->n_modules && found == CUDA_ERROR_NOT_FOUND; i++)
        found = a->module_kernel(out, g->modules[i], entry);
    return cuda_fine(&g->cuda, found, e, entry) &&
           cuda_fine(&g->cuda, a->kernel_attribute(&registers, CUDA_KERNEL_REGISTERS, *out), e, entry) &&
           (shared_bytes <= 48 << 10 ||
            cuda_fine(&g->cuda, a->kernel_set(*out, CUDA_KERNEL_MAX_DYNAMIC_SHARED, shared_bytes), e, entry));
}

static const CnncGpuFunction *gpu_function(const CnncModel *m, const CnncFunction *f)
{
    return f == m->infer ? m->gpu->infer : f == m->eval ? m->gpu->eval : m->gpu->step;
}

static bool add_function(Gpu *g, const CnncModel *m, const CnncFunction *f, RtError *e)
{
    GpuFunction *out = &g->functions[g->n_functions++];
    *out = (GpuFunction){.function = f, .gpu = gpu_function(m, f)};
    size_t n = (size_t)out->gpu->n_launches;
    out->kernels = calloc(n + 1, sizeof *out->kernels);
    if (!out->kernels)
        return rt_error_memory(e, n * sizeof *out->kernels);
    for (size_t i = 0; i < n; i++) {
        const CnncGpuLaunch *l = &out->gpu->launches[i];
        if (!find_kernel(g, l->entry, l->shared_bytes, &out->kernels[i], e))
            return false;
    }
    return true;
}

/* ---- an Exec ---- */

static bool take_memory(Exec *x, RtError *e)
{
    Gpu *g = x->on_device;
    const CnncModel *m = x->model;
    int64_t work = 0, batch = 0;
    for (int i = 0; i < g->n_functions; i++) {
        const CnncGpuFunction *f = g->functions[i].gpu;
        work = f->work_bytes > work ? f->work_bytes : work;
        batch = f->batch > batch ? f->batch : batch;
    }
    return take(g, &g->state, m->state_bytes, e) && take(g, &g->consts, m->consts_bytes, e) && take(g, &g->work, work, e) &&
           take(g, &g->x, 4 * batch * model_in_size(m), e) && take(g, &g->out, 4 * batch * model_out_size(m), e) &&
           put(g, g->consts, m->consts, m->consts_bytes, "weights to the GPU", e);
}

static bool put_state(Exec *x, RtError *e)
{
    Gpu *g = x->on_device;
    return cuda_fine(&g->cuda, g->cuda.api.stream_wait(g->compute), e, "the GPU's work") &&
           put(g, g->state, x->state, x->model->state_bytes, "weights to the GPU", e);
}

static bool get_state(Exec *x, RtError *e)
{
    Gpu *g = x->on_device;
    return cuda_fine(&g->cuda, g->cuda.api.stream_wait(g->compute), e, "the GPU's work") &&
           cuda_fine(&g->cuda, g->cuda.api.to_host(x->state, g->state, (size_t)x->model->state_bytes), e, "weights from the GPU");
}

static bool gpu_open(Exec *x, const CnncFunction *const *functions, int n, RtError *e)
{
    Gpu *g = x->on_device = calloc(1, sizeof *g);
    if (!g)
        return rt_error_memory(e, sizeof *g);
    if (!cuda_open(&g->cuda, e))
        return false;
    const CudaApi *a = &g->cuda.api;
    if (!load_modules(g, x->model->gpu, e) ||
        !cuda_fine(&g->cuda, a->stream_create(&g->compute, CUDA_STREAM_NON_BLOCKING), e, "starting the GPU") ||
        !cuda_fine(&g->cuda, a->stream_create(&g->upload, CUDA_STREAM_NON_BLOCKING), e, "starting the GPU"))
        return false;
    g->lanes[0] = g->compute;
    for (int i = 1; i < CNNC_GPU_LANES; i++)
        if (!cuda_fine(&g->cuda, a->stream_create(&g->lanes[i], CUDA_STREAM_NON_BLOCKING), e, "starting the GPU"))
            return false;
    for (int i = 0; i < n; i++)
        if (functions[i] && !add_function(g, x->model, functions[i], e))
            return false;
    return find_kernel(g, "cnnc_feed", 0, &g->feed, e) && take_memory(x, e) && put_state(x, e);
}

static void gpu_close(Exec *x)
{
    Gpu *g = x->on_device;
    if (!g)
        return;
    if (g->cuda.context) {
        const CudaApi *a = &g->cuda.api;
        CudaPtr blocks[] = {g->state, g->consts, g->work, g->x, g->out};
        if (g->compute)
            a->stream_wait(g->compute);
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
            give(g, blocks[i]);
        if (g->upload)
            a->stream_destroy(g->upload);
        for (int i = 1; i < CNNC_GPU_LANES; i++)
            if (g->lanes[i])
                a->stream_destroy(g->lanes[i]);
        if (g->compute)
            a->stream_destroy(g->compute);
        for (int i = 0; i < g->n_modules; i++)
            a->module_unload(g->modules[i]);
    }
    cuda_close(&g->cuda);
    for (int i = 0; i < g->n_functions; i++)
        free(g->functions[i].kernels);
    free(g);
    x->on_device = NULL;
}

/* ---- calls ---- */

/* Where the parts of the staging block lie; its size. */
static int64_t lay_out(GpuCall *c, const CnncModel *m, const ExecCallShape *shape)
{
    const CnncGpuFeed *f = shape->feed ? &shape->feed->shape : NULL;
    c->views_at = round_up(sizeof(float) * CNNC_SC_COUNT);
    c->labels_at = c->views_at + (f ? round_up((int64_t)sizeof(CnncView) * shape->batch) : 0);
    c->samples_at = c->labels_at + round_up(shape->label_bytes * shape->batch);
    c->sample_bytes = f ? (int64_t)f->channels * f->h * f->w * (f->bytes ? 1 : 4) : 4 * model_in_size(m);
    return c->samples_at + round_up(c->sample_bytes * shape->batch);
}

static bool open_feed(Gpu *g, GpuCall *c, const DataFeed *feed, RtError *e)
{
    int64_t bytes = (int64_t)feed->n_table * (int64_t)sizeof *feed->table;
    if (!take(g, &c->table, bytes, e) || !put(g, c->table, feed->table, bytes, "normalisation to the GPU", e))
        return false;
    c->fed = true;
    c->feed = feed->shape;
    c->feed.samples = (const void *)(uintptr_t)(c->device + (uint64_t)c->samples_at);
    c->feed.views = (const CnncView *)(uintptr_t)(c->device + (uint64_t)c->views_at);
    c->feed.table = (const float *)(uintptr_t)c->table;
    c->feed.x = (float *)(uintptr_t)g->x;
    return true;
}

static const GpuFunction *find_function(const Gpu *g, const CnncFunction *f)
{
    for (int i = 0; i < g->n_functions; i++)
        if (g->functions[i].function == f)
            return &g->functions[i];
    return NULL;
}

static bool call_open(Exec *x, ExecCall *call, const ExecCallShape *shape, RtError *e)
{
    Gpu *g = x->on_device;
    GpuCall *c = call->on_device = calloc(1, sizeof *c);
    if (!c)
        return rt_error_memory(e, sizeof *c);
    c->function = find_function(g, shape->function);
    c->wants_out = shape->function != x->model->step;
    int64_t block = lay_out(c, x->model, shape), answer = 4 * (CNNC_RES_COUNT + shape->batch * model_out_size(x->model));
    const CudaApi *a = &g->cuda.api;
    if (!take_pinned(g, &c->host, block, e) || !take(g, &c->device, block, e) || !take_pinned(g, &c->answer, answer, e) ||
        !cuda_fine(&g->cuda, a->event_create(&c->uploaded, CUDA_EVENT_NO_TIMING), e, "starting the GPU") ||
        !cuda_fine(&g->cuda, a->event_create(&c->done, CUDA_EVENT_NO_TIMING), e, "starting the GPU") ||
        (shape->feed && !open_feed(g, c, shape->feed, e)))
        return false;
    call->labels = shape->label_bytes ? c->host + c->labels_at : NULL;
    call->views = c->fed ? (CnncView *)(c->host + c->views_at) : NULL;
    call->samples = c->fed ? c->host + c->samples_at : NULL;
    call->x = c->fed ? NULL : (float *)(c->host + c->samples_at);
    call->out = c->answer + CNNC_RES_COUNT;
    return true;
}

static void call_close(Exec *x, ExecCall *call)
{
    Gpu *g = x->on_device;
    GpuCall *c = call->on_device;
    if (!c)
        return;
    const CudaApi *a = &g->cuda.api;
    if (c->started) {   /* after an error `done` may not have been recorded */
        a->stream_wait(g->upload);
        a->stream_wait(g->compute);
    }
    for (int i = 0; i < GPU_GRAPHS; i++)
        if (c->graphs[i])
            a->graph_exec_destroy(c->graphs[i]);
    if (c->uploaded)
        a->event_destroy(c->uploaded);
    if (c->done)
        a->event_destroy(c->done);
    if (c->host)
        a->host_free(c->host);
    if (c->answer)
        a->host_free(c->answer);
    give(g, c->device);
    give(g, c->table);
    free(c);
    call->on_device = NULL;
}

/* ---- one call ---- */

static bool upload(Gpu *g, const GpuCall *c, int64_t n, CudaStream stream, RtError *e)
{
    size_t bytes = (size_t)(c->samples_at + n * c->sample_bytes);
    return cuda_fine(&g->cuda, g->cuda.api.to_device_async(c->device, c->host, bytes, stream), e, "samples to the GPU");
}

static bool launch_feed(Gpu *g, const GpuCall *c, int64_t n, RtError *e)
{
    CnncGpuFeed f = c->feed;
    void *arguments[] = {&f.samples, &f.views, &f.table, &f.x, &f.n, &f.bytes, &f.channels, &f.h, &f.w, &f.out_h, &f.out_w};
    f.n = n;
    int64_t elements = n * f.channels * f.out_h * f.out_w;
    unsigned blocks = (unsigned)((elements + CNNC_FEED_BLOCK - 1) / CNNC_FEED_BLOCK);
    int result = g->cuda.api.launch(g->feed, blocks, 1, 1, CNNC_FEED_BLOCK, 1, 1, 0, g->compute, arguments, NULL);
    return cuda_fine(&g->cuda, result, e, "launching cnnc_feed");
}

bool gpu_stage(Gpu *g, const GpuCall *c, int64_t n, RtError *e)
{
    return c->fed ? launch_feed(g, c, n, e) : upload(g, c, n, g->compute, e);
}

static CnncArgs arguments_of(const Gpu *g, const GpuCall *c, int64_t n)
{
    CudaPtr in = c->fed ? g->x : c->device + (uint64_t)c->samples_at;
    return (CnncArgs){.state = (char *)(uintptr_t)g->state,
                      .work = (char *)(uintptr_t)g->work,
                      .consts = (const char *)(uintptr_t)g->consts,
                      .in = (const float *)(uintptr_t)in,
                      .labels = (const void *)(uintptr_t)(c->device + (uint64_t)c->labels_at),
                      .out = (float *)(uintptr_t)g->out,
                      .scalars = (const float *)(uintptr_t)c->device,
                      .results = c->answer,
                      .n = n};
}

/* Blocks along the first dimension that n samples need. */
static int64_t blocks_needed(const CnncGpuLaunch *l, int64_t n)
{
    if (l->sample_points <= 0)
        return l->grid[0];
    int64_t needed = (n * l->sample_points + l->block_points - 1) / l->block_points;
    return needed < l->grid[0] ? needed : l->grid[0];
}

/* A kernel's pointers and the number of samples, as the driver takes them: the address of each. */
typedef struct { CudaPtr pointer[CNNC_GPU_PLACES]; int samples; void *at[CNNC_GPU_PLACES + 1]; } Arguments;

static void set_arguments(Arguments *x, const CnncGpuLaunch *l, const CnncArgs *args)
{
    const CudaPtr base[CNNC_AT_COUNT] = {
        [CNNC_AT_STATE] = (uintptr_t)args->state, [CNNC_AT_WORK] = (uintptr_t)args->work, [CNNC_AT_CONSTS] = (uintptr_t)args->consts,
        [CNNC_AT_IN] = (uintptr_t)args->in, [CNNC_AT_LABELS] = (uintptr_t)args->labels, [CNNC_AT_OUT] = (uintptr_t)args->out,
        [CNNC_AT_SCALARS] = (uintptr_t)args->scalars, [CNNC_AT_RESULTS] = (uintptr_t)args->results};
    for (int32_t i = 0; i < l->n_places; i++) {
        x->pointer[i] = base[l->places[i].at] + (CudaPtr)l->places[i].offset;
        x->at[i] = &x->pointer[i];
    }
    x->samples = (int)args->n;
    x->at[l->n_places] = &x->samples;
}

bool gpu_launch(Gpu *g, const GpuCall *c, int i, int64_t n, CudaStream stream, RtError *e)
{
    const CnncGpuLaunch *l = &c->function->gpu->launches[i];
    CnncArgs args = arguments_of(g, c, n);
    Arguments x;
    set_arguments(&x, l, &args);
    int result = g->cuda.api.launch(c->function->kernels[i], (unsigned)blocks_needed(l, n), (unsigned)l->grid[1], (unsigned)l->grid[2],
                                    (unsigned)l->block, 1, 1, (unsigned)l->shared_bytes, stream, x.at, NULL);
    return cuda_fine(&g->cuda, result, e, l->name);
}

bool gpu_fetch(Gpu *g, const GpuCall *c, int64_t n, const CnncModel *m, RtError *e)
{
    size_t out = (size_t)(4 * n * model_out_size(m));
    return !c->wants_out ||
           cuda_fine(&g->cuda, g->cuda.api.to_host_async(c->answer + CNNC_RES_COUNT, g->out, out, g->compute), e, "outputs from the GPU");
}

/* The call for n samples as a graph; captured when it is first needed. A run has two sizes: whole batches and the last one. */
static CudaGraphExec graph_for(Gpu *g, GpuCall *c, int64_t n, const CnncModel *m, RtError *e)
{
    const CudaApi *a = &g->cuda.api;
    for (int i = 0; i < GPU_GRAPHS; i++)
        if (c->graph_n[i] == n)
            return c->graphs[i];
    int at = c->next_graph;
    c->next_graph = (at + 1) % GPU_GRAPHS;
    if (c->graphs[at])
        a->graph_exec_destroy(c->graphs[at]);
    c->graphs[at] = NULL;
    c->graph_n[at] = 0;
    c->graphs[at] = gpu_record(g, c, n, m, e);
    if (!c->graphs[at])
        return NULL;
    c->graph_n[at] = n;
    return c->graphs[at];
}

static bool start(Exec *x, ExecCall *call, RtError *e)
{
    Gpu *g = x->on_device;
    GpuCall *c = call->on_device;
    const CudaApi *a = &g->cuda.api;
    memcpy(c->host, call->scalars, sizeof call->scalars);
    CudaGraphExec graph = graph_for(g, c, call->n, x->model, e);
    if (!graph)
        return false;
    c->started = true;
    if (c->fed && (!upload(g, c, call->n, g->upload, e) ||
                   !cuda_fine(&g->cuda, a->event_record(c->uploaded, g->upload), e, "samples to the GPU") ||
                   !cuda_fine(&g->cuda, a->stream_wait_event(g->compute, c->uploaded, 0), e, "samples to the GPU")))
        return false;
    return cuda_fine(&g->cuda, a->graph_launch(graph, g->compute), e, "launching the kernels") &&
           cuda_fine(&g->cuda, a->event_record(c->done, g->compute), e, "launching the kernels");
}

static bool finish(Exec *x, ExecCall *call, RtError *e)
{
    Gpu *g = x->on_device;
    GpuCall *c = call->on_device;
    if (!cuda_fine(&g->cuda, g->cuda.api.event_wait(c->done), e, "the GPU's work"))
        return false;
    c->started = false;
    memcpy(call->results, c->answer, sizeof call->results);
    return true;
}

const ExecDevice exec_cuda = {
    .depth = 3,
    .feeds = true,
    .open = gpu_open,
    .close = gpu_close,
    .put_state = put_state,
    .get_state = get_state,
    .call_open = call_open,
    .call_close = call_close,
    .start = start,
    .finish = finish,
    .profile = gpu_profile,
    .peak = gpu_peak,
};
