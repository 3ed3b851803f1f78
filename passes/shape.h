/* Shape inference's private border: what its files share. The pass itself is `shape` in passes/pass.h.
 * A shape under inference may be partly unknown: rank -1 (nothing known), or single dims of UNKNOWN. Rules check what is
 * known and stay silent about the rest, so that one mistake is told once and the next one is still found. */
#ifndef CNNC_PASSES_SHAPE_H
#define CNNC_PASSES_SHAPE_H
#include "ir/graph.h"

enum { UNKNOWN = -1 };

/* One node under inference. */
typedef struct {
    Graph *g;
    Diags *d;
    Node *n;
    NodeId id;
    Layer *layer; /* NULL for nodes of no layer */
} Infer;
typedef void (*ShapeFn)(Infer *);

/* ---- shapes of the node's values (shape.c) ---- */
Shape infer_in(const Infer *t, int i);                      /* rank -1 when nothing is known */
void infer_out(Infer *t, int i, Shape s, bool batched);     /* checks the size */
void infer_param(Infer *t, int i, Shape s, int64_t fan_in); /* input i is a parameter: its shape; fan_in 0: no bound */
Shape shape_unknown(void);
bool shape_is_known(const Shape *s);
int64_t shape_sample_elements(const Shape *s); /* product of all dims but the batch, or UNKNOWN */

/* ---- errors (shape_error.c) ---- */
Span infer_arg(const Infer *t, const char *name); /* where the argument stands, else the layer's span */
bool infer_arg_written(const Infer *t, const char *name, Span *at);
const char *infer_type(const Infer *t);           /* "Conv2d" */
const char *infer_source(const Infer *t, Span s); /* that text on one line, "" when it is long or absent */
const char *infer_rewrite(const Infer *t, const char *arg,
                          const char *text);              /* the layer's text with one argument replaced, or NULL */
int64_t infer_batch(const Infer *t);                      /* the batch in PyTorch's messages */
const char *infer_sizes(const Infer *t, const Shape *s);  /* "[64, 1, 28, 28]" with that batch */
const char *infer_sample(const Infer *t, const Shape *s); /* "[1, 28, 28]" */
NodeId shape_origin(const Graph *g, ValueId v);           /* the node that made the shape of v */
void note_origin(Infer *t, ValueId v);                    /* attaches "makes [20, 24, 24] here" */
void note_use(Infer *t);                                  /* attaches where the layer's block is used */
/* Attaches help and fix: `arg` should be `text`, or `_`. */
void help_argument(Infer *t, const char *arg, const char *text);
bool bad_rank(Infer *t, const char *wants); /* E0302 */
/* E0306 unless at least `low`; counts bad arguments in *bad. A value of INFER passes when `inferred`. */
void require_size(Infer *t, const char *arg, int64_t value, int64_t low, int *bad);

/* ---- arithmetic that every window shares (shape_window.c) ---- */
typedef struct {
    int64_t in, kernel, stride, dilation, lo, hi;
    bool ceil;
} Window;
int64_t window_output(const Window *w); /* PYTORCH.md 1.2; 0 or less: does not fit */
bool window_equal(const Window *a, const Window *b);
int64_t window_reach(const Window *w);                 /* dilation * (kernel - 1) + 1 */
const char *window_formula(Arena *a, const Window *w); /* "floor((28 + 2*2 - 1*(5-1) - 1)/1 + 1) = 28" */
Window conv_window(const ConvAttrs *c, const Shape *in, int axis);
Window pool_window(const PoolAttrs *p, const Shape *in, int axis);
/* A conv's or pool's window over its layer's input: a border added by a node of its own (padding_mode) counts as padding. */
Window node_window(const Graph *g, const Node *n, int axis);
const char *dims_text(Arena *a, const int64_t *dim, int n, const char *between); /* "5x5" */

/* ---- what print(model) would write (shape_printed.c) ---- */
const char *layer_printed(const Infer *t, const Attrs *written);

/* ---- the rules, named by the `shape` column of ir/ops.def ---- */
void shape_leaf(Infer *t);
void shape_set(Infer *t);
void shape_first(Infer *t);
void shape_conv(Infer *t);
void shape_linear(Infer *t);
void shape_pool(Infer *t);
void shape_adaptive(Infer *t);
void shape_batchnorm(Infer *t);
void shape_bn_stats(Infer *t);
void shape_glu(Infer *t);
void shape_flatten(Infer *t);
void shape_pad(Infer *t);
void shape_add(Infer *t);
void shape_concat(Infer *t);
void shape_loss(Infer *t);
void shape_update(Infer *t);
#endif
