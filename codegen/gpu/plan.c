/* Kernels become launches, and buffers get addresses.
 * In: a kernel list in an order that computes every value before it is read. Out: a Function with a GpuPlan.
 * One kernel is one launch. Launches follow each other, so two buffers may share bytes when their lifetimes, counted in
 * launches, do not meet. */
#include "codegen/gpu/plan.h"
#include "codegen/gpu/code.h"
#include "codegen/choose.h"

#include <ctype.h>
#include <string.h>

enum { ALIGN = 64, MAP_THREADS = 256, MOST_THREADS = 256, WARP = 32 };
enum { SHARED_REDUCTION = 48 };    /* points from which a reduction is shared by a block */

static const GpuTarget targets[] = {
    {.sm = 80, .multiprocessors = 108, .shared_bytes = 163 * 1024},
    {.sm = 90, .multiprocessors = 132, .shared_bytes = 227 * 1024},
    {.sm = 100, .multiprocessors = 148, .shared_bytes = 227 * 1024},
};

const GpuTarget *gpu_target(int sm)
{
    const GpuTarget *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        if (targets[i].sm <= sm)
            best = &targets[i];
    return best;
}

void gpu_options(CompileOptions *o, const GpuTarget *t)
{
    o->plan = gpu_plan;
    o->plan_ctx = t;
}

/* ---- what a kernel is like ---- */
static int64_t points_of(const Kernel *k, uint32_t axes)
{
    int64_t n = 1;
    for (int a = 0; a < k->n_axes; a++)
        if (axes >> a & 1)
            n *= k->axis[a].extent;
    return n;
}

static bool is_reduction(ExprOp op) { return op == EX_SUM || op == EX_MAX_OVER || op == EX_ARGMAX; }

/* A block can share the kernel's reductions, and they are long enough to pay. */
static bool has_shared_reduction(const Kernel *k)
{
    bool any = false;
    for (int e = 1; e < k->n_expr; e++) {
        if (!is_reduction(k->expr[e].op))
            continue;
        if (k->expr[e].op == EX_ARGMAX)
            return false;
        any = any || points_of(k, k->expr[e].axes) >= SHARED_REDUCTION;
    }
    return any;
}

static uint32_t reduced_axes(const Kernel *k)
{
    uint32_t m = 0;
    for (int e = 1; e < k->n_expr; e++)
        m |= k->expr[e].axes;
    return m;
}

static bool outputs_differ(const Kernel *k)
{
    for (int o = 1; o < k->n_out; o++)
        if (out_axes(k, o) != out_axes(k, 0))
            return true;
    return false;
}

/* ---- rows ---- */
static int64_t out_stride(const KernelList *l, const Kernel *k, int axis)
{
    const Access *s = &k->access[k->out[0].at];
    int64_t stride[MAX_RANK], sum = 0;
    layout_strides(&l->buffers.at[s->buf], stride);
    for (int d = 0; d < s->rank; d++)
        sum += stride[d] * s->dim[d].coef[axis];
    return sum < 0 ? -sum : sum;
}

/* The batch first, then by the output's strides, the innermost last. */
static bool before(const KernelList *l, const Kernel *k, int a, int b)
{
    if (k->axis[a].batch != k->axis[b].batch)
        return k->axis[a].batch;
    int64_t sa = out_stride(l, k, a), sb = out_stride(l, k, b);
    return sa != sb ? sa > sb : a < b;
}

static void set_rows(GpuLaunch *x, const KernelList *l, uint32_t axes)
{
    for (int a = 0; a < x->k->n_axes; a++) {
        if (!(axes >> a & 1))
            continue;
        int i = x->n_rows++;
        for (; i > 0 && before(l, x->k, a, x->row[i - 1]); i--)
            x->row[i] = x->row[i - 1];
        x->row[i] = (int8_t)a;
    }
    x->points = points_of(x->k, axes);
}

/* Blocks along grid[0] for the rows' points, `per_block` of them a block. */
static void set_grid(GpuLaunch *x, int64_t per_block)
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

static void plan_map(GpuLaunch *x, const KernelList *l)
{
    x->form = GPU_MAP;
    set_rows(x, l, out_axes(x->k, 0));
    x->threads = MAP_THREADS;
    set_grid(x, x->threads);
}

static void plan_reduce(GpuLaunch *x, const KernelList *l)
{
    uint32_t rows = ~reduced_axes(x->k);
    int64_t longest = 1;
    for (int o = 0; o < x->k->n_out; o++)
        rows &= out_axes(x->k, o);
    for (int e = 1; e < x->k->n_expr; e++) {
        int64_t n = points_of(x->k, x->k->expr[e].axes);
        longest = n > longest ? n : longest;
    }
    x->form = GPU_REDUCE;
    set_rows(x, l, rows);
    x->threads = longest >= MOST_THREADS ? MOST_THREADS : (int32_t)((longest + WARP - 1) / WARP * WARP);
    x->shared_bytes = MOST_THREADS / WARP * (int32_t)sizeof(float);
    set_grid(x, 1);
}

/* ---- launches ---- */
static const char *entry_name(Arena *a, const char *function, uint32_t i, const char *kernel)
{
    char *s = arena_printf(a, "%s%u_%s", function, i, kernel);
    for (char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '_';
    return s;
}

/* Kernels that write nothing (an extent is 0) are not launched. */
static bool is_empty(const Kernel *k)
{
    for (int o = 0; o < k->n_out; o++)
        if (points_of(k, out_axes(k, o)) > 0)
            return false;
    return true;
}

static void make_launches(Arena *a, const char *name, const KernelList *l, GpuPlan *p)
{
    p->launches = NEWN(a, GpuLaunch, l->kernels.len + 1);
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        if (is_empty(k))
            continue;
        GpuLaunch *x = &p->launches[p->n_launches++];
        *x = (GpuLaunch){.k = k, .entry = entry_name(a, name, i, k->name)};
        if (has_shared_reduction(k) || outputs_differ(k))
            plan_reduce(x, l);
        else
            plan_map(x, l);
    }
}

/* ---- addresses ---- */
static Life life_of(const KernelList *l, const GpuPlan *p, BufId root)
{
    const Buffer *b = &l->buffers.at[root];
    Life f = {.buf = root, .area = AREA_WORK, .first = -1, .stage = -1};
    f.bytes = (buffer_elements(b) * (int64_t)dtype_size(b->dtype) + ALIGN - 1) / ALIGN * ALIGN;
    for (int i = 0; i < p->n_launches; i++)
        for (int at = 0; at < p->launches[i].k->n_access; at++)
            if (buffer_root(l, p->launches[i].k->access[at].buf) == root) {
                f.first = f.first < 0 ? i : f.first;
                f.last = i;
            }
    return f;
}

static void place_buffers(Arena *a, const KernelList *l, const PlanInput *in, Function *f)
{
    Life *life = NEWN(a, Life, l->buffers.len);
    int n = 0;
    f->place = NEWN(a, Place, l->buffers.len);
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        if (buffer_root(l, (BufId)b) != (BufId)b)
            continue;
        Life x = life_of(l, f->gpu, (BufId)b);
        if (x.first < 0)
            continue;
        if (l->buffers.at[b].kind == BUF_WORK)
            life[n++] = x;
        else
            f->place[b] = plan_fixed_place(l, in, (BufId)b);
    }
    plan_place_lives(f, life, n);
    for (uint32_t b = 1; b < l->buffers.len; b++)
        f->place[b] = f->place[buffer_root(l, (BufId)b)];
}

Function *gpu_plan(Arena *a, const char *name, KernelList *l, const PlanInput *in, const void *ctx)
{
    Function *f = NEW(a, Function);
    f->name = name;
    f->kernels = l;
    f->batch = (int32_t)l->graph->batch;
    f->gpu = NEW(a, GpuPlan);
    f->gpu->target = ctx;
    make_launches(a, name, l, f->gpu);
    place_buffers(a, l, in, f);
    const char *why = NULL;
    if (!plan_verify(f, &why))
        BUG("plan of %s: %s", name, why);
    return f;
}
