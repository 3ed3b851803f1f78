/* Tokens: the file as a list of words, with brackets matched and line ends removed where they mean nothing.
 * flex makes the raw list (lexer.l), tokens.c rewrites it, the parser draws from it. Texts live in the arena. */
#ifndef CNNC_FRONTEND_TOKEN_H
#define CNNC_FRONTEND_TOKEN_H
#include "ir/base/diag.h"
#include "ir/base/vec.h"

typedef struct {
    int kind; /* a token number of parser.h */
    Span span;
    const char *text; /* NAME, CALLNAME, LABEL, STRING: the word, prefix and quotes removed */
    int64_t i;        /* INT */
    double f;         /* FLOAT */
    uint32_t match;   /* opening bracket: the index of its closing one */
    bool layer_list;  /* opening bracket that holds items: the parser resumes inside it after an error */
} Token;

typedef struct Tokens {
    Arena *arena;
    const Source *src;
    Diags *diags;
    Vec(Token) raw;         /* as flex found them */
    Vec(uint32_t) repaired; /* offsets of brackets that had to be closed */
    Vec(Token) list;        /* as the parser reads them; ends with END */
    uint32_t offset;        /* flex: bytes read so far */
    uint32_t next;          /* parser: index of the next token */
    uint32_t last;          /* parser: index of the token read last */
    uint32_t failed_at;     /* parser: where it resumed after the last error: failing there again, it must move on */
    bool resync;            /* parser: deliver RESYNC next, after leaving the broken item */
} Tokens;

enum { MAX_NESTING = 200 }; /* brackets within brackets */

/* Reads the whole source. Reports unknown characters, unclosed strings and unmatched brackets. */
void tokens_read(Tokens *t, Arena *a, const Source *src, Diags *d);
/* After a syntax error at the token read last: the next token is RESYNC, then what follows the broken item. */
void tokens_recover(Tokens *t);

/* The word (for, if ...) that begins a loop or condition on the line of token `at`; UINT32_MAX: none does. */
uint32_t tokens_control_line(const Tokens *t, uint32_t at);

/* lexer.l */
void tokens_scan(Tokens *t);
#endif
