/* Gradients: the reverse walk over the forward nodes.
 *
 * In: a Train whose forward pass and loss are built. Out: gradient nodes appended, and for every trainable parameter its
 * update. Invariant: when the walk comes to a node, the gradient of its output is complete, since all its readers stand
 * later. So where a parameter's node is met, everything that reads it stands before, and it can be updated: soon, so that
 * its gradient need not be kept, but behind the elementwise gradients that follow, since those share a kernel with the
 * convolution's dx, which reads the parameter.
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

typedef Vec(ValueId) ValueList;

static void update_all(Train *t, ValueList *waiting)
{
    for (uint32_t i = 0; i < waiting->len; i++)
        optimizer_update(t, waiting->at[i], t->grad[waiting->at[i]]);
    waiting->len = 0;
}

void grad_walk(Train *t, ValueId d_output)
{
    ValueList waiting = {0};        /* parameters whose gradient is complete */
    grad_flow(t, t->g->output, d_output);
    for (NodeId id = t->n_forward - 1; id > 0; id--) {
        Node n = *graph_node(t->g, id);
        ValueId dy = n.n_out && n.out[0] < t->n_values ? t->grad[n.out[0]] : 0;
        if (!dy)
            continue;
        if (n.op == OP_PARAM) {
            vec_push(t->g->arena, &waiting, n.out[0]);
            continue;
        }
        if (!(op_flags(n.op) & OPF_MAP))
            update_all(t, &waiting);
        grad_rule(n.op)(t, &n, dy);
    }
    update_all(t, &waiting);
}
