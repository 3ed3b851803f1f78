/* NVIDIA's driver, opened at run time: a program that finds none says so and can go on with the CPU. libcuda.so.1, or the file that
 * the environment variable CNNC_CUDA_DRIVER names. A Cuda owns the library and the device's primary context (cuda_close). */
#ifndef CNNC_RUNTIME_CUDA_H
#define CNNC_RUNTIME_CUDA_H
#include "runtime/error.h"
#include <stddef.h>
#include <stdint.h>

typedef uint64_t CudaPtr;    /* device memory; 0: none */
typedef struct CudaContext *CudaContext;
typedef struct CudaModule *CudaModule;
typedef struct CudaKernel *CudaKernel;
typedef struct CudaStream *CudaStream;
typedef struct CudaEvent *CudaEvent;
typedef struct CudaGraph *CudaGraph;
typedef struct CudaGraphExec *CudaGraphExec;

/* The functions used, by the names that the library exports; each returns 0 or an error number. */
#define CUDA_FUNCTIONS(F) \
    F(init, cuInit, (unsigned flags)) \
    F(driver_version, cuDriverGetVersion, (int *version)) \
    F(device_count, cuDeviceGetCount, (int *n)) \
    F(device_get, cuDeviceGet, (int *device, int ordinal)) \
    F(device_name, cuDeviceGetName, (char *name, int size, int device)) \
    F(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, int device)) \
    F(context_retain, cuDevicePrimaryCtxRetain, (CudaContext *context, int device)) \
    F(context_release, cuDevicePrimaryCtxRelease_v2, (int device)) \
    F(context_use, cuCtxSetCurrent, (CudaContext context)) \
    F(error_name, cuGetErrorName, (int error, const char **name)) \
    F(error_text, cuGetErrorString, (int error, const char **text)) \
    F(memory_info, cuMemGetInfo_v2, (size_t *free, size_t *total)) \
    F(alloc, cuMemAlloc_v2, (CudaPtr *at, size_t bytes)) \
    F(free, cuMemFree_v2, (CudaPtr at)) \
    F(host_alloc, cuMemHostAlloc, (void **at, size_t bytes, unsigned flags)) \
    F(host_free, cuMemFreeHost, (void *at)) \
    F(to_device, cuMemcpyHtoD_v2, (CudaPtr to, const void *from, size_t bytes)) \
    F(to_host, cuMemcpyDtoH_v2, (void *to, CudaPtr from, size_t bytes)) \
    F(to_device_async, cuMemcpyHtoDAsync_v2, (CudaPtr to, const void *from, size_t bytes, CudaStream stream)) \
    F(to_host_async, cuMemcpyDtoHAsync_v2, (void *to, CudaPtr from, size_t bytes, CudaStream stream)) \
    F(module_load, cuModuleLoadDataEx, (CudaModule *module, const void *image, unsigned n, int *options, void **values)) \
    F(module_unload, cuModuleUnload, (CudaModule module)) \
    F(module_kernel, cuModuleGetFunction, (CudaKernel *kernel, CudaModule module, const char *name)) \
    F(kernel_attribute, cuFuncGetAttribute, (int *value, int attribute, CudaKernel kernel)) \
    F(kernel_set, cuFuncSetAttribute, (CudaKernel kernel, int attribute, int value)) \
    F(launch, cuLaunchKernel, (CudaKernel kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, \
                               unsigned block_y, unsigned block_z, unsigned shared_bytes, CudaStream stream, void **arguments, \
                               void **extra)) \
    F(stream_create, cuStreamCreate, (CudaStream *stream, unsigned flags)) \
    F(stream_destroy, cuStreamDestroy_v2, (CudaStream stream)) \
    F(stream_wait, cuStreamSynchronize, (CudaStream stream)) \
    F(stream_wait_event, cuStreamWaitEvent, (CudaStream stream, CudaEvent event, unsigned flags)) \
    F(event_create, cuEventCreate, (CudaEvent *event, unsigned flags)) \
    F(event_destroy, cuEventDestroy_v2, (CudaEvent event)) \
    F(event_record, cuEventRecord, (CudaEvent event, CudaStream stream)) \
    F(event_wait, cuEventSynchronize, (CudaEvent event)) \
    F(event_ms, cuEventElapsedTime, (float *ms, CudaEvent from, CudaEvent to)) \
    F(capture_begin, cuStreamBeginCapture_v2, (CudaStream stream, int mode)) \
    F(capture_end, cuStreamEndCapture, (CudaStream stream, CudaGraph *graph)) \
    F(graph_instantiate, cuGraphInstantiateWithFlags, (CudaGraphExec *exec, CudaGraph graph, unsigned long long flags)) \
    F(graph_launch, cuGraphLaunch, (CudaGraphExec exec, CudaStream stream)) \
    F(graph_destroy, cuGraphDestroy, (CudaGraph graph)) \
    F(graph_exec_destroy, cuGraphExecDestroy, (CudaGraphExec exec))

/* Numbers of the driver's interface. */
enum { CUDA_ERROR_MEMORY = 2, CUDA_ERROR_NO_DEVICE = 100, CUDA_ERROR_NOT_FOUND = 500 };
enum { CUDA_ATTR_CLOCK = 13, CUDA_ATTR_MEMORY_CLOCK = 36, CUDA_ATTR_BUS_WIDTH = 37 };   /* kHz, kHz, bits */
enum { CUDA_ATTR_MULTIPROCESSORS = 16, CUDA_ATTR_MAJOR = 75, CUDA_ATTR_MINOR = 76 };
enum { CUDA_KERNEL_SHARED = 1, CUDA_KERNEL_LOCAL = 3, CUDA_KERNEL_REGISTERS = 4, CUDA_KERNEL_MAX_DYNAMIC_SHARED = 8 };
enum { CUDA_STREAM_NON_BLOCKING = 1, CUDA_EVENT_NO_TIMING = 2, CUDA_CAPTURE_THREAD_LOCAL = 1 };
enum { CUDA_JIT_ERROR_LOG = 5, CUDA_JIT_ERROR_LOG_SIZE = 6 };

typedef struct {
#define CUDA_MEMBER(field, symbol, arguments) int(*field) arguments;
    CUDA_FUNCTIONS(CUDA_MEMBER)
#undef CUDA_MEMBER
} CudaApi;

typedef struct {
    void *library;
    CudaApi api;
    int device;
    CudaContext context;
    char name[96];           /* "NVIDIA H200" */
    int sm, multiprocessors; /* 90 for compute capability 9.0 */
    int driver;              /* 13000: 13.0 */
} Cuda;

/* The first device that the driver shows (CUDA_VISIBLE_DEVICES), with its context current. RT_DEVICE and a sentence: no driver,
 * no device, or one that does not work. */
bool cuda_open(Cuda *c, RtError *e);
void cuda_close(Cuda *c);    /* c may be zeroed */
/* result == 0; otherwise an RT_DEVICE error "WHAT: ...", with the driver's words. */
bool cuda_fine(const Cuda *c, int result, RtError *e, const char *what);
/* The device without its context: name, sm, driver. */
bool cuda_probe(Cuda *c, RtError *e);
#endif
