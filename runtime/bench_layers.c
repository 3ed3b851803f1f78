/* Time per stage of a compiled function.
 * In: a Session, or a training model. Out: a row per stage, as text or JSON.
 * Relies on functions that can be run over and over; a training step is run with a tiny learning rate.
 * Idea: a stage's bound is the larger of its operations at peak speed and of its layers' weights and values at memory speed,
 * as if nothing stayed in the caches. */
#include "runtime/bench.h"
#include "runtime/bench_gpu.h"
#include "runtime/eval.h"
#include "runtime/init.h"
#include "runtime/json_write.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 100 };
static const double BLOCK_SECONDS = 0.005;

typedef struct {
    const CnncModel *m;
    const CnncFunction *f;
    int64_t n; /* samples a call */
    int threads;
    const Peak *peak;       /* or NULL */
    double *seconds, total; /* per stage, per call: medians */
    double best;            /* of whole calls */
    int passes;             /* over the layers' values: 1 forward, 3 in training */
    FILE *to;
    bool json;
} Table;

/* "conv1 Conv2d .. relu1 ReLU", or the stage's own name */
static void stage_layers(const Table *t, const CnncStage *s, char *out, size_t size)
{
    const CnncLayer *l = t->m->layers;
    int32_t a = s->first_layer, b = s->last_layer;
    if (t->passes > 1 || a < 0 || b < a || b >= t->m->n_layers)
        snprintf(out, size, "%s", s->name);
    else if (a == b)
        snprintf(out, size, "%s %s", l[a].name, l[a].type);
    else
        snprintf(out, size, "%s %s .. %s %s", l[a].name, l[a].type, l[b].name, l[b].type);
}

static double layer_values(const CnncLayer *l)
{
    double n = 1;
    for (int32_t i = 0; i < l->rank; i++)
        n *= (double)l->shape[i];
    return n;
}

/* Seconds that the stage takes at least when all threads run at their peak; 0: not known. */
static double stage_bound(const Table *t, const CnncStage *s)
{
    if (!t->peak)
        return 0;
    double compute = 2 * s->macs * (double)t->n / (t->peak->flops * t->threads), values = 0;
    if (t->passes > 1 || s->first_layer < 0 || s->last_layer >= t->m->n_layers)
        return compute;
    values = s->first_layer > 0 ? layer_values(&t->m->layers[s->first_layer - 1]) : (double)model_in_size(t->m);
    values = (values + layer_values(&t->m->layers[s->last_layer])) * (double)t->n;
    for (int32_t i = s->first_layer; i <= s->last_layer; i++)
        values += (double)t->m->layers[i].params;
    double memory = 4 * values / t->peak->bytes;
    return compute > memory ? compute : memory;
}

static void print_text(const Table *t, const CnncStage *s, double seconds, double gflops)
{
    char layers[256];
    stage_layers(t, s, layers, sizeof layers);
    fprintf(t->to, "%10.4f  %5.1f %%  %8.1f", 1e3 * seconds, t->total > 0 ? 100 * seconds / t->total : 0, gflops);
    if (t->peak)
        fprintf(t->to, "  %5.1f %%  %10.4f", 1e11 * gflops / (t->peak->flops * t->threads), 1e3 * stage_bound(t, s));
    fprintf(t->to, "  %s\n", layers);
}

static void put_field(const Table *t, const char *before, double x)
{
    fputs(before, t->to);
    json_put_number(t->to, x);
}

static void print_json(const Table *t, const CnncStage *s, double seconds, double gflops, bool first)
{
    char layers[256];
    stage_layers(t, s, layers, sizeof layers);
    fputs(first ? "\n {\"stage\": " : ",\n {\"stage\": ", t->to);
    json_put_string(t->to, s->name);
    fputs(", \"layers\": ", t->to);
    json_put_string(t->to, layers);
    put_field(t, ", \"ms\": ", 1e3 * seconds);
    put_field(t, ", \"gflops\": ", gflops);
    if (t->peak) {
        put_field(t, ", \"peak_share\": ", 1e9 * gflops / (t->peak->flops * t->threads));
        put_field(t, ", \"bound_ms\": ", 1e3 * stage_bound(t, s));
    }
    putc('}', t->to);
}

static void print_table(Table *t)
{
    for (int i = 0; i < t->f->n_stages; i++)
        t->total += t->seconds[i];
    if (t->json) {
        fputs("[", t->to);
    } else {
        fprintf(t->to, "batch %lld, %d thread%s", (long long)t->n, t->threads, t->threads > 1 ? "s" : "");
        if (t->peak)
            fprintf(t->to, ", peak per thread %.1f GFLOP/s and %.1f GB/s", 1e-9 * t->peak->flops, 1e-9 * t->peak->bytes);
        fprintf(t->to, "\n        ms    share   GFLOP/s  %s%s\n", t->peak ? "of peak    bound ms  " : "",
                t->passes > 1 ? "stage" : "layers");
    }
    for (int i = 0; i < t->f->n_stages; i++) {
        const CnncStage *s = &t->f->stages[i];
        double gflops = t->seconds[i] > 0 ? 2e-9 * s->macs * (double)t->n / t->seconds[i] : 0;
        if (t->json)
            print_json(t, s, t->seconds[i], gflops, i == 0);
        else
            print_text(t, s, t->seconds[i], gflops);
    }
    if (t->json)
        fputs("\n]", t->to);
    else
        fprintf(t->to, "%10.4f  in all\n", 1e3 * t->total);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs calls for about BLOCK_SECONDS; ticks per call of each stage to out[i * BLOCKS]. */
static void time_block(const Table *t, Exec *x, CnncArgs *args, double *out)
{
    int calls = 0, n = t->f->n_stages;
    memset(x->stage_ticks, 0, (size_t)n * sizeof *x->stage_ticks);
    for (double start = exec_seconds(); calls == 0 || exec_seconds() - start < BLOCK_SECONDS; calls++)
        exec_run(x, t->f, args);
    for (int i = 0; i < n; i++)
        out[(size_t)i * BLOCKS] = x->stage_ticks[i] / calls;
}

/* Ticks of all n stages in one block. */
static double block_ticks(const double *blocks, size_t n, int block)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += blocks[i * BLOCKS + (size_t)block];
    return sum;
}

/* Runs the function for about half a second, in blocks; the median of each stage's blocks goes to t->seconds, since a busy
 * machine disturbs some of them, and the quickest block to t->best. */
static bool time_stages(Table *t, Exec *x, CnncArgs *args, RtError *e)
{
    size_t n = (size_t)(t->f->n_stages ? t->f->n_stages : 1);
    double *blocks = calloc(n * BLOCKS, sizeof *blocks);
    int done = 0;
    t->seconds = calloc(n, sizeof *t->seconds);
    x->stage_ticks = calloc(n, sizeof *x->stage_ticks);
    bool fine = blocks && t->seconds && x->stage_ticks;
    if (fine) {
        time_block(t, x, args, blocks);
        double start = exec_seconds(), start_ticks = exec_ticks();
        for (; done < 3 || (done < BLOCKS && exec_seconds() - start < BLOCKS * BLOCK_SECONDS); done++)
            time_block(t, x, args, blocks + done);
        double tick = (exec_seconds() - start) / (exec_ticks() - start_ticks);
        t->best = tick * block_ticks(blocks, n, 0);
        for (int block = 1; block < done; block++)
            t->best = fmin(t->best, tick * block_ticks(blocks, n, block));
        for (size_t i = 0; i < n; i++) {
            qsort(blocks + i * BLOCKS, (size_t)done, sizeof *blocks, by_value);
            t->seconds[i] = tick * blocks[i * BLOCKS + (size_t)done / 2];
        }
    }
    free(x->stage_ticks);
    free(blocks);
    x->stage_ticks = NULL;
    return fine || rt_error_memory(e, n * BLOCKS * sizeof *blocks);
}

/* Values as normalised pictures have them; the same every time. */
static void fill_input(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(rng_hash(0, 0, (uint64_t)i) >> 40) / 8388608.0f - 1;
}

bool bench_print_layers(Session *s, const Peak *peak, FILE *to, bool json, RtError *e)
{
    if (s->model->gpu)
        return bench_gpu_layers(s, to, json, e);
    float scalars[CNNC_SC_COUNT] = {0}, results[CNNC_RES_COUNT];
    Table t = {.m = s->model,
               .f = s->infer,
               .n = s->batch,
               .threads = threads_count(s->threads),
               .peak = peak,
               .passes = 1,
               .to = to,
               .json = json};
    CnncArgs args = {.in = s->x, .out = s->out, .scalars = scalars, .results = results, .n = s->batch};
    fill_input(s->x, s->batch * s->in_size);
    bool fine = time_stages(&t, s->exec, &args, e);
    if (fine)
        print_table(&t);
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

static bool time_training(Table *t, Exec *x, RtError *e)
{
    const CnncModel *m = t->m;
    float scalars[CNNC_SC_COUNT] = {
        [CNNC_SC_LR] = 1e-5f, [CNNC_SC_MOMENTUM] = 0.9f, [CNNC_SC_BIAS1] = 1, [CNNC_SC_BIAS2] = 1, [CNNC_SC_FIRST] = 0};
    float results[CNNC_RES_COUNT];
    CnncArgs args = {.scalars = scalars, .results = results};
    char *memory = training_buffers(m, &args);
    if (!memory)
        return rt_error_memory(e, (unsigned long long)(m->step->batch * model_in_size(m)) * 4);
    bool fine = time_stages(t, x, &args, e);
    free(memory);
    return fine;
}

static bool train_on_cpu(Table *t, Exec *x, RtError *e)
{
    if (!time_training(t, x, e))
        return false;
    fputs(t->json ? "{\"stages\": " : "", t->to);
    print_table(t);
    double rate = (double)t->n / t->total;
    fprintf(t->to,
            t->json ? ", \"batch\": %lld, \"ms\": %.6g, \"best_ms\": %.6g, \"images_per_second\": %.6g}\n"
                    : "batch %lld: %.4f ms a step  (best %.4f)\n%.0f images/s\n",
            (long long)t->n, 1e3 * t->total, 1e3 * t->best, rate);
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
    int wanted = threads > 0 ? threads : threads_default_count(), useful = exec_useful_threads(f, f->batch);
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

static Table training_table(const Exec *x)
{
    const CnncFunction *f = x->model->step;
    return (Table){.m = x->model, .f = f, .n = f->batch, .threads = threads_count(x->threads), .passes = 3};
}

bool bench_training(const CnncModel *m, int threads, BenchResult *out, RtError *e)
{
    Exec *x = open_training(m, threads, e);
    if (!x)
        return false;
    Table t = training_table(x);
    bool fine = time_training(&t, x, e);
    *out = (BenchResult){.batch = t.n, .best = t.best};
    free(t.seconds);
    close_training(x);
    return fine;
}

bool bench_print_training(const CnncModel *m, int threads, const Peak *peak, FILE *to, bool json, RtError *e)
{
    Exec *x = open_training(m, threads, e);
    if (!x)
        return false;
    Table t = training_table(x);
    t.peak = peak;
    t.to = to;
    t.json = json;
    bool fine = m->gpu ? bench_gpu_training(x, to, json, e) : train_on_cpu(&t, x, e);
    free(t.seconds);
    close_training(x);
    return fine;
}
