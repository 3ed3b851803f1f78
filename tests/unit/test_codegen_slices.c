/* Cuts into slices: large kernels share evenly on two threads and on sixteen, small ones stay whole, vectors stay whole.
 * What schedules fetch early. */
#include "tests/unit/train_cases.h"

#include "codegen/choose.h"
#include "codegen/lower.h"
#include "codegen/slices.h"
#include "codegen/winograd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const NestTarget target = {.lanes = 16, .registers = 32, .l1 = 32 << 10, .l2 = 1 << 20};

/* The schedule of the kernel with the most multiply-adds of a net at batch 1. */
static Nest *heaviest(Arena *a, const char *net, Shape input)
{
    Graph *g = simplify(a, bn_fold(a, net_build(a, net, 1, input)));
    Fusion f = fuse(a, g);
    KernelList *l = lower(a, g, &f, PARAMS_CONST);
    choose(l, LAYOUT_CHANNELS, &target, target.lanes);
    const Kernel *most = &l->kernels.at[0];
    for (uint32_t i = 1; i < l->kernels.len; i++)
        most = l->kernels.at[i].macs > most->macs ? &l->kernels.at[i] : most;
    Nest *n = schedule_kernel(a, l, most, &target);
    cut_nest(l, n, &target);
    return n;
}

static double part_share(const Nest *n, int i, int32_t part)
{
    if (i == 1 && n->n_inner == 0)
        return 1;
    int32_t extent = n->k->axis[i ? n->inner_axis[0] : n->slice_axis].extent, size = i ? n->inner_size[0] : n->slice_size;
    int32_t left = extent - part * size;
    return (double)(left < size ? left : size) / extent;
}

/* The work over what `threads` threads could do until the last one is done, slices taken in order. */
static double balance(const Nest *n, int threads)
{
    double busy[16] = {0}, all = 0, last = 0;
    int32_t inner = n->n_inner ? nest_parts(n, 1) : 1;
    for (int32_t s = 0; s < nest_slices(n); s++) {
        int t = 0;
        for (int o = 1; o < threads; o++)
            t = busy[o] < busy[t] ? o : t;
        double work = part_share(n, 0, s / inner) * part_share(n, 1, s % inner);
        all += work;
        busy[t] += work;
        last = busy[t] > last ? busy[t] : last;
    }
    assert_true(all > 0.999 && all < 1.001);
    return all / (threads * last);
}

static void threads_share_evenly(void **state)
{
    (void)state;
    static const struct { const char *net; int64_t channels, size; } cases[] = {
        {"conv out=192 k=3 p=1", 192, 14},       /* three blocks of 64 channels would leave one of two threads idle */
        {"conv out=512 k=1", 512, 14},           /* weights beyond L2: channels outside rows */
        {"conv out=512 k=3 s=2 p=1", 256, 14}, {"conv out=64 k=7 s=2 p=3", 3, 224}, {"conv out=128 k=1", 64, 56},
        {"conv out=64 k=3 p=1 g=64", 64, 112}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Arena *a = arena_new();
        Nest *n = heaviest(a, cases[i].net, shape_of(3, cases[i].channels, cases[i].size, cases[i].size));
        for (int threads = 2; threads <= 16; threads *= 2)
            if (balance(n, threads) < (threads == 2 ? 0.95 : threads == 16 ? 0.6 : 0.8))
                fail_msg("%s: %d slices give %d threads a balance of %g", cases[i].net, nest_slices(n), threads, balance(n, threads));
        if (n->slice_axis == n->vector_axis)
            assert_int_equal(n->slice_size % n->lanes, 0);
        arena_free(a);
    }
}

static void small_kernels_stay_whole(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Nest *n = heaviest(a, "conv out=8 k=3 p=1", shape_of(3, 4, 8, 8));
    assert_int_equal(n->slice_axis, -1);
    assert_int_equal(nest_slices(n), 1);
    arena_free(a);
}

/* A pool over an image with channels innermost, [h][w][c], of few rows: its rows are cut, and their channels only where that leaves long
 * pieces of a row. */
static void rows_stay_whole(void **state)
{
    (void)state;
    static const struct { int64_t channels; bool cut; } cases[] = {{64, false}, {8192, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Arena *a = arena_new();
        Graph *g = net_build(a, "maxpool k=1", 1, shape_of(3, cases[i].channels, 7, 65536 / cases[i].channels));
        Fusion f = fuse(a, g);
        KernelList *l = lower(a, g, &f, PARAMS_CONST);
        for (uint32_t b = 1; b < l->buffers.len; b++)
            l->buffers.at[b].layout = layout_innermost(4, 1);
        Nest *n = schedule_kernel(a, l, &l->kernels.at[0], &target);
        cut_nest(l, n, &target);
        bool cut = n->slice_axis == n->vector_axis || (n->n_inner && n->inner_axis[0] == n->vector_axis);
        assert_true(nest_slices(n) > 1 && n->vector_axis == 1);
        assert_int_equal(cut, cases[i].cut);
        arena_free(a);
    }
}

/* A large Linear layer of a step of a few samples: forward its rows of weights are cut although tiles do not divide them; slices of gradients
 * have long pieces of these rows, and the weights' gradient goes through them innermost. */
static void rows_of_weights_are_shared(void **state)
{
    (void)state;
    static const NestTarget small = {.lanes = 8, .registers = 16, .l1 = 32 << 10, .l2 = 512 << 10, .l3 = 1 << 20};
    Arena *a = arena_new();
    const Case c = {
        .net = "conv out=16 k=1; flatten; linear out=4100; linear out=8", .train = "train opt=sgd lr=0.05", .input = shape_of(3, 3, 16, 24)};
    Graph *g = case_step(a, &c, 8);
    Fusion f = fuse(a, g);
    KernelList *l = lower(a, g, &f, PARAMS_IN_STATE);
    choose(l, LAYOUT_CHANNELS, &small, 1);
    int forward = 0, gradients = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        if (k->macs < 4e6)   /* a sample: the other layers */
            continue;
        Nest *n = schedule_kernel(a, l, k, &small);
        cut_nest(l, n, &small);
        assert_true(nest_slices(n) > 1);
        bool sums_along_rows = k->axis[n->vector_axis].kind == AXIS_RED;
        int32_t piece = n->slice_axis == n->vector_axis                    ? n->slice_size
                        : n->n_inner && n->inner_axis[0] == n->vector_axis ? n->inner_size[0]
                                                                           : PAGE / 4;
        assert_true(sums_along_rows || piece * 4 >= PAGE);
        *(sums_along_rows ? &forward : &gradients) += 1;
    }
    assert_int_equal(forward, 1);
    assert_int_equal(gradients, 2);
    arena_free(a);
}

/* A slice of the first stage of a Winograd convolution is a strip of rows of tiles: how many there are. */
static int64_t strips(Arena *a, Shape input)
{
    Graph *g = net_build(a, "conv out=64 k=3 p=1", 1, input);
    Fusion f = fuse(a, g);
    KernelList *l = lower(a, g, &f, PARAMS_CONST);
    winograd(l, &target, false, 1e-4, &(Choices){0});
    int64_t n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        if (k->part != WINOGRAD_INPUT)
            continue;
        n = 1;
        for (int s = 0; s < k->n_strip; s++)
            n *= (k->axis[k->strip_axis[s]].extent + k->strip_size[s] - 1) / k->strip_size[s];
    }
    return n;
}

/* 56 rows are 14 of tiles: two a strip would be seven strips, of which one of two threads did four. */
static void strips_are_even(void **state)
{
    (void)state;
    Arena *a = arena_new();
    assert_int_equal(strips(a, shape_of(3, 64, 56, 56)), 14);
    assert_int_equal(strips(a, shape_of(3, 64, 32, 32)), 4);
    arena_free(a);
}

/* The lines of a result larger than half of L2 are fetched before its sums run, where these are long enough to hide that. */
static void far_results_are_fetched_early(void **state)
{
    (void)state;
    static const struct { const char *net; int64_t channels, size; bool early; } cases[] = {
        {"conv out=64 k=1", 32, 56, true}, {"conv out=64 k=1", 16, 56, false}, {"conv out=64 k=1", 32, 28, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Arena *a = arena_new();
        Nest *n = heaviest(a, cases[i].net, shape_of(3, cases[i].channels, cases[i].size, cases[i].size));
        assert_true(n->early == (cases[i].early ? 1ull << n->k->out[0].at : 0));
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_evenly), cmocka_unit_test(small_kernels_stay_whole), cmocka_unit_test(far_results_are_fetched_early),
        cmocka_unit_test(strips_are_even),      cmocka_unit_test(rows_stay_whole),          cmocka_unit_test(rows_of_weights_are_shared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
