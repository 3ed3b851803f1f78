/* How a kernel on outputs is cut into slices.
 * In: a scheduled nest. Out: its slice_axis, slice_size and inner cut.
 * Invariant: no sum runs across slices, so the cut changes no bit of the result; it depends on the kernel and the target
 * alone, never on the number of threads.
 *
 * Slices are handed out one at a time, so two things cost: what a slice spends before its first useful instruction, and
 * threads that wait for the last slice. Every cut along one or two of the outer loops is tried: its time on 1, 2, 4, 8 and 16
 * threads is found by handing its slices out, and the cut that is nearest to perfect on all of them wins. */
#include "codegen/slices.h"
#include "runtime/abi.h"

#include <stdlib.h>

enum { OUTER_LOOPS = 4, MOST_PARTS = 64, MOST_SLICES = 64, MOST_THREADS = 16, MANY_TILES = 64 };
#define LEAST_RUN 1024           /* bytes of a row that a slice takes at least, if not all */
#define LEAST_FAR_RUN 4096       /* ... of rows that come from memory once */
#define SLICE_CYCLES 700.0      /* handing out a slice, entering its loops, filling the pipeline */
#define EDGE_COST 1.5           /* vectors of a cut axis that fill no tile run one at a time: so much more than in a tile */

/* One vector instruction of any kind a cycle, or bytes from the outer caches; whichever takes longer. */
static double nest_cycles(const KernelList *l, const Nest *n, const NestTarget *t)
{
    const Kernel *k = n->k;
    double ops = 0, bytes = 0;
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *x = &k->expr[e];
        if (x->op == EX_SUM && k->expr[x->a].op == EX_MUL)
            continue;   /* one instruction with its product */
        uint32_t axes = x->free_axes | x->axes;
        bool in_tiles = n->rows_axis >= 0 && (axes >> n->depth_axis & 1);
        if (x->op != EX_CONST && x->op != EX_ICONST && x->op != EX_INDEX)
            ops += kernel_points(k, axes) / (in_tiles ? tiles_a_vector(t) : 1);
    }
    for (AccessId at = 0; at < k->n_access; at++)
        bytes += kernel_points(k, access_axes(k, at)) * (double)dtype_size(l->buffers.at[k->access[at].buf].dtype);
    ops /= n->lanes;
    bytes /= CNNC_BYTES_SHARED;
    return ops > bytes ? ops : bytes;
}

/* A cut: units per slice along one axis, and along another that runs inside it (axis -1: not cut); the cycles of all its slices. */
typedef struct { int axis[2]; int32_t per[2], parts[2]; double cycles, cost; } Cut;
static const Cut whole = {.axis = {-1, -1}, .per = {1, 1}, .parts = {1, 1}};

/* Indices that a slice has a multiple of: whole tiles, or blocks. */
static int32_t axis_unit(const Nest *n, int a)
{
    int32_t unit = (a == n->vector_axis ? n->lanes : 1) * n->tile[a];
    return n->block[a] > unit ? n->block[a] : unit;
}


static int32_t axis_units(const Nest *n, int a) { return (n->k->axis[a].extent + axis_unit(n, a) - 1) / axis_unit(n, a); }

static int32_t cut_size(const Nest *n, const Cut *c, int i) { return c->per[i] * axis_unit(n, c->axis[i]); }

/* Bytes of one access that a slice touches. */
static double slice_bytes(const KernelList *l, const Nest *n, const Cut *c, AccessId at)
{
    const Access *x = &n->k->access[at];
    double bytes = (double)dtype_size(l->buffers.at[x->buf].dtype);
    for (int d = 0; d < x->rank; d++) {
        double span = 1;
        for (int a = 0; a < n->k->n_axes; a++) {
            int32_t indices = a == c->axis[0] ? cut_size(n, c, 0) : a == c->axis[1] ? cut_size(n, c, 1) : n->k->axis[a].extent;
            span += abs(x->dim[d].coef[a]) * (double)(indices - 1);
        }
        double extent = (double)l->buffers.at[x->buf].shape.dim[d];
        bytes *= span < extent ? span : extent;
    }
    return bytes;
}

static int outermost(const Nest *n)
{
    int i = 0;
    while (i + 1 < n->n_par && axis_units(n, n->par[i]) < 2)
        i++;
    return n->par[i];
}

/* Slices that overlap (rows of a window at their borders) read twice what they share. What does not depend on the cut axis is
 * read by every slice: that costs where loops outside that axis would have kept a part of it in the cache. */
static double reread_cycles(const KernelList *l, const Nest *n, const NestTarget *t, const Cut *c)
{
    double bytes = 0;
    for (AccessId at = 0; at < n->k->n_access; at++) {
        uint32_t axes = access_axes(n->k, at);
        double slice = slice_bytes(l, n, c, at), all = slice_bytes(l, n, &whole, at), parts = 1;
        for (int i = 0; i < 2; i++)
            if (c->axis[i] >= 0 && axes >> c->axis[i] & 1)
                parts *= c->parts[i];
        if (slice * parts > all)
            bytes += slice * parts - all;
        if (!(axes >> c->axis[0] & 1) && c->axis[0] != outermost(n) && slice > (double)t->l2 / 2)
            bytes += slice * (c->parts[0] - 1);
    }
    return bytes / CNNC_BYTES_SHARED;
}

/* A gradient that is written row by row goes through its columns' operand for every tile of rows: where a slice's does not stay in L2, it
 * comes from L3 each time. */
static double resweep_cycles(const KernelList *l, const Nest *n, const NestTarget *t, const Cut *c)
{
    double bytes = 0, sweeps = 1;
    if (!n->by_rows)
        return 0;
    for (int i = 0; i + 1 < n->n_par; i++)
        sweeps *= axis_units(n, n->par[i]);
    for (AccessId at = 0; at < n->k->n_access; at++) {
        uint32_t axes = access_axes(n->k, at);
        bool columns = axes >> n->vector_axis & 1 && !(axes >> n->par[0] & 1) && !kernel_writes(n->k, at);
        if (columns && slice_bytes(l, n, c, at) > COLUMNS_OF_L2 * (double)t->l2)
            bytes += slice_bytes(l, n, &whole, at);
    }
    return sweeps * bytes / CNNC_BYTES_SHARED;
}

/* What is left of a vector axis beyond whole tiles. */
static double edge_cycles(const Nest *n, const Cut *c, double cycles)
{
    for (int i = 0; i < 2; i++)
        if (c->axis[i] >= 0 && c->axis[i] == n->vector_axis) {
            int32_t vectors = (n->k->axis[c->axis[i]].extent + n->lanes - 1) / n->lanes;
            return EDGE_COST * cycles * (vectors % n->tile[c->axis[i]]) / vectors;
        }
    return 0;
}

/* The share of the work in slice `part` of one axis: the last one may be shorter. */
static double share(const Nest *n, const Cut *c, int i, int part)
{
    if (c->axis[i] < 0)
        return 1;
    int32_t extent = n->k->axis[c->axis[i]].extent, size = cut_size(n, c, i), left = extent - part * size;
    return (double)(left < size ? left : size) / extent;
}

/* Cycles until the last of `threads` threads is done when each takes the next slice as it comes free. */
static double makespan(const Nest *n, const Cut *c, int threads)
{
    double busy[MOST_THREADS] = {0}, last = 0;
    for (int i = 0; i < c->parts[0]; i++)
        for (int j = 0; j < c->parts[1]; j++) {
            int t = 0;
            for (int o = 1; o < threads; o++)
                t = busy[o] < busy[t] ? o : t;
            busy[t] += SLICE_CYCLES + c->cycles * share(n, c, 0, i) * share(n, c, 1, j);
            last = busy[t] > last ? busy[t] : last;
        }
    return last;
}

/* 0: perfect. Lost time on one thread counts most: everybody has one. */
static double cut_cost(const Nest *n, const Cut *c, double cycles)
{
    static const struct { int threads; double weight; } machines[] = {{1, 8},  {2, 3},     {3, 0.5},   {4, 1},
                                                                      {6, 0.5}, {8, 0.5}, {12, 0.25}, {16, 0.25}};
    double cost = 0;
    for (size_t m = 0; m < ARRAY_LEN(machines); m++)
        cost += machines[m].weight * (makespan(n, c, machines[m].threads) * machines[m].threads / cycles - 1);
    return cost;
}

static bool is_guarded(const Kernel *k, int a)
{
    for (AccessId at = 0; at < k->n_access; at++)
        for (int d = 0; d < k->access[at].rank; d++)
            if (k->access[at].dim[d].guarded && k->access[at].dim[d].coef[a])
                return true;
    return false;
}

/* Loops over a cut axis are no longer static: tiles with edges or borders of their own would lose them, and lanes with a border would be
 * masked at run time. Of many tiles a part of one at the end does not matter. Lines that tiles go through would make partly filled tiles. */
static bool may_cut(const Nest *n, int a)
{
    if ((a == n->vector_axis && is_guarded(n->k, a)) || (a == n->lines_axis && n->lines_a_step != 1))
        return false;
    bool no_rest = n->k->axis[a].extent % n->tile[a] == 0 || n->k->axis[a].extent >= MANY_TILES * n->tile[a];
    bool whole_tiles = a == n->vector_axis || (no_rest && !is_guarded(n->k, a));
    return !n->k->axis[a].batch && axis_units(n, a) > 1 && (n->tile[a] == 1 || whole_tiles);
}

static void cut_along(Cut *c, const Nest *n, int i, int axis, int32_t per)
{
    c->axis[i] = axis;
    c->per[i] = per;
    c->parts[i] = axis < 0 ? 1 : (axis_units(n, axis) + per - 1) / per;
}

typedef struct { const KernelList *l; const Nest *n; const NestTarget *t; double cycles; Cut best; } Search;

static void keep_better(Search *s, Cut *c)
{
    if (c->parts[0] * c->parts[1] > MOST_SLICES)
        return;
    c->cycles = s->cycles + reread_cycles(s->l, s->n, s->t, c) + resweep_cycles(s->l, s->n, s->t, c) + edge_cycles(s->n, c, s->cycles);
    c->cost = cut_cost(s->n, c, s->cycles);
    if (c->cost < s->best.cost - 1e-9)
        s->best = *c;
}

/* The next smaller number of parts that axis a can be cut into: units per slice. 0: none is left. */
static int32_t next_per(const Nest *n, int a, int32_t per)
{
    int32_t units = axis_units(n, a), parts = (units + per - 1) / per;
    while (per <= units && (units + per - 1) / per == parts)
        per++;
    return per < units ? per : 0;
}

/* Bytes of an index of axis a where its neighbours lie side by side, in rows along another axis that can be cut; 0: no such access. */
static int64_t bytes_in_rows(const KernelList *l, const Nest *n, int a)
{
    int64_t bytes = 0;
    for (AccessId at = 0; at < n->k->n_access; at++) {
        Linear f = access_linear(l, n->k, at);
        int64_t size = (int64_t)dtype_size(l->buffers.at[n->k->access[at].buf].dtype);
        bool rows = false;
        for (int o = 0; o < n->n_par; o++)
            rows = rows || (n->par[o] != a && f.unit[n->par[o]] && may_cut(n, n->par[o]));
        if (f.linear && f.unit[a] == 1 && !f.block[a] && rows && size > bytes)
            bytes = size;
    }
    return bytes;
}

/* A product that goes through the rows of its weights, in order: those of a few samples (Nest.portion), or of their gradient. */
static bool walks_rows(const Nest *n, int a)
{
    return a == n->vector_axis && (n->by_rows || (n->over_batch && n->portion_axis >= 0));
}

/* Units that a slice has at least: slices of what computes little take no bits of rows, whose lines would be fetched time and again. */
static int32_t least_per(const Search *s, int a)
{
    int64_t run = LEAST_RUN, bytes = s->n->k->macs > 0 ? 0 : bytes_in_rows(s->l, s->n, a) * axis_unit(s->n, a);
    if (walks_rows(s->n, a)) {
        run = LEAST_FAR_RUN;
        bytes = 4 * axis_unit(s->n, a);
    }
    return bytes ? (int32_t)((run + bytes - 1) / bytes) : 1;
}

/* Units per slice along axis a in the most parts; 0: it stays whole. */
static int32_t first_per(const Search *s, int a)
{
    int32_t units = axis_units(s->n, a), per = (units + MOST_PARTS - 1) / MOST_PARTS, least = least_per(s, a);
    per = per > least ? per : least;
    return per < units ? per : 0;
}

/* Cuts along the loop at `level` and every loop inside it. */
static void try_inner_cuts(Search *s, Cut *c, int level)
{
    const Nest *n = s->n;
    for (int j = level + 1; j < n->n_par && j < OUTER_LOOPS; j++) {
        if (!may_cut(n, n->par[j]))
            continue;
        for (int32_t per = first_per(s, n->par[j]); per; per = next_per(n, n->par[j], per)) {
            cut_along(c, n, 1, n->par[j], per);
            keep_better(s, c);
        }
    }
}

static void try_cuts(Search *s)
{
    const Nest *n = s->n;
    for (int i = 0; i < n->n_par && i < OUTER_LOOPS; i++) {
        if (!may_cut(n, n->par[i]))
            continue;
        for (int32_t per = first_per(s, n->par[i]); per; per = next_per(n, n->par[i], per)) {
            Cut c = {0};
            cut_along(&c, n, 0, n->par[i], per);
            cut_along(&c, n, 1, -1, 1);
            keep_better(s, &c);
            try_inner_cuts(s, &c, i);
        }
    }
}

void cut_nest(const KernelList *l, Nest *n, const NestTarget *t)
{
    Search s = {.l = l, .n = n, .t = t, .cycles = nest_cycles(l, n, t)};
    if (s.cycles < CNNC_SHARE_CYCLES)
        return;
    s.best = whole;
    s.best.cycles = s.cycles + resweep_cycles(l, n, t, &s.best);
    s.best.cost = cut_cost(n, &s.best, s.cycles);
    try_cuts(&s);
    if (s.best.axis[0] < 0)
        return;
    n->slice_axis = s.best.axis[0];
    n->slice_size = cut_size(n, &s.best, 0);
    if (s.best.axis[1] >= 0) {
        n->n_inner = 1;
        n->inner_axis[0] = (int8_t)s.best.axis[1];
        n->inner_size[0] = cut_size(n, &s.best, 1);
    }
}
