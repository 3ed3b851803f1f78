/* What the benchmark times without Python in between: calls of a compiled net's infer function and of OpenVINO's, and the
 * machine's peak of float32 multiply-adds. Built by run.py as a shared library for the host.
 * Every function returns seconds. */
#include <stdint.h>
#include <time.h>

typedef int Infer(const float *in, float *out, void *workspace);
typedef int Request(void *request);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of n calls in a row; below zero: a call failed. */
double time_calls(Infer *infer, const float *in, float *out, void *workspace, int n)
{
    double start = now();
    for (int i = 0; i < n; i++)
        if (infer(in, out, workspace) != 0)
            return -1;
    return now() - start;
}

double time_requests(Request *infer, void *request, int n)
{
    double start = now();
    for (int i = 0; i < n; i++)
        if (infer(request) != 0)
            return -1;
    return now() - start;
}

/* The widest vectors of the machine, 16 independent sums: enough to hide an FMA's latency of 4 or 5 cycles on two units. */
#if defined __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float Vector __attribute__((vector_size(4 * LANES)));
enum { SUMS = 16 };
/* One variable each: an array would live in memory. */
#define EACH_SUM(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define DECLARE(i) Vector sum##i = a * (float)i;
#define STEP(i) sum##i = sum##i * a + b; __asm__ volatile("" : "+v"(sum##i));   /* really, and in a register */
#define ADD_UP(i) *sink += sum##i[0];

/* Seconds for n rounds of SUMS vector FMAs: 2 * LANES * SUMS * n operations (peak_flops of them). */
double time_peak(int64_t n, float *sink)
{
    Vector a, b;
    for (int i = 0; i < LANES; i++)
        a[i] = 0.999f, b[i] = 1e-3f;
    EACH_SUM(DECLARE)
    double start = now();
    for (int64_t k = 0; k < n; k++) {
        EACH_SUM(STEP)
    }
    double seconds = now() - start;
    EACH_SUM(ADD_UP)
    return seconds;
}

double peak_flops(int64_t n)
{
    return 2.0 * LANES * SUMS * (double)n;
}
