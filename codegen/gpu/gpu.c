/* A planned program as CUDA text and launch tables.
 * In: a Program whose functions have GpuPlans. Out: a CnncGpu. Relies on: entries being different names.
 * The text: what all kernels share (prelude.c), then function by function one kernel a launch, in order of execution, each
 * under its layer and formula. */
#include "codegen/gpu/gpu.h"
#include "codegen/gpu/code.h"

#include <stdlib.h>

static void emit_lines(Code *c, const GpuBody *x)
{
    static void (*const emit[])(Code *, const GpuBody *) = {
        [GPU_MAP] = map_emit, [GPU_REDUCE] = reduce_emit, [GPU_CONTRACT] = contract_emit, [GPU_PARTS] = parts_emit};
    cu_buffers(c);
    cu_samples(c);
    emit[x->form](c, x);
}

/* Products hold many sums: they may have all registers that one block leaves them. */
static void open_kernel(Code *c, const GpuLaunch *x)
{
    const char *blocks = x->body[0].form == GPU_CONTRACT ? ", 1" : "";
    cu_line(c, "__global__ void __launch_bounds__(%d%s) %s(CnncArgs args)", x->threads, blocks, x->entry);
    cu_block(c);
}

static void emit_alone(Code *c, const GpuLaunch *x)
{
    cu_begin(c, x->body[0].k);
    cu_comment(c);
    cu_tables(c);
    open_kernel(c, x);
    cu_line(c, "const int block = blockIdx.x;");
    emit_lines(c, &x->body[0]);
    cu_close(c);
}

/* A device function a body, and a kernel that sends each block to its own. */
static void emit_beside(Code *c, const GpuLaunch *x)
{
    for (int i = 0; i < x->n_bodies; i++) {
        cu_begin(c, x->body[i].k);
        c->entry = arena_printf(c->arena, "%s_%d", x->entry, i);
        cu_comment(c);
        cu_tables(c);
        cu_line(c, "static __device__ __forceinline__ void %s(CnncArgs args, int block)", c->entry);
        cu_block(c);
        emit_lines(c, &x->body[i]);
        cu_close(c);
        fputc('\n', c->to);
    }
    open_kernel(c, x);
    cu_line(c, "int block = blockIdx.x;");
    for (int i = 0; i < x->n_bodies; i++) {
        if (i + 1 < x->n_bodies)
            cu_line(c, "if (block < %d) { %s_%d(args, block); return; }", x->body[i].grid[0], x->entry, i);
        else
            cu_line(c, "%s_%d(args, block);", x->entry, i);
        if (i + 1 < x->n_bodies)
            cu_line(c, "block -= %d;", x->body[i].grid[0]);
    }
    cu_close(c);
}

static void emit_slices(Code *c, const GpuLaunch *x)
{
    for (int i = 0; i < x->n_bodies; i++) {
        cu_begin(c, x->body[i].k);
        c->entry = arena_printf(c->arena, "%s_%d", x->entry, i);
        cu_tables(c);
    }
    cu_line(c, "// %d samples a block: %s", x->samples, x->name);
    open_kernel(c, x);
    slices_emit(c, x);
    cu_close(c);
}

static void emit_launch(Code *c, const GpuLaunch *x)
{
    static void (*const emit[])(Code *, const GpuLaunch *) = {[GPU_ALONE] = emit_alone, [GPU_BESIDE] = emit_beside, [GPU_SLICES] = emit_slices};
    c->entry = x->entry;
    fputc('\n', c->to);
    emit[x->how](c, x);
}

static void emit_function(Arena *a, FILE *to, const Function *f)
{
    for (int i = 0; f && i < f->gpu->n_launches; i++) {
        Code c = {.arena = a, .to = to, .f = f, .l = f->kernels};
        emit_launch(&c, &f->gpu->launches[i]);
    }
}

/* Bytes of every buffer in device memory that the launch touches, once. */
static double bytes_of(Arena *a, const Function *f, const GpuLaunch *x)
{
    const KernelList *l = f->kernels;
    bool *seen = NEWN(a, bool, l->buffers.len);
    double n = 0;
    for (int i = 0; i < x->n_bodies; i++)
        for (int j = 0; j < x->body[i].k->n_access; j++) {
            BufId b = x->body[i].k->access[j].buf;
            if (!seen[b] && f->place[b].area != AREA_SCRATCH)
                n += (double)buffer_elements(&l->buffers.at[b]) * (double)dtype_size(l->buffers.at[b].dtype);
            seen[b] = true;
        }
    return n;
}

static double flops_of(const Function *f, const GpuLaunch *x)
{
    double macs = 0;
    for (int i = 0; i < x->n_bodies; i++)
        macs += x->body[i].form == GPU_PARTS ? 0 : x->body[i].k->macs;
    return 2 * macs * f->batch;
}

static CnncGpuFunction *launch_table(Arena *a, const Function *f)
{
    if (!f)
        return NULL;
    CnncGpuLaunch *t = NEWN(a, CnncGpuLaunch, f->gpu->n_launches + 1);
    for (int i = 0; i < f->gpu->n_launches; i++) {
        const GpuLaunch *x = &f->gpu->launches[i];
        t[i] = (CnncGpuLaunch){.entry = x->entry, .name = x->name, .grid = {x->grid[0], x->grid[1], x->grid[2]}, .block = x->threads,
                               .shared_bytes = x->shared_bytes, .sample_points = x->sample_points, .block_points = x->block_points,
                               .first_layer = x->first_layer, .last_layer = x->last_layer, .flops = flops_of(f, x), .bytes = bytes_of(a, f, x)};
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
    emit_function(a, to, p->infer);
    emit_function(a, to, p->eval);
    emit_function(a, to, p->step);
    fputs("#ifdef __cplusplus\n}\n#endif\n", to);
    fclose(to);
    CnncGpu *g = NEW(a, CnncGpu);
    *g = (CnncGpu){.text = arena_strndup(a, text, size), .sm = any->gpu->target->sm, .infer = launch_table(a, p->infer),
                   .eval = launch_table(a, p->eval), .step = launch_table(a, p->step)};
    free(text);
    p->model.gpu = g;
    return g;
}
