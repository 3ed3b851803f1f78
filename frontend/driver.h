/* The pipeline as the commands use it: from a path to a checked module, and on to a program. A Compile owns the arena that
 * everything made on the way lives in (driver_free). */
#ifndef CNNC_FRONTEND_DRIVER_H
#define CNNC_FRONTEND_DRIVER_H
#include "frontend/options.h"
#include "passes/pass.h"
#include "runtime/weights.h"

typedef struct Compile {
    Arena *arena;
    Options *o;
    const char *path, *stem; /* stem: the model's name */
    Source src;
    Diags diags;
    Shape input; /* --input-shape */
    Ast *ast;
    ElaborateOptions elaborate;
    Module module;
    PassContext passes;
    WeightsFile weights; /* of --weights; its tensors are read where they lie */
} Compile;

/* Reads, parses, elaborates and checks the model, and prints the diagnostics. EXIT_FINE: cc->module may be used further.
 * *done: --dump printed what was asked and the command is over, whatever it is. */
int driver_load(Compile *cc, Options *o, const char *path, bool *done);
void driver_free(Compile *cc);
/* "cnnc: error: ..." on stderr; returns status. */
int driver_error(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool driver_trains(const Options *o); /* the batch is the train block's, and dumps are of the training step */
bool driver_color(const Options *o, FILE *to);
/* The result's file: -o, or standard output. NULL: reported. Close with driver_close_output. */
typedef struct {
    FILE *to;
    char *final, *temporary;
} Output;
bool driver_open_output(const Options *o, Output *out);
int driver_close_output(Output *out);
#endif
