/* Kernels rewritten for tile registers (see tiles.h).
 * In: kernels whose operands may be bf16. Out: kernels without guards on the operands of products, and with one axis for the points of
 * an image, or for few channels and the taps of a row, where their order in memory allows it. Relies on: buffers of bf16 with an even
 * number of channels getting them innermost (choose). */
#include "codegen/tiles.h"
#include "codegen/flat.h"

#include <string.h>

enum { MOST_FEW = 16 };   /* channels that are taken with the taps of a row */

/* ---- which kernels ---- */
int tiles_pairs(int64_t pairs)
{
    int d = pairs < TILE_PAIRS ? (int)pairs : TILE_PAIRS;
    while (pairs % d)
        d--;
    return d;
}

static bool depends_on(const Kernel *k, AccessId at, int axis) { return access_axes(k, at) >> axis & 1; }

/* Is there an axis of at least `least` indices that only access `at` depends on? */
static bool has_own_axis(const Kernel *k, AccessId at, AccessId other, int least)
{
    for (int a = 0; a < k->n_axes; a++)
        if (k->axis[a].kind == AXIS_PAR && k->axis[a].extent >= least && depends_on(k, at, a) && !depends_on(k, other, a))
            return true;
    return false;
}

/* The tap axis along the last dim of both operands, where its neighbours are neighbours; -1. */
static int taps_of_row(const Kernel *k, const Product *p)
{
    const Access *x = &k->access[p->x], *w = &k->access[p->w];
    const Affine *column = &x->dim[x->rank - 1], *tap = &w->dim[w->rank - 1];
    for (int a = 0; a < k->n_axes && x->rank == 4 && w->rank == 4; a++)
        if (a != p->c && (k->expr[p->sum].axes >> a & 1) && column->coef[a] == 1 && tap->coef[a] == 1 && !tap->offset)
            return a;
    return -1;
}

/* Do channels alone fill the depth of tiles; or with the taps of a row? */
static bool fits_alone(const Kernel *k, const Product *p)
{
    int32_t channels = k->axis[p->c].extent;
    return channels % 2 == 0 && tiles_pairs(channels / 2) >= LEAST_PAIRS;
}

static bool fits_with_taps(const KernelList *l, const Kernel *k, const Product *p)
{
    int32_t channels = k->axis[p->c].extent;
    int taps = taps_of_row(k, p);
    return channels <= MOST_FEW && channels == l->buffers.at[k->access[p->x].buf].shape.dim[p->x_dim] && taps >= 0 &&
           tiles_pairs((channels + 1) / 2 * k->axis[taps].extent) >= LEAST_PAIRS;
}

bool tiles_fit(const KernelList *l, const Kernel *k, Product *p)
{
    if (!product_find(k, p) || !product_pairs(k, p))
        return false;
    if (l->buffers.at[k->access[p->x].buf].kind == BUF_CONST)
        product_turn(p);
    const Buffer *w = &l->buffers.at[k->access[p->w].buf], *x = &l->buffers.at[k->access[p->x].buf];
    bool alone = fits_alone(k, p) && x->shape.dim[p->x_dim] % 2 == 0;
    if (w->kind != BUF_CONST || !x->batched || (!alone && !fits_with_taps(l, k, p)))
        return false;
    return has_own_axis(k, p->w, p->x, TILE_COLUMNS) && has_own_axis(k, p->x, p->w, LEAST_ROWS);
}

double tiles_share(const KernelList *l)
{
    double all = 0, fit = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Product p;
        all += l->kernels.at[i].macs;
        fit += tiles_fit(l, &l->kernels.at[i], &p) || tiles_few_fit(l, &l->kernels.at[i]) ? l->kernels.at[i].macs : 0;
    }
    return all > 0 ? fit / all : 0;
}

/* ---- borders ---- */
/* Can k read a copy of the image of access `at` without guards? *needed: it has some. */
static bool can_pad(const Kernel *k, AccessId at, bool *needed)
{
    const Access *x = &k->access[at];
    *needed = false;
    for (int d = 0; d < x->rank; d++) {
        if (x->dim[d].table || x->dim[d].div > 1)
            return false;
        *needed = *needed || x->dim[d].guarded;
    }
    return x->fill == 0 && x->rank <= 4;
}

/* to[n, c, i + lo, j + lo] = from[n, c, i, j], 0 elsewhere. */
static Kernel *padding_kernel(KernelList *l, BufId from, BufId to, const int64_t *low, const Kernel *for_)
{
    const Buffer *b = &l->buffers.at[to];
    const Shape inside = l->buffers.at[from].shape;
    Kernel *k = kernel_new(l, b->name, for_->layer, for_->span);
    static const char *const names[MAX_RANK] = {"n", "c", "h", "w"};
    for (int d = 0; d < b->shape.rank; d++)
        kernel_axis(k, AXIS_PAR, names[d] ? names[d] : "d", b->shape.dim[d], d == 0);
    AccessId in = kernel_access(l, k, from), out = kernel_access(l, k, to);
    for (int d = 0; d < b->shape.rank; d++) {
        affine_axis(access_dim(k, in, d), d, 1);
        affine_axis(access_dim(k, out, d), d, 1);
        access_dim(k, in, d)->offset = (int32_t)low[d];
        if (b->shape.dim[d] != inside.dim[d] || low[d])
            affine_guard(access_dim(k, in, d), 0, (int32_t)inside.dim[d]);
    }
    kernel_out(k, out, expr_load(l, k, in));
    return k;
}

/* k reads a padded copy of the image of access `at` from now on; returns what makes it. */
static Kernel *pad_image(KernelList *l, Kernel *k, AccessId at)
{
    Access *x = &k->access[at];
    Buffer b = l->buffers.at[x->buf];
    int64_t low[MAX_RANK] = {0}, high;
    for (int d = 0; d < x->rank; d++) {
        Affine *f = &x->dim[d];
        if (!f->guarded)
            continue;
        affine_range(k, f, &low[d], &high);
        b.shape.dim[d] = high - low[d] + 1;
        f->offset -= (int32_t)low[d];
        f->guarded = false;
        f->lo = 0;
        f->hi = (int32_t)b.shape.dim[d];
    }
    BufId from = x->buf;
    b.name = arena_printf(l->arena, "%s.padded", k->name);
    b.kind = BUF_WORK;
    b.value = 0;
    b.alias_of = b.updates = 0;
    b.layout = layout_innermost(b.shape.rank, 1);
    if (b.shape.dim[1] % 2)
        b.layout.paired = b.paired = 2;   /* the odd one out has a zero beside it */
    x->buf = kernels_add_buffer(l, &b);
    return padding_kernel(l, from, x->buf, low, k);
}

/* Does k multiply an image in tiles that may be a copy? *guarded: it reads past the border. */
static bool may_copy(const KernelList *l, const Kernel *k, Product *p, bool *guarded)
{
    return k->part == WINOGRAD_NONE && tiles_fit(l, k, p) && l->buffers.at[k->access[p->x].buf].dtype == DT_BF16 &&
           l->buffers.at[k->access[p->w].buf].dtype == DT_BF16 && can_pad(k, p->x, guarded);
}

bool tiles_cross_border(const KernelList *l, const Kernel *k, Product *p)
{
    bool guarded;
    return !tiles_few_fit(l, k) && may_copy(l, k, p, &guarded) && guarded && fits_alone(k, p);
}

static bool wants_copy(const KernelList *l, const Kernel *k, Product *p)
{
    bool guarded;
    return may_copy(l, k, p, &guarded) && (guarded || !fits_alone(k, p));
}

void tiles_pad(KernelList *l)
{
    Vec(Kernel) out = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        Product p;
        if (!tiles_few_fit(l, &k) && wants_copy(l, &k, &p)) {
            Kernel *padding = pad_image(l, &k, p.x);
            vec_push(l->arena, &out, *padding);
        }
        vec_push(l->arena, &out, k);
    }
    l->kernels.at = out.at;
    l->kernels.len = out.len;
    l->kernels.cap = out.cap;
}

/* ---- one axis for taps and channels ---- */
/* The dims of access `at` that axes s and c run along, c whole and alone, next to each other in memory. */
static bool taps_and_channels(const KernelList *l, const Kernel *k, AccessId at, int s, int c, int *outer, int *inner)
{
    const Access *x = &k->access[at];
    const Buffer *b = &l->buffers.at[x->buf];
    *outer = *inner = -1;
    for (int d = 0; d < x->rank; d++) {
        const Affine *f = &x->dim[d];
        if (f->guarded || f->table || f->div > 1)
            return false;
        if (f->coef[s] == 1)
            *outer = d;
        if (flat_is_axis(k, f, c) && b->shape.dim[d] == k->axis[c].extent)
            *inner = d;
    }
    for (int i = 0; i + 1 < b->shape.rank && *outer >= 0 && *inner >= 0; i++)
        if (b->layout.order[i] == *outer && b->layout.order[i + 1] == *inner)
            return b->layout.block_dim != *outer && b->layout.block_dim != *inner && !b->layout.odd && !b->layout.paired;
    return false;
}

static void merge_taps(KernelList *l, Kernel *k, ExprId sum)
{
    const Expr *m = &k->expr[k->expr[sum].a];
    const AccessId at[2] = {k->expr[m->a].at, k->expr[m->b].at};
    uint32_t axes = k->expr[sum].axes;
    int outer[2], inner[2];
    for (int c = 0; c < k->n_axes; c++)
        for (int s = 0; s < k->n_axes; s++) {
            if (c == s || !(axes >> c & 1) || !(axes >> s & 1) || k->axis[s].extent < 2 || tiles_pairs(k->axis[c].extent) >= LEAST_PAIRS ||
                tiles_pairs((int64_t)k->axis[c].extent * k->axis[s].extent) < LEAST_PAIRS)
                continue;
            if (!taps_and_channels(l, k, at[0], s, c, &outer[0], &inner[0]) || !taps_and_channels(l, k, at[1], s, c, &outer[1], &inner[1]))
                continue;
            for (int i = 0; i < 2; i++)
                flat_dims(l, k, at[i], outer[i], inner[i]);
            flat_axes(k, s, c);
            return;
        }
}

static ExprId sum_of_pairs(const Kernel *k)
{
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_SUM && k->expr[k->expr[e].a].op == EX_DOT)
            return e;
    return 0;
}

void tiles_merge(KernelList *l)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i];
        ExprId sum = sum_of_pairs(k);
        if (!sum)
            continue;
        merge_taps(l, k, sum);
        for (int p = 0; p + 1 < k->n_axes; p++)
            if (flat_fits(l, k, p, p + 1))
                flat_merge(l, k, p, p + 1);
    }
}
