/* explain for every other kind of layer: a paragraph that says what it really does, with this layer's numbers.
 * In: a layer's facts. Out: text. Invariant: every op of a forward graph has a paragraph (a test walks ops.def).
 * Idea: what people get wrong is said outright: Flatten is not squeeze, Dropout and BatchNorm act differently in training,
 * CrossEntropyLoss brings its own softmax. */
#include "passes/explain.h"

#include "ir/base/text.h"
#include "passes/shape.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void explain_flatten(const Explain *e)
{
    const Shape *in = &e->f->in;
    int start = e->n->attrs.flatten.start, end = e->n->attrs.flatten.end;
    explain_head(e, "What Flatten does");
    fprintf(e->to, "  %s\n", e->f->formula);
    explain_say(e, "Axes %d to %d become one; the batch stays, and no number moves in memory.", start, end);
    if (in->rank == 4 && start == 1 && end == 3)
        explain_say(e, "x[c, h, w] goes to place (c*%" PRId64 " + h)*%" PRId64 " + w: all of channel 0 first, row by row.",
                    in->dim[2], in->dim[3]);
    Shape squeezed = {.rank = 1, .dim = {in->dim[0]}};
    for (int i = 1; i < in->rank; i++)
        if (in->dim[i] != 1)
            squeezed.dim[squeezed.rank++] = in->dim[i];
    explain_say(e, "It is not squeeze: squeeze only drops axes of size 1, and would %s %s.",
                shape_equal(&squeezed, in) ? "leave" : "make this", shape_text(e->a, &squeezed, true));
    explain_say(
        e,
        "Linear after it needs in_features=%" PRId64
        "; write _ and it is inferred. A net may do without: AdaptiveAvgPool2d(1) or 1x1 convolutions fit any picture size.",
        e->f->out.dim[e->f->out.rank - 1]);
    explain_say(e, "(Without a batch PyTorch's Flatten() keeps the first axis all the same: [3, 4, 5] becomes [3, 20].)");
}

static void explain_linear(const Explain *e)
{
    const LinearAttrs *l = &e->n->attrs.linear;
    int64_t i = l->in_features, o = l->out_features, rows = shape_sample_elements(&e->f->in) / i, weights = i * o,
            all = weights + (l->bias ? o : 0);
    explain_head(e, "What Linear does");
    fprintf(e->to, "  y = x * transpose(weight)%s: every output is a weighted sum of all %s inputs\n", l->bias ? " + bias" : "",
            explain_number(e, i));
    fprintf(e->to, "  torch.einsum('b i, o i -> b o', x, weight)   [%" PRId64 ", %" PRId64 "] x [%" PRId64 "] = [%" PRId64 "]\n",
            o, i, i, o);
    const Node *from = graph_node(e->g, shape_origin(e->g, e->n->in[0]));
    if (from->op == OP_RESHAPE)
        fprintf(e->to, "  in_features = %s, from Flatten\n", node_formula(e->a, e->g, from));
    if (rows > 1)
        explain_say(e,
                    "It works on the last axis alone: each sample has %" PRId64 " rows of %" PRId64
                    " numbers, and all go through the same matrix. Flatten() before it is what is usually meant.",
                    rows, i);
    explain_head(e, "Parameters");
    fprintf(e->to, "  weight [%" PRId64 ", %" PRId64 "] = %s   (out_features, in_features)\n", o, i, explain_number(e, weights));
    if (l->bias)
        fprintf(e->to, "  bias   [%" PRId64 "]; together %s\n", o, explain_number(e, all));
    fprintf(e->to, "  at first uniform in -%.4g..%.4g, 1/sqrt(fan_in) with fan_in = %" PRId64 "\n", 1 / sqrt((double)i),
            1 / sqrt((double)i), i);
    explain_head(e, "Work");
    fprintf(e->to, "  multiply-accumulates = %s%" PRId64 " * %" PRId64 " = %s a sample\n",
            rows > 1 ? arena_printf(e->a, "%" PRId64 " * ", rows) : "", i, o, explain_number(e, rows * weights));
    if (e->facts->params > 0)
        explain_say(e,
                    "%.0f %% of the net's parameters and %.0f %% of its work are here: Linear layers are large and cheap, "
                    "convolutions small and busy.",
                    100.0 * (double)all / (double)e->facts->params,
                    e->facts->macs ? 100.0 * (double)e->f->macs / (double)e->facts->macs : 0);
}

static void explain_adaptive(const Explain *e)
{
    const Shape *in = &e->f->in, *out = &e->f->out;
    bool max = e->n->op == OP_ADAPTIVE_MAX;
    static const char *const names[][3] = {
        {"", "", ""}, {"length", "", ""}, {"rows", "columns", ""}, {"depth", "rows", "columns"}};
    explain_head(e, "What it does");
    explain_say(e,
                "The output size is given, the windows follow from it: bin i holds floor(i*In/Out) to ceil((i+1)*In/Out) - 1, "
                "and gives its %s.",
                max ? "largest number" : "mean");
    int nd = in->rank - 2;
    for (int k = 0; k < nd; k++) {
        int64_t n = in->dim[k + 2], m = out->dim[k + 2];
        fprintf(e->to, "  %-8s", names[nd][k]);
        for (int64_t i = 0; i < m && i < 8; i++)
            fprintf(e->to, " %" PRId64 "-%" PRId64, i * n / m, ((i + 1) * n + m - 1) / m - 1);
        fputs(m > 8 ? " ...\n" : "\n", e->to);
        if (n % m != 0) {
            explain_say(e, "%" PRId64 " is not a multiple of %" PRId64 ": bins differ in size and may share a row.", n, m);
            break;
        }
    }
    if (shape_sample_elements(out) == out->dim[1])
        explain_say(
            e, "One number per channel is left (global pooling): the classifier after it does not depend on the picture's size.");
    explain_say(e, "Parameters: none.");
}

static void explain_norm(const Explain *e)
{
    const NormAttrs *b = &e->n->attrs.norm;
    int64_t c = b->features, m = shape_sample_elements(&e->f->in) / c;
    explain_head(e, "What BatchNorm does");
    fprintf(e->to, "  y = (x - mean)/sqrt(var + %g)%s, for each of %" PRId64 " channels\n", b->eps,
            b->affine ? " * gamma + beta" : "", c);
    explain_say(e, "Training: mean and (biased) variance of this batch, over batch%s: batch * %" PRId64 " numbers a channel.",
                m > 1 ? ", rows and columns" : "", m);
    if (b->track && b->momentum >= 0)
        explain_say(e,
                    "Meanwhile running_mean = %g*running_mean + %g*mean, and running_var the same with the unbiased variance "
                    "(times m/(m-1)).",
                    1 - b->momentum, b->momentum);
    else if (b->track)
        explain_say(e, "Meanwhile running_mean and running_var are plain averages over all batches so far (momentum=None), the "
                       "variance unbiased.");
    explain_say(e, "Evaluation and programs: the running statistics; then it is a fixed scale and shift, and is folded into the "
                   "convolution before it: w*gamma/sqrt(var+eps), "
                   "beta + (b-mean)*gamma/sqrt(var+eps). It costs nothing there.");
    if (b->affine)
        explain_say(e,
                    "gamma (weight) and beta (bias) are trained: they let a channel have any mean and variance again, %" PRId64
                    " + %" PRId64 " parameters.",
                    c, c);
    if (b->track)
        explain_say(e, "running_mean, running_var and num_batches_tracked are buffers: kept in the file, not trained.");
    explain_say(e, "Order: Conv, BatchNorm, ReLU is the usual one (and folds); after ReLU it also trains, since the next layer "
                   "then sees centred data. A bias before it has no effect: bias=False. "
                   "Each sample is scaled by the company it keeps in its batch, a small randomness that helps to generalise.");
}

static const char *act_remark(ActKind k)
{
    switch (k) {
    case ACT_RELU:
        return "Negative numbers become 0, and no gradient passes there. A unit that is always negative is dead: the training "
               "report counts them.";
    case ACT_RELU6:
        return "ReLU that stops at 6, for numbers of low precision.";
    case ACT_LEAKY_RELU:
        return "ReLU with a small slope for negative numbers, so that units do not die.";
    case ACT_PRELU:
        return "LeakyReLU whose slope is trained. Weight decay pulls the slope to zero.";
    case ACT_RRELU:
        return "LeakyReLU; PyTorch draws its slope at random in training, here the mean is used.";
    case ACT_ELU:
    case ACT_CELU:
    case ACT_SELU:
        return "Smooth below zero, so that the mean of the outputs is nearer to zero.";
    case ACT_GELU:
    case ACT_GELU_TANH:
        return "x times the probability that a normal variable is below x: a smooth ReLU.";
    case ACT_SILU:
    case ACT_MISH:
    case ACT_HARDSWISH:
        return "Smooth, and dips below zero: x times a gate from 0 to 1.";
    case ACT_SIGMOID:
    case ACT_HARDSIGMOID:
        return "Squeezes into 0 to 1; gradients vanish far from zero.";
    case ACT_TANH:
    case ACT_HARDTANH:
    case ACT_SOFTSIGN:
        return "Squeezes into -1 to 1; gradients vanish far from zero.";
    default:
        return "";
    }
}

static void explain_act(const Explain *e)
{
    ActKind k = e->n->attrs.act.kind;
    explain_head(e, "What it does");
    fprintf(e->to, "  y = %s, number by number; the shape stays\n", act_formula(k));
    if (*act_remark(k))
        explain_say(e, "%s", act_remark(k));
    explain_say(e, "In a Sequential the activation is a layer of its own. Without one between them two convolutions or Linears "
                   "are one: a product of matrices is a matrix. "
                   "It costs nothing here: it runs in the registers of the layer before.");
    if (e->f->params)
        explain_say(e, "Parameters: %" PRId64 ".", e->f->params);
}

static void explain_softmax(const Explain *e)
{
    bool log = e->n->op == OP_LOG_SOFTMAX;
    explain_head(e, "What it does");
    fprintf(e->to, "  %s\n", e->f->formula);
    explain_say(e, log ? "The logarithm of probabilities along the axis: all at most 0, their exponentials sum to 1."
                       : "Probabilities along the axis: all positive, their sum is 1, the order stays.");
    explain_say(e, "Axis 0 is the batch. The largest x is subtracted first, so that exp does not overflow. CrossEntropyLoss "
                   "takes the plain scores and does this itself: "
                   "a Softmax before it is a mistake that trains badly without any error.");
}

static void explain_dropout(const Explain *e)
{
    double p = e->n->attrs.dropout.p;
    if (e->told)
        return;
    explain_head(e, "What Dropout does");
    explain_say(e,
                "Training: each %s becomes 0 with probability %g, the rest are multiplied by 1/(1-%g) = %.4g, so that the sum "
                "stays the same on average.",
                e->n->attrs.dropout.channels ? "channel" : "number", p, p, p < 1 ? 1 / (1 - p) : INFINITY);
    explain_say(e, "Evaluation and programs: nothing happens, and it costs nothing. It is a remedy against overfitting (training "
                   "loss far below validation loss), like more data, a smaller net "
                   "and weight decay. The usual order: Conv or Linear, BatchNorm, ReLU, Dropout.");
}

static void explain_join(const Explain *e)
{
    if (e->n->op == OP_ADD && e->told)
        return;
    if (e->n->op == OP_ADD) {
        explain_head(e, "What residual does");
        explain_say(e, "y = body(x) + x, or + shortcut(x): number by number, so all sizes are equal. The body learns only the "
                       "difference, and gradients reach the layers before unhindered: "
                       "deep nets train. An activation after the sum is the next layer.");
        return;
    }
    explain_head(e, "What concat does");
    fprintf(e->to, "  %s\n", e->f->formula);
    explain_say(
        e, "The branches see the same input; their channels are put one after the other, so rows and columns are equal in all.");
}

static void explain_other(const Explain *e)
{
    if (e->told)
        return;
    explain_head(e, "What it does");
    switch (e->n->op) {
    case OP_PAD:
        explain_say(e, "Adds a border%s; sizes grow by what is added on both sides: %s.",
                    e->n->attrs.pad.mode == PAD_REFLECT     ? " that mirrors the picture"
                    : e->n->attrs.pad.mode == PAD_REPLICATE ? " that repeats the edge"
                    : e->n->attrs.pad.mode == PAD_CIRCULAR  ? " from the opposite side"
                                                            : arena_printf(e->a, " of %g", e->n->attrs.pad.value),
                    e->f->formula);
        break;
    case OP_GLU:
        explain_say(e,
                    "Cuts axis %d into halves a and b and gives a * sigmoid(b): one half decides how much of the other passes.",
                    e->n->attrs.axis.axis);
        break;
    default:
        explain_say(e, "%s", e->f->formula);
    }
}

void explain_kind(const Explain *e)
{
    if (!e->n) {
        explain_say(e, "The output is the input.");
        return;
    }
    if (e->f->in.rank < 1 || e->f->out.rank < 1) {
        explain_say(e, "Its sizes are unknown because of an error.");
        return;
    }
    switch (e->n->op) {
    case OP_CONV:
    case OP_MAXPOOL:
    case OP_AVGPOOL:
        explain_window(e);
        break;
    case OP_ADAPTIVE_AVG:
    case OP_ADAPTIVE_MAX:
        explain_adaptive(e);
        break;
    case OP_LINEAR:
        explain_linear(e);
        break;
    case OP_BATCHNORM:
        explain_norm(e);
        break;
    case OP_ACT:
        explain_act(e);
        break;
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
        explain_softmax(e);
        break;
    case OP_DROPOUT:
        explain_dropout(e);
        break;
    case OP_RESHAPE:
        explain_flatten(e);
        break;
    case OP_ADD:
    case OP_CONCAT:
        explain_join(e);
        break;
    default:
        explain_other(e);
    }
}
