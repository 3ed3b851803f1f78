/* Losses: the value, its gradient at the logits, and how many answers were right.
 *
 * In: logits[n, k, positions...] and labels, or x and targets. Out: loss, gradient, correct.
 * Idea: a row is one (sample, position): a line of k logits. Rows with a negative label take no part. */
#include "ir/ref/ops.h"

#include <math.h>

/* The first maximum of a line. */
static int64_t arg_max(const double *line, int64_t size, int64_t step)
{
    int64_t best = 0;
    for (int64_t i = 1; i < size; i++)
        if (line[i * step] > line[best * step])
            best = i;
    return best;
}

/* log(sum(exp(line))), without overflow. */
static double log_total(const double *line, int64_t size, int64_t step)
{
    double most = line[arg_max(line, size, step) * step], sum = 0;
    for (int64_t i = 0; i < size; i++)
        sum += exp(line[i * step] - most);
    return most + log(sum);
}

/* loss of a row = sum over classes of weight * -log p, with weight = e/k everywhere and 1-e more at the label. */
void ref_cross_entropy(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, 1);
    const double *labels = c->in[1]->data;
    double e = c->node->attrs.loss.smoothing, loss = 0, correct = 0;
    int64_t rows = v.outer * v.inner, counted = 0;
    for (int64_t row = 0; row < rows; row++)
        counted += labels[row] >= 0;
    double divisor = c->node->attrs.loss.reduction == 1 ? 1 : (double)counted;
    for (int64_t row = 0; row < rows; row++) {
        int64_t label = (int64_t)labels[row], base = row / v.inner * v.size * v.inner + row % v.inner;
        if (label < 0)
            continue;
        const double *x = c->in[0]->data + base;
        double total = log_total(x, v.size, v.inner);
        for (int64_t k = 0; k < v.size; k++) {
            double weight = e / (double)v.size + (k == label ? 1 - e : 0);
            loss += weight * (total - x[k * v.inner]);
            c->out[1].data[base + k * v.inner] = (exp(x[k * v.inner] - total) - weight) / divisor;
        }
        correct += arg_max(x, v.size, v.inner) == label;
    }
    c->out[0].data[0] = loss / divisor;
    c->out[2].data[0] = correct;
}

/* Labels count as one-hot targets when there is one per line of x. */
void ref_mse(const RefCall *c)
{
    const RefTensor *x = c->in[0], *target = c->in[1];
    bool one_hot = target->shape.rank < x->shape.rank;
    AxisView v = one_hot ? axis_view(&x->shape, 1) : (AxisView){1, 1, elements(x)};
    double divisor = c->node->attrs.loss.reduction == 1 ? 1 : (double)elements(x), loss = 0, correct = 0;
    for (int64_t i = 0; i < elements(x); i++) {
        int64_t row = i / (v.size * v.inner) * v.inner + i % v.inner, k = i / v.inner % v.size;
        double t = one_hot ? (double)((int64_t)target->data[row] == k) : target->data[i];
        loss += square(x->data[i] - t);
        c->out[1].data[i] = 2 * (x->data[i] - t) / divisor;
    }
    for (int64_t row = 0; one_hot && row < v.outer * v.inner; row++) {
        const double *line = x->data + row / v.inner * v.size * v.inner + row % v.inner;
        correct += arg_max(line, v.size, v.inner) == (int64_t)target->data[row];
    }
    c->out[0].data[0] = loss / divisor;
    c->out[2].data[0] = correct;
}
