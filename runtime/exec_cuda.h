/* What the device part of an Exec and of an ExecCall hold on a GPU; for exec_cuda.c and for timing (bench_cuda.c). */
#ifndef CNNC_RUNTIME_EXEC_CUDA_H
#define CNNC_RUNTIME_EXEC_CUDA_H
#include "runtime/cuda.h"
#include "runtime/exec.h"

enum { GPU_FUNCTIONS = 3, GPU_GRAPHS = 2 };
/* A function with its kernels in the loaded module. */
typedef struct { const CnncFunction *function; const CnncGpuFunction *gpu; CudaKernel *kernels; } GpuFunction;

typedef struct Gpu {
    Cuda cuda;
    CudaModule modules[CNNC_GPU_PARTS];   /* the parts of the text, for this GPU */
    int n_modules;
    CudaStream compute, upload;
    CudaStream lanes[CNNC_GPU_LANES];     /* while a call is recorded: of lane 0 it is compute */
    CudaKernel feed;         /* NULL when the text has none */
    GpuFunction functions[GPU_FUNCTIONS];
    int n_functions;
    CudaPtr state, consts, work, x, out;   /* x, out: of the largest batch */
} Gpu;

/* A call's staging block lies in pinned memory and once more on the device, and goes over in one copy:
 *     scalars | views | labels | samples or x       */
typedef struct GpuCall {
    const GpuFunction *function;
    char *host;
    CudaPtr device;
    int64_t views_at, labels_at, samples_at, sample_bytes;
    float *answer;           /* pinned: results, which kernels write there themselves, then out */
    bool wants_out;          /* a training step's outputs stay on the device */
    bool fed;
    CnncGpuFeed feed;        /* when fed; with device pointers */
    CudaPtr table;
    CudaEvent uploaded, done;
    bool started;
    CudaGraphExec graphs[GPU_GRAPHS];
    int64_t graph_n[GPU_GRAPHS];   /* samples each was captured for; 0: free */
    int next_graph;
} GpuCall;

/* Puts launch i of the call's function into a stream. */
bool gpu_launch(Gpu *g, const GpuCall *c, int i, int64_t n, CudaStream stream, RtError *e);
/* The call's inputs, as gpu_launch expects them, into the compute stream. */
bool gpu_stage(Gpu *g, const GpuCall *c, int64_t n, RtError *e);
/* The call's answer to the host, in the compute stream. */
bool gpu_fetch(Gpu *g, const GpuCall *c, int64_t n, const CnncModel *m, RtError *e);
/* exec_cuda_record.c: the call for n samples as a graph, or NULL. */
CudaGraphExec gpu_record(Gpu *g, const GpuCall *c, int64_t n, const CnncModel *m, RtError *e);
/* exec_cuda_time.c: see ExecDevice. */
bool gpu_profile(Exec *x, ExecCall *c, double *seconds, RtError *e);
bool gpu_peak(Exec *x, Peak *out, RtError *e);
#endif
