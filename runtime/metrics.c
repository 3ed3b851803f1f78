/* Metrics of a data set.
 * In: outputs and labels, batch by batch. Out: mean loss, accuracy, confusion matrix, samples with the largest loss.
 * Invariant: sums are in double and in the samples' order, so that batch sizes and threads do not change them.
 * Idea: everything but the loss follows from the confusion matrix. */
#include "runtime/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

MetricsLoss metrics_loss_of(const CnncTrain *t)
{
    if (t->loss == 0)
        return METRICS_CROSS_ENTROPY;
    return t->data == CNNC_DATA_NPY ? METRICS_MSE : METRICS_MSE_CLASSES;
}

bool metrics_init(Metrics *m, int32_t loss, double smoothing, int32_t classes, int32_t max_top, RtError *e)
{
    *m = (Metrics){.loss = loss, .smoothing = smoothing, .classes = classes, .max_top = max_top};
    size_t cells = loss != METRICS_MSE ? (size_t)classes * (size_t)classes : 0;
    m->confusion = cells ? calloc(cells, sizeof *m->confusion) : NULL;
    m->top = max_top > 0 ? calloc((size_t)max_top, sizeof *m->top) : NULL;
    if ((cells && !m->confusion) || (max_top > 0 && !m->top)) {
        metrics_free(m);
        return rt_error_memory(e, cells * sizeof *m->confusion);
    }
    return true;
}

void metrics_free(Metrics *m)
{
    free(m->confusion);
    free(m->top);
    m->confusion = NULL;
    m->top = NULL;
}

static void keep_top(Metrics *m, TopLoss item)
{
    int32_t at = m->n_top;
    if (at == m->max_top) {
        if (at == 0 || !(item.loss > m->top[at - 1].loss))
            return;
        at--;
    } else {
        m->n_top++;
    }
    for (; at > 0 && item.loss > m->top[at - 1].loss; at--)
        m->top[at] = m->top[at - 1];
    m->top[at] = item;
}

/* (1 - s) * -log p[label] + s * mean of -log p, with log p = x - max - log sum exp(x - max) */
static double cross_entropy(const Metrics *m, const float *x, int32_t label, int32_t *best, double *probability)
{
    int32_t top = 0;
    for (int32_t c = 1; c < m->classes; c++)
        if (x[c] > x[top])
            top = c;
    double sum = 0, mean = 0;
    for (int32_t c = 0; c < m->classes; c++) {
        sum += exp((double)x[c] - (double)x[top]);
        mean += (double)x[c] / m->classes;
    }
    double log_sum = log(sum) + (double)x[top], nll = log_sum - (double)x[label];
    *best = top;
    *probability = exp(-nll);
    if (m->smoothing == 0)
        return nll;
    return (1 - m->smoothing) * nll + m->smoothing * (log_sum - mean);
}

static double squared_error(const float *x, const float *target, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)target[i];
        sum += d * d;
    }
    return sum / n;
}

/* Mean of (x - t)^2, t being 1 at the label and 0 elsewhere. */
static double one_hot_error(const Metrics *m, const float *x, int32_t label)
{
    double sum = 0;
    for (int32_t c = 0; c < m->classes; c++) {
        double d = (double)x[c] - (c == label ? 1.0 : 0.0);
        sum += d * d;
    }
    return sum / m->classes;
}

bool metrics_add(Metrics *m, const float *out, const void *labels, int64_t n, int64_t first, RtError *e)
{
    for (int64_t i = 0; i < n; i++) {
        const float *x = out + i * m->classes;
        if (m->loss == METRICS_MSE) {
            double loss = squared_error(x, (const float *)labels + i * m->classes, m->classes);
            m->loss_sum += loss;
            keep_top(m, (TopLoss){.index = first + i, .label = -1, .predicted = -1, .loss = loss});
            continue;
        }
        int32_t label = ((const int32_t *)labels)[i], best;
        if (label < 0 || label >= m->classes)
            return rt_error(e, RT_FILE, "sample %lld has label %d, but the model has %d outputs", (long long)(first + i), label,
                            m->classes);
        double probability, loss = cross_entropy(m, x, label, &best, &probability);
        if (m->loss == METRICS_MSE_CLASSES)
            loss = one_hot_error(m, x, label);
        m->loss_sum += loss;
        m->correct += best == label;
        m->confusion[(size_t)label * (size_t)m->classes + (size_t)best]++;
        keep_top(m, (TopLoss){first + i, label, best, loss, probability});
    }
    m->n += n;
    return true;
}

double metrics_loss(const Metrics *m) { return m->n ? m->loss_sum / (double)m->n : 0; }

double metrics_accuracy(const Metrics *m)
{
    if (m->loss == METRICS_MSE)
        return NAN;
    return m->n ? (double)m->correct / (double)m->n : 0;
}

ClassMetrics metrics_class(const Metrics *m, int32_t c)
{
    int64_t hit = m->confusion[(size_t)c * (size_t)m->classes + (size_t)c], actual = 0, predicted = 0;
    for (int32_t i = 0; i < m->classes; i++) {
        actual += m->confusion[(size_t)c * (size_t)m->classes + (size_t)i];
        predicted += m->confusion[(size_t)i * (size_t)m->classes + (size_t)c];
    }
    ClassMetrics r = {.support = actual};
    r.precision = predicted ? (double)hit / (double)predicted : 0;
    r.recall = actual ? (double)hit / (double)actual : 0;
    r.f1 = hit ? 2 * r.precision * r.recall / (r.precision + r.recall) : 0;
    return r;
}
