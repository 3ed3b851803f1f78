/* What the files of Winograd convolutions share: the forms, and their one-dimensional transforms as expressions of kernel k. */
#ifndef CNNC_CODEGEN_WINOGRAD_IMPL_H
#define CNNC_CODEGEN_WINOGRAD_IMPL_H
#include "codegen/winograd.h"

enum { MAX_A = 8, MAX_R = 5, WINOGRAD_FORMS = 4 };
typedef Vec(Kernel) WinogradKernels;
extern const WinogradForm winograd_forms[WINOGRAD_FORMS];

typedef void (*WinogradRow)(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *in, ExprId *out);
void winograd_input_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *d, ExprId *o);      /* o[a] = B' d[a] */
void winograd_weight_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *tap, ExprId *u);   /* u[a] = G tap[r] */
void winograd_output_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *s, ExprId *y);     /* y[m] = A' s[a] */
void winograd_spread_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *y, ExprId *z);     /* z[a] = A y[m] */
void winograd_taps_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *u, ExprId *tap);     /* tap[r] = G' u[a] */
/* out[n_out][n_out] = R in[n_in][n_in] R', where `row` is R. */
void winograd_square(KernelList *l, Kernel *k, const WinogradForm *f, WinogradRow row, const ExprId *in, int n_in, ExprId *out, int n_out);

/* The axis that is alone in f, with coefficient 1; -1: another shape. */
int winograd_unit_axis(const Affine *f, int n_axes);
/* The form for r x r taps, of at most that error, with the fewest products over h x w outputs; NULL: none. */
const WinogradForm *winograd_fewest_products(int r, double error, int64_t h, int64_t w);

/* winograd_dw.c: replaces kernel k, if it is a weight gradient for which it pays, by others appended to out. */
bool winograd_weight_gradient(KernelList *l, const NestTarget *t, const Kernel *k, bool images, double error, WinogradKernels *out);
#endif
