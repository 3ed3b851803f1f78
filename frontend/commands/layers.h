/* Inner values: the output of a layer by name, and of every layer by the reference interpreter. For run and verify. */
#ifndef CNNC_FRONTEND_COMMANDS_LAYERS_H
#define CNNC_FRONTEND_COMMANDS_LAYERS_H
#include "frontend/commands/code.h"
#include "runtime/samples.h"

/* The layer's index; -1: reported, with the nearest name. */
LayerId layers_find(const Graph *g, const char *name);
/* All values for the samples, in double. NULL: reported. */
RefRun *layers_run(CodeGen *c, const Samples *s);
#endif
