/* predict: the most probable classes of pictures, arrays and folders.
 * In: a model, weights, files. Out: text or JSON on stdout. The idea: what programs made by `build` do, JIT-compiled. */
#include "runtime/predict.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"

static int run(Compile *cc)
{
    const Options *o = cc->o;
    CodeGen c = {0};
    RtError e = {0};
    Session s;
    int status = code_session_model(&c, cc);
    if (!status) {
        SessionOptions so = {.threads = (int)o->threads};
        PredictOptions p = {.top = o->top, .json = o->json, .to = stdout, .complaints = stderr, .program = "cnnc"};
        bool open = session_open(&s, c.model, &so, &e);
        if (!open || !predict_paths(&s, (char *const *)(o->args.at + 1), (int)o->args.len - 1, &p, &e))
            status = code_runtime_error(&e);
        if (open)
            session_close(&s);
    }
    code_free(&c);
    return status;
}

int command_predict(Options *o)
{
    Compile cc;
    bool done;
    if (!o->weights)
        return driver_error(EXIT_USAGE, "predict needs --weights");
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = o->args.len > 1 ? run(&cc) : driver_error(EXIT_USAGE, "predict needs pictures, arrays or folders");
    driver_free(&cc);
    return status;
}
