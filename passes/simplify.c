/* simplify: the same numbers with less work. Runs on the forward graph (before gradients, so that training gains too), and
 * again on what the other passes made.
 *
 * In: a shaped graph. Out: a new graph that gives the same values, and, when gradients are taken of it, the same gradients
 * (for finite ones), bit for bit. Invariant: parameters, images and labels stay, used or not: they are the graph's interface.
 * Idea: a candidate node with its operands already mapped goes through the rules until none applies; it then stands for an
 * equal node made before, or is appended. What nobody reads is left out at the end.
 *
 * To add a rule: a function in `rules` that changes the candidate and returns true, or one in `identities` that returns the
 * value that the candidate's first output equals. Rules see operands in the new graph. Say why gradients do not change. */
#include "passes/pass.h"
#include "passes/rewrite.h"

#include <string.h>

typedef struct {
    Rewrite rw;
    Graph *g;                   /* == rw.to */
    Arena *arena;
    const uint32_t *old_uses;   /* by ValueId of the old graph */
    Vec(uint32_t) uses;         /* by ValueId of g: readers in the old graph of all that the value stands for */
    Vec(NodeId) readers;        /* by ValueId of g: the last node whose first operand it is */
    Vec(NodeId) next_reader;    /* by NodeId of g: the one before */
} Simplify;

static const Node *def(const Simplify *s, ValueId v) { return graph_def(s->g, v); }
static const Shape *shape_at(const Simplify *s, ValueId v) { return &graph_value(s->g, v)->shape; }

/* ---- values that equal an operand ---- */

/* One tap, no step, no border: each window is its own element. */
static ValueId same_pool(const Simplify *s, const Node *old, const Node *n)
{
    const PoolAttrs *p = &n->attrs.pool;
    if ((n->op != OP_MAXPOOL && n->op != OP_AVGPOOL) || p->divisor_override > 1)
        return 0;
    if (n->op == OP_MAXPOOL && s->old_uses[old->out[1]])    /* the index is wanted */
        return 0;
    for (int i = 0; i < p->nd; i++)
        if (p->kernel[i] != 1 || p->stride[i] != 1 || p->pad[i] != 0)
            return 0;
    return n->in[0];
}

/* One element per bin. */
static ValueId same_adaptive(const Simplify *s, const Node *old, const Node *n)
{
    if ((n->op != OP_ADAPTIVE_AVG && n->op != OP_ADAPTIVE_MAX) || (n->op == OP_ADAPTIVE_MAX && s->old_uses[old->out[1]]))
        return 0;
    return shape_equal(&graph_value(s->rw.from, old->out[0])->shape, shape_at(s, n->in[0])) ? n->in[0] : 0;
}

/* Flatten of what is flat, a slice of the whole, a pad by nothing, a concat of one, dropout of nothing. */
static ValueId same_elements(const Simplify *s, const Node *old, const Node *n)
{
    switch (n->op) {
    case OP_RESHAPE: case OP_RESHAPE_BACK: case OP_SLICE: case OP_PAD: case OP_CONCAT:
        if (n->op == OP_CONCAT && n->n_in != 1)
            return 0;
        if (n->op == OP_PAD)
            for (int i = 0; i < n->attrs.pad.nd; i++)
                if (n->attrs.pad.lo[i] || n->attrs.pad.hi[i])
                    return 0;
        return shape_equal(&graph_value(s->rw.from, old->out[0])->shape, shape_at(s, n->in[0])) ? n->in[0] : 0;
    case OP_DROPOUT: return n->attrs.dropout.p == 0 ? n->in[0] : 0;   /* not for want of a seed: train_step gives it one */
    default: return 0;
    }
}

static bool same_act(const ActAttrs *a, const ActAttrs *b)
{
    return a->kind == b->kind && memcmp(a->p, b->p, sizeof a->p) == 0;
}

/* Clamps applied twice: relu(relu(x)), relu(relu6(x)). Where the inner one is flat the gradient is 0 either way; elsewhere
 * the outer one's derivative is 1. */
static ValueId same_clamp(const Simplify *s, const Node *old, const Node *n)
{
    (void)old;
    const Node *inner = def(s, n->in[0]);
    if (n->op != OP_ACT || inner->op != OP_ACT)
        return 0;
    const ActAttrs *a = &n->attrs.act, *b = &inner->attrs.act;
    bool clamp = a->kind == ACT_RELU || a->kind == ACT_RELU6 || a->kind == ACT_HARDTANH || a->kind == ACT_HARDSHRINK;
    return (clamp && same_act(a, b)) || (a->kind == ACT_RELU && b->kind == ACT_RELU6) ? n->in[0] : 0;
}

typedef ValueId (*Identity)(const Simplify *, const Node *old, const Node *n);
static const Identity identities[] = {same_pool, same_adaptive, same_elements, same_clamp};

/* ---- rules that change the candidate ---- */

/* relu6(relu(x)) = relu6(x); for x <= 0 both gradients are 0. */
static bool clamp_of_relu(const Simplify *s, Node *n)
{
    const Node *inner = def(s, n->in[0]);
    if (n->op != OP_ACT || n->attrs.act.kind != ACT_RELU6 || inner->op != OP_ACT || inner->attrs.act.kind != ACT_RELU)
        return false;
    n->in[0] = inner->in[0];
    return true;
}

/* flatten(flatten(x)) over touching axes. The inner one makes axes [s1, e1] one; the outer [s2, e2] counts after that. */
static bool flatten_of_flatten(const Simplify *s, Node *n)
{
    const Node *inner = def(s, n->in[0]);
    if (n->op != OP_RESHAPE || inner->op != OP_RESHAPE)
        return false;
    int rank_x = shape_at(s, inner->in[0])->rank, rank_y = shape_at(s, n->in[0])->rank;
    FlattenAttrs a = inner->attrs.flatten, *b = &n->attrs.flatten;
    int s1 = a.start < 0 ? a.start + rank_x : a.start, e1 = a.end < 0 ? a.end + rank_x : a.end;
    int s2 = b->start < 0 ? b->start + rank_y : b->start, e2 = b->end < 0 ? b->end + rank_y : b->end;
    if (s1 < s2 || s1 > e2)
        return false;
    *b = (FlattenAttrs){.start = s2, .end = e2 + (e1 - s1)};
    n->in[0] = inner->in[0];
    return true;
}

/* Zeros around the input of a conv are its own padding. */
static bool conv_of_zero_pad(const Simplify *s, Node *n)
{
    const Node *pad = def(s, n->in[0]);
    if (n->op != OP_CONV || pad->op != OP_PAD)
        return false;
    const PadAttrs *p = &pad->attrs.pad;
    if (!(p->mode == PAD_ZEROS || (p->mode == PAD_CONSTANT && p->value == 0)) || p->nd != n->attrs.conv.nd)
        return false;
    for (int i = 0; i < p->nd; i++)
        if (p->lo[i] < 0 || p->hi[i] < 0)
            return false;
    for (int i = 0; i < p->nd; i++) {
        n->attrs.conv.pad_lo[i] += p->lo[i];
        n->attrs.conv.pad_hi[i] += p->hi[i];
    }
    n->in[0] = pad->in[0];
    return true;
}

/* Bins of equal size that do not overlap are a plain pool. */
static bool pool_of_equal_bins(const Simplify *s, Node *n)
{
    if (n->op != OP_ADAPTIVE_AVG && n->op != OP_ADAPTIVE_MAX)
        return false;
    const Shape *x = shape_at(s, n->in[0]);
    const AdaptiveAttrs a = n->attrs.adaptive;
    PoolAttrs p = {.nd = a.nd, .count_include_pad = true};
    for (int i = 0; i < a.nd; i++) {
        int64_t in = x->dim[x->rank - a.nd + i], out = a.out[i] ? a.out[i] : in;
        if (out < 1 || in % out)
            return false;
        p.kernel[i] = p.stride[i] = in / out;
        p.dilation[i] = 1;
    }
    n->op = n->op == OP_ADAPTIVE_AVG ? OP_AVGPOOL : OP_MAXPOOL;
    n->attrs.pool = p;
    return true;
}

typedef bool (*Rule)(const Simplify *, Node *n);
static const Rule rules[] = {clamp_of_relu, flatten_of_flatten, conv_of_zero_pad, pool_of_equal_bins};

/* ---- activation before max pooling ---- */

/* Monotone functions that are flat (derivative 0) or the identity (shifted by nothing) everywhere. */
static bool is_flat_or_identity(const ActAttrs *a)
{
    switch (a->kind) {
    case ACT_RELU: case ACT_RELU6: return true;
    case ACT_HARDTANH: return a->p[0] <= a->p[1];
    case ACT_HARDSHRINK: return a->p[0] >= 0;
    case ACT_THRESHOLD: return a->p[1] <= a->p[0];
    default: return false;
    }
}

/* Whether every window of the pool has an element of x in it (dilation can step over a small x). */
static bool windows_are_filled(const PoolAttrs *p, const Shape *x, const Shape *y)
{
    for (int i = 0; i < p->nd; i++)
        for (int64_t q = 0; q < y->dim[y->rank - p->nd + i]; q++) {
            bool found = false;
            for (int64_t r = 0, at = q * p->stride[i] - p->pad[i]; r < p->kernel[i] && !found; r++, at += p->dilation[i])
                found = at >= 0 && at < x->dim[x->rank - p->nd + i];
            if (!found)
                return false;
        }
    return true;
}

/* maxpool(f(x)) = f(maxpool(x)): the activation runs on a quarter of the values, and on ones a conv kernel still holds.
 * Values: f is monotone and NaN passes f as it passes max; padding (-inf) never wins since no window is empty.
 * Gradients: say m is the window's maximum, first at place i. Where f is the identity at m, f(m) is the maximum of f(x) and
 * no smaller element ties with it, so i is the first on both sides and dy arrives there whole. Where f is flat at m, dy * 0
 * arrives, at i or at an earlier element that f made equal: nothing either way. A NaN is chosen on both sides alike. */
static bool swaps_with_activation(const Simplify *s, const Node *old, const Node *n)
{
    const Node *act = def(s, n->in[0]);
    if ((n->op != OP_MAXPOOL && n->op != OP_ADAPTIVE_MAX) || act->op != OP_ACT || !is_flat_or_identity(&act->attrs.act) ||
        s->uses.at[n->in[0]] != 1)
        return false;
    return n->op == OP_ADAPTIVE_MAX ||
           windows_are_filled(&n->attrs.pool, shape_at(s, n->in[0]), &graph_value(s->rw.from, old->out[0])->shape);
}

/* ---- equal nodes ---- */

static bool same_dims(const int64_t *a, const int64_t *b, int n) { return memcmp(a, b, sizeof *a * (size_t)n) == 0; }

/* Field by field, since the bytes between fields are anybody's. Kinds whose nodes own parameters never meet: false. */
static bool same_attrs(AttrKind kind, const Attrs *a, const Attrs *b)
{
    switch (kind) {
    case ATTR_NONE: return true;
    case ATTR_AXIS: return a->axis.axis == b->axis.axis;
    case ATTR_FLATTEN: return true;     /* the shape says it */
    case ATTR_ACT: return same_act(&a->act, &b->act);
    case ATTR_ADAPTIVE: return a->adaptive.nd == b->adaptive.nd && same_dims(a->adaptive.out, b->adaptive.out, a->adaptive.nd);
    case ATTR_SLICE: return a->slice.axis == b->slice.axis && a->slice.start == b->slice.start && a->slice.size == b->slice.size;
    case ATTR_PAD:
        return a->pad.nd == b->pad.nd && a->pad.mode == b->pad.mode && a->pad.value == b->pad.value &&
               same_dims(a->pad.lo, b->pad.lo, a->pad.nd) && same_dims(a->pad.hi, b->pad.hi, a->pad.nd);
    case ATTR_POOL:
        return a->pool.nd == b->pool.nd && a->pool.ceil_mode == b->pool.ceil_mode &&
               a->pool.count_include_pad == b->pool.count_include_pad && a->pool.divisor_override == b->pool.divisor_override &&
               same_dims(a->pool.kernel, b->pool.kernel, a->pool.nd) && same_dims(a->pool.stride, b->pool.stride, a->pool.nd) &&
               same_dims(a->pool.dilation, b->pool.dilation, a->pool.nd) && same_dims(a->pool.pad, b->pool.pad, a->pool.nd);
    default: return false;
    }
}

/* A node of the new graph that computes what the candidate would, or 0. Both take their first operand from the same value. */
static NodeId find_equal(const Simplify *s, const Node *old, const Node *n)
{
    if (n->n_in == 0 || !n->in[0] || (op_flags(n->op) & OPF_UPDATE))
        return 0;
    for (NodeId id = s->readers.at[n->in[0]]; id; id = s->next_reader.at[id]) {
        const Node *m = graph_node(s->g, id);
        if (m->op == n->op && m->n_in == n->n_in && memcmp(m->in, n->in, sizeof *n->in * n->n_in) == 0 &&
            same_attrs(op_attr_kind(n->op), &m->attrs, &n->attrs) &&
            shape_equal(shape_at(s, m->out[0]), &graph_value(s->rw.from, old->out[0])->shape))
            return id;
    }
    return 0;
}

/* ---- the walk ---- */

/* Makes room for values and nodes added since. */
static void note_new(Simplify *s)
{
    while (s->uses.len < s->g->values.len) {
        vec_push(s->arena, &s->uses, 0);
        vec_push(s->arena, &s->readers, 0);
    }
    for (NodeId id = s->next_reader.len; id < s->g->nodes.len; id++) {
        const Node *n = graph_node(s->g, id);
        ValueId first = n->n_in ? n->in[0] : 0;
        vec_push(s->arena, &s->next_reader, first ? s->readers.at[first] : 0);
        if (first)
            s->readers.at[first] = id;
    }
}

static void stand_for(Simplify *s, ValueId old, ValueId new)
{
    s->rw.map[old] = new;
    s->uses.at[new] += s->old_uses[old];
}

/* Appends the candidate with the old outputs' types. */
static NodeId append(Simplify *s, const Node *old, const Node *n)
{
    NodeId id = emit_node(s->g, origin_of(n), n->op, n->in, n->n_in, &n->attrs);
    for (int i = 0; i < n->n_out; i++) {
        const Value *from = graph_value(s->rw.from, old->out[i]);
        Value *to = graph_value(s->g, node_out(s->g, id, i));
        to->dtype = from->dtype;
        to->known = from->known;
        to->batched = from->batched;
        to->shape = from->shape;
        to->name = from->name;
    }
    return id;
}

static ValueId find_identity(const Simplify *s, const Node *old, const Node *n)
{
    ValueId v = 0;
    for (size_t i = 0; i < ARRAY_LEN(identities) && !v && n->n_in && n->in[0]; i++)
        v = identities[i](s, old, n);
    return v;
}

static void visit(Simplify *s, const Node *old)
{
    Node n = *old;
    n.in = NEWN(s->arena, ValueId, old->n_in + 1);
    for (int i = 0; i < old->n_in; i++)
        n.in[i] = s->rw.map[old->in[i]];
    for (size_t i = 0; i < ARRAY_LEN(rules) && n.n_in && n.in[0];)
        i = rules[i](s, &n) ? 0 : i + 1;
    ValueId same = find_identity(s, old, &n);
    if (same) {
        stand_for(s, old->out[0], same);
        return;
    }
    Node act = {0};
    if (n.n_in && n.in[0] && swaps_with_activation(s, old, &n)) {
        act = *def(s, n.in[0]);
        n.in[0] = act.in[0];
    }
    NodeId id = find_equal(s, old, &n);
    if (!id)
        id = append(s, old, &n);
    ValueId y = node_out(s->g, id, 0);
    if (act.op == OP_ACT)
        y = emit_like(s->g, emit_node(s->g, origin_of(&act), OP_ACT, VALUES(y), &act.attrs), 0, y);
    note_new(s);
    stand_for(s, old->out[0], y);
    for (int i = 1; i < old->n_out; i++)
        stand_for(s, old->out[i], node_out(s->g, id, i));
}

static bool is_interface(Op op) { return op == OP_PARAM || op == OP_INPUT || op == OP_LABELS; }

static Graph *drop_dead(Arena *a, const Graph *g)
{
    bool *live = NEWN(a, bool, g->values.len);
    live[g->output] = live[g->loss] = live[g->correct] = true;
    for (uint32_t i = 0; i < g->updates.len; i++)
        live[g->updates.at[i].next] = true;
    Rewrite r = rewrite_begin(a, g);
    bool *keep = NEWN(a, bool, g->nodes.len);
    for (NodeId n = g->nodes.len - 1; n > 0; n--) {
        const Node *node = graph_node(g, n);
        keep[n] = is_interface(node->op);
        for (int i = 0; i < node->n_out; i++)
            keep[n] = keep[n] || live[node->out[i]];
        for (int i = 0; i < node->n_in && keep[n]; i++)
            live[node->in[i]] = true;
    }
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (keep[n])
            rewrite_copy(&r, n);
    return rewrite_end(&r);
}

Graph *simplify(Arena *a, const Graph *g)
{
    Simplify s = {.rw = rewrite_begin(a, g), .arena = a, .old_uses = count_uses(a, g, true)};
    s.g = s.rw.to;
    note_new(&s);
    for (NodeId n = 1; n < g->nodes.len; n++)
        visit(&s, graph_node(g, n));
    return drop_dead(a, rewrite_end(&s.rw));
}
