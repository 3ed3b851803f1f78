/* Runs kernels with plain scalar loops in double precision: the oracle for lowering and for the emitters.
 *
 * In: a KernelList and the storage of its buffers as doubles. Out: every output written.
 * Relies on: kernels_verify held. Integers are exact: 32 bits, wrapping, held in doubles as int32 values.
 *
 * Expressions are evaluated on demand. A value is remembered until an axis it depends on moves, so a row's softmax is
 * linear in the row: axis a moved last at tick moved[a], expression e was computed at tick when[e], and it still holds when
 * when[e] >= moved[a] for each a it depends on. */
#include "codegen/kernel.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const KernelList *l;
    const Kernel *k;
    double **mem;
    const double *scalars;
    int64_t n;
    int32_t at[MAX_AXIS];
    int64_t moved[MAX_AXIS], tick;
    double *value;
    int64_t *when;
} Run;

static int32_t extent(const Run *r, int axis)
{
    const Axis *x = &r->k->axis[axis];
    if (!x->batch)
        return x->extent;
    int64_t n = x->batch_div > 1 ? (r->n + x->batch_div - 1) / x->batch_div : r->n;
    if (x->batch_step > 0)
        n -= (int64_t)x->batch_step * r->at[x->batch_base];
    return n < x->extent ? (int32_t)(n < 0 ? 0 : n) : x->extent;
}

static void move(Run *r, int axis, int32_t to)
{
    if (r->at[axis] != to) {
        r->at[axis] = to;
        r->moved[axis] = ++r->tick;
    }
}

/* Sets the axes of the mask to their first point; false when one of them is empty. */
static bool first_point(Run *r, uint32_t axes)
{
    for (int x = 0; x < r->k->n_axes; x++) {
        if (!(axes >> x & 1))
            continue;
        if (extent(r, x) <= 0)
            return false;
        move(r, x, 0);
    }
    return true;
}

/* The next point, the last axis fastest; false after the last one. */
static bool next_point(Run *r, uint32_t axes)
{
    for (int x = r->k->n_axes - 1; x >= 0; x--) {
        if (!(axes >> x & 1))
            continue;
        if (r->at[x] + 1 < extent(r, x)) {
            move(r, x, r->at[x] + 1);
            return true;
        }
        move(r, x, 0);
    }
    return false;
}

/* The index along one dim; false: out of range, the load reads `fill`. */
static bool affine_at(const Run *r, const Affine *f, int64_t *out)
{
    int64_t i = f->offset;
    if (f->table) {
        int32_t from = r->at[f->table_axis];
        if (f->table_axis2 >= 0)
            from = from * f->table_stride + r->at[f->table_axis2];
        if (f->table[from] < 0 && f->guarded)
            return false;
        i += f->table[from];
    }
    for (int x = 0; x < r->k->n_axes; x++)
        i += (int64_t)f->coef[x] * r->at[x];
    if (f->div > 1) {
        if (i % f->div != 0)
            return false;
        i /= f->div;
    }
    *out = i;
    return !f->guarded || (i >= f->lo && i < f->hi);
}

/* Where the element of an access lies now; NULL: out of range. */
static double *element(const Run *r, AccessId at)
{
    const Access *s = &r->k->access[at];
    const Buffer *b = &r->l->buffers.at[s->buf];
    int64_t index[MAX_RANK] = {0};
    for (int d = 0; d < s->rank; d++)
        if (!affine_at(r, &s->dim[d], &index[d]))
            return NULL;
    return &r->mem[s->buf][layout_index(b, index) * (b->dtype == DT_BF16X2 ? 2 : 1)];
}

/* The product of two pairs; storage holds doubles, whatever the buffer's type. */
static double dot(const Run *r, const Expr *e)
{
    const double *a = element(r, r->k->expr[e->a].at), *b = element(r, r->k->expr[e->b].at);
    return a && b ? a[0] * b[0] + a[1] * b[1] : 0;
}

static double wrap(uint32_t bits)
{
    int32_t i;
    memcpy(&i, &bits, sizeof i);
    return i;
}
static uint32_t bits_of(double v) { return (uint32_t)(int64_t)v; }

static double load(const Run *r, const Expr *e)
{
    const Buffer *b = &r->l->buffers.at[r->k->access[e->at].buf];
    double v;
    if (b->kind == BUF_SCALAR) {
        v = r->scalars ? r->scalars[b->index] : 0;
    } else {
        const double *p = element(r, e->at);
        v = p ? *p : r->k->access[e->at].fill;
    }
    return e->is_int ? wrap(bits_of(v)) : v;
}

static double row_index(const Run *r, AccessId at)
{
    const Access *s = &r->k->access[at];
    const Buffer *b = &r->l->buffers.at[s->buf];
    int64_t flat = 0, i = 0;
    for (int d = b->batched ? 1 : 0; d < s->rank; d++) {
        affine_at(r, &s->dim[d], &i);
        flat = flat * b->shape.dim[d] + i;
    }
    return wrap((uint32_t)flat);
}

static double eval(Run *r, ExprId id);

/* Sum, maximum or the payload at the first maximum, over the axes of the expression. */
static double reduce(Run *r, const Expr *e)
{
    int32_t saved[MAX_AXIS];
    memcpy(saved, r->at, sizeof saved);
    double sum = 0, best = -INFINITY, payload = 0;
    bool first = true;
    if (first_point(r, e->axes)) {
        do {
            double v = eval(r, e->a);
            if (e->op == EX_SUM) {
                sum += v;
            } else if (first || (!isnan(best) && (isnan(v) || v > best))) {
                best = v;
                if (e->op == EX_ARGMAX)
                    payload = eval(r, e->b);
            }
            first = false;
        } while (next_point(r, e->axes));
    }
    for (int x = 0; x < r->k->n_axes; x++)
        if (e->axes >> x & 1)
            move(r, x, saved[x]);
    return e->op == EX_SUM ? sum : e->op == EX_ARGMAX ? payload : best;
}

static double integer_op(ExprOp op, double a, double b)
{
    uint32_t x = bits_of(a), y = bits_of(b);
    switch (op) {
    case EX_IADD: return wrap(x + y);
    case EX_IMUL: return wrap(x * y);
    case EX_IXOR: return wrap(x ^ y);
    case EX_ISHR: return wrap(x >> (y & 31));
    case EX_ULT: return x < y;
    default: return x == y;
    }
}

static double scalar_op(ExprOp op, double a, double b, double c)
{
    switch (op) {
    case EX_NEG: return -a;
    case EX_ADD: return a + b;
    case EX_SUB: return a - b;
    case EX_MUL: return a * b;
    case EX_DIV: return a / b;
    case EX_MIN: return fmin(a, b);
    case EX_MAX: return fmax(a, b);
    case EX_ABS: return fabs(a);
    case EX_SQRT: return sqrt(a);
    case EX_EXP: return exp(a);
    case EX_EXPM1: return expm1(a);
    case EX_LOG: return log(a);
    case EX_LOG1P: return log1p(a);
    case EX_TANH: return tanh(a);
    case EX_ERF: return erf(a);
    case EX_SIGMOID: return 1 / (1 + exp(-a));
    case EX_SOFTPLUS: return a > 0 ? a + log1p(exp(-a)) : log1p(exp(a));
    case EX_LT: return a < b;
    case EX_LE: return a <= b;
    case EX_GT: return a > b;
    case EX_GE: return a >= b;
    case EX_EQ: return a == b;
    case EX_AND: return a != 0 && b != 0;
    case EX_OR: return a != 0 || b != 0;
    case EX_SEL: return a != 0 ? b : c;
    case EX_IADD: case EX_IMUL: case EX_IXOR: case EX_ISHR: case EX_ULT: case EX_IEQ: return integer_op(op, a, b);
    case EX_TOINT: return isfinite(a) && fabs(a) < 2147483648.0 ? trunc(a) : 0;
    case EX_TOFLOAT: return a;
    default: BUG("no scalar operation %d", op);
    }
}

static double eval_now(Run *r, const Expr *e)
{
    switch (e->op) {
    case EX_CONST: return e->imm;
    case EX_ICONST: return e->iimm;
    case EX_LOAD: return load(r, e);
    case EX_INDEX: return r->at[e->axis];
    case EX_N: return (double)r->n;
    case EX_SUM: case EX_MAX_OVER: case EX_ARGMAX: return reduce(r, e);
    case EX_ROWINDEX: return row_index(r, e->at);
    case EX_DOT: return dot(r, e);
    default: break;
    }
    double a = eval(r, e->a), b = e->b ? eval(r, e->b) : 0, c = e->c ? eval(r, e->c) : 0;
    return scalar_op(e->op, a, b, c);
}

static double eval(Run *r, ExprId id)
{
    const Expr *e = &r->k->expr[id];
    bool holds = r->when[id] >= 0;
    for (int x = 0; holds && x < r->k->n_axes; x++)
        holds = !(e->free_axes >> x & 1) || r->when[id] >= r->moved[x];
    if (!holds) {
        double v = eval_now(r, e);
        r->value[id] = v;
        r->when[id] = r->tick;
    }
    return r->value[id];
}

static uint32_t out_axes(const Kernel *k, int o)
{
    uint32_t mask = 0;
    const Access *s = &k->access[k->out[o].at];
    for (int d = 0; d < s->rank; d++)
        for (int x = 0; x < k->n_axes; x++)
            mask |= s->dim[d].coef[x] ? 1u << x : 0;
    return mask;
}

/* Outputs with the same axes are computed at one point before any of them is stored: updates in place read old values. */
static void run_outputs(Run *r, uint64_t outs, uint32_t axes)
{
    const Kernel *k = r->k;
    if (!first_point(r, axes))
        return;
    do {
        double v[MAX_KERNEL_OUT] = {0};
        for (int o = 0; o < k->n_out; o++)
            if (outs >> o & 1)
                v[o] = eval(r, k->out[o].value);
        for (int o = 0; o < k->n_out; o++) {
            double *to = outs >> o & 1 ? element(r, k->out[o].at) : NULL;
            if (to)
                *to = v[o];
        }
    } while (next_point(r, axes));
}

static void run_kernel(Run *r)
{
    for (int32_t e = 0; e < r->k->n_expr; e++)
        r->when[e] = -1;
    memset(r->at, 0, sizeof r->at);
    memset(r->moved, 0, sizeof r->moved);
    r->tick = 0;
    for (uint64_t todo = ~0ull >> (64 - r->k->n_out); todo;) {   /* a bit for each of at most MAX_KERNEL_OUT outputs */
        uint32_t axes = out_axes(r->k, __builtin_ctzll(todo));
        uint64_t same = 0;
        for (int o = 0; o < r->k->n_out; o++)
            if ((todo >> o & 1) && out_axes(r->k, o) == axes)
                same |= 1ull << o;
        run_outputs(r, same, axes);
        todo &= ~same;
    }
}

void kernels_interpret(const KernelList *l, double **mem, int64_t n, const double *scalars)
{
    Arena *a = arena_new();
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        ArenaMark mark = arena_mark(a);
        Run r = {.l = l, .k = k, .mem = mem, .scalars = scalars, .n = n};
        r.value = NEWN(a, double, k->n_expr);
        r.when = NEWN(a, int64_t, k->n_expr);
        run_kernel(&r);
        arena_reset(a, mark);
    }
    arena_free(a);
}
