/* The table of times, from times and costs that are given: shares, rates, bounds, and which layer is the slowest. */
#include "runtime/bench.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Two samples; conv1's two stages (Winograd's parts) make one row. */
static const CnncLayer layers[] = {{"conv1", "Conv2d", 3, {8, 8, 8}, 1000000, 80}, {"pool", "MaxPool2d", 3, {8, 4, 4}, 0, 0},
                                   {"fc", "Linear", 1, {10}, 500000, 500000}};
static const CnncStage stages[] = {
    {NULL, 1, 0, 0, 0, "conv1.input", 0, 0, 4096},
    {NULL, 1, 0, 0, 0, "conv1", 1e6, 1e6, 8192},
    {NULL, 1, 0, 1, 2, "pool .. fc", 5e5, 5e5, 8e6},
};
static const CnncFunction function = {.stages = stages, .n_stages = 3, .batch = 2};
static const CnncModel model = {.name = "net", .layers = layers, .n_layers = 3, .infer = &function, .step = &function};
static const double seconds[] = {1e-6, 24e-6, 75e-6};

/* 100 GFLOP/s; 200 GB/s up to 256 KiB, then 10. */
static CpuPeak peak(void)
{
    CpuPeak p = {.flops = 1e11};
    for (int i = 0; i < PEAK_SIZES; i++)
        p.bytes[i] = i < 5 ? 2e11 : 1e11 / (i < 10 ? 1 : 10);
    return p;
}

static char *print(const StageTimes *t, const CpuPeak *p, bool json)
{
    static char text[4000];
    FILE *f = tmpfile();
    assert_true(bench_table_print(t, p, f, json));
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void says_where_time_goes(void **state)
{
    (void)state;
    const StageTimes t = {&model, &function, 2, 1, false, seconds};
    const CpuPeak p = peak();
    assert_string_equal(print(&t, &p, false),
                        "batch 2, 1 thread; a thread's peak: 100.0 GFLOP/s, reads 32 KiB at 200 GB/s, 512 KiB at 100, 8 MiB at 100, memory at 10\n"
                        "        ms    share   GFLOP/s   of peak    bound ms  bound by  layers\n"
                        "    0.0250   25.0 %     160.0   160.0 %      0.0200  compute   conv1 Conv2d\n"
                        "    0.0750   75.0 %      26.7    26.7 %      0.0800  memory    pool MaxPool2d .. fc Linear  <- slowest\n"
                        "    0.1000  in all\n");
    assert_string_equal(print(&t, NULL, false), "batch 2, 1 thread\n"
                                                "        ms    share   GFLOP/s  layers\n"
                                                "    0.0250   25.0 %     160.0  conv1 Conv2d\n"
                                                "    0.0750   75.0 %      26.7  pool MaxPool2d .. fc Linear  <- slowest\n"
                                                "    0.1000  in all\n");
}

/* Threads share the work: twice the peak, and half of the data each, which fits a quicker cache. */
static void counts_threads(void **state)
{
    (void)state;
    const StageTimes t = {&model, &function, 2, 2, false, seconds};
    CpuPeak p = peak();
    p.bytes[8] = 4e11; /* 4 MiB */
    assert_non_null(strstr(print(&t, &p, false), " 13.3 %      0.0100  memory    pool"));
}

static void training_names_stages(void **state)
{
    (void)state;
    const StageTimes t = {&model, &function, 2, 1, true, seconds};
    char *text = print(&t, NULL, false);
    assert_non_null(strstr(text, "  layers: stage\n"));
    assert_non_null(strstr(text, "  conv1 Conv2d: conv1.input\n"));
    assert_non_null(strstr(text, "  conv1 Conv2d: conv1\n"));
}

static void writes_json(void **state)
{
    (void)state;
    const StageTimes t = {&model, &function, 2, 1, false, seconds};
    const CpuPeak p = peak();
    assert_string_equal(print(&t, &p, true),
                        "[\n {\"stage\": \"conv1.input\", \"layers\": \"conv1 Conv2d\", \"ms\": 0.025, \"gflops\": 160, \"peak_share\": 1.6, "
                        "\"bound_ms\": 0.02002048, \"bound_by\": \"compute\"},\n"
                        " {\"stage\": \"pool .. fc\", \"layers\": \"pool MaxPool2d .. fc Linear\", \"ms\": 0.075, \"gflops\": 26.666666666666668, "
                        "\"peak_share\": 0.26666666666666666, \"bound_ms\": 0.08, \"bound_by\": \"memory\"}\n]");
}

static void finds_the_speed_of_a_size(void **state)
{
    (void)state;
    const CpuPeak p = peak();
    assert_true(peak_bytes(&p, 1) == 2e11 && peak_bytes(&p, 256 << 10) == 2e11);
    assert_true(peak_bytes(&p, (256 << 10) + 1) == 1e11 && peak_bytes(&p, 1e12) == 1e10);
}

static void measures_this_machine(void **state)
{
    (void)state;
    CpuPeak p = peak_measure();
    assert_true(p.flops > 1e8);
    for (int i = 0; i < PEAK_SIZES; i++)
        assert_true(p.bytes[i] > 1e8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_where_time_goes), cmocka_unit_test(counts_threads),
        cmocka_unit_test(training_names_stages), cmocka_unit_test(writes_json),
        cmocka_unit_test(finds_the_speed_of_a_size), cmocka_unit_test(measures_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
