/* A stand-in for NVIDIA's driver and, in compiler.c, for NVRTC that needs no GPU: a library with the functions that runtime/cuda.h
 * and codegen/gpu/nvrtc.c look for. Kernels are the text itself, compiled by the C compiler with host.h and run on the CPU by host.c.
 *
 *     cc -shared -fPIC -DHOST_HEADER='"/.../tests/gpu/host.h"' -I. tests/gpu/{driver,driver_work,compiler,host}.c -o driver.so
 *     CNNC_CUDA_DRIVER=driver.so CNNC_NVRTC=driver.so cnnc train net.cnn --device cuda
 *
 * It does nothing before it must: copies, kernels and graphs wait in their stream until something waits for them, and then other
 * streams run as far ahead as their events let them (CNNC_GPU_ORDER=behind: not one step further than asked). So a buffer that is
 * reused or read too early holds the wrong values, in one order or the other. Copies from memory that is not pinned return before they
 * have arrived, as the driver's may: they are work of its own stream, for which others do not wait. CNNC_GPU_FAIL=N has the N-th call that
 * can fail do so. What no driver forgives ends the process: copies out of bounds, in a stream from memory that is not pinned, freed
 * memory, work of a stream that is being recorded, and leaks. */
#include "tests/gpu/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int contexts;

API int cuInit(unsigned flags) { return fails() ? UNKNOWN : flags != 0; }
API int cuDriverGetVersion(int *version) { return *version = 13000, fails() ? UNKNOWN : 0; }

API int cuDeviceGetCount(int *n)
{
    if (fails())
        return UNKNOWN;
    *n = getenv("CNNC_GPU_NONE") ? 0 : 1;
    return 0;
}

API int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, fails() ? UNKNOWN : 0; }

API int cuDeviceGetName(char *name, int size, int device)
{
    if (fails())
        return UNKNOWN;
    snprintf(name, (size_t)size, "test driver %d", device);
    return 0;
}

API int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    if (fails())
        return UNKNOWN;
    (void)device;
    static const int values[][2] = {{CUDA_ATTR_MAJOR, FAKE_SM / 10}, {CUDA_ATTR_MINOR, FAKE_SM % 10}, {CUDA_ATTR_MULTIPROCESSORS, 2},
                                    {CUDA_ATTR_CLOCK, 1000000}, {CUDA_ATTR_MEMORY_CLOCK, 1000000}, {CUDA_ATTR_BUS_WIDTH, 256}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (values[i][0] == attribute) {
            *value = values[i][1];
            return 0;
        }
    return INVALID;
}

API int cuDevicePrimaryCtxRetain(CudaContext *context, int device)
{
    if (fails())
        return UNKNOWN;
    (void)device;
    *context = (CudaContext)&contexts;
    contexts++;
    return 0;
}

API int cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    if (--contexts > 0)
        return 0;
    for (const Block *b = blocks; b; b = b->next)
        die("memory is not given back", b->pinned ? "pinned" : "of the device");
    if (objects)
        die("streams, events, modules or graphs are not given back", NULL);
    return 0;
}

API int cuCtxSetCurrent(CudaContext context) { return fails() ? UNKNOWN : context != (CudaContext)&contexts; }
API int cuGetErrorName(int error, const char **name) { return *name = error == CUDA_ERROR_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == UNKNOWN ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR_INVALID_VALUE", 0; }
API int cuGetErrorString(int error, const char **text) { return *text = error == CUDA_ERROR_MEMORY ? "out of memory" : error == UNKNOWN ? "something unknown" : "invalid argument", 0; }

static size_t memory_most(void)
{
    const char *most = getenv("CNNC_GPU_MEMORY");
    return most ? (size_t)strtoull(most, NULL, 10) : (size_t)4 << 30;
}

API int cuMemGetInfo_v2(size_t *left, size_t *total)
{
    *left = *total = memory_most();
    for (const Block *b = blocks; b; b = b->next)
        *left -= b->pinned ? 0 : b->size;
    return 0;
}

API int cuMemAlloc_v2(CudaPtr *at, size_t bytes)
{
    if (fails())
        return UNKNOWN;
    size_t left, total;
    cuMemGetInfo_v2(&left, &total);
    if (bytes == 0 || bytes > left)
        return bytes ? CUDA_ERROR_MEMORY : INVALID;
    *at = (CudaPtr)(uintptr_t)take(bytes, false);
    return 0;
}

API int cuMemFree_v2(CudaPtr at)
{
    run_until(&legacy, NULL, 0);
    return give((void *)(uintptr_t)at, false);
}

API int cuMemHostAlloc(void **at, size_t bytes, unsigned flags)
{
    if (fails())
        return UNKNOWN;
    (void)flags;
    *at = take(bytes, true);
    return 0;
}

API int cuMemFreeHost(void *at) { return give(at, true); }

static void check_device(CudaPtr p, size_t n)
{
    if (!block_of((void *)(uintptr_t)p, n, false))
        die("a copy leaves its buffer on the device", NULL);
}

API int cuMemcpyHtoD_v2(CudaPtr to, const void *from, size_t n)
{
    if (fails())
        return UNKNOWN;
    check_device(to, n);
    void *staged = malloc(n);
    if (!staged)
        die("out of memory", NULL);
    memcpy(staged, from, n);
    return enqueue(&legacy, &(Op){.kind = OP_COPY, .to = (void *)(uintptr_t)to, .from = staged, .staged = staged, .n = n});
}

API int cuMemcpyDtoH_v2(void *to, CudaPtr from, size_t n)
{
    if (fails())
        return UNKNOWN;
    check_device(from, n);
    run_until(&legacy, NULL, 0);
    memcpy(to, (void *)(uintptr_t)from, n);
    return 0;
}

static int copy_async(void *to, const void *from, size_t n, CudaPtr device, const void *host, CudaStream s)
{
    if (fails())
        return UNKNOWN;
    check_device(device, n);
    if (!block_of(host, n, true))
        die("a copy in a stream needs pinned memory", NULL);
    return enqueue(s, &(Op){.kind = OP_COPY, .to = to, .from = from, .n = n});
}

API int cuMemcpyHtoDAsync_v2(CudaPtr to, const void *from, size_t n, CudaStream s) { return copy_async((void *)(uintptr_t)to, from, n, to, from, s); }
API int cuMemcpyDtoHAsync_v2(void *to, CudaPtr from, size_t n, CudaStream s) { return copy_async(to, (void *)(uintptr_t)from, n, from, to, s); }

/* ---- modules: the libraries that the stand-in of NVRTC made ---- */

/* Files that dlopen has read are not needed any more. */
static void *open_library(const void *bytes, size_t n)
{
    char path[] = "/tmp/cnnc-kernels.XXXXXX";
    int fd = mkstemp(path);
    bool fine = fd >= 0 && write(fd, bytes, n) == (ssize_t)n;
    if (fd >= 0)
        close(fd);
    void *library = fine ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library)
        fprintf(stderr, "test driver: %s\n", fine ? dlerror() : "a temporary file cannot be written");
    unlink(path);
    return library;
}

API int cuModuleLoadDataEx(CudaModule *module, const void *image, unsigned n, int *options, void **values)
{
    if (fails())
        return UNKNOWN;
    (void)n, (void)options, (void)values;
    const ImageHead *head = image;
    if (memcmp(head->magic, IMAGE_MAGIC, sizeof head->magic))
        return INVALID;
    void *library = open_library(head + 1, head->size);
    if (!library)
        return INVALID;
    *module = new_object(sizeof **module);
    **module = (struct CudaModule){.library = library};
    return 0;
}

API int cuModuleUnload(CudaModule m)
{
    for (const struct CudaStream *s = streams; s; s = s->next)
        if (s->todo.first)
            die("a module is unloaded before its work is done", NULL);
    while (m->kernels) {
        struct CudaKernel *k = m->kernels;
        m->kernels = k->next;
        free(k);
    }
    dlclose(m->library);
    drop_object(m);
    return 0;
}

API int cuModuleGetFunction(CudaKernel *kernel, CudaModule m, const char *name)
{
    if (fails())
        return UNKNOWN;
    char sizes[300];
    void *code = dlsym(m->library, name);
    if (!code)
        return CUDA_ERROR_NOT_FOUND;
    snprintf(sizes, sizeof sizes, "%s_arguments", name);
    for (*kernel = m->kernels; *kernel; *kernel = (*kernel)->next)   /* asked for again: the same one */
        if (!strcmp((*kernel)->name, name))
            return 0;
    struct CudaKernel *k = calloc(1, sizeof *k);
    if (!k)
        die("out of memory", NULL);
    *k = (struct CudaKernel){.module = m, .next = m->kernels, .sizes = dlsym(m->library, sizes), .most_shared = 48 << 10};
    memcpy(&k->code, &code, sizeof code);
    snprintf(k->name, sizeof k->name, "%s", name);
    *kernel = m->kernels = k;
    return 0;
}

API int cuFuncGetAttribute(int *value, int attribute, CudaKernel kernel)
{
    if (fails())
        return UNKNOWN;
    *value = attribute == CUDA_KERNEL_REGISTERS ? 32 : attribute == CUDA_KERNEL_MAX_DYNAMIC_SHARED ? kernel->most_shared : 0;
    return 0;
}

API int cuFuncSetAttribute(CudaKernel kernel, int attribute, int value)
{
    if (fails())
        return UNKNOWN;
    if (attribute != CUDA_KERNEL_MAX_DYNAMIC_SHARED || value > 227 << 10)
        return INVALID;
    kernel->most_shared = value;
    return 0;
}

/* As many as the kernel's text says, of the sizes it says. */
static uint64_t *copy_arguments(CudaKernel kernel, void **parameters)
{
    uint64_t *words = calloc(HOST_WORDS, sizeof *words);
    if (!words || !kernel->sizes || strlen(kernel->sizes) > HOST_WORDS)
        die("the arguments of a kernel are not known", kernel->name);
    for (size_t i = 0; kernel->sizes[i]; i++)
        memcpy(&words[i], parameters[i], (size_t)(kernel->sizes[i] - '0'));
    return words;
}

API int cuLaunchKernel(CudaKernel kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                       CudaStream s, void **parameters, void **extra)
{
    if (fails())
        return UNKNOWN;
    unsigned long long threads = (unsigned long long)bx * by * bz;
    if (extra || threads == 0 || threads > 1024 || by != 1 || bz != 1 || !gx || !gy || !gz || gy > 65535 || gz > 65535)
        return INVALID;
    if ((int)shared > kernel->most_shared)
        return INVALID;
    Op op = {.kind = OP_KERNEL, .kernel = kernel};
    op.launch = (CnncGpuLaunch){.grid = {(int)gx, (int)gy, (int)gz}, .block = (int)bx, .shared_bytes = (int)shared};
    op.words = copy_arguments(kernel, parameters);
    return enqueue(s, &op);
}

/* ---- streams and events ---- */

API int cuStreamCreate(CudaStream *stream, unsigned flags)
{
    if (fails())
        return UNKNOWN;
    if (flags != CUDA_STREAM_NON_BLOCKING)
        return INVALID;
    *stream = new_object(sizeof **stream);
    (*stream)->next = streams;
    streams = *stream;
    return 0;
}

API int cuStreamDestroy_v2(CudaStream stream)
{
    must_not_record(stream);
    run_until(stream, NULL, 0);
    for (struct CudaStream **at = &streams; *at; at = &(*at)->next)
        if (*at == stream) {
            *at = stream->next;
            drop_object(stream);
            return 0;
        }
    return INVALID;
}

API int cuStreamSynchronize(CudaStream stream)
{
    if (fails())
        return UNKNOWN;
    stream = stream ? stream : &legacy;
    must_not_record(stream);
    run_until(stream, NULL, 0);
    return 0;
}

API int cuEventCreate(CudaEvent *event, unsigned flags)
{
    if (fails())
        return UNKNOWN;
    (void)flags;
    *event = new_object(sizeof **event);
    return 0;
}

API int cuEventDestroy_v2(CudaEvent event)
{
    if (event->done < event->recorded)
        run_until(NULL, event, event->recorded);
    drop_object(event);
    return 0;
}

API int cuEventRecord(CudaEvent event, CudaStream stream)
{
    if (fails())
        return UNKNOWN;
    event->graph = stream->recording;
    event->mark = event->graph ? ++event->graph->marks : 0;
    return enqueue(stream, &(Op){.kind = OP_RECORD, .event = event, .mark = event->mark, .ticket = event->graph ? 0 : ++event->recorded});
}

API int cuStreamWaitEvent(CudaStream stream, CudaEvent event, unsigned flags)
{
    if (fails())
        return UNKNOWN;
    if (event->graph && !stream->recording) {   /* the stream joins the recording */
        stream->recording = event->graph;
        stream->lane = event->graph->lanes++;
    }
    if (stream->recording != event->graph || stream->lane >= LANES)
        die("a stream that is recorded waits for one that is not", NULL);
    return flags ? INVALID : enqueue(stream, &(Op){.kind = OP_WAIT, .event = event, .mark = event->mark, .ticket = event->recorded});
}

API int cuEventSynchronize(CudaEvent event)
{
    if (fails())
        return UNKNOWN;
    run_until(NULL, event, event->recorded);
    return 0;
}

API int cuEventElapsedTime(float *ms, CudaEvent from, CudaEvent to)
{
    *ms = (float)(to->at - from->at);
    return from->done && to->done ? 0 : INVALID;
}

/* ---- graphs ---- */

API int cuStreamBeginCapture_v2(CudaStream stream, int mode)
{
    if (fails())
        return UNKNOWN;
    must_not_record(stream);
    stream->recording = new_object(sizeof *stream->recording);
    stream->recording->users = stream->recording->lanes = 1;
    return mode > 2;
}

/* The last that a lane did is a mark that the first lane waits for. */
static bool is_joined(const struct CudaGraph *g, int lane)
{
    int last = 0;
    bool joined = false;
    for (const Op *op = g->ops.first; op; op = op->next)
        if (op->lane == lane)
            last = op->kind == OP_RECORD ? op->mark : 0;
    for (const Op *op = g->ops.first; op && last; op = op->next)
        joined = joined || (op->lane == 0 && op->kind == OP_WAIT && op->mark == last);
    return joined;
}

API int cuStreamEndCapture(CudaStream stream, CudaGraph *graph)
{
    struct CudaGraph *g = stream->recording;
    bool fine = g && stream->lane == 0;
    for (int lane = 1; fine && lane < g->lanes; lane++)
        fine = is_joined(g, lane);
    for (struct CudaStream *s = streams; g && s; s = s->next)
        if (s->recording == g) {
            s->recording = NULL;
            s->lane = 0;
        }
    bool failed = fine && fails();
    if (g && (failed || !fine)) {
        drop_graph(g);
        g = NULL;
    }
    *graph = g;
    return failed ? UNKNOWN : fine ? 0 : INVALID;
}

API int cuGraphInstantiateWithFlags(CudaGraphExec *exec, CudaGraph graph, unsigned long long flags)
{
    if (fails())
        return UNKNOWN;
    *exec = new_object(sizeof **exec);
    (*exec)->graph = graph;
    graph->users++;
    return flags != 0;
}

API int cuGraphLaunch(CudaGraphExec exec, CudaStream stream)
{
    if (fails())
        return UNKNOWN;
    exec->graph->users++;
    return enqueue(stream, &(Op){.kind = OP_GRAPH, .graph = exec->graph});
}

API int cuGraphDestroy(CudaGraph graph) { return drop_graph(graph), 0; }

API int cuGraphExecDestroy(CudaGraphExec exec)
{
    drop_graph(exec->graph);
    drop_object(exec);
    return 0;
}
