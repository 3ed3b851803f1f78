/* Options: the command line as a struct. Strings are argv's or live in the arena given. */
#ifndef CNNC_FRONTEND_OPTIONS_H
#define CNNC_FRONTEND_OPTIONS_H
#include "frontend/elaborate.h"

/* Exit statuses (LANGUAGE.md section 3). */
enum { EXIT_FINE = 0, EXIT_MODEL = 1, EXIT_USAGE = 2, EXIT_FILE = 3, EXIT_DEVICE = 4, EXIT_BUG = 70, EXIT_INTERRUPTED = 130 };

/* Commands, as bits: which options each takes. */
enum {
    CMD_CHECK = 1,
    CMD_REPORT = 2,
    CMD_EXPLAIN = 4,
    CMD_INIT = 8,
    CMD_TRAIN = 16,
    CMD_EVAL = 32,
    CMD_RUN = 64,
    CMD_PREDICT = 128,
    CMD_VERIFY = 256,
    CMD_BUILD = 512,
    CMD_BENCH = 1024,
    CMD_ALL = 2047,
    CMD_CODE = CMD_TRAIN | CMD_EVAL | CMD_RUN | CMD_PREDICT | CMD_VERIFY | CMD_BUILD | CMD_BENCH,
    CMD_WEIGHTS = CMD_CODE | CMD_EXPLAIN
};

typedef Vec(const char *) Words;
typedef struct Options {
    unsigned command;         /* CMD_... */
    Words args;               /* what is no option, after the command */
    Vec(Define) defines;      /* -D */
    Words warnings_off;       /* -W no-NAME */
    bool warnings_are_errors; /* -W error */
    bool help, quiet, verbose, time_passes, verify_each, json, partial, no_shuffle, trainer, all, weights_of, train_bench, static_bench;
    Words no_pass;                              /* --no-PASS */
    bool no_winograd, recompute;
    int64_t batch, threads, top, epochs, steps; /* 0: not given */
    int64_t seed;
    bool has_seed;
    double lr, rtol, atol, max_rel_err, tune;
    bool has_lr;
    const char *device, *color, *error_format, *input_shape, *weights, *out, *format, *memory, *dump, *data, *resume, *log, *html,
        *best;
    const char *gpu;
    const char *input, *output, *expect, *layer, *all_layers, *emit, *target, *cpu, *name, *inputs, *pixel, *image;
    const char *precision, *weights_precision; /* "f32" (or NULL), "bf16"; "tf32" is precision alone */
    const char *unsupported; /* an option that is known and does nothing yet */
} Options;

typedef struct {
    const char *text, *help;
} OptionsError; /* help: NULL or a hint */

/* Takes argv[first..argc) apart. False: *e says what is wrong; the exit status is EXIT_USAGE. */
bool options_parse(Arena *a, int argc, char **argv, int first, unsigned command, Options *out, OptionsError *e);
/* The options of a command, one line each. */
void options_print(FILE *to, unsigned command);
/* "1,28,28" or "(1, 28, 28)" or "1x28x28". */
bool options_parse_shape(const char *text, Shape *out);
/* "8G", "500M", "1.5GiB"; -1: unreadable. */
int64_t options_parse_bytes(const char *text);
#endif
