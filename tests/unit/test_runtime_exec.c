/* The thread pool, the stage loop, CPU checks, option tables, metrics: the runtime's plain parts. */
#include "runtime/args.h"
#include "runtime/cpu.h"
#include "runtime/exec.h"
#include "runtime/json_read.h"
#include "runtime/json_write.h"
#include "runtime/metrics.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST = 5000 };
typedef struct { atomic_int runs[MOST]; int threads; atomic_int bad; } Counts;

static void count_slice(void *context, int thread, int64_t slice)
{
    Counts *c = context;
    atomic_fetch_add(&c->runs[slice], 1);
    if (thread < 0 || thread >= c->threads)
        atomic_fetch_add(&c->bad, 1);
}

static void every_slice_runs_once(void **state)
{
    (void)state;
    static Counts c;
    for (int n = 1; n <= 9; n += 2) {
        Threads *t = threads_new(n);
        c.threads = threads_count(t);
        assert_int_equal(c.threads, n);
        for (int job = 0; job < 2000; job++) {
            int slices = job % 50 == 0 ? MOST : job % 17;
            memset(&c.runs, 0, sizeof c.runs);
            threads_run(t, count_slice, &c, slices);
            for (int i = 0; i < slices; i++)
                assert_int_equal(atomic_load(&c.runs[i]), 1);
            assert_int_equal(atomic_load(&c.runs[slices < MOST ? slices : MOST - 1]), slices == MOST);
            if (job % 400 == 0)
                usleep(3000);   /* long enough for the workers to fall asleep */
        }
        assert_int_equal(atomic_load(&c.bad), 0);
        threads_free(t);
    }
}

static void add_slice(void *context, int thread, int64_t slice)
{
    (void)thread;
    atomic_fetch_add((_Atomic int64_t *)context, slice + 1);
}

/* More slices than a lane counts: several make a unit. */
static void many_slices_run_once(void **state)
{
    (void)state;
    Threads *t = threads_new(3);
    for (int64_t n = 65534; n < 65538; n++) {
        _Atomic int64_t sum = 0, tripled = 0;
        threads_run(t, add_slice, &sum, n);
        threads_run(t, add_slice, &tripled, 3 * n);
        assert_true(sum == n * (n + 1) / 2 && tripled == 3 * n * (3 * n + 1) / 2);
    }
    threads_free(t);
}

static void idle_pool_takes_no_time(void **state)
{
    (void)state;
    Threads *t = threads_new(4);
    static Counts c = {.threads = 4};
    threads_run(t, count_slice, &c, 8);
    usleep(50000);
    double before = (double)clock() / CLOCKS_PER_SEC;
    usleep(200000);
    assert_true((double)clock() / CLOCKS_PER_SEC - before < 0.05);
    threads_free(t);
}

static void stage_sum(const CnncArgs *a, char *scratch, int64_t slice)
{
    assert_int_equal((uintptr_t)scratch % 64, 0);
    assert_int_equal((uintptr_t)a->work % 64, 0);
    ((float *)a->work)[slice] = a->in[slice] * 2;
}

static void stage_out(const CnncArgs *a, char *scratch, int64_t slice)
{
    (void)scratch;
    a->out[0] = 0;
    for (int64_t i = 0; i < a->n; i++)
        a->out[0] += ((float *)a->work)[i];
    a->out[1] = (float)slice;
}

static void stages_run_needed_slices(void **state)
{
    (void)state;
    const CnncStage stages[] = {{stage_sum, 8, 1, -1, -1, "sum", 1e9, 1e9, 0}, {stage_out, 1, 0, -1, -1, "out", 0, 0, 0}};
    const CnncFunction f = {stages, 2, 8, 8 * sizeof(float), 100}, *fs[] = {&f, NULL};
    CnncModel m = {.abi_version = CNNC_ABI_VERSION, .state_bytes = 10};
    RtError e = {0};
    Threads *t = threads_new(3);
    Exec *x = exec_new(&m, fs, 2, t, &e);
    assert_non_null(x);
    const float in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float out[2];
    double seconds[2] = {0};
    assert_int_equal(exec_useful_threads(&f, 8), 8);
    assert_int_equal(exec_useful_threads(&f, 3), 3);
    const CnncStage light[] = {{stage_sum, 8, 1, -1, -1, "sum", 100, 100, 0}, {stage_out, 4, 0, -1, -1, "out", 0, 0, 0}};
    assert_int_equal(exec_useful_threads(&(CnncFunction){light, 2, 8, 0, 0}, 8), 1);
    x->stage_ticks = seconds;
    CnncArgs a = {.in = in, .out = out, .n = 3};
    exec_run(x, &f, &a);
    assert_true(out[0] == 12);
    for (int i = 3; i < 8; i++)
        assert_true(((float *)x->work)[i] == 0);   /* slices past n samples did not run */
    assert_true(seconds[0] > 0);
    exec_free(x);
    m.abi_version = 99;
    assert_null(exec_new(&m, fs, 2, t, &e));
    assert_int_equal(e.kind, RT_FILE);
    m = (CnncModel){.abi_version = CNNC_ABI_VERSION, .state_bytes = INT64_MAX / 4};
    assert_null(exec_new(&m, fs, 2, t, &e));
    assert_int_equal(e.kind, RT_INTERNAL);
    threads_free(t);
}

static void cpu_is_checked(void **state)
{
    (void)state;
    char missing[64];
    assert_true(cpu_has_features("", missing, sizeof missing));
    assert_true(cpu_has_features(NULL, missing, sizeof missing));
#if defined(__x86_64__)
    assert_true(cpu_has_features("+sse2,+cx8,-avx512f", missing, sizeof missing));
    assert_int_equal(cpu_has_features("+avx2", missing, sizeof missing), __builtin_cpu_supports("avx2") != 0);
    assert_int_equal(cpu_has_features("+avx512f,+avx512vl", missing, sizeof missing), __builtin_cpu_supports("avx512vl") != 0);
    RtError e = {0};
    if (!__builtin_cpu_supports("fma4")) {
        assert_false(cpu_check("app", "bdver1", "+sse2,+fma4", &e));
        assert_int_equal(e.kind, RT_DEVICE);
        assert_non_null(strstr(e.text, "needs fma4"));
    }
#endif
}

static void options_are_parsed(void **state)
{
    (void)state;
    bool json = false;
    int64_t n = 0;
    double lr = 0;
    const char *out = NULL;
    const Arg table[] = {{"--json", NULL, ARG_FLAG, &json, 0, NULL, ""}, {"--threads", NULL, ARG_INT, &n, 1, "N", ""},
                         {"--lr", NULL, ARG_NUMBER, &lr, 0, "X", ""}, {"--output", "-o", ARG_TEXT, &out, 0, "F", ""}};
    RtError e = {0};
    char *good[] = {"p", "a.png", "--lr=1e-3", "--json", "b.png", "-o", "y", "--threads", "3", "-", "--", "--c", NULL};
    int argc = 12;
    assert_true(args_parse(table, 4, &argc, good, &e));
    assert_int_equal(argc, 5);
    assert_string_equal(good[1], "a.png");
    assert_string_equal(good[4], "--c");
    assert_true(json && n == 3 && lr == 1e-3 && strcmp(out, "y") == 0);
    static const struct { char *a, *b; const char *says; } bad[] = {
        {"--thread", "3", "did you mean --threads"}, {"--threads", NULL, "needs a value"}, {"--threads", "x", "whole number"},
        {"--threads=0", NULL, "at least 1"}, {"--lr", "nan", "takes a number"}, {"--json=1", NULL, "no value"}, {"--zzzzzzzzz", NULL, "--help"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *argv[] = {"p", bad[i].a, bad[i].b, NULL};
        argc = bad[i].b ? 3 : 2;
        assert_false(args_parse(table, 4, &argc, argv, &e));
        assert_int_equal(e.kind, RT_USAGE);
        assert_non_null(strstr(e.text, bad[i].says));
    }
}

static void check_json(FILE *f, const char *contains)
{
    static char text[20000];
    rewind(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    fclose(f);
    Json j = {text, text + n};
    if (!json_skip(&j) || !json_end(&j) || !strstr(text, contains))
        fail_msg("not the JSON that was meant: %s", text);
}

static void json_is_written(void **state)
{
    (void)state;
    FILE *f = tmpfile();
    fputs("[", f);
    json_put_string(f, "a\"\\\n\x01 \xc3\xa4 \xff\xe2\x82 \xed\xa0\x80");
    fputs(", ", f);
    json_put_number(f, 0.1);
    fputs(", ", f);
    json_put_number(f, NAN);
    fputs("]", f);
    check_json(f, "\"a\\\"\\\\\\u000a\\u0001 \xc3\xa4 \\ufffd\\ufffd\\ufffd \\ufffd\\ufffd\\ufffd\", 0.1, null");
}

static void metrics_are_right(void **state)
{
    (void)state;
    const float out[4][3] = {{2, 1, 0}, {0, 3, 0}, {1, 0, 2}, {1000, 0, 0}};
    const int32_t labels[4] = {0, 1, 0, 2};
    const char *names[] = {"a", "b\"", "c"};
    Metrics m;
    RtError e = {0};
    assert_true(metrics_init(&m, 0, 0, 3, 2, &e));
    assert_true(metrics_add(&m, &out[0][0], labels, 3, 0, &e));
    assert_true(metrics_add(&m, &out[3][0], labels + 3, 1, 3, &e));
    double want = (log(1 + exp(-1) + exp(-2)) + log(1 + 2 * exp(-3)) + log(1 + exp(-1) + exp(-2)) + 1 + 1000) / 4;
    assert_true(fabs(metrics_loss(&m) - want) < 1e-9);
    assert_true(metrics_accuracy(&m) == 0.5);
    ClassMetrics c = metrics_class(&m, 0);
    assert_true(c.precision == 0.5 && c.recall == 0.5 && c.f1 == 0.5 && c.support == 2);
    assert_int_equal(m.n_top, 2);
    assert_int_equal(m.top[0].index, 3);
    assert_int_equal(m.top[1].index, 2);
    FILE *f = tmpfile();
    metrics_print_json(&m, f, names);
    check_json(f, "\"b\\\"\"");
    f = tmpfile();
    metrics_print(&m, f, NULL);
    fclose(f);
    const int32_t wrong = 3;
    assert_false(metrics_add(&m, &out[0][0], &wrong, 1, 7, &e));
    assert_non_null(strstr(e.text, "sample 7 has label 3"));
    metrics_free(&m);
    assert_true(metrics_init(&m, 0, 0.3, 3, 0, &e));   /* label smoothing: 0.7 nll + 0.3 mean of -log p */
    assert_true(metrics_add(&m, &out[0][0], labels, 1, 0, &e));
    double z = log(1 + exp(-1) + exp(-2));
    assert_true(fabs(metrics_loss(&m) - (0.7 * z + 0.3 * (z + 1))) < 1e-9);
    metrics_free(&m);
    const float target[3] = {1, 1, 1};
    assert_true(metrics_init(&m, METRICS_MSE, 0, 3, 0, &e));
    assert_true(metrics_add(&m, &out[0][0], target, 1, 0, &e));
    assert_true(fabs(metrics_loss(&m) - 2.0 / 3) < 1e-12 && isnan(metrics_accuracy(&m)));
    f = tmpfile();
    metrics_print_json(&m, f, NULL);
    check_json(f, "\"accuracy\": null");
    metrics_free(&m);
    int32_t id = 1;      /* MSELoss on class ids: out against [0, 1, 0] */
    assert_true(metrics_init(&m, METRICS_MSE_CLASSES, 0, 3, 0, &e));
    assert_true(metrics_add(&m, (const float[]){0.5f, 2, -1}, &id, 1, 0, &e));
    assert_true(fabs(metrics_loss(&m) - 2.25 / 3) < 1e-12 && metrics_accuracy(&m) == 1);
    metrics_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_slice_runs_once), cmocka_unit_test(many_slices_run_once),
        cmocka_unit_test(idle_pool_takes_no_time), cmocka_unit_test(stages_run_needed_slices),
        cmocka_unit_test(cpu_is_checked), cmocka_unit_test(options_are_parsed), cmocka_unit_test(json_is_written), cmocka_unit_test(metrics_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
