/* Addresses of a nest's loads and stores.
 * In: accesses with linear strides (codegen/nest.c), loop variables. Invariant: for a fast access, ptr holds every dynamic part of the
 * bound axes, off every static one, so that a load adds constants only; the loops keep both when they open and close. Accesses that
 * differ in constants alone, such as the taps of a window or of a tile, share one pointer.
 * Other accesses (tables, division, irregular blocks) compute their index point by point and gather. */
#include "codegen/cpu/nest_access.h"

#include <string.h>

/* ---- set-up and loop variables ---- */
static LLVMTypeRef elem_type(Emit *e, DType t)
{
    switch (t) {
    case DT_F32: return e->f32;
    case DT_U8: return e->i8;
    case DT_I64: return e->i64;
    case DT_BF16: return e->i16;
    default: return e->i32;
    }
}

static LLVMValueRef args_field(Ctx *c, unsigned byte_offset)
{
    Emit *e = c->e;
    return emit_load(e, e->ptr, emit_gep(e, e->i8, c->args, emit_i64(e, byte_offset)), 8);
}

/* The first part of the samples that the slice has. */
static LLVMValueRef first_part(Ctx *c)
{
    LLVMValueRef parts = emit_i64(c->e, c->nest->samples / c->nest->slice_size);
    return LLVMBuildMul(c->e->b, LLVMBuildSDiv(c->e->b, c->part[0], parts, ""), parts, "");
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
    bool of_samples = c->nest->samples && !b->strip_elements;   /* what samples share outlives a strip */
    int cuts = of_samples ? 0 : c->nest->n_inner - (c->nest->own_passes ? c->nest->n_passes : 0);   /* a nest's own passes share the slice's values */
    for (int i = 0; i <= cuts && c->nest->slice_axis >= 0; i++) {
        int axis = i == 0 ? c->nest->slice_axis : c->nest->inner_axis[i - 1];
        int64_t indices = i == 0 ? c->nest->slice_size : c->nest->inner_size[i - 1];
        for (int d = 0; d < x->rank; d++) {
            int64_t step = x->dim[d].coef[axis] * indices;   /* whole blocks along a blocked dim */
            if (step)
                bytes = emit_add(
                    e, bytes,
                    emit_mul(e, of_samples ? first_part(c) : c->part[i], step / (d == b->layout.block_dim ? b->layout.lanes : 1) * stride[d] * size));
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

/* Both run through one buffer with the same steps, apart from constants. */
static bool runs_alike(const Ctx *c, AccessId a, AccessId b)
{
    const Access *x = &c->k->access[a], *y = &c->k->access[b];
    const Linear *f = &c->acc[a].lin, *g = &c->acc[b].lin;
    if (x->buf != y->buf || !f->linear || !g->linear || memcmp(f->unit, g->unit, sizeof f->unit) || memcmp(f->block, g->block, sizeof f->block) ||
        memcmp(f->half, g->half, sizeof f->half))
        return false;
    for (int d = 0; d < x->rank; d++)
        if (memcmp(x->dim[d].coef, y->dim[d].coef, sizeof x->dim[d].coef))
            return false;
    return true;
}

static AccessId find_like(const Ctx *c, AccessId at)
{
    for (AccessId i = 0; i < at; i++)
        if (runs_alike(c, i, at))
            return i;
    return -1;
}

static void init_one(Ctx *c, AccessId at)
{
    AccessState *s = &c->acc[at];
    const Buffer *b = &c->l->buffers.at[c->k->access[at].buf];
    *s = (AccessState){.lin = access_linear(c->l, c->k, at), .axes = access_axes(c->k, at)};
    s->like = find_like(c, at);
    s->dtype = b->dtype;
    s->pair_dim = layout_pair_dim(&b->layout);
    s->elem = s->pair_dim >= 0 ? c->e->i32 : elem_type(c->e, b->dtype);
    s->base = s->ptr = s->like >= 0 ? c->acc[s->like].base : buffer_pointer(c, at);
    s->off = s->lin.base;
    s->fast = s->lin.linear;
    s->align = (unsigned)dtype_size(b->dtype);
    int v = c->nest->vector_axis;
    if (v >= 0 && s->lin.half[v])
        s->fast = false;
    if (v < 0 || !s->lin.block[v])
        return;
    if (s->lin.lanes != c->nest->lanes)
        s->fast = false;
    else if (s->fast && (dtype_size(b->dtype) == 4 || s->pair_dim >= 0) && area_is_aligned(c->f->place[c->k->access[at].buf].area))
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
            if (a != v && s->fast && s->lin.block[a] && c->k->axis[a].extent > s->lin.lanes)
                c->split[a] = s->lin.lanes;
    }
}

void access_bind(Ctx *c, int a, LLVMValueRef loop_var, int64_t per_step)
{
    for (AccessId at = 0; at < c->k->n_access; at++) {
        AccessState *s = &c->acc[at];
        if (!s->fast || !(s->axes >> a & 1))
            continue;
        if (s->like >= 0) {
            s->ptr = c->acc[s->like].ptr;
            continue;
        }
        if (s->lin.half[a]) {
            LLVMValueRef index = emit_mul(c->e, loop_var, per_step);
            s->ptr = emit_gep(c->e, s->elem, s->ptr, emit_mul(c->e, LLVMBuildLShr(c->e->b, index, emit_i64(c->e, 1), ""), s->lin.half[a]));
        }
        int64_t stride = s->lin.unit[a] * per_step;
        if (s->lin.block[a])
            stride += per_step == s->lin.lanes ? s->lin.block[a] : per_step;
        if (stride)
            s->ptr = emit_gep(c->e, s->elem, s->ptr, emit_mul(c->e, loop_var, stride));
    }
}

static int64_t static_offset(const Linear *f, int a, int64_t index)
{
    int64_t o = f->unit[a] * index + index / 2 * f->half[a];
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
LLVMValueRef access_pointer(Ctx *c, AccessId at)
{
    AccessState *s = &c->acc[at];
    int64_t off = s->off;
    for (int a = 0; a < c->k->n_axes; a++)
        if (c->pt[a] && (s->axes >> a & 1))
            off += static_offset(&s->lin, a, (int64_t)c->pt[a] * c->axis[a].step);
    return off ? emit_gep(c->e, s->elem, s->ptr, emit_i64(c->e, off)) : s->ptr;
}

LLVMValueRef access_slow_offset(Ctx *c, AccessId at)
{
    Emit *e = c->e;
    const Access *x = &c->k->access[at];
    const Buffer *b = &c->l->buffers.at[x->buf];
    int64_t stride[MAX_RANK];
    layout_strides(b, stride);
    for (int d = 0; d < x->rank && b->layout.paired; d++)
        stride[d] /= 2;
    LLVMValueRef sum = emit_i64(e, 0);
    for (int d = 0; d < x->rank; d++) {
        LLVMValueRef i = affine_index(c, &x->dim[d]);
        if (d == layout_pair_dim(&b->layout)) {
            LLVMValueRef one = is_vector(i) ? splat64(c, 1) : emit_i64(e, 1);
            sum = add_mixed(c, sum, scale_mixed(c, LLVMBuildLShr(e->b, i, one, ""), stride[d]));
        } else if (d == b->layout.block_dim) {
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

LLVMValueRef access_lane_pointers(Ctx *c, AccessId at)
{
    AccessState *s = &c->acc[at];
    LLVMValueRef offsets;
    LLVMValueRef base = s->base;
    if (s->fast) {
        base = access_pointer(c, at);
        offsets = scale_mixed(c, iota64(c), access_lane_stride(&s->lin, c->nest->vector_axis));
    } else {
        offsets = access_slow_offset(c, at);
        if (!is_vector(offsets))
            offsets = emit_splat(c->e, offsets, c->nest->lanes);
    }
    return LLVMBuildGEP2(c->e->b, s->elem, base, &offsets, 1, "");
}
