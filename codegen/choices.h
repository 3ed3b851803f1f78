/* Choices: where a plan may differ from what the cost model says. --tune measures them; their text is kept in programs and
 * checkpoints, so that the same plan, and with it the same bits, can be made again. */
#ifndef CNNC_CODEGEN_CHOICES_H
#define CNNC_CODEGEN_CHOICES_H
#include "ir/base/arena.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum { LAYOUT_BY_COST, LAYOUT_WANT_IMAGES, LAYOUT_WANT_CHANNELS, LAYOUT_WANTS } LayoutWant;
typedef struct {
    LayoutWant layout;       /* of inference */
    int32_t strip;           /* tiles in a strip of a Winograd convolution; 0: by cost */
    uint64_t direct;         /* bit i: the i-th convolution that Winograd could do is done directly */
} Choices;

/* "layout=images strip=14 direct=0,3": what differs; "" when nothing does. */
const char *choices_text(Arena *a, const Choices *c);
/* False: not such a text. */
bool choices_parse(const char *text, Choices *out);
#endif
