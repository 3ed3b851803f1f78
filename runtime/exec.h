/* Running compiled functions on a device: memory for state, work and scratch, and calls.
 * An Exec owns its memory and borrows the model and the pool. Nothing is allocated after exec_new and exec_call_open. */
#ifndef CNNC_RUNTIME_EXEC_H
#define CNNC_RUNTIME_EXEC_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include "runtime/stages.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct { char *at; void *map; size_t size; } Block;   /* map: NULL when it came from malloc */

/* What a device can do at most, or one thread of a CPU, measured (peak.c). */
typedef struct { double flops[CNNC_PRODUCTS], bytes; } Peak;   /* per second: operations by CnncProducts, from and to memory */

struct DataFeed;
/* A call: host memory that the caller fills and reads, placed where the device reaches it best. */
typedef struct ExecCall {
    const CnncFunction *function;
    int64_t batch, n;        /* most samples; those of this call */
    float scalars[CNNC_SC_COUNT], results[CNNC_RES_COUNT];
    float *x;                /* [batch][in], aligned to 64; NULL with a feed */
    void *samples;           /* with a feed: [batch][sample] as the data set has them, each seen through its view */
    CnncView *views;         /* [batch] */
    void *labels;            /* int32[batch] or float[batch][target]; NULL when none were asked for */
    float *out;              /* [batch][out] */
    void *on_device;         /* what the device keeps of the call */
} ExecCall;

/* feed: NULL, or how samples become inputs, on devices with `feeds`; borrowed until exec_call_open returns. */
typedef struct { const CnncFunction *function; int64_t batch, label_bytes; const struct DataFeed *feed; } ExecCallShape;

typedef struct Exec Exec;
/* Where functions run: the CPU (exec_call.c) or a GPU (exec_cuda.c). */
typedef struct ExecDevice {
    int depth;               /* calls worth having in flight, at most EXEC_DEPTH */
    bool feeds;              /* takes samples of a data set as they are and makes inputs of them itself */
    bool (*open)(Exec *x, const CnncFunction *const *functions, int n, RtError *e);
    void (*close)(Exec *x);
    bool (*put_state)(Exec *x, RtError *e), (*get_state)(Exec *x, RtError *e);
    bool (*call_open)(Exec *x, ExecCall *c, const ExecCallShape *shape, RtError *e);
    void (*call_close)(Exec *x, ExecCall *c);
    bool (*start)(Exec *x, ExecCall *c, RtError *e), (*finish)(Exec *x, ExecCall *c, RtError *e);
    /* Of a GPU; NULL on the CPU. Seconds of each launch of the call's function, and what the device can do at most. */
    bool (*profile)(Exec *x, ExecCall *c, double *seconds, RtError *e);
    bool (*peak)(Exec *x, Peak *out, RtError *e);
} ExecDevice;
enum { EXEC_DEPTH = 4 };
extern const ExecDevice exec_cpu;
extern const ExecDevice exec_cuda __attribute__((weak));   /* programs without GPU code leave it out */

struct Exec {
    const CnncModel *model;
    const ExecDevice *device;
    Threads *threads;
    void *on_device;         /* what the device keeps of the model */
    char *state;             /* model->state_bytes, zeroed; plain layout of model->tensors. Elsewhere than on the CPU a copy */
    char *work, *scratch;    /* largest of the functions; scratch: one block per thread */
    int64_t work_bytes, scratch_stride;
    double *stage_ticks;     /* when set (by the caller, n_stages of the function run): ticks are added per stage */
    Block blocks[3];
};

/* On a GPU when the model is compiled for one, else on the CPU. NULL when memory runs out, the model's ABI version is another
 * or the device does not work (RT_DEVICE). */
Exec *exec_new(const CnncModel *model, const CnncFunction *const *functions, int n, Threads *threads, RtError *e);
/* After writing x->state, and before reading it: the device's state follows, and the other way round. */
bool exec_put_state(Exec *x, RtError *e);
bool exec_get_state(Exec *x, RtError *e);

bool exec_call_open(Exec *x, ExecCall *c, const ExecCallShape *shape, RtError *e);
void exec_call_close(Exec *x, ExecCall *c);            /* waits for it; c may be zeroed */
/* Takes inputs, labels and scalars as they are now; they may be written again, and out and results read, after exec_finish.
 * Calls run in the order in which they were started. */
bool exec_start(Exec *x, ExecCall *c, RtError *e);
bool exec_finish(Exec *x, ExecCall *c, RtError *e);

/* ---- the CPU ---- */
/* Fills in args->state, work and consts; the caller gives in, labels, out, scalars, results and n (1..function->batch). */
void exec_run(Exec *e, const CnncFunction *function, CnncArgs *args);
void exec_free(Exec *e);
double exec_seconds(void);   /* monotonic clock */
#endif
