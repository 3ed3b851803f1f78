/* Packing constants.
 * In: const buffers with layouts. Out: one block of bytes. Lanes of a block past the extent are zero. */
#include "codegen/consts.h"
#include "codegen/winograd.h"

#include <string.h>

enum { ALIGN = 64 };
typedef struct { const KernelList *l; BufId buf; int64_t offset; } Slot;
struct Consts { Arena *a; Vec(Slot) slots; int64_t bytes; };

Consts *consts_new(Arena *a)
{
    Consts *c = NEW(a, Consts);
    c->a = a;
    return c;
}

int64_t consts_add(Consts *c, const KernelList *l, BufId b)
{
    for (uint32_t i = 0; i < c->slots.len; i++)
        if (c->slots.at[i].l == l && c->slots.at[i].buf == b)
            return c->slots.at[i].offset;
    const Buffer *x = &l->buffers.at[b];
    int64_t offset = c->bytes, bytes = buffer_elements(x) * (int64_t)dtype_size(x->dtype);
    vec_push(c->a, &c->slots, (Slot){l, b, offset});
    c->bytes += (bytes + ALIGN - 1) / ALIGN * ALIGN + ALIGN;   /* a vector may read past the last element */
    return offset;
}

int64_t consts_bytes(const Consts *c) { return c->bytes; }

/* Rounded to the nearest bf16, ties to even. */
static uint16_t bf16_of(double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return f != f ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void put(char *to, DType t, int64_t index, double v)
{
    if (t == DT_F32)
        ((float *)to)[index] = (float)v;
    else if (t == DT_BF16)
        ((uint16_t *)to)[index] = bf16_of(v);
    else if (t == DT_I32)
        ((int32_t *)to)[index] = (int32_t)v;
    else if (t == DT_U8)
        ((uint8_t *)to)[index] = (uint8_t)v;
    else
        ((int64_t *)to)[index] = (int64_t)v;
}

static void pack(const Buffer *b, const double *data, char *to)
{
    int64_t n = shape_elements(&b->shape), index[MAX_RANK] = {0}, stride[MAX_RANK];
    int rank = b->shape.rank, blocked = b->layout.block_dim, lanes = b->layout.lanes, paired = layout_pair_dim(&b->layout);
    int64_t lane = paired >= 0 ? 2 : 1;
    layout_strides(b, stride);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = 0;   /* layout_index with the strides computed once: weights are many */
        for (int d = 0; d < rank; d++)
            at += d == blocked  ? index[d] / lanes * stride[d] + index[d] % lanes * lane
                  : d == paired ? index[d] / 2 * stride[d] + index[d] % 2
                                : index[d] * stride[d];
        put(to, b->dtype, at, data[i]);
        for (int d = rank - 1; d >= 0 && ++index[d] == b->shape.dim[d]; d--)
            index[d] = 0;
    }
}

bool consts_fill(Consts *c, const Graph *g, const RefNamed *weights, int32_t n, const char **data, int64_t *bytes)
{
    Vec(ValueId) want = {0};
    for (uint32_t i = 0; i < c->slots.len; i++) {
        const Buffer *b = &c->slots.at[i].l->buffers.at[c->slots.at[i].buf];
        if (!b->data)
            vec_push(c->a, &want, b->value);
    }
    RefRun *run = NULL;
    if (want.len) {
        RefInputs in = {.n = 1, .params = weights, .n_params = n, .want = want.at, .n_want = (int32_t)want.len};
        run = ref_run(c->a, g, &in);
    }
    char *block = arena_alloc(c->a, (size_t)c->bytes + 2 * ALIGN);
    block += (ALIGN - (uintptr_t)block % ALIGN) % ALIGN;
    for (uint32_t i = 0; i < c->slots.len; i++) {
        const Slot *s = &c->slots.at[i];
        const Buffer *b = &s->l->buffers.at[s->buf];
        const double *v = b->data ? b->data : run->value[b->value].data;
        if (!v)
            return false;
        if (b->winograd) {
            double *u = NEWN(c->a, double, shape_elements(&b->shape));
            winograd_weights(b->winograd, v, b->shape.dim[1], b->shape.dim[2], u);
            v = u;
        }
        pack(b, v, block + s->offset);
    }
    *data = block;
    *bytes = c->bytes;
    return true;
}
