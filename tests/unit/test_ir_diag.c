/* Diagnostics: the three forms, carets under tabs and UTF-8, odd bytes, sorting, repeats, warnings turned off. */
#include "ir/base/diag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *printed(Diags *d, DiagFormat format)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    diags_print(d, f, format, false);
    fclose(f);
    char *copy = strdup(text);   /* gcc takes what an open_memstream made for a local of this function */
    free(text);
    return copy;
}

static void expect(Diags *d, DiagFormat format, const char *want)
{
    char *got = printed(d, format);
    assert_string_equal(got, want);
    free(got);
}

static const char *const LENET = "a\nb\nc\nd\ne\nf\ng\nh\ni\n    Flatten()\n\n    Linear(3136, 100)\n";

static void test_human(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Source s = source_from_text(a, "lenet.cnn", LENET, strlen(LENET));
    Diags d;
    diags_init(&d, a, &s);
    uint32_t number = (uint32_t)(strstr(LENET, "3136") - LENET), flatten = (uint32_t)(strstr(LENET, "Flatten") - LENET);
    diag_error(&d, (Span){number, number + 4}, "E0307", "Linear expects %d input features but receives %d", 3136, 2880);
    diag_note(&d, (Span){flatten, flatten + 9}, "[20, 12, 12] becomes 20 * 12 * 12 = 2880 here");
    diag_help(&d, "write Linear(2880, 100), or Linear(_, 100) to have it inferred");
    diag_fix(&d, "2880");
    diag_torch(&d, "mat1 and mat2 shapes cannot be multiplied (64x2880 and 3136x100)");
    expect(&d, DIAG_HUMAN,
           "lenet.cnn:12:12: error: Linear expects 3136 input features but receives 2880 [E0307]\n"
           "   12 |     Linear(3136, 100)\n"
           "      |            ^^^^\n"
           "   10 |     Flatten()\n"
           "      |     --------- note: [20, 12, 12] becomes 20 * 12 * 12 = 2880 here\n"
           "      = help: write Linear(2880, 100), or Linear(_, 100) to have it inferred\n"
           "      = PyTorch: mat1 and mat2 shapes cannot be multiplied (64x2880 and 3136x100)\n");
    expect(&d, DIAG_SHORT, "lenet.cnn:12:12: error: Linear expects 3136 input features but receives 2880 [E0307]\n");
    expect(
        &d, DIAG_JSON,
        "{\"code\": \"E0307\", \"severity\": \"error\", \"message\": \"Linear expects 3136 input features but receives 2880\", "
        "\"file\": \"lenet.cnn\", \"line\": 12, \"column\": 12, \"end_line\": 12, \"end_column\": 16, "
        "\"notes\": [{\"message\": \"[20, 12, 12] becomes 20 * 12 * 12 = 2880 here\", \"line\": 10, \"column\": 5, \"end_line\": "
        "10, \"end_column\": 14}], "
        "\"help\": \"write Linear(2880, 100), or Linear(_, 100) to have it inferred\", \"fix\": \"2880\", "
        "\"torch\": \"mat1 and mat2 shapes cannot be multiplied (64x2880 and 3136x100)\"}\n");
    arena_free(a);
}

static void test_odd_text(void **state)
{
    (void)state;
    static const char text[] = "\tx \xC3\xA9\xE4\xBD\xA0 \x01\xFFy\0z\r\nlast";
    Arena *a = arena_new();
    Source s = source_from_text(a, "t", text, sizeof text - 1);
    Diags d;
    diags_init(&d, a, &s);
    diag_error(&d, (Span){3, 8}, "E1", "wide");
    diag_error(&d, (Span){9, 10}, "E2", "control");
    diag_error(&d, (Span){s.len, s.len}, "E3", "end");
    diag_error(&d, (Span){5000, 6000}, "E4", "beyond \"the\"\nend \xFF");
    expect(&d, DIAG_HUMAN,
           "t:1:4: error: wide [E1]\n"
           "    1 |     x \xC3\xA9\xE4\xBD\xA0 \xEF\xBF\xBD\xEF\xBF\xBDy\xEF\xBF\xBDz\n"
           "      |       ^^^\n"
           "t:1:10: error: control [E2]\n"
           "    1 |     x \xC3\xA9\xE4\xBD\xA0 \xEF\xBF\xBD\xEF\xBF\xBDy\xEF\xBF\xBDz\n"
           "      |           ^\n"
           "t:2:5: error: end [E3]\n"
           "    2 | last\n"
           "      |     ^\n"
           "t:2:5: error: beyond \"the\"\nend \xFF [E4]\n"
           "    2 | last\n"
           "      |     ^\n");
    char *json = printed(&d, DIAG_JSON);
    assert_non_null(strstr(json, "beyond \\\"the\\\"\\u000aend \\ufffd"));
    free(json);
    arena_free(a);
}

static void test_long_line(void **state)
{
    (void)state;
    static char text[20001];
    memset(text, 'a', 20000);
    memcpy(text + 10000, "HERE", 4);
    Arena *a = arena_new();
    Source s = source_from_text(a, "t", text, 20000);
    Diags d;
    diags_init(&d, a, &s);
    diag_error(&d, (Span){10000, 10004}, "E1", "x");
    char *got = printed(&d, DIAG_HUMAN);
    assert_true(strlen(got) < 400);
    char *here = strstr(got, "HERE"), *caret = strstr(got, "^^^^"), *end = strchr(here, '\n');
    assert_int_equal(here - (strstr(got, "    1 |")), caret - (end + 1));
    free(got);
    arena_free(a);
}

static void test_order_and_off(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Source s = source_from_text(a, "t", "abc\n", 4);
    Diags d;
    diags_init(&d, a, &s);
    d.off = (const char *[]){"odd", NULL};
    diag_error(&d, (Span){2, 3}, "E2", "second");
    diag_warning(&d, (Span){0, 1}, "W01", "odd", "silent");
    diag_help(&d, "lost");
    diag_warning(&d, (Span){1, 2}, "W02", "even", "first");
    diag_error(&d, (Span){2, 3}, "E2", "second");
    assert_int_equal(d.errors, 1);
    assert_int_equal(d.warnings, 1);
    expect(&d, DIAG_SHORT, "t:1:2: warning: first [W02]\nt:1:3: error: second [E2]\n");
    Diags e;
    diags_init(&e, a, &s);
    e.warnings_are_errors = true;
    diag_warning(&e, (Span){1, 2}, "W02", "even", "first");
    assert_int_equal(e.errors, 1);
    expect(&e, DIAG_HUMAN,
           "t:1:2: error: first [W02]\n    1 | abc\n      |  ^\n      = note: -W no-even turns this warning off\n");
    arena_free(a);
}

static void test_hidden(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Source s = source_from_text(a, "t", "abc\n", 4);
    Diags d;
    diags_init(&d, a, &s);
    for (int i = 0; i < 20000; i++)
        diag_error(&d, (Span){1, 2}, "E1", "number %d", i);
    assert_int_equal(d.errors, 20000);
    expect(&d, DIAG_SHORT,
           "t:1:2: error: number 0 [E1]\nt:1:2: error: number 1 [E1]\nt:1:2: error: number 2 [E1]\nt:1:2: error: number 3 [E1]\n"
           "cnnc: 19996 more of the same, at the same places, are not shown\n");
    arena_free(a);
}

static void test_source(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Source s;
    const char *why = NULL;
    assert_false(source_read(a, "tests/no such file", &s, &why));
    assert_string_equal(why, "No such file or directory");
    assert_false(source_read(a, "tests", &s, &why));
    assert_string_equal(why, "it is a folder");
    s = source_from_text(a, "t", "ab\r\n\ncd", 7);
    LineIndex lines = source_index_lines(a, &s);
    for (uint32_t i = 0; i <= 9; i++) {
        LineCol x = source_line_col(&s, i), y = line_index_find(&lines, i);
        assert_int_equal(x.line, y.line);
        assert_int_equal(x.column, y.column);
    }
    Span first = source_line_span(&s, 1), second = source_line_span(&s, 2), third = source_line_span(&s, 3);
    assert_true(first.start == 0 && first.end == 2);
    assert_true(second.start == 4 && second.end == 4);
    assert_true(third.start == 5 && third.end == 7);
    arena_free(a);
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const words[] = {"Conv2d", "MaxPool2d", "kernel_size", "ReLU", "Linear", "stride", NULL};
    assert_string_equal(nearest_word("conv2D", words), "Conv2d");
    assert_string_equal(nearest_word("kernal_size", words), "kernel_size");
    assert_string_equal(nearest_word("Rleu", words), "ReLU");
    assert_string_equal(nearest_word("Lienar", words), "Linear");
    assert_null(nearest_word("banana", words));
    assert_null(nearest_word("", words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_human),         cmocka_unit_test(test_odd_text), cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_order_and_off), cmocka_unit_test(test_hidden),   cmocka_unit_test(test_source),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
