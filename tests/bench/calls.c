/* What the benchmark times without Python in between: calls of a compiled net's infer function and of OpenVINO's, the
 * machine's peak of float32 multiply-adds, and the way between two cores. Built by run.py and threads.py as a shared library for
 * the host.
 * Every function returns seconds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
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

/* The widest vectors of the machine, 12 independent sums: enough to hide an FMA's latency of 4 or 5 cycles on two units, and room for them
 * and two operands in 16 registers. */
#if defined __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float Vector __attribute__((vector_size(4 * LANES)));
enum { SUMS = 12 };
/* One variable each: an array would live in memory. */
#define EACH_SUM(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
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

enum { TRIPS = 1000 };
typedef struct { _Alignas(128) atomic_int turn; int core, rounds; } Ball;

static void stay_on(int core)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void *return_ball(void *context)
{
    Ball *b = context;
    stay_on(b->core);
    for (int i = 0; i < b->rounds * TRIPS; i++) {
        while (atomic_load(&b->turn) != 2 * i + 1) {
        }
        atomic_store(&b->turn, 2 * i + 2);
    }
    return 0;
}

/* Seconds that a cache line takes from one core to the other and back, in the best of so many rounds; below zero: no thread. */
double time_round_trip(int core, int other, int rounds)
{
    Ball b = {.core = other, .rounds = rounds};
    cpu_set_t before;
    pthread_t thread;
    double best = 1, start = now();
    sched_getaffinity(0, sizeof before, &before);
    stay_on(core);
    if (pthread_create(&thread, 0, return_ball, &b) != 0)
        return -1;
    for (int i = 0; i < rounds * TRIPS; i++) {
        if (i % TRIPS == 0)
            start = now();
        atomic_store(&b.turn, 2 * i + 1);
        while (atomic_load(&b.turn) != 2 * i + 2) {
        }
        double seconds = i % TRIPS == TRIPS - 1 ? (now() - start) / TRIPS : 1;
        best = seconds < best ? seconds : best;
    }
    pthread_join(thread, 0);
    sched_setaffinity(0, sizeof before, &before);
    return best;
}
