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
    if (!batcher_init(&v->batcher, x, function, data, norm, NULL, function->batch, e))
        return false;
    v->ids = malloc((size_t)(data->n ? data->n : 1) * sizeof *v->ids);
    if (!v->ids) {
        eval_free(v);
        return rt_error_memory(e, (size_t)data->n * sizeof *v->ids);
    }
    for (int64_t i = 0; i < data->n; i++)
        v->ids[i] = i;
    return true;
}

/* Waits for the oldest batch, whose first sample is `first`. */
static bool take_batch(Eval *v, int64_t first, Metrics *m, RtError *e)
{
    int at = batcher_finish(&v->batcher, e);
    const ExecCall *c = &v->batcher.calls[at < 0 ? 0 : at];
    return at >= 0 && metrics_add(m, c->out, c->labels, c->n, first, e);
}

/* Calls of a run that ended early are waited for: the next one starts with none in flight. */
static bool give_up(Eval *v)
{
    while (v->batcher.in_flight)
        batcher_finish(&v->batcher, NULL);
    return false;
}

bool eval_run(Eval *v, Metrics *m, RtError *e)
{
    Batcher *b = &v->batcher;
    const float scalars[CNNC_SC_COUNT] = {0};
    int64_t n = b->data->n, batch = b->calls[0].batch, taken = 0;
    for (int64_t first = 0; first < n || b->in_flight;) {
        if (v->stop && *v->stop) {
            rt_error(e, RT_INTERRUPTED, "interrupted");
            return give_up(v);
        }
        if (first < n) {
            if (batcher_start(b, v->ids + first, n - first < batch ? n - first : batch, 0, scalars, e) < 0)
                return give_up(v);
            first += batch;
        }
        if (first < n && !batcher_full(b))
            continue;
        if (!take_batch(v, taken, m, e))
            return give_up(v);
        taken += batch;
    }
    return true;
}

void eval_free(Eval *v)
{
    batcher_free(&v->batcher);
    free(v->ids);
    *v = (Eval){0};
}
