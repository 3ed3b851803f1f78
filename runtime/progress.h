/* The progress of a training run on a terminal or in a log. A Progress is plain data; its stream is borrowed. */
#ifndef CNNC_RUNTIME_PROGRESS_H
#define CNNC_RUNTIME_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {
    FILE *to;                /* NULL: quiet */
    bool terminal, drawn;
    int64_t epochs, steps;   /* steps in an epoch */
    int64_t total;           /* steps of the whole run: epochs * steps, or fewer */
    int64_t steps_done;      /* since `start` */
    double start, drawn_at, epoch_start;
    int64_t epoch_images;
    double loss;             /* exponential mean, beta 0.98, for the eye only */
    double loss_weight;
} Progress;

void progress_start(Progress *p, FILE *to, int64_t epochs, int64_t steps, int64_t total);
void progress_begin_epoch(Progress *p);
/* After step `step` (from 0) of `epoch` (from 0); redraws at most 20 times a second, and only on a terminal. */
void progress_step(Progress *p, int64_t epoch, int64_t step, int64_t images, double loss);
/* Removes the drawn line, so that other text can be written. */
void progress_clear(Progress *p);
double progress_images_per_second(const Progress *p);   /* of the epoch so far */
#endif
