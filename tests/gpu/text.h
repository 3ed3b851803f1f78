/* CUDA text as code in this process: compiled by the C compiler with tests/gpu/host.h in front, loaded, its functions run on
 * copies of the caller's memory in "device" memory of exactly the right size. Header-only. */
#ifndef CNNC_TESTS_GPU_TEXT_H
#define CNNC_TESTS_GPU_TEXT_H
#include "codegen/gpu/gpu.h"
#include "tests/gpu/host_run.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { void *so; const char *folder; const CnncGpu *gpu; } GpuText;

/* NULL: fine; else what the compiler or the loader said. */
static inline const char *text_load(Arena *a, const CnncGpu *g, GpuText *out)
{
    char folder[] = "/tmp/cnnc-gpu-XXXXXX";
    if (!mkdtemp(folder))
        return "no temporary folder";
    FILE *f = fopen(arena_printf(a, "%s/text.c", folder), "w");
    if (!f || fputs(g->text, f) < 0 || fclose(f))
        return "the text cannot be written";
    const char *cc = getenv("CC") ? getenv("CC") : "cc";
    char *command = arena_printf(a, "%s -std=gnu11 -w -g1 -O1 -mfma -ffp-contract=fast -fPIC -fsanitize=thread -include tests/gpu/host.h -c %s/text.c -o %s/text.o 2>%s/log && "
                                    "%s -shared %s/text.o -o %s/text.so 2>>%s/log", cc, folder, folder, folder, cc, folder, folder, folder);
    int status = system(command);
    *out = (GpuText){.folder = arena_strdup(a, folder), .gpu = g, .so = status ? NULL : dlopen(arena_printf(a, "%s/text.so", folder), RTLD_NOW | RTLD_LOCAL)};
    return out->so ? NULL : arena_printf(a, "the text in %s does not compile or load: %s", folder, status ? "see log" : dlerror());
}

/* The folder stays when something failed before: the errors name its lines. */
static inline void text_free(GpuText *t)
{
    static const char *const files[] = {"text.c", "text.o", "text.so", "log"};
    char path[200];
    dlclose(t->so);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", t->folder, files[i]);
        unlink(path);
    }
    rmdir(t->folder);
}

/* Runs every launch of f; the pointers of args are device memory. False: an error of host_run.h, named by its launch. */
static inline bool text_run(const GpuText *t, const CnncGpuFunction *f, const CnncArgs *args, const HostRun *run)
{
    for (int i = 0; i < f->n_launches; i++) {
        HostKernel k;
        uint64_t words[HOST_WORDS];
        void *symbol = dlsym(t->so, f->launches[i].entry);
        memcpy(&k, &symbol, sizeof k);
        host_arguments(&f->launches[i], args, words);
        if (!k || host_launch(k, words, &f->launches[i], run)) {
            fprintf(stderr, "%s: %s", f->launches[i].entry, k ? host_error_text() : "is not in the text\n");
            return false;
        }
    }
    return true;
}
#endif
