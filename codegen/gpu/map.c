/* The MAP skeleton: a thread a point of the outputs, or four neighbours (wide.c); reductions are serial loops in the thread.
 * In: a launch whose rows are the axes of all outputs. Out: the kernel's body.
 * Neighbouring threads take neighbouring points of the innermost axis, so that loads and stores of a warp lie together. */
#include "codegen/gpu/code.h"

void cu_point(Code *c, const GpuBody *body)
{
    const Kernel *k = c->k;
    int32_t by[MAX_AXIS] = {0};
    const char *type = body->points > INT32_MAX ? "long long" : "int";
    cu_line(c, "const %s point = (%s)block * %d + threadIdx.x;", type, type, body->threads);
    cu_line(c, "if (point >= %lld) return;", (long long)(body->points / body_points_each(body)));
    c->long_points = body->points > INT32_MAX;
    for (int i = 0; i < body->n_rows; i++)
        by[i] = body->wide && i == body->n_rows - 1 ? WIDE : body->steps > 1 && body->row[i] == body->stepped ? body->steps : 1;
    cu_split_by(c, "point", body->row, body->n_rows, by);
    c->long_points = false;
    for (int i = 0; i < body->n_rows; i++)
        if (cu_is_dynamic(c, body->row[i]))
            cu_line(c, "if (%s >= %s) return;", k->axis[body->row[i]].name, cu_extent(c, body->row[i]));
}

void map_emit(Code *c, const GpuBody *body)
{
    if (body->slide) {
        slide_emit(c, body);
        return;
    }
    cu_point(c, body);
    if (body->wide)
        wide_emit(c, body);
    else
        cu_outputs(c, false);
}
