/* Learning-rate schedules, as PyTorch computes them, in double. A Schedule is plain data that borrows the CnncTrain;
 * its ScheduleState is what a checkpoint keeps. */
#ifndef CNNC_RUNTIME_SCHEDULE_H
#define CNNC_RUNTIME_SCHEDULE_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include <stdbool.h>

typedef struct {
    double lr, momentum;     /* for the next step; momentum is beta1 for Adam and AdamW */
    int64_t count;           /* calls of schedule_step_batch (OneCycle) or schedule_step_epoch (the others) */
    double best;             /* plateau */
    int64_t bad, cooldown;   /* plateau: epochs without improvement; epochs still ignored */
} ScheduleState;

typedef struct {
    const CnncTrain *train;
    int64_t total;           /* OneCycle: epochs x steps */
    ScheduleState now;
} Schedule;

/* False (RT_FAIL) when the schedule has no meaning at this length, such as a OneCycle phase of no steps. */
bool schedule_init(Schedule *s, const CnncTrain *train, int64_t steps_per_epoch, int64_t epochs, RtError *e);
void schedule_step_batch(Schedule *s);                                        /* after each optimizer step */
void schedule_step_epoch(Schedule *s, double loss, double accuracy);          /* after each epoch; plateau looks at one of them */
#endif
