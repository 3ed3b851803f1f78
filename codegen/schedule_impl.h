/* What the files of the scheduler share: a kernel on its way to a nest. */
#ifndef CNNC_CODEGEN_SCHEDULE_IMPL_H
#define CNNC_CODEGEN_SCHEDULE_IMPL_H
#include "codegen/nest.h"

enum { PAGE = 4096 };             /* bytes; rows so far apart meet in the same sets of L1, and no prefetcher goes from one to the next */
#define PANEL_OF_L1 0.6           /* part of L1 that a panel of weights may fill and stay there */

typedef struct {
    const KernelList *l;
    const Kernel *k;
    const NestTarget *t;
    Nest *n;
    Linear *lin;               /* by access */
    uint32_t reduced;          /* axes some reduction runs over */
    uint32_t par;              /* the others */
    ExprId main;               /* the reduction with the most work; 0: a map */
    AccessId a, b;             /* operands when it is a contraction; -1 else */
    bool contraction, has_argmax;
    int pairs;                 /* axis along which outputs are stored in pairs of bf16; -1 */
    uint32_t even;             /* axes along the paired dim of some access: tiles hold whole pairs */
} Sched;

/* Axes that some expression or output of the kernel depends on, or sums over (bit mask). */
uint32_t sched_used_axes(const Kernel *k);

/* schedule_vector.c: sets the nest's lanes and vector axis; none (-1, one lane) where scalar code costs less. */
void sched_pick_vector_axis(Sched *s);
/* The axis along which load `at` is contiguous although the lanes run along another one, v, where a tile of lanes x lanes can be had; -1. */
int sched_turned_axis(const Sched *s, AccessId at, int v);
/* Where the points of an axis lie between those of neighbouring lanes, a tile holds them all, to be stored together (Nest.weave_axis). */
void sched_weave(Sched *s);
/* schedule_portions.c: a sum whose panel of weights would not stay in L1 goes in portions (Nest.portion). Before the tile is chosen: their
 * size; after the loops are in order: where they are, and whether they pay. */
void sched_pick_portion(Sched *s);
void sched_place_portions(Sched *s);
/* Terms that are added in one go, of the contraction's sum. */
double sched_terms(const Sched *s);
/* Points along axis a, vectors along the one in the lanes; of a slice where the axis is cut. */
int64_t sched_units(const Sched *s, int a);
/* With axis v in the lanes, are all outputs contiguous along them? */
bool sched_stores_straight(const Sched *s, int v);
#endif
