/* The CUDA text against the reference interpreter, without a GPU: whole training steps and inference of small nets, run by
 * tests/gpu/host.c with every access checked. Threads run in a different order in every test. Loss, next state and outputs must
 * agree to float32 rounding, and two runs must give the same bits. */
#include "tests/unit/emit_checks.h"

#include "tests/gpu/text.h"

typedef struct { GpuText text; const CnncModel *model; const Graph *graph; const char *net; HostRun run; bool ran; } Loaded;

static void *load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    static int loads;
    Loaded *l = NEW(a, Loaded);
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

static void *on_device(const void *from, int64_t bytes)
{
    void *to = host_alloc((size_t)bytes);
    if (from)
        memcpy(to, from, (size_t)bytes);
    return to;
}

static int64_t per_sample(const Graph *g, ValueId v) { return shape_elements(&graph_value(g, v)->shape) / g->batch; }

/* Copies in, runs, copies out. */
static void run_once(Loaded *l, const CnncArgs *args)
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

/* The first run of a program is done twice, with threads in another order: the bits must be the same. */
static void run(void *loaded, const CnncArgs *args)
{
    Loaded *l = loaded;
    size_t state = args->state ? (size_t)l->model->state_bytes : 0;
    float loss = 0;
    char *before = malloc(state + 1), *after = malloc(state + 1);
    memcpy(before, args->state, state);
    run_once(l, args);
    if (!l->ran) {
        l->ran = true;
        l->run.order = (HostOrder)((l->run.order + 1) % 3);
        memcpy(after, args->state, state);
        memcpy(args->state, before, state);
        loss = args->results[CNNC_RES_LOSS];
        run_once(l, args);
        if (memcmp(after, args->state, state) || memcmp(&loss, &args->results[CNNC_RES_LOSS], sizeof loss))
            fail_msg("%s: two runs give different bits", l->net);
    }
    free(before);
    free(after);
}

static void unload(void *loaded) { text_free(&((Loaded *)loaded)->text); }

static EmitTarget target(int sm)
{
    EmitTarget t = {.load = load, .run = run, .unload = unload, .options = {.name = "test"}};
    gpu_options(&t.options, gpu_target(sm));
    return t;
}

static void test_training(void **unused)
{
    (void)unused;
    FILE *f = case_open();
    assert_non_null(f);
    EmitTarget t = target(90);
    for (bool more = true; more;) {
        Arena *a = arena_new();
        Case *c = NEW(a, Case);
        more = case_next(a, f, c);
        if (more)
            check_step(a, c, &t, (int64_t)case_option(c, "batch", 1));
        arena_free(a);
    }
    fclose(f);
}

/* Products of matrices in tiles: every direction of a convolution and of Linear, edges that cut tiles, strides, dilation, groups,
 * depths cut into slices, samples short of the batch. */
static void test_products(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; } wide[] = {
        {"conv out=40 k=3 p=1; act ReLU; conv out=36 k=3 s=2 p=1; bn; act ReLU; flatten; linear out=20", 17, 12, 11, 5},
        {"conv out=48 k=5 p=2; res{conv out=48 k=1; act SiLU}{}; conv out=32 k=3 d=2 p=2 g=2; aavg; flatten; linear out=7", 8, 9, 13, 3},
        {"flatten; linear out=150; act ReLU; linear out=70; act ReLU; linear out=10", 3, 13, 14, 37},
        {"conv out=130 k=1; maxpool k=2; conv out=20 k=3 s=2; flatten; linear out=5", 140, 8, 8, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(wide); i++) {
        Arena *a = arena_new();
        EmitTarget t = target(i % 2 ? 80 : 100);
        Case c = {.net = wide[i].net, .train = "train opt=sgd lr=0.05 momentum=0.9 wd=0.01", .input = shape_of(3, wide[i].c, wide[i].h, wide[i].w)};
        check_step(a, &c, &t, wide[i].batch);
        arena_free(a);
    }
}

static void test_inference(void **unused)
{
    (void)unused;
    EmitTarget t = target(90);
    for (size_t i = 0; i < ARRAY_LEN(emit_nets); i++) {
        Arena *a = arena_new();
        Case c = {.net = emit_nets[i].net, .input = shape_of(3, emit_nets[i].c, emit_nets[i].h, emit_nets[i].w)};
        check_infer(a, &c, &t, i % 2 ? 1 : 3);
        check_program(a, &c, &t, i % 2 ? 3 : 1);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inference), cmocka_unit_test(test_products), cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
