/* Reads CIFAR-10 and CIFAR-100, as binary files or as torchvision's pickled batches.
 * In: a folder. Out: data sets of 3x32x32 bytes, planes red, green, blue.
 * Relies on unpickle.c for the pickled form, which calls nothing; sizes and labels are checked.
 * Idea: binary records are label bytes and 3072 pixels; a pickled batch is a dict with an array "data"[n][3072] and a list of
 * labels. */
#include "runtime/data_readers.h"
#include "runtime/file.h"
#include "runtime/unpickle.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 3072 };
typedef struct {
    const char *name;
    const char *binary_folder, *python_folder, *binary_end;
    const char *train[6], *test[2]; /* file names without the end, NULL-terminated */
    const char *names_text, *names_pickle, *names_key;
    const char *labels_key;
    int classes, label_bytes; /* the last label byte is the one that counts */
} Kind;
static const Kind kinds[] = {
    {"CIFAR-10",
     "cifar-10-batches-bin",
     "cifar-10-batches-py",
     ".bin",
     {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", NULL},
     {"test_batch", NULL},
     "batches.meta.txt",
     "batches.meta",
     "label_names",
     "labels",
     10,
     1},
    {"CIFAR-100",
     "cifar-100-binary",
     "cifar-100-python",
     ".bin",
     {"train", NULL},
     {"test", NULL},
     "fine_label_names.txt",
     "meta",
     "fine_label_names",
     "fine_labels",
     100,
     2},
};

/* Room for n more pictures. */
static bool grow(Dataset *d, int64_t n, RtError *e)
{
    size_t total = (size_t)(d->n + n);
    uint8_t *u8 = realloc(d->u8, total * PIXELS + 1);
    if (u8)
        d->u8 = u8;
    int32_t *labels = realloc(d->labels, total * sizeof *labels + 1);
    if (labels)
        d->labels = labels;
    return (u8 && labels) || rt_error_memory(e, total * PIXELS);
}

static bool set_label(const Kind *k, const char *path, Dataset *d, int64_t i, int64_t label, RtError *e)
{
    if (label < 0 || label >= k->classes)
        return rt_error(e, RT_FILE, "'%s': label %" PRId64 " of picture %" PRId64 " is out of range 0 to %d", path, label, i,
                        k->classes - 1);
    d->labels[d->n + i] = (int32_t)label;
    return true;
}

/* ---- binary ---- */

static bool read_binary(const Kind *k, const char *path, const FileBytes *f, Dataset *d, RtError *e)
{
    size_t record = (size_t)k->label_bytes + PIXELS;
    if (f->len == 0 || f->len % record)
        return rt_error(e, RT_FILE, "'%s' is cut short or not %s: its %zu bytes are no whole number of records of %zu", path,
                        k->name, f->len, record);
    int64_t n = (int64_t)(f->len / record);
    if (!grow(d, n, e))
        return false;
    const uint8_t *p = f->at;
    for (int64_t i = 0; i < n; i++, p += record) {
        if (!set_label(k, path, d, i, p[k->label_bytes - 1], e))
            return false;
        memcpy(d->u8 + (d->n + i) * PIXELS, p + k->label_bytes, PIXELS);
    }
    d->n += n;
    return true;
}

/* ---- pickled ---- */

enum { RECONSTRUCT, NDARRAY, DTYPE, SCALAR, FROM_BUFFER };
static const PickleGlobal allowed[] = {
    {"numpy.core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy", "ndarray", NDARRAY},
    {"numpy", "dtype", DTYPE},
    {"numpy.core.multiarray", "scalar", SCALAR},
    {"numpy._core.multiarray", "scalar", SCALAR},
    {"numpy.core.numeric", "_frombuffer", FROM_BUFFER},
    {"numpy._core.numeric", "_frombuffer", FROM_BUFFER},
};

typedef struct {
    const char *type;
    size_t type_len;
    const PickleValue *shape;
    const uint8_t *bytes;
    size_t len;
} Array;

static bool is_bytes(const PickleValue *v) { return v->kind == PICKLE_BYTES || v->kind == PICKLE_TEXT; }

static bool take_dtype(const PickleValue *dtype, Array *a)
{
    const PickleValue *name = dtype->id == DTYPE ? pickle_item(dtype->items[0], 0, PICKLE_TEXT) : NULL;
    if (!name)
        return false;
    a->type = name->text;
    a->type_len = name->len;
    return true;
}

/* _reconstruct(...) with state (version, shape, dtype, fortran, bytes), or _frombuffer(bytes, dtype, shape, order) */
static bool as_array(const PickleValue *v, Array *a)
{
    const PickleValue *args, *dtype, *data, *order;
    if (!v || v->kind != PICKLE_CALL)
        return false;
    if (v->id == RECONSTRUCT && v->n == 2) {
        args = v->items[1];
        dtype = pickle_item(args, 2, PICKLE_CALL);
        order = pickle_item(args, 3, PICKLE_BOOL);
        data = args->kind == PICKLE_TUPLE && args->n >= 5 ? args->items[4] : NULL;
        a->shape = pickle_item(args, 1, PICKLE_TUPLE);
        if (!order || order->integer)
            return false;
    } else if (v->id == FROM_BUFFER) {
        args = v->items[0];
        dtype = pickle_item(args, 1, PICKLE_CALL);
        data = args->n >= 4 ? args->items[0] : NULL;
        a->shape = pickle_item(args, 2, PICKLE_TUPLE);
        if (!pickle_is_text(pickle_item(args, 3, PICKLE_TEXT), "C"))
            return false;
    } else {
        return false;
    }
    if (!dtype || !data || !a->shape || !is_bytes(data) || !take_dtype(dtype, a))
        return false;
    a->bytes = (const uint8_t *)data->text;
    a->len = data->len;
    return true;
}

static bool label_of(const PickleValue *v, int64_t *out)
{
    *out = v->integer;
    if (v->kind == PICKLE_INT)
        return true;
    if (v->kind != PICKLE_CALL || v->id != SCALAR || v->items[0]->n != 2 || !is_bytes(v->items[0]->items[1]))
        return false;
    const PickleValue *data = v->items[0]->items[1]; /* little-endian, 1 to 8 bytes */
    uint64_t bits = 0;
    for (size_t i = data->len < 8 ? data->len : 8; i--;)
        bits = bits << 8 | (unsigned char)data->text[i];
    *out = (int64_t)bits;
    return data->len >= 1;
}

static bool take_batch(const Kind *k, const char *path, const PickleValue *root, Dataset *d, RtError *e)
{
    Array a;
    const PickleValue *data = pickle_get(root, "data"), *labels = pickle_get(root, k->labels_key);
    if (!data || !labels || !as_array(data, &a) || labels->kind != PICKLE_LIST)
        return rt_error(e, RT_FILE, "'%s' is not a %s batch: it should be a dict with an array 'data' and a list '%s'", path,
                        k->name, k->labels_key);
    const PickleValue *n = pickle_item(a.shape, 0, PICKLE_INT), *width = pickle_item(a.shape, 1, PICKLE_INT);
    bool bytes = a.type_len == 2 && memcmp(a.type, "u1", 2) == 0;
    if (!bytes || !n || !width || a.shape->n != 2 || width->integer != PIXELS || n->integer < 0 ||
        (uint64_t)n->integer != a.len / PIXELS || a.len % PIXELS)
        return rt_error(e, RT_FILE, "'%s' is not a %s batch: 'data' should be an array of bytes, [n][%d]", path, k->name, PIXELS);
    if (labels->n != (size_t)n->integer)
        return rt_error(e, RT_FILE, "'%s' has %" PRId64 " pictures and %zu labels", path, n->integer, labels->n);
    if (!grow(d, n->integer, e))
        return false;
    for (int64_t i = 0; i < n->integer; i++) {
        int64_t label;
        if (!label_of(labels->items[i], &label))
            return rt_error(e, RT_FILE, "'%s': label of picture %" PRId64 " is not a whole number", path, i);
        if (!set_label(k, path, d, i, label, e))
            return false;
    }
    memcpy(d->u8 + d->n * PIXELS, a.bytes, a.len);
    d->n += n->integer;
    return true;
}

static bool read_pickled(const Kind *k, const char *path, const FileBytes *f, Dataset *d, RtError *e)
{
    Pickle p;
    if (!pickle_parse(f->at, f->len, path, allowed, sizeof allowed / sizeof *allowed, &p, e))
        return false;
    bool ok = take_batch(k, path, p.root, d, e);
    pickle_free(&p);
    return ok;
}

/* ---- class names: optional, so that a missing or odd file only means no names ---- */

static void names_from_text(const FileBytes *f, Dataset *d)
{
    const char *p = (const char *)f->at, *end = p + f->len;
    for (int i = 0; i < d->n_classes && p < end; i++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        size_t n = (size_t)(stop - p);
        while (n && (p[n - 1] == '\r' || p[n - 1] == ' '))
            n--;
        d->class_names[i] = n ? strndup(p, n) : NULL;
        p = nl ? nl + 1 : end;
    }
}

static void names_from_pickle(const Kind *k, const char *path, const FileBytes *f, Dataset *d)
{
    Pickle p;
    if (!pickle_parse(f->at, f->len, path, allowed, sizeof allowed / sizeof *allowed, &p, NULL))
        return;
    const PickleValue *list = pickle_get(p.root, k->names_key);
    for (int i = 0; i < d->n_classes; i++) {
        const PickleValue *s = pickle_item(list, (size_t)i, PICKLE_TEXT);
        d->class_names[i] = s ? strndup(s->text, s->len) : NULL;
    }
    pickle_free(&p);
}

static void read_names(const Kind *k, const char *folder, bool binary, Dataset *d)
{
    char *path = path_join(folder, binary ? k->names_text : k->names_pickle);
    FileBytes f = {0};
    d->n_classes = k->classes;
    d->class_names = calloc((size_t)k->classes + 1, sizeof *d->class_names);
    if (path && d->class_names && file_exists(path) && file_read(path, &f, NULL)) {
        if (binary)
            names_from_text(&f, d);
        else
            names_from_pickle(k, path, &f, d);
    }
    bool all = d->class_names != NULL;
    for (int i = 0; all && i < k->classes; i++)
        all = d->class_names[i] != NULL;
    if (!all && d->class_names) {
        for (int i = 0; i < k->classes; i++)
            free(d->class_names[i]);
        free(d->class_names);
        d->class_names = NULL;
    }
    file_free(&f);
    free(path);
}

/* ---- the folder ---- */

static bool read_part(const Kind *k, const char *folder, bool binary, const char *const *names, Dataset *d, RtError *e)
{
    data_set_shape(d, 3, (const int64_t[]){3, 32, 32});
    for (; *names; names++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", *names, binary ? k->binary_end : "");
        char *path = path_join(folder, name);
        FileBytes f;
        bool ok = path ? file_read_gz(path, &f, e) : rt_error_memory(e, sizeof name);
        if (ok) {
            ok = binary ? read_binary(k, path, &f, d, e) : read_pickled(k, path, &f, d, e);
            file_free(&f);
        }
        free(path);
        if (!ok)
            return false;
    }
    read_names(k, folder, binary, d);
    return true;
}

/* The folder that holds the files: given, or inside under the name the archive unpacks to. */
static char *find_folder(const Kind *k, const char *root, bool *binary)
{
    const char *const inner[] = {"", k->binary_folder, "", k->python_folder};
    for (int i = 0; i < 4; i++) {
        char name[64];
        *binary = i < 2;
        /* test first: `train` may be a folder of pictures */
        snprintf(name, sizeof name, "%s%s", k->test[0], *binary ? k->binary_end : "");
        char *folder = inner[i][0] ? path_join(root, inner[i]) : strdup(root), *file = folder ? path_join(folder, name) : NULL;
        bool there = file && file_exists(file) && !file_is_folder(file);
        free(file);
        if (there)
            return folder;
        free(folder);
    }
    return NULL;
}

bool data_open_cifar(const DataRequest *r, DataPair *out, RtError *e)
{
    const Kind *k = &kinds[r->kind == CNNC_DATA_CIFAR100];
    bool binary;
    char *folder = find_folder(k, r->path, &binary);
    if (!folder)
        return rt_error(e, RT_FILE,
                        "'%s' has no %s files: neither %s.bin nor %s is there, in %s or in %s (cnnc does not download)", r->path,
                        k->name, k->test[0], k->test[0], k->binary_folder, k->python_folder);
    out->has_valid = r->want_valid;
    bool ok = (!r->want_train || read_part(k, folder, binary, k->train, &out->train, e)) &&
              (!r->want_valid || read_part(k, folder, binary, k->test, &out->valid, e));
    free(folder);
    return ok;
}
