/* A training run, as the train block says and the options override. Used by `cnnc train` (JIT) and by standalone trainers. */
#ifndef CNNC_RUNTIME_TRAIN_H
#define CNNC_RUNTIME_TRAIN_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Zero or NULL: as the train block says. Strings are borrowed. */
typedef struct {
    const char *out;             /* last weights; the checkpoint lies beside it (checkpoint_path) */
    const char *best;            /* weights of the best epoch */
    const char *resume;          /* a checkpoint, or the weights file beside which it lies */
    const char *log;             /* JSON lines */
    const char *weights; bool partial;   /* initial weights from a file */
    const char *data;            /* folder, or "x.npy,y.npy"; replaces the data's path */
    int64_t epochs, batch, steps;        /* steps: stop after so many in all */
    double lr; bool has_lr;
    uint64_t seed; bool has_seed;
    bool no_shuffle;
    int threads;                 /* 0: all cores */
    FILE *progress;              /* NULL: quiet */
    /* Called after each epoch, for reports; may be NULL. */
    void (*on_epoch)(void *context, int64_t epoch, double train_loss, double valid_loss, double accuracy);
    void *context;
} TrainOptions;

typedef struct {
    int64_t epochs, steps;       /* done in all */
    double train_loss, valid_loss, accuracy, seconds;   /* of the last epoch; NaN when not measured */
    double images_per_second;
} TrainResult;

/* Needs model->step, model->train and, when there is validation data, model->eval. RT_FAIL: turned NaN; RT_INTERRUPTED:
 * SIGINT or SIGTERM, the checkpoint is saved. result may be NULL. */
bool train_run(const CnncModel *model, const TrainOptions *options, TrainResult *result, RtError *e);
#endif
