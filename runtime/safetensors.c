/* Reads and writes safetensors.
 * In: bytes that anybody may have written. Out: a WeightsFile; float types become float32, whole numbers int64.
 * Relies on nothing in the file; refuses what the format's own reader refuses: a header that is too long or no object,
 * duplicate names, shapes that do not give the stated bytes, overlaps, holes, data left over.
 * Idea: entries are read, sorted by where they begin, and must tile the data exactly from 0 to its end. */
#include "runtime/safetensors.h"
#include "runtime/file.h"
#include "runtime/json_read.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100000000 };
typedef enum { ST_F64, ST_F32, ST_F16, ST_BF16, ST_I64, ST_I32, ST_I16, ST_I8, ST_U8, ST_BOOL, ST_COUNT } StType;
static const struct {
    const char *name;
    uint8_t size;
} types[ST_COUNT] = {
    [ST_F64] = {"F64", 8}, [ST_F32] = {"F32", 4}, [ST_F16] = {"F16", 2}, [ST_BF16] = {"BF16", 2}, [ST_I64] = {"I64", 8},
    [ST_I32] = {"I32", 4}, [ST_I16] = {"I16", 2}, [ST_I8] = {"I8", 1},   [ST_U8] = {"U8", 1},     [ST_BOOL] = {"BOOL", 1},
};

typedef struct {
    char *name;
    StType type;
    int rank;
    int64_t shape[WEIGHTS_MAX_RANK];
    uint64_t n, begin, end;
} Entry;
typedef struct {
    Entry *at;
    int n, cap;
} Entries;
typedef struct {
    const char *file;
    RtError *e;
} Where;

static bool damaged(Where w, const char *what)
{
    return rt_error(w.e, RT_FILE, "'%s' is not a valid safetensors file: %s", w.file, what);
}

/* ---- header ---- */

static bool parse_type(Json *j, Entry *t, Where w)
{
    char *s;
    if (!json_string(j, &s))
        return damaged(w, "its header is not valid JSON");
    int i = 0;
    while (i < ST_COUNT && strcmp(s, types[i].name) != 0)
        i++;
    if (i == ST_COUNT)
        rt_error(w.e, RT_FILE, "'%s': tensor '%s' has element type '%.40s', which is not supported", w.file, t->name, s);
    free(s);
    t->type = (StType)i;
    return i < ST_COUNT;
}

static bool parse_shape(Json *j, Entry *t, Where w)
{
    t->n = 1;
    if (!json_take(j, '['))
        return damaged(w, "a shape is not a list");
    if (json_take(j, ']'))
        return true;
    do {
        uint64_t d;
        if (!json_uint(j, &d))
            return damaged(w, "a shape holds something other than whole numbers");
        if (t->rank == WEIGHTS_MAX_RANK)
            return rt_error(w.e, RT_FILE, "'%s': tensor '%s' has more than %d dimensions", w.file, t->name, WEIGHTS_MAX_RANK);
        if (d > INT64_MAX || __builtin_mul_overflow(t->n, d, &t->n))
            return rt_error(w.e, RT_FILE, "'%s': the shape of tensor '%s' is too large", w.file, t->name);
        t->shape[t->rank++] = (int64_t)d;
    } while (json_take(j, ','));
    return json_take(j, ']') || damaged(w, "its header is not valid JSON");
}

static bool parse_offsets(Json *j, Entry *t, Where w)
{
    return (json_take(j, '[') && json_uint(j, &t->begin) && json_take(j, ',') && json_uint(j, &t->end) && json_take(j, ']')) ||
           damaged(w, "'data_offsets' is not a pair of whole numbers");
}

static bool parse_entry(Json *j, Entry *t, Where w)
{
    unsigned seen = 0;
    if (!json_take(j, '{'))
        return damaged(w, "an entry of its header is not an object");
    do {
        char *key;
        if (!json_string(j, &key))
            return damaged(w, "its header is not valid JSON");
        unsigned bit = strcmp(key, "dtype") == 0 ? 1 : strcmp(key, "shape") == 0 ? 2 : strcmp(key, "data_offsets") == 0 ? 4 : 0;
        free(key);
        if (!bit || (seen & bit) || !json_take(j, ':'))
            return rt_error(
                w.e, RT_FILE,
                "'%s' is not a valid safetensors file: tensor '%s' should have dtype, shape and data_offsets, once each", w.file,
                t->name);
        seen |= bit;
        if (!(bit == 1 ? parse_type(j, t, w) : bit == 2 ? parse_shape(j, t, w) : parse_offsets(j, t, w)))
            return false;
    } while (json_take(j, ','));
    if (!json_take(j, '}'))
        return damaged(w, "its header is not valid JSON");
    uint64_t bytes;
    if (seen != 7)
        return rt_error(w.e, RT_FILE, "'%s' is not a valid safetensors file: tensor '%s' lacks %s", w.file, t->name,
                        !(seen & 1)   ? "dtype"
                        : !(seen & 2) ? "shape"
                                      : "data_offsets");
    if (t->end < t->begin || __builtin_mul_overflow(t->n, (uint64_t)types[t->type].size, &bytes) || t->end - t->begin != bytes)
        return rt_error(w.e, RT_FILE,
                        "'%s': tensor '%s' of %" PRIu64 " elements of %s cannot lie in bytes %" PRIu64 " to %" PRIu64, w.file,
                        t->name, t->n, types[t->type].name, t->begin, t->end);
    return true;
}

static bool parse_metadata(Json *j, WeightsFile *out, Where w)
{
    if (!json_take(j, '{'))
        return damaged(w, "'__metadata__' is not an object");
    if (json_take(j, '}'))
        return true;
    do {
        char *key = NULL, *value = NULL;
        bool ok = json_string(j, &key) && json_take(j, ':') && json_string(j, &value);
        ok = ok ? weights_add_meta(out, key, value, w.e) : damaged(w, "'__metadata__' may hold strings only");
        free(key);
        free(value);
        if (!ok)
            return false;
    } while (json_take(j, ','));
    return json_take(j, '}') || damaged(w, "its header is not valid JSON");
}

static bool parse_header(Json j, Entries *list, WeightsFile *out, Where w)
{
    bool has_meta = false;
    if (!json_take(&j, '{'))
        return damaged(w, "its header is not a JSON object");
    if (json_take(&j, '}'))
        return json_end(&j) || damaged(w, "there is text after its header");
    do {
        char *name;
        if (!json_string(&j, &name) || !json_take(&j, ':')) {
            free(name);
            return damaged(w, "its header is not valid JSON");
        }
        if (strcmp(name, "__metadata__") == 0) {
            free(name);
            if (has_meta)
                return damaged(w, "'__metadata__' stands twice");
            has_meta = true;
            if (!parse_metadata(&j, out, w))
                return false;
            continue;
        }
        if (list->n == list->cap) {
            int cap = list->cap ? list->cap * 2 : 64;
            Entry *more = realloc(list->at, (size_t)cap * sizeof *more);
            if (!more) {
                free(name);
                return rt_error_memory(w.e, (size_t)cap * sizeof *more);
            }
            list->at = more;
            list->cap = cap;
        }
        list->at[list->n] = (Entry){.name = name};
        if (!parse_entry(&j, &list->at[list->n++], w))
            return false;
    } while (json_take(&j, ','));
    return (json_take(&j, '}') && json_end(&j)) || damaged(w, "its header is not valid JSON");
}

/* ---- data ---- */

static int by_begin(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool check_tiling(const Entries *list, uint64_t data_len, Where w)
{
    uint64_t at = 0;
    for (int i = 0; i < list->n; i++) {
        const Entry *t = &list->at[i];
        if (t->begin != at)
            return rt_error(
                w.e, RT_FILE, "'%s' is not a valid safetensors file: tensor '%s' begins at byte %" PRIu64 ", %s at %" PRIu64,
                w.file, t->name, t->begin, t->begin < at ? "inside the one that ends" : "after a hole that begins", at);
        at = t->end;
        if (at > data_len)
            return rt_error(w.e, RT_FILE,
                            "'%s' is cut short: tensor '%s' ends at byte %" PRIu64 " of the data, there are %" PRIu64, w.file,
                            t->name, at, data_len);
    }
    return at == data_len ||
           rt_error(w.e, RT_FILE, "'%s' is not a valid safetensors file: %" PRIu64 " bytes are left over", w.file, data_len - at);
}

static bool check_names(const Entries *list, Where w)
{
    char **names = malloc((size_t)list->n * sizeof *names + 1);
    if (!names)
        return rt_error_memory(w.e, (size_t)list->n * sizeof *names);
    for (int i = 0; i < list->n; i++)
        names[i] = list->at[i].name;
    qsort(names, (size_t)list->n, sizeof *names, by_name);
    bool ok = true;
    for (int i = 1; ok && i < list->n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            ok = rt_error(w.e, RT_FILE, "'%s' is not a valid safetensors file: tensor '%s' stands twice", w.file, names[i]);
    free(names);
    return ok;
}

static void convert(StType type, const uint8_t *p, int64_t n, WeightsTensor *t)
{
    for (int64_t i = 0; i < n; i++, p += types[type].size) {
        switch (type) {
        case ST_F64: {
            double d;
            memcpy(&d, p, sizeof d);
            t->f32[i] = (float)d;
            break;
        }
        case ST_F16:
            t->f32[i] = half_to_float(load_le16(p));
            break;
        case ST_BF16:
            t->f32[i] = bfloat_to_float(load_le16(p));
            break;
        case ST_I64:
            t->i64[i] = (int64_t)load_le64(p);
            break;
        case ST_I32:
            t->i64[i] = (int32_t)load_le32(p);
            break;
        case ST_I16:
            t->i64[i] = (int16_t)load_le16(p);
            break;
        case ST_I8:
            t->i64[i] = (int8_t)*p;
            break;
        case ST_U8:
            t->i64[i] = *p;
            break;
        case ST_BOOL:
            t->i64[i] = *p != 0;
            break;
        default:
            break;
        }
    }
}

static bool take_tensors(const Entries *list, const uint8_t *data, bool lend, WeightsFile *out, RtError *e)
{
    for (int i = 0; i < list->n; i++) {
        const Entry *t = &list->at[i];
        const uint8_t *from = data + t->begin;
        bool lent = lend && t->type == ST_F32 && (uintptr_t)from % _Alignof(float) == 0;
        WeightsTensor *to = lent ? weights_lend(out, t->name, t->rank, t->shape, (const float *)(const void *)from, e)
                                 : weights_add(out, t->name, t->rank, t->shape, t->type <= ST_BF16 ? CNNC_F32 : CNNC_I64, e);
        if (!to)
            return false;
        to->stored = types[t->type].name;
        if (lent)
            continue;
        if (t->type == ST_F32)
            memcpy(to->data, data + t->begin, (size_t)(t->end - t->begin));
        else
            convert(t->type, data + t->begin, to->n, to);
    }
    return true;
}

bool safetensors_parse(const uint8_t *bytes, size_t len, const char *name, bool lend, WeightsFile *out, RtError *e)
{
    *out = (WeightsFile){.format = "safetensors"};
    Where w = {name, e};
    uint64_t header = len >= 8 ? load_le64(bytes) : 0;
    if (len < 8)
        return damaged(w, "it is shorter than 8 bytes");
    if (header > MAX_HEADER || header > len - 8)
        return rt_error(e, RT_FILE,
                        "'%s' is not a valid safetensors file, or cut short: its header should have %" PRIu64
                        " bytes, the file has %zu",
                        name, header, len);
    if (header == 0 || bytes[8] != '{')
        return damaged(w, "its header does not begin with '{'");
    Entries list = {0};
    bool ok =
        parse_header((Json){(const char *)bytes + 8, (const char *)bytes + 8 + header}, &list, out, w) && check_names(&list, w);
    if (ok && list.n)
        qsort(list.at, (size_t)list.n, sizeof *list.at, by_begin);
    ok = ok && check_tiling(&list, len - 8 - header, w) && take_tensors(&list, bytes + 8 + header, lend, out, e);
    for (int i = 0; i < list.n; i++)
        free(list.at[i].name);
    free(list.at);
    if (!ok)
        weights_free(out);
    return ok;
}

/* ---- writing ---- */

typedef struct {
    char *at;
    size_t len, cap;
    bool failed;
} Buffer;

static void put(Buffer *b, const char *s, size_t n)
{
    if (b->len + n + 1 > b->cap) {
        size_t cap = (b->len + n + 1) * 2;
        char *more = b->failed ? NULL : realloc(b->at, cap);
        if (!more) {
            b->failed = true;
            return;
        }
        b->at = more;
        b->cap = cap;
    }
    memcpy(b->at + b->len, s, n);
    b->len += n;
    b->at[b->len] = '\0';
}

static void put_text(Buffer *b, const char *s) { put(b, s, strlen(s)); }

/* Length of the UTF-8 character at s, 0 when it is none. Overlong forms pass: they come from folder names, not attackers. */
static size_t utf8_length(const char *s)
{
    unsigned char c = (unsigned char)*s;
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static void put_string(Buffer *b, const char *s)
{
    put_text(b, "\"");
    while (*s) {
        char code[8];
        size_t n = utf8_length(s);
        if (*s == '"' || *s == '\\')
            put(b, (char[]){'\\', *s}, 2);
        else if ((unsigned char)*s < 0x20)
            put(b, code, (size_t)snprintf(code, sizeof code, "\\u%04x", *s));
        else
            put(b, n ? s : "\xef\xbf\xbd", n ? n : 3);
        s += n ? n : 1;
    }
    put_text(b, "\"");
}

/* Wide types first, as other readers want every tensor aligned to its element. */
static int pass_of(int32_t dtype) { return dtype == CNNC_I64 ? 0 : dtype == CNNC_U8 ? 2 : 1; }

static uint64_t item_bytes(const SafetensorsItem *t)
{
    uint64_t n = t->dtype == CNNC_I64 ? 8 : t->dtype == CNNC_U8 ? 1 : 4;
    for (int d = 0; d < t->rank; d++)
        n *= (uint64_t)t->shape[d];
    return n;
}

static void put_header(Buffer *b, const SafetensorsItem *items, int n, const WeightsMeta *meta, int n_meta)
{
    static const char *const names[] = {[CNNC_F32] = "F32", [CNNC_I32] = "I32", [CNNC_U8] = "U8", [CNNC_I64] = "I64"};
    char text[64];
    uint64_t at = 0;
    put_text(b, "{");
    if (n_meta) {
        put_text(b, "\"__metadata__\":{");
        for (int i = 0; i < n_meta; i++) {
            put_text(b, i ? "," : "");
            put_string(b, meta[i].key);
            put_text(b, ":");
            put_string(b, meta[i].value);
        }
        put_text(b, n ? "}," : "}");
    }
    bool first = true;
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < n; i++) {
            if (pass_of(items[i].dtype) != pass)
                continue;
            put_text(b, first ? "" : ",");
            put_string(b, items[i].name);
            put_text(b, ":{\"dtype\":\"");
            put_text(b, names[items[i].dtype]);
            put_text(b, "\",\"shape\":[");
            for (int d = 0; d < items[i].rank; d++)
                put(b, text, (size_t)snprintf(text, sizeof text, "%s%" PRId64, d ? "," : "", items[i].shape[d]));
            uint64_t end = at + item_bytes(&items[i]);
            put(b, text, (size_t)snprintf(text, sizeof text, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, end));
            at = end;
            first = false;
        }
    put_text(b, "}");
    while ((b->len + 8) % 64 && !b->failed) /* spaces, so that the data is aligned */
        put_text(b, " ");
}

bool safetensors_write(const char *path, const SafetensorsItem *items, int n, const WeightsMeta *meta, int n_meta, RtError *e)
{
    Buffer b = {0};
    put_header(&b, items, n, meta, n_meta);
    FileWriter w;
    bool ok = !b.failed || rt_error_memory(e, b.cap);
    if (ok && (ok = file_writer_open(&w, path, e))) {
        uint8_t size[8];
        for (int i = 0; i < 8; i++)
            size[i] = (uint8_t)((uint64_t)b.len >> 8 * i);
        file_writer_put(&w, size, 8);
        file_writer_put(&w, b.at, b.len);
        for (int pass = 0; pass < 3; pass++)
            for (int i = 0; i < n; i++)
                if (pass_of(items[i].dtype) == pass)
                    file_writer_put(&w, items[i].data, (size_t)item_bytes(&items[i]));
        ok = file_writer_commit(&w, e);
    }
    free(b.at);
    return ok;
}
