/* bench: time per call and per layer of the compiled model on this machine.
 * In: a model. Out: the runtime's tables on stdout. */
#include "runtime/bench.h"
#include "codegen/gpu/roofline.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"
#include <string.h>

static int run(Compile *cc)
{
    const Options *o = cc->o;
    CodeGen c = {0};
    RtError e = {0};
    Session s;
    int status = code_session_model(&c, cc);
    if (!status) {
        SessionOptions so = {.threads = (int)o->threads};
        code_tell_initial(&c);
        bool open = session_open(&s, c.model, &so, &e);
        Peak peak = o->json || c.model->gpu ? (Peak){0} : peak_measure();
        if (!open || !bench_print(&s, stdout, o->json, &e) || (!o->json && !bench_print_layers(&s, &peak, stdout, false, &e)))
            status = code_runtime_error(&e);
        if (open)
            session_close(&s);
    }
    code_free(&c);
    return status;
}

/* --train: a step of training on random samples. */
static int run_training(Compile *cc)
{
    const Options *o = cc->o;
    CodeGen c = {0};
    RtError e = {0};
    int status = code_open(&c, cc);
    if (!status)
        status = code_training(&c);
    if (!status)
        status = code_jit(&c);
    if (!status) {
        Peak peak = c.model->gpu ? (Peak){0} : peak_measure();
        if (!bench_print_training(c.model, (int)o->threads, &peak, stdout, o->json, &e))
            status = code_runtime_error(&e);
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
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = o->static_bench ? run_static(&cc) : o->train_bench ? run_training(&cc) : run(&cc);
    driver_free(&cc);
    return status;
}
