/* A nest: from its parallel axes, outermost first, to its reductions and stores.
 * In: a Nest (schedule) and Places. Out: its code in the function being built.
 * Idea: a level a parallel axis. Inside the last one everything that is reduced is computed for all points of the tile at once, then each output
 * is stored, those that have axes of their own (softmax's classes) in loops over these. */
#include "codegen/cpu/nest.h"

static uint32_t par_mask(const Ctx *c)
{
    uint32_t m = 0;
    for (int i = 0; i < c->nest->n_par; i++)
        m |= 1u << c->nest->par[i];
    return m;
}

uint32_t open_points(const Ctx *c)
{
    uint32_t m = 0;
    for (int a = 0; a < c->k->n_axes; a++)
        if (c->axis[a].bound && c->axis[a].points > 1)
            m |= 1u << a;
    return m;
}

typedef struct { uint32_t axes, todo; } Inner;

/* A sum over the axes of passes is complete after the last one. */
static LLVMValueRef with_earlier_passes(Ctx *c, AccessId at, LLVMValueRef value)
{
    if (!c->first_pass || (access_axes(c->k, at) & nest_pass_axes(c->nest)))
        return value;
    LLVMValueRef sum = LLVMBuildFAdd(c->e->b, access_load(c, at, NULL), value, "");
    return LLVMBuildSelect(c->e->b, c->first_pass, value, sum, "");
}

/* One output at the current point; points that share a pair of bf16 are stored together, at the first of them. */
static void store_out(Ctx *c, const Out *out)
{
    int a = access_pair_axis(c->l, c->k, out->at);
    LLVMValueRef high = NULL;
    if (a >= 0 && c->axis[a].bound && c->axis[a].points > 1 && access_parity(c, out->at) >= 0) {
        if (c->pt[a] > 0 && access_parity(c, out->at) == 1)
            return;
        if (c->pt[a] + 1 < c->axis[a].points && access_parity(c, out->at) == 0) {
            c->pt[a]++;
            high = eval(c, out->value);
            c->pt[a]--;
        }
    }
    access_store(c, out->at, with_earlier_passes(c, out->at, eval(c, out->value)), high);
}

/* Transforms of Winograd tiles are written down in an order that needs few registers: their sums up to e, and `next` after it. */
static void eval_as_written(Ctx *c, ExprId *next, ExprId e)
{
    for (; c->k->part != WINOGRAD_NONE && c->k->part != WINOGRAD_PRODUCT && *next <= e; ++*next)
        if (c->k->expr[*next].op == EX_ADD || c->k->expr[*next].op == EX_SUB)
            eval(c, *next);
}

static void store_point(Ctx *c, void *arg)
{
    const Inner *in = arg;
    uint32_t pars = par_mask(c);
    ExprId next = 1;
    for (int i = 0; i < c->k->n_out; i++) {
        uint32_t axes = access_axes(c->k, c->k->out[i].at) & ~pars;
        eval_as_written(c, &next, c->k->out[i].value);
        if (axes == in->axes)
            store_out(c, &c->k->out[i]);
    }
}

/* Loops over output axes that reductions used up (softmax's classes), then the stores. */
static void inner_level(Ctx *c, void *arg)
{
    Inner *in = arg;
    if (!in->todo) {
        for_points(c, open_points(c), store_point, in);
        return;
    }
    int a = __builtin_ctz(in->todo);
    Inner next = {in->axes, in->todo & ~(1u << a)};
    for_axis(c, a, 1, false, inner_level, &next);
}

/* Every output, at every point that is bound. */
static void store_outputs(Ctx *c, void *unused)
{
    (void)unused;
    uint32_t pars = par_mask(c), done[MAX_KERNEL_OUT];
    int n_done = 0;
    for (int i = 0; i < c->k->n_out; i++) {
        uint32_t axes = access_axes(c->k, c->k->out[i].at) & ~pars;
        bool seen = false;
        for (int j = 0; j < n_done; j++)
            seen = seen || done[j] == axes;
        if (seen)
            continue;
        done[n_done++] = axes;
        Inner in = {axes, axes};
        inner_level(c, &in);
    }
}

static void par_level(Ctx *c, void *arg)
{
    int level = *(int *)arg;
    if (c->nest->portion_axis >= 0 && level == c->nest->portion_level && !c->portion) {
        portions_in_turn(c, par_level, &level);
        return;
    }
    if (level < c->nest->n_par) {
        int a = c->nest->par[level], next = level + 1;
        hoist(c);
        if (a == c->nest->lines_axis) {   /* the rows go through it */
            par_level(c, &next);
            return;
        }
        if (a == c->nest->rows_axis) {
            tiles_for_rows(c, par_level, &next, store_outputs);
            return;
        }
        for_axis(c, a, c->nest->tile[a] > 1 ? c->nest->tile[a] : 1, false, par_level, &next);
        return;
    }
    if (c->nest->rows_axis >= 0) {
        tiles_contract(c, store_outputs);
        return;
    }
    eval_reductions(c);
    if (c->portion && !c->last_portion)
        portion_store(c);
    else
        store_outputs(c, NULL);
}

static void find_expression_axes(Ctx *c)
{
    c->axes_of = NEWN(c->e->arena, uint32_t, c->k->n_expr);
    c->has_reduction = NEWN(c->e->arena, bool, c->k->n_expr);
    for (ExprId i = 1; i < c->k->n_expr; i++) {
        const Expr *x = &c->k->expr[i];
        c->axes_of[i] = expr_axes(c->k, i);
        c->has_reduction[i] = expr_is_reduction(x->op) || (x->a && c->has_reduction[x->a]) ||
                              (x->b && c->has_reduction[x->b]) || (x->c && c->has_reduction[x->c]);
    }
}

/* The slice's number along each sliced axis, the last one fastest. */
static void find_parts(Ctx *c)
{
    LLVMValueRef rest = c->slice;
    for (int i = c->nest->n_inner; i > 0; i--) {
        LLVMValueRef parts = emit_i64(c->e, nest_parts(c->nest, i));
        c->part[i] = LLVMBuildSRem(c->e->b, rest, parts, "");
        rest = LLVMBuildSDiv(c->e->b, rest, parts, "");
    }
    c->part[0] = rest;
    for (int i = c->nest->n_inner - c->nest->n_passes + 1; i <= c->nest->n_inner; i++) {
        LLVMValueRef at_start = LLVMBuildICmp(c->e->b, LLVMIntEQ, c->part[i], emit_i64(c->e, 0), "");
        c->first_pass = c->first_pass ? LLVMBuildAnd(c->e->b, c->first_pass, at_start, "") : at_start;
    }
}

void emit_nest(Emit *e, const Function *f, const Stage *s, const Nest *nest)
{
    Ctx c = {.e = e, .f = f, .l = f->kernels, .k = nest->k, .nest = nest};
    c.args = LLVMGetParam(e->fn, 0);
    c.scratch = LLVMGetParam(e->fn, 1);
    c.slice = LLVMGetParam(e->fn, 2);
    c.offsets = LLVMGetParam(e->fn, 3);
    c.slice_samples = s->samples_per_slice;
    c.n = emit_load(e, e->i64, emit_gep(e, e->i8, c.args, emit_i64(e, offsetof(CnncArgs, n))), 8);
    for (int a = 0; a < MAX_AXIS; a++)
        c.axis[a].points = 1;
    find_expression_axes(&c);
    Loop pass;
    if (nest->own_passes) {
        LLVMValueRef passes = emit_i64(e, nest_parts(nest, 1));
        pass = emit_loop_begin(e, emit_i64(e, 0), passes, 1, "pass");
        c.slice = emit_add(e, LLVMBuildMul(e->b, c.slice, passes, ""), pass.iv);
    }
    find_parts(&c);
    access_init(&c);
    int level = 0;
    if (nest->rows_axis >= 0)
        tiles_begin(&c);
    par_level(&c, &level);
    if (nest->rows_axis >= 0)
        tiles_end(&c);
    if (nest->own_passes)
        emit_loop_end(e, &pass);
}
