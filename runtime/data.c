/* Opens data sets, checks that they fit the model, and splits them.
 * In: a DataRequest. Out: a DataPair.
 * Relies on the readers for storage; leaves sets whose shape and labels the model can take.
 * Idea: readers know files, this file knows models; what is common to all sets is said once. */
#include "runtime/data.h"
#include "runtime/data_readers.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- for the readers ---- */

char *path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder), m = strlen(name);
    char *s = malloc(n + m + 2);
    if (!s)
        return NULL;
    memcpy(s, folder, n);
    if (n && folder[n - 1] != '/')
        s[n++] = '/';
    memcpy(s + n, name, m + 1);
    return s;
}

void data_set_shape(Dataset *d, int rank, const int64_t *shape)
{
    d->rank = rank;
    d->sample = 1;
    for (int i = 0; i < rank; i++) {
        d->shape[i] = shape[i];
        d->sample *= shape[i];
    }
}

char **data_copy_names(const char *const *names, int32_t n)
{
    char **out = calloc((size_t)n + 1, sizeof *out);
    for (int32_t i = 0; out && i < n; i++) {
        out[i] = strdup(names[i]);
        if (!out[i]) {
            while (i--)
                free(out[i]);
            free(out);
            return NULL;
        }
    }
    return out;
}

void data_free(Dataset *d)
{
    if (!d->view) {
        free(d->u8);
        free(d->f32);
        for (int64_t i = 0; i < d->n_files; i++)
            free(d->files[i].path);
        free(d->files);
        free(d->labels);
        free(d->targets);
        for (int32_t i = 0; d->class_names && i < d->n_classes; i++)
            free(d->class_names[i]);
        free(d->class_names);
    }
    free(d->rows);
    *d = (Dataset){0};
}

void data_pair_free(DataPair *p)
{
    data_free(&p->valid);
    data_free(&p->train);
    p->has_valid = false;
}

/* ---- fitting the model ---- */

static void shape_text(char *out, size_t cap, int rank, const int64_t *shape)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < rank && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%" PRId64, i ? "x" : "", shape[i]);
}

static bool check_shape(const DataRequest *r, Dataset *d, RtError *e)
{
    int64_t want = 1;
    bool same = r->in_rank == d->rank, crops = r->may_crop && r->in_rank == 3 && d->rank == 3 && r->in_shape[0] == d->shape[0];
    for (int i = 0; i < r->in_rank; i++) {
        want *= r->in_shape[i];
        same = same && r->in_shape[i] == d->shape[i];
        crops = crops && r->in_shape[i] <= d->shape[i];
    }
    /* plain features take pictures flattened, and single values need no axis of their own */
    if (same || r->in_rank == 0 || ((r->in_rank == 1 || d->rank <= 1) && want == d->sample))
        return true;
    if (crops) {
        d->crop[0] = r->in_shape[1];
        d->crop[1] = r->in_shape[2];
        return true;
    }
    char have[128], need[128];
    shape_text(have, sizeof have, d->rank, d->shape);
    shape_text(need, sizeof need, r->in_rank, r->in_shape);
    return rt_error(e, RT_FILE, "the data in '%s' has samples of %s, the model takes %s", r->path, have, need);
}

static bool labels_to_targets(Dataset *d, RtError *e)
{
    d->targets = malloc((size_t)d->n * sizeof *d->targets + 1);
    if (!d->targets)
        return rt_error_memory(e, (size_t)d->n * sizeof *d->targets);
    for (int64_t i = 0; i < d->n; i++)
        d->targets[i] = (float)d->labels[i];
    d->target = 1;
    free(d->labels);
    d->labels = NULL;
    return true;
}

static bool check_targets(const DataRequest *r, Dataset *d, RtError *e)
{
    if (r->regression && d->labels && !labels_to_targets(d, e))
        return false;
    if (d->targets && r->n_outputs && d->target != r->n_outputs)
        return rt_error(e, RT_FILE,
                        "the data in '%s' has %" PRId64 " target values per sample, the model has %" PRId64 " outputs", r->path,
                        d->target, r->n_outputs);
    for (int64_t i = 0; d->labels && i < d->n; i++) {
        if (d->labels[i] < 0 || (r->n_outputs && d->labels[i] >= r->n_outputs))
            return rt_error(e, RT_FILE,
                            "label %d of sample %" PRId64 " in '%s' is out of bounds: the model has %" PRId64 " outputs",
                            d->labels[i], i, r->path, r->n_outputs);
        if (d->labels[i] >= d->n_classes && !d->class_names)
            d->n_classes = d->labels[i] + 1;
    }
    return true;
}

static bool check(const DataRequest *r, Dataset *d, const char *part, RtError *e)
{
    if (d->n == 0)
        return rt_error(e, RT_FILE, "there are no %s samples in '%s'", part, r->path);
    return check_shape(r, d, e) && check_targets(r, d, e);
}

DataRequest data_request(const CnncModel *m)
{
    DataRequest r = {.in_rank = m->in_rank,
                     .in_shape = m->in_shape,
                     .class_names = m->class_names,
                     .n_class_names = m->n_classes,
                     .want_train = true,
                     .want_valid = true,
                     .n_outputs = 1};
    for (int i = 0; i < m->out_rank; i++)
        r.n_outputs *= m->out_shape[i];
    const CnncTrain *t = m->train;
    if (!t)
        return r;
    r.kind = (CnncData)t->data;
    r.path = t->data_path;
    r.path2 = t->data_path2;
    r.valid_path = t->valid_path;
    r.valid_path2 = t->valid_path2;
    r.size[0] = t->data_size[0];
    r.size[1] = t->data_size[1];
    r.regression = t->loss == 1 && t->data == CNNC_DATA_NPY;   /* class ids otherwise: the step compares with one-hot targets */
    for (int i = 0; i < t->n_augment; i++)
        r.may_crop |= t->augment[i].kind == CNNC_AUG_CROP;
    return r;
}

bool data_open(const DataRequest *r, DataPair *out, RtError *e)
{
    *out = (DataPair){0};
    bool ok;
    if (!r->path && r->kind != CNNC_DATA_NONE)
        return rt_error(e, RT_USAGE, "no path is given for the data");
    switch (r->kind) {
    case CNNC_DATA_MNIST:
    case CNNC_DATA_FASHION:
    case CNNC_DATA_DIGITS:
        ok = data_open_mnist(r, out, e);
        break;
    case CNNC_DATA_CIFAR10:
    case CNNC_DATA_CIFAR100:
        ok = data_open_cifar(r, out, e);
        break;
    case CNNC_DATA_FOLDER:
        ok = data_open_folder(r, out, e);
        break;
    case CNNC_DATA_NPY:
        ok = data_open_npy(r, out, e);
        break;
    default:
        return rt_error(e, RT_FAIL, "the train block names no data");
    }
    ok = ok && (!r->want_train || check(r, &out->train, "training", e)) && (!out->has_valid || check(r, &out->valid, "test", e));
    if (!ok)
        data_pair_free(out);
    return ok;
}

/* ---- splitting ---- */

static Dataset view_of(const Dataset *d, int64_t n, int64_t *rows)
{
    Dataset v = *d;
    v.n = n;
    v.rows = rows;
    v.view = true;
    return v;
}

bool data_split(DataPair *pair, double fraction, Rng *g, RtError *e)
{
    if (fraction <= 0)
        return true;
    Dataset *d = &pair->train;
    int64_t n = d->n, n_valid = (int64_t)((double)n * fraction), n_train = n - n_valid;
    if (fraction >= 1 || n_valid < 1 || n_train < 1)
        return rt_error(e, RT_FILE, "a fraction of %g of %" PRId64 " samples leaves no data to %s", fraction, n,
                        n_valid < 1 ? "test with" : "train on");
    int64_t *order = malloc((size_t)n * sizeof *order), *valid = malloc((size_t)n_valid * sizeof *valid);
    if (!order || !valid) {
        free(order);
        free(valid);
        return rt_error_memory(e, (size_t)n * sizeof *order);
    }
    rng_permutation(g, n, order);
    for (int64_t i = 0; d->rows && i < n; i++)
        order[i] = d->rows[order[i]];
    memcpy(valid, order + n_train, (size_t)n_valid * sizeof *valid);
    data_free(&pair->valid);
    pair->valid = view_of(d, n_valid, valid);
    pair->has_valid = true;
    free(d->rows);
    d->rows = order;
    d->n = n_train;
    return true;
}

void data_truncate(Dataset *d, int64_t n)
{
    if (n < d->n && n > 0)
        d->n = n;
}
