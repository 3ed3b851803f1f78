/* The reference interpreter: what every op means, in double precision, one plain loop nest per op, never optimised. It is
 * the specification: generated code, kernels and passes are tested against it, `verify` and `--selftest` use it, and
 * weights are folded by it.
 *
 * Ownership: results live in the arena given to ref_run; the caller's arrays are read and never kept past the run's use.
 * Numbers: every value is an array of doubles in row-major order, integers (labels, pooling indices, batch counts) too:
 * they are exact up to 2^53. A batched value has n rows, the real number of samples, not graph->batch. */
#ifndef CNNC_IR_REF_REF_H
#define CNNC_IR_REF_REF_H
#include "ir/graph.h"

/* data == NULL: no value (not computed, or an output that has no meaning: RMSprop's buf' without a buf). */
typedef struct { Shape shape; double *data; } RefTensor;

/* floats: the values where data is NULL: large weights need not be held as doubles. */
typedef struct { const char *name; const double *data; int64_t count; const float *floats; } RefNamed;
typedef struct {
    int64_t n;                  /* real samples, 1..graph->batch */
    const double *input;        /* [n][input shape] */
    const double *labels;       /* class ids or targets; NULL for graphs without labels */
    const double *scalars;      /* indexed by CnncScalar (the seed as a number); NULL for graphs without scalars */
    int32_t n_scalars;
    const RefNamed *params;     /* state tensors by name */
    int32_t n_params;
    const double *const *param_of_value;   /* or by ValueId, looked at first; entries and the array itself may be NULL */
    const ValueId *want;        /* compute only what these n_want values need; NULL: everything */
    int32_t n_want;
} RefInputs;

typedef struct {
    const Graph *graph;
    RefTensor *value;           /* indexed by ValueId */
    const char *error;          /* NULL: fine; else what was missing or did not fit, and values stop there */
} RefRun;

/* A named tensor as doubles: its data, or a copy in the arena. */
const double *ref_named_data(Arena *a, const RefNamed *t);
RefRun *ref_run(Arena *a, const Graph *g, const RefInputs *in);
/* One node: reads its inputs' tensors in value[] (indexed by ValueId) and fills in its outputs', n rows for batched ones.
 * For constants (fold.weight of parameters) and for tests. Not for leaves. */
void ref_run_node(Arena *a, const Graph *g, NodeId node, int64_t n, RefTensor *value);
#endif
