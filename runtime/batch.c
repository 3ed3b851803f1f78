/* Batches.
 * In: sample numbers. Out: normalised, augmented inputs and their labels.
 * Invariant: a sample's values depend on the sample and the epoch alone, never on its neighbours or on threads.
 * Idea: threads fill disjoint runs of samples; the first error to arrive is the one reported. */
#include "runtime/batch.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_PER_SLICE = 8, ALIGN = 64 };

typedef struct {
    Batcher *b;
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

bool batcher_init(Batcher *b, Threads *threads, const Dataset *data, const DataNorm *norm, const AugmentPlan *augment,
                  int64_t capacity, int64_t sample, RtError *e)
{
    *b = (Batcher){.threads = threads, .data = data, .norm = norm, .augment = augment, .capacity = capacity, .sample = sample};
    if (!check_size(data, augment, sample, e))
        return false;
    size_t bytes = ((size_t)(capacity * sample) * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    size_t target = data->targets ? (size_t)data->target * sizeof(float) : sizeof(int32_t);
    b->x = aligned_alloc(ALIGN, bytes ? bytes : ALIGN);
    b->labels = calloc((size_t)capacity, target);
    if (b->x && b->labels) {
        memset(b->x, 0, bytes);
        return true;
    }
    batcher_free(b);
    return rt_error_memory(e, bytes);
}

void batcher_free(Batcher *b)
{
    free(b->x);
    free(b->labels);
    b->x = NULL;
    b->labels = NULL;
}

int batcher_slices(int64_t n) { return (int)((n + SAMPLES_PER_SLICE - 1) / SAMPLES_PER_SLICE); }

static void fill_slice(void *context, int thread, int64_t slice)
{
    (void)thread;
    Fill *f = context;
    Batcher *b = f->b;
    int64_t start = slice * SAMPLES_PER_SLICE, n = f->n - start < SAMPLES_PER_SLICE ? f->n - start : SAMPLES_PER_SLICE;
    size_t target = b->data->targets ? (size_t)b->data->target * sizeof(float) : sizeof(int32_t);
    RtError e = {0};
    if (data_batch(b->data, f->ids + start, n, b->norm, b->augment, f->epoch, b->x + start * b->sample,
                   (char *)b->labels + (size_t)start * target, &e))
        return;
    if (!atomic_flag_test_and_set(&f->failed_first)) {
        f->error = e;
        atomic_store(&f->failed, true);
    }
}

bool batcher_fill(Batcher *b, const int64_t *ids, int64_t n, int64_t epoch, RtError *e)
{
    Fill f = {.b = b, .ids = ids, .n = n, .epoch = epoch, .failed_first = ATOMIC_FLAG_INIT};
    threads_run(b->threads, fill_slice, &f, batcher_slices(n));
    if (!atomic_load(&f.failed))
        return true;
    if (e)
        *e = f.error;
    return false;
}
