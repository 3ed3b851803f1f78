/* A planned program as CUDA text and launch tables.
 * In: a Program whose functions have GpuPlans. Out: a CnncGpu. Relies on: entries being different names.
 * The text: what all kernels share (prelude.c), then function by function one kernel a launch, in order of execution, each
 * under its layer and formula. */
#include "codegen/gpu/gpu.h"
#include "codegen/gpu/code.h"

#include <stdlib.h>

static void emit_kernel(Code *c, const GpuLaunch *x)
{
    cu_begin(c, x->k);
    c->entry = x->entry;
    fputc('\n', c->to);
    cu_comment(c);
    cu_tables(c);
    cu_line(c, "__global__ void __launch_bounds__(%d) %s(CnncArgs args)", x->threads, x->entry);
    cu_line(c, "{");
    c->depth = 1;
    cu_buffers(c);
    if (x->form == GPU_MAP)
        map_emit(c, x);
    else
        reduce_emit(c, x);
    cu_close(c);
}

static void emit_function(Arena *a, FILE *to, const Function *f)
{
    for (int i = 0; f && i < f->gpu->n_launches; i++) {
        Code c = {.arena = a, .to = to, .f = f, .l = f->kernels};
        emit_kernel(&c, &f->gpu->launches[i]);
    }
}

/* Every buffer the kernel touches, once. */
static double bytes_of(const KernelList *l, const Kernel *k)
{
    double n = 0;
    for (int i = 0; i < k->n_access; i++) {
        bool fresh = true;
        for (int j = 0; j < i; j++)
            fresh = fresh && k->access[j].buf != k->access[i].buf;
        const Buffer *b = &l->buffers.at[k->access[i].buf];
        if (fresh)
            n += (double)buffer_elements(b) * (double)dtype_size(b->dtype);
    }
    return n;
}

static CnncGpuFunction *launch_table(Arena *a, const Function *f)
{
    if (!f)
        return NULL;
    CnncGpuLaunch *t = NEWN(a, CnncGpuLaunch, f->gpu->n_launches + 1);
    for (int i = 0; i < f->gpu->n_launches; i++) {
        const GpuLaunch *x = &f->gpu->launches[i];
        t[i] = (CnncGpuLaunch){.entry = x->entry, .name = x->k->name, .grid = {x->grid[0], x->grid[1], x->grid[2]}, .block = x->threads,
                               .shared_bytes = x->shared_bytes, .sample_points = x->sample_points, .block_points = x->block_points,
                               .first_layer = x->k->layer, .last_layer = x->k->layer, .flops = 2 * x->k->macs * f->batch,
                               .bytes = bytes_of(f->kernels, x->k)};
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
