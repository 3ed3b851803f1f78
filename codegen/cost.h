/* cost: what a stage takes at least, whatever machine runs it and however well. */
#ifndef CNNC_CODEGEN_COST_H
#define CNNC_CODEGEN_COST_H
#include "codegen/program.h"

/* Of a call with a whole batch: the multiply-adds that are really done (Winograd's are fewer than the direct convolution's that
 * Stage.macs counts), and the bytes that go in or out: weights and values, each once. */
typedef struct { double fmas, bytes; } StageCost;
StageCost stage_cost(Arena *a, const Function *f, const Stage *s);
#endif
