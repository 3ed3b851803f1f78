/* The vector axis of a kernel: the one with the least estimated cost.
 * In: a kernel as schedule.c has classified it. Out: the nest's lanes and vector axis. A load that is contiguous or broadcast along the
 * axis is cheap, a strided one is a gather, unless tiles of it can be transposed in registers. */
#include "codegen/schedule_impl.h"

#define TURNED_VECTOR 5   /* cost of a vector of a transposed tile, where a vector loaded or stored straight has 0.5 */
#define WOVEN_VECTOR 2    /* of one of few that are stored together */

uint32_t sched_used_axes(const Kernel *k)
{
    uint32_t m = 0;
    for (ExprId e = 1; e < k->n_expr; e++)
        m |= k->expr[e].free_axes | k->expr[e].axes;
    for (int i = 0; i < k->n_out; i++)
        m |= access_axes(k, k->out[i].at);
    return m;
}

/* All reductions must run over a reduced vector axis, or their results would differ by lane. */
static bool can_reduce_lanes(const Sched *s, int v)
{
    if (s->has_argmax || !(s->reduced >> v & 1) || s->k->axis[v].kind != AXIS_RED)
        return false;
    for (ExprId e = 1; e < s->k->n_expr; e++) {
        const Expr *x = &s->k->expr[e];
        if (!expr_is_reduction(x->op))
            continue;
        if (x->op != EX_SUM)
            return false;
        if (!(x->axes >> v & 1) && (s->k->expr[x->a].free_axes >> v & 1))
            return false;
    }
    return true;
}

/* The guards of a transposed load ask nothing of its two axes: a tile is in range as a whole. */
static bool guards_ignore(const Access *x, int a, int b)
{
    for (int d = 0; d < x->rank; d++)
        if (x->dim[d].guarded && (x->dim[d].coef[a] || x->dim[d].coef[b]))
            return false;
    return true;
}

/* The axis along which load `at` is contiguous although the lanes run along another one, v, where a tile of lanes x lanes can be had; -1. */
int sched_turned_axis(const Sched *s, AccessId at, int v)
{
    const Linear *f = &s->lin[at];
    if (!f->linear || f->block[v] || f->unit[v] < 2 || s->k->access[at].fill != 0 || s->l->buffers.at[s->k->access[at].buf].dtype != DT_F32)
        return -1;
    for (int a = 0; a < s->k->n_axes; a++)
        if (a != v && access_lane_stride(f, a) == 1 && (!f->block[a] || f->lanes == s->n->lanes) && s->k->axis[a].extent >= s->n->lanes &&
            guards_ignore(&s->k->access[at], a, v))
            return a;
    return -1;
}

/* With axis v in the lanes, are all outputs contiguous along them? */
bool sched_stores_straight(const Sched *s, int v)
{
    for (int o = 0; o < s->k->n_out; o++)
        if (access_lane_stride(&s->lin[s->k->out[o].at], v) != 1)
            return false;
    return true;
}

/* The axis whose points output `at` has side by side between one lane along v and the next, few enough to be stored together; -1. */
static int woven_axis(const Sched *s, AccessId at, int v)
{
    const Linear *f = &s->lin[at];
    int64_t between = access_lane_stride(f, v);
    if (!s->t->tiles || s->main || s->k->n_out != 1 || between < 2 || between > MAX_WEAVE)
        return -1;
    for (int a = 0; a < s->k->n_axes; a++) {
        int32_t points = s->k->axis[a].extent, elements = f->half[a] == 1 ? (points + 1) / 2 : f->unit[a] == 1 ? points : 0;
        if (a != v && !s->k->axis[a].batch && elements == between)
            return a;
    }
    return -1;
}

void sched_weave(Sched *s)
{
    Nest *n = s->n;
    if (n->lanes < 2 || n->vector_axis < 0)
        return;
    n->weave_axis = woven_axis(s, s->k->out[0].at, n->vector_axis);
    if (n->weave_axis >= 0)
        n->tile[n->weave_axis] = s->k->axis[n->weave_axis].extent;
}

/* Vector instructions' worth of one access, lanes along v, per vector of points. */
static double access_cost(const Sched *s, AccessId at, int v, bool store)
{
    int64_t stride = access_lane_stride(&s->lin[at], v);
    uint32_t axes = access_axes(s->k, at);
    if (!(axes >> v & 1))
        return 0.3;
    if (stride == 1)
        return s->lin[at].block[v] && s->lin[at].lanes != s->n->lanes ? 20 : 0.5;
    if (store && woven_axis(s, at, v) >= 0)
        return WOVEN_VECTOR;
    return stride == 2 && !store ? 2 : 20;
}

static double vector_cost(const Sched *s, int v)
{
    const Kernel *k = s->k;
    int lanes = s->n->lanes;
    double extent = k->axis[v].extent, vectors = (double)((k->axis[v].extent + lanes - 1) / lanes);
    uint32_t all = sched_used_axes(k);
    double points = kernel_points(k, all) / (extent > 0 ? extent : 1) * vectors, cost = points;
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_LOAD) {
            uint32_t axes = access_axes(k, k->expr[e].at);
            double times = (axes >> v & 1) ? kernel_points(k, axes) / extent * vectors : kernel_points(k, axes);
            if (s->contraction && (k->expr[e].at == s->a || k->expr[e].at == s->b))
                times = points / 4;   /* shared by the register tile */
            bool turned = kernel_is_copy(k) && sched_stores_straight(s, v) && sched_turned_axis(s, k->expr[e].at, v) >= 0;
            cost += times * (turned ? TURNED_VECTOR : access_cost(s, k->expr[e].at, v, false));
        }
    for (int i = 0; i < k->n_out; i++) {
        uint32_t axes = access_axes(k, k->out[i].at);
        double out = kernel_points(k, axes);
        cost += (axes >> v & 1) ? out / extent * vectors * access_cost(s, k->out[i].at, v, true) : out * ((s->reduced >> v & 1) ? 8 : 1);
    }
    return cost;
}

/* The same estimate for code without vectors. */
static double scalar_cost(const Sched *s)
{
    double cost = kernel_points(s->k, sched_used_axes(s->k));
    for (ExprId e = 1; e < s->k->n_expr; e++)
        if (s->k->expr[e].op == EX_LOAD)
            cost += kernel_points(s->k, access_axes(s->k, s->k->expr[e].at)) * 0.25;
    for (int i = 0; i < s->k->n_out; i++)
        cost += kernel_points(s->k, access_axes(s->k, s->k->out[i].at)) * 0.25;
    return cost;
}

/* A buffer blocked over the batch is written whole blocks at a time, so that lanes past the last sample never hold what was
 * there before: weight gradients add them up. */
static int batch_lanes_axis(const Sched *s)
{
    for (int o = 0; o < s->k->n_out; o++) {
        const Access *y = &s->k->access[s->k->out[o].at];
        const Buffer *b = &s->l->buffers.at[y->buf];
        if (!b->batched || b->layout.block_dim != 0)
            continue;
        for (int a = 0; a < s->k->n_axes; a++)
            if (y->dim[0].coef[a] && s->k->axis[a].batch)
                return a;
    }
    return -1;
}

/* Gathers, but straight stores: the axis along the blocked dim of the output, or its last. */
static int stored_lanes_axis(const Sched *s)
{
    AccessId out = s->k->out[0].at;
    for (int a = 0; a < s->k->n_axes; a++)
        if (s->lin[out].block[a])
            return a;
    return s->k->n_axes - 1;
}

/* Would a slice of samples end inside a vector along axis v? */
static bool cut_inside_lanes(const Sched *s, int v) { return s->k->axis[v].batch && s->t->samples % s->n->lanes; }

void sched_pick_vector_axis(Sched *s)
{
    const Kernel *k = s->k;
    double best = 0;
    s->n->lanes = s->t->lanes;
    bool turned = k->part == WINOGRAD_ROWS || k->part == WINOGRAD_TURN;   /* their channels: straight stores */
    s->n->vector_axis = turned ? k->n_axes - 1 : k->part == WINOGRAD_WEIGHTS ? stored_lanes_axis(s) : batch_lanes_axis(s);
    if (s->n->vector_axis >= 0)
        return;
    double scalar = scalar_cost(s);
    for (int v = 0; v < k->n_axes; v++) {
        bool usable = ((s->par >> v & 1) ? !cut_inside_lanes(s, v) : can_reduce_lanes(s, v)) && v != s->pairs;
        if (!usable || k->axis[v].extent < 2 || k->axis[v].batch_div)
            continue;
        double cost = vector_cost(s, v);
        if (s->n->vector_axis < 0 ? cost < scalar : cost < best) {
            best = cost;
            s->n->vector_axis = v;
        }
    }
    if (s->n->vector_axis < 0)
        s->n->lanes = 1;
}
