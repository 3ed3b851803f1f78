/* Two axes become one.
 * In: kernels whose buffers have layouts. Out: the same with fewer axes, over views of their buffers. Relies on: dims one after the other
 * in memory, whole. Leaves: the same numbers.
 * Idea: vectors along a filter's three columns are mostly empty; along all weights of a layer they are full:
 *
 *     w[k,c,r,s] = w[k,c,r,s] - lr * SUM[z](part[z,k,c,r,s])     becomes     w[i] = w[i] - lr * SUM[z](part[z,i])
 */
#include "codegen/flat.h"

#include <string.h>

/* Axes of one index (the taps of a 1x1 convolution) move nothing. */
bool flat_is_axis(const Kernel *k, const Affine *f, int axis)
{
    for (int a = 0; a < k->n_axes; a++)
        if (f->coef[a] != (a == axis) && k->axis[a].extent > 1)
            return false;
    return !f->offset && !f->guarded && !f->table && f->div <= 1;
}

/* The dim of access `at` that axis p runs along with q along the next one, both whole and one after the other in memory; -1: the
 * access has neither; -2: another shape. */
static int dim_of_both(const KernelList *l, const Kernel *k, AccessId at, int p, int q)
{
    const Access *x = &k->access[at];
    const Buffer *b = &l->buffers.at[x->buf];
    if (!(access_axes(k, at) >> p & 1) && !(access_axes(k, at) >> q & 1))
        return -1;
    for (int d = 0; d + 1 < x->rank; d++) {
        if (!flat_is_axis(k, &x->dim[d], p) || !flat_is_axis(k, &x->dim[d + 1], q))
            continue;
        bool whole = b->shape.dim[d] == k->axis[p].extent && b->shape.dim[d + 1] == k->axis[q].extent && !b->layout.odd;
        for (int i = 0; i + 1 < b->shape.rank; i++)
            if (b->layout.order[i] == d && b->layout.order[i + 1] == d + 1)
                return whole && b->layout.block_dim != d && b->layout.block_dim != d + 1 && layout_pair_dim(&b->layout) < d ? d : -2;
    }
    return -2;
}

/* The buffer with dims outer and inner, one after the other in memory, as one in the place of the outer. */
static BufId merged_view(KernelList *l, BufId of, int outer, int inner)
{
    Buffer v = l->buffers.at[of];
    v.name = arena_printf(l->arena, "%s.flat", v.name);
    v.alias_of = of;
    v.updates = 0;
    v.value = 0;
    v.shape.dim[outer] *= v.shape.dim[inner];
    v.shape.rank--;
    memmove(&v.shape.dim[inner], &v.shape.dim[inner + 1], sizeof *v.shape.dim * (size_t)(v.shape.rank - inner));
    int n = 0;
    for (int i = 0; i <= v.shape.rank; i++)
        if (v.layout.order[i] != inner)
            v.layout.order[n++] = (int8_t)(v.layout.order[i] - (v.layout.order[i] > inner));
    v.layout.block_dim = (int8_t)(v.layout.block_dim - (v.layout.block_dim > inner));
    return kernels_add_buffer(l, &v);
}

/* Access `at` has one index along both dims: that of the outer times the inner's extent, and the inner. */
void flat_dims(KernelList *l, Kernel *k, AccessId at, int outer, int inner)
{
    Access *x = &k->access[at];
    Affine *f = &x->dim[outer];
    int32_t extent = (int32_t)l->buffers.at[x->buf].shape.dim[inner];
    x->buf = merged_view(l, x->buf, outer, inner);
    for (int a = 0; a < k->n_axes; a++)
        f->coef[a] = f->coef[a] * extent + x->dim[inner].coef[a];
    f->offset = f->offset * extent + x->dim[inner].offset;
    f->hi *= extent;
    x->rank--;
    memmove(&x->dim[inner], &x->dim[inner + 1], sizeof *x->dim * (size_t)(x->rank - inner));
}

/* Axis `outer` goes into axis `inner`, whose neighbours it takes in strides of all of them. */
void flat_axes(Kernel *k, int outer, int inner)
{
    for (AccessId at = 0; at < k->n_access; at++)
        for (int d = 0; d < k->access[at].rank; d++)
            k->access[at].dim[d].coef[outer] = 0;
    for (ExprId e = 1; e < k->n_expr; e++) {
        k->expr[e].free_axes &= ~(1u << outer);
        k->expr[e].axes &= ~(1u << outer);
    }
    k->axis[inner].extent *= k->axis[outer].extent;
    k->axis[outer].extent = 1;
}

void flat_merge(KernelList *l, Kernel *k, int p, int q)
{
    for (AccessId at = 0; at < k->n_access; at++) {
        int d = dim_of_both(l, k, at, p, q);
        if (d >= 0)
            flat_dims(l, k, at, d, d + 1);
    }
    flat_axes(k, p, q);
}

/* Axes that may become one: parallel, and every access has both or neither. */
bool flat_fits(const KernelList *l, const Kernel *k, int p, int q)
{
    const Axis *a = &k->axis[p], *b = &k->axis[q];
    if (a->kind != AXIS_PAR || b->kind != AXIS_PAR || a->batch || b->batch || b->extent < 2 || k->n_strip)
        return false;
    for (ExprId e = 1; e < k->n_expr; e++) {
        ExprOp op = k->expr[e].op;
        if (op == EX_INDEX || op == EX_ROWINDEX || (k->expr[e].axes & (1u << p | 1u << q)))
            return false;
    }
    bool found = false;
    for (AccessId at = 0; at < k->n_access; at++) {
        int d = dim_of_both(l, k, at, p, q);
        if (d == -2)
            return false;
        found = found || d >= 0;
    }
    return found;
}

/* ---- weights ---- */
static bool of_samples(const KernelList *l, const Kernel *k)
{
    for (AccessId at = 0; at < k->n_access; at++)
        if (l->buffers.at[k->access[at].buf].batched)
            return true;
    return false;
}

void flat_weights(KernelList *l)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i];
        if (k->part != WINOGRAD_NONE || of_samples(l, k))
            continue;
        for (int p = 0; p + 1 < k->n_axes; p++)
            if (flat_fits(l, k, p, p + 1))
                flat_merge(l, k, p, p + 1);
    }
}
