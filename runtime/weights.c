/* Weights files of any format, and their meeting with a model's tensors.
 * In: a path, a tensor table. Out: a list of tensors; values in a state block.
 * Relies on the format readers for valid lists (unique names, n = product of the shape); leaves the state untouched when a
 * file does not fit.
 * Idea: float32 values of a safetensors file are used where the file is mapped, and its pages are given back as they have been read: a
 * large net's weights are in memory once. Formats differ in safetensors.c and pt.c only; what is missing, extra or misshapen is decided here, once. */
#include "runtime/weights.h"
#include "runtime/init.h"
#include "runtime/json_read.h"
#include "runtime/pt.h"
#include "runtime/safetensors.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 4 << 20 };   /* of a lent tensor that is read at a time */

/* ---- the list ---- */

static WeightsTensor *add(WeightsFile *w, const char *name, int rank, const int64_t *shape, int32_t dtype, const float *lent, RtError *e)
{
    if (w->n == w->cap) {
        int cap = w->cap ? w->cap * 2 : 64;
        WeightsTensor *more = realloc(w->at, (size_t)cap * sizeof *more);
        if (!more) {
            rt_error_memory(e, (size_t)cap * sizeof *more);
            return NULL;
        }
        w->at = more;
        w->cap = cap;
    }
    WeightsTensor t = {.rank = rank, .n = 1, .dtype = dtype, .stored = "", .lent = lent != NULL};
    for (int d = 0; d < rank; d++) {
        t.shape[d] = shape[d];
        t.n *= shape[d];
    }
    size_t bytes = (size_t)t.n * (dtype == CNNC_I64 ? 8 : 4);
    t.name = strdup(name);
    t.data = lent ? (void *)(uintptr_t)lent : malloc(bytes + 1);
    if (!t.name || !t.data) {
        free(t.name);
        if (!lent)
            free(t.data);
        rt_error_memory(e, bytes);
        return NULL;
    }
    w->at[w->n] = t;
    return &w->at[w->n++];
}

WeightsTensor *weights_add(WeightsFile *w, const char *name, int rank, const int64_t *shape, int32_t dtype, RtError *e)
{
    return add(w, name, rank, shape, dtype, NULL, e);
}

WeightsTensor *weights_lend(WeightsFile *w, const char *name, int rank, const int64_t *shape, const float *values, RtError *e)
{
    return add(w, name, rank, shape, CNNC_F32, values, e);
}

bool weights_add_meta(WeightsFile *w, const char *key, const char *value, RtError *e)
{
    if (w->n_meta == w->cap_meta) {
        int cap = w->cap_meta ? w->cap_meta * 2 : 8;
        WeightsMeta *more = realloc(w->meta, (size_t)cap * sizeof *more);
        if (!more)
            return rt_error_memory(e, (size_t)cap * sizeof *more);
        w->meta = more;
        w->cap_meta = cap;
    }
    WeightsMeta m = {strdup(key), strdup(value)};
    w->meta[w->n_meta++] = m;
    return (m.key && m.value) || rt_error_memory(e, strlen(value));
}

void weights_free(WeightsFile *w)
{
    for (int i = 0; i < w->n; i++) {
        free(w->at[i].name);
        if (!w->at[i].lent)
            free(w->at[i].data);
    }
    for (int i = 0; i < w->n_meta; i++) {
        free(w->meta[i].key);
        free(w->meta[i].value);
    }
    free(w->at);
    free(w->meta);
    file_free(&w->bytes);
    *w = (WeightsFile){0};
}

const WeightsTensor *weights_find(const WeightsFile *w, const char *name)
{
    for (int i = 0; i < w->n; i++)
        if (strcmp(w->at[i].name, name) == 0)
            return &w->at[i];
    return NULL;
}

const char *weights_meta(const WeightsFile *w, const char *key)
{
    for (int i = 0; i < w->n_meta; i++)
        if (strcmp(w->meta[i].key, key) == 0)
            return w->meta[i].value;
    return NULL;
}

/* ---- numbers ---- */

float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | fraction << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else { /* zero and subnormal: exact as a product */
        float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

float bfloat_to_float(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word = load_le64(p);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    for (; n; n--, p++)
        h = (h ^ *p) * UINT64_C(0x100000001b3);
    return h;
}

/* A sum over tensors, so that their order in the file does not matter. */
static uint64_t checksum(const WeightsFile *w)
{
    uint64_t sum = 0;
    for (int i = 0; i < w->n; i++) {
        const WeightsTensor *t = &w->at[i];
        uint64_t h = hash_bytes(UINT64_C(0xcbf29ce484222325), t->name, strlen(t->name));
        h = hash_bytes(h, t->shape, (size_t)t->rank * sizeof *t->shape);
        size_t bytes = (size_t)t->n * (t->dtype == CNNC_I64 ? 8 : 4);
        for (size_t at = 0; at < bytes; at += PIECE) {
            const char *piece = (const char *)t->data + at;
            size_t n = bytes - at < PIECE ? bytes - at : PIECE;
            h = hash_bytes(h, piece, n);
            if (t->lent)
                file_forget(&w->bytes, piece, n);
        }
        sum += h;
    }
    return sum ? sum : 1;
}

bool weights_read(const char *path, WeightsFile *out, RtError *e)
{
    *out = (WeightsFile){0};
    FileBytes f;
    if (!file_read(path, &f, e))
        return false;
    bool ok;
    if (pt_looks_like(f.at, f.len))
        ok = pt_parse(f.at, f.len, path, out, e);
    else if (f.len > 8 && f.at[8] != '{')
        ok = rt_error(e, RT_FILE, "'%s' is neither a safetensors file nor a PyTorch state_dict", path);
    else
        ok = safetensors_parse(f.at, f.len, path, f.mapped, out, e);
    if (ok && f.mapped) {
        out->bytes = f;
        f = (FileBytes){0};
    }
    file_free(&f);
    if (ok)
        out->checksum = checksum(out);
    return ok;
}

/* ---- meeting a model ---- */

static void shape_text(char *out, size_t cap, int rank, const int64_t *shape)
{
    size_t n = (size_t)snprintf(out, cap, "[");
    for (int d = 0; d < rank && n < cap; d++)
        n += (size_t)snprintf(out + n, cap - n, "%s%" PRId64, d ? ", " : "", shape[d]);
    if (n < cap)
        snprintf(out + n, cap - n, "]");
}

bool weights_fit(const WeightsTensor *t, const CnncTensor *want)
{
    if (t->rank != want->rank)
        return false;
    for (int d = 0; d < t->rank; d++)
        if (t->shape[d] != want->shape[d])
            return false;
    return true;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* Old state_dicts have no counters, and nothing but momentum=None reads them. */
static bool is_counter(const char *name) { return ends_with(name, "num_batches_tracked"); }
static bool is_bookkeeping(const char *name) { return strncmp(name, "optimizer.", 10) == 0 || strncmp(name, "cnnc.", 5) == 0; }

typedef struct {
    char *text;
    size_t cap, len;
    int hidden;
} List;

static void list_add(List *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void list_add(List *l, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    size_t n = (size_t)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n >= sizeof line)
        n = sizeof line - 1;
    if (l->hidden || l->len + n + 40 > l->cap) {
        l->hidden++;
        return;
    }
    memcpy(l->text + l->len, line, n + 1);
    l->len += n;
}

static void compare(const WeightsFile *w, const CnncTensor *tensors, int n, bool optimizer, WeightsMatch *m, List *l)
{
    char have[256], want[256];
    for (int i = 0; i < n; i++) {
        const CnncTensor *t = &tensors[i];
        if (t->role == CNNC_ROLE_OPTIMIZER && !optimizer)
            continue;
        const WeightsTensor *f = weights_find(w, t->name);
        shape_text(want, sizeof want, t->rank, t->shape);
        if (f && weights_fit(f, t)) {
            m->loaded++;
        } else if (f) {
            shape_text(have, sizeof have, f->rank, f->shape);
            list_add(l, "\n  '%s' has shape %s in the file, the model needs %s", t->name, have, want);
            m->misshapen++;
        } else if (!is_counter(t->name)) {
            list_add(l, "\n  '%s' %s is missing in the file", t->name, want);
            m->missing++;
        }
    }
    for (int i = 0; i < w->n; i++) {
        const WeightsTensor *f = &w->at[i];
        bool known = is_bookkeeping(f->name) || is_counter(f->name);
        for (int k = 0; !known && k < n; k++)
            known = strcmp(tensors[k].name, f->name) == 0;
        if (known)
            continue;
        shape_text(have, sizeof have, f->rank, f->shape);
        list_add(l, "\n  '%s' %s in the file is not in the model", f->name, have);
        m->extra++;
    }
}

static bool match(const WeightsFile *w, const char *path, const CnncTensor *tensors, int n, bool partial, bool optimizer,
                  WeightsMatch *m, RtError *e)
{
    char *text = malloc(sizeof e->text);
    List l = {.text = text, .cap = text ? sizeof e->text - strlen(path) - 200 : 0};
    if (!text || strlen(path) > 4096) {
        free(text);
        return rt_error_memory(e, sizeof e->text);
    }
    text[0] = '\0';
    *m = (WeightsMatch){0};
    compare(w, tensors, n, optimizer, m, &l);
    if (l.hidden)
        snprintf(text + l.len, 40, "\n  and %d more", l.hidden);
    bool ok = partial || m->missing + m->extra + m->misshapen == 0;
    if (!ok)
        rt_error(e, RT_FILE, "the weights in '%s' do not fit the model: %d missing, %d extra, %d of another shape%s", path,
                 m->missing, m->extra, m->misshapen, text);
    free(text);
    return ok;
}

bool weights_match(const WeightsFile *w, const char *path, const CnncTensor *tensors, int n, bool partial, WeightsMatch *m,
                   RtError *e)
{
    WeightsMatch unused;
    return match(w, path, tensors, n, partial, false, m ? m : &unused, e);
}

/* The file's pages go as the state's come. */
static void copy_lent(const WeightsFile *w, const WeightsTensor *f, char *to)
{
    size_t bytes = (size_t)f->n * sizeof *f->f32;
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        memcpy(to + at, (const char *)f->data + at, n);
        file_forget(&w->bytes, (const char *)f->data + at, n);
    }
}

static void copy_values(const WeightsTensor *f, const CnncTensor *t, char *to)
{
    for (int64_t i = 0; i < f->n; i++) {
        double v = f->dtype == CNNC_I64 ? (double)f->i64[i] : (double)f->f32[i];
        switch (t->dtype) {
        case CNNC_F32:
            ((float *)to)[i] = f->dtype == CNNC_F32 ? f->f32[i] : (float)v;
            break;
        case CNNC_I32:
            ((int32_t *)to)[i] = v >= INT32_MIN && v <= INT32_MAX ? (int32_t)v : 0;
            break;
        case CNNC_I64:
            ((int64_t *)to)[i] = f->dtype == CNNC_I64 ? f->i64[i] : v > -0x1p63 && v < 0x1p63 ? (int64_t)v : 0;
            break;
        default:
            ((uint8_t *)to)[i] = v >= 0 && v <= 255 ? (uint8_t)v : 0;
            break;
        }
    }
}

bool weights_load(const WeightsFile *w, const char *path, const CnncTensor *tensors, int n, bool partial, bool optimizer,
                  char *state, WeightsMatch *m, RtError *e)
{
    WeightsMatch unused;
    if (!match(w, path, tensors, n, partial, optimizer, m ? m : &unused, e))
        return false;
    for (int i = 0; i < n; i++) {
        const CnncTensor *t = &tensors[i];
        const WeightsTensor *f = t->role == CNNC_ROLE_OPTIMIZER && !optimizer ? NULL : weights_find(w, t->name);
        if (!f || !weights_fit(f, t))
            continue;
        if (f->lent && t->dtype == CNNC_F32)
            copy_lent(w, f, state + t->offset);
        else
            copy_values(f, t, state + t->offset);
    }
    return true;
}

/* ---- writing ---- */

bool weights_write(const char *path, const CnncTensor *tensors, int n, unsigned roles, const char *state, const WeightsMeta *meta,
                   int n_meta, RtError *e)
{
    SafetensorsItem *items = calloc((size_t)n + 1, sizeof *items);
    if (!items)
        return rt_error_memory(e, (size_t)n * sizeof *items);
    int count = 0;
    for (int i = 0; i < n; i++)
        if (roles >> tensors[i].role & 1)
            items[count++] = (SafetensorsItem){tensors[i].name, tensors[i].dtype, tensors[i].rank, tensors[i].shape,
                                               state + tensors[i].offset};
    bool ok = safetensors_write(path, items, count, meta, n_meta, e);
    free(items);
    return ok;
}

char *weights_join(const char *const *items, int n)
{
    size_t cap = 3;
    for (int i = 0; i < n; i++)
        cap += strlen(items[i]) * 6 + 3;
    char *out = malloc(cap), *o = out;
    if (!out)
        return NULL;
    *o++ = '[';
    for (int i = 0; i < n; i++) {
        if (i)
            *o++ = ',';
        *o++ = '"';
        for (const char *s = items[i]; *s; s++) {
            if ((unsigned char)*s < 0x20)
                o += sprintf(o, "\\u%04x", *s);
            else if (*s == '"' || *s == '\\')
                o += sprintf(o, "\\%c", *s);
            else
                *o++ = *s;
        }
        *o++ = '"';
    }
    *o++ = ']';
    *o = '\0';
    return out;
}

void weights_list_free(char **list, int n)
{
    for (int i = 0; list && i < n; i++)
        free(list[i]);
    free(list);
}

char **weights_list(const char *text, int *n)
{
    *n = 0;
    if (!text)
        return NULL;
    size_t len = strlen(text);
    Json j = {text, text + len};
    char **list = calloc(len / 2 + 1, sizeof *list); /* an item takes at least two quotes and a comma */
    bool ok = list && json_take(&j, '[');
    if (ok && !json_take(&j, ']')) {
        do
            ok = json_string(&j, &list[*n]) && ++*n;
        while (ok && json_take(&j, ','));
        ok = ok && json_take(&j, ']');
    }
    if (!ok || !json_end(&j)) {
        weights_list_free(list, *n);
        *n = 0;
        return NULL;
    }
    return list;
}
