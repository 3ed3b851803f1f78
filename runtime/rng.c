/* MT19937 and the orders PyTorch derives from it.
 * In: a seed. Out: the numbers torch's CPU generator gives after torch.manual_seed(seed).
 * Relies on nothing; leaves the generator where torch's would stand.
 * Idea: torch seeds MT19937 with the low 32 bits; float32 takes 24 bits of one draw, int64 takes two draws, high first. */
#include "runtime/rng.h"

enum { N = 624, M = 397 };

void rng_seed(Rng *g, uint64_t seed)
{
    g->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < N; i++)
        g->state[i] = 1812433253u * (g->state[i - 1] ^ g->state[i - 1] >> 30) + i;
    g->next = N;
}

static uint32_t twist(uint32_t here, uint32_t next, uint32_t far)
{
    uint32_t y = (here & 0x80000000u) | (next & 0x7fffffffu);
    return far ^ y >> 1 ^ (-(y & 1) & 0x9908b0dfu);
}

static void refill(Rng *g)
{
    uint32_t *s = g->state;
    for (int i = 0; i < N - M; i++)
        s[i] = twist(s[i], s[i + 1], s[i + M]);
    for (int i = N - M; i < N - 1; i++)
        s[i] = twist(s[i], s[i + 1], s[i + M - N]);
    s[N - 1] = twist(s[N - 1], s[0], s[M - 1]);
    g->next = 0;
}

static uint32_t temper(uint32_t y)
{
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint32_t rng_u32(Rng *g)
{
    if (g->next >= N)
        refill(g);
    return temper(g->state[g->next++]);
}

uint64_t rng_u64(Rng *g)
{
    uint64_t high = rng_u32(g);
    return high << 32 | rng_u32(g);
}

void rng_uniform(Rng *g, float lo, float hi, float *out, int64_t n)
{
    double range = (double)(hi - lo), low = (double)lo; /* torch subtracts in float, then computes in double */
    while (n > 0) {
        if (g->next >= N)
            refill(g);
        /* what is left of the block in one plain loop: large nets draw 10^8 numbers */
        int64_t part = n < N - g->next ? n : N - g->next;
        const uint32_t *s = g->state + g->next;
        for (int64_t i = 0; i < part; i++)
            out[i] = (float)((double)(int32_t)(temper(s[i]) & 0xffffffu) * 0x1p-24 * range + low);
        g->next += (uint32_t)part;
        out += part;
        n -= part;
    }
}

void rng_permutation(Rng *g, int64_t n, int64_t *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = i;
    /* torch takes 32-bit draws while their bias stays small. */
    int wide = n >= INT64_C(0xffffffff) / 20;
    for (int64_t i = 0; i < n - 1; i++) {
        uint64_t draw = wide ? rng_u64(g) : rng_u32(g);
        int64_t j = i + (int64_t)(draw % (uint64_t)(n - i)), t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}

void rng_epoch_order(Rng *global, int shuffle, int64_t n, int64_t *out)
{
    rng_u64(global); /* the loader's base seed, of use only to its worker processes */
    if (!shuffle) {
        for (int64_t i = 0; i < n; i++)
            out[i] = i;
        return;
    }
    Rng sampler;
    rng_seed(&sampler, rng_u64(global) & INT64_MAX);
    rng_permutation(&sampler, n, out);
}

/* The finaliser of SplitMix64 */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t rng_hash(uint64_t seed, uint64_t stream, uint64_t index)
{
    const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    return mix(mix(mix(seed + golden) + stream + golden) + index + golden);
}
