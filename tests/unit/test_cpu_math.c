/* The scalar operations of generated code against libm in double: every function over more than a million floats spread
 * over all bit patterns, special values, MIN/MAX's NaN rule, integers, on 16, 8, 4 and 1 lanes, with and without FMA.
 * `test_cpu_math 1` goes through all 2^32 floats (minutes). */
#include "codegen/cpu/module.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef void (*ArrayFn)(const float *a, const float *b, float *out, int64_t n);
typedef struct { Arena *arena; CpuJit *jit; ArrayFn fn[EX_OP_COUNT]; const char *cpu; } Code;

static uint32_t stride = 3907;
enum { BLOCK = 4096 };

/* out[i] = op(a[i], b[i]); comparisons are written as 0 and 1; integers travel as bits. */
static void emit_array_op(Emit *e, ExprOp op, const char *name, int lanes)
{
    LLVMTypeRef params[4] = {e->ptr, e->ptr, e->ptr, e->i64};
    LLVMValueRef fn = emit_function_begin(e, name, LLVMFunctionType(e->void_, params, 4, false), true);
    Loop l = emit_loop_begin(e, emit_i64(e, 0), LLVMGetParam(fn, 3), lanes, "i");
    bool ints = op >= EX_IADD && op <= EX_IEQ, from_int = ints || op == EX_TOFLOAT;
    LLVMTypeRef t = emit_vec(e, from_int ? e->i32 : e->f32, lanes);
    LLVMValueRef a = emit_load(e, t, emit_gep(e, e->f32, LLVMGetParam(fn, 0), l.iv), 4);
    LLVMValueRef b = emit_load(e, t, emit_gep(e, e->f32, LLVMGetParam(fn, 1), l.iv), 4);
    LLVMValueRef r = emit_scalar_op(e, op, a, b, NULL);
    LLVMTypeRef elem = lanes > 1 ? LLVMGetElementType(LLVMTypeOf(r)) : LLVMTypeOf(r);
    if (elem == e->i1)
        r = emit_scalar_op(e, EX_TOFLOAT, r, NULL, NULL);
    emit_store(e, r, emit_gep(e, e->f32, LLVMGetParam(fn, 2), l.iv), 4);
    emit_loop_end(e, &l);
    emit_function_end(e);
}

static Code make_code(const char *cpu, int lanes)
{
    Code c = {.arena = arena_new(), .cpu = cpu};
    CpuTarget t;
    const char *why = "";
    if (!target_find(c.arena, NULL, cpu, &t, &why))
        fail_msg("%s", why);
    CpuTarget host;
    assert_true(target_find(c.arena, NULL, "host", &host, &why));
    if (t.lanes > host.lanes)
        return (Code){.arena = c.arena};
    Emit *e = emit_new(c.arena, "math", &t);
    Program p = {.arena = c.arena, .symbol = "math"};
    StageFns none = {0};
    for (int op = EX_NEG; op < EX_SEL; op++)
        if (op != EX_AND && op != EX_OR)
            emit_array_op(e, (ExprOp)op, arena_printf(c.arena, "op%d", op), lanes);
    for (int op = EX_IADD; op <= EX_TOFLOAT; op++)
        emit_array_op(e, (ExprOp)op, arena_printf(c.arena, "op%d", op), lanes);
    tables_emit(e, &p, &none);
    Bytes object = {0};
    if (!module_write(e, CPU_OBJECT, &object, &why))
        fail_msg("%s", why);
    emit_free(e);
    const CnncModel *model;
    c.jit = jit_load(c.arena, &p, object, &model, &why);
    if (!c.jit)
        fail_msg("%s", why);
    free(object.data);
    assert_int_equal(model->abi_version, CNNC_ABI_VERSION);
    for (int op = 0; op <= EX_TOFLOAT; op++)
        if (op < EX_SEL || op >= EX_IADD)
            *(void **)&c.fn[op] = op == EX_AND || op == EX_OR ? NULL : jit_find(c.jit, arena_printf(c.arena, "op%d", op));
    return c;
}

static void free_code(Code *c)
{
    jit_free(c->jit);
    arena_free(c->arena);
}

static double ref_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double ref_softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
typedef struct { ExprOp op; const char *name; double (*ref)(double); double ulps; } Row;
static const Row rows[] = {
    {EX_EXP, "exp", exp, 2}, {EX_EXPM1, "expm1", expm1, 2}, {EX_LOG, "log", log, 2}, {EX_LOG1P, "log1p", log1p, 2}, {EX_TANH, "tanh", tanh, 2},
    {EX_ERF, "erf", erf, 2}, {EX_SIGMOID, "sigmoid", ref_sigmoid, 2}, {EX_SOFTPLUS, "softplus", ref_softplus, 2}, {EX_SQRT, "sqrt", sqrt, 0.5001},
    {EX_ABS, "abs", fabs, 0},
};

static double ulps_between(float got, double want)
{
    float near = (float)want;
    if (isnan(near) || isnan(got))
        return isnan(near) && isnan(got) ? 0 : INFINITY;
    if (isinf(near) || isinf(got)) {
        if (got == near)
            return 0;
        /* one of them is the largest float: count from there */
        double a = isinf(got) ? copysign(0x1p128, got) : got;
        return fabs(a - want) / 0x1p104;
    }
    if (near == 0 && got == 0)
        return signbit(near) == signbit(got) ? 0 : INFINITY;
    int e;
    frexp(want, &e);
    double ulp = ldexp(1, e - 24);
    return fabs(got - want) / (ulp < 0x1p-149 ? 0x1p-149 : ulp);
}

static void sweep(const Code *c, const Row *row)
{
    static float in[BLOCK], out[BLOCK];
    double worst = 0;
    float at = 0;
    uint64_t next = 0;
    while (next <= 0xffffffffu) {
        int n = 0;
        for (; n < BLOCK && next <= 0xffffffffu; n++, next += stride) {
            uint32_t bits = (uint32_t)next;
            memcpy(&in[n], &bits, 4);
        }
        for (int i = n; i < BLOCK; i++)
            in[i] = 0;
        c->fn[row->op](in, in, out, BLOCK);
        for (int i = 0; i < n; i++) {
            double u = ulps_between(out[i], row->ref(in[i]));
            if (u > worst) {
                worst = u;
                at = in[i];
            }
        }
    }
    if (getenv("CNNC_TEST_VERBOSE") || stride < 3907)
        print_message("%-10s %-9s worst %.3f ulp at %.9g\n", c->cpu, row->name, worst, at);
    if (worst > row->ulps)
        fail_msg("%s on %s: %.3f ulp at %.9g", row->name, c->cpu, worst, at);
}

static void check_specials(const Code *c)
{
    static const float points[] = {0.0f, -0.0f, 1, -1, INFINITY, -INFINITY, NAN, -NAN, 0x1p-149f, -0x1p-149f, 0x1.fffffep127f, -0x1.fffffep127f,
                                   88.72283f, 88.72284f, -87.33655f, -103.97f, -103.98f, -104.5f, 0x1p-126f, 0.625f, 0.92f, 4.0f, 9.02f, 1e30f};
    float in[32] = {0}, out[32];
    memcpy(in, points, sizeof points);
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        c->fn[rows[r].op](in, in, out, 32);
        for (size_t i = 0; i < ARRAY_LEN(points); i++)
            if (ulps_between(out[i], rows[r].ref(in[i])) > rows[r].ulps)
                fail_msg("%s(%g) = %g, want %g", rows[r].name, in[i], out[i], rows[r].ref(in[i]));
    }
}

static void check_extremes(const Code *c)
{
    float a[16] = {1, 2, NAN, 3, -INFINITY, NAN, 0, INFINITY}, b[16] = {2, 1, 5, NAN, -1, NAN, -3, 4}, out[16];
    float max[8] = {2, 2, NAN, NAN, -1, NAN, 0, INFINITY}, min[8] = {1, 1, NAN, NAN, -INFINITY, NAN, -3, 4};
    c->fn[EX_MAX](a, b, out, 16);
    for (int i = 0; i < 8; i++)
        assert_true(ulps_between(out[i], max[i]) == 0);
    c->fn[EX_MIN](a, b, out, 16);
    for (int i = 0; i < 8; i++)
        assert_true(ulps_between(out[i], min[i]) == 0);
}

static void check_integers(const Code *c)
{
    uint32_t a[16] = {7, 0xffffffff, 0x80000000, 12345, 9, 0, 1, 2}, b[16] = {3, 2, 31, 5, 9, 1, 0, 2}, out[16];
    float as_float[16];
    c->fn[EX_IADD]((float *)a, (float *)b, (float *)out, 16);
    assert_int_equal(out[1], 1);
    c->fn[EX_IMUL]((float *)a, (float *)b, (float *)out, 16);
    assert_int_equal(out[1], 0xfffffffe);
    c->fn[EX_IXOR]((float *)a, (float *)b, (float *)out, 16);
    assert_int_equal(out[0], 4);
    c->fn[EX_ISHR]((float *)a, (float *)b, (float *)out, 16);
    assert_int_equal(out[2], 1);
    c->fn[EX_ULT]((float *)a, (float *)b, as_float, 16);
    assert_true(as_float[1] == 0 && as_float[5] == 1);
    c->fn[EX_IEQ]((float *)a, (float *)b, as_float, 16);
    assert_true(as_float[4] == 1 && as_float[0] == 0);
    c->fn[EX_TOFLOAT]((float *)a, (float *)b, as_float, 16);
    assert_true(as_float[1] == -1 && as_float[3] == 12345);
    float f[16] = {2.9f, -2.9f, 1e20f, NAN, 0};
    c->fn[EX_TOINT](f, f, (float *)out, 16);
    assert_true(out[0] == 2 && (int32_t)out[1] == -2 && (int32_t)out[2] == INT32_MAX && out[3] == 0);
    float x[16] = {1, NAN, 2, -1}, y[16] = {1, 1, 1, 1};
    c->fn[EX_LT](x, y, as_float, 16);
    assert_true(as_float[0] == 0 && as_float[1] == 0 && as_float[3] == 1);
    c->fn[EX_GE](x, y, as_float, 16);
    assert_true(as_float[0] == 1 && as_float[1] == 0 && as_float[3] == 0);
}

static void test_cpu(const char *cpu, int lanes)
{
    Code c = make_code(cpu, lanes);
    if (!c.jit) {
        print_message("%s: this machine lacks it\n", cpu);
        free_code(&c);
        skip();
    }
    check_specials(&c);
    check_extremes(&c);
    check_integers(&c);
    for (size_t r = 0; r < ARRAY_LEN(rows); r++)
        sweep(&c, &rows[r]);
    free_code(&c);
}

static void test_avx512(void **state) { (void)state; test_cpu("x86-64-v4", 16); }
static void test_avx2(void **state) { (void)state; test_cpu("x86-64-v3", 8); }
static void test_plain(void **state) { (void)state; test_cpu("x86-64", 4); }
static void test_scalar(void **state) { (void)state; test_cpu("host", 1); }

int main(int argc, char **argv)
{
    if (argc > 1)
        stride = (uint32_t)strtoul(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_avx512), cmocka_unit_test(test_avx2), cmocka_unit_test(test_plain),
                                       cmocka_unit_test(test_scalar)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
