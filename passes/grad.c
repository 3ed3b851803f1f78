/* Gradients: the reverse walk over the forward nodes.
 *
 * In: a Train whose forward pass and loss are built. Out: gradient nodes appended, and for every trainable parameter its
 * update. Invariant: when the walk comes to a node, the gradient of its output is complete, since all its readers stand
 * later. So a parameter is updated right where its node is met: behind everything that reads it, forward and backward,
 * and as early as possible, so that its gradient need not be kept.
 * Idea: rules add their share with grad_flow; where a value has several readers, shares meet in explicit OP_ADD nodes. No
 * gradient is made that no trainable parameter needs. */
#include "passes/train.h"

void grad_flow(Train *t, ValueId v, ValueId dv)
{
    if (!grad_wanted(t, v))
        return;
    if (t->grad[v]) {
        Origin o = origin_of(graph_def(t->g, dv));
        dv = emit_like(t->g, emit_node(t->g, o, OP_ADD, VALUES(t->grad[v], dv), NULL), 0, v);
    }
    t->grad[v] = dv;
}

void grad_walk(Train *t, ValueId d_output)
{
    grad_flow(t, t->g->output, d_output);
    for (NodeId id = t->n_forward - 1; id > 0; id--) {
        Node n = *graph_node(t->g, id);
        ValueId dy = n.n_out && n.out[0] < t->n_values ? t->grad[n.out[0]] : 0;
        if (!dy)
            continue;
        if (n.op == OP_PARAM)
            optimizer_update(t, n.out[0], dy);
        else
            grad_rule(n.op)(t, &n, dy);
    }
}
