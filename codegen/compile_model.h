/* compile_model.c, for compile.c: parts of a Program's CnncModel. Tables live in the arena. */
#ifndef CNNC_CODEGEN_COMPILE_MODEL_H
#define CNNC_CODEGEN_COMPILE_MODEL_H
#include "codegen/compile.h"

const float *model_floats(Arena *a, const double *v, int64_t n);
/* A name for C of a net's: "model" when it has none. */
const char *model_symbol(Arena *a, const char *name);
/* p's symbol, and all of p->model but its tensors, functions and self-test. */
void model_fill(Arena *a, Program *p, const Module *m, const KernelList *l, const CompileOptions *o);
CnncFunction *model_function(Arena *a, const Function *f);
/* f does what is left after whole blocks by `single`, as far as that is quicker than a block more. */
void model_add_single(Arena *a, const Graph *g, CnncFunction *f, const Function *single);
#endif
