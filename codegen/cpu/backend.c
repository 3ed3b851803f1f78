/* backend.c: the one symbol of the plugin.
 * In: nothing. Out: the table of entry points that frontend/ looks up after dlopen.
 * Relies on: cpu.h being the same in plugin and command (the abi field says so). Leaves: nothing to undo.
 * Idea: LLVM's start-up cost is paid only by commands that generate code. */
#include "codegen/cpu/module.h"

#include <llvm/Config/llvm-config.h>

extern const CpuBackend cnnc_cpu_backend __attribute__((visibility("default")));
const CpuBackend cnnc_cpu_backend = {
    .abi = CNNC_ABI_VERSION,
    .llvm_version = LLVM_VERSION_STRING,
    .target = target_find,
    .compile = module_compile,
    .jit_load = jit_load,
    .jit_free = jit_free,
};
