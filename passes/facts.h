/* Facts about a shaped forward graph, layer by layer: what report, explain and lint tell. All in the arena given. */
#ifndef CNNC_PASSES_FACTS_H
#define CNNC_PASSES_FACTS_H
#include "ir/graph.h"

/* The part of the picture that one number depends on. whole: everything (after Flatten and Linear). */
typedef struct {
    bool whole;
    int32_t nd;
    int64_t size[MAX_SPATIAL];
    double jump[MAX_SPATIAL];
} Field;
typedef struct {
    const Layer *layer;
    NodeId main;                        /* the node that does the layer's work; 0: none (Identity) */
    Shape in, out;                      /* with the batch; rank 0 when unknown */
    int64_t params, trainable, buffers; /* elements */
    int64_t macs;                       /* per sample, without bias */
    int64_t activation_bytes;           /* of the output, at the graph's batch */
    Field field;
    const char *formula; /* one line with numbers, never NULL */
} LayerFacts;
typedef struct {
    LayerFacts *layer; /* as graph->layers */
    uint32_t n;
    Field *field; /* by ValueId */
    int64_t params, trainable, buffers, macs;
} Facts;

Facts facts_of(Arena *a, const Graph *g);
const char *act_formula(ActKind k); /* "max(0, x)" */
const char *node_formula(Arena *a, const Graph *g, const Node *n);
/* Peak bytes that one inference or training step needs, by counting what is alive; weights included. The planner's sums are
 * exact and replace it where there is a plan. optimizer_tensors: state per parameter (SGD with momentum 1, Adam 2). */
int64_t estimate_inference_bytes(Arena *a, const Graph *g, int64_t batch);
int64_t estimate_training_bytes(Arena *a, const Graph *g, int64_t batch, int optimizer_tensors);
#endif
