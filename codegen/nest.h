/* Nest: a kernel with its schedule: which axis is in the vector lanes, which axes are unrolled into a register tile, in
 * which order the loops run, and what a slice is. Made by codegen/schedule.c, emitted by codegen/cpu/nest*.c.
 * All integers: the emitters take every decision from here. */
#ifndef CNNC_CODEGEN_NEST_H
#define CNNC_CODEGEN_NEST_H
#include "codegen/kernel.h"
#include "codegen/program.h"

enum { MAX_WEAVE = 8 };   /* elements that are stored together */
#define COLUMNS_OF_L2 0.75 /* what a slice reads for every row of a gradient may fill so much of L2 */
enum { PAGE = 4096 };     /* bytes; rows so far apart meet in the same sets of L1, and no prefetcher goes from one to the next */
typedef struct Nest {
    const Kernel *k;
    int lanes;                     /* elements per vector; 1: scalar code */
    int vector_axis;               /* -1: none. An AXIS_RED axis: lanes are added at the end */
    int n_par; int8_t par[MAX_AXIS];   /* loops around the register tile, outermost first; never an axis that a reduction runs over */
    int n_red; int8_t red[MAX_AXIS];   /* order of loops inside a reduction, outermost first (those axes it has) */
    int32_t tile[MAX_AXIS];        /* unrolled points of a PAR axis kept in registers (vectors, along vector_axis); 1 = none */
    uint8_t block[MAX_AXIS];       /* PAR axis along a blocked dim outside the lanes: indices of a block, a multiple of the tile; 0 = none */
    bool unroll[MAX_AXIS];         /* RED: all iterations are unrolled */
    bool apart;                    /* a contraction with few registers: each step loads what it needs, just before; nothing waits for the next one */
    bool by_rows;                  /* a gradient is written row after row: the loop over its columns, in the lanes, is the innermost one */
    int unrolled_blocks;           /* the RED axis whose indices inside a block, where it runs along a blocked dim, are unrolled: short loops cost their ends; -1 */
    int portion_axis; int32_t portion;   /* a long sum is added up so many indices of this RED axis at a time, over all that the loops from */
    int portion_level;             /*   par[portion_level] on go through, before the next; meanwhile it lies in the output. -1: all at once */
    int slice_axis;                /* PAR axis cut into slices, or -1: slice 0 does all */
    int32_t slice_size;            /* indices of slice_axis per slice (a multiple of its vector width) */
    int n_inner; int8_t inner_axis[2]; int32_t inner_size[2];   /* slices are also cut along these; the last one runs fastest */
    int n_passes;                  /* the last so many of these cuts make no slices: one slice takes them in order, adding up outputs that lack their axes */
    bool own_passes;               /* ... by itself, not together with the other nests of its stage */
    int32_t samples;               /* > 0: a slice is so many samples (a multiple of slice_size), and all their strips are passes of it */
    AccessId transposed; int transpose_axis;   /* a copy into batch lanes: tiles of lanes x lanes of this load are transposed in registers; -1 */
    int weave_axis;                /* the axis whose points, all in one tile, are stored together between those of the next lane; -1 */
    AccessId ahead; int ahead_axis; int64_t ahead_by;   /* fetched into L2 meanwhile; -1. With an axis: as tiles along it read a panel (a tile of
                                      vectors) of this load, the next panel; else beside each vector of its buffer, the one so many elements on */
    uint64_t early;                /* accesses whose vectors at a tile's points are fetched into L2 before its sum runs (bit mask) */
    int rows_axis, depth_axis;     /* a contraction in tile registers (codegen/tiles.h): the axis in the rows, tile[rows_axis] of them a step, */
    int depth;                     /*   and the summed one in the depth, `depth` pairs a tile; columns are the lanes. -1: not in tiles */
    int lines_axis; int32_t pitch; /* the loop over rows goes on from one index of this axis to the next, `pitch` rows later; -1: only along rows_axis */
    int32_t lines_a_step;          /* 1, 2: a step has rows of so many whole lines or of one; 0: of any, and of what lies between them */
    int32_t lines_ahead;           /* cache lines of the next panel of columns that are fetched into L2 with each product of tiles; 0: none */
    bool over_batch;               /* weights too large to be read for every sample: they are the outer loop, the samples an inner one */
    int32_t group;                 /* > 0: so for a slice of so many samples, which stay in L2 meanwhile */
    bool zero_tail;                /* outputs blocked over the batch get 0 in lanes past n (gradients rely on it) */
} Nest;

/* What the scheduler needs of a target, and of the function: samples of a slice of the batch, 0 where it is not cut. */
typedef struct {
    int lanes, registers;
    int64_t l1, l2, l3, samples;
    bool pairs;          /* multiplies pairs of bf16 */
    bool slow_pairs;     /* ... but float32 faster, outside tile registers */
    int tiles;           /* multiply-adds of bf16 a cycle in tile registers; 0: none */
    bool load_store;     /* multiply-adds take registers alone, no memory */
    bool products;       /* no fused multiply-add: products take a register of their own */
    bool deep;           /* strips too run in slices of samples */
    int64_t weights;     /* bytes of the weights that a slice of samples may read; 0: any */
} NestTarget;

/* Sixteen: a tile's sums and operands take them all. */
static inline bool few_registers(const NestTarget *t) { return t->registers <= 16; }

/* Bytes of weights that stay near from one sample to the next, beside what is computed of them: tile registers wait for what comes from L3. */
static inline int64_t weights_room(const NestTarget *t) { return t->tiles ? t->l2 / 4 * 3 : t->l3 / 2; }

/* Multiply-adds of bf16 in tile registers in the time of those of one vector of float32, of which there are two a cycle. */
static inline double tiles_a_vector(const NestTarget *t) { return t->tiles / (2.0 * t->lanes); }

/* Layout-dependent facts of an access, shared by scheduler and emitter. */
typedef struct {
    bool linear;                   /* address = base + sum over axes: false: computed point by point */
    int64_t unit[MAX_AXIS];        /* elements per step of one index */
    int64_t block[MAX_AXIS];       /* != 0: the axis runs along the blocked dim: elements per whole block of `lanes` indices (and 1 per index inside) */
    int64_t half[MAX_AXIS];        /* != 0: the axis runs along the paired dim: elements per two indices */
    int64_t base;                  /* constant part, in elements; of a buffer of pairs, one pair is one element */
    int lanes;                     /* of the blocked dim, 1 when plain */
} Linear;
Linear access_linear(const KernelList *l, const Kernel *k, AccessId at);
/* Elements between neighbouring lanes along `axis`: 0 broadcast, 1 contiguous, else strided; -1 when not linear or along pairs. */
int64_t access_lane_stride(const Linear *f, int axis);
/* The axis with coefficient 1 along the paired dim of the access's buffer, which two neighbouring points of share an element; -1. */
int access_pair_axis(const KernelList *l, const Kernel *k, AccessId at);
/* The kernel's only reduction, a sum; 0: it has none, another one, or several. */
ExprId nest_sum(const Nest *n);

/* schedule.c: a schedule for kernel k; never fails. `batch_lanes`: buffers are blocked over the batch. */
Nest *schedule_kernel(Arena *a, const KernelList *l, const Kernel *k, const NestTarget *t);
/* Cuts along the i-th sliced axis (0: slice_axis, then the inner ones); slices in all; passes of one slice: cuts = slices * passes. */
int32_t nest_parts(const Nest *n, int i);
int32_t nest_slices(const Nest *n);
int32_t nest_passes(const Nest *n);
/* Axes that passes cut (bit mask). */
uint32_t nest_pass_axes(const Nest *n);
/* Neighbours in a stage take their passes together: all of the first pass, then all of the second. */
bool nest_passes_with(const Nest *a, const Nest *b);
/* One past the last nest of a stage that takes its passes with nest i, the first of them. */
int nest_run_end(const Stage *s, int i);
void nest_print(const KernelList *l, const Nest *n, FILE *to);
#endif
