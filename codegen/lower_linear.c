/* Linear layers, their gradients, and bias gradients.
 *
 * In: linear, linear.dx, linear.dw, sum.keep; any number of leading dims. Out: one kernel each.
 * Idea: linear[..., k] = SUM[c] x[..., c] * w[k, c]; the gradients contract over k or over the leading dims instead. */
#include "codegen/lower_impl.h"

/* Axes for the leading dims of v (all but the last); fills in p. */
static void leading_axes(Lower *lw, ValueId v, AxisKind kind, Point *p)
{
    const Value *x = val(lw, v);
    *p = point_none(x->shape.rank);
    for (int d = 0; d + 1 < x->shape.rank; d++) {
        bool batch = x->batched && d == 0;
        p->dim[d] = affine_of(kernel_axis(lw->k, kind, batch ? "n" : "l", x->shape.dim[d], batch), 1, 0);
    }
}

/* Elements of the leading dims per sample. */
static double rows_per_sample(const Value *v)
{
    double rows = 1;
    for (int d = v->batched ? 1 : 0; d + 1 < v->shape.rank; d++)
        rows *= (double)v->shape.dim[d];
    return rows;
}

static double linear_macs(const Value *rows, int64_t k, int64_t c)
{
    return rows_per_sample(rows) * (double)k * (double)c;
}

static Point weight_point(int k, int c)
{
    Point w = point_none(2);
    w.dim[0] = affine_of(k, 1, 0);
    w.dim[1] = affine_of(c, 1, 0);
    return w;
}

void lower_linear(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    const int64_t *wd = dims_of(lw, n->in[1]);
    Point x, y;
    lower_kernel(lw, n, NULL);
    leading_axes(lw, n->out[0], AXIS_PAR, &y);
    int k = par(lw, "k", wd[0]), c = red(lw, "c", wd[1]), last = y.rank - 1;
    x = y;
    y.dim[last] = affine_of(k, 1, 0);
    x.dim[last] = affine_of(c, 1, 0);
    Point w = weight_point(k, c);
    ExprId sum = e_sum(lw, e_mul(lw, lower_load(lw, n->in[0], &x), lower_load(lw, n->in[1], &w)), 1u << c);
    if (n->in[2])
        sum = e_add(lw, sum, lower_load_channel(lw, n->in[2], &y, last));
    lw->k->macs = linear_macs(val(lw, n->out[0]), wd[0], wd[1]);
    lower_emit(lw, &y, &sum);
}

void lower_linear_dx(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    const int64_t *wd = dims_of(lw, n->in[1]);
    Point dx, dy;
    lower_kernel(lw, n, NULL);
    leading_axes(lw, n->out[0], AXIS_PAR, &dx);
    int c = par(lw, "c", wd[1]), k = red(lw, "k", wd[0]), last = dx.rank - 1;
    dy = dx;
    dy.dim[last] = affine_of(k, 1, 0);
    dx.dim[last] = affine_of(c, 1, 0);
    Point w = weight_point(k, c);
    ExprId sum = e_sum(lw, e_mul(lw, lower_load(lw, n->in[0], &dy), lower_load(lw, n->in[1], &w)), 1u << k);
    lw->k->macs = linear_macs(val(lw, n->out[0]), wd[0], wd[1]);
    lower_emit(lw, &dx, &sum);
}

void lower_linear_dw(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    const int64_t *wd = dims_of(lw, n->out[0]);
    Point x, dy;
    lower_kernel(lw, n, NULL);
    int k = par(lw, "k", wd[0]), c = par(lw, "c", wd[1]);
    leading_axes(lw, n->in[0], AXIS_RED, &x);
    int last = x.rank - 1;
    dy = x;
    x.dim[last] = affine_of(c, 1, 0);
    dy.dim[last] = affine_of(k, 1, 0);
    Point w = weight_point(k, c);
    ExprId product = e_mul(lw, lower_load(lw, n->in[1], &dy), lower_load(lw, n->in[0], &x));
    ExprId sum = e_sum(lw, product, ((1u << lw->k->n_axes) - 1) & ~(1u << k) & ~(1u << c));
    lw->k->macs = linear_macs(val(lw, n->in[0]), wd[0], wd[1]);
    lower_emit(lw, &w, &sum);
}

/* y[k] = sum of x over every axis but one. */
void lower_sum_keep(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    const Value *x = val(lw, n->in[0]);
    int keep = n->attrs.axis.axis;
    lower_kernel(lw, n, NULL);
    Point p = lower_axes(lw, n->in[0]), y = point_none(1);
    for (int d = 0; d < x->shape.rank; d++)
        lw->k->axis[d].kind = d == keep ? AXIS_PAR : AXIS_RED;
    y.dim[0] = p.dim[keep];
    ExprId sum = e_sum(lw, lower_load(lw, n->in[0], &p), ((1u << x->shape.rank) - 1) & ~(1u << keep));
    lower_emit(lw, &y, &sum);
}
