/* Setting up a training run.
 * In: a model with its step function, options. Out: trained weights, checkpoint, log.
 * Invariant: random numbers are drawn in one order whatever the options: initial weights (also when others are loaded),
 * the split, then each epoch's order; so runs line up with PyTorch's, and a resumed run with the uninterrupted one.
 * Idea: all that lives during the run is one TrainRun, made step by step and freed in one place. */
#include "runtime/train.h"
#include "runtime/cores.h"
#include "runtime/file.h"
#include "runtime/init.h"
#include "runtime/train_run.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void apply_options(TrainRun *r, const CnncModel *model, const TrainOptions *o)
{
    r->options = o;
    r->train = *model->train;
    if (o->epochs > 0)
        r->train.epochs = (int32_t)o->epochs;
    if (o->batch > 0)
        r->train.batch_size = (int32_t)o->batch;
    if (o->has_seed)
        r->train.seed = o->seed;
    if (o->no_shuffle)
        r->train.shuffle = 0;
    if (o->has_lr) {
        r->train.lr = o->lr;
        if (r->train.schedule == CNNC_SCHED_ONECYCLE)
            r->train.sched[0] = o->lr; /* max_lr */
    }
    r->model = *model;
    r->model.train = &r->train;
}

static bool check_model(const TrainRun *r, RtError *e)
{
    const CnncModel *m = &r->model;
    if (!m->step)
        return rt_error(e, RT_USAGE, "this program was built without training");
    if (r->train.batch_size > m->step->batch)
        return rt_error(e, RT_USAGE, "the batch is %d, but the program was built for at most %d (--batch at build time)",
                        r->train.batch_size, m->step->batch);
    return true;
}

static bool init_weights(TrainRun *r, RtError *e)
{
    const CnncModel *m = &r->model;
    const char *path = r->options->weights;
    rng_seed(&r->state.rng, r->train.seed);
    init_state(m->tensors, m->n_tensors, &r->state.rng, r->exec->state, m->state_bytes);
    if (!path || r->options->resume)
        return true;
    WeightsFile w = {0};
    WeightsMatch match;
    if (!weights_read(path, &w, e))
        return false;
    bool fine = weights_load(&w, path, m->tensors, m->n_tensors, r->options->partial, false, r->exec->state, &match, e);
    weights_free(&w);
    if (fine && r->options->partial && r->options->progress)
        fprintf(r->options->progress, "%s: %d tensors loaded, %d missing, %d extra, %d of another shape\n", path, match.loaded,
                match.missing, match.extra, match.misshapen);
    return fine;
}

static bool open_data(TrainRun *r, RtError *e)
{
    DataRequest q = data_request(&r->model);
    if (q.kind == CNNC_DATA_NONE)
        return rt_error(e, RT_FILE,
                        "the model names no training data: add a line such as data = MNIST(\"folder\") to its train block");
    char *paths = data_request_path(&q, r->options->data);
    q.want_train = q.want_valid = true;
    bool fine = data_open(&q, &r->data, e) && data_split(&r->data, r->train.valid_fraction, &r->state.rng, e);
    free(paths);
    if (fine && r->data.train.n == 0)
        return rt_error(e, RT_FILE, "there are no training samples");
    return fine;
}

static bool set_norm(TrainRun *r, RtError *e)
{
    const CnncModel *m = &r->model;
    r->norm = (DataNorm){m->n_mean, m->mean, m->std};
    if (m->n_mean < 0) {
        int32_t channels = (int32_t)r->data.train.shape[0];
        r->mean = calloc((size_t)channels, sizeof *r->mean);
        r->std = calloc((size_t)channels, sizeof *r->std);
        if (!r->mean || !r->std)
            return rt_error_memory(e, (size_t)channels * sizeof *r->mean);
        if (!data_statistics(&r->data.train, r->mean, r->std, e))
            return false;
        r->norm = (DataNorm){channels, r->mean, r->std};
    }
    r->facts = (WeightsFacts){m->class_names, m->n_classes, r->norm.n, r->norm.mean, r->norm.std};
    if (m->n_classes <= 0 && r->data.train.class_names)
        r->facts = (WeightsFacts){(const char *const *)r->data.train.class_names, r->data.train.n_classes, r->norm.n,
                                  r->norm.mean, r->norm.std};
    return true;
}

/* Does a BatchNorm see one value per channel when the batch has one sample? PyTorch refuses to train on that. */
static bool needs_two_samples(const CnncModel *m)
{
    for (int i = 0; i < m->n_layers; i++) {
        const CnncLayer *l = &m->layers[i];
        int64_t per_channel = 1;
        for (int d = 1; d < l->rank; d++)
            per_channel *= l->shape[d];
        if (strstr(l->type, "BatchNorm") && per_channel == 1)
            return true;
    }
    return false;
}

static bool count_steps(TrainRun *r, RtError *e)
{
    int64_t n = r->data.train.n, batch = r->train.batch_size, last = n % batch;
    r->steps_per_epoch = (n + batch - 1) / batch;
    if ((last == 1 || batch == 1) && needs_two_samples(&r->model)) {
        if (batch == 1 || n == 1)
            return rt_error(e, RT_FAIL, "BatchNorm cannot train on batches of one sample: it would see one value per channel");
        r->steps_per_epoch--;
        if (r->options->progress)
            fprintf(r->options->progress,
                    "warning: the last batch of each epoch has one sample, which BatchNorm cannot train on, and is dropped (%lld "
                    "samples, batch %lld)\n",
                    (long long)n, (long long)batch);
    }
    return true;
}

static bool make_buffers(TrainRun *r, RtError *e)
{
    const CnncModel *m = &r->model;
    r->augment = (AugmentPlan){r->train.augment, r->train.n_augment, r->train.seed};
    r->order = malloc((size_t)r->data.train.n * sizeof *r->order);
    if (!r->order)
        return rt_error_memory(e, (size_t)r->data.train.n * sizeof *r->order);
    if (!batcher_init(&r->batcher, r->exec, m->step, &r->data.train, &r->norm, &r->augment, r->train.batch_size, e))
        return false;
    if (!r->data.has_valid || r->data.valid.n == 0 || !m->eval) {
        r->data.has_valid = false;
        return true;
    }
    return metrics_init(&r->metrics, metrics_loss_of(&r->train), r->train.smoothing, (int32_t)model_out_size(m), 0, e) &&
           eval_init(&r->eval, r->exec, m->eval, &r->data.valid, &r->norm, e);
}

/* The checkpoint named by --resume, or the one beside the weights it names. */
static bool read_checkpoint(TrainRun *r, RtError *e)
{
    const char *path = r->options->resume;
    char *beside = checkpoint_path(path);
    bool use = beside && file_exists(beside);
    bool fine = checkpoint_read(use ? beside : path, &r->model, r->exec->state, &r->state, e);
    free(beside);
    return fine;
}

static bool resume(TrainRun *r, RtError *e)
{
    TrainState *t = &r->state;
    const char *path = r->options->resume;
    uint64_t seed = r->train.seed;
    int64_t samples = r->data.train.n, batch = r->train.batch_size;
    if (!path)
        return true;
    if (!read_checkpoint(r, e))
        return false;
    if (t->seed != seed)
        return rt_error(e, RT_FILE, "%s was trained with seed %llu, not %llu; resume with --seed %llu", path,
                        (unsigned long long)t->seed, (unsigned long long)seed, (unsigned long long)t->seed);
    if (t->batch != batch)
        return rt_error(e, RT_FILE, "%s was trained with batches of %lld, not %lld; resume with --batch %lld", path,
                        (long long)t->batch, (long long)batch, (long long)t->batch);
    if (t->samples != samples)
        return rt_error(e, RT_FILE, "%s was trained on %lld samples, but the data has %lld", path, (long long)t->samples,
                        (long long)samples);
    if (t->shuffle != r->train.shuffle)
        return rt_error(e, RT_FILE, "%s was trained %s shuffling; resume it so", path, t->shuffle ? "with" : "without");
    if (t->position > r->steps_per_epoch)
        return rt_error(e, RT_FILE, "%s is a damaged checkpoint: it stands past the end of an epoch", path);
    r->schedule.now = t->schedule;
    return true;
}

/* As many threads as asked for, but no more than would ever find a slice: of a step, an evaluation, or a batch. */
static int count_threads(const TrainRun *r)
{
    const CnncModel *m = &r->model;
    int wanted = r->options->threads > 0 ? r->options->threads : cores_allowed();
    int step = stages_useful_threads(m->step, m->step->batch), eval = m->eval ? stages_useful_threads(m->eval, m->eval->batch) : 1;
    int useful = step > eval ? step : eval, fill = batcher_slices(r->train.batch_size);
    useful = useful > fill ? useful : fill;
    return wanted < useful ? wanted : useful;
}

/* A place that cannot be written to is found out now, not after hours. */
static bool can_write(const char *path, RtError *e)
{
    FileWriter w;
    if (!path)
        return true;
    if (!file_writer_open(&w, path, e))
        return false;
    file_writer_abandon(&w);
    return true;
}

static bool start(TrainRun *r, RtError *e)
{
    const CnncFunction *functions[] = {r->model.step, r->model.eval};
    r->threads = threads_new(count_threads(r));
    if (!r->threads)
        return rt_error_memory(e, sizeof(void *));
    if (!can_write(r->options->out, e) || !can_write(r->options->best, e))
        return false;
    r->exec = exec_new(&r->model, functions, 2, r->threads, e);
    if (!r->exec || !init_weights(r, e) || !open_data(r, e) || !set_norm(r, e) || !count_steps(r, e) || !make_buffers(r, e) ||
        !schedule_init(&r->schedule, &r->train, r->steps_per_epoch, r->train.epochs, e))
        return false;
    r->state.seed = r->train.seed;
    r->state.batch = r->train.batch_size;
    r->state.samples = r->data.train.n;
    r->state.shuffle = r->train.shuffle;
    if (!resume(r, e) || !exec_put_state(r->exec, e))
        return false;
    struct stat st;
    const char *out = r->options->out;
    bool device = out && stat(out, &st) == 0 && !S_ISREG(st.st_mode); /* nothing lies beside /dev/null */
    r->checkpoint = out && !device ? checkpoint_path(out) : NULL;
    return train_log_open(&r->log, r->options->log, r->state.step, r->state.epoch, e);
}

static void free_run(TrainRun *r)
{
    eval_free(&r->eval);
    metrics_free(&r->metrics);
    batcher_free(&r->batcher);
    data_pair_free(&r->data);
    free(r->mean);
    free(r->std);
    free(r->order);
    free(r->checkpoint);
    exec_free(r->exec);
    threads_free(r->threads);
    free(r);
}

bool train_run(const CnncModel *model, const TrainOptions *options, TrainResult *result, RtError *e)
{
    if (!model->train)
        return rt_error(e, RT_USAGE, "this program was built without training");
    TrainRun *r = calloc(1, sizeof *r);
    if (!r)
        return rt_error_memory(e, sizeof *r);
    apply_options(r, model, options);
    r->result = (TrainResult){.train_loss = NAN, .valid_loss = NAN, .accuracy = NAN};
    bool fine = check_model(r, e) && start(r, e) && train_loop(r, e);
    if (r->log.to && !train_log_close(&r->log, fine ? e : NULL))
        fine = false;
    if (result)
        *result = r->result;
    free_run(r);
    return fine;
}
