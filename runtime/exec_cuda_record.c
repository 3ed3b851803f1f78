/* A call on a GPU as one CUDA graph.
 * In: a call with its launches, and for how many samples. Out: a graph that stages the samples, runs the launches and fetches the answer.
 * Relies on launches that say which lane they are in and what they wait for (abi.h). Idea: the compute stream is recorded; lanes beside
 * the first are streams that begin behind its start and that it waits for at the end, so that what waits for nothing of each other can
 * run at the same time. */
#include "runtime/exec_cuda.h"

#include <stdlib.h>

typedef struct {
    Gpu *g;
    const GpuCall *c;
    int64_t n;
    CudaEvent *done;         /* [0]: the samples are there; [i + 1]: launch i is done; NULL: all is one lane */
    bool begun[CNNC_GPU_LANES];
    int last[CNNC_GPU_LANES];   /* event of each lane's last launch */
    RtError *e;
} Recording;

static bool mark(Recording *r, int event, int lane)
{
    return !r->done || cuda_fine(&r->g->cuda, r->g->cuda.api.event_record(r->done[event], r->g->lanes[lane]), r->e, "recording the call");
}

static bool wait_for(Recording *r, int lane, int event)
{
    return cuda_fine(&r->g->cuda, r->g->cuda.api.stream_wait_event(r->g->lanes[lane], r->done[event], 0), r->e, "recording the call");
}

static bool launch(Recording *r, int i)
{
    const CnncGpuLaunch *l = &r->c->function->gpu->launches[i];
    bool fine = r->begun[l->lane] || wait_for(r, l->lane, 0);
    for (int lane = 0; lane < CNNC_GPU_LANES && fine; lane++)
        fine = !l->after[lane] || wait_for(r, l->lane, l->after[lane]);
    r->begun[l->lane] = true;
    r->last[l->lane] = i + 1;
    return fine && gpu_launch(r->g, r->c, i, r->n, r->g->lanes[l->lane], r->e) && mark(r, i + 1, l->lane);
}

static bool issue(Recording *r, const CnncModel *m)
{
    bool fine = gpu_stage(r->g, r->c, r->n, r->e) && mark(r, 0, 0);
    r->begun[0] = true;
    for (int i = 0; i < r->c->function->gpu->n_launches && fine; i++)
        fine = launch(r, i);
    for (int lane = 1; lane < CNNC_GPU_LANES && fine; lane++)
        fine = !r->begun[lane] || wait_for(r, 0, r->last[lane]);
    return fine && gpu_fetch(r->g, r->c, r->n, m, r->e);
}

/* Events for all launches, when there are lanes beside the first. */
static bool open_events(Recording *r)
{
    const CnncGpuFunction *f = r->c->function->gpu;
    bool several = false;
    for (int i = 0; i < f->n_launches; i++)
        several = several || f->launches[i].lane;
    if (!several)
        return true;
    size_t n = (size_t)f->n_launches + 1;
    r->done = calloc(n, sizeof *r->done);
    if (!r->done)
        return rt_error_memory(r->e, n * sizeof *r->done);
    for (size_t i = 0; i < n; i++)
        if (!cuda_fine(&r->g->cuda, r->g->cuda.api.event_create(&r->done[i], CUDA_EVENT_NO_TIMING), r->e, "recording the call"))
            return false;
    return true;
}

static void close_events(Recording *r)
{
    for (int i = 0; r->done && i <= r->c->function->gpu->n_launches; i++)
        if (r->done[i])
            r->g->cuda.api.event_destroy(r->done[i]);
    free(r->done);
}

CudaGraphExec gpu_record(Gpu *g, const GpuCall *c, int64_t n, const CnncModel *m, RtError *e)
{
    const CudaApi *a = &g->cuda.api;
    Recording r = {.g = g, .c = c, .n = n, .e = e};
    CudaGraph graph = NULL;
    CudaGraphExec out = NULL;
    if (open_events(&r) && cuda_fine(&g->cuda, a->capture_begin(g->compute, CUDA_CAPTURE_THREAD_LOCAL), e, "recording the call")) {
        bool fine = issue(&r, m);
        int ended = a->capture_end(g->compute, &graph);
        if (fine && cuda_fine(&g->cuda, ended, e, "recording the call") &&
            !cuda_fine(&g->cuda, a->graph_instantiate(&out, graph, 0), e, "recording the call"))
            out = NULL;
    }
    if (graph)
        a->graph_destroy(graph);
    close_events(&r);
    return out;
}
