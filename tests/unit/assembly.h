/* Reading the assembly of compiled nets, x86-64's and aarch64's: lines, and the innermost loops among them. LLVM's comments tell which labels head innermost
 * loops. */
#ifndef CNNC_TESTS_UNIT_ASSEMBLY_H
#define CNNC_TESTS_UNIT_ASSEMBLY_H
#include "tests/unit/nets.h"

#include "codegen/compile.h"
#include "codegen/cpu/module.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct { const char **at; int n; } Lines;

static inline Lines split_lines(Arena *a, char *text)
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

static inline bool is_label(const char *line, const char *name, size_t n) { return strncmp(line, name, n) == 0 && line[n] == ':'; }

static inline bool is_comment(const char *line)
{
    line += strspn(line, "\t ");
    return *line == '#' || strncmp(line, "//", 2) == 0;
}

/* Is the label on line i the head of an innermost loop? LLVM says so in the comments after it. */
static inline bool heads_inner_loop(const Lines *l, int i)
{
    for (int k = i; k < l->n && (k == i || is_comment(l->at[k])); k++)
        if (strstr(l->at[k], "This Inner Loop Header"))
            return true;
    return false;
}

/* The line of the label that line i jumps back to when that closes an innermost loop, or -1. */
static inline int loop_start(const Lines *l, int i, int function)
{
    const char *j = l->at[i] + strspn(l->at[i], "\t ");
    bool jumps = *j == 'j' || strncmp(j, "b.", 2) == 0 || strncmp(j, "cbnz", 4) == 0 || strncmp(j, "tbnz", 4) == 0;
    const char *target = jumps ? strstr(j, ".LBB") : NULL;
    size_t n = target ? strcspn(target, " \t#/") : 0;
    for (int k = i; target && k >= function; k--)
        if (is_label(l->at[k], target, n))
            return heads_inner_loop(l, k) ? k : -1;
    return -1;
}

static inline bool is_function(const char *line) { return !strchr("\t. #/", line[0]) && strchr(line, ':'); }

/* What is called for every innermost loop: its lines, and the line of its function's label. */
typedef void (*LoopFn)(const Lines *l, int first, int last, const char *function, void *arg);

static inline void for_inner_loops(Arena *a, char *assembly, LoopFn see, void *arg)
{
    Lines l = split_lines(a, assembly);
    int function = 0;
    for (int i = 0; i < l.n; i++) {
        if (is_function(l.at[i]))
            function = i;
        int start = loop_start(&l, i, function);
        if (start >= 0)
            see(&l, start, i, l.at[function], arg);
    }
}

/* Weights of all parameters (what they are does not matter). */
static inline RefNamed *weights_of(Arena *a, const Graph *g, int32_t *n)
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

/* A net as a Program, with some weights. */
static inline Program *net_program(Arena *a, const char *net, Shape input, int64_t batch, CompileOptions *o, bool training)
{
    Diags d;
    diags_init(&d, a, NULL);
    Module *m = NEW(a, Module);   /* the program points into it */
    *m = (Module){.graph = net_build(a, net, batch, input),
                  .train = {.present = true, .train = {.optimizer = CNNC_OPT_SGD, .lr = 0.1, .momentum = 0.9, .batch_size = (int32_t)batch}}};
    PassContext pc = {.arena = a, .diags = &d, .module = m};
    int32_t n;
    RefNamed *w = weights_of(a, m->graph, &n);
    Program *p = training ? compile_training(a, &pc, o) : compile_inference(a, &pc, w, n, o);
    assert_non_null(p);
    return p;
}

static inline char *assembly_of(Arena *a, const Program *p, const CpuTarget *t)
{
    Bytes text;
    const char *why = NULL;
    if (!module_compile(a, p, t, CPU_ASM, false, &text, &why))
        fail_msg("%s", why);
    char *copy = arena_strndup(a, text.data, text.size);
    free(text.data);
    return copy;
}
#endif
