/* options.c: the command line.
 * In: argv after the command's name. Out: an Options, or what is wrong and a hint.
 * Invariant: options stand in any place, as `--x v` or `--x=v`; after `--` nothing is an option.
 * The idea: one table; parsing, --help and the nearest known word come from it. An option of another command is told
 * apart from one that does not exist. */
#include "frontend/options.h"
#include "passes/codes.h"
#include "passes/pass.h"
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum { OPT_FLAG, OPT_INT, OPT_SEED, OPT_NUMBER, OPT_TEXT, OPT_DEFINE, OPT_WARNING, OPT_UNSUPPORTED } OptKind;
typedef struct {
    const char *name;
    char letter;
    OptKind kind;
    size_t offset;
    double least;
    unsigned commands;
    const char *meta, *help;
} Opt;

/* clang-format off */
#define AT(field) offsetof(Options, field)
static const Opt table[] = {
    {"--define", 'D', OPT_DEFINE, 0, 0, CMD_ALL, "NAME=VALUE", "replaces a let of the file"},
    {"--batch", 0, OPT_INT, AT(batch), 1, CMD_ALL, "N", "samples at a time (1; train: the file's batch_size)"},
    {"--threads", 0, OPT_INT, AT(threads), 1, CMD_ALL, "N", "threads (all cores); build: of a library's pool (none)"},
    {"--device", 0, OPT_TEXT, AT(device), 0, CMD_ALL, "cpu|cuda|auto", "where to run (cpu)"},
    {"--seed", 0, OPT_SEED, AT(seed), 0, CMD_ALL, "N", "seed of initial weights and of training"},
    {"--input-shape", 0, OPT_TEXT, AT(input_shape), 0, CMD_ALL, "C,H,W", "takes the place of input(...)"},
    {"--color", 0, OPT_TEXT, AT(color), 0, CMD_ALL, "auto|always|never", "colours in messages"},
    {"--error-format", 0, OPT_TEXT, AT(error_format), 0, CMD_ALL, "human|short|json", "form of errors and warnings"},
    {"--warn", 'W', OPT_WARNING, 0, 0, CMD_ALL, "no-NAME|error", "turns a warning off, or all of them into errors"},
    {"--quiet", 'q', OPT_FLAG, AT(quiet), 0, CMD_ALL, NULL, "no progress, no warnings"},
    {"--verbose", 'v', OPT_FLAG, AT(verbose), 0, CMD_ALL, NULL, "tells more"},
    {"--dump", 0, OPT_TEXT, AT(dump), 0, CMD_ALL, "STAGE", "prints an intermediate form: ast, graph, a pass, kernels, stages, plan, tile, llvm, cuda"},
    {"--time-passes", 0, OPT_FLAG, AT(time_passes), 0, CMD_ALL, NULL, "prints the time each pass takes"},
    {"--verify-each", 0, OPT_FLAG, AT(verify_each), 0, CMD_ALL, NULL, "checks the graph after every pass"},
    {"--help", 'h', OPT_FLAG, AT(help), 0, CMD_ALL, NULL, "this text"},
    {"--weights", 0, OPT_TEXT, AT(weights), 0, CMD_WEIGHTS, "W", "weights: .safetensors, or a state_dict of PyTorch (.pt)"},
    {"--partial", 0, OPT_FLAG, AT(partial), 0, CMD_WEIGHTS, NULL, "tensors of the weights may be missing or left over"},
    {"--output", 'o', OPT_TEXT, AT(out), 0, CMD_ALL & ~(CMD_CHECK | CMD_EVAL | CMD_PREDICT | CMD_VERIFY | CMD_BENCH), "FILE", "where the result goes"},
    {"--format", 0, OPT_TEXT, AT(format), 0, CMD_REPORT, "text|json|csv|md|html", "form of the report"},
    {"--memory", 0, OPT_TEXT, AT(memory), 0, CMD_REPORT, "8G", "tells the largest batch that fits"},
    {"--pixel", 0, OPT_TEXT, AT(pixel), 0, CMD_EXPLAIN, "Y,X", "one output value as its sum"},
    {"--weights-of", 0, OPT_FLAG, AT(weights_of), 0, CMD_EXPLAIN, NULL, "the layer's weights, as PyTorch prints them"},
    {"--image", 0, OPT_TEXT, AT(image), 0, CMD_EXPLAIN, "FILE", "runs the layer's filters over a picture"},
    {"--data", 0, OPT_TEXT, AT(data), 0, CMD_TRAIN | CMD_EVAL, "DIR", "takes the place of the path in data = ... (x.npy,y.npy for Npy)"},
    {"--epochs", 0, OPT_INT, AT(epochs), 1, CMD_TRAIN, "N", "passes over the data"},
    {"--steps", 0, OPT_INT, AT(steps), 1, CMD_TRAIN, "N", "stop after so many steps"},
    {"--lr", 0, OPT_NUMBER, AT(lr), 0, CMD_TRAIN, "X", "learning rate"},
    {"--resume", 0, OPT_TEXT, AT(resume), 0, CMD_TRAIN, "CKPT", "go on from a checkpoint"},
    {"--log", 0, OPT_TEXT, AT(log), 0, CMD_TRAIN, "L.jsonl", "one JSON object a step and an epoch"},
    {"--html", 0, OPT_TEXT, AT(html), 0, CMD_TRAIN, "R.html", "a report of the run"},
    {"--best", 0, OPT_TEXT, AT(best), 0, CMD_TRAIN, "W.safetensors", "the weights of the best epoch"},
    {"--no-shuffle", 0, OPT_FLAG, AT(no_shuffle), 0, CMD_TRAIN, NULL, "samples in their own order"},
    {"--input", 0, OPT_TEXT, AT(input), 0, CMD_RUN | CMD_VERIFY, "X.npy", "float32 or 8-bit samples (.npy or IDX), any number"},
    {"--expect", 0, OPT_TEXT, AT(expect), 0, CMD_VERIFY, "Y.npy", "outputs to compare with, or a folder of layers' outputs"},
    {"--rtol", 0, OPT_NUMBER, AT(rtol), 0, CMD_VERIFY, "X", "relative tolerance (1e-4)"},
    {"--atol", 0, OPT_NUMBER, AT(atol), 0, CMD_VERIFY, "X", "absolute tolerance (1e-5)"},
    {"--layer", 0, OPT_TEXT, AT(layer), 0, CMD_RUN, "NAME", "the output of this layer instead of the net's"},
    {"--all-layers", 0, OPT_TEXT, AT(all_layers), 0, CMD_RUN, "DIR", "every layer's output as DIR/NAME.npy"},
    {"--top", 0, OPT_INT, AT(top), 1, CMD_PREDICT, "K", "classes per picture (3)"},
    {"--json", 0, OPT_FLAG, AT(json), 0, CMD_PREDICT | CMD_EVAL | CMD_BENCH, NULL, "results as JSON"},
    {"--emit", 0, OPT_TEXT, AT(emit), 0, CMD_BUILD, "KINDS", "exe, lib, shared, obj, header, llvm-ir, asm, cuda, ptx, cubin; several with commas (exe)"},
    {"--trainer", 0, OPT_FLAG, AT(trainer), 0, CMD_BUILD, NULL, "a program that trains"},
    {"--target", 0, OPT_TEXT, AT(target), 0, CMD_CODE, "TRIPLE", "machine to compile for: x86_64-linux-gnu, aarch64-linux-gnu (this one)"},
    {"--cpu", 0, OPT_TEXT, AT(cpu), 0, CMD_CODE | CMD_CHECK, "NAME", "CPU to compile for: host, x86-64-v3, znver4, cortex-a72 ...; programs: several with commas"},
    {"--name", 0, OPT_TEXT, AT(name), 0, CMD_BUILD, "NAME", "name of a library's functions"},
    {"--inputs", 0, OPT_TEXT, AT(inputs), 0, CMD_BUILD, "png,jpeg,...", "readers in an executable: png, jpeg, pgm, idx, npy (all)"},
    {"--gpu", 0, OPT_TEXT, AT(gpu), 0, CMD_BUILD | CMD_BENCH, "sm_90,...", "GPUs to make machine code for (sm_80,sm_90,sm_100; others get PTX)"},
    {"--static", 0, OPT_FLAG, AT(static_bench), 0, CMD_BENCH, NULL, "with --device cuda: what kernels take, without running them"},
    {"--train", 0, OPT_FLAG, AT(train_bench), 0, CMD_BENCH, NULL, "times a training step"},
    {"--tune", 0, OPT_NUMBER, AT(tune), 0, CMD_CODE & ~CMD_EVAL, "SECONDS", "measures other plans for so long and keeps the fastest; a program or checkpoint keeps it too"},
    {"--max-rel-err", 0, OPT_NUMBER, AT(max_rel_err), 0, CMD_CODE & ~CMD_TRAIN, "E", "bounds the error, which is measured against double precision and printed"},
    {"--no-winograd", 0, OPT_FLAG, AT(no_winograd), 0, CMD_CODE, NULL, "every convolution directly"},
    {"--precision", 0, OPT_TEXT, AT(precision), 0, CMD_CODE, "f32|tf32|bf16", "of what convolutions and Linear multiply: bf16; tf32 on GPUs (f32)"},
    {"--weights-precision", 0, OPT_TEXT, AT(weights_precision), 0, CMD_CODE & ~CMD_TRAIN, "f32|bf16", "bf16: Linear layers' weights, for small batches (f32)"},
    {"--recompute", 0, OPT_FLAG, AT(recompute), 0, CMD_TRAIN | CMD_BUILD | CMD_BENCH | CMD_REPORT, NULL, "training: makes values again for the gradients instead of keeping them: less memory, more time"},
    {"--dist", 0, OPT_UNSUPPORTED, 0, 0, CMD_TRAIN, "mpi|nccl", "not yet"},
};
/* clang-format on */

typedef struct {
    Arena *a;
    Options *o;
    OptionsError *e;
    unsigned command;
} Parsing;

static bool fail(Parsing *p, const char *help, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool fail(Parsing *p, const char *help, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    p->e->text = arena_vprintf(p->a, fmt, ap);
    p->e->help = help;
    va_end(ap);
    return false;
}

static bool store_int(Parsing *p, const Opt *opt, const char *value)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno == ERANGE)
        return fail(p, NULL, "%s needs a whole number, not '%s'", opt->name, value);
    if (v < (long long)opt->least)
        return fail(p, NULL, "%s must be at least %g, not %lld", opt->name, opt->least, v);
    if (opt->kind == OPT_INT && v > INT32_MAX)
        return fail(p, NULL, "%s must be at most %d, not %lld", opt->name, INT32_MAX, v);
    *(int64_t *)((char *)p->o + opt->offset) = v;
    p->o->has_seed |= opt->kind == OPT_SEED;
    return true;
}

static bool store_number(Parsing *p, const Opt *opt, const char *value)
{
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !isfinite(v))
        return fail(p, NULL, "%s needs a number, not '%s'", opt->name, value);
    if (v < opt->least)
        return fail(p, NULL, "%s must be at least %g, not %s", opt->name, opt->least, value);
    *(double *)((char *)p->o + opt->offset) = v;
    p->o->has_lr |= opt->offset == AT(lr);
    return true;
}

static bool store_define(Parsing *p, const char *value)
{
    const char *equals = strchr(value, '=');
    if (!equals || equals == value)
        return fail(p, NULL, "-D needs NAME=VALUE, not '%s'", value);
    Define d = {.name = arena_strndup(p->a, value, (size_t)(equals - value)), .text = equals + 1};
    vec_push(p->a, &p->o->defines, d);
    return true;
}

static bool store_warning(Parsing *p, const char *value)
{
    if (!strcmp(value, "error")) {
        p->o->warnings_are_errors = true;
        return true;
    }
    const char *const *names = warning_names();
    const char *name = strncmp(value, "no-", 3) == 0 ? value + 3 : value;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        if (name != value)
            vec_push(p->a, &p->o->warnings_off, names[i]);
        return true;
    }
    const char *near = nearest_word(name, names);
    return fail(p, near ? arena_printf(p->a, "did you mean -W no-%s?", near) : "cnnc explain warnings lists them",
                "no warning is called '%s'", name);
}

static bool store(Parsing *p, const Opt *opt, const char *value)
{
    switch (opt->kind) {
    case OPT_FLAG:
        *(bool *)((char *)p->o + opt->offset) = true;
        return true;
    case OPT_INT:
    case OPT_SEED:
        return store_int(p, opt, value);
    case OPT_NUMBER:
        return store_number(p, opt, value);
    case OPT_TEXT:
        *(const char **)((char *)p->o + opt->offset) = value;
        return true;
    case OPT_DEFINE:
        return store_define(p, value);
    case OPT_WARNING:
        return store_warning(p, value);
    case OPT_UNSUPPORTED:
        p->o->unsupported = opt->name;
        return true;
    }
    return true;
}

/* --no-PASS. */
static bool is_no_pass(Parsing *p, const char *name)
{
    PassId id = strncmp(name, "--no-", 5) == 0 ? pass_find(name + 5) : PASS_COUNT;
    if (id == PASS_COUNT || !pass_is_optional(id))
        return false;
    vec_push(p->a, &p->o->no_pass, pass_name(id));
    return true;
}

static bool unknown(Parsing *p, const char *name)
{
    Words names = {0};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (!strcmp(table[i].name, name))
            return fail(p, NULL, "%s is an option of another command", name);
        if (table[i].commands & p->command)
            vec_push(p->a, &names, table[i].name);
    }
    for (PassId id = 0; id < PASS_COUNT; id++)
        if (pass_is_optional(id))
            vec_push(p->a, &names, arena_printf(p->a, "--no-%s", pass_name(id)));
    vec_push(p->a, &names, NULL);
    const char *near = nearest_word(name, names.at);
    return fail(p, near ? arena_printf(p->a, "did you mean %s?", near) : "--help lists the options", "unknown option '%s'", name);
}

static const Opt *find(const Parsing *p, const char *name, char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if ((table[i].commands & p->command) && (name ? !strcmp(table[i].name, name) : table[i].letter == letter && letter))
            return &table[i];
    return NULL;
}

/* One argument that starts with '-'. *i moves past a value taken from the next one. */
static bool option(Parsing *p, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *value = NULL, *name = arg;
    bool is_long = arg[1] == '-';
    const char *equals = is_long ? strchr(arg, '=') : NULL;
    if (equals) {
        name = arena_strndup(p->a, arg, (size_t)(equals - arg));
        value = equals + 1;
    } else if (!is_long && arg[2]) {
        value = arg[2] == '=' ? arg + 3 : arg + 2; /* -Dwidth=6, -o=x */
        name = arena_strndup(p->a, arg, 2);
    }
    const Opt *opt = is_long ? find(p, name, 0) : find(p, NULL, arg[1]);
    if (!opt)
        return (!value && is_no_pass(p, name)) || unknown(p, name);
    if (opt->kind == OPT_FLAG) {
        if (value && is_long)
            return fail(p, NULL, "%s takes no value", name);
        if (value)
            return fail(p, NULL, "unknown option '%s'", arg);
    } else if (!value) {
        if (*i + 1 >= argc)
            return fail(p, NULL, "%s needs a value: %s %s", name, name, opt->meta);
        value = argv[++*i];
    }
    return store(p, opt, value);
}

static bool one_of(Parsing *p, const char *option_name, const char *value, const char *const *words)
{
    for (int i = 0; value && words[i]; i++)
        if (!strcmp(words[i], value))
            return true;
    if (!value)
        return true;
    const char *near = nearest_word(value, words);
    return fail(p, near ? arena_printf(p->a, "did you mean %s?", near) : NULL, "%s cannot be '%s'", option_name, value);
}

bool options_parse(Arena *a, int argc, char **argv, int first, unsigned command, Options *out, OptionsError *e)
{
    static const char *const devices[] = {"cpu", "cuda", "auto", NULL}, *const colors[] = {"auto", "always", "never", NULL};
    static const char *const forms[] = {"human", "short", "json", NULL};
    static const char *const precisions[] = {"f32", "tf32", "bf16", NULL}, *const stored[] = {"f32", "bf16", NULL};
    *out = (Options){.rtol = 1e-4, .atol = 1e-5};
    Parsing p = {.a = a, .o = out, .e = e, .command = command};
    bool plain = false;
    for (int i = first; i < argc; i++) {
        if (!plain && !strcmp(argv[i], "--"))
            plain = true;
        else if (plain || argv[i][0] != '-' || !argv[i][1])
            vec_push(a, &out->args, argv[i]);
        else if (!option(&p, argc, argv, &i))
            return false;
    }
    if (out->unsupported)
        return fail(&p, NULL, "%s is not implemented yet", out->unsupported);
    bool on_cpu = out->device ? !strcmp(out->device, "cpu") : !out->gpu;
    if (out->precision && !strcmp(out->precision, "tf32") && on_cpu)
        return fail(&p, "--device cuda, or on a CPU --precision bf16", "--precision tf32 belongs to GPUs");
    return one_of(&p, "--precision", out->precision, precisions) && one_of(&p, "--weights-precision", out->weights_precision, stored) &&
           one_of(&p, "--device", out->device, devices) && one_of(&p, "--color", out->color, colors) &&
           one_of(&p, "--error-format", out->error_format, forms);
}

void options_print(FILE *to, unsigned command)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const Opt *o = &table[i];
        if (!(o->commands & command) || o->kind == OPT_UNSUPPORTED)
            continue;
        char left[80];
        const char letter[] = {'-', o->letter, ',', ' ', 0};
        snprintf(left, sizeof left, "%s%s %s", o->letter ? letter : "    ", o->name, o->meta ? o->meta : "");
        fprintf(to, "  %-34s %s\n", left, o->help);
    }
    fprintf(to, "      --no-PASS                      leaves an optional pass out:");
    for (PassId id = 0; id < PASS_COUNT; id++)
        if (pass_is_optional(id))
            fprintf(to, " %s", pass_name(id));
    fputc('\n', to);
}

bool options_parse_shape(const char *text, Shape *out)
{
    *out = (Shape){0};
    const char *c = text + strspn(text, " ([");
    for (;;) {
        char *end;
        long long v = strtoll(c, &end, 10);
        if (end == c || v < 1 || v > INT32_MAX || out->rank >= 4)
            return false;
        out->dim[out->rank++] = v;
        c = end + strspn(end, " ");
        if (*c != ',' && *c != 'x')
            break;
        c += 1 + strspn(c + 1, " ");
        if (*c == ')' || *c == ']')
            break;
    }
    c += strspn(c, " )]");
    return !*c;
}

int64_t options_parse_bytes(const char *text)
{
    char *end;
    double v = strtod(text, &end);
    double unit = 1;
    if (end == text || !(v > 0))
        return -1;
    const char *units = "KMGT", *u = *end ? strchr(units, *end >= 'a' ? *end - 32 : *end) : NULL;
    if (u) {
        unit = ldexp(1, 10 * (int)(u - units + 1));
        end++;
    }
    if (!strcmp(end, "B") || !strcmp(end, "iB") || !strcmp(end, "b"))
        end += strlen(end);
    return *end || v * unit > 9e18 ? -1 : (int64_t)(v * unit);
}
