/* The GPU back end seen from outside: CUDA C text and launch tables for the functions of a Program.
 *
 *     CompileOptions o = ...; gpu_options(&o, gpu_target(90));
 *     Program *p = compile_inference(a, pc, weights, n, &o);      or compile_training, compile_graph
 *     const CnncGpu *g = gpu_emit(a, p);                          p->model.gpu is g from now on
 *
 * Such a Program has no CPU stages. Buffers are plain row-major: parameters in `state` lie as CnncTensor says, constants as
 * the graph has them. Everything lives in the arena; nothing here needs a GPU, a driver or CUDA. */
#ifndef CNNC_CODEGEN_GPU_GPU_H
#define CNNC_CODEGEN_GPU_GPU_H
#include "codegen/compile.h"

/* Facts of a GPU family, committed so that a text depends on the name alone. */
typedef struct {
    int sm;                  /* 80, 90, 100 */
    int multiprocessors;     /* of its usual largest product */
    int32_t shared_bytes;    /* most dynamic shared memory of a block */
    int32_t macs[PRECISION_BF16 + 1];   /* multiply-adds that a multiprocessor's tensor cores do in a cycle */
} GpuTarget;

/* The family that serves sm (86 -> 80, 120 -> 100); NULL: too old. */
const GpuTarget *gpu_target(int sm);
/* From here on the compile_* functions plan for GPU t: kernels in plain layouts, one launch after the other. */
void gpu_options(CompileOptions *o, const GpuTarget *t);
/* The text and launch tables of all functions of a program planned for a GPU. Sets p->model.gpu and returns it. */
const CnncGpu *gpu_emit(Arena *a, Program *p);
#endif
