/* Kernels rewritten for tile registers (see tiles.h).
 * In: kernels whose operands may be bf16. Out: kernels without guards on the operands of products, and with points of images in one
 * axis where their order in memory allows it. Relies on: buffers of bf16 with an even number of channels getting them innermost
 * (choose). */
#include "codegen/tiles.h"

#include <string.h>

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

bool tiles_fit(const KernelList *l, const Kernel *k, Product *p)
{
    if (!product_find(k, p) || !product_pairs(k, p))
        return false;
    if (l->buffers.at[k->access[p->x].buf].kind == BUF_CONST) {
        Product turned = {p->sum, p->w, p->x, p->c, p->w_dim, p->x_dim};
        *p = turned;
    }
    int32_t channels = k->axis[p->c].extent;
    const Buffer *w = &l->buffers.at[k->access[p->w].buf], *x = &l->buffers.at[k->access[p->x].buf];
    if (w->kind != BUF_CONST || !x->batched || channels % 2 || x->shape.dim[p->x_dim] % 2 || tiles_pairs(channels / 2) < LEAST_PAIRS)
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

/* Does a guard of access `at` need a copy, and can one do without? */
static bool reaches_out(const Kernel *k, AccessId at)
{
    const Access *x = &k->access[at];
    bool guarded = false;
    for (int d = 0; d < x->rank; d++) {
        if (x->dim[d].table || x->dim[d].div > 1)
            return false;
        guarded = guarded || x->dim[d].guarded;
    }
    return guarded && x->fill == 0;
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
    x->buf = kernels_add_buffer(l, &b);
    return padding_kernel(l, from, x->buf, low, k);
}

void tiles_pad(KernelList *l)
{
    Vec(Kernel) out = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        Product p;
        if (k.part == WINOGRAD_NONE && tiles_fit(l, &k, &p) && l->buffers.at[k.access[p.x].buf].dtype == DT_BF16 &&
            l->buffers.at[k.access[p.w].buf].dtype == DT_BF16 && k.access[p.x].rank <= 4 && reaches_out(&k, p.x)) {
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

static BufId flat_view(KernelList *l, BufId of, int d)
{
    Buffer v = l->buffers.at[of];
    v.name = arena_printf(l->arena, "%s.flat", v.name);
    v.alias_of = of;
    v.updates = 0;
    v.value = 0;
    v.shape.dim[d] *= v.shape.dim[d + 1];
    v.shape.rank--;
    memmove(&v.shape.dim[d + 1], &v.shape.dim[d + 2], sizeof *v.shape.dim * (size_t)(v.shape.rank - d - 1));
    int n = 0;
    for (int i = 0; i <= v.shape.rank; i++)
        if (v.layout.order[i] != d + 1)
            v.layout.order[n++] = (int8_t)(v.layout.order[i] - (v.layout.order[i] > d));
    v.layout.block_dim = (int8_t)(v.layout.block_dim - (v.layout.block_dim > d));
    return kernels_add_buffer(l, &v);
}

static void flatten(KernelList *l, Kernel *k, int p, int q)
{
    for (AccessId at = 0; at < k->n_access; at++) {
        int d = flat_dim(l, k, at, p, q);
        Access *x = &k->access[at];
        if (d < 0)
            continue;
        x->buf = flat_view(l, x->buf, d);
        x->dim[d].hi = (int32_t)l->buffers.at[x->buf].shape.dim[d];
        x->rank--;
        memmove(&x->dim[d + 1], &x->dim[d + 2], sizeof *x->dim * (size_t)(x->rank - d - 1));
    }
    for (ExprId e = 1; e < k->n_expr; e++)
        k->expr[e].free_axes &= ~(1u << q);
    k->axis[p].extent *= k->axis[q].extent;
    k->axis[q].extent = 1;
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

static bool sums_pairs(const Kernel *k)
{
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_DOT)
            return true;
    return false;
}

void tiles_flatten(KernelList *l)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i];
        for (int p = 0; p + 1 < k->n_axes && sums_pairs(k); p++)
            if (can_flatten(l, k, p, p + 1))
                flatten(l, k, p, p + 1);
    }
}
