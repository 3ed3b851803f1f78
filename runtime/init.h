/* Initial values of a model's tensors, with PyTorch's random stream. */
#ifndef CNNC_RUNTIME_INIT_H
#define CNNC_RUNTIME_INIT_H
#include "runtime/abi.h"
#include "runtime/rng.h"

int64_t tensor_elements(const CnncTensor *t);         /* 1 for rank 0 */
int64_t tensor_bytes(const CnncTensor *t);
/* Fills every tensor of the table in `state` (state_bytes long, aligned to 8), drawing from g in the table's order:
 * after rng_seed(g, S) the values are those of building the layers after torch.manual_seed(S).
 * Bytes of state between tensors are zeroed. */
void init_state(const CnncTensor *tensors, int n, Rng *g, char *state, int64_t state_bytes);
void init_tensor(const CnncTensor *t, Rng *g, void *out);   /* one tensor, into out */
#endif
