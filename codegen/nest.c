/* Nests: facts about accesses under their buffers' layouts, and the text form.
 * In: kernels whose buffers have layouts. Out: strides per axis. Idea: a buffer blocked over dim d holds index i of d at
 * (i / lanes) * block + i % lanes, so an axis with coefficient 1 on d moves by `block` per `lanes` steps and by 1 inside;
 * everything else is linear. */
#include "codegen/tiles.h"

/* All indices lie in one block, and an axis starts inside it. */
static bool stays_in_block(const Kernel *k, const Affine *f, int lanes)
{
    int64_t last = f->offset;
    for (int a = 0; a < k->n_axes; a++)
        last += f->coef[a] * (k->axis[a].extent - 1);
    return f->offset > 0 && f->offset % lanes && f->offset / lanes == last / lanes;
}

/* Adds the blocked dim's part; false when some axis crosses blocks irregularly. */
static bool add_blocked_dim(Linear *out, const Kernel *k, const Affine *f, int lanes, int64_t block)
{
    int axes_inside = 0;
    if (stays_in_block(k, f, lanes)) {
        out->base += f->offset / lanes * block + f->offset % lanes;
        for (int a = 0; a < k->n_axes; a++)
            out->unit[a] += f->coef[a];
        return true;
    }
    for (int a = 0; a < k->n_axes; a++) {
        if (!f->coef[a])
            continue;
        if (f->coef[a] % lanes == 0) {
            out->unit[a] += f->coef[a] / lanes * block;
        } else if (f->coef[a] == 1 && !out->block[a]) {
            out->block[a] = block;
            axes_inside++;
        } else {
            return false;
        }
    }
    if (axes_inside > 1 || (axes_inside && f->offset % lanes))
        return false;
    if (!axes_inside)
        out->base += f->offset >= 0 ? f->offset / lanes * block + f->offset % lanes : 0;
    else
        out->base += f->offset / lanes * block;
    return axes_inside || f->offset >= 0;
}

/* Adds the paired dim's part: an even step moves by whole pairs, one axis may run through them. */
static bool add_paired_dim(Linear *out, const Kernel *k, const Affine *f, int64_t pair)
{
    bool inside = false;
    for (int a = 0; a < k->n_axes; a++) {
        if (f->coef[a] % 2 == 0) {
            out->unit[a] += f->coef[a] / 2 * pair;
        } else if (f->coef[a] == 1 && !inside) {
            out->half[a] = pair;
            inside = true;
        } else {
            return false;
        }
    }
    out->base += f->offset / 2 * pair;
    return f->offset >= 0 && !(inside && f->offset % 2);
}

int access_pair_axis(const KernelList *l, const Kernel *k, AccessId at)
{
    int d = layout_pair_dim(&l->buffers.at[k->access[at].buf].layout);
    if (d < 0 || k->access[at].dim[d].offset % 2)
        return -1;
    for (int a = 0; a < k->n_axes; a++)
        if (k->access[at].dim[d].coef[a] == 1)
            return a;
    return -1;
}

Linear access_linear(const KernelList *l, const Kernel *k, AccessId at)
{
    const Access *x = &k->access[at];
    const Buffer *b = &l->buffers.at[x->buf];
    int64_t stride[MAX_RANK];
    layout_strides(b, stride);
    for (int d = 0; d < x->rank && b->layout.paired; d++)
        stride[d] /= 2;
    Linear out = {.linear = true, .lanes = 1};
    if (b->layout.block_dim >= 0)
        out.lanes = b->layout.lanes;
    for (int d = 0; d < x->rank; d++) {
        const Affine *f = &x->dim[d];
        if (f->table || f->div > 1) {
            out.linear = false;
        } else if (d == layout_pair_dim(&b->layout)) {
            out.linear = out.linear && add_paired_dim(&out, k, f, stride[d]);
        } else if (d == b->layout.block_dim) {
            out.linear = out.linear && add_blocked_dim(&out, k, f, b->layout.lanes, stride[d]);
        } else {
            out.base += f->offset * stride[d];
            for (int a = 0; a < k->n_axes; a++)
                out.unit[a] += f->coef[a] * stride[d];
        }
    }
    return out;
}

int64_t access_lane_stride(const Linear *f, int axis)
{
    if (!f->linear || f->half[axis])
        return -1;
    return f->unit[axis] + (f->block[axis] ? 1 : 0);
}

int32_t nest_parts(const Nest *n, int i)
{
    int axis = i == 0 ? n->slice_axis : n->inner_axis[i - 1];
    int32_t size = i == 0 ? n->slice_size : n->inner_size[i - 1];
    return axis < 0 ? 1 : (n->k->axis[axis].extent + size - 1) / size;
}

int32_t nest_slices(const Nest *n)
{
    if (n->samples)
        return (n->k->axis[n->slice_axis].extent + n->samples - 1) / n->samples;
    int32_t count = nest_parts(n, 0);
    for (int i = 1; i <= n->n_inner - n->n_passes; i++)
        count *= nest_parts(n, i);
    return count;
}

int32_t nest_passes(const Nest *n)
{
    int32_t count = n->samples ? n->samples / n->slice_size : 1;
    for (int i = n->samples ? 1 : n->n_inner - n->n_passes + 1; i <= n->n_inner && !n->own_passes; i++)
        count *= nest_parts(n, i);
    return count;
}

bool nest_passes_with(const Nest *a, const Nest *b)
{
    return nest_passes(a) > 1 && nest_passes(a) == nest_passes(b) && a->samples == b->samples && (!a->samples || kernel_share_strips(a->k, b->k));
}

int nest_run_end(const Stage *s, int i)
{
    int end = i + 1;
    while (end < s->n_nests && nest_passes_with(s->nests[end - 1], s->nests[end]))
        end++;
    return end;
}

uint32_t nest_pass_axes(const Nest *n)
{
    uint32_t m = 0;
    for (int i = n->n_inner - n->n_passes; i < n->n_inner; i++)
        m |= 1u << n->inner_axis[i];
    return m;
}

ExprId nest_sum(const Nest *n)
{
    ExprId found = 0;
    for (ExprId e = 1; e < n->k->n_expr; e++)
        if (expr_is_reduction(n->k->expr[e].op)) {
            if (found || n->k->expr[e].op != EX_SUM)
                return 0;
            found = e;
        }
    return found;
}

void nest_print(const KernelList *l, const Nest *n, FILE *to)
{
    const Kernel *k = n->k;
    (void)l;
    fprintf(to, "nest %s: %d lanes", k->name, n->lanes);
    if (n->vector_axis >= 0)
        fprintf(to, " of %s%s", k->axis[n->vector_axis].name, k->axis[n->vector_axis].kind == AXIS_RED ? " (added at the end)" : "");
    fprintf(to, "\n  for");
    for (int i = 0; i < n->n_par; i++) {
        int a = n->par[i];
        fprintf(to, " %s:%d", k->axis[a].name, k->axis[a].extent);
        if (n->tile[a] > 1)
            fprintf(to, "/%d", n->tile[a]);
        if (a == n->slice_axis)
            fprintf(to, "[slices of %d]", n->samples ? n->samples : n->slice_size);
        if (a == n->slice_axis && n->samples > n->slice_size)
            fprintf(to, "[passes of %d]", n->slice_size);
        for (int s = 0; s < n->n_inner; s++)
            if (a == n->inner_axis[s])
                fprintf(to, "[%s of %d]", !n->samples && s < n->n_inner - n->n_passes ? "slices" : "passes", n->inner_size[s]);
    }
    if (n->n_red) {
        fprintf(to, "\n    reduce");
        for (int i = 0; i < n->n_red; i++) {
            fprintf(to, " %s:%d%s", k->axis[n->red[i]].name, k->axis[n->red[i]].extent, n->unroll[n->red[i]] ? "(unrolled)" : "");
            if (n->red[i] == n->portion_axis)
                fprintf(to, "[portions of %d at depth %d]", n->portion, n->portion_level);
            for (int s = n->n_inner - n->n_passes; s < n->n_inner; s++)
                if (n->red[i] == n->inner_axis[s])
                    fprintf(to, "[passes of %d]", n->inner_size[s]);
        }
    }
    if (n->rows_axis >= 0)
        fprintf(to, "\n    tiles of %d %s x %d pairs of %s", tiles_rows(n), k->axis[n->rows_axis].name, n->depth, k->axis[n->depth_axis].name);
    if (n->lines_axis >= 0)
        fprintf(to, n->lines_a_step ? ", lines along %s" : ", through lines along %s", k->axis[n->lines_axis].name);
    fprintf(to, "\n");
}
