/* Ops that move values: padding, its gradient, concat, slice.
 *
 * In: pad, pad.dx, concat, slice. Out: copies through affine or table indices, as boxes where the result has parts.
 * Idea: padding maps an output position to one input position or none. Constant padding is affine and guarded; the other
 * modes are a table per dim. The gradient gathers: a table lists the outputs that came from each input position. */
#include "codegen/lower_impl.h"

/* Where output position i of a dim with `size` inputs and `lo` padding comes from; -1: nowhere. */
static int64_t pad_source(PadMode mode, int64_t i, int64_t lo, int64_t size)
{
    int64_t h = i - lo;
    switch (mode) {
    case PAD_REFLECT: h = h < 0 ? -h : h >= size ? 2 * (size - 1) - h : h; break;
    case PAD_REPLICATE: h = h < 0 ? 0 : h >= size ? size - 1 : h; break;
    case PAD_CIRCULAR: h = h < 0 ? h + size : h >= size ? h - size : h; break;
    default: break;
    }
    return h >= 0 && h < size ? h : -1;
}

static bool is_constant(const PadAttrs *a) { return a->mode == PAD_CONSTANT || a->mode == PAD_ZEROS; }

void lower_pad(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    const PadAttrs *a = &n->attrs.pad;
    const int64_t *xd = dims_of(lw, n->in[0]), *yd = dims_of(lw, n->out[0]);
    lower_kernel(lw, n, NULL);
    Point y = lower_axes(lw, n->out[0]), x = y;
    int lead = y.rank - a->nd;
    x.fill = a->mode == PAD_CONSTANT ? (float)a->value : 0;
    for (int d = 0; d < a->nd; d++) {
        Affine *f = &x.dim[lead + d];
        if (is_constant(a)) {
            f->offset = (int32_t)-a->lo[d];
            affine_guard_needed(lw->k, f, xd[lead + d]);
            continue;
        }
        int32_t *table = NEWN(lw->l->arena, int32_t, yd[lead + d]);
        for (int64_t i = 0; i < yd[lead + d]; i++)
            table[i] = (int32_t)pad_source(a->mode, i, a->lo[d], xd[lead + d]);
        *f = affine_none();
        f->table = table;
        f->table_axis = (int8_t)(lead + d);
    }
    ExprId v = lower_load(lw, n->in[0], &x);
    lower_emit(lw, &y, &v);
}

/* Outputs that came from input position h: table[h*M + j], -1 where there are fewer than M. */
static Affine padded_from(Lower *lw, const PadAttrs *a, int d, int axis, int64_t size, int64_t padded, int *tap)
{
    int64_t *count = NEWN(lw->l->arena, int64_t, size), most = 1;
    for (int64_t i = 0; i < padded; i++) {
        int64_t h = pad_source(a->mode, i, a->lo[d], size);
        if (h >= 0 && ++count[h] > most)
            most = count[h];
    }
    int32_t *table = NEWN(lw->l->arena, int32_t, size * most);
    for (int64_t i = 0; i < size * most; i++)
        table[i] = -1;
    for (int64_t i = padded - 1; i >= 0; i--) {
        int64_t h = pad_source(a->mode, i, a->lo[d], size);
        if (h >= 0)
            table[h * most + --count[h]] = (int32_t)i;
    }
    *tap = red(lw, name_tap(a->nd, d), most);
    Affine f = affine_none();
    affine_guard(&f, 0, (int32_t)padded);
    f.table = table;
    f.table_axis = (int8_t)axis;
    f.table_axis2 = (int8_t)*tap;
    f.table_stride = (int32_t)most;
    return f;
}

void lower_pad_dx(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    const PadAttrs *a = &n->attrs.pad;
    const int64_t *xd = dims_of(lw, n->out[0]), *yd = dims_of(lw, n->in[0]);
    lower_kernel(lw, n, NULL);
    Point dx = lower_axes(lw, n->out[0]), dy = dx;
    int lead = dx.rank - a->nd, tap;
    uint32_t taps = 0;
    for (int d = 0; d < a->nd; d++) {
        if (is_constant(a) || (a->lo[d] == 0 && yd[lead + d] == xd[lead + d])) {
            dy.dim[lead + d].offset = (int32_t)a->lo[d];
            affine_guard_needed(lw->k, &dy.dim[lead + d], yd[lead + d]);
        } else {
            dy.dim[lead + d] = padded_from(lw, a, d, lead + d, xd[lead + d], yd[lead + d], &tap);
            taps |= 1u << tap;
        }
    }
    ExprId v = lower_load(lw, n->in[0], &dy);
    v = taps ? e_sum(lw, v, taps) : v;
    lower_emit(lw, &dx, &v);
}

/* One kernel per part, each writing its box of the result. */
void lower_concat(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    int axis = n->attrs.axis.axis;
    int32_t start = 0;
    for (int i = 0; i < n->n_in; i++) {
        int64_t size = dims_of(lw, n->in[i])[axis];
        lower_kernel(lw, n, NULL);
        Point x = lower_axes(lw, n->in[i]), y = x;
        y.dim[axis].offset = start;
        ExprId v = lower_load(lw, n->in[i], &x);
        if (size > 0)
            lower_emit(lw, &y, &v);
        start += (int32_t)size;
    }
}

/* Part of one axis, from `start`. */
void lower_slice(Lower *lw, const Node *n, Point *at)
{
    Point x = *at;
    x.dim[n->attrs.slice.axis].offset += (int32_t)n->attrs.slice.start;
    at->out[0] = lower_load(lw, n->in[0], &x);
}
