/* The MAP skeleton: a thread a point of the outputs; reductions are serial loops in the thread.
 * In: a launch whose rows are the axes of all outputs. Out: the kernel's body.
 * Neighbouring threads take neighbouring points of the innermost axis, so that loads and stores of a warp lie together. */
#include "codegen/gpu/code.h"

void map_emit(Code *c, const GpuLaunch *launch)
{
    const Kernel *k = c->k;
    const char *type = launch->points > INT32_MAX ? "long long" : "int";
    cu_line(c, "const %s point = (%s)blockIdx.x * %d + threadIdx.x;", type, type, launch->threads);
    cu_line(c, "if (point >= %lld) return;", (long long)launch->points);
    cu_split(c, "point", launch->row, launch->n_rows);
    for (int i = 0; i < launch->n_rows; i++)
        if (cu_is_dynamic(c, launch->row[i]))
            cu_line(c, "if (%s >= %s) return;", k->axis[launch->row[i]].name, cu_extent(c, launch->row[i]));
    const char *value[MAX_KERNEL_OUT];
    for (int o = 0; o < k->n_out; o++)
        value[o] = k->n_out > 1 ? cu_variable(c, k->out[o].value) : cu_value(c, k->out[o].value);
    for (int o = 0; o < k->n_out; o++)
        cu_store(c, o, value[o]);
}
