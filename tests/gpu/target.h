/* EmitTarget (tests/unit/emit_checks.h) for CUDA text that runs on the CPU by tests/gpu/host.c. Threads take turns in another order
 * in every net, and the first run of each is done twice, in two orders: the bits must be the same. */
#ifndef CNNC_TESTS_GPU_TARGET_H
#define CNNC_TESTS_GPU_TARGET_H
#include "tests/gpu/text.h"
#include "tests/unit/emit_checks.h"

typedef struct { GpuText text; const CnncModel *model; const Graph *graph; const char *net; HostRun run; bool ran; } GpuLoaded;

static inline void *gpu_load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    static int loads;
    GpuLoaded *l = NEW(a, GpuLoaded);
    const CnncGpu *gpu = gpu_emit(a, p);
    const char *why = text_load(a, gpu, &l->text);
    if (why)
        fail_msg("%s: %s", net, why);
    l->graph = (p->step ? p->step : p->infer)->kernels->graph;
    l->model = *model = &p->model;
    l->net = net;
    l->run = (HostRun){.order = (HostOrder)(loads++ % 3)};
    (void)t;
    return l;
}

static inline void *on_device(const void *from, int64_t bytes)
{
    void *to = host_alloc((size_t)bytes);
    if (from)
        memcpy(to, from, (size_t)bytes);
    return to;
}

static inline int64_t per_sample(const Graph *g, ValueId v) { return shape_elements(&graph_value(g, v)->shape) / g->batch; }

/* Copies in, runs, copies out. */
static inline void gpu_run_once(GpuLoaded *l, const CnncArgs *args)
{
    const Graph *g = l->graph;
    const CnncGpuFunction *f = l->text.gpu->step ? l->text.gpu->step : l->text.gpu->infer;
    int64_t state = args->state ? l->model->state_bytes : 0, out = l->text.gpu->step ? 0 : 4 * args->n * per_sample(g, g->output);
    CnncArgs d = {.n = args->n, .work = on_device(NULL, f->work_bytes), .consts = on_device(args->consts, l->model->consts_bytes),
                  .in = on_device(args->in, 4 * args->n * shape_elements(&g->input_shape)), .state = on_device(args->state, state),
                  .labels = args->labels ? on_device(args->labels, 4 * args->n * per_sample(g, g->labels)) : NULL, .out = on_device(NULL, out),
                  .scalars = on_device(args->scalars, 4 * CNNC_SC_COUNT), .results = on_device(NULL, 4 * CNNC_RES_COUNT)};
    if (!text_run(&l->text, f, &d, &l->run))
        fail_msg("%s", l->net);
    if (state)
        memcpy(args->state, d.state, (size_t)state);
    memcpy(args->out, d.out, (size_t)out);
    memcpy(args->results, d.results, 4 * CNNC_RES_COUNT);
    host_free_all();
}

/* memcpy and memcmp of nothing may not be given NULL, which the state of an inference is. */
static inline void copy(void *to, const void *from, size_t bytes)
{
    if (bytes)
        memcpy(to, from, bytes);
}

/* The first run of a program is done twice, with threads in another order: the bits must be the same. */
static inline void gpu_run(void *loaded, const CnncArgs *args)
{
    GpuLoaded *l = loaded;
    size_t state = args->state ? (size_t)l->model->state_bytes : 0;
    float loss = 0;
    char *before = malloc(state + 1), *after = malloc(state + 1);
    copy(before, args->state, state);
    gpu_run_once(l, args);
    if (!l->ran) {
        l->ran = true;
        l->run.order = (HostOrder)((l->run.order + 1) % 3);
        copy(after, args->state, state);
        copy(args->state, before, state);
        loss = args->results[CNNC_RES_LOSS];
        gpu_run_once(l, args);
        if ((state && memcmp(after, args->state, state)) || memcmp(&loss, &args->results[CNNC_RES_LOSS], sizeof loss))
            fail_msg("%s: two runs give different bits", l->net);
    }
    free(before);
    free(after);
}

static inline void gpu_unload(void *loaded) { text_free(&((GpuLoaded *)loaded)->text); }

static inline EmitTarget gpu_emit_target(int sm)
{
    EmitTarget t = {.load = gpu_load, .run = gpu_run, .unload = gpu_unload, .options = {.name = "test"}};
    gpu_options(&t.options, gpu_target(sm));
    return t;
}

/* Tolerances follow from the format: operands keep 11 bits in tf32, 8 in bf16, of float32's 24. */
static inline EmitTarget gpu_emit_target_in(int sm, Precision precision)
{
    static const double looser[] = {[PRECISION_F32] = 1, [PRECISION_TF32] = 50, [PRECISION_BF16] = 400};
    EmitTarget t = gpu_emit_target(sm);
    t.options.precision = precision;
    t.looser = looser[precision];
    return t;
}

#endif
