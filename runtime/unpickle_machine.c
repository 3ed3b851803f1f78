/* Storage of the pickle reader: values, stack, marks, memo; and looking into the tree it leaves.
 * In: what the opcodes ask for. Out: memory that belongs to the Pickle.
 * Relies on Pickle.limit, which grows with the file's length only; leaves nothing behind after machine_free and pickle_free.
 * Idea: values come from chunks that are freed together, since they may share parts and even contain themselves. */
#include "runtime/unpickle_machine.h"
#include <stdlib.h>
#include <string.h>

typedef struct PickleChunk {
    struct PickleChunk *next;
    size_t used, size;
    _Alignas(16) char at[];
} PickleChunk;

bool machine_damaged(PickleMachine *m, const char *what)
{
    return rt_error(m->e, RT_FILE, "'%s' is cut short or damaged: %s in its pickle", m->file, what);
}

/* ---- memory ---- */

void *machine_alloc(PickleMachine *m, size_t bytes)
{
    Pickle *o = m->out;
    bytes = (bytes + 15) / 16 * 16;
    if (bytes > o->limit - o->used) {
        machine_damaged(m, "far too many values");
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

PickleValue *machine_value(PickleMachine *m, PickleKind kind)
{
    PickleValue *v = machine_alloc(m, sizeof *v);
    if (v)
        v->kind = kind;
    return v;
}

bool machine_append(PickleMachine *m, PickleValue *v, PickleValue *item)
{
    if (v->n == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 4;
        PickleValue **items = machine_alloc(m, cap * sizeof *items);
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

static size_t stack_floor(const PickleMachine *m) { return m->n_marks ? m->marks[m->n_marks - 1] : 0; }

bool machine_push(PickleMachine *m, PickleValue *v)
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

PickleValue *machine_pop(PickleMachine *m)
{
    if (m->depth == stack_floor(m)) {
        machine_damaged(m, "a value is missing");
        return NULL;
    }
    return m->stack[--m->depth];
}

PickleValue *machine_top(PickleMachine *m) { return m->depth > stack_floor(m) ? m->stack[m->depth - 1] : NULL; }

bool machine_mark(PickleMachine *m)
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

/* ---- memo ---- */

bool machine_memo_put(PickleMachine *m, uint64_t at)
{
    PickleValue *v = machine_top(m);
    if (!v || at > (uint64_t)m->out->limit)
        return machine_damaged(m, "a wrong memo");
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

bool machine_memo_get(PickleMachine *m, uint64_t at)
{
    return at < m->memo_cap && m->memo[at] ? machine_push(m, m->memo[at]) : machine_damaged(m, "a wrong memo");
}

void machine_free(PickleMachine *m)
{
    free(m->stack);
    free(m->marks);
    free(m->memo);
}

/* ---- the tree ---- */

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
    return v && (v->kind == PICKLE_TEXT || v->kind == PICKLE_BYTES) && strlen(text) == v->len &&
           memcmp(v->text, text, v->len) == 0;
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
