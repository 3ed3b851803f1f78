/* The checker of tests/gpu/host.c itself: kernels with one planted mistake each must be reported as what they are, and the
 * same kernels without it must pass, whatever the order of threads. */
#include "tests/gpu/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { WORDS = 1024, THREADS = 64 };
static const char head[] = "extern __shared__ float shared[];\n";

static const struct { const char *name, *body, *report; int blocks; } cases[] = {
    {"a sum through shared memory", "shared[threadIdx.x] = in[threadIdx.x]; __syncthreads(); out[threadIdx.x] = shared[63 - threadIdx.x];", NULL, 1},
    {"a missing barrier", "shared[threadIdx.x] = in[threadIdx.x]; out[threadIdx.x] = shared[63 - threadIdx.x];", "RACE", 1},
    {"a missing barrier before shared memory is used again",
     "shared[threadIdx.x] = 1.0f; __syncthreads(); float x = shared[63 - threadIdx.x]; shared[threadIdx.x] = x; out[threadIdx.x] = x;", "RACE", 1},
    {"two threads at one word", "out[threadIdx.x / 2] = 1.0f;", "RACE", 1},
    {"two blocks at one word", "out[threadIdx.x] = 1.0f;", "RACE", 2},
    {"two blocks at words of their own", "out[blockIdx.x * 64 + threadIdx.x] = 1.0f;", NULL, 2},
    {"a block that reads what another writes", "out[blockIdx.x * 64 + threadIdx.x] = out[threadIdx.x];", "RACE", 2},
    {"a read behind the end", "out[threadIdx.x] = in[1000 + threadIdx.x];", "OUT OF BOUNDS: a read", 1},
    {"a write before the start", "out[threadIdx.x - 1] = 1.0f;", "OUT OF BOUNDS: a write", 1},
    {"more shared memory than asked for", "shared[threadIdx.x + 1] = 1.0f; __syncthreads(); out[threadIdx.x] = shared[1 + threadIdx.x];", "OUT OF BOUNDS: a write", 1},
    {"a barrier that some threads leave out", "if (threadIdx.x < 40) __syncthreads();", "DIVERGENT", 1},
    {"a barrier after some threads have left", "if (threadIdx.x == 3) return; __syncthreads();", "DIVERGENT", 1},
    {"two barriers for two halves",
     "if (threadIdx.x < 32) {\n __syncthreads();\n } else {\n __syncthreads();\n }", "DIVERGENT", 1},
    {"a warp operation that some lanes leave out", "float x = 1.0f; if (threadIdx.x % 2) x = __shfl_xor_sync(0xffffffffu, x, 1); out[threadIdx.x] = x;", "DIVERGENT", 1},
    {"a warp operation of all lanes", "out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, in[threadIdx.x], 1);", NULL, 1},
    {"a copy of four bytes to half a float", "cp_async4((char *)shared + 4 * threadIdx.x + 2, in + threadIdx.x, 1); CP_ASYNC_COMMIT(); CP_ASYNC_WAIT(0);", "MISALIGNED", 1},
    {"a copy of sixteen bytes from any float", "cp_async16(shared + 4 * (threadIdx.x % 16), in + threadIdx.x, 1); CP_ASYNC_COMMIT(); CP_ASYNC_WAIT(0);", "MISALIGNED", 1},
    {"lines of matrices",
     "unsigned m[4]; ((unsigned *)shared)[threadIdx.x] = threadIdx.x; __syncthreads();\n"
     "ldmatrix4(m, (unsigned short *)shared + threadIdx.x % 8 * 8); out[m[0] == threadIdx.x % 32 ? (int)threadIdx.x : -1000] = 1.0f;", NULL, 1},
    {"a line of a matrix at any element",
     "unsigned m[4]; shared[threadIdx.x] = 0; __syncthreads(); ldmatrix4(m, (unsigned short *)shared + threadIdx.x % 8 * 9); out[threadIdx.x] = m[0];", "MISALIGNED", 1},
    {"matrices from device memory", "unsigned m[4]; ldmatrix4(m, (const unsigned short *)in); out[threadIdx.x] = m[0];", "LDMATRIX", 1},
    {"a product of matrices that some lanes leave out",
     "float s[4] = {0}; unsigned a[4] = {0}; if (threadIdx.x % 2) mma_bf16(s, a, a); out[threadIdx.x] = s[0];", "DIVERGENT", 1},
    {"two halves of a word by two threads", "((unsigned short *)out)[threadIdx.x] = 1;", NULL, 1},
    {"four floats at an address for one", "*(float4 *)(out + 4 * threadIdx.x + 1) = *(const float4 *)(in + 4 * threadIdx.x);", "MISALIGNED", 1},
};

static void test_planted(void **unused)
{
    (void)unused;
    Arena *a = arena_new();
    const char *text = head;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        text =
            arena_printf(a, "%s__global__ void __launch_bounds__(64) k%zu(const float *in, float *out, int n)\n{\n%s\n}\n", text, i, cases[i].body);
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
        int errors = host_launch(k, (const uint64_t[HOST_WORDS]){(uintptr_t)in, (uintptr_t)out, 1}, &launch, &(HostRun){.order = (HostOrder)(i % 3)});
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
