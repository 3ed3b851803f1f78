/* accuracy.c: --max-rel-err, and the error of bf16 for -v.
 * In: a Compile with its weights. Out: the program, and a line that says how far it is from double precision.
 * Idea: algorithms have an expected error; take those up to the limit, measure the whole, and leave out the worst until it holds. */
#include "frontend/commands/accuracy.h"
#include "codegen/winograd.h"
#include "runtime/bench.h"
#include "runtime/cpu.h"
#include "runtime/device.h"
#include <math.h>

/* A layer's largest error is above the net's: later layers average it. */
static const double HOPEFUL = 4;

/* The form with the largest expected error that the program uses; NULL: every convolution is direct. */
static const WinogradForm *worst_form(const Program *p)
{
    const WinogradForm *worst = NULL;
    const KernelList *l = p->infer->kernels;
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        const WinogradForm *f = l->buffers.at[b].winograd;
        if (f && (!worst || f->error > worst->error))
            worst = f;
    }
    return worst;
}

bool accuracy_can_run(const CodeGen *c)
{
    RtError e = {0};
    int sm = 0;
    if (!c->backend)
        return device_choose("cuda", NULL, &sm, NULL, &e);
    return !c->cc->o->target && cpu_has_features(c->target.features, NULL, 0) && (!c->target.tiles || cpu_has_features(CPU_TILE_FEATURES, NULL, 0));
}

/* Runs the program on the samples that the reference interpreter answered. */
static int measure(CodeGen *c, double *error)
{
    RtError e = {0};
    Session s;
    SessionOptions so = {.threads = (int)c->cc->o->threads};
    const CnncModel *m = &c->program->model;
    int sm = 0;
    if (c->backend && c->cc->o->target)
        return driver_error(EXIT_USAGE, "--max-rel-err runs the program to measure its error: it cannot for another machine (--target)");
    if (c->backend ? !cpu_check("the program", m->cpu, m->features, &e) : !device_choose("cuda", NULL, &sm, NULL, &e))
        return code_runtime_error(&e);
    int status = code_jit(c);
    if (!status && !session_open(&s, c->model, &so, &e))
        status = code_runtime_error(&e);
    if (!status) {
        double absolute, largest;
        if (!selftest_errors(&s, &absolute, &largest, &e))
            status = code_runtime_error(&e);
        *error = absolute == 0 ? 0 : absolute / largest;
        session_close(&s);
    }
    code_free(c);
    return status;
}

/* The program keeps the samples only where it wants a self-test. */
static int compile_measured(CodeGen *c, double *error)
{
    c->options.always_selftest = true;
    int status = code_inference_once(c);
    if (status || !c->program)
        return status;
    status = measure(c, error);
    if (!c->options.selftest)
        c->program->model.n_test = 0;
    return status;
}

static const char *device_word(const CodeGen *c) { return c->backend ? "" : "GPU, "; }

static void tell(const CodeGen *c, double error, const WinogradForm *used)
{
    if (!c->cc->o->quiet)
        fprintf(stderr, "cnnc: largest error %.2g of the largest output, measured against double precision (%g allowed; %s%s%s)\n", error,
                c->cc->o->max_rel_err, device_word(c), used ? "Winograd up to " : "direct convolutions", used ? used->name : "");
}

int accuracy_report(CodeGen *c)
{
    double error = 0;
    int status = compile_measured(c, &error);
    if (status || !c->program)
        return status;
    fprintf(stderr, "cnnc: largest error %.2g of the largest output, measured against double precision (%sprecision %s)\n", error,
            device_word(c), c->program->model.precision);
    return EXIT_FINE;
}

int accuracy_inference(CodeGen *c)
{
    double limit = c->cc->o->max_rel_err, error = 0;
    const WinogradForm *used = NULL;
    c->options.winograd_error = HOPEFUL * limit;
    int status = compile_measured(c, &error);
    while (!status && c->program && !(error <= limit) && (used = worst_form(c->program))) {
        c->options.winograd_error = nextafter(used->error, 0);
        status = compile_measured(c, &error);
    }
    if (status || !c->program)
        return status;
    tell(c, error, worst_form(c->program));
    if (!(error <= limit))
        return driver_error(EXIT_MODEL, "%s cannot do better than an error of %.2g here: --max-rel-err %g asks for more",
                            c->options.precision == PRECISION_F32 ? "float32" : c->program->model.precision, error, limit);
    return EXIT_FINE;
}
