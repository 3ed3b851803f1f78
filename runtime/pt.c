/* Reads PyTorch's .pt files.
 * In: bytes that anybody may have written. Out: a WeightsFile; float types become float32, whole numbers int64.
 * Relies on zip.c and unpickle.c for structure; checks every tensor's storage, offset, sizes and strides before it reads.
 * Idea: data.pkl describes tensors as _rebuild_tensor_v2(storage, offset, size, stride, ...), where a storage is the persistent
 * id
 * ('storage', torch.FloatStorage, KEY, device, elements) and its bytes are the entry data/KEY. */
#include "runtime/pt.h"
#include "runtime/file.h"
#include "runtime/unpickle.h"
#include "runtime/zip.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { REBUILD_TENSOR = 100, REBUILD_PARAMETER = 101 };
typedef enum { PT_F32, PT_F64, PT_F16, PT_BF16, PT_I64, PT_I32, PT_I16, PT_I8, PT_U8, PT_BOOL } PtType;
static const struct {
    const char *name;
    uint8_t size;
} types[] = {
    [PT_F32] = {"F32", 4}, [PT_F64] = {"F64", 8}, [PT_F16] = {"F16", 2}, [PT_BF16] = {"BF16", 2}, [PT_I64] = {"I64", 8},
    [PT_I32] = {"I32", 4}, [PT_I16] = {"I16", 2}, [PT_I8] = {"I8", 1},   [PT_U8] = {"U8", 1},     [PT_BOOL] = {"BOOL", 1},
};
static const PickleGlobal allowed[] = {
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER},
    {"torch", "FloatStorage", PT_F32},
    {"torch", "DoubleStorage", PT_F64},
    {"torch", "HalfStorage", PT_F16},
    {"torch", "BFloat16Storage", PT_BF16},
    {"torch", "LongStorage", PT_I64},
    {"torch", "IntStorage", PT_I32},
    {"torch", "ShortStorage", PT_I16},
    {"torch", "CharStorage", PT_I8},
    {"torch", "ByteStorage", PT_U8},
    {"torch", "BoolStorage", PT_BOOL},
};

typedef struct {
    const char *file;
    RtError *e;
    Zip zip;
    const char *prefix;
    size_t prefix_len;
    WeightsFile *out;
} Reader;

/* A copy of the text with an end, cut to cap - 1 bytes; false when it holds a NUL or does not fit. */
static bool copy_text(const PickleValue *v, char *out, size_t cap)
{
    if (v->len >= cap || memchr(v->text, 0, v->len))
        return false;
    memcpy(out, v->text, v->len);
    out[v->len] = '\0';
    return true;
}

/* ---- tensors ---- */

typedef struct {
    PtType type;
    const uint8_t *bytes;
    int64_t elements;
} Storage;

static bool wrong_tensor(const Reader *r, const char *name)
{
    return rt_error(r->e, RT_FILE, "'%s': tensor '%s' is not described as PyTorch does", r->file, name);
}

static bool find_storage(const Reader *r, const PickleValue *persistent, const char *name, Storage *out)
{
    char key[80] = "data/";
    const PickleValue *id = persistent ? persistent->items[0] : NULL;
    const PickleValue *type = pickle_item(id, 1, PICKLE_GLOBAL), *text = pickle_item(id, 2, PICKLE_TEXT),
                      *count = pickle_item(id, 4, PICKLE_INT);
    if (!type || type->id >= REBUILD_TENSOR || !text || !count || !pickle_is_text(pickle_item(id, 0, PICKLE_TEXT), "storage") ||
        !copy_text(text, key + 5, sizeof key - 5))
        return wrong_tensor(r, name);
    const ZipEntry *entry = zip_find(&r->zip, r->prefix, r->prefix_len, key);
    size_t len;
    if (!entry)
        return rt_error(r->e, RT_FILE, "'%s' lacks entry '%s' with the values of tensor '%s'", r->file, key, name);
    if (!zip_bytes(&r->zip, entry, &out->bytes, &len, r->e))
        return false;
    out->type = (PtType)type->id;
    out->elements = count->integer;
    if (count->integer < 0 || (uint64_t)count->integer > len / types[out->type].size)
        return rt_error(r->e, RT_FILE,
                        "'%s': the storage of tensor '%s' should hold %" PRId64 " elements of %s, it has %zu bytes", r->file,
                        name, count->integer, types[out->type].name, len);
    return true;
}

static void load(const Storage *s, int64_t at, WeightsTensor *t, int64_t i)
{
    const uint8_t *p = s->bytes + (size_t)at * types[s->type].size;
    switch (s->type) {
    case PT_F32: {
        uint32_t bits = load_le32(p);
        memcpy(&t->f32[i], &bits, sizeof bits);
        break;
    }
    case PT_F64: {
        uint64_t bits = load_le64(p);
        double d;
        memcpy(&d, &bits, sizeof d);
        t->f32[i] = (float)d;
        break;
    }
    case PT_F16:
        t->f32[i] = half_to_float(load_le16(p));
        break;
    case PT_BF16:
        t->f32[i] = bfloat_to_float(load_le16(p));
        break;
    case PT_I64:
        t->i64[i] = (int64_t)load_le64(p);
        break;
    case PT_I32:
        t->i64[i] = (int32_t)load_le32(p);
        break;
    case PT_I16:
        t->i64[i] = (int16_t)load_le16(p);
        break;
    case PT_I8:
        t->i64[i] = (int8_t)*p;
        break;
    case PT_U8:
        t->i64[i] = *p;
        break;
    case PT_BOOL:
        t->i64[i] = *p != 0;
        break;
    }
}

typedef struct {
    int rank;
    int64_t shape[WEIGHTS_MAX_RANK], stride[WEIGHTS_MAX_RANK], offset, n;
} Geometry;

/* Sizes and strides, and that no element lies outside the storage. */
static bool read_geometry(const Reader *r, const PickleValue *args, const char *name, const Storage *s, Geometry *g)
{
    const PickleValue *offset = pickle_item(args, 1, PICKLE_INT), *size = pickle_item(args, 2, PICKLE_TUPLE),
                      *stride = pickle_item(args, 3, PICKLE_TUPLE);
    if (!offset || !size || !stride || size->n != stride->n || size->n > WEIGHTS_MAX_RANK || offset->integer < 0)
        return wrong_tensor(r, name);
    *g = (Geometry){.rank = (int)size->n, .offset = offset->integer, .n = 1};
    int64_t last = g->offset, reach;
    bool fits = true;
    for (int d = 0; d < g->rank; d++) {
        const PickleValue *a = pickle_item(size, (size_t)d, PICKLE_INT), *b = pickle_item(stride, (size_t)d, PICKLE_INT);
        if (!a || !b || a->integer < 0 || b->integer < 0)
            return wrong_tensor(r, name);
        g->shape[d] = a->integer;
        g->stride[d] = b->integer;
        fits = fits && !__builtin_mul_overflow(g->n, g->shape[d], &g->n) &&
               !__builtin_mul_overflow(g->shape[d] - 1, g->stride[d], &reach) &&
               !__builtin_add_overflow(last, reach > 0 ? reach : 0, &last);
    }
    /* expanded tensors may repeat elements, but not without measure */
    fits = fits && (g->n == 0 || last < s->elements) && (g->n <= s->elements || g->n <= 1 << 24);
    return fits || rt_error(r->e, RT_FILE, "'%s': tensor '%s' reaches outside its storage of %" PRId64 " elements", r->file, name,
                            s->elements);
}

static void copy_elements(const Storage *s, const Geometry *g, WeightsTensor *t)
{
    int64_t index[WEIGHTS_MAX_RANK] = {0}, at = g->offset;
    for (int64_t i = 0; i < g->n; i++) {
        load(s, at, t, i);
        for (int d = g->rank - 1; d >= 0; d--) {
            at += g->stride[d];
            if (++index[d] < g->shape[d])
                break;
            at -= g->stride[d] * g->shape[d];
            index[d] = 0;
        }
    }
}

static const PickleValue *as_tensor(const PickleValue *v)
{
    if (v->kind == PICKLE_CALL && v->id == REBUILD_PARAMETER) {
        const PickleValue *inner = pickle_item(v->items[0], 0, PICKLE_CALL);
        v = inner ? inner : v;
    }
    return v->kind == PICKLE_CALL && v->id == REBUILD_TENSOR ? v : NULL;
}

static bool take_tensor(const Reader *r, const PickleValue *call, const char *name)
{
    const PickleValue *args = call->items[0];
    Storage s;
    Geometry g;
    if (!find_storage(r, pickle_item(args, 0, PICKLE_PERSISTENT), name, &s) || !read_geometry(r, args, name, &s, &g))
        return false;
    if (weights_find(r->out, name))
        return rt_error(r->e, RT_FILE, "'%s' holds tensor '%s' twice", r->file, name);
    WeightsTensor *t = weights_add(r->out, name, g.rank, g.shape, s.type <= PT_BF16 ? CNNC_F32 : CNNC_I64, r->e);
    if (!t)
        return false;
    t->stored = types[s.type].name;
    copy_elements(&s, &g, t);
    return true;
}

/* ---- which dict ---- */

static bool has_tensors(const PickleValue *v)
{
    for (size_t i = 0; v && v->kind == PICKLE_DICT && i + 1 < v->n; i += 2)
        if (as_tensor(v->items[i + 1]))
            return true;
    return false;
}

static const PickleValue *find_state_dict(const PickleValue *root)
{
    static const char *const keys[] = {"state_dict", "model_state_dict", "model"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const PickleValue *v = pickle_get(root, keys[i]);
        if (v && v->kind == PICKLE_DICT)
            return v;
    }
    if (has_tensors(root))
        return root;
    const PickleValue *only = NULL;
    for (size_t i = 0; root->kind == PICKLE_DICT && i + 1 < root->n; i += 2)
        if (has_tensors(root->items[i + 1])) {
            if (only)
                return NULL;
            only = root->items[i + 1];
        }
    return only;
}

static bool take_state_dict(const Reader *r, const PickleValue *root)
{
    const PickleValue *dict = find_state_dict(root);
    if (!dict)
        return rt_error(r->e, RT_FILE, "'%s' holds no state_dict; save one with torch.save(model.state_dict(), ...)", r->file);
    for (size_t i = 0; i + 1 < dict->n; i += 2) {
        char name[1024];
        const PickleValue *key = dict->items[i], *call = as_tensor(dict->items[i + 1]);
        if (key->kind != PICKLE_TEXT || !copy_text(key, name, sizeof name))
            return rt_error(r->e, RT_FILE, "'%s': a name in its state_dict is not text, or too long", r->file);
        if (!call)
            return rt_error(r->e, RT_FILE, "'%s': entry '%s' of its state_dict is not a tensor", r->file, name);
        if (!take_tensor(r, call, name))
            return false;
    }
    return true;
}

/* ---- the file ---- */

bool pt_looks_like(const uint8_t *b, size_t len)
{
    if (len > 8 && b[8] == '{' && load_le64(b) <= len - 8)
        return false; /* safetensors whose header happens to have such a length */
    bool zip = len >= 4 && memcmp(b, "PK\x03\x04", 4) == 0;
    return zip || (len >= 3 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 && b[2] && strchr("\x8a}(cX]", b[2]));
}

static bool find_prefix(Reader *r)
{
    static const char end[] = "data.pkl";
    for (size_t i = 0; i < r->zip.n; i++) {
        const ZipEntry *t = &r->zip.at[i];
        size_t n = sizeof end - 1;
        if (t->name_len > n && memcmp(t->name + t->name_len - n, end, n) == 0 && t->name[t->name_len - n - 1] == '/') {
            r->prefix = t->name;
            r->prefix_len = t->name_len - n;
            return true;
        }
    }
    return rt_error(r->e, RT_FILE, "'%s' is a zip archive without data.pkl, so PyTorch's torch.save did not write it", r->file);
}

static bool check_byte_order(Reader *r)
{
    const uint8_t *at;
    size_t len;
    const ZipEntry *entry = zip_find(&r->zip, r->prefix, r->prefix_len, "byteorder");
    if (!entry)
        return true;
    return zip_bytes(&r->zip, entry, &at, &len, r->e) &&
           ((len == 6 && memcmp(at, "little", 6) == 0) ||
            rt_error(r->e, RT_FILE, "'%s' was written on a machine of other byte order", r->file));
}

static bool read_archive(Reader *r)
{
    const uint8_t *pickle;
    size_t len;
    Pickle p = {0};
    bool ok = find_prefix(r) && check_byte_order(r) &&
              zip_bytes(&r->zip, zip_find(&r->zip, r->prefix, r->prefix_len, "data.pkl"), &pickle, &len, r->e) &&
              pickle_parse(pickle, len, r->file, allowed, sizeof allowed / sizeof *allowed, &p, r->e) &&
              take_state_dict(r, p.root);
    pickle_free(&p);
    return ok;
}

bool pt_parse(const uint8_t *bytes, size_t len, const char *name, WeightsFile *out, RtError *e)
{
    *out = (WeightsFile){.format = "PyTorch"};
    if (len >= 2 && bytes[0] == 0x80)
        return rt_error(e, RT_FILE,
                        "'%s' is in PyTorch's format from before 1.6; load it there and save it again with torch.save", name);
    Reader r = {.file = name, .e = e, .out = out};
    if (!zip_open(bytes, len, name, &r.zip, e))
        return false;
    bool ok = read_archive(&r);
    zip_free(&r.zip);
    if (!ok)
        weights_free(out);
    return ok;
}
