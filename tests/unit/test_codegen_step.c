/* Whole training steps as kernels: for every net of tests/unit/data/train.txt, the kernels of the step, interpreted, leave
 * the same state as the reference interpreter's, with groups fused and with every node alone. Updates happen in place, so
 * this also holds the order of kernels against readers of old values. */
#include "tests/unit/train_cases.h"

#include "codegen/lower.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void fill_buffer(double *m, const Buffer *b, const Graph *g, const RefInputs *in, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        m[i] = b->data ? b->data[i] : NAN;
    Op op = b->value ? graph_def(g, b->value)->op : OP_COUNT;
    const double *from = op == OP_INPUT ? in->input : op == OP_LABELS ? in->labels : op == OP_PARAM ? in->param_of_value[b->value] : NULL;
    int64_t n = shape_elements(&b->shape);
    if (from)
        memcpy(m, from, sizeof *m * (size_t)(b->batched ? n / b->shape.dim[0] * in->n : n));
}

/* Runs the kernels; returns storage by BufId. */
static double **run_kernels(Arena *a, const KernelList *l, const RefInputs *in)
{
    double **mem = NEWN(a, double *, l->buffers.len);
    for (uint32_t i = 1; i < l->buffers.len; i++) {
        const Buffer *b = &l->buffers.at[i];
        if (b->alias_of || b->updates)
            continue;
        mem[i] = NEWN(a, double, buffer_elements(b) + 1);
        fill_buffer(mem[i], b, l->graph, in, buffer_elements(b));
        if (b->kind == BUF_SCALAR)
            mem[i][0] = in->scalars[b->index];
    }
    for (uint32_t i = 1; i < l->buffers.len; i++)
        if (!mem[i])
            mem[i] = mem[l->buffers.at[i].alias_of ? l->buffers.at[i].alias_of : l->buffers.at[i].updates];
    kernels_interpret(l, mem, in->n, in->scalars);
    return mem;
}

static void compare(const Case *c, const KernelList *l, double **mem, const RefRun *run, ValueId v)
{
    const RefTensor *want = &run->value[v];
    BufId b = l->buf_of_value[v];
    if (!b)
        fail_msg("%s: no buffer for %%%u", c->net, (unsigned)v);
    for (int64_t i = 0; i < shape_elements(&want->shape); i++)
        if (!(fabs(mem[b][i] - want->data[i]) <= 1e-9 * (1 + fabs(want->data[i]))))
            fail_msg("%s: %%%u (%s)[%lld] is %.12g from kernels, %.12g from the reference", c->net, (unsigned)v,
                     op_text(graph_def(l->graph, v)->op), (long long)i, mem[b][i], want->data[i]);
}

static void check_kernels(Arena *a, const Case *c, const Graph *g, const Fusion *f, const RefInputs *in, const RefRun *run)
{
    KernelList *l = lower(a, g, f, PARAMS_IN_STATE);
    const char *why = NULL;
    if (!kernels_verify(l, &why))
        fail_msg("%s: %s", c->net, why);
    double **mem = run_kernels(a, l, in);
    compare(c, l, mem, run, g->loss);
    for (uint32_t i = 0; i < g->updates.len; i++)
        compare(c, l, mem, run, g->updates.at[i].next);
}

/* The value of the state tensor of that name. */
static ValueId param_named(const Graph *g, const char *name)
{
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (graph_node(g, n)->op == OP_PARAM && strcmp(graph_value(g, node_out(g, n, 0))->name, name) == 0)
            return node_out(g, n, 0);
    fail_msg("no state tensor is named %s", name);
    return 0;
}

/* With values made again: the step's numbers, bit for bit, and kernels that give them. */
static void check_recomputed(Arena *a, const Case *c, const Graph *g, RecomputeWhat what, const RefInputs *in, const RefRun *want)
{
    Graph *again = recompute(a, g, what);
    const char *why = NULL;
    if (!graph_verify(again, &why))
        fail_msg("%s: %s", c->net, why);
    const double **params = NEWN(a, const double *, again->values.len);
    for (NodeId n = 1; n < again->nodes.len; n++)
        if (graph_node(again, n)->op == OP_PARAM)
            params[node_out(again, n, 0)] = in->param_of_value[param_named(g, graph_value(again, node_out(again, n, 0))->name)];
    RefInputs same = *in;
    same.param_of_value = params;
    RefRun *run = ref_run(a, again, &same);
    if (run->error)
        fail_msg("%s: %s", c->net, run->error);
    for (uint32_t i = 0; i < g->updates.len; i++) {
        const RefTensor *x = &want->value[g->updates.at[i].next], *y = &run->value[again->updates.at[i].next];
        if (memcmp(x->data, y->data, sizeof *x->data * (size_t)shape_elements(&x->shape)) != 0)
            fail_msg("%s: %%%u differs when values are made again", c->net, (unsigned)g->updates.at[i].next);
    }
    Fusion fused = fuse(a, again), alone = fuse_none(a, again);
    check_kernels(a, c, again, &fused, &same, run);
    check_kernels(a, c, again, &alone, &same, run);
}

static void check_case(Arena *a, const Case *c)
{
    TrainSpec spec = case_spec(c);
    Graph *g = case_step(a, c, (int64_t)case_option(c, "batch", 1));
    Fusion fused = fuse(a, g), alone = fuse_none(a, g);
    double **state = state_start(a, g);
    for (int k = 0; k < 3; k++) {
        RefInputs in = step_inputs(a, g, &spec.train, state, k);
        RefRun *run = ref_run(a, g, &in);
        if (run->error)
            fail_msg("%s: %s", c->net, run->error);
        check_kernels(a, c, g, &fused, &in, run);
        check_kernels(a, c, g, &alone, &in, run);
        check_recomputed(a, c, g, RECOMPUTE_CHEAP, &in, run);
        check_recomputed(a, c, g, RECOMPUTE_MOST, &in, run);
        state_advance(g, state, run);
    }
}

static void test_steps(void **unused)
{
    (void)unused;
    FILE *f = case_open();
    assert_non_null(f);
    int cases = 0;
    for (;; cases++) {
        Arena *a = arena_new();
        Case *c = NEW(a, Case);
        bool more = case_next(a, f, c);
        if (more)
            check_case(a, c);
        arena_free(a);
        if (!more)
            break;
    }
    fclose(f);
    assert_true(cases >= 80);
}

/* Nets that PyTorch's file cannot hold (random masks), and shapes of groups that fuse must get right. */
static void test_more_nets(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h; } nets[] = {
        {"conv out=3 k=3; act ReLU; dropout p=0.4; flatten; linear out=6; act GELU; dropout p=0.3; linear out=3", 2, 6},
        {"bn; conv out=3 k=3 p=1; bn; maxpool k=2; act ReLU; dropout p=0.5; flatten; linear out=3", 2, 6},
        {"res{conv out=2 k=3 p=1; act SiLU; conv out=2 k=1}{conv out=2 k=1; bn}; act ReLU; flatten; linear out=3", 2, 4},
        {"conv out=2 k=1; res{res{conv out=2 k=1}{conv out=2 k=3 p=1}; act ReLU}; bn; avgpool k=2; flatten; linear out=3", 1, 4},
        {"conv out=4 k=1; cat{act ReLU}{glu}{conv out=2 k=1; bn; act ReLU6}; maxpool k=2 s=1; flatten; linear out=3", 1, 4},
        {"conv out=2 k=3 p=1; act PReLU; maxpool k=2; act GELU; maxpool k=2; flatten; linear out=3", 1, 9},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        Case c = {.net = nets[i].net, .train = "train batch=4 opt=sgd lr=0.1 momentum=0.9 wd=0.01",
                  .input = shape_of(3, nets[i].c, nets[i].h, nets[i].h)};
        check_case(a, &c);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_more_nets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
