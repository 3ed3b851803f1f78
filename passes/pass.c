/* The pass runner: which passes run, in which order, for what.
 *
 * In: a Module. Out: the graph of the pipeline asked for, and how its nodes are fused. Invariant: the graph is verified
 * after every pass in builds with CNNC_CHECKS (or with --verify-each); a failure is our fault and aborts.
 * Idea: the order is a table. simplify runs before gradients are taken, so that the backward pass is of the simple form,
 * and again on what the other passes made. */
#include "passes/pass.h"

#include <string.h>
#include <time.h>

typedef struct { const char *name; bool optional; const char *text; } PassRow;

static const PassRow rows[PASS_COUNT] = {
#define PASS(name, optional, text) [PASS_##name] = {#name, optional, text},
#include "passes/passes.def"
#undef PASS
};

static const PassId pipelines[][6] = {
    [PIPELINE_CHECK] = {PASS_shape, PASS_lint, PASS_COUNT},
    [PIPELINE_INFER] = {PASS_bn_fold, PASS_simplify, PASS_fuse, PASS_COUNT},
    [PIPELINE_EVAL] = {PASS_eval_graph, PASS_simplify, PASS_fuse, PASS_COUNT},
    [PIPELINE_TRAIN] = {PASS_simplify, PASS_train_step, PASS_simplify, PASS_recompute, PASS_fuse, PASS_COUNT},
};

const char *pass_name(PassId p) { return rows[p].name; }
const char *pass_text(PassId p) { return rows[p].text; }
bool pass_is_optional(PassId p) { return rows[p].optional; }

PassId pass_find(const char *name)
{
    PassId p = 0;
    while (p < PASS_COUNT && strcmp(rows[p].name, name) != 0)
        p++;
    return p;
}

static bool recompute_wanted(const PassContext *c, const Graph *g)
{
    return c->recompute == RECOMPUTE_MOST || (c->recompute == RECOMPUTE_CHEAP && recompute_pays(c->arena, g));
}

/* The graph after pass p, or NULL where errors leave none. */
static Graph *run_pass(PassContext *c, PassId p, Graph *g)
{
    switch (p) {
    case PASS_shape: (void)shape(g, c->diags); return g;   /* warnings are looked for in any case */
    case PASS_lint: lint(c->module, c->diags); return g;
    case PASS_bn_fold: return bn_fold(c->arena, g);
    case PASS_eval_graph: return eval_graph(c->arena, g);
    case PASS_train_step: return train_step(c->arena, g, &c->module->train, c->diags);
    case PASS_simplify: return simplify(c->arena, g);
    case PASS_recompute: return recompute_wanted(c, g) ? recompute(c->arena, g, c->recompute) : g;
    case PASS_fuse: c->fusion = fuse(c->arena, g); return g;
    case PASS_COUNT: break;
    }
    BUG("no such pass");
}

/* An optional pass that is switched off still owes what the rest relies on. */
static Graph *skip_pass(PassContext *c, PassId p, Graph *g)
{
    if (p == PASS_bn_fold)
        return eval_graph(c->arena, g);
    if (p == PASS_fuse)
        c->fusion = fuse_none(c->arena, g);
    return g;
}

static void verify(const PassContext *c, PassId p, const Graph *g)
{
#ifdef CNNC_CHECKS
    bool on = true;
#else
    bool on = c->verify;
#endif
    (void)c;
    const char *why = "?";
    if (on && !graph_verify(g, &why))
        BUG("after %s: %s", rows[p].name, why);
}

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void dump(PassContext *c, PassId p, const Graph *g)
{
    graph_print(g, c->dump_to);
    if (p == PASS_fuse)
        fusion_print(g, c->fusion, c->dump_to);
    c->dumped = true;
}

static bool is_last_run(const PassId *passes, int i)
{
    for (int j = i + 1; passes[j] != PASS_COUNT; j++)
        if (passes[j] == passes[i])
            return false;
    return true;
}

Graph *passes_run(PassContext *c, Pipeline which)
{
    Graph *g = c->module->graph;
    const PassId *passes = pipelines[which];
    int errors_before = c->diags->errors;
    for (int i = 0; g && passes[i] != PASS_COUNT; i++) {
        PassId p = passes[i];
        double start = milliseconds();
        g = c->off[p] && rows[p].optional ? skip_pass(c, p, g) : run_pass(c, p, g);
        if (c->time)
            fprintf(stderr, "%-12s %8.3f ms\n", rows[p].name, milliseconds() - start);
        if (!g)
            break;
        if (c->diags->errors == 0)                    /* elaborate leaves undefined values where it reported an error */
            verify(c, p, g);
        if (c->dump && strcmp(c->dump, rows[p].name) == 0 && is_last_run(passes, i))
            dump(c, p, g);
    }
    return c->diags->errors == errors_before ? g : NULL;
}
