/* Kernels rewritten for tile registers (see tiles.h).
 * In: kernels whose operands may be bf16. Out: kernels without guards on the operands of products, and with one axis for the points of
 * an image, or for few channels and the taps of a row, where their order in memory allows it. Relies on: buffers of bf16 with an even
 * number of channels getting them innermost (choose). */
#include "codegen/tiles.h"

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
    if (l->buffers.at[k->access[p->x].buf].kind == BUF_CONST) {
        Product turned = {p->sum, p->w, p->x, p->c, p->w_dim, p->x_dim};
        *p = turned;
    }
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
        fit += tiles_fit(l, &l->kernels.at[i], &p) ? l->kernels.at[i].macs : 0;
    }
    return all > 0 ? fit / all : 0;
}

/* ---- borders ---- */
/* Indices that f takes. */
static void range_of(const Kernel *k, const Affine *f, int64_t *first, int64_t *last)
{
    *first = *last = f->offset;
    for (int a = 0; a < k->n_axes; a++) {
        int64_t far = (int64_t)f->coef[a] * (k->axis[a].extent - 1);
        *(far < 0 ? first : last) += far;
    }
}

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
        range_of(k, f, &low[d], &high);
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

/* Does k read a copy? */
static bool wants_copy(const KernelList *l, const Kernel *k, Product *p)
{
    bool guarded;
    if (k->part != WINOGRAD_NONE || !tiles_fit(l, k, p) || l->buffers.at[k->access[p->x].buf].dtype != DT_BF16 ||
        l->buffers.at[k->access[p->w].buf].dtype != DT_BF16 || !can_pad(k, p->x, &guarded))
        return false;
    return guarded || !fits_alone(k, p);
}

void tiles_pad(KernelList *l)
{
    Vec(Kernel) out = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        Product p;
        if (wants_copy(l, &k, &p)) {
            Kernel *padding = pad_image(l, &k, p.x);
            vec_push(l->arena, &out, *padding);
        }
        vec_push(l->arena, &out, k);
    }
    l->kernels.at = out.at;
    l->kernels.len = out.len;
    l->kernels.cap = out.cap;
}

/* ---- one axis for rows and columns ---- */
/* Axes of one index (the taps of a 1x1 convolution) move nothing. */
static bool is_axis(const Kernel *k, const Affine *f, int axis)
{
    for (int a = 0; a < k->n_axes; a++)
        if (f->coef[a] != (a == axis) && k->axis[a].extent > 1)
            return false;
    return !f->offset && !f->guarded && !f->table && f->div <= 1;
}

/* The dim of access `at` that axis p runs along with q along the next one, both whole and one after the other in memory; -1: the
 * access has neither; -2: another shape. */
static int flat_dim(const KernelList *l, const Kernel *k, AccessId at, int p, int q)
{
    const Access *x = &k->access[at];
    const Buffer *b = &l->buffers.at[x->buf];
    if (!depends_on(k, at, p) && !depends_on(k, at, q))
        return -1;
    for (int d = 0; d + 1 < x->rank; d++) {
        if (!is_axis(k, &x->dim[d], p) || !is_axis(k, &x->dim[d + 1], q))
            continue;
        bool whole = b->shape.dim[d] == k->axis[p].extent && b->shape.dim[d + 1] == k->axis[q].extent && !b->layout.odd;
        for (int i = 0; i + 1 < b->shape.rank; i++)
            if (b->layout.order[i] == d && b->layout.order[i + 1] == d + 1)
                return whole && b->layout.block_dim != d && b->layout.block_dim != d + 1 && layout_pair_dim(&b->layout) < d ? d : -2;
    }
    return -2;
}

/* The buffer with dims outer and inner, one after the other in memory, as one in the place of the outer. */
static BufId merged_view(KernelList *l, BufId of, int outer, int inner)
{
    Buffer v = l->buffers.at[of];
    v.name = arena_printf(l->arena, "%s.flat", v.name);
    v.alias_of = of;
    v.updates = 0;
    v.value = 0;
    v.shape.dim[outer] *= v.shape.dim[inner];
    v.shape.rank--;
    memmove(&v.shape.dim[inner], &v.shape.dim[inner + 1], sizeof *v.shape.dim * (size_t)(v.shape.rank - inner));
    int n = 0;
    for (int i = 0; i <= v.shape.rank; i++)
        if (v.layout.order[i] != inner)
            v.layout.order[n++] = (int8_t)(v.layout.order[i] - (v.layout.order[i] > inner));
    v.layout.block_dim = (int8_t)(v.layout.block_dim - (v.layout.block_dim > inner));
    return kernels_add_buffer(l, &v);
}

/* Access `at` has one index along both dims: that of the outer times the inner's extent, and the inner. */
static void merge_dims(KernelList *l, Kernel *k, AccessId at, int outer, int inner)
{
    Access *x = &k->access[at];
    Affine *f = &x->dim[outer];
    int32_t extent = (int32_t)l->buffers.at[x->buf].shape.dim[inner];
    x->buf = merged_view(l, x->buf, outer, inner);
    for (int a = 0; a < k->n_axes; a++)
        f->coef[a] = f->coef[a] * extent + x->dim[inner].coef[a];
    f->offset = f->offset * extent + x->dim[inner].offset;
    f->hi *= extent;
    x->rank--;
    memmove(&x->dim[inner], &x->dim[inner + 1], sizeof *x->dim * (size_t)(x->rank - inner));
}

/* Axis `outer` goes into axis `inner`, whose neighbours it takes in strides of all of them. */
static void merge_axes(Kernel *k, int outer, int inner)
{
    for (AccessId at = 0; at < k->n_access; at++)
        for (int d = 0; d < k->access[at].rank; d++)
            k->access[at].dim[d].coef[outer] = 0;
    for (ExprId e = 1; e < k->n_expr; e++) {
        k->expr[e].free_axes &= ~(1u << outer);
        k->expr[e].axes &= ~(1u << outer);
    }
    k->axis[inner].extent *= k->axis[outer].extent;
    k->axis[outer].extent = 1;
}

/* Points of an image: rows p, columns q. */
static void flatten(KernelList *l, Kernel *k, int p, int q)
{
    for (AccessId at = 0; at < k->n_access; at++) {
        int d = flat_dim(l, k, at, p, q);
        if (d >= 0)
            merge_dims(l, k, at, d, d + 1);
    }
    merge_axes(k, p, q);
}

/* Axes that may become one: parallel, and every access has both or neither. */
static bool can_flatten(const KernelList *l, const Kernel *k, int p, int q)
{
    const Axis *a = &k->axis[p], *b = &k->axis[q];
    if (a->kind != AXIS_PAR || b->kind != AXIS_PAR || a->batch || b->batch || b->extent < 2 || k->n_strip)
        return false;
    for (ExprId e = 1; e < k->n_expr; e++) {
        ExprOp op = k->expr[e].op;
        if (op == EX_INDEX || op == EX_ROWINDEX || (k->expr[e].axes & (1u << p | 1u << q)))
            return false;
    }
    bool found = false;
    for (AccessId at = 0; at < k->n_access; at++) {
        int d = flat_dim(l, k, at, p, q);
        if (d == -2)
            return false;
        found = found || d >= 0;
    }
    return found;
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
        if (is_axis(k, f, c) && b->shape.dim[d] == k->axis[c].extent)
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
                merge_dims(l, k, at[i], outer[i], inner[i]);
            merge_axes(k, s, c);
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
            if (can_flatten(l, k, p, p + 1))
                flatten(l, k, p, p + 1);
    }
}
