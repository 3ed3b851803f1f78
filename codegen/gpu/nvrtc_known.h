/* An NVRTC's name, version and GPUs, kept between runs. Strings live in the arena. */
#ifndef CNNC_CODEGEN_GPU_NVRTC_KNOWN_H
#define CNNC_CODEGEN_GPU_NVRTC_KNOWN_H
#include "ir/base/arena.h"

#include <stdbool.h>

enum { NVRTC_MOST_GPUS = 64 };
/* name: as it was asked for; path: where the loader found it. */
typedef struct { const char *name, *path, *version; int sm[NVRTC_MOST_GPUS], n_sm; } NvrtcKnown;

/* What was remembered of the library that would be found now. False: nothing, or another file lies there. */
bool nvrtc_recall(Arena *a, NvrtcKnown *k);
void nvrtc_remember(Arena *a, const NvrtcKnown *k);
#endif
