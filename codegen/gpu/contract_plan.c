/* Which kernels are products of matrices, and the tile each is cut into.
 * In: a kernel in plain layouts. Out: a Contract or NULL.
 *
 * SUM[axes](a * b) is a product when both are loads of float32 that read 0 out of range. Axes of the output that only a has are
 * rows, those only b has are columns, those both have (groups) repeat the product; a is the operand with the output's innermost
 * axis, so that neighbouring threads of the epilogue store neighbours. A convolution is so an implicit GEMM in all three
 * directions: [k] x [c,r,s] by [c,r,s] x [n,p,q] forward, [k,r,s] reduced for the data's gradient, [n,p,q] for the weights'. */
#include "codegen/gpu/code.h"

#include <string.h>

enum { LEAST_ROWS = 16, LEAST_COLS = 4, LEAST_DEPTH = 8 };
#define LEAST_MACS 20000.0

int64_t access_step(const KernelList *l, const Kernel *k, AccessId at, int axis)
{
    const Access *s = &k->access[at];
    int64_t stride[MAX_RANK], sum = 0;
    layout_strides(&l->buffers.at[s->buf], stride);
    for (int d = 0; d < s->rank; d++)
        sum += stride[d] * s->dim[d].coef[axis];
    return sum;
}

int64_t access_stride(const KernelList *l, const Kernel *k, AccessId at, int axis)
{
    int64_t step = access_step(l, k, at, axis);
    return step < 0 ? -step : step;
}

static bool before(const KernelList *l, const Kernel *k, int a, int b)
{
    if (k->axis[a].batch != k->axis[b].batch)
        return k->axis[a].batch;
    int64_t sa = access_stride(l, k, k->out[0].at, a), sb = access_stride(l, k, k->out[0].at, b);
    return sa != sb ? sa > sb : a < b;
}

int axes_by_stride(const KernelList *l, const Kernel *k, uint32_t axes, int8_t *out)
{
    int n = 0;
    for (int a = 0; a < k->n_axes; a++) {
        if (!(axes >> a & 1))
            continue;
        int i = n++;
        for (; i > 0 && before(l, k, a, out[i - 1]); i--)
            out[i] = out[i - 1];
        out[i] = (int8_t)a;
    }
    return n;
}

/* ---- what is a product ---- */
static bool can_tile(const KernelList *l, const Kernel *k, ExprId e)
{
    const Expr *x = &k->expr[e];
    if (x->op != EX_LOAD || x->is_int || k->access[x->at].fill != 0)
        return false;
    for (int d = 0; d < k->access[x->at].rank; d++)
        if (k->access[x->at].dim[d].table || k->access[x->at].dim[d].div > 1)
            return false;
    return buffer_elements(&l->buffers.at[k->access[x->at].buf]) <= INT32_MAX;
}

static ExprId only_sum(const Kernel *k)
{
    ExprId sum = 0;
    for (ExprId e = 1; e < k->n_expr; e++) {
        ExprOp op = k->expr[e].op;
        if (op == EX_MAX_OVER || op == EX_ARGMAX || (op == EX_SUM && sum))
            return 0;
        if (op == EX_SUM)
            sum = e;
    }
    return sum;
}

static bool same_outputs(const Kernel *k)
{
    for (int o = 1; o < k->n_out; o++)
        if (out_axes(k, o) != out_axes(k, 0))
            return false;
    return true;
}

static AxisGroup group_of(const Kernel *k, const int8_t *axes, int n)
{
    AxisGroup g = {.n = n, .extent = 1};
    for (int i = 0; i < n; i++) {
        g.axis[i] = axes[i];
        g.extent *= k->axis[axes[i]].extent;
        g.dynamic = g.dynamic || k->axis[axes[i]].batch;
    }
    return g;
}

static AxisGroup group_by_stride(const KernelList *l, const Kernel *k, uint32_t axes)
{
    int8_t list[MAX_AXIS];
    int n = axes_by_stride(l, k, axes, list);
    return group_of(k, list, n);
}

/* Reduced axes in their own order, which is that of the weights and of the images alike; behind the batch those of one point, which may
 * stand anywhere. */
static AxisGroup group_in_order(const Kernel *k, uint32_t axes)
{
    int8_t list[MAX_AXIS];
    int n = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int a = 0; a < k->n_axes; a++)
            if ((axes >> a & 1) && (k->axis[a].batch ? 0 : k->axis[a].extent == 1 ? 1 : 2) == pass)
                list[n++] = (int8_t)a;
    return group_of(k, list, n);
}

/* Only a plain batch may be cut off at run time, and only as the outermost axis of its group. */
static bool batches_are_plain(const Kernel *k)
{
    int batches = 0;
    for (int a = 0; a < k->n_axes; a++) {
        if (k->axis[a].batch && (k->axis[a].batch_div || k->axis[a].batch_step))
            return false;
        batches += k->axis[a].batch;
    }
    return batches <= 1;
}

Contract *contract_as_product(Arena *a, const KernelList *l, const Kernel *k)
{
    ExprId sum = only_sum(k), mul = sum ? k->expr[sum].a : 0;
    if (!sum || !same_outputs(k) || k->expr[mul].op != EX_MUL || !batches_are_plain(k))
        return NULL;
    ExprId left = k->expr[mul].a, right = k->expr[mul].b;
    uint32_t reduced = k->expr[sum].axes, out = out_axes(k, 0);
    if (!can_tile(l, k, left) || !can_tile(l, k, right) || (reduced & out))
        return NULL;
    int8_t order[MAX_AXIS];
    int n = axes_by_stride(l, k, out, order);
    uint32_t la = k->expr[left].free_axes, ra = k->expr[right].free_axes;
    if (!n || (out & ~(la | ra)))
        return NULL;
    bool swap = !(la >> order[n - 1] & 1) || ((ra >> order[n - 1] & 1) && !(out & la & ~ra));
    Contract *c = NEW(a, Contract);
    uint32_t aa = swap ? ra : la, ba = swap ? la : ra;
    *c = (Contract){.sum = sum, .a = k->expr[swap ? right : left].at, .b = k->expr[swap ? left : right].at, .slices = 1};
    c->row = group_by_stride(l, k, out & aa & ~ba);
    c->col = group_by_stride(l, k, out & ba & ~aa);
    c->both = group_by_stride(l, k, out & aa & ba);
    c->depth = group_in_order(k, reduced);
    return c->both.dynamic ? NULL : c;
}

/* A factor that does not depend on the depth may be read outside the sum, too: a part of a cut product reads it or does not. */
static bool factors_have_depth(const Kernel *k, const Contract *c)
{
    const Expr *mul = &k->expr[k->expr[c->sum].a];
    return k->expr[mul->a].free_axes & k->expr[c->sum].axes && k->expr[mul->b].free_axes & k->expr[c->sum].axes;
}

Contract *contract_find(Arena *a, const KernelList *l, const Kernel *k, const GpuTarget *t, Precision products)
{
    Contract *c = contract_as_product(a, l, k);
    if (!c || !factors_have_depth(k, c) || c->row.extent < LEAST_ROWS || c->col.extent < LEAST_COLS || c->depth.extent < LEAST_DEPTH)
        return NULL;
    if ((double)c->row.extent * (double)c->col.extent * (double)c->depth.extent * (double)c->both.extent < LEAST_MACS)
        return NULL;
    c->products = k->part == WINOGRAD_NONE ? products : PRECISION_F32;   /* Winograd multiplies what rounding leaves */
    contract_choose_tile(c, l, k, t);
    c->row_sums = c->row.n == 1 && c->row.axis[0] == k->tile_channel ? k->n_tile_sums : 0;
    c->lane_rows = contract_lane_rows(l, k, c);
    return c;
}
