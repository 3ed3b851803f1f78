/* Evaluation.
 * In: a function without side effects, a data set. Out: metrics.
 * Invariant: samples are taken in order and only read. Idea: the same batches as training, no augmentation. */
#include "runtime/eval.h"
#include <stdlib.h>
#include <string.h>

static int64_t product(int32_t rank, const int64_t *shape)
{
    int64_t n = 1;
    for (int32_t i = 0; i < rank; i++)
        n *= shape[i];
    return n;
}

int64_t model_in_size(const CnncModel *m) { return product(m->in_rank, m->in_shape); }
int64_t model_out_size(const CnncModel *m) { return product(m->out_rank, m->out_shape); }

char *data_request_path(DataRequest *q, const char *path)
{
    char *copy = path ? strdup(path) : NULL, *comma = copy && q->kind == CNNC_DATA_NPY ? strchr(copy, ',') : NULL;
    if (!copy)
        return NULL;
    q->path = copy;
    if (comma) {
        *comma = '\0';
        q->path2 = comma + 1;
    }
    return copy;
}

bool eval_init(Eval *v, Exec *x, const CnncFunction *function, const Dataset *data, const DataNorm *norm, RtError *e)
{
    *v = (Eval){0};
    if (!batcher_init(&v->batcher, x->threads, data, norm, NULL, function->batch, model_in_size(x->model), e))
        return false;
    size_t outs = (size_t)(function->batch * model_out_size(x->model));
    v->out = calloc(outs, sizeof *v->out);
    v->ids = malloc((size_t)(data->n ? data->n : 1) * sizeof *v->ids);
    if (!v->out || !v->ids) {
        eval_free(v);
        return rt_error_memory(e, outs * sizeof *v->out);
    }
    for (int64_t i = 0; i < data->n; i++)
        v->ids[i] = i;
    return true;
}

bool eval_run(Eval *v, Exec *x, const CnncFunction *function, Metrics *m, RtError *e)
{
    const Dataset *d = v->batcher.data;
    float scalars[CNNC_SC_COUNT] = {0}, results[CNNC_RES_COUNT] = {0};
    for (int64_t first = 0; first < d->n; first += function->batch) {
        int64_t n = d->n - first < function->batch ? d->n - first : function->batch;
        if (v->stop && *v->stop)
            return rt_error(e, RT_INTERRUPTED, "interrupted");
        if (!batcher_fill(&v->batcher, v->ids + first, n, 0, e))
            return false;
        CnncArgs args = {
            .in = v->batcher.x, .labels = v->batcher.labels, .out = v->out, .scalars = scalars, .results = results, .n = n};
        exec_run(x, function, &args);
        if (!metrics_add(m, v->out, v->batcher.labels, n, first, e))
            return false;
    }
    return true;
}

void eval_free(Eval *v)
{
    batcher_free(&v->batcher);
    free(v->out);
    free(v->ids);
    *v = (Eval){0};
}
