/* Lines, axes, loops and stores of CUDA text.
 * In: a kernel. Out: lines on c->to. Addresses are code_address.c's, values code_value.c's.
 * Relies on: axes being C variables where an output is stored. */
#include "codegen/gpu/code.h"

#include <stdarg.h>

/* ---- lines ---- */
static void put(Code *c, const char *fmt, va_list ap, const char *end)
{
    for (int i = 0; i < c->depth; i++)
        fputs("    ", c->to);
    vfprintf(c->to, fmt, ap);
    fputs(end, c->to);
}

void cu_line(Code *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put(c, fmt, ap, "\n");
    va_end(ap);
}

void cu_open(Code *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put(c, fmt, ap, " {\n");
    va_end(ap);
    c->depth++;
}

void cu_block(Code *c)
{
    cu_line(c, "{");
    c->depth++;
}

void cu_close(Code *c)
{
    c->depth--;
    cu_line(c, "}");
}

/* ---- a kernel ---- */
void cu_begin(Code *c, const Kernel *k)
{
    c->k = k;
    c->name = NEWN(c->arena, const char *, k->n_expr);
    c->uses = NEWN(c->arena, int, k->n_expr);
    for (int e = 1; e < k->n_expr; e++) {
        c->uses[k->expr[e].a]++;
        c->uses[k->expr[e].b]++;
        c->uses[k->expr[e].c]++;
    }
    for (int o = 0; o < k->n_out; o++)
        c->uses[k->out[o].value]++;
    for (int i = 0; i < k->n_tile_sums; i++)
        c->uses[k->tile_sum[i].value]++;
}

/* ---- axes ---- */
bool cu_is_dynamic(const Code *c, int axis) { return c->k->axis[axis].batch; }

const char *cu_extent(Code *c, int axis)
{
    const Axis *x = &c->k->axis[axis];
    if (!x->batch)
        return arena_printf(c->arena, "%d", x->extent);
    if (x->batch_step > 0)
        return arena_printf(c->arena, "samples_left(samples - %d * %s, %d)", x->batch_step, c->k->axis[x->batch_base].name, x->extent);
    return x->batch_div > 1 ? arena_printf(c->arena, "(samples + %d) / %d", x->batch_div - 1, x->batch_div) : "samples";
}

/* Without a sign a division by a constant is an instruction or two less. */
void cu_split_by(Code *c, const char *point, const int8_t *axes, int n, const int32_t *by)
{
    int64_t below = 1;
    if (!c->long_points)
        point = arena_printf(c->arena, "(unsigned)%s", point);
    for (int i = n - 1; i >= 0; i--) {
        const Axis *x = &c->k->axis[axes[i]];
        int32_t step = by ? by[i] : 1, extent = x->extent / step;
        const char *shifted = below > 1 ? arena_printf(c->arena, "%s / %lld", point, (long long)below) : point;
        const char *name = step > 1 ? arena_printf(c->arena, "first_%s = %d *", x->name, step) : arena_printf(c->arena, "%s =", x->name);
        if (extent == 1)
            cu_line(c, "const int %s 0;", name);
        else if (i > 0)
            cu_line(c, "const int %s (int)(%s %% %d);", name, shifted, extent);
        else
            cu_line(c, "const int %s (int)(%s);", name, shifted);
        below *= extent;
    }
}

void cu_split(Code *c, const char *point, const int8_t *axes, int n) { cu_split_by(c, point, axes, n, NULL); }

/* ---- loops ---- */
static int axes_of(const Code *c, uint32_t mask, int8_t *axes)
{
    int n = 0;
    for (int a = 0; a < c->k->n_axes; a++)
        if (mask >> a & 1)
            axes[n++] = (int8_t)a;
    return n;
}

/* Many kernels share the registers of a slice: only innermost loops are unrolled, long ones a little. */
void cu_unroll(Code *c, int axis, bool innermost)
{
    enum { SHORT = 8 };
    if (!innermost)
        cu_line(c, "#pragma unroll 1");
    else if (c->k->axis[axis].extent > SHORT || cu_is_dynamic(c, axis))
        cu_line(c, "#pragma unroll 4");
}

/* One loop an axis. Returns how many braces to close. */
int cu_open_serial(Code *c, uint32_t mask)
{
    int8_t axes[MAX_AXIS] = {0};
    int n = axes_of(c, mask, axes);
    for (int i = 0; i < n; i++) {
        const char *v = c->k->axis[axes[i]].name;
        if (c->in_slice)
            cu_unroll(c, axes[i], i + 1 == n);
        if (c->unrolled)
            cu_line(c, "#pragma unroll");
        cu_open(c, "for (int %s = 0; %s < %s; %s++)", v, v, cu_extent(c, axes[i]), v);
    }
    return n;
}

/* One loop over all points of the axes, a block's threads side by side. */
void cu_open_shared(Code *c, uint32_t mask, bool wide)
{
    int8_t axes[MAX_AXIS] = {0};
    int n = axes_of(c, mask, axes);
    int64_t all = 1;
    for (int i = 0; i < n; i++)
        all *= c->k->axis[axes[i]].extent;
    int64_t steps = wide ? all / WIDE : all, inner = steps / c->k->axis[axes[0]].extent;
    const char *total = arena_printf(c->arena, "%lld", (long long)steps);
    if (cu_is_dynamic(c, axes[0]))
        total = inner > 1 ? arena_printf(c->arena, "(%s) * %lld", cu_extent(c, axes[0]), (long long)inner) : cu_extent(c, axes[0]);
    const char *index = c->threads == GPU_WARP ? "lane" : "i", *thread = c->in_slice ? "thread" : "threadIdx.x";
    const char *part = c->columns ? arena_printf(c->arena, " / %d", c->columns) : c->threads == GPU_WARP ? " % 32" : "";
    if (wide && !c->in_slice)
        cu_line(c, "#pragma unroll 2");   /* loads enough under way; with four ptxas spills */
    cu_open(c, "for (int %s = %s%s; %s < %s; %s += %d)", index, thread, part, index, total, index, c->columns ? c->threads / c->columns : c->threads);
    int32_t by[MAX_AXIS] = {0};
    for (int i = 0; i < n; i++)
        by[i] = wide && i == n - 1 ? WIDE : 1;
    cu_split_by(c, index, axes, n, by);
    for (int i = 1; i < n; i++)
        if (cu_is_dynamic(c, axes[i]))
            cu_line(c, "if (%s >= %s) continue;", c->k->axis[axes[i]].name, cu_extent(c, axes[i]));
}

/* ---- stores ---- */
void cu_store(Code *c, int o, const char *value)
{
    AccessId at = c->k->out[o].at;
    const char *guard = cu_guard(c, at);
    if (c->l->buffers.at[c->k->access[at].buf].dtype == DT_BF16)
        value = arena_printf(c->arena, "to_bf16(%s)", value);
    cu_line(c, "%s%s%s%s = %s;", guard ? "if (" : "", guard ? guard : "", guard ? ") " : "", cu_element(c, at), value);
}

void cu_outputs_of(Code *c, uint64_t outs)
{
    const char *value[MAX_KERNEL_OUT];
    for (int o = 0; o < c->k->n_out; o++)
        if (outs >> o & 1)
            value[o] = __builtin_popcountll(outs) > 1 ? cu_variable(c, c->k->out[o].value) : cu_value(c, c->k->out[o].value);
    for (int o = 0; o < c->k->n_out; o++)
        if (outs >> o & 1)
            cu_store(c, o, value[o]);
}

void cu_outputs(Code *c, bool one_lane)
{
    for (int o = 0; o < c->k->n_out && one_lane; o++)
        cu_hoist_reductions(c, c->k->out[o].value, 0);
    int threads = c->threads;
    c->threads = 0;
    if (one_lane)
        cu_open(c, "if (%s %% 32 == 0)", c->in_slice ? "thread" : "threadIdx.x");
    cu_outputs_of(c, ~0ull >> (MAX_KERNEL_OUT - c->k->n_out));
    if (one_lane)
        cu_close(c);
    c->threads = threads;
}

uint32_t out_axes(const Kernel *k, int o) { return access_axes(k, k->out[o].at); }

uint32_t outs_with_axes(const Kernel *k, uint32_t axes)
{
    uint32_t outs = 0;
    for (int o = 0; o < k->n_out; o++)
        if (out_axes(k, o) == axes)
            outs |= 1u << o;
    return outs;
}
