/* The machine's peak, measured.
 * In: nothing. Out: float32 operations per second of one thread, and bytes per second that it reads, by size of what is read.
 * Relies on the CPU check before wide code is run. Idea: twelve independent chains of fused multiply-adds hide the latency
 * of any core; sweeps over buffers of all sizes show its caches and memory without asking for their sizes. Best of several
 * short runs: a shared machine only ever makes it slower. */
#include "runtime/bench.h"
#include "runtime/cpu.h"
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 12, ROUNDS = 20000, REPEATS = 12, SMALLEST = 16 << 10, SWEPT = 1 << 20, SWEEPS = 6 };
typedef struct { float (*run)(void); uint64_t (*sweep)(const char *at, size_t bytes); int lanes; } Wide;

/* run_NAME: CHAINS vectors of BYTES bytes, ROUNDS multiply-adds each. The compiler contracts a * x + y where the CPU can.
 * sweep_NAME: reads that many bytes, a multiple of eight vectors. */
#define WIDE(name, bytes, attributes)                                                                                            \
    typedef float V_##name __attribute__((vector_size(bytes)));                                                                  \
    attributes static float run_##name(void)                                                                                     \
    {                                                                                                                            \
        V_##name a[CHAINS], x = (V_##name){0} + 0.999f, y = (V_##name){0} + 1e-3f;                                               \
        for (int i = 0; i < CHAINS; i++)                                                                                         \
            a[i] = y * (float)i;                                                                                                 \
        for (int r = 0; r < ROUNDS; r++) {                                                                                       \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) a[i] = a[i] * x + y;                                       \
        }                                                                                                                        \
        float sum = 0;                                                                                                           \
        for (int i = 0; i < CHAINS; i++)                                                                                         \
            sum += a[i][0] + a[i][bytes / 4 - 1];                                                                                \
        return sum;                                                                                                              \
    }                                                                                                                            \
    typedef uint64_t U_##name __attribute__((vector_size(bytes)));                                                               \
    attributes static uint64_t sweep_##name(const char *at, size_t size)                                                         \
    {                                                                                                                            \
        U_##name a[8] = {{0}}, all = {0};                                                                                        \
        for (const U_##name *p = (const U_##name *)at, *end = (const U_##name *)(at + size); p < end; p += 8)                    \
            _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) a[i] ^= p[i];                                                    \
        for (int i = 0; i < 8; i++)                                                                                              \
            all ^= a[i];                                                                                                         \
        return all[0];                                                                                                           \
    }

WIDE(plain, 16, )
#if defined(__x86_64__)
WIDE(avx2, 32, __attribute__((target("avx2,fma"))))
WIDE(avx512, 64, __attribute__((target("avx512f,fma"))))
#endif

/* The widest vectors that this CPU has. */
static Wide widest(void)
{
#if defined(__x86_64__)
    char missing[32];
    if (cpu_has_features("+avx512f", missing, sizeof missing))
        return (Wide){run_avx512, sweep_avx512, 16};
    if (cpu_has_features("+avx2,+fma", missing, sizeof missing))
        return (Wide){run_avx2, sweep_avx2, 8};
#endif
    return (Wide){run_plain, sweep_plain, 4};
}

static double measure_flops(const Wide *w)
{
    double best = 0;
    volatile float sink;
    for (int i = 0; i < REPEATS; i++) {
        double start = exec_seconds();
        sink = w->run();
        double rate = 2.0 * w->lanes * CHAINS * ROUNDS / (exec_seconds() - start);
        best = rate > best ? rate : best;
    }
    (void)sink;
    return best;
}

/* Reading, which is most of what nets ask of memory; small buffers several times in one go. */
static double measure_bytes(const Wide *w, const char *at, size_t size)
{
    int times = size < SWEPT ? (int)(SWEPT / size) : 1;
    double best = 0;
    volatile uint64_t sink = w->sweep(at, size);
    for (int i = 0; i < SWEEPS; i++) {
        double start = exec_seconds();
        for (int k = 0; k < times; k++)
            sink ^= w->sweep(at, size);
        double rate = (double)size * times / (exec_seconds() - start);
        best = rate > best ? rate : best;
    }
    (void)sink;
    return best;
}

CpuPeak peak_measure(void)
{
    Wide w = widest();
    CpuPeak p = {.flops = measure_flops(&w)};
    size_t largest = (size_t)SMALLEST << (PEAK_SIZES - 1);
    char *buffer = aligned_alloc(64, largest);
    if (buffer)
        memset(buffer, 1, largest);
    for (int i = 0; i < PEAK_SIZES; i++)
        p.bytes[i] = buffer ? measure_bytes(&w, buffer, (size_t)SMALLEST << i) : 1e10;
    free(buffer);
    return p;
}

double peak_bytes(const CpuPeak *p, double size)
{
    int i = 0;
    while (i < PEAK_SIZES - 1 && size > (double)((size_t)SMALLEST << i))
        i++;
    return p->bytes[i];
}
