/* Addresses, guards and masks of a nest's loads and stores.
 * In: accesses with linear strides (codegen/nest.c). Invariant: for a fast access, ptr holds every dynamic part of the
 * bound axes, off every static one, so that a load adds constants only; the loops keep both when they open and close.
 * Other accesses (tables, division, irregular blocks) compute their index point by point and gather. */
#include "codegen/cpu/nest_access.h"

#include <string.h>

/* ---- set-up and loop variables ---- */
static LLVMTypeRef elem_type(Emit *e, DType t)
{
    return t == DT_F32 ? e->f32 : t == DT_I32 ? e->i32 : t == DT_U8 ? e->i8 : e->i64;
}

static LLVMValueRef args_field(Ctx *c, unsigned byte_offset)
{
    Emit *e = c->e;
    return emit_load(e, e->ptr, emit_gep(e, e->i8, c->args, emit_i64(e, byte_offset)), 8);
}

/* Bytes from the buffer's first element to the first one that this slice touches. */
static LLVMValueRef slice_start(Ctx *c, AccessId at)
{
    Emit *e = c->e;
    const Access *x = &c->k->access[at];
    const Buffer *b = &c->l->buffers.at[x->buf];
    int64_t stride[MAX_RANK], size = (int64_t)dtype_size(b->dtype);
    layout_strides(b, stride);
    LLVMValueRef bytes = emit_i64(e, 0);
    for (int i = 0; i <= c->nest->n_inner && c->nest->slice_axis >= 0; i++) {
        int axis = i == 0 ? c->nest->slice_axis : c->nest->inner_axis[i - 1];
        int64_t indices = i == 0 ? c->nest->slice_size : c->nest->inner_size[i - 1];
        for (int d = 0; d < x->rank; d++) {
            int64_t step = x->dim[d].coef[axis] * indices;   /* whole blocks along a blocked dim */
            if (step)
                bytes = emit_add(e, bytes, emit_mul(e, c->part[i], step / (d == b->layout.block_dim ? b->layout.lanes : 1) * stride[d] * size));
        }
    }
    return bytes;
}

static LLVMValueRef buffer_pointer(Ctx *c, AccessId at)
{
    Emit *e = c->e;
    BufId buf = c->k->access[at].buf;
    Place p = c->f->place[buf];
    LLVMValueRef base;
    switch (p.area) {
    case AREA_STATE: base = args_field(c, offsetof(CnncArgs, state)); break;
    case AREA_WORK: base = args_field(c, offsetof(CnncArgs, work)); break;
    case AREA_CONST: base = args_field(c, offsetof(CnncArgs, consts)); break;
    case AREA_IN: base = args_field(c, offsetof(CnncArgs, in)); break;
    case AREA_LABELS: base = args_field(c, offsetof(CnncArgs, labels)); break;
    case AREA_OUT: base = args_field(c, offsetof(CnncArgs, out)); break;
    case AREA_SCALARS: base = args_field(c, offsetof(CnncArgs, scalars)); break;
    case AREA_RESULTS: base = args_field(c, offsetof(CnncArgs, results)); break;
    case AREA_SCRATCH: base = c->scratch; break;
    default: BUG("buffer %d of kernel %s has no place", buf, c->k->name);
    }
    base = emit_gep(e, e->i8, base, emit_load(e, e->i64, emit_gep(e, e->i64, c->offsets, emit_i64(e, at)), 8));
    if (p.area != AREA_SCRATCH)
        return base;
    /* Scratch holds one slice: the pointer is moved back so that the slice's elements keep their indices. */
    return emit_gep(e, e->i8, base, LLVMBuildNeg(e->b, slice_start(c, at), ""));
}

static bool area_is_aligned(Area a) { return a == AREA_STATE || a == AREA_WORK || a == AREA_CONST || a == AREA_SCRATCH; }

static void init_one(Ctx *c, AccessId at)
{
    AccessState *s = &c->acc[at];
    const Buffer *b = &c->l->buffers.at[c->k->access[at].buf];
    *s = (AccessState){.lin = access_linear(c->l, c->k, at), .axes = access_axes(c->k, at)};
    s->elem = elem_type(c->e, b->dtype);
    s->base = s->ptr = buffer_pointer(c, at);
    s->off = s->lin.base;
    s->fast = s->lin.linear;
    s->align = (unsigned)dtype_size(b->dtype);
    int v = c->nest->vector_axis;
    if (v < 0 || !s->lin.block[v])
        return;
    if (s->lin.lanes != c->nest->lanes)
        s->fast = false;
    else if (s->fast && dtype_size(b->dtype) == 4 && area_is_aligned(c->f->place[c->k->access[at].buf].area))
        s->align = (unsigned)(c->nest->lanes * 4);
}

void access_init(Ctx *c)
{
    int v = c->nest->vector_axis;
    c->padded = v >= 0;
    c->acc = NEWN(c->e->arena, AccessState, c->k->n_access);
    for (AccessId at = 0; at < c->k->n_access; at++) {
        init_one(c, at);
        const AccessState *s = &c->acc[at];
        if (v >= 0 && (s->axes >> v & 1) && !(s->fast && s->lin.block[v]))
            c->padded = false;
        for (int a = 0; a < c->k->n_axes; a++)
            if (a != v && s->fast && s->lin.block[a] && c->k->axis[a].extent > 1)
                c->split[a] = s->lin.lanes;
    }
}

void access_bind(Ctx *c, int a, LLVMValueRef loop_var, int64_t per_step)
{
    for (AccessId at = 0; at < c->k->n_access; at++) {
        AccessState *s = &c->acc[at];
        if (!s->fast || !(s->axes >> a & 1))
            continue;
        int64_t stride = s->lin.unit[a] * per_step;
        if (s->lin.block[a])
            stride += per_step == s->lin.lanes ? s->lin.block[a] : per_step;
        if (stride)
            s->ptr = emit_gep(c->e, s->elem, s->ptr, emit_mul(c->e, loop_var, stride));
    }
}

static int64_t static_offset(const Linear *f, int a, int64_t index)
{
    int64_t o = f->unit[a] * index;
    if (f->block[a])
        o += index / f->lanes * f->block[a] + index % f->lanes;
    return o;
}

void access_bind_static(Ctx *c, int a, int64_t index)
{
    for (AccessId at = 0; at < c->k->n_access; at++)
        if (c->acc[at].fast)
            c->acc[at].off += static_offset(&c->acc[at].lin, a, index);
}

/* ---- addresses ---- */
static LLVMValueRef fast_pointer(Ctx *c, AccessId at)
{
    AccessState *s = &c->acc[at];
    int64_t off = s->off;
    for (int a = 0; a < c->k->n_axes; a++)
        if (c->pt[a] && (s->axes >> a & 1))
            off += static_offset(&s->lin, a, (int64_t)c->pt[a] * c->axis[a].step);
    return off ? emit_gep(c->e, s->elem, s->ptr, emit_i64(c->e, off)) : s->ptr;
}

/* Element offset in storage from the dims' indices; scalar or lanes. */
static LLVMValueRef slow_offset(Ctx *c, AccessId at)
{
    Emit *e = c->e;
    const Access *x = &c->k->access[at];
    const Buffer *b = &c->l->buffers.at[x->buf];
    int64_t stride[MAX_RANK];
    layout_strides(b, stride);
    LLVMValueRef sum = emit_i64(e, 0);
    for (int d = 0; d < x->rank; d++) {
        LLVMValueRef i = affine_index(c, &x->dim[d]);
        if (d == b->layout.block_dim) {
            int64_t lanes = b->layout.lanes;
            LLVMValueRef m = is_vector(i) ? splat64(c, lanes) : emit_i64(e, lanes);
            LLVMValueRef q = LLVMBuildSDiv(e->b, i, m, ""), r = LLVMBuildSRem(e->b, i, m, "");
            sum = add_mixed(c, sum, add_mixed(c, scale_mixed(c, q, stride[d]), r));
        } else {
            sum = add_mixed(c, sum, scale_mixed(c, i, stride[d]));
        }
    }
    return sum;
}

static LLVMValueRef lane_pointers(Ctx *c, AccessId at)
{
    AccessState *s = &c->acc[at];
    LLVMValueRef offsets;
    LLVMValueRef base = s->base;
    if (s->fast) {
        base = fast_pointer(c, at);
        offsets = scale_mixed(c, iota64(c), access_lane_stride(&s->lin, c->nest->vector_axis));
    } else {
        offsets = slow_offset(c, at);
        if (!is_vector(offsets))
            offsets = emit_splat(c->e, offsets, c->nest->lanes);
    }
    return LLVMBuildGEP2(c->e->b, s->elem, base, &offsets, 1, "");
}

static LLVMValueRef call_intrinsic(Ctx *c, const char *name, LLVMTypeRef *overload, unsigned n_overload, LLVMValueRef *args, unsigned n_args)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    LLVMValueRef fn = LLVMGetIntrinsicDeclaration(c->e->mod, id, overload, n_overload);
    LLVMTypeRef type = LLVMIntrinsicGetType(c->e->cx, id, overload, n_overload);
    return LLVMBuildCall2(c->e->b, type, fn, args, n_args, "");
}

static LLVMValueRef gather(Ctx *c, AccessId at, LLVMValueRef mask, LLVMValueRef fill)
{
    LLVMValueRef ptrs = lane_pointers(c, at);
    LLVMTypeRef types[2] = {LLVMTypeOf(fill), LLVMTypeOf(ptrs)};
    LLVMValueRef args[4] = {ptrs, emit_i32(c->e, (int)c->acc[at].align), mask, fill};
    return call_intrinsic(c, "llvm.masked.gather", types, 2, args, 4);
}

static void scatter(Ctx *c, AccessId at, LLVMValueRef mask, LLVMValueRef value)
{
    LLVMValueRef ptrs = lane_pointers(c, at);
    LLVMTypeRef types[2] = {LLVMTypeOf(value), LLVMTypeOf(ptrs)};
    LLVMValueRef args[4] = {value, ptrs, emit_i32(c->e, (int)c->acc[at].align), mask};
    call_intrinsic(c, "llvm.masked.scatter", types, 2, args, 4);
}

static LLVMValueRef all_lanes(Ctx *c) { return LLVMConstAllOnes(emit_vec(c->e, c->e->i1, c->nest->lanes)); }

/* ---- element types: u8 and i64 are i32 in expressions ---- */
static LLVMValueRef widen(Ctx *c, AccessId at, LLVMValueRef v)
{
    AccessState *s = &c->acc[at];
    LLVMTypeRef to = is_vector(v) ? emit_vec(c->e, c->e->i32, c->nest->lanes) : c->e->i32;
    if (s->elem == c->e->i8)
        return LLVMBuildZExt(c->e->b, v, to, "");
    return s->elem == c->e->i64 ? LLVMBuildTrunc(c->e->b, v, to, "") : v;
}

static LLVMValueRef narrow(Ctx *c, AccessId at, LLVMValueRef v)
{
    AccessState *s = &c->acc[at];
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
static LLVMValueRef load_lanes(Ctx *c, AccessId at, LLVMValueRef ok)
{
    AccessState *s = &c->acc[at];
    LLVMTypeRef type = emit_vec(c->e, s->elem, c->nest->lanes);
    LLVMValueRef tail = tail_mask(c, at);
    LLVMValueRef mask = tail ? and_mixed(c, ok, tail) : ok;
    if (mask && !is_vector(mask))
        mask = emit_splat(c->e, mask, c->nest->lanes);
    LLVMValueRef fill = emit_splat(c->e, fill_value(c, at), c->nest->lanes);
    if (s->fast && access_lane_stride(&s->lin, c->nest->vector_axis) == 1)
        return mask ? emit_masked_load(c->e, type, fast_pointer(c, at), mask, fill, s->align)
                    : emit_load(c->e, type, fast_pointer(c, at), s->align);
    return gather(c, at, mask ? mask : all_lanes(c), fill);
}

static LLVMValueRef load_scalar(Ctx *c, AccessId at, LLVMValueRef ok)
{
    AccessState *s = &c->acc[at];
    LLVMValueRef p = s->fast ? fast_pointer(c, at) : emit_gep(c->e, s->elem, s->base, slow_offset(c, at));
    if (!ok)
        return emit_load(c->e, s->elem, p, s->align > 8 ? 4 : s->align);
    p = LLVMBuildSelect(c->e->b, ok, p, s->base, "");
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
        LLVMValueRef a = row[i], b = row[i + by], low[32], high[32];
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
    c->pt[c->nest->transpose_axis] = 0;
    LLVMValueRef first = fast_pointer(c, at);
    c->pt[c->nest->transpose_axis] = point;
    for (int i = 0; i < lanes; i++) {   /* one sample's row; samples that do not exist read as zeros */
        LLVMValueRef exists = LLVMBuildICmp(c->e->b, LLVMIntSGT, left, emit_i64(c->e, i), "");
        LLVMValueRef p = emit_gep(c->e, s->elem, first, emit_i64(c->e, i * s->lin.unit[v]));
        out[i] = emit_masked_load(c->e, type, p, emit_splat(c->e, exists, lanes), LLVMConstNull(type), 4);
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
static void store_scalar(Ctx *c, AccessId at, LLVMValueRef value, LLVMValueRef ok)
{
    AccessState *s = &c->acc[at];
    If guard = {0};
    if (ok)
        guard = emit_if_begin(c->e, ok);
    LLVMValueRef p = s->fast ? fast_pointer(c, at) : emit_gep(c->e, s->elem, s->base, slow_offset(c, at));
    emit_store(c->e, value, p, s->align > 8 ? 4 : s->align);
    if (ok)
        emit_if_end(c->e, &guard);
}

void access_store(Ctx *c, AccessId at, LLVMValueRef value)
{
    AccessState *s = &c->acc[at];
    bool outside = false;
    LLVMValueRef ok = access_condition(c, at, &outside);
    if (outside)
        return;
    value = narrow(c, at, value);
    if (!depends_on_lanes(c, s->axes)) {
        store_scalar(c, at, value, ok);
        return;
    }
    if (!is_vector(value))
        value = emit_splat(c->e, value, c->nest->lanes);
    int v = c->nest->vector_axis;
    if (c->nest->zero_tail && c->k->axis[v].batch && s->fast && s->lin.block[v])
        value = LLVMBuildSelect(c->e->b, lane_mask(c), value, LLVMConstNull(LLVMTypeOf(value)), "");
    LLVMValueRef tail = tail_mask(c, at), mask = tail ? and_mixed(c, ok, tail) : ok;
    if (mask && !is_vector(mask))
        mask = emit_splat(c->e, mask, c->nest->lanes);
    if (!s->fast || access_lane_stride(&s->lin, v) != 1)
        scatter(c, at, mask ? mask : all_lanes(c), value);
    else if (mask)
        emit_masked_store(c->e, value, fast_pointer(c, at), mask, s->align);
    else
        emit_store(c->e, value, fast_pointer(c, at), s->align);
}
