/* Lowering against the reference interpreter: every op row that has a lowering, over awkward shapes, alone and fused, with
 * fewer samples than the batch. Values of the interpreted kernels must equal the reference's to 1e-10.
 *
 * A case builds a small graph whose leaves are filled with random numbers; all values that kernels store are compared. */
#include "codegen/lower.h"
#include "ir/ref/ref.h"
#include "runtime/abi.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 5 };
typedef struct {
    Arena *a;
    Graph *g;
    double *leaf[256];      /* by ValueId: values of leaves, batch rows */
    uint32_t random;
    const char *label;
} T;

static bool covered[OP_COUNT];

static double uniform(T *t)
{
    t->random = t->random * 1664525u + 1013904223u;
    return (double)(t->random >> 8) / 8388608.0 - 1;
}

static T begin(const char *label)
{
    T t = {.a = arena_new(), .random = 12345, .label = label};
    t.g = graph_new(t.a, "test", BATCH);
    return t;
}

/* ---- building ---- */
static ValueId leaf(T *t, Op op, bool batched, Shape s)
{
    Attrs at;
    memset(&at, 0, sizeof at);
    ValueId v = node_out(t->g, graph_add_node(t->g, op, NULL, 0, &at, -1, (Span){0, 0}), 0);
    Value *x = graph_value(t->g, v);
    x->shape = s;
    x->batched = batched;
    x->known = true;
    x->name = arena_printf(t->a, "v%u", v);
    int64_t n = shape_elements(&s);
    t->leaf[v] = NEWN(t->a, double, n + 1);
    for (int64_t i = 0; i < n; i++)
        t->leaf[v][i] = (double)(float)uniform(t);
    return v;
}

/* A batched value: dims after the batch. */
static ValueId input(T *t, int rank, const int64_t *dims)
{
    Shape s = {.rank = rank + 1, .dim = {BATCH}};
    memcpy(s.dim + 1, dims, sizeof *dims * (size_t)rank);
    return leaf(t, OP_INPUT, true, s);
}
#define IN(t, ...) input((t), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})
#define PARAM(t, ...)                                                                                                                                \
    leaf((t), OP_PARAM, false, shape_from((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}))

static void make_positive(T *t, ValueId v)
{
    for (int64_t i = 0; i < shape_elements(&graph_value(t->g, v)->shape); i++)
        t->leaf[v][i] = fabs(t->leaf[v][i]) + 0.1;
}

static ValueId scalar(T *t, int which, double value, DType type)
{
    ValueId v = leaf(t, OP_SCALAR, false, (Shape){.rank = 0});
    graph_def(t->g, v)->attrs.axis.axis = which;
    graph_value(t->g, v)->dtype = type;
    t->leaf[v][0] = value;
    return v;
}

static ValueId labels(T *t, int64_t classes, int64_t positions, double first)
{
    Shape s = {.rank = positions ? 2 : 1, .dim = {BATCH, positions}};
    ValueId v = leaf(t, OP_LABELS, true, s);
    graph_value(t->g, v)->dtype = DT_I32;
    for (int64_t i = 0; i < shape_elements(&s); i++)
        t->leaf[v][i] = (double)(i * 7 % classes);
    t->leaf[v][0] = first;
    return v;
}

static NodeId add_node(T *t, Op op, const ValueId *in, int n_in, const Attrs *at, bool batched, Shape s)
{
    NodeId n = graph_add_node(t->g, op, in, n_in, at, -1, (Span){0, 0});
    for (int i = 0; i < graph_node(t->g, n)->n_out; i++) {
        Value *x = graph_value(t->g, node_out(t->g, n, i));
        x->shape = s;
        x->batched = batched;
        x->known = true;
    }
    covered[op] = true;
    return n;
}
#define NODE(t, op, at, batched, shape, ...) \
    add_node((t), (op), (const ValueId[]){__VA_ARGS__}, (int)(sizeof((ValueId[]){__VA_ARGS__}) / sizeof(ValueId)), (at), (batched), (shape))
static ValueId out(T *t, NodeId n) { return node_out(t->g, n, 0); }
static Shape shape_like(T *t, ValueId v) { return graph_value(t->g, v)->shape; }

/* ---- running ---- */
static double *store_leaf(T *t, const Buffer *b, ValueId v)
{
    double *m = NEWN(t->a, double, buffer_elements(b) + 1);
    memcpy(m, t->leaf[v], sizeof(double) * (size_t)shape_elements(&b->shape));
    return m;
}

static double **memory(T *t, const KernelList *l)
{
    double **mem = NEWN(t->a, double *, l->buffers.len);
    for (uint32_t i = 1; i < l->buffers.len; i++) {
        const Buffer *b = &l->buffers.at[i];
        int64_t n = buffer_elements(b);
        if (b->alias_of || b->updates)
            continue;
        if (b->value && t->leaf[b->value]) {
            mem[i] = store_leaf(t, b, b->value);
            continue;
        }
        mem[i] = NEWN(t->a, double, n + 1);
        for (int64_t j = 0; j < n; j++)
            mem[i][j] = b->data ? b->data[j] : NAN;
    }
    for (uint32_t i = 1; i < l->buffers.len; i++)
        if (l->buffers.at[i].alias_of || l->buffers.at[i].updates)
            mem[i] = mem[l->buffers.at[i].alias_of ? l->buffers.at[i].alias_of : l->buffers.at[i].updates];
    return mem;
}

static RefTensor *reference(T *t, int64_t n)
{
    const Graph *g = t->g;
    RefTensor *value = NEWN(t->a, RefTensor, g->values.len);
    for (NodeId i = 1; i < g->nodes.len; i++) {
        ValueId v = node_out(g, i, 0);
        if (!(op_flags(graph_node(g, i)->op) & OPF_LEAF)) {
            ref_run_node(t->a, g, i, n, value);
            continue;
        }
        value[v] = (RefTensor){graph_value(g, v)->shape, t->leaf[v]};
        if (graph_value(g, v)->batched)
            value[v].shape.dim[0] = n;
    }
    return value;
}

static void compare(T *t, const KernelList *l, double **mem, const RefTensor *want, int64_t n)
{
    int compared = 0;
    for (ValueId v = 1; v < t->g->values.len; v++) {
        BufId b = l->buf_of_value[v];
        if (!b || t->leaf[v] || !want[v].data)
            continue;
        int64_t count = shape_elements(&want[v].shape);
        for (int64_t i = 0; i < count; i++) {
            double got = mem[b][i], expect = want[v].data[i];
            bool nowhere = expect == -1 && graph_value(t->g, v)->dtype == DT_I32;   /* a window in the padding: its index is never met */
            bool same = got == expect || nowhere || (isnan(got) && isnan(expect)) || fabs(got - expect) <= 1e-10 * (1 + fabs(expect));
            if (!same) {
                kernels_print(l, stderr);
                fail_msg("%s: value %u (%s), n %d, element %d: kernels %.17g, reference %.17g", t->label, v,
                         op_text(graph_def(t->g, v)->op), (int)n, (int)i, got, expect);
            }
        }
        compared++;
    }
    if (!compared)
        fail_msg("%s: nothing was compared", t->label);
}

static void check(T *t, const Fusion *f)
{
    const char *why = NULL;
    KernelList *l = lower(t->a, t->g, f, PARAMS_IN_STATE);
    FILE *sink = fopen("/dev/null", "w");
    if (!kernels_verify(l, &why)) {
        kernels_print(l, stderr);
        fail_msg("%s: %s", t->label, why);
    }
    kernels_print(l, getenv("SHOW_KERNELS") ? stdout : sink);
    fclose(sink);
    double scalars[CNNC_SC_COUNT] = {0};
    for (ValueId v = 1; v < t->g->values.len; v++)
        if (graph_def(t->g, v)->op == OP_SCALAR)
            scalars[graph_def(t->g, v)->attrs.axis.axis] = t->leaf[v][0];
    for (int64_t n = BATCH; n > 0; n -= 2) {
        double **mem = memory(t, l);
        kernels_interpret(l, mem, n, scalars);
        compare(t, l, mem, reference(t, n), n);
    }
}

/* Alone and fused; `output` is the graph's result. */
static void end(T *t, ValueId output)
{
    t->g->output = output;
    Fusion none = fuse_none(t->a, t->g), fused = fuse(t->a, t->g);
    check(t, &none);
    check(t, &fused);
    arena_free(t->a);
}

/* ---- pieces of graphs ---- */
static const Attrs no_attrs;

/* Keeps a value alive: a flattened view of it. */
static void keep(T *t, ValueId v)
{
    Shape s = shape_like(t, v), flat = {.rank = 1, .dim = {shape_elements(&s)}};
    bool batched = graph_value(t->g, v)->batched;
    if (batched)
        flat = shape_of(2, s.dim[0], shape_elements(&s) / s.dim[0]);
    NodeId n = NODE(t, OP_RESHAPE, &no_attrs, batched, flat, v);
    graph_value(t->g, out(t, n))->dtype = graph_value(t->g, v)->dtype;
}

static ValueId act(T *t, ActKind kind, ValueId x, ValueId w, double a, double b)
{
    Attrs at = {.act = {.kind = kind, .p = {a, b}}};
    return out(t, NODE(t, OP_ACT, &at, graph_value(t->g, x)->batched, shape_like(t, x), x, w));
}

static ValueId act_dx(T *t, ActKind kind, ValueId dy, ValueId x, ValueId y, ValueId w, double a, double b)
{
    Attrs at = {.act = {.kind = kind, .p = {a, b}}};
    return out(t, NODE(t, OP_ACT_DX, &at, graph_value(t->g, dy)->batched, shape_like(t, dy), dy, x, y, w));
}

static ValueId add(T *t, ValueId x, ValueId y) { return out(t, NODE(t, OP_ADD, &no_attrs, true, shape_like(t, x), x, y)); }

/* relu(x + other), where `other` is a fresh input of the same shape: an epilogue for anchors. */
static ValueId epilogue(T *t, ValueId x)
{
    Shape s = shape_like(t, x);
    return act(t, ACT_RELU, add(t, x, leaf(t, OP_INPUT, true, s)), 0, 0, 0);
}

/* lo..hi */
static int64_t pick(T *t, int64_t lo, int64_t hi)
{
    uniform(t);
    return lo + (int64_t)(t->random >> 12) % (hi - lo + 1);
}

/* ---- convolutions ---- */
typedef struct { int nd; int64_t n_in, n_out, groups, size[3], kernel[3], stride[3], dilation[3], lo[3], hi[3]; bool bias; } Conv;

static const Conv convs[] = {
    {2, 1, 3, 1, {8, 7}, {5, 5}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, true},
    {2, 3, 4, 1, {6, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, true},
    {2, 3, 5, 1, {9, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, false},
    {2, 2, 2, 1, {7, 7}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, true},
    {2, 4, 6, 2, {7, 6}, {3, 2}, {2, 1}, {2, 3}, {2, 1}, {1, 2}, true},
    {2, 4, 4, 4, {6, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, true},
    {2, 3, 6, 3, {7, 5}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, false},
    {2, 2, 3, 1, {10, 11}, {3, 3}, {3, 2}, {2, 2}, {0, 3}, {1, 0}, true},
    {2, 2, 3, 1, {9, 9}, {2, 2}, {4, 3}, {2, 3}, {1, 0}, {0, 1}, true},
    {2, 1, 1, 1, {1, 1}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, true},
    {1, 3, 4, 1, {11}, {4}, {3}, {1}, {2}, {1}, true},
    {3, 2, 3, 1, {4, 5, 3}, {2, 3, 2}, {1, 2, 1}, {1, 1, 1}, {1, 1, 0}, {0, 1, 1}, true},
    {2, 6, 4, 2, {5, 5}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, true},
    {2, 3, 3, 3, {8, 6}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, false},   /* one kernel makes all classes of the data gradient: */
    {2, 4, 2, 2, {8, 8}, {5, 5}, {2, 2}, {1, 1}, {2, 1}, {2, 2}, true},
    {2, 2, 2, 2, {6, 4}, {1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, false},   /* most without a tap */
    {3, 2, 2, 2, {4, 5, 6}, {2, 3, 2}, {2, 1, 2}, {1, 2, 3}, {1, 1, 0}, {0, 1, 1}, true},
};

static Attrs conv_attrs(const Conv *c)
{
    Attrs at;
    memset(&at, 0, sizeof at);
    at.conv = (ConvAttrs){.nd = c->nd, .in_channels = c->n_in, .out_channels = c->n_out, .groups = c->groups, .bias = c->bias};
    memcpy(at.conv.kernel, c->kernel, sizeof c->kernel);
    memcpy(at.conv.stride, c->stride, sizeof c->stride);
    memcpy(at.conv.dilation, c->dilation, sizeof c->dilation);
    memcpy(at.conv.pad_lo, c->lo, sizeof c->lo);
    memcpy(at.conv.pad_hi, c->hi, sizeof c->hi);
    return at;
}

static void conv_shapes(const Conv *c, Shape *x, Shape *w, Shape *y)
{
    *x = (Shape){c->nd + 2, {BATCH, c->n_in}};
    *w = (Shape){c->nd + 2, {c->n_out, c->n_in / c->groups}};
    *y = (Shape){c->nd + 2, {BATCH, c->n_out}};
    for (int d = 0; d < c->nd; d++) {
        x->dim[2 + d] = c->size[d];
        w->dim[2 + d] = c->kernel[d];
        y->dim[2 + d] = (c->size[d] + c->lo[d] + c->hi[d] - c->dilation[d] * (c->kernel[d] - 1) - 1) / c->stride[d] + 1;
    }
}

static void conv_case(const Conv *c, int i)
{
    Shape xs, ws, ys;
    conv_shapes(c, &xs, &ws, &ys);
    Attrs at = conv_attrs(c);
    T t = begin("conv");
    t.label = arena_printf(t.a, "conv %d", i);
    ValueId x = leaf(&t, OP_INPUT, true, xs), w = leaf(&t, OP_PARAM, false, ws);
    ValueId b = c->bias ? PARAM(&t, c->n_out) : 0;
    ValueId y = out(&t, NODE(&t, OP_CONV, &at, true, ys, x, w, b));
    ValueId dy = epilogue(&t, y), dx = out(&t, NODE(&t, OP_CONV_DX, &at, true, xs, dy, w, x));
    ValueId dw = out(&t, NODE(&t, OP_CONV_DW, &at, false, ws, x, dy, w));
    Attrs channel = {.axis = {1}};
    keep(&t, dw);
    keep(&t, out(&t, NODE(&t, OP_SUM_KEEP, &channel, false, shape_of(1, c->n_out), dy)));
    end(&t, act_dx(&t, ACT_RELU, dx, 0, x, 0, 0, 0));
}

static void test_conv(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(convs); i++)
        conv_case(&convs[i], (int)i);
}

/* RANDOM_CASES=n in the environment: more of them, and other ones. */
static int random_cases(T *t)
{
    const char *n = getenv("RANDOM_CASES");
    t->random += n ? (uint32_t)strtoul(n, NULL, 10) : 0;
    return n ? atoi(n) : 60;
}

static void test_conv_random(void **state)
{
    (void)state;
    T r = begin("");
    for (int i = random_cases(&r); i > 0; i--) {
        Conv c = {.nd = (int)pick(&r, 1, 3), .groups = pick(&r, 1, 3), .bias = pick(&r, 0, 1)};
        c.n_in = c.groups * pick(&r, 1, 3);
        c.n_out = c.groups * pick(&r, 1, 3);
        for (int d = 0; d < c.nd; d++) {
            c.kernel[d] = pick(&r, 1, 4);
            c.stride[d] = pick(&r, 1, 4);
            c.dilation[d] = pick(&r, 1, 4);
            c.lo[d] = pick(&r, 0, 4);
            c.hi[d] = pick(&r, 0, 4);
            int64_t least = c.dilation[d] * (c.kernel[d] - 1) + 1 - c.lo[d] - c.hi[d];
            c.size[d] = (least < 1 ? 1 : least) + pick(&r, 0, c.nd == 3 ? 3 : 8);
        }
        conv_case(&c, 1000 + i);
    }
    arena_free(r.a);
}

static void test_linear(void **state)
{
    (void)state;
    for (int rank = 2; rank <= 4; rank++) {
        T t = begin("linear");
        Shape xs = shape_of(rank, BATCH, 3, 2, 2), ys;
        xs.dim[rank - 1] = 7;
        ys = xs;
        ys.dim[rank - 1] = 4;
        ValueId x = leaf(&t, OP_INPUT, true, xs), w = PARAM(&t, 4, 7), b = rank == 3 ? 0 : PARAM(&t, 4);
        ValueId y = epilogue(&t, out(&t, NODE(&t, OP_LINEAR, &no_attrs, true, ys, x, w, b)));
        ValueId dx = out(&t, NODE(&t, OP_LINEAR_DX, &no_attrs, true, xs, y, w));
        keep(&t, out(&t, NODE(&t, OP_LINEAR_DW, &no_attrs, false, shape_of(2, 4, 7), x, y)));
        Attrs last = {.axis = {rank - 1}};
        keep(&t, out(&t, NODE(&t, OP_SUM_KEEP, &last, false, shape_of(1, 4), y)));
        end(&t, epilogue(&t, dx));
    }
}

/* ---- pools ---- */
typedef struct { int nd; int64_t size[3], kernel[3], stride[3], dilation[3], pad[3]; bool ceil, count; int64_t divisor; } PoolCase;
static const PoolCase pools[] = {
    {2, {8, 6}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, false, true, 0},
    {2, {7, 9}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, false, true, 0},
    {2, {7, 9}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, true, true, 0},
    {2, {7, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, false, true, 0},
    {2, {7, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true, false, 0},
    {2, {6, 7}, {3, 2}, {1, 3}, {1, 1}, {1, 0}, true, true, 5},
    {2, {9, 9}, {3, 3}, {2, 2}, {2, 2}, {1, 1}, false, true, 0},   /* dilation: max only */
    {2, {10, 9}, {3, 2}, {4, 3}, {2, 3}, {1, 1}, true, true, 0},   /* dilation: max only */
    {2, {5, 5}, {5, 5}, {5, 5}, {1, 1}, {0, 0}, false, false, 0},
    {2, {9, 4}, {2, 1}, {3, 1}, {1, 1}, {0, 0}, false, true, 0},
    {1, {9}, {3}, {2}, {1}, {1}, true, true, 0},
    {3, {4, 5, 6}, {2, 3, 2}, {2, 2, 2}, {1, 1, 1}, {0, 1, 0}, false, false, 0},
};

static int64_t pooled(const PoolCase *p, int d)
{
    int64_t span = p->size[d] + 2 * p->pad[d] - p->dilation[d] * (p->kernel[d] - 1) - 1;
    int64_t n = (p->ceil ? (span + p->stride[d] - 1) / p->stride[d] : span / p->stride[d]) + 1;
    return p->ceil && (n - 1) * p->stride[d] >= p->size[d] + p->pad[d] ? n - 1 : n;
}

static void pool_case(const PoolCase *p, bool max, int i)
{
    T t = begin("pool");
    t.label = arena_printf(t.a, "%s pool %d", max ? "max" : "average", i);
    Attrs at;
    memset(&at, 0, sizeof at);
    at.pool = (PoolAttrs){.nd = p->nd, .ceil_mode = p->ceil, .count_include_pad = p->count, .divisor_override = p->divisor};
    Shape xs = {p->nd + 2, {BATCH, 3}}, ys = xs;
    for (int d = 0; d < p->nd; d++) {
        at.pool.kernel[d] = p->kernel[d];
        at.pool.stride[d] = p->stride[d];
        at.pool.dilation[d] = p->dilation[d];
        at.pool.pad[d] = p->pad[d];
        xs.dim[2 + d] = p->size[d];
        ys.dim[2 + d] = pooled(p, d);
    }
    ValueId x = leaf(&t, OP_INPUT, true, xs);
    for (int64_t j = 0; max && j < shape_elements(&xs); j += 3)
        t.leaf[x][j] = 0.5;   /* ties */
    if (max)
        t.leaf[x][1] = NAN;
    NodeId n = NODE(&t, max ? OP_MAXPOOL : OP_AVGPOOL, &at, true, ys, x);
    ValueId dy = epilogue(&t, out(&t, n)), dx;
    if (max) {
        dy = leaf(&t, OP_INPUT, true, ys);
        dx = out(&t, NODE(&t, OP_MAXPOOL_DX, &at, true, xs, dy, node_out(t.g, n, 1), x));
        keep(&t, node_out(t.g, n, 1));
    } else {
        dx = out(&t, NODE(&t, OP_AVGPOOL_DX, &at, true, xs, dy, x));
    }
    end(&t, epilogue(&t, dx));
}

static void test_pool(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
        pool_case(&pools[i], true, (int)i);
        if (pools[i].dilation[0] == 1)
            pool_case(&pools[i], false, (int)i);
    }
}

static void test_pool_random(void **state)
{
    (void)state;
    T r = begin("");
    for (int i = random_cases(&r); i > 0; i--) {
        PoolCase p = {.nd = (int)pick(&r, 1, 3), .ceil = pick(&r, 0, 1), .count = pick(&r, 0, 1), .divisor = pick(&r, 0, 3) ? 0 : pick(&r, 1, 9)};
        bool max = pick(&r, 0, 1);
        for (int d = 0; d < p.nd; d++) {
            p.kernel[d] = pick(&r, 1, 4);
            p.stride[d] = pick(&r, 1, 5);
            p.dilation[d] = max ? pick(&r, 1, 3) : 1;
            p.pad[d] = pick(&r, 0, p.kernel[d] / 2);
            int64_t least = p.dilation[d] * (p.kernel[d] - 1) + 1 - 2 * p.pad[d];
            p.size[d] = (least < 1 ? 1 : least) + pick(&r, 0, p.nd == 3 ? 3 : 8);
        }
        pool_case(&p, max, 1000 + i);
    }
    arena_free(r.a);
}

static void adaptive_case(const int64_t *s, bool max)
{
    T t = begin("adaptive");
    Attrs at = {.adaptive = {.nd = 2, .out = {s[2], s[3]}}};
    Shape xs = shape_of(4, BATCH, 2, s[0], s[1]), ys = shape_of(4, BATCH, 2, s[2], s[3]);
    ValueId x = leaf(&t, OP_INPUT, true, xs), dy = leaf(&t, OP_INPUT, true, ys), dx;
    NodeId n = NODE(&t, max ? OP_ADAPTIVE_MAX : OP_ADAPTIVE_AVG, &at, true, ys, x);
    keep(&t, epilogue(&t, out(&t, n)));
    if (max)
        dx = out(&t, NODE(&t, OP_ADAPTIVE_MAX_DX, &at, true, xs, dy, node_out(t.g, n, 1), x));
    else
        dx = out(&t, NODE(&t, OP_ADAPTIVE_AVG_DX, &at, true, xs, dy, x));
    end(&t, epilogue(&t, dx));
}

static void test_adaptive(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{8, 6, 4, 3}, {7, 5, 3, 2}, {7, 7, 1, 1}, {3, 4, 7, 5}, {6, 5, 6, 2}, {10, 7, 4, 7}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (int max = 0; max < 2; max++)
            adaptive_case(sizes[i], max);
    T r = begin("");
    for (int i = random_cases(&r) / 3; i > 0; i--)
        adaptive_case((int64_t[]){pick(&r, 1, 12), pick(&r, 1, 12), pick(&r, 1, 12), pick(&r, 1, 12)}, pick(&r, 0, 1));
    arena_free(r.a);
}

/* ---- normalisation ---- */
static void norm_case(Shape xs, bool affine, double momentum)
{
    T t = begin("batchnorm");
    Attrs at = {.norm = {.features = xs.dim[1], .eps = 1e-5, .momentum = momentum}}, var_at = at;
    var_at.norm.track = true;
    Shape c = shape_of(1, xs.dim[1]);
    ValueId x = leaf(&t, OP_INPUT, true, xs), dy = leaf(&t, OP_INPUT, true, xs);
    ValueId gamma = affine ? leaf(&t, OP_PARAM, false, c) : 0, beta = affine ? leaf(&t, OP_PARAM, false, c) : 0;
    ValueId rm = leaf(&t, OP_PARAM, false, c), rv = leaf(&t, OP_PARAM, false, c), count = leaf(&t, OP_PARAM, false, (Shape){.rank = 0});
    make_positive(&t, rv);
    graph_value(t.g, count)->dtype = DT_I64;
    t.leaf[count][0] = 4;
    NodeId stats = NODE(&t, OP_BN_STATS, &at, false, c, x);
    ValueId mean = node_out(t.g, stats, 0), var = node_out(t.g, stats, 1);
    ValueId y = out(&t, NODE(&t, OP_BN_TRAIN, &at, true, xs, x, gamma, beta, mean, var));
    keep(&t, act(&t, ACT_RELU, y, 0, 0, 0));
    NodeId sums = NODE(&t, OP_BN_SUMS, &at, false, c, dy, x, mean, var);
    keep(&t, node_out(t.g, sums, 0));
    keep(&t, node_out(t.g, sums, 1));
    keep(&t, out(&t, NODE(&t, OP_BN_DX, &at, true, xs, dy, x, gamma, mean, var, node_out(t.g, sums, 0), node_out(t.g, sums, 1))));
    keep(&t, out(&t, NODE(&t, OP_BATCHNORM, &at, true, xs, x, gamma, beta, rm, rv)));
    if (affine)
        keep(&t, out(&t, NODE(&t, OP_AFFINE, &no_attrs, true, xs, x, gamma, beta)));
    ValueId rm2 = out(&t, NODE(&t, OP_BN_RUNNING, &at, false, c, rm, mean, count, x));
    ValueId rv2 = out(&t, NODE(&t, OP_BN_RUNNING, &var_at, false, c, rv, var, count, x));
    ValueId count2 = out(&t, NODE(&t, OP_COUNT_BATCH, &no_attrs, false, (Shape){.rank = 0}, count));
    vec_push(t.a, &t.g->updates, (StatePair){rm, rm2});
    vec_push(t.a, &t.g->updates, (StatePair){rv, rv2});
    vec_push(t.a, &t.g->updates, (StatePair){count, count2});
    end(&t, y);
}

static void test_norm(void **state)
{
    (void)state;
    norm_case(shape_of(4, BATCH, 3, 4, 5), true, 0.1);
    norm_case(shape_of(4, BATCH, 3, 2, 2), false, -1);
    norm_case(shape_of(3, BATCH, 2, 7), true, -1);
    norm_case(shape_of(5, BATCH, 2, 2, 3, 2), true, 0.3);
}

/* ---- maps ---- */
static void test_act(void **state)
{
    (void)state;
    static const double p[][2] = {[ACT_LEAKY_RELU] = {0.01}, [ACT_RRELU] = {0.125, 1.0 / 3}, [ACT_ELU] = {1.3}, [ACT_CELU] = {0.7},
                                  [ACT_SOFTPLUS] = {2, 1.5}, [ACT_HARDTANH] = {-0.5, 0.7}, [ACT_SOFTSHRINK] = {0.5},
                                  [ACT_HARDSHRINK] = {0.5}, [ACT_THRESHOLD] = {0.1, 0.3}, [ACT_COUNT] = {0}};
    for (int kind = 0; kind < ACT_COUNT; kind++) {
        T t = begin(act_text((ActKind)kind));
        ValueId x = IN(&t, 3, 40), dy = IN(&t, 3, 40), w = kind == ACT_PRELU ? PARAM(&t, 3) : 0;
        for (int i = 0; i < BATCH * 120; i++)
            t.leaf[x][i] *= 8;
        static const double kinks[] = {0, -0.0, 6, 3, -3, 0.5, -0.5, 0.7, 0.1, 1e-30, NAN, INFINITY, -INFINITY, 30, -30};
        memcpy(t.leaf[x], kinks, sizeof kinks);
        ValueId y = act(&t, (ActKind)kind, x, w, p[kind][0], p[kind][1]);
        bool reads_y = kind == ACT_RELU || kind == ACT_RELU6 || kind == ACT_SIGMOID || kind == ACT_TANH;
        ValueId dx = act_dx(&t, (ActKind)kind, dy, reads_y ? 0 : x, reads_y ? y : 0, w, p[kind][0], p[kind][1]);
        keep(&t, y);
        end(&t, add(&t, dx, dx));
    }
    for (int per_channel = 0; per_channel < 2; per_channel++) {
        T t = begin("prelu.dw");
        ValueId x = IN(&t, 3, 4, 5), dy = IN(&t, 3, 4, 5), w = PARAM(&t, per_channel ? 3 : 1);
        Attrs at = {.act = {.kind = ACT_PRELU}};
        keep(&t, out(&t, NODE(&t, OP_PRELU_DW, &at, false, shape_like(&t, w), dy, x, w)));
        end(&t, act(&t, ACT_PRELU, x, w, 0, 0));
    }
}

static void test_rows(void **state)
{
    (void)state;
    for (int axis = 1; axis < 4; axis++) {
        T t = begin("softmax");
        ValueId x = IN(&t, 4, 6, 2), dy = IN(&t, 4, 6, 2), half = IN(&t, 4, 6, 2);
        Attrs at = {.axis = {axis}};
        Shape s = shape_like(&t, x), h = s;
        h.dim[axis] /= 2;
        ValueId y = out(&t, NODE(&t, OP_SOFTMAX, &at, true, s, x)), z = out(&t, NODE(&t, OP_LOG_SOFTMAX, &at, true, s, x));
        keep(&t, out(&t, NODE(&t, OP_SOFTMAX_DX, &at, true, s, dy, y)));
        keep(&t, out(&t, NODE(&t, OP_LOG_SOFTMAX_DX, &at, true, s, dy, z)));
        ValueId g = out(&t, NODE(&t, OP_GLU, &at, true, h, half));
        end(&t, out(&t, NODE(&t, OP_GLU_DX, &at, true, s, g, half)));
    }
    for (int channels = 0; channels < 2; channels++) {
        T t = begin("dropout");
        ValueId x = IN(&t, 3, 4, 5), seed = scalar(&t, CNNC_SC_SEED, 3000000019.0, DT_I32);
        Attrs at = {.dropout = {.p = 0.4, .stream = 3, .channels = channels}};
        ValueId y = out(&t, NODE(&t, OP_DROPOUT, &at, true, shape_like(&t, x), x, seed));
        keep(&t, out(&t, NODE(&t, OP_DROPOUT, &at, true, shape_like(&t, x), x, 0)));
        end(&t, act(&t, ACT_TANH, y, 0, 0, 0));
    }
}

/* ---- moving values ---- */
static void test_pad(void **state)
{
    (void)state;
    static const struct { PadMode mode; int64_t lo[2], hi[2]; } cases[] = {
        {PAD_CONSTANT, {1, 2}, {0, 3}}, {PAD_ZEROS, {2, 0}, {1, 1}}, {PAD_CONSTANT, {-1, 1}, {2, -2}},
        {PAD_REFLECT, {2, 3}, {1, 4}}, {PAD_REPLICATE, {2, 1}, {5, 0}}, {PAD_CIRCULAR, {4, 2}, {1, 5}}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        T t = begin("pad");
        Attrs at = {.pad = {.nd = 2, .mode = cases[i].mode, .value = cases[i].mode == PAD_CONSTANT ? 0.75 : 0}};
        ValueId x = IN(&t, 2, 4, 5);
        Shape xs = shape_like(&t, x), ys = xs;
        for (int d = 0; d < 2; d++) {
            at.pad.lo[d] = cases[i].lo[d];
            at.pad.hi[d] = cases[i].hi[d];
            ys.dim[2 + d] += cases[i].lo[d] + cases[i].hi[d];
        }
        ValueId dy = leaf(&t, OP_INPUT, true, ys);
        keep(&t, out(&t, NODE(&t, OP_PAD, &at, true, ys, x)));
        end(&t, out(&t, NODE(&t, OP_PAD_DX, &at, true, xs, dy, x)));
    }
}

static void test_join(void **state)
{
    (void)state;
    T t = begin("concat");
    Attrs at = {.axis = {1}};
    ValueId a = IN(&t, 2, 3, 3), b = IN(&t, 4, 3, 3), c = IN(&t, 1, 3, 3);
    ValueId y = out(&t, NODE(&t, OP_CONCAT, &at, true, shape_of(4, BATCH, 7, 3, 3), a, b, c));
    Attrs cut = {.slice = {.axis = 1, .start = 2, .size = 4}};
    keep(&t, epilogue(&t, out(&t, NODE(&t, OP_SLICE, &cut, true, shape_like(&t, b), y))));
    ValueId flat = out(&t, NODE(&t, OP_RESHAPE, &no_attrs, true, shape_of(2, BATCH, 63), y));
    end(&t, out(&t, NODE(&t, OP_RESHAPE_BACK, &no_attrs, true, shape_of(4, BATCH, 7, 3, 3), flat, y)));
}

/* The result is the input itself, or a view of it. */
static void test_copies(void **state)
{
    (void)state;
    T t = begin("flatten alone");
    ValueId x = IN(&t, 2, 3, 3);
    end(&t, out(&t, NODE(&t, OP_RESHAPE, &no_attrs, true, shape_of(2, BATCH, 18), x)));
    t = begin("identity");
    t.g->output = IN(&t, 4);
    KernelList *l = lower(t.a, t.g, NULL, PARAMS_CONST);
    const char *why = "";
    assert_true(kernels_verify(l, &why));
    double **mem = memory(&t, l);
    kernels_interpret(l, mem, 2, NULL);
    int outputs = 0;
    for (uint32_t i = 1; i < l->buffers.len; i++) {
        if (l->buffers.at[i].kind != BUF_OUTPUT)
            continue;
        outputs++;
        for (int j = 0; j < 8; j++)
            assert_true(mem[i][j] == t.leaf[t.g->output][j]);
        assert_true(isnan(mem[i][8]));
    }
    assert_int_equal(outputs, 1);
    arena_free(t.a);
}

/* ---- losses and updates ---- */
static void loss_case(Op op, int64_t positions, double first, double smoothing, int reduction, bool numbers)
{
    T t = begin(op_text(op));
    Attrs at = {.loss = {.smoothing = smoothing, .reduction = reduction}};
    Shape xs = positions ? shape_of(3, BATCH, 6, positions) : shape_of(2, BATCH, 6);
    ValueId x = leaf(&t, OP_INPUT, true, xs), target = numbers ? leaf(&t, OP_LABELS, true, xs) : labels(&t, 6, positions, first);
    NodeId n = NODE(&t, op, &at, true, xs, x, target);
    for (int i = 0; i < 3; i += 2) {
        graph_value(t.g, node_out(t.g, n, i))->shape = (Shape){.rank = 0};
        graph_value(t.g, node_out(t.g, n, i))->batched = false;
    }
    t.g->loss = node_out(t.g, n, 0);
    t.g->correct = node_out(t.g, n, 2);
    end(&t, node_out(t.g, n, 1));
}

static void test_loss(void **state)
{
    (void)state;
    loss_case(OP_CROSS_ENTROPY, 0, 2, 0, 0, false);
    loss_case(OP_CROSS_ENTROPY, 0, -100, 0.1, 0, false);
    loss_case(OP_CROSS_ENTROPY, 3, -100, 0.1, 0, false);
    loss_case(OP_CROSS_ENTROPY, 2, 5, 0, 1, false);
    loss_case(OP_MSE, 0, 2, 0, 0, false);
    loss_case(OP_MSE, 3, 2, 0, 0, true);
    loss_case(OP_MSE, 0, 2, 0, 1, true);
}

/* An optimizer over parameters of shape [3, 4]; next values update the old ones in place. */
static void optim_case(Op op, OptAttrs o, int n_state, bool has_buf, bool has_first)
{
    T t = begin(op_text(op));
    Attrs at;
    memset(&at, 0, sizeof at);
    at.opt = o;
    ValueId p = PARAM(&t, 3, 4), g = PARAM(&t, 3, 4), in[8] = {p, g}, s[3] = {0};
    for (int i = 0; i < n_state; i++) {
        s[i] = PARAM(&t, 3, 4);
        make_positive(&t, s[i]);
    }
    int n = 2;
    if (op == OP_SGD) {
        in[2] = has_buf ? s[0] : 0;
        in[3] = scalar(&t, CNNC_SC_LR, 0.05, DT_F32);
        in[4] = scalar(&t, CNNC_SC_MOMENTUM, 0.9, DT_F32);
        in[5] = has_first ? scalar(&t, CNNC_SC_FIRST, has_buf ? 1 : 0, DT_F32) : 0;
        n = 6;
    } else if (op == OP_RMSPROP) {
        in[2] = s[0];
        in[3] = has_buf ? s[1] : 0;
        in[4] = o.centered ? s[2] : 0;
        for (int i = 0; o.centered && i < 12; i++)
            t.leaf[s[2]][i] *= 0.1;
        in[5] = scalar(&t, CNNC_SC_LR, 0.05, DT_F32);
        in[6] = has_buf ? scalar(&t, CNNC_SC_MOMENTUM, 0.9, DT_F32) : 0;
        n = 7;
    } else {
        in[2] = s[0];
        in[3] = s[1];
        in[4] = scalar(&t, CNNC_SC_LR, 0.05, DT_F32);
        in[5] = scalar(&t, CNNC_SC_MOMENTUM, 0.9, DT_F32);
        in[6] = scalar(&t, CNNC_SC_BIAS1, 0.19, DT_F32);
        in[7] = scalar(&t, CNNC_SC_BIAS2, 0.002, DT_F32);
        n = 8;
    }
    NodeId node = add_node(&t, op, in, n, &at, false, shape_of(2, 3, 4));
    vec_push(t.a, &t.g->updates, (StatePair){p, node_out(t.g, node, 0)});
    for (int i = 0; i < n_state; i++)
        if (s[i] && (i == 0 ? in[2] : in[3 + i - 1]) == s[i])
            vec_push(t.a, &t.g->updates, (StatePair){s[i], node_out(t.g, node, i + 1)});
    end(&t, 0);
}

static void test_optim(void **state)
{
    (void)state;
    optim_case(OP_SGD, (OptAttrs){.weight_decay = 0.01}, 0, false, false);
    optim_case(OP_SGD, (OptAttrs){.momentum = 0.9, .dampening = 0.3}, 1, true, true);
    optim_case(OP_SGD, (OptAttrs){.momentum = 0.9, .nesterov = true, .weight_decay = 0.1}, 1, true, false);
    optim_case(OP_ADAM, (OptAttrs){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01}, 2, false, false);
    optim_case(OP_ADAMW, (OptAttrs){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01}, 2, false, false);
    optim_case(OP_RMSPROP, (OptAttrs){.alpha = 0.99, .eps = 1e-8}, 1, false, false);
    optim_case(OP_RMSPROP, (OptAttrs){.alpha = 0.99, .eps = 1e-8, .momentum = 0.9}, 2, true, false);
    optim_case(OP_RMSPROP, (OptAttrs){.alpha = 0.9, .eps = 1e-8, .momentum = 0.9, .centered = true, .weight_decay = 0.1}, 3, true, false);
}

/* Runs last: every row with a lowering was met. */
static void test_every_row(void **state)
{
    (void)state;
    static const char *const lowered[OP_COUNT] = {
#define OP(id, text, n_in, n_out, flags, attrs, shape, grad, lower, ref) [OP_##id] = #lower,
#include "ir/ops.def"
#undef OP
    };
    for (int op = 0; op < OP_COUNT; op++)
        if (strcmp(lowered[op], "lower_none") != 0 && !covered[op])
            fail_msg("no case lowers '%s'", op_text((Op)op));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv), cmocka_unit_test(test_conv_random), cmocka_unit_test(test_pool_random), cmocka_unit_test(test_linear), cmocka_unit_test(test_pool), cmocka_unit_test(test_adaptive),
        cmocka_unit_test(test_norm), cmocka_unit_test(test_act), cmocka_unit_test(test_rows), cmocka_unit_test(test_pad),
        cmocka_unit_test(test_join), cmocka_unit_test(test_copies), cmocka_unit_test(test_loss), cmocka_unit_test(test_optim),
        cmocka_unit_test(test_every_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
