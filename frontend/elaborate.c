/* elaborate.c: walks the items of a file and of every block, loop and sequence, in order of text.
 * In: the syntax tree. Out: a Module: the graph with its layer table, and what train, normalize and labels say.
 * Invariant: a layer's row stands in the table after its contents; indices count every layer of a sequence, named or not;
 * after an error the walk goes on with a value of unknown shape.
 * The idea: control constructs vanish here: a loop is its body again and again into the same sequence. Only blocks, inner
 * Sequentials, residuals and concats open a sequence of their own, and with it a level of names. */
#include "frontend/elaborate_impl.h"
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

/* ---- layers ---- */

static const struct {
    const char *theirs, *help;
} foreign_layers[] = {
    {"Dense", "write Linear(_, units)"},
    {"BatchNormalization", "write BatchNorm2d(_)"},
    {"MaxPooling2D", "write MaxPool2d"},
    {"AveragePooling2D", "write AvgPool2d"},
    {"GlobalAveragePooling2D", "write AdaptiveAvgPool2d(1), Flatten()"},
    {"GlobalMaxPooling2D", "write AdaptiveMaxPool2d(1), Flatten()"},
    {"Activation", "write the activation itself: ReLU()"},
    {"InputLayer", "write input(C, H, W)"},
    {"Input", "write input(C, H, W)"},
    {"Reshape", "write Flatten()"},
    {"view", "write Flatten()"},
    {"CrossEntropyLoss", "a loss stands in train { loss = CrossEntropyLoss() }"},
    {"MSELoss", "a loss stands in train { loss = MSELoss() }"},
    {"SGD", "an optimizer stands in train { optimizer = SGD(lr=0.1) }"},
    {"Adam", "an optimizer stands in train { optimizer = Adam() }"},
    {"Add", "write residual { ... }"},
    {"Concatenate", "write concat { branch { ... } }"},
    {"Conv", "write Conv2d"},
    {"MaxPool", "write MaxPool2d"},
    {"AvgPool", "write AvgPool2d"},
    {"BatchNorm", "write BatchNorm2d"},
    {"LSTM", "only layers of convolutional networks are known"},
    {"Embedding", "only layers of convolutional networks are known"},
    {"ModuleList", "write the layers one after the other"},
    {"print", "leave it out: cnnc report shows the model"},
};

static ValueId unknown_layer(Elab *e, const Ast *ast)
{
    const char *const *layers = layer_names(e);
    Vec(const char *) names = {0};
    for (; *layers; layers++)
        vec_push(e->arena, &names, *layers);
    for (uint32_t i = 0; i < e->blocks.len; i++)
        vec_push(e->arena, &names, e->blocks.at[i]->text);
    static const char *const more[] = {"input", "normalize", "labels"};
    for (size_t i = 0; i < ARRAY_LEN(more) && ast->i; i++)
        vec_push(e->arena, &names, more[i]);
    vec_push(e->arena, &names, NULL);
    const char *near = nearest_word(ast->text, names.at);
    diag_error(e->diags, ast->text_span, "E0201", "unknown layer '%s'", ast->text);
    for (size_t i = 0; i < ARRAY_LEN(foreign_layers); i++) {
        if (!strcmp(foreign_layers[i].theirs, ast->text)) {
            diag_help(e->diags, "%s", foreign_layers[i].help);
            return unknown_value(e);
        }
    }
    if (near) {
        diag_help(e->diags, "did you mean %s?", near);
        diag_fix(e->diags, "%s", near);
    } else if (strchr(ast->text, '.')) {
        diag_help(e->diags, "only layers can stand here: F.relu(x) is written ReLU(), x.view(...) is Flatten()");
    }
    return unknown_value(e);
}

static bool not_yet(Elab *e, const Ast *ast)
{
    diag_error(e->diags, ast->text_span, "E0202", "%s is a layer of PyTorch that cnnc does not implement yet", ast->text);
    return false;
}

static ValueId leaf_layer(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    const LayerSpec *spec = layer_spec(ast->text);
    const char *name = next_name(e, seq, ast);
    if (!spec)
        return unknown_layer(e, ast);
    if (spec->state == LAYER_LATER)
        return not_yet(e, ast) ? in : unknown_value(e);
    LayerCall call = {.spec = spec, .ast = ast, .name = name};
    bool fine = layer_arguments(e, scope, &call);
    const char *type = spec->state == LAYER_LAZY ? spec->name + strlen("Lazy") : spec->name;
    call.layer = add_layer(e, name, type, ast, call.arg_span, in);
    ValueId out = fine ? spec->build(e, &call, in) : unknown_value(e);
    e->graph->layers.at[call.layer].out = out;
    return out;
}

/* ---- input, normalize, labels: written like layers, at the top of the file ---- */

static bool is_header(const Ast *ast)
{
    return ast->kind == AST_LAYER &&
           (!strcmp(ast->text, "input") || !strcmp(ast->text, "normalize") || !strcmp(ast->text, "labels"));
}

static ValueId header(Elab *e, Scope *scope, const Ast *ast, ValueId in)
{
    if (ast->label)
        diag_error(e->diags, ast->label_span, "E0205", "%s is not a layer and takes no name", ast->text);
    if (!strcmp(ast->text, "input")) {
        if (scope != e->globals) {
            diag_error(e->diags, ast->span, "E0207", "input(...) stands at the top of the file, not inside a block");
            return in;
        }
        elaborate_input(e, scope, ast);
        return e->past_input ? in : e->graph->input;
    }
    if (!strcmp(ast->text, "normalize"))
        elaborate_normalize(e, scope, ast);
    else
        elaborate_labels(e, scope, ast);
    return in;
}

/* The first layer asks for the input. */
static ValueId need_input(Elab *e, const Ast *ast, ValueId in)
{
    if (e->past_input)
        return in;
    e->past_input = true;
    e->first_layer = ast->span;
    return e->graph->input ? e->graph->input : unknown_value(e);
}

/* A use of features = Sequential(...): the sequence stands here, under the name or place of the use. */
static ValueId named_sequence(Elab *e, Seq *seq, Scope *scope, const Ast *assign, const Ast *use, ValueId in)
{
    const char *name = next_name(e, seq, use);
    Seq body = inner_sequence(e, seq, arena_printf(e->arena, "%s.", name), use);
    return e->stop ? unknown_value(e) : elaborate_items(e, &body, scope, assign->a, in);
}

static ValueId layer(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    if (is_header(ast))
        return header(e, scope, ast, in);
    in = need_input(e, ast, in);
    const Ast *block = find_block(e, ast->text), *sequence = ast->i ? NULL : find_sequence(e, ast->text);
    if (sequence)
        return named_sequence(e, seq, scope, sequence, ast, in);
    return block ? use_block(e, seq, scope, block, ast, in) : leaf_layer(e, seq, scope, ast, in);
}

/* ---- containers ---- */

static ValueId sequential(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    const char *name = next_name(e, seq, ast);
    Seq body = inner_sequence(e, seq, arena_printf(e->arena, "%s.", name), ast);
    return elaborate_items(e, &body, scope, ast, in);
}

static ValueId residual(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    in = need_input(e, ast, in);
    const char *name = next_name(e, seq, ast);
    Seq body = inner_sequence(e, seq, arena_printf(e->arena, "%s.body.", name), ast);
    Seq shortcut = inner_sequence(e, seq, arena_printf(e->arena, "%s.shortcut.", name), ast);
    Scope body_scope = {.up = scope}, shortcut_scope = {.up = scope};
    ValueId sum[2] = {elaborate_items(e, &body, &body_scope, ast->a, in), in};
    if (ast->b)
        sum[1] = elaborate_items(e, &shortcut, &shortcut_scope, ast->b, in);
    LayerId row = add_layer(e, name, "residual", ast, NULL, in);
    ValueId out = node_out(e->graph, graph_add_node(e->graph, OP_ADD, sum, 2, NULL, row, ast->span), 0);
    e->graph->layers.at[row].out = out;
    return out;
}

static ValueId concat(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    in = need_input(e, ast, in);
    const char *name = next_name(e, seq, ast);
    ValueId *parts = NEWN(e->arena, ValueId, ast->kids.len + 1);
    uint32_t n = 0;
    bool broken = false;
    for (uint32_t i = 0; i < ast->kids.len; i++) {
        const Ast *branch = ast->kids.at[i];
        if (branch->kind == AST_ERROR) {
            broken = true;
            continue;
        }
        Seq body = inner_sequence(e, seq, arena_printf(e->arena, "%s.%u.", name, n), ast);
        Scope own = {.up = scope};
        parts[n++] = elaborate_items(e, &body, &own, branch, in);
    }
    if (n == 0 || n > UINT16_MAX || broken) {
        if (!broken && n == 0)
            diag_error(e->diags, ast->span, "E0208", "concat has no branch");
        else if (!broken)
            diag_error(e->diags, ast->span, "E0208", "concat has more than %d branches", UINT16_MAX);
        return unknown_value(e);
    }
    Attrs a;
    memset(&a, 0, sizeof a);
    a.axis.axis = 1;
    LayerId row = add_layer(e, name, "concat", ast, NULL, in);
    ValueId out = node_out(e->graph, graph_add_node(e->graph, OP_CONCAT, parts, (int)n, &a, row, ast->span), 0);
    e->graph->layers.at[row].out = out;
    return out;
}

/* A printed class: its layers are known, the order in which forward() runs them is not. */
static ValueId printed_class(Elab *e, Seq *seq, const Ast *ast)
{
    next_name(e, seq, ast);
    diag_error(e->diags, ast->text_span, "E0110",
               "what %s computes cannot be read from its printed form: the order of its layers stands in its forward()",
               ast->text);
    diag_help(e->diags, "if they run in this order, write Sequential( in place of %s(", ast->text);
    return unknown_value(e);
}

/* ---- let and control ---- */

static Define *find_define(Elab *e, const char *name)
{
    for (int i = 0; i < e->options->n_defines; i++)
        if (!strcmp(e->options->defines[i].name, name))
            return &e->options->defines[i];
    return NULL;
}

/* The value of -D name=TEXT: what the text says as an expression of its own, else the text as a string. */
static Val define_value(Elab *e, const Define *define)
{
    Source src = source_from_text(e->arena, "-D", define->text, strlen(define->text));
    Diags aside, *diags = e->diags;
    Scope none = {0};
    diags_init(&aside, e->arena, &src);
    const Ast *ast = parse_expr(e->arena, &src, &aside);
    Val v = {.kind = VK_ERROR};
    e->diags = &aside;
    if (ast)
        v = eval(e, &none, ast);
    e->diags = diags;
    if (v.kind == VK_ERROR || v.kind == VK_CALL)
        v = (Val){.kind = VK_STR, .s = define->text};
    return v;
}

static void let(Elab *e, Scope *scope, const Ast *ast)
{
    const Scope *s = scope;
    for (; s; s = s->block ? NULL : s->up) {
        for (Binding *b = s->first; b; b = b->next) {
            if (strcmp(b->name, ast->text) != 0)
                continue;
            diag_error(e->diags, ast->text_span, "E0218", "'%s' is already defined", ast->text);
            diag_note(e->diags, b->span, "the first time is here");
            diag_help(e->diags, "a name keeps its value; choose another, or go through a list: for %s in [64, 128] { ... }",
                      ast->text);
            return;
        }
    }
    Define *define = scope == e->globals ? find_define(e, ast->text) : NULL;
    Val v = eval(e, scope, ast->a); /* the file must be right even where -D replaces it */
    if (define) {
        define->used = true;
        v = define_value(e, define);
        v.ast = ast->a; /* messages point into the file, not into the option */
        v.span = ast->a->span;
    }
    if (v.kind == VK_CALL) {
        diag_error(e->diags, v.span, "E0211", "unknown function '%s'", v.ast->text);
        v.kind = VK_ERROR;
    }
    scope_bind(e, scope, ast->text, v, ast->text_span);
}

static ValueId assign(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    const Ast *value = ast->a;
    if (find_sequence(e, ast->text) && value->kind == AST_SEQUENTIAL)
        return in; /* stands where its name is used */
    if (value->kind == AST_SEQUENTIAL)
        return sequential(e, seq, scope, value, in);
    bool is_layer =
        (value->kind == AST_CALL || value->kind == AST_NAME) && (layer_spec(value->text) || find_block(e, value->text));
    diag_error(e->diags, ast->text_span, "E0209", "'%s = ...' is neither a layer nor a let", ast->text);
    if (is_layer)
        diag_help(e->diags, "a layer's name stands before it with a colon: %s: %s(...)", ast->text, value->text);
    else if (value->kind == AST_LIST)
        diag_help(e->diags, "write the layers themselves, one a line, or let %s = ... for a list of numbers", ast->text);
    else
        diag_help(e->diags, "write let %s = ...", ast->text);
    return is_layer ? unknown_value(e) : in;
}

static ValueId repeat(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    Val n = eval(e, scope, ast->a);
    if (n.kind == VK_ERROR)
        return unknown_value(e);
    if (n.kind != VK_INT || n.i < 0) {
        diag_error(e->diags, n.span, "E0219", "repeat needs a count, not %s",
                   n.kind == VK_INT ? val_text(e->arena, &n) : val_kind_text(&n));
        return unknown_value(e);
    }
    for (int64_t i = 0; i < n.i && e_step(e, ast); i++) {
        Scope own = {.up = scope};
        in = elaborate_items(e, seq, &own, ast->b, in);
    }
    return in;
}

/* One turn of a for: the item goes to the names, taken apart where there are several. */
static bool bind_targets(Elab *e, Scope *own, const Ast *ast, const Val *item)
{
    if (ast->kids.len == 1) {
        scope_bind(e, own, ast->kids.at[0]->text, *item, ast->kids.at[0]->span);
        return true;
    }
    if (!val_is_list(item) || item->n != ast->kids.len)
        return diag_error(e->diags, item->span, "E0219", "for wants %u values here, not %s", ast->kids.len,
                          val_is_list(item) ? arena_printf(e->arena, "%u", item->n) : val_kind_text(item));
    for (uint32_t i = 0; i < item->n; i++)
        scope_bind(e, own, ast->kids.at[i]->text, item->at[i], ast->kids.at[i]->span);
    return true;
}

static ValueId for_each(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    Val list = eval(e, scope, ast->a);
    if (list.kind == VK_ERROR)
        return unknown_value(e);
    if (!val_is_list(&list)) {
        diag_error(e->diags, list.span, "E0219", "for goes through a list, not %s", val_kind_text(&list));
        if (list.kind == VK_INT)
            diag_help(e->diags, "write range(%" PRId64 ")", list.i);
        return unknown_value(e);
    }
    for (uint32_t i = 0; i < list.n && e_step(e, ast); i++) {
        Scope own = {.up = scope};
        if (!bind_targets(e, &own, ast, &list.at[i]))
            return unknown_value(e);
        in = elaborate_items(e, seq, &own, ast->b, in);
    }
    return in;
}

static ValueId if_else(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    Scope own = {.up = scope};
    uint32_t i = 0;
    for (; i + 1 < ast->kids.len; i += 2) {
        Val c = eval(e, scope, ast->kids.at[i]);
        if (c.kind == VK_ERROR)
            return unknown_value(e);
        if (val_is_true(&c))
            return elaborate_items(e, seq, &own, ast->kids.at[i + 1], in);
    }
    return i < ast->kids.len ? elaborate_items(e, seq, &own, ast->kids.at[i], in) : in;
}

void no_label(Elab *e, const Ast *ast, const char *what)
{
    if (ast->label)
        diag_error(e->diags, ast->label_span, "E0205", "%s adds no level and cannot have a name", what);
}

static ValueId item(Elab *e, Seq *seq, Scope *scope, const Ast *ast, ValueId in)
{
    switch (ast->kind) {
    case AST_LAYER:
        return layer(e, seq, scope, ast, in);
    case AST_SEQUENTIAL:
        return sequential(e, seq, scope, ast, in);
    case AST_RESIDUAL:
        return residual(e, seq, scope, ast, in);
    case AST_CONCAT:
        return concat(e, seq, scope, ast, in);
    case AST_PRINTED:
        return printed_class(e, seq, ast);
    case AST_LET:
        let(e, scope, ast);
        return in;
    case AST_ASSIGN:
        return assign(e, seq, scope, ast, in);
    case AST_BLOCK:
        define_block(e, ast);
        return in;
    case AST_REPEAT:
        no_label(e, ast, "repeat");
        return repeat(e, seq, scope, ast, in);
    case AST_FOR:
        no_label(e, ast, "for");
        return for_each(e, seq, scope, ast, in);
    case AST_IF:
        no_label(e, ast, "if");
        return if_else(e, seq, scope, ast, in);
    case AST_TRAIN:
        no_label(e, ast, "train");
        if (scope == e->globals)
            elaborate_train(e, ast);
        else
            diag_error(e->diags, ast->span, "E0207", "train { } stands at the top of the file, not inside a block");
        return in;
    case AST_ERROR:
        return unknown_value(e);
    default:
        BUG("an item of kind %d", ast->kind);
    }
}

ValueId elaborate_items(Elab *e, Seq *seq, Scope *scope, const Ast *list, ValueId in)
{
    for (uint32_t i = 0; i < list->kids.len && e_step(e, list); i++)
        in = item(e, seq, scope, list->kids.at[i], in);
    return in;
}

/* ---- the file ---- */

static bool makes_layers(const Ast *ast)
{
    return ast->kind != AST_LET && ast->kind != AST_BLOCK && ast->kind != AST_TRAIN && !is_header(ast);
}

/* A Sequential that is the whole model adds no level: its items take the place of the file's. */
static const Ast *whole_model(const Elab *e, const Ast *file)
{
    const Ast *found = NULL;
    for (uint32_t i = 0; i < file->kids.len; i++) {
        const Ast *ast = file->kids.at[i];
        if (!makes_layers(ast) || (ast->kind == AST_ASSIGN && find_sequence(e, ast->text)))
            continue;
        const Ast *seq = ast->kind == AST_ASSIGN ? ast->a : ast;
        if (found || seq->kind != AST_SEQUENTIAL || ast->label)
            return NULL;
        found = seq;
    }
    return found;
}

static ValueId walk_file(Elab *e, const Ast *file)
{
    Seq seq = {.prefix = ""};
    const Ast *whole = whole_model(e, file);
    ValueId now = e->graph->input;
    for (uint32_t i = 0; i < file->kids.len && e_step(e, file); i++) {
        const Ast *ast = file->kids.at[i];
        if (whole && (ast == whole || (ast->kind == AST_ASSIGN && ast->a == whole)))
            now = elaborate_items(e, &seq, e->globals, whole, now);
        else
            now = item(e, &seq, e->globals, ast, now);
    }
    return now;
}

static void check_file(Elab *e, const Ast *file)
{
    Span start = {0, 0};
    if (e->options->broken || e->stop)
        return;
    if (!e->has_input && !e->options->input) {
        diag_error(e->diags, e->past_input ? e->first_layer : start, "E0207", "no input(...) stands before the first layer");
        diag_help(e->diags, "write input(1, 28, 28) at the top: channels, height, width; or give --input-shape 1,28,28");
    } else if (!e->past_input && !e->diags->errors) {
        diag_error(e->diags, file->kids.len ? file->kids.at[file->kids.len - 1]->span : start, "E0208",
                   "the model has no layers");
    }
}

static void start_graph(Elab *e)
{
    const ElaborateOptions *o = e->options;
    e->graph = graph_new(e->arena, o->name, o->batch);
    e->module->graph = e->graph;
    e->module->train.train = train_defaults();
    e->graph->input_shape.rank = -1;
    if (o->input) {
        e->graph->input_shape = *o->input;
        e->graph->input = node_out(e->graph, graph_add_node(e->graph, OP_INPUT, NULL, 0, NULL, -1, (Span){0, 0}), 0);
    }
}

bool elaborate(Arena *a, const Ast *file, ElaborateOptions *options, Diags *d, Module *out)
{
    Scope globals = {0};
    *out = (Module){0};
    Elab e = {.arena = a, .diags = d, .module = out, .options = options, .globals = &globals};
    int before = d->errors;
    start_graph(&e);
    collect_blocks(&e, file);
    collect_sequences(&e, file);
    e.graph->output = walk_file(&e, file);
    if (!e.graph->output)
        e.graph->output = unknown_value(&e);
    check_file(&e, file);
    return d->errors == before;
}

const char *const *elaborate_let_names(Arena *a, const Ast *file)
{
    Vec(const char *) names = {0};
    for (uint32_t i = 0; i < file->kids.len; i++)
        if (file->kids.at[i]->kind == AST_LET)
            vec_push(a, &names, file->kids.at[i]->text);
    vec_push(a, &names, NULL);
    return names.at;
}

const char *elaborate_path(Arena *a, const char *folder, const char *path)
{
    bool own = !path || path[0] == '/' || !folder || !folder[0] || !strcmp(folder, ".");
    return own ? path : arena_printf(a, "%s/%s", folder, path);
}
