/* Optimizer steps: next parameter and next state from this step's gradient, element by element.
 *
 * In: parameter, gradient, state tensors, run-time scalars (learning rate, momentum, bias corrections). Out: next values.
 * Idea: each formula is torch.optim's, written with its own names. */
#include "ir/ref/ops.h"

#include <math.h>

static double scalar(const RefTensor *t, double if_absent) { return t ? t->data[0] : if_absent; }

/* p g buf lr momentum first -> p' buf'. */
void ref_sgd(const RefCall *c)
{
    const OptAttrs *o = &c->node->attrs.opt;
    double lr = c->in[3]->data[0], momentum = scalar(c->in[4], 0);
    bool first = scalar(c->in[5], 0) != 0;
    for (int64_t i = 0; i < elements(c->in[0]); i++) {
        double p = c->in[0]->data[i], g = c->in[1]->data[i] + o->weight_decay * p, step = g;
        if (c->in[2]) {
            double buf = first ? g : momentum * c->in[2]->data[i] + (1 - o->dampening) * g;
            step = o->nesterov ? g + momentum * buf : buf;
            c->out[1].data[i] = buf;
        }
        c->out[0].data[i] = p - lr * step;
    }
}

/* p g m v lr beta1 bc1 bc2 -> p' m' v'. decoupled: AdamW's weight decay. */
static void adam(const RefCall *c, bool decoupled)
{
    const OptAttrs *o = &c->node->attrs.opt;
    double lr = c->in[4]->data[0], beta1 = c->in[5]->data[0], bc1 = c->in[6]->data[0], bc2 = c->in[7]->data[0];
    for (int64_t i = 0; i < elements(c->in[0]); i++) {
        double p = c->in[0]->data[i], g = c->in[1]->data[i];
        if (decoupled)
            p *= 1 - lr * o->weight_decay;
        else
            g += o->weight_decay * p;
        double m = c->in[2]->data[i] + (g - c->in[2]->data[i]) * (1 - beta1);
        double v = o->beta2 * c->in[3]->data[i] + (1 - o->beta2) * g * g;
        c->out[0].data[i] = p - lr / bc1 * m / (sqrt(v) / sqrt(bc2) + o->eps);
        c->out[1].data[i] = m;
        c->out[2].data[i] = v;
    }
}

void ref_adam(const RefCall *c) { adam(c, false); }
void ref_adamw(const RefCall *c) { adam(c, true); }

/* p g v buf gavg lr momentum -> p' v' buf' gavg'. */
void ref_rmsprop(const RefCall *c)
{
    const OptAttrs *o = &c->node->attrs.opt;
    double lr = c->in[5]->data[0], momentum = scalar(c->in[6], 0);
    for (int64_t i = 0; i < elements(c->in[0]); i++) {
        double p = c->in[0]->data[i], g = c->in[1]->data[i] + o->weight_decay * p;
        double v = o->alpha * c->in[2]->data[i] + (1 - o->alpha) * g * g, centre = 0;
        if (o->centered) {
            centre = c->in[4]->data[i] + (g - c->in[4]->data[i]) * (1 - o->alpha);
            c->out[3].data[i] = centre;
        }
        double step = g / (sqrt(v - centre * centre) + o->eps);
        if (c->in[3])
            step = c->out[2].data[i] = momentum * c->in[3]->data[i] + step;
        c->out[0].data[i] = p - lr * step;
        c->out[1].data[i] = v;
    }
}
