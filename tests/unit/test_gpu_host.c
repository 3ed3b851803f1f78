/* The checker of tests/gpu/host.c itself: kernels with one planted mistake each must be reported as what they are, and the
 * same kernels without it must pass, whatever the order of threads. */
#include "tests/gpu/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { WORDS = 1024, THREADS = 64 };
static const char head[] = "typedef struct { char *state, *work; const char *consts; const float *in; const void *labels; float *out;\n"
                           "                 const float *scalars; float *results; long long n; } CnncArgs;\n"
                           "extern __shared__ float shared[];\n";

static const struct { const char *name, *body, *report; int blocks; } cases[] = {
    {"a sum through shared memory", "shared[threadIdx.x] = args.in[threadIdx.x]; __syncthreads(); args.out[threadIdx.x] = shared[63 - threadIdx.x];", NULL, 1},
    {"a missing barrier", "shared[threadIdx.x] = args.in[threadIdx.x]; args.out[threadIdx.x] = shared[63 - threadIdx.x];", "RACE", 1},
    {"a missing barrier before shared memory is used again",
     "shared[threadIdx.x] = 1.0f; __syncthreads(); float x = shared[63 - threadIdx.x]; shared[threadIdx.x] = x; args.out[threadIdx.x] = x;", "RACE", 1},
    {"two threads at one word", "args.out[threadIdx.x / 2] = 1.0f;", "RACE", 1},
    {"two blocks at one word", "args.out[threadIdx.x] = 1.0f;", "RACE", 2},
    {"two blocks at words of their own", "args.out[blockIdx.x * 64 + threadIdx.x] = 1.0f;", NULL, 2},
    {"a block that reads what another writes", "args.out[blockIdx.x * 64 + threadIdx.x] = args.out[threadIdx.x];", "RACE", 2},
    {"a read behind the end", "args.out[threadIdx.x] = args.in[1000 + threadIdx.x];", "OUT OF BOUNDS: a read", 1},
    {"a write before the start", "args.out[threadIdx.x - 1] = 1.0f;", "OUT OF BOUNDS: a write", 1},
    {"more shared memory than asked for", "shared[threadIdx.x + 1] = 1.0f; __syncthreads(); args.out[threadIdx.x] = shared[1 + threadIdx.x];", "OUT OF BOUNDS: a write", 1},
    {"a barrier that some threads leave out", "if (threadIdx.x < 40) __syncthreads();", "DIVERGENT", 1},
    {"a barrier after some threads have left", "if (threadIdx.x == 3) return; __syncthreads();", "DIVERGENT", 1},
    {"two barriers for two halves",
     "if (threadIdx.x < 32) {\n __syncthreads();\n } else {\n __syncthreads();\n }", "DIVERGENT", 1},
    {"a warp operation that some lanes leave out", "float x = 1.0f; if (threadIdx.x % 2) x = __shfl_xor_sync(0xffffffffu, x, 1); args.out[threadIdx.x] = x;", "DIVERGENT", 1},
    {"a warp operation of all lanes", "args.out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, args.in[threadIdx.x], 1);", NULL, 1},
    {"four floats at an address for one", "*(float4 *)(args.out + 4 * threadIdx.x + 1) = *(const float4 *)(args.in + 4 * threadIdx.x);", "MISALIGNED", 1},
};

static void test_planted(void **unused)
{
    (void)unused;
    Arena *a = arena_new();
    const char *text = head;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        text = arena_printf(a, "%s__global__ void __launch_bounds__(64) k%zu(CnncArgs args)\n{\n%s\n}\n", text, i, cases[i].body);
    GpuText t = {0};
    CnncGpu gpu = {.text = text};
    const char *why = text_load(a, &gpu, &t);
    if (why)
        fail_msg("%s", why);
    for (size_t i = 0; i < ARRAY_LEN(cases) * 3; i++) {
        size_t c = i / 3;
        CnncGpuLaunch launch = {.entry = arena_printf(a, "k%zu", c), .grid = {cases[c].blocks, 1, 1}, .block = THREADS, .shared_bytes = THREADS * 4};
        HostKernel k;
        void *symbol = dlsym(t.so, launch.entry);
        memcpy(&k, &symbol, sizeof k);
        float *in = host_alloc(WORDS * sizeof *in), *out = host_alloc(WORDS * sizeof *out);
        memset(in, 0, WORDS * sizeof *in);
        memset(out, 0, WORDS * sizeof *out);
        host_clear_errors();
        int errors = host_launch(k, &(CnncArgs){.in = in, .out = out, .n = 1}, &launch, &(HostRun){.order = (HostOrder)(i % 3)});
        if (!cases[c].report && errors)
            fail_msg("%s: %s", cases[c].name, host_error_text());
        if (cases[c].report && (!errors || !strstr(host_error_text(), cases[c].report)))
            fail_msg("%s, order %zu: not reported as %s: %s", cases[c].name, i % 3, cases[c].report, host_error_text());
        host_free_all();
    }
    host_clear_errors();
    text_free(&t);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_planted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
