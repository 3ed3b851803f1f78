/* graph_verify: the rules every graph keeps, checked after each pass in debug and test builds.
 *
 * In: any graph. Out: true, or false and one sentence in *why (in the graph's arena).
 * Invariant checked: values are defined once, before their users; nodes have the inputs their op needs; shapes that are
 * known agree with the op's definition; batched values carry the graph's batch in dim 0; results and updates exist.
 * Idea: unknown shapes are legal at any time (an erroneous layer leaves them so), hence every shape rule first asks whether
 * what it compares is known.
 *
 * Adding an op: say below which inputs may be absent, and put it under a shape rule. */
#include "ir/graph.h"

#include <string.h>

typedef struct { const Graph *g; const Node *n; NodeId id; const char **why; } Check;

static bool fail(const Check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(const Check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *text = arena_vprintf(c->g->arena, fmt, ap);
    va_end(ap);
    const char *op = c->n ? op_text(c->n->op) : "graph";
    *c->why = c->n && c->n->n_out ? arena_printf(c->g->arena, "%%%u = %s: %s", (unsigned)c->n->out[0], op, text)
                                  : arena_printf(c->g->arena, "%s: %s", op, text);
    return false;
}

/* Inputs that may be absent, bit i for input i. */
static uint32_t optional_inputs(Op op)
{
    switch (op) {
    case OP_CONV: case OP_LINEAR: return 1u << 2;
    case OP_BATCHNORM: return 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4;
    case OP_BN_TRAIN: return 1u << 1 | 1u << 2;
    case OP_BN_DX: return 1u << 2;
    case OP_BN_RUNNING: return 1u << 2;
    case OP_ACT: case OP_DROPOUT: return 1u << 1;
    case OP_ACT_DX: return 1u << 1 | 1u << 2 | 1u << 3;
    case OP_SGD: return 1u << 2 | 1u << 4 | 1u << 5;
    case OP_RMSPROP: return 1u << 3 | 1u << 4 | 1u << 6;
    case OP_FOLD_WEIGHT: return 1u << 0 | 1u << 1;
    case OP_FOLD_BIAS: return 1u << 0 | 1u << 1 | 1u << 2;
    default: return 0;
    }
}

static const Value *input(const Check *c, int i)
{
    return i < c->n->n_in && c->n->in[i] ? graph_value(c->g, c->n->in[i]) : NULL;
}
static const Value *output(const Check *c, int i) { return graph_value(c->g, c->n->out[i]); }
static bool both_known(const Value *a, const Value *b) { return a && b && a->known && b->known; }

static bool same(const Check *c, const Value *a, const Value *b, const char *what)
{
    if (!both_known(a, b) || (shape_equal(&a->shape, &b->shape) && a->batched == b->batched))
        return true;
    Arena *m = c->g->arena;
    return fail(c, "%s differ in shape: %s%s and %s%s", what, shape_text(m, &a->shape, false), a->batched ? " batched" : "",
                shape_text(m, &b->shape, false), b->batched ? " batched" : "");
}

static bool same_elements(const Check *c, const Value *a, const Value *b, const char *what)
{
    if (!both_known(a, b) || shape_elements(&a->shape) == shape_elements(&b->shape))
        return true;
    return fail(c, "%s differ in size: %lld and %lld elements", what, (long long)shape_elements(&a->shape),
                (long long)shape_elements(&b->shape));
}

static int64_t conv_size(const ConvAttrs *a, int i, int64_t size)
{
    int64_t room = size + a->pad_lo[i] + a->pad_hi[i] - a->dilation[i] * (a->kernel[i] - 1) - 1;
    return room < 0 ? -1 : room / a->stride[i] + 1;
}

/* x[n,c,...] w[k,c/g,...] y[n,k,...] of one convolution. */
static bool conv_shapes(const Check *c, const Value *x, const Value *w, const Value *y)
{
    const ConvAttrs *a = &c->n->attrs.conv;
    if (a->nd < 1 || a->nd > MAX_SPATIAL || a->groups < 1)
        return fail(c, "%d spatial axes and %lld groups", a->nd, (long long)a->groups);
    if (w && w->known && (w->shape.rank != a->nd + 2 || w->shape.dim[0] % a->groups))
        return fail(c, "weight %s does not suit %d axes and %lld groups", shape_text(c->g->arena, &w->shape, false), a->nd,
                    (long long)a->groups);
    if (both_known(x, w) && (x->shape.rank != a->nd + 2 || x->shape.dim[1] != w->shape.dim[1] * a->groups))
        return fail(c, "input %s does not suit weight %s", shape_text(c->g->arena, &x->shape, false),
                    shape_text(c->g->arena, &w->shape, false));
    if (both_known(y, w) && (y->shape.rank != a->nd + 2 || y->shape.dim[1] != w->shape.dim[0]))
        return fail(c, "output %s does not suit weight %s", shape_text(c->g->arena, &y->shape, false),
                    shape_text(c->g->arena, &w->shape, false));
    for (int i = 0; both_known(x, y) && i < a->nd; i++)
        if (y->shape.dim[2 + i] != conv_size(a, i, x->shape.dim[2 + i]))
            return fail(c, "axis %d: %lld from %lld, expected %lld", i + 2, (long long)y->shape.dim[2 + i],
                        (long long)x->shape.dim[2 + i], (long long)conv_size(a, i, x->shape.dim[2 + i]));
    return true;
}

/* x[...,c] w[k,c] y[...,k] of one linear layer. */
static bool linear_shapes(const Check *c, const Value *x, const Value *w, const Value *y)
{
    if (w && w->known && w->shape.rank != 2)
        return fail(c, "weight of rank %d", w->shape.rank);
    if (both_known(x, w) && (x->shape.rank < 1 || x->shape.dim[x->shape.rank - 1] != w->shape.dim[1]))
        return fail(c, "input %s does not suit weight %s", shape_text(c->g->arena, &x->shape, false),
                    shape_text(c->g->arena, &w->shape, false));
    if (both_known(y, w) && (y->shape.rank < 1 || y->shape.dim[y->shape.rank - 1] != w->shape.dim[0]))
        return fail(c, "output %s does not suit weight %s", shape_text(c->g->arena, &y->shape, false),
                    shape_text(c->g->arena, &w->shape, false));
    return true;
}

/* The channel axis of x has as many entries as each given per-channel input. */
static bool channel_inputs(const Check *c, const Value *x, int first, int last)
{
    if (x && x->known && x->shape.rank < 2)
        return fail(c, "input of rank %d has no channel axis", x->shape.rank);
    for (int i = first; i <= last; i++) {
        const Value *v = input(c, i);
        if (both_known(x, v) && (v->shape.rank != 1 || v->shape.dim[0] != x->shape.dim[1]))
            return fail(c, "input %d is %s for %lld channels", i, shape_text(c->g->arena, &v->shape, false), (long long)x->shape.dim[1]);
    }
    return true;
}

static bool axis_in_range(const Check *c, int32_t axis, const Value *v)
{
    if (v && v->known && (axis < 0 || axis >= v->shape.rank))
        return fail(c, "axis %d of a value of rank %d", axis, v->shape.rank);
    return true;
}

static bool concat_shapes(const Check *c)
{
    int64_t sum = 0;
    int32_t axis = c->n->attrs.axis.axis;
    const Value *y = output(c, 0);
    if (!y->known)
        return true;
    for (int i = 0; i < c->n->n_in; i++) {
        const Value *x = input(c, i);
        if (!x->known)
            return true;
        if (x->shape.rank != y->shape.rank || !axis_in_range(c, axis, x))
            return fail(c, "input %d has rank %d, the output %d", i, x->shape.rank, y->shape.rank);
        for (int d = 0; d < x->shape.rank; d++)
            if (d != axis && x->shape.dim[d] != y->shape.dim[d])
                return fail(c, "input %d differs on axis %d", i, d);
        sum += x->shape.dim[axis];
    }
    return sum == y->shape.dim[axis] || fail(c, "axis %d: %lld from parts of %lld", axis, (long long)y->shape.dim[axis], (long long)sum);
}

static bool optimizer_shapes(const Check *c)
{
    const Value *p = input(c, 0);
    int states = c->n->op == OP_SGD ? 3 : c->n->op == OP_RMSPROP ? 5 : 4;   /* inputs 0..states-1 are tensors like p */
    for (int i = 1; i < states; i++)
        if (!same(c, p, input(c, i), "parameter and state or gradient"))
            return false;
    for (int i = 0; i < c->n->n_out; i++)
        if ((i == 0 || input(c, i + 1)) && !same(c, p, output(c, i), "parameter and next value"))
            return false;
    return true;
}

static bool shapes_agree(const Check *c)
{
    const Value *y = output(c, 0);
    switch (c->n->op) {
    case OP_CONV: return conv_shapes(c, input(c, 0), input(c, 1), y);
    case OP_CONV_DX: return conv_shapes(c, y, input(c, 1), input(c, 0)) && same(c, y, input(c, 2), "gradient and input");
    case OP_CONV_DW: return conv_shapes(c, input(c, 0), y, input(c, 1)) && same(c, y, input(c, 2), "gradient and weight");
    case OP_LINEAR: return linear_shapes(c, input(c, 0), input(c, 1), y);
    case OP_LINEAR_DX: return linear_shapes(c, y, input(c, 1), input(c, 0));
    case OP_LINEAR_DW: return linear_shapes(c, input(c, 0), y, input(c, 1));
    case OP_AVGPOOL_DX: case OP_ADAPTIVE_AVG_DX: case OP_PAD_DX: case OP_RESHAPE_BACK: case OP_GLU_DX: case OP_BN_DX:
        return same(c, y, input(c, 1), "gradient and input");
    case OP_MAXPOOL_DX: case OP_ADAPTIVE_MAX_DX:
        return same(c, y, input(c, 2), "gradient and input") && same(c, input(c, 0), input(c, 1), "gradient and index");
    case OP_MAXPOOL: case OP_ADAPTIVE_MAX: return same(c, y, output(c, 1), "values and indices");
    case OP_BATCHNORM: case OP_BN_TRAIN: return same(c, y, input(c, 0), "input and output") && channel_inputs(c, input(c, 0), 1, 4);
    case OP_BN_RUNNING: case OP_COUNT_BATCH: return same(c, y, input(c, 0), "old and new value");
    case OP_AFFINE: return same(c, y, input(c, 0), "input and output") && channel_inputs(c, input(c, 0), 1, 2);
    case OP_ACT: case OP_DROPOUT: case OP_SOFTMAX: case OP_LOG_SOFTMAX: return same(c, y, input(c, 0), "input and output");
    case OP_ACT_DX:
        return same(c, y, input(c, 0), "gradients") && same(c, y, input(c, 1), "gradient and input") &&
               same(c, y, input(c, 2), "gradient and output");
    case OP_SOFTMAX_DX: case OP_LOG_SOFTMAX_DX:
        return same(c, y, input(c, 0), "gradients") && same(c, y, input(c, 1), "gradient and output") &&
               axis_in_range(c, c->n->attrs.axis.axis, y);
    case OP_PRELU_DW: return same(c, y, input(c, 2), "gradient and weight") && same(c, input(c, 0), input(c, 1), "gradient and input");
    case OP_ADD: return same(c, y, input(c, 0), "sum and operand") && same(c, y, input(c, 1), "sum and operand");
    case OP_RESHAPE: return same_elements(c, y, input(c, 0), "input and output");
    case OP_CONCAT: return concat_shapes(c);
    case OP_SUM_KEEP: return axis_in_range(c, c->n->attrs.axis.axis, input(c, 0));
    case OP_SLICE: return axis_in_range(c, c->n->attrs.slice.axis, input(c, 0));
    case OP_CROSS_ENTROPY: case OP_MSE: return same(c, input(c, 0), output(c, 1), "logits and gradient");
    case OP_SGD: case OP_ADAM: case OP_ADAMW: case OP_RMSPROP: return optimizer_shapes(c);
    case OP_FOLD_WEIGHT: return same(c, y, input(c, 0), "weights");
    default: return true;
    }
}

static bool inputs_exist(const Check *c)
{
    const Node *n = c->n;
    if (op_inputs(n->op) >= 0 && n->n_in > op_inputs(n->op))
        return fail(c, "%d inputs, at most %d expected", n->n_in, op_inputs(n->op));
    int needed = op_inputs(n->op) < 0 ? n->n_in : op_inputs(n->op);
    for (int i = 0; i < needed; i++) {
        ValueId v = i < n->n_in ? n->in[i] : 0;
        if (!v && (optional_inputs(n->op) >> i & 1))
            continue;
        if (!v || v >= c->g->values.len)
            return fail(c, "input %d is missing", i);
        if (!graph_value(c->g, v)->def || graph_value(c->g, v)->def >= c->id)
            return fail(c, "input %d, %%%u, is not defined before", i, (unsigned)v);
    }
    if (op_inputs(n->op) < 0 && n->n_in == 0)
        return fail(c, "no inputs");
    if (n->after && (n->after >= c->g->values.len || !graph_value(c->g, n->after)->def || graph_value(c->g, n->after)->def >= c->id))
        return fail(c, "it waits for %%%u, which is not defined before", (unsigned)n->after);
    return true;
}

static bool outputs_are_sound(const Check *c)
{
    const Node *n = c->n;
    if (n->n_out != op_outputs(n->op))
        return fail(c, "%d outputs, %d expected", n->n_out, op_outputs(n->op));
    for (int i = 0; i < n->n_out; i++) {
        if (!n->out[i] || n->out[i] >= c->g->values.len)
            return fail(c, "output %d is missing", i);
        const Value *v = output(c, i);
        if (v->def != c->id || v->index != i)
            return fail(c, "output %d is defined elsewhere too", i);
        if (!v->known)
            continue;
        if (v->shape.rank < 0 || v->shape.rank > MAX_RANK)
            return fail(c, "output %d has rank %d", i, v->shape.rank);
        for (int d = 0; d < v->shape.rank; d++)
            if (v->shape.dim[d] < 0)
                return fail(c, "output %d has size %lld on axis %d", i, (long long)v->shape.dim[d], d);
        if (v->batched && (v->shape.rank < 1 || v->shape.dim[0] != c->g->batch))
            return fail(c, "output %d is batched but its first axis is not the batch of %lld", i, (long long)c->g->batch);
        if ((op_flags(n->op) & OPF_UPDATE || n->op == OP_PARAM || n->op == OP_SCALAR) && v->batched)
            return fail(c, "state and scalars have no batch axis");
    }
    return true;
}

/* A value named by the graph itself (input, output, loss ...): absent, or defined. */
static bool result_exists(const Check *c, ValueId v, const char *what)
{
    if (v && (v >= c->g->values.len || !graph_value(c->g, v)->def))
        return fail(c, "the %s, %%%u, is not defined", what, (unsigned)v);
    return true;
}

/* Updates happen in place: a state tensor changes once, and whoever reads its old value stands before (or makes) the next. */
static bool updates_are_in_order(Check *c)
{
    const Graph *g = c->g;
    NodeId *changed = NEWN(g->arena, NodeId, g->values.len);   /* by ValueId of a state tensor: where */
    for (uint32_t i = 0; i < g->updates.len; i++) {
        StatePair p = g->updates.at[i];
        if (changed[p.old])
            return fail(c, "%%%u is updated twice", (unsigned)p.old);
        changed[p.old] = graph_value(g, p.next)->def;
    }
    for (c->id = 1; g->updates.len && c->id < g->nodes.len; c->id++) {
        c->n = graph_node(g, c->id);
        for (int i = 0; i < c->n->n_in; i++) {
            NodeId at = changed[c->n->in[i]];
            if (at && c->id > at && op_reads(c->n->op, i))
                return fail(c, "reads %%%u, which has changed before", (unsigned)c->n->in[i]);
        }
    }
    return true;
}

static bool results_exist(const Check *c)
{
    const Graph *g = c->g;
    if (!result_exists(c, g->input, "input") || !result_exists(c, g->output, "output") || !result_exists(c, g->labels, "labels value") ||
        !result_exists(c, g->loss, "loss") || !result_exists(c, g->correct, "count of right answers"))
        return false;
    if (g->input && graph_def(g, g->input)->op != OP_INPUT)
        return fail(c, "the input is not an input node");
    if (g->labels && graph_def(g, g->labels)->op != OP_LABELS)
        return fail(c, "the labels are not a labels node");
    for (uint32_t i = 0; i < g->updates.len; i++) {
        StatePair p = g->updates.at[i];
        if (!p.old || !p.next || !result_exists(c, p.old, "state tensor") || !result_exists(c, p.next, "next state"))
            return fail(c, "update %u lacks a value", (unsigned)i);
        if (graph_def(g, p.old)->op != OP_PARAM)
            return fail(c, "update %u changes %%%u, which is not a state tensor", (unsigned)i, (unsigned)p.old);
        if (!same(c, graph_value(g, p.old), graph_value(g, p.next), "state and its next value"))
            return false;
    }
    return true;
}

bool graph_verify(const Graph *g, const char **why)
{
    Check c = {.g = g, .why = why};
    *why = NULL;
    for (c.id = 1; c.id < g->nodes.len; c.id++) {
        c.n = graph_node(g, c.id);
        if ((unsigned)c.n->op >= OP_COUNT) {
            *why = "a node with an unknown op";
            return false;
        }
        if (!inputs_exist(&c) || !outputs_are_sound(&c) || !shapes_agree(&c))
            return false;
        if (c.n->layer >= (int64_t)g->layers.len)
            return fail(&c, "layer %d of %u", c.n->layer, (unsigned)g->layers.len);
    }
    c.n = NULL;
    return results_exist(&c) && updates_are_in_order(&c);
}
