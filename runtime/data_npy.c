/* Reads pairs of .npy files as data sets: Npy("x.npy", "y.npy").
 * In: x[n][...] and y[n] class ids, or y[n][...] target values. Out: Datasets.
 * Relies on npy.c; leaves bytes as bytes (pixels, divided by 255 later) and everything else as float32. */
#include "runtime/data_readers.h"
#include "runtime/npy.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool take_samples(const DataRequest *r, const char *path, Dataset *d, RtError *e)
{
    NpyArray x;
    if (!npy_read(path, &x, e))
        return false;
    bool ok = x.rank >= 1 || rt_error(e, RT_FILE, "'%s' holds one number, not samples", path);
    /* [n][h][w] serves a model that takes one channel */
    bool add_channel = ok && r->in_rank == 3 && x.rank == 3 && r->in_shape[0] == 1;
    if (ok && x.rank - 1 + add_channel > CNNC_MAX_RANK)
        ok = rt_error(e, RT_FILE, "'%s' has %d dimensions; at most %d can be read", path, x.rank, CNNC_MAX_RANK + 1);
    if (ok) {
        int64_t shape[CNNC_MAX_RANK + 1] = {1};
        memcpy(shape + add_channel, x.shape + 1, (size_t)(x.rank - 1) * sizeof *shape);
        data_set_shape(d, x.rank - 1 + add_channel, shape);
        d->n = x.shape[0];
        if (x.dtype == NPY_U8) {
            d->u8 = x.data;
            x.data = NULL;
        } else {
            d->f32 = npy_to_f32(&x, e);
            ok = d->f32 != NULL;
        }
    }
    npy_free(&x);
    return ok;
}

static bool take_labels(const NpyArray *y, const char *path, Dataset *d, RtError *e)
{
    if (y->n != d->n)
        return rt_error(e, RT_FILE,
                        "'%s' should hold one class id per sample; it has several numbers each (MSELoss takes such targets)",
                        path);
    int64_t *ids = npy_to_i64(y, path, e);
    d->labels = ids ? malloc((size_t)d->n * sizeof *d->labels + 1) : NULL;
    bool ok = d->labels || (ids && rt_error_memory(e, (size_t)d->n * sizeof *d->labels));
    for (int64_t i = 0; ok && i < d->n; i++) {
        if (ids[i] < 0 || ids[i] > INT32_MAX)
            ok = rt_error(e, RT_FILE, "'%s': class id %" PRId64 " of sample %" PRId64 " is out of range", path, ids[i], i);
        else
            d->labels[i] = (int32_t)ids[i];
    }
    free(ids);
    return ok;
}

static bool open_pair(const DataRequest *r, const char *x_path, const char *y_path, Dataset *d, RtError *e)
{
    NpyArray y;
    if (!take_samples(r, x_path, d, e) || !npy_read(y_path, &y, e))
        return false;
    bool ok = true;
    if (y.rank < 1 || y.shape[0] != d->n)
        ok = rt_error(e, RT_FILE, "'%s' has %" PRId64 " samples, '%s' has %" PRId64 " targets", x_path, d->n, y_path,
                      y.rank ? y.shape[0] : 0);
    else if (!r->regression)
        ok = take_labels(&y, y_path, d, e);
    else {
        d->targets = npy_to_f32(&y, e);
        d->target = d->n ? y.n / d->n : 1;
        ok = d->targets != NULL;
    }
    npy_free(&y);
    return ok;
}

bool data_open_npy(const DataRequest *r, DataPair *out, RtError *e)
{
    if (!r->path2)
        return rt_error(e, RT_USAGE, "Npy needs two files: the samples and the targets");
    out->has_valid = r->want_valid && r->valid_path;
    if (out->has_valid && !r->valid_path2)
        return rt_error(e, RT_USAGE, "Npy needs two files for the test part: the samples and the targets");
    return (!r->want_train || open_pair(r, r->path, r->path2, &out->train, e)) &&
           (!out->has_valid || open_pair(r, r->valid_path, r->valid_path2, &out->valid, e));
}
