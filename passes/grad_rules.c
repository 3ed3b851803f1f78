/* The gradient of each op: one rule per name in the `grad` column of ops.def.
 *
 * In: a forward node and dy, the gradient of the loss by its output. Out: dx for each input that wants one, by grad_flow.
 * Invariant: rules read forward values by name only; what they read stays alive because it is read.
 * To add a rule: its formula in a comment, one emit per input that wants a gradient, the name in ops.def. L is the loss,
 * d_ = dL/d_. Sums run over the real samples of the batch. */
#include "passes/train.h"

/* Emits op and gives its output the shape of v, whose gradient it is. */
static void flow(Train *t, const Node *n, ValueId v, Op op, const ValueId *in, int n_in)
{
    if (!grad_wanted(t, v))
        return;
    Origin o = origin_of(n);
    grad_flow(t, v, emit_like(t->g, emit_node(t->g, o, op, in, n_in, &n->attrs), 0, v));
}

/* b is added along `axis`:  db[k] = sum over all other axes of dy[.., k, ..] */
static void flow_bias(Train *t, const Node *n, ValueId b, ValueId dy, int axis)
{
    if (!grad_wanted(t, b))
        return;
    Attrs attrs = {.axis = {.axis = axis}};
    grad_flow(t, b, emit_like(t->g, emit_node(t->g, origin_of(n), OP_SUM_KEEP, VALUES(dy), &attrs), 0, b));
}

/* y[n,k,p,q] = b[k] + sum_{c,r,s} x[n,c,p*u+r,q*u+s] * w[k,c,r,s]
 * dx[n,c,h,w] = sum over the (k,p,q,r,s) with p*u+r = h, q*u+s = w of dy[n,k,p,q] * w[k,c,r,s]
 * dw[k,c,r,s] = sum_{n,p,q} x[n,c,p*u+r,q*u+s] * dy[n,k,p,q] */
static void grad_conv(Train *t, const Node *n, ValueId dy)
{
    ValueId x = n->in[0], w = n->in[1];
    flow(t, n, x, OP_CONV_DX, VALUES(dy, w, x));
    flow(t, n, w, OP_CONV_DW, VALUES(x, dy, w));
    flow_bias(t, n, n->in[2], dy, 1);
}

/* y[.,k] = b[k] + sum_c x[.,c] * w[k,c]:  dx[.,c] = sum_k dy[.,k] * w[k,c],  dw[k,c] = sum_. x[.,c] * dy[.,k] */
static void grad_linear(Train *t, const Node *n, ValueId dy)
{
    ValueId x = n->in[0], w = n->in[1];
    flow(t, n, x, OP_LINEAR_DX, VALUES(dy, w));
    flow(t, n, w, OP_LINEAR_DW, VALUES(x, dy));
    flow_bias(t, n, n->in[2], dy, graph_value(t->g, dy)->shape.rank - 1);
}

/* y = x at the window's first maximum, whose place is the second output: dy goes there. */
static void grad_maxpool(Train *t, const Node *n, ValueId dy)
{
    flow(t, n, n->in[0], OP_MAXPOOL_DX, VALUES(dy, n->out[1], n->in[0]));
}

static void grad_adaptive_max(Train *t, const Node *n, ValueId dy)
{
    flow(t, n, n->in[0], OP_ADAPTIVE_MAX_DX, VALUES(dy, n->out[1], n->in[0]));
}

/* y = sum of the window / divisor: each x of the window gets dy / divisor. */
static void grad_avgpool(Train *t, const Node *n, ValueId dy) { flow(t, n, n->in[0], OP_AVGPOOL_DX, VALUES(dy, n->in[0])); }

static void grad_adaptive_avg(Train *t, const Node *n, ValueId dy)
{
    flow(t, n, n->in[0], OP_ADAPTIVE_AVG_DX, VALUES(dy, n->in[0]));
}

/* y = xh*gamma + beta with xh = (x - mean)/sqrt(var + eps), mean and var of the batch, m values per channel:
 * dbeta = sum dy,  dgamma = sum dy*xh,
 * dx = gamma/sqrt(var + eps) * (dy - dbeta/m - xh*dgamma/m)
 * The last two terms are what flows through mean and var; so OP_BN_STATS itself needs no rule. */
static void grad_bn_train(Train *t, const Node *n, ValueId dy)
{
    ValueId x = n->in[0], gamma = n->in[1], beta = n->in[2], mean = n->in[3], var = n->in[4];
    NodeId sums = emit_node(t->g, origin_of(n), OP_BN_SUMS, VALUES(dy, x, mean, var), &n->attrs);
    ValueId dbeta = emit_like(t->g, sums, 0, mean), dgamma = emit_like(t->g, sums, 1, mean);
    flow(t, n, x, OP_BN_DX, VALUES(dy, x, gamma, mean, var, dbeta, dgamma));
    grad_flow(t, gamma, dgamma);
    grad_flow(t, beta, dbeta);
}

/* Which of x and y the derivative of each activation is written in. */
typedef enum { NEED_X, NEED_Y } Need;
static const Need act_needs[ACT_COUNT] = {
#define ACT(id, torch_name, text, parameters, needs, ...) [ACT_##id] = needs,
#include "ir/activations.def"
#undef ACT
};

/* y = f(x):  dx = dy * f'(x), f' in ir/activations.def;  PReLU, y = x > 0 ? x : w*x:  dw = sum of dy*x where x <= 0 */
static void grad_act(Train *t, const Node *n, ValueId dy)
{
    ValueId x = n->in[0], w = n->in[1], y = n->out[0];
    bool by_x = act_needs[n->attrs.act.kind] == NEED_X;
    flow(t, n, x, OP_ACT_DX, VALUES(dy, by_x ? x : 0, by_x ? 0 : y, w));
    if (w)
        flow(t, n, w, OP_PRELU_DW, VALUES(dy, x, w));
}

/* y = a*s(b), a and b the halves of x:  da = dy*s(b),  db = dy*a*s(b)*(1 - s(b)) */
static void grad_glu(Train *t, const Node *n, ValueId dy) { flow(t, n, n->in[0], OP_GLU_DX, VALUES(dy, n->in[0])); }

/* y_i = e^x_i / sum_j e^x_j:  dx = y * (dy - sum_j dy_j*y_j) */
static void grad_softmax(Train *t, const Node *n, ValueId dy) { flow(t, n, n->in[0], OP_SOFTMAX_DX, VALUES(dy, n->out[0])); }

/* y_i = x_i - log sum_j e^x_j:  dx = dy - e^y * sum_j dy_j */
static void grad_log_softmax(Train *t, const Node *n, ValueId dy)
{
    flow(t, n, n->in[0], OP_LOG_SOFTMAX_DX, VALUES(dy, n->out[0]));
}

/* y = x * mask / (1-p):  dx = dy * mask / (1-p), the same op with the same seed and stream */
static void grad_dropout(Train *t, const Node *n, ValueId dy) { flow(t, n, n->in[0], OP_DROPOUT, VALUES(dy, n->in[1])); }

/* The same elements under another shape. */
static void grad_reshape(Train *t, const Node *n, ValueId dy) { flow(t, n, n->in[0], OP_RESHAPE_BACK, VALUES(dy, n->in[0])); }

/* y = x with a border: dx = dy without it; where the border repeats x, what arrives there is added. */
static void grad_pad(Train *t, const Node *n, ValueId dy) { flow(t, n, n->in[0], OP_PAD_DX, VALUES(dy, n->in[0])); }

/* y = a + b:  da = dy,  db = dy */
static void grad_add(Train *t, const Node *n, ValueId dy)
{
    grad_flow(t, n->in[0], dy);
    grad_flow(t, n->in[1], dy);
}

/* y = the inputs one after another along an axis: each gets its part of dy. */
static void grad_concat(Train *t, const Node *n, ValueId dy)
{
    int axis = n->attrs.axis.axis;
    int64_t start = 0;
    for (int i = 0; i < n->n_in; i++) {
        int64_t size = graph_value(t->g, n->in[i])->shape.dim[axis];
        if (grad_wanted(t, n->in[i])) {
            Attrs attrs = {.slice = {.axis = axis, .start = start, .size = size}};
            grad_flow(t, n->in[i], emit_like(t->g, emit_node(t->g, origin_of(n), OP_SLICE, VALUES(dy), &attrs), 0, n->in[i]));
        }
        start += size;
    }
}

/* Leaves, losses and whatever grad itself makes. */
static void grad_none(Train *t, const Node *n, ValueId dy)
{
    (void)t, (void)dy;
    BUG("%s has no gradient", op_text(n->op));
}

GradRule grad_rule(Op op)
{
    static const GradRule rules[OP_COUNT] = {
#define OP(id, text, n_in, n_out, flags, attrs, shape, grad, ...) [OP_##id] = grad,
#include "ir/ops.def"
#undef OP
    };
    return rules[op] == grad_none ? NULL : rules[op];
}
