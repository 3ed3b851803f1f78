/* Building kernels: buffers and their layouts, axes, accesses and the scalar expression of a Kernel.
 *
 * In: calls from codegen/lower*.c. Out: Kernels in a KernelList.
 * Relies on: an access is filled in before expr_load takes it. Leaves: operands before users, equal expressions and equal
 * loads shared, the type bits and free axes of every expression set.
 *
 * Layouts: a plain buffer is row-major in the order of `order`. A blocked one stores dim `block_dim` as ceil(dim / lanes)
 * blocks; the block index takes the dim's place in `order` and the lane is innermost, so [n/16][c][h][w][16] is
 * {block_dim 0, lanes 16, order 0 1 2 3}. */
#include "codegen/kernel.h"
#include <string.h>

/* ---- layouts ---- */
Layout layout_plain(int rank)
{
    Layout l = {.block_dim = -1, .lanes = 1};
    for (int d = 0; d < rank && d < MAX_RANK; d++)
        l.order[d] = (int8_t)d;
    return l;
}

Layout layout_innermost(int rank, int d)
{
    Layout l = layout_plain(rank);
    for (int i = d; i + 1 < rank; i++)
        l.order[i] = (int8_t)(i + 1);
    l.order[rank - 1] = (int8_t)d;
    return l;
}

Layout layout_rows(const Buffer *b)
{
    Layout l = layout_plain(b->shape.rank);
    if (b->paired < b->shape.rank)
        l.paired = b->paired;
    return l;
}

/* Elements that lie together: a pair or one. */
static int64_t layout_together(const Buffer *b) { return b->layout.paired ? 2 : 1; }

/* Places of dim d in the layout: its extent, or its number of blocks or pairs. */
static int64_t layout_places(const Buffer *b, int d)
{
    int64_t n = b->shape.dim[d];
    if (d == layout_pair_dim(&b->layout))
        return (n + 1) / 2;
    return d == b->layout.block_dim ? (n + b->layout.lanes - 1) / b->layout.lanes : n;
}

/* Strides of the dims; returns the elements of the whole. */
static int64_t walk_layout(const Buffer *b, int64_t stride[MAX_RANK])
{
    int64_t vector = b->layout.lanes * layout_together(b), step = b->layout.block_dim >= 0 ? vector : layout_together(b);
    for (int i = b->shape.rank - 1; i >= 0; i--) {
        int d = b->layout.order[i];
        if (d == (int)b->layout.odd - 1 && step / vector % 2 == 0)
            step += vector;
        stride[d] = step;
        step *= layout_places(b, d);
    }
    return step;
}

void layout_strides(const Buffer *b, int64_t stride[MAX_RANK]) { walk_layout(b, stride); }

int64_t buffer_elements(const Buffer *b)
{
    int64_t stride[MAX_RANK];
    return walk_layout(b, stride);
}

int64_t layout_index(const Buffer *b, const int64_t *index)
{
    int64_t stride[MAX_RANK], at = 0;
    layout_strides(b, stride);
    for (int d = 0; d < b->shape.rank; d++) {
        if (d == b->layout.block_dim)
            at += index[d] / b->layout.lanes * stride[d] + index[d] % b->layout.lanes * layout_together(b);
        else if (d == layout_pair_dim(&b->layout))
            at += index[d] / 2 * stride[d] + index[d] % 2;
        else
            at += index[d] * stride[d];
    }
    return at;
}

/* ---- lists, buffers, kernels ---- */
KernelList *kernels_new(Arena *a, const Graph *g)
{
    KernelList *l = NEW(a, KernelList);
    l->arena = a;
    l->graph = g;
    vec_push(a, &l->buffers, (Buffer){.name = "none"});
    l->buf_of_value = NEWN(a, BufId, g && g->values.len ? g->values.len : 1);
    return l;
}

BufId kernels_add_buffer(KernelList *l, const Buffer *b)
{
    Buffer c = *b;
    if (c.layout.lanes == 0)
        c.layout = layout_plain(c.shape.rank);
    if (!c.name)
        c.name = arena_printf(l->arena, "b%u", l->buffers.len);
    vec_push(l->arena, &l->buffers, c);
    return (BufId)(l->buffers.len - 1);
}

Kernel *kernel_new(KernelList *l, const char *name, LayerId layer, Span span)
{
    Kernel *k = NEW(l->arena, Kernel);
    k->name = name;
    k->layer = layer;
    k->span = span;
    k->cap_expr = 16;
    k->expr = NEWN(l->arena, Expr, k->cap_expr);
    k->n_expr = 1;
    return k;
}

Kernel *kernel_part(KernelList *l, const char *name, const Kernel *of)
{
    Kernel *k = kernel_new(l, name, of->layer, of->span);
    k->after = of->after;
    k->makes = of->makes || !of->n_out ? of->makes : of->access[of->out[0].at].buf;
    return k;
}

void kernel_cut_along(Kernel *k, int axis, int64_t size)
{
    k->strip_axis[k->n_strip] = (int8_t)axis;
    k->strip_size[k->n_strip++] = (int32_t)size;
}

bool kernel_share_strips(const Kernel *a, const Kernel *b) { return a->n_strip > 0 && b->n_strip > 0 && a->makes && a->makes == b->makes; }

/* The place of a maximum is found beside the maximum: that stays, read or not. */
static void keep_maximum(const Kernel *k, const Expr *argmax, ExprId *needed)
{
    for (int32_t i = 1; i < k->n_expr; i++)
        if (k->expr[i].op == EX_MAX_OVER && k->expr[i].a == argmax->a && k->expr[i].axes == argmax->axes)
            needed[i] = 1;
}

/* Drops expressions that no output needs, and accesses that only those read: schedulers look at all of them. */
static void kernel_prune(KernelList *l, Kernel *k)
{
    ExprId *expr = NEWN(l->arena, ExprId, k->n_expr);           /* new ids; first: 1 where needed */
    AccessId *access = NEWN(l->arena, AccessId, k->n_access + 1);
    int32_t n_expr = 1, n_access = 0;
    for (int o = 0; o < k->n_out; o++) {
        expr[k->out[o].value] = 1;
        access[k->out[o].at] = 1;
    }
    for (int32_t i = k->n_expr - 1; i > 0; i--) {
        const Expr *e = &k->expr[i];
        if (!expr[i])
            continue;
        expr[e->a] = expr[e->b] = expr[e->c] = 1;
        if (e->op == EX_ARGMAX)
            keep_maximum(k, e, expr);
        if (e->op == EX_LOAD || e->op == EX_ROWINDEX)
            access[e->at] = 1;
    }
    for (int32_t i = 0; i < k->n_access; i++) {
        if (!access[i])
            continue;
        k->access[n_access] = k->access[i];
        access[i] = (AccessId)n_access++;
    }
    expr[0] = 0;
    for (int32_t i = 1; i < k->n_expr; i++) {
        if (!expr[i])
            continue;
        Expr e = k->expr[i];
        e.a = expr[e.a];
        e.b = expr[e.b];
        e.c = expr[e.c];
        if (e.op == EX_LOAD || e.op == EX_ROWINDEX)
            e.at = access[e.at];
        k->expr[n_expr] = e;
        expr[i] = (ExprId)n_expr++;
    }
    for (int o = 0; o < k->n_out; o++)
        k->out[o] = (Out){access[k->out[o].at], expr[k->out[o].value]};
    k->n_expr = n_expr;
    k->n_access = n_access;
}

/* Names are made unique here: a second "conv1.act" becomes "conv1.act.2". */
void kernels_add(KernelList *l, Kernel *k)
{
    kernel_prune(l, k);
    const char *base = k->name;
    for (int count = 2;; count++) {
        bool taken = false;
        for (uint32_t i = 0; i < l->kernels.len && !taken; i++)
            taken = strcmp(l->kernels.at[i].name, k->name) == 0;
        if (!taken)
            break;
        k->name = arena_printf(l->arena, "%s.%d", base, count);
    }
    vec_push(l->arena, &l->kernels, *k);
}

Kernel *kernel_copy(KernelList *l, BufId from, BufId to, const char *name, const Kernel *for_)
{
    static const char *const dim_names[MAX_RANK] = {"n", "c", "h", "w", "d", "e"};
    const Buffer *b = &l->buffers.at[from];
    Kernel *k = kernel_part(l, name, for_);
    int axis[MAX_RANK];
    for (int d = 0; d < b->shape.rank; d++)
        axis[d] = kernel_axis(k, AXIS_PAR, dim_names[d], b->shape.dim[d], b->batched && d == 0);
    AccessId in = kernel_access(l, k, from);
    for (int d = 0; d < b->shape.rank; d++)
        affine_axis(access_dim(k, in, d), axis[d], 1);
    ExprId v = expr_load(l, k, in);
    AccessId out = kernel_access(l, k, to);
    for (int d = 0; d < b->shape.rank; d++)
        affine_axis(access_dim(k, out, d), axis[d], 1);
    kernel_out(k, out, v);
    return k;
}

bool kernel_is_copy(const Kernel *k) { return k->n_out == 1 && k->expr[k->out[0].value].op == EX_LOAD; }

bool kernel_writes(const Kernel *k, AccessId at)
{
    for (int o = 0; o < k->n_out; o++)
        if (k->out[o].at == at)
            return true;
    for (int i = 0; i < k->n_tile_sums; i++)
        if (k->tile_sum[i].at == at)
            return true;
    return false;
}

/* ---- axes and accesses ---- */
int kernel_axis(Kernel *k, AxisKind kind, const char *name, int64_t extent, bool batch)
{
    if (k->n_axes >= MAX_AXIS)
        BUG("kernel %s needs more than %d axes", k->name, MAX_AXIS);
    if (extent < 0 || extent > INT32_MAX)
        BUG("kernel %s: axis %s has extent %lld", k->name, name, (long long)extent);
    Axis *x = &k->axis[k->n_axes];
    *x = (Axis){.kind = kind, .batch = batch, .extent = (int32_t)extent};
    snprintf(x->name, sizeof x->name, "%s", name);
    for (uint32_t i = 0, other = 2; i < (uint32_t)k->n_axes; i++) {
        if (strcmp(k->axis[i].name, x->name) == 0) {
            snprintf(x->name, sizeof x->name, "%c%d", name[0], other++ % 100u);
            i = UINT32_MAX;
        }
    }
    return k->n_axes++;
}

AccessId kernel_access(KernelList *l, Kernel *k, BufId buf)
{
    if (k->n_access == k->cap_access) {
        int32_t cap = k->cap_access ? 2 * k->cap_access : 8;
        k->access = arena_grow(l->arena, k->access, sizeof *k->access * (size_t)k->n_access, sizeof *k->access * (size_t)cap);
        k->cap_access = cap;
    }
    const Buffer *b = &l->buffers.at[buf];
    Access *at = &k->access[k->n_access];
    memset(at, 0, sizeof *at);
    at->buf = buf;
    at->rank = (uint8_t)b->shape.rank;
    for (int d = 0; d < b->shape.rank; d++) {
        at->dim[d].hi = (int32_t)b->shape.dim[d];
        at->dim[d].div = 1;
        at->dim[d].table_axis = at->dim[d].table_axis2 = -1;
    }
    return (AccessId)k->n_access++;
}

int affine_unit_axis(const Affine *f, int n_axes)
{
    int found = -1;
    for (int a = 0; a < n_axes; a++) {
        if (!f->coef[a])
            continue;
        if (f->coef[a] != 1 || found >= 0)
            return -1;
        found = a;
    }
    return found;
}

int affine_pure_axis(const Affine *f, int n_axes) { return f->offset || f->table || f->div > 1 ? -1 : affine_unit_axis(f, n_axes); }

void affine_range(const Kernel *k, const Affine *f, int64_t *first, int64_t *last)
{
    *first = *last = f->offset;
    for (int a = 0; a < k->n_axes; a++) {
        int64_t far = (int64_t)f->coef[a] * (k->axis[a].extent - 1);
        *(far < 0 ? first : last) += far;
    }
}

void affine_axis(Affine *f, int axis, int32_t coef) { f->coef[axis] += coef; }

void affine_guard(Affine *f, int32_t lo, int32_t hi)
{
    f->guarded = true;
    f->lo = lo;
    f->hi = hi;
}

static bool affine_equal(const Affine *a, const Affine *b)
{
    return memcmp(a->coef, b->coef, sizeof a->coef) == 0 && a->offset == b->offset && a->lo == b->lo && a->hi == b->hi &&
           a->div == b->div && a->guarded == b->guarded && a->table == b->table && a->table_axis == b->table_axis &&
           a->table_axis2 == b->table_axis2 && a->table_stride == b->table_stride;
}

static bool access_equal(const Access *a, const Access *b)
{
    bool same = a->buf == b->buf && a->rank == b->rank && memcmp(&a->fill, &b->fill, sizeof a->fill) == 0;
    for (int d = 0; same && d < a->rank; d++)
        same = affine_equal(&a->dim[d], &b->dim[d]);
    return same;
}

uint32_t affine_axes(const Kernel *k, const Affine *f)
{
    uint32_t mask = 0;
    for (int a = 0; a < k->n_axes; a++)
        mask |= f->coef[a] ? 1u << a : 0;
    return mask;
}

static uint32_t axes_from_dim(const Kernel *k, AccessId at, int from_dim)
{
    uint32_t mask = 0;
    const Access *s = &k->access[at];
    for (int d = from_dim; d < s->rank; d++) {
        mask |= affine_axes(k, &s->dim[d]);
        if (s->dim[d].table)
            mask |= 1u << s->dim[d].table_axis;
        if (s->dim[d].table && s->dim[d].table_axis2 >= 0)
            mask |= 1u << s->dim[d].table_axis2;
    }
    return mask;
}

uint32_t access_axes(const Kernel *k, AccessId at) { return axes_from_dim(k, at, 0); }

/* ---- expressions ---- */
static uint32_t free_axes(const KernelList *l, const Kernel *k, const Expr *e)
{
    switch (e->op) {
    case EX_LOAD: return access_axes(k, e->at);
    case EX_ROWINDEX: return axes_from_dim(k, e->at, l->buffers.at[k->access[e->at].buf].batched ? 1 : 0);
    case EX_INDEX: return 1u << e->axis;
    default: break;
    }
    uint32_t mask = k->expr[e->a].free_axes | k->expr[e->b].free_axes | k->expr[e->c].free_axes;
    return mask & ~e->axes;
}

static void set_type(const KernelList *l, const Kernel *k, Expr *e)
{
    switch (e->op) {
    case EX_LT: case EX_LE: case EX_GT: case EX_GE: case EX_EQ: case EX_AND: case EX_OR: case EX_ULT: case EX_IEQ:
        e->is_bool = true;
        break;
    case EX_IADD: case EX_IMUL: case EX_IXOR: case EX_ISHR: case EX_TOINT:
    case EX_ICONST: case EX_INDEX: case EX_N: case EX_ROWINDEX: case EX_ARGMAX:
        e->is_int = true;
        break;
    case EX_LOAD: e->is_int = !dtype_is_float(l->buffers.at[k->access[e->at].buf].dtype); break;
    case EX_SEL:
        e->is_int = k->expr[e->b].is_int;
        e->is_bool = k->expr[e->b].is_bool;
        break;
    default: break;
    }
}

static bool expr_equal(const Expr *a, const Expr *b)
{
    return a->op == b->op && a->a == b->a && a->b == b->b && a->c == b->c && memcmp(&a->imm, &b->imm, sizeof a->imm) == 0 &&
           a->iimm == b->iimm && a->at == b->at && a->axis == b->axis && a->axes == b->axes;
}

ExprId expr_add(KernelList *l, Kernel *k, Expr e)
{
    for (int32_t i = 1; i < k->n_expr; i++)
        if (expr_equal(&k->expr[i], &e))
            return (ExprId)i;
    if (k->n_expr == k->cap_expr) {
        if (k->n_expr > INT16_MAX / 2)
            BUG("kernel %s has too many expressions", k->name);
        k->expr = arena_grow(l->arena, k->expr, sizeof *k->expr * (size_t)k->n_expr, sizeof *k->expr * (size_t)k->cap_expr * 2);
        k->cap_expr *= 2;
    }
    set_type(l, k, &e);
    e.free_axes = free_axes(l, k, &e);
    k->expr[k->n_expr] = e;
    return (ExprId)k->n_expr++;
}

ExprId expr_const(KernelList *l, Kernel *k, double v) { return expr_add(l, k, (Expr){.op = EX_CONST, .imm = v}); }
ExprId expr_iconst(KernelList *l, Kernel *k, int32_t v) { return expr_add(l, k, (Expr){.op = EX_ICONST, .iimm = v}); }

/* An access equal to an earlier one is dropped again when it was made last. */
ExprId expr_load(KernelList *l, Kernel *k, AccessId at)
{
    for (AccessId i = 0; i < at; i++) {
        if (access_equal(&k->access[i], &k->access[at])) {
            if (at == k->n_access - 1)
                k->n_access--;
            at = i;
        }
    }
    return expr_add(l, k, (Expr){.op = EX_LOAD, .at = at});
}

ExprId expr_op(KernelList *l, Kernel *k, ExprOp op, ExprId a, ExprId b, ExprId c)
{
    return expr_add(l, k, (Expr){.op = op, .a = a, .b = b, .c = c});
}

ExprId expr_reduce(KernelList *l, Kernel *k, ExprOp op, ExprId a, ExprId b, uint32_t axes)
{
    return expr_add(l, k, (Expr){.op = op, .a = a, .b = b, .axes = axes});
}

bool kernel_cuts(const Kernel *k, int axis)
{
    for (int i = 0; i < k->n_strip; i++)
        if (k->strip_axis[i] == axis)
            return true;
    return false;
}

double kernel_points(const Kernel *k, uint32_t axes)
{
    double n = 1;
    for (int a = 0; a < k->n_axes; a++)
        if (axes >> a & 1)
            n *= k->axis[a].extent;
    return n;
}

uint32_t expr_axes(const Kernel *k, ExprId e) { return k->expr[e].free_axes; }

void kernel_out(Kernel *k, AccessId at, ExprId value)
{
    if (k->n_out >= MAX_KERNEL_OUT)
        BUG("kernel %s has more than %d outputs", k->name, MAX_KERNEL_OUT);
    k->out[k->n_out++] = (Out){at, value};
}
