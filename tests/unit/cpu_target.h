/* EmitTarget (emit_checks.h) for code of this machine: compiled, loaded, and run slice by slice in order, as one thread would. */
#ifndef CNNC_TESTS_UNIT_CPU_TARGET_H
#define CNNC_TESTS_UNIT_CPU_TARGET_H
#include "tests/unit/emit_checks.h"

#include "codegen/cpu/module.h"

typedef struct { CpuJit *jit; const CnncFunction *f; char *scratch; } CpuLoaded;

static inline void *cpu_load(Arena *a, Program *p, const CpuTarget *t, const char *net, const CnncModel **model)
{
    CpuLoaded *l = NEW(a, CpuLoaded);
    Bytes object = {0};
    const char *why = NULL;
    if (!module_compile(a, p, t, CPU_OBJECT, false, &object, &why))
        fail_msg("%s: %s", net, why);
    l->jit = jit_load(a, p, object, model, &why);
    if (!l->jit)
        fail_msg("%s: %s", net, why);
    free(object.data);
    l->f = (*model)->step ? (*model)->step : (*model)->infer;
    l->scratch = aligned(a, l->f->scratch_bytes);
    return l;
}

static inline void cpu_run(void *loaded, const CnncArgs *args)
{
    const CpuLoaded *l = loaded;
    for (int s = 0; s < l->f->n_stages; s++)
        for (int64_t i = 0; i < l->f->stages[s].slices; i++)
            if (!l->f->stages[s].samples_per_slice || i * l->f->stages[s].samples_per_slice < args->n)
                l->f->stages[s].fn(args, l->scratch, i);
}

static inline void cpu_unload(void *loaded) { jit_free(((CpuLoaded *)loaded)->jit); }

/* Can this machine run vectors of that many lanes? */
static inline bool cpu_has_lanes(int lanes)
{
    return lanes == 4 || (lanes == 8 ? __builtin_cpu_supports("avx2") : __builtin_cpu_supports("avx512f"));
}
#endif
