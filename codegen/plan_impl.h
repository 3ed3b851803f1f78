/* What plan.c (stages), plan_places.c (addresses) and plan_check.c (text, checks) share. */
#ifndef CNNC_CODEGEN_PLAN_IMPL_H
#define CNNC_CODEGEN_PLAN_IMPL_H
#include "codegen/plan.h"

enum { PLAN_ALIGN = 64 };   /* of buffers, in bytes */

typedef enum { ON_SAMPLES, ON_OUTPUTS } KernelKind;
typedef struct {
    Arena *a;
    const KernelList *l;
    const PlanInput *in;
    Function *f;
    KernelKind *kind;           /* by kernel */
    int32_t *stage_of;          /* by kernel; -1 not placed */
    Nest **nest;                /* by kernel */
    BufId *root;                /* by buffer: whose storage it is */
    uint64_t *reads, *writes;   /* by kernel: bits of the roots it touches, `words` of them */
    size_t words;
    int32_t *order;             /* kernels in order of execution */
    int32_t n_order;
    Vec(Stage) stages;
    Vec(int8_t) stage_kind;
} Plan;

/* How a kernel, or several, use some storage. */
typedef enum { NO_TOUCH = 0, READS = 1, WRITES = 2 } Touch;
Touch plan_touches(const Plan *p, int kernel, BufId root);
/* Gives every buffer its place in the function, whose stages are made. */
void plan_place_all(Plan *p);
#endif
