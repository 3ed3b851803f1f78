/* explain for layers that slide a window: convolution and pooling.
 * In: a layer's facts. Out: output size, patches, unfold and einsum, parameters, work counted both ways.
 * Invariant: H_out * W_out is the number of patches, and is printed as the check it is.
 * Idea: predict, validate, execute: each formula first in letters, then in numbers. */
#include "passes/explain.h"

#include "ir/base/text.h"
#include "passes/shape.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char *const ROWS[][3] = {{"", "", ""}, {"length", "", ""}, {"rows", "columns", ""}, {"depth", "rows", "columns"}};

static Window axis_window(const Explain *e, int axis) { return node_window(e->g, e->n, axis); }

static int axes(const Explain *e) { return e->n->op == OP_CONV ? e->n->attrs.conv.nd : e->n->attrs.pool.nd; }

static void explain_size(const Explain *e)
{
    int nd = axes(e);
    Window first = axis_window(e, 0);
    bool ceil = first.ceil;
    explain_head(e, "Output size");
    fprintf(e->to, "  %s((H + 2*P - D*(K-1) - 1)/S + 1)    H size, P padding per side, D dilation, K kernel, S stride\n",
            ceil ? "ceil" : "floor");
    for (int i = 0; i < nd; i++) {
        Window w = axis_window(e, i);
        if (i && window_equal(&w, &first))
            fprintf(e->to, "  %-8s the same\n", ROWS[nd][i]);
        else
            fprintf(e->to, "  %-8s %s\n", ROWS[nd][i], window_formula(e->a, &w));
    }
    if (first.lo + first.hi > 0)
        explain_say(e,
                    "Padding counts per side: %" PRId64 " before and %" PRId64 " after make %" PRId64
                    " in all. (Textbooks often write p for that total: n - k + p + 1.)",
                    first.lo, first.hi, first.lo + first.hi);
    else if (e->n->op == OP_CONV && first.kernel > 1 && first.stride == 1)
        explain_say(e,
                    "Without padding each %" PRId64 "-wide kernel takes %" PRId64 " away; ten of them would take %" PRId64
                    ". padding=%" PRId64 " would keep the size.",
                    first.kernel, window_reach(&first) - 1, 10 * (window_reach(&first) - 1), (window_reach(&first) - 1) / 2);
    if (first.kernel % 2 == 0 && e->n->op == OP_CONV)
        explain_say(e, "An even kernel has no centre: no padding keeps the size on both sides alike. That is why 1, 3, 5, 7 are "
                       "the usual sizes.");
}

/* ---- convolution ---- */

static int64_t window_inputs(const ConvAttrs *c)
{
    int64_t n = c->in_channels / c->groups;
    for (int i = 0; i < c->nd; i++)
        n *= c->kernel[i];
    return n;
}

static int64_t positions(const Explain *e)
{
    int64_t n = 1;
    for (int i = 2; i < e->f->out.rank; i++)
        n *= e->f->out.dim[i];
    return n;
}

static const char *times(Arena *a, int64_t n, const char *name)
{
    return n == 1 ? name : arena_printf(a, "%" PRId64 "*%s", n, name);
}

/* "2*p + r - 1": the input's row for output row p and filter row r. */
static const char *index_text(Arena *a, const ConvAttrs *c, int64_t pad, int axis, const char *out, const char *tap)
{
    const char *text = arena_printf(a, "%s + %s", times(a, c->stride[axis], out), times(a, c->dilation[axis], tap));
    return pad ? arena_printf(a, "%s - %" PRId64, text, pad) : text;
}

static void explain_sum(const Explain *e, const ConvAttrs *c)
{
    explain_head(e, "One output number");
    const char *window =
        arena_printf(e->a, "%" PRId64 " * %s", c->in_channels / c->groups, dims_text(e->a, c->kernel, c->nd, " * "));
    if (c->nd == 2)
        fprintf(e->to, "  y[k, p, q] = %ssum over c, r, s of w[k, c, r, s] * x[c, %s, %s]\n", c->bias ? "b[k] + " : "",
                index_text(e->a, c, axis_window(e, 0).lo, 0, "p", "r"), index_text(e->a, c, axis_window(e, 1).lo, 1, "q", "s"));
    explain_say(e,
                "A dot product of the filter with a window of %s = %" PRId64
                " inputs. The filter is not flipped: this is cross-correlation. "
                "(numpy.convolve flips it; np.convolve(x, k[::-1], 'valid') is what happens here.)",
                window, window_inputs(c));
    if (c->mode != PAD_ZEROS)
        explain_say(e, "padding_mode='%s': the border is not zero but %s.",
                    c->mode == PAD_REFLECT     ? "reflect"
                    : c->mode == PAD_REPLICATE ? "replicate"
                                               : "circular",
                    c->mode == PAD_REFLECT     ? "the picture mirrored"
                    : c->mode == PAD_REPLICATE ? "its edge repeated"
                                               : "its opposite side");
    if (c->in_channels > 1 && c->groups == 1)
        explain_say(e,
                    "Each filter has one slice per input channel; the %" PRId64 " products are summed into one map per filter.",
                    c->in_channels);
    if (c->groups > 1 && c->groups == c->in_channels)
        explain_say(e, "groups = in_channels: a depthwise convolution, each channel is filtered alone. A 1x1 convolution after "
                       "it mixes them.");
    else if (c->groups > 1)
        explain_say(e,
                    "groups=%" PRId64 ": %" PRId64 " input channels in each part make %" PRId64
                    " outputs; the parts do not see each other.",
                    c->groups, c->in_channels / c->groups, c->out_channels / c->groups);
    bool point = true;
    for (int i = 0; i < c->nd; i++)
        point = point && c->kernel[i] == 1;
    if (point)
        explain_say(
            e, "A 1x1 convolution looks at one place only: it is a Linear over channels, used to change their number cheaply.");
    if (c->dilation[0] > 1)
        explain_say(e,
                    "dilation=%" PRId64 " leaves %" PRId64 " between the taps: a %" PRId64 "-wide kernel covers %" PRId64
                    " rows with no more weights.",
                    c->dilation[0], c->dilation[0] - 1, c->kernel[0], c->dilation[0] * (c->kernel[0] - 1) + 1);
}

static void explain_unfold(const Explain *e, const ConvAttrs *c)
{
    int64_t inputs = window_inputs(c), l = positions(e), k = c->out_channels, groups = c->groups;
    const char *product = dims_text(e->a, e->f->out.dim + 2, c->nd, " * ");
    explain_head(e, "As a matrix product (unfold and einsum)");
    fprintf(e->to, "  patches = %s = %" PRId64 ": one window per output position, H_out * W_out\n", product, l);
    fprintf(e->to, "  unfold (im2col)   [%" PRId64 ", %" PRId64 "]   each column one window laid flat%s\n", inputs * groups, l,
            groups > 1 ? ", all groups" : "");
    if (groups > 1)
        fprintf(e->to,
                "  per group         weight [%" PRId64 ", %" PRId64 "] times patches [%" PRId64 ", %" PRId64 "], %" PRId64
                " times\n",
                k / groups, inputs, inputs, l, groups);
    else
        fprintf(e->to,
                "  weight.flatten(1) [%" PRId64 ", %" PRId64
                "]\n  torch.einsum('b p l, o p -> b o l', patches, weight.flatten(1))   [%" PRId64 ", %" PRId64 "] x [%" PRId64
                ", %" PRId64 "] = [%" PRId64 ", %" PRId64 "]\n",
                k, inputs, k, inputs, inputs, l, k, l);
    fprintf(e->to, "  reshaped to %s: %s = %" PRId64 " again, so the sizes agree\n", shape_text(e->a, &e->f->out, true), product,
            l);
    int64_t patch_bytes = inputs * groups * l * 4, in_bytes = 4 * shape_sample_elements(&e->f->in);
    if (patch_bytes > in_bytes)
        explain_say(e, "The unfolded matrix takes %s where the input takes %s: the compiled program never makes it.",
                    text_bytes(e->a, patch_bytes), text_bytes(e->a, in_bytes));
}

static void explain_weights_and_work(const Explain *e, const ConvAttrs *c)
{
    int64_t inputs = window_inputs(c), weights = inputs * c->out_channels, all = weights + (c->bias ? c->out_channels : 0),
            l = positions(e);
    const char *product = dims_text(e->a, e->f->out.dim + 2, c->nd, " * ");
    int64_t dim[MAX_SPATIAL + 2] = {c->out_channels, c->in_channels / c->groups};
    memcpy(dim + 2, c->kernel, sizeof *dim * (size_t)c->nd);
    explain_head(e, "Parameters");
    fprintf(e->to, "  weight [%s] = %s%s\n", dims_text(e->a, dim, c->nd + 2, ", "), explain_number(e, weights),
            "   (out_channels, in_channels/groups, kernel)");
    if (c->bias)
        fprintf(e->to, "  bias   [%" PRId64 "]; together %s\n", c->out_channels, explain_number(e, all));
    if (e->f->params == all) {
        double bound = 1 / sqrt((double)inputs);
        fprintf(e->to, "  at first uniform in -%.4g..%.4g, 1/sqrt(fan_in) with fan_in = %" PRId64 "\n", bound, bound, inputs);
    }
    explain_head(e, "Work");
    fprintf(e->to, "  multiply-accumulates = %s * %" PRId64 " outputs * %" PRId64 " inputs = %s a sample\n", product,
            c->out_channels, inputs, explain_number(e, l * weights));
    if (c->bias)
        fprintf(e->to,
                "  the same, counted as textbooks do: positions * (parameters - bias) = %s * (%" PRId64 " - %" PRId64 ") = %s\n",
                product, all, c->out_channels, explain_number(e, l * (all - c->out_channels)));
}

/* What larger kernels and strides are for. */
static void explain_choice(const Explain *e, const ConvAttrs *c)
{
    static const char *const words[] = {"", "One", "Two", "Three", "Four", "Five", "Six", "Seven"};
    int64_t k = c->kernel[0], threes = (k - 1) / 2, fewer = 1;
    if (c->nd == 2 && k == c->kernel[1] && k >= 5 && k % 2 == 1 && k <= 15 && c->dilation[0] == 1 && !e->told) {
        explain_head(e, "Kernel size");
        explain_say(e,
                    "%s 3x3 convolutions in a row see the same %" PRId64 "x%" PRId64 " window: with C channels they need %" PRId64
                    "*9*C*C = %" PRId64 "*C*C weights instead of %" PRId64
                    "*C*C, and have an activation after each. One large kernel at the start, where C is small, is cheap and sees "
                    "more at once.",
                    words[threes], k, k, threes, threes * 9, k * k);
    }
    for (int i = 0; i < c->nd; i++)
        fewer *= c->stride[i];
    if (fewer > 1) {
        explain_head(e, "Stride");
        fprintf(e->to, "  %s: only one in %" PRId64 " positions is computed, and that many times fewer numbers follow\n",
                dims_text(e->a, c->stride, c->nd, "x"), fewer);
        explain_say(e, "That is why the filters are often doubled at such a layer: the number of activations falls less, and "
                       "with it what the net can keep of the picture.");
    }
}

/* ---- pooling ---- */

static void explain_pooling(const Explain *e, const PoolAttrs *p)
{
    bool max = e->n->op == OP_MAXPOOL;
    const char *window = dims_text(e->a, p->kernel, p->nd, "x");
    if (e->told)
        return;
    explain_head(e, max ? "Maximum of a window" : "Mean of a window");
    if (max)
        explain_say(e,
                    "Each channel alone: the largest of a %s window. A feature found a pixel further left or right gives the "
                    "same answer, and the next layer sees more of the picture. "
                    "The gradient goes to the largest alone, the first of equals.",
                    window);
    else
        explain_say(e,
                    "Each channel alone: the mean of a %s window. It keeps the strength of the whole window, where maximum "
                    "pooling keeps its strongest answer.",
                    window);
    bool own_stride = true;
    for (int i = 0; i < p->nd; i++)
        own_stride = own_stride && p->stride[i] == p->kernel[i];
    explain_say(e, own_stride ? "stride = kernel_size, as when none is given: windows neither overlap nor leave gaps."
                              : "Windows overlap where the stride is less than the kernel.");
    if (p->pad[0] > 0 && max)
        explain_say(e, "Padding counts as minus infinity: it is never the largest.");
    else if (p->pad[0] > 0)
        explain_say(e, p->count_include_pad ? "Padding counts as zeros and is divided by too (count_include_pad=True)."
                                            : "Only true inputs are counted (count_include_pad=False).");
    if (p->divisor_override)
        explain_say(e, "The sum is divided by divisor_override=%" PRId64 ".", p->divisor_override);
    if (p->ceil_mode)
        explain_say(e, "ceil_mode rounds up: a last window may reach over the edge, but may not start in the right padding.");
    explain_say(e, "Parameters: none. Multiply-accumulates: none.");
}

void explain_window(const Explain *e)
{
    explain_size(e);
    if (e->n->op != OP_CONV) {
        explain_pooling(e, &e->n->attrs.pool);
        return;
    }
    const ConvAttrs *c = &e->n->attrs.conv;
    explain_sum(e, c);
    explain_unfold(e, c);
    explain_weights_and_work(e, c);
    explain_choice(e, c);
}
