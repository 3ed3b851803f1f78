/* What shape errors have in common: where an argument stands, where a shape was made, the layer's text corrected.
 * In: the node under inference. Out: spans, texts, notes on the diagnostic reported last.
 * Invariant: nothing here changes the graph.
 * Idea: a message names both sides of a mismatch and points at both places: the argument that is wrong, and the layer
 * that made the other number (walking back over layers that keep the shape, such as ReLU). */
#include "passes/shape.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

/* ---- where arguments stand: Layer.arg_span is indexed as PyTorch's signature ---- */

enum { MOST_ARGS = 16 };
typedef struct {
    const char *type, *args[MOST_ARGS];
} Signature;
static const Signature SIGNATURES[] = {
#define ARG(name, ...)                     name
#define KEY(name, ...)                     name
#define LAYER(type, state, build, nd, ...) {type, {__VA_ARGS__}},
#include "ir/layers.def"
#undef LAYER
#undef KEY
#undef ARG
};

static int argument_index(const char *type, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(SIGNATURES); i++) {
        if (strcmp(SIGNATURES[i].type, type) != 0)
            continue;
        for (int k = 0; k < MOST_ARGS && SIGNATURES[i].args[k]; k++)
            if (strcmp(SIGNATURES[i].args[k], name) == 0)
                return k;
        return -1;
    }
    return -1;
}

/* A span that begins with `name =` loses that part: messages are about the value. */
static Span without_keyword(const Source *src, Span s, const char *name)
{
    size_t n = strlen(name);
    if (!src || s.end > src->len || s.end - s.start <= n || strncmp(src->text + s.start, name, n) != 0)
        return s;
    uint32_t i = s.start + (uint32_t)n;
    while (i < s.end && isspace((unsigned char)src->text[i]))
        i++;
    if (i >= s.end || src->text[i] != '=' || src->text[i + 1] == '=')
        return s;
    for (i++; i < s.end && isspace((unsigned char)src->text[i]); i++)
        ;
    return (Span){i, s.end};
}

bool infer_arg_written(const Infer *t, const char *name, Span *at)
{
    int i = t->layer && t->layer->arg_span ? argument_index(t->layer->type, name) : -1;
    if (i < 0 || t->layer->arg_span[i].end == 0)
        return false;
    *at = without_keyword(t->d->src, t->layer->arg_span[i], name);
    return true;
}

Span infer_arg(const Infer *t, const char *name)
{
    Span at;
    if (infer_arg_written(t, name, &at))
        return at;
    return t->layer ? t->layer->span : t->n->span;
}

const char *infer_type(const Infer *t) { return t->layer ? t->layer->type : op_text(t->n->op); }

/* ---- the user's text on one line ---- */

enum { LONGEST_QUOTE = 120 };

static const char *one_line(Arena *a, const char *text, uint32_t n)
{
    char *line = arena_alloc(a, n + 1);
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '#' || c == '\0')
            return "";
        if (!isspace(c))
            line[m++] = (char)c;
        else if (m && line[m - 1] != ' ')
            line[m++] = ' ';
    }
    line[m] = '\0';
    return m > LONGEST_QUOTE ? "" : line;
}

const char *infer_source(const Infer *t, Span s)
{
    if (!t->d->src || s.end > t->d->src->len || s.end <= s.start || s.end - s.start > 4 * LONGEST_QUOTE)
        return "";
    return one_line(t->g->arena, t->d->src->text + s.start, s.end - s.start);
}

const char *infer_rewrite(const Infer *t, const char *arg, const char *text)
{
    Span at, whole = t->layer ? t->layer->span : (Span){0, 0};
    if (!infer_arg_written(t, arg, &at) || at.start < whole.start || at.end > whole.end || !*infer_source(t, whole))
        return NULL;
    const char *s = t->d->src->text;
    char *all = arena_printf(t->g->arena, "%.*s%s%.*s", (int)(at.start - whole.start), s + whole.start, text,
                             (int)(whole.end - at.end), s + at.end);
    const char *line = one_line(t->g->arena, all, (uint32_t)strlen(all));
    return *line ? line : NULL;
}

/* ---- sizes in words ---- */

int64_t infer_batch(const Infer *t) { return t->g->batch > 1 ? t->g->batch : 64; }

const char *infer_sizes(const Infer *t, const Shape *s)
{
    Shape batched = *s;
    batched.dim[0] = infer_batch(t);
    return shape_text(t->g->arena, &batched, false);
}

const char *infer_sample(const Infer *t, const Shape *s)
{
    Arena *a = t->g->arena;
    const char *text = "[";
    for (int i = 1; i < s->rank; i++)
        text = s->dim[i] == UNKNOWN ? arena_printf(a, "%s%s?", text, i > 1 ? ", " : "")
                                    : arena_printf(a, "%s%s%" PRId64, text, i > 1 ? ", " : "", s->dim[i]);
    return arena_printf(a, "%s]", text);
}

/* ---- where a shape was made ---- */

static bool makes_shape(const Node *n)
{
    switch (n->op) {
    case OP_ACT:
    case OP_BATCHNORM:
    case OP_BN_TRAIN:
    case OP_DROPOUT:
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
        return false;
    default:
        return true;
    }
}

NodeId shape_origin(const Graph *g, ValueId v)
{
    NodeId id = graph_value(g, v)->def;
    while (id && !makes_shape(graph_node(g, id)) && graph_node(g, id)->in[0])
        id = graph_value(g, graph_node(g, id)->in[0])->def;
    return id;
}

static const char *flatten_text(const Infer *t, const Node *n)
{
    const Shape *in = &graph_value(t->g, n->in[0])->shape, *out = &graph_value(t->g, n->out[0])->shape;
    int start = n->attrs.flatten.start, end = n->attrs.flatten.end;
    if (start < 1 || end <= start || end >= in->rank)
        return arena_printf(t->g->arena, "keeps %s here", infer_sample(t, out));
    return arena_printf(t->g->arena, "%s becomes %s = %" PRId64 " here", infer_sample(t, in),
                        dims_text(t->g->arena, in->dim + start, end - start + 1, " * "), out->dim[start]);
}

void note_origin(Infer *t, ValueId v)
{
    NodeId id = shape_origin(t->g, v);
    if (!id)
        return;
    const Node *n = graph_node(t->g, id);
    Shape s = graph_value(t->g, v)->shape;
    if (n->op == OP_INPUT)
        diag_note(t->d, n->span, "the input is %s", infer_sample(t, &s));
    else if (n->op == OP_RESHAPE)
        diag_note(t->d, n->span, "%s", flatten_text(t, n));
    else
        diag_note(t->d, n->span, "makes %s here", infer_sample(t, &s));
}

static bool in_block(const Infer *t)
{
    return t->layer && t->layer->used_at.end &&
           (t->layer->used_at.start != t->layer->span.start || t->layer->used_at.end != t->layer->span.end);
}

void note_use(Infer *t)
{
    if (in_block(t))
        diag_note(t->d, t->layer->used_at, "in this use of the block (layer %s)", t->layer->name);
}

void help_argument(Infer *t, const char *arg, const char *text)
{
    Span at;
    const char *written = infer_arg_written(t, arg, &at) ? infer_source(t, at) : "";
    const char *fixed = infer_rewrite(t, arg, text), *inferred = infer_rewrite(t, arg, "_");
    if (in_block(t) && *written && strspn(written, "0123456789") != strlen(written) && inferred) {
        /* other uses of the block share this text, so it is not replaced */
        diag_help(t->d, "%s should be %s in this use; or write %s in the block to have it inferred", written, text, inferred);
        return;
    }
    if (fixed && inferred)
        diag_help(t->d, "write %s, or %s to have it inferred", fixed, inferred);
    else
        diag_help(t->d, "write %s here, or _ to have it inferred", text);
    if (*written)
        diag_fix(t->d, "%s", text);
}

/* ---- two errors of many layers ---- */

static const char *rank_help(const Infer *t, const Shape *in)
{
    const char *type = infer_type(t);
    const Node *from = graph_node(t->g, shape_origin(t->g, t->n->in[0]));
    size_t n = strlen(type);
    bool two_d = n > 2 && strcmp(type + n - 2, "2d") == 0, one_d = n > 2 && strcmp(type + n - 2, "1d") == 0;
    if (from->op == OP_INPUT && two_d && in->rank == 3)
        return arena_printf(t->g->arena,
                            "write input(1, %" PRId64 ", %" PRId64 "): channels come first, also when there is only one",
                            in->dim[1], in->dim[2]);
    if (from->op == OP_INPUT && two_d && in->rank == 2)
        return "pictures are given as input(channels, rows, columns)";
    if (from->op == OP_INPUT && one_d && in->rank == 2)
        return arena_printf(t->g->arena, "write input(1, %" PRId64 "): a signal has channels and a length", in->dim[1]);
    if (in->rank == 2 && strncmp(type, "BatchNorm", 9) == 0)
        return "BatchNorm1d normalises features";
    if (in->rank == 2)
        return arena_printf(t->g->arena, "rows and columns are gone after Flatten or Linear: put %s before them", type);
    if (in->rank == 3 || in->rank == 4)
        return arena_printf(t->g->arena, "%.*s%dd is for this shape", (int)(n - 2), type, in->rank - 2);
    return NULL;
}

static const char *rank_torch(const Infer *t, const Shape *in)
{
    const char *type = infer_type(t), *sizes = infer_sizes(t, in);
    Arena *a = t->g->arena;
    int nd = type[strlen(type) - 2] - '0';
    if (strncmp(type, "Conv", 4) == 0)
        return arena_printf(a, "Expected %dD (unbatched) or %dD (batched) input to conv%dd, but got input of size: %s", nd + 1,
                            nd + 2, nd, sizes);
    if (strncmp(type, "BatchNorm", 9) == 0)
        return nd == 1 ? arena_printf(a, "expected 2D or 3D input (got %dD input)", in->rank)
                       : arena_printf(a, "expected %dD input (got %dD input)", nd + 2, in->rank);
    if (strncmp(type, "Adaptive", 8) == 0 && nd == 2)
        return arena_printf(a, "adaptive_%s_pool2d(): Expected 3D or 4D tensor, but got%s %s",
                            strstr(type, "Max") ? "max" : "avg", strstr(type, "Max") ? ":" : "", sizes);
    if (nd == 2 && in->rank != 3)
        return "non-empty 3D or 4D (batch mode) tensor expected for input";
    return NULL;
}

bool bad_rank(Infer *t, const char *wants)
{
    Shape in = infer_in(t, 0);
    diag_error(t->d, t->layer ? t->layer->span : t->n->span, "E0302", "%s needs %s but receives %s", infer_type(t), wants,
               infer_sample(t, &in));
    note_origin(t, t->n->in[0]);
    note_use(t);
    const char *help = rank_help(t, &in), *torch = rank_torch(t, &in);
    if (help)
        diag_help(t->d, "%s", help);
    if (torch)
        diag_torch(t->d, "%s", torch);
    return false;
}

enum { LARGEST_SIZE = INT32_MAX };

void require_size(Infer *t, const char *arg, int64_t value, int64_t low, int *bad)
{
    if (value >= low && value <= LARGEST_SIZE)
        return;
    ++*bad;
    if (value > LARGEST_SIZE) {
        diag_error(t->d, infer_arg(t, arg), "E0319", "%s's %s = %" PRId64 " is too large: at most %d", infer_type(t), arg, value,
                   LARGEST_SIZE);
    } else {
        diag_error(t->d, infer_arg(t, arg), "E0306", "%s's %s must be at least %" PRId64 ", not %" PRId64, infer_type(t), arg,
                   low, value);
        if (strcmp(arg, "stride") == 0)
            diag_torch(t->d, "%s", value == 0 ? "stride should not be zero" : "non-positive stride is not supported");
        else if (strcmp(arg, "padding") == 0)
            diag_torch(t->d, "negative padding is not supported");
        else if (strcmp(arg, "groups") == 0)
            diag_torch(t->d, "groups must be a positive integer");
    }
    note_use(t);
}
