/* Reductions of a nest: sums, maxima and their indices, with accumulators.
 * In: bound axes. Out: the results, memoized at every tile point.
 * Reductions over the same axes share their loops; each tile point has an accumulator, in registers as long as there are enough. A load
 * that is out of range for certain adds nothing and is left out. */
#include "codegen/cpu/nest.h"

#include <math.h>
#include <string.h>

static bool is_product(const Expr *x) { return x->op == EX_MUL || x->op == EX_DOT; }

/* ---- what an out-of-range load means to a reduction ---- */
/* Marks the loads of e whose being out of range makes e equal to `zero` (0 for sums, -inf for maxima). */
static void mark_skippable(Ctx *c, ExprId e, double zero)
{
    const Expr *x = &c->k->expr[e];
    if (x->op == EX_LOAD) {
        if (c->k->access[x->at].fill == zero)
            c->acc[x->at].skippable = true;
    } else if (is_product(x) && zero == 0) {
        mark_skippable(c, x->a, 0);
        mark_skippable(c, x->b, 0);
    } else if (x->op == EX_SEL && zero == 0) {
        const Expr *other = &c->k->expr[x->c];
        if (other->op == EX_CONST && other->imm == 0)
            mark_skippable(c, x->b, 0);
    } else if (x->op == EX_NEG && zero == 0) {
        mark_skippable(c, x->a, 0);
    }
}

static bool certainly_outside(Ctx *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    if (x->op == EX_LOAD && c->acc[x->at].skippable) {
        bool skip = false;
        if (memo_find(c, e))
            return false;
        LLVMValueRef v = access_load(c, x->at, &skip);
        if (!skip)
            memo_put(c, e, v);
        return skip;
    }
    if (is_product(x))
        return certainly_outside(c, x->a) || certainly_outside(c, x->b);
    if (x->op == EX_SEL)
        return certainly_outside(c, x->b);
    return x->op == EX_NEG && certainly_outside(c, x->a);
}

/* ---- reductions ---- */
enum { FEW_POINTS = 4, MAX_GROUP = 6 };
typedef struct {
    ExprId expr[MAX_GROUP];
    int n;
    uint32_t points;              /* axes with unrolled points that the results depend on */
    int32_t point_base;           /* accumulators of point p start at p * n */
    LLVMValueRef *acc;            /* allocas */
    int n_axes; int axis[MAX_AXIS];
    bool lanes;                   /* accumulators are vectors */
} Group;

static int point_number(const Ctx *c, uint32_t mask)
{
    int i = 0;
    for (int a = 0; a < c->k->n_axes; a++)
        if (mask >> a & 1)
            i = i * c->axis[a].points + c->pt[a];
    return i;
}

static int point_count(const Ctx *c, uint32_t mask)
{
    int n = 1;
    for (int a = 0; a < c->k->n_axes; a++)
        if (mask >> a & 1)
            n *= c->axis[a].points;
    return n;
}

static LLVMValueRef identity(Ctx *c, const Group *g, const Expr *x)
{
    LLVMValueRef v = x->op == EX_SUM ? (x->is_int ? emit_i32(c->e, 0) : emit_f32(c->e, 0))
                     : x->op == EX_MAX_OVER ? LLVMConstReal(c->e->f32, -INFINITY) : emit_i32(c->e, 0);
    return g->lanes ? emit_splat(c->e, v, c->nest->lanes) : v;
}

static LLVMValueRef value_in_group(Ctx *c, const Group *g, ExprId e)
{
    LLVMValueRef v = eval(c, e);
    return g->lanes && !is_vector(v) ? emit_splat(c->e, v, c->nest->lanes) : v;
}

/* v > best, or v is NaN: the first maximum wins, NaN beats everything. */
static LLVMValueRef takes_over(Ctx *c, LLVMValueRef v, LLVMValueRef best)
{
    LLVMValueRef gt = LLVMBuildFCmp(c->e->b, LLVMRealOGT, v, best, "");
    return LLVMBuildOr(c->e->b, gt, LLVMBuildFCmp(c->e->b, LLVMRealUNO, v, v, ""), "");
}

/* Lanes of a reduced vector axis that do not exist add nothing. */
static bool needs_lane_mask(const Ctx *c, const Group *g, const Expr *x)
{
    int va = c->nest->vector_axis;
    bool contraction = is_product(&c->k->expr[x->a]) && c->padded && !c->nest->zero_tail;
    return g->lanes && va >= 0 && (x->axes >> va & 1) && !contraction && (c->axis[va].partial || c->k->axis[va].batch);
}

static LLVMValueRef mask_lanes(Ctx *c, const Group *g, LLVMValueRef v, const Expr *x)
{
    if (!needs_lane_mask(c, g, x))
        return v;
    return LLVMBuildSelect(c->e->b, lane_mask(c), v, identity(c, g, x), "");
}

/* Pairs of bf16, multiplied and added in float32. Lanes that do not exist are zero. */
static void accumulate_dot(Ctx *c, const Group *g, const Expr *x, LLVMValueRef slot)
{
    const Expr *m = &c->k->expr[x->a];
    LLVMValueRef a = value_in_group(c, g, m->a), b = value_in_group(c, g, m->b);
    if (needs_lane_mask(c, g, x))
        a = LLVMBuildSelect(c->e->b, lane_mask(c), a, LLVMConstNull(LLVMTypeOf(a)), "");
    emit_store(c->e, emit_dot(c->e, a, b, emit_load(c->e, LLVMGetAllocatedType(slot), slot, 4)), slot, 4);
}

static void accumulate_sum(Ctx *c, const Group *g, const Expr *x, LLVMValueRef slot)
{
    const Expr *m = &c->k->expr[x->a];
    LLVMTypeRef t = LLVMGetAllocatedType(slot);
    LLVMValueRef old = emit_load(c->e, t, slot, 4), sum;
    if (x->is_int) {
        sum = LLVMBuildAdd(c->e->b, old, mask_lanes(c, g, value_in_group(c, g, x->a), x), "");
    } else if (m->op == EX_MUL) {
        LLVMValueRef a = mask_lanes(c, g, value_in_group(c, g, m->a), x), b = value_in_group(c, g, m->b);
        bool onto = c->nest->apart && LLVMGetTypeKind(t) == LLVMVectorTypeKind;
        sum = (onto ? emit_fma_onto : emit_fma)(c->e, a, b, old);
    } else {
        sum = LLVMBuildFAdd(c->e->b, old, mask_lanes(c, g, value_in_group(c, g, x->a), x), "");
    }
    emit_store(c->e, sum, slot, 4);
}

/* A maximum and the argmax beside it move together. */
static void accumulate_max(Ctx *c, const Group *g, int i, LLVMValueRef *slots)
{
    const Expr *x = &c->k->expr[g->expr[i]];
    LLVMValueRef v = mask_lanes(c, g, value_in_group(c, g, x->a), x);
    LLVMValueRef old = emit_load(c->e, LLVMGetAllocatedType(slots[i]), slots[i], 4);
    LLVMValueRef take = takes_over(c, v, old);
    emit_store(c->e, LLVMBuildSelect(c->e->b, take, v, old, ""), slots[i], 4);
    for (int j = 0; j < g->n; j++) {
        const Expr *y = &c->k->expr[g->expr[j]];
        if (y->op != EX_ARGMAX || y->a != x->a || y->axes != x->axes)
            continue;
        LLVMValueRef index = value_in_group(c, g, y->b), was = emit_load(c->e, LLVMGetAllocatedType(slots[j]), slots[j], 4);
        emit_store(c->e, LLVMBuildSelect(c->e->b, take, index, was, ""), slots[j], 4);
    }
}

static void accumulate_point(Ctx *c, void *arg)
{
    Group *g = arg;
    LLVMValueRef *slots = g->acc + (ptrdiff_t)point_number(c, g->points) * g->n;
    for (int i = 0; i < g->n; i++) {
        const Expr *x = &c->k->expr[g->expr[i]];
        if (x->op == EX_ARGMAX || certainly_outside(c, x->a))
            continue;
        if (x->op == EX_SUM && c->k->expr[x->a].op == EX_DOT)
            accumulate_dot(c, g, x, slots[i]);
        else if (x->op == EX_SUM)
            accumulate_sum(c, g, x, slots[i]);
        else
            accumulate_max(c, g, i, slots);
    }
}

/* ---- order of a tile's points ---- */
/* Do unrolled taps slide along a point axis of load x (neighbouring points share its vectors)? */
static bool slides(const Ctx *c, const Expr *x, uint32_t points)
{
    if (x->op != EX_LOAD)
        return false;
    const Access *at = &c->k->access[x->at];
    for (int d = 0; d < at->rank; d++) {
        bool point = false, tap = false;
        for (int a = 0; a < c->k->n_axes; a++) {
            point = point || (at->dim[d].coef[a] && (points >> a & 1));
            tap = tap || (at->dim[d].coef[a] && c->nest->unroll[a] && c->k->axis[a].extent > 1);
        }
        if (point && tap)
            return true;
    }
    return false;
}

/* The axes to walk in the outer loop over a tile's points: those of the operand that streams (each of its vectors is loaded,
 * used with every vector of the other one and forgotten), so that registers hold the sums and the smaller operand. */
static uint32_t streaming_axes(const Ctx *c, const Group *g)
{
    const Expr *x = &c->k->expr[g->expr[0]], *m = &c->k->expr[x->a];
    if (g->n != 1 || x->op != EX_SUM || !is_product(m))
        return 0;
    const Expr *a = &c->k->expr[m->a], *b = &c->k->expr[m->b];
    uint32_t pa = c->axes_of[m->a] & g->points, pb = c->axes_of[m->b] & g->points;
    bool a_slides = slides(c, a, g->points), b_slides = slides(c, b, g->points);
    if (a_slides != b_slides && !c->nest->apart)
        return a_slides ? pb : pa;
    return point_count(c, pa) > point_count(c, pb) ? pa : pb;
}

typedef struct { Group *g; uint32_t inner; } Streaming;

static void streaming_point(Ctx *c, void *arg)
{
    Streaming *s = arg;
    if (c->nest->apart)
        emit_fence(c->e);
    for_points(c, s->inner, accumulate_point, s->g);
}

static void accumulate_tile(Ctx *c, Group *g)
{
    uint32_t outer = streaming_axes(c, g);
    Streaming s = {g, g->points & ~outer};
    for_points(c, outer, streaming_point, &s);
}

typedef struct { Group *g; int level; } RedLevel;

static void red_level(Ctx *c, void *arg)
{
    RedLevel *r = arg;
    Group *g = r->g;
    if (r->level == g->n_axes) {
        accumulate_tile(c, g);
        return;
    }
    RedLevel next = {g, r->level + 1};
    int a = g->axis[r->level];
    for_axis(c, a, 1, c->nest->unroll[a], red_level, &next);
}

static void open_accumulator(Ctx *c, void *arg)
{
    Group *g = arg;
    LLVMValueRef *slots = g->acc + (ptrdiff_t)point_number(c, g->points) * g->n;
    for (int i = 0; i < g->n; i++) {
        LLVMValueRef zero = identity(c, g, &c->k->expr[g->expr[i]]);
        slots[i] = emit_alloca(c->e, LLVMTypeOf(zero), "acc");
        emit_store(c->e, zero, slots[i], 4);
    }
}

static void close_accumulator(Ctx *c, void *arg)
{
    Group *g = arg;
    LLVMValueRef *slots = g->acc + (ptrdiff_t)point_number(c, g->points) * g->n;
    int va = c->nest->vector_axis;
    for (int i = 0; i < g->n; i++) {
        const Expr *x = &c->k->expr[g->expr[i]];
        LLVMValueRef v = emit_load(c->e, LLVMGetAllocatedType(slots[i]), slots[i], 4);
        if (g->lanes && va >= 0 && (x->axes >> va & 1))
            v = emit_reduce(c->e, x->op == EX_SUM ? EX_ADD : EX_MAX, v);
        if (c->last_portion)
            v = LLVMBuildFAdd(c->e->b, portion_sum_so_far(c), v, "");
        memo_put(c, g->expr[i], v);
    }
}

static void order_axes(const Ctx *c, Group *g, uint32_t axes)
{
    for (int i = 0; i < c->nest->n_red; i++)
        if (axes >> c->nest->red[i] & 1)
            g->axis[g->n_axes++] = c->nest->red[i];
    for (int a = 0; a < c->k->n_axes; a++) {
        bool listed = false;
        for (int i = 0; i < g->n_axes; i++)
            listed = listed || g->axis[i] == a;
        if ((axes >> a & 1) && !listed)
            g->axis[g->n_axes++] = a;
    }
}

static void set_skippable(Ctx *c, const Group *g)
{
    for (AccessId at = 0; at < c->k->n_access; at++)
        c->acc[at].skippable = false;
    for (int i = 0; i < g->n; i++) {
        const Expr *x = &c->k->expr[g->expr[i]];
        if (x->op != EX_ARGMAX && (g->n == 1 || x->op == EX_MAX_OVER || i == 0))
            mark_skippable(c, x->a, x->op == EX_SUM ? 0 : -INFINITY);
    }
    /* Several sums over one sweep skip only where all of them would: keep to the simple case. */
    int sums = 0;
    for (int i = 0; i < g->n; i++)
        sums += c->k->expr[g->expr[i]].op != EX_ARGMAX;
    if (sums > 1)
        for (AccessId at = 0; at < c->k->n_access; at++)
            c->acc[at].skippable = false;
}

static bool waits_for_reduction(const Ctx *c, ExprId e);

/* The parts of e that the axes of the group's loops do not change. */
static void hoist_operand(Ctx *c, const Group *g, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    uint32_t changes = ~bound_mask(c);
    for (int i = 0; i < g->n_axes; i++)
        changes |= 1u << g->axis[i];
    if (!e || x->op == EX_CONST || x->op == EX_ICONST || (expr_is_reduction(x->op) && !memo_find(c, e)))
        return;
    if (!(c->axes_of[e] & changes)) {
        if (!waits_for_reduction(c, e))
            (void)eval(c, e);
        return;
    }
    hoist_operand(c, g, x->a);
    hoist_operand(c, g, x->b);
    hoist_operand(c, g, x->c);
}

static void hoist_operands(Ctx *c, void *arg)
{
    const Group *g = arg;
    for (int i = 0; i < g->n; i++)
        hoist_operand(c, g, c->k->expr[g->expr[i]].a);
}

static void fetch_point(Ctx *c, void *unused)
{
    (void)unused;
    for (AccessId at = 0; at < c->k->n_access && at < 64; at++)
        if (c->nest->early >> at & 1)
            emit_prefetch(c->e, access_pointer(c, at));
}

/* One sweep over the group's axes for all its reductions and all tile points; the results go into the memo. */
void reduce_group(Ctx *c, const ExprId *group, int n)
{
    Group g = {.n = n};
    memcpy(g.expr, group, sizeof *group * (size_t)n);
    uint32_t axes = c->k->expr[group[0]].axes, inside = 0, result = 0;
    for (int i = 0; i < n; i++) {
        const Expr *x = &c->k->expr[group[i]];
        inside |= c->axes_of[x->a] | (x->b ? c->axes_of[x->b] : 0);
        result |= c->axes_of[group[i]];
    }
    for (int a = 0; a < c->k->n_axes; a++)
        if ((result >> a & 1) && c->axis[a].bound && c->axis[a].points > 1)
            g.points |= 1u << a;
    int va = c->nest->vector_axis;
    g.lanes = c->nest->lanes > 1 && va >= 0 && (inside >> va & 1) && (c->axis[va].bound || (axes >> va & 1));
    order_axes(c, &g, axes);
    g.acc = NEWN(c->e->arena, LLVMValueRef, point_count(c, g.points) * n);
    int32_t saved[MAX_AXIS];
    memcpy(saved, c->pt, sizeof saved);
    bool *was = NEWN(c->e->arena, bool, c->k->n_access + 1);   /* an outer reduction's, when this one is inside it */
    for (int i = 0; i < c->k->n_access; i++)
        was[i] = c->acc[i].skippable;
    uint32_t mark = memo_mark(c);
    for_points(c, g.points, open_accumulator, &g);
    set_skippable(c, &g);
    access_start_ahead(c);
    if (c->nest->early)
        for_points(c, g.points, fetch_point, NULL);
    if (point_count(c, g.points) <= FEW_POINTS)
        for_points(c, g.points, hoist_operands, &g);
    RedLevel top = {&g, 0};
    red_level(c, &top);
    memo_reset(c, mark);
    for (int i = 0; i < c->k->n_access; i++)
        c->acc[i].skippable = was[i];
    for_points(c, g.points, close_accumulator, &g);
    memcpy(c->pt, saved, sizeof saved);
}

/* ---- which reductions, when ---- */
/* Is some reduction below e (e itself not counted) still to be computed? */
static bool waits_for_reduction(const Ctx *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    ExprId op[3] = {x->a, x->b, x->c};
    for (int i = 0; i < 3; i++)
        if (op[i] && c->has_reduction[op[i]] &&
            ((expr_is_reduction(c->k->expr[op[i]].op) && !memo_find(c, op[i])) || waits_for_reduction(c, op[i])))
            return true;
    return false;
}

static bool can_reduce_now(const Ctx *c, ExprId e)
{
    const Expr *x = &c->k->expr[e];
    return expr_is_reduction(x->op) && !(c->axes_of[e] & ~bound_mask(c)) && !memo_find(c, e);
}

void eval_reductions(Ctx *c)
{
    for (ExprId e = 1; e < c->k->n_expr; e++) {
        if (!can_reduce_now(c, e) || waits_for_reduction(c, e))
            continue;
        ExprId group[MAX_GROUP] = {e};
        int n = 1;
        for (ExprId o = e + 1; o < c->k->n_expr && n < MAX_GROUP; o++)
            if (can_reduce_now(c, o) && c->k->expr[o].axes == c->k->expr[e].axes && !waits_for_reduction(c, o))
                group[n++] = o;
        reduce_group(c, group, n);
    }
}
