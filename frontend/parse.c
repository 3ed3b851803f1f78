/* parse.c: starting the parser, feeding it tokens, and saying in plain words what it did not expect.
 * In: a source text. Out: its syntax tree; diagnostics E01xx.
 * Invariant: one message per broken item. Tokens that were already complained about (BAD) cause none.
 * The idea: bison knows which tokens could have stood here; most of that list is noise, so the message names what was
 * found, and the expectation only where it is short or says what to type. */
#include "frontend/ast.h"
#include "frontend/parser_util.h"
#include "parser.h"
#include <string.h>

enum { MAX_SYNTAX_ERRORS = 100 };

const Token *parse_next_token(Parse *p)
{
    static const Token resync = {.kind = T_RESYNC};
    static const Token starts[] = {{.kind = T_START_FILE}, {.kind = T_START_EXPR}};
    static const Token eof = {.kind = 0};
    Tokens *t = p->tokens;
    if (p->start) {
        const Token *marker = &starts[p->start == T_START_EXPR];
        p->start = 0;
        return marker;
    }
    if (t->resync) {
        t->resync = false;
        return &resync;
    }
    if (t->next >= t->list.len)
        return &eof;
    t->last = t->next++;
    return &t->list.at[t->last];
}

/* What the user sees for a token: its own text, in quotes. */
static const char *found_text(Parse *p, const Token *t)
{
    if (t->kind == T_NEWLINE)
        return "end of the line";
    if (t->kind == T_END)
        return "end of the file";
    uint32_t n = t->span.end - t->span.start;
    const char *text = arena_strndup(p->arena, p->src->text + t->span.start, n < 40 ? n : 40);
    return t->kind == T_STRING ? arena_printf(p->arena, "string %s", text) : arena_printf(p->arena, "'%s'", text);
}

static bool starts_value(int kind)
{
    return kind == T_NAME || kind == T_CALLNAME || kind == T_INT || kind == T_FLOAT || kind == T_STRING || kind == T_TRUE ||
           kind == T_FALSE || kind == T_NONE || kind == T_UNDERSCORE || kind == '(' || kind == '[';
}

static bool expects(const char *const *expected, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(expected[i], name))
            return true;
    return false;
}

/* "a, b or c" of up to four expectations; NULL when there are more. */
static const char *expected_text(Parse *p, const char *const *expected, int n)
{
    if (n < 1 || n > 4)
        return NULL;
    const char *text = expected[0];
    for (int i = 1; i < n; i++)
        text = arena_printf(p->arena, "%s%s%s", text, i == n - 1 ? " or " : ", ", expected[i]);
    return text;
}

/* Mistakes with a meaning of their own. True: reported. */
static bool report_special(Parse *p, const Token *t, const Token *before)
{
    Diags *d = p->diags;
    if (t->kind == '=' && before && (before->kind == T_CALLNAME || before->kind == ')')) {
        diag_error(d, t->span, "E0105", "'=' does not belong here");
    } else if (t->kind == T_SHORTCUT) {
        diag_error(d, t->span, "E0105", "'shortcut' follows the '}' of a residual");
        diag_help(d, "write residual { ... } shortcut { ... }");
    } else if (t->kind == T_BRANCH) {
        diag_error(d, t->span, "E0105", "'branch' stands only inside concat { }");
        diag_help(d, "write concat { branch { ... } branch { ... } }");
    } else if (t->kind == T_ELSE || t->kind == T_ELIF) {
        diag_error(d, t->span, "E0105", "'%s' without an 'if' before it", t->text);
    } else if (t->kind == ':' && tokens_control_line(p->tokens, p->tokens->last) != UINT32_MAX) {
        diag_error(d, t->span, "E0105", "unexpected ':'");
        diag_help(d, "write { in its place and } at the end");
    } else if (t->kind == ':' && before && before->kind == ')') {
        diag_error(d, t->span, "E0105", "unexpected ':'");
        diag_help(d, "blocks are written with { }, a layer's name stands before it: conv1: Conv2d(...)");
    } else if (t->kind == '{' && before && before->kind == T_NAME) {
        diag_error(d, t->span, "E0105", "unexpected '{' after '%s'", before->text);
        diag_help(d, "blocks are block, repeat, for, if, residual, concat, branch and train");
    } else if (t->kind == '{' && before && before->kind == T_REPEAT) {
        diag_error(d, t->span, "E0105", "'repeat' needs a count");
        diag_help(d, "write repeat 3 { ... }");
    } else if (before && before->kind == T_LET) {
        diag_error(d, t->span, "E0105", "'let' needs a name here");
        diag_help(d, "write let width = 6; a keyword cannot be a name");
    } else {
        return false;
    }
    return true;
}

void parse_report_syntax_error(Parse *p, Span at, const char *const *expected, int n)
{
    Tokens *ts = p->tokens;
    const Token *t = &ts->list.at[ts->last], *before = ts->last > 0 ? &ts->list.at[ts->last - 1] : NULL;
    p->failed = true;
    bool again = ts->failed_at == ts->last && ts->last > 0;
    if (++p->n_errors > MAX_SYNTAX_ERRORS) {
        if (p->n_errors == MAX_SYNTAX_ERRORS + 1)
            diag_error(p->diags, at, "E0105", "too many syntax errors, reading stops here");
        ts->next = ts->last = ts->list.len - 1;
        ts->resync = true;
        return;
    }
    bool put_in = t->kind != T_END && t->span.start == t->span.end; /* a bracket that was reported as missing */
    if (t->kind != T_BAD && !(before && before->kind == T_BAD) && !again && !put_in && !report_special(p, t, before)) {
        const char *found = found_text(p, t), *want = expected_text(p, expected, n);
        bool comma = expects(expected, n, "','") && starts_value(t->kind) && expects(expected, n, "')'");
        if (comma)
            diag_error(p->diags, at, "E0105", "missing ',' before %s", found);
        else if (want)
            diag_error(p->diags, at, "E0105", "unexpected %s, expected %s", found, want);
        else if (expects(expected, n, "a string") && !expects(expected, n, "'+'"))
            diag_error(p->diags, at, "E0105", "unexpected %s, expected a value", found);
        else
            diag_error(p->diags, at, "E0105", "unexpected %s", found);
        if (expects(expected, n, "branch"))
            diag_help(p->diags, "concat holds branches: branch { ... }");
    }
    tokens_recover(ts);
}

Ast *parse_star(Parse *p, Ast *value, Span span)
{
    diag_error(p->diags, span, "E0106", "'*' cannot spread a list here");
    diag_help(p->diags, "write the layers themselves, or for c in [...] { ... }");
    p->failed = true;
    (void)value;
    return ast_new(p, AST_ERROR, span);
}

Ast *parse_colon_setting(Parse *p, const char *name, Span name_span, Span colon, Ast *value, Span span)
{
    diag_error(p->diags, colon, "E0105", "settings are written with '='");
    diag_help(p->diags, "write %s = ...", name);
    diag_fix(p->diags, " =");
    return ast_arg(p, name, name_span, value, span);
}

static void run(Parse *p, Arena *a, const Source *src, Diags *d, int start)
{
    Tokens *tokens = NEW(a, Tokens);
    *p = (Parse){.arena = a, .diags = d, .src = src, .tokens = tokens, .start = start};
    int before = d->errors;
    tokens_read(tokens, a, src, d);
    if (d->errors > before)
        p->failed = true;
    if (cnn_parse(p) != 0)
        p->failed = true;
}

Ast *parse_file(Arena *a, const Source *src, Diags *d, bool *broken)
{
    Parse p;
    run(&p, a, src, d, T_START_FILE);
    if (!p.result)
        p.result = ast_new(&p, AST_ITEMS, (Span){0, 0});
    *broken = p.failed;
    return p.result;
}

Ast *parse_expr(Arena *a, const Source *src, Diags *d)
{
    Parse p;
    run(&p, a, src, d, T_START_EXPR);
    return p.failed ? NULL : p.result;
}
