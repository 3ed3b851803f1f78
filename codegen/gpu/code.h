/* Code: the CUDA text of one kernel while it is written: lines, addresses, guards and scalar expressions. Shared by the
 * skeletons (map.c, reduce.c, ...), which write loops and barriers around it.
 *
 * An axis is a C variable of its name (`int p`); an expression is written in place where it is used once and gets a variable
 * (`e12`) where it is used again. Strings live in the arena. */
#ifndef CNNC_CODEGEN_GPU_CODE_H
#define CNNC_CODEGEN_GPU_CODE_H
#include "codegen/gpu/plan.h"
#include "ir/base/vec.h"

/* A pointer that a kernel gets: "const float *__restrict__ ", "weight", "[64, 3, 7, 7]". */
typedef struct { Place place; const char *type, *name, *note; } Parameter;
typedef Vec(Parameter) Parameters;

typedef struct {
    Arena *arena;
    FILE *to; int depth;            /* of indentation */
    const Function *f; const KernelList *l; const Kernel *k;
    const char *entry;              /* the function's name: before those of its tables */
    const char **buffer;            /* by BufId: its pointer's name */
    Parameters parameters;          /* of the function */
    const char **name;              /* by expression: what holds its value in the current scope; NULL: not computed yet */
    const char **held;              /* NULL, or by expression: where a load's element lies that was loaded before */
    int *uses;                      /* by expression, of the whole kernel */
    int threads;                    /* > 0: a reduction outside of all loops is shared by that many threads: a warp's or the block's */
    int columns;                    /* > 0: the block has so many of that reduction, each shared by the threads that have its column */
    bool unrolled;                  /* loops of reductions, whose operands lie in registers */
    bool long_points;               /* points are numbered in 64 bits */
    bool flat;                      /* a product whose blocks are numbered along one axis of the grid */
    bool in_slice;                  /* in a launch of slices: `first` is the block's first sample */
} Code;

/* Starts a kernel: no values yet. */
void cu_begin(Code *c, const Kernel *k);
void cu_line(Code *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cu_open(Code *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));    /* a line that ends in ` {` */
void cu_block(Code *c);                                                                  /* a line `{` */
void cu_close(Code *c);
/* The body's formula as comments; in a slice also the layer it comes from. */
void cu_comment(Code *c, const GpuBody *x);

/* parameters.c: names for a body's buffers after their parts in it, and a parameter for each. */
void cu_name_buffers(Code *c, const GpuBody *x);
/* The network's names for the buffers of bodies that are one function, and a parameter for each area they lie in. */
void cu_name_areas(Code *c, const GpuBody *bodies, int n);
/* Then: pointers to the buffers of the kernel. */
void cu_pointers(Code *c);
/* The parameters behind `NAME(`, a line each, and `int samples)`. */
void cu_parameters(Code *c);
/* "conv.dw": a kernel's name without its layer and number. */
const char *cu_kernel_name(Arena *a, const KernelList *l, const Kernel *k);
const char *cu_type(DType t);    /* "float" */

/* `const int q = POINT % 28` ... for the axes, outermost first; POINT is a variable that exists. */
void cu_split(Code *c, const char *point, const int8_t *axes, int n);
/* Axis i goes by by[i] > 1: `const int first_q = 4 * (POINT % 7)`. */
void cu_split_by(Code *c, const char *point, const int8_t *axes, int n, const int32_t *by);
/* How far the axis runs now: "28", "samples", "samples_left(...)"; and whether that is less than its extent at times. */
const char *cu_extent(Code *c, int axis);
bool cu_is_dynamic(const Code *c, int axis);

/* How far the loop over the axis that follows is unrolled, in a slice. */
void cu_unroll(Code *c, int axis, bool innermost);
/* Opens a loop an axis; how many braces to close. */
int cu_open_serial(Code *c, uint32_t axes);
/* Opens one loop over the points of the axes that the block's threads share; close with cu_close. wide: the last one goes by WIDE. */
void cu_open_shared(Code *c, uint32_t axes, bool wide);
/* Computes and stores the outputs (of a set) at the point that the axes' variables say; one_lane: all lanes of a warp compute,
 * one stores. */
void cu_outputs(Code *c, bool one_lane);
void cu_outputs_of(Code *c, uint64_t outs);
/* Stores value (text) through output o. */
void cu_store(Code *c, int o, const char *value);

/* code_address.c */
const char *cu_element(Code *c, AccessId at);     /* `x[28 * p + q]` */
const char *cu_guard(Code *c, AccessId at);       /* a condition, or NULL: always in range */
/* Without tables and divisions: what those axes, and the constant, add to the element's index; to a dimension's, which is then counted
 * from the first that is in range. */
const char *cu_index_part(Code *c, AccessId at, uint32_t axes, bool constant);
const char *cu_dim_part(Code *c, const Affine *f, uint32_t axes, bool constant);
/* Row-major position of an output element in its sample. */
const char *cu_row_index(Code *c, AccessId at);
/* The tables that accesses look indices up in, as constants in front of the function. */
void cu_tables(Code *c);

/* code_value.c */
/* The value of an expression here. May write lines first. */
const char *cu_value(Code *c, ExprId e);
/* Like cu_value, in a variable of its own. */
const char *cu_variable(Code *c, ExprId e);
/* Computes now what the expression needs that does not depend on the given axes, which later lines will bind. */
void cu_hoist(Code *c, ExprId e, uint32_t axes);
/* Of that, the reductions alone. */
void cu_hoist_reductions(Code *c, ExprId e, uint32_t axes);
/* Forgets values that depend on the axes: their scope ends, or the axes are bound anew. Restores the names kept by cu_keep. */
const char **cu_keep(Code *c);
void cu_forget(Code *c, uint32_t axes);
void cu_restore(Code *c, const char **kept);
/* An element, or what stands for it out of range. */
const char *cu_load(Code *c, AccessId at);
/* What stands for an element out of range. */
const char *cu_fill(Code *c, AccessId at);

/* The axes of an output's indices, and the outputs that share them, as sets of bits. */
uint32_t out_axes(const Kernel *k, int o);
uint32_t outs_with_axes(const Kernel *k, uint32_t axes);

/* map.c, reduce.c, reduce_columns.c, contract.c, taps_emit.c: the lines of a kernel; `block` is its block's number along the grid. */
void map_emit(Code *c, const GpuBody *body);
void reduce_emit(Code *c, const GpuBody *body);
void contract_emit(Code *c, const GpuBody *body);
void parts_emit(Code *c, const GpuBody *body);
void columns_emit(Code *c, const GpuBody *body);
void taps_emit(Code *c, const GpuBody *body);
/* The thread's point of the rows, or a return from the kernel. */
void cu_point(Code *c, const GpuBody *body);
/* wide.c: four points at once along an axis of which first_AXIS exists. The innermost of the axes of a sum if it can be taken so, or -1. */
int wide_sum_axis(const Code *c, uint32_t axes);
/* Loads and a loop over the four. */
void wide_open(Code *c, int axis);
void wide_close(Code *c);
/* All outputs at four points. */
void wide_map(Code *c, int axis);
/* Of a loop of another skeleton: values that are wanted together (all outputs, then tile sums). Those that know the axis but none of the
 * others, as large as can be, at the four points, so that their names stay; what else they need, loads and the loop over the four; in it
 * and behind it, results and stores, each behind `inside`, "" or "if (...) ". */
typedef struct { ExprId e[MAX_KERNEL_OUT + MAX_TILE_SUMS]; int n; } Wanted;
Wanted wanted_of(const Kernel *k);
void wide_once(Code *c, int axis, uint32_t others, const Wanted *w);
void wide_points(Code *c, int axis, const Wanted *w);
void wide_declare_results(Code *c);
void wide_results(Code *c);
void wide_store(Code *c, int axis, const char *inside);
/* All of a body that is wide, its axes being variables. */
void wide_emit(Code *c, const GpuBody *body);
/* slide.c: all of a body that slides. */
void slide_emit(Code *c, const GpuBody *body);
/* slices.c: a launch of slices, whole, under the name `entry`. */
void slices_emit(Code *c, const GpuLaunch *launch, const char *entry);
/* prelude.c: what every text starts with. */
extern const char gpu_prelude[];
#endif
