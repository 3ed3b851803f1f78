/* Running kernels of CUDA text on a CPU (host.c), with every access to memory checked. One thread, one launch at a time.
 * Errors are texts, never aborts: bounds, alignment, races, diverging barriers. */
#ifndef CNNC_TESTS_GPU_HOST_RUN_H
#define CNNC_TESTS_GPU_HOST_RUN_H
#include "runtime/abi.h"

#include <stdbool.h>
#include <stddef.h>

typedef void (*HostKernel)(CnncArgs args);
typedef enum { HOST_ASCENDING, HOST_DESCENDING, HOST_RANDOM } HostOrder;   /* in which a block's threads take turns */
typedef struct { HostOrder order; int every; } HostRun;                    /* every > 1: only each so manieth block runs */

/* Device memory: filled with NaN, with gaps that must not be touched; all of it is freed at once. */
void *host_alloc(size_t bytes);
void host_free_all(void);
/* Runs a launch; returns how many errors it added. */
int host_launch(HostKernel kernel, const CnncArgs *args, const CnncGpuLaunch *launch, const HostRun *run);
int host_errors(void);
const char *host_error_text(void);    /* the first ones, a line each */
void host_clear_errors(void);
#endif
