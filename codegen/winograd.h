/* winograd: 3x3 convolutions as F(m x m, 3 x 3): fewer multiplications; constant weights are transformed ahead. */
#ifndef CNNC_CODEGEN_WINOGRAD_H
#define CNNC_CODEGEN_WINOGRAD_H
#include "codegen/nest.h"

/* Replaces the 3x3 stride-1 convolutions and data gradients for which it pays by three kernels each (input transform, products,
 * output transform), and one for weights that change. images: LAYOUT_IMAGES. Sets the layouts of its own buffers. */
void winograd(KernelList *l, const NestTarget *t, bool images);
/* The transformed weights of F(m): from w[K][C][3][3] to u[(m+2)^2][K][C], in double. */
void winograd_weights(int m, const double *w, int64_t k, int64_t c, double *u);
#endif
