/* GpuPlan: how a function's kernels become launches. Made by codegen/gpu/plan.c when the function is compiled, turned into
 * text by codegen/gpu/gpu.c. All decisions are integers here; the emitters only write them down. */
#ifndef CNNC_CODEGEN_GPU_PLAN_H
#define CNNC_CODEGEN_GPU_PLAN_H
#include "codegen/gpu/gpu.h"

/* The skeletons of a launch. */
typedef enum {
    GPU_MAP,       /* a thread a point; reductions are serial loops */
    GPU_REDUCE     /* a block a row; its threads share the reductions, partial results are added in a tree */
} GpuForm;

typedef struct GpuLaunch {
    const Kernel *k;
    const char *entry;              /* C identifier */
    GpuForm form;
    int n_rows; int8_t row[MAX_AXIS];   /* axes whose points are spread over threads (MAP) or blocks (REDUCE), outermost first */
    int64_t points;                 /* product of their extents */
    int32_t threads;                /* of a block */
    int32_t grid[3], shared_bytes, sample_points, block_points;   /* as in CnncGpuLaunch */
} GpuLaunch;

typedef struct GpuPlan {
    const GpuTarget *target;
    GpuLaunch *launches; int32_t n_launches;
} GpuPlan;

/* The plan of kernel list l as a Function: places, work_bytes and Function.gpu. For CompileOptions.plan; ctx: a GpuTarget. */
Function *gpu_plan(Arena *a, const char *name, KernelList *l, const PlanInput *in, const void *ctx);
#endif
