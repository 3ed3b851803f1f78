/* lower: a graph and its fusion groups become a list of kernels, free of any target.
 * Everything lives in the given arena; strings and tables may point into the graph. */
#ifndef CNNC_CODEGEN_LOWER_H
#define CNNC_CODEGEN_LOWER_H
#include "codegen/kernel.h"
#include "passes/pass.h"

/* Where parameters lie: in `state` (training and its eval), or among the constants (inference programs: parameters and
 * folded weights are BUF_CONST with `value` set and data NULL, filled in from the reference interpreter). */
typedef enum { PARAMS_IN_STATE, PARAMS_CONST } ParamPlace;

KernelList *lower(Arena *a, const Graph *g, const Fusion *f, ParamPlace params);
#endif
