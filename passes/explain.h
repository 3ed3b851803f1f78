/* `cnnc explain`: the worked arithmetic of a layer, of one output number, of a code; weights printed as PyTorch prints them.
 * Reads a shaped module; owns nothing. */
#ifndef CNNC_PASSES_EXPLAIN_H
#define CNNC_PASSES_EXPLAIN_H
#include "passes/facts.h"
#include "passes/pass.h"

/* Every layer, one after the other. */
void explain_model(const Module *m, FILE *to);
/* The layers called `name` ("0", "conv2", "3.body.0"), or of that type ("Conv2d"). False: none; *nearest a known name or NULL. */
bool explain_layer(const Module *m, const char *name, FILE *to, const char **nearest);
/* The layer called `name` or the first of that type, -1: none. */
LayerId explain_find(const Graph *g, const char *name);
/* "E0307", "W02" or a warning's name; false: no such code. */
bool explain_code(const char *code, FILE *to);
void explain_warnings(FILE *to); /* `explain warnings`: all codes and names */

/* One output value as its sum: channel k at row y, column x (1-D: y = 0; Linear: k). x0: one sample's input to the layer,
 * w, b its weight and bias (b may be NULL), all row-major. False: *why says what does not fit. */
typedef struct {
    const double *x, *w, *b;
    int64_t k, row, column;
} ExplainPixel;
bool explain_pixel(const Graph *g, LayerId layer, const ExplainPixel *p, FILE *to, const char **why);

/* A layer's output [C, H, W] (or [H, W]) as pictures of characters, dark to light, with each channel's range: what
 * `--image` shows of a filter. At most `most` channels. */
void explain_print_maps(FILE *to, const Shape *s, const double *values, int64_t most);

/* As PyTorch prints a tensor: "tensor([[...]])", 4 decimals, 80 columns, summarised above 1000 elements. `suffix` stands
 * before the last bracket ("requires_grad=True") or is NULL. integer: an int64 tensor. */
void explain_print_tensor(FILE *to, const Shape *s, const double *values, bool integer, const char *suffix);
/* Name, torch.Size and values: what print(layer.weight.shape) and print(layer.weight) show. */
void explain_print_weight(FILE *to, const char *name, const Shape *s, const double *values, const ParamAttrs *p, bool integer);

/* ---- between explain's files ---- */
typedef struct {
    const Module *m;
    const Graph *g;
    FILE *to;
    Arena *a;
    const Facts *facts;
    const LayerFacts *f;
    const Node *n; /* the layer's main node, NULL for Identity */
    bool brief;    /* one of many: only this layer's step of the receptive field */
    bool told;     /* this kind of layer was explained before: numbers only */
} Explain;
void explain_kind(const Explain *e);   /* explain_kinds.c: the paragraphs of this kind of layer */
void explain_window(const Explain *e); /* explain_window.c: convolution and pooling */
void explain_field(const Explain *e);  /* explain_field.c: the receptive field step by step */
void explain_say(const Explain *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* wrapped at 100 columns, indented */
void explain_head(const Explain *e, const char *head);
const char *explain_number(const Explain *e, int64_t n); /* with separators */
#endif
