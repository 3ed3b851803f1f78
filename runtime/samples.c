/* Samples in files.
 * In: a path, the shape the model takes. Out: samples of that shape.
 * Invariant: nothing is guessed: an array fits exactly, or is refused with both shapes.
 * Idea: the first bytes say what a file is; a picture is resized, an array never. */
#include "runtime/samples.h"
#include "runtime/abi.h"
#include "runtime/data.h"
#include "runtime/file.h"
#include "runtime/image.h"
#include "runtime/session.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* How many samples an array of this shape holds; -1: it does not fit. */
static int64_t count_samples(int rank, const int64_t *shape, int32_t in_rank, const int64_t *in_shape)
{
    int skip = in_rank > 1 && in_shape[0] == 1; /* a single channel may be left out */
    for (int drop = 0; drop <= skip; drop++) {
        int need = in_rank - drop, extra = rank - need;
        if ((extra == 0 || extra == 1) && memcmp(shape + extra, in_shape + drop, (size_t)need * sizeof *shape) == 0)
            return extra ? shape[0] : 1;
    }
    return -1;
}

static bool misfit(const char *path, int rank, const int64_t *shape, int32_t in_rank, const int64_t *in_shape, RtError *e)
{
    char has[128], takes[128];
    return rt_error(e, RT_FILE, "%s has shape %s, but the model takes samples of %s, one or many", path,
                    rt_shape_text(rank, shape, has, sizeof has), rt_shape_text(in_rank, in_shape, takes, sizeof takes));
}

static bool read_npy(const char *path, const FileBytes *f, int32_t in_rank, const int64_t *in_shape, Samples *out, RtError *e)
{
    NpyArray a = {0};
    if (!npy_parse(f->at, f->len, path, &a, e))
        return false;
    out->n = count_samples(a.rank, a.shape, in_rank, in_shape);
    bool fine = out->n >= 0 || misfit(path, a.rank, a.shape, in_rank, in_shape, e);
    if (fine && a.dtype == NPY_U8) {
        out->u8 = a.data;
        a.data = NULL;
    } else if (fine) {
        fine = (out->f32 = npy_to_f32(&a, e)) != NULL;
    }
    npy_free(&a);
    return fine;
}

static bool read_idx(const char *path, int32_t in_rank, const int64_t *in_shape, Samples *out, RtError *e)
{
    IdxArray a = {0};
    if (!idx_read(path, &a, e))
        return false;
    out->n = count_samples(a.rank, a.shape, in_rank, in_shape);
    if (out->n < 0) {
        idx_free(&a);
        return misfit(path, a.rank, a.shape, in_rank, in_shape, e);
    }
    out->u8 = a.u8;
    out->f32 = a.f32;
    a.u8 = NULL;
    a.f32 = NULL;
    idx_free(&a);
    return true;
}

static bool read_picture(const char *path, const FileBytes *f, int32_t in_rank, const int64_t *in_shape, Samples *out, RtError *e)
{
    Image decoded = {0}, fitted = {0};
    char takes[128];
    if (in_rank != 3 || (in_shape[0] != 1 && in_shape[0] != 3))
        return rt_error(e, RT_FILE, "%s is no .npy or IDX array, and the model takes %s, which is no picture", path,
                        rt_shape_text(in_rank, in_shape, takes, sizeof takes));
    if (!image_decode(f->at, f->len, path, (int)in_shape[0], &decoded, e))
        return false;
    bool fine = image_resize(&decoded, in_shape[1], in_shape[2], &fitted, e);
    size_t size = (size_t)(in_shape[0] * in_shape[1] * in_shape[2]);
    if (fine && !(out->u8 = malloc(size)))
        fine = rt_error_memory(e, size);
    if (fine)
        image_to_planes(&fitted, out->u8);
    out->n = 1;
    out->picture = true;
    image_free(&decoded);
    image_free(&fitted);
    return fine;
}

static bool read_kind(const char *path, int32_t in_rank, const int64_t *in_shape, bool pictures, Samples *out, RtError *e)
{
    FileBytes f = {0};
    *out = (Samples){0};
    if (!file_read_gz(path, &f, e))
        return false;
    bool fine;
    if (f.len >= 6 && memcmp(f.at, "\x93NUMPY", 6) == 0)
        fine = read_npy(path, &f, in_rank, in_shape, out, e);
    else if (idx_looks_like(f.at, f.len))
        fine = read_idx(path, in_rank, in_shape, out, e);
    else if (pictures)
        fine = read_picture(path, &f, in_rank, in_shape, out, e);
    else
        fine = rt_error(e, RT_FILE, "%s is neither a .npy nor an IDX file", path);
    file_free(&f);
    if (!fine)
        samples_free(out);
    return fine;
}

bool samples_read(const char *path, int32_t in_rank, const int64_t *in_shape, Samples *out, RtError *e)
{
    return read_kind(path, in_rank, in_shape, false, out, e);
}

bool samples_read_any(const char *path, int32_t in_rank, const int64_t *in_shape, Samples *out, RtError *e)
{
    return read_kind(path, in_rank, in_shape, true, out, e);
}

void samples_free(Samples *s)
{
    free(s->u8);
    free(s->f32);
    *s = (Samples){0};
}

bool samples_name_fits(const char *path)
{
    static const char *const ends[] = {".npy", "-ubyte", "-ubyte.gz", ".idx"};
    size_t n = strlen(path);
    if (strstr(path, "idx1-ubyte")) /* MNIST's labels lie beside its pictures */
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && strcasecmp(path + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return image_name_fits(path);
}
