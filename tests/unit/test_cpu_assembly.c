/* No stack traffic inside the innermost loops that do the work: the assembly of contractions is read back, and a loop with
 * multiply-adds that touches the stack is a register tile that does not fit. */
#include "tests/unit/assembly.h"

enum { MANY_FMA = 6 };
typedef struct { int loops, with_stack; const char *where; } Count;

static void count_loop(const Lines *l, int first, int last, const char *function, void *arg)
{
    Count *c = arg;
    int fma = 0, stack = 0;
    for (int i = first; i <= last; i++) {
        fma += strstr(l->at[i], "vfmadd") != NULL;
        stack += strstr(l->at[i], "(%rsp") && strstr(l->at[i], "mm");
    }
    if (fma < MANY_FMA || fma * 5 < (last - first) * 2)   /* straight-line transforms may spill; tiles may not */
        return;
    c->loops++;
    c->with_stack += stack > 0;
    if (stack > 0)
        c->where = function;
}

static Count count_spills(Arena *a, char *assembly)
{
    Count c = {0};
    for_inner_loops(a, assembly, count_loop, &c);
    return c;
}

static Count count_net(Arena *a, const char *net, Shape input, int64_t batch, const char *cpu, bool training)
{
    CpuTarget t;
    const char *why = NULL;
    assert_true(target_find(a, NULL, cpu, &t, &why));
    CompileOptions o = {.target = {.lanes = t.lanes, .registers = t.registers, .l1 = t.l1, .l2 = t.l2, .l3 = t.l3}, .name = "test"};
    return count_spills(a, assembly_of(a, net_program(a, net, input, batch, &o, training), &t));
}

static void test_no_spills(void **unused)
{
    (void)unused;
    static const char lenet[] = "conv out=6 k=5 p=2; act ReLU; maxpool k=2; conv out=16 k=5; act ReLU; maxpool k=2; flatten; "
                                "linear out=120; act ReLU; linear out=84; act ReLU; linear out=10";
    static const char tiny[] = "conv out=10 k=3 p=1; act ReLU; conv out=10 k=3 p=1; act ReLU; maxpool k=2; flatten; linear out=3";
    static const char wide[] = "conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1 s=2; act ReLU; conv out=128 k=1; act ReLU";
    static const char points[] = "conv out=32 k=1; act ReLU; conv out=96 k=1; conv out=24 k=1; conv out=16 k=1";
    static const struct { const char *net; int64_t c, h, batch; bool training; const char *cpu; } rows[] = {
        {lenet, 1, 28, 1, false, "x86-64-v4"},   {lenet, 1, 28, 32, false, "x86-64-v4"},  {lenet, 1, 28, 64, true, "x86-64-v4"},
        {tiny, 3, 64, 32, true, "x86-64-v4"},    {wide, 64, 56, 1, false, "x86-64-v4"},   {points, 192, 28, 1, false, "x86-64-v4"},
        {points, 192, 28, 1, false, "x86-64-v3"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Arena *a = arena_new();
        Count c = count_net(a, rows[i].net, shape_of(3, rows[i].c, rows[i].h, rows[i].h), rows[i].batch, rows[i].cpu, rows[i].training);
        assert_true(c.loops > 0);
        if (c.with_stack)
            fail_msg("net %d: %d of %d loops touch the stack, one in %s", (int)i, c.with_stack, c.loops, c.where);
        arena_free(a);
    }
}

/* The reader of assembly itself: one loop of each kind. */
static void test_reader(void **unused)
{
    (void)unused;
    Arena *a = arena_new();
    char text[] = "f: # @f\n.LBB0_1: # %outer\n # =>This Loop Header: Depth=1\n\tvmovups 8(%rsp), %zmm1\n.LBB0_2: # %q\n"
                  " # Parent Loop BB0_1 Depth=1\n # =>  This Inner Loop Header: Depth=2\n\tvfmadd231ps a\n\tvfmadd231ps a\n\tvfmadd231ps a\n"
                  "\tvfmadd231ps a\n\tvfmadd231ps a\n\tvfmadd231ps a\n\tjb\t.LBB0_2\n\tjne\t.LBB0_1\n\tretq\n"
                  "g:\n.LBB1_1: # =>This Inner Loop Header: Depth=1\n\tvfmadd231ps a\n\tvfmadd231ps a\n\tvfmadd231ps a\n\tvfmadd231ps a\n"
                  "\tvfmadd231ps a\n\tvfmadd231ps a\n\tvmovups %zmm1, 8(%rsp)\n\tjb\t.LBB1_1\n\tretq\n";
    Count c = count_spills(a, text);
    assert_int_equal(c.loops, 2);
    assert_int_equal(c.with_stack, 1);
    assert_string_equal(c.where, "g:");
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reader), cmocka_unit_test(test_no_spills)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
