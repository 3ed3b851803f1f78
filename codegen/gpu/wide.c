/* Four neighbours at once: loads and stores of 16 bytes, of 8 in bf16.
 * In: an axis along which a body takes four points a step. Out: lines that load four elements of each access that allows it into an
 * array, a loop over the four in which those loads have names, and stores of four.
 * Relies on buffers that begin at multiples of 16 bytes. An access allows it when the axis is its innermost one, nothing guards the
 * axis, and all other steps are multiples of four; what does not is loaded one by one.
 * Reductions over small windows (pooling with channels innermost) are loops of each point; all that they load is loaded before, wide.
 *
 * With channels innermost the four points share nothing: a batchnorm's divisions and roots, all a channel's own, would be as many as points. There a
 * thread goes a few steps along the axis beside, and what does not know that axis is computed in front of the loop over steps. */
#include "codegen/gpu/code.h"

#include <string.h>

/* Neighbours along the axis lie side by side in the dim, the first of each four at a multiple of four; or all along the axis have one place in it. */
static bool dim_fits(const Kernel *k, const Affine *f, int64_t stride, int axis)
{
    if (f->coef[axis] == 0 && stride % WIDE == 0)
        return true;
    if (f->table || f->div > 1 || f->guarded || stride * f->offset % WIDE)
        return false;
    for (int a = 0; a < k->n_axes; a++)
        if (f->coef[a] < 0 || (a != axis && stride * f->coef[a] % WIDE))
            return false;
    return true;
}

bool wide_access(const KernelList *l, const Kernel *k, AccessId at, int axis)
{
    const Access *s = &k->access[at];
    const Buffer *b = &l->buffers.at[s->buf];
    int64_t stride[MAX_RANK];
    layout_strides(b, stride);
    if ((b->dtype != DT_F32 && b->dtype != DT_I32 && b->dtype != DT_BF16) || access_stride(l, k, at, axis) != 1)
        return false;
    for (int d = 0; d < s->rank; d++)
        if (!dim_fits(k, &s->dim[d], stride[d], axis))
            return false;
    return true;
}

static bool is_dense(const Kernel *k, int axis) { return k->axis[axis].extent % WIDE == 0 && !k->axis[axis].batch; }

/* Registers hold what the windows of four points load, and all of it is loaded wide. */
static bool window_fits(const KernelList *l, const Kernel *k, int axis)
{
    enum { MOST_TAPS = 12 };   /* of all loads: 48 registers */
    uint32_t window = reduced_axes(k);
    int64_t taps = 0;
    if (window & out_axes(k, 0))
        return false;
    for (int a = 0; a < k->n_axes; a++)
        if (window >> a & 1 && k->axis[a].batch)
            return false;
    for (ExprId e = 1; e < k->n_expr && taps <= MOST_TAPS; e++) {
        const Expr *x = &k->expr[e];
        if (x->op != EX_LOAD || !(x->free_axes & window))
            continue;
        if (!wide_access(l, k, x->at, axis))
            return false;
        taps += axes_points(k, x->free_axes & window);
    }
    return taps <= MOST_TAPS;
}

enum { LEAST_POINTS = 1 << 18 };   /* fewer are better spread over the GPU */

static bool is_wide(const KernelList *l, const Kernel *k, int axis)
{
    if (!is_dense(k, axis) || axes_points(k, out_axes(k, 0)) < LEAST_POINTS || !window_fits(l, k, axis))
        return false;
    for (int o = 0; o < k->n_out; o++)
        if (!wide_access(l, k, k->out[o].at, axis))
            return false;
    return true;
}

/* Some value that takes many instructions knows only the axis. */
static bool has_costly_values(const Kernel *k, int axis)
{
    for (ExprId e = 1; e < k->n_expr; e++)
        if ((k->expr[e].op == EX_DIV || k->expr[e].op == EX_SQRT || k->expr[e].op == EX_EXP) && k->expr[e].free_axes == 1u << axis)
            return true;
    return false;
}

void wide_find(GpuBody *x, const KernelList *l)
{
    static const int8_t steps[] = {4, 2, 7, 3};
    x->wide = x->n_rows && is_wide(l, x->k, x->row[x->n_rows - 1]);
    if (!x->wide || x->n_rows < 2 || reduced_axes(x->k) || !has_costly_values(x->k, x->row[x->n_rows - 1]))
        return;
    x->stepped = x->row[x->n_rows - 2];
    const Axis *along = &x->k->axis[x->stepped];
    for (size_t i = 0; i < ARRAY_LEN(steps) && x->steps == 0 && !along->batch; i++)
        if (along->extent % steps[i] == 0 && x->points / steps[i] >= LEAST_POINTS)
            x->steps = steps[i];
}

int wide_sum_axis(const Code *c, uint32_t axes)
{
    const Kernel *k = c->k;
    int axis = -1;
    for (int a = 0; a < k->n_axes; a++)
        axis = axes >> a & 1 ? a : axis;
    if (c->in_slice || c->columns || axis < 0 || !is_dense(k, axis))
        return -1;
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_LOAD && (k->expr[e].free_axes & axes) && wide_access(c->l, k, k->expr[e].at, axis))
            return axis;
    return -1;
}

static DType dtype_at(const Code *c, AccessId at) { return c->l->buffers.at[c->k->access[at].buf].dtype; }
/* Of the array that holds four; behind the names of load4, store4. */
static const char *type_at(const Code *c, AccessId at) { return dtype_at(c, at) == DT_I32 ? "int" : "float"; }
static const char *suffix_at(const Code *c, AccessId at) { return dtype_at(c, at) == DT_I32 ? "i" : dtype_at(c, at) == DT_BF16 ? "_bf16" : ""; }

/* The window's axes as one index: "3 * r + s"; NULL: there are none. */
static const char *tap_index(Code *c, uint32_t axes)
{
    const char *index = NULL;
    for (int a = 0; a < c->k->n_axes; a++) {
        const Axis *x = &c->k->axis[a];
        if (axes >> a & 1)
            index = !index ? x->name : arena_printf(c->arena, strchr(index, ' ') ? "(%s) * %d + %s" : "%s * %d + %s", index, x->extent, x->name);
    }
    return index;
}

/* Loads that come first: of the four points, times those of the window, an axis that each of the four has, or of the steps. */
typedef struct { int axis; uint32_t window; int stepped; int32_t steps; } Before;

/* "[step]", "[r * 3 + s]", "" */
static const char *slot_of(Code *c, const Before *b, ExprId e)
{
    const char *tap = tap_index(c, c->k->expr[e].free_axes & b->window);
    return b->steps > 1 ? "[step]" : tap ? arena_printf(c->arena, "[%s]", tap) : "";
}

static void declare_four(Code *c, const Before *b, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    int64_t slots = b->steps > 1 ? b->steps : axes_points(c->k, x->free_axes & b->window);
    cu_line(c, "%s four%d%s[%d];", type_at(c, x->at), e, slots > 1 ? arena_printf(c->arena, "[%lld]", (long long)slots) : "", WIDE);
}

/* "if (GUARD) ", or nothing: the access is always in range. */
static const char *only_in_range(Code *c, AccessId at)
{
    const char *guard = cu_guard(c, at);
    return guard ? arena_printf(c->arena, "if (%s) ", guard) : "";
}

static void load_four(Code *c, const Before *b, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    const char *slot = slot_of(c, b, e), *guard = only_in_range(c, x->at);
    int braces = cu_open_serial(c, x->free_axes & b->window);
    cu_line(c, "%sload4%s(four%d%s, &%s);", guard, suffix_at(c, x->at), e, slot, cu_element(c, x->at));
    if (*guard)
        cu_line(c, "else fill4%s(four%d%s, %s);", dtype_at(c, x->at) == DT_I32 ? "i" : "", e, slot, cu_fill(c, x->at));
    while (braces--)
        cu_close(c);
}

static void open_steps(Code *c, const Before *b)
{
    const char *name = c->k->axis[b->stepped].name;
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int step = 0; step < %d; step++)", b->steps);
    cu_line(c, "const int %s = first_%s + step;", name, name);
}

/* Loads (of the set, or all) whose elements are not at hand. By expression: where they lie then, u being the point's number. */
static const char **load_before(Code *c, const Before *b, const bool *loads)
{
    const Kernel *k = c->k;
    const char *name = k->axis[b->axis].name, **held = NEWN(c->arena, const char *, k->n_expr);
    bool any = false;
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_LOAD && !c->name[e] && (!loads || loads[e]) && wide_access(c->l, k, k->expr[e].at, b->axis)) {
            held[e] = arena_printf(c->arena, "four%d%s[u]", e, slot_of(c, b, e));
            declare_four(c, b, e);
            any = true;
        }
    if (!any)
        return held;
    c->unrolled = b->window != 0;
    if (b->steps > 1)
        open_steps(c, b);
    else
        cu_block(c);
    cu_line(c, "const int %s = first_%s;", name, name);
    for (ExprId e = 1; e < k->n_expr; e++)
        if (held[e])
            load_four(c, b, e);
    cu_close(c);
    c->unrolled = false;
    return held;
}

static void open_four(Code *c, const Before *b, const char **held)
{
    const char *name = c->k->axis[b->axis].name;
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int u = 0; u < %d; u++)", WIDE);
    cu_line(c, "const int %s = first_%s + u;", name, name);
    c->held = held;
    c->unrolled = b->window != 0;
}

void wide_open(Code *c, int axis)
{
    const Before b = {.axis = axis};
    open_four(c, &b, load_before(c, &b, NULL));
}

void wide_close(Code *c)
{
    cu_close(c);
    c->held = NULL;
    c->unrolled = false;
}

/* ---- maps ---- */
/* Marks what has to be computed for e. */
static void mark_needed(const Code *c, ExprId e, bool *needed)
{
    const Expr *x = &c->k->expr[e];
    if (!e || c->name[e] || needed[e])
        return;
    needed[e] = true;
    mark_needed(c, x->a, needed);
    mark_needed(c, x->b, needed);
    mark_needed(c, x->c, needed);
}

static bool *needed_for(const Code *c, const Wanted *w)
{
    bool *needed = NEWN(c->arena, bool, c->k->n_expr);
    for (int i = 0; i < w->n; i++)
        mark_needed(c, w->e[i], needed);
    return needed;
}

static void hoist_all(Code *c, const Wanted *w, uint32_t axes)
{
    for (int i = 0; i < w->n; i++)
        cu_hoist(c, w->e[i], axes);
}

Wanted wanted_of(const Kernel *k)
{
    Wanted w = {.n = 0};
    for (int o = 0; o < k->n_out; o++)
        w.e[w.n++] = k->out[o].value;
    for (int i = 0; i < k->n_tile_sums; i++)
        w.e[w.n++] = k->tile_sum[i].value;
    return w;
}

void wide_points(Code *c, int axis, const Wanted *w)
{
    const Before b = {.axis = axis};
    hoist_all(c, w, 1u << axis);
    open_four(c, &b, load_before(c, &b, needed_for(c, w)));
}

void wide_declare_results(Code *c)
{
    for (int o = 0; o < c->k->n_out; o++)
        cu_line(c, "%s result%d[%d];", type_at(c, c->k->out[o].at), o, WIDE);
}

void wide_results(Code *c)
{
    for (int o = 0; o < c->k->n_out; o++)
        cu_line(c, "result%d[u] = %s;", o, cu_value(c, c->k->out[o].value));
}

void wide_store(Code *c, int axis, const char *inside)
{
    const Kernel *k = c->k;
    cu_line(c, "const int %s = first_%s;", k->axis[axis].name, k->axis[axis].name);
    for (int o = 0; o < k->n_out; o++) {
        const char *guard = only_in_range(c, k->out[o].at), *element = cu_element(c, k->out[o].at);
        cu_line(c, "%s%sstore4%s(&%s, result%d);", inside, guard, suffix_at(c, k->out[o].at), element, o);
    }
}

/* All outputs at four points, whose loads are done. */
static void map_four(Code *c, const Before *b, const char **held)
{
    const char **kept = cu_keep(c);
    wide_declare_results(c);
    open_four(c, b, held);
    wide_results(c);
    wide_close(c);
    cu_restore(c, kept);
    wide_store(c, b->axis, "");
}

static void map_once(Code *c, const Before *b)
{
    const Wanted w = wanted_of(c->k);
    hoist_all(c, &w, 1u << b->axis);
    map_four(c, b, load_before(c, b, needed_for(c, &w)));
}

void wide_map(Code *c, int axis) { map_once(c, &(Before){.axis = axis}); }

/* ---- values that are computed once ---- */
/* Marks values, as large as can be, that know the axis but none of the others. */
static void mark_once(const Code *c, ExprId e, int axis, uint32_t others, bool *once)
{
    const Expr *x = &c->k->expr[e];
    if (!e || c->name[e] || x->op == EX_INDEX || !(x->free_axes >> axis & 1))
        return;
    if (!(x->free_axes & others)) {
        once[e] = true;
        return;
    }
    mark_once(c, x->a, axis, others, once);
    mark_once(c, x->b, axis, others, once);
    mark_once(c, x->c, axis, others, once);
}

/* Names these. */
static bool *find_once(Code *c, int axis, uint32_t others, const Wanted *w)
{
    bool *once = NEWN(c->arena, bool, c->k->n_expr);
    hoist_all(c, w, 1u << axis | others);
    for (int i = 0; i < w->n; i++)
        mark_once(c, w->e[i], axis, others, once);
    for (ExprId e = 1; e < c->k->n_expr; e++)
        if (once[e])
            c->name[e] = arena_printf(c->arena, "once%d[u]", e);
    return once;
}

/* Computes them at the four points. */
static void compute_once(Code *c, int axis, const bool *once)
{
    const Kernel *k = c->k;
    const Before four = {.axis = axis};
    const char **kept = cu_keep(c);
    bool *needed = NEWN(c->arena, bool, k->n_expr), any = false;
    for (ExprId e = 1; e < k->n_expr; e++)
        c->name[e] = once[e] ? NULL : c->name[e];
    for (ExprId e = 1; e < k->n_expr; e++)
        if (once[e]) {
            cu_line(c, "%s once%d[%d];", k->expr[e].is_bool || k->expr[e].is_int ? "int" : "float", e, WIDE);
            mark_needed(c, e, needed);
            any = true;
        }
    if (any) {
        open_four(c, &four, load_before(c, &four, needed));
        for (ExprId e = 1; e < k->n_expr; e++)
            if (once[e])
                cu_line(c, "once%d[u] = %s;", e, cu_value(c, e));
        wide_close(c);
    }
    cu_restore(c, kept);
}

void wide_once(Code *c, int axis, uint32_t others, const Wanted *w) { compute_once(c, axis, find_once(c, axis, others, w)); }

/* The loads of all steps first: they take longest. */
static void emit_steps(Code *c, const Before *b)
{
    const Wanted w = wanted_of(c->k);
    const bool *once = find_once(c, b->axis, 1u << b->stepped, &w);
    const char **held = load_before(c, b, needed_for(c, &w));
    compute_once(c, b->axis, once);
    open_steps(c, b);
    hoist_all(c, &w, 1u << b->axis);
    map_four(c, b, held);
    cu_close(c);
}

void wide_emit(Code *c, const GpuBody *body)
{
    const int axis = body->row[body->n_rows - 1];
    if (body->steps > 1)
        emit_steps(c, &(Before){.axis = axis, .stepped = body->stepped, .steps = body->steps});
    else
        map_once(c, &(Before){.axis = axis, .window = reduced_axes(c->k)});
}
