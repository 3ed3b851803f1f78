/* No stack traffic inside the innermost loops that do the work: the assembly of contractions is read back, x86-64's and aarch64's, and
 * a loop with multiply-adds that touches the stack is a register tile that does not fit. */
#include "tests/unit/assembly.h"

/* MAY_WAIT: a transform stores one value and reads it again; LARGE: lines of one of tiles of 25 outputs, which does so with a few. */
enum { MANY_FMA = 6, MAY_WAIT = 2, LARGE = 250, LARGE_MAY_WAIT = 12 };
/* transforms: loops count that do other things beside multiply-adds; fma, loads: of all these loops */
typedef struct { bool transforms; int loops, with_stack, fma, loads; const char *where; } Count;

/* The product of what is no fused multiply-add: there are two instructions more to each. */
static bool is_product(const char *line) { return strstr(line, "\tmulps") != NULL; }
static bool is_fma(const char *line) { return strstr(line, "vfmadd") || strstr(line, "fmla\t") || is_product(line); }

/* No label, comment or mark of inline assembly. */
static bool is_instruction(const char *line) { return line[0] == '\t' && !strchr("#./", line[1]); }

/* A vector to or from the stack; anything on aarch64. */
static bool touches_stack(const char *line) { return (strstr(line, "(%rsp") && strstr(line, "mm")) || strstr(line, "[sp"); }

/* aarch64: a load into vector registers. */
static bool is_vector_load(const char *line)
{
    const char *to = strncmp(line, "\tld", 3) == 0 ? strchr(line + 1, '\t') : NULL;
    return to && strchr("qdsv{", to[1]);
}

/* Parts of a Winograd convolution (codegen/winograd.c) that are no product, told by the label, which is the kernel's name: what runs for
 * every tile, and what runs once a step. */
static bool is_transform(const char *label) { return strstr(label, ".input") || strstr(label, ".output"); }
static bool transforms_weights(const char *label) { return strstr(label, ".weights"); }

static void count_loop(const Lines *l, int first, int last, const char *function, void *arg)
{
    Count *c = arg;
    int fma = 0, stack = 0, loads = 0, share = 40, lines = 0;
    for (int i = first; i <= last; i++) {
        lines += is_instruction(l->at[i]);
        fma += is_fma(l->at[i]);
        share = is_product(l->at[i]) ? 18 : share;
        stack += touches_stack(l->at[i]);
        loads += is_vector_load(l->at[i]);
    }
    bool transform = is_transform(function) || fma * 100 < lines * share;
    if (fma < MANY_FMA || transforms_weights(function) || (transform && !c->transforms))
        return;
    c->loops++;
    c->fma += fma;
    c->loads += loads;
    bool spills = stack > (!transform ? 0 : lines > LARGE ? LARGE_MAY_WAIT : MAY_WAIT);
    c->with_stack += spills;
    if (spills)
        c->where = function;
}

static Count count_spills(Arena *a, char *assembly, bool transforms)
{
    Count c = {.transforms = transforms};
    for_inner_loops(a, assembly, count_loop, &c);
    return c;
}

static Count count_net(Arena *a, const char *net, Shape input, int64_t batch, const char *cpu, bool training)
{
    CpuTarget t;
    const char *why = NULL;
    assert_true(target_find(a, strncmp(cpu, "x86", 3) == 0 ? "x86_64-linux-gnu" : "aarch64-linux-gnu", cpu, &t, &why));
    CompileOptions o = {.target = target_nest(&t), .name = "test"};
    bool transforms = t.registers == 32 && t.lanes == 16;   /* Winograd's straight-line transforms may spill where there are fewer, or multiply-adds take no memory */
    return count_spills(a, assembly_of(a, net_program(a, net, input, batch, &o, training), &t), transforms);
}

static void test_no_spills(void **unused)
{
    (void)unused;
    static const char lenet[] = "conv out=6 k=5 p=2; act ReLU; maxpool k=2; conv out=16 k=5; act ReLU; maxpool k=2; flatten; "
                                "linear out=120; act ReLU; linear out=84; act ReLU; linear out=10";
    static const char tiny[] = "conv out=10 k=3 p=1; act ReLU; conv out=10 k=3 p=1; act ReLU; maxpool k=2; flatten; linear out=3";
    static const char wide[] = "conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1 s=2; act ReLU; conv out=128 k=1; act ReLU";
    static const char halves[] = "conv out=8 k=5 s=2 p=2; act ReLU; conv out=16 k=3 s=2 p=1; act ReLU; conv out=32 k=3 s=2 p=1; act ReLU; "
                                 "conv out=64 k=3 s=2 p=1; act ReLU; conv out=10 k=3 s=2 p=1";
    static const char points[] = "conv out=32 k=1; act ReLU; conv out=96 k=1; conv out=24 k=1; conv out=16 k=1";
    static const char winograd[] = "conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1; act ReLU; maxpool k=2; conv out=128 k=3 p=1";
    static const char trained[] =
        "conv out=64 k=3 p=1; act ReLU; conv out=64 k=3 p=1; act ReLU; maxpool k=2; conv out=64 k=3 p=1; flatten; linear out=3";
    enum { SOME = 0, MORE = 15, TWICE = 20 };   /* aarch64's multiply-adds to ten vector loads, at least */
    static const struct { const char *net; int64_t c, h, batch; bool training; const char *cpu; int per_load; } rows[] = {
        {lenet, 1, 28, 1, false, "x86-64-v4", SOME},   {lenet, 1, 28, 32, false, "x86-64-v4", SOME},  {lenet, 1, 28, 64, true, "x86-64-v4", SOME},
        {tiny, 3, 64, 32, true, "x86-64-v4", SOME},    {wide, 64, 56, 1, false, "x86-64-v4", SOME},   {points, 192, 28, 1, false, "x86-64-v4", SOME},
        {points, 192, 28, 1, false, "x86-64-v3", SOME},  {lenet, 1, 28, 1, false, "x86-64-v3", SOME},
        {lenet, 1, 28, 32, false, "x86-64-v3", SOME},    {wide, 64, 56, 1, false, "x86-64-v3", SOME},
        {halves, 1, 28, 32, false, "x86-64-v3", SOME},   {halves, 1, 28, 32, false, "x86-64-v4", SOME},
        {wide, 64, 56, 16, false, "x86-64-v3", SOME},
        {points, 192, 28, 1, false, "x86-64", SOME},     {lenet, 1, 28, 1, false, "x86-64", SOME},
        {lenet, 1, 28, 1, false, "cortex-a72", SOME},    {lenet, 1, 28, 32, false, "cortex-a72", SOME},
        {lenet, 1, 28, 64, true, "neoverse-n1", SOME},   {tiny, 3, 64, 1, false, "cortex-a53", SOME},
        {tiny, 3, 64, 32, true, "cortex-a76", TWICE},    {wide, 64, 56, 1, false, "cortex-a72", MORE},
        {points, 192, 28, 1, false, "neoverse-n1", TWICE}, {points, 192, 28, 1, false, "apple-m1", TWICE},
        {winograd, 32, 32, 1, false, "cortex-a72", TWICE}, {winograd, 32, 32, 32, false, "generic", TWICE},
        {winograd, 32, 32, 1, false, "x86-64-v4", SOME},   {winograd, 64, 56, 8, false, "x86-64-v4", SOME},
        {trained, 32, 32, 32, true, "x86-64-v4", SOME},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        Arena *a = arena_new();
        Count c = count_net(a, rows[i].net, shape_of(3, rows[i].c, rows[i].h, rows[i].h), rows[i].batch, rows[i].cpu, rows[i].training);
        if (!c.loops)
            fail_msg("net %d: no loops", (int)i);
        if (c.with_stack)
            fail_msg("net %d: %d of %d loops touch the stack, one in %s", (int)i, c.with_stack, c.loops, c.where);
        if (c.fma * 10 < c.loads * rows[i].per_load)
            fail_msg("net %d: %d multiply-adds, %d loads", (int)i, c.fma, c.loads);
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
    Count c = count_spills(a, text, false);
    assert_int_equal(c.loops, 2);
    assert_int_equal(c.with_stack, 1);
    assert_string_equal(c.where, "g:");
    char arm[] = "f: // @f\n.LBB0_1: // %r\n // =>This Inner Loop Header: Depth=1\n\tldp\tq0, q1, [x1]\n\tldr\tx3, [x2]\n\tfmla\tv1.4s, v2.4s, v3.s[0]\n"
                 "\tfmla\tv1\n\tfmla\tv1\n\tfmla\tv1\n\tfmla\tv1\n\tfmla\tv1\n\tb.lo\t.LBB0_1\n\tret\n"
                 "g: // @g\n.LBB1_1: // =>This Inner Loop Header: Depth=1\n\tld1r\t{ v1.4s }, [x1]\n\tfmla\tv1\n\tfmla\tv1\n\tfmla\tv1\n\tfmla\tv1\n"
                 "\tfmla\tv1\n\tfmla\tv1\n\tstr\tq0, [sp, #16] // 16-byte Folded Spill\n\tcbnz\tx1, .LBB1_1\n\tret\n";
    c = count_spills(a, arm, false);
    assert_int_equal(c.loops, 2);
    assert_int_equal(c.with_stack, 1);
    assert_int_equal(c.fma, 12);
    assert_int_equal(c.loads, 2);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reader), cmocka_unit_test(test_no_spills)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
