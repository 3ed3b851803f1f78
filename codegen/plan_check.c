/* Stages and addresses as text, and what must hold of them.
 * Places are held against the lifetimes that they were made for, and stages against the order in which slices and passes run: no bytes are
 * written that a later reader still needs. */
#include "codegen/plan_impl.h"

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
        if (a->offset % PLAN_ALIGN || a->offset + a->bytes > (a->area == AREA_SCRATCH ? f->scratch_bytes : f->work_bytes)) {
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
