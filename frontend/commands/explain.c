/* explain: the arithmetic of a layer, of one number, and what a message means.
 * In: MODEL [LAYER] or CODE. Out: passes/explain.h's text on stdout or in a file.
 * The idea: a word that is no file is a code; what needs numbers (--pixel, --image, --weights-of) reads weights first. */
#include "passes/explain.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"
#include "passes/codes.h"
#include "runtime/samples.h"
#include <ctype.h>
#include <string.h>
#include <unistd.h>

static bool looks_like_code(const char *word)
{
    size_t n = strlen(word);
    return !strcmp(word, "warnings") ||
           (n > 1 && (toupper((unsigned char)word[0]) == 'E' || toupper((unsigned char)word[0]) == 'W') &&
            isdigit((unsigned char)word[1]));
}

static int explain_a_code(Options *o)
{
    Output out;
    const char *word = o->args.at[0];
    if (strcmp(word, "warnings") != 0 && !code_find(word)) {
        driver_error(EXIT_USAGE, "no code is called '%s'", word);
        fputs("help: cnnc explain warnings lists them\n", stderr);
        return EXIT_USAGE;
    }
    if (!driver_open_output(o, &out))
        return EXIT_FILE;
    if (!strcmp(word, "warnings"))
        explain_warnings(out.to);
    else
        explain_code(word, out.to);
    return driver_close_output(&out);
}

static const RefNamed *find_weight(const CodeGen *c, const char *name)
{
    for (int32_t i = 0; name && i < c->n_weights; i++)
        if (!strcmp(c->weights[i].name, name))
            return &c->weights[i];
    return NULL;
}

static void print_weights(const CodeGen *c, LayerId layer, FILE *to)
{
    const Graph *g = c->cc->module.graph;
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        if (node->op != OP_PARAM || (layer >= 0 && node->layer != layer))
            continue;
        const Value *v = graph_value(g, node->out[0]);
        const RefNamed *w = find_weight(c, v->name);
        if (w)
            explain_print_weight(to, v->name, &v->shape, ref_named_data(c->cc->arena, w), &node->attrs.param, v->dtype == DT_I64);
    }
}

/* What arrives at the layer, or leaves it, for the sample in --image (or a sample of zeros), computed by the reference
 * interpreter. */
static int layer_value(CodeGen *c, ValueId want, const double **x)
{
    Arena *a = c->cc->arena;
    const Graph *g = c->cc->module.graph;
    const Normalize *z = &c->cc->module.normalize;
    int64_t n = shape_elements(&g->input_shape), plane = n / (g->input_shape.rank > 1 ? g->input_shape.dim[0] : n);
    double *in = NEWN(a, double, n);
    RtError e = {0};
    Samples s = {0};
    if (c->cc->o->image) {
        if (!samples_read_any(c->cc->o->image, g->input_shape.rank, g->input_shape.dim, &s, &e))
            return code_runtime_error(&e);
        for (int64_t i = 0; i < n; i++) {
            int ch = z->n > 1 ? (int)(i / plane) : 0;
            in[i] = s.u8 ? s.u8[i] / 255.0 : s.f32[i];
            if (z->given && z->n > 0)
                in[i] = (in[i] - z->mean[ch]) / z->std[ch];
        }
        samples_free(&s);
    }
    RefInputs inputs = {.n = 1, .input = in, .params = c->weights, .n_params = c->n_weights, .want = &want, .n_want = 1};
    RefRun *run = ref_run(a, g, &inputs);
    if (run->error)
        return driver_error(EXIT_BUG, "%s", run->error);
    *x = run->value[want].data;
    return EXIT_FINE;
}

static const double *param_of(const CodeGen *c, LayerId layer, const char *what)
{
    const RefNamed *w = find_weight(c, arena_printf(c->cc->arena, "%s.%s", c->cc->module.graph->layers.at[layer].name, what));
    return w ? ref_named_data(c->cc->arena, w) : NULL;
}

static int print_pixel(CodeGen *c, LayerId layer, FILE *to)
{
    ExplainPixel p = {0};
    const char *why = NULL, *text = c->cc->o->pixel;
    long long k = 0, y = 0, x = 0;
    char rest;
    if (sscanf(text, "%lld,%lld,%lld%c", &k, &y, &x, &rest) != 3) {
        k = 0;
        if (sscanf(text, "%lld,%lld%c", &y, &x, &rest) != 2) {
            if (sscanf(text, "%lld%c", &k, &rest) != 1)
                return driver_error(EXIT_USAGE, "--pixel needs Y,X or CHANNEL,Y,X, not '%s'", text);
            y = x = 0;
        }
    }
    int status = layer_value(c, c->cc->module.graph->layers.at[layer].in, &p.x);
    if (status)
        return status;
    p.w = param_of(c, layer, "weight");
    p.b = param_of(c, layer, "bias");
    p.k = k;
    p.row = y;
    p.column = x;
    if (!explain_pixel(c->cc->module.graph, layer, &p, to, &why))
        return driver_error(EXIT_USAGE, "%s", why);
    return EXIT_FINE;
}

/* The layer's feature maps for the picture in --image. */
static int print_maps(CodeGen *c, LayerId layer, FILE *to)
{
    const Graph *g = c->cc->module.graph;
    const Layer *l = &g->layers.at[layer];
    const Shape *batched = &graph_value(g, l->out)->shape;
    Shape s = {.rank = batched->rank - 1};
    const double *x = NULL;
    int status = layer_value(c, l->out, &x);
    if (status)
        return status;
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = batched->dim[i + 1];
    fprintf(to, "%s: %s\n", l->name, l->printed ? l->printed : l->type);
    explain_print_maps(to, &s, x, 16);
    return EXIT_FINE;
}

static int unknown_layer(const char *name, const char *near)
{
    driver_error(EXIT_USAGE, "no layer is called '%s'", name);
    if (near)
        fprintf(stderr, "help: did you mean %s?\n", near);
    return EXIT_USAGE;
}

static int explain_numbers(Compile *cc, const char *name, FILE *to)
{
    const char *near = NULL;
    CodeGen c = {.cc = cc};
    LayerId layer = name ? explain_find(cc->module.graph, name) : -1;
    if (name && layer < 0)
        return explain_layer(&cc->module, name, to, &near) ? EXIT_FINE : unknown_layer(name, near);
    if (!name && (cc->o->pixel || cc->o->image))
        return driver_error(EXIT_USAGE, "%s needs a layer: cnnc explain MODEL LAYER %s", cc->o->pixel ? "--pixel" : "--image",
                            cc->o->pixel ? "--pixel Y,X" : "--image FILE");
    int status = code_weights(&c);
    if (status)
        return status;
    code_tell_initial(&c);
    if (cc->o->weights_of)
        print_weights(&c, layer, to);
    if (cc->o->pixel)
        return print_pixel(&c, layer, to);
    return cc->o->image ? print_maps(&c, layer, to) : EXIT_FINE;
}

static int explain_text(Compile *cc, const char *name, FILE *to)
{
    const char *near = NULL;
    if (cc->o->pixel || cc->o->weights_of || cc->o->image)
        return explain_numbers(cc, name, to);
    if (!name)
        explain_model(&cc->module, to);
    else if (!explain_layer(&cc->module, name, to, &near))
        return unknown_layer(name, near);
    return EXIT_FINE;
}

int command_explain(Options *o)
{
    Compile cc;
    Output out;
    bool done;
    if (o->args.len == 1 && looks_like_code(o->args.at[0]) && access(o->args.at[0], F_OK) != 0)
        return explain_a_code(o);
    if (o->args.len > 2)
        return driver_error(EXIT_USAGE, "explain takes a model and one layer, '%s' is too much", o->args.at[2]);
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done) {
        status = driver_open_output(o, &out) ? EXIT_FINE : EXIT_FILE;
        if (!status) {
            status = explain_text(&cc, o->args.len > 1 ? o->args.at[1] : NULL, out.to);
            int closed = driver_close_output(&out);
            status = status ? status : closed;
        }
    }
    driver_free(&cc);
    return status;
}
