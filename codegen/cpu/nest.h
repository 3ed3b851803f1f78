/* The emitter of nests, private part: its state, shared by nest.c (the whole), nest_loops.c (the loop over an axis), nest_value.c
 * (expressions), nest_reduce.c, nest_index.c (indices, guards, masks), nest_access.c (addresses) and nest_memory.c (loads and
 * stores); stage.c calls nests. One emitter serves MAP, REDUCE and CONTRACT: the schedule tells which axis is in the lanes and which
 * points are kept in registers.
 *
 * Terms: a tile point is one combination of the unrolled points of all axes (`pt`). An axis is bound when its loop is open:
 * its index is block * unit + lo + cst + pt * step. `unit` is the vector width for the vector axis and for an axis that
 * runs along a blocked dim (its loop is split into whole blocks and the index inside), else 1. */
#ifndef CNNC_CODEGEN_CPU_NEST_H
#define CNNC_CODEGEN_CPU_NEST_H
#include "codegen/cpu/emit.h"
#include "codegen/nest.h"

typedef struct {
    bool bound, is_static;
    LLVMValueRef block, lo;   /* i64 loop variables; NULL: 0 */
    int64_t cst;              /* constant part of the index */
    int32_t unit, points, step;
    bool partial;             /* vector axis: some lanes of the last point may lie past the extent */
} AxisState;

typedef struct {
    Linear lin;
    bool fast;                /* the address is ptr + off + constants per point */
    LLVMValueRef base, ptr;   /* of the buffer; with the bound axes' dynamic parts added */
    AccessId like;            /* an earlier access that differs in constant offsets alone: ptr is that one's; -1 */
    int64_t off;              /* elements: static parts */
    LLVMTypeRef elem;
    DType dtype;              /* of the buffer; DT_BF16 in pairs: elem is i32, an element a pair */
    int pair_dim;             /* -1: no pairs */
    unsigned align;           /* of a contiguous vector */
    uint32_t axes;            /* mask */
    int guard_off[MAX_RANK];  /* > 0: known to be in range here */
    bool skippable;           /* inside a reduction: out of range adds nothing */
} AccessState;

typedef struct { ExprId expr; int32_t pt[MAX_AXIS]; LLVMValueRef value; } Memo;

/* What one loop over an axis changes, kept while it is open. */
typedef struct { LLVMValueRef *ptr; int64_t *off; uint32_t memo; AxisState axis; } AxisSaved;

/* Rows of a step of tiles whose outputs are still to be computed (tiles.c). Pointers to i64: where the step starts, its next row and the
 * last one's end, where in the buffer of sums its own lie. */
typedef struct { LLVMValueRef start, next, end, sums; } LateRows;

typedef struct Ctx {
    Emit *e;
    const Function *f;
    const KernelList *l;
    const Kernel *k;
    const Nest *nest;
    LLVMValueRef args, scratch, slice, n;   /* n: i64 samples */
    LLVMValueRef offsets;     /* ptr to one i64 an access: its buffer's place in its area, so that equal nests share code */
    LLVMValueRef part[3];     /* the slice's number along each sliced axis */
    LLVMValueRef first_pass;  /* i1; NULL: the only one */
    LLVMValueRef portion;     /* i64: number of the portion of a long sum that is added; NULL: no loop over them is open */
    bool last_portion;        /* it completes the sum */
    int64_t slice_samples;    /* samples a slice of the stage holds; 0: slices are not of samples */
    AxisState axis[MAX_AXIS];
    int32_t pt[MAX_AXIS];
    AccessState *acc;
    uint32_t *axes_of;        /* per expression */
    bool *has_reduction;      /* per expression: itself or an operand is a reduction */
    int32_t split[MAX_AXIS];  /* lanes of the blocked dim a scalar axis runs along; 0: not split */
    LLVMValueRef ahead;       /* elements from the first vector of a panel to where its part of the next one begins (Nest.ahead) */
    bool padded;              /* every access along the vector axis is blocked along it: no masks */
    LLVMValueRef sums;        /* of tile registers: a buffer on the stack (tiles.c) */
    LLVMValueRef weave[MAX_WEAVE];     /* of points along the weave axis, so far */
    LLVMValueRef rows_from, rows_to;   /* the rows of a step of tiles that are stored */
    const AxisSaved *before_rows;      /* what was bound when the loop over them began */
    LateRows late;
    LLVMValueRef next_panel;           /* bytes from a product's columns to what is fetched of the next panel with it; NULL: nothing */
    Vec(Memo) memo;
} Ctx;

/* nest_index.c, nest_access.c and nest_memory.c */
void access_init(Ctx *c);
void access_bind(Ctx *c, int axis, LLVMValueRef loop_var, int64_t indices_per_step);   /* adds loop_var * indices_per_step */
void access_bind_static(Ctx *c, int axis, int64_t index);
LLVMValueRef access_pointer(Ctx *c, AccessId at);              /* of a fast access, at the current point */
void access_start_ahead(Ctx *c);                               /* before the loops of a reduction: where the panel to fetch lies */
LLVMValueRef axis_index(Ctx *c, int axis);                     /* i64, at the current point, first lane */
bool axis_static_index(const Ctx *c, int axis, int64_t *out);
LLVMValueRef axis_limit(Ctx *c, int axis);                     /* i64: the run-time extent */
LLVMValueRef affine_index(Ctx *c, const Affine *f);            /* i64 scalar, or i64 vector when it depends on the active vector axis */
bool vector_active(const Ctx *c);
bool is_vector(LLVMValueRef v);
LLVMValueRef lane_mask(Ctx *c);                                /* i1 lanes: index of the vector axis < its limit */
/* The value, or its fill where out of range. *skip (may be NULL): set when it is out of range for certain. */
LLVMValueRef access_load(Ctx *c, AccessId at, bool *skip);
/* high: the value at the next index along the paired dim, stored with this one; NULL: none. */
void access_store(Ctx *c, AccessId at, LLVMValueRef value, LLVMValueRef high);
/* Along a paired dim, is the index at the current point even for certain (0), odd (1), or unknown (-1)? */
int access_parity(const Ctx *c, AccessId at);
/* Is this load part of a full tile that is transposed (see Nest)? Then out[i] is the value at point i of the transposed axis. */
bool access_transposes(const Ctx *c, AccessId at);
void access_load_transposed(Ctx *c, AccessId at, LLVMValueRef *out);
bool guard_is_inside(const Ctx *c, const Affine *f, int axis, int64_t first, int64_t last);

/* nest_value.c */
LLVMValueRef eval(Ctx *c, ExprId e);
void hoist(Ctx *c);                                            /* what does not depend on the loops still to be opened */
LLVMValueRef as_lanes(Ctx *c, LLVMValueRef v);                 /* splats scalars when the vector axis is active */
void memo_put(Ctx *c, ExprId e, LLVMValueRef v);               /* its value at the current point */
LLVMValueRef memo_find(const Ctx *c, ExprId e);                /* that, or NULL */
uint32_t memo_mark(const Ctx *c);
void memo_reset(Ctx *c, uint32_t mark);
uint32_t bound_mask(const Ctx *c);                             /* axes whose loops are open */

/* nest_reduce.c */
void eval_reductions(Ctx *c);                                  /* all that can be computed now, for all tile points */
void reduce_group(Ctx *c, const ExprId *group, int n);         /* n reductions over the same axes */

/* nest.c: the body of the function being built: (args, scratch, slice, table of places) */
void emit_nest(Emit *e, const Function *f, const Stage *s, const Nest *nest);
uint32_t open_points(const Ctx *c);                            /* axes of which several points are open (bit mask) */

/* nest_loops.c */
typedef void (*Body)(Ctx *c, void *arg);
void for_axis(Ctx *c, int axis, int32_t tile, bool unroll, Body body, void *arg);
/* for (i = 0; i < count; i++) with index i * unit; a constant where there is one. */
void axis_blocks(Ctx *c, int axis, int64_t count, int32_t unit, Body body, void *arg);
/* Where the loop of an axis starts and ends; true: at run time (a batch, or the slice's part). */
bool axis_range(Ctx *c, int axis, LLVMValueRef *from, LLVMValueRef *to);
AxisSaved axis_save(Ctx *c, int axis);   /* what one loop over an axis changes */
void axis_restore(Ctx *c, int axis, const AxisSaved *s);
/* Calls body for every tile point of the axes in `mask` (sets c->pt). */
void for_points(Ctx *c, uint32_t mask, Body body, void *arg);

/* tiles.c: nests in tile registers. begin and end stand around the whole nest. The loop over the rows' axis; and, when all axes are
 * bound, the sums. `outputs` is called for each row that they were computed for: in the next step, or at the end of the loop. */
void tiles_begin(Ctx *c);
void tiles_end(Ctx *c);
void tiles_for_rows(Ctx *c, Body body, void *arg, Body outputs);
void tiles_contract(Ctx *c, Body outputs);

/* nest_portions.c: sums that go in portions (Nest.portion) */
void portions_in_turn(Ctx *c, Body body, void *arg);
void portion_store(Ctx *c);                                    /* the sum of the tile's points, into the output */
LLVMValueRef portion_sum_so_far(Ctx *c);                       /* at the current point */
#endif
