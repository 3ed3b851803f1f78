/* Batch normalisation in inference and training, its gradient, running statistics, and folding into weights.
 *
 * In: x[n, c, ...] with the channel on axis 1, one number per channel of gamma, beta, mean and var. Out: as in ir/ops.def.
 * Idea: axis_view gives (sample, channel, position); all sums run over samples and positions, m of them. */
#include "ir/ref/ops.h"

#include <math.h>

static double per_channel(const RefTensor *t, int64_t c, double if_absent) { return t ? t->data[c] : if_absent; }

/* Mean and biased variance of channel k: mean first, then the mean of squared differences. */
static void batch_statistics(const RefTensor *x, int64_t k, double *mean, double *var)
{
    AxisView v = axis_view(&x->shape, 1);
    double m = (double)(v.outer * v.inner), sum = 0, squares = 0;
    for (int64_t o = 0; o < v.outer; o++)
        for (int64_t i = 0; i < v.inner; i++)
            sum += x->data[(o * v.size + k) * v.inner + i];
    *mean = sum / m;
    for (int64_t o = 0; o < v.outer; o++)
        for (int64_t i = 0; i < v.inner; i++)
            squares += square(x->data[(o * v.size + k) * v.inner + i] - *mean);
    *var = squares / m;
}

/* batchnorm and bn.train: x gamma beta mean var; mean and var of the batch where they are absent (batchnorm as written). */
void ref_batchnorm(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, 1);
    double eps = c->node->attrs.norm.eps;
    for (int64_t k = 0; k < v.size; k++) {
        double mean, var;
        batch_statistics(c->in[0], k, &mean, &var);
        mean = per_channel(c->in[3], k, mean);
        var = per_channel(c->in[4], k, var);
        for (int64_t o = 0; o < v.outer; o++)
            for (int64_t i = 0; i < v.inner; i++) {
                int64_t at = (o * v.size + k) * v.inner + i;
                double xhat = (c->in[0]->data[at] - mean) / sqrt(var + eps);
                c->out[0].data[at] = xhat * per_channel(c->in[1], k, 1) + per_channel(c->in[2], k, 0);
            }
    }
}

void ref_bn_stats(const RefCall *c)
{
    for (int64_t k = 0; k < c->in[0]->shape.dim[1]; k++)
        batch_statistics(c->in[0], k, &c->out[0].data[k], &c->out[1].data[k]);
}

/* dy x mean var -> dbeta, dgamma. */
void ref_bn_sums(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, 1);
    double eps = c->node->attrs.norm.eps;
    for (int64_t o = 0; o < v.outer; o++)
        for (int64_t k = 0; k < v.size; k++)
            for (int64_t i = 0; i < v.inner; i++) {
                int64_t at = (o * v.size + k) * v.inner + i;
                double xhat = (c->in[1]->data[at] - c->in[2]->data[k]) / sqrt(c->in[3]->data[k] + eps);
                c->out[0].data[k] += c->in[0]->data[at];
                c->out[1].data[k] += c->in[0]->data[at] * xhat;
            }
}

/* dy x gamma mean var dbeta dgamma -> dx. */
void ref_bn_dx(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, 1);
    double eps = c->node->attrs.norm.eps, m = (double)(v.outer * v.inner);
    for (int64_t o = 0; o < v.outer; o++)
        for (int64_t k = 0; k < v.size; k++)
            for (int64_t i = 0; i < v.inner; i++) {
                int64_t at = (o * v.size + k) * v.inner + i;
                double deviation = sqrt(c->in[4]->data[k] + eps), xhat = (c->in[1]->data[at] - c->in[3]->data[k]) / deviation;
                double inner = c->in[0]->data[at] - c->in[5]->data[k] / m - xhat * c->in[6]->data[k] / m;
                c->out[0].data[at] = per_channel(c->in[2], k, 1) / deviation * inner;
            }
}

/* running stat count x -> running'. */
void ref_bn_running(const RefCall *c)
{
    const NormAttrs *a = &c->node->attrs.norm;
    AxisView v = axis_view(&c->in[3]->shape, 1);
    double m = (double)(v.outer * v.inner), unbias = a->track ? m / (m - 1) : 1;
    double f = a->momentum < 0 ? 1 / (c->in[2]->data[0] + 1) : a->momentum;
    for (int64_t k = 0; k < elements(c->in[0]); k++)
        c->out[0].data[k] = (1 - f) * c->in[0]->data[k] + f * c->in[1]->data[k] * unbias;
}

void ref_count(const RefCall *c) { c->out[0].data[0] = c->in[0]->data[0] + 1; }

/* w gamma var -> w * gamma / sqrt(var + eps), per first axis. */
void ref_fold_weight(const RefCall *c)
{
    AxisView v = axis_view(&c->out[0].shape, 0);
    for (int64_t k = 0; k < v.size; k++)
        for (int64_t i = 0; i < v.inner; i++) {
            double w = c->in[0] ? c->in[0]->data[k * v.inner + i] : 1;
            c->out[0].data[k * v.inner + i] = w * per_channel(c->in[1], k, 1) / sqrt(c->in[2]->data[k] + c->node->attrs.norm.eps);
        }
}

/* b gamma beta mean var. */
void ref_fold_bias(const RefCall *c)
{
    for (int64_t k = 0; k < elements(&c->out[0]); k++) {
        double scale = per_channel(c->in[1], k, 1) / sqrt(c->in[4]->data[k] + c->node->attrs.norm.eps);
        c->out[0].data[k] = per_channel(c->in[2], k, 0) + (per_channel(c->in[0], k, 0) - c->in[3]->data[k]) * scale;
    }
}

void ref_affine(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, 1);
    for (int64_t o = 0; o < v.outer; o++)
        for (int64_t k = 0; k < v.size; k++)
            for (int64_t i = 0; i < v.inner; i++) {
                int64_t at = (o * v.size + k) * v.inner + i;
                c->out[0].data[at] = c->in[0]->data[at] * c->in[1]->data[k] + c->in[2]->data[k];
            }
}
