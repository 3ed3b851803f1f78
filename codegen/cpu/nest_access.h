/* What nest_index.c, nest_access.c and nest_memory.c share: arithmetic on indices that are scalars or one value a lane; addresses. */
#ifndef CNNC_CODEGEN_CPU_NEST_ACCESS_H
#define CNNC_CODEGEN_CPU_NEST_ACCESS_H
#include "codegen/cpu/nest.h"

bool depends_on_lanes(const Ctx *c, uint32_t axes);              /* is the vector axis open and among these axes? */
LLVMValueRef iota64(Ctx *c);                                            /* <0, 1, 2, ...> i64 */
LLVMValueRef splat64(Ctx *c, int64_t v);
/* Sum, product with a constant, and conjunction; a scalar beside lanes is spread over them. a of and_mixed may be NULL. */
LLVMValueRef add_mixed(Ctx *c, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef scale_mixed(Ctx *c, LLVMValueRef a, int64_t k);
LLVMValueRef and_mixed(Ctx *c, LLVMValueRef a, LLVMValueRef b);
/* nest_access.c: the element's offset in storage from the dims' indices, scalar or lanes; a pointer a lane. */
LLVMValueRef access_slow_offset(Ctx *c, AccessId at);
LLVMValueRef access_lane_pointers(Ctx *c, AccessId at);
/* All guards of an access together: NULL when surely inside; *outside when surely out. */
LLVMValueRef access_condition(Ctx *c, AccessId at, bool *outside);
/* How far the nearest vector that lies in range whole is from the lanes at the current point, in elements along a plain dim; false when it
 * is not known now, or there is none. */
bool access_lanes_shift(Ctx *c, AccessId at, int *shift);

/* nest_weave.c: is this store of one of the points that are stored together? Keeps its vector, and stores all with the last one's. */
bool weave_applies(const Ctx *c, AccessId at);
void weave_store(Ctx *c, AccessId at, LLVMValueRef value, LLVMValueRef mask);

/* nest_masks.c: loads of vectors that happen in part, or not. */
/* Where a load may go whose value is not used. */
LLVMValueRef access_harmless_pointer(Ctx *c, AccessId at);
/* All lanes from p, or `fill` when `ok` (i1) is false. */
LLVMValueRef access_load_if(Ctx *c, AccessId at, LLVMValueRef p, LLVMValueRef ok, LLVMValueRef fill);
/* Contiguous lanes of which some are out of range, where that is known now: `mask` is constant. NULL: not this case. */
LLVMValueRef access_load_moved(Ctx *c, AccessId at, LLVMValueRef mask, LLVMValueRef fill);
#endif
