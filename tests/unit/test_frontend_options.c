/* The command line: options in any place and both forms, values checked, unknown words answered with the nearest. */
#include "frontend/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 16 };

/* Splits the words at blanks. */
static bool parse(Arena *a, const char *line, unsigned command, Options *o, OptionsError *e)
{
    char *argv[MOST], *save = NULL, *copy = arena_strdup(a, line);
    int argc = 0;
    for (char *word = strtok_r(copy, " ", &save); word && argc < MOST; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    return options_parse(a, argc, argv, 0, command, o, e);
}

static void test_forms(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Options o;
    OptionsError e = {0};
    assert_true(parse(a, "-q m.cnn --batch=8 -Dwidth=3 -D k=[1,2] --seed 0 -Wno-missing-flatten --no-fuse -- --x", CMD_CHECK, &o, &e));
    assert_true(o.quiet && o.batch == 8 && o.has_seed && o.seed == 0 && o.args.len == 2 && o.defines.len == 2);
    assert_string_equal(o.args.at[0], "m.cnn");
    assert_string_equal(o.args.at[1], "--x");
    assert_string_equal(o.defines.at[0].name, "width");
    assert_string_equal(o.defines.at[1].text, "[1,2]");
    assert_string_equal(o.warnings_off.at[0], "missing-flatten");
    assert_string_equal(o.no_pass.at[0], "fuse");
    assert_true(parse(a, "m.cnn --lr 0.5 --epochs 3 -o w.st", CMD_TRAIN, &o, &e));
    assert_true(o.has_lr && o.lr == 0.5 && o.epochs == 3 && !o.has_seed && !strcmp(o.out, "w.st"));
    arena_free(a);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        unsigned command;
        const char *text, *help;
    } cases[] = {
        {"m --bacth 3", CMD_CHECK, "unknown option '--bacth'", "did you mean --batch?"},
        {"m --epochs 3", CMD_CHECK, "--epochs is an option of another command", NULL},
        {"m --batch", CMD_CHECK, "--batch needs a value: --batch N", NULL},
        {"m --batch 0", CMD_CHECK, "--batch must be at least 1, not 0", NULL},
        {"m --batch 3x", CMD_CHECK, "--batch needs a whole number, not '3x'", NULL},
        {"m --lr nan", CMD_TRAIN, "--lr needs a number, not 'nan'", NULL},
        {"m --quiet=1", CMD_CHECK, "--quiet takes no value", NULL},
        {"m -D x", CMD_CHECK, "-D needs NAME=VALUE, not 'x'", NULL},
        {"m -W no-mising-flatten", CMD_CHECK, "no warning is called 'mising-flatten'", "did you mean -W no-missing-flatten?"},
        {"m --device gpu", CMD_CHECK, "--device cannot be 'gpu'", NULL},
        {"m --no-shape", CMD_CHECK, "unknown option '--no-shape'", NULL},
        {"m --precision bf61", CMD_RUN, "--precision cannot be 'bf61'", "did you mean bf16?"},
        {"m --precision tf32", CMD_RUN, "--precision tf32 belongs to GPUs", "--device cuda, or on a CPU --precision bf16"},
        {"m --weights-precision bf16", CMD_TRAIN, "--weights-precision is an option of another command", NULL},
        {"m -z", CMD_CHECK, "unknown option '-z'", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Arena *a = arena_new();
        Options o;
        OptionsError e = {0};
        if (parse(a, cases[i].line, cases[i].command, &o, &e))
            fail_msg("%s was taken", cases[i].line);
        assert_string_equal(e.text, cases[i].text);
        if (cases[i].help)
            assert_string_equal(e.help, cases[i].help);
        arena_free(a);
    }
}

static void test_values(void **state)
{
    (void)state;
    Shape s;
    assert_true(options_parse_shape("1,28,28", &s) && s.rank == 3 && s.dim[2] == 28);
    assert_true(options_parse_shape("(3, 4,)", &s) && s.rank == 2 && s.dim[1] == 4);
    assert_true(options_parse_shape("3x32x32", &s) && s.rank == 3 && s.dim[0] == 3);
    static const char *const bad[] = {"", "1,x", "0", "1,2,3,4,5", "-1", "1;2", "1,28,28 z"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (options_parse_shape(bad[i], &s))
            fail_msg("'%s' was taken as a shape", bad[i]);
    assert_true(options_parse_bytes("8G") == INT64_C(8) << 30);
    assert_true(options_parse_bytes("1.5MiB") == 3 << 19);
    assert_true(options_parse_bytes("512") == 512);
    assert_true(options_parse_bytes("8Q") == -1 && options_parse_bytes("-1") == -1 && options_parse_bytes("") == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
