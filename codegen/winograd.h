/* winograd: 3x3 convolutions of inference programs as F(m x m, 3 x 3): fewer multiplications, weights transformed ahead. */
#ifndef CNNC_CODEGEN_WINOGRAD_H
#define CNNC_CODEGEN_WINOGRAD_H
#include "codegen/nest.h"

/* Replaces the 3x3 stride-1 convolutions for which it pays by three kernels each (input transform, products, output transform).
 * For LAYOUT_CHANNELS only; sets the layouts of its own buffers. */
void winograd(KernelList *l, const NestTarget *t);
/* The transformed weights of F(m): from w[K][C][3][3] to u[(m+2)^2][K][C], in double. */
void winograd_weights(int m, const double *w, int64_t k, int64_t c, double *u);
#endif
