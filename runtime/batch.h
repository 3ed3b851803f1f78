/* Batches of a data set, put together by all threads and handed to the device: as inputs, or, where the device normalises and
 * augments itself, as they lie in the set. A Batcher owns its calls (batcher_free) and borrows the rest. */
#ifndef CNNC_RUNTIME_BATCH_H
#define CNNC_RUNTIME_BATCH_H
#include "runtime/augment.h"
#include "runtime/data.h"
#include "runtime/exec.h"

typedef struct {
    Exec *exec;
    const Dataset *data;
    const DataNorm *norm;
    const AugmentPlan *augment;     /* NULL: samples as they are */
    int64_t sample;                 /* floats of one input */
    ExecCall calls[EXEC_DEPTH];     /* a ring: `in_flight` of them from `oldest` on */
    int n_calls, oldest, in_flight;
} Batcher;

/* Calls of function with at most `batch` samples. Fails with RT_FILE when the samples, augmented, are of another size than the
 * model takes. */
bool batcher_init(Batcher *b, Exec *x, const CnncFunction *function, const Dataset *data, const DataNorm *norm, const AugmentPlan *augment,
                  int64_t batch, RtError *e);
void batcher_free(Batcher *b);
int batcher_slices(int64_t n);      /* parts of a batch of n that threads can take */
/* Fills the next call and starts it; its number in `calls` is given, or -1. There must be a free one: not batcher_full. */
int batcher_start(Batcher *b, const int64_t *ids, int64_t n, int64_t epoch, const float scalars[CNNC_SC_COUNT], RtError *e);
static inline bool batcher_full(const Batcher *b) { return b->in_flight == b->n_calls; }
/* Waits for the oldest call in flight; its number, or -1. It stays readable until the next start. */
int batcher_finish(Batcher *b, RtError *e);
#endif
