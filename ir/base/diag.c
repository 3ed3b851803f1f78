/* Diagnostics: collecting, sorting and printing them in three forms.
 * In: errors and warnings with spans. Out: text (GCC's first line, the source line, carets), one line, or JSON.
 * Invariant: `last` is the diagnostic that notes attach to, also when a warning was turned off (then it is on no list).
 * Idea: source text is printed cell by cell, so tabs, UTF-8, control bytes and very long lines keep the carets in place. */
#include "ir/base/diag.h"

#include "ir/base/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- collecting ---- */

void diags_init(Diags *d, Arena *a, const Source *src)
{
    *d = (Diags){.arena = a, .src = src};
    d->tail = &d->first;
}

static bool is_off(const Diags *d, const char *name)
{
    for (const char **p = d->off; p && *p; p++)
        if (strcmp(*p, name) == 0)
            return true;
    return false;
}

static Diag *new_diag(Diags *d, DiagKind kind, Span span, const char *code, const char *name, const char *text)
{
    Diag *x = NEW(d->arena, Diag);
    *x = (Diag){.kind = kind, .code = code, .name = name, .span = span, .text = text};
    d->last = x;
    return x;
}

enum { MOST_KEPT = 1000, MOST_AT_ONE_PLACE = 4 };
typedef enum { KEEP, HIDE, REPEATED } Fate;

/* A block used ten times makes the same mistake ten times: it is told once; a loop with other numbers each time, a few times. */
static Fate fate_of(const Diags *d, const Diag *x)
{
    int at_place = 0, kept = 0;
    for (const Diag *y = d->first; y; y = y->next, kept++) {
        if (y->span.start != x->span.start || y->span.end != x->span.end || strcmp(y->code, x->code) != 0)
            continue;
        at_place++;
        if (strcmp(y->text, x->text) == 0)
            return REPEATED;
    }
    return at_place >= MOST_AT_ONE_PLACE || kept >= MOST_KEPT ? HIDE : KEEP;
}

static void append(Diags *d, Diag *x)
{
    Fate fate = fate_of(d, x);
    if (fate == REPEATED) {
        d->repeated++;
        return;
    }
    if (x->kind == DIAG_ERROR)
        d->errors++;
    else
        d->warnings++;
    if (fate == HIDE) {
        d->hidden++;
        return;
    }
    *d->tail = x;
    d->tail = &x->next;
}

bool diag_error(Diags *d, Span span, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    append(d, new_diag(d, DIAG_ERROR, span, code, NULL, arena_vprintf(d->arena, fmt, ap)));
    va_end(ap);
    return false;
}

void diag_warning(Diags *d, Span span, const char *code, const char *name, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    DiagKind kind = d->warnings_are_errors ? DIAG_ERROR : DIAG_WARNING;
    Diag *x = new_diag(d, kind, span, code, name, arena_vprintf(d->arena, fmt, ap));
    va_end(ap);
    if (!is_off(d, name))
        append(d, x);
}

void diag_note(Diags *d, Span span, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    Label *note = NEW(d->arena, Label);
    *note = (Label){.span = span, .text = arena_vprintf(d->arena, fmt, ap)};
    va_end(ap);
    Label **tail = &d->last->notes;
    while (*tail)
        tail = &(*tail)->next;
    *tail = note;
}

#define ATTACH(function, field)                                                                                                  \
    void function(Diags *d, const char *fmt, ...)                                                                                \
    {                                                                                                                            \
        va_list ap;                                                                                                              \
        va_start(ap, fmt);                                                                                                       \
        d->last->field = arena_vprintf(d->arena, fmt, ap);                                                                       \
        va_end(ap);                                                                                                              \
    }
ATTACH(diag_help, help)
ATTACH(diag_fix, fix)
ATTACH(diag_torch, torch)

/* ---- sorting: by place, equal places in order of report ---- */

typedef struct {
    const Diag *diag;
    uint32_t order;
} Ranked;

static int compare_place(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;
    if (x->diag->span.start != y->diag->span.start)
        return x->diag->span.start < y->diag->span.start ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static Ranked *sorted(const Diags *d, uint32_t *n)
{
    uint32_t count = 0;
    for (const Diag *x = d->first; x; x = x->next)
        count++;
    Ranked *r = NEWN(d->arena, Ranked, count + 1);
    uint32_t i = 0;
    for (const Diag *x = d->first; x; x = x->next, i++)
        r[i] = (Ranked){x, i};
    qsort(r, count, sizeof *r, compare_place);
    *n = count;
    return r;
}

/* ---- one source line as cells: what a byte or a UTF-8 sequence becomes on the screen ---- */

enum { TAB = 4, LINE_ROOM = 150, LINE_BEFORE = 60 };
typedef struct {
    uint32_t bytes, width;
    bool odd;
} Cell; /* odd: a control or broken byte, shown as U+FFFD */

static uint32_t code_point(const unsigned char *s, uint32_t n)
{
    uint32_t c = n == 1 ? s[0] : n == 2 ? s[0] & 0x1Fu : n == 3 ? s[0] & 0x0Fu : s[0] & 0x07u;
    for (uint32_t i = 1; i < n; i++)
        c = c << 6 | (s[i] & 0x3Fu);
    return c;
}

static uint32_t code_point_width(uint32_t c)
{
    if ((c >= 0x300 && c <= 0x36F) || (c >= 0x200B && c <= 0x200F) || c == 0xFEFF)
        return 0;
    bool wide = (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF) || (c >= 0xAC00 && c <= 0xD7A3) ||
                (c >= 0xF900 && c <= 0xFAFF) || (c >= 0xFE30 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF60) ||
                (c >= 0x1F300 && c <= 0x1FAFF) || (c >= 0x20000 && c <= 0x3FFFD);
    return wide ? 2 : 1;
}

static Cell cell_at(const char *text, uint32_t left, uint32_t column)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] == '\t')
        return (Cell){1, TAB - column % TAB, false};
    uint32_t n = text_utf8_length(text, left);
    if (n == 0 || (n == 1 && (s[0] < 0x20 || s[0] == 0x7F)) || (n == 2 && s[0] == 0xC2 && s[1] < 0xA0))
        return (Cell){n ? n : 1, 1, true};
    return (Cell){n, code_point_width(code_point(s, n)), false};
}

/* The part of `line` that is shown: all of it, or a window around `mark` when it is very long. */
static Span shown_part(const Source *s, Span line, uint32_t mark)
{
    if (line.end - line.start <= LINE_ROOM)
        return line;
    uint32_t start = mark > line.start + LINE_BEFORE ? mark - LINE_BEFORE : line.start;
    if (start + LINE_ROOM > line.end)
        start = line.end - LINE_ROOM;
    uint32_t end = start + LINE_ROOM;
    while (start > line.start && (s->text[start] & 0xC0) == 0x80)
        start--;
    while (end < line.end && (s->text[end] & 0xC0) == 0x80)
        end++;
    return (Span){start, end};
}

/* ---- the human form ---- */

typedef struct {
    const char *bold, *error, *warning, *caret, *note, *gutter, *end;
} Paint;
static const Paint PLAIN = {"", "", "", "", "", "", ""};
static const Paint COLORS = {"\033[1m", "\033[1;31m", "\033[1;35m", "\033[1;32m", "\033[1;36m", "\033[34m", "\033[0m"};

typedef struct {
    FILE *to;
    const Source *src;
    LineIndex lines;
    const Paint *paint;
} Printer;

static Span line_span(const LineIndex *lines, uint32_t line)
{
    const Source *s = lines->source;
    uint32_t start = lines->start[line - 1], end = line < lines->n ? lines->start[line] - 1 : s->len;
    if (end > start && s->text[end - 1] == '\r')
        end--;
    return (Span){start, end};
}

/* Prints the line of `span` and below it `mark` under each column of the span; the underline's line is left open. */
static void print_marked_line(const Printer *p, Span span, char mark, const char *mark_color)
{
    uint32_t line = line_index_find(&p->lines, span.start).line;
    Span whole = line_span(&p->lines, line), part = shown_part(p->src, whole, span.start);
    uint32_t column = 0, from = 0, to = 0;
    fprintf(p->to, "%s%5u |%s ", p->paint->gutter, line, p->paint->end);
    if (part.start > whole.start) {
        fputs("...", p->to);
        column = 3;
    }
    from = column;
    for (uint32_t i = part.start; i < part.end;) {
        Cell c = cell_at(p->src->text + i, part.end - i, column);
        if (i <= span.start)
            from = column;
        if (p->src->text[i] == '\t')
            fprintf(p->to, "%*s", (int)c.width, "");
        else if (c.odd)
            fputs("\xEF\xBF\xBD", p->to);
        else
            fwrite(p->src->text + i, 1, c.bytes, p->to);
        column += c.width;
        if (i < span.end)
            to = column;
        i += c.bytes;
    }
    if (span.start >= part.end)
        from = column;
    fprintf(p->to, "%s\n%s      |%s %*s%s", part.end < whole.end ? "..." : "", p->paint->gutter, p->paint->end, (int)from, "",
            mark_color);
    for (uint32_t i = from; i < (to > from ? to : from + 1); i++)
        fputc(mark, p->to);
    fputs(p->paint->end, p->to);
}

static void print_first_line(const Printer *p, const Diag *x)
{
    bool error = x->kind == DIAG_ERROR;
    fputs(p->paint->bold, p->to);
    if (p->src) {
        LineCol at = line_index_find(&p->lines, x->span.start);
        fprintf(p->to, "%s:%u:%u: ", p->src->path, at.line, at.column);
    } else {
        fputs("cnnc: ", p->to);
    }
    fprintf(p->to, "%s%s%s: %s%s%s%s [%s]\n", p->paint->end, error ? p->paint->error : p->paint->warning,
            error ? "error" : "warning", p->paint->end, p->paint->bold, x->text, p->paint->end, x->code);
}

static void print_human(const Printer *p, const Diag *x)
{
    print_first_line(p, x);
    if (p->src) {
        print_marked_line(p, x->span, '^', p->paint->caret);
        fputc('\n', p->to);
    }
    for (const Label *n = x->notes; n; n = n->next) {
        if (!p->src || n->span.end == 0) {
            fprintf(p->to, "      %s= note:%s %s\n", p->paint->note, p->paint->end, n->text);
            continue;
        }
        print_marked_line(p, n->span, '-', p->paint->note);
        fprintf(p->to, " %snote:%s %s\n", p->paint->note, p->paint->end, n->text);
    }
    if (x->help)
        fprintf(p->to, "      %s= help:%s %s\n", p->paint->note, p->paint->end, x->help);
    if (x->torch)
        fprintf(p->to, "      %s= PyTorch:%s %s\n", p->paint->note, p->paint->end, x->torch);
    if (x->name)
        fprintf(p->to, "      %s= note:%s -W no-%s turns this warning off\n", p->paint->note, p->paint->end, x->name);
}

/* ---- the JSON form ---- */

static void print_json_place(const Printer *p, Span span)
{
    LineCol from = {1, 1}, to = {1, 1};
    if (p->src) {
        from = line_index_find(&p->lines, span.start);
        to = line_index_find(&p->lines, span.end > span.start ? span.end : span.start);
    }
    fprintf(p->to, "\"line\": %u, \"column\": %u, \"end_line\": %u, \"end_column\": %u", from.line, from.column, to.line,
            to.column);
}

static void print_json_field(FILE *to, const char *key, const char *value)
{
    fprintf(to, ", \"%s\": ", key);
    if (value)
        text_print_json(to, value);
    else
        fputs("null", to);
}

static void print_json(const Printer *p, const Diag *x)
{
    fprintf(p->to, "{\"code\": ");
    text_print_json(p->to, x->code);
    fprintf(p->to, ", \"severity\": \"%s\"", x->kind == DIAG_ERROR ? "error" : "warning");
    print_json_field(p->to, "message", x->text);
    print_json_field(p->to, "file", p->src ? p->src->path : NULL);
    fputs(", ", p->to);
    print_json_place(p, x->span);
    fputs(", \"notes\": [", p->to);
    for (const Label *n = x->notes; n; n = n->next) {
        fputs("{\"message\": ", p->to);
        text_print_json(p->to, n->text);
        fputs(", ", p->to);
        print_json_place(p, n->span);
        fputs(n->next ? "}, " : "}", p->to);
    }
    fputc(']', p->to);
    print_json_field(p->to, "help", x->help);
    print_json_field(p->to, "fix", x->fix);
    print_json_field(p->to, "torch", x->torch);
    if (x->name)
        print_json_field(p->to, "name", x->name);
    fputs("}\n", p->to);
}

void diags_print(Diags *d, FILE *to, DiagFormat format, bool color)
{
    if (!d->first)
        return;
    Printer p = {.to = to, .src = d->src, .paint = color && format == DIAG_HUMAN ? &COLORS : &PLAIN};
    if (d->src)
        p.lines = source_index_lines(d->arena, d->src);
    uint32_t n;
    const Ranked *ranked = sorted(d, &n);
    for (uint32_t i = 0; i < n; i++) {
        const Diag *x = ranked[i].diag;
        if (format == DIAG_JSON)
            print_json(&p, x);
        else if (format == DIAG_SHORT)
            print_first_line(&p, x);
        else
            print_human(&p, x);
    }
    if (d->hidden && format != DIAG_JSON)
        fprintf(to, "cnnc: %d more of the same, at the same places, are not shown\n", d->hidden);
}

_Noreturn void bug_at(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "cnnc: internal error at %s:%d: ", file, line);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}
