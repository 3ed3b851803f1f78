/* Compiled kernels kept between runs, in $XDG_CACHE_HOME/cnnc or ~/.cache/cnnc. An entry holds its whole key, so that two keys
 * with one name can only displace each other; what is damaged is ignored. No folder, no cache: nothing here fails. */
#ifndef CNNC_CODEGEN_GPU_CACHE_H
#define CNNC_CODEGEN_GPU_CACHE_H
#include "ir/base/arena.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct { const char *bytes; size_t size; } CachePart;
/* Reads the parts stored under key, in their order, into the arena. False: there is no whole entry with that many. */
bool cache_get(Arena *a, const char *key, CachePart *parts, int n);
void cache_put(Arena *a, const char *key, const CachePart *parts, int n);
/* Removes the entries used longest ago until all of them take at most `most` bytes. cache_put calls it with CACHE_BYTES. */
enum { CACHE_BYTES = 256 << 20 };
void cache_trim(Arena *a, int64_t most);
#endif
