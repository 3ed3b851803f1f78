/* Broken files: random changes of real ones go through parse, elaborate, shape and lint. Whatever the text says, there is a
 * diagnostic or a checked net, never a crash, and every diagnostic points into the text.
 * CNNC_FUZZ_SECONDS runs longer (default: a fixed number of texts); CNNC_FUZZ_SEED starts elsewhere; CNNC_FUZZ_KEEP names a file
 * for the text at hand, which a crash leaves behind; CNNC_FUZZ_VALID a folder for the texts that are still right. */
#include "frontend/elaborate.h"
#include "frontend/pasted.h"
#include "passes/pass.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEXTS = 1500, ROOM = 20000 };

static const char *const seeds[] = {
    "examples/lenet.cnn",
    "examples/cifar_vgg.cnn",
    "examples/googlenet.cnn",
    "examples/mobilenet.cnn",
    "examples/resnet18.cnn",
    "examples/tinyvgg.cnn",
    "examples/simple_cnn.cnn",
    "tests/unit/data/front/all.cnn",
    "tests/unit/data/front/printed.cnn",
    "tests/unit/data/front/ordered.cnn",
    "tests/unit/data/front/class.cnn",
};
static const char *const words[] = {
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    ":",
    "=",
    "\n",
    "_",
    "*",
    "**",
    "//",
    "/",
    "%",
    "-",
    "==",
    "<",
    "not in",
    "in",
    "if ",
    "else ",
    "elif ",
    "for ",
    "repeat ",
    "let ",
    "block ",
    "residual ",
    "shortcut ",
    "concat ",
    "branch ",
    "train ",
    "input(",
    "normalize(",
    "labels(",
    "None",
    "True",
    "9223372036854775807",
    "-1",
    "0",
    "1e308",
    "2147483648",
    "1000000",
    "0.5",
    "'same'",
    "\"",
    "'",
    "#",
    "\\",
    "range(1000000)",
    "Sequential(",
    "OrderedDict([",
    "(0): ",
    "self.x = nn.ReLU()\n",
    "class A(nn.Module):\n",
    "padding_mode='reflect'",
    "stride=0",
    "groups=3",
    "ceil_mode=True",
    "Conv2d(",
    "Linear(_, 10)",
    "Softmax()",
    "BatchNorm2d()",
    "\xC3\x97",
    "\xFF",
    "\x01",
    "@",
    "[[1,2],[3,4]]",
    "weight=Sobel()",
    "dim=-9",
};

static uint64_t state_; /* of the random numbers; a test's own */
static uint32_t next(uint32_t n)
{
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state_ >> 33) % (n ? n : 1);
}

typedef struct {
    char at[ROOM + 1];
    size_t n;
} Text;

static void insert(Text *t, size_t at, const char *s, size_t n)
{
    if (t->n + n > ROOM)
        return;
    memmove(t->at + at + n, t->at + at, t->n - at);
    memcpy(t->at + at, s, n);
    t->n += n;
}

static void erase(Text *t, size_t at, size_t n)
{
    if (at + n > t->n)
        n = t->n - at;
    memmove(t->at + at, t->at + at + n, t->n - at - n);
    t->n -= n;
}

static void mutate(Text *t, const Text *other)
{
    char piece[200];
    size_t at = next((uint32_t)t->n + 1), from, n;
    const char *w;
    switch (next(7)) {
    case 0:
        if (at < t->n)
            t->at[at] = (char)(32 + next(95));
        break;
    case 1:
        erase(t, at, 1 + next(3));
        break;
    case 2:
        erase(t, at, 1 + next(60));
        break;
    case 3:
    case 4:
        w = words[next(sizeof words / sizeof *words)];
        insert(t, at, w, strlen(w));
        break;
    case 5:
        from = next((uint32_t)other->n + 1);
        n = next(150);
        n = from + n > other->n ? other->n - from : n;
        memcpy(piece, other->at + from, n);
        insert(t, at, piece, n);
        break;
    default:
        from = next((uint32_t)t->n + 1);
        n = next(150);
        n = from + n > t->n ? t->n - from : n;
        memcpy(piece, t->at + from, n);
        insert(t, at, piece, n);
    }
}

/* The whole front half; returns the number of errors. */
static int check_text(const char *text, size_t n)
{
    Arena *a = arena_new();
    Source src = source_from_text(a, "mutated.cnn", text, n);
    Diags d;
    Module m;
    ElaborateOptions o = {.name = "mutated", .batch = 1};
    diags_init(&d, a, &src);
    if (!pasted_class(a, &src, &d)) {
        Ast *ast = parse_file(a, &src, &d, &o.broken);
        elaborate(a, ast, &o, &d, &m);
        PassContext c = {.arena = a, .diags = &d, .module = &m};
        passes_run(&c, PIPELINE_CHECK);
        assert_true(!o.broken || d.errors);
    }
    for (const Diag *x = d.first; x; x = x->next)
        assert_true(x->span.start <= x->span.end && x->span.end <= src.len && x->code && x->text[0]);
    int errors = d.errors;
    arena_free(a);
    return errors;
}

static void keep(const char *path, const Text *t)
{
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f)
        return;
    fwrite(t->at, 1, t->n, f);
    fclose(f);
}

static bool read_seed(const char *path, Text *out)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    out->n = fread(out->at, 1, ROOM, f);
    fclose(f);
    return true;
}

static void test_seeds_are_fine(void **unused)
{
    (void)unused;
    static Text t;
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        if (read_seed(seeds[i], &t))
            assert_int_equal(check_text(t.at, t.n), strstr(seeds[i], "class.cnn") ? 1 : 0);
}

static void test_mutations(void **unused)
{
    (void)unused;
    static Text text[sizeof seeds / sizeof *seeds], t;
    size_t n_seeds = 0;
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        n_seeds += read_seed(seeds[i], &text[n_seeds]);
    assert_true(n_seeds >= 4);
    const char *seconds = getenv("CNNC_FUZZ_SECONDS"), *seed = getenv("CNNC_FUZZ_SEED"), *valid = getenv("CNNC_FUZZ_VALID");
    time_t end = time(NULL) + (seconds ? atoi(seconds) : 0);
    int broken = 0;
    state_ = seed ? strtoull(seed, NULL, 10) : 1;
    for (long i = 0; seconds ? time(NULL) < end : i < TEXTS; i++) {
        t = text[next((uint32_t)n_seeds)];
        for (uint32_t k = 1 + next(6); k > 0; k--)
            mutate(&t, &text[next((uint32_t)n_seeds)]);
        t.at[t.n] = 0;
        keep(getenv("CNNC_FUZZ_KEEP"), &t);
        alarm(60); /* a text that is never done with ends the test */
        bool bad = check_text(t.at, t.n) > 0;
        broken += bad;
        if (!bad && valid) {
            char path[300];
            snprintf(path, sizeof path, "%s/%ld.cnn", valid, i);
            keep(path, &t);
        }
    }
    alarm(0);
    assert_true(broken > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeds_are_fine), cmocka_unit_test(test_mutations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
