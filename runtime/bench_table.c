/* The table of a function's stages and their times.
 * In: seconds per stage. Out: a row per stage, as text or JSON; of an inference function the stages of one layer in a row
 * together. Relies on the costs that the compiler wrote into the stages.
 * Idea: a roofline. A stage takes at least the time of its multiply-adds at peak speed, and at least that of reading its weights
 * and values from the smallest cache that could hold them: its bound is the larger of the two. */
#include "runtime/bench.h"
#include "runtime/json_write.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    char layers[256];
    const char *stage; /* the first one's name */
    double seconds, macs, bound;
    bool by_memory;    /* the larger side of its bound */
} Row;

typedef struct {
    const StageTimes *of;
    const CpuPeak *peak; /* or NULL */
    Row *rows;
    int n_rows, slowest;
    FILE *to;
} Table;

/* ---- rows ---- */

/* "conv1 Conv2d .. relu1 ReLU", or the stage's own name. Of training, where one layer has several stages, both. */
static void stage_layers(const Table *t, const CnncStage *s, char *out, size_t size)
{
    const CnncLayer *l = t->of->model->layers;
    int32_t a = s->first_layer, b = s->last_layer;
    char name[256] = "";
    if (t->of->training)
        snprintf(name, sizeof name, ": %s", s->name);
    if (a < 0 || b < a || b >= t->of->model->n_layers)
        snprintf(out, size, "%s", s->name);
    else if (a == b)
        snprintf(out, size, "%s %s%s", l[a].name, l[a].type, name);
    else
        snprintf(out, size, "%s %s .. %s %s%s", l[a].name, l[a].type, l[b].name, l[b].type, name);
}

/* Adds the least time of the stage when all threads run at their peak. */
static void add_bound(const Table *t, const CnncStage *s, Row *r)
{
    if (!t->peak)
        return;
    double compute = 2 * s->fmas / (t->peak->flops * t->of->threads),
           memory = s->bytes / (peak_bytes(t->peak, s->bytes / t->of->threads) * t->of->threads);
    r->by_memory = memory > compute;
    r->bound += fmax(compute, memory);
}

static bool same_layers(const CnncStage *a, const CnncStage *b)
{
    return a->first_layer >= 0 && a->first_layer == b->first_layer && a->last_layer == b->last_layer;
}

static bool make_rows(Table *t)
{
    t->rows = calloc((size_t)t->of->function->n_stages + 1, sizeof *t->rows);
    if (!t->rows)
        return false;
    for (int i = 0; i < t->of->function->n_stages; i++) {
        const CnncStage *s = &t->of->function->stages[i];
        bool more = !t->of->training && i > 0 && same_layers(s - 1, s);
        Row *r = &t->rows[more ? t->n_rows - 1 : t->n_rows++];
        if (!more) {
            stage_layers(t, s, r->layers, sizeof r->layers);
            r->stage = s->name;
        }
        r->seconds += t->of->seconds[i];
        r->macs += s->macs * (double)t->of->n;
        add_bound(t, s, r);
        if (r->seconds > t->rows[t->slowest].seconds)
            t->slowest = (int)(r - t->rows);
    }
    return true;
}

/* ---- text and JSON ---- */

static double row_gflops(const Row *r) { return r->seconds > 0 ? 2e-9 * r->macs / r->seconds : 0; }

static void print_head(const Table *t)
{
    fprintf(t->to, "batch %lld, %d thread%s", (long long)t->of->n, t->of->threads, t->of->threads > 1 ? "s" : "");
    if (t->peak)
        fprintf(t->to, "; a thread's peak: %.1f GFLOP/s, reads 32 KiB at %.0f GB/s, 512 KiB at %.0f, 8 MiB at %.0f, memory at %.0f",
                1e-9 * t->peak->flops, 1e-9 * peak_bytes(t->peak, 32 << 10), 1e-9 * peak_bytes(t->peak, 512 << 10),
                1e-9 * peak_bytes(t->peak, 8 << 20), 1e-9 * t->peak->bytes[PEAK_SIZES - 1]);
    fprintf(t->to, "\n        ms    share   GFLOP/s  %s%s\n", t->peak ? " of peak    bound ms  bound by  " : "",
            t->of->training ? "layers: stage" : "layers");
}

static void print_text(const Table *t, const Row *r, double total)
{
    double gflops = row_gflops(r);
    fprintf(t->to, "%10.4f  %5.1f %%  %8.1f", 1e3 * r->seconds, total > 0 ? 100 * r->seconds / total : 0, gflops);
    if (t->peak)
        fprintf(t->to, "  %6.1f %%  %10.4f  %-8s", 1e11 * gflops / (t->peak->flops * t->of->threads), 1e3 * r->bound,
                r->by_memory ? "memory" : "compute");
    fprintf(t->to, "  %s%s\n", r->layers, t->n_rows > 1 && r == &t->rows[t->slowest] ? "  <- slowest" : "");
}

static void put_field(const Table *t, const char *before, double x)
{
    fputs(before, t->to);
    json_put_number(t->to, x);
}

static void print_json(const Table *t, const Row *r)
{
    double gflops = row_gflops(r);
    fputs(r == t->rows ? "\n {\"stage\": " : ",\n {\"stage\": ", t->to);
    json_put_string(t->to, r->stage);
    fputs(", \"layers\": ", t->to);
    json_put_string(t->to, r->layers);
    put_field(t, ", \"ms\": ", 1e3 * r->seconds);
    put_field(t, ", \"gflops\": ", gflops);
    if (t->peak) {
        put_field(t, ", \"peak_share\": ", 1e9 * gflops / (t->peak->flops * t->of->threads));
        put_field(t, ", \"bound_ms\": ", 1e3 * r->bound);
        fprintf(t->to, ", \"bound_by\": \"%s\"", r->by_memory ? "memory" : "compute");
    }
    putc('}', t->to);
}

bool bench_table_print(const StageTimes *times, const CpuPeak *peak, FILE *to, bool json)
{
    Table t = {.of = times, .peak = peak, .to = to};
    double total = 0;
    if (!make_rows(&t))
        return false;
    for (int i = 0; i < t.n_rows; i++)
        total += t.rows[i].seconds;
    if (json)
        fputs("[", to);
    else
        print_head(&t);
    for (int i = 0; i < t.n_rows; i++) {
        if (json)
            print_json(&t, &t.rows[i]);
        else
            print_text(&t, &t.rows[i], total);
    }
    if (json)
        fputs("\n]", to);
    else
        fprintf(to, "%10.4f  in all\n", 1e3 * total);
    free(t.rows);
    return true;
}
