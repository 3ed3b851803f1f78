/* emit.c: the vocabulary of emit.h over the LLVM C API.
 * In: an Emit. Out: instructions at its builder's place.
 * Relies on: one function being built at a time, between begin and end. Leaves: every block terminated after end.
 * Idea: loops are made rotated (test at the bottom, one guard in front, none where the bounds are constants), so no loop
 * pass has to run; loop metadata says that the structure is final. Allocas collect in the entry block, which is joined to
 * the body at the end.
 *
 *   entry: allocas; br body                 head: [from < to] --> body: iv = phi ... --> latch: iv + step < to --> body
 *   body:  ...; ret void                                     \--------------------------------------------------> exit */
#include "codegen/cpu/emit.h"
#include "codegen/cpu/versions.h"

#include <llvm-c/DebugInfo.h>
#include <stdlib.h>
#include <string.h>


Emit *emit_new(Arena *a, const char *module_name, const CpuTarget *t)
{
    Emit *e = NEW(a, Emit);
    e->arena = a;
    e->target = t;
    e->cx = LLVMContextCreate();
    e->mod = LLVMModuleCreateWithNameInContext(module_name, e->cx);
    e->b = LLVMCreateBuilderInContext(e->cx);
    e->f32 = LLVMFloatTypeInContext(e->cx);
    e->i1 = LLVMInt1TypeInContext(e->cx);
    e->i8 = LLVMInt8TypeInContext(e->cx);
    e->i16 = LLVMInt16TypeInContext(e->cx);
    e->i32 = LLVMInt32TypeInContext(e->cx);
    e->i64 = LLVMInt64TypeInContext(e->cx);
    e->ptr = LLVMPointerTypeInContext(e->cx, 0);
    e->void_ = LLVMVoidTypeInContext(e->cx);
    if (t && t->triple)
        LLVMSetTarget(e->mod, t->triple);
    return e;
}

void emit_free(Emit *e)
{
    if (!e)
        return;
    LLVMDisposeBuilder(e->b);
    if (e->mod)
        LLVMDisposeModule(e->mod);
    LLVMContextDispose(e->cx);
}

/* ---- functions ---- */
static void add_string_attribute(Emit *e, LLVMValueRef fn, const char *key, const char *value)
{
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            LLVMCreateStringAttribute(e->cx, key, (unsigned)strlen(key), value, (unsigned)strlen(value)));
}

static void add_enum_attribute(Emit *e, LLVMValueRef fn, const char *name)
{
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(e->cx, kind, 0));
}

LLVMValueRef emit_function_begin(Emit *e, const char *name, LLVMTypeRef type, bool external)
{
    LLVMValueRef fn = LLVMGetNamedFunction(e->mod, name);
    if (!fn)
        fn = LLVMAddFunction(e->mod, name, type);
    LLVMSetLinkage(fn, external ? LLVMExternalLinkage : LLVMInternalLinkage);
    add_enum_attribute(e, fn, "nounwind");
    /* "no-builtins": the back end must not turn our loops and copies into calls of memset and memcpy. */
    add_string_attribute(e, fn, "no-builtins", "true");
    if (e->target && e->target->cpu)
        add_string_attribute(e, fn, "target-cpu", e->target->cpu);
    if (e->target && e->target->tune)
        add_string_attribute(e, fn, "tune-cpu", e->target->tune);
    if (e->target && e->target->features && *e->target->features)
        add_string_attribute(e, fn, "target-features", e->target->features);
    if (e->target && e->target->lanes >= 16)
        add_string_attribute(e, fn, "prefer-vector-width", "512");
    e->fn = fn;
    e->entry = LLVMAppendBasicBlockInContext(e->cx, fn, "entry");
    LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(e->cx, fn, "body");
    LLVMPositionBuilderAtEnd(e->b, body);
    return fn;
}

void emit_function_end(Emit *e)
{
    if (!LLVMGetBasicBlockTerminator(LLVMGetInsertBlock(e->b)))
        LLVMBuildRetVoid(e->b);
    LLVMPositionBuilderAtEnd(e->b, e->entry);
    LLVMBuildBr(e->b, LLVMGetNextBasicBlock(e->entry));
    LLVMClearInsertionPosition(e->b);
    e->fn = NULL;
    e->entry = NULL;
}

LLVMValueRef emit_alloca(Emit *e, LLVMTypeRef t, const char *name)
{
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
    LLVMPositionBuilderAtEnd(e->b, e->entry);
    LLVMValueRef slot = LLVMBuildAlloca(e->b, t, name);
    LLVMPositionBuilderAtEnd(e->b, here);
    return slot;
}

/* ---- numbers ---- */
LLVMValueRef emit_i64(Emit *e, int64_t v) { return LLVMConstInt(e->i64, (unsigned long long)v, true); }
LLVMValueRef emit_i32(Emit *e, int32_t v) { return LLVMConstInt(e->i32, (unsigned long long)(int64_t)v, true); }
LLVMValueRef emit_f32(Emit *e, double v) { return LLVMConstReal(e->f32, (double)(float)v); }

static bool is_constant(LLVMValueRef v, int64_t *out)
{
    if (!LLVMIsAConstantInt(v))
        return false;
    *out = LLVMConstIntGetSExtValue(v);
    return true;
}

LLVMValueRef emit_add(Emit *e, LLVMValueRef a, LLVMValueRef b)
{
    int64_t x, y;
    bool ca = is_constant(a, &x), cb = is_constant(b, &y);
    if (ca && cb)
        return LLVMConstInt(LLVMTypeOf(a), (unsigned long long)(x + y), true);
    if (ca && x == 0)
        return b;
    if (cb && y == 0)
        return a;
    return LLVMBuildNSWAdd(e->b, a, b, "");
}

LLVMValueRef emit_mul(Emit *e, LLVMValueRef a, int64_t k)
{
    int64_t x;
    if (is_constant(a, &x))
        return LLVMConstInt(LLVMTypeOf(a), (unsigned long long)(x * k), true);
    if (k == 1)
        return a;
    if (k == 0)
        return LLVMConstNull(LLVMTypeOf(a));
    LLVMValueRef factor;
    if (LLVMGetTypeKind(LLVMTypeOf(a)) == LLVMVectorTypeKind) {
        int lanes = (int)LLVMGetVectorSize(LLVMTypeOf(a));
        factor = emit_splat(e, LLVMConstInt(LLVMGetElementType(LLVMTypeOf(a)), (unsigned long long)k, true), lanes);
    } else {
        factor = LLVMConstInt(LLVMTypeOf(a), (unsigned long long)k, true);
    }
    return LLVMBuildNSWMul(e->b, a, factor, "");
}

LLVMTypeRef emit_vec(Emit *e, LLVMTypeRef elem, int lanes)
{
    (void)e;
    return lanes == 1 ? elem : LLVMVectorType(elem, (unsigned)lanes);
}

static LLVMValueRef shuffle(Emit *e, LLVMValueRef v, int first, int step, int n)
{
    LLVMValueRef index[MAX_LANES];
    for (int i = 0; i < n; i++)
        index[i] = emit_i32(e, first + i * step);
    return LLVMBuildShuffleVector(e->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(index, (unsigned)n), "");
}

LLVMValueRef emit_splat(Emit *e, LLVMValueRef scalar, int lanes)
{
    if (lanes == 1)
        return scalar;
    if (LLVMIsConstant(scalar)) {
        LLVMValueRef all[MAX_LANES];
        for (int i = 0; i < lanes; i++)
            all[i] = scalar;
        return LLVMConstVector(all, (unsigned)lanes);
    }
    LLVMTypeRef t = LLVMVectorType(LLVMTypeOf(scalar), (unsigned)lanes);
    LLVMValueRef one = LLVMBuildInsertElement(e->b, LLVMGetPoison(t), scalar, emit_i64(e, 0), "");
    return shuffle(e, one, 0, 0, lanes);
}

LLVMValueRef emit_iota(Emit *e, int lanes)
{
    LLVMValueRef all[MAX_LANES];
    if (lanes == 1)
        return emit_i32(e, 0);
    for (int i = 0; i < lanes; i++)
        all[i] = emit_i32(e, i);
    return LLVMConstVector(all, (unsigned)lanes);
}

/* ---- memory ---- */
LLVMValueRef emit_gep(Emit *e, LLVMTypeRef elem, LLVMValueRef p, LLVMValueRef index)
{
    int64_t k;
    if (is_constant(index, &k) && k == 0)
        return p;
    return LLVMBuildInBoundsGEP2(e->b, elem, p, &index, 1, "");
}

LLVMValueRef emit_load(Emit *e, LLVMTypeRef t, LLVMValueRef p, unsigned align)
{
    LLVMValueRef v = LLVMBuildLoad2(e->b, t, p, "");
    if (align)
        LLVMSetAlignment(v, align);
    return v;
}

LLVMValueRef emit_store(Emit *e, LLVMValueRef v, LLVMValueRef p, unsigned align)
{
    LLVMValueRef s = LLVMBuildStore(e->b, v, p);
    if (align)
        LLVMSetAlignment(s, align);
    return s;
}

LLVMValueRef emit_masked_load(Emit *e, LLVMTypeRef t, LLVMValueRef p, LLVMValueRef mask, LLVMValueRef pass_through, unsigned align)
{
    if (LLVMGetTypeKind(t) != LLVMVectorTypeKind) {   /* the intrinsic takes vectors alone */
        LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
        If i = emit_if_begin(e, mask);
        LLVMValueRef got = emit_load(e, t, p, align), phi;
        emit_if_end(e, &i);
        phi = LLVMBuildPhi(e->b, t, "");
        LLVMAddIncoming(phi, (LLVMValueRef[]){pass_through, got}, (LLVMBasicBlockRef[]){before, i.then_}, 2);
        return phi;
    }
    return version_masked_load(e, t, p, mask, pass_through, align);
}

LLVMValueRef emit_masked_store(Emit *e, LLVMValueRef v, LLVMValueRef p, LLVMValueRef mask, unsigned align)
{
    if (LLVMGetTypeKind(LLVMTypeOf(v)) != LLVMVectorTypeKind) {
        If i = emit_if_begin(e, mask);
        LLVMValueRef stored = emit_store(e, v, p, align);
        emit_if_end(e, &i);
        return stored;
    }
    return version_masked_store(e, v, p, mask, align);
}

void emit_prefetch(Emit *e, LLVMValueRef p)
{
    enum { READ = 0, INTO_L2 = 2, DATA = 1 };
    LLVMTypeRef t = e->ptr;
    unsigned id = LLVMLookupIntrinsicID("llvm.prefetch", 13);
    LLVMValueRef args[4] = {p, emit_i32(e, READ), emit_i32(e, INTO_L2), emit_i32(e, DATA)};
    LLVMBuildCall2(e->b, LLVMIntrinsicGetType(e->cx, id, &t, 1), LLVMGetIntrinsicDeclaration(e->mod, id, &t, 1), args, 4, "");
}

LLVMValueRef emit_asm(Emit *e, LLVMTypeRef type, const char *code, const char *constraints, LLVMValueRef *args, unsigned n)
{
    LLVMValueRef fn = LLVMGetInlineAsm(type, code, strlen(code), constraints, strlen(constraints), true, false, LLVMInlineAsmDialectATT, false);
    return LLVMBuildCall2(e->b, type, fn, args, n, "");
}

void emit_fence(Emit *e) { emit_asm(e, LLVMFunctionType(e->void_, NULL, 0, false), "", "~{memory}", NULL, 0); }

/* ---- arithmetic ---- */
LLVMValueRef emit_fma(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c)
{
    if (!e->target->fma)
        return LLVMBuildFAdd(e->b, LLVMBuildFMul(e->b, a, b, ""), c, "");
    LLVMTypeRef t = LLVMTypeOf(c);
    unsigned id = LLVMLookupIntrinsicID("llvm.fma", 8);
    LLVMValueRef args[3] = {a, b, c};
    return LLVMBuildCall2(e->b, LLVMIntrinsicGetType(e->cx, id, &t, 1), LLVMGetIntrinsicDeclaration(e->mod, id, &t, 1), args, 3, "");
}

LLVMValueRef emit_fma_onto(Emit *e, LLVMValueRef a, LLVMValueRef b, LLVMValueRef sum)
{
    LLVMTypeRef t = LLVMTypeOf(sum), params[3] = {t, t, t};
    LLVMValueRef args[3] = {a, b, sum};
    return emit_asm(e, LLVMFunctionType(t, params, 3, false), "vfmadd231ps $2, $1, $0", "=x,x,x,0", args, 3);
}

LLVMValueRef emit_reduce(Emit *e, ExprOp op, LLVMValueRef v)
{
    LLVMTypeRef t = LLVMTypeOf(v);
    if (LLVMGetTypeKind(t) != LLVMVectorTypeKind)
        return v;
    int lanes = (int)LLVMGetVectorSize(t);
    if (lanes & (lanes - 1))
        BUG("reduction over %d lanes: not a power of two", lanes);
    for (; lanes > 1; lanes /= 2) {   /* upper half onto lower half */
        LLVMValueRef low = shuffle(e, v, 0, 1, lanes / 2), high = shuffle(e, v, lanes / 2, 1, lanes / 2);
        v = emit_scalar_op(e, op == EX_MAX_OVER ? EX_MAX : op, low, high, NULL);
    }
    return LLVMBuildExtractElement(e->b, v, emit_i64(e, 0), "");
}

/* ---- control ---- */
/* !llvm.loop: a node that names itself first, then what must not be done to the loop. */
static void mark_loop(Emit *e, LLVMValueRef branch)
{
    static const char *const no[] = {"llvm.loop.unroll.disable", "llvm.loop.vectorize.enable"};
    LLVMMetadataRef self = LLVMTemporaryMDNode(e->cx, NULL, 0);
    LLVMMetadataRef unroll = LLVMMDStringInContext2(e->cx, no[0], strlen(no[0]));
    LLVMMetadataRef vectorize[2] = {LLVMMDStringInContext2(e->cx, no[1], strlen(no[1])),
                                    LLVMValueAsMetadata(LLVMConstInt(e->i1, 0, false))};
    LLVMMetadataRef parts[3] = {self, LLVMMDNodeInContext2(e->cx, &unroll, 1), LLVMMDNodeInContext2(e->cx, vectorize, 2)};
    LLVMMetadataRef node = LLVMMDNodeInContext2(e->cx, parts, 3);
    LLVMMetadataReplaceAllUsesWith(self, node);
    LLVMSetMetadata(branch, LLVMGetMDKindIDInContext(e->cx, "llvm.loop", 9), LLVMMetadataAsValue(e->cx, node));
}

Loop emit_loop_begin(Emit *e, LLVMValueRef from, LLVMValueRef to, int64_t step, const char *name)
{
    Loop l = {.to = to, .step = step};
    int64_t lo, hi;
    bool constant = is_constant(from, &lo) && is_constant(to, &hi);
    l.head = LLVMGetInsertBlock(e->b);
    l.body = LLVMAppendBasicBlockInContext(e->cx, e->fn, name);
    l.latch = LLVMAppendBasicBlockInContext(e->cx, e->fn, "latch");
    l.exit = LLVMAppendBasicBlockInContext(e->cx, e->fn, "done");
    if (constant && lo < hi)
        LLVMBuildBr(e->b, l.body);
    else
        LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, from, to, ""), l.body, l.exit);
    LLVMPositionBuilderAtEnd(e->b, l.body);
    if (constant && lo < hi && hi - lo <= step) {   /* runs once */
        l.iv = from;
        return l;
    }
    l.iv = LLVMBuildPhi(e->b, LLVMTypeOf(from), name);
    LLVMAddIncoming(l.iv, &from, &l.head, 1);
    return l;
}

void emit_loop_end(Emit *e, Loop *l)
{
    LLVMBuildBr(e->b, l->latch);
    LLVMMoveBasicBlockAfter(l->latch, LLVMGetInsertBlock(e->b));
    LLVMMoveBasicBlockAfter(l->exit, l->latch);
    LLVMPositionBuilderAtEnd(e->b, l->latch);
    if (!LLVMIsAPHINode(l->iv) || LLVMGetInstructionParent(l->iv) != l->body) {
        LLVMBuildBr(e->b, l->exit);
    } else {
        LLVMValueRef next = LLVMBuildNSWAdd(e->b, l->iv, LLVMConstInt(LLVMTypeOf(l->iv), (unsigned long long)l->step, true), "");
        LLVMValueRef again = LLVMBuildICmp(e->b, LLVMIntSLT, next, l->to, "");
        mark_loop(e, LLVMBuildCondBr(e->b, again, l->body, l->exit));
        LLVMAddIncoming(l->iv, &next, &l->latch, 1);
    }
    LLVMPositionBuilderAtEnd(e->b, l->exit);
}

If emit_if_begin(Emit *e, LLVMValueRef cond)
{
    If i;
    i.then_ = LLVMAppendBasicBlockInContext(e->cx, e->fn, "then");
    i.join = LLVMAppendBasicBlockInContext(e->cx, e->fn, "join");
    LLVMBuildCondBr(e->b, cond, i.then_, i.join);
    LLVMPositionBuilderAtEnd(e->b, i.then_);
    return i;
}

void emit_if_end(Emit *e, If *i)
{
    LLVMBuildBr(e->b, i->join);
    LLVMMoveBasicBlockAfter(i->join, LLVMGetInsertBlock(e->b));
    LLVMPositionBuilderAtEnd(e->b, i->join);
}
