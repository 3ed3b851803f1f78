/* Planned memory of a model at any batch, for report. */
#ifndef CNNC_FRONTEND_COMMANDS_MEMORY_H
#define CNNC_FRONTEND_COMMANDS_MEMORY_H
#include "frontend/driver.h"

/* context: the Compile. Bytes of weights, values, scratch, input and output as the planner places them; -1: no plan (the net
 * cannot be trained as the file says). */
int64_t memory_planned(void *context, int64_t batch, bool training);
#endif
