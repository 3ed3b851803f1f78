/* Data sets: samples and targets in memory (or, for large picture folders, decoded on demand), and batches made from them.
 * A Dataset owns its storage unless it is a view made by data_split; DataPair owns both of its parts (data_pair_free). */
#ifndef CNNC_RUNTIME_DATA_H
#define CNNC_RUNTIME_DATA_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include "runtime/rng.h"
#include <stddef.h>

typedef struct DataFile { char *path; int32_t label; } DataFile;
typedef struct Dataset {
    int64_t n;                      /* samples */
    int32_t rank; int64_t shape[CNNC_MAX_RANK];   /* of one sample, without the batch: C, H, W */
    int64_t sample;                 /* elements of one sample */
    /* Exactly one of these three holds the samples. */
    uint8_t *u8;                    /* [rows][sample]: pixels 0..255, planes */
    float *f32;                     /* [rows][sample]: already divided by 255 or never pictures */
    DataFile *files; int64_t n_files;   /* decoded for every batch */
    int32_t *labels;                /* [rows] class ids, or NULL */
    float *targets; int64_t target;     /* [rows][target] for regression, or NULL */
    int32_t n_classes;              /* 0 with targets */
    char **class_names;             /* [n_classes], or NULL */
    int64_t *rows;                  /* sample i lies in row rows[i]; NULL: row i */
    bool view;                      /* storage belongs to another Dataset */
    int64_t crop[2];                /* height, width of the middle part that is used when nothing crops at random; 0: all */
} Dataset;

typedef struct { Dataset train, valid; bool has_valid; } DataPair;

typedef struct DataRequest {
    CnncData kind;
    const char *path, *path2;               /* Npy: x and y; otherwise the folder. Digits: the folder of the bundled files */
    const char *valid_path, *valid_path2;   /* Npy: the second pair, or NULL */
    int64_t size[2];                        /* ImageFolder: height and width, or 0 for the model's */
    int32_t in_rank; const int64_t *in_shape;   /* what the model takes; channels decide grey or colour */
    bool regression;                        /* targets are floats (MSELoss) */
    int64_t n_outputs;                      /* classes, or target values per sample; 0: not checked */
    const char *const *class_names; int32_t n_class_names;   /* given by the model (ImageFolder: must then agree), or NULL */
    bool may_crop;                          /* samples may be larger than the model takes: a random crop cuts them, the middle is used for tests */
    bool want_train, want_valid;            /* what is needed: `eval` wants the test part only */
    int64_t memory;                         /* ImageFolder: decode once when it fits these bytes; 0: 2 GiB */
} DataRequest;
DataRequest data_request(const CnncModel *m);           /* from the train block; NULL train gives CNNC_DATA_NONE. Replace what options override */

bool data_open(const DataRequest *r, DataPair *out, RtError *e);
void data_pair_free(DataPair *p);
void data_free(Dataset *d);
/* Splits pair->train as torch's random_split([1 - fraction, fraction]) does, drawing one permutation from g. fraction 0: nothing. */
bool data_split(DataPair *pair, double fraction, Rng *g, RtError *e);
/* n must not exceed d->n: shortens a set to its first n samples (quick tests). */
void data_truncate(Dataset *d, int64_t n);

/* ---- normalisation ---- */
enum { DATA_MAX_CHANNELS = 4096 };
typedef struct { int32_t n; const float *mean, *std; } DataNorm;   /* n: 0 none, 1 for all channels, or one per channel */
/* Mean and standard deviation per channel of the training pixels / 255 (or of float values as they are): normalize("auto").
 * mean and std have room for d->shape[0] values. */
bool data_statistics(const Dataset *d, float *mean, float *std, RtError *e);

/* ---- batches ---- */
struct AugmentPlan;
/* x[n][shape] float: (v/255 - mean)/std, as torchvision's ToTensor and Normalize compute it; floats are not divided.
 * labels: int32_t[n] or float[n][target], as the set has; may be NULL. ids index samples of d. norm and augment may be NULL.
 * epoch picks the augmentation's random numbers. Reads only: threads may each do a part of a batch. */
bool data_batch(const Dataset *d, const int64_t *ids, int64_t n, const DataNorm *norm, const struct AugmentPlan *augment, int64_t epoch,
                float *x, void *labels, RtError *e);
/* The same in two parts, for devices that do the second themselves. First, samples as they lie in the set ([n][sample] bytes, or
 * floats for sets of floats) and the view of each; then what makes inputs of them: */
bool data_raw_batch(const Dataset *d, const int64_t *ids, int64_t n, const struct AugmentPlan *augment, int64_t epoch, void *samples,
                    CnncView *views, void *labels, RtError *e);
static inline int64_t data_value_bytes(const Dataset *d) { return d->f32 ? 4 : 1; }
typedef struct DataFeed {
    CnncGpuFeed shape;              /* without its pointers */
    float *table; int64_t n_table;  /* as CnncGpuFeed.table */
} DataFeed;
bool data_feed(const Dataset *d, const DataNorm *norm, const struct AugmentPlan *augment, DataFeed *out, RtError *e);
void data_feed_free(DataFeed *f);
/* Raw bytes or floats of one sample without normalisation, for pictures in reports: v/255 for pictures. */
bool data_sample(const Dataset *d, int64_t id, float *x, RtError *e);

/* ---- IDX, also for `predict` and `run` ---- */
typedef struct { int type; int rank; int64_t shape[CNNC_MAX_RANK]; int64_t n; uint8_t *u8; float *f32; } IdxArray;  /* u8 for type 8, else f32 */
bool idx_read(const char *path, IdxArray *out, RtError *e);          /* gzipped or not */
bool idx_looks_like(const uint8_t *bytes, size_t len);
void idx_free(IdxArray *a);
#endif
