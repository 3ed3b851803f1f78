/* The rules of kernel.h, checked: after lowering, in debug and test builds.
 *
 * In: a KernelList. Out: true, or false and a sentence naming kernel and rule.
 * Rules: operands before users and of the right type; accesses in range or guarded; stores affine; every value
 * depends only on axes of its output; every buffer a kernel writes is covered exactly once by all stores together; no
 * buffer is read before it is whole, and no old state after its update.
 *
 * Cover: the dims of a store use disjoint sets of axes, so a store is a product of one set of indices per dim (a guarded store drops some). The sizes
 * of the products must add up to the buffer's, and any two products must be disjoint in some dim. */
#include "codegen/kernel.h"
#include <stdarg.h>
#include <string.h>

typedef struct { const KernelList *l; const Kernel *k; const char **why; Arena *tmp; } Check;

static bool refuse(const Check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(const Check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    *c->why = arena_printf(c->l->arena, "kernel %s: %s", c->k ? c->k->name : "list", arena_vprintf(c->l->arena, fmt, ap));
    va_end(ap);
    return false;
}

/* ---- accesses ---- */
static void table_range(const Check *c, const Affine *f, int64_t *lo, int64_t *hi)
{
    int64_t n1 = c->k->axis[f->table_axis].extent, n2 = f->table_axis2 >= 0 ? c->k->axis[f->table_axis2].extent : 1;
    int64_t stride = f->table_axis2 >= 0 ? f->table_stride : 1;
    bool any = false;
    *lo = *hi = 0;
    for (int64_t i = 0; i < n1; i++) {
        for (int64_t j = 0; j < n2; j++) {
            int64_t v = f->table[i * stride + j];
            if (v < 0 && f->guarded)
                continue;
            *lo = !any || v < *lo ? v : *lo;
            *hi = !any || v > *hi ? v : *hi;
            any = true;
        }
    }
}

/* A slice's samples, batch_step * slice + n', end with the batch: by how much the extents alone overstate the index. */
static int64_t past_batch(const Check *c, const Affine *f, int x)
{
    const Axis *a = &c->k->axis[x];
    if (x >= c->k->n_axes || !c->l->graph || a->batch_step <= 0 || f->coef[x] != 1 || f->coef[a->batch_base] != a->batch_step)
        return 0;
    int64_t most = (int64_t)a->batch_step * (c->k->axis[a->batch_base].extent - 1) + a->extent - 1;
    return most > c->l->graph->batch - 1 ? most - (c->l->graph->batch - 1) : 0;
}

static bool check_affine(const Check *c, const Access *s, int d)
{
    const Affine *f = &s->dim[d];
    const Buffer *b = &c->l->buffers.at[s->buf];
    int64_t lo = f->offset, hi = f->offset, table_lo, table_hi, dim = b->shape.dim[d];
    for (int x = 0; x < MAX_AXIS; x++) {
        if (f->coef[x] && x >= c->k->n_axes)
            return refuse(c, "%s uses axis %d, which does not exist", b->name, x);
        if (f->coef[x] && c->k->axis[x].extent == 0)
            return true;
        if (f->coef[x])
            *(f->coef[x] > 0 ? &hi : &lo) += (int64_t)f->coef[x] * (c->k->axis[x].extent - 1);
        hi -= past_batch(c, f, x);
    }
    if (f->table) {
        if (f->table_axis < 0 || f->table_axis >= c->k->n_axes || f->table_axis2 >= c->k->n_axes)
            return refuse(c, "%s uses a table over an axis that does not exist", b->name);
        table_range(c, f, &table_lo, &table_hi);
        lo += table_lo;
        hi += table_hi;
    }
    if (f->div > 1 && !f->guarded)
        return refuse(c, "%s divides an index without a guard", b->name);
    if (f->guarded ? f->lo < 0 || f->hi > dim : lo < 0 || hi >= dim)
        return refuse(c, "index %d of %s runs over %lld..%lld, outside 0..%lld", d, b->name, (long long)(f->guarded ? f->lo : lo),
                      (long long)(f->guarded ? f->hi - 1 : hi), (long long)dim - 1);
    return true;
}

static bool check_accesses(const Check *c)
{
    for (int i = 0; i < c->k->n_access; i++) {
        const Access *s = &c->k->access[i];
        if (s->buf <= 0 || s->buf >= (BufId)c->l->buffers.len)
            return refuse(c, "access %d has no buffer", i);
        if (s->rank != c->l->buffers.at[s->buf].shape.rank)
            return refuse(c, "access %d of %s has rank %d", i, c->l->buffers.at[s->buf].name, s->rank);
        for (int d = 0; d < s->rank; d++)
            if (!check_affine(c, s, d))
                return false;
    }
    return true;
}

/* ---- expressions ---- */
typedef enum { T_FLOAT, T_INT, T_BOOL } Type;
static Type type_of(const Check *c, ExprId e) { return c->k->expr[e].is_bool ? T_BOOL : c->k->expr[e].is_int ? T_INT : T_FLOAT; }

/* Types of the operands: f float, i int, b bool, = as the second operand. */
static const char *signature(ExprOp op)
{
    switch (op) {
    case EX_NEG: case EX_ABS: case EX_SQRT: case EX_EXP: case EX_EXPM1: case EX_LOG: case EX_LOG1P: case EX_TANH: case EX_ERF:
    case EX_SIGMOID: case EX_SOFTPLUS: case EX_TOINT: case EX_SUM: case EX_MAX_OVER: return "f";
    case EX_ADD: case EX_SUB: case EX_MUL: case EX_DIV: case EX_MIN: case EX_MAX:
    case EX_LT: case EX_LE: case EX_GT: case EX_GE: case EX_EQ: return "ff";
    case EX_AND: case EX_OR: return "bb";
    case EX_SEL: return "b.=";
    case EX_IADD: case EX_IMUL: case EX_IXOR: case EX_ISHR: case EX_ULT: case EX_IEQ: case EX_DOT: return "ii";
    case EX_TOFLOAT: return "i";
    case EX_ARGMAX: return "fi";
    default: return "";
    }
}

static bool check_operands(const Check *c, int id)
{
    const Expr *e = &c->k->expr[id];
    const ExprId arg[3] = {e->a, e->b, e->c};
    const char *sig = signature(e->op);
    int n = (int)strlen(sig);
    for (int i = 0; i < 3; i++) {
        if (i >= n ? arg[i] != 0 : arg[i] <= 0 || arg[i] >= id)
            return refuse(c, "expression %d, operand %d is %d", id, i, arg[i]);
        if (i >= n || sig[i] == '.')
            continue;
        Type want = sig[i] == 'f' ? T_FLOAT : sig[i] == 'i' ? T_INT : sig[i] == 'b' ? T_BOOL : type_of(c, arg[1]);
        if (type_of(c, arg[i]) != want)
            return refuse(c, "expression %d, operand %d has the wrong type", id, i);
    }
    return true;
}

static bool check_exprs(const Check *c)
{
    for (int id = 1; id < c->k->n_expr; id++) {
        const Expr *e = &c->k->expr[id];
        if (!check_operands(c, id))
            return false;
        bool has_access = e->op == EX_LOAD || e->op == EX_ROWINDEX, reduces = e->op >= EX_SUM && e->op <= EX_ARGMAX;
        if (has_access && (e->at < 0 || e->at >= c->k->n_access))
            return refuse(c, "expression %d has no access", id);
        if (e->op == EX_INDEX && (e->axis < 0 || e->axis >= c->k->n_axes))
            return refuse(c, "expression %d has no axis", id);
        if (reduces ? e->axes == 0 || e->axes >> c->k->n_axes : e->axes != 0)
            return refuse(c, "expression %d reduces axes %x", id, e->axes);
    }
    return true;
}

/* ---- outputs ---- */
static bool check_outs(const Check *c)
{
    uint32_t stored = 0, reduced = 0;
    if (c->k->n_out == 0)
        return refuse(c, "no output");
    for (int o = 0; o < c->k->n_out; o++) {
        const Out *out = &c->k->out[o];
        if (out->at < 0 || out->at >= c->k->n_access || out->value <= 0 || out->value >= c->k->n_expr)
            return refuse(c, "output %d has no access or value", o);
        const Access *s = &c->k->access[out->at];
        const Buffer *b = &c->l->buffers.at[s->buf];
        uint32_t mask = 0;
        for (int d = 0; d < s->rank; d++) {
            const Affine *f = &s->dim[d];
            if (f->table || f->div > 1)
                return refuse(c, "the store to %s is not plainly affine", b->name);
            if (mask & affine_axes(c->k, f))
                return refuse(c, "two dims of the store to %s share an axis", b->name);
            mask |= affine_axes(c->k, f);
        }
        if (expr_axes(c->k, out->value) & ~mask)
            return refuse(c, "the value of %s depends on an axis that its store lacks", b->name);
        if (type_of(c, out->value) != (dtype_is_float(b->dtype) ? T_FLOAT : T_INT))
            return refuse(c, "the value of %s has the wrong type", b->name);
        if (b->kind == BUF_INPUT || b->kind == BUF_LABELS || b->kind == BUF_CONST || b->kind == BUF_SCALAR)
            return refuse(c, "%s cannot be written", b->name);
        stored |= mask;
    }
    for (int i = 1; i < c->k->n_expr; i++)
        reduced |= c->k->expr[i].axes;
    for (int x = 0; x < c->k->n_axes; x++) {
        if (!((stored | reduced) >> x & 1) || (c->k->axis[x].kind == AXIS_RED && (stored >> x & 1)))
            return refuse(c, "axis %s is not used as its kind says", c->k->axis[x].name);
    }
    return true;
}

/* ---- cover ---- */
typedef struct { uint8_t *in[MAX_RANK]; int64_t count[MAX_RANK]; } Box;   /* the set of indices per dim, as bytes */

static bool box_of(const Check *c, const Access *s, Box *box)
{
    const Buffer *b = &c->l->buffers.at[s->buf];
    for (int d = 0; d < s->rank; d++) {
        int32_t at[MAX_AXIS] = {0};
        int64_t points = 1, dim = b->shape.dim[d];
        for (int x = 0; x < c->k->n_axes; x++)
            points *= s->dim[d].coef[x] ? c->k->axis[x].extent : 1;
        box->in[d] = NEWN(c->tmp, uint8_t, dim ? dim : 1);
        for (int64_t i = 0; i < points; i++) {
            int64_t index = s->dim[d].offset;
            for (int x = 0; x < c->k->n_axes; x++)
                index += (int64_t)s->dim[d].coef[x] * at[x];
            bool dropped = s->dim[d].guarded && (index < s->dim[d].lo || index >= s->dim[d].hi);
            box->count[d] += !dropped;
            if (!dropped && (index < 0 || index >= dim || box->in[d][index]++))
                return refuse(c, "the store to %s writes index %lld of dim %d twice or out of range", b->name, (long long)index, d);
            for (int x = 0; x < c->k->n_axes; x++) {
                if (!s->dim[d].coef[x])
                    continue;
                if (++at[x] < c->k->axis[x].extent)
                    break;
                at[x] = 0;
            }
        }
    }
    return true;
}

static bool boxes_disjoint(const Box *a, const Box *b, const Shape *s)
{
    for (int d = 0; d < s->rank; d++) {
        bool meet = false;
        for (int64_t i = 0; i < s->dim[d] && !meet; i++)
            meet = a->in[d][i] && b->in[d][i];
        if (!meet)
            return true;
    }
    return false;
}

/* One store of the list; those to one buffer are linked. */
typedef struct { const Kernel *k; const Access *at; int32_t next; Box box; } Store;
typedef struct { Store *at; int32_t *first; } Stores;   /* first: by BufId; 0: none */

static Stores collect_stores(const Check *c)
{
    int32_t n = 1;
    for (uint32_t i = 0; i < c->l->kernels.len; i++)
        n += c->l->kernels.at[i].n_out;
    Stores s = {NEWN(c->tmp, Store, n), NEWN(c->tmp, int32_t, c->l->buffers.len)};
    n = 1;
    for (uint32_t i = 0; i < c->l->kernels.len; i++) {
        const Kernel *k = &c->l->kernels.at[i];
        for (int o = 0; o < k->n_out; o++, n++) {
            s.at[n].k = k;
            s.at[n].at = &k->access[k->out[o].at];
            s.at[n].next = s.first[s.at[n].at->buf];
            s.first[s.at[n].at->buf] = n;
        }
    }
    return s;
}

/* Whether the stores to buffer `buf`, if any, cover it exactly once. */
static bool check_cover(Check *c, Stores *s, BufId buf)
{
    const Buffer *b = &c->l->buffers.at[buf];
    int64_t total = 0, whole = 1;
    ArenaMark mark = arena_mark(c->tmp);
    for (int32_t i = s->first[buf]; i; i = s->at[i].next) {
        int64_t size = 1;
        c->k = s->at[i].k;
        if (!box_of(c, s->at[i].at, &s->at[i].box))
            return false;
        for (int d = 0; d < b->shape.rank; d++)
            size *= s->at[i].box.count[d];
        for (int32_t j = s->first[buf]; j != i; j = s->at[j].next)
            if (!boxes_disjoint(&s->at[i].box, &s->at[j].box, &b->shape))
                return refuse(c, "%s is written twice", b->name);
        total += size;
    }
    for (int d = 0; d < b->shape.rank; d++)
        whole *= b->shape.dim[d];
    if (s->first[buf] && total != whole)
        return refuse(c, "%lld of the %lld elements of %s are written", (long long)total, (long long)whole, b->name);
    arena_reset(c->tmp, mark);
    return true;
}

/* ---- order of kernels ---- */
static BufId storage(const KernelList *l, BufId b)
{
    while (l->buffers.at[b].alias_of)
        b = l->buffers.at[b].alias_of;
    return b;
}

static bool same_point(const Access *a, const Access *b)
{
    for (int d = 0; d < a->rank; d++)
        if (a->dim[d].guarded || a->dim[d].table || a->dim[d].offset != b->dim[d].offset ||
            memcmp(a->dim[d].coef, b->dim[d].coef, sizeof a->dim[d].coef) != 0)
            return false;
    return a->rank == b->rank;
}

static bool is_made_by_kernels(const Buffer *b)
{
    return b->kind == BUF_WORK || b->kind == BUF_OUTPUT || b->kind == BUF_RESULT || b->updates;
}

/* Loads of kernel c->k: of buffers that are whole; of a state being updated here only at the stored point. */
static bool check_loads(const Check *c, const int *writers_left, const BufId *updated)
{
    for (int e = 1; e < c->k->n_expr; e++) {
        if (c->k->expr[e].op != EX_LOAD)
            continue;
        const Access *s = &c->k->access[c->k->expr[e].at];
        const Buffer *b = &c->l->buffers.at[s->buf];
        BufId root = storage(c->l, s->buf);
        if (is_made_by_kernels(&c->l->buffers.at[root]) && writers_left[root] != 0)
            return refuse(c, "%s is read before it is written", b->name);
        if (updated[root])
            return refuse(c, "%s is read after its update", b->name);
        for (int o = 0; o < c->k->n_out; o++) {
            const Access *w = &c->k->access[c->k->out[o].at];
            BufId to = storage(c->l, w->buf);
            if ((to == root || c->l->buffers.at[to].updates == root) && !same_point(s, w))
                return refuse(c, "%s is updated in place but read at another point", b->name);
        }
    }
    return true;
}

static bool check_order(Check *c)
{
    int *left = NEWN(c->tmp, int, c->l->buffers.len);
    BufId *updated = NEWN(c->tmp, BufId, c->l->buffers.len);
    for (uint32_t i = 0; i < c->l->kernels.len; i++)
        for (int o = 0; o < c->l->kernels.at[i].n_out; o++)
            left[storage(c->l, c->l->kernels.at[i].access[c->l->kernels.at[i].out[o].at].buf)]++;
    for (uint32_t b = 1; b < c->l->buffers.len; b++)
        if (left[b] == 0 && is_made_by_kernels(&c->l->buffers.at[b]) && !c->l->buffers.at[b].alias_of)
            left[b] = -1;   /* nobody writes it: no read is right */
    for (uint32_t i = 0; i < c->l->kernels.len; i++) {
        c->k = &c->l->kernels.at[i];
        if (!check_loads(c, left, updated))
            return false;
        for (int o = 0; o < c->k->n_out; o++) {
            BufId to = storage(c->l, c->k->access[c->k->out[o].at].buf);
            left[to]--;
            if (c->l->buffers.at[to].updates)
                updated[storage(c->l, c->l->buffers.at[to].updates)] = to;
        }
    }
    return true;
}

static bool check_buffers(Check *c)
{
    for (uint32_t i = 1; i < c->l->buffers.len; i++) {
        const Buffer *b = &c->l->buffers.at[i];
        if (b->shape.rank < 0 || b->shape.rank > MAX_RANK)
            return refuse(c, "buffer %s has rank %d", b->name, b->shape.rank);
        if (b->alias_of && b->dtype != DT_BF16X2 && shape_elements(&b->shape) != shape_elements(&c->l->buffers.at[b->alias_of].shape))
            return refuse(c, "buffer %s is an alias of another size", b->name);
        if (b->updates && (c->l->buffers.at[b->updates].kind != BUF_STATE || !shape_equal(&b->shape, &c->l->buffers.at[b->updates].shape)))
            return refuse(c, "buffer %s updates something else than a state of its shape", b->name);
    }
    return true;
}

bool kernels_verify(const KernelList *l, const char **why)
{
    Check c = {.l = l, .why = why, .tmp = arena_new()};
    bool ok = check_buffers(&c);
    for (uint32_t i = 0; ok && i < l->kernels.len; i++) {
        c.k = &l->kernels.at[i];
        ok = check_accesses(&c) && check_exprs(&c) && check_outs(&c);
    }
    Stores stores = {0};
    if (ok)
        stores = collect_stores(&c);
    for (uint32_t b = 1; ok && b < l->buffers.len; b++)
        ok = check_cover(&c, &stores, (BufId)b);
    c.k = NULL;
    ok = ok && check_order(&c);
    arena_free(c.tmp);
    return ok;
}
