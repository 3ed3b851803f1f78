/* Loads and stores of a nest.
 * In: an access at the current point, what it stores. Out: the element, or lanes, in the types of expressions; what is out of range (guards,
 * lanes behind the end) is filled, or not stored.
 * Idea: lanes side by side are one load; with a mask where some may be out of range; what lies elsewhere is gathered. */
#include "codegen/cpu/nest_access.h"

#include <string.h>

static LLVMValueRef call_intrinsic(Ctx *c, const char *name, LLVMTypeRef *overload, unsigned n_overload, LLVMValueRef *args, unsigned n_args)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    LLVMValueRef fn = LLVMGetIntrinsicDeclaration(c->e->mod, id, overload, n_overload);
    LLVMTypeRef type = LLVMIntrinsicGetType(c->e->cx, id, overload, n_overload);
    return LLVMBuildCall2(c->e->b, type, fn, args, n_args, "");
}

static LLVMValueRef gather(Ctx *c, AccessId at, LLVMValueRef mask, LLVMValueRef fill)
{
    LLVMValueRef ptrs = access_lane_pointers(c, at);
    LLVMTypeRef types[2] = {LLVMTypeOf(fill), LLVMTypeOf(ptrs)};
    LLVMValueRef args[4] = {ptrs, emit_i32(c->e, (int)c->acc[at].align), mask, fill};
    return call_intrinsic(c, "llvm.masked.gather", types, 2, args, 4);
}

static void scatter(Ctx *c, AccessId at, LLVMValueRef mask, LLVMValueRef value)
{
    LLVMValueRef ptrs = access_lane_pointers(c, at);
    LLVMTypeRef types[2] = {LLVMTypeOf(value), LLVMTypeOf(ptrs)};
    LLVMValueRef args[4] = {value, ptrs, emit_i32(c->e, (int)c->acc[at].align), mask};
    call_intrinsic(c, "llvm.masked.scatter", types, 2, args, 4);
}

static LLVMValueRef all_lanes(Ctx *c) { return LLVMConstAllOnes(emit_vec(c->e, c->e->i1, c->nest->lanes)); }

/* ---- pairs ---- */
int access_parity(const Ctx *c, AccessId at)
{
    const Affine *f = &c->k->access[at].dim[c->acc[at].pair_dim];
    int64_t sum = f->offset;
    if (f->table || f->div > 1)
        return -1;
    for (int a = 0; a < c->k->n_axes; a++) {
        const AxisState *s = &c->axis[a];
        if (f->coef[a] % 2 == 0)
            continue;
        if (!s->bound || (!s->is_static && (s->points % 2 || s->lo)) || (c->nest->lanes > 1 && a == c->nest->vector_axis))
            return -1;
        sum += s->cst + (int64_t)c->pt[a] * s->step;
    }
    return (int)(sum & 1);
}

/* i32 0 or 1: which half of the pair; lanes when it depends on them. */
static LLVMValueRef which_half(Ctx *c, AccessId at)
{
    int known = access_parity(c, at);
    if (known >= 0)
        return emit_i32(c->e, known);
    LLVMValueRef i = affine_index(c, &c->k->access[at].dim[c->acc[at].pair_dim]);
    LLVMTypeRef t = is_vector(i) ? emit_vec(c->e, c->e->i32, c->nest->lanes) : c->e->i32;
    LLVMValueRef one = is_vector(i) ? emit_splat(c->e, emit_i32(c->e, 1), c->nest->lanes) : emit_i32(c->e, 1);
    return LLVMBuildAnd(c->e->b, LLVMBuildTrunc(c->e->b, i, t, ""), one, "");
}

/* ---- element types: u8 and i64 are i32 in expressions, bf16 is float32 ---- */
static LLVMValueRef widen(Ctx *c, AccessId at, LLVMValueRef v)
{
    AccessState *s = &c->acc[at];
    LLVMTypeRef to = is_vector(v) ? emit_vec(c->e, c->e->i32, c->nest->lanes) : c->e->i32;
    if (s->dtype == DT_BF16) {
        LLVMValueRef half = s->pair_dim >= 0 ? which_half(c, at) : NULL;
        if (half && is_vector(half) && !is_vector(v))
            v = emit_splat(c->e, v, c->nest->lanes);
        return half ? emit_pair_half(c->e, v, half) : emit_bf16_widen(c->e, v);
    }
    if (s->elem == c->e->i8)
        return LLVMBuildZExt(c->e->b, v, to, "");
    return s->elem == c->e->i64 ? LLVMBuildTrunc(c->e->b, v, to, "") : v;
}

static LLVMValueRef narrow(Ctx *c, AccessId at, LLVMValueRef v)
{
    AccessState *s = &c->acc[at];
    if (s->dtype == DT_BF16)
        return emit_bf16_round(c->e, v);
    LLVMTypeRef to = is_vector(v) ? emit_vec(c->e, s->elem, c->nest->lanes) : s->elem;
    if (LLVMTypeOf(v) == to)
        return v;
    bool from_float = LLVMGetTypeKind(is_vector(v) ? LLVMGetElementType(LLVMTypeOf(v)) : LLVMTypeOf(v)) == LLVMFloatTypeKind;
    if (s->elem == c->e->f32)
        return LLVMBuildSIToFP(c->e->b, v, to, "");
    if (from_float)
        return LLVMBuildFPToSI(c->e->b, v, to, "");
    return s->elem == c->e->i8 ? LLVMBuildTrunc(c->e->b, v, to, "") : LLVMBuildSExt(c->e->b, v, to, "");
}

static LLVMValueRef fill_value(Ctx *c, AccessId at)
{
    double fill = c->k->access[at].fill;
    if (c->acc[at].dtype == DT_BF16 || c->acc[at].dtype == DT_BF16X2) {   /* exact for 0 and infinities */
        uint32_t bits;
        memcpy(&bits, &c->k->access[at].fill, sizeof bits);
        bits >>= 16;
        return LLVMConstInt(c->acc[at].elem, c->acc[at].elem == c->e->i16 ? bits : bits << 16 | bits, false);
    }
    return c->acc[at].elem == c->e->f32 ? LLVMConstReal(c->e->f32, fill)
                                         : LLVMConstInt(c->acc[at].elem, (unsigned long long)(int64_t)fill, true);
}

/* The mask of lanes that exist, where this access needs it; NULL: all. */
static LLVMValueRef tail_mask(Ctx *c, AccessId at)
{
    int v = c->nest->vector_axis;
    const AccessState *s = &c->acc[at];
    const AxisState *x = &c->axis[v];
    if (!x->partial || (s->fast && s->lin.block[v]))
        return NULL;
    if (x->is_static && !c->k->axis[v].batch && x->cst + (int64_t)(c->pt[v] + 1) * x->step <= c->k->axis[v].extent)
        return NULL;
    return lane_mask(c);
}

/* ---- loads and stores ---- */
/* Lane i of mask in the lanes that element 2 i has in vectors of elements first .. first + lanes - 1; NULL: all. */
static LLVMValueRef spread_mask(Ctx *c, LLVMValueRef mask, int first)
{
    LLVMValueRef from[MAX_LANES];
    int lanes = c->nest->lanes;
    if (!mask)
        return NULL;
    for (int k = 0; k < lanes; k++)
        from[k] = emit_i32(c->e, (first + k) % 2 == 0 ? (first + k) / 2 : lanes);
    return LLVMBuildShuffleVector(c->e->b, mask, LLVMConstNull(LLVMTypeOf(mask)), LLVMConstVector(from, (unsigned)lanes), "");
}

/* Every second element, as pooling and strided convolutions read: two vectors that end with the last element needed. */
static LLVMValueRef load_alternate(Ctx *c, AccessId at, LLVMValueRef mask, LLVMValueRef fill)
{
    AccessState *s = &c->acc[at];
    int lanes = c->nest->lanes;
    LLVMTypeRef type = emit_vec(c->e, s->elem, lanes);
    LLVMValueRef part[2], from[MAX_LANES], p = access_pointer(c, at);
    for (int i = 0; i < 2; i++) {
        int first = i * (lanes - 1);
        LLVMValueRef q = emit_gep(c->e, s->elem, p, emit_i64(c->e, first)), ok = spread_mask(c, mask, first);
        part[i] = ok ? emit_masked_load(c->e, type, q, ok, fill, s->align) : emit_load(c->e, type, q, s->align);
    }
    for (int k = 0; k < lanes; k++)
        from[k] = emit_i32(c->e, 2 * k < lanes ? 2 * k : 2 * k + 1);   /* element 2 k is number 2 k - (lanes - 1) of the second */
    return LLVMBuildShuffleVector(c->e->b, part[0], part[1], LLVMConstVector(from, (unsigned)lanes), "");
}

/* ---- fetching ahead ---- */
/* Panels are a tile of blocks each. A tile of pixels at index i of the axis fetches the blocks from i / extent of the panel on. */
void access_start_ahead(Ctx *c)
{
    const Nest *n = c->nest;
    if (n->ahead_axis < 0 || !c->axis[n->ahead_axis].bound)
        return;
    int64_t blocks = n->tile[n->vector_axis], size = c->acc[n->ahead].lin.block[n->vector_axis];
    LLVMValueRef part = emit_mul(c->e, axis_index(c, n->ahead_axis), blocks), extent = emit_i64(c->e, c->k->axis[n->ahead_axis].extent);
    part = LLVMBuildUDiv(c->e->b, part, extent, "");
    c->ahead = emit_mul(c->e, emit_add(c->e, part, emit_i64(c->e, blocks)), size);
}

static void fetch_panel(Ctx *c, AccessId at)
{
    const Nest *n = c->nest;
    if (at != n->ahead || !c->ahead || c->pt[n->vector_axis])
        return;
    int64_t extent = c->k->axis[n->ahead_axis].extent, blocks = n->tile[n->vector_axis], size = c->acc[at].lin.block[n->vector_axis];
    int64_t each = (blocks * n->tile[n->ahead_axis] + extent - 1) / extent;
    for (int64_t i = 0; i < each; i++)
        emit_prefetch(c->e, emit_gep(c->e, c->acc[at].elem, access_pointer(c, at), emit_add(c->e, c->ahead, emit_i64(c->e, i * size))));
}

static void fetch_ahead(Ctx *c, AccessId at)
{
    const Nest *n = c->nest;
    if (n->ahead_axis >= 0)
        fetch_panel(c, at);
    else if (n->ahead >= 0 && c->k->access[at].buf == c->k->access[n->ahead].buf && c->acc[at].fast)
        emit_prefetch(c->e, emit_gep(c->e, c->acc[at].elem, access_pointer(c, at), emit_i64(c->e, n->ahead_by)));
}

static LLVMValueRef load_lanes(Ctx *c, AccessId at, LLVMValueRef ok)
{
    AccessState *s = &c->acc[at];
    LLVMTypeRef type = emit_vec(c->e, s->elem, c->nest->lanes);
    LLVMValueRef tail = tail_mask(c, at);
    LLVMValueRef mask = tail ? and_mixed(c, ok, tail) : ok;
    LLVMValueRef fill = emit_splat(c->e, fill_value(c, at), c->nest->lanes);
    int64_t stride = s->fast ? access_lane_stride(&s->lin, c->nest->vector_axis) : 0;
    if (stride != 2)
        fetch_ahead(c, at);
    if (mask && !is_vector(mask)) {
        if (stride == 1)
            return access_load_if(c, at, access_pointer(c, at), mask, fill);
        mask = emit_splat(c->e, mask, c->nest->lanes);
    }
    if (stride == 2)
        return load_alternate(c, at, mask, fill);
    LLVMValueRef moved = stride == 1 && mask ? access_load_moved(c, at, mask, fill) : NULL;
    if (moved)
        return moved;
    if (stride == 1)
        return mask ? emit_masked_load(c->e, type, access_pointer(c, at), mask, fill, s->align)
                    : emit_load(c->e, type, access_pointer(c, at), s->align);
    return gather(c, at, mask ? mask : all_lanes(c), fill);
}

static LLVMValueRef load_scalar(Ctx *c, AccessId at, LLVMValueRef ok)
{
    AccessState *s = &c->acc[at];
    LLVMValueRef p = s->fast ? access_pointer(c, at) : emit_gep(c->e, s->elem, s->base, access_slow_offset(c, at));
    if (!ok)
        return emit_load(c->e, s->elem, p, s->align > 8 ? 4 : s->align);
    p = LLVMBuildSelect(c->e->b, ok, p, access_harmless_pointer(c, at), "");
    LLVMValueRef v = emit_load(c->e, s->elem, p, s->align > 8 ? 4 : s->align);
    return LLVMBuildSelect(c->e->b, ok, v, fill_value(c, at), "");
}

bool access_transposes(const Ctx *c, AccessId at)
{
    return at == c->nest->transposed && vector_active(c) && c->axis[c->nest->transpose_axis].points == c->nest->lanes;
}

/* One of the log2(lanes) steps of a transposition: rows i and i + by exchange their off-diagonal blocks of `by` lanes. */
static void exchange(Ctx *c, LLVMValueRef *row, int by)
{
    int lanes = c->nest->lanes;
    for (int i = 0; i < lanes; i++) {
        if (i & by)
            continue;
        LLVMValueRef a = row[i], b = row[i + by], low[MAX_LANES], high[MAX_LANES];
        for (int k = 0; k < lanes; k++) {
            low[k] = emit_i32(c->e, k & by ? lanes + k - by : k);
            high[k] = emit_i32(c->e, k & by ? lanes + k : k + by);
        }
        row[i] = LLVMBuildShuffleVector(c->e->b, a, b, LLVMConstVector(low, (unsigned)lanes), "");
        row[i + by] = LLVMBuildShuffleVector(c->e->b, a, b, LLVMConstVector(high, (unsigned)lanes), "");
    }
}

void access_load_transposed(Ctx *c, AccessId at, LLVMValueRef *out)
{
    AccessState *s = &c->acc[at];
    int lanes = c->nest->lanes, v = c->nest->vector_axis;
    int32_t point = c->pt[c->nest->transpose_axis];
    LLVMTypeRef type = emit_vec(c->e, s->elem, lanes);
    LLVMValueRef left = LLVMBuildSub(c->e->b, axis_limit(c, v), axis_index(c, v), "");
    bool outside = false;
    LLVMValueRef ok = access_condition(c, at, &outside);
    c->pt[c->nest->transpose_axis] = 0;
    LLVMValueRef first = access_pointer(c, at);
    c->pt[c->nest->transpose_axis] = point;
    for (int i = 0; i < lanes; i++) {   /* one lane's row; lanes that do not exist, and what is out of range, read as zeros */
        if (outside) {
            out[i] = LLVMConstNull(type);
            continue;
        }
        LLVMValueRef exists = and_mixed(c, ok, LLVMBuildICmp(c->e->b, LLVMIntSGT, left, emit_i64(c->e, i), ""));
        LLVMValueRef p = emit_gep(c->e, s->elem, first, emit_i64(c->e, i * s->lin.unit[v]));
        out[i] = access_load_if(c, at, p, exists, LLVMConstNull(type));
    }
    for (int by = 1; by < lanes; by *= 2)
        exchange(c, out, by);
}

LLVMValueRef access_load(Ctx *c, AccessId at, bool *skip)
{
    bool outside = false;
    LLVMValueRef ok = access_condition(c, at, &outside);
    if (skip)
        *skip = outside && c->acc[at].skippable;
    if (outside)
        return widen(c, at, fill_value(c, at));
    if (depends_on_lanes(c, c->acc[at].axes))
        return widen(c, at, load_lanes(c, at, ok));
    return widen(c, at, load_scalar(c, at, ok));
}

/* One element; dropped where a guard says so. */
static void store_scalar(Ctx *c, AccessId at, LLVMValueRef p, LLVMValueRef value, LLVMValueRef ok)
{
    AccessState *s = &c->acc[at];
    If guard = {0};
    if (ok)
        guard = emit_if_begin(c->e, ok);
    emit_store(c->e, value, p, s->align > 8 ? 4 : s->align);
    if (ok)
        emit_if_end(c->e, &guard);
}

static LLVMValueRef scalar_pointer(Ctx *c, AccessId at)
{
    AccessState *s = &c->acc[at];
    return s->fast ? access_pointer(c, at) : emit_gep(c->e, s->elem, s->base, access_slow_offset(c, at));
}

/* Guards and existing lanes together, or one for all lanes; NULL: all lanes. */
static LLVMValueRef store_mask(Ctx *c, AccessId at, LLVMValueRef ok)
{
    LLVMValueRef tail = tail_mask(c, at);
    return tail ? and_mixed(c, ok, tail) : ok;
}

/* Lanes past the batch are zero where gradients rely on it. */
static LLVMValueRef without_tail(Ctx *c, AccessId at, LLVMValueRef value)
{
    const AccessState *s = &c->acc[at];
    int v = c->nest->vector_axis;
    if (!is_vector(value))
        value = emit_splat(c->e, value, c->nest->lanes);
    if (c->nest->zero_tail && c->k->axis[v].batch && s->fast && s->lin.block[v])
        value = LLVMBuildSelect(c->e->b, lane_mask(c), value, LLVMConstNull(LLVMTypeOf(value)), "");
    return value;
}

static void store_lanes(Ctx *c, AccessId at, LLVMValueRef value, LLVMValueRef mask)
{
    AccessState *s = &c->acc[at];
    fetch_ahead(c, at);
    bool contiguous = s->fast && access_lane_stride(&s->lin, c->nest->vector_axis) == 1;
    if (mask && !is_vector(mask)) {
        if (contiguous && !c->e->target->masks) {   /* there a masked store is a branch a lane */
            If all = emit_if_begin(c->e, mask);
            emit_store(c->e, value, access_pointer(c, at), s->align);
            emit_if_end(c->e, &all);
            return;
        }
        mask = emit_splat(c->e, mask, c->nest->lanes);
    }
    if (weave_applies(c, at))
        weave_store(c, at, value, mask);
    else if (!contiguous)
        scatter(c, at, mask ? mask : all_lanes(c), value);
    else if (mask)
        emit_masked_store(c->e, value, access_pointer(c, at), mask, s->align);
    else
        emit_store(c->e, value, access_pointer(c, at), s->align);
}

/* The pair with a new half. Indices run upwards, so the low half comes first and may clear the high one, which is then zero where
 * nothing follows. */
static LLVMValueRef with_half(Ctx *c, LLVMValueRef old, LLVMValueRef value, LLVMValueRef which)
{
    LLVMBuilderRef b = c->e->b;
    int lanes = is_vector(old) ? c->nest->lanes : 1;
    LLVMValueRef bits = LLVMBuildZExt(b, value, LLVMTypeOf(old), ""), sixteen = emit_splat(c->e, emit_i32(c->e, 16), lanes);
    LLVMValueRef low = LLVMBuildAnd(b, old, emit_splat(c->e, emit_i32(c->e, 0xffff), lanes), "");
    LLVMValueRef both = LLVMBuildOr(b, low, LLVMBuildShl(b, bits, sixteen, ""), "");
    return LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntEQ, which, emit_i32(c->e, 0), ""), bits, both, "");
}

/* What is stored where one half or both are known; old: what is there, asked for only when needed. */
static LLVMValueRef paired_value(Ctx *c, AccessId at, LLVMValueRef low, LLVMValueRef high, LLVMValueRef ok,
                                 LLVMValueRef (*old)(Ctx *, AccessId, LLVMValueRef))
{
    if (high)
        return emit_pair(c->e, low, emit_bf16_round(c->e, high));
    if (access_parity(c, at) == 0)
        return emit_pair(c->e, low, LLVMConstNull(LLVMTypeOf(low)));
    return with_half(c, old(c, at, ok), low, which_half(c, at));
}

void access_store(Ctx *c, AccessId at, LLVMValueRef value, LLVMValueRef high)
{
    AccessState *s = &c->acc[at];
    bool outside = false;
    LLVMValueRef ok = access_condition(c, at, &outside);
    if (outside)
        return;
    if (depends_on_lanes(c, s->axes)) {
        value = narrow(c, at, without_tail(c, at, value));
        if (s->pair_dim >= 0)
            value = paired_value(c, at, value, high ? without_tail(c, at, high) : NULL, ok, load_lanes);
        store_lanes(c, at, value, store_mask(c, at, ok));
        return;
    }
    value = narrow(c, at, value);
    if (s->pair_dim >= 0)
        value = paired_value(c, at, value, high, ok, load_scalar);
    store_scalar(c, at, scalar_pointer(c, at), value, ok);
}
