/* layers.c: values inside the net.
 * In: a checked module, weights, samples. Out: every layer's output in double.
 * Invariant: the samples are preprocessed as `run` does it: bytes divided by 255, everything normalised.
 * The idea: the reference interpreter keeps all values anyway; generated code has fused most of them away. */
#include "frontend/commands/layers.h"
#include <string.h>

LayerId layers_find(const Graph *g, const char *name)
{
    Arena *a = arena_new();
    Vec(const char *) names = {0};
    for (uint32_t i = 0; i < g->layers.len; i++) {
        if (!strcmp(g->layers.at[i].name, name)) {
            arena_free(a);
            return (LayerId)i;
        }
        vec_push(a, &names, g->layers.at[i].name);
    }
    vec_push(a, &names, NULL);
    const char *near = nearest_word(name, names.at);
    driver_error(EXIT_USAGE, "no layer is called '%s'", name);
    if (near)
        fprintf(stderr, "help: did you mean %s?\n", near);
    arena_free(a);
    return -1;
}

RefRun *layers_run(CodeGen *c, const Samples *s)
{
    Arena *a = c->cc->arena;
    const Graph *g = c->cc->module.graph;
    const Normalize *z = &c->cc->module.normalize;
    int64_t sample = shape_elements(&g->input_shape), plane = g->input_shape.rank > 1 ? sample / g->input_shape.dim[0] : sample;
    double *in = NEWN(a, double, sample * s->n + 1);
    if (z->given && z->automatic) {
        driver_error(EXIT_FILE, "the model says normalize(\"auto\"), but its weights hold no mean and std; train it first");
        return NULL;
    }
    for (int64_t i = 0; i < sample * s->n; i++) {
        int channel = z->n > 1 ? (int)(i % sample / plane) : 0;
        in[i] = s->u8 ? s->u8[i] / 255.0 : s->f32[i];
        if (z->given && z->n > 0)
            in[i] = (in[i] - z->mean[channel]) / z->std[channel];
    }
    Graph copy = *g; /* the batch is a maximum: here, all samples at once */
    copy.batch = s->n > copy.batch ? s->n : copy.batch;
    RefInputs inputs = {.n = s->n, .input = in, .params = c->weights, .n_params = c->n_weights};
    RefRun *run = ref_run(a, &copy, &inputs);
    if (run->error) {
        driver_error(EXIT_BUG, "%s", run->error);
        return NULL;
    }
    return run;
}
