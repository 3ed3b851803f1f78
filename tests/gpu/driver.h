/* What the files of the stand-in driver (driver.c) share: its memory, and work that waits in streams. driver_work.c. */
#ifndef CNNC_TESTS_GPU_DRIVER_H
#define CNNC_TESTS_GPU_DRIVER_H
#include "runtime/abi.h"
#include "runtime/cuda.h"
#include "tests/gpu/host_run.h"

#include <stdbool.h>
#include <stddef.h>

#define API __attribute__((visibility("default")))
enum { FAKE_SM = 90, INVALID = 1, UNKNOWN = 999 };
/* What the compiler (compiler.c) makes: the magic word, a size, a shared library. */
typedef struct { char magic[8]; uint64_t size; } ImageHead;
#define IMAGE_MAGIC "cnncGPU"

typedef enum { OP_COPY, OP_KERNEL, OP_GRAPH, OP_RECORD, OP_WAIT } OpKind;
typedef struct Op {
    struct Op *next;
    OpKind kind;
    void *to; const void *from; size_t n;                 /* COPY */
    struct CudaKernel *kernel;                            /* KERNEL */
    CnncGpuLaunch launch;
    uint64_t *words;                                      /* its arguments; owned */
    void *staged;                                         /* what `from` points to, where it is a copy; owned */
    struct CudaGraph *graph;                              /* GRAPH */
    struct CudaEvent *event; long ticket;                 /* RECORD, WAIT: which recording */
    int lane, mark;                                       /* in a graph: of the stream it was recorded from; RECORD, WAIT: from 1 */
} Op;
typedef struct { Op *first, **last; } Queue;

enum { LANES = 16 };
struct CudaGraph { Queue ops; int users, lanes, marks; };
struct CudaGraphExec { struct CudaGraph *graph; };
struct CudaStream { struct CudaStream *next; Queue todo; struct CudaGraph *recording; int lane; };
struct CudaEvent { long recorded, done; double at; struct CudaGraph *graph; int mark; };    /* how often each; of a recording: where */
struct CudaKernel { struct CudaModule *module; char name[256]; HostKernel code; const char *sizes; struct CudaKernel *next; int most_shared; };
struct CudaModule { void *library; struct CudaKernel *kernels; };
typedef struct Block { struct Block *next; char *at; size_t size; bool pinned; } Block;

#pragma GCC visibility push(hidden)
extern Block *blocks;
extern struct CudaStream *streams;
extern struct CudaStream legacy;   /* the driver's own; the NULL of its functions */
extern int objects;                /* streams, events, modules and graphs that are alive */

_Noreturn void die(const char *what, const char *detail);
bool fails(void);                  /* counts the calls, and says whether this is the one that fails */
Block *block_of(const void *p, size_t n, bool pinned);
void *take(size_t n, bool pinned);
int give(void *p, bool pinned);
void *new_object(size_t n);
void drop_object(void *p);
int enqueue(struct CudaStream *s, const Op *op);
void drop_graph(struct CudaGraph *g);
/* Runs the stream (NULL: all) until it is empty or the event has the ticket. */
void run_until(struct CudaStream *s, const struct CudaEvent *e, long ticket);
void must_not_record(const struct CudaStream *s);
#pragma GCC visibility pop
#endif
