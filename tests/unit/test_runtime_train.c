/* Training runs of a hand-written model: repeatable for any number of threads, resumable at any step, safe on full disks. */
#include "runtime/bench.h"
#include "runtime/checkpoint.h"
#include "runtime/eval.h"
#include "runtime/file.h"
#include "runtime/json_read.h"
#include "runtime/npy.h"
#include "runtime/train.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/fake_model.h"

enum { N = 150 };
typedef struct { char dir[64], x[96], y[96], data[200]; } World;

static char *path(const World *w, const char *name, char out[160])
{
    snprintf(out, 160, "%s/%s", w->dir, name);
    return out;
}

static int make_world(void **state)
{
    World *w = calloc(1, sizeof *w);
    strcpy(w->dir, "/tmp/cnnc_train_XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    float x[N][F];
    int64_t y[N];
    uint32_t r = 1;
    for (int i = 0; i < N; i++) {
        y[i] = i % C;
        for (int f = 0; f < F; f++) {
            r = r * 1664525u + 1013904223u;
            x[i][f] = (float)(r >> 8) / 16777216.0f - 0.5f + (f % C == y[i] ? 0.5f : 0);
        }
    }
    snprintf(w->x, sizeof w->x, "%s/x.npy", w->dir);
    snprintf(w->y, sizeof w->y, "%s/y.npy", w->dir);
    snprintf(w->data, sizeof w->data, "%s,%s", w->x, w->y);
    RtError e;
    assert_true(npy_write_f32(w->x, 2, (int64_t[]){N, F}, &x[0][0], &e));
    assert_true(npy_write(w->y, NPY_I64, 1, (int64_t[]){N}, y, &e));
    *state = w;
    return 0;
}

static int end_world(void **state)
{
    World *w = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    int rc = system(command);
    free(w);
    return rc;
}

static bool same_files(const char *a, const char *b)
{
    FileBytes x = {0}, y = {0};
    bool same = file_read(a, &x, NULL) && file_read(b, &y, NULL) && x.len == y.len && memcmp(x.at, y.at, x.len) == 0;
    file_free(&x);
    file_free(&y);
    return same;
}

static TrainResult train(const World *w, TrainOptions o, const CnncTrain *t)
{
    CnncModel m = fake_model(t);
    TrainResult r;
    RtError e = {0};
    o.data = w->data;
    if (!train_run(&m, &o, &r, &e))
        fail_msg("%s", e.text);
    return r;
}

static void learns_and_repeats(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    char a[160], b[160];
    t.epochs = 20;
    TrainResult r = train(w, (TrainOptions){.out = path(w, "a.safetensors", a), .threads = 1}, &t);
    assert_true(r.accuracy > 0.9);
    assert_int_equal(r.steps, 20 * 8);   /* 120 training samples, the last batch of 8 kept */
    for (int threads = 2; threads <= 5; threads++) {
        train(w, (TrainOptions){.out = path(w, "b.safetensors", b), .threads = threads}, &t);
        assert_true(same_files(a, b));
    }
    train(w, (TrainOptions){.out = path(w, "c.safetensors", b), .threads = 1, .seed = 6, .has_seed = true}, &t);
    assert_false(same_files(a, b));
}

/* Stops after k steps and goes on, under a schedule of each kind: the same weights, checkpoint and log as in one go. */
static void resumes_with_same_bits(void **state)
{
    World *w = *state;
    static const int schedules[] = {CNNC_SCHED_CONSTANT, CNNC_SCHED_ONECYCLE, CNNC_SCHED_COSINE, CNNC_SCHED_PLATEAU};
    static const int64_t stops[] = {1, 8, 11, 16, 23};
    char a[160], b[160], la[160], lb[160], ca[160], cb[160], ba[160], bb[160];
    for (size_t s = 0; s < sizeof schedules / sizeof *schedules; s++) {
        CnncTrain t = fake_train();
        t.schedule = schedules[s];
        if (t.schedule == CNNC_SCHED_ONECYCLE)
            memcpy(t.sched, (double[]){0.2, 0.3, 25, 1e4, 0.85, 0.95, 0, 0, 1, 0}, sizeof t.sched);
        else
            memcpy(t.sched, (double[]){t.schedule == CNNC_SCHED_COSINE ? 3 : 0.5, 0, 0.5, 0, 0, 0}, 6 * sizeof(double));
        train(w, (TrainOptions){.out = path(w, "a.safetensors", a), .log = path(w, "a.jsonl", la), .best = path(w, "ba.safetensors", ba)}, &t);
        for (size_t k = 0; k < sizeof stops / sizeof *stops; k++) {
            path(w, "b.safetensors", b);
            path(w, "b.jsonl", lb);
            path(w, "bb.safetensors", bb);
            unlink(bb);
            train(w, (TrainOptions){.out = b, .log = lb, .best = bb, .steps = stops[k], .threads = 1}, &t);
            FILE *junk = fopen(lb, "a");   /* as if killed later than the checkpoint */
            fprintf(junk, "{\"step\": 99, \"epoch\": 9}\n{\"step\":");
            fclose(junk);
            train(w, (TrainOptions){.out = b, .log = lb, .best = bb, .resume = b, .threads = 2}, &t);
            assert_true(same_files(a, b));
            assert_true(same_files(path(w, "a.ckpt.safetensors", ca), path(w, "b.ckpt.safetensors", cb)));
            assert_true(same_files(ba, bb));
            char command[900];
            snprintf(command, sizeof command, "for f in %s %s; do sed 's/\"seconds.*//' $f > $f.cut; done; cmp -s %s.cut %s.cut", la, lb, la, lb);
            assert_int_equal(system(command), 0);
        }
    }
}

static void interrupt(void *context, int64_t epoch, double a, double b, double c)
{
    (void)context, (void)a, (void)b, (void)c;
    if (epoch == 1)
        raise(SIGINT);
}

static int evaluations_left;

static void interrupted_forward(const CnncArgs *a, char *scratch, int64_t slice)
{
    fake_forward(a, scratch, slice);
    if (slice == 0 && --evaluations_left == 0)
        raise(SIGINT);
}

/* In the middle of an evaluation: the epoch's end is made up for. */
static void saves_when_interrupted_in_evaluation(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    const CnncStage stages[] = {{interrupted_forward, SLICES, PER_SLICE, 0, 0, "forward", 1, 1, 1}};
    const CnncFunction eval = {.stages = stages, .n_stages = 1, .batch = BATCH};
    char a[160], b[160];
    RtError e = {0};
    t.schedule = CNNC_SCHED_EXPONENTIAL;
    t.sched[0] = 0.9;
    train(w, (TrainOptions){.out = path(w, "a.safetensors", a)}, &t);
    m.eval = &eval;
    evaluations_left = 3;   /* the second epoch's first of two batches */
    TrainOptions o = {.out = path(w, "v.safetensors", b), .data = w->data, .threads = 1};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_INTERRUPTED);
    assert_int_equal(evaluations_left, 0);
    train(w, (TrainOptions){.out = b, .resume = b}, &t);
    assert_true(same_files(a, b));
}

static void saves_when_interrupted(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    char a[160], b[160];
    RtError e = {0};
    train(w, (TrainOptions){.out = path(w, "a.safetensors", a)}, &t);
    TrainOptions o = {.out = path(w, "i.safetensors", b), .data = w->data, .on_epoch = interrupt};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_INTERRUPTED);
    assert_non_null(strstr(e.text, "--resume"));
    train(w, (TrainOptions){.out = b, .resume = b}, &t);
    assert_true(same_files(a, b));
}

/* Killed again and again, between parts that end by themselves; every other round may lose what it did, none may spoil it. */
static void survives_kills(void **state)
{
    World *w = *state;
    enum { ROUNDS = 9, STEPS = 16000 };
    CnncTrain t = fake_train();
    char a[160], b[160], c[160];
    t.epochs = STEPS / 8;
    train(w, (TrainOptions){.out = path(w, "ka.safetensors", a), .threads = 1}, &t);
    path(w, "kb.safetensors", b);
    path(w, "kb.ckpt.safetensors", c);
    for (int round = 0; round < ROUNDS; round++) {
        bool kills = round % 2 == 1;
        pid_t child = fork();
        if (child == 0) {
            CnncModel m = fake_model(&t);
            TrainOptions o = {.out = b, .data = w->data, .threads = 2, .resume = file_exists(c) ? b : NULL,
                              .steps = round == ROUNDS - 1 ? 0 : STEPS * (round + 1) / ROUNDS};
            RtError e;
            bool fine = train_run(&m, &o, NULL, &e);
            if (!fine)
                fprintf(stderr, "%s\n", e.text);
            _exit(!fine);
        }
        if (kills) {
            usleep((useconds_t)(3000 + 9000 * round));
            kill(child, SIGKILL);
        }
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status) ? kills : WEXITSTATUS(status) == 0);
    }
    assert_true(same_files(a, b));
}

static void refuses_other_runs(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train(), other = t;
    CnncModel m = fake_model(&other);
    char a[160];
    RtError e = {0};
    train(w, (TrainOptions){.out = path(w, "a.safetensors", a), .steps = 3}, &t);
    TrainOptions o = {.out = a, .resume = a, .data = w->data, .seed = 9, .has_seed = true};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_FILE);
    assert_non_null(strstr(e.text, "--seed 5"));
    o = (TrainOptions){.resume = a, .data = w->data, .batch = 8};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_non_null(strstr(e.text, "--batch 16"));
    o = (TrainOptions){.data = w->data, .batch = 17};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_USAGE);
    o = (TrainOptions){.resume = w->x, .data = w->data};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_FILE);
    o = (TrainOptions){.data = "/nonexistent/x.npy,/nonexistent/y.npy"};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_FILE);
}

static void stops_at_nan(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    char a[160];
    RtError e = {0};
    TrainOptions o = {.out = path(w, "nan.safetensors", a), .data = w->data, .lr = 1e38, .has_lr = true};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_FAIL);
    assert_false(file_exists(a));
}

/* A file size limit is a disk that fills up: the old file stays whole. */
static void keeps_old_checkpoint_on_full_disk(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    char a[160], copy[160], command[400];
    RtError e = {0};
    train(w, (TrainOptions){.out = path(w, "f.safetensors", a), .steps = 5}, &t);
    snprintf(command, sizeof command, "cp %s %s", path(w, "f.ckpt.safetensors", a), path(w, "copy.safetensors", copy));
    assert_int_equal(system(command), 0);
    struct rlimit old, tiny;
    getrlimit(RLIMIT_FSIZE, &old);
    tiny = (struct rlimit){1000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tiny);
    char out[160];
    TrainOptions o = {.out = path(w, "f.safetensors", out), .resume = out, .data = w->data};
    bool fine = train_run(&m, &o, NULL, &e);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(fine);
    assert_int_equal(e.kind, RT_FILE);
    assert_true(same_files(a, copy));
    snprintf(command, sizeof command, "test -z \"$(ls %s | grep ^f.*tmp)\"", w->dir);   /* nothing left behind */
    assert_int_equal(system(command), 0);
    train(w, (TrainOptions){.out = out, .resume = out}, &t);
    o = (TrainOptions){.out = "/dev/null/w.safetensors", .data = w->data};
    assert_false(train_run(&m, &o, NULL, &e));
    assert_int_equal(e.kind, RT_FILE);
}

static void keeps_the_plan_with_a_checkpoint(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    char a[160];
    RtError e = {0};
    for (int tuned = 0; tuned < 2; tuned++) {
        m.plan = tuned ? "strip=14 direct=2" : "";
        if (!train_run(&m, &(TrainOptions){.out = path(w, "p.safetensors", a), .data = w->data, .steps = 1}, NULL, &e))
            fail_msg("%s", e.text);
        char *plan = checkpoint_plan(path(w, "p.ckpt.safetensors", a), &e);
        assert_string_equal(plan, m.plan);
        free(plan);
    }
    assert_null(checkpoint_plan(w->x, &e));
    assert_int_equal(e.kind, RT_FILE);
}

/* eval_model sees what training saw: the same held-back part, the same accuracy. */
static void evaluates_the_held_back_part(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    char a[160], text[4000];
    RtError e = {0};
    t.data_path = w->x;
    t.data_path2 = w->y;
    TrainResult r;
    if (!train_run(&m, &(TrainOptions){.out = path(w, "e.safetensors", a)}, &r, &e))
        fail_msg("%s", e.text);
    FILE *f = tmpfile();
    EvalOptions o = {.weights = a, .json = true, .top_losses = 3, .to = f};
    if (!eval_model(&m, &o, &e))
        fail_msg("%s", e.text);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    double loss, accuracy;
    assert_int_equal(sscanf(text, "{\"samples\": 30, \"loss\": %lf, \"accuracy\": %lf", &loss, &accuracy), 2);
    assert_true(loss == r.valid_loss && accuracy == r.accuracy);
    o.data = w->data;
    rewind(f);
    assert_true(eval_model(&m, &o, &e));
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    assert_non_null(strstr(text, "\"samples\": 150"));
    fclose(f);
    o.weights = w->x;
    assert_false(eval_model(&m, &o, &e));
    assert_int_equal(e.kind, RT_FILE);
}

static void measures_a_step(void **state)
{
    (void)state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    char text[4000];
    RtError e = {0};
    const CpuPeak peak = {1e11, {1e10}};
    for (int json = 0; json < 2; json++) {
        FILE *f = tmpfile();
        assert_true(bench_print_training(&m, 2, &peak, f, json, &e));
        rewind(f);
        size_t n = fread(text, 1, sizeof text - 1, f);
        text[n] = '\0';
        fclose(f);
        Json j = {text, text + n};
        if (json && (!json_skip(&j) || !json_end(&j)))
            fail_msg("no JSON: %s", text);
        assert_non_null(strstr(text, json ? "images_per_second" : " images/s\n"));
        assert_non_null(strstr(text, "update"));
    }
}

static void keeps_facts_with_weights(void **state)
{
    World *w = *state;
    CnncTrain t = fake_train();
    CnncModel m = fake_model(&t);
    char a[160];
    RtError e = {0};
    m.n_mean = -1;
    TrainOptions o = {.out = path(w, "facts.safetensors", a), .data = w->data, .steps = 1};
    if (!train_run(&m, &o, NULL, &e))
        fail_msg("%s", e.text);
    WeightsFile f = {0};
    StoredFacts facts;
    assert_true(weights_read(a, &f, &e));
    assert_true(stored_facts_read(&f, &facts, &e));
    assert_int_equal(facts.n_classes, C);
    assert_string_equal(facts.classes[3], "do\"g");
    assert_int_equal(facts.n_norm, F);
    assert_true(facts.std[0] > 0.1f && facts.std[0] < 1);
    stored_facts_free(&facts);
    weights_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns_and_repeats), cmocka_unit_test(resumes_with_same_bits), cmocka_unit_test(saves_when_interrupted), cmocka_unit_test(saves_when_interrupted_in_evaluation),
        cmocka_unit_test(survives_kills), cmocka_unit_test(refuses_other_runs), cmocka_unit_test(stops_at_nan),
        cmocka_unit_test(keeps_old_checkpoint_on_full_disk), cmocka_unit_test(keeps_facts_with_weights),
        cmocka_unit_test(keeps_the_plan_with_a_checkpoint),
        cmocka_unit_test(evaluates_the_held_back_part), cmocka_unit_test(measures_a_step),
    };
    return cmocka_run_group_tests(tests, make_world, end_world);
}
