/* Images: the CUDA text of a program compiled for GPUs, by NVRTC or from the cache. Everything lives in the arena. */
#ifndef CNNC_CODEGEN_GPU_IMAGES_H
#define CNNC_CODEGEN_GPU_IMAGES_H
#include "codegen/gpu/gpu.h"

enum { MAX_GPU_TARGETS = 8 };
/* How a text is cut, so that all cores compile: not at all (files have whole texts), into as many parts as there are cores, or by its
 * kernels alone, so that programs are the same whichever machine makes them. */
typedef enum { GPU_WHOLE, GPU_PARTS_BY_CORES, GPU_PARTS_BY_KERNELS } GpuParts;
/* Machine code for each of sm[n], and PTX for all others from sm_PTX on (0: none). */
typedef struct { int sm[MAX_GPU_TARGETS], n, ptx; GpuParts parts; } GpuTargets;
/* "sm_80,sm_90" or "80,90"; sorted. NULL: sm_80, sm_90 and sm_100. PTX from CNNC_GPU_OLDEST on. False: *why is a sentence. */
bool gpu_targets_parse(Arena *a, const char *text, GpuTargets *out, const char **why);

/* What ptxas says of a kernel. Bytes; stack: of a thread. */
typedef struct { const char *entry; int registers, shared_bytes, stack_bytes, spill_stores, spill_loads; } GpuUse;
typedef struct { int sm; GpuUse *uses; int n; } GpuUses;

/* IMAGES_NO_COMPILER: no NVRTC (exit status 4). IMAGES_REFUSED: NVRTC took the text for wrong, *why names the layer. */
typedef enum { IMAGES_FINE, IMAGES_NO_COMPILER, IMAGES_REFUSED } ImagesStatus;
/* Appends the cnnc_feed kernel to the text of p->model.gpu and compiles all for the targets, by all cores; p->model.gpu is then
 * a copy with its images. uses: one a target in their order, without PTX; may be NULL. */
ImagesStatus gpu_compile(Arena *a, Program *p, const GpuTargets *targets, GpuUses *uses, const char **why);
/* The text as at most `most` texts with at least `kernels` of its kernels each; how many. parts.c. */
int gpu_text_parts(Arena *a, const char *text, int most, int kernels, const char *parts[CNNC_GPU_PARTS]);
/* The text with the kernel cnnc_feed at its end, once. */
void gpu_add_feed(Arena *a, Program *p);
/* "error lines of a log" told as: which layer's kernel they stand in. */
const char *gpu_explain_log(Arena *a, const CnncModel *m, const char *text, const char *log);   /* text: what was compiled */
/* One row for each kernel in ptxas's words. */
GpuUses gpu_read_uses(Arena *a, int sm, const char *log);
#endif
