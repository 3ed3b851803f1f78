/* compile: from a checked module to a Program, ready for a target. The whole middle of the compiler on one page.
 * Programs, tables and packed constants live in the given arena. */
#ifndef CNNC_CODEGEN_COMPILE_H
#define CNNC_CODEGEN_COMPILE_H
#include "codegen/choices.h"
#include "codegen/plan.h"
#include "codegen/precision.h"
#include "ir/ref/ref.h"
#include "passes/pass.h"

typedef struct {
    NestTarget target;              /* lanes, registers, caches of the CPU */
    /* Another target's layouts, stages and addresses for a kernel list; NULL: the CPU's. */
    Function *(*plan)(Arena *a, const char *name, KernelList *l, const PlanInput *in, const void *ctx);
    const void *plan_ctx;
    const char *dump;               /* "kernels", "stages", "plan", "tile"; NULL: none */
    FILE *dump_to;
    bool dumped;                    /* set when that happened */
    const char *name;               /* the model's symbol, or NULL: from the graph's name */
    const char *cpu, *features;     /* recorded in the program */
    Precision precision;            /* --precision; weights_precision: --weights-precision, of Linear layers that wait for their weights */
    Precision weights_precision;
    bool no_winograd;               /* --no-winograd: every convolution directly */
    double winograd_error;          /* of the forms taken, at most; 0: WINOGRAD_ERROR */
    Choices choices;                /* where plans differ from the cost model's */
    int winograd_layers;            /* set: convolutions of the last function that Winograd could do */
    Apart apart;                    /* slower, to see where time goes */
    bool weights_later;             /* compile_inference gets no weights: compile_selftest and compile_weights do */
    bool interface_only;            /* no constants: for what is said about a program, not for its code */
    bool selftest;                  /* record inputs and outputs of the reference interpreter, unless that takes seconds */
    bool always_selftest;           /* ... however long it takes */
    uint64_t weights_checksum;
} CompileOptions;

/* The table of parameters and buffers of a checked graph in state_dict order, with offsets into `state`; extra: the training
 * step, whose optimizer state follows (or NULL). */
CnncTensor *compile_tensors(Arena *a, const Graph *g, const Graph *extra, int32_t *n, int64_t *state_bytes);

/* Inference with folded constants. weights: by state_dict name, all of them. NULL: errors in pc->diags, or dumped. */
Program *compile_inference(Arena *a, PassContext *pc, const RefNamed *weights, int32_t n_weights, CompileOptions *o);
/* After compile_inference with weights_later: records the self-test of the net as it was written, if its options ask for one; the weights
 * that the constants are packed of when they are written. once: see ConstsInput. */
bool compile_wants_selftest(const Program *p, const CompileOptions *o);
void compile_selftest(Program *p, const Graph *written, const RefNamed *weights, int32_t n_weights);
void compile_weights(Program *p, const RefNamed *weights, int32_t n_weights, bool once);
/* What a self-test's outputs may be off by, of their root mean square: by the model's precision. */
double compile_tolerance(const CnncModel *m);
/* One training step and the evaluation function over one state. The graph's batch is the largest batch. */
Program *compile_training(Arena *a, PassContext *pc, CompileOptions *o);
/* What the planned functions take at the graph's batch, without generating code or needing weights: parameters (state or
 * packed constants), values between stages, scratch for `threads` threads, and the caller's input and output. */
typedef struct { int64_t weights, work, scratch, input_output; } CompileMemory;
bool compile_memory(Arena *a, PassContext *pc, CompileOptions *o, bool training, int threads, CompileMemory *out);

/* One graph as a program of one function (model.step when its graph has updates, else model.infer), for tests of the emitters:
 * parameters in state, in graph order. */
Program *compile_graph(Arena *a, const Graph *g, const Fusion *f, CompileOptions *o);
#endif
