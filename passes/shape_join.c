/* Shape rules where values meet: residual sums, concat, losses.
 * In: the shapes of all inputs, perhaps partly unknown. Out: the joined shape; errors that name both sides.
 * Invariant: inputs of a sum are equal, inputs of a concat equal but for its axis.
 * Idea: what either side knows is known of the result, so that one bad branch does not silence the rest. */
#include "passes/shape.h"

#include <inttypes.h>

/* ---- sums ---- */

static bool agree(int64_t a, int64_t b) { return a == b || a == UNKNOWN || b == UNKNOWN; }

/* A 1x1 convolution that makes `from` into `to`, or the padding that was forgotten. */
static void help_residual(Infer *t, const Shape *from, const Shape *to)
{
    if (from->rank != 4 || to->rank != 4 || !shape_is_known(from) || !shape_is_known(to)) {
        if (from->rank == 2 && to->rank == 2)
            diag_help(t->d, "give the block's input its own way: shortcut { Linear(_, %" PRId64 ") }", to->dim[1]);
        return;
    }
    int64_t stride = (from->dim[2] + to->dim[2] / 2) / to->dim[2];
    if (stride >= 1 && (from->dim[2] - 1) / stride + 1 == to->dim[2] && (from->dim[3] - 1) / stride + 1 == to->dim[3]) {
        const char *move = stride > 1 ? arena_printf(t->g->arena, ", stride=%" PRId64, stride) : "";
        diag_help(t->d, "give the block's input its own way: shortcut { Conv2d(_, %" PRId64 ", 1%s) }", to->dim[1], move);
    } else if (to->dim[2] < from->dim[2] && from->dim[2] - to->dim[2] <= 12 && (from->dim[2] - to->dim[2]) % 2 == 0) {
        diag_help(t->d,
                  "the block loses %" PRId64 " rows at its borders; padding=1 in each 3x3 convolution (2 in a 5x5) keeps them",
                  from->dim[2] - to->dim[2]);
    }
}

static void wrong_sum(Infer *t, const Shape *a, const Shape *b, int axis)
{
    bool residual = t->layer && !t->layer->arg_span;
    diag_error(t->d, t->layer ? t->layer->span : t->n->span, "E0317", "%s cannot add %s and %s",
               residual ? "residual" : infer_type(t), infer_sample(t, a), infer_sample(t, b));
    note_origin(t, t->n->in[0]);
    note_origin(t, t->n->in[1]);
    note_use(t);
    bool first_is_input = t->layer && t->n->in[0] == t->layer->in;
    help_residual(t, first_is_input ? a : b, first_is_input ? b : a);
    if (a->rank == b->rank)
        diag_torch(t->d,
                   "The size of tensor a (%" PRId64 ") must match the size of tensor b (%" PRId64
                   ") at non-singleton dimension %d",
                   a->dim[axis], b->dim[axis], axis);
}

void shape_add(Infer *t)
{
    Shape a = infer_in(t, 0), b = infer_in(t, 1), out = a.rank >= 0 ? a : b;
    bool batched = graph_value(t->g, t->n->in[0])->batched;
    int clash = a.rank >= 0 && b.rank >= 0 && a.rank != b.rank ? 0 : -1;
    for (int i = 1; clash < 0 && i < a.rank && i < b.rank; i++)
        clash = agree(a.dim[i], b.dim[i]) ? -1 : i;
    for (int i = 0; clash < 0 && i < a.rank && i < b.rank; i++)
        out.dim[i] = a.dim[i] == UNKNOWN ? b.dim[i] : a.dim[i];
    if (clash >= 0) {
        wrong_sum(t, &a, &b, clash);
        for (int i = 1; i < out.rank; i++)
            out.dim[i] = i < a.rank && i < b.rank && a.rank == b.rank && a.dim[i] == b.dim[i] ? a.dim[i] : UNKNOWN;
        out = a.rank == b.rank ? out : shape_unknown();
    }
    infer_out(t, 0, out, batched);
}

/* ---- concat ---- */

static void wrong_concat(Infer *t, int first, int other, int axis)
{
    Shape a = infer_in(t, first), b = infer_in(t, other);
    diag_error(t->d, t->layer ? t->layer->span : t->n->span, "E0318",
               "concat joins channels, but branch %d gives %s and branch %d gives %s", first + 1, infer_sample(t, &a), other + 1,
               infer_sample(t, &b));
    note_origin(t, t->n->in[first]);
    note_origin(t, t->n->in[other]);
    note_use(t);
    diag_help(t->d,
              "all branches must keep the same rows and columns: padding=1 for a 3x3 window, 2 for a 5x5, and the same stride");
    if (axis > 0)
        diag_torch(t->d,
                   "Sizes of tensors must match except in dimension 1. Expected size %" PRId64 " but got size %" PRId64
                   " for tensor number %d in the list.",
                   a.dim[axis], b.dim[axis], other);
}

void shape_concat(Infer *t)
{
    int32_t axis = t->n->attrs.axis.axis;
    Shape out = shape_unknown();
    int first = -1;
    int64_t sum = 0;
    bool fine = true;
    for (int i = 0; i < t->n->n_in; i++) {
        Shape s = infer_in(t, i);
        if (s.rank <= axis) {
            fine = fine && s.rank < 0;
            sum = UNKNOWN;
            continue;
        }
        if (first < 0) {
            first = i;
            out = s;
        }
        int clash = s.rank != out.rank ? 0 : -1;
        for (int k = 1; clash < 0 && k < s.rank; k++)
            clash = k == axis || agree(s.dim[k], out.dim[k]) ? -1 : k;
        if (clash >= 0 && fine)
            wrong_concat(t, first, i, clash);
        fine = fine && clash < 0;
        for (int k = 1; k < out.rank && k < s.rank; k++)
            out.dim[k] = out.dim[k] == UNKNOWN ? s.dim[k] : out.dim[k];
        sum = sum == UNKNOWN || s.dim[axis] == UNKNOWN ? UNKNOWN : sum + s.dim[axis];
    }
    if (out.rank > axis)
        out.dim[axis] = sum;
    for (int k = 1; !fine && k < out.rank; k++)
        out.dim[k] = k == axis ? sum : UNKNOWN;
    infer_out(t, 0, out, true);
}

/* ---- losses: mean loss, gradient at the logits, count of right answers ---- */

void shape_loss(Infer *t)
{
    infer_out(t, 0, (Shape){.rank = 0}, false);
    infer_out(t, 1, infer_in(t, 0), true);
    infer_out(t, 2, (Shape){.rank = 0}, false);
}
