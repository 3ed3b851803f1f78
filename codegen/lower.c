/* lower: fusion groups to kernels. This file: groups in order, buffers, and the vocabulary of lower_impl.h; the op
 * functions are in lower_conv.c, lower_linear.c, lower_pool.c ...
 *
 * In: a graph with shapes and its fusion groups. Out: a KernelList in which every kernel is a whole group (or one of
 * several boxes of it). Relies on: a group has at most one op that is not pointwise, and groups form no cycle. Leaves:
 * kernels_verify holds.
 *
 * A group is pulled, not pushed: for each value of it that somebody outside reads, the expression is built backwards from
 * that value at the point the anchor computes. */
#include "codegen/lower_impl.h"
#include <string.h>

/* ---- which ops, which groups ---- */
#define OP(id, text, n_in, n_out, flags, attrs, shape, grad, lower, ref) [OP_##id] = lower,
static const LowerFn lower_fn[OP_COUNT] = {
#include "ir/ops.def"
};
#undef OP

/* One point of the result needs one point of each input (or of per-channel inputs and scalars). */
static bool is_pointwise(Op op)
{
    switch (op) {
    case OP_BATCHNORM: case OP_BN_TRAIN: case OP_BN_DX: case OP_BN_RUNNING: case OP_COUNT_BATCH:
    case OP_GLU: case OP_SLICE: case OP_SGD: case OP_ADAM: case OP_ADAMW: case OP_RMSPROP: return true;
    default: return op_flags(op) & OPF_MAP;
    }
}

/* Made before the program runs: no kernel. */
static bool is_given(Op op) { return (op_flags(op) & OPF_LEAF) || op == OP_FOLD_WEIGHT || op == OP_FOLD_BIAS; }

void lower_none(Lower *lw, const Node *n, Point *at)
{
    (void)lw;
    (void)at;
    BUG("'%s' is never lowered", op_text(n->op));
}

static NodeId root_of(const Lower *lw, NodeId n) { return lw->f && lw->f->root && lw->f->root[n] ? lw->f->root[n] : n; }

/* ---- buffers ---- */
static BufKind kind_of(const Lower *lw, ValueId v)
{
    const Graph *g = lw->g;
    Op op = graph_def(g, v)->op;
    if (op == OP_PARAM || op == OP_FOLD_WEIGHT || op == OP_FOLD_BIAS)
        return lw->params == PARAMS_CONST ? BUF_CONST : BUF_STATE;
    if (op == OP_INPUT)
        return BUF_INPUT;
    if (op == OP_LABELS)
        return BUF_LABELS;
    if (op == OP_SCALAR)
        return BUF_SCALAR;
    if (v == g->loss || v == g->correct)
        return BUF_RESULT;
    return v == g->output ? BUF_OUTPUT : BUF_WORK;
}

/* Ordinal of a parameter among the graph's parameters. */
static int32_t param_index(const Graph *g, NodeId node)
{
    int32_t index = 0;
    for (NodeId n = 1; n < node; n++)
        index += graph_node(g, n)->op == OP_PARAM;
    return index;
}

static ValueId state_updated_by(const Graph *g, ValueId v)
{
    for (uint32_t i = 0; i < g->updates.len; i++)
        if (g->updates.at[i].next == v)
            return g->updates.at[i].old;
    return 0;
}

BufId lower_buffer(Lower *lw, ValueId v)
{
    if (lw->l->buf_of_value[v])
        return lw->l->buf_of_value[v];
    const Value *x = val(lw, v);
    Buffer b = {.name = x->name, .dtype = x->dtype, .shape = x->shape, .batched = x->batched, .value = v};
    if (!b.name)
        b.name = arena_printf(lw->l->arena, "%%%u", v);
    b.kind = kind_of(lw, v);
    if (b.kind == BUF_STATE)
        b.index = param_index(lw->g, x->def);
    if (b.kind == BUF_SCALAR)
        b.index = graph_def(lw->g, v)->attrs.axis.axis;
    if (b.kind == BUF_RESULT)
        b.index = v == lw->g->correct ? 1 : 0;   /* CnncResult */
    ValueId old = state_updated_by(lw->g, v);
    if (old) {
        b.kind = BUF_STATE;
        b.updates = lower_buffer(lw, old);
        b.index = lw->l->buffers.at[b.updates].index;
    }
    return lw->l->buf_of_value[v] = kernels_add_buffer(lw->l, &b);
}

BufId lower_work(Lower *lw, const char *name, DType t, const Shape *s, bool batched)
{
    Buffer b = {.name = name, .kind = BUF_WORK, .dtype = t, .shape = *s, .batched = batched};
    return kernels_add_buffer(lw->l, &b);
}

BufId lower_numbers(Lower *lw, const char *name, DType t, const Shape *s, const double *data)
{
    Buffer b = {.name = name, .kind = BUF_CONST, .dtype = t, .shape = *s, .data = data};
    return kernels_add_buffer(lw->l, &b);
}

/* ---- kernels ---- */
/* What the group being lowered waits for without reading it: the value made last of those that its nodes name. */
static BufId group_after(Lower *lw)
{
    ValueId latest = 0;
    for (NodeId i = lw->first[lw->root]; i; i = lw->next[i]) {
        ValueId v = graph_node(lw->g, i)->after;
        if (v && (!latest || val(lw, v)->def > val(lw, latest)->def))
            latest = v;
    }
    return latest ? lower_buffer(lw, latest) : 0;
}

Kernel *lower_kernel(Lower *lw, const Node *n, const char *suffix)
{
    const char *layer = n->layer >= 0 && (uint32_t)n->layer < lw->g->layers.len ? lw->g->layers.at[n->layer].name : "net";
    const char *name = arena_printf(lw->l->arena, "%s.%s%s%s", layer ? layer : "net", op_text(n->op), suffix ? "." : "", suffix ? suffix : "");
    lw->k = kernel_new(lw->l, name, n->layer, n->span);
    lw->k->after = group_after(lw);
    return lw->k;
}

const char *name_out(int nd, int d) { return (const char *[]){"o", "p", "q"}[d + (nd == 3 || d == 2 ? 0 : 1)]; }
const char *name_tap(int nd, int d) { return (const char *[]){"t", "r", "s"}[d + (nd == 3 || d == 2 ? 0 : 1)]; }
const char *name_in(int nd, int d) { return (const char *[]){"d", "h", "w"}[d + (nd == 3 || d == 2 ? 0 : 1)]; }

Affine affine_none(void) { return (Affine){.div = 1, .table_axis = -1, .table_axis2 = -1}; }

Affine affine_of(int axis, int32_t coef, int32_t offset)
{
    Affine f = affine_none();
    f.coef[axis] = coef;
    f.offset = offset;
    return f;
}

void affine_guard_needed(const Kernel *k, Affine *f, int64_t extent)
{
    int64_t lo = f->offset, hi = f->offset;
    for (int x = 0; x < k->n_axes; x++)
        if (f->coef[x])
            *(f->coef[x] > 0 ? &hi : &lo) += (int64_t)f->coef[x] * (k->axis[x].extent - 1);
    if (lo < 0 || hi >= extent)
        affine_guard(f, 0, (int32_t)extent);
}

Point point_none(int rank)
{
    Point p = {.rank = rank};
    for (int d = 0; d < MAX_RANK; d++)
        p.dim[d] = affine_none();
    return p;
}

Point lower_axes(Lower *lw, ValueId v)
{
    static const char *const batched[][MAX_RANK] = {
        {""}, {"n"}, {"n", "c"}, {"n", "c", "h"}, {"n", "c", "h", "w"}, {"n", "c", "d", "h", "w"}, {"n", "c", "d", "e", "h", "w"}};
    static const char *const plain[][MAX_RANK] = {
        {""}, {"k"}, {"k", "c"}, {"k", "c", "r"}, {"k", "c", "r", "s"}, {"k", "c", "t", "r", "s"}, {"k", "c", "t", "u", "r", "s"}};
    const Value *x = val(lw, v);
    Point p = point_none(x->shape.rank);
    for (int d = 0; d < p.rank; d++) {
        const char *name = x->batched ? batched[p.rank][d] : plain[p.rank][d];
        p.dim[d] = affine_of(kernel_axis(lw->k, AXIS_PAR, name, x->shape.dim[d], x->batched && d == 0), 1, 0);
    }
    return p;
}

static AccessId access_at(Lower *lw, BufId b, const Point *p)
{
    AccessId at = kernel_access(lw->l, lw->k, b);
    Access *s = &lw->k->access[at];
    if (p->rank != s->rank)
        BUG("kernel %s: a point of rank %d for '%s' of rank %d", lw->k->name, p->rank, lw->l->buffers.at[b].name, s->rank);
    for (int d = 0; d < p->rank; d++) {
        int32_t hi = s->dim[d].hi;
        s->dim[d] = p->dim[d];
        if (!p->dim[d].guarded) {
            s->dim[d].lo = 0;
            s->dim[d].hi = hi;
        }
    }
    s->fill = p->fill;
    return at;
}

ExprId lower_load_buffer(Lower *lw, BufId b, const Point *p) { return expr_load(lw->l, lw->k, access_at(lw, b, p)); }

static int output_index(const Node *n, ValueId v)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] == v)
            return i;
    return -1;
}

ExprId lower_load(Lower *lw, ValueId v, const Point *p)
{
    NodeId def = val(lw, v)->def;
    const Node *n = graph_node(lw->g, def);
    if (root_of(lw, def) != lw->root || is_given(n->op))
        return lower_load_buffer(lw, lower_buffer(lw, v), p);
    if (def == lw->anchor) {
        if (!lw->anchor_out)
            BUG("group of node %u: '%s' is read before it is made", lw->root, op_text(n->op));
        return lw->anchor_out[output_index(n, v)];
    }
    for (int d = 0; d < p->rank; d++)
        if (p->dim[d].guarded || p->dim[d].table)
            BUG("group of node %u: '%s' is read with padding inside its own group", lw->root, op_text(n->op));
    Point at = *p;
    lower_fn[n->op](lw, n, &at);
    return at.out[output_index(n, v)];
}

ExprId lower_load_channel(Lower *lw, ValueId v, const Point *p, int d)
{
    if (!v)
        return 0;
    Point c = point_none(1);
    if (dims_of(lw, v)[0] != 1)
        c.dim[0] = p->dim[d];
    return lower_load(lw, v, &c);
}

ExprId lower_scalar(Lower *lw, ValueId v)
{
    Point p = point_none(val(lw, v)->shape.rank);
    return lower_load(lw, v, &p);
}

void lower_store(Lower *lw, BufId b, const Point *p, ExprId e)
{
    Point plain = *p;
    plain.fill = 0;
    kernel_out(lw->k, access_at(lw, b, &plain), e);
}

void lower_outputs(Lower *lw, const Point *p, const ExprId *out)
{
    lw->anchor_out = out;
    for (NodeId i = lw->first[lw->root]; i; i = lw->next[i]) {
        const Node *m = graph_node(lw->g, i);
        for (int o = 0; o < m->n_out; o++)
            if (lw->stored[m->out[o]])
                lower_store(lw, lower_buffer(lw, m->out[o]), p, lower_load(lw, m->out[o], p));
    }
    lw->anchor_out = NULL;
}

void lower_emit(Lower *lw, const Point *p, const ExprId *out)
{
    lower_outputs(lw, p, out);
    kernels_add(lw->l, lw->k);
}

void lower_pointwise(Lower *lw, const Node *n, ValueId v)
{
    lower_kernel(lw, n, NULL);
    Point p = lower_axes(lw, v);
    lower_emit(lw, &p, NULL);
}

/* ---- expressions ---- */
ExprId e_affine(Lower *lw, const Affine *f)
{
    ExprId sum = 0;
    for (int x = 0; x < lw->k->n_axes; x++) {
        if (!f->coef[x])
            continue;
        ExprId term = e_index(lw, x);
        if (f->coef[x] != 1)
            term = op2(lw, EX_IMUL, term, integer(lw, f->coef[x]));
        sum = sum ? op2(lw, EX_IADD, sum, term) : term;
    }
    if (!sum)
        return integer(lw, f->offset);
    return f->offset ? op2(lw, EX_IADD, sum, integer(lw, f->offset)) : sum;
}

ExprId e_flat(Lower *lw, const Point *p, const int64_t *dim, int from, int to)
{
    ExprId flat = 0;
    for (int d = from; d < to; d++) {
        ExprId i = e_affine(lw, &p->dim[d]);
        flat = flat ? op2(lw, EX_IADD, op2(lw, EX_IMUL, flat, integer(lw, (int32_t)dim[d])), i) : i;
    }
    return flat ? flat : integer(lw, 0);
}

ExprId e_count(Lower *lw, const Value *v, int keep)
{
    double rest = 1;
    for (int d = 0; d < v->shape.rank; d++)
        rest *= d == keep || (d == 0 && v->batched) ? 1 : (double)v->shape.dim[d];
    if (!v->batched || keep == 0)
        return number(lw, rest);
    ExprId n = op1(lw, EX_TOFLOAT, expr_add(lw->l, lw->k, (Expr){.op = EX_N}));
    return rest == 1 ? n : e_mul(lw, n, number(lw, rest));
}

/* ---- windows ---- */
static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

Taps taps_of(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad, int64_t cls)
{
    int64_t common = gcd(dilation, stride);
    Taps t = {.cls = cls, .stride = stride, .tap_step = stride / common, .back = dilation / common};
    t.extent = size > cls ? (size - cls + stride - 1) / stride : 0;
    for (int64_t r = 0; r < t.tap_step && r < kernel; r++) {
        if ((cls + pad - r * dilation) % stride != 0)
            continue;
        t.first = r;
        t.count = (kernel - r + t.tap_step - 1) / t.tap_step;
        t.base = (cls + pad - r * dilation) / stride;
        break;
    }
    return t;
}

Affine taps_window(Lower *lw, const Taps *t, int in_axis, int tap_axis, int64_t windows)
{
    Affine p = affine_of(in_axis, 1, (int32_t)t->base);
    if (tap_axis >= 0)
        affine_axis(&p, tap_axis, (int32_t)-t->back);
    affine_guard_needed(lw->k, &p, windows);
    return p;
}

bool next_class(int64_t *cls, const int64_t *stride, int nd)
{
    for (int d = nd - 1; d >= 0; d--) {
        if (++cls[d] < stride[d])
            return true;
        cls[d] = 0;
    }
    return false;
}

/* ---- reshapes ---- */
/* Makes the result a view of the source's storage. Where the result is the caller's output memory, the source and its other
 * views move there instead. Not done where the source is the caller's input and the result its output. */
static void alias_forward(Lower *lw, const Node *n)
{
    BufId from = lower_buffer(lw, n->in[0]);
    BufKind made = lw->l->buffers.at[from].kind, want = kind_of(lw, n->out[0]);
    BufId to = lower_buffer(lw, n->out[0]);
    BufId base = from;
    while (lw->l->buffers.at[base].alias_of)
        base = lw->l->buffers.at[base].alias_of;
    if (want == BUF_OUTPUT && made == BUF_WORK) {   /* the result's memory is the caller's: all its views lie there */
        for (uint32_t b = 1; b < lw->l->buffers.len; b++)
            if ((BufId)b == base || lw->l->buffers.at[b].alias_of == base)
                lw->l->buffers.at[b].kind = BUF_OUTPUT;
    } else if (want != BUF_OUTPUT) {
        lw->l->buffers.at[to].kind = made;
        lw->l->buffers.at[to].index = lw->l->buffers.at[from].index;
    }
    if (want == BUF_OUTPUT && made != BUF_WORK && made != BUF_OUTPUT)
        return;   /* the caller's input as the result: copied by lower_reshape */
    lw->l->buffers.at[to].alias_of = base;
}

/* Free, but for a net that only flattens: its input is copied, read through a view of the output's shape. */
void lower_reshape(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    alias_forward(lw, n);
    BufId to = lower_buffer(lw, n->out[0]);
    if (lw->l->buffers.at[to].alias_of)
        return;
    BufId from = lower_buffer(lw, n->in[0]);
    Buffer view = lw->l->buffers.at[from];
    view.name = arena_printf(lw->l->arena, "%s.view", view.name);
    view.shape = lw->l->buffers.at[to].shape;
    view.alias_of = from;
    view.value = 0;
    view.layout.lanes = 0;
    from = kernels_add_buffer(lw->l, &view);
    lower_kernel(lw, n, NULL);
    Point p = lower_axes(lw, n->out[0]);
    lower_store(lw, to, &p, lower_load_buffer(lw, from, &p));
    kernels_add(lw->l, lw->k);
}

/* ---- groups ---- */
typedef enum { TODO, DOING, DONE } Progress;

static void lower_group(Lower *lw, NodeId root, Progress *progress);

/* Groups that make what this one reads come first. */
static void lower_needs(Lower *lw, NodeId root, Progress *progress)
{
    for (NodeId i = lw->first[root]; i; i = lw->next[i]) {
        const Node *n = graph_node(lw->g, i);
        for (int j = 0; j < n->n_in; j++) {
            NodeId def = n->in[j] && op_reads(n->op, j) ? val(lw, n->in[j])->def : 0;
            if (def && root_of(lw, def) != root && !is_given(graph_node(lw->g, def)->op))
                lower_group(lw, root_of(lw, def), progress);
        }
    }
}

static void lower_group(Lower *lw, NodeId root, Progress *progress)
{
    if (progress[root] == DONE)
        return;
    if (progress[root] == DOING)
        BUG("the group of node %u waits for itself", root);
    progress[root] = DOING;
    lower_needs(lw, root, progress);
    progress[root] = DONE;
    lw->root = root;
    lw->anchor = 0;
    const Node *last = NULL;
    ValueId shaped = 0;
    for (NodeId i = lw->first[root]; i; i = lw->next[i]) {
        const Node *n = graph_node(lw->g, i);
        if (is_given(n->op))
            continue;
        if (!is_pointwise(n->op)) {
            if (lw->anchor)
                BUG("the group of node %u has two anchors", root);
            lw->anchor = i;
        }
        for (int o = 0; o < n->n_out; o++) {
            if (lw->stored[n->out[o]]) {
                last = n;
                shaped = n->out[o];
            }
        }
    }
    if (!last)
        return;
    if (!lw->anchor)
        lower_pointwise(lw, last, shaped);
    else
        lower_fn[graph_node(lw->g, lw->anchor)->op](lw, graph_node(lw->g, lw->anchor), NULL);
}

/* Marks the values that need memory: read by another group, or results. */
static void find_stored(Lower *lw)
{
    const Graph *g = lw->g;
    for (NodeId i = 1; i < g->nodes.len; i++) {
        const Node *n = graph_node(g, i);
        for (int j = 0; j < n->n_in; j++)
            if (n->in[j] && op_reads(n->op, j) && root_of(lw, val(lw, n->in[j])->def) != root_of(lw, i))
                lw->stored[n->in[j]] = true;
    }
    lw->stored[g->output] = lw->stored[g->loss] = lw->stored[g->correct] = true;
    for (uint32_t i = 0; i < g->updates.len; i++)
        lw->stored[g->updates.at[i].next] = true;
    lw->stored[0] = false;
}

/* Links the nodes of each group. */
static void find_groups(Lower *lw)
{
    lw->first = NEWN(lw->l->arena, NodeId, lw->g->nodes.len + 1);
    lw->next = NEWN(lw->l->arena, NodeId, lw->g->nodes.len + 1);
    for (NodeId i = lw->g->nodes.len - 1; i > 0; i--) {
        lw->next[i] = lw->first[root_of(lw, i)];
        lw->first[root_of(lw, i)] = i;
    }
}

/* The result is the input itself, or a parameter: a copy. */
static void lower_trivial_output(Lower *lw)
{
    ValueId out = lw->g->output;
    if (!out || !is_given(graph_def(lw->g, out)->op))
        return;
    Node n = *graph_def(lw->g, out);
    Buffer b = {.name = "output", .kind = BUF_OUTPUT, .dtype = val(lw, out)->dtype, .shape = val(lw, out)->shape, .batched = val(lw, out)->batched};
    BufId from = lower_buffer(lw, out), to = kernels_add_buffer(lw->l, &b);
    lower_kernel(lw, &n, "copy");
    Point p = lower_axes(lw, out);
    lower_store(lw, to, &p, lower_load_buffer(lw, from, &p));
    kernels_add(lw->l, lw->k);
}

KernelList *lower(Arena *a, const Graph *g, const Fusion *f, ParamPlace params)
{
    Lower lw = {.l = kernels_new(a, g), .g = g, .f = f, .params = params};
    lw.stored = NEWN(a, bool, g->values.len + 1);
    Progress *progress = NEWN(a, Progress, g->nodes.len + 1);
    find_stored(&lw);
    find_groups(&lw);
    for (NodeId i = 1; i < g->nodes.len; i++) {   /* leaves first, so that a list's buffers start with what is given */
        const Node *n = graph_node(g, i);
        if (n->op == OP_INPUT || n->op == OP_LABELS || (n->op == OP_PARAM && params == PARAMS_IN_STATE))
            lower_buffer(&lw, n->out[0]);
    }
    for (NodeId i = 1; i < g->nodes.len; i++)   /* a group runs at the place of its last node */
        if (!lw.next[i] && !is_given(graph_node(g, i)->op))
            lower_group(&lw, root_of(&lw, i), progress);
    lower_trivial_output(&lw);
    return lw.l;
}
