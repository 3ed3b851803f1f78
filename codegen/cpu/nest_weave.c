/* Stores of a few points that lie side by side in memory between those of the next lane, such as the channels of a pixel with columns in
 * the lanes.
 * In: a nest with a weave axis (codegen/nest.h), whose points come one after the other. Out: their vectors woven together, so that they
 * are stored as one run of memory, where each alone would be scattered:
 *
 *   a0 a1 a2 ..   b0 b1 b2 ..   c0 c1 c2 ..      becomes      a0 b0 c0 a1 b1 c1 a2 b2 c2 .. */
#include "codegen/cpu/nest_access.h"

bool weave_applies(const Ctx *c, AccessId at)
{
    int axis = c->nest->weave_axis;
    return axis >= 0 && kernel_writes(c->k, at) && c->acc[at].fast && vector_active(c) && c->axis[axis].points == c->k->axis[axis].extent;
}

/* Lane i of `from` where the run has it: elements first .. first + lanes - 1 of `count` a lane. */
static LLVMValueRef spread(Ctx *c, LLVMValueRef from, int first, int count)
{
    LLVMValueRef pick[MAX_LANES];
    int lanes = c->nest->lanes;
    for (int i = 0; i < lanes; i++)
        pick[i] = emit_i32(c->e, (first + i) / count);
    return LLVMBuildShuffleVector(c->e->b, from, from, LLVMConstVector(pick, (unsigned)lanes), "");
}

/* That part of the run: one vector after the other takes its places. */
static LLVMValueRef woven(Ctx *c, LLVMValueRef *from, int first, int count)
{
    LLVMValueRef pick[MAX_LANES], run = spread(c, from[0], first, count);
    int lanes = c->nest->lanes;
    for (int v = 1; v < count; v++) {
        for (int i = 0; i < lanes; i++)
            pick[i] = emit_i32(c->e, (first + i) % count == v ? lanes + (first + i) / count : i);
        run = LLVMBuildShuffleVector(c->e->b, run, from[v], LLVMConstVector(pick, (unsigned)lanes), "");
    }
    return run;
}

void weave_store(Ctx *c, AccessId at, LLVMValueRef value, LLVMValueRef mask)
{
    const AccessState *s = &c->acc[at];
    int axis = c->nest->weave_axis, count = (int)access_lane_stride(&s->lin, c->nest->vector_axis), lanes = c->nest->lanes;
    int32_t point = c->pt[axis];
    int i = s->lin.half[axis] ? point / 2 : point;
    c->weave[i] = value;
    if (i + 1 < count)
        return;
    c->pt[axis] = 0;
    LLVMValueRef first = access_pointer(c, at);
    c->pt[axis] = point;
    for (int part = 0; part < count; part++) {
        LLVMValueRef to = emit_gep(c->e, s->elem, first, emit_i64(c->e, part * lanes)), run = woven(c, c->weave, part * lanes, count);
        if (mask)
            emit_masked_store(c->e, run, to, spread(c, mask, part * lanes, count), s->align);
        else
            emit_store(c->e, run, to, s->align);
    }
}
