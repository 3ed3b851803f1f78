/* Parts of concatenations written where they belong (see tiles.h).
 * In: kernels whose operands may be bf16. Out: the same without copies of what a product in tiles made for a concatenation alone; it writes
 * its channels of the whole. Relies on: parts that begin with a whole vector of channels, so that `choose` lays the whole out with its
 * channels innermost. Leaves: every element is written once. */
#include "codegen/tiles.h"
#include "codegen/choose.h"

typedef struct { AccessId from, to; } Copy;

static bool is_bf16_value(const Buffer *b) { return b->kind == BUF_WORK && !b->alias_of && b->dtype == DT_BF16 && b->shape.rank >= 3; }

/* Does k copy all of a value, its channels behind others of the whole? */
static bool find_copy(const KernelList *l, const Kernel *k, Copy *c)
{
    if (!kernel_is_copy(k) || k->part != WINOGRAD_NONE)
        return false;
    *c = (Copy){k->expr[k->out[0].value].at, k->out[0].at};
    const Access *x = &k->access[c->from], *y = &k->access[c->to];
    if (!is_bf16_value(&l->buffers.at[x->buf]) || !is_bf16_value(&l->buffers.at[y->buf]) || x->rank != y->rank)
        return false;
    for (int d = 0; d < x->rank; d++) {
        int axis = affine_pure_axis(&x->dim[d], k->n_axes);
        if (axis < 0 || axis != affine_unit_axis(&y->dim[d], k->n_axes) || x->dim[d].guarded || y->dim[d].guarded ||
            k->axis[axis].extent != l->buffers.at[x->buf].shape.dim[d] || (d != 1 && y->dim[d].offset))
            return false;
    }
    return true;
}

/* Do all parts of b begin with a whole vector of channels? */
static bool parts_are_whole(const KernelList *l, BufId b)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        for (int o = 0; o < k->n_out; o++)
            if (k->access[k->out[o].at].buf == b && k->access[k->out[o].at].dim[1].offset % TILE_COLUMNS)
                return false;
    }
    return true;
}

static bool multiplies_in_tiles(const KernelList *l, const Kernel *k)
{
    Product p;
    return k->part == WINOGRAD_NONE && tiles_fit(l, k, &p) && !tiles_few_fit(l, k) && l->buffers.at[k->access[p.x].buf].dtype == DT_BF16;
}

/* The product in tiles that makes b, which `reader` alone reads; NULL: there is more to b. */
static Kernel *sole_maker(KernelList *l, BufId b, const Kernel *reader)
{
    Kernel *maker = NULL;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access; at++) {
            if (buffer_root(l, k->access[at].buf) != b || k == reader)
                continue;
            if (maker || !kernel_writes(k, at) || !multiplies_in_tiles(l, k))
                return NULL;
            maker = k;
        }
    }
    return maker;
}

/* What the maker wrote to `from` it writes to where copy k puts it. */
static void write_part(const KernelList *l, Kernel *maker, const Kernel *k, const Copy *c)
{
    const Access *to = &k->access[c->to];
    for (int o = 0; o < maker->n_out; o++) {
        Access *y = &maker->access[maker->out[o].at];
        if (y->buf != k->access[c->from].buf)
            continue;
        y->buf = to->buf;
        y->dim[1].offset += to->dim[1].offset;
        y->dim[1].hi = (int32_t)l->buffers.at[to->buf].shape.dim[1];
    }
}

/* Was copy k left out? */
static bool leave_out(KernelList *l, const Kernel *k)
{
    Copy c;
    if (!find_copy(l, k, &c) || !parts_are_whole(l, k->access[c.to].buf))
        return false;
    Kernel *maker = sole_maker(l, k->access[c.from].buf, k);
    if (maker)
        write_part(l, maker, k, &c);
    return maker != NULL;
}

void tiles_parts(KernelList *l)
{
    bool *out = NEWN(l->arena, bool, l->kernels.len);
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        out[i] = leave_out(l, &l->kernels.at[i]);
    for (uint32_t i = 0; i < l->kernels.len; i++)
        if (!out[i])
            l->kernels.at[n++] = l->kernels.at[i];
    l->kernels.len = n;
}
