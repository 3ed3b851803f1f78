/* Softmax, log-softmax and GLU along one axis, and their gradients.
 *
 * In: x or y, dy. Out: values or dx.
 * Idea: axis_view gives (outer, along, inner); a line is what one (outer, inner) sees along the axis. */
#include "ir/ref/ops.h"

#include <math.h>

/* log of the sum of exp along a line, without overflow. */
static double log_sum_exp(const double *line, int64_t size, int64_t step)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < size; i++)
        most = line[i * step] > most || isnan(line[i * step]) ? line[i * step] : most;
    for (int64_t i = 0; i < size; i++)
        sum += exp(line[i * step] - most);
    return most + log(sum);
}

#define FOR_LINES(v, base)                                                                                                       \
    for (int64_t o_ = 0; o_ < (v).outer; o_++)                                                                                   \
        for (int64_t j_ = 0, base = o_ * (v).size * (v).inner; j_ < (v).inner; j_++, base++)

void ref_softmax(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, c->node->attrs.axis.axis);
    FOR_LINES(v, base)
    {
        const double *x = c->in[0]->data + base;
        double most = -INFINITY, sum = 0;
        for (int64_t i = 0; i < v.size; i++)
            most = x[i * v.inner] > most || isnan(x[i * v.inner]) ? x[i * v.inner] : most;
        for (int64_t i = 0; i < v.size; i++)
            sum += exp(x[i * v.inner] - most);
        for (int64_t i = 0; i < v.size; i++)
            c->out[0].data[base + i * v.inner] = exp(x[i * v.inner] - most) / sum;
    }
}

void ref_softmax_dx(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, c->node->attrs.axis.axis);
    FOR_LINES(v, base)
    {
        const double *dy = c->in[0]->data + base, *y = c->in[1]->data + base;
        double sum = 0;
        for (int64_t i = 0; i < v.size; i++)
            sum += dy[i * v.inner] * y[i * v.inner];
        for (int64_t i = 0; i < v.size; i++)
            c->out[0].data[base + i * v.inner] = y[i * v.inner] * (dy[i * v.inner] - sum);
    }
}

void ref_log_softmax(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, c->node->attrs.axis.axis);
    FOR_LINES(v, base)
    {
        const double *x = c->in[0]->data + base;
        double total = log_sum_exp(x, v.size, v.inner);
        for (int64_t i = 0; i < v.size; i++)
            c->out[0].data[base + i * v.inner] = x[i * v.inner] - total;
    }
}

void ref_log_softmax_dx(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, c->node->attrs.axis.axis);
    FOR_LINES(v, base)
    {
        const double *dy = c->in[0]->data + base, *y = c->in[1]->data + base;
        double sum = 0;
        for (int64_t i = 0; i < v.size; i++)
            sum += dy[i * v.inner];
        for (int64_t i = 0; i < v.size; i++)
            c->out[0].data[base + i * v.inner] = dy[i * v.inner] - exp(y[i * v.inner]) * sum;
    }
}

/* y = a * sigmoid(b): x's axis holds a, then b. */
void ref_glu(const RefCall *c)
{
    AxisView x = axis_view(&c->in[0]->shape, c->node->attrs.axis.axis);
    int64_t half = x.size / 2 * x.inner;
    for (int64_t o = 0; o < x.outer; o++)
        for (int64_t i = 0; i < half; i++) {
            const double *a = c->in[0]->data + o * 2 * half + i;
            c->out[0].data[o * half + i] = a[0] * sigmoid(a[half]);
        }
}

void ref_glu_dx(const RefCall *c)
{
    AxisView x = axis_view(&c->in[1]->shape, c->node->attrs.axis.axis);
    int64_t half = x.size / 2 * x.inner;
    for (int64_t o = 0; o < x.outer; o++)
        for (int64_t i = 0; i < half; i++) {
            const double *a = c->in[1]->data + o * 2 * half + i;
            double *dx = c->out[0].data + o * 2 * half + i, dy = c->in[0]->data[o * half + i], s = sigmoid(a[half]);
            dx[0] = dy * s;
            dx[half] = dy * a[0] * s * (1 - s);
        }
}
