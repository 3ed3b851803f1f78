/* explain, report and warnings: worked arithmetic, tensors as PyTorch prints them, one number as its sum, report rows, every
 * warning, and the table of codes held against the sources. */
#include "passes/codes.h"
#include "passes/explain.h"
#include "passes/report.h"
#include "tests/unit/graph_build.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define HAS(text, part)                                                                                                          \
    do {                                                                                                                         \
        if (!strstr((text), (part)))                                                                                             \
            fail_msg("missing: %s\nin:\n%s", (part), (text));                                                                    \
    } while (0)
#define LACKS(text, part)                                                                                                        \
    do {                                                                                                                         \
        if (strstr((text), (part)))                                                                                              \
            fail_msg("unwanted: %s\nin:\n%s", (part), (text));                                                                   \
    } while (0)

/* ---- tensors ---- */

static void run_tensor_case(char *head, const char *want)
{
    char shape_part[64], kind, suffix[64];
    int used = 0;
    assert_int_equal(sscanf(head, "%63s %c %63s :%n", shape_part, &kind, suffix, &used), 3);
    Shape s = {0};
    for (char *p = shape_part; isdigit((unsigned char)*p);) {
        s.dim[s.rank++] = strtoll(p, &p, 10);
        p += *p == 'x';
    }
    double *values = calloc((size_t)shape_elements(&s), sizeof *values);
    char *p = head + used;
    for (int64_t i = 0; i < shape_elements(&s); i++)
        values[i] = strtod(p, &p);
    char *got = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&got, &n);
    explain_print_tensor(f, &s, values, kind == 'i', strcmp(suffix, "-") ? suffix : NULL);
    fclose(f);
    assert_string_equal(got, want);
    free(got);
    free(values);
}

static void test_tensors(void **state)
{
    (void)state;
    FILE *f = fopen("tests/torch/tensor_text.txt", "r");
    assert_non_null(f);
    char *line = NULL, head[65536], want[65536];
    size_t room = 0;
    int cases = 0;
    for (; getline(&line, &room, f) > 0; cases++) {
        assert_true(strlen(line) < sizeof head);
        strcpy(head, line);
        want[0] = '\0';
        while (getline(&line, &room, f) > 0 && strcmp(line, "end\n") != 0)
            strcat(want, line);
        run_tensor_case(head, want);
    }
    assert_int_equal(cases, 21);
    free(line);
    fclose(f);
}

/* ---- a small net ---- */

static void build_net(Build *b)
{
    build_begin(b, "input(1, 28, 28)\nconv5\nrelu\npool\nconv3\nflatten\nlinear\n", 3, (int64_t[]){1, 28, 28}, 2);
    b->g->name = "net";
    build_conv2d(b, INFER, 8, 5, 2, 2, "conv5");
    build_relu(b, "relu");
    build_maxpool2d(b, 2, "pool");
    build_conv2d(b, INFER, 16, 3, 1, 1, "conv3");
    build_flatten(b, "flatten");
    build_linear(b, INFER, 10, "linear");
    assert_true(shape(b->g, &b->d));
}

static char *explained(Build *b, const char *layer)
{
    char *text = NULL;
    const char *nearest = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_true(explain_layer(&b->m, layer, f, &nearest));
    fclose(f);
    return text;
}

static void test_explain_layers(void **state)
{
    (void)state;
    Build b;
    build_net(&b);
    char *conv = explained(&b, "3"), *first = explained(&b, "0"), *flat = explained(&b, "Flatten"), *linear = explained(&b, "5"),
         *pool = explained(&b, "2");
    HAS(conv, "floor((7 + 2*1 - 1*(3-1) - 1)/1 + 1) = 7");
    HAS(conv, "patches = 7 * 7 = 49");
    HAS(conv, "7 * 7 * (1168 - 16) = 56,448"); /* the book's count */
    HAS(conv, "multiply-accumulates = 7 * 7 * 16 outputs * 72 inputs = 56,448");
    HAS(conv, "[16, 72] x [72, 49] = [16, 49]");
    HAS(conv, "field 7 + (3-1)*4 = 15, jump 4*1 = 4");
    HAS(first, "y[k, p, q] = b[k] + sum over c, r, s of w[k, c, r, s] * x[c, 2*p + r - 2, 2*q + s - 2]");
    HAS(first, "one in 4 positions");
    HAS(flat, "not squeeze");
    HAS(flat, "16 * 7 * 7 = 784");
    HAS(linear, "multiply-accumulates = 784 * 10 = 7,840");
    HAS(pool, "stride = kernel_size");
    const char *nearest = NULL;
    assert_false(explain_layer(&b.m, "Convv2d", stdout, &nearest));
    assert_string_equal(nearest, "Conv2d");
    free(conv), free(first), free(flat), free(linear), free(pool);
    arena_free(b.a);
}

static void test_explain_pixel(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "", 3, (int64_t[]){1, 3, 3}, 1);
    build_conv2d(&b, 1, 2, 2, 1, 1, "");
    assert_true(shape(b.g, &b.d));
    const double x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, w[] = {1, 0, 0, 1, 1, 2, 3, 4}, bias[] = {0, 0.5};
    char *text = NULL;
    const char *why = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_true(explain_pixel(b.g, 0, &(ExplainPixel){.x = x, .w = w, .b = bias, .k = 1, .row = 1, .column = 1}, f, &why));
    fclose(f);
    HAS(text, "y = 37.000000 + bias 0.500000 = 37.500000"); /* 1*1 + 2*2 + 4*3 + 5*4 */
    free(text);
    f = open_memstream(&text, &n);
    assert_true(explain_pixel(b.g, 0, &(ExplainPixel){.x = x, .w = w, .b = bias, .k = 0, .row = 0, .column = 0}, f, &why));
    fclose(f);
    HAS(text, "pad       pad");
    HAS(text, "= 1.000000");
    free(text);
    assert_false(explain_pixel(b.g, 0, &(ExplainPixel){.x = x, .w = w, .b = bias, .k = 2}, stdout, &why));
    HAS(why, "channels 0 to 1, rows 0 to 3, columns 0 to 3");
    arena_free(b.a);
}

static void test_explain_pixel_reflected(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "", 3, (int64_t[]){1, 3, 3}, 1);
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    ConvAttrs c = {.nd = 2,
                   .in_channels = 1,
                   .out_channels = 1,
                   .groups = 1,
                   .kernel = {3, 3},
                   .stride = {1, 1},
                   .dilation = {1, 1},
                   .mode = PAD_REFLECT};
    LayerId l = build_layer(&b, "Conv2d", "");
    attrs.pad = (PadAttrs){.nd = 2, .lo = {1, 1}, .hi = {1, 1}, .mode = PAD_REFLECT};
    build_node(&b, OP_PAD, &b.at, 1, &attrs, l);
    memset(&attrs, 0, sizeof attrs);
    attrs.conv = c;
    build_node(&b, OP_CONV, (ValueId[]){b.at, build_param(&b, "weight", l, true)}, 2, &attrs, l);
    assert_true(shape(b.g, &b.d));
    const double x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, w[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    char *text = NULL;
    const char *why = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_true(explain_pixel(b.g, 0, &(ExplainPixel){.x = x, .w = w}, f, &why));
    fclose(f);
    HAS(text, "y = 33.000000"); /* 5 4 5 / 2 1 2 / 5 4 5 */
    assert_string_equal(b.g->layers.at[0].printed,
                        "Conv2d(1, 1, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False, padding_mode=reflect)");
    free(text);
    f = open_memstream(&text, &n);
    explain_print_maps(f, &(Shape){3, {1, 3, 3}}, x, 4);
    fclose(f);
    HAS(text, "channel 0: 1.0000 to 9.0000, mean 5.0000\n  |");
    free(text);
    arena_free(b.a);
}

static void test_every_op_is_explained(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "", 3, (int64_t[]){4, 6, 6}, 1);
    static const struct {
        Op op;
        const char *type;
        Attrs attrs;
    } ops[] = {
        {OP_AVGPOOL, "AvgPool2d", {.pool = {.nd = 2, .kernel = {3, 3}, .stride = {1, 1}, .pad = {1, 1}}}},
        {OP_BATCHNORM, "BatchNorm2d", {.norm = {.features = INFER, .eps = 1e-5, .momentum = 0.1, .affine = true, .track = true}}},
        {OP_DROPOUT, "Dropout2d", {.dropout = {.p = 0.5, .channels = true}}},
        {OP_GLU, "GLU", {.axis = {1}}},
        {OP_PAD, "ReflectionPad2d", {.pad = {.nd = 2, .lo = {1, 1}, .hi = {1, 1}, .mode = PAD_REFLECT}}},
        {OP_ADAPTIVE_MAX, "AdaptiveMaxPool2d", {.adaptive = {2, {3, 3}}}},
        {OP_ADAPTIVE_AVG, "AdaptiveAvgPool2d", {.adaptive = {2, {2, 1}}}},
        {OP_LOG_SOFTMAX, "LogSoftmax", {.axis = {1}}},
        {OP_SOFTMAX, "Softmax", {.axis = {-1}}},
    };
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        build_node(&b, ops[i].op, &b.at, 1, &ops[i].attrs, build_layer(&b, ops[i].type, ""));
    assert_true(shape(b.g, &b.d));
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        char *text = explained(&b, ops[i].type);
        assert_true(strlen(text) > 120);
        LACKS(text, "unknown");
        free(text);
    }
    for (ActKind k = 0; k < ACT_COUNT; k++)
        assert_true(strcmp(act_formula(k), act_text(k)) != 0 || k == ACT_TANH);
    arena_free(b.a);
}

/* ---- report ---- */

static char *reported(Build *b, ReportFormat format, int64_t memory)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    report(&b->m, &(ReportOptions){.format = format, .src = &b->src, .memory = memory}, f);
    fclose(f);
    return text;
}

static void test_report(void **state)
{
    (void)state;
    Build b;
    build_net(&b);
    char *json = reported(&b, REPORT_JSON, 1 << 20), *text = reported(&b, REPORT_TEXT, 0), *csv = reported(&b, REPORT_CSV, 0);
    HAS(json, "{\"name\": \"3\", \"type\": \"Conv2d\", \"line\": 5, \"column\": 1, \"used_at\": 5, \"in_shape\": [8, 7, 7], "
              "\"out_shape\": [16, 7, 7], \"params\": 1168, "
              "\"buffers\": 0, \"macs\": 56448, \"receptive_field\": [15, 15], \"jump\": [4, 4], \"activation_bytes\": 6272, "
              "\"formula\": \"floor((7 + 2*1 - 1*(3-1) - 1)/1 + 1) = 7\"}");
    HAS(json, "\"receptive_field\": null, \"jump\": null");
    HAS(json, "\"totals\": {\"params\": 9226, \"trainable_params\": 9226, \"buffers\": 0, \"macs\": 103488");
    HAS(json, "\"largest_inference_batch\"");
    HAS(text, "total");
    HAS(text, "9,226");
    HAS(csv, "3,Conv2d,5,1,5,8x7x7,16x7x7,1168,0,56448,15x15,4,6272,floor");
    free(json), free(text), free(csv);
    arena_free(b.a);
}

typedef struct {
    int64_t fixed, each;
    int calls;
} Line;

static int64_t line_bytes(void *context, int64_t batch, bool training)
{
    Line *l = context;
    l->calls++;
    return l->fixed + (batch + 15) / 16 * 16 * l->each * (training ? 2 : 1);
}

static void test_largest_batch(void **state)
{
    (void)state;
    Build b;
    build_net(&b);
    static const struct {
        int64_t memory, each;
        const char *inference, *training;
    } cases[] = {
        {1000000, 100, "10000", "4992"}, {1600, 100, "16", "0"},
        {1599, 100, "0", "0"},           {INT64_C(1) << 60, 1, "1048576", "1048576"},
        {3200, 100, "32", "16"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = NULL;
        size_t n = 0;
        Line line = {.fixed = 0, .each = cases[i].each};
        FILE *f = open_memstream(&text, &n);
        report(&b.m,
               &(ReportOptions){.format = REPORT_JSON, .memory = cases[i].memory, .planned_bytes = line_bytes, .context = &line},
               f);
        fclose(f);
        HAS(text, arena_printf(b.a, "\"largest_inference_batch\": %s,", cases[i].inference));
        HAS(text, arena_printf(b.a, "\"largest_training_batch\": %s}", cases[i].training));
        assert_true(line.calls < 48);
        free(text);
    }
    arena_free(b.a);
}

/* ---- warnings ---- */

static char *warned(Build *b)
{
    shape(b->g, &b->d);
    lint(&b->m, &b->d);
    return build_messages(b, DIAG_SHORT);
}

static void train_on(Build *b, int data, int batch)
{
    b->m.train.present = true;
    b->m.train.train.data = data;
    b->m.train.train.batch_size = batch;
}

static void test_warnings(void **state)
{
    (void)state;
    Build b;
    Attrs attrs;
    build_begin(&b, "input(1, 28, 28)\nconv\nbn\npool\nflat\nlin\nrelu\nsoftmax\n", 3, (int64_t[]){1, 28, 28}, 1);
    build_conv2d(&b, 1, 32, 3, 1, 0, "conv"); /* 9 inputs, 32 filters; 26 -> a pool by 4 drops 2 */
    memset(&attrs, 0, sizeof attrs);
    attrs.norm = (NormAttrs){.features = INFER, .eps = 1e-5, .momentum = 0.1, .affine = true, .track = true};
    build_node(&b, OP_BATCHNORM, &b.at, 1, &attrs, build_layer(&b, "BatchNorm2d", "bn"));
    build_maxpool2d(&b, 4, "pool");
    build_flatten(&b, "flat");
    build_linear(&b, INFER, 12, "lin");
    build_relu(&b, "relu");
    memset(&attrs, 0, sizeof attrs);
    attrs.axis.axis = AXIS_NONE;
    build_node(&b, OP_SOFTMAX, &b.at, 1, &attrs, build_layer(&b, "Softmax", "softmax"));
    train_on(&b, CNNC_DATA_MNIST, 59999);
    char *got = warned(&b);
    HAS(got, "softmax before CrossEntropyLoss" + 7);
    static const char *const codes[] = {"[W01]", "[W02]", "[W03]", "[W05]", "[W09]", "[W10]", "[W11]", "[W12]"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        HAS(got, codes[i]);
    HAS(got, "MaxPool2d never reads the last 2 rows and 2 columns of [32, 26, 26]");
    HAS(got, "MNIST has 10 classes but the net has 12 outputs");
    LACKS(got, "error");
    free(got);
    arena_free(b.a);
}

static void test_more_warnings(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "input(3, 64, 64)\nconvA\nconvB\nlin\n", 3, (int64_t[]){3, 64, 64}, 1);
    ConvAttrs even = {.nd = 2,
                      .in_channels = INFER,
                      .out_channels = 4,
                      .groups = 1,
                      .kernel = {4, 4},
                      .stride = {1, 1},
                      .dilation = {1, 1},
                      .padding = PADDING_SAME,
                      .bias = true};
    build_conv(&b, &even, "convA");
    build_conv2d(&b, INFER, 4, 2, 3, 0, "convB");
    build_linear(&b, 21, 10, "lin");
    train_on(&b, CNNC_DATA_CIFAR10, 64);
    char *got = warned(&b);
    static const char *const codes[] = {"[W04]", "[W06]", "[W07]", "[W08]", "[W13]", "[E0325]"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        HAS(got, codes[i]);
    free(got);
    arena_free(b.a);
}

static void test_no_false_alarm(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "", 3, (int64_t[]){1, 28, 28}, 1);
    build_conv2d(&b, 1, 6, 5, 1, 2, "");
    build_relu(&b, "");
    build_maxpool2d(&b, 2, "");
    build_conv2d(&b, 6, 16, 5, 1, 0, "");
    build_relu(&b, "");
    build_maxpool2d(&b, 2, "");
    build_flatten(&b, "");
    build_linear(&b, 400, 120, "");
    build_relu(&b, "");
    build_linear(&b, 120, 10, "");
    train_on(&b, CNNC_DATA_MNIST, 64);
    char *got = warned(&b);
    assert_string_equal(got ? got : "", "");
    free(got);
    arena_free(b.a);
}

/* ---- codes ---- */

static void check_codes_in(const char *folder)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[512], line[4096];
        size_t n = strlen(e->d_name);
        if (n < 3 || (strcmp(e->d_name + n - 2, ".c") != 0 && strcmp(e->d_name + n - 2, ".y") != 0 &&
                      strcmp(e->d_name + n - 2, ".l") != 0))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f)) {
            for (char *p = line; (p = strpbrk(p, "\"")); p++) {
                bool error = p[1] == 'E' && strspn(p + 2, "0123456789") == 4 && p[6] == '"',
                     warning = p[1] == 'W' && strspn(p + 2, "0123456789") == 2 && p[4] == '"';
                char code[8] = {0};
                if (!error && !warning)
                    continue;
                memcpy(code, p + 1, error ? 5 : 3);
                if (!code_find(code))
                    fail_msg("%s uses %s, which passes/codes.def does not explain", path, code);
            }
        }
        if (f)
            fclose(f);
    }
    closedir(dir);
}

static void test_codes(void **state)
{
    (void)state;
    for (size_t i = 0; i + 1 < N_CODES; i++)
        assert_true(strcmp(CODES[i].code, CODES[i + 1].code) < 0);
    check_codes_in("passes");
    check_codes_in("frontend");
    check_codes_in("frontend/commands");
    assert_string_equal(code_find("bias-before-bn")->code, "W02");
    assert_string_equal(code_find("e0307")->code, "E0307");
    assert_null(code_find("E9999"));
    assert_string_equal(warning_names()[0], "softmax-before-loss");
    int n = 0;
    for (const char *const *p = warning_names(); *p; p++)
        n++;
    assert_int_equal(n, 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_explain_layers),
        cmocka_unit_test(test_explain_pixel),
        cmocka_unit_test(test_explain_pixel_reflected),
        cmocka_unit_test(test_every_op_is_explained),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_largest_batch),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_more_warnings),
        cmocka_unit_test(test_no_false_alarm),
        cmocka_unit_test(test_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
