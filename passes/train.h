/* Train: the state of building one training step, shared by train_step.c, batchnorm.c, loss.c, grad.c, grad_rules.c and
 * optimizer.c. Lives during train_step; everything it points to is in the arena of the new graph. */
#ifndef CNNC_PASSES_TRAIN_H
#define CNNC_PASSES_TRAIN_H
#include "passes/pass.h"
#include "passes/rewrite.h"

typedef struct {
    Rewrite rw;                 /* the forward graph as written -> the step */
    Graph *g;                   /* == rw.to */
    const TrainSpec *spec;
    Diags *diags;
    uint32_t n_forward;         /* nodes [1, n_forward) of g are the forward pass and the loss */
    uint32_t n_values;          /* values [1, n_values) of g are theirs; needs and grad are indexed by these */
    bool *needs;                /* a trainable parameter lies upstream, so a gradient is wanted */
    ValueId *grad;              /* the gradient found so far, 0 = none */
    ValueId scalar[CNNC_SC_COUNT];   /* the run-time scalars used so far, 0 = not yet */
    uint32_t streams;           /* dropout streams handed out */
} Train;

/* train_step.c: the run-time scalar `which`, made when first asked for. */
ValueId train_scalar(Train *t, CnncScalar which);

/* batchnorm.c: batch norm `n` of r->from with the statistics of the batch: BN_STATS + BN_TRAIN in r->to. Maps the output; returns
 * the BN_STATS node. */
NodeId batchnorm_by_batch(Rewrite *r, NodeId n);

/* loss.c: labels and loss behind the net's output. Returns the gradient at the output, or 0 after an error. */
ValueId loss_attach(Train *t);

/* grad.c: walks the forward nodes backwards from the output's gradient, and updates parameters. */
void grad_walk(Train *t, ValueId d_output);
/* For rules: dv is one more gradient of forward value v (ignored when none is wanted). */
void grad_flow(Train *t, ValueId v, ValueId dv);
static inline bool grad_wanted(const Train *t, ValueId v) { return v && t->needs[v]; }
/* grad_rules.c: one rule per `grad` column of ops.def. n: a copy of the forward node (the graph's own array moves while nodes
 * are added); dy: gradient of its first output. */
typedef void (*GradRule)(Train *t, const Node *n, ValueId dy);
GradRule grad_rule(Op op);      /* NULL for grad_none: nothing flows back */

/* optimizer.c: the update of trainable parameter p by its gradient. */
void optimizer_update(Train *t, ValueId p, ValueId gradient);
#endif
