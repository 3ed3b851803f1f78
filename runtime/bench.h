/* What a compiled model says about itself: facts, speed, time per layer, and whether it still computes what it should. */
#ifndef CNNC_RUNTIME_BENCH_H
#define CNNC_RUNTIME_BENCH_H
#include "runtime/session.h"
#include <stdio.h>

/* Seconds per call; kernels: of the device's own work, 0 on the CPU. */
typedef struct { int64_t batch; double best, median, kernels; int64_t runs; } BenchResult;

/* What one thread of this machine can do at most, measured (peak.c): float32 operations a second, and bytes read a second from
 * buffers of 16 KiB, 32 KiB, ... that are read over and over, in caches as far as they fit. */
enum { PEAK_SIZES = 14 };
typedef struct { double flops, bytes[PEAK_SIZES]; } CpuPeak;
CpuPeak peak_measure(void);
double peak_bytes(const CpuPeak *p, double size);             /* from a buffer of that size */

/* Times calls of n samples (1 .. s->batch) for about `seconds`. */
bool bench_session(Session *s, int64_t n, double seconds, BenchResult *out, RtError *e);
bool bench_print(Session *s, FILE *to, bool json, RtError *e);           /* one sample, and the largest batch */
/* A row per stage, with the layers in it; with a peak also the share of it and the time that it bounds. False: no memory. */
typedef struct {
    const CnncModel *model;
    const CnncFunction *function;
    int64_t n;               /* samples a call */
    int threads;
    bool training;
    const double *seconds;   /* per stage, of a call */
} StageTimes;
bool bench_table_print(const StageTimes *t, const CpuPeak *peak, FILE *to, bool json);
/* Measures them for a session's largest batch. */
bool bench_print_layers(Session *s, const CpuPeak *peak, FILE *to, bool json, RtError *e);
/* The same for a training step of model->step on random samples, and a line "N images/s". */
bool bench_print_training(const CnncModel *m, int threads, const CpuPeak *peak, FILE *to, bool json, RtError *e);
/* So many steps one by one: their median, what nine of ten are within, and the longest. On a CPU. */
bool bench_print_steps(const CnncModel *m, int threads, int64_t steps, FILE *to, bool json, RtError *e);
/* Times training steps on random samples; runs is not filled in. */
bool bench_training(const CnncModel *m, int threads, BenchResult *out, RtError *e);
void info_print(const CnncModel *m, const CnncModel *gpu, FILE *to, bool json);          /* gpu: NULL without GPU code */
/* Runs them: the largest absolute error of an output (NaN when one is no number), and the largest absolute value it should have. False: the device failed. */
bool selftest_errors(Session *s, double *error, double *largest, RtError *e);
/* Runs the samples that came with the program; false (RT_FAIL) when an output is off by more than
 * test_tolerance, or not a number. */
bool selftest_run(Session *s, FILE *to, RtError *e);
#endif
