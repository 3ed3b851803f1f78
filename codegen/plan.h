/* plan: kernels become stages, and every buffer gets an address before anything runs. */
#ifndef CNNC_CODEGEN_PLAN_H
#define CNNC_CODEGEN_PLAN_H
#include "codegen/choose.h"
#include "codegen/precision.h"
#include "codegen/program.h"

/* What runs in stages of its own, so that its time can be told: nothing but what must, every layer, every kernel (but those of a strip). */
typedef enum { APART_NOTHING, APART_LAYERS, APART_KERNELS } Apart;
typedef struct {
    const NestTarget *target;
    Precision precision;              /* of products, for targets that make their own stages */
    double winograd_error;            /* for the same: of the forms taken, at most; 0: every convolution directly */
    Apart apart;
    /* Offset of a state tensor (bytes) by name; of a constant by buffer. Never fails: a missing tensor is a bug. */
    int64_t (*state_offset)(void *ctx, const char *name);
    int64_t (*const_offset)(void *ctx, const KernelList *l, BufId b);
    void *ctx;
} PlanInput;

/* Schedules every kernel of l, groups them into stages, places the buffers. The function lives in the arena. */
Function *plan(Arena *a, const char *name, const KernelList *l, const PlanInput *in);
/* For targets that make their own stages: puts the n lives into work and scratch, largest first, each at the lowest offset
 * that is free while it lives; and where a buffer with storage of its own lies that is neither. */
void plan_place_lives(Function *f, Life *life, int n);
Place plan_fixed_place(const KernelList *l, const PlanInput *in, BufId root);
/* With NestTarget.deep: what is made and read strip by strip in a slice is made and read in the same pass. A kernel between them, or one
 * that had to wait, would part them: then the function must be planned without. */
bool plan_keeps_strips(const Function *f);
void plan_print(const Function *f, FILE *to);
void stages_print(const Function *f, FILE *to);
/* No two buffers that live at the same time overlap; all lie aligned inside work and scratch. */
bool plan_verify(const Function *f, const char **why);
#endif
