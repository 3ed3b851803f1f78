/* GpuPlan: how a function's kernels become launches. Made by codegen/gpu/plan.c when the function is compiled, turned into
 * text by codegen/gpu/gpu.c. All decisions are integers here; the emitters only write them down. */
#ifndef CNNC_CODEGEN_GPU_PLAN_H
#define CNNC_CODEGEN_GPU_PLAN_H
#include "codegen/gpu/gpu.h"

/* The skeletons of a launch. */
typedef enum {
    GPU_MAP,       /* a thread a point; reductions are serial loops */
    GPU_REDUCE,    /* a block a row; its threads share the reductions, partial results are added in a tree */
    GPU_CONTRACT,  /* a block a tile of a matrix product, through shared memory */
    GPU_PARTS      /* a thread a point: adds what the slices of a split product left, in order, and goes on */
} GpuForm;

/* Axes taken together as one index of a matrix, outermost first. */
typedef struct { int8_t axis[MAX_AXIS]; int n; int64_t extent; bool dynamic; } AxisGroup;   /* dynamic: the first one is the batch */
/* SUM[depth](a * b) as a product of matrices: [row][depth] times [depth][col], for every point of `both`. */
typedef struct {
    ExprId sum; AccessId a, b;
    AxisGroup row, col, depth, both;     /* axes of a alone, of b alone, reduced, of both */
    bool a_along_depth, b_along_depth;   /* how neighbouring threads load: along the reduced axes, or along rows and columns */
    int32_t rows, cols, steps;           /* the tile of a block; depth of one step */
    int32_t thread_rows, thread_cols;    /* the tile of a thread */
    int32_t stages;                      /* tiles in shared memory */
    int32_t slices; int64_t slice_depth; /* > 1: grid[2] also cuts the depth; sums go to `partial` [slices][both][cols][rows] */
    BufId partial;
} Contract;

typedef struct GpuLaunch {
    const Kernel *k;
    const char *entry;              /* C identifier */
    GpuForm form;
    const Contract *contract;       /* CONTRACT, PARTS */
    int n_rows; int8_t row[MAX_AXIS];   /* axes whose points are spread over threads (MAP) or blocks (REDUCE), outermost first */
    int64_t points;                 /* product of their extents */
    int32_t threads;                /* of a block */
    int32_t grid[3], shared_bytes, sample_points, block_points;   /* as in CnncGpuLaunch */
} GpuLaunch;

typedef struct GpuPlan {
    const GpuTarget *target;
    GpuLaunch *launches; int32_t n_launches;
} GpuPlan;

/* contract_plan.c: k as a product of matrices for GPU t, or NULL when it is none, or too small to pay. */
Contract *contract_find(Arena *a, const KernelList *l, const Kernel *k, const GpuTarget *t);
/* Bytes of shared memory, and of one tile's row: padded, so that columns lie in different banks. */
int32_t contract_shared_bytes(const Contract *c);
enum { CONTRACT_PAD = 4 };
/* Elements of an access between neighbours along an axis. */
int64_t access_stride(const KernelList *l, const Kernel *k, AccessId at, int axis);
/* The axes of the set with the batch first, then by their strides in output 0, the innermost last. */
int axes_by_stride(const KernelList *l, const Kernel *k, uint32_t axes, int8_t *out);

/* The plan of kernel list l as a Function: places, work_bytes and Function.gpu. For CompileOptions.plan; ctx: a GpuTarget. */
Function *gpu_plan(Arena *a, const char *name, KernelList *l, const PlanInput *in, const void *ctx);
#endif
