/* The code generator's plugin: LLVM is opened only by commands that generate code. */
#ifndef CNNC_FRONTEND_BACKEND_H
#define CNNC_FRONTEND_BACKEND_H
#include "codegen/cpu/cpu.h"

/* Opens cnnc_cpu.so beside the executable or in ../lib/cnnc. NULL: *why is a sentence. Stays open. */
const CpuBackend *backend_open(Arena *a, const char **why);
/* The folder of this executable. */
const char *backend_program_dir(Arena *a);
#endif
