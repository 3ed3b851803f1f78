/* The emitter against the reference interpreter: whole training steps and inference of small nets, compiled, loaded and run,
 * for several CPU levels this machine can run, with batches that do and do not fill the lanes. Loss, next state and outputs
 * must agree to float32 rounding. Stages run slice by slice in order, as one thread would. */
#include "tests/unit/train_cases.h"

#include "codegen/compile.h"
#include "codegen/cpu/module.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct { const CpuTarget *cpu; NestTarget nest; } Machine;
typedef struct { CpuJit *jit; const CnncModel *model; Program *p; } Loaded;

static char *aligned(Arena *a, int64_t bytes)
{
    char *p = arena_alloc(a, (size_t)bytes + 128);
    return p + (64 - (uintptr_t)p % 64) % 64;
}

static Loaded load(Arena *a, const Case *c, const Graph *g, const Fusion *f, const Machine *m)
{
    CompileOptions o = {.target = m->nest, .name = "test"};
    Loaded l = {.p = compile_graph(a, g, f, &o)};
    Bytes object = {0};
    const char *why = NULL;
    if (!module_compile(a, l.p, m->cpu, CPU_OBJECT, false, &object, &why))
        fail_msg("%s: %s", c->net, why);
    l.jit = jit_load(a, l.p, object, &l.model, &why);
    if (!l.jit)
        fail_msg("%s: %s", c->net, why);
    free(object.data);
    return l;
}

static void run_function(const CnncFunction *f, const CnncArgs *args, char *scratch)
{
    for (int s = 0; s < f->n_stages; s++)
        for (int64_t i = 0; i < f->stages[s].slices; i++)
            if (!f->stages[s].samples_per_slice || i * f->stages[s].samples_per_slice < args->n)
                f->stages[s].fn(args, scratch, i);
}

static double tensor_get(const CnncTensor *t, const char *state, int64_t i)
{
    if (t->dtype == CNNC_I64)
        return (double)((const int64_t *)(const void *)(state + t->offset))[i];
    return (double)((const float *)(const void *)(state + t->offset))[i];
}

static void tensor_put(const CnncTensor *t, char *state, int64_t i, double v)
{
    if (t->dtype == CNNC_I64)
        ((int64_t *)(void *)(state + t->offset))[i] = (int64_t)v;
    else
        ((float *)(void *)(state + t->offset))[i] = (float)v;
}

static int64_t tensor_count(const CnncTensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++)
        n *= t->shape[d];
    return n;
}

static const CnncTensor *tensor_named(const CnncModel *m, const char *name)
{
    for (int i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensors[i].name, name) == 0)
            return &m->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void write_state(const Graph *g, const CnncModel *m, char *state, double **values)
{
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (graph_node(g, n)->op == OP_PARAM) {
            ValueId v = graph_node(g, n)->out[0];
            const CnncTensor *t = tensor_named(m, graph_value(g, v)->name);
            for (int64_t i = 0; i < tensor_count(t); i++)
                tensor_put(t, state, i, values[v][i]);
        }
}

static void near(const Case *c, const char *what, int64_t i, double got, double want, double scale, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (scale + fabs(want)) + 2e-6))   /* sums of terms near 1 that cancel */
        fail_msg("%s [%s]: %s[%lld] is %.9g, the reference says %.9g", c->net, c->train ? c->train : "inference", what, (long long)i, got, want);
}

static double rms(const double *v, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += v[i] * v[i];
    return n ? sqrt(s / (double)n) : 0;
}

static CnncArgs make_args(Arena *a, const Graph *g, const CnncModel *m, const CnncFunction *f, const RefInputs *in)
{
    int64_t per = shape_elements(&g->input_shape), out = shape_elements(&graph_value(g, g->output)->shape);
    float *x = NEWN(a, float, in->n * per), *s = NEWN(a, float, CNNC_SC_COUNT), *r = NEWN(a, float, CNNC_RES_COUNT);
    for (int64_t i = 0; i < in->n * per; i++)
        x[i] = (float)in->input[i];
    for (int i = 0; in->scalars && i < CNNC_SC_COUNT; i++)
        s[i] = (float)in->scalars[i];
    if (in->scalars) {
        uint32_t seed = (uint32_t)in->scalars[CNNC_SC_SEED];
        memcpy(&s[CNNC_SC_SEED], &seed, 4);
    }
    void *labels = NULL;
    if (g->labels) {
        Shape ls = graph_value(g, g->labels)->shape;
        int64_t rows = shape_elements(&ls) / ls.dim[0] * in->n;
        labels = NEWN(a, float, rows);
        for (int64_t i = 0; i < rows; i++)
            if (graph_value(g, g->labels)->dtype == DT_I32)
                ((int32_t *)labels)[i] = (int32_t)in->labels[i];
            else
                ((float *)labels)[i] = (float)in->labels[i];
    }
    return (CnncArgs){.work = aligned(a, f->work_bytes), .consts = m->consts, .in = x, .labels = labels, .out = NEWN(a, float, out),
                      .scalars = s, .results = r, .n = in->n};
}

/* A bias before batch norm has gradient 0: Adam and RMSprop divide rounding errors by
 * themselves, and momentum holds nothing else. */
static bool no_true_gradient(const Case *c, const TrainSpec *s, const char *name)
{
    bool divides = s->train.optimizer != CNNC_OPT_SGD || strncmp(name, "optimizer.", 10) == 0;
    return divides && strstr(c->net, "bn") && strstr(name, ".bias");
}

/* One step at a time from the reference's state, so that errors do not add up over steps. */
static void check_step(Arena *a, const Case *c, const Machine *m, int64_t batch)
{
    TrainSpec spec = case_spec(c);
    Diags d;
    diags_init(&d, a, NULL);
    Graph *g = net_build(a, c->net, batch, c->input);
    g = simplify(a, train_step(a, simplify(a, g), &spec, &d));
    Fusion f = fuse(a, g);
    Loaded l = load(a, c, g, &f, m);
    double **state = state_start(a, g);
    char *bytes = aligned(a, l.model->state_bytes), *scratch = aligned(a, l.model->step->scratch_bytes);
    for (int k = 0; k < 3; k++) {
        RefInputs in = step_inputs(a, g, &spec.train, state, k);
        RefRun *run = ref_run(a, g, &in);
        if (run->error)
            fail_msg("%s: %s", c->net, run->error);
        CnncArgs args = make_args(a, g, l.model, l.model->step, &in);
        args.state = bytes;
        write_state(g, l.model, bytes, state);
        run_function(l.model->step, &args, scratch);
        near(c, "loss", 0, args.results[CNNC_RES_LOSS], run->value[g->loss].data[0], 1e-3, 2e-4);
        for (uint32_t i = 0; i < g->updates.len; i++) {
            const RefTensor *want = &run->value[g->updates.at[i].next];
            const char *name = graph_value(g, g->updates.at[i].old)->name;
            const CnncTensor *t = tensor_named(l.model, name);
            if (no_true_gradient(c, &spec, name))
                continue;
            double scale = rms(want->data, tensor_count(t));
            for (int64_t e = 0; e < tensor_count(t); e++)
                near(c, name, e, tensor_get(t, bytes, e), want->data[e], scale, spec.train.optimizer == CNNC_OPT_SGD ? 5e-4 : 2e-2);
        }
        state_advance(g, state, run);
    }
    jit_free(l.jit);
}

static void check_infer(Arena *a, const Case *c, const Machine *m, int64_t batch)
{
    Graph *g = eval_graph(a, net_build(a, c->net, batch, c->input));
    g = simplify(a, g);
    Fusion f = fuse(a, g);
    Loaded l = load(a, c, g, &f, m);
    double **state = state_start(a, g);
    int64_t n = batch > 1 ? batch - 1 : 1, per = shape_elements(&g->input_shape), out = shape_elements(&graph_value(g, g->output)->shape) / batch * n;
    double *x = NEWN(a, double, n * per);
    net_fill("input", x, n * per);
    for (int64_t i = 0; i < n * per; i++)
        x[i] = (float)(2 * x[i] - 1);
    RefInputs in = {.n = n, .input = x, .param_of_value = (const double *const *)state};
    RefRun *run = ref_run(a, g, &in);
    CnncArgs args = make_args(a, g, l.model, l.model->infer, &in);
    args.state = aligned(a, l.model->state_bytes);
    write_state(g, l.model, args.state, state);
    run_function(l.model->infer, &args, aligned(a, l.model->infer->scratch_bytes));
    double scale = rms(run->value[g->output].data, out);
    for (int64_t i = 0; i < out; i++)
        near(c, "output", i, args.out[i], run->value[g->output].data[i], scale, 1e-4);
    jit_free(l.jit);
}

/* An inference program: folded constants, layouts and algorithms as `choose` and `winograd` pick them. */
static void check_program(Arena *a, const Case *c, const Machine *m, int64_t batch)
{
    Graph *g = net_build(a, c->net, batch, c->input);
    double **state = state_start(a, g);
    Diags d;
    diags_init(&d, a, NULL);
    Module module = {.graph = g};
    PassContext pc = {.arena = a, .diags = &d, .module = &module};
    CompileOptions o = {.target = m->nest, .name = "test"};
    RefNamed *w = NEWN(a, RefNamed, g->nodes.len);
    int n_w = 0;
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (graph_node(g, n)->op == OP_PARAM) {
            const Value *v = graph_value(g, graph_node(g, n)->out[0]);
            w[n_w++] = (RefNamed){v->name, state[graph_node(g, n)->out[0]], shape_elements(&v->shape)};
        }
    Loaded l = {.p = compile_inference(a, &pc, w, n_w, &o)};
    Bytes object = {0};
    const char *why = NULL;
    if (!l.p || !module_compile(a, l.p, m->cpu, CPU_OBJECT, false, &object, &why))
        fail_msg("%s: %s", c->net, why ? why : "not compiled");
    l.jit = jit_load(a, l.p, object, &l.model, &why);
    free(object.data);
    int64_t n = batch > 1 ? batch - 1 : 1, per = shape_elements(&g->input_shape), out = shape_elements(&graph_value(g, g->output)->shape) / batch * n;
    double *x = NEWN(a, double, n * per);
    net_fill("input", x, n * per);
    for (int64_t i = 0; i < n * per; i++)
        x[i] = (float)(2 * x[i] - 1);
    RefInputs in = {.n = n, .input = x, .param_of_value = (const double *const *)state};
    RefRun *run = ref_run(a, g, &in);
    CnncArgs args = make_args(a, g, l.model, l.model->infer, &in);
    run_function(l.model->infer, &args, aligned(a, l.model->infer->scratch_bytes));
    double scale = rms(run->value[g->output].data, out);
    for (int64_t i = 0; i < out; i++)
        near(c, "output", i, args.out[i], run->value[g->output].data[i], scale, 5e-5);
    jit_free(l.jit);
}

static bool machine(Arena *a, const char *name, Machine *m)
{
    const char *why = NULL;
    CpuTarget *t = NEW(a, CpuTarget);
    if (!target_find(a, NULL, name, t, &why))
        fail_msg("%s: %s", name, why);
    m->cpu = t;
    m->nest = (NestTarget){.lanes = t->lanes, .registers = t->registers, .l1 = t->l1, .l2 = t->l2};
    return t->lanes == 4 || (t->lanes == 8 ? __builtin_cpu_supports("avx2") : __builtin_cpu_supports("avx512f"));
}

static const char *const levels[] = {"x86-64", "x86-64-v3", "x86-64-v4"};

static void test_training(void **unused)
{
    (void)unused;
    for (size_t v = 0; v < ARRAY_LEN(levels); v++) {
        FILE *f = case_open();
        assert_non_null(f);
        static const int most[] = {8, 20, 1 << 20};   /* LLVM's time is the test's: fewer nets for the shorter vectors */
        int i = 0;
        for (bool more = true; more && i < most[v]; i++) {
            Arena *a = arena_new();
            Case *c = NEW(a, Case);
            Machine m;
            more = case_next(a, f, c);
            if (more && machine(a, levels[v], &m)) {
                if (v != 1)
                    check_step(a, c, &m, (int64_t)case_option(c, "batch", 1));
                if (v != 0 && i < most[1])
                    check_step(a, c, &m, 35);
            }
            arena_free(a);
        }
        fclose(f);
    }
}

/* Wide enough for Winograd in the forward pass and in data gradients: whole and cut tiles, weights that are transformed anew. */
static void test_wide_training(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w; } wide[] = {
        {"conv out=32 k=3 p=1; act ReLU; conv out=40 k=3 p=1; bn; act ReLU; maxpool k=2; conv out=32 k=3; flatten; linear out=4", 3, 14, 13},
        {"conv out=32 k=1; res{conv out=48 k=3 p=1; act SiLU; conv out=32 k=3 p=1}{}; act ReLU; aavg; flatten; linear out=4", 4, 16, 8},
        {"conv out=32 k=1; conv out=32 k=5 p=2; act ReLU; aavg; flatten; linear out=4", 3, 9, 7},
    };
    static const int64_t batches[] = {4, 19};
    for (size_t i = 0; i < ARRAY_LEN(wide) * ARRAY_LEN(batches); i++) {
        Arena *a = arena_new();
        Machine m;
        size_t w = i / ARRAY_LEN(batches);
        Case c = {.net = wide[w].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, wide[w].c, wide[w].h, wide[w].w)};
        if (machine(a, levels[i == 0 ? 1 : 2], &m))
            check_step(a, &c, &m, batches[i % ARRAY_LEN(batches)]);
        arena_free(a);
    }
}

static const struct { const char *net; int64_t c, h, w; } nets[] = {
    {"conv out=6 k=5 p=2; act ReLU; maxpool k=2; conv out=16 k=5; act ReLU; maxpool k=2; flatten; linear out=120; act ReLU; linear out=10", 1, 28, 28},
    {"conv out=20 k=5; act ReLU; maxpool k=2; flatten; linear out=7", 1, 20, 17},
    {"conv out=32 k=3 p=1; bn; act ReLU; conv out=32 k=3 p=1; bn; act ReLU; maxpool k=2; conv out=48 k=3 s=2 p=1; act ReLU; aavg; flatten; linear out=10", 3, 14, 15},
    {"conv out=32 k=3 p=1 s=2; conv out=32 k=3 p=1 g=32; act ReLU6; conv out=64 k=1; conv out=64 k=3 s=2 p=1 g=64; aavg h=2 w=3", 3, 17, 19},
    {"conv out=16 k=3 p=1; res{conv out=16 k=3 p=1; bn; act ReLU; conv out=16 k=3 p=1}{}; act ReLU; res{conv out=32 k=3 p=1 s=2}{conv out=32 k=1 s=2}; act ReLU; flatten; linear out=5", 3, 12, 12},
    {"conv out=16 k=3 p=1; cat{conv out=16 k=1}{conv out=8 k=3 p=1; conv out=24 k=3 p=1}{maxpool k=3 s=1 p=1}; act ReLU; avgpool k=3 s=2 p=1 ceil=1; flatten; linear out=3", 3, 9, 11},
    {"conv out=24 k=3 p=1 g=3; act GELU; conv out=10 k=3 d=2 p=2; act Tanh; amax h=3 w=5; softmax dim=1", 3, 13, 10},
    {"bn; conv out=5 k=7 p=3; act Mish; maxpool k=3 s=2 p=1 ceil=1; conv out=7 k=3 p=1; act Softplus; flatten; linear out=33; act ELU; linear out=4; logsoftmax dim=1", 2, 10, 9},
    {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1; act ReLU", 16, 20, 20},
};

/* Sizes that Winograd takes: strips of rows, whole images, both tile sizes, borders, residual sums, odd sizes. */
static const struct { const char *net; int64_t c, h, w; } winograd_nets[] = {
    {"conv out=32 k=3 p=1; act ReLU; conv out=32 k=3 p=1", 32, 16, 16},
    {"conv out=48 k=3 p=1; act ReLU; conv out=64 k=3; maxpool k=2; conv out=32 k=3 p=1", 32, 34, 31},
    {"conv out=32 k=1; res{conv out=64 k=3 p=1; bn; act ReLU; conv out=32 k=3 p=1; bn}{}; act ReLU; flatten; linear out=4", 8, 14, 15},
    {"conv out=64 k=3 p=1; act ReLU; conv out=32 k=3 p=1; act ReLU; aavg; flatten; linear out=4", 64, 7, 9},
    {"conv out=32 k=5 p=2; act ReLU; conv out=48 k=5 p=1; maxpool k=2; conv out=32 k=5 p=2; aavg; flatten; linear out=4", 32, 19, 14},
};

static void test_programs(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {1, 3};
    for (size_t v = 0; v < ARRAY_LEN(levels); v++)
        for (size_t i = 0; i < ARRAY_LEN(nets) + ARRAY_LEN(winograd_nets); i++)
            for (size_t b = v & 1; b < ARRAY_LEN(batches) - (v == 0); b++) {
                Arena *a = arena_new();
                Machine m;
                size_t j = i - ARRAY_LEN(nets);
                Case c = i < ARRAY_LEN(nets)
                             ? (Case){.net = nets[i].net, .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)}
                             : (Case){.net = winograd_nets[j].net, .input = shape_of(3, winograd_nets[j].c, winograd_nets[j].h, winograd_nets[j].w)};
                if (machine(a, levels[v], &m))
                    check_program(a, &c, &m, batches[b]);
                arena_free(a);
            }
}

static void test_inference(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {3, 37};
    for (size_t v = 1; v < ARRAY_LEN(levels); v++)
        for (size_t i = 0; i < ARRAY_LEN(nets); i++)
            for (size_t b = v & 1; b < ARRAY_LEN(batches); b++) {
                Arena *a = arena_new();
                Machine m;
                Case c = {.net = nets[i].net, .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
                if (machine(a, levels[v], &m))
                    check_infer(a, &c, &m, batches[b]);
                arena_free(a);
            }
}

/* The masks of compiled code are the reference's, in the gradient too. */
static void test_dropout(void **unused)
{
    (void)unused;
    static const char *const texts[] = {
        "conv out=3 k=3; act ReLU; dropout p=0.4; flatten; linear out=6; act GELU; dropout p=0.3; linear out=3",
        "bn; conv out=19 k=3 p=1; bn; maxpool k=2; act ReLU; dropout p=0.5; flatten; linear out=3",
        "flatten; dropout p=0.25; linear out=5; dropout p=0.5; act Tanh; linear out=2",
    };
    for (size_t v = 0; v < ARRAY_LEN(levels); v++)
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            for (int64_t batch = 5; batch < 40; batch += 30) {
                Arena *a = arena_new();
                Machine m;
                Case c = {.net = texts[i], .train = " optimizer=sgd lr=0.1 momentum=0.9", .input = shape_of(3, 2, 9, 7)};
                if (machine(a, levels[v], &m))
                    check_step(a, &c, &m, batch);
                arena_free(a);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wide_training), cmocka_unit_test(test_programs), cmocka_unit_test(test_training), cmocka_unit_test(test_inference), cmocka_unit_test(test_dropout)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
