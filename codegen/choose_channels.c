/* Layouts with channels or columns in the lanes, image by image.
 * In: kernels over plain buffers. Walks them in order: a convolution compares vectors of output channels (weights loaded, inputs broadcast)
 * with vectors of output columns (inputs loaded, weights broadcast) by the number of multiply-add vectors; its output gets the layout that
 * its vectors write, and the kernels behind follow their input. */
#include "codegen/choose_impl.h"
#include "codegen/flat.h"
#include "codegen/split.h"
#include "codegen/tiles.h"

#include <string.h>

/* Is it the layout of plain rows, whose storage can be seen with other shapes? */
static bool is_rows(const Buffer *b)
{
    bool plain = b->layout.block_dim < 0 && !b->layout.paired;
    for (int d = 0; d < b->shape.rank; d++)
        plain = plain && b->layout.order[d] == d;
    return plain;
}

/* An image with neighbouring channels side by side: in blocks, or all of them. */
static bool channels_inside(const Buffer *b)
{
    return b->layout.block_dim == 1 || (b->layout.block_dim < 0 && b->shape.rank >= 3 && b->layout.order[b->shape.rank - 1] == 1);
}

/* With channels in the lanes: blocks of them, or all of them, where a tile's row is a point's channels. */
static Layout channels_layout(const Buffer *b, const NestTarget *t)
{
    bool whole = t->tiles && b->dtype == DT_BF16 && b->shape.rank >= 3 && b->shape.dim[1] % 2 == 0;
    return whole ? layout_innermost(b->shape.rank, 1) : choose_blocked(b, 1, t->lanes);
}

typedef struct { AccessId x, w; int channel, column; } ConvShape;   /* channel, column: axes of the output's dims 1 and last; -1 */

static bool is_weights(const KernelList *l, BufId b) { return l->buffers.at[b].kind == BUF_CONST || l->buffers.at[b].kind == BUF_STATE; }

/* A sum of weights times an image; or such products, added up as they are written. */
static bool conv_shape(const KernelList *l, const Kernel *k, ConvShape *out)
{
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *x = &k->expr[e], *m = x->op == EX_SUM ? &k->expr[x->a] : x;
        if (m->op != EX_MUL || k->expr[m->a].op != EX_LOAD || k->expr[m->b].op != EX_LOAD)
            continue;
        AccessId a = k->expr[m->a].at, b = k->expr[m->b].at;
        bool a_weights = is_weights(l, k->access[a].buf), b_weights = is_weights(l, k->access[b].buf);
        if (a_weights == b_weights || (x == m && (k->access[a].rank < 3 || k->access[b].rank < 3)))
            continue;
        *out = (ConvShape){a_weights ? b : a, a_weights ? a : b, -1, -1};
        const Access *y = &k->access[k->out[0].at];
        if (y->rank >= 2)
            out->channel = choose_sole_axis(&y->dim[1], k->n_axes);
        if (y->rank >= 3)
            out->column = choose_sole_axis(&y->dim[y->rank - 1], k->n_axes);
        if (y->rank == 2 || (y->rank == 3 && l->buffers.at[k->access[out->w].buf].shape.rank == 2))
            out->channel = choose_sole_axis(&y->dim[y->rank - 1], k->n_axes);
        return out->channel >= 0;
    }
    return false;
}

static int64_t vectors(int64_t extent, int lanes) { return (extent + lanes - 1) / lanes; }

/* Are whole blocks of channels within one group? */
static bool channels_fit(const Kernel *k, const Access *x, int dim, int axis, int lanes)
{
    for (int a = 0; a < k->n_axes; a++)
        if (a != axis && x->dim[dim].coef[a] && (x->dim[dim].coef[a] % lanes || k->axis[axis].extent % lanes))
            return false;
    return x->dim[dim].offset % lanes == 0;
}

/* One image of a Linear layer whose weights come from beyond L2: is a good part of what it would read the padding of the last vector of
 * outputs? Then rows of inputs in the lanes read less. */
static bool reads_padding(const Chooser *c, const Kernel *k, const ConvShape *s, int64_t outputs)
{
    bool streams = buffer_elements(&c->l->buffers.at[k->access[s->w].buf]) * 4 > c->t->l2;
    return streams && (double)(vectors(outputs, c->t->lanes) * c->t->lanes) > 1.05 * (double)outputs;
}

/* Trained weights of a Linear layer that would be copied from beyond L2, for channels in the lanes, and are used a few times: rows of
 * inputs in the lanes read them as they are. Where the lanes run along the rows (data gradients) they need no copy anyway. (Zen 3, AlexNet's
 * first layer: 8 samples 10.8 ms, 26.5 with the copy; 64 samples 76 and 72.) */
static bool stays_in_rows(const Chooser *c, const Kernel *k, const ConvShape *s)
{
    enum { FEW_SAMPLES = 32 };
    const Access *w = &k->access[s->w];
    const Buffer *b = &c->l->buffers.at[w->buf];
    bool along_rows = w->dim[w->rank - 1].coef[s->channel] == 1;
    return b->kind == BUF_STATE && buffer_elements(b) * 4 > c->t->l2 && (along_rows || c->l->graph->batch <= FEW_SAMPLES);
}

/* Will k run in tiles, if channels are in the lanes? */
static bool in_tiles(const Chooser *c, const Kernel *k)
{
    Product p;
    return c->t->tiles && tiles_fit(c->l, k, &p) && c->l->buffers.at[k->access[p.x].buf].dtype == DT_BF16 &&
           c->l->buffers.at[k->access[p.w].buf].dtype == DT_BF16;
}

static bool prefer_channels(const Chooser *c, const Kernel *k, const ConvShape *s)
{
    int lanes = c->t->lanes;
    const Access *y = &k->access[k->out[0].at];
    if (!channels_fit(k, y, 1, s->channel, lanes) && y->rank >= 3)
        return false;
    if (in_tiles(c, k))
        return true;
    int64_t ch = k->axis[s->channel].extent;
    if (s->column < 0)
        return !reads_padding(c, k, s, ch) && !stays_in_rows(c, k, s);
    int64_t q = k->axis[s->column].extent;
    double by_channel = (double)vectors(ch, lanes) * (double)q, by_column = (double)ch * (double)vectors(q, lanes) * 1.15;
    const Affine *f = &k->access[s->x].dim[k->access[s->x].rank - 1];
    if (f->coef[s->column] != 1)
        by_column *= 8;   /* a strided row is gathered */
    if (channels_inside(&c->l->buffers.at[k->access[s->x].buf]))
        by_column *= 1.3; /* and must be copied to planes first */
    return by_channel <= by_column;
}

static void block_channels(Chooser *c, BufId b)
{
    Buffer *x = &c->l->buffers.at[b];
    if (x->kind == BUF_WORK && !x->alias_of && x->batched && x->shape.rank >= 3 && !channels_inside(x))
        x->layout = channels_layout(x, c->t);
}

/* Weights with the output channels, dim d, in the lanes: [K/L][C][R][S][L], whichever dim they are, so that what is summed over lies side
 * by side (of a data gradient of 1024 channels it would lie whole pages apart: 29 ms instead of 9); for tiles, whose rows are pairs of input
 * channels, with these inside the taps: [K/L][R][S][C/2][L][2]. */
static Layout weights_layout(const Buffer *b, int d, const NestTarget *t)
{
    Layout y = choose_blocked(b, d, t->lanes);
    for (int i = d; i > 0; i--)
        y.order[i] = y.order[i - 1];
    y.order[0] = (int8_t)d;
    if (t->tiles && b->dtype == DT_BF16 && y.paired)
        memcpy(y.order, layout_innermost(b->shape.rank, layout_pair_dim(&y)).order, sizeof y.order);
    return y;
}

/* A constant read by two kernels keeps the first's choice; weights that are trained are copied in every step. */
static void block_weights(Chooser *c, Kernel *k, const ConvShape *s)
{
    const Access *w = &k->access[s->w];
    for (int d = 0; d < w->rank; d++)
        if (w->dim[d].coef[s->channel] == 1 && channels_fit(k, w, d, s->channel, c->t->lanes)) {
            Buffer *b = &c->l->buffers.at[w->buf];
            if (b->kind == BUF_CONST) {
                b->layout = weights_layout(b, d, c->t);
                flat_block_weights(c->l, w->buf);
            } else {
                choose_redirect(k, w->buf, choose_copy_as(c, w->buf, weights_layout(b, d, c->t), k));
            }
            return;
        }
}

/* Is channel-blocked storage of the written box regular: whole blocks? */
static bool writes_whole_blocks(const Chooser *c, const Kernel *k, int out)
{
    const Access *y = &k->access[k->out[out].at];
    int a = y->rank >= 3 ? choose_sole_axis(&y->dim[1], k->n_axes) : -1;
    return a >= 0 && channels_fit(k, y, 1, a, c->t->lanes);
}

static bool reads_through_channel(const Kernel *k, const Access *x)
{
    const Access *y = &k->access[k->out[0].at];
    int a = y->rank >= 3 ? choose_sole_axis(&y->dim[1], k->n_axes) : -1;
    return a >= 0 && x->rank >= 3 && x->dim[1].coef[a] == 1;
}

/* Kernels that are no convolution write the layout of the first image they read channel by channel. */
static bool follows_channels(const Chooser *c, const Kernel *k)
{
    for (int i = 0; i < k->n_access; i++) {
        const Buffer *b = &c->l->buffers.at[k->access[i].buf];
        if (b->batched && channels_inside(b) && reads_through_channel(k, &k->access[i]))
            return true;
    }
    return false;
}

/* Does the buffer get boxes from several kernels (concat)? Then all must agree: its channels are blocked only if every box is whole. */
static bool boxes_agree(const Chooser *c, BufId b)
{
    for (uint32_t i = 0; i < c->l->kernels.len; i++) {
        const Kernel *k = &c->l->kernels.at[i];
        for (int o = 0; o < k->n_out; o++)
            if (k->access[k->out[o].at].buf == b && !writes_whole_blocks(c, k, o))
                return false;
    }
    return true;
}

static bool is_written_before(const Chooser *c, BufId b)
{
    for (uint32_t i = 0; i < c->out.len; i++)
        for (int o = 0; o < c->out.at[i].n_out; o++)
            if (c->out.at[i].access[c->out.at[i].out[o].at].buf == b)
                return true;
    return false;
}

/* A view with another shape of a channel-blocked buffer does not exist: the kernel reads a view of plain rows. */
static BufId plain_view(Chooser *c, BufId b, const Kernel *k)
{
    BufId root = buffer_root(c->l, b);
    if (root == b || c->l->buffers.at[root].kind == BUF_CONST || is_rows(&c->l->buffers.at[root]))
        return b;
    Buffer view = c->l->buffers.at[b];
    view.alias_of = choose_copy_as(c, root, layout_plain(c->l->buffers.at[root].shape.rank), k);
    return kernels_add_buffer(c->l, &view);
}

/* A sum over images (a weight gradient, statistics) writes plain numbers and reads images as they are, those of the caller and
 * other plain ones apart: these are copied when they have whole vectors of channels. */
static void block_operands(Chooser *c, Kernel *k)
{
    for (AccessId i = 0; i < k->n_access; i++) {
        const Buffer *b = &c->l->buffers.at[k->access[i].buf];
        if (b->batched && b->kind == BUF_WORK && !b->alias_of && b->shape.rank >= 3 && b->layout.block_dim < 0 && b->shape.dim[1] % c->t->lanes == 0)
            choose_redirect(k, k->access[i].buf, choose_copy_as(c, k->access[i].buf, choose_blocked(b, 1, c->t->lanes), k));
    }
}

/* A product that fits tiles reads an image with the channels of a point side by side. */
static void rows_of_tiles(Chooser *c, Kernel *k)
{
    Product p;
    if (!tiles_fit(c->l, k, &p))
        return;
    BufId x = k->access[p.x].buf;
    const Buffer *b = &c->l->buffers.at[x];
    if (b->dtype == DT_BF16 && b->kind == BUF_WORK && !b->alias_of && b->shape.rank >= 3 && !channels_inside(b))
        choose_redirect(k, x, choose_copy_as(c, x, channels_layout(b, c->t), k));
}

static void choose_channels_kernel(Chooser *c, Kernel *k)
{
    if (k->own_layouts)
        return;
    AccessId flat = flat_image(c->l, k);
    for (AccessId i = 0; i < k->n_access; i++)
        if (i != flat)
            k->access[i].buf = plain_view(c, k->access[i].buf, k);
    if (k->part == WINOGRAD_PRODUCT || k->part == WINOGRAD_WEIGHTS || k->part == WINOGRAD_TAPS || k->part == WINOGRAD_TURN)
        return;   /* its layouts are its own */
    if (k->part == WINOGRAD_NONE && !c->l->buffers.at[k->access[k->out[0].at].buf].batched) {
        block_operands(c, k);
        return;
    }
    if (k->part == WINOGRAD_DOWN) {
        for (AccessId i = 0; i < k->n_access; i++) {
            const Buffer *b = &c->l->buffers.at[k->access[i].buf];
            if (!kernel_writes(k, i) && channels_inside(b))
                choose_redirect(k, k->access[i].buf, choose_copy_as(c, k->access[i].buf, layout_rows(b), k));
        }
        return;
    }
    if (k->part == WINOGRAD_INPUT || k->part == WINOGRAD_GRADIENT) {
        BufId x = k->access[0].buf;
        if (!channels_inside(&c->l->buffers.at[x]))
            choose_redirect(k, x, choose_copy_as(c, x, channels_layout(&c->l->buffers.at[x], c->t), k));
        return;
    }
    ConvShape s = {0};
    bool conv = conv_shape(c->l, k, &s), channels = k->part == WINOGRAD_OUTPUT || (conv ? prefer_channels(c, k, &s) : follows_channels(c, k));
    if (conv && channels)
        block_weights(c, k, &s);
    if (conv && !channels && channels_inside(&c->l->buffers.at[k->access[s.x].buf])) {
        BufId x = k->access[s.x].buf;
        choose_redirect(k, x, choose_copy_as(c, x, layout_rows(&c->l->buffers.at[x]), k));
    }
    if (conv && channels && c->t->tiles)
        rows_of_tiles(c, k);
    for (int o = 0; o < k->n_out; o++) {
        BufId y = k->access[k->out[o].at].buf;
        if (channels && !is_written_before(c, y) && boxes_agree(c, y))
            block_channels(c, y);
    }
    /* Other images read point by point get the layout of the output; what only copies reads any. */
    bool inside = channels_inside(&c->l->buffers.at[k->access[k->out[0].at].buf]);
    for (AccessId i = 0; i < k->n_access && !(c->t->tiles && kernel_is_copy(k)); i++) {
        const Buffer *b = &c->l->buffers.at[k->access[i].buf];
        if (kernel_writes(k, i) || !b->batched || b->alias_of || b->kind != BUF_WORK || channels_inside(b) == inside ||
            !reads_through_channel(k, &k->access[i]) || b->shape.rank < 3)
            continue;
        BufId from = k->access[i].buf;
        Layout y = inside ? channels_layout(b, c->t) : layout_rows(b);
        choose_redirect(k, from, choose_copy_as(c, from, y, k));
    }
}

void choose_channels(KernelList *l, const NestTarget *t, int64_t samples)
{
    if (samples > 0) {
        split_moments(l, samples);
        split_batch_reductions(l, samples, choose_many_weights, NULL);
    }
    Chooser c = {.l = l, .t = t};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        choose_channels_kernel(&c, &k);
        vec_push(l->arena, &c.out, k);
    }
    choose_finish(&c);
}
