/* What a compiled model says about itself: facts, speed, time per layer, and whether it still computes what it should. */
#ifndef CNNC_RUNTIME_BENCH_H
#define CNNC_RUNTIME_BENCH_H
#include "runtime/session.h"
#include <stdio.h>

typedef struct { int64_t batch; double best, median; int64_t runs; } BenchResult;   /* seconds per call */

/* Times calls of n samples (1 .. s->batch) for about `seconds`. */
bool bench_session(Session *s, int64_t n, double seconds, BenchResult *out, RtError *e);
bool bench_print(Session *s, FILE *to, bool json, RtError *e);           /* one sample, and the largest batch */
bool bench_print_layers(Session *s, FILE *to, bool json, RtError *e);    /* time per stage, with the layers in it */
void info_print(const CnncModel *m, FILE *to, bool json);
/* Runs the samples that came with the program; false (RT_FAIL) when an output is off by more than
 * test_tolerance, or not a number. */
bool selftest_run(Session *s, FILE *to, RtError *e);
#endif
