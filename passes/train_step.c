/* train_step: one step of training as one graph of ordinary ops.
 *
 * In: a shaped forward graph as written and the train block. Out: a new graph (state, images, labels, scalars) -> (loss,
 * correct, next state): forward in training mode, loss, gradients, updates; or NULL with a message.
 * Invariant: nothing has a side effect; every state tensor that changes is a pair (old, next) in graph->updates, and every
 * reader of the old value stands before the node that makes the next one.
 * Idea: training mode changes two layers: batch norm uses the batch's statistics and moves the running ones, dropout draws
 * from the step's seed, each layer its own stream. The rest is copied; loss.c, grad.c and optimizer.c append theirs. */
#include "passes/train.h"

#include <string.h>

ValueId train_scalar(Train *t, CnncScalar which)
{
    if (!t->scalar[which]) {
        Attrs attrs = {.axis = {.axis = which}};
        NodeId n = emit_node(t->g, (Origin){.layer = -1, .span = t->spec->span}, OP_SCALAR, NULL, 0, &attrs);
        t->scalar[which] = emit_shape(t->g, n, 0, shape_of(0));
        if (which == CNNC_SC_SEED)
            graph_value(t->g, t->scalar[which])->dtype = DT_I32;
    }
    return t->scalar[which];
}

static bool is_batch_count(const Graph *g, NodeId n)
{
    static const char suffix[] = "num_batches_tracked";
    const char *name = graph_node(g, n)->op == OP_PARAM ? graph_value(g, node_out(g, n, 0))->name : NULL;
    size_t len = name ? strlen(name) : 0;
    return len >= sizeof suffix - 1 && strcmp(name + len - (sizeof suffix - 1), suffix) == 0;
}

/* num_batches_tracked of batch norm `bn` in the old graph, or 0. No op reads it: it stands among the layer's nodes. */
static ValueId find_batch_count(const Graph *g, NodeId bn)
{
    LayerId layer = graph_node(g, bn)->layer;
    NodeId n = bn;
    if (layer < 0)
        return 0;
    while (n > 1 && graph_node(g, n - 1)->layer == layer)
        n--;
    for (; n < g->nodes.len && graph_node(g, n)->layer == layer; n++)
        if (is_batch_count(g, n))
            return node_out(g, n, 0);
    return 0;
}

static void add_update(Graph *g, ValueId old, ValueId next)
{
    graph_value(g, next)->dtype = graph_value(g, old)->dtype;
    vec_push(g->arena, &g->updates, (StatePair){old, next});
}

/* running' = (1-f)*running + f*statistic for mean and variance, and the count of batches. */
static void move_running_statistics(Train *t, NodeId n_bn, NodeId stats)
{
    const Node *bn = graph_node(t->rw.from, n_bn);
    Origin o = origin_of(bn);
    ValueId count = t->rw.map[find_batch_count(t->rw.from, n_bn)];
    for (int i = 0; i < 2; i++) {
        Attrs attrs = bn->attrs;
        attrs.norm.track = i == 1;                      /* false: the mean, true: the variance */
        ValueId running = t->rw.map[bn->in[3 + i]], stat = node_out(t->g, stats, i), x = graph_node(t->g, stats)->in[0];
        NodeId n = emit_node(t->g, o, OP_BN_RUNNING, VALUES(running, stat, bn->attrs.norm.momentum < 0 ? count : 0, x), &attrs);
        add_update(t->g, running, emit_like(t->g, n, 0, running));
    }
    if (count)
        add_update(t->g, count, emit_like(t->g, emit_node(t->g, o, OP_COUNT_BATCH, VALUES(count), NULL), 0, count));
}

static bool batchnorm_in_training(Train *t, NodeId n)
{
    const Node *bn = graph_node(t->rw.from, n);
    const Shape *x = &graph_value(t->rw.from, bn->in[0])->shape;
    if (shape_elements(x) == x->dim[1]) {
        diag_error(t->diags, bn->span, "E0601", "%s has one value per channel to take statistics of in training",
                   bn->layer >= 0 ? t->g->layers.at[bn->layer].type : "BatchNorm");
        diag_help(t->diags, "use a batch size of 2 or more");
        diag_torch(t->diags, "Expected more than 1 value per channel when training, got input size torch.Size(%s)",
                   shape_text(t->g->arena, x, false));
        return false;
    }
    NodeId stats = batchnorm_by_batch(&t->rw, n);
    if (bn->attrs.norm.track && bn->in[3])
        move_running_statistics(t, n, stats);
    return true;
}

static void dropout_in_training(Train *t, NodeId n)
{
    const Node *node = graph_node(t->rw.from, n);
    ValueId x = t->rw.map[node->in[0]];
    if (node->attrs.dropout.p == 0) {
        t->rw.map[node->out[0]] = x;
        return;
    }
    Attrs attrs = node->attrs;
    attrs.dropout.stream = t->streams++;
    ValueId seed = train_scalar(t, CNNC_SC_SEED);
    NodeId d = emit_node(t->g, origin_of(node), OP_DROPOUT, VALUES(x, seed), &attrs);
    t->rw.map[node->out[0]] = emit_like(t->g, d, 0, x);
}

static bool forward_in_training(Train *t)
{
    const Graph *from = t->rw.from;
    bool fine = true;
    for (NodeId n = 1; n < from->nodes.len; n++) {
        switch (graph_node(from, n)->op) {
        case OP_BATCHNORM: fine = batchnorm_in_training(t, n) && fine; break;
        case OP_DROPOUT: dropout_in_training(t, n); break;
        default: rewrite_copy(&t->rw, n);
        }
        if (!fine)
            return false;
    }
    return true;
}

/* Which values a trainable parameter lies upstream of. Statistics of a batch are left out: their share is in bn.dx. */
static void find_needs(Train *t)
{
    const Graph *g = t->g;
    t->n_forward = g->nodes.len;
    t->n_values = g->values.len;
    t->needs = NEWN(g->arena, bool, t->n_values);
    t->grad = NEWN(g->arena, ValueId, t->n_values);
    for (NodeId n = 1; n < t->n_forward; n++) {
        const Node *node = graph_node(g, n);
        bool need = node->op == OP_PARAM && node->attrs.param.trainable;
        if (grad_rule(node->op))
            for (int i = 0; i < node->n_in; i++)
                need = need || t->needs[node->in[i]];
        t->needs[node->out[0]] = need;
    }
}

Graph *train_step(Arena *a, const Graph *g, const TrainSpec *spec, Diags *d)
{
    Train t = {.rw = rewrite_begin(a, g), .spec = spec, .diags = d};
    t.g = t.rw.to;
    if (!forward_in_training(&t))
        return NULL;
    rewrite_end(&t.rw);
    ValueId d_output = loss_attach(&t);
    if (!d_output)
        return NULL;
    find_needs(&t);
    if (!grad_wanted(&t, t.g->output)) {
        diag_error(d, spec->span, "E0602", "the net has no parameters to train");
        diag_torch(d, "optimizer got an empty parameter list");
        return NULL;
    }
    grad_walk(&t, d_output);
    return t.g;
}
