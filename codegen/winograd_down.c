/* Winograd convolutions along the rows alone, with columns in the lanes.
 * In: kernels of an inference function over plain buffers whose channels fill no vectors. Out: each chosen r x r convolution as F(m, r)
 * down the rows, with the taps of a row as in the direct form:
 *
 *   input     V[n, c, z, x, w]   = (B' d)[x]                         d: rows m*z .. m*z + a of column w, 0 outside the image
 *   product   M[n, k, z, x, q]   = SUM[c, s](V[.., q + s - pad] * U[x * r + s, k, c])
 *   output    y[n, k, m*z+i, q]  = epilogue((A' M)[i])
 *
 * A row of tiles z is a strip: V and M stay in L1 or L2. No value moves from lane to lane, and a product per point serves all columns. */
#include "codegen/winograd_impl.h"

#include <string.h>

typedef WinogradConv Wino;
typedef WinogradAxes Axes;

/* ---- cost ---- */
/* Vector operations a column of a row of tiles, of inputs for each channel and of outputs for each filter: loads, sums, stores. */
static double input_operations(const WinogradForm *f) { return 4.0 * f->a; }
static double output_operations(const WinogradForm *f) { return 3.0 * f->a + 3.0 * f->m; }

static double cost(const Wino *w, const WinogradForm *f)
{
    double c = (double)w->channels, k = (double)w->filters, tiles = (double)((w->height + f->m - 1) / f->m);
    return tiles * (f->a * f->r * c * k + input_operations(f) * c + output_operations(f) * k);
}

bool winograd_rows_pay(WinogradConv *w)
{
    const NestTarget *t = w->t;
    const Shape *x = &w->l->buffers.at[w->k->access[w->x].buf].shape;
    bool fills = w->channels % t->lanes == 0 || w->filters % t->lanes == 0, fixed = w->l->buffers.at[w->k->access[w->w].buf].kind == BUF_CONST;
    if (w->images || w->stride > 1 || fills || t->pairs || t->lanes < 4 || w->width < t->lanes || !fixed)
        return false;
    double best = 0.95 * (double)(winograd_taps_inside(w->height, w->r, w->pad_h, x->dim[2]) * w->r * w->channels * w->filters);
    for (size_t i = 0; i < WINOGRAD_ROW_FORMS; i++) {
        const WinogradForm *f = &winograd_row_forms[i];
        if (f->r != w->r || f->error > w->error || cost(w, f) >= best)
            continue;
        best = cost(w, f);
        w->form = f;
    }
    return w->form != NULL;
}

/* ---- buffers ---- */
static BufId rows_buffer(Wino *w, const char *suffix, int64_t channels, int64_t columns)
{
    Buffer b = {.kind = BUF_WORK, .dtype = DT_F32, .batched = true};
    b.name = arena_printf(w->l->arena, "%s.%s", w->k->name, suffix);
    static const int8_t strip_by_strip[] = {0, 2, 3, 1, 4};
    b.layout = layout_plain(5);
    memcpy(b.layout.order, strip_by_strip, sizeof strip_by_strip);
    b.shape = shape_of(5, w->batch, channels, w->th, (int64_t)w->a, columns);
    b.strip_elements = w->a * channels * columns;
    return kernels_add_buffer(w->l, &b);
}

static void make_buffers(Wino *w)
{
    w->v = rows_buffer(w, "V", w->channels, w->l->buffers.at[w->k->access[w->x].buf].shape.dim[3]);
    w->prod = rows_buffer(w, "M", w->filters, w->width);
    Buffer u = w->l->buffers.at[w->k->access[w->w].buf];
    u.name = arena_printf(w->l->arena, "%s.U", w->k->name);
    u.shape = shape_of(3, (int64_t)w->a * w->r, w->filters, w->channels);
    u.layout = layout_plain(3);
    u.updates = 0;
    u.winograd = w->form;
    w->u = kernels_add_buffer(w->l, &u);
}

/* ---- the kernels ---- */
static Axes start(Wino *w, WinogradPart part, const char *suffix, bool input)
{
    Axes a = {.i = -1, .t = -1, .k = kernel_part(w->l, arena_printf(w->l->arena, "%s.%s", w->k->name, suffix), w->k)};
    a.k->part = part;
    const Shape *x = &w->l->buffers.at[w->k->access[w->x].buf].shape;
    a.n = kernel_axis(a.k, AXIS_PAR, "n", w->batch, w->k->axis[w->n].batch);
    a.z = kernel_axis(a.k, AXIS_PAR, "z", w->th, false);
    a.c = kernel_axis(a.k, AXIS_PAR, input ? "c" : "k", input ? w->channels : w->filters, false);
    a.tw = kernel_axis(a.k, AXIS_PAR, "q", input ? x->dim[3] : w->width, false);
    kernel_cut_along(a.k, a.n, 1);
    kernel_cut_along(a.k, a.z, 1);
    return a;
}

/* V or M at point x (an axis, or the constant where that is -1) and the axes of a channel and a column. */
static AccessId rows_access(Wino *w, const Axes *a, BufId b, int x_axis, int x, int channel, int column)
{
    AccessId at = kernel_access(w->l, a->k, b);
    affine_axis(access_dim(a->k, at, 0), a->n, 1);
    affine_axis(access_dim(a->k, at, 1), channel, 1);
    affine_axis(access_dim(a->k, at, 2), a->z, 1);
    if (x_axis >= 0)
        affine_axis(access_dim(a->k, at, 3), x_axis, 1);
    else
        access_dim(a->k, at, 3)->offset = x;
    affine_axis(access_dim(a->k, at, 4), column, 1);
    return at;
}

static Kernel *input_kernel(Wino *w)
{
    Axes a = start(w, WINOGRAD_DOWN, "input", true);
    const Access *x = &w->k->access[w->x];
    ExprId d[MAX_A], out[MAX_A];
    for (int i = 0; i < w->a; i++) {
        AccessId at = kernel_access(w->l, a.k, x->buf);
        affine_axis(access_dim(a.k, at, 0), a.n, 1);
        affine_axis(access_dim(a.k, at, 1), a.c, 1);
        affine_axis(access_dim(a.k, at, 2), a.z, w->m);
        affine_axis(access_dim(a.k, at, 3), a.tw, 1);
        access_dim(a.k, at, 2)->offset = (int32_t)(i - w->pad_h);
        affine_guard(access_dim(a.k, at, 2), 0, (int32_t)w->l->buffers.at[x->buf].shape.dim[2]);
        d[i] = expr_load(w->l, a.k, at);
    }
    winograd_input_row(w->l, a.k, w->form, d, out);
    for (int i = 0; i < w->a; i++)
        kernel_out(a.k, rows_access(w, &a, w->v, -1, i, a.c, a.tw), out[i]);
    return a.k;
}

static Kernel *product_kernel(Wino *w)
{
    Axes a = start(w, WINOGRAD_PRODUCT, "product", false);
    int x = kernel_axis(a.k, AXIS_PAR, "x", w->a, false), c = kernel_axis(a.k, AXIS_RED, "c", w->channels, false);
    int s = kernel_axis(a.k, AXIS_RED, "s", w->r, false);
    AccessId v = rows_access(w, &a, w->v, x, 0, c, a.tw), u = kernel_access(w->l, a.k, w->u);
    Affine *column = access_dim(a.k, v, 4);
    affine_axis(column, s, 1);
    column->offset = (int32_t)-w->pad_w;
    affine_guard(column, 0, (int32_t)w->l->buffers.at[w->v].shape.dim[4]);
    affine_axis(access_dim(a.k, u, 0), x, w->r);
    affine_axis(access_dim(a.k, u, 0), s, 1);
    affine_axis(access_dim(a.k, u, 1), a.c, 1);
    affine_axis(access_dim(a.k, u, 2), c, 1);
    ExprId product = expr_op(w->l, a.k, EX_MUL, expr_load(w->l, a.k, v), expr_load(w->l, a.k, u), 0);
    kernel_out(a.k, rows_access(w, &a, w->prod, x, 0, a.c, a.tw), expr_reduce(w->l, a.k, EX_SUM, product, 0, 1u << c | 1u << s));
    a.k->macs = w->k->macs;   /* what the layer stands for, so that rates are of the direct convolution */
    return a.k;
}

static Kernel *output_kernel(Wino *w)
{
    Axes a = start(w, WINOGRAD_DOWN, "output", false);
    ExprId s[MAX_A], y[MAX_A];
    for (int i = 0; i < w->a; i++)
        s[i] = expr_load(w->l, a.k, rows_access(w, &a, w->prod, -1, i, a.c, a.tw));
    winograd_output_row(w->l, a.k, w->form, s, y);
    for (int i = 0; i < w->m; i++)
        winograd_output(w, &a, y[i], i, 0);
    return a.k;
}

void winograd_along_rows(WinogradConv *w, WinogradKernels *out)
{
    w->batch = w->k->axis[w->n].extent;
    w->m = w->form->m;
    w->a = w->form->a;
    w->rows = 1;
    w->th = (w->height + w->m - 1) / w->m;
    make_buffers(w);
    vec_push(w->l->arena, out, *input_kernel(w));
    vec_push(w->l->arena, out, *product_kernel(w));
    vec_push(w->l->arena, out, *output_kernel(w));
}
