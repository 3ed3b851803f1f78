/* Arenas: a chain of growing chunks.
 * In: sizes. Out: zeroed blocks. Invariant: `used <= size` in each chunk; a mark names a chunk and its fill. */
#include "ir/base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct Chunk Chunk;
struct Chunk { Chunk *prev; size_t used, touched, size;   /* touched: most that was ever used */ };
struct Arena { Chunk *top; size_t bytes; };

enum { ALIGN = 16, FIRST_CHUNK = 64 * 1024 };
#define HEADER ((sizeof(Chunk) + ALIGN - 1) / ALIGN * ALIGN)

static void out_of_memory(size_t bytes)
{
    fprintf(stderr, "cnnc: out of memory: %zu more bytes were needed\n", bytes);
    abort();
}

static void *checked_calloc(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        out_of_memory(bytes);
    return p;
}

/* Weights fill chunks of many megabytes: large pages save a million page faults. */
static void ask_for_large_pages(void *p, size_t bytes)
{
    enum { LARGE = 2 << 20 };
    uintptr_t from = ((uintptr_t)p + LARGE - 1) / LARGE * LARGE, to = ((uintptr_t)p + bytes) / LARGE * LARGE;
    if (from < to)
        madvise((void *)from, to - from, MADV_HUGEPAGE);   /* only advice */
}

static void push_chunk(Arena *a, size_t at_least)
{
    size_t size = a->top ? a->top->size * 2 : FIRST_CHUNK;
    if (size > (64u << 20))
        size = 64u << 20;
    if (size < at_least)
        size = at_least;
    Chunk *c = checked_calloc(HEADER + size);
    ask_for_large_pages(c, HEADER + size);
    *c = (Chunk){.prev = a->top, .used = 0, .size = size};
    a->top = c;
}

Arena *arena_new(void)
{
    Arena *a = checked_calloc(sizeof *a);
    *a = (Arena){0};
    push_chunk(a, 0);
    return a;
}

void arena_free(Arena *a)
{
    if (!a)
        return;
    for (Chunk *c = a->top; c;) {
        Chunk *prev = c->prev;
        free(c);
        c = prev;
    }
    free(a);
}

static char *first_free(const Arena *a) { return (char *)a->top + HEADER + a->top->used; }

/* The next bytes of the top chunk, which has them, are handed out. */
static void advance(Arena *a, size_t bytes)
{
    Chunk *c = a->top;
    c->used += bytes;
    c->touched = c->used > c->touched ? c->used : c->touched;
    a->bytes += bytes;
}

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

void *arena_alloc(Arena *a, size_t bytes)
{
    if (bytes > (size_t)-1 / 2)
        out_of_memory(bytes);
    size_t need = aligned(bytes);
    if (a->top->size - a->top->used < need)
        push_chunk(a, need);
    char *p = first_free(a);
    const Chunk *c = a->top;
    if (c->used < c->touched)   /* the rest is still as calloc gave it: pages that nobody writes cost nothing */
        memset(p, 0, c->touched - c->used < need ? c->touched - c->used : need);
    advance(a, need);
    return p;
}

void *arena_grow(Arena *a, const void *old, size_t old_bytes, size_t new_bytes)
{
    void *p = arena_alloc(a, new_bytes);
    if (old_bytes)
        memcpy(p, old, old_bytes);
    return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1);
    memcpy(p, s, n);
    return p;
}

char *arena_strdup(Arena *a, const char *s) { return arena_strndup(a, s, strlen(s)); }

/* Nearly every text fits behind what is in use, and so is formatted once. */
char *arena_vprintf(Arena *a, const char *fmt, va_list ap)
{
    Chunk *c = a->top;
    size_t room = c->size - c->used;
    char *p = first_free(a);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(p, room, fmt, again);
    va_end(again);
    size_t need = aligned((size_t)n + 1);
    if (need <= room) {
        advance(a, need);
        return p;
    }
    c->touched = c->size;
    p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    return p;
}

char *arena_printf(Arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *p = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return p;
}

ArenaMark arena_mark(const Arena *a) { return (ArenaMark){a->top, a->top->used}; }

void arena_reset(Arena *a, ArenaMark m)
{
    while (a->top != m.chunk) {
        Chunk *prev = a->top->prev;
        free(a->top);
        a->top = prev;
    }
#ifndef NDEBUG
    memset((char *)a->top + HEADER + m.used, 0xA5, a->top->used - m.used);
#endif
    a->top->used = m.used;
}

size_t arena_bytes(const Arena *a) { return a->bytes; }
