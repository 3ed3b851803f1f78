/* Register tiles.
 * In: a kernel whose vector axis is known. Out: the nest's tile.
 *
 * A contraction sums a * b; ta points along an axis only a depends on, tb along one only b depends on, so a step is ta * tb multiply-adds
 * for ta + tb loads. The pair that costs the fewest cycles per step, edges included, wins; registers hold ta * tb sums and the operands of
 * one step. */
#include "codegen/schedule_impl.h"

enum { MAX_POINTS = 28, MAX_STREAMS = 4 };   /* points of a tile along one axis */

/* Axes only `at` depends on, not `other`: tile candidates. */
uint32_t sched_only(const Sched *s, AccessId at, AccessId other)
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
int sched_block_along(const Sched *s, int a)
{
    for (AccessId at = 0; at < s->k->n_access && a >= 0 && a != s->n->vector_axis; at++)
        if (s->lin[at].linear && s->lin[at].block[a])
            return s->lin[at].lanes;
    return 0;
}

/* A tile's points lie in one block. */
static bool tile_in_block(const Sched *s, int a, int64_t tile)
{
    int block = sched_block_along(s, a);
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
        if ((s->reduced >> r & 1) && !s->n->unroll[r] && s->k->axis[a].kind == AXIS_PAR && sched_guards_with(s, r, a) &&
            s->k->axis[r].extent > 1)
            return false;
    return s->contraction || !sched_block_along(s, a);
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
bool sched_keeps_pairs(const Sched *s, int axis, int64_t t)
{
    return axis < 0 || !(s->even >> axis & 1) || t % 2 == 0 || t >= s->k->axis[axis].extent || (t == 1 && axis != s->pairs);
}

/* Points along axes of `at` that a tile holds before its main axes are chosen. */
int64_t sched_tiled_already(const Sched *s, AccessId at)
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
    bool streams = axis >= 0 && others == 1 && vectors && sched_operand_bytes(s, at) > (double)s->t->l2;
    return streams ? MAX_STREAMS : MAX_POINTS;
}

void sched_tile_contraction(Sched *s)
{
    Nest *n = s->n;
    int aa = tile_axis(s, sched_only(s, s->a, s->b), s->a), ab = tile_axis(s, sched_only(s, s->b, s->a), s->b);
    int64_t ua = aa < 0 ? 1 : sched_units(s, aa), ub = ab < 0 ? 1 : sched_units(s, ab);
    Taps wa = taps_along(s, s->a, aa), wb = taps_along(s, s->b, ab);
    int64_t best_a = 1, best_b = 1;
    int64_t fa = sched_tiled_already(s, s->a), fb = sched_tiled_already(s, s->b);
    double best = -1;
    int64_t max_a = most_points(s, s->a, aa, ub), max_b = most_points(s, s->b, ab, ua);
    for (int64_t ta = 1; ta <= ua && ta <= max_a; ta++)
        for (int64_t tb = 1; tb <= ub && tb <= max_b; tb++) {
            bool smallest = ta * tb == 1 || (s->pairs >= 0 && ta * tb == 2);
            if ((!fits(s, ta * fa, tb * fb, wa, wb) && !smallest) || !sched_keeps_pairs(s, aa, ta) || !sched_keeps_pairs(s, ab, tb) ||
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
void sched_tile_reduction(Sched *s)
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
