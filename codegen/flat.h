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
#endif
