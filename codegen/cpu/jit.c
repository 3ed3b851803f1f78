/* jit.c: loads an object made by module.c into this process.
 * In: object bytes and the Program they were made from. Out: the CnncModel in memory, with function addresses filled in.
 * Relies on: the object's only undefined symbol being SYMBOL_consts, reached by a 64-bit address (so that it may lie
 * anywhere). Leaves: the code mapped until jit_free.
 * Idea: the same bytes that go into a file are linked in memory, so that JIT and program behave alike. */
#include "codegen/cpu/module.h"

#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <stdlib.h>

struct CpuJit { LLVMOrcLLJITRef jit; };

static bool failed(Arena *a, LLVMErrorRef error, const char **why)
{
    if (!error)
        return false;
    char *message = LLVMGetErrorMessage(error);
    *why = arena_printf(a, "loading the generated code: %s", message);
    LLVMDisposeErrorMessage(message);
    return true;
}

static LLVMErrorRef define_consts(LLVMOrcLLJITRef jit, LLVMOrcJITDylibRef lib, const char *name, const void *data)
{
    LLVMOrcCSymbolMapPair pair = {LLVMOrcLLJITMangleAndIntern(jit, name),
                                  {(LLVMOrcExecutorAddress)(uintptr_t)data, {LLVMJITSymbolGenericFlagsExported, 0}}};
    return LLVMOrcJITDylibDefine(lib, LLVMOrcAbsoluteSymbols(&pair, 1));
}

CpuJit *jit_load(Arena *a, const Program *p, Bytes object, const CnncModel **model, const char **why)
{
    target_init();
    LLVMOrcLLJITRef jit;
    if (failed(a, LLVMOrcCreateLLJIT(&jit, NULL), why))
        return NULL;
    CpuJit *j = NEW(a, CpuJit);
    j->jit = jit;
    LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(jit);
    LLVMMemoryBufferRef bytes = LLVMCreateMemoryBufferWithMemoryRangeCopy(object.data, object.size, p->symbol);
    LLVMOrcExecutorAddress at = 0;
    if (failed(a, define_consts(jit, lib, arena_printf(a, "%s_consts", p->symbol), p->model.consts), why) ||
        failed(a, LLVMOrcLLJITAddObjectFile(jit, lib, bytes), why) ||
        failed(a, LLVMOrcLLJITLookup(jit, &at, arena_printf(a, "%s_model", p->symbol)), why)) {
        jit_free(j);
        return NULL;
    }
    *model = (const CnncModel *)(uintptr_t)at;
    return j;
}

void *jit_find(CpuJit *j, const char *symbol)
{
    LLVMOrcExecutorAddress at = 0;
    LLVMErrorRef error = LLVMOrcLLJITLookup(j->jit, &at, symbol);
    if (error)
        LLVMConsumeError(error);
    return (void *)(uintptr_t)at;
}

void jit_free(CpuJit *j)
{
    if (!j || !j->jit)
        return;
    LLVMErrorRef error = LLVMOrcDisposeLLJIT(j->jit);
    if (error)
        LLVMConsumeError(error);
    j->jit = NULL;
}
