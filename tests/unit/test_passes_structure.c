/* What bn_fold, simplify, train_step and fuse make of small nets: the ops left, in order, and the groups; and that values
 * stay the same (by the reference interpreter). */
#include "tests/unit/nets.h"

#include "ir/ref/ref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The ops of g without leaves: "conv act maxpool". */
static const char *ops_text(Arena *a, const Graph *g)
{
    const char *text = "";
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (!(op_flags(graph_node(g, n)->op) & OPF_LEAF))
            text = arena_printf(a, "%s%s%s", text, *text ? " " : "", op_text(graph_node(g, n)->op));
    return text;
}

/* The groups in the order they run, anchors starred: "conv* act | linear*". */
static const char *groups_text(Arena *a, const Graph *g)
{
    Fusion f = fuse(a, g);
    const char *text = "";
    for (NodeId root = 1; root < g->nodes.len; root++) {
        if (f.root[root] != root)
            continue;
        text = *text ? arena_printf(a, "%s | ", text) : text;
        const char *between = "";
        for (NodeId n = 1; n <= root; n++)
            if (f.root[n] == root) {
                text = arena_printf(a, "%s%s%s%s", text, between, op_text(graph_node(g, n)->op), n == f.anchor[root] ? "*" : "");
                between = " ";
            }
    }
    return text;
}

static Graph *checked(Graph *g)
{
    const char *why = NULL;
    assert_non_null(g);
    if (!graph_verify(g, &why))
        fail_msg("%s", why);
    return g;
}

static Graph *build(Arena *a, const char *net, int64_t c, int64_t h)
{
    return net_build(a, net, 3, h ? shape_of(3, c, h, h) : shape_of(1, c));
}

static Graph *training_graph(Arena *a, const char *net, int64_t c, int64_t h)
{
    TrainSpec spec = {.train = {.optimizer = CNNC_OPT_SGD, .lr = 0.1}};
    Diags d;
    diags_init(&d, a, NULL);
    Graph *g = checked(train_step(a, checked(simplify(a, build(a, net, c, h))), &spec, &d));
    return checked(simplify(a, g));
}

static RefTensor output_of(Arena *a, const Graph *g)
{
    int64_t n = 3 * shape_elements(&g->input_shape);
    double *x = NEWN(a, double, n);
    const double **state = NEWN(a, const double *, g->values.len);
    net_fill("images", x, n);
    for (NodeId i = 1; i < g->nodes.len; i++)
        if (graph_node(g, i)->op == OP_PARAM) {
            const Value *v = graph_value(g, node_out(g, i, 0));
            double *data = NEWN(a, double, shape_elements(&v->shape));
            net_init(v->name, &v->shape, data);
            state[node_out(g, i, 0)] = data;
        }
    for (int64_t i = 0; i < n; i++)
        x[i] = 2 * x[i] - 1;
    RefRun *run = ref_run(a, g, &(RefInputs){.n = 3, .input = x, .param_of_value = state});
    if (run->error)
        fail_msg("%s", run->error);
    return run->value[g->output];
}

static void expect_same_output(Arena *a, const char *net, const Graph *g, const Graph *h)
{
    RefTensor y = output_of(a, g), z = output_of(a, h);
    assert_true(shape_equal(&y.shape, &z.shape));
    for (int64_t i = 0; i < shape_elements(&y.shape); i++)
        if (y.data[i] != z.data[i] && !(fabs(y.data[i] - z.data[i]) <= 1e-12 * (1 + fabs(y.data[i]))))
            fail_msg("%s: output %lld is %.15g, was %.15g", net, (long long)i, z.data[i], y.data[i]);
}

typedef struct { const char *net; int64_t c, h; const char *expect; } Row;

static void test_bn_fold(void **state)
{
    (void)state;
    static const Row rows[] = {
        {"conv out=3 k=3; bn; act ReLU", 2, 5, "fold.weight fold.bias conv act"},
        {"conv out=4 k=3 g=2 b=0; bn aff=0", 2, 5, "fold.weight fold.bias conv"},
        {"conv nd=2 out=3; act ReLU; bn", 2, 5, "conv act fold.weight fold.bias affine"},
        {"bn; conv out=3", 2, 5, "fold.weight fold.bias affine conv"},
        {"linear out=4; bn; dropout p=0.5", 3, 0, "fold.weight fold.bias linear"},
        {"linear out=4; bn", 2, 5, "linear fold.weight fold.bias affine"},    /* channels are not the last axis */
        {"conv out=3; bn; bn", 2, 4, "fold.weight fold.bias conv fold.weight fold.bias affine"},
        {"conv out=2; res{bn}; act ReLU", 2, 4, "conv fold.weight fold.bias affine add act"},   /* the sum reads the conv too */
        {"conv out=3; bn track=0; act ReLU", 2, 4, "conv bn.stats bn.train act"},
        {"dropout p=0.2; conv out=3; dropout p=0.2; bn", 2, 4, "fold.weight fold.bias conv"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Arena *a = arena_new();
        Graph *g = build(a, rows[i].net, rows[i].c, rows[i].h), *eval = checked(eval_graph(a, g)), *folded = checked(bn_fold(a, g));
        assert_string_equal(ops_text(a, folded), rows[i].expect);
        assert_null(strstr(ops_text(a, eval), "dropout"));
        expect_same_output(a, rows[i].net, g, eval);      /* dropout without a seed is the identity */
        expect_same_output(a, rows[i].net, eval, folded);
        expect_same_output(a, rows[i].net, folded, checked(simplify(a, folded)));
        arena_free(a);
    }
}

static void test_simplify(void **state)
{
    (void)state;
    static const Row rows[] = {
        {"conv out=2 k=3 p=1; act ReLU; maxpool k=2; flatten", 1, 6, "conv maxpool act reshape"},
        {"conv out=2; act Hardtanh a=-0.2 b=0.1; maxpool k=3 s=2 p=1; maxpool k=2", 1, 9, "conv maxpool maxpool act"},
        {"conv out=2; act Hardshrink a=0.2; amax h=2 w=1", 1, 5, "conv adaptive_max act"},
        {"conv out=2; act Threshold a=0.1 b=-1; maxpool k=2", 1, 4, "conv maxpool act"},
        {"conv out=2; act Threshold a=0.1 b=0.2; maxpool k=2", 1, 4, "conv act maxpool"},      /* not monotone */
        {"conv out=2; act SiLU; maxpool k=2", 1, 4, "conv act maxpool"},
        {"conv out=2; act Sigmoid; maxpool k=2", 1, 4, "conv act maxpool"},                      /* rounding can make ties */
        {"conv out=2; act ReLU; avgpool k=2", 1, 4, "conv act avgpool"},
        {"conv out=2; act ReLU; maxpool k=2 s=1 p=1 d=3", 1, 2, "conv act maxpool"},             /* windows that miss x */
        {"conv out=2; res{act ReLU; maxpool k=3 s=1 p=1}", 1, 4, "conv maxpool act add"},
        {"conv out=2; act ReLU; res{maxpool k=3 s=1 p=1}", 1, 4, "conv act maxpool add"},        /* the sum reads the activation */
        {"act ReLU; act ReLU; act ReLU6; act ReLU; act ReLU6", 1, 4, "act"},
        {"act Sigmoid; act Sigmoid", 1, 4, "act act"},
        {"flatten start=2; flatten; flatten", 2, 3, "reshape"},
        {"flatten start=1 end=2; flatten start=1 end=2", 2, 3, "reshape"},
        {"flatten", 5, 0, ""},
        {"pad lo=1 hi=2; conv out=2 k=3 p=1", 1, 4, "conv"},
        {"pad lo=1 hi=2 mode=4 value=0; pad lo=1 hi=0; conv out=2 k=3", 1, 4, "conv"},
        {"pad lo=-1 hi=1; conv out=2 k=3", 1, 4, "pad conv"},
        {"pad lo=1 hi=1 mode=1; conv out=2 k=3", 1, 4, "pad conv"},
        {"pad lo=1 hi=1 mode=4 value=2; conv out=2 k=3", 1, 4, "pad conv"},
        {"pad lo=0 hi=0; maxpool k=1; avgpool k=1; aavg h=4 w=4; amax h=0 w=4; dropout p=0", 1, 4, ""},
        {"avgpool k=1 div=2", 1, 4, "avgpool"},
        {"aavg h=2 w=1", 1, 4, "avgpool"},
        {"amax h=2 w=0", 1, 4, "maxpool"},
        {"aavg h=3 w=2", 1, 4, "adaptive_avg"},
        {"cat{act ReLU}{act ReLU; maxpool k=1}{act ReLU6}{maxpool k=3 s=1 p=1}{maxpool k=3 s=1 p=1}{avgpool k=3 s=1 p=1}{avgpool k=3 s=1 p=1 cip=0}", 1, 4,
         "act act maxpool avgpool avgpool concat"},
        {"cat{conv out=2}; res{res{}}", 1, 4, "conv add add"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Arena *a = arena_new();
        Graph *g = build(a, rows[i].net, rows[i].c, rows[i].h), *s = checked(simplify(a, g));
        if (strcmp(ops_text(a, s), rows[i].expect) != 0)
            fail_msg("%s became %s, not %s", rows[i].net, ops_text(a, s), rows[i].expect);
        /* Dropout without a seed is the identity to the reference too. */
        expect_same_output(a, rows[i].net, g, s);
        assert_string_equal(ops_text(a, checked(simplify(a, s))), rows[i].expect);
        arena_free(a);
    }
}

static void test_train_step(void **state)
{
    (void)state;
    static const Row rows[] = {
        {"conv out=2 k=3; act ReLU; flatten; linear out=3", 1, 4,
         "conv act reshape linear cross_entropy linear.dx linear.dw sum.keep sgd sgd reshape.back act.dx conv.dw sum.keep sgd sgd"},
        {"linear out=3; dropout p=0.5; act ReLU; dropout p=0; dropout p=1; linear out=2", 3, 0,
         "linear dropout act dropout linear cross_entropy linear.dx linear.dw sum.keep dropout act.dx dropout sgd sgd linear.dw sum.keep sgd sgd"},
        {"conv out=2 k=3 frozen=1; act ReLU; flatten; linear out=3", 1, 4,
         "conv act reshape linear cross_entropy linear.dw sum.keep sgd sgd"},
        {"res{linear out=3}; linear out=3", 3, 0,
         "linear add linear cross_entropy linear.dx linear.dw sum.keep sgd sgd linear.dw sum.keep sgd sgd"},
        {"linear out=3; res{act GELU}; linear out=3", 3, 0,
         "linear act add linear cross_entropy linear.dx linear.dw sum.keep act.dx add sgd sgd linear.dw sum.keep sgd sgd"},
        {"conv out=2; bn; aavg; flatten", 1, 3,
         "conv bn.stats bn.train bn.running bn.running count avgpool reshape cross_entropy reshape.back avgpool.dx bn.sums bn.dx sgd sgd "
         "conv.dw sum.keep sgd sgd"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Arena *a = arena_new();
        Graph *g = training_graph(a, rows[i].net, rows[i].c, rows[i].h);
        if (strcmp(ops_text(a, g), rows[i].expect) != 0)
            fail_msg("%s became %s", rows[i].net, ops_text(a, g));
        arena_free(a);
    }
}

/* Each dropout draws from its own stream, forward and backward from the same. */
static void test_dropout_streams(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Graph *g = training_graph(a, "linear out=3; dropout p=0.5; act ReLU; dropout p=0.5; linear out=2", 3, 0);
    uint32_t seen = 0;
    int count = 0;
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (graph_node(g, n)->op == OP_DROPOUT) {
            seen = seen << 4 | graph_node(g, n)->attrs.dropout.stream;
            count++;
            assert_int_equal(graph_def(g, graph_node(g, n)->in[1])->attrs.axis.axis, CNNC_SC_SEED);
        }
    assert_int_equal(count, 4);
    assert_int_equal(seen, 0x0110);
    arena_free(a);
}

/* Every state tensor that a layer or optimizer owns, once, with the right names. */
static void test_state_names(void **state)
{
    (void)state;
    static const struct { CnncTrain train; const char *names; } rows[] = {
        {{.optimizer = CNNC_OPT_SGD}, ""},
        {{.optimizer = CNNC_OPT_SGD, .momentum = 0.9}, "optimizer.momentum.0.weight"},
        {{.optimizer = CNNC_OPT_SGD, .schedule = CNNC_SCHED_ONECYCLE, .sched = {[8] = 1}}, "optimizer.momentum.0.weight"},
        {{.optimizer = CNNC_OPT_ADAM}, "optimizer.exp_avg.0.weight optimizer.exp_avg_sq.0.weight"},
        {{.optimizer = CNNC_OPT_RMSPROP}, "optimizer.square_avg.0.weight"},
        {{.optimizer = CNNC_OPT_RMSPROP, .momentum = 0.1, .centered = 1},
         "optimizer.square_avg.0.weight optimizer.momentum.0.weight optimizer.grad_avg.0.weight"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Arena *a = arena_new();
        TrainSpec spec = {.train = rows[i].train};
        Diags d;
        diags_init(&d, a, NULL);
        Graph *g = checked(train_step(a, build(a, "linear out=2 b=0", 3, 0), &spec, &d));
        const char *names = "";
        for (NodeId n = 1; n < g->nodes.len; n++)
            if (graph_node(g, n)->op == OP_PARAM && graph_node(g, n)->attrs.param.optimizer)
                names = arena_printf(a, "%s%s%s", names, *names ? " " : "", graph_value(g, node_out(g, n, 0))->name);
        assert_string_equal(names, rows[i].names);
        assert_int_equal(g->updates.len, 1 + (*names ? 1 : 0) + (strchr(names, ' ') ? 1 : 0) + (strchr(names, ' ') != strrchr(names, ' ')));
        arena_free(a);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct { const char *net; int64_t c, h, batch; int loss; const char *code; } rows[] = {
        {"linear out=2; bn", 3, 0, 1, 0, "E0601"},
        {"conv out=2 frozen=1", 1, 3, 2, 0, "E0602"},
        {"act ReLU", 3, 0, 2, 0, "E0602"},
        {"conv out=2", 1, 3, 2, 1, "E0603"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Arena *a = arena_new();
        TrainSpec spec = {.train = {.loss = rows[i].loss}};
        Diags d;
        Source src = source_from_text(a, "net", rows[i].net, strlen(rows[i].net));
        diags_init(&d, a, &src);
        Graph *g = net_build(a, rows[i].net, rows[i].batch, rows[i].h ? shape_of(3, rows[i].c, rows[i].h, rows[i].h) : shape_of(1, rows[i].c));
        assert_null(train_step(a, g, &spec, &d));
        assert_int_equal(d.errors, 1);
        assert_string_equal(d.first->code, rows[i].code);
        arena_free(a);
    }
}

static void test_fuse(void **state)
{
    (void)state;
    static const Row inference[] = {
        {"conv out=2 k=3 p=1; bn; act ReLU; maxpool k=2; flatten; linear out=3; act ReLU", 1, 4,
         "conv* | maxpool* act | reshape* | linear* act"},
        {"conv out=2 k=3 p=1; res{conv out=2 k=3 p=1; bn; act ReLU; conv out=2 k=1; bn}; act ReLU", 1, 4, "conv* | conv* act | conv* add act"},
        {"conv out=2; res{conv out=2 k=1}{conv out=2 k=1; act ReLU}", 1, 4, "conv* | conv* | conv* act add"},
        {"act ReLU; act Sigmoid; res{act Tanh}", 1, 4, "act act | act add"},       /* sigmoid has two readers */
        {"act GELU; maxpool k=2; act GELU", 1, 4, "act maxpool* act"},
        {"act GELU; maxpool k=2 s=1; act GELU", 1, 4, "act | maxpool* act"},       /* windows overlap */
        {"act GELU; avgpool k=2 ceil=1", 1, 5, "act | avgpool*"},                  /* the last window leaves the image */
        {"conv out=2; act GELU; maxpool k=2", 1, 4, "conv* act | maxpool*"},
        {"conv out=4; glu; act ReLU", 1, 4, "conv* | glu act"},
        {"softmax; act ReLU", 3, 0, "softmax* | act"},
    };
    static const Row training[] = {
        {"conv out=2 k=3; act ReLU; maxpool k=2; flatten; linear out=3", 1, 6,
         "conv* | maxpool* act | reshape* | linear* | cross_entropy* | linear.dx* | sum.keep* sgd | linear.dw* sgd | reshape.back* | act.dx | "
         "maxpool.dx* | sum.keep* sgd | conv.dw* sgd"},
        {"conv out=2; bn; act ReLU; conv out=2; act ReLU; aavg; flatten", 1, 4,
         "conv* | bn.stats* | bn.running* | bn.running* | count* | bn.train act | conv* act | avgpool* | reshape* | cross_entropy* | "
         "reshape.back* | avgpool.dx* act.dx | conv.dx* act.dx | sum.keep* sgd | conv.dw* sgd | bn.sums* | bn.dx | sgd | sgd | "
         "sum.keep* sgd | conv.dw* sgd"},
    };
    for (size_t i = 0; i < ARRAY_LEN(inference); i++) {
        Arena *a = arena_new();
        Graph *g = checked(simplify(a, checked(bn_fold(a, build(a, inference[i].net, inference[i].c, inference[i].h)))));
        assert_string_equal(groups_text(a, g), inference[i].expect);
        arena_free(a);
    }
    for (size_t i = 0; i < ARRAY_LEN(training); i++) {
        Arena *a = arena_new();
        assert_string_equal(groups_text(a, training_graph(a, training[i].net, training[i].c, training[i].h)), training[i].expect);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bn_fold), cmocka_unit_test(test_simplify), cmocka_unit_test(test_train_step), cmocka_unit_test(test_dropout_streams),
        cmocka_unit_test(test_state_names), cmocka_unit_test(test_refusals), cmocka_unit_test(test_fuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
