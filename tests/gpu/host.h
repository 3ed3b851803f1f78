/* The CUDA language as far as the emitted text uses it, for a C compiler: put in front of the text (cc -include), it makes the
 * text a shared object whose kernels tests/gpu/host.c runs on a CPU, one fiber a thread. Compiled with -fsanitize=thread (and
 * linked without it), every access to memory is checked there: bounds, races between barriers, races between blocks. */
#ifndef CNNC_TESTS_GPU_HOST_H
#define CNNC_TESTS_GPU_HOST_H
#include <math.h>
#include <string.h>

#define CNNC_HOST
#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

typedef struct { int x, y, z; } HostIndex;
typedef struct { float x, y; } __attribute__((aligned(8))) float2;
typedef struct { float x, y, z, w; } __attribute__((aligned(16))) float4;
extern HostIndex threadIdx, blockIdx, blockDim, gridDim;

static inline float __int_as_float(int v) { float f; memcpy(&f, &v, sizeof f); return f; }
static inline int __float_as_int(float v) { int i; memcpy(&i, &v, sizeof i); return i; }

/* Barriers and warp operations stop the fiber; the line tells diverging ones apart. */
void host_barrier(int line);
float host_shuffle_xor(float value, int lane_mask, int line);
#define __syncthreads() host_barrier(__LINE__)
#define __shfl_xor_sync(lanes, value, lane_mask) host_shuffle_xor(value, lane_mask, __LINE__)

/* Asynchronous copies: the destination holds NaN until they are waited for. */
void host_copy(float *to, const float *from, int inside);
void host_copy_commit(void);
void host_copy_wait(int groups);
#define cp_async4(to, from, inside) host_copy(to, from, inside)
#define CP_ASYNC_COMMIT() host_copy_commit()
#define CP_ASYNC_WAIT(groups) host_copy_wait(groups)
#endif
