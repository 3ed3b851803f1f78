/* The main of a standalone inference program; the model is linked in.
 * In: pictures, arrays or folders. Out: classes on stdout, errors on stderr, the exit status of runtime/error.h.
 * Relies on cnnc_model, which the program's object defines.
 * Idea: a page of options over session, predict and bench. */
#include "runtime/args.h"
#include "runtime/bench.h"
#include "runtime/cpu.h"
#include "runtime/device.h"
#include "runtime/predict.h"
#include <stdio.h>
#include <string.h>

typedef struct {
    bool help, version, json, info, layers, bench, selftest;
    int64_t top, threads, batch;
    const char *input, *output, *device;
} Options;

static void print_help(const char *program, const Arg *table, int n)
{
    char shape[128];
    const CnncModel *m = cpu_model(&cnnc_model, cnnc_models);
    printf("usage: %s IMAGE...                      the most probable classes of pictures, arrays, folders\n"
           "       %s --input X.npy --output Y.npy  the model's outputs; input %s, one or many\n\n",
           program, program, rt_shape_text(m->in_rank, m->in_shape, shape, sizeof shape));
    args_print(stdout, table, n);
}

static bool run_session(Session *s, const Options *o, char *const *files, int n_files, const char *program, RtError *e)
{
    if (o->selftest)
        return selftest_run(s, stdout, e);
    if (o->layers)
        return bench_print_layers(s, NULL, stdout, o->json, e);
    if (o->bench)
        return bench_print(s, stdout, o->json, e);
    if (o->input)
        return session_infer_file(s, o->input, o->output, e);
    PredictOptions p = {.top = o->top, .json = o->json, .to = stdout, .complaints = stderr, .program = program};
    return predict_paths(s, files, n_files, &p, e);
}

static bool run(const Options *o, char *const *files, int n_files, const char *program, RtError *e)
{
    SessionOptions options = {.threads = (int)o->threads, .batch = o->batch};
    Session s;
    if (!o->input != !o->output)
        return rt_error(e, RT_USAGE, "--input and --output go together");
    if (o->input && n_files > 0)
        return rt_error(e, RT_USAGE, "--input takes the place of '%s'", files[0]);
    if (!o->input && n_files == 0 && !o->layers && !o->bench && !o->selftest)
        return rt_error(e, RT_USAGE, "nothing to do: name pictures or --input (--help)");
    const CnncModel *m = device_model(cpu_model(&cnnc_model, cnnc_models), &cnnc_gpu_model, o->device, stderr, e);
    if (!m || (!m->gpu && !cpu_check(program, m->cpu, m->features, e)))
        return false;
    if (!session_open(&s, m, &options, e))
        return false;
    bool fine = run_session(&s, o, files, n_files, program, e);
    session_close(&s);
    return fine;
}

int main(int argc, char **argv)
{
    Options o = {0};
    const Arg table[] = {
        {"--input", NULL, ARG_TEXT, &o.input, 0, "X.npy", "float32 or 8-bit samples (.npy or IDX), any number"},
        {"--output", NULL, ARG_TEXT, &o.output, 0, "Y.npy", "where the outputs go, float32"},
        {"--json", NULL, ARG_FLAG, &o.json, 0, NULL, "results as JSON"},
        {"--top", NULL, ARG_INT, &o.top, 1, "K", "classes per sample (3)"},
        {"--device", NULL, ARG_TEXT, &o.device, 0, "cpu|cuda|auto", "where to run (a GPU that works and is built for, else the CPU)"},
        {"--threads", NULL, ARG_INT, &o.threads, 1, "N", "threads (all cores)"},
        {"--batch", NULL, ARG_INT, &o.batch, 1, "N", "samples at a time, at most as built"},
        {"--info", NULL, ARG_FLAG, &o.info, 0, NULL, "the model, its sizes, what it was built with"},
        {"--layers", NULL, ARG_FLAG, &o.layers, 0, NULL, "time per layer"},
        {"--bench", NULL, ARG_FLAG, &o.bench, 0, NULL, "time per call"},
        {"--selftest", NULL, ARG_FLAG, &o.selftest, 0, NULL, "compare with outputs recorded at build time"},
        {"--help", "-h", ARG_FLAG, &o.help, 0, NULL, "this text"},
    };
    enum { N = sizeof table / sizeof *table };
    RtError e = {0};
    const char *slash = strrchr(argv[0] ? argv[0] : "", '/'), *program = slash ? slash + 1 : argv[0];
    bool fine = args_parse(table, N, &argc, argv, &e);
    if (fine && o.help)
        print_help(program, table, N);
    else if (fine && o.info)
        info_print(cpu_model(&cnnc_model, cnnc_models), &cnnc_gpu_model, stdout, o.json);
    else if (fine)
        fine = run(&o, argv + 1, argc - 1, program, &e);
    if (fine && (fflush(stdout) != 0 || ferror(stdout)))
        fine = rt_error(&e, RT_FILE, "standard output could not be written");
    if (fine)
        return 0;
    if (e.text[0])
        fprintf(stderr, "%s: error: %s\n", program, e.text);
    return e.kind;
}
