/* The passes: each one file, one function, one name (passes.def), one dump. A pass returns false when it put errors into
 * diags (user errors) and never aborts on user input. */
#ifndef CNNC_PASSES_PASS_H
#define CNNC_PASSES_PASS_H
#include "ir/graph.h"
#include "passes/train_spec.h"

/* shape.c: annotates shapes, fills in INFER attributes and parameter shapes and init bounds, resolves 'same', sets Layer.printed. Reports every
 * shape error with the arithmetic. Values that depend on an error stay unknown, silently. */
bool shape(Graph *g, Diags *d);
/* lint.c: warnings only (LANGUAGE.md section 2). */
void lint(const Module *m, Diags *d);
/* batchnorm.c: inference: conv/linear followed by batchnorm becomes conv/linear with folded weights; other batchnorms become affine. Dropout vanishes. New graph. */
Graph *bn_fold(Arena *a, const Graph *g);
/* loss.c + grad.c + optimizer.c: the training step as one graph of ordinary ops: forward in training mode, loss, gradients, updates. */
Graph *train_step(Arena *a, const Graph *g, const TrainSpec *t, Diags *d);
/* eval.c part of batchnorm.c: the net with running statistics read from state and no dropout. New graph. */
Graph *eval_graph(Arena *a, const Graph *g);
/* simplify.c: constant folding of shapes-only ops, common subexpressions, dead code, maxpool(relu(x)) -> relu(maxpool(x)). New graph. */
Graph *simplify(Arena *a, const Graph *g);
/* fuse.c: which nodes share a kernel. group_of[node] = id of the group's root node (the last node of the group, or the conv). */
typedef struct { NodeId *root; } Fusion;   /* indexed by NodeId */
Fusion fuse(Arena *a, const Graph *g);
#endif
