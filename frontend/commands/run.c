/* run: the model's outputs, or an inner layer's, for arrays of samples.
 * In: --input x.npy. Out: --output y.npy, float32; --all-layers DIR: one file a layer.
 * The idea: JIT-compiled; --layer compiles the net up to that layer; --all-layers asks the reference interpreter, which
 * has every value. */
#include "frontend/commands/commands.h"
#include "frontend/commands/layers.h"
#include "runtime/npy.h"
#include "runtime/session.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int write_layer(Arena *a, const char *dir, const Layer *layer, const RefTensor *t)
{
    RtError e = {0};
    int64_t n = shape_elements(&t->shape);
    float *out = NEWN(a, float, n + 1);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)t->data[i];
    if (!npy_write_f32(arena_printf(a, "%s/%s.npy", dir, layer->name), t->shape.rank, t->shape.dim, out, &e))
        return code_runtime_error(&e);
    return EXIT_FINE;
}

static int write_all(CodeGen *c, const char *dir)
{
    const Graph *g = c->cc->module.graph;
    RtError e = {0};
    Samples s;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return driver_error(EXIT_FILE, "%s cannot be made: %s", dir, strerror(errno));
    if (!samples_read(c->cc->o->input, g->input_shape.rank, g->input_shape.dim, &s, &e))
        return code_runtime_error(&e);
    RefRun *run = layers_run(c, &s);
    samples_free(&s);
    int status = run ? EXIT_FINE : EXIT_FILE;
    for (uint32_t i = 0; i < g->layers.len && !status; i++) {
        const Layer *layer = &g->layers.at[i];
        if (run->value[layer->out].data)
            status = write_layer(c->cc->arena, dir, layer, &run->value[layer->out]);
    }
    return status;
}

static int write_output(CodeGen *c)
{
    const Options *o = c->cc->o;
    RtError e = {0};
    Session s;
    SessionOptions so = {.threads = (int)o->threads};
    int status = code_inference(c, false);
    if (!status)
        status = code_jit(c);
    if (status)
        return status;
    if (!session_open(&s, c->model, &so, &e))
        return code_runtime_error(&e);
    if (!session_infer_file(&s, o->input, o->out, &e))
        status = code_runtime_error(&e);
    session_close(&s);
    return status;
}

static int run(Compile *cc)
{
    const Options *o = cc->o;
    Graph *g = cc->module.graph;
    CodeGen c = {.cc = cc};
    int status = o->out ? code_open(&c, cc) : EXIT_FINE;
    if (!status)
        status = code_weights(&c);
    if (status)
        return status;
    code_tell_initial(&c);
    if (o->all_layers)
        status = write_all(&c, o->all_layers);
    if (!status && o->out && o->layer) {
        LayerId layer = layers_find(g, o->layer);
        if (layer < 0)
            return EXIT_USAGE;
        g->output = g->layers.at[layer].out;
    }
    if (!status && o->out)
        status = write_output(&c);
    code_free(&c);
    return status;
}

int command_run(Options *o)
{
    Compile cc;
    bool done;
    if (!o->dump && !o->input)
        return driver_error(EXIT_USAGE, "run needs --input X.npy");
    if (!o->dump && !o->out && !o->all_layers)
        return driver_error(EXIT_USAGE, "run needs --output Y.npy or --all-layers DIR");
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = run(&cc);
    driver_free(&cc);
    return status;
}
