/* Stages.
 * In: kernels with layouts, in an order that computes every value before it is read. Out: a Function, its addresses by plan_places.c.
 *
 * A kernel is of one of two kinds: it works on samples (every output depends on the batch or slice axis), or on
 * outputs (optimizers, sums over slices, Linear's weight gradient, anything at batch 1). Kernels on samples whose inputs
 * are per sample run back to back on one slice of samples: a whole forward and backward pass is one stage. The list is cut
 * greedily: take all ready kernels of one kind, then all of the other. */
#include "codegen/plan_impl.h"
#include "codegen/slices.h"

#include <string.h>

/* ---- kinds and slices ---- */
static int sample_axis(const Kernel *k)
{
    for (int a = 0; a < k->n_axes; a++)
        if (k->axis[a].kind == AXIS_PAR && k->axis[a].batch && !k->axis[a].batch_step)
            return a;
    return -1;
}

/* One slice can take all strips of its samples. */
static bool strips_of_samples(const Plan *p, const Kernel *k)
{
    const NestTarget *t = p->in->target;
    int s = sample_axis(k);
    return t->deep && k->strip_axis[0] == s && !k->axis[s].batch_div && k->n_passes == 0 && t->samples % k->strip_size[0] == 0;
}

static KernelKind kind_of(const Plan *p, const Nest *n)
{
    const Kernel *k = n->k;
    int s = sample_axis(k);
    if (s < 0 || (k->n_strip > 0 && !strips_of_samples(p, k)) || n->over_batch || p->in->target->samples == 0)
        return ON_OUTPUTS;
    for (int o = 0; o < k->n_out; o++)
        if (!(access_axes(k, k->out[o].at) >> s & 1))
            return ON_OUTPUTS;
    return ON_SAMPLES;
}

static void schedule_all(Plan *p)
{
    for (uint32_t i = 0; i < p->l->kernels.len; i++) {
        const Kernel *k = &p->l->kernels.at[i];
        Nest *n = p->nest[i] = schedule_kernel(p->a, p->l, k, p->in->target);
        p->kind[i] = kind_of(p, n);
        if (k->n_strip > 0) {
            n->slice_axis = k->strip_axis[0];
            n->slice_size = k->strip_size[0];
            n->n_inner = k->n_strip - 1;
            n->n_passes = k->n_passes;
            n->samples = p->kind[i] == ON_SAMPLES ? (int32_t)p->in->target->samples : 0;
            for (int s = 0; s < n->n_inner; s++) {
                n->inner_axis[s] = k->strip_axis[s + 1];
                n->inner_size[s] = k->strip_size[s + 1];
            }
        } else if (p->kind[i] == ON_OUTPUTS) {
            cut_nest(p->l, n, p->in->target);
        } else {
            n->slice_axis = sample_axis(k);
            n->slice_size = k->axis[n->slice_axis].batch_div ? 1 : n->group ? n->group : (int32_t)p->in->target->samples;
        }
    }
}

/* ---- dependences ---- */
static bool bit(const uint64_t *set, BufId b) { return set[b / 64] >> (b % 64) & 1; }

Touch plan_touches(const Plan *p, int kernel, BufId root)
{
    size_t at = (size_t)kernel * p->words;
    return (bit(p->reads + at, root) ? READS : 0) | (bit(p->writes + at, root) ? WRITES : 0);
}

/* Which storage every kernel reads and writes, found once: the stages are made by asking over and over. */
static void find_touches(Plan *p)
{
    p->root = NEWN(p->a, BufId, p->l->buffers.len);
    for (uint32_t b = 1; b < p->l->buffers.len; b++)
        p->root[b] = buffer_root(p->l, (BufId)b);
    p->words = p->l->buffers.len / 64 + 1;
    p->reads = NEWN(p->a, uint64_t, p->words * p->l->kernels.len);
    p->writes = NEWN(p->a, uint64_t, p->words * p->l->kernels.len);
    for (uint32_t j = 0; j < p->l->kernels.len; j++) {
        const Kernel *k = &p->l->kernels.at[j];
        for (int i = 0; i < k->n_access; i++) {
            BufId r = p->root[k->access[i].buf];
            (kernel_writes(k, (AccessId)i) ? p->writes : p->reads)[j * p->words + (size_t)r / 64] |= 1ull << (r % 64);
        }
        if (k->after)
            p->reads[j * p->words + (size_t)p->root[k->after] / 64] |= 1ull << (p->root[k->after] % 64);
    }
}

/* Later kernel j must wait for earlier kernel i because of some buffer. */
static bool depends(const Plan *p, int i, int j)
{
    const uint64_t *ri = p->reads + (size_t)i * p->words, *wi = p->writes + (size_t)i * p->words;
    const uint64_t *rj = p->reads + (size_t)j * p->words, *wj = p->writes + (size_t)j * p->words;
    for (size_t w = 0; w < p->words; w++)
        if ((wi[w] & (rj[w] | wj[w])) | (ri[w] & wj[w]))
            return true;
    return false;
}

/* Both kernels touch the buffer only at the index of their own slice. */
static bool same_slice_only(const Plan *p, int i, int j, BufId root)
{
    const Buffer *b = &p->l->buffers.at[root];
    const Nest *x = p->nest[i], *y = p->nest[j];
    if (b->strip_elements > 0 && x->k->n_strip > 0)   /* a strip's own values: its kernels are cut alike */
        return x->k->n_strip == y->k->n_strip && nest_slices(x) == nest_slices(y) && nest_passes(x) == nest_passes(y);
    if (p->kind[i] == ON_SAMPLES)
        return b->batched;
    if (nest_slices(x) == 1 && nest_slices(y) == 1)
        return true;
    if (x->slice_axis < 0 || y->slice_axis < 0 || x->n_inner || y->n_inner || x->slice_size != y->slice_size)
        return false;
    const Nest *both[2] = {x, y};
    for (int s = 0; s < 2; s++)
        for (int at = 0; at < both[s]->k->n_access; at++) {
            const Access *ac = &both[s]->k->access[at];
            if (p->root[ac->buf] != root)
                continue;
            if (ac->rank < 1 || ac->dim[0].coef[both[s]->slice_axis] != 1 || ac->dim[0].offset || ac->dim[0].table)
                return false;
        }
    return true;
}

/* Can kernel j join stage `stage` of kind `kind` now? */
static bool ready(const Plan *p, int j, int32_t stage)
{
    for (int i = 0; i < j; i++) {
        if (p->stage_of[i] >= 0 && p->stage_of[i] < stage)
            continue;
        if (!depends(p, i, j))
            continue;
        if (p->stage_of[i] < 0)
            return false;
        /* in the same stage: every buffer they share must stay within the slice */
        const Kernel *y = &p->l->kernels.at[j];
        for (int a = 0; a < y->n_access; a++) {
            BufId root = p->root[y->access[a].buf];
            int before = plan_touches(p, i, root);
            if (((before & WRITES) || (before && kernel_writes(y, (AccessId)a))) && !same_slice_only(p, i, j, root))
                return false;
        }
    }
    return true;
}

/* May kernel j share a stage with kernel k as far as their times are to be told apart? */
static bool together(const Plan *p, const Kernel *k, int j)
{
    const Kernel *other = &p->l->kernels.at[j];
    bool strips = kernel_share_strips(k, other);
    return p->in->apart == APART_NOTHING || (k->layer == other->layer && (p->in->apart == APART_LAYERS || strips));
}

/* Bytes of constants and state that a nest reads. */
static double weight_bytes(const Plan *p, const Nest *n)
{
    double bytes = 0;
    for (AccessId at = 0; at < n->k->n_access; at++) {
        const Buffer *b = &p->l->buffers.at[n->k->access[at].buf];
        if (b->kind == BUF_CONST || b->kind == BUF_STATE)
            bytes += (double)(buffer_elements(b) * (int64_t)dtype_size(b->dtype));
    }
    return bytes;
}

/* Every slice of samples reads all weights of its stage: they must stay in the outer cache from slice to slice, or the layers run
 * one by one. Strips of one convolution stay together. */
static bool weights_fit(const Plan *p, int j, const Stage *s)
{
    if (!p->in->target->weights || kernel_share_strips(s->nests[s->n_nests - 1]->k, p->nest[j]->k))
        return true;
    double bytes = weight_bytes(p, p->nest[j]);
    for (int i = 0; i < s->n_nests; i++)
        bytes += weight_bytes(p, s->nests[i]);
    return bytes <= (double)p->in->target->weights;
}

static bool joins(const Plan *p, int j, const Stage *s, KernelKind kind)
{
    if (p->kind[j] != kind || (s->n_nests > 0 && !together(p, s->nests[0]->k, j)))
        return false;
    if (s->n_nests == 0)
        return true;
    if (p->nest[j]->group || s->nests[0]->group)
        return false;
    if (kind == ON_SAMPLES)
        return weights_fit(p, j, s);
    return nest_slices(p->nest[j]) == s->slices && nest_passes(p->nest[j]) == nest_passes(s->nests[0]);
}

static void add_to_stage(Plan *p, Stage *s, int32_t index, int j)
{
    const Kernel *k = &p->l->kernels.at[j];
    s->nests = arena_grow(p->a, s->nests, sizeof *s->nests * (size_t)s->n_nests, sizeof *s->nests * (size_t)(s->n_nests + 1));
    s->nests[s->n_nests++] = p->nest[j];
    int32_t slices = nest_slices(p->nest[j]);
    if (slices > s->slices)
        s->slices = slices;
    s->macs += k->macs;
    if (k->layer >= 0) {
        if (s->first_layer < 0 || k->layer < s->first_layer)
            s->first_layer = k->layer;
        if (k->layer > s->last_layer)
            s->last_layer = k->layer;
    }
    p->stage_of[j] = index;
    p->order[p->n_order++] = j;
}

/* Kernels of that kind are placed as they stand in the list: what comes later would keep values alive. */
static bool in_order(const Plan *p, KernelKind kind) { return p->in->target->weights && kind == ON_SAMPLES; }

/* Is there one to start a stage with? */
static bool any_ready(const Plan *p, KernelKind kind, int32_t stage)
{
    for (uint32_t j = 0; j < p->l->kernels.len; j++) {
        if (p->stage_of[j] >= 0 || p->kind[j] != kind)
            continue;
        if (ready(p, (int)j, stage))
            return true;
        if (in_order(p, kind))
            return false;
    }
    return false;
}

/* A copy of weights that waited for what it is used on (choose_*.c), or their transform for strips that run in slices of samples: the
 * kernels on samples that need it share a stage with those before them when it is there first. */
static bool copy_is_due(const Plan *p, int32_t stage)
{
    for (uint32_t j = 0; j < p->l->kernels.len; j++) {
        const Kernel *k = &p->l->kernels.at[j];
        bool copies = k->part == WINOGRAD_NONE ? k->after != 0 : k->part == WINOGRAD_WEIGHTS && p->in->target->deep;
        if (p->stage_of[j] < 0 && p->kind[j] == ON_OUTPUTS && copies && ready(p, (int)j, stage))
            return true;
    }
    return false;
}

static void make_stages(Plan *p)
{
    uint32_t left = p->l->kernels.len;
    while (left) {
        int32_t index = (int32_t)p->stages.len;
        Stage s = {.first_layer = -1, .last_layer = -1, .slices = 1};
        KernelKind kind = !copy_is_due(p, index) && any_ready(p, ON_SAMPLES, index) ? ON_SAMPLES : ON_OUTPUTS;
        for (uint32_t j = 0; j < p->l->kernels.len; j++) {
            if (p->stage_of[j] >= 0 || p->kind[j] != kind)
                continue;
            if (joins(p, (int)j, &s, kind) && ready(p, (int)j, index))
                add_to_stage(p, &s, index, (int)j);
            else if (in_order(p, kind))
                break;
        }
        if (!s.n_nests)
            BUG("no kernel is ready: the list is not in order");
        left -= (uint32_t)s.n_nests;
        if (kind == ON_SAMPLES)
            s.samples_per_slice = s.nests[0]->group ? s.nests[0]->group : (int32_t)p->in->target->samples;
        s.name = s.n_nests == 1 ? s.nests[0]->k->name : arena_printf(p->a, "%s .. %s", s.nests[0]->k->name, s.nests[s.n_nests - 1]->k->name);
        vec_push(p->a, &p->stages, s);
        vec_push(p->a, &p->stage_kind, (int8_t)kind);
    }
}

Function *plan(Arena *a, const char *name, const KernelList *l, const PlanInput *in)
{
    Function *f = NEW(a, Function);
    Plan p = {.a = a, .l = l, .in = in, .f = f};
    f->name = name;
    f->kernels = l;
    f->batch = (int32_t)l->graph->batch;
    p.kind = NEWN(a, KernelKind, l->kernels.len);
    p.stage_of = NEWN(a, int32_t, l->kernels.len);
    p.nest = NEWN(a, Nest *, l->kernels.len);
    p.order = NEWN(a, int32_t, l->kernels.len);
    memset(p.stage_of, -1, sizeof *p.stage_of * l->kernels.len);
    schedule_all(&p);
    find_touches(&p);
    make_stages(&p);
    f->stages = p.stages.at;
    f->n_stages = (int32_t)p.stages.len;
    plan_place_all(&p);
    return f;
}

bool plan_keeps_strips(const Function *f)
{
    int32_t run = 0, *run_of = NEWN(f->kernels->arena, int32_t, f->kernels->buffers.len);
    for (int s = 0; s < f->n_stages; s++)
        for (int i = 0; i < f->stages[s].n_nests; i++) {
            const Nest *n = f->stages[s].nests[i];
            run += i == 0 || !nest_passes_with(f->stages[s].nests[i - 1], n);
            for (AccessId at = 0; at < n->k->n_access && n->samples && nest_passes(n) > 1; at++) {
                BufId b = buffer_root(f->kernels, n->k->access[at].buf);
                if (!f->kernels->buffers.at[b].strip_elements || f->place[b].area != AREA_SCRATCH)
                    continue;
                if (run_of[b] && run_of[b] != run)
                    return false;
                run_of[b] = run;
            }
        }
    return true;
}
