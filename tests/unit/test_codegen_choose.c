/* Layouts and sliced sums change nothing: the kernels of every net in the training cases (training step, evaluation and
 * folded inference), after choose for small vectors, verify and interpret to the reference's values under their new layouts,
 * for a full and a short batch; and so do wider nets after winograd. */
#include "codegen/choices.h"
#include "tests/unit/train_cases.h"

#include "codegen/choose.h"
#include "codegen/lower.h"
#include "codegen/winograd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef enum { MODE_STEP, MODE_EVAL, MODE_INFER, MODE_COUNT } Mode;
typedef struct { Arena *a; Graph *g; RefInputs in; RefRun *run; KernelList *l; const char *net; Mode mode; int lanes; LayoutPlan plan; bool winograd; } Net;

static bool is_given(const Graph *g, ValueId v)
{
    Op op = graph_def(g, v)->op;
    return (op_flags(op) & OPF_LEAF) || op == OP_FOLD_WEIGHT || op == OP_FOLD_BIAS;
}

/* The place of the i-th element in row-major order. */
static int64_t place(const Buffer *b, int64_t i)
{
    int64_t index[MAX_RANK] = {0};
    for (int d = b->shape.rank - 1; d >= 0; d--) {
        index[d] = i % b->shape.dim[d];
        i /= b->shape.dim[d];
    }
    return layout_index(b, index);
}

static double **memory(const Net *t)
{
    const KernelList *l = t->l;
    double **mem = NEWN(t->a, double *, l->buffers.len);
    for (uint32_t i = 1; i < l->buffers.len; i++) {
        const Buffer *b = &l->buffers.at[i];
        int64_t n = shape_elements(&b->shape), room = buffer_elements(b);
        mem[i] = NEWN(t->a, double, room + 1);
        for (int64_t j = 0; j < room; j++)
            mem[i][j] = NAN;
        bool given = b->value && is_given(t->g, b->value) && (b->kind != BUF_WORK && b->kind != BUF_OUTPUT);
        const double *from = b->data ? b->data : given ? t->run->value[b->value].data : NULL;
        n = from && b->batched ? n / b->shape.dim[0] * t->in.n : n;
        for (int64_t j = 0; from && j < n; j++)
            mem[i][place(b, j)] = from[j];
    }
    for (uint32_t i = 1; i < l->buffers.len; i++)
        mem[i] = mem[buffer_root(l, (BufId)i)];
    return mem;
}

/* choose leaves buffers behind that no kernel touches any more (views of what is read in another layout). */
static bool is_used(const KernelList *l, BufId b)
{
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (int j = 0; j < l->kernels.at[i].n_access; j++)
            if (l->kernels.at[i].access[j].buf == b)
                return true;
    return false;
}

static int compare(const Net *t, double **mem)
{
    int compared = 0;
    for (ValueId v = 1; v < t->g->values.len; v++) {
        BufId id = t->l->buf_of_value[v];
        const RefTensor *want = &t->run->value[v];
        if (!id || is_given(t->g, v) || !want->data || !is_used(t->l, id))
            continue;
        const Buffer *b = &t->l->buffers.at[id];
        for (int64_t i = 0; i < shape_elements(&want->shape); i++) {
            double got = mem[id][place(b, i)];
            if (fabs(got - want->data[i]) <= 1e-9 * (1 + fabs(want->data[i])))
                continue;
            kernels_print(t->l, stderr);
            fail_msg("%s (mode %d, plan %d, lanes %d, n %d): %s, element %d: kernels %.17g, reference %.17g", t->net, t->mode,
                     t->plan, t->lanes, (int)t->in.n, b->name, (int)i, got, want->data[i]);
        }
        compared++;
    }
    return compared;
}

static void check(Net *t)
{
    const char *why = "?";
    int compared = 0;
    NestTarget target = {.lanes = t->lanes, .registers = 32, .l1 = 32 << 10, .l2 = 1 << 20, .l3 = 16 << 20};
    Fusion f = fuse(t->a, t->g);
    t->l = lower(t->a, t->g, &f, t->mode == MODE_INFER ? PARAMS_CONST : PARAMS_IN_STATE);
    if (t->winograd)
        winograd(t->l, &target, t->plan == LAYOUT_IMAGES, WINOGRAD_ERROR, &(Choices){0});
    choose(t->l, t->plan, &target, t->lanes);
    if (getenv("SHOW_KERNELS"))
        kernels_print(t->l, stdout);
    if (!kernels_verify(t->l, &why))
        fail_msg("%s (mode %d, plan %d, lanes %d): %s", t->net, t->mode, t->plan, t->lanes, why);
    int64_t most = t->in.n;
    for (; t->in.n > 0 && t->in.n >= most - 1; t->in.n--) {
        t->run = ref_run(t->a, t->g, &t->in);
        assert_null(t->run->error);
        double **mem = memory(t);
        kernels_interpret(t->l, mem, t->in.n, t->in.scalars);
        compared += compare(t, mem);
    }
    t->in.n = most;
    assert_true(compared > 0);
}

static Graph *graph_of(Arena *a, const Case *c, Mode mode)
{
    int64_t batch = (int64_t)case_option(c, "batch", 1);
    if (mode == MODE_STEP)
        return case_step(a, c, batch);
    Graph *g = simplify(a, net_build(a, c->net, batch, c->input));
    return simplify(a, mode == MODE_EVAL ? eval_graph(a, g) : bn_fold(a, g));
}

static Net net_case(const Case *c, Mode mode, bool winograd)
{
    Net t = {.a = arena_new(), .net = c->net, .mode = mode};
    TrainSpec spec = case_spec(c);
    t.g = graph_of(t.a, c, mode);
    double **state = state_start(t.a, t.g);
    if (mode == MODE_STEP) {
        t.in = step_inputs(t.a, t.g, &spec.train, state, 0);
    } else {
        int64_t n = t.g->batch * shape_elements(&t.g->input_shape);
        double *x = NEWN(t.a, double, n);
        net_fill("input0", x, n);
        t.in = (RefInputs){.n = t.g->batch, .input = x, .param_of_value = (const double *const *)state};
    }
    t.winograd = winograd;
    for (t.lanes = winograd ? 4 : 2; t.lanes <= 4; t.lanes *= 2)
        for (int plan = LAYOUT_IMAGES; plan <= (mode == MODE_STEP && !winograd ? LAYOUT_IMAGES : LAYOUT_CHANNELS); plan++) {
            t.plan = (LayoutPlan)plan;
            check(&t);
        }
    return t;
}

static int parts(const KernelList *l, WinogradPart part)
{
    int n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        n += l->kernels.at[i].part == part;
    return n;
}

/* Transformed convolutions, data gradients and weight gradients are the direct ones, in exact arithmetic: both sizes of taps, borders and
 * cut tiles, sums that take part of the batch (few channels for their size) and all of it. */
static void test_winograd(void **state)
{
    (void)state;
    static const struct { const char *net; int64_t c, h, w, batch; int gradients; } nets[] = {
        {"conv out=48 k=3 p=1; act ReLU; conv out=32 k=3 p=1; aavg; flatten; linear out=2", 32, 12, 11, 5, 2},
        {"conv out=40 k=3 p=1; aavg; flatten; linear out=2", 48, 4, 4, 22, 1},
        {"conv out=32 k=5 p=2; aavg; flatten; linear out=2", 32, 6, 6, 14, 1},
        {"conv out=32 k=3 p=1 s=2; conv out=32 k=3 p=2 d=2; conv out=32 k=3 p=1 g=2; aavg; flatten; linear out=2", 32, 8, 8, 4, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        Case c = {.net = nets[i].net,
                  .train = arena_printf(a, "train batch=%d opt=sgd lr=0.05 momentum=0.9", (int)nets[i].batch),
                  .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        Net t = net_case(&c, MODE_STEP, true);
        assert_int_equal(parts(t.l, WINOGRAD_TAPS), nets[i].gradients);
        arena_free(t.a);
        arena_free(a);
    }
}

static int ending_in(const KernelList *l, const char *suffix)
{
    int n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const char *at = strstr(l->kernels.at[i].name, suffix);
        n += at && !at[strlen(suffix)];
    }
    return n;
}

/* Strided convolutions over phases are the direct ones, in exact arithmetic: one product less where all phases have the same taps;
 * dilated and grouped ones stay direct. */
static void test_phases(void **state)
{
    (void)state;
    static const struct { const char *net; int64_t c, h, w; int phases, products, corners; } nets[] = {
        {"conv out=32 k=7 s=2 p=3; act ReLU; aavg; flatten; linear out=2", 3, 25, 22, 1, 4, 1},
        {"conv out=32 k=3 s=2 p=1; act ReLU; conv out=64 k=3 s=2; aavg; flatten; linear out=2", 32, 50, 45, 2, 8, 2},
        {"conv out=32 k=4 s=2 p=1; aavg; flatten; linear out=2", 32, 24, 25, 1, 1, 0},
        {"conv out=32 k=11 s=4 p=2; aavg; flatten; linear out=2", 3, 66, 58, 1, 4, 1},
        {"conv out=32 k=5 s=3 p=2; aavg; flatten; linear out=2", 8, 37, 40, 1, 4, 1},
        {"conv out=32 k=3 s=2 d=2; conv out=32 k=3 s=2 g=2; aavg; flatten; linear out=2", 32, 40, 40, 0, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        Case c = {.net = nets[i].net, .train = "train batch=1 opt=sgd lr=0.05", .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        Net t = net_case(&c, MODE_STEP, true);
        assert_int_equal(ending_in(t.l, ".phases"), nets[i].phases);
        assert_int_equal(ending_in(t.l, ".weight_phases"), nets[i].phases);
        assert_int_equal(parts(t.l, WINOGRAD_PRODUCT), nets[i].products);
        assert_int_equal(ending_in(t.l, ".product_corner"), nets[i].corners);
        arena_free(t.a);
        arena_free(a);
    }
}

/* With images in the lanes few channels are enough for Winograd; not one channel, whose transforms serve no other; not a data gradient
 * most of whose taps lie on padding, which the direct form leaves out. */
static void test_where_winograd_pays(void **state)
{
    (void)state;
    static const struct { const char *net; int64_t c, h, w; Mode mode; int forward; } nets[] = {
        {"conv out=10 k=3; act ReLU; conv out=10 k=3; flatten; linear out=2", 10, 20, 20, MODE_INFER, 2},
        {"conv out=10 k=3; flatten; linear out=2", 3, 30, 30, MODE_INFER, 1},
        {"conv out=6 k=5 p=2; flatten; linear out=2", 1, 28, 28, MODE_INFER, 0},
        {"conv out=6 k=1; conv out=16 k=5; flatten; linear out=2", 1, 14, 14, MODE_INFER, 1},
        {"conv out=6 k=1; conv out=16 k=5; flatten; linear out=2", 1, 14, 14, MODE_STEP, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        Case c = {.net = nets[i].net, .train = "train batch=5 opt=sgd lr=0.05", .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        Graph *g = graph_of(a, &c, nets[i].mode);
        Fusion f = fuse(a, g);
        KernelList *l = lower(a, g, &f, nets[i].mode == MODE_INFER ? PARAMS_CONST : PARAMS_IN_STATE);
        NestTarget target = {.lanes = 16, .registers = 32, .l1 = 32 << 10, .l2 = 1 << 20, .l3 = 32 << 20};
        winograd(l, &target, true, WINOGRAD_ERROR, &(Choices){0});
        assert_int_equal(parts(l, WINOGRAD_PRODUCT), nets[i].forward);
        arena_free(a);
    }
}

static void test_layouts(void **state)
{
    (void)state;
    FILE *f = case_open();
    assert_non_null(f);
    Arena *a = arena_new();
    Case c;
    int nets = 0;
    for (; case_next(a, f, &c); nets++)
        for (int mode = 0; mode < MODE_COUNT; mode++)
            arena_free(net_case(&c, (Mode)mode, false).a);
    assert_true(nets >= 20);
    fclose(f);
    arena_free(a);
    (void)state_advance;
}

static void test_lanes(void **state)
{
    (void)state;
    static const struct { LayoutPlan plan; int lanes; int64_t batch; int want; } cases[] = {
        {LAYOUT_IMAGES, 16, 64, 16}, {LAYOUT_IMAGES, 16, 9, 16}, {LAYOUT_IMAGES, 16, 8, 8}, {LAYOUT_IMAGES, 16, 5, 8},
        {LAYOUT_IMAGES, 16, 1, 4},   {LAYOUT_IMAGES, 8, 4, 4},   {LAYOUT_IMAGES, 4, 1, 4},  {LAYOUT_CHANNELS, 16, 1, 16},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        NestTarget t = {.lanes = cases[i].lanes, .registers = 32}, got = choose_lanes(cases[i].plan, &t, cases[i].batch);
        assert_int_equal(got.lanes, cases[i].want);
        assert_int_equal(got.registers, 32);
    }
}

static void test_choices(void **state)
{
    (void)state;
    static const char *const good[] = {"", "layout=images", "layout=channels strip=14", "strip=42 direct=0", "layout=images strip=1 direct=0,7,63"};
    static const char *const bad[] = {"layout",    "layout=",   "layout=rows", "strip=",   "strip=-1", "strip=70000",
                                      "direct=64", "direct=1,", "direct=1,,2", "direct=a", "speed=3",  "  "};
    Arena *a = arena_new();
    Choices c;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(choices_parse(good[i], &c));
        assert_string_equal(choices_text(a, &c), good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(choices_parse(bad[i], &c));
    arena_free(a);
}

/* Image lanes for what is near L2 (of a step, in L3) or has few channels; channel lanes for the rest. */
static void test_plan(void **state)
{
    (void)state;
    static const struct { const char *net; int64_t c, h, batch; bool training; LayoutPlan want; } cases[] = {
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 16, 32, false, LAYOUT_IMAGES},
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 32, 32, false, LAYOUT_CHANNELS},
        {"conv out=10 k=3 p=1; act ReLU; conv out=20 k=3 p=1", 16, 32, 16, false, LAYOUT_IMAGES},
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 96, 32, false, LAYOUT_CHANNELS},
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 32, 32, true, LAYOUT_IMAGES},
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 32, 16, true, LAYOUT_CHANNELS},
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 16, 16, true, LAYOUT_IMAGES},
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 96, 32, true, LAYOUT_CHANNELS},
        {"conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1", 16, 32, 8, true, LAYOUT_CHANNELS},
        {"conv out=10 k=3 p=1; act ReLU; conv out=20 k=3 p=1", 16, 256, 32, true, LAYOUT_IMAGES},
        {"conv out=64 k=3 p=1; flatten; linear out=128", 16, 32, 32, true, LAYOUT_CHANNELS},   /* 32 MB of weights */
        {"conv out=10 k=3 p=1; act ReLU; conv out=20 k=3 p=1", 16, 256, 32, false, LAYOUT_IMAGES},
        {"conv out=10 k=3 p=1; act ReLU; conv out=20 k=3 p=1", 16, 16, 15, false, LAYOUT_CHANNELS},
    };
    NestTarget t = {.lanes = 16, .registers = 32, .l1 = 32 << 10, .l2 = 1 << 20, .l3 = 16 << 20};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Arena *a = arena_new();
        Graph *g = net_build(a, cases[i].net, cases[i].batch, shape_of(3, cases[i].c, cases[i].h, cases[i].h));
        Fusion f = fuse(a, g);
        assert_int_equal(choose_plan(lower(a, g, &f, PARAMS_CONST), &t, cases[i].training), cases[i].want);
        arena_free(a);
    }
}

/* Weights copied for channels in the lanes lie block by block of them, also where these are the inputs' (data gradients). */
static void test_copied_weights(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Case c = {.net = "conv out=32 k=1; act ReLU; conv out=32 k=3 p=1; act ReLU; conv out=16 k=1", .train = "train batch=2 opt=sgd lr=0.05",
              .input = shape_of(3, 16, 6, 6)};
    Graph *g = graph_of(a, &c, MODE_STEP);
    Fusion f = fuse(a, g);
    KernelList *l = lower(a, g, &f, PARAMS_IN_STATE);
    NestTarget t = {.lanes = 8, .registers = 16, .l1 = 32 << 10, .l2 = 512 << 10, .l3 = 32 << 20};
    choose(l, LAYOUT_CHANNELS, &t, 1);
    int by_inputs = 0, by_outputs = 0;
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        const Buffer *w = &l->buffers.at[b];
        if (w->kind != BUF_WORK || w->batched || w->layout.block_dim < 0)
            continue;
        assert_int_equal(w->layout.order[0], w->layout.block_dim);
        *(w->layout.block_dim == 1 ? &by_inputs : &by_outputs) += 1;
    }
    assert_int_equal(by_inputs, 2);
    assert_int_equal(by_outputs, 3);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts), cmocka_unit_test(test_winograd), cmocka_unit_test(test_phases), cmocka_unit_test(test_where_winograd_pays),
        cmocka_unit_test(test_lanes),   cmocka_unit_test(test_choices),  cmocka_unit_test(test_plan),   cmocka_unit_test(test_copied_weights)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
