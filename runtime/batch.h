/* Batches of a data set in memory that a step can read, put together by all threads.
 * A Batcher owns its buffers (batcher_free) and borrows the rest. */
#ifndef CNNC_RUNTIME_BATCH_H
#define CNNC_RUNTIME_BATCH_H
#include "runtime/augment.h"
#include "runtime/data.h"
#include "runtime/threads.h"

typedef struct {
    Threads *threads;
    const Dataset *data;
    const DataNorm *norm;
    const AugmentPlan *augment;     /* NULL: samples as they are */
    int64_t capacity, sample;       /* largest batch; floats of one sample of x */
    float *x;                       /* [capacity][sample], aligned to 64 */
    void *labels;                   /* int32[capacity] or float[capacity][target] */
} Batcher;

/* sample: what the model takes; fails with RT_FILE when the samples, augmented, are of another size. */
bool batcher_init(Batcher *b, Threads *threads, const Dataset *data, const DataNorm *norm, const AugmentPlan *augment, int64_t capacity,
                  int64_t sample, RtError *e);
void batcher_free(Batcher *b);
int batcher_slices(int64_t n);      /* parts of a batch of n that threads can take */
bool batcher_fill(Batcher *b, const int64_t *ids, int64_t n, int64_t epoch, RtError *e);   /* n <= capacity */
#endif
