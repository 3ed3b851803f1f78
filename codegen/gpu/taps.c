/* The TAPS skeleton: the weight gradient of a depthwise convolution, all taps in one sweep over both images.
 * In: a kernel whose sum is one of products, of dy and of windows of x that its outputs are the taps of. Out: the kernel's body.
 *
 *     SUM[n,p,q](dy[n,g,p,q] * x[n, g, r + stride * p, s + stride * q])        for all (r, s) at once
 *
 * A thread holds the sums of all taps of `vector` channels. It walks along one axis (`slid`), `points` of it a step, with `others` points of the
 * other axis beside each other, and keeps what the next step's windows share with this one's:
 *
 *     for each step
 *         line[i][j] = inputs that the step's windows need: those on the left are the last step's
 *         factor[i][u] = dy at these points
 *         for each tap:  sums[r][s] += line[stride * i + r][stride * u + s] * factor[i][u]
 *
 * Where channels lie innermost, neighbouring threads have neighbouring channels and walk along the inner axis; else they have neighbouring points
 * of the inner axis, and walk along the outer one. Either way their loads lie together. A stretch of a walk is a unit. A block has
 * `columns` threads for as many (vectors of) channels, and groups of such threads share its slice of the units; their sums are added in one
 * order, the slices' by what follows (parts_emit). */
#include "codegen/gpu/taps.h"

#include <string.h>

enum { MOST_TAPS = 7, MOST_SUMS = 50, FEW_TAPS = 12, LEAST_POINTS = 512 };

/* ---- what slides ---- */
/* The reduced axis that the tap's window slides along in x, the only dim either runs along; -1: none. */
static int axis_of_tap(const Kernel *k, const Contract *c, int tap)
{
    int found = -1;
    for (int i = 0; i < c->depth.n; i++) {
        int axis = c->depth.axis[i], d = k->axis[axis].batch ? -1 : access_window_dim(k, &k->access[c->a], axis, tap);
        if (d >= 0 && k->access[c->a].dim[d].coef[tap] == 1)
            found = axis;
    }
    return found;
}

static bool has_taps(const Kernel *k, const Contract *c)
{
    int32_t taps = 1;
    for (int i = 0; i < c->row.n; i++) {
        taps *= k->axis[c->row.axis[i]].extent;
        if (k->axis[c->row.axis[i]].extent > MOST_TAPS || axis_of_tap(k, c, c->row.axis[i]) < 0)
            return false;
    }
    return c->row.n == 2 && c->col.n == 0 && c->both.n == 1 && taps > 1 && taps <= MOST_SUMS && c->depth.extent >= LEAST_POINTS;
}

/* Elements side by side along an axis, the first of each `vector` at a multiple of it. */
static bool can_load(const KernelList *l, const Kernel *k, AccessId at, int axis, int vector)
{
    const Access *s = &k->access[at];
    int64_t stride[MAX_RANK];
    layout_strides(&l->buffers.at[s->buf], stride);
    for (int d = 0; d < s->rank; d++)
        for (int a = 0; a < k->n_axes; a++)
            if (a != axis && (stride[d] * s->dim[d].coef[a] % vector || stride[d] * s->dim[d].offset % vector))
                return false;
    return access_stride(l, k, at, axis) == 1 && k->axis[axis].extent % vector == 0;
}

static bool are_side_by_side(const KernelList *l, const Kernel *k, const Contract *c, int axis)
{
    return can_load(l, k, c->a, axis, 1) && can_load(l, k, c->b, axis, 1);
}

/* ---- who walks where ---- */
int32_t taps_step(const Kernel *k, const Contract *c, int axis, int tap)
{
    return k->access[c->a].dim[access_window_dim(k, &k->access[c->a], axis, tap)].coef[axis];
}

int32_t taps_lines(const Kernel *k, const Contract *c, const GpuTaps *t)
{
    return taps_step(k, c, t->other, t->other_tap) * (t->others - 1) + k->axis[t->other_tap].extent;
}

/* Points along the walk a step: loads enough under way, and no more than registers hold. */
static int32_t points_of(const Kernel *k, const Contract *c, const GpuTaps *t, int32_t stretch)
{
    enum { MOST_POINTS = 8, MOST_LOADS = 50 };
    int32_t loads = taps_lines(k, c, t) * taps_step(k, c, t->slid, t->tap) + t->others, points = MOST_POINTS;
    while (points > 1 && (stretch % points || points * loads > MOST_LOADS))
        points--;
    return points;
}

static int32_t units_of(const Contract *c, const GpuTaps *t, int32_t stretch)
{
    return (int32_t)(c->depth.extent / (t->others * stretch));
}

int32_t taps_column_blocks(const Contract *c, const GpuTaps *t)
{
    return (int32_t)((c->both.extent / t->vector + t->columns - 1) / t->columns);
}

int32_t taps_blocks(const GpuTaps *t) { return t->vector * t->others > 1 ? 2 : 4; }

/* Length of a unit, and how many of them each group of a block takes: as many steps one after the other as it takes until all blocks are done. */
static void choose_slices(GpuTaps *t, Contract *c, const Kernel *k, const GpuTarget *target)
{
    enum { END = 8, SLICES_A_STEP = 16, MOST_ROUNDS = 256 };   /* steps that a block's last sums, and that so many slices are worth */
    int32_t extent = k->axis[t->slid].extent, groups = GPU_THREADS / t->columns, at_once = taps_blocks(t) * target->multiprocessors;
    int64_t best = INT64_MAX;
    for (int32_t stretch = 1; stretch <= extent; stretch++)
        for (int32_t rounds = 1; rounds <= MOST_ROUNDS && extent % stretch == 0; rounds++) {
            int32_t units = units_of(c, t, stretch), slices = (units + groups * rounds - 1) / (groups * rounds);
            int64_t waves = ((int64_t)slices * taps_column_blocks(c, t) + at_once - 1) / at_once;
            int64_t cost = waves * (rounds * (stretch + k->axis[t->tap].extent) + END) + slices / SLICES_A_STEP;
            if (cost >= best)
                continue;
            best = cost;
            t->stretch = stretch;
            t->slice_units = groups * rounds;
            c->slices = slices;
        }
    t->points = points_of(k, c, t, t->stretch);
}

static void choose_vectors(GpuTaps *t, const KernelList *l, const Kernel *k, const Contract *c)
{
    bool few = c->row.extent <= FEW_TAPS;
    t->vector = few && can_load(l, k, c->a, c->both.axis[0], 2) && can_load(l, k, c->b, c->both.axis[0], 2) ? 2 : 1;
    for (t->columns = GPU_WARP; t->columns > c->both.extent / t->vector;)
        t->columns /= 2;
    bool shared = taps_step(k, c, t->other, t->other_tap) < k->axis[t->other_tap].extent;   /* lines of neighbouring points */
    t->others = shared && k->axis[t->other].extent % 2 == 0 ? 2 : 1;
}

bool taps_find(Arena *a, GpuBody *x, const KernelList *l, const GpuTarget *target)
{
    Contract *c = contract_as_product(a, l, x->k);
    if (!c || !has_taps(x->k, c))
        return false;
    GpuTaps *t = NEW(a, GpuTaps);
    int8_t tap[2] = {c->row.axis[0], c->row.axis[1]}, axis[2] = {(int8_t)axis_of_tap(x->k, c, tap[0]), (int8_t)axis_of_tap(x->k, c, tap[1])};
    bool channels = are_side_by_side(l, x->k, c, c->both.axis[0]);
    int inner = access_stride(l, x->k, c->a, axis[0]) < access_stride(l, x->k, c->a, axis[1]) ? 0 : 1, walk = channels ? inner : !inner;
    if (axis[0] == axis[1])
        return false;
    *t = (GpuTaps){.slid = axis[walk], .tap = tap[walk], .other = axis[!walk], .other_tap = tap[!walk], .vector = 1, .columns = 1, .others = 1};
    if (channels)
        choose_vectors(t, l, x->k, c);
    choose_slices(t, c, x->k, target);
    x->form = GPU_TAPS;
    x->contract = c;
    x->taps = t;
    x->threads = GPU_THREADS;
    x->shared_bytes = (int32_t)(GPU_THREADS / GPU_WARP * t->columns * t->vector * c->row.extent * (int32_t)sizeof(float));
    x->grid[0] = c->slices * taps_column_blocks(c, t);
    x->grid[1] = x->grid[2] = 1;
    return true;
}
