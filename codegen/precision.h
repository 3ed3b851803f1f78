/* precision: which values are stored as bf16, and contractions over pairs of them.
 *
 * `--precision bf16` permits bf16, it does not force it: operands of convolutions and Linear are stored in it where that saves time;
 * sums, what follows them, the net's input and output stay float32. Weights that training changes stay float32 as well and are
 * rounded anew in every call.
 *
 * A CPU that multiplies pairs takes two neighbours along a summed axis (the input channels) in one instruction. They lie side by
 * side in memory: Layout.paired, or neighbours of one block or row. */
#ifndef CNNC_CODEGEN_PRECISION_H
#define CNNC_CODEGEN_PRECISION_H
#include "codegen/nest.h"

typedef enum { PRECISION_F32, PRECISION_TF32, PRECISION_BF16 } Precision;   /* TF32: of products on GPUs; nothing is stored in it */

/* SUM(x * w) of two loads, alone in its kernel. c: the summed axis that can run in pairs (-1: not looked for), and the dims it indexes. */
typedef struct { ExprId sum; AccessId x, w; int c; int x_dim, w_dim; } Product;
bool product_find(const Kernel *k, Product *p);
/* The operands change places: products are looked at with the weights in w. */
void product_turn(Product *p);
/* Fills in c: false: no summed axis can run in pairs. */
bool product_pairs(const Kernel *k, Product *p);

/* Before `choose`, of which it relies on the layouts: operands of contractions become bf16. Adds kernels that round weights in state and
 * the net's input. With tiles, what only maxima read on its way to them becomes bf16 as well. images: LAYOUT_IMAGES. A target without
 * lanes (a GPU) has one copy of each weight, and its products round the input as they read it. */
void precision_narrow(KernelList *l, const NestTarget *t, bool images);
/* Before `choose`: only weights of Linear layers that are read once a call (a batch below the lanes) become bf16. */
void precision_narrow_weights(KernelList *l, bool images);
/* After `choose`: sums of products of bf16 run over pairs (EX_DOT) where the layouts of both operands have them. */
void precision_pair(KernelList *l);
#endif
