/* The text of the TAPS skeleton (taps.c). In: a body with its taps. Out: the kernel's body. */
#include "codegen/gpu/contract.h"
#include "codegen/gpu/taps.h"

static const char *name_of(const Code *c, int axis) { return c->k->axis[axis].name; }
static int32_t extent_of(const Code *c, int axis) { return c->k->axis[axis].extent; }

static void open_loop(Code *c, const char *name, int32_t extent)
{
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int %s = 0; %s < %d; %s++)", name, name, extent, name);
    c->depth++;
}

static void close_loops(Code *c, int n) { c->depth -= n; }

/* ---- loads ---- */
static void load(Code *c, const GpuBody *x, AccessId at, const char *to)
{
    const char *guard = cu_guard(c, at), *type = c->l->buffers.at[c->k->access[at].buf].dtype == DT_BF16 ? "_bf16" : "";
    if (x->taps->vector == 1)
        cu_line(c, "%s[0] = %s;", to, cu_load(c, at));
    else
        cu_line(c, "load2%s(%s, &%s, %s);", type, to, cu_element(c, at), guard ? guard : "1");
}

/* Inputs from..to - 1 of each line, counted along the walk from the first tap of the point first_SLID: in so many places of `line` behind
 * those of their numbers. */
static void load_lines(Code *c, const GpuBody *x, int32_t from, int32_t to, int32_t behind)
{
    const GpuTaps *t = x->taps;
    const char *slid = name_of(c, t->slid), *other = name_of(c, t->other);
    open_loop(c, "i", taps_lines(c->k, x->contract, t));
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int j = %d; j < %d; j++)", from, to);
    cu_line(c, "const int %s = first_%s, %s = i, %s = first_%s, %s = j;", other, other, name_of(c, t->other_tap), slid, slid, name_of(c, t->tap));
    load(c, x, x->contract->a, behind ? arena_printf(c->arena, "line[i][j + %d]", behind) : "line[i][j]");
    cu_close(c);
    close_loops(c, 1);
}

static void load_factors(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const char *slid = name_of(c, t->slid), *other = name_of(c, t->other);
    open_loop(c, "i", t->others);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int u = 0; u < %d; u++)", t->points);
    cu_line(c, "const int %s = first_%s + i, %s = first_%s + u;", other, other, slid, slid);
    load(c, x, x->contract->b, "factor[i][u]");
    cu_close(c);
    close_loops(c, 1);
}

/* ---- a unit ---- */
static void add_products(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const AxisGroup *taps = &x->contract->row;
    const char *row = name_of(c, t->other_tap), *col = name_of(c, t->tap);
    open_loop(c, "i", t->others);
    open_loop(c, "u", t->points);
    open_loop(c, row, extent_of(c, t->other_tap));
    open_loop(c, col, extent_of(c, t->tap));
    open_loop(c, "v", t->vector);
    cu_line(c, "sums[%s][%s][v] += line[%d * i + %s][%d * u + %s][v] * factor[i][u][v];", name_of(c, taps->axis[0]), name_of(c, taps->axis[1]),
            taps_step(c->k, x->contract, t->other, t->other_tap), row, taps_step(c->k, x->contract, t->slid, t->tap), col);
    close_loops(c, 5);
}

static void walk(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const char *slid = name_of(c, t->slid);
    const int32_t step = taps_step(c->k, x->contract, t->slid, t->tap), window = extent_of(c, t->tap), left = window > step ? window - step : 0;
    const int32_t length = step * (t->points - 1) + window, lines = taps_lines(c->k, x->contract, t);
    cu_line(c, "float line[%d][%d][%d];", lines, length, t->vector);
    if (left) {
        cu_block(c);
        cu_line(c, "const int first_%s = from_%s;", slid, slid);
        load_lines(c, x, 0, left, step * t->points);
        cu_close(c);
    }
    cu_line(c, "#pragma unroll 1");
    cu_open(c, "for (int first_%s = from_%s; first_%s < from_%s + %d; first_%s += %d)", slid, slid, slid, slid, t->stretch, slid, t->points);
    if (left) {
        open_loop(c, "i", lines);
        open_loop(c, "j", left);
        open_loop(c, "v", t->vector);
        cu_line(c, "line[i][j][v] = line[i][j + %d][v];", step * t->points);
        close_loops(c, 3);
    }
    load_lines(c, x, left, length, 0);
    cu_line(c, "float factor[%d][%d][%d];", t->others, t->points, t->vector);
    load_factors(c, x);
    add_products(c, x);
    cu_close(c);
}

/* `const int NAME = FACTOR * (unit / BELOW % COUNT)`; BELOW grows by COUNT. */
static void split_unit(Code *c, const char *name, int32_t factor, int32_t count, int64_t *below, bool outermost)
{
    const char *digit = *below > 1 ? arena_printf(c->arena, "(unsigned)unit / %lld", (long long)*below) : "(unsigned)unit";
    const char *scale = factor > 1 ? arena_printf(c->arena, "%d * ", factor) : "";
    if (count == 1)
        cu_line(c, "const int %s = 0;", name);
    else
        cu_line(c, "const int %s = %s(int)(%s%s);", name, scale, digit, outermost ? "" : arena_printf(c->arena, " %% %d", count));
    *below *= count;
}

/* Where a unit lies: the axis beside the walk innermost. */
static void split_units(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const AxisGroup *depth = &x->contract->depth;
    int64_t below = 1, rest = depth->n - 2;
    split_unit(c, arena_printf(c->arena, "first_%s", name_of(c, t->other)), t->others, extent_of(c, t->other) / t->others, &below, false);
    split_unit(c, arena_printf(c->arena, "from_%s", name_of(c, t->slid)), t->stretch, extent_of(c, t->slid) / t->stretch, &below, rest == 0);
    for (int i = depth->n - 1; i >= 0; i--)
        if (depth->axis[i] != t->slid && depth->axis[i] != t->other)
            split_unit(c, name_of(c, depth->axis[i]), 1, extent_of(c, depth->axis[i]), &below, --rest == 0);
}

static void sum_units(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const Contract *p = x->contract;
    const int64_t all = p->depth.extent / (t->stretch * t->others);
    if (p->depth.dynamic)
        cu_line(c, "const int units = samples * %lld;", (long long)all / extent_of(c, p->depth.axis[0]));
    else
        cu_line(c, "const int units = %lld;", (long long)all);
    cu_line(c, "const int last = units < (slice + 1) * %d ? units : (slice + 1) * %d;", t->slice_units, t->slice_units);
    cu_open(c, "for (int unit = slice * %d + threadIdx.x / %d; unit < last; unit += %d)", t->slice_units, t->columns, x->threads / t->columns);
    split_units(c, x);
    walk(c, x);
    cu_close(c);
}

/* ---- a block ---- */
/* The sums of a warp's groups to shared[warp][channel][tap]. */
static void put_sums(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const AxisGroup *taps = &x->contract->row;
    const char *row = name_of(c, taps->axis[0]), *col = name_of(c, taps->axis[1]);
    open_loop(c, row, extent_of(c, taps->axis[0]));
    open_loop(c, col, extent_of(c, taps->axis[1]));
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int v = 0; v < %d; v++)", t->vector);
    cu_line(c, "const float sum = lanes_sum_apart(sums[%s][%s][v], %d);", row, col, t->columns);
    if (t->columns < GPU_WARP)
        cu_line(c, "if (threadIdx.x %% 32 < %d)", t->columns);
    cu_line(c, "%sshared[(threadIdx.x / 32 * %d + threadIdx.x %% %d * %d + v) * %lld + %d * %s + %s] = sum;", t->columns < GPU_WARP ? "    " : "",
            t->columns * t->vector, t->columns, t->vector, (long long)taps->extent, extent_of(c, taps->axis[1]), row, col);
    cu_close(c);
    close_loops(c, 2);
    cu_line(c, "__syncthreads();");
}

/* One tap of one channel a thread: the warps' sums in order, then outputs, or the slice's partial sum. */
static void emit_sums(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const Contract *p = x->contract;
    const char *channel = name_of(c, p->both.axis[0]);
    const int32_t taps = (int32_t)p->row.extent, sums = t->columns * t->vector * taps;
    cu_open(c, "for (int i = threadIdx.x; i < %d; i += %d)", sums, x->threads);
    cu_line(c, "const int %s = first_channel + i / %d, row = i %% %d;", channel, taps, taps);
    if (p->both.extent % (t->columns * t->vector))
        cu_line(c, "if (%s >= %d) continue;", channel, extent_of(c, p->both.axis[0]));
    cu_line(c, "float sum = shared[i];");
    cu_line(c, "for (int warp = 1; warp < %d; warp++) sum += shared[%d * warp + i];", x->threads / GPU_WARP, sums);
    if (p->slices > 1) {
        cu_line(c, "partial[%lldll * slice + %d * %s + row] = sum;", (long long)(p->both.extent * taps), taps, channel);
    } else {
        cu_split(c, "row", p->row.axis, p->row.n);
        c->name[p->sum] = "sum";
        cu_outputs(c, false);
    }
    cu_close(c);
}

void taps_emit(Code *c, const GpuBody *x)
{
    const GpuTaps *t = x->taps;
    const Contract *p = x->contract;
    const AxisGroup *taps = &p->row;
    const char *g = name_of(c, p->both.axis[0]);
    const int32_t across = taps_column_blocks(p, t), channels = extent_of(c, p->both.axis[0]);
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "const int slice = block / %d, first_channel = block %% %d * %d;", across, across, t->columns * t->vector);
    cu_line(c, "float sums[%d][%d][%d] = {{{0.0f}}};", extent_of(c, taps->axis[0]), extent_of(c, taps->axis[1]), t->vector);
    cu_block(c);
    cu_line(c, "const int channel = first_channel + threadIdx.x %% %d * %d;", t->columns, t->vector);
    if (channels % (t->columns * t->vector))
        cu_line(c, "const int %s = channel < %d ? channel : %d;   // sums that nothing reads", g, channels, channels - t->vector);
    else
        cu_line(c, "const int %s = channel;", g);
    sum_units(c, x);
    cu_close(c);
    put_sums(c, x);
    emit_sums(c, x);
}
