/* Whole nets through the passes and lower: the training step, the evaluation graph and the folded inference graph of every
 * net in tests/unit/data/train.txt, interpreted as kernels, against the reference interpreter on the same graph: every value
 * that kernels store, to 1e-9; with a full and a short batch. */
#include "tests/unit/nets.h"

#include "codegen/lower.h"
#include "ir/ref/ref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef enum { MODE_STEP, MODE_PLAIN, MODE_EVAL, MODE_INFER, MODE_COUNT } Mode;
static const char *const mode_names[MODE_COUNT] = {"step", "step, not fused", "eval", "infer"};
typedef struct { Arena *a; Graph *g; RefInputs in; RefRun *run; KernelList *l; const char *net; Mode mode; } Case;

static TrainSpec spec_of(const char *t)
{
    TrainSpec s = {.present = true};
    CnncTrain *c = &s.train;
    c->optimizer = strstr(t, "opt=adamw") ? CNNC_OPT_ADAMW : strstr(t, "opt=adam") ? CNNC_OPT_ADAM
                 : strstr(t, "opt=rmsprop") ? CNNC_OPT_RMSPROP : CNNC_OPT_SGD;
    c->loss = strstr(t, "loss=mse") != NULL;
    c->data = net_number(t, "targets", 0) != 0 ? CNNC_DATA_NPY : CNNC_DATA_NONE;
    c->smoothing = net_number(t, "smoothing", 0);
    c->lr = net_number(t, "lr", 0);
    c->momentum = net_number(t, "momentum", 0);
    c->dampening = net_number(t, "damp", 0);
    c->nesterov = net_number(t, "nesterov", 0) != 0;
    c->centered = net_number(t, "centered", 0) != 0;
    c->weight_decay = net_number(t, "wd", 0);
    c->beta1 = 0.9;
    c->beta2 = 0.999;
    c->eps = 1e-8;
    c->alpha = 0.99;
    return s;
}

static Graph *graph_of(Case *c, const char *input, const char *train)
{
    int64_t dim[MAX_RANK];
    int rank = 0;
    for (char *p = (char *)input; *p; p += strspn(p, " "))
        dim[rank++] = strtoll(p, &p, 10);
    TrainSpec spec = spec_of(train);
    Diags d;
    diags_init(&d, c->a, NULL);
    Graph *g = simplify(c->a, net_build(c->a, c->net, (int64_t)net_number(train, "batch", 1), shape_from(rank, dim)));
    switch (c->mode) {
    case MODE_EVAL: return simplify(c->a, eval_graph(c->a, g));
    case MODE_INFER: return simplify(c->a, bn_fold(c->a, g));
    default: return simplify(c->a, train_step(c->a, g, &spec, &d));
    }
}

static double *numbers(Case *c, const char *name, int64_t n)
{
    double *x = NEWN(c->a, double, n + 1);
    net_fill(name, x, n);
    return x;
}

static void fill_inputs(Case *c)
{
    Graph *g = c->g;
    static const double scalars[CNNC_SC_COUNT] = {[CNNC_SC_LR] = 0.1, [CNNC_SC_MOMENTUM] = 0.9, [CNNC_SC_BIAS1] = 0.19,
                                                  [CNNC_SC_BIAS2] = 0.002, [CNNC_SC_FIRST] = 0, [CNNC_SC_SEED] = 4000000007.0};
    double *x = numbers(c, "x", g->batch * shape_elements(&g->input_shape));
    for (int64_t i = 0; i < g->batch * shape_elements(&g->input_shape); i++)
        x[i] = 2 * x[i] - 1;
    c->in = (RefInputs){.input = x, .scalars = scalars, .n_scalars = CNNC_SC_COUNT};
    if (g->labels) {
        const Value *v = graph_value(g, g->labels);
        int64_t n = shape_elements(&v->shape), classes = graph_value(g, g->output)->shape.dim[1];
        double *y = numbers(c, "y", n);
        for (int64_t i = 0; i < n; i++)
            y[i] = v->dtype == DT_I32 ? floor(y[i] * (double)classes) : y[i] - 0.5;
        c->in.labels = y;
    }
    const double **params = NEWN(c->a, const double *, g->values.len);
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Value *v = graph_value(g, node_out(g, n, 0));
        if (graph_node(g, n)->op != OP_PARAM)
            continue;
        double *p = NEWN(c->a, double, shape_elements(&v->shape) + 1);
        net_init(v->name, &v->shape, p);
        for (int64_t i = 0; strncmp(v->name, "optimizer.", 10) == 0 && i < shape_elements(&v->shape); i++)
            p[i] = 0.5 + 0.01 * (double)(i % 7);   /* centered RMSprop needs mean^2 below the mean square */
        if (strstr(v->name, "grad_avg"))
            memset(p, 0, sizeof *p * (size_t)shape_elements(&v->shape));
        params[node_out(g, n, 0)] = p;
    }
    c->in.param_of_value = params;
}

static bool is_given(const Case *c, ValueId v)
{
    Op op = graph_def(c->g, v)->op;
    return (op_flags(op) & OPF_LEAF) || op == OP_FOLD_WEIGHT || op == OP_FOLD_BIAS;
}

static double **memory(Case *c)
{
    const KernelList *l = c->l;
    double **mem = NEWN(c->a, double *, l->buffers.len);
    for (uint32_t i = 1; i < l->buffers.len; i++) {
        const Buffer *b = &l->buffers.at[i];
        int64_t n = buffer_elements(b);
        mem[i] = NEWN(c->a, double, n + 1);
        const double *from = b->data ? b->data : b->value && is_given(c, b->value) ? c->run->value[b->value].data : NULL;
        if (from && b->batched)
            n = n / b->shape.dim[0] * c->in.n;
        for (int64_t j = 0; j < n; j++)
            mem[i][j] = from ? from[j] : NAN;
    }
    for (uint32_t i = 1; i < l->buffers.len; i++)
        if (l->buffers.at[i].alias_of || l->buffers.at[i].updates)
            mem[i] = mem[l->buffers.at[i].alias_of ? l->buffers.at[i].alias_of : l->buffers.at[i].updates];
    return mem;
}

static int compare(const Case *c, double **mem)
{
    int compared = 0;
    for (ValueId v = 1; v < c->g->values.len; v++) {
        BufId b = c->l->buf_of_value[v];
        const RefTensor *want = &c->run->value[v];
        if (!b || is_given(c, v) || !want->data)
            continue;
        for (int64_t i = 0; i < shape_elements(&want->shape); i++) {
            if (fabs(mem[b][i] - want->data[i]) <= 1e-9 * (1 + fabs(want->data[i])))
                continue;
            kernels_print(c->l, stderr);
            fail_msg("%s (%s, n %d): %s, element %d: kernels %.17g, reference %.17g", c->net, mode_names[c->mode], (int)c->in.n,
                     c->l->buffers.at[b].name, (int)i, mem[b][i], want->data[i]);
        }
        compared++;
    }
    return compared;
}

static void net_case(const char *net, const char *input, const char *train, Mode mode)
{
    Case c = {.a = arena_new(), .net = net, .mode = mode};
    const char *why = "?";
    c.g = graph_of(&c, input, train);
    if (!graph_verify(c.g, &why))
        fail_msg("%s: %s", net, why);
    Fusion f = mode == MODE_PLAIN ? fuse_none(c.a, c.g) : fuse(c.a, c.g);
    c.l = lower(c.a, c.g, &f, mode == MODE_INFER ? PARAMS_CONST : PARAMS_IN_STATE);
    if (getenv("SHOW_KERNELS"))
        kernels_print(c.l, stdout);
    if (!kernels_verify(c.l, &why))
        fail_msg("%s (%s): %s", net, mode_names[mode], why);
    fill_inputs(&c);
    int compared = 0;
    for (int64_t n = c.g->batch; n > 0 && n >= c.g->batch - 1; n--) {
        c.in.n = n;
        c.run = ref_run(c.a, c.g, &c.in);
        assert_null(c.run->error);
        double **mem = memory(&c);
        kernels_interpret(c.l, mem, n, c.in.scalars);
        compared += compare(&c, mem);
    }
    assert_true(compared > 0);
    arena_free(c.a);
}

static void test_nets(void **state)
{
    (void)state;
    FILE *f = fopen("tests/unit/data/train.txt", "r");
    char *line = NULL;
    size_t room = 0;
    int nets = 0;
    Arena *a = arena_new();
    const char *net = NULL, *input = NULL;
    assert_non_null(f);
    while (getline(&line, &room, f) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "net ", 4) == 0)
            net = arena_strdup(a, line + 4);
        else if (strncmp(line, "input ", 6) == 0)
            input = arena_strdup(a, line + 6);
        else if (strncmp(line, "train ", 6) == 0 && ++nets)
            for (int mode = 0; mode < MODE_COUNT; mode++)
                net_case(net, input, line, (Mode)mode);
    }
    assert_true(nets >= 20);
    free(line);
    fclose(f);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
