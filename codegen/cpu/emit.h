/* Emit: building LLVM IR for one module; the small vocabulary that nest.c (kernels), math.c (scalar functions) and
 * tables.c (CnncModel) share. Ownership: context, module and builder belong to the Emit and go with emit_free unless the
 * module was taken by cpu_finish. */
#ifndef CNNC_CODEGEN_CPU_EMIT_H
#define CNNC_CODEGEN_CPU_EMIT_H
#include "codegen/cpu/target.h"
#include "codegen/program.h"
#include <llvm-c/Core.h>

enum { MAX_LANES = 64 };   /* of a vector type */

typedef struct Emit {
    Arena *arena;
    const CpuTarget *target;
    LLVMContextRef cx; LLVMModuleRef mod; LLVMBuilderRef b;
    LLVMValueRef fn;                        /* the function being built */
    LLVMBasicBlockRef entry;                /* its entry block: allocas go there, before its terminator */
    LLVMTypeRef f32, i1, i8, i16, i32, i64, ptr, void_;
    struct NestCode *nests;                 /* functions of nests so far, to be shared by equal ones (stage.c) */
} Emit;

Emit *emit_new(Arena *a, const char *module_name, const CpuTarget *t);
void emit_free(Emit *e);

/* Functions: begin leaves the builder in the body block; end writes `ret void`, joins entry to body. */
LLVMValueRef emit_function_begin(Emit *e, const char *name, LLVMTypeRef type, bool external);
void emit_function_end(Emit *e);

/* Integers of type i64 (or i32 vectors where said). */
LLVMValueRef emit_i64(Emit *e, int64_t v);
LLVMValueRef emit_i32(Emit *e, int32_t v);
LLVMValueRef emit_f32(Emit *e, double v);
LLVMValueRef emit_add(Emit *e, LLVMValueRef a, LLVMValueRef b);          /* nsw; folds zero */
LLVMValueRef emit_mul(Emit *e, LLVMValueRef a, int64_t k);               /* folds 0 and 1 */
LLVMTypeRef emit_vec(Emit *e, LLVMTypeRef elem, int lanes);              /* elem itself when lanes == 1 */
LLVMValueRef emit_splat(Emit *e, LLVMValueRef scalar, int lanes);
LLVMValueRef emit_iota(Emit *e, int lanes);                              /* <0, 1, 2, ...> i32 */
LLVMValueRef emit_alloca(Emit *e, LLVMTypeRef t, const char *name);      /* in the entry block */
LLVMValueRef emit_gep(Emit *e, LLVMTypeRef elem, LLVMValueRef p, LLVMValueRef index);
LLVMValueRef emit_load(Emit *e, LLVMTypeRef t, LLVMValueRef p, unsigned align);
void emit_prefetch(Emit *e, LLVMValueRef p);                             /* for reading, into L2 */
/* Inline assembly in AT&T's syntax, kept in its place; what it reads and writes is as LLVM's constraints say. */
LLVMValueRef emit_asm(Emit *e, LLVMTypeRef type, const char *code, const char *constraints, LLVMValueRef *args, unsigned n);
void emit_fence(Emit *e);                                                /* no load or store moves across; costs no instruction */
LLVMValueRef emit_store(Emit *e, LLVMValueRef v, LLVMValueRef p, unsigned align);
LLVMValueRef emit_masked_load(Emit *e, LLVMTypeRef t, LLVMValueRef p, LLVMValueRef mask, LLVMValueRef pass_through, unsigned align);
LLVMValueRef emit_masked_store(Emit *e, LLVMValueRef v, LLVMValueRef p, LLVMValueRef mask, unsigned align);
LLVMValueRef emit_fma(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);   /* scalars or vectors; llvm.fma where the CPU has it, else mul + add */
/* The same of vectors on x86-64, and the result takes the register of the sum: left to choose, LLVM may put it into an operand's, which
 * costs copies and, with 16 registers, spills. */
LLVMValueRef emit_fma_onto(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef sum);
/* bf16 as the upper half of a float32. round: nearest, ties to even; i16 or a vector of it. widen: back from such, exactly. */
LLVMValueRef emit_bf16_round(Emit *e, LLVMValueRef f32);
LLVMValueRef emit_bf16_widen(Emit *e, LLVMValueRef i16);
/* Two i16 (vectors) side by side as i32 (a vector), `low` in the low half. */
LLVMValueRef emit_pair(Emit *e, LLVMValueRef low, LLVMValueRef high);
/* One half of a pair as float32; which: i32 0 or 1 (or a vector), constants give one instruction. */
LLVMValueRef emit_pair_half(Emit *e, LLVMValueRef pair, LLVMValueRef which);
/* sum + a.low * b.low + a.high * b.high; a, b: i32 pairs of bf16. One instruction where the CPU has it. */
LLVMValueRef emit_dot(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef sum);
LLVMValueRef emit_reduce(Emit *e, ExprOp op, LLVMValueRef vector);       /* EX_ADD or EX_MAX over lanes, in a fixed (tree) order; the scalar */

/* Counted loops: for (iv = from; iv < to; iv += step). Not entered when from >= to. */
typedef struct { LLVMBasicBlockRef head, body, latch, exit; LLVMValueRef iv, to; int64_t step; } Loop;
Loop emit_loop_begin(Emit *e, LLVMValueRef from, LLVMValueRef to, int64_t step, const char *name);
void emit_loop_end(Emit *e, Loop *l);
/* if (cond) { ... } : builder is left in the then-block; end joins. */
typedef struct { LLVMBasicBlockRef then_, join; } If;
If emit_if_begin(Emit *e, LLVMValueRef cond);
void emit_if_end(Emit *e, If *i);

/* math.c: one operation of ir/scalars.def on scalars or vectors (float: f32; comparisons give i1; integers: i32).
 * exp, expm1, log, log1p, tanh, erf, sigmoid, softplus are polynomials in IR, within 2 ulp over the whole range, right for
 * inf, NaN, signed zero; no library calls. */
LLVMValueRef emit_scalar_op(Emit *e, ExprOp op, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);

/* stage.c: the function of type CnncStageFn that runs stage s of f. External linkage; returns it. */
LLVMValueRef emit_stage(Emit *e, const Function *f, int s);
#endif
