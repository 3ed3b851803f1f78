/* A model over a whole data set. */
#ifndef CNNC_RUNTIME_EVAL_H
#define CNNC_RUNTIME_EVAL_H
#include "runtime/batch.h"
#include "runtime/exec.h"
#include "runtime/metrics.h"

typedef struct {
    Batcher batcher;
    float *out;              /* [batch][out] */
    int64_t *ids;            /* 0 .. n-1 */
} Eval;

/* function: model->eval or model->infer. Owns its buffers (eval_free); data may be shortened but not lengthened between runs. */
bool eval_init(Eval *v, Exec *x, const CnncFunction *function, const Dataset *data, const DataNorm *norm, RtError *e);
bool eval_run(Eval *v, Exec *x, const CnncFunction *function, Metrics *m, RtError *e);   /* adds to m, samples in order */
void eval_free(Eval *v);

int64_t model_in_size(const CnncModel *m);     /* floats of one sample */
int64_t model_out_size(const CnncModel *m);
#endif
