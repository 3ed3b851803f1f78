/* The log of a training run: one JSON object a step, one an epoch. A TrainLog owns its stream (train_log_close). */
#ifndef CNNC_RUNTIME_TRAIN_LOG_H
#define CNNC_RUNTIME_TRAIN_LOG_H
#include "runtime/error.h"
#include <stdint.h>
#include <stdio.h>

typedef struct { FILE *to; const char *path; } TrainLog;
typedef struct { int64_t epoch; double train_loss; bool has_valid, has_accuracy; double valid_loss, accuracy, seconds; } EpochLine;

/* path NULL: no log. A run resumed at `step` of `epoch` goes on in the file: lines of later steps and epochs are dropped first. */
bool train_log_open(TrainLog *l, const char *path, int64_t step, int64_t epoch, RtError *e);
void train_log_step(TrainLog *l, int64_t step, int64_t epoch, float loss, double lr, double momentum);
void train_log_epoch(TrainLog *l, const EpochLine *line);
void train_log_flush(TrainLog *l);
bool train_log_close(TrainLog *l, RtError *e);   /* false when something could not be written */
#endif
