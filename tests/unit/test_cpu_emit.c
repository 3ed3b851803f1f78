/* The emitter against the reference interpreter: whole training steps and inference of small nets, compiled, loaded and run,
 * for several CPU levels this machine can run, with batches that do and do not fill the lanes. Loss, next state and outputs
 * must agree to float32 rounding. Stages run slice by slice in order, as one thread would. */
#include "tests/unit/cpu_target.h"

static void *load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    return cpu_load(a, p, t->ctx, net, model);
}

static bool machine(Arena *a, const char *name, EmitTarget *m)
{
    const char *why = NULL;
    CpuTarget *t = NEW(a, CpuTarget);
    if (!target_find(a, NULL, name, t, &why))
        fail_msg("%s: %s", name, why);
    *m = (EmitTarget){.load = load, .run = cpu_run, .unload = cpu_unload, .ctx = t};
    m->options = (CompileOptions){.target = target_nest(t), .name = "test"};
    return cpu_has_lanes(t->lanes);
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
            EmitTarget m;
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

/* Wide enough for Winograd in the forward pass and in gradients: whole and cut tiles, weights that are transformed anew, weight gradients
 * that add up over passes and ones whose images are all transformed first. */
static void test_wide_training(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w; } wide[] = {
        {"conv out=32 k=3 p=1; act ReLU; conv out=40 k=3 p=1; bn; act ReLU; maxpool k=2; conv out=32 k=3; flatten; linear out=4", 3, 14, 13},
        {"conv out=32 k=1; res{conv out=48 k=3 p=1; act SiLU; conv out=32 k=3 p=1}{}; act ReLU; aavg; flatten; linear out=4", 4, 16, 8},
        {"conv out=32 k=1; conv out=32 k=5 p=2; act ReLU; aavg; flatten; linear out=4", 3, 9, 7},
        {"conv out=72 k=3 s=2 p=1; act ReLU; conv out=64 k=3 p=1; aavg; flatten; linear out=4", 3, 8, 7},
    };
    static const int64_t batches[] = {4, 19};
    for (size_t i = 0; i < ARRAY_LEN(wide) * ARRAY_LEN(batches); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        size_t w = i / ARRAY_LEN(batches);
        Case c = {.net = wide[w].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, wide[w].c, wide[w].h, wide[w].w)};
        if (machine(a, levels[i == 0 ? 1 : 2], &m))
            check_step(a, &c, &m, batches[i % ARRAY_LEN(batches)]);
        arena_free(a);
    }
}

/* Batches smaller than the vectors, and whole vectors of channels: these are in the lanes. First layer from the input's rows, borders,
 * strides, residuals, concat, pools, depthwise, weights that outnumber the images' values and weights that do not, Winograd gradients
 * image by image, of the whole batch and, where L3 is small, of a few channels after others. */
static void test_channel_training(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w; } wide[] = {
        {"conv out=32 k=3 s=2 p=1; bn; act ReLU; maxpool k=3 s=2 p=1; res{conv out=32 k=3 p=1; bn; act ReLU; conv out=32 k=3 p=1; bn}{}; act ReLU; "
         "res{conv out=48 k=3 s=2 p=1; bn}{conv out=48 k=1 s=2; bn}; act ReLU; aavg; flatten; linear out=5", 3, 27, 22},
        {"conv out=16 k=3 p=1; bn; act ReLU; conv out=16 k=3 p=1 g=16; bn; act ReLU6; conv out=32 k=1; act SiLU; conv out=32 k=3 s=2 p=1 g=32; bn; "
         "conv out=64 k=1; dropout p=0.3; avgpool k=2; flatten; linear out=6", 3, 12, 11},
        {"conv out=16 k=5 p=2; cat{conv out=16 k=1}{conv out=32 k=3 p=1; act ReLU}{maxpool k=3 s=1 p=1}; bn; act ReLU; conv out=64 k=3 d=2; flatten; linear out=3", 2, 9, 10},
        {"conv out=32 k=3 p=1; act ReLU; conv out=32 k=3 p=1; bn; maxpool k=2; conv out=64 k=3 p=1; act ReLU; conv out=96 k=3 p=1; aavg; flatten; linear out=4", 3, 26, 21},
    };
    static const int64_t batches[] = {2, 3, 7};
    for (size_t i = 0; i < ARRAY_LEN(wide) * ARRAY_LEN(batches); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        size_t w = i / ARRAY_LEN(batches);
        int64_t batch = batches[i % ARRAY_LEN(batches)];
        Case c = {.net = wide[w].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, wide[w].c, wide[w].h, wide[w].w)};
        if (machine(a, levels[batch == 3 ? 1 : 2], &m)) {
            m.options.target.l3 = batch == 2 ? 1 << 10 : m.options.target.l3;
            check_step(a, &c, &m, batch);
        }
        arena_free(a);
    }
}

/* Sizes that Winograd takes: strips of rows, whole images, both tile sizes, borders, residual sums, odd sizes. */
static const struct { const char *net; int64_t c, h, w; } winograd_nets[] = {
    {"conv out=32 k=3 p=1; act ReLU; conv out=32 k=3 p=1", 32, 16, 16},
    {"conv out=48 k=3 p=1; act ReLU; conv out=64 k=3; maxpool k=2; conv out=32 k=3 p=1", 32, 34, 31},
    {"conv out=32 k=1; res{conv out=64 k=3 p=1; bn; act ReLU; conv out=32 k=3 p=1; bn}{}; act ReLU; flatten; linear out=4", 8, 14, 15},
    {"conv out=64 k=3 p=1; act ReLU; conv out=32 k=3 p=1; act ReLU; aavg; flatten; linear out=4", 64, 7, 9},
    {"conv out=32 k=5 p=2; act ReLU; conv out=48 k=5 p=1; maxpool k=2; conv out=32 k=5 p=2; aavg; flatten; linear out=4", 32, 19, 14},
    {"conv out=10 k=3; act ReLU; conv out=12 k=3 p=1; act ReLU; maxpool k=2; conv out=9 k=3; flatten; linear out=4", 3, 43, 38},
    {"conv out=10 k=1; res{conv out=12 k=5 p=2; act SiLU; conv out=10 k=3 p=1}{}; act ReLU; conv out=32 k=3", 2, 23, 25},
    {"conv out=32 k=7 s=2 p=3; act ReLU; conv out=64 k=3 s=2 p=1; act SiLU; conv out=32 k=5 s=3 p=2; aavg; flatten; linear out=4", 3, 47, 54},
    {"conv out=32 k=11 s=4 p=2; act ReLU; conv out=32 k=2; act ReLU; conv out=32 k=4 p=1; flatten; linear out=4", 3, 66, 63},
};

static void test_programs(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {1, 3};
    for (size_t v = 0; v < ARRAY_LEN(levels); v++)
        for (size_t i = 0; i < ARRAY_LEN(emit_nets) + ARRAY_LEN(winograd_nets); i++)
            for (size_t b = v & 1; b < ARRAY_LEN(batches) - (v == 0); b++) {
                Arena *a = arena_new();
                EmitTarget m;
                size_t j = i - ARRAY_LEN(emit_nets);
                Case c = i < ARRAY_LEN(emit_nets)
                             ? (Case){.net = emit_nets[i].net, .input = shape_of(3, emit_nets[i].c, emit_nets[i].h, emit_nets[i].w)}
                             : (Case){.net = winograd_nets[j].net, .input = shape_of(3, winograd_nets[j].c, winograd_nets[j].h, winograd_nets[j].w)};
                if (machine(a, levels[v], &m))
                    check_program(a, &c, &m, batches[b]);
                arena_free(a);
            }
}

static int portions;   /* nests of the last program whose sums go in portions */

static void *load_and_count(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    const Function *f = p->step ? p->step : p->infer;
    portions = 0;
    for (int s = 0; s < f->n_stages; s++)
        for (int i = 0; i < f->stages[s].n_nests; i++)
            portions += f->stages[s].nests[i]->portion_axis >= 0;
    return load(a, p, t, net, model);
}

/* Sums too long for the weights of a tile to stay in L1: pointwise and not, behind activations, batch normalisation and a residual. */
static void test_portions(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w; int least; } nets[] = {
        {"conv out=256 k=1; act ReLU; conv out=24 k=1; act SiLU; res{conv out=384 k=1; act ReLU; conv out=24 k=1; bn}{}; act ReLU; conv out=8 k=1", 8, 3, 29, 2},
        {"conv out=40 k=1; act ReLU; conv out=32 k=5 s=2 p=2; act ReLU; conv out=192 k=1; conv out=20 k=1; maxpool k=2; conv out=8 k=1", 3, 7, 61, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets) * 2; i++) {
        Arena *a = arena_new();
        EmitTarget m;
        size_t n = i / 2;
        Case c = {.net = nets[n].net, .input = shape_of(3, nets[n].c, nets[n].h, nets[n].w)};
        if (machine(a, "x86-64-v3", &m)) {
            m.load = load_and_count;
            m.options.target.l1 = 16 << 10;
            check_program(a, &c, &m, i % 2 ? 3 : 1);
            if (portions < nets[n].least)
                fail_msg("net %d: %d sums in portions", (int)n, portions);
        }
        arena_free(a);
    }
}

/* Trained weights of a Linear layer beyond L2, read and written row by row: a portion of rows at a time for the data gradient, whatever number
 * of them there is, more samples than are read without a copy. */
static void test_rows_of_weights(void **unused)
{
    (void)unused;
    static const struct { const char *net; int least; } nets[] = {
        {"conv out=16 k=1; act ReLU; flatten; linear out=96; dropout p=0.3; act ReLU; linear out=5", 1},
        {"conv out=16 k=1; bn; flatten; linear out=50; act SiLU; linear out=7", 1},
        {"conv out=16 k=1; act ReLU; flatten; linear out=67; act ReLU; linear out=3", 0},
    };
    static const int64_t batches[] = {5, 19, 40};
    for (size_t i = 0; i < ARRAY_LEN(nets) * ARRAY_LEN(batches); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        size_t n = i / ARRAY_LEN(batches);
        Case c = {.net = nets[n].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, 3, 8, 9)};
        if (machine(a, levels[1 + i % 2], &m)) {
            m.load = load_and_count;
            m.options.target.l2 = 64 << 10;
            m.options.target.l3 = 128 << 10;
            check_step(a, &c, &m, batches[i % ARRAY_LEN(batches)]);
            if (portions < nets[n].least)
                fail_msg("net %d: %d sums in portions", (int)n, portions);
        }
        arena_free(a);
    }
}

/* Batches that fill the lanes, in nets whose values or weights are too large for image lanes: groups of images, strips of one,
 * weights read once for the batch. */
static void test_large_values(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 3; i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = winograd_nets[i].net, .input = shape_of(3, winograd_nets[i].c, winograd_nets[i].h, winograd_nets[i].w)};
        if (machine(a, levels[ARRAY_LEN(levels) - 1], &m)) {
            m.options.target.l2 = 1 << 10;
            m.options.target.l3 = 1 << 10;
            check_program(a, &c, &m, 19);
        }
        arena_free(a);
    }
}

/* A slice takes its samples through many layers, and all their strips of one image or of two; a short last slice. In the last net a
 * product of all samples parts the slices, and its branch alone waits for it. */
static void test_deep_slices(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w; int32_t samples, stages; int64_t l3; } deep[] = {
        {"conv out=32 k=3 p=1; act ReLU; conv out=32 k=3 p=1; maxpool k=2; conv out=48 k=1; act ReLU; conv out=32 k=1 s=2", 32, 50, 40, 1, 1, 32 << 20},
        {"conv out=32 k=3 p=1; bn; act ReLU; res{conv out=32 k=3 p=1; act ReLU; conv out=32 k=3 p=1}{}; act ReLU; conv out=64 k=1", 16, 20, 19, 2, 1, 32 << 20},
        {"conv out=32 k=3 p=1; act ReLU; conv out=32 k=3 p=1; conv out=32 k=3 p=1", 32, 28, 28, 2, 3, 1 << 10},
        {"conv out=32 k=3 p=1; conv out=128 k=3 s=4 p=1; cat{conv out=128 k=3 p=1}{conv out=16 k=1; act ReLU}", 32, 28, 28, 1, 3, 32 << 20},
    };
    for (size_t i = 0; i < ARRAY_LEN(deep); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = deep[i].net, .input = shape_of(3, deep[i].c, deep[i].h, deep[i].w)};
        if (machine(a, levels[ARRAY_LEN(levels) - 1], &m)) {
            m.options.choices.layout = LAYOUT_WANT_CHANNELS;
            m.options.target.l3 = deep[i].l3;
            const Function *f = check_program(a, &c, &m, 19)->infer;
            assert_int_equal(f->n_stages, deep[i].stages);
            for (int s = 0; s < f->n_stages; s++)
                assert_true(f->stages[s].samples_per_slice == deep[i].samples || f->stages[s].samples_per_slice == 0);
        }
        arena_free(a);
    }
}

/* Images in the lanes, all strips of a slice's images in passes: what a pass reads outlives the slice's other passes, when there is one
 * slice (the transformed weights) and when there are two. */
static void test_deep_training(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {5, 19};
    for (size_t i = 0; i < ARRAY_LEN(batches); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = "conv out=10 k=3; act ReLU; conv out=10 k=3; act ReLU; maxpool k=2; conv out=10 k=3; act ReLU; conv out=10 k=3; act ReLU; "
                         "maxpool k=2; flatten; linear out=5",
                  .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, 3, 24, 24)};
        if (machine(a, levels[2], &m))
            check_step(a, &c, &m, batches[i]);
        arena_free(a);
    }
}

static int cut_directly(const KernelList *l)
{
    int n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        n += l->kernels.at[i].part == WINOGRAD_NONE && l->kernels.at[i].n_strip > 0;
    return n;
}

/* A convolution and the window that reads it go strip by strip: borders, strides, rows left over in the last strip, fewer images than
 * lanes; places of maxima in training. */
static void test_strips(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w; int cut; } nets[] = {
        {"conv out=10 k=5 p=2; act ReLU; maxpool k=2; flatten; linear out=4", 3, 26, 24, 2},
        {"conv out=9 k=3 s=2 p=1; act ReLU; maxpool k=3; conv out=6 k=3 p=1; act ReLU; flatten; linear out=4", 2, 54, 50, 2},
        {"conv out=6 k=3; act ReLU; maxpool k=2; conv out=12 k=5; act ReLU; maxpool k=2; flatten; linear out=4", 1, 50, 38, 4},
        {"conv out=4 k=3 p=1; act ReLU; avgpool k=2; flatten; linear out=4", 2, 22, 12, 2},
        {"conv out=10 k=5 p=2; act ReLU; maxpool k=2 p=1; flatten; linear out=4", 3, 26, 24, 0},
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        size_t w = i / 2;
        Case c = {.net = nets[w].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, nets[w].c, nets[w].h, nets[w].w)};
        if (machine(a, levels[2], &m)) {
            m.options.no_winograd = true;
            assert_int_equal(cut_directly(check_program(a, &c, &m, i % 2 ? 35 : 19)->infer->kernels), nets[w].cut);
            check_step(a, &c, &m, i % 2 ? 19 : 9);
        }
        arena_free(a);
    }
}

/* Weight gradients whose planes do not stay in L2 take a few rows at a time: borders, the last rows, fewer images than lanes. */
static void test_large_planes(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {5, 21};
    for (size_t i = 0; i < ARRAY_LEN(batches) * 2; i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = "conv out=10 k=3; act ReLU; conv out=6 k=5 p=2; act ReLU; conv out=7 k=3 s=2 p=1; flatten; linear out=3",
                  .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, 3, 15, 13)};
        if (machine(a, levels[1 + i / 2], &m)) {
            m.options.target.l1 = i % 2 ? 16 << 10 : 1 << 10;
            m.options.target.l2 = 4 << 10;
            check_step(a, &c, &m, batches[i % 2]);
        }
        arena_free(a);
    }
}

static void test_inference(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {3, 37};
    for (size_t v = 1; v < ARRAY_LEN(levels); v++)
        for (size_t i = 0; i < ARRAY_LEN(emit_nets); i++)
            for (size_t b = v & 1; b < ARRAY_LEN(batches); b++) {
                Arena *a = arena_new();
                EmitTarget m;
                Case c = {.net = emit_nets[i].net, .input = shape_of(3, emit_nets[i].c, emit_nets[i].h, emit_nets[i].w)};
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
                EmitTarget m;
                Case c = {.net = texts[i], .train = " optimizer=sgd lr=0.1 momentum=0.9", .input = shape_of(3, 2, 9, 7)};
                if (machine(a, levels[v], &m))
                    check_step(a, &c, &m, batch);
                arena_free(a);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide_training), cmocka_unit_test(test_channel_training), cmocka_unit_test(test_programs),
        cmocka_unit_test(test_portions), cmocka_unit_test(test_rows_of_weights), cmocka_unit_test(test_training), cmocka_unit_test(test_large_values),
        cmocka_unit_test(test_deep_slices), cmocka_unit_test(test_deep_training), cmocka_unit_test(test_strips), cmocka_unit_test(test_large_planes),
        cmocka_unit_test(test_inference), cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
