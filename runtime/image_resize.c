/* Resizes pictures exactly as Pillow's BILINEAR filter does.
 * In: 8-bit pixels. Out: 8-bit pixels of the wanted size.
 * Relies on image_alloc's bounds; leaves the input alone.
 * Idea: a triangle of half-width max(scale, 1) around each output pixel's centre, weights normalised in double, then rounded
 * to 22-bit fixed point; first along rows, then along columns, each pass rounded to 8 bits:
 *     out[i] = clip8((2^21 + sum in[lo + j] * k[j]) >> 22) */
#include "runtime/image.h"
#include <math.h>
#include <stdlib.h>

enum { PRECISION = 32 - 8 - 2 };

typedef struct {
    int64_t taps;
    int64_t *lo, *count;
    int32_t *k;
} Filter; /* k[out][taps] */

static void filter_free(Filter *f)
{
    free(f->lo);
    free(f->count);
    free(f->k);
}

static bool filter_make(int64_t in, int64_t out, Filter *f, RtError *e)
{
    double scale = (double)in / (double)out, width = scale < 1 ? 1 : scale;
    f->taps = (int64_t)ceil(width) * 2 + 1;
    size_t bytes = (size_t)out * (size_t)f->taps * sizeof *f->k;
    f->lo = malloc((size_t)out * sizeof *f->lo);
    f->count = malloc((size_t)out * sizeof *f->count);
    f->k = calloc((size_t)out * (size_t)f->taps, sizeof *f->k);
    double *w = malloc((size_t)f->taps * sizeof *w);
    if (!f->lo || !f->count || !f->k || !w) {
        free(w);
        return rt_error_memory(e, bytes);
    }
    for (int64_t i = 0; i < out; i++) {
        double centre = ((double)i + 0.5) * scale, sum = 0, inverse = 1.0 / width;
        int64_t lo = (int64_t)(centre - width + 0.5), hi = (int64_t)(centre + width + 0.5);
        lo = lo < 0 ? 0 : lo;
        hi = hi > in ? in : hi;
        for (int64_t j = 0; j < hi - lo; j++) {
            double x = fabs(((double)(j + lo) - centre + 0.5) * inverse);
            w[j] = x < 1.0 ? 1.0 - x : 0.0;
            sum += w[j];
        }
        f->lo[i] = lo;
        f->count[i] = hi - lo;
        for (int64_t j = 0; j < hi - lo; j++) {
            double v = sum != 0 ? w[j] / sum : w[j];
            f->k[i * f->taps + j] = (int32_t)((v < 0 ? -0.5 : 0.5) + v * (1 << PRECISION));
        }
    }
    free(w);
    return true;
}

static uint8_t clip(int64_t v)
{
    v >>= PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* Along one axis: `lines` lines of in pixels; pixel p of line l at l * line_step + p * step, channels beside each other. */
static void pass(const Filter *f, const uint8_t *in, uint8_t *out, int64_t n_out, int64_t lines, int64_t in_line,
                 int64_t out_line, int64_t step, int c)
{
    for (int64_t l = 0; l < lines; l++)
        for (int64_t i = 0; i < n_out; i++) {
            const int32_t *k = f->k + i * f->taps;
            const uint8_t *from = in + l * in_line + f->lo[i] * step;
            for (int ch = 0; ch < c; ch++) {
                int64_t sum = 1 << (PRECISION - 1);
                for (int64_t j = 0; j < f->count[i]; j++)
                    sum += (int64_t)from[j * step + ch] * k[j];
                out[l * out_line + i * step + ch] = clip(sum);
            }
        }
}

bool image_resize(const Image *in, int64_t h, int64_t w, Image *out, RtError *e)
{
    Image wide = {0};
    Filter fx = {0}, fy = {0};
    *out = (Image){0};
    bool ok = filter_make(in->w, w, &fx, e) && filter_make(in->h, h, &fy, e) &&
              image_alloc(&wide, in->h, w, in->c, "resized", e) && image_alloc(out, h, w, in->c, "resized", e);
    if (ok) {
        int c = in->c;
        pass(&fx, in->at, wide.at, w, in->h, in->w * c, w * c, c, c);
        /* columns: a line is one column, whose pixels lie w * c apart */
        for (int64_t x = 0; x < w; x++)
            pass(&fy, wide.at + x * c, out->at + x * c, h, 1, 0, 0, w * c, c);
    } else {
        image_free(out);
    }
    image_free(&wide);
    filter_free(&fx);
    filter_free(&fy);
    return ok;
}
