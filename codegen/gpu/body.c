/* How one kernel runs: its form, the axes of its rows, threads and blocks.
 * In: a kernel in plain layouts. Out: a GpuBody.
 * A product of matrices that pays is tiled (contract_plan.c). A long reduction is shared by a block for each output, unless
 * there are so many outputs side by side that a thread each is as good; by columns where outputs lie side by side and are few. All else is a thread a point. */
#include "codegen/gpu/code.h"

#include <string.h>

enum { SHARED_REDUCTION = 48 };    /* points from which a reduction is shared by a block */

/* ---- what a kernel is like ---- */
/* By their strides in output 0, the batch first, then axes of one point: the last one has neighbours, if any. */
static int rows_by_stride(const KernelList *l, const Kernel *k, uint32_t axes, int8_t *row)
{
    int8_t all[MAX_AXIS];
    int n = axes_by_stride(l, k, axes, all), at = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < n; i++)
            if (pass == (k->axis[all[i]].batch ? 0 : k->axis[all[i]].extent == 1 ? 1 : 2))
                row[at++] = all[i];
    return n;
}

/* A block can share the kernel's reductions, and they are long enough to pay. */
static bool has_shared_reduction(const Kernel *k)
{
    bool any = false;
    for (int e = 1; e < k->n_expr; e++) {
        if (!expr_is_reduction(k->expr[e].op))
            continue;
        any = any || axes_points(k, k->expr[e].axes) >= SHARED_REDUCTION;
    }
    return any;
}

uint32_t reduced_axes(const Kernel *k)
{
    uint32_t m = 0;
    for (int e = 1; e < k->n_expr; e++)
        m |= k->expr[e].axes;
    return m;
}

/* Threads side by side on the outputs read neighbours, there are enough of them for a reduction of this length, and they do not share it. */
static bool has_enough_points(const KernelList *l, const Kernel *k)
{
    int8_t row[MAX_AXIS];
    int n = rows_by_stride(l, k, out_axes(k, 0), row);
    bool neighbours = n > 0 && !(reduced_axes(k) & out_axes(k, 0));
    for (int i = 0; neighbours && i < k->n_access; i++)
        if (access_stride(l, k, (AccessId)i, row[n - 1]) > 1)
            neighbours = false;
    int64_t longest = 1;
    for (int e = 1; e < k->n_expr; e++)
        longest = axes_points(k, k->expr[e].axes) > longest ? axes_points(k, k->expr[e].axes) : longest;
    return neighbours && axes_points(k, out_axes(k, 0)) * 2 >= longest;
}

/* Reductions of outputs side by side, too few of them for a thread each. */
static bool has_columns(const KernelList *l, const Kernel *k)
{
    enum { LONG = 32, MANY = 16384, MANY_WIDE = 1 << 18, NEIGHBOURS = 16 };
    int8_t row[MAX_AXIS];
    int n = rows_by_stride(l, k, out_axes(k, 0), row);
    int64_t most = n > 0 && columns_are_wide(l, k, row[n - 1]) ? MANY_WIDE : MANY;
    bool fits = n > 0 && !k->axis[row[n - 1]].batch && k->axis[row[n - 1]].extent >= NEIGHBOURS && axes_points(k, out_axes(k, 0)) < most;
    bool long_enough = false;
    for (int i = 0; fits && i < k->n_access; i++)
        fits = access_stride(l, k, (AccessId)i, row[n - 1]) <= 1;
    for (int e = 1; fits && e < k->n_expr; e++) {
        fits = k->expr[e].op != EX_ARGMAX && !(expr_is_reduction(k->expr[e].op) && (k->expr[e].axes & out_axes(k, 0)));
        long_enough = long_enough || axes_points(k, k->expr[e].axes) >= LONG;
    }
    return fits && long_enough;
}

static bool outputs_differ(const Kernel *k)
{
    for (int o = 1; o < k->n_out; o++)
        if (out_axes(k, o) != out_axes(k, 0))
            return true;
    return false;
}

/* Threads find it together in blocks alone. */
static bool finds_maximum(const Kernel *k)
{
    for (int e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_ARGMAX)
            return true;
    return false;
}

/* ---- rows ---- */
static void set_rows(GpuBody *x, const KernelList *l, uint32_t axes)
{
    x->n_rows = rows_by_stride(l, x->k, axes, x->row);
    x->points = axes_points(x->k, axes);
}

/* Blocks along grid[0] for the rows' points, `per_block` of them a block. */
static void set_grid(GpuBody *x, int64_t per_block)
{
    int64_t blocks = (x->points + per_block - 1) / per_block;
    if (blocks > INT32_MAX)
        BUG("kernel %s needs %lld blocks", x->k->name, (long long)blocks);
    x->grid[0] = (int32_t)blocks;
    x->grid[1] = x->grid[2] = 1;
    if (x->n_rows && x->k->axis[x->row[0]].batch && !x->k->axis[x->row[0]].batch_div && !x->k->axis[x->row[0]].batch_step) {
        x->sample_points = (int32_t)(x->points / x->k->axis[x->row[0]].extent);
        x->block_points = (int32_t)per_block;
    }
}

static void plan_map(GpuBody *x, const KernelList *l)
{
    x->form = GPU_MAP;
    set_rows(x, l, out_axes(x->k, 0));
    x->threads = GPU_THREADS;
    wide_find(x, l);
    set_grid(x, (int64_t)body_points_each(x) * x->threads);
}

/* A block a row, or a warp each of many whose reductions are short. */
static void plan_reduce(GpuBody *x, const KernelList *l)
{
    enum { SHORT = 256, MANY = 2048 };
    uint32_t rows = ~reduced_axes(x->k);
    int64_t longest = 1;
    for (int o = 0; o < x->k->n_out; o++)
        rows &= out_axes(x->k, o);
    for (int e = 1; e < x->k->n_expr; e++) {
        int64_t n = axes_points(x->k, x->k->expr[e].axes);
        longest = n > longest ? n : longest;
    }
    x->form = GPU_REDUCE;
    set_rows(x, l, rows);
    x->by_warp = longest <= SHORT && x->points >= MANY && !finds_maximum(x->k);
    const bool whole = longest >= GPU_THREADS || x->by_warp || finds_maximum(x->k);
    x->threads = whole ? GPU_THREADS : (int32_t)((longest + GPU_WARP - 1) / GPU_WARP * GPU_WARP);
    x->shared_bytes = x->by_warp ? 0 : GPU_THREADS / GPU_WARP * (int32_t)sizeof(float);
    set_grid(x, x->by_warp ? x->threads / GPU_WARP : 1);
}

/* 32 columns (of four) a block, or fewer where the blocks would not fill the GPU: 8 floats side by side are still a whole piece of memory. */
static void plan_columns(GpuBody *x, const KernelList *l, const GpuTarget *t)
{
    enum { LEAST = 8, BLOCKS_A_MULTIPROCESSOR = 2 };
    x->form = GPU_COLUMNS;
    set_rows(x, l, out_axes(x->k, 0));
    x->wide = columns_are_wide(l, x->k, x->row[x->n_rows - 1]);
    const int32_t side = x->wide ? WIDE : 1;
    int64_t extent = x->k->axis[x->row[x->n_rows - 1]].extent / side, outer = x->points / (extent * side);
    x->threads = GPU_THREADS;
    x->columns = GPU_WARP;
    const int64_t wanted = (int64_t)BLOCKS_A_MULTIPROCESSOR * t->multiprocessors;
    while (x->columns > LEAST / side && (x->columns > extent || outer * ((extent + x->columns - 1) / x->columns) < wanted))
        x->columns /= 2;
    x->shared_bytes = (x->wide ? GPU_THREADS / GPU_WARP * x->columns * WIDE : GPU_THREADS) * (int32_t)sizeof(float);
    x->points = outer * ((extent + x->columns - 1) / x->columns);
    set_grid(x, 1);
}

static void plan_contract(GpuBody *x, const Contract *c)
{
    x->form = GPU_CONTRACT;
    x->contract = c;
    x->threads = c->threads;
    x->shared_bytes = contract_shared_bytes(c);
    x->n_rows = c->row.n;
    memcpy(x->row, c->row.axis, sizeof x->row);
    x->points = c->winograd && c->winograd->of_weights ? c->winograd->channels
                : c->winograd                          ? (int64_t)x->k->axis[c->winograd->n].extent * c->winograd->down * c->winograd->across
                                                       : c->row.extent;
    set_grid(x, c->rows);
    x->grid[1] = (int32_t)((c->col.extent + c->cols - 1) / c->cols);
    x->grid[2] = (int32_t)c->both.extent * c->slices;
}


GpuBody body_of(Arena *a, const KernelList *l, const Kernel *k, const GpuPlan *p)
{
    GpuBody x = {.k = k};
    const Contract *c = k->part == WINOGRAD_FUSED ? winograd_contract(p, k) : contract_find(a, l, k, p->target, p->precision);
    if (c)
        plan_contract(&x, c);
    else if (taps_find(a, &x, l, p->target))
        return x;
    else if (p->channels_last && !outputs_differ(k) && has_columns(l, k))
        plan_columns(&x, l, p->target);
    else if (outputs_differ(k) || (has_shared_reduction(k) && !has_enough_points(l, k)))
        plan_reduce(&x, l);
    else
        plan_map(&x, l);
    if (x.form == GPU_MAP && x.points <= INT32_MAX)
        slide_find(a, &x, l);
    if (x.slide) {
        x.wide = false;
        x.steps = 0;
        set_grid(&x, (int64_t)body_points_each(&x) * x.threads);
    }
    return x;
}

/* A thread that adds many slices alone takes long, and few of them leave the GPU empty. */
static bool warps_share_slices(const GpuBody *x, const Contract *c, const GpuTarget *t)
{
    enum { LEAST_SLICES = 16 };
    for (int i = 0; i < x->n_rows; i++)
        if (x->k->axis[x->row[i]].batch)
            return false;
    return c->slices >= LEAST_SLICES && x->points / GPU_THREADS < t->multiprocessors;
}

GpuBody body_parts(const KernelList *l, const Kernel *k, const Contract *c, const GpuTarget *t)
{
    GpuBody x = {.k = k};
    plan_map(&x, l);
    x.form = GPU_PARTS;
    x.contract = c;
    x.wide = false;
    x.steps = 0;
    x.by_warps = warps_share_slices(&x, c, t);
    x.shared_bytes = x.by_warps ? x.threads * (int32_t)sizeof(float) : 0;
    set_grid(&x, x.by_warps ? GPU_WARP : x.threads);
    return x;
}

bool body_is_cut(const GpuBody *x) { return (body_is_product(x) || x->form == GPU_PARTS) && x->contract->slices > 1; }

bool body_touches(const GpuBody *x, AccessId at)
{
    return !body_is_cut(x) || (at == x->contract->a || at == x->contract->b) == body_is_product(x);
}

int32_t body_blocks(const GpuBody *x) { return x->grid[0] * x->grid[1] * x->grid[2]; }
