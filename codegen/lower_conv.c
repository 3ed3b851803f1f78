/* Convolutions and their gradients as contractions.
 *
 * In: conv, conv.dx, conv.dw nodes; nd = 1..3. Out: kernels with axes n (g) k p q | c r s and affine accesses.
 * Relies on: shapes known. Leaves: guards only where an index can leave its dim.
 *
 * Groups: channel = g*(C/G) + c, filter = g*(K/G) + k; an axis of extent 1 among g, k, c is left out when there are groups,
 * so a depthwise convolution has no c. A strided data gradient is split by h mod stride; see taps_of. Of a depthwise one, whose
 * classes have a few products each and share what they read, one kernel makes all classes of a block of stride x stride points. */
#include "codegen/lower_impl.h"

#include <string.h>

/* Axes of one kernel; -1: none. */
typedef struct { int n, g, k, c, out[MAX_SPATIAL], tap[MAX_SPATIAL], in[MAX_SPATIAL]; } ConvAxes;

static Affine affine_two(int outer, int64_t coef, int inner)
{
    Affine f = affine_none();
    if (outer >= 0)
        affine_axis(&f, outer, (int32_t)coef);
    if (inner >= 0)
        affine_axis(&f, inner, 1);
    return f;
}

/* Channels in the order n g k c; kinds tell which are summed (none when `sums` is false: a gradient no tap reaches). */
static void channel_axes(Lower *lw, const ConvAttrs *a, ConvAxes *x, int64_t batch, AxisKind n, AxisKind k, AxisKind c, bool sums)
{
    int64_t groups = a->groups, kg = a->out_channels / groups, cg = a->in_channels / groups;
    x->n = kernel_axis(lw->k, n, "n", batch, true);
    x->g = groups > 1 ? kernel_axis(lw->k, AXIS_PAR, "g", groups, false) : -1;
    x->k = (groups > 1 && kg == 1) || (k == AXIS_RED && !sums) ? -1 : kernel_axis(lw->k, k, "k", kg, false);
    x->c = groups > 1 && cg == 1 ? -1 : kernel_axis(lw->k, c, "c", cg, false);
}

static Point image_point(const ConvAttrs *a, const ConvAxes *x)
{
    Point p = point_none(2 + a->nd);
    p.dim[0] = affine_of(x->n, 1, 0);
    p.dim[1] = affine_two(x->g, a->in_channels / a->groups, x->c);
    return p;
}

static Point output_point(const ConvAttrs *a, const ConvAxes *x)
{
    Point p = point_none(2 + a->nd);
    p.dim[0] = affine_of(x->n, 1, 0);
    p.dim[1] = affine_two(x->g, a->out_channels / a->groups, x->k);
    return p;
}

static Point weight_point(const ConvAttrs *a, const ConvAxes *x)
{
    Point p = point_none(2 + a->nd);
    p.dim[0] = affine_two(x->g, a->out_channels / a->groups, x->k);
    p.dim[1] = affine_two(-1, 0, x->c);
    return p;
}

/* p*stride + r*dilation - pad, guarded where needed. */
static Affine window_index(Lower *lw, const ConvAttrs *a, const ConvAxes *x, int d, int64_t extent)
{
    Affine f = affine_of(x->out[d], (int32_t)a->stride[d], (int32_t)-a->pad_lo[d]);
    affine_axis(&f, x->tap[d], (int32_t)a->dilation[d]);
    affine_guard_needed(lw->k, &f, extent);
    return f;
}

static uint32_t red_axes(const Kernel *k)
{
    uint32_t mask = 0;
    for (int x = 0; x < k->n_axes; x++)
        mask |= k->axis[x].kind == AXIS_RED ? 1u << x : 0;
    return mask;
}

/* Multiply-accumulates of the whole convolution per sample. */
static double conv_macs(const ConvAttrs *a, const int64_t *out)
{
    double m = (double)a->out_channels * (double)a->in_channels / (double)a->groups;
    for (int d = 0; d < a->nd; d++)
        m *= (double)a->kernel[d] * (double)out[2 + d];
    return m;
}

/* y[n,k,p,q] = b[k] + SUM[c,r,s] x[n, c, p*stride + r*dilation - pad, ...] * w[k,c,r,s] */
void lower_conv(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    ConvAttrs a = n->attrs.conv;
    const int64_t *xd = dims_of(lw, n->in[0]), *yd = dims_of(lw, n->out[0]), *wd = dims_of(lw, n->in[1]);
    a.in_channels = xd[1];
    a.out_channels = yd[1];
    ConvAxes x;
    lower_kernel(lw, n, NULL);
    channel_axes(lw, &a, &x, yd[0], AXIS_PAR, AXIS_PAR, AXIS_RED, true);
    for (int d = 0; d < a.nd; d++)
        x.out[d] = par(lw, name_out(a.nd, d), yd[2 + d]);
    for (int d = 0; d < a.nd; d++)
        x.tap[d] = red(lw, name_tap(a.nd, d), wd[2 + d]);
    Point in = image_point(&a, &x), w = weight_point(&a, &x), y = output_point(&a, &x);
    for (int d = 0; d < a.nd; d++) {
        in.dim[2 + d] = window_index(lw, &a, &x, d, xd[2 + d]);
        w.dim[2 + d] = affine_of(x.tap[d], 1, 0);
        y.dim[2 + d] = affine_of(x.out[d], 1, 0);
    }
    ExprId product = e_mul(lw, lower_load(lw, n->in[0], &in), lower_load(lw, n->in[1], &w));
    ExprId sum = e_sum(lw, product, red_axes(lw->k));
    if (n->in[2])
        sum = e_add(lw, sum, lower_load_channel(lw, n->in[2], &y, 1));
    lw->k->macs = conv_macs(&a, yd);
    lower_emit(lw, &y, &sum);
}

/* dw[k,c,r,s] = SUM[n,p,q] dy[n,k,p,q] * x[n, c, p*stride + r*dilation - pad, ...] */
void lower_conv_dw(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    ConvAttrs a = n->attrs.conv;
    const int64_t *xd = dims_of(lw, n->in[0]), *yd = dims_of(lw, n->in[1]), *wd = dims_of(lw, n->out[0]);
    a.in_channels = xd[1];
    a.out_channels = yd[1];
    ConvAxes x;
    lower_kernel(lw, n, NULL);
    channel_axes(lw, &a, &x, yd[0], AXIS_RED, AXIS_PAR, AXIS_PAR, true);
    for (int d = 0; d < a.nd; d++)
        x.tap[d] = par(lw, name_tap(a.nd, d), wd[2 + d]);
    for (int d = 0; d < a.nd; d++)
        x.out[d] = red(lw, name_out(a.nd, d), yd[2 + d]);
    Point in = image_point(&a, &x), w = weight_point(&a, &x), y = output_point(&a, &x);
    for (int d = 0; d < a.nd; d++) {
        in.dim[2 + d] = window_index(lw, &a, &x, d, xd[2 + d]);
        w.dim[2 + d] = affine_of(x.tap[d], 1, 0);
        y.dim[2 + d] = affine_of(x.out[d], 1, 0);
    }
    ExprId product = e_mul(lw, lower_load(lw, n->in[1], &y), lower_load(lw, n->in[0], &in));
    ExprId sum = e_sum(lw, product, red_axes(lw->k));
    lw->k->macs = conv_macs(&a, yd);
    lower_emit(lw, &w, &sum);
}

/* One box of dx: positions class[d] + stride[d]*h'. */
static void conv_dx_box(Lower *lw, const Node *n, const ConvAttrs *a, const Taps *taps)
{
    const int64_t *yd = dims_of(lw, n->in[0]);
    ConvAxes x;
    double macs = (double)a->out_channels * (double)a->in_channels / (double)a->groups;
    bool any = true;
    for (int d = 0; d < a->nd; d++) {
        any &= taps[d].count > 0;
        macs *= (double)taps[d].extent * (double)taps[d].count;
    }
    lower_kernel(lw, n, NULL);
    channel_axes(lw, a, &x, yd[0], AXIS_PAR, AXIS_RED, AXIS_PAR, any);
    for (int d = 0; d < a->nd; d++)
        x.in[d] = par(lw, name_in(a->nd, d), taps[d].extent);
    for (int d = 0; any && d < a->nd; d++)
        x.tap[d] = red(lw, name_tap(a->nd, d), taps[d].count);
    Point dx = image_point(a, &x), dy = output_point(a, &x), w = weight_point(a, &x);
    for (int d = 0; d < a->nd; d++)
        dx.dim[2 + d] = affine_of(x.in[d], (int32_t)taps[d].stride, (int32_t)taps[d].cls);
    ExprId sum = number(lw, 0);
    if (any) {
        for (int d = 0; d < a->nd; d++) {
            dy.dim[2 + d] = taps_window(lw, &taps[d], x.in[d], x.tap[d], yd[2 + d]);
            w.dim[2 + d] = affine_of(x.tap[d], (int32_t)taps[d].tap_step, (int32_t)taps[d].first);
        }
        sum = e_sum(lw, e_mul(lw, lower_load(lw, n->in[0], &dy), lower_load(lw, n->in[1], &w)), red_axes(lw->k));
    }
    lw->k->macs = any ? macs : 0;
    lower_emit(lw, &dx, &sum);
}

/* ---- data gradients of depthwise convolutions: all classes at once ---- */
enum { MOST_PRODUCTS = 25, MOST_CLASSES = 4 };   /* written out; their weights stay in registers */

/* dy at an offset from the block, as it was read for another class. */
typedef struct { int64_t off[MAX_SPATIAL]; ExprId value; } Read;
typedef struct { Lower *lw; const Node *n; const ConvAttrs *a; ConvAxes x; Read read[MOST_PRODUCTS]; int n_read; } Block;

/* Are there no sums over channels, and whole blocks alone? */
static bool fits_blocks(const ConvAttrs *a, const int64_t *xd, const int64_t *wd)
{
    int64_t products = 1, classes = 1;
    bool whole = a->groups > 1 && a->groups == a->out_channels;
    for (int d = 0; d < a->nd; d++) {
        products *= wd[2 + d];
        classes *= a->stride[d];
        whole = whole && xd[2 + d] % a->stride[d] == 0;
    }
    return whole && classes > 1 && classes <= MOST_CLASSES && products <= MOST_PRODUCTS;
}

static ExprId read_dy(Block *b, const int64_t *off)
{
    const int64_t *yd = dims_of(b->lw, b->n->in[0]);
    for (int i = 0; i < b->n_read; i++)
        if (!memcmp(b->read[i].off, off, sizeof b->read[i].off))
            return b->read[i].value;
    Point dy = output_point(b->a, &b->x);
    for (int d = 0; d < b->a->nd; d++) {
        dy.dim[2 + d] = affine_of(b->x.in[d], 1, (int32_t)off[d]);
        affine_guard_needed(b->lw->k, &dy.dim[2 + d], yd[2 + d]);
    }
    Read *r = &b->read[b->n_read++];
    memcpy(r->off, off, sizeof r->off);
    return r->value = lower_load(b->lw, b->n->in[0], &dy);
}

/* The products of one class, added in the order of its taps. */
static ExprId class_sum(Block *b, const Taps *taps)
{
    ExprId sum = 0;
    int64_t tap[MAX_SPATIAL] = {0}, count[MAX_SPATIAL];
    for (int d = 0; d < b->a->nd; d++) {
        count[d] = taps[d].count;
        if (!count[d])
            return number(b->lw, 0);
    }
    for (bool more = true; more; more = next_class(tap, count, b->a->nd)) {
        int64_t off[MAX_SPATIAL] = {0};
        Point w = weight_point(b->a, &b->x);
        for (int d = 0; d < b->a->nd; d++) {
            off[d] = taps[d].base - taps[d].back * tap[d];
            w.dim[2 + d].offset = (int32_t)(taps[d].first + taps[d].tap_step * tap[d]);
        }
        ExprId product = e_mul(b->lw, read_dy(b, off), lower_load(b->lw, b->n->in[1], &w));
        sum = sum ? e_add(b->lw, sum, product) : product;
    }
    return sum;
}

static void conv_dx_blocks(Lower *lw, const Node *n, const ConvAttrs *a)
{
    const int64_t *xd = dims_of(lw, n->out[0]), *yd = dims_of(lw, n->in[0]), *wd = dims_of(lw, n->in[1]);
    Block b = {.lw = lw, .n = n, .a = a};
    lower_kernel(lw, n, NULL);
    channel_axes(lw, a, &b.x, yd[0], AXIS_PAR, AXIS_RED, AXIS_PAR, false);
    for (int d = 0; d < a->nd; d++)
        b.x.in[d] = par(lw, name_in(a->nd, d), xd[2 + d] / a->stride[d]);
    lw->k->macs = conv_macs(a, yd);
    int64_t cls[MAX_SPATIAL] = {0};
    for (bool more = true; more; more = next_class(cls, a->stride, a->nd)) {
        Taps taps[MAX_SPATIAL];
        Point dx = image_point(a, &b.x);
        for (int d = 0; d < a->nd; d++) {
            taps[d] = taps_of(xd[2 + d], wd[2 + d], a->stride[d], a->dilation[d], a->pad_lo[d], cls[d]);
            dx.dim[2 + d] = affine_of(b.x.in[d], (int32_t)a->stride[d], (int32_t)cls[d]);
        }
        ExprId sum = class_sum(&b, taps);
        lower_outputs(lw, &dx, &sum);
    }
    kernels_add(lw->l, lw->k);
}

/* dx[n,c,h,w] = SUM[k] over the taps (r, s) whose window positions p = (h + pad - r*dilation)/stride are whole numbers. */
void lower_conv_dx(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    ConvAttrs a = n->attrs.conv;
    const int64_t *xd = dims_of(lw, n->out[0]), *yd = dims_of(lw, n->in[0]), *wd = dims_of(lw, n->in[1]);
    a.in_channels = xd[1];
    a.out_channels = yd[1];
    if (fits_blocks(&a, xd, wd)) {
        conv_dx_blocks(lw, n, &a);
        return;
    }
    int64_t cls[MAX_SPATIAL] = {0};
    for (bool more = true; more;) {
        Taps taps[MAX_SPATIAL];
        bool empty = false;
        for (int d = 0; d < a.nd; d++) {
            taps[d] = taps_of(xd[2 + d], wd[2 + d], a.stride[d], a.dilation[d], a.pad_lo[d], cls[d]);
            empty |= taps[d].extent == 0;
        }
        if (!empty)
            conv_dx_box(lw, n, &a, taps);
        more = next_class(cls, a.stride, a.nd);
    }
}
