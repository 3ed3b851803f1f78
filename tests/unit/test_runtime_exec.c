/* The thread pool, the stage loop, CPU checks, option tables, metrics: the runtime's plain parts. */
#include "runtime/args.h"
#include "runtime/cores.h"
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/* A job's steps: 3 slices, none, one, 40 ... Each counts up the units of the step before it. */
enum { JOB_STEPS = 60 };
typedef struct { atomic_int runs[JOB_STEPS]; int threads, opened; atomic_int bad; } Steps;

static int64_t slices_of(int step)
{
    static const int slices[] = {3, 0, 1, 40, 2};
    return slices[step % 5];
}

static int64_t open_step(void *context, int thread, int step)
{
    Steps *s = context;
    if (s->opened++ != step || thread < 0 || thread >= s->threads || (step > 0 && s->runs[step - 1] != slices_of(step - 1)))
        atomic_fetch_add(&s->bad, 1);
    return slices_of(step);
}

static void run_step(void *context, int thread, int step, int64_t slice)
{
    Steps *s = context;
    if (s->opened != step + 1 || thread < 0 || thread >= s->threads || slice < 0 || slice >= slices_of(step))
        atomic_fetch_add(&s->bad, 1);
    atomic_fetch_add(&s->runs[step], 1);
}

static void steps_wait_for_each_other(void **state)
{
    (void)state;
    for (int n = 1; n <= 9; n += 4) {
        Threads *t = threads_new(n);
        for (int turn = 0; turn < 300; turn++) {
            Steps s = {.threads = threads_count(t)};
            threads_run_job(t, &(ThreadsJob){JOB_STEPS, open_step, run_step, &s});
            assert_int_equal(s.opened, JOB_STEPS);
            assert_int_equal(s.bad, 0);
            assert_int_equal(s.runs[JOB_STEPS - 1], slices_of(JOB_STEPS - 1));
            if (turn % 100 == 0)
                usleep(3000);
        }
        threads_free(t);
    }
}

static double cpu_seconds(void)
{
    struct rusage r;
    assert_int_equal(getrusage(RUSAGE_SELF, &r), 0);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + 1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void idle_pool_takes_no_time(void **state)
{
    (void)state;
    Threads *t = threads_new(4);
    static Counts c = {.threads = 4};
    threads_run(t, count_slice, &c, 8);
    usleep(50000);
    double before = cpu_seconds();
    usleep(200000);
    assert_true(cpu_seconds() - before < 0.05);
    threads_free(t);
}

/* Workers of a pool without a job are woken to stop, some before they have looked at anything. */
static void a_pool_that_never_worked_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 3000; i++) {
        Threads *t = threads_new(2);
        assert_non_null(t);
        for (volatile int wait = i % 300 * 100; wait > 0; wait--)   /* the worker looks out for some microseconds, then sleeps */
            ;
        threads_free(t);
    }
}

/* A child has none of the workers until they are started anew. */
static void a_forked_pool_starts_anew(void **state)
{
    (void)state;
    Threads *t = threads_new(3);
    static Counts c = {.threads = 3};
    threads_run(t, count_slice, &c, 16);
    pid_t child = fork();
    if (child == 0) {
        threads_forget(t);
        bool fine = threads_count(t) == 1;
        threads_run(t, count_slice, &c, 16);
        threads_restart(t);
        fine = fine && threads_count(t) == 3;
        threads_run(t, count_slice, &c, 16);
        threads_free(t);
        for (int i = 0; i < 16; i++)
            fine = fine && c.runs[i] == 3;
        _exit(!fine);
    }
    int status = -1;
    assert_true(waitpid(child, &status, 0) == child && status == 0);
    threads_run(t, count_slice, &c, 16);
    assert_int_equal(c.runs[15], 2);
    threads_free(t);
}

/* A made-up root of the file system, with control groups in it. */
static char fake_root[] = P_tmpdir "/cnnc-cores-XXXXXX";

static void put_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", fake_root, name);
    for (char *slash = path + strlen(fake_root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0777);
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void quotas_of_all_groups_count(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(fake_root));
    assert_true(cores_quota(fake_root) == 0);   /* nothing to read */
    put_file("proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
                                    "30 22 0:26 / /sys/fs/cgroup\\040two rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    put_file("proc/self/cgroup", "1:name=systemd:/user\n0::/a/b/c\n");
    put_file("sys/fs/cgroup two/a/b/c/cpu.max", "max 100000\n");
    put_file("sys/fs/cgroup two/a/b/cpu.max", "350000 100000\n");
    assert_true(cores_quota(fake_root) == 3.5);
    put_file("sys/fs/cgroup two/a/cpu.max", "30000 20000\n");
    assert_true(cores_quota(fake_root) == 1.5);   /* an ancestor grants less */
    put_file("sys/fs/cgroup two/a/b/c/cpu.max", "50000\n");
    assert_true(cores_quota(fake_root) == 0.5);
    put_file("sys/fs/cgroup two/ab/cpu.max", "1 1000\n");   /* not an ancestor */
    assert_true(cores_quota(fake_root) == 0.5);
    put_file("proc/self/cgroup", "0::/../../elsewhere\n");   /* outside what is mounted: its top alone */
    put_file("sys/fs/cgroup two/cpu.max", "700000 100000\n");
    assert_true(cores_quota(fake_root) == 7);

    /* version 1, mounted by a container: the group /box is the top of what is seen */
    put_file("proc/self/mountinfo", "30 22 0:26 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                                    "31 22 0:27 /box /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpuacct,cpu\n");
    put_file("proc/self/cgroup", "3:cpuset:/x\n2:cpuacct,cpu:/box/in\n");
    put_file("sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_quota_us", "-1\n");
    put_file("sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_period_us", "100000\n");
    assert_true(cores_quota(fake_root) == 0);
    put_file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
    put_file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "20000\n");
    assert_true(cores_quota(fake_root) == 2.5);
    char remove[600];
    snprintf(remove, sizeof remove, "rm -r '%s'", fake_root);
    assert_int_equal(system(remove), 0);
    assert_true(cores_allowed() >= 1);
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

/* Adds a sample's number to its output: 1 in blocks, 100 alone. */
static void stage_block(const CnncArgs *a, char *scratch, int64_t slice)
{
    (void)scratch;
    for (int64_t i = 4 * slice; i < 4 * slice + 4 && i < a->n; i++)
        a->out[i] += 1 + a->in[i];
}

static void stage_alone(const CnncArgs *a, char *scratch, int64_t slice)
{
    (void)scratch;
    a->out[slice] += 100 + a->in[slice];
}

static void few_samples_run_alone(void **state)
{
    (void)state;
    const CnncStage blocks[] = {{stage_block, 3, 4, -1, -1, "blocks", 0, 0, 0}}, alone[] = {{stage_alone, 1, 1, -1, -1, "alone", 0, 0, 0}};
    const CnncFunction one = {.stages = alone, .n_stages = 1, .batch = 1};
    const CnncFunction f = {.stages = blocks, .n_stages = 1, .batch = 10, .single = &one, .block = 4, .rest = 2, .in_floats = 1, .out_floats = 1};
    const float in[10] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90};
    for (int n = 1; n <= 10; n++) {
        float out[10] = {0};
        const CnncArgs a = {.in = in, .out = out, .n = n};
        stages_run(NULL, &(StagesCall){&f, &a, NULL, 0, NULL});
        int whole = n % 4 <= 2 ? n / 4 * 4 : n;   /* three left over fill a block better */
        for (int i = 0; i < 10; i++)
            assert_true(out[i] == (i < whole ? 1 + in[i] : i < n ? 100 + in[i] : 0));
    }
}

/* Appends its slice's number to the output, whose first element counts. */
static void stage_order(const CnncArgs *a, char *scratch, int64_t slice)
{
    (void)scratch;
    a->out[1 + (int)a->out[0]++] = (float)slice;
}

/* On one thread stages on samples turn round, whatever is between them. */
static void samples_go_to_and_fro(void **state)
{
    (void)state;
    const CnncStage samples = {stage_order, 4, 1, -1, -1, "samples", 0, 0, 0}, outputs = {stage_order, 2, 0, -1, -1, "outputs", 0, 0, 0};
    const CnncStage stages[] = {samples, outputs, samples, samples};
    const CnncFunction f = {.stages = stages, .n_stages = 4, .batch = 4};
    const float want[] = {0, 1, 2, 0, 1, 2, 1, 0, 0, 1, 2};
    float out[20] = {0};
    const CnncArgs a = {.out = out, .n = 3};
    stages_run(NULL, &(StagesCall){&f, &a, NULL, 0, NULL});
    const size_t n_want = sizeof want / sizeof *want;
    assert_true(out[0] == (float)n_want);
    for (size_t i = 0; i < n_want; i++)
        assert_true(out[1 + i] == want[i]);
}

static void stages_run_needed_slices(void **state)
{
    (void)state;
    const CnncStage stages[] = {{stage_sum, 8, 1, -1, -1, "sum", 1e9, 1e9, 0}, {stage_out, 1, 0, -1, -1, "out", 0, 0, 0}};
    const CnncFunction f = {.stages = stages, .n_stages = 2, .batch = 8, .work_bytes = 8 * sizeof(float), .scratch_bytes = 100}, *fs[] = {&f, NULL};
    CnncModel m = {.abi_version = CNNC_ABI_VERSION, .state_bytes = 10};
    RtError e = {0};
    Threads *t = threads_new(3);
    Exec *x = exec_new(&m, fs, 2, t, &e);
    assert_non_null(x);
    const float in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float out[2];
    double seconds[2] = {0};
    assert_int_equal(stages_useful_threads(&f, 8), 8);
    assert_int_equal(stages_useful_threads(&f, 3), 3);
    const CnncStage light[] = {{stage_sum, 8, 1, -1, -1, "sum", 100, 100, 0}, {stage_out, 4, 0, -1, -1, "out", 0, 0, 0}};
    assert_int_equal(stages_useful_threads(&(CnncFunction){.stages = light, .n_stages = 2, .batch = 8}, 8), 1);
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
#ifdef __x86_64__
    bool tiles = syscall(SYS_arch_prctl, 0x1023, 18) == 0;   /* may this process use tile registers? */
    assert_int_equal(cpu_has_features("+amx-tile", missing, sizeof missing), tiles);
    assert_int_equal(cpu_check("app", "sapphirerapids", "+sse2,+amx-tile", &e), tiles);
    if (!tiles)
        assert_non_null(strstr(e.text, "app was built for sapphirerapids and needs amx-tile, which this CPU"));
#endif
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
        cmocka_unit_test(steps_wait_for_each_other),
        cmocka_unit_test(idle_pool_takes_no_time), cmocka_unit_test(a_pool_that_never_worked_ends), cmocka_unit_test(a_forked_pool_starts_anew),
        cmocka_unit_test(quotas_of_all_groups_count), cmocka_unit_test(few_samples_run_alone), cmocka_unit_test(stages_run_needed_slices),
        cmocka_unit_test(samples_go_to_and_fro),
        cmocka_unit_test(cpu_is_checked), cmocka_unit_test(options_are_parsed), cmocka_unit_test(json_is_written), cmocka_unit_test(metrics_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
