/* A launch of slices: each block takes a few samples through all kernels of the launch, one after the other, with a barrier
 * between them; values that only they use lie in shared memory.
 * In: a launch with bodies in order. Out: the function's body.
 *
 * A kernel's points are shared by the block's threads, a thread or a warp each. Samples keep their number in the batch, so that
 * indices are the same as everywhere; a buffer in shared memory begins where sample 0 would be. A thread can take several output
 * channels at once: one load of the image then serves them all. */
#include "codegen/gpu/code.h"

/* The loop over the body's points, and the axes of one. Closed by one brace. */
static void open_points(Code *c, const GpuBody *x, int32_t samples)
{
    const Kernel *k = c->k;
    bool batch = x->n_rows && k->axis[x->row[0]].batch;
    int64_t points = x->points / (x->unroll ? x->unroll : 1), per = batch ? points / samples : points;
    const char *limit = batch && samples > 1 ? arena_printf(c->arena, "count * %lld", (long long)per) : arena_printf(c->arena, "%lld", (long long)per);
    cu_open(c, "for (int point = thread%s; point < %s; point += %d)", x->by_warp ? " / 32" : "", limit, x->threads / (x->by_warp ? GPU_WARP : 1));
    int64_t below = 1;
    for (int i = x->n_rows - 1; i >= 0; i--) {
        const Axis *a = &k->axis[x->row[i]];
        int32_t extent = x->unroll && x->row[i] == x->unrolled ? a->extent / x->unroll : a->extent;
        const char *shifted = below > 1 ? arena_printf(c->arena, "point / %lld", (long long)below) : "point";
        const char *name = x->unroll && x->row[i] == x->unrolled ? arena_printf(c->arena, "first_%s", a->name) : a->name;
        const char *scale = x->unroll && x->row[i] == x->unrolled ? arena_printf(c->arena, "%d * ", x->unroll) : "";
        if (batch && i == 0)
            cu_line(c, "const int %s = first%s;", name, samples > 1 ? arena_printf(c->arena, " + %s", shifted) : "");
        else
            cu_line(c, "const int %s = %s(%s%s);", name, scale, shifted, i > 0 ? arena_printf(c->arena, " %% %d", extent) : "");
        below *= extent;
    }
}

static void emit_plain(Code *c, const GpuBody *x, int32_t samples)
{
    open_points(c, x, samples);
    c->threads = x->by_warp ? GPU_WARP : 0;
    cu_outputs(c, x->by_warp);
    c->threads = 0;
    cu_close(c);
}

/* Several points along one axis: sums[u] += a * b at u, then the outputs at each u. */
static void emit_unrolled(Code *c, const GpuBody *x, int32_t samples)
{
    const Kernel *k = c->k;
    const Contract *p = x->contract;
    const char *axis = k->axis[x->unrolled].name;
    open_points(c, x, samples);
    cu_line(c, "float sums[%d] = {0.0f};", x->unroll);
    for (int i = 0; i < p->depth.n; i++) {
        cu_unroll(c, p->depth.axis[i], i + 1 == p->depth.n);
        cu_open(c, "for (int %s = 0; %s < %s; %s++)", k->axis[p->depth.axis[i]].name, k->axis[p->depth.axis[i]].name, cu_extent(c, p->depth.axis[i]),
                k->axis[p->depth.axis[i]].name);
    }
    cu_line(c, "const float factor = %s;", cu_load(c, p->a));
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int u = 0; u < %d; u++)", x->unroll);
    cu_line(c, "const int %s = first_%s + u;", axis, axis);
    cu_line(c, "sums[u] += factor * %s;", cu_load(c, p->b));
    for (int i = 0; i <= p->depth.n; i++)
        cu_close(c);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int u = 0; u < %d; u++)", x->unroll);
    cu_line(c, "const int %s = first_%s + u;", axis, axis);
    c->name[p->sum] = "sums[u]";
    cu_outputs(c, false);
    cu_close(c);
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
            cu_open_shared(c, axes);
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
    cu_comment(c);
    cu_block(c);
    cu_line(c, "const int thread = apart(threadIdx.x);");
    cu_pointers(c);
    for (int a = 0; a < x->k->n_axes; a++)   /* partial sums: one for each slice */
        if (x->k->axis[a].kind == AXIS_PAR && x->k->axis[a].batch_div)
            cu_line(c, "const int %s = blockIdx.x;", x->k->axis[a].name);
    if (has_groups(x->k))
        emit_groups(c, x);
    else if (x->unroll)
        emit_unrolled(c, x, launch->samples);
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
