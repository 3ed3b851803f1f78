/* Strips of direct convolutions, images in the lanes.
 * In: kernels over plain buffers, a convolution's parts by Winograd already cut. Out: a convolution followed by the one window that reads
 * its output (pooling, with whatever was fused into it) is cut into strips together with it:
 *
 *   y[n, k, p, q] = SUM[c,r,s](x * w) + b      z[n, k, p', q'] = f(MAX[i,j](y[n, k, S p' + i, S' q' + j]))      i < S, or a sum
 *
 * A strip is R rows of z, the S R rows of y under them, of some channels: it stays in L1, where a plane of y would go to L2 and come back.
 * Rows of windows lie side by side, so that no row is computed twice. y is stored [n][p][k][q]: a strip's rows meet in few sets of L1. */
#include "codegen/strips.h"
#include "codegen/precision.h"

#include <string.h>

enum { PARTS_OF_L1 = 2, FEWEST_CHANNELS = 3 };   /* a strip fills at most 1 / PARTS_OF_L1; fewer channels make narrow register tiles */
#define SAVED_CYCLES 2.4      /* for every vector of y: it is not written to L2, nor read from there. Both measured on Zen 4 */
#define PASS_CYCLES 400.0     /* entering two kernels for a strip, and leaving their loops */

typedef struct {
    Kernel *conv, *window;
    int n, k, p, wn, wk, wp;    /* axes of images, channels and rows: the convolution's, and the window's */
    int64_t stride, row;        /* rows of y under one of z; bytes of a row of one channel of one image */
    BufId y;
} Pair;

/* Accesses to y, and views of it. */
static int touches(const KernelList *l, BufId y)
{
    int n = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (AccessId at = 0; at < l->kernels.at[i].n_access; at++)
            n += l->kernels.at[i].access[at].buf == y;
    for (uint32_t b = 1; b < l->buffers.len; b++)
        n += l->buffers.at[b].alias_of == y;
    return n;
}

static bool whole_axis(const Kernel *k, const Affine *f, int axis) { return axis >= 0 && k->axis[axis].kind == AXIS_PAR && !f->guarded; }

/* y[n, k, p, q], one point for each. */
static bool find_conv(const KernelList *l, Pair *s)
{
    Kernel *k = s->conv;
    Product product;
    if (k->part != WINOGRAD_NONE || k->n_strip || k->n_out != 1 || !product_find(k, &product))
        return false;
    const Access *y = &k->access[k->out[0].at];
    const Buffer *b = &l->buffers.at[y->buf];
    if (b->kind != BUF_WORK || !b->batched || b->alias_of || y->rank != 4)
        return false;
    s->y = y->buf;
    s->n = affine_pure_axis(&y->dim[0], k->n_axes);
    s->k = affine_pure_axis(&y->dim[1], k->n_axes);
    s->p = affine_pure_axis(&y->dim[2], k->n_axes);
    s->row = b->shape.dim[3] * (int64_t)sizeof(float);
    return whole_axis(k, &y->dim[0], s->n) && k->axis[s->n].batch && whole_axis(k, &y->dim[1], s->k) && whole_axis(k, &y->dim[2], s->p);
}

/* Rows S p' + i, i < S, of the axes that the outputs have, too: every one of y's once. */
static bool find_window(const KernelList *l, Pair *s)
{
    Kernel *k = s->window;
    AccessId at = 0;
    while (at < k->n_access && k->access[at].buf != s->y)
        at++;
    if (at == k->n_access || kernel_writes(k, at) || k->n_strip || touches(l, s->y) != 2)
        return false;
    const Access *y = &k->access[at];
    s->wn = affine_pure_axis(&y->dim[0], k->n_axes);
    s->wk = affine_pure_axis(&y->dim[1], k->n_axes);
    s->wp = -1;
    int inside = -1;
    for (int a = 0; a < k->n_axes; a++) {
        int32_t coef = y->dim[2].coef[a];
        if (coef && k->axis[a].kind == AXIS_RED && coef == 1)
            inside = a;
        else if (coef && s->wp < 0)
            s->wp = a;
        else if (coef)
            return false;
    }
    if (inside < 0 || !whole_axis(k, &y->dim[0], s->wn) || !whole_axis(k, &y->dim[1], s->wk) || !whole_axis(k, &y->dim[2], s->wp) || y->dim[2].offset)
        return false;
    s->stride = y->dim[2].coef[s->wp];
    for (int o = 0; o < k->n_out; o++) {
        uint32_t axes = access_axes(k, k->out[o].at);
        if (!(axes >> s->wn & axes >> s->wk & axes >> s->wp & 1))
            return false;
    }
    return s->stride == k->axis[inside].extent && k->axis[s->wp].extent * s->stride == s->conv->axis[s->p].extent;
}

static void cut_along(const NestTarget *t, const Pair *s, int64_t rows, int64_t channels)
{
    kernel_cut_along(s->conv, s->n, t->lanes);
    kernel_cut_along(s->conv, s->p, rows * s->stride);
    kernel_cut_along(s->conv, s->k, channels);
    kernel_cut_along(s->window, s->wn, t->lanes);
    kernel_cut_along(s->window, s->wp, rows);
    kernel_cut_along(s->window, s->wk, channels);
    s->conv->makes = s->window->makes = s->y;
}

/* The largest divisor of the channels, a multiple of `whole`, of which a row of windows fits; then as many rows as fit. */
static bool cut(KernelList *l, const NestTarget *t, const Pair *s, int64_t whole)
{
    Buffer *y = &l->buffers.at[s->y];
    int64_t channels = y->shape.dim[1], columns = y->shape.dim[3], room = t->l1 / PARTS_OF_L1, line = s->row * s->stride * t->lanes;
    int64_t group = channels, rows = 1;
    while (group > 1 && (channels % group || group * line > room || (group < channels && group % whole)))
        group--;
    while ((rows + 1) * group * line <= room)
        rows++;
    bool stays = channels * y->shape.dim[2] * s->row * t->lanes <= t->l1;   /* whole, as it is */
    double saved = (double)(group * rows * s->stride * columns) * SAVED_CYCLES;
    if (stays || group < FEWEST_CHANNELS || group * line > room || saved <= PASS_CYCLES)
        return false;
    cut_along(t, s, rows, group);
    memcpy(y->layout.order, (int8_t[]){0, 2, 1, 3}, 4);
    y->strip_elements = ((rows * s->stride - 1) * channels + group) * columns * t->lanes;
    return true;
}

void strips(KernelList *l, const NestTarget *t, bool pairs)
{
    for (uint32_t i = 0; i + 1 < l->kernels.len; i++) {
        Pair s = {.conv = &l->kernels.at[i], .window = &l->kernels.at[i + 1]};
        if (find_conv(l, &s) && find_window(l, &s) && cut(l, t, &s, pairs ? 2 : 1))
            i++;
    }
}
