/* Occupancy and roofline bounds of kernels.
 * In: launch tables, what ptxas says of each kernel. Out: how many blocks fit, the least time, an estimate, a table.
 * Relies on the committed facts of a few products. Idea (roofline): a kernel takes at least the longer of its operations at the
 * peak for their precision and of the bytes that every access moves once at the memory's speed. The estimate adds what every launch
 * takes, that blocks come in whole waves, and that kernels reach a share of the peaks; a function takes as long as its longest chain
 * of launches that wait for each other, or as all their work on the whole GPU. */
#include "codegen/gpu/roofline.h"

#include <math.h>
#include <stdlib.h>
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

/* ---- estimates ---- */

/* Shares of the peaks that kernels reach, of what body_slice.c counts for slices; seconds from the end of a launch in a graph to the first
 * instruction of one that waits for it; until a kernel's first loads and its last stores are done. Seen on an H100: kernels with next to
 * nothing to do follow each other every 3.5 us; float32 products reach 0.5 to 0.6, Winograd's 0.35, tensor cores 0.15 to 0.3 in layers of
 * some GFLOP; LeNet-5's slices take twice what was counted; products of ten channels, six times. */
static const double compute_share[CNNC_PRODUCTS] = {[CNNC_PRODUCTS_F32] = 0.5, [CNNC_PRODUCTS_TF32] = 0.25, [CNNC_PRODUCTS_BF16] = 0.25};
#define MEMORY_SHARE 0.8
#define SLICES_SHARE 0.5
#define LAUNCH 1.2e-6
#define LATENCY 2.3e-6

static double clock_of(const GpuFacts *f) { return f->flops[CNNC_PRODUCTS_F32] / (f->multiprocessors * (f->sm == 80 ? 128.0 : 256.0)); }

/* Of the multiprocessors that work when `blocks` blocks run in whole waves. */
static double filled(const GpuFacts *f, double blocks)
{
    double waves = ceil(blocks / f->multiprocessors);
    return blocks > 0 ? blocks / (waves * f->multiprocessors) : 1;
}

static double work_of(const GpuFacts *f, const CnncGpuLaunch *l)
{
    return fmax(l->flops / (f->flops[l->products] * compute_share[l->products]), l->bytes / (f->bytes * MEMORY_SHARE));
}

double gpu_estimate(const GpuFacts *f, const CnncGpuLaunch *l)
{
    double blocks = (double)l->grid[0] * l->grid[1] * l->grid[2];
    if (l->cycles > 0)
        return ceil(blocks / f->multiprocessors) * l->cycles / (clock_of(f) * SLICES_SHARE);
    return LATENCY + work_of(f, l) / filled(f, blocks);
}

double gpu_estimate_all(const GpuFacts *f, const CnncGpuFunction *g)
{
    double *end = calloc((size_t)g->n_launches + 1, sizeof *end), longest = 0, work = LAUNCH;   /* [0]: the start */
    int32_t last[CNNC_GPU_LANES] = {0};
    for (int32_t i = 0; end && i < g->n_launches; i++) {
        const CnncGpuLaunch *l = &g->launches[i];
        double from = end[last[l->lane]];
        for (int lane = 0; lane < CNNC_GPU_LANES; lane++)
            from = fmax(from, end[l->after[lane]]);
        end[i + 1] = from + LAUNCH + gpu_estimate(f, l);
        last[l->lane] = i + 1;
        longest = fmax(longest, end[i + 1]);
        work += work_of(f, l);
    }
    free(end);
    return fmax(longest, work);
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

static void print_kernel(Table *t, const CnncGpuLaunch *l, const GpuUse *u, const char *function)
{
    double blocks = (double)l->grid[0] * l->grid[1] * l->grid[2], bound = gpu_bound(t->facts, l);
    int shared = l->shared_bytes + u->shared_bytes, resident = gpu_resident_blocks(t->facts, u->registers, l->block, shared);
    double occupancy = (double)resident * l->block / t->facts->threads, estimate = gpu_estimate(t->facts, l);
    t->bound += bound;
    if (t->json) {
        fprintf(t->to, "%s\n  {\"function\": \"%s\", \"kernel\": \"%s\", \"entry\": \"%s\", \"blocks\": %.0f, \"threads\": %d, \"registers\": %d, \"shared_bytes\": %d, "
                "\"spill_bytes\": %d, \"stack_bytes\": %d, \"occupancy\": %.3f, \"products\": \"%s\", \"flops\": %.0f, \"bytes\": %.0f, \"bound_us\": %.4f, \"estimate_us\": %.4f}",
                t->rows++ ? "," : "", function, l->name, l->entry, blocks, l->block, u->registers, shared, u->spill_stores + u->spill_loads,
                u->stack_bytes, occupancy, products[l->products], l->flops, l->bytes, 1e6 * bound, 1e6 * estimate);
        return;
    }
    fprintf(t->to, "%9.0f %7d %9d %8d %7d %9.0f %% %10.3f %9.3f %9.3f %9.2f  %s%s%s\n", blocks, l->block, u->registers, shared,
            u->spill_stores + u->spill_loads, 100 * occupancy, 1e-6 * l->flops, 1e-6 * l->bytes, 1e6 * bound, 1e6 * estimate, l->name,
            l->products ? ", " : "", l->products ? products[l->products] : "");
}

static void print_function(Table *t, const CnncGpuFunction *f, const char *name, const GpuUses *uses)
{
    static const GpuUse unknown = {0};
    if (!f)
        return;
    t->bound = 0;
    if (!t->json)
        fprintf(t->to, "%s, batch %d, sm_%d (%s: %.1f TFLOP/s, %.0f in tf32, %.0f in bf16; %.2f TB/s)\n   blocks threads registers   shared  spills  occupancy      "
                "MFLOP        MB  bound us  estimate  kernel\n", name, f->batch, uses->sm, t->facts->product, 1e-12 * t->facts->flops[CNNC_PRODUCTS_F32], 1e-12 * t->facts->flops[CNNC_PRODUCTS_TF32],
                1e-12 * t->facts->flops[CNNC_PRODUCTS_BF16], 1e-12 * t->facts->bytes);
    for (int32_t i = 0; i < f->n_launches; i++) {
        const GpuUse *u = use_of(uses, f->launches[i].entry);
        print_kernel(t, &f->launches[i], u ? u : &unknown, name);
    }
    if (!t->json)
        fprintf(t->to, "%.3f us at least, about %.1f us by estimate, %d kernels\n\n", 1e6 * t->bound, 1e6 * gpu_estimate_all(t->facts, f),
                f->n_launches);
}

static void print_sums(FILE *to, const GpuFacts *gpu, const CnncGpuFunction *f, const char *name, bool first)
{
    double bound = 0;
    for (int32_t i = 0; f && i < f->n_launches; i++)
        bound += gpu_bound(gpu, &f->launches[i]);
    if (f)
        fprintf(to, "%s{\"function\": \"%s\", \"batch\": %d, \"launches\": %d, \"bound_us\": %.4f, \"estimate_us\": %.4f}", first ? "" : ",\n  ", name, f->batch,
                f->n_launches, 1e6 * bound, 1e6 * gpu_estimate_all(gpu, f));
}

void gpu_print_static(FILE *to, const CnncModel *m, const GpuTargets *targets, const GpuUses *uses, bool json)
{
    static const char *const names[] = {"inference", "training step", "evaluation"};
    const CnncGpuFunction *const functions[] = {m->gpu->infer, m->gpu->step, m->gpu->eval};
    enum { FUNCTIONS = sizeof functions / sizeof *functions };
    fputs(json ? "[" : "", to);
    for (int i = 0; i < targets->n; i++) {
        Table t = {.to = to, .facts = gpu_facts(uses[i].sm), .json = json};
        if (json)
            fprintf(to, "%s{\"gpu\": \"sm_%d\", \"product\": \"%s\", \"kernels\": [", i ? ",\n " : "", uses[i].sm, t.facts->product);
        for (int f = 0; f < FUNCTIONS; f++)
            print_function(&t, functions[f], names[f], &uses[i]);
        fputs(json ? "],\n \"functions\": [" : "", to);
        for (int f = 0, any = 0; f < FUNCTIONS && json; any += functions[f++] != NULL)
            print_sums(to, t.facts, functions[f], names[f], !any);
        fputs(json ? "]}" : "", to);
    }
    fputs(json ? "]\n" : "", to);
}
