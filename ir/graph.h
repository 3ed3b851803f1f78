/* Graph: what a net computes. SSA over tensors; nodes in order of execution; every node knows its layer and source span.
 *
 * Ownership: a Graph and all it points to live in the arena it was made with. Passes that change structure build a new
 * Graph (sharing strings and the layer table); annotating passes write fields.
 * Shapes: dim[0] of a batched value is the batch (graph->batch, the maximum at run time); parameters have no batch axis.
 * Axes of images are N, C, H, W; a 1-D signal is N, C, L; features are N, F. */
#ifndef CNNC_IR_GRAPH_H
#define CNNC_IR_GRAPH_H
#include "ir/base/diag.h"
#include "ir/base/vec.h"

enum { MAX_RANK = 6, MAX_SPATIAL = 3 };
/* Values of a graph have the first four. DT_BF16: storage of kernels (codegen/precision.h); DT_BF16X2: two neighbours seen as one
 * element of 32 bits, the lower index in the low half. */
typedef enum { DT_F32, DT_I32, DT_U8, DT_I64, DT_BF16, DT_BF16X2 } DType;
typedef struct { int32_t rank; int64_t dim[MAX_RANK]; } Shape;

typedef uint32_t ValueId;   /* 0 = none */
typedef uint32_t NodeId;    /* 0 = none */
typedef int32_t LayerId;    /* index into graph->layers, -1 = none */

typedef enum {
#define OP(id, text, n_in, n_out, flags, attrs, ...) OP_##id,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} Op;

typedef enum {
    OPF_NONE = 0,
    OPF_BACKWARD = 1,   /* made by grad, never by elaborate */
    OPF_UPDATE = 2,     /* makes the next value of a state tensor */
    OPF_MAP = 4,        /* elementwise: out[i] depends on in[i] (and on per-channel inputs) only */
    OPF_LEAF = 8        /* no tensor inputs: input, param, const */
} OpFlags;

typedef enum { ATTR_NONE, ATTR_CONV, ATTR_POOL, ATTR_ADAPTIVE, ATTR_NORM, ATTR_LINEAR, ATTR_ACT, ATTR_AXIS, ATTR_FLATTEN,
               ATTR_DROPOUT, ATTR_PAD, ATTR_LOSS, ATTR_OPT, ATTR_PARAM, ATTR_SLICE } AttrKind;

/* Sizes the user left to inference are INFER until `shape` fills them in. */
enum { INFER = -1 };
typedef enum { PAD_ZEROS, PAD_REFLECT, PAD_REPLICATE, PAD_CIRCULAR, PAD_CONSTANT } PadMode;
typedef enum { PADDING_NUMBERS, PADDING_SAME, PADDING_VALID } PaddingKind;

/* Spatial arrays are in order of axes (2-D: [0] rows, [1] columns); nd says how many count. */
typedef struct {
    int32_t nd;
    int64_t in_channels, out_channels, groups;
    int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL];
    int64_t pad_lo[MAX_SPATIAL], pad_hi[MAX_SPATIAL];   /* 'same' is resolved to numbers by `shape` */
    PaddingKind padding;
    PadMode mode;             /* not PAD_ZEROS: elaborate puts an OP_PAD before the conv and pad_lo = pad_hi = 0 in the conv */
    bool bias;
} ConvAttrs;
typedef struct {
    int32_t nd;
    int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL], pad[MAX_SPATIAL];
    bool ceil_mode, count_include_pad;
    int64_t divisor_override;   /* 0 = none */
} PoolAttrs;
typedef struct { int32_t nd; int64_t out[MAX_SPATIAL]; } AdaptiveAttrs;   /* 0 = None: keep that axis */
typedef struct {
    int64_t features;           /* num_features */
    double eps, momentum;       /* momentum < 0: None, cumulative average */
    bool affine, track;
} NormAttrs;
typedef struct { int64_t in_features, out_features; bool bias; } LinearAttrs;

/* Activations: one row each in ir/activations.def. p[] are the layer's numbers in signature order. */
typedef enum {
#define ACT(id, torch_name, text, ...) ACT_##id,
#include "ir/activations.def"
#undef ACT
    ACT_COUNT
} ActKind;
typedef struct { ActKind kind; double p[4]; } ActAttrs;
enum { AXIS_NONE = INT32_MIN };                                   /* dim=None: `shape` takes PyTorch's choice */
typedef struct { int32_t axis; } AxisAttrs;                       /* counts the batch as axis 0; negative resolved by `shape` */
typedef struct { int32_t start, end; } FlattenAttrs;
typedef struct { double p; uint32_t stream; bool channels; } DropoutAttrs;   /* stream: which random stream; channels: Dropout2d */
typedef struct { int32_t nd; int64_t lo[MAX_SPATIAL], hi[MAX_SPATIAL]; PadMode mode; double value; } PadAttrs;
typedef struct { double smoothing; int32_t reduction; } LossAttrs;  /* reduction: 0 mean, 1 sum */
typedef struct { double momentum, dampening, weight_decay, beta1, beta2, eps, alpha; bool nesterov, centered; } OptAttrs;
/* How a leaf tensor starts: uniform(-bound, bound) in PyTorch's stream, a constant, or given values. */
typedef enum { INIT_UNIFORM, INIT_ZEROS, INIT_ONES, INIT_CONST, INIT_VALUES } InitKind;
typedef struct {
    InitKind init;
    double bound;               /* INIT_UNIFORM: the bound, set by `shape` (1/sqrt(fan_in)); INIT_CONST: the value */
    bool weight_bound;          /* the bound is computed as PyTorch's kaiming_uniform(a=sqrt 5): sqrt(3)*(sqrt(2/6)/sqrt(fan_in)) */
    int64_t fan_in;
    const double *values;       /* INIT_VALUES (fixed filters): n values, repeated over out and in channels */
    int64_t n_values;
    bool trainable;             /* false: a buffer (running_mean ...) or frozen */
    bool buffer;                /* a buffer in PyTorch's sense: not a parameter */
    bool optimizer;             /* an optimizer's state ("optimizer.momentum.0.weight"), made by passes/optimizer.c; neither parameter nor buffer */
} ParamAttrs;
typedef struct { int32_t axis; int64_t start, size; } SliceAttrs;
typedef union {
    ConvAttrs conv; PoolAttrs pool; AdaptiveAttrs adaptive; NormAttrs norm; LinearAttrs linear; ActAttrs act; AxisAttrs axis;
    FlattenAttrs flatten; DropoutAttrs dropout; PadAttrs pad; LossAttrs loss; OptAttrs opt; ParamAttrs param; SliceAttrs slice;
} Attrs;

typedef struct { NodeId def; uint8_t index; DType dtype; bool known, batched; Shape shape; const char *name; } Value;
enum { MAX_OUT = 4 };
typedef struct {
    Op op;
    uint16_t n_in, n_out;
    ValueId *in;                /* an optional input that is absent is 0 (a conv without bias) */
    ValueId out[MAX_OUT];
    ValueId after;              /* runs when that value is there, though it does not read it: what it makes is not needed sooner (recompute); 0: none */
    LayerId layer;
    Span span;
    Attrs attrs;
} Node;

/* A layer as the user wrote it: a leaf (Conv2d ...), or a residual or concat. In order of execution (a residual or concat
 * stands after its contents). */
typedef struct {
    const char *name;           /* dotted, as in state_dict: "0", "conv2", "3.body.0" */
    const char *type;           /* "Conv2d", "ReLU", "residual", "concat" */
    const char *printed;        /* as print(model) writes it, after shapes are known: "Conv2d(1, 20, kernel_size=(5, 5), stride=(1, 1))"; may be NULL */
    Span span;                  /* the whole layer text */
    Span used_at;               /* the use of its block, or == span */
    const Span *arg_span;       /* per signature argument: where the user wrote it, {0,0} where not; NULL for residual/concat */
    ValueId in, out;            /* first input and final output value */
} Layer;

typedef struct { ValueId old, next; } StatePair;   /* a state tensor (OP_PARAM) and its next value */

typedef struct Graph {
    Arena *arena;
    const char *name;           /* the model's name: the file's stem */
    int64_t batch;
    Vec(Node) nodes;            /* [0] unused */
    Vec(Value) values;          /* [0] unused */
    Vec(Layer) layers;
    ValueId input, output;      /* input: the images; output: the net's result */
    Shape input_shape;          /* without the batch */
    /* training functions only: */
    ValueId labels;             /* dtype I32 [n] class ids, or F32 targets of the output's shape (MSE); 0 = none */
    ValueId loss;               /* rank-0 mean loss */
    ValueId correct;            /* rank-0 count of right answers; 0 = none */
    Vec(StatePair) updates;
} Graph;

Graph *graph_new(Arena *a, const char *name, int64_t batch);
ValueId graph_add_value(Graph *g, DType dtype);                       /* shape unknown, def = none */
/* Appends a node with n_in inputs (copied) and the op's number of outputs (fresh values, shape unknown, f32; pooling indices
 * i32, count i64). Inputs that are not given are absent (0): Node.n_in is the op's maximum, so in[] can be read at every
 * position ops.def names. Returns its id. */
NodeId graph_add_node(Graph *g, Op op, const ValueId *in, int n_in, const Attrs *attrs, LayerId layer, Span span);
/* A leaf tensor (OP_PARAM) with its state_dict name. rank < 0: shape left to inference. */
ValueId graph_add_param(Graph *g, const char *name, const ParamAttrs *attrs, const Shape *shape, LayerId layer, Span span);
static inline Node *graph_node(const Graph *g, NodeId n) { return &g->nodes.at[n]; }
static inline Value *graph_value(const Graph *g, ValueId v) { return &g->values.at[v]; }
static inline ValueId node_out(const Graph *g, NodeId n, int i) { return g->nodes.at[n].out[i]; }
static inline Node *graph_def(const Graph *g, ValueId v) { return &g->nodes.at[g->values.at[v].def]; }
/* New graph with the same name, batch, layers and input shape and nothing else; for passes that rebuild. */
Graph *graph_like(Arena *a, const Graph *g);
/* Copies node n of `from` with inputs mapped through map[] (indexed by ValueId of `from`); fills map[] for its outputs,
 * copying shape, dtype and names. Returns the new node. */
NodeId graph_copy_node(Graph *to, const Graph *from, NodeId n, ValueId *map);

const char *op_text(Op op);
int op_inputs(Op op);                                /* the maximum; -1: any number */
int op_outputs(Op op);
uint32_t op_flags(Op op);
AttrKind op_attr_kind(Op op);
/* Whether the op reads the values of input i; false where only the shape counts ("shape only" in ops.def). */
static inline bool op_reads(Op op, int i)
{
    switch (op) {
    case OP_CONV_DX: case OP_CONV_DW: case OP_MAXPOOL_DX: case OP_ADAPTIVE_MAX_DX: case OP_PRELU_DW: return i != 2;
    case OP_AVGPOOL_DX: case OP_ADAPTIVE_AVG_DX: case OP_RESHAPE_BACK: case OP_PAD_DX: return i != 1;
    case OP_BN_RUNNING: return i != 3;
    default: return true;
    }
}
const char *act_text(ActKind k);

int64_t shape_elements(const Shape *s);
bool shape_equal(const Shape *a, const Shape *b);
Shape shape_from(int rank, const int64_t *dims);
#define shape_of(rank, ...) shape_from((rank), (const int64_t[]){0, ##__VA_ARGS__} + 1)   /* shape_of(2, rows, columns) */
const char *shape_text(Arena *a, const Shape *s, bool leave_batch_out);   /* "[6, 28, 28]" */
size_t dtype_size(DType t);
static inline bool dtype_is_float(DType t) { return t == DT_F32 || t == DT_BF16; }

void graph_print(const Graph *g, FILE *to);          /* the --dump form: one node a line, `%4: f32[1, 6, 28, 28] = conv2d %1 %2 %3 {kernel=(5, 5), ...}  # layer "0" line 7` */
/* Checks the SSA rules, input counts, and shapes where known; false: *why tells node and rule. Run after every pass. */
bool graph_verify(const Graph *g, const char **why);
#endif
