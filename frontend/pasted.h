/* Pasted Python that is no list of layers: a class with a forward(), or functional calls. */
#ifndef CNNC_FRONTEND_PASTED_H
#define CNNC_FRONTEND_PASTED_H
#include "ir/base/diag.h"

/* True: the text is such a class; reported, with the layers that could be read rewritten as .cnn. */
bool pasted_class(Arena *a, const Source *src, Diags *d);
#endif
