/* Softmax and log-softmax along one axis, their gradients, and gated linear units.
 *
 * In: softmax, log_softmax, glu and .dx nodes. Out: MAP kernels whose value reduces over an axis of its own output.
 * Idea: y = exp(x - MAX[k] x) / SUM[k] exp(x - MAX[k] x): the reductions do not depend on k any more, so one row's are
 * computed once. */
#include "codegen/lower_impl.h"

/* Kernel over the dims of the result; *over: the mask of the softmax axis. */
static Point row_axes(Lower *lw, const Node *n, uint32_t *over)
{
    lower_kernel(lw, n, NULL);
    *over = 1u << n->attrs.axis.axis;
    return lower_axes(lw, n->out[0]);
}

void lower_softmax(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    uint32_t over;
    Point p = row_axes(lw, n, &over);
    ExprId x = lower_load(lw, n->in[0], &p), e = op1(lw, EX_EXP, e_sub(lw, x, e_max(lw, x, over)));
    ExprId y = e_div(lw, e, e_sum(lw, e, over));
    lower_emit(lw, &p, &y);
}

/* dy y -> y * (dy - SUM(dy * y)) */
void lower_softmax_dx(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    uint32_t over;
    Point p = row_axes(lw, n, &over);
    ExprId dy = lower_load(lw, n->in[0], &p), y = lower_load(lw, n->in[1], &p);
    ExprId dx = e_mul(lw, y, e_sub(lw, dy, e_sum(lw, e_mul(lw, dy, y), over)));
    lower_emit(lw, &p, &dx);
}

void lower_log_softmax(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    uint32_t over;
    Point p = row_axes(lw, n, &over);
    ExprId x = lower_load(lw, n->in[0], &p), off = e_sub(lw, x, e_max(lw, x, over));
    ExprId y = e_sub(lw, off, op1(lw, EX_LOG, e_sum(lw, op1(lw, EX_EXP, off), over)));
    lower_emit(lw, &p, &y);
}

/* dy y -> dy - exp(y) * SUM(dy) */
void lower_log_softmax_dx(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    uint32_t over;
    Point p = row_axes(lw, n, &over);
    ExprId dy = lower_load(lw, n->in[0], &p), y = lower_load(lw, n->in[1], &p);
    ExprId dx = e_sub(lw, dy, e_mul(lw, op1(lw, EX_EXP, y), e_sum(lw, dy, over)));
    lower_emit(lw, &p, &dx);
}

/* ---- glu: y = a * sigmoid(b), a and b the halves of an axis ---- */
void lower_glu(Lower *lw, const Node *n, Point *at)
{
    int axis = n->attrs.axis.axis;
    Point gate = *at;
    gate.dim[axis].offset += (int32_t)dims_of(lw, n->out[0])[axis];
    ExprId a = lower_load(lw, n->in[0], at);
    at->out[0] = e_mul(lw, a, op1(lw, EX_SIGMOID, lower_load(lw, n->in[0], &gate)));
}

/* dy x -> da = dy * s, db = dy * a * s * (1 - s), s = sigmoid(b): one box of dx each. */
void lower_glu_dx(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    int axis = n->attrs.axis.axis;
    int32_t half = (int32_t)dims_of(lw, n->in[0])[axis];
    for (int part = 0; part < 2; part++) {
        lower_kernel(lw, n, NULL);
        Point p = lower_axes(lw, n->in[0]), gate = p;
        gate.dim[axis].offset += half;
        ExprId dy = lower_load(lw, n->in[0], &p), s = op1(lw, EX_SIGMOID, lower_load(lw, n->in[1], &gate));
        ExprId dx = e_mul(lw, dy, s);
        if (part == 1)
            dx = e_mul(lw, e_mul(lw, dx, lower_load(lw, n->in[1], &p)), e_sub(lw, number(lw, 1), s));
        lower_emit(lw, part ? &gate : &p, &dx);
    }
}
