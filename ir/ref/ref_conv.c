/* Convolution and linear layers, and their gradients.
 *
 * In: x[n,c,...], w[k,c/g,...], dy. Out: y, dx, dw.
 * Idea: forward, data gradient and weight gradient visit the same (output, weight, input) triples
 *     (n, k, c, r, p):   y[n,k,p] += w[k,c,r] * x[n,c, p*stride - pad + r*dilation]
 * so there is one loop nest, which hands out rows of output positions and asks what to do with them. */
#include "ir/ref/ops.h"

/* `count` output positions of one row: y[q] and x[q * step] meet at one weight. */
typedef struct {
    double *y, *x, *w;
    int64_t count, step;
} Row;
typedef void (*RowFn)(const Row *r);

static void row_forward(const Row *r)
{
    for (int64_t q = 0; q < r->count; q++)
        r->y[q] += *r->w * r->x[q * r->step];
}

static void row_data_gradient(const Row *r)
{
    for (int64_t q = 0; q < r->count; q++)
        r->x[q * r->step] += *r->w * r->y[q];
}

static void row_weight_gradient(const Row *r)
{
    double sum = 0;
    for (int64_t q = 0; q < r->count; q++)
        sum += r->y[q] * r->x[q * r->step];
    *r->w += sum;
}

typedef struct {
    Three stride, dilation, pad, kernel;
    PlaneView x, y; /* per (sample, channel) */
    RowFn fn;
} Conv;

/* One input plane, one output plane, one filter plane. */
static void visit_planes(const Conv *v, double *x, double *w, double *y)
{
    const int64_t *R = v->kernel.v, *S = v->stride.v, *D = v->dilation.v, *P = v->pad.v, *in = v->x.size, *out = v->y.size;
    for (int64_t r0 = 0; r0 < R[0]; r0++)
        for (int64_t r1 = 0; r1 < R[1]; r1++)
            for (int64_t r2 = 0; r2 < R[2]; r2++)
                for (int64_t p0 = 0; p0 < out[0]; p0++)
                    for (int64_t p1 = 0; p1 < out[1]; p1++) {
                        int64_t h0 = p0 * S[0] - P[0] + r0 * D[0], h1 = p1 * S[1] - P[1] + r1 * D[1];
                        int64_t first = r2 * D[2] - P[2]; /* input column of q = 0 */
                        if (h0 < 0 || h0 >= in[0] || h1 < 0 || h1 >= in[1] || first >= in[2])
                            continue;
                        int64_t lo = first < 0 ? (-first + S[2] - 1) / S[2] : 0;
                        int64_t hi = min_i64(out[2], (in[2] - 1 - first) / S[2] + 1);
                        if (lo >= hi)
                            continue;
                        Row row = {.count = hi - lo, .step = S[2]};
                        row.y = y + (p0 * out[1] + p1) * out[2] + lo;
                        row.x = x + (h0 * in[1] + h1) * in[2] + first + lo * S[2];
                        row.w = w + (r0 * R[1] + r1) * R[2] + r2;
                        v->fn(&row);
                    }
}

static void visit(const ConvAttrs *a, const RefTensor *x, const RefTensor *w, const RefTensor *y, RowFn fn)
{
    int nd = a->nd;
    Conv v = {.stride = three(a->stride, nd, 1),
              .dilation = three(a->dilation, nd, 1),
              .pad = three(a->pad_lo, nd, 0),
              .kernel = three(w->shape.dim + 2, nd, 1),
              .x = plane_view(&x->shape, nd),
              .y = plane_view(&y->shape, nd),
              .fn = fn};
    int64_t n_samples = x->shape.dim[0], channels = x->shape.dim[1], filters = w->shape.dim[0];
    int64_t cg = w->shape.dim[1], kg = filters / a->groups, taps = v.kernel.v[0] * v.kernel.v[1] * v.kernel.v[2];
    for (int64_t n = 0; n < n_samples; n++)
        for (int64_t k = 0; k < filters; k++)
            for (int64_t c = 0; c < cg; c++) {
                int64_t channel = k / kg * cg + c;
                visit_planes(&v, x->data + (n * channels + channel) * v.x.elements, w->data + (k * cg + c) * taps,
                             y->data + (n * filters + k) * v.y.elements);
            }
}

static void add_bias(const RefTensor *b, RefTensor *y, int axis)
{
    AxisView v = axis_view(&y->shape, axis);
    for (int64_t o = 0; b && o < v.outer; o++)
        for (int64_t k = 0; k < v.size; k++)
            for (int64_t i = 0; i < v.inner; i++)
                y->data[(o * v.size + k) * v.inner + i] += b->data[k];
}

void ref_conv(const RefCall *c)
{
    visit(&c->node->attrs.conv, c->in[0], c->in[1], &c->out[0], row_forward);
    add_bias(c->in[2], &c->out[0], 1);
}

void ref_conv_dx(const RefCall *c) { visit(&c->node->attrs.conv, &c->out[0], c->in[1], c->in[0], row_data_gradient); }

void ref_conv_dw(const RefCall *c) { visit(&c->node->attrs.conv, c->in[0], &c->out[0], c->in[1], row_weight_gradient); }

/* y[row, k] = sum over c of x[row, c] * w[k, c] + b[k]; a row is any leading position. */
void ref_linear(const RefCall *c)
{
    const RefTensor *x = c->in[0], *w = c->in[1];
    int64_t outs = w->shape.dim[0], ins = w->shape.dim[1], rows = elements(&c->out[0]) / max_i64(outs, 1);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < outs; k++) {
            double sum = 0;
            for (int64_t i = 0; i < ins; i++)
                sum += x->data[row * ins + i] * w->data[k * ins + i];
            c->out[0].data[row * outs + k] = sum;
        }
    add_bias(c->in[2], &c->out[0], c->out[0].shape.rank - 1);
}

void ref_linear_dx(const RefCall *c)
{
    const RefTensor *dy = c->in[0], *w = c->in[1];
    int64_t outs = w->shape.dim[0], ins = w->shape.dim[1], rows = elements(dy) / max_i64(outs, 1);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < outs; k++)
            for (int64_t i = 0; i < ins; i++)
                c->out[0].data[row * ins + i] += dy->data[row * outs + k] * w->data[k * ins + i];
}

void ref_linear_dw(const RefCall *c)
{
    const RefTensor *x = c->in[0], *dy = c->in[1];
    int64_t outs = c->out[0].shape.dim[0], ins = c->out[0].shape.dim[1], rows = elements(dy) / max_i64(outs, 1);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < outs; k++)
            for (int64_t i = 0; i < ins; i++)
                c->out[0].data[k * ins + i] += dy->data[row * outs + k] * x->data[row * ins + i];
}
