/* What the files of Winograd convolutions share: the forms, and their one-dimensional transforms as expressions of kernel k. */
#ifndef CNNC_CODEGEN_WINOGRAD_IMPL_H
#define CNNC_CODEGEN_WINOGRAD_IMPL_H
#include "codegen/winograd.h"

enum { MAX_A = 8, MAX_R = 5, WINOGRAD_FORMS = 7, WINOGRAD_ROW_FORMS = 4 };
typedef Vec(Kernel) WinogradKernels;
extern const WinogradForm winograd_forms[WINOGRAD_FORMS], winograd_row_forms[WINOGRAD_ROW_FORMS];   /* both ways; down the rows alone */

typedef void (*WinogradRow)(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *in, ExprId *out);
void winograd_input_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *d, ExprId *o);      /* o[a] = B' d[a] */
void winograd_weight_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *tap, ExprId *u);   /* u[a] = G tap[r] */
void winograd_output_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *s, ExprId *y);     /* y[m] = A' s[a] */
void winograd_spread_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *y, ExprId *z);     /* z[a] = A y[m] */
void winograd_taps_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *u, ExprId *tap);     /* tap[r] = G' u[a] */
/* out[n_out][n_out] = R in[n_in][n_in] R', where `row` is R. */
void winograd_square(KernelList *l, Kernel *k, const WinogradForm *f, WinogradRow row, const ExprId *in, int n_in, ExprId *out, int n_out);

/* out[a][a] = B' in[a][a] B, and out[m][m] = A' in[a][a] A, written down in an order that leaves few values waiting: transforms are
 * emitted in it. order[i]: which of `out` is known as the i-th, and should be stored then. */
void winograd_input_square(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *in, ExprId *out, int *order);
void winograd_output_square(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *in, ExprId *out, int *order);

/* The form for r x r taps, of at most that error, with the fewest products over h x w outputs; NULL: none. */
const WinogradForm *winograd_fewest_products(int r, double error, int64_t h, int64_t w);

/* A convolution on its way to Winograd: what winograd_recognise finds from l and k; then what is made of it. */
typedef struct {
    KernelList *l;
    const NestTarget *t;              /* or NULL: another's */
    const Kernel *k;                  /* the direct convolution */
    ExprId sum;
    AccessId x, w;
    int n, kk, p, q;                  /* axes of k: batch, output channel, rows, columns */
    int64_t channels, filters, height, width, pad_h, pad_w;
    int r;                            /* taps of a row */
    int stride;                       /* of both dims */
    bool flip;                        /* taps run backwards: a data gradient */
    int filter_dim;                   /* of the weights: 0, or 1 in a data gradient */

    int taps;                         /* stride > 1: of a row; r is of a phase, and channels are s^2 times the input's */
    const WinogradForm *form;
    int m, a;                         /* the form's: tile of outputs, tile of inputs */
    int64_t batch, th, tw;            /* images; tiles down and across */
    int64_t rows, group;              /* of a slice: rows of tiles, a divisor of th; images, more than one only of whole images */
    bool images;                      /* images in the lanes */
    double error;                     /* of the forms allowed, at most */
    bool narrow;                      /* V and U are bf16 */
    BufId v, u, prod;
} WinogradConv;
/* winograd_find.c: k is a convolution, or a data gradient of stride 1, of r x r taps, of weights; fills in what it is made of. */
bool winograd_recognise(WinogradConv *w);
/* The kernel that transforms weights which change from step to step, by w->form into buffer w->u. */
Kernel *winograd_weights_kernel(WinogradConv *w);

/* A kernel that runs over tiles: its axes of images, of rows of tiles (row rows * z + i; i: -1 where a strip is one row), of tiles across
 * or, in a form down the rows alone, of columns (tw), and of channels or filters. t: tiles of a strip, in a product. */
typedef struct { Kernel *k; int n, z, i, tw, t, c; } WinogradAxes;
/* Output (i, j) of a tile: an access of the direct kernel there; its epilogue with `value` for the sum, and the output it goes to. */
AccessId winograd_access(WinogradConv *w, const WinogradAxes *a, AccessId from, int i, int j);
void winograd_output(WinogradConv *w, const WinogradAxes *a, ExprId value, int i, int j);
/* Of r taps at each of n outputs along one dim, those that are not on padding. */
int64_t winograd_taps_inside(int64_t n, int r, int64_t pad, int64_t inputs);
/* winograd_cost.c: whether w's convolution pays by tiles both ways: sets its form, sizes of tiles, and narrow. */
bool winograd_pays(WinogradConv *w);
/* winograd_phases.c: w's strided convolution seen as one of stride 1 over the phases of its input: taps and channels; and made one:
 * replaces w->k, and appends to out what makes phases of the input and of weights that are no constants. */
void winograd_count_phases(WinogradConv *w);
/* The channels of phases that have r taps down, across, both: the only ones that are not zero at infinity there. */
typedef struct { int64_t first, count; } WinogradRange;
WinogradRange winograd_full_phases(const WinogradConv *w, bool down, bool across);
void winograd_over_phases(WinogradConv *w, WinogradKernels *out);
/* winograd_down.c: whether w's convolution pays by a form down the rows alone, with columns in the lanes: sets w->form; and the kernels
 * of that form, appended to out. */
bool winograd_rows_pay(WinogradConv *w);
void winograd_along_rows(WinogradConv *w, WinogradKernels *out);

/* The same for a weight gradient. */
typedef struct {
    KernelList *l;
    const NestTarget *t;                   /* or NULL: another's */
    const Kernel *k;                       /* the direct gradient */
    double error;                          /* of a form, at most */
    ExprId sum;
    AccessId x, dy;
    int n, filter, c, p, q, r, s;          /* axes of k */
    int64_t filters, channels, height, width, blocks;   /* of dy; blocks of images */
    const WinogradForm *form;
    int m, a;
    int64_t th, tw;
    bool images;                           /* images in the lanes; else channels */
    int per;                               /* images a block: L */
    bool strips;                           /* V and Z strip by strip, M one a block of images; else V and Z of the whole batch */
    int panel;                             /* channels of a slice of M and D; 0: all */
    BufId rows, z, v, prod, taps;
} WinogradGradient;
/* winograd_dw.c: k is the gradient of a convolution's weights; fills in its operands and axes. */
bool winograd_recognise_gradient(WinogradGradient *g);
/* Replaces kernel k, if it is a weight gradient for which it pays, by others appended to out. */
bool winograd_weight_gradient(KernelList *l, const NestTarget *t, const Kernel *k, bool images, double error, WinogradKernels *out);
#endif
