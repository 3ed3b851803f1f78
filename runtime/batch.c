/* Batches.
 * In: sample numbers. Out: calls started with normalised, augmented inputs and their labels.
 * Invariant: a sample's values depend on the sample and the epoch alone, never on its neighbours, on threads or on the device.
 * Idea: threads fill disjoint runs of samples while the device works on the calls before; the first error to arrive is the
 * one reported. */
#include "runtime/batch.h"
#include "runtime/eval.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_PER_SLICE = 8 };

typedef struct {
    const Batcher *b;
    const ExecCall *call;
    const int64_t *ids;
    int64_t n, epoch;
    atomic_flag failed_first;
    atomic_bool failed;
    RtError error;
} Fill;

static bool check_size(const Dataset *d, const AugmentPlan *augment, int64_t sample, RtError *e)
{
    int64_t h = d->rank == 3 ? d->shape[1] : 0, w = d->rank == 3 ? d->shape[2] : 0, size = d->sample;
    if (augment && augment->n > 0 && d->rank != 3)
        return rt_error(e, RT_FAIL, "augment needs pictures (channels, height, width), but the samples have rank %d", d->rank);
    if (augment && augment->n > 0) {
        if (!augment_out_size(augment, h, w, &h, &w, e))
            return false;
        size = d->shape[0] * h * w;
    } else if (d->crop[0]) { /* nothing crops at random: the middle is used */
        h = d->crop[0];
        w = d->crop[1];
        size = d->shape[0] * h * w;
    }
    if (size == sample)
        return true;
    if (d->rank == 3)
        return rt_error(e, RT_FILE, "the pictures are %lld x %lld x %lld (%lld values), but the model takes %lld values",
                        (long long)d->shape[0], (long long)h, (long long)w, (long long)size, (long long)sample);
    return rt_error(e, RT_FILE, "the samples have %lld values, but the model takes %lld", (long long)size, (long long)sample);
}

static size_t label_bytes(const Dataset *d) { return d->targets ? (size_t)d->target * sizeof(float) : sizeof(int32_t); }

bool batcher_init(Batcher *b, Exec *x, const CnncFunction *function, const Dataset *data, const DataNorm *norm,
                  const AugmentPlan *augment, int64_t batch, RtError *e)
{
    *b = (Batcher){.exec = x, .data = data, .norm = norm, .augment = augment, .sample = model_in_size(x->model)};
    ExecCallShape shape = {.function = function, .batch = batch, .label_bytes = (int64_t)label_bytes(data)};
    DataFeed feed = {0};
    bool fine = check_size(data, augment, b->sample, e) && (!x->device->feeds || data_feed(data, norm, augment, &feed, e));
    shape.feed = x->device->feeds ? &feed : NULL;
    while (fine && b->n_calls < x->device->depth) {
        fine = exec_call_open(x, &b->calls[b->n_calls], &shape, e);
        b->n_calls += fine;
    }
    data_feed_free(&feed);
    if (!fine)
        batcher_free(b);
    return fine;
}

void batcher_free(Batcher *b)
{
    for (int i = 0; i < b->n_calls; i++)
        exec_call_close(b->exec, &b->calls[i]);
    b->n_calls = 0;
}

int batcher_slices(int64_t n) { return (int)((n + SAMPLES_PER_SLICE - 1) / SAMPLES_PER_SLICE); }

static bool fill_samples(const Fill *f, int64_t start, int64_t n, RtError *e)
{
    const Batcher *b = f->b;
    const Dataset *d = b->data;
    const ExecCall *c = f->call;
    char *labels = (char *)c->labels + (size_t)start * label_bytes(d);
    if (c->x)
        return data_batch(d, f->ids + start, n, b->norm, b->augment, f->epoch, c->x + start * b->sample, labels, e);
    char *samples = (char *)c->samples + start * d->sample * data_value_bytes(d);
    return data_raw_batch(d, f->ids + start, n, b->augment, f->epoch, samples, c->views + start, labels, e);
}

static void fill_slice(void *context, int thread, int64_t slice)
{
    (void)thread;
    Fill *f = context;
    int64_t start = slice * SAMPLES_PER_SLICE, n = f->n - start < SAMPLES_PER_SLICE ? f->n - start : SAMPLES_PER_SLICE;
    RtError e = {0};
    if (fill_samples(f, start, n, &e))
        return;
    if (!atomic_flag_test_and_set(&f->failed_first)) {
        f->error = e;
        atomic_store(&f->failed, true);
    }
}

int batcher_start(Batcher *b, const int64_t *ids, int64_t n, int64_t epoch, const float scalars[CNNC_SC_COUNT], RtError *e)
{
    int at = (b->oldest + b->in_flight) % b->n_calls;
    ExecCall *c = &b->calls[at];
    Fill f = {.b = b, .call = c, .ids = ids, .n = n, .epoch = epoch, .failed_first = ATOMIC_FLAG_INIT};
    threads_run(b->exec->threads, fill_slice, &f, batcher_slices(n));
    if (atomic_load(&f.failed)) {
        if (e)
            *e = f.error;
        return -1;
    }
    c->n = n;
    memcpy(c->scalars, scalars, sizeof c->scalars);
    if (!exec_start(b->exec, c, e))
        return -1;
    b->in_flight++;
    return at;
}

int batcher_finish(Batcher *b, RtError *e)
{
    int at = b->oldest;
    b->oldest = (at + 1) % b->n_calls;
    b->in_flight--;
    return exec_finish(b->exec, &b->calls[at], e) ? at : -1;
}
