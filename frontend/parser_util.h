/* The parser's helpers: the token stream's end of it, friendly syntax errors, advice. Private to parser.y and parse.c. */
#ifndef CNNC_FRONTEND_PARSER_UTIL_H
#define CNNC_FRONTEND_PARSER_UTIL_H
#include "frontend/ast.h"
#include "frontend/token.h"

const Token *parse_next_token(Parse *p);
/* expected: names of the n tokens that could stand here, as parser.y calls them. */
void parse_report_syntax_error(Parse *p, Span at, const char *const *expected, int n);
Ast *parse_star(Parse *p, Ast *value, Span span); /* *layers: not possible here; says so */
Ast *parse_colon_setting(Parse *p, const char *name, Span name_span, Span colon, Ast *value, Span span); /* epochs: 5 */
#endif
