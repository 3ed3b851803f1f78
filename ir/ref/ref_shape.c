/* Ops that move, join, pad or add values, and dropout.
 *
 * In: tensors. Out: the same numbers elsewhere, their sums, or their survivors.
 * Idea: padding in all its modes is one map from output position to input position (or none), used forwards for the values
 * and backwards for the gradient. */
#include "ir/dropout.h"
#include "ir/ref/ops.h"

#include <string.h>

void ref_add(const RefCall *c)
{
    for (int64_t i = 0; i < elements(&c->out[0]); i++)
        c->out[0].data[i] = c->in[0]->data[i] + c->in[1]->data[i];
}

void ref_reshape(const RefCall *c) { memcpy(c->out[0].data, c->in[0]->data, sizeof(double) * (size_t)elements(c->in[0])); }

void ref_sum_keep(const RefCall *c)
{
    AxisView v = axis_view(&c->in[0]->shape, c->node->attrs.axis.axis);
    for (int64_t o = 0; o < v.outer; o++)
        for (int64_t k = 0; k < v.size; k++)
            for (int64_t i = 0; i < v.inner; i++)
                c->out[0].data[k] += c->in[0]->data[(o * v.size + k) * v.inner + i];
}

void ref_concat(const RefCall *c)
{
    int axis = c->node->attrs.axis.axis;
    AxisView y = axis_view(&c->out[0].shape, axis);
    int64_t start = 0;
    for (int p = 0; p < c->n_in; p++) {
        AxisView x = axis_view(&c->in[p]->shape, axis);
        for (int64_t o = 0; o < x.outer; o++)
            memcpy(c->out[0].data + (o * y.size + start) * y.inner, c->in[p]->data + o * x.size * x.inner,
                   sizeof(double) * (size_t)(x.size * x.inner));
        start += x.size;
    }
}

void ref_slice(const RefCall *c)
{
    const SliceAttrs *a = &c->node->attrs.slice;
    AxisView x = axis_view(&c->in[0]->shape, a->axis);
    for (int64_t o = 0; o < x.outer; o++)
        memcpy(c->out[0].data + o * a->size * x.inner, c->in[0]->data + (o * x.size + a->start) * x.inner,
               sizeof(double) * (size_t)(a->size * x.inner));
}

/* Where padded position i of an axis of `size` comes from; -1: the constant. */
static int64_t pad_source(PadMode mode, int64_t i, int64_t size)
{
    switch (mode) {
    case PAD_REFLECT:
        return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
    case PAD_REPLICATE:
        return i < 0 ? 0 : i >= size ? size - 1 : i;
    case PAD_CIRCULAR:
        return i < 0 ? i + size : i >= size ? i - size : i;
    default:
        return i < 0 || i >= size ? -1 : i;
    }
}

/* The flat position in x's plane of flat position `at` in y's plane, or -1. */
static int64_t pad_map(const PadAttrs *a, const PlaneView *x, const PlaneView *y, int64_t at)
{
    Three lo = three(a->lo, a->nd, 0);
    const int64_t *s = y->size;
    int64_t p[3] = {at / (s[1] * s[2]), at / s[2] % s[1], at % s[2]}, from = 0;
    for (int d = 0; d < 3; d++) {
        int64_t h = pad_source(a->mode, p[d] - lo.v[d], x->size[d]);
        if (h < 0)
            return -1;
        from = from * x->size[d] + h;
    }
    return from;
}

void ref_pad(const RefCall *c)
{
    const PadAttrs *a = &c->node->attrs.pad;
    PlaneView x = plane_view(&c->in[0]->shape, a->nd), y = plane_view(&c->out[0].shape, a->nd);
    double fill = a->mode == PAD_CONSTANT ? a->value : 0;
    for (int64_t plane = 0; plane < y.planes; plane++)
        for (int64_t i = 0; i < y.elements; i++) {
            int64_t from = pad_map(a, &x, &y, i);
            c->out[0].data[plane * y.elements + i] = from < 0 ? fill : c->in[0]->data[plane * x.elements + from];
        }
}

void ref_pad_dx(const RefCall *c)
{
    const PadAttrs *a = &c->node->attrs.pad;
    PlaneView x = plane_view(&c->out[0].shape, a->nd), y = plane_view(&c->in[0]->shape, a->nd);
    for (int64_t plane = 0; plane < y.planes; plane++)
        for (int64_t i = 0; i < y.elements; i++) {
            int64_t from = pad_map(a, &x, &y, i);
            if (from >= 0)
                c->out[0].data[plane * x.elements + from] += c->in[0]->data[plane * y.elements + i];
        }
}

/* Without a seed dropout is the identity. Units are elements, or channels for Dropout2d; see ir/dropout.h. */
void ref_dropout(const RefCall *c)
{
    const DropoutAttrs *a = &c->node->attrs.dropout;
    const RefTensor *x = c->in[0];
    int64_t n_samples = x->shape.dim[0], per_sample = elements(x) / max_i64(n_samples, 1);
    int64_t units = a->channels ? x->shape.dim[1] : per_sample, per_unit = per_sample / max_i64(units, 1);
    uint32_t key = c->in[1] ? dropout_key((uint32_t)(int64_t)c->in[1]->data[0], a->stream) : 0;
    for (int64_t n = 0; n < n_samples; n++)
        for (int64_t i = 0; i < per_sample; i++) {
            bool kept = dropout_kept(key, (uint32_t)(n * units + i / per_unit), a->p);
            double factor = !c->in[1] ? 1 : kept ? dropout_scale(a->p) : 0;
            c->out[0].data[n * per_sample + i] = x->data[n * per_sample + i] * factor;
        }
}
