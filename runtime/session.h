/* A compiled model ready to answer: memory, threads, preprocessing, class names. Used by the JIT commands (run, predict,
 * eval, bench) and by programs. A Session owns all it makes (session_close) and borrows the model. */
#ifndef CNNC_RUNTIME_SESSION_H
#define CNNC_RUNTIME_SESSION_H
#include "runtime/checkpoint.h"
#include "runtime/data.h"
#include "runtime/exec.h"

struct Session;
typedef struct SessionOptions {
    int threads;             /* 0: all cores */
    int64_t batch;           /* samples in one call; 0: as compiled, never more than that */
    /* For models that keep weights in their state (eval of the JIT and of trainers): session_load_state, which reads
     * `weights`, or draws initial weights from `seed` when that is NULL. Programs with constants leave it NULL, so that
     * the readers of weights files are not linked into them. */
    bool (*load)(struct Session *s, const struct SessionOptions *o, RtError *e);
    const char *weights; bool partial;
    uint64_t seed;
} SessionOptions;

/* How the outputs become probabilities; decided by the last layer. */
typedef enum { OUT_LOGITS, OUT_PROBABILITIES, OUT_LOG_PROBABILITIES, OUT_VALUES } OutKind;

typedef struct Session {
    const CnncModel *model;
    const CnncFunction *infer;   /* model->infer, or model->eval when that is absent */
    Threads *threads;
    Exec *exec;
    int64_t batch, in_size, out_size;   /* floats of one sample */
    ExecCall call;
    float *x, *out;          /* the call's: [batch][in_size], [batch][out_size] */
    DataNorm norm;
    const char *const *classes;  /* [out_size], or NULL */
    OutKind kind;
    StoredFacts stored;
} Session;

bool session_open(Session *s, const CnncModel *m, const SessionOptions *o, RtError *e);
void session_close(Session *s);
bool session_load_state(Session *s, const SessionOptions *o, RtError *e);

/* One call over what lies in s->x (n <= batch samples, normalised); the results are in s->out. False: the device failed. */
bool session_run(Session *s, int64_t n, RtError *e);
/* Any number of samples: in[n][in_size] as the user has them, float: divided by 255 where they are pictures, not normalised.
 * out[n][out_size]. */
bool session_infer(Session *s, const float *in, int64_t n, float *out, RtError *e);
/* The same from bytes: divided by 255, then normalised. */
bool session_infer_bytes(Session *s, const uint8_t *in, int64_t n, float *out, RtError *e);
/* Reads .npy or IDX, any number of samples; writes .npy float32 [n][output shape]. */
bool session_infer_file(Session *s, const char *input, const char *output, RtError *e);

/* One sample's preprocessing: x = (x - mean)/std, in place; from bytes: x = (v/255 - mean)/std. */
void session_normalize(const Session *s, float *x);
void session_normalize_bytes(const Session *s, const uint8_t *v, float *x);
/* out[out_size] to probabilities p[out_size], by s->kind (values stay as they are). */
void session_probabilities(const Session *s, const float *out, double *p);
OutKind model_out_kind(const CnncModel *m);
/* "[1, 28, 28]" */
const char *rt_shape_text(int32_t rank, const int64_t *shape, char *buffer, size_t size);
#endif
