/* The reference interpreter against PyTorch's float64 results, row by row of ir/ops.def, and dropout's statistics. */
#include "tests/unit/op_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* PyTorch's numbers are stored with 11 digits. */
static int compare(const OpCase *k, int index, const RefTensor *got)
{
    const RefTensor *want = &k->out[index];
    double scale = 1e-3;
    for (int64_t i = 0; i < shape_elements(&want->shape); i++)
        if (isfinite(want->data[i]) && fabs(want->data[i]) > scale)
            scale = fabs(want->data[i]);
    for (int64_t i = 0; i < shape_elements(&want->shape); i++) {
        double a = want->data[i], b = got->data[i];
        if (a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-9 * scale)
            continue;
        print_error("%s (%s): output %d[%lld] is %.12g, expected %.12g\n", k->name, op_text(k->op), index, (long long)i, b, a);
        return 1;
    }
    return 0;
}

static int run_case(Arena *a, const OpCase *k)
{
    Graph *g = graph_new(a, "case", 1);
    NodeId n = case_graph(k, g);
    const char *why;
    if (!graph_verify(g, &why)) {
        print_error("%s: %s\n", k->name, why);
        return 1;
    }
    RefTensor *value = NEWN(a, RefTensor, g->values.len);
    for (int i = 0; i < k->n_in; i++)
        if (graph_node(g, n)->in[i])
            value[graph_node(g, n)->in[i]] = k->in[i];
    ref_run_node(a, g, n, 1, value);
    int bad = 0;
    for (int i = 0; i < k->n_out; i++)
        bad += k->out[i].data ? compare(k, i, &value[node_out(g, n, i)]) : 0;
    return bad != 0;
}

static void agrees_with_pytorch(void **state)
{
    (void)state;
    int bad = 0, count = 0;
    for (size_t f = 0; f < ARRAY_LEN(op_case_files); f++) {
        Arena *a = arena_new();
        OpCases c = cases_open(a, op_case_files[f]);
        for (OpCase k; cases_next(&c, &k); count++)
            bad += run_case(a, &k);
        cases_close(&c);
        arena_free(a);
    }
    print_message("%d cases\n", count);
    assert_true(count > 300);
    assert_int_equal(bad, 0);
}

static void every_row_has_a_golden(void **state)
{
    (void)state;
    bool seen[OP_COUNT] = {false}, act_seen[ACT_COUNT] = {false}, act_dx_seen[ACT_COUNT] = {false};
    Arena *a = arena_new();
    for (size_t f = 0; f < ARRAY_LEN(op_case_files); f++) {
        OpCases c = cases_open(a, op_case_files[f]);
        for (OpCase k; cases_next(&c, &k);) {
            seen[k.op] = true;
            if (k.op == OP_ACT)
                act_seen[k.attrs.act.kind] = true;
            if (k.op == OP_ACT_DX)
                act_dx_seen[k.attrs.act.kind] = true;
        }
        cases_close(&c);
    }
    int bad = 0;
    for (Op op = 0; op < OP_COUNT; op++)
        if (!seen[op] && !(op_flags(op) & OPF_LEAF)) {
            print_error("no case for %s in tests/golden/ops\n", op_text(op));
            bad++;
        }
    for (ActKind k = 0; k < ACT_COUNT; k++)
        if (!act_seen[k] || !act_dx_seen[k]) {
            print_error("no case for the activation %s\n", act_text(k));
            bad++;
        }
    arena_free(a);
    assert_int_equal(bad, 0);
}

/* A net of one dropout over [n, 8, 16] ones with the given seed; returns its output. */
static RefTensor dropped(Arena *a, int64_t n, bool channels, double seed, uint32_t stream)
{
    Graph *g = graph_new(a, "d", 64);
    Shape shape = shape_of(3, 64, 8, 16);
    ValueId x = node_out(g, graph_add_node(g, OP_INPUT, NULL, 0, NULL, -1, (Span){0}), 0);
    ValueId s = node_out(g, graph_add_node(g, OP_SCALAR, NULL, 0, &(Attrs){.axis = {0}}, -1, (Span){0}), 0);
    Attrs attrs = {.dropout = {.p = 0.25, .stream = stream, .channels = channels}};
    ValueId y = node_out(g, graph_add_node(g, OP_DROPOUT, (ValueId[]){x, s}, 2, &attrs, -1, (Span){0}), 0);
    for (ValueId v = x; v <= y; v++)
        graph_value(g, v)->known = true;
    graph_value(g, x)->shape = graph_value(g, y)->shape = shape;
    graph_value(g, x)->batched = graph_value(g, y)->batched = true;
    g->input = x;
    g->output = y;
    double *ones = NEWN(a, double, shape_elements(&shape));
    for (int64_t i = 0; i < shape_elements(&shape); i++)
        ones[i] = 1;
    const char *why;
    assert_true(graph_verify(g, &why));
    RefRun *run = ref_run(a, g, &(RefInputs){.n = n, .input = ones, .scalars = &seed, .n_scalars = 1});
    assert_null(run->error);
    assert_int_equal(run->value[y].shape.dim[0], n);
    return run->value[y];
}

static void dropout_drops_the_right_share(void **state)
{
    (void)state;
    Arena *a = arena_new();
    RefTensor t = dropped(a, 64, false, 7, 0), other = dropped(a, 64, false, 8, 0), stream = dropped(a, 64, false, 7, 1);
    int64_t n = shape_elements(&t.shape), zero = 0, same = 0, same_stream = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(t.data[i] == 0 || fabs(t.data[i] - 1 / 0.75) < 1e-15);
        zero += t.data[i] == 0;
        same += t.data[i] == 0 && other.data[i] == 0;
        same_stream += t.data[i] == 0 && stream.data[i] == 0;
    }
    double sigma = sqrt(0.25 * 0.75 * (double)n), sigma2 = sqrt(0.0625 * (double)n);
    assert_true(fabs((double)zero - 0.25 * (double)n) < 4 * sigma);
    assert_true(fabs((double)same - 0.0625 * (double)n) < 4 * sigma2);
    assert_true(fabs((double)same_stream - 0.0625 * (double)n) < 4 * sigma2);
    /* A sample's mask does not depend on how many samples there are. */
    RefTensor few = dropped(a, 3, false, 7, 0);
    assert_memory_equal(few.data, t.data, sizeof(double) * (size_t)shape_elements(&few.shape));
    arena_free(a);
}

static void dropout2d_drops_whole_channels(void **state)
{
    (void)state;
    Arena *a = arena_new();
    RefTensor t = dropped(a, 64, true, 3, 2);
    int zero = 0;
    for (int c = 0; c < 64 * 8; c++) {
        for (int i = 1; i < 16; i++)
            assert_true(t.data[c * 16 + i] == t.data[c * 16]);
        zero += t.data[c * 16] == 0;
    }
    assert_in_range(zero, 128 - 40, 128 + 40);
    arena_free(a);
}

static void missing_values_are_told(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Graph *g = graph_new(a, "m", 1);
    Shape shape = shape_of(1, 3);
    ValueId p = graph_add_param(g, "0.weight", &(ParamAttrs){.init = INIT_ZEROS}, &shape, -1, (Span){0});
    ValueId q = graph_add_param(g, "1.weight", &(ParamAttrs){.init = INIT_ZEROS}, &shape, -1, (Span){0});
    double three[3] = {1, 2, 3};
    RefNamed named[] = {{"0.weight", three, 3, NULL}, {"1.weight", three, 2, NULL}};
    RefRun *run = ref_run(a, g, &(RefInputs){.n = 1, .params = named, .n_params = 1});
    assert_string_equal(run->error, "no values for \"1.weight\"");
    run = ref_run(a, g, &(RefInputs){.n = 1, .params = named, .n_params = 2});
    assert_string_equal(run->error, "\"1.weight\" has 2 elements, 3 expected");
    run = ref_run(a, g, &(RefInputs){.n = 1, .params = named, .n_params = 2, .want = &p, .n_want = 1});
    assert_null(run->error);
    assert_true(run->value[p].data[2] == 3);
    assert_null(run->value[q].data);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_pytorch),           cmocka_unit_test(every_row_has_a_golden),
        cmocka_unit_test(dropout_drops_the_right_share), cmocka_unit_test(dropout2d_drops_whole_channels),
        cmocka_unit_test(missing_values_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
