/* Windows: the output size of convolutions and poolings along one axis, and its formula with numbers.
 * In: a Window. Out: sizes and text. Invariant: sizes lie below 2^32 (require_size), so that int64 never overflows.
 * Idea: a window covers reach = dilation*(kernel-1) + 1 cells; it starts at -lo and moves by stride:
 *     floor((in + lo + hi - dilation*(kernel-1) - 1) / stride) + 1
 * ceil_mode rounds up, but a last window may not start in the right padding. */
#include "passes/shape.h"

#include <inttypes.h>

bool window_equal(const Window *a, const Window *b)
{
    return a->in == b->in && a->kernel == b->kernel && a->stride == b->stride && a->dilation == b->dilation && a->lo == b->lo &&
           a->hi == b->hi && a->ceil == b->ceil;
}

int64_t window_reach(const Window *w) { return w->dilation * (w->kernel - 1) + 1; }

static int64_t floor_divide(int64_t a, int64_t b)
{
    int64_t q = a / b;
    return a % b != 0 && a < 0 ? q - 1 : q;
}

int64_t window_output(const Window *w)
{
    int64_t room = w->in + w->lo + w->hi - window_reach(w);
    if (!w->ceil)
        return floor_divide(room, w->stride) + 1;
    int64_t out = floor_divide(room + w->stride - 1, w->stride) + 1;
    return (out - 1) * w->stride >= w->in + w->lo ? out - 1 : out;
}

const char *window_formula(Arena *a, const Window *w)
{
    const char *pad =
        w->lo == w->hi ? arena_printf(a, "2*%" PRId64, w->lo) : arena_printf(a, "(%" PRId64 "+%" PRId64 ")", w->lo, w->hi);
    int64_t room = w->in + w->lo + w->hi - window_reach(w);
    int64_t plain = w->ceil ? floor_divide(room + w->stride - 1, w->stride) + 1 : window_output(w), out = window_output(w);
    const char *text = arena_printf(a, "%s((%" PRId64 " + %s - %" PRId64 "*(%" PRId64 "-1) - 1)/%" PRId64 " + 1) = %" PRId64,
                                    w->ceil ? "ceil" : "floor", w->in, pad, w->dilation, w->kernel, w->stride, plain);
    if (plain != out)
        text = arena_printf(a, "%s, less 1 because the last window would start in the right padding = %" PRId64, text, out);
    return text;
}

Window conv_window(const ConvAttrs *c, const Shape *in, int axis)
{
    return (Window){.in = in->dim[axis + 2],
                    .kernel = c->kernel[axis],
                    .stride = c->stride[axis],
                    .dilation = c->dilation[axis],
                    .lo = c->pad_lo[axis],
                    .hi = c->pad_hi[axis]};
}

Window pool_window(const PoolAttrs *p, const Shape *in, int axis)
{
    return (Window){.in = in->dim[axis + 2],
                    .kernel = p->kernel[axis],
                    .stride = p->stride[axis],
                    .dilation = p->dilation[axis],
                    .lo = p->pad[axis],
                    .hi = p->pad[axis],
                    .ceil = p->ceil_mode};
}

Window node_window(const Graph *g, const Node *n, int axis)
{
    const Node *before = graph_def(g, n->in[0]);
    if (n->op != OP_CONV)
        return pool_window(&n->attrs.pool, &graph_value(g, n->in[0])->shape, axis);
    if (before->op != OP_PAD || before->layer != n->layer)
        return conv_window(&n->attrs.conv, &graph_value(g, n->in[0])->shape, axis);
    Window w = conv_window(&n->attrs.conv, &graph_value(g, before->in[0])->shape, axis);
    w.lo = before->attrs.pad.lo[axis];
    w.hi = before->attrs.pad.hi[axis];
    return w;
}

const char *dims_text(Arena *a, const int64_t *dim, int n, const char *between)
{
    const char *text = "";
    for (int i = 0; i < n; i++)
        text = arena_printf(a, "%s%s%" PRId64, text, i ? between : "", dim[i]);
    return text;
}
