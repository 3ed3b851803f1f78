/* Indices, guards and masks of a nest's accesses.
 * In: bound axes. Out: the index along a dim as a number or as lanes, whether it is in range (known ahead, or as a condition),
 * and which lanes exist. Idea: what is constant is decided here, so that edge tiles lose their out-of-range taps. */
#include "codegen/cpu/nest_access.h"

bool is_vector(LLVMValueRef v) { return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind; }

bool vector_active(const Ctx *c)
{
    return c->nest->lanes > 1 && c->nest->vector_axis >= 0 && c->axis[c->nest->vector_axis].bound;
}

bool depends_on_lanes(const Ctx *c, uint32_t axes) { return vector_active(c) && (axes >> c->nest->vector_axis & 1); }

/* ---- indices ---- */
bool axis_static_index(const Ctx *c, int a, int64_t *out)
{
    const AxisState *s = &c->axis[a];
    if (!s->bound || !s->is_static)
        return false;
    *out = s->cst + (int64_t)c->pt[a] * s->step;
    return true;
}

LLVMValueRef axis_index(Ctx *c, int a)
{
    AxisState *s = &c->axis[a];
    if (!s->bound)
        BUG("axis %s of kernel %s is read outside its loop", c->k->axis[a].name, c->k->name);
    LLVMValueRef i = emit_i64(c->e, s->cst + (int64_t)c->pt[a] * s->step);
    if (s->block)
        i = emit_add(c->e, emit_mul(c->e, s->block, s->unit), i);
    if (s->lo)
        i = emit_add(c->e, s->lo, i);
    return i;
}

static LLVMValueRef min_i64(Ctx *c, LLVMValueRef a, LLVMValueRef b)
{
    return LLVMBuildSelect(c->e->b, LLVMBuildICmp(c->e->b, LLVMIntSLT, a, b, ""), a, b, "");
}

LLVMValueRef axis_limit(Ctx *c, int a)
{
    const Axis *x = &c->k->axis[a];
    LLVMValueRef extent = emit_i64(c->e, x->extent);
    if (!x->batch)
        return extent;
    LLVMValueRef n = c->n;
    if (x->batch_div > 1)
        n = LLVMBuildSDiv(c->e->b, emit_add(c->e, n, emit_i64(c->e, x->batch_div - 1)), emit_i64(c->e, x->batch_div), "");
    if (x->batch_step > 0)
        n = min_i64(c, extent, LLVMBuildSub(c->e->b, n, emit_mul(c->e, axis_index(c, x->batch_base), x->batch_step), ""));
    return n;
}

LLVMValueRef iota64(Ctx *c) { return LLVMBuildZExt(c->e->b, emit_iota(c->e, c->nest->lanes), emit_vec(c->e, c->e->i64, c->nest->lanes), ""); }
LLVMValueRef splat64(Ctx *c, int64_t v) { return emit_splat(c->e, emit_i64(c->e, v), c->nest->lanes); }

/* Axis index as the affine function sees it: with lanes along the vector axis. */
static LLVMValueRef axis_lanes(Ctx *c, int a)
{
    LLVMValueRef i = axis_index(c, a);
    if (vector_active(c) && a == c->nest->vector_axis)
        i = LLVMBuildAdd(c->e->b, emit_splat(c->e, i, c->nest->lanes), iota64(c), "");
    return i;
}

LLVMValueRef add_mixed(Ctx *c, LLVMValueRef a, LLVMValueRef b)
{
    if (is_vector(a) != is_vector(b)) {
        if (is_vector(a))
            b = emit_splat(c->e, b, c->nest->lanes);
        else
            a = emit_splat(c->e, a, c->nest->lanes);
    }
    return is_vector(a) ? LLVMBuildAdd(c->e->b, a, b, "") : emit_add(c->e, a, b);
}

LLVMValueRef scale_mixed(Ctx *c, LLVMValueRef a, int64_t k)
{
    if (!is_vector(a))
        return emit_mul(c->e, a, k);
    return k == 1 ? a : LLVMBuildMul(c->e->b, a, splat64(c, k), "");
}

/* Reads table entries; lanes one by one. Tables are constants of the module. */
static LLVMValueRef table_lookup(Ctx *c, const Affine *f)
{
    Emit *e = c->e;
    const Axis *ax = &c->k->axis[f->table_axis];
    int64_t rows = ax->extent, cols = f->table_axis2 >= 0 ? c->k->axis[f->table_axis2].extent : 1;
    int64_t stride = f->table_axis2 >= 0 ? f->table_stride : 1;
    int64_t count = (rows - 1) * stride + cols;
    LLVMValueRef *items = NEWN(e->arena, LLVMValueRef, count);
    for (int64_t i = 0; i < count; i++)
        items[i] = emit_i32(e, f->table[i]);
    LLVMValueRef init = LLVMConstArray2(e->i32, items, (uint64_t)count);
    LLVMValueRef table = LLVMAddGlobal(e->mod, LLVMTypeOf(init), "table");
    LLVMSetInitializer(table, init);
    LLVMSetGlobalConstant(table, true);
    LLVMSetLinkage(table, LLVMPrivateLinkage);
    LLVMSetUnnamedAddress(table, LLVMGlobalUnnamedAddr);
    LLVMValueRef i = scale_mixed(c, axis_lanes(c, f->table_axis), stride);
    if (f->table_axis2 >= 0)
        i = add_mixed(c, i, axis_lanes(c, f->table_axis2));
    if (!is_vector(i))
        return LLVMBuildSExt(e->b, emit_load(e, e->i32, emit_gep(e, e->i32, table, i), 4), e->i64, "");
    LLVMValueRef out = LLVMGetUndef(emit_vec(e, e->i64, c->nest->lanes));
    LLVMValueRef last = emit_i64(e, count - 1);
    for (int lane = 0; lane < c->nest->lanes; lane++) {
        LLVMValueRef at = min_i64(c, LLVMBuildExtractElement(e->b, i, emit_i32(e, lane), ""), last);   /* lanes past the extent read something */
        LLVMValueRef v = LLVMBuildSExt(e->b, emit_load(e, e->i32, emit_gep(e, e->i32, table, at), 4), e->i64, "");
        out = LLVMBuildInsertElement(e->b, out, v, emit_i32(e, lane), "");
    }
    return out;
}

/* The index along one dim before the division by div. */
static LLVMValueRef affine_raw(Ctx *c, const Affine *f)
{
    LLVMValueRef i = emit_i64(c->e, f->offset);
    for (int a = 0; a < c->k->n_axes; a++)
        if (f->coef[a])
            i = add_mixed(c, i, scale_mixed(c, axis_lanes(c, a), f->coef[a]));
    if (f->table)
        i = add_mixed(c, i, table_lookup(c, f));
    return i;
}

LLVMValueRef affine_index(Ctx *c, const Affine *f)
{
    LLVMValueRef i = affine_raw(c, f);
    if (f->div > 1)
        i = LLVMBuildSDiv(c->e->b, i, is_vector(i) ? splat64(c, f->div) : emit_i64(c->e, f->div), "");
    return i;
}

/* ---- guards and masks ---- */
LLVMValueRef lane_mask(Ctx *c)
{
    int v = c->nest->vector_axis;
    LLVMValueRef left = LLVMBuildSub(c->e->b, axis_limit(c, v), axis_index(c, v), "");
    LLVMValueRef lanes = LLVMBuildTrunc(c->e->b, left, c->e->i32, "");
    return LLVMBuildICmp(c->e->b, LLVMIntSLT, emit_iota(c->e, c->nest->lanes), emit_splat(c->e, lanes, c->nest->lanes), "");
}

bool guard_is_inside(const Ctx *c, const Affine *f, int axis, int64_t first, int64_t last)
{
    (void)c;
    int64_t lo = f->offset, hi = f->offset;
    for (int a = 0; a < c->k->n_axes; a++) {
        int64_t from = 0, to = c->k->axis[a].extent - 1;
        if (a == axis) {
            from = first;
            to = last;
        }
        int64_t x = f->coef[a] * from, y = f->coef[a] * to;
        lo += x < y ? x : y;
        hi += x < y ? y : x;
    }
    return lo >= f->lo && hi < f->hi;
}

typedef enum { INSIDE, OUTSIDE, UNKNOWN } Verdict;

static Verdict static_verdict(const Ctx *c, const Affine *f)
{
    int64_t i = f->offset;
    if (f->table)
        return UNKNOWN;
    for (int a = 0; a < c->k->n_axes; a++) {
        int64_t x = 0;
        if (!f->coef[a])
            continue;
        if (depends_on_lanes(c, 1u << a) || !axis_static_index(c, a, &x))
            return UNKNOWN;
        i += f->coef[a] * x;
    }
    if (f->div > 1 && i % f->div)
        return OUTSIDE;
    i = f->div > 1 ? i / f->div : i;
    return i >= f->lo && i < f->hi ? INSIDE : OUTSIDE;
}

/* Static vectors of the vector axis: are all lanes in, all out? */
static Verdict lanes_verdict(const Ctx *c, const Affine *f)
{
    int v = c->nest->vector_axis;
    if (!vector_active(c) || !f->coef[v] || f->table || f->div > 1)
        return UNKNOWN;
    int64_t i = f->offset;
    for (int a = 0; a < c->k->n_axes; a++) {
        int64_t x = 0;
        if (!f->coef[a])
            continue;
        if (!axis_static_index(c, a, &x))
            return UNKNOWN;
        i += f->coef[a] * x;
    }
    int64_t j = i + (int64_t)f->coef[v] * (c->nest->lanes - 1);
    int64_t lo = i < j ? i : j, hi = i < j ? j : i;
    if (lo >= f->lo && hi < f->hi)
        return INSIDE;
    return hi < f->lo || lo >= f->hi ? OUTSIDE : UNKNOWN;
}

bool access_lanes_shift(Ctx *c, AccessId at, int *shift)
{
    const Access *x = &c->k->access[at];
    int v = c->nest->vector_axis, along = -1, lanes = c->nest->lanes;
    for (int d = 0; d < x->rank; d++)
        if (x->dim[d].coef[v]) {
            if (along >= 0)
                return false;
            along = d;
        }
    if (along < 0 || x->dim[along].coef[v] != 1 || x->dim[along].table || x->dim[along].div > 1)
        return false;
    const Affine *f = &x->dim[along];
    int64_t first = f->offset, lo = f->guarded ? f->lo : 0, hi = f->guarded ? f->hi : c->l->buffers.at[x->buf].shape.dim[along];
    if (hi - lo < lanes)
        return false;
    for (int a = 0; a < c->k->n_axes; a++) {
        int64_t i = 0;
        if (!f->coef[a])
            continue;
        if (!axis_static_index(c, a, &i))
            return false;
        first += f->coef[a] * i;
    }
    *shift = (int)(first < lo ? lo - first : first + lanes > hi ? hi - lanes - first : 0);
    return true;
}

/* i1 (scalar or lanes): lo <= index < hi, and divisible. */
static LLVMValueRef guard_condition(Ctx *c, const Affine *f)
{
    Emit *e = c->e;
    LLVMValueRef raw = affine_raw(c, f), ok = NULL;
    bool vec = is_vector(raw);
    LLVMValueRef lo = vec ? splat64(c, f->lo) : emit_i64(e, f->lo), hi = vec ? splat64(c, f->hi) : emit_i64(e, f->hi);
    LLVMValueRef i = raw;
    if (f->div > 1) {
        LLVMValueRef d = vec ? splat64(c, f->div) : emit_i64(e, f->div), zero = vec ? splat64(c, 0) : emit_i64(e, 0);
        ok = LLVMBuildICmp(e->b, LLVMIntEQ, LLVMBuildSRem(e->b, raw, d, ""), zero, "");
        i = LLVMBuildSDiv(e->b, raw, d, "");
    }
    LLVMValueRef in = LLVMBuildAnd(e->b, LLVMBuildICmp(e->b, LLVMIntSGE, i, lo, ""), LLVMBuildICmp(e->b, LLVMIntSLT, i, hi, ""), "");
    return ok ? LLVMBuildAnd(e->b, ok, in, "") : in;
}

/* Table entries below zero are out of range whatever is added. */
static LLVMValueRef table_condition(Ctx *c, const Affine *f)
{
    LLVMValueRef t = table_lookup(c, f);
    return LLVMBuildICmp(c->e->b, LLVMIntSGE, t, is_vector(t) ? splat64(c, 0) : emit_i64(c->e, 0), "");
}

LLVMValueRef and_mixed(Ctx *c, LLVMValueRef a, LLVMValueRef b)
{
    if (!a)
        return b;
    if (is_vector(a) != is_vector(b)) {
        if (is_vector(a))
            b = emit_splat(c->e, b, c->nest->lanes);
        else
            a = emit_splat(c->e, a, c->nest->lanes);
    }
    return LLVMBuildAnd(c->e->b, a, b, "");
}

/* All guards of an access together: NULL when surely inside; *outside when surely out. */
LLVMValueRef access_condition(Ctx *c, AccessId at, bool *outside)
{
    const Access *x = &c->k->access[at];
    LLVMValueRef ok = NULL;
    *outside = false;
    for (int d = 0; d < x->rank; d++) {
        const Affine *f = &x->dim[d];
        if (!f->guarded || c->acc[at].guard_off[d])
            continue;
        Verdict v = static_verdict(c, f);
        if (v == UNKNOWN)
            v = lanes_verdict(c, f);
        if (v == OUTSIDE) {
            *outside = true;
            return NULL;
        }
        if (v == INSIDE)
            continue;
        ok = and_mixed(c, ok, guard_condition(c, f));
        if (f->table)
            ok = and_mixed(c, ok, table_condition(c, f));
    }
    return ok;
}
