/* Convolutions that Winograd can do.
 * In: a kernel over plain buffers. Out: its operands, axes and sizes; the kernel that transforms weights of a state.
 * Relies on nothing but the kernel's form: taps without dilation, forwards (a convolution, of any stride) or backwards (a data gradient, of
 * stride 1), of all channels of the input. */
#include "codegen/winograd_impl.h"

/* x[.., stride * p +- r - pad, ..]: the tap axis beside output axis p; -1: another shape. *sign: of the tap (a data gradient's runs
 * back). */
static int tap_axis(const Kernel *k, const Affine *f, int p, int *sign)
{
    int tap = -1;
    for (int a = 0; a < k->n_axes; a++) {
        if (!f->coef[a] || a == p)
            continue;
        if ((f->coef[a] != 1 && f->coef[a] != -1) || tap >= 0)
            return -1;
        tap = a;
        *sign = f->coef[a];
    }
    return f->coef[p] >= 1 && !f->table && f->div <= 1 ? tap : -1;
}

static bool is_weights(const WinogradConv *w, AccessId at)
{
    const Buffer *b = &w->l->buffers.at[w->k->access[at].buf];
    return (b->kind == BUF_CONST && !b->data) || b->kind == BUF_STATE;
}

static bool find_product(WinogradConv *w)
{
    const Kernel *k = w->k;
    for (ExprId e = 1; e < k->n_expr; e++) {
        if (k->expr[e].op != EX_SUM)
            continue;
        const Expr *m = &k->expr[k->expr[e].a];
        if (w->sum || m->op != EX_MUL || k->expr[m->a].op != EX_LOAD || k->expr[m->b].op != EX_LOAD)
            return false;
        w->sum = e;
        w->x = k->expr[m->a].at;
        w->w = k->expr[m->b].at;
        if (is_weights(w, w->x)) {
            AccessId swap = w->x;
            w->x = w->w;
            w->w = swap;
        }
    }
    return w->sum && is_weights(w, w->w);
}

bool winograd_recognise(WinogradConv *w)
{
    const Kernel *k = w->k;
    if (k->n_out != 1 || !find_product(w))
        return false;
    const Access *y = &k->access[k->out[0].at], *x = &k->access[w->x], *f = &k->access[w->w];
    if (y->rank != 4 || x->rank != 4 || f->rank != 4)
        return false;
    w->n = affine_unit_axis(&y->dim[0], k->n_axes);
    w->kk = affine_unit_axis(&y->dim[1], k->n_axes);
    w->p = affine_unit_axis(&y->dim[2], k->n_axes);
    w->q = affine_unit_axis(&y->dim[3], k->n_axes);
    if (w->n < 0 || w->kk < 0 || w->p < 0 || w->q < 0)
        return false;
    int sign_r = 1, sign_s = 1;
    int c = affine_unit_axis(&x->dim[1], k->n_axes), r = tap_axis(k, &x->dim[2], w->p, &sign_r), t = tap_axis(k, &x->dim[3], w->q, &sign_s);
    if (c < 0 || r < 0 || t < 0 || sign_r != sign_s || k->axis[c].kind != AXIS_RED)
        return false;
    w->flip = sign_r < 0;
    w->stride = x->dim[2].coef[w->p];
    if (x->dim[3].coef[w->q] != w->stride || (w->flip && w->stride > 1))
        return false;
    w->filter_dim = affine_unit_axis(&f->dim[0], k->n_axes) == w->kk ? 0 : 1;
    for (int d = 0; d < 4; d++) {
        int want = d == w->filter_dim ? w->kk : d < 2 ? c : d == 2 ? r : t;
        if (affine_unit_axis(&f->dim[d], k->n_axes) != want || f->dim[d].offset)
            return false;
    }
    const Shape *xs = &w->l->buffers.at[x->buf].shape;
    if (x->dim[1].offset || y->dim[2].offset || y->dim[3].offset || k->axis[c].extent != xs->dim[1])
        return false;
    w->r = k->axis[r].extent;
    if (k->axis[t].extent != w->r)
        return false;
    w->channels = k->axis[c].extent;
    w->filters = k->axis[w->kk].extent;
    w->height = k->axis[w->p].extent;
    w->width = k->axis[w->q].extent;
    w->pad_h = (w->flip ? w->r - 1 : 0) - x->dim[2].offset;   /* 3 taps: p - r + o is p + (2 - r) - (2 - o) */
    w->pad_w = (w->flip ? w->r - 1 : 0) - x->dim[3].offset;
    return true;
}

Kernel *winograd_weights_kernel(WinogradConv *w)
{
    Kernel *k = kernel_part(w->l, arena_printf(w->l->arena, "%s.weights", w->k->name), w->k);
    int f = kernel_axis(k, AXIS_PAR, "k", w->filters, false), c = kernel_axis(k, AXIS_PAR, "c", w->channels, false);
    k->part = WINOGRAD_WEIGHTS;
    if (w->t && buffer_elements(&w->l->buffers.at[w->u]) * 4 > w->t->l2)
        k->after = w->k->access[w->x].buf;   /* made early, those of all layers would lie in memory together */
    ExprId tap[MAX_A * MAX_A], u[MAX_A * MAX_A];
    for (int i = 0; i < w->r * w->r; i++) {
        AccessId at = kernel_access(w->l, k, w->k->access[w->w].buf);
        affine_axis(access_dim(k, at, w->filter_dim), f, 1);
        affine_axis(access_dim(k, at, 1 - w->filter_dim), c, 1);
        access_dim(k, at, 2)->offset = w->flip ? w->r - 1 - i / w->r : i / w->r;
        access_dim(k, at, 3)->offset = w->flip ? w->r - 1 - i % w->r : i % w->r;
        tap[i] = expr_load(w->l, k, at);
    }
    winograd_square(w->l, k, w->form, winograd_weight_row, tap, w->r, u, w->a);
    for (int i = 0; i < w->a * w->a; i++) {
        AccessId at = kernel_access(w->l, k, w->u);
        access_dim(k, at, 0)->offset = i;
        affine_axis(access_dim(k, at, 1), f, 1);
        affine_axis(access_dim(k, at, 2), c, 1);
        kernel_out(k, at, u[i]);
    }
    return k;
}
