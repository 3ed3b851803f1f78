/* What the files of Winograd convolutions share: the forms, and their one-dimensional transforms as expressions of kernel k. */
#ifndef CNNC_CODEGEN_WINOGRAD_IMPL_H
#define CNNC_CODEGEN_WINOGRAD_IMPL_H
#include "codegen/winograd.h"

enum { MAX_A = 8, MAX_R = 5, WINOGRAD_FORMS = 4 };
extern const WinogradForm winograd_forms[WINOGRAD_FORMS];

void winograd_input_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *d, ExprId *o);      /* o[a] = B' d[a] */
void winograd_weight_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *tap, ExprId *u);   /* u[a] = G tap[r] */
void winograd_output_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *s, ExprId *y);     /* y[m] = A' s[a] */
#endif
