/* Weights files: named tensors and string metadata, whatever the format on disk; and how they meet a model's tensor table.
 * A WeightsFile owns its names and values (weights_free). */
#ifndef CNNC_RUNTIME_WEIGHTS_H
#define CNNC_RUNTIME_WEIGHTS_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include <stddef.h>

enum { WEIGHTS_MAX_RANK = 8 };
typedef struct {
    char *name;                          /* state_dict key */
    const char *stored;                  /* element type in the file, as the format spells it: "F32", "BF16", "I64" */
    int rank; int64_t shape[WEIGHTS_MAX_RANK];
    int64_t n;                           /* elements */
    int32_t dtype;                       /* CNNC_F32; CNNC_I64 for whole numbers of any width */
    union { float *f32; int64_t *i64; void *data; };
    bool lent;                           /* the values lie in the file's bytes: read only */
} WeightsTensor;
typedef struct { char *key, *value; } WeightsMeta;
typedef struct {
    WeightsTensor *at; int n, cap;
    WeightsMeta *meta; int n_meta, cap_meta;
    const char *format;                  /* "safetensors", "PyTorch" */
    FileBytes bytes;                     /* of the file, where tensors lie in them */
    uint64_t checksum;                   /* of names, shapes and values, whatever the format: CnncModel.weights_checksum */
} WeightsFile;

/* Reads .safetensors or a PyTorch .pt/.pth state_dict; the bytes decide, not the name. */
bool weights_read(const char *path, WeightsFile *out, RtError *e);
void weights_free(WeightsFile *w);
const WeightsTensor *weights_find(const WeightsFile *w, const char *name);   /* or NULL */
const char *weights_meta(const WeightsFile *w, const char *key);             /* or NULL */

/* Which tensors of the file a model takes. partial: missing, extra and misshapen tensors are counted and left alone;
 * otherwise all of them are named in one error (RT_FILE). Optimizer state is never asked for and never called extra. */
typedef struct { int loaded, missing, extra, misshapen; } WeightsMatch;
bool weights_match(const WeightsFile *w, const char *path, const CnncTensor *tensors, int n, bool partial, WeightsMatch *m, RtError *e);
/* Whether a tensor of the file has the shape that the model's tensor of that name has. */
bool weights_fit(const WeightsTensor *f, const CnncTensor *t);
/* weights_match, then copies the values into the state block. With `optimizer`, tensors of CNNC_ROLE_OPTIMIZER are wanted as well. */
bool weights_load(const WeightsFile *w, const char *path, const CnncTensor *tensors, int n, bool partial, bool optimizer, char *state,
                  WeightsMatch *m, RtError *e);

/* for the format readers */
WeightsTensor *weights_add(WeightsFile *w, const char *name, int rank, const int64_t *shape, int32_t dtype, RtError *e);   /* data allocated */
WeightsTensor *weights_lend(WeightsFile *w, const char *name, int rank, const int64_t *shape, const float *values, RtError *e); /* values stay */
bool weights_add_meta(WeightsFile *w, const char *key, const char *value, RtError *e);
float half_to_float(uint16_t h);
float bfloat_to_float(uint16_t b);

/* Writes the tensors of a table (roles in the bit set `roles`, 1 << CnncRole) as safetensors, atomically. */
bool weights_write(const char *path, const CnncTensor *tensors, int n, unsigned roles, const char *state, const WeightsMeta *meta, int n_meta,
                   RtError *e);
/* An array of strings in one metadata value ("classes"): JSON text. Both results are malloc'd; weights_list gives NULL when the text is not such a list. */
char *weights_join(const char *const *items, int n);
char **weights_list(const char *text, int *n);                               /* free with weights_list_free */
void weights_list_free(char **list, int n);
#endif
