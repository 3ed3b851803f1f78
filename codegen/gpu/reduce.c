/* The REDUCE skeleton: a block a row; its threads share every reduction, each a strided part of the points, and add their
 * parts in a tree of fixed shape (block_sum), so that the same inputs give the same bits. Or, where rows are many and short, a warp a row.
 * In: a body whose rows are the axes that all outputs share and no reduction runs over. Out: the kernel's body.
 * Axes that an output has beyond the rows (a softmax's classes) are shared by the threads as well. */
#include "codegen/gpu/code.h"

static void outputs(Code *c, uint32_t outs, uint32_t extra)
{
    const char **kept = cu_keep(c);
    int threads = c->threads;
    if (extra) {
        cu_open_shared(c, extra, false);
        cu_forget(c, extra);
    } else {
        cu_open(c, threads == GPU_WARP ? "if (threadIdx.x %% 32 == 0)" : "if (threadIdx.x == 0)");
    }
    c->threads = 0;
    cu_outputs_of(c, outs);
    c->threads = threads;
    cu_close(c);
    cu_restore(c, kept);
}

void reduce_emit(Code *c, const GpuBody *body)
{
    const Kernel *k = c->k;
    uint32_t rows = 0;
    if (!body->by_warp)
        cu_line(c, "extern __shared__ __align__(16) float shared[];");
    if (body->n_rows) {
        if (body->by_warp)
            cu_line(c, "const int row = block * %d + threadIdx.x / 32;", body->threads / GPU_WARP);
        else
            cu_line(c, "const int row = block;");
        if (body->by_warp && body->points % (body->threads / GPU_WARP))
            cu_line(c, "if (row >= %lld) return;", (long long)body->points);
        cu_split(c, "row", body->row, body->n_rows);
    }
    for (int i = 0; i < body->n_rows; i++) {
        rows |= 1u << body->row[i];
        if (cu_is_dynamic(c, body->row[i]))
            cu_line(c, "if (%s >= %s) return;", k->axis[body->row[i]].name, cu_extent(c, body->row[i]));
    }
    c->threads = body->by_warp ? GPU_WARP : body->threads;
    for (int o = 0; o < k->n_out; o++)
        cu_hoist_reductions(c, k->out[o].value, out_axes(k, o) & ~rows);
    for (uint32_t todo = (1u << k->n_out) - 1; todo;) {
        uint32_t axes = out_axes(k, __builtin_ctz(todo)), outs = outs_with_axes(k, axes);
        outputs(c, outs, axes & ~rows);
        todo &= ~outs;
    }
    c->threads = 0;
}
