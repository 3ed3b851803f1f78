/* memory.c: asks the planner what a program would take.
 * In: a checked model, a batch. Out: bytes. Invariant: the module asked about is not touched: shapes depend on the batch, so
 * the text is elaborated again, silently, in an arena of its own.
 * The idea: plans depend on the lanes and caches of a CPU level alone, which the processor itself tells: no LLVM. */
#include "frontend/commands/memory.h"
#include "codegen/compile.h"

/* As the rows x86-64-v2, -v3, -v4, and generic of aarch64, of codegen/cpu/target.c. */
static NestTarget host_level(void)
{
    NestTarget t = {.lanes = 4, .registers = 16, .l1 = 32 << 10, .l2 = 256 << 10, .l3 = 8 << 20, .products = true};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        t = (NestTarget){.lanes = 16, .registers = 32, .l1 = 32 << 10, .l2 = 1 << 20, .l3 = 16 << 20};
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        t = (NestTarget){.lanes = 8, .registers = 16, .l1 = 32 << 10, .l2 = 512 << 10, .l3 = 16 << 20};
#elif defined(__aarch64__)
    t = (NestTarget){.lanes = 4, .registers = 32, .l1 = 32 << 10, .l2 = 512 << 10, .l3 = 2 << 20, .load_store = true};
#endif
    return t;
}

static int64_t plan_in(Arena *a, const Compile *cc, int64_t batch, bool training)
{
    Diags aside;
    Module m;
    bool broken;
    CompileMemory bytes;
    diags_init(&aside, a, &cc->src);
    ElaborateOptions e = cc->elaborate;
    e.batch = batch;
    const Ast *ast = parse_file(a, &cc->src, &aside, &broken);
    if (!elaborate(a, ast, &e, &aside, &m))
        return -1;
    PassContext p = {.arena = a, .diags = &aside, .module = &m, .recompute = cc->passes.recompute};
    for (int i = 0; i < PASS_COUNT; i++)
        p.off[i] = cc->passes.off[i];
    CompileOptions o = {.target = host_level()};
    if (!passes_run(&p, PIPELINE_CHECK) || !compile_memory(a, &p, &o, training, 1, &bytes))
        return -1;
    return bytes.weights + bytes.work + bytes.scratch + bytes.input_output;
}

int64_t memory_planned(void *context, int64_t batch, bool training)
{
    Arena *a = arena_new();
    int64_t bytes = plan_in(a, context, batch, training);
    arena_free(a);
    return bytes;
}
