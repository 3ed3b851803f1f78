/* Layouts of buffers (see choose.h).
 * In: kernels over plain buffers. Out: the same with blocked layouts, and copy kernels where a reader needs another layout
 * than its producer wrote. Invariant left: caller's buffers (input, labels, output), state, scalars and results are plain.
 * Here: which plan is taken, and what both need (choose_images.c, choose_channels.c). */
#include "codegen/choose_impl.h"
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

/* By buffer: some product reads it. */
static const bool *find_multiplied(const KernelList *l)
{
    bool *read = NEWN(l->arena, bool, l->buffers.len);
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access && k->macs > 0; at++)
            read[k->access[at].buf] = read[k->access[at].buf] || !kernel_writes(k, at);
    }
    return read;
}

/* What a pass over as many images as there are lanes moves: a layer's input and output, and the weights. */
static double bytes_of_block(const KernelList *l, const NestTarget *t)
{
    const bool *multiplied = find_multiplied(l);
    double largest = 0, weights = 0;
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        const Buffer *x = &l->buffers.at[b];
        double bytes = 4 * (double)shape_elements(&x->shape);
        if (x->kind == BUF_CONST || (x->kind == BUF_STATE && multiplied[b]))
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
    bool wide = few || bytes_of_block(l, t) > most;
    if (training)
        return wide && whole_channels(l, t) ? LAYOUT_CHANNELS : LAYOUT_IMAGES;
    if (t->tiles && tiles_share(l) >= MIN_TILED)
        return LAYOUT_CHANNELS;
    return few || (wide && channel_use(l, t) >= MIN_CHANNEL_USE) ? LAYOUT_CHANNELS : LAYOUT_IMAGES;
}

NestTarget choose_lanes(LayoutPlan plan, const NestTarget *t, int64_t batch)
{
    NestTarget narrowed = *t;
    while (plan == LAYOUT_IMAGES && narrowed.lanes > MIN_LANES && batch <= narrowed.lanes / 2)
        narrowed.lanes /= 2;
    return narrowed;
}

Layout choose_blocked(const Buffer *b, int dim, int lanes)
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

/* ---- copies ---- */
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

/* The copy serves kernel for_, too. Gradients have the net's input copied again, when there are the images it is used with: kept since the
 * forward pass the copy would be memory for all samples. */
static bool serves(const Chooser *c, const CopyOf *x, BufId from, const Layout *layout, const Kernel *for_)
{
    bool is_input = c->l->buffers.at[from].kind == BUF_INPUT, gradient = c->behind_loss && for_->part == WINOGRAD_NONE;
    bool again = is_input && gradient && !x->behind_loss && images_read(c->l, for_);
    return x->from == from && !memcmp(&x->layout, layout, sizeof *layout) && !again;
}

/* A buffer with the contents of `from` under another layout, made just before kernel for_; of weights, and of the input, not before there
 * is what they are used on: made as soon as they could be, the copies of all layers would lie in memory together. */
BufId choose_copy_as(Chooser *c, BufId from, Layout layout, const Kernel *for_)
{
    for (uint32_t i = 0; i < c->copies.len; i++)
        if (serves(c, &c->copies.at[i], from, &layout, for_))
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
    else if (c->l->buffers.at[from].kind == BUF_INPUT)
        k->after = images_read(c->l, for_);
    vec_push(c->l->arena, &c->out, *k);
    vec_push(c->l->arena, &c->copies, (CopyOf){from, layout, to, c->behind_loss});
    return to;
}

/* The kernel reads `to` where it read `from`. */
void choose_redirect(Kernel *k, BufId from, BufId to)
{
    for (AccessId i = 0; i < k->n_access; i++)
        if (k->access[i].buf == from && !kernel_writes(k, i))
            k->access[i].buf = to;
}

void choose_finish(Chooser *c)
{
    c->l->kernels.at = c->out.at;
    c->l->kernels.len = c->out.len;
    c->l->kernels.cap = c->out.cap;
}

/* The axis with coefficient 1 (a group axis beside it has another); -1: none, or several. */
int choose_sole_axis(const Affine *f, int n_axes)
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

/* A weight gradient with at least as many weights as its images have values is kept whole, cut over its outputs: partial sums would
 * cost more to add than they save. */
bool choose_many_weights(const KernelList *l, const Kernel *k, void *arg)
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
