/* Pooling with windows and with adaptive bins, and the gradients.
 *
 * In: x[n,c,...]; for max gradients the saved indices. Out: y and indices, or dx.
 * Idea: a window is a box of input positions; windowed and adaptive pooling differ only in how the box of an output position
 * is found, so both share the four loops below (max, average, and the two gradients). */
#include "ir/ref/ops.h"

#include <math.h>

/* Input positions lo[d], lo[d] + step[d], ... < hi[d], all inside the plane; an average is divided by `divisor`. */
typedef struct {
    int64_t lo[3], hi[3], step[3];
    double divisor;
} Box;
typedef struct {
    PlaneView x, y;
    const PoolAttrs *pool;
} Pool;

/* The window of output position p. */
static Box window_box(const Pool *v, const int64_t *p)
{
    const PoolAttrs *a = v->pool;
    Three kernel = three(a->kernel, a->nd, 1), stride = three(a->stride, a->nd, 1), pad = three(a->pad, a->nd, 0);
    Three dilation = three(a->dilation, a->nd, 1);
    Box b = {.divisor = 1};
    int64_t padded = 1, inside = 1;
    for (int d = 0; d < 3; d++) {
        int64_t start = p[d] * stride.v[d] - pad.v[d], step = max_i64(dilation.v[d], 1);
        int64_t end = start + (kernel.v[d] - 1) * step + 1;
        padded *= min_i64(end, v->x.size[d] + pad.v[d]) - start; /* average pools have dilation 1 */
        b.lo[d] = start < 0 ? start + (-start + step - 1) / step * step : start;
        b.hi[d] = min_i64(end, v->x.size[d]);
        b.step[d] = step;
        inside *= b.hi[d] - b.lo[d];
    }
    b.divisor = (double)(a->divisor_override ? a->divisor_override : a->count_include_pad ? padded : inside);
    return b;
}

/* Bin p of each axis: [floor(p*in/out), ceil((p+1)*in/out)). */
static Box adaptive_box(const Pool *v, const int64_t *p)
{
    Box b = {.divisor = 1};
    for (int d = 0; d < 3; d++) {
        int64_t in = v->x.size[d], out = v->y.size[d];
        b.lo[d] = p[d] * in / out;
        b.hi[d] = ((p[d] + 1) * in + out - 1) / out;
        b.step[d] = 1;
        b.divisor *= (double)(b.hi[d] - b.lo[d]);
    }
    return b;
}

static Box box_of(const Pool *v, int64_t y)
{
    const int64_t *s = v->y.size;
    int64_t p[3] = {y / (s[1] * s[2]), y / s[2] % s[1], y % s[2]};
    return v->pool ? window_box(v, p) : adaptive_box(v, p);
}

static Pool pool_of(const RefCall *c, const Shape *x, const Shape *y)
{
    bool window = op_attr_kind(c->node->op) == ATTR_POOL;
    int nd = window ? c->node->attrs.pool.nd : c->node->attrs.adaptive.nd;
    return (Pool){plane_view(x, nd), plane_view(y, nd), window ? &c->node->attrs.pool : NULL};
}

/* Every input position of box b, as a flat index i in its plane of sizes s. */
#define FOR_BOX(b, s, i)                                                                                                         \
    for (int64_t h0_ = (b).lo[0]; h0_ < (b).hi[0]; h0_ += (b).step[0])                                                           \
        for (int64_t h1_ = (b).lo[1]; h1_ < (b).hi[1]; h1_ += (b).step[1])                                                       \
            for (int64_t h2_ = (b).lo[2], i = (h0_ * (s)[1] + h1_) * (s)[2] + h2_; h2_ < (b).hi[2];                              \
                 h2_ += (b).step[2], i += (b).step[2])

/* The first of equal values in row-major order; NaN wins. */
static void max_forward(const RefCall *c)
{
    const RefTensor *x = c->in[0];
    Pool v = pool_of(c, &x->shape, &c->out[0].shape);
    for (int64_t plane = 0; plane < v.y.planes; plane++)
        for (int64_t y = 0; y < v.y.elements; y++) {
            Box b = box_of(&v, y);
            const double *in = x->data + plane * v.x.elements;
            double best = -INFINITY;
            int64_t at = -1;
            FOR_BOX(b, v.x.size, i)
            {
                if (at < 0 || in[i] > best || isnan(in[i])) {
                    best = in[i];
                    at = i;
                }
            }
            c->out[0].data[plane * v.y.elements + y] = best;
            if (c->out[1].data)
                c->out[1].data[plane * v.y.elements + y] = (double)at;
        }
}

static void max_gradient(const RefCall *c)
{
    const RefTensor *dy = c->in[0], *index = c->in[1];
    Pool v = pool_of(c, &c->out[0].shape, &dy->shape);
    for (int64_t plane = 0; plane < v.y.planes; plane++)
        for (int64_t y = 0; y < v.y.elements; y++) {
            int64_t from = (int64_t)index->data[plane * v.y.elements + y];
            if (from >= 0) /* a widely dilated window may lie in the padding altogether: -inf from nowhere */
                c->out[0].data[plane * v.x.elements + from] += dy->data[plane * v.y.elements + y];
        }
}

static void average_forward(const RefCall *c)
{
    const RefTensor *x = c->in[0];
    Pool v = pool_of(c, &x->shape, &c->out[0].shape);
    for (int64_t plane = 0; plane < v.y.planes; plane++)
        for (int64_t y = 0; y < v.y.elements; y++) {
            Box b = box_of(&v, y);
            double sum = 0;
            FOR_BOX(b, v.x.size, i)
            sum += x->data[plane * v.x.elements + i];
            c->out[0].data[plane * v.y.elements + y] = sum / b.divisor;
        }
}

static void average_gradient(const RefCall *c)
{
    const RefTensor *dy = c->in[0];
    Pool v = pool_of(c, &c->out[0].shape, &dy->shape);
    for (int64_t plane = 0; plane < v.y.planes; plane++)
        for (int64_t y = 0; y < v.y.elements; y++) {
            Box b = box_of(&v, y);
            FOR_BOX(b, v.x.size, i)
            c->out[0].data[plane * v.x.elements + i] += dy->data[plane * v.y.elements + y] / b.divisor;
        }
}

void ref_maxpool(const RefCall *c) { max_forward(c); }
void ref_maxpool_dx(const RefCall *c) { max_gradient(c); }
void ref_avgpool(const RefCall *c) { average_forward(c); }
void ref_avgpool_dx(const RefCall *c) { average_gradient(c); }
void ref_adaptive_max(const RefCall *c) { max_forward(c); }
void ref_adaptive_max_dx(const RefCall *c) { max_gradient(c); }
void ref_adaptive_avg(const RefCall *c) { average_forward(c); }
void ref_adaptive_avg_dx(const RefCall *c) { average_gradient(c); }
