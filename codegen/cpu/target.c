/* target.c: from the names of `--cpu` and `--target` to a CpuTarget.
 * In: names or NULL. Out: facts about the CPU, or a sentence that says what is wrong.
 * Relies on: LLVM for the host's name and features alone; everything else is the table below, so that a plan made for a
 * name is the same on every machine and with every LLVM.
 * Idea: a CPU is a level (which instructions) and caches. To add a CPU: one row. */
#include "codegen/cpu/module.h"
#include "ir/base/diag.h"

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { V1, V2, V3, V4, LEVELS };
#define K * 1024
#define M * 1024 * 1024

/* What each level adds. LLVM implies these from the level's name; a program checks them before it starts. */
static const char *const level_name[LEVELS] = {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"};
#define FEATURES_V1 "+cmov,+fxsr,+mmx,+sse,+sse2"
#define FEATURES_V2 FEATURES_V1 ",+cx16,+popcnt,+sahf,+sse3,+ssse3,+sse4.1,+sse4.2"
#define FEATURES_V3 FEATURES_V2 ",+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
#define FEATURES_V4 FEATURES_V3 ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
static const char *const level_features[LEVELS] = {FEATURES_V1, FEATURES_V2, FEATURES_V3, FEATURES_V4};

typedef struct { const char *name; int level; int64_t l1, l2, l3; const char *tune; } Cpu;   /* tune: NULL = name */
static const Cpu cpus[] = {
    {"generic", V1, 32 K, 256 K, 8 M, "generic"},
    {"x86-64", V1, 32 K, 256 K, 8 M, "generic"},
    {"x86-64-v2", V2, 32 K, 256 K, 8 M, "generic"},
    {"x86-64-v3", V3, 32 K, 512 K, 16 M, "generic"},
    {"x86-64-v4", V4, 32 K, 1 M, 16 M, "generic"},
    /* AMD */
    {"k8", V1, 64 K, 512 K, 512 K, NULL}, {"opteron", V1, 64 K, 512 K, 512 K, NULL}, {"athlon64", V1, 64 K, 512 K, 512 K, NULL},
    {"k8-sse3", V1, 64 K, 512 K, 512 K, NULL}, {"amdfam10", V1, 64 K, 512 K, 6 M, NULL}, {"barcelona", V1, 64 K, 512 K, 2 M, NULL},
    {"btver1", V1, 32 K, 512 K, 512 K, NULL}, {"btver2", V2, 32 K, 2 M, 2 M, NULL},
    {"bdver1", V2, 16 K, 2 M, 8 M, NULL}, {"bdver2", V2, 16 K, 2 M, 8 M, NULL}, {"bdver3", V2, 16 K, 2 M, 8 M, NULL},
    {"bdver4", V3, 32 K, 1 M, 1 M, NULL},
    {"znver1", V3, 32 K, 512 K, 8 M, NULL}, {"znver2", V3, 32 K, 512 K, 16 M, NULL}, {"znver3", V3, 32 K, 512 K, 32 M, NULL},
    {"znver4", V4, 32 K, 1 M, 32 M, NULL}, {"znver5", V4, 48 K, 1 M, 32 M, NULL},
    /* Intel, large cores */
    {"nocona", V1, 16 K, 1 M, 1 M, NULL}, {"core2", V1, 32 K, 4 M, 4 M, NULL}, {"penryn", V1, 32 K, 6 M, 6 M, NULL},
    {"nehalem", V2, 32 K, 256 K, 8 M, NULL}, {"corei7", V2, 32 K, 256 K, 8 M, NULL}, {"westmere", V2, 32 K, 256 K, 12 M, NULL},
    {"sandybridge", V2, 32 K, 256 K, 8 M, NULL}, {"corei7-avx", V2, 32 K, 256 K, 8 M, NULL}, {"ivybridge", V2, 32 K, 256 K, 8 M, NULL},
    {"core-avx-i", V2, 32 K, 256 K, 8 M, NULL}, {"haswell", V3, 32 K, 256 K, 8 M, NULL}, {"core-avx2", V3, 32 K, 256 K, 8 M, NULL},
    {"broadwell", V3, 32 K, 256 K, 8 M, NULL}, {"skylake", V3, 32 K, 256 K, 8 M, NULL},
    {"skylake-avx512", V4, 32 K, 1 M, 16 M, NULL}, {"skx", V4, 32 K, 1 M, 16 M, NULL}, {"cascadelake", V4, 32 K, 1 M, 16 M, NULL},
    {"cooperlake", V4, 32 K, 1 M, 16 M, NULL}, {"cannonlake", V4, 32 K, 256 K, 4 M, NULL},
    {"icelake-client", V4, 48 K, 512 K, 8 M, NULL}, {"icelake-server", V4, 48 K, 1280 K, 24 M, NULL},
    {"tigerlake", V4, 48 K, 1280 K, 12 M, NULL}, {"rocketlake", V4, 48 K, 512 K, 16 M, NULL},
    {"sapphirerapids", V4, 48 K, 2 M, 32 M, NULL}, {"emeraldrapids", V4, 48 K, 2 M, 64 M, NULL},
    {"graniterapids", V4, 48 K, 2 M, 64 M, NULL}, {"graniterapids-d", V4, 48 K, 2 M, 64 M, NULL},
    {"alderlake", V3, 48 K, 1280 K, 24 M, NULL}, {"raptorlake", V3, 48 K, 2 M, 32 M, NULL}, {"meteorlake", V3, 48 K, 2 M, 24 M, NULL},
    {"arrowlake", V3, 48 K, 3 M, 32 M, NULL}, {"arrowlake-s", V3, 48 K, 3 M, 32 M, NULL}, {"lunarlake", V3, 48 K, 2560 K, 12 M, NULL},
    {"pantherlake", V3, 48 K, 3 M, 18 M, NULL},
    /* Intel, small cores; Xeon Phi lacks the byte and short-vector parts of AVX-512, so it counts as v3 */
    {"bonnell", V1, 24 K, 512 K, 512 K, NULL}, {"atom", V1, 24 K, 512 K, 512 K, NULL}, {"silvermont", V2, 24 K, 1 M, 1 M, NULL},
    {"slm", V2, 24 K, 1 M, 1 M, NULL}, {"goldmont", V2, 24 K, 1 M, 1 M, NULL}, {"goldmont-plus", V2, 24 K, 1 M, 1 M, NULL},
    {"tremont", V2, 32 K, 1 M, 4 M, NULL}, {"gracemont", V3, 32 K, 2 M, 6 M, NULL}, {"sierraforest", V3, 32 K, 4 M, 32 M, NULL},
    {"grandridge", V3, 32 K, 4 M, 4 M, NULL}, {"clearwaterforest", V3, 32 K, 4 M, 32 M, NULL},
    {"knl", V3, 32 K, 512 K, 512 K, NULL}, {"knm", V3, 32 K, 512 K, 512 K, NULL},
};

static const Cpu *find_cpu(Arena *a, const char *name)
{
    char *plain = arena_strdup(a, name);
    for (char *c = plain; *c; c++)   /* LLVM writes some names both ways */
        if (*c == '_')
            *c = '-';
    for (size_t i = 0; i < ARRAY_LEN(cpus); i++)
        if (strcasecmp(cpus[i].name, plain) == 0)
            return &cpus[i];
    return NULL;
}

static bool has_feature(const char *features, const char *plus_name)
{
    size_t n = strlen(plus_name);
    for (const char *p = features; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, plus_name, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* The highest level whose features are all in LLVM's list. */
static int level_of_features(Arena *a, const char *features)
{
    for (int level = V4; level > V1; level--) {
        bool all = true;
        for (char *p = arena_strdup(a, level_features[level]), *save = NULL, *f = strtok_r(p, ",", &save); f && all; f = strtok_r(NULL, ",", &save))
            all = has_feature(features, f);
        if (all)
            return level;
    }
    return V1;
}

/* CPUs with AVX512-BF16, and those with tile registers for bf16 (AMX): additions to their level, used by --precision bf16 alone.
 * tiles: multiply-adds a cycle of one core; 16 x 16 sums of 32 products take 16 cycles. */
typedef struct { const char *name; int tiles; } Bf16Cpu;
static const Bf16Cpu bf16_cpus[] = {
    {"cooperlake", 0},       {"znver4", 0},          {"znver5", 0},           {"sapphirerapids", 512},
    {"emeraldrapids", 512},  {"graniterapids", 512}, {"graniterapids-d", 512},
};

static void fill_bf16(CpuTarget *t, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(bf16_cpus); i++)
        if (strcmp(bf16_cpus[i].name, name) == 0) {
            t->bf16 = true;
            t->tiles = bf16_cpus[i].tiles;
        }
}

static void fill(CpuTarget *t, const char *name, int level, const Cpu *facts, const char *tune)
{
    t->name = name;
    t->cpu = level_name[level];
    t->features = level_features[level];
    t->tune = tune;
    t->lanes = level == V4 ? 16 : level == V3 ? 8 : 4;
    t->registers = level == V4 ? 32 : 16;
    t->masks = level >= V3;
    t->fma = level >= V3;
    fill_bf16(t, facts->name);
    t->l1 = facts->l1;
    t->l2 = facts->l2;
    t->l3 = facts->l3;
}

static bool host_target(Arena *a, CpuTarget *t, const char **why)
{
#if !defined(__x86_64__)
    (void)t;
    *why = arena_printf(a, "code for this machine's architecture is not written yet; name an x86-64 CPU with --cpu and --target x86_64-linux-gnu");
    return false;
#else
    (void)why;
    char *name = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    int level = level_of_features(a, features);
    const Cpu *row = find_cpu(a, name);
    /* A CPU newer than the table, or whose features are partly hidden by a hypervisor, counts as its level's plain row, under
     * that name, so that the name still tells the plan. */
    const Cpu *facts = row && row->level == level ? row : find_cpu(a, level_name[level]);
    fill(t, facts->name, level, facts, facts->tune ? facts->tune : facts->name);
    t->bf16 = t->bf16 && has_feature(features, "+avx512bf16");
    if (!t->bf16 || !has_feature(features, "+amx-tile") || !has_feature(features, "+amx-bf16"))
        t->tiles = 0;
    LLVMDisposeMessage(name);
    LLVMDisposeMessage(features);
    return true;
#endif
}

static bool check_triple(Arena *a, const char *triple, CpuTarget *t, const char **why)
{
    if (!triple) {
        t->triple = "x86_64-pc-linux-gnu";
        return true;
    }
    static const char *const known[] = {"x86_64-linux-gnu", "x86_64-pc-linux-gnu", "x86_64-unknown-linux-gnu", "x86_64", "x86_64-linux", "amd64", NULL};
    for (int i = 0; known[i]; i++)
        if (strcmp(triple, known[i]) == 0) {
            t->triple = "x86_64-pc-linux-gnu";
            return true;
        }
    static const char *const later[] = {"aarch64", "arm64", "riscv64", "wasm32", "wasm64", NULL};
    for (int i = 0; later[i]; i++)
        if (strncmp(triple, later[i], strlen(later[i])) == 0) {
            *why = arena_printf(a, "target \"%s\": code for %s is not written yet; this version makes x86_64-linux-gnu code", triple, later[i]);
            return false;
        }
    const char *near = nearest_word(triple, known);
    *why = near ? arena_printf(a, "unknown target \"%s\"; did you mean \"%s\"?", triple, near)
                : arena_printf(a, "unknown target \"%s\"; this version makes x86_64-linux-gnu code", triple);
    return false;
}

bool target_find(Arena *a, const char *triple, const char *cpu, CpuTarget *out, const char **why)
{
    *out = (CpuTarget){0};
    if (!check_triple(a, triple, out, why))
        return false;
    if (!cpu || strcmp(cpu, "host") == 0 || strcmp(cpu, "native") == 0)
        return host_target(a, out, why);
    const Cpu *row = find_cpu(a, cpu);
    if (row) {
        fill(out, row->name, row->level, row, row->tune ? row->tune : row->name);
        return true;
    }
    const char *names[ARRAY_LEN(cpus) + 3];
    size_t n = 0;
    names[n++] = "host";
    names[n++] = "native";
    for (size_t i = 0; i < ARRAY_LEN(cpus); i++)
        names[n++] = cpus[i].name;
    names[n] = NULL;
    const char *near = nearest_word(cpu, names);
    *why = near ? arena_printf(a, "unknown CPU \"%s\"; did you mean \"%s\"?", cpu, near)
                : arena_printf(a, "unknown CPU \"%s\"; try host, x86-64, x86-64-v2, x86-64-v3, x86-64-v4, or a name such as znver4 or skylake-avx512", cpu);
    return false;
}
