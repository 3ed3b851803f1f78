/* Growable arrays in an arena: `Vec(T) v = {0}; vec_push(arena, &v, x);` then v.at[i], v.len.
 * The items live in the arena; growing leaves the old block behind (it goes with the arena). */
#ifndef CNNC_IR_BASE_VEC_H
#define CNNC_IR_BASE_VEC_H
#include "ir/base/arena.h"
#include <stdint.h>

#define Vec(T) struct { T *at; uint32_t len, cap; }

#define vec_reserve(a, v, n)                                                                         \
    do {                                                                                             \
        uint32_t need_ = (uint32_t)(n);                                                              \
        if ((v)->cap < need_) {                                                                      \
            uint32_t cap_ = (v)->cap ? (v)->cap * 2 : 8;                                             \
            if (cap_ < need_)                                                                        \
                cap_ = need_;                                                                        \
            (v)->at = arena_grow((a), (v)->at, sizeof *(v)->at * (v)->len, sizeof *(v)->at * cap_);  \
            (v)->cap = cap_;                                                                         \
        }                                                                                            \
    } while (0)

#define vec_push(a, v, ...)                                                                          \
    do {                                                                                             \
        vec_reserve((a), (v), (v)->len + 1);                                                         \
        (v)->at[(v)->len++] = (__VA_ARGS__);                                                         \
    } while (0)

#define ARRAY_LEN(x) (sizeof(x) / sizeof *(x))
#endif
