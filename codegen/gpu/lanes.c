/* Which launches may run at the same time.
 * In: a Function whose launches and addresses are known. Out: each launch's lane, and the launches in other lanes that it waits for.
 * Relies on launches being in an order that is right when they follow each other. Leaves: two launches of which one writes bytes that
 * the other reads or writes keep that order.
 *
 * A lane is a sequence: its launches follow each other. A launch goes on in the lane of the latest one that it needs; what needs
 * nothing of the lanes' ends begins a new lane. So the gradients of weights, which only the optimizer needs, run beside the way back
 * through the layers. Bytes are compared, not buffers: buffers share memory. */
#include "codegen/gpu/plan.h"
#include "ir/base/vec.h"

typedef struct { Area area; int64_t from, to; bool written; } Bytes;
typedef Vec(Bytes) Touched;

static void add_buffer(Arena *a, const Function *f, BufId b, bool written, Touched *t)
{
    const Place *p = &f->place[b];
    const Buffer *x = &f->kernels->buffers.at[b];
    if (p->area != AREA_SCRATCH)
        vec_push(a, t, ((Bytes){p->area, p->offset, p->offset + buffer_elements(x) * (int64_t)dtype_size(x->dtype), written}));
}

static Touched touched_by(Arena *a, const Function *f, const GpuLaunch *x)
{
    Touched t = {0};
    for (int i = 0; i < x->n_bodies; i++) {
        const GpuBody *b = &x->body[i];
        for (int at = 0; at < b->k->n_access; at++)
            if (body_touches(b, (AccessId)at))
                add_buffer(a, f, b->k->access[at].buf, kernel_writes(b->k, (AccessId)at), &t);
        if (body_is_cut(b))
            add_buffer(a, f, b->contract->partial, body_is_product(b), &t);
    }
    return t;
}

static bool meet(const Touched *x, const Touched *y)
{
    for (uint32_t i = 0; i < x->len; i++)
        for (uint32_t j = 0; j < y->len; j++) {
            const Bytes *p = &x->at[i], *q = &y->at[j];
            if ((p->written || q->written) && p->area == q->area && p->from < q->to && q->from < p->to)
                return true;
        }
    return false;
}

typedef struct {
    GpuPlan *p;
    bool **before;                  /* [launch][launch]: that one is done when this one starts */
    int32_t last[CNNC_GPU_LANES];   /* of each lane so far; -1: none */
} Lanes;

static void wait_for(Lanes *l, int32_t launch, int32_t earlier)
{
    for (int32_t i = 0; i < earlier; i++)
        l->before[launch][i] = l->before[launch][i] || l->before[earlier][i];
    l->before[launch][earlier] = true;
}

/* The lane whose end the launch needs, the latest of them; or a new one; or the one that has stood longest. */
static int32_t lane_for(const Lanes *l, int32_t launch)
{
    int32_t needed = -1, idle = 0;
    for (int32_t i = 0; i < CNNC_GPU_LANES; i++) {
        int32_t end = l->last[i];
        if (end >= 0 && l->before[launch][end] && (needed < 0 || end > l->last[needed]))
            needed = i;
        if (end < l->last[idle])
            idle = i;
    }
    return needed >= 0 ? needed : idle;
}

/* The latest launch of each other lane that must be done, unless another of them, or the own lane, waits for it already. */
static void find_waits(const Lanes *l, int32_t launch)
{
    GpuLaunch *x = &l->p->launches[launch];
    int32_t latest[CNNC_GPU_LANES];
    for (int32_t i = 0; i < CNNC_GPU_LANES; i++)
        latest[i] = -1;
    for (int32_t i = 0; i < launch; i++)
        if (l->before[launch][i])
            latest[l->p->launches[i].lane] = i;
    for (int32_t i = 0; i < CNNC_GPU_LANES; i++) {
        bool told = latest[i] < 0 || i == x->lane;
        for (int32_t j = 0; j < CNNC_GPU_LANES && !told; j++)
            told = latest[j] >= 0 && l->before[latest[j]][latest[i]];
        x->after[i] = told ? 0 : latest[i] + 1;
    }
}

void lanes_find(Arena *a, const Function *f)
{
    int32_t n = f->gpu->n_launches;
    Lanes l = {.p = f->gpu, .before = NEWN(a, bool *, n + 1)};
    Touched *touched = NEWN(a, Touched, n + 1);
    for (int32_t i = 0; i < CNNC_GPU_LANES; i++)
        l.last[i] = -1;
    for (int32_t i = 0; i < n; i++) {
        l.before[i] = NEWN(a, bool, n);
        touched[i] = touched_by(a, f, &l.p->launches[i]);
        for (int32_t j = i - 1; j >= 0; j--)   /* what the latest ones wait for need not be looked at */
            if (!l.before[i][j] && meet(&touched[i], &touched[j]))
                wait_for(&l, i, j);
        int32_t lane = lane_for(&l, i);
        if (l.last[lane] >= 0)
            wait_for(&l, i, l.last[lane]);
        l.p->launches[i].lane = lane;
        l.last[lane] = i;
        find_waits(&l, i);
    }
}
