/* target.c: from the names of `--cpu` and `--target` to a CpuTarget.
 * In: names or NULL. Out: facts about the CPU, or a sentence that says what is wrong.
 * Relies on: LLVM for the host's name and features alone; everything else is the tables below, so that a plan made for a
 * name is the same on every machine and with every LLVM.
 * Idea: a CPU is a level (which instructions) and caches; an architecture is its CPUs. To add a CPU: one row. */
#include "codegen/cpu/module.h"
#include "ir/base/diag.h"

#include <elf.h>
#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { V1, V2, V3, V4, ARMV8, LEVELS };
#define K * 1024
#define M * 1024 * 1024

/* What each level of x86-64 adds. LLVM implies these from the level's name; a program checks them before it starts. */
#define FEATURES_V1 "+cmov,+fxsr,+mmx,+sse,+sse2"
#define FEATURES_V2 FEATURES_V1 ",+cx16,+popcnt,+sahf,+sse3,+ssse3,+sse4.1,+sse4.2"
#define FEATURES_V3 FEATURES_V2 ",+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
#define FEATURES_V4 FEATURES_V3 ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"

/* cpu, features: as LLVM takes them. What later Arm CPUs have (half precision, SVE) is not used: the first ones do all that float32 needs. */
typedef struct { const char *cpu, *features; int lanes, registers; bool masks, fma, load_store; } Level;
static const Level levels[LEVELS] = {
    [V1] = {"x86-64", FEATURES_V1, 4, 16, false, false, false},   [V2] = {"x86-64-v2", FEATURES_V2, 4, 16, false, false, false},
    [V3] = {"x86-64-v3", FEATURES_V3, 8, 16, true, true, false},  [V4] = {"x86-64-v4", FEATURES_V4, 16, 32, true, true, false},
    [ARMV8] = {"generic", "+fp-armv8,+neon", 4, 32, false, true, true},
};

typedef struct { const char *name; int level; int64_t l1, l2, l3; const char *tune; } Cpu;   /* tune: NULL = name */
static const Cpu x86_cpus[] = {
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

static const Cpu arm_cpus[] = {
    {"generic", ARMV8, 32 K, 512 K, 2 M, NULL},
    /* Arm, small cores, large cores, servers */
    {"cortex-a35", ARMV8, 32 K, 512 K, 512 K, NULL}, {"cortex-a53", ARMV8, 32 K, 512 K, 512 K, NULL},
    {"cortex-a55", ARMV8, 32 K, 128 K, 1 M, NULL}, {"cortex-a510", ARMV8, 32 K, 256 K, 4 M, NULL}, {"cortex-a520", ARMV8, 32 K, 256 K, 4 M, NULL},
    {"cortex-a57", ARMV8, 32 K, 2 M, 2 M, NULL}, {"cortex-a72", ARMV8, 32 K, 1 M, 1 M, NULL}, {"cortex-a73", ARMV8, 32 K, 1 M, 1 M, NULL},
    {"cortex-a75", ARMV8, 64 K, 256 K, 2 M, NULL}, {"cortex-a76", ARMV8, 64 K, 512 K, 2 M, NULL}, {"cortex-a77", ARMV8, 64 K, 512 K, 4 M, NULL},
    {"cortex-a78", ARMV8, 64 K, 512 K, 4 M, NULL}, {"cortex-a710", ARMV8, 64 K, 512 K, 8 M, NULL}, {"cortex-a715", ARMV8, 64 K, 512 K, 8 M, NULL},
    {"cortex-a720", ARMV8, 64 K, 512 K, 8 M, NULL}, {"cortex-x1", ARMV8, 64 K, 1 M, 8 M, NULL}, {"cortex-x2", ARMV8, 64 K, 1 M, 8 M, NULL},
    {"cortex-x3", ARMV8, 64 K, 1 M, 8 M, NULL}, {"cortex-x4", ARMV8, 64 K, 2 M, 12 M, NULL},
    {"neoverse-e1", ARMV8, 32 K, 256 K, 4 M, NULL}, {"neoverse-n1", ARMV8, 64 K, 1 M, 32 M, NULL}, {"neoverse-n2", ARMV8, 64 K, 1 M, 32 M, NULL},
    {"neoverse-v1", ARMV8, 64 K, 1 M, 32 M, NULL}, {"neoverse-v2", ARMV8, 64 K, 2 M, 36 M, NULL},
    /* Apple: what LLVM calls after the telephones' chips with the same cores */
    {"apple-m1", ARMV8, 128 K, 12 M, 12 M, "apple-a14"}, {"apple-m2", ARMV8, 128 K, 16 M, 16 M, "apple-a15"},
    {"apple-m3", ARMV8, 128 K, 16 M, 16 M, "apple-a16"}, {"apple-m4", ARMV8, 128 K, 16 M, 16 M, NULL},
    /* Others */
    {"a64fx", ARMV8, 64 K, 8 M, 8 M, NULL}, {"ampere1", ARMV8, 64 K, 2 M, 32 M, NULL}, {"carmel", ARMV8, 64 K, 2 M, 4 M, NULL},
    {"kryo", ARMV8, 32 K, 1 M, 1 M, NULL}, {"oryon-1", ARMV8, 96 K, 12 M, 12 M, NULL}, {"thunderx2t99", ARMV8, 32 K, 256 K, 28 M, NULL},
    {"tsv110", ARMV8, 64 K, 512 K, 32 M, NULL},
};

/* triple: as LLVM takes it; tools: Debian's name, which those of cross compilers start with. */
typedef struct {
    const char *name, *triple, *tools;
    int machine;
    const Cpu *cpus;
    size_t n;
    const char *some;   /* names that a user may try */
} Arch;
enum { ARCH_X86_64, ARCH_AARCH64, ARCHES };
static const Arch arches[ARCHES] = {
    [ARCH_X86_64] = {"x86-64", "x86_64-pc-linux-gnu", "x86_64-linux-gnu", EM_X86_64, x86_cpus, ARRAY_LEN(x86_cpus),
                     "x86-64, x86-64-v2, x86-64-v3, x86-64-v4, or a name such as znver4 or skylake-avx512"},
    [ARCH_AARCH64] = {"aarch64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu", EM_AARCH64, arm_cpus, ARRAY_LEN(arm_cpus),
                      "generic, or a name such as cortex-a72 or neoverse-n1"},
};
#if defined(__x86_64__)
static const Arch *const host_arch = &arches[ARCH_X86_64];
#elif defined(__aarch64__)
static const Arch *const host_arch = &arches[ARCH_AARCH64];
#else
static const Arch *const host_arch = NULL;
#endif

static const Cpu *find_cpu(Arena *a, const Arch *arch, const char *name)
{
    char *plain = arena_strdup(a, name);
    for (char *c = plain; *c; c++)   /* LLVM writes some names both ways */
        if (*c == '_')
            *c = '-';
    for (size_t i = 0; i < arch->n; i++)
        if (strcasecmp(arch->cpus[i].name, plain) == 0)
            return &arch->cpus[i];
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

/* The highest level of x86-64 whose features are all in LLVM's list. */
static int level_of_features(Arena *a, const char *features)
{
    for (int level = V4; level > V1; level--) {
        bool all = true;
        for (char *p = arena_strdup(a, levels[level].features), *save = NULL, *f = strtok_r(p, ",", &save); f && all; f = strtok_r(NULL, ",", &save))
            all = has_feature(features, f);
        if (all)
            return level;
    }
    return V1;
}

/* CPUs with AVX512-BF16, and those with tile registers for bf16 (AMX): additions to their level, used by --precision bf16 alone.
 * tiles: multiply-adds a cycle of one core; 16 x 16 sums of 32 products take 16 cycles. slow_pairs: measured on Emerald Rapids, and held to
 * be so on the CPUs of its kind. */
typedef struct { const char *name; bool slow_pairs; int tiles; } LaterCpu;
static const LaterCpu later_cpus[] = {
    {"cooperlake", false, 0},      {"znver4", false, 0},          {"znver5", false, 0},           {"sapphirerapids", true, 512},
    {"emeraldrapids", true, 512}, {"graniterapids", true, 512},  {"graniterapids-d", true, 512},
};

static void fill_later(CpuTarget *t, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(later_cpus); i++)
        if (strcmp(later_cpus[i].name, name) == 0) {
            t->bf16 = true;
            t->slow_pairs = later_cpus[i].slow_pairs;
            t->tiles = later_cpus[i].tiles;
        }
}

static void fill(CpuTarget *t, const Arch *arch, const Cpu *facts)
{
    const Level *level = &levels[facts->level];
    t->triple = arch->triple;
    t->tools = arch == host_arch ? NULL : arch->tools;
    t->machine = arch->machine;
    t->name = facts->name;
    t->cpu = level->cpu;
    t->features = level->features;
    t->tune = facts->tune ? facts->tune : facts->name;
    t->lanes = level->lanes;
    t->registers = level->registers;
    t->masks = level->masks;
    t->fma = level->fma;
    t->load_store = level->load_store;
    fill_later(t, facts->name);
    t->l1 = facts->l1;
    t->l2 = facts->l2;
    t->l3 = facts->l3;
}

/* A CPU newer than the table, or whose features are partly hidden by a hypervisor, counts as its level's plain row, under that
 * name, so that the name still tells the plan. */
static void host_target(Arena *a, CpuTarget *t)
{
    char *name = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    const Cpu *row = find_cpu(a, host_arch, name);
    if (host_arch == &arches[ARCH_X86_64]) {
        int level = level_of_features(a, features);
        fill(t, host_arch, row && row->level == level ? row : find_cpu(a, host_arch, levels[level].cpu));
        t->bf16 = t->bf16 && has_feature(features, "+avx512bf16");
        if (!t->bf16 || !has_feature(features, "+amx-tile") || !has_feature(features, "+amx-bf16"))
            t->tiles = 0;
    } else {
        fill(t, host_arch, row ? row : find_cpu(a, host_arch, "generic"));
    }
    LLVMDisposeMessage(name);
    LLVMDisposeMessage(features);
}

/* The architecture of a triple, spelled in one of the usual ways; NULL: none that we know. */
static const Arch *find_arch(Arena *a, const char *triple, const char **why)
{
    static const struct { const char *spelling; int arch; } known[] = {
        {"x86_64-linux-gnu", ARCH_X86_64}, {"x86_64-pc-linux-gnu", ARCH_X86_64}, {"x86_64-unknown-linux-gnu", ARCH_X86_64},
        {"x86_64", ARCH_X86_64}, {"x86_64-linux", ARCH_X86_64}, {"amd64", ARCH_X86_64},
        {"aarch64-linux-gnu", ARCH_AARCH64}, {"aarch64-unknown-linux-gnu", ARCH_AARCH64}, {"aarch64", ARCH_AARCH64},
        {"aarch64-linux", ARCH_AARCH64}, {"arm64", ARCH_AARCH64},
    };
    const char *names[ARRAY_LEN(known) + 1] = {0};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        names[i] = known[i].spelling;
        if (strcmp(triple, known[i].spelling) == 0)
            return &arches[known[i].arch];
    }
    const char *near = nearest_word(triple, names);
    *why = near && *near == *triple ? arena_printf(a, "unknown target \"%s\"; did you mean \"%s\"?", triple, near)
                                    : arena_printf(a, "target \"%s\": this version makes code for x86_64-linux-gnu and aarch64-linux-gnu", triple);
    return NULL;
}

static bool unknown_cpu(Arena *a, const Arch *arch, const char *cpu, const char **why)
{
    for (int i = 0; i < ARCHES; i++)
        if (&arches[i] != arch && find_cpu(a, &arches[i], cpu)) {
            *why = arena_printf(a, "\"%s\" is a CPU of %s: add --target %s", cpu, arches[i].name, arches[i].tools);
            return false;
        }
    const char **names = NEWN(a, const char *, arch->n + 3);
    size_t n = 0;
    names[n++] = "host";
    names[n++] = "native";
    for (size_t i = 0; i < arch->n; i++)
        names[n++] = arch->cpus[i].name;
    const char *near = nearest_word(cpu, names);
    *why = near ? arena_printf(a, "unknown CPU \"%s\"; did you mean \"%s\"?", cpu, near)
                : arena_printf(a, "unknown CPU \"%s\"; try %s%s", cpu, arch == host_arch ? "host, " : "", arch->some);
    return false;
}

bool target_find(Arena *a, const char *triple, const char *cpu, CpuTarget *out, const char **why)
{
    *out = (CpuTarget){0};
    const Arch *arch = triple ? find_arch(a, triple, why) : host_arch;
    bool this_one = cpu && (strcmp(cpu, "host") == 0 || strcmp(cpu, "native") == 0);
    if (!triple && !arch)
        *why = "code for this machine's architecture is not made; name another one with --target x86_64-linux-gnu or aarch64-linux-gnu";
    if (!arch)
        return false;
    if (this_one && arch != host_arch) {
        *why = arena_printf(a, "--cpu %s is this machine's CPU, which is not one of %s; name it: %s", cpu, arch->name, arch->some);
        return false;
    }
    if (arch == host_arch && (!cpu || this_one)) {
        host_target(a, out);
        return true;
    }
    const Cpu *row = find_cpu(a, arch, cpu ? cpu : "generic");
    if (!row)
        return unknown_cpu(a, arch, cpu, why);
    fill(out, arch, row);
    return true;
}

void target_init(void)
{
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();   /* of the one instruction that is written as text (library.c) */
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
}
