/* Channels side by side in functions whose products are tensor cores' (in large ones: the others keep their values in shared memory).
 * In: kernels in plain layouts. Out: images [n][c][h][w] and weights [k][c][r][s] laid [n][h][w][c] and [k][r][s][c]; later, sums over
 * the batch cut into sums of slices where few outputs add many points.
 *
 * All three directions of a convolution then find 8 values side by side along an axis that nothing guards: forward along c, which is
 * summed; the data's gradient along k, which is summed, of dy, and along c of the weights; the weights' gradient along k of dy and c
 * of x. Left plain are the caller's input and output, what is seen in another shape (a Flatten), parameters in the state, and images of
 * a number of channels that is no multiple of 8. */
#include "codegen/gpu/code.h"
#include "codegen/split.h"

enum { TOGETHER = 8, MOST_SLICES = 64, FEW_SUMS = 8192, MANY_POINTS = 1024 };

static bool has_views(const KernelList *l, BufId b)
{
    for (uint32_t i = 1; i < l->buffers.len; i++)
        if (i != (uint32_t)b && buffer_root(l, (BufId)i) == b)
            return true;
    return false;
}

static bool can_turn(const KernelList *l, BufId b)
{
    const Buffer *x = &l->buffers.at[b];
    bool images = x->kind == BUF_WORK && x->batched, copies = x->kind == BUF_WORK && !x->batched && !x->value,
         weights = x->kind == BUF_CONST && !x->data;
    return (images || copies || weights) && x->shape.rank == 4 && x->shape.dim[1] % TOGETHER == 0 && buffer_root(l, b) == b && !has_views(l, b);
}

/* Weights of a convolution in the state, which keeps them plain: products read a copy. */
static BufId copy_of(KernelList *l, BufId *copy, BufId from, const Kernel *k, Kernel **made)
{
    Buffer b = l->buffers.at[from];
    if (b.kind != BUF_STATE || b.shape.rank != 4 || b.shape.dim[1] % TOGETHER || b.shape.dim[2] * b.shape.dim[3] == 1)
        return from;
    if (!copy[from]) {
        b.kind = BUF_WORK;
        b.alias_of = b.updates = b.value = 0;
        b.name = arena_printf(l->arena, "%s.turned", b.name);
        copy[from] = kernels_add_buffer(l, &b);
        *made = kernel_copy(l, from, copy[from], b.name, k);
    }
    return copy[from];
}

static void copy_weights(Arena *a, KernelList *l)
{
    BufId *copy = NEWN(a, BufId, l->buffers.len);
    KernelList out = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i], *made = NULL;
        const Contract *p = contract_as_product(a, l, k);
        const AccessId operand[] = {p ? p->a : 0, p ? p->b : 0};
        for (size_t o = 0; p && o < ARRAY_LEN(operand); o++)
            k->access[operand[o]].buf = copy_of(l, copy, k->access[operand[o]].buf, k, &made);
        if (made)
            vec_push(l->arena, &out.kernels, *made);
        vec_push(l->arena, &out.kernels, *k);
    }
    l->kernels.at = out.kernels.at;
    l->kernels.len = out.kernels.len;
    l->kernels.cap = out.kernels.cap;
}

/* A few sums (of channels) of many points: one block each would be too few. */
static bool stays_whole(const KernelList *l, const Kernel *k, void *arena)
{
    int64_t points = 1;
    for (int e = 1; e < k->n_expr; e++)
        points = axes_points(k, k->expr[e].axes) > points ? axes_points(k, k->expr[e].axes) : points;
    return points < MANY_POINTS || axes_points(k, out_axes(k, 0)) > FEW_SUMS || contract_as_product(arena, l, k);
}

void layouts_channels_last(Arena *a, KernelList *l, Precision precision)
{
    if (precision == PRECISION_TF32)   /* of bf16 there are copies, to round them */
        copy_weights(a, l);
    for (uint32_t b = 1; b < l->buffers.len; b++)
        if (can_turn(l, (BufId)b))
            l->buffers.at[b].layout = layout_innermost(4, 1);
}

SumCut layouts_cut(const KernelList *l, const Kernel *k, const GpuPlan *p, int64_t channels, int64_t inner, int64_t lines)
{
    enum { BLOCKS_A_MULTIPROCESSOR = 4, LEAST_POINTS = 64 };   /* of a piece */
    SumCut cut = {l->graph->batch, 1};
    if (stays_whole(l, k, l->arena))
        return cut;
    int64_t across = (channels + GPU_WARP * WIDE - 1) / (GPU_WARP * WIDE), parts = BLOCKS_A_MULTIPROCESSOR * p->target->multiprocessors / across + 1;
    cut.samples = l->graph->batch > parts ? (l->graph->batch + parts - 1) / parts : 1;
    for (int64_t pieces = 2; cut.samples == 1 && pieces * l->graph->batch <= parts && pieces * LEAST_POINTS <= inner; pieces++)
        cut.pieces = lines % pieces ? cut.pieces : pieces;
    return cut;
}

void layouts_split(KernelList *l)
{
    int64_t batch = l->graph->batch;
    if (batch > 1)
        split_batch_reductions(l, (batch + MOST_SLICES - 1) / MOST_SLICES, stays_whole, l->arena);
}
