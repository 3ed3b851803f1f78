/* A launch of slices: each block takes a few samples through all kernels of the launch, one after the other, with a barrier
 * between them; values that only they use lie in shared memory.
 * In: a launch with bodies in order. Out: the function's body.
 *
 * A kernel's points are shared by the block's threads, a thread or a warp each. Samples keep their number in the batch, so that
 * indices are the same as everywhere; a buffer in shared memory begins where sample 0 would be. Of a product, a thread or a warp takes
 * several points at once (body_slice.c): a load then serves them all. */
#include "codegen/gpu/code.h"

/* How many points of a row's axis are taken at once. */
static int32_t taken(const GpuBody *x, int axis)
{
    if (!x->contract)
        return 1;
    return x->unroll > 1 && axis == x->unrolled ? x->unroll : x->spread > 1 && axis == x->across ? x->spread : 1;
}

/* The axes of a point; of several taken at once, the first. */
static void split_points(Code *c, const GpuBody *x, const char *point, int32_t samples)
{
    const Kernel *k = c->k;
    int64_t below = 1;
    for (int i = x->n_rows - 1; i >= 0; i--) {
        const Axis *a = &k->axis[x->row[i]];
        int32_t by = taken(x, x->row[i]), extent = a->extent / by;
        const char *shifted =
            below > 1 ? arena_printf(c->arena, "(unsigned)%s / %lld", point, (long long)below) : arena_printf(c->arena, "(unsigned)%s", point);
        const char *name = by > 1 ? arena_printf(c->arena, "first_%s = %d *", a->name, by) : arena_printf(c->arena, "%s =", a->name);
        if (a->batch && i == 0)
            cu_line(c, "const int %s first%s;", name, samples > 1 ? arena_printf(c->arena, " + %s", shifted) : "");
        else
            cu_line(c, "const int %s (int)(%s%s);", name, shifted, i > 0 ? arena_printf(c->arena, " %% %d", extent) : "");
        below *= extent;
    }
}

/* The loop over the body's points, each of `lanes` threads. Closed by one brace. */
static void open_points(Code *c, const GpuBody *x, int32_t samples)
{
    int32_t lanes = x->contract ? x->lanes : x->by_warp ? GPU_WARP : 1, warp = GPU_WARP / lanes;
    bool batch = x->n_rows && c->k->axis[x->row[0]].batch;
    int64_t points = x->points / (x->contract ? x->unroll * x->spread : 1), per = batch ? points / samples : points;
    const char *limit =
        batch && samples > 1 ? arena_printf(c->arena, "count * %lld", (long long)per) : arena_printf(c->arena, "%lld", (long long)per);
    const char *thread = lanes > 1 ? arena_printf(c->arena, "thread / %d", lanes) : "thread";
    if (lanes == 1 || warp == 1) {
        cu_open(c, "for (int point = %s; point < %s; point += %d)", thread, limit, x->threads / lanes);
        split_points(c, x, "point", samples);
        return;
    }
    /* All lanes of a warp take part in its shuffles: what is too much does the last point again, and does not store it. */
    cu_open(c, "for (int turn = %s; turn < (%s + %d) / %d * %d; turn += %d)", thread, limit, warp - 1, warp, warp, x->threads / lanes);
    cu_line(c, "const int point = turn < %s ? turn : %s - 1;", limit, limit);
    split_points(c, x, "point", samples);
}

static void emit_plain(Code *c, const GpuBody *x, int32_t samples)
{
    open_points(c, x, samples);
    c->threads = x->by_warp ? GPU_WARP : 0;
    cu_outputs(c, x->by_warp);
    c->threads = 0;
    cu_close(c);
}

/* ---- several points at once ---- */
/* A loop over the points of one side of the tile; INDEX counts them. */
static void open_side(Code *c, const GpuBody *x, int axis, int32_t points, const char *index)
{
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int %s = 0; %s < %d; %s++)", index, index, points, index);
    if (taken(x, axis) > 1 && points > 1)
        cu_line(c, "const int %s = first_%s + %s;", c->k->axis[axis].name, c->k->axis[axis].name, index);
}

/* The loops over the depth; how many braces close them. */
static int open_depth(Code *c, const GpuBody *x)
{
    const AxisGroup *depth = &x->contract->depth;
    if (x->lanes > 1 && x->shared < 0) {
        uint32_t axes = 0;
        for (int i = 0; i < depth->n; i++)
            axes |= 1u << depth->axis[i];
        c->threads = GPU_WARP;
        cu_line(c, "#pragma unroll %d", x->chunk);
        cu_open_shared(c, axes, false);
        c->threads = 0;
        return 1;
    }
    for (int i = 0; i < depth->n; i++) {
        const char *name = c->k->axis[depth->axis[i]].name;
        bool is_shared = x->lanes > 1 && depth->axis[i] == x->shared;
        cu_line(c, "#pragma unroll %d", i + 1 == depth->n ? x->chunk : 1);
        cu_open(c, "for (int %s = %s; %s < %s; %s += %d)", name, is_shared ? arena_printf(c->arena, "thread %% %d", x->lanes) : "0", name,
                cu_extent(c, depth->axis[i]), name, is_shared ? x->lanes : 1);
    }
    return depth->n;
}

/* The outputs at each v and u; of lanes, which first add their sums, each stores some. */
static void emit_tile_outputs(Code *c, const GpuBody *x)
{
    open_side(c, x, x->across, x->spread, "v");
    open_side(c, x, x->unrolled, x->unroll, "u");
    c->name[x->contract->sum] = "sums[v][u]";
    if (x->lanes > 1) {
        cu_line(c, "const float sum = lanes_sum(sums[v][u], %d);", x->lanes);
        cu_open(c, "if (%sthread %% %d == (%d * v + u) %% %d)", x->lanes < GPU_WARP ? "point == turn && " : "", x->lanes, x->unroll, x->lanes);
        c->name[x->contract->sum] = "sum";
    }
    cu_outputs(c, false);
    for (int braces = x->lanes > 1 ? 3 : 2; braces; braces--)
        cu_close(c);
}

/* sums[v][u] += left[v] * right[u] */
static void emit_tile(Code *c, const GpuBody *x, int32_t samples)
{
    const Contract *p = x->contract;
    open_points(c, x, samples);
    cu_line(c, "float sums[%d][%d] = {{0.0f}};", x->spread, x->unroll);
    int braces = open_depth(c, x);
    cu_line(c, "float left[%d];", x->spread);
    open_side(c, x, x->across, x->spread, "v");
    cu_line(c, "left[v] = %s;", cu_load(c, p->a));
    cu_close(c);
    open_side(c, x, x->unrolled, x->unroll, "u");
    cu_line(c, "const float right = %s;", cu_load(c, p->b));
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int v = 0; v < %d; v++) sums[v][u] += left[v] * right;", x->spread);
    for (braces++; braces; braces--)
        cu_close(c);
    emit_tile_outputs(c, x);
    cu_close(c);
}

/* Outputs with different axes: one loop for each set of axes. */
static void emit_groups(Code *c, const GpuBody *x)
{
    for (uint32_t todo = (1u << c->k->n_out) - 1; todo;) {
        uint32_t axes = out_axes(c->k, __builtin_ctz(todo)), outs = outs_with_axes(c->k, axes);
        const char **kept = cu_keep(c);
        c->threads = x->threads;
        if (axes)
            cu_open_shared(c, axes, false);
        else
            cu_open(c, "if (thread == 0)");
        c->threads = 0;
        cu_outputs_of(c, outs);
        cu_close(c);
        cu_restore(c, kept);
        todo &= ~outs;
    }
}

static bool has_groups(const Kernel *k)
{
    for (int o = 1; o < k->n_out; o++)
        if (out_axes(k, o) != out_axes(k, 0))
            return true;
    return false;
}

static void emit_body(Code *c, const GpuLaunch *launch, const char *entry, const GpuBody *x)
{
    c->entry = arena_printf(c->arena, "%s_%d", entry, (int)(x - launch->body));
    cu_begin(c, x->k);
    cu_comment(c, x);
    cu_block(c);
    cu_line(c, "const int thread = apart(threadIdx.x);");
    cu_pointers(c);
    for (int a = 0; a < x->k->n_axes; a++)   /* partial sums: one for each slice */
        if (x->k->axis[a].kind == AXIS_PAR && x->k->axis[a].batch_div)
            cu_line(c, "const int %s = blockIdx.x;", x->k->axis[a].name);
    if (has_groups(x->k))
        emit_groups(c, x);
    else if (x->contract)
        emit_tile(c, x, launch->samples);
    else
        emit_plain(c, x, launch->samples);
    cu_close(c);
}

void slices_emit(Code *c, const GpuLaunch *launch, const char *entry)
{
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "const int first = blockIdx.x * %d;   // the block's first sample", launch->samples);
    cu_line(c, "if (first >= samples) return;");
    if (launch->samples > 1)
        cu_line(c, "const int count = samples_left(samples - first, %d);", launch->samples);
    c->in_slice = true;
    for (int i = 0; i < launch->n_bodies; i++) {
        if (i > 0)
            cu_line(c, "__syncthreads();");
        fputc('\n', c->to);
        emit_body(c, launch, entry, &launch->body[i]);
    }
    c->in_slice = false;
}
