/* The REDUCE skeleton: a block a row; its threads share every reduction, each a strided part of the points, and add their
 * parts in a tree of fixed shape (block_sum), so that the same inputs give the same bits.
 * In: a launch whose rows are the axes that all outputs share and no reduction runs over. Out: the kernel's body.
 * Axes that an output has beyond the rows (a softmax's classes) are shared by the threads as well. */
#include "codegen/gpu/code.h"

static void outputs(Code *c, uint32_t outs, uint32_t extra)
{
    const Kernel *k = c->k;
    const char **kept = cu_keep(c), *value[MAX_KERNEL_OUT];
    int threads = c->threads;
    if (extra) {
        cu_open_shared(c, extra);
        cu_forget(c, extra);
    } else {
        cu_open(c, "if (threadIdx.x == 0)");
    }
    c->threads = 0;
    for (int o = 0; o < k->n_out; o++)
        if (outs >> o & 1)
            value[o] = __builtin_popcount(outs) > 1 ? cu_variable(c, k->out[o].value) : cu_value(c, k->out[o].value);
    for (int o = 0; o < k->n_out; o++)
        if (outs >> o & 1)
            cu_store(c, o, value[o]);
    c->threads = threads;
    cu_close(c);
    cu_restore(c, kept);
}

void reduce_emit(Code *c, const GpuLaunch *launch)
{
    const Kernel *k = c->k;
    uint32_t rows = 0;
    cu_line(c, "extern __shared__ float shared[];");
    if (launch->n_rows) {
        cu_line(c, "const int row = blockIdx.x;");
        cu_split(c, "row", launch->row, launch->n_rows);
    }
    for (int i = 0; i < launch->n_rows; i++) {
        rows |= 1u << launch->row[i];
        if (cu_is_dynamic(c, launch->row[i]))
            cu_line(c, "if (%s >= %s) return;", k->axis[launch->row[i]].name, cu_extent(c, launch->row[i]));
    }
    c->threads = launch->threads;
    for (int o = 0; o < k->n_out; o++)
        cu_hoist_reductions(c, k->out[o].value, out_axes(k, o) & ~rows);
    for (uint32_t todo = (1u << k->n_out) - 1; todo;) {
        uint32_t axes = out_axes(k, __builtin_ctz(todo)), outs = outs_with_axes(k, axes);
        outputs(c, outs, axes & ~rows);
        todo &= ~outs;
    }
    c->threads = 0;
}
