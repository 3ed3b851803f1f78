/* Schedules of tiles (see tiles.h).
 * In: a nest with the order of its axes. Out: which axis is in the columns of tiles, which in the rows, which in their depth, and how
 * many of each.
 * Idea: a step loads m tiles of rows and n of columns and multiplies each with each, so m x n sums stay in registers: 2 x 2 of 8, where
 * a tile is loaded per product, or 1 x 4. The time of a product goes with its rows, so an axis is cut evenly: 56 into 4 times 14, and
 * 17 into two times 9 that share a row. Where lines are short, the rows go through them: 8 lines of 8, with a border 10 apart, are 78 rows. */
#include "codegen/tiles.h"

#include <string.h>

enum { FULL_STEP = 24 };   /* rows of a step that keep the tiles of b well used */

typedef struct {
    const Kernel *k;
    Nest *n;
    Linear *lin;         /* by access */
    ExprId sum;
    AccessId a, b;       /* the operands: b has the columns */
    int columns, depth;  /* the axis in the lanes; the summed axis along which pairs lie */
    uint32_t blocked;    /* axes along blocks or pairs of some buffer, or that guard a or b */
} Tiles;

static bool find_sum(Tiles *t)
{
    for (ExprId e = 1; e < t->k->n_expr; e++) {
        const Expr *x = &t->k->expr[e];
        if (x->op == EX_MAX_OVER || x->op == EX_ARGMAX || (x->op == EX_SUM && t->sum))
            return false;
        if (x->op == EX_SUM)
            t->sum = e;
    }
    return t->sum && t->k->expr[t->k->expr[t->sum].a].op == EX_DOT;
}

/* The operand with 16 neighbours of an axis side by side, which the other one does not depend on: these are the columns. */
static bool find_columns(Tiles *t)
{
    const Expr *m = &t->k->expr[t->k->expr[t->sum].a];
    const AccessId at[2] = {t->k->expr[m->a].at, t->k->expr[m->b].at};
    for (int i = 0; i < 2; i++)
        for (int v = 0; v < t->k->n_axes; v++) {
            const Linear *b = &t->lin[at[i]];
            if (!b->linear || !b->block[v] || b->lanes != TILE_COLUMNS || t->k->axis[v].kind != AXIS_PAR || t->k->axis[v].batch ||
                (access_axes(t->k, at[1 - i]) >> v & 1))
                continue;
            t->a = at[1 - i];
            t->b = at[i];
            t->columns = v;
            return true;
        }
    return false;
}

static void find_blocked(Tiles *t)
{
    const Kernel *k = t->k;
    for (AccessId at = 0; at < k->n_access; at++)
        for (int a = 0; a < k->n_axes; a++) {
            if (a != t->columns && (t->lin[at].block[a] || t->lin[at].half[a]))
                t->blocked |= 1u << a;
            for (int d = 0; d < k->access[at].rank && (at == t->a || at == t->b); d++)
                if (k->access[at].dim[d].guarded && k->access[at].dim[d].coef[a])
                    t->blocked |= 1u << a;
        }
}

/* The axis of the depth: neighbours in a, a fixed distance in b; every other summed axis is only walked. */
static bool find_depth(Tiles *t)
{
    const Linear *a = &t->lin[t->a], *b = &t->lin[t->b];
    uint32_t summed = t->k->expr[t->sum].axes;
    t->depth = -1;
    if (!a->linear || (summed & t->blocked))
        return false;
    for (int i = 0; i < t->k->n_axes; i++)
        if ((summed >> i & 1) && a->unit[i] == 1 && b->unit[i] && !t->k->axis[i].batch)
            t->depth = i;
    return t->depth >= 0;
}

/* Rows of a step along an axis: two tiles at a time where there are more than one; so many that no step is a smaller one, or, where
 * there is no such number near the most, evenly cut. */
static int rows_of_step(int extent)
{
    int most = 2 * TILE_ROWS, steps = (extent + most - 1) / most;
    for (int rows = most; rows >= FULL_STEP; rows--)
        if (extent % rows == 0)
            return rows;
    return (extent + steps - 1) / steps;
}

static int rows_of_tile(int step) { return step > TILE_ROWS ? (step + 1) / 2 : step; }

/* May axis i be in the rows? Only a depends on it, and it is walked with one stride. */
static bool can_be_rows(const Tiles *t, int i)
{
    uint32_t a = access_axes(t->k, t->a), b = access_axes(t->k, t->b);
    const Axis *x = &t->k->axis[i];
    return x->kind == AXIS_PAR && (a >> i & 1) && !(b >> i & 1) && !(t->blocked >> i & 1) && i != t->columns && !kernel_cuts(t->k, i) && !x->batch_div &&
           !x->batch_step;
}

/* The axis with the most rows in a tile; images only where there is nothing else, all of them in one nest. */
static int find_rows(const Tiles *t)
{
    int best = -1, most = 0;
    for (int i = 0; i < t->k->n_axes; i++) {
        int rows = can_be_rows(t, i) ? rows_of_tile(rows_of_step(t->k->axis[i].extent)) : 0;
        if (t->k->axis[i].batch && (t->k->axis[i].extent < TILE_ROWS || t->k->n_strip))
            rows = 0;
        bool images = best >= 0 && t->k->axis[best].batch;
        if (rows >= LEAST_ROWS && (best < 0 || images || (!t->k->axis[i].batch && rows >= most))) {
            best = i;
            most = rows;
        }
    }
    return best;
}

/* ---- lines ---- */
/* Rows from one index of axis i to the next, where they are walked with the rows' stride; 0. */
static int64_t pitch_of(const Tiles *t, int rows, int i)
{
    const int64_t *unit = t->lin[t->a].unit;
    return unit[rows] > 0 && unit[i] % unit[rows] == 0 ? unit[i] / unit[rows] : 0;
}

static int32_t all_rows(int32_t lines, int32_t pitch, int32_t rows) { return (lines - 1) * pitch + rows; }

/* Steps of two tiles for an image, each line anew; each takes about as long however many rows its tiles have. */
static int32_t steps_by_line(int32_t lines, int32_t rows)
{
    int32_t step = rows_of_step(rows), steps = (rows + step - 1) / step * lines;
    return step > TILE_ROWS ? steps : (steps + 1) / 2;
}

/* Fewer steps through the lines than line by line? */
static bool join_pair(Tiles *t, int rows, int lines)
{
    Nest *n = t->n;
    int32_t inner = t->k->axis[rows].extent, outer = t->k->axis[lines].extent, pitch = (int32_t)pitch_of(t, rows, lines);
    int32_t all = pitch ? all_rows(outer, pitch, inner) : 0, alone = n->rows_axis == rows ? steps_by_line(outer, inner) : steps_by_line(inner, outer);
    if (pitch < inner || all < TILE_ROWS || (all + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS) >= alone)
        return false;
    n->rows_axis = rows;
    n->lines_axis = lines;
    n->pitch = pitch;
    n->tile[rows] = all < 2 * TILE_ROWS ? rows_of_step(all) : 2 * TILE_ROWS;
    return true;
}

/* One loop over the steps of all lines, so that one step's outputs are computed during the next. */
static void chain_lines(Tiles *t, int rows, int lines)
{
    Nest *n = t->n;
    int32_t inner = t->k->axis[rows].extent, pitch = (int32_t)pitch_of(t, rows, lines);
    bool two = inner <= TILE_ROWS;
    if (pitch < inner || 2 * inner <= TILE_ROWS || (two && t->k->axis[lines].extent % 2))
        return;
    n->lines_axis = lines;
    n->pitch = pitch;
    n->lines_a_step = two ? 2 : 1;
    n->tile[rows] = two ? 2 * inner : rows_of_step(inner);
}

static int64_t sample_bytes(const KernelList *l, const Tiles *t, AccessId at)
{
    const Buffer *b = &l->buffers.at[t->k->access[at].buf];
    return buffer_elements(b) / b->shape.dim[0] * (int64_t)dtype_size(b->dtype);
}

/* An axis of lines that the loop over rows takes in: the columns of B are then read less often, too. For each of them the whole image
 * is read and a part of every point is written: both have to stay in L2. */
static void join_lines(Tiles *t, const NestTarget *target, const KernelList *l)
{
    Nest *n = t->n;
    int rows = n->rows_axis;
    if (sample_bytes(l, t, t->a) + sample_bytes(l, t, t->k->out[0].at) > target->l2 / 2 || t->k->axis[rows].batch)
        return;
    for (int a = 0; a < t->k->n_axes && n->lines_axis < 0; a++)
        if (a != rows && can_be_rows(t, a) && !t->k->axis[a].batch && !join_pair(t, rows, a) && !join_pair(t, a, rows))
            chain_lines(t, rows, a);
}

/* Tiles along the rows' axis, or one along it and two along another one. Columns fill what is left. */
static void tile_sums(Tiles *t)
{
    Nest *n = t->n;
    int vectors = (t->k->axis[t->columns].extent + TILE_COLUMNS - 1) / TILE_COLUMNS, m = tiles_along_rows(n);
    for (int i = t->k->n_axes; i-- > 0 && m == 1;)
        if (i != n->rows_axis && i != n->lines_axis && can_be_rows(t, i) && !t->k->axis[i].batch && t->k->axis[i].extent > 1) {
            n->tile[i] = 2;
            m = 2;
        }
    int most = TILE_SUMS / m;
    n->tile[t->columns] = vectors < most ? vectors : most;
}

/* Of weights that do not stay in L2 a panel is read once for a few samples: as many as fill half of L2, of a batch that still makes
 * some slices. */
static int32_t group_of(const Tiles *t, const NestTarget *target, const KernelList *l)
{
    enum { FEWEST_SLICES = 4 };
    const Buffer *a = &l->buffers.at[t->k->access[t->a].buf], *b = &l->buffers.at[t->k->access[t->b].buf];
    if (!target->samples || !a->batched || t->k->n_strip || buffer_elements(b) * (int64_t)dtype_size(b->dtype) <= weights_room(target))
        return 0;
    int64_t group = target->l2 / 2 / sample_bytes(l, t, t->a), most = a->shape.dim[0] / FEWEST_SLICES;
    group = group < most ? group : most;
    return group > target->samples ? (int32_t)group : 0;
}

/* Weights that one sample, or a group, reads once come from L3: while the steps along the rows read a panel of them (the columns of a
 * step), they fetch the next one, each a part of it with every product. More lines with one product would hold up its own loads. */
static int32_t lines_ahead(const Tiles *t, const KernelList *l)
{
    enum { MOST_LINES = 8, FEW_BYTES = 128 << 10, TILE_LINES = 16 };
    const Nest *n = t->n;
    const Buffer *b = &l->buffers.at[t->k->access[t->b].buf];
    bool once = l->graph->batch == 1 || n->group, panels = t->k->axis[t->columns].extent > TILE_COLUMNS * n->tile[t->columns];
    if (!once || !panels || n->over_batch || b->kind != BUF_CONST || buffer_elements(b) * (int64_t)dtype_size(b->dtype) < FEW_BYTES)
        return 0;
    int32_t steps = tiles_steps(n), lines = (TILE_LINES * n->tile[t->columns] + steps - 1) / steps;
    return lines < MOST_LINES ? lines : MOST_LINES;
}

static void depth_last(Nest *n)
{
    int at = 0;
    while (n->red[at] != n->depth_axis)
        at++;
    memmove(&n->red[at], &n->red[at + 1], sizeof *n->red * (size_t)(n->n_red - at - 1));
    n->red[n->n_red - 1] = (int8_t)n->depth_axis;
}

bool tiles_schedule(const KernelList *l, const NestTarget *t, Nest *n)
{
    const Kernel *k = n->k;
    Tiles x = {.k = k, .n = n};
    if (!t->tiles || t->lanes != TILE_COLUMNS || !find_sum(&x))
        return false;
    x.lin = NEWN(l->arena, Linear, k->n_access);
    for (AccessId at = 0; at < k->n_access; at++)
        x.lin[at] = access_linear(l, k, at);
    if (!find_columns(&x))
        return false;
    find_blocked(&x);
    int rows = find_depth(&x) && tiles_pairs(k->axis[x.depth].extent) >= LEAST_PAIRS ? find_rows(&x) : -1;
    if (rows < 0)
        return false;
    n->lanes = TILE_COLUMNS;
    n->vector_axis = x.columns;
    n->rows_axis = rows;
    n->depth_axis = x.depth;
    n->depth = tiles_pairs(k->axis[x.depth].extent);
    n->tile[rows] = rows_of_step(k->axis[rows].extent);
    n->over_batch = k->axis[rows].batch;
    if (!n->over_batch)
        n->group = group_of(&x, t, l);
    join_lines(&x, t, l);
    tile_sums(&x);
    n->lines_ahead = lines_ahead(&x, l);
    depth_last(n);
    return true;
}

int32_t tiles_all_rows(const Nest *n)
{
    int32_t rows = n->k->axis[n->rows_axis].extent;
    return n->lines_axis < 0 ? rows : all_rows(n->k->axis[n->lines_axis].extent, n->pitch, rows);
}

int32_t tiles_steps_of_line(const Nest *n)
{
    int32_t step = n->tile[n->rows_axis];
    return (n->k->axis[n->rows_axis].extent + step - 1) / step;
}

int32_t tiles_steps(const Nest *n)
{
    int32_t step = n->tile[n->rows_axis];
    return n->lines_a_step ? n->k->axis[n->lines_axis].extent / n->lines_a_step * tiles_steps_of_line(n) : (tiles_all_rows(n) + step - 1) / step;
}

int tiles_rows(const Nest *n) { return rows_of_tile(n->tile[n->rows_axis]); }
int tiles_along_rows(const Nest *n) { return n->tile[n->rows_axis] > TILE_ROWS ? 2 : 1; }
