/* Makes batches: picks samples, augments, converts and normalises.
 * In: a Dataset and the numbers of samples. Out: float planes and labels.
 * Relies on data_open's checks; only reads, so threads may share a Dataset.
 * Idea: a byte has 256 values, so (v/255 - mean)/std is a table per channel, in the float32 arithmetic of torchvision. */
#include "runtime/augment.h"
#include "runtime/data.h"
#include "runtime/image.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef float Table[256];

static float channel(const float *v, int32_t n, int64_t c) { return v[n == 1 ? 0 : c]; }

/* The table of channel c: bytes to normalised floats. */
static void make_table(const DataNorm *norm, int64_t c, Table t)
{
    for (int v = 0; v < 256; v++) {
        t[v] = (float)v / 255.0f;
        if (norm && norm->n)
            t[v] = (t[v] - channel(norm->mean, norm->n, c)) / channel(norm->std, norm->n, c);
    }
}

typedef struct {
    int64_t c, h, w, out_h, out_w;
    bool whole; /* the output is the sample as it lies */
} Geometry;

static bool geometry(const Dataset *d, const AugmentPlan *augment, Geometry *g, RtError *e)
{
    bool planes = d->rank >= 2;
    *g = (Geometry){.c = d->rank >= 1 ? d->shape[0] : 1, .h = 1, .w = 1, .whole = true};
    g->w = planes ? d->shape[d->rank - 1] : 1;
    for (int i = 1; i < d->rank - 1; i++)
        g->h *= d->shape[i];
    g->out_h = g->h;
    g->out_w = g->w;
    if (d->rank != 3)
        return true;
    if (augment && augment->n) {
        g->whole = false;
        return augment_out_size(augment, g->h, g->w, &g->out_h, &g->out_w, e);
    }
    if (d->crop[0]) {
        g->whole = false;
        g->out_h = d->crop[0];
        g->out_w = d->crop[1];
    }
    return true;
}

static AugmentView view_of(const Geometry *g, const AugmentPlan *augment, int64_t epoch, int64_t row)
{
    if (augment && augment->n)
        return augment_draw(augment, epoch, row, g->h, g->w);
    return (AugmentView){(g->h - g->out_h) / 2, (g->w - g->out_w) / 2, 1, 1};
}

/* One plane through a view; outside is black. Exactly one of u8 and f32 is given. */
static void copy_view(const Geometry *g, AugmentView v, const uint8_t *u8, const float *f32, const float *table, float black,
                      float *x)
{
    for (int64_t y = 0; y < g->out_h; y++) {
        int64_t sy = v.y0 + y * v.dy;
        bool row_inside = sy >= 0 && sy < g->h;
        for (int64_t i = 0; i < g->out_w; i++) {
            int64_t sx = v.x0 + i * v.dx;
            bool inside = row_inside && sx >= 0 && sx < g->w;
            *x++ = !inside ? black : u8 ? table[u8[sy * g->w + sx]] : f32[sy * g->w + sx];
        }
    }
}

static void normalise(const DataNorm *norm, int64_t c, float *x, int64_t n)
{
    if (!norm || !norm->n)
        return;
    float mean = channel(norm->mean, norm->n, c), std = channel(norm->std, norm->n, c);
    for (int64_t i = 0; i < n; i++)
        x[i] = (x[i] - mean) / std;
}

static void fill_sample(const Geometry *g, AugmentView v, const uint8_t *u8, const float *f32, const Table *tables,
                        const DataNorm *norm, float *x)
{
    int64_t plane = g->h * g->w, out_plane = g->out_h * g->out_w;
    for (int64_t c = 0; c < g->c; c++, x += out_plane) {
        const uint8_t *src = u8 ? u8 + c * plane : NULL;
        const float *table = tables ? tables[c] : NULL;
        if (!g->whole) {
            copy_view(g, v, src, f32 ? f32 + c * plane : NULL, table, src ? table[0] : 0, x);
            if (!src)
                normalise(norm, c, x, out_plane);
        } else if (src) {
            for (int64_t i = 0; i < plane; i++)
                x[i] = table[src[i]];
        } else {
            memcpy(x, f32 + c * plane, (size_t)plane * sizeof *x);
            normalise(norm, c, x, plane);
        }
    }
}

/* A picture file as planes of the set's size, into out[sample]. */
static bool decode(const Dataset *d, int64_t row, uint8_t *out, RtError *e)
{
    Image image;
    if (!image_load(d->files[row].path, (int)d->shape[0], d->shape[1], d->shape[2], &image, e))
        return false;
    image_to_planes(&image, out);
    image_free(&image);
    return true;
}

static void fill_labels(const Dataset *d, const int64_t *ids, int64_t n, void *labels)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t row = d->rows ? d->rows[ids[i]] : ids[i];
        if (d->labels)
            ((int32_t *)labels)[i] = d->labels[row];
        else if (d->targets)
            memcpy((float *)labels + i * d->target, d->targets + row * d->target, (size_t)d->target * sizeof(float));
    }
}

bool data_batch(const Dataset *d, const int64_t *ids, int64_t n, const DataNorm *norm, const AugmentPlan *augment, int64_t epoch,
                float *x, void *labels, RtError *e)
{
    Geometry g;
    if (!geometry(d, augment, &g, e))
        return false;
    Table *tables = d->f32 ? NULL : malloc((size_t)g.c * sizeof *tables);
    uint8_t *decoded = d->files ? malloc((size_t)d->sample) : NULL;
    bool ok = (d->f32 || tables) && (!d->files || decoded);
    if (!ok)
        rt_error_memory(e, (size_t)g.c * sizeof *tables + (size_t)d->sample);
    for (int64_t c = 0; ok && tables && c < g.c; c++)
        make_table(norm, c, tables[c]);
    for (int64_t i = 0; ok && i < n; i++) {
        int64_t row = d->rows ? d->rows[ids[i]] : ids[i];
        ok = !d->files || decode(d, row, decoded, e);
        if (ok)
            fill_sample(&g, view_of(&g, augment, epoch, row),
                        d->files ? decoded
                        : d->u8  ? d->u8 + row * d->sample
                                 : NULL,
                        d->f32 ? d->f32 + row * d->sample : NULL, (const Table *)tables, norm, x + i * g.c * g.out_h * g.out_w);
    }
    if (ok && labels)
        fill_labels(d, ids, n, labels);
    free(decoded);
    free(tables);
    return ok;
}

/* ---- in two parts ---- */

bool data_raw_batch(const Dataset *d, const int64_t *ids, int64_t n, const AugmentPlan *augment, int64_t epoch, void *samples,
                    CnncView *views, void *labels, RtError *e)
{
    Geometry g;
    size_t bytes = (size_t)(d->sample * data_value_bytes(d));
    const char *from = d->f32 ? (const char *)d->f32 : (const char *)d->u8;
    if (!geometry(d, augment, &g, e))
        return false;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = d->rows ? d->rows[ids[i]] : ids[i];
        char *to = (char *)samples + (size_t)i * bytes;
        views[i] = view_of(&g, augment, epoch, row);
        if (!d->files)
            memcpy(to, from + (size_t)row * bytes, bytes);
        else if (!decode(d, row, (uint8_t *)to, e))
            return false;
    }
    fill_labels(d, ids, n, labels);
    return true;
}

bool data_feed(const Dataset *d, const DataNorm *norm, const AugmentPlan *augment, DataFeed *out, RtError *e)
{
    Geometry g;
    if (!geometry(d, augment, &g, e))
        return false;
    out->shape = (CnncGpuFeed){.bytes = !d->f32,
                               .channels = (int32_t)g.c,
                               .h = (int32_t)g.h,
                               .w = (int32_t)g.w,
                               .out_h = (int32_t)g.out_h,
                               .out_w = (int32_t)g.out_w};
    out->n_table = g.c * (d->f32 ? 2 : 256);
    out->table = malloc((size_t)out->n_table * sizeof *out->table + 1);
    if (!out->table)
        return rt_error_memory(e, (size_t)out->n_table * sizeof *out->table);
    bool given = norm && norm->n;
    for (int64_t c = 0; c < g.c; c++) {
        if (!d->f32) {
            make_table(norm, c, out->table + 256 * c);
            continue;
        }
        out->table[2 * c] = given ? channel(norm->mean, norm->n, c) : 0;
        out->table[2 * c + 1] = given ? channel(norm->std, norm->n, c) : 1;
    }
    return true;
}

void data_feed_free(DataFeed *f)
{
    free(f->table);
    f->table = NULL;
}

bool data_sample(const Dataset *d, int64_t id, float *x, RtError *e) { return data_batch(d, &id, 1, NULL, NULL, 0, x, NULL, e); }

/* ---- statistics ---- */

static void from_histogram(const int64_t *count, float *mean, float *std)
{
    double n = 0, sum = 0, square = 0;
    for (int v = 0; v < 256; v++) {
        n += (double)count[v];
        sum += (double)count[v] * v;
    }
    double m = sum / n;
    for (int v = 0; v < 256; v++)
        square += (double)count[v] * (v - m) * (v - m);
    *mean = (float)(m / 255);
    *std = square > 0 ? (float)(sqrt(square / n) / 255) : 1;
}

static bool picture_statistics(const Dataset *d, int64_t c, int64_t plane, float *mean, float *std, RtError *e)
{
    int64_t(*count)[256] = calloc((size_t)c, sizeof *count);
    uint8_t *decoded = d->files ? malloc((size_t)d->sample) : NULL;
    bool ok = count && (!d->files || decoded);
    if (!ok)
        rt_error_memory(e, (size_t)c * sizeof *count + (size_t)d->sample);
    for (int64_t i = 0; ok && i < d->n; i++) {
        int64_t row = d->rows ? d->rows[i] : i;
        if (d->files && !(ok = decode(d, row, decoded, e)))
            break;
        const uint8_t *p = d->files ? decoded : d->u8 + row * d->sample;
        for (int64_t k = 0; k < c; k++)
            for (int64_t j = 0; j < plane; j++)
                count[k][*p++]++;
    }
    for (int64_t k = 0; ok && k < c; k++)
        from_histogram(count[k], &mean[k], &std[k]);
    free(decoded);
    free(count);
    return ok;
}

static void float_statistics(const Dataset *d, int64_t c, int64_t plane, float *mean, float *std)
{
    for (int64_t k = 0; k < c; k++) {
        double sum = 0, square = 0, n = (double)d->n * (double)plane;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = 0; i < d->n; i++) {
                const float *p = d->f32 + (d->rows ? d->rows[i] : i) * d->sample + k * plane;
                for (int64_t j = 0; j < plane; j++) {
                    if (pass == 0)
                        sum += (double)p[j];
                    else
                        square += ((double)p[j] - sum / n) * ((double)p[j] - sum / n);
                }
            }
        mean[k] = (float)(sum / n);
        std[k] = square > 0 ? (float)sqrt(square / n) : 1;
    }
}

bool data_statistics(const Dataset *d, float *mean, float *std, RtError *e)
{
    int64_t c = d->rank ? d->shape[0] : 1, plane = d->sample / (c ? c : 1);
    if (d->n == 0 || d->sample == 0)
        return rt_error(e, RT_FILE, "there is no data to compute the normalisation from");
    if (!d->f32)
        return picture_statistics(d, c, plane, mean, std, e);
    float_statistics(d, c, plane, mean, std);
    return true;
}
