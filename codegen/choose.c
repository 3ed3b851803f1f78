/* Layouts of buffers (see choose.h).
 * In: kernels over plain buffers. Out: the same with blocked layouts, and copy kernels where a reader needs another layout
 * than its producer wrote. Invariant left: caller's buffers (input, labels, output), state, scalars and results are plain.
 *
 * LAYOUT_IMAGES: every batched work buffer is blocked over the batch; sums over the batch are split into slices.
 * LAYOUT_CHANNELS: walks the kernels in order. A convolution compares vectors of output channels (weights loaded, inputs
 * broadcast) with vectors of output columns (inputs loaded, weights broadcast) by the number of multiply-add vectors; its
 * output gets the layout that its vectors write, and the kernels behind follow their input. */
#include "codegen/choose.h"
#include "codegen/flat.h"
#include "codegen/split.h"
#include "codegen/tiles.h"

#include <string.h>

enum { MIN_LANES = 4 };
#define MIN_CHANNEL_USE 0.9
#define MIN_WHOLE 0.9            /* share of the work with whole vectors of channels */
#define MIN_TILED 0.5            /* share of the work that fits tile registers, which take channels in the lanes */

BufId buffer_root(const KernelList *l, BufId b)
{
    for (;;) {
        const Buffer *x = &l->buffers.at[b];
        if (x->alias_of)
            b = x->alias_of;
        else if (x->updates)
            b = x->updates;
        else
            return b;
    }
}

static bool is_multiplied(const KernelList *l, BufId b)
{
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (AccessId at = 0; at < l->kernels.at[i].n_access && l->kernels.at[i].macs > 0; at++)
            if (l->kernels.at[i].access[at].buf == b && !kernel_writes(&l->kernels.at[i], at))
                return true;
    return false;
}

/* What a pass over as many images as there are lanes moves: a layer's input and output, and the weights. */
static double bytes_of_block(const KernelList *l, const NestTarget *t)
{
    double largest = 0, weights = 0;
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        const Buffer *x = &l->buffers.at[b];
        double bytes = 4 * (double)shape_elements(&x->shape);
        if (x->kind == BUF_CONST || (x->kind == BUF_STATE && is_multiplied(l, (BufId)b)))
            weights += bytes;
        else if (x->kind == BUF_WORK && x->batched && bytes > largest)
            largest = bytes;
    }
    return 2 * largest / (double)l->graph->batch * t->lanes + weights;
}

/* Which part of the vectors that convolutions and linear layers fill with output channels is no padding. */
static double channel_use(const KernelList *l, const NestTarget *t)
{
    double all = 0, padded = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        const Buffer *y = &l->buffers.at[k->access[k->out[0].at].buf];
        if (y->shape.rank < 2 || !(k->macs > 0))
            continue;
        int64_t channels = y->shape.dim[1];
        all += k->macs;
        padded += k->macs * (double)((channels + t->lanes - 1) / t->lanes * t->lanes) / (double)channels;
    }
    return padded > 0 ? all / padded : 0;
}

typedef struct { double all, whole; } ImageWork;

/* Adds the multiply-adds of a kernel that works on images; they are whole when its images have whole vectors of channels. */
static void count_images(const KernelList *l, const Kernel *k, int lanes, ImageWork *w)
{
    bool images = false, whole = true;
    for (int i = 0; i < k->n_access; i++) {
        const Buffer *b = &l->buffers.at[k->access[i].buf];
        if (!b->batched || b->kind != BUF_WORK || b->shape.rank < 3)
            continue;
        images = true;
        whole = whole && b->shape.dim[1] % lanes == 0;
    }
    w->all += images ? k->macs : 0;
    w->whole += images && whole ? k->macs : 0;
}

/* Has nearly all work whole vectors of channels? Training has no remainders of them. */
static bool whole_channels(const KernelList *l, const NestTarget *t)
{
    ImageWork w = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++)
        count_images(l, &l->kernels.at[i], t->lanes, &w);
    return w.whole > MIN_WHOLE * w.all;
}

/* A batch of images fills the lanes whatever the channels are, but moves as many images at a time as there are lanes: where that is far more
 * than L2 holds, and channels fill the lanes too, image after image is faster (CIFAR VGG at batch 32: 36.3 ms with images, 34.2 with channels
 * on Zen 3, 28 and 23 on Emerald Rapids; with a quarter of its channels 2.9 and 4.1). A step's sums over the batch are better off in the lanes
 * as long as L3 holds them (CIFAR VGG, 64 images: 264 ms and 297; but 8 of 224x224 through ResNet-18 817 and 610, through MobileNetV1 497
 * and 380), unless its images are all one slice, for one thread. */
LayoutPlan choose_plan(const KernelList *l, const NestTarget *t, bool training)
{
    bool few = l->graph->batch < t->lanes, one_slice = l->graph->batch < 2 * t->lanes;
    double most = training && !one_slice ? (double)t->l3 : 4 * (double)t->l2;
    bool large = bytes_of_block(l, t) > most;
    if (training)
        return (few || large) && whole_channels(l, t) ? LAYOUT_CHANNELS : LAYOUT_IMAGES;
    if (t->tiles && tiles_share(l) >= MIN_TILED)
        return LAYOUT_CHANNELS;
    return few || (large && channel_use(l, t) >= MIN_CHANNEL_USE) ? LAYOUT_CHANNELS : LAYOUT_IMAGES;
}

NestTarget choose_lanes(LayoutPlan plan, const NestTarget *t, int64_t batch)
{
    NestTarget narrowed = *t;
    while (plan == LAYOUT_IMAGES && narrowed.lanes > MIN_LANES && batch <= narrowed.lanes / 2)
        narrowed.lanes /= 2;
    return narrowed;
}

static Layout blocked(const Buffer *b, int dim, int lanes)
{
    Layout y = layout_rows(b);
    if (lanes > 1) {
        y.paired = b->paired;
        y.block_dim = (int8_t)dim;
        y.lanes = (uint8_t)lanes;
        if (dim == layout_pair_dim(&y))   /* neighbours in a block are pairs as they lie */
            y.paired = 0;
    }
    return y;
}

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
    return whole ? layout_innermost(b->shape.rank, 1) : blocked(b, 1, t->lanes);
}

/* ---- copies ---- */
typedef struct { BufId from; Layout layout; BufId copy; } CopyOf;
typedef struct {
    KernelList *l;
    const NestTarget *t;
    Vec(Kernel) out;          /* kernels in their new order */
    Vec(CopyOf) copies;
} Chooser;

/* The first images that a kernel reads of those made by others; 0: none. */
static BufId images_read(const KernelList *l, const Kernel *k)
{
    for (AccessId i = 0; i < k->n_access; i++)
        if (!kernel_writes(k, i) && l->buffers.at[k->access[i].buf].batched && l->buffers.at[k->access[i].buf].kind == BUF_WORK)
            return k->access[i].buf;
    return 0;
}

static bool has_no_reduced_axis(const Kernel *k)
{
    for (int a = 0; a < k->n_axes; a++)
        if (k->axis[a].kind == AXIS_RED)
            return false;
    return true;
}

/* The kernel that makes b's values point by point from other images; NULL: another kind of kernel, or nobody so far. */
static const Kernel *point_maker(const Chooser *c, BufId b)
{
    for (uint32_t i = c->out.len; i-- > 0;) {
        const Kernel *k = &c->out.at[i];
        for (int o = 0; o < k->n_out; o++)
            if (k->access[k->out[o].at].buf == b)
                return has_no_reduced_axis(k) ? k : NULL;
    }
    return NULL;
}

/* What weights wait for that kernel for_ reads in another layout: images that it, or point by point a kernel before it, starts from.
 * So all of these share a stage, and what lies between them is never whole in memory. */
static BufId first_images(const Chooser *c, const Kernel *for_)
{
    BufId b = images_read(c->l, for_), before = b;
    for (const Kernel *k = point_maker(c, b); k && before; k = point_maker(c, before)) {
        b = before;
        before = images_read(c->l, k);
    }
    return before ? before : b;
}

/* A buffer with the contents of `from` under another layout, made just before kernel for_; of weights not before there is what they
 * are used on: made as soon as they could be, the copies of all layers would lie in memory together. */
static BufId copy_as(Chooser *c, BufId from, Layout layout, const Kernel *for_)
{
    for (uint32_t i = 0; i < c->copies.len; i++)
        if (c->copies.at[i].from == from && !memcmp(&c->copies.at[i].layout, &layout, sizeof layout))
            return c->copies.at[i].copy;
    Buffer b = c->l->buffers.at[from];
    b.kind = BUF_WORK;
    b.layout = layout;
    b.alias_of = b.updates = 0;
    b.name = arena_printf(c->l->arena, "%s'", b.name);
    BufId to = kernels_add_buffer(c->l, &b);
    const char *name = arena_printf(c->l->arena, "%s.as%s", c->l->buffers.at[from].name, layout.block_dim < 0 ? ".rows" : ".lanes");
    Kernel *k = kernel_copy(c->l, from, to, name, for_);
    if (c->l->buffers.at[from].kind == BUF_STATE)
        k->after = first_images(c, for_);
    vec_push(c->l->arena, &c->out, *k);
    vec_push(c->l->arena, &c->copies, (CopyOf){from, layout, to});
    return to;
}

/* The kernel reads `to` where it read `from`. */
static void redirect(Kernel *k, BufId from, BufId to)
{
    for (AccessId i = 0; i < k->n_access; i++)
        if (k->access[i].buf == from && !kernel_writes(k, i))
            k->access[i].buf = to;
}

static void finish(Chooser *c)
{
    c->l->kernels.at = c->out.at;
    c->l->kernels.len = c->out.len;
    c->l->kernels.cap = c->out.cap;
}

/* ---- images in the lanes ---- */
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

/* A weight gradient with at least as many weights as its images have values is kept whole, cut over its outputs: partial sums would
 * cost more to add than they save. */
static bool many_weights(const KernelList *l, const Kernel *k, void *arg)
{
    int64_t weights = 0, values = 0;
    (void)arg;
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_SUM && k->expr[k->expr[e].a].op != EX_MUL)
            return false;
    for (int i = 0; i < k->n_access; i++) {
        const Buffer *b = &l->buffers.at[k->access[i].buf];
        int64_t n = shape_elements(&b->shape);
        if (b->batched)
            values += n / b->shape.dim[0];
        else if (kernel_writes(k, (AccessId)i))
            weights = n > weights ? n : weights;
    }
    return k->macs > 0 && weights >= values;
}

/* With images in the lanes, a weight of every slice is a sum over lanes: where a slice has few points, that is most of the work. */
static bool stays_whole(const KernelList *l, const Kernel *k, void *arg)
{
    return only_batch_contraction(l, k, arg) || many_weights(l, k, arg);
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
        redirect(k, best, copy_as(c, best, layout_plain(2), k));
}

/* The axis with coefficient 1 (a group axis beside it has another); -1: none, or several. */
static int sole_axis(const Affine *f, int n_axes)
{
    int a = -1;
    for (int i = 0; i < n_axes; i++)
        if (f->coef[i] == 1) {
            if (a >= 0)
                return -1;
            a = i;
        }
    return a;
}

/* How pointwise weights [filters][channels] are best read: what is summed over side by side, since a tile takes a few of the others, each in
 * a line of its own. So a data gradient, which sums over the filters, has them turned first when they are used at many points of an image
 * (Zen 3, 512 of 14x14, 8 images: 15.7 to 11.0 ms). But where that puts the others whole pages apart, into the same sets of L1, it is the
 * other way round (1024 of 7x7: 19.6 ms with the filters apart, 34 side by side). */
static void turn_pointwise_weights(Chooser *c, Kernel *k)
{
    enum { MANY_POINTS = 16, PAGE = 4096, SUMS_FILTERS = 0, SUMS_CHANNELS = 1 };
    for (int i = 0; i < k->n_access; i++) {
        BufId w = k->access[i].buf;
        const Buffer *b = &c->l->buffers.at[w];
        if (kernel_writes(k, (AccessId)i) || b->kind != BUF_STATE || b->shape.rank != 4 || b->shape.dim[2] * b->shape.dim[3] > 1 ||
            k->macs < (double)MANY_POINTS * (double)buffer_elements(b))
            continue;
        for (int d = SUMS_FILTERS; d <= SUMS_CHANNELS; d++) {
            int a = sole_axis(&k->access[i].dim[d], k->n_axes);
            bool pages_apart = b->shape.dim[d] * (int64_t)dtype_size(b->dtype) % PAGE == 0;
            if (a >= 0 && k->axis[a].kind == AXIS_RED && pages_apart == (d == SUMS_CHANNELS)) {
                redirect(k, w, copy_as(c, w, layout_innermost(4, 0), k));
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

static void choose_images(KernelList *l, const NestTarget *t, int64_t samples)
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
            Layout lanes = blocked(&l->buffers.at[root], 0, t->lanes);
            BufId copy = copy_as(&c, root, lanes, &k);
            if (root != k.access[a].buf) {   /* a reshaped view of the input: the same view of the copy */
                Buffer view = *b;
                view.kind = BUF_WORK;
                view.alias_of = copy;
                view.layout = blocked(&view, 0, t->lanes);
                copy = kernels_add_buffer(l, &view);
            }
            k.access[a].buf = copy;
        }
        if (only_batch_contraction(l, &k, NULL))
            rows_for_linear_dw(&c, &k);
        if (few_registers(t))
            turn_pointwise_weights(&c, &k);
        vec_push(l->arena, &c.out, k);
    }
    finish(&c);
}

/* ---- one or few images: channels or columns in the lanes ---- */
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
            out->channel = sole_axis(&y->dim[1], k->n_axes);
        if (y->rank >= 3)
            out->column = sole_axis(&y->dim[y->rank - 1], k->n_axes);
        if (y->rank == 2 || (y->rank == 3 && l->buffers.at[k->access[out->w].buf].shape.rank == 2))
            out->channel = sole_axis(&y->dim[y->rank - 1], k->n_axes);
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
    Layout y = blocked(b, d, t->lanes);
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
                redirect(k, w->buf, copy_as(c, w->buf, weights_layout(b, d, c->t), k));
            }
            return;
        }
}

/* Is channel-blocked storage of the written box regular: whole blocks? */
static bool writes_whole_blocks(const Chooser *c, const Kernel *k, int out)
{
    const Access *y = &k->access[k->out[out].at];
    int a = y->rank >= 3 ? sole_axis(&y->dim[1], k->n_axes) : -1;
    return a >= 0 && channels_fit(k, y, 1, a, c->t->lanes);
}

static bool reads_through_channel(const Kernel *k, const Access *x)
{
    const Access *y = &k->access[k->out[0].at];
    int a = y->rank >= 3 ? sole_axis(&y->dim[1], k->n_axes) : -1;
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
    view.alias_of = copy_as(c, root, layout_plain(c->l->buffers.at[root].shape.rank), k);
    return kernels_add_buffer(c->l, &view);
}

/* A sum over images (a weight gradient, statistics) writes plain numbers and reads images as they are, those of the caller and
 * other plain ones apart: these are copied when they have whole vectors of channels. */
static void block_operands(Chooser *c, Kernel *k)
{
    for (AccessId i = 0; i < k->n_access; i++) {
        const Buffer *b = &c->l->buffers.at[k->access[i].buf];
        if (b->batched && b->kind == BUF_WORK && !b->alias_of && b->shape.rank >= 3 && b->layout.block_dim < 0 && b->shape.dim[1] % c->t->lanes == 0)
            redirect(k, k->access[i].buf, copy_as(c, k->access[i].buf, blocked(b, 1, c->t->lanes), k));
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
        redirect(k, x, copy_as(c, x, channels_layout(b, c->t), k));
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
                redirect(k, k->access[i].buf, copy_as(c, k->access[i].buf, layout_rows(b), k));
        }
        return;
    }
    if (k->part == WINOGRAD_INPUT || k->part == WINOGRAD_GRADIENT) {
        BufId x = k->access[0].buf;
        if (!channels_inside(&c->l->buffers.at[x]))
            redirect(k, x, copy_as(c, x, channels_layout(&c->l->buffers.at[x], c->t), k));
        return;
    }
    ConvShape s = {0};
    bool conv = conv_shape(c->l, k, &s), channels = k->part == WINOGRAD_OUTPUT || (conv ? prefer_channels(c, k, &s) : follows_channels(c, k));
    if (conv && channels)
        block_weights(c, k, &s);
    if (conv && !channels && channels_inside(&c->l->buffers.at[k->access[s.x].buf])) {
        BufId x = k->access[s.x].buf;
        redirect(k, x, copy_as(c, x, layout_rows(&c->l->buffers.at[x]), k));
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
        redirect(k, from, copy_as(c, from, y, k));
    }
}

static void choose_channels(KernelList *l, const NestTarget *t, int64_t samples)
{
    if (samples > 0) {
        split_moments(l, samples);
        split_batch_reductions(l, samples, many_weights, NULL);
    }
    Chooser c = {.l = l, .t = t};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        choose_channels_kernel(&c, &k);
        vec_push(l->arena, &c.out, k);
    }
    finish(&c);
}

/* Copies and parts may carry equal names; functions of a module must not. */
static void make_names_unique(KernelList *l)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        int count = 1;
        for (uint32_t j = 0; j < i; j++)
            count += strcmp(l->kernels.at[j].name, l->kernels.at[i].name) == 0;
        if (count > 1)
            l->kernels.at[i].name = arena_printf(l->arena, "%s.%d", l->kernels.at[i].name, count);
    }
}

void choose(KernelList *l, LayoutPlan plan, const NestTarget *t, int64_t samples)
{
    if (plan == LAYOUT_IMAGES)
        choose_images(l, t, samples);
    else
        choose_channels(l, t, samples);
    make_names_unique(l);
}
