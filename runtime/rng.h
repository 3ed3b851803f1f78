/* Random numbers with PyTorch's CPU generator and orders, bit for bit. An Rng is plain data: copy it to save its state. */
#ifndef CNNC_RUNTIME_RNG_H
#define CNNC_RUNTIME_RNG_H
#include <stdint.h>

typedef struct { uint32_t state[624]; uint32_t next; } Rng;   /* MT19937 */

void rng_seed(Rng *g, uint64_t seed);                 /* torch.manual_seed: the low 32 bits count */
uint32_t rng_u32(Rng *g);
uint64_t rng_u64(Rng *g);                             /* two u32, the high word first */
/* torch.Tensor.uniform_(lo, hi) on float32, n values. */
void rng_uniform(Rng *g, float lo, float hi, float *out, int64_t n);
/* torch.randperm(n, generator=g): out[n]. Also the order of random_split: its first part is out[0 .. n1-1], and so on. */
void rng_permutation(Rng *g, int64_t n, int64_t *out);
/* What one pass over DataLoader(shuffle=True) draws from the global generator, and the order of its n samples.
 * With shuffle == 0 only the base seed is drawn and the order is 0 .. n-1. */
void rng_epoch_order(Rng *global, int shuffle, int64_t n, int64_t *out);

/* Counter-based bits: a pure function of (seed, stream, index), for what must not depend on threads or batches. */
uint64_t rng_hash(uint64_t seed, uint64_t stream, uint64_t index);
#endif
