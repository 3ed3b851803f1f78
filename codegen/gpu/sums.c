/* Long sums over the batch become sums of slices, so that there are blocks enough to fill the GPU.
 * In: a kernel list. Out: the same list; sums whose rows are too few blocks (BatchNorm's statistics have one a channel, the loss one
 * in all) are made in two kernels, one that leaves a partial sum a slice and one that adds them in order (codegen/split.c).
 * Idea: a multiprocessor needs some thousand threads with loads under way before the memory is busy. */
#include "codegen/gpu/plan.h"
#include "codegen/split.h"

enum {
    BLOCKS_A_MULTIPROCESSOR = 4,   /* wanted */
    LEAST_POINTS = 4096            /* of a block: fewer are quicker than the second kernel */
};

/* Points of the longest sum. */
static int64_t longest_sum(const Kernel *k)
{
    int64_t longest = 1;
    for (int e = 1; e < k->n_expr; e++) {
        int64_t n = k->expr[e].op == EX_SUM ? axes_points(k, k->expr[e].axes) : 1;
        longest = n > longest ? n : longest;
    }
    return longest;
}

int64_t sums_samples(const KernelList *l, const Kernel *k, const GpuPlan *p)
{
    int64_t batch = l->graph->batch, longest = longest_sum(k);
    if (longest < 2 * LEAST_POINTS || batch < 2)
        return batch;
    GpuBody b = body_of(l->arena, l, k, p);
    if (b.form != GPU_REDUCE)
        return batch;
    int64_t wanted = (int64_t)BLOCKS_A_MULTIPROCESSOR * p->target->multiprocessors / (b.points ? b.points : 1), most = longest / LEAST_POINTS;
    int64_t slices = wanted < most ? wanted : most;
    return slices > 1 ? (batch + slices - 1) / slices : batch;
}

typedef struct { const GpuPlan *plan; int64_t samples; } Asked;

static bool has_other_slices(const KernelList *l, const Kernel *k, void *arg)
{
    const Asked *x = arg;
    return sums_samples(l, k, x->plan) != x->samples;
}

/* The smallest slices that some kernel wants, of at least so many samples; the batch: none wants any. */
static int64_t next_samples(const KernelList *l, const GpuPlan *p, int64_t least)
{
    int64_t next = l->graph->batch;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        int64_t samples = sums_samples(l, &l->kernels.at[i], p);
        next = samples >= least && samples < next ? samples : next;
    }
    return next;
}

void sums_split(KernelList *l, const GpuPlan *p)
{
    for (int64_t samples = 0; (samples = next_samples(l, p, samples + 1)) < l->graph->batch;)
        split_batch_reductions(l, samples, has_other_slices, &(Asked){p, samples});
}
