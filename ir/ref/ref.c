/* Running a graph by the reference functions.
 *
 * In: a verified graph whose shapes are known, and the caller's arrays. Out: a tensor per value.
 * Invariant: nodes are in order of execution, so that one walk suffices.
 * Idea: leaves take their arrays from the caller; every other node's function finds its inputs' tensors and zeroed outputs. */
#include "ir/ref/ref.h"

#include "ir/ref/ops.h"

#include <string.h>

typedef void (*RefFn)(const RefCall *);
static const RefFn functions[OP_COUNT] = {
#define OP(id, text, n_in, n_out, flags, attrs, shape, grad, lower, ref) [OP_##id] = ref,
#include "ir/ops.def"
#undef OP
};

/* The shape of v in a run over n samples. */
static Shape run_shape(const Graph *g, ValueId v, int64_t n)
{
    Shape s = graph_value(g, v)->shape;
    if (graph_value(g, v)->batched)
        s.dim[0] = n;
    return s;
}

void ref_leaf(const RefCall *c) { BUG("%s has no reference function: its value is given", op_text(c->node->op)); }

void ref_run_node(Arena *a, const Graph *g, NodeId node, int64_t n, RefTensor *value)
{
    const Node *nd = graph_node(g, node);
    const RefTensor **in = NEWN(a, const RefTensor *, nd->n_in + 1);
    RefTensor out[MAX_OUT] = {{{0}, NULL}};
    for (int i = 0; i < nd->n_in; i++)
        in[i] = nd->in[i] ? &value[nd->in[i]] : NULL;
    for (int i = 0; i < nd->n_out; i++) {
        if (!graph_value(g, nd->out[i])->known)
            continue;
        out[i].shape = run_shape(g, nd->out[i], n);
        out[i].data = NEWN(a, double, shape_elements(&out[i].shape) + 1);
    }
    functions[nd->op](&(RefCall){.node = nd, .in = in, .n_in = nd->n_in, .out = out});
    for (int i = 0; i < nd->n_out; i++)
        value[nd->out[i]] = out[i];
}

static double *doubles_of(Arena *a, const float *floats, int64_t count)
{
    double *data = NEWN(a, double, count + 1);
    for (int64_t i = 0; i < count; i++)
        data[i] = floats[i];
    return data;
}

static double *copy_of(Arena *a, const double *from, int64_t count)
{
    double *data = NEWN(a, double, count + 1);
    memcpy(data, from, sizeof *data * (size_t)count);
    return data;
}

const double *ref_named_data(Arena *a, const RefNamed *t) { return t->data ? t->data : doubles_of(a, t->floats, t->count); }

static double *find_param(const Graph *g, ValueId v, const RefInputs *in, int64_t count, Arena *a, const char **error)
{
    const char *name = graph_value(g, v)->name;
    if (in->param_of_value && in->param_of_value[v])
        return copy_of(a, in->param_of_value[v], count);
    for (int32_t i = 0; name && i < in->n_params; i++) {
        if (strcmp(in->params[i].name, name) != 0)
            continue;
        const RefNamed *p = &in->params[i];
        if (p->count == count)
            return p->data ? copy_of(a, p->data, count) : doubles_of(a, p->floats, count);
        *error =
            arena_printf(a, "\"%s\" has %lld elements, %lld expected", name, (long long)in->params[i].count, (long long)count);
        return NULL;
    }
    *error = arena_printf(a, "no values for \"%s\"", name ? name : "a nameless tensor");
    return NULL;
}

/* A copy of the caller's array for a leaf, or NULL with *error. */
static double *leaf_data(const Graph *g, const Node *n, const RefInputs *in, Arena *a, const char **error)
{
    Shape s = run_shape(g, n->out[0], in->n);
    const double *data = NULL;
    switch (n->op) {
    case OP_INPUT:
        data = in->input;
        break;
    case OP_LABELS:
        data = in->labels;
        break;
    case OP_SCALAR:
        if (in->scalars && n->attrs.axis.axis < in->n_scalars)
            data = &in->scalars[n->attrs.axis.axis];
        break;
    default:
        return find_param(g, n->out[0], in, shape_elements(&s), a, error);
    }
    if (!data)
        *error = arena_printf(a, "no values for %s", op_text(n->op));
    return data ? copy_of(a, data, shape_elements(&s)) : NULL;
}

/* needed[v]: whether v must be computed. */
static bool *mark_needed(Arena *a, const Graph *g, const RefInputs *in)
{
    bool *needed = NEWN(a, bool, g->values.len);
    for (int32_t i = 0; i < in->n_want; i++)
        needed[in->want[i]] = true;
    for (NodeId id = g->nodes.len - 1; id > 0; id--) {
        const Node *n = graph_node(g, id);
        bool any = !in->want;
        for (int i = 0; i < n->n_out; i++)
            any = any || needed[n->out[i]];
        for (int i = 0; any && i < n->n_out; i++)
            needed[n->out[i]] = true;
        for (int i = 0; any && i < n->n_in; i++)
            needed[n->in[i]] = true;
    }
    return needed;
}

RefRun *ref_run(Arena *a, const Graph *g, const RefInputs *in)
{
    RefRun *run = NEW(a, RefRun);
    *run = (RefRun){.graph = g, .value = NEWN(a, RefTensor, g->values.len)};
    const bool *needed = mark_needed(a, g, in);
    for (NodeId id = 1; id < g->nodes.len; id++) {
        const Node *n = graph_node(g, id);
        if (!needed[n->out[0]])
            continue;
        if (!graph_value(g, n->out[0])->known) {
            run->error = arena_printf(a, "the shape of %%%u (%s) is unknown", (unsigned)n->out[0], op_text(n->op));
            return run;
        }
        if (!(op_flags(n->op) & OPF_LEAF)) {
            ref_run_node(a, g, id, in->n, run->value);
            continue;
        }
        double *data = leaf_data(g, n, in, a, &run->error);
        if (!data)
            return run;
        run->value[n->out[0]] = (RefTensor){run_shape(g, n->out[0], in->n), data};
    }
    return run;
}
