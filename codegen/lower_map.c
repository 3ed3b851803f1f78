/* Pointwise ops: activations and their gradients, addition, affine, dropout.
 *
 * In: the op at one point. Out: the value's expression there.
 * Idea: the formulas of ir/activations.def are macros over X Y W A B; here the macros build expressions. */
#include "codegen/lower_impl.h"
#include "ir/dropout.h"

/* What a formula reads. */
typedef struct { Lower *lw; ExprId x, y, w; double a, b; } Act;

#define X (f->x)
#define Y (f->y)
#define W (f->w)
#define A number(f->lw, f->a)
#define B number(f->lw, f->b)
#define C(v) number(f->lw, (v))
#define NEG(u) op1(f->lw, EX_NEG, (u))
#define ABS(u) op1(f->lw, EX_ABS, (u))
#define EXP(u) op1(f->lw, EX_EXP, (u))
#define EXPM1(u) op1(f->lw, EX_EXPM1, (u))
#define LOG1P(u) op1(f->lw, EX_LOG1P, (u))
#define TANH(u) op1(f->lw, EX_TANH, (u))
#define ERF(u) op1(f->lw, EX_ERF, (u))
#define SIGMOID(u) op1(f->lw, EX_SIGMOID, (u))
#define SOFTPLUS(u) op1(f->lw, EX_SOFTPLUS, (u))
#define ADD(u, v) op2(f->lw, EX_ADD, (u), (v))
#define SUB(u, v) op2(f->lw, EX_SUB, (u), (v))
#define MUL(u, v) op2(f->lw, EX_MUL, (u), (v))
#define DIV(u, v) op2(f->lw, EX_DIV, (u), (v))
#define MIN(u, v) op2(f->lw, EX_MIN, (u), (v))
#define LT(u, v) op2(f->lw, EX_LT, (u), (v))
#define LE(u, v) op2(f->lw, EX_LE, (u), (v))
#define GT(u, v) op2(f->lw, EX_GT, (u), (v))
#define GE(u, v) op2(f->lw, EX_GE, (u), (v))
#define AND(u, v) op2(f->lw, EX_AND, (u), (v))
#define OR(u, v) op2(f->lw, EX_OR, (u), (v))
#define SEL(c, u, v) op3(f->lw, EX_SEL, (c), (u), (v))
#define GELU_TANH_DX gelu_tanh_dx(f)
#define MISH_DX mish_dx(f)

/* t = tanh(u), u = k(x + m x^3): dy/dx = (1 + t)/2 + x/2 (1 - t^2) k (1 + 3 m x^2) */
static ExprId gelu_tanh_dx(const Act *f)
{
    ExprId xx = MUL(X, X), k = C(0.7978845608028654);
    ExprId t = TANH(MUL(k, ADD(X, MUL(C(0.044715), MUL(X, xx)))));
    ExprId du = MUL(k, ADD(C(1), MUL(C(3 * 0.044715), xx)));
    return ADD(MUL(C(0.5), ADD(C(1), t)), MUL(MUL(MUL(C(0.5), X), SUB(C(1), MUL(t, t))), du));
}

/* t = tanh(softplus(x)): dy/dx = t + x (1 - t^2) sigmoid(x) */
static ExprId mish_dx(const Act *f)
{
    ExprId t = TANH(SOFTPLUS(X));
    return ADD(t, MUL(MUL(X, SUB(C(1), MUL(t, t))), SIGMOID(X)));
}

static ExprId act_value(const Act *f, ActKind kind)
{
    switch (kind) {
#define ACT(id, torch, text, params, needs, y, dx) case ACT_##id: return y;
#include "ir/activations.def"
#undef ACT
    default: BUG("no activation %d", kind);
    }
}

static ExprId act_derivative(const Act *f, ActKind kind)
{
    switch (kind) {
#define ACT(id, torch, text, params, needs, y, dx) case ACT_##id: return dx;
#include "ir/activations.def"
#undef ACT
    default: BUG("no activation %d", kind);
    }
}

#undef X
#undef Y
#undef W
#undef A
#undef B
#undef C

/* PReLU's weight at a point: per channel (axis 1), or the only one. */
static ExprId slope(Lower *lw, ValueId w, const Point *at) { return lower_load_channel(lw, w, at, at->rank > 1 ? 1 : 0); }

void lower_act(Lower *lw, const Node *n, Point *at)
{
    const ActAttrs *a = &n->attrs.act;
    Act f = {.lw = lw, .x = lower_load(lw, n->in[0], at), .w = slope(lw, n->in[1], at), .a = a->p[0], .b = a->p[1]};
    at->out[0] = act_value(&f, a->kind);
}

/* dy * derivative; a derivative that selects 0 or 1 selects 0 or dy. */
static ExprId scale_gradient(Lower *lw, ExprId dy, ExprId d)
{
    Expr e = lw->k->expr[d], one = lw->k->expr[e.b], zero = lw->k->expr[e.c];
    if (e.op == EX_CONST && e.imm == 1)
        return dy;
    if (e.op == EX_SEL && one.op == EX_CONST && one.imm == 1 && zero.op == EX_CONST && zero.imm == 0)
        return e_sel(lw, e.a, dy, e.c);
    if (e.op == EX_SEL && one.op == EX_CONST && one.imm == 0 && zero.op == EX_CONST && zero.imm == 1)
        return e_sel(lw, e.a, e.b, dy);
    if (e.op == EX_SEL && one.op == EX_CONST && one.imm == 1)
        return e_sel(lw, e.a, dy, e_mul(lw, dy, e.c));
    return e_mul(lw, dy, d);
}

void lower_act_dx(Lower *lw, const Node *n, Point *at)
{
    const ActAttrs *a = &n->attrs.act;
    Act f = {.lw = lw, .w = slope(lw, n->in[3], at), .a = a->p[0], .b = a->p[1]};
    ExprId dy = lower_load(lw, n->in[0], at);
    f.x = n->in[1] ? lower_load(lw, n->in[1], at) : 0;
    f.y = n->in[2] ? lower_load(lw, n->in[2], at) : 0;
    at->out[0] = scale_gradient(lw, dy, act_derivative(&f, a->kind));
}

/* dweight = sum of dy*x where x <= 0, per channel or over everything. */
void lower_prelu_dw(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    const Value *x = val(lw, n->in[1]);
    bool per_channel = dims_of(lw, n->out[0])[0] != 1;
    int channel = x->shape.rank > 1 ? 1 : 0;
    lower_kernel(lw, n, NULL);
    Point p = lower_axes(lw, n->in[1]), w = point_none(1);
    uint32_t over = 0;
    for (int d = 0; d < p.rank; d++) {
        bool kept = per_channel && d == channel;
        lw->k->axis[d].kind = kept ? AXIS_PAR : AXIS_RED;
        over |= kept ? 0 : 1u << d;
    }
    if (per_channel)
        w.dim[0] = p.dim[channel];
    ExprId dy = lower_load(lw, n->in[0], &p), v = lower_load(lw, n->in[1], &p), zero = number(lw, 0);
    ExprId sum = e_sum(lw, e_sel(lw, op2(lw, EX_GT, v, zero), zero, e_mul(lw, dy, v)), over);
    lower_emit(lw, &w, &sum);
}

void lower_add(Lower *lw, const Node *n, Point *at)
{
    ExprId a = lower_load(lw, n->in[0], at);
    at->out[0] = e_add(lw, a, lower_load(lw, n->in[1], at));
}

void lower_affine(Lower *lw, const Node *n, Point *at)
{
    ExprId x = lower_load(lw, n->in[0], at), scale = lower_load_channel(lw, n->in[1], at, 1);
    at->out[0] = e_add(lw, e_mul(lw, x, scale), lower_load_channel(lw, n->in[2], at, 1));
}

/* ---- dropout: the counter-based generator of ir/dropout.h in integer operations ---- */
static ExprId xor_shift(Lower *lw, ExprId x, int by) { return op2(lw, EX_IXOR, x, op2(lw, EX_ISHR, x, integer(lw, by))); }

static ExprId mix(Lower *lw, ExprId x)
{
    x = op2(lw, EX_IMUL, xor_shift(lw, x, DROPOUT_SHIFT1), integer(lw, (int32_t)DROPOUT_MUL1));
    x = op2(lw, EX_IMUL, xor_shift(lw, x, DROPOUT_SHIFT2), integer(lw, (int32_t)DROPOUT_MUL2));
    return xor_shift(lw, x, DROPOUT_SHIFT3);
}

void lower_dropout(Lower *lw, const Node *n, Point *at)
{
    const DropoutAttrs *a = &n->attrs.dropout;
    ExprId x = lower_load(lw, n->in[0], at);
    if (!n->in[1]) {
        at->out[0] = x;
        return;
    }
    ExprId stream = integer(lw, (int32_t)dropout_mix(a->stream * DROPOUT_STREAM_STEP));
    ExprId key = mix(lw, op2(lw, EX_IADD, lower_scalar(lw, n->in[1]), stream));
    ExprId unit = e_flat(lw, at, dims_of(lw, n->out[0]), 0, a->channels ? 2 : at->rank);
    ExprId dropped = op2(lw, EX_ULT, mix(lw, op2(lw, EX_IADD, unit, key)), integer(lw, (int32_t)dropout_threshold(a->p)));
    at->out[0] = e_sel(lw, dropped, number(lw, 0), e_mul(lw, x, number(lw, dropout_scale(a->p))));
}
