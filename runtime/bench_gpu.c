/* Times of calls and kernels on a GPU.
 * In: a Session, or a training model, on a device that can profile. Out: a row a launch, as text or JSON.
 * Relies on functions that can be run over and over. Idea: kernels are timed one by one, each many times in a row; a whole call as
 * it is used, as a graph with the next one already waiting. A kernel's bound is the longer of its operations at the GPU's peak
 * for their precision and of its bytes at the memory's speed. */
#include "runtime/bench_gpu.h"
#include "runtime/eval.h"
#include "runtime/init.h"
#include "runtime/json_write.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 25 };
static const double BLOCK_SECONDS = 0.02;

typedef struct {
    Exec *exec;
    const CnncModel *m;
    const CnncGpuFunction *f;
    ExecCall calls[2];
    double *seconds, total;         /* of each launch; their sum */
    double call, best;              /* of a call in a row of calls: median and best of several rows */
    Peak peak;
    FILE *to;
    bool json;
} Table;

static double bound(const Table *t, const CnncGpuLaunch *l)
{
    double compute = l->flops / t->peak.flops[l->products], memory = l->bytes / t->peak.bytes;
    return compute > memory ? compute : memory;
}

static void put_field(const Table *t, const char *before, double x)
{
    fputs(before, t->to);
    json_put_number(t->to, x);
}

static void print_row(const Table *t, int i)
{
    const CnncGpuLaunch *l = &t->f->launches[i];
    double s = t->seconds[i], gflops = s > 0 ? 1e-9 * l->flops / s : 0, gbytes = s > 0 ? 1e-9 * l->bytes / s : 0, share = s > 0 ? bound(t, l) / s : 0;
    if (!t->json) {
        fprintf(t->to, "%10.4f  %5.1f %%  %9.1f  %8.1f  %9.1f %%  %10.4f  %s\n", 1e3 * s, t->total > 0 ? 100 * s / t->total : 0, gflops, gbytes,
                100 * share, 1e3 * bound(t, l), l->name);
        return;
    }
    fputs(i ? ",\n {\"stage\": " : "\n {\"stage\": ", t->to);
    json_put_string(t->to, l->name);
    put_field(t, ", \"ms\": ", 1e3 * s);
    put_field(t, ", \"gflops\": ", gflops);
    put_field(t, ", \"gbytes\": ", gbytes);
    put_field(t, ", \"bound_ms\": ", 1e3 * bound(t, l));
    fputs("}", t->to);
}

static void print_table(Table *t)
{
    for (int i = 0; i < t->f->n_launches; i++)
        t->total += t->seconds[i];
    if (t->json)
        fputs("[", t->to);
    else
        fprintf(t->to, "batch %lld, GPU, peak %.1f TFLOP/s, %.0f in tf32, %.0f in bf16, and %.2f TB/s\n        ms    share    GFLOP/s      GB/s  of roofline    bound ms  kernel\n",
                (long long)t->calls[0].n, 1e-12 * t->peak.flops[CNNC_PRODUCTS_F32],
                1e-12 * t->peak.flops[CNNC_PRODUCTS_TF32], 1e-12 * t->peak.flops[CNNC_PRODUCTS_BF16], 1e-12 * t->peak.bytes);
    for (int i = 0; i < t->f->n_launches; i++)
        print_row(t, i);
    if (t->json)
        fputs("\n]", t->to);
    else
        fprintf(t->to, "%10.4f  in all, one by one; %.4f a call, one after the other\n", 1e3 * t->total, 1e3 * t->call);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Calls of which the next one always waits already; seconds of one to *out. */
static bool time_row(Table *t, double *out, RtError *e)
{
    int64_t done = 0;
    bool fine = exec_start(t->exec, &t->calls[0], e);
    double start = exec_seconds();
    for (int next = 1; fine && (done < 2 || exec_seconds() - start < BLOCK_SECONDS); next = !next, done++)
        fine = exec_start(t->exec, &t->calls[next], e) && exec_finish(t->exec, &t->calls[!next], e);
    *out = (exec_seconds() - start) / (double)(done ? done : 1);
    return fine && exec_finish(t->exec, &t->calls[done % 2], e);
}

static bool time_calls(Table *t, RtError *e)
{
    double row[BLOCKS];
    for (int i = -1; i < BLOCKS; i++)   /* the first row also records the graphs */
        if (!time_row(t, &row[i < 0 ? 0 : i], e))
            return false;
    qsort(row, BLOCKS, sizeof *row, by_value);
    t->best = row[0];
    t->call = row[BLOCKS / 2];
    return true;
}

static bool measure(Table *t, RtError *e)
{
    t->seconds = calloc((size_t)t->f->n_launches + 1, sizeof *t->seconds);
    if (!t->seconds)
        return rt_error_memory(e, (size_t)t->f->n_launches * sizeof *t->seconds);
    return time_calls(t, e) && t->exec->device->peak(t->exec, &t->peak, e) && t->exec->device->profile(t->exec, &t->calls[0], t->seconds, e);
}

/* Two calls with random inputs, labels within the classes, and scalars that hardly move the weights. */
static bool open_calls(Table *t, const CnncFunction *f, int64_t label_bytes, RtError *e)
{
    const ExecCallShape shape = {.function = f, .batch = f->batch, .label_bytes = label_bytes};
    int64_t in = f->batch * model_in_size(t->m), classes = model_out_size(t->m);
    for (int k = 0; k < 2; k++) {
        ExecCall *c = &t->calls[k];
        if (!exec_call_open(t->exec, c, &shape, e))
            return false;
        c->n = f->batch;
        c->scalars[CNNC_SC_LR] = 1e-5f;
        c->scalars[CNNC_SC_MOMENTUM] = 0.9f;
        c->scalars[CNNC_SC_BIAS1] = c->scalars[CNNC_SC_BIAS2] = 1;
        for (int64_t i = 0; i < in; i++)
            c->x[i] = (float)(rng_hash(0, 0, (uint64_t)i) >> 40) / 8388608.0f - 1;
        for (int64_t i = 0; label_bytes == sizeof(int32_t) && i < f->batch; i++)
            ((int32_t *)c->labels)[i] = (int32_t)(rng_hash(1, 0, (uint64_t)i) % (uint64_t)classes);
    }
    return true;
}

static void close_table(Table *t)
{
    for (int k = 0; k < 2; k++)
        exec_call_close(t->exec, &t->calls[k]);
    free(t->seconds);
}

bool bench_gpu_kernels(Session *s, double *seconds, RtError *e)
{
    const CnncGpu *g = s->model->gpu;
    int32_t n = (s->infer == s->model->infer ? g->infer : g->eval)->n_launches;
    double *each = calloc((size_t)n + 1, sizeof *each);
    if (!each)
        return rt_error_memory(e, (size_t)n * sizeof *each);
    bool fine = s->exec->device->profile(s->exec, &s->call, each, e);
    *seconds = 0;
    for (int32_t i = 0; i < n; i++)
        *seconds += each[i];
    free(each);
    return fine;
}

bool bench_gpu_layers(Session *s, FILE *to, bool json, RtError *e)
{
    const CnncGpu *g = s->model->gpu;
    Table t = {.exec = s->exec, .m = s->model, .f = s->infer == s->model->infer ? g->infer : g->eval, .to = to, .json = json};
    bool fine = open_calls(&t, s->infer, 0, e) && measure(&t, e);
    if (fine) {
        print_table(&t);
        fputs(json ? "\n" : "", to);
    }
    close_table(&t);
    return fine;
}

bool bench_gpu_training(Exec *x, FILE *to, bool json, RtError *e)
{
    const CnncModel *m = x->model;
    Table t = {.exec = x, .m = m, .f = m->gpu->step, .to = to, .json = json};
    int64_t label_bytes = (int64_t)sizeof(float) * (m->train->loss == 1 ? model_out_size(m) : 1);
    bool fine = open_calls(&t, m->step, label_bytes, e) && measure(&t, e);
    if (fine) {
        fputs(json ? "{\"stages\": " : "", to);
        print_table(&t);
        double rate = (double)m->step->batch / t.call;
        fprintf(to, json ? ", \"batch\": %d, \"ms\": %.6g, \"best_ms\": %.6g, \"kernels_ms\": %.6g, \"images_per_second\": %.6g}\n"
                         : "batch %d: %.4f ms a step  (best %.4f, kernels one by one %.4f)\n%.0f images/s\n",
                m->step->batch, 1e3 * t.call, 1e3 * t.best, 1e3 * t.total, rate);
    }
    close_table(&t);
    return fine;
}
