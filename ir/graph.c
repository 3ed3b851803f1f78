/* Graph construction and small questions about ops, shapes and element types.
 *
 * In: ids and attributes from elaborate and from passes. Out: nodes and values appended to a Graph.
 * Invariant: entry 0 of nodes and values stands for "none" and is never handed out; a node's `in` always has room for
 * the op's maximum number of inputs (absent ones are 0), so that fixed positions may be read without a bounds check.
 * Idea: nothing is ever removed or moved; a pass that changes structure makes a new graph with graph_like and
 * graph_copy_node and a map from old to new values. */
#include "ir/graph.h"

#include <string.h>

typedef struct {
    const char *text;
    int n_in, n_out;
    uint32_t flags;
    AttrKind attrs;
} OpRow;

static const OpRow op_rows[OP_COUNT] = {
#define OP(id, text, n_in, n_out, flags, attrs, ...) [OP_##id] = {text, n_in, n_out, flags, attrs},
#include "ir/ops.def"
#undef OP
};

static const char *const act_texts[ACT_COUNT] = {
#define ACT(id, torch_name, text, ...) [ACT_##id] = text,
#include "ir/activations.def"
#undef ACT
};

const char *op_text(Op op) { return op_rows[op].text; }
int op_inputs(Op op) { return op_rows[op].n_in; }
int op_outputs(Op op) { return op_rows[op].n_out; }
uint32_t op_flags(Op op) { return op_rows[op].flags; }
AttrKind op_attr_kind(Op op) { return op_rows[op].attrs; }
const char *act_text(ActKind k) { return act_texts[k]; }

Graph *graph_new(Arena *a, const char *name, int64_t batch)
{
    Graph *g = NEW(a, Graph);
    g->arena = a;
    g->name = name;
    g->batch = batch;
    vec_push(a, &g->nodes, (Node){.layer = -1});
    vec_push(a, &g->values, (Value){0});
    return g;
}

ValueId graph_add_value(Graph *g, DType dtype)
{
    vec_push(g->arena, &g->values, (Value){.dtype = dtype});
    return g->values.len - 1;
}

/* Element type of an op's output where it is not float32. */
static DType output_dtype(Op op, int index)
{
    if ((op == OP_MAXPOOL || op == OP_ADAPTIVE_MAX) && index == 1)
        return DT_I32;
    return op == OP_COUNT_BATCH ? DT_I64 : DT_F32;
}

NodeId graph_add_node(Graph *g, Op op, const ValueId *in, int n_in, const Attrs *attrs, LayerId layer, Span span)
{
    int room = op_inputs(op) < 0 ? n_in : op_inputs(op);
    if (n_in > room)
        BUG("%s takes at most %d inputs but got %d", op_text(op), room, n_in);
    Node node = {.op = op, .n_in = (uint16_t)room, .n_out = (uint16_t)op_outputs(op), .layer = layer, .span = span};
    node.in = NEWN(g->arena, ValueId, room + 1);
    if (n_in)
        memcpy(node.in, in, sizeof *in * (size_t)n_in);
    if (attrs)
        node.attrs = *attrs;
    NodeId id = g->nodes.len;
    for (int i = 0; i < node.n_out; i++) {
        node.out[i] = graph_add_value(g, output_dtype(op, i));
        graph_value(g, node.out[i])->def = id;
        graph_value(g, node.out[i])->index = (uint8_t)i;
    }
    vec_push(g->arena, &g->nodes, node);
    return id;
}

ValueId graph_add_param(Graph *g, const char *name, const ParamAttrs *attrs, const Shape *shape, LayerId layer, Span span)
{
    Attrs all;
    memset(&all, 0, sizeof all);
    all.param = *attrs;
    ValueId v = node_out(g, graph_add_node(g, OP_PARAM, NULL, 0, &all, layer, span), 0);
    Value *value = graph_value(g, v);
    value->name = name;
    if (shape && shape->rank >= 0) {
        value->shape = *shape;
        value->known = true;
    }
    return v;
}

Graph *graph_like(Arena *a, const Graph *g)
{
    Graph *new = graph_new(a, g->name, g->batch);
    vec_reserve(a, &new->layers, g->layers.len);
    for (uint32_t i = 0; i < g->layers.len; i++)
        vec_push(a, &new->layers, g->layers.at[i]);
    new->input_shape = g->input_shape;
    return new;
}

NodeId graph_copy_node(Graph *to, const Graph *from, NodeId n, ValueId *map)
{
    const Node *old = graph_node(from, n);
    ValueId *in = NEWN(to->arena, ValueId, old->n_in + 1);
    for (int i = 0; i < old->n_in; i++)
        in[i] = old->in[i] ? map[old->in[i]] : 0;
    NodeId id = graph_add_node(to, old->op, in, old->n_in, &old->attrs, old->layer, old->span);
    graph_node(to, id)->after = map[old->after];
    for (int i = 0; i < old->n_out; i++) {
        const Value *v = graph_value(from, old->out[i]);
        Value *w = graph_value(to, node_out(to, id, i));
        w->dtype = v->dtype;
        w->known = v->known;
        w->batched = v->batched;
        w->shape = v->shape;
        w->name = v->name;
        map[old->out[i]] = node_out(to, id, i);
    }
    return id;
}

int64_t shape_elements(const Shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->dim[i];
    return n;
}

bool shape_equal(const Shape *a, const Shape *b)
{
    return a->rank == b->rank && (a->rank <= 0 || memcmp(a->dim, b->dim, sizeof *a->dim * (size_t)a->rank) == 0);
}

Shape shape_from(int rank, const int64_t *dims)
{
    if (rank < 0 || rank > MAX_RANK)
        BUG("a shape of rank %d", rank);
    Shape s = {.rank = rank};
    for (int i = 0; i < rank; i++)
        s.dim[i] = dims[i];
    return s;
}

const char *shape_text(Arena *a, const Shape *s, bool leave_batch_out)
{
    const char *text = "[";
    for (int i = leave_batch_out ? 1 : 0; i < s->rank; i++)
        text = arena_printf(a, "%s%s%lld", text, text[1] ? ", " : "", (long long)s->dim[i]);
    return arena_printf(a, "%s]", text);
}

size_t dtype_size(DType t)
{
    static const size_t sizes[] = {[DT_F32] = 4, [DT_I32] = 4, [DT_U8] = 1, [DT_I64] = 8, [DT_BF16] = 2, [DT_BF16X2] = 4};
    return sizes[t];
}
