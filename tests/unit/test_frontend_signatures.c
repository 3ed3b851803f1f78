/* ir/layers.def against PyTorch's own signatures (tests/unit/data/signatures.txt, made by tests/torch/make_signatures.py). */
#include "frontend/elaborate_impl.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* "stride=1", "*bias=True" or "in_channels", as the file has it. */
static const char *written(Arena *a, const ArgSpec *arg)
{
    const char *star = arg->keyword_only ? "*" : "";
    return arg->def ? arena_printf(a, "%s%s=%s", star, arg->name, arg->def) : arena_printf(a, "%s%s", star, arg->name);
}

/* What cnnc adds (weight=) is not PyTorch's; a lazy layer has no first argument there. */
static void compare(Arena *a, char *line)
{
    char *save = NULL, *name = strtok_r(line, " \n", &save);
    const LayerSpec *spec = layer_spec(name);
    assert_non_null(spec);
    for (int i = strncmp(name, "Lazy", 4) == 0 ? 1 : 0; i < spec->n_args; i++) {
        if (spec->args[i].kind == ARG_FILTER)
            continue;
        const char *want = strtok_r(NULL, " \n", &save), *got = written(a, &spec->args[i]);
        if (!want || strcmp(want, got) != 0)
            fail_msg("%s: %s in layers.def, %s in PyTorch", name, got, want ? want : "nothing");
    }
    const char *rest = strtok_r(NULL, " \n", &save);
    if (rest)
        fail_msg("%s: PyTorch has %s as well", name, rest);
}

static void test_signatures(void **state)
{
    (void)state;
    Arena *a = arena_new();
    FILE *f = fopen("tests/unit/data/signatures.txt", "r");
    char line[1000];
    int n = 0;
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); n++)
        compare(a, line);
    fclose(f);
    assert_true(n > 80);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_signatures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
