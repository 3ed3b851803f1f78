/* What a compiled model says about itself: facts, speed, time per layer, and whether it still computes what it should. */
#ifndef CNNC_RUNTIME_BENCH_H
#define CNNC_RUNTIME_BENCH_H
#include "runtime/session.h"
#include <stdio.h>

typedef struct { int64_t batch; double best, median; int64_t runs; } BenchResult;   /* seconds per call */

Peak peak_measure(void);   /* of one thread of this machine */

/* Times calls of n samples (1 .. s->batch) for about `seconds`. */
bool bench_session(Session *s, int64_t n, double seconds, BenchResult *out, RtError *e);
bool bench_print(Session *s, FILE *to, bool json, RtError *e);           /* one sample, and the largest batch */
/* Time per stage, with the layers in it; with a peak also the share of it and the time that it bounds. */
bool bench_print_layers(Session *s, const Peak *peak, FILE *to, bool json, RtError *e);
/* The same for a training step of model->step on random samples, and a line "N images/s". */
bool bench_print_training(const CnncModel *m, int threads, const Peak *peak, FILE *to, bool json, RtError *e);
/* Times training steps on random samples: batch and best are filled in. */
bool bench_training(const CnncModel *m, int threads, BenchResult *out, RtError *e);
void info_print(const CnncModel *m, const CnncModel *gpu, FILE *to, bool json);          /* gpu: NULL without GPU code */
/* Runs them: the largest absolute error of an output (NaN when one is no number), and the largest absolute value it should have. False: the device failed. */
bool selftest_errors(Session *s, double *error, double *largest, RtError *e);
/* Runs the samples that came with the program; false (RT_FAIL) when an output is off by more than
 * test_tolerance, or not a number. */
bool selftest_run(Session *s, FILE *to, RtError *e);
#endif
