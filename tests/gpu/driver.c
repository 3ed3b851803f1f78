/* A stand-in for NVIDIA's driver and for NVRTC that needs no GPU: a library with the functions that runtime/cuda.h and
 * codegen/gpu/nvrtc.c look for. Kernels are the text itself, compiled by the C compiler with host.h and run on the CPU by host.c.
 *
 *     cc -shared -fPIC -DHOST_HEADER='"/.../tests/gpu/host.h"' -I. tests/gpu/driver.c tests/gpu/host.c -o driver.so
 *     CNNC_CUDA_DRIVER=driver.so CNNC_NVRTC=driver.so cnnc train net.cnn --device cuda
 *
 * It does nothing before it must: copies, kernels and graphs wait in their stream until something waits for them, and then other
 * streams run as far ahead as their events let them (CNNC_GPU_ORDER=behind: not one step further than asked). So a buffer that is
 * reused or read too early holds the wrong values, in one order or the other. What no driver forgives ends the process: copies out
 * of bounds, from memory that is not pinned, freed memory, work of a stream that is being recorded, and leaks. */
#include "runtime/abi.h"
#include "runtime/cuda.h"
#include "tests/gpu/host_run.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
enum { GUARD = 4096, FAKE_SM = 90, INVALID = 1 };

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "test driver: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    abort();
}

/* ---- memory ---- */

typedef struct Block { struct Block *next; char *at; size_t size; bool pinned; } Block;
static Block *blocks;

static Block *block_of(const void *p, size_t n, bool pinned)
{
    for (Block *b = blocks; b; b = b->next)
        if (b->pinned == pinned && (const char *)p >= b->at && (const char *)p + n <= b->at + b->size)
            return b;
    return NULL;
}

static void *take(size_t n, bool pinned)
{
    Block *b = calloc(1, sizeof *b);
    char *memory = aligned_alloc(256, (n + 2 * GUARD + 255) / 256 * 256);
    if (!b || !memory)
        die("out of memory", NULL);
    memset(memory, 0xff, n + 2 * GUARD);   /* as floats: NaN */
    *b = (Block){blocks, memory + GUARD, n, pinned};
    blocks = b;
    return b->at;
}

static int give(void *p, bool pinned)
{
    for (Block **at = &blocks; *at; at = &(*at)->next) {
        Block *b = *at;
        if (b->at != p || b->pinned != pinned)
            continue;
        for (size_t i = 0; i < GUARD; i++)
            if (b->at[-1 - (int)i] != -1 || b->at[b->size + i] != -1)
                die("something was written beside a buffer", NULL);
        memset(b->at, 0xff, b->size);
        *at = b->next;
        free(b->at - GUARD);
        free(b);
        return 0;
    }
    die("memory is freed that is not taken", NULL);
    return INVALID;
}

/* ---- work in streams ---- */

typedef enum { OP_COPY, OP_KERNEL, OP_GRAPH, OP_RECORD, OP_WAIT } OpKind;
typedef struct Op {
    struct Op *next;
    OpKind kind;
    void *to; const void *from; size_t n;                 /* COPY */
    struct CudaKernel *kernel;                            /* KERNEL */
    CnncGpuLaunch launch;
    uint64_t *words;                                      /* its arguments; owned */
    struct CudaGraph *graph;                              /* GRAPH */
    struct CudaEvent *event; long ticket;                 /* RECORD, WAIT: which recording */
} Op;
typedef struct { Op *first, **last; } Queue;

struct CudaGraph { Queue ops; int users; };
struct CudaGraphExec { struct CudaGraph *graph; };
struct CudaStream { struct CudaStream *next; Queue todo; struct CudaGraph *recording; };
struct CudaEvent { long recorded, done; double at; };    /* how often each */
struct CudaKernel { struct CudaModule *module; char name[256]; HostKernel code; const char *sizes; struct CudaKernel *next; int most_shared; };
struct CudaModule { void *library; struct CudaKernel *kernels; };

static struct CudaStream *streams;
static int objects;          /* streams, events, modules and graphs that are alive */
static int contexts;

static void *new_object(size_t n)
{
    void *p = calloc(1, n);
    if (!p)
        die("out of memory", NULL);
    objects++;
    return p;
}

static void drop_object(void *p)
{
    objects--;
    free(p);
}

static void push(Queue *q, const Op *op)
{
    Op *copy = malloc(sizeof *copy);
    if (!copy)
        die("out of memory", NULL);
    *copy = *op;
    copy->next = NULL;
    if (!q->first)
        q->last = &q->first;
    *q->last = copy;
    q->last = &copy->next;
}

static Op *pop(Queue *q)
{
    Op *op = q->first;
    q->first = op->next;
    return op;
}

static void free_op(Op *op)
{
    free(op->words);
    free(op);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void run_kernel(const Op *op)
{
    const struct CudaKernel *k = op->kernel;
    if (host_launch(k->code, op->words, &op->launch, &(HostRun){HOST_ASCENDING, 1}) != 0)
        die(k->name, host_error_text());
}

static void run_op(const Op *op)
{
    switch (op->kind) {
    case OP_COPY:
        memcpy(op->to, op->from, op->n);
        break;
    case OP_KERNEL:
        run_kernel(op);
        break;
    case OP_GRAPH:
        for (const Op *o = op->graph->ops.first; o; o = o->next)
            run_op(o);
        break;
    case OP_RECORD:
        op->event->done = op->ticket;
        op->event->at = now();
        break;
    case OP_WAIT:
        break;
    }
}

static bool is_blocked(const Op *op) { return op->kind == OP_WAIT && op->event->done < op->ticket; }

static void drop_graph(struct CudaGraph *g);

/* False: the stream has nothing to do, or waits for another. */
static bool step(struct CudaStream *s)
{
    if (!s->todo.first || is_blocked(s->todo.first))
        return false;
    Op *op = pop(&s->todo);
    run_op(op);
    if (op->kind == OP_GRAPH)
        drop_graph(op->graph);
    free_op(op);
    return true;
}

static bool runs_ahead(void)
{
    const char *order = getenv("CNNC_GPU_ORDER");
    return !order || strcmp(order, "behind") != 0;
}

/* Runs the stream until it is empty or the event has the ticket. */
static void run_until(struct CudaStream *s, const struct CudaEvent *e, long ticket)
{
    bool moved = true;
    while (moved && (e ? e->done < ticket : s->todo.first != NULL)) {
        moved = false;
        for (struct CudaStream *o = streams; o; o = o->next)
            while (o != s && (runs_ahead() || (s && s->todo.first && is_blocked(s->todo.first)) || !s) && step(o)) {
                moved = true;
                if (!runs_ahead())
                    break;
            }
        moved |= s && step(s);
    }
    if (e ? e->done < ticket : s->todo.first != NULL)
        die("a stream waits for something that never comes", NULL);
}

static int enqueue(struct CudaStream *s, const Op *op)
{
    if (!s)
        die("work for a stream that is none", NULL);
    push(s->recording ? &s->recording->ops : &s->todo, op);
    return 0;
}

static void must_not_record(const struct CudaStream *s)
{
    if (s->recording)
        die("a stream is waited for while it is recorded", NULL);
}

/* ---- the driver's functions ---- */

API int cuInit(unsigned flags) { return flags != 0; }
API int cuDriverGetVersion(int *version) { return *version = 13000, 0; }

API int cuDeviceGetCount(int *n)
{
    *n = getenv("CNNC_GPU_NONE") ? 0 : 1;
    return 0;
}

API int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }

API int cuDeviceGetName(char *name, int size, int device)
{
    snprintf(name, (size_t)size, "test driver %d", device);
    return 0;
}

API int cuDeviceGetAttribute(int *value, int attribute, int device)
{
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

API int cuCtxSetCurrent(CudaContext context) { return context != (CudaContext)&contexts; }
API int cuGetErrorName(int error, const char **name) { return *name = error == CUDA_ERROR_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_INVALID_VALUE", 0; }
API int cuGetErrorString(int error, const char **text) { return *text = error == CUDA_ERROR_MEMORY ? "out of memory" : "invalid argument", 0; }

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
    size_t left, total;
    cuMemGetInfo_v2(&left, &total);
    if (bytes == 0 || bytes > left)
        return bytes ? CUDA_ERROR_MEMORY : INVALID;
    *at = (CudaPtr)(uintptr_t)take(bytes, false);
    return 0;
}

API int cuMemFree_v2(CudaPtr at) { return give((void *)(uintptr_t)at, false); }

API int cuMemHostAlloc(void **at, size_t bytes, unsigned flags)
{
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
    check_device(to, n);
    memcpy((void *)(uintptr_t)to, from, n);
    return 0;
}

API int cuMemcpyDtoH_v2(void *to, CudaPtr from, size_t n)
{
    check_device(from, n);
    memcpy(to, (void *)(uintptr_t)from, n);
    return 0;
}

static int copy_async(void *to, const void *from, size_t n, CudaPtr device, const void *host, CudaStream s)
{
    check_device(device, n);
    if (!block_of(host, n, true))
        die("a copy in a stream needs pinned memory", NULL);
    return enqueue(s, &(Op){.kind = OP_COPY, .to = to, .from = from, .n = n});
}

API int cuMemcpyHtoDAsync_v2(CudaPtr to, const void *from, size_t n, CudaStream s) { return copy_async((void *)(uintptr_t)to, from, n, to, from, s); }
API int cuMemcpyDtoHAsync_v2(void *to, CudaPtr from, size_t n, CudaStream s) { return copy_async(to, (void *)(uintptr_t)from, n, from, to, s); }

/* ---- modules: the libraries that the stand-in of NVRTC made ---- */

typedef struct { char magic[8]; uint64_t size; } ImageHead;
static const char image_magic[8] = "cnncGPU";

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
    (void)n, (void)options, (void)values;
    const ImageHead *head = image;
    if (memcmp(head->magic, image_magic, sizeof image_magic))
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
    char sizes[300];
    void *code = dlsym(m->library, name);
    if (!code)
        return CUDA_ERROR_NOT_FOUND;
    snprintf(sizes, sizeof sizes, "%s_arguments", name);
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
    *value = attribute == CUDA_KERNEL_REGISTERS ? 32 : attribute == CUDA_KERNEL_MAX_DYNAMIC_SHARED ? kernel->most_shared : 0;
    return 0;
}

API int cuFuncSetAttribute(CudaKernel kernel, int attribute, int value)
{
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
    must_not_record(stream);
    run_until(stream, NULL, 0);
    return 0;
}

API int cuEventCreate(CudaEvent *event, unsigned flags)
{
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
    must_not_record(stream);
    return enqueue(stream, &(Op){.kind = OP_RECORD, .event = event, .ticket = ++event->recorded});
}

API int cuStreamWaitEvent(CudaStream stream, CudaEvent event, unsigned flags)
{
    must_not_record(stream);
    return flags ? INVALID : enqueue(stream, &(Op){.kind = OP_WAIT, .event = event, .ticket = event->recorded});
}

API int cuEventSynchronize(CudaEvent event)
{
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
    must_not_record(stream);
    stream->recording = new_object(sizeof *stream->recording);
    stream->recording->users = 1;
    return mode > 2;
}

API int cuStreamEndCapture(CudaStream stream, CudaGraph *graph)
{
    *graph = stream->recording;
    stream->recording = NULL;
    return *graph ? 0 : INVALID;
}

static void drop_graph(struct CudaGraph *g)
{
    if (--g->users > 0)
        return;
    while (g->ops.first)
        free_op(pop(&g->ops));
    drop_object(g);
}

API int cuGraphInstantiateWithFlags(CudaGraphExec *exec, CudaGraph graph, unsigned long long flags)
{
    *exec = new_object(sizeof **exec);
    (*exec)->graph = graph;
    graph->users++;
    return flags != 0;
}

API int cuGraphLaunch(CudaGraphExec exec, CudaStream stream)
{
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

/* ---- NVRTC ---- */

typedef struct Source { char *text, *log; size_t log_size; char *image; size_t image_size; } Source;

API int nvrtcVersion(int *major, int *minor) { return *major = 0, *minor = 1, 0; }
API int nvrtcGetNumSupportedArchs(int *n) { return *n = 3, 0; }
API int nvrtcGetSupportedArchs(int *sm) { return sm[0] = 80, sm[1] = 90, sm[2] = 100, 0; }

API int nvrtcCreateProgram(Source **p, const char *text, const char *name, int n, const char *const *headers, const char *const *names)
{
    (void)name, (void)headers, (void)names;
    *p = calloc(1, sizeof **p);
    if (*p)
        (*p)->text = strdup(text);
    return n != 0 || !*p || !(*p)->text;
}

API int nvrtcDestroyProgram(Source **p)
{
    free((*p)->text);
    free((*p)->log);
    free((*p)->image);
    free(*p);
    *p = NULL;
    return 0;
}

static char *read_all(const char *path, size_t *n, size_t before)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = calloc(before + *n + 1, 1);
    if (bytes && fread(bytes + before, 1, *n, f) != *n)
        *n = 0;
    fclose(f);
    return bytes;
}

/* The next kernel's name, from `at` on; *open: the parenthesis behind it. */
static const char *next_kernel(const char *at, const char **open)
{
    at = strstr(at, "__global__ void");
    if (!at)
        return NULL;
    *open = strchr(strstr(at, ")") + 1, '(');   /* behind __launch_bounds__(...) */
    const char *name = *open;
    while (name[-1] != ' ')
        name--;
    return name;
}

/* ptxas's words for each kernel, with numbers that are nobody's. */
static void write_uses(const char *text, FILE *to)
{
    for (const char *open = text, *name; (name = next_kernel(open, &open));)
        fprintf(to, "ptxas info    : Compiling entry function '%.*s' for 'sm_%d'\nptxas info    : Function properties for %.*s\n"
                    "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 32 registers, used 0 barriers\n",
                (int)(open - name), name, FAKE_SM, (int)(open - name), name);
}

/* How many bytes each argument of each kernel has: const char NAME_arguments[] = "8884". */
static void write_arguments(const char *text, FILE *to)
{
    for (const char *open = text, *name; (name = next_kernel(open, &open));) {
        fprintf(to, "\nconst char %.*s_arguments[] = \"", (int)(open - name), name);
        int size = 4;
        for (const char *p = open + 1; *p; p++) {
            if (*p == '/')
                p += strcspn(p, "\n");
            if (*p == '*' || !strncmp(p, "long long", 9))
                size = 8;
            if (*p == ',' || *p == ')') {
                fputc('0' + size, to);
                size = 4;
            }
            if (*p == ')')
                break;
        }
        fputs("\";\n", to);
    }
}

API int nvrtcCompileProgram(Source *p, int n, const char *const *options)
{
    (void)n, (void)options;
    char dir[] = "/tmp/cnnc-nvrtc.XXXXXX", command[1024], path[64];
    Dl_info self;   /* the kernels call back into this library */
    if (!mkdtemp(dir) || !dladdr((void *)(uintptr_t)nvrtcCompileProgram, &self))
        return 6;
    snprintf(path, sizeof path, "%s/cnnc.c", dir);
    FILE *f = fopen(path, "w");
    if (!f || fputs(p->text, f) < 0)
        return 6;
    write_arguments(p->text, f);
    if (fclose(f) != 0)
        return 6;
    snprintf(command, sizeof command, "cd %s && ${CC:-cc} -std=gnu11 -O1 -g0 -w -fPIC -shared -include %s cnnc.c %s -o cnnc.so -lm >log 2>&1",
             dir, HOST_HEADER, self.dli_fname);
    int status = system(command);
    snprintf(path, sizeof path, "%s/log", dir);
    if (status == 0 && (f = fopen(path, "a"))) {
        write_uses(p->text, f);
        fclose(f);
    }
    p->log = read_all(path, &p->log_size, 0);
    snprintf(path, sizeof path, "%s/cnnc.so", dir);
    ImageHead head = {.size = 0};
    memcpy(head.magic, image_magic, sizeof image_magic);
    p->image = read_all(path, &p->image_size, sizeof head);
    if (p->image) {
        head.size = p->image_size;
        memcpy(p->image, &head, sizeof head);
        p->image_size += sizeof head;
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) != 0 || status != 0 || !p->image ? 6 : 0;
}

API int nvrtcGetProgramLogSize(const Source *p, size_t *n) { return *n = p->log_size + 1, 0; }

API int nvrtcGetProgramLog(const Source *p, char *log)
{
    memcpy(log, p->log ? p->log : "", p->log_size + 1);
    return 0;
}

API int nvrtcGetCUBINSize(const Source *p, size_t *n) { return *n = p->image_size, 0; }
API int nvrtcGetCUBIN(const Source *p, char *cubin) { return memcpy(cubin, p->image, p->image_size), 0; }
API int nvrtcGetPTXSize(const Source *p, size_t *n) { return *n = p->image_size, 0; }
API int nvrtcGetPTX(const Source *p, char *ptx) { return memcpy(ptx, p->image, p->image_size), 0; }
