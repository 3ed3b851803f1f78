/* Checks of compiled code against the reference interpreter, for the tests of every target: whole training steps, evaluation
 * and inference programs of one net. Loss, next state and outputs must agree to float32 rounding. The target is a small table
 * of functions that load and run a Program. Everything lives in the arena given. */
#ifndef CNNC_TESTS_EMIT_CHECKS_H
#define CNNC_TESTS_EMIT_CHECKS_H
#include "tests/unit/train_cases.h"

#include "codegen/compile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct EmitTarget {
    CompileOptions options;
    /* Loads what compile_* made with these options and says by which tables it runs; run calls its only function. */
    void *(*load)(Arena *a, Program *p, const struct EmitTarget *t, const char *net, const CnncModel **model);
    void (*run)(void *loaded, const CnncArgs *args);
    void (*unload)(void *loaded);
    const void *ctx;
    double looser;           /* times float32's tolerance; 0: 1 */
    double mean;             /* added to the bias of the first layer: what it makes is far from 0 */
} EmitTarget;

static inline double tolerance_of(const EmitTarget *t, double float32) { return t->looser > 0 ? t->looser * float32 : float32; }

static inline char *aligned(Arena *a, int64_t bytes)
{
    char *p = arena_alloc(a, (size_t)bytes + 128);
    return p + (64 - (uintptr_t)p % 64) % 64;
}

static inline double tensor_get(const CnncTensor *t, const char *state, int64_t i)
{
    if (t->dtype == CNNC_I64)
        return (double)((const int64_t *)(const void *)(state + t->offset))[i];
    return (double)((const float *)(const void *)(state + t->offset))[i];
}

static inline void tensor_put(const CnncTensor *t, char *state, int64_t i, double v)
{
    if (t->dtype == CNNC_I64)
        ((int64_t *)(void *)(state + t->offset))[i] = (int64_t)v;
    else
        ((float *)(void *)(state + t->offset))[i] = (float)v;
}

static inline int64_t tensor_count(const CnncTensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++)
        n *= t->shape[d];
    return n;
}

static inline const CnncTensor *tensor_named(const CnncModel *m, const char *name)
{
    for (int i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensors[i].name, name) == 0)
            return &m->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void write_state(const Graph *g, const CnncModel *m, char *state, double **values)
{
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (graph_node(g, n)->op == OP_PARAM) {
            ValueId v = graph_node(g, n)->out[0];
            const CnncTensor *t = tensor_named(m, graph_value(g, v)->name);
            for (int64_t i = 0; i < tensor_count(t); i++)
                tensor_put(t, state, i, values[v][i]);
        }
}

static inline void near(const Case *c, const char *what, int64_t i, double got, double want, double scale, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (scale + fabs(want)) + 5e-6))   /* sums of terms near 1 that cancel */
        fail_msg("%s [%s]: %s[%lld] is %.9g, the reference says %.9g", c->net, c->train ? c->train : "inference", what, (long long)i, got, want);
}

static inline double rms(const double *v, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += v[i] * v[i];
    return n ? sqrt(s / (double)n) : 0;
}

static inline CnncArgs make_args(Arena *a, const Graph *g, const CnncModel *m, const CnncFunction *f, const RefInputs *in)
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
static inline bool no_true_gradient(const Case *c, const TrainSpec *s, const char *name)
{
    bool divides = s->train.optimizer != CNNC_OPT_SGD || strncmp(name, "optimizer.", 10) == 0;
    return divides && strstr(c->net, "bn") && strstr(name, ".bias");
}

static inline void shift_first_bias(const Graph *g, double **state, double by)
{
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Value *v = graph_value(g, graph_node(g, n)->out[0]);
        if (graph_node(g, n)->op != OP_PARAM || !strstr(v->name, ".bias"))
            continue;
        for (int64_t i = 0; i < shape_elements(&v->shape); i++)
            state[graph_node(g, n)->out[0]][i] += by;
        return;
    }
}

/* `steps` steps of the training graph g, one at a time from the reference's state, so that errors do not add up. */
static inline void check_steps_of(Arena *a, const Case *c, const TrainSpec *spec, Graph *g, const EmitTarget *target, int steps)
{
    Fusion f = fuse(a, g);
    const CnncModel *model = NULL;
    CompileOptions o = target->options;
    void *loaded = target->load(a, compile_graph(a, g, &f, &o), target, c->net, &model);
    double **state = state_start(a, g);
    shift_first_bias(g, state, target->mean);
    char *bytes = aligned(a, model->state_bytes);
    for (int k = 0; k < steps; k++) {
        RefInputs in = step_inputs(a, g, &spec->train, state, k);
        RefRun *run = ref_run(a, g, &in);
        if (run->error)
            fail_msg("%s: %s", c->net, run->error);
        CnncArgs args = make_args(a, g, model, model->step, &in);
        args.state = bytes;
        write_state(g, model, bytes, state);
        target->run(loaded, &args);
        near(c, "loss", 0, args.results[CNNC_RES_LOSS], run->value[g->loss].data[0], 1e-3, tolerance_of(target, 2e-4));
        for (uint32_t i = 0; i < g->updates.len; i++) {
            const RefTensor *want = &run->value[g->updates.at[i].next];
            const char *name = graph_value(g, g->updates.at[i].old)->name;
            const CnncTensor *t = tensor_named(model, name);
            if (no_true_gradient(c, spec, name))
                continue;
            double scale = rms(want->data, tensor_count(t));
            for (int64_t e = 0; e < tensor_count(t); e++)
                near(c, name, e, tensor_get(t, bytes, e), want->data[e], scale,
                     tolerance_of(target, spec->train.optimizer == CNNC_OPT_SGD ? 5e-4 : 2e-2));
        }
        state_advance(g, state, run);
    }
    target->unload(loaded);
}

static inline void check_step(Arena *a, const Case *c, const EmitTarget *target, int64_t batch)
{
    TrainSpec spec = case_spec(c);
    check_steps_of(a, c, &spec, case_step(a, c, batch), target, 3);
}

/* Outputs of model->infer, loaded, beside the reference's, on one sample less than the batch of g. in_state: it reads its parameters there. */
static inline void check_outputs(Arena *a, const Case *c, const Graph *g, double **state, const CnncModel *model, void *loaded, bool in_state, const EmitTarget *target,
                                 double tolerance)
{
    int64_t batch = g->batch, n = batch > 1 ? batch - 1 : 1, per = shape_elements(&g->input_shape);
    int64_t out = shape_elements(&graph_value(g, g->output)->shape) / batch * n;
    double *x = NEWN(a, double, n * per);
    net_fill("input", x, n * per);
    for (int64_t i = 0; i < n * per; i++)
        x[i] = (float)(2 * x[i] - 1);
    RefInputs in = {.n = n, .input = x, .param_of_value = (const double *const *)state};
    RefRun *run = ref_run(a, g, &in);
    CnncArgs args = make_args(a, g, model, model->infer, &in);
    if (in_state) {
        args.state = aligned(a, model->state_bytes);
        write_state(g, model, args.state, state);
    }
    target->run(loaded, &args);
    double scale = rms(run->value[g->output].data, out);
    for (int64_t i = 0; i < out; i++)
        near(c, "output", i, args.out[i], run->value[g->output].data[i], scale, tolerance_of(target, tolerance));
    target->unload(loaded);
}

/* The evaluation graph g, on one sample less than its batch. */
static inline void check_eval_of(Arena *a, const Case *c, Graph *g, const EmitTarget *target)
{
    Fusion f = fuse(a, g);
    const CnncModel *model = NULL;
    CompileOptions o = target->options;
    void *loaded = target->load(a, compile_graph(a, g, &f, &o), target, c->net, &model);
    double **state = state_start(a, g);
    check_outputs(a, c, g, state, model, loaded, true, target, 1e-4);
}

static inline void check_infer(Arena *a, const Case *c, const EmitTarget *target, int64_t batch)
{
    check_eval_of(a, c, simplify(a, eval_graph(a, net_build(a, c->net, batch, c->input))), target);
}

/* An inference program: folded constants, layouts and algorithms as `choose` and `winograd` pick them. */
static inline const Program *check_program(Arena *a, const Case *c, const EmitTarget *target, int64_t batch)
{
    Graph *g = net_build(a, c->net, batch, c->input);
    double **state = state_start(a, g);
    Diags d;
    diags_init(&d, a, NULL);
    Module module = {.graph = g};
    PassContext pc = {.arena = a, .diags = &d, .module = &module};
    CompileOptions o = target->options;
    RefNamed *w = NEWN(a, RefNamed, g->nodes.len);
    int n_w = 0;
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (graph_node(g, n)->op == OP_PARAM) {
            const Value *v = graph_value(g, graph_node(g, n)->out[0]);
            w[n_w++] = (RefNamed){v->name, state[graph_node(g, n)->out[0]], shape_elements(&v->shape), NULL};
        }
    Program *p = compile_inference(a, &pc, w, n_w, &o);
    if (!p)
        fail_msg("%s: not compiled", c->net);
    const CnncModel *model = NULL;
    void *loaded = target->load(a, p, target, c->net, &model);
    check_outputs(a, c, g, state, model, loaded, false, target, 5e-5);
    return p;
}

static const struct { const char *net; int64_t c, h, w; } emit_nets[] = {
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

#endif
