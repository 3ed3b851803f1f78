/* The restricted pickle reader.
 * In: bytes that anybody may have written, and the globals the caller knows. Out: a tree of values (it may share parts).
 * Relies on nothing in the file: stack, memo and lengths are checked at each step, memory is bounded by the file's length.
 * Idea: a pickle is a program for a stack machine. Each opcode is one case; what would run code (any global outside the list,
 * and any opcode not named here) ends the reading with an error that names it. */
#include "runtime/file.h"
#include "runtime/unpickle_machine.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading the program ---- */

static bool need(PickleMachine *m, uint64_t n)
{
    return n <= (uint64_t)(m->end - m->p) || machine_damaged(m, "text or numbers are missing");
}

static bool push_text(PickleMachine *m, PickleKind kind, int length_bytes)
{
    if (!need(m, (uint64_t)length_bytes))
        return false;
    uint64_t n = length_bytes == 1 ? m->p[0] : length_bytes == 4 ? load_le32(m->p) : load_le64(m->p);
    m->p += length_bytes;
    PickleValue *v = need(m, n) ? machine_value(m, kind) : NULL;
    if (!v)
        return false;
    v->text = (const char *)m->p;
    v->len = (size_t)n;
    m->p += n;
    return machine_push(m, v);
}

/* Up to the end of the line; the line end is passed over. */
static bool take_line(PickleMachine *m, const char **text, size_t *len)
{
    const uint8_t *nl = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (!nl)
        return machine_damaged(m, "a line end is missing");
    *text = (const char *)m->p;
    *len = (size_t)(nl - m->p);
    m->p = nl + 1;
    return true;
}

static bool push_int(PickleMachine *m, int64_t value)
{
    PickleValue *v = machine_value(m, PICKLE_INT);
    if (v)
        v->integer = value;
    return machine_push(m, v);
}

static bool push_bool(PickleMachine *m, bool value)
{
    PickleValue *v = machine_value(m, PICKLE_BOOL);
    if (v)
        v->integer = value;
    return machine_push(m, v);
}

static bool push_long(PickleMachine *m, int length_bytes)
{
    if (!need(m, (uint64_t)length_bytes))
        return false;
    uint64_t n = length_bytes == 1 ? m->p[0] : load_le32(m->p);
    m->p += length_bytes;
    if (!need(m, n))
        return false;
    if (n > 8)
        return machine_damaged(m, "a number of more than 64 bits");
    uint64_t bits = n && m->p[n - 1] & 0x80 ? ~UINT64_C(0) : 0;
    for (uint64_t i = n; i--;)
        bits = bits << 8 | m->p[i];
    m->p += n;
    return push_int(m, (int64_t)bits);
}

static bool push_double(PickleMachine *m)
{
    if (!need(m, 8))
        return false;
    uint64_t bits = (uint64_t)load_be32(m->p) << 32 | load_be32(m->p + 4);
    m->p += 8;
    PickleValue *v = machine_value(m, PICKLE_FLOAT);
    if (v)
        memcpy(&v->number, &bits, sizeof bits);
    return machine_push(m, v);
}

/* Protocol 0: I, L, F, S, V as lines of text. */
static bool push_line(PickleMachine *m, int op)
{
    const char *s = NULL;
    size_t n = 0;
    char text[64];
    if (!take_line(m, &s, &n))
        return false;
    if (op == 'S' || op == 'V') {
        PickleValue *v = machine_value(m, PICKLE_TEXT);
        bool quoted = op == 'S' && n >= 2;
        if (v) {
            v->text = s + quoted;
            v->len = n - 2 * (size_t)quoted;
            if (memchr(v->text, '\\', v->len))
                return machine_damaged(m, "escaped text, which is not supported,");
        }
        return machine_push(m, v);
    }
    if (n >= sizeof text)
        return machine_damaged(m, "a number of too many digits");
    memcpy(text, s, n);
    text[n] = '\0';
    if (op == 'I' && (strcmp(text, "00") == 0 || strcmp(text, "01") == 0))
        return push_bool(m, text[1] == '1');
    if (op != 'F')
        return push_int(m, strtoll(text, NULL, 10));
    PickleValue *v = machine_value(m, PICKLE_FLOAT);
    if (v)
        v->number = strtod(text, NULL);
    return machine_push(m, v);
}

/* ---- containers ---- */

/* Items from the last mark on go to the end of `to`; the mark goes. */
static bool take_marked(PickleMachine *m, PickleValue *to)
{
    if (!m->n_marks)
        return machine_damaged(m, "a mark is missing");
    if (!to)
        return false;
    size_t from = m->marks[--m->n_marks];
    for (size_t i = from; i < m->depth; i++)
        if (!machine_append(m, to, m->stack[i]))
            return false;
    m->depth = from;
    return true;
}

static bool push_marked(PickleMachine *m, PickleKind kind)
{
    PickleValue *v = machine_value(m, kind);
    if (!take_marked(m, v))
        return false;
    return kind != PICKLE_DICT || v->n % 2 == 0 ? machine_push(m, v) : machine_damaged(m, "a value is missing");
}

static bool extend_marked(PickleMachine *m, PickleKind kind)
{
    if (!m->n_marks)
        return machine_damaged(m, "a mark is missing");
    size_t from = m->marks[m->n_marks - 1], below = m->n_marks > 1 ? m->marks[m->n_marks - 2] : 0;
    PickleValue *to = from > below ? m->stack[from - 1] : NULL;
    if (!to || to->kind != kind || (kind == PICKLE_DICT && (m->depth - from) % 2))
        return machine_damaged(m, "a list or dict is missing");
    return take_marked(m, to);
}

static bool push_tuple(PickleMachine *m, int n)
{
    PickleValue *v = machine_value(m, PICKLE_TUPLE), *items[3];
    for (int i = n; v && i--;)
        if (!(items[i] = machine_pop(m)))
            return false;
    for (int i = 0; v && i < n; i++)
        if (!machine_append(m, v, items[i]))
            return false;
    return machine_push(m, v);
}

static bool append_one(PickleMachine *m)
{
    PickleValue *item = machine_pop(m), *to = machine_top(m);
    if (!item || !to || to->kind != PICKLE_LIST)
        return machine_damaged(m, "a list is missing");
    return machine_append(m, to, item);
}

static bool set_one(PickleMachine *m)
{
    PickleValue *value = machine_pop(m), *key = value ? machine_pop(m) : NULL, *to = machine_top(m);
    if (!key || !to || to->kind != PICKLE_DICT)
        return machine_damaged(m, "a dict is missing");
    return machine_append(m, to, key) && machine_append(m, to, value);
}

/* ---- memo ---- */

static bool memo_op(PickleMachine *m, int op)
{
    uint64_t at = 0;
    bool put = op == 'p' || op == 'q' || op == 'r';
    if (op == 'g' || op == 'p') {
        const char *s = NULL;
        size_t n = 0;
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
    return put ? machine_memo_put(m, at) : machine_memo_get(m, at);
}

/* ---- globals and calls ---- */

static bool equal(const char *s, size_t n, const char *word) { return strlen(word) == n && memcmp(s, word, n) == 0; }

static bool push_global(PickleMachine *m, const char *module, size_t module_len, const char *name, size_t name_len)
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
        return rt_error(
            m->e, RT_FILE, "'%s' is refused: its pickle asks Python for '%.*s.%.*s', and only plain tensors and arrays are read",
            m->file, (int)(module_len < 100 ? module_len : 100), module, (int)(name_len < 100 ? name_len : 100), name);
    PickleValue *v = machine_value(m, PICKLE_GLOBAL);
    if (v)
        v->id = found->id;
    return machine_push(m, v);
}

static bool global_op(PickleMachine *m, int op)
{
    if (op == 'c') {
        const char *module = NULL, *name = NULL;
        size_t module_len = 0, name_len = 0;
        return take_line(m, &module, &module_len) && take_line(m, &name, &name_len) &&
               push_global(m, module, module_len, name, name_len);
    }
    PickleValue *name = machine_pop(m), *module = name ? machine_pop(m) : NULL;
    if (!module || module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT)
        return machine_damaged(m, "a name is missing");
    return push_global(m, module->text, module->len, name->text, name->len);
}

/* Python 3 writes bytes for Python 2 as text whose characters are the bytes: UTF-8 back to one byte each. */
static bool push_encoded(PickleMachine *m, const PickleValue *args)
{
    const PickleValue *s = pickle_item(args, 0, PICKLE_TEXT);
    PickleValue *v = s ? machine_value(m, PICKLE_BYTES) : NULL;
    char *out = v ? machine_alloc(m, s->len + 1) : NULL;
    if (!s)
        return machine_damaged(m, "wrong encoded bytes");
    if (!out)
        return false;
    v->text = out;
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->text[i];
        if (c >= 0x80) {
            if ((c != 0xc2 && c != 0xc3) || i + 1 == s->len)
                return machine_damaged(m, "wrong encoded bytes");
            c = (unsigned char)(c << 6 | (s->text[++i] & 0x3f));
        }
        out[v->len++] = (char)c;
    }
    return machine_push(m, v);
}

static bool call_op(PickleMachine *m)
{
    PickleValue *args = machine_pop(m), *callee = args ? machine_pop(m) : NULL;
    if (!callee || callee->kind != PICKLE_GLOBAL || args->kind != PICKLE_TUPLE)
        return machine_damaged(m, "a wrong call");
    if (callee->id == PICKLE_ENCODE)
        return push_encoded(m, args);
    if (callee->id == PICKLE_ORDERED_DICT) {
        PickleValue *dict = machine_value(m, PICKLE_DICT);
        const PickleValue *pairs = pickle_item(args, 0, PICKLE_LIST); /* Python 2's way */
        for (size_t i = 0; dict && pairs && i < pairs->n; i++) {
            const PickleValue *pair = pairs->items[i];
            if ((pair->kind != PICKLE_TUPLE && pair->kind != PICKLE_LIST) || pair->n != 2)
                return machine_damaged(m, "a wrong dict");
            if (!machine_append(m, dict, pair->items[0]) || !machine_append(m, dict, pair->items[1]))
                return false;
        }
        return machine_push(m, dict);
    }
    PickleValue *v = machine_value(m, PICKLE_CALL);
    if (!v || !machine_append(m, v, args))
        return false;
    v->id = callee->id;
    return machine_push(m, v);
}

static bool build_op(PickleMachine *m)
{
    PickleValue *state = machine_pop(m), *v = machine_top(m);
    if (!state || !v || (v->kind != PICKLE_CALL && v->kind != PICKLE_DICT))
        return machine_damaged(m, "a wrong object");
    if (v->kind == PICKLE_DICT)
        return true; /* state_dict's _metadata */
    if (v->n == 2) {
        v->items[1] = state;
        return true;
    }
    return machine_append(m, v, state);
}

static bool persistent_op(PickleMachine *m)
{
    PickleValue *id = machine_pop(m), *v = id ? machine_value(m, PICKLE_PERSISTENT) : NULL;
    return v && machine_append(m, v, id) && machine_push(m, v);
}

/* ---- the machine ---- */

static bool literal_op(PickleMachine *m, int op, bool *known)
{
    int64_t bits;
    switch (op) {
    case 'N':
        return machine_push(m, machine_value(m, PICKLE_NONE));
    case 0x88:
    case 0x89:
        return push_bool(m, op == 0x88);
    case 'K':
    case 'M':
    case 'J': {
        int n = op == 'K' ? 1 : op == 'M' ? 2 : 4;
        if (!need(m, (uint64_t)n))
            return false;
        bits = n == 1 ? m->p[0] : n == 2 ? load_le16(m->p) : (int32_t)load_le32(m->p);
        m->p += n;
        return push_int(m, bits);
    }
    case 'I':
    case 'L':
    case 'F':
    case 'S':
    case 'V':
        return push_line(m, op);
    case 0x8a:
        return push_long(m, 1);
    case 0x8b:
        return push_long(m, 4);
    case 'G':
        return push_double(m);
    case 'U':
    case 0x8c:
        return push_text(m, PICKLE_TEXT, 1);
    case 'T':
    case 'X':
        return push_text(m, PICKLE_TEXT, 4);
    case 0x8d:
        return push_text(m, PICKLE_TEXT, 8);
    case 'C':
        return push_text(m, PICKLE_BYTES, 1);
    case 'B':
        return push_text(m, PICKLE_BYTES, 4);
    case 0x8e:
    case 0x96:
        return push_text(m, PICKLE_BYTES, 8);
    default:
        *known = false;
        return false;
    }
}

static bool structure_op(PickleMachine *m, int op, bool *known)
{
    switch (op) {
    case '(':
        return machine_mark(m);
    case '0':
        return machine_pop(m) != NULL;
    case '1':
        if (!m->n_marks)
            return machine_damaged(m, "a mark is missing");
        m->depth = m->marks[--m->n_marks];
        return true;
    case '2':
        return machine_top(m) ? machine_push(m, machine_top(m)) : machine_damaged(m, "a value is missing");
    case ']':
        return machine_push(m, machine_value(m, PICKLE_LIST));
    case ')':
        return machine_push(m, machine_value(m, PICKLE_TUPLE));
    case '}':
        return machine_push(m, machine_value(m, PICKLE_DICT));
    case 'l':
        return push_marked(m, PICKLE_LIST);
    case 't':
        return push_marked(m, PICKLE_TUPLE);
    case 'd':
        return push_marked(m, PICKLE_DICT);
    case 'a':
        return append_one(m);
    case 'e':
        return extend_marked(m, PICKLE_LIST);
    case 's':
        return set_one(m);
    case 'u':
        return extend_marked(m, PICKLE_DICT);
    case 0x85:
    case 0x86:
    case 0x87:
        return push_tuple(m, op - 0x84);
    case 'g':
    case 'h':
    case 'j':
    case 'p':
    case 'q':
    case 'r':
        return memo_op(m, op);
    case 0x94:
        return machine_memo_put(m, m->memo_next++);
    case 'c':
    case 0x93:
        return global_op(m, op);
    case 'R':
    case 0x81:
        return call_op(m);
    case 'b':
        return build_op(m);
    case 'Q':
        return persistent_op(m);
    case 0x80:
    case 0x95: {
        uint64_t n = op == 0x80 ? 1 : 8; /* protocol number, frame length: neither matters */
        if (!need(m, n))
            return false;
        m->p += n;
        return true;
    }
    default:
        *known = false;
        return false;
    }
}

static bool run(PickleMachine *m)
{
    while (m->p < m->end) {
        int op = *m->p++;
        if (op == '.') {
            m->out->root = machine_pop(m);
            return m->out->root != NULL;
        }
        bool known = true, ok = literal_op(m, op, &known);
        if (!known) {
            known = true;
            ok = structure_op(m, op, &known);
        }
        if (!known)
            return rt_error(m->e, RT_FILE,
                            "'%s' is damaged or refused: opcode 0x%02x in its pickle is not one that tensors and arrays need",
                            m->file, op);
        if (!ok)
            return false;
    }
    return machine_damaged(m, "the end is missing");
}

bool pickle_parse(const uint8_t *bytes, size_t len, const char *file, const PickleGlobal *allowed, size_t n_allowed, Pickle *out,
                  RtError *e)
{
    *out = (Pickle){.limit = len > ((size_t)1 << 40) ? SIZE_MAX / 2 : len * 128 + (1 << 16)};
    PickleMachine m = {
        .p = bytes, .end = bytes + len, .file = file, .allowed = allowed, .n_allowed = n_allowed, .out = out, .e = e};
    bool ok = run(&m);
    machine_free(&m);
    if (!ok)
        pickle_free(out);
    return ok;
}
