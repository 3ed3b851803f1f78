/* eval: loss, accuracy, per-class figures and the worst samples on the test data.
 * In: a model and weights. Out: the runtime's table on stdout. */
#include "runtime/eval.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"

static int run(Compile *cc)
{
    const Options *o = cc->o;
    CodeGen c = {0};
    RtError e = {0};
    if (cc->module.train.train.data == CNNC_DATA_NONE) {
        driver_error(EXIT_FILE, "%s has no train { } block that names its data", cc->path);
        return EXIT_FILE;
    }
    int status = code_open(&c, cc);
    if (!status)
        status = code_weights(&c);
    if (!status)
        status = code_inference(&c, false);
    if (!status) {
        c.program->model.train = &cc->module.train.train;
        status = code_jit(&c);
    }
    if (!status) {
        EvalOptions v = {.data = o->data,
                         .seed = (uint64_t)o->seed,
                         .has_seed = o->has_seed,
                         .threads = (int)o->threads,
                         .json = o->json,
                         .top_losses = 5,
                         .to = stdout,
                         .notes = o->quiet ? NULL : stderr};
        if (!eval_model(c.model, &v, &e))
            status = code_runtime_error(&e);
    }
    code_free(&c);
    return status;
}

int command_eval(Options *o)
{
    Compile cc;
    bool done;
    if (!o->weights)
        return driver_error(EXIT_USAGE, "eval needs --weights");
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = run(&cc);
    driver_free(&cc);
    return status;
}
