/* One output number as the sum it is.
 * In: a layer, one sample's input, the weights, and which output. Out: the window, the products, the sum.
 * Invariant: numbers are added in double, in the order printed.
 * Idea: one block per input channel: a row of the window beside a row of the filter. */
#include "passes/explain.h"

#include "passes/shape.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct {
    const Graph *g;
    const Node *n;
    const ExplainPixel *p;
    FILE *to;
    Shape in, out;
    Arena *a;
} Pixel;

static bool in_range(const Pixel *x, const char **why)
{
    const Shape *o = &x->out;
    int64_t rows = o->rank == 4 ? o->dim[2] : 1, columns = o->rank == 4 ? o->dim[3] : o->rank == 3 ? o->dim[2] : 1;
    int64_t channels = o->dim[1];
    if (x->p->k >= 0 && x->p->k < channels && x->p->row >= 0 && x->p->row < rows && x->p->column >= 0 && x->p->column < columns)
        return true;
    *why = arena_printf(x->g->arena, "the output has channels 0 to %" PRId64 ", rows 0 to %" PRId64 ", columns 0 to %" PRId64,
                        channels - 1, rows - 1, columns - 1);
    return false;
}

/* ---- convolution ---- */

/* Row and column geometry with 1-D as one row. */
typedef struct {
    int64_t h, w, r, s, y0, x0, dy, dx;
    PadMode mode;
} Patch;

static Patch conv_patch(const Pixel *x)
{
    const ConvAttrs *c = &x->n->attrs.conv;
    int64_t lo = node_window(x->g, x->n, 0).lo, left = c->nd > 1 ? node_window(x->g, x->n, 1).lo : 0;
    if (c->nd == 1)
        return (Patch){1, x->in.dim[2], 1, c->kernel[0], 0, x->p->column * c->stride[0] - lo, 1, c->dilation[0], c->mode};
    return (Patch){x->in.dim[2],
                   x->in.dim[3],
                   c->kernel[0],
                   c->kernel[1],
                   x->p->row * c->stride[0] - lo,
                   x->p->column * c->stride[1] - left,
                   c->dilation[0],
                   c->dilation[1],
                   c->mode};
}

/* Where padding_mode takes its border from; i itself where it adds zeros. */
static int64_t border_index(PadMode mode, int64_t i, int64_t n)
{
    if (mode == PAD_REFLECT)
        return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
    if (mode == PAD_REPLICATE)
        return i < 0 ? 0 : i >= n ? n - 1 : i;
    return mode == PAD_CIRCULAR ? (i % n + n) % n : i;
}

/* NaN stands for padding. */
static double input_at(const Pixel *x, const Patch *t, int64_t c, int64_t r, int64_t s)
{
    int64_t y = border_index(t->mode, t->y0 + r * t->dy, t->h), z = border_index(t->mode, t->x0 + s * t->dx, t->w);
    return y < 0 || y >= t->h || z < 0 || z >= t->w ? NAN : x->p->x[(c * t->h + y) * t->w + z];
}

enum { MOST_COLUMNS = 11, MOST_CHANNELS = 16 };

static double channel_sum(const Pixel *x, const Patch *t, int64_t c, const double *w, bool print)
{
    double sum = 0;
    for (int64_t r = 0; r < t->r; r++) {
        for (int64_t s = 0; s < t->s; s++) {
            double v = input_at(x, t, c, r, s);
            sum += (isnan(v) ? 0 : v) * w[r * t->s + s];
            if (print && s < MOST_COLUMNS)
                isnan(v) ? fprintf(x->to, "  %8s", "pad") : fprintf(x->to, "  %8.4f", v);
        }
        if (print)
            fprintf(x->to, "%s  *  ", t->s > MOST_COLUMNS ? " ..." : "");
        for (int64_t s = 0; print && s < t->s && s < MOST_COLUMNS; s++)
            fprintf(x->to, "  %8.4f", w[r * t->s + s]);
        if (print)
            fputs(t->s > MOST_COLUMNS ? " ...\n" : "\n", x->to);
    }
    return sum;
}

static void pixel_conv(const Pixel *x)
{
    const ConvAttrs *a = &x->n->attrs.conv;
    Patch t = conv_patch(x);
    int64_t per_group = a->in_channels / a->groups, first = x->p->k / (a->out_channels / a->groups) * per_group, taps = t.r * t.s;
    double sum = 0;
    fprintf(x->to,
            "  window: rows %" PRId64 " to %" PRId64 ", columns %" PRId64 " to %" PRId64 " of the input (outside: padding%s)\n",
            t.y0, t.y0 + (t.r - 1) * t.dy, t.x0, t.x0 + (t.s - 1) * t.dx, t.mode == PAD_ZEROS ? ", zero" : ", from the picture");
    for (int64_t c = 0; c < per_group; c++) {
        bool print = c < MOST_CHANNELS;
        if (print)
            fprintf(x->to, "\n  channel %" PRId64 ": window * filter\n", first + c);
        double part = channel_sum(x, &t, first + c, x->p->w + (x->p->k * per_group + c) * taps, print);
        sum += part;
        if (print)
            fprintf(x->to, "  sum of products %.6f, so far %.6f\n", part, sum);
    }
    if (per_group > MOST_CHANNELS)
        fprintf(x->to, "\n  and %" PRId64 " more channels: %.6f\n", per_group - MOST_CHANNELS, sum);
    double bias = x->p->b ? x->p->b[x->p->k] : 0;
    if (x->p->b)
        fprintf(x->to, "\n  y = %.6f + bias %.6f = %.6f\n", sum, bias, sum + bias);
    else
        fprintf(x->to, "\n  y = %.6f\n", sum);
}

/* ---- pooling ---- */

static void pixel_pool(const Pixel *x)
{
    const PoolAttrs *a = &x->n->attrs.pool;
    bool flat = a->nd == 1, max = x->n->op == OP_MAXPOOL;
    int64_t h = flat ? 1 : x->in.dim[2], w = flat ? x->in.dim[2] : x->in.dim[3];
    int last = flat ? 0 : 1;
    Patch t = {h,
               w,
               flat ? 1 : a->kernel[0],
               a->kernel[last],
               flat ? 0 : x->p->row * a->stride[0] - a->pad[0],
               x->p->column * a->stride[last] - a->pad[last],
               flat ? 1 : a->dilation[0],
               a->dilation[last] ? a->dilation[last] : 1,
               PAD_ZEROS};
    double best = -INFINITY, sum = 0;
    int64_t inside = 0, padded_rows = t.y0 + t.r < h + (flat ? 0 : a->pad[0]) ? t.r : h + (flat ? 0 : a->pad[0]) - t.y0;
    int64_t padded_columns = t.x0 + t.s < w + a->pad[last] ? t.s : w + a->pad[last] - t.x0;
    for (int64_t r = 0; r < t.r; r++) {
        for (int64_t s = 0; s < t.s; s++) {
            double v = input_at(x, &t, x->p->k, r, s);
            isnan(v) ? fprintf(x->to, "  %8s", "pad") : fprintf(x->to, "  %8.4f", v);
            best = !isnan(v) && v > best ? v : best;
            sum += isnan(v) ? 0 : v;
            inside += !isnan(v);
        }
        fputc('\n', x->to);
    }
    int64_t divisor = a->divisor_override ? a->divisor_override : a->count_include_pad ? padded_rows * padded_columns : inside;
    if (max)
        fprintf(x->to, "  y = the largest = %.6f\n", best);
    else
        fprintf(x->to, "  y = %.6f / %" PRId64 " = %.6f\n", sum, divisor, sum / (double)divisor);
}

/* ---- linear ---- */

static void pixel_linear(const Pixel *x)
{
    int64_t n = x->n->attrs.linear.in_features, shown = n < 12 ? n : 12;
    double sum = 0, part = 0;
    for (int64_t i = 0; i < n; i++) {
        double term = x->p->x[i] * x->p->w[x->p->k * n + i];
        sum += term;
        if (i < shown) {
            part = sum;
            fprintf(x->to, "  x[%" PRId64 "] %9.4f * w[%" PRId64 ", %" PRId64 "] %9.4f = %10.6f\n", i, x->p->x[i], x->p->k, i,
                    x->p->w[x->p->k * n + i], term);
        }
    }
    if (n > shown)
        fprintf(x->to, "  and %" PRId64 " more terms: %.6f\n", n - shown, sum - part);
    if (x->p->b)
        fprintf(x->to, "  y = %.6f + bias %.6f = %.6f\n", sum, x->p->b[x->p->k], sum + x->p->b[x->p->k]);
    else
        fprintf(x->to, "  y = %.6f\n", sum);
}

bool explain_pixel(const Graph *g, LayerId layer, const ExplainPixel *p, FILE *to, const char **why)
{
    Arena *a = arena_new();
    Facts facts = facts_of(a, g);
    const LayerFacts *f = &facts.layer[layer];
    const Node *n = f->main ? graph_node(g, f->main) : NULL;
    Pixel x = {.g = g, .n = n, .p = p, .to = to, .a = a, .in = f->in, .out = f->out};
    bool fine = false;
    if (!n || (n->op != OP_CONV && n->op != OP_MAXPOOL && n->op != OP_AVGPOOL && n->op != OP_LINEAR) || x.in.rank < 2 ||
        x.in.rank > 4)
        *why = "one output is shown as a sum for Conv1d, Conv2d, pooling and Linear";
    else if ((n->op == OP_CONV || n->op == OP_LINEAR) && !p->w)
        *why = "this layer's weights are missing";
    else if (n->op == OP_LINEAR && x.in.rank != 2)
        *why = "this Linear works on the rows of a picture: put Flatten() before it";
    else
        fine = in_range(&x, why);
    if (fine) {
        fprintf(to, "%s: %s\n  output [%" PRId64 ", %" PRId64 ", %" PRId64 "]\n", f->layer->name,
                f->layer->printed ? f->layer->printed : f->layer->type, p->k, p->row, p->column);
        if (n->op == OP_CONV)
            pixel_conv(&x);
        else if (n->op == OP_LINEAR)
            pixel_linear(&x);
        else
            pixel_pool(&x);
    }
    arena_free(a);
    return fine;
}
