/* Schedules against PyTorch's numbers (tests/torch/make_schedules.py), fastai's one-cycle, and lengths that make no sense. */
#include "runtime/schedule.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void near(double got, double want, const char *what, int line)
{
    if (fabs(got - want) > 1e-12 * fmax(fabs(want), 1e-300))
        fail_msg("case of line %d: %s is %.17g, PyTorch has %.17g", line, what, got, want);
}

static void run_case(FILE *f, int *line, const CnncTrain *t, int64_t steps, int64_t epochs)
{
    Schedule s;
    RtError e = {0};
    int start = *line;
    assert_true(schedule_init(&s, t, steps, epochs, &e));
    for (int64_t i = 0; i < steps * epochs; i++, ++*line) {
        double lr, momentum, metric;
        assert_int_equal(fscanf(f, "%la %la %la", &lr, &momentum, &metric), 3);
        near(s.now.lr, lr, "lr", start);
        near(s.now.momentum, momentum, "momentum", start);
        schedule_step_batch(&s);
        if ((i + 1) % steps == 0)
            schedule_step_epoch(&s, metric, metric);
    }
}

static void agrees_with_pytorch(void **state)
{
    (void)state;
    FILE *f = fopen("tests/unit/data/schedules.txt", "r");
    assert_non_null(f);
    int32_t milestones[8];
    int line = 1, cases = 0, n;
    long long steps, epochs;
    CnncTrain t = {0};
    while (fscanf(f, "%d %d %la %la %lld %lld", &t.schedule, &t.optimizer, &t.lr, &t.momentum, &steps, &epochs) == 6) {
        t.beta1 = t.momentum;
        for (int i = 0; i < 10; i++)
            assert_int_equal(fscanf(f, "%la", &t.sched[i]), 1);
        assert_int_equal(fscanf(f, "%d", &n), 1);
        for (int i = 0; i < n; i++)
            assert_int_equal(fscanf(f, "%d", &milestones[i]), 1);
        t.milestones = milestones;
        t.n_milestones = n;
        line++;
        run_case(f, &line, &t, steps, epochs);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 20);
}

static void agrees_with_fastai(void **state)
{
    (void)state;
    static const double want[] = {.004, .052, .1, .093301337, .07500025, .0500005, .02500075, .006699663};
    CnncTrain t = {.schedule = CNNC_SCHED_ONECYCLE, .sched = {0.1, 0.25, 25, 1e5, 0.85, 0.95, 0, 0, 1, 1}};
    Schedule s;
    assert_true(schedule_init(&s, &t, 4, 2, NULL));
    for (int i = 0; i < 8; i++) {
        assert_true(fabs(s.now.lr - want[i]) < 1e-8);
        schedule_step_batch(&s);
    }
}

static void refuses_empty_phases(void **state)
{
    (void)state;
    RtError e = {0};
    CnncTrain t = {.schedule = CNNC_SCHED_ONECYCLE, .sched = {0.1, 0.1, 25, 1e4, 0.85, 0.95, 0, 0, 1, 0}};
    Schedule s;
    assert_false(schedule_init(&s, &t, 10, 1, &e));   /* 0.1 * 10 - 1 = 0: the first phase has no length */
    assert_int_equal(e.kind, RT_FAIL);
    assert_non_null(strstr(e.text, "10 steps"));
    assert_true(schedule_init(&s, &t, 11, 1, &e));
    assert_false(schedule_init(&s, &t, 0, 1, &e));
    t = (CnncTrain){.schedule = CNNC_SCHED_STEP};
    assert_false(schedule_init(&s, &t, 10, 1, &e));
    t = (CnncTrain){.schedule = CNNC_SCHED_COSINE};
    assert_false(schedule_init(&s, &t, 10, 1, &e));
    t = (CnncTrain){.lr = 0.5};
    assert_true(schedule_init(&s, &t, 10, 1, &e));
    schedule_step_batch(&s);
    schedule_step_epoch(&s, 1, 0);
    assert_true(s.now.lr == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_pytorch), cmocka_unit_test(agrees_with_fastai),
                                       cmocka_unit_test(refuses_empty_phases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
