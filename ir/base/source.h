/* A source text and spans in it. Spans are byte offsets; lines and columns are computed only when printed. */
#ifndef CNNC_IR_BASE_SOURCE_H
#define CNNC_IR_BASE_SOURCE_H
#include "ir/base/arena.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct { uint32_t start, end; } Span;            /* [start, end) byte offsets */
typedef struct { const char *path, *text; uint32_t len; } Source;   /* text is NUL-terminated; owned by the arena */
typedef struct { uint32_t line, column; } LineCol;       /* both from 1; column counts bytes */

bool source_read(Arena *a, const char *path, Source *out, const char **why);   /* false: *why says what the system said */
Source source_from_text(Arena *a, const char *path, const char *text, size_t len);
LineCol source_line_col(const Source *s, uint32_t offset);
/* Many questions about one text: index its lines once, then each answer is a binary search. */
typedef struct { const Source *source; uint32_t *start, n; } LineIndex;
LineIndex source_index_lines(Arena *a, const Source *s);
LineCol line_index_find(const LineIndex *index, uint32_t offset);
Span source_line_span(const Source *s, uint32_t line);   /* without the line end */
static inline Span span_join(Span a, Span b) { return (Span){a.start < b.start ? a.start : b.start, a.end > b.end ? a.end : b.end}; }
#endif
