/* Pooling with windows and with adaptive bins, and the gradients.
 *
 * In: maxpool, avgpool, adaptive_max, adaptive_avg and their .dx. Out: MAP kernels with short reductions r s over the window
 * (forward) or over the windows that hold an element (gradients, as gathers: no two kernels add to one element).
 * Relies on: shapes known; a pool's index is the flat position h*W + w in the plane.
 *
 * A spatial dim takes one of these forms:
 *   forward   h = p*stride + r*dilation - pad                      windows, and bins that divide evenly
 *             h = table[p*L + r], -1 past the bin                  uneven bins, L = the longest
 *   gradient  h = stride*p + a, window p, no sum                   windows side by side (kernel == stride)
 *             h = stride*h' + class, windows h' + base - back*j    else, one kernel per class (see Taps)
 *             window table[h*M + j], -1 when there are fewer       uneven bins */
#include "codegen/lower_impl.h"
#include <math.h>

/* One spatial dim of a pool. */
typedef struct {
    int64_t size, windows, kernel, stride, dilation, pad;   /* size: elements of x; windows: elements of y */
    bool uneven;                                            /* adaptive bins of different lengths */
    double divide_by;                                       /* averages: the window's length when it is the same everywhere, else 0 */
    const double *length;                                   /* [windows] */
} Dim;
typedef struct { int nd, lead; Dim dim[MAX_SPATIAL]; double divisor; } Pool;   /* divisor: divisor_override, or 0 */

static int64_t bin_start(const Dim *d, int64_t p) { return p * d->size / d->windows; }
static int64_t bin_end(const Dim *d, int64_t p) { return ((p + 1) * d->size + d->windows - 1) / d->windows; }

/* Elements of window p that count in an average. */
static int64_t window_length(const Dim *d, int64_t p, bool with_padding)
{
    if (d->uneven)
        return bin_end(d, p) - bin_start(d, p);
    int64_t lo = p * d->stride - d->pad, hi = lo + d->kernel, limit = d->size + (with_padding ? d->pad : 0);
    if (!with_padding && lo < 0)
        lo = 0;
    return (hi < limit ? hi : limit) - lo;
}

static void find_lengths(Lower *lw, Dim *d, bool with_padding)
{
    double *length = NEWN(lw->l->arena, double, d->windows ? d->windows : 1);
    d->divide_by = d->windows ? (double)window_length(d, 0, with_padding) : 1;
    for (int64_t p = 0; p < d->windows; p++) {
        length[p] = (double)window_length(d, p, with_padding);
        if (length[p] != length[0])
            d->divide_by = 0;
    }
    d->length = length;
}

static Pool pool_of(Lower *lw, const Node *n, ValueId x, ValueId y)
{
    bool adaptive = op_attr_kind(n->op) == ATTR_ADAPTIVE;
    const PoolAttrs *a = &n->attrs.pool;
    Pool p = {.nd = adaptive ? n->attrs.adaptive.nd : a->nd};
    p.lead = val(lw, x)->shape.rank - p.nd;
    for (int i = 0; i < p.nd; i++) {
        Dim *d = &p.dim[i];
        d->size = dims_of(lw, x)[p.lead + i];
        d->windows = dims_of(lw, y)[p.lead + i];
        if (adaptive) {
            d->uneven = d->windows && d->size % d->windows != 0;
            d->kernel = d->stride = d->windows ? d->size / d->windows : 1;
            d->dilation = 1;
        } else {
            d->kernel = a->kernel[i];
            d->stride = a->stride[i];
            d->dilation = a->dilation[i] ? a->dilation[i] : 1;
            d->pad = a->pad[i];
        }
        find_lengths(lw, d, adaptive || a->count_include_pad);
    }
    if (!adaptive)
        p.divisor = (double)a->divisor_override;
    return p;
}

/* ---- averages' divisors ---- */
/* a / (what every window has in common). A power of two becomes a factor: the same bits, no division. */
static ExprId divide_even(Lower *lw, const Pool *p, ExprId a)
{
    double by = p->divisor ? p->divisor : 1;
    int exponent;
    for (int d = 0; d < p->nd && !p->divisor; d++)
        by *= p->dim[d].divide_by ? p->dim[d].divide_by : 1;
    if (by == 1)
        return a;
    return frexp(by, &exponent) == 0.5 ? e_mul(lw, a, number(lw, 1 / by)) : e_div(lw, a, number(lw, by));
}

/* a / (what differs between windows); y: the index of the window in each spatial dim, guarded or not. */
static ExprId divide_uneven(Lower *lw, const Pool *p, const Point *y, ExprId a)
{
    ExprId by = 0;
    for (int d = 0; d < p->nd && !p->divisor; d++) {
        if (p->dim[d].divide_by)
            continue;
        Shape s = shape_of(1, p->dim[d].windows);
        BufId table = lower_numbers(lw, arena_printf(lw->l->arena, "%s.len%d", lw->k->name, d), DT_F32, &s, p->dim[d].length);
        Point at = point_none(1);
        at.dim[0] = y->dim[p->lead + d];
        at.fill = 1;
        ExprId length = lower_load_buffer(lw, table, &at);
        by = by ? e_mul(lw, by, length) : length;
    }
    return by ? e_div(lw, a, by) : a;
}

/* ---- forward ---- */
typedef struct { Point x, y; ExprId position[MAX_SPATIAL]; uint32_t taps; } Windows;

static void lead_axes(Lower *lw, ValueId v, const Pool *p, Point *at)
{
    const Value *x = val(lw, v);
    *at = point_none(x->shape.rank);
    for (int d = 0; d < p->lead; d++)
        at->dim[d] = affine_of(kernel_axis(lw->k, AXIS_PAR, d == 0 ? "n" : "c", x->shape.dim[d], x->batched && d == 0), 1, 0);
}

static int64_t longest_bin(const Dim *d)
{
    int64_t most = 1;
    for (int64_t p = 0; p < d->windows; p++)
        if (bin_end(d, p) - bin_start(d, p) > most)
            most = bin_end(d, p) - bin_start(d, p);
    return most;
}

/* h = table[p*L + r] for uneven bins; guarded: entries of -1 lie past the bin. */
static Affine bin_index(Lower *lw, const Dim *d, int out_axis, int tap_axis, int64_t longest)
{
    int32_t *table = NEWN(lw->l->arena, int32_t, d->windows * longest);
    for (int64_t p = 0; p < d->windows; p++)
        for (int64_t r = 0; r < longest; r++)
            table[p * longest + r] = (int32_t)(bin_start(d, p) + r < bin_end(d, p) ? bin_start(d, p) + r : -1);
    Affine f = affine_none();
    affine_guard(&f, 0, (int32_t)d->size);
    f.table = table;
    f.table_axis = (int8_t)out_axis;
    f.table_axis2 = (int8_t)tap_axis;
    f.table_stride = (int32_t)longest;
    return f;
}

/* The position h as an integer expression, for the index of a maximum. */
static ExprId bin_position(Lower *lw, const Dim *d, int i, int out_axis, int tap_axis)
{
    double *start = NEWN(lw->l->arena, double, d->windows);
    for (int64_t p = 0; p < d->windows; p++)
        start[p] = (double)bin_start(d, p);
    Shape s = shape_of(1, d->windows);
    BufId table = lower_numbers(lw, arena_printf(lw->l->arena, "%s.start%d", lw->k->name, i), DT_I32, &s, start);
    Point at = point_none(1);
    at.dim[0] = affine_of(out_axis, 1, 0);
    return op2(lw, EX_IADD, lower_load_buffer(lw, table, &at), e_index(lw, tap_axis));
}

static Windows windows_of(Lower *lw, const Node *n, const Pool *p, bool positions)
{
    Windows w = {.taps = 0};
    int out[MAX_SPATIAL], tap[MAX_SPATIAL];
    lead_axes(lw, n->out[0], p, &w.y);
    w.x = w.y;
    for (int i = 0; i < p->nd; i++)
        out[i] = par(lw, name_out(p->nd, i), p->dim[i].windows);
    for (int i = 0; i < p->nd; i++) {
        const Dim *d = &p->dim[i];
        int64_t longest = d->uneven ? longest_bin(d) : d->kernel;
        tap[i] = red(lw, name_tap(p->nd, i), longest);
        w.taps |= 1u << tap[i];
        w.y.dim[p->lead + i] = affine_of(out[i], 1, 0);
        Affine h = affine_of(out[i], (int32_t)d->stride, (int32_t)-d->pad);
        affine_axis(&h, tap[i], (int32_t)d->dilation);
        affine_guard_needed(lw->k, &h, d->size);
        w.x.dim[p->lead + i] = d->uneven ? bin_index(lw, d, out[i], tap[i], longest) : h;
        if (positions)
            w.position[i] = d->uneven ? bin_position(lw, d, i, out[i], tap[i]) : e_affine(lw, &h);
    }
    return w;
}

static void max_forward(Lower *lw, const Node *n)
{
    Pool p = pool_of(lw, n, n->in[0], n->out[0]);
    bool indices = lw->stored[n->out[1]];
    lower_kernel(lw, n, NULL);
    Windows w = windows_of(lw, n, &p, indices);
    w.x.fill = -INFINITY;
    ExprId x = lower_load(lw, n->in[0], &w.x), out[2] = {e_max(lw, x, w.taps), 0}, flat = 0;
    for (int i = 0; i < p.nd && indices; i++)
        flat = flat ? op2(lw, EX_IADD, op2(lw, EX_IMUL, flat, integer(lw, (int32_t)p.dim[i].size)), w.position[i]) : w.position[i];
    if (indices)
        out[1] = e_argmax(lw, x, flat, w.taps);
    lower_emit(lw, &w.y, out);
}

static void average_forward(Lower *lw, const Node *n)
{
    Pool p = pool_of(lw, n, n->in[0], n->out[0]);
    lower_kernel(lw, n, NULL);
    Windows w = windows_of(lw, n, &p, false);
    ExprId mean = e_sum(lw, lower_load(lw, n->in[0], &w.x), w.taps);
    mean = divide_uneven(lw, &p, &w.y, divide_even(lw, &p, mean));
    lower_emit(lw, &w.y, &mean);
}

/* ---- gradients ---- */
typedef struct { bool beside, empty; Taps taps; } Gather;   /* how one dim of dx finds its windows, for one class */

static Gather gather_of(const Dim *d, int64_t cls)
{
    Gather g = {.beside = !d->uneven && d->kernel == d->stride && d->dilation == 1 && d->pad == 0 && d->windows * d->stride == d->size};
    if (g.beside || d->uneven)
        g.empty = cls > 0;
    else
        g.taps = taps_of(d->size, d->kernel, d->stride, d->dilation, d->pad, cls);
    return g;
}

/* Windows that hold element h of an uneven dim: table[h*M + j]. */
static Affine holding_bins(Lower *lw, const Dim *d, int in_axis, int *tap_axis, const char *name)
{
    int64_t most = 0;
    for (int pass = 0; pass < 2; pass++) {
        int32_t *table = pass ? NEWN(lw->l->arena, int32_t, d->size * most) : NULL;
        for (int64_t h = 0; h < d->size; h++) {
            int64_t count = 0;
            for (int64_t i = 0; pass && i < most; i++)
                table[h * most + i] = -1;
            for (int64_t p = 0; p < d->windows; p++) {
                if (h < bin_start(d, p) || h >= bin_end(d, p))
                    continue;
                if (pass)
                    table[h * most + count] = (int32_t)p;
                count++;
            }
            most = count > most ? count : most;
        }
        if (!pass)
            continue;
        *tap_axis = red(lw, name, most);
        Affine f = affine_none();
        affine_guard(&f, 0, (int32_t)d->windows);
        f.table = table;
        f.table_axis = (int8_t)in_axis;
        f.table_axis2 = (int8_t)*tap_axis;
        f.table_stride = (int32_t)most;
        return f;
    }
    return affine_none();
}

/* Axes and points of one gradient kernel. Returns false when no window reaches these elements. */
static bool gather_axes(Lower *lw, const Node *n, const Pool *p, const Gather *g, Point *dx, Point *dy, uint32_t *taps)
{
    int in[MAX_SPATIAL], tap = -1;
    bool any = true;
    lead_axes(lw, n->out[0], p, dx);
    *dy = *dx;
    for (int i = 0; i < p->nd; i++) {
        const Dim *d = &p->dim[i];
        const char *name = name_in(p->nd, i);
        in[i] = par(lw, name, g[i].beside ? d->windows : d->uneven ? d->size : g[i].taps.extent);
        dx->dim[p->lead + i] = affine_of(in[i], (int32_t)(g[i].beside || !d->uneven ? d->stride : 1), (int32_t)g[i].taps.cls);
        if (g[i].beside && d->stride > 1)
            affine_axis(&dx->dim[p->lead + i], par(lw, name, d->stride), 1);
        any &= g[i].beside || d->uneven || g[i].taps.count > 0;
    }
    *taps = 0;
    for (int i = 0; any && i < p->nd; i++) {
        const Dim *d = &p->dim[i];
        tap = -1;
        if (g[i].beside) {
            dy->dim[p->lead + i] = affine_of(in[i], 1, 0);
        } else if (d->uneven) {
            dy->dim[p->lead + i] = holding_bins(lw, d, in[i], &tap, name_tap(p->nd, i));
        } else {
            if (g[i].taps.count > 1)
                tap = red(lw, name_tap(p->nd, i), g[i].taps.count);
            dy->dim[p->lead + i] = taps_window(lw, &g[i].taps, in[i], tap, d->windows);
        }
        *taps |= tap >= 0 ? 1u << tap : 0;
    }
    return any;
}

/* The part of dx that comes through one window. */
static ExprId max_share(Lower *lw, const Node *n, const Pool *p, const Point *dx, const Point *dy)
{
    Point index = *dy;
    index.fill = -1;
    ExprId here = e_flat(lw, dx, dims_of(lw, n->out[0]), p->lead, p->lead + p->nd);
    ExprId mine = op2(lw, EX_IEQ, lower_load(lw, n->in[1], &index), here);
    return e_sel(lw, mine, lower_load(lw, n->in[0], dy), number(lw, 0));
}

static void gradient_box(Lower *lw, const Node *n, const Pool *p, const Gather *g, bool max)
{
    Point dx, dy;
    uint32_t taps;
    lower_kernel(lw, n, NULL);
    ExprId sum = number(lw, 0);
    if (gather_axes(lw, n, p, g, &dx, &dy, &taps)) {
        sum = max ? max_share(lw, n, p, &dx, &dy) : divide_uneven(lw, p, &dy, lower_load(lw, n->in[0], &dy));
        sum = taps ? e_sum(lw, sum, taps) : sum;
        sum = max ? sum : divide_even(lw, p, sum);
    }
    lower_emit(lw, &dx, &sum);
}

static void gradient(Lower *lw, const Node *n, bool max)
{
    Pool p = pool_of(lw, n, n->out[0], n->in[0]);
    int64_t cls[MAX_SPATIAL] = {0}, stride[MAX_SPATIAL];
    for (int i = 0; i < p.nd; i++)
        stride[i] = p.dim[i].stride;
    for (bool more = true; more; more = next_class(cls, stride, p.nd)) {
        Gather g[MAX_SPATIAL];
        bool empty = false;
        for (int i = 0; i < p.nd; i++) {
            g[i] = gather_of(&p.dim[i], cls[i]);
            empty |= g[i].empty || (!g[i].beside && !p.dim[i].uneven && g[i].taps.extent == 0);
        }
        if (!empty)
            gradient_box(lw, n, &p, g, max);
    }
}

void lower_maxpool(Lower *lw, const Node *n, Point *at) { (void)at; max_forward(lw, n); }
void lower_avgpool(Lower *lw, const Node *n, Point *at) { (void)at; average_forward(lw, n); }
void lower_adaptive_max(Lower *lw, const Node *n, Point *at) { (void)at; max_forward(lw, n); }
void lower_adaptive_avg(Lower *lw, const Node *n, Point *at) { (void)at; average_forward(lw, n); }
void lower_maxpool_dx(Lower *lw, const Node *n, Point *at) { (void)at; gradient(lw, n, true); }
void lower_avgpool_dx(Lower *lw, const Node *n, Point *at) { (void)at; gradient(lw, n, false); }
void lower_adaptive_max_dx(Lower *lw, const Node *n, Point *at) { (void)at; gradient(lw, n, true); }
void lower_adaptive_avg_dx(Lower *lw, const Node *n, Point *at) { (void)at; gradient(lw, n, false); }
