/* GpuPlan: how a function's kernels become launches. Made by codegen/gpu/plan.c when the function is compiled, turned into
 * text by codegen/gpu/gpu.c. All decisions are integers here; the emitters only write them down. */
#ifndef CNNC_CODEGEN_GPU_PLAN_H
#define CNNC_CODEGEN_GPU_PLAN_H
#include "codegen/gpu/gpu.h"
#include "codegen/winograd.h"

/* The skeletons of a launch. */
typedef enum {
    GPU_MAP,       /* a thread a point; reductions are serial loops */
    GPU_REDUCE,    /* a block (or warp) a row; its threads share the reductions, partial results are added in a tree */
    GPU_COLUMNS,   /* a block some neighbouring rows, one for each thread of a group; the groups share their reductions */
    GPU_TAPS,      /* a block some channels of a depthwise convolution's weight gradient, and a slice of the points: a thread sums all taps */
    GPU_CONTRACT,  /* a block a tile of a matrix product, through shared memory */
    GPU_PARTS      /* a thread a point: adds what the slices of a split product left, in order, and goes on */
} GpuForm;

/* Axes taken together as one index of a matrix, outermost first. */
typedef struct { int8_t axis[MAX_AXIS]; int n; int64_t extent; bool dynamic; } AxisGroup;   /* dynamic: the first one is the batch */
static inline uint32_t group_axes(const AxisGroup *g)
{
    uint32_t mask = 0;
    for (int i = 0; i < g->n; i++)
        mask |= 1u << g->axis[i];
    return mask;
}
/* How an operand's tile gets into shared memory and lies there. */
typedef struct {
    bool along_depth;      /* neighbouring threads copy along the reduced axes, else along rows or columns */
    bool depth_inside;     /* a line of the tile runs along the depth, else along rows or columns */
    int32_t vector;        /* elements of one asynchronous copy; 0: each passes a register, where it is rounded */
    int32_t pitch;         /* elements from line to line: padded, so that what a warp reads at once lies in different banks */
} TileLoad;
/* A convolution by Winograd in one kernel: the rows of a block's tile are tiles of m x m outputs, its columns filters, its
 * depth channels. */
typedef struct {
    const WinogradForm *form;
    bool of_weights;                     /* a weight gradient: rows are channels, the depth is tiles of dy */
    int8_t n, p, q, filter, c, r, s;     /* axes; r and s of a weight gradient alone */
    int32_t down, across;                /* tiles of an image */
    int32_t pad_h, pad_w, channels;
    int32_t points;                      /* of each tile and filter, that one thread sums */
    int32_t shared_bytes;
    double flops;                        /* of a call, transforms included */
} GpuWinograd;
/* SUM[depth](a * b) as a product of matrices: [row][depth] times [depth][col], for every point of `both`. */
typedef struct {
    ExprId sum; AccessId a, b;
    AxisGroup row, col, depth, both;     /* axes of a alone, of b alone, reduced, of both */
    TileLoad a_load, b_load;
    Precision products;                  /* F32: multiply-adds of threads; else mma.c's, of operands rounded to it */
    int32_t rows, cols, steps;           /* the tile of a block; depth of one step */
    int32_t unit_rows, unit_cols;        /* the tile of a thread, of a warp in mma.c */
    int32_t threads;                     /* of a block */
    int32_t stages;                      /* tiles in shared memory */
    int32_t row_sums;                    /* the kernel's tile sums, when they are of rows */
    int32_t lane_rows;                   /* rows that a lane takes at once when all sums are done: WIDE, or 1 */
    int32_t slices; int64_t slice_depth; /* > 1: grid[2] also cuts the depth; sums go to `partial` [slices][both][cols][rows] */
    BufId partial;
    double cycles;                       /* by estimate */
    const GpuWinograd *winograd;         /* or NULL; slice_depth counts channels or tiles, b is the transformed weights or dy */
} Contract;

/* A weight gradient whose rows are taps: windows of contract->a slide along `slid` by `tap`, along `other` by `other_tap`. */
typedef struct {
    int8_t slid, tap, other, other_tap;
    int32_t points, others;      /* that a thread takes at once along slid, along other */
    int32_t stretch;             /* points along slid of a unit */
    int32_t columns, vector;     /* threads of a block for different channels, channels of each */
    int32_t slice_units;
} GpuTaps;

/* One kernel in a launch. */
typedef struct {
    const Kernel *k;
    GpuForm form;
    const Contract *contract;       /* CONTRACT, TAPS, PARTS; of a sum of products that slides */
    const GpuTaps *taps;            /* TAPS */
    int n_rows; int8_t row[MAX_AXIS];   /* axes whose points are spread over threads (MAP) or blocks (REDUCE), outermost first */
    int64_t points;                 /* product of their extents; in slices: of one slice */
    int32_t threads;                /* of a block */
    int32_t grid[3], shared_bytes, sample_points, block_points;   /* as in CnncGpuLaunch, were it launched alone */
    bool wide;                      /* MAP: a thread takes WIDE points along the last row axis, with loads and stores of 16 bytes, of 8 in bf16; COLUMNS: WIDE columns */
    int32_t steps; int8_t stepped;  /* wide, when > 1: and so many along the axis `stepped`; values that do not know it are computed once */
    int32_t slide; int8_t slid, tap;   /* MAP, when > 0: a thread takes so many points along the axis `slid`, which windows slide along by `tap` */
    bool flat;                      /* CONTRACT, beside others: its grid's blocks are numbered along one axis */
    int32_t columns;                /* COLUMNS: rows of a block; wide: WIDE times as many */
    bool by_warps;                  /* PARTS: a block 32 points, whose slices its warps share */
    bool by_warp;                   /* REDUCE: a warp a row; in slices, without a contract: a warp a point */
    /* In slices, with a contract: `lanes` neighbouring threads share the depth of `unroll` points along the axis `unrolled`, which
     * contract->b alone has, times `spread` along `across`, which a alone has. They share it along the axis `shared` (-1: all axes of the
     * depth as one), and so many steps of the innermost loop are written one after the other. */
    int8_t unrolled, across, shared; int32_t unroll, spread, lanes, chunk;
    double cycles;                  /* in slices: by estimate */
} GpuBody;

typedef enum {
    GPU_ALONE,     /* one body */
    GPU_BESIDE,    /* bodies that need nothing of each other: the grid is theirs, one after the other */
    GPU_SLICES     /* a block a slice of samples: the bodies run one after the other, values that only they use lie in shared memory */
} GpuArrangement;

typedef struct {
    const char *entry, *name;       /* C identifier, once emitted that of the kernel it shares; "0.conv .. 7.linear" */
    const CnncGpuPlace *places; int32_t n_places;   /* the kernel's pointers; gpu.c fills them in */
    GpuArrangement how;
    GpuBody *body; int32_t n_bodies;
    int32_t samples;                /* of a slice */
    int32_t threads, grid[3], shared_bytes, sample_points, block_points;
    int32_t lane, after[CNNC_GPU_LANES];   /* as in CnncGpuLaunch */
    int32_t first_layer, last_layer;
} GpuLaunch;

typedef struct { const char *kernel; const Contract *c; } WinogradProduct;

typedef struct GpuPlan {
    const GpuTarget *target;
    Precision precision;     /* of products */
    bool channels_last;      /* values have their channels innermost, where that can be */
    GpuLaunch *launches; int32_t n_launches;
    int64_t samples;         /* of a slice; 0: the function has no slices */
    const WinogradProduct *winograd; int32_t n_winograd;
} GpuPlan;

/* contract_plan.c: k as a product of matrices in that precision for GPU t, or NULL when it is none, or too small to pay. */
Contract *contract_find(Arena *a, const KernelList *l, const Kernel *k, const GpuTarget *t, Precision products);
/* Not looking at sizes, and without a tile. */
Contract *contract_as_product(Arena *a, const KernelList *l, const Kernel *k);
/* contract_tile.c: tiles, slices and loads of c. */
void contract_choose_tile(Contract *c, const KernelList *l, const Kernel *k, const GpuTarget *t);
/* Bytes of an element in shared memory; of all tiles; elements of one of a's tiles, of b's. */
int32_t contract_element_bytes(const Contract *c);
int32_t contract_shared_bytes(const Contract *c);
int32_t contract_lane_rows(const KernelList *l, const Kernel *k, const Contract *c);
int32_t contract_epilogue_bytes(const Contract *c);                 /* contract_epilogue.c: its part when all sums are done */
int32_t contract_copy_bytes(const Contract *c, const TileLoad *x);   /* of one copy; 0: there are none */
int32_t contract_tile_elements(const Contract *c, const TileLoad *x, int32_t size);
/* A step lies within one row of the depth's innermost axis: the other axes are the same for all of a block's copies. */
bool contract_is_uniform(const Contract *c, const Kernel *k);
/* Some copies are of less than 16 bytes: they are many. */
bool contract_has_small_copies(const Contract *c);
/* Steps of a slice; INT64_MAX: known at run time. No more than c->stages: all copies are made before the loop. */
int64_t contract_steps(const Contract *c);
/* Cycles of adding what `slices` slices leave. */
double contract_parts_cycles(double sums, int slices, const GpuTarget *t);
enum { CONTRACT_LANES = 128 };   /* float32 lanes of a multiprocessor */
/* winograd.c: convolutions that Winograd does quicker, by forms of at most that error; the product of such a kernel, or NULL. */
void gpu_winograd(Arena *a, KernelList *l, GpuPlan *p, double error);
const Contract *winograd_contract(const GpuPlan *p, const Kernel *k);
/* Elements of an access between neighbours along an axis, with its sign. */
int64_t access_step(const KernelList *l, const Kernel *k, AccessId at, int axis);
/* Elements of an access between neighbours along an axis. */
int64_t access_stride(const KernelList *l, const Kernel *k, AccessId at, int axis);
/* The axes of the set with the batch first, then by their strides in output 0, the innermost last. */
int axes_by_stride(const KernelList *l, const Kernel *k, uint32_t axes, int8_t *out);

/* Slices of so many samples, each in so many pieces. */
typedef struct { int64_t samples, pieces; } SumCut;
/* layouts.c: channels innermost; then sums over the batch cut into slices. How k's sums over all but the channel are cut best: a sample has
 * `inner` points of each channel, `lines` along the axis that pieces cut. */
void layouts_channels_last(Arena *a, KernelList *l, Precision precision);
void layouts_split(KernelList *l);
SumCut layouts_cut(const KernelList *l, const Kernel *k, const GpuPlan *p, int64_t channels, int64_t inner, int64_t lines);

/* body.c: all axes that k's reductions are over. */
uint32_t reduced_axes(const Kernel *k);
/* body.c: how one kernel runs alone in a plan; body_slice.c: in a slice of `samples`. A CONTRACT with slices is to be followed by its body_parts. */
GpuBody body_of(Arena *a, const KernelList *l, const Kernel *k, const GpuPlan *p);
GpuBody body_parts(const KernelList *l, const Kernel *k, const Contract *c, const GpuTarget *t);
int32_t body_blocks(const GpuBody *x);
/* The body leaves sums of slices or adds them; what it then reads and writes of its kernel: a cut product its factors alone, what adds
 * its slices all but them. */
bool body_is_cut(const GpuBody *x);
static inline bool body_is_product(const GpuBody *x) { return x->form == GPU_CONTRACT || x->form == GPU_TAPS; }
bool body_touches(const GpuBody *x, AccessId at);
GpuBody body_in_slice(Arena *a, const KernelList *l, const Kernel *k, int64_t samples);
enum { GPU_THREADS = 256, GPU_SLICE_THREADS = 512, GPU_WARP = 32, WIDE = 4 };
/* slide.c: sets slide when x sums over small windows that overlap along an axis. */
void slide_find(Arena *a, GpuBody *x, const KernelList *l);
/* The only dim of an access along which p runs, when the tap r does as well, by one, and nothing else; -1: none. */
int access_window_dim(const Kernel *k, const Access *at, int p, int r);
/* taps.c: plans x as TAPS when it is the weight gradient of a depthwise convolution. */
bool taps_find(Arena *a, GpuBody *x, const KernelList *l, const GpuTarget *t);
/* wide.c: sets wide, and steps, when x is best done WIDE points at once along its last row axis. */
void wide_find(GpuBody *x, const KernelList *l);
/* Points that a thread of x takes. */
static inline int32_t body_points_each(const GpuBody *x)
{
    return (x->wide ? WIDE : 1) * (x->steps > 1 ? x->steps : 1) * (x->slide > 1 ? x->slide : 1);
}
/* Elements of 4 or 2 bytes that lie side by side along the axis, the first of each four at a multiple of four. */
bool wide_access(const KernelList *l, const Kernel *k, AccessId at, int axis);
/* reduce_columns.c: COLUMNS may be wide along its last axis. */
bool columns_are_wide(const KernelList *l, const Kernel *k, int last);
/* joins.c: pointwise kernels go into the pointwise kernel that alone reads them. */
void joins_find(Arena *a, KernelList *l);
/* sums.c: long sums over the batch are cut into slices where they would be too few blocks. */
void sums_split(KernelList *l, const GpuPlan *p);
int64_t sums_samples(const KernelList *l, const Kernel *k, const GpuPlan *p);
/* SUM(v), SUM((v - SUM(v) / m)^2) */
bool sums_are_moments(const Kernel *k, ExprId first, ExprId second);
/* The value of e needs that of `what`. */
bool kernel_needs(const Kernel *k, ExprId e, ExprId what);
/* tile_sums.c: sums over all but the channel are made by the tiles that make their values, or in one sweep by slices. */
void tile_sums_find(Arena *a, KernelList *l, const GpuPlan *p);
/* small.c: samples of a slice when the whole function is best run in slices, each by a block with its values in shared memory;
 * 0: it is not. Splits l's sums over the batch then. */
int64_t small_slices(Arena *a, KernelList *l, const GpuTarget *t);
/* Kernels of a small function: runs on one slice; is computed again by every block (a count of labels). */
bool small_is_sliced(const Kernel *k);
bool small_is_repeated(const KernelList *l, const Kernel *k);
static inline int64_t axes_points(const Kernel *k, uint32_t axes) { return (int64_t)kernel_points(k, axes); }

/* lanes.c: which launches of f may run at the same time. */
void lanes_find(Arena *a, const Function *f);
/* The plan of kernel list l as a Function: places, work_bytes and Function.gpu. For CompileOptions.plan; ctx: a GpuTarget. */
Function *gpu_plan(Arena *a, const char *name, KernelList *l, const PlanInput *in, const void *ctx);
#endif
