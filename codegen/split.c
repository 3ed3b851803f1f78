/* Splitting reductions over the batch.
 * In: a kernel list. Out: the same list with partial sums made explicit. Invariant left: a reduction over a batch axis
 * stays inside one slice; sums across slices are ordinary reductions over a slice axis, in order.
 *
 * SUM[n,p,q](e) becomes   part[z, ...] = SUM[n',p,q](e with n = z * samples + n')      (axis z: slices)
 *                   and   SUM[z](part[z, ...])
 * Sums over the same axes share a sweep. A sum inside the operand of another (the mean inside the variance) is split first; the outer part reads
 * SUM[z](part) again, which costs a few additions per channel. But a variance, SUM((e - mean)^2), would sweep all slices twice, the second
 * time from memory: each slice takes it about its own mean instead, while its values are at hand, with m[z] of the m values:
 *
 *     part1[z] = SUM(e)    part2[z] = SUM((e - part1[z]/m[z])^2)    M2 = SUM[z](part2[z] + m[z] * (part1[z]/m[z] - mean)^2)     (Chan et al. 1979) */
#include "codegen/split.h"
#include "codegen/nest.h"

#include <string.h>

enum { MAX_SWEEP = 4 };
typedef struct { ExprId sum, squares, mean, count; } Moments;   /* SUM(e), SUM((e - mean)^2), mean = sum / count; sum 0: there are none */
typedef struct {
    KernelList *l;
    const Kernel *k;
    int64_t samples, slices;
    Moments moments;
    BufId *part;              /* by expression of k: its partial buffer */
} Splitter;

static uint32_t batch_axes(const Kernel *k)
{
    uint32_t m = 0;
    for (int a = 0; a < k->n_axes; a++)
        if (k->axis[a].batch && !k->axis[a].batch_div && !k->axis[a].batch_step)
            m |= 1u << a;
    return m;
}

static bool sums_over_batch(const Kernel *k, ExprId e) { return k->expr[e].op == EX_SUM && (k->expr[e].axes & batch_axes(k)); }

/* Sums over the same axes of e and of the squares of e - mean. */
static Moments find_moments(const Kernel *k)
{
    Moments none = {0};
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *q = &k->expr[k->expr[e].a], *off = &k->expr[q->a];
        if (!sums_over_batch(k, e) || q->op != EX_MUL || q->a != q->b || off->op != EX_SUB)
            continue;
        const Expr *mean = &k->expr[off->b], *sum = &k->expr[mean->a];
        if (mean->op == EX_DIV && sum->op == EX_SUM && sum->a == off->a && sum->axes == k->expr[e].axes)
            return (Moments){mean->a, e, off->b, mean->b};
    }
    return none;
}

/* ---- copying an expression into a new kernel ---- */
typedef struct {
    Splitter *s;
    Kernel *to;
    int8_t axis_map[MAX_AXIS];    /* of k's axes; -1 = not there */
    int slice;                    /* axis z of `to`; -1 when the new kernel is not cut */
    int inside;                   /* the axis of `to` that runs inside the slice */
    int batch;                    /* k's batch axis */
    int sum_axis;                 /* axis over slices for SUM[z](part) */
    AccessId *access_map;         /* -1: not copied yet */
    ExprId *expr_map;
} Copy;

static int copied_axis(Copy *c, int a)
{
    if (c->axis_map[a] >= 0)
        return c->axis_map[a];
    const Axis *x = &c->s->k->axis[a];
    int i = kernel_axis(c->to, x->kind, x->name, x->extent, x->batch);
    c->to->axis[i] = *x;
    c->axis_map[a] = (int8_t)i;
    return i;
}

static AccessId copied_access(Copy *c, AccessId at)
{
    if (c->access_map[at] >= 0)
        return c->access_map[at];
    const Access *from = &c->s->k->access[at];
    AccessId id = kernel_access(c->s->l, c->to, from->buf);
    c->to->access[id].fill = from->fill;
    for (int d = 0; d < from->rank; d++) {
        Affine f = from->dim[d];
        memset(f.coef, 0, sizeof f.coef);
        for (int a = 0; a < c->s->k->n_axes; a++) {
            if (!from->dim[d].coef[a])
                continue;
            if (a == c->batch && c->slice >= 0) {
                f.coef[c->slice] += from->dim[d].coef[a] * (int32_t)c->s->samples;
                f.coef[c->inside] += from->dim[d].coef[a];
            } else {
                f.coef[copied_axis(c, a)] += from->dim[d].coef[a];
            }
        }
        if (f.table) {
            f.table_axis = (int8_t)copied_axis(c, f.table_axis);
            if (f.table_axis2 >= 0)
                f.table_axis2 = (int8_t)copied_axis(c, f.table_axis2);
        }
        c->to->access[id].dim[d] = f;
    }
    c->access_map[at] = id;
    return id;
}

static ExprId copied_expr(Copy *c, ExprId e);

/* The partial buffer of sum e at slice c->sum_axis. */
static ExprId load_part(Copy *c, ExprId e)
{
    Splitter *s = c->s;
    AccessId at = kernel_access(s->l, c->to, s->part[e]);
    affine_axis(access_dim(c->to, at, 0), c->sum_axis, 1);
    int d = 1;
    for (int a = 0; a < s->k->n_axes; a++)
        if (s->k->expr[e].free_axes >> a & 1)
            affine_axis(access_dim(c->to, at, d++), copied_axis(c, a), 1);
    return expr_load(s->l, c->to, at);
}

/* SUM over the slices of a partial buffer, indexed like the sum it stands for. */
static ExprId sum_of_parts(Copy *c, ExprId e)
{
    Splitter *s = c->s;
    if (c->sum_axis < 0) {
        c->sum_axis = kernel_axis(c->to, AXIS_RED, "z", s->slices, true);
        c->to->axis[c->sum_axis].batch_div = (int32_t)s->samples;
    }
    return expr_reduce(s->l, c->to, EX_SUM, load_part(c, e), 0, 1u << c->sum_axis);
}

static uint32_t copied_mask(Copy *c, uint32_t axes)
{
    uint32_t m = 0;
    for (int a = 0; a < c->s->k->n_axes; a++)
        if (axes >> a & 1)
            m |= 1u << (a == c->batch && c->slice >= 0 ? c->inside : copied_axis(c, a));
    return m;
}

/* The batch index itself, as a value. */
static ExprId batch_index(Copy *c)
{
    Expr in = {.op = EX_INDEX, .axis = (int8_t)c->inside}, z = {.op = EX_INDEX, .axis = (int8_t)c->slice};
    ExprId scaled = expr_op(c->s->l, c->to, EX_IMUL, expr_add(c->s->l, c->to, z), expr_iconst(c->s->l, c->to, (int32_t)c->s->samples), 0);
    return expr_op(c->s->l, c->to, EX_IADD, scaled, expr_add(c->s->l, c->to, in), 0);
}

/* A number of values, from that of the samples n: of slice `z` (an axis of the new kernel) alone. */
static ExprId count_of_slice(Copy *c, ExprId count, int z)
{
    KernelList *l = c->s->l;
    Expr x = c->s->k->expr[count];
    if (x.op == EX_TOFLOAT && c->s->k->expr[x.a].op == EX_N) {
        ExprId n = expr_op(l, c->to, EX_TOFLOAT, expr_add(l, c->to, (Expr){.op = EX_N}), 0, 0), size = expr_const(l, c->to, (double)c->s->samples);
        ExprId index = expr_op(l, c->to, EX_TOFLOAT, expr_add(l, c->to, (Expr){.op = EX_INDEX, .axis = (int8_t)z}), 0, 0);
        ExprId left = expr_op(l, c->to, EX_SUB, n, expr_op(l, c->to, EX_MUL, index, size, 0), 0);
        return expr_op(l, c->to, EX_MIN, left, size, 0);
    }
    x.a = x.a ? count_of_slice(c, x.a, z) : 0;
    x.b = x.b ? count_of_slice(c, x.b, z) : 0;
    return expr_add(l, c->to, x);
}

/* Squares about the mean of all, from those about the slices' means. */
static ExprId squares_of_parts(Copy *c)
{
    const Moments *m = &c->s->moments;
    KernelList *l = c->s->l;
    Kernel *k = c->to;
    ExprId mean = copied_expr(c, m->mean), count = count_of_slice(c, m->count, c->sum_axis);
    ExprId off = expr_op(l, k, EX_SUB, expr_op(l, k, EX_DIV, load_part(c, m->sum), count, 0), mean, 0);
    ExprId moved = expr_op(l, k, EX_MUL, count, expr_op(l, k, EX_MUL, off, off, 0), 0);
    ExprId all = expr_op(l, k, EX_ADD, load_part(c, m->squares), moved, 0);
    return expr_reduce(l, k, EX_SUM, all, 0, 1u << c->sum_axis);
}

static ExprId copied_expr(Copy *c, ExprId e)
{
    if (!e || c->expr_map[e])
        return e ? c->expr_map[e] : 0;
    Splitter *s = c->s;
    const Expr *x = &s->k->expr[e];
    ExprId out;
    if (s->part[e] && e == s->moments.squares) {
        out = squares_of_parts(c);
    } else if (s->part[e]) {
        out = sum_of_parts(c, e);
    } else if (x->op == EX_LOAD) {
        out = expr_load(s->l, c->to, copied_access(c, x->at));
    } else if (x->op == EX_INDEX && x->axis == c->batch && c->slice >= 0) {
        out = batch_index(c);
    } else {
        Expr y = *x;
        y.a = copied_expr(c, x->a);
        y.b = copied_expr(c, x->b);
        y.c = copied_expr(c, x->c);
        y.axes = copied_mask(c, x->axes);
        if (x->op == EX_INDEX)
            y.axis = (int8_t)copied_axis(c, x->axis);
        if (x->op == EX_ROWINDEX)
            y.at = copied_access(c, x->at);
        out = expr_add(s->l, c->to, y);
    }
    c->expr_map[e] = out;
    return out;
}

static Copy copy_into(Splitter *s, Kernel *to)
{
    Copy c = {.s = s, .to = to, .slice = -1, .inside = -1, .sum_axis = -1};
    uint32_t b = batch_axes(s->k);
    c.batch = b ? __builtin_ctz(b) : -1;
    memset(c.axis_map, -1, sizeof c.axis_map);
    c.access_map = NEWN(s->l->arena, AccessId, s->k->n_access);
    memset(c.access_map, -1, sizeof *c.access_map * (size_t)s->k->n_access);
    c.expr_map = NEWN(s->l->arena, ExprId, s->k->n_expr);
    return c;
}

/* ---- the two kinds of kernels ---- */
/* Which of the kernel's sums over the batch this is, from 1. */
static int part_number(const Splitter *s, ExprId e)
{
    int n = 0;
    for (ExprId i = 1; i <= e; i++)
        n += sums_over_batch(s->k, i);
    return n;
}

static BufId part_buffer(Splitter *s, ExprId e)
{
    Buffer b = {.kind = BUF_WORK, .dtype = DT_F32};
    b.name = arena_printf(s->l->arena, "%s.part%d", s->k->name, part_number(s, e));
    b.shape.dim[b.shape.rank++] = s->slices;
    for (int a = 0; a < s->k->n_axes; a++)
        if (s->k->expr[e].free_axes >> a & 1)
            b.shape.dim[b.shape.rank++] = s->k->axis[a].extent;
    if (b.shape.rank > MAX_RANK)
        BUG("partial sums of %s have rank %d", s->k->name, b.shape.rank);
    return kernels_add_buffer(s->l, &b);
}

/* One kernel for the sums of `group`: equal axes, and none inside another but for moments. */
static Kernel *part_kernel(Splitter *s, const ExprId *group, int n)
{
    Kernel *to = kernel_part(s->l, arena_printf(s->l->arena, "%s.part%d", s->k->name, part_number(s, group[0])), s->k);
    Copy c = copy_into(s, to);
    c.slice = kernel_axis(to, AXIS_PAR, "z", s->slices, true);
    to->axis[c.slice].batch_div = (int32_t)s->samples;
    c.inside = kernel_axis(to, AXIS_RED, "n", s->samples, true);
    to->axis[c.inside].batch_base = (int8_t)c.slice;
    to->axis[c.inside].batch_step = (int32_t)s->samples;
    if (group[0] == s->moments.sum)   /* what stands for the mean of all is the slice's */
        c.expr_map[s->moments.count] = count_of_slice(&c, s->moments.count, c.slice);
    ExprId sum[MAX_SWEEP];
    for (int i = 0; i < n; i++) {
        const Expr *x = &s->k->expr[group[i]];
        ExprId operand = copied_expr(&c, x->a);
        sum[i] = expr_reduce(s->l, to, EX_SUM, operand, 0, copied_mask(&c, x->axes));
    }
    for (int i = 0; i < n; i++) {
        const Expr *x = &s->k->expr[group[i]];
        s->part[group[i]] = part_buffer(s, group[i]);
        AccessId at = kernel_access(s->l, to, s->part[group[i]]);
        affine_axis(access_dim(to, at, 0), c.slice, 1);
        int d = 1;
        for (int a = 0; a < s->k->n_axes; a++)
            if (x->free_axes >> a & 1)
                affine_axis(access_dim(to, at, d++), copied_axis(&c, a), 1);
        kernel_out(to, at, sum[i]);
    }
    to->macs = s->k->macs;
    return to;
}

static bool reaches(const Kernel *k, ExprId from, ExprId e)
{
    if (from <= e)
        return from == e;
    const Expr *x = &k->expr[from];
    return (x->a && reaches(k, x->a, e)) || (x->b && reaches(k, x->b, e)) || (x->c && reaches(k, x->c, e));
}

/* The sums over the batch that one sweep can take together with e, e first. */
static int sweep_of(const Splitter *s, ExprId e, ExprId *group)
{
    int n = 0;
    group[n++] = e;
    if (e == s->moments.sum) {
        group[n++] = s->moments.squares;
        return n;
    }
    for (ExprId o = e + 1; o < s->k->n_expr && n < MAX_SWEEP; o++) {
        const Expr *x = &s->k->expr[o], *y = &s->k->expr[e];
        bool joins = sums_over_batch(s->k, o) && !s->part[o] && x->axes == y->axes && x->free_axes == y->free_axes;
        for (ExprId i = 1; i < o && joins; i++)   /* what is inside it must have been split before */
            joins = !(sums_over_batch(s->k, i) && !s->part[i] && reaches(s->k, x->a, i));
        if (joins)
            group[n++] = o;
    }
    return n;
}

static Kernel *final_kernel(Splitter *s)
{
    Kernel *to = kernel_part(s->l, s->k->name, s->k);
    Copy c = copy_into(s, to);
    for (int i = 0; i < s->k->n_out; i++) {
        ExprId v = copied_expr(&c, s->k->out[i].value);
        kernel_out(to, copied_access(&c, s->k->out[i].at), v);
    }
    return to;
}

/* Outputs that still run over the batch next to sums over it (a loss with gradient) need no splitting of those outputs. */
static bool needs_split(const Kernel *k)
{
    for (ExprId e = 1; e < k->n_expr; e++)
        if (sums_over_batch(k, e))
            return true;
    return false;
}

static void split_kernel(Splitter *s, KernelList *done)
{
    for (ExprId e = 1; e < s->k->n_expr; e++) {
        ExprId group[MAX_SWEEP];
        if (sums_over_batch(s->k, e) && !s->part[e]) {
            int n = sweep_of(s, e, group);
            vec_push(s->l->arena, &done->kernels, *part_kernel(s, group, n));
        }
    }
    vec_push(s->l->arena, &done->kernels, *final_kernel(s));
}

typedef bool (*Keep)(const KernelList *, const Kernel *, void *);

/* keep NULL: those with moments alone are split, and these by slices. */
static void split_some(KernelList *l, int64_t samples, Keep keep, void *arg)
{
    KernelList done = *l;
    done.kernels.at = NULL;
    done.kernels.len = done.kernels.cap = 0;
    int64_t slices = (l->graph->batch + samples - 1) / samples;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        Splitter s = {l, k, samples, slices, {0}, NULL};
        if (!keep)
            s.moments = find_moments(k);
        if (keep ? !needs_split(k) || keep(l, k, arg) : !s.moments.sum) {
            vec_push(l->arena, &done.kernels, *k);
            continue;
        }
        s.part = NEWN(l->arena, BufId, k->n_expr);
        split_kernel(&s, &done);
    }
    l->kernels.at = done.kernels.at;
    l->kernels.len = done.kernels.len;
    l->kernels.cap = done.kernels.cap;
}

void split_moments(KernelList *l, int64_t samples) { split_some(l, samples, NULL, NULL); }

void split_batch_reductions(KernelList *l, int64_t samples, Keep keep, void *arg) { split_some(l, samples, keep, arg); }
