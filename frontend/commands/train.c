/* train: trains as the train block says and the options override.
 * In: a model, its data. Out: weights, checkpoint, log; progress on stderr.
 * The idea: the training step is compiled for this machine and handed to the runtime that standalone trainers use. */
#include "runtime/train.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"
#include "runtime/checkpoint.h"
#include "runtime/error.h"
#include <stdlib.h>
#include <unistd.h>

static TrainOptions train_options(const Options *o, const Compile *cc, const char *out)
{
    (void)cc;
    return (TrainOptions){.out = out,
                          .best = o->best,
                          .resume = o->resume,
                          .log = o->log,
                          .weights = o->weights,
                          .partial = o->partial,
                          .data = o->data,
                          .epochs = o->epochs,
                          .batch = o->batch,
                          .steps = o->steps,
                          .lr = o->lr,
                          .has_lr = o->has_lr,
                          .seed = (uint64_t)o->seed,
                          .has_seed = o->has_seed,
                          .no_shuffle = o->no_shuffle,
                          .threads = (int)o->threads,
                          .progress = o->quiet ? NULL : stderr};
}

static int no_train_block(const Compile *cc)
{
    driver_error(EXIT_FILE, "%s has no train { } block that names its data", cc->path);
    fputs("help: add train { data = MNIST(\"data/mnist\") }\n", stderr);
    return EXIT_FILE;
}

/* The run goes on with the plan that --tune found for it: the same bits need the same plan. */
static int take_plan(CodeGen *c, const char *resume)
{
    RtError e = {0};
    char *beside = checkpoint_path(resume);
    char *plan = beside ? checkpoint_plan(access(beside, R_OK) == 0 ? beside : resume, &e) : NULL;
    int status = plan ? EXIT_FINE : beside ? code_runtime_error(&e) : EXIT_BUG;
    if (plan && !choices_parse(plan, &c->options.choices))
        status = driver_error(EXIT_FILE, "%s is a damaged checkpoint: its plan is unreadable", resume);
    free(plan);
    free(beside);
    return status;
}

static int run(Compile *cc)
{
    const Options *o = cc->o;
    CodeGen c = {0};
    if (cc->module.train.train.data == CNNC_DATA_NONE)
        return no_train_block(cc);
    if (o->html)
        return driver_error(EXIT_USAGE, "--html is not implemented yet");
    int status = code_open(&c, cc);
    if (!status && o->resume)
        status = take_plan(&c, o->resume);
    if (!status)
        status = code_training(&c);
    if (!status)
        status = code_jit(&c);
    if (!status) {
        RtError e = {0};
        const char *out = o->out ? o->out : arena_printf(cc->arena, "%s.safetensors", cc->stem);
        TrainOptions t = train_options(o, cc, out);
        if (!train_run(c.model, &t, NULL, &e))
            status = code_runtime_error(&e);
        else if (!o->quiet)
            fprintf(stderr, "weights saved in %s\n", out);
    }
    code_free(&c);
    return status;
}

int command_train(Options *o)
{
    Compile cc;
    bool done;
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = run(&cc);
    driver_free(&cc);
    return status;
}
