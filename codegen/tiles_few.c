/* Convolutions of few channels and few filters in tile registers: neighbouring columns of the output share a row of a tile.
 * In: kernels whose images have one channel beside the other, [h][w][c], or will. Out: each such convolution as a product over flat
 * rows, with J columns q = J q' + j where it had one; a copy of what it reads where that has borders, or no pairs.
 *
 *   y'[n, p, q', (j, k)] = SUM[r, (t, c)](x'[n, (p s + r, J q' s + t, c)] * w'[(j, k), r, (t, c)])
 *   w'[(j, k), r, (t, c)] = w[k, c, r, t - j s]     0 where that is no tap
 *
 * One column of one point fills neither the columns of a tile (filters) nor its depth (channels); the window of J columns does, though
 * it multiplies by zeros as well: 10 filters of 3 x 3 taps over 10 channels are 30 columns and 50 values deep with J = 3. Rows of
 * tiles are windows: they lie side by side, and results lie in memory as they leave the tile. A last window may reach past the end of
 * its row, and columns of y past its last one are computed and never read: rows of y are whole groups.
 * Relies on: buffers of bf16 where precision_narrow wants them. Leaves: layouts that `choose` must keep (Kernel.own_layouts). */
#include "codegen/tiles.h"
#include "codegen/choose.h"
#include "codegen/flat.h"

#include <string.h>

enum { FEW_CHANNELS = 32, FEW_FILTERS = 2 * TILE_COLUMNS, MOST_CHANNELS = 256, MOST_GROUPED = 16, LEAST_POINTS = 64 };

typedef struct {
    const KernelList *l;
    const Kernel *k;
    Product product;
    AccessId y;
    int filter, p, q, c, r, t;    /* axes of k */
    int32_t down, across;         /* strides */
    int32_t channels;             /* of a point of x', an even number or one */
    int32_t width;                /* of x' */
    bool copied;                  /* x' is a copy of x */
    FewForm form;
} Few;

static int32_t divide_up(int32_t a, int32_t b) { return (a + b - 1) / b; }
static int32_t extent(const Few *f, int axis) { return f->k->axis[axis].extent; }
static int32_t groups(const Few *f, int columns) { return divide_up(extent(f, f->q), columns); }
static const Buffer *buffer_of(const Few *f, AccessId at) { return &f->l->buffers.at[f->k->access[at].buf]; }

/* ---- which kernels ---- */
/* Is f = step * a + b + offset? */
static bool is_window(const Affine *f, int n_axes, int a, int b)
{
    for (int i = 0; i < n_axes; i++)
        if (i != a && f->coef[i] != (i == b))
            return false;
    return f->coef[a] > 0 && !f->table && f->div <= 1;
}

static bool find_axes(Few *f)
{
    const Kernel *k = f->k;
    const Access *x = &k->access[f->product.x], *w = &k->access[f->product.w], *y = &k->access[f->y];
    if (x->rank != 4 || w->rank != 4 || y->rank != 4)
        return false;
    f->filter = affine_pure_axis(&y->dim[1], k->n_axes);
    f->p = affine_pure_axis(&y->dim[2], k->n_axes);
    f->q = affine_pure_axis(&y->dim[3], k->n_axes);
    f->c = affine_pure_axis(&w->dim[1], k->n_axes);
    f->r = affine_pure_axis(&w->dim[2], k->n_axes);
    f->t = affine_pure_axis(&w->dim[3], k->n_axes);
    if (f->filter < 0 || f->p < 0 || f->q < 0 || f->c < 0 || f->r < 0 || f->t < 0)
        return false;
    f->down = x->dim[2].coef[f->p];
    f->across = x->dim[3].coef[f->q];
    return affine_pure_axis(&w->dim[0], k->n_axes) == f->filter && affine_pure_axis(&x->dim[1], k->n_axes) == f->c &&
           is_window(&x->dim[2], k->n_axes, f->p, f->r) && is_window(&x->dim[3], k->n_axes, f->q, f->t);
}

/* Is every element of y written? It may be a part of a larger one. */
static bool writes_all(const Few *f)
{
    const Shape *y = &buffer_of(f, f->y)->shape;
    return y->dim[1] == extent(f, f->filter) && y->dim[2] == extent(f, f->p) && y->dim[3] == extent(f, f->q);
}

/* Are the weights, and all else that is read beside the image, constants of the filters? */
static bool constants_of_filters(const Few *f)
{
    for (AccessId at = 0; at < f->k->n_access; at++) {
        const Access *x = &f->k->access[at];
        const Buffer *b = buffer_of(f, at);
        if (at == f->product.x || at == f->y)
            continue;
        bool of_filters = at == f->product.w || (x->rank == 1 && affine_pure_axis(&x->dim[0], f->k->n_axes) == f->filter);
        if (b->kind != BUF_CONST || b->data || !of_filters)
            return false;
    }
    return true;
}

static bool plain_values(const Kernel *k)
{
    for (ExprId e = 1; e < k->n_expr; e++) {
        ExprOp op = k->expr[e].op;
        if (op == EX_INDEX || op == EX_ROWINDEX || op == EX_N)
            return false;
    }
    return true;
}

/* What does not fit as it is: fewer filters than a tile has columns, or than two have and few channels; and channels that cut into no
 * good depth, of which there are too many to be taken with the taps of a row (tiles_merge). */
static bool is_ragged(int32_t filters, int32_t channels)
{
    bool deep = channels % 2 == 0 && tiles_pairs(channels / 2) >= LEAST_PAIRS;
    if (filters < TILE_COLUMNS || (!deep && channels > FEW_CHANNELS / 2))
        return channels <= MOST_CHANNELS;
    return filters < FEW_FILTERS && channels <= FEW_CHANNELS && !(deep && filters == TILE_COLUMNS);
}

static bool has_few(const Few *f)
{
    return is_ragged(extent(f, f->filter), extent(f, f->c)) && extent(f, f->p) >= LEAST_ROWS && extent(f, f->p) * extent(f, f->q) >= LEAST_POINTS;
}

static bool find_few(const KernelList *l, const Kernel *k, Few *f)
{
    *f = (Few){.l = l, .k = k};
    if (k->part != WINOGRAD_NONE || k->n_strip || k->n_out != 1 || !product_find(k, &f->product))
        return false;
    if (l->buffers.at[k->access[f->product.x].buf].kind == BUF_CONST)
        product_turn(&f->product);
    f->y = k->out[0].at;
    const Buffer *y = buffer_of(f, f->y);
    return buffer_of(f, f->product.x)->batched && k->access[f->product.x].fill == 0 && y->kind == BUF_WORK && y->batched && !y->alias_of &&
           !y->strip_elements && find_axes(f) && writes_all(f) && has_few(f) && constants_of_filters(f) && plain_values(k);
}

/* ---- how many columns ---- */
/* Values of a window of J columns, as whole tiles of pairs. */
static int32_t depth_of(const Few *f, int columns)
{
    int32_t pairs = divide_up(((columns - 1) * f->across + extent(f, f->t)) * f->channels, 2);
    int32_t tiles = divide_up(pairs, TILE_PAIRS), each = divide_up(pairs, tiles);
    return 2 * tiles * (each < LEAST_PAIRS ? LEAST_PAIRS : each);
}

/* Values from the start of a row of x' to the end of its last window. */
static int32_t row_of_windows(const Few *f, int columns)
{
    return (groups(f, columns) - 1) * columns * f->across * f->channels + depth_of(f, columns);
}

static bool has_views(const KernelList *l, BufId b)
{
    for (uint32_t i = 1; i < l->buffers.len; i++)
        if (l->buffers.at[i].alias_of == b)
            return true;
    return false;
}

/* Windows start at whole pairs; those of an image that is no copy end within its rows; rows of y that is seen with another shape have no
 * columns beside its own. */
static bool can_group(const Few *f, int columns)
{
    bool own = extent(f, f->q) % columns && has_views(f->l, f->k->access[f->y].buf);
    return !own && columns * f->across * f->channels % 2 == 0 && (f->copied || row_of_windows(f, columns) <= f->width * f->channels);
}

/* Cycles of a step of two tiles of rows and `columns` of columns: its products, one product and the next on the same sums, or the loads. */
static double step_cycles(int32_t rows, int32_t pairs, int32_t columns)
{
    const double least = 10, latency = 52, row_load = 1.5, column_load = 0.5;
    double dot = rows > pairs ? rows : pairs, dots = 2 * columns * (dot > least ? dot : least);
    double loads = 2 * rows * row_load + columns * pairs * column_load, most = dots > loads ? dots : loads;
    return most > latency ? most : latency;
}

/* Cycles of an image, about, with tiles of rows along an axis that has so many indices: steps, then results, a vector at a time. */
static double cycles_along(const Few *f, int columns, int32_t rows, int32_t others)
{
    const double result = 4;
    int32_t tiles = divide_up(rows, TILE_ROWS), each = divide_up(rows, tiles), vectors = divide_up(columns * extent(f, f->filter), TILE_COLUMNS);
    int32_t pairs = depth_of(f, columns) / 2, turns = divide_up(pairs, TILE_PAIRS);
    double steps = vectors / 2 * step_cycles(each, pairs / turns, 2) + vectors % 2 * step_cycles(each, pairs / turns, 1);
    return 0.5 * others * tiles * extent(f, f->r) * turns * steps + (double)rows * others * vectors * result;
}

static double cycles(const Few *f, int columns)
{
    int32_t rows = extent(f, f->p), across = groups(f, columns);
    double down = cycles_along(f, columns, rows, across);
    return across >= LEAST_ROWS && cycles_along(f, columns, across, rows) < down ? cycles_along(f, columns, across, rows) : down;
}

/* 0: none can be. */
static int best_columns(const Few *f)
{
    int best = 0;
    for (int j = 1; j <= MOST_GROUPED && j <= extent(f, f->q); j++)
        if (can_group(f, j) && (!best || cycles(f, j) < cycles(f, best)))
            best = j;
    return best;
}

/* Can windows be read from x itself: pairs of bf16, no borders? */
static bool reads_as_it_is(const Few *f)
{
    const Access *x = &f->k->access[f->product.x];
    const Buffer *b = buffer_of(f, f->product.x);
    for (int d = 0; d < x->rank; d++)
        if (x->dim[d].guarded || x->dim[d].offset)
            return false;
    return b->kind == BUF_WORK && b->dtype == DT_BF16 && !b->alias_of && !b->strip_elements && b->shape.dim[1] % 2 == 0;
}

/* Of x itself, if a copy does not save more than it costs; sets f->copied. */
static int columns_of_either(Few *f)
{
    const double value = 0.3, worth = 1.2;   /* cycles to copy a value */
    f->copied = false;
    int columns = reads_as_it_is(f) ? best_columns(f) : 0;
    double direct = columns ? cycles(f, columns) : 0;
    f->copied = true;
    int of_copy = best_columns(f);
    double copied = of_copy ? cycles(f, of_copy) + value * f->width * f->channels * f->down * extent(f, f->p) : 0;
    f->copied = !columns || (of_copy && worth * copied < direct);
    return f->copied ? of_copy : columns;
}

static bool plan_columns(Few *f)
{
    f->channels = extent(f, f->c) == 1 ? 1 : divide_up(extent(f, f->c), 2) * 2;
    f->width = (int32_t)buffer_of(f, f->product.x)->shape.dim[3];
    int columns = columns_of_either(f);
    f->form = (FewForm){columns, f->across, f->channels, depth_of(f, columns)};
    if (f->copied)
        f->width = divide_up(row_of_windows(f, columns), 2 * f->channels) * 2;
    return columns > 0;
}

bool tiles_few_fit(const KernelList *l, const Kernel *k)
{
    Few f;
    return find_few(l, k, &f) && plan_columns(&f);
}

/* ---- the copy ---- */
/* What x is the rounded copy of; or x. */
static BufId before_rounding(const KernelList *l, BufId x)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        if (kernel_is_copy(k) && k->access[k->out[0].at].buf == x && l->buffers.at[k->access[k->expr[k->out[0].value].at].buf].kind == BUF_INPUT)
            return k->access[k->expr[k->out[0].value].at].buf;
    }
    return x;
}

/* x'[n, c, h, w]: [n][h][w][c], of the width and channels that windows need. */
static BufId copy_buffer(KernelList *l, const Few *f)
{
    Buffer b = *buffer_of(f, f->product.x);
    b.name = arena_printf(l->arena, "%s.windows", f->k->name);
    b.kind = BUF_WORK;
    b.dtype = DT_BF16;
    b.value = 0;
    b.alias_of = b.updates = 0;
    b.shape = shape_of(4, b.shape.dim[0], (int64_t)f->channels, (int64_t)(extent(f, f->p) - 1) * f->down + extent(f, f->r), (int64_t)f->width);
    b.layout = layout_innermost(4, 1);
    bool planes = l->buffers.at[before_rounding(l, f->k->access[f->product.x].buf)].kind == BUF_INPUT;
    b.layout.paired = b.paired = planes && f->channels > 1 ? 2 : 0;   /* written two at a time, columns in the lanes; else channels are */
    return kernels_add_buffer(l, &b);
}

/* Dim d of the copy is that of x from the first window on; 0 where x ends, or where its reader has a border. */
static void shift_dim(const Few *f, Affine *to, int d, int64_t wanted)
{
    const Affine *x = &f->k->access[f->product.x].dim[d];
    int32_t end = x->guarded ? x->hi : (int32_t)buffer_of(f, f->product.x)->shape.dim[d];
    to->offset = x->offset;
    if (x->guarded || x->offset + wanted > end)
        affine_guard(to, x->guarded ? x->lo : 0, end);
}

static Kernel *copy_kernel(KernelList *l, const Few *f, BufId to)
{
    static const char *const names[] = {"n", "c", "h", "w"};
    Kernel *k = kernel_part(l, l->buffers.at[to].name, f->k);
    const Shape shape = l->buffers.at[to].shape;
    AccessId in = kernel_access(l, k, before_rounding(l, f->k->access[f->product.x].buf)), out = kernel_access(l, k, to);
    for (int d = 0; d < 4; d++) {
        int axis = kernel_axis(k, AXIS_PAR, names[d], shape.dim[d], d == 0);
        affine_axis(access_dim(k, in, d), axis, 1);
        affine_axis(access_dim(k, out, d), axis, 1);
        shift_dim(f, access_dim(k, in, d), d, shape.dim[d]);
    }
    kernel_out(k, out, expr_load(l, k, in));
    return k;
}

/* ---- the product ---- */
/* Images of buffer `of` as flat rows [n][h w c]. */
static BufId flat_view(KernelList *l, BufId of)
{
    Buffer v = l->buffers.at[of];
    v.name = arena_printf(l->arena, "%s.flat", v.name);
    v.alias_of = of;
    v.value = 0;
    v.shape = shape_of(2, v.shape.dim[0], shape_elements(&v.shape) / v.shape.dim[0]);
    v.layout = layout_plain(2);
    v.paired = 0;
    return kernels_add_buffer(l, &v);
}

/* The constant for all columns of a group: [(j, k)], or [(j, k)][r][(t, c)] in the order tiles read. */
static BufId grouped_constant(KernelList *l, const Few *f, AccessId at)
{
    Buffer b = *buffer_of(f, at);
    int64_t columns = (int64_t)f->form.columns * extent(f, f->filter);
    b.name = arena_printf(l->arena, "%s.grouped", b.name);
    b.few = NEW(l->arena, FewForm);
    *b.few = f->form;
    b.shape = shape_of(1, columns);
    b.layout = layout_plain(1);
    if (at == f->product.w) {
        b.dtype = DT_BF16;
        b.shape = shape_of(3, columns, (int64_t)extent(f, f->r), (int64_t)f->form.depth);
        b.paired = 3;
        b.layout = layout_plain(3);
        b.layout.paired = b.paired;
    }
    b.layout.block_dim = 0;
    b.layout.lanes = TILE_COLUMNS;
    return kernels_add_buffer(l, &b);
}

/* Access `at` of k anew, to that buffer, every index 0. */
static Access *redirect(KernelList *l, Kernel *k, AccessId at, BufId to)
{
    AccessId fresh = kernel_access(l, k, to);
    k->access[at] = k->access[fresh];
    k->n_access--;
    return &k->access[at];
}

/* y'[n, p, q', (j, k)] in flat rows. */
static void write_groups(KernelList *l, Kernel *k, const Few *f)
{
    BufId y = k->access[f->y].buf;
    int batch = affine_unit_axis(&k->access[f->y].dim[0], k->n_axes);
    int32_t group = f->form.columns * extent(f, f->filter);
    l->buffers.at[y].shape.dim[3] = (int64_t)groups(f, f->form.columns) * f->form.columns;
    l->buffers.at[y].layout = layout_innermost(4, 1);
    Access *to = redirect(l, k, f->y, flat_view(l, y));
    affine_axis(&to->dim[0], batch, 1);
    affine_axis(&to->dim[1], f->p, groups(f, f->form.columns) * group);
    affine_axis(&to->dim[1], f->q, group);
    affine_axis(&to->dim[1], f->filter, 1);
}

static void read_windows(KernelList *l, Kernel *k, const Few *f, BufId x)
{
    int batch = affine_unit_axis(&k->access[f->product.x].dim[0], k->n_axes);
    if (!f->copied)
        l->buffers.at[x].layout = layout_innermost(4, 1);
    Access *from = redirect(l, k, f->product.x, flat_view(l, x));
    affine_axis(&from->dim[0], batch, 1);
    affine_axis(&from->dim[1], f->p, f->down * f->width * f->channels);
    affine_axis(&from->dim[1], f->q, f->form.columns * f->across * f->channels);
    affine_axis(&from->dim[1], f->r, f->width * f->channels);
    affine_axis(&from->dim[1], f->t, 1);
}

static void read_constants(KernelList *l, Kernel *k, const Few *f)
{
    for (AccessId at = 0; at < k->n_access; at++) {
        if (at == f->product.x || at == f->y)
            continue;
        Access *to = redirect(l, k, at, grouped_constant(l, f, at));
        affine_axis(&to->dim[0], f->filter, 1);
        if (at == f->product.w) {
            affine_axis(&to->dim[1], f->r, 1);
            affine_axis(&to->dim[2], f->t, 1);
        }
    }
}

/* k becomes the product. x: what it reads, with the channels of a point side by side. */
static void group_columns(KernelList *l, Kernel *k, const Few *f, BufId x)
{
    int32_t filters = f->form.columns * extent(f, f->filter), across = groups(f, f->form.columns);
    read_windows(l, k, f, x);
    write_groups(l, k, f);
    read_constants(l, k, f);
    flat_axes(k, f->c, f->t);
    k->axis[f->t].extent = f->form.depth;
    k->axis[f->filter].extent = filters;
    k->axis[f->q].extent = across;
    k->own_layouts = true;
}

/* ---- the pass ---- */
static bool is_read(const KernelList *l, BufId b)
{
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (AccessId at = 0; at < l->kernels.at[i].n_access; at++)
            if (!kernel_writes(&l->kernels.at[i], at) && buffer_root(l, l->kernels.at[i].access[at].buf) == b)
                return true;
    return false;
}

/* Rounded inputs that are copied in another way now. */
static void drop_unread_copies(KernelList *l)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        BufId to = k->access[k->out[0].at].buf;
        if (!kernel_is_copy(k) || l->buffers.at[to].kind != BUF_WORK || l->buffers.at[to].dtype != DT_BF16 || is_read(l, to))
            l->kernels.at[left++] = *k;
    }
    l->kernels.len = left;
}

void tiles_few(KernelList *l)
{
    Vec(Kernel) out = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i];
        Few f;
        if (find_few(l, k, &f) && plan_columns(&f)) {
            BufId x = k->access[f.product.x].buf;
            if (f.copied) {
                x = copy_buffer(l, &f);
                vec_push(l->arena, &out, *copy_kernel(l, &f, x));
            }
            group_columns(l, k, &f, x);
        }
        vec_push(l->arena, &out, *k);
    }
    l->kernels.at = out.at;
    l->kernels.len = out.len;
    l->kernels.cap = out.cap;
    drop_unread_copies(l);
}

/* ---- constants ---- */
void tiles_few_weights(const FewForm *f, const double *w, const Shape *of, double *to)
{
    int64_t filters = of->dim[0], channels = of->dim[1], rows = of->dim[2], taps = of->dim[3];
    for (int64_t m = 0; m < f->columns * filters; m++)
        for (int64_t r = 0; r < rows && of->rank > 1; r++)
            for (int64_t i = 0; i < f->depth; i++) {
                int64_t t = i / f->channels - m / filters * f->stride, c = i % f->channels;
                bool tap = t >= 0 && t < taps && c < channels;
                to[(m * rows + r) * f->depth + i] = tap ? w[((m % filters * channels + c) * rows + r) * taps + t] : 0;
            }
    for (int64_t m = 0; m < f->columns * filters && of->rank == 1; m++)
        to[m] = w[m % filters];
}
