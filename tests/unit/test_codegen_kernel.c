/* Kernels by themselves: layouts, the text form, the interpreter under blocked layouts, and every rule of the verifier
 * broken once. */
#include "codegen/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct { Arena *a; KernelList *l; Kernel *k; BufId x, w, y; int n, i, j; AccessId at_x, at_w, at_y; ExprId sum; } T;

static BufId buffer(KernelList *l, const char *name, BufKind kind, Shape s)
{
    Buffer b = {.name = name, .kind = kind, .dtype = DT_F32, .shape = s, .batched = kind != BUF_CONST};
    return kernels_add_buffer(l, &b);
}

/* y[n,i] = SUM[j](x[n,i+j-1 in 0..4] * w[j]), i < 4, j < 3; not yet added. */
static T make(void)
{
    T t = {.a = arena_new()};
    t.l = kernels_new(t.a, NULL);
    t.x = buffer(t.l, "x", BUF_INPUT, shape_of(2, 5, 4));
    t.w = buffer(t.l, "w", BUF_CONST, shape_of(1, 3));
    t.y = buffer(t.l, "y", BUF_WORK, shape_of(2, 5, 4));
    Kernel *k = t.k = kernel_new(t.l, "k", -1, (Span){0, 0});
    t.n = kernel_axis(k, AXIS_PAR, "n", 5, true);
    t.i = kernel_axis(k, AXIS_PAR, "i", 4, false);
    t.j = kernel_axis(k, AXIS_RED, "j", 3, false);
    t.at_x = kernel_access(t.l, k, t.x);
    affine_axis(access_dim(k, t.at_x, 0), t.n, 1);
    affine_axis(access_dim(k, t.at_x, 1), t.i, 1);
    affine_axis(access_dim(k, t.at_x, 1), t.j, 1);
    access_dim(k, t.at_x, 1)->offset = -1;
    affine_guard(access_dim(k, t.at_x, 1), 0, 4);
    t.at_w = kernel_access(t.l, k, t.w);
    affine_axis(access_dim(k, t.at_w, 0), t.j, 1);
    t.at_y = kernel_access(t.l, k, t.y);
    affine_axis(access_dim(k, t.at_y, 0), t.n, 1);
    affine_axis(access_dim(k, t.at_y, 1), t.i, 1);
    ExprId product = expr_op(t.l, k, EX_MUL, expr_load(t.l, k, t.at_x), expr_load(t.l, k, t.at_w), 0);
    t.sum = expr_reduce(t.l, k, EX_SUM, product, 0, 1u << t.j);
    kernel_out(k, t.at_y, t.sum);
    return t;
}

static void expect(T *t, const char *part)
{
    const char *why = "nothing wrong";
    kernels_add(t->l, t->k);
    bool ok = kernels_verify(t->l, &why);
    if (part ? ok || !strstr(why, part) : !ok)
        fail_msg("wanted \"%s\", got \"%s\"", part ? part : "no complaint", why);
    arena_free(t->a);
}

static void test_layouts(void **state)
{
    (void)state;
    Buffer b = {.shape = shape_of(3, 10, 3, 5), .layout = layout_plain(3)};
    assert_int_equal(buffer_elements(&b), 150);
    assert_int_equal(layout_index(&b, (int64_t[]){2, 1, 4}), 2 * 15 + 5 + 4);
    b.layout = (Layout){.block_dim = 0, .lanes = 8, .order = {0, 1, 2}};       /* [n/8][c][h][8] */
    assert_int_equal(buffer_elements(&b), 2 * 3 * 5 * 8);
    assert_int_equal(layout_index(&b, (int64_t[]){9, 2, 1}), ((1 * 3 + 2) * 5 + 1) * 8 + 1);
    b.layout = (Layout){.block_dim = 1, .lanes = 2, .order = {2, 0, 1}};       /* [h][n][c/2][2] */
    assert_int_equal(buffer_elements(&b), 5 * 10 * 2 * 2);
    assert_int_equal(layout_index(&b, (int64_t[]){3, 2, 4}), ((4 * 10 + 3) * 2 + 1) * 2);
    int64_t stride[MAX_RANK];
    layout_strides(&b, stride);
    assert_int_equal(stride[1], 2);
    assert_int_equal(stride[0], 4);
    assert_int_equal(stride[2], 40);
    /* Distinct indices have distinct places. */
    char seen[200] = {0};
    for (int64_t n = 0; n < 10; n++)
        for (int64_t c = 0; c < 3; c++)
            for (int64_t h = 0; h < 5; h++)
                assert_int_equal(seen[layout_index(&b, (int64_t[]){n, c, h})]++, 0);
}

static void test_sharing(void **state)
{
    (void)state;
    T t = make();
    int32_t n_expr = t.k->n_expr, n_access = t.k->n_access;
    AccessId again = kernel_access(t.l, t.k, t.w);
    affine_axis(access_dim(t.k, again, 0), t.j, 1);
    assert_int_equal(t.k->expr[expr_load(t.l, t.k, again)].at, t.at_w);
    assert_int_equal(t.k->n_expr, n_expr);
    assert_int_equal(t.k->n_access, n_access);
    assert_int_equal(expr_axes(t.k, t.sum), 1u << t.n | 1u << t.i);
    expr_op(t.l, t.k, EX_NEG, t.sum, 0, 0);   /* dead */
    expr_const(t.l, t.k, 3);
    kernels_add(t.l, t.k);
    assert_int_equal(t.l->kernels.at[0].n_expr, n_expr);
    arena_free(t.a);
}

static void test_text(void **state)
{
    (void)state;
    T t = make();
    char text[512] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    kernel_print(t.l, t.k, f);
    fclose(f);
    assert_string_equal(text, "k  n<=5 i=4 | j=3\n  y[n,i] = SUM[j](x[n,i+j-1 in 0..4] * w[j])\n");
    arena_free(t.a);
}

/* The same numbers under any layout, and rows past n untouched. */
static void test_interpreter(void **state)
{
    (void)state;
    for (int blocked = 0; blocked < 2; blocked++) {
        T t = make();
        kernels_add(t.l, t.k);
        if (blocked)
            t.l->buffers.at[t.y].layout = (Layout){.block_dim = 0, .lanes = 4, .order = {1, 0}};
        double x[20], w[3] = {1, 10, 100}, y[64], *mem[4] = {NULL};
        for (int i = 0; i < 20; i++)
            x[i] = i + 1;
        for (int i = 0; i < 64; i++)
            y[i] = -7;
        mem[t.x] = x;
        mem[t.w] = w;
        mem[t.y] = y;
        kernels_interpret(t.l, mem, 3, NULL);
        for (int64_t n = 0; n < 5; n++)
            for (int64_t i = 0; i < 4; i++) {
                double want = 0;
                for (int64_t j = 0; j < 3; j++)
                    want += i + j - 1 >= 0 && i + j - 1 < 4 ? x[n * 4 + i + j - 1] * w[j] : 0;
                double got = y[layout_index(&t.l->buffers.at[t.y], (int64_t[]){n, i})];
                assert_true(got == (n < 3 ? want : -7));
            }
        arena_free(t.a);
    }
}

/* Integers wrap at 32 bits; NaN wins a maximum; the first of equal maxima gives the payload. */
static void test_numbers(void **state)
{
    (void)state;
    T t = make();
    Kernel *k = t.k;
    ExprId big = expr_op(t.l, k, EX_IMUL, expr_iconst(t.l, k, 0x7FEB352D), expr_iconst(t.l, k, 12345), 0);
    ExprId shifted = expr_op(t.l, k, EX_ISHR, big, expr_iconst(t.l, k, 4), 0);
    AccessId x = kernel_access(t.l, k, t.x);
    affine_axis(access_dim(k, x, 0), t.n, 1);
    affine_axis(access_dim(k, x, 1), t.j, 1);
    ExprId load = expr_load(t.l, k, x), at = expr_add(t.l, k, (Expr){.op = EX_INDEX, .axis = (int8_t)t.j});
    ExprId max = expr_reduce(t.l, k, EX_MAX_OVER, load, 0, 1u << t.j), first = expr_reduce(t.l, k, EX_ARGMAX, load, at, 1u << t.j);
    ExprId which = expr_op(t.l, k, EX_IEQ, expr_add(t.l, k, (Expr){.op = EX_INDEX, .axis = (int8_t)t.i}), expr_iconst(t.l, k, 0), 0);
    ExprId hash = expr_op(t.l, k, EX_TOFLOAT, shifted, 0, 0);
    k->out[0].value = expr_op(t.l, k, EX_SEL, which, hash, expr_op(t.l, k, EX_ADD, max, expr_op(t.l, k, EX_TOFLOAT, first, 0, 0), 0));
    kernels_add(t.l, k);
    const char *why = "";
    assert_true(kernels_verify(t.l, &why));
    double data[20] = {3, 5, 5, 0, 1, NAN, 2, 0}, y[20], *mem[4] = {NULL};
    mem[t.x] = data;
    mem[t.y] = y;
    kernels_interpret(t.l, mem, 2, NULL);
    assert_true(y[0] == (double)(int32_t)(0x7FEB352Du * 12345u >> 4));
    assert_true(y[1] == 5 + 1);
    assert_true(isnan(y[5]));
    arena_free(t.a);
}

static void test_rules(void **state)
{
    (void)state;
    T t = make();
    expect(&t, NULL);
    t = make();
    access_dim(t.k, t.at_x, 1)->guarded = false;
    expect(&t, "outside 0..3");
    t = make();
    access_dim(t.k, t.at_x, 1)->hi = 5;
    expect(&t, "outside 0..3");
    t = make();
    t.k->axis[t.i].extent = 3;
    expect(&t, "15 of the 20 elements of y");
    t = make();
    access_dim(t.k, t.at_y, 1)->coef[t.i] = 0;
    access_dim(t.k, t.at_y, 1)->coef[t.j] = 1;
    expect(&t, "depends on an axis");
    t = make();
    access_dim(t.k, t.at_y, 0)->coef[t.n] = 0;
    access_dim(t.k, t.at_y, 0)->coef[t.i] = 1;
    expect(&t, "share an axis");
    t = make();
    t.k->out[0].value = expr_iconst(t.l, t.k, 1);
    expect(&t, "wrong type");
    t = make();
    t.k->out[0].value = expr_op(t.l, t.k, EX_IADD, t.sum, expr_iconst(t.l, t.k, 1), 0);
    expect(&t, "wrong type");
    t = make();
    t.k->access[t.at_y].buf = t.w;
    t.k->access[t.at_y].rank = 1;
    expect(&t, "");
    t = make();
    kernel_axis(t.k, AXIS_PAR, "z", 2, false);
    expect(&t, "axis z");
    t = make();
    t.k->axis[t.i].kind = AXIS_RED;
    expect(&t, "axis i");
    t = make();
    t.k->n_out = 0;
    expect(&t, "no output");
    t = make();
    Kernel twice = *t.k;
    kernels_add(t.l, &twice);
    expect(&t, "written twice");
    t = make();
    t.l->buffers.at[t.x].kind = BUF_WORK;
    expect(&t, "read before it is written");
}

/* A state tensor: its update may read it at the stored point only, and nobody may read it afterwards. */
static void test_updates(void **state)
{
    (void)state;
    for (int wrong = 0; wrong < 3; wrong++) {
        T t = make();
        Buffer next = {.name = "x'", .kind = BUF_STATE, .dtype = DT_F32, .shape = shape_of(2, 5, 4), .updates = t.x};
        t.l->buffers.at[t.x].kind = BUF_STATE;
        BufId to = kernels_add_buffer(t.l, &next);
        if (wrong != 2)
            kernels_add(t.l, t.k);
        Kernel *k = kernel_new(t.l, "update", -1, (Span){0, 0});
        int n = kernel_axis(k, AXIS_PAR, "n", 5, false), i = kernel_axis(k, AXIS_PAR, "i", 4, false);
        AccessId old = kernel_access(t.l, k, t.x), new = kernel_access(t.l, k, to);
        for (int d = 0; d < 2; d++) {
            affine_axis(access_dim(k, old, d), d ? i : n, 1);
            affine_axis(access_dim(k, new, d), d ? i : n, 1);
        }
        if (wrong == 1) {
            affine_axis(access_dim(k, old, 1), i, -2);
            access_dim(k, old, 1)->offset = 3;
        }
        kernel_out(k, new, expr_op(t.l, k, EX_NEG, expr_load(t.l, k, old), 0, 0));
        if (wrong == 2) {
            kernels_add(t.l, k);
            expect(&t, "read after its update");
            continue;
        }
        t.k = k;
        expect(&t, wrong ? "read at another point" : NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts), cmocka_unit_test(test_sharing), cmocka_unit_test(test_text), cmocka_unit_test(test_interpreter),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_rules), cmocka_unit_test(test_updates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
