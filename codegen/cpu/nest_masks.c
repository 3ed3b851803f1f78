/* nest_masks.c: loads of vectors that happen in part, or not, on CPUs without masked loads.
 * In: an access at the current point and which of its lanes exist. Out: the vector, `fill` in the other lanes.
 * Relies on: buffers of at least a vector where all lanes of an access may be in range at once.
 * Idea: LLVM makes a masked load there one branch and one load a lane. A plain load from a harmless place, or from the nearest
 * whole vector, and a select or a shuffle do the same. */
#include "codegen/cpu/nest_access.h"

/* The buffer's first elements, but a slice's scratch does not begin at its pointer. */
LLVMValueRef access_harmless_pointer(Ctx *c, AccessId at)
{
    return c->f->place[c->k->access[at].buf].area == AREA_SCRATCH ? c->scratch : c->acc[at].base;
}

LLVMValueRef access_load_if(Ctx *c, AccessId at, LLVMValueRef p, LLVMValueRef ok, LLVMValueRef fill)
{
    Emit *e = c->e;
    LLVMTypeRef type = emit_vec(e, c->acc[at].elem, c->nest->lanes);
    if (e->target->masks)
        return emit_masked_load(e, type, p, emit_splat(e, ok, c->nest->lanes), fill, c->acc[at].align);
    LLVMValueRef v = emit_load(e, type, LLVMBuildSelect(e->b, ok, p, access_harmless_pointer(c, at), ""), c->acc[at].align);
    return LLVMBuildSelect(e->b, ok, v, fill, "");
}

/* The nearest vector that is wholly in range, its elements moved to their lanes. */
LLVMValueRef access_load_moved(Ctx *c, AccessId at, LLVMValueRef mask, LLVMValueRef fill)
{
    AccessState *s = &c->acc[at];
    LLVMValueRef from[MAX_LANES];
    int lanes = c->nest->lanes, shift;
    if (c->e->target->masks || s->lin.block[c->nest->vector_axis] || !LLVMIsConstant(mask) || !access_lanes_shift(c, at, &shift) ||
        shift <= -lanes || shift >= lanes)
        return NULL;
    LLVMValueRef p = emit_gep(c->e, s->elem, access_pointer(c, at), emit_i64(c->e, shift));
    for (int k = 0; k < lanes; k++) {
        LLVMValueRef in = LLVMGetAggregateElement(mask, (unsigned)k);
        bool there = in && LLVMIsAConstantInt(in) && LLVMConstIntGetZExtValue(in);
        from[k] = emit_i32(c->e, there ? k - shift : lanes + k);
    }
    LLVMValueRef v = emit_load(c->e, emit_vec(c->e, s->elem, lanes), p, s->align);
    return LLVMBuildShuffleVector(c->e->b, v, fill, LLVMConstVector(from, (unsigned)lanes), "");
}
