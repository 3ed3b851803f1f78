/* A restricted reader of Python pickles: numbers, text, lists, tuples, dicts, and calls of a few named things that are recorded,
 * never made. A Pickle owns its values; text and bytes point into the input, which must outlive it. */
#ifndef CNNC_RUNTIME_UNPICKLE_H
#define CNNC_RUNTIME_UNPICKLE_H
#include "runtime/error.h"
#include <stddef.h>
#include <stdint.h>

typedef enum {
    PICKLE_NONE, PICKLE_BOOL, PICKLE_INT, PICKLE_FLOAT,
    PICKLE_TEXT,        /* str, and Python 2's str: text/len */
    PICKLE_BYTES,
    PICKLE_TUPLE, PICKLE_LIST,
    PICKLE_DICT,        /* items: key, value, key, value, in order; also OrderedDict */
    PICKLE_GLOBAL,      /* id of the allowed list */
    PICKLE_PERSISTENT,  /* items[0]: the persistent id */
    PICKLE_CALL         /* of the global `id`; items[0]: the argument tuple, items[1]: the state given by BUILD, or absent */
} PickleKind;
typedef struct PickleValue {
    PickleKind kind;
    int id;
    int64_t integer; double number;
    const char *text; size_t len;
    struct PickleValue **items; size_t n, cap;
} PickleValue;
typedef struct { const char *module, *name; int id; } PickleGlobal;
enum { PICKLE_ORDERED_DICT = -1, PICKLE_ENCODE = -2 };   /* ids handled by the reader itself: OrderedDict(), _codecs.encode(text, 'latin1') */
typedef struct { struct PickleChunk *chunks; size_t used, limit; PickleValue *root; } Pickle;

bool pickle_parse(const uint8_t *bytes, size_t len, const char *file, const PickleGlobal *allowed, size_t n_allowed, Pickle *out, RtError *e);
void pickle_free(Pickle *p);
PickleValue *pickle_get(const PickleValue *dict, const char *key);   /* NULL when it is no dict or has no such key */
bool pickle_is_text(const PickleValue *v, const char *text);         /* TEXT or BYTES equal to text */
const PickleValue *pickle_item(const PickleValue *v, size_t i, PickleKind kind);   /* item i of a TUPLE or LIST if it is of that kind, else NULL */
#endif
