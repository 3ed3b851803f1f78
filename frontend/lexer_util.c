/* lexer_util.c: what the lexer does with numbers, strings, words and characters it does not know.
 * In: the matched text and its span. Out: a token on Tokens.raw, or a diagnostic and a token that lets the parser go on.
 * Invariant: every problem is reported here once and leaves a usable token behind, so that it has no followers.
 * The idea: PyTorch's module prefixes (nn., torch.nn., torch.optim. ...) disappear here, so that no later stage knows them. */
#include "frontend/lexer_util.h"
#include "frontend/ast.h"
#include "parser.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static Token *push(Tokens *t, int kind, Span span)
{
    Token token = {.kind = kind, .span = span};
    vec_push(t->arena, &t->raw, token);
    return &t->raw.at[t->raw.len - 1];
}

void lexer_push(Tokens *t, int kind, Span span) { push(t, kind, span); }

/* The text without the underscores of 1_000. */
static char *digits(Tokens *t, const char *text)
{
    char *copy = arena_strdup(t->arena, text), *to = copy;
    for (const char *c = text; *c; c++)
        if (*c != '_')
            *to++ = *c;
    *to = 0;
    return copy;
}

void lexer_int(Tokens *t, const char *text, Span span)
{
    char *d = digits(t, text), *end;
    int base = d[0] == '0' && (d[1] == 'x' || d[1] == 'X') ? 16 : 10;
    errno = 0;
    long long v = strtoll(d, &end, base);
    if (errno == ERANGE) {
        diag_error(t->diags, span, "E0104", "the number %s does not fit in 64 bits", text);
        push(t, T_BAD, span);
        return;
    }
    push(t, T_INT, span)->i = v;
}

void lexer_float(Tokens *t, const char *text, Span span) { push(t, T_FLOAT, span)->f = strtod(digits(t, text), NULL); }

void lexer_bad_number(Tokens *t, const char *text, Span span)
{
    diag_error(t->diags, span, "E0104", "\"%s\" is neither a number nor a name", text);
    diag_help(t->diags, "a name starts with a letter or an underscore");
    push(t, T_BAD, span);
}

/* One escape sequence of a string; returns the characters used after the backslash. */
static size_t unescape(const char *at, size_t left, char *out)
{
    static const char from[] = "ntr\\'\"0", to[] = "\n\t\r\\'\"\0";
    const char *hit = left ? memchr(from, at[0], sizeof from - 1) : NULL;
    *out = hit && hit[0] != '0' ? to[hit - from] : '\\';
    return hit && hit[0] != '0' ? 1 : 0;
}

void lexer_string(Tokens *t, const char *text, size_t n, Span span, bool closed)
{
    bool raw = text[0] == 'r' || text[0] == 'R';
    if (text[0] != '"' && text[0] != '\'') {
        text++;
        n--;
    }
    size_t len = n - 1 - (closed ? 1 : 0), used = 0;
    char *s = arena_alloc(t->arena, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (text[i] == '\\' && !raw)
            i += unescape(text + i + 1, len - i, &s[used++]);
        else if (text[i] == 0)
            s[used++] = '?';
        else
            s[used++] = text[i];
    }
    if (!closed) {
        diag_error(t->diags, span, "E0102", "the string is not closed on its line");
        diag_help(t->diags, "end it with %c", text[0]);
    }
    push(t, closed ? T_STRING : T_BAD, span)->text = s;
}

bool lexer_is_label(const Tokens *t, Span span)
{
    if (span.start == 0)
        return true;
    char before = t->src->text[span.start - 1];
    return !(isalnum((unsigned char)before) || before == '_' || before == ')' || before == ']');
}

void lexer_label(Tokens *t, const char *text, Span span)
{
    const char *end = strchr(text, ')');
    push(t, T_LABEL, span)->text = arena_strndup(t->arena, text + 1, (size_t)(end - text - 1));
}

static const struct {
    const char *word;
    int kind;
} keywords[] = {
    {"let", T_LET},       {"block", T_BLOCK},   {"repeat", T_REPEAT}, {"for", T_FOR},           {"in", T_IN},
    {"if", T_IF},         {"elif", T_ELIF},     {"else", T_ELSE},     {"residual", T_RESIDUAL}, {"shortcut", T_SHORTCUT},
    {"concat", T_CONCAT}, {"branch", T_BRANCH}, {"train", T_TRAIN},   {"and", T_AND},           {"or", T_OR},
    {"not", T_NOT},       {"True", T_TRUE},     {"False", T_FALSE},   {"None", T_NONE},         {"_", T_UNDERSCORE},
};

/* Module paths that PyTorch users write in front of names that are plain here. */
static const char *const prefixes[] = {
    "torch.nn.modules.",
    "torch.nn.",
    "nn.modules.",
    "nn.",
    "torch.optim.lr_scheduler.",
    "optim.lr_scheduler.",
    "lr_scheduler.",
    "torch.optim.",
    "optim.",
    "torchvision.transforms.",
    "transforms.",
    "torchvision.datasets.",
    "datasets.",
    "collections.",
};

void lexer_word(Tokens *t, const char *text, Span span)
{
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (!strcmp(keywords[i].word, text)) {
            push(t, keywords[i].kind, span)->text = keywords[i].word;
            return;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t n = strlen(prefixes[i]);
        if (!strncmp(text, prefixes[i], n) && !strchr(text + n, '.')) {
            text += n;
            break;
        }
    }
    push(t, T_NAME, span)->text = arena_strdup(t->arena, text);
}

void lexer_method(Tokens *t, const char *text, Span span)
{
    diag_error(t->diags, span, "E0101", "unexpected \"%s\"", text);
    diag_help(t->diags, "values have no methods here: leave calls such as .to(device) out");
    push(t, T_BAD, span);
}

/* Typographic quotes, dashes, multiplication signs and hard spaces get in by copying from web pages. */
static const struct {
    const char *bytes, *write;
} lookalikes[] = {
    {"\xC3\x97", "*"},      {"\xE2\x80\x98", "'"}, {"\xE2\x80\x99", "'"}, {"\xE2\x80\x9C", "\""},
    {"\xE2\x80\x9D", "\""}, {"\xE2\x80\x93", "-"}, {"\xE2\x80\x94", "-"}, {"\xE2\x88\x92", "-"},
    {"\xEF\xBC\x8C", ","},  {"\xEF\xBC\x88", "("}, {"\xEF\xBC\x89", ")"},
};

void lexer_bad_char(Tokens *t, const char *text, size_t n, Span span)
{
    if (n == 2 && !memcmp(text, "\xC2\xA0", 2))
        return; /* a hard space is a space */
    if (n == 3 && !memcmp(text, "\xEF\xBB\xBF", 3) && span.start == 0)
        return; /* a byte order mark */
    if (t->raw.len && t->raw.at[t->raw.len - 1].kind == T_BAD && t->raw.at[t->raw.len - 1].span.end == span.start) {
        t->raw.at[t->raw.len - 1].span.end = span.end; /* one message for a run of them */
        return;
    }
    unsigned char c = (unsigned char)text[0];
    if (c >= 0x20 && c < 0x7F)
        diag_error(t->diags, span, "E0101", "unexpected character '%c'", c);
    else if (c >= 0xC0 && n > 1)
        diag_error(t->diags, span, "E0101", "unexpected character \"%.*s\"", (int)n, text);
    else
        diag_error(t->diags, span, "E0101", "unexpected byte 0x%02X", c);
    for (size_t i = 0; i < ARRAY_LEN(lookalikes); i++) {
        if (n == strlen(lookalikes[i].bytes) && !memcmp(text, lookalikes[i].bytes, n)) {
            diag_help(t->diags, "write %s", lookalikes[i].write);
            diag_fix(t->diags, "%s", lookalikes[i].write);
        }
    }
    push(t, T_BAD, span);
}
