/* Kernels become launches, and buffers get addresses.
 * In: a kernel list in an order that computes every value before it is read. Out: a Function with a GpuPlan.
 * A small function (small.c) takes all its kernels on samples into launches of slices. Of the others, all that are ready run
 * next: products of matrices and large kernels alone, small ones side by side in one launch. Launches follow each other, so two
 * buffers may share bytes when their lifetimes, counted in launches, do not meet. */
#include "codegen/gpu/plan.h"
#include "codegen/gpu/code.h"
#include "codegen/choose.h"

#include <ctype.h>
#include <string.h>

enum { ALIGN = 64 };

static const GpuTarget targets[] = {
    {.sm = 80, .multiprocessors = 108, .shared_bytes = 163 * 1024, .macs = {[PRECISION_TF32] = 512, [PRECISION_BF16] = 1024}},
    {.sm = 90, .multiprocessors = 132, .shared_bytes = 227 * 1024, .macs = {[PRECISION_TF32] = 1024, [PRECISION_BF16] = 2048}},
    {.sm = 100, .multiprocessors = 148, .shared_bytes = 227 * 1024, .macs = {[PRECISION_TF32] = 2048, [PRECISION_BF16] = 4096}},
};

const GpuTarget *gpu_target(int sm)
{
    const GpuTarget *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        if (targets[i].sm <= sm)
            best = &targets[i];
    return best;
}

void gpu_options(CompileOptions *o, const GpuTarget *t)
{
    o->plan = gpu_plan;
    o->plan_ctx = t;
}

/* ---- launches ---- */
/* "step14_conv", "step9_conv_and_linear"; a launch of slices, which no two layers share, names them: "infer0_0_conv____4_linear". */
static const char *entry_name(Arena *a, const KernelList *l, const char *function, uint32_t i, const GpuLaunch *x)
{
    const char *kernel = x->name;
    if (x->how != GPU_SLICES) {
        const char *last = cu_kernel_name(a, l, x->body[x->n_bodies - 1].k);
        kernel = cu_kernel_name(a, l, x->body[0].k);
        kernel = strcmp(kernel, last) ? arena_printf(a, "%s_and_%s", kernel, last) : kernel;
    }
    char *s = arena_printf(a, "%s%u_%s", function, i, kernel);
    for (char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '_';
    return s;
}

/* Kernels that write nothing (an extent is 0) are not launched. */
static bool is_empty(const Kernel *k)
{
    for (int o = 0; o < k->n_out; o++)
        if (axes_points(k, out_axes(k, o)) > 0)
            return false;
    return true;
}

/* ---- what must wait for what ---- */
typedef Vec(uint32_t) Numbers;

typedef struct {
    Arena *a;
    const char *name;
    KernelList *l;
    GpuPlan *p;
    int64_t samples;        /* of a slice; 0: no slices */
    Numbers *waits_for;     /* by kernel: earlier ones that are not empty */
    bool *waited_for;       /* by kernel: some later one waits for it */
    int32_t *launch_of;     /* by kernel; -1: not yet */
    bool *can_wait;         /* by kernel: until nothing else is left */
    GpuBody *late; int n_late;   /* sums of split products that nothing waits for */
} Planner;

/* What a kernel's accesses lie in, by their numbers. */
typedef struct { BufId root; bool written; } Touch;

static const Touch *touched_by(Arena *a, const KernelList *l, const Kernel *k)
{
    Touch *t = NEWN(a, Touch, k->n_access);
    for (int at = 0; at < k->n_access; at++)
        t[at] = (Touch){buffer_root(l, k->access[at].buf), kernel_writes(k, (AccessId)at)};
    return t;
}

/* One of them writes what the other one reads or writes. */
static bool touch_same(const Touch *x, int n_x, const Touch *y, int n_y)
{
    for (int i = 0; i < n_x; i++)
        for (int j = 0; j < n_y; j++)
            if (x[i].root == y[j].root && (x[i].written || y[j].written))
                return true;
    return false;
}

/* It makes what `later` waits for. */
static bool comes_first(const KernelList *l, const Kernel *earlier, const Kernel *later)
{
    for (int o = 0; later->after && o < earlier->n_out; o++)
        if (buffer_root(l, earlier->access[earlier->out[o].at].buf) == buffer_root(l, later->after))
            return true;
    return false;
}

static void find_waits(Planner *p)
{
    uint32_t n = p->l->kernels.len;
    const Kernel *k = p->l->kernels.at;
    p->waits_for = NEWN(p->a, Numbers, n + 1);
    p->waited_for = NEWN(p->a, bool, n + 1);
    const Touch **touched = NEWN(p->a, const Touch *, n + 1);
    for (uint32_t i = 0; i < n; i++)
        touched[i] = touched_by(p->a, p->l, &k[i]);
    for (uint32_t i = 0; i < n; i++) {
        bool empty = is_empty(&k[i]);
        for (uint32_t j = i + 1; j < n; j++) {
            if (!comes_first(p->l, &k[i], &k[j]) && !touch_same(touched[i], k[i].n_access, touched[j], k[j].n_access))
                continue;
            p->waited_for[i] = true;
            if (!empty)
                vec_push(p->a, &p->waits_for[j], i);
        }
    }
}

/* All that kernel j waits for is in launches before `launch` (or in it, when bodies run one after the other). */
static bool is_ready(const Planner *p, uint32_t j, int32_t launch, bool may_share)
{
    for (uint32_t i = 0; i < p->waits_for[j].len; i++) {
        int32_t at = p->launch_of[p->waits_for[j].at[i]];
        if (at < 0 || at > launch || (at == launch && !may_share))
            return false;
    }
    return true;
}

/* ---- launches ---- */
static GpuLaunch *new_launch(Planner *p, GpuArrangement how)
{
    GpuLaunch *x = &p->p->launches[p->p->n_launches++];
    *x = (GpuLaunch){.how = how, .first_layer = -1, .last_layer = -1};
    return x;
}

static void add_body(Arena *a, GpuLaunch *x, GpuBody b)
{
    LayerId layer = b.k->layer;
    int32_t n = x->n_bodies++;
    if (!(n & (n - 1)))   /* full: 0, 1, 2, 4 ... */
        x->body = arena_grow(a, x->body, sizeof b * (size_t)n, sizeof b * (size_t)(n ? 2 * n : 1));
    x->body[n] = b;
    if (layer >= 0 && (x->first_layer < 0 || layer < x->first_layer))
        x->first_layer = layer;
    if (layer > x->last_layer)
        x->last_layer = layer;
}

/* Names, grid and shared memory from the bodies. */
static void finish_launch(const Planner *p, GpuLaunch *x)
{
    const GpuBody *first = &x->body[0], *last = &x->body[x->n_bodies - 1];
    const Contract *c = first->form == GPU_CONTRACT ? first->contract : NULL;
    x->name = c && c->winograd   ? arena_printf(p->a, "%s, %s", first->k->name, c->winograd->form->name)
              : x->n_bodies == 1 ? first->k->name
                                 : arena_printf(p->a, "%s .. %s", first->k->name, last->k->name);
    x->entry = entry_name(p->a, p->l, p->name, (uint32_t)(x - p->p->launches), x);
    x->threads = x->how == GPU_SLICES ? GPU_SLICE_THREADS : first->threads;
    x->grid[1] = x->grid[2] = 1;
    if (x->how == GPU_SLICES) {
        x->samples = (int32_t)p->samples;
        x->grid[0] = (int32_t)((p->l->graph->batch + p->samples - 1) / p->samples);
        x->sample_points = 1;
        x->block_points = x->samples;
        return;
    }
    for (int i = 0; i < x->n_bodies; i++) {
        x->grid[0] += body_blocks(&x->body[i]);
        x->shared_bytes = x->body[i].shared_bytes > x->shared_bytes ? x->body[i].shared_bytes : x->shared_bytes;
    }
    if (x->how == GPU_ALONE) {
        memcpy(x->grid, first->grid, sizeof x->grid);
        x->sample_points = first->sample_points;
        x->block_points = first->block_points;
    }
}

/* All kernels of samples that can run now, in one launch. */
static bool add_slices(Planner *p)
{
    GpuLaunch *x = NULL;
    for (uint32_t j = 0; j < p->l->kernels.len; j++) {
        const Kernel *k = &p->l->kernels.at[j];
        int32_t launch = x ? (int32_t)(x - p->p->launches) : p->p->n_launches;
        if (p->launch_of[j] >= 0 || is_empty(k) || !(small_is_sliced(k) || small_is_repeated(p->l, k)) || !is_ready(p, j, launch, true))
            continue;
        x = x ? x : new_launch(p, GPU_SLICES);
        p->launch_of[j] = launch;
        add_body(p->a, x, body_in_slice(p->a, p->l, k, p->samples));
    }
    if (x)
        finish_launch(p, x);
    return x != NULL;
}

static void add_alone(Planner *p, GpuBody b)
{
    GpuLaunch *x = new_launch(p, GPU_ALONE);
    add_body(p->a, x, b);
    finish_launch(p, x);
}

/* Blocks that a kernel may have and still share a launch with others; buffers that such a launch may have; points of a kernel that
 * waits for the end; partial sums that wait for it; sizes of blocks; operations of a product that shares a launch. */
enum { FEW_BLOCKS = 1024, MOST_BUFFERS = 200, FEW_POINTS = 1 << 16, MOST_LATE_BYTES = 4 << 20, SIZES = 4 };
#define FEW_FLOPS 6e7

static int buffers_of(const GpuLaunch *x)
{
    int n = 0;
    for (int i = 0; i < x->n_bodies; i++)
        n += x->body[i].k->n_access;
    return n;
}

static void finish_beside(const Planner *p, GpuLaunch *x)
{
    if (!x)
        return;
    if (x->n_bodies == 1) {
        x->how = GPU_ALONE;
        x->body[0].flat = false;
    }
    finish_launch(p, x);
}

/* It may share a launch with others whose blocks have as many threads. */
static bool shares(const Planner *p, const GpuBody *b)
{
    bool light = b->form != GPU_CONTRACT || (!b->contract->winograd && 2 * b->k->macs * (double)p->l->graph->batch <= FEW_FLOPS);
    return light && b->form != GPU_TAPS && body_blocks(b) <= FEW_BLOCKS;
}

static bool is_small(const Kernel *k) { return axes_points(k, (1u << k->n_axes) - 1) <= FEW_POINTS; }

/* Kernels outside of slices that can run now; when `last` also those that can wait. */
static uint32_t find_ready(const Planner *p, bool last, uint32_t *now)
{
    uint32_t n = 0;
    for (uint32_t j = 0; j < p->l->kernels.len; j++)
        if (p->launch_of[j] < 0 && !is_empty(&p->l->kernels.at[j]) && is_ready(p, j, p->p->n_launches, false) && (last || !p->can_wait[j]) &&
            !(p->samples && (small_is_sliced(&p->l->kernels.at[j]) || small_is_repeated(p->l, &p->l->kernels.at[j]))))
            now[n++] = j;
    return n;
}

/* The launch that bodies with so many threads share gets one more. */
static void add_beside(Planner *p, GpuLaunch *beside[SIZES], GpuBody b)
{
    if (b.form != GPU_CONTRACT)
        b.threads = GPU_THREADS;
    GpuLaunch **to = &beside[b.threads >= GPU_THREADS ? 3 : b.threads >= GPU_THREADS / 2 ? 2 : b.threads >= GPU_THREADS / 4 ? 1 : 0];
    if (*to && buffers_of(*to) + b.k->n_access > MOST_BUFFERS) {
        finish_beside(p, *to);
        *to = NULL;
    }
    if (!*to)
        *to = new_launch(p, GPU_BESIDE);
    b.flat = b.form == GPU_CONTRACT;
    add_body(p->a, *to, b);
}

/* A product cut along its depth: sums of the slices, then their sum, which may come last when nothing waits for it. */
static void add_product(Planner *p, uint32_t j, GpuBody b, GpuLaunch *beside[SIZES])
{
    Contract *c = (Contract *)b.contract;
    int64_t sums = c->row.extent * c->col.extent * c->both.extent * c->slices;
    if (c->slices > 1)
        c->partial = kernels_add_buffer(p->l, &(Buffer){.name = arena_printf(p->a, "%s.parts", b.k->name), .kind = BUF_WORK, .dtype = DT_F32,
                                                        .shape = {.rank = 1, .dim = {sums}}});
    if (shares(p, &b))
        add_beside(p, beside, b);
    else
        add_alone(p, b);
    if (c->slices == 1)
        return;
    b = body_parts(p->l, b.k, c, p->p->target);
    if (sums * (int64_t)sizeof(float) <= MOST_LATE_BYTES && b.grid[0] <= FEW_BLOCKS && !p->waited_for[j])
        p->late[p->n_late++] = b;
    else
        add_alone(p, b);
}

/* A launch of its own for so little would be for nothing as long as larger kernels can run. */
static bool is_lone(const Planner *p, const uint32_t *now, uint32_t n)
{
    bool large = false;
    for (uint32_t i = 0; i < n; i++) {
        GpuBody b = body_of(p->a, p->l, &p->l->kernels.at[now[i]], p->p);
        bool small = shares(p, &b) && is_small(b.k);
        if (shares(p, &b) && b.threads == GPU_THREADS && !small)
            return false;
        large = large || !small;
    }
    return large;
}

/* All other kernels that can run now: large ones alone, small ones side by side; the smallest wait for company. */
static void add_others(Planner *p)
{
    int32_t launch = p->p->n_launches;
    GpuLaunch *beside[SIZES] = {NULL};
    uint32_t *now = NEWN(p->a, uint32_t, p->l->kernels.len + 1), n = find_ready(p, false, now);
    const bool last = n == 0;
    const int earlier = p->n_late;
    n = n ? n : find_ready(p, true, now);
    if (!n)
        BUG("no kernel is ready: the list is not in order");
    bool lone = is_lone(p, now, n);
    for (uint32_t i = 0; i < n; i++) {
        GpuBody b = body_of(p->a, p->l, &p->l->kernels.at[now[i]], p->p);
        if (lone && shares(p, &b) && !body_is_product(&b) && is_small(b.k))
            now[i] = UINT32_MAX;
        else if (body_is_product(&b))
            add_product(p, now[i], b, beside);
        else if (shares(p, &b))
            add_beside(p, beside, b);
        else
            add_alone(p, b);
    }
    for (int i = 0; last && i < earlier; i++)   /* not those whose products run now */
        add_beside(p, beside, p->late[i]);
    if (last) {
        p->n_late -= earlier;
        memmove(p->late, p->late + earlier, sizeof *p->late * (size_t)p->n_late);
    }
    for (int i = 0; i < SIZES; i++)
        finish_beside(p, beside[i]);
    for (uint32_t i = 0; i < n; i++)
        if (now[i] != UINT32_MAX)
            p->launch_of[now[i]] = launch;
}

static void make_launches(Planner *p)
{
    uint32_t left = 0, n = p->l->kernels.len;
    p->p->launches = NEWN(p->a, GpuLaunch, 3 * n + 1);
    p->launch_of = NEWN(p->a, int32_t, n + 1);
    memset(p->launch_of, -1, sizeof *p->launch_of * n);
    p->can_wait = NEWN(p->a, bool, n + 1);
    p->late = NEWN(p->a, GpuBody, n + 1);
    find_waits(p);
    for (uint32_t j = 0; j < n; j++)
        p->can_wait[j] = is_small(&p->l->kernels.at[j]) && !p->waited_for[j];   /* a launch for nothing */
    do {
        if (!p->samples || !add_slices(p))
            add_others(p);
        left = 0;
        for (uint32_t j = 0; j < n; j++)
            left += p->launch_of[j] < 0 && !is_empty(&p->l->kernels.at[j]);
    } while (left);
    GpuLaunch *rest[SIZES] = {NULL};
    while (p->n_late)
        add_beside(p, rest, p->late[--p->n_late]);
    for (int i = 0; i < SIZES; i++)
        finish_beside(p, rest[i]);
}

/* ---- addresses ---- */

/* First and last use of a root buffer, in launches and in bodies; first < 0: none. */
typedef struct { int32_t first, last, first_body, last_body; } Use;

static void note_use(Use *u, int32_t launch, int32_t body)
{
    if (u->first < 0)
        *u = (Use){launch, launch, body, body};
    u->last = launch;
    u->last_body = body;
}

/* By buffer. */
static Use *find_uses(Arena *a, const KernelList *l, const GpuPlan *p)
{
    Use *uses = NEWN(a, Use, l->buffers.len);
    int32_t body = 0;
    for (uint32_t b = 0; b < l->buffers.len; b++)
        uses[b].first = -1;
    for (int i = 0; i < p->n_launches; i++)
        for (int j = 0; j < p->launches[i].n_bodies; j++, body++) {
            const GpuBody *x = &p->launches[i].body[j];
            if (x->form != GPU_MAP && x->contract)
                note_use(&uses[x->contract->partial], i, body);
            for (int at = 0; at < x->k->n_access; at++)
                if (body_touches(x, (AccessId)at))
                    note_use(&uses[buffer_root(l, x->k->access[at].buf)], i, body);
        }
    return uses;
}

/* Counted in bodies inside a launch of slices, where the buffer is in shared memory when it is used nowhere else; in whole launches for
 * all others. */
static Life life_of(const KernelList *l, const GpuPlan *p, BufId root, const Use *u)
{
    const Buffer *b = &l->buffers.at[root];
    Life f = {.buf = root, .area = AREA_WORK, .first = u->first, .last = u->last, .stage = -1};
    int64_t n = buffer_elements(b);
    if (u->first == u->last && p->launches[u->first].how == GPU_SLICES && b->kind == BUF_WORK) {
        f.area = AREA_SCRATCH;
        f.first = u->first_body;
        f.last = u->last_body;
        n = b->batched ? n / b->shape.dim[0] * p->samples : n;
    }
    f.bytes = (n * (int64_t)dtype_size(b->dtype) + ALIGN - 1) / ALIGN * ALIGN;
    return f;
}

static void place_buffers(Arena *a, const KernelList *l, const PlanInput *in, Function *f)
{
    Life *life = NEWN(a, Life, l->buffers.len);
    const Use *uses = find_uses(a, l, f->gpu);
    int n = 0;
    f->place = NEWN(a, Place, l->buffers.len);
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        if (uses[b].first < 0)
            continue;
        if (l->buffers.at[b].kind == BUF_WORK)
            life[n++] = life_of(l, f->gpu, (BufId)b, &uses[b]);
        else
            f->place[b] = plan_fixed_place(l, in, (BufId)b);
    }
    plan_place_lives(f, life, n);
    for (uint32_t b = 1; b < l->buffers.len; b++)
        f->place[b] = f->place[buffer_root(l, (BufId)b)];
    for (int i = 0; i < f->gpu->n_launches; i++)
        if (f->gpu->launches[i].how == GPU_SLICES)
            f->gpu->launches[i].shared_bytes = (int32_t)f->scratch_bytes;
}

Function *gpu_plan(Arena *a, const char *name, KernelList *l, const PlanInput *in, const void *ctx)
{
    Function *f = NEW(a, Function);
    f->name = name;
    f->kernels = l;
    f->batch = (int32_t)l->graph->batch;
    f->gpu = NEW(a, GpuPlan);
    f->gpu->target = ctx;
    f->gpu->precision = in->precision;
    Planner p = {.a = a, .name = name, .l = l, .p = f->gpu, .samples = small_slices(a, l, ctx)};
    f->gpu->samples = p.samples;
    /* Values of slices stay in shared memory: nothing is gained there. */
    f->gpu->channels_last = !p.samples && in->precision != PRECISION_F32;
    if (f->gpu->channels_last && in->precision == PRECISION_BF16)
        precision_narrow(l, &(NestTarget){0}, false);
    if (!p.samples)
        joins_find(a, l);
    if (f->gpu->channels_last)
        layouts_channels_last(a, l, in->precision);
    else if (!p.samples && in->winograd_error > 0)
        gpu_winograd(a, l, f->gpu, in->winograd_error);
    if (!p.samples)
        tile_sums_find(a, l, f->gpu);
    if (f->gpu->channels_last)
        layouts_split(l);
    else if (!p.samples)
        sums_split(l, f->gpu);
    make_launches(&p);
    place_buffers(a, l, in, f);
    lanes_find(a, f);
    const char *why = NULL;
    if (!plan_verify(f, &why))
        BUG("plan of %s: %s", name, why);
    f->scratch_bytes = 0;   /* shared memory: the launches say how much */
    return f;
}
