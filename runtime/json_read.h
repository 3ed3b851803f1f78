/* A small strict JSON reader for safetensors headers and checkpoints: a cursor over text, no tree, no memory.
 * Every function returns false at a mistake and leaves the cursor there. */
#ifndef CNNC_RUNTIME_JSON_READ_H
#define CNNC_RUNTIME_JSON_READ_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { const char *p, *end; } Json;

bool json_take(Json *j, char c);                       /* skips space, then c */
bool json_peek(Json *j, char c);                       /* the same without moving past c */
/* A string, decoded to UTF-8 at *out (NUL-terminated, malloc'd; the caller frees). Refuses NUL inside. */
bool json_string(Json *j, char **out);
bool json_uint(Json *j, uint64_t *out);                /* digits only, no sign, fraction or leading zeros */
bool json_number(Json *j, double *out);
bool json_skip(Json *j);                               /* any value; at most 64 deep */
bool json_end(Json *j);                                /* only space is left */
#endif
