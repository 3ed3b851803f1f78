/* Stages: one LLVM function each, of type CnncStageFn, that calls its nests in order.
 * In: a planned Function. Out: functions of the module.
 * Invariant: a nest's slice argument counts passes: slice * passes + pass. Idea: the places of a nest's buffers are arguments (a table of
 * constants), so nests that differ in nothing else share one function: a net of equal blocks is compiled once. */
#include "codegen/cpu/nest.h"

#include <string.h>

typedef struct { char *at; size_t len, cap; Arena *a; } Key;
typedef struct NestCode { struct NestCode *next; Key key; LLVMValueRef fn; } NestCode;

static void key_add(Key *k, const void *bytes, size_t n)
{
    if (k->len + n > k->cap) {
        size_t cap = 2 * (k->len + n);
        k->at = arena_grow(k->a, k->at, k->len, cap);
        k->cap = cap;
    }
    memcpy(k->at + k->len, bytes, n);
    k->len += n;
}
#define KEY(k, value) key_add((k), &(value), sizeof(value))

static void key_affine(Key *key, const Kernel *k, const Affine *f)
{
    KEY(key, f->coef);
    int32_t numbers[] = {f->offset, f->lo, f->hi, f->div, f->guarded, f->table ? f->table_axis : -2, f->table ? f->table_axis2 : -2};
    KEY(key, numbers);
    if (!f->table)
        return;
    int64_t rows = k->axis[f->table_axis].extent, cols = f->table_axis2 >= 0 ? k->axis[f->table_axis2].extent : 1;
    int64_t stride = f->table_axis2 >= 0 ? f->table_stride : 1;
    key_add(key, f->table, sizeof *f->table * (size_t)((rows - 1) * stride + cols));
}

static void key_access(Key *key, const Function *f, const Kernel *k, AccessId at)
{
    const Access *x = &k->access[at];
    const Buffer *b = &f->kernels->buffers.at[x->buf];
    int64_t numbers[] = {b->dtype, b->batched, b->strip_elements, b->layout.paired, b->layout.odd, b->layout.block_dim, b->layout.lanes,
                         f->place[x->buf].area, x->rank, b->shape.rank};
    KEY(key, numbers);
    KEY(key, x->fill);
    key_add(key, b->layout.order, (size_t)b->shape.rank);
    key_add(key, b->shape.dim, sizeof *b->shape.dim * (size_t)b->shape.rank);
    for (int d = 0; d < x->rank; d++)
        key_affine(key, k, &x->dim[d]);
}

/* Everything the code of a nest depends on, but the places of its buffers. */
static Key nest_key(Arena *a, const Function *f, const Stage *s, const Nest *n)
{
    Key key = {.a = a};
    const Kernel *k = n->k;
    int32_t numbers[] = {k->n_axes, k->n_access, k->n_expr, k->n_out, s->samples_per_slice, n->lanes, n->vector_axis, n->n_par, n->n_red,
                         n->slice_axis, n->slice_size, n->zero_tail, n->transposed, n->transpose_axis, n->weave_axis, n->ahead, n->ahead_axis, (int32_t)n->ahead_by,
                         n->n_inner, n->n_passes, n->own_passes, n->samples, n->group,
                         n->unrolled_blocks, n->portion_axis, n->portion, n->portion_level,
                         n->rows_axis, n->depth_axis, n->depth, n->lines_axis, n->pitch, n->lines_a_step, n->lines_ahead,
                         n->n_inner > 0 ? n->inner_axis[0] : 0, n->n_inner > 0 ? n->inner_size[0] : 0,
                         n->n_inner > 1 ? n->inner_axis[1] : 0, n->n_inner > 1 ? n->inner_size[1] : 0};
    KEY(&key, numbers);
    KEY(&key, n->early);
    KEY(&key, n->tile);
    KEY(&key, n->unroll);
    KEY(&key, n->apart);
    key_add(&key, n->par, (size_t)n->n_par);
    key_add(&key, n->red, (size_t)n->n_red);
    for (int i = 0; i < k->n_axes; i++) {
        const Axis *x = &k->axis[i];
        int32_t axis[] = {x->kind, x->extent, x->batch, x->batch_div, x->batch_base, x->batch_step};
        KEY(&key, axis);
    }
    for (AccessId i = 0; i < k->n_access; i++)
        key_access(&key, f, k, i);
    for (ExprId i = 1; i < k->n_expr; i++) {
        const Expr *x = &k->expr[i];
        int32_t expr[] = {x->op, x->a, x->b, x->c, x->iimm, x->at, x->axis, (int32_t)x->axes, x->is_int, x->is_bool};
        KEY(&key, expr);
        KEY(&key, x->imm);
    }
    for (int i = 0; i < k->n_out; i++) {
        int32_t out[] = {k->out[i].at, k->out[i].value};
        KEY(&key, out);
    }
    return key;
}

static LLVMTypeRef nest_type(Emit *e)
{
    LLVMTypeRef params[4] = {e->ptr, e->ptr, e->i64, e->ptr};
    return LLVMFunctionType(e->void_, params, 4, false);
}

static LLVMValueRef nest_function(Emit *e, const Function *f, const Stage *s, const Nest *n)
{
    Key key = nest_key(e->arena, f, s, n);
    for (NestCode *c = e->nests; c; c = c->next)
        if (c->key.len == key.len && memcmp(c->key.at, key.at, key.len) == 0)
            return c->fn;
    NestCode *c = NEW(e->arena, NestCode);
    *c = (NestCode){e->nests, key, emit_function_begin(e, arena_printf(e->arena, "%s.%s", f->name, n->k->name), nest_type(e), false)};
    e->nests = c;
    emit_nest(e, f, s, n);
    emit_function_end(e);
    return c->fn;
}

/* The places of a nest's buffers, as constants. */
static LLVMValueRef nest_offsets(Emit *e, const Function *f, const Nest *n)
{
    LLVMValueRef *v = NEWN(e->arena, LLVMValueRef, n->k->n_access + 1);
    for (AccessId i = 0; i < n->k->n_access; i++)
        v[i] = emit_i64(e, f->place[n->k->access[i].buf].offset);
    LLVMValueRef init = LLVMConstArray2(e->i64, v, (uint64_t)n->k->n_access);
    LLVMValueRef g = LLVMAddGlobal(e->mod, LLVMTypeOf(init), "places");
    LLVMSetInitializer(g, init);
    LLVMSetGlobalConstant(g, true);
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    return g;
}

LLVMValueRef emit_stage(Emit *e, const Function *f, int s)
{
    const Stage *st = &f->stages[s];
    LLVMTypeRef params[3] = {e->ptr, e->ptr, e->i64};
    LLVMTypeRef type = LLVMFunctionType(e->void_, params, 3, false);
    LLVMValueRef *kernels = NEWN(e->arena, LLVMValueRef, st->n_nests);
    for (int i = 0; i < st->n_nests; i++)
        kernels[i] = nest_function(e, f, st, st->nests[i]);
    LLVMValueRef fn = emit_function_begin(e, arena_printf(e->arena, "%s.stage%d", f->name, s), type, true);
    for (int i = 0, end; i < st->n_nests; i = end) {
        end = nest_run_end(st, i);
        int32_t passes = nest_passes(st->nests[i]);
        LLVMValueRef first = emit_mul(e, LLVMGetParam(fn, 2), passes);
        Loop pass = emit_loop_begin(e, first, emit_add(e, first, emit_i64(e, passes)), 1, "pass");
        for (int n = i; n < end; n++) {
            LLVMValueRef args[4] = {LLVMGetParam(fn, 0), LLVMGetParam(fn, 1), pass.iv, nest_offsets(e, f, st->nests[n])};
            LLVMBuildCall2(e->b, nest_type(e), kernels[n], args, 4, "");
        }
        emit_loop_end(e, &pass);
    }
    emit_function_end(e);
    return fn;
}
