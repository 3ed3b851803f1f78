/* CPU features by CPUID.
 * In: LLVM's feature names. Out: the ones that this machine lacks.
 * Invariant: a feature whose registers the operating system does not save (XCR0), or does not let this process use, counts as
 * missing, so that a program that passes the check never meets an illegal instruction.
 * Idea: one row per feature: CPUID leaf, subleaf, register, bit, and the XCR0 bits its registers need. */
#include "runtime/cpu.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { EAX, EBX, ECX, EDX };
enum { OS_SSE = 0x2, OS_AVX = 0x6, OS_512 = 0xe6, OS_AMX = 0x60000 };
typedef struct {
    const char *name;
    uint32_t leaf, subleaf;
    int reg, bit;
    uint32_t os;
} Feature;

static const Feature features_known[] = {
    {"sse3", 1, 0, ECX, 0, 0},
    {"pclmul", 1, 0, ECX, 1, 0},
    {"ssse3", 1, 0, ECX, 9, 0},
    {"fma", 1, 0, ECX, 12, OS_AVX},
    {"cx16", 1, 0, ECX, 13, 0},
    {"sse4.1", 1, 0, ECX, 19, 0},
    {"sse4.2", 1, 0, ECX, 20, 0},
    {"movbe", 1, 0, ECX, 22, 0},
    {"popcnt", 1, 0, ECX, 23, 0},
    {"aes", 1, 0, ECX, 25, 0},
    {"xsave", 1, 0, ECX, 26, 0},
    {"avx", 1, 0, ECX, 28, OS_AVX},
    {"f16c", 1, 0, ECX, 29, OS_AVX},
    {"rdrnd", 1, 0, ECX, 30, 0},
    {"cmov", 1, 0, EDX, 15, 0},
    {"mmx", 1, 0, EDX, 23, 0},
    {"fxsr", 1, 0, EDX, 24, 0},
    {"sse", 1, 0, EDX, 25, 0},
    {"sse2", 1, 0, EDX, 26, 0},
    {"bmi", 7, 0, EBX, 3, 0},
    {"avx2", 7, 0, EBX, 5, OS_AVX},
    {"bmi2", 7, 0, EBX, 8, 0},
    {"avx512f", 7, 0, EBX, 16, OS_512},
    {"avx512dq", 7, 0, EBX, 17, OS_512},
    {"adx", 7, 0, EBX, 19, 0},
    {"avx512ifma", 7, 0, EBX, 21, OS_512},
    {"avx512cd", 7, 0, EBX, 28, OS_512},
    {"sha", 7, 0, EBX, 29, 0},
    {"avx512bw", 7, 0, EBX, 30, OS_512},
    {"avx512vl", 7, 0, EBX, 31, OS_512},
    {"avx512vbmi", 7, 0, ECX, 1, OS_512},
    {"avx512vbmi2", 7, 0, ECX, 6, OS_512},
    {"gfni", 7, 0, ECX, 8, 0},
    {"vaes", 7, 0, ECX, 9, OS_AVX},
    {"vpclmulqdq", 7, 0, ECX, 10, OS_AVX},
    {"avx512vnni", 7, 0, ECX, 11, OS_512},
    {"avx512bitalg", 7, 0, ECX, 12, OS_512},
    {"avx512vpopcntdq", 7, 0, ECX, 14, OS_512},
    {"avx512fp16", 7, 0, EDX, 23, OS_512},
    {"amx-bf16", 7, 0, EDX, 22, OS_AMX},
    {"amx-tile", 7, 0, EDX, 24, OS_AMX},
    {"amx-int8", 7, 0, EDX, 25, OS_AMX},
    {"avxvnni", 7, 1, EAX, 4, OS_AVX},
    {"avx512bf16", 7, 1, EAX, 5, OS_512},
    {"sahf", 0x80000001u, 0, ECX, 0, 0},
    {"lzcnt", 0x80000001u, 0, ECX, 5, 0},
    {"sse4a", 0x80000001u, 0, ECX, 6, 0},
    {"fma4", 0x80000001u, 0, ECX, 16, OS_AVX},
    {"tbm", 0x80000001u, 0, ECX, 21, 0},
};

static uint32_t os_saved_registers(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) /* OSXSAVE */
        return OS_SSE;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Tile registers make the state of every thread 8 KB larger: Linux gives them to a process that asks, for all its threads, once and
 * for all. */
static bool tiles_permitted(void)
{
#ifdef __x86_64__
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}

static bool has_feature(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof features_known / sizeof *features_known; i++) {
        const Feature *f = &features_known[i];
        if (strlen(f->name) != length || memcmp(f->name, name, length) != 0)
            continue;
        uint32_t r[4] = {0};
        if (!__get_cpuid_count(f->leaf, f->subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]))
            return false;
        bool here = (r[f->reg] >> f->bit & 1) && (os_saved_registers() & f->os) == f->os;
        return here && (f->os != OS_AMX || tiles_permitted());
    }
    return true;
}

void cpu_name(char *out, size_t size)
{
    uint32_t r[12] = {0};
    for (uint32_t i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]))
            memcpy(r, "x86-64", 7);
    char text[sizeof r + 1] = {0};
    memcpy(text, r, sizeof r);
    const char *start = text + strspn(text, " ");
    snprintf(out, size, "%s", *start ? start : "x86-64");
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

/* What Linux tells of an Arm CPU, by the names that LLVM gives the instructions. */
static const struct { const char *name; unsigned long word, bit; } features_known[] = {
    {"fp-armv8", AT_HWCAP, 1ul << 0}, {"neon", AT_HWCAP, 1ul << 1},      {"aes", AT_HWCAP, 1ul << 3},  {"crc", AT_HWCAP, 1ul << 7},
    {"lse", AT_HWCAP, 1ul << 8},      {"fullfp16", AT_HWCAP, 1ul << 10}, {"rdm", AT_HWCAP, 1ul << 12}, {"dotprod", AT_HWCAP, 1ul << 20},
    {"sve", AT_HWCAP, 1ul << 22},     {"i8mm", AT_HWCAP2, 1ul << 13},    {"bf16", AT_HWCAP2, 1ul << 14},
};

static bool has_feature(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof features_known / sizeof *features_known; i++)
        if (strlen(features_known[i].name) == length && memcmp(features_known[i].name, name, length) == 0)
            return (getauxval(features_known[i].word) & features_known[i].bit) != 0;
    return true;
}

/* The part number that the cores' designers gave it: 0xd08 is a Cortex-A72. */
void cpu_name(char *out, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];
    unsigned maker = 0, part = 0;
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (value && strncmp(line, "CPU implementer", 15) == 0)
            sscanf(value + 1, "%x", &maker);
        if (value && strncmp(line, "CPU part", 8) == 0)
            sscanf(value + 1, "%x", &part);
    }
    if (f)
        fclose(f);
    snprintf(out, size, maker ? "aarch64, implementer 0x%02x, part 0x%03x" : "aarch64", maker, part);
}
#else
static bool has_feature(const char *name, size_t length)
{
    (void)name;
    (void)length;
    return true;
}

void cpu_name(char *out, size_t size) { snprintf(out, size, "unknown CPU"); }
#endif

bool cpu_has_features(const char *features, char *missing, size_t size)
{
    bool all = true;
    size_t used = 0;
    if (size)
        missing[0] = '\0';
    for (const char *p = features ? features : ""; *p;) {
        size_t length = strcspn(p, ", ");
        const char *name = p + (*p == '+');
        size_t name_length = length - (size_t)(*p == '+');
        if (length && *p != '-' && !has_feature(name, name_length)) {
            if (used + 1 < size)
                used += (size_t)snprintf(missing + used, size - used, "%s%.*s", all ? "" : ", ", (int)name_length, name);
            all = false;
        }
        p += length;
        p += strspn(p, ", ");
    }
    return all;
}

bool cpu_check(const char *program, const char *cpu, const char *features, RtError *e)
{
    char missing[512], name[64];
    if (cpu_has_features(features, missing, sizeof missing))
        return true;
    cpu_name(name, sizeof name);
    return rt_error(e, RT_DEVICE,
                    "%s was built for %s and needs %s, which this CPU (%s) or its system lacks; build it with --cpu native on this machine",
                    program, cpu && *cpu ? cpu : "another CPU", missing, name);
}

const CnncModel *cpu_model(const CnncModel *only, const CnncModel *const *several)
{
    const CnncModel *m = only;
    for (; several && *several; several++) {
        m = *several;
        if (cpu_has_features(m->features, NULL, 0))
            return m;
    }
    return m;
}
