/* Sums over everything but the channel, made where their values are made.
 * In: a kernel list whose layouts are known. Out: the same list; BatchNorm's sums read what tiles or slices have left of them.
 *
 *     stats   m = SUM(x) / n,  SUM((x - m)^2)                  two sweeps as they stand: the second needs the mean
 *     sums    SUM(dy),  SUM(dy * (x - mean))
 *
 * When a product of matrices makes x (or dy), each of its tiles leaves the sums over its points (contract_sums.c): nothing is read
 * again. Otherwise the statistics of many points are made in one sweep, by slices of the batch, and where channels lie innermost so are
 * other sums, also by pieces of a sample. Either way a part has its own mean,
 * and the sum of squared distances from it, so that nothing is lost when the mean is far larger than the deviation; parts t of n_t points
 * are then added in order:
 *
 *     SUM((x - m)^2) = SUM[t](squares_t + (sum_t - n_t * m)^2 / n_t) */
#include "codegen/gpu/code.h"
#include "codegen/choose.h"

#include <string.h>

typedef struct {
    KernelList *l;              /* the kernels so far */
    Arena *a;
    const GpuPlan *p;
    const Kernel *k;            /* the sums */
    int channel;
    ExprId sum[MAX_TILE_SUMS]; int n;
    bool moments;               /* sum[1] is of the squared distances from sum[0]'s mean */
    BufId part[MAX_TILE_SUMS];
    bool parts_by_channel;      /* [channel][part], else [part][channel] */
    int64_t parts, points;      /* parts, points of each but the last */
} Sums;

/* ---- what is a sum over all but the channel ---- */
bool kernel_needs(const Kernel *k, ExprId e, ExprId what)
{
    const Expr *x = &k->expr[e];
    if (e <= what)
        return e == what;
    return (x->a && kernel_needs(k, x->a, what)) || (x->b && kernel_needs(k, x->b, what)) || (x->c && kernel_needs(k, x->c, what));
}

bool sums_are_moments(const Kernel *k, ExprId first, ExprId second)
{
    const Expr *square = &k->expr[k->expr[second].a], *off = &k->expr[square->a], *mean = &k->expr[off->b];
    return square->op == EX_MUL && square->a == square->b && off->op == EX_SUB && off->a == k->expr[first].a && mean->op == EX_DIV && mean->a == first &&
           !(k->expr[mean->b].free_axes & k->expr[first].axes);
}

static bool find_sums(Sums *s)
{
    const Kernel *k = s->k;
    const uint32_t out = out_axes(k, 0), all = (1u << k->n_axes) - 1;
    s->n = 0;
    for (int o = 0; o < k->n_out; o++)
        if (out_axes(k, o) != out)
            return false;
    if (__builtin_popcount(out) != 1 || k->n_tile_sums)
        return false;
    s->channel = __builtin_ctz(out);
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *x = &k->expr[e];
        if (x->op == EX_MAX_OVER || x->op == EX_ARGMAX || x->op == EX_ROWINDEX || x->op == EX_INDEX || x->op == EX_DOT)
            return false;
        if (x->op != EX_SUM)
            continue;
        if (s->n == MAX_TILE_SUMS || x->axes != (all ^ out))
            return false;
        s->sum[s->n++] = e;
    }
    bool nested = s->n == 2 && kernel_needs(k, k->expr[s->sum[1]].a, s->sum[0]);
    s->moments = nested && sums_are_moments(k, s->sum[0], s->sum[1]);
    return s->n > 0 && nested == s->moments && !k->axis[s->channel].batch;
}

/* Points of a channel and sample. */
static int64_t inner_points(const Sums *s)
{
    int64_t n = 1;
    for (int a = 0; a < s->k->n_axes; a++)
        n *= a == s->channel || s->k->axis[a].batch ? 1 : s->k->axis[a].extent;
    return n;
}

/* ---- copying values ---- */
/* To a kernel whose axes are others. of_load: a load of `from` has this value there. */
typedef struct {
    Sums *s;
    Kernel *to;
    int8_t axis[MAX_AXIS];
    int32_t samples;            /* > 0: axis 0 is slices of so many, the batch's index begins at the slice's first */
    int cut, piece; int32_t length;   /* axis `cut` of the sums begins at so many of it for each of axis `piece`; -1: it does not */
    BufId from; ExprId of_load;
    ExprId *done;
} Copy;

static Copy copy_to(Sums *s, Kernel *to)
{
    Copy c = {.s = s, .to = to, .cut = -1, .done = NEWN(s->a, ExprId, s->k->n_expr)};
    memset(c.axis, -1, sizeof c.axis);
    return c;
}

static AccessId copied_access(Copy *c, AccessId at)
{
    AccessId id = kernel_access(c->s->l, c->to, c->s->k->access[at].buf);
    const Access *from = &c->s->k->access[at];
    c->to->access[id].fill = from->fill;
    for (int d = 0; d < from->rank; d++) {
        Affine f = from->dim[d];
        memset(f.coef, 0, sizeof f.coef);
        for (int a = 0; a < c->s->k->n_axes; a++) {
            if (from->dim[d].coef[a])
                f.coef[c->axis[a]] += from->dim[d].coef[a];
            if (c->samples && c->s->k->axis[a].batch)
                f.coef[0] += from->dim[d].coef[a] * c->samples;
            if (a == c->cut)
                f.coef[c->piece] += from->dim[d].coef[a] * c->length;
        }
        c->to->access[id].dim[d] = f;
    }
    return id;
}

static ExprId copied(Copy *c, ExprId e)
{
    if (!e || c->done[e])
        return e ? c->done[e] : 0;
    const Expr *x = &c->s->k->expr[e];
    ExprId out;
    if (x->op == EX_LOAD && c->of_load && c->s->k->access[x->at].buf == c->from) {
        out = c->of_load;
    } else if (x->op == EX_LOAD) {
        out = expr_load(c->s->l, c->to, copied_access(c, x->at));
    } else {
        Expr y = *x;
        y.a = copied(c, x->a);
        y.b = copied(c, x->b);
        y.c = copied(c, x->c);
        y.axes = 0;
        for (int a = 0; a < c->s->k->n_axes; a++)
            y.axes |= x->axes >> a & 1 ? 1u << c->axis[a] : 0;
        out = expr_add(c->s->l, c->to, y);
    }
    c->done[e] = out;
    return out;
}

/* ---- parts ---- */
static BufId part_buffer(Sums *s, int i)
{
    Buffer b = {.kind = BUF_WORK, .dtype = DT_F32, .name = arena_printf(s->a, "%s.part%d", s->k->name, i + 1), .shape = {.rank = 2}};
    b.shape.dim[s->parts_by_channel ? 0 : 1] = s->k->axis[s->channel].extent;
    b.shape.dim[s->parts_by_channel ? 1 : 0] = s->parts;
    b.layout = layout_plain(2);
    return kernels_add_buffer(s->l, &b);
}

/* The element of part buffer i at a channel and, unless part < 0, a part. */
static AccessId part_access(const Sums *s, Kernel *k, int i, int channel, int part)
{
    AccessId at = kernel_access(s->l, k, s->part[i]);
    affine_axis(access_dim(k, at, s->parts_by_channel ? 0 : 1), channel, 1);
    if (part >= 0)
        affine_axis(access_dim(k, at, s->parts_by_channel ? 1 : 0), part, 1);
    return at;
}

static ExprId index_of(const Sums *s, Kernel *k, int axis) { return expr_add(s->l, k, (Expr){.op = EX_INDEX, .axis = (int8_t)axis}); }

/* min(n * inner - t * points, points) of part t, as a float; not above zero when the part has no points. */
static ExprId points_of_part(const Sums *s, Kernel *k, ExprId t, int64_t inner, int64_t points)
{
    ExprId n = expr_add(s->l, k, (Expr){.op = EX_N});
    ExprId all = expr_op(s->l, k, EX_IMUL, n, expr_iconst(s->l, k, (int32_t)inner), 0);
    ExprId before = expr_op(s->l, k, EX_IMUL, t, expr_iconst(s->l, k, (int32_t)-points), 0);
    ExprId left = expr_op(s->l, k, EX_TOFLOAT, expr_op(s->l, k, EX_IADD, all, before, 0), 0, 0);
    return expr_op(s->l, k, EX_MIN, left, expr_const(s->l, k, (double)points), 0);
}

/* What is left of the kernel: parts are added in order. */
static Kernel *adding_kernel(Sums *s)
{
    KernelList *l = s->l;
    Kernel *to = kernel_part(l, s->k->name, s->k);
    Copy c = copy_to(s, to);
    int channel = kernel_axis(to, AXIS_PAR, s->k->axis[s->channel].name, s->k->axis[s->channel].extent, false);
    int part = kernel_axis(to, AXIS_RED, "t", s->parts, false);
    c.axis[s->channel] = (int8_t)channel;
    ExprId points = points_of_part(s, to, index_of(s, to, part), inner_points(s), s->points), zero = expr_const(l, to, 0);
    ExprId any = expr_op(l, to, EX_GT, points, zero, 0), value[MAX_TILE_SUMS];
    for (int i = 0; i < s->n; i++) {
        value[i] = expr_load(l, to, part_access(s, to, i, channel, part));
        if (s->moments && i == 1) {
            ExprId mean = copied(&c, s->k->expr[s->k->expr[s->k->expr[s->sum[1]].a].a].b);
            ExprId off = expr_op(l, to, EX_SUB, value[0], expr_op(l, to, EX_MUL, points, mean, 0), 0);
            value[1] = expr_op(l, to, EX_ADD, value[1], expr_op(l, to, EX_DIV, expr_op(l, to, EX_MUL, off, off, 0), points, 0), 0);
        }
        c.done[s->sum[i]] = expr_reduce(l, to, EX_SUM, expr_op(l, to, EX_SEL, any, value[i], zero), 0, 1u << part);
    }
    for (int o = 0; o < s->k->n_out; o++) {
        ExprId v = copied(&c, s->k->out[o].value);
        kernel_out(to, copied_access(&c, s->k->out[o].at), v);
    }
    return to;
}

/* ---- in tiles ---- */
/* The only kernel that writes the whole buffer, each of its dims by an axis of its own; -1: none. */
static int maker_of(const KernelList *l, BufId b)
{
    const BufId root = buffer_root(l, b);
    int found = -1;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (int at = 0; at < l->kernels.at[i].n_access; at++) {
            const Kernel *k = &l->kernels.at[i];
            if (buffer_root(l, k->access[at].buf) != root || !kernel_writes(k, (AccessId)at))
                continue;
            if (found >= 0 || k->access[at].buf != b)
                return -1;
            found = (int)i;
        }
    return found;
}

static int out_to(const Kernel *k, BufId b)
{
    for (int o = 0; o < k->n_out; o++)
        if (k->access[k->out[o].at].buf == b)
            return o;
    return -1;
}

/* All that the sums read, but b, is there before kernel `maker` runs. */
static bool is_there(const Sums *s, BufId b, int maker)
{
    for (ExprId e = 1; e < s->k->n_expr; e++) {
        const Expr *x = &s->k->expr[e];
        bool inside = false;
        for (int i = 0; i < s->n; i++)
            inside = inside || kernel_needs(s->k, s->k->expr[s->sum[i]].a, e);
        if (!inside || x->op != EX_LOAD || s->k->access[x->at].buf == b)
            continue;
        const Buffer *read = &s->l->buffers.at[s->k->access[x->at].buf];
        int made = maker_of(s->l, s->k->access[x->at].buf);
        if (read->kind != BUF_CONST && (read->kind != BUF_WORK || made < 0 || made >= maker))
            return false;
        for (int d = 0; d < s->k->access[x->at].rank; d++)
            if (s->k->access[x->at].dim[d].table)
                return false;
    }
    return true;
}

static bool is_only_axis(const AxisGroup *g, int axis) { return g->n == 1 && g->axis[0] == axis; }

/* The axes of the sums as those of the kernel that makes what load `at` reads. */
static bool map_axes(Copy *c, AccessId at, const Access *made)
{
    const Access *read = &c->s->k->access[at];
    for (int d = 0; d < read->rank; d++) {
        int here = affine_pure_axis(&read->dim[d], c->s->k->n_axes), there = affine_pure_axis(&made->dim[d], c->to->n_axes);
        if (here < 0 || there < 0 || c->axis[here] >= 0 || c->s->k->axis[here].extent != c->to->axis[there].extent)
            return false;
        c->axis[here] = (int8_t)there;
    }
    return read->rank == c->s->k->n_axes;
}

/* Adds the sums to the tiles of the product that makes what load `at` reads. */
static bool sum_in_tiles(Sums *s, AccessId at)
{
    BufId b = s->k->access[at].buf;
    int maker = maker_of(s->l, b);
    if (maker < 0 || s->l->buffers.at[b].kind != BUF_WORK || s->l->buffers.at[b].dtype != DT_F32 || !is_there(s, b, maker))
        return false;
    Kernel *k = &s->l->kernels.at[maker];
    if (k->part != WINOGRAD_NONE)
        return false;
    int o = out_to(k, b);
    Contract *p = contract_find(s->a, s->l, k, s->p->target, s->p->precision);
    Copy c = copy_to(s, k);
    if (!p || p->slices > 1 || p->both.n || k->n_tile_sums || !map_axes(&c, at, &k->access[k->out[o].at]))
        return false;
    int channel = c.axis[s->channel];
    bool rows = is_only_axis(&p->row, channel);
    if (!rows && (!is_only_axis(&p->col, channel) || p->rows < GPU_WARP))
        return false;
    s->points = rows ? p->cols : p->rows;
    s->parts = ((rows ? p->col.extent : p->row.extent) + s->points - 1) / s->points;
    s->parts_by_channel = true;
    c.from = b;
    c.of_load = k->out[o].value;
    for (int i = 0; i < s->n; i++) {
        s->part[i] = part_buffer(s, i);
        k->tile_sum[i].value = s->moments ? c.of_load : copied(&c, s->k->expr[s->sum[i]].a);
        k->tile_sum[i].at = part_access(s, k, i, channel, -1);
    }
    k->tile_moments = s->moments;
    k->tile_channel = (int8_t)channel;
    k->n_tile_sums = s->n;
    return true;
}

static bool sum_in_some_tiles(Sums *s)
{
    for (int at = 0; at < s->k->n_access; at++)
        if (!kernel_writes(s->k, (AccessId)at) && (!s->moments || s->k->expr[s->k->expr[s->sum[0]].a].at == at) && sum_in_tiles(s, (AccessId)at))
            return true;
    return false;
}

/* ---- in slices ---- */
/* The axis of the sums that pieces cut: the first one inside a sample. */
static int axis_in_sample(const Sums *s)
{
    int a = 0;
    while (a < s->k->n_axes && (a == s->channel || s->k->axis[a].batch))
        a++;
    return a < s->k->n_axes ? a : -1;
}

/* Axes of slices and pieces; copies of the sums' axes inside them. Returns the set of those that are summed. */
static uint32_t slice_axes(Copy *c, SumCut cut)
{
    const Kernel *k = c->s->k;
    int z = kernel_axis(c->to, AXIS_PAR, "z", (c->s->l->graph->batch + cut.samples - 1) / cut.samples, true);
    uint32_t over = 0;
    c->samples = (int32_t)cut.samples;
    c->to->axis[z].batch_div = c->samples;
    if (cut.pieces > 1) {
        c->cut = axis_in_sample(c->s);
        c->length = (int32_t)(k->axis[c->cut].extent / cut.pieces);
        c->piece = kernel_axis(c->to, AXIS_PAR, "y", cut.pieces, false);
    }
    for (int a = 0; a < k->n_axes; a++) {
        const Axis *x = &k->axis[a];
        int64_t extent = x->batch ? cut.samples : a == c->cut ? c->length : x->extent;
        int i = kernel_axis(c->to, a == c->s->channel ? AXIS_PAR : AXIS_RED, x->name, extent, x->batch);
        c->axis[a] = (int8_t)i;
        over |= a == c->s->channel ? 0 : 1u << i;
        if (x->batch) {
            c->to->axis[i].batch_base = (int8_t)z;
            c->to->axis[i].batch_step = c->samples;
        }
    }
    return over;
}

/* Squared distances of the first sum's values from the mean of the part. */
static ExprId squares_of_part(Copy *c, ExprId part, ExprId sum, uint32_t over)
{
    const Sums *s = c->s;
    ExprId mean = expr_op(s->l, c->to, EX_DIV, sum, points_of_part(s, c->to, part, inner_points(s), s->points), 0);
    ExprId off = expr_op(s->l, c->to, EX_SUB, copied(c, s->k->expr[s->sum[0]].a), mean, 0);
    return expr_reduce(s->l, c->to, EX_SUM, expr_op(s->l, c->to, EX_MUL, off, off, 0), 0, over);
}

/* The sums of each piece of a slice of samples. */
static Kernel *slice_kernel(Sums *s, SumCut cut)
{
    enum { Z, Y };   /* axes */
    KernelList *l = s->l;
    Kernel *to = kernel_part(l, arena_printf(s->a, "%s.part1", s->k->name), s->k);
    Copy c = copy_to(s, to);
    uint32_t over = slice_axes(&c, cut);
    ExprId part = index_of(s, to, Z), out[MAX_TILE_SUMS];
    if (cut.pieces > 1)
        part = expr_op(l, to, EX_IADD, expr_op(l, to, EX_IMUL, part, expr_iconst(l, to, (int32_t)cut.pieces), 0), index_of(s, to, Y), 0);
    for (int i = 0; i < s->n; i++)
        if (s->moments && i == 1)
            out[i] = squares_of_part(&c, part, out[0], over);
        else
            out[i] = expr_reduce(l, to, EX_SUM, copied(&c, s->k->expr[s->sum[i]].a), 0, over);
    for (int i = 0; i < s->n; i++) {
        s->part[i] = part_buffer(s, i);
        AccessId at = part_access(s, to, i, c.axis[s->channel], -1);
        affine_axis(access_dim(to, at, 0), Z, (int32_t)cut.pieces);
        if (cut.pieces > 1)
            affine_axis(access_dim(to, at, 0), Y, 1);
        kernel_out(to, at, out[i]);
    }
    to->macs = s->k->macs;
    return to;
}

/* Moments are read as they are; other sums from no table. */
static bool can_slice(const Sums *s)
{
    for (int at = 0; at < s->k->n_access; at++)
        for (int d = 0; d < s->k->access[at].rank; d++)
            if (s->k->access[at].dim[d].table)
                return false;
    const Expr *x = &s->k->expr[s->k->expr[s->sum[0]].a];
    for (int d = 0; s->moments && x->op == EX_LOAD && d < s->k->access[x->at].rank; d++)
        if (affine_pure_axis(&s->k->access[x->at].dim[d], s->k->n_axes) < 0)
            return false;
    return !s->moments || x->op == EX_LOAD;
}

static bool sum_in_slices(Sums *s, SumCut cut)
{
    if ((cut.samples >= s->l->graph->batch && cut.pieces == 1) || !can_slice(s))
        return false;
    s->parts = (s->l->graph->batch + cut.samples - 1) / cut.samples * cut.pieces;
    s->points = cut.samples * inner_points(s) / cut.pieces;
    s->parts_by_channel = false;
    vec_push(s->a, &s->l->kernels, *slice_kernel(s, cut));
    return true;
}

/* Where channels lie innermost: so many parts of all sums that their blocks fill the GPU. Else moments alone, of the samples that sums.c wants. */
static SumCut cut_of(const Sums *s)
{
    SumCut whole = {s->l->graph->batch, 1};
    if (!s->p->channels_last)
        return s->moments ? (SumCut){sums_samples(s->l, s->k, s->p), 1} : whole;
    int axis = axis_in_sample(s);
    return axis < 0 ? whole : layouts_cut(s->l, s->k, s->p, s->k->axis[s->channel].extent, inner_points(s), s->k->axis[axis].extent);
}

void tile_sums_find(Arena *a, KernelList *l, const GpuPlan *p)
{
    KernelList from = *l;
    l->kernels.at = NULL;
    l->kernels.len = l->kernels.cap = 0;
    for (uint32_t i = 0; i < from.kernels.len; i++) {
        Sums s = {.l = l, .a = a, .p = p, .k = &from.kernels.at[i]};
        if (find_sums(&s) && (sum_in_some_tiles(&s) || sum_in_slices(&s, cut_of(&s))))
            vec_push(a, &l->kernels, *adding_kernel(&s));
        else
            vec_push(a, &l->kernels, *s.k);
    }
}
