/* The passes: each one file, one function, one name (passes.def), one dump. A pass returns false when it put errors into
 * diags (user errors) and never aborts on user input. */
#ifndef CNNC_PASSES_PASS_H
#define CNNC_PASSES_PASS_H
#include "ir/graph.h"
#include "passes/train_spec.h"

/* shape.c: annotates shapes, fills in INFER attributes and parameter shapes and init bounds, resolves 'same', sets
 * Layer.printed. Reports every shape error with the arithmetic. Values that depend on an error stay unknown, silently. */
bool shape(Graph *g, Diags *d);
/* lint.c: warnings only (LANGUAGE.md section 2). */
void lint(const Module *m, Diags *d);
/* batchnorm.c: inference: conv or linear before batchnorm becomes one with folded weights; other batchnorms become affine.
 * Dropout vanishes. New graph. */
Graph *bn_fold(Arena *a, const Graph *g);
/* train_step.c, loss.c, grad.c, grad_rules.c, optimizer.c: the training step as one graph of ordinary ops: forward in training
 * mode, loss, gradients, updates. NULL with an error when the net cannot be trained as asked. */
Graph *train_step(Arena *a, const Graph *g, const TrainSpec *t, Diags *d);
/* batchnorm.c: the net with running statistics read from state and no dropout. New graph. */
Graph *eval_graph(Arena *a, const Graph *g);
/* simplify.c: identities, equal nodes, dead code, padding into convs, maxpool(relu(x)) -> relu(maxpool(x)). New graph. */
Graph *simplify(Arena *a, const Graph *g);
/* recompute.c: a training step in which values of the forward pass are made again for the gradients instead of kept: the same numbers
 * with less memory. CHEAP: those that follow point by point from others at hand; MOST: all but a few between segments. New graph; what
 * it makes again has Node.after, which simplify does not know. recompute_pays: are the cheap ones so large that it takes no longer? */
typedef enum { RECOMPUTE_NOTHING, RECOMPUTE_CHEAP, RECOMPUTE_MOST } RecomputeWhat;
Graph *recompute(Arena *a, const Graph *g, RecomputeWhat what);
bool recompute_pays(Arena *a, const Graph *g);
/* fuse.c: which nodes share a kernel. A group is a tree of elementwise nodes (OPF_MAP, BATCHNORM, BN_TRAIN, BN_DX, optimizers;
 * SLICE and GLU at its leaves) with at most one other node, the anchor: conv + add + act; conv.dx + add + act.dx; conv.dw + sgd;
 * before a pool whose windows do not overlap elementwise work on its input: bn.train + maxpool + act. Inner values have one
 * reader and no storage; an anchor's further outputs (a pool's index) are stored where the group runs, at its last node.
 * Operands that come from outside are loads. RESHAPE and RESHAPE_BACK are single and free. */
typedef struct {
    NodeId *root;     /* by NodeId: the last node of its group; 0: no kernel (leaves, FOLD_*) */
    NodeId *anchor;   /* by root: the group's anchor, 0 = none (elementwise work only) */
} Fusion;
Fusion fuse(Arena *a, const Graph *g);
Fusion fuse_none(Arena *a, const Graph *g);   /* every node its own group */
void fusion_print(const Graph *g, Fusion f, FILE *to);

/* ---- pass.c: the runner ---- */
typedef enum {
#define PASS(name, ...) PASS_##name,
#include "passes/passes.def"
#undef PASS
    PASS_COUNT
} PassId;

/* CHECK: shapes and warnings, in place on module->graph; before any other. The others leave module->graph as it is. */
typedef enum { PIPELINE_CHECK, PIPELINE_INFER, PIPELINE_EVAL, PIPELINE_TRAIN } Pipeline;

typedef struct PassContext {
    Arena *arena;
    Diags *diags;
    Module *module;
    bool off[PASS_COUNT];   /* --no-NAME, optional passes only */
    RecomputeWhat recompute; /* of training steps; --recompute: MOST */
    bool verify;            /* --verify-each; always on in builds with CNNC_CHECKS */
    bool time;              /* --time-passes: one line a pass on stderr */
    const char *dump;       /* --dump NAME: after that pass's last run in a pipeline the graph goes to dump_to; NULL: none */
    FILE *dump_to;
    bool dumped;            /* set when that happened */
    Fusion fusion;          /* after INFER, EVAL, TRAIN: of the graph returned */
} PassContext;

/* Runs the pipeline; the resulting graph, or NULL when diags has new errors. */
Graph *passes_run(PassContext *c, Pipeline which);
const char *pass_name(PassId p);
const char *pass_text(PassId p);            /* what it does, in a line */
bool pass_is_optional(PassId p);
PassId pass_find(const char *name);         /* PASS_COUNT: there is none of that name */
#endif
