/* Reads and writes .npy files.
 * In: bytes that anybody may have written. Out: a row-major array in native order.
 * Relies on nothing in the file: every number is checked against the file's length before memory is asked for.
 * Idea: magic, version, header length, then a Python dict literal of exactly three keys, then the data:
 *     \x93NUMPY 1 0 <u16> {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n data */
#include "runtime/npy.h"
#include "runtime/file.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *descr, *name;
    uint8_t size;
} types[] = {
    [NPY_F32] = {"<f4", "float32", 4}, [NPY_F64] = {"<f8", "float64", 8}, [NPY_U8] = {"|u1", "uint8", 1},
    [NPY_I8] = {"|i1", "int8", 1},     [NPY_I16] = {"<i2", "int16", 2},   [NPY_I32] = {"<i4", "int32", 4},
    [NPY_I64] = {"<i8", "int64", 8},   [NPY_BOOL] = {"|b1", "bool", 1},
};
enum { TYPE_COUNT = sizeof types / sizeof *types };

const char *npy_type_name(NpyType t) { return types[t].name; }

/* ---- the header: a small piece of Python ---- */

typedef struct {
    const char *p, *end;
} Text;

static void skip_space(Text *t)
{
    while (t->p < t->end && strchr(" \t\r\n", *t->p) && *t->p)
        t->p++;
}

static bool take(Text *t, char c)
{
    skip_space(t);
    if (t->p >= t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

static bool take_word(Text *t, const char *word)
{
    skip_space(t);
    size_t n = strlen(word);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
        return false;
    t->p += n;
    return true;
}

static bool take_string(Text *t, char *out, size_t cap)
{
    skip_space(t);
    if (t->p >= t->end || (*t->p != '\'' && *t->p != '"'))
        return false;
    char quote = *t->p++;
    size_t n = 0;
    while (t->p < t->end && *t->p != quote) {
        if (n + 1 >= cap || *t->p == '\\')
            return false;
        out[n++] = *t->p++;
    }
    out[n] = '\0';
    return t->p < t->end && t->p++;
}

static bool take_shape(Text *t, NpyArray *a)
{
    if (!take(t, '('))
        return false;
    a->rank = 0;
    while (!take(t, ')')) {
        skip_space(t);
        int64_t v = 0;
        const char *start = t->p;
        while (t->p < t->end && *t->p >= '0' && *t->p <= '9') {
            if (v > (INT64_MAX - 9) / 10)
                return false;
            v = v * 10 + (*t->p++ - '0');
        }
        if (t->p == start || a->rank == NPY_MAX_RANK)
            return false;
        take(t, 'L'); /* Python 2 wrote long integers so */
        a->shape[a->rank++] = v;
        if (!take(t, ','))
            return take(t, ')');
    }
    return true;
}

static bool find_type(const char *descr, NpyType *out)
{
    for (int i = 0; i < TYPE_COUNT; i++) {
        bool same_kind = strcmp(descr + 1, types[i].descr + 1) == 0;
        bool order_fits = descr[0] == '<' || descr[0] == '|' || descr[0] == '=' || (types[i].size == 1 && descr[0] == '>');
        if (descr[0] && same_kind && order_fits) {
            *out = (NpyType)i;
            return true;
        }
    }
    return false;
}

static bool parse_dict(Text t, const char *name, NpyArray *a, bool *fortran, RtError *e)
{
    char key[32], descr[32] = "";
    bool has_order = false, has_shape = false;
    if (!take(&t, '{'))
        return rt_error(e, RT_FILE, "'%s' is not a .npy file that can be read: its header is damaged", name);
    while (!take(&t, '}')) {
        bool ok = take_string(&t, key, sizeof key) && take(&t, ':');
        if (ok && strcmp(key, "descr") == 0) {
            skip_space(&t);
            if (t.p < t.end && *t.p == '[')
                return rt_error(e, RT_FILE, "'%s' holds records of several fields, not a plain array of numbers", name);
            ok = take_string(&t, descr, sizeof descr);
        } else if (ok && strcmp(key, "fortran_order") == 0) {
            *fortran = take_word(&t, "True");
            ok = has_order = *fortran || take_word(&t, "False");
        } else if (ok && strcmp(key, "shape") == 0) {
            ok = has_shape = take_shape(&t, a);
        } else {
            ok = false;
        }
        if (!ok || (!take(&t, ',') && (skip_space(&t), t.p >= t.end || *t.p != '}')))
            return rt_error(e, RT_FILE, "'%s' is not a .npy file that can be read: its header is damaged", name);
    }
    if (!descr[0] || !has_order || !has_shape)
        return rt_error(e, RT_FILE, "'%s' is not a .npy file that can be read: its header lacks %s", name,
                        !descr[0]    ? "'descr'"
                        : !has_order ? "'fortran_order'"
                                     : "'shape'");
    if (!find_type(descr, &a->dtype))
        return rt_error(e, RT_FILE,
                        "'%s' has elements of type '%s'; float32, float64, uint8, int8, int16, int32, int64 and bool can be read "
                        "(little-endian)",
                        name, descr);
    return true;
}

/* ---- the data ---- */

/* Column-major to row-major: walks the output in order, the source index follows by strides. */
static void copy_fortran(const NpyArray *a, const uint8_t *src, size_t size)
{
    int64_t index[NPY_MAX_RANK] = {0}, stride[NPY_MAX_RANK], at = 0, s = 1;
    for (int d = 0; d < a->rank; d++) {
        stride[d] = s;
        s *= a->shape[d];
    }
    for (int64_t i = 0; i < a->n; i++) {
        memcpy((uint8_t *)a->data + (size_t)i * size, src + (size_t)at * size, size);
        for (int d = a->rank - 1; d >= 0; d--) {
            at += stride[d];
            if (++index[d] < a->shape[d])
                break;
            at -= stride[d] * a->shape[d];
            index[d] = 0;
        }
    }
}

static bool find_header(const uint8_t *bytes, size_t len, const char *name, size_t *start, size_t *header_len, RtError *e)
{
    if (len < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return rt_error(e, RT_FILE, len ? "'%s' is not a .npy file" : "'%s' is empty", name);
    if (bytes[6] < 1 || bytes[6] > 3)
        return rt_error(e, RT_FILE, "'%s' is a .npy file of version %d.%d; versions 1 to 3 can be read", name, bytes[6],
                        bytes[7]);
    *start = bytes[6] == 1 ? 10 : 12;
    *header_len = bytes[6] == 1 ? load_le16(bytes + 8) : len >= 12 ? load_le32(bytes + 8) : SIZE_MAX;
    if (len < *start || *header_len > len - *start)
        return rt_error(e, RT_FILE, "'%s' is cut short: its header should be %zu bytes long", name, *header_len);
    return true;
}

bool npy_parse(const uint8_t *bytes, size_t len, const char *name, NpyArray *out, RtError *e)
{
    NpyArray a = {0};
    *out = a;
    size_t start = 0, header_len = 0;
    bool fortran = false;
    if (!find_header(bytes, len, name, &start, &header_len, e) ||
        !parse_dict((Text){(const char *)bytes + start, (const char *)bytes + start + header_len}, name, &a, &fortran, e))
        return false;
    size_t size = types[a.dtype].size, have = len - start - header_len;
    a.n = 1;
    for (int d = 0; d < a.rank; d++)
        if (__builtin_mul_overflow(a.n, a.shape[d], &a.n))
            return rt_error(e, RT_FILE, "'%s' claims an array too large for this machine", name);
    if ((uint64_t)a.n > have / size)
        return rt_error(e, RT_FILE, "'%s' is cut short: %" PRId64 " elements of %s need %.0f bytes, the file has %zu", name, a.n,
                        types[a.dtype].name, (double)a.n * (double)size, have);
    a.data = malloc((size_t)a.n * size + 1);
    if (!a.data)
        return rt_error_memory(e, (size_t)a.n * size);
    const uint8_t *src = bytes + start + header_len;
    if (fortran && a.rank > 1)
        copy_fortran(&a, src, size);
    else
        memcpy(a.data, src, (size_t)a.n * size);
    *out = a;
    return true;
}

bool npy_read(const char *path, NpyArray *out, RtError *e)
{
    FileBytes f;
    *out = (NpyArray){0};
    if (!file_read(path, &f, e))
        return false;
    bool ok = npy_parse(f.at, f.len, path, out, e);
    file_free(&f);
    return ok;
}

void npy_free(NpyArray *a)
{
    free(a->data);
    *a = (NpyArray){0};
}

/* Element i as a double: exact for all types but large int64. */
static double element(const NpyArray *a, int64_t i)
{
    switch (a->dtype) {
    case NPY_F32:
        return ((const float *)a->data)[i];
    case NPY_F64:
        return ((const double *)a->data)[i];
    case NPY_U8:
        return ((const uint8_t *)a->data)[i];
    case NPY_I8:
        return ((const int8_t *)a->data)[i];
    case NPY_I16:
        return ((const int16_t *)a->data)[i];
    case NPY_I32:
        return ((const int32_t *)a->data)[i];
    case NPY_I64:
        return (double)((const int64_t *)a->data)[i];
    case NPY_BOOL:
        return ((const uint8_t *)a->data)[i] != 0;
    }
    return 0;
}

float *npy_to_f32(const NpyArray *a, RtError *e)
{
    float *out = malloc((size_t)a->n * sizeof *out + 1);
    if (!out) {
        rt_error_memory(e, (size_t)a->n * sizeof *out);
        return NULL;
    }
    if (a->dtype == NPY_F32)
        memcpy(out, a->data, (size_t)a->n * sizeof *out);
    else
        for (int64_t i = 0; i < a->n; i++)
            out[i] = (float)element(a, i);
    return out;
}

int64_t *npy_to_i64(const NpyArray *a, const char *name, RtError *e)
{
    int64_t *out = malloc((size_t)a->n * sizeof *out + 1);
    if (!out) {
        rt_error_memory(e, (size_t)a->n * sizeof *out);
        return NULL;
    }
    for (int64_t i = 0; i < a->n; i++) {
        double v = element(a, i);
        bool whole = a->dtype == NPY_I64 || (v > -0x1p53 && v < 0x1p53 && v == (double)(int64_t)v);
        if (!whole) {
            rt_error(e, RT_FILE, "'%s': element %" PRId64 " is %g, not a whole number", name, i, v);
            free(out);
            return NULL;
        }
        out[i] = a->dtype == NPY_I64 ? ((const int64_t *)a->data)[i] : (int64_t)v;
    }
    return out;
}

/* ---- writing ---- */

size_t npy_header(char out[256], NpyType dtype, int rank, const int64_t *shape)
{
    char dims[NPY_MAX_RANK * 22 + 4] = "";
    size_t n = 0;
    for (int d = 0; d < rank && d < NPY_MAX_RANK; d++)
        n += (size_t)snprintf(dims + n, sizeof dims - n, "%s%" PRId64 "%s", d ? " " : "", shape[d],
                              d < rank - 1 || rank == 1 ? "," : "");
    int text = snprintf(out + 10, 246, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", types[dtype].descr, dims);
    size_t total = ((size_t)text + 10 + 1 + 63) / 64 * 64;
    memset(out + 10 + text, ' ', total - 10 - (size_t)text);
    out[total - 1] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((total - 10) & 0xff);
    out[9] = (char)((total - 10) >> 8);
    return total;
}

bool npy_write(const char *path, NpyType dtype, int rank, const int64_t *shape, const void *data, RtError *e)
{
    char header[256];
    size_t header_len = npy_header(header, dtype, rank, shape), bytes = types[dtype].size;
    for (int d = 0; d < rank; d++)
        bytes *= (size_t)shape[d];
    FileWriter w;
    if (!file_writer_open(&w, path, e))
        return false;
    file_writer_put(&w, header, header_len);
    file_writer_put(&w, data, bytes);
    return file_writer_commit(&w, e);
}

bool npy_write_f32(const char *path, int rank, const int64_t *shape, const float *data, RtError *e)
{
    return npy_write(path, NPY_F32, rank, shape, data, e);
}
