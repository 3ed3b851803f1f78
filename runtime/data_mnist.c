/* Reads IDX files, and MNIST and FashionMNIST made of them.
 * In: a file or a folder. Out: arrays; data sets of bytes with labels 0 to 9.
 * Relies on nothing in the files: sizes are checked against lengths, counts against each other.
 * Idea: 0 0 type rank, then big-endian u32 dimensions, then big-endian elements; any file may be gzipped. */
#include "runtime/data_readers.h"
#include "runtime/file.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- IDX ---- */

static int type_size(int type)
{
    switch (type) {
    case 0x08:
    case 0x09:
        return 1;
    case 0x0B:
        return 2;
    case 0x0C:
    case 0x0D:
        return 4;
    case 0x0E:
        return 8;
    default:
        return 0;
    }
}

bool idx_looks_like(const uint8_t *b, size_t len)
{
    return len >= 8 && !b[0] && !b[1] && type_size(b[2]) && b[3] >= 1 && b[3] <= CNNC_MAX_RANK;
}

static float element(int type, const uint8_t *p)
{
    switch (type) {
    case 0x09:
        return (int8_t)p[0];
    case 0x0B:
        return (int16_t)(p[0] << 8 | p[1]);
    case 0x0C:
        return (float)(int32_t)load_be32(p);
    case 0x0D: {
        uint32_t bits = load_be32(p);
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    default: {
        uint64_t bits = (uint64_t)load_be32(p) << 32 | load_be32(p + 4);
        double d;
        memcpy(&d, &bits, sizeof d);
        return (float)d;
    }
    }
}

static bool idx_parse(const FileBytes *f, const char *path, IdxArray *a, RtError *e)
{
    if (!idx_looks_like(f->at, f->len))
        return rt_error(e, RT_FILE, f->len ? "'%s' is not an IDX file" : "'%s' is empty", path);
    a->type = f->at[2];
    a->rank = f->at[3];
    size_t head = 4 + 4 * (size_t)a->rank, size = (size_t)type_size(a->type);
    a->n = 1;
    bool fits = f->len >= head;
    for (int i = 0; fits && i < a->rank; i++) {
        a->shape[i] = load_be32(f->at + 4 + 4 * i);
        fits = !__builtin_mul_overflow(a->n, a->shape[i], &a->n);
    }
    if (!fits || (uint64_t)a->n > (f->len - head) / size)
        return rt_error(e, RT_FILE, "'%s' is cut short: its header promises %" PRId64 " elements, %zu bytes follow", path, a->n,
                        f->len < head ? (size_t)0 : f->len - head);
    if (a->type == 0x08)
        a->u8 = malloc((size_t)a->n + 1);
    else
        a->f32 = malloc((size_t)a->n * sizeof *a->f32 + 1);
    if (!a->u8 && !a->f32)
        return rt_error_memory(e, (size_t)a->n * size);
    if (a->u8)
        memcpy(a->u8, f->at + head, (size_t)a->n);
    for (int64_t i = 0; a->f32 && i < a->n; i++)
        a->f32[i] = element(a->type, f->at + head + (size_t)i * size);
    return true;
}

bool idx_read(const char *path, IdxArray *out, RtError *e)
{
    *out = (IdxArray){0};
    FileBytes f;
    if (!file_read_gz(path, &f, e))
        return false;
    bool ok = idx_parse(&f, path, out, e);
    file_free(&f);
    if (!ok)
        idx_free(out);
    return ok;
}

void idx_free(IdxArray *a)
{
    free(a->u8);
    free(a->f32);
    *a = (IdxArray){0};
}

/* ---- MNIST ---- */

static const char *const fashion_names[10] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                              "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
static const char *const digit_names[10] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

/* The path of PART-KIND-idxR-ubyte[.gz] in the folder or where torchvision puts it; malloc'd, NULL when absent. */
static char *find_part(const DataRequest *r, const char *part, const char *kind, int rank)
{
    const char *const folders[] = {"", r->kind == CNNC_DATA_FASHION ? "FashionMNIST/raw/" : "MNIST/raw/", "raw/"};
    static const char *const forms[] = {"%s%s-%s-idx%d-ubyte%s", "%s%s-%s.idx%d-ubyte%s"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        for (int form = 0; form < 4; form++) {
            char name[128];
            snprintf(name, sizeof name, forms[form / 2], folders[i], part, kind, rank, form % 2 ? ".gz" : "");
            char *path = path_join(r->path, name);
            if (path && file_exists(path) && !file_is_folder(path))
                return path;
            free(path);
        }
    return NULL;
}

static bool take(const DataRequest *r, const char *images_path, const char *labels_path, Dataset *d, RtError *e)
{
    IdxArray images, labels = {0};
    if (!idx_read(images_path, &images, e))
        return false;
    bool ok = idx_read(labels_path, &labels, e);
    if (ok && (images.rank != 3 || !images.u8))
        ok = rt_error(e, RT_FILE, "'%s' does not hold pictures: it should have 3 dimensions of bytes", images_path);
    if (ok && (labels.rank != 1 || !labels.u8))
        ok = rt_error(e, RT_FILE, "'%s' does not hold labels: it should have 1 dimension of bytes", labels_path);
    if (ok && labels.n != images.shape[0])
        ok = rt_error(e, RT_FILE, "'%s' has %" PRId64 " pictures, '%s' has %" PRId64 " labels", images_path, images.shape[0],
                      labels_path, labels.n);
    for (int64_t i = 0; ok && i < labels.n; i++)
        if (labels.u8[i] > 9)
            ok = rt_error(e, RT_FILE, "'%s': label %d of picture %" PRId64 " is out of range 0 to 9", labels_path, labels.u8[i],
                          i);
    if (ok) {
        d->n = labels.n;
        data_set_shape(d, 3, (int64_t[]){1, images.shape[1], images.shape[2]});
        d->u8 = images.u8;
        images.u8 = NULL;
        d->n_classes = 10;
        d->labels = malloc((size_t)d->n * sizeof *d->labels + 1);
        d->class_names = data_copy_names(r->kind == CNNC_DATA_FASHION ? fashion_names : digit_names, 10);
        ok = (d->labels && d->class_names) || rt_error_memory(e, (size_t)d->n * sizeof *d->labels);
        for (int64_t i = 0; ok && i < d->n; i++)
            d->labels[i] = labels.u8[i];
    }
    idx_free(&images);
    idx_free(&labels);
    return ok;
}

static bool open_part(const DataRequest *r, const char *part, Dataset *d, RtError *e)
{
    char *images = find_part(r, part, "images", 3), *labels = find_part(r, part, "labels", 1);
    bool ok;
    if (images && labels)
        ok = take(r, images, labels, d, e);
    else if (!file_is_folder(r->path))
        ok = rt_error(e, RT_FILE,
                      "there is no folder '%s' to read %s from; give a folder with the IDX files (cnnc does not download)",
                      r->path, r->kind == CNNC_DATA_FASHION ? "FashionMNIST" : "MNIST");
    else
        ok = rt_error(e, RT_FILE, "'%s' has no %s-%s-idx%d-ubyte or .gz, neither there nor in %s/raw", r->path, part,
                      images ? "labels" : "images", images ? 1 : 3, r->kind == CNNC_DATA_FASHION ? "FashionMNIST" : "MNIST");
    free(images);
    free(labels);
    return ok;
}

bool data_open_mnist(const DataRequest *r, DataPair *out, RtError *e)
{
    if (r->want_train && !open_part(r, "train", &out->train, e))
        return false;
    out->has_valid = r->want_valid;
    return !r->want_valid || open_part(r, "t10k", &out->valid, e);
}
