/* What a kernel could reach on a GPU, from its registers, shared memory, operations and bytes. No GPU is needed. */
#ifndef CNNC_CODEGEN_GPU_ROOFLINE_H
#define CNNC_CODEGEN_GPU_ROOFLINE_H
#include "codegen/gpu/images.h"

/* Of a family's usual largest product; limits are those of NVIDIA's CUDA programming guide for the compute capability, rates those
 * of the product's data sheet. Registers: 65536 a multiprocessor on all. */
typedef struct {
    int sm;
    const char *product;
    int multiprocessors, threads, blocks;   /* threads, blocks: resident on a multiprocessor */
    int shared_bytes;                       /* of a multiprocessor; 1 KiB of each block is the system's */
    double flops[CNNC_PRODUCTS], bytes;     /* per second: multiply-adds count 2, dense on tensor cores; memory */
} GpuFacts;
const GpuFacts *gpu_facts(int sm);          /* of the family that serves sm; NULL: too old */

/* Blocks that a multiprocessor holds at once; 0: the kernel cannot run. shared_bytes: static and dynamic. */
int gpu_resident_blocks(const GpuFacts *f, int registers, int threads, int shared_bytes);
/* Seconds that a launch's operations at the peak for their precision and its bytes at the memory's speed take at least. */
double gpu_bound(const GpuFacts *f, const CnncGpuLaunch *l);
/* Seconds that a launch takes by estimate, from its first instruction on; that a function takes, with what each launch costs. */
double gpu_estimate(const GpuFacts *f, const CnncGpuLaunch *l);
double gpu_estimate_all(const GpuFacts *f, const CnncGpuFunction *g);

/* What every kernel of the program takes, one table a GPU: text, or JSON. uses: from gpu_compile, for targets.n GPUs. */
void gpu_print_static(FILE *to, const CnncModel *m, const GpuTargets *targets, const GpuUses *uses, bool json);
#endif
