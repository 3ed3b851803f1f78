/* Decodes JPEG pictures with libjpeg.
 * In: a file's bytes. Out: 1 or 3 channels of 8 bits.
 * Relies on libjpeg for the format, with its default (accurate) transform and smooth chroma, as Pillow; files that end early
 * are refused, other damage that libjpeg can live with is not.
 * Idea: CMYK files hold inverted ink, so that colour = 255 - ink in the light that black leaves:
 *     r = k - (255 - c) * k / 255 */
#include <stddef.h>
#include <stdio.h>

#include "runtime/image.h"
#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>

typedef struct {
    struct jpeg_error_mgr base; /* first: libjpeg hands this pointer back */
    jmp_buf escape;
    const char *name;
    RtError *e;
    bool told;
    uint8_t *line; /* one row of CMYK */
} Errors;

static void on_error(j_common_ptr info)
{
    Errors *errors = (Errors *)info->err;
    char text[JMSG_LENGTH_MAX];
    errors->base.format_message(info, text);
    if (!errors->told)
        rt_error(errors->e, RT_FILE, "'%s' is not a JPEG picture that can be read: %s", errors->name, text);
    longjmp(errors->escape, 1);
}

static void on_message(j_common_ptr info, int level)
{
    Errors *errors = (Errors *)info->err;
    if (level < 0 && errors->base.msg_code == JWRN_JPEG_EOF) {
        rt_error(errors->e, RT_FILE, "'%s' is not a JPEG picture that can be read: it is cut short", errors->name);
        errors->told = true;
        longjmp(errors->escape, 1);
    }
}

static uint8_t scaled(unsigned a, unsigned b) /* a * b / 255, rounded */
{
    unsigned t = a * b + 128;
    return (uint8_t)(((t >> 8) + t) >> 8);
}

static void cmyk_to_rgb(const uint8_t *in, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, in += 4, out += 3)
        for (int c = 0; c < 3; c++)
            out[c] = (uint8_t)(in[3] - scaled(255u - in[c], in[3]));
}

static void decode(struct jpeg_decompress_struct *j, Errors *errors, const uint8_t *bytes, size_t len, Image *out)
{
    jpeg_create_decompress(j);
    jpeg_mem_src(j, bytes, (unsigned long)len);
    jpeg_read_header(j, TRUE);
    bool grey = j->jpeg_color_space == JCS_GRAYSCALE, four = j->num_components == 4;
    j->out_color_space = grey ? JCS_GRAYSCALE : four ? JCS_CMYK : JCS_RGB;
    errors->told = true;
    if (!image_alloc(out, j->image_height, j->image_width, grey ? 1 : 3, errors->name, errors->e))
        longjmp(errors->escape, 1);
    errors->line = four ? malloc((size_t)out->w * 4) : NULL;
    if (four && !errors->line) {
        rt_error_memory(errors->e, (unsigned long long)out->w * 4);
        longjmp(errors->escape, 1);
    }
    errors->told = false;
    jpeg_start_decompress(j);
    while (j->output_scanline < j->output_height) {
        uint8_t *to = out->at + (int64_t)j->output_scanline * out->w * out->c;
        JSAMPROW row = four ? errors->line : to;
        jpeg_read_scanlines(j, &row, 1);
        if (four)
            cmyk_to_rgb(errors->line, out->w, to);
    }
    jpeg_finish_decompress(j);
}

bool image_decode_jpeg(const uint8_t *bytes, size_t len, const char *name, Image *out, RtError *e)
{
    struct jpeg_decompress_struct j = {0};
    Errors errors = {.name = name, .e = e};
    *out = (Image){0};
    j.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = on_error;
    errors.base.emit_message = on_message;
    volatile bool ok = false;
    if (!setjmp(errors.escape)) {
        decode(&j, &errors, bytes, len, out);
        ok = true;
    }
    jpeg_destroy_decompress(&j);
    free(errors.line);
    if (!ok)
        image_free(out);
    return ok;
}
