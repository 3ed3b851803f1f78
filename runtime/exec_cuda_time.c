/* Times of single kernels on a GPU, and its peaks.
 * In: a call whose inputs are filled. Out: seconds of each launch; operations and bytes a second.
 * Relies on launches that may be repeated: their values do not matter here. Idea: a launch is shorter than what events can tell
 * apart, so that it is timed many times in a row; the best of a few rows counts, since the clock rises with the work. */
#include "runtime/exec_cuda.h"

enum { ROWS = 5, IN_A_ROW = 20 };

static bool time_row(Gpu *g, const GpuCall *c, int i, int64_t n, CudaEvent from, CudaEvent to, double *seconds, RtError *e)
{
    const CudaApi *a = &g->cuda.api;
    float ms = 0;
    bool fine = cuda_fine(&g->cuda, a->event_record(from, g->compute), e, "timing");
    for (int k = 0; k < IN_A_ROW && fine; k++)
        fine = gpu_launch(g, c, i, n, g->compute, e);
    fine = fine && cuda_fine(&g->cuda, a->event_record(to, g->compute), e, "timing") &&
           cuda_fine(&g->cuda, a->event_wait(to), e, c->function->gpu->launches[i].name) &&
           cuda_fine(&g->cuda, a->event_ms(&ms, from, to), e, "timing");
    *seconds = 1e-3 * (double)ms / IN_A_ROW;
    return fine;
}

bool gpu_profile(Exec *x, ExecCall *call, double *seconds, RtError *e)
{
    Gpu *g = x->on_device;
    const GpuCall *c = call->on_device;
    const CudaApi *a = &g->cuda.api;
    CudaEvent from = NULL, to = NULL;
    bool fine = cuda_fine(&g->cuda, a->event_create(&from, 0), e, "timing") && cuda_fine(&g->cuda, a->event_create(&to, 0), e, "timing") &&
                gpu_stage(g, c, call->n, e);
    for (int i = 0; i < c->function->gpu->n_launches && fine; i++) {
        seconds[i] = 1e30;
        for (int row = 0; row < ROWS && fine; row++) {
            double s;
            fine = time_row(g, c, i, call->n, from, to, &s, e);
            seconds[i] = s < seconds[i] ? s : seconds[i];
        }
    }
    if (from)
        a->event_destroy(from);
    if (to)
        a->event_destroy(to);
    return fine;
}

/* Float32 multiply-adds a clock: 64 lanes in a multiprocessor of sm_80, 128 in the others. Memory moves twice a clock. */
bool gpu_peak(Exec *x, Peak *out, RtError *e)
{
    const Gpu *g = x->on_device;
    const CudaApi *a = &g->cuda.api;
    int clock = 0, memory_clock = 0, bus = 0, device = g->cuda.device;
    if (!cuda_fine(&g->cuda, a->device_attribute(&clock, CUDA_ATTR_CLOCK, device), e, "asking the GPU") ||
        !cuda_fine(&g->cuda, a->device_attribute(&memory_clock, CUDA_ATTR_MEMORY_CLOCK, device), e, "asking the GPU") ||
        !cuda_fine(&g->cuda, a->device_attribute(&bus, CUDA_ATTR_BUS_WIDTH, device), e, "asking the GPU"))
        return false;
    /* Multiply-adds of a multiprocessor in a cycle: products for workstations and games have fewer tensor cores. */
    int sm = g->cuda.sm;
    double lanes = sm == 80 ? 64 : 128, tensor = sm >= 100 && sm < 120 ? 4096 : sm == 90 ? 2048 : sm == 80 ? 1024 : 512;
    double each = 2.0 * g->cuda.multiprocessors * 1e3 * clock;
    *out = (Peak){{each * lanes, each * tensor / 2, each * tensor}, 2 * 1e3 * memory_clock * (bus / 8.0)};
    return true;
}
