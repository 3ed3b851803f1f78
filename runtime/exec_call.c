/* Calls, and the CPU as a device.
 * In: an Exec, what the caller put into a call. Out: its outputs and results.
 * Invariant: what a call computes depends on its inputs and the state alone, whatever the device and the calls in flight.
 * Idea: training and evaluation start calls and finish them later; the CPU finishes each before it returns. */
#include "runtime/eval.h"
#include "runtime/exec.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

bool exec_put_state(Exec *x, RtError *e) { return x->device->put_state(x, e); }
bool exec_get_state(Exec *x, RtError *e) { return x->device->get_state(x, e); }
bool exec_start(Exec *x, ExecCall *c, RtError *e) { return x->device->start(x, c, e); }
bool exec_finish(Exec *x, ExecCall *c, RtError *e) { return x->device->finish(x, c, e); }

bool exec_call_open(Exec *x, ExecCall *c, const ExecCallShape *shape, RtError *e)
{
    *c = (ExecCall){.function = shape->function, .batch = shape->batch};
    if (x->device->call_open(x, c, shape, e))
        return true;
    exec_call_close(x, c);
    return false;
}

void exec_call_close(Exec *x, ExecCall *c)
{
    if (c->function)
        x->device->call_close(x, c);
    *c = (ExecCall){0};
}

/* ---- the CPU ---- */

static void *zeroed(int64_t bytes)
{
    size_t size = ((size_t)bytes + ALIGN) / ALIGN * ALIGN;
    void *at = aligned_alloc(ALIGN, size);
    if (at)
        memset(at, 0, size);
    return at;
}

static bool cpu_open(Exec *x, const CnncFunction *const *functions, int n, RtError *e)
{
    (void)x, (void)functions, (void)n, (void)e;
    return true;
}

static void cpu_close(Exec *x) { (void)x; }

static bool cpu_state(Exec *x, RtError *e)
{
    (void)x, (void)e;
    return true;
}

static bool cpu_call_open(Exec *x, ExecCall *c, const ExecCallShape *shape, RtError *e)
{
    int64_t in = 4 * shape->batch * model_in_size(x->model), out = 4 * shape->batch * model_out_size(x->model);
    int64_t labels = shape->batch * shape->label_bytes;
    c->x = zeroed(in);
    c->out = zeroed(out);
    c->labels = labels ? zeroed(labels) : NULL;
    return (c->x && c->out && (c->labels || !labels)) || rt_error_memory(e, (unsigned long long)(in + out + labels));
}

static void cpu_call_close(Exec *x, ExecCall *c)
{
    (void)x;
    free(c->x);
    free(c->out);
    free(c->labels);
}

static bool cpu_start(Exec *x, ExecCall *c, RtError *e)
{
    (void)e;
    CnncArgs args = {
        .in = c->x, .labels = c->labels, .out = c->out, .scalars = c->scalars, .results = c->results, .n = c->n};
    exec_run(x, c->function, &args);
    return true;
}

static bool cpu_finish(Exec *x, ExecCall *c, RtError *e)
{
    (void)x, (void)c, (void)e;
    return true;
}

const ExecDevice exec_cpu = {
    .depth = 1,
    .open = cpu_open,
    .close = cpu_close,
    .put_state = cpu_state,
    .get_state = cpu_state,
    .call_open = cpu_call_open,
    .call_close = cpu_call_close,
    .start = cpu_start,
    .finish = cpu_finish,
};
