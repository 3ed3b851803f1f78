/* Tensors printed as PyTorch prints them.
 * In: shape and values (row-major). Out: text equal to print(tensor): 4 decimals, lines of 80, brackets per axis, the first
 * and last three of each long axis above 1000 elements.
 * Invariant: one format for all numbers of a tensor, chosen from those that are shown.
 * Idea: format (integers, decimals, or exponents) and width first; then the axes recursively. */
#include "passes/explain.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { LINE_WIDTH = 80, EDGE = 3, SUMMARISE_ABOVE = 1000, PREFIX = 7 /* "tensor(" */, NUMBER = 64 };

typedef struct {
    FILE *to;
    const Shape *s;
    const double *values;
    bool integer, summary, whole, exponent; /* whole: floats without fractions, printed "1." */
    int width;
    int column; /* of the last line, for the suffix */
} Tensor;

static bool is_shown(const Tensor *t, int axis, int64_t i)
{
    return !t->summary || t->s->dim[axis] <= 2 * EDGE || i < EDGE || i >= t->s->dim[axis] - EDGE;
}

static int format_number(const Tensor *t, double v, char *out)
{
    if (t->integer)
        return snprintf(out, NUMBER, "%" PRId64, (int64_t)v);
    if (!isfinite(v))
        return snprintf(out, NUMBER, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
    if (t->exponent)
        return snprintf(out, NUMBER, "%.4e", v);
    return t->whole ? snprintf(out, NUMBER, "%.0f.", v) : snprintf(out, NUMBER, "%.4f", v);
}

/* Calls visit for every number that is shown. */
static void each_shown(Tensor *t, int axis, int64_t at, void (*visit)(Tensor *, double, void *), void *context)
{
    if (axis == t->s->rank) {
        visit(t, t->values[at], context);
        return;
    }
    for (int64_t i = 0; i < t->s->dim[axis]; i++)
        if (is_shown(t, axis, i))
            each_shown(t, axis + 1, at * t->s->dim[axis] + i, visit, context);
}

typedef struct {
    double least, most;
    bool any, whole;
} Range;

static void widen_range(Tensor *t, double v, void *context)
{
    Range *r = context;
    (void)t;
    if (!isfinite(v) || v == 0)
        return;
    double size = fabs(v);
    r->least = !r->any || size < r->least ? size : r->least;
    r->most = !r->any || size > r->most ? size : r->most;
    r->whole = r->whole && v == ceil(v);
    r->any = true;
}

static void widen_cell(Tensor *t, double v, void *context)
{
    char text[NUMBER];
    (void)context;
    if (!t->integer && (!isfinite(v) || v == 0)) /* PyTorch measures the others only */
        return;
    int n = format_number(t, v, text);
    t->width = n > t->width ? n : t->width;
}

static void choose_format(Tensor *t)
{
    Range r = {.whole = true};
    t->width = 1;
    if (!t->integer) {
        each_shown(t, 0, 0, widen_range, &r);
        t->whole = r.whole;
        t->exponent = r.any && (r.most / r.least > 1000 || r.most > 1e8 || r.least < 1e-4);
    }
    each_shown(t, 0, 0, widen_cell, NULL);
}

/* ---- printing ---- */

static void put(Tensor *t, const char *s)
{
    const char *line = strrchr(s, '\n');
    t->column = line ? (int)strlen(line + 1) : t->column + (int)strlen(s);
    fputs(s, t->to);
}

static void put_break(Tensor *t, int lines, int indent)
{
    for (int i = 0; i < lines; i++)
        fputc('\n', t->to);
    fprintf(t->to, "%*s", indent, "");
    t->column = indent;
}

static void put_number(Tensor *t, double v)
{
    char text[NUMBER];
    int n = format_number(t, v, text);
    for (int i = n; i < t->width; i++)
        put(t, " ");
    put(t, text);
}

static void put_vector(Tensor *t, int axis, int64_t at, int indent)
{
    int64_t n = t->s->dim[axis], on_line = 0, per_line = (LINE_WIDTH - indent) / (t->width + 2);
    bool gap = t->summary && n > 2 * EDGE, first = true;
    per_line = per_line < 1 ? 1 : per_line;
    put(t, "[");
    for (int64_t i = 0; i < n; i++) {
        if (!is_shown(t, axis, i) && i != EDGE)
            continue;
        if (!first && on_line == per_line) {
            put(t, ",");
            put_break(t, 1, indent + 1);
            on_line = 0;
        } else if (!first) {
            put(t, ", ");
        }
        first = false;
        on_line++;
        if (gap && i == EDGE)
            put(t, " ...");
        else
            put_number(t, t->values[at * n + i]);
    }
    put(t, "]");
}

static void put_axis(Tensor *t, int axis, int64_t at, int indent)
{
    int64_t n = t->s->dim[axis];
    int below = t->s->rank - axis; /* axes from here on */
    if (below == 1) {
        put_vector(t, axis, at, indent);
        return;
    }
    bool first = true;
    put(t, "[");
    for (int64_t i = 0; i < n; i++) {
        if (!is_shown(t, axis, i) && i != EDGE)
            continue;
        if (!first) {
            put(t, ",");
            put_break(t, below - 1, indent + 1);
        }
        first = false;
        if (is_shown(t, axis, i))
            put_axis(t, axis + 1, at * n + i, indent + 1);
        else
            put(t, "...");
    }
    put(t, "]");
}

void explain_print_tensor(FILE *to, const Shape *s, const double *values, bool integer, const char *suffix)
{
    Tensor t = {.to = to, .s = s, .values = values, .integer = integer};
    int64_t n = shape_elements(s);
    t.summary = n > SUMMARISE_ABOVE;
    put(&t, "tensor(");
    if (n == 0) {
        put(&t, "[]");
    } else {
        choose_format(&t);
        if (s->rank == 0)
            put_number(&t, values[0]);
        else
            put_axis(&t, 0, 0, PREFIX);
    }
    if (suffix && t.column + 2 + (int)strlen(suffix) + 2 > LINE_WIDTH)
        fprintf(to, ",\n%*s%s", PREFIX, "", suffix);
    else if (suffix)
        fprintf(to, ", %s", suffix);
    fputs(")\n", to);
}

void explain_print_weight(FILE *to, const char *name, const Shape *s, const double *values, const ParamAttrs *p, bool integer)
{
    fprintf(to, "%s\ntorch.Size([", name);
    for (int i = 0; i < s->rank; i++)
        fprintf(to, "%s%" PRId64, i ? ", " : "", s->dim[i]);
    fputs("])\n", to);
    if (!p->buffer)
        fputs("Parameter containing:\n", to);
    explain_print_tensor(to, s, values, integer, p->buffer || !p->trainable ? NULL : "requires_grad=True");
}
