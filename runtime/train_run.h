/* The parts of a training run that its files share: train.c makes and unmakes it, train_loop.c runs it. */
#ifndef CNNC_RUNTIME_TRAIN_RUN_H
#define CNNC_RUNTIME_TRAIN_RUN_H
#include "runtime/checkpoint.h"
#include "runtime/eval.h"
#include "runtime/progress.h"
#include "runtime/train.h"
#include "runtime/train_log.h"

/* What is to be told of a step whose call is in flight. */
typedef struct { int64_t step, epoch, position; double lr, momentum; } StepNote;

typedef struct {
    const TrainOptions *options;
    CnncModel model;             /* a copy whose train is `train` */
    CnncTrain train;             /* with the options applied */
    Threads *threads;
    Exec *exec;
    DataPair data;
    float *mean, *std;           /* normalize("auto"): computed here */
    DataNorm norm;
    WeightsFacts facts;
    AugmentPlan augment;
    Batcher batcher;
    StepNote notes[EXEC_DEPTH];  /* by call of the batcher */
    Eval eval; Metrics metrics;  /* when data.has_valid */
    Schedule schedule;
    TrainState state;            /* its schedule member is filled in when a checkpoint is written */
    int64_t *order;              /* [samples] */
    int64_t steps_per_epoch;     /* without a last batch that BatchNorm cannot take */
    char *checkpoint;            /* path, or NULL without options->out */
    double saved_at;             /* exec_seconds */
    TrainLog log;
    Progress progress;
    TrainResult result;
} TrainRun;

bool train_loop(TrainRun *r, RtError *e);
#endif
