/* Costs of stages.
 * In: a planned function. Out: multiply-adds and bytes of each stage: the two sides of a roofline.
 * Relies on places: what lies in scratch never leaves the cache of its thread, and is not counted.
 * Idea: a lower bound. A kernel may read a part of a buffer only, so an access counts as many elements as its axes have
 * points, at most the buffer's; of several accesses to one buffer the largest counts. */
#include "codegen/cost.h"
#include "codegen/choose.h"

/* Points of the largest loop nest of a kernel's expressions. */
static double largest_nest(const Kernel *k)
{
    double most = 0;
    for (ExprId e = 1; e < k->n_expr; e++) {
        double n = kernel_points(k, k->expr[e].free_axes | k->expr[e].axes);
        most = n > most ? n : most;
    }
    return most;
}

/* Counts the points of the axes of f from `axis` on, and those where the index is in range. */
static void count_points(const Kernel *k, const Affine *f, int axis, int64_t at, int64_t *inside, int64_t *all)
{
    while (axis < k->n_axes && !f->coef[axis])
        axis++;
    if (axis < k->n_axes) {
        for (int32_t i = 0; i < k->axis[axis].extent; i++)
            count_points(k, f, axis + 1, at + (int64_t)f->coef[axis] * i, inside, all);
        return;
    }
    int64_t div = f->div > 1 ? f->div : 1;
    ++*all;
    *inside += at % div == 0 && at / div >= f->lo && at / div < f->hi;
}

/* The share of its points where a load is not of padding. */
static double share_inside(const Kernel *k, const Access *a)
{
    double share = 1;
    for (int d = 0; d < a->rank; d++) {
        int64_t inside = 0, all = 0;
        if (!a->dim[d].guarded || a->dim[d].table)
            continue;
        count_points(k, &a->dim[d], 0, a->dim[d].offset, &inside, &all);
        share *= (double)inside / (double)all;
    }
    return share;
}

/* Multiplications by padding are points, too, but code may leave them out. */
static double kernel_fmas(const Kernel *k, double batch)
{
    double direct = k->macs * batch, points = largest_nest(k), n = direct < points ? direct : points;
    for (int i = 0; n > 0 && i < k->n_access; i++)
        if (!kernel_writes(k, (AccessId)i))
            n *= share_inside(k, &k->access[i]);
    return n;
}

static bool crosses_stages(Area a)
{
    return a == AREA_STATE || a == AREA_WORK || a == AREA_CONST || a == AREA_IN || a == AREA_LABELS || a == AREA_OUT;
}

static void count_bytes(const Function *f, const Kernel *k, double *bytes)
{
    for (int i = 0; i < k->n_access; i++) {
        BufId b = k->access[i].buf, root = buffer_root(f->kernels, b);
        if (!crosses_stages(f->place[b].area))
            continue;
        const Buffer *x = &f->kernels->buffers.at[b];
        double n = kernel_points(k, access_axes(k, (AccessId)i)), all = (double)buffer_elements(x);
        n = (n < all ? n : all) * (double)dtype_size(x->dtype);
        bytes[root] = n > bytes[root] ? n : bytes[root];
    }
}

StageCost stage_cost(Arena *a, const Function *f, const Stage *s)
{
    StageCost c = {0};
    double *bytes = NEWN(a, double, f->kernels->buffers.len);
    for (int i = 0; i < s->n_nests; i++) {
        c.fmas += kernel_fmas(s->nests[i]->k, f->batch);
        count_bytes(f, s->nests[i]->k, bytes);
    }
    for (uint32_t b = 1; b < f->kernels->buffers.len; b++)
        c.bytes += bytes[b];
    return c;
}
