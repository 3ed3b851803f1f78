/* Stages and addresses.
 * In: kernels with layouts, in an order that computes every value before it is read. Out: a Function.
 *
 * Stages. A kernel is of one of two kinds: it works on samples (every output depends on the batch or slice axis), or on
 * outputs (optimizers, sums over slices, Linear's weight gradient, anything at batch 1). Kernels on samples whose inputs
 * are per sample run back to back on one slice of samples: a whole forward and backward pass is one stage. The list is cut
 * greedily: take all ready kernels of one kind, then all of the other.
 *
 * Addresses. A per-sample value that is made and read in one stage lives in the thread's scratch, one slice of it; others
 * in `work`. Two buffers may share bytes when their lifetimes, counted in kernels (in whole stages where slices run in any
 * order), do not meet: first fit, largest first. */
#include "codegen/plan.h"
#include "codegen/slices.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

typedef enum { ON_SAMPLES, ON_OUTPUTS } KernelKind;
typedef struct {
    Arena *a;
    const KernelList *l;
    const PlanInput *in;
    Function *f;
    KernelKind *kind;           /* by kernel */
    int32_t *stage_of;          /* by kernel; -1 not placed */
    Nest **nest;                /* by kernel */
    BufId *root;                /* by buffer: whose storage it is */
    uint64_t *reads, *writes;   /* by kernel: bits of the roots it touches, `words` of them */
    size_t words;
    int32_t *order;             /* kernels in order of execution */
    int32_t n_order;
    Vec(Stage) stages;
    Vec(int8_t) stage_kind;
} Plan;

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
typedef enum { NO_TOUCH = 0, READS = 1, WRITES = 2 } Touch;

static bool bit(const uint64_t *set, BufId b) { return set[b / 64] >> (b % 64) & 1; }

static int touches(const Plan *p, int kernel, BufId root)
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
            int before = touches(p, i, root);
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

/* ---- lifetimes ---- */
static int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

static int64_t storage_bytes(const Plan *p, BufId b, bool one_slice)
{
    const Buffer *x = &p->l->buffers.at[b];
    int64_t n = buffer_elements(x);
    if (one_slice && x->strip_elements > 0)
        n = x->strip_elements;
    else if (one_slice)
        n = n / round_up(x->shape.dim[0], x->layout.block_dim == 0 ? x->layout.lanes : 1) * p->in->target->samples;
    return round_up(n * (int64_t)dtype_size(x->dtype), ALIGN) + ALIGN;   /* a vector may read past the last element */
}

/* The i-th kernel in order of execution takes its passes with the one before. */
static bool passes_with_last(const Plan *p, int32_t i)
{
    int32_t j = p->order[i], last = i > 0 ? p->order[i - 1] : j;
    return i > 0 && p->stage_of[j] == p->stage_of[last] && nest_passes_with(p->nest[last], p->nest[j]);
}

/* The i-th runs again after the one before: for the next slice, or the next pass. What later ones write it may still read. */
static bool alternates_with_last(const Plan *p, int32_t i, Area area)
{
    int32_t stage = p->stage_of[p->order[i]];
    bool slices = area == AREA_WORK && p->stages.at[stage].slices > 1 && i > 0 && p->stage_of[p->order[i - 1]] == stage;
    return slices || passes_with_last(p, i);
}

/* First and last use in order of execution, widened to all that alternate with them. */
static Life lifetime(const Plan *p, BufId root)
{
    Life f = {.buf = root, .first = -1, .stage = -1};
    bool one_stage = true;
    for (int32_t i = 0; i < p->n_order; i++) {
        int32_t j = p->order[i], stage = p->stage_of[j];
        if (!touches(p, j, root))
            continue;
        if (f.first < 0) {
            f.first = i;
            f.stage = stage;
        }
        one_stage = one_stage && stage == f.stage;
        f.last = i;
    }
    if (f.first < 0)
        return f;
    const Buffer *b = &p->l->buffers.at[root];
    bool per_sample = p->stage_kind.at[f.stage] == ON_SAMPLES && b->batched;
    bool per_strip = b->strip_elements > 0 && (p->stages.at[f.stage].slices > 1 || nest_passes(p->nest[p->order[f.first]]) > 1);
    f.area = one_stage && (per_sample || per_strip) ? AREA_SCRATCH : AREA_WORK;
    f.bytes = storage_bytes(p, root, f.area == AREA_SCRATCH);
    bool in_one_pass = f.area == AREA_SCRATCH && per_strip;
    while (!in_one_pass && alternates_with_last(p, f.first, f.area))
        f.first--;
    while (!in_one_pass && f.last + 1 < p->n_order && alternates_with_last(p, f.last + 1, f.area))
        f.last++;
    return f;
}

/* Lowest offset where `f` meets no placed buffer of its area that lives at the same time. */
static int64_t first_fit(const Life *placed, int n, const Life *f)
{
    int64_t at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < n; i++) {
            const Life *o = &placed[i];
            bool together = o->area == f->area && o->first <= f->last && f->first <= o->last;
            if (together && at < o->offset + o->bytes && o->offset < at + f->bytes) {
                at = o->offset + o->bytes;
                moved = true;
            }
        }
    }
    return at;
}

static int by_size(const void *x, const void *y)
{
    const Life *a = x, *b = y;
    return a->bytes != b->bytes ? (a->bytes < b->bytes ? 1 : -1) : a->buf - b->buf;
}

void plan_place_lives(Function *f, Life *life, int n)
{
    qsort(life, (size_t)n, sizeof *life, by_size);
    for (int i = 0; i < n; i++) {
        life[i].offset = first_fit(life, i, &life[i]);
        f->place[life[i].buf] = (Place){life[i].area, life[i].offset};
        int64_t end = life[i].offset + life[i].bytes, *total = life[i].area == AREA_SCRATCH ? &f->scratch_bytes : &f->work_bytes;
        if (end > *total)
            *total = end;
    }
    f->lives = life;
    f->n_lives = n;
}

static void place_work(Plan *p)
{
    Life *life = NEWN(p->a, Life, p->l->buffers.len);
    int n = 0;
    for (uint32_t b = 1; b < p->l->buffers.len; b++) {
        if (p->l->buffers.at[b].kind != BUF_WORK || p->root[b] != (BufId)b)
            continue;
        Life f = lifetime(p, (BufId)b);
        if (f.first >= 0)
            life[n++] = f;
    }
    plan_place_lives(p->f, life, n);
}

Place plan_fixed_place(const KernelList *l, const PlanInput *in, BufId root)
{
    const Buffer *b = &l->buffers.at[root];
    switch (b->kind) {
    case BUF_INPUT: return (Place){AREA_IN, 0};
    case BUF_LABELS: return (Place){AREA_LABELS, 0};
    case BUF_OUTPUT: return (Place){AREA_OUT, 0};
    case BUF_SCALAR: return (Place){AREA_SCALARS, 4 * (int64_t)b->index};
    case BUF_RESULT: return (Place){AREA_RESULTS, 4 * (int64_t)b->index};
    case BUF_STATE: return (Place){AREA_STATE, in->state_offset(in->ctx, b->name)};
    case BUF_CONST: return (Place){AREA_CONST, in->const_offset(in->ctx, l, root)};
    default: return (Place){AREA_NONE, 0};
    }
}

/* Buffers that some kernel touches, by root: others get no room. */
static bool *used_buffers(const Plan *p)
{
    bool *used = NEWN(p->a, bool, p->l->buffers.len);
    for (uint32_t k = 0; k < p->l->kernels.len; k++)
        for (int i = 0; i < p->l->kernels.at[k].n_access; i++)
            used[p->root[p->l->kernels.at[k].access[i].buf]] = true;
    return used;
}

static void place_all(Plan *p)
{
    const bool *used = used_buffers(p);
    p->f->place = NEWN(p->a, Place, p->l->buffers.len);
    for (uint32_t b = 1; b < p->l->buffers.len; b++)
        if (used[b] && p->l->buffers.at[b].kind != BUF_WORK)
            p->f->place[b] = plan_fixed_place(p->l, p->in, (BufId)b);
    place_work(p);
    for (uint32_t b = 1; b < p->l->buffers.len; b++)
        p->f->place[b] = p->f->place[p->root[b]];
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
    place_all(&p);
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

/* ---- text and checks ---- */
static const char *area_text(Area a)
{
    static const char *const text[] = {"none", "state", "work", "scratch", "consts", "in", "labels", "out", "scalars", "results"};
    return text[a];
}

void stages_print(const Function *f, FILE *to)
{
    for (int i = 0; i < f->n_stages; i++) {
        const Stage *s = &f->stages[i];
        fprintf(to, "%s.stage%d: %d slice%s", f->name, i, s->slices, s->slices == 1 ? "" : "s");
        if (!s->nests[0]->samples && nest_passes(s->nests[0]) > 1)
            fprintf(to, " in %d passes", nest_passes(s->nests[0]));
        if (s->samples_per_slice)
            fprintf(to, " of %d samples", s->samples_per_slice);
        fprintf(to, "\n");
        for (int n = 0; n < s->n_nests; n++) {
            kernel_print(f->kernels, s->nests[n]->k, to);
            nest_print(f->kernels, s->nests[n], to);
        }
    }
}

void plan_print(const Function *f, FILE *to)
{
    fprintf(to, "%s: work %lld bytes, scratch %lld bytes per thread\n", f->name, (long long)f->work_bytes, (long long)f->scratch_bytes);
    for (uint32_t b = 1; b < f->kernels->buffers.len; b++) {
        const Buffer *x = &f->kernels->buffers.at[b];
        if (f->place[b].area == AREA_NONE)
            continue;
        fprintf(to, "  %-24s %-8s +%-10lld", x->name, area_text(f->place[b].area), (long long)f->place[b].offset);
        for (int d = 0; d < x->shape.rank; d++)
            fprintf(to, "%s%lld%s", d ? ", " : "[", (long long)x->shape.dim[d], d + 1 == x->shape.rank ? "]" : "");
        if (x->layout.block_dim >= 0)
            fprintf(to, " blocks of %d along dim %d", x->layout.lanes, x->layout.block_dim);
        fprintf(to, "\n");
    }
}

static bool share_bytes(const Life *a, const Life *b)
{
    return a->area == b->area && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static bool meet(const Life *a, const Life *b) { return a->first <= b->last && b->first <= a->last && share_bytes(a, b); }

static bool verify_lives(const Function *f, const char **why)
{
    for (int i = 0; i < f->n_lives; i++) {
        const Life *a = &f->lives[i];
        if (a->offset % ALIGN || a->offset + a->bytes > (a->area == AREA_SCRATCH ? f->scratch_bytes : f->work_bytes)) {
            *why = "a buffer is not aligned or reaches past its area";
            return false;
        }
        for (int j = 0; j < i; j++)
            if (meet(a, &f->lives[j])) {
                *why = "two buffers that live at the same time overlap";
                return false;
            }
    }
    return true;
}

/* What of the i-th life the nests touch. */
static Touch touched(const Function *f, Nest *const *nests, int n, int i)
{
    Touch t = NO_TOUCH;
    for (int j = 0; j < n; j++)
        for (AccessId at = 0; at < nests[j]->k->n_access; at++)
            if (buffer_root(f->kernels, nests[j]->k->access[at].buf) == f->lives[i].buf)
                t |= kernel_writes(nests[j]->k, at) ? WRITES : READS;
    return t;
}

/* Nests that alternate share no bytes of `area` that one of them writes, but a strip's own: the next slice or pass would read them. */
static bool keep_apart(const Function *f, Nest *const *nests, int n, Area area)
{
    Touch *t = NEWN(f->kernels->arena, Touch, f->n_lives);
    for (int i = 0; i < f->n_lives; i++) {
        const Life *a = &f->lives[i];
        t[i] = a->area == area ? touched(f, nests, n, i) : NO_TOUCH;
        for (int j = 0; j < i && t[i]; j++) {
            const Life *b = &f->lives[j];
            bool own = area == AREA_SCRATCH && f->kernels->buffers.at[a->buf].strip_elements && f->kernels->buffers.at[b->buf].strip_elements;
            if (t[j] && ((t[i] | t[j]) & WRITES) && !own && share_bytes(a, b))
                return false;
        }
    }
    return true;
}

static bool verify_stage(const Function *f, const Stage *s, const char **why)
{
    bool apart = s->slices == 1 || keep_apart(f, s->nests, s->n_nests, AREA_WORK);
    for (int i = 0, end; i < s->n_nests && apart; i = end) {
        end = nest_run_end(s, i);
        if (nest_passes(s->nests[i]) > 1)
            apart = keep_apart(f, s->nests + i, end - i, AREA_WORK) && keep_apart(f, s->nests + i, end - i, AREA_SCRATCH);
    }
    if (!apart)
        *why = "a slice or a pass writes what the next one reads";
    return apart;
}

/* Two neighbours that are stored together are made together. */
static bool verify_pairs(const Function *f, const Nest *n, const char **why)
{
    for (int o = 0; o < n->k->n_out; o++) {
        int axis = access_pair_axis(f->kernels, n->k, n->k->out[o].at);
        for (int i = 0; i <= n->n_inner && axis >= 0; i++) {
            int32_t size = i ? n->inner_size[i - 1] : n->slice_size;
            if ((i ? n->inner_axis[i - 1] : n->slice_axis) == axis && size % 2 && size < n->k->axis[axis].extent) {
                *why = "a slice or a pass ends inside a pair";
                return false;
            }
        }
    }
    return true;
}

bool plan_verify(const Function *f, const char **why)
{
    for (int i = 0; i < f->n_stages; i++)
        if (!verify_stage(f, &f->stages[i], why))
            return false;
    for (int i = 0; i < f->n_stages; i++)
        for (int j = 0; j < f->stages[i].n_nests; j++)
            if (!verify_pairs(f, f->stages[i].nests[j], why))
                return false;
    return verify_lives(f, why);
}
