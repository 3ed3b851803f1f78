/* Artifacts: the files that `build` leaves: executables, libraries, objects, and what stands beside a library.
 * Everything is written beside its place and renamed; nothing is left behind when something fails. Strings live in the
 * arena given. */
#ifndef CNNC_CODEGEN_ARTIFACTS_H
#define CNNC_CODEGEN_ARTIFACTS_H
#include "codegen/program.h"

/* exit_code: 2 usage, 3 output not writable or no C compiler, 70 the compiler refused what we made. */
typedef struct { int exit_code; const char *text; } ArtifactError;

typedef enum { ARTIFACT_EXE, ARTIFACT_TRAINER, ARTIFACT_LIB, ARTIFACT_SHARED, ARTIFACT_OBJ } ArtifactKind;
enum { INPUT_PNG = 1, INPUT_JPEG = 2, INPUT_PGM = 4, INPUT_IDX = 8, INPUT_NPY = 16, INPUT_ALL = 31 };   /* readers in an executable */

/* The same model for another CPU, in executables and trainers. */
enum { MAX_CPUS = 4 };
typedef struct { const Program *program; const void *object; size_t object_size; } ArtifactCode;

typedef struct {
    const Program *program;
    const void *object; size_t object_size;   /* from CpuBackend.compile; `library` set for LIB, SHARED, OBJ */
    /* The same model for GPUs, in executables and trainers: its tables as an object; NULL: for the CPU alone. */
    const Program *gpu_program; const void *gpu_object; size_t gpu_object_size;
    ArtifactCode others[MAX_CPUS]; int n_others;   /* after `program`, those that need less of a CPU behind those that need more */
    const char *out;                           /* path of the file to make */
    unsigned inputs;                           /* INPUT_...; executables only */
    const char *runtime_dir;                   /* where libcnnc_program.a is; NULL: looked for beside this program */
    const char *cc;                            /* NULL: $CC, "cc", or TOOLS-gcc */
    const char *tools; int machine;            /* of CpuTarget: the machine that the object is for */
} ArtifactJob;

/* Links code, constants and, for EXE and TRAINER, the runtime into job->out. */
bool artifact_link(Arena *a, ArtifactKind kind, const ArtifactJob *job, ArtifactError *e);

/* Which of `inputs` an executable can have: the runtime for another machine has no decoder whose library was missing when it was built. */
unsigned artifact_inputs(Arena *a, const char *tools, unsigned inputs);

/* Text files beside a library. library: its path; only the file name is used. */
bool artifact_write_header(Arena *a, const Program *p, const char *out, ArtifactError *e);
bool artifact_write_pkgconfig(Arena *a, const Program *p, const char *library, const char *out, ArtifactError *e);
bool artifact_write_python(Arena *a, const Program *p, const char *library, const char *out, ArtifactError *e);
/* Any other bytes (assembly, LLVM IR). */
bool artifact_write_file(Arena *a, const char *out, const void *data, size_t size, ArtifactError *e);

/* NAME of a library from its path or stem: the last part without `lib` and extension, other characters as `_`. */
const char *artifact_name(Arena *a, const char *path);
/* "png,jpeg,pgm,idx,npy" or "all"; false: *why names the unknown word. */
bool artifact_parse_inputs(Arena *a, const char *text, unsigned *inputs, const char **why);

/* Bytes of the one workspace of the C API: work, scratch (with a pool a block for each thread, a line of bytes between them),
 * the normalised input (when the net normalises), each rounded to 64. */
static inline int64_t artifact_round64(int64_t n) { return (n + 63) / 64 * 64; }
static inline int64_t artifact_input_floats(const CnncModel *m)   /* per sample */
{
    int64_t n = 1;
    for (int d = 0; d < m->in_rank; d++)
        n *= m->in_shape[d];
    return n;
}
static inline int64_t artifact_scratch_stride(const Program *p)
{
    return artifact_round64(p->infer->scratch_bytes) + (p->library_threads > 0 && p->infer->scratch_bytes > 0 ? 64 : 0);
}
static inline int64_t artifact_scratch(const Program *p) { return artifact_scratch_stride(p) * (p->library_threads > 0 ? p->library_threads : 1); }
static inline int64_t artifact_workspace(const Program *p)
{
    const Function *f = p->infer;
    int64_t normalised = p->model.n_mean > 0 ? artifact_round64(4 * f->batch * artifact_input_floats(&p->model)) : 0;
    return artifact_round64(f->work_bytes) + artifact_scratch(p) + normalised;
}
#endif
