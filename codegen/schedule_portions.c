/* Long sums in portions.
 * In: a contraction with few registers. Out: the nest's portion axis, the size of a portion, and the loops inside which portions follow each
 * other. Relies on the emitter to keep the sum in the output in between.
 * Idea: a tile reads its panel of weights, [reduced][tile][lanes], once for each tile of the other operand. One that does not stay in L1
 * comes from L2 every time, and tiles of 12 vectors use it up faster than L2 gives it. A portion of the panel stays in L1 while all tiles
 * go by; what is added up so far costs a load and a store a tile. */
#include "codegen/choose.h"
#include "codegen/schedule_impl.h"

/* Vectors of weights of a tile; tiles of one panel, and terms of a portion, that do not pay for the sums' way through memory. */
enum { PANEL_VECTORS = 2, FEW_TILES = 3, FEW_TERMS = 96 };
enum { MOST_ROWS = 32, FEWEST_ROWS = 8 };   /* rows of a portion (Zen 3, 8 samples, 4096 rows of 9216: 17.6 ms, 36.7 without portions) */

double sched_terms(const Sched *s)
{
    const Nest *n = s->n;
    double terms = kernel_points(s->k, s->k->expr[s->main].axes);
    return n->portion_axis < 0 ? terms : terms / s->k->axis[n->portion_axis].extent * n->portion;
}

/* One sum that is stored where it is computed, in whole vectors of float32, by a kernel that reads nothing else of that buffer. */
static bool keeps_sum_in_output(const Sched *s)
{
    const Kernel *k = s->k;
    if (k->n_out != 1 || !nest_sum(s->n) || s->n->group || k->n_passes || s->pairs >= 0)
        return false;
    const Access *out = &k->access[k->out[0].at];
    if (s->l->buffers.at[out->buf].dtype != DT_F32 || access_axes(k, k->out[0].at) != s->par ||
        access_lane_stride(&s->lin[k->out[0].at], s->n->vector_axis) != 1)
        return false;
    for (AccessId at = 0; at < k->n_access; at++)
        if (at != k->out[0].at && buffer_root(s->l, k->access[at].buf) == buffer_root(s->l, out->buf))
            return false;
    return true;
}

/* Indices of axis a along a blocked dim; 1: along none. */
static int64_t block_of(const Sched *s, int a)
{
    for (AccessId at = 0; at < s->k->n_access; at++)
        if (s->lin[at].block[a])
            return s->lin[at].lanes;
    return 1;
}

/* Do the weights depend on what is in the lanes and, but for what is summed over, on nothing else, and the other operand on the rest? (Of
 * Linear with images in the lanes, whose panel is the images', portions were no faster: its weights then come in short runs.) */
static bool has_panel(const Sched *s)
{
    uint32_t lanes = 1u << s->n->vector_axis;
    return (access_axes(s->k, s->b) & s->par) == lanes && !(access_axes(s->k, s->a) & lanes);
}

/* The most indices of axis a, whole blocks that divide its extent, of which a panel of so many vectors stays in L1; 0: all do. */
static int32_t portion_of(const Sched *s, int a, int vectors)
{
    int64_t extent = s->k->axis[a].extent, block = block_of(s, a);
    double terms = kernel_points(s->k, s->k->expr[s->main].axes) / (double)extent;
    double room = PANEL_OF_L1 * (double)s->t->l1 / (terms * vectors * s->n->lanes * 4);
    if ((double)extent <= room)
        return 0;
    int64_t most = (int64_t)room / block * block;
    while (most > 0 && extent % most)
        most -= block;
    return most > 0 && terms * (double)most >= FEW_TERMS ? (int32_t)most : 0;
}

/* Of weights in rows that lie apart, one for every index of axis a: those of a portion, which divide all of them; 0: there are none. */
static int32_t rows_of(const Sched *s, int a)
{
    const Linear *w = &s->lin[s->b];
    int32_t rows = MOST_ROWS;
    if (!w->linear || w->block[a] || w->unit[a] * 4 < PAGE || access_lane_stride(w, s->n->vector_axis) != 1)
        return 0;
    while (rows >= FEWEST_ROWS && s->k->axis[a].extent % rows)
        rows--;
    return rows >= FEWEST_ROWS && rows < s->k->axis[a].extent ? rows : 0;
}

void sched_pick_portion(Sched *s)
{
    Nest *n = s->n;
    int v = n->vector_axis, a = n->n_red ? n->red[0] : -1;
    if (v < 0 || a < 0 || !has_panel(s) || s->k->axis[a].batch || kernel_cuts(s->k, a) || n->unroll[a] || !keeps_sum_in_output(s))
        return;
    n->portion = n->over_batch ? rows_of(s, a) : n->apart ? portion_of(s, a, PANEL_VECTORS) : 0;
    n->portion_axis = n->portion ? a : -1;
}

void sched_place_portions(Sched *s)
{
    Nest *n = s->n;
    int level = 0;
    double tiles = 1;
    if (n->portion_axis < 0 || n->over_batch)   /* rows: outside all loops */
        return;
    if (sched_units(s, n->vector_axis) > n->tile[n->vector_axis]) {   /* else there is one panel, and its loop may be anywhere */
        while (n->par[level] != n->vector_axis)
            level++;
        level++;
    }
    for (int i = level; i < n->n_par; i++)
        tiles *= (double)sched_units(s, n->par[i]) / n->tile[n->par[i]];
    int32_t portion = portion_of(s, n->portion_axis, n->tile[n->vector_axis]);
    n->portion = portion ? portion : n->portion;
    n->portion_level = level;
    if (tiles < FEW_TILES)
        n->portion_axis = -1;
}
