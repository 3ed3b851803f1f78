/* Weight gradients of stride-1 convolutions by Winograd: the forward form transposed. y = A' ((G t G') . (B' x B)) A is linear in the
 * taps t, so
 *
 *   dt = G' (SUM over images and tiles of (A dy A') . (B' x B)) G
 *
 * In: a kernel dw[k,c,r,s] = epilogue(SUM[n,p,q](dy[n,k,p,q] * x[n, c, p+r-pad, q+s-pad])), images in the lanes (L of them a block z),
 * or channels (then L = 1).
 * Out, m x m outputs a tile, ij a position in it, x one of the a^2 points:
 *
 *   rows      T[z, th, tw, ij, n, k]      = dy[z*L+n, k, m*th+i, m*tw+j], 0 outside: filters into the lanes
 *   gradient  Z[z, th, tw, x, n, k]       = (A T A')[x]
 *   input     V[z*L+n, th, tw, x, c]      = (B' x B)[x]
 *   product   M[x, c, k]                  = SUM[z, th, tw, n](V * Z)
 *   taps      D[c, r, s, k]               = (G' M G)[r, s]
 *   output    dw[k, c, r, s]              = epilogue(D)
 *
 * The product has filters in its lanes, and broadcasts V: no lanes are added up, and a sum over few tiles is as fast as over many. With
 * channels in the lanes T is dy itself, and has no kernel. */
#include "codegen/winograd_impl.h"

#include <string.h>

enum { STRIP_TILES = 4 };

typedef WinogradGradient Gradient;

/* ---- recognising ---- */
static bool find_product(Gradient *g)
{
    const Kernel *k = g->k;
    for (ExprId e = 1; e < k->n_expr; e++) {
        ExprOp op = k->expr[e].op;
        if (op == EX_INDEX || op == EX_ROWINDEX || op == EX_N || op == EX_ARGMAX || op == EX_MAX_OVER || (op == EX_SUM && g->sum))
            return false;
        if (op != EX_SUM)
            continue;
        const Expr *m = &k->expr[k->expr[e].a];
        if (m->op != EX_MUL || k->expr[m->a].op != EX_LOAD || k->expr[m->b].op != EX_LOAD)
            return false;
        g->sum = e;
        g->dy = k->expr[m->a].at;
        g->x = k->expr[m->b].at;
    }
    return g->sum && k->access[g->dy].rank == 4 && k->access[g->x].rank == 4;
}

/* x's dim p + r - pad: the tap axis beside p; -1: another shape. */
static int tap_axis(const Gradient *g, int dim, int p)
{
    Affine f = g->k->access[g->x].dim[dim];
    if (p < 0 || f.coef[p] != 1 || f.table || f.div > 1)
        return -1;
    f.coef[p] = 0;
    return affine_unit_axis(&f, g->k->n_axes);
}

/* The outputs and what their epilogue reads: elements [k, c, r, s], or scalars. */
static bool plain_outputs(const Gradient *g)
{
    const int want[4] = {g->filter, g->c, g->r, g->s};
    int64_t elements = 1;
    for (int d = 0; d < 4; d++)
        elements *= g->k->axis[want[d]].extent;
    for (AccessId at = 0; at < g->k->n_access; at++) {
        const Access *w = &g->k->access[at];
        if (at == g->x || at == g->dy || w->rank == 0)
            continue;
        if (w->rank != 4 || shape_elements(&g->l->buffers.at[w->buf].shape) != elements)
            return false;
        for (int d = 0; d < 4; d++)
            if (affine_unit_axis(&w->dim[d], g->k->n_axes) != want[d] || w->dim[d].offset || w->dim[d].guarded || w->dim[d].table)
                return false;
    }
    return true;
}

bool winograd_recognise_gradient(WinogradGradient *g)
{
    const Kernel *k = g->k;
    if (!find_product(g))
        return false;
    const Access *dy = &k->access[g->dy], *x = &k->access[g->x];
    int axis[4];
    for (int d = 0; d < 4; d++) {
        axis[d] = affine_unit_axis(&dy->dim[d], k->n_axes);
        if (axis[d] < 0 || dy->dim[d].offset || dy->dim[d].guarded)
            return false;
    }
    g->n = axis[0];
    g->filter = axis[1];
    g->p = axis[2];
    g->q = axis[3];
    g->c = affine_unit_axis(&x->dim[1], k->n_axes);
    g->r = tap_axis(g, 2, g->p);
    g->s = tap_axis(g, 3, g->q);
    if (affine_unit_axis(&x->dim[0], k->n_axes) != g->n || g->c < 0 || g->r < 0 || g->s < 0 || x->dim[1].offset)
        return false;
    uint32_t over = 1u << g->n | 1u << g->p | 1u << g->q;
    if (k->expr[g->sum].axes != over || !k->axis[g->n].batch || k->axis[g->r].extent != k->axis[g->s].extent)
        return false;
    return plain_outputs(g);
}

/* Cycles a core needs for the direct gradient and for this one; the constants are measured on a core with one multiply-add of vectors a
 * cycle. A transform moves every value through L2; the sums M come from L3. */
static double direct_cycles(const Gradient *g)
{
    double taps = (double)g->form->r * g->form->r, vectors = (double)(g->blocks * g->per) / g->t->lanes;
    return 1.05 * taps * (double)(g->height * g->width * g->channels * g->filters) * vectors;
}

static double winograd_cycles(const Gradient *g)
{
    double points = (double)g->a * g->a, vectors = (double)((g->filters + g->t->lanes - 1) / g->t->lanes);
    double tiles = (double)(g->th * g->tw * g->blocks), sums = points * (double)g->channels * vectors, parts = g->strips ? (double)g->blocks : 1;
    double values = g->images ? 24.0 * (double)g->channels + 20.0 * (double)g->filters : 10.0 * (double)(g->channels + g->filters) / g->t->lanes;
    return 1.1 * tiles * g->per * sums + tiles * points * values + sums * 12 * (parts + 1);
}

/* Sums M of every block of images take less room than V and Z of the whole batch: then V and Z stay in L2. */
static bool sums_are_small(const Gradient *g)
{
    return g->channels * g->filters < g->th * g->tw * g->per * (g->channels + g->filters);
}

static bool pays(Gradient *g)
{
    const Kernel *k = g->k;
    g->filters = k->axis[g->filter].extent;
    g->channels = k->axis[g->c].extent;
    g->height = k->axis[g->p].extent;
    g->width = k->axis[g->q].extent;
    g->per = g->images ? g->t->lanes : 1;
    g->blocks = (k->axis[g->n].extent + g->per - 1) / g->per;
    g->form = winograd_fewest_products(k->axis[g->r].extent, g->error, g->height, g->width);
    if (!g->form || g->t->lanes < 4 || (!g->images && (g->channels % g->t->lanes || g->filters % g->t->lanes)))
        return false;
    g->m = g->form->m;
    g->a = g->form->a;
    g->th = (g->height + g->m - 1) / g->m;
    g->tw = (g->width + g->m - 1) / g->m;
    g->strips = sums_are_small(g);
    if (!g->strips && 4 * g->a * g->a * g->channels * g->filters > g->t->l3 / 2 && g->channels % g->t->lanes == 0)
        g->panel = g->t->lanes;   /* M would come back from memory */
    return winograd_cycles(g) < direct_cycles(g);
}

/* ---- buffers ---- */
/* Tiles of a strip: with images in the lanes a few of a row, else those of an image. */
static int64_t strip_columns(const Gradient *g) { return g->tw < STRIP_TILES ? g->tw : STRIP_TILES; }
static int64_t strip_tiles(const Gradient *g) { return g->images ? strip_columns(g) : g->th * g->tw; }

/* [blocks, th, tw, points, images of a block, filters], filters in the lanes, a block of them for all images after another. Points lie an
 * odd stride apart, since a transform touches all of a tile. */
static BufId filter_lanes(Gradient *g, const char *suffix, int64_t points)
{
    Buffer b = {.kind = BUF_WORK, .dtype = DT_F32};
    b.name = arena_printf(g->l->arena, "%s.%s", g->k->name, suffix);
    b.shape = shape_of(6, g->blocks, g->th, g->tw, points, (int64_t)g->per, g->filters);
    b.layout = (Layout){.block_dim = 5, .lanes = (uint8_t)g->t->lanes, .order = {0, 1, 2, 3, 5, 4}, .odd = 1 + 3};
    return kernels_add_buffer(g->l, &b);
}

/* V and Z as the product reads them: point after point, Z with a block of filters together. With images in the lanes a strip has a few
 * tiles only, and is walked in the order of the tiles. */
static void lay_out(Gradient *g)
{
    Layout *z = &g->l->buffers.at[g->z].layout, *v = &g->l->buffers.at[g->v].layout;
    if (g->strips && g->images)
        return;
    static const int8_t of_image[2][6] = {{0, 3, 5, 1, 2, 4}, {0, 3, 1, 2, 4}}, of_all[2][6] = {{3, 5, 0, 1, 2, 4}, {3, 0, 1, 2, 4}};
    memcpy(z->order, g->strips ? of_image[0] : of_all[0], 6);
    memcpy(v->order, g->strips ? of_image[1] : of_all[1], 5);
}

/* Storage of one strip: all points, of each the tiles and images, or the points of tile after tile. */
static int64_t strip_elements(const Gradient *g, int64_t points, int64_t vectors)
{
    int64_t tiles = strip_tiles(g);
    return g->t->lanes * points * (g->images ? tiles * (vectors | 1) : (tiles * vectors) | 1);
}

static void make_tile_buffers(Gradient *g)
{
    const Buffer *x = &g->l->buffers.at[g->k->access[g->x].buf];
    int64_t points = (int64_t)g->a * g->a, lanes = g->t->lanes, filters = (g->filters + lanes - 1) / lanes * g->per;
    if (g->images) {
        g->rows = filter_lanes(g, "T", (int64_t)g->m * g->m);
        g->l->buffers.at[g->rows].strip_elements = strip_elements(g, (int64_t)g->m * g->m, filters);
    }
    g->z = filter_lanes(g, "Z", points);
    Buffer v = {.kind = BUF_WORK, .dtype = DT_F32, .batched = g->images, .layout = layout_plain(5)};   /* `choose` blocks it over images */
    v.layout.lanes = (uint8_t)lanes;
    v.layout.odd = 1 + 3;
    v.name = arena_printf(g->l->arena, "%s.V", g->k->name);
    v.shape = shape_of(5, x->shape.dim[0], g->th, g->tw, points, g->channels);
    g->v = kernels_add_buffer(g->l, &v);
    if (g->strips) {
        g->l->buffers.at[g->z].strip_elements = strip_elements(g, points, filters);
        g->l->buffers.at[g->v].strip_elements = strip_elements(g, points, g->images ? g->channels : g->channels / lanes);
    }
    lay_out(g);
}

static void make_buffers(Gradient *g)
{
    int64_t points = (int64_t)g->a * g->a, lanes = g->t->lanes;
    make_tile_buffers(g);
    Buffer m = {.kind = BUF_WORK, .dtype = DT_F32};
    m.name = arena_printf(g->l->arena, "%s.M", g->k->name);
    m.shape = shape_of(4, g->strips ? g->blocks : 1, points, g->channels, g->filters);
    m.layout = (Layout){.block_dim = 3, .lanes = (uint8_t)lanes, .order = {0, 1, 2, 3}, .odd = 1 + 1};
    int64_t row = ((g->filters + lanes - 1) / lanes | 1) * lanes;
    if (g->panel) {
        memcpy(m.layout.order, (int8_t[]){2, 0, 1, 3}, 4);
        m.strip_elements = g->panel * points * row;
    }
    g->prod = kernels_add_buffer(g->l, &m);
    m.name = arena_printf(g->l->arena, "%s.D", g->k->name);
    m.shape = shape_of(2, g->channels * g->form->r * g->form->r, g->filters);
    m.layout = (Layout){.block_dim = 1, .lanes = (uint8_t)lanes, .order = {0, 1}, .odd = 1};
    m.strip_elements = g->panel * g->form->r * g->form->r * row;
    g->taps = kernels_add_buffer(g->l, &m);
}

/* ---- the kernels ---- */
static Kernel *start(Gradient *g, WinogradPart part, const char *suffix)
{
    Kernel *k = kernel_part(g->l, arena_printf(g->l->arena, "%s.%s", g->k->name, suffix), g->k);
    k->part = part;
    return k;
}

static int block_axis(Gradient *g, Kernel *k, AxisKind kind)
{
    int z = kernel_axis(k, kind, "z", g->blocks, true);
    k->axis[z].batch_div = g->per;
    return z;
}

/* Images of block z. */
static int image_axis(Gradient *g, Kernel *k, AxisKind kind, int z)
{
    int n = kernel_axis(k, kind, "n", g->per, g->images);
    if (g->images) {
        k->axis[n].batch_base = (int8_t)z;
        k->axis[n].batch_step = g->per;
    }
    return n;
}

static void cut(const Gradient *g, Kernel *k, int block, int block_size, int th, int tw)
{
    kernel_cut_along(k, block, block_size);
    if (!g->images)
        return;
    kernel_cut_along(k, th, 1);
    kernel_cut_along(k, tw, strip_columns(g));
    k->n_passes = g->strips ? 2 : 0;
}

/* Channel after channel, `each` indices of axis a channel has. */
static void cut_panels(const Gradient *g, Kernel *k, int axis, int each)
{
    if (g->panel)
        kernel_cut_along(k, axis, g->panel * each);
}

static AccessId access_at(Gradient *g, Kernel *k, BufId b, const int *axis)
{
    AccessId at = kernel_access(g->l, k, b);
    for (int d = 0; d < k->access[at].rank; d++)
        if (axis[d] >= 0)
            affine_axis(access_dim(k, at, d), axis[d], 1);
    return at;
}

static Kernel *rows_kernel(Gradient *g)
{
    Kernel *k = start(g, WINOGRAD_ROWS, "rows");
    int z = block_axis(g, k, AXIS_PAR), th = kernel_axis(k, AXIS_PAR, "t", g->th, false), tw = kernel_axis(k, AXIS_PAR, "u", g->tw, false);
    int i = kernel_axis(k, AXIS_PAR, "i", g->m, false), j = kernel_axis(k, AXIS_PAR, "j", g->m, false);
    int n = image_axis(g, k, AXIS_PAR, z), filter = kernel_axis(k, AXIS_PAR, "k", g->filters, false);
    const Buffer *b = &g->l->buffers.at[g->k->access[g->dy].buf];
    const int from[4] = {n, filter, i, j}, to[6] = {z, th, tw, i, n, filter};
    AccessId dy = access_at(g, k, g->k->access[g->dy].buf, from), out = access_at(g, k, g->rows, to);
    affine_axis(access_dim(k, dy, 0), z, g->t->lanes);
    affine_axis(access_dim(k, dy, 2), th, g->m);
    affine_axis(access_dim(k, dy, 3), tw, g->m);
    for (int d = 2; d < 4; d++)
        if (b->shape.dim[d] % g->m)
            affine_guard(access_dim(k, dy, d), 0, (int32_t)b->shape.dim[d]);
    *access_dim(k, out, 3) = (Affine){.div = 1, .hi = g->m * g->m, .table_axis = -1, .table_axis2 = -1};
    affine_axis(access_dim(k, out, 3), i, g->m);
    affine_axis(access_dim(k, out, 3), j, 1);
    kernel_out(k, out, expr_load(g->l, k, dy));
    cut(g, k, z, 1, th, tw);
    return k;
}

/* The a^2 points of a transformed tile, along dim 3 of V or Z, stored in `order` (NULL: as they come). */
static void put_points(Gradient *g, Kernel *k, BufId b, const int *axis, const ExprId *point, const int *order)
{
    for (int t = 0; t < g->a * g->a; t++) {
        int i = order ? order[t] : t;
        AccessId at = access_at(g, k, b, axis);
        access_dim(k, at, 3)->offset = i;
        kernel_out(k, at, point[i]);
    }
}

/* dy at place (i, j) of a tile. */
static AccessId place_of_tile(Gradient *g, Kernel *k, const int *axis, int i, int j)
{
    const Buffer *b = &g->l->buffers.at[g->k->access[g->dy].buf];
    const int from[4] = {axis[0], axis[5], axis[1], axis[2]}, place[2] = {i, j};
    AccessId at = access_at(g, k, g->k->access[g->dy].buf, from);
    affine_axis(access_dim(k, at, 0), axis[4], 1);
    for (int d = 0; d < 2; d++) {
        Affine *f = access_dim(k, at, 2 + d);
        f->coef[from[2 + d]] = g->m;
        f->offset = place[d];
        if (b->shape.dim[2 + d] % g->m)
            affine_guard(f, 0, (int32_t)b->shape.dim[2 + d]);
    }
    return at;
}

static Kernel *gradient_kernel(Gradient *g)
{
    Kernel *k = start(g, WINOGRAD_GRADIENT, "gradient");
    int z = block_axis(g, k, AXIS_PAR), th = kernel_axis(k, AXIS_PAR, "t", g->th, false), tw = kernel_axis(k, AXIS_PAR, "u", g->tw, false);
    int n = image_axis(g, k, AXIS_PAR, z), filter = kernel_axis(k, AXIS_PAR, "k", g->filters, false);
    const int axis[6] = {z, th, tw, -1, n, filter};
    ExprId y[MAX_A * MAX_A], out[MAX_A * MAX_A];
    for (int i = 0; i < g->m * g->m; i++) {
        AccessId at = g->images ? access_at(g, k, g->rows, axis) : place_of_tile(g, k, axis, i / g->m, i % g->m);
        if (g->images)
            access_dim(k, at, 3)->offset = i;
        y[i] = expr_load(g->l, k, at);
    }
    winograd_square(g->l, k, g->form, winograd_spread_row, y, g->m, out, g->a);
    put_points(g, k, g->z, axis, out, NULL);
    cut(g, k, z, 1, th, tw);
    return k;
}

static Kernel *input_kernel(Gradient *g)
{
    Kernel *k = start(g, WINOGRAD_INPUT, "input");
    k->after = g->k->access[g->dy].buf;
    int n = kernel_axis(k, AXIS_PAR, "n", g->k->axis[g->n].extent, true);
    int th = kernel_axis(k, AXIS_PAR, "t", g->th, false), tw = kernel_axis(k, AXIS_PAR, "u", g->tw, false);
    int c = kernel_axis(k, AXIS_PAR, "c", g->channels, false);
    const Access *x = &g->k->access[g->x];
    const int from[4] = {n, c, th, tw}, to[5] = {n, th, tw, -1, c};
    int order[MAX_A * MAX_A];
    ExprId d[MAX_A * MAX_A], out[MAX_A * MAX_A];
    for (int i = 0; i < g->a * g->a; i++) {
        AccessId at = access_at(g, k, x->buf, from);
        const int place[2] = {i / g->a, i % g->a};
        for (int s = 0; s < 2; s++) {
            Affine *f = access_dim(k, at, 2 + s);
            f->coef[from[2 + s]] = g->m;
            f->offset = x->dim[2 + s].offset + place[s];
            affine_guard(f, 0, (int32_t)g->l->buffers.at[x->buf].shape.dim[2 + s]);
        }
        d[i] = expr_load(g->l, k, at);
    }
    winograd_input_square(g->l, k, g->form, d, out, order);
    put_points(g, k, g->v, to, out, order);
    cut(g, k, n, g->per, th, tw);
    return k;
}

static Kernel *product_kernel(Gradient *g)
{
    Kernel *k = start(g, WINOGRAD_PRODUCT, "product");
    int z = block_axis(g, k, g->strips ? AXIS_PAR : AXIS_RED), th = kernel_axis(k, AXIS_RED, "t", g->th, false),
        tw = kernel_axis(k, AXIS_RED, "u", g->tw, false);
    int n = image_axis(g, k, AXIS_RED, z), x = kernel_axis(k, AXIS_PAR, "x", (int64_t)g->a * g->a, false);
    int c = kernel_axis(k, AXIS_PAR, "c", g->channels, false), filter = kernel_axis(k, AXIS_PAR, "k", g->filters, false);
    const int v[5] = {n, th, tw, x, c}, zs[6] = {z, th, tw, x, n, filter}, m[4] = {g->strips ? z : -1, x, c, filter};
    AccessId a = access_at(g, k, g->v, v);
    affine_axis(access_dim(k, a, 0), z, g->per);
    ExprId load = expr_load(g->l, k, a);
    ExprId product = expr_op(g->l, k, EX_MUL, load, expr_load(g->l, k, access_at(g, k, g->z, zs)), 0);
    ExprId sum = expr_reduce(g->l, k, EX_SUM, product, 0, (g->strips ? 0 : 1u << z) | 1u << th | 1u << tw | 1u << n);
    kernel_out(k, access_at(g, k, g->prod, m), sum);
    if (g->strips)
        cut(g, k, z, 1, th, tw);
    cut_panels(g, k, c, 1);
    k->macs = g->k->macs;
    return k;
}

static Kernel *taps_kernel(Gradient *g)
{
    Kernel *k = start(g, WINOGRAD_TAPS, "taps");
    int c = kernel_axis(k, AXIS_PAR, "c", g->channels, false), filter = kernel_axis(k, AXIS_PAR, "k", g->filters, false);
    int z = g->strips ? block_axis(g, k, AXIS_RED) : -1;
    const int from[4] = {z, -1, c, filter}, to[2] = {-1, filter};
    int taps = g->form->r * g->form->r;
    ExprId m[MAX_A * MAX_A], dw[MAX_A * MAX_A];
    for (int i = 0; i < g->a * g->a; i++) {
        AccessId at = access_at(g, k, g->prod, from);
        access_dim(k, at, 1)->offset = i;
        m[i] = expr_load(g->l, k, at);
        if (g->strips)
            m[i] = expr_reduce(g->l, k, EX_SUM, m[i], 0, 1u << z);
    }
    winograd_square(g->l, k, g->form, winograd_taps_row, m, g->a, dw, g->form->r);
    for (int i = 0; i < taps; i++) {
        AccessId at = access_at(g, k, g->taps, to);
        affine_axis(access_dim(k, at, 0), c, taps);
        access_dim(k, at, 0)->offset = i;
        kernel_out(k, at, dw[i]);
    }
    cut_panels(g, k, c, 1);
    return k;
}

/* ---- the output: the direct kernel's epilogue over matrices [k][c * taps], which are views of what it reads and writes ---- */
typedef struct { Gradient *g; Kernel *k; int filter, tap; ExprId *done; } Output;

static AccessId matrix_access(const Output *o, AccessId from)
{
    const Gradient *g = o->g;
    BufId buf = g->k->access[from].buf;
    const int axis[2] = {o->filter, o->tap};
    if (g->k->access[from].rank == 4) {
        Buffer view = g->l->buffers.at[buf];
        view.name = arena_printf(g->l->arena, "%s.matrix", view.name);
        view.shape = shape_of(2, g->filters, shape_elements(&view.shape) / g->filters);
        view.layout = layout_plain(2);
        view.alias_of = buf;
        view.updates = view.value = 0;
        buf = kernels_add_buffer(g->l, &view);
    }
    return access_at(o->g, o->k, buf, axis);
}

static ExprId epilogue(const Output *o, ExprId from)
{
    const Gradient *g = o->g;
    if (!from || o->done[from])
        return from ? o->done[from] : 0;
    Expr x = g->k->expr[from];
    if (x.op == EX_LOAD)
        return o->done[from] = expr_load(g->l, o->k, matrix_access(o, x.at));
    x.a = epilogue(o, x.a);
    x.b = epilogue(o, x.b);
    x.c = epilogue(o, x.c);
    return o->done[from] = expr_add(g->l, o->k, x);
}

static Kernel *output_kernel(Gradient *g)
{
    Kernel *k = kernel_part(g->l, g->k->name, g->k);
    k->part = WINOGRAD_TURN;
    Output o = {.g = g, .k = k, .done = NEWN(g->l->arena, ExprId, g->k->n_expr)};
    o.filter = kernel_axis(k, AXIS_PAR, "k", g->filters, false);
    o.tap = kernel_axis(k, AXIS_PAR, "c", g->channels * g->form->r * g->form->r, false);
    const int axis[2] = {o.tap, o.filter};
    o.done[g->sum] = expr_load(g->l, k, access_at(g, k, g->taps, axis));
    for (int i = 0; i < g->k->n_out; i++) {
        ExprId value = epilogue(&o, g->k->out[i].value);
        kernel_out(k, matrix_access(&o, g->k->out[i].at), value);
    }
    cut_panels(g, k, o.tap, g->form->r * g->form->r);
    return k;
}

bool winograd_weight_gradient(KernelList *l, const NestTarget *t, const Kernel *k, bool images, double error, WinogradKernels *out)
{
    Gradient g = {.l = l, .t = t, .k = k, .images = images, .error = error};
    if (!winograd_recognise_gradient(&g) || !pays(&g))
        return false;
    make_buffers(&g);
    if (images)
        vec_push(l->arena, out, *rows_kernel(&g));
    vec_push(l->arena, out, *gradient_kernel(&g));
    vec_push(l->arena, out, *input_kernel(&g));
    vec_push(l->arena, out, *product_kernel(&g));
    vec_push(l->arena, out, *taps_kernel(&g));
    vec_push(l->arena, out, *output_kernel(&g));
    return true;
}
