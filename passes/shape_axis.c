/* Shape rules of layers that keep or rearrange sizes: activations, softmax, GLU, dropout, Flatten, padding.
 * In: the input's shape. Out: the output's; negative axes made positive; errors for axes that do not exist.
 * Invariant: axis 0 is the batch, and no layer mixes the samples of a batch.
 * Idea: `dim` arguments count as in PyTorch: the batch is axis 0, negative ones count from the end. */
#include "passes/shape.h"

#include <inttypes.h>
#include <string.h>

/* Makes *axis positive; false (told) when it does not exist or is the batch. Nothing is known below rank 0. */
static bool resolve_axis(Infer *t, const char *arg, int32_t *axis, int rank, bool batch_allowed)
{
    if (rank < 0)
        return false;
    if (*axis < -rank || *axis >= rank) {
        Shape in = infer_in(t, 0);
        diag_error(t->d, infer_arg(t, arg), "E0314", "%s's %s=%d does not exist: %s has axes 0 (the batch) to %d", infer_type(t),
                   arg, *axis, infer_sizes(t, &in), rank - 1);
        note_origin(t, t->n->in[0]);
        note_use(t);
        diag_torch(t->d, "Dimension out of range (expected to be in range of [%d, %d], but got %d)", -rank, rank - 1, *axis);
        return false;
    }
    if (*axis < 0)
        *axis += rank;
    if (*axis > 0 || batch_allowed)
        return true;
    diag_error(t->d, infer_arg(t, arg), "E0315", "%s over axis 0 would mix the samples of a batch", infer_type(t));
    note_use(t);
    diag_help(t->d, "axis 0 is the batch; write %s=1 for the channels or features", arg);
    return false;
}

static void resolve_softmax_axis(Infer *t, const Shape *in)
{
    int32_t *axis = &t->n->attrs.axis.axis;
    if (*axis != AXIS_NONE) {
        resolve_axis(t, "dim", axis, in->rank, false);
    } else if (in->rank == 3) {
        diag_error(t->d, infer_arg(t, "dim"), "E0315",
                   "%s without dim would mix the samples of a batch: for three axes PyTorch takes axis 0", infer_type(t));
        note_use(t);
        diag_help(t->d, "write %s(dim=1)", infer_type(t));
    } else if (in->rank >= 0) {
        *axis = 1;
    }
}

static void check_prelu(Infer *t, const Shape *in)
{
    int64_t n = (int64_t)t->n->attrs.act.p[0], channels = in->rank >= 2 ? in->dim[1] : UNKNOWN;
    infer_param(t, 1, (Shape){.rank = 1, .dim = {n < 1 ? UNKNOWN : n}}, 0);
    if (n == 1 || channels == UNKNOWN || n == channels)
        return;
    diag_error(t->d, infer_arg(t, "num_parameters"), "E0322", "PReLU has %" PRId64 " slopes for %" PRId64 " channels", n,
               channels);
    note_origin(t, t->n->in[0]);
    note_use(t);
    diag_help(t->d, "write PReLU(%" PRId64 "), or PReLU() for one slope in all", channels);
    diag_fix(t->d, "%" PRId64, channels);
    diag_torch(t->d,
               "Mismatch of parameter numbers and input channel size. Found parameter numbers = %" PRId64
               " and channel size = %" PRId64 ".",
               n, channels);
}

static void check_probability(Infer *t)
{
    double p = t->n->attrs.dropout.p;
    if (p >= 0 && p <= 1)
        return;
    diag_error(t->d, infer_arg(t, "p"), "E0323", "%s's probability must be from 0 to 1, not %g", infer_type(t), p);
    note_use(t);
    if (p >= 5 && p <= 100)
        diag_help(t->d, "%g %% is written %g", p, p / 100);
    diag_torch(t->d, "dropout probability has to be between 0 and 1, but got %g", p);
}

void shape_first(Infer *t)
{
    Shape in = infer_in(t, 0);
    if (t->n->op == OP_SOFTMAX || t->n->op == OP_LOG_SOFTMAX)
        resolve_softmax_axis(t, &in);
    else if (t->n->op == OP_ACT && t->n->attrs.act.kind == ACT_PRELU)
        check_prelu(t, &in);
    else if (t->n->op == OP_DROPOUT)
        check_probability(t);
    bool batched = t->n->in[0] && graph_value(t->g, t->n->in[0])->batched;
    for (int i = 0; i < t->n->n_out; i++)
        infer_out(t, i, in, batched);
}

void shape_glu(Infer *t)
{
    Shape in = infer_in(t, 0), out = in;
    int32_t *axis = &t->n->attrs.axis.axis;
    if (!resolve_axis(t, "dim", axis, in.rank, false)) {
        infer_out(t, 0, shape_unknown(), true);
        return;
    }
    int64_t n = in.dim[*axis];
    if (n != UNKNOWN && n % 2 != 0) {
        diag_error(t->d, infer_arg(t, "dim"), "E0316", "GLU halves axis %d, whose size %" PRId64 " is odd", *axis, n);
        note_origin(t, t->n->in[0]);
        note_use(t);
        diag_torch(t->d, "Halving dimension must be even, but dimension %d is size %" PRId64, *axis, n);
    }
    out.dim[*axis] = n == UNKNOWN || n % 2 != 0 ? UNKNOWN : n / 2;
    infer_out(t, 0, out, true);
}

/* ---- Flatten ---- */

void shape_flatten(Infer *t)
{
    FlattenAttrs *f = &t->n->attrs.flatten;
    Shape in = infer_in(t, 0);
    if (in.rank < 0) { /* of an unknown picture Flatten() still makes features */
        bool all = f->start == 1 && f->end == -1;
        infer_out(t, 0, all ? (Shape){.rank = 2, .dim = {t->g->batch, UNKNOWN}} : shape_unknown(), true);
        return;
    }
    if (!resolve_axis(t, "start_dim", &f->start, in.rank, true) || !resolve_axis(t, "end_dim", &f->end, in.rank, true)) {
        infer_out(t, 0, shape_unknown(), true);
        return;
    }
    if (f->start > f->end || (f->start == 0 && f->end > 0)) {
        if (f->start > f->end) {
            diag_error(t->d, infer_arg(t, "start_dim"), "E0314",
                       "Flatten's start_dim (axis %d) comes after its end_dim (axis %d)", f->start, f->end);
            diag_torch(t->d, "flatten() has invalid args: start_dim cannot come after end_dim");
        } else {
            diag_error(t->d, infer_arg(t, "start_dim"), "E0315", "Flatten from axis 0 would mix the samples of a batch");
            diag_help(t->d, "Flatten() starts at axis 1 and keeps the batch");
        }
        note_use(t);
        infer_out(t, 0, shape_unknown(), true);
        return;
    }
    Shape out = {.rank = in.rank - (f->end - f->start)}, merged = {.rank = f->end - f->start + 2, .dim = {1}};
    memcpy(merged.dim + 1, in.dim + f->start, sizeof *in.dim * (size_t)(f->end - f->start + 1));
    for (int i = 0, j = 0; i < out.rank; i++, j++) {
        out.dim[i] = i == f->start ? shape_sample_elements(&merged) : in.dim[j];
        j = i == f->start ? f->end : j;
    }
    infer_out(t, 0, out, true);
}

/* ---- padding ---- */

static bool pad_fits(Infer *t, const Shape *in, int axis)
{
    const PadAttrs *p = &t->n->attrs.pad;
    int64_t n = in->dim[axis + 2], lo = p->lo[axis], hi = p->hi[axis], most = lo > hi ? lo : hi;
    bool too_wide = (p->mode == PAD_REFLECT && most >= n) || (p->mode == PAD_CIRCULAR && most > n);
    if (!too_wide && n + lo + hi >= 1)
        return true;
    if (!too_wide) {
        diag_error(t->d, infer_arg(t, "padding"), "E0313",
                   "%s leaves nothing: %" PRId64 " + %" PRId64 " + %" PRId64 " = %" PRId64, infer_type(t), n, lo, hi,
                   n + lo + hi);
    } else if (p->mode == PAD_REFLECT) {
        diag_error(t->d, infer_arg(t, "padding"), "E0313",
                   "%s's reflecting padding %" PRId64 " must be less than the size %" PRId64 " it reflects", infer_type(t), most,
                   n);
        diag_torch(t->d,
                   "Argument #4: Padding size should be less than the corresponding input dimension, but got: padding (%" PRId64
                   ", %" PRId64 ") at dimension %d of input %s",
                   lo, hi, axis + 2, infer_sizes(t, in));
    } else {
        diag_error(t->d, infer_arg(t, "padding"), "E0313",
                   "%s's circular padding %" PRId64 " is more than the size %" PRId64 " it wraps around", infer_type(t), most, n);
        diag_torch(t->d, "Padding value causes wrapping around more than once.");
    }
    note_origin(t, t->n->in[0]);
    note_use(t);
    return false;
}

void shape_pad(Infer *t)
{
    const PadAttrs *p = &t->n->attrs.pad;
    Shape in = infer_in(t, 0);
    if (in.rank >= 0 && in.rank != p->nd + 2) {
        bad_rank(t, p->nd == 1 ? "a signal [C, L]" : "pictures [C, H, W]");
        in = shape_unknown();
    }
    Shape out = in;
    int bad = 0;
    int64_t least = strncmp(infer_type(t), "Conv", 4) == 0 ? 0 : -INT32_MAX; /* a padding layer may cut */
    for (int i = 0; i < p->nd && in.rank >= 0; i++) {
        int before = bad;
        require_size(t, "padding", p->lo[i], least, &bad);
        if (bad == before)
            require_size(t, "padding", p->hi[i], least, &bad);
        if (in.dim[i + 2] != UNKNOWN)
            out.dim[i + 2] = !bad && pad_fits(t, &in, i) ? in.dim[i + 2] + p->lo[i] + p->hi[i] : UNKNOWN;
    }
    infer_out(t, 0, out, true);
}
