/* What the files of the scheduler share: a kernel on its way to a nest. */
#ifndef CNNC_CODEGEN_SCHEDULE_IMPL_H
#define CNNC_CODEGEN_SCHEDULE_IMPL_H
#include "codegen/nest.h"

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
/* Bytes that one pass over all points reads through access `at`: of weights, over all output channels. */
static inline double sched_operand_bytes(const Sched *s, AccessId at) { return kernel_points(s->k, access_axes(s->k, at)) * 4; }

/* schedule.c. Is axis red a part of a guarded dim together with parallel axis par? Then unrolling it lets edge tiles drop their taps. */
bool sched_guards_with(const Sched *s, int red, int par);
/* The innermost loop of the sum that is neither over the lanes, the batch nor cut; -1: none. */
int sched_innermost_red(const Sched *s);

/* schedule_order.c. First orders: outputs' axes as they are stored, sums' as they are. */
void sched_order_par(Sched *s);
void sched_order_red(Sched *s);
/* The loop over that axis becomes the place-th from outside. */
void sched_move_to(Nest *n, int axis, int place);
/* Once tiles are known: of a contraction, its weights' tiles outside where they do not stay in L2; of a gradient, rows of weights; of tile
 * registers, steps along the rows innermost. */
void sched_order_contraction(Sched *s);
void sched_write_rows(Sched *s);
void sched_order_tiles(Sched *s);
/* Passes of weight gradients over a few rows. */
void sched_visit_rows(Sched *s);
/* The next panel of weights, a tile's results, the next plane of a transform. */
void sched_fetch_ahead(Sched *s);
void sched_fetch_early(Sched *s);
void sched_fetch_planes(Sched *s);

/* schedule_registers.c. The axes that only operand `at` depends on, not `other` (bit mask). */
uint32_t sched_only(const Sched *s, AccessId at, AccessId other);
/* Sets the tile of a contraction, or of another reduction. */
void sched_tile_contraction(Sched *s);
void sched_tile_reduction(Sched *s);
/* Points of tiles that operand `at` has already along other axes (a filter's, unrolled whole). */
int64_t sched_tiled_already(const Sched *s, AccessId at);
/* Are outputs in pairs whole with t points along the axis? */
bool sched_keeps_pairs(const Sched *s, int axis, int64_t t);
/* Indices of a block that axis a runs along outside the lanes; 0: it runs along none. */
int sched_block_along(const Sched *s, int a);
#endif
