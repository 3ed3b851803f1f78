/* ast.c: constructors of the syntax tree, and its text form.
 * In: what the grammar's actions saw. Out: nodes in the parse's arena; --dump ast.
 * Invariant: an expression's depth never exceeds MAX_AST_DEPTH: a deeper one is reported once and becomes AST_ERROR, so that the
 * walkers that recurse over the tree cannot run out of stack.
 * The idea: one struct for all kinds; ast.h says which fields each kind uses. */
#include "frontend/ast.h"
#include "frontend/token.h"
#include <string.h>

Ast *ast_new(Parse *p, AstKind kind, Span span)
{
    Ast *n = NEW(p->arena, Ast);
    n->kind = kind;
    n->span = span;
    n->depth = 1;
    return n;
}

/* n is one deeper than its deepest child. */
static Ast *deepen(Parse *p, Ast *n)
{
    int deepest = 0;
    const Ast *fixed[] = {n->a, n->b, n->c};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (fixed[i] && fixed[i]->depth > deepest)
            deepest = fixed[i]->depth;
    for (uint32_t i = 0; i < n->kids.len; i++)
        if (n->kids.at[i]->depth > deepest)
            deepest = n->kids.at[i]->depth;
    if (deepest >= MAX_AST_DEPTH && n->kind < AST_ITEMS) {
        if (!p->too_deep)
            diag_error(p->diags, n->span, "E0107", "this nests deeper than %d levels", MAX_AST_DEPTH);
        p->too_deep = true;
        p->failed = true;
        return ast_new(p, AST_ERROR, n->span);
    }
    n->depth = n->kind < AST_ITEMS ? (uint16_t)(deepest + 1) : 1; /* items nest as brackets do: bounded by MAX_NESTING */
    return n;
}

Ast *ast_text(Parse *p, AstKind kind, Span span, const char *text, Span text_span)
{
    Ast *n = ast_new(p, kind, span);
    n->text = text;
    n->text_span = text_span;
    return n;
}

Ast *ast_int(Parse *p, Span span, int64_t v)
{
    Ast *n = ast_new(p, AST_INT, span);
    n->i = v;
    return n;
}

Ast *ast_float(Parse *p, Span span, double v)
{
    Ast *n = ast_new(p, AST_FLOAT, span);
    n->f = v;
    return n;
}

Ast *ast_kids(Parse *p, AstKind kind, Span span, AstList kids)
{
    Ast *n = ast_new(p, kind, span);
    n->kids = kids;
    return deepen(p, n);
}

Ast *ast_with(Parse *p, AstKind kind, Ast *a, Ast *b, Span span)
{
    Ast *n = ast_new(p, kind, span);
    n->a = a;
    n->b = b;
    return deepen(p, n);
}

Ast *ast_unary(Parse *p, AstOp op, Ast *a, Span span)
{
    Ast *n = ast_with(p, AST_UNARY, a, NULL, span);
    n->op = op;
    return n;
}

Ast *ast_binary(Parse *p, AstOp op, Ast *a, Ast *b, Span span)
{
    Ast *n = ast_with(p, AST_BINARY, a, b, span);
    n->op = op;
    return n;
}

static bool is_comparison(const Ast *n) { return n->kind == AST_BINARY && !n->paren && n->op >= AO_EQ && n->op <= AO_NOT_IN; }

Ast *ast_compare(Parse *p, AstOp op, Ast *a, Ast *b, Span span)
{
    const Ast *left = a;
    if (a->kind == AST_BINARY && !a->paren && a->op == AO_AND)
        left = a->b; /* the chain so far */
    if (!is_comparison(left))
        return ast_binary(p, op, a, b, span);
    Ast *next = ast_binary(p, op, left->b, b, span_join(left->b->span, b->span));
    return ast_binary(p, AO_AND, a, next, span);
}

Ast *ast_ternary(Parse *p, Ast *a, Ast *c, Ast *b, Span span)
{
    Ast *n = ast_new(p, AST_TERNARY, span);
    n->a = a;
    n->b = b;
    n->c = c;
    return deepen(p, n);
}

/* A bracket in it had to be closed: what stands there is a guess, about which nothing more is said. */
static bool is_repaired(const Parse *p, Span span)
{
    for (uint32_t i = 0; i < p->tokens->repaired.len; i++)
        if (p->tokens->repaired.at[i] >= span.start && p->tokens->repaired.at[i] < span.end)
            return true;
    return false;
}

Ast *ast_call(Parse *p, AstKind kind, const char *text, Span text_span, AstList args, Span span)
{
    if ((kind == AST_LAYER || kind == AST_CALL) && is_repaired(p, span))
        return ast_new(p, AST_ERROR, span);
    Ast *n = ast_text(p, kind, span, text, text_span);
    n->kids = args;
    return deepen(p, n);
}

Ast *ast_arg(Parse *p, const char *text, Span text_span, Ast *value, Span span)
{
    Ast *n = ast_text(p, AST_ARG, span, text, text_span);
    n->a = value;
    return deepen(p, n);
}

Ast *ast_label(Parse *p, const char *label, Span label_span, Ast *item, Span span)
{
    (void)p;
    item->label = label;
    item->label_span = label_span;
    item->span = span;
    return item;
}

void ast_push(Parse *p, AstList *list, Ast *item) { vec_push(p->arena, list, item); }

void ast_append(Parse *p, AstList *list, AstList more)
{
    for (uint32_t i = 0; i < more.len; i++)
        vec_push(p->arena, list, more.at[i]);
}

const char *ast_op_text(AstOp op)
{
    static const char *const text[] = {
        [AO_ADD] = "+", [AO_SUB] = "-",  [AO_MUL] = "*",         [AO_DIV] = "/",   [AO_FLOORDIV] = "//",
        [AO_MOD] = "%", [AO_POW] = "**", [AO_NEG] = "-",         [AO_POS] = "+",   [AO_NOT] = "not",
        [AO_EQ] = "==", [AO_NE] = "!=",  [AO_LT] = "<",          [AO_LE] = "<=",   [AO_GT] = ">",
        [AO_GE] = ">=", [AO_IN] = "in",  [AO_NOT_IN] = "not in", [AO_AND] = "and", [AO_OR] = "or",
    };
    return text[op];
}

static const char *kind_text(AstKind k)
{
    static const char *const text[] = {
        [AST_INT] = "int",
        [AST_FLOAT] = "float",
        [AST_STRING] = "string",
        [AST_BOOL] = "bool",
        [AST_NONE] = "None",
        [AST_INFER] = "_",
        [AST_NAME] = "name",
        [AST_TUPLE] = "tuple",
        [AST_LIST] = "list",
        [AST_UNARY] = "unary",
        [AST_BINARY] = "binary",
        [AST_TERNARY] = "if-else",
        [AST_INDEX] = "index",
        [AST_CALL] = "call",
        [AST_ARG] = "arg",
        [AST_STAR] = "star",
        [AST_ITEMS] = "items",
        [AST_LAYER] = "layer",
        [AST_SEQUENTIAL] = "sequential",
        [AST_PRINTED] = "printed",
        [AST_LET] = "let",
        [AST_ASSIGN] = "assign",
        [AST_BLOCK] = "block",
        [AST_TRAIN] = "train",
        [AST_REPEAT] = "repeat",
        [AST_FOR] = "for",
        [AST_IF] = "if",
        [AST_RESIDUAL] = "residual",
        [AST_CONCAT] = "concat",
        [AST_ERROR] = "error",
    };
    return text[k];
}

static void print_node(const Ast *n, FILE *to, int indent)
{
    fprintf(to, "%*s%s", indent * 2, "", kind_text(n->kind));
    if (n->kind == AST_INT || n->kind == AST_BOOL)
        fprintf(to, " %lld", (long long)n->i);
    if (n->kind == AST_FLOAT)
        fprintf(to, " %.17g", n->f);
    if (n->kind == AST_UNARY || n->kind == AST_BINARY)
        fprintf(to, " %s", ast_op_text(n->op));
    if (n->text)
        fprintf(to, n->kind == AST_STRING ? " \"%s\"" : " %s", n->text);
    if (n->label)
        fprintf(to, " label=%s", n->label);
    fprintf(to, " [%u,%u)\n", n->span.start, n->span.end);
    for (uint32_t i = 0; i < n->kids.len; i++)
        print_node(n->kids.at[i], to, indent + 1);
    const Ast *rest[] = {n->a, n->c, n->b}; /* if-else reads a, condition, b */
    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        if (rest[i])
            print_node(rest[i], to, indent + 1);
}

void ast_print(const Ast *ast, FILE *to) { print_node(ast, to, 0); }
