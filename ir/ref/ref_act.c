/* Activations and their derivatives, written out beside the scalar expressions of ir/activations.def so that the two check
 * each other.
 *
 * In: x, PReLU's weight, the layer's numbers p[]; for derivatives x or y, whichever the row of activations.def keeps.
 * Out: y, or dy times the derivative. At kinks the derivatives are PyTorch's.
 * Adding an activation: a case in `value` and one in `slope_x` or `slope_y`. */
#include "ir/ref/ops.h"

#include <math.h>

static const double selu_scale = 1.0507009873554805, selu_alpha = 1.6732632423543772;
static const double sqrt_half = 0.7071067811865476, inv_sqrt_2pi = 0.3989422804014327, sqrt_2_over_pi = 0.7978845608028654;

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double clamp(double x, double lo, double hi) { return x < lo ? lo : x > hi ? hi : x; }   /* NaN passes */
static double gelu_tanh_inner(double x) { return sqrt_2_over_pi * (x + 0.044715 * x * x * x); }

static double value(const ActAttrs *a, double x, double w)
{
    const double *p = a->p;
    switch (a->kind) {
    case ACT_RELU: return x < 0 ? 0 : x;
    case ACT_RELU6: return clamp(x, 0, 6);
    case ACT_LEAKY_RELU: return x > 0 ? x : p[0] * x;
    case ACT_PRELU: return x > 0 ? x : w * x;
    case ACT_RRELU: return x > 0 ? x : (p[0] + p[1]) / 2 * x;
    case ACT_ELU: return x > 0 ? x : p[0] * expm1(x);
    case ACT_CELU: return x > 0 ? x : p[0] * expm1(x / p[0]);
    case ACT_SELU: return selu_scale * (x > 0 ? x : selu_alpha * expm1(x));
    case ACT_GELU: return x * 0.5 * (1 + erf(x * sqrt_half));
    case ACT_GELU_TANH: return x * 0.5 * (1 + tanh(gelu_tanh_inner(x)));
    case ACT_SILU: return x * sigmoid(x);
    case ACT_MISH: return x * tanh(softplus(x));
    case ACT_SIGMOID: return sigmoid(x);
    case ACT_TANH: return tanh(x);
    case ACT_LOG_SIGMOID: return -softplus(-x);
    case ACT_SOFTSIGN: return x / (1 + fabs(x));
    case ACT_TANHSHRINK: return x - tanh(x);
    case ACT_SOFTPLUS: return x * p[0] > p[1] ? x : softplus(x * p[0]) / p[0];
    case ACT_HARDTANH: return clamp(x, p[0], p[1]);
    case ACT_HARDSIGMOID: return clamp(x + 3, 0, 6) / 6;
    case ACT_HARDSWISH: return x * clamp(x + 3, 0, 6) / 6;
    case ACT_SOFTSHRINK: return x > p[0] ? x - p[0] : x < -p[0] ? x + p[0] : x * 0;
    case ACT_HARDSHRINK: return x >= -p[0] && x <= p[0] ? 0 : x;
    case ACT_THRESHOLD: return x <= p[0] ? p[1] : x;
    case ACT_COUNT: break;
    }
    BUG("activation %d", (int)a->kind);
}

/* dy/dx from x. */
static double slope_x(const ActAttrs *a, double x, double w)
{
    const double *p = a->p;
    switch (a->kind) {
    case ACT_LEAKY_RELU: return x > 0 ? 1 : p[0];
    case ACT_PRELU: return x > 0 ? 1 : w;
    case ACT_RRELU: return x > 0 ? 1 : (p[0] + p[1]) / 2;
    case ACT_ELU: return x > 0 ? 1 : p[0] * exp(x);
    case ACT_CELU: return x > 0 ? 1 : exp(x / p[0]);
    case ACT_SELU: return selu_scale * (x > 0 ? 1 : selu_alpha * exp(x));
    case ACT_GELU: return 0.5 * (1 + erf(x * sqrt_half)) + x * inv_sqrt_2pi * exp(-0.5 * x * x);
    case ACT_GELU_TANH: {
        double t = tanh(gelu_tanh_inner(x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt_2_over_pi * (1 + 3 * 0.044715 * x * x);
    }
    case ACT_SILU: return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
    case ACT_MISH: return tanh(softplus(x)) + x * sigmoid(x) * (1 - square(tanh(softplus(x))));
    case ACT_LOG_SIGMOID: return sigmoid(-x);
    case ACT_SOFTSIGN: return 1 / square(1 + fabs(x));
    case ACT_TANHSHRINK: return square(tanh(x));
    case ACT_SOFTPLUS: return x * p[0] > p[1] ? 1 : sigmoid(x * p[0]);
    case ACT_HARDTANH: return x > p[0] && x < p[1] ? 1 : 0;
    case ACT_HARDSIGMOID: return x > -3 && x < 3 ? 1.0 / 6 : 0;
    case ACT_HARDSWISH: return x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5;
    case ACT_SOFTSHRINK: return x > p[0] || x < -p[0] ? 1 : 0;
    case ACT_HARDSHRINK: return x >= -p[0] && x <= p[0] ? 0 : 1;
    case ACT_THRESHOLD: return x <= p[0] ? 0 : 1;
    default: BUG("the gradient of %s does not read x", act_text(a->kind));
    }
}

/* dy/dx from y. */
static double slope_y(const ActAttrs *a, double y)
{
    switch (a->kind) {
    case ACT_RELU: return y > 0 ? 1 : 0;
    case ACT_RELU6: return y > 0 && y < 6 ? 1 : 0;
    case ACT_SIGMOID: return y * (1 - y);
    case ACT_TANH: return 1 - y * y;
    default: BUG("the gradient of %s does not read y", act_text(a->kind));
    }
}

/* The weight of element i: PReLU has one for all or one per channel (axis 1). */
static double weight_of(const RefTensor *weight, const Shape *x, int64_t i)
{
    if (!weight)
        return 0;
    if (elements(weight) == 1)
        return weight->data[0];
    AxisView v = axis_view(x, 1);
    return weight->data[i / v.inner % v.size];
}

void ref_act(const RefCall *c)
{
    const RefTensor *x = c->in[0];
    for (int64_t i = 0; i < elements(x); i++)
        c->out[0].data[i] = value(&c->node->attrs.act, x->data[i], weight_of(c->in[1], &x->shape, i));
}

/* dy (x) (y) (weight) -> dx. */
void ref_act_dx(const RefCall *c)
{
    const RefTensor *dy = c->in[0], *x = c->in[1], *y = c->in[2];
    const ActAttrs *a = &c->node->attrs.act;
    for (int64_t i = 0; i < elements(dy); i++) {
        double slope = y && !x ? slope_y(a, y->data[i]) : slope_x(a, x->data[i], weight_of(c->in[3], &dy->shape, i));
        c->out[0].data[i] = dy->data[i] * slope;
    }
}

/* dy x weight -> dweight. */
void ref_prelu_dw(const RefCall *c)
{
    const RefTensor *dy = c->in[0], *x = c->in[1];
    bool shared = elements(&c->out[0]) == 1;
    AxisView v = shared ? (AxisView){1, 1, elements(dy)} : axis_view(&x->shape, 1);
    for (int64_t i = 0; i < elements(dy); i++)
        if (!(x->data[i] > 0))
            c->out[0].data[i / v.inner % v.size] += dy->data[i] * x->data[i];
}
