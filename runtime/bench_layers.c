/* Time of each stage of a compiled function.
 * In: a Session, or a training model. Out: the table of bench_table.c.
 * Relies on functions that can be run over and over; a training step is run with a tiny learning rate.
 * Idea: calls in short blocks; of each stage the least block counts, since a busy machine only ever makes it slower. */
#include "runtime/bench.h"
#include "runtime/bench_gpu.h"
#include "runtime/cores.h"
#include "runtime/eval.h"
#include "runtime/init.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 100 };
static const double BLOCK_SECONDS = 0.005;

/* Seconds per call. */
typedef struct {
    StageTimes stages;
    double *seconds, best, median; /* of each stage the least of the blocks; of whole calls */
    double *each;                  /* instead: of so many calls one by one, ascending */
    int64_t n_each;
} Times;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs calls for about BLOCK_SECONDS; returns the ticks of one, and lowers least[stage] to those of its stages. */
static double time_block(const CnncFunction *f, Exec *x, CnncArgs *args, double *least)
{
    int calls = 0;
    double sum = 0;
    memset(x->stage_ticks, 0, (size_t)f->n_stages * sizeof *x->stage_ticks);
    for (double start = exec_seconds(); calls == 0 || exec_seconds() - start < BLOCK_SECONDS; calls++)
        exec_run(x, f, args);
    for (int i = 0; i < f->n_stages; i++) {
        least[i] = fmin(least[i], x->stage_ticks[i] / calls);
        sum += x->stage_ticks[i];
    }
    return sum / calls;
}

/* Runs the function for about half a second. */
static bool time_stages(Times *t, Exec *x, CnncArgs *args, RtError *e)
{
    const CnncFunction *f = t->stages.function;
    size_t n = (size_t)f->n_stages + 1;
    double blocks[BLOCKS];
    int done = 0;
    t->stages.seconds = t->seconds = calloc(n, sizeof *t->seconds);
    x->stage_ticks = calloc(n, sizeof *x->stage_ticks);
    bool fine = t->seconds && x->stage_ticks;
    if (fine) {
        for (int i = 0; i < f->n_stages; i++)
            t->seconds[i] = INFINITY;
        time_block(f, x, args, t->seconds);
        double start = exec_seconds(), start_ticks = stages_ticks();
        for (; done < 3 || (done < BLOCKS && exec_seconds() - start < BLOCKS * BLOCK_SECONDS); done++)
            blocks[done] = time_block(f, x, args, t->seconds);
        double tick = (exec_seconds() - start) / (stages_ticks() - start_ticks);
        qsort(blocks, (size_t)done, sizeof *blocks, by_value);
        t->best = tick * blocks[0];
        t->median = tick * blocks[done / 2];
        for (int i = 0; i < f->n_stages; i++)
            t->seconds[i] *= tick;
    }
    free(x->stage_ticks);
    x->stage_ticks = NULL;
    return fine || rt_error_memory(e, n * sizeof *t->seconds);
}

/* After a few for the caches. */
static void time_each(Times *t, Exec *x, CnncArgs *args)
{
    enum { WARM = 10 };
    for (int i = 0; i < WARM; i++)
        exec_run(x, t->stages.function, args);
    double start = exec_seconds(), start_ticks = stages_ticks();
    for (int64_t i = 0; i < t->n_each; i++) {
        double at = stages_ticks();
        exec_run(x, t->stages.function, args);
        t->each[i] = stages_ticks() - at;
    }
    double tick = (exec_seconds() - start) / (stages_ticks() - start_ticks);
    for (int64_t i = 0; i < t->n_each; i++)
        t->each[i] *= tick;
    qsort(t->each, (size_t)t->n_each, sizeof *t->each, by_value);
}

static bool print_times(const Times *t, const CpuPeak *peak, FILE *to, bool json, RtError *e)
{
    return bench_table_print(&t->stages, peak, to, json) || rt_error_memory(e, (unsigned long long)t->stages.function->n_stages);
}

/* Values as normalised pictures have them; the same every time. */
static void fill_input(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(rng_hash(0, 0, (uint64_t)i) >> 40) / 8388608.0f - 1;
}

bool bench_print_layers(Session *s, const CpuPeak *peak, FILE *to, bool json, RtError *e)
{
    if (s->model->gpu)
        return bench_gpu_layers(s, to, json, e);
    float scalars[CNNC_SC_COUNT] = {0}, results[CNNC_RES_COUNT];
    Times t = {.stages = {.model = s->model, .function = s->infer, .n = s->batch, .threads = threads_count(s->threads)}};
    CnncArgs args = {.in = s->x, .out = s->out, .scalars = scalars, .results = results, .n = s->batch};
    fill_input(s->x, s->batch * s->in_size);
    bool fine = time_stages(&t, s->exec, &args, e) && print_times(&t, peak, to, json, e);
    if (fine && json)
        putc('\n', to);
    free(t.seconds);
    return fine;
}

/* ---- training ---- */

/* One buffer for x, labels and outputs of a batch; the pieces are aligned to 64 bytes. */
static char *training_buffers(const CnncModel *m, CnncArgs *args)
{
    int64_t n = m->step->batch, in = n * model_in_size(m), out = n * model_out_size(m);
    int64_t in_bytes = (4 * in + 63) / 64 * 64, out_bytes = (4 * out + 63) / 64 * 64,
            label_bytes = (4 * (m->train->loss == 1 ? out : n) + 63) / 64 * 64;
    char *memory = aligned_alloc(64, (size_t)(in_bytes + out_bytes + label_bytes));
    if (!memory)
        return NULL;
    args->in = (float *)memory;
    args->out = (float *)(memory + in_bytes);
    args->labels = memory + in_bytes + out_bytes;
    fill_input((float *)memory, in);
    if (m->train->loss == 1)
        fill_input((float *)(memory + in_bytes + out_bytes), out);
    for (int64_t i = 0; m->train->loss != 1 && i < n; i++)
        ((int32_t *)(memory + in_bytes + out_bytes))[i] = (int32_t)(rng_hash(1, 0, (uint64_t)i) % (uint64_t)model_out_size(m));
    args->n = n;
    return memory;
}

static bool time_training(Times *t, Exec *x, RtError *e)
{
    const CnncModel *m = t->stages.model;
    float scalars[CNNC_SC_COUNT] = {
        [CNNC_SC_LR] = 1e-5f, [CNNC_SC_MOMENTUM] = 0.9f, [CNNC_SC_BIAS1] = 1, [CNNC_SC_BIAS2] = 1, [CNNC_SC_FIRST] = 0};
    float results[CNNC_RES_COUNT];
    CnncArgs args = {.scalars = scalars, .results = results};
    char *memory = training_buffers(m, &args);
    if (!memory)
        return rt_error_memory(e, (unsigned long long)(m->step->batch * model_in_size(m)) * 4);
    bool fine = true;
    if (t->each)
        time_each(t, x, &args);
    else
        fine = time_stages(t, x, &args, e);
    free(memory);
    return fine;
}

static bool train_on_cpu(Times *t, const CpuPeak *peak, Exec *x, FILE *to, bool json, RtError *e)
{
    if (!time_training(t, x, e))
        return false;
    fputs(json ? "{\"stages\": " : "", to);
    if (!print_times(t, peak, to, json, e))
        return false;
    int64_t batch = t->stages.n;
    fprintf(to,
            json ? ", \"batch\": %lld, \"ms\": %.6g, \"best_ms\": %.6g, \"images_per_second\": %.6g}\n"
                 : "batch %lld: %.4f ms a step  (best %.4f)\n%.0f images/s\n",
            (long long)batch, 1e3 * t->median, 1e3 * t->best, (double)batch / t->median);
    return true;
}

/* An Exec for the training step, with initial weights and a pool of its own; NULL: *e. */
static Exec *open_training(const CnncModel *m, int threads, RtError *e)
{
    const CnncFunction *f = m->step;
    if (!f || !m->train) {
        rt_error(e, RT_USAGE, "this program was built without training");
        return NULL;
    }
    int wanted = threads > 0 ? threads : cores_allowed(), useful = stages_useful_threads(f, f->batch);
    Threads *pool = threads_new(wanted < useful ? wanted : useful);
    if (!pool)
        rt_error_memory(e, sizeof(void *));
    Exec *x = pool ? exec_new(m, &f, 1, pool, e) : NULL;
    Rng g;
    rng_seed(&g, 0);
    if (x)
        init_state(m->tensors, m->n_tensors, &g, x->state, m->state_bytes);
    if (x && exec_put_state(x, e))
        return x;
    exec_free(x);
    threads_free(pool);
    return NULL;
}

static void close_training(Exec *x)
{
    Threads *pool = x->threads;
    exec_free(x);
    threads_free(pool);
}

static Times training_times(const Exec *x)
{
    const CnncFunction *f = x->model->step;
    return (Times){.stages = {.model = x->model, .function = f, .n = f->batch, .threads = threads_count(x->threads), .training = true}};
}

bool bench_training(const CnncModel *m, int threads, BenchResult *out, RtError *e)
{
    Exec *x = open_training(m, threads, e);
    if (!x)
        return false;
    Times t = training_times(x);
    bool fine = time_training(&t, x, e);
    *out = (BenchResult){.batch = t.stages.n, .best = t.best, .median = t.median};
    free(t.seconds);
    close_training(x);
    return fine;
}

bool bench_print_training(const CnncModel *m, int threads, const CpuPeak *peak, FILE *to, bool json, RtError *e)
{
    Exec *x = open_training(m, threads, e);
    if (!x)
        return false;
    Times t = training_times(x);
    bool fine = m->gpu ? bench_gpu_training(x, to, json, e) : train_on_cpu(&t, peak, x, to, json, e);
    free(t.seconds);
    close_training(x);
    return fine;
}

bool bench_print_steps(const CnncModel *m, int threads, int64_t steps, FILE *to, bool json, RtError *e)
{
    if (m->gpu)
        return rt_error(e, RT_USAGE, "--bench --steps times steps of the CPU alone (--device cpu)");
    Exec *x = open_training(m, threads, e);
    if (!x)
        return false;
    Times t = training_times(x);
    t.n_each = steps;
    t.each = calloc((size_t)steps, sizeof *t.each);
    bool fine = t.each ? time_training(&t, x, e) : rt_error_memory(e, (unsigned long long)steps * sizeof *t.each);
    if (fine)
        fprintf(to,
                json ? "{\"batch\": %lld, \"threads\": %d, \"steps\": %lld, \"median_ms\": %.6g, \"nine_tenths_ms\": %.6g, \"longest_ms\": %.6g}\n"
                     : "batch %lld, threads %d: of %lld steps the median takes %.4f ms, nine of ten at most %.4f, the longest %.4f\n",
                (long long)t.stages.n, t.stages.threads, (long long)steps, 1e3 * t.each[steps / 2], 1e3 * t.each[steps * 9 / 10],
                1e3 * t.each[steps - 1]);
    free(t.each);
    close_training(x);
    return fine;
}
