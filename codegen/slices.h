/* slices: how a kernel on outputs is cut, so that any number of threads shares it evenly. */
#ifndef CNNC_CODEGEN_SLICES_H
#define CNNC_CODEGEN_SLICES_H
#include "codegen/nest.h"

/* Sets slice_axis, slice_size and the inner cut of a scheduled nest that no strip or batch cuts; leaves it whole when it is too small. */
void cut_nest(const KernelList *l, Nest *n, const NestTarget *t);
#endif
