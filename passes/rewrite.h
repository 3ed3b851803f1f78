/* Rewrite: what the passes that build a new graph share: the map from old values to new ones, and nodes with their shapes.
 * Everything lives in the arena of the new graph. */
#ifndef CNNC_PASSES_REWRITE_H
#define CNNC_PASSES_REWRITE_H
#include "ir/graph.h"

typedef struct {
    const Graph *from;
    Graph *to;
    ValueId *map;               /* by ValueId of `from`: its value in `to`, 0 = not there (yet) */
} Rewrite;

Rewrite rewrite_begin(Arena *a, const Graph *from);
NodeId rewrite_copy(Rewrite *r, NodeId n);
/* Carries over the graph's input, output, labels, loss, correct, updates and the values of layers; returns `to`. A layer
 * whose value is gone gets 0. */
Graph *rewrite_end(Rewrite *r);

/* Where a new node comes from: the layer and source span that messages about it point at. */
typedef struct { LayerId layer; Span span; } Origin;
static inline Origin origin_of(const Node *n) { return (Origin){n->layer, n->span}; }

#define VALUES(...) (const ValueId[]){__VA_ARGS__}, (int)(sizeof((const ValueId[]){__VA_ARGS__}) / sizeof(ValueId))

/* Appends a node; outputs get shapes by emit_like or emit_shape. */
NodeId emit_node(Graph *g, Origin o, Op op, const ValueId *in, int n_in, const Attrs *attrs);
/* Output i of node n: shape and batch axis of `like`. Returns the output. */
ValueId emit_like(Graph *g, NodeId n, int i, ValueId like);
/* Output i of node n: this shape, no batch axis. Returns the output. */
ValueId emit_shape(Graph *g, NodeId n, int i, Shape s);

/* How often each value is read, by ValueId: operands of nodes (all of them, or only those whose values count: op_reads),
 * one more for each way out of the graph (output, loss, correct, a state's next value). */
uint32_t *count_uses(Arena *a, const Graph *g, bool shapes_too);
#endif
