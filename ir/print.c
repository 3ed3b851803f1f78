/* The text form of a graph (--dump).
 *
 * In: a graph, shapes known or not. Out: one node a line:
 *     %4: f32[n, 6, 28, 28] = conv %1 %2 %3 {kernel=(5, 5), stride=(1, 1)}  # layer "conv1"
 * Invariant: the text depends on the graph alone, so that it can be compared with a committed expectation.
 * Idea: one small function per kind of attributes; a value carries its type where it is made; `n` stands for the batch;
 * absent optional inputs print as `-`. */
#include "ir/graph.h"

#include <string.h>

static void print_list(FILE *to, const char *name, const int64_t *v, int n)
{
    fprintf(to, "%s=(", name);
    for (int i = 0; i < n; i++)
        fprintf(to, "%s%lld", i ? ", " : "", (long long)v[i]);
    fputs(")", to);
}

/* Whether all of v[0..n) are `usual`, so that they need not be printed. */
static bool all_are(const int64_t *v, int n, int64_t usual)
{
    for (int i = 0; i < n; i++)
        if (v[i] != usual)
            return false;
    return true;
}

static void print_unusual(FILE *to, const char *name, const int64_t *v, int n, int64_t usual)
{
    if (all_are(v, n, usual))
        return;
    fputs(", ", to);
    print_list(to, name, v, n);
}

static const char *pad_mode_text(PadMode m)
{
    static const char *const texts[] = {"zeros", "reflect", "replicate", "circular", "constant"};
    return texts[m];
}

static void print_conv(FILE *to, const ConvAttrs *c)
{
    print_list(to, "kernel", c->kernel, c->nd);
    print_unusual(to, "stride", c->stride, c->nd, 1);
    print_unusual(to, "pad_lo", c->pad_lo, c->nd, 0);
    print_unusual(to, "pad_hi", c->pad_hi, c->nd, 0);
    print_unusual(to, "dilation", c->dilation, c->nd, 1);
    if (c->groups != 1)
        fprintf(to, ", groups=%lld", (long long)c->groups);
    if (c->padding != PADDING_NUMBERS)
        fprintf(to, ", padding=%s", c->padding == PADDING_SAME ? "same" : "valid");
    if (c->mode != PAD_ZEROS)
        fprintf(to, ", mode=%s", pad_mode_text(c->mode));
}

static void print_pool(FILE *to, const PoolAttrs *p)
{
    print_list(to, "kernel", p->kernel, p->nd);
    fputs(", ", to);
    print_list(to, "stride", p->stride, p->nd);
    print_unusual(to, "pad", p->pad, p->nd, 0);
    print_unusual(to, "dilation", p->dilation, p->nd, 1);
    if (p->ceil_mode)
        fputs(", ceil_mode", to);
    if (p->count_include_pad)
        fputs(", count_include_pad", to);
    if (p->divisor_override)
        fprintf(to, ", divisor=%lld", (long long)p->divisor_override);
}

/* The names of an activation's numbers, from its signature column: "lambd=0.5", "threshold value". */
static void print_act(FILE *to, const ActAttrs *a)
{
    static const char *const signatures[ACT_COUNT] = {
#define ACT(id, torch_name, text, parameters, ...) [ACT_##id] = parameters,
#include "ir/activations.def"
#undef ACT
    };
    fputs(act_text(a->kind), to);
    const char *s = signatures[a->kind];
    for (int i = 0; *s && i < 4; i++) {
        fputs(", ", to);
        fwrite(s, 1, strcspn(s, "= "), to);
        fprintf(to, "=%g", a->p[i]);
        s += strcspn(s, " ");
        s += *s == ' ';
    }
}

static void print_param(FILE *to, const ParamAttrs *p)
{
    static const char *const texts[] = {"uniform", "zeros", "ones", "const", "values"};
    fputs(texts[p->init], to);
    if (p->init == INIT_UNIFORM || p->init == INIT_CONST)
        fprintf(to, "=%g", p->bound);
    if (p->init == INIT_VALUES)
        fprintf(to, "=%lld", (long long)p->n_values);
    if (!p->trainable)
        fputs(p->buffer ? ", buffer" : p->optimizer ? ", optimizer" : ", frozen", to);
}

static void print_opt(FILE *to, const OptAttrs *o, Op op)
{
    if (op == OP_SGD)
        fprintf(to, "momentum=%g, dampening=%g, ", o->momentum, o->dampening);
    else if (op == OP_RMSPROP)
        fprintf(to, "alpha=%g, eps=%g, momentum=%g, ", o->alpha, o->eps, o->momentum);
    else
        fprintf(to, "beta1=%g, beta2=%g, eps=%g, ", o->beta1, o->beta2, o->eps);
    fprintf(to, "weight_decay=%g", o->weight_decay);
    fputs(o->nesterov ? ", nesterov" : "", to);
    fputs(o->centered ? ", centered" : "", to);
}

static void print_norm(FILE *to, const NormAttrs *a, Op op)
{
    fprintf(to, "features=%lld, eps=%g", (long long)a->features, a->eps);
    if (op == OP_BN_RUNNING && a->momentum < 0)
        fputs(", momentum=None", to);
    else if (op == OP_BN_RUNNING)
        fprintf(to, ", momentum=%g", a->momentum);
    if (op == OP_BN_RUNNING)
        fputs(a->track ? ", variance" : ", mean", to);
}

static void print_pad(FILE *to, const PadAttrs *p)
{
    print_list(to, "lo", p->lo, p->nd);
    fputs(", ", to);
    print_list(to, "hi", p->hi, p->nd);
    fprintf(to, ", %s", pad_mode_text(p->mode));
    if (p->mode == PAD_CONSTANT)
        fprintf(to, "=%g", p->value);
}

static void print_attrs(const Node *n, FILE *to)
{
    const Attrs *a = &n->attrs;
    fputs(" {", to);
    switch (op_attr_kind(n->op)) {
    case ATTR_NONE: break;
    case ATTR_CONV: print_conv(to, &a->conv); break;
    case ATTR_POOL: print_pool(to, &a->pool); break;
    case ATTR_ADAPTIVE: print_list(to, "out", a->adaptive.out, a->adaptive.nd); break;
    case ATTR_NORM: print_norm(to, &a->norm, n->op); break;
    case ATTR_LINEAR: fprintf(to, "in=%lld, out=%lld", (long long)a->linear.in_features, (long long)a->linear.out_features); break;
    case ATTR_ACT: print_act(to, &a->act); break;
    case ATTR_AXIS: fprintf(to, "%s=%d", n->op == OP_SCALAR ? "scalar" : "axis", a->axis.axis); break;
    case ATTR_FLATTEN: fprintf(to, "start=%d, end=%d", a->flatten.start, a->flatten.end); break;
    case ATTR_DROPOUT:
        fprintf(to, "p=%g, stream=%u%s", a->dropout.p, (unsigned)a->dropout.stream, a->dropout.channels ? ", channels" : "");
        break;
    case ATTR_PAD: print_pad(to, &a->pad); break;
    case ATTR_LOSS: fprintf(to, "smoothing=%g, %s", a->loss.smoothing, a->loss.reduction ? "sum" : "mean"); break;
    case ATTR_OPT: print_opt(to, &a->opt, n->op); break;
    case ATTR_PARAM: print_param(to, &a->param); break;
    case ATTR_SLICE:
        fprintf(to, "axis=%d, start=%lld, size=%lld", a->slice.axis, (long long)a->slice.start, (long long)a->slice.size);
        break;
    }
    fputs("}", to);
}

static void print_type(const Value *v, FILE *to)
{
    static const char *const dtypes[] = {"f32", "i32", "u8", "i64"};
    fputs(dtypes[v->dtype], to);
    if (!v->known) {
        fputs("?", to);
        return;
    }
    fputs("[", to);
    for (int i = 0; i < v->shape.rank; i++) {
        if (i == 0 && v->batched)
            fputs("n", to);
        else
            fprintf(to, "%s%lld", i ? ", " : "", (long long)v->shape.dim[i]);
    }
    fputs("]", to);
}

static void print_node(const Graph *g, const Node *n, FILE *to)
{
    fputs("  ", to);
    for (int i = 0; i < n->n_out; i++) {
        fprintf(to, "%s%%%u: ", i ? ", " : "", (unsigned)n->out[i]);
        print_type(graph_value(g, n->out[i]), to);
    }
    fprintf(to, " = %s", op_text(n->op));
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i])
            fprintf(to, " %%%u", (unsigned)n->in[i]);
        else
            fputs(" -", to);
    }
    if (n->after)
        fprintf(to, " after %%%u", (unsigned)n->after);
    const char *name = graph_value(g, n->out[0])->name;
    if (name)
        fprintf(to, " \"%s\"", name);
    if (op_attr_kind(n->op) != ATTR_NONE)
        print_attrs(n, to);
    if (n->layer >= 0 && (uint32_t)n->layer < g->layers.len)
        fprintf(to, "  # layer \"%s\"", g->layers.at[n->layer].name);
    fputs("\n", to);
}

void graph_print(const Graph *g, FILE *to)
{
    fprintf(to, "graph %s, batch n <= %lld\n", g->name ? g->name : "?", (long long)g->batch);
    for (NodeId n = 1; n < g->nodes.len; n++)
        print_node(g, graph_node(g, n), to);
    fprintf(to, "  input %%%u, output %%%u", (unsigned)g->input, (unsigned)g->output);
    if (g->loss)
        fprintf(to, ", labels %%%u, loss %%%u, correct %%%u", (unsigned)g->labels, (unsigned)g->loss, (unsigned)g->correct);
    fputs("\n", to);
    for (uint32_t i = 0; i < g->updates.len; i++)
        fprintf(to, "  update %%%u <- %%%u\n", (unsigned)g->updates.at[i].old, (unsigned)g->updates.at[i].next);
}
