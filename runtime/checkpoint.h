/* Checkpoints: everything a training run needs to go on with the same bits, as safetensors.
 * Tensors go by their state_dict keys, optimizer state as "optimizer.KIND.PARAM"; the rest is metadata. */
#ifndef CNNC_RUNTIME_CHECKPOINT_H
#define CNNC_RUNTIME_CHECKPOINT_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include "runtime/rng.h"
#include "runtime/schedule.h"
#include "runtime/weights.h"

/* Where a run stands. All of it goes into the checkpoint. */
typedef struct {
    int64_t epoch, position;     /* the epoch, and the steps done in it */
    int64_t step;                /* optimizer steps done in all */
    Rng rng;                     /* as it was before the epoch's order was drawn */
    double loss_sum;             /* of the epoch so far, over samples */
    int64_t loss_n;
    ScheduleState schedule;
    bool has_best; double best;  /* what --best saved */
    uint64_t seed; int64_t batch, samples; int32_t shuffle;   /* facts that a resumed run must share */
} TrainState;

/* What travels with weights into programs: class names and normalisation. All borrowed. */
typedef struct { const char *const *classes; int32_t n_classes; int32_t n_norm; const float *mean, *std; } WeightsFacts;

/* Weights alone: parameters and running statistics, as state_dict has them. */
bool checkpoint_write_weights(const char *path, const CnncModel *m, const char *state, const WeightsFacts *facts, RtError *e);
bool checkpoint_write(const char *path, const CnncModel *m, const char *state, const WeightsFacts *facts, const TrainState *t, RtError *e);
/* Reads both back; fails (RT_FILE) when the file is no checkpoint or another model's. */
bool checkpoint_read(const char *path, const CnncModel *m, char *state, TrainState *t, RtError *e);
/* The plan (CnncModel.plan) that the checkpoint's run was compiled with, malloc'd: the same bits need the same one. NULL: *e. */
char *checkpoint_plan(const char *path, RtError *e);
/* "w.safetensors" gives "w.ckpt.safetensors": where a run that saves its weights in `path` keeps its checkpoint. malloc'd. */
char *checkpoint_path(const char *path);

/* The facts in a weights file, malloc'd; absent ones are left NULL and 0. */
typedef struct { char **classes; int n_classes; int32_t n_norm; float *mean, *std; } StoredFacts;
bool stored_facts_read(const WeightsFile *w, StoredFacts *out, RtError *e);
void stored_facts_free(StoredFacts *f);
#endif
