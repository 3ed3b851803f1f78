/* The loop of a training run.
 * In: a TrainRun that is set up, perhaps by a checkpoint in the middle of an epoch. Out: weights, checkpoint, log lines.
 * Invariant: TrainState says at every step where the run stands; the epoch's order is drawn again from `rng`, which is that
 * of the epoch's start until the epoch ends. What a step computes depends on the state block and TrainState alone. Nothing is
 * saved or evaluated before the losses of all steps started are in.
 * Idea: a signal only sets a flag, which is looked at between steps; the first one saves and ends, a second one kills. */
#include "runtime/rng.h"
#include "runtime/train_run.h"
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_DROPOUT = 0x64726f70 };
static const double SECONDS_BETWEEN_EPOCH_SAVES = 1, SECONDS_BETWEEN_STEP_SAVES = 300;

/* Set by the handler alone: the one piece of file-scope state, as signals need. */
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = 1;
    signal(number, SIG_DFL);
}

static void note(TrainRun *r, const char *text, const char *what)
{
    progress_clear(&r->progress);
    if (r->options->progress)
        fprintf(r->options->progress, text, what);
}

/* ---- saving ---- */

static bool save_checkpoint(TrainRun *r, RtError *e)
{
    if (!r->checkpoint)
        return true;
    r->state.schedule = r->schedule.now;
    r->saved_at = exec_seconds();
    return exec_get_state(r->exec, e) && checkpoint_write(r->checkpoint, &r->model, r->exec->state, &r->facts, &r->state, e);
}

static bool save(TrainRun *r, RtError *e)
{
    train_log_flush(&r->log);
    return save_checkpoint(r, e) && exec_get_state(r->exec, e) &&
           (!r->options->out || checkpoint_write_weights(r->options->out, &r->model, r->exec->state, &r->facts, e));
}

/* In the middle of a run a full disk is no reason to lose it: the old checkpoint is whole, and the end tries again. */
static void save_or_warn(TrainRun *r, bool whole)
{
    RtError e = {0};
    if (!(whole ? save(r, &e) : save_checkpoint(r, &e)))
        note(r, "warning: %s; training goes on\n", e.text);
}

static bool save_best(TrainRun *r, RtError *e)
{
    TrainState *t = &r->state;
    const TrainResult *s = &r->result;
    double score = !isnan(s->accuracy) ? s->accuracy : !isnan(s->valid_loss) ? -s->valid_loss : -s->train_loss;
    if (!r->options->best || (t->has_best && !(score > t->best)))
        return true;
    t->has_best = true;
    t->best = score;
    return exec_get_state(r->exec, e) && checkpoint_write_weights(r->options->best, &r->model, r->exec->state, &r->facts, e);
}

/* ---- one step ---- */

static void set_scalars(const TrainRun *r, float scalars[CNNC_SC_COUNT])
{
    const CnncTrain *t = &r->train;
    bool adam = t->optimizer == CNNC_OPT_ADAM || t->optimizer == CNNC_OPT_ADAMW;
    double count = (double)(r->state.step + 1), beta1 = adam ? r->schedule.now.momentum : t->beta1;
    uint32_t seed = (uint32_t)rng_hash(t->seed, STREAM_DROPOUT, (uint64_t)r->state.step);
    scalars[CNNC_SC_LR] = (float)r->schedule.now.lr;
    scalars[CNNC_SC_MOMENTUM] = (float)r->schedule.now.momentum;
    scalars[CNNC_SC_BIAS1] = (float)(1 - pow(beta1, count));
    scalars[CNNC_SC_BIAS2] = (float)(1 - pow(t->beta2, count));
    scalars[CNNC_SC_FIRST] = r->state.step == 0 ? 1.0f : 0.0f;
    memcpy(&scalars[CNNC_SC_SEED], &seed, sizeof seed);
}

/* Waits for the oldest step in flight and tells its loss. */
static bool take_loss(TrainRun *r, RtError *e)
{
    TrainState *t = &r->state;
    int at = batcher_finish(&r->batcher, e);
    if (at < 0)
        return false;
    const StepNote *s = &r->notes[at];
    int64_t n = r->batcher.calls[at].n;
    float loss = r->batcher.calls[at].results[CNNC_RES_LOSS];
    train_log_step(&r->log, s->step, s->epoch, loss, s->lr, s->momentum);
    if (!isfinite(loss)) {
        progress_clear(&r->progress);
        return rt_error(e, RT_FAIL, "the loss became %s at step %lld of epoch %lld, with a learning rate of %g; %s",
                        isnan(loss) ? "NaN" : "infinite", (long long)s->position + 1, (long long)s->epoch + 1, s->lr,
                        "a smaller one (--lr) usually helps");
    }
    t->loss_sum += (double)loss * (double)n;
    t->loss_n += n;
    progress_step(&r->progress, s->epoch, s->position, n, (double)loss);
    return true;
}

static bool take_all_losses(TrainRun *r, RtError *e)
{
    while (r->batcher.in_flight > 0)
        if (!take_loss(r, e))
            return false;
    return true;
}

/* Starts a step; the loss of an earlier one comes in while the device works. */
static bool step(TrainRun *r, RtError *e)
{
    TrainState *t = &r->state;
    int64_t first = t->position * t->batch, n = t->samples - first < t->batch ? t->samples - first : t->batch;
    float scalars[CNNC_SC_COUNT];
    set_scalars(r, scalars);
    int at = batcher_start(&r->batcher, r->order + first, n, t->epoch, scalars, e);
    if (at < 0)
        return false;
    r->notes[at] = (StepNote){t->step, t->epoch, t->position, r->schedule.now.lr, r->schedule.now.momentum};
    t->position++;
    t->step++;
    schedule_step_batch(&r->schedule);
    return !batcher_full(&r->batcher) || take_loss(r, e);
}

/* ---- one epoch ---- */

static void print_epoch(TrainRun *r, double rate)
{
    FILE *to = r->options->progress;
    const TrainResult *s = &r->result;
    progress_clear(&r->progress);
    if (!to)
        return;
    fprintf(to, "epoch %lld/%d  train_loss %.4f", (long long)r->state.epoch + 1, r->train.epochs, s->train_loss);
    if (r->data.has_valid)
        fprintf(to, "  valid_loss %.4f", s->valid_loss);
    if (!isnan(s->accuracy))
        fprintf(to, "  accuracy %.2f %%", 100 * s->accuracy);
    fprintf(to, "  %.1f s  %.0f images/s\n", s->seconds, rate);
    fflush(to);
}

static bool evaluate(TrainRun *r, RtError *e)
{
    if (!r->data.has_valid)
        return true;
    Metrics *m = &r->metrics;
    m->n = m->correct = 0;
    m->loss_sum = 0;
    r->eval.stop = &interrupted;
    if (!eval_run(&r->eval, m, e))
        return false;
    r->result.valid_loss = metrics_loss(m);
    r->result.accuracy = metrics_accuracy(m);
    return true;
}

/* After the last step of an epoch; `after` is the generator behind the epoch's order. */
static bool end_epoch(TrainRun *r, const Rng *after, RtError *e)
{
    TrainState *t = &r->state;
    double rate = progress_images_per_second(&r->progress);
    r->result.train_loss = t->loss_n ? t->loss_sum / (double)t->loss_n : NAN;
    if (interrupted || !evaluate(r, e))
        return interrupted; /* the epoch is not over: a resumed run comes back to here */
    r->result.seconds = exec_seconds() - r->progress.epoch_start;
    r->result.images_per_second = rate;
    EpochLine line = {
        t->epoch,           r->result.train_loss, r->data.has_valid, !isnan(r->result.accuracy), r->result.valid_loss,
        r->result.accuracy, r->result.seconds};
    train_log_epoch(&r->log, &line);
    print_epoch(r, rate);
    if (r->options->on_epoch)
        r->options->on_epoch(r->options->context, t->epoch, r->result.train_loss, r->result.valid_loss, r->result.accuracy);
    schedule_step_epoch(&r->schedule, r->data.has_valid ? r->result.valid_loss : r->result.train_loss,
                        isnan(r->result.accuracy) ? 0 : r->result.accuracy);
    t->epoch++;
    t->position = 0;
    t->rng = *after;
    t->loss_sum = 0;
    t->loss_n = 0;
    return save_best(r, e);
}

static bool stop_here(const TrainRun *r) { return interrupted || (r->options->steps > 0 && r->state.step >= r->options->steps); }

/* Steps of the epoch that are left; false: an error. Ends early when stop_here. */
static bool run_epoch(TrainRun *r, RtError *e)
{
    TrainState *t = &r->state;
    Rng after = t->rng;
    rng_epoch_order(&after, r->train.shuffle, t->samples, r->order);
    progress_begin_epoch(&r->progress);
    while (t->position < r->steps_per_epoch) {
        if (stop_here(r))
            return take_all_losses(r, e);
        if (!step(r, e))
            return false;
        if (exec_seconds() - r->saved_at > SECONDS_BETWEEN_STEP_SAVES) {
            if (!take_all_losses(r, e))
                return false;
            save_or_warn(r, false);
        }
    }
    return take_all_losses(r, e) && end_epoch(r, &after, e);
}

static bool run_epochs(TrainRun *r, RtError *e)
{
    while (r->state.epoch < r->train.epochs && !stop_here(r)) {
        if (!run_epoch(r, e))
            return false;
        bool last = r->state.epoch >= r->train.epochs;
        if (!last && r->state.position == 0 && exec_seconds() - r->saved_at > SECONDS_BETWEEN_EPOCH_SAVES)
            save_or_warn(r, true);
    }
    r->result.epochs = r->state.epoch;
    r->result.steps = r->state.step;
    if (!save(r, e))
        return false;
    if (!interrupted)
        return true;
    return rt_error(e, RT_INTERRUPTED,
                    r->checkpoint ? "interrupted after step %lld; go on with --resume %s" : "interrupted after step %lld%s",
                    (long long)r->state.step, r->checkpoint ? r->checkpoint : "");
}

bool train_loop(TrainRun *r, RtError *e)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old_int, old_term;
    int64_t total = r->steps_per_epoch * r->train.epochs;
    if (r->options->steps > 0 && r->options->steps < total)
        total = r->options->steps;
    progress_start(&r->progress, r->options->progress, r->train.epochs, r->steps_per_epoch, total);
    if (r->state.step > 0 && r->options->progress)
        fprintf(r->options->progress, "resumed after step %lld, in epoch %lld of %d\n", (long long)r->state.step,
                (long long)r->state.epoch + 1, r->train.epochs);
    r->saved_at = exec_seconds();
    interrupted = 0;
    sigaction(SIGINT, &act, &old_int);
    sigaction(SIGTERM, &act, &old_term);
    bool fine = run_epochs(r, e);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    progress_clear(&r->progress);
    return fine;
}
