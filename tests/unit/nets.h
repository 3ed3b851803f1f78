/* Small nets from one line of text, for tests of passes that have no frontend at hand:
 *     "conv out=4 k=3 p=1; bn; act ReLU; maxpool k=2; res{conv out=4 k=3 p=1}{}; flatten; linear out=5"
 * A layer is a word and numbers; res{body}{shortcut} and cat{..}{..} nest. Parameters get state_dict keys as PyTorch gives
 * them. tests/torch/make_train.py reads the same text. Values come from a generator seeded by name (net_fill). */
#ifndef CNNC_TESTS_NETS_H
#define CNNC_TESTS_NETS_H
#include "passes/pass.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct { Graph *g; const char *at; } NetText;

/* key=NUMBER in the layer's text, or `otherwise`. */
static inline double net_number(const char *layer, const char *key, double otherwise)
{
    size_t len = strlen(key);
    for (const char *p = layer; *p && *p != ';' && *p != '}' && *p != '{'; p++)
        if (strncmp(p, key, len) == 0 && p[len] == '=' && p > layer && p[-1] == ' ')
            return strtod(p + len + 1, NULL);
    return otherwise;
}

static inline ValueId net_param(Graph *g, const char *layer, const char *name, bool trainable)
{
    ParamAttrs p = {.init = INIT_UNIFORM, .trainable = trainable, .buffer = !trainable};
    return graph_add_param(g, arena_printf(g->arena, "%s.%s", layer, name), &p, NULL, (LayerId)g->layers.len, (Span){0, 0});
}

static inline ValueId net_node(Graph *g, Op op, const ValueId *in, int n, const Attrs *attrs)
{
    return node_out(g, graph_add_node(g, op, in, n, attrs, (LayerId)g->layers.len, (Span){0, 0}), 0);
}

static inline ValueId net_conv(Graph *g, const char *l, const char *name, ValueId x)
{
    Attrs a = {.conv = {.nd = (int)net_number(l, "nd", 2), .in_channels = INFER, .out_channels = (int64_t)net_number(l, "out", 1),
                        .groups = (int64_t)net_number(l, "g", 1), .bias = net_number(l, "b", 1) != 0}};
    for (int i = 0; i < a.conv.nd; i++) {
        a.conv.kernel[i] = (int64_t)net_number(l, "k", 1);
        a.conv.stride[i] = (int64_t)net_number(l, "s", 1);
        a.conv.dilation[i] = (int64_t)net_number(l, "d", 1);
        a.conv.pad_lo[i] = a.conv.pad_hi[i] = (int64_t)net_number(l, "p", 0);
    }
    bool trainable = net_number(l, "frozen", 0) == 0;
    ValueId w = net_param(g, name, "weight", trainable), b = a.conv.bias ? net_param(g, name, "bias", trainable) : 0;
    graph_def(g, w)->attrs.param.buffer = false;
    if (b)
        graph_def(g, b)->attrs.param.buffer = false;
    return net_node(g, OP_CONV, (ValueId[]){x, w, b}, 3, &a);
}

static inline ValueId net_linear(Graph *g, const char *l, const char *name, ValueId x)
{
    Attrs a = {.linear = {INFER, (int64_t)net_number(l, "out", 1), net_number(l, "b", 1) != 0}};
    ValueId w = net_param(g, name, "weight", true), b = a.linear.bias ? net_param(g, name, "bias", true) : 0;
    return net_node(g, OP_LINEAR, (ValueId[]){x, w, b}, 3, &a);
}

static inline ValueId net_bn(Graph *g, const char *l, const char *name, ValueId x)
{
    Attrs a = {.norm = {INFER, net_number(l, "eps", 1e-5), net_number(l, "mom", 0.1), net_number(l, "aff", 1) != 0,
                        net_number(l, "track", 1) != 0}};
    ValueId in[5] = {x};
    if (a.norm.affine) {
        in[1] = net_param(g, name, "weight", true);
        in[2] = net_param(g, name, "bias", true);
    }
    if (a.norm.track) {
        in[3] = net_param(g, name, "running_mean", false);
        in[4] = net_param(g, name, "running_var", false);
        ValueId count = net_param(g, name, "num_batches_tracked", false);
        graph_value(g, count)->dtype = DT_I64;
        graph_value(g, count)->shape.rank = 0;
        graph_value(g, count)->known = true;
    }
    return net_node(g, OP_BATCHNORM, in, 5, &a);
}

static inline ValueId net_pool(Graph *g, const char *l, Op op, ValueId x)
{
    int64_t k = (int64_t)net_number(l, "k", 2);
    Attrs a = {.pool = {.nd = (int)net_number(l, "nd", 2), .ceil_mode = net_number(l, "ceil", 0) != 0,
                        .count_include_pad = net_number(l, "cip", 1) != 0, .divisor_override = (int64_t)net_number(l, "div", 0)}};
    for (int i = 0; i < a.pool.nd; i++) {
        a.pool.kernel[i] = k;
        a.pool.stride[i] = (int64_t)net_number(l, "s", (double)k);
        a.pool.pad[i] = (int64_t)net_number(l, "p", 0);
        a.pool.dilation[i] = (int64_t)net_number(l, "d", 1);
    }
    return net_node(g, op, &x, 1, &a);
}

static inline ValueId net_act(Graph *g, const char *l, const char *name, ValueId x)
{
    static const struct { const char *torch; ActKind kind; double p[2]; } acts[] = {
        {"ReLU ", ACT_RELU, {0}}, {"ReLU6", ACT_RELU6, {0}}, {"LeakyReLU", ACT_LEAKY_RELU, {0.01}}, {"PReLU", ACT_PRELU, {1, 0.25}},
        {"RReLU", ACT_RRELU, {0.125, 1.0 / 3}}, {"ELU", ACT_ELU, {1}}, {"CELU", ACT_CELU, {1}}, {"SELU", ACT_SELU, {0}},
        {"GELU ", ACT_GELU, {0}}, {"GELUtanh", ACT_GELU_TANH, {0}}, {"SiLU", ACT_SILU, {0}}, {"Mish", ACT_MISH, {0}},
        {"Sigmoid", ACT_SIGMOID, {0}}, {"Tanh ", ACT_TANH, {0}}, {"LogSigmoid", ACT_LOG_SIGMOID, {0}}, {"Softsign", ACT_SOFTSIGN, {0}},
        {"Tanhshrink", ACT_TANHSHRINK, {0}}, {"Softplus", ACT_SOFTPLUS, {1, 20}}, {"Hardtanh", ACT_HARDTANH, {-1, 1}},
        {"Hardsigmoid", ACT_HARDSIGMOID, {0}}, {"Hardswish", ACT_HARDSWISH, {0}}, {"Softshrink", ACT_SOFTSHRINK, {0.5}},
        {"Hardshrink", ACT_HARDSHRINK, {0.5}}, {"Threshold", ACT_THRESHOLD, {0.1, 0.05}},
    };
    const char *word = l + strcspn(l, " ") + 1;
    char want[32];
    snprintf(want, sizeof want, "%.*s ", (int)strcspn(word, " ;}"), word);
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        char have[32];
        snprintf(have, sizeof have, "%s ", acts[i].torch);
        if (strncmp(have, want, strlen(want)) != 0)
            continue;
        Attrs a = {.act = {acts[i].kind, {net_number(l, "a", acts[i].p[0]), net_number(l, "b", acts[i].p[1])}}};
        if (acts[i].kind != ACT_PRELU)
            return net_node(g, OP_ACT, &x, 1, &a);
        return net_node(g, OP_ACT, (ValueId[]){x, net_param(g, name, "weight", true)}, 2, &a);
    }
    BUG("no activation %s", want);
}

static inline ValueId net_simple(Graph *g, const char *l, const char *name, ValueId x)
{
    Attrs a = {0};
    size_t len = strcspn(l, " ;}{");
#define IS(word) (len == sizeof word - 1 && strncmp(l, word, len) == 0)
    if (IS("conv"))
        return net_conv(g, l, name, x);
    if (IS("linear"))
        return net_linear(g, l, name, x);
    if (IS("bn"))
        return net_bn(g, l, name, x);
    if (IS("act"))
        return net_act(g, l, name, x);
    if (IS("maxpool") || IS("avgpool"))
        return net_pool(g, l, IS("maxpool") ? OP_MAXPOOL : OP_AVGPOOL, x);
    if (IS("flatten")) {
        a.flatten = (FlattenAttrs){(int)net_number(l, "start", 1), (int)net_number(l, "end", -1)};
        return net_node(g, OP_RESHAPE, &x, 1, &a);
    }
    if (IS("aavg") || IS("amax")) {
        a.adaptive = (AdaptiveAttrs){2, {(int64_t)net_number(l, "h", 1), (int64_t)net_number(l, "w", 1)}};
        return net_node(g, IS("aavg") ? OP_ADAPTIVE_AVG : OP_ADAPTIVE_MAX, &x, 1, &a);
    }
    if (IS("softmax") || IS("logsoftmax") || IS("glu")) {
        a.axis.axis = (int)net_number(l, "dim", 1);
        return net_node(g, IS("softmax") ? OP_SOFTMAX : IS("glu") ? OP_GLU : OP_LOG_SOFTMAX, &x, 1, &a);
    }
    if (IS("dropout")) {
        a.dropout = (DropoutAttrs){.p = net_number(l, "p", 0.5)};
        return net_node(g, OP_DROPOUT, &x, 1, &a);
    }
    if (IS("pad")) {
        a.pad = (PadAttrs){.nd = 2, .mode = (PadMode)net_number(l, "mode", 0), .value = net_number(l, "value", 0)};
        for (int i = 0; i < 2; i++) {
            a.pad.lo[i] = (int64_t)net_number(l, "lo", 1);
            a.pad.hi[i] = (int64_t)net_number(l, "hi", 1);
        }
        return net_node(g, OP_PAD, &x, 1, &a);
    }
#undef IS
    BUG("no layer %.*s", (int)len, l);
}

static inline ValueId net_sequence(NetText *t, const char *prefix, ValueId x);

static inline ValueId net_branches(NetText *t, bool residual, const char *name, ValueId x)
{
    ValueId out[8];
    int n = 0;
    while (*t->at == '{' && n < 8) {
        t->at++;
        const char *sub = residual ? (n ? "shortcut" : "body") : arena_printf(t->g->arena, "%d", n);
        out[n++] = net_sequence(t, arena_printf(t->g->arena, "%s.%s.", name, sub), x);
        t->at++;   /* the closing brace */
    }
    if (residual)
        return net_node(t->g, OP_ADD, (ValueId[]){out[0], n > 1 ? out[1] : x}, 2, NULL);
    return net_node(t->g, OP_CONCAT, out, n, &(Attrs){.axis = {.axis = 1}});
}

static inline ValueId net_sequence(NetText *t, const char *prefix, ValueId x)
{
    for (int i = 0;; i++) {
        t->at += strspn(t->at, " ;");
        if (*t->at == '}' || !*t->at)
            return x;
        const char *name = arena_printf(t->g->arena, "%s%d", prefix, i), *l = t->at;
        t->at += strcspn(t->at, ";{}");
        ValueId in = x;
        if (strncmp(l, "res{", 4) == 0 || strncmp(l, "cat{", 4) == 0)
            x = net_branches(t, *l == 'r', name, x);
        else
            x = net_simple(t->g, l, name, x);
        size_t len = strcspn(l, " ;}{");
        vec_push(t->g->arena, &t->g->layers, (Layer){.name = name, .type = arena_strndup(t->g->arena, l, len), .in = in, .out = x});
    }
}

/* The forward graph of the text, shaped. Layer names: the parameters' prefixes. Aborts on a mistake in the text. */
static inline Graph *net_build(Arena *a, const char *text, int64_t batch, Shape input)
{
    Graph *g = graph_new(a, "net", batch);
    g->input_shape = input;
    g->input = node_out(g, graph_add_node(g, OP_INPUT, NULL, 0, NULL, -1, (Span){0, 0}), 0);
    NetText t = {g, text};
    g->output = net_sequence(&t, "", g->input);
    Source src = source_from_text(a, "net", text, strlen(text));
    Diags d;
    diags_init(&d, a, &src);
    if (!shape(g, &d) || d.errors) {
        diags_print(&d, stderr, DIAG_SHORT, false);
        BUG("the test's net is wrong: %s", text);
    }
    const char *why = NULL;
    if (!graph_verify(g, &why))
        BUG("%s", why);
    return g;
}

/* n numbers in [0, 1) that depend on `name` alone. */
static inline void net_fill(const char *name, double *out, int64_t n)
{
    uint64_t s = 1469598103934665603u;
    for (const char *p = name; *p; p++)
        s = (s ^ (unsigned char)*p) * 1099511628211u;
    for (int64_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        out[i] = (double)(s >> 11) * 0x1p-53;
    }
}

static inline bool net_ends(const char *s, const char *end) { return strlen(s) >= strlen(end) && strcmp(s + strlen(s) - strlen(end), end) == 0; }

/* A parameter's starting values: what make_train.py gives the same name. */
static inline void net_init(const char *name, const Shape *shape, double *out)
{
    int64_t n = shape_elements(shape), fan = shape->rank > 1 ? n / shape->dim[0] : 1;
    net_fill(name, out, n);
    for (int64_t i = 0; i < n; i++) {
        if (shape->rank > 1)
            out[i] = (2 * out[i] - 1) * 1.5 / sqrt((double)fan);
        else if (net_ends(name, "running_var") || net_ends(name, "weight"))
            out[i] = 0.5 + out[i];
        else if (net_ends(name, "num_batches_tracked") || strncmp(name, "optimizer.", 10) == 0)
            out[i] = 0;
        else
            out[i] = out[i] - 0.5;
    }
    if (strncmp(name, "optimizer.", 10) == 0)
        memset(out, 0, sizeof *out * (size_t)n);
}
#endif
