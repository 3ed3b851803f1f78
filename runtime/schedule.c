/* Learning-rate schedules.
 * In: the numbers of the train block. Out: learning rate and momentum of each step.
 * Invariant: the same operations in the same order as torch.optim.lr_scheduler's chainable forms, so that both round alike;
 * `now` alone decides what comes next.
 * Idea: OneCycle and CosineAnnealing are functions of the count (and the last value); the others multiply the last value. */
#include "runtime/schedule.h"
#include <math.h>

/* Places in CnncTrain.sched */
enum { STEP_SIZE, STEP_GAMMA };
enum { COSINE_T_MAX, COSINE_ETA_MIN };
enum { ONE_MAX_LR, ONE_PCT, ONE_DIV, ONE_FINAL_DIV, ONE_BASE_M, ONE_MAX_M, ONE_THREE_PHASE, ONE_LINEAR, ONE_CYCLE_M, ONE_FASTAI };
enum { PLATEAU_FACTOR, PLATEAU_PATIENCE, PLATEAU_THRESHOLD, PLATEAU_MIN_LR, PLATEAU_MODE, PLATEAU_COOLDOWN };

static const double PI = 3.14159265358979323846;

/* One phase of OneCycle: from the phase before (or 0) to `end`. */
typedef struct {
    double end, lr0, lr1, m0, m1;
} Phase;

static double anneal(const double *p, double start, double end, double at)
{
    if (p[ONE_LINEAR] != 0)
        return (end - start) * at + start;
    return end + (start - end) / 2.0 * (cos(PI * at) + 1);
}

static int onecycle_phases(const double *p, int64_t total, Phase out[3])
{
    double t = (double)total, max = p[ONE_MAX_LR], first = max / p[ONE_DIV], last = first / p[ONE_FINAL_DIV];
    double high = p[ONE_MAX_M], low = p[ONE_BASE_M];
    if (p[ONE_FASTAI] != 0) { /* positions are step/total and never reach the end */
        out[0] = (Phase){p[ONE_PCT] * t, first, max, high, low};
        out[1] = (Phase){t, max, max / p[ONE_FINAL_DIV], low, high};
        return 2;
    }
    out[0] = (Phase){p[ONE_PCT] * t - 1, first, max, high, low};
    if (p[ONE_THREE_PHASE] == 0) {
        out[1] = (Phase){t - 1, max, last, low, high};
        return 2;
    }
    out[1] = (Phase){2 * p[ONE_PCT] * t - 2, max, first, low, high};
    out[2] = (Phase){t - 1, first, last, high, high};
    return 3;
}

static void onecycle(Schedule *s)
{
    const double *p = s->train->sched;
    Phase phase[3];
    int n = onecycle_phases(p, s->total, phase);
    double at = (double)s->now.count, start = 0;
    for (int i = 0; i < n; i++) {
        bool inside = p[ONE_FASTAI] != 0 ? at < phase[i].end : at <= phase[i].end;
        if (inside || i == n - 1) {
            double part = (at - start) / (phase[i].end - start);
            s->now.lr = anneal(p, phase[i].lr0, phase[i].lr1, part);
            if (p[ONE_CYCLE_M] != 0)
                s->now.momentum = anneal(p, phase[i].m0, phase[i].m1, part);
            return;
        }
        start = phase[i].end;
    }
}

/* A phase that ends where it starts divides by zero when a step falls into it (the last phase takes all that are left). */
static bool onecycle_check(const Schedule *s, RtError *e)
{
    const double *p = s->train->sched;
    Phase phase[3];
    int n = onecycle_phases(p, s->total, phase);
    double start = 0;
    for (int i = 0; i < n; i++) {
        bool open = p[ONE_FASTAI] != 0;                                    /* a step at the end belongs to the next phase */
        double first = i == 0 ? 0 : open ? ceil(start) : floor(start) + 1; /* the first step that looks at this phase */
        bool visited = i == n - 1 ? first <= (double)(s->total - 1) : open ? first < phase[i].end : first <= phase[i].end;
        if (visited && !(phase[i].end > start))
            return rt_error(
                e, RT_FAIL,
                "OneCycleLR over %lld steps with pct_start=%g has a phase of no length; train for more steps or change pct_start",
                (long long)s->total, p[ONE_PCT]);
        start = phase[i].end;
    }
    return true;
}

static void cosine(Schedule *s)
{
    const double t_max = s->train->sched[COSINE_T_MAX], eta_min = s->train->sched[COSINE_ETA_MIN], n = (double)s->now.count;
    if (fmod(n - 1 - t_max, 2 * t_max) == 0)
        s->now.lr += (s->train->lr - eta_min) * (1 - cos(PI / t_max)) / 2;
    else
        s->now.lr = (1 + cos(PI * n / t_max)) / (1 + cos(PI * (n - 1) / t_max)) * (s->now.lr - eta_min) + eta_min;
}

static void plateau(Schedule *s, double value)
{
    const double *p = s->train->sched;
    ScheduleState *now = &s->now;
    bool better = p[PLATEAU_MODE] != 0 ? value > now->best * (p[PLATEAU_THRESHOLD] + 1.0)
                                       : value < now->best * (1.0 - p[PLATEAU_THRESHOLD]);
    now->best = better ? value : now->best;
    now->bad = better ? 0 : now->bad + 1;
    if (now->cooldown > 0) {
        now->cooldown--;
        now->bad = 0;
    }
    if ((double)now->bad > p[PLATEAU_PATIENCE]) {
        double lr = fmax(now->lr * p[PLATEAU_FACTOR], p[PLATEAU_MIN_LR]);
        if (now->lr - lr > 1e-8) /* torch's eps: smaller changes are left out */
            now->lr = lr;
        now->cooldown = (int64_t)p[PLATEAU_COOLDOWN];
        now->bad = 0;
    }
}

bool schedule_init(Schedule *s, const CnncTrain *train, int64_t steps_per_epoch, int64_t epochs, RtError *e)
{
    bool adam = train->optimizer == CNNC_OPT_ADAM || train->optimizer == CNNC_OPT_ADAMW;
    *s = (Schedule){.train = train, .total = steps_per_epoch * epochs};
    s->now = (ScheduleState){.lr = train->lr, .momentum = adam ? train->beta1 : train->momentum};
    switch (train->schedule) {
    case CNNC_SCHED_STEP:
        if (train->sched[STEP_SIZE] < 1)
            return rt_error(e, RT_FAIL, "StepLR's step_size is %g; it counts epochs and must be at least 1",
                            train->sched[STEP_SIZE]);
        return true;
    case CNNC_SCHED_COSINE:
        if (train->sched[COSINE_T_MAX] < 1)
            return rt_error(e, RT_FAIL, "CosineAnnealingLR's T_max is %g; it counts epochs and must be at least 1",
                            train->sched[COSINE_T_MAX]);
        return true;
    case CNNC_SCHED_ONECYCLE:
        if (s->total < 1)
            return rt_error(e, RT_FAIL, "OneCycleLR has no steps to run over");
        if (!onecycle_check(s, e))
            return false;
        onecycle(s);
        return true;
    case CNNC_SCHED_PLATEAU:
        s->now.best = train->sched[PLATEAU_MODE] != 0 ? -INFINITY : INFINITY;
        return true;
    default:
        return true;
    }
}

void schedule_step_batch(Schedule *s)
{
    if (s->train->schedule != CNNC_SCHED_ONECYCLE)
        return;
    s->now.count++;
    if (s->now.count < s->total) /* past the end the last value stays */
        onecycle(s);
}

void schedule_step_epoch(Schedule *s, double loss, double accuracy)
{
    const CnncTrain *t = s->train;
    if (t->schedule == CNNC_SCHED_ONECYCLE)
        return;
    s->now.count++;
    switch (t->schedule) {
    case CNNC_SCHED_STEP:
        if (s->now.count % (int64_t)t->sched[STEP_SIZE] == 0)
            s->now.lr *= t->sched[STEP_GAMMA];
        break;
    case CNNC_SCHED_MULTISTEP: {
        int times = 0;
        for (int i = 0; i < t->n_milestones; i++)
            times += t->milestones[i] == s->now.count;
        if (times)
            s->now.lr *= pow(t->sched[0], times);
        break;
    }
    case CNNC_SCHED_EXPONENTIAL:
        s->now.lr *= t->sched[0];
        break;
    case CNNC_SCHED_COSINE:
        cosine(s);
        break;
    case CNNC_SCHED_PLATEAU:
        plateau(s, t->sched[PLATEAU_MODE] != 0 ? accuracy : loss);
        break;
    default:
        break;
    }
}
