/* elaborate_args.c: PyTorch's signatures, and the written arguments matched with them.
 * In: a layer's arguments as written, its row of ir/layers.def. Out: one value per argument of the signature.
 * Invariant: after `true` every value has the kind its row asks for, and sizes come as an integer or as nd integers; ranges
 * (a stride of 0) are checked by shape inference, which knows more.
 * The idea: all that is known about a layer's arguments stands in its row; nothing here names a layer, but for the words
 * that people bring along from Keras. */
#include "frontend/elaborate_impl.h"
#include "frontend/elaborate_layers.h"
#include <inttypes.h>
#include <string.h>

/* clang-format off */
#define ARG(name, kind, def) {name, ARG_##kind, def, false}
#define KEY(name, kind, def) {name, ARG_##kind, def, true}
#define ARGS(...) (const ArgSpec[]){__VA_ARGS__ __VA_OPT__(,) {NULL, ARG_ANY, NULL, false}}
#define LAYER(name, state, build, nd, ...) \
    {name, LAYER_##state, build, nd, ARGS(__VA_ARGS__), (int)(sizeof(ARGS(__VA_ARGS__)) / sizeof(ArgSpec)) - 1},
/* clang-format on */
static const LayerSpec specs[] = {
#include "ir/layers.def"
};
#undef LAYER
#undef ARGS
#undef ARG
#undef KEY

const LayerSpec *layer_spec(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        if (specs[i].name[0] == name[0] && !strcmp(specs[i].name, name))
            return &specs[i];
    return NULL;
}

const char *const *layer_names(Elab *e)
{
    const char **names = NEWN(e->arena, const char *, ARRAY_LEN(specs) + 2);
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        names[i] = specs[i].name;
    names[ARRAY_LEN(specs)] = "Sequential";
    return names;
}

const char *signature_text(Arena *a, const LayerSpec *spec)
{
    const char *text = arena_printf(a, "%s(", spec->name);
    for (int i = spec->state == LAYER_LAZY; i < spec->n_args; i++) {
        const ArgSpec *arg = &spec->args[i];
        const char *comma = i > (spec->state == LAYER_LAZY) ? ", " : "";
        text = arg->def ? arena_printf(a, "%s%s%s=%s", text, comma, arg->name, arg->def)
                        : arena_printf(a, "%s%s%s", text, comma, arg->name);
    }
    return arena_printf(a, "%s)", text);
}

/* Python's text of a default as a value. */
static Val default_value(Elab *e, const ArgSpec *arg, const Ast *at)
{
    Val v = {.kind = VK_NONE, .ast = at, .span = at->span};
    const char *d = arg->def;
    if (!d) {
        v.kind = VK_INFER;
    } else if (d[0] == '\'') {
        v.kind = VK_STR;
        v.s = arena_strndup(e->arena, d + 1, strlen(d) - 2);
    } else if (!strcmp(d, "True") || !strcmp(d, "False")) {
        v.kind = VK_BOOL;
        v.i = d[0] == 'T';
    } else if (strcmp(d, "None") != 0) {
        bool whole = !strpbrk(d, ".e");
        v.kind = whole ? VK_INT : VK_FLOAT;
        if (whole)
            sscanf(d, "%" SCNd64, &v.i);
        else
            sscanf(d, "%lf", &v.f);
    }
    return v;
}

/* ---- which argument a keyword means ---- */

static const struct {
    const char *theirs, *ours;
} foreign_words[] = {
    {"filters", "out_channels"},
    {"strides", "stride"},
    {"pool_size", "kernel_size"},
    {"units", "out_features"},
    {"rate", "p"},
    {"dilation_rate", "dilation"},
    {"use_bias", "bias"},
    {"pad", "padding"},
    {"k", "kernel_size"},
    {"s", "stride"},
    {"num_filters", "out_channels"},
    {"axis", "dim"},
    {"epsilon", "eps"},
    {"alpha", "negative_slope"},
    {"kernel", "kernel_size"},
    {"kernal", "kernel_size"},
    {"slope", "negative_slope"},
    {"channels", "out_channels"},
    {"in", "in_channels"},
    {"out", "out_channels"},
};

static int find_arg(const LayerSpec *spec, const char *name)
{
    for (int i = 0; i < spec->n_args; i++)
        if (!strcmp(spec->args[i].name, name))
            return i;
    return -1;
}

/* The index of the argument that a wrong keyword probably means, or -1. */
static int guess_arg(const LayerSpec *spec, const char *name)
{
    const char *names[MAX_ARGS + 1] = {0};
    for (int i = 0; i < spec->n_args; i++)
        names[i] = spec->args[i].name;
    const char *near = nearest_word(name, names);
    if (near)
        return find_arg(spec, near);
    for (size_t i = 0; i < ARRAY_LEN(foreign_words); i++)
        if (!strcmp(foreign_words[i].theirs, name) && find_arg(spec, foreign_words[i].ours) >= 0)
            return find_arg(spec, foreign_words[i].ours);
    return -1;
}

/* ---- kinds ---- */

typedef struct {
    Elab *e;
    LayerCall *c;
    const ArgSpec *arg;
    Val *v;
} Checked;

/* "kernel_size of Conv2d" */
static const char *subject(const Checked *k) { return arena_printf(k->e->arena, "%s of %s", k->arg->name, k->c->spec->name); }

static bool wrong_kind(const Checked *k, const char *wants)
{
    const Val *v = k->v;
    if (v->kind == VK_CALL)
        return diag_error(k->e->diags, v->span, "E0211", "unknown function '%s'", v->ast->text);
    if (v->kind == VK_INFER) {
        diag_error(k->e->diags, v->span, "E0225", "%s cannot be inferred: '_' stands only for sizes that the input decides",
                   subject(k));
        if (k->c->spec->n_args && k->c->spec->args[0].kind == ARG_CHANNELS)
            diag_help(k->e->diags, "give %s; %s may be _", k->arg->name, k->c->spec->args[0].name);
        return false;
    }
    const char *shown = v->kind == VK_FLOAT || v->kind == VK_STR ? val_text(k->e->arena, v) : "";
    diag_error(k->e->diags, v->span, "E0224", "%s must be %s, not %s%s%s", subject(k), wants, val_kind_text(v),
               shown[0] ? " " : "", shown);
    if (v->kind == VK_FLOAT && v->f == (double)(int64_t)v->f && v->f > -1e15 && v->f < 1e15) {
        if (v->ast && v->ast->kind == AST_BINARY && v->ast->op == AO_DIV)
            diag_help(k->e->diags, "'/' gives a float; write // for whole numbers");
        else
            diag_help(k->e->diags, "write %" PRId64 ", or // where the number comes from a division", (int64_t)v->f);
    } else if (v->kind == VK_FLOAT) {
        diag_help(k->e->diags, "'/' gives a float; write // for whole numbers, which rounds down");
    }
    return false;
}

static bool check_size(const Checked *k, const char *wants) { return k->v->kind == VK_INT || wrong_kind(k, wants); }

/* One size, or nd of them (PyTorch takes one in brackets too), each an integer (or None). */
static bool check_sizes(const Checked *k, bool none_inside)
{
    static const char *const wants[] = {"an integer", "an integer", "an integer or a pair", "an integer or a triple"};
    Val *v = k->v;
    int nd = k->c->spec->nd;
    if (v->kind == VK_INT)
        return true;
    if (v->kind != VK_TUPLE && v->kind != VK_LIST)
        return wrong_kind(k, wants[nd]);
    if (v->n != (uint32_t)nd && v->n != 1)
        return diag_error(k->e->diags, v->span, "E0226", "%s takes 1 or %d sizes, not %u", subject(k), nd, v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        Val item = v->at[i];
        Checked one = *k;
        one.v = &item;
        if (!(none_inside && item.kind == VK_NONE) && !check_size(&one, none_inside ? "integers or None" : "integers"))
            return false;
    }
    return true;
}

static bool check_number(const Checked *k)
{
    double x;
    return (k->v->kind != VK_BOOL && val_number(k->v, &x)) || wrong_kind(k, "a number");
}

static bool check_padding(const Checked *k)
{
    Val *v = k->v;
    if (v->kind != VK_STR && v->kind != VK_WORD)
        return check_sizes(k, false);
    bool word = v->kind == VK_WORD;
    v->kind = VK_STR;
    if (!strcmp(v->s, "same") || !strcmp(v->s, "valid"))
        return true;
    if (word)
        return diag_error(k->e->diags, v->span, "E0211", "unknown name '%s'", v->s);
    static const char *const words[] = {"same", "valid", NULL};
    diag_error(k->e->diags, v->span, "E0227", "%s must be numbers, 'same' or 'valid', not '%s'", subject(k), v->s);
    const char *near = nearest_word(v->s, words);
    if (near)
        diag_help(k->e->diags, "did you mean '%s'?", near);
    diag_torch(k->e->diags, "Invalid padding string '%s', should be one of {'valid', 'same'}", v->s);
    return false;
}

static bool check_kind(const Checked *k)
{
    Val *v = k->v;
    if (v->kind == VK_WORD && k->arg->kind != ARG_PADDING && k->arg->kind != ARG_WORD)
        return diag_error(k->e->diags, v->span, "E0211", "unknown name '%s'", v->s);
    switch (k->arg->kind) {
    case ARG_CHANNELS:
        return v->kind == VK_INFER || check_size(k, "an integer or _");
    case ARG_SIZE:
        return check_size(k, "an integer");
    case ARG_SIZES:
        return check_sizes(k, false);
    case ARG_SIZES_OR_NONE:
        return v->kind == VK_NONE || check_sizes(k, false);
    case ARG_OUT_SIZES:
        return v->kind == VK_NONE || check_sizes(k, true);
    case ARG_PADDING:
        return check_padding(k);
    case ARG_INT:
        return check_size(k, "an integer");
    case ARG_INT_OR_NONE:
        return v->kind == VK_NONE || check_size(k, "an integer or None");
    case ARG_NUMBER:
        return check_number(k);
    case ARG_NUMBER_OR_NONE:
        return v->kind == VK_NONE || check_number(k);
    case ARG_BOOL:
        return v->kind == VK_BOOL || (v->kind == VK_INT && (v->i == 0 || v->i == 1)) || wrong_kind(k, "True or False");
    case ARG_WORD:
        if (v->kind == VK_WORD)
            v->kind = VK_STR;
        return v->kind == VK_STR || wrong_kind(k, "a string");
    case ARG_FILTER:
    case ARG_ANY:
        return true;
    }
    return true;
}

/* ---- matching ---- */

/* frozen, device and dtype: taken by every layer. True: the keyword was one of them. */
static bool common_keyword(Elab *e, Scope *scope, LayerCall *c, const Ast *arg)
{
    if (!strcmp(arg->text, "frozen")) {
        Val v = eval(e, scope, arg->a);
        if (v.kind == VK_BOOL)
            c->frozen = v.i != 0;
        else if (v.kind != VK_ERROR)
            diag_error(e->diags, v.span, "E0224", "frozen of %s must be True or False, not %s", c->spec->name, val_kind_text(&v));
        return true;
    }
    if (!strcmp(arg->text, "dtype")) {
        const Ast *a = arg->a;
        bool fine =
            a->kind == AST_NONE || (a->kind == AST_NAME && (strstr(a->text, "float32") || !strcmp(a->text, "torch.float")));
        if (!fine)
            diag_error(e->diags, a->span, "E0224", "dtype of %s must be torch.float32", c->spec->name);
        return true;
    }
    return !strcmp(arg->text, "device");
}

static bool unknown_keyword(Elab *e, LayerCall *c, const Ast *arg, bool *excused)
{
    int guess = guess_arg(c->spec, arg->text);
    diag_error(e->diags, arg->text_span, "E0221", "%s has no argument '%s'", c->spec->name, arg->text);
    if (guess >= 0) {
        diag_help(e->diags, "did you mean %s?", c->spec->args[guess].name);
        diag_fix(e->diags, "%s", c->spec->args[guess].name);
        excused[guess] = true;
    } else {
        diag_help(e->diags, "its arguments are %s", signature_text(e->arena, c->spec));
    }
    diag_torch(e->diags, "%s.__init__() got an unexpected keyword argument '%s'", c->spec->name, arg->text);
    return false;
}

/* `ArgSpec` index for the next positional argument, or -1. */
static int next_positional(const LayerSpec *spec, int *position)
{
    while (*position < spec->n_args && spec->args[*position].keyword_only)
        (*position)++;
    return *position < spec->n_args ? (*position)++ : -1;
}

static bool store(Elab *e, Scope *scope, LayerCall *c, int i, const Ast *whole, const Ast *value)
{
    const ArgSpec *arg = &c->spec->args[i];
    if (c->arg_span[i].end) {
        diag_error(e->diags, whole->span, "E0222", "%s of %s is given twice", arg->name, c->spec->name);
        diag_note(e->diags, c->arg_span[i], "the first time is here");
        diag_torch(e->diags, "%s.__init__() got multiple values for argument '%s'", c->spec->name, arg->name);
        return false;
    }
    c->arg_span[i] = whole->span;
    if (arg->kind == ARG_ANY)
        return true;
    bool word = arg->kind == ARG_PADDING || arg->kind == ARG_WORD;
    Val v = word ? eval_word(e, scope, value) : eval(e, scope, value);
    c->arg[i] = v;
    return v.kind != VK_ERROR && check_kind(&(Checked){.e = e, .c = c, .arg = arg, .v = &c->arg[i]});
}

static bool too_many(Elab *e, LayerCall *c, const Ast *arg)
{
    int most = 0;
    for (int i = c->spec->state == LAYER_LAZY; i < c->spec->n_args; i++)
        most += !c->spec->args[i].keyword_only;
    diag_error(e->diags, arg->span, "E0223", "%s takes at most %d argument%s", c->spec->name, most, most == 1 ? "" : "s");
    diag_help(e->diags, "its arguments are %s", signature_text(e->arena, c->spec));
    return false;
}

static bool is_zero(const Ast *ast) { return ast->kind == AST_INT && ast->i == 0; }

/* The layer as written with `_` put in front, where that would be right; NULL otherwise. */
static const char *with_blank(Elab *e, const LayerCall *c)
{
    const Source *src = e->diags->src;
    const Ast *ast = c->ast;
    uint32_t required = 0;
    for (int i = 0; i < c->spec->n_args; i++)
        required += !c->spec->args[i].def;
    for (uint32_t i = 0; i < ast->kids.len; i++)
        if (ast->kids.at[i]->kind == AST_ARG && !strcmp(ast->kids.at[i]->text, c->spec->args[0].name))
            return NULL;
    if (c->spec->state == LAYER_LAZY || !c->spec->n_args || c->spec->args[0].kind != ARG_CHANNELS || !ast->kids.len ||
        ast->kids.len + 1 < required)
        return NULL;
    Span args = span_join(ast->kids.at[0]->span, ast->kids.at[ast->kids.len - 1]->span);
    if (args.end - args.start > 80 || memchr(src->text + args.start, '\n', args.end - args.start))
        return NULL;
    return arena_printf(e->arena, "%s(_, %.*s)", c->spec->name, (int)(args.end - args.start), src->text + args.start);
}

static bool report_missing(Elab *e, LayerCall *c, int first, const char *all, int n)
{
    diag_error(e->diags, c->ast->span, "E0220", "%s is missing %s", c->spec->name, all);
    const char *blank = n == 1 ? with_blank(e, c) : NULL;
    if (blank)
        diag_help(e->diags, "write %s to have %s inferred", blank, c->spec->args[0].name);
    else
        diag_help(e->diags, "its arguments are %s", signature_text(e->arena, c->spec));
    diag_torch(e->diags, "%s.__init__() missing %d required positional argument%s: '%s'", c->spec->name, n, n == 1 ? "" : "s",
               c->spec->args[first].name);
    return false;
}

/* Defaults for what was not written; CHANNELS are inferred; anything else required is missing. */
static bool fill_in(Elab *e, LayerCall *c, const bool *excused)
{
    const char *missing = NULL;
    int n = 0, first = -1;
    bool excuse = false;
    for (int i = 0; i < c->spec->n_args; i++) {
        if (c->arg_span[i].end && c->spec->args[i].kind != ARG_ANY)
            continue;
        c->arg[i] = default_value(e, &c->spec->args[i], c->ast);
        if (c->spec->args[i].def || c->spec->args[i].kind == ARG_CHANNELS || c->arg_span[i].end)
            continue;
        if (excused[i]) {
            excuse = true;
            continue;
        }
        missing = missing ? arena_printf(e->arena, "%s and %s", missing, c->spec->args[i].name) : c->spec->args[i].name;
        first = first < 0 ? i : first;
        n++;
    }
    if (!missing)
        return !excuse;
    return report_missing(e, c, first, missing, n);
}

bool layer_arguments(Elab *e, Scope *scope, LayerCall *c)
{
    const Ast *ast = c->ast;
    bool fine = true, excused[MAX_ARGS] = {0}, after_keyword = false, lazy = c->spec->state == LAYER_LAZY;
    int position = lazy;
    c->arg_span = NEWN(e->arena, Span, MAX_ARGS);
    if (!strcmp(c->spec->name, "Identity"))
        return true; /* takes anything, uses nothing */
    for (uint32_t i = 0; i < ast->kids.len; i++) {
        const Ast *arg = ast->kids.at[i];
        if (arg->kind == AST_ARG) {
            after_keyword = true;
            int at = find_arg(c->spec, arg->text);
            if (at >= 0)
                fine &= (lazy && at == 0 && is_zero(arg->a)) || store(e, scope, c, at, arg, arg->a);
            else if (c->spec->state == LAYER_SETTING || !common_keyword(e, scope, c, arg))
                fine &= unknown_keyword(e, c, arg, excused);
            continue;
        }
        if (lazy && i == 0 && is_zero(arg))
            continue; /* a printed lazy layer: 0 stands for "not known yet" */
        int at = next_positional(c->spec, &position);
        if (after_keyword)
            fine &= diag_error(e->diags, arg->span, "E0228", "an argument without a name follows one with a name");
        else if (at < 0)
            return too_many(e, c, arg);
        if (!after_keyword || (at >= 0 && !c->arg_span[at].end))
            fine &= store(e, scope, c, at, arg, arg);
    }
    return fill_in(e, c, excused) && fine;
}

const Val *layer_arg(const LayerCall *c, const char *name)
{
    int i = find_arg(c->spec, name);
    if (i < 0)
        BUG("%s has no argument %s", c->spec->name, name);
    return &c->arg[i];
}
