/* Samples in files that a user names: arrays (.npy, IDX) of any number of samples, or one picture.
 * A Samples owns its data (samples_free). */
#ifndef CNNC_RUNTIME_SAMPLES_H
#define CNNC_RUNTIME_SAMPLES_H
#include "runtime/error.h"
#include "runtime/npy.h"
#include <stdint.h>

/* Exactly one of u8 (pixels 0..255, not yet divided) and f32 is set: [n][sample]. */
typedef struct { int64_t n; uint8_t *u8; float *f32; bool picture; } Samples;

/* An array of samples of in_shape: [n, in_shape...], one sample without the n, or without a channel axis of size 1.
 * 8-bit arrays are pixels; other numbers become float32. */
bool samples_read(const char *path, int32_t in_rank, const int64_t *in_shape, Samples *out, RtError *e);
/* As samples_read, and pictures too, resized and in grey or colour as in_shape asks. The bytes decide. */
bool samples_read_any(const char *path, int32_t in_rank, const int64_t *in_shape, Samples *out, RtError *e);
void samples_free(Samples *s);
bool samples_name_fits(const char *path);   /* a name that samples_read_any may take, for files found in folders */
#endif
