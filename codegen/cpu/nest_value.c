/* Values of a nest: the scalar expression at a tile point.
 * In: bound axes and the current tile point. Idea: a memo keyed by expression and by the point's coordinates on the axes
 * the expression depends on makes tile points share loads: a register tile of a contraction is nothing more than its
 * points evaluated one after the other. Marks cut the memo back when a loop closes, since its values do not dominate. */
#include "codegen/cpu/nest.h"

#include <string.h>

uint32_t memo_mark(const Ctx *c) { return c->memo.len; }
void memo_reset(Ctx *c, uint32_t mark) { c->memo.len = mark; }

static bool same_point(const Ctx *c, const Memo *m)
{
    uint32_t axes = c->axes_of[m->expr];
    for (int a = 0; a < c->k->n_axes; a++)
        if ((axes >> a & 1) && m->pt[a] != c->pt[a])
            return false;
    return true;
}

LLVMValueRef memo_find(const Ctx *c, ExprId e)
{
    for (uint32_t i = c->memo.len; i-- > 0;)
        if (c->memo.at[i].expr == e && same_point(c, &c->memo.at[i]))
            return c->memo.at[i].value;
    return NULL;
}

void memo_put(Ctx *c, ExprId e, LLVMValueRef v)
{
    Memo m = {.expr = e, .value = v};
    memcpy(m.pt, c->pt, sizeof m.pt);
    vec_push(c->e->arena, &c->memo, m);
}

LLVMValueRef as_lanes(Ctx *c, LLVMValueRef v)
{
    return vector_active(c) && !is_vector(v) ? emit_splat(c->e, v, c->nest->lanes) : v;
}

/* ---- leaves and operations ---- */
static LLVMValueRef eval_index(Ctx *c, int axis)
{
    LLVMValueRef i = LLVMBuildTrunc(c->e->b, axis_index(c, axis), c->e->i32, "");
    if (!vector_active(c) || axis != c->nest->vector_axis)
        return i;
    return LLVMBuildAdd(c->e->b, emit_splat(c->e, i, c->nest->lanes), emit_iota(c->e, c->nest->lanes), "");
}

/* Row-major position inside the sample, of the element that access `at` names. */
static LLVMValueRef eval_row_index(Ctx *c, AccessId at)
{
    const Access *x = &c->k->access[at];
    const Shape *s = &c->l->buffers.at[x->buf].shape;
    LLVMValueRef sum = NULL;
    for (int d = 1; d < x->rank; d++) {
        LLVMValueRef i = affine_index(c, &x->dim[d]);
        LLVMTypeRef t = is_vector(i) ? emit_vec(c->e, c->e->i32, c->nest->lanes) : c->e->i32;
        i = LLVMBuildTrunc(c->e->b, i, t, "");
        if (sum) {
            LLVMValueRef size = emit_i32(c->e, (int32_t)s->dim[d]);
            if (is_vector(i) != is_vector(sum)) {
                i = as_lanes(c, i);
                sum = as_lanes(c, sum);
            }
            sum = LLVMBuildMul(c->e->b, sum, is_vector(sum) ? emit_splat(c->e, size, c->nest->lanes) : size, "");
            i = LLVMBuildAdd(c->e->b, sum, i, "");
        }
        sum = i;
    }
    return sum ? sum : emit_i32(c->e, 0);
}

/* A product that only this sum needs so far: the two become one rounding. */
static bool is_fresh_product(const Ctx *c, ExprId e) { return c->k->expr[e].op == EX_MUL && !c->k->expr[e].is_int && !memo_find(c, e); }

/* x + a * b, or x - a * b (negate). */
static LLVMValueRef eval_fused(Ctx *c, ExprId x, ExprId product, bool negate)
{
    const Expr *m = &c->k->expr[product];
    LLVMValueRef v[3] = {eval(c, m->a), eval(c, m->b), eval(c, x)};
    bool vec = is_vector(v[0]) || is_vector(v[1]) || is_vector(v[2]);
    for (int i = 0; i < 3; i++)
        if (vec && !is_vector(v[i]))
            v[i] = emit_splat(c->e, v[i], c->nest->lanes);
    return emit_fma(c->e, negate ? LLVMBuildFNeg(c->e->b, v[0], "") : v[0], v[1], v[2]);
}

static LLVMValueRef eval_operation(Ctx *c, const Expr *x)
{
    if (x->op == EX_ADD && is_fresh_product(c, x->b))
        return eval_fused(c, x->a, x->b, false);
    if (x->op == EX_ADD && is_fresh_product(c, x->a))
        return eval_fused(c, x->b, x->a, false);
    if (x->op == EX_SUB && is_fresh_product(c, x->b))
        return eval_fused(c, x->a, x->b, true);
    LLVMValueRef v[3] = {eval(c, x->a), x->b ? eval(c, x->b) : NULL, x->c ? eval(c, x->c) : NULL};
    bool vec = false;
    for (int i = 0; i < 3; i++)
        vec = vec || (v[i] && is_vector(v[i]));
    for (int i = 0; i < 3; i++)
        if (vec && v[i] && !is_vector(v[i]))
            v[i] = emit_splat(c->e, v[i], c->nest->lanes);
    return emit_scalar_op(c->e, x->op, v[0], v[1], v[2]);
}

/* A load of a transposed tile: the first point asked for computes all. */
static LLVMValueRef eval_transposed(Ctx *c, ExprId e)
{
    LLVMValueRef rows[32];
    int axis = c->nest->transpose_axis;
    int32_t point = c->pt[axis];
    access_load_transposed(c, c->k->expr[e].at, rows);
    for (c->pt[axis] = 0; c->pt[axis] < c->nest->lanes; c->pt[axis]++)
        memo_put(c, e, rows[c->pt[axis]]);
    c->pt[axis] = point;
    return rows[point];
}

static LLVMValueRef eval_reduction_here(Ctx *c, ExprId e)
{
    reduce_group(c, &e, 1);
    return memo_find(c, e);
}

LLVMValueRef eval(Ctx *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    if (x->op == EX_CONST)
        return emit_f32(c->e, x->imm);
    if (x->op == EX_ICONST)
        return emit_i32(c->e, x->iimm);
    LLVMValueRef v = memo_find(c, e);
    if (v)
        return v;
    switch (x->op) {
    case EX_LOAD:
        if (access_transposes(c, x->at))
            return eval_transposed(c, e);
        v = access_load(c, x->at, NULL); break;
    case EX_INDEX: v = eval_index(c, x->axis); break;
    case EX_N: v = LLVMBuildTrunc(c->e->b, c->n, c->e->i32, ""); break;
    case EX_ROWINDEX: v = eval_row_index(c, x->at); break;
    case EX_SUM: case EX_MAX_OVER: case EX_ARGMAX: return eval_reduction_here(c, e);
    default: v = eval_operation(c, x); break;
    }
    memo_put(c, e, v);
    return v;
}

uint32_t bound_mask(const Ctx *c)
{
    uint32_t m = 0;
    for (int a = 0; a < c->k->n_axes; a++)
        m |= (uint32_t)c->axis[a].bound << a;
    return m;
}

void hoist(Ctx *c)
{
    uint32_t bound = bound_mask(c);
    bool *wanted = NEWN(c->e->arena, bool, c->k->n_expr);
    for (ExprId e = 1; e < c->k->n_expr; e++) {
        const Expr *x = &c->k->expr[e];
        ExprId op[3] = {x->a, x->b, x->c};
        for (int i = 0; i < 3; i++)
            if (op[i] && (c->axes_of[e] & ~bound || expr_is_reduction(x->op)))
                wanted[op[i]] = true;
    }
    for (ExprId e = 1; e < c->k->n_expr; e++) {
        const Expr *x = &c->k->expr[e];
        if (!wanted[e] || x->op == EX_CONST || x->op == EX_ICONST || (c->axes_of[e] & ~bound) || memo_find(c, e))
            continue;
        bool points = false;
        for (int a = 0; a < c->k->n_axes; a++)
            points = points || ((c->axes_of[e] >> a & 1) && c->axis[a].points > 1);
        if (!points)
            eval(c, e);
    }
}
