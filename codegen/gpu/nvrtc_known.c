/* What is known of NVRTC without opening it, which takes 10 ms: more than all else of a start whose kernels are in the cache.
 * In: the environment that decides which library is found. Out: that library's path, version and GPUs, when it is the same file still.
 * Relies on the cache of kernels: an entry more, whose key is all that the search looks at. */
#include "codegen/gpu/nvrtc_known.h"
#include "codegen/gpu/cache.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct { int64_t inode, size, seconds, nanoseconds; } Identity;

/* Zeros: no such file. */
static Identity identify(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (Identity){(int64_t)st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec} : (Identity){0};
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static const char *search_key(Arena *a)
{
    Identity loader = identify("/etc/ld.so.cache");
    return arena_printf(a, "cnnc %s, the library of CNNC_NVRTC=%s CUDA_HOME=%s LD_LIBRARY_PATH=%s ld.so.cache %lld %lld.%lld", CNNC_VERSION,
                        variable("CNNC_NVRTC"), variable("CUDA_HOME"), variable("LD_LIBRARY_PATH"), (long long)loader.size, (long long)loader.seconds,
                        (long long)loader.nanoseconds);
}

enum { NAME, PATH, IDENTITY, VERSION, GPUS, PARTS };

bool nvrtc_recall(Arena *a, NvrtcKnown *k)
{
    CachePart part[PARTS];
    if (!cache_get(a, search_key(a), part, PARTS) || part[IDENTITY].size != sizeof(Identity) || part[GPUS].size > sizeof k->sm)
        return false;
    const char *text[PARTS] = {NULL};
    for (int i = 0; i < PARTS; i++)
        text[i] = arena_strndup(a, part[i].bytes, part[i].size);
    Identity now = identify(text[PATH]);
    if (memcmp(&now, part[IDENTITY].bytes, sizeof now))
        return false;
    *k = (NvrtcKnown){.name = text[NAME], .path = text[PATH], .version = text[VERSION], .n_sm = (int)(part[GPUS].size / sizeof *k->sm)};
    memcpy(k->sm, part[GPUS].bytes, part[GPUS].size);
    return true;
}

void nvrtc_remember(Arena *a, const NvrtcKnown *k)
{
    Identity now = identify(k->path);
    if (*k->path != '/' || !now.size)   /* another folder may have another one */
        return;
    CachePart part[PARTS] = {[NAME] = {k->name, strlen(k->name)}, [PATH] = {k->path, strlen(k->path)}, [IDENTITY] = {(const char *)&now, sizeof now},
                             [VERSION] = {k->version, strlen(k->version)}, [GPUS] = {(const char *)k->sm, (size_t)k->n_sm * sizeof *k->sm}};
    cache_put(a, search_key(a), part, PARTS);
}
