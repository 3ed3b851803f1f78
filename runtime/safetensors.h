/* The safetensors format: u64 header length, JSON header, data. */
#ifndef CNNC_RUNTIME_SAFETENSORS_H
#define CNNC_RUNTIME_SAFETENSORS_H
#include "runtime/weights.h"

/* lend: float32 values stay where they are, in bytes that outlive the tensors. */
bool safetensors_parse(const uint8_t *bytes, size_t len, const char *name, bool lend, WeightsFile *out, RtError *e);
/* A tensor to be written; dtype CNNC_F32, CNNC_I32, CNNC_U8 or CNNC_I64. */
typedef struct { const char *name; int32_t dtype; int rank; const int64_t *shape; const void *data; } SafetensorsItem;
bool safetensors_write(const char *path, const SafetensorsItem *items, int n, const WeightsMeta *meta, int n_meta, RtError *e);
#endif
