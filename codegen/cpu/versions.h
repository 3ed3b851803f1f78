/* What differs between the LLVM versions 19 to 22, and nothing else. Everybody else writes for the newest form.
 * The values made here belong to the Emit's module. */
#ifndef CNNC_CODEGEN_CPU_VERSIONS_H
#define CNNC_CODEGEN_CPU_VERSIONS_H
#include "codegen/cpu/emit.h"

/* llvm.masked.load and llvm.masked.store: up to 21 the alignment is an operand, from 22 an attribute of the pointer. */
LLVMValueRef version_masked_load(Emit *e, LLVMTypeRef t, LLVMValueRef p, LLVMValueRef mask, LLVMValueRef pass_through, unsigned align);
LLVMValueRef version_masked_store(Emit *e, LLVMValueRef v, LLVMValueRef p, LLVMValueRef mask, unsigned align);
#endif
