/* Speed of calls, facts and self-test of a compiled model.
 * In: a Session. Out: text or JSON.
 * Relies on functions without side effects, so that they can be run over and over.
 * Idea: the median of many calls is what a user sees, the best one what the code can do. */
#include "runtime/bench.h"
#include "runtime/bench_gpu.h"
#include "runtime/cpu.h"
#include "runtime/init.h"
#include "runtime/json_write.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 20000 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Values as normalised pictures have them; the same every time. */
static void fill_input(Session *s)
{
    for (int64_t i = 0; i < s->batch * s->in_size; i++)
        s->x[i] = (float)(rng_hash(0, 0, (uint64_t)i) >> 40) / 8388608.0f - 1;
}

bool bench_session(Session *s, int64_t n, double seconds, BenchResult *out, RtError *e)
{
    double *times = malloc(MAX_RUNS * sizeof *times);
    int64_t runs = 0;
    if (!times)
        return rt_error_memory(e, MAX_RUNS * sizeof *times);
    fill_input(s);
    bool fine = session_run(s, n, e);
    double start = exec_seconds(), start_ticks = stages_ticks();
    while (fine && runs < MAX_RUNS && (runs < 3 || exec_seconds() - start < seconds)) {
        double at = stages_ticks();
        fine = session_run(s, n, e);
        times[runs++] = stages_ticks() - at;
    }
    double tick = (exec_seconds() - start) / (stages_ticks() - start_ticks);
    qsort(times, (size_t)runs, sizeof *times, by_value);
    if (fine)
        *out = (BenchResult){n, tick * times[0], tick * times[runs / 2], 0, runs};
    free(times);
    return fine && (!s->model->gpu || bench_gpu_kernels(s, &out->kernels, e));
}

static double model_macs(const CnncModel *m)
{
    double macs = 0;
    for (int i = 0; i < m->n_layers; i++)
        macs += (double)m->layers[i].macs;
    return macs;
}

static void print_result(const Session *s, const BenchResult *r, FILE *to, bool json)
{
    double rate = (double)r->batch / r->median, gflops = 2e-9 * model_macs(s->model) * rate;
    if (!json) {
        fprintf(to, "batch %-5lld %10.4f ms  (best %.4f)  %10.0f samples/s  %8.1f GFLOP/s\n", (long long)r->batch,
                1e3 * r->median, 1e3 * r->best, rate, gflops);
        return;
    }
    fprintf(to, "{\"batch\": %lld, \"threads\": %d, \"median_ms\": ", (long long)r->batch, threads_count(s->threads));
    json_put_number(to, 1e3 * r->median);
    fputs(", \"best_ms\": ", to);
    json_put_number(to, 1e3 * r->best);
    if (r->kernels > 0) {
        fputs(", \"kernels_ms\": ", to);
        json_put_number(to, 1e3 * r->kernels);
    }
    fputs(", \"samples_per_second\": ", to);
    json_put_number(to, rate);
    fputs(", \"gflops\": ", to);
    json_put_number(to, gflops);
    putc('}', to);
}

bool bench_print(Session *s, FILE *to, bool json, RtError *e)
{
    BenchResult one, full;
    if (!bench_session(s, 1, 0.5, &one, e) || !bench_session(s, s->batch, 0.5, &full, e))
        return false;
    if (!json && s->model->gpu)
        fprintf(to, "%s, GPU\n", s->model->name);
    else if (!json)
        fprintf(to, "%s, %d thread%s\n", s->model->name, threads_count(s->threads), threads_count(s->threads) > 1 ? "s" : "");
    fputs(json ? "[" : "", to);
    print_result(s, &one, to, json);
    if (s->batch > 1) {
        fputs(json ? ",\n " : "", to);
        print_result(s, &full, to, json);
    }
    fputs(json ? "]\n" : "", to);
    return true;
}

static int64_t count_params(const CnncModel *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n_layers; i++)
        n += m->layers[i].params;
    return n;
}

/* "sm_80, sm_90, PTX from sm_80 on" */
static void put_images(const CnncGpu *g, FILE *to)
{
    for (int32_t i = 0; i < g->n_images; i++)
        if (!i || g->images[i].sm != g->images[i - 1].sm || g->images[i].ptx != g->images[i - 1].ptx)   /* parts follow each other */
            fprintf(to, "%s%ssm_%d%s", i ? ", " : "", g->images[i].ptx ? "PTX from " : "", g->images[i].sm, g->images[i].ptx ? " on" : "");
}

static void info_json(const CnncModel *m, const CnncModel *gpu, FILE *to, const char *cpu, const char *missing)
{
    char text[160];
    fputs("{\"model\": ", to);
    json_put_string(to, m->name);
    fprintf(to, ", \"input\": %s", rt_shape_text(m->in_rank, m->in_shape, text, sizeof text));
    fprintf(to, ", \"output\": %s", rt_shape_text(m->out_rank, m->out_shape, text, sizeof text));
    fprintf(to, ",\n \"layers\": %d, \"params\": %lld, \"macs\": %.0f", m->n_layers, (long long)count_params(m), model_macs(m));
    if (m->infer)
        fprintf(to, ", \"batch\": %d, \"weights_bytes\": %lld, \"work_bytes\": %lld, \"scratch_bytes\": %lld", m->infer->batch,
                (long long)m->consts_bytes, (long long)m->infer->work_bytes, (long long)m->infer->scratch_bytes);
    fprintf(to, ",\n \"weights_checksum\": \"%016llx\", \"classes\": [", (unsigned long long)m->weights_checksum);
    for (int i = 0; i < m->n_classes; i++) {
        fputs(i ? ", " : "", to);
        json_put_string(to, m->class_names[i]);
    }
    fputs("],\n", to);
    if (gpu) {
        fputs(" \"gpu\": \"", to);
        put_images(gpu->gpu, to);
        fputs("\", \"gpu_precision\": ", to);
        json_put_string(to, gpu->precision);
        fputs(",\n", to);
    }
    fputs(" \"compiler\": ", to);
    json_put_string(to, m->version);
    fputs(", \"cpu\": ", to);
    json_put_string(to, m->cpu);
    fputs(", \"plan\": ", to);
    json_put_string(to, m->plan ? m->plan : "");
    fputs(", \"features\": ", to);
    json_put_string(to, m->features);
    fputs(", \"precision\": ", to);
    json_put_string(to, m->precision);
    fputs(", \"this_cpu\": ", to);
    json_put_string(to, cpu);
    fprintf(to, ", \"runs_here\": %s}\n", *missing ? "false" : "true");
}

void info_print(const CnncModel *m, const CnncModel *gpu, FILE *to, bool json)
{
    char in[128], out[128], cpu[64], missing[512];
    cpu_name(cpu, sizeof cpu);
    cpu_has_features(m->features, missing, sizeof missing);
    if (json) {
        info_json(m, gpu, to, cpu, missing);
        return;
    }
    fprintf(to, "model      %s, input %s, output %s\n", m->name, rt_shape_text(m->in_rank, m->in_shape, in, sizeof in),
            rt_shape_text(m->out_rank, m->out_shape, out, sizeof out));
    fprintf(to, "layers     %d, %lld parameters, %.0f multiply-accumulates per sample\n", m->n_layers, (long long)count_params(m),
            model_macs(m));
    if (!m->infer)
        fprintf(to, "trains     batches of %d, memory %lld bytes and %lld per thread\n", m->step ? m->step->batch : 0,
                (long long)(m->state_bytes + (m->step ? m->step->work_bytes : 0)),
                (long long)(m->step ? m->step->scratch_bytes : 0));
    else if (m->weights_checksum)
        fprintf(to, "weights    checksum %016llx\n", (unsigned long long)m->weights_checksum);
    else
        fprintf(to, "weights    initial values, not trained\n");
    if (m->infer)
        fprintf(to, "memory     weights %lld bytes, values %lld, per thread %lld, at batch %d\n", (long long)m->consts_bytes,
                (long long)m->infer->work_bytes, (long long)m->infer->scratch_bytes, m->infer->batch);
    if (m->n_classes > 0)
        fprintf(to, "classes    %d: %s .. %s\n", m->n_classes, m->class_names[0], m->class_names[m->n_classes - 1]);
    fprintf(to, "built for  %s (%s)\n", *m->cpu ? m->cpu : "any CPU",
            m->features && *m->features ? m->features : "no special instructions");
    fprintf(to, "precision  %s", m->precision);
    if (gpu && strcmp(gpu->precision, m->precision) != 0)
        fprintf(to, ", GPU %s", gpu->precision);
    putc('\n', to);
    fprintf(to, "this CPU   %s%s%s\n", cpu, *missing ? ", which lacks " : "", missing);
    if (gpu) {
        fputs("GPU        ", to);
        put_images(gpu->gpu, to);
        putc('\n', to);
    }
    if (m->plan && *m->plan)
        fprintf(to, "plan       %s (by --tune)\n", m->plan);
    fprintf(to, "compiler   cnnc %s\n", m->version);
}

bool selftest_errors(Session *s, double *error, double *largest, RtError *e)
{
    const CnncModel *m = s->model;
    *error = *largest = 0;
    for (int64_t first = 0; first < m->n_test; first += s->batch) {
        int64_t now = m->n_test - first < s->batch ? m->n_test - first : s->batch;
        memcpy(s->x, m->test_in + first * s->in_size, (size_t)(now * s->in_size) * sizeof *s->x);
        if (!session_run(s, now, e))
            return false;
        for (int64_t i = 0; i < now * s->out_size; i++) {
            double want = m->test_out[first * s->out_size + i], off = fabs((double)s->out[i] - want);
            *error = off > *error || isnan(off) ? off : *error;
            *largest = fmax(*largest, fabs(want));
        }
    }
    return true;
}

bool selftest_run(Session *s, FILE *to, RtError *e)
{
    const CnncModel *m = s->model;
    double worst, largest;
    if (m->n_test <= 0)
        return rt_error(e, RT_USAGE, "this program was built without test samples");
    if (!selftest_errors(s, &worst, &largest, e))
        return false;
    double limit = m->test_tolerance;
    if (!(worst <= limit))
        return rt_error(e, RT_FAIL, "self-test failed: an output is off by %g, and %g is allowed", worst, limit);
    fprintf(to, "self-test passed: %d samples, largest error %.3g (%.3g allowed)\n", m->n_test, worst, limit);
    return true;
}
