/* The loss behind the net's output.
 *
 * In: the forward pass in a Train. Out: labels, loss and correct set in the graph; the gradient at the output.
 * Invariant: both losses give value and gradient in one op, since they share their exponentials and differences.
 * Idea: labels are class ids unless the data are arrays of targets (Npy with MSELoss), which have the output's shape. */
#include "passes/train.h"

#include <string.h>

/* The shape of class ids for this output: [n] or, with a class per position, [n, positions...]. */
static Shape class_id_shape(const Shape *output)
{
    Shape s = {.rank = output->rank - 1, .dim = {output->dim[0]}};
    for (int i = 1; i < s.rank; i++)
        s.dim[i] = output->dim[i + 1];
    return s;
}

static ValueId emit_labels(Train *t, Origin o, DType dtype, Shape shape)
{
    NodeId n = emit_node(t->g, o, OP_LABELS, NULL, 0, NULL);
    ValueId labels = emit_shape(t->g, n, 0, shape);
    graph_value(t->g, labels)->dtype = dtype;
    graph_value(t->g, labels)->batched = true;
    return t->g->labels = labels;
}

ValueId loss_attach(Train *t)
{
    Graph *g = t->g;
    bool mse = t->spec->train.loss == 1;
    bool targets = mse && t->spec->train.data == CNNC_DATA_NPY;
    Shape output = graph_value(g, g->output)->shape;
    if (mse && !targets && output.rank != 2) {
        diag_error(t->diags, t->spec->loss_span, "E0603",
                   "MSELoss with class labels needs one score per class, but the net gives %s",
                   shape_text(g->arena, &output, true));
        return 0;
    }
    Origin o = origin_of(graph_def(g, g->output));
    ValueId labels = targets ? emit_labels(t, o, DT_F32, output) : emit_labels(t, o, DT_I32, class_id_shape(&output));
    Attrs attrs = {.loss = {.smoothing = mse ? 0 : t->spec->train.smoothing, .reduction = 0}};
    NodeId n = emit_node(g, o, mse ? OP_MSE : OP_CROSS_ENTROPY, VALUES(g->output, labels), &attrs);
    g->loss = emit_shape(g, n, 0, shape_of(0));
    ValueId d_output = emit_like(g, n, 1, g->output);
    ValueId correct = emit_shape(g, n, 2, shape_of(0));
    g->correct = targets ? 0 : correct;
    return d_output;
}
