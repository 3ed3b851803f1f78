/* No stack traffic inside the innermost loops that do the work: the assembly of contractions is read back, and a loop with
 * multiply-adds that touches the stack is a register tile that does not fit. LLVM's comments tell which
 * labels head innermost loops. */
#include "tests/unit/nets.h"

#include "codegen/compile.h"
#include "codegen/cpu/module.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { MANY_FMA = 6 };
typedef struct { const char **at; int n; } Lines;

static Lines split_lines(Arena *a, char *text)
{
    Lines l = {0};
    int n = 1;
    for (char *c = text; *c; c++)
        n += *c == '\n';
    l.at = NEWN(a, const char *, n);
    for (char *save = NULL, *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save))
        l.at[l.n++] = s;
    return l;
}

static bool is_label(const char *line, const char *name, size_t n) { return strncmp(line, name, n) == 0 && line[n] == ':'; }

/* Is the label on line i the head of an innermost loop? LLVM says so in the comments after it. */
static bool heads_inner_loop(const Lines *l, int i)
{
    for (int k = i; k < l->n && (k == i || l->at[k][strspn(l->at[k], "\t ")] == '#'); k++)
        if (strstr(l->at[k], "This Inner Loop Header"))
            return true;
    return false;
}

/* The line of the label that line i jumps back to when that closes an innermost loop, or -1. */
static int loop_start(const Lines *l, int i, int function)
{
    const char *j = l->at[i] + strspn(l->at[i], "\t ");
    const char *target = *j == 'j' ? strstr(j, ".LBB") : NULL;
    size_t n = target ? strcspn(target, " \t#") : 0;
    for (int k = i; target && k >= function; k--)
        if (is_label(l->at[k], target, n))
            return heads_inner_loop(l, k) ? k : -1;
    return -1;
}

typedef struct { int loops, with_stack; const char *where; } Count;

static void count_loop(const Lines *l, int first, int last, const char *function, Count *c)
{
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
    Lines l = split_lines(a, assembly);
    Count c = {0};
    int function = 0;
    for (int i = 0; i < l.n; i++) {
        if (l.at[i][0] != '\t' && l.at[i][0] != '.' && l.at[i][0] != ' ' && l.at[i][0] != '#' && strchr(l.at[i], ':'))
            function = i;
        int start = loop_start(&l, i, function);
        if (start >= 0)
            count_loop(&l, start, i, l.at[function], &c);
    }
    return c;
}

/* Weights of all parameters (what they are does not matter). */
static RefNamed *weights_of(Arena *a, const Graph *g, int32_t *n)
{
    RefNamed *w = NEWN(a, RefNamed, g->nodes.len);
    *n = 0;
    for (NodeId id = 1; id < g->nodes.len; id++) {
        if (graph_node(g, id)->op != OP_PARAM)
            continue;
        const Value *v = graph_value(g, graph_node(g, id)->out[0]);
        double *data = NEWN(a, double, shape_elements(&v->shape));
        net_init(v->name, &v->shape, data);
        w[(*n)++] = (RefNamed){v->name, data, shape_elements(&v->shape), NULL};
    }
    return w;
}

static Count count_net(Arena *a, const char *net, Shape input, int64_t batch, const char *cpu, bool training)
{
    CpuTarget t;
    const char *why = NULL;
    assert_true(target_find(a, NULL, cpu, &t, &why));
    Diags d;
    diags_init(&d, a, NULL);
    Module m = {.graph = net_build(a, net, batch, input),
                .train = {.present = true, .train = {.optimizer = CNNC_OPT_SGD, .lr = 0.1, .momentum = 0.9, .batch_size = (int32_t)batch}}};
    PassContext pc = {.arena = a, .diags = &d, .module = &m};
    CompileOptions o = {.target = {.lanes = t.lanes, .registers = t.registers, .l1 = t.l1, .l2 = t.l2, .l3 = t.l3}, .name = "test"};
    int32_t n;
    RefNamed *w = weights_of(a, m.graph, &n);
    Program *p = training ? compile_training(a, &pc, &o) : compile_inference(a, &pc, w, n, &o);
    assert_non_null(p);
    Bytes text;
    if (!module_compile(a, p, &t, CPU_ASM, false, &text, &why))
        fail_msg("%s", why);
    Count c = count_spills(a, arena_strndup(a, text.data, text.size));
    free(text.data);
    return c;
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
