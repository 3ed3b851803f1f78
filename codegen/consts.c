/* Packing constants.
 * In: const buffers with layouts. Out: one block of bytes. Lanes of a block past the extent are zero. */
#include "codegen/consts.h"
#include "codegen/tiles.h"
#include "codegen/winograd.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 64, FORGET = 1 << 20 };   /* FORGET: weights packed between two returns of memory */
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

/* Values before packing, row-major: doubles, or floats that were never anything else. */
typedef struct { const double *doubles; const float *floats; bool once; } Values;

/* Gives back the memory of `bytes` bytes of weights that have been read for the last time: whole pages. */
static void forget(const void *from, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)from + page - 1) & ~(page - 1),
              end = ((uintptr_t)from + bytes) & ~(page - 1);
    if (end > first)
        madvise((void *)first, end - first, MADV_DONTNEED);
}

/* A part of a buffer: `count` indices of one dimension, from `first` on. */
typedef struct { int dim; int64_t first, count; } Part;

/* The values of one part, row-major among themselves. */
static void pack(const Buffer *b, const Part *part, const Values *v, char *to)
{
    Shape box = b->shape;
    box.dim[part->dim] = part->count;
    int64_t n = shape_elements(&box), index[MAX_RANK] = {0}, stride[MAX_RANK];
    index[part->dim] = part->first;
    int rank = b->shape.rank, blocked = b->layout.block_dim, lanes = b->layout.lanes, paired = layout_pair_dim(&b->layout);
    int64_t lane = paired >= 0 ? 2 : 1;
    layout_strides(b, stride);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = 0;   /* layout_index with the strides computed once: weights are many */
        for (int d = 0; d < rank; d++)
            at += d == blocked  ? index[d] / lanes * stride[d] + index[d] % lanes * lane
                  : d == paired ? index[d] / 2 * stride[d] + index[d] % 2
                                : index[d] * stride[d];
        put(to, b->dtype, at, v->floats ? (double)v->floats[i] : v->doubles[i]);
        if (v->once && (i + 1) % FORGET == 0)
            forget(v->floats + i + 1 - FORGET, FORGET * sizeof *v->floats);
        for (int d = rank - 1; d >= 0; d--) {
            int64_t first = d == part->dim ? part->first : 0;
            if (++index[d] < first + box.dim[d])
                break;
            index[d] = first;
        }
    }
}

static const RefNamed *find_weight(const ConstsInput *in, const char *name)
{
    for (int32_t i = 0; name && i < in->n_weights; i++)
        if (!strcmp(in->weights[i].name, name))
            return &in->weights[i];
    return NULL;
}

static bool is_packed_once(const Consts *c, ValueId v)
{
    int slots = 0;
    for (uint32_t i = 0; i < c->slots.len; i++)
        slots += c->slots.at[i].l->buffers.at[c->slots.at[i].buf].value == v;
    return slots == 1;
}

/* A weight as it was given is packed from where it lies; what is folded is computed for its own slot and gone after it. Winograd's are
 * not yet transformed. */
static bool slot_values(const Consts *c, Arena *scratch, const Buffer *b, const ConstsInput *in, Values *out)
{
    if (b->data) {
        out->doubles = b->data;
        return true;
    }
    const RefNamed *w = graph_def(in->graph, b->value)->op == OP_PARAM ? find_weight(in, graph_value(in->graph, b->value)->name) : NULL;
    if (w && w->floats && !w->data && !b->winograd && !b->few && w->count == shape_elements(&b->shape)) {
        *out = (Values){.floats = w->floats, .once = in->weights_once && is_packed_once(c, b->value)};
        return true;
    }
    RefInputs ri = {.n = 1, .params = in->weights, .n_params = in->n_weights, .want = &b->value, .n_want = 1};
    RefRun *run = ref_run(scratch, in->graph, &ri);
    out->doubles = run->value[b->value].data;
    return out->doubles != NULL;
}

/* w[K][C][r][r] as u[a^2][K][C]: some filters at a time, for in double all of them take twice the room of what is packed. of: w's. */
static void pack_winograd(Arena *scratch, const Buffer *b, const double *w, const Shape *of, char *to)
{
    enum { FILTERS = 16 };
    int64_t filters = b->shape.dim[1], channels = b->shape.dim[2], taps = of->dim[1] * of->dim[2] * of->dim[3];
    double *u = NEWN(scratch, double, b->shape.dim[0] * FILTERS * channels), *phases = NULL;
    if (b->stride > 1)
        phases = NEWN(scratch, double, FILTERS * channels * b->winograd->r * b->winograd->r);
    for (int64_t k = 0; k < filters; k += FILTERS) {
        Part part = {1, k, filters - k < FILTERS ? filters - k : FILTERS};
        if (phases)
            winograd_phase_weights(w + k * taps, part.count, of->dim[1], (int)of->dim[2], b->stride, phases);
        winograd_weights(b->winograd, phases ? phases : w + k * taps, part.count, channels, u);
        pack(b, &part, &(Values){.doubles = u}, to);
    }
}

static void pack_few(Arena *scratch, const Buffer *b, const double *w, const Shape *of, char *to)
{
    double *grouped = NEWN(scratch, double, shape_elements(&b->shape));
    tiles_few_weights(b->few, w, of, grouped);
    pack(b, &(Part){.count = b->shape.dim[0]}, &(Values){.doubles = grouped}, to);
}

/* The weight that only the slot's value is made of: as it was given, or folded; NULL: there is none, or somebody else reads it. */
static const RefNamed *sole_weight(const Consts *c, const Buffer *b, const ConstsInput *in)
{
    const Node *n = b->value ? graph_def(in->graph, b->value) : NULL;
    if (!n || !is_packed_once(c, b->value) || (n->op != OP_PARAM && n->op != OP_FOLD_WEIGHT))
        return NULL;
    ValueId v = n->op == OP_PARAM ? b->value : n->in[0];
    int readers = 0;
    for (NodeId id = 1; id < in->graph->nodes.len; id++)
        for (int i = 0; i < graph_node(in->graph, id)->n_in; i++)
            readers += graph_node(in->graph, id)->in[i] == v;
    const RefNamed *w = v && readers <= 1 ? find_weight(in, graph_value(in->graph, v)->name) : NULL;
    return w && w->floats && !w->data ? w : NULL;
}

/* One constant at `to`, where all is zero. */
static bool fill_slot(const Consts *c, const ConstsInput *in, const Slot *s, char *to)
{
    const Buffer *b = &s->l->buffers.at[s->buf];
    Arena *scratch = arena_new();
    Values v = {0};
    bool fine = slot_values(c, scratch, b, in, &v);
    const RefNamed *gone = in->weights_once ? sole_weight(c, b, in) : NULL;
    if (gone && !v.floats)   /* it was folded: before the result takes memory */
        forget(gone->floats, (size_t)gone->count * sizeof *gone->floats);
    if (fine && b->winograd && !b->data)
        pack_winograd(scratch, b, v.doubles, &graph_value(in->graph, b->value)->shape, to);
    else if (fine && b->few)
        pack_few(scratch, b, v.doubles, &graph_value(in->graph, b->value)->shape, to);
    else if (fine)
        pack(b, &(Part){.count = b->shape.dim[0]}, &v, to);
    arena_free(scratch);
    if (gone && v.floats)
        forget(gone->floats, (size_t)gone->count * sizeof *gone->floats);
    return fine;
}

bool consts_fill(Consts *c, const ConstsInput *in, const char **data, int64_t *bytes)
{
    char *block = arena_alloc(c->a, (size_t)c->bytes + 2 * ALIGN);
    bool fine = true;
    block += (ALIGN - (uintptr_t)block % ALIGN) % ALIGN;
    for (uint32_t i = 0; i < c->slots.len && fine; i++)
        fine = fill_slot(c, in, &c->slots.at[i], block + c->slots.at[i].offset);
    *data = block;
    *bytes = c->bytes;
    return fine;
}

bool consts_write(const Consts *c, const ConstsInput *in, ConstsPut write, void *to)
{
    bool fine = true;
    for (uint32_t i = 0; i < c->slots.len && fine; i++) {
        int64_t end = i + 1 < c->slots.len ? c->slots.at[i + 1].offset : c->bytes;
        size_t size = (size_t)(end - c->slots.at[i].offset);
        Arena *one = arena_new();
        char *bytes = arena_alloc(one, size);
        fine = fill_slot(c, in, &c->slots.at[i], bytes) && write(to, bytes, size);
        arena_free(one);
    }
    return fine;
}
