/* The training log.
 * In: steps and epochs as they end. Out: JSON lines.
 * Invariant: after a resume the file holds each step and each epoch once, as an uninterrupted run's would.
 * Idea: lines that belong to what will be done again are dropped by their own "step" and "epoch". */
#include "runtime/train_log.h"
#include "runtime/file.h"
#include "runtime/json_read.h"
#include "runtime/json_write.h"
#include <stdlib.h>
#include <string.h>

/* Is the line one of a step before `step`, or of an epoch before `epoch`? */
static bool keep_line(const char *line, const char *end, int64_t step, int64_t epoch)
{
    Json j = {line, end};
    double at_step = -1, at_epoch = -1;
    if (!json_take(&j, '{'))
        return false;
    do {
        char *key = NULL;
        double *to = NULL;
        if (!json_string(&j, &key))
            return false;
        to = strcmp(key, "step") == 0 ? &at_step : strcmp(key, "epoch") == 0 ? &at_epoch : NULL;
        free(key);
        if (!json_take(&j, ':') || !(to ? json_number(&j, to) : json_skip(&j)))
            return false;
    } while (json_take(&j, ','));
    if (!json_take(&j, '}') || !json_end(&j))
        return false;
    return at_step >= 0 ? at_step < (double)step : at_epoch >= 0 && at_epoch < (double)epoch;
}

static bool drop_later_lines(const char *path, int64_t step, int64_t epoch, RtError *e)
{
    FileBytes old = {0};
    FileWriter w;
    if (!file_exists(path))
        return true;
    if (!file_read(path, &old, e))
        return false;
    if (!file_writer_open(&w, path, e)) {
        file_free(&old);
        return false;
    }
    const char *p = (const char *)old.at, *end = p + old.len;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (stop && keep_line(p, stop, step, epoch))
            file_writer_put(&w, p, (size_t)(stop + 1 - p));
        p = stop ? stop + 1 : end;
    }
    bool fine = file_writer_commit(&w, e);
    file_free(&old);
    return fine;
}

bool train_log_open(TrainLog *l, const char *path, int64_t step, int64_t epoch, RtError *e)
{
    *l = (TrainLog){.path = path};
    if (!path)
        return true;
    bool resumed = step > 0;
    if (resumed && !drop_later_lines(path, step, epoch, e))
        return false;
    l->to = fopen(path, resumed ? "ae" : "we");
    return l->to || rt_error_errno(e, "cannot write the log %s", path);
}

static void put(TrainLog *l, const char *before, bool given, double x)
{
    fputs(before, l->to);
    if (given)
        json_put_number(l->to, x);
    else
        fputs("null", l->to);
}

void train_log_step(TrainLog *l, int64_t step, int64_t epoch, float loss, double lr, double momentum)
{
    if (!l->to)
        return;
    fprintf(l->to, "{\"step\": %lld, \"epoch\": %lld, \"loss\": ", (long long)step, (long long)epoch);
    if (loss - loss == 0)
        fprintf(l->to, "%.9g", (double)loss);
    else
        fputs("null", l->to);
    put(l, ", \"lr\": ", true, lr);
    put(l, ", \"momentum\": ", true, momentum);
    fputs("}\n", l->to);
}

void train_log_epoch(TrainLog *l, const EpochLine *line)
{
    if (!l->to)
        return;
    fprintf(l->to, "{\"epoch\": %lld", (long long)line->epoch);
    put(l, ", \"train_loss\": ", true, line->train_loss);
    put(l, ", \"valid_loss\": ", line->has_valid, line->valid_loss);
    put(l, ", \"accuracy\": ", line->has_accuracy, line->accuracy);
    fprintf(l->to, ", \"seconds\": %.3f}\n", line->seconds);
    train_log_flush(l);
}

void train_log_flush(TrainLog *l)
{
    if (l->to)
        fflush(l->to);
}

bool train_log_close(TrainLog *l, RtError *e)
{
    if (!l->to)
        return true;
    bool bad = ferror(l->to) != 0;
    bad = fclose(l->to) != 0 || bad;
    l->to = NULL;
    return !bad || rt_error(e, RT_FILE, "the log %s could not be written completely", l->path);
}
