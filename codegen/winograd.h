/* winograd: convolutions of 2x2 to 5x5 taps, and strided ones of more, as F(m x m, r x r): fewer multiplications; constant weights are
 * transformed ahead. */
#ifndef CNNC_CODEGEN_WINOGRAD_H
#define CNNC_CODEGEN_WINOGRAD_H
#include "codegen/choices.h"
#include "codegen/nest.h"

/* Tiles of m x m outputs from a x a inputs, a = m + r - 1, by interpolation at 0, +-point[i], infinity: a = 2 + 2 * points.
 * error: largest error over the largest output in float32, measured on 64 channels of rectified normal inputs (direct: 6e-7 for 3x3,
 * 1.1e-6 for 5x5). */
typedef struct WinogradForm { const char *name; int m, r, a; double error, point[3]; bool rows; /* tiles of m x 1 */ } WinogradForm;

/* Forms up to this error are taken unless the user allows more or less (--max-rel-err). */
#define WINOGRAD_ERROR 2e-6

/* Replaces the convolutions and data gradients for which it pays by three kernels each (input transform, products, output transform), one
 * for weights that change, and one for the phases of a strided convolution's input. images: LAYOUT_IMAGES. error: of the forms allowed, at most. Sets the layouts of
 * its own buffers. Returns how many convolutions it could do, those that `choices` wants done directly included. */
int winograd(KernelList *l, const NestTarget *t, bool images, double error, const Choices *choices);
/* The transformed weights of a form: from w[K][C][r][r] to u[a^2][K][C], along the rows alone to u[a * r][K][C], in double. */
void winograd_weights(const WinogradForm *f, const double *w, int64_t k, int64_t c, double *u);
/* The weights w[K][C][taps][taps] of a strided convolution as to[K][s^2 C][r][r] of one of stride 1 over phases, r = ceil(taps / stride). */
void winograd_phase_weights(const double *w, int64_t k, int64_t c, int taps, int stride, double *to);
#endif
