/* Contractions in tile registers (AMX): the nets below run with the registers in software, against the reference interpreter; the
 * assembly with the instructions is read back; a library asks the system before it uses them. */
#include "tests/unit/assembly.h"
#include "tests/unit/cpu_target.h"
#include "tests/unit/software_tiles.h"

enum { RANDOM_NETS = 20 };

static void sapphire_rapids(Arena *a, CpuTarget *t, CompileOptions *o)
{
    const char *why = NULL;
    if (!target_find(a, NULL, "sapphirerapids", t, &why))
        fail_msg("%s", why);
    t->features = arena_printf(a, "%s,+avx512bf16", t->features);
    *o = (CompileOptions){.target = target_nest(t), .precision = PRECISION_BF16, .name = "test"};
}

/* ---- in software ---- */
static int products_of_windows(const KernelList *l)
{
    int n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        n += l->kernels.at[i].own_layouts;
    return n;
}

typedef struct { void *code; const CpuLoaded *loaded; const CnncModel *model; } Loaded;

static void *load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    Loaded *l = NEW(a, Loaded);
    l->loaded = l->code = cpu_load(a, p, t->ctx, net, model);
    l->model = *model;
    return l;
}

static void run(void *loaded, const CnncArgs *args)
{
    const Loaded *l = loaded;
    software_tiles.area[0].at = args->work;
    software_tiles.area[0].size = l->loaded->f->work_bytes;
    software_tiles.area[1].at = l->loaded->scratch;
    software_tiles.area[1].size = l->loaded->f->scratch_bytes;
    software_tiles.area[2].at = args->consts;
    software_tiles.area[2].size = l->model->consts_bytes;
    cpu_run(l->code, args);
}

static void unload(void *loaded) { cpu_unload(((Loaded *)loaded)->code); }

/* Vectors as this machine has them. */
static void software_machine(Arena *a, EmitTarget *m)
{
    const char *why = NULL, *level = __builtin_cpu_supports("avx512f") ? "x86-64-v4" : "x86-64-v3";
    CpuTarget here;
    CpuTarget *x = NEW(a, CpuTarget);
    if (!target_find(a, NULL, level, &here, &why))
        fail_msg("%s", why);
    *m = (EmitTarget){.load = load, .run = run, .unload = unload, .ctx = x, .looser = 400};
    sapphire_rapids(a, x, &m->options);
    x->cpu = here.cpu;
    x->features = here.features;
    x->bf16 = false;
    x->software_tiles = &software_ops;
    software_tiles = (SoftwareTiles){0};
}

/* 1x1, 3x3 and 5x5 convolutions with and without borders, strides, groups and dilation; rows that do not divide into tiles; pairs and
 * filters that fill no whole tile; odd channels between them; few channels, taken with the taps of a row; Linear at a batch. */
static void test_outputs(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; } nets[] = {
        {"conv out=48 k=1; act ReLU; conv out=40 k=3 p=1; act ReLU; conv out=32 k=1 s=2", 32, 14, 19, 1},
        {"conv out=64 k=3 p=1 s=2; act SiLU; conv out=16 k=5 p=2; conv out=24 k=1", 48, 21, 37, 3},
        {"conv out=64 k=3 d=2 p=2; bn; act ReLU; res{conv out=64 k=1; act ReLU; conv out=64 k=1}{}; aavg; flatten; linear out=10", 32, 9, 7, 2},
        {"conv out=64 k=3 p=1 g=2; act Tanh; cat{conv out=16 k=1}{conv out=40 k=1}; maxpool k=2; conv out=33 k=1; conv out=33 k=3 p=1 g=33; conv out=20 k=1", 64, 12, 12, 1},
        {"flatten; linear out=100; act ReLU; linear out=50; act ReLU; linear out=7", 16, 3, 2, 37},
        {"conv out=96 k=1; act ReLU; aavg; flatten; linear out=64", 24, 6, 6, 20},
        {"conv out=32 k=7 s=2 p=3; act ReLU; conv out=16 k=3", 3, 23, 30, 1},
        {"conv out=24 k=3 p=1; act ReLU", 3, 9, 33, 3},
        {"cat{conv out=16 k=7 p=3}{conv out=40 k=9 p=4}; act ReLU", 2, 8, 8, 2},
        {"conv out=5 k=3 p=1; act ReLU; conv out=32 k=3; act ReLU; conv out=16 k=3 s=2 p=1", 4, 12, 11, 1},
        {"conv out=176 k=3 p=1; act ReLU; conv out=176 k=3 p=1; act ReLU", 176, 10, 7, 1},
        {"conv out=128 k=3 p=1; act ReLU; conv out=192 k=3 p=1; act ReLU; flatten; linear out=32", 128, 9, 8, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = nets[i].net, .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        software_machine(a, &m);
        check_program(a, &c, &m, nets[i].batch);
        if (!software_tiles.dots || software_tiles.configured)
            fail_msg("%s: %ld products of tiles", c.net, software_tiles.dots);
        arena_free(a);
    }
}

static int nests_where(const Function *f, bool (*holds)(const Nest *))
{
    int n = 0;
    for (int i = 0; i < f->n_stages; i++)
        for (int j = 0; j < f->stages[i].n_nests; j++)
            n += holds(f->stages[i].nests[j]);
    return n;
}

static bool joins_lines(const Nest *n) { return n->lines_axis >= 0; }
static bool has_group(const Nest *n) { return n->group > 0; }

/* The loop over rows takes lines in: of few points, with a border between them, of images of all sizes down to one tile; whole lines,
 * two of them, or a part of one a step; with values of other layouts added. */
static void test_lines(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; int lines; } nets[] = {
        {"conv out=32 k=3 p=1; act ReLU; conv out=48 k=3 p=1; act ReLU", 32, 8, 8, 1, 2},
        {"res{conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1}{}; act ReLU; conv out=33 k=3 p=1; aavg; flatten; linear out=10", 64, 7, 7, 3, 3},
        {"conv out=32 k=5 p=2; maxpool k=2; conv out=24 k=3 p=1; act SiLU", 48, 9, 11, 2, 1},
        {"conv out=16 k=3 p=1; act ReLU; conv out=16 k=3 p=1 d=1", 16, 5, 5, 18, 2},
        {"conv out=64 k=3; act ReLU; conv out=320 k=3 p=1", 64, 19, 8, 1, 2},
        {"conv out=64 k=3 p=1; act ReLU; res{conv out=64 k=3 p=1}{}; conv out=40 k=5 p=2", 32, 32, 32, 1, 3},
        {"conv out=96 k=3 p=1; act ReLU; conv out=33 k=3 p=1; maxpool k=2", 64, 16, 16, 2, 2},
        {"conv out=48 k=3 p=1; act ReLU; conv out=48 k=3 p=1 s=2; conv out=24 k=3 p=1", 64, 20, 35, 1, 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = nets[i].net, .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        software_machine(a, &m);
        int lines = nests_where(check_program(a, &c, &m, nets[i].batch)->infer, joins_lines);
        if (lines < nets[i].lines)
            fail_msg("%s: %d nests with loops over lines", c.net, lines);
        arena_free(a);
    }
}

/* Weights that do not stay in L2: a few samples a panel, the last slice with fewer. */
static void test_far_weights(void **unused)
{
    (void)unused;
    static const int64_t batches[] = {8, 13};
    for (size_t i = 0; i < ARRAY_LEN(batches); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = "conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1; act ReLU; conv out=96 k=1; flatten; linear out=10",
                  .input = shape_of(3, 64, 6, 5)};
        software_machine(a, &m);
        m.options.target.l2 = 32 << 10;
        assert_true(nests_where(check_program(a, &c, &m, batches[i])->infer, has_group) >= 2);
        arena_free(a);
    }
}

/* Few channels and filters, several columns a row: sizes that no number of columns divides, borders, strides, one channel and odd ones,
 * filters wider than high, shared inputs, values that are flattened, or read by a convolution that has no such form;
 * few filters over many channels, and channels that fill no depth. */
static void test_few(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; int few; } nets[] = {
        {"conv out=10 k=3; act ReLU; conv out=10 k=3; act ReLU; maxpool k=2; conv out=10 k=3; act ReLU; conv out=10 k=3; flatten; linear out=10", 3, 29, 31, 3, 4},
        {"conv out=6 k=5 p=2; act ReLU; maxpool k=2; conv out=16 k=5; act ReLU; maxpool k=2; flatten; linear out=12", 1, 28, 28, 17, 2},
        {"conv out=20 k=5; maxpool k=2; flatten; linear out=30; act ReLU", 1, 23, 21, 32, 1},
        {"conv out=7 k=3 p=1 s=2; act SiLU; conv out=9 k=3 p=1 s=2; act Tanh; conv out=12 k=1", 5, 33, 35, 1, 2},
        {"cat{conv out=8 k=3 p=1; act ReLU; conv out=4 k=3 p=1}{conv out=6 k=5 p=2}; conv out=33 k=3 p=1", 4, 17, 13, 2, 3},
        {"conv out=12 k=3 p=1; bn; act ReLU; res{conv out=12 k=3 p=1; act ReLU; conv out=12 k=3 p=1}{}; conv out=48 k=3 p=1; act ReLU", 2, 19, 18, 3, 2},
        {"conv out=8 k=3 d=2 p=2; act ReLU; conv out=2 k=3 p=1; conv out=8 k=7 p=3", 8, 16, 15, 1, 1},
        {"conv out=6 k=5 s=3; act ReLU; conv out=31 k=2; conv out=10 k=3 p=1", 16, 40, 37, 1, 2},
        {"conv out=20 k=3; act ReLU; conv out=25 k=3 p=1; act ReLU; conv out=7 k=1; maxpool k=2; flatten; linear out=9", 20, 15, 14, 17, 3},
        {"conv out=34 k=3; act ReLU; conv out=34 k=3; act ReLU; conv out=10 k=3 s=2 p=1; aavg", 3, 20, 22, 1, 2},
        {"conv out=10 k=3 p=1; act ReLU; conv out=40 k=1", 96, 11, 9, 3, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = nets[i].net, .input = shape_of(3, nets[i].c, nets[i].h, nets[i].w)};
        software_machine(a, &m);
        int few = products_of_windows(check_program(a, &c, &m, nets[i].batch)->infer->kernels);
        if (few != nets[i].few)
            fail_msg("%s: %d convolutions of few channels", c.net, few);
        arena_free(a);
    }
}

/* The kernels of a net, which was run. */
static const KernelList *kernels_of(Arena *a, const char *net, Shape input, int64_t batch)
{
    EmitTarget m;
    Case c = {.net = net, .input = input};
    software_machine(a, &m);
    return check_program(a, &c, &m, batch)->infer->kernels;
}

/* Images between kernels that stay float32. */
static int wide_images(const KernelList *l)
{
    int n = 0;
    for (uint32_t i = 1; i < l->buffers.len; i++) {
        const Buffer *b = &l->buffers.at[i];
        n += b->kind == BUF_WORK && b->batched && b->dtype == DT_F32 && b->shape.rank == 4 && !b->alias_of;
    }
    return n;
}

/* What maxima alone read is stored as bf16: before a pool, through ReLU, in the parts of what they read; not where an average or a sum
 * reads it too, nor before what is no maximum. */
static void test_pools(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; int wide; } nets[] = {
        {"conv out=32 k=3; maxpool k=3 s=2 p=1; act ReLU; conv out=48 k=3; maxpool k=2; act ReLU6; conv out=16 k=1", 32, 17, 21, 1, 0},
        {"cat{conv out=32 k=1; maxpool k=3 s=1 p=1}{conv out=16 k=1}; maxpool k=2; conv out=16 k=1", 24, 12, 10, 3, 0},
        {"conv out=32 k=1; maxpool k=2; act SiLU; conv out=16 k=1", 32, 8, 8, 17, 1},
        {"conv out=32 k=1; cat{avgpool k=3 s=1 p=1}{maxpool k=3 s=1 p=1}; conv out=16 k=1", 32, 9, 8, 2, 1},
        {"conv out=32 k=1; res{maxpool k=3 s=1 p=1}{}; conv out=16 k=1", 32, 9, 8, 1, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        int wide = wide_images(kernels_of(a, nets[i].net, shape_of(3, nets[i].c, nets[i].h, nets[i].w), nets[i].batch));
        if (wide != nets[i].wide)
            fail_msg("%s: %d images of float32", nets[i].net, wide);
        arena_free(a);
    }
}

static int kernels_named(const KernelList *l, const char *part)
{
    int n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        n += strstr(l->kernels.at[i].name, part) != NULL;
    return n;
}

/* Images with a border of zeros: several convolutions of one image, with borders of their own and none; residual additions; pools before
 * and after, with borders of their own; parts of a concatenation; a depthwise convolution; strides and dilation. An image that is seen with
 * another shape as well is copied. */
static void test_borders(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; int edges, copies; } nets[] = {
        {"conv out=48 k=1; cat{conv out=48 k=3 p=1}{conv out=64 k=5 p=2}{conv out=56 k=1}; conv out=48 k=1", 32, 11, 9, 3, 2, 0},
        {"conv out=64 k=1; res{conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1}{}; act ReLU; conv out=48 k=3 p=1 s=2", 32, 14, 18, 1, 6, 0},
        {"conv out=48 k=3 p=1; maxpool k=3 s=2 p=1; act ReLU; conv out=48 k=3 p=1; act ReLU", 16, 17, 20, 17, 4, 0},
        {"conv out=48 k=1; cat{maxpool k=3 s=1 p=1}{conv out=72 k=3 p=1}{avgpool k=3 s=1 p=1}; conv out=48 k=3 p=1", 24, 10, 8, 1, 4, 0},
        {"conv out=48 k=1; res{conv out=48 k=3 p=1 g=48}{conv out=48 k=3 p=1}; act ReLU; conv out=48 k=3 p=3 d=3; conv out=56 k=5 p=2 s=3", 32, 12, 13, 3, 6, 0},
        {"conv out=48 k=1; res{conv out=48 k=3 p=1; flatten}{flatten}; linear out=7", 16, 8, 8, 17, 0, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        const KernelList *l = kernels_of(a, nets[i].net, shape_of(3, nets[i].c, nets[i].h, nets[i].w), nets[i].batch);
        if (kernels_named(l, ".border") != nets[i].edges || kernels_named(l, ".padded") != nets[i].copies)
            fail_msg("%s: %d kernels of borders, %d copies", nets[i].net, kernels_named(l, ".border"), kernels_named(l, ".padded"));
        arena_free(a);
    }
}

/* Parts of concatenations are written in place, into an image with a border as well; not those that others read too, that no product
 * makes, or that begin within a vector of channels. */
static void test_parts(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, w, batch; int copies; } nets[] = {
        {"cat{conv out=48 k=1; act ReLU}{conv out=64 k=3 p=1}{maxpool k=3 s=1 p=1; conv out=56 k=1}; conv out=48 k=3 p=1", 32, 9, 14, 1, 0},
        {"conv out=48 k=1; cat{}{conv out=48 k=3 p=1}{maxpool k=3 s=1 p=1}; maxpool k=2; conv out=48 k=1", 32, 10, 10, 3, 2},
        {"cat{conv out=56 k=1}{conv out=48 k=1}; conv out=48 k=1", 32, 9, 9, 1, 2},
        {"cat{cat{conv out=48 k=1}{conv out=64 k=1}}{conv out=48 k=3 p=1}; conv out=48 k=1", 24, 8, 9, 17, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        const KernelList *l = kernels_of(a, nets[i].net, shape_of(3, nets[i].c, nets[i].h, nets[i].w), nets[i].batch);
        if (kernels_named(l, "cat") != nets[i].copies)
            fail_msg("%s: %d copies of parts", nets[i].net, kernels_named(l, "cat"));
        arena_free(a);
    }
}

static int pick(uint32_t *seed, int n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (int)((*seed >> 16) % (uint32_t)n);
}

/* A few convolutions of random sizes. */
static const char *random_net(Arena *a, uint32_t *seed, bool few)
{
    static const int many[] = {16, 24, 32, 33, 40, 48, 64, 80, 96, 112}, some[] = {2, 3, 5, 6, 8, 10, 12, 15, 18, 20};
    const int *filters = few ? some : many;
    const char *net = "", *gap = "";
    for (int i = 0, n = 2 + pick(seed, 3); i < n; i++) {
        int k = 1 + 2 * pick(seed, 3), s = 1 + (i == 0 && pick(seed, 2)), d = 1 + (pick(seed, 5) == 0);
        const char *then = (const char *[]){"; act ReLU", "; act SiLU", "; bn; act ReLU", "", "; maxpool k=2 s=1"}[pick(seed, i ? 4 : 5)];
        net = arena_printf(a, "%s%sconv out=%d k=%d p=%d s=%d d=%d%s", net, gap, filters[pick(seed, ARRAY_LEN(many))], k, k / 2 * d, s, d, then);
        gap = "; ";
    }
    return pick(seed, 2) ? arena_printf(a, "%s; aavg; flatten; linear out=%d; act ReLU; linear out=20", net, 16 + 8 * pick(seed, 5)) : net;
}

static void test_random(void **unused)
{
    (void)unused;
    static const int batches[] = {1, 1, 2, 18};
    uint32_t seed = 7;
    long dots = 0;
    for (int i = 0; i < RANDOM_NETS; i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = random_net(a, &seed, i % 2),
                  .input = shape_of(3, pick(&seed, 3) ? 16 + 8 * pick(&seed, 7) : 1 + pick(&seed, 8), 5 + pick(&seed, 14), 5 + pick(&seed, 14))};
        software_machine(a, &m);
        check_program(a, &c, &m, batches[pick(&seed, 4)]);
        dots += software_tiles.dots;
        arena_free(a);
    }
    assert_true(dots > 0);
}

/* The nets of the other tests, most of them too narrow for tiles: around those that are not, everything else goes on. */
static void test_other_nets(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(emit_nets); i++) {
        Arena *a = arena_new();
        EmitTarget m;
        Case c = {.net = emit_nets[i].net, .input = shape_of(3, emit_nets[i].c, emit_nets[i].h, emit_nets[i].w)};
        software_machine(a, &m);
        check_program(a, &c, &m, i % 2 ? 17 : 1);
        arena_free(a);
    }
}

/* ---- instructions ---- */
typedef struct { int blocks, full; const char *wrong; } Found;   /* blocks with products; with a load a product; one that is not as it should be */

static bool ends_block(const char *line)
{
    const char *word = line + strspn(line, "\t ");
    return strncmp(line, ".LBB", 4) == 0 || is_function(line) || *word == 'j' || strncmp(word, "ret", 3) == 0;
}

/* A block's products and loads of tiles, from line `first` on: nothing else goes on between them. */
static int see_block(const Lines *l, int first, Found *f)
{
    int dots = 0, loads = 0, others = 0, waiting = 0, i = first;
    for (; i < l->n && !ends_block(l->at[i]); i++) {
        bool dot = strstr(l->at[i], "tdpbf16ps"), load = strstr(l->at[i], "tileloadd");
        dots += dot;
        loads += load;
        waiting += strstr(l->at[i], "tilestored") || strstr(l->at[i], "ldtilecfg") || (!load && !dot && strstr(l->at[i], "mm,")) ||
                   strstr(l->at[i], "(%rsp");
        waiting = load && dots + loads == 1 ? 0 : waiting;   /* what was before the first of them, and after the last, is not between */
        if (dot) {
            others += waiting;
            waiting = 0;
        }
    }
    f->blocks += dots > 0;
    f->full += dots == 4 && loads == 4;
    if (dots && (loads > dots + 1 || (dots == 4 && loads > 5) || dots > 4 || others))
        f->wrong = l->at[first];
    return i;
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *p = strstr(text, word); p; p = strstr(p + 1, word))
        n++;
    return n;
}

static void test_instructions(void **unused)
{
    (void)unused;
    static const struct { const char *net; int64_t c, h, batch; int full; } nets[] = {   /* full: layers with 2 x 2 tiles of sums */
        {"conv out=64 k=1; act ReLU; conv out=256 k=3 p=1 s=2; act ReLU; conv out=64 k=1", 64, 56, 1, 3},
        {"flatten; linear out=128; act ReLU; linear out=96; act ReLU; linear out=64", 64, 4, 32, 2},
        {"conv out=256 k=3 p=1; act ReLU", 256, 28, 1, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(nets); i++) {
        Arena *a = arena_new();
        CpuTarget t;
        CompileOptions o;
        Found f = {0};
        sapphire_rapids(a, &t, &o);
        char *text = assembly_of(a, net_program(a, nets[i].net, shape_of(3, nets[i].c, nets[i].h, nets[i].h), nets[i].batch, &o, false), &t);
        assert_int_equal(count(text, "\tldtilecfg"), count(text, "\ttilerelease"));
        assert_true(count(text, "\ttilestored") > 0);
        Lines l = split_lines(a, text);
        for (int at = 0; at < l.n; at++)
            at = see_block(&l, at, &f);
        if (f.wrong)
            fail_msg("net %d: the block from %s", (int)i, f.wrong);
        if (f.full < nets[i].full)
            fail_msg("net %d: %d blocks with 2 x 2 tiles of sums, of %d", (int)i, f.full, f.blocks);
        arena_free(a);
    }
}

/* Without permission a library's function says so; where the CPU has no tile registers there is none. */
static void test_library(void **unused)
{
    (void)unused;
    Arena *a = arena_new();
    CpuTarget t;
    CompileOptions o;
    Bytes object;
    const char *why = NULL;
    const CnncModel *model;
    sapphire_rapids(a, &t, &o);
    Program *p = net_program(a, "conv out=32 k=1; act ReLU", shape_of(3, 32, 8, 8), 1, &o, false);
    if (!module_compile(a, p, &t, CPU_OBJECT, true, &object, &why))
        fail_msg("%s", why);
    CpuJit *j = jit_load(a, p, object, &model, &why);
    assert_non_null(j);
    free(object.data);
    int (*infer)(const float *, float *, void *) = (int (*)(const float *, float *, void *))(uintptr_t)jit_find(j, "test_infer");
    size_t (*workspace)(void) = (size_t (*)(void))(uintptr_t)jit_find(j, "test_workspace_size");
    assert_true(infer && workspace);
    static float in[32 * 64], out[32 * 64];
    int code = infer(in, out, aligned(a, (int64_t)workspace()));
    if (code)
        assert_int_equal(code, 4);
    else
        print_message("this CPU has tile registers\n");
    assert_int_equal(infer(NULL, out, NULL), 1);
    jit_free(j);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_outputs), cmocka_unit_test(test_few), cmocka_unit_test(test_lines), cmocka_unit_test(test_far_weights), cmocka_unit_test(test_pools), cmocka_unit_test(test_borders), cmocka_unit_test(test_parts), cmocka_unit_test(test_random), cmocka_unit_test(test_other_nets), cmocka_unit_test(test_instructions), cmocka_unit_test(test_library)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
