/* Dropout's random numbers: a counter-based generator, so that a mask depends on nothing but (seed, stream, position) and is
 * the same for any batch slicing, thread count or target; the gradient recomputes it. No state, no ownership.
 *
 *   key  = mix(seed + mix(stream * DROPOUT_STREAM_STEP))           once per call: seed is the run-time scalar CNNC_SC_SEED
 *   unit = sample * units_per_sample + index                        index: row-major position inside the sample;
 *                                                                   Dropout2d: the channel, units_per_sample = channels
 *   kept = mix(unit + key) >= threshold(p)                          unsigned; y = x * (kept ? 1/(1-p) : 0)
 *
 * All 32-bit wrapping; in ir/scalars.def: IADD IMUL IXOR ISHR, dropped = ULT(h, threshold). mix is a bijection of two
 * multiplications and three shifts with the constants below, found by search to have low bias (C. Wellons, "hash prospector"). */
#ifndef CNNC_IR_DROPOUT_H
#define CNNC_IR_DROPOUT_H
#include <stdbool.h>
#include <stdint.h>

#define DROPOUT_STREAM_STEP 0x9E3779B9u
#define DROPOUT_MUL1 0x7FEB352Du
#define DROPOUT_MUL2 0x846CA68Bu
enum { DROPOUT_SHIFT1 = 16, DROPOUT_SHIFT2 = 15, DROPOUT_SHIFT3 = 16 };

static inline uint32_t dropout_mix(uint32_t x)
{
    x ^= x >> DROPOUT_SHIFT1;
    x *= DROPOUT_MUL1;
    x ^= x >> DROPOUT_SHIFT2;
    x *= DROPOUT_MUL2;
    return x ^ x >> DROPOUT_SHIFT3;
}

static inline uint32_t dropout_key(uint32_t seed, uint32_t stream) { return dropout_mix(seed + dropout_mix(stream * DROPOUT_STREAM_STEP)); }

/* Hashes below this are dropped: round(p * 2^32), at most 2^32 - 1. */
static inline uint32_t dropout_threshold(double p)
{
    double t = p * 4294967296.0 + 0.5;
    return t >= 4294967295.0 ? UINT32_MAX : t <= 0 ? 0 : (uint32_t)t;
}

/* What a survivor is multiplied by. p = 1 drops everything, whatever the hash. */
static inline double dropout_scale(double p) { return p < 1 ? 1 / (1 - p) : 0; }

static inline bool dropout_kept(uint32_t key, uint32_t unit, double p) { return dropout_mix(unit + key) >= dropout_threshold(p); }
#endif
