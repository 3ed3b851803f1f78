/* Running kernels of CUDA text on a CPU (host.c), with every access to memory checked. One thread, one launch at a time.
 * Errors are texts, never aborts: bounds, alignment, races, diverging barriers. */
#ifndef CNNC_TESTS_GPU_HOST_RUN_H
#define CNNC_TESTS_GPU_HOST_RUN_H
#include "runtime/abi.h"

#include <stdbool.h>
#include <stddef.h>

enum { HOST_WORDS = CNNC_GPU_PLACES + 1 };
typedef void (*HostKernel)(void);     /* in truth: of pointers and integers */
typedef enum { HOST_ASCENDING, HOST_DESCENDING, HOST_RANDOM } HostOrder;   /* in which a block's threads take turns */
typedef struct { HostOrder order; int every; } HostRun;                    /* every > 1: only each so manieth block runs */

/* Device memory: filled with NaN, with gaps that must not be touched; all of it is freed at once. */
void *host_alloc(size_t bytes);
void host_free_all(void);
/* Runs a launch; returns how many errors it added. words: the kernel's arguments, HOST_WORDS of them, any number unused. */
int host_launch(HostKernel kernel, const uint64_t *words, const CnncGpuLaunch *launch, const HostRun *run);
/* The arguments of a launch of a model. */
void host_arguments(const CnncGpuLaunch *launch, const CnncArgs *args, uint64_t words[HOST_WORDS]);
int host_errors(void);
const char *host_error_text(void);    /* the first ones, a line each */
void host_clear_errors(void);
#endif
