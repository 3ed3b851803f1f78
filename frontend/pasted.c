/* pasted.c: recognises `class Net(nn.Module)` and helps to rewrite it.
 * In: the source text. Out: nothing, or one error whose help is a .cnn text to start from.
 * Invariant: this is a reading aid, never a compiler: what it could not read is named in a comment, nothing is guessed.
 * The idea: `self.NAME = nn.LAYER(...)` lines are the layers. The calls in forward(), sorted by where their brackets
 * close, are in the order of execution, because Python evaluates arguments first: relu(self.conv1(x)) is conv1, ReLU. */
#include "frontend/pasted.h"
#include "ir/base/vec.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *layer;
} Field; /* self.conv1 = nn.Conv2d(1, 6, 5) */
typedef struct {
    const char *name, *args;
    uint32_t at, close;
} Called;
typedef struct {
    Arena *a;
    const char *text;
    uint32_t len;
    Vec(Field) fields;
    Vec(Called) calls;
} Reader;

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

/* The text's next line start, or len. */
static uint32_t next_line(const Reader *r, uint32_t i)
{
    while (i < r->len && r->text[i] != '\n')
        i++;
    return i < r->len ? i + 1 : i;
}

static uint32_t skip_blanks(const Reader *r, uint32_t i)
{
    while (i < r->len && (r->text[i] == ' ' || r->text[i] == '\t'))
        i++;
    return i;
}

static bool starts_with(const Reader *r, uint32_t i, const char *word)
{
    size_t n = strlen(word);
    return i + n <= r->len && !memcmp(r->text + i, word, n);
}

/* The bracket that closes the one at i, or len. Strings and comments are stepped over. */
static uint32_t closing(const Reader *r, uint32_t i)
{
    int depth = 0;
    for (; i < r->len; i++) {
        char c = r->text[i];
        if (c == '#') {
            while (i + 1 < r->len && r->text[i + 1] != '\n')
                i++;
        } else if (c == '"' || c == '\'') {
            while (++i < r->len && r->text[i] != c && r->text[i] != '\n')
                ;
        } else if (strchr("([{", c) && c) {
            depth++;
        } else if (strchr(")]}", c) && c && --depth == 0) {
            return i;
        }
    }
    return r->len;
}

/* A piece of the text on one line, without "nn." */
static const char *one_line(const Reader *r, uint32_t from, uint32_t to)
{
    char *out = arena_alloc(r->a, to - from + 1);
    uint32_t n = 0;
    for (uint32_t i = from; i < to; i++) {
        bool fresh = i == 0 || !is_word(r->text[i - 1]);
        if (fresh && starts_with(r, i, "torch.nn."))
            i += 8;
        else if (fresh && starts_with(r, i, "nn."))
            i += 2;
        else if (isspace((unsigned char)r->text[i])) {
            if (n && out[n - 1] != ' ')
                out[n++] = ' ';
        } else
            out[n++] = r->text[i];
    }
    return out;
}

/* NAME = LAYER(...) or self.NAME = LAYER(...) at the start of a line. */
static void read_field(Reader *r, uint32_t i)
{
    uint32_t name = starts_with(r, i, "self.") ? i + 5 : i, end = name;
    while (end < r->len && is_word(r->text[end]))
        end++;
    uint32_t value = skip_blanks(r, end);
    if (value >= r->len || r->text[value] != '=' || starts_with(r, value, "=="))
        return;
    value = skip_blanks(r, value + 1);
    uint32_t open = value;
    while (open < r->len && (is_word(r->text[open]) || r->text[open] == '.'))
        open++;
    if (open == value || open >= r->len || r->text[open] != '(')
        return;
    uint32_t close = closing(r, open);
    if (close == r->len)
        return;
    Field f = {arena_strndup(r->a, r->text + name, end - name), one_line(r, value, close + 1)};
    vec_push(r->a, &r->fields, f);
}

/* Every NAME(...) of a function's body, in any nesting. */
static void read_calls(Reader *r, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        if (r->text[i] == '#') {
            i = next_line(r, i) - 1;
            continue;
        }
        if (!is_word(r->text[i]) || (i > 0 && (is_word(r->text[i - 1]) || r->text[i - 1] == '.')))
            continue;
        uint32_t end = i;
        while (end < to && (is_word(r->text[end]) || r->text[end] == '.'))
            end++;
        if (end >= to || r->text[end] != '(')
            continue;
        uint32_t close = closing(r, end);
        if (close >= r->len)
            continue;
        Called c = {arena_strndup(r->a, r->text + i, end - i), one_line(r, end + 1, close), i, close};
        vec_push(r->a, &r->calls, c);
    }
}

static int by_close(const void *a, const void *b)
{
    const Called *x = a, *y = b;
    return x->close < y->close ? -1 : x->close > y->close;
}

/* Arguments after the first (the input), with its comma gone. */
static const char *rest_arguments(const char *args)
{
    int depth = 0;
    for (const char *c = args; *c; c++) {
        depth += *c == '(' || *c == '[';
        depth -= *c == ')' || *c == ']';
        if (*c == ',' && depth == 0) {
            c++;
            while (*c == ' ')
                c++;
            return c;
        }
    }
    return "";
}

static const struct {
    const char *call, *layer;
    bool takes_rest;
} functional[] = {
    {"relu", "ReLU", false},
    {"relu6", "ReLU6", false},
    {"leaky_relu", "LeakyReLU", true},
    {"elu", "ELU", true},
    {"selu", "SELU", false},
    {"gelu", "GELU", false},
    {"silu", "SiLU", false},
    {"mish", "Mish", false},
    {"sigmoid", "Sigmoid", false},
    {"tanh", "Tanh", false},
    {"max_pool2d", "MaxPool2d", true},
    {"avg_pool2d", "AvgPool2d", true},
    {"adaptive_avg_pool2d", "AdaptiveAvgPool2d", true},
    {"adaptive_max_pool2d", "AdaptiveMaxPool2d", true},
    {"dropout", "Dropout", false},
    {"dropout2d", "Dropout2d", false},
    {"softmax", "Softmax", true},
    {"log_softmax", "LogSoftmax", true},
    {"hardtanh", "Hardtanh", true},
    {"softplus", "Softplus", true},
    {"flatten", "Flatten", false},
    {"view", "Flatten", false},
    {"reshape", "Flatten", false},
};

/* One call of forward() as a layer; NULL: no layer (len, size, super ...). */
static const char *layer_of(const Reader *r, const Called *c)
{
    bool own = !strncmp(c->name, "self.", 5);
    for (uint32_t i = 0; i < r->fields.len; i++)
        if (!strcmp(r->fields.at[i].name, own ? c->name + 5 : c->name))
            return arena_printf(r->a, "%s: %s", r->fields.at[i].name, r->fields.at[i].layer);
    if (own)
        return arena_printf(r->a, "# %s(...) was not understood", c->name);
    const char *dot = strrchr(c->name, '.'), *name = dot ? dot + 1 : c->name;
    for (size_t i = 0; i < sizeof functional / sizeof *functional; i++)
        if (!strcmp(functional[i].call, name))
            return arena_printf(r->a, "%s(%s)", functional[i].layer, functional[i].takes_rest ? rest_arguments(c->args) : "");
    if (!strcmp(name, "cat"))
        return "# torch.cat: write concat { branch { ... } branch { ... } }";
    return NULL;
}

static const char *append_line(Arena *a, const char *text, const char *line)
{
    return arena_printf(a, "%s\n            %s", text, line);
}

/* The layers in the order of forward(), or of their definition when there is none. */
static const char *rewritten(Reader *r)
{
    const char *text = "";
    int n = 0;
    if (r->calls.len)
        qsort(r->calls.at, r->calls.len, sizeof *r->calls.at, by_close);
    for (uint32_t i = 0; i < r->calls.len && n < 200; i++) {
        const char *layer = layer_of(r, &r->calls.at[i]);
        if (layer) {
            text = append_line(r->a, text, layer);
            n++;
        }
    }
    for (uint32_t i = 0; i < r->fields.len && !r->calls.len && n < 200; i++, n++)
        text = append_line(r->a, text, arena_printf(r->a, "%s: %s", r->fields.at[i].name, r->fields.at[i].layer));
    return n ? text : NULL;
}

/* Where the indented body that starts after line `i` ends. */
static uint32_t body_end(const Reader *r, uint32_t i)
{
    uint32_t indent = skip_blanks(r, i) - i;
    for (uint32_t line = next_line(r, i); line < r->len; line = next_line(r, line)) {
        uint32_t start = skip_blanks(r, line);
        if (start < r->len && r->text[start] != '\n' && r->text[start] != '#' && start - line <= indent && r->text[start] != ')')
            return line;
    }
    return r->len;
}

/* x = F.relu(...), x = torch.flatten(...), return x */
static bool is_functional(const Reader *r, uint32_t i)
{
    uint32_t end = i;
    if (starts_with(r, i, "return "))
        return true;
    while (end < r->len && is_word(r->text[end]))
        end++;
    uint32_t value = skip_blanks(r, end);
    if (end == i || value >= r->len || r->text[value] != '=' || starts_with(r, value, "=="))
        return false;
    value = skip_blanks(r, value + 1);
    return starts_with(r, value, "F.") || (starts_with(r, value, "torch.") && !starts_with(r, value, "torch.nn."));
}

/* The first line that only Python has: its span, empty when there is none. */
static Span find_python(const Reader *r)
{
    for (uint32_t line = 0; line < r->len; line = next_line(r, line)) {
        uint32_t i = skip_blanks(r, line), end = next_line(r, line);
        bool class_line = starts_with(r, i, "class ") || starts_with(r, i, "def ");
        bool self_line = starts_with(r, i, "self.") || is_functional(r, i);
        if (!class_line && !self_line)
            continue;
        while (end > i && isspace((unsigned char)r->text[end - 1]))
            end--;
        if (self_line || memchr(r->text + i, '(', end - i) || r->text[end - 1] == ':')
            return (Span){i, end};
    }
    return (Span){0, 0};
}

bool pasted_class(Arena *a, const Source *src, Diags *d)
{
    Reader r = {.a = a, .text = src->text, .len = src->len};
    Span at = find_python(&r);
    if (at.end == 0)
        return false;
    for (uint32_t line = 0; line < r.len; line = next_line(&r, line)) {
        uint32_t i = skip_blanks(&r, line);
        if (starts_with(&r, i, "self.") || starts_with(&r, at.start, "x = ") || is_functional(&r, at.start))
            read_field(&r, i);
    }
    for (uint32_t line = 0; line < r.len; line = next_line(&r, line))
        if (starts_with(&r, skip_blanks(&r, line), "def forward"))
            read_calls(&r, next_line(&r, line), body_end(&r, line));
    if (!r.calls.len && is_functional(&r, at.start))
        read_calls(&r, 0, r.len);
    diag_error(d, at, "E0108", "this is Python code: a .cnn file lists layers, it has no classes, functions or forward()");
    const char *layers = rewritten(&r);
    if (layers)
        diag_help(d, "as far as it could be read, the same net is\n            input(C, H, W)%s", layers);
    else
        diag_help(d, "write input(C, H, W) and then the layers, one a line, in the order in which they run");
    return true;
}
