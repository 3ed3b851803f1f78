/* The parts of the CPU back end that backend.c puts into its table; see cpu.h for the contracts.
 * Strings handed out through `why` live in the arena. Only files of codegen/cpu include this. */
#ifndef CNNC_CODEGEN_CPU_MODULE_H
#define CNNC_CODEGEN_CPU_MODULE_H
#include "codegen/cpu/cpu.h"
#include "codegen/cpu/emit.h"

/* target.c */
bool target_find(Arena *a, const char *triple, const char *cpu, CpuTarget *out, const char **why);

void target_init(void);   /* LLVM's code generators for all that target_find finds */

/* module.c */
bool module_compile(Arena *a, const Program *p, const CpuTarget *t, CpuOutput kind, bool library, Bytes *out, const char **why);
/* Does some nest of f (or NULL) run in tile registers? */
bool module_uses_tiles(const Function *f);
/* Verifies, runs the short pass string and writes e's module; e stays with the caller. */
bool module_write(Emit *e, CpuOutput kind, Bytes *out, const char **why);

/* tables.c: the constants that runtime/ reads. fns[i] are the stage functions of p->infer, eval, step in order. */
typedef struct { LLVMValueRef *infer, *single, *eval, *step; } StageFns;
void tables_emit(Emit *e, const Program *p, const StageFns *fns);

/* library.c: the C API of a library (NAME_infer ...), over the stages of p->infer. */
void library_emit(Emit *e, const Program *p, const StageFns *fns);

/* jit.c */
CpuJit *jit_load(Arena *a, const Program *p, Bytes object, const CnncModel **model, const char **why);
void jit_free(CpuJit *j);
void *jit_find(CpuJit *j, const char *symbol);   /* NULL when there is none; for tests */
#endif
