/* Decodes PNG pictures with libpng.
 * In: a file's bytes. Out: 1 or 3 channels of 8 bits: palettes become colours, alpha is dropped, 16 bits keep their high byte.
 * Relies on libpng for the format; leaves no memory behind when libpng jumps out.
 * Idea: this is what Pillow's convert("L") and convert("RGB") start from; no gamma, no background. One difference is meant:
 * Pillow clips 16-bit grey at 255, which makes such pictures white. */
#include "runtime/image.h"
#include <png.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const uint8_t *p, *end;
    const char *name;
    RtError *e;
    Image *out;
    png_bytep *rows;
    bool told; /* an error was already put into e */
} Decoder;

static void on_read(png_structp png, png_bytep to, size_t n)
{
    Decoder *d = png_get_io_ptr(png);
    if (n > (size_t)(d->end - d->p))
        png_error(png, "it is cut short");
    memcpy(to, d->p, n);
    d->p += n;
}

static void on_error(png_structp png, png_const_charp text)
{
    Decoder *d = png_get_error_ptr(png);
    if (!d->told)
        rt_error(d->e, RT_FILE, "'%s' is not a PNG picture that can be read: %s", d->name, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void decode(png_structp png, png_infop info, Decoder *d)
{
    png_set_read_fn(png, d, on_read);
    png_set_user_limits(png, 1 << 20, 1 << 20);
    png_read_info(png, info);
    int colour = png_get_color_type(png, info);
    png_set_strip_16(png);
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    else if (!(colour & PNG_COLOR_MASK_COLOR))
        png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    int64_t h = png_get_image_height(png, info), w = png_get_image_width(png, info);
    int c = colour & PNG_COLOR_MASK_COLOR ? 3 : 1;
    if (png_get_rowbytes(png, info) != (size_t)w * (size_t)c)
        png_error(png, "its rows have an unexpected length");
    d->told = true;
    if (!image_alloc(d->out, h, w, c, d->name, d->e))
        png_error(png, "");
    d->rows = malloc((size_t)h * sizeof *d->rows);
    if (!d->rows) {
        rt_error_memory(d->e, (unsigned long long)h * sizeof *d->rows);
        png_error(png, "");
    }
    d->told = false;
    for (int64_t y = 0; y < h; y++)
        d->rows[y] = d->out->at + y * w * c;
    png_read_image(png, d->rows);
    png_read_end(png, NULL);
}

bool image_decode_png(const uint8_t *bytes, size_t len, const char *name, Image *out, RtError *e)
{
    Decoder d = {.p = bytes, .end = bytes + len, .name = name, .e = e, .out = out};
    *out = (Image){0};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &d, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return rt_error_memory(e, 1 << 16);
    }
    volatile bool ok = false; /* set between setjmp and longjmp */
    if (!setjmp(png_jmpbuf(png))) {
        decode(png, info, &d);
        ok = true;
    }
    png_destroy_read_struct(&png, &info, NULL);
    free(d.rows);
    if (!ok)
        image_free(out);
    return ok;
}
