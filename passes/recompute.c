/* recompute: a training step that makes values again instead of keeping them.
 *
 * In: a training step. Out: a new graph that gives the same numbers, bit for bit, and in which the backward part reads copies of
 * forward nodes that stand just before it. Relies on: the loss stands between the forward part and the gradients. Leaves: state
 * changes once (updates are never copied), random numbers are the same (they depend on seed and position), and every copy has
 * Node.after, so that it is not made early.
 *
 * The rule. A cut behind a forward node keeps what nodes behind it read; cuts divide the forward part into segments. What is kept
 * from the forward pass are the values at the cuts, the numbers per channel, and the last segment. The others are made again
 * segment by segment. The cuts are those with which the kept values and the largest segment together are least: about the square
 * root of the number of layers, where these are alike.
 * Cheap values, which follow point by point from one that is at hand anyway (bn.train and relu from the convolution's output), are
 * made again twice, for the segment and for the gradient, and so hold memory only for a moment; outside segments too.
 * RECOMPUTE_CHEAP makes these alone again, where they are more than caches hold: a pass over values that the gradient reads anyway is no
 * slower than to write and read others (MobileNetV1, batch 8: 306 ms become 295, 352 MiB 194); and where they are few (simple_cnn, batch 64:
 * 0.970 ms become 0.980, 2.6 MiB 2.3). Masks of Dropout cost more, and stay.
 *
 *     forward   x - [ a - b - c ] - d - [ e - f - g ] - h - [ i - j ] - loss        kept: d, h, i, j
 *     backward  d, h ... dj, di, e' f' g', dg, df, de, dd, a' b' c', dc, db, da */
#include "passes/pass.h"
#include "passes/rewrite.h"

enum { WORTH_BYTES = 16 << 20, FEW_BYTES = 1 << 20 };   /* of cheap values: fewer stay in L3 from the forward pass on; few come from L2 again */
typedef struct {
    Rewrite rw;
    const Graph *g;
    bool cheap_alone;
    NodeId loss;            /* forward nodes stand before it, gradients behind */
    bool *needed, *kept;    /* by ValueId: the backward part reads it; it stays from the forward pass */
    uint32_t *readers;      /* by ValueId: nodes behind the loss that read it */
    ValueId *again[2];      /* by ValueId of g: its copy; [1]: of a cheap value, for gradients */
} Recompute;

/* ---- what is there ---- */

/* An activation of the forward part: it has a value for every sample, and is not the net's input. */
static bool is_activation(const Recompute *r, ValueId v)
{
    return v && graph_value(r->g, v)->def < r->loss && graph_value(r->g, v)->batched && !(op_flags(graph_def(r->g, v)->op) & OPF_LEAF);
}

/* The value whose storage a reshaped one is. */
static ValueId base_of(const Graph *g, ValueId v)
{
    while (graph_def(g, v)->op == OP_RESHAPE)
        v = graph_def(g, v)->in[0];
    return v;
}

/* What v follows from point by point, or 0. */
static ValueId source_of(const Recompute *r, ValueId v)
{
    const Node *n = graph_def(r->g, v);
    bool follows = n->op == OP_ACT || n->op == OP_BN_TRAIN || n->op == OP_RESHAPE || (n->op == OP_DROPOUT && !r->cheap_alone);
    return follows ? n->in[0] : 0;
}

/* It follows point by point from a value that gradients need as well, or from the net's input. */
static bool is_cheap(const Recompute *r, ValueId v)
{
    ValueId s = source_of(r, v);
    while (s && is_activation(r, s) && !r->needed[base_of(r->g, s)])
        s = source_of(r, s);
    return s != 0;
}

static void find_needs(Recompute *r)
{
    for (NodeId n = r->loss + 1; n < r->g->nodes.len; n++) {
        const Node *node = graph_node(r->g, n);
        for (int i = 0; i < node->n_in; i++) {
            bool again = false;
            for (int j = 0; j < i; j++)
                again = again || node->in[j] == node->in[i];
            if (!node->in[i] || !op_reads(node->op, i) || again)
                continue;
            r->readers[node->in[i]]++;
            if (is_activation(r, node->in[i]))
                r->needed[base_of(r->g, node->in[i])] = true;
        }
    }
}

/* ---- cuts ---- */

/* By forward node: bytes that a cut behind it keeps; bytes of all nodes up to it that gradients need and that are not cheap. */
typedef struct { int64_t *kept, *needed; NodeId *last; } Sizes;   /* last: by ValueId, the last forward node that reads it */

static int64_t bytes_of(const Graph *g, ValueId v)
{
    const Value *x = graph_value(g, v);
    return shape_elements(&x->shape) * (int64_t)dtype_size(x->dtype);
}

static Sizes find_sizes(const Recompute *r)
{
    const Graph *g = r->g;
    Arena *a = r->rw.to->arena;
    Sizes s = {NEWN(a, int64_t, r->loss + 1), NEWN(a, int64_t, r->loss + 1), NEWN(a, NodeId, g->values.len)};
    for (NodeId n = 1; n <= r->loss; n++) {
        const Node *node = graph_node(g, n);
        for (int i = 0; i < node->n_in; i++)
            if (is_activation(r, node->in[i]) && op_reads(node->op, i))
                s.last[base_of(g, node->in[i])] = n;
    }
    for (ValueId v = 1; v < g->values.len; v++) {
        if (!is_activation(r, v) || base_of(g, v) != v)
            continue;
        for (NodeId n = graph_value(g, v)->def; n < s.last[v]; n++)
            s.kept[n] += bytes_of(g, v);
        if (r->needed[v] && !is_cheap(r, v))
            s.needed[graph_value(g, v)->def] += bytes_of(g, v);
    }
    for (NodeId n = 1; n <= r->loss; n++)
        s.needed[n] += s.needed[n - 1];
    return s;
}

typedef struct { int64_t *bytes; NodeId *before; } Cuts;   /* by forward node: least kept bytes with a cut there; the cut before it */

/* The least that cuts keep when no segment between them needs more than `most`; -1: some node alone needs more. */
static int64_t best_cuts(const Recompute *r, const Sizes *s, int64_t most, Cuts *c)
{
    for (NodeId at = 1; at < r->loss; at++) {
        c->bytes[at] = -1;
        for (NodeId from = at; from-- > 0 && s->needed[at] - s->needed[from] <= most;) {
            int64_t bytes = c->bytes[from];
            if (bytes >= 0 && (c->bytes[at] < 0 || bytes + (from ? s->kept[from] : 0) < c->bytes[at])) {
                c->bytes[at] = bytes + (from ? s->kept[from] : 0);
                c->before[at] = from;
            }
        }
    }
    return c->bytes[r->loss - 1];
}

static int64_t largest_segment(const Recompute *r, const Sizes *s, const Cuts *c)
{
    int64_t largest = 0;
    for (NodeId at = r->loss - 1; at; at = c->before[at])
        if (s->needed[at] - s->needed[c->before[at]] > largest)
            largest = s->needed[at] - s->needed[c->before[at]];
    return largest;
}

/* Tries ever smaller limits for segments; c: the best cuts. */
static void choose_cuts(const Recompute *r, const Sizes *s, Cuts *c)
{
    int64_t all = s->needed[r->loss - 1], best = -1, limit = all;
    for (int64_t most = all; most > all / 1000; most -= most / 16 + 1) {
        int64_t kept = best_cuts(r, s, most, c);
        if (kept < 0)
            break;
        int64_t bytes = kept + largest_segment(r, s, c);
        if (best < 0 || bytes < best) {
            best = bytes;
            limit = most;
        }
    }
    best_cuts(r, s, limit, c);
}

/* Returns the bytes of the cheap values, which are not kept. */
static int64_t keep_all_but_cheap(Recompute *r)
{
    int64_t bytes = 0;
    for (ValueId v = 1; v < r->g->values.len; v++) {
        if (!is_activation(r, v) || base_of(r->g, v) != v)
            continue;
        r->kept[v] = !is_cheap(r, v);
        bytes += r->needed[v] && !r->kept[v] ? bytes_of(r->g, v) : 0;
    }
    return bytes;
}

static void find_kept(Recompute *r)
{
    Arena *a = r->rw.to->arena;
    Sizes s = find_sizes(r);
    Cuts c = {NEWN(a, int64_t, r->loss + 1), NEWN(a, NodeId, r->loss + 1)};
    if (r->loss < 2)
        return;
    choose_cuts(r, &s, &c);
    NodeId last = c.before[r->loss - 1];
    for (ValueId v = 1; v < r->g->values.len; v++) {
        NodeId def = graph_value(r->g, v)->def;
        if (!is_activation(r, v) || base_of(r->g, v) != v)
            continue;
        r->kept[v] = def > last && !is_cheap(r, v);
        for (NodeId cut = last; cut; cut = c.before[cut])
            r->kept[v] = r->kept[v] || (def <= cut && s.last[v] > cut);
    }
}

/* ---- the new graph ---- */

static ValueId latest_gradient(const Recompute *r, const Node *n)
{
    ValueId latest = 0;
    for (int i = 0; i < n->n_in; i++) {
        NodeId def = n->in[i] ? graph_value(r->g, n->in[i])->def : 0;
        if (def >= r->loss && def > (latest ? graph_value(r->g, latest)->def : 0))
            latest = n->in[i];
    }
    return latest;
}

/* What must be there before node n of the backward part has its operands made again: a gradient that has storage, which one with a
 * single reader may lack (fuse.c). */
static ValueId moment_of(const Recompute *r, const Node *n)
{
    ValueId v = latest_gradient(r, n);
    while (v && graph_value(r->g, v)->def > r->loss && r->readers[v] < 2)
        v = latest_gradient(r, graph_def(r->g, v));
    return r->rw.map[v];
}

/* The copy of v, or v itself where it is kept. for_gradient: a cheap value's copy is read by gradients. */
static ValueId make_again(Recompute *r, ValueId v, bool for_gradient, ValueId after)
{
    const Graph *g = r->g;
    if (!is_activation(r, v) || r->kept[base_of(g, v)])
        return r->rw.map[v];
    bool light = source_of(r, v) && (is_cheap(r, v) || !r->needed[base_of(g, v)]), which = for_gradient && light;
    if (r->again[which][v])
        return r->again[which][v];
    const Node *n = graph_def(g, v);
    ValueId *in = NEWN(r->rw.to->arena, ValueId, n->n_in + 1);
    for (int i = 0; i < n->n_in; i++)
        in[i] = op_reads(n->op, i) ? make_again(r, n->in[i], which, after) : r->rw.map[n->in[i]];
    NodeId id = emit_node(r->rw.to, origin_of(n), n->op, in, n->n_in, &n->attrs);
    graph_node(r->rw.to, id)->after = after;
    for (int i = 0; i < n->n_out; i++) {
        ValueId copy = emit_like(r->rw.to, id, i, r->rw.map[n->out[i]]);
        graph_value(r->rw.to, copy)->dtype = graph_value(g, n->out[i])->dtype;
        r->again[which][n->out[i]] = copy;
    }
    return r->again[which][v];
}

static void copy_gradient(Recompute *r, NodeId n)
{
    const Node *node = graph_node(r->g, n);
    ValueId after = moment_of(r, node);
    ValueId *in = NEWN(r->rw.to->arena, ValueId, node->n_in + 1);
    for (int i = 0; i < node->n_in; i++)
        in[i] = op_reads(node->op, i) ? make_again(r, node->in[i], true, after) : r->rw.map[node->in[i]];
    NodeId id = rewrite_copy(&r->rw, n);
    Node *copy = graph_node(r->rw.to, id);
    for (int i = 0; i < node->n_in; i++)
        copy->in[i] = in[i];
}

static Recompute start(Arena *a, const Graph *g, RecomputeWhat what)
{
    Recompute r = {.rw = rewrite_begin(a, g), .g = g, .cheap_alone = what == RECOMPUTE_CHEAP, .loss = graph_value(g, g->loss)->def};
    r.needed = NEWN(a, bool, g->values.len);
    r.kept = NEWN(a, bool, g->values.len);
    r.readers = NEWN(a, uint32_t, g->values.len);
    r.again[0] = NEWN(a, ValueId, g->values.len);
    r.again[1] = NEWN(a, ValueId, g->values.len);
    find_needs(&r);
    return r;
}

bool recompute_pays(Arena *a, const Graph *g)
{
    Recompute r = start(a, g, RECOMPUTE_CHEAP);
    int64_t cheap = keep_all_but_cheap(&r);
    return cheap >= WORTH_BYTES || (cheap > 0 && cheap <= FEW_BYTES);
}

Graph *recompute(Arena *a, const Graph *g, RecomputeWhat what)
{
    Recompute r = start(a, g, what);
    if (what == RECOMPUTE_MOST)
        find_kept(&r);
    else
        (void)keep_all_but_cheap(&r);
    for (NodeId n = 1; n < g->nodes.len; n++) {
        if (n <= r.loss || (op_flags(graph_node(g, n)->op) & OPF_LEAF))
            rewrite_copy(&r.rw, n);
        else
            copy_gradient(&r, n);
    }
    return rewrite_end(&r.rw);
}
