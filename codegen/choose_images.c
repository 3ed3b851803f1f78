/* Layouts with images in the lanes.
 * In: kernels over plain buffers. Out: every batched work buffer is blocked over the batch; sums over the batch are split into slices. */
#include "codegen/choose_impl.h"
#include "codegen/split.h"

/* A sum over nothing but the batch of a product (Linear's weight gradient): kept whole, cut over its outputs. */
static bool only_batch_contraction(const KernelList *l, const Kernel *k, void *arg)
{
    (void)arg;
    (void)l;
    bool found = false;
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *x = &k->expr[e];
        if (x->op != EX_SUM)
            continue;
        if (k->expr[x->a].op != EX_MUL || __builtin_popcount(x->axes) != 1 || !k->axis[__builtin_ctz(x->axes)].batch ||
            __builtin_popcount(x->free_axes) < 2)
            return false;
        found = true;
    }
    return found;
}

/* With images in the lanes, a weight of every slice is a sum over lanes: where a slice has few points, that is most of the work. */
static bool stays_whole(const KernelList *l, const Kernel *k, void *arg)
{
    return only_batch_contraction(l, k, arg) || choose_many_weights(l, k, arg);
}

/* The operand with more columns is read with them in the lanes, so its rows must be plain. */
static void rows_for_linear_dw(Chooser *c, Kernel *k)
{
    BufId best = 0;
    int64_t columns = 0;
    for (int i = 0; i < k->n_access; i++) {
        const Buffer *b = &c->l->buffers.at[k->access[i].buf];
        if (b->batched && b->layout.block_dim == 0 && b->shape.rank == 2 && b->shape.dim[1] > columns) {
            columns = b->shape.dim[1];
            best = k->access[i].buf;
        }
    }
    if (best)
        choose_redirect(k, best, choose_copy_as(c, best, layout_plain(2), k));
}

/* How pointwise weights [filters][channels] are best read: what is summed over side by side, since a tile takes a few of the others, each in
 * a line of its own. So a data gradient, which sums over the filters, has them turned first when they are used at many points of an image
 * (Zen 3, 512 of 14x14, 8 images: 15.7 to 11.0 ms). But where that puts the others whole pages apart, into the same sets of L1, it is the
 * other way round (1024 of 7x7: 19.6 ms with the filters apart, 34 side by side). */
static void turn_pointwise_weights(Chooser *c, Kernel *k)
{
    enum { MANY_POINTS = 16, SUMS_FILTERS = 0, SUMS_CHANNELS = 1 };
    for (int i = 0; i < k->n_access; i++) {
        BufId w = k->access[i].buf;
        const Buffer *b = &c->l->buffers.at[w];
        if (kernel_writes(k, (AccessId)i) || b->kind != BUF_STATE || b->shape.rank != 4 || b->shape.dim[2] * b->shape.dim[3] > 1 ||
            k->macs < (double)MANY_POINTS * (double)buffer_elements(b))
            continue;
        for (int d = SUMS_FILTERS; d <= SUMS_CHANNELS; d++) {
            int a = choose_sole_axis(&k->access[i].dim[d], k->n_axes);
            bool pages_apart = b->shape.dim[d] * (int64_t)dtype_size(b->dtype) % PAGE == 0;
            if (a >= 0 && k->axis[a].kind == AXIS_RED && pages_apart == (d == SUMS_CHANNELS)) {
                choose_redirect(k, w, choose_copy_as(c, w, layout_innermost(4, 0), k));
                return;
            }
        }
    }
}

/* Blocks over the batch; the order of the dims stays. */
static void block_images(Buffer *b, int lanes)
{
    if (lanes < 2)
        return;
    b->layout.block_dim = 0;
    b->layout.lanes = (uint8_t)lanes;
}

static bool reads_labels(const KernelList *l, const Kernel *k)
{
    for (AccessId at = 0; at < k->n_access; at++)
        if (l->buffers.at[k->access[at].buf].kind == BUF_LABELS)
            return true;
    return false;
}

void choose_images(KernelList *l, const NestTarget *t, int64_t samples)
{
    split_moments(l, samples);
    split_batch_reductions(l, samples, stays_whole, NULL);
    for (uint32_t b = 1; b < l->buffers.len; b++)
        if (l->buffers.at[b].kind == BUF_WORK && l->buffers.at[b].batched)
            block_images(&l->buffers.at[b], t->lanes);
    Chooser c = {.l = l, .t = t};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        for (int a = 0; a < k.n_access; a++) {
            const Buffer *b = &l->buffers.at[k.access[a].buf];
            BufId root = buffer_root(l, k.access[a].buf);
            if (l->buffers.at[root].kind != BUF_INPUT || kernel_is_copy(&k))
                continue;
            Layout lanes = choose_blocked(&l->buffers.at[root], 0, t->lanes);
            BufId copy = choose_copy_as(&c, root, lanes, &k);
            if (root != k.access[a].buf) {   /* a reshaped view of the input: the same view of the copy */
                Buffer view = *b;
                view.kind = BUF_WORK;
                view.alias_of = copy;
                view.layout = choose_blocked(&view, 0, t->lanes);
                copy = kernels_add_buffer(l, &view);
            }
            k.access[a].buf = copy;
        }
        if (only_batch_contraction(l, &k, NULL))
            rows_for_linear_dw(&c, &k);
        if (few_registers(t))
            turn_pointwise_weights(&c, &k);
        c.behind_loss = c.behind_loss || reads_labels(l, &k);
        vec_push(l->arena, &c.out, k);
    }
    choose_finish(&c);
}
