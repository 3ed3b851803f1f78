/* train_step against PyTorch: five steps of small nets, run by the reference interpreter in double precision, agree with
 * tests/unit/data/train.txt to 1e-9 in every loss and every tensor; with and without simplify. */
#include "tests/unit/train_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static Graph *checked(Graph *g)
{
    const char *why = NULL;
    assert_non_null(g);
    if (!graph_verify(g, &why))
        fail_msg("%s", why);
    return g;
}

static Graph *step_graph(Arena *a, const Case *c, const TrainSpec *spec, bool simplified)
{
    Graph *g = net_build(a, c->net, (int64_t)case_option(c, "batch", 1), c->input);
    Diags d;
    diags_init(&d, a, NULL);
    if (simplified)
        g = checked(simplify(a, g));
    g = checked(train_step(a, g, spec, &d));
    return simplified ? checked(simplify(a, g)) : g;
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-9 * (1 + fabs(b)); }

static void check_tensors(const Graph *g, double **state, const Case *c)
{
    int found = 0;
    for (ValueId v = 1; v < g->values.len; v++)
        for (int i = 0; state[v] && i < c->n_tensors; i++) {
            if (strcmp(graph_value(g, v)->name, c->tensor[i].name) != 0)
                continue;
            char *p = (char *)c->tensor[i].numbers;
            assert_int_equal(shape_elements(&graph_value(g, v)->shape), c->tensor[i].n);
            for (int64_t k = 0; k < c->tensor[i].n; k++) {
                double want = strtod(p, &p);
                if (!near(state[v][k], want))
                    fail_msg("%s: %s[%lld] is %.12g, PyTorch has %.12g", c->net, c->tensor[i].name, (long long)k, state[v][k], want);
            }
            found++;
        }
    assert_int_equal(found, c->n_tensors);
}

static void check_case(Arena *a, const Case *c, bool simplified)
{
    TrainSpec spec = case_spec(c);
    Graph *g = step_graph(a, c, &spec, simplified);
    double **state = state_start(a, g);
    for (int k = 0; k < STEPS; k++) {
        RefInputs in = step_inputs(a, g, &spec.train, state, k);
        RefRun *run = ref_run(a, g, &in);
        if (run->error)
            fail_msg("%s: %s", c->net, run->error);
        double loss = run->value[g->loss].data[0];
        if (!near(loss, c->loss[k]))
            fail_msg("%s: loss of step %d is %.14g, PyTorch has %.14g", c->net, k, loss, c->loss[k]);
        assert_int_equal(g->correct ? (int)run->value[g->correct].data[0] : 0, c->right[k]);
        state_advance(g, state, run);
    }
    check_tensors(g, state, c);
}

static void check_file(bool simplified)
{
    FILE *f = case_open();
    assert_non_null(f);
    int cases = 0;
    for (;; cases++) {
        Arena *a = arena_new();
        Case *c = NEW(a, Case);
        bool more = case_next(a, f, c);
        if (more)
            check_case(a, c, simplified);
        arena_free(a);
        if (!more)
            break;
    }
    fclose(f);
    assert_true(cases >= 80);
}

static void test_five_steps(void **state) { (void)state, check_file(false); }
static void test_five_steps_simplified(void **state) { (void)state, check_file(true); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_five_steps), cmocka_unit_test(test_five_steps_simplified)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
