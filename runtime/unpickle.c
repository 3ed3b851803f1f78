/* The restricted pickle reader.
 * In: bytes that anybody may have written, and the globals the caller knows. Out: a tree of values (it may share parts).
 * Relies on nothing in the file: stack, memo and lengths are checked at each step, memory is bounded by the file's length.
 * Idea: a pickle is a program for a stack machine. Each opcode is one case; what would run code (any global outside the list,
 * and any opcode not named here) ends the reading with an error that names it. */
#include "runtime/unpickle.h"
#include "runtime/file.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct PickleChunk { struct PickleChunk *next; size_t used, size; _Alignas(16) char at[]; } PickleChunk;

typedef struct {
    const uint8_t *p, *end;
    const char *file;
    const PickleGlobal *allowed; size_t n_allowed;
    Pickle *out; RtError *e;
    PickleValue **stack; size_t depth, stack_cap;
    size_t *marks; size_t n_marks, mark_cap;
    PickleValue **memo; size_t memo_cap, memo_next;
} Machine;

static bool damaged(Machine *m, const char *what) { return rt_error(m->e, RT_FILE, "'%s' is cut short or damaged: %s in its pickle", m->file, what); }

/* ---- memory ---- */

static void *take(Machine *m, size_t bytes)
{
    Pickle *o = m->out;
    bytes = (bytes + 15) / 16 * 16;
    if (bytes > o->limit - o->used) {
        damaged(m, "far too many values");
        return NULL;
    }
    o->used += bytes;
    if (!o->chunks || o->chunks->size - o->chunks->used < bytes) {
        size_t size = bytes > 1 << 16 ? bytes : 1 << 16;
        PickleChunk *c = malloc(sizeof *c + size);
        if (!c) {
            rt_error_memory(m->e, size);
            return NULL;
        }
        *c = (PickleChunk){.next = o->chunks, .size = size};
        o->chunks = c;
    }
    void *p = o->chunks->at + o->chunks->used;
    o->chunks->used += bytes;
    memset(p, 0, bytes);
    return p;
}

static PickleValue *new_value(Machine *m, PickleKind kind)
{
    PickleValue *v = take(m, sizeof *v);
    if (v)
        v->kind = kind;
    return v;
}

static bool append(Machine *m, PickleValue *v, PickleValue *item)
{
    if (v->n == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 4;
        PickleValue **items = take(m, cap * sizeof *items);
        if (!items)
            return false;
        if (v->n)
            memcpy(items, v->items, v->n * sizeof *items);
        v->items = items;
        v->cap = cap;
    }
    v->items[v->n++] = item;
    return true;
}

/* ---- the stack: pop never goes below the last mark ---- */

static size_t stack_floor(const Machine *m) { return m->n_marks ? m->marks[m->n_marks - 1] : 0; }

static bool push(Machine *m, PickleValue *v)
{
    if (!v)
        return false;
    if (m->depth == m->stack_cap) {
        size_t cap = m->stack_cap ? m->stack_cap * 2 : 256;
        PickleValue **more = realloc(m->stack, cap * sizeof *more);
        if (!more)
            return rt_error_memory(m->e, cap * sizeof *more);
        m->stack = more;
        m->stack_cap = cap;
    }
    m->stack[m->depth++] = v;
    return true;
}

static PickleValue *pop(Machine *m)
{
    if (m->depth == stack_floor(m)) {
        damaged(m, "a value is missing");
        return NULL;
    }
    return m->stack[--m->depth];
}

static PickleValue *top(Machine *m) { return m->depth > stack_floor(m) ? m->stack[m->depth - 1] : NULL; }

static bool push_mark(Machine *m)
{
    if (m->n_marks == m->mark_cap) {
        size_t cap = m->mark_cap ? m->mark_cap * 2 : 64;
        size_t *more = realloc(m->marks, cap * sizeof *more);
        if (!more)
            return rt_error_memory(m->e, cap * sizeof *more);
        m->marks = more;
        m->mark_cap = cap;
    }
    m->marks[m->n_marks++] = m->depth;
    return true;
}

/* ---- reading the program ---- */

static bool need(Machine *m, uint64_t n) { return n <= (uint64_t)(m->end - m->p) || damaged(m, "text or numbers are missing"); }

static bool push_text(Machine *m, PickleKind kind, int length_bytes)
{
    if (!need(m, (uint64_t)length_bytes))
        return false;
    uint64_t n = length_bytes == 1 ? m->p[0] : length_bytes == 4 ? load_le32(m->p) : load_le64(m->p);
    m->p += length_bytes;
    PickleValue *v = need(m, n) ? new_value(m, kind) : NULL;
    if (!v)
        return false;
    v->text = (const char *)m->p;
    v->len = (size_t)n;
    m->p += n;
    return push(m, v);
}

/* Up to the end of the line; the line end is passed over. */
static bool take_line(Machine *m, const char **text, size_t *len)
{
    const uint8_t *nl = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (!nl)
        return damaged(m, "a line end is missing");
    *text = (const char *)m->p;
    *len = (size_t)(nl - m->p);
    m->p = nl + 1;
    return true;
}

static bool push_int(Machine *m, int64_t value)
{
    PickleValue *v = new_value(m, PICKLE_INT);
    if (v)
        v->integer = value;
    return push(m, v);
}

static bool push_bool(Machine *m, bool value)
{
    PickleValue *v = new_value(m, PICKLE_BOOL);
    if (v)
        v->integer = value;
    return push(m, v);
}

static bool push_long(Machine *m, int length_bytes)
{
    if (!need(m, (uint64_t)length_bytes))
        return false;
    uint64_t n = length_bytes == 1 ? m->p[0] : load_le32(m->p);
    m->p += length_bytes;
    if (!need(m, n))
        return false;
    if (n > 8)
        return damaged(m, "a number of more than 64 bits");
    uint64_t bits = n && m->p[n - 1] & 0x80 ? ~UINT64_C(0) : 0;
    for (uint64_t i = n; i--;)
        bits = bits << 8 | m->p[i];
    m->p += n;
    return push_int(m, (int64_t)bits);
}

static bool push_double(Machine *m)
{
    if (!need(m, 8))
        return false;
    uint64_t bits = (uint64_t)load_be32(m->p) << 32 | load_be32(m->p + 4);
    m->p += 8;
    PickleValue *v = new_value(m, PICKLE_FLOAT);
    if (v)
        memcpy(&v->number, &bits, sizeof bits);
    return push(m, v);
}

/* Protocol 0: I, L, F, S, V as lines of text. */
static bool push_line(Machine *m, int op)
{
    const char *s;
    size_t n;
    char text[64];
    if (!take_line(m, &s, &n))
        return false;
    if (op == 'S' || op == 'V') {
        PickleValue *v = new_value(m, PICKLE_TEXT);
        bool quoted = op == 'S' && n >= 2;
        if (v) {
            v->text = s + quoted;
            v->len = n - 2 * (size_t)quoted;
            if (memchr(v->text, '\\', v->len))
                return damaged(m, "escaped text, which is not supported,");
        }
        return push(m, v);
    }
    if (n >= sizeof text)
        return damaged(m, "a number of too many digits");
    memcpy(text, s, n);
    text[n] = '\0';
    if (op == 'I' && (strcmp(text, "00") == 0 || strcmp(text, "01") == 0))
        return push_bool(m, text[1] == '1');
    if (op != 'F')
        return push_int(m, strtoll(text, NULL, 10));
    PickleValue *v = new_value(m, PICKLE_FLOAT);
    if (v)
        v->number = strtod(text, NULL);
    return push(m, v);
}

/* ---- containers ---- */

/* Items from the last mark on go to the end of `to`; the mark goes. */
static bool take_marked(Machine *m, PickleValue *to)
{
    if (!m->n_marks)
        return damaged(m, "a mark is missing");
    if (!to)
        return false;
    size_t from = m->marks[--m->n_marks];
    for (size_t i = from; i < m->depth; i++)
        if (!append(m, to, m->stack[i]))
            return false;
    m->depth = from;
    return true;
}

static bool push_marked(Machine *m, PickleKind kind)
{
    PickleValue *v = new_value(m, kind);
    if (!take_marked(m, v))
        return false;
    return kind != PICKLE_DICT || v->n % 2 == 0 ? push(m, v) : damaged(m, "a value is missing");
}

static bool extend_marked(Machine *m, PickleKind kind)
{
    if (!m->n_marks)
        return damaged(m, "a mark is missing");
    size_t from = m->marks[m->n_marks - 1], below = m->n_marks > 1 ? m->marks[m->n_marks - 2] : 0;
    PickleValue *to = from > below ? m->stack[from - 1] : NULL;
    if (!to || to->kind != kind || (kind == PICKLE_DICT && (m->depth - from) % 2))
        return damaged(m, "a list or dict is missing");
    return take_marked(m, to);
}

static bool push_tuple(Machine *m, int n)
{
    PickleValue *v = new_value(m, PICKLE_TUPLE), *items[3];
    for (int i = n; v && i--;)
        if (!(items[i] = pop(m)))
            return false;
    for (int i = 0; v && i < n; i++)
        if (!append(m, v, items[i]))
            return false;
    return push(m, v);
}

static bool append_one(Machine *m)
{
    PickleValue *item = pop(m), *to = top(m);
    if (!item || !to || to->kind != PICKLE_LIST)
        return damaged(m, "a list is missing");
    return append(m, to, item);
}

static bool set_one(Machine *m)
{
    PickleValue *value = pop(m), *key = value ? pop(m) : NULL, *to = top(m);
    if (!key || !to || to->kind != PICKLE_DICT)
        return damaged(m, "a dict is missing");
    return append(m, to, key) && append(m, to, value);
}

/* ---- memo ---- */

static bool memo_put(Machine *m, uint64_t at)
{
    PickleValue *v = top(m);
    if (!v || at > (uint64_t)m->out->limit)
        return damaged(m, "a wrong memo");
    if (at >= m->memo_cap) {
        size_t cap = (size_t)at * 2 + 256;
        PickleValue **more = realloc(m->memo, cap * sizeof *more);
        if (!more)
            return rt_error_memory(m->e, cap * sizeof *more);
        memset(more + m->memo_cap, 0, (cap - m->memo_cap) * sizeof *more);
        m->memo = more;
        m->memo_cap = cap;
    }
    m->memo[at] = v;
    return true;
}

static bool memo_get(Machine *m, uint64_t at) { return at < m->memo_cap && m->memo[at] ? push(m, m->memo[at]) : damaged(m, "a wrong memo"); }

static bool memo_op(Machine *m, int op)
{
    uint64_t at = 0;
    bool put = op == 'p' || op == 'q' || op == 'r';
    if (op == 'g' || op == 'p') {
        const char *s;
        size_t n;
        if (!take_line(m, &s, &n))
            return false;
        for (size_t i = 0; i < n && s[i] >= '0' && s[i] <= '9' && at < 1u << 30; i++)
            at = at * 10 + (uint64_t)(s[i] - '0');
    } else {
        int bytes = op == 'h' || op == 'q' ? 1 : 4;
        if (!need(m, (uint64_t)bytes))
            return false;
        at = bytes == 1 ? m->p[0] : load_le32(m->p);
        m->p += bytes;
    }
    return put ? memo_put(m, at) : memo_get(m, at);
}

/* ---- globals and calls ---- */

static bool equal(const char *s, size_t n, const char *word) { return strlen(word) == n && memcmp(s, word, n) == 0; }

static bool push_global(Machine *m, const char *module, size_t module_len, const char *name, size_t name_len)
{
    static const PickleGlobal own[] = {{"collections", "OrderedDict", PICKLE_ORDERED_DICT}, {"_codecs", "encode", PICKLE_ENCODE}};
    const PickleGlobal *found = NULL;
    for (size_t i = 0; i < 2; i++)
        if (equal(module, module_len, own[i].module) && equal(name, name_len, own[i].name))
            found = &own[i];
    for (size_t i = 0; i < m->n_allowed && !found; i++)
        if (equal(module, module_len, m->allowed[i].module) && equal(name, name_len, m->allowed[i].name))
            found = &m->allowed[i];
    if (!found)
        return rt_error(m->e, RT_FILE, "'%s' is refused: its pickle asks Python for '%.*s.%.*s', and only plain tensors and arrays are read", m->file,
                        (int)(module_len < 100 ? module_len : 100), module, (int)(name_len < 100 ? name_len : 100), name);
    PickleValue *v = new_value(m, PICKLE_GLOBAL);
    if (v)
        v->id = found->id;
    return push(m, v);
}

static bool global_op(Machine *m, int op)
{
    if (op == 'c') {
        const char *module, *name;
        size_t module_len, name_len;
        return take_line(m, &module, &module_len) && take_line(m, &name, &name_len) && push_global(m, module, module_len, name, name_len);
    }
    PickleValue *name = pop(m), *module = name ? pop(m) : NULL;
    if (!module || module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT)
        return damaged(m, "a name is missing");
    return push_global(m, module->text, module->len, name->text, name->len);
}

/* Python 3 writes bytes for Python 2 as text whose characters are the bytes: UTF-8 back to one byte each. */
static bool push_encoded(Machine *m, const PickleValue *args)
{
    const PickleValue *s = pickle_item(args, 0, PICKLE_TEXT);
    PickleValue *v = s ? new_value(m, PICKLE_BYTES) : NULL;
    char *out = v ? take(m, s->len + 1) : NULL;
    if (!s)
        return damaged(m, "wrong encoded bytes");
    if (!out)
        return false;
    v->text = out;
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->text[i];
        if (c >= 0x80) {
            if ((c != 0xc2 && c != 0xc3) || i + 1 == s->len)
                return damaged(m, "wrong encoded bytes");
            c = (unsigned char)(c << 6 | (s->text[++i] & 0x3f));
        }
        out[v->len++] = (char)c;
    }
    return push(m, v);
}

static bool call_op(Machine *m)
{
    PickleValue *args = pop(m), *callee = args ? pop(m) : NULL;
    if (!callee || callee->kind != PICKLE_GLOBAL || args->kind != PICKLE_TUPLE)
        return damaged(m, "a wrong call");
    if (callee->id == PICKLE_ENCODE)
        return push_encoded(m, args);
    if (callee->id == PICKLE_ORDERED_DICT) {
        PickleValue *dict = new_value(m, PICKLE_DICT);
        const PickleValue *pairs = pickle_item(args, 0, PICKLE_LIST);   /* Python 2's way */
        for (size_t i = 0; dict && pairs && i < pairs->n; i++) {
            const PickleValue *pair = pairs->items[i];
            if ((pair->kind != PICKLE_TUPLE && pair->kind != PICKLE_LIST) || pair->n != 2)
                return damaged(m, "a wrong dict");
            if (!append(m, dict, pair->items[0]) || !append(m, dict, pair->items[1]))
                return false;
        }
        return push(m, dict);
    }
    PickleValue *v = new_value(m, PICKLE_CALL);
    if (!v || !append(m, v, args))
        return false;
    v->id = callee->id;
    return push(m, v);
}

static bool build_op(Machine *m)
{
    PickleValue *state = pop(m), *v = top(m);
    if (!state || !v || (v->kind != PICKLE_CALL && v->kind != PICKLE_DICT))
        return damaged(m, "a wrong object");
    if (v->kind == PICKLE_DICT)
        return true;   /* state_dict's _metadata */
    if (v->n == 2) {
        v->items[1] = state;
        return true;
    }
    return append(m, v, state);
}

static bool persistent_op(Machine *m)
{
    PickleValue *id = pop(m), *v = id ? new_value(m, PICKLE_PERSISTENT) : NULL;
    return v && append(m, v, id) && push(m, v);
}

/* ---- the machine ---- */

static bool literal_op(Machine *m, int op, bool *known)
{
    int64_t bits;
    switch (op) {
    case 'N': return push(m, new_value(m, PICKLE_NONE));
    case 0x88: case 0x89: return push_bool(m, op == 0x88);
    case 'K': case 'M': case 'J': {
        int n = op == 'K' ? 1 : op == 'M' ? 2 : 4;
        if (!need(m, (uint64_t)n))
            return false;
        bits = n == 1 ? m->p[0] : n == 2 ? load_le16(m->p) : (int32_t)load_le32(m->p);
        m->p += n;
        return push_int(m, bits);
    }
    case 'I': case 'L': case 'F': case 'S': case 'V': return push_line(m, op);
    case 0x8a: return push_long(m, 1);
    case 0x8b: return push_long(m, 4);
    case 'G': return push_double(m);
    case 'U': case 0x8c: return push_text(m, PICKLE_TEXT, 1);
    case 'T': case 'X': return push_text(m, PICKLE_TEXT, 4);
    case 0x8d: return push_text(m, PICKLE_TEXT, 8);
    case 'C': return push_text(m, PICKLE_BYTES, 1);
    case 'B': return push_text(m, PICKLE_BYTES, 4);
    case 0x8e: case 0x96: return push_text(m, PICKLE_BYTES, 8);
    default: *known = false; return false;
    }
}

static bool structure_op(Machine *m, int op, bool *known)
{
    switch (op) {
    case '(': return push_mark(m);
    case '0': return pop(m) != NULL;
    case '1':
        if (!m->n_marks)
            return damaged(m, "a mark is missing");
        m->depth = m->marks[--m->n_marks];
        return true;
    case '2': return top(m) ? push(m, top(m)) : damaged(m, "a value is missing");
    case ']': return push(m, new_value(m, PICKLE_LIST));
    case ')': return push(m, new_value(m, PICKLE_TUPLE));
    case '}': return push(m, new_value(m, PICKLE_DICT));
    case 'l': return push_marked(m, PICKLE_LIST);
    case 't': return push_marked(m, PICKLE_TUPLE);
    case 'd': return push_marked(m, PICKLE_DICT);
    case 'a': return append_one(m);
    case 'e': return extend_marked(m, PICKLE_LIST);
    case 's': return set_one(m);
    case 'u': return extend_marked(m, PICKLE_DICT);
    case 0x85: case 0x86: case 0x87: return push_tuple(m, op - 0x84);
    case 'g': case 'h': case 'j': case 'p': case 'q': case 'r': return memo_op(m, op);
    case 0x94: return memo_put(m, m->memo_next++);
    case 'c': case 0x93: return global_op(m, op);
    case 'R': case 0x81: return call_op(m);
    case 'b': return build_op(m);
    case 'Q': return persistent_op(m);
    case 0x80: case 0x95: {
        uint64_t n = op == 0x80 ? 1 : 8;   /* protocol number, frame length: neither matters */
        if (!need(m, n))
            return false;
        m->p += n;
        return true;
    }
    default: *known = false; return false;
    }
}

static bool run(Machine *m)
{
    while (m->p < m->end) {
        int op = *m->p++;
        if (op == '.') {
            m->out->root = pop(m);
            return m->out->root != NULL;
        }
        bool known = true, ok = literal_op(m, op, &known);
        if (!known) {
            known = true;
            ok = structure_op(m, op, &known);
        }
        if (!known)
            return rt_error(m->e, RT_FILE, "'%s' is damaged or refused: opcode 0x%02x in its pickle is not one that tensors and arrays need", m->file, op);
        if (!ok)
            return false;
    }
    return damaged(m, "the end is missing");
}

bool pickle_parse(const uint8_t *bytes, size_t len, const char *file, const PickleGlobal *allowed, size_t n_allowed, Pickle *out, RtError *e)
{
    *out = (Pickle){.limit = len > ((size_t)1 << 40) ? SIZE_MAX / 2 : len * 128 + (1 << 16)};
    Machine m = {.p = bytes, .end = bytes + len, .file = file, .allowed = allowed, .n_allowed = n_allowed, .out = out, .e = e};
    bool ok = run(&m);
    free(m.stack);
    free(m.marks);
    free(m.memo);
    if (!ok)
        pickle_free(out);
    return ok;
}

void pickle_free(Pickle *p)
{
    while (p->chunks) {
        PickleChunk *next = p->chunks->next;
        free(p->chunks);
        p->chunks = next;
    }
    *p = (Pickle){0};
}

bool pickle_is_text(const PickleValue *v, const char *text)
{
    return v && (v->kind == PICKLE_TEXT || v->kind == PICKLE_BYTES) && equal(v->text, v->len, text);
}

PickleValue *pickle_get(const PickleValue *dict, const char *key)
{
    PickleValue *found = NULL;
    for (size_t i = 0; dict && dict->kind == PICKLE_DICT && i + 1 < dict->n; i += 2)
        if (pickle_is_text(dict->items[i], key))
            found = dict->items[i + 1];
    return found;
}

const PickleValue *pickle_item(const PickleValue *v, size_t i, PickleKind kind)
{
    return v && (v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST) && i < v->n && v->items[i]->kind == kind ? v->items[i] : NULL;
}
