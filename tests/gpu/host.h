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
typedef struct { int x, y, z, w; } __attribute__((aligned(16))) int4;
typedef struct { unsigned x, y; } __attribute__((aligned(8))) uint2;
extern HostIndex threadIdx, blockIdx, blockDim, gridDim;

static inline float __int_as_float(int v) { float f; memcpy(&f, &v, sizeof f); return f; }
static inline int __float_as_int(float v) { int i; memcpy(&i, &v, sizeof i); return i; }

/* Barriers and warp operations stop the fiber; the line tells diverging ones apart. */
void host_barrier(int line);
float host_shuffle_xor(float value, int lane_mask, int line);
#define __syncthreads() host_barrier(__LINE__)
#define __shfl_xor_sync(lanes, value, lane_mask) host_shuffle_xor(value, lane_mask, __LINE__)

/* Asynchronous copies: the destination holds NaN until they are waited for. */
void host_copy(void *to, const void *from, int bytes, int inside);
void host_copy_commit(void);
void host_copy_wait(int groups);
typedef unsigned long shared_at;
#define shared_at_of(pointer) ((shared_at)(pointer))
#define fixed_at(pointer) ((shared_at)(pointer))
#define cp_async4(to, from, inside) host_copy((void *)(to), from, 4, inside)
#define cp_async8(to, from, inside) host_copy((void *)(to), from, 8, inside)
#define cp_async16(to, from, inside) host_copy((void *)(to), from, 16, inside)
#define cp_async16_near(to, from, inside) host_copy((void *)(to), from, 16, inside)
#define CP_ASYNC_COMMIT() host_copy_commit()
#define CP_ASYNC_WAIT(groups) host_copy_wait(groups)

/* Tensor cores: operations of a warp, as PTX describes them. Sums are added in the order of the depth. */
void host_ldmatrix(unsigned *to, const unsigned short *line, int turned, int line_of_text);
void host_mma(float *sums, const unsigned *a, const unsigned *b, int bf16, int line_of_text);
#define ldmatrix4(to, line) host_ldmatrix(to, (const unsigned short *)(line), 0, __LINE__)
#define ldmatrix4_turned(to, line) host_ldmatrix(to, (const unsigned short *)(line), 1, __LINE__)
#define mma_bf16(sums, a, b) host_mma(sums, a, b, 1, __LINE__)
#define mma_tf32(sums, a, b) host_mma(sums, a, b, 0, __LINE__)

/* To the nearest: bf16 ties to even, tf32 ties away from zero. */
static inline unsigned short to_bf16(float x)
{
    unsigned bits = (unsigned)__float_as_int(x);
    return x != x ? 0x7fff : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline unsigned to_bf16_pair(float low, float high) { return to_bf16(low) | (unsigned)to_bf16(high) << 16; }
static inline unsigned to_tf32(float x)
{
    unsigned bits = (unsigned)__float_as_int(x);
    return x != x ? bits : (bits + 0x1000) & ~0x1fffu;
}
#endif
