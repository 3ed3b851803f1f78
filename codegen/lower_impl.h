/* Shared by codegen/lower*.c: the state of lowering and the vocabulary the op functions are written in.
 *
 * An op function, named in column `lower` of ir/ops.def, has one of two jobs:
 *   anchor ops (conv, pool, softmax ...)  at == NULL: make one or more kernels; each says at which point of the result it
 *                                         computes what, and lower_emit applies the rest of the group and stores
 *   pointwise ops (act, add, sgd ...)     at != NULL: put the values of the outputs at that point into at->out[]
 * is_pointwise() in lower.c says which is which. A Point is one index (an Affine) per dim of a value: usually one axis per
 * dim, but also h = 2*h' + 1 in a strided gradient. lower_load reads any value at any point: from its buffer, or, when it
 * is made by a pointwise op of the same group, by computing it there.
 *
 * Adding an op: a function in the file of its kind, built from these. State lives in the arena of the KernelList. */
#ifndef CNNC_CODEGEN_LOWER_IMPL_H
#define CNNC_CODEGEN_LOWER_IMPL_H
#include "codegen/lower.h"

typedef struct { int rank; Affine dim[MAX_RANK]; float fill; ExprId out[MAX_OUT]; } Point;

typedef struct Lower {
    KernelList *l;
    const Graph *g;
    const Fusion *f;
    ParamPlace params;
    bool *stored;            /* by ValueId: somebody outside its group reads it */
    NodeId *first, *next;    /* the nodes of a group in order: first[root], then next[node]; 0 ends */
    NodeId root;             /* of the group being lowered */
    NodeId anchor;           /* its node that is not pointwise; 0: none */
    Kernel *k;               /* the kernel being built, for the short forms below */
    const ExprId *anchor_out;/* values of the anchor's outputs while lower_emit runs; NULL before */
} Lower;

typedef void (*LowerFn)(Lower *lw, const Node *n, Point *at);
#define OP(id, text, n_in, n_out, flags, attrs, shape, grad, lower, ref) void lower(Lower *lw, const Node *n, Point *at);
#include "ir/ops.def"
#undef OP

/* ---- values and buffers ---- */
static inline const Value *val(const Lower *lw, ValueId v) { return graph_value(lw->g, v); }
static inline const int64_t *dims_of(const Lower *lw, ValueId v) { return lw->g->values.at[v].shape.dim; }
BufId lower_buffer(Lower *lw, ValueId v);                      /* the buffer of a value, made when first asked for */
BufId lower_work(Lower *lw, const char *name, DType t, const Shape *s, bool batched);   /* a buffer that holds no graph value */
BufId lower_numbers(Lower *lw, const char *name, DType t, const Shape *s, const double *data);   /* a table of numbers */

/* ---- kernels ---- */
Kernel *lower_kernel(Lower *lw, const Node *n, const char *suffix);    /* "LAYER.op[.suffix]"; becomes lw->k */
/* Axes 0.. of the kernel, one per dim of v, named n c h w ...; the batch first. Returns the point they make. */
Point lower_axes(Lower *lw, ValueId v);
Point point_none(int rank);                                    /* index 0 in every dim */
Affine affine_none(void);
Affine affine_of(int axis, int32_t coef, int32_t offset);
/* Guards index f of a dim with `extent` elements if it can leave it. */
void affine_guard_needed(const Kernel *k, Affine *f, int64_t extent);
/* The value v at point p (a copy; fill: what guarded indices outside read). */
ExprId lower_load(Lower *lw, ValueId v, const Point *p);
ExprId lower_load_buffer(Lower *lw, BufId b, const Point *p);
/* A per-channel value (rank 1) at the channel of p: dim `d` of the point; 0 when v is absent. */
ExprId lower_load_channel(Lower *lw, ValueId v, const Point *p, int d);
ExprId lower_scalar(Lower *lw, ValueId v);                     /* a rank-0 value */
/* In kernel lw->k of the group's anchor its outputs have values out[i] at p: applies the group's pointwise ops, stores every value
 * that is read outside. lower_emit then adds the kernel, which ends it. */
void lower_outputs(Lower *lw, const Point *p, const ExprId *out);
void lower_emit(Lower *lw, const Point *p, const ExprId *out);
void lower_store(Lower *lw, BufId b, const Point *p, ExprId e); /* one output, for kernels that do not end a group */
/* The group is computed by ops on one point alone: a kernel over the dims of v. */
void lower_pointwise(Lower *lw, const Node *n, ValueId v);

/* ---- short forms for expressions of lw->k ---- */
static inline ExprId op1(Lower *lw, ExprOp o, ExprId a) { return expr_op(lw->l, lw->k, o, a, 0, 0); }
static inline ExprId op2(Lower *lw, ExprOp o, ExprId a, ExprId b) { return expr_op(lw->l, lw->k, o, a, b, 0); }
static inline ExprId op3(Lower *lw, ExprOp o, ExprId a, ExprId b, ExprId c) { return expr_op(lw->l, lw->k, o, a, b, c); }
static inline ExprId number(Lower *lw, double v) { return expr_const(lw->l, lw->k, v); }
static inline ExprId integer(Lower *lw, int32_t v) { return expr_iconst(lw->l, lw->k, v); }
static inline ExprId e_add(Lower *lw, ExprId a, ExprId b) { return op2(lw, EX_ADD, a, b); }
static inline ExprId e_sub(Lower *lw, ExprId a, ExprId b) { return op2(lw, EX_SUB, a, b); }
static inline ExprId e_mul(Lower *lw, ExprId a, ExprId b) { return op2(lw, EX_MUL, a, b); }
static inline ExprId e_div(Lower *lw, ExprId a, ExprId b) { return op2(lw, EX_DIV, a, b); }
static inline ExprId e_sel(Lower *lw, ExprId c, ExprId a, ExprId b) { return op3(lw, EX_SEL, c, a, b); }
static inline ExprId e_sum(Lower *lw, ExprId a, uint32_t axes) { return expr_reduce(lw->l, lw->k, EX_SUM, a, 0, axes); }
static inline ExprId e_max(Lower *lw, ExprId a, uint32_t axes) { return expr_reduce(lw->l, lw->k, EX_MAX_OVER, a, 0, axes); }
static inline ExprId e_argmax(Lower *lw, ExprId a, ExprId b, uint32_t axes) { return expr_reduce(lw->l, lw->k, EX_ARGMAX, a, b, axes); }
static inline ExprId e_index(Lower *lw, int axis) { return expr_add(lw->l, lw->k, (Expr){.op = EX_INDEX, .axis = (int8_t)axis}); }
ExprId e_affine(Lower *lw, const Affine *f);                   /* the index itself as an integer (no table, no div) */
ExprId e_flat(Lower *lw, const Point *p, const int64_t *dim, int from, int to);   /* row-major position over dims from..to-1 */
ExprId e_count(Lower *lw, const Value *v, int keep);           /* float: elements of the real batch of v, dim `keep` left out */
static inline int par(Lower *lw, const char *name, int64_t extent) { return kernel_axis(lw->k, AXIS_PAR, name, extent, false); }
static inline int red(Lower *lw, const char *name, int64_t extent) { return kernel_axis(lw->k, AXIS_RED, name, extent, false); }

/* ---- gathering over strided windows (gradients of convolutions and pools), one spatial dim ----
 * Input position h lies in window p at tap r when p*stride + r*dilation - pad == h. For positions h = cls + stride*h' the
 * taps that fit are r = first + tap_step*j, j < count, and p = h' + base - back*j: affine, no division. */
typedef struct { int64_t cls, stride, extent, first, tap_step, count, base, back; } Taps;
Taps taps_of(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad, int64_t cls);
Affine taps_window(Lower *lw, const Taps *t, int in_axis, int tap_axis, int64_t windows);   /* p, guarded where needed */
bool next_class(int64_t *cls, const int64_t *stride, int nd);   /* the next tuple of classes; false after the last */

/* Names of axes: output and window positions of a spatial dim. */
const char *name_out(int nd, int d);     /* p q; o p q in 3-D */
const char *name_tap(int nd, int d);     /* r s; t r s */
const char *name_in(int nd, int d);      /* h w; d h w */
#endif
