/* The COLUMNS skeleton: reductions whose outputs lie side by side in memory (statistics of channels that lie innermost).
 * In: a launch whose rows are the axes of all outputs, the last one side by side. Out: the kernel's body.
 * A block has 32 columns or less, neighbours along the last axis, one for each of as many threads; such groups share the points of
 * every reduction, and column_sum adds their parts in order. Loads of a group lie together, whatever the reduction runs over.
 * Where a sweep is enough a thread takes WIDE neighbours at once. For a mean m and SUM((x - m)^2) it is, too: a thread sums what its
 * n values are more than the first of them, d, and its squares; about the mean of all its squares are then
 *
 *     SUM(d^2) - SUM(d)^2 / n + (SUM(x) - n * m)^2 / n                   nothing is lost when m is far larger than the deviation */
#include "codegen/gpu/code.h"

typedef struct { ExprId sum[MAX_KERNEL_OUT]; int n; bool moments; } Sums;

static bool find_sums(const Kernel *k, Sums *s)
{
    s->n = 0;
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *x = &k->expr[e];
        if (!expr_is_reduction(x->op))
            continue;
        if (x->op != EX_SUM || s->n == MAX_KERNEL_OUT || (s->n && x->axes != k->expr[s->sum[0]].axes))
            return false;
        s->sum[s->n++] = e;
    }
    s->moments = s->n == 2 && sums_are_moments(k, s->sum[0], s->sum[1]);
    for (int i = 0; i < s->n && !s->moments; i++)
        for (int j = 0; j < i; j++)
            if (kernel_needs(k, k->expr[s->sum[i]].a, s->sum[j]))
                return false;
    return s->n > 0;
}

bool columns_are_wide(const KernelList *l, const Kernel *k, int last)
{
    Sums s;
    if (k->axis[last].batch || k->axis[last].extent % WIDE || !find_sums(k, &s))
        return false;
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_LOAD && k->expr[e].free_axes & k->expr[s.sum[0]].axes && wide_access(l, k, k->expr[e].at, last))
            return true;
    return false;
}

/* ---- four neighbours ---- */
static void add_moment(Code *c, const Sums *s)
{
    const char *v = cu_variable(c, c->k->expr[s->sum[0]].a);
    cu_line(c, "if (taken == 0) first[u] = %s;", v);
    cu_line(c, "const float more = %s - first[u];", v);
    cu_line(c, "e%d[u] += %s;", s->sum[0], v);
    cu_line(c, "more_sum[u] += more;");
    cu_line(c, "e%d[u] += more * more;", s->sum[1]);
}

static void sweep(Code *c, const Sums *s, int last)
{
    const uint32_t axes = c->k->expr[s->sum[0]].axes;
    const char **kept = cu_keep(c);
    for (int i = 0; i < s->n; i++)
        cu_line(c, "float e%d[%d] = {0.0f};", s->sum[i], WIDE);
    if (s->moments)
        cu_line(c, "float first[%d] = {0.0f}, more_sum[%d] = {0.0f}, taken = 0.0f;", WIDE, WIDE);
    cu_forget(c, axes);
    cu_line(c, "#pragma unroll 4");   /* loads enough under way */
    cu_open_shared(c, axes, false);
    int threads = c->threads, columns = c->columns;
    c->threads = c->columns = 0;
    wide_open(c, last);
    for (int i = 0; i < s->n && !s->moments; i++)
        cu_line(c, "e%d[u] += %s;", s->sum[i], cu_value(c, c->k->expr[s->sum[i]].a));
    if (s->moments)
        add_moment(c, s);
    wide_close(c);
    if (s->moments)
        cu_line(c, "taken += 1.0f;");
    cu_close(c);
    cu_restore(c, kept);
    c->threads = threads;
    c->columns = columns;
}

static void open_neighbours(Code *c, const Sums *s, int last)
{
    const char *name = c->k->axis[last].name;
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int u = 0; u < %d; u++)", WIDE);
    cu_line(c, "const int %s = first_%s + u;", name, name);
    for (int i = 0; i < s->n; i++)
        c->name[s->sum[i]] = arena_printf(c->arena, "e%d[u]", s->sum[i]);
}

/* Squares about the mean of all, from those about the thread's first value. */
static void move_squares(Code *c, const Sums *s, int last)
{
    const Kernel *k = c->k;
    const char **kept = cu_keep(c);
    cu_line(c, "const float share = taken > 0.0f ? 1.0f / taken : 0.0f;");
    open_neighbours(c, s, last);
    cu_line(c, "const float mean = %s;", cu_value(c, k->expr[k->expr[k->expr[s->sum[1]].a].a].b));
    cu_line(c, "const float off = own[u] - taken * mean;");
    cu_line(c, "e%d[u] += (off * off - more_sum[u] * more_sum[u]) * share;", s->sum[1]);
    cu_close(c);
    cu_restore(c, kept);
}

static void emit_wide(Code *c, const GpuBody *body, int last)
{
    Sums s;
    find_sums(c->k, &s);
    sweep(c, &s, last);
    if (s.moments)
        cu_line(c, "const float own[%d] = {e%d[0], e%d[1], e%d[2], e%d[3]};", WIDE, s.sum[0], s.sum[0], s.sum[0], s.sum[0]);
    for (int i = 0; i < s.n; i++) {
        if (s.moments && i == 1)
            move_squares(c, &s, last);
        cu_line(c, "column_sum4(e%d, shared, %d, %d);", s.sum[i], body->columns, body->threads);
    }
    c->threads = c->columns = 0;
    cu_open(c, "if (threadIdx.x < %d && column < %d)", body->columns, c->k->axis[last].extent);
    open_neighbours(c, &s, last);
    cu_outputs(c, false);
    cu_close(c);
    cu_close(c);
}

void columns_emit(Code *c, const GpuBody *body)
{
    const Kernel *k = c->k;
    const int last = body->row[body->n_rows - 1], extent = k->axis[last].extent, side = body->wide ? WIDE : 1;
    const int columns = body->columns, across = (extent + columns * side - 1) / (columns * side);
    const char *scale = body->wide ? arena_printf(c->arena, "%d * ", WIDE) : "", *before = body->wide ? "first_" : "";
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "const int outer = block / %d, column = %s(block %% %d * %d + threadIdx.x %% %d);", across, scale, across, columns, columns);
    cu_split(c, "outer", body->row, body->n_rows - 1);
    for (int i = 0; i < body->n_rows - 1; i++)
        if (cu_is_dynamic(c, body->row[i]))
            cu_line(c, "if (%s >= %s) return;", k->axis[body->row[i]].name, cu_extent(c, body->row[i]));
    cu_line(c, "const int %s%s = column < %d ? column : %d;   // all lanes meet at barriers", before, k->axis[last].name, extent, extent - side);
    c->threads = body->threads;
    c->columns = columns;
    if (body->wide) {
        emit_wide(c, body, last);
        return;
    }
    for (int o = 0; o < k->n_out; o++)
        cu_hoist_reductions(c, k->out[o].value, 0);
    c->threads = 0;
    c->columns = 0;
    cu_open(c, "if (threadIdx.x < %d && column < %d)", columns, extent);
    cu_outputs(c, false);
    cu_close(c);
}
