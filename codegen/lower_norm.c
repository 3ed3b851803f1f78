/* Batch normalisation: statistics, normalising, the gradient, running statistics; the batch counter.
 *
 * In: x[n, c, positions...]. Out: bn.stats and bn.sums are REDUCE kernels over n and the positions; the rest is pointwise
 * with per-channel loads, so it joins its neighbours' kernels.
 * Idea: what depends on the channel alone (gamma / sqrt(var + eps)) is an expression over the channel axis; schedulers
 * compute it outside the inner loop. m, the values per channel, counts the real samples (EX_N). */
#include "codegen/lower_impl.h"

/* 1 / sqrt(var + eps) */
static ExprId inverse_deviation(Lower *lw, ExprId var, double eps)
{
    return e_div(lw, number(lw, 1), op1(lw, EX_SQRT, e_add(lw, var, number(lw, eps))));
}

/* x gamma beta mean var -> (x - mean) * (gamma / sqrt(var + eps)) + beta */
void lower_batchnorm(Lower *lw, const Node *n, Point *at)
{
    ExprId x = lower_load(lw, n->in[0], at);
    ExprId gamma = lower_load_channel(lw, n->in[1], at, 1), beta = lower_load_channel(lw, n->in[2], at, 1);
    ExprId mean = lower_load_channel(lw, n->in[3], at, 1), var = lower_load_channel(lw, n->in[4], at, 1);
    ExprId scale = inverse_deviation(lw, var, n->attrs.norm.eps);
    if (gamma)
        scale = e_mul(lw, gamma, scale);
    ExprId y = e_mul(lw, e_sub(lw, x, mean), scale);
    at->out[0] = beta ? e_add(lw, y, beta) : y;
}

/* Axes over x with all but the channel reduced; returns the mask of the reduced ones. c: the channel's point. */
static uint32_t channel_sums(Lower *lw, ValueId x, Point *p, Point *c)
{
    *p = lower_axes(lw, x);
    *c = point_none(1);
    c->dim[0] = p->dim[1];
    for (int d = 0; d < p->rank; d++)
        lw->k->axis[d].kind = d == 1 ? AXIS_PAR : AXIS_RED;
    return ((1u << p->rank) - 1) & ~2u;
}

/* mean = SUM x / m; var = SUM (x - mean)^2 / m */
void lower_bn_stats(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    Point p, c;
    lower_kernel(lw, n, NULL);
    uint32_t over = channel_sums(lw, n->in[0], &p, &c);
    ExprId x = lower_load(lw, n->in[0], &p), m = e_count(lw, val(lw, n->in[0]), 1);
    ExprId mean = e_div(lw, e_sum(lw, x, over), m), off = e_sub(lw, x, mean);
    ExprId out[2] = {mean, e_div(lw, e_sum(lw, e_mul(lw, off, off), over), m)};
    lower_emit(lw, &c, out);
}

/* dy x mean var -> dbeta = SUM dy, dgamma = SUM(dy * (x - mean)) / sqrt(var + eps) */
void lower_bn_sums(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    Point p, c;
    lower_kernel(lw, n, NULL);
    uint32_t over = channel_sums(lw, n->in[0], &p, &c);
    ExprId dy = lower_load(lw, n->in[0], &p), x = lower_load(lw, n->in[1], &p);
    ExprId mean = lower_load(lw, n->in[2], &c), var = lower_load(lw, n->in[3], &c);
    ExprId dots = e_sum(lw, e_mul(lw, dy, e_sub(lw, x, mean)), over);
    ExprId out[2] = {e_sum(lw, dy, over), e_mul(lw, dots, inverse_deviation(lw, var, n->attrs.norm.eps))};
    lower_emit(lw, &c, out);
}

/* dy x gamma mean var dbeta dgamma -> gamma/deviation * (dy - dbeta/m - xhat * dgamma/m) */
void lower_bn_dx(Lower *lw, const Node *n, Point *at)
{
    ExprId dy = lower_load(lw, n->in[0], at), x = lower_load(lw, n->in[1], at), gamma = lower_load_channel(lw, n->in[2], at, 1);
    ExprId mean = lower_load_channel(lw, n->in[3], at, 1), var = lower_load_channel(lw, n->in[4], at, 1);
    ExprId dbeta = lower_load_channel(lw, n->in[5], at, 1), dgamma = lower_load_channel(lw, n->in[6], at, 1);
    ExprId m = e_count(lw, val(lw, n->in[1]), 1), inverse = inverse_deviation(lw, var, n->attrs.norm.eps);
    ExprId from_var = e_mul(lw, e_sub(lw, x, mean), e_mul(lw, inverse, e_div(lw, dgamma, m)));
    ExprId inner = e_sub(lw, e_sub(lw, dy, e_div(lw, dbeta, m)), from_var);
    at->out[0] = e_mul(lw, gamma ? e_mul(lw, gamma, inverse) : inverse, inner);
}

/* running stat (count) x(shape) -> (1-f)*running + f*stat; a variance is made unbiased: times m/(m-1) */
void lower_bn_running(Lower *lw, const Node *n, Point *at)
{
    const NormAttrs *a = &n->attrs.norm;
    ExprId one = number(lw, 1), stat = lower_load(lw, n->in[1], at), old = lower_load(lw, n->in[0], at), f, rest;
    if (a->track) {
        ExprId m = e_count(lw, val(lw, n->in[3]), 1);
        stat = e_mul(lw, stat, e_div(lw, m, e_sub(lw, m, one)));
    }
    if (a->momentum < 0) {
        f = e_div(lw, one, e_add(lw, op1(lw, EX_TOFLOAT, lower_scalar(lw, n->in[2])), one));
        rest = e_sub(lw, one, f);
    } else {
        f = number(lw, a->momentum);
        rest = number(lw, 1 - a->momentum);
    }
    at->out[0] = e_add(lw, e_mul(lw, rest, old), e_mul(lw, f, stat));
}

/* The count is an i64; its low 32 bits count, which lasts for two thousand million batches. */
void lower_count(Lower *lw, const Node *n, Point *at)
{
    at->out[0] = op2(lw, EX_IADD, lower_load(lw, n->in[0], at), integer(lw, 1));
}
