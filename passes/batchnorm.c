/* Batch norm and dropout outside training: bn_fold (inference programs) and eval_graph (validation while training).
 *
 * In: a shaped forward graph. Out: a new graph without dropout; bn_fold also leaves no OP_BATCHNORM.
 * Invariant: shapes stay known. The statistics of a batch norm that tracks are parameters of the graph; one that does not
 * (track_running_stats=False) takes those of the batch in evaluation too, as PyTorch does.
 * Idea: with s = gamma / sqrt(var + eps), batch norm is x*s + (beta - mean*s), so behind a conv or linear that nobody else
 * reads it moves into the weights:
 *     y = (w.x + b)*s + beta - mean*s = (w*s).x + (beta + (b - mean)*s)
 * and elsewhere it is OP_AFFINE. The products are OP_FOLD_* nodes, computed once, in double, when weights are loaded. */
#include "passes/pass.h"
#include "passes/train.h"

/* Operands of OP_BATCHNORM. */
enum { BN_X, BN_GAMMA, BN_BETA, BN_MEAN, BN_VAR };

static bool uses_batch_statistics(const Node *bn) { return !bn->attrs.norm.track || !bn->in[BN_MEAN]; }

NodeId batchnorm_by_batch(Rewrite *r, NodeId n)
{
    const Node *bn = graph_node(r->from, n);
    Origin o = origin_of(bn);
    Shape per_channel = shape_of(1, bn->attrs.norm.features);
    ValueId x = r->map[bn->in[BN_X]], gamma = r->map[bn->in[BN_GAMMA]], beta = r->map[bn->in[BN_BETA]];
    NodeId stats = emit_node(r->to, o, OP_BN_STATS, VALUES(x), &bn->attrs);
    ValueId mean = emit_shape(r->to, stats, 0, per_channel);
    ValueId var = emit_shape(r->to, stats, 1, per_channel);
    NodeId apply = emit_node(r->to, o, OP_BN_TRAIN, VALUES(x, gamma, beta, mean, var), &bn->attrs);
    r->map[bn->out[0]] = emit_like(r->to, apply, 0, x);
    return stats;
}

/* The conv or linear that batch norm `bn` can move into, or 0. Dropout between them is gone by then. */
static NodeId absorbing_node(const Graph *g, const Node *bn, const uint32_t *uses)
{
    ValueId x = bn->in[BN_X];
    while (uses[x] == 1 && graph_def(g, x)->op == OP_DROPOUT)
        x = graph_def(g, x)->in[0];
    const Node *def = graph_def(g, x);
    if (uses[x] != 1 || uses_batch_statistics(bn))
        return 0;
    bool channels_are_axis_1 = def->op == OP_CONV || (def->op == OP_LINEAR && graph_value(g, x)->shape.rank == 2);
    return channels_are_axis_1 ? graph_value(g, x)->def : 0;
}

/* s * w, or s alone when there is no w. */
static ValueId emit_fold_weight(Rewrite *r, const Node *bn, ValueId w)
{
    ValueId gamma = r->map[bn->in[BN_GAMMA]], var = r->map[bn->in[BN_VAR]];
    NodeId n = emit_node(r->to, origin_of(bn), OP_FOLD_WEIGHT, VALUES(w, gamma, var), &bn->attrs);
    return w ? emit_like(r->to, n, 0, w) : emit_shape(r->to, n, 0, shape_of(1, bn->attrs.norm.features));
}

/* beta + (b - mean)*s */
static ValueId emit_fold_bias(Rewrite *r, const Node *bn, ValueId b)
{
    const ValueId in[] = {b, r->map[bn->in[BN_GAMMA]], r->map[bn->in[BN_BETA]], r->map[bn->in[BN_MEAN]], r->map[bn->in[BN_VAR]]};
    NodeId n = emit_node(r->to, origin_of(bn), OP_FOLD_BIAS, in, 5, &bn->attrs);
    return emit_shape(r->to, n, 0, shape_of(1, bn->attrs.norm.features));
}

static void fold_into(Rewrite *r, const Node *bn, const Node *conv)
{
    ValueId w = emit_fold_weight(r, bn, r->map[conv->in[1]]);
    ValueId b = emit_fold_bias(r, bn, r->map[conv->in[2]]);
    Attrs attrs = conv->attrs;
    if (conv->op == OP_CONV)
        attrs.conv.bias = true;
    else
        attrs.linear.bias = true;
    NodeId n = emit_node(r->to, origin_of(conv), conv->op, VALUES(r->map[conv->in[0]], w, b), &attrs);
    ValueId y = node_out(r->to, n, 0);
    const Value *old = graph_value(r->from, bn->out[0]);
    Value *new = graph_value(r->to, y);
    new->shape = old->shape;
    new->known = old->known;
    new->batched = old->batched;
    r->map[bn->out[0]] = y;
}

static void make_affine(Rewrite *r, const Node *bn)
{
    ValueId scale = emit_fold_weight(r, bn, 0), shift = emit_fold_bias(r, bn, 0), x = r->map[bn->in[BN_X]];
    NodeId n = emit_node(r->to, origin_of(bn), OP_AFFINE, VALUES(x, scale, shift), NULL);
    r->map[bn->out[0]] = emit_like(r->to, n, 0, x);
}

Graph *bn_fold(Arena *a, const Graph *g)
{
    Rewrite r = rewrite_begin(a, g);
    uint32_t *uses = count_uses(a, g, true);
    bool *absorbs = NEWN(a, bool, g->nodes.len);   /* made anew where its batch norm stands */
    for (NodeId n = 1; n < g->nodes.len; n++)
        if (graph_node(g, n)->op == OP_BATCHNORM)
            absorbs[absorbing_node(g, graph_node(g, n), uses)] = true;
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        NodeId conv = node->op == OP_BATCHNORM ? absorbing_node(g, node, uses) : 0;
        if (node->op == OP_DROPOUT)
            r.map[node->out[0]] = r.map[node->in[0]];
        else if (conv)
            fold_into(&r, node, graph_node(g, conv));
        else if (node->op == OP_BATCHNORM && uses_batch_statistics(node))
            batchnorm_by_batch(&r, n);
        else if (node->op == OP_BATCHNORM)
            make_affine(&r, node);
        else if (!absorbs[n])
            rewrite_copy(&r, n);
    }
    return rewrite_end(&r);
}

Graph *eval_graph(Arena *a, const Graph *g)
{
    Rewrite r = rewrite_begin(a, g);
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        if (node->op == OP_DROPOUT)
            r.map[node->out[0]] = r.map[node->in[0]];
        else if (node->op == OP_BATCHNORM && uses_batch_statistics(node))
            batchnorm_by_batch(&r, n);
        else
            rewrite_copy(&r, n);
    }
    return rewrite_end(&r);
}
