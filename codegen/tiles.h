/* tiles: contractions over pairs of bf16 on CPUs that multiply them in tile registers (AMX):
 *
 *   sums[16 rows][16 columns] += a[16 rows][16 pairs] . b[16 pairs][16 columns]
 *
 * Columns are the lanes: output channels. Rows are points of an image, or images. So the channels of a point lie side by side, and
 * weights are [K/16][R][S][C/2][16][2]: `choose` lays buffers out so where a target has tiles. Tiles may be smaller than 16 rows and
 * 16 pairs, so nothing is padded; a nest has one size of tiles, with as many rows and pairs as its axes divide into. Lines of few points
 * would make small tiles: rows then go through all lines of an image and what lies between them, whose sums are dropped.
 *
 * In: kernels of an inference function over pairs, channels in the lanes. All is decided here, as integers of a Nest; the emitter
 * (codegen/cpu/tiles.c) prints it. */
#ifndef CNNC_CODEGEN_TILES_H
#define CNNC_CODEGEN_TILES_H
#include "codegen/nest.h"
#include "codegen/precision.h"

enum { TILE_ROWS = 16, TILE_PAIRS = 16, TILE_COLUMNS = 16, TILE_SUMS = 4 };   /* sums: tiles of them a step adds to, at most */
enum { LEAST_ROWS = 4, LEAST_PAIRS = 6 };                                     /* smaller tiles are not worth it */

/* Pairs of one tile: the most that divide all of them. */
int tiles_pairs(int64_t pairs);

/* Do the axes of this product of weights (p->w) fill tiles? */
bool tiles_fit(const KernelList *l, const Kernel *k, Product *p);
/* The share of the multiply-adds of a function whose kernels fit, before anything is narrowed or laid out. */
double tiles_share(const KernelList *l);
/* After precision_narrow: products in tiles write their parts of concatenations where these belong. */
void tiles_parts(KernelList *l);
/* Does k read past the border of an image (p->x) whose channels alone fill the depth of tiles? */
bool tiles_cross_border(const KernelList *l, const Kernel *k, Product *p);
/* Then: images that convolutions read past their border get one of zeros in memory, since a tile has no guards. */
void tiles_border(KernelList *l);
/* Before `choose`: where that cannot be, such a convolution reads a copy that has the zeros. So does one of few channels (a first
 * layer), whose copy has them side by side: a row of its tiles is a row of its filter, all channels of all taps. */
void tiles_pad(KernelList *l);
/* Does k, a convolution of few channels and few filters, fit tiles with J neighbouring columns in a row? */
bool tiles_few_fit(const KernelList *l, const Kernel *k);
/* Before `choose`: these convolutions as products of windows of J columns, with layouts of their own (tiles_few.c). */
void tiles_few(KernelList *l);
/* A constant of one: to[columns * K] of w[K]; to[columns * K][R][depth] of w[K][C][R][S]. of: w's shape. */
void tiles_few_weights(const FewForm *f, const double *w, const Shape *of, double *to);
/* After precision_pair: where rows and columns of an image are read one after the other they become one axis, so that the last tile
 * of a row need not be a small one; and so do the taps of a row and few channels, which then fill the depth of a tile. */
void tiles_merge(KernelList *l);
/* Of schedule_kernel, when the order of axes is known: vector axis, rows, pairs and sums of the tiles of n. False: n does not run in
 * tiles. */
bool tiles_schedule(const KernelList *l, const NestTarget *t, Nest *n);
/* Rows of one tile of n, and how many tiles lie along its rows' axis in a step. */
int tiles_rows(const Nest *n);
int tiles_along_rows(const Nest *n);
/* Steps of the loop over rows; of them those along one line. */
int32_t tiles_steps(const Nest *n);
int32_t tiles_steps_of_line(const Nest *n);
/* All rows of n that follow each other in memory, between lines those that are of no point. */
int32_t tiles_all_rows(const Nest *n);
#endif
