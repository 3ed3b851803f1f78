/* The order of a nest's loops, and what is fetched meanwhile.
 * In: a kernel, before and after its register tile is known. Out: the nest's par and red, its own passes, ahead and early. */
#include "codegen/schedule_impl.h"

#include <string.h>

#define EARLY_TERMS 32.0          /* of a sum, at least, that hide what it costs to fetch a vector early */

static void push_axis(Nest *n, int a)
{
    for (int i = 0; i < n->n_par; i++)
        if (n->par[i] == a)
            return;
    n->par[n->n_par++] = (int8_t)a;
}

/* The outputs' axes as they are stored, outermost dims first; then whatever only inner expressions name. */
void sched_order_par(Sched *s)
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

void sched_order_red(Sched *s)
{
    for (int a = 0; a < s->k->n_axes; a++)
        if (s->reduced >> a & 1)
            s->n->red[s->n->n_red++] = (int8_t)a;
}

void sched_move_to(Nest *n, int axis, int place)
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

/* The operand without the pixel axes is the weights: when they do not stay in L2, their tiles go outside the pixels. */
void sched_order_contraction(Sched *s)
{
    Nest *n = s->n;
    if (s->k->part == WINOGRAD_PRODUCT) {   /* per point and panel of filters: all tiles, so that a panel is read once a strip */
        static const char *const outside[] = {"k", "x", "xr"};
        for (size_t i = 0; i < ARRAY_LEN(outside); i++)
            for (int a = 0; a < s->k->n_axes; a++)
                if (!strcmp(s->k->axis[a].name, outside[i]))
                    sched_move_to(n, a, 0);
        return;
    }
    uint32_t xa = access_axes(s->k, s->a), xb = access_axes(s->k, s->b);
    for (int i = n->n_par; i-- > 0;) {   /* tiles innermost, in order: weights' axis, then pixels' */
        int a = n->par[i];
        if (n->tile[a] > 1 && (xb >> a & 1) && !(xa >> a & 1))
            sched_move_to(n, a, n->n_par - 1);
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
        sched_move_to(n, pixels, n->n_par - 1);
    if (weights >= 0 && sched_operand_bytes(s, s->b) > (double)s->t->l2 / 2) {
        int place = 0;
        while (place < n->n_par && s->k->axis[n->par[place]].batch)
            place++;
        if (s->k->axis[n->par[0]].batch && s->k->axis[n->par[0]].extent == 1)
            place = 1;
        if (n->over_batch || n->group)
            place = 0;
        sched_move_to(n, weights, place < n->n_par ? place : 0);
    }
}

/* A weight gradient of a few samples writes more than it computes: row after row, each through all columns of a slice, if the samples' stay
 * in L2 meanwhile. Column by column every line would be of another page (Zen 3, 8 samples, 4096 rows of 9216: 60.8 ms, by rows 21). */
void sched_write_rows(Sched *s)
{
    const Linear *y = &s->lin[s->k->out[0].at];
    int v = s->n->vector_axis;
    bool along = s->k->n_out == 1 && v >= 0 && s->k->axis[v].kind == AXIS_PAR && y->linear && access_lane_stride(y, v) == 1;
    if (!along || sched_operand_bytes(s, s->k->out[0].at) <= (double)s->t->l2)
        return;
    for (int a = 0; a < s->k->n_axes; a++)
        if ((s->reduced >> a & 1) && !s->k->axis[a].batch)
            return;
    AccessId of_columns = access_axes(s->k, s->a) >> v & 1 ? s->a : s->b;
    double piece = sched_operand_bytes(s, of_columns) / s->k->axis[v].extent * PAGE / 4;   /* of a row, at least, that slices take */
    bool apart = false;
    for (int i = 0; i < s->n->n_par; i++)
        apart = apart || y->unit[s->n->par[i]] * 4 >= PAGE;
    s->n->by_rows = apart && piece <= COLUMNS_OF_L2 * (double)s->t->l2;
    if (s->n->by_rows)
        sched_move_to(s->n, v, s->n->n_par - 1);
}

/* Steps that read the same columns follow each other: innermost the rows', around them those of another axis of tiles of rows. */
void sched_order_tiles(Sched *s)
{
    Nest *n = s->n;
    for (int i = n->n_par; i-- > 0;)
        if (n->tile[n->par[i]] > 1 && n->par[i] != n->vector_axis)
            sched_move_to(n, n->par[i], n->n_par - 1);
    sched_move_to(n, n->rows_axis, n->n_par - 1);
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
void sched_visit_rows(Sched *s)
{
    const Kernel *k = s->k;
    Nest *n = s->n;
    int v = n->vector_axis, column = sched_innermost_red(s), row = v < 0 || column < 0 ? -1 : other_sum(s, v, column);
    if (row < 0 || !k->axis[v].batch || k->axis[v].kind != AXIS_RED || k->n_strip || k->n_out != 1 || k->out[0].value != s->main || !s->t->samples)
        return;
    int64_t bytes = 4 * n->lanes * k->axis[column].extent * sched_tiled_already(s, s->a);
    if (k->axis[v].extent != n->lanes || bytes * k->axis[row].extent < s->t->l2 / 2)
        return;
    int64_t rows = s->t->l1 * 9 / 10 / bytes;
    n->own_passes = true;
    n->n_inner = n->n_passes = 1;
    n->inner_axis[0] = (int8_t)row;
    n->inner_size[0] = rows > 1 ? (int32_t)rows : 1;
    for (int a = 0; a < k->n_axes; a++)   /* the rows of a tile of filters meet all channels */
        if (n->tile[a] > 1 && (sched_only(s, s->a, s->b) >> a & 1))
            sched_move_to(n, a, k->axis[n->par[0]].batch ? 1 : 0);
}

/* ---- fetching ---- */
/* A panel of weights, [reduced][tile][lanes], is multiplied with one tile of pixels after the other. Meanwhile the next one, which lies
 * behind it, comes from L3 or memory, a part of it with each tile. */
void sched_fetch_ahead(Sched *s)
{
    Nest *n = s->n;
    int filters = n->vector_axis, place = 0;
    if (filters < 0 || s->k->n_passes > 0 || n->over_batch || !s->lin[s->b].block[filters] || sched_operand_bytes(s, s->b) <= (double)s->t->l2 / 2)
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
void sched_fetch_early(Sched *s)
{
    int v = s->n->vector_axis;
    if (v < 0 || !(s->par >> v & 1) || s->k->axis[v].batch || kernel_points(s->k, s->k->expr[s->main].axes) < EARLY_TERMS)
        return;
    for (AccessId at = 0; at < s->k->n_access && at < 64; at++) {
        bool factor = at == s->a || at == s->b, along = s->lin[at].linear && access_lane_stride(&s->lin[at], v) == 1;
        bool far = !factor && along && far_bytes(s, at) > (double)s->t->l2 / 2;
        for (int d = 0; d < s->k->access[at].rank; d++)
            far = far && !s->k->access[at].dim[d].guarded;
        if (far && !(access_axes(s->k, at) & ~s->par))
            s->n->early |= 1ull << at;
    }
}

/* A transform of images in the lanes takes a few columns of tiles of every channel: planes lie far apart, in L3 or memory. Neighbouring
 * tiles follow each other, for they share lines, and meanwhile the next plane's come. */
void sched_fetch_planes(Sched *s)
{
    const Kernel *k = s->k;
    bool input = k->part == WINOGRAD_INPUT;
    if ((!input && k->part != WINOGRAD_OUTPUT) || s->n->vector_axis < 0 || !k->axis[s->n->vector_axis].batch)
        return;
    for (int a = 0; a < k->n_axes; a++) {
        if (!strcmp(k->axis[a].name, "u"))
            sched_move_to(s->n, a, s->n->n_par - 1);
        if (!strcmp(k->axis[a].name, input ? "c" : "k")) {
            s->n->ahead = input ? 0 : k->out[0].at;
            s->n->ahead_by = s->lin[s->n->ahead].unit[a];
        }
    }
}
