/* Occupancy and roofline bounds of kernels.
 * In: launch tables, what ptxas says of each kernel. Out: how many blocks fit, the least time, a table.
 * Relies on the committed facts of a few products. Idea (roofline): a kernel takes at least the longer of its operations at the
 * peak for their precision and of the bytes that every access moves once at the memory's speed. */
#include "codegen/gpu/roofline.h"

#include <string.h>

enum { REGISTERS = 65536, WARP = 32, QUARTERS = 4, SYSTEM_SHARED = 1024, SHARED_STEP = 128, REGISTER_STEP = 256 };

static const GpuFacts facts[] = {
    {80, "A100 SXM 80 GB", 108, 2048, 32, 164 << 10, {19.5e12, 156e12, 312e12}, 2.039e12},
    {90, "H100 SXM", 132, 2048, 32, 228 << 10, {66.9e12, 494.7e12, 989.4e12}, 3.35e12},
    {100, "B200", 148, 2048, 32, 228 << 10, {75e12, 1.1e15, 2.25e15}, 7.7e12},
};

const GpuFacts *gpu_facts(int sm)
{
    const GpuFacts *best = NULL;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (facts[i].sm <= sm)
            best = &facts[i];
    return best;
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }
static int least(int a, int b) { return a < b ? a : b; }

int gpu_resident_blocks(const GpuFacts *f, int registers, int threads, int shared_bytes)
{
    int warps = (threads + WARP - 1) / WARP;
    /* Registers are given to warps, by quarters of a multiprocessor. */
    int of_warp = round_up((registers > 0 ? registers : 1) * WARP, REGISTER_STEP);
    int by_registers = REGISTERS / QUARTERS / of_warp * QUARTERS / warps;
    int by_threads = f->threads / (warps * WARP);
    int by_shared = f->shared_bytes / (round_up(shared_bytes, SHARED_STEP) + SYSTEM_SHARED);
    return least(least(by_registers, by_threads), least(by_shared, f->blocks));
}

double gpu_bound(const GpuFacts *f, const CnncGpuLaunch *l)
{
    double compute = l->flops / f->flops[l->products], memory = l->bytes / f->bytes;
    return compute > memory ? compute : memory;
}

/* ---- the table ---- */

typedef struct { FILE *to; const GpuFacts *facts; bool json; int rows; double bound; } Table;

static const char *const products[] = {[CNNC_PRODUCTS_F32] = "f32", [CNNC_PRODUCTS_TF32] = "tf32", [CNNC_PRODUCTS_BF16] = "bf16"};

static const GpuUse *use_of(const GpuUses *u, const char *entry)
{
    for (int i = 0; i < u->n; i++)
        if (!strcmp(u->uses[i].entry, entry))
            return &u->uses[i];
    return NULL;
}

static void print_kernel(Table *t, const CnncGpuLaunch *l, const GpuUse *u)
{
    double blocks = (double)l->grid[0] * l->grid[1] * l->grid[2], bound = gpu_bound(t->facts, l);
    int shared = l->shared_bytes + u->shared_bytes, resident = gpu_resident_blocks(t->facts, u->registers, l->block, shared);
    double occupancy = (double)resident * l->block / t->facts->threads;
    t->bound += bound;
    if (t->json) {
        fprintf(t->to, "%s\n  {\"kernel\": \"%s\", \"entry\": \"%s\", \"blocks\": %.0f, \"threads\": %d, \"registers\": %d, \"shared_bytes\": %d, "
                "\"spill_bytes\": %d, \"stack_bytes\": %d, \"occupancy\": %.3f, \"products\": \"%s\", \"flops\": %.0f, \"bytes\": %.0f, \"bound_us\": %.4f}",
                t->rows++ ? "," : "", l->name, l->entry, blocks, l->block, u->registers, shared, u->spill_stores + u->spill_loads,
                u->stack_bytes, occupancy, products[l->products], l->flops, l->bytes, 1e6 * bound);
        return;
    }
    fprintf(t->to, "%9.0f %7d %9d %8d %7d %9.0f %% %10.3f %9.3f %9.3f  %s%s%s\n", blocks, l->block, u->registers, shared, u->spill_stores + u->spill_loads,
            100 * occupancy, 1e-6 * l->flops, 1e-6 * l->bytes, 1e6 * bound, l->name, l->products ? ", " : "", l->products ? products[l->products] : "");
}

static void print_function(Table *t, const CnncGpuFunction *f, const char *name, const GpuUses *uses)
{
    static const GpuUse unknown = {0};
    if (!f)
        return;
    t->bound = 0;
    if (!t->json)
        fprintf(t->to, "%s, batch %d, sm_%d (%s: %.1f TFLOP/s, %.0f in tf32, %.0f in bf16; %.2f TB/s)\n   blocks threads registers   shared  spills  occupancy      "
                "MFLOP        MB  bound us  kernel\n", name, f->batch, uses->sm, t->facts->product, 1e-12 * t->facts->flops[CNNC_PRODUCTS_F32], 1e-12 * t->facts->flops[CNNC_PRODUCTS_TF32],
                1e-12 * t->facts->flops[CNNC_PRODUCTS_BF16], 1e-12 * t->facts->bytes);
    for (int32_t i = 0; i < f->n_launches; i++) {
        const GpuUse *u = use_of(uses, f->launches[i].entry);
        print_kernel(t, &f->launches[i], u ? u : &unknown);
    }
    if (!t->json)
        fprintf(t->to, "%.3f us at least, %d kernels\n\n", 1e6 * t->bound, f->n_launches);
}

void gpu_print_static(FILE *to, const CnncModel *m, const GpuTargets *targets, const GpuUses *uses, bool json)
{
    fputs(json ? "[" : "", to);
    for (int i = 0; i < targets->n; i++) {
        Table t = {.to = to, .facts = gpu_facts(uses[i].sm), .json = json};
        if (json)
            fprintf(to, "%s{\"gpu\": \"sm_%d\", \"kernels\": [", i ? ",\n " : "", uses[i].sm);
        print_function(&t, m->gpu->infer, "inference", &uses[i]);
        print_function(&t, m->gpu->step, "training step", &uses[i]);
        print_function(&t, m->gpu->eval, "evaluation", &uses[i]);
        fputs(json ? "]}" : "", to);
    }
    fputs(json ? "]\n" : "", to);
}
