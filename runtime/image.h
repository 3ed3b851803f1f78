/* Pictures: decoding, grey and colour, resizing, as Pillow does them. An Image owns its pixels (image_free).
 * image.c refers to the PNG and JPEG decoders weakly: a program that is to read them is linked with `-u image_decode_png`,
 * `-u image_decode_jpeg` (and their libraries); without, such files get a sentence. PGM and PPM are always read. */
#ifndef CNNC_RUNTIME_IMAGE_H
#define CNNC_RUNTIME_IMAGE_H
#include "runtime/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct { int64_t h, w; int c; uint8_t *at; } Image;   /* at[h][w][c], c = 1 or 3 */

/* channels: 1 as Image.convert("L"), 3 as convert("RGB"). name: for messages. */
bool image_decode(const uint8_t *bytes, size_t len, const char *name, int channels, Image *out, RtError *e);
bool image_read(const char *path, int channels, Image *out, RtError *e);
/* image_read and image_resize in one; h and w 0: as it is. */
bool image_load(const char *path, int channels, int64_t h, int64_t w, Image *out, RtError *e);
/* Pillow's resize(BILINEAR), which torchvision's Resize uses: a triangle filter, wider when shrinking, in 8-bit fixed point. */
bool image_resize(const Image *in, int64_t h, int64_t w, Image *out, RtError *e);
void image_to_planes(const Image *in, uint8_t *out);           /* [h][w][c] to [c][h][w] */
void image_free(Image *i);
bool image_name_fits(const char *path);                        /* .png .jpg .jpeg .pgm .ppm .pnm, any case */

/* The decoders: natural channel count (1 or 3), alpha dropped. */
bool image_alloc(Image *i, int64_t h, int64_t w, int c, const char *name, RtError *e);
bool image_decode_png(const uint8_t *bytes, size_t len, const char *name, Image *out, RtError *e);
bool image_decode_jpeg(const uint8_t *bytes, size_t len, const char *name, Image *out, RtError *e);
bool image_decode_pnm(const uint8_t *bytes, size_t len, const char *name, Image *out, RtError *e);
#endif
