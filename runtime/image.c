/* Recognises pictures, converts them to grey or colour, reads PGM and PPM.
 * In: bytes that anybody may have written. Out: 8-bit pixels.
 * Relies on the decoders for pixels in bounds; refuses pictures of more than 2^27 pixels before asking for memory.
 * Idea: every decoder gives 1 or 3 channels; the conversions are Pillow's, so that nets see what PyTorch showed them:
 *     L = (19595 R + 38470 G + 7471 B + 32768) >> 16 */
#include "runtime/image.h"
#include "runtime/file.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const int64_t max_pixels = (int64_t)1 << 27;

/* Null when the program was linked without them. */
#pragma weak image_decode_png
#pragma weak image_decode_jpeg

bool image_alloc(Image *i, int64_t h, int64_t w, int c, const char *name, RtError *e)
{
    *i = (Image){h, w, c, NULL};
    if (h < 1 || w < 1)
        return rt_error(e, RT_FILE, "'%s' is a picture without pixels (%" PRId64 "x%" PRId64 ")", name, w, h);
    if (h > max_pixels || w > max_pixels || h * w > max_pixels)
        return rt_error(e, RT_FILE, "'%s' is too large: %" PRId64 "x%" PRId64 " pixels", name, w, h);
    i->at = malloc((size_t)h * (size_t)w * (size_t)c);
    return i->at || rt_error_memory(e, (unsigned long long)h * (unsigned long long)w * (unsigned)c);
}

void image_free(Image *i)
{
    free(i->at);
    *i = (Image){0};
}

bool image_name_fits(const char *path)
{
    static const char *const ends[] = {".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".pnm"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++)
        if (strcasecmp(dot, ends[i]) == 0)
            return true;
    return false;
}

/* ---- PGM and PPM ---- */

typedef struct {
    const uint8_t *p, *end;
} Text;

/* The next number of a header or of a plain picture; comments run from # to the end of the line. */
static bool next_number(Text *t, int64_t *out)
{
    for (; t->p < t->end; t->p++) {
        if (*t->p == '#')
            while (t->p < t->end && *t->p != '\n')
                t->p++;
        else if (!strchr(" \t\r\n\v\f", *t->p) || !*t->p)
            break;
        if (t->p == t->end)
            break;
    }
    int64_t v = 0;
    const uint8_t *start = t->p;
    while (t->p < t->end && *t->p >= '0' && *t->p <= '9' && v < 1000000000)
        v = v * 10 + (*t->p++ - '0');
    *out = v;
    return t->p > start;
}

/* v of 0..max to 0..255, rounded as Pillow does */
static uint8_t scale(int64_t v, int64_t max) { return v >= max ? 255 : (uint8_t)((v * 510 + max) / (2 * max)); }

static bool plain_pixels(Text t, int64_t n, int64_t max, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t v;
        if (!next_number(&t, &v))
            return false;
        out[i] = scale(v, max);
    }
    return true;
}

static bool raw_pixels(Text t, int64_t n, int64_t max, uint8_t *out)
{
    int bytes = max > 255 ? 2 : 1;
    if (t.p == t.end || (t.end - t.p - 1) / bytes < n)
        return false;
    const uint8_t *p = t.p + 1; /* one space after the header */
    for (int64_t i = 0; i < n; i++, p += bytes)
        out[i] = max == 255 ? p[0] : scale(bytes == 1 ? p[0] : p[0] << 8 | p[1], max);
    return true;
}

bool image_decode_pnm(const uint8_t *bytes, size_t len, const char *name, Image *out, RtError *e)
{
    Text t = {bytes + 2, bytes + len};
    int64_t w, h, max;
    bool plain = bytes[1] <= '3';
    if (!next_number(&t, &w) || !next_number(&t, &h) || !next_number(&t, &max) || max < 1 || max > 65535)
        return rt_error(e, RT_FILE, "'%s' is not a PGM or PPM picture that can be read: its header is damaged", name);
    int c = bytes[1] == '2' || bytes[1] == '5' ? 1 : 3;
    /* every pixel takes at least one byte, so a short file cannot ask for much memory */
    if (w > 0 && h > 0 && (h > max_pixels || w > max_pixels || (uint64_t)(w * h) > len))
        return rt_error(e, RT_FILE, "'%s' is cut short: %" PRId64 "x%" PRId64 " pixels do not fit in %zu bytes", name, w, h, len);
    if (!image_alloc(out, h, w, c, name, e))
        return false;
    if (plain ? plain_pixels(t, w * h * c, max, out->at) : raw_pixels(t, w * h * c, max, out->at))
        return true;
    image_free(out);
    return rt_error(e, RT_FILE, "'%s' is cut short: pixels are missing", name);
}

/* ---- any picture ---- */

static bool decode_any(const uint8_t *b, size_t len, const char *name, Image *out, RtError *e)
{
    if (len >= 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0)
        return image_decode_png
                   ? image_decode_png(b, len, name, out, e)
                   : rt_error(e, RT_FILE, "'%s' is a PNG picture, and this program was built without a PNG reader", name);
    if (len >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff)
        return image_decode_jpeg
                   ? image_decode_jpeg(b, len, name, out, e)
                   : rt_error(e, RT_FILE, "'%s' is a JPEG picture, and this program was built without a JPEG reader", name);
    if (len >= 3 && b[0] == 'P' && (b[1] == '2' || b[1] == '3' || b[1] == '5' || b[1] == '6'))
        return image_decode_pnm(b, len, name, out, e);
    return rt_error(e, RT_FILE, len ? "'%s' is not a picture that can be read (PNG, JPEG, PGM or PPM)" : "'%s' is empty", name);
}

static bool convert(Image *i, int channels, const char *name, RtError *e)
{
    if (i->c == channels)
        return true;
    Image to;
    bool ok = image_alloc(&to, i->h, i->w, channels, name, e);
    int64_t n = i->h * i->w;
    const uint8_t *p = i->at;
    for (int64_t k = 0; ok && channels == 3 && k < n; k++)
        to.at[3 * k] = to.at[3 * k + 1] = to.at[3 * k + 2] = p[k];
    for (int64_t k = 0; ok && channels == 1 && k < n; k++, p += 3)
        to.at[k] = (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 0x8000u) >> 16);
    image_free(i);
    if (ok)
        *i = to;
    return ok;
}

bool image_decode(const uint8_t *bytes, size_t len, const char *name, int channels, Image *out, RtError *e)
{
    *out = (Image){0};
    if (channels != 1 && channels != 3)
        return rt_error(e, RT_FILE, "pictures have 1 or 3 channels, the model takes %d", channels);
    return decode_any(bytes, len, name, out, e) && convert(out, channels, name, e);
}

bool image_read(const char *path, int channels, Image *out, RtError *e)
{
    FileBytes f;
    *out = (Image){0};
    if (!file_read(path, &f, e))
        return false;
    bool ok = image_decode(f.at, f.len, path, channels, out, e);
    file_free(&f);
    return ok;
}

bool image_load(const char *path, int channels, int64_t h, int64_t w, Image *out, RtError *e)
{
    Image whole;
    if (!image_read(path, channels, &whole, e))
        return false;
    if (!h || !w || (whole.h == h && whole.w == w)) {
        *out = whole;
        return true;
    }
    bool ok = image_resize(&whole, h, w, out, e);
    image_free(&whole);
    return ok;
}

void image_to_planes(const Image *in, uint8_t *out)
{
    int64_t n = in->h * in->w;
    for (int c = 0; c < in->c; c++)
        for (int64_t i = 0; i < n; i++)
            *out++ = in->at[i * in->c + c];
}
