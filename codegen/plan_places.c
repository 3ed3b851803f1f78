/* Addresses.
 * In: kernels in stages, in order of execution. Out: a place for every buffer that some kernel touches.
 *
 * A per-sample value that is made and read in one stage lives in the thread's scratch, one slice of it; others in `work`. Two buffers may
 * share bytes when their lifetimes, counted in kernels (in whole stages where slices run in any order), do not meet: first fit, largest
 * first. */
#include "codegen/plan_impl.h"

#include <stdlib.h>

static int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

static int64_t storage_bytes(const Plan *p, BufId b, bool one_slice)
{
    const Buffer *x = &p->l->buffers.at[b];
    int64_t n = buffer_elements(x);
    if (one_slice && x->strip_elements > 0)
        n = x->strip_elements;
    else if (one_slice)
        n = n / round_up(x->shape.dim[0], x->layout.block_dim == 0 ? x->layout.lanes : 1) * p->in->target->samples;
    return round_up(n * (int64_t)dtype_size(x->dtype), PLAN_ALIGN) + PLAN_ALIGN;   /* a vector may read past the last element */
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
        if (!plan_touches(p, j, root))
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

void plan_place_all(Plan *p)
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
