/* --precision bf16 and --weights-precision bf16: the nets of the emitter's tests, in every layout, against the reference interpreter
 * within what rounding of operands to 8 bits leaves; with and without the CPU's dot product of pairs. */
#include "tests/unit/cpu_target.h"

typedef struct { CpuTarget t; int dots, narrow_winograd; } Machine;   /* kernels over pairs seen so far; of Winograd convolutions */

static void count_dots(const KernelList *l, Machine *m)
{
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (ExprId e = 1; e < l->kernels.at[i].n_expr; e++)
            if (l->kernels.at[i].expr[e].op == EX_DOT) {
                m->dots++;
                m->narrow_winograd += l->kernels.at[i].part == WINOGRAD_PRODUCT;
            }
}

static void *load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    Machine *m = (Machine *)(uintptr_t)t->ctx;
    count_dots((p->step ? p->step : p->infer)->kernels, m);
    return cpu_load(a, p, &m->t, net, model);
}

/* false: this machine cannot run code for that CPU. */
static bool machine(Arena *a, const char *name, EmitTarget *m)
{
    const char *why = NULL;
    Machine *x = NEW(a, Machine);
    if (!target_find(a, NULL, name, &x->t, &why))
        fail_msg("%s: %s", name, why);
    if (x->t.bf16)
        x->t.features = arena_printf(a, "%s,+avx512bf16", x->t.features);
    *m = (EmitTarget){.load = load, .run = cpu_run, .unload = cpu_unload, .ctx = x, .looser = 400};
    m->options = (CompileOptions){.target = target_nest(&x->t),
                                  .precision = PRECISION_BF16, .name = "test"};
    if (x->t.bf16)
        return __builtin_cpu_supports("avx512bf16");
    return cpu_has_lanes(x->t.lanes);
}

static Case case_of(int i) { return (Case){.net = emit_nets[i].net, .input = shape_of(3, emit_nets[i].c, emit_nets[i].h, emit_nets[i].w)}; }

/* Channels or columns in the lanes (1) and images (17); pairs are really multiplied. */
static void test_pairs(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {1, 17};
    int dots = 0, nets = 0;
    for (int i = 0; i < (int)ARRAY_LEN(emit_nets); i++)
        for (size_t b = 0; b < ARRAY_LEN(batches); b++) {
            Arena *a = arena_new();
            EmitTarget m;
            Case c = case_of(i);
            if (machine(a, "znver4", &m)) {
                check_program(a, &c, &m, batches[b]);
                dots += ((const Machine *)m.ctx)->dots;
                nets++;
            }
            arena_free(a);
        }
    assert_true(nets == 0 || dots > nets);   /* 0: this CPU has no AVX512-BF16 */
}

/* Small maps: F(2x2, 3x3) with transformed inputs and weights in bf16. */
static void test_winograd(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w; } nets[] = {
        {"conv out=64 k=3 p=1; act ReLU; conv out=32 k=3 p=1; act ReLU; aavg; flatten; linear out=4", 64, 8, 9},
        {"conv out=64 k=1; res{conv out=64 k=3 p=1; bn; act ReLU; conv out=64 k=3 p=1; bn}{}; act ReLU; conv out=32 k=3 s=2", 8, 14, 13},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = nets[i].net, .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        if (machine(a, "znver4", &m)) {
            check_program(a, &c, &m, 1 + 2 * (int64_t)i);
            assert_true(((const Machine *)m.ctx)->narrow_winograd > 0);
        }
        arena_free(a);
    }
}

/* Without the dot product values are widened when they are loaded. */
static void test_widening(void **unused)
{
    (void)unused;
    static const char *const levels[] = {"x86-64", "x86-64-v3", "x86-64-v4"};
    for (int i = 0; i < (int)ARRAY_LEN(emit_nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = case_of(i);
        if (machine(a, levels[i % 3], &m)) {
            check_program(a, &c, &m, i % 2 ? 19 : 2);
            assert_int_equal(((const Machine *)m.ctx)->dots, 0);
        }
        arena_free(a);
    }
}

/* A strip of five channels of a plane would cut pairs (20 = 4 * 5: they come by four); all channels of a strip may be odd. */
static void test_strips(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h; } nets[] = {
        {"conv out=20 k=5; act ReLU; maxpool k=2; flatten; linear out=100; act ReLU; linear out=10", 1, 28},
        {"conv out=9 k=3 p=1; act ReLU; maxpool k=2; conv out=30 k=3 p=1; act ReLU; maxpool k=2; flatten; linear out=10", 3, 32},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = nets[i].net, .input = shape_of(3, nets[i].c, nets[i].h, nets[i].h)};
        if (machine(a, "znver4", &m)) {
            m.options.no_winograd = true;
            const KernelList *l = check_program(a, &c, &m, 19)->infer->kernels;
            int cut = 0;
            for (uint32_t k = 0; k < l->kernels.len; k++)
                cut += l->kernels.at[k].n_strip > 0;
            assert_true(cut > 0);
        }
        arena_free(a);
    }
}

/* Weights in state are rounded in every call; gradients and activations are stored in bf16, the optimizer's state is not. The nets are
 * smooth: a rounding never turns a gradient off. */
static void test_training(void **unused)
{
    (void)unused;
    static const char *const nets[] = {
        "conv out=6 k=5 p=2; act Tanh; avgpool k=2; conv out=16 k=5; act Tanh; flatten; linear out=20; act Sigmoid; linear out=10",
        "conv out=9 k=3 p=1; act SiLU; res{conv out=9 k=3 p=1}{}; conv out=12 k=3 s=2 p=1; act Tanh; aavg; flatten; linear out=5",
        "conv out=32 k=1; act Tanh; conv out=32 k=3 p=1; bn; act Tanh; flatten; linear out=33; act Tanh; linear out=4",
    };
    static const int64_t batches[] = {5, 19};
    for (size_t i = 0; i < ARRAY_LEN(nets) * ARRAY_LEN(batches); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = nets[i / 2], .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, 3, 14, 13)};
        if (machine(a, i == 3 ? "x86-64-v3" : "znver4", &m))
            check_step(a, &c, &m, batches[i % 2]);
        arena_free(a);
    }
}

static void test_weights(void **unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = case_of(i);
        if (machine(a, "x86-64-v4", &m)) {
            m.options.precision = PRECISION_F32;
            m.options.weights_precision = PRECISION_BF16;
            check_program(a, &c, &m, 1);
        }
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs),  cmocka_unit_test(test_winograd), cmocka_unit_test(test_widening),
                                       cmocka_unit_test(test_strips), cmocka_unit_test(test_training), cmocka_unit_test(test_weights)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
