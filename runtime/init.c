/* Fills tensors with their initial values.
 * In: the tensor table, a generator. Out: the state block.
 * Relies on the table's order being that of the layers, weight before bias; leaves g where torch's generator would stand.
 * Idea: only uniform tensors draw; fixed filters repeat their values over the leading dimensions. */
#include "runtime/init.h"
#include <string.h>

int64_t tensor_elements(const CnncTensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

int64_t tensor_bytes(const CnncTensor *t)
{
    static const int size[] = {[CNNC_F32] = 4, [CNNC_I32] = 4, [CNNC_U8] = 1, [CNNC_I64] = 8};
    return tensor_elements(t) * size[t->dtype];
}

static void fill(const CnncTensor *t, double value, void *out)
{
    int64_t n = tensor_elements(t);
    switch (t->dtype) {
    case CNNC_F32:
        for (int64_t i = 0; i < n; i++)
            ((float *)out)[i] = (float)value;
        break;
    case CNNC_I32:
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)out)[i] = (int32_t)value;
        break;
    case CNNC_I64:
        for (int64_t i = 0; i < n; i++)
            ((int64_t *)out)[i] = (int64_t)value;
        break;
    default:
        memset(out, (uint8_t)value, (size_t)n);
    }
}

void init_tensor(const CnncTensor *t, Rng *g, void *out)
{
    enum { UNIFORM, ZEROS, ONES, CONSTANT, VALUES }; /* the ABI's numbers for `init` */
    int64_t n = tensor_elements(t);
    if (t->init == UNIFORM && t->dtype == CNNC_F32) {
        rng_uniform(g, (float)-t->bound, (float)t->bound, out, n);
    } else if (t->init == VALUES && t->dtype == CNNC_F32 && t->n_values > 0) {
        for (int64_t i = 0; i < n; i++)
            ((float *)out)[i] = t->values[i % t->n_values];
    } else {
        fill(t, t->init == ONES ? 1 : t->init == CONSTANT ? t->bound : 0, out);
    }
}

void init_state(const CnncTensor *tensors, int n, Rng *g, char *state, int64_t state_bytes)
{
    memset(state, 0, (size_t)state_bytes);
    for (int i = 0; i < n; i++)
        init_tensor(&tensors[i], g, state + tensors[i].offset);
}
