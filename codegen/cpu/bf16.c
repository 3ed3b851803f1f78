/* bf16.c: conversions and products of bf16 in LLVM IR.
 * In: values of float32, i16 (one bf16) or i32 (a pair). Out: instructions at the Emit's place.
 * Idea: bf16 is the upper half of a float32, so widening is a shift; rounding to nearest even adds half a unit to the bits. With
 * AVX512-BF16 the rounding and the product of pairs are one instruction each; without, integer code and two multiply-adds. */
#include "codegen/cpu/emit.h"

#include <string.h>

static int lanes_of(LLVMValueRef v) { return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind ? (int)LLVMGetVectorSize(LLVMTypeOf(v)) : 1; }

static LLVMValueRef u32(Emit *e, uint32_t v, int lanes) { return emit_splat(e, emit_i32(e, (int32_t)v), lanes); }

/* llvm.x86.avx512bf16.STEM.BITS for vectors of `lanes` float32; operands are cast to what it takes. */
static LLVMValueRef call_bf16(Emit *e, const char *stem, int lanes, LLVMValueRef *args, unsigned n)
{
    const char *name = arena_printf(e->arena, "llvm.x86.avx512bf16.%s.%d", stem, lanes * 32);
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    LLVMTypeRef type = LLVMIntrinsicGetType(e->cx, id, NULL, 0), params[3];
    LLVMGetParamTypes(type, params);
    for (unsigned i = 0; i < n; i++)
        args[i] = LLVMBuildBitCast(e->b, args[i], params[i], "");
    return LLVMBuildCall2(e->b, type, LLVMGetIntrinsicDeclaration(e->mod, id, NULL, 0), args, n, "");
}

static LLVMValueRef round_bits(Emit *e, LLVMValueRef v)
{
    int lanes = lanes_of(v);
    LLVMBuilderRef b = e->b;
    LLVMValueRef bits = LLVMBuildBitCast(b, v, emit_vec(e, e->i32, lanes), ""), upper = LLVMBuildLShr(b, bits, u32(e, 16, lanes), "");
    LLVMValueRef odd = LLVMBuildAnd(b, upper, u32(e, 1, lanes), "");
    LLVMValueRef up = LLVMBuildAdd(b, LLVMBuildAdd(b, bits, u32(e, 0x7fff, lanes), ""), odd, "");
    LLVMValueRef nan = LLVMBuildFCmp(b, LLVMRealUNO, v, v, ""), quiet = LLVMBuildOr(b, upper, u32(e, 0x40, lanes), "");
    LLVMValueRef out = LLVMBuildSelect(b, nan, quiet, LLVMBuildLShr(b, up, u32(e, 16, lanes), ""), "");
    return LLVMBuildTrunc(b, out, emit_vec(e, e->i16, lanes), "");
}

LLVMValueRef emit_bf16_round(Emit *e, LLVMValueRef v)
{
    int lanes = lanes_of(v);
    if (!e->target->bf16 || lanes < 8 || LLVMIsConstant(v))
        return round_bits(e, v);
    return LLVMBuildBitCast(e->b, call_bf16(e, "cvtneps2bf16", lanes, &v, 1), emit_vec(e, e->i16, lanes), "");
}

LLVMValueRef emit_bf16_widen(Emit *e, LLVMValueRef v)
{
    int lanes = lanes_of(v);
    LLVMValueRef wide = LLVMBuildZExt(e->b, v, emit_vec(e, e->i32, lanes), "");
    return LLVMBuildBitCast(e->b, LLVMBuildShl(e->b, wide, u32(e, 16, lanes), ""), emit_vec(e, e->f32, lanes), "");
}

LLVMValueRef emit_pair(Emit *e, LLVMValueRef low, LLVMValueRef high)
{
    int lanes = lanes_of(low);
    LLVMTypeRef wide = emit_vec(e, e->i32, lanes);
    if (lanes == 1 || LLVMIsConstant(high)) {
        LLVMValueRef up = LLVMBuildShl(e->b, LLVMBuildZExt(e->b, high, wide, ""), u32(e, 16, lanes), "");
        return LLVMBuildOr(e->b, LLVMBuildZExt(e->b, low, wide, ""), up, "");
    }
    LLVMValueRef *index = NEWN(e->arena, LLVMValueRef, 2 * lanes);
    for (int i = 0; i < 2 * lanes; i++)
        index[i] = emit_i32(e, i / 2 + (i % 2 ? lanes : 0));
    LLVMValueRef both = LLVMBuildShuffleVector(e->b, low, high, LLVMConstVector(index, 2 * (unsigned)lanes), "");
    return LLVMBuildBitCast(e->b, both, wide, "");
}

LLVMValueRef emit_pair_half(Emit *e, LLVMValueRef pair, LLVMValueRef which)
{
    int lanes = lanes_of(pair);
    LLVMValueRef shift;
    if (lanes_of(which) != lanes)
        which = emit_splat(e, which, lanes);
    shift = LLVMBuildShl(e->b, LLVMBuildXor(e->b, which, u32(e, 1, lanes), ""), u32(e, 4, lanes), "");   /* 16 for the low half */
    LLVMValueRef bits = LLVMBuildAnd(e->b, LLVMBuildShl(e->b, pair, shift, ""), u32(e, 0xffff0000u, lanes), "");
    return LLVMBuildBitCast(e->b, bits, emit_vec(e, e->f32, lanes), "");
}

LLVMValueRef emit_dot(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef sum)
{
    int lanes = lanes_of(sum);
    if (e->target->bf16 && lanes >= 4) {
        LLVMValueRef args[3] = {sum, a, b};
        return call_bf16(e, "dpbf16ps", lanes, args, 3);
    }
    for (int half = 0; half < 2; half++) {
        LLVMValueRef which = emit_i32(e, half);
        sum = emit_fma(e, emit_pair_half(e, a, which), emit_pair_half(e, b, which), sum);
    }
    return sum;
}
