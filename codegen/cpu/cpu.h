/* The CPU back end seen from outside: one plugin (LLVM is linked only to it) with one entry table.
 * frontend/ opens it with dlopen when a command generates code. */
#ifndef CNNC_CODEGEN_CPU_CPU_H
#define CNNC_CODEGEN_CPU_CPU_H
#include "codegen/cpu/target.h"
#include "codegen/program.h"

typedef struct { void *data; size_t size; } Bytes;      /* malloc'ed; free with free() */
typedef enum { CPU_OBJECT, CPU_ASM, CPU_LLVM_IR } CpuOutput;
typedef struct CpuJit CpuJit;

typedef struct CpuBackend {
    int abi;                                             /* CNNC_ABI_VERSION */
    const char *llvm_version;
    /* Name "host" or NULL: this machine. false: *why (in the arena) is a sentence: unknown name (with the nearest) ... */
    bool (*target)(Arena *a, const char *triple, const char *cpu, CpuTarget *out, const char **why);
    /* Code and tables of the program. Symbols: `SYMBOL_model` (a CnncModel), and for libraries the functions of the header
     * (SYMBOL_infer ...) when `library`. The consts are not in it: `SYMBOL_consts` is an undefined symbol (see artifacts). */
    bool (*compile)(Arena *a, const Program *p, const CpuTarget *t, CpuOutput kind, bool library, Bytes *out, const char **why);
    /* Loads an object made by compile into this process. The consts symbol is bound to p->model.consts. model lives until jit_free. */
    CpuJit *(*jit_load)(Arena *a, const Program *p, Bytes object, const CnncModel **model, const char **why);
    void (*jit_free)(CpuJit *j);
} CpuBackend;

/* codegen/cpu/backend.c exports this symbol: const CpuBackend cnnc_cpu_backend; */
#endif
