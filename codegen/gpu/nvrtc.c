/* CUDA C text to machine code, by NVIDIA's library.
 * In: a text that needs no headers. Out: a cubin or PTX, and the compiler's log.
 * Relies on NVRTC's C interface, the same in versions 12 and 13. Leaves nothing: programs are destroyed at once.
 * Idea: ptxas is asked to tell registers and shared memory of each kernel; resources.c reads them from the log. */
#include "codegen/gpu/nvrtc.h"
#include "ir/base/vec.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct NvrtcProgram *NvrtcProgram;
#define NVRTC_FUNCTIONS(F) \
    F(version, nvrtcVersion, (int *major, int *minor)) \
    F(count_architectures, nvrtcGetNumSupportedArchs, (int *n)) \
    F(architectures, nvrtcGetSupportedArchs, (int *sm)) \
    F(create, nvrtcCreateProgram, (NvrtcProgram *p, const char *text, const char *name, int n, const char *const *headers, const char *const *names)) \
    F(destroy, nvrtcDestroyProgram, (NvrtcProgram *p)) \
    F(compile, nvrtcCompileProgram, (NvrtcProgram p, int n, const char *const *options)) \
    F(log_size, nvrtcGetProgramLogSize, (NvrtcProgram p, size_t *n)) \
    F(log, nvrtcGetProgramLog, (NvrtcProgram p, char *log)) \
    F(cubin_size, nvrtcGetCUBINSize, (NvrtcProgram p, size_t *n)) \
    F(cubin, nvrtcGetCUBIN, (NvrtcProgram p, char *cubin)) \
    F(ptx_size, nvrtcGetPTXSize, (NvrtcProgram p, size_t *n)) \
    F(ptx, nvrtcGetPTX, (NvrtcProgram p, char *ptx))

struct Nvrtc {
    void *library;
    const char *name, *version_text;
    int sm[64], n_sm;               /* architectures it knows */
#define NVRTC_MEMBER(field, symbol, arguments) int(*field) arguments;
    NVRTC_FUNCTIONS(NVRTC_MEMBER)
#undef NVRTC_MEMBER
};

/* 177: a function of the prelude that no kernel calls. */
static const char *const fixed_options[] = {"--std=c++17", "-default-device", "--ptxas-options=-v", "--diag-suppress=177"};
enum { FIXED_OPTIONS = 4 };

const char *nvrtc_options(void) { return "--std=c++17 -default-device"; }

static bool open_one(Nvrtc *n, Arena *a, const char *name)
{
    const char *missing = NULL;
    n->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        return false;
    n->name = arena_strdup(a, name);
#define NVRTC_FIND(field, symbol, arguments) \
    *(void **)&n->field = dlsym(n->library, #symbol); \
    missing = n->field ? missing : #symbol;
    NVRTC_FUNCTIONS(NVRTC_FIND)
#undef NVRTC_FIND
    if (!missing)
        return true;
    dlclose(n->library);
    n->library = NULL;
    return false;
}

static bool open_any(Nvrtc *n, Arena *a)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12"}, *const folders[] = {"", "lib64/", "lib/"};
    const char *given = getenv("CNNC_NVRTC"), *home = getenv("CUDA_HOME");
    if (given && *given)
        return open_one(n, a, given);
    for (int version = 0; version < 2; version++)
        for (int f = 0; f < 3; f++) {
            const char *root = f == 0 ? "" : home && *home ? arena_printf(a, "%s/", home) : "/usr/local/cuda/";
            if (open_one(n, a, arena_printf(a, "%s%s%s", root, folders[f], names[version])))
                return true;
        }
    return false;
}

Nvrtc *nvrtc_open(Arena *a, const char **why)
{
    Nvrtc *n = NEW(a, Nvrtc);
    int major = 0, minor = 0;
    const char *given = getenv("CNNC_NVRTC");
    if (!open_any(n, a)) {
        *why = given && *given ? arena_printf(a, "%s, which CNNC_NVRTC names, is no NVRTC", given)
                               : "there is no CUDA toolkit: NVRTC (libnvrtc.so.13 or .12) was not found; install it or name the file in CNNC_NVRTC";
        return NULL;
    }
    n->version(&major, &minor);
    n->version_text = arena_printf(a, "%d.%d", major, minor);
    if (n->count_architectures(&n->n_sm) != 0 || n->n_sm > (int)ARRAY_LEN(n->sm) || n->architectures(n->sm) != 0)
        n->n_sm = 0;
    return n;
}

void nvrtc_close(Nvrtc *n)
{
    if (n && n->library)
        dlclose(n->library);
}

const char *nvrtc_version(const Nvrtc *n) { return n->version_text; }
const char *nvrtc_library(const Nvrtc *n) { return n->name; }

int nvrtc_architecture(const Nvrtc *n, int sm)
{
    int best = 0;
    for (int i = 0; i < n->n_sm; i++)
        if (n->sm[i] <= sm && n->sm[i] > best)
            best = n->sm[i];
    return best;
}

/* The log without a final line end; NVRTC counts a terminating zero. */
static const char *read_log(Nvrtc *n, Arena *a, NvrtcProgram p)
{
    size_t size = 0;
    if (n->log_size(p, &size) != 0 || size <= 1)
        return "";
    char *log = arena_alloc(a, size + 1);
    n->log(p, log);
    return log;
}

static bool read_code(Nvrtc *n, Arena *a, NvrtcProgram p, bool ptx, NvrtcCode *out)
{
    if ((ptx ? n->ptx_size : n->cubin_size)(p, &out->size) != 0 || out->size == 0)
        return false;
    char *bytes = arena_alloc(a, out->size);
    out->bytes = bytes;
    return (ptx ? n->ptx : n->cubin)(p, bytes) == 0;
}

bool nvrtc_compile(Nvrtc *n, Arena *a, const char *text, int sm, bool ptx, NvrtcCode *out)
{
    NvrtcProgram p = NULL;
    *out = (NvrtcCode){.log = "NVRTC took no text"};
    if (n->create(&p, text, "cnnc.cu", 0, NULL, NULL) != 0)
        return false;
    const char *options[FIXED_OPTIONS + 1];   /* no --split-compile: it is quicker on many cores, but ptxas then spills */
    memcpy(options, fixed_options, sizeof fixed_options);
    options[FIXED_OPTIONS] = arena_printf(a, "--gpu-architecture=%s_%d", ptx ? "compute" : "sm", sm);
    bool fine = n->compile(p, FIXED_OPTIONS + 1, options) == 0;
    out->log = read_log(n, a, p);
    fine = fine && read_code(n, a, p, ptx, out);
    n->destroy(&p);
    return fine;
}
