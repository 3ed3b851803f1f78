/* The schedule of one kernel: vector axis (schedule_vector.c), register tile, loop order.
 * In: a kernel whose buffers have layouts, and the target's lanes and registers. Out: a Nest. Never fails: a kernel that
 * fits no pattern gets scalar loops.
 *
 * Register tile: a contraction sums a * b; ta points along an axis only a depends on, tb along one only b
 * depends on, so a step is ta * tb multiply-adds for ta + tb loads. The pair that costs the fewest cycles per step, edges
 * included, wins; registers hold ta * tb sums and the operands of one step. */
#include "codegen/schedule_impl.h"
#include "codegen/tiles.h"

#include <string.h>

#define EARLY_TERMS 32.0          /* of a sum, at least, that hide what it costs to fetch a vector early */
enum { MAX_POINTS = 28, MAX_STREAMS = 4, MANY_USES = 16 };   /* points of a tile along one axis; uses of a weight by one sample */

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

/* ---- loop order ---- */
static void push_axis(Nest *n, int a)
{
    for (int i = 0; i < n->n_par; i++)
        if (n->par[i] == a)
            return;
    n->par[n->n_par++] = (int8_t)a;
}

/* The outputs' axes as they are stored, outermost dims first; then whatever only inner expressions name. */
static void order_par(Sched *s)
{
    const Kernel *k = s->k;
    for (int i = 0; i < k->n_out; i++) {
        const Access *x = &k->access[k->out[i].at];
        for (int d = 0; d < x->rank; d++)
            for (int a = 0; a < k->n_axes; a++)
                if (x->dim[s->l->buffers.at[x->buf].layout.order[d]].coef[a] && (s->par >> a & 1))
                    push_axis(s->n, a);
    }
    for (int a = 0; a < k->n_axes; a++)
        if (s->par >> a & 1)
            push_axis(s->n, a);
}

static void order_red(Sched *s)
{
    for (int a = 0; a < s->k->n_axes; a++)
        if (s->reduced >> a & 1)
            s->n->red[s->n->n_red++] = (int8_t)a;
}

static void move_to(Nest *n, int axis, int place)
{
    int at = 0;
    while (at < n->n_par && n->par[at] != axis)
        at++;
    if (at == n->n_par)
        return;
    memmove(&n->par[at], &n->par[at + 1], sizeof *n->par * (size_t)(n->n_par - at - 1));
    memmove(&n->par[place + 1], &n->par[place], sizeof *n->par * (size_t)(n->n_par - 1 - place));
    n->par[place] = (int8_t)axis;
}

/* Weight bytes that one pass over all output channels reads. */
static double operand_bytes(const Sched *s, AccessId at) { return kernel_points(s->k, access_axes(s->k, at)) * 4; }

/* ---- unrolled reduction axes ---- */
/* Is axis a part of a guarded dim together with a parallel axis? Then unrolling it lets edge tiles drop their taps. */
static bool guards_with(const Sched *s, int red, int par)
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
    if (!s->contraction || s->k->n_strip || operand_bytes(s, s->b) <= (double)s->t->l2)
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

static int innermost_red(const Sched *s)
{
    for (int i = s->n->n_red; i-- > 0;) {
        int a = s->n->red[i];
        if (a != s->n->vector_axis && !s->k->axis[a].batch && !kernel_cuts(s->k, a))
            return a;
    }
    return -1;
}

/* ---- register tiles ---- */
/* Axes only `at` depends on, not `other`: tile candidates. */
static uint32_t only(const Sched *s, AccessId at, AccessId other)
{
    return access_axes(s->k, at) & ~access_axes(s->k, other) & s->par;
}

int64_t sched_units(const Sched *s, int a)
{
    int64_t e = s->k->axis[a].extent;
    if (s->k->axis[a].batch && a == s->n->vector_axis && s->t->samples > 0 && s->t->samples < e)
        e = s->t->samples;
    for (int i = 0; i < s->k->n_strip; i++)
        if (s->k->strip_axis[i] == a && s->k->strip_size[i] < e)
            e = s->k->strip_size[i];
    return a == s->n->vector_axis ? (e + s->n->lanes - 1) / s->n->lanes : e;
}

/* Indices of a block when axis a runs along a blocked dim outside the lanes (its loop goes by blocks and inside them); else 0. */
static int block_along(const Sched *s, int a)
{
    for (AccessId at = 0; at < s->k->n_access && a >= 0 && a != s->n->vector_axis; at++)
        if (s->lin[at].linear && s->lin[at].block[a])
            return s->lin[at].lanes;
    return 0;
}

/* A tile's points lie in one block. */
static bool tile_in_block(const Sched *s, int a, int64_t tile)
{
    int block = block_along(s, a);
    return !block || block % tile == 0;
}

/* Samples that a tile may hold: all of the batch, or the vectors of a slice. */
static bool samples_tileable(const Sched *s, int a)
{
    return s->n->over_batch || (s->n->apart && a == s->n->vector_axis && s->t->samples > s->n->lanes);
}

static bool tileable(const Sched *s, int a)
{
    if (a < 0 || (s->k->axis[a].batch && !samples_tileable(s, a)) || sched_units(s, a) < 2 || s->n->tile[a] > 1)
        return false;
    for (int r = 0; r < s->k->n_axes; r++)   /* its guard must clip a running loop: one point at a time */
        if ((s->reduced >> r & 1) && !s->n->unroll[r] && s->k->axis[a].kind == AXIS_PAR && guards_with(s, r, a) &&
            s->k->axis[r].extent > 1)
            return false;
    return s->contraction || !block_along(s, a);
}

/* Candidate of `set` whose neighbouring points are nearest in memory for access at (last in loop order on ties). */
static int tile_axis(const Sched *s, uint32_t set, AccessId at)
{
    int best = -1;
    for (int i = 0; i < s->n->n_par; i++) {
        int a = s->n->par[i];
        if (!(set >> a & 1) || !tileable(s, a))
            continue;
        if (best < 0 || sched_units(s, a) >= 4 || s->lin[at].unit[a] <= s->lin[at].unit[best])
            best = a;
    }
    return best;
}

/* Vectors of one reduction step that come from L2: those of a tile's panel of vectors, [reduced][tile][lanes], when it does not stay in L1
 * from one tile of the other operand to the next. */
static double loads_from_l2(const Sched *s, int64_t ta, int64_t tb)
{
    int v = s->n->vector_axis;
    if (v < 0 || !(s->par >> v & 1))
        return 0;
    bool b = access_axes(s->k, s->b) >> v & 1;
    double vectors = (double)(b ? tb : ta), panel = vectors * sched_terms(s) * s->n->lanes * 4;
    return panel > PANEL_OF_L1 * (double)s->t->l1 ? vectors : 0;
}

/* Turns of the multipliers for one reduction step of a ta x tb tile, on a CPU with two of them and two loads a turn. */
static double step_cost(const Sched *s, int64_t ta, int64_t tb)
{
    const double latency = s->k->expr[s->k->expr[s->main].a].op == EX_DOT ? 12 : 8.5;
    double sums = (double)(ta * tb), loads = (double)(ta + tb);
    double fma = sums > latency ? sums : latency;
    return (fma > loads ? fma : loads) + 0.35 + loads * 0.06 + 0.5 * loads_from_l2(s, ta, tb);
}

/* An axis cut into tiles: `tiles` of `size` points, then `rests` of `rest`. */
typedef struct { int64_t tiles, size, rests, rest; } Cut;

/* What is left of the batch goes one by one: how many there are is known at run time only. */
static Cut cut_axis(const Sched *s, int axis, int64_t units, int64_t size)
{
    int64_t rest = units % size;
    bool batch = axis >= 0 && s->k->axis[axis].batch;
    return (Cut){units / size, size, batch ? rest : rest > 0, batch ? 1 : rest};
}

static double tiles_cost(const Sched *s, Cut a, Cut b)
{
    double c = (double)(a.tiles * b.tiles) * step_cost(s, a.size, b.size);
    if (a.rests)
        c += (double)(a.rests * b.tiles) * step_cost(s, a.rest, b.size);
    if (b.rests)
        c += (double)(a.tiles * b.rests) * step_cost(s, a.size, b.rest);
    if (a.rests && b.rests)
        c += (double)(a.rests * b.rests) * step_cost(s, a.rest, b.rest);
    return c;
}

/* Unrolled taps that slide along a tile axis, `stride` of them from one point to the next: neighbouring points share loads. */
typedef struct { int64_t n, stride; } Taps;

static Taps taps_along(const Sched *s, AccessId at, int axis)
{
    for (int r = 0; r < s->k->n_axes && axis >= 0; r++)
        if (s->n->unroll[r] && !s->n->apart)
            for (int d = 0; d < s->k->access[at].rank; d++) {
                int32_t stride = s->k->access[at].dim[d].coef[axis];
                if (s->k->access[at].dim[d].coef[r] && stride)
                    return (Taps){s->k->axis[r].extent, stride < 0 ? -stride : stride};
            }
    return (Taps){1, 1};
}

/* Registers of t points of an operand and of the taps beside them. Where multiply-adds read memory, those of one tap and, with strides,
 * those that wait for the tap after the next. */
static int64_t window(const Sched *s, int64_t t, Taps taps)
{
    bool strided = taps.stride > 1 && taps.stride < taps.n;
    if (s->t->load_store || s->t->products)
        return (t - 1) * (strided ? taps.stride : 1) + taps.n;
    return strided && 2 * t > t - 1 + taps.n ? 2 * t : t - 1 + taps.n;
}

/* Registers of one step: sums, the operand kept while the other one streams, and spare ones; a window of unrolled taps along a
 * tile axis keeps its neighbours too. */
static bool fits(const Sched *s, int64_t ta, int64_t tb, Taps taps_a, Taps taps_b)
{
    if (s->n->apart)   /* the smaller operand, and one value of the other */
        return ta * tb + (ta < tb ? ta : tb) + 1 <= s->t->registers;
    int64_t hold_a = window(s, ta, taps_a), hold_b = window(s, tb, taps_b);
    int64_t hold = hold_a < hold_b ? hold_a : hold_b;
    if (taps_a.n > 1)
        hold = hold_a;
    if (taps_b.n > 1)
        hold = hold_b;
    int64_t spare = s->t->products ? 4 : s->t->load_store || few_registers(s->t) ? 2 : 1;   /* LLVM loads a value or two before their turn */
    return ta * tb + hold + spare <= s->t->registers;
}

/* Does a tile of t points hold whole pairs, or a single point that is only read? */
static bool keeps_pairs(const Sched *s, int axis, int64_t t)
{
    return axis < 0 || !(s->even >> axis & 1) || t % 2 == 0 || t >= s->k->axis[axis].extent || (t == 1 && axis != s->pairs);
}

/* Points along axes of `at` that a tile holds before its main axes are chosen. */
static int64_t tiled_already(const Sched *s, AccessId at)
{
    int64_t f = 1;
    for (int a = 0; a < s->k->n_axes; a++)
        if (access_axes(s->k, at) >> a & 1)
            f *= s->n->tile[a];
    return f;
}

/* Most points of a tile along `axis` of operand `at`, which meets `others` units of the other operand. An operand whose vectors are
 * used once and lie in memory is read as so many streams as the tile has points: more than the prefetchers follow are slow. Numbers
 * that are broadcast last a vector of multiply-adds each, and come in time. */
static int64_t most_points(const Sched *s, AccessId at, int axis, int64_t others)
{
    bool vectors = s->n->vector_axis >= 0 && access_axes(s->k, at) >> s->n->vector_axis & 1;
    bool streams = axis >= 0 && others == 1 && vectors && operand_bytes(s, at) > (double)s->t->l2;
    return streams ? MAX_STREAMS : MAX_POINTS;
}

static void tile_contraction(Sched *s)
{
    Nest *n = s->n;
    int aa = tile_axis(s, only(s, s->a, s->b), s->a), ab = tile_axis(s, only(s, s->b, s->a), s->b);
    int64_t ua = aa < 0 ? 1 : sched_units(s, aa), ub = ab < 0 ? 1 : sched_units(s, ab);
    Taps wa = taps_along(s, s->a, aa), wb = taps_along(s, s->b, ab);
    int64_t best_a = 1, best_b = 1;
    int64_t fa = tiled_already(s, s->a), fb = tiled_already(s, s->b);
    double best = -1;
    int64_t max_a = most_points(s, s->a, aa, ub), max_b = most_points(s, s->b, ab, ua);
    for (int64_t ta = 1; ta <= ua && ta <= max_a; ta++)
        for (int64_t tb = 1; tb <= ub && tb <= max_b; tb++) {
            bool smallest = ta * tb == 1 || (s->pairs >= 0 && ta * tb == 2);
            if ((!fits(s, ta * fa, tb * fb, wa, wb) && !smallest) || !keeps_pairs(s, aa, ta) || !keeps_pairs(s, ab, tb) ||
                !tile_in_block(s, aa, ta) || !tile_in_block(s, ab, tb))
                continue;
            double c = tiles_cost(s, cut_axis(s, aa, ua * fa, ta * fa), cut_axis(s, ab, ub * fb, tb * fb));
            if (best < 0 || c < best * 0.999) {
                best = c;
                best_a = ta;
                best_b = tb;
            }
        }
    if (aa >= 0)
        n->tile[aa] = (int32_t)best_a;
    if (ab >= 0)
        n->tile[ab] = (int32_t)best_b;
}

/* Reductions that are no contraction keep a few sums in flight to cover the adder's latency: of neighbours along another axis, or of
 * more vectors. */
static void tile_reduction(Sched *s)
{
    int best = -1;
    for (int i = 0; i < s->n->n_par; i++) {
        int a = s->n->par[i];
        if (tileable(s, a) && (a != s->n->vector_axis || best < 0))
            best = best < 0 || a != s->n->vector_axis ? a : best;
    }
    if (best < 0)
        return;
    int64_t e = best == s->n->vector_axis ? s->k->axis[best].extent / s->n->lanes : s->k->axis[best].extent, t = 4;
    while (t > 1 && e % t)
        t--;
    s->n->tile[best] = (int32_t)(t > 1 ? t : e > 0 && e < 4 ? e : 1);
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
        if ((s->reduced >> r & 1) && s->n->vector_axis >= 0 && guards_with(s, r, s->n->vector_axis))
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
    int last = innermost_red(s);
    if (last >= 0 && s->k->axis[last].extent <= 11 && (s->contraction || window <= 64))
        for (int i = 0; i < n->n_par; i++)
            if (guards_with(s, last, n->par[i]) || s->k->axis[last].extent <= 7)
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
            if ((s->reduced >> r & 1) && r == innermost_red(s) && guards_with(s, p, r)) {
                n->tile[p] = s->k->axis[p].extent;
                return;
            }
    }
}

/* The operand without the pixel axes is the weights: when they do not stay in L2, their tiles go outside the pixels. */
static void order_contraction(Sched *s)
{
    Nest *n = s->n;
    if (s->k->part == WINOGRAD_PRODUCT) {   /* per point and panel of filters: all tiles, so that a panel is read once a strip */
        static const char *const outside[] = {"k", "x", "xr"};
        for (size_t i = 0; i < ARRAY_LEN(outside); i++)
            for (int a = 0; a < s->k->n_axes; a++)
                if (!strcmp(s->k->axis[a].name, outside[i]))
                    move_to(n, a, 0);
        return;
    }
    uint32_t xa = access_axes(s->k, s->a), xb = access_axes(s->k, s->b);
    for (int i = n->n_par; i-- > 0;) {   /* tiles innermost, in order: weights' axis, then pixels' */
        int a = n->par[i];
        if (n->tile[a] > 1 && (xb >> a & 1) && !(xa >> a & 1))
            move_to(n, a, n->n_par - 1);
    }
    int pixels = -1, weights = -1;
    for (int i = 0; i < n->n_par; i++) {
        int a = n->par[i];
        if ((xa >> a & 1) && !(xb >> a & 1) && n->tile[a] > 1)
            pixels = a;
        if ((xb >> a & 1) && !(xa >> a & 1) && (n->tile[a] > 1 || a == n->vector_axis))
            weights = a;
    }
    if (pixels >= 0)
        move_to(n, pixels, n->n_par - 1);
    if (weights >= 0 && operand_bytes(s, s->b) > (double)s->t->l2 / 2) {
        int place = 0;
        while (place < n->n_par && s->k->axis[n->par[place]].batch)
            place++;
        if (s->k->axis[n->par[0]].batch && s->k->axis[n->par[0]].extent == 1)
            place = 1;
        if (n->over_batch || n->group)
            place = 0;
        move_to(n, weights, place < n->n_par ? place : 0);
    }
}

/* A weight gradient of a few samples writes more than it computes: row after row, each through all its columns, if the samples' stay in L2
 * meanwhile. Column by column every line would be of another page (Zen 3, 8 samples, 4096 rows of 9216: 60.8 ms, by rows 21). */
static void write_rows(Sched *s)
{
    const Linear *y = &s->lin[s->k->out[0].at];
    int v = s->n->vector_axis;
    bool along = s->k->n_out == 1 && v >= 0 && s->k->axis[v].kind == AXIS_PAR && y->linear && access_lane_stride(y, v) == 1;
    if (!along || operand_bytes(s, s->k->out[0].at) <= (double)s->t->l2)
        return;
    for (int a = 0; a < s->k->n_axes; a++)
        if ((s->reduced >> a & 1) && !s->k->axis[a].batch)
            return;
    double columns = operand_bytes(s, access_axes(s->k, s->a) >> v & 1 ? s->a : s->b);
    for (int i = 0; i < s->n->n_par; i++)
        if (y->unit[s->n->par[i]] * 4 >= PAGE && columns <= 0.75 * (double)s->t->l2) {
            move_to(s->n, v, s->n->n_par - 1);
            return;
        }
}

/* Steps that read the same columns follow each other: innermost the rows', around them those of another axis of tiles of rows. */
static void order_tiles(Sched *s)
{
    Nest *n = s->n;
    for (int i = n->n_par; i-- > 0;)
        if (n->tile[n->par[i]] > 1 && n->par[i] != n->vector_axis)
            move_to(n, n->par[i], n->n_par - 1);
    move_to(n, n->rows_axis, n->n_par - 1);
}

/* A panel of weights, [reduced][tile][lanes], is multiplied with one tile of pixels after the other. Meanwhile the next one, which lies
 * behind it, comes from L3 or memory, a part of it with each tile. */
static void fetch_ahead(Sched *s)
{
    Nest *n = s->n;
    int filters = n->vector_axis, place = 0;
    if (filters < 0 || s->k->n_passes > 0 || n->over_batch || !s->lin[s->b].block[filters] || operand_bytes(s, s->b) <= (double)s->t->l2 / 2)
        return;
    while (place < n->n_par && n->par[place] != filters)
        place++;
    for (int i = place + 1; i < n->n_par && n->ahead < 0; i++) {
        int a = n->par[i];
        if (s->k->axis[a].extent < 2 || (access_axes(s->k, s->b) >> a & 1) || kernel_cuts(s->k, a))
            continue;
        n->ahead = s->b;
        n->ahead_axis = a;
    }
}

static double far_bytes(const Sched *s, AccessId at)
{
    const Buffer *b = &s->l->buffers.at[s->k->access[at].buf];
    return (double)((b->strip_elements ? b->strip_elements : buffer_elements(b)) * (int64_t)dtype_size(b->dtype));
}

/* Where a tile's results go, and what they are combined with after a long sum, comes from beyond L2 while the sum runs. With images in
 * the lanes a slice goes through many layers at once, and its values are near. */
static void fetch_early(Sched *s)
{
    int v = s->n->vector_axis;
    if (v < 0 || !(s->par >> v & 1) || s->k->axis[v].batch || kernel_points(s->k, s->k->expr[s->main].axes) < EARLY_TERMS)
        return;
    for (AccessId at = 0; at < s->k->n_access && at < 64; at++) {
        bool far = at != s->a && at != s->b && s->lin[at].linear && access_lane_stride(&s->lin[at], v) == 1 && far_bytes(s, at) > (double)s->t->l2 / 2;
        for (int d = 0; d < s->k->access[at].rank; d++)
            far = far && !s->k->access[at].dim[d].guarded;
        if (far && !(access_axes(s->k, at) & ~s->par))
            s->n->early |= 1ull << at;
    }
}

/* The axis that the main sum runs over beside v and inner; -1: none, or several. */
static int other_sum(const Sched *s, int v, int inner)
{
    int found = -1;
    for (int a = 0; a < s->k->n_axes; a++) {
        if (!(s->reduced >> a & 1) || a == v || a == inner)
            continue;
        if (found >= 0)
            return -1;
        found = a;
    }
    return found;
}

/* A weight gradient of images in the lanes sweeps whole planes for every tile of weights. Where those of one tile fill half of L2, it
 * takes as many of their rows as L1 holds, for all weights, before the next ones; sums add up in memory. */
static void visit_rows(Sched *s)
{
    const Kernel *k = s->k;
    Nest *n = s->n;
    int v = n->vector_axis, column = innermost_red(s), row = v < 0 || column < 0 ? -1 : other_sum(s, v, column);
    if (row < 0 || !k->axis[v].batch || k->axis[v].kind != AXIS_RED || k->n_strip || k->n_out != 1 || k->out[0].value != s->main || !s->t->samples)
        return;
    int64_t bytes = 4 * n->lanes * k->axis[column].extent * tiled_already(s, s->a);
    if (k->axis[v].extent != n->lanes || bytes * k->axis[row].extent < s->t->l2 / 2)
        return;
    int64_t rows = s->t->l1 * 9 / 10 / bytes;
    n->own_passes = true;
    n->n_inner = n->n_passes = 1;
    n->inner_axis[0] = (int8_t)row;
    n->inner_size[0] = rows > 1 ? (int32_t)rows : 1;
    for (int a = 0; a < k->n_axes; a++)   /* the rows of a tile of filters meet all channels */
        if (n->tile[a] > 1 && (only(s, s->a, s->b) >> a & 1))
            move_to(n, a, k->axis[n->par[0]].batch ? 1 : 0);
}

/* A transform of images in the lanes takes a few columns of tiles of every channel: planes lie far apart, in L3 or memory. Neighbouring
 * tiles follow each other, for they share lines, and meanwhile the next plane's come. */
static void fetch_planes(Sched *s)
{
    const Kernel *k = s->k;
    bool input = k->part == WINOGRAD_INPUT;
    if ((!input && k->part != WINOGRAD_OUTPUT) || s->n->vector_axis < 0 || !k->axis[s->n->vector_axis].batch)
        return;
    for (int a = 0; a < k->n_axes; a++) {
        if (!strcmp(k->axis[a].name, "u"))
            move_to(s->n, a, s->n->n_par - 1);
        if (!strcmp(k->axis[a].name, input ? "c" : "k")) {
            s->n->ahead = input ? 0 : k->out[0].at;
            s->n->ahead_by = s->lin[s->n->ahead].unit[a];
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
        move_to(n, n->vector_axis, 0);
}

/* Tiles chosen otherwise: outputs in pairs of bf16 need both neighbours at hand. */
static void tile_pairs(Sched *s)
{
    for (int a = 0; a < s->k->n_axes; a++)
        if (!keeps_pairs(s, a, s->n->tile[a]))
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
        tile_contraction(s);
        order_contraction(s);
        write_rows(s);
        sched_place_portions(s);
        fetch_ahead(s);
        fetch_early(s);
        visit_rows(s);
    } else if (s->main) {
        tile_reduction(s);
    } else {
        find_transpose(s);
        sched_weave(s);
        fetch_planes(s);
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
    order_par(&s);
    order_red(&s);
    if (tiles_schedule(l, t, n)) {
        order_contraction(&s);
        order_tiles(&s);
    } else {
        sched_pick_vector_axis(&s);
        tile_vectors(&s);
    }
    for (int i = 0; i < n->n_par; i++)
        n->block[n->par[i]] = (uint8_t)block_along(&s, n->par[i]);
    return n;
}
