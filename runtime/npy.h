/* NumPy .npy arrays. An NpyArray owns its data (npy_free). */
#ifndef CNNC_RUNTIME_NPY_H
#define CNNC_RUNTIME_NPY_H
#include "runtime/error.h"
#include <stddef.h>
#include <stdint.h>

enum { NPY_MAX_RANK = 8 };
typedef enum { NPY_F32, NPY_F64, NPY_U8, NPY_I8, NPY_I16, NPY_I32, NPY_I64, NPY_BOOL } NpyType;
typedef struct {
    NpyType dtype;
    int rank;
    int64_t shape[NPY_MAX_RANK];
    int64_t n;               /* elements */
    void *data;              /* row-major, aligned; fortran_order files are transposed while reading */
} NpyArray;

/* Versions 1 to 3, little-endian; anything else is refused with a sentence. */
bool npy_read(const char *path, NpyArray *out, RtError *e);
bool npy_parse(const uint8_t *bytes, size_t len, const char *name, NpyArray *out, RtError *e);   /* name: for messages */
void npy_free(NpyArray *a);
const char *npy_type_name(NpyType t);                  /* "float32" ... */
/* Elements as float or int64, converted; the caller frees. npy_to_i64 refuses fractions. */
float *npy_to_f32(const NpyArray *a, RtError *e);
int64_t *npy_to_i64(const NpyArray *a, const char *name, RtError *e);

/* Version 1, written atomically. */
bool npy_write(const char *path, NpyType dtype, int rank, const int64_t *shape, const void *data, RtError *e);
bool npy_write_f32(const char *path, int rank, const int64_t *shape, const float *data, RtError *e);
/* The header alone (a multiple of 64 bytes, at most 256), for writers that stream; returns its length. */
size_t npy_header(char out[256], NpyType dtype, int rank, const int64_t *shape);
#endif
