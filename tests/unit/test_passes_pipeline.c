/* The pass runner: what each pipeline dumps for a small net equals tests/golden/passes/NAME.txt (CNNC_UPDATE=1 rewrites them), optional
 * passes can be left out, errors end a pipeline, and large nets take little time. */
#include "tests/unit/nets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <cmocka.h>

static const char net_text[] = "conv out=6 k=5 p=2 b=0; bn; act ReLU; maxpool k=2; res{conv out=6 k=3 p=1; act GELU}; act ReLU; dropout p=0.5; "
                               "aavg; flatten; linear out=10";

static PassContext context(Arena *a, Module *m, Diags *d, const char *net, int64_t batch)
{
    *m = (Module){.graph = net_build(a, net, batch, shape_of(3, 1, 28, 28))};
    m->train = (TrainSpec){.present = true, .train = {.optimizer = CNNC_OPT_SGD, .lr = 0.1, .momentum = 0.9}};
    Source *src = NEW(a, Source);
    *src = source_from_text(a, "net", net, strlen(net));
    diags_init(d, a, src);
    return (PassContext){.arena = a, .diags = d, .module = m};
}

static char *read_file(Arena *a, const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = arena_alloc(a, 1 << 16);
    if (f) {
        text[fread(text, 1, (1 << 16) - 1, f)] = 0;
        fclose(f);
    }
    return text;
}

static void expect_dump(Pipeline p, const char *pass, const char *file)
{
    Arena *a = arena_new();
    Module m;
    Diags d;
    PassContext c = context(a, &m, &d, net_text, 8);
    char *text = NULL;
    size_t size = 0;
    c.dump = pass;
    c.dump_to = open_memstream(&text, &size);
    assert_non_null(passes_run(&c, p));
    fclose(c.dump_to);
    assert_true(c.dumped);
    char path[128];
    snprintf(path, sizeof path, "tests/golden/passes/%s.txt", file);
    if (getenv("CNNC_UPDATE")) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
    }
    assert_string_equal(text, read_file(a, path));
    free(text);
    arena_free(a);
}

static void test_dumps(void **state)
{
    (void)state;
    expect_dump(PIPELINE_INFER, "bn_fold", "infer_bn_fold");
    expect_dump(PIPELINE_INFER, "simplify", "infer_simplify");
    expect_dump(PIPELINE_INFER, "fuse", "infer_fuse");
    expect_dump(PIPELINE_EVAL, "eval_graph", "eval_graph");
    expect_dump(PIPELINE_TRAIN, "train_step", "train_step");
    expect_dump(PIPELINE_TRAIN, "fuse", "train_fuse");
}

static int count_ops(const Graph *g, Op op)
{
    int count = 0;
    for (NodeId n = 1; n < g->nodes.len; n++)
        count += graph_node(g, n)->op == op;
    return count;
}

static void test_switched_off(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Module m;
    Diags d;
    PassContext c = context(a, &m, &d, net_text, 8);
    c.off[PASS_bn_fold] = c.off[PASS_simplify] = c.off[PASS_fuse] = true;
    c.off[PASS_train_step] = true;      /* not optional: runs */
    Graph *g = passes_run(&c, PIPELINE_INFER);
    assert_int_equal(count_ops(g, OP_BATCHNORM), 1);
    assert_int_equal(count_ops(g, OP_DROPOUT), 0);
    assert_int_equal(count_ops(g, OP_ADAPTIVE_AVG), 1);
    for (NodeId n = 1; n < g->nodes.len; n++)
        assert_true(c.fusion.root[n] == 0 || c.fusion.root[n] == n);
    assert_int_equal(count_ops(passes_run(&c, PIPELINE_TRAIN), OP_SGD), 7);
    arena_free(a);
}

static void test_errors_end(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Module m;
    Diags d;
    PassContext c = context(a, &m, &d, "maxpool k=2", 8);
    assert_null(passes_run(&c, PIPELINE_TRAIN));
    assert_int_equal(d.errors, 1);
    assert_non_null(passes_run(&c, PIPELINE_INFER));
    assert_non_null(passes_run(&c, PIPELINE_CHECK));
    arena_free(a);
}

static void test_names(void **state)
{
    (void)state;
    for (PassId p = 0; p < PASS_COUNT; p++)
        assert_int_equal(pass_find(pass_name(p)), p);
    assert_int_equal(pass_find("Fuse"), PASS_COUNT);
    assert_true(pass_is_optional(PASS_fuse) && !pass_is_optional(PASS_shape));
}

/* Nothing in the passes is quadratic in the number of layers. */
static void test_large_net(void **state)
{
    (void)state;
    enum { BLOCKS = 5000 };
    static const char block[] = "conv out=2 k=1; bn; act ReLU; res{act SiLU}; ";
    Arena *a = arena_new();
    char *net = arena_alloc(a, BLOCKS * sizeof block + 64);
    char *p = net;
    for (int i = 0; i < BLOCKS; i++)
        p = stpcpy(p, block);
    stpcpy(p, "aavg; flatten; linear out=2");
    Module m;
    Diags d;
    PassContext c = context(a, &m, &d, net, 8);
    clock_t start = clock();
    assert_int_equal(count_ops(passes_run(&c, PIPELINE_INFER), OP_AFFINE), 0);
    assert_int_equal(count_ops(passes_run(&c, PIPELINE_TRAIN), OP_BN_DX), BLOCKS);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dumps), cmocka_unit_test(test_switched_off), cmocka_unit_test(test_errors_end),
        cmocka_unit_test(test_names), cmocka_unit_test(test_large_net),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
