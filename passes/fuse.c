/* fuse: which nodes share one kernel.
 *
 * In: a graph with shapes. Out: for every node that computes something the last node of its group (`root`) and, by root, the
 * group's anchor. Invariant of a group: it is a tree whose inner edges are values with one reader, so that nothing is
 * computed twice and inner values (but an anchor's second output) need no storage; at most one member, the anchor, is not
 * elementwise. Elementwise members behind the anchor have its result's shape; those before it are read once per element.
 * A group runs where its root stands: all it reads is ready by then, and no state tensor that it reads has been overwritten.
 * Idea: walk the nodes in order; a node takes in the groups of those operands that only it reads.
 *
 *     conv* ─┐                    conv.dx* ─┐                        bn.train ── maxpool* ── act
 *            add ── act                     add ── act.dx            conv.dw* ── sgd
 *     x ─────┘                    dy of the shortcut ─┘              slice ── act.dx
 *
 * To let an op start a group: a row in may_anchor. Its lowering must accept an epilogue. */
#include "passes/pass.h"
#include "passes/rewrite.h"

/* A kernel's expression stays small enough to schedule and to compile. */
enum { MAX_GROUP = 24 };

/* One output element from the elements at the same place of the operands, or from per-channel operands and scalars. */
static bool is_elementwise(Op op)
{
    switch (op) {
    case OP_BATCHNORM: case OP_BN_TRAIN: case OP_BN_DX: case OP_SGD: case OP_ADAM: case OP_ADAMW: case OP_RMSPROP: return true;
    default: return op_flags(op) & OPF_MAP;
    }
}

/* Reads each element at another place, and nothing twice: work for a load, not a reduction. */
static bool is_moved(Op op) { return op == OP_SLICE || op == OP_GLU; }

/* Ops whose kernel can go on with elementwise work on its first output. */
static bool may_anchor(Op op)
{
    switch (op) {
    case OP_CONV: case OP_CONV_DX: case OP_CONV_DW: case OP_LINEAR: case OP_LINEAR_DX: case OP_LINEAR_DW: case OP_SUM_KEEP:
    case OP_MAXPOOL: case OP_AVGPOOL: case OP_ADAPTIVE_AVG: case OP_ADAPTIVE_MAX:
    case OP_MAXPOOL_DX: case OP_AVGPOOL_DX: case OP_ADAPTIVE_AVG_DX: case OP_ADAPTIVE_MAX_DX:
    case OP_PRELU_DW:
        return true;
    default:
        return false;
    }
}

/* A pool that reads every element once at most, and none outside: its input may be computed on the way. */
static bool reads_once(const Graph *g, const Node *n)
{
    if (n->op != OP_MAXPOOL && n->op != OP_AVGPOOL)
        return false;
    const PoolAttrs *p = &n->attrs.pool;
    const Shape *x = &graph_value(g, n->in[0])->shape, *y = &graph_value(g, n->out[0])->shape;
    for (int i = 0; i < p->nd; i++) {
        int d = x->rank - p->nd + i;
        int64_t end = (y->dim[d] - 1) * p->stride[i] + p->kernel[i];
        if (p->pad[i] || p->stride[i] < p->kernel[i] || p->dilation[i] != 1 || end > x->dim[d])
            return false;
    }
    return true;
}

/* Leaves hold no work, and the arithmetic on weights is done when they are loaded. */
static bool has_kernel(Op op) { return !(op_flags(op) & OPF_LEAF) && op != OP_FOLD_WEIGHT && op != OP_FOLD_BIAS; }

/* Whether two values have one element for one element. */
static bool same_place(const Graph *g, ValueId a, ValueId b)
{
    const Value *x = graph_value(g, a), *y = graph_value(g, b);
    return shape_equal(&x->shape, &y->shape) && x->batched == y->batched;
}

/* By value: how many nodes read it (a node that reads it twice is one), plus the ways out of the graph. */
static uint32_t *count_readers(Arena *a, const Graph *g)
{
    uint32_t *readers = count_uses(a, g, false);
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        if (is_elementwise(node->op))
            for (int i = 1; i < node->n_in; i++)
                for (int j = 0; j < i; j++)
                    if (node->in[i] && node->in[i] == node->in[j]) {
                        readers[node->in[i]]--;
                        break;
                    }
    }
    return readers;
}

/* By node, for groups: size, anchor, the node that took the group in (0 = none), and `deadline`: the first node that overwrites
 * a state tensor the group reads, before which the group must run. */
typedef struct { const Graph *g; uint32_t *readers, *size; NodeId *parent, *anchor, *deadline; } Groups;

static void find_deadlines(Groups *s, Arena *a)
{
    const Graph *g = s->g;
    NodeId *written = NEWN(a, NodeId, g->values.len);   /* by ValueId of a state tensor */
    for (uint32_t i = 0; i < g->updates.len; i++)
        written[g->updates.at[i].old] = graph_value(g, g->updates.at[i].next)->def;
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        s->deadline[n] = g->nodes.len;
        for (int i = 0; i < node->n_in; i++)
            if (op_reads(node->op, i) && written[node->in[i]] && written[node->in[i]] < s->deadline[n])
                s->deadline[n] = written[node->in[i]];
    }
}

/* Whether node n may take in the group that makes its operand i. */
static bool may_take(const Groups *s, NodeId n, int i)
{
    const Graph *g = s->g;
    ValueId v = graph_node(g, n)->in[i];
    if (!v || s->readers[v] != 1 || graph_value(g, v)->index != 0)
        return false;
    NodeId def = graph_value(g, v)->def;
    Op op = graph_node(g, def)->op;
    return (is_elementwise(op) || is_moved(op) || may_anchor(op)) && !s->parent[def] && !(s->anchor[n] && s->anchor[def]) &&
           (s->anchor[n] == n || same_place(g, v, node_out(g, n, 0))) && s->size[n] + s->size[def] <= MAX_GROUP &&
           s->deadline[def] > n;
}

static void take(Groups *s, NodeId n, NodeId def)
{
    s->parent[def] = n;
    s->size[n] += s->size[def];
    if (s->anchor[def])
        s->anchor[n] = s->anchor[def];
    if (s->deadline[def] < s->deadline[n])
        s->deadline[n] = s->deadline[def];
}

/* First an operand with an anchor, for a convolution gains more from its epilogue than a map chain does; the youngest, whose
 * own operands are the likeliest to be still at hand. Then all others. */
static void grow(Groups *s, NodeId n)
{
    const Node *node = graph_node(s->g, n);
    NodeId best = 0;
    for (int i = 0; i < node->n_in; i++)
        if (may_take(s, n, i)) {
            NodeId def = graph_value(s->g, node->in[i])->def;
            if (s->anchor[def] && def > best)
                best = def;
        }
    if (best)
        take(s, n, best);
    for (int i = 0; i < node->n_in; i++)
        if (may_take(s, n, i))
            take(s, n, graph_value(s->g, node->in[i])->def);
}

Fusion fuse_none(Arena *a, const Graph *g)
{
    Fusion f = {NEWN(a, NodeId, g->nodes.len), NEWN(a, NodeId, g->nodes.len)};
    for (NodeId n = 1; n < g->nodes.len; n++) {
        Op op = graph_node(g, n)->op;
        f.root[n] = has_kernel(op) ? n : 0;
        f.anchor[n] = has_kernel(op) && !is_elementwise(op) && !is_moved(op) ? n : 0;
    }
    return f;
}

Fusion fuse(Arena *a, const Graph *g)
{
    Fusion f = fuse_none(a, g);
    Groups s = {g, count_readers(a, g), NEWN(a, uint32_t, g->nodes.len), NEWN(a, NodeId, g->nodes.len), f.anchor,
                NEWN(a, NodeId, g->nodes.len)};
    find_deadlines(&s, a);
    for (NodeId n = 1; n < g->nodes.len; n++) {
        s.size[n] = 1;
        const Node *node = graph_node(g, n);
        if (is_elementwise(node->op) || reads_once(g, node))
            grow(&s, n);
    }
    for (NodeId n = g->nodes.len - 1; n > 0; n--)   /* parents stand later, so theirs are known */
        if (s.parent[n])
            f.root[n] = f.root[s.parent[n]];
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (f.root[n] != n)
            f.anchor[n] = 0;
    return f;
}

void fusion_print(const Graph *g, Fusion f, FILE *to)
{
    fprintf(to, "groups of %s\n", g->name ? g->name : "?");
    for (NodeId root = 1; root < g->nodes.len; root++) {
        if (f.root[root] != root)
            continue;
        fputs(" ", to);
        for (NodeId n = 1; n <= root; n++)
            if (f.root[n] == root)
                fprintf(to, " %s%s(%%%u)", op_text(graph_node(g, n)->op), n == f.anchor[root] ? "*" : "",
                        (unsigned)node_out(g, n, 0));
        LayerId layer = graph_node(g, root)->layer;
        if (layer >= 0)
            fprintf(to, "  # layer \"%s\"", g->layers.at[layer].name);
        fputs("\n", to);
    }
}
