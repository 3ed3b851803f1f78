/* tokens.c: from the raw list of words to the list the parser reads.
 * In: Tokens.raw. Out: Tokens.list, ending with END.
 * Invariant: in the list every bracket has its partner (Token.match), a line end stands only where it separates, a name
 * directly followed by "(" on its line is a CALLNAME. What was missing is reported here and put in, what was too much left
 * out, so that one forgotten bracket is one message.
 * The idea: three walks. pair_brackets finds partners with a stack; close_open_ones decides where a forgotten bracket
 * should have been closed (at the end of its line); rewrite copies, dropping line ends inside ( and [. */
#include "frontend/ast.h"
#include "frontend/token.h"
#include "parser.h"
#include <string.h>

enum { NO_MATCH = UINT32_MAX };

typedef struct {
    Tokens *t;
    uint32_t *match;      /* per raw token: its partner, or NO_MATCH */
    uint32_t *close_here; /* per raw token: how many brackets to close in front of it */
    bool *drop;           /* per raw token: leave it out */
    Vec(uint32_t) open;   /* stack of raw indices */
} Pairing;

static bool is_open(int k) { return k == '(' || k == '[' || k == '{'; }
static bool is_close(int k) { return k == ')' || k == ']' || k == '}'; }
static int partner(int k) { return k == '(' ? ')' : k == '[' ? ']' : '}'; }
static const Token *raw_at(const Pairing *w, uint32_t i) { return &w->t->raw.at[i]; }

/* "(" of Sequential(, or one whose content starts with a printed label: layers stand in it. */
static bool holds_layers(const Tokens *t, uint32_t i)
{
    if (i > 0 && t->raw.at[i - 1].kind == T_NAME && !strcmp(t->raw.at[i - 1].text, "Sequential"))
        return true;
    while (++i < t->raw.len && t->raw.at[i].kind == T_NEWLINE)
        ;
    return i < t->raw.len && t->raw.at[i].kind == T_LABEL;
}

/* The line end where bracket `open` should have been closed: the first outside its inner brackets. */
static uint32_t end_of_line(const Pairing *w, uint32_t open)
{
    for (uint32_t i = open + 1; i < w->t->raw.len; i++) {
        if (raw_at(w, i)->kind == T_NEWLINE)
            return i;
        if (is_open(raw_at(w, i)->kind) && w->match[i] != NO_MATCH && !w->drop[i])
            i = w->match[i];
        else if (is_close(raw_at(w, i)->kind) && !w->drop[i])
            return i; /* the partner of an outer one */
    }
    return w->t->raw.len;
}

static void report_unclosed(Pairing *w, uint32_t open, uint32_t at)
{
    const Token *o = raw_at(w, open);
    diag_error(w->t->diags, o->span, "E0103", "'%c' is never closed", o->kind);
    if (open > 0 && raw_at(w, open - 1)->kind == T_NAME && o->kind == '(')
        diag_help(w->t->diags, "put ')' after the arguments of %s", raw_at(w, open - 1)->text);
    else
        diag_help(w->t->diags, "put '%c' where it ends", partner(o->kind));
    vec_push(w->t->arena, &w->t->repaired, o->span.start);
    w->match[open] = at; /* no real partner, but a place to jump to */
    w->close_here[at]++;
}

static void pop_unclosed(Pairing *w, bool at_line_end, uint32_t here)
{
    uint32_t open = w->open.at[--w->open.len];
    bool to_end = raw_at(w, open)->kind == '{';
    report_unclosed(w, open, at_line_end ? end_of_line(w, open) : to_end ? here : end_of_line(w, open));
}

static void pair_close(Pairing *w, uint32_t i)
{
    int kind = raw_at(w, i)->kind;
    uint32_t depth = w->open.len;
    while (depth > 0 && partner(raw_at(w, w->open.at[depth - 1])->kind) != kind)
        depth--;
    if (depth == 0) {
        diag_error(w->t->diags, raw_at(w, i)->span, "E0103", "'%c' closes nothing", kind);
        w->drop[i] = true;
        return;
    }
    while (w->open.len > depth)
        pop_unclosed(w, false, i);
    w->match[w->open.at[--w->open.len]] = i;
    w->match[i] = w->open.at[w->open.len];
}

/* Could the word at i begin an item, and never go on with an expression? */
static bool starts_item(int kind)
{
    return kind == T_NAME || kind == T_LET || kind == T_BLOCK || kind == T_REPEAT || kind == T_RESIDUAL || kind == T_CONCAT ||
           kind == T_TRAIN || kind == T_LABEL;
}

/* A line end inside argument brackets after a complete value, followed by a word: the bracket was forgotten. */
static void check_line_end(Pairing *w, uint32_t i)
{
    int before = i > 0 ? raw_at(w, i - 1)->kind : 0;
    bool complete = before == T_NAME || before == T_INT || before == T_FLOAT || before == T_STRING || before == T_TRUE ||
                    before == T_FALSE || before == T_NONE || before == T_UNDERSCORE || before == ')' || before == ']';
    uint32_t next = i + 1;
    while (next < w->t->raw.len && raw_at(w, next)->kind == T_NEWLINE)
        next++;
    if (!complete || next >= w->t->raw.len || !starts_item(raw_at(w, next)->kind))
        return;
    while (w->open.len) {
        uint32_t open = w->open.at[w->open.len - 1];
        if (raw_at(w, open)->kind == '{' || (raw_at(w, open)->kind == '(' && holds_layers(w->t, open)))
            return;
        w->open.len--;
        report_unclosed(w, open, i);
    }
}

/* Finds every bracket's partner. False: nested too deeply, reported. */
static bool pair_brackets(Pairing *w)
{
    for (uint32_t i = 0; i < w->t->raw.len; i++) {
        int kind = raw_at(w, i)->kind;
        if (is_open(kind)) {
            vec_push(w->t->arena, &w->open, i);
            if (w->open.len > MAX_NESTING)
                return diag_error(w->t->diags, raw_at(w, i)->span, "E0107", "brackets nest deeper than %d", MAX_NESTING);
        } else if (is_close(kind)) {
            pair_close(w, i);
        } else if (kind == T_NEWLINE && w->open.len && raw_at(w, w->open.at[w->open.len - 1])->kind != '{') {
            check_line_end(w, i);
        }
    }
    while (w->open.len)
        pop_unclosed(w, false, w->t->raw.len);
    return true;
}

typedef struct {
    Pairing *w;
    Vec(uint32_t) open; /* stack of indices into Tokens.list */
} Rewriting;

static Token *emit(Rewriting *r, Token token)
{
    vec_push(r->w->t->arena, &r->w->t->list, token);
    return &r->w->t->list.at[r->w->t->list.len - 1];
}

static void emit_close(Rewriting *r, Token token)
{
    Tokens *t = r->w->t;
    if (r->open.len) {
        uint32_t open = r->open.at[--r->open.len];
        token.kind = partner(t->list.at[open].kind);
        t->list.at[open].match = t->list.len;
        emit(r, token);
    }
}

/* A line end separates at the top and directly inside braces, except where the construct plainly goes on. */
static bool separates(const Rewriting *r, uint32_t next)
{
    const Tokens *t = r->w->t;
    if (r->open.len && t->list.at[r->open.at[r->open.len - 1]].kind != '{')
        return false;
    while (next < t->raw.len && t->raw.at[next].kind == T_NEWLINE)
        next++;
    int kind = next < t->raw.len ? t->raw.at[next].kind : T_END;
    return kind != '{' && kind != T_SHORTCUT && kind != T_ELSE && kind != T_ELIF;
}

static void emit_word(Rewriting *r, uint32_t i)
{
    const Tokens *t = r->w->t;
    Token token = t->raw.at[i];
    bool called = i + 1 < t->raw.len && t->raw.at[i + 1].kind == '(';
    if (called)
        token.kind = !strcmp(token.text, "Sequential")    ? T_SEQUENTIAL
                     : !strcmp(token.text, "OrderedDict") ? T_ORDEREDDICT
                                                          : T_CALLNAME;
    emit(r, token);
}

/* Brackets that hold items, so that reading can go on inside them after an error: braces and Sequential's, but not
 * those of an OrderedDict. */
static bool starts_list(const Tokens *t, uint32_t i)
{
    if (t->raw.at[i].kind == '{')
        return i == 0 || t->raw.at[i - 1].kind != '(';
    bool sequential = i > 0 && t->raw.at[i - 1].kind == T_NAME && !strcmp(t->raw.at[i - 1].text, "Sequential");
    uint32_t next = i + 1;
    while (next < t->raw.len && t->raw.at[next].kind == T_NEWLINE)
        next++;
    bool ordered = next + 1 < t->raw.len && t->raw.at[next].kind == T_NAME && !strcmp(t->raw.at[next].text, "OrderedDict") &&
                   t->raw.at[next + 1].kind == '(';
    return t->raw.at[i].kind == '(' && sequential && !ordered;
}

static void rewrite(Pairing *w)
{
    Rewriting r = {.w = w};
    Tokens *t = w->t;
    uint32_t end = t->src->len;
    for (uint32_t i = 0; i <= t->raw.len; i++) {
        for (uint32_t n = 0; n < w->close_here[i]; n++) {
            uint32_t at = i < t->raw.len ? t->raw.at[i].span.start : end;
            emit_close(&r, (Token){.span = {at, at}});
        }
        if (i == t->raw.len || w->drop[i])
            continue;
        Token token = t->raw.at[i];
        if (is_open(token.kind)) {
            token.layer_list = starts_list(t, i);
            vec_push(t->arena, &r.open, t->list.len);
            emit(&r, token);
        } else if (is_close(token.kind)) {
            emit_close(&r, token);
        } else if (token.kind == T_NAME) {
            emit_word(&r, i);
        } else if (token.kind == T_NOT && i + 1 < t->raw.len && t->raw.at[i + 1].kind == T_IN) {
            token.kind = T_NOTIN;
            token.span.end = t->raw.at[++i].span.end;
            emit(&r, token);
        } else if (token.kind != T_NEWLINE || separates(&r, i + 1)) {
            emit(&r, token);
        }
    }
    while (r.open.len) /* after "nested too deeply" */
        emit_close(&r, (Token){.span = {end, end}});
    emit(&r, (Token){.kind = T_END, .span = {end, end}});
}

void tokens_read(Tokens *t, Arena *a, const Source *src, Diags *d)
{
    *t = (Tokens){.arena = a, .src = src, .diags = d};
    tokens_scan(t);
    uint32_t n = t->raw.len;
    Pairing w = {.t = t, .match = NEWN(a, uint32_t, n + 1), .close_here = NEWN(a, uint32_t, n + 1), .drop = NEWN(a, bool, n + 1)};
    for (uint32_t i = 0; i < n; i++)
        w.match[i] = NO_MATCH;
    if (!pair_brackets(&w)) { /* nothing sensible can be read any more */
        t->raw.len = 0;
        w.close_here[0] = 0;
    }
    rewrite(&w);
}

/* May an item begin with this token, or a list end with it? */
static bool is_boundary(int kind)
{
    return kind == T_NEWLINE || kind == ',' || kind == ';' || kind == '}' || kind == ')' || kind == T_END || kind == T_CALLNAME ||
           kind == T_SEQUENTIAL || kind == T_LABEL || kind == T_LET || kind == T_BLOCK || kind == T_REPEAT || kind == T_FOR ||
           kind == T_RESIDUAL || kind == T_CONCAT || kind == T_TRAIN || kind == T_BRANCH;
}

/* Blanks in front of a token that is the first of its line; UINT32_MAX: it is not the first. */
static uint32_t indent_of(const Tokens *t, uint32_t i)
{
    uint32_t at = t->list.at[i].span.start, start = at;
    while (start > 0 && t->src->text[start - 1] != '\n')
        start--;
    for (uint32_t c = start; c < at; c++)
        if (t->src->text[c] != ' ' && t->src->text[c] != '\t')
            return UINT32_MAX;
    return at - start;
}

uint32_t tokens_control_line(const Tokens *t, uint32_t at)
{
    for (uint32_t i = at; i > 0 && t->list.at[i - 1].kind != T_NEWLINE; i--) {
        int kind = t->list.at[i - 1].kind;
        if (kind == T_FOR || kind == T_IF || kind == T_ELIF || kind == T_ELSE || kind == T_REPEAT)
            return i - 1;
    }
    return UINT32_MAX;
}

/* After Python's `for x in y:`: past the indented lines, and the else: that belongs to them. */
static uint32_t skip_indented(const Tokens *t, uint32_t header, uint32_t i)
{
    uint32_t base = indent_of(t, header);
    while (t->list.at[i].kind != T_END && t->list.at[i].kind != '}') {
        int kind = t->list.at[i].kind;
        uint32_t indent = kind == T_NEWLINE ? UINT32_MAX : indent_of(t, i);
        if (indent <= base && kind != T_ELSE && kind != T_ELIF)
            break;
        i = is_open(kind) ? t->list.at[i].match + 1 : i + 1;
    }
    return i;
}

void tokens_recover(Tokens *t)
{
    /* The innermost list of items around the error, and the outermost bracket in it that the error is in, if any. */
    uint32_t at = t->last, outer = NO_MATCH, i = at;
    if (at == t->list.len - 1 && t->failed_at == at) {
        t->next = t->list.len; /* nothing is left to resume with: the parser ends */
        return;
    }
    for (uint32_t k = 0; k < at; k++) {
        const Token *o = &t->list.at[k];
        if (!is_open(o->kind) || o->match < at || (o->layer_list && o->match == at))
            continue;
        if (o->layer_list)
            outer = NO_MATCH;
        else if (outer == NO_MATCH)
            outer = k;
    }
    if (outer != NO_MATCH)
        i = t->list.at[outer].match + 1;
    else if (is_open(t->list.at[at].kind))
        i = t->list.at[at].match + 1;
    else if (!is_boundary(t->list.at[at].kind) || t->failed_at == at)
        i = at + 1; /* the word itself is in the way */
    uint32_t header = t->list.at[at].kind == ':' ? tokens_control_line(t, at) : NO_MATCH;
    if (header != NO_MATCH && i == at + 1)
        i = skip_indented(t, header, i);
    else
        while (i < t->list.len - 1 && !is_boundary(t->list.at[i].kind))
            i = is_open(t->list.at[i].kind) ? t->list.at[i].match + 1 : i + 1;
    t->failed_at = i;
    t->next = i < t->list.len ? i : t->list.len - 1;
    t->resync = true;
}
