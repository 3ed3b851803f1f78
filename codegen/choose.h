/* choose: layouts. Which dim of every buffer is blocked, with copies between layouts only where a kernel needs another.
 * Annotates the buffers of a kernel list and may add kernels. */
#ifndef CNNC_CODEGEN_CHOOSE_H
#define CNNC_CODEGEN_CHOOSE_H
#include "codegen/nest.h"

typedef enum {
    LAYOUT_IMAGES,     /* [n/L][c][h][w][L]: at least L images that stay in L3 together, and training of narrow nets */
    LAYOUT_CHANNELS    /* per convolution: channel blocks [n][c/L][h][w][L] or planes with columns in the lanes */
} LayoutPlan;

LayoutPlan choose_plan(const KernelList *l, const NestTarget *t, bool training);
/* The target with vectors that the batch fills: with images in the lanes, wider ones would stay half empty. Vectors of half the
 * registers' width lose nothing where a multiply-add of full width takes two turns (Zen 4), and never more than empty lanes do. */
NestTarget choose_lanes(LayoutPlan plan, const NestTarget *t, int64_t batch);
/* samples: per slice, a multiple of t->lanes (LAYOUT_IMAGES); 0: sums over the batch stay whole. */
void choose(KernelList *l, LayoutPlan plan, const NestTarget *t, int64_t samples);

/* The buffer whose storage b shares (aliases and in-place updates followed). */
BufId buffer_root(const KernelList *l, BufId b);
#endif
