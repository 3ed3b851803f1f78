/* Sessions over a hand-written model of 2 x 2 grey pictures: files of all kinds, preprocessing, probabilities, outputs. */
#include "runtime/bench.h"
#include "runtime/file.h"
#include "runtime/json_read.h"
#include "runtime/npy.h"
#include "runtime/predict.h"
#include "runtime/samples.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { IN = 4, OUT = 3, MANY = 11 };

/* logits: sum of the upper row, of the lower row, 0 */
static void two_rows(const CnncArgs *a, char *scratch, int64_t slice)
{
    (void)scratch;
    const float *x = a->in + slice * IN;
    float *y = a->out + slice * OUT;
    y[0] = x[0] + x[1];
    y[1] = x[2] + x[3];
    y[2] = 0;
}

static const CnncStage stages[] = {{two_rows, 4, 1, 0, 0, "rows", 2, 8, 112}};
static const CnncFunction infer = {.stages = stages, .n_stages = 1, .batch = 4};
static const float mean[] = {0.5f}, deviation[] = {0.25f};
static const char *const classes[] = {"up", "do\"wn", "none"};
static const CnncLayer linear[] = {{"0", "Linear", 1, {OUT}, 6, 6}},
                       softmax[] = {{"0", "Linear", 1, {OUT}, 6, 6}, {"1", "Softmax", 1, {OUT}, 0, 0}, {"2", "Identity", 1, {OUT}, 0, 0}},
                       log_softmax[] = {{"0", "LogSoftmax", 1, {OUT}, 0, 0}};
static const CnncModel model = {.abi_version = CNNC_ABI_VERSION, .name = "rows", .version = "0", .cpu = "any", .features = "",
                                .in_rank = 3, .in_shape = {1, 2, 2}, .out_rank = 1, .out_shape = {OUT}, .n_mean = 1, .mean = mean, .std = deviation,
                                .n_classes = OUT, .class_names = classes, .layers = linear, .n_layers = 1, .infer = &infer};

static char dir[64];
static const char *path(const char *name)
{
    static char out[4][160];
    static int next;
    next = (next + 1) % 4;
    snprintf(out[next], sizeof out[next], "%s/%s", dir, name);
    return out[next];
}

static void put(const char *name, const void *bytes, size_t n)
{
    assert_true(file_write(path(name), bytes, n, NULL));
}

static int make_files(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/cnnc_predict_XXXXXX");
    assert_non_null(mkdtemp(dir));
    mkdir(path("in"), 0777);
    mkdir(path("in/deep"), 0777);
    put("in/a.pgm", "P5\n2 2\n255\n\xff\xff\x00\x33", 15);
    put("in/deep/b.pgm", "P2\n2 2\n255\n255 255\n0 51\n", 24);
    put("in/notes.txt", "hello", 5);
    put("in/c-idx3-ubyte", "\0\0\x08\x03\0\0\0\2\0\0\0\2\0\0\0\2\xff\xff\x00\x33\0\0\xff\xff", 24);
    put("in/c-idx1-ubyte", "\0\0\x08\x01\0\0\0\1\7", 9);
    uint8_t many[MANY][IN];
    float floats[MANY][IN];
    for (int i = 0; i < MANY; i++)
        for (int j = 0; j < IN; j++)
            floats[i][j] = (float)(many[i][j] = (uint8_t)(i * 20 + j * 7)) / 255.0f;
    assert_true(npy_write(path("u8.npy"), NPY_U8, 4, (int64_t[]){MANY, 1, 2, 2}, many, NULL));
    assert_true(npy_write_f32(path("f32.npy"), 3, (int64_t[]){MANY, 2, 2}, &floats[0][0], NULL));
    assert_true(npy_write_f32(path("one.npy"), 2, (int64_t[]){2, 2}, &floats[0][0], NULL));
    assert_true(npy_write_f32(path("wrong.npy"), 2, (int64_t[]){5, 3}, &floats[0][0], NULL));
    assert_true(npy_write_f32(path("none.npy"), 4, (int64_t[]){0, 1, 2, 2}, &floats[0][0], NULL));
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static Session open_model(const CnncModel *m, int threads)
{
    Session s;
    RtError e = {0};
    if (!session_open(&s, m, &(SessionOptions){.threads = threads}, &e))
        fail_msg("%s", e.text);
    return s;
}

static char *text_of(FILE *f)
{
    static char text[20000];
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

/* Predictions of one path as text; `kind`: the error expected, or 0 */
static char *predict(const char *file, bool json, int kind)
{
    Session s = open_model(&model, 2);
    RtError e = {0};
    FILE *to = tmpfile();
    char *paths[] = {(char *)(uintptr_t)file};
    bool fine = predict_paths(&s, paths, 1, &(PredictOptions){.top = 2, .json = json, .to = to}, &e);
    if (fine != (kind == 0) || (!fine && (int)e.kind != kind))
        fail_msg("%s", e.text);
    session_close(&s);
    return text_of(to);
}

static void classes_of_files(void **state)
{
    (void)state;
    char want[400];
    /* normalised: 2 2 -2 -1.2; logits 4 -3.2 0 */
    double sum = exp(4) + exp(-3.2) + 1;
    snprintf(want, sizeof want, "%s: up (%.2f %%), none (%.2f %%)\n", path("in/a.pgm"), 100 * exp(4) / sum, 100 / sum);
    assert_string_equal(predict(path("in/a.pgm"), false, 0), want);
    char *text = predict(path("in"), false, 0);   /* a.pgm, two of the IDX file, deep/b.pgm; no labels, no notes */
    int lines = 0;
    for (char *p = text; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 4);
    assert_non_null(strstr(text, "c-idx3-ubyte[1]: do\"wn"));
    predict(path("wrong.npy"), false, RT_FILE);
    predict(path("in/notes.txt"), false, RT_FILE);
    predict(path("in/c-idx1-ubyte"), false, RT_FILE);
    predict(path("absent.png"), false, RT_FILE);
    mkdir(path("empty"), 0777);
    predict(path("empty"), false, RT_FILE);
}

static void json_of_files(void **state)
{
    (void)state;
    const char *files[] = {"in", "in/a.pgm", "u8.npy", "none.npy"};
    for (int i = 0; i < 4; i++) {
        char *text = predict(path(files[i]), true, 0);
        Json j = {text, text + strlen(text)};
        if (!json_skip(&j) || !json_end(&j))
            fail_msg("no JSON: %s", text);
    }
    char *text = predict(path("in/deep/b.pgm"), true, 0);
    assert_non_null(strstr(text, "\"top\": [{\"label\": \"up\", \"index\": 0, \"probability\": 0.98"));
    assert_null(strstr(text, "\"sample\""));
    assert_non_null(strstr(predict(path("in"), true, 0), "\"label\": \"do\\\"wn\""));
    predict(path("wrong.npy"), true, RT_FILE);
}

static void bytes_and_floats_agree(void **state)
{
    (void)state;
    RtError e = {0};
    NpyArray a = {0}, b = {0};
    for (int threads = 1; threads <= 3; threads++) {
        Session s = open_model(&model, threads);
        assert_true(session_infer_file(&s, path("u8.npy"), path("a.npy"), &e));
        assert_true(session_infer_file(&s, path("f32.npy"), path("b.npy"), &e));
        assert_true(npy_read(path("a.npy"), &a, &e) && npy_read(path("b.npy"), &b, &e));
        assert_int_equal(a.rank, 2);
        assert_true(a.shape[0] == MANY && a.shape[1] == OUT);
        assert_memory_equal(a.data, b.data, MANY * OUT * sizeof(float));
        const float *y = a.data;
        assert_true(fabsf(y[3 * OUT] - ((60 + 67) / 255.0f - 1) * 4) < 1e-5f);
        npy_free(&a);
        npy_free(&b);
        assert_true(session_infer_file(&s, path("one.npy"), path("a.npy"), &e) && npy_read(path("a.npy"), &a, &e));
        assert_true(a.shape[0] == 1);
        npy_free(&a);
        assert_true(session_infer_file(&s, path("none.npy"), path("a.npy"), &e) && npy_read(path("a.npy"), &a, &e));
        assert_true(a.shape[0] == 0);
        npy_free(&a);
        assert_false(session_infer_file(&s, path("wrong.npy"), path("a.npy"), &e));
        assert_non_null(strstr(e.text, "[5, 3]"));
        assert_non_null(strstr(e.text, "[1, 2, 2]"));
        assert_false(session_infer_file(&s, path("in/a.pgm"), path("a.npy"), &e));
        assert_false(session_infer_file(&s, path("one.npy"), "/dev/full", &e));
        assert_false(session_infer_file(&s, path("one.npy"), path("no/such/folder.npy"), &e));
        assert_int_equal(e.kind, RT_FILE);
        session_close(&s);
    }
}

static void probabilities_by_last_layer(void **state)
{
    (void)state;
    const float out[OUT] = {0.25f, 0.25f, 0.5f};
    double p[OUT];
    CnncModel m = model;
    Session s = open_model(&m, 1);
    session_probabilities(&s, out, p);
    assert_true(fabs(p[0] + p[1] + p[2] - 1) < 1e-12 && fabs(p[2] / p[0] - exp(0.25)) < 1e-12);
    session_close(&s);
    m.layers = softmax;
    m.n_layers = 3;
    s = open_model(&m, 1);
    session_probabilities(&s, out, p);
    assert_true(p[0] == 0.25 && p[2] == 0.5);
    session_close(&s);
    m.layers = log_softmax;
    m.n_layers = 1;
    s = open_model(&m, 1);
    session_probabilities(&s, out, p);
    assert_true(fabs(p[2] - exp(0.5)) < 1e-12);
    session_close(&s);
}

static void auto_norm_needs_weights(void **state)
{
    (void)state;
    CnncModel m = model;
    Session s;
    RtError e = {0};
    m.n_mean = -1;
    assert_false(session_open(&s, &m, &(SessionOptions){.threads = 1}, &e));
    assert_int_equal(e.kind, RT_FILE);
}

static void checks_and_measures_itself(void **state)
{
    (void)state;
    float in[MANY][IN], out[MANY][OUT];
    for (int i = 0; i < MANY; i++) {
        for (int j = 0; j < IN; j++)
            in[i][j] = (float)(i - j);
        out[i][0] = in[i][0] + in[i][1];
        out[i][1] = in[i][2] + in[i][3];
        out[i][2] = 0;
    }
    CnncModel m = model;
    m.test_in = &in[0][0];
    m.test_out = &out[0][0];
    m.n_test = MANY;
    m.test_tolerance = 1e-6;
    Session s = open_model(&m, 2);
    RtError e = {0};
    FILE *f = tmpfile();
    assert_true(selftest_run(&s, f, &e));
    out[MANY - 1][1] += 0.01f;
    assert_false(selftest_run(&s, f, &e));
    assert_int_equal(e.kind, RT_FAIL);
    out[MANY - 1][1] = NAN;
    assert_false(selftest_run(&s, f, &e));
    fclose(f);
    BenchResult r;
    const CnncGpuImage images[] = {{90, 0, "", 0}, {80, 1, "", 0}};
    const CnncModel gpu = {.gpu = &(CnncGpu){.images = images, .n_images = 2}};
    assert_true(bench_session(&s, 4, 0.01, &r, &e) && r.runs >= 3 && r.best <= r.median);
    for (int json = 0; json < 2; json++) {
        f = tmpfile();
        if (json)
            fputs("[", f);
        assert_true(bench_print(&s, f, json, &e));
        fputs(json ? "," : "", f);
        assert_true(bench_print_layers(&s, NULL, f, json, &e));
        fputs(json ? "," : "", f);
        info_print(&m, json ? &gpu : NULL, f, json);
        fputs(json ? "]" : "", f);
        char *text = text_of(f);
        Json j = {text, text + strlen(text)};
        if (json && (!json_skip(&j) || !json_end(&j)))
            fail_msg("no JSON: %s", text);
        assert_non_null(strstr(text, "0 Linear"));
        assert_int_equal(json, strstr(text, "sm_90, PTX from sm_80 on") != NULL);
    }
    session_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_of_files), cmocka_unit_test(json_of_files), cmocka_unit_test(bytes_and_floats_agree),
        cmocka_unit_test(probabilities_by_last_layer), cmocka_unit_test(auto_norm_needs_weights), cmocka_unit_test(checks_and_measures_itself),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
