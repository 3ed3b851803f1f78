/* module.c: a Program becomes one LLVM module, and that an object, assembly or IR text.
 * In: Program with scheduled stages, CpuTarget. Out: bytes.
 * Relies on: emit_stage leaving verified structure: loops are final. Leaves: no loop, vector or inlining pass has run over it.
 * Idea: our accumulators are allocas and our addresses are written out, so that mem2reg and a few cleanups are all that
 * LLVM's middle end has to do; instruction selection, scheduling and registers are its part. */
#include "codegen/cpu/module.h"
#include "codegen/nest.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* sroa: accumulators into registers; early-cse and instcombine: addresses; licm hoists what a loop does not change. */
static const char passes[] = "function(sroa,early-cse,simplifycfg,instcombine<no-verify-fixpoint>,early-cse)";

static bool fail(Emit *e, const char **why, const char *what, char *message)
{
    *why = arena_printf(e->arena, "%s: %s", what, message ? message : "no reason given");
    if (message)
        LLVMDisposeMessage(message);
    return false;
}

static LLVMTargetMachineRef make_machine(Emit *e, const char **why)
{
    target_init();
    LLVMTargetRef target;
    char *message = NULL;
    if (LLVMGetTargetFromTriple(e->target->triple, &target, &message)) {
        fail(e, why, "LLVM has no code generator for the target", message);
        return NULL;
    }
    LLVMTargetMachineRef tm = LLVMCreateTargetMachine(target, e->target->triple, e->target->cpu, e->target->features, LLVMCodeGenLevelDefault,
                                                      LLVMRelocPIC, LLVMCodeModelSmall);
    if (!tm)
        fail(e, why, "LLVM made no target machine", NULL);
    return tm;
}

static bool optimize(Emit *e, LLVMTargetMachineRef tm, const char **why)
{
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    LLVMPassBuilderOptionsSetLoopVectorization(options, false);
    LLVMPassBuilderOptionsSetSLPVectorization(options, false);
    LLVMPassBuilderOptionsSetLoopUnrolling(options, false);
    LLVMErrorRef error = LLVMRunPasses(e->mod, passes, tm, options);
    LLVMDisposePassBuilderOptions(options);
    if (!error)
        return true;
    char *message = LLVMGetErrorMessage(error);
    *why = arena_printf(e->arena, "LLVM's passes: %s", message);
    LLVMDisposeErrorMessage(message);
    return false;
}

static void take_bytes(Bytes *out, const void *data, size_t size)
{
    out->data = malloc(size ? size : 1);
    if (!out->data)
        BUG("out of memory");
    memcpy(out->data, data, size);
    out->size = size;
}

static bool write_machine_code(Emit *e, LLVMTargetMachineRef tm, CpuOutput kind, Bytes *out, const char **why)
{
    LLVMMemoryBufferRef buffer;
    char *message = NULL;
    LLVMSetTargetMachineAsmVerbosity(tm, true);   /* comments: loops and their depth */
    if (LLVMTargetMachineEmitToMemoryBuffer(tm, e->mod, kind == CPU_ASM ? LLVMAssemblyFile : LLVMObjectFile, &message, &buffer))
        return fail(e, why, "LLVM wrote no code", message);
    take_bytes(out, LLVMGetBufferStart(buffer), LLVMGetBufferSize(buffer));
    LLVMDisposeMemoryBuffer(buffer);
    return true;
}

bool module_write(Emit *e, CpuOutput kind, Bytes *out, const char **why)
{
    LLVMTargetMachineRef tm = make_machine(e, why);
    if (!tm)
        return false;
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(tm);
    LLVMSetModuleDataLayout(e->mod, layout);
    LLVMDisposeTargetData(layout);
    char *message = NULL;
    bool ok = !LLVMVerifyModule(e->mod, LLVMReturnStatusAction, &message);
    if (!ok)
        fail(e, why, "the generated code is not valid LLVM IR", message);
    else
        LLVMDisposeMessage(message);
    ok = ok && optimize(e, tm, why);
    if (ok && kind == CPU_LLVM_IR) {
        char *text = LLVMPrintModuleToString(e->mod);
        take_bytes(out, text, strlen(text));
        LLVMDisposeMessage(text);
    } else if (ok) {
        ok = write_machine_code(e, tm, kind, out, why);
    }
    LLVMDisposeTargetMachine(tm);
    return ok;
}

/* The stage functions of f in order; local to the object, so that objects of several models link together. */
static LLVMValueRef *emit_stages(Emit *e, const Function *f)
{
    if (!f)
        return NULL;
    LLVMValueRef *fns = NEWN(e->arena, LLVMValueRef, f->n_stages + 1);
    for (int s = 0; s < f->n_stages; s++) {
        fns[s] = emit_stage(e, f, s);
        LLVMSetLinkage(fns[s], LLVMInternalLinkage);
    }
    return fns;
}

bool module_uses_tiles(const Function *f)
{
    for (int s = 0; f && s < f->n_stages; s++)
        for (int i = 0; i < f->stages[s].n_nests; i++)
            if (f->stages[s].nests[i]->rows_axis >= 0)
                return true;
    return false;
}

bool module_compile(Arena *a, const Program *p, const CpuTarget *t, CpuOutput kind, bool library, Bytes *out, const char **why)
{
    CpuTarget needed = *t;
    if (!t->software_tiles &&
        (module_uses_tiles(p->infer) || module_uses_tiles(p->single) || module_uses_tiles(p->eval) || module_uses_tiles(p->step)))
        needed.features = arena_printf(a, "%s,%s", t->features, CPU_TILE_FEATURES);
    Emit *e = emit_new(a, p->symbol, &needed);
    StageFns fns = {emit_stages(e, p->infer), emit_stages(e, p->single), emit_stages(e, p->eval), emit_stages(e, p->step)};
    tables_emit(e, p, &fns);
    if (library && p->infer)
        library_emit(e, p, &fns);
    bool ok = module_write(e, kind, out, why);
    emit_free(e);
    malloc_trim(0);   /* of what LLVM took nothing is needed any more: a large net's weights come next */
    return ok;
}
