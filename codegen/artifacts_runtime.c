/* artifacts_runtime.c: the runtime that programs are linked with, and what it can read.
 * In: for which machine. Out: the folder of its archives.
 * Relies on: the build having put this machine's archives beside cnnc (or ../lib/cnnc), and another machine's in a folder there that
 * bears the name of its tools, where a cross compiler was at hand. Leaves: nothing.
 * Idea: libraries of other machines are seldom installed, so a runtime for one is built with those decoders that its compiler
 * found; the file `parts` beside the archives names them. */
#include "codegen/artifacts_impl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_PLAIN = INPUT_PGM | INPUT_IDX | INPUT_NPY };

/* tools NULL: this machine's. NULL: there is none. */
static const char *runtime_dir(Arena *a, const char *tools)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return NULL;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    static const char *const places[] = {"", "/../lib/cnnc"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const char *dir = arena_printf(a, "%s%s%s%s", self, places[i], tools ? "/" : "", tools ? tools : "");
        if (access(arena_printf(a, "%s/libcnnc_program.a", dir), R_OK) == 0)
            return dir;
    }
    return NULL;
}

/* The words of DIR/parts; without the file the runtime is whole. */
static void read_parts(Arena *a, Runtime *r)
{
    FILE *f = fopen(arena_printf(a, "%s/parts", r->dir), "re");
    char word[16];
    r->zlib = !f;
    r->inputs = f ? INPUT_PLAIN : INPUT_ALL;
    while (f && fscanf(f, "%15s", word) == 1) {
        r->zlib = r->zlib || !strcmp(word, "zlib");
        r->inputs |= !strcmp(word, "png") ? INPUT_PNG : !strcmp(word, "jpeg") ? INPUT_JPEG : 0;
    }
    if (f)
        fclose(f);
}

bool runtime_find(Arena *a, const ArtifactJob *job, Runtime *out, ArtifactError *e)
{
    const char *tools = job->tools;
    *out = (Runtime){.dir = job->runtime_dir ? job->runtime_dir : runtime_dir(a, tools)};
    if (!out->dir && tools)
        return artifact_fail(a, e, 3, "cnnc was built without a runtime for %s: install %s-gcc and build cnnc again (libraries and objects "
                                      "need no runtime: --emit lib,shared,obj)", tools, tools);
    if (!out->dir)
        return artifact_fail(a, e, 3, "cannot find the runtime (libcnnc_program.a) beside cnnc or in ../lib/cnnc");
    read_parts(a, out);
    unsigned missing = job->inputs & ~out->inputs;
    if (!missing)
        return true;
    return artifact_fail(a, e, 3, "the runtime for %s cannot read %s pictures: its static %s was missing when cnnc was built; "
                                  "--inputs pgm,idx,npy leaves them out", tools ? tools : "this machine",
                         missing & INPUT_PNG ? "PNG" : "JPEG", missing & INPUT_PNG ? "libpng" : "libjpeg");
}

unsigned artifact_inputs(Arena *a, const char *tools, unsigned inputs)
{
    Runtime r = {.dir = runtime_dir(a, tools)};
    if (!r.dir)
        return inputs;
    read_parts(a, &r);
    return inputs & r.inputs;
}
