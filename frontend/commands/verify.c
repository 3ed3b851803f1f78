/* verify: are the outputs what another program says?
 * In: --input x.npy, --expect y.npy or a folder of NAME.npy. Out: largest errors on stdout; exit 1 beyond the tolerance.
 * The idea: |got - want| <= atol + rtol * |want| for every number, as torch.allclose has it. The output is generated
 * code's; inner layers are the reference interpreter's, so that the first that differs is where the models part. */
#include "frontend/commands/commands.h"
#include "frontend/commands/layers.h"
#include "runtime/npy.h"
#include "runtime/session.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    double absolute, relative;
    int64_t worst, beyond, n;
} Difference;

static Difference compare(const float *got, const float *want, int64_t n, const Options *o)
{
    Difference d = {.n = n};
    for (int64_t i = 0; i < n; i++) {
        if ((isnan(got[i]) && isnan(want[i])) || got[i] == want[i])
            continue;
        double a = fabs((double)got[i] - want[i]), r = a / fmax(fabs((double)want[i]), 1e-30);
        bool bad = !(a <= o->atol + o->rtol * fabs((double)want[i]));
        d.beyond += bad;
        if (!(a <= d.absolute)) {
            d.absolute = a;
            d.worst = i;
        }
        if (bad || fabs((double)want[i]) > o->atol)
            d.relative = fmax(d.relative, r);
    }
    return d;
}

static int print_difference(const char *what, const Difference *d, const Options *o)
{
    printf("%s: %lld numbers, largest absolute error %.3g, largest relative error %.3g", what, (long long)d->n, d->absolute,
           d->relative);
    if (d->beyond)
        printf("; %lld beyond atol=%g rtol=%g, the worst at index %lld", (long long)d->beyond, o->atol, o->rtol,
               (long long)d->worst);
    putchar('\n');
    return d->beyond ? EXIT_MODEL : EXIT_FINE;
}

/* Reads path and compares it with n numbers; its shape may differ, its size not. */
static int compare_file(const char *what, const char *path, const float *got, int64_t n, const Options *o)
{
    NpyArray y;
    RtError e = {0};
    if (!npy_read(path, &y, &e))
        return code_runtime_error(&e);
    if (y.n != n) {
        driver_error(EXIT_FILE, "%s holds %lld numbers, the model makes %lld", path, (long long)y.n, (long long)n);
        npy_free(&y);
        return EXIT_FILE;
    }
    float *want = npy_to_f32(&y, &e);
    npy_free(&y);
    if (!want)
        return code_runtime_error(&e);
    Difference d = compare(got, want, n, o);
    free(want);
    return print_difference(what, &d, o);
}

/* Every layer that has a file; stops at the first that differs. */
static int compare_layers(CodeGen *c, const Samples *s)
{
    const Graph *g = c->cc->module.graph;
    RefRun *run = layers_run(c, s);
    int status = run ? EXIT_FINE : EXIT_FILE, found = 0;
    for (uint32_t i = 0; i < g->layers.len && !status; i++) {
        const Layer *layer = &g->layers.at[i];
        const RefTensor *t = &run->value[layer->out];
        const char *path = arena_printf(c->cc->arena, "%s/%s.npy", c->cc->o->expect, layer->name);
        if (access(path, R_OK) != 0 || !t->data)
            continue;
        int64_t n = shape_elements(&t->shape);
        float *got = NEWN(c->cc->arena, float, n + 1);
        for (int64_t k = 0; k < n; k++)
            got[k] = (float)t->data[k];
        status = compare_file(arena_printf(c->cc->arena, "%s (%s)", layer->name, layer->type), path, got, n, c->cc->o);
        found++;
    }
    if (!status && !found)
        return driver_error(EXIT_FILE, "%s holds no NAME.npy of a layer", c->cc->o->expect);
    return status;
}

static int compare_output(CodeGen *c, const Samples *s)
{
    RtError e = {0};
    Session session;
    SessionOptions so = {.threads = (int)c->cc->o->threads};
    int status = code_inference(c, false);
    if (!status)
        status = code_jit(c);
    if (status)
        return status;
    if (!session_open(&session, c->model, &so, &e))
        return code_runtime_error(&e);
    float *out = NEWN(c->cc->arena, float, session.out_size * s->n + 1);
    bool fine = s->u8 ? session_infer_bytes(&session, s->u8, s->n, out, &e) : session_infer(&session, s->f32, s->n, out, &e);
    status = fine ? compare_file("output", c->cc->o->expect, out, session.out_size * s->n, c->cc->o) : code_runtime_error(&e);
    session_close(&session);
    return status;
}

static int run(Compile *cc)
{
    CodeGen c = {0};
    RtError e = {0};
    Samples s;
    struct stat st;
    const Graph *g = cc->module.graph;
    bool folder = stat(cc->o->expect, &st) == 0 && S_ISDIR(st.st_mode);
    int status = code_open(&c, cc);
    if (!status)
        status = code_weights(&c);
    if (status)
        return status;
    if (!samples_read(cc->o->input, g->input_shape.rank, g->input_shape.dim, &s, &e))
        return code_runtime_error(&e);
    status = folder ? compare_layers(&c, &s) : compare_output(&c, &s);
    samples_free(&s);
    code_free(&c);
    return status;
}

int command_verify(Options *o)
{
    Compile cc;
    bool done;
    if (!o->weights || !o->input || !o->expect)
        return driver_error(EXIT_USAGE, "verify needs --weights W, --input X.npy and --expect Y.npy");
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = run(&cc);
    driver_free(&cc);
    return status;
}
