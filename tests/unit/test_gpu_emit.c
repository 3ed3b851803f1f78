/* The CUDA text against the reference interpreter, without a GPU: whole training steps and inference of small nets, run by
 * tests/gpu/host.c with every access checked. Threads run in a different order in every test. Loss, next state and outputs must
 * agree to float32 rounding, and two runs must give the same bits. */
#include "tests/gpu/target.h"

static void test_training(void **unused)
{
    (void)unused;
    FILE *f = case_open();
    assert_non_null(f);
    EmitTarget t = gpu_emit_target(90);
    for (bool more = true; more;) {
        Arena *a = arena_new();
        Case *c = NEW(a, Case);
        more = case_next(a, f, c);
        if (more)
            check_step(a, c, &t, (int64_t)case_option(c, "batch", 1));
        arena_free(a);
    }
    fclose(f);
}

/* Products of matrices in tiles: every direction of a convolution and of Linear, edges that cut tiles, strides, dilation, groups,
 * depths cut into slices, samples short of the batch. */
static void test_products(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; } wide[] = {
        {"conv out=40 k=3 p=1; act ReLU; conv out=36 k=3 s=2 p=1; bn; act ReLU; flatten; linear out=20", 17, 12, 11, 5},
        {"conv out=48 k=5 p=2; res{conv out=48 k=1; act SiLU}{}; conv out=32 k=3 d=2 p=2 g=2; aavg; flatten; linear out=7", 8, 9, 13, 3},
        {"flatten; linear out=150; act ReLU; linear out=70; act ReLU; linear out=10", 3, 13, 14, 37},
        {"conv out=130 k=1; maxpool k=2; conv out=20 k=3 s=2; flatten; linear out=5", 140, 8, 8, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(wide); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target(i % 2 ? 80 : 100);
        Case c = {.net = wide[i].net, .train = "train opt=sgd lr=0.05 momentum=0.9 wd=0.01", .input = shape_of(3, wide[i].c, wide[i].h, wide[i].w)};
        check_step(a, &c, &t, wide[i].batch);
        check_infer(a, &c, &t, wide[i].batch);   /* batchnorm's scale in the epilogue */
        arena_free(a);
    }
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        n++;
    return n;
}

typedef struct { int products, fours; } TensorCounts;   /* places in the text; launches are shared */

static void *count_and_load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    GpuLoaded *l = gpu_load(a, p, t, net, model);
    TensorCounts *n = (TensorCounts *)(uintptr_t)t->ctx;
    n->products += count(l->text.gpu->text, "mma_tf32(sums[") + count(l->text.gpu->text, "mma_bf16(sums[");
    n->fours += count(l->text.gpu->text, "float four_sums[");
    return l;
}

/* By tensor cores, in all three directions, outputs four rows at a time where they lie so. The nets are smooth: a rounding never turns a gradient off. */
static void test_tensor_cores(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; } wide[] = {
        {"conv out=40 k=3 p=1; bn; act Tanh; conv out=36 k=3 s=2 p=1; bn; act SiLU; flatten; linear out=20", 17, 12, 11, 5},
        {"conv out=48 k=5 p=2; res{conv out=48 k=1; act SiLU}{}; conv out=32 k=3 d=2 p=2 g=2; aavg; flatten; linear out=7", 8, 15, 19, 3},
        {"conv out=24 k=1; bn; act Tanh; avgpool k=2; conv out=16 k=3; act SiLU; aavg; flatten; linear out=3", 2, 72, 74, 2},
        {"flatten; linear out=200; act Tanh; linear out=70; act Sigmoid; linear out=10", 30, 13, 29, 37},
        {"conv out=136 k=1; avgpool k=2; conv out=24 k=3 s=2; flatten; linear out=5", 144, 12, 9, 4},
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(wide); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(i % 3 ? 80 : 100, i % 2 ? PRECISION_BF16 : PRECISION_TF32);
        Case c = {.net = wide[i / 2].net,
                  .train = "train opt=sgd lr=0.05 momentum=0.9 wd=0.01",
                  .input = shape_of(3, wide[i / 2].c, wide[i / 2].h, wide[i / 2].w)};
        TensorCounts n = {0};
        t.load = count_and_load;
        t.ctx = &n;
        check_step(a, &c, &t, wide[i / 2].batch);
        assert_true(n.products >= 3 && n.fours >= 1);
        arena_free(a);
    }
}

typedef struct { int windows, narrow, steps; } WideCounts;   /* places in the text */

static void *wide_and_load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    GpuLoaded *l = gpu_load(a, p, t, net, model);
    WideCounts *n = (WideCounts *)(uintptr_t)t->ctx;
    n->windows = count(l->text.gpu->text, "[r * ");
    n->narrow = count(l->text.gpu->text, "store4_bf16(&");
    n->steps = count(l->text.gpu->text, "float once");
    return l;
}

/* Values that are taken four at a time, and sums that are cut into slices of three samples and one. With channels innermost also windows
 * of pooling, and a channel's own values once for several points; a maximum's place does not hang on rounding, as one channel is all there is. */
static void test_wide(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; Precision precision; WideCounts least; } nets[] = {
        {"conv out=20 k=1; bn; act SiLU; maxpool k=4; conv out=4 k=3 s=2; flatten; linear out=5", 2, 48, 48, 7, PRECISION_F32, {0, 0, 0}},
        {"conv out=64 k=1; maxpool k=3 s=2 p=1; bn; act SiLU; conv out=8 k=3; aavg; flatten; linear out=5", 1, 66, 64, 4, PRECISION_BF16, {1, 1, 0}},
        {"conv out=32 k=1; bn; act SiLU; avgpool k=3 s=2 p=1; conv out=8 k=3; aavg; flatten; linear out=5", 8, 64, 56, 10, PRECISION_BF16, {1, 1, 1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(90, nets[i].precision);
        Case c = {.net = nets[i].net, .train = "train opt=sgd lr=0.05 momentum=0.9 wd=0.01", .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        WideCounts n = {0};
        t.load = wide_and_load;
        t.ctx = &n;
        check_step(a, &c, &t, nets[i].batch);
        if (n.windows < nets[i].least.windows || n.narrow < nets[i].least.narrow || n.steps < nets[i].least.steps)
            fail_msg("%s: %d windows, %d stores of bf16, %d values once", nets[i].net, n.windows, n.narrow, n.steps);
        arena_free(a);
    }
}

/* BatchNorm's sums in the tiles of products before it, of rows and of columns; in slices, and in pieces of a
 * sample where four channels lie side by side; where the mean is hundreds of deviations. */
static void test_channel_sums(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; double mean; } nets[] = {
        {"conv out=40 k=3 p=1; bn; act Tanh; conv out=36 k=3 p=1; bn; act SiLU; aavg; flatten; linear out=5", 17, 12, 11, 5, 0},
        {"conv out=40 k=3 p=1; bn; act Tanh; aavg; flatten; linear out=5", 3, 19, 11, 4, 100},
        {"conv out=6 k=1; maxpool k=1; bn; act SiLU; aavg; flatten; linear out=5", 2, 56, 57, 6, 30},
        {"conv out=40 k=1; maxpool k=1; bn; act SiLU; aavg; flatten; linear out=5", 2, 48, 37, 3, 30},
        {"conv out=32 k=1; bn; act SiLU; aavg; flatten; linear out=5", 8, 40, 36, 20, 40},   /* tiles of 128 rows in float32 */
    };
    for (size_t i = 0; i < 3 * ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(90, (Precision)(i % 3));
        Case c = {
            .net = nets[i / 3].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, nets[i / 3].c, nets[i / 3].h, nets[i / 3].w)};
        t.mean = nets[i / 3].mean;
        check_step(a, &c, &t, nets[i / 3].batch);
        arena_free(a);
    }
}

typedef struct { const char *what; int n; } WordCount;

/* For EmitTarget.load, ctx being a WordCount: how often the text has it. */
static void *count_word_and_load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    GpuLoaded *l = gpu_load(a, p, t, net, model);
    WordCount *c = (WordCount *)(uintptr_t)t->ctx;
    c->n = count(l->text.gpu->text, c->what);
    return l;
}

/* Which taps of a window are inside, a bit each of a line: strides, dilation, windows as wide as a step and wider than there are bits,
 * samples short of the batch. */
static void test_inside(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; Precision precision; bool bits; } nets[] = {
        {"conv out=32 k=3 p=1; act SiLU; conv out=64 k=3 s=2 d=2 p=2; aavg; flatten; linear out=3", 32, 17, 15, 5, PRECISION_BF16, true},
        {"conv out=40 k=8 p=3; act SiLU; aavg; flatten; linear out=3", 4, 24, 31, 3, PRECISION_F32, false},
        {"conv out=16 k=1; conv out=48 k=5 p=2 s=3; act SiLU; aavg; flatten; linear out=3", 2, 46, 40, 3, PRECISION_TF32, true},
        {"conv out=16 k=1; conv out=24 k=15 p=7; act SiLU; aavg; flatten; linear out=3", 3, 12, 13, 2, PRECISION_BF16, true},
        {"conv out=16 k=1; conv out=24 k=16 p=8; act SiLU; aavg; flatten; linear out=3", 3, 12, 13, 2, PRECISION_BF16, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(i % 2 ? 80 : 90, nets[i].precision);
        Case c = {.net = nets[i].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        WordCount lines = {"_tap) == ", 0};
        t.load = count_word_and_load;
        t.ctx = &lines;
        check_step(a, &c, &t, nets[i].batch);
        if (nets[i].bits != (lines.n > 0))
            fail_msg("%s: %d copies ask for bits", nets[i].net, lines.n);
        arena_free(a);
    }
}

/* Windows that slide along an axis: depthwise convolutions of many points, and their data's gradients, but those of even size and stride
 * 2, whose points of a block are made together. */
static void test_windows(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t h, w, batch; Precision precision; int sm, windows; } nets[] = {
        {"conv out=16 k=1; conv out=16 k=3 p=1 g=16; act SiLU; aavg; flatten; linear out=3", 64, 66, 2, PRECISION_F32, 90, 2},
        {"conv out=16 k=1; conv out=16 k=3 s=2 p=1 g=16; act SiLU; aavg; flatten; linear out=3", 127, 125, 2, PRECISION_F32, 80, 2},
        {"conv out=16 k=1; conv out=16 k=3 s=2 p=1 g=16; act SiLU; aavg; flatten; linear out=3", 128, 126, 2, PRECISION_F32, 80, 1},
        {"conv out=16 k=1; conv out=16 k=5 p=2 g=16; act SiLU; aavg; flatten; linear out=3", 67, 66, 2, PRECISION_TF32, 90, 2},
        {"conv out=16 k=1; conv out=16 k=3 p=1 g=16; act SiLU; aavg; flatten; linear out=3", 70, 63, 2, PRECISION_BF16, 100, 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(nets[i].sm, nets[i].precision);
        Case c = {.net = nets[i].net, .train = "train opt=sgd lr=0.05 momentum=0.9", .input = shape_of(3, 3, nets[i].h, nets[i].w)};
        WordCount windows = {"float line[", 0};
        t.load = count_word_and_load;
        t.ctx = &windows;
        check_step(a, &c, &t, nets[i].batch);
        assert_true(windows.n >= nets[i].windows);
        arena_free(a);
    }
}

/* Weight gradients of depthwise convolutions, all taps in one sweep: along rows and down columns, one point and two beside each other, one channel
 * and two a thread, channels that fill no block, windows that share nothing, samples short of the batch, sums in one slice. */
static void test_taps(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t h, w, batch; Precision precision; int sm; } nets[] = {
        {"conv out=24 k=1; conv out=24 k=3 p=1 g=24; act SiLU; aavg; flatten; linear out=3", 48, 45, 3, PRECISION_BF16, 90},
        {"conv out=24 k=1; conv out=24 k=3 s=2 p=1 g=24; act SiLU; aavg; flatten; linear out=3", 89, 92, 2, PRECISION_BF16, 80},
        {"conv out=72 k=1; conv out=72 k=3 s=3 g=72; act SiLU; aavg; flatten; linear out=3", 60, 64, 2, PRECISION_TF32, 90},
        {"conv out=16 k=1; conv out=16 k=5 p=2 g=16; act SiLU; aavg; flatten; linear out=3", 66, 63, 2, PRECISION_BF16, 90},
        {"conv out=5 k=1; conv out=5 k=3 s=2 p=1 g=5; act SiLU; aavg; flatten; linear out=3", 136, 138, 3, PRECISION_F32, 90},
        {"conv out=5 k=1; conv out=5 k=4 s=1 p=1 g=5; act SiLU; aavg; flatten; linear out=3", 91, 122, 3, PRECISION_BF16, 90},
        {"conv out=200 k=1; avgpool k=6; conv out=200 k=3 p=1 g=200; act SiLU; aavg; flatten; linear out=3", 42, 42, 11, PRECISION_TF32, 100},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(nets[i].sm, nets[i].precision);
        Case c = {.net = nets[i].net, .train = "train opt=sgd lr=0.05 momentum=0.9 wd=0.01", .input = shape_of(3, 3, nets[i].h, nets[i].w)};
        WordCount taps = {"lanes_sum_apart(sums", 0};
        t.load = count_word_and_load;
        t.ctx = &taps;
        check_step(a, &c, &t, nets[i].batch);
        assert_true(taps.n >= 1);
        arena_free(a);
    }
}

/* Losses of so many classes that a block shares a row of them, four at a time or not; means of pictures, each by a warp, or by a thread whose
 * neighbours have neighbouring channels. */
static void test_rows(void **unused)
{
    (void)unused;
    static const struct { const char *net; Precision precision; } nets[] = {
        {"conv out=304 k=1; avgpool k=8; act SiLU; aavg; flatten; linear out=1100", PRECISION_F32},
        {"conv out=304 k=1; avgpool k=8; act SiLU; aavg; flatten; linear out=61", PRECISION_BF16},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(90, nets[i].precision);
        Case c = {.net = nets[i].net, .train = "train opt=sgd lr=0.05", .input = shape_of(3, 2, 56, 57)};
        check_step(a, &c, &t, 7);
        arena_free(a);
    }
}

/* Channels lie innermost: all three directions of a convolution of many channels copy 16 bytes at a time, both operands; of the first
 * layer's operands only the gradient does. */
static void test_wide_copies(void **unused)
{
    (void)unused;
    static const Precision precisions[] = {PRECISION_TF32, PRECISION_BF16};
    for (size_t i = 0; i < ARRAY_LEN(precisions); i++) {
        Arena *a = arena_new();
        EmitTarget t = gpu_emit_target_in(90, precisions[i]);
        Case c = {.net = "conv out=64 k=3 p=1; bn; act ReLU; conv out=128 k=3 p=1; bn; act ReLU; aavg; flatten; linear out=10",
                  .train = "train opt=sgd lr=0.1",
                  .input = shape_of(3, 3, 32, 32)};
        Graph *g = case_step(a, &c, 32);
        Fusion f = fuse(a, g);
        const CnncGpu *gpu = gpu_emit(a, compile_graph(a, g, &f, &t.options));
        int products = 0, fetched = count(gpu->text, "bf16 a_fetched") + count(gpu->text, "bf16 b_fetched");
        for (int l = 0; l < gpu->step->n_launches; l++)
            products += gpu->step->launches[l].products != CNNC_PRODUCTS_F32;
        assert_true(products >= 5);
        assert_true(count(gpu->text, "cp_async16(") + count(gpu->text, "cp_async16_near(") >= 7 + 2);   /* and their definitions */
        assert_true(fetched <= 2 * 3);   /* before the loop and in it */
        arena_free(a);
    }
}

static int launches_of(Arena *a, const char *net, Shape input, int64_t batch)
{
    EmitTarget t = gpu_emit_target(90);
    Case c = {.net = net, .train = "train opt=adam lr=0.001", .input = input};
    Graph *g = case_step(a, &c, batch);
    Fusion f = fuse(a, g);
    return gpu_emit(a, compile_graph(a, g, &f, &t.options))->step->n_launches;
}

/* A small net's step is a few launches. */
static void test_launches(void **unused)
{
    (void)unused;
    Arena *a = arena_new();
    assert_true(launches_of(a, "conv out=6 k=5 p=2; act ReLU; maxpool k=2; conv out=16 k=5; act ReLU; maxpool k=2; flatten; linear out=120; act ReLU; linear out=84; act ReLU; linear out=10",
                            shape_of(3, 1, 28, 28), 64) <= 3);
    assert_true(launches_of(a, "conv out=10 k=3; act ReLU; conv out=10 k=3; act ReLU; maxpool k=2; conv out=10 k=3; act ReLU; conv out=10 k=3; act ReLU; maxpool k=2; flatten; linear out=10",
                            shape_of(3, 3, 64, 64), 32) <= 20);
    arena_free(a);
}

static void test_inference(void **unused)
{
    (void)unused;
    EmitTarget t = gpu_emit_target(90);
    for (size_t i = 0; i < ARRAY_LEN(emit_nets); i++) {
        Arena *a = arena_new();
        Case c = {.net = emit_nets[i].net, .input = shape_of(3, emit_nets[i].c, emit_nets[i].h, emit_nets[i].w)};
        check_infer(a, &c, &t, i % 2 ? 1 : 3);
        check_program(a, &c, &t, i % 2 ? 3 : 1);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inference),    cmocka_unit_test(test_products),    cmocka_unit_test(test_wide),
                                       cmocka_unit_test(test_tensor_cores), cmocka_unit_test(test_wide_copies), cmocka_unit_test(test_channel_sums),
                                       cmocka_unit_test(test_launches),     cmocka_unit_test(test_inside),      cmocka_unit_test(test_windows),
                                       cmocka_unit_test(test_taps),         cmocka_unit_test(test_rows),        cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
