/* versions.c: the few calls whose form depends on the LLVM version.
 * In: an Emit and operands. Out: values in its module.
 * Relies on: LLVM_VERSION_MAJOR of the headers being that of the library that is loaded (one prefix gives both).
 * Idea: whoever ports to a new LLVM changes this file alone. */
#include "codegen/cpu/versions.h"

#include <llvm-c/Core.h>
#include <llvm/Config/llvm-config.h>
#include <string.h>

static LLVMValueRef masked(Emit *e, const char *name, LLVMTypeRef data, LLVMValueRef *args, unsigned n, unsigned ptr_at, unsigned align)
{
    LLVMTypeRef types[2] = {data, e->ptr};
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    LLVMValueRef fn = LLVMGetIntrinsicDeclaration(e->mod, id, types, 2);
    LLVMTypeRef type = LLVMIntrinsicGetType(e->cx, id, types, 2);
#if LLVM_VERSION_MAJOR >= 22
    LLVMValueRef call = LLVMBuildCall2(e->b, type, fn, args, n, "");
    unsigned kind = LLVMGetEnumAttributeKindForName("align", 5);
    LLVMAddCallSiteAttribute(call, ptr_at + 1, LLVMCreateEnumAttribute(e->cx, kind, align));
    return call;
#else
    LLVMValueRef with[5];
    for (unsigned i = 0, k = 0; i < n; i++) {
        with[k++] = args[i];
        if (i == ptr_at)
            with[k++] = emit_i32(e, (int32_t)align);
    }
    return LLVMBuildCall2(e->b, type, fn, with, n + 1, "");
#endif
}

LLVMValueRef version_masked_load(Emit *e, LLVMTypeRef t, LLVMValueRef p, LLVMValueRef mask, LLVMValueRef pass_through, unsigned align)
{
    LLVMValueRef args[3] = {p, mask, pass_through};
    return masked(e, "llvm.masked.load", t, args, 3, 0, align);
}

LLVMValueRef version_masked_store(Emit *e, LLVMValueRef v, LLVMValueRef p, LLVMValueRef mask, unsigned align)
{
    LLVMValueRef args[3] = {v, p, mask};
    return masked(e, "llvm.masked.store", LLVMTypeOf(v), args, 3, 1, align);
}
