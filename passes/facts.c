/* Facts about each layer: parameters, multiply-accumulates, receptive field, formula, memory.
 * In: a shaped forward graph. Out: Facts. Invariant: unknown shapes give zeros, never wrong numbers.
 * Idea: one walk over the nodes. The receptive field grows by (kernel-1)*dilation*jump and the jump by stride; where values
 * meet the larger field counts. */
#include "passes/facts.h"

#include "passes/shape.h"

#include <inttypes.h>
#include <string.h>

/* ---- receptive field ---- */

static const int64_t WIDEST_FIELD = INT64_C(1) << 50;

static void grow(Field *f, int axis, int64_t kernel, int64_t dilation, double stride)
{
    double size = (double)f->size[axis] + (double)((kernel - 1) * dilation) * f->jump[axis] + 0.5;
    f->size[axis] = size < (double)WIDEST_FIELD ? (int64_t)size : WIDEST_FIELD;
    f->jump[axis] *= stride;
}

static Field field_of_window(const Node *n, Field f)
{
    for (int i = 0; i < f.nd; i++) {
        if (n->op == OP_CONV)
            grow(&f, i, n->attrs.conv.kernel[i], n->attrs.conv.dilation[i], (double)n->attrs.conv.stride[i]);
        else
            grow(&f, i, n->attrs.pool.kernel[i], n->attrs.pool.dilation[i], (double)n->attrs.pool.stride[i]);
    }
    return f;
}

/* Bins [floor(i*in/out), ceil((i+1)*in/out)): the widest counts. */
static int64_t widest_bin(int64_t in, int64_t out)
{
    int64_t widest = 1;
    for (int64_t i = 0; i < out && i < 4096; i++) {
        int64_t size = ((i + 1) * in + out - 1) / out - i * in / out;
        widest = size > widest ? size : widest;
    }
    return widest;
}

static Field field_of_adaptive(const Graph *g, const Node *n, Field f)
{
    const Value *x = graph_value(g, n->in[0]), *y = graph_value(g, n->out[0]);
    for (int i = 0; i < f.nd && x->known && y->known; i++)
        grow(&f, i, widest_bin(x->shape.dim[i + 2], y->shape.dim[i + 2]), 1,
             (double)x->shape.dim[i + 2] / (double)y->shape.dim[i + 2]);
    return f;
}

static Field larger_field(Field a, Field b)
{
    if (a.whole || b.whole || a.nd != b.nd)
        return (Field){.whole = true};
    for (int i = 0; i < a.nd; i++) {
        a.size[i] = a.size[i] > b.size[i] ? a.size[i] : b.size[i];
        a.jump[i] = a.jump[i] > b.jump[i] ? a.jump[i] : b.jump[i];
    }
    return a;
}

static Field field_of_node(const Graph *g, const Node *n, const Field *field)
{
    Field f = n->n_in && n->in[0] ? field[n->in[0]] : (Field){.whole = true};
    if (n->n_out && !graph_value(g, n->out[0])->known) /* its numbers may be anything */
        return f;
    switch (n->op) {
    case OP_INPUT:
        f = (Field){.whole = g->input_shape.rank < 2, .nd = g->input_shape.rank - 1};
        for (int i = 0; i < f.nd && i < MAX_SPATIAL; i++) {
            f.size[i] = 1;
            f.jump[i] = 1;
        }
        return f;
    case OP_CONV:
    case OP_MAXPOOL:
    case OP_AVGPOOL:
        return f.whole ? f : field_of_window(n, f);
    case OP_ADAPTIVE_AVG:
    case OP_ADAPTIVE_MAX:
        return f.whole ? f : field_of_adaptive(g, n, f);
    case OP_LINEAR:
    case OP_RESHAPE:
        return (Field){.whole = true};
    case OP_ADD:
    case OP_CONCAT:
        for (int i = 1; i < n->n_in; i++)
            f = n->in[i] ? larger_field(f, field[n->in[i]]) : f;
        return f;
    default:
        return f;
    }
}

/* ---- formulas ---- */

static const char *const ACT_FORMULAS[ACT_COUNT] = {
    [ACT_RELU] = "max(0, x)",
    [ACT_RELU6] = "min(max(0, x), 6)",
    [ACT_LEAKY_RELU] = "x if x > 0 else slope * x",
    [ACT_PRELU] = "x if x > 0 else weight * x",
    [ACT_RRELU] = "x if x >= 0 else (lower + upper)/2 * x",
    [ACT_ELU] = "x if x > 0 else alpha * (exp(x) - 1)",
    [ACT_CELU] = "x if x > 0 else alpha * (exp(x/alpha) - 1)",
    [ACT_SELU] = "1.0507 * (x if x > 0 else 1.6733 * (exp(x) - 1))",
    [ACT_GELU] = "x/2 * (1 + erf(x/sqrt(2)))",
    [ACT_GELU_TANH] = "x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))",
    [ACT_SILU] = "x * sigmoid(x)",
    [ACT_MISH] = "x * tanh(log(1 + exp(x)))",
    [ACT_SIGMOID] = "1/(1 + exp(-x))",
    [ACT_TANH] = "tanh(x)",
    [ACT_LOG_SIGMOID] = "-log(1 + exp(-x))",
    [ACT_SOFTSIGN] = "x/(1 + |x|)",
    [ACT_TANHSHRINK] = "x - tanh(x)",
    [ACT_SOFTPLUS] = "log(1 + exp(beta * x))/beta",
    [ACT_HARDTANH] = "min(max(x, min_val), max_val)",
    [ACT_HARDSIGMOID] = "min(max(x + 3, 0), 6)/6",
    [ACT_HARDSWISH] = "x * min(max(x + 3, 0), 6)/6",
    [ACT_SOFTSHRINK] = "x moved towards 0 by lambd",
    [ACT_HARDSHRINK] = "x if |x| > lambd else 0",
    [ACT_THRESHOLD] = "x if x > threshold else value",
};

const char *act_formula(ActKind k) { return k < ACT_COUNT && ACT_FORMULAS[k] ? ACT_FORMULAS[k] : act_text(k); }

static const char *const AXIS_NAMES[][3] = {{"", "", ""}, {"L", "", ""}, {"H", "W", ""}, {"D", "H", "W"}};

/* One formula where all axes agree, else one per axis. */
static const char *windows_formula(Arena *a, const Window *w, int nd)
{
    bool same = true;
    for (int i = 1; i < nd; i++)
        same = same && window_equal(&w[i], &w[0]);
    if (same)
        return window_formula(a, &w[0]);
    const char *text = "";
    for (int i = 0; i < nd; i++)
        text = arena_printf(a, "%s%s%s: %s", text, i ? "; " : "", AXIS_NAMES[nd][i], window_formula(a, &w[i]));
    return text;
}

static const char *bins_formula(Arena *a, int64_t in, int64_t out)
{
    if (in % out == 0)
        return arena_printf(a, "%" PRId64 " -> %" PRId64 ": bins of %" PRId64, in, out, in / out);
    return arena_printf(
        a, "%" PRId64 " -> %" PRId64 ": bin i = floor(i*%" PRId64 "/%" PRId64 ") to ceil((i+1)*%" PRId64 "/%" PRId64 ") - 1", in,
        out, in, out, in, out);
}

static const char *adaptive_formula(Arena *a, const Shape *x, const Shape *y)
{
    int nd = x->rank - 2;
    bool same = true;
    const char *text = "";
    for (int i = 1; i < nd; i++)
        same = same && x->dim[i + 2] == x->dim[2] && y->dim[i + 2] == y->dim[2];
    for (int i = 0; i < nd && !same; i++)
        text =
            arena_printf(a, "%s%s%s: %s", text, i ? "; " : "", AXIS_NAMES[nd][i], bins_formula(a, x->dim[i + 2], y->dim[i + 2]));
    return same ? bins_formula(a, x->dim[2], y->dim[2]) : text;
}

static const char *flatten_formula(Arena *a, const Node *n, const Shape *x)
{
    int start = n->attrs.flatten.start, count = n->attrs.flatten.end - start + 1;
    Shape part = {.rank = count + 1, .dim = {1}};
    memcpy(part.dim + 1, x->dim + start, sizeof *x->dim * (size_t)count);
    return arena_printf(a, "%s = %" PRId64, dims_text(a, x->dim + start, count, " * "), shape_sample_elements(&part));
}

static const char *concat_formula(Arena *a, const Graph *g, const Node *n)
{
    const char *text = "";
    int axis = n->attrs.axis.axis;
    for (int i = 0; i < n->n_in; i++)
        text = arena_printf(a, "%s%s%" PRId64, text, i ? " + " : "", graph_value(g, n->in[i])->shape.dim[axis]);
    return arena_printf(a, "%s = %" PRId64 " channels", text, graph_value(g, n->out[0])->shape.dim[axis]);
}

const char *node_formula(Arena *a, const Graph *g, const Node *n)
{
    const Value *xv = n->n_in && n->in[0] ? graph_value(g, n->in[0]) : NULL, *yv = n->n_out ? graph_value(g, n->out[0]) : NULL;
    if (!xv || !yv || !xv->known || !yv->known)
        return "unknown";
    const Shape *x = &xv->shape, *y = &yv->shape;
    Window w[MAX_SPATIAL];
    memset(w, 0, sizeof w);
    switch (n->op) {
    case OP_CONV:
        for (int i = 0; i < n->attrs.conv.nd; i++)
            w[i] = node_window(g, n, i);
        return windows_formula(a, w, n->attrs.conv.nd);
    case OP_MAXPOOL:
    case OP_AVGPOOL:
        for (int i = 0; i < n->attrs.pool.nd; i++)
            w[i] = node_window(g, n, i);
        return windows_formula(a, w, n->attrs.pool.nd);
    case OP_ADAPTIVE_AVG:
    case OP_ADAPTIVE_MAX:
        return adaptive_formula(a, x, y);
    case OP_LINEAR:
        return arena_printf(a, "[%" PRId64 " x %" PRId64 "] * [%" PRId64 "]%s = [%" PRId64 "]", y->dim[y->rank - 1],
                            x->dim[x->rank - 1], x->dim[x->rank - 1],
                            n->attrs.linear.bias ? arena_printf(a, " + [%" PRId64 "]", y->dim[y->rank - 1]) : "",
                            y->dim[y->rank - 1]);
    case OP_BATCHNORM:
        return arena_printf(a, "(x - mean)/sqrt(var + %g)%s, per channel", n->attrs.norm.eps,
                            n->attrs.norm.affine ? " * gamma + beta" : "");
    case OP_ACT:
        return act_formula(n->attrs.act.kind);
    case OP_GLU:
        return "a * sigmoid(b) of the halves a and b";
    case OP_SOFTMAX:
        return arena_printf(a, "exp(x_i) / sum of exp(x_j) over axis %d", n->attrs.axis.axis);
    case OP_LOG_SOFTMAX:
        return arena_printf(a, "x_i - log(sum of exp(x_j)) over axis %d", n->attrs.axis.axis);
    case OP_DROPOUT:
        return arena_printf(a, "training: 0 with probability %g, else x/(1 - %g); otherwise x", n->attrs.dropout.p,
                            n->attrs.dropout.p);
    case OP_RESHAPE:
        return n->attrs.flatten.start >= 0 && n->attrs.flatten.end < x->rank ? flatten_formula(a, n, x) : "same order";
    case OP_PAD:
        return arena_printf(a, "%" PRId64 " + %" PRId64 " + %" PRId64 " = %" PRId64, x->dim[2], n->attrs.pad.lo[0],
                            n->attrs.pad.hi[0], y->dim[2]);
    case OP_ADD:
        return "body + shortcut, number by number";
    case OP_CONCAT:
        return concat_formula(a, g, n);
    default:
        return op_text(n->op);
    }
}

/* ---- the walk ---- */

static int64_t add_saturating(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static int64_t macs_of_node(const Graph *g, const Node *n)
{
    const Value *w = (n->op == OP_CONV || n->op == OP_LINEAR) && n->in[1] ? graph_value(g, n->in[1]) : NULL,
                *y = n->n_out ? graph_value(g, n->out[0]) : NULL;
    int64_t macs;
    if (!w || !w->known || !y->known)
        return 0;
    return __builtin_mul_overflow(shape_sample_elements(&y->shape), shape_sample_elements(&w->shape), &macs) ? INT64_MAX : macs;
}

static void count_parameter(LayerFacts *f, const Graph *g, const Node *n)
{
    const Value *v = graph_value(g, n->out[0]);
    const ParamAttrs *p = &n->attrs.param;
    int64_t elements = v->known ? shape_elements(&v->shape) : 0;
    if (p->buffer)
        f->buffers = add_saturating(f->buffers, elements);
    else
        f->params = add_saturating(f->params, elements);
    if (!p->buffer && p->trainable)
        f->trainable = add_saturating(f->trainable, elements);
}

static void finish_layer(Arena *a, const Graph *g, LayerFacts *f, const Field *field)
{
    const Layer *l = f->layer;
    const Value *in = graph_value(g, l->in), *out = graph_value(g, l->out);
    f->in = l->in && in->known ? in->shape : (Shape){0};
    f->out = l->out && out->known ? out->shape : (Shape){0};
    f->field = l->out ? field[l->out] : (Field){.whole = true};
    if (f->out.rank && __builtin_mul_overflow(shape_elements(&f->out), (int64_t)dtype_size(out->dtype), &f->activation_bytes))
        f->activation_bytes = INT64_MAX;
    f->formula = f->main ? node_formula(a, g, graph_node(g, f->main)) : "x";
}

Facts facts_of(Arena *a, const Graph *g)
{
    Facts facts = {.layer = NEWN(a, LayerFacts, g->layers.len + 1), .n = g->layers.len, .field = NEWN(a, Field, g->values.len)};
    for (uint32_t i = 0; i < facts.n; i++)
        facts.layer[i].layer = &g->layers.at[i];
    facts.field[0].whole = true;
    for (NodeId id = 1; id < g->nodes.len; id++) {
        const Node *n = graph_node(g, id);
        LayerFacts *f = n->layer >= 0 && (uint32_t)n->layer < facts.n ? &facts.layer[n->layer] : NULL;
        Field field = field_of_node(g, n, facts.field);
        for (int i = 0; i < n->n_out; i++)
            facts.field[n->out[i]] = field;
        if (f && n->op == OP_PARAM)
            count_parameter(f, g, n);
        else if (f && !(op_flags(n->op) & OPF_LEAF))
            f->main = id; /* the last one: a border comes before its convolution */
        if (f)
            f->macs = add_saturating(f->macs, macs_of_node(g, n));
    }
    for (uint32_t i = 0; i < facts.n; i++) {
        LayerFacts *f = &facts.layer[i];
        finish_layer(a, g, f, facts.field);
        facts.params = add_saturating(facts.params, f->params);
        facts.trainable = add_saturating(facts.trainable, f->trainable);
        facts.buffers = add_saturating(facts.buffers, f->buffers);
        facts.macs = add_saturating(facts.macs, f->macs);
    }
    return facts;
}

/* ---- memory, estimated ---- */

static int64_t value_bytes(const Graph *g, ValueId v, int64_t batch)
{
    const Value *value = graph_value(g, v);
    if (!value->known)
        return 0;
    int64_t per = value->batched ? shape_sample_elements(&value->shape) : shape_elements(&value->shape), all;
    if (__builtin_mul_overflow(per, (value->batched ? batch : 1) * (int64_t)dtype_size(value->dtype), &all))
        return INT64_MAX / 4;
    return all;
}

static int64_t parameter_bytes(const Graph *g)
{
    int64_t bytes = 0;
    for (NodeId id = 1; id < g->nodes.len; id++)
        if (graph_node(g, id)->op == OP_PARAM)
            bytes = add_saturating(bytes, value_bytes(g, graph_node(g, id)->out[0], 1));
    return bytes;
}

/* Elementwise layers write over their input, and Flatten only renames it: they need no place of their own. */
static bool is_free(const Node *n) { return (op_flags(n->op) & OPF_MAP) || n->op == OP_RESHAPE || n->op == OP_BATCHNORM; }

int64_t estimate_inference_bytes(Arena *a, const Graph *g, int64_t batch)
{
    NodeId *last_use = NEWN(a, NodeId, g->values.len);
    int64_t alive = 0, peak = 0;
    for (NodeId id = 1; id < g->nodes.len; id++)
        for (int i = 0; i < graph_node(g, id)->n_in; i++)
            last_use[graph_node(g, id)->in[i]] = id;
    for (NodeId id = 1; id < g->nodes.len; id++) {
        const Node *n = graph_node(g, id);
        if (n->op == OP_PARAM || n->n_out == 0)
            continue;
        int64_t grows = value_bytes(g, n->out[0], batch), dies = 0;
        for (int i = 0; i < n->n_in; i++) {
            bool again = false; /* the same value twice dies once */
            for (int j = 0; j < i; j++)
                again = again || n->in[j] == n->in[i];
            if (!again && n->in[i] && last_use[n->in[i]] == id && graph_def(g, n->in[i])->op != OP_PARAM)
                dies = add_saturating(dies, value_bytes(g, n->in[i], batch));
        }
        if (is_free(n) && dies >= grows) {
            alive -= dies - grows;
            continue;
        }
        alive = add_saturating(alive, grows);
        peak = alive > peak ? alive : peak;
        alive -= dies;
        if (!last_use[n->out[0]] && n->out[0] != g->output)
            alive -= grows;
    }
    return add_saturating(peak, parameter_bytes(g));
}

int64_t estimate_training_bytes(Arena *a, const Graph *g, int64_t batch, int optimizer_tensors)
{
    (void)a;
    int64_t kept = 0, largest = 0, params = 0, buffers = 0;
    for (NodeId id = 1; id < g->nodes.len; id++) {
        const Node *n = graph_node(g, id);
        if (n->n_out == 0)
            continue;
        int64_t bytes = value_bytes(g, n->out[0], batch);
        if (n->op == OP_PARAM) {
            *(n->attrs.param.trainable && !n->attrs.param.buffer ? &params : &buffers) += bytes;
            continue;
        }
        largest = bytes > largest ? bytes : largest;
        if (!is_free(n) || n->op == OP_BATCHNORM) /* backward reads a convolution's input and output, a norm's input */
            kept = add_saturating(kept, bytes);
    }
    /* weights, their gradients and optimizer state; kept activations; two gradients of activations at a time */
    int64_t weights = 0;
    if (__builtin_mul_overflow(params, 2 + optimizer_tensors, &weights))
        return INT64_MAX;
    return add_saturating(add_saturating(weights, buffers), add_saturating(kept, add_saturating(largest, largest)));
}
