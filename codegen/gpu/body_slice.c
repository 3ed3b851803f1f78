/* How one kernel runs in a slice: a block's threads share the points of a few samples.
 * In: a kernel in plain layouts, the samples of a slice. Out: a GpuBody.
 *
 * A sum of products is a product of matrices. A thread takes `unroll` points along an axis that b alone has and `spread` along one
 * that a alone has, so that unroll + spread loads serve unroll * spread multiply-adds; or a warp does, its lanes along the depth,
 * when there are few outputs with long sums. The cheapest by an estimate of cycles is taken: loads go through one unit, a warp at a
 * time; loads wait for each other as far as the loop is not unrolled. All other kernels are a thread a point, or a warp a point. */
#include "codegen/gpu/code.h"

enum { MOST_TILE = 24, MOST_SIDE = 8, WARPS = GPU_SLICE_THREADS / GPU_WARP, QUARTERS = 4 };

/* Cycles. A load from shared memory or a hit in L1 until its value is there, one from L2; a shuffle; starting and ending a tile; a
 * multiply-add until its sum is there. */
#define NEAR 30.0
#define FAR 300.0
#define SHUFFLE 25.0
#define START 60.0
#define CHAIN 4.0
/* Instructions: of a guard beside its load; of a loop's turn, of one whose index a lane takes apart; of a step of adding lanes. */
#define GUARD 3.0
#define TURN 4.0
#define TURN_OF_LANE 16.0
#define ADD_LANES 2.0

static double least(double a, double b) { return a < b ? a : b; }
static double most(double a, double b) { return a > b ? a : b; }
static double turns_of(double n, double by) { return (double)(((int64_t)n + (int64_t)by - 1) / (int64_t)by); }

/* ---- what a kernel is like ---- */
static int64_t extent_in_slice(const Kernel *k, int axis, int64_t samples)
{
    return k->axis[axis].batch_step || k->axis[axis].batch ? samples : k->axis[axis].extent;
}

static int64_t longest_reduction(const Kernel *k, int64_t samples)
{
    int64_t longest = 1;
    for (int e = 1; e < k->n_expr; e++) {
        int64_t n = 1;
        for (int x = 0; x < k->n_axes; x++)
            if (k->expr[e].axes >> x & 1)
                n *= k->axis[x].batch_step ? samples : k->axis[x].extent;
        longest = n > longest ? n : longest;
    }
    return longest;
}

static bool has_argmax(const Kernel *k)
{
    for (int e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_ARGMAX)
            return true;
    return false;
}

static bool outputs_differ(const Kernel *k)
{
    for (int o = 1; o < k->n_out; o++)
        if (out_axes(k, o) != out_axes(k, 0))
            return true;
    return false;
}

/* ---- the cost of a product ---- */
typedef struct {
    const KernelList *l;
    const Kernel *k;
    const Contract *c;
    int64_t samples;
    int inner;                /* the innermost axis of the depth, of the rows' points */
    int last;
    double depth;             /* points */
    const GpuBody *body;
} Search;

/* Elements of an operand that are read once a sample come from L2, all others are in shared memory or stay in L1. */
static bool is_far(const Search *p, AccessId at)
{
    enum { STAYS = 4096 };
    const Buffer *b = &p->l->buffers.at[p->k->access[at].buf];
    return (b->kind == BUF_STATE || b->kind == BUF_CONST) && buffer_elements(b) > STAYS;
}

static int64_t common(int64_t a, int64_t b) { return b ? common(b, a % b) : a; }

/* Accesses of a warp's lanes that lie `stride` elements apart: how many turns the unit takes. */
static double conflicts(int64_t stride, bool far)
{
    if (!stride)
        return 1;
    return far ? least((double)stride, GPU_WARP / 4.0) : (double)common(stride, GPU_WARP);
}

/* Loads of an operand for `points` along `axis` and `chunk` steps of the inner axis: neighbours may be the same elements. */
static double loads_of(const Search *p, AccessId at, int axis, int points, double chunk)
{
    int64_t along = points > 1 ? access_stride(p->l, p->k, at, axis) : 0, inner = access_stride(p->l, p->k, at, p->inner);
    return points > 1 && along == inner && along ? points + chunk - 1 : points * chunk;
}

static double instructions_of(const Search *p, AccessId at, double loads)
{
    bool guarded = false;
    for (int d = 0; d < p->k->access[at].rank; d++)
        guarded = guarded || p->k->access[at].dim[d].guarded;
    return loads * (guarded ? 1 + GUARD : 1);
}

/* How far apart neighbouring threads read: along what they share, else along the last row. */
static int64_t lane_stride(const Search *p, AccessId at, const GpuBody *x)
{
    if (x->lanes > 1)
        return access_stride(p->l, p->k, at, x->shared < 0 ? p->inner : x->shared);
    int64_t stride = access_stride(p->l, p->k, at, p->last);
    return stride * (x->unroll > 1 && x->unrolled == p->last ? x->unroll : x->spread > 1 && x->across == p->last ? x->spread : 1);
}

/* Steps of the depth that one thread takes. */
static double steps_of(const Search *p, const GpuBody *x)
{
    if (x->lanes == 1 || x->shared < 0)
        return turns_of(p->depth, x->lanes);
    double extent = (double)extent_in_slice(p->k, x->shared, p->samples);
    return p->depth / extent * turns_of(extent, x->lanes);
}

static double cost_of(const Search *p, const GpuBody *x)
{
    double tile = (double)x->unroll * x->spread, units = (double)x->points / tile, steps = steps_of(p, x);
    double rounds = turns_of(units * x->lanes, GPU_SLICE_THREADS), warps = least(turns_of(units * x->lanes, GPU_WARP), WARPS);
    bool flat = x->lanes > 1 && x->shared < 0, far_a = is_far(p, p->c->a), far_b = is_far(p, p->c->b);
    double at_once = least(steps, x->chunk), per = x->lanes > 1 && (flat || x->shared == p->inner) ? 1 : at_once;   /* steps that can share loads */
    double a = loads_of(p, p->c->a, x->across, x->spread, per), b = loads_of(p, p->c->b, x->unrolled, x->unroll, per);
    double times = rounds * turns_of(steps, per);
    double unit = warps * times * (a * conflicts(lane_stride(p, p->c->a, x), far_a) + b * conflicts(lane_stride(p, p->c->b, x), far_b));
    double issued = times * (instructions_of(p, p->c->a, a) + instructions_of(p, p->c->b, b) + tile * per + (flat ? TURN_OF_LANE : TURN));
    double wait = rounds * turns_of(steps, at_once) * ((far_a || far_b ? FAR : NEAR) + CHAIN * at_once), end = 0;
    for (int32_t n = 1; n < x->lanes; n *= 2)
        end += SHUFFLE + tile * ADD_LANES * turns_of(warps, QUARTERS);
    return most(most(unit, turns_of(warps, QUARTERS) * issued), issued + wait) + rounds * (START + end);
}

/* ---- the tile ---- */
/* Steps of the innermost loop that are unrolled: all of a short one, some of a long one. */
static int32_t chunk_of(const Search *p, const GpuBody *x)
{
    enum { MOST_STEPS = 128, FAR_STEPS = 16, NEAR_STEPS = 8 };
    int32_t extent = (int32_t)extent_in_slice(p->k, p->inner, p->samples), tile = x->unroll * x->spread;
    if (x->lanes > 1 && (x->shared < 0 || x->shared == p->inner))
        return NEAR_STEPS / 2;
    if (is_far(p, p->c->a) || is_far(p, p->c->b))
        return extent < FAR_STEPS ? extent : FAR_STEPS;
    if (extent * tile <= MOST_STEPS)
        return extent;
    int32_t best = 1;
    for (int32_t n = 2; n <= NEAR_STEPS; n++)
        best = extent % n == 0 ? n : best;
    return best;
}

static bool can_be_cut(const Search *p, int axis, int by) { return by == 1 || (!p->k->axis[axis].batch && p->k->axis[axis].extent % by == 0); }

static bool is_row(const GpuBody *x, int axis)
{
    for (int i = 0; i < x->n_rows; i++)
        if (x->row[i] == axis)
            return true;
    return false;
}

/* The tile with any number of lanes: they share the outermost axis of the depth that is long enough, a warp also all axes as one. */
static void try_lanes(const Search *p, const GpuBody *tile, GpuBody *best, double *cost)
{
    const AxisGroup *depth = &p->c->depth;
    for (int32_t lanes = 1; lanes <= GPU_WARP; lanes *= 2)
        for (int i = -1; i < depth->n; i++) {
            GpuBody x = *tile;
            if ((i < 0 && lanes > 1 && lanes < GPU_WARP) || (i >= 0 && (lanes == 1 || extent_in_slice(p->k, depth->axis[i], p->samples) < lanes)))
                continue;
            x.lanes = lanes;
            x.shared = (int8_t)(i < 0 ? -1 : depth->axis[i]);
            x.chunk = chunk_of(p, &x);
            double now = cost_of(p, &x);
            if (now < *cost) {
                *cost = now;
                *best = x;
                best->cycles = now;
            }
            if (i >= 0)
                break;
        }
}

/* All tiles with these two axes. */
static void try_axes(const Search *p, GpuBody *best, double *cost, int across, int unrolled)
{
    GpuBody x = *best;
    x.across = (int8_t)across;
    x.unrolled = (int8_t)unrolled;
    for (x.spread = 1; x.spread <= MOST_SIDE; x.spread++)
        for (x.unroll = 1; x.unroll <= MOST_SIDE && x.unroll * x.spread <= MOST_TILE; x.unroll++)
            if ((x.spread == 1 || is_row(&x, across)) && (x.unroll == 1 || is_row(&x, unrolled)) && can_be_cut(p, across, x.spread) &&
                can_be_cut(p, unrolled, x.unroll))
                try_lanes(p, &x, best, cost);
}

static void find_tile(GpuBody *x, const KernelList *l, const Contract *c, int64_t samples)
{
    Search p = {.l = l, .k = x->k, .c = c, .samples = samples, .depth = 1};
    double cost = 1e300;
    for (int i = 0; i < c->depth.n; i++)
        p.depth *= (double)extent_in_slice(x->k, c->depth.axis[i], samples);
    p.inner = c->depth.axis[c->depth.n - 1];
    p.last = x->row[x->n_rows - 1];
    x->contract = c;
    for (int i = 0; i < c->row.n || i == 0; i++)
        for (int j = 0; j < c->col.n || j == 0; j++)
            try_axes(&p, x, &cost, c->row.n ? c->row.axis[i] : 0, c->col.n ? c->col.axis[j] : 0);
}

/* k as a product of matrices, whose batch is only a loop inside its slice. */
static const Contract *product_in_slice(Arena *a, const KernelList *l, const Kernel *k)
{
    Kernel plain = *k;
    for (int i = 0; i < k->n_axes; i++)
        if (k->axis[i].batch_div || k->axis[i].batch_step)
            plain.axis[i] = (Axis){.kind = k->axis[i].kind, .extent = k->axis[i].extent};
    return outputs_differ(k) ? NULL : contract_as_product(a, l, &plain);
}

/* ---- all kernels ---- */
/* Cycles of a multiprocessor's threads: an element of a serial reduction; a step of a warp's; adding its lanes. */
#define COST_SERIAL 6.0
#define COST_LANES 8.0
#define COST_SHUFFLES 15.0
/* Until the last thread has passed a barrier. */
#define BARRIER 40.0

GpuBody body_in_slice(Arena *a, const KernelList *l, const Kernel *k, int64_t samples)
{
    GpuBody x = {.k = k, .form = GPU_MAP, .threads = GPU_SLICE_THREADS};
    uint32_t rows = 0;
    for (int i = 0; i < k->n_axes; i++)
        if ((out_axes(k, 0) >> i & 1) && !k->axis[i].batch_div)
            rows |= 1u << i;
    x.n_rows = axes_by_stride(l, k, rows, x.row);
    x.points = axes_points(k, rows);
    if (x.n_rows && k->axis[x.row[0]].batch)
        x.points = x.points / k->axis[x.row[0]].extent * samples;
    const Contract *c = product_in_slice(a, l, k);
    if (c && c->depth.n && x.n_rows) {
        find_tile(&x, l, c, samples);
        x.cycles += BARRIER;
        return x;
    }
    double rounds = turns_of((double)x.points, GPU_SLICE_THREADS), length = (double)longest_reduction(k, samples);
    double turns = most((double)x.points / WARPS, 1), serial = rounds * length * COST_SERIAL,
           shared = turns * (length / GPU_WARP * COST_LANES + COST_SHUFFLES);
    x.by_warp = !has_argmax(k) && !outputs_differ(k) && shared < serial && length >= GPU_WARP;
    x.cycles = BARRIER + START + (x.by_warp ? shared : serial);
    return x;
}
