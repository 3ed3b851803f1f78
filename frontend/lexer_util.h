/* The lexer's helpers: what each kind of raw token does. Private to lexer.l and lexer_util.c. */
#ifndef CNNC_FRONTEND_LEXER_UTIL_H
#define CNNC_FRONTEND_LEXER_UTIL_H
#include "frontend/token.h"

void lexer_push(Tokens *t, int kind, Span span);
void lexer_int(Tokens *t, const char *text, Span span);
void lexer_float(Tokens *t, const char *text, Span span);
void lexer_bad_number(Tokens *t, const char *text, Span span);
void lexer_string(Tokens *t, const char *text, size_t n, Span span, bool closed);
bool lexer_is_label(const Tokens *t, Span span); /* "(conv1):" as print(model) writes it, not the end of "f(x):" */
void lexer_label(Tokens *t, const char *text, Span span);
void lexer_word(Tokens *t, const char *text, Span span);
void lexer_method(Tokens *t, const char *text, Span span); /* .to(device) after a bracket */
void lexer_bad_char(Tokens *t, const char *text, size_t n, Span span);
#endif
