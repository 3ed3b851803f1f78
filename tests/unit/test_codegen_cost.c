/* Costs of stages: multiply-adds without padding and Winograd's savings, bytes in and out once each; and stages of one layer
 * each when they are to be told apart. */
#include "tests/unit/nets.h"

#include "codegen/compile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const CnncFunction *compiled(Arena *a, const char *net, Shape input, int64_t batch, CompileOptions o)
{
    Graph *g = net_build(a, net, batch, input);
    Fusion f = fuse(a, g);
    o.target = (NestTarget){.lanes = 4, .registers = 16, .l1 = 32 << 10, .l2 = 512 << 10};
    o.name = "net";
    return compile_graph(a, g, &f, &o)->model.infer;
}

static CnncStage sum(const CnncFunction *f)
{
    CnncStage s = {0};
    for (int i = 0; i < f->n_stages; i++) {
        s.macs += f->stages[i].macs;
        s.fmas += f->stages[i].fmas;
        s.bytes += f->stages[i].bytes;
    }
    return s;
}

/* 3x3 over 5x7 with padding 1: 13 of 15 rows and 19 of 21 columns are inside. */
static void leaves_padding_out(void **state)
{
    (void)state;
    Arena *a = arena_new();
    CnncStage s = sum(compiled(a, "conv out=4 k=3 p=1 b=0", (Shape){3, {2, 5, 7}}, 1, (CompileOptions){.no_winograd = true}));
    assert_true(s.macs == 4 * 2 * 9 * 5 * 7);
    assert_true(fabs(s.fmas - 4 * 2 * 13 * 19) < 1e-6);
    arena_free(a);
}

static void counts_weights_and_values_once(void **state)
{
    (void)state;
    Arena *a = arena_new();
    CnncStage s = sum(compiled(a, "flatten; linear out=8", (Shape){1, {24}}, 1, (CompileOptions){0}));
    assert_true(s.fmas == 8 * 24);
    assert_true(s.bytes == 4 * (24 + 8 * 24 + 8 + 8));
    arena_free(a);
}

static void knows_winograd(void **state)
{
    (void)state;
    Arena *a = arena_new();
    const char *net = "conv out=32 k=3 p=1";
    const Shape input = {3, {32, 24, 24}};
    CnncStage direct = sum(compiled(a, net, input, 1, (CompileOptions){.no_winograd = true})),
              winograd = sum(compiled(a, net, input, 1, (CompileOptions){0}));
    assert_true(direct.macs == winograd.macs);
    assert_true(winograd.fmas < 0.5 * direct.fmas && winograd.fmas > 0.2 * direct.fmas);
    arena_free(a);
}

static void tells_layers_apart(void **state)
{
    (void)state;
    Arena *a = arena_new();
    const char *net = "conv out=4 k=3; act ReLU; maxpool k=2; conv out=4 k=3; act ReLU; flatten; linear out=5";
    const Shape input = {3, {1, 12, 12}};
    const CnncFunction *together = compiled(a, net, input, 8, (CompileOptions){0}),
                       *apart = compiled(a, net, input, 8, (CompileOptions){.apart = APART_LAYERS});
    bool shared = false;
    for (int i = 0; i < together->n_stages; i++)
        shared |= together->stages[i].first_layer < together->stages[i].last_layer;
    assert_true(shared);
    assert_true(apart->n_stages > together->n_stages);
    for (int i = 0; i < apart->n_stages; i++)
        assert_int_equal(apart->stages[i].first_layer, apart->stages[i].last_layer);
    arena_free(a);
}

/* A Winograd convolution's kernels share strips, and stay together; everything else has a stage of its own. */
static void tells_kernels_apart(void **state)
{
    (void)state;
    Arena *a = arena_new();
    const CnncFunction *f = compiled(a, "conv out=32 k=3 p=1; act ReLU; maxpool k=2; conv out=4 k=3; act ReLU", (Shape){3, {32, 24, 24}}, 8,
                                     (CompileOptions){.apart = APART_KERNELS});
    int strips = 0;
    for (int i = 0; i < f->n_stages; i++) {
        strips += strstr(f->stages[i].name, "conv.input .. ") != NULL;
        assert_true(!strstr(f->stages[i].name, " .. ") || strstr(f->stages[i].name, "conv.input .. "));
    }
    assert_true(strips > 0);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(leaves_padding_out), cmocka_unit_test(counts_weights_and_values_once),
                                       cmocka_unit_test(knows_winograd), cmocka_unit_test(tells_layers_apart), cmocka_unit_test(tells_kernels_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
