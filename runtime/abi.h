/* The border between generated code and the runtime, and all that runtime/ knows of the compiler.
 * A program is tables of constants (CnncModel and what it points to) and a few functions. The JIT fills the same
 * structures in memory that the object writer emits as data, so that both run the same runtime. Plain C, no ownership:
 * everything pointed to is constant and lives as long as the program. */
#ifndef CNNC_RUNTIME_ABI_H
#define CNNC_RUNTIME_ABI_H
#include <stdint.h>

enum { CNNC_ABI_VERSION = 1, CNNC_MAX_RANK = 6 };
enum { CNNC_F32 = 0, CNNC_I32 = 1, CNNC_U8 = 2, CNNC_I64 = 3 };          /* element types, equal to DType */

/* Run-time scalars (float unless said); read by training functions. */
typedef enum {
    CNNC_SC_LR, CNNC_SC_MOMENTUM,        /* momentum, or beta1 when a schedule cycles it */
    CNNC_SC_BIAS1, CNNC_SC_BIAS2,        /* 1 - beta1^t, 1 - beta2^t; t counts steps from 1; computed in double */
    CNNC_SC_FIRST,                       /* 1.0 on the optimizer's first step, else 0.0 (SGD: buf = g) */
    CNNC_SC_SEED,                        /* u32 bits: stream for this step's dropout */
    CNNC_SC_COUNT
} CnncScalar;
typedef enum { CNNC_RES_LOSS, CNNC_RES_CORRECT, CNNC_RES_COUNT } CnncResult;   /* float: mean loss of the batch, count of right answers */

/* What every stage gets. All pointers aligned to 64 bytes except in/labels/out. Training steps and evaluation need work and
 * scratch zeroed once before the first call: lanes past n are multiplied by zeros and must not hold NaN. */
typedef struct CnncArgs {
    char *state;             /* parameters, running statistics, optimizer state */
    char *work;              /* values that cross stages */
    const char *consts;      /* packed weights and tables; constant */
    const float *in;         /* [n][C][H][W] */
    const void *labels;      /* int32_t [n], or float targets */
    float *out;              /* [n][output shape] */
    const float *scalars;    /* [CNNC_SC_COUNT]; the seed is bit-copied */
    float *results;          /* [CNNC_RES_COUNT] */
    int64_t n;               /* samples in this call: 1..batch */
} CnncArgs;
/* One slice of a stage; scratch is private to the calling thread. */
typedef void (*CnncStageFn)(const CnncArgs *args, char *scratch, int64_t slice);
typedef struct {
    CnncStageFn fn;
    int32_t slices;          /* fixed by model and batch, never by threads */
    int32_t samples_per_slice; /* > 0: slices past ceil(n / this) need not run; 0: all run */
    int32_t first_layer, last_layer;  /* into CnncModel.layers, -1 = none */
    const char *name;
    double macs;             /* per sample, of direct convolutions */
    double fmas, bytes;      /* per call of a whole batch: multiply-adds really done; weights and values in and out, each once */
} CnncStage;

/* What stages take is estimated, not measured, so that a plan depends on the target's name alone and a call never on the clock. In
 * cycles of one core that does two vectors of 16 multiply-adds in each (the peak of Zen 5, Skylake-X and later; others need more) and
 * reads so many bytes from its outer caches, alone or while other cores do (`cnnc bench` of an EPYC at 3.7 GHz: 27 alone, from 8 MiB). */
#define CNNC_FMAS_A_CYCLE 32.0
#define CNNC_BYTES_ALONE 24.0
#define CNNC_BYTES_SHARED 16.0
/* Waking threads that spin and waiting for the last, a microsecond or two: less than that is not cut, nor shared. */
#define CNNC_SHARE_CYCLES 4000.0
/* Of a call with a whole batch; bytes: one of the two. */
static inline double cnnc_stage_cycles(const CnncStage *s, double bytes)
{
    double sums = s->fmas / CNNC_FMAS_A_CYCLE, reads = s->bytes / bytes;
    return sums > reads ? sums : reads;
}

typedef struct CnncFunction {
    const CnncStage *stages; int32_t n_stages;
    int32_t batch;           /* largest n */
    int64_t work_bytes, scratch_bytes;   /* scratch: per thread; both enough for `single`, too */
    /* With images in the lanes: up to `rest` samples after the last whole `block` of them are quicker one by one, by `single`, a function of
     * batch 1; they lie `in_floats` and `out_floats` apart. NULL: none. */
    const struct CnncFunction *single; int32_t block, rest; int64_t in_floats, out_floats;
} CnncFunction;

typedef enum { CNNC_ROLE_PARAM, CNNC_ROLE_FROZEN, CNNC_ROLE_BUFFER, CNNC_ROLE_OPTIMIZER } CnncRole;
typedef struct {
    const char *name;        /* state_dict key; optimizer state: "optimizer.KIND.PARAM" */
    int32_t dtype, rank; int64_t shape[CNNC_MAX_RANK];
    int64_t offset;          /* bytes into state; plain row-major */
    int32_t role;            /* CnncRole */
    int32_t init;            /* InitKind: 0 uniform(-bound, bound), 1 zeros, 2 ones, 3 constant `bound`, 4 given values */
    double bound;
    const float *values; int64_t n_values;
} CnncTensor;
typedef struct { const char *name, *type; int32_t rank; int64_t shape[CNNC_MAX_RANK]; int64_t macs, params; } CnncLayer;

/* Training facts that the runtime needs; numbers as in the train block. */
typedef enum { CNNC_OPT_SGD, CNNC_OPT_ADAM, CNNC_OPT_ADAMW, CNNC_OPT_RMSPROP } CnncOptimizer;
typedef enum { CNNC_SCHED_CONSTANT, CNNC_SCHED_STEP, CNNC_SCHED_MULTISTEP, CNNC_SCHED_EXPONENTIAL, CNNC_SCHED_COSINE, CNNC_SCHED_ONECYCLE,
               CNNC_SCHED_PLATEAU } CnncSchedule;
typedef enum { CNNC_DATA_NONE, CNNC_DATA_MNIST, CNNC_DATA_FASHION, CNNC_DATA_CIFAR10, CNNC_DATA_CIFAR100, CNNC_DATA_FOLDER, CNNC_DATA_NPY,
               CNNC_DATA_DIGITS } CnncData;
typedef enum { CNNC_AUG_CROP, CNNC_AUG_HFLIP, CNNC_AUG_VFLIP } CnncAugmentKind;
typedef struct { int32_t kind; double p[4]; } CnncAugment;   /* CROP: height, width, padding; FLIP: probability */
typedef struct CnncTrain {
    int32_t data; const char *data_path, *data_path2, *valid_path, *valid_path2; int64_t data_size[2]; double valid_fraction;
    int32_t epochs, batch_size;
    uint64_t seed; int32_t shuffle;
    int32_t loss;            /* 0 cross entropy, 1 MSE */
    double smoothing;
    int32_t optimizer; double lr, momentum, dampening, weight_decay, beta1, beta2, eps, alpha; int32_t nesterov, centered;
    int32_t schedule;
    double sched[10];        /* STEP: step_size gamma; MULTISTEP: gamma; EXPONENTIAL: gamma; COSINE: T_max eta_min; ONECYCLE: max_lr pct_start div final_div base_m max_m three_phase(0/1) linear(0/1) cycle_momentum fastai(0/1); PLATEAU: factor patience threshold min_lr mode(0 min, 1 max) cooldown */
    const int32_t *milestones; int32_t n_milestones;
    const CnncAugment *augment; int32_t n_augment;
} CnncTrain;

/* ---- GPU: CUDA C text and what to launch, in order. Every kernel is `extern "C" __global__ void ENTRY(T *buffer, ...,
 * int samples)`: a pointer to device memory for each of its places (to pinned memory of the host for results), then the n of
 * CnncArgs. Several launches may have one kernel. The pointers of CnncArgs are aligned to 256 bytes, offsets to 64 but in scalars and
 * results. `work` need not be zeroed. Launches of a function may follow each other in one stream, or those of each lane in a stream of
 * its own, and wait for what `after` says; any 1 <= n <= batch may be launched with the whole grid. */
typedef enum { CNNC_PRODUCTS_F32, CNNC_PRODUCTS_TF32, CNNC_PRODUCTS_BF16, CNNC_PRODUCTS } CnncProducts;   /* the last two by tensor cores */
/* The pointers of a CnncArgs in their order. */
enum { CNNC_AT_STATE, CNNC_AT_WORK, CNNC_AT_CONSTS, CNNC_AT_IN, CNNC_AT_LABELS, CNNC_AT_OUT, CNNC_AT_SCALARS, CNNC_AT_RESULTS, CNNC_AT_COUNT };
/* A buffer of a launch: bytes from a pointer of CnncArgs on. At most CNNC_GPU_PLACES a launch: drivers take 4096 bytes of arguments. */
typedef struct { int64_t at, offset; } CnncGpuPlace;
enum { CNNC_GPU_PLACES = 500, CNNC_GPU_LANES = 4 };
typedef struct {
    const char *entry;       /* the kernel's name in the text */
    const char *name;        /* the kernels of the network in it: "0.conv", "0.conv .. 7.linear" */
    int32_t grid[3], block, shared_bytes;      /* blocks for a whole batch, threads of a block, dynamic shared memory */
    int32_t sample_points, block_points;       /* sample_points > 0: for n samples ceil(n * sample_points / block_points) blocks along grid[0] do */
    int32_t first_layer, last_layer;           /* into CnncModel.layers, -1 = none */
    double flops, bytes;     /* of a whole batch: 2 a multiply-add; what every access moves at least, once */
    double cycles;           /* of a block of a small net's launch, by estimate; 0: of other launches */
    int32_t products;        /* CnncProducts: what the multiply-adds are done in */
    const CnncGpuPlace *places; int32_t n_places;
    int32_t lane, after[CNNC_GPU_LANES];       /* after: by lane, how many launches of the function, counted from its first, hold the last one there to wait for; 0: none */
} CnncGpuLaunch;
typedef struct { const CnncGpuLaunch *launches; int32_t n_launches, batch; int64_t work_bytes; } CnncGpuFunction;
/* Machine code for sm_80 = 80, or PTX from it on; of the whole text, or of one of at most CNNC_GPU_PARTS parts of its kernels. */
enum { CNNC_GPU_PARTS = 16 };
typedef struct { int32_t sm, ptx; const char *bytes; int64_t size; } CnncGpuImage;
typedef struct {
    const char *text;        /* CUDA C; needs no headers and no library */
    int32_t sm;              /* the GPU its tiles were chosen for; it runs on every one from sm_80 on */
    const CnncGpuImage *images; int32_t n_images;
    const CnncGpuFunction *infer, *eval, *step;   /* as in CnncModel */
} CnncGpu;
/* Output (y, x) of a sample reads the data set's (y0 + y * dy, x0 + x * dx); outside is black. */
typedef struct { int64_t y0, x0; int32_t dy, dx; } CnncView;
/* Every text has one kernel more, `extern "C" __global__ void cnnc_feed(...)`, which takes the members of a CnncGpuFeed in their
 * order: samples as the data set has them become inputs, one thread an element, CNNC_FEED_BLOCK threads a block. Pointers are
 * device memory. */
enum { CNNC_FEED_BLOCK = 256, CNNC_GPU_OLDEST = 80 };   /* sm_80: the first GPU that texts are made for */
typedef struct {
    const void *samples;     /* [n][channels][h][w]: bytes or floats */
    const CnncView *views;   /* [n] */
    const float *table;      /* bytes: [channels][256], the input of each value; floats: [channels][2], mean and deviation */
    float *x;                /* [n][channels][out_h][out_w] */
    int64_t n;
    int32_t bytes, channels, h, w, out_h, out_w;
} CnncGpuFeed;

typedef struct CnncModel {
    int32_t abi_version;
    const char *name, *version, *cpu, *features;   /* compiler version; CPU name and features the code needs */
    const char *precision;   /* what operands of convolutions and Linear may be rounded to: "f32", "tf32", "bf16"; "f32, weights bf16" */
    int32_t in_rank; int64_t in_shape[CNNC_MAX_RANK];     /* without the batch */
    int32_t out_rank; int64_t out_shape[CNNC_MAX_RANK];
    int32_t n_mean;          /* 0: no normalize; 1 or C values; -1: "auto" */
    const float *mean, *std;
    int32_t n_classes; const char *const *class_names;    /* n_classes 0: none given */
    const CnncTensor *tensors; int32_t n_tensors; int64_t state_bytes;
    const CnncLayer *layers; int32_t n_layers;
    const char *consts; int64_t consts_bytes;              /* packed weights; aligned to 64 */
    const char *plan;                                      /* what --tune chose otherwise than the cost model, as codegen/choices.h writes it; "" or NULL */
    uint64_t weights_checksum;                             /* of the safetensors data the program was built with; 0: initial weights */
    const CnncFunction *infer;     /* with folded constants; NULL in trainers */
    const CnncFunction *eval;      /* reads state: running statistics, no dropout; trainers and the JIT of `train` */
    const CnncFunction *step;      /* one training step */
    const CnncTrain *train;        /* NULL in inference programs */
    /* --selftest: n_test samples with the reference interpreter's outputs */
    const float *test_in, *test_out; int32_t n_test; double test_tolerance;
    const CnncGpu *gpu;            /* the functions for a GPU; NULL: a program for the CPU. Work sizes and consts are then the GPU's */
} CnncModel;

/* The model of a standalone program, for infer_main.c and train_main.c alone: `build` gives SYMBOL_model this name when it links. */
extern const CnncModel cnnc_model;
/* In programs for several CPUs: the model for each, what needs most first; NULL ends them. */
extern const CnncModel *const cnnc_models[] __attribute__((weak));
extern const CnncModel cnnc_gpu_model __attribute__((weak));   /* the same for GPUs; only in programs with GPU code */

/* Of a library with a pool of threads (library_main.c): the generated code holds the number, and calls the loop over stages.
 * scratch: a block of `stride` bytes for each of the threads. */
extern const int32_t cnnc_library_threads;
void cnnc_library_run(const CnncFunction *f, const CnncArgs *args, char *scratch, int64_t stride);
#endif
