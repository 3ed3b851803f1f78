/* What the files of choose share: kernels on their way to a new list, with copies between layouts. */
#ifndef CNNC_CODEGEN_CHOOSE_IMPL_H
#define CNNC_CODEGEN_CHOOSE_IMPL_H
#include "codegen/choose.h"

typedef struct { BufId from; Layout layout; BufId copy; bool behind_loss; } CopyOf;
typedef struct {
    KernelList *l;
    const NestTarget *t;
    Vec(Kernel) out;          /* kernels in their new order */
    Vec(CopyOf) copies;
    bool behind_loss;         /* the kernels now are of gradients */
} Chooser;

/* choose_images.c and choose_channels.c: the two plans. samples: as in choose. */
void choose_images(KernelList *l, const NestTarget *t, int64_t samples);
void choose_channels(KernelList *l, const NestTarget *t, int64_t samples);

/* The layout of rows with dim `dim` in blocks of that many lanes. */
Layout choose_blocked(const Buffer *b, int dim, int lanes);
/* A buffer with the contents of `from` under another layout, made just before kernel for_; of weights and the input not before there
 * is what they are used on. One that is there already is taken, but of the input for gradients. */
BufId choose_copy_as(Chooser *c, BufId from, Layout layout, const Kernel *for_);
/* The kernel reads `to` where it read `from`. */
void choose_redirect(Kernel *k, BufId from, BufId to);
/* The new list takes the place of the old one. */
void choose_finish(Chooser *c);
/* The axis with coefficient 1 (a group axis beside it has another); -1: none, or several. */
int choose_sole_axis(const Affine *f, int n_axes);
/* Kept: a sum over the batch, a weight gradient, that is not split into slices (split_batch_reductions). */
bool choose_many_weights(const KernelList *l, const Kernel *k, void *arg);
#endif
