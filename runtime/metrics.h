/* Loss and classification metrics over a data set. A Metrics owns its tables (metrics_free). */
#ifndef CNNC_RUNTIME_METRICS_H
#define CNNC_RUNTIME_METRICS_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct { int64_t index; int32_t label, predicted; double loss, probability; } TopLoss;   /* probability: of the label */
/* MSE_CLASSES: MSELoss on class ids, which are read as one-hot targets. */
typedef enum { METRICS_CROSS_ENTROPY, METRICS_MSE, METRICS_MSE_CLASSES } MetricsLoss;
typedef struct {
    int32_t loss;            /* MetricsLoss */
    double smoothing;
    int32_t classes;         /* MSE: values per sample */
    int64_t n, correct;
    double loss_sum;         /* over samples */
    int64_t *confusion;      /* [actual][predicted]; NULL for MSE */
    TopLoss *top; int32_t n_top, max_top;   /* worst first */
} Metrics;
typedef struct { double precision, recall, f1; int64_t support; } ClassMetrics;

MetricsLoss metrics_loss_of(const CnncTrain *t);
bool metrics_init(Metrics *m, int32_t loss, double smoothing, int32_t classes, int32_t max_top, RtError *e);
void metrics_free(Metrics *m);
/* Adds n samples: out[n][classes] logits (or predictions), labels int32[n] (MSE: float[n][classes]); first: index of the first sample.
 * False (RT_FILE) when a label is no class. */
bool metrics_add(Metrics *m, const float *out, const void *labels, int64_t n, int64_t first, RtError *e);
double metrics_loss(const Metrics *m);        /* mean over samples; 0 without samples */
double metrics_accuracy(const Metrics *m);    /* 0..1; NaN for MSE */
ClassMetrics metrics_class(const Metrics *m, int32_t c);   /* 0 where the denominator is */

/* names[classes], or NULL: the classes' numbers. */
void metrics_print(const Metrics *m, FILE *to, const char *const *names);
void metrics_print_json(const Metrics *m, FILE *to, const char *const *names);
#endif
