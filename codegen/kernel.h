/* Kernel: how one fused group of ops is computed, free of any target: axes, affine accesses, one scalar expression SSA
 * (in which reductions over axes are expressions too), outputs. Made by codegen/lower*.c, run for tests by
 * codegen/kernel_interp.c, scheduled and emitted by the targets.
 *
 * The three forms of DESIGN.md are shapes of the expression:
 *   MAP       no reduction over a long axis            out[i] = f(loads)
 *   REDUCE    SUM/MAX of something over AXIS_RED axes   out[c] = SUM[n,h,w](x)
 *   CONTRACT  SUM of a product of two loads, epilogue   out[n,k,p,q] = relu(SUM[c,r,s](x * w) + b[k])
 * A reduction makes its axes unavailable to its users: the expression SUM[a](e) has axis set axes(e) minus a; an
 * expression may use the same axis again after it was reduced (softmax: exp(x - MAX[k](x)) / SUM[k](exp(x - MAX[k](x)))),
 * so an axis named by reductions can be an output axis too: kind PAR then, and each reduction runs its own loop.
 *
 * Memory: everything lives in the arena of the KernelList. */
#ifndef CNNC_CODEGEN_KERNEL_H
#define CNNC_CODEGEN_KERNEL_H
#include "ir/graph.h"

enum { MAX_AXIS = 12, MAX_KERNEL_OUT = 64, MAX_TILE_SUMS = 2 };
typedef int32_t BufId;      /* index into KernelList.buffers; 0 = none */
typedef int16_t AccessId;   /* index into Kernel.access */
typedef int16_t ExprId;     /* index into Kernel.expr; 0 = none */

/* ---- buffers ---- */
/* A constant of a convolution in tiles whose rows are windows of several output columns (codegen/tiles_few.c): `columns` times its
 * filters, each with its taps that many strides later, among `depth` values of a row of the window, `channels` a point. */
typedef struct { int columns, stride, channels, depth; } FewForm;

typedef enum {
    BUF_INPUT,      /* the images: float32 NCHW (n samples), given by the caller */
    BUF_LABELS,     /* class ids (i32) or targets (f32), given by the caller */
    BUF_OUTPUT,     /* the net's result, float32, given by the caller */
    BUF_STATE,      /* a parameter or buffer that lives across steps (training, eval): plain layout at an offset in `state` */
    BUF_CONST,      /* known at compile time: weights of inference programs, tables of numbers */
    BUF_SCALAR,     /* rank 0, one of CnncScalar (runtime/abi.h): read-only at run time */
    BUF_RESULT,     /* rank 0, one of CnncResult: loss, correct count */
    BUF_WORK        /* a value between kernels */
} BufKind;

/* Where element [i0, i1, ...] lies: row-major over the dims, except that dim `block_dim` is split into blocks of `lanes`:
 * the block index keeps its place in `order` and the lane index is innermost. block_dim < 0: plain.
 * order[] lists dims outermost first. The blocked dim's extent is rounded up to `lanes`.
 * paired (DT_BF16 alone) is 1 + a dim whose indices 2i and 2i + 1 lie side by side, inside the lanes: [n/16][c/2][h][w][16][2]; that
 * dim's extent is rounded up to an even one, the odd one out zero. 0: no pairs. Never the blocked dim, where neighbours are pairs anyway.
 * odd is 1 + a dim whose stride is an odd number of vectors of `lanes`: a vector is left empty where need be, so that neighbours along
 * that dim do not meet in one set of the cache. 0: none. */
typedef struct { int8_t block_dim; uint8_t lanes; int8_t order[MAX_RANK]; uint8_t paired, odd; } Layout;

typedef struct {
    const char *name;        /* for dumps: value name or "%12" */
    BufKind kind;
    DType dtype;
    Shape shape;             /* rank <= MAX_RANK; dim[0] is the batch when `batched` */
    bool batched;
    Layout layout;           /* plain when made; `choose` sets it for BUF_WORK and BUF_CONST */
    uint8_t paired;          /* DT_BF16: the layout shall have these pairs (Layout.paired), where the blocks leave it */
    ValueId value;           /* the graph value it holds, or 0 */
    int32_t index;           /* BUF_SCALAR / BUF_RESULT: which; BUF_STATE: index of the tensor */
    const double *data;      /* BUF_CONST: values in row-major order (a table); NULL: filled in at weights load from `value` */
    BufId alias_of;          /* the same storage as that buffer seen with another shape (reshape); 0 = own storage */
    BufId updates;           /* a new value of that BUF_STATE buffer: shares its storage (in place); 0 = no */
    int64_t strip_elements;  /* > 0: made and read strip by strip (codegen/winograd.c): one slice needs that much storage */
    const struct WinogradForm *winograd;   /* BUF_CONST [a^2][K][C]: the weights `value` transformed for that form (codegen/winograd.h); or NULL */
    FewForm *few;            /* BUF_CONST: `value` for several columns at once; or NULL */
    int32_t stride;          /* with winograd: of a convolution over whose phases C counts (codegen/winograd_phases.c); 0 or 1: none */
} Buffer;

/* ---- axes and accesses ---- */
typedef enum { AXIS_PAR, AXIS_RED } AxisKind;
typedef struct {
    AxisKind kind; int32_t extent; char name[4];
    bool batch;              /* only part of the extent exists at run time: the first n; with batch_div the first ceil(n / batch_div); */
    int32_t batch_div;       /*   (a slice axis; 0 = none) */
    int8_t batch_base; int32_t batch_step;   /* with batch_step > 0: the first n - batch_step * index of axis batch_base (samples inside a slice) */
} Axis;

/* index along one dim of a buffer = (table ? table[axis table_axis's index] : 0) + offset + sum coef[a] * index of axis a, divided (exactly: other
 * points are out of range) by `div` when div > 1. When `guarded`, an index outside lo..hi-1 (or not divisible) makes a
 * load read `fill`; a guarded store is dropped. Unguarded indices are proved in range by the verifier. */
typedef struct {
    int32_t coef[MAX_AXIS], offset, lo, hi, div;
    bool guarded;
    const int32_t *table; int8_t table_axis, table_axis2; int32_t table_stride;   /* table[i1 * table_stride + i2] (table_axis2 < 0: table[i1]); an entry < 0 with guarded: fill */
} Affine;
typedef struct { BufId buf; uint8_t rank; Affine dim[MAX_RANK]; float fill; } Access;

/* ---- expressions ---- */
typedef enum {
#define SCALAR(id, text, arity, c) EX_##id,
#include "ir/scalars.def"
#undef SCALAR
    EX_CONST,       /* imm */
    EX_ICONST,      /* iimm */
    EX_LOAD,        /* at */
    EX_INDEX,       /* the index of axis `axis` (int) */
    EX_N,           /* the run-time batch n (int) */
    EX_SUM,         /* a summed over `axes` (bit mask of axes), in order */
    EX_MAX_OVER,    /* the maximum of a over `axes`; NaN wins; empty: -inf */
    EX_ARGMAX,      /* value of integer expression b at the first maximum of a over `axes`: pairs with an EX_MAX_OVER of the same a, axes */
    EX_ROWINDEX,    /* flat position of the current output element inside its sample (row-major, batch left out), for random numbers: uses `at` (an output access) */
    EX_DOT,         /* a, b loads of pairs of bf16: a.low * b.low + a.high * b.high in float32; only inside EX_SUM */
    EX_OP_COUNT
} ExprOp;
typedef struct { ExprOp op; ExprId a, b, c; double imm; int32_t iimm; AccessId at; int8_t axis; uint32_t axes; bool is_int, is_bool;
                 uint32_t free_axes;   /* axes the value depends on (expr_axes); set by expr_add, so accesses are filled in before they are loaded */ } Expr;
typedef struct { AccessId at; ExprId value; } Out;      /* SET, one write per point of the output's axes */

/* Parts of convolutions by Winograd: of the forward pass and data gradients (winograd.c), of weight gradients (winograd_dw.c). */
typedef enum {
    WINOGRAD_NONE,
    WINOGRAD_WEIGHTS, WINOGRAD_INPUT, WINOGRAD_PRODUCT, WINOGRAD_OUTPUT,
    WINOGRAD_DOWN,    /* the transforms of a form down the rows alone (winograd_down.c): all they touch is in rows */
    WINOGRAD_FUSED,   /* all but the weights in one kernel (gpu/winograd.c): its sum is the convolution's, though it reads transformed weights */
    WINOGRAD_ROWS, WINOGRAD_GRADIENT, WINOGRAD_TAPS, WINOGRAD_TURN
} WinogradPart;
typedef struct Kernel {
    const char *name;        /* "conv2.fwd", unique in the list */
    int32_t n_axes, n_access, n_out;
    Axis axis[MAX_AXIS];
    Access *access; int32_t cap_access;
    Expr *expr; int32_t n_expr, cap_expr;   /* [0] unused; operands before users */
    Out out[MAX_KERNEL_OUT];
    LayerId layer; Span span;
    double macs;             /* multiply-accumulates per sample (per call for optimizer kernels: 0) */
    WinogradPart part;       /* a part of a Winograd convolution */
    BufId after;             /* runs when that buffer is whole, though it does not read it: what it makes is not needed sooner; 0: none */
    bool own_layouts;        /* `choose` leaves the layouts of what it reads and writes as they are */
    BufId makes;             /* a part of what made that buffer, or cut into strips with it; 0: alone */
    int32_t n_strip; int8_t strip_axis[3]; int32_t strip_size[3];   /* cut into slices along these axes, outermost first, that many indices each */
    /* Of a product in tiles (codegen/gpu/tile_sums.c): each tile leaves for every index of one output axis, which is alone among its rows
     * or columns, the sums over its points of these values, in [channel][tile]; moments: the second is of the squared distances from the
     * first one's mean. */
    int32_t n_tile_sums; Out tile_sum[MAX_TILE_SUMS]; int8_t tile_channel; bool tile_moments;
    int32_t n_passes;        /* of them, the last so many are walked in order by one slice; outputs that lack these axes (a sum runs over them) add up there */
} Kernel;

typedef struct KernelList {
    Arena *arena;
    const Graph *graph;
    Vec(Buffer) buffers;     /* [0] unused */
    Vec(Kernel) kernels;     /* in order of execution */
    BufId *buf_of_value;     /* indexed by ValueId; 0 = fused away */
} KernelList;

/* ---- construction (codegen/kernel.c) ---- */
KernelList *kernels_new(Arena *a, const Graph *g);
BufId kernels_add_buffer(KernelList *l, const Buffer *b);
/* A kernel being built; finish with kernels_add. */
Kernel *kernel_new(KernelList *l, const char *name, LayerId layer, Span span);
/* For a part of kernel `of`: of its layer, and not made sooner than it. */
Kernel *kernel_part(KernelList *l, const char *name, const Kernel *of);
/* One more axis of a kernel's strips, inside those before it. */
void kernel_cut_along(Kernel *k, int axis, int64_t size);
/* Kernels of strips that work for one convolution: its parts, or it and the window that reads it. */
bool kernel_share_strips(const Kernel *a, const Kernel *b);
int kernel_axis(Kernel *k, AxisKind kind, const char *name, int64_t extent, bool batch);      /* returns the axis index */
AccessId kernel_access(KernelList *l, Kernel *k, BufId buf);                                     /* all dims index 0; fill with affine_* below */
static inline Affine *access_dim(Kernel *k, AccessId at, int d) { return &k->access[at].dim[d]; }
/* The axis that is alone in f, with coefficient 1; -1: another shape. Pure: no offset, table or division beside it. */
int affine_unit_axis(const Affine *f, int n_axes);
int affine_pure_axis(const Affine *f, int n_axes);
/* The indices that f takes, whether guarded or not. */
void affine_range(const Kernel *k, const Affine *f, int64_t *first, int64_t *last);
void affine_axis(Affine *f, int axis, int32_t coef);                                             /* adds coef * axis */
void affine_guard(Affine *f, int32_t lo, int32_t hi);
ExprId expr_add(KernelList *l, Kernel *k, Expr e);                                               /* shares equal expressions */
ExprId expr_const(KernelList *l, Kernel *k, double v);
ExprId expr_iconst(KernelList *l, Kernel *k, int32_t v);
ExprId expr_load(KernelList *l, Kernel *k, AccessId at);
ExprId expr_op(KernelList *l, Kernel *k, ExprOp op, ExprId a, ExprId b, ExprId c);
ExprId expr_reduce(KernelList *l, Kernel *k, ExprOp op, ExprId a, ExprId b, uint32_t axes);
void kernel_out(Kernel *k, AccessId at, ExprId value);
void kernels_add(KernelList *l, Kernel *k);
/* to[i...] = from[i...], for every element of two buffers of one shape: a part of for_. */
Kernel *kernel_copy(KernelList *l, BufId from, BufId to, const char *name, const Kernel *for_);
/* One output, a load as it is. */
bool kernel_is_copy(const Kernel *k);
uint32_t access_axes(const Kernel *k, AccessId at);                                               /* that it depends on (bit mask), tables included */
uint32_t affine_axes(const Kernel *k, const Affine *f);                                              /* that move the index; a table's are not among them */
bool kernel_writes(const Kernel *k, AccessId at);                                                 /* is the access an output, or a tile's sums? */
bool kernel_cuts(const Kernel *k, int axis);                                                   /* into strips? */
double kernel_points(const Kernel *k, uint32_t axes);                                              /* product of the extents of a mask of axes */
static inline bool expr_is_reduction(ExprOp op) { return op == EX_SUM || op == EX_MAX_OVER || op == EX_ARGMAX; }
uint32_t expr_axes(const Kernel *k, ExprId e);                                                   /* mask of axes the value depends on */

/* Elements of storage the buffer needs under its layout (rounded lanes included). */
int64_t buffer_elements(const Buffer *b);
Layout layout_plain(int rank);
/* Not blocked, dim d innermost: [n][h][w][c]. */
Layout layout_innermost(int rank, int d);
/* Not blocked, in the pairs the buffer shall have; along the last dim neighbours are pairs as they lie. */
Layout layout_rows(const Buffer *b);
static inline int layout_pair_dim(const Layout *l) { return (int)l->paired - 1; }
/* Storage strides of each dim in elements; for the blocked dim the stride of a whole block (lane stride is 1, beside pairs 2), for
 * the paired dim that of a pair. */
void layout_strides(const Buffer *b, int64_t stride[MAX_RANK]);
int64_t layout_index(const Buffer *b, const int64_t *index);

/* ---- text, checks, interpretation ---- */
void kernel_print(const KernelList *l, const Kernel *k, FILE *to);
void kernels_print(const KernelList *l, FILE *to);
/* Every access in range or guarded, operands before users, outputs cover their buffers once, axes used. */
bool kernels_verify(const KernelList *l, const char **why);
/* Runs every kernel with plain scalar loops. mem[b]: storage of buffer b as doubles (by layout), owned by the caller;
 * aliases and in-place updates share. n: samples. scalars: CnncScalar values. */
void kernels_interpret(const KernelList *l, double **mem, int64_t n, const double *scalars);
#endif
