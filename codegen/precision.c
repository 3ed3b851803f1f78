/* Narrow storage (see precision.h).
 * In: kernels over plain float32 buffers. Out: the same, with buffers of DT_BF16 where contractions read them; after the layouts are
 * known, contractions over views of pairs (DT_BF16X2). Relies on: loads widen and stores round, whoever reads or writes, so that
 * only the operands of contractions have to be looked at.
 *
 *   y[n,k,p,q] = SUM[c,r,s](x[n,c,..] * w[k,c,r,s])   becomes   SUM[c',r,s](dot(x2[n,c',..], w2[k,c',r,s])),   c' < C/2
 *
 * With images in the lanes, a Linear layer reads the flat index f = c * HW + j of an image [C][HW] whose pairs lie along c: its sum
 * runs over c and j then, and its weights are seen as [K][C][HW]. */
#include "codegen/precision.h"
#include "codegen/choose.h"
#include "codegen/tiles.h"

#include <string.h>

typedef struct { BufId from; int dim; BufId to; } Rounded;
typedef struct {
    KernelList *l;
    const NestTarget *t;
    Vec(Kernel) out;            /* kernels in their new order */
    Vec(Rounded) rounded;       /* copies made so far */
} Narrow;

/* ---- recognising ---- */
static bool is_weights(const Buffer *b) { return (b->kind == BUF_CONST && !b->data) || b->kind == BUF_STATE; }

/* The dim of access `at` along which axis a runs alone with coefficient 1; others only by whole pairs. -1: another shape. */
static int paired_dim(const Kernel *k, AccessId at, int a)
{
    const Access *x = &k->access[at];
    int found = -1;
    for (int d = 0; d < x->rank; d++) {
        const Affine *f = &x->dim[d];
        if (!f->coef[a])
            continue;
        if (found >= 0 || f->coef[a] != 1 || f->guarded || f->table || f->div > 1 || f->offset % 2)
            return -1;
        for (int o = 0; o < k->n_axes; o++)
            if (o != a && f->coef[o] % 2)
                return -1;
        found = d;
    }
    return found;
}

bool product_find(const Kernel *k, Product *p)
{
    *p = (Product){.c = -1};
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *x = &k->expr[e];
        if (x->op == EX_MAX_OVER || x->op == EX_ARGMAX || (x->op == EX_SUM && p->sum))
            return false;
        if (x->op != EX_SUM)
            continue;
        const Expr *m = &k->expr[x->a];
        if (m->op != EX_MUL || k->expr[m->a].op != EX_LOAD || k->expr[m->b].op != EX_LOAD)
            return false;
        p->sum = e;
        p->x = k->expr[m->a].at;
        p->w = k->expr[m->b].at;
    }
    return p->sum != 0;
}

void product_turn(Product *p) { *p = (Product){p->sum, p->w, p->x, p->c, p->w_dim, p->x_dim}; }

bool product_pairs(const Kernel *k, Product *p)
{
    for (int a = 0; a < k->n_axes; a++) {
        if (!(k->expr[p->sum].axes >> a & 1) || k->axis[a].batch || k->axis[a].extent < 2)
            continue;
        p->x_dim = paired_dim(k, p->x, a);
        p->w_dim = paired_dim(k, p->w, a);
        if (p->x_dim >= 0 && p->w_dim >= 0) {
            p->c = a;
            return true;
        }
    }
    return false;
}

/* A layer: weights times values of the batch; *p has the weights in w. */
static bool find_layer(const KernelList *l, const Kernel *k, Product *p)
{
    if (k->part != WINOGRAD_NONE || !product_find(k, p))
        return false;
    if (is_weights(&l->buffers.at[k->access[p->x].buf]))
        product_turn(p);
    return is_weights(&l->buffers.at[k->access[p->w].buf]) && l->buffers.at[k->access[p->x].buf].batched;
}

/* ---- copies that round ---- */
static BufId rounded_copy(Narrow *n, BufId from, int dim, const Kernel *for_)
{
    for (uint32_t i = 0; i < n->rounded.len; i++)
        if (n->rounded.at[i].from == from && (n->rounded.at[i].dim == dim || !n->t->lanes))
            return n->rounded.at[i].to;
    Buffer b = n->l->buffers.at[from];
    b.dtype = DT_BF16;
    b.paired = n->t->pairs ? (uint8_t)(dim + 1) : 0;
    b.layout = layout_rows(&b);
    if (b.shape.dim[dim] % 2)   /* rows of odd length: the last pair is filled up */
        b.layout.paired = b.paired;
    if (n->t->tiles && b.shape.rank >= 3 && dim == 1 && b.shape.dim[dim] % 2 == 0 && b.kind != BUF_CONST)   /* what tiles read, at once */
        b.layout = layout_innermost(b.shape.rank, dim);
    b.name = arena_printf(n->l->arena, "%s.bf16", b.name);
    if (b.kind != BUF_CONST) {   /* constants are rounded when they are packed */
        b.kind = BUF_WORK;
        b.alias_of = b.updates = b.value = 0;
    }
    BufId to = kernels_add_buffer(n->l, &b);
    if (b.kind != BUF_CONST)
        vec_push(n->l->arena, &n->out, *kernel_copy(n->l, from, to, arena_printf(n->l->arena, "%s.round", b.name), for_));
    vec_push(n->l->arena, &n->rounded, (Rounded){from, dim, to});
    return to;
}

/* ---- values between kernels ---- */
static bool writes_pairs(const Narrow *n, BufId b, int dim)
{
    for (uint32_t i = 0; i < n->l->kernels.len; i++) {
        const Kernel *k = &n->l->kernels.at[i];
        for (int o = 0; o < k->n_out; o++) {
            const Access *y = &k->access[k->out[o].at];
            if (y->buf != b)
                continue;
            int axes = 0;
            for (int a = 0; a < k->n_axes; a++)
                axes += y->dim[dim].coef[a] != 0;
            if ((k->part != WINOGRAD_NONE && k->part != WINOGRAD_OUTPUT) || axes != 1 || y->dim[dim].offset % 2)
                return false;
        }
    }
    return true;
}

/* A view of an image [n][C][..] as [n][C][HW]. */
static Shape channels_and_rest(const Shape *s)
{
    int64_t rest = 1;
    for (int d = 2; d < s->rank; d++)
        rest *= s->dim[d];
    return shape_of(3, s->dim[0], s->dim[1], rest);
}
/* A view [n][F] of an image, read by a layer over its pairs along the channels. */
static bool reads_flat(const KernelList *l, const Kernel *k, AccessId at)
{
    Product p;
    const Buffer *b = &l->buffers.at[k->access[at].buf], *root = &l->buffers.at[buffer_root(l, k->access[at].buf)];
    return b->shape.rank == 2 && root->shape.rank > 2 && find_layer(l, k, &p) && product_pairs(k, &p) && p.x == at &&
           l->buffers.at[k->access[p.w].buf].shape.rank == 2;
}

/* May value `root` be stored as bf16, in pairs along `dim` (-1: none)? */
static bool can_narrow(const Narrow *n, BufId root, int dim, bool images)
{
    const KernelList *l = n->l;
    const Buffer *b = &l->buffers.at[root];
    if (b->kind != BUF_WORK || !b->batched || b->dtype != DT_F32 || b->strip_elements || (dim >= 0 && !writes_pairs(n, root, dim)))
        return false;
    for (uint32_t i = 0; i < l->kernels.len && images; i++) {
        const Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access; at++)
            if (buffer_root(l, k->access[at].buf) == root &&
                (k->part == WINOGRAD_INPUT || (k->access[at].buf != root && !reads_flat(l, k, at))))
                return false;
    }
    return true;
}

static void narrow_value(Narrow *n, BufId root, int dim, bool images)
{
    KernelList *l = n->l;
    Buffer *b = &l->buffers.at[root];
    b->dtype = DT_BF16;
    b->paired = n->t->pairs ? (uint8_t)(dim + 1) : 0;
    b->layout = layout_rows(b);
    for (uint32_t i = 1; i < l->buffers.len && !images; i++)   /* plain rows in either type */
        if (buffer_root(l, (BufId)i) == root)
            l->buffers.at[i].dtype = DT_BF16;
}

/* ---- layers ---- */
/* The flat summed axis becomes c, the channels, and a new axis j inside them. */
static void split_flat(Narrow *n, Kernel *k, Product *p)
{
    KernelList *l = n->l;
    Buffer image = l->buffers.at[buffer_root(l, k->access[p->x].buf)], weights = l->buffers.at[k->access[p->w].buf];
    image.shape = channels_and_rest(&image.shape);
    image.alias_of = buffer_root(l, k->access[p->x].buf);
    weights.shape = shape_of(3, weights.shape.dim[0], image.shape.dim[1], image.shape.dim[2]);
    weights.alias_of = weights.kind == BUF_CONST ? 0 : k->access[p->w].buf;
    Buffer *view[2] = {&image, &weights};
    int j = kernel_axis(k, AXIS_RED, "j", image.shape.dim[2], false);
    k->axis[p->c].extent = (int32_t)image.shape.dim[1];
    const AccessId at[2] = {p->x, p->w};
    for (int i = 0; i < 2; i++) {
        view[i]->layout = layout_rows(view[i]);
        k->access[at[i]].buf = kernels_add_buffer(l, view[i]);
        k->access[at[i]].rank = 3;
        access_dim(k, at[i], 1)->hi = k->axis[p->c].extent;
        *access_dim(k, at[i], 2) = (Affine){.hi = k->axis[j].extent, .div = 1, .table_axis = -1, .table_axis2 = -1};
        affine_axis(access_dim(k, at[i], 2), j, 1);
    }
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].free_axes >> p->c & 1)
            k->expr[e].free_axes |= 1u << j;
    k->expr[p->sum].axes |= 1u << j;
}

/* Is the layer's input bf16 now? Made so where it can be. */
static bool narrow_input(Narrow *n, Kernel *k, Product *p, bool images)
{
    KernelList *l = n->l;
    BufId x = k->access[p->x].buf, root = buffer_root(l, x);
    if (l->buffers.at[root].kind == BUF_INPUT) {
        if (root == x && n->t->lanes)   /* without lanes whoever multiplies rounds what it reads */
            k->access[p->x].buf = rounded_copy(n, x, p->x_dim, k);
        return root == x;
    }
    int dim = root == x ? p->x_dim : images ? 1 : -1;   /* flat rows: neighbours as they lie */
    if (l->buffers.at[root].dtype != DT_BF16) {
        if (!can_narrow(n, root, dim, images))
            return false;
        narrow_value(n, root, dim, images);
    }
    if (root != x && images)
        split_flat(n, k, p);
    return true;
}

/* Gradients of weights: both operands are values. Only what multiplies pairs needs them in pairs, so a target without lanes takes all. */
static void narrow_operands(Narrow *n, const Kernel *k)
{
    Product p;
    if (n->t->lanes || !product_find(k, &p))
        return;
    const AccessId at[] = {p.x, p.w};
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        BufId root = buffer_root(n->l, k->access[at[i]].buf);
        if (can_narrow(n, root, -1, false))
            narrow_value(n, root, -1, false);
    }
}

/* ---- values that are only compared ---- */
/* Rounding is monotone: the maximum of rounded values is the rounded maximum. So values that are read by nothing but maxima whose
 * results are stored as bf16 are stored as bf16 themselves, and every result stays the same. */
static bool is_bf16(double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return !(bits & 0xffff);
}

/* sel(x < low, low, x), and with sel(x > high, high, x) as its last operand: how activations.def writes ReLU and its like. */
static bool is_clamp(const Kernel *k, const Expr *e)
{
    const Expr *condition = &k->expr[e->a], *inner = &k->expr[e->c];
    bool of_same = e->c == condition->a || (inner->op == EX_SEL && k->expr[inner->a].a == condition->a);
    return (condition->op == EX_LT || condition->op == EX_GT) && condition->b == e->b && k->expr[e->b].op == EX_CONST && of_same;
}

/* Is it the same whether its operands or its value are rounded? Conditions are used by clamps alone. */
static bool commutes_with_rounding(const Kernel *k, const Expr *e)
{
    switch (e->op) {
    case EX_MAX_OVER: case EX_MAX: case EX_MIN: case EX_LT: case EX_GT: return true;
    case EX_LOAD: return is_bf16(k->access[e->at].fill);
    case EX_CONST: return is_bf16(e->imm);
    case EX_SEL: return is_clamp(k, e);
    default: return false;
    }
}

static bool rounds_at_last(const KernelList *l, const Kernel *k)
{
    for (ExprId e = 1; e < k->n_expr; e++)
        if (!commutes_with_rounding(k, &k->expr[e]))
            return false;
    for (int o = 0; o < k->n_out; o++)
        if (l->buffers.at[k->access[k->out[o].at].buf].dtype != DT_BF16)
            return false;
    return true;
}

/* Does product k leave columns side by side, or may it? Pools over such rows take longer over bf16 than over float32. */
static bool leaves_columns(const KernelList *l, const Kernel *k)
{
    Product p;
    return find_layer(l, k, &p) && (l->buffers.at[k->access[p.x].buf].dtype == DT_F32 || tiles_few_fit(l, k));
}

static bool is_only_compared(const KernelList *l, BufId b)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access; at++) {
            if (buffer_root(l, k->access[at].buf) != b)
                continue;
            if (k->access[at].buf != b || (kernel_writes(k, at) ? leaves_columns(l, k) : !rounds_at_last(l, k)))
                return false;
        }
    }
    return true;
}

/* Last readers first: a value is looked at again with each of them, the last time when all their results are known. */
static void narrow_compared(Narrow *n)
{
    KernelList *l = n->l;
    for (uint32_t i = l->kernels.len; i-- > 0;) {
        const Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access && rounds_at_last(l, k); at++) {
            BufId b = k->access[at].buf;
            if (l->buffers.at[b].shape.rank >= 3 && is_only_compared(l, b) && can_narrow(n, b, -1, false))
                narrow_value(n, b, -1, false);
        }
    }
}

/* ---- the whole list ---- */
static void finish(Narrow *n)
{
    n->l->kernels.at = n->out.at;
    n->l->kernels.len = n->out.len;
    n->l->kernels.cap = n->out.cap;
}

/* Where float32 is multiplied faster than pairs, bf16 pays in tile registers, and for weights of Linear that few samples wait for. */
static bool pays(const Narrow *n, const Kernel *k, Product p)
{
    const Buffer *w = &n->l->buffers.at[k->access[p.w].buf];
    bool linear = w->kind == BUF_CONST && w->shape.rank == 2, tiles = n->t->tiles && (linear || tiles_fit(n->l, k, &p) || tiles_few_fit(n->l, k));
    return !n->t->slow_pairs || tiles || (linear && n->l->graph->batch < n->t->lanes);
}

void precision_narrow(KernelList *l, const NestTarget *t, bool images)
{
    Narrow n = {.l = l, .t = t};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        Product p;
        if (find_layer(l, &k, &p) && product_pairs(&k, &p) && pays(&n, &k, p) && narrow_input(&n, &k, &p, images))
            k.access[p.w].buf = rounded_copy(&n, k.access[p.w].buf, p.w_dim, &k);
        narrow_operands(&n, &k);
        vec_push(l->arena, &n.out, k);
    }
    finish(&n);
    if (t->tiles)
        narrow_compared(&n);
}

void precision_narrow_weights(KernelList *l, bool images)
{
    const NestTarget plain = {0};
    Narrow n = {.l = l, .t = &plain};
    for (uint32_t i = 0; i < l->kernels.len && !images; i++) {
        Kernel *k = &l->kernels.at[i];
        Product p;
        if (find_layer(l, k, &p) && l->buffers.at[k->access[p.w].buf].kind == BUF_CONST && l->buffers.at[k->access[p.w].buf].shape.rank == 2)
            k->access[p.w].buf = rounded_copy(&n, k->access[p.w].buf, 0, k);
    }
}

/* ---- pairs ---- */
/* Do indices 2i and 2i + 1 of dim d lie side by side? */
static bool in_pairs(const Buffer *b, int d)
{
    const Layout *y = &b->layout;
    if (b->dtype != DT_BF16)
        return false;
    if (layout_pair_dim(y) >= 0)
        return layout_pair_dim(y) == d;
    if (y->block_dim >= 0)
        return y->block_dim == d && y->lanes % 2 == 0 && b->shape.dim[d] % 2 == 0;
    return y->order[b->shape.rank - 1] == d && b->shape.dim[d] % 2 == 0;
}

static bool has_pairs(const KernelList *l, const Kernel *k, const Product *p)
{
    const Buffer *x = &l->buffers.at[k->access[p->x].buf], *w = &l->buffers.at[k->access[p->w].buf];
    int32_t c = k->axis[p->c].extent;
    bool whole = x->shape.dim[p->x_dim] == c && w->shape.dim[p->w_dim] == c;
    return in_pairs(x, p->x_dim) && in_pairs(w, p->w_dim) && (c % 2 == 0 || whole);
}

/* The buffer seen as pairs along dim d. */
static BufId pairs_view(KernelList *l, BufId of, int d)
{
    Buffer v = l->buffers.at[of];
    for (uint32_t i = 1; i < l->buffers.len; i++)
        if (l->buffers.at[i].dtype == DT_BF16X2 && l->buffers.at[i].alias_of == of && l->buffers.at[i].shape.dim[d] != v.shape.dim[d])
            return (BufId)i;
    v.name = arena_printf(l->arena, "%s.x2", v.name);
    v.dtype = DT_BF16X2;
    v.alias_of = of;
    v.value = 0;
    v.shape.dim[d] = (v.shape.dim[d] + 1) / 2;
    v.layout.paired = v.paired = 0;
    if (v.layout.block_dim == d)
        v.layout.lanes /= 2;
    return kernels_add_buffer(l, &v);
}

static void read_pairs(KernelList *l, Kernel *k, AccessId at, int d, int c)
{
    Access *x = &k->access[at];
    Affine *f = &x->dim[d];
    x->buf = pairs_view(l, x->buf, d);
    for (int a = 0; a < k->n_axes; a++)
        if (a != c)
            f->coef[a] /= 2;
    f->offset /= 2;
    f->hi = (int32_t)l->buffers.at[x->buf].shape.dim[d];
}

void precision_pair(KernelList *l)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i];
        Product p;
        if (!product_find(k, &p) || !product_pairs(k, &p) || !has_pairs(l, k, &p))
            continue;
        read_pairs(l, k, p.x, p.x_dim, p.c);
        read_pairs(l, k, p.w, p.w_dim, p.c);
        k->axis[p.c].extent = (k->axis[p.c].extent + 1) / 2;
        Expr *m = &k->expr[k->expr[p.sum].a];
        m->op = EX_DOT;
        k->expr[m->a].is_int = k->expr[m->b].is_int = true;
    }
}
