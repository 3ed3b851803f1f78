/* Building a new graph from an old one.
 *
 * In: a graph. Out: a graph in the given arena. Invariant: a node is copied or replaced only after the nodes that make
 * its inputs, so walking the old graph in order keeps the new one in order.
 * Idea: old graphs are never changed; a pass says for each old value which new value stands for it. */
#include "passes/rewrite.h"

Rewrite rewrite_begin(Arena *a, const Graph *from)
{
    return (Rewrite){from, graph_like(a, from), NEWN(a, ValueId, from->values.len)};
}

NodeId rewrite_copy(Rewrite *r, NodeId n) { return graph_copy_node(r->to, r->from, n, r->map); }

Graph *rewrite_end(Rewrite *r)
{
    Graph *to = r->to;
    const Graph *from = r->from;
    to->input = r->map[from->input];
    to->output = r->map[from->output];
    to->labels = r->map[from->labels];
    to->loss = r->map[from->loss];
    to->correct = r->map[from->correct];
    for (uint32_t i = 0; i < from->updates.len; i++)
        vec_push(to->arena, &to->updates, (StatePair){r->map[from->updates.at[i].old], r->map[from->updates.at[i].next]});
    for (uint32_t i = 0; i < to->layers.len; i++) {
        to->layers.at[i].in = r->map[from->layers.at[i].in];
        to->layers.at[i].out = r->map[from->layers.at[i].out];
    }
    return to;
}

NodeId emit_node(Graph *g, Origin o, Op op, const ValueId *in, int n_in, const Attrs *attrs)
{
    return graph_add_node(g, op, in, n_in, attrs, o.layer, o.span);
}

ValueId emit_like(Graph *g, NodeId n, int i, ValueId like)
{
    ValueId v = node_out(g, n, i);
    Value *to = graph_value(g, v);
    const Value *from = graph_value(g, like);
    to->shape = from->shape;
    to->known = from->known;
    to->batched = from->batched;
    return v;
}

ValueId emit_shape(Graph *g, NodeId n, int i, Shape s)
{
    ValueId v = node_out(g, n, i);
    Value *to = graph_value(g, v);
    to->shape = s;
    to->known = true;
    return v;
}

uint32_t *count_uses(Arena *a, const Graph *g, bool shapes_too)
{
    uint32_t *uses = NEWN(a, uint32_t, g->values.len);
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] && (shapes_too || op_reads(node->op, i)))
                uses[node->in[i]]++;
    }
    uses[g->output]++;
    uses[g->loss]++;
    uses[g->correct]++;
    for (uint32_t i = 0; i < g->updates.len; i++)
        uses[g->updates.at[i].next]++;
    return uses;
}
