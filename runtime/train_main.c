/* The main of a standalone training program; the model is linked in.
 * In: options over the train block. Out: weights, checkpoint, log; progress on stderr, the exit status of runtime/error.h.
 * Relies on cnnc_model, which the program's object defines. Idea: a page of options over train_run. */
#include "runtime/args.h"
#include "runtime/bench.h"
#include "runtime/cpu.h"
#include "runtime/device.h"
#include "runtime/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* TrainOptions with the kinds of numbers that the option table takes, and what is asked beside training. */
typedef struct {
    TrainOptions train;
    int64_t threads, seed;
    bool help, info, bench, quiet, json;
    const char *device;
} Options;

static const CnncModel *choose_model(const Options *o, const char *program, RtError *e)
{
    const CnncModel *m = device_model(cpu_model(&cnnc_model, cnnc_models), &cnnc_gpu_model, o->device, o->quiet ? NULL : stderr, e);
    return m && (m->gpu || cpu_check(program, m->cpu, m->features, e)) ? m : NULL;
}

static bool run(Options *o, const char *program, RtError *e)
{
    const CnncModel *m = choose_model(o, program, e);
    char out[512];
    if (!m)
        return false;
    snprintf(out, sizeof out, "%s.safetensors", m->name);
    o->train.out = o->train.out ? o->train.out : out;
    o->train.threads = (int)o->threads;
    o->train.has_seed = o->seed >= 0;
    o->train.seed = (uint64_t)o->seed;
    o->train.has_lr = o->train.lr >= 0;
    o->train.progress = o->quiet ? NULL : stderr;
    if (!train_run(m, &o->train, NULL, e))
        return false;
    if (!o->quiet)
        fprintf(stderr, "weights saved in %s\n", o->train.out);
    return true;
}

int main(int argc, char **argv)
{
    Options o = {.seed = -1, .train = {.lr = -1}};
    const Arg table[] = {
        {"--data", NULL, ARG_TEXT, &o.train.data, 0, "DIR", "training data (x.npy,y.npy for arrays)"},
        {"--epochs", NULL, ARG_INT, &o.train.epochs, 1, "N", "passes over the data"},
        {"--steps", NULL, ARG_INT, &o.train.steps, 1, "N", "stop after so many steps"},
        {"--output", "-o", ARG_TEXT, &o.train.out, 0, "W.safetensors", "the last weights"},
        {"--best", NULL, ARG_TEXT, &o.train.best, 0, "W.safetensors", "the weights of the best epoch"},
        {"--resume", NULL, ARG_TEXT, &o.train.resume, 0, "CKPT", "go on from a checkpoint"},
        {"--weights", NULL, ARG_TEXT, &o.train.weights, 0, "W", "start from these (.safetensors or .pt)"},
        {"--partial", NULL, ARG_FLAG, &o.train.partial, 0, NULL, "weights may be missing or extra"},
        {"--log", NULL, ARG_TEXT, &o.train.log, 0, "L.jsonl", "one JSON object per step and epoch"},
        {"--lr", NULL, ARG_NUMBER, &o.train.lr, 0, "X", "learning rate"},
        {"--batch", NULL, ARG_INT, &o.train.batch, 1, "N", "batch size, at most as built"},
        {"--seed", NULL, ARG_INT, &o.seed, 0, "N", "seed of weights, split, order, dropout"},
        {"--no-shuffle", NULL, ARG_FLAG, &o.train.no_shuffle, 0, NULL, "samples in their own order"},
        {"--device", NULL, ARG_TEXT, &o.device, 0, "cpu|cuda|auto", "where to train (a GPU that works and is built for, else the CPU)"},
        {"--threads", NULL, ARG_INT, &o.threads, 1, "N", "threads (all cores)"},
        {"--quiet", "-q", ARG_FLAG, &o.quiet, 0, NULL, "no progress"},
        {"--info", NULL, ARG_FLAG, &o.info, 0, NULL, "the model, its sizes, what it was built with"},
        {"--bench", NULL, ARG_FLAG, &o.bench, 0, NULL, "time of a step, on random samples; with --steps N of N steps"},
        {"--json", NULL, ARG_FLAG, &o.json, 0, NULL, "--info, --bench as JSON"},
        {"--help", "-h", ARG_FLAG, &o.help, 0, NULL, "this text"},
    };
    enum { N = sizeof table / sizeof *table };
    RtError e = {0};
    const char *slash = strrchr(argv[0] ? argv[0] : "", '/'), *program = slash ? slash + 1 : argv[0];
    bool fine = args_parse(table, N, &argc, argv, &e);
    if (fine && argc > 1)
        fine = rt_error(&e, RT_USAGE, "'%s' is no option (--help lists them)", argv[1]);
    else if (fine && o.help) {
        printf("usage: %s [--data DIR] [-o W.safetensors] ...\n\n", program);
        args_print(stdout, table, N);
    } else if (fine && o.info) {
        info_print(cpu_model(&cnnc_model, cnnc_models), &cnnc_gpu_model, stdout, o.json);
    } else if (fine && o.bench) {
        const CnncModel *m = choose_model(&o, program, &e);
        fine = m && (o.train.steps > 0 ? bench_print_steps(m, (int)o.threads, o.train.steps, stdout, o.json, &e)
                                       : bench_print_training(m, (int)o.threads, NULL, stdout, o.json, &e));
    } else if (fine) {
        fine = run(&o, program, &e);
    }
    if (fine)
        return 0;
    fprintf(stderr, "%s: %s%s\n", program, e.kind == RT_INTERRUPTED ? "" : "error: ", e.text);
    return e.kind;
}
