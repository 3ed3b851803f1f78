/* Winograd convolutions (Lavin and Gray 2016; the construction of Toom and Cook).
 * In: kernels of an inference function over plain buffers. Out: each chosen r x r convolution as F(m x m, r x r), a = m + r - 1:
 *
 *   input     V[n, z, x, c, t]     = (B' d B)[x]     d: the a x a inputs of tile t of strip z, 0 outside the image
 *   product   M[n, z, x, k, t]     = SUM[c](V * U)   one product per point x of a^2
 *   output    y[n, k, m*th+i, m*tw+j] = epilogue((A' M A)[i, j])
 *
 * by the transforms of codegen/winograd_rows.c. A strip is a few rows of tiles: tile (th, tw) is t = th % rows * TW + tw of strip
 * z = th / rows. A slice is a strip of one large image, so that V and M stay in L2, or several small images, so that a panel of
 * weights is read for many tiles. One small image runs the three kernels one after the other, each cut its own way.
 * Whether a convolution pays, and by which form, is winograd_cost.c's to say. */
#include "codegen/winograd_impl.h"
#include "codegen/tiles.h"

#include <string.h>

enum { STRIP_TILES = 28, FEWEST_TILES = 12, WHOLE_TILES = 49, GROUP_TILES = 96, IMAGE_TILES = 8 };
typedef WinogradConv Wino;

/* ---- slices ---- */
/* The largest divisor of th, at most `rows`, whose strips have about so many tiles. */
static int64_t strip_rows(const Wino *w, int64_t rows, int64_t tiles)
{
    while (rows > 1 && (rows * w->tw > tiles || w->th % rows))
        rows--;
    return rows;
}

/* Few strips of an odd number, as the seven of a 56x56 plane, leave one of two threads idle for a while: half as large ones are as
 * fast, unless they would have too few tiles for a panel of filters. */
static int64_t even_rows(const Wino *w, int64_t rows)
{
    enum { FEW = 16 };
    int64_t strips = w->batch * (w->th / rows), smaller = strip_rows(w, rows - 1, STRIP_TILES);
    return rows > 1 && strips < FEW && strips % 2 && smaller * w->tw >= FEWEST_TILES ? smaller : rows;
}

/* Tiles for which a panel of weights is read: many where it comes from afar, fewer where it is near, so that V and M stay nearer, too. */
static int64_t group_tiles(const Wino *w)
{
    bool near = 4 * w->a * w->a * w->channels * w->filters <= w->t->l3 / 8;
    return GROUP_TILES / (near ? 2 : 1) / (w->stride * w->stride);
}

/* Channels in the lanes: rows and images of a slice; strip: tiles of a strip, about, or 0. */
static void cut(Wino *w, int64_t strip)
{
    int64_t tiles = w->th * w->tw;
    w->rows = w->th;
    w->group = 1;
    if (w->images) {
        w->rows = 1;
    } else if (tiles > WHOLE_TILES) {
        w->rows = strip ? strip_rows(w, w->th, strip) : even_rows(w, strip_rows(w, w->th, STRIP_TILES));
    } else {
        int64_t group = group_tiles(w), most = (group + tiles - 1) / tiles, slices = (w->batch + most - 1) / most;
        w->group = (w->batch + slices - 1) / slices;
    }
}

/* A single slice of all images would be one thread's: its kernels are cut on their own instead, along channels, filters or points. */
static bool in_slices(const Wino *w) { return w->images || w->group < w->batch || w->rows < w->th; }

/* ---- buffers ---- */
/* Tiles across of one slice of images. */
static int64_t strip_tiles(const Wino *w) { return w->tw < IMAGE_TILES ? w->tw : IMAGE_TILES; }

/* V or M. Channels in the lanes: [n, z, x, c, t], blocks along c. Images in the lanes: [n, th, tw, x, c]. A transform reads or writes
 * all points of a tile at once: their stride is odd, since powers of two would meet in one set of L1. */
static BufId tile_buffer(Wino *w, const char *suffix, int64_t channels)
{
    int64_t points = (int64_t)w->a * w->a;
    Buffer b = {.kind = BUF_WORK, .dtype = DT_F32, .batched = w->images};
    b.name = arena_printf(w->l->arena, "%s.%s", w->k->name, suffix);
    b.layout = layout_plain(5);
    b.layout.odd = 1 + (w->images ? 3 : 2);
    if (w->images) {   /* `choose` blocks it over the batch */
        b.shape = shape_of(5, w->batch, w->th, w->tw, points, channels);
        b.strip_elements = w->t->lanes * strip_tiles(w) * points * (channels | 1);
    } else {
        b.shape = shape_of(5, w->batch, w->th / w->rows, points, channels, w->rows * w->tw);
        b.strip_elements = w->group * points * w->t->lanes * ((channels + w->t->lanes - 1) / w->t->lanes * w->rows * w->tw | 1);
        b.layout.block_dim = 3;
        b.layout.lanes = (uint8_t)w->t->lanes;
    }
    return kernels_add_buffer(w->l, &b);
}

static void make_buffers(Wino *w)
{
    w->v = tile_buffer(w, "V", w->channels);
    if (w->narrow)
        w->l->buffers.at[w->v].dtype = DT_BF16;   /* channels in a block are pairs as they lie */
    w->prod = tile_buffer(w, "M", w->filters);
    Buffer u = w->l->buffers.at[w->k->access[w->w].buf];
    u.name = arena_printf(w->l->arena, "%s.U", w->k->name);
    u.shape = shape_of(3, (int64_t)w->a * w->a, w->filters, w->channels);
    u.layout = layout_plain(3);
    u.updates = 0;
    if (u.kind == BUF_CONST) {
        u.winograd = w->form;
        u.stride = w->stride;
    } else {
        u.kind = BUF_WORK;
        u.value = 0;
    }
    if (!w->images) {
        u.layout.block_dim = 1;
        u.layout.lanes = (uint8_t)w->t->lanes;
    }
    if (w->narrow) {
        u.dtype = DT_BF16;
        u.layout.paired = u.paired = 3;   /* along the channels */
    }
    w->u = kernels_add_buffer(w->l, &u);
}

/* ---- the kernels ---- */
typedef WinogradAxes Axes;

static Axes start(Wino *w, WinogradPart part, const char *suffix)
{
    Axes a = {.k = kernel_part(w->l, arena_printf(w->l->arena, "%s.%s", w->k->name, suffix), w->k)};
    a.k->part = part;
    a.n = kernel_axis(a.k, AXIS_PAR, "n", w->batch, w->k->axis[w->n].batch);
    a.z = kernel_axis(a.k, AXIS_PAR, "z", w->th / w->rows, false);
    if (part == WINOGRAD_PRODUCT && !w->images) {
        a.t = kernel_axis(a.k, AXIS_PAR, "t", w->rows * w->tw, false);
    } else {
        a.i = kernel_axis(a.k, AXIS_PAR, "i", w->rows, false);
        a.tw = kernel_axis(a.k, AXIS_PAR, "u", w->tw, false);
    }
    a.c = kernel_axis(a.k, AXIS_PAR, part == WINOGRAD_INPUT ? "c" : "k", part == WINOGRAD_INPUT ? w->channels : w->filters, false);
    if (in_slices(w)) {
        kernel_cut_along(a.k, a.n, w->images ? w->t->lanes : w->group);
        kernel_cut_along(a.k, a.z, 1);
    }
    if (w->images)
        kernel_cut_along(a.k, a.tw, strip_tiles(w));
    return a;
}

/* The row of tiles, coef times. */
static void add_tile_row(const Wino *w, const Axes *a, Affine *f, int64_t coef)
{
    affine_axis(f, a->z, (int32_t)(coef * w->rows));
    if (a->i >= 0)
        affine_axis(f, a->i, (int32_t)coef);
}

/* A tile buffer at the axes' tile, point x (an axis, or the constant when axis < 0) and a channel axis. */
static AccessId tile_access(Wino *w, const Axes *a, BufId b, int x_axis, int x_const, int channel)
{
    AccessId at = kernel_access(w->l, a->k, b);
    int point_dim = w->images ? 3 : 2, channel_dim = w->images ? 4 : 3;
    affine_axis(access_dim(a->k, at, 0), a->n, 1);
    if (w->images)
        add_tile_row(w, a, access_dim(a->k, at, 1), 1);
    else
        affine_axis(access_dim(a->k, at, 1), a->z, 1);
    if (x_axis >= 0)
        affine_axis(access_dim(a->k, at, point_dim), x_axis, 1);
    else
        access_dim(a->k, at, point_dim)->offset = x_const;
    affine_axis(access_dim(a->k, at, channel_dim), channel, 1);
    if (w->images) {
        affine_axis(access_dim(a->k, at, 2), a->tw, 1);
    } else if (a->k->part == WINOGRAD_PRODUCT) {
        affine_axis(access_dim(a->k, at, 4), a->t, 1);
    } else {
        affine_axis(access_dim(a->k, at, 4), a->i, (int32_t)w->tw);
        affine_axis(access_dim(a->k, at, 4), a->tw, 1);
    }
    return at;
}

static Kernel *input_kernel(Wino *w)
{
    Axes a = start(w, WINOGRAD_INPUT, "input");
    if (w->l->buffers.at[w->u].kind == BUF_WORK)
        a.k->after = w->u;   /* so that all three can share a stage */
    const Access *x = &w->k->access[w->x];
    const Shape *xs = &w->l->buffers.at[x->buf].shape;
    int order[MAX_A * MAX_A];
    ExprId d[MAX_A * MAX_A], out[MAX_A * MAX_A];
    for (int i = 0; i < w->a * w->a; i++) {
        AccessId at = kernel_access(w->l, a.k, x->buf);
        affine_axis(access_dim(a.k, at, 0), a.n, 1);
        affine_axis(access_dim(a.k, at, 1), a.c, 1);
        const int64_t pad[2] = {w->pad_h, w->pad_w};
        const int at_tile[2] = {i / w->a, i % w->a};
        add_tile_row(w, &a, access_dim(a.k, at, 2), w->m);
        affine_axis(access_dim(a.k, at, 3), a.tw, w->m);
        for (int dim = 0; dim < 2; dim++) {
            Affine *f = access_dim(a.k, at, 2 + dim);
            f->offset = (int32_t)(at_tile[dim] - pad[dim]);
            affine_guard(f, 0, (int32_t)xs->dim[2 + dim]);
        }
        d[i] = expr_load(w->l, a.k, at);
    }
    winograd_input_square(w->l, a.k, w->form, d, out, order);
    for (int i = 0; i < w->a * w->a; i++)
        kernel_out(a.k, tile_access(w, &a, w->v, -1, order[i], a.c), out[order[i]]);
    return a.k;
}

/* Points (first_row .. + rows) x (first_column .. + columns), where the channels of `range` alone are not zero. */
typedef struct { const char *name; int first_row, rows, first_column, columns; WinogradRange range; } Points;

static void add_points(const Wino *w, const Points *p, Affine *f, int row, int column)
{
    f->offset = p->first_row * w->a + p->first_column;
    if (row >= 0)
        affine_axis(f, row, w->a);
    if (column >= 0)
        affine_axis(f, column, 1);
}

static Kernel *product_kernel(Wino *w, const Points *p)
{
    Axes a = start(w, WINOGRAD_PRODUCT, p->name);
    bool all = p->rows == w->a && p->columns == w->a;   /* one axis */
    int x = kernel_axis(a.k, AXIS_PAR, "x", all ? w->a * w->a : p->columns, false),
        row = all || p->rows == 1 ? -1 : kernel_axis(a.k, AXIS_PAR, "xr", p->rows, false);
    int c = kernel_axis(a.k, AXIS_RED, "c", p->range.count, false);
    AccessId v = tile_access(w, &a, w->v, -1, 0, c), u = kernel_access(w->l, a.k, w->u);
    add_points(w, p, access_dim(a.k, v, w->images ? 3 : 2), row, x);
    add_points(w, p, access_dim(a.k, u, 0), row, x);
    affine_axis(access_dim(a.k, u, 1), a.c, 1);
    affine_axis(access_dim(a.k, u, 2), c, 1);
    access_dim(a.k, v, w->images ? 4 : 3)->offset = access_dim(a.k, u, 2)->offset = (int32_t)p->range.first;
    ExprId product = expr_op(w->l, a.k, EX_MUL, expr_load(w->l, a.k, v), expr_load(w->l, a.k, u), 0);
    ExprId sum = expr_reduce(w->l, a.k, EX_SUM, product, 0, 1u << c);
    AccessId to = tile_access(w, &a, w->prod, -1, 0, a.c);
    add_points(w, p, access_dim(a.k, to, w->images ? 3 : 2), row, x);
    kernel_out(a.k, to, sum);
    double all_products = (double)(w->a * w->a) * (double)w->channels;
    a.k->macs = w->k->macs * p->rows * p->columns * (double)p->range.count / all_products;   /* of what the layer stands for, so that rates are of the direct convolution */
    return a.k;
}

/* One product; of phases with fewer taps than others, one for each set of points where the same ones are zero. */
static void products(Wino *w, WinogradKernels *out)
{
    int a = w->a, inner = a - 1;
    const WinogradRange every = {0, w->channels}, corner = w->stride > 1 ? winograd_full_phases(w, true, true) : every;
    if (corner.count == w->channels) {
        vec_push(w->l->arena, out, *product_kernel(w, &(Points){"product", 0, a, 0, a, every}));
        return;
    }
    const Points parts[] = {
        {"product", 0, inner, 0, inner, every},
        {"product_bottom", inner, 1, 0, inner, winograd_full_phases(w, true, false)},
        {"product_right", 0, inner, inner, 1, winograd_full_phases(w, false, true)},
        {"product_corner", inner, 1, inner, 1, corner},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        vec_push(w->l->arena, out, *product_kernel(w, &parts[i]));
}

/* Columns from a tile to the next. */
static int across(const Wino *w) { return w->form->rows ? 1 : w->m; }

/* Index along a dim of the direct kernel, seen from output (i, j) of a tile. */
static Affine tile_affine(const Wino *w, const Axes *a, const Affine *f, int i, int j)
{
    Affine g = *f;
    memset(g.coef, 0, sizeof g.coef);
    g.coef[a->n] = f->coef[w->n];
    g.coef[a->c] = f->coef[w->kk];
    add_tile_row(w, a, &g, f->coef[w->p] * w->m);
    g.coef[a->tw] = f->coef[w->q] * across(w);
    g.offset += f->coef[w->p] * i + f->coef[w->q] * j;
    return g;
}

AccessId winograd_access(WinogradConv *w, const WinogradAxes *a, AccessId from, int i, int j)
{
    const Access *x = &w->k->access[from];
    AccessId at = kernel_access(w->l, a->k, x->buf);
    a->k->access[at].fill = x->fill;
    for (int d = 0; d < x->rank; d++) {
        Affine f = tile_affine(w, a, &w->k->access[from].dim[d], i, j);
        if ((f.coef[a->z] && w->height % w->m) || (f.coef[a->tw] && w->width % across(w)))
            affine_guard(&f, 0, (int32_t)w->l->buffers.at[w->k->access[from].buf].shape.dim[d]);
        a->k->access[at].dim[d] = f;
    }
    return at;
}

/* The direct kernel's epilogue with the sum replaced. */
static ExprId epilogue(Wino *w, const Axes *a, ExprId e, ExprId value, int i, int j, ExprId *done)
{
    if (!e)
        return 0;
    if (e == w->sum)
        return value;
    if (done[e])
        return done[e];
    Expr x = w->k->expr[e];
    if (x.op == EX_LOAD)
        return done[e] = expr_load(w->l, a->k, winograd_access(w, a, x.at, i, j));
    x.a = epilogue(w, a, x.a, value, i, j, done);
    x.b = epilogue(w, a, x.b, value, i, j, done);
    x.c = epilogue(w, a, x.c, value, i, j, done);
    return done[e] = expr_add(w->l, a->k, x);
}

void winograd_output(WinogradConv *w, const WinogradAxes *a, ExprId value, int i, int j)
{
    ExprId v = epilogue(w, a, w->k->out[0].value, value, i, j, NEWN(w->l->arena, ExprId, w->k->n_expr));
    kernel_out(a->k, winograd_access(w, a, w->k->out[0].at, i, j), v);
}

static Kernel *output_kernel(Wino *w)
{
    Axes a = start(w, WINOGRAD_OUTPUT, "output");
    int order[MAX_A * MAX_A];
    ExprId s[MAX_A * MAX_A], y[MAX_A * MAX_A];
    for (int i = 0; i < w->a * w->a; i++)
        s[i] = expr_load(w->l, a.k, tile_access(w, &a, w->prod, -1, i, a.c));
    winograd_output_square(w->l, a.k, w->form, s, y, order);
    for (int t = 0; t < w->m * w->m; t++) {
        int i = order[t];
        winograd_output(w, &a, y[i], i / w->m, i % w->m);
    }
    return a.k;
}

/* Only loads, arithmetic and the sum: an index or a table would need more than a shifted access. */
static bool plain_epilogue(const Wino *w)
{
    const Kernel *k = w->k;
    for (ExprId e = 1; e < k->n_expr; e++) {
        ExprOp op = k->expr[e].op;
        if (op == EX_INDEX || op == EX_ROWINDEX || op == EX_N || op == EX_ARGMAX || op == EX_MAX_OVER || (op == EX_SUM && e != w->sum))
            return false;
    }
    for (AccessId at = 0; at < k->n_access; at++)
        for (int d = 0; d < k->access[at].rank; d++)
            if (k->access[at].dim[d].table || (at != w->x && k->access[at].dim[d].guarded))
                return false;
    return true;
}

static bool wants_direct(const Choices *c, int i) { return i < 64 && c->direct >> i & 1; }

int winograd(KernelList *l, const NestTarget *t, bool images, double error, const Choices *choices)
{
    int possible = 0;
    WinogradKernels out = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        if (winograd_weight_gradient(l, t, &k, images, error, &out))
            continue;
        Wino w = {.l = l, .t = t, .k = &k, .images = images, .error = error};
        if ((t->tiles && tiles_few_fit(l, &k)) || !winograd_recognise(&w) || !plain_epilogue(&w) || !(winograd_rows_pay(&w) || winograd_pays(&w)) ||
            wants_direct(choices, possible++)) {
            vec_push(l->arena, &out, k);
            continue;
        }
        if (w.form->rows) {
            winograd_along_rows(&w, &out);
            continue;
        }
        if (w.stride > 1)
            winograd_over_phases(&w, &out);
        cut(&w, choices->strip);
        make_buffers(&w);
        if (l->buffers.at[w.u].kind == BUF_WORK)
            vec_push(l->arena, &out, *winograd_weights_kernel(&w));
        vec_push(l->arena, &out, *input_kernel(&w));
        products(&w, &out);
        vec_push(l->arena, &out, *output_kernel(&w));
    }
    l->kernels.at = out.at;
    l->kernels.len = out.len;
    l->kernels.cap = out.cap;
    return possible;
}
