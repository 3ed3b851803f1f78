/* Optimizer steps: pointwise over the parameter's own dims.
 *
 * In: sgd, adam, adamw, rmsprop nodes. Out: next parameter and next state; they share storage with the old ones, which are
 * read at the same point only.
 * Idea: torch.optim's formulas with its names. What depends on run-time scalars alone is computed once per kernel. */
#include "codegen/lower_impl.h"

static ExprId scalar_or(Lower *lw, ValueId v, double if_absent) { return v ? lower_scalar(lw, v) : number(lw, if_absent); }

/* g + weight_decay * p */
static ExprId decayed(Lower *lw, const OptAttrs *o, ExprId p, ExprId g)
{
    return o->weight_decay == 0 ? g : e_add(lw, g, e_mul(lw, number(lw, o->weight_decay), p));
}

/* p g (buf) lr (momentum) (first) -> p' buf' */
void lower_sgd(Lower *lw, const Node *n, Point *at)
{
    const OptAttrs *o = &n->attrs.opt;
    ExprId p = lower_load(lw, n->in[0], at), g = decayed(lw, o, p, lower_load(lw, n->in[1], at));
    ExprId lr = lower_scalar(lw, n->in[3]), step = g;
    if (n->in[2]) {
        ExprId momentum = scalar_or(lw, n->in[4], o->momentum);
        ExprId fresh = o->dampening == 0 ? g : e_mul(lw, number(lw, 1 - o->dampening), g);
        ExprId buf = e_add(lw, e_mul(lw, momentum, lower_load(lw, n->in[2], at)), fresh);
        if (n->in[5])
            buf = e_sel(lw, op2(lw, EX_GT, lower_scalar(lw, n->in[5]), number(lw, 0)), g, buf);
        step = o->nesterov ? e_add(lw, g, e_mul(lw, momentum, buf)) : buf;
        at->out[1] = buf;
    }
    at->out[0] = e_sub(lw, p, e_mul(lw, lr, step));
}

/* p g m v lr beta1 bc1 bc2 -> p' m' v'. decoupled: AdamW's weight decay. */
static void adam(Lower *lw, const Node *n, Point *at, bool decoupled)
{
    const OptAttrs *o = &n->attrs.opt;
    ExprId p = lower_load(lw, n->in[0], at), g = lower_load(lw, n->in[1], at), one = number(lw, 1);
    ExprId m = lower_load(lw, n->in[2], at), v = lower_load(lw, n->in[3], at);
    ExprId lr = lower_scalar(lw, n->in[4]), beta1 = scalar_or(lw, n->in[5], o->beta1);
    ExprId bc1 = lower_scalar(lw, n->in[6]), bc2 = lower_scalar(lw, n->in[7]);
    if (!decoupled)
        g = decayed(lw, o, p, g);
    else if (o->weight_decay != 0)
        p = e_mul(lw, p, e_sub(lw, one, e_mul(lw, lr, number(lw, o->weight_decay))));
    /* 1 - beta1 without cancellation: beta1 differs from the attribute only while a schedule cycles it. */
    ExprId fresh = e_add(lw, number(lw, 1 - o->beta1), e_sub(lw, number(lw, o->beta1), beta1));
    m = e_add(lw, m, e_mul(lw, e_sub(lw, g, m), fresh));
    v = e_add(lw, e_mul(lw, number(lw, o->beta2), v), e_mul(lw, e_mul(lw, number(lw, 1 - o->beta2), g), g));
    ExprId root = e_div(lw, op1(lw, EX_SQRT, v), op1(lw, EX_SQRT, bc2));
    ExprId step = e_div(lw, e_mul(lw, e_div(lw, lr, bc1), m), e_add(lw, root, number(lw, o->eps)));
    at->out[0] = e_sub(lw, p, step);
    at->out[1] = m;
    at->out[2] = v;
}

void lower_adam(Lower *lw, const Node *n, Point *at) { adam(lw, n, at, false); }
void lower_adamw(Lower *lw, const Node *n, Point *at) { adam(lw, n, at, true); }

/* p g v (buf) (gavg) lr (momentum) -> p' v' buf' gavg' */
void lower_rmsprop(Lower *lw, const Node *n, Point *at)
{
    const OptAttrs *o = &n->attrs.opt;
    ExprId p = lower_load(lw, n->in[0], at), g = decayed(lw, o, p, lower_load(lw, n->in[1], at));
    ExprId v = lower_load(lw, n->in[2], at), lr = lower_scalar(lw, n->in[5]), fresh = number(lw, 1 - o->alpha), spread;
    v = e_add(lw, e_mul(lw, number(lw, o->alpha), v), e_mul(lw, e_mul(lw, fresh, g), g));
    spread = v;
    if (o->centered) {
        ExprId mean = lower_load(lw, n->in[4], at);
        mean = e_add(lw, mean, e_mul(lw, e_sub(lw, g, mean), fresh));
        spread = e_sub(lw, v, e_mul(lw, mean, mean));
        at->out[3] = mean;
    }
    ExprId step = e_div(lw, g, e_add(lw, op1(lw, EX_SQRT, spread), number(lw, o->eps)));
    if (n->in[3])
        step = at->out[2] = e_add(lw, e_mul(lw, scalar_or(lw, n->in[6], o->momentum), lower_load(lw, n->in[3], at)), step);
    at->out[0] = e_sub(lw, p, e_mul(lw, lr, step));
    at->out[1] = v;
}
