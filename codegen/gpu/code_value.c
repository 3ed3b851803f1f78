/* Values of scalar expressions as CUDA text.
 * In: a kernel's expressions. Out: strings for the skeletons to put between lines, and lines in front of them on c->to.
 * Relies on: axes being C variables where a value is asked for. Leaves: c->name says what holds each computed value.
 *
 * Where a value is computed. A reduction opens loops over its axes; what its operand needs from outside them is computed before
 * (cu_hoist), and reductions over the same axes share the loops. An axis can be bound outside and again by a reduction
 * (softmax): inside, values that depend on it are others, so their names are forgotten and restored behind the loops. */
#include "codegen/gpu/code.h"

#include <math.h>
#include <string.h>

static const char *number(Code *c, double v)
{
    if (isnan(v))
        return "NOT_A_NUMBER";
    if (isinf(v))
        return v < 0 ? "-INFINITE" : "INFINITE";
    char *s = arena_printf(c->arena, "%.9g", (double)(float)v);
    return arena_printf(c->arena, strpbrk(s, ".e") ? "%sf" : "%s.0f", s);
}

const char *cu_fill(Code *c, AccessId at)
{
    DType t = c->l->buffers.at[c->k->access[at].buf].dtype;
    double fill = c->k->access[at].fill;
    return t != DT_F32 && t != DT_BF16 ? arena_printf(c->arena, "%d", (int)fill) : number(c, fill);
}

const char *cu_load(Code *c, AccessId at)
{
    const char *element = cu_element(c, at), *guard = cu_guard(c, at);
    DType t = c->l->buffers.at[c->k->access[at].buf].dtype;
    if (t == DT_U8 || t == DT_I64)
        element = arena_printf(c->arena, "(int)%s", element);
    if (t == DT_BF16)
        element = arena_printf(c->arena, "from_bf16(%s)", element);
    if (!guard)
        return element;
    return arena_printf(c->arena, "(%s ? %s : %s)", guard, element, cu_fill(c, at));
}

static bool is_place(const char *s) { return *s == '$' && s[1] >= '1' && s[1] <= '3'; }

/* A spelling with $1, $2 and $3 replaced. */
static const char *with_operands(Arena *a, const char *spelling, const char *const arg[3])
{
    size_t length[3] = {strlen(arg[0]), strlen(arg[1]), strlen(arg[2])}, size = 1;
    for (const char *s = spelling; *s; s++)
        size += is_place(s) ? length[*++s - '1'] : 1;
    char *out = arena_alloc(a, size), *at = out;
    for (const char *s = spelling; *s; s++)
        if (is_place(s)) {
            int i = *++s - '1';
            memcpy(at, arg[i], length[i]);
            at += length[i];
        } else {
            *at++ = *s;
        }
    return out;
}

/* The spelling of ir/scalars.def with its operands in place. */
static const char *operation(Code *c, const Expr *e)
{
    static const char *const spelling[] = {
#define SCALAR(id, text, arity, spelled) [EX_##id] = spelled,
#include "ir/scalars.def"
#undef SCALAR
    };
    const char *arg[3] = {e->a ? cu_value(c, e->a) : "", e->b ? cu_value(c, e->b) : "", e->c ? cu_value(c, e->c) : ""};
    return with_operands(c->arena, spelling[e->op], arg);
}

static const char *formula(Code *c, const Expr *e)
{
    switch (e->op) {
    case EX_CONST: return number(c, e->imm);
    case EX_ICONST: return e->iimm == INT32_MIN ? "(-2147483647 - 1)" : arena_printf(c->arena, e->iimm < 0 ? "(%d)" : "%d", e->iimm);
    case EX_LOAD: return c->held && c->held[e - c->k->expr] ? c->held[e - c->k->expr] : cu_load(c, e->at);
    case EX_INDEX: return c->k->axis[e->axis].name;
    case EX_N: return "samples";
    case EX_ROWINDEX: return cu_row_index(c, e->at);
    default: return operation(c, e);
    }
}

static bool is_trivial(ExprOp op) { return op == EX_CONST || op == EX_ICONST || op == EX_INDEX || op == EX_N; }

const char **cu_keep(Code *c)
{
    const char **kept = NEWN(c->arena, const char *, c->k->n_expr);
    memcpy(kept, c->name, sizeof *kept * (size_t)c->k->n_expr);
    return kept;
}

void cu_restore(Code *c, const char **kept) { memcpy(c->name, kept, sizeof *kept * (size_t)c->k->n_expr); }

void cu_forget(Code *c, uint32_t axes)
{
    for (int e = 1; e < c->k->n_expr; e++)
        if (c->k->expr[e].free_axes & axes)
            c->name[e] = NULL;
}

/* ---- reductions ---- */

/* Reductions that share the loops of reduction e: the same axes, all operands at hand, none needing another. */
static int together(const Code *c, ExprId e, ExprId *group)
{
    int n = 0;
    group[n++] = e;
    for (ExprId i = 1; i < c->k->n_expr && n < MAX_KERNEL_OUT; i++) {
        const Expr *x = &c->k->expr[i];
        bool fits = i != e && expr_is_reduction(x->op) && x->axes == c->k->expr[e].axes && !c->name[i] && x->free_axes == c->k->expr[e].free_axes;
        for (int g = 0; fits && g < n; g++)
            fits = !kernel_needs(c->k, i, group[g]) && !kernel_needs(c->k, group[g], i);
        if (fits)
            group[n++] = i;
    }
    return n;
}

static const char *type_of(const Expr *e) { return e->is_bool || e->is_int ? "int" : "float"; }

/* text is the value of e: gives it a variable unless it has one. */
static const char *named(Code *c, ExprId e, const char *text)
{
    if (c->name[e] || is_trivial(c->k->expr[e].op))
        return text;
    cu_line(c, "const %s e%d = %s;", type_of(&c->k->expr[e]), e, text);
    c->name[e] = arena_printf(c->arena, "e%d", e);
    return c->name[e];
}

/* at: the point's number in loops that threads share; NULL: none of them is shared. */
static void accumulate(Code *c, ExprId e, const char *at)
{
    const Expr *x = &c->k->expr[e];
    const char *v = cu_value(c, x->a);
    if (x->op == EX_SUM) {
        cu_line(c, "e%d += %s;", e, v);
        return;
    }
    v = named(c, x->a, v);
    if (x->op == EX_MAX_OVER) {
        cu_line(c, "if (%s > e%d || %s != %s) e%d = %s;", v, e, v, v, e, v);
        return;
    }
    cu_open(c, "if (!e%d_any || %s > e%d_best || (%s != %s && e%d_best == e%d_best))", e, v, e, v, v, e, e);
    cu_line(c, "e%d_any = 1;", e);
    cu_line(c, "e%d_best = %s;", e, v);
    if (at)
        cu_line(c, "e%d_at = %s;", e, at);
    cu_line(c, "e%d = %s;", e, cu_value(c, x->b));
    cu_close(c);
}

static void start(Code *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    if (x->op == EX_SUM)
        cu_line(c, "float e%d = 0.0f;", e);
    else
        cu_line(c, "float e%d%s = -INFINITE;", e, x->op == EX_ARGMAX ? "_best" : "");
    if (x->op == EX_ARGMAX)
        cu_line(c, c->threads ? "int e%d = 0, e%d_any = 0, e%d_at = NOWHERE;" : "int e%d = 0, e%d_any = 0;", e, e, e);
}

/* What values are more than the thread's first one, and the squares of that: see reduce_columns.c. */
static void accumulate_moment(Code *c, ExprId sum, ExprId squares)
{
    const char *v = cu_variable(c, c->k->expr[sum].a);
    cu_line(c, "if (e%d_taken == 0.0f) e%d_first = %s;", squares, squares, v);
    cu_line(c, "const float more = %s - e%d_first;", v, squares);
    cu_line(c, "e%d_sum += more;", squares);
    cu_line(c, "e%d += more * more;", squares);
    cu_line(c, "e%d_taken += 1.0f;", squares);
}

/* The loops around the group and what each member adds in them; squares: a second moment, beside the only member, or 0. */
static void sweep(Code *c, const ExprId *group, int n, ExprId squares)
{
    uint32_t axes = c->k->expr[group[0]].axes;
    const char **kept = cu_keep(c);
    int threads = c->threads, braces = 1, wide = threads ? wide_sum_axis(c, axes) : -1;
    cu_forget(c, axes);
    if (threads)
        cu_open_shared(c, axes, wide >= 0);
    else
        braces = cu_open_serial(c, axes);
    c->threads = 0;
    if (wide >= 0)
        wide_open(c, wide);
    for (int g = 0; g < n; g++)
        accumulate(c, group[g], !threads ? NULL : wide >= 0 ? "4 * i + u" : "i");
    if (squares)
        accumulate_moment(c, group[0], squares);
    c->threads = threads;
    if (wide >= 0)
        wide_close(c);
    while (braces--)
        cu_close(c);
    cu_restore(c, kept);
}

/* Adds what the threads have of e. */
static void reduce_threads(Code *c, ExprId e)
{
    const char *what = c->k->expr[e].op == EX_SUM ? "sum" : "max";
    if (c->k->expr[e].op == EX_ARGMAX)
        cu_line(c, "e%d = block_argmax(e%d_best, e%d_at, e%d, shared, %d);", e, e, e, e, c->threads / GPU_WARP);
    else if (c->columns)
        cu_line(c, "e%d = column_%s(e%d, shared, %d, %d);", e, what, e, c->columns, c->threads);
    else if (c->threads == GPU_WARP)
        cu_line(c, "e%d = warp_%s(e%d);", e, what, e);
    else
        cu_line(c, "e%d = block_%s(e%d, shared, %d);", e, what, e, c->threads / GPU_WARP);
}

/* The second moment that threads sum together with e, which read the values from memory; 0: none. */
static ExprId squares_with(const Code *c, ExprId e)
{
    for (ExprId i = e + 1; c->threads && !c->in_slice && i < c->k->n_expr; i++) {
        const Expr *x = &c->k->expr[i];
        if (x->op == EX_SUM && x->axes == c->k->expr[e].axes && x->free_axes == c->k->expr[e].free_axes && sums_are_moments(c->k, e, i))
            return i;
    }
    return 0;
}

/* Both in one sweep. */
static void reduce_moments(Code *c, ExprId sum, ExprId squares)
{
    const ExprId mean = c->k->expr[c->k->expr[c->k->expr[squares].a].a].b;
    c->name[sum] = arena_printf(c->arena, "e%d", sum);
    start(c, sum);
    start(c, squares);
    cu_line(c, "float e%d_first = 0.0f, e%d_sum = 0.0f, e%d_taken = 0.0f;", squares, squares, squares);
    sweep(c, &sum, 1, squares);
    cu_line(c, "const float e%d_own = e%d, e%d_share = e%d_taken > 0.0f ? 1.0f / e%d_taken : 0.0f;", sum, sum, squares, squares, squares);
    reduce_threads(c, sum);
    cu_line(c, "const float e%d_off = e%d_own - e%d_taken * %s;", squares, sum, squares, cu_value(c, mean));
    cu_line(c, "e%d += (e%d_off * e%d_off - e%d_sum * e%d_sum) * e%d_share;", squares, squares, squares, squares, squares, squares);
    reduce_threads(c, squares);
    c->name[squares] = arena_printf(c->arena, "e%d", squares);
}

static void reduce_group(Code *c, ExprId first)
{
    ExprId group[MAX_KERNEL_OUT];
    int n = together(c, first, group);
    uint32_t axes = c->k->expr[first].axes;
    for (int g = 0; g < n; g++)
        c->name[group[g]] = arena_printf(c->arena, "e%d", group[g]);
    for (int g = 0; g < n; g++) {
        cu_hoist(c, c->k->expr[group[g]].a, axes);
        cu_hoist(c, c->k->expr[group[g]].b, axes);
    }
    if (n == 1 && c->k->expr[first].op == EX_SUM && squares_with(c, first)) {
        reduce_moments(c, first, squares_with(c, first));
        return;
    }
    for (int g = 0; g < n; g++)
        start(c, group[g]);
    sweep(c, group, n, 0);
    for (int g = 0; g < n && c->threads; g++)
        reduce_threads(c, group[g]);
}

/* ---- naming ---- */
const char *cu_variable(Code *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    if (c->name[e])
        return c->name[e];
    if (expr_is_reduction(x->op))
        reduce_group(c, e);
    else
        named(c, e, formula(c, x));
    return c->name[e] ? c->name[e] : formula(c, x);
}

const char *cu_value(Code *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    bool shared = expr_is_reduction(x->op) || c->uses[e] > 1;
    return c->name[e] || shared ? cu_variable(c, e) : formula(c, x);
}

static void hoist(Code *c, ExprId e, uint32_t axes, bool all)
{
    const Expr *x = &c->k->expr[e];
    if (!e || is_trivial(x->op))
        return;
    if (!(x->free_axes & axes) && (all || expr_is_reduction(x->op))) {
        cu_variable(c, e);
        return;
    }
    uint32_t hidden = axes | x->axes;
    hoist(c, x->a, hidden, all);
    hoist(c, x->b, hidden, all);
    hoist(c, x->c, hidden, all);
}

void cu_hoist(Code *c, ExprId e, uint32_t axes) { hoist(c, e, axes, true); }
void cu_hoist_reductions(Code *c, ExprId e, uint32_t axes) { hoist(c, e, axes, false); }
