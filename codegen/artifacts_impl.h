/* Shared by artifacts*.c: a folder for half-made files, and running the C compiler. */
#ifndef CNNC_CODEGEN_ARTIFACTS_IMPL_H
#define CNNC_CODEGEN_ARTIFACTS_IMPL_H
#include "codegen/artifacts.h"

#include <signal.h>

/* Always false. */
bool artifact_fail(Arena *a, ArtifactError *e, int exit_code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* A new folder beside `out`; its files are known by name so that it can be emptied without listing it. Between open and close
 * an interrupt waits, so that it leaves nothing behind either. */
enum { MAX_TEMP_FILES = 16 };
typedef struct { const char *dir; const char *file[MAX_TEMP_FILES]; int n; sigset_t signals; } TempDir;   /* signals: the mask before */
bool temp_open(Arena *a, const char *out, TempDir *t, ArtifactError *e);
const char *temp_file(Arena *a, TempDir *t, const char *name);             /* its path; removed by temp_close when it exists */
bool temp_put(Arena *a, TempDir *t, const char *name, const void *data, size_t size, const char **path, ArtifactError *e);
/* The same in pieces, one after the other; later: constants that are packed now, `size` bytes. */
typedef struct { const void *data; size_t size; const struct LaterConsts *later; } TempPart;
bool temp_put_parts(Arena *a, TempDir *t, const char *name, const TempPart *parts, int n, const char **path, ArtifactError *e);
/* artifacts_elf.c: an object that defines SYMBOL_consts; machine: EM_... */
bool temp_put_weights(Arena *a, TempDir *t, const Program *p, int machine, const char **path, ArtifactError *e);
/* artifacts_runtime.c: what programs are linked with. */
typedef struct { const char *dir; bool zlib; unsigned inputs; } Runtime;   /* inputs: pictures and arrays that it reads */
bool runtime_find(Arena *a, const ArtifactJob *job, Runtime *out, ArtifactError *e);
/* artifacts_text.c: C source of what makes `import NAME` find NAME.py although NAME.so lies beside it. */
const char *python_entry_source(Arena *a, const Program *p);
bool temp_move(Arena *a, const char *file, const char *out, ArtifactError *e);
void temp_close(TempDir *t);

/* Runs argv[0] (found by PATH) to its end. 0: it said yes; >0: its exit status, what it printed in *output; -1: it could not
 * be started (errno). */
int run_program(Arena *a, char *const argv[], const char **output);
#endif
