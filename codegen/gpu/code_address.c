/* Addresses and guards of CUDA text.
 * In: a kernel's accesses, its buffers' layouts and names. Out: strings, and the tables that accesses look indices up in.
 * Relies on: axes being C variables where an address is asked for. */
#include "codegen/gpu/code.h"

/* Adds "+ coefficient * name" to a sum that is being written. */
static const char *plus(Code *c, const char *sum, int64_t coef, const char *name)
{
    if (coef == 0)
        return sum;
    const char *sign = coef < 0 ? (sum ? " - " : "-") : sum ? " + " : "";
    int64_t size = coef < 0 ? -coef : coef;
    const char *factor = size == 1 && name ? "" : arena_printf(c->arena, "%lld%s", (long long)size, name ? " * " : "");
    return arena_printf(c->arena, "%s%s%s%s", sum ? sum : "", sign, factor, name ? name : "");
}

static int64_t table_length(const Code *c, const Affine *f)
{
    int64_t n = c->k->axis[f->table_axis].extent;
    return f->table_axis2 >= 0 ? (n - 1) * f->table_stride + c->k->axis[f->table_axis2].extent : n;
}

/* Tables are constants of the text, defined in front of the kernel under a name that depends on the access. */
static const char *table_name(const Code *c, const Affine *f)
{
    for (int i = 0; i < c->k->n_access; i++)
        for (int d = 0; d < c->k->access[i].rank; d++)
            if (c->k->access[i].dim[d].table == f->table)
                return arena_printf(c->arena, "%s_table%d", c->entry, i * MAX_RANK + d);
    BUG("a table of no access");
}

static const char *table_text(Code *c, const Affine *f)
{
    const char *index = c->k->axis[f->table_axis].name;
    if (f->table_axis2 >= 0)
        index = arena_printf(c->arena, "%d * %s + %s", f->table_stride, index, c->k->axis[f->table_axis2].name);
    return arena_printf(c->arena, "%s[%s]", table_name(c, f), index);
}

/* offset + sum of coef * axis (+ table), before any division. */
static const char *affine_sum(Code *c, const Affine *f, int64_t scale)
{
    const char *sum = NULL;
    for (int a = 0; a < c->k->n_axes; a++)
        sum = plus(c, sum, scale * f->coef[a], c->k->axis[a].name);
    if (f->table)
        sum = plus(c, sum, scale, table_text(c, f));
    sum = plus(c, sum, scale * f->offset, NULL);
    return sum ? sum : "0";
}

void cu_tables(Code *c)
{
    Vec(const int32_t *) seen = {0};
    for (int i = 0; i < c->k->n_access; i++)
        for (int d = 0; d < c->k->access[i].rank; d++) {
            const Affine *f = &c->k->access[i].dim[d];
            bool fresh = f->table != NULL;
            for (uint32_t s = 0; s < seen.len; s++)
                fresh = fresh && seen.at[s] != f->table;
            if (!fresh)
                continue;
            vec_push(c->arena, &seen, f->table);
            fprintf(c->to, "__device__ const int %s[%lld] = {", table_name(c, f), (long long)table_length(c, f));
            for (int64_t t = 0; t < table_length(c, f); t++)
                fprintf(c->to, "%s%d", t % 24 ? ", " : "\n    ", f->table[t]);
            fputs("};\n", c->to);
        }
}

const char *cu_element(Code *c, AccessId at)
{
    const Access *s = &c->k->access[at];
    const Buffer *b = &c->l->buffers.at[s->buf];
    int64_t stride[MAX_RANK], coef[MAX_AXIS] = {0}, offset = 0;
    layout_strides(b, stride);
    const char *rest = NULL, *sum = NULL;
    for (int d = 0; d < s->rank; d++) {
        const Affine *f = &s->dim[d];
        if (f->div > 1) {
            rest = plus(c, rest, stride[d], arena_printf(c->arena, "((%s) / %d)", affine_sum(c, f, 1), f->div));
            continue;
        }
        for (int a = 0; a < c->k->n_axes; a++)
            coef[a] += stride[d] * f->coef[a];
        offset += stride[d] * f->offset;
        if (f->table)
            rest = plus(c, rest, stride[d], table_text(c, f));
    }
    for (int a = 0; a < c->k->n_axes; a++)
        sum = plus(c, sum, coef[a], c->k->axis[a].name);
    if (rest)
        sum = sum ? arena_printf(c->arena, "%s + %s", sum, rest) : rest;
    sum = plus(c, sum, offset, NULL);
    bool wide = buffer_elements(b) > INT32_MAX;
    return arena_printf(c->arena, "%s[%s%s]", c->buffer[s->buf], wide ? "0ll + " : "", sum ? sum : "0");
}

const char *cu_index_part(Code *c, AccessId at, uint32_t axes, bool constant)
{
    const Access *s = &c->k->access[at];
    int64_t stride[MAX_RANK], offset = 0;
    layout_strides(&c->l->buffers.at[s->buf], stride);
    const char *sum = NULL;
    for (int a = 0; a < c->k->n_axes; a++)
        if (axes >> a & 1)
            sum = plus(c, sum, access_step(c->l, c->k, at, a), c->k->axis[a].name);
    for (int d = 0; d < s->rank; d++)
        offset += stride[d] * s->dim[d].offset;
    sum = plus(c, sum, constant ? offset : 0, NULL);
    return sum ? sum : "0";
}

const char *cu_dim_part(Code *c, const Affine *f, uint32_t axes, bool constant)
{
    const char *sum = NULL;
    for (int a = 0; a < c->k->n_axes; a++)
        if (axes >> a & 1)
            sum = plus(c, sum, f->coef[a], c->k->axis[a].name);
    sum = plus(c, sum, constant ? f->offset - (f->guarded ? f->lo : 0) : 0, NULL);
    return sum ? sum : "0";
}

static const char *dim_guard(Code *c, const Affine *f)
{
    const char *raw = affine_sum(c, f, 1), *guard = NULL;
    if (f->div > 1) {
        guard = arena_printf(c->arena, "(%s) %% %d == 0", raw, f->div);
        raw = arena_printf(c->arena, "(%s) / %d", raw, f->div);
    }
    if (f->guarded) {
        const char *low = f->lo ? arena_printf(c->arena, "%s - %d", raw, f->lo) : raw;
        const char *range = arena_printf(c->arena, "(unsigned)(%s) < %du", low, f->hi - f->lo);
        guard = guard ? arena_printf(c->arena, "%s && %s", guard, range) : range;
        if (f->table)
            guard = arena_printf(c->arena, "%s >= 0 && %s", table_text(c, f), guard);
    }
    return guard;
}

const char *cu_guard(Code *c, AccessId at)
{
    const char *all = NULL;
    for (int d = 0; d < c->k->access[at].rank; d++) {
        const char *one = dim_guard(c, &c->k->access[at].dim[d]);
        if (one)
            all = all ? arena_printf(c->arena, "%s && %s", all, one) : one;
    }
    return all;
}

/* Row-major position of an output element in its sample. */
const char *cu_row_index(Code *c, AccessId at)
{
    const Access *s = &c->k->access[at];
    const Buffer *b = &c->l->buffers.at[s->buf];
    const char *sum = NULL;
    int64_t stride = 1;
    for (int d = s->rank - 1; d >= (b->batched ? 1 : 0); d--) {
        sum = plus(c, sum, stride, arena_printf(c->arena, "(%s)", affine_sum(c, &s->dim[d], 1)));
        stride *= b->shape.dim[d];
    }
    return arena_printf(c->arena, "(%s)", sum ? sum : "0");
}
