/* What the files of Winograd on GPUs share: winograd.c (where it pays), winograd_emit.c (the kernel). */
#ifndef CNNC_CODEGEN_GPU_WINOGRAD_H
#define CNNC_CODEGEN_GPU_WINOGRAD_H
#include "codegen/gpu/contract.h"
#include "codegen/winograd_impl.h"

/* Floats from line to line of sums that threads exchange, a line being one point and filter of all tiles: so that what threads write
 * together lies in different banks. */
static inline int32_t winograd_pitch(int32_t tiles, int32_t unit_tiles) { return tiles / unit_tiles < 8 ? tiles + 4 : tiles; }
static inline int32_t winograd_points(const Contract *x) { return x->winograd->form->a * x->winograd->form->a; }

/* winograd_emit.c: the lines of the kernel of a Contract with `winograd`; winograd_dw.c: of the weights' gradient. */
void winograd_emit(Code *c, const GpuBody *body);
void winograd_emit_dw(Code *c, const GpuBody *body);
/* Of both: names in shared memory and the thread's sums; the part of the depth that a block adds up, first_WHAT to last_WHAT of `all` there
 * are, and its `steps`; the loop over these from `first` on: `load` and `place` bring V and U of the depth from `from` on, through inputs[]
 * if they like, to v_next and u_next. */
void winograd_begin(Code *c, const Contract *x);
void winograd_slice(Code *c, const Contract *x, const char *what, const char *all);
void winograd_steps(Code *c, const Contract *x, const char *first, void (*load)(Code *, const Contract *), void (*place)(Code *, const Contract *));
/* Sums go to the thread that has all points of a pair: opens a loop over the thread's pairs, numbered along the rows; then sums_of_pair[]. */
void winograd_exchange(Code *c, const Contract *x);
void winograd_take(Code *c, const Contract *x);
/* The partial sum of a slice at the point of the row and column. */
const char *winograd_partial(Code *c, const Contract *x);
/* winograd_transform.c: both ways over a tile's inputs, sums, outputs of a gradient, sums of a gradient. A function of the text for each,
 * `NAME(from, to, pitch)`; and all those that a program's launches call. */
typedef enum { TRANSFORM_INPUTS, TRANSFORM_OUTPUTS, TRANSFORM_SPREAD, TRANSFORM_TAPS, TRANSFORMS } WinogradTransform;
const char *winograd_function(Arena *a, const WinogradForm *f, WinogradTransform t);
void winograd_functions(Arena *a, const Program *p, FILE *to);
/* winograd_dw.c: the product of weight gradient k when it is best done by Winograd, or NULL. */
const Contract *winograd_find_dw(Arena *a, KernelList *l, const GpuTarget *t, const Kernel *k, double error);
/* Cycles: how much longer the quarter of a multiprocessor with the most of so many warps takes than all on average. */
double winograd_uneven(double warps);
/* Cycles of a thread for a float to or from shared memory, an input with its guard, an output with its address; of a block until the
 * first sums begin; bytes a cycle that a multiprocessor gets from L2. */
#define COST_FLOAT 4.0
#define COST_INPUT 6.0
#define COST_OUTPUT 12.0
#define COST_BLOCK 1000.0
#define L2_BYTES 20.0
#define MARGIN 0.95   /* of the direct product's cycles */
#endif
