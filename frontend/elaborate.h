/* elaborate: from the syntax tree to the graph: expressions computed, blocks, loops and conditions expanded, layers named
 * and checked against their signatures, the train block read.
 * Everything made lives in the given arena. Diagnostics E02xx (names, expressions, arguments) and E04xx (train block).
 * A layer that is wrong leaves a value of unknown shape, about which every later pass is silent. */
#ifndef CNNC_FRONTEND_ELABORATE_H
#define CNNC_FRONTEND_ELABORATE_H
#include "frontend/ast.h"
#include "passes/train_spec.h"

enum { MAX_LAYERS = 100000 };

typedef struct {
    const char *name, *text;
    bool used;
} Define; /* -D name=text */
typedef struct {
    const char *name; /* of the model: the file's stem */
    int64_t batch;
    Define *defines;
    int n_defines;      /* `used` is set for those that replaced a let */
    const Shape *input; /* --input-shape, or NULL */
    const char *folder; /* paths in the file are relative to it; NULL: as they are */
    bool broken;        /* parts of the file were not read: what misses may have stood there */
} ElaborateOptions;

/* False: errors were reported. The module is usable by passes that report more (shape, lint) in any case. */
bool elaborate(Arena *a, const Ast *file, ElaborateOptions *options, Diags *d, Module *out);

/* The names of the top-level `let`s, NULL-terminated, for messages about -D. */
const char *const *elaborate_let_names(Arena *a, const Ast *file);

/* A train block with PyTorch's defaults and no data: what a file without one has. */
CnncTrain train_defaults(void);
/* Makes a path of the file relative to the folder it stands in. */
const char *elaborate_path(Arena *a, const char *folder, const char *path);
#endif
