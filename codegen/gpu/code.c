/* Lines, addresses, guards and scalar expressions of CUDA text.
 * In: a kernel, its buffers' places. Out: lines on c->to and strings for the skeletons to put between them.
 * Relies on: axes being C variables where a value is asked for. Leaves: c->name says what holds each computed value.
 *
 * Where a value is computed. A reduction opens loops over its axes; what its operand needs from outside them is computed before
 * (cu_hoist), and reductions over the same axes share the loops. An axis can be bound outside and again by a reduction
 * (softmax): inside, values that depend on it are others, so their names are forgotten and restored behind the loops. */
#include "codegen/gpu/code.h"
#include "codegen/choose.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines ---- */
static void put(Code *c, const char *fmt, va_list ap, const char *end)
{
    for (int i = 0; i < c->depth; i++)
        fputs("    ", c->to);
    vfprintf(c->to, fmt, ap);
    fputs(end, c->to);
}

void cu_line(Code *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put(c, fmt, ap, "\n");
    va_end(ap);
}

void cu_open(Code *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put(c, fmt, ap, " {\n");
    va_end(ap);
    c->depth++;
}

void cu_block(Code *c)
{
    cu_line(c, "{");
    c->depth++;
}

void cu_close(Code *c)
{
    c->depth--;
    cu_line(c, "}");
}

/* ---- a kernel ---- */
void cu_begin(Code *c, const Kernel *k)
{
    c->k = k;
    c->name = NEWN(c->arena, const char *, k->n_expr);
    c->uses = NEWN(c->arena, int, k->n_expr);
    for (int e = 1; e < k->n_expr; e++) {
        c->uses[k->expr[e].a]++;
        c->uses[k->expr[e].b]++;
        c->uses[k->expr[e].c]++;
    }
    for (int o = 0; o < k->n_out; o++)
        c->uses[k->out[o].value]++;
    for (int i = 0; i < k->n_tile_sums; i++)
        c->uses[k->tile_sum[i].value]++;
}

/* ---- axes ---- */
bool cu_is_dynamic(const Code *c, int axis) { return c->k->axis[axis].batch; }

const char *cu_extent(Code *c, int axis)
{
    const Axis *x = &c->k->axis[axis];
    if (!x->batch)
        return arena_printf(c->arena, "%d", x->extent);
    if (x->batch_step > 0)
        return arena_printf(c->arena, "samples_left(samples - %d * %s, %d)", x->batch_step, c->k->axis[x->batch_base].name, x->extent);
    return x->batch_div > 1 ? arena_printf(c->arena, "(samples + %d) / %d", x->batch_div - 1, x->batch_div) : "samples";
}

/* Without a sign a division by a constant is an instruction or two less. */
static void split_point(Code *c, const char *point, const int8_t *axes, int n, bool wide)
{
    int64_t below = 1;
    if (!c->long_points)
        point = arena_printf(c->arena, "(unsigned)%s", point);
    for (int i = n - 1; i >= 0; i--) {
        const Axis *x = &c->k->axis[axes[i]];
        bool by_four = wide && i == n - 1;
        int32_t extent = by_four ? x->extent / WIDE : x->extent;
        const char *shifted = below > 1 ? arena_printf(c->arena, "%s / %lld", point, (long long)below) : point;
        const char *name = by_four ? arena_printf(c->arena, "first_%s = %d *", x->name, WIDE) : arena_printf(c->arena, "%s =", x->name);
        if (i > 0)
            cu_line(c, "const int %s (int)(%s %% %d);", name, shifted, extent);
        else
            cu_line(c, "const int %s (int)(%s);", name, shifted);
        below *= extent;
    }
}

void cu_split(Code *c, const char *point, const int8_t *axes, int n) { split_point(c, point, axes, n, false); }
void cu_split_wide(Code *c, const char *point, const int8_t *axes, int n) { split_point(c, point, axes, n, true); }

/* ---- addresses ---- */

/* Adds "+ coefficient * name" to a sum that is being written. */
static const char *plus(Code *c, const char *sum, int64_t coef, const char *name)
{
    if (coef == 0)
        return sum;
    const char *sign = coef < 0 ? (sum ? " - " : "-") : sum ? " + " : "";
    int64_t size = coef < 0 ? -coef : coef;
    const char *factor = size == 1 && name ? "" : arena_printf(c->arena, "%lld%s", (long long)size, name ? " * " : "");
    return arena_printf(c->arena, "%s%s%s%s", sum ? sum : "", sign, factor, name ? name : "");
}

static int64_t table_length(const Code *c, const Affine *f)
{
    int64_t n = c->k->axis[f->table_axis].extent;
    return f->table_axis2 >= 0 ? (n - 1) * f->table_stride + c->k->axis[f->table_axis2].extent : n;
}

/* Tables are constants of the text, defined in front of the kernel under a name that depends on the access. */
static const char *table_name(const Code *c, const Affine *f)
{
    for (int i = 0; i < c->k->n_access; i++)
        for (int d = 0; d < c->k->access[i].rank; d++)
            if (c->k->access[i].dim[d].table == f->table)
                return arena_printf(c->arena, "%s_table%d", c->entry, i * MAX_RANK + d);
    BUG("a table of no access");
}

static const char *table_text(Code *c, const Affine *f)
{
    const char *index = c->k->axis[f->table_axis].name;
    if (f->table_axis2 >= 0)
        index = arena_printf(c->arena, "%d * %s + %s", f->table_stride, index, c->k->axis[f->table_axis2].name);
    return arena_printf(c->arena, "%s[%s]", table_name(c, f), index);
}

/* offset + sum of coef * axis (+ table), before any division. */
static const char *affine_sum(Code *c, const Affine *f, int64_t scale)
{
    const char *sum = NULL;
    for (int a = 0; a < c->k->n_axes; a++)
        sum = plus(c, sum, scale * f->coef[a], c->k->axis[a].name);
    if (f->table)
        sum = plus(c, sum, scale, table_text(c, f));
    sum = plus(c, sum, scale * f->offset, NULL);
    return sum ? sum : "0";
}

void cu_tables(Code *c)
{
    Vec(const int32_t *) seen = {0};
    for (int i = 0; i < c->k->n_access; i++)
        for (int d = 0; d < c->k->access[i].rank; d++) {
            const Affine *f = &c->k->access[i].dim[d];
            bool fresh = f->table != NULL;
            for (uint32_t s = 0; s < seen.len; s++)
                fresh = fresh && seen.at[s] != f->table;
            if (!fresh)
                continue;
            vec_push(c->arena, &seen, f->table);
            fprintf(c->to, "__device__ const int %s[%lld] = {", table_name(c, f), (long long)table_length(c, f));
            for (int64_t t = 0; t < table_length(c, f); t++)
                fprintf(c->to, "%s%d", t % 24 ? ", " : "\n    ", f->table[t]);
            fputs("};\n", c->to);
        }
}

const char *cu_element(Code *c, AccessId at)
{
    const Access *s = &c->k->access[at];
    const Buffer *b = &c->l->buffers.at[s->buf];
    int64_t stride[MAX_RANK], coef[MAX_AXIS] = {0}, offset = 0;
    layout_strides(b, stride);
    const char *rest = NULL, *sum = NULL;
    for (int d = 0; d < s->rank; d++) {
        const Affine *f = &s->dim[d];
        if (f->div > 1) {
            rest = plus(c, rest, stride[d], arena_printf(c->arena, "((%s) / %d)", affine_sum(c, f, 1), f->div));
            continue;
        }
        for (int a = 0; a < c->k->n_axes; a++)
            coef[a] += stride[d] * f->coef[a];
        offset += stride[d] * f->offset;
        if (f->table)
            rest = plus(c, rest, stride[d], table_text(c, f));
    }
    for (int a = 0; a < c->k->n_axes; a++)
        sum = plus(c, sum, coef[a], c->k->axis[a].name);
    if (rest)
        sum = sum ? arena_printf(c->arena, "%s + %s", sum, rest) : rest;
    sum = plus(c, sum, offset, NULL);
    bool wide = buffer_elements(b) > INT32_MAX;
    return arena_printf(c->arena, "%s[%s%s]", c->buffer[s->buf], wide ? "0ll + " : "", sum ? sum : "0");
}

static const char *dim_guard(Code *c, const Affine *f)
{
    const char *raw = affine_sum(c, f, 1), *guard = NULL;
    if (f->div > 1) {
        guard = arena_printf(c->arena, "(%s) %% %d == 0", raw, f->div);
        raw = arena_printf(c->arena, "(%s) / %d", raw, f->div);
    }
    if (f->guarded) {
        const char *low = f->lo ? arena_printf(c->arena, "%s - %d", raw, f->lo) : raw;
        const char *range = arena_printf(c->arena, "(unsigned)(%s) < %du", low, f->hi - f->lo);
        guard = guard ? arena_printf(c->arena, "%s && %s", guard, range) : range;
        if (f->table)
            guard = arena_printf(c->arena, "%s >= 0 && %s", table_text(c, f), guard);
    }
    return guard;
}

const char *cu_guard(Code *c, AccessId at)
{
    const char *all = NULL;
    for (int d = 0; d < c->k->access[at].rank; d++) {
        const char *one = dim_guard(c, &c->k->access[at].dim[d]);
        if (one)
            all = all ? arena_printf(c->arena, "%s && %s", all, one) : one;
    }
    return all;
}

/* ---- values ---- */
static const char *number(Code *c, double v)
{
    if (isnan(v))
        return "NOT_A_NUMBER";
    if (isinf(v))
        return v < 0 ? "-INFINITE" : "INFINITE";
    char *s = arena_printf(c->arena, "%.9g", (double)(float)v);
    return arena_printf(c->arena, strpbrk(s, ".e") ? "%sf" : "%s.0f", s);
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
    double fill = c->k->access[at].fill;
    return arena_printf(c->arena, "(%s ? %s : %s)", guard, element, t != DT_F32 && t != DT_BF16 ? arena_printf(c->arena, "%d", (int)fill) : number(c, fill));
}

/* Row-major position of an output element in its sample. */
static const char *row_index(Code *c, AccessId at)
{
    const Access *s = &c->k->access[at];
    const Buffer *b = &c->l->buffers.at[s->buf];
    const char *sum = NULL;
    int64_t stride = 1;
    for (int d = s->rank - 1; d >= (b->batched ? 1 : 0); d--) {
        sum = plus(c, sum, stride, arena_printf(c->arena, "(%s)", affine_sum(c, &s->dim[d], 1)));
        stride *= b->shape.dim[d];
    }
    return arena_printf(c->arena, "(%s)", sum ? sum : "0");
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
    const char *out = "";
    for (const char *s = spelling[e->op]; *s; s++)
        if (*s == '$' && s[1] >= '1' && s[1] <= '3')
            out = arena_printf(c->arena, "%s%s", out, arg[*++s - '1']);
        else
            out = arena_printf(c->arena, "%s%c", out, *s);
    return out;
}

static const char *formula(Code *c, const Expr *e)
{
    switch (e->op) {
    case EX_CONST: return number(c, e->imm);
    case EX_ICONST: return e->iimm == INT32_MIN ? "(-2147483647 - 1)" : arena_printf(c->arena, e->iimm < 0 ? "(%d)" : "%d", e->iimm);
    case EX_LOAD: return cu_load(c, e->at);
    case EX_INDEX: return c->k->axis[e->axis].name;
    case EX_N: return "samples";
    case EX_ROWINDEX: return row_index(c, e->at);
    default: return operation(c, e);
    }
}

static bool is_reduction(ExprOp op) { return op == EX_SUM || op == EX_MAX_OVER || op == EX_ARGMAX; }

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

static bool needs(const Kernel *k, ExprId e, ExprId what)
{
    const Expr *x = &k->expr[e];
    return e == what || (e > what && ((x->a && needs(k, x->a, what)) || (x->b && needs(k, x->b, what)) || (x->c && needs(k, x->c, what))));
}

/* Reductions that share the loops of reduction e: the same axes, all operands at hand, none needing another. */
static int together(const Code *c, ExprId e, ExprId *group)
{
    int n = 0;
    group[n++] = e;
    for (ExprId i = 1; i < c->k->n_expr && n < MAX_KERNEL_OUT; i++) {
        const Expr *x = &c->k->expr[i];
        bool fits = i != e && is_reduction(x->op) && x->axes == c->k->expr[e].axes && !c->name[i] && x->free_axes == c->k->expr[e].free_axes;
        for (int g = 0; fits && g < n; g++)
            fits = !needs(c->k, i, group[g]) && !needs(c->k, group[g], i);
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

static void accumulate(Code *c, ExprId e)
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
    cu_line(c, "e%d = %s;", e, cu_value(c, x->b));
    cu_close(c);
}

static int axes_of(const Code *c, uint32_t mask, int8_t *axes)
{
    int n = 0;
    for (int a = 0; a < c->k->n_axes; a++)
        if (mask >> a & 1)
            axes[n++] = (int8_t)a;
    return n;
}

/* Many kernels share the registers of a slice: only innermost loops are unrolled, long ones a little. */
void cu_unroll(Code *c, int axis, bool innermost)
{
    enum { SHORT = 8 };
    if (!innermost)
        cu_line(c, "#pragma unroll 1");
    else if (c->k->axis[axis].extent > SHORT || cu_is_dynamic(c, axis))
        cu_line(c, "#pragma unroll 4");
}

/* One loop an axis. Returns how many braces to close. */
static int open_serial(Code *c, uint32_t mask)
{
    int8_t axes[MAX_AXIS] = {0};
    int n = axes_of(c, mask, axes);
    for (int i = 0; i < n; i++) {
        const char *v = c->k->axis[axes[i]].name;
        if (c->in_slice)
            cu_unroll(c, axes[i], i + 1 == n);
        cu_open(c, "for (int %s = 0; %s < %s; %s++)", v, v, cu_extent(c, axes[i]), v);
    }
    return n;
}

/* One loop over all points of the axes, a block's threads side by side. */
void cu_open_shared(Code *c, uint32_t mask, bool wide)
{
    int8_t axes[MAX_AXIS] = {0};
    int n = axes_of(c, mask, axes);
    int64_t all = 1;
    for (int i = 0; i < n; i++)
        all *= c->k->axis[axes[i]].extent;
    int64_t steps = wide ? all / WIDE : all, inner = steps / c->k->axis[axes[0]].extent;
    const char *total = arena_printf(c->arena, "%lld", (long long)steps);
    if (cu_is_dynamic(c, axes[0]))
        total = inner > 1 ? arena_printf(c->arena, "(%s) * %lld", cu_extent(c, axes[0]), (long long)inner) : cu_extent(c, axes[0]);
    const char *index = c->threads == GPU_WARP ? "lane" : "i", *thread = c->in_slice ? "thread" : "threadIdx.x";
    const char *part = c->in_columns ? " / 32" : c->threads == GPU_WARP ? " % 32" : "";
    cu_open(c, "for (int %s = %s%s; %s < %s; %s += %d)", index, thread, part, index, total, index, c->in_columns ? c->threads / GPU_WARP : c->threads);
    split_point(c, index, axes, n, wide);
    for (int i = 1; i < n; i++)
        if (cu_is_dynamic(c, axes[i]))
            cu_line(c, "if (%s >= %s) continue;", c->k->axis[axes[i]].name, cu_extent(c, axes[i]));
}

static void start(Code *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    if (x->op == EX_SUM)
        cu_line(c, "float e%d = 0.0f;", e);
    else
        cu_line(c, "float e%d%s = -INFINITE;", e, x->op == EX_ARGMAX ? "_best" : "");
    if (x->op == EX_ARGMAX)
        cu_line(c, "int e%d = 0, e%d_any = 0;", e, e);
}

/* The loops around the group and what each member adds in them. */
static void sweep(Code *c, const ExprId *group, int n)
{
    uint32_t axes = c->k->expr[group[0]].axes;
    const char **kept = cu_keep(c);
    int threads = c->threads, braces = 1, wide = threads ? wide_sum_axis(c, axes) : -1;
    cu_forget(c, axes);
    if (threads)
        cu_open_shared(c, axes, wide >= 0);
    else
        braces = open_serial(c, axes);
    c->threads = 0;
    if (wide >= 0) {
        wide_open(c, wide);
        braces++;
    }
    for (int g = 0; g < n; g++)
        accumulate(c, group[g]);
    c->threads = threads;
    while (braces--)
        cu_close(c);
    cu_restore(c, kept);
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
    for (int g = 0; g < n; g++)
        start(c, group[g]);
    sweep(c, group, n);
    for (int g = 0; g < n && c->threads; g++) {
        const char *what = c->k->expr[group[g]].op == EX_SUM ? "sum" : "max";
        if (c->threads == GPU_WARP)
            cu_line(c, "e%d = warp_%s(e%d);", group[g], what, group[g]);
        else
            cu_line(c, "e%d = %s_%s(e%d, shared);", group[g], c->in_columns ? "column" : "block", what, group[g]);
    }
}

/* ---- naming ---- */
const char *cu_variable(Code *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    if (c->name[e])
        return c->name[e];
    if (is_reduction(x->op))
        reduce_group(c, e);
    else
        named(c, e, formula(c, x));
    return c->name[e] ? c->name[e] : formula(c, x);
}

const char *cu_value(Code *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    bool shared = is_reduction(x->op) || c->uses[e] > 1;
    return c->name[e] || shared ? cu_variable(c, e) : formula(c, x);
}

static void hoist(Code *c, ExprId e, uint32_t axes, bool all)
{
    const Expr *x = &c->k->expr[e];
    if (!e || is_trivial(x->op))
        return;
    if (!(x->free_axes & axes) && (all || is_reduction(x->op))) {
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

/* ---- stores ---- */
void cu_store(Code *c, int o, const char *value)
{
    AccessId at = c->k->out[o].at;
    const char *guard = cu_guard(c, at);
    if (c->l->buffers.at[c->k->access[at].buf].dtype == DT_BF16)
        value = arena_printf(c->arena, "to_bf16(%s)", value);
    cu_line(c, "%s%s%s%s = %s;", guard ? "if (" : "", guard ? guard : "", guard ? ") " : "", cu_element(c, at), value);
}

void cu_outputs_of(Code *c, uint64_t outs)
{
    const char *value[MAX_KERNEL_OUT];
    for (int o = 0; o < c->k->n_out; o++)
        if (outs >> o & 1)
            value[o] = __builtin_popcountll(outs) > 1 ? cu_variable(c, c->k->out[o].value) : cu_value(c, c->k->out[o].value);
    for (int o = 0; o < c->k->n_out; o++)
        if (outs >> o & 1)
            cu_store(c, o, value[o]);
}

void cu_outputs(Code *c, bool one_lane)
{
    for (int o = 0; o < c->k->n_out && one_lane; o++)
        cu_hoist_reductions(c, c->k->out[o].value, 0);
    int threads = c->threads;
    c->threads = 0;
    if (one_lane)
        cu_open(c, "if (%s %% 32 == 0)", c->in_slice ? "thread" : "threadIdx.x");
    cu_outputs_of(c, ~0ull >> (MAX_KERNEL_OUT - c->k->n_out));
    if (one_lane)
        cu_close(c);
    c->threads = threads;
}

uint32_t out_axes(const Kernel *k, int o)
{
    uint32_t mask = 0;
    const Access *s = &k->access[k->out[o].at];
    for (int d = 0; d < s->rank; d++)
        for (int a = 0; a < k->n_axes; a++)
            mask |= s->dim[d].coef[a] ? 1u << a : 0;
    return mask;
}

uint32_t outs_with_axes(const Kernel *k, uint32_t axes)
{
    uint32_t outs = 0;
    for (int o = 0; o < k->n_out; o++)
        if (out_axes(k, o) == axes)
            outs |= 1u << o;
    return outs;
}
