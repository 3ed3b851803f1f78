/* TrainSpec: the `train { }` block and the preprocessing lines, elaborated. Made by frontend/elaborate, overridden by the
 * command line, read by passes/loss.c and optimizer.c, and written out as CnncTrain for the runtime. */
#ifndef CNNC_PASSES_TRAIN_SPEC_H
#define CNNC_PASSES_TRAIN_SPEC_H
#include "ir/graph.h"
#include "runtime/abi.h"

typedef struct {
    bool present;            /* the file has a train block */
    Span span;               /* of the block */
    CnncTrain train;         /* numbers; strings and arrays live in the arena; defaults filled in even when absent */
    Span data_span, loss_span, optimizer_span, schedule_span;
} TrainSpec;

typedef struct {
    bool given, automatic;   /* normalize("auto") */
    int n; double mean[64], std[64];
    Span span;
} Normalize;

/* Everything a .cnn file says. graph is the forward net as written, not yet shaped. */
typedef struct {
    Graph *graph;
    Normalize normalize;
    const char **labels; int n_labels;   /* class names, or NULL */
    TrainSpec train;
} Module;
#endif
