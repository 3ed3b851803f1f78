/* A model over a whole data set. */
#ifndef CNNC_RUNTIME_EVAL_H
#define CNNC_RUNTIME_EVAL_H
#include "runtime/batch.h"
#include "runtime/exec.h"
#include "runtime/metrics.h"
#include <signal.h>
#include <stdio.h>

typedef struct {
    Batcher batcher;
    int64_t *ids;            /* 0 .. n-1 */
    const volatile sig_atomic_t *stop;   /* when it becomes nonzero, eval_run ends with RT_INTERRUPTED; may be NULL */
} Eval;

/* function: model->eval or model->infer. Owns its buffers (eval_free); data may be shortened but not lengthened between runs. */
bool eval_init(Eval *v, Exec *x, const CnncFunction *function, const Dataset *data, const DataNorm *norm, RtError *e);
bool eval_run(Eval *v, Metrics *m, RtError *e);   /* adds to m, samples in order */
void eval_free(Eval *v);

/* What the `eval` command does: the test data of model->train (or the split part, or else the training data, which is
 * said), its metrics to `to`. */
typedef struct {
    const char *weights; bool partial;   /* read into the state when the model has no folded constants */
    const char *data;                    /* replaces the data's path, as TrainOptions.data */
    uint64_t seed; bool has_seed;        /* of the split */
    int threads;
    bool json;
    int64_t top_losses;
    FILE *to, *notes;                    /* results; remarks, or NULL */
} EvalOptions;
bool eval_model(const CnncModel *m, const EvalOptions *o, RtError *e);

/* --data: a folder, or "x.npy,y.npy" for Npy, in place of the request's own. malloc'd text that the request then points into. */
char *data_request_path(DataRequest *q, const char *path);
int64_t model_in_size(const CnncModel *m);     /* floats of one sample */
int64_t model_out_size(const CnncModel *m);
#endif
