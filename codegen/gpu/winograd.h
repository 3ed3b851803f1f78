/* What the files of Winograd on GPUs share: winograd.c (where it pays), winograd_emit.c (the kernel). */
#ifndef CNNC_CODEGEN_GPU_WINOGRAD_H
#define CNNC_CODEGEN_GPU_WINOGRAD_H
#include "codegen/gpu/contract.h"
#include "codegen/winograd_impl.h"

/* Floats from line to line of sums that threads exchange, a line being one point and filter of all tiles: so that what threads write
 * together lies in different banks. */
static inline int32_t winograd_pitch(int32_t tiles, int32_t unit_tiles) { return tiles / unit_tiles < 8 ? tiles + 4 : tiles; }
/* winograd_emit.c: the lines of the kernel of a Contract with `winograd`. */
void winograd_emit(Code *c, const GpuBody *body);
#endif
