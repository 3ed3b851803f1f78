/* The vocabulary of emit.h, one small function each, loaded and called: loops that run never, once and often, conditions,
 * masked memory on vectors and scalars, sums and maxima over lanes in their fixed order. */
#include "codegen/cpu/module.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

typedef void (*Fn)(float *, int64_t);   /* data, n */
typedef struct { Arena *a; Emit *e; CpuTarget t; CpuJit *jit; } Bench;
enum { LANES = 4 };

static LLVMValueRef begin(Bench *b, const char *name)
{
    LLVMTypeRef params[2] = {b->e->ptr, b->e->i64};
    return emit_function_begin(b->e, name, LLVMFunctionType(b->e->void_, params, 2, false), true);
}

/* data[0] += 1, from i = 2 to n in steps of 3; then data[1] is counted by a loop of constant bounds that runs once, and data[2]
 * by one that never runs. */
static void build_loops(Bench *b)
{
    Emit *e = b->e;
    LLVMValueRef fn = begin(b, "loops"), p = LLVMGetParam(fn, 0), one = emit_f32(e, 1);
    const struct { LLVMValueRef from, to; int64_t step; } bounds[3] = {
        {emit_i64(e, 2), LLVMGetParam(fn, 1), 3}, {emit_i64(e, 5), emit_i64(e, 7), 4}, {emit_i64(e, 7), emit_i64(e, 7), 1}};
    for (int i = 0; i < 3; i++) {
        LLVMValueRef at = emit_gep(e, e->f32, p, emit_i64(e, i));
        Loop l = emit_loop_begin(e, bounds[i].from, bounds[i].to, bounds[i].step, "i");
        emit_store(e, LLVMBuildFAdd(e->b, emit_load(e, e->f32, at, 4), one, ""), at, 4);
        emit_loop_end(e, &l);
    }
    emit_function_end(e);
}

/* if (n > 3) data[0] = 1 inside a loop, so that the loop's latch follows the join */
static void build_if(Bench *b)
{
    Emit *e = b->e;
    LLVMValueRef fn = begin(b, "conditions"), p = LLVMGetParam(fn, 0);
    Loop l = emit_loop_begin(e, emit_i64(e, 0), LLVMGetParam(fn, 1), 1, "i");
    If i = emit_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, l.iv, emit_i64(e, 2), ""));
    emit_store(e, emit_f32(e, 1), emit_gep(e, e->f32, p, l.iv), 4);
    emit_if_end(e, &i);
    emit_loop_end(e, &l);
    emit_function_end(e);
}

/* lanes below n: data[4 + i] = data[i], others: data[8 + i] = -1; the same with one lane into data[12], data[13] */
static void build_masks(Bench *b)
{
    Emit *e = b->e;
    LLVMValueRef fn = begin(b, "masks"), p = LLVMGetParam(fn, 0);
    LLVMValueRef n = LLVMBuildTrunc(e->b, LLVMGetParam(fn, 1), e->i32, "");
    for (int lanes = LANES; lanes >= 1; lanes -= LANES - 1) {
        LLVMTypeRef t = emit_vec(e, e->f32, lanes);
        LLVMValueRef mask = emit_scalar_op(e, EX_ULT, emit_iota(e, lanes), emit_splat(e, n, lanes), NULL);
        LLVMValueRef got = emit_masked_load(e, t, p, mask, emit_splat(e, emit_f32(e, -1), lanes), 4);
        emit_masked_store(e, got, emit_gep(e, e->f32, p, emit_i64(e, lanes == 1 ? 12 : 4)), mask, 4);
        emit_store(e, got, emit_gep(e, e->f32, p, emit_i64(e, lanes == 1 ? 13 : 8)), 4);
    }
    emit_function_end(e);
}

/* data[8] = sum, data[9] = maximum of data[0..7] */
static void build_reductions(Bench *b)
{
    Emit *e = b->e;
    LLVMValueRef fn = begin(b, "reductions"), p = LLVMGetParam(fn, 0);
    LLVMValueRef v = emit_load(e, emit_vec(e, e->f32, 8), p, 4);
    emit_store(e, emit_reduce(e, EX_ADD, v), emit_gep(e, e->f32, p, emit_i64(e, 8)), 4);
    emit_store(e, emit_reduce(e, EX_MAX_OVER, v), emit_gep(e, e->f32, p, emit_i64(e, 9)), 4);
    emit_function_end(e);
}

static int setup(void **state)
{
    static Bench b;
    const char *why = "";
    b = (Bench){.a = arena_new()};
    Program p = {.arena = b.a, .symbol = "t"};
    StageFns none = {0};
    assert_true(target_find(b.a, NULL, "host", &b.t, &why));
    b.e = emit_new(b.a, "t", &b.t);
    build_loops(&b);
    build_if(&b);
    build_masks(&b);
    build_reductions(&b);
    tables_emit(b.e, &p, &none);
    Bytes object;
    const CnncModel *model;
    if (!module_write(b.e, CPU_OBJECT, &object, &why))
        fail_msg("%s", why);
    emit_free(b.e);
    b.jit = jit_load(b.a, &p, object, &model, &why);
    if (!b.jit)
        fail_msg("%s", why);
    free(object.data);
    *state = &b;
    return 0;
}

static int teardown(void **state)
{
    Bench *b = *state;
    jit_free(b->jit);
    arena_free(b->a);
    return 0;
}

static void call(void **state, const char *name, float *data, int64_t n)
{
    union { void *p; Fn fn; } f = {jit_find(((Bench *)*state)->jit, name)};
    assert_non_null(f.p);
    f.fn(data, n);
}

static void test_loops(void **state)
{
    static const struct { int64_t n; float runs; } rows[] = {{-5, 0}, {0, 0}, {2, 0}, {3, 1}, {5, 1}, {6, 2}, {301, 100}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        float data[3] = {0};
        call(state, "loops", data, rows[i].n);
        assert_true(data[0] == rows[i].runs && data[1] == 1 && data[2] == 0);
    }
}

static void test_conditions(void **state)
{
    float data[8] = {0};
    call(state, "conditions", data, 5);
    for (int i = 0; i < 8; i++)
        assert_true(data[i] == (i > 2 && i < 5));
}

static void test_masks(void **state)
{
    for (int n = 0; n <= LANES; n++) {
        float data[14] = {1, 2, 3, 4};
        call(state, "masks", data, n);
        for (int i = 0; i < LANES; i++) {
            assert_true(data[4 + i] == (i < n ? (float)(i + 1) : 0));
            assert_true(data[8 + i] == (i < n ? (float)(i + 1) : -1));
        }
        assert_true(data[12] == (n ? 1 : 0) && data[13] == (n ? 1 : -1));
    }
}

static void test_reductions(void **state)
{
    /* Halves are added to halves: ((1 - 1) + (1e8 - 1e8)) + ... leaves only what that order leaves. */
    float data[10] = {1, 1e8f, 3, 4, -1, -1e8f, 5, 6};
    call(state, "reductions", data, 0);
    assert_true(data[8] == ((1.0f + -1) + (3 + 5)) + ((1e8f + -1e8f) + (4 + 6)) && data[9] == 1e8f);
    data[3] = NAN;
    call(state, "reductions", data, 0);
    assert_true(isnan(data[8]) && isnan(data[9]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loops), cmocka_unit_test(test_conditions), cmocka_unit_test(test_masks),
                                       cmocka_unit_test(test_reductions)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
