/* CUDA C text to machine code, by NVIDIA's library.
 * In: a text that needs no headers. Out: a cubin or PTX, and the compiler's log.
 * Relies on NVRTC's C interface, the same in versions 12 and 13. Leaves nothing: programs are destroyed at once.
 * A library that is known (nvrtc_known.c) is opened when it first compiles.
 * Idea: ptxas is asked to tell registers and shared memory of each kernel; resources.c reads them from the log. */
#include "codegen/gpu/nvrtc.h"
#include "codegen/gpu/nvrtc_known.h"
#include "ir/base/vec.h"

#include <dlfcn.h>
#include <pthread.h>
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
    NvrtcKnown known;
    pthread_mutex_t opening;        /* of `library` and the functions, which several threads may want */
    void *library;                  /* NULL: not yet */
#define NVRTC_MEMBER(field, symbol, arguments) int(*field) arguments;
    NVRTC_FUNCTIONS(NVRTC_MEMBER)
#undef NVRTC_MEMBER
};

/* 177: a function of the prelude that no kernel calls. */
static const char *const fixed_options[] = {"--std=c++17", "-default-device", "--ptxas-options=-v", "--diag-suppress=177"};
enum { FIXED_OPTIONS = 4 };

const char *nvrtc_options(void) { return "--std=c++17 -default-device"; }

static bool open_one(Nvrtc *n, const char *name)
{
    const char *missing = NULL;
    n->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        return false;
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
    n->known.name = given;
    if (given && *given)
        return open_one(n, given);
    for (int version = 0; version < 2; version++)
        for (int f = 0; f < 3; f++) {
            const char *root = f == 0 ? "" : home && *home ? arena_printf(a, "%s/", home) : "/usr/local/cuda/";
            n->known.name = arena_printf(a, "%s%s%s", root, folders[f], names[version]);
            if (open_one(n, n->known.name))
                return true;
        }
    return false;
}

/* All of n->known but the name, from the library. */
static void ask_library(Nvrtc *n, Arena *a)
{
    NvrtcKnown *k = &n->known;
    Dl_info found;
    int major = 0, minor = 0;
    n->version(&major, &minor);
    k->version = arena_printf(a, "%d.%d", major, minor);
    k->path = dladdr(*(void **)&n->version, &found) && found.dli_fname ? arena_strdup(a, found.dli_fname) : k->name;
    if (n->count_architectures(&k->n_sm) != 0 || k->n_sm > NVRTC_MOST_GPUS || n->architectures(k->sm) != 0)
        k->n_sm = 0;
}

Nvrtc *nvrtc_open(Arena *a, const char **why)
{
    Nvrtc *n = NEW(a, Nvrtc);
    const char *given = getenv("CNNC_NVRTC");
    pthread_mutex_init(&n->opening, NULL);
    if (nvrtc_recall(a, &n->known))
        return n;
    if (!open_any(n, a)) {
        *why = given && *given ? arena_printf(a, "%s, which CNNC_NVRTC names, is no NVRTC", given)
                               : "there is no CUDA toolkit: NVRTC (libnvrtc.so.13 or .12) was not found; install it or name the file in CNNC_NVRTC";
        return NULL;
    }
    ask_library(n, a);
    nvrtc_remember(a, &n->known);
    return n;
}

void nvrtc_close(Nvrtc *n)
{
    if (n && n->library)
        dlclose(n->library);
}

const char *nvrtc_version(const Nvrtc *n) { return n->known.version; }
const char *nvrtc_library(const Nvrtc *n) { return n->known.name; }

int nvrtc_architecture(const Nvrtc *n, int sm)
{
    int best = 0;
    for (int i = 0; i < n->known.n_sm; i++)
        if (n->known.sm[i] <= sm && n->known.sm[i] > best)
            best = n->known.sm[i];
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

/* The library of what is known, unless it is open. */
static bool open_known(Nvrtc *n)
{
    pthread_mutex_lock(&n->opening);
    bool fine = n->library || open_one(n, n->known.path);
    pthread_mutex_unlock(&n->opening);
    return fine;
}

bool nvrtc_compile(Nvrtc *n, Arena *a, const char *text, int sm, bool ptx, NvrtcCode *out)
{
    NvrtcProgram p = NULL;
    *out = (NvrtcCode){.log = arena_printf(a, "%s cannot be opened", n->known.path)};
    if (!open_known(n))
        return false;
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
