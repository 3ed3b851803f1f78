/* The schedule of one kernel: vector axis (schedule_vector.c), register tile (schedule_registers.c), loop order (schedule_order.c).
 * In: a kernel whose buffers have layouts, and the target's lanes and registers. Out: a Nest. Never fails: a kernel that
 * fits no pattern gets scalar loops. */
#include "codegen/schedule_impl.h"
#include "codegen/tiles.h"

#include <string.h>

enum { MANY_USES = 16 };   /* of a weight by one sample */

static void classify(Sched *s)
{
    const Kernel *k = s->k;
    double best = -1;
    s->a = s->b = -1;
    for (ExprId e = 1; e < k->n_expr; e++) {
        const Expr *x = &k->expr[e];
        s->has_argmax = s->has_argmax || x->op == EX_ARGMAX;
        if (!expr_is_reduction(x->op))
            continue;
        s->reduced |= x->axes;
        double work = kernel_points(k, x->axes | k->expr[x->a].free_axes);
        if (work > best) {
            best = work;
            s->main = e;
        }
    }
    s->par = sched_used_axes(k) & ~s->reduced;
    if (!s->main || k->expr[s->main].op != EX_SUM)
        return;
    const Expr *m = &k->expr[k->expr[s->main].a];
    if ((m->op == EX_MUL || m->op == EX_DOT) && k->expr[m->a].op == EX_LOAD && k->expr[m->b].op == EX_LOAD) {
        s->contraction = true;
        s->a = k->expr[m->a].at;
        s->b = k->expr[m->b].at;
    }
}

/* ---- unrolled reduction axes ---- */
/* Is axis a part of a guarded dim together with a parallel axis? Then unrolling it lets edge tiles drop their taps. */
bool sched_guards_with(const Sched *s, int red, int par)
{
    for (AccessId at = 0; at < s->k->n_access; at++)
        for (int d = 0; d < s->k->access[at].rank; d++) {
            const Affine *f = &s->k->access[at].dim[d];
            if (f->guarded && f->coef[red] && f->coef[par])
                return true;
        }
    return false;
}

/* Weights that do not stay in L2 and are used a few times a sample (linear layers) are read once for all samples. */
static bool shares_weights(const Sched *s)
{
    if (!s->contraction || s->k->n_strip || sched_operand_bytes(s, s->b) <= (double)s->t->l2)
        return false;
    uint32_t weights = access_axes(s->k, s->b), others = access_axes(s->k, s->a) & s->par & ~weights;
    double uses = 1;
    bool samples = false;
    for (int a = 0; a < s->k->n_axes; a++) {
        const Axis *x = &s->k->axis[a];
        if (x->batch && (weights >> a & 1))
            return false;
        if (others >> a & 1)
            uses *= x->batch ? 1 : x->extent;
        samples = samples || (x->batch && (others >> a & 1) && x->extent > 1 && a != s->n->vector_axis);
    }
    return samples && uses < MANY_USES;
}

int sched_innermost_red(const Sched *s)
{
    for (int i = s->n->n_red; i-- > 0;) {
        int a = s->n->red[i];
        if (a != s->n->vector_axis && !s->k->axis[a].batch && !kernel_cuts(s->k, a))
            return a;
    }
    return -1;
}

/* Of those that a reduction runs over; -1: all are unrolled. */
static int innermost_loop(const Sched *s)
{
    for (int i = s->n->n_red; i-- > 0;)
        if (!s->n->unroll[s->n->red[i]] && s->k->axis[s->n->red[i]].extent > 1)
            return s->n->red[i];
    return -1;
}

/* Do taps slide along the lanes? Their loads are unaligned, and at the borders masked. */
static bool lanes_guarded(const Sched *s)
{
    for (int r = 0; r < s->k->n_axes; r++)
        if ((s->reduced >> r & 1) && s->n->vector_axis >= 0 && sched_guards_with(s, r, s->n->vector_axis))
            return true;
    return false;
}

/* A window (pool, depthwise filter) of few taps is unrolled whole; a contraction unrolls its innermost filter axis. */
static void pick_unrolled(Sched *s)
{
    Nest *n = s->n;
    if (!s->main || (s->k->part == WINOGRAD_PRODUCT && s->t->load_store))   /* a few channels: loads of all would wait in registers */
        return;
    double window = 1;
    bool short_window = true;
    for (int i = 0; i < n->n_red; i++) {
        window *= s->k->axis[n->red[i]].extent;
        short_window = short_window && !s->k->axis[n->red[i]].batch && !kernel_cuts(s->k, n->red[i]) && n->red[i] != n->vector_axis;
    }
    if (short_window && window <= 9) {
        for (int i = 0; i < n->n_red; i++)
            n->unroll[n->red[i]] = true;
        return;
    }
    int last = sched_innermost_red(s);
    if (last >= 0 && s->k->axis[last].extent <= 11 && (s->contraction || window <= 64))
        for (int i = 0; i < n->n_par; i++)
            if (sched_guards_with(s, last, n->par[i]) || s->k->axis[last].extent <= 7)
                n->unroll[last] = true;
}

/* A sum over the batch: images in the lanes, or counted in loops. */
static bool sums_samples(const Sched *s)
{
    for (int a = 0; a < s->k->n_axes; a++)
        if ((s->reduced >> a & 1) && s->k->axis[a].batch)
            return true;
    return false;
}

/* A parallel filter axis (weight gradients) is unrolled as part of the tile, whole. */
static void tile_filter_axis(Sched *s)
{
    Nest *n = s->n;
    if (!(s->contraction && n->vector_axis >= 0 && sums_samples(s)))
        return;
    for (int p = 0; p < s->k->n_axes; p++) {
        if (!(s->par >> p & 1) || s->k->axis[p].extent > 7 || s->k->axis[p].extent < 2)
            continue;
        for (int r = 0; r < s->k->n_axes; r++)
            if ((s->reduced >> r & 1) && r == sched_innermost_red(s) && sched_guards_with(s, p, r)) {
                n->tile[p] = s->k->axis[p].extent;
                return;
            }
    }
}

/* Outputs that are contiguous along the lanes, and one load that is so along another axis: a tile of lanes x lanes of it is loaded row
 * by row and transposed, instead of gathered. */
static void find_transpose(Sched *s)
{
    const Kernel *k = s->k;
    Nest *n = s->n;
    if (n->lanes < 2 || n->vector_axis < 0)
        return;
    if (!sched_stores_straight(s, n->vector_axis))
        return;
    for (ExprId e = 1; e < k->n_expr && n->transposed < 0; e++)
        if (k->expr[e].op == EX_LOAD && sched_turned_axis(s, k->expr[e].at, n->vector_axis) >= 0)
            n->transposed = k->expr[e].at;
    if (n->transposed < 0)
        return;
    n->transpose_axis = sched_turned_axis(s, n->transposed, n->vector_axis);
    n->tile[n->transpose_axis] = n->lanes;
    if (k->part == WINOGRAD_ROWS)   /* planes lie far apart: one vector of filters reads a strip of its planes, then the next does */
        sched_move_to(n, n->vector_axis, 0);
}

/* Tiles chosen otherwise: outputs in pairs of bf16 need both neighbours at hand. */
static void tile_pairs(Sched *s)
{
    for (int a = 0; a < s->k->n_axes; a++)
        if (!sched_keeps_pairs(s, a, s->n->tile[a]))
            s->n->tile[a] += 1;
}

static void find_pairs(Sched *s)
{
    s->pairs = -1;
    for (AccessId at = 0; at < s->k->n_access; at++) {
        int axis = access_pair_axis(s->l, s->k, at);
        if (axis >= 0)
            s->even |= 1u << axis;
        if (axis >= 0 && kernel_writes(s->k, at))
            s->pairs = axis;
    }
}

/* What a step of the innermost loop holds in vector registers. */
static void tile_vectors(Sched *s)
{
    Nest *n = s->n;
    n->over_batch = shares_weights(s);
    n->apart = s->contraction && few_registers(s->t) && !s->t->products && !lanes_guarded(s);
    pick_unrolled(s);
    n->unrolled_blocks = n->apart ? innermost_loop(s) : -1;
    n->zero_tail = !s->contraction && s->k->part == WINOGRAD_NONE;   /* zeros in, zeros out: transforms are linear */
    if (s->contraction) {
        tile_filter_axis(s);
        sched_pick_portion(s);
        sched_tile_contraction(s);
        sched_order_contraction(s);
        sched_write_rows(s);
        sched_place_portions(s);
        sched_fetch_ahead(s);
        sched_fetch_early(s);
        sched_visit_rows(s);
    } else if (s->main) {
        sched_tile_reduction(s);
    } else {
        find_transpose(s);
        sched_weave(s);
        sched_fetch_planes(s);
    }
    tile_pairs(s);
}

Nest *schedule_kernel(Arena *arena, const KernelList *l, const Kernel *k, const NestTarget *t)
{
    Nest *n = NEW(arena, Nest);
    Sched s = {.l = l, .k = k, .t = t, .n = n};
    n->k = k;
    n->slice_axis = n->weave_axis = n->transpose_axis = n->ahead_axis = -1;
    n->transposed = n->ahead = -1;
    n->rows_axis = n->depth_axis = n->lines_axis = n->portion_axis = n->unrolled_blocks = -1;
    for (int a = 0; a < MAX_AXIS; a++)
        n->tile[a] = 1;
    s.lin = NEWN(arena, Linear, k->n_access);
    for (AccessId at = 0; at < k->n_access; at++)
        s.lin[at] = access_linear(l, k, at);
    classify(&s);
    find_pairs(&s);
    sched_order_par(&s);
    sched_order_red(&s);
    if (tiles_schedule(l, t, n)) {
        sched_order_contraction(&s);
        sched_order_tiles(&s);
    } else {
        sched_pick_vector_axis(&s);
        tile_vectors(&s);
    }
    for (int i = 0; i < n->n_par; i++)
        n->block[n->par[i]] = (uint8_t)sched_block_along(&s, n->par[i]);
    return n;
}
