/* Times on a GPU: see bench.h, which calls these for models compiled for one. */
#ifndef CNNC_RUNTIME_BENCH_GPU_H
#define CNNC_RUNTIME_BENCH_GPU_H
#include "runtime/bench.h"

bool bench_gpu_layers(Session *s, FILE *to, bool json, RtError *e);
/* Seconds of all kernels of the session's last call, one by one. */
bool bench_gpu_kernels(Session *s, double *seconds, RtError *e);
/* x: an Exec with the step; its state is filled with initial weights. */
bool bench_gpu_training(Exec *x, FILE *to, bool json, RtError *e);
#endif
