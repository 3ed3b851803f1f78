/* Programs that only look: the evaluation graph (state) and the folded inference graph (constants) of every net in
 * tests/unit/data/train.txt as kernels against the reference interpreter on the same graph: every value that kernels store,
 * to 1e-9, fused and alone, with a full and a short batch. */
#include "tests/unit/train_cases.h"

#include "codegen/lower.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct { Arena *a; Graph *g; RefInputs in; RefRun *run; KernelList *l; const char *net; } Net;

static bool is_given(const Graph *g, ValueId v)
{
    Op op = graph_def(g, v)->op;
    return (op_flags(op) & OPF_LEAF) || op == OP_FOLD_WEIGHT || op == OP_FOLD_BIAS;
}

/* Inputs, state and folded weights get their values, all else NaN. */
static double **memory(const Net *t)
{
    const KernelList *l = t->l;
    double **mem = NEWN(t->a, double *, l->buffers.len);
    for (uint32_t i = 1; i < l->buffers.len; i++) {
        const Buffer *b = &l->buffers.at[i];
        int64_t n = buffer_elements(b);
        if (b->alias_of) {
            mem[i] = mem[b->alias_of];
            continue;
        }
        mem[i] = NEWN(t->a, double, n + 1);
        const double *from = b->data ? b->data : b->value && is_given(t->g, b->value) ? t->run->value[b->value].data : NULL;
        n = from && b->batched ? n / b->shape.dim[0] * t->in.n : n;
        for (int64_t j = 0; j < n; j++)
            mem[i][j] = from ? from[j] : NAN;
    }
    for (uint32_t i = 1; i < l->buffers.len; i++)   /* an alias may stand before its base */
        if (l->buffers.at[i].alias_of)
            mem[i] = mem[l->buffers.at[i].alias_of];
    return mem;
}

static int compare(const Net *t, double **mem)
{
    int compared = 0;
    for (ValueId v = 1; v < t->g->values.len; v++) {
        BufId b = t->l->buf_of_value[v];
        const RefTensor *want = &t->run->value[v];
        if (!b || is_given(t->g, v) || !want->data)
            continue;
        for (int64_t i = 0; i < shape_elements(&want->shape); i++) {
            if (fabs(mem[b][i] - want->data[i]) <= 1e-9 * (1 + fabs(want->data[i])))
                continue;
            kernels_print(t->l, stderr);
            fail_msg("%s, n %d: %s, element %d: kernels %.17g, reference %.17g", t->net, (int)t->in.n, t->l->buffers.at[b].name,
                     (int)i, mem[b][i], want->data[i]);
        }
        compared++;
    }
    return compared;
}

static void check(Net *t, const Fusion *f, ParamPlace params)
{
    const char *why = "?";
    int compared = 0;
    t->l = lower(t->a, t->g, f, params);
    if (getenv("SHOW_KERNELS"))
        kernels_print(t->l, stdout);
    if (!kernels_verify(t->l, &why))
        fail_msg("%s: %s", t->net, why);
    for (t->in.n = t->g->batch; t->in.n > 0 && t->in.n >= t->g->batch - 1; t->in.n--) {
        t->run = ref_run(t->a, t->g, &t->in);
        assert_null(t->run->error);
        double **mem = memory(t);
        kernels_interpret(t->l, mem, t->in.n, NULL);
        compared += compare(t, mem);
    }
    assert_true(compared > 0);
    for (uint32_t i = 1; i < t->l->buffers.len; i++)
        assert_false(params == PARAMS_CONST && t->l->buffers.at[i].kind == BUF_STATE);
}

static void net_case(const Case *c, bool folded)
{
    Net t = {.a = arena_new(), .net = c->net};
    Graph *g = net_build(t.a, c->net, (int64_t)case_option(c, "batch", 1), c->input);
    t.g = simplify(t.a, folded ? bn_fold(t.a, g) : eval_graph(t.a, g));
    int64_t n = t.g->batch * shape_elements(&t.g->input_shape);
    double *x = NEWN(t.a, double, n);
    net_fill("input0", x, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = 2 * x[i] - 1;
    t.in = (RefInputs){.input = x, .param_of_value = (const double *const *)state_start(t.a, t.g)};
    Fusion fused = fuse(t.a, t.g), alone = fuse_none(t.a, t.g);
    check(&t, &fused, folded ? PARAMS_CONST : PARAMS_IN_STATE);
    check(&t, &alone, folded ? PARAMS_CONST : PARAMS_IN_STATE);
    arena_free(t.a);
}

static void test_nets(void **state)
{
    (void)state;
    FILE *f = case_open();
    assert_non_null(f);
    Arena *a = arena_new();
    Case c;
    int nets = 0;
    for (; case_next(a, f, &c); nets++)
        for (int folded = 0; folded < 2; folded++)
            net_case(&c, folded);
    assert_true(nets >= 20);
    fclose(f);
    arena_free(a);
    (void)case_spec;
    (void)step_inputs;
    (void)state_advance;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
