/* What the files of the CONTRACT skeleton share: contract.c (the whole), contract_load.c (operands to shared memory), mma.c (sums by
 * tensor cores). Strings live in the arena of the Code. */
#ifndef CNNC_CODEGEN_GPU_CONTRACT_H
#define CNNC_CODEGEN_GPU_CONTRACT_H
#include "codegen/gpu/code.h"

/* name: "a", "b"; index: of its own group, "row", "col"; size: rows or columns of the tile. */
typedef struct { const char *name, *index; AccessId at; const AxisGroup *group; const TileLoad *load; int32_t size; } Operand;
Operand contract_operand(const Contract *x, bool b);
const char *contract_element_type(const Contract *x);
/* How many indices the group has now: "samples * 196". */
const char *contract_limit(Code *c, const AxisGroup *g);

/* Starts the copies of the tile of step `next`, or fetches it; places what was fetched, which is declared before. */
void contract_copy(Code *c, const Contract *x, const Operand *o);
void contract_declare_fetched(Code *c, const Contract *x, const Operand *o);
void contract_place(Code *c, const Contract *x, const Operand *o);

/* mma.c: the lines before the loop over the depth, and the sums of one step; where a thread's sums lie: the row_at-th row, the
 * col_at-th column that it has (of 2 * unit / 16 and of 2 * unit / 8), and that sum. */
void mma_begin(Code *c, const Contract *x);
void mma_sums(Code *c, const Contract *x);
int32_t mma_thread_rows(const Contract *x);
int32_t mma_thread_cols(const Contract *x);
extern const char mma_row[], mma_col[], mma_sum[];
/* The functions that these lines call, as text; and those of values in bf16. */
extern const char mma_prelude[];
#endif
