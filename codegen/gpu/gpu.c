/* A planned program as CUDA text and launch tables.
 * In: a Program whose functions have GpuPlans. Out: a CnncGpu. Relies on: entries being different names.
 * The text: what all kernels share (prelude.c), then function by function the kernels of its launches, in order of execution, each
 * under its layers and formula. Launches that differ in nothing but the places of their buffers and their grids share a kernel. */
#include "codegen/gpu/gpu.h"
#include "codegen/gpu/taps.h"
#include "codegen/gpu/winograd.h"
#include "codegen/nest.h"

#include <stdlib.h>
#include <string.h>

static void emit_lines(Code *c, const GpuBody *x)
{
    static void (*const emit[])(Code *, const GpuBody *) = {
        [GPU_MAP] = map_emit, [GPU_REDUCE] = reduce_emit, [GPU_COLUMNS] = columns_emit, [GPU_TAPS] = taps_emit,
        [GPU_CONTRACT] = contract_emit, [GPU_PARTS] = parts_emit};
    emit[x->form](c, x);
}

/* Registers of the values that a body loads four at a time before it computes: those of all steps together. */
static int registers_of_loads(const GpuBody *b)
{
    int n = 0;
    for (AccessId at = 0; at < b->k->n_access; at++)
        if (!kernel_writes(b->k, at))
            n += 4 * (b->steps > 1 && access_axes(b->k, at) >> b->stepped & 1 ? b->steps : 1);
    return n;
}

/* Four values at once of many loads, or several maps of four values in a kernel, need more registers than ptxas gives one of its own accord;
 * transforms it gives all. */
static int blocks_of_maps(const GpuLaunch *x)
{
    enum { MANY = 8, MOST_OF_THREE = 72 };   /* loads of a map; registers for loads where three blocks share a multiprocessor */
    int blocks = 0;
    for (int i = 0; i < x->n_bodies; i++) {
        const GpuBody *b = &x->body[i];
        bool much = b->wide && b->k->part == WINOGRAD_NONE && (x->n_bodies > 1 || b->k->n_access - b->k->n_out >= MANY);
        if (much && blocks != 2)
            blocks = registers_of_loads(b) > MOST_OF_THREE ? 2 : 3;
    }
    return blocks;
}

/* Products and slices hold many sums: they may have all registers that one block leaves them, or two where copies are wide. */
static int blocks_of_product(const GpuLaunch *x, const Contract *p)
{
    enum { MOST_SUMS = 64 };   /* of a thread that makes do with half of the registers */
    bool wide = contract_copy_bytes(p, &p->a_load) == 16 && contract_copy_bytes(p, &p->b_load) == 16;
    return x->how == GPU_ALONE && p->products != PRECISION_F32 && wide && p->rows * p->cols <= MOST_SUMS * p->threads ? 2 : 1;
}

/* Blocks that a multiprocessor's registers must suffice for; 0: as ptxas likes. */
static int blocks_at_once(const GpuLaunch *x)
{
    const GpuBody *first = &x->body[0];
    if (first->form == GPU_TAPS)
        return taps_blocks(first->taps);
    if (x->how == GPU_SLICES)
        return 1;
    if (x->how == GPU_ALONE && first->form == GPU_COLUMNS && first->wide)
        return 4;
    for (int i = x->n_bodies - 1; i >= 0; i--)
        if (x->body[i].form == GPU_CONTRACT)
            return blocks_of_product(x, x->body[i].contract);
    return blocks_of_maps(x);
}

static void open_kernel(Code *c, const GpuLaunch *x, const char *entry)
{
    const int blocks = blocks_at_once(x);
    cu_line(c, "__global__ void __launch_bounds__(%d%s) %s(", x->threads, blocks ? arena_printf(c->arena, ", %d", blocks) : "", entry);
    cu_parameters(c);
    cu_block(c);
}

static void emit_alone(Code *c, const GpuLaunch *x, const char *entry)
{
    cu_begin(c, x->body[0].k);
    cu_name_buffers(c, x->body);
    cu_comment(c, x->body);
    cu_tables(c);
    open_kernel(c, x, entry);
    cu_line(c, "const int block = blockIdx.x;");
    emit_lines(c, &x->body[0]);
    cu_close(c);
}

/* A body as a device function. Its parameters, each with the body's number behind its name, go to `all`. */
static void emit_device(Code *c, const GpuBody *x, int i, Parameters *all)
{
    cu_begin(c, x->k);
    cu_name_buffers(c, x);
    cu_comment(c, x);
    cu_tables(c);
    cu_line(c, "static __device__ __forceinline__ void %s(int block,", c->entry);
    cu_parameters(c);
    cu_block(c);
    emit_lines(c, x);
    cu_close(c);
    fputc('\n', c->to);
    for (uint32_t p = 0; p < c->parameters.len; p++) {
        Parameter q = c->parameters.at[p];
        q.name = arena_printf(c->arena, "%s_%d", q.name, i);
        vec_push(c->arena, all, q);
    }
}

/* A device function a body, and a kernel that sends each block to its own. */
static void emit_beside(Code *c, const GpuLaunch *x, const char *entry)
{
    Parameters all = {0};
    const char **call = NEWN(c->arena, const char *, x->n_bodies);
    for (int i = 0; i < x->n_bodies; i++) {
        uint32_t from = all.len;
        c->entry = arena_printf(c->arena, "%s_%d", entry, i);
        emit_device(c, &x->body[i], i, &all);
        call[i] = arena_printf(c->arena, "%s(block", c->entry);
        for (uint32_t p = from; p < all.len; p++)
            call[i] = arena_printf(c->arena, "%s, %s", call[i], all.at[p].name);
        call[i] = arena_printf(c->arena, "%s, samples);", call[i]);
    }
    c->parameters = all;
    open_kernel(c, x, entry);
    cu_line(c, "int block = blockIdx.x;");
    for (int i = 0; i < x->n_bodies; i++) {
        if (i + 1 < x->n_bodies)
            cu_line(c, "if (block < %d) { %s return; }", body_blocks(&x->body[i]), call[i]);
        else
            cu_line(c, "%s", call[i]);
        if (i + 1 < x->n_bodies)
            cu_line(c, "block -= %d;", body_blocks(&x->body[i]));
    }
    cu_close(c);
}

static void emit_slices(Code *c, const GpuLaunch *x, const char *entry)
{
    for (int i = 0; i < x->n_bodies; i++) {
        cu_begin(c, x->body[i].k);
        c->entry = arena_printf(c->arena, "%s_%d", entry, i);
        cu_tables(c);
    }
    cu_name_areas(c, x->body, x->n_bodies);
    cu_line(c, "// %d samples a block: %s", x->samples, x->name);
    open_kernel(c, x, entry);
    slices_emit(c, x, entry);
    cu_close(c);
}

/* ---- texts ---- */
static int64_t pointer_of(Area area)
{
    static const int8_t number[] = {[AREA_STATE] = CNNC_AT_STATE, [AREA_WORK] = CNNC_AT_WORK, [AREA_CONST] = CNNC_AT_CONSTS, [AREA_IN] = CNNC_AT_IN,
                                    [AREA_LABELS] = CNNC_AT_LABELS, [AREA_OUT] = CNNC_AT_OUT, [AREA_SCALARS] = CNNC_AT_SCALARS,
                                    [AREA_RESULTS] = CNNC_AT_RESULTS};
    return number[area];
}

/* The text of a launch under the name `entry`; the places of its buffers. */
static const char *launch_text(Arena *a, const Function *f, GpuLaunch *x, const char *entry)
{
    static void (*const emit[])(Code *, const GpuLaunch *, const char *) = {[GPU_ALONE] = emit_alone, [GPU_BESIDE] = emit_beside, [GPU_SLICES] = emit_slices};
    char *text = NULL;
    size_t size = 0;
    Code c = {.arena = a, .to = open_memstream(&text, &size), .f = f, .l = f->kernels, .entry = entry};
    if (!c.to)
        BUG("no memory for the text");
    emit[x->how](&c, x, entry);
    fclose(c.to);
    CnncGpuPlace *places = NEWN(a, CnncGpuPlace, c.parameters.len + 1);
    for (uint32_t i = 0; i < c.parameters.len; i++)
        places[i] = (CnncGpuPlace){pointer_of(c.parameters.at[i].place.area), c.parameters.at[i].place.offset};
    x->places = places;
    x->n_places = (int32_t)c.parameters.len;
    const char *out = arena_strndup(a, text, size);
    free(text);
    return out;
}

/* Launches with one text, which differ in places and grids alone; the first one names the kernel: until it is known which that is, this
 * stands for the name. */
#define NAME "\1"
typedef struct { const Function *f; GpuLaunch *x; } User;
typedef struct { const char *text; Vec(User) users; } Shared;
typedef struct { Arena *a; Vec(Shared) texts; } Texts;

static void find_texts(Texts *t, const Function *f)
{
    for (int i = 0; f && i < f->gpu->n_launches; i++) {
        User u = {f, &f->gpu->launches[i]};
        const char *text = launch_text(t->a, f, u.x, NAME);
        uint32_t at = 0;
        while (at < t->texts.len && strcmp(t->texts.at[at].text, text))
            at++;
        if (at == t->texts.len)
            vec_push(t->a, &t->texts, ((Shared){.text = text}));
        vec_push(t->a, &t->texts.at[at].users, u);
    }
}

/* ---- whose kernel it is ---- */
typedef Vec(const Layer *) Layers;

/* Each once, in the order of the launches. */
static Layers layers_of(Arena *a, const Shared *t)
{
    Layers out = {0};
    for (uint32_t u = 0; u < t->users.len; u++) {
        const Graph *g = t->users.at[u].f->kernels->graph;
        const GpuLaunch *x = t->users.at[u].x;
        for (int i = 0; i < x->n_bodies; i++) {
            LayerId id = x->body[i].k->layer;
            bool fresh = id >= 0 && (uint32_t)id < g->layers.len;
            for (uint32_t j = 0; j < out.len && fresh; j++)
                fresh = strcmp(out.at[j]->name, g->layers.at[id].name) != 0;
            if (fresh)
                vec_push(a, &out, &g->layers.at[id]);
        }
    }
    return out;
}

/* "// layers 1.conv1, 1.conv2: Conv2d; 7: Linear" */
static void print_layers(Arena *a, FILE *to, const Shared *t)
{
    enum { WIDTH = 110 };
    Layers l = layers_of(a, t);
    int column = l.len ? fprintf(to, "// layer%s", l.len > 1 ? "s" : "") : 0;
    for (uint32_t i = 0; i < l.len; i++) {
        bool last = i + 1 == l.len, type = last || strcmp(l.at[i]->type, l.at[i + 1]->type);
        if (column > WIDTH)
            column = fprintf(to, "\n//     ");
        column += fprintf(to, " %s%s%s%s", l.at[i]->name, type ? ": " : "", type ? l.at[i]->type : "", last ? "\n" : type ? ";" : ",");
    }
}

static void print_named(const char *text, const char *name, FILE *to)
{
    for (const char *from = text, *at; *from; from = at + (*at != '\0')) {
        at = strchrnul(from, *NAME);
        fwrite(from, 1, (size_t)(at - from), to);
        fputs(*at ? name : "", to);
    }
}

static void print_texts(Texts *t, FILE *to)
{
    for (uint32_t i = 0; i < t->texts.len; i++) {
        const Shared *s = &t->texts.at[i];
        const char *entry = s->users.at[0].x->entry;
        fputc('\n', to);
        print_layers(t->a, to, s);
        print_named(s->text, entry, to);
        for (uint32_t u = 1; u < s->users.len; u++)
            s->users.at[u].x->entry = entry;
    }
}

/* What the launch multiplies in. */
static int32_t products_of(const GpuLaunch *x)
{
    static const CnncProducts names[] = {
        [PRECISION_F32] = CNNC_PRODUCTS_F32, [PRECISION_TF32] = CNNC_PRODUCTS_TF32, [PRECISION_BF16] = CNNC_PRODUCTS_BF16};
    int32_t products = CNNC_PRODUCTS_F32;
    for (int i = 0; i < x->n_bodies; i++)
        products = x->body[i].form == GPU_CONTRACT ? (int32_t)names[x->body[i].contract->products] : products;
    return products;
}

/* Elements that an access touches at most: one at each point of its axes. What Winograd reads by tiles is not written as an access. */
static double elements_of(const KernelList *l, const GpuBody *b, AccessId at)
{
    double all = (double)buffer_elements(&l->buffers.at[b->k->access[at].buf]), points = kernel_points(b->k, access_axes(b->k, at));
    return (b->contract && b->contract->winograd) || all < points ? all : points;
}

/* Bytes in device memory that the launch touches, once. A product that is cut leaves partial sums, and what adds them does not read the
 * factors again. elements: by buffer, all 0 before and after. */
static double bytes_of(double *elements, const Function *f, const GpuLaunch *x)
{
    const KernelList *l = f->kernels;
    double n = 0;
    for (int i = 0; i < x->n_bodies; i++) {
        const GpuBody *b = &x->body[i];
        n += body_is_cut(b) ? (double)buffer_elements(&l->buffers.at[b->contract->partial]) * sizeof(float) : 0;
        for (int j = 0; j < b->k->n_access; j++)
            if (body_touches(b, (AccessId)j))
                elements[b->k->access[j].buf] += elements_of(l, b, (AccessId)j);
    }
    for (int i = 0; i < x->n_bodies; i++)
        for (int j = 0; j < x->body[i].k->n_access; j++) {
            BufId buf = x->body[i].k->access[j].buf;
            double all = (double)buffer_elements(&l->buffers.at[buf]);
            if (f->place[buf].area != AREA_SCRATCH)
                n += (elements[buf] < all ? elements[buf] : all) * (double)dtype_size(l->buffers.at[buf].dtype);
            elements[buf] = 0;
        }
    return n;
}

static double flops_of(const Function *f, const GpuLaunch *x)
{
    double macs = 0;
    for (int i = 0; i < x->n_bodies; i++)
        macs += x->body[i].form == GPU_PARTS ? 0 : x->body[i].k->macs;
    const Contract *c = x->body[0].form == GPU_CONTRACT ? x->body[0].contract : NULL;
    return c && c->winograd ? c->winograd->flops : 2 * macs * f->batch;
}

static double cycles_of(const GpuLaunch *x)
{
    double cycles = 0;
    for (int i = 0; i < x->n_bodies; i++)
        cycles += x->body[i].cycles;
    return cycles;
}

static CnncGpuFunction *launch_table(Arena *a, const Function *f)
{
    if (!f)
        return NULL;
    CnncGpuLaunch *t = NEWN(a, CnncGpuLaunch, f->gpu->n_launches + 1);
    double *elements = NEWN(a, double, f->kernels->buffers.len);
    for (int i = 0; i < f->gpu->n_launches; i++) {
        const GpuLaunch *x = &f->gpu->launches[i];
        t[i] = (CnncGpuLaunch){.entry = x->entry, .name = x->name, .places = x->places, .n_places = x->n_places, .grid = {x->grid[0], x->grid[1], x->grid[2]}, .block = x->threads,
                               .lane = x->lane, .after = {x->after[0], x->after[1], x->after[2], x->after[3]}, .shared_bytes = x->shared_bytes, .sample_points = x->sample_points, .block_points = x->block_points,
                               .first_layer = x->first_layer, .last_layer = x->last_layer, .flops = flops_of(f, x), .bytes = bytes_of(elements, f, x),
                               .cycles = cycles_of(x), .products = products_of(x)};
    }
    CnncGpuFunction *out = NEW(a, CnncGpuFunction);
    *out = (CnncGpuFunction){.launches = t, .n_launches = f->gpu->n_launches, .batch = f->batch, .work_bytes = f->work_bytes};
    return out;
}

const CnncGpu *gpu_emit(Arena *a, Program *p)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (!to)
        BUG("no memory for the text");
    const Function *any = p->infer ? p->infer : p->step;
    fprintf(to, "// %s: CUDA C made by cnnc %s for sm_%d\n", p->symbol, CNNC_VERSION, any->gpu->target->sm);
    fputs(gpu_prelude, to);
    if (any->gpu->precision != PRECISION_F32)
        fputs(mma_prelude, to);
    winograd_functions(a, p, to);
    Texts t = {.a = a};
    find_texts(&t, p->infer);
    find_texts(&t, p->eval);
    find_texts(&t, p->step);
    print_texts(&t, to);
    fputs("#ifdef __cplusplus\n}\n#endif\n", to);
    fclose(to);
    CnncGpu *g = NEW(a, CnncGpu);
    *g = (CnncGpu){.text = arena_strndup(a, text, size), .sm = any->gpu->target->sm, .infer = launch_table(a, p->infer),
                   .eval = launch_table(a, p->eval), .step = launch_table(a, p->step)};
    free(text);
    p->model.gpu = g;
    return g;
}
