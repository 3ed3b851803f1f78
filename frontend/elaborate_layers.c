/* elaborate_layers.c: the nodes of each kind of layer.
 * In: a layer whose arguments fit its signature, and its input value. Out: nodes appended to the graph; the output value.
 * Invariant: parameters are created in PyTorch's order (weight, then bias), because initial values are drawn in that
 * order; every node carries its layer's id and span; sizes left out are INFER.
 * The idea: a build function only translates words into attributes. Whether the numbers make sense is shape's business,
 * except for words that no number can express (padding_mode='refelct').
 *
 * Adding a layer: a row in ir/layers.def, a function here, its declaration in elaborate_layers.h. */
#include "frontend/elaborate_layers.h"
#include <inttypes.h>
#include <string.h>

ValueId unknown_value(Elab *e)
{
    ValueId v = graph_add_value(e->graph, DT_F32);
    graph_value(e->graph, v)->shape.rank = -1;
    graph_value(e->graph, v)->batched = true;
    return v;
}

/* ---- arguments to attributes ---- */

static int64_t int_arg(const LayerCall *c, const char *name)
{
    const Val *v = layer_arg(c, name);
    return v->kind == VK_INFER ? INFER : v->i;
}

static bool bool_arg(const LayerCall *c, const char *name) { return layer_arg(c, name)->i != 0; }

static double number_arg(const LayerCall *c, const char *name)
{
    double x = 0;
    val_number(layer_arg(c, name), &x);
    return x;
}

/* One size for all axes, or one each; None items become 0. */
static void sizes_arg(const LayerCall *c, const char *name, int64_t out[MAX_SPATIAL])
{
    const Val *v = layer_arg(c, name);
    for (int i = 0; i < c->spec->nd; i++)
        out[i] = val_is_list(v) ? v->at[v->n == 1 ? 0 : i].i : v->kind == VK_NONE ? 0 : v->i;
}

static bool bad_word(Elab *e, const LayerCall *c, const Val *v, const char *arg, const char *const *words)
{
    const char *all = words[0];
    for (int i = 1; words[i]; i++)
        all = arena_printf(e->arena, "%s%s'%s'", i == 1 ? arena_printf(e->arena, "'%s'", all) : all, words[i + 1] ? ", " : " or ",
                           words[i]);
    diag_error(e->diags, v->span, "E0227", "%s of %s must be %s, not '%s'", arg, c->spec->name, all, v->s);
    const char *near = nearest_word(v->s, words);
    if (near)
        diag_help(e->diags, "did you mean '%s'?", near);
    return false;
}

/* The place of the argument's word in `words` (NULL-terminated); -1: reported. */
static int word_arg(Elab *e, const LayerCall *c, const char *name, const char *const *words)
{
    const Val *v = layer_arg(c, name);
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], v->s))
            return i;
    bad_word(e, c, v, name, words);
    return -1;
}

static const char *param_name(Elab *e, const LayerCall *c, const char *what)
{
    return arena_printf(e->arena, "%s.%s", c->name, what);
}

static ValueId add_param(Elab *e, const LayerCall *c, const char *what, ParamAttrs attrs)
{
    Shape unknown = {.rank = -1};
    attrs.trainable = !c->frozen && !attrs.buffer;
    ValueId v = graph_add_param(e->graph, param_name(e, c, what), &attrs, &unknown, c->layer, c->ast->span);
    graph_value(e->graph, v)->shape.rank = -1;
    return v;
}

static ValueId add_op(Elab *e, const LayerCall *c, Op op, const ValueId *in, int n, const Attrs *attrs)
{
    return node_out(e->graph, graph_add_node(e->graph, op, in, n, attrs, c->layer, c->ast->span), 0);
}

static Attrs blank(void)
{
    Attrs a;
    memset(&a, 0, sizeof a);
    return a;
}

/* ---- fixed filters: weight=[[...]], Sobel(), TopEdge() ---- */

typedef struct {
    Vec(double) numbers;
    int rank;
    int64_t dim[8];
} Nested;

/* Collects the numbers of a nested list and checks that it is rectangular. */
static bool flatten_list(Elab *e, const Val *v, int depth, Nested *out)
{
    double x;
    if (v->kind != VK_BOOL && val_number(v, &x)) {
        if (depth != out->rank)
            return diag_error(e->diags, v->span, "E0229", "weight must be a list of rows, all equally deep");
        vec_push(e->arena, &out->numbers, x);
        return true;
    }
    if (!val_is_list(v) || v->n == 0)
        return diag_error(e->diags, v->span, "E0229", "weight must hold numbers, not %s",
                          val_is_list(v) ? "an empty list" : val_kind_text(v));
    if (depth >= out->rank) {
        if (depth > 3 || out->numbers.len)
            return diag_error(e->diags, v->span, "E0229",
                              "weight must be a list of rows, all equally deep and at most four levels");
        out->rank = depth + 1;
        out->dim[depth] = v->n;
    } else if (out->dim[depth] != v->n) {
        return diag_error(e->diags, v->span, "E0229", "this row of weight has %u items, the others %" PRId64, v->n,
                          out->dim[depth]);
    }
    for (uint32_t i = 0; i < v->n; i++)
        if (!flatten_list(e, &v->at[i], depth + 1, out))
            return false;
    return true;
}

static bool named_filter(Elab *e, const Val *v, Nested *out)
{
    static const struct {
        const char *name;
        double at[9];
    } filters[] = {
        {"Sobel", {-1, 0, 1, -2, 0, 2, -1, 0, 1}},
        {"TopEdge", {-1, -1, -1, 0, 0, 0, 1, 1, 1}},
    };
    static const char *const names[] = {"Sobel", "TopEdge", NULL};
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        if (strcmp(filters[i].name, v->ast->text) != 0)
            continue;
        for (int k = 0; k < 9; k++)
            vec_push(e->arena, &out->numbers, filters[i].at[k]);
        out->rank = 2;
        out->dim[0] = out->dim[1] = 3;
        return true;
    }
    diag_error(e->diags, v->span, "E0229", "unknown filter '%s'", v->ast->text);
    const char *near = nearest_word(v->ast->text, names);
    diag_help(e->diags, "the filters with names are Sobel() and TopEdge()%s%s", near ? "; did you mean " : "", near ? near : "");
    return false;
}

/* The weight's attributes: PyTorch's uniform start, or the given filter. False: reported. */
static bool conv_weight(Elab *e, const LayerCall *c, const ConvAttrs *conv, ParamAttrs *out)
{
    const Val *v = layer_arg(c, "weight");
    *out = (ParamAttrs){.init = INIT_UNIFORM, .weight_bound = true};
    if (v->kind == VK_NONE)
        return true;
    Nested n = {.rank = 0};
    if (v->kind == VK_CALL ? !named_filter(e, v, &n) : !val_is_list(v)) {
        if (v->kind != VK_CALL)
            diag_error(e->diags, v->span, "E0224", "weight of %s must be a list of rows, Sobel() or TopEdge(), not %s",
                       c->spec->name, val_kind_text(v));
        return false;
    }
    if (v->kind != VK_CALL && !flatten_list(e, v, 0, &n))
        return false;
    if (n.rank != conv->nd && n.rank != conv->nd + 2)
        return diag_error(e->diags, v->span, "E0229", "weight of %s needs %d levels of lists, not %d", c->spec->name, conv->nd,
                          n.rank);
    for (int i = 0; i < conv->nd; i++) {
        int64_t got = n.dim[n.rank - conv->nd + i];
        if (got != conv->kernel[i])
            return diag_error(e->diags, v->span, "E0229", "weight has %" PRId64 " %s but kernel_size says %" PRId64, got,
                              i == conv->nd - 1 ? "columns" : "rows", conv->kernel[i]);
    }
    *out = (ParamAttrs){.init = INIT_VALUES, .values = n.numbers.at, .n_values = n.numbers.len};
    return true;
}

/* ---- convolution and linear ---- */

/* padding_mode other than zeros: an explicit pad in front, and the convolution itself pads nothing. */
static ValueId add_pad(Elab *e, const LayerCall *c, ConvAttrs *conv, ValueId in)
{
    Attrs a = blank();
    a.pad.nd = conv->nd;
    a.pad.mode = conv->mode;
    bool any = false;
    for (int i = 0; i < conv->nd; i++) {
        int64_t total;
        if (conv->padding == PADDING_SAME) {
            if (__builtin_mul_overflow(conv->dilation[i], conv->kernel[i] - 1, &total))
                total = 0; /* shape reports such a kernel */
            a.pad.lo[i] = total / 2;
            a.pad.hi[i] = total - total / 2;
        } else {
            a.pad.lo[i] = conv->pad_lo[i];
            a.pad.hi[i] = conv->pad_hi[i];
        }
        conv->pad_lo[i] = conv->pad_hi[i] = 0;
        any |= a.pad.lo[i] != 0 || a.pad.hi[i] != 0;
    }
    return any ? add_op(e, c, OP_PAD, &in, 1, &a) : in;
}

ValueId build_conv(Elab *e, LayerCall *c, ValueId in)
{
    static const char *const modes[] = {"zeros", "reflect", "replicate", "circular", NULL};
    int mode = word_arg(e, c, "padding_mode", modes);
    Attrs a = blank();
    ConvAttrs *conv = &a.conv;
    const Val *padding = layer_arg(c, "padding");
    conv->nd = c->spec->nd;
    conv->in_channels = int_arg(c, "in_channels");
    conv->out_channels = int_arg(c, "out_channels");
    conv->groups = int_arg(c, "groups");
    conv->bias = bool_arg(c, "bias");
    sizes_arg(c, "kernel_size", conv->kernel);
    sizes_arg(c, "stride", conv->stride);
    sizes_arg(c, "dilation", conv->dilation);
    if (padding->kind == VK_STR)
        conv->padding = !strcmp(padding->s, "same") ? PADDING_SAME : PADDING_VALID;
    else
        sizes_arg(c, "padding", conv->pad_lo);
    memcpy(conv->pad_hi, conv->pad_lo, sizeof conv->pad_hi);
    ParamAttrs weight;
    if (!conv_weight(e, c, conv, &weight) || mode < 0)
        return unknown_value(e);
    conv->mode = (PadMode)mode;
    if (conv->mode != PAD_ZEROS)
        in = add_pad(e, c, conv, in);
    ValueId inputs[3] = {in, add_param(e, c, "weight", weight), 0};
    if (conv->bias)
        inputs[2] = add_param(e, c, "bias", (ParamAttrs){.init = INIT_UNIFORM});
    return add_op(e, c, OP_CONV, inputs, 3, &a);
}

ValueId build_linear(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    a.linear = (LinearAttrs){int_arg(c, "in_features"), int_arg(c, "out_features"), bool_arg(c, "bias")};
    ValueId inputs[3] = {in, add_param(e, c, "weight", (ParamAttrs){.init = INIT_UNIFORM, .weight_bound = true}), 0};
    if (a.linear.bias)
        inputs[2] = add_param(e, c, "bias", (ParamAttrs){.init = INIT_UNIFORM});
    return add_op(e, c, OP_LINEAR, inputs, 3, &a);
}

/* ---- pooling ---- */

/* return_indices makes a second result, for which a sequence has no place. */
static bool indices_wanted(Elab *e, const LayerCall *c)
{
    if (!bool_arg(c, "return_indices"))
        return false;
    diag_error(e->diags, layer_arg(c, "return_indices")->span, "E0206",
               "return_indices=True gives %s two results, which the next layer cannot take", c->spec->name);
    return true;
}

static Attrs pool_attrs(const LayerCall *c)
{
    Attrs a = blank();
    a.pool.nd = c->spec->nd;
    sizes_arg(c, "kernel_size", a.pool.kernel);
    sizes_arg(c, layer_arg(c, "stride")->kind == VK_NONE ? "kernel_size" : "stride", a.pool.stride);
    sizes_arg(c, "padding", a.pool.pad);
    for (int i = 0; i < a.pool.nd; i++)
        a.pool.dilation[i] = 1;
    a.pool.ceil_mode = bool_arg(c, "ceil_mode");
    return a;
}

ValueId build_maxpool(Elab *e, LayerCall *c, ValueId in)
{
    if (indices_wanted(e, c))
        return unknown_value(e);
    Attrs a = pool_attrs(c);
    sizes_arg(c, "dilation", a.pool.dilation);
    return add_op(e, c, OP_MAXPOOL, &in, 1, &a);
}

ValueId build_avgpool(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = pool_attrs(c);
    a.pool.count_include_pad = bool_arg(c, "count_include_pad");
    if (c->spec->nd > 1) {
        const Val *divisor = layer_arg(c, "divisor_override");
        if (divisor->kind == VK_INT && divisor->i == 0) {
            diag_error(e->diags, divisor->span, "E0306", "AvgPool%dd's divisor_override must not be 0", c->spec->nd);
            diag_torch(e->diags, "divisor must be not zero");
            return unknown_value(e);
        }
        a.pool.divisor_override = divisor->kind == VK_NONE ? 0 : divisor->i;
    }
    return add_op(e, c, OP_AVGPOOL, &in, 1, &a);
}

ValueId build_adaptive(Elab *e, LayerCall *c, ValueId in)
{
    bool max = !strncmp(c->spec->name, "AdaptiveMax", 11);
    if (max && indices_wanted(e, c))
        return unknown_value(e);
    Attrs a = blank();
    a.adaptive.nd = c->spec->nd;
    sizes_arg(c, "output_size", a.adaptive.out);
    const Val *v = layer_arg(c, "output_size");
    for (int i = 0; i < a.adaptive.nd; i++) { /* 0 means None in the graph, and nothing to PyTorch */
        const Val *item = val_is_list(v) ? &v->at[v->n == 1 ? 0 : i] : v;
        if (item->kind == VK_INT && item->i <= 0) {
            diag_error(e->diags, item->span, "E0306", "%s's output_size must be at least 1, not %" PRId64, c->spec->name,
                       item->i);
            return unknown_value(e);
        }
    }
    return add_op(e, c, max ? OP_ADAPTIVE_MAX : OP_ADAPTIVE_AVG, &in, 1, &a);
}

/* ---- normalisation and dropout ---- */

static ValueId add_tracked_count(Elab *e, const LayerCall *c)
{
    ParamAttrs attrs = {.init = INIT_ZEROS, .buffer = true};
    Shape scalar = {.rank = 0};
    ValueId v = graph_add_param(e->graph, param_name(e, c, "num_batches_tracked"), &attrs, &scalar, c->layer, c->ast->span);
    graph_value(e->graph, v)->dtype = DT_I64;
    return v;
}

ValueId build_batchnorm(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    const Val *momentum = layer_arg(c, "momentum");
    a.norm = (NormAttrs){.features = int_arg(c, "num_features"),
                         .eps = number_arg(c, "eps"),
                         .affine = bool_arg(c, "affine"),
                         .momentum = momentum->kind == VK_NONE ? -1 : number_arg(c, "momentum"),
                         .track = bool_arg(c, "track_running_stats")};
    if (a.norm.eps < 0 || (momentum->kind != VK_NONE && a.norm.momentum < 0)) {
        bool eps = a.norm.eps < 0;
        diag_error(e->diags, layer_arg(c, eps ? "eps" : "momentum")->span, "E0306", "%s of %s must be %s",
                   eps ? "eps" : "momentum", c->spec->name, eps ? "positive" : "at least 0");
        return unknown_value(e);
    }
    ValueId inputs[5] = {in};
    if (a.norm.affine)
        inputs[1] = add_param(e, c, "weight", (ParamAttrs){.init = INIT_ONES});
    if (a.norm.affine && bool_arg(c, "bias"))
        inputs[2] = add_param(e, c, "bias", (ParamAttrs){.init = INIT_ZEROS});
    if (a.norm.track) { /* without, it takes the statistics of each batch, in evaluation too */
        inputs[3] = add_param(e, c, "running_mean", (ParamAttrs){.init = INIT_ZEROS, .buffer = true});
        inputs[4] = add_param(e, c, "running_var", (ParamAttrs){.init = INIT_ONES, .buffer = true});
        add_tracked_count(e, c);
    }
    return add_op(e, c, OP_BATCHNORM, inputs, 5, &a);
}

ValueId build_dropout(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    a.dropout = (DropoutAttrs){.p = number_arg(c, "p"), .stream = e->streams++, .channels = c->spec->nd > 0};
    return add_op(e, c, OP_DROPOUT, &in, 1, &a);
}

/* ---- shape and axes ---- */

/* An axis as 32 bits; what does not fit is out of range for shape to report. */
static int32_t axis_number(int64_t i) { return i > INT32_MAX ? INT32_MAX : i < INT32_MIN ? INT32_MIN : (int32_t)i; }

ValueId build_flatten(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    a.flatten = (FlattenAttrs){axis_number(int_arg(c, "start_dim")), axis_number(int_arg(c, "end_dim"))};
    return add_op(e, c, OP_RESHAPE, &in, 1, &a);
}

ValueId build_identity(Elab *e, LayerCall *c, ValueId in)
{
    (void)e, (void)c;
    return in;
}

ValueId build_softmax(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    const Val *dim = layer_arg(c, "dim");
    a.axis.axis = dim->kind == VK_NONE ? AXIS_NONE : axis_number(dim->i);
    return add_op(e, c, c->spec->name[0] == 'L' ? OP_LOG_SOFTMAX : OP_SOFTMAX, &in, 1, &a);
}

ValueId build_softmax2d(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    a.axis.axis = 1;
    return add_op(e, c, OP_SOFTMAX, &in, 1, &a);
}

ValueId build_glu(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    a.axis.axis = axis_number(int_arg(c, "dim"));
    return add_op(e, c, OP_GLU, &in, 1, &a);
}

/* ---- activations ---- */

static const char *const act_names[ACT_COUNT] = {
#define ACT(id, torch_name, ...) [ACT_##id] = torch_name,
#include "ir/activations.def"
#undef ACT
};

ValueId build_act(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    int p = 0;
    while (a.act.kind < ACT_COUNT && strcmp(act_names[a.act.kind], c->spec->name) != 0)
        a.act.kind++;
    if (a.act.kind == ACT_COUNT)
        BUG("no activation is called %s", c->spec->name);
    for (int i = 0; i < c->spec->n_args; i++)
        if (c->spec->args[i].kind == ARG_NUMBER)
            val_number(&c->arg[i], &a.act.p[p++]);
    if (a.act.kind == ACT_HARDTANH && a.act.p[0] >= a.act.p[1]) {
        diag_error(e->diags, c->ast->span, "E0306", "Hardtanh's max_val %g must be greater than its min_val %g", a.act.p[1],
                   a.act.p[0]);
        diag_torch(e->diags, "max_val (%g) must be greater than min_val (%g)", a.act.p[1], a.act.p[0]);
        return unknown_value(e);
    }
    return add_op(e, c, OP_ACT, &in, 1, &a);
}

ValueId build_gelu(Elab *e, LayerCall *c, ValueId in)
{
    static const char *const forms[] = {"none", "tanh", NULL};
    int form = word_arg(e, c, "approximate", forms);
    if (form < 0)
        return unknown_value(e);
    Attrs a = blank();
    a.act.kind = form ? ACT_GELU_TANH : ACT_GELU;
    return add_op(e, c, OP_ACT, &in, 1, &a);
}

ValueId build_prelu(Elab *e, LayerCall *c, ValueId in)
{
    Attrs a = blank();
    a.act.kind = ACT_PRELU;
    a.act.p[0] = (double)int_arg(c, "num_parameters");
    a.act.p[1] = number_arg(c, "init");
    ValueId inputs[2] = {in, add_param(e, c, "weight", (ParamAttrs){.init = INIT_CONST, .bound = a.act.p[1]})};
    return add_op(e, c, OP_ACT, inputs, 2, &a);
}
