/* shape: gives every value its shape, every parameter its shape and initial bound, every `_` its number.
 * In: a graph in order of execution, as elaborate or a rebuilding pass left it. Out: Value.shape and `known` set, INFER
 * attributes filled in, 'same' and negative axes resolved, Layer.printed set; errors E03xx in diags.
 * Invariant: a node stands after its inputs; so one walk in order is enough. Running it again changes nothing.
 * Idea: one rule per op, named by the `shape` column of ir/ops.def; a rule sees possibly unknown sizes, checks what it
 * can, and passes on what its arguments fix.
 * Adding a rule: write `void shape_OP(Infer *t)` in one of passes/shape_*.c, declare it in shape.h, name it in the row. */
#include "passes/shape.h"

#include "passes/pass.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const ShapeFn RULES[OP_COUNT] = {
#define OP(id, text, n_in, n_out, flags, attrs, shape, ...) [OP_##id] = shape,
#include "ir/ops.def"
#undef OP
};

/* ---- values ---- */

Shape shape_unknown(void) { return (Shape){.rank = UNKNOWN}; }

bool shape_is_known(const Shape *s)
{
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] == UNKNOWN)
            return false;
    return s->rank >= 0;
}

Shape infer_in(const Infer *t, int i)
{
    const Value *v = i < t->n->n_in && t->n->in[i] ? graph_value(t->g, t->n->in[i]) : NULL;
    return !v || (!v->known && v->shape.rank == 0) ? shape_unknown() : v->shape; /* rank 0, not known: never set */
}

/* Largest tensors: a sample below 2^31 elements (kernels index with 32 bits), a batch below 2^40. */
enum { MOST_ELEMENTS = INT32_MAX };
static const int64_t MOST_IN_BATCH = INT64_C(1) << 40;

static int64_t multiply_dims(const Shape *s, int from)
{
    int64_t n = 1;
    for (int i = from; i < s->rank; i++) {
        if (s->dim[i] == UNKNOWN)
            return UNKNOWN;
        if (__builtin_mul_overflow(n, s->dim[i], &n))
            return INT64_MAX;
    }
    return n;
}

int64_t shape_sample_elements(const Shape *s) { return s->rank < 1 ? UNKNOWN : multiply_dims(s, 1); }

static bool is_too_large(Infer *t, const Shape *s)
{
    int64_t sample = shape_sample_elements(s), all;
    if (sample == UNKNOWN ||
        (sample <= MOST_ELEMENTS && !__builtin_mul_overflow(sample, s->dim[0], &all) && all <= MOST_IN_BATCH))
        return false;
    diag_error(t->d, t->layer ? t->layer->span : t->n->span, "E0319", "%s's result %s is too large: %s", infer_type(t),
               infer_sample(t, s),
               sample > MOST_ELEMENTS ? "one sample may have at most 2147483647 numbers"
                                      : "one batch may have at most 2^40 numbers");
    if (sample <= MOST_ELEMENTS)
        diag_help(t->d, "choose a smaller --batch");
    note_use(t);
    return true;
}

static void set_value(Graph *g, ValueId v, const Shape *s)
{
    Value *value = graph_value(g, v);
    value->shape = *s;
    value->known = shape_is_known(s);
}

void infer_out(Infer *t, int i, Shape s, bool batched)
{
    if (batched && is_too_large(t, &s))
        s = shape_unknown();
    set_value(t->g, t->n->out[i], &s);
    graph_value(t->g, t->n->out[i])->batched = batched;
}

/* ---- parameters ---- */

static void set_bound(ParamAttrs *p, int64_t fan_in)
{
    p->fan_in = fan_in;
    if (p->init != INIT_UNIFORM)
        return;
    /* In double and in this order: initial weights agree with PyTorch's bit for bit. */
    double std = sqrt(2.0 / (1.0 + 5.0)) / sqrt((double)fan_in);
    p->bound = p->weight_bound ? sqrt(3.0) * std : 1.0 / sqrt((double)fan_in);
}

/* Fixed filters: the list is repeated over out and in channels, so its length must divide one filter's. */
static void check_given_values(Infer *t, const ParamAttrs *p, const Shape *s)
{
    int64_t n = multiply_dims(s, 0);
    if (p->init != INIT_VALUES || n == UNKNOWN || (p->n_values > 0 && n % p->n_values == 0))
        return;
    diag_error(t->d, infer_arg(t, "weight"), "E0324",
               "the weight list has %" PRId64 " numbers but the layer's weight %s has %" PRId64, p->n_values,
               shape_text(t->g->arena, s, false), n);
    diag_help(t->d, "give one filter of kernel_size numbers, as a list of rows; it serves every pair of channels");
    note_use(t);
}

void infer_param(Infer *t, int i, Shape s, int64_t fan_in)
{
    if (i >= t->n->n_in || !t->n->in[i])
        return;
    ValueId v = t->n->in[i];
    Node *def = graph_def(t->g, v);
    if (def->op != OP_PARAM || graph_value(t->g, v)->known)
        return;
    if (multiply_dims(&s, 0) > MOST_ELEMENTS) {
        diag_error(t->d, t->layer ? t->layer->span : t->n->span, "E0319", "%s needs a weight of %s: more than 2147483647 numbers",
                   infer_type(t), shape_text(t->g->arena, &s, false));
        note_use(t);
        s = shape_unknown();
    }
    set_value(t->g, v, &s);
    check_given_values(t, &def->attrs.param, &s);
    if (fan_in > 0)
        set_bound(&def->attrs.param, fan_in);
}

/* ---- rules that need no arithmetic ---- */

static bool check_input(Infer *t, const Shape *s)
{
    if (s->rank < 1 || s->rank > MAX_SPATIAL + 1)
        return diag_error(t->d, t->n->span, "E0301", "input needs 1 to %d sizes, not %d", MAX_SPATIAL + 1, s->rank);
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 1 || s->dim[i] > INT32_MAX)
            return diag_error(t->d, t->n->span, "E0301", "input's sizes must be from 1 to %d, not %" PRId64, INT32_MAX,
                              s->dim[i]);
    return true;
}

void shape_leaf(Infer *t)
{
    Value *v = graph_value(t->g, t->n->out[0]);
    if (t->n->op != OP_INPUT) {
        if (!v->known && t->n->op != OP_SCALAR)
            v->shape = shape_unknown();
        v->known = v->known || t->n->op == OP_SCALAR; /* rank 0 */
        return;
    }
    const Shape *in = &t->g->input_shape;
    Shape s = {.rank = in->rank + 1, .dim = {t->g->batch}};
    if (!check_input(t, in)) {
        infer_out(t, 0, shape_unknown(), true);
        return;
    }
    for (int i = 0; i < in->rank; i++)
        s.dim[i + 1] = in->dim[i];
    infer_out(t, 0, s, true);
}

/* The pass that made the node knew its shapes. */
void shape_set(Infer *t)
{
    for (int i = 0; i < t->n->n_out; i++)
        if (!graph_value(t->g, t->n->out[i])->known)
            BUG("%s (node %u) was made without a shape", op_text(t->n->op), t->id);
}

void shape_update(Infer *t)
{
    for (int i = 0; i < t->n->n_out; i++)
        infer_out(t, i, infer_in(t, 0), false);
}

/* ---- the pass ---- */

/* PyTorch's text, from the attributes as written: inferred sizes filled in, axes not yet resolved. */
static Attrs attrs_to_print(const Node *n, const Attrs *written)
{
    Attrs a = n->attrs;
    AttrKind kind = op_attr_kind(n->op);
    if (kind == ATTR_AXIS || kind == ATTR_FLATTEN)
        a = *written;
    else if (kind == ATTR_CONV && written->conv.padding != PADDING_NUMBERS)
        a.conv.padding = written->conv.padding;
    return a;
}

static void infer_node(Infer *t)
{
    const Attrs written = t->n->attrs;
    RULES[t->n->op](t);
    if (!t->layer || op_flags(t->n->op) & OPF_LEAF || t->layer->printed)
        return;
    if (t->n->n_out && graph_value(t->g, t->n->out[0])->known) {
        Attrs print = attrs_to_print(t->n, &written);
        t->layer->printed = layer_printed(t, &print);
    }
}

bool shape(Graph *g, Diags *d)
{
    int before = d->errors;
    for (NodeId id = 1; id < g->nodes.len; id++) {
        Node *n = graph_node(g, id);
        Layer *layer = n->layer >= 0 && (uint32_t)n->layer < g->layers.len ? &g->layers.at[n->layer] : NULL;
        Infer t = {.g = g, .d = d, .n = n, .id = id, .layer = layer};
        infer_node(&t);
    }
    for (uint32_t i = 0; i < g->layers.len; i++) /* no node of its own */
        if (!g->layers.at[i].printed && strcmp(g->layers.at[i].type, "Identity") == 0)
            g->layers.at[i].printed = "Identity()";
    return d->errors == before;
}
