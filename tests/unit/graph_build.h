/* Small forward graphs for tests, built by hand as elaborate builds them. */
#ifndef CNNC_TESTS_GRAPH_BUILD_H
#define CNNC_TESTS_GRAPH_BUILD_H
#include "ir/graph.h"
#include "passes/pass.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    Arena *a;
    Graph *g;
    Source src;
    Diags d;
    ValueId at;
    Module m;
    int n;
} Build;

/* Layer spans are found by looking for their text in `text`; "" gives empty spans. */
static inline void build_begin(Build *b, const char *text, int rank, const int64_t *input, int64_t batch)
{
    memset(b, 0, sizeof *b);
    b->a = arena_new();
    b->src = source_from_text(b->a, "t.cnn", text, strlen(text));
    diags_init(&b->d, b->a, &b->src);
    b->g = graph_new(b->a, "t", batch);
    b->g->input_shape.rank = rank;
    for (int i = 0; i < rank; i++)
        b->g->input_shape.dim[i] = input[i];
    const char *at = strstr(text, "input(");
    Span span = at ? (Span){(uint32_t)(at - text), (uint32_t)(strchr(at, ')') + 1 - text)} : (Span){0, 0};
    b->at = b->g->input = node_out(b->g, graph_add_node(b->g, OP_INPUT, NULL, 0, NULL, -1, span), 0);
    b->m = (Module){.graph = b->g};
}

static inline Span build_find(const Build *b, const char *needle)
{
    const char *at = needle && *needle ? strstr(b->src.text, needle) : NULL;
    return at ? (Span){(uint32_t)(at - b->src.text), (uint32_t)(at - b->src.text + (long)strlen(needle))} : (Span){0, 0};
}

static inline LayerId build_layer(Build *b, const char *type, const char *text)
{
    Span span = build_find(b, text);
    Span *args = NEWN(b->a, Span, 16);
    vec_push(b->a, &b->g->layers,
             (Layer){.name = arena_printf(b->a, "%d", b->n++),
                     .type = type,
                     .span = span,
                     .used_at = span,
                     .arg_span = args,
                     .in = b->at});
    return (LayerId)b->g->layers.len - 1;
}

static inline void build_arg(Build *b, int index, const char *text_in_layer)
{
    Layer *l = &b->g->layers.at[b->g->layers.len - 1];
    const char *from = b->src.text + l->span.start, *at = strstr(from, text_in_layer);
    ((Span *)l->arg_span)[index] =
        (Span){(uint32_t)(at - b->src.text), (uint32_t)(at - b->src.text + (long)strlen(text_in_layer))};
}

static inline ValueId build_param(Build *b, const char *name, LayerId layer, bool weight)
{
    ParamAttrs p = {.init = INIT_UNIFORM, .weight_bound = weight, .trainable = true};
    return graph_add_param(b->g, arena_printf(b->a, "%s.%s", b->g->layers.at[layer].name, name), &p, NULL, layer,
                           b->g->layers.at[layer].span);
}

static inline NodeId build_node(Build *b, Op op, const ValueId *in, int n, const Attrs *attrs, LayerId layer)
{
    NodeId id = graph_add_node(b->g, op, in, n, attrs, layer, b->g->layers.at[layer].span);
    b->at = b->g->output = node_out(b->g, id, 0);
    b->g->layers.at[layer].out = b->at;
    return id;
}

static inline NodeId build_conv(Build *b, const ConvAttrs *c, const char *text)
{
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.conv = *c;
    LayerId l = build_layer(b, c->nd == 1 ? "Conv1d" : "Conv2d", text);
    ValueId w = build_param(b, "weight", l, true), bias = c->bias ? build_param(b, "bias", l, false) : 0;
    return build_node(b, OP_CONV, (ValueId[]){b->at, w, bias}, 3, &attrs, l);
}

/* Conv2d(in, out, k, stride=s, padding=p) */
static inline NodeId build_conv2d(Build *b, int64_t in, int64_t out, int64_t k, int64_t s, int64_t p, const char *text)
{
    ConvAttrs c = {.nd = 2,
                   .in_channels = in,
                   .out_channels = out,
                   .groups = 1,
                   .kernel = {k, k},
                   .stride = {s, s},
                   .dilation = {1, 1},
                   .pad_lo = {p, p},
                   .pad_hi = {p, p},
                   .bias = true};
    return build_conv(b, &c, text);
}

static inline NodeId build_pool(Build *b, Op op, const PoolAttrs *p, const char *text)
{
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.pool = *p;
    const char *type = op == OP_MAXPOOL ? p->nd == 1 ? "MaxPool1d" : "MaxPool2d" : p->nd == 1 ? "AvgPool1d" : "AvgPool2d";
    LayerId l = build_layer(b, type, text);
    return build_node(b, op, &b->at, 1, &attrs, l);
}

static inline NodeId build_maxpool2d(Build *b, int64_t k, const char *text)
{
    return build_pool(b, OP_MAXPOOL, &(PoolAttrs){.nd = 2, .kernel = {k, k}, .stride = {k, k}, .dilation = {1, 1}}, text);
}

static inline NodeId build_linear(Build *b, int64_t in, int64_t out, const char *text)
{
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.linear = (LinearAttrs){in, out, true};
    LayerId l = build_layer(b, "Linear", text);
    ValueId w = build_param(b, "weight", l, true), bias = build_param(b, "bias", l, false);
    return build_node(b, OP_LINEAR, (ValueId[]){b->at, w, bias}, 3, &attrs, l);
}

static inline NodeId build_flatten(Build *b, const char *text)
{
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.flatten = (FlattenAttrs){1, -1};
    return build_node(b, OP_RESHAPE, &b->at, 1, &attrs, build_layer(b, "Flatten", text));
}

static inline NodeId build_relu(Build *b, const char *text)
{
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.act.kind = ACT_RELU;
    return build_node(b, OP_ACT, &b->at, 1, &attrs, build_layer(b, "ReLU", text));
}

static inline char *build_messages(Build *b, DiagFormat format)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    diags_print(&b->d, f, format, false);
    fclose(f);
    return text;
}
#endif
