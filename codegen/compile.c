/* The pipeline behind the checks: passes -> kernels -> layouts -> stages and addresses -> tables.
 * In: a Module that `check` accepted. Out: a Program whose functions a target can emit. */
#include "codegen/compile_model.h"
#include "codegen/consts.h"
#include "codegen/flat.h"
#include "codegen/lower.h"
#include "codegen/strips.h"
#include "codegen/tiles.h"
#include "codegen/winograd.h"

#include <string.h>

enum { MAX_SLICES = 16 };

/* ---- one function ---- */
typedef struct {
    Arena *a;
    CompileOptions *o;
    Program *p;
    Consts *consts;
} Compiler;

static int64_t state_offset(void *ctx, const char *name)
{
    const Compiler *c = ctx;
    for (int32_t i = 0; i < c->p->model.n_tensors; i++)
        if (!strcmp(c->p->model.tensors[i].name, name))
            return c->p->model.tensors[i].offset;
    BUG("no state tensor is named %s", name);
}

static int64_t const_offset(void *ctx, const KernelList *l, BufId b) { return consts_add(((Compiler *)ctx)->consts, l, b); }

static bool wants(CompileOptions *o, const char *stage)
{
    if (!o->dump || strcmp(o->dump, stage))
        return false;
    o->dumped = true;
    return true;
}

static void check_kernels(const KernelList *l, const char *after)
{
#ifdef CNNC_CHECKS
    const char *why = NULL;
    if (!kernels_verify(l, &why))
        BUG("after %s: %s", after, why);
#else
    (void)l;
    (void)after;
#endif
}

/* A training step's logits go nowhere: an output the caller need not give. */
static void keep_output_inside(KernelList *l)
{
    for (uint32_t b = 1; b < l->buffers.len; b++)
        if (l->buffers.at[b].kind == BUF_OUTPUT)
            l->buffers.at[b].kind = BUF_WORK;
}

/* Samples of one of at most MAX_SLICES slices, whole vectors of `lanes` images. */
static int64_t slice_samples(int64_t batch, int64_t lanes)
{
    int64_t blocks = (batch + lanes - 1) / lanes;
    return lanes * ((blocks + MAX_SLICES - 1) / MAX_SLICES);
}

/* Bytes of the weights that are used once a sample (Linear). */
static int64_t weights_used_once(const KernelList *l)
{
    int64_t bytes = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access; at++) {
            const Buffer *b = &l->buffers.at[k->access[at].buf];
            int64_t elements = buffer_elements(b);
            bytes += !b->batched && k->macs > 1 && (double)elements >= k->macs ? elements * (int64_t)dtype_size(b->dtype) : 0;
        }
    }
    return bytes;
}

/* With images in the lanes: with few registers a tile is wider than one vector, and weights that fill the caches are read half as often
 * when two vectors of images go together. */
static int64_t image_samples(const KernelList *l, const NestTarget *t, int64_t batch)
{
    enum { FEWEST_SLICES = 2 };
    int64_t samples = slice_samples(batch, t->lanes);
    bool few = few_registers(t) && samples == t->lanes && batch >= 2 * t->lanes * FEWEST_SLICES;
    return few && weights_used_once(l) > t->l2 / 4 ? 2 * samples : samples;
}

/* Of the forms allowed, at most; 0: every convolution directly. */
static double winograd_error(const CompileOptions *o) { return o->no_winograd ? 0 : o->winograd_error > 0 ? o->winograd_error : WINOGRAD_ERROR; }

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* With images in the lanes strips need not be stages of their own where Winograd's weights stay in L2 from slice to slice. */
static bool weights_stay(const KernelList *l, const NestTarget *t)
{
    int64_t bytes = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        for (int at = 0; at < k->n_access && k->part == WINOGRAD_PRODUCT; at++) {
            const Buffer *b = &l->buffers.at[k->access[at].buf];
            if (!b->strip_elements)
                bytes += (int64_t)kernel_points(k, access_axes(k, (AccessId)at)) * (int64_t)dtype_size(b->dtype);
        }
    }
    return bytes <= t->l2 / 2;
}

/* Many samples with channels in the lanes: a few at a time go through as many layers as have room for their weights in the outer
 * cache, so that what one layer makes is still in a cache when the next reads it. */
static void run_deep(const KernelList *l, NestTarget *t)
{
    enum { MOST_SAMPLES = 2, FEWEST_SLICES = 8 };
    int64_t samples = 1;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        if (k->n_strip && k->axis[k->strip_axis[0]].batch && k->strip_size[0] <= MOST_SAMPLES)
            samples = larger(samples, k->strip_size[0]);
    }
    t->deep = l->graph->batch >= samples * FEWEST_SLICES;
    if (!t->deep)
        return;
    t->samples = samples;
    t->weights = weights_room(t);
}

static Function *compile_function(Compiler *c, const char *name, const Graph *g, const Fusion *f, ParamPlace where, bool training)
{
    KernelList *l = lower(c->a, g, f, where);
    check_kernels(l, "lower");
    if (training)
        keep_output_inside(l);
    if (wants(c->o, "kernels"))
        kernels_print(l, c->o->dump_to);
    if (c->o->plan) {
        PlanInput in = {.precision = c->o->precision, .winograd_error = winograd_error(c->o), .state_offset = state_offset, .const_offset = const_offset, .ctx = c};
        return c->o->plan(c->a, name, l, &in, c->o->plan_ctx);
    }
    bool in_state = where == PARAMS_IN_STATE;
    LayoutPlan layouts = choose_plan(l, &c->o->target, in_state);
    if (!in_state && c->o->choices.layout != LAYOUT_BY_COST)
        layouts = c->o->choices.layout == LAYOUT_WANT_IMAGES ? LAYOUT_IMAGES : LAYOUT_CHANNELS;
    if (in_state && c->o->precision == PRECISION_BF16)
        layouts = LAYOUT_IMAGES;   /* weights rounded in the step have layouts of their own only there */
    NestTarget fitted = choose_lanes(layouts, &c->o->target, g->batch);
    const NestTarget *t = &fitted;
    bool images = layouts == LAYOUT_IMAGES;
    if (images)
        fitted.tiles = 0;   /* they take channels in the lanes */
    fitted.samples = images ? image_samples(l, t, g->batch) : in_state ? slice_samples(g->batch, 1) : g->batch > 1;
    if (!c->o->no_winograd)
        c->o->winograd_layers = winograd(l, t, images, winograd_error(c->o), &c->o->choices);
    const NestTarget shallow = fitted;
    if (images)
        fitted.deep = weights_stay(l, t);
    else if (!in_state)
        run_deep(l, &fitted);
    if (images && t->deep)
        strips(l, t, t->pairs && c->o->precision == PRECISION_BF16);
    if (c->o->precision == PRECISION_BF16)
        precision_narrow(l, t, images);
    else if (c->o->weights_precision == PRECISION_BF16)
        precision_narrow_weights(l, images);
    if (t->tiles) {
        tiles_parts(l);
        tiles_border(l);
        tiles_pad(l);
        check_kernels(l, "tiles");
        tiles_few(l);
    }
    choose(l, layouts, t, images || in_state ? t->samples : 0);
    precision_pair(l);
    flat_weights(l);
    if (t->tiles)
        tiles_merge(l);
    PlanInput in = {.target = t, .apart = c->o->apart, .state_offset = state_offset, .const_offset = const_offset, .ctx = c};
    Function *fn = plan(c->a, name, l, &in);
    if (t->deep && !plan_keeps_strips(fn)) {
        fitted = shallow;
        fn = plan(c->a, name, l, &in);
    }
    fn->block = images ? t->lanes : 1;
    const char *why = NULL;
    if (!plan_verify(fn, &why))
        BUG("plan of %s: %s", name, why);
    if (wants(c->o, "stages"))
        stages_print(fn, c->o->dump_to);
    if (wants(c->o, "tile"))
        for (int s = 0; s < fn->n_stages; s++)
            for (int i = 0; i < fn->stages[s].n_nests; i++)
                nest_print(l, fn->stages[s].nests[i], c->o->dump_to);
    if (wants(c->o, "plan"))
        plan_print(fn, c->o->dump_to);
    return fn;
}

/* The same graph for one sample. */
static const Graph *graph_of_one(Arena *a, const Graph *g)
{
    Graph *one = NEW(a, Graph);
    *one = *g;
    one->batch = 1;
    one->values.at = NEWN(a, Value, g->values.len);
    memcpy(one->values.at, g->values.at, sizeof *g->values.at * g->values.len);
    for (uint32_t v = 1; v < g->values.len; v++)
        if (one->values.at[v].batched)
            one->values.at[v].shape.dim[0] = 1;
    return one;
}

/* Inference: p->infer and, where images are in the lanes, p->single, which use the same memory. */
static void compile_infer(Compiler *c, const Graph *g, const Fusion *f)
{
    Function *infer = c->p->infer = compile_function(c, "infer", g, f, PARAMS_CONST, false);
    if (c->o->dumped || c->o->plan || infer->block < 2)
        return;
    CompileOptions *o = c->o, of_one = *o;
    of_one.choices = (Choices){0};
    c->o = &of_one;
    Function *single = c->p->single = compile_function(c, "single", graph_of_one(c->a, g), f, PARAMS_CONST, false);
    c->o = o;
    infer->work_bytes = larger(infer->work_bytes, single->work_bytes);
    infer->scratch_bytes = larger(infer->scratch_bytes, single->scratch_bytes);
}

/* ---- self test ---- */
enum { TEST_SAMPLES = 2 };
#define TEST_MACS 100e6       /* the reference interpreter takes about 10 ns a multiply-add */

static bool selftest_is_quick(const CnncModel *m)
{
    double macs = 0;
    for (int32_t i = 0; i < m->n_layers; i++)
        macs += (double)m->layers[i].macs;
    return macs <= TEST_MACS;
}

double compile_tolerance(const CnncModel *m) { return strstr(m->precision, "bf16") ? 5e-2 : !strcmp(m->precision, "tf32") ? 1e-2 : 2e-4; }

bool compile_wants_selftest(const Program *p, const CompileOptions *o)
{
    return o->always_selftest || (o->selftest && selftest_is_quick(&p->model));
}

/* Inputs between -1 and 1 from a fixed linear congruence; outputs of the net as written, in double. */
void compile_selftest(Program *p, const Graph *g, const RefNamed *w, int32_t n_w)
{
    Arena *a = p->arena;
    CnncModel *m = &p->model;
    int64_t in = shape_elements(&g->input_shape) * TEST_SAMPLES;
    double *x = NEWN(a, double, in);
    uint32_t seed = 1;
    for (int64_t i = 0; i < in; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)((double)(seed >> 8) / (1 << 23) - 1);
    }
    RefInputs ri = {.n = TEST_SAMPLES, .input = x, .params = w, .n_params = n_w};
    Graph copy = *g;
    copy.batch = copy.batch < TEST_SAMPLES ? TEST_SAMPLES : copy.batch;
    RefRun *r = ref_run(a, &copy, &ri);
    if (r->error || !r->value[g->output].data)
        return;
    int64_t out = shape_elements(&graph_value(g, g->output)->shape) / graph_value(g, g->output)->shape.dim[0] * TEST_SAMPLES;
    m->test_in = model_floats(a, x, in);
    m->test_out = model_floats(a, r->value[g->output].data, out);
    m->n_test = TEST_SAMPLES;
    double rms = 0;
    for (int64_t i = 0; i < out; i++)
        rms += (double)m->test_out[i] * m->test_out[i];
    m->test_tolerance = compile_tolerance(m) * (1e-3 + __builtin_sqrt(rms / (double)(out ? out : 1)));
}

/* ---- programs ---- */
Program *compile_inference(Arena *a, PassContext *pc, const RefNamed *weights, int32_t n_weights, CompileOptions *o)
{
    Graph *g = passes_run(pc, PIPELINE_INFER);
    if (!g || pc->dumped)
        return NULL;
    Program *p = NEW(a, Program);
    Compiler c = {a, o, p, consts_new(a)};
    p->model.tensors = compile_tensors(a, pc->module->graph, NULL, &p->model.n_tensors, &p->model.state_bytes);
    compile_infer(&c, g, &pc->fusion);
    if (o->dumped)
        return NULL;
    model_fill(a, p, pc->module, p->infer->kernels, o);
    CnncFunction *infer = model_function(a, p->infer);
    if (p->single)
        model_add_single(a, g, infer, p->single);
    p->model.infer = infer;
    if (o->interface_only)
        return p;
    ConstsInput in = {.graph = g, .weights = weights, .n_weights = n_weights};
    if (o->weights_later) {
        p->later = NEW(a, LaterConsts);
        *p->later = (LaterConsts){c.consts, in};
        p->model.consts_bytes = consts_bytes(c.consts);
        return p;
    }
    if (compile_wants_selftest(p, o))
        compile_selftest(p, pc->module->graph, weights, n_weights);
    return consts_fill(c.consts, &in, &p->model.consts, &p->model.consts_bytes) ? p : NULL;
}

void compile_weights(Program *p, const RefNamed *weights, int32_t n_weights, bool once)
{
    p->later->in.weights = weights;
    p->later->in.n_weights = n_weights;
    p->later->in.weights_once = once;
}

/* On a CPU values that follow point by point from others are made again for the gradients, where a stage has them at hand. */
static Graph *training_step(PassContext *pc, const CompileOptions *o)
{
    if (!o->plan && pc->recompute == RECOMPUTE_NOTHING)
        pc->recompute = RECOMPUTE_CHEAP;
    return passes_run(pc, PIPELINE_TRAIN);
}

Program *compile_training(Arena *a, PassContext *pc, CompileOptions *o)
{
    Graph *step = training_step(pc, o);
    Fusion step_fusion = pc->fusion;
    if (!step || pc->dumped)
        return NULL;
    Graph *eval = passes_run(pc, PIPELINE_EVAL);
    if (!eval || pc->dumped)
        return NULL;
    Program *p = NEW(a, Program);
    Compiler c = {a, o, p, consts_new(a)};
    p->model.tensors = compile_tensors(a, pc->module->graph, step, &p->model.n_tensors, &p->model.state_bytes);
    p->step = compile_function(&c, "step", step, &step_fusion, PARAMS_IN_STATE, true);
    if (o->dumped)
        return NULL;
    p->eval = compile_function(&c, "eval", eval, &pc->fusion, PARAMS_IN_STATE, false);
    if (o->dumped)
        return NULL;
    model_fill(a, p, pc->module, p->eval->kernels, o);
    p->model.step = model_function(a, p->step);
    p->model.eval = model_function(a, p->eval);
    p->model.train = &pc->module->train.train;
    if (!consts_fill(c.consts, &(ConstsInput){.graph = eval}, &p->model.consts, &p->model.consts_bytes))
        return NULL;
    return p;
}

/* Input and output of one call, labels included. */
static int64_t caller_bytes(const Graph *g)
{
    int64_t n = g->batch * shape_elements(&g->input_shape) + shape_elements(&graph_value(g, g->output)->shape);
    if (g->labels)
        n += shape_elements(&graph_value(g, g->labels)->shape);
    return 4 * n;
}

bool compile_memory(Arena *a, PassContext *pc, CompileOptions *o, bool training, int threads, CompileMemory *out)
{
    Graph *g = training ? training_step(pc, o) : passes_run(pc, PIPELINE_INFER);
    if (!g)
        return false;
    Program *p = NEW(a, Program);
    Compiler c = {a, o, p, consts_new(a)};
    p->model.tensors = compile_tensors(a, pc->module->graph, training ? g : NULL, &p->model.n_tensors, &p->model.state_bytes);
    if (training)
        p->step = compile_function(&c, "step", g, &pc->fusion, PARAMS_IN_STATE, true);
    else
        compile_infer(&c, g, &pc->fusion);
    const Function *f = training ? p->step : p->infer;
    *out = (CompileMemory){.weights = consts_bytes(c.consts) + (training ? p->model.state_bytes : 0), .work = f->work_bytes,
                           .scratch = f->scratch_bytes * threads, .input_output = caller_bytes(g)};
    return true;
}

Program *compile_graph(Arena *a, const Graph *g, const Fusion *f, CompileOptions *o)
{
    Program *p = NEW(a, Program);
    Compiler c = {a, o, p, consts_new(a)};
    p->arena = a;
    p->symbol = model_symbol(a, g->name);
    p->model = (CnncModel){.abi_version = CNNC_ABI_VERSION, .name = g->name, .version = CNNC_VERSION, .cpu = "", .features = "", .precision = "f32"};
    p->model.tensors = compile_tensors(a, g, NULL, &p->model.n_tensors, &p->model.state_bytes);
    bool step = g->updates.len > 0;
    Function *fn = compile_function(&c, step ? "step" : "infer", g, f, PARAMS_IN_STATE, step);
    *(step ? &p->step : &p->infer) = fn;
    *(step ? &p->model.step : &p->model.infer) = model_function(a, fn);
    return consts_fill(c.consts, &(ConstsInput){.graph = g}, &p->model.consts, &p->model.consts_bytes) ? p : NULL;
}
