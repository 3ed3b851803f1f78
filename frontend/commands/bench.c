/* bench: time per call and per layer of the compiled model on this machine.
 * In: a model. Out: the runtime's tables on stdout.
 * Idea: small nets run as few stages of many layers. Then a second program with each layer in stages of its own shows which
 * layer is slow. */
#include "runtime/bench.h"
#include "codegen/gpu/roofline.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"
#include "runtime/json_write.h"
#include <string.h>

static bool layers_share_stages(const CnncFunction *f)
{
    for (int i = 0; i < f->n_stages; i++)
        if (f->stages[i].first_layer < f->stages[i].last_layer)
            return true;
    return false;
}

/* peak: NULL on a GPU. */
static void print_json_head(const CpuPeak *peak)
{
    putchar('{');
    if (peak) {
        fputs("\"peak_gflops\": ", stdout);
        json_put_number(stdout, 1e-9 * peak->flops);
        fputs(", \"memory_gbs\": ", stdout);
        json_put_number(stdout, 1e-9 * peak->bytes[PEAK_SIZES - 1]);
        fputs(",\n", stdout);
    }
    fputs("\"calls\": ", stdout);
}

static int print_layers(const CodeGen *c, Session *s, const CpuPeak *peak, const char *json_name, const char *title)
{
    RtError e = {0};
    const Options *o = c->cc->o;
    if (o->json)
        printf(",\n\"%s\": ", json_name);
    else
        fputs(title, stdout);
    return bench_print_layers(s, peak, stdout, o->json, &e) ? EXIT_FINE : code_runtime_error(&e);
}

static int print_layers_apart(const CodeGen *together, const CpuPeak *peak)
{
    CodeGen c = *together;
    SessionOptions so = {.threads = (int)c.cc->o->threads};
    RtError e = {0};
    Session s;
    c.jit = NULL;
    c.options.apart = APART_LAYERS;
    int status = code_inference_once(&c);
    if (!status)
        status = code_jit(&c);
    if (!status && !session_open(&s, c.model, &so, &e)) {
        status = code_runtime_error(&e);
    } else if (!status) {
        status = print_layers(&c, &s, peak, "layers_apart", "\neach layer on its own\n");
        session_close(&s);
    }
    code_free(&c);
    return status;
}

static int print_all(const CodeGen *c, Session *s)
{
    RtError e = {0};
    const Options *o = c->cc->o;
    bool gpu = c->model->gpu != NULL;
    CpuPeak peak = gpu ? (CpuPeak){0} : peak_measure();
    if (o->json)
        print_json_head(gpu ? NULL : &peak);
    if (!bench_print(s, stdout, o->json, &e))
        return code_runtime_error(&e);
    int status = print_layers(c, s, &peak, "layers", "");
    if (!status && !gpu && layers_share_stages(c->model->infer))
        status = print_layers_apart(c, &peak);
    if (!status && o->json)
        puts("}");
    return status;
}

static int run(Compile *cc)
{
    CodeGen c = {0};
    RtError e = {0};
    Session s;
    int status = code_session_model(&c, cc);
    if (!status) {
        SessionOptions so = {.threads = (int)cc->o->threads};
        code_tell_initial(&c);
        if (session_open(&s, c.model, &so, &e)) {
            status = print_all(&c, &s);
            session_close(&s);
        } else {
            status = code_runtime_error(&e);
        }
    }
    code_free(&c);
    return status;
}

/* Compiles the training step and prints its times. */
static int time_training(CodeGen *c, const CpuPeak *peak)
{
    const Options *o = c->cc->o;
    RtError e = {0};
    int status = code_training(c);
    if (!status)
        status = code_jit(c);
    if (!status && !bench_print_training(c->model, (int)o->threads, peak, stdout, o->json, &e))
        status = code_runtime_error(&e);
    return status;
}

/* --train: a step of training on random samples; with -v on a CPU also where inside the stages its time goes. */
static int run_training(Compile *cc)
{
    const Options *o = cc->o;
    CodeGen c = {0};
    int status = code_open(&c, cc);
    CpuPeak peak = !status && c.backend ? peak_measure() : (CpuPeak){0};
    if (!status)
        status = time_training(&c, &peak);
    if (!status && c.backend && o->verbose && !o->json) {
        CodeGen apart = c;
        apart.jit = NULL;
        apart.options.apart = APART_KERNELS;
        fputs("\neach kernel on its own\n", stdout);
        status = time_training(&apart, &peak);
        code_free(&apart);
    }
    code_free(&c);
    return status;
}

/* --static: what ptxas says of every kernel, and what a roofline allows. */
static int run_static(Compile *cc)
{
    const Options *o = cc->o;
    const char *why = NULL;
    GpuTargets gpus;
    CodeGen c = {0};
    if (!o->device || strcmp(o->device, "cuda") != 0)
        return driver_error(EXIT_USAGE, "--static needs --device cuda");
    if (!gpu_targets_parse(cc->arena, o->gpu, &gpus, &why))
        return driver_error(EXIT_USAGE, "%s", why);
    gpus.ptx = 0;
    gpus.parts = GPU_PARTS_BY_CORES;
    int status = code_open_gpu(&c, cc, &gpus);
    if (!status)
        status = o->train_bench ? EXIT_FINE : code_weights(&c);
    if (!status)
        status = o->train_bench ? code_training(&c) : code_inference(&c, false);
    if (!status)
        status = code_images(&c);
    if (!status)
        gpu_print_static(stdout, &c.program->model, &gpus, c.uses, o->json);
    return status;
}

int command_bench(Options *o)
{
    Compile cc;
    bool done;
    if (o->recompute && !o->train_bench)
        return driver_error(EXIT_USAGE, "--recompute concerns training: bench --train --recompute");
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = o->static_bench ? run_static(&cc) : o->train_bench ? run_training(&cc) : run(&cc);
    driver_free(&cc);
    return status;
}
