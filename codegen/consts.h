/* consts: the block of constants of a program: weights packed into the layouts their kernels read, and tables. */
#ifndef CNNC_CODEGEN_CONSTS_H
#define CNNC_CODEGEN_CONSTS_H
#include "codegen/kernel.h"
#include "ir/ref/ref.h"

typedef struct Consts Consts;
/* weights_once: nobody reads the weights' floats afterwards, so that their memory may be given back while they are packed. */
typedef struct { const Graph *graph; const RefNamed *weights; int32_t n_weights; bool weights_once; } ConstsInput;
/* Constants that are packed only when they are written (Program.later). */
typedef struct LaterConsts { Consts *consts; ConstsInput in; } LaterConsts;
/* Where bytes go, in order; false: they could not. */
typedef bool (*ConstsPut)(void *to, const void *bytes, size_t n);
Consts *consts_new(Arena *a);
/* Reserves room for buffer b of l (BUF_CONST) and returns its offset in bytes; the same buffer twice gives the same offset. */
int64_t consts_add(Consts *c, const KernelList *l, BufId b);
int64_t consts_bytes(const Consts *c);   /* reserved so far */
/* Computes every reserved constant (weights by name, folded ones by the reference interpreter in double), rounds to float32 and
 * packs. false: a weight is missing. The block is aligned to 64 bytes. */
bool consts_fill(Consts *c, const ConstsInput *in, const char **data, int64_t *bytes);
/* The same bytes, one constant at a time in memory. false: a weight is missing, or `write` said so. */
bool consts_write(const Consts *c, const ConstsInput *in, ConstsPut write, void *to);
#endif
