/* The COLUMNS skeleton: reductions whose outputs lie side by side in memory (statistics of channels that lie innermost).
 * In: a launch whose rows are the axes of all outputs, the last one side by side. Out: the kernel's body.
 * A block has 32 columns or less, neighbours along the last axis, one for each of as many threads; such groups share the points of
 * every reduction, and column_sum adds their parts in order. Loads of a group lie together, whatever the reduction runs over. */
#include "codegen/gpu/code.h"

void columns_emit(Code *c, const GpuBody *body)
{
    const Kernel *k = c->k;
    const int last = body->row[body->n_rows - 1], extent = k->axis[last].extent, columns = body->columns, across = (extent + columns - 1) / columns;
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "const int outer = block / %d, column = block %% %d * %d + threadIdx.x %% %d;", across, across, columns, columns);
    cu_split(c, "outer", body->row, body->n_rows - 1);
    for (int i = 0; i < body->n_rows - 1; i++)
        if (cu_is_dynamic(c, body->row[i]))
            cu_line(c, "if (%s >= %s) return;", k->axis[body->row[i]].name, cu_extent(c, body->row[i]));
    cu_line(c, "const int %s = column < %d ? column : %d;   // all lanes meet at barriers", k->axis[last].name, extent, extent - 1);
    c->threads = body->threads;
    c->columns = columns;
    for (int o = 0; o < k->n_out; o++)
        cu_hoist_reductions(c, k->out[o].value, 0);
    c->threads = 0;
    c->columns = 0;
    cu_open(c, "if (threadIdx.x < %d && column < %d)", columns, extent);
    cu_outputs(c, false);
    cu_close(c);
}
