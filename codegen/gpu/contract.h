/* What the files of the CONTRACT skeleton share: contract.c (the whole), contract_load.c (operands to shared memory), contract_guard.c
 * (what of them is there), fma.c and mma.c (sums by threads, by tensor cores), contract_epilogue.c (sums to outputs). Strings live in
 * the arena of the Code. */
#ifndef CNNC_CODEGEN_GPU_CONTRACT_H
#define CNNC_CODEGEN_GPU_CONTRACT_H
#include "codegen/gpu/code.h"

/* name: "a", "b"; index: of its own group, "row", "col"; size: rows or columns of the tile. */
typedef struct { const char *name, *index; AccessId at; const AxisGroup *group; const TileLoad *load; int32_t size; } Operand;
Operand contract_operand(const Contract *x, bool b);
const char *contract_element_type(const Contract *x);
/* How many indices the group has now: "samples * 196". */
const char *contract_limit(Code *c, const AxisGroup *g);

/* Before the loop over steps: the index that all of a thread's copies have. Then: starts the copies of both tiles of step `next`, or
 * fetches them; places what was fetched, which is declared before. */
void contract_copy_begin(Code *c, const Contract *x, const Operand *o);
void contract_copy(Code *c, const Contract *x);
void contract_declare_fetched(Code *c, const Contract *x, const Operand *o);
void contract_place(Code *c, const Contract *x, const Operand *o);

/* contract_guard.c. Before the loop: variables NAME_at (what the row or column adds to addresses) and NAME_taps, or NAME_end (of the
 * depths that count) and NAME_in0 ... (in guarded indices that the depth moves too); size: "[8]", of arrays; which: "[i]". In a step,
 * where there are taps: NAME_tap, the bits that a copy at this depth needs, behind the last depth more than any line has. The condition
 * of a copy. */
void contract_declare_own(Code *c, const Contract *x, const Operand *o, const char *size);
void contract_emit_own(Code *c, const Contract *x, const Operand *o, const char *which);
void contract_emit_tap(Code *c, const Contract *x, const Operand *o);
const char *contract_inside(Code *c, const Contract *x, const Operand *o, const char *which);

/* The block's number along grid axis 'y' (columns) or 'z'. */
const char *contract_block(const Code *c, char axis);
/* contract_epilogue.c: the lines behind that loop: outputs, or a slice's partial sums. */
void contract_epilogue(Code *c, const Contract *x);
/* The group's axes as one index: "(n) * 14 + p"; "0": there are none. */
const char *contract_flat(Code *c, const AxisGroup *g);
/* Where the sum of row `row` and column `col` lies in a slice's partial sums. */
const char *contract_partial_index(Code *c, const Contract *x);
/* How many of them a slice leaves; the one of `slice`, `row` and `col`. */
long long contract_slice_sums(const Contract *x);
const char *contract_partial(Code *c, const Contract *x);

/* Floats of a tile's sums from column to column: four more than rows, so that fragments of tensor cores go to different banks. Lanes
 * side by side on a column, each with lane_rows rows; so often they have all rows. */
int32_t contract_pitch(const Contract *x);
int32_t contract_lanes(const Contract *x);
int32_t contract_rounds(const Contract *x);
/* Lanes have several rows each. */
static inline bool contract_wide(const Contract *x) { return x->lane_rows > 1; }

/* contract_sums.c: sums over a tile's points. rows: of rows, else of columns. Lines in front of both loops, in front of the inner one, at
 * each point (which counts when `inside` holds, if it is not NULL); behind the inner loop: of a column, or of a row (mean and, at each
 * point once more, squares, before it, of moments); behind both loops, of rows. */
void contract_sums_begin(Code *c, const Contract *x, bool rows);
void contract_sums_start(Code *c, const Contract *x, bool rows);
void contract_sums_add(Code *c, const Contract *x, bool rows, const char *inside);
void contract_sums_of_column(Code *c, const Contract *x);
void contract_sums_mean(Code *c, const Contract *x);
void contract_sums_square(Code *c, const Contract *x, const char *inside);
void contract_sums_of_row(Code *c, const Contract *x);
void contract_sums_of_rows(Code *c, const Contract *x);

/* contract.c, in a step: starts the copies of a later one; waits for those of the next. */
void contract_copies(Code *c, const Contract *x);
void contract_wait(Code *c, const Contract *x);

/* fma.c in float32, mma.c by tensor cores: the lines before the copies; the first step's first fragments; all of a step. mma.c: all sums
 * to shared[column][row], columns `pitch` floats apart. */
void fma_begin(Code *c, const Contract *x);
void fma_sums_begin(Code *c, const Contract *x);
void fma_sums(Code *c, const Contract *x);
void mma_begin(Code *c, const Contract *x);
void mma_sums_begin(Code *c, const Contract *x);
void mma_sums(Code *c, const Contract *x);
void mma_put_sums(Code *c, const Contract *x, int32_t pitch);
/* The functions that these lines call, as text; and those of values in bf16. */
extern const char mma_prelude[];
#endif
