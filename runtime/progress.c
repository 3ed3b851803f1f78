/* The progress line.
 * In: steps as they end. Out: one line on a terminal, rewritten in place; nothing elsewhere (epochs have their own lines).
 * Invariant: a drawn line is always cleared before anything else is written to the stream.
 * Idea: the time left is measured from this run's own steps, so that a resumed run is judged fairly. */
#include "runtime/progress.h"
#include "runtime/exec.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

void progress_start(Progress *p, FILE *to, int64_t epochs, int64_t steps, int64_t total)
{
    *p = (Progress){.to = to, .epochs = epochs, .steps = steps, .total = total, .start = exec_seconds()};
    p->terminal = to && isatty(fileno(to));
    p->epoch_start = p->start;
}

void progress_begin_epoch(Progress *p)
{
    p->epoch_start = exec_seconds();
    p->epoch_images = 0;
}

static void put_time(FILE *to, double seconds)
{
    int64_t s = (int64_t)(seconds + 0.5);
    if (s >= 3600)
        fprintf(to, "%lld:%02lld:%02lld", (long long)(s / 3600), (long long)(s / 60 % 60), (long long)(s % 60));
    else
        fprintf(to, "%lld:%02lld", (long long)(s / 60), (long long)(s % 60));
}

double progress_images_per_second(const Progress *p)
{
    double seconds = exec_seconds() - p->epoch_start;
    return seconds > 0 ? (double)p->epoch_images / seconds : 0;
}

static void draw(Progress *p, int64_t epoch, int64_t step, double now)
{
    enum { WIDTH = 20 };
    int64_t done = step + 1, filled = done * WIDTH / p->steps;
    char bar[WIDTH + 1];
    memset(bar, '.', WIDTH);
    memset(bar, '=', (size_t)filled);
    bar[WIDTH] = '\0';
    fprintf(p->to, "\r\033[Kepoch %lld/%lld [%s] %lld/%lld  loss %.4f  %.0f images/s", (long long)epoch + 1, (long long)p->epochs,
            bar, (long long)done, (long long)p->steps, p->loss / p->loss_weight, progress_images_per_second(p));
    int64_t left = p->total - epoch * p->steps - done;
    fputs("  ETA ", p->to);
    put_time(p->to, (double)left * (now - p->start) / (double)p->steps_done);
    fflush(p->to);
    p->drawn = true;
}

void progress_step(Progress *p, int64_t epoch, int64_t step, int64_t images, double loss)
{
    p->steps_done++;
    p->epoch_images += images;
    p->loss = 0.98 * p->loss + 0.02 * loss;
    p->loss_weight = 0.98 * p->loss_weight + 0.02;
    if (!p->terminal)
        return;
    double now = exec_seconds();
    if (now - p->drawn_at < 0.05)
        return;
    p->drawn_at = now;
    draw(p, epoch, step, now);
}

void progress_clear(Progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", p->to);
    p->drawn = false;
}
