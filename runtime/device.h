/* --device: where to run. */
#ifndef CNNC_RUNTIME_DEVICE_H
#define CNNC_RUNTIME_DEVICE_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include <stdio.h>

/* What a GPU needs besides a driver, such as a compiler; false: *why is a sentence. */
typedef struct { bool (*is_there)(void *context, const char **why); void *context; } DeviceNeeds;
/* "cpu", "cuda", "auto" or NULL (auto). *sm: 90 for a GPU of compute capability 9.0, 0 for the CPU. RT_DEVICE: a GPU was asked for
 * and there is none that works, with why. RT_USAGE: another word. auto looks at needs, which may be NULL. What it takes,
 * and why, is told to notes, which may be NULL. */
bool device_choose(const char *wanted, const DeviceNeeds *needs, int *sm, FILE *notes, RtError *e);
/* The same for a program that may have GPU code (gpu: NULL when not): its model for the device. Without GPU code auto is silent. */
const CnncModel *device_model(const CnncModel *cpu, const CnncModel *gpu, const char *wanted, FILE *notes, RtError *e);
#endif
