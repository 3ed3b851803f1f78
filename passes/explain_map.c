/* Feature maps as pictures of characters.
 * In: one sample's values [C, H, W], [C, L] or [H, W]. Out: each channel's least, largest and mean, and its picture.
 * Invariant: at most WIDEST columns; larger maps are averaged down.
 * Idea: a cell of text is about twice as high as wide, so two rows share a line. */
#include "passes/explain.h"

#include <inttypes.h>
#include <math.h>

enum { WIDEST = 76 };
static const char SHADES[] = " .:-=+*#%@";

typedef struct {
    double least, most, mean;
} Range;

static Range range_of(const double *v, int64_t n)
{
    Range r = {INFINITY, -INFINITY, 0};
    for (int64_t i = 0; i < n; i++) {
        r.least = v[i] < r.least ? v[i] : r.least;
        r.most = v[i] > r.most ? v[i] : r.most;
        r.mean += v[i] / (double)n;
    }
    return r;
}

/* The mean over rows y0..y1-1 and columns x0..x1-1. */
static double block_mean(const double *v, int64_t w, int64_t y0, int64_t y1, int64_t x0, int64_t x1)
{
    double sum = 0;
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = x0; x < x1; x++)
            sum += v[y * w + x];
    return sum / (double)((y1 - y0) * (x1 - x0));
}

static void print_map(FILE *to, const double *v, int64_t h, int64_t w, Range r)
{
    int64_t columns = w < WIDEST ? w : WIDEST, lines = (h * columns + 2 * w - 1) / (2 * w);
    lines = h == 1 || lines < 1 ? 1 : lines;
    for (int64_t i = 0; i < lines; i++) {
        fputs("  |", to);
        for (int64_t k = 0; k < columns; k++) {
            int64_t y0 = i * h / lines, y1 = (i + 1) * h / lines, x0 = k * w / columns, x1 = (k + 1) * w / columns;
            double m = block_mean(v, w, y0, y1 > y0 ? y1 : y0 + 1, x0, x1 > x0 ? x1 : x0 + 1),
                   share = r.most > r.least ? (m - r.least) / (r.most - r.least) : 0;
            fputc(isfinite(share) ? SHADES[(int)(share * 9.0 + 0.5)] : '?', to);
        }
        fputs("|\n", to);
    }
}

void explain_print_maps(FILE *to, const Shape *s, const double *values, int64_t most)
{
    int64_t channels = s->rank == 2   ? 1
                       : s->rank == 3 ? s->dim[0]
                                      : 0,
            h = s->rank == 3   ? s->dim[1]
                : s->rank == 2 ? s->dim[0]
                               : 0,
            w = s->rank >= 2 ? s->dim[s->rank - 1] : 0;
    if (!channels || !h || !w) {
        fputs("only feature maps (rows and columns) can be shown as pictures\n", to);
        return;
    }
    for (int64_t c = 0; c < channels && c < most; c++) {
        Range r = range_of(values + c * h * w, h * w);
        fprintf(to, "channel %" PRId64 ": %.4f to %.4f, mean %.4f\n", c, r.least, r.most, r.mean);
        print_map(to, values + c * h * w, h, w, r);
    }
    if (channels > most)
        fprintf(to, "and %" PRId64 " more channels\n", channels - most);
}
