/* Ast: what was written. One kind of node for all; the fields a kind uses stand beside it.
 * Everything lives in the arena of the Parse; the tree is not changed after parsing.
 * Depth is bounded (MAX_AST_DEPTH), so that walking it by recursion is safe. */
#ifndef CNNC_FRONTEND_AST_H
#define CNNC_FRONTEND_AST_H
#include "ir/base/diag.h"
#include "ir/base/vec.h"

/* clang-format off */
typedef enum {
    /* expressions */
    AST_INT,         /* 28                          i */
    AST_FLOAT,       /* 0.1                         f */
    AST_STRING,      /* "same"                      text */
    AST_BOOL,        /* True                        i */
    AST_NONE,        /* None */
    AST_INFER,       /* _ */
    AST_NAME,        /* width                       text */
    AST_TUPLE,       /* (1, 2)                      kids */
    AST_LIST,        /* [1, 2]                      kids */
    AST_UNARY,       /* -x, not x                   op, a */
    AST_BINARY,      /* x + y, x < y, x and y       op, a, b */
    AST_TERNARY,     /* a if c else b               a, c, b */
    AST_INDEX,       /* a[b]                        a, b */
    AST_CALL,        /* range(3), MNIST("x")        text, kids: AST_ARG or expressions */
    AST_ARG,         /* kernel_size=5               text, text_span, a */
    AST_STAR,        /* *layers                     a */
    /* items; any may carry a label: "conv2: ..." or "(conv2): ..." */
    AST_ITEMS,       /* { ... }, a file             kids */
    AST_LAYER,       /* Conv2d(_, 6, 5)             text, kids: arguments; i: 1 when written with brackets */
    AST_SEQUENTIAL,  /* Sequential(...)             kids: items */
    AST_PRINTED,     /* Net((conv1): ...)           text, kids: items: a printed module that is no Sequential */
    AST_LET,         /* let width = 6               text, text_span, a */
    AST_ASSIGN,      /* model = Sequential(...)     text, text_span, a */
    AST_BLOCK,       /* block B(out, k=3) { }       text, text_span, kids: AST_ARG (a may be NULL), b: items */
    AST_TRAIN,       /* train { }                   kids: AST_ARG */
    AST_REPEAT,      /* repeat 3 { }                a, b: items */
    AST_FOR,         /* for k, n in x { }           kids: AST_NAME, a, b: items */
    AST_IF,          /* if a { } elif b { } else {} kids: condition, items, condition, items ..., [items] */
    AST_RESIDUAL,    /* residual { } shortcut { }   a: items, b: items or NULL */
    AST_CONCAT,      /* concat { branch { } ... }   kids: items */
    AST_ERROR        /* something that could not be read; was reported */
} AstKind;
/* clang-format on */

/* clang-format off */
typedef enum {
    AO_ADD, AO_SUB, AO_MUL, AO_DIV, AO_FLOORDIV, AO_MOD, AO_POW, AO_NEG, AO_POS, AO_NOT,
    AO_EQ, AO_NE, AO_LT, AO_LE, AO_GT, AO_GE, AO_IN, AO_NOT_IN, AO_AND, AO_OR
} AstOp;
/* clang-format on */

typedef struct Ast Ast;
typedef Vec(Ast *) AstList;
struct Ast {
    AstKind kind;
    AstOp op;
    bool paren;     /* an expression in brackets of its own */
    uint16_t depth; /* 1 + the deepest child's */
    Span span;      /* all of it */
    const char *text;
    Span text_span;    /* of the word `text` */
    const char *label; /* NULL: none */
    Span label_span;
    int64_t i;
    double f;
    Ast *a, *b, *c;
    AstList kids;
};

enum { MAX_AST_DEPTH = 1000 };

/* The parser's state, and the arena for its nodes. */
struct Tokens;
typedef struct Parse {
    Arena *arena;
    Diags *diags;
    const Source *src;
    struct Tokens *tokens;
    int start; /* a start marker token, delivered first; 0 afterwards */
    Ast *result;
    bool failed;   /* something was not read: what misses may stand there */
    bool too_deep; /* was reported */
    int n_errors;  /* syntax errors so far */
} Parse;

/* Parses a whole file. Never NULL; *broken when part of the text could not be read (reported). */
Ast *parse_file(Arena *a, const Source *src, Diags *d, bool *broken);
/* Parses one expression, as in -D name=VALUE. NULL after an error. */
Ast *parse_expr(Arena *a, const Source *src, Diags *d);

/* Constructors, called by the grammar's actions. */
Ast *ast_new(Parse *p, AstKind kind, Span span);
Ast *ast_text(Parse *p, AstKind kind, Span span, const char *text, Span text_span);
Ast *ast_int(Parse *p, Span span, int64_t v);
Ast *ast_float(Parse *p, Span span, double v);
Ast *ast_kids(Parse *p, AstKind kind, Span span, AstList kids);
Ast *ast_unary(Parse *p, AstOp op, Ast *a, Span span);
Ast *ast_binary(Parse *p, AstOp op, Ast *a, Ast *b, Span span);
Ast *ast_compare(Parse *p, AstOp op, Ast *a, Ast *b, Span span); /* a < b < c is a < b and b < c */
Ast *ast_ternary(Parse *p, Ast *a, Ast *c, Ast *b, Span span);
Ast *ast_call(Parse *p, AstKind kind, const char *text, Span text_span, AstList args, Span span);
Ast *ast_arg(Parse *p, const char *text, Span text_span, Ast *value, Span span);
Ast *ast_with(Parse *p, AstKind kind, Ast *a, Ast *b, Span span);
Ast *ast_label(Parse *p, const char *label, Span label_span, Ast *item, Span span);
void ast_push(Parse *p, AstList *list, Ast *item);
void ast_append(Parse *p, AstList *list, AstList more);

const char *ast_op_text(AstOp op);
/* --dump ast: one node a line, children indented. */
void ast_print(const Ast *ast, FILE *to);
#endif
