/* Losses: the value, its gradient at the logits, the count of right answers.
 *
 * In: cross_entropy and mse nodes; logits[n, k, positions...], labels i32 [n, positions...] or targets f32. Out: up to four
 * kernels: rows that count (only labels that may be negative), one row's loss and hit, the gradient, the sums over rows.
 * Relies on: label < k. Leaves: loss and correct in BUF_RESULT buffers when the graph says they are its results.
 *
 * Cross entropy of a row with smoothing e:  log SUM exp(x - m) - (1-e)*(x[label] - m) - e*mean(x - m),  m = MAX x. */
#include "codegen/lower_impl.h"

/* One loss node while it is lowered. */
typedef struct {
    Lower *lw;
    const Node *n;
    const Value *x;
    bool classes;              /* the targets are class ids */
    Shape rows; int n_rows;    /* [n, positions...] */
    BufId loss, hits;          /* per row */
    BufId counted;             /* cross entropy's mean: the number of rows that count */
} Loss;

/* The point of a row: x's point without dim 1. */
static Point row_of(const Point *p)
{
    Point r = point_none(p->rank - 1);
    for (int d = 0; d < r.rank; d++)
        r.dim[d] = p->dim[d ? d + 1 : 0];
    return r;
}

static uint32_t all_but(int rank, uint32_t keep) { return ((1u << rank) - 1) & ~keep; }

/* label >= 0 */
static ExprId is_counted(Lower *lw, ExprId label) { return op2(lw, EX_ULT, label, integer(lw, INT32_MIN)); }

static ExprId one_where(Lower *lw, ExprId condition) { return e_sel(lw, condition, number(lw, 1), number(lw, 0)); }

/* 1 where class axis 1 is at the label. */
static ExprId one_hot(Lower *lw, ExprId label) { return one_where(lw, op2(lw, EX_IEQ, e_index(lw, 1), label)); }

/* What the loss is a mean of: the rows that count, or (mse) all values of the real batch. */
static ExprId divisor(const Loss *s)
{
    return s->counted ? lower_load_buffer(s->lw, s->counted, &(Point){.rank = 0}) : e_count(s->lw, s->x, -1);
}

/* Axes over a [n, positions...] shape, all of one kind. */
static Point rows_axes(const Loss *s, AxisKind kind)
{
    Point p = point_none(s->rows.rank);
    for (int d = 0; d < p.rank; d++) {
        bool batch = d == 0 && s->x->batched;
        p.dim[d] = affine_of(kernel_axis(s->lw->k, kind, d ? "p" : "n", s->rows.dim[d], batch), 1, 0);
    }
    return p;
}

/* How many rows have a label that is not negative. */
static void count_rows(Loss *s)
{
    Lower *lw = s->lw;
    Shape scalar = {.rank = 0};
    lower_kernel(lw, s->n, "count");
    s->counted = lower_work(lw, arena_printf(lw->l->arena, "%s.n", lw->k->name), DT_F32, &scalar, false);
    Point p = rows_axes(s, AXIS_RED);
    ExprId rows = e_sum(lw, one_where(lw, is_counted(lw, lower_load(lw, s->n->in[1], &p))), all_but(p.rank, 0));
    lower_store(lw, s->counted, &(Point){.rank = 0}, rows);
    kernels_add(lw->l, lw->k);
}

/* One row's loss and whether its first maximum is the label. The kernel's axes: n, k (reduced), positions. */
static void row_kernel(Loss *s, ExprId (*row_loss)(const Loss *, const Point *, ExprId))
{
    Lower *lw = s->lw;
    lower_kernel(lw, s->n, "rows");
    s->loss = lower_work(lw, arena_printf(lw->l->arena, "%s.loss", lw->k->name), DT_F32, &s->rows, s->x->batched);
    Point p = lower_axes(lw, s->n->in[0]), row = row_of(&p);
    lw->k->axis[1].kind = AXIS_RED;
    ExprId label = s->classes ? lower_load(lw, s->n->in[1], &row) : 0;
    lower_store(lw, s->loss, &row, row_loss(s, &p, label));
    if (s->classes && lw->stored[s->n->out[2]]) {
        s->hits = lower_work(lw, arena_printf(lw->l->arena, "%s.hit", lw->k->name), DT_F32, &s->rows, s->x->batched);
        ExprId best = e_argmax(lw, lower_load(lw, s->n->in[0], &p), e_index(lw, 1), 2u);
        lower_store(lw, s->hits, &row, one_where(lw, op2(lw, EX_IEQ, best, label)));
    }
    kernels_add(lw->l, lw->k);
}

/* loss = SUM rows / divisor; correct = SUM hits */
static void sum_kernel(Loss *s)
{
    Lower *lw = s->lw;
    bool want_loss = lw->stored[s->n->out[0]], want_hits = lw->stored[s->n->out[2]];
    if (!want_loss && !want_hits)
        return;
    lower_kernel(lw, s->n, "sum");
    Point none = {.rank = 0};
    ExprId hits = number(lw, 0);
    if (want_loss || s->hits) {
        Point p = rows_axes(s, AXIS_RED);
        ExprId loss = e_sum(lw, lower_load_buffer(lw, s->loss, &p), all_but(p.rank, 0));
        if (want_loss)
            lower_store(lw, lower_buffer(lw, s->n->out[0]), &none, s->n->attrs.loss.reduction == 1 ? loss : e_div(lw, loss, divisor(s)));
        if (s->hits)
            hits = e_sum(lw, lower_load_buffer(lw, s->hits, &p), all_but(p.rank, 0));
    }
    if (want_hits)
        lower_store(lw, lower_buffer(lw, s->n->out[2]), &none, hits);
    kernels_add(lw->l, lw->k);
}

static Loss loss_of(Lower *lw, const Node *n)
{
    Loss s = {.lw = lw, .n = n, .x = val(lw, n->in[0])};
    s.classes = val(lw, n->in[1])->dtype != DT_F32;
    s.rows.rank = s.x->shape.rank - 1;
    for (int d = 0; d < s.rows.rank; d++)
        s.rows.dim[d] = s.x->shape.dim[d ? d + 1 : 0];
    return s;
}

/* ---- cross entropy ---- */
static ExprId cross_row(const Loss *s, const Point *p, ExprId label)
{
    Lower *lw = s->lw;
    double e = s->n->attrs.loss.smoothing;
    ExprId x = lower_load(lw, s->n->in[0], p), off = e_sub(lw, x, e_max(lw, x, 2u)), zero = number(lw, 0);
    ExprId total = op1(lw, EX_LOG, e_sum(lw, op1(lw, EX_EXP, off), 2u));
    ExprId at_label = e_sum(lw, e_sel(lw, op2(lw, EX_IEQ, e_index(lw, 1), label), off, zero), 2u);
    ExprId loss = e_sub(lw, total, e == 0 ? at_label : e_mul(lw, number(lw, 1 - e), at_label));
    if (e != 0)
        loss = e_sub(lw, loss, e_mul(lw, number(lw, e / (double)s->x->shape.dim[1]), e_sum(lw, off, 2u)));
    return e_sel(lw, is_counted(lw, label), loss, zero);
}

/* dlogits = (softmax(x) - (1-e)*onehot - e/k) / rows; 0 in rows that do not count */
static void cross_gradient(Loss *s)
{
    Lower *lw = s->lw;
    double e = s->n->attrs.loss.smoothing;
    lower_kernel(lw, s->n, "grad");
    Point p = lower_axes(lw, s->n->in[0]), row = row_of(&p);
    ExprId x = lower_load(lw, s->n->in[0], &p), label = lower_load(lw, s->n->in[1], &row), zero = number(lw, 0);
    ExprId ex = op1(lw, EX_EXP, e_sub(lw, x, e_max(lw, x, 2u)));
    double rest = e / (double)s->x->shape.dim[1];
    ExprId target = e_sel(lw, op2(lw, EX_IEQ, e_index(lw, 1), label), number(lw, 1 - e + rest), number(lw, rest));
    ExprId d = e_sub(lw, e_div(lw, ex, e_sum(lw, ex, 2u)), target);
    if (s->n->attrs.loss.reduction != 1)
        d = e_div(lw, d, divisor(s));
    lower_store(lw, lower_buffer(lw, s->n->out[1]), &p, e_sel(lw, is_counted(lw, label), d, zero));
    kernels_add(lw->l, lw->k);
}

void lower_cross_entropy(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    Loss s = loss_of(lw, n);
    if (n->attrs.loss.reduction != 1)
        count_rows(&s);
    if (lw->stored[n->out[1]])
        cross_gradient(&s);
    if (lw->stored[n->out[0]] || lw->stored[n->out[2]])
        row_kernel(&s, cross_row);
    sum_kernel(&s);
}

/* ---- mean squared error ---- */
static ExprId difference(const Loss *s, const Point *p, ExprId label)
{
    Lower *lw = s->lw;
    return e_sub(lw, lower_load(lw, s->n->in[0], p), s->classes ? one_hot(lw, label) : lower_load(lw, s->n->in[1], p));
}

static ExprId mse_row(const Loss *s, const Point *p, ExprId label)
{
    ExprId d = difference(s, p, label);
    return e_sum(s->lw, e_mul(s->lw, d, d), 2u);
}

static void mse_gradient(Loss *s)
{
    Lower *lw = s->lw;
    lower_kernel(lw, s->n, "grad");
    Point p = lower_axes(lw, s->n->in[0]), row = row_of(&p);
    ExprId d = difference(s, &p, s->classes ? lower_load(lw, s->n->in[1], &row) : 0);
    ExprId factor = number(lw, 2);
    if (s->n->attrs.loss.reduction != 1)
        factor = e_div(lw, factor, divisor(s));
    lower_store(lw, lower_buffer(lw, s->n->out[1]), &p, e_mul(lw, d, factor));
    kernels_add(lw->l, lw->k);
}

void lower_mse(Lower *lw, const Node *n, Point *at)
{
    (void)at;
    Loss s = loss_of(lw, n);
    if (lw->stored[n->out[1]])
        mse_gradient(&s);
    if (lw->stored[n->out[0]] || lw->stored[n->out[2]])
        row_kernel(&s, mse_row);
    sum_kernel(&s);
}
