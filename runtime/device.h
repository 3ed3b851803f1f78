/* --device: where to run. */
#ifndef CNNC_RUNTIME_DEVICE_H
#define CNNC_RUNTIME_DEVICE_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include <stdio.h>

/* "cpu", "cuda", "auto" or NULL (auto). *sm: 90 for a GPU of compute capability 9.0, 0 for the CPU. RT_DEVICE: a GPU was asked for
 * and there is none that works, with why. RT_USAGE: another word. What auto takes, and why, is told to notes, which may be NULL. */
bool device_choose(const char *wanted, int *sm, FILE *notes, RtError *e);
/* The same for a program that may have GPU code (gpu: NULL when not): its model for the device. Without GPU code auto is silent. */
const CnncModel *device_model(const CnncModel *cpu, const CnncModel *gpu, const char *wanted, FILE *notes, RtError *e);
#endif
