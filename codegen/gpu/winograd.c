/* Convolutions by Winograd on GPUs: which of them, by which form, in which tiles.
 * In: kernels in plain layouts, products in float32. Out: each convolution and data gradient for which it pays as one kernel (part
 * WINOGRAD_FUSED) that reads transformed weights U[c][x][k] in place of its weights, and one kernel more for weights that change.
 *
 * A block makes `rows` tiles of m x m outputs for `cols` filters and keeps all a^2 sums of each in registers; V and M are never in
 * device memory (winograd_emit.c). The direct convolution issues r^2 m^2 multiply-adds where this issues a^2, and so much for the
 * transforms: of the inputs once for every `cols` filters, of the outputs once. Both are counted in cycles (contract_tile.c). Products on
 * tensor cores are left alone: they are five times as fast as threads in float32, and rounding to tf32 or bf16 would be amplified. */
#include "codegen/gpu/winograd.h"

#include <math.h>
#include <string.h>

enum { STEPS = 8, LEAST_CHANNELS = 16 };   /* channels of a step; of a slice */
#define COST_COPY 8.0   /* cycles of a thread for a copy of 16 bytes */

/* A block's tiles and filters, a thread's, and the points that a thread has of each. */
typedef struct { int a, tiles, filters, unit_tiles, unit_filters, points; } BlockShape;
static const BlockShape shapes[] = {
    {6, 32, 32, 4, 8, 3}, {6, 16, 64, 4, 8, 3}, {6, 16, 32, 4, 4, 3}, {6, 8, 64, 4, 4, 3}, {6, 16, 16, 4, 4, 3},
    {4, 32, 64, 8, 8, 2}, {4, 32, 32, 4, 8, 2}, {4, 16, 64, 4, 8, 2}, {4, 16, 32, 4, 4, 2}, {4, 8, 32, 4, 4, 1},
};

/* ---- costs ---- */
/* Scalar operations of the transform of one tile's inputs, of its outputs. */
static double input_operations(const WinogradForm *f) { return f->a == 4 ? 32 : 144; }
static double output_operations(const WinogradForm *f) { return f->a == 4 ? 24 : f->m == 2 ? 60 : 110; }

static double points(const WinogradForm *f) { return (double)f->a * f->a; }

static double step_cycles(const BlockShape *s, const WinogradForm *f)
{
    double fmas = points(f) * s->tiles * s->filters * STEPS, inputs = (double)s->tiles * STEPS, copies = points(f) * STEPS * s->filters / 4;
    double reads = fmas / 4 * (1.0 / s->unit_tiles + 1.0 / s->unit_filters);
    double issue = fmas + COST_FLOAT * reads + inputs * (input_operations(f) + points(f) * (COST_INPUT + COST_FLOAT)) + COST_COPY * copies;
    double bytes = 16 * copies + inputs * f->m * f->m * 4 * 1.5;   /* tiles overlap: the rest comes from L1 */
    return fmax(issue / CONTRACT_LANES, bytes / L2_BYTES);
}

static double block_cycles(const BlockShape *s, const WinogradForm *f)
{
    double each = points(f) * (COST_FLOAT + 1) + output_operations(f) + COST_OUTPUT * f->m * f->m;
    return COST_BLOCK + each * s->tiles * s->filters / CONTRACT_LANES;
}

static int32_t threads_of(const BlockShape *s, const WinogradForm *f)
{
    return s->tiles / s->unit_tiles * (s->filters / s->unit_filters) * f->a * f->a / s->points;
}

double winograd_uneven(double warps) { return ceil(warps / 4) * 4 / warps; }

static int64_t tiles_of(const WinogradConv *w, const WinogradForm *f)
{
    return w->batch * ((w->height + f->m - 1) / f->m) * ((w->width + f->m - 1) / f->m);
}

static double cycles(const WinogradConv *w, const BlockShape *s, const WinogradForm *f, int slices, const GpuTarget *t)
{
    double blocks = ceil((double)tiles_of(w, f) / s->tiles) * ceil((double)w->filters / s->filters) * slices;
    double steps = ceil(ceil((double)w->channels / slices) / STEPS);
    double rounds = ceil(blocks / t->multiprocessors), warps = threads_of(s, f) / (double)GPU_WARP * fmin(rounds, 2);
    double of_all = rounds * (steps * step_cycles(s, f) * winograd_uneven(warps) + block_cycles(s, f));
    double sums = (double)w->batch * (double)(w->filters * w->height * w->width);
    return of_all + (slices > 1 ? contract_parts_cycles(sums, slices, t) : 0);
}

/* What weights that change cost: they are transformed beside other work. */
static double weights_cycles(const WinogradConv *w, const WinogradForm *f, const GpuTarget *t)
{
    const double bytes_a_cycle = 14;
    bool known = w->l->buffers.at[w->k->access[w->w].buf].kind == BUF_CONST;
    return known ? 0 : 1000 + 4 * (points(f) + f->r * f->r) * (double)(w->channels * w->filters) / (bytes_a_cycle * t->multiprocessors);
}

/* ---- choosing ---- */
static int32_t shared_bytes(const BlockShape *s, const WinogradForm *f)
{
    int32_t staged = 2 * STEPS * (s->tiles + s->filters + 1), exchanged = s->filters * winograd_pitch(s->tiles, s->unit_tiles);
    return (int32_t)points(f) * (staged > exchanged ? staged : exchanged) * (int32_t)sizeof(float);
}

static void take(WinogradConv *w, Contract *c, GpuWinograd *g, const BlockShape *s, const WinogradForm *f, int slices)
{
    int64_t slice = ((w->channels + slices - 1) / slices + STEPS - 1) / STEPS * STEPS;
    w->form = f;
    w->a = f->a;
    w->m = f->m;
    g->form = f;
    g->down = (int32_t)((w->height + f->m - 1) / f->m);
    g->across = (int32_t)((w->width + f->m - 1) / f->m);
    g->points = s->points;
    g->shared_bytes = shared_bytes(s, f);
    c->rows = s->tiles;
    c->cols = s->filters;
    c->unit_rows = s->unit_tiles;
    c->unit_cols = s->unit_filters;
    c->steps = STEPS;
    c->stages = 2;
    c->threads = threads_of(s, f);
    c->slice_depth = slice;
    c->slices = (int32_t)((w->channels + slice - 1) / slice);
    double inputs = (double)tiles_of(w, f) * (double)w->channels, outputs = (double)tiles_of(w, f) * (double)w->filters;
    g->flops = 2 * (points(f) * inputs * (double)w->filters + input_operations(f) * inputs * ceil((double)w->filters / s->filters) +
                    output_operations(f) * outputs * c->slices);
}

/* The quickest way, if it is quicker than the direct product. */
static bool choose_block(WinogradConv *w, Contract *c, GpuWinograd *g, const GpuTarget *t)
{
    double best = MARGIN * c->cycles;
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(shapes) * WINOGRAD_FORMS; i++) {
        const BlockShape *s = &shapes[i / WINOGRAD_FORMS];
        const WinogradForm *f = &winograd_forms[i % WINOGRAD_FORMS];
        if (f->r != w->r || f->a != s->a || f->error > w->error || shared_bytes(s, f) > t->shared_bytes)
            continue;
        for (int slices = 1; slices == 1 || w->channels / slices >= LEAST_CHANNELS; slices++) {
            double now = cycles(w, s, f, slices, t) + weights_cycles(w, f, t);
            if (now >= best)
                continue;
            best = now;
            take(w, c, g, s, f, slices);
            found = true;
        }
    }
    c->cycles = best;
    return found;
}

/* ---- kernels ---- */
static bool is_output_axis(const Contract *c, int axis)
{
    for (int i = 0; i < c->row.n; i++)
        if (c->row.axis[i] == axis)
            return true;
    return c->col.n == 1 && c->col.axis[0] == axis;
}

/* The product is that of the convolution: rows are its positions, columns its filters. Copies of weights are of four filters. */
static bool fits(const WinogradConv *w, const Contract *c)
{
    const int want[] = {w->n, w->p, w->q, w->kk};
    bool fine = c && c->a == w->x && c->b == w->w && c->row.n == 3 && c->col.n == 1 && !c->both.n && w->filters % 4 == 0 && w->k->axis[w->n].batch;
    for (size_t i = 0; fine && i < ARRAY_LEN(want); i++)
        fine = is_output_axis(c, want[i]);
    return fine && affine_unit_axis(&w->k->access[w->x].dim[0], w->k->n_axes) == w->n && !w->k->access[w->x].dim[0].offset;
}

/* U[c][x][k], so that a block's filters of one channel and point lie side by side, and so do its points. */
static void add_weights(WinogradConv *w)
{
    Buffer u = w->l->buffers.at[w->k->access[w->w].buf];
    u.name = arena_printf(w->l->arena, "%s.U", w->k->name);
    u.shape = shape_of(3, (int64_t)w->a * w->a, w->filters, w->channels);
    u.layout = layout_plain(3);
    memcpy(u.layout.order, (const int8_t[]){2, 0, 1}, 3);
    u.updates = u.alias_of = 0;
    u.winograd = w->form;
    if (u.kind != BUF_CONST) {
        u.kind = BUF_WORK;
        u.value = 0;
    }
    w->u = kernels_add_buffer(w->l, &u);
}

/* The kernel with the transformed weights in place of the weights: SUM[c, r, s](x * U) stands for the convolution. */
static Kernel fused_kernel(const WinogradConv *w)
{
    Kernel k = *w->k;
    k.access = NEWN(w->l->arena, Access, k.n_access);
    memcpy(k.access, w->k->access, sizeof *k.access * (size_t)k.n_access);
    k.cap_access = k.n_access;
    k.part = WINOGRAD_FUSED;
    int channel = affine_unit_axis(&w->k->access[w->x].dim[1], k.n_axes);
    k.access[w->w] = (Access){.buf = w->u, .rank = 3};
    affine_axis(access_dim(&k, w->w, 1), w->kk, 1);
    affine_axis(access_dim(&k, w->w, 2), channel, 1);
    return k;
}

/* What k is a product of when it is best done by Winograd; *w is then filled in. */
static const Contract *find(Arena *a, const GpuTarget *t, WinogradConv *w)
{
    if (!winograd_recognise(w) || w->stride > 1)
        return NULL;
    Contract *c = contract_find(a, w->l, w->k, t, PRECISION_F32);
    GpuWinograd *g = NEW(a, GpuWinograd);
    w->batch = w->k->axis[w->n].extent;
    if (!fits(w, c) || !choose_block(w, c, g, t))
        return NULL;
    g->n = (int8_t)w->n;
    g->p = (int8_t)w->p;
    g->q = (int8_t)w->q;
    g->filter = (int8_t)w->kk;
    g->pad_h = (int32_t)w->pad_h;
    g->pad_w = (int32_t)w->pad_w;
    g->channels = (int32_t)w->channels;
    c->winograd = g;
    return c;
}

void gpu_winograd(Arena *a, KernelList *l, GpuPlan *p, double error)
{
    WinogradKernels out = {0};
    Vec(WinogradProduct) found = {0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel k = l->kernels.at[i];
        WinogradConv w = {.l = l, .k = &k, .error = error};
        const Contract *c = find(a, p->target, &w);
        if (c) {
            add_weights(&w);
            if (l->buffers.at[w.u].kind == BUF_WORK)
                vec_push(l->arena, &out, *winograd_weights_kernel(&w));
            k = fused_kernel(&w);
            vec_push(a, &found, ((WinogradProduct){k.name, c}));
        }
        const Contract *dw = c ? NULL : winograd_find_dw(a, l, p->target, &k, error);
        if (dw) {
            k.part = WINOGRAD_FUSED;
            vec_push(a, &found, ((WinogradProduct){k.name, dw}));
        }
        vec_push(l->arena, &out, k);
    }
    l->kernels.at = out.at;
    l->kernels.len = out.len;
    l->kernels.cap = out.cap;
    p->winograd = found.at;
    p->n_winograd = (int32_t)found.len;
}

const Contract *winograd_contract(const GpuPlan *p, const Kernel *k)
{
    for (int32_t i = 0; k->part == WINOGRAD_FUSED && i < p->n_winograd; i++)
        if (!strcmp(p->winograd[i].kernel, k->name))
            return p->winograd[i].c;
    return NULL;
}
