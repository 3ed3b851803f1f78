/* The stage loop.
 * In: a CnncFunction and its arguments. Out: out, results and state as the function leaves them.
 * Invariant: scratch belongs to a thread, slices are fixed by the model, so that threads never change a bit.
 * Idea: a function is one job of the pool, a stage one step of it. What is too short to be worth another thread's attention
 * is run by whoever gets there; how long it takes is told by the plan, not by a clock. One thread goes through the samples to and fro. */
#include "runtime/stages.h"
#include <stdbool.h>
#include <time.h>

/* A whole call that takes less (ten microseconds) does not wake other threads. */
static const double CALL_CYCLES = 8 * CNNC_SHARE_CYCLES;

typedef struct {
    const StagesCall *call;
    bool alone;      /* nothing is shared */
    bool one;        /* thread, so that slices run one after the other */
    int64_t last;    /* >= 0: the stage's slices run from this one down */
    bool up;         /* the last stage on samples ran upwards */
    double opened;   /* when the stage that runs began, in ticks */
} Run;

/* The clock may be a system call of microseconds on virtual machines. */
double stages_ticks(void)
{
#if defined(__x86_64__)
    return (double)__builtin_ia32_rdtsc();
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
}

/* Slices that n samples need. */
static int64_t slices_needed(const CnncStage *s, int64_t n)
{
    if (s->samples_per_slice <= 0)
        return s->slices;
    int64_t needed = (n + s->samples_per_slice - 1) / s->samples_per_slice;
    return needed < s->slices ? needed : s->slices;
}

static double stage_cycles(const CnncFunction *f, const CnncStage *s, int64_t n) { return cnnc_stage_cycles(s, CNNC_BYTES_SHARED) * (double)n / f->batch; }

static bool call_is_small(const CnncFunction *f, int64_t n)
{
    double cycles = 0;
    for (int i = 0; i < f->n_stages; i++)
        cycles += stage_cycles(f, &f->stages[i], n);
    return cycles < CALL_CYCLES;
}

/* Slices worth handing out: 1 when there are none. */
static int64_t slices_to_share(const CnncFunction *f, const CnncStage *s, int64_t n)
{
    int64_t slices = slices_needed(s, n);
    return slices > 1 && stage_cycles(f, s, n) >= CNNC_SHARE_CYCLES ? slices : 1;
}

int stages_useful_threads(const CnncFunction *f, int64_t n)
{
    int64_t most = 1;
    for (int i = 0; i < f->n_stages && !call_is_small(f, n); i++)
        if (slices_to_share(f, &f->stages[i], n) > most)
            most = slices_to_share(f, &f->stages[i], n);
    return most < 1024 ? (int)most : 1024;
}

/* The ticks since the last stage began are that one's. */
static void count_ticks(Run *r, int stage)
{
    double now = r->call->ticks ? stages_ticks() : 0;
    if (r->call->ticks && stage > 0)
        r->call->ticks[stage - 1] += now - r->opened;
    r->opened = now;
}

static void run_slice(void *context, int thread, int stage, int64_t slice)
{
    const Run *r = context;
    const StagesCall *c = r->call;
    c->function->stages[stage].fn(c->args, c->scratch + c->stride * thread, r->last >= 0 ? r->last - slice : slice);
}

/* One thread takes the samples of a stage from the end where the stage before has stopped: those are still in the caches. */
static void turn(Run *r, const CnncStage *s, int64_t slices)
{
    bool samples = r->one && s->samples_per_slice > 0 && slices > 1;
    r->last = samples && r->up ? slices - 1 : -1;
    r->up = samples ? !r->up : r->up;
}

static int64_t open_stage(void *context, int thread, int stage)
{
    Run *r = context;
    const CnncFunction *f = r->call->function;
    const CnncStage *s = &f->stages[stage];
    int64_t n = r->call->args->n, slices = slices_needed(s, n);
    count_ticks(r, stage);
    turn(r, s, slices);
    if (!r->alone && slices_to_share(f, s, n) > 1)
        return slices;
    for (int64_t i = 0; i < slices; i++)
        run_slice(r, thread, stage, i);
    return 0;
}

static void run_all(Threads *t, const StagesCall *call)
{
    Run r = {.call = call, .alone = !t || call_is_small(call->function, call->args->n), .one = !t || threads_count(t) == 1};
    if (r.alone)
        for (int i = 0; i < call->function->n_stages; i++)
            open_stage(&r, 0, i);
    else
        threads_run_job(t, &(ThreadsJob){call->function->n_stages, open_stage, run_slice, &r});
    count_ticks(&r, call->function->n_stages);
}

/* Samples that are left to `single`. */
static int64_t samples_alone(const CnncFunction *f, int64_t n)
{
    int64_t rest = f->single ? n % f->block : 0;
    return rest <= f->rest ? rest : 0;
}

void stages_run(Threads *t, const StagesCall *call)
{
    const CnncFunction *f = call->function;
    CnncArgs args = *call->args;
    int64_t n = args.n, alone = samples_alone(f, n);
    StagesCall part = *call;
    part.args = &args;
    args.n = n - alone;
    if (args.n > 0)
        run_all(t, &part);
    part.function = f->single;
    part.ticks = NULL;
    for (int64_t i = n - alone; i < n; i++) {
        args.in = call->args->in + i * f->in_floats;
        args.out = call->args->out + i * f->out_floats;
        args.n = 1;
        run_all(t, &part);
    }
}
