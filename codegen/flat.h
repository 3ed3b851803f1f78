/* flat: axes of a kernel that run through memory one after the other become one. Adds views to the buffers of a kernel list. */
#ifndef CNNC_CODEGEN_FLAT_H
#define CNNC_CODEGEN_FLAT_H
#include "codegen/nest.h"

/* May axes p and q (inside p) become one? Parallel ones, and every access has both or neither. */
bool flat_fits(const KernelList *l, const Kernel *k, int p, int q);
/* Makes q of both; p is left with one index. */
void flat_merge(KernelList *l, Kernel *k, int p, int q);
/* The parts of it: access `at` has one index along both dims; axis `outer` goes into axis `inner`. */
void flat_dims(KernelList *l, Kernel *k, AccessId at, int outer, int inner);
void flat_axes(Kernel *k, int outer, int inner);
/* Is index f that axis, and nothing else? */
bool flat_is_axis(const Kernel *k, const Affine *f, int axis);
/* After `choose`: every kernel on weights alone (optimizers, sums of partial gradients) gets as few axes as it can have. */
void flat_weights(KernelList *l);

/* flat_images.c: during `choose`, when layouts of images are known: does k, a layer behind a Flatten, read one with the channels last? Then
 * its weights become a view of others whose columns are in that order, and the access returned needs no copy of plain rows; else -1. */
AccessId flat_image(KernelList *l, Kernel *k);
/* Their layout follows that of the view, when it has been chosen. */
void flat_block_weights(KernelList *l, BufId weights);
#endif
