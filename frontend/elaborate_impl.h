/* What the files of elaborate share. Private to elaborate*.c. */
#ifndef CNNC_FRONTEND_ELABORATE_IMPL_H
#define CNNC_FRONTEND_ELABORATE_IMPL_H
#include "frontend/elaborate.h"

/* ---- values of expressions ---- */
typedef enum {
    VK_ERROR,
    VK_NONE,
    VK_BOOL,
    VK_INT,
    VK_FLOAT,
    VK_STR,
    VK_LIST,
    VK_TUPLE,
    VK_RANGE,
    VK_INFER,
    VK_CALL,
    VK_WORD
} ValKind;
typedef struct Val {
    ValKind kind;         /* VK_ERROR: was reported; VK_WORD: an unknown bare name, where the caller may take one */
    int64_t i;            /* INT, BOOL */
    double f;             /* FLOAT */
    const char *s;        /* STR, WORD */
    const struct Val *at; /* LIST, TUPLE, RANGE: n values */
    uint32_t n;
    const Ast *ast; /* where it was written; CALL: the call */
    Span span;
} Val;

typedef struct Binding {
    struct Binding *next;
    const char *name;
    Val value;
    Span span;
    bool fixed;
} Binding;
typedef struct Scope {
    struct Scope *up;
    Binding *first;
    bool block;
} Scope; /* block: a block's own: lets outside may be hidden */

/* ---- layer signatures ---- */
typedef enum {
    ARG_CHANNELS,
    ARG_SIZE,
    ARG_SIZES,
    ARG_SIZES_OR_NONE,
    ARG_PADDING,
    ARG_OUT_SIZES,
    ARG_INT,
    ARG_INT_OR_NONE,
    ARG_NUMBER,
    ARG_NUMBER_OR_NONE,
    ARG_BOOL,
    ARG_WORD,
    ARG_FILTER,
    ARG_ANY
} ArgKind;
typedef struct {
    const char *name;
    ArgKind kind;
    const char *def;
    bool keyword_only;
} ArgSpec;
enum { MAX_ARGS = 16 };
typedef enum { LAYER_READY, LAYER_LATER, LAYER_LAZY, LAYER_SETTING } LayerState; /* SETTING: no layer, but SGD(...), MNIST(...) */

typedef struct Elab Elab;
typedef struct LayerCall LayerCall;
typedef ValueId (*BuildFn)(Elab *e, LayerCall *c, ValueId in);
typedef struct {
    const char *name;
    LayerState state;
    BuildFn build;
    int nd;
    const ArgSpec *args;
    int n_args;
} LayerSpec;

/* One use of a layer: its arguments in the order of the signature. */
struct LayerCall {
    const LayerSpec *spec;
    const Ast *ast;
    Val arg[MAX_ARGS]; /* written, or the default */
    Span *arg_span;    /* {0, 0}: not written */
    bool frozen;
    const char *name; /* dotted */
    LayerId layer;
};

const LayerSpec *layer_spec(const char *name); /* NULL: unknown */
const char *const *layer_names(Elab *e);       /* NULL-terminated */
/* Matches the written arguments with the signature. False: reported. */
bool layer_arguments(Elab *e, Scope *scope, LayerCall *c);
const Val *layer_arg(const LayerCall *c, const char *name);
/* "_" in front when the first size was left out: Conv2d(_, 6, 5) */
const char *signature_text(Arena *a, const LayerSpec *spec);

/* ---- state of one elaboration ---- */
typedef struct {
    const char *prefix;
    int64_t index;
    int depth;
} Seq; /* a sequence being filled: prefix "3.body." */
struct Elab {
    Arena *arena;
    Diags *diags;
    Graph *graph;
    Module *module;
    ElaborateOptions *options;
    Scope *globals;
    Vec(const Ast *) blocks, sequences; /* sequences: assignments whose name is used as a layer */
    struct {
        const char *name;
        Span span;
    } * names;                   /* hash set of full layer names, open addressing */
    uint32_t n_names, cap_names; /* cap: a power of two */
    Span used_at;
    bool in_block;
    int block_depth;
    int64_t steps;
    uint32_t streams; /* dropout streams handed out */
    bool stop;        /* a limit was passed: expand nothing more */
    bool has_input, past_input;
    Span input_span, first_layer;
};

/* ---- elaborate_value.c ---- */
bool val_is_integer(const Val *v); /* True and False count as 1 and 0 */
bool val_equal(const Val *a, const Val *b);
Binding *scope_find(const Scope *scope, const char *name);
void scope_bind(Elab *e, Scope *scope, const char *name, Val value, Span span);
const char *val_kind_text(const Val *v);      /* "a string" */
const char *val_text(Arena *a, const Val *v); /* as Python prints it */
bool val_number(const Val *v, double *out);   /* int, float or bool */
bool val_is_true(const Val *v);
bool val_is_list(const Val *v); /* list, tuple or range */

/* ---- elaborate_expr.c ---- */
Val eval(Elab *e, Scope *scope, const Ast *ast);
Val eval_word(Elab *e, Scope *scope,
              const Ast *ast); /* as eval; an unknown bare name gives VK_WORD: printed models have padding=same */
Val val_int(int64_t i, const Ast *ast);
bool e_step(Elab *e, const Ast *at); /* counts work; false: the limit was passed */

/* ---- elaborate_names.c ---- */
bool is_keyword(const char *word);
const char *next_name(Elab *e, Seq *seq, const Ast *ast); /* of the next layer of seq: its label, or its place */
Seq inner_sequence(Elab *e, const Seq *outer, const char *prefix, const Ast *at);
LayerId add_layer(Elab *e, const char *name, const char *type, const Ast *ast, const Span *arg_span, ValueId in);

/* ---- elaborate_layers.c: nodes of one layer ---- */
ValueId unknown_value(Elab *e);

/* ---- elaborate.c ---- */
ValueId elaborate_items(Elab *e, Seq *seq, Scope *scope, const Ast *list, ValueId in);
void no_label(Elab *e, const Ast *ast, const char *what);

/* ---- elaborate_blocks.c ---- */
void collect_blocks(Elab *e, const Ast *list);
const Ast *find_block(const Elab *e, const char *name);
ValueId use_block(Elab *e, Seq *seq, Scope *scope, const Ast *block, const Ast *use, ValueId in);
void define_block(Elab *e, const Ast *ast);
void collect_sequences(Elab *e, const Ast *file);
const Ast *find_sequence(const Elab *e, const char *name);

/* ---- elaborate_train.c ---- */
void elaborate_train(Elab *e, const Ast *ast);

/* ---- elaborate_header.c ---- */
void elaborate_input(Elab *e, Scope *scope, const Ast *ast);
void elaborate_normalize(Elab *e, Scope *scope, const Ast *ast);
void elaborate_labels(Elab *e, Scope *scope, const Ast *ast);
#endif
