/* backend.c: finds and opens the plugin with the CPU back end.
 * In: where this executable lies. Out: the plugin's table of functions.
 * Invariant: a plugin of another version is refused.
 * The idea: a program linked to LLVM needs 14 ms to start; `check` and `report` must not. */
#include "frontend/backend.h"
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

const char *backend_program_dir(Arena *a)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return ".";
    path[n] = 0;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
    return arena_strdup(a, slash == path ? "/" : path);
}

const CpuBackend *backend_open(Arena *a, const char **why)
{
    const char *dir = backend_program_dir(a), *problem = "there is no cnnc_cpu.so beside the program or in ../lib/cnnc";
    const char *places[] = {arena_printf(a, "%s/cnnc_cpu.so", dir), arena_printf(a, "%s/../lib/cnnc/cnnc_cpu.so", dir)};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (access(places[i], R_OK) != 0)
            continue;
        void *plugin = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
        if (!plugin) {
            problem = arena_strdup(a, dlerror());
            continue;
        }
        const CpuBackend *backend = dlsym(plugin, "cnnc_cpu_backend");
        if (backend && backend->abi == CNNC_ABI_VERSION)
            return backend;
        problem = arena_printf(a, "%s belongs to another version of cnnc", places[i]);
    }
    *why = arena_printf(a, "code cannot be generated: %s", problem);
    return NULL;
}
