/* main.c: finds the command and hands it its options.
 * In: argv. Out: an exit status. The only file that ends the process.
 * The idea: a table of commands; --help, the nearest known word and the calls come from it. */
#include "codegen/gpu/nvrtc.h"
#include "frontend/backend.h"
#include "frontend/commands/commands.h"
#include "frontend/driver.h"
#include "runtime/cuda.h"
#include <signal.h>
#include <string.h>

typedef struct {
    const char *name;
    unsigned bit;
    int (*run)(Options *);
    const char *usage, *does;
} Command;

/* clang-format off */
static const Command commands[] = {
    {"check", CMD_CHECK, command_check, "MODEL.cnn", "errors and warnings only"},
    {"report", CMD_REPORT, command_report, "MODEL.cnn", "layers, shapes, parameters, MACs, receptive fields, memory"},
    {"explain", CMD_EXPLAIN, command_explain, "MODEL.cnn [LAYER]  |  CODE  |  warnings", "the arithmetic of a layer; what a message means"},
    {"init", CMD_INIT, command_init, "MODEL.cnn", "writes initial weights, PyTorch's for the same seed"},
    {"train", CMD_TRAIN, command_train, "MODEL.cnn", "trains as the train block says"},
    {"eval", CMD_EVAL, command_eval, "MODEL.cnn --weights W", "loss, accuracy, confusion matrix on the test data"},
    {"run", CMD_RUN, command_run, "MODEL.cnn --input X.npy --output Y.npy", "the model's outputs for arrays"},
    {"predict", CMD_PREDICT, command_predict, "MODEL.cnn --weights W IMAGE...", "the most probable classes of pictures"},
    {"verify", CMD_VERIFY, command_verify, "MODEL.cnn --weights W --input X.npy --expect Y.npy", "compares outputs with given ones"},
    {"build", CMD_BUILD, command_build, "MODEL.cnn [-o OUT]", "an executable, a library, an object, a trainer"},
    {"bench", CMD_BENCH, command_bench, "MODEL.cnn", "time per call and per layer"},
};
/* clang-format on */
static const char *const planned[] = {"find-lr", "import", "export", "fmt", "lsp"};

static void print_help(FILE *to)
{
    fputs("usage: cnnc COMMAND MODEL.cnn [options]\n\n", to);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].does);
    fputs("\ncnnc COMMAND --help lists a command's options; cnnc --version tells versions.\n", to);
}

static void print_gpu_version(Arena *a)
{
    const char *why = NULL;
    RtError e = {0};
    Cuda gpu;
    Nvrtc *nvrtc = nvrtc_open(a, &why);
    if (nvrtc)
        printf("GPU code: NVRTC %s (%s)\n", nvrtc_version(nvrtc), nvrtc_library(nvrtc));
    else
        printf("GPU code: text only (%s)\n", why);
    nvrtc_close(nvrtc);
    if (cuda_probe(&gpu, &e))
        printf("GPU: %s (sm_%d), driver %d.%d\n", gpu.name, gpu.sm, gpu.driver / 1000, gpu.driver % 1000 / 10);
    else
        printf("GPU: none (%s)\n", e.text);
}

static int print_version(void)
{
    Arena *a = arena_new();
    const char *why = NULL;
    const CpuBackend *backend = backend_open(a, &why);
    printf("cnnc %s\n", CNNC_VERSION);
    if (backend)
        printf("CPU code: LLVM %s, x86-64 and aarch64\n", backend->llvm_version);
    else
        printf("CPU code: none (%s)\n", why);
    print_gpu_version(a);
    arena_free(a);
    return EXIT_FINE;
}

static int unknown_command(const char *word)
{
    const char *names[ARRAY_LEN(commands) + ARRAY_LEN(planned) + 1] = {0};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(planned); i++)
        if (!strcmp(planned[i], word))
            return driver_error(EXIT_USAGE, "cnnc %s is not implemented yet", word);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[n++] = commands[i].name;
    driver_error(EXIT_USAGE, "no command is called '%s'", word);
    const char *near = nearest_word(word, names);
    size_t length = strlen(word);
    if (near)
        fprintf(stderr, "help: did you mean cnnc %s?\n", near);
    else if (length > 4 && !strcmp(word + length - 4, ".cnn"))
        fprintf(stderr, "help: the command comes first: cnnc check %s\n", word);
    else
        fputs("help: cnnc --help lists the commands\n", stderr);
    return EXIT_USAGE;
}

static int run_command(const Command *c, int argc, char **argv, int first)
{
    Arena *a = arena_new();
    Options o;
    OptionsError e = {0};
    int status;
    if (!options_parse(a, argc, argv, first, c->bit, &o, &e)) {
        status = driver_error(EXIT_USAGE, "%s", e.text);
        if (e.help)
            fprintf(stderr, "help: %s\n", e.help);
    } else if (o.help) {
        printf("usage: cnnc %s %s [options]\n\n%s\n\n", c->name, c->usage, c->does);
        options_print(stdout, c->bit);
        status = EXIT_FINE;
    } else if (o.args.len == 0) {
        status = driver_error(EXIT_USAGE, "usage: cnnc %s %s", c->name, c->usage);
    } else if (o.args.len > 1 && !(c->bit & (CMD_EXPLAIN | CMD_PREDICT))) {
        status = driver_error(EXIT_USAGE, "cnnc %s takes one model, '%s' is too much", c->name, o.args.at[1]);
    } else {
        o.command = c->bit;
        if (c->bit == CMD_TRAIN)
            signal(SIGPIPE, SIG_IGN); /* a closed terminal must not cost the weights */
        status = c->run(&o);
    }
    if (status == EXIT_FINE && (fflush(stdout) != 0 || ferror(stdout)))
        status = driver_error(EXIT_FILE, "standard output cannot be written");
    arena_free(a);
    return status;
}

/* The command may stand after options: cnnc -q check x.cnn. */
int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        print_help(stdout);
        return EXIT_FINE;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-V") || !strcmp(word, "version"))
        return print_version();
    for (int at = 1; at < argc; at++)
        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
            if (!strcmp(commands[i].name, argv[at]) && (at == 1 || argv[1][0] == '-')) {
                memmove(argv + 2, argv + 1, sizeof *argv * (size_t)(at - 1));
                return run_command(&commands[i], argc, argv, 2);
            }
    if (word[0] == '-')
        return driver_error(EXIT_USAGE, "the command comes first: cnnc COMMAND MODEL.cnn [options]");
    return unknown_command(word);
}
