/* tune.c: --tune SECONDS.
 * In: a CodeGen ready to compile. Out: c->options.choices, the fastest measured, and a line that says so.
 * Idea: few choices matter and they hardly depend on each other, so one walk over them, changing one at a time, finds most of
 * what there is. A plan must be faster by more than the clock's noise. */
#include "frontend/commands/tune.h"
#include "runtime/bench.h"
#include <math.h>

static const double FASTER = 0.98, RUN_SECONDS = 0.1;
static const int32_t strips[] = {14, 20, 28, 42, 56};
enum { ROUNDS = 3 };

/* A compiled plan, loaded; seconds: its quickest call so far. */
typedef struct { CodeGen code; double seconds; } Trial;

typedef struct {
    bool training;
    double until, first;         /* when to stop; seconds of a call of the cost model's plan, once another is faster */
    Trial best;
    int plans;                   /* measured */
} Tuning;

static int time_session(const CodeGen *c, double *seconds)
{
    RtError e = {0};
    Session s;
    BenchResult r;
    SessionOptions so = {.threads = (int)c->cc->o->threads};
    if (!session_open(&s, c->model, &so, &e))
        return code_runtime_error(&e);
    int status = bench_session(&s, s.batch, RUN_SECONDS, &r, &e) ? EXIT_FINE : code_runtime_error(&e);
    *seconds = r.best;
    session_close(&s);
    return status;
}

static int time_steps(const CodeGen *c, double *seconds)
{
    RtError e = {0};
    BenchResult r;
    if (!bench_training(c->model, (int)c->cc->o->threads, &r, &e))
        return code_runtime_error(&e);
    *seconds = r.best;
    return EXIT_FINE;
}

static void trial_free(Trial *t)
{
    code_free(&t->code);
    if (t->code.programs)
        arena_free(t->code.programs);
    *t = (Trial){0};
}

/* Compiles a plan into memory of its own. */
static int trial_make(const CodeGen *c, const Choices *plan, bool training, Trial *out)
{
    *out = (Trial){.code = *c, .seconds = HUGE_VAL};
    out->code.programs = arena_new();
    out->code.options.choices = *plan;
    int status = training ? code_training_once(&out->code) : code_inference_once(&out->code);
    return status ? status : code_jit(&out->code);
}

static int trial_time(Trial *t, bool training)
{
    double seconds = 0;
    int status = training ? time_steps(&t->code, &seconds) : time_session(&t->code, &seconds);
    t->seconds = fmin(t->seconds, seconds);
    return status;
}

/* The two take turns, so that a busy machine slows both. */
static int race(Tuning *t, Trial *other)
{
    int status = EXIT_FINE;
    for (int i = 0; i < ROUNDS && !status; i++) {
        status = trial_time(&t->best, t->training);
        if (!status)
            status = trial_time(other, t->training);
    }
    t->plans++;
    return status;
}

/* Keeps a plan when it is faster than the best so far. */
static int try_plan(Tuning *t, const Choices *plan)
{
    Trial other;
    if (exec_seconds() > t->until)
        return EXIT_FINE;
    int status = trial_make(&t->best.code, plan, t->training, &other);
    if (!status)
        status = race(t, &other);
    if (!status && other.seconds < FASTER * t->best.seconds) {
        Trial slower = t->best;
        t->first = t->first > 0 ? t->first : slower.seconds;
        t->best = other;
        other = slower;
    }
    trial_free(&other);
    return status;
}

static int try_layouts(Tuning *t)
{
    int status = EXIT_FINE;
    bool several = t->best.code.cc->module.graph->batch > 1 && !t->training;
    for (LayoutWant want = LAYOUT_WANT_IMAGES; want < LAYOUT_WANTS && !status && several; want++) {
        Choices plan = t->best.code.options.choices;
        plan.layout = want;
        status = try_plan(t, &plan);
    }
    return status;
}

static int try_strips(Tuning *t)
{
    int status = EXIT_FINE;
    for (size_t i = 0; i < ARRAY_LEN(strips) && !status && t->best.code.options.winograd_layers; i++) {
        Choices plan = t->best.code.options.choices;
        plan.strip = strips[i];
        status = try_plan(t, &plan);
    }
    return status;
}

static int try_direct(Tuning *t)
{
    int status = EXIT_FINE;
    for (int i = 0; i < 64 && !status && i < t->best.code.options.winograd_layers; i++) {
        Choices plan = t->best.code.options.choices;
        plan.direct |= (uint64_t)1 << i;
        status = try_plan(t, &plan);
    }
    return status;
}

static void tell(const Tuning *t)
{
    const CodeGen *c = &t->best.code;
    const char *plan = choices_text(c->cc->arena, &c->options.choices);
    if (!c->cc->o->quiet && *plan)
        fprintf(stderr, "cnnc: %d plans measured, %.4g ms -> %.4g ms: %s\n", t->plans, 1e3 * t->first, 1e3 * t->best.seconds, plan);
    else if (!c->cc->o->quiet)
        fprintf(stderr, "cnnc: %d plans measured: the cost model's is the fastest, %.4g ms\n", t->plans, 1e3 * t->best.seconds);
}

static int tune(CodeGen *c, bool training)
{
    Tuning t = {.training = training, .until = exec_seconds() + c->cc->o->tune, .plans = 1};
    if (c->cc->o->target)
        return driver_error(EXIT_USAGE, "--tune runs the program: it cannot for another machine (--target)");
    if (!c->backend)
        return driver_error(EXIT_USAGE, "--tune measures plans for CPUs");
    if (c->cc->o->dump)
        return EXIT_FINE;
    int status = trial_make(c, &c->options.choices, training, &t.best);
    if (!status)
        status = trial_time(&t.best, training);
    if (!status)
        status = try_layouts(&t);
    if (!status)
        status = try_strips(&t);
    if (!status)
        status = try_direct(&t);
    if (!status)
        tell(&t);
    c->options.choices = t.best.code.options.choices;
    trial_free(&t.best);
    return status;
}

int tune_inference(CodeGen *c) { return tune(c, false); }
int tune_training(CodeGen *c) { return tune(c, true); }
