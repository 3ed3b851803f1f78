/* Sums over everything but the channel, made where their values are made.
 * In: a kernel list whose layouts are known. Out: the same list; BatchNorm's sums read what tiles or slices have left of them.
 *
 *     stats   m = SUM(x) / n,  SUM((x - m)^2)                  two sweeps as they stand: the second needs the mean
 *     sums    SUM(dy),  SUM(dy * (x - mean))
 *
 * When a product of matrices makes x (or dy), each of its tiles leaves the sums over its points (contract_sums.c): nothing is read
 * again. Otherwise the statistics of many points are made in one sweep, by slices of the batch. Either way a part has its own mean,
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
static bool needs(const Kernel *k, ExprId e, ExprId what)
{
    const Expr *x = &k->expr[e];
    return e == what || (e > what && ((x->a && needs(k, x->a, what)) || (x->b && needs(k, x->b, what)) || (x->c && needs(k, x->c, what))));
}

/* SUM(v), SUM((v - SUM(v) / m)^2) */
static bool are_moments(const Kernel *k, ExprId first, ExprId second)
{
    const Expr *square = &k->expr[k->expr[second].a], *off = &k->expr[square->a], *mean = &k->expr[off->b];
    return square->op == EX_MUL && square->a == square->b && off->op == EX_SUB && off->a == k->expr[first].a && mean->op == EX_DIV && mean->a == first &&
           !k->expr[mean->b].free_axes;
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
    bool nested = s->n == 2 && needs(k, k->expr[s->sum[1]].a, s->sum[0]);
    s->moments = nested && are_moments(k, s->sum[0], s->sum[1]);
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
    BufId from; ExprId of_load;
    ExprId *done;
} Copy;

static Copy copy_to(Sums *s, Kernel *to)
{
    Copy c = {.s = s, .to = to, .done = NEWN(s->a, ExprId, s->k->n_expr)};
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

/* min(n * inner - part * points, points), as a float; not above zero when the part has no points. */
static ExprId points_of_part(const Sums *s, Kernel *k, int part, int64_t inner, int64_t points)
{
    ExprId n = expr_add(s->l, k, (Expr){.op = EX_N}), t = expr_add(s->l, k, (Expr){.op = EX_INDEX, .axis = (int8_t)part});
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
    ExprId points = points_of_part(s, to, part, inner_points(s), s->points), zero = expr_const(l, to, 0);
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
            inside = inside || needs(s->k, s->k->expr[s->sum[i]].a, e);
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
/* The moments of each slice of so many samples. */
static Kernel *slice_kernel(Sums *s, int64_t samples)
{
    KernelList *l = s->l;
    Kernel *to = kernel_part(l, arena_printf(s->a, "%s.part1", s->k->name), s->k);
    Copy c = copy_to(s, to);
    c.samples = (int32_t)samples;
    int z = kernel_axis(to, AXIS_PAR, "z", s->parts, true);
    to->axis[z].batch_div = (int32_t)samples;
    uint32_t over = 0;
    for (int a = 0; a < s->k->n_axes; a++) {
        const Axis *x = &s->k->axis[a];
        int i = kernel_axis(to, a == s->channel ? AXIS_PAR : AXIS_RED, x->name, x->batch ? samples : x->extent, x->batch);
        c.axis[a] = (int8_t)i;
        over |= a == s->channel ? 0 : 1u << i;
        if (x->batch) {
            to->axis[i].batch_base = (int8_t)z;
            to->axis[i].batch_step = (int32_t)samples;
        }
    }
    ExprId v = copied(&c, s->k->expr[s->sum[0]].a), sum = expr_reduce(l, to, EX_SUM, v, 0, over);
    ExprId mean = expr_op(l, to, EX_DIV, sum, points_of_part(s, to, z, inner_points(s), s->points), 0), off = expr_op(l, to, EX_SUB, v, mean, 0);
    ExprId out[MAX_TILE_SUMS] = {sum, expr_reduce(l, to, EX_SUM, expr_op(l, to, EX_MUL, off, off, 0), 0, over)};
    for (int i = 0; i < s->n; i++) {
        s->part[i] = part_buffer(s, i);
        kernel_out(to, part_access(s, to, i, c.axis[s->channel], z), out[i]);
    }
    to->macs = s->k->macs;
    return to;
}

static bool reads_plainly(const Sums *s)
{
    const Expr *x = &s->k->expr[s->k->expr[s->sum[0]].a];
    for (int d = 0; x->op == EX_LOAD && d < s->k->access[x->at].rank; d++)
        if (affine_pure_axis(&s->k->access[x->at].dim[d], s->k->n_axes) < 0)
            return false;
    return x->op == EX_LOAD;
}

static bool sum_in_slices(Sums *s, int64_t samples)
{
    if (!s->moments || samples >= s->l->graph->batch || !reads_plainly(s))
        return false;
    s->parts = (s->l->graph->batch + samples - 1) / samples;
    s->points = samples * inner_points(s);
    s->parts_by_channel = false;
    vec_push(s->a, &s->l->kernels, *slice_kernel(s, samples));
    return true;
}

void tile_sums_find(Arena *a, KernelList *l, const GpuPlan *p, int64_t (*samples)(const KernelList *, const Kernel *, const GpuPlan *))
{
    KernelList from = *l;
    l->kernels.at = NULL;
    l->kernels.len = l->kernels.cap = 0;
    for (uint32_t i = 0; i < from.kernels.len; i++) {
        Sums s = {.l = l, .a = a, .p = p, .k = &from.kernels.at[i]};
        if (find_sums(&s) && (sum_in_some_tiles(&s) || sum_in_slices(&s, samples(l, s.k, p))))
            vec_push(a, &l->kernels, *adding_kernel(&s));
        else
            vec_push(a, &l->kernels, *s.k);
    }
}
