/* The machine's peak, measured.
 * In: nothing. Out: float32 operations and memory bytes per second of one thread.
 * Relies on the CPU check before wide code is run. Idea: twelve independent chains of fused multiply-adds hide the latency
 * of any core; a sweep over a buffer larger than the caches is bound by memory. Best of several short runs: a shared
 * machine only ever makes it slower. */
#include "runtime/bench.h"
#include "runtime/cpu.h"
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 12, ROUNDS = 20000, REPEATS = 12 };

/* run_NAME: CHAINS vectors of BYTES bytes, ROUNDS multiply-adds each. The compiler contracts a * x + y where the CPU can. */
#define RUN(name, bytes, attributes)                                                                                             \
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
    }

RUN(plain, 16, )
#if defined(__x86_64__)
RUN(avx2, 32, __attribute__((target("avx2,fma"))))
RUN(avx512, 64, __attribute__((target("avx512f,fma"))))
#endif

static double measure_flops(void)
{
    float (*run)(void) = run_plain;
    int lanes = 4;
#if defined(__x86_64__)
    char missing[32];
    if (cpu_has_features("+avx512f", missing, sizeof missing))
        run = run_avx512, lanes = 16;
    else if (cpu_has_features("+avx2,+fma", missing, sizeof missing))
        run = run_avx2, lanes = 8;
#endif
    double best = 0;
    volatile float sink;
    for (int i = 0; i < REPEATS; i++) {
        double start = exec_seconds();
        sink = run();
        double rate = 2.0 * lanes * CHAINS * ROUNDS / (exec_seconds() - start);
        best = rate > best ? rate : best;
    }
    (void)sink;
    return best;
}

/* Reading: what inference mostly does. */
static double measure_bytes(void)
{
    enum { BYTES = 64 << 20 };
    uint64_t *p = malloc(BYTES), sum = 0;
    double best = 0;
    if (!p)
        return 1e10;
    memset(p, 1, BYTES);
    for (int i = 0; i < 4; i++) {
        double start = exec_seconds();
        for (size_t j = 0; j < BYTES / sizeof *p; j += 8)
            sum += p[j] + p[j + 1] + p[j + 2] + p[j + 3] + p[j + 4] + p[j + 5] + p[j + 6] + p[j + 7];
        double rate = (double)BYTES / (exec_seconds() - start);
        best = rate > best ? rate : best;
    }
    volatile uint64_t sink = sum;
    (void)sink;
    free(p);
    return best;
}

Peak peak_measure(void) { return (Peak){measure_flops(), measure_bytes()}; }
