/* What print(model) writes for a layer: names, order and spelling as in PyTorch 2.15.
 * In: a node whose sizes are known, and its attributes as written (axes not resolved). Out: text, or NULL.
 * Invariant: a layer's text comes from its main node (a convolution's border node gives none).
 * Idea: square pooling windows print as one number, since that is how nearly everyone writes them. */
#include "passes/shape.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *number(Arena *a, double x)
{
    const char *s = "";
    for (int digits = 15; digits <= 17; digits++) {
        s = arena_printf(a, "%.*g", digits, x);
        if (strtod(s, NULL) == x)
            break;
    }
    return strpbrk(s, ".en") ? s : arena_printf(a, "%s.0", s); /* 1.0, 1e-05, inf, nan */
}

static const char *truth(bool b) { return b ? "True" : "False"; }

static const char *tuple(Arena *a, const int64_t *v, int n)
{
    return arena_printf(a, "(%s%s)", dims_text(a, v, n, ", "), n == 1 ? "," : "");
}

static bool all_equal(const int64_t *v, int n, int64_t x)
{
    for (int i = 0; i < n; i++)
        if (v[i] != x)
            return false;
    return true;
}

static const char *size_or_tuple(Arena *a, const int64_t *v, int n)
{
    return all_equal(v, n, v[0]) ? arena_printf(a, "%" PRId64, v[0]) : tuple(a, v, n);
}

/* ---- one function per kind of attributes ---- */

static const char *const MODES[] = {"zeros", "reflect", "replicate", "circular", "constant"};

static const char *conv_text(const Infer *t, const ConvAttrs *c)
{
    Arena *a = t->g->arena;
    const int64_t *pad = c->pad_lo;
    if (c->mode != PAD_ZEROS && graph_def(t->g, t->n->in[0])->op == OP_PAD)
        pad = graph_def(t->g, t->n->in[0])->attrs.pad.lo;
    const char *text = arena_printf(a, "%s(%" PRId64 ", %" PRId64 ", kernel_size=%s, stride=%s", infer_type(t), c->in_channels,
                                    c->out_channels, tuple(a, c->kernel, c->nd), tuple(a, c->stride, c->nd));
    if (c->padding != PADDING_NUMBERS)
        text = arena_printf(a, "%s, padding=%s", text, c->padding == PADDING_SAME ? "same" : "valid");
    else if (!all_equal(pad, c->nd, 0))
        text = arena_printf(a, "%s, padding=%s", text, tuple(a, pad, c->nd));
    if (!all_equal(c->dilation, c->nd, 1))
        text = arena_printf(a, "%s, dilation=%s", text, tuple(a, c->dilation, c->nd));
    if (c->groups != 1)
        text = arena_printf(a, "%s, groups=%" PRId64, text, c->groups);
    if (!c->bias)
        text = arena_printf(a, "%s, bias=False", text);
    if (c->mode != PAD_ZEROS)
        text = arena_printf(a, "%s, padding_mode=%s", text, MODES[c->mode]);
    return arena_printf(a, "%s)", text);
}

static const char *pool_text(const Infer *t, const PoolAttrs *p)
{
    Arena *a = t->g->arena;
    const char *type = infer_type(t);
    if (t->n->op == OP_MAXPOOL)
        return arena_printf(a, "%s(kernel_size=%s, stride=%s, padding=%s, dilation=%s, ceil_mode=%s)", type,
                            size_or_tuple(a, p->kernel, p->nd), size_or_tuple(a, p->stride, p->nd),
                            size_or_tuple(a, p->pad, p->nd), size_or_tuple(a, p->dilation, p->nd), truth(p->ceil_mode));
    if (p->nd == 1)
        return arena_printf(a, "%s(kernel_size=%s, stride=%s, padding=%s)", type, tuple(a, p->kernel, 1), tuple(a, p->stride, 1),
                            tuple(a, p->pad, 1));
    return arena_printf(a, "%s(kernel_size=%s, stride=%s, padding=%s)", type, size_or_tuple(a, p->kernel, p->nd),
                        size_or_tuple(a, p->stride, p->nd), size_or_tuple(a, p->pad, p->nd));
}

static const char *adaptive_text(const Infer *t, const AdaptiveAttrs *p)
{
    Arena *a = t->g->arena;
    if (all_equal(p->out, p->nd, p->out[0]) && p->out[0] > 0)
        return arena_printf(a, "%s(output_size=%" PRId64 ")", infer_type(t), p->out[0]);
    const char *text = "";
    for (int i = 0; i < p->nd; i++)
        text = arena_printf(a, "%s%s%s", text, i ? ", " : "", p->out[i] ? arena_printf(a, "%" PRId64, p->out[i]) : "None");
    return arena_printf(a, "%s(output_size=(%s%s))", infer_type(t), text, p->nd == 1 ? "," : "");
}

static const char *norm_text(const Infer *t, const NormAttrs *b)
{
    Arena *a = t->g->arena;
    return arena_printf(a, "%s(%" PRId64 ", eps=%s, momentum=%s, affine=%s, bias=%s, track_running_stats=%s)", infer_type(t),
                        b->features, number(a, b->eps), b->momentum < 0 ? "None" : number(a, b->momentum), truth(b->affine),
                        truth(b->affine), truth(b->track));
}

static const char *const ACT_PARAMETERS[ACT_COUNT] = {
#define ACT(id, torch_name, text, parameters, ...) [ACT_##id] = parameters,
#include "ir/activations.def"
#undef ACT
};

static const char *act_layer_text(const Infer *t, const ActAttrs *act)
{
    Arena *a = t->g->arena;
    const char *type = infer_type(t), *text = arena_printf(a, "%s(", type), *p = ACT_PARAMETERS[act->kind];
    if (act->kind == ACT_GELU || act->kind == ACT_GELU_TANH)
        return arena_printf(a, "GELU(approximate='%s')", act->kind == ACT_GELU ? "none" : "tanh");
    if (act->kind == ACT_PRELU)
        return arena_printf(a, "PReLU(num_parameters=%" PRId64 ")", (int64_t)act->p[0]);
    bool bare = act->kind == ACT_SOFTSHRINK || act->kind == ACT_HARDSHRINK;
    for (int i = 0; *p; i++) {
        size_t name = strcspn(p, "= "), whole = strcspn(p, " ");
        text =
            arena_printf(a, "%s%s%.*s%s%s", text, i ? ", " : "", bare ? 0 : (int)name, p, bare ? "" : "=", number(a, act->p[i]));
        p += whole + (p[whole] == ' ');
    }
    return arena_printf(a, "%s)", text);
}

static const char *axis_text(const Infer *t, int32_t axis)
{
    if (strcmp(infer_type(t), "Softmax2d") == 0)
        return "Softmax2d()";
    return axis == AXIS_NONE ? arena_printf(t->g->arena, "%s(dim=None)", infer_type(t))
                             : arena_printf(t->g->arena, "%s(dim=%d)", infer_type(t), axis);
}

static const char *pad_text(const Infer *t, const PadAttrs *p)
{
    Arena *a = t->g->arena;
    int64_t v[2 * MAX_SPATIAL]; /* the last axis first: left, right, top, bottom */
    for (int i = 0; i < p->nd; i++) {
        v[2 * i] = p->lo[p->nd - 1 - i];
        v[2 * i + 1] = p->hi[p->nd - 1 - i];
    }
    if (strncmp(infer_type(t), "Conv", 4) == 0)
        return NULL;
    if (strncmp(infer_type(t), "Constant", 8) == 0)
        return arena_printf(a, "%s(padding=%s, value=%s)", infer_type(t), tuple(a, v, 2 * p->nd), number(a, p->value));
    return arena_printf(a, "%s(%s)", infer_type(t), tuple(a, v, 2 * p->nd));
}

const char *layer_printed(const Infer *t, const Attrs *written)
{
    Arena *a = t->g->arena;
    switch (t->n->op) {
    case OP_CONV:
        return conv_text(t, &written->conv);
    case OP_LINEAR:
        return arena_printf(a, "Linear(in_features=%" PRId64 ", out_features=%" PRId64 ", bias=%s)", written->linear.in_features,
                            written->linear.out_features, truth(written->linear.bias));
    case OP_MAXPOOL:
    case OP_AVGPOOL:
        return pool_text(t, &written->pool);
    case OP_ADAPTIVE_AVG:
    case OP_ADAPTIVE_MAX:
        return adaptive_text(t, &written->adaptive);
    case OP_BATCHNORM:
        return norm_text(t, &written->norm);
    case OP_ACT:
        return act_layer_text(t, &written->act);
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
    case OP_GLU:
        return axis_text(t, written->axis.axis);
    case OP_DROPOUT:
        return arena_printf(a, "%s(p=%s, inplace=False)", infer_type(t), number(a, written->dropout.p));
    case OP_RESHAPE:
        return arena_printf(a, "Flatten(start_dim=%d, end_dim=%d)", written->flatten.start, written->flatten.end);
    case OP_PAD:
        return pad_text(t, &written->pad);
    default:
        return NULL;
    }
}
