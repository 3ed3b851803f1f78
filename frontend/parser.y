/* parser.y: tokens to syntax tree.
 * In: Tokens (brackets matched, line ends only where they separate). Out: Parse.result.
 * Invariant: no conflicts, ever: raise no %expect. Actions only call ast_* constructors.
 * The idea: a file is a list of items; after a syntax error the token stream itself leaves the broken item and delivers
 * RESYNC (tokens_recover), so that one mistake gives one message and the next item is read as if nothing had happened. */
%code requires {
#include "frontend/ast.h"
}
%code {
#include "frontend/token.h"
#include "frontend/parser_util.h"

#define YYLLOC_DEFAULT(now, rhs, n)                                        \
    do {                                                                   \
        if (n) {                                                           \
            (now).start = YYRHSLOC(rhs, 1).start;                          \
            (now).end = YYRHSLOC(rhs, n).end;                              \
        } else {                                                           \
            (now).start = (now).end = YYRHSLOC(rhs, 0).end;                \
        }                                                                  \
    } while (0)
}
%code {
static int cnn_lex(CNN_STYPE *value, Span *span, Parse *p);
static void cnn_error(const Span *span, Parse *p, const char *text);
}
%define api.pure full
%define api.prefix {cnn_}
%define api.token.prefix {T_}
%define api.location.type {Span}
%define parse.error custom
%define parse.lac full
%locations
%expect 0
%param {Parse *p}
%initial-action { @$ = (Span){0, 0}; }

%union {
    struct { const char *text; int64_t i; double f; } word;
    Ast *ast;
    AstList list;
    AstOp op;
}

%token START_FILE "start of the file" START_EXPR "start of the value" END "the end of the file" NEWLINE "the end of the line"
%token RESYNC "a new item" BAD "something unreadable"
%token <word> NAME "a name" CALLNAME "a layer" LABEL "a label" STRING "a string" INT "a number" FLOAT "a fraction"
%token SEQUENTIAL "Sequential" ORDEREDDICT "OrderedDict"
%token LET "let" BLOCK "block" REPEAT "repeat" FOR "for" IN "in" IF "if" ELIF "elif" ELSE "else" RESIDUAL "residual"
%token SHORTCUT "shortcut" CONCAT "concat" BRANCH "branch" TRAIN "train" AND "and" OR "or" NOT "not" NOTIN "not in" TRUE "True" FALSE "False"
%token NONE "None" UNDERSCORE "_" POW "**" FLOORDIV "//" EQ "==" NE "!=" LE "<=" GE ">="

%left OR
%left AND
%precedence NOT
%left EQ NE LE GE '<' '>' IN NOTIN
%left '+' '-'
%left '*' '/' FLOORDIV '%'
%precedence SIGN
%right POW

%type <ast> expr test value atom arg layer core body param setting open
%type <list> items layers ordered pairs dict printed branches exprs args arglist params paramlist settings settings_body targets
%type <list> if_chain

%%
start:
    START_FILE body END             { p->result = $body; }
  | START_EXPR expr END             { p->result = $expr; }
  | START_EXPR expr NEWLINE END     { p->result = $expr; }
  ;

/* ---- items: what stands in a file and between { } ---- */
body:
    items                           { $$ = ast_kids(p, AST_ITEMS, @$, $items); }
  | items open                      { ast_push(p, &$items, $open); $$ = ast_kids(p, AST_ITEMS, @$, $items); }
  ;
items:
    %empty                          { $$ = (AstList){0}; }
  | items sep
  | items layer                     { ast_push(p, &$1, $layer); $$ = $1; }
  | items open sep                  { ast_push(p, &$1, $open); $$ = $1; }
  | items error RESYNC              { ast_push(p, &$1, ast_new(p, AST_ERROR, @2)); $$ = $1; yyerrok; }
  ;
sep: NEWLINE | ',' | ';' ;

/* These need a separator after them: a layer that followed directly could be read as part of the expression. */
open:
    LET NAME '=' expr               { $$ = ast_text(p, AST_LET, @$, $NAME.text, @NAME); $$->a = $expr; }
  | NAME '=' value                  { $$ = ast_text(p, AST_ASSIGN, @$, $NAME.text, @NAME); $$->a = $value; }
  ;
value:
    expr
  | SEQUENTIAL '(' layers ')'       { $$ = ast_kids(p, AST_SEQUENTIAL, @$, $layers); }
  | SEQUENTIAL '(' ordered comma_opt ')' { $$ = ast_kids(p, AST_SEQUENTIAL, @$, $ordered); }
  ;

layer:
    core
  | NAME ':' core                   { $$ = ast_label(p, $NAME.text, @NAME, $core, @$); }
  | LABEL core                      { $$ = ast_label(p, $LABEL.text, @LABEL, $core, @$); }
  ;
core:
    NAME                            { $$ = ast_text(p, AST_LAYER, @$, $NAME.text, @NAME); }
  | CALLNAME '(' args ')'           { $$ = ast_call(p, AST_LAYER, $CALLNAME.text, @CALLNAME, $args, @$); $$->i = 1; }
  | CALLNAME '(' printed ')'        { $$ = ast_call(p, AST_PRINTED, $CALLNAME.text, @CALLNAME, $printed, @$); }
  | SEQUENTIAL '(' layers ')'       { $$ = ast_kids(p, AST_SEQUENTIAL, @$, $layers); }
  | SEQUENTIAL '(' ordered comma_opt ')' { $$ = ast_kids(p, AST_SEQUENTIAL, @$, $ordered); }
  | RESIDUAL '{' body '}'           { $$ = ast_with(p, AST_RESIDUAL, $body, NULL, @$); }
  | RESIDUAL '{' body[main] '}' SHORTCUT '{' body[short] '}'
                                    { $$ = ast_with(p, AST_RESIDUAL, $main, $short, @$); }
  | CONCAT '{' branches '}'         { $$ = ast_kids(p, AST_CONCAT, @$, $branches); }
  | REPEAT expr '{' body '}'        { $$ = ast_with(p, AST_REPEAT, $expr, $body, @$); }
  | FOR targets IN expr '{' body '}' { $$ = ast_with(p, AST_FOR, $expr, $body, @$); $$->kids = $targets; }
  | if_chain                        { $$ = ast_kids(p, AST_IF, @$, $if_chain); }
  | if_chain ELSE '{' body '}'      { ast_push(p, &$if_chain, $body); $$ = ast_kids(p, AST_IF, @$, $if_chain); }
  | BLOCK NAME '{' body '}'         { $$ = ast_text(p, AST_BLOCK, @$, $NAME.text, @NAME); $$->b = $body; }
  | BLOCK CALLNAME '(' params ')' '{' body '}'
                                    { $$ = ast_call(p, AST_BLOCK, $CALLNAME.text, @CALLNAME, $params, @$); $$->b = $body; }
  | TRAIN '{' settings_body '}'     { $$ = ast_kids(p, AST_TRAIN, @$, $settings_body); }
  ;
if_chain:
    IF expr '{' body '}'            { $$ = (AstList){0}; ast_push(p, &$$, $expr); ast_push(p, &$$, $body); }
  | if_chain ELIF expr '{' body '}' { ast_push(p, &$1, $expr); ast_push(p, &$1, $body); $$ = $1; }
  ;
branches:
    %empty                          { $$ = (AstList){0}; }
  | branches sep
  | branches BRANCH '{' body '}'    { ast_push(p, &$1, $body); $$ = $1; }
  | branches error RESYNC           { ast_push(p, &$1, ast_new(p, AST_ERROR, @2)); $$ = $1; yyerrok; }
  ;
targets:
    NAME                            { $$ = (AstList){0}; ast_push(p, &$$, ast_text(p, AST_NAME, @NAME, $NAME.text, @NAME)); }
  | targets ',' NAME                { ast_push(p, &$1, ast_text(p, AST_NAME, @NAME, $NAME.text, @NAME)); $$ = $1; }
  | '(' targets ')'                 { $$ = $2; }
  ;

/* ---- Sequential( ... ): layers with or without commas ---- */
layers:
    %empty                          { $$ = (AstList){0}; }
  | layers ','
  | layers ';'
  | layers layer                    { ast_push(p, &$1, $layer); $$ = $1; }
  | layers '*' atom                 { ast_push(p, &$1, parse_star(p, $atom, @atom)); $$ = $1; }
  | layers error RESYNC             { ast_push(p, &$1, ast_new(p, AST_ERROR, @2)); $$ = $1; yyerrok; }
  ;
printed:
    LABEL core                      { $$ = (AstList){0}; ast_push(p, &$$, ast_label(p, $LABEL.text, @LABEL, $core, @$)); }
  | printed LABEL core              { ast_push(p, &$1, ast_label(p, $LABEL.text, @LABEL, $core, span_join(@LABEL, @core))); $$ = $1; }
  ;
ordered:
    ORDEREDDICT '(' '[' pairs ']' comma_opt ')' { $$ = $pairs; }
  | ORDEREDDICT '(' '{' dict '}' comma_opt ')'  { $$ = $dict; }
  ;
pairs:
    %empty                          { $$ = (AstList){0}; }
  | pairs ','
  | pairs '(' STRING ',' core comma_opt ')'
                                    { ast_push(p, &$1, ast_label(p, $STRING.text, @STRING, $core, @core)); $$ = $1; }
  | pairs '[' STRING ',' core comma_opt ']'
                                    { ast_push(p, &$1, ast_label(p, $STRING.text, @STRING, $core, @core)); $$ = $1; }
  ;
dict:
    %empty                          { $$ = (AstList){0}; }
  | dict sep
  | dict STRING ':' core            { ast_push(p, &$1, ast_label(p, $STRING.text, @STRING, $core, @core)); $$ = $1; }
  ;
comma_opt: %empty | ',' ;

/* ---- train { name = value } and block parameters ---- */
settings_body:
    settings
  | settings setting                { ast_push(p, &$1, $setting); $$ = $1; }
  ;
settings:
    %empty                          { $$ = (AstList){0}; }
  | settings sep
  | settings setting sep            { ast_push(p, &$1, $setting); $$ = $1; }
  | settings error RESYNC           { $$ = $1; yyerrok; }
  ;
setting:
    NAME '=' expr                   { $$ = ast_arg(p, $NAME.text, @NAME, $expr, @$); }
  | NAME ':' expr                   { $$ = parse_colon_setting(p, $NAME.text, @NAME, @2, $expr, @$); }
  ;
params:
    %empty                          { $$ = (AstList){0}; }
  | paramlist comma_opt
  ;
paramlist:
    param                           { $$ = (AstList){0}; ast_push(p, &$$, $param); }
  | paramlist ',' param             { ast_push(p, &$1, $param); $$ = $1; }
  ;
param:
    NAME                            { $$ = ast_arg(p, $NAME.text, @NAME, NULL, @$); }
  | NAME '=' expr                   { $$ = ast_arg(p, $NAME.text, @NAME, $expr, @$); }
  ;

/* ---- arguments and expressions: Python's ---- */
args:
    %empty                          { $$ = (AstList){0}; }
  | arglist comma_opt
  ;
arglist:
    arg                             { $$ = (AstList){0}; ast_push(p, &$$, $arg); }
  | arglist ',' arg                 { ast_push(p, &$1, $arg); $$ = $1; }
  ;
arg:
    expr
  | NAME '=' expr                   { $$ = ast_arg(p, $NAME.text, @NAME, $expr, @$); }
  | '*' atom                        { $$ = parse_star(p, $atom, @$); }
  ;
expr:
    test
  | test[yes] IF test[cond] ELSE expr[no] { $$ = ast_ternary(p, $yes, $cond, $no, @$); }
  ;
test:
    atom
  | test OR test                    { $$ = ast_binary(p, AO_OR, $1, $3, @$); }
  | test AND test                   { $$ = ast_binary(p, AO_AND, $1, $3, @$); }
  | NOT test                        { $$ = ast_unary(p, AO_NOT, $2, @$); }
  | test EQ test                    { $$ = ast_compare(p, AO_EQ, $1, $3, @$); }
  | test NE test                    { $$ = ast_compare(p, AO_NE, $1, $3, @$); }
  | test '<' test                   { $$ = ast_compare(p, AO_LT, $1, $3, @$); }
  | test LE test                    { $$ = ast_compare(p, AO_LE, $1, $3, @$); }
  | test '>' test                   { $$ = ast_compare(p, AO_GT, $1, $3, @$); }
  | test GE test                    { $$ = ast_compare(p, AO_GE, $1, $3, @$); }
  | test IN test                    { $$ = ast_compare(p, AO_IN, $1, $3, @$); }
  | test NOTIN test                 { $$ = ast_compare(p, AO_NOT_IN, $1, $3, @$); }
  | test '+' test                   { $$ = ast_binary(p, AO_ADD, $1, $3, @$); }
  | test '-' test                   { $$ = ast_binary(p, AO_SUB, $1, $3, @$); }
  | test '*' test                   { $$ = ast_binary(p, AO_MUL, $1, $3, @$); }
  | test '/' test                   { $$ = ast_binary(p, AO_DIV, $1, $3, @$); }
  | test FLOORDIV test              { $$ = ast_binary(p, AO_FLOORDIV, $1, $3, @$); }
  | test '%' test                   { $$ = ast_binary(p, AO_MOD, $1, $3, @$); }
  | test POW test                   { $$ = ast_binary(p, AO_POW, $1, $3, @$); }
  | '-' test %prec SIGN             { $$ = ast_unary(p, AO_NEG, $2, @$); }
  | '+' test %prec SIGN             { $$ = ast_unary(p, AO_POS, $2, @$); }
  ;
atom:
    INT                             { $$ = ast_int(p, @$, $INT.i); }
  | FLOAT                           { $$ = ast_float(p, @$, $FLOAT.f); }
  | STRING                          { $$ = ast_text(p, AST_STRING, @$, $STRING.text, @STRING); }
  | TRUE                            { $$ = ast_new(p, AST_BOOL, @$); $$->i = 1; }
  | FALSE                           { $$ = ast_new(p, AST_BOOL, @$); }
  | NONE                            { $$ = ast_new(p, AST_NONE, @$); }
  | UNDERSCORE                      { $$ = ast_new(p, AST_INFER, @$); }
  | NAME                            { $$ = ast_text(p, AST_NAME, @$, $NAME.text, @NAME); }
  | CALLNAME '(' args ')'           { $$ = ast_call(p, AST_CALL, $CALLNAME.text, @CALLNAME, $args, @$); }
  | atom '[' expr ']'               { $$ = ast_with(p, AST_INDEX, $1, $expr, @$); }
  | '(' expr ')'                    { $$ = $expr; $$->paren = true; $$->span = @$; }
  | '(' ')'                         { $$ = ast_kids(p, AST_TUPLE, @$, (AstList){0}); }
  | '(' expr ',' ')'                { AstList l = {0}; ast_push(p, &l, $expr); $$ = ast_kids(p, AST_TUPLE, @$, l); }
  | '(' expr ',' exprs comma_opt ')' { AstList l = {0}; ast_push(p, &l, $expr); ast_append(p, &l, $exprs); $$ = ast_kids(p, AST_TUPLE, @$, l); }
  | '[' ']'                         { $$ = ast_kids(p, AST_LIST, @$, (AstList){0}); }
  | '[' exprs comma_opt ']'         { $$ = ast_kids(p, AST_LIST, @$, $exprs); }
  ;
exprs:
    expr                            { $$ = (AstList){0}; ast_push(p, &$$, $expr); }
  | exprs ',' expr                  { ast_push(p, &$1, $expr); $$ = $1; }
  ;
%%

static int cnn_lex(CNN_STYPE *value, Span *span, Parse *p)
{
    const Token *t = parse_next_token(p);
    value->word.text = t->text;
    value->word.i = t->i;
    value->word.f = t->f;
    *span = t->span;
    return t->kind;
}

static void cnn_error(const Span *span, Parse *p, const char *text)
{
    (void)text;                     /* only "memory exhausted" comes here */
    diag_error(p->diags, *span, "E0107", "this nests too deeply to be read");
    p->failed = true;
}

static int yyreport_syntax_error(const yypcontext_t *context, Parse *p)
{
    enum { MAX = 200 };
    yysymbol_kind_t kinds[MAX];
    const char *expected[MAX + 1];
    int n = yypcontext_expected_tokens(context, kinds, MAX);
    for (int i = 0; i < n; i++)
        expected[i] = yysymbol_name(kinds[i]);
    parse_report_syntax_error(p, *yypcontext_location(context), expected, n > 0 ? n : 0);
    return 0;
}
