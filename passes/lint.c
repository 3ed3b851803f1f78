/* lint: warnings about models that run but are probably not what was meant.
 * In: a module after `shape`. Out: warnings W01 to W14 in diags, and the errors only the whole module shows (E0325).
 * Invariant: nothing is changed; what is unknown gives no warning.
 * Idea: one small function per warning. Adding one: a row in codes.def, a function here, a call in `lint`. */
#include "passes/codes.h"
#include "passes/facts.h"
#include "passes/pass.h"
#include "passes/shape.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

typedef struct {
    const Module *m;
    Graph *g;
    Diags *d;
    Facts facts;
    int *uses; /* by ValueId */
} Lint;

static void warn(Lint *l, Span at, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_warning(l->d, at, code, code_find(code)->name, "%s", arena_vprintf(l->g->arena, fmt, ap));
    va_end(ap);
}

static Infer view(const Lint *l, NodeId id)
{
    Node *n = graph_node(l->g, id);
    return (Infer){.g = l->g, .d = l->d, .n = n, .id = id, .layer = n->layer >= 0 ? &l->g->layers.at[n->layer] : NULL};
}

static bool known(const Lint *l, ValueId v) { return v && graph_value(l->g, v)->known; }
static bool trains_classes(const Lint *l) { return l->m->train.present && l->m->train.train.loss == 0; }

/* ---- one layer ---- */

static void lint_bias_before_norm(Lint *l, NodeId id)
{
    const Node *bn = graph_node(l->g, id);
    NodeId before = bn->in[0] ? graph_value(l->g, bn->in[0])->def : 0;
    const Node *n = graph_node(l->g, before);
    if (!before || (n->op != OP_CONV && n->op != OP_LINEAR) || !n->in[2] || l->uses[bn->in[0]] != 1)
        return;
    Infer t = view(l, before), u = view(l, id);
    warn(l, infer_arg(&t, "bias"), "W02", "%s's bias has no effect: %s subtracts it again", infer_type(&t), infer_type(&u));
    if (u.layer)
        diag_note(l->d, u.layer->span, "the mean of each channel is taken away here");
    diag_help(l->d, "write bias=False");
}

static const char *rows_and_columns(Arena *a, const int64_t *n, int nd)
{
    static const char *const one[] = {"row", "column"}, *const many[] = {"rows", "columns"};
    const char *text = "";
    for (int i = 0; i < nd; i++) {
        const char *name = nd == 1   ? "number"
                           : nd == 2 ? one[i]
                                     : "slice",
                   *names = nd == 1   ? "numbers"
                            : nd == 2 ? many[i]
                                      : "slices";
        if (n[i] > 0)
            text = arena_printf(a, "%s%s%" PRId64 " %s", text, *text ? " and " : "", n[i], n[i] == 1 ? name : names);
    }
    return text;
}

static void lint_window(Lint *l, NodeId id)
{
    Infer t = view(l, id);
    const Node *n = t.n;
    bool conv = n->op == OP_CONV, shortcut = t.layer && strstr(t.layer->name, "shortcut");
    int nd = conv ? n->attrs.conv.nd : n->attrs.pool.nd;
    int64_t lost[MAX_SPATIAL] = {0};
    bool gap = false, drops = false;
    if (!known(l, n->in[0]) || !known(l, n->out[0]))
        return;
    const Shape *x = &graph_value(l->g, t.layer ? t.layer->in : n->in[0])->shape;
    for (int i = 0; i < nd; i++) {
        Window w = node_window(l->g, n, i);
        lost[i] = w.in - ((window_output(&w) - 1) * w.stride - w.lo + window_reach(&w));
        drops = drops || lost[i] > 0;
        gap = gap || (w.stride > window_reach(&w) && w.in > window_reach(&w));
    }
    if (gap && !shortcut) {
        warn(l, infer_arg(&t, "stride"), "W08",
             "%s's stride is larger than its kernel: what lies between the windows is never read", infer_type(&t));
        note_use(&t);
    }
    if (drops && !shortcut) {
        warn(l, t.layer ? t.layer->span : n->span, "W03", "%s never reads the last %s of %s", infer_type(&t),
             rows_and_columns(l->g->arena, lost, nd), infer_sample(&t, x));
        note_origin(&t, n->in[0]);
        note_use(&t);
        if (conv)
            diag_help(l->d, "pad, or choose sizes that the stride divides");
        else
            diag_help(l->d, "ceil_mode=True adds a last window; or choose sizes that the stride divides");
    }
}

static void lint_even_same(Lint *l, NodeId id)
{
    Infer t = view(l, id);
    const ConvAttrs *c = &t.n->attrs.conv;
    for (int i = 0; i < c->nd && known(l, t.n->out[0]); i++) {
        if (c->padding != PADDING_SAME || c->kernel[i] % 2 == 1)
            continue;
        int64_t total = c->dilation[i] * (c->kernel[i] - 1);
        if (total % 2 == 0)
            continue;
        warn(l, infer_arg(&t, "kernel_size"), "W07",
             "%s with an even kernel and padding='same' pads %" PRId64 " before and %" PRId64
             " after: the picture shifts by half a pixel",
             infer_type(&t), total / 2, total - total / 2);
        diag_help(l->d, "an odd kernel_size (%" PRId64 ") keeps it centred", c->kernel[i] + 1);
        return;
    }
}

static void lint_first_kernel(Lint *l, NodeId id)
{
    Infer t = view(l, id);
    const ConvAttrs *c = &t.n->attrs.conv;
    if (!known(l, t.n->in[1]))
        return;
    int64_t window = shape_sample_elements(&graph_value(l->g, t.n->in[1])->shape);
    if (window >= c->out_channels)
        return;
    warn(l, infer_arg(&t, "kernel_size"), "W09",
         "the first convolution makes %" PRId64 " numbers from each window of %" PRId64 " (%" PRId64 " x %s)", c->out_channels,
         window, c->in_channels / c->groups, dims_text(l->g->arena, c->kernel, c->nd, " x "));
    diag_help(l->d, "a larger first kernel, or fewer filters, makes it learn useful features");
}

static void lint_no_flatten(Lint *l, NodeId id)
{
    Infer t = view(l, id);
    if (!known(l, t.n->in[0]) || !known(l, t.n->out[0]))
        return;
    const Shape *x = &graph_value(l->g, t.n->in[0])->shape;
    Op from = graph_node(l->g, shape_origin(l->g, t.n->in[0]))->op;
    bool picture = x->rank >= 4 || (x->rank == 3 && from != OP_INPUT && from != OP_LINEAR && from != OP_RESHAPE);
    if (!picture || x->dim[x->rank - 1] != t.n->attrs.linear.in_features)
        return; /* features on purpose; or an error says it */
    warn(l, t.layer ? t.layer->span : t.n->span, "W04", "%s works on the last axis alone: %s becomes %s", infer_type(&t),
         infer_sample(&t, x), infer_sample(&t, &graph_value(l->g, t.n->out[0])->shape));
    note_origin(&t, t.n->in[0]);
    diag_help(l->d, "put Flatten() before it: %s = %" PRId64 " features", dims_text(l->g->arena, x->dim + 1, x->rank - 1, " * "),
              shape_sample_elements(x));
}

static void lint_softmax_axis(Lint *l, NodeId id)
{
    Infer t = view(l, id);
    Span at;
    bool guessed = t.layer && t.layer->arg_span &&
                   (strcmp(t.layer->type, "Softmax") == 0 || strcmp(t.layer->type, "LogSoftmax") == 0) &&
                   !infer_arg_written(&t, "dim", &at);
    if (!guessed || t.n->attrs.axis.axis < 1)
        return;
    warn(l, t.layer->span, "W12", "%s without dim: axis %d is taken", t.layer->type, t.n->attrs.axis.axis);
    diag_help(l->d, "write %s(dim=%d)", t.layer->type, t.n->attrs.axis.axis);
    diag_fix(l->d, "%s(dim=%d)", t.layer->type, t.n->attrs.axis.axis);
    diag_torch(l->d, "Implicit dimension choice for %s has been deprecated. Change the call to include dim=X as an argument.",
               t.n->op == OP_SOFTMAX ? "softmax" : "log_softmax");
}

static void lint_rrelu(Lint *l, NodeId id)
{
    Infer t = view(l, id);
    if (t.n->attrs.act.kind == ACT_RRELU && l->m->train.present)
        warn(l, t.layer ? t.layer->span : t.n->span, "W14",
             "RReLU uses the mean of its bounds in training too: it is not random here");
}

static void lint_node(Lint *l, NodeId id, bool *first_conv)
{
    switch (graph_node(l->g, id)->op) {
    case OP_CONV:
        if (*first_conv)
            lint_first_kernel(l, id);
        *first_conv = false;
        lint_even_same(l, id);
        lint_window(l, id);
        break;
    case OP_MAXPOOL:
    case OP_AVGPOOL:
        lint_window(l, id);
        break;
    case OP_LINEAR:
        lint_no_flatten(l, id);
        break;
    case OP_BATCHNORM:
        lint_bias_before_norm(l, id);
        break;
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
        lint_softmax_axis(l, id);
        break;
    case OP_ACT:
        lint_rrelu(l, id);
        break;
    default:
        break;
    }
}

/* ---- the whole net ---- */

/* Layers between the last Linear or Conv and the loss. */
static void lint_before_loss(Lint *l)
{
    ValueId v = l->g->output;
    while (trains_classes(l) && v) {
        NodeId id = graph_value(l->g, v)->def;
        Infer t = view(l, id);
        Span at = t.layer ? t.layer->span : t.n->span;
        if (t.n->op == OP_SOFTMAX) {
            warn(l, at, "W01", "Softmax before CrossEntropyLoss: the loss applies it a second time");
            diag_note(l->d, l->m->train.loss_span.end ? l->m->train.loss_span : l->m->train.span,
                      "this loss takes the scores as they come out of the last Linear");
            diag_help(l->d, "leave Softmax out; predictions show probabilities anyway");
        } else if (t.n->op == OP_ACT || t.n->op == OP_DROPOUT || t.n->op == OP_GLU) {
            warn(l, at, "W10", "%s changes the scores before CrossEntropyLoss", infer_type(&t));
            diag_help(l->d, "end the net with its last Linear");
        } else if (t.n->op != OP_RESHAPE && t.n->op != OP_LOG_SOFTMAX) {
            return;
        }
        v = t.n->in[0];
    }
}

static void lint_receptive_field(Lint *l)
{
    const Shape *image = &l->g->input_shape;
    const Field *widest = NULL;
    NodeId at = 0;
    bool conv = false;
    for (NodeId id = 1; id < l->g->nodes.len; id++) {
        const Node *n = graph_node(l->g, id);
        if ((n->op != OP_CONV && n->op != OP_MAXPOOL && n->op != OP_AVGPOOL) || !known(l, n->out[0]))
            continue;
        const Field *f = &l->facts.field[n->out[0]];
        conv = conv || n->op == OP_CONV;
        if (!f->whole && (!widest || f->size[0] >= widest->size[0])) {
            widest = f;
            at = id;
        }
    }
    if (!conv || !widest || widest->nd != image->rank - 1 || !known(l, l->g->output))
        return;                                       /* after an error the wider layers may be those that are not known */
    bool small = true, large = true;
    for (int i = 0; i < widest->nd; i++) {
        small = small && widest->size[i] * 8 < image->dim[i + 1];
        large = large && widest->size[i] > 8 * image->dim[i + 1];
    }
    if (!small && !large)
        return;
    Infer t = view(l, at);
    Arena *a = l->g->arena;
    warn(l, t.layer ? t.layer->span : t.n->span, "W06", "the receptive field here is %s, far %s than the %s input",
         dims_text(a, widest->size, widest->nd, "x"), small ? "smaller" : "larger",
         dims_text(a, image->dim + 1, widest->nd, "x"));
    diag_help(l->d, "%s",
              small ? "more layers, larger kernels, stride or pooling widen it"
                    : "fewer poolings and strides, or a larger input; most of each window is padding");
}

typedef struct {
    int32_t data;
    const char *name;
    int64_t images, classes;
    Shape shape;
} DataFacts;
static const DataFacts DATA[] = {
    {CNNC_DATA_MNIST, "MNIST", 60000, 10, {3, {1, 28, 28}}},     {CNNC_DATA_FASHION, "FashionMNIST", 60000, 10, {3, {1, 28, 28}}},
    {CNNC_DATA_CIFAR10, "CIFAR10", 50000, 10, {3, {3, 32, 32}}}, {CNNC_DATA_CIFAR100, "CIFAR100", 50000, 100, {3, {3, 32, 32}}},
    {CNNC_DATA_DIGITS, "Digits", 0, 10, {3, {1, 28, 28}}},
};

static const DataFacts *data_facts(const Lint *l)
{
    for (size_t i = 0; l->m->train.present && i < ARRAY_LEN(DATA); i++)
        if (DATA[i].data == l->m->train.train.data)
            return &DATA[i];
    return NULL;
}

static void lint_data_shape(Lint *l)
{
    const DataFacts *data = data_facts(l);
    const CnncTrain *t = &l->m->train.train;
    if (!data || l->g->input_shape.rank < 1)
        return;
    Shape want = data->shape, got = l->g->input_shape;
    for (int i = 0; i < t->n_augment; i++) {
        if (t->augment[i].kind == CNNC_AUG_CROP) {
            want.dim[1] = (int64_t)t->augment[i].p[0];
            want.dim[2] = (int64_t)t->augment[i].p[1];
        }
    }
    if (!shape_equal(&want, &got))
        warn(l, l->m->train.data_span.end ? l->m->train.data_span : l->m->train.span, "W13",
             "%s's pictures are %s but the net's input is %s", data->name, shape_text(l->g->arena, &want, false),
             shape_text(l->g->arena, &got, false));
}

static void lint_classes(Lint *l)
{
    if (!known(l, l->g->output))
        return;
    const Shape *y = &graph_value(l->g, l->g->output)->shape;
    const DataFacts *data = data_facts(l);
    Infer t = view(l, shape_origin(l->g, l->g->output));
    Span at = t.layer ? t.layer->span : t.n->span;
    if (trains_classes(l) && y->rank != 2 && l->m->train.train.data != CNNC_DATA_NPY &&
        l->m->train.train.data != CNNC_DATA_NONE) {
        diag_error(l->d, at, "E0325", "CrossEntropyLoss takes one score per class, but the net gives %s", infer_sample(&t, y));
        diag_note(l->d, l->m->train.loss_span.end ? l->m->train.loss_span : l->m->train.span, "the loss");
        diag_help(l->d, "end the net with Flatten() and Linear(_, classes)");
        return;
    }
    if (y->rank == 2 && data && trains_classes(l) && y->dim[1] != data->classes) {
        warn(l, at, "W11", "%s has %" PRId64 " classes but the net has %" PRId64 " outputs", data->name, data->classes,
             y->dim[1]);
        if (y->dim[1] < data->classes)
            diag_torch(l->d, "Target %" PRId64 " is out of bounds.", y->dim[1]);
    } else if (y->rank == 2 && l->m->n_labels && y->dim[1] != l->m->n_labels) {
        warn(l, at, "W11", "labels(...) gives %d names but the net has %" PRId64 " outputs", l->m->n_labels, y->dim[1]);
    }
}

static void lint_last_batch(Lint *l)
{
    const DataFacts *data = data_facts(l);
    int32_t batch = l->m->train.train.batch_size;
    if (!l->m->train.present || batch < 1)
        return;
    for (NodeId id = 1; id < l->g->nodes.len; id++) {
        if (graph_node(l->g, id)->op != OP_BATCHNORM)
            continue;
        Infer t = view(l, id);
        if (batch == 1)
            warn(l, l->m->train.span, "W05", "batch_size = 1 leaves %s a single sample to take statistics of", infer_type(&t));
        else if (data && data->images % batch == 1)
            warn(l, l->m->train.span, "W05",
                 "the last batch has a single sample: %" PRId64 " = %" PRId64 " * %d + 1, and %s takes statistics of it",
                 data->images, data->images / batch, batch, infer_type(&t));
        else
            return;
        if (t.layer)
            diag_note(l->d, t.layer->span, "needs more than one sample");
        diag_torch(l->d, "Expected more than 1 value per channel when training");
        return;
    }
}

void lint(const Module *m, Diags *d)
{
    Graph *g = m->graph;
    Lint l = {.m = m, .g = g, .d = d, .facts = facts_of(g->arena, g), .uses = NEWN(g->arena, int, g->values.len)};
    bool first_conv = true;
    for (NodeId id = 1; id < g->nodes.len; id++)
        for (int i = 0; i < graph_node(g, id)->n_in; i++)
            l.uses[graph_node(g, id)->in[i]]++;
    l.uses[g->output]++;
    for (NodeId id = 1; id < g->nodes.len; id++)
        lint_node(&l, id, &first_conv);
    lint_before_loss(&l);
    lint_receptive_field(&l);
    lint_data_shape(&l);
    lint_classes(&l);
    lint_last_batch(&l);
}
