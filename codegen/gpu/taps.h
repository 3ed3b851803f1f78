/* What the files of the TAPS skeleton share: taps.c decides, taps_emit.c writes. */
#ifndef CNNC_CODEGEN_GPU_TAPS_H
#define CNNC_CODEGEN_GPU_TAPS_H
#include "codegen/gpu/code.h"

/* How far the window moves in x from point to point along the axis. */
int32_t taps_step(const Kernel *k, const Contract *c, int axis, int tap);
/* Lines of x, along the walk, that the windows of `others` points need. */
int32_t taps_lines(const Kernel *k, const Contract *c, const GpuTaps *t);
/* Blocks that a multiprocessor has registers for. */
int32_t taps_blocks(const GpuTaps *t);
/* Blocks beside each other along the channels. */
int32_t taps_column_blocks(const Contract *c, const GpuTaps *t);
#endif
