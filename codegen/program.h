/* Program: the last level. Functions made of stages, where every buffer lies, and the tables the runtime reads.
 * Made by codegen/plan.c from kernel lists; turned into code by a target (codegen/cpu, codegen/gpu). */
#ifndef CNNC_CODEGEN_PROGRAM_H
#define CNNC_CODEGEN_PROGRAM_H
#include "codegen/kernel.h"
#include "passes/train_spec.h"
#include "runtime/abi.h"

/* Where a buffer's bytes are at run time. */
typedef enum { AREA_NONE, AREA_STATE, AREA_WORK, AREA_SCRATCH, AREA_CONST, AREA_IN, AREA_LABELS, AREA_OUT, AREA_SCALARS, AREA_RESULTS } Area;
typedef struct { Area area; int64_t offset; } Place;   /* bytes from the area's base; buffers are aligned to 64 */

struct Nest;                                            /* a scheduled kernel: codegen/nest.h */
typedef struct {
    const char *name;
    struct Nest **nests; int32_t n_nests;               /* run back to back by one thread on one slice */
    int32_t slices, samples_per_slice;                  /* see CnncStage */
    int32_t first_layer, last_layer;
    double macs;
} Stage;
/* A buffer's stay in `work` or `scratch`: bytes at an offset from its first to its last kernel, counted in order of execution. */
typedef struct { BufId buf; Area area; int64_t offset, bytes; int32_t first, last, stage; } Life;

typedef struct {
    const char *name;                                   /* "infer", "eval", "step": symbols are NAME.stageK */
    const KernelList *kernels;
    Place *place;                                       /* indexed by BufId */
    Stage *stages; int32_t n_stages;
    int32_t batch, block;                               /* block: images in the lanes, 1: none */
    int64_t work_bytes, scratch_bytes;
    Life *lives; int32_t n_lives;                       /* what plan_verify holds the places against */
    struct GpuPlan *gpu;                                /* launches instead of stages: codegen/gpu/plan.h */
} Function;

typedef struct Program {
    Arena *arena;
    const char *symbol;                                 /* C identifier of the model: "lenet" */
    Function *infer, *eval, *step;                      /* NULL when absent */
    Function *single;                                   /* inference of what is left after whole blocks of images (CnncFunction.single); or NULL */
    int32_t library_threads;                            /* of the pool that its libraries have; 0: they compute on the calling thread */
    /* model.infer/eval/step point to CnncFunctions whose stages have fn == NULL; the target fills in the functions (by order).
     * model.consts is the packed data in memory (JIT) and is written beside the code (object). */
    CnncModel model;
    struct LaterConsts *later;                          /* codegen/consts.h: packed as it is written, model.consts is NULL; or NULL */
} Program;
#endif
