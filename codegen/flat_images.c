/* Linear layers behind a Flatten that read an image in the order it lies in memory.
 * In: products of weights [K][F] and images seen as [n][F], F = C H W, whose channels lie side by side: [n][H][W][C]. Out: the same over
 * a view of that storage, and weights whose columns are in that order. Without it the image is copied channel by channel first, which
 * takes longer than a small layer itself.
 *
 *   y[n, k] = SUM[f](x[n, f] * w[k, f]),  f = (c, h, w)      becomes      SUM[f'](x[n, f'] * w'[k, f']),  f' = (h, w, c)
 *
 * Relies on: constants are packed by their layout, so that w' is w seen as [K][C][H][W] and laid out as [K][H][W][C]. */
#include "codegen/flat.h"
#include "codegen/choose.h"
#include "codegen/precision.h"

#include <string.h>

/* An image [n][..][c], plain. */
static bool is_channels_last(const Buffer *b)
{
    Layout last = layout_innermost(b->shape.rank, 1);
    return b->shape.rank >= 3 && !memcmp(&b->layout, &last, sizeof last);
}

/* k's product, with the weights in w, if it is that of a layer over all of a flattened image. */
static bool find_layer(const KernelList *l, const Kernel *k, Product *p)
{
    if (k->part != WINOGRAD_NONE || !product_find(k, p))
        return false;
    if (l->buffers.at[k->access[p->x].buf].kind == BUF_CONST)
        product_turn(p);
    const Access *x = &k->access[p->x], *w = &k->access[p->w];
    const Buffer *weights = &l->buffers.at[w->buf];
    int f = x->rank == 2 ? affine_pure_axis(&x->dim[1], k->n_axes) : -1;
    if (f < 0 || w->rank != 2 || affine_pure_axis(&w->dim[1], k->n_axes) != f)
        return false;
    bool whole = k->axis[f].extent == l->buffers.at[x->buf].shape.dim[1] && k->axis[f].extent == weights->shape.dim[1];
    return whole && weights->kind == BUF_CONST && !weights->data && !weights->alias_of;
}

/* The weights as a view [K][F'] of constants [K][C][..] with the channels last. */
static BufId weights_of_image(KernelList *l, BufId weights, const Shape *image)
{
    Buffer whole = l->buffers.at[weights], view = whole;
    whole.name = arena_printf(l->arena, "%s.channels_last", whole.name);
    whole.shape = *image;
    whole.shape.dim[0] = view.shape.dim[0];
    whole.layout = layout_innermost(image->rank, 1);
    whole.paired = whole.paired ? 2 : 0;
    view.alias_of = kernels_add_buffer(l, &whole);
    view.value = 0;
    return kernels_add_buffer(l, &view);
}

AccessId flat_image(KernelList *l, Kernel *k)
{
    Product p;
    if (!find_layer(l, k, &p))
        return -1;
    BufId view = k->access[p.x].buf, image = buffer_root(l, view);
    const Buffer *b = &l->buffers.at[image];
    if (image == view || b->kind != BUF_WORK || b->dtype != l->buffers.at[view].dtype || !is_channels_last(b) || b->shape.dim[1] % 2)
        return -1;
    const Shape shape = b->shape;
    k->access[p.w].buf = weights_of_image(l, k->access[p.w].buf, &shape);
    return p.x;
}

void flat_block_weights(KernelList *l, BufId weights)
{
    const Buffer *view = &l->buffers.at[weights];
    if (!view->alias_of)
        return;
    Buffer *whole = &l->buffers.at[view->alias_of];
    whole->layout.block_dim = view->layout.block_dim;
    whole->layout.lanes = view->layout.lanes;
    whole->layout.paired = view->layout.paired ? 2 : 0;
}
