/* Source texts: reading them, and turning byte offsets into lines and columns.
 * In: a path or bytes. Out: a Source whose text is NUL-terminated (and may hold NULs of its own: `len` counts).
 * Invariant: `len` fits Span's 32 bits; lines end at '\n', a '\r' before it belongs to the line end.
 * Idea: one pass finds all line starts; a binary search then answers each question. */
#include "ir/base/source.h"

#include "ir/base/vec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SOURCE = 64 << 20, READ_STEP = 1 << 16 };

static bool read_all(Arena *a, FILE *f, Source *out, const char **why)
{
    Vec(char) text = {0};
    for (;;) {
        vec_reserve(a, &text, text.len + READ_STEP + 1);
        size_t n = fread(text.at + text.len, 1, READ_STEP, f);
        text.len += (uint32_t)n;
        if (text.len > MAX_SOURCE) {
            *why = "the file is larger than 64 MiB";
            return false;
        }
        if (n < READ_STEP)
            break;
    }
    if (ferror(f)) {
        *why = arena_strdup(a, strerror(errno));
        return false;
    }
    text.at[text.len] = '\0';
    out->text = text.at;
    out->len = text.len;
    return true;
}

bool source_read(Arena *a, const char *path, Source *out, const char **why)
{
    *out = (Source){.path = arena_strdup(a, path), .text = "", .len = 0};
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        *why = arena_strdup(a, strerror(errno));
        if (f)
            fclose(f);
        return false;
    }
    if (S_ISDIR(st.st_mode)) {
        *why = "it is a folder";
        fclose(f);
        return false;
    }
    bool ok = read_all(a, f, out, why);
    fclose(f);
    return ok;
}

Source source_from_text(Arena *a, const char *path, const char *text, size_t len)
{
    if (len > MAX_SOURCE)
        len = MAX_SOURCE;
    return (Source){.path = arena_strdup(a, path), .text = arena_strndup(a, text, len), .len = (uint32_t)len};
}

LineIndex source_index_lines(Arena *a, const Source *s)
{
    Vec(uint32_t) starts = {0};
    vec_push(a, &starts, 0);
    for (uint32_t i = 0; i < s->len; i++)
        if (s->text[i] == '\n')
            vec_push(a, &starts, i + 1);
    return (LineIndex){.source = s, .start = starts.at, .n = starts.len};
}

LineCol line_index_find(const LineIndex *index, uint32_t offset)
{
    if (offset > index->source->len)
        offset = index->source->len;
    uint32_t lo = 0, hi = index->n; /* the line is in [lo, hi) */
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (index->start[mid] <= offset)
            lo = mid;
        else
            hi = mid;
    }
    return (LineCol){.line = lo + 1, .column = offset - index->start[lo] + 1};
}

LineCol source_line_col(const Source *s, uint32_t offset)
{
    LineCol at = {1, 1};
    if (offset > s->len)
        offset = s->len;
    for (uint32_t i = 0; i < offset; i++) {
        if (s->text[i] == '\n')
            at = (LineCol){at.line + 1, 1};
        else
            at.column++;
    }
    return at;
}

Span source_line_span(const Source *s, uint32_t line)
{
    uint32_t start = 0;
    for (uint32_t i = 0, at = 1; i < s->len && at < line; i++) {
        if (s->text[i] == '\n') {
            at++;
            start = i + 1;
        }
    }
    const char *end = memchr(s->text + start, '\n', s->len - start);
    uint32_t stop = end ? (uint32_t)(end - s->text) : s->len;
    if (stop > start && s->text[stop - 1] == '\r')
        stop--;
    return (Span){start, stop};
}
