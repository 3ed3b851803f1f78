/* The tables of a program: tensors, layers, functions.
 * In: a graph, its kernels, planned functions. Out: what the runtime knows of them (runtime/abi.h). */
#include "codegen/compile_model.h"
#include "codegen/cost.h"

#include <ctype.h>
#include <string.h>

enum { ALIGN = 64 };   /* of tensors in `state`, in bytes */

/* ---- tensors ---- */
const float *model_floats(Arena *a, const double *v, int64_t n)
{
    float *f = NEWN(a, float, n);
    for (int64_t i = 0; i < n; i++)
        f[i] = (float)v[i];
    return f;
}

static CnncTensor tensor_of(Arena *a, const Graph *g, const Node *n)
{
    const ParamAttrs *p = &n->attrs.param;
    const Value *v = graph_value(g, n->out[0]);
    CnncTensor t = {.name = v->name, .dtype = (int32_t)v->dtype, .rank = v->shape.rank, .init = (int32_t)p->init, .bound = p->bound};
    for (int d = 0; d < v->shape.rank; d++)
        t.shape[d] = v->shape.dim[d];
    t.role = p->buffer ? CNNC_ROLE_BUFFER : p->trainable ? CNNC_ROLE_PARAM : CNNC_ROLE_FROZEN;
    if (!strncmp(v->name, "optimizer.", 10))
        t.role = CNNC_ROLE_OPTIMIZER;
    if (p->init == INIT_VALUES) {
        t.values = model_floats(a, p->values, p->n_values);
        t.n_values = p->n_values;
    }
    return t;
}

static bool have_tensor(const CnncTensor *t, int32_t n, const char *name)
{
    for (int32_t i = 0; i < n; i++)
        if (!strcmp(t[i].name, name))
            return true;
    return false;
}

CnncTensor *compile_tensors(Arena *a, const Graph *g, const Graph *extra, int32_t *n, int64_t *state_bytes)
{
    const Graph *graphs[2] = {g, extra};
    int32_t count = 0, cap = (int32_t)(g->nodes.len + (extra ? extra->nodes.len : 0));
    int64_t offset = 0;
    CnncTensor *t = NEWN(a, CnncTensor, cap);
    for (int i = 0; i < 2 && graphs[i]; i++)
        for (NodeId id = 1; id < graphs[i]->nodes.len; id++) {
            const Node *node = graph_node(graphs[i], id);
            if (node->op != OP_PARAM || have_tensor(t, count, graph_value(graphs[i], node->out[0])->name))
                continue;
            CnncTensor x = tensor_of(a, graphs[i], node);
            x.offset = offset;
            offset +=
                (shape_elements(&graph_value(graphs[i], node->out[0])->shape) * (int64_t)dtype_size((DType)x.dtype) + ALIGN - 1) / ALIGN * ALIGN;
            t[count++] = x;
        }
    *n = count;
    *state_bytes = offset + ALIGN;
    return t;
}

/* ---- layers, names ---- */
const char *model_symbol(Arena *a, const char *name)
{
    char *s = arena_strdup(a, name && *name ? name : "model");
    for (char *c = s; *c; c++)
        if (!isalnum((unsigned char)*c))
            *c = '_';
    return isdigit((unsigned char)*s) ? arena_printf(a, "_%s", s) : s;
}

static void fill_layers(Arena *a, CnncModel *m, const Graph *g, const KernelList *l)
{
    CnncLayer *out = NEWN(a, CnncLayer, g->layers.len + 1);
    for (uint32_t i = 0; i < g->layers.len; i++) {
        const Layer *y = &g->layers.at[i];
        out[i] = (CnncLayer){.name = y->name, .type = y->type};
        const Shape *s = &graph_value(g, y->out)->shape;
        out[i].rank = s->rank - 1;
        for (int d = 1; d < s->rank; d++)
            out[i].shape[d - 1] = s->dim[d];
    }
    for (uint32_t k = 0; k < l->kernels.len; k++)
        if (l->kernels.at[k].layer >= 0)
            out[l->kernels.at[k].layer].macs += (int64_t)l->kernels.at[k].macs;
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        if (node->op == OP_PARAM && node->layer >= 0 && !node->attrs.param.buffer)
            out[node->layer].params += shape_elements(&graph_value(g, node->out[0])->shape);
    }
    m->layers = out;
    m->n_layers = (int32_t)g->layers.len;
}

void model_fill(Arena *a, Program *p, const Module *m, const KernelList *l, const CompileOptions *o)
{
    const Graph *g = m->graph;
    CnncModel *x = &p->model;
    p->arena = a;
    p->symbol = model_symbol(a, o->name ? o->name : g->name);
    x->abi_version = CNNC_ABI_VERSION;
    x->name = g->name;
    x->version = CNNC_VERSION;
    x->cpu = o->cpu ? o->cpu : "";
    x->features = o->features ? o->features : "";
    static const char *const names[] = {[PRECISION_F32] = "f32", [PRECISION_TF32] = "tf32", [PRECISION_BF16] = "bf16"};
    bool narrow_weights = o->precision == PRECISION_F32 && o->weights_precision == PRECISION_BF16;
    x->precision = narrow_weights ? "f32, weights bf16" : names[o->precision];
    x->in_rank = g->input_shape.rank;
    memcpy(x->in_shape, g->input_shape.dim, sizeof(int64_t) * (size_t)g->input_shape.rank);
    const Shape *out = &graph_value(g, g->output)->shape;
    x->out_rank = out->rank - 1;
    for (int d = 1; d < out->rank; d++)
        x->out_shape[d - 1] = out->dim[d];
    if (m->normalize.given) {
        x->n_mean = m->normalize.automatic ? -1 : m->normalize.n;
        x->mean = model_floats(a, m->normalize.mean, m->normalize.n);
        x->std = model_floats(a, m->normalize.std, m->normalize.n);
    }
    x->n_classes = m->n_labels;
    x->class_names = (const char *const *)m->labels;
    x->plan = choices_text(a, &o->choices);
    x->weights_checksum = o->weights_checksum;
    fill_layers(a, x, g, l);
}

CnncFunction *model_function(Arena *a, const Function *f)
{
    CnncFunction *t = NEW(a, CnncFunction);
    CnncStage *s = NEWN(a, CnncStage, f->n_stages);
    for (int i = 0; i < f->n_stages; i++) {
        const Stage *x = &f->stages[i];
        StageCost cost = stage_cost(a, f, x);
        s[i] = (CnncStage){.slices = x->slices, .samples_per_slice = x->samples_per_slice, .first_layer = x->first_layer,
                           .last_layer = x->last_layer, .name = x->name, .macs = x->macs,
                           .fmas = cost.fmas, .bytes = cost.bytes};
    }
    *t = (CnncFunction){.stages = s, .n_stages = f->n_stages, .batch = f->batch, .work_bytes = f->work_bytes, .scratch_bytes = f->scratch_bytes,
                        .block = f->block};
    return t;
}

/* Cycles of one call on one core, about. */
static double call_cycles(const CnncFunction *f)
{
    const double per_stage = 250;   /* entering it, filling the pipeline */
    double cycles = 0;
    for (int i = 0; i < f->n_stages; i++)
        cycles += per_stage + cnnc_stage_cycles(&f->stages[i], CNNC_BYTES_ALONE);
    return cycles;
}

void model_add_single(Arena *a, const Graph *g, CnncFunction *f, const Function *single)
{
    CnncFunction *one = model_function(a, single);
    double alone = call_cycles(f) / f->batch * f->block / call_cycles(one);
    f->rest = alone < f->block - 1 ? (int32_t)alone : f->block - 1;
    f->single = one;
    f->in_floats = shape_elements(&g->input_shape);
    f->out_floats = shape_elements(&graph_value(g, g->output)->shape) / g->batch;
}
