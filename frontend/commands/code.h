/* What the commands that generate code share: the target, weights, programs, JIT. Strings and tables live in the arena of
 * the Compile; code_free gives back the JIT's code. */
#ifndef CNNC_FRONTEND_COMMANDS_CODE_H
#define CNNC_FRONTEND_COMMANDS_CODE_H
#include "codegen/compile.h"
#include "codegen/gpu/images.h"
#include "frontend/backend.h"
#include "frontend/driver.h"

typedef struct CodeGen {
    Compile *cc;
    Arena *programs;   /* where programs and their tables live (a plan on trial: tune.c); NULL: the Compile's arena */
    const CpuBackend *backend; /* NULL: the program is for a GPU */
    CpuTarget target;
    GpuTargets gpus;
    GpuUses uses[MAX_GPU_TARGETS]; /* after code_images */
    CompileOptions options;
    const CnncTensor *tensors; /* of the net as it was written */
    int64_t state_bytes; /* of all of them */
    RefNamed *weights; /* by state_dict name; NULL: not taken yet */
    int32_t n_weights;
    bool initial;      /* no --weights: initial ones */
    Program *program;
    CpuJit *jit;
    const CnncModel *model; /* after code_jit */
} CodeGen;

/* Each returns an exit status; what went wrong has been printed. */
int code_open(CodeGen *c, Compile *cc);        /* the device that --device asks for; its back end and target */
int code_open_cpu(CodeGen *c, Compile *cc);
int code_open_one_cpu(CodeGen *c, Compile *cc, const char *cpu);      /* this one instead of what --cpu says */
int code_open_gpu(CodeGen *c, Compile *cc, const GpuTargets *gpus);   /* tiles for the oldest of them */
int code_weights(CodeGen *c);                  /* --weights, or initial values; class names and normalisation from the file */
/* The two parts of it: what the file says and whether it fits; the values, which take memory when they are initial ones. */
int code_open_weights(CodeGen *c);
void code_take_weights(CodeGen *c);
int code_inference(CodeGen *c, bool selftest); /* c->program */
int code_inference_once(CodeGen *c);           /* the same by c->options alone, whatever --max-rel-err and --tune say */
int code_training(CodeGen *c);
int code_training_once(CodeGen *c);
int code_object(CodeGen *c, CpuOutput kind, bool library, Bytes *out);
int code_jit(CodeGen *c);                        /* c->model */
int code_images(CodeGen *c);                     /* text and images of a program for GPUs */
int code_session_model(CodeGen *c, Compile *cc); /* open, weights, inference, jit */
void code_free(CodeGen *c);
int code_dump(Compile *cc); /* --dump of a stage behind the checks */
/* Prints an error of the runtime; returns its exit status. */
int code_runtime_error(const void *rt_error);
uint64_t code_seed(const Compile *cc); /* --seed, or the train block's */
/* "uses initial weights" on stderr, once, unless quiet. */
void code_tell_initial(const CodeGen *c);
#endif
