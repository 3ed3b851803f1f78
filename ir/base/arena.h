/* Arenas: all memory of the compiler. An arena owns every block it hands out; nothing is freed one by one.
 * Blocks are zeroed and aligned to 16 bytes. Out of memory prints a sentence and aborts, in arena.c alone. */
#ifndef CNNC_IR_BASE_ARENA_H
#define CNNC_IR_BASE_ARENA_H
#include <stdarg.h>
#include <stddef.h>

typedef struct Arena Arena;
typedef struct { void *chunk; size_t used; } ArenaMark;

Arena *arena_new(void);
void arena_free(Arena *a);                         /* a may be NULL */
void *arena_alloc(Arena *a, size_t bytes);         /* zeroed; never NULL */
void *arena_grow(Arena *a, const void *old, size_t old_bytes, size_t new_bytes); /* copy into a larger block */
char *arena_strdup(Arena *a, const char *s);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(Arena *a, const char *fmt, va_list ap);
ArenaMark arena_mark(const Arena *a);
void arena_reset(Arena *a, ArenaMark m);           /* everything allocated since the mark is gone (and poisoned in debug builds) */
size_t arena_bytes(const Arena *a);                /* bytes handed out so far */

#define NEW(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define NEWN(a, T, n) ((T *)arena_alloc((a), sizeof(T) * (size_t)(n)))
#endif
