/* NVRTC, NVIDIA's compiler of CUDA C as a library, opened at run time: the file that the environment variable CNNC_NVRTC names,
 * else libnvrtc.so.13 or .12 where the loader, CUDA_HOME or /usr/local/cuda have it. Strings live in the arena. */
#ifndef CNNC_CODEGEN_GPU_NVRTC_H
#define CNNC_CODEGEN_GPU_NVRTC_H
#include "ir/base/arena.h"

#include <stdbool.h>

typedef struct Nvrtc Nvrtc;
typedef struct { const char *bytes; size_t size; const char *log; } NvrtcCode;   /* log: what the compiler said, "" when nothing */

Nvrtc *nvrtc_open(Arena *a, const char **why);       /* NULL: *why is a sentence */
void nvrtc_close(Nvrtc *n);                          /* n may be NULL */
const char *nvrtc_version(const Nvrtc *n);           /* "13.0" */
const char *nvrtc_library(const Nvrtc *n);           /* "libnvrtc.so.13" */
/* The newest architecture it knows that is not newer than sm; 0: none. */
int nvrtc_architecture(const Nvrtc *n, int sm);
/* The options that a result depends on, in one line. */
const char *nvrtc_options(void);
/* Machine code for sm, or PTX from it on. False: refused, and out->log says why. Each call may run in its own thread, with its own
 * arena. */
bool nvrtc_compile(Nvrtc *n, Arena *a, const char *text, int sm, bool ptx, NvrtcCode *out);
#endif
