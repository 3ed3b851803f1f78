/* A convolution by Winograd in one kernel.
 * In: a launch whose Contract has a GpuWinograd: rows are tiles of m x m outputs, numbered through the images, columns are filters.
 * Out: the kernel's body. With a = m + r - 1, of a block's tiles and filters:
 *
 *     for each step of channels:                 V[channel][a^2][tile] and U[channel][a^2][filter] in shared memory, two of each
 *         wait for copies, barrier
 *         start the copies of U for the next step; load the inputs for the next step, a thread one tile of one channel
 *         each thread: sums += V U for its tiles, filters and points, a warp's threads having the same points
 *         V of the next step = B' inputs B
 *     exchange the sums through shared memory, since a tile's a^2 are those of several warps
 *     each thread, for some tiles and filters: outputs = A' sums A, the epilogue of each
 *
 * Inputs outside the image or past the samples are 0 by a mask of a^2 bits, made once. Partial sums of slices are outputs: the output
 * transform is linear. */
#include "codegen/gpu/winograd.h"

static int32_t points_of(const Contract *x) { return winograd_points(x); }
/* Floats of V and of U for one index of the depth, so that what one warp writes lies in different banks. */
static int32_t v_pitch(const Contract *x)
{
    return points_of(x) * x->rows + (x->winograd->of_weights ? 4 : x->rows < GPU_WARP ? x->rows : 0);
}
static int32_t u_pitch(const Contract *x) { return points_of(x) * x->cols + (x->winograd->of_weights ? 4 : 0); }
static const char *axis_name(const Code *c, int axis) { return c->k->axis[axis].name; }

/* ---- inputs and weights to shared memory ---- */
static void emit_own_tile(Code *c, const Contract *x)
{
    const GpuWinograd *g = x->winograd;
    const WinogradForm *f = g->form;
    const Buffer *in = &c->l->buffers.at[c->k->access[x->a].buf];
    int64_t stride[MAX_RANK];
    layout_strides(in, stride);
    cu_line(c, "// The tile and the channel of a step whose inputs the thread transforms; which of them are inside the image.");
    cu_line(c, "const int own_tile = threadIdx.x %% %d, own_channel = threadIdx.x / %d, numbered = first_tile + own_tile;", x->rows, x->rows);
    cu_line(c, "const int top = numbered / %d %% %d * %d - %d, left = numbered %% %d * %d - %d;", g->across, g->down, f->m, g->pad_h, g->across, f->m,
            g->pad_w);
    cu_line(c, "const int own_at = %lld * (numbered / %d) + %lld * own_channel + %lld * top + %lld * left;", (long long)stride[0], g->across * g->down,
            (long long)stride[1], (long long)stride[2], (long long)stride[3]);
    cu_line(c, "unsigned long long inside = 0;");
    cu_open(c, "if (own_channel < %d && numbered < samples * %d)", x->steps, g->across * g->down);
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", points_of(x));
    cu_line(c, "    if ((unsigned)(top + i / %d) < %du && (unsigned)(left + i %% %d) < %du) inside |= 1ull << i;", f->a, (int)in->shape.dim[2], f->a,
            (int)in->shape.dim[3]);
    cu_close(c);
}

static void emit_inputs(Code *c, const Contract *x)
{
    const Buffer *in = &c->l->buffers.at[c->k->access[x->a].buf];
    int a = x->winograd->form->a;
    int64_t stride[MAX_RANK];
    layout_strides(in, stride);
    if (x->winograd->channels % x->steps)
        cu_line(c, "const unsigned long long now = from + own_channel < last_channel ? inside : 0;");
    else
        cu_line(c, "const unsigned long long now = inside;");
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", a * a);
    cu_line(c, "    inputs[i] = now >> i & 1 ? %s[own_at + %lld * from + %lld * (i / %d) + %lld * (i %% %d)] : 0.0f;", c->buffer[c->k->access[x->a].buf],
            (long long)stride[1], (long long)stride[2], a, (long long)stride[3], a);
}

/* U's lines, one for each channel and point, lie one after the other in both memories. A thread copies four filters of some lines. */
static void emit_weights(Code *c, const Contract *x)
{
    const Buffer *u = &c->l->buffers.at[c->k->access[x->b].buf];
    const char *name = c->buffer[c->k->access[x->b].buf];
    int32_t points = points_of(x), lines = x->threads / (x->cols / 4), all = x->steps * points;
    long long filters = u->shape.dim[1];
    const char *inside = filters % x->cols ? arena_printf(c->arena, "first_filter + copy_filter < %lld", filters) : NULL;
    if (x->winograd->channels % x->steps)
        inside = arena_printf(c->arena, "%s%sline < %d * (last_channel - from)", inside ? inside : "", inside ? " && " : "", points);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", (all + lines - 1) / lines);
    cu_line(c, "const int line = copy_line + %d * i;", lines);
    if (all % lines)
        cu_line(c, "if (line >= %d) break;", all);
    if (inside)
        cu_line(c, "const int there = %s;", inside);
    const char *from = arena_printf(c->arena, "&%s[%lld * (%d * from + line) + first_filter + copy_filter]", name, filters, points);
    cu_line(c, "cp_async16(shared_at_of(u_next + %d * line + copy_filter), %s, %s);", x->cols, from, inside ? "there" : "1");
    cu_close(c);
}

static void emit_load(Code *c, const Contract *x)
{
    emit_weights(c, x);
    emit_inputs(c, x);
}

static void emit_place(Code *c, const Contract *x)
{
    const WinogradForm *f = x->winograd->form;
    cu_open(c, "if (own_channel < %d)", x->steps);
    cu_line(c, "%s(inputs, v_next + %d * own_channel + own_tile, %d);", winograd_function(c->arena, f, TRANSFORM_INPUTS), v_pitch(x), x->rows);
    cu_close(c);
}

/* ---- sums ---- */
void winograd_begin(Code *c, const Contract *x)
{
    int32_t across = x->rows / x->unit_rows, down = x->cols / x->unit_cols;
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "float *v_part = shared, *u_part = shared + %d;   // twice [%d][%d][%d] and [%d][%d][%d]", 2 * x->steps * v_pitch(x), x->steps, points_of(x), x->rows,
            x->steps, points_of(x), x->cols);
    cu_line(c, "const int thread_row = threadIdx.x %% %d, thread_col = threadIdx.x / %d %% %d, first_point = threadIdx.x / %d * %d;", across, across, down, across * down,
            x->winograd->points);
    cu_line(c, "float sums[%d][%d][%d] = {{{0.0f}}};", x->winograd->points, x->unit_cols, x->unit_rows);
}

/* `count` floats of a line of `size`, in groups of four that lie apart, so that a warp reads whole lines. */
static void emit_fragment(Code *c, const char *name, int32_t size, int32_t count, const char *thread, int32_t pitch)
{
    for (int32_t i = 0; i < count / 4; i++)
        cu_line(c, "load4(%s + %d, &%s_now[%d * depth + %d * point + 4 * %s + %d]);", name, 4 * i, name, pitch, size, thread,
                i * (size / (count / 4)));
}

static void emit_sums(Code *c, const Contract *x)
{
    cu_line(c, "const float *v_now = v_part + step %% 2 * %d + first_point * %d, *u_now = u_part + step %% 2 * %d + first_point * %d;", x->steps * v_pitch(x), x->rows,
            x->steps * u_pitch(x), x->cols);
    cu_line(c, "#pragma unroll %d", x->winograd->form->a == 6 ? 1 : 2);   /* registers are few */
    cu_line(c, "for (int depth = 0; depth < %d; depth++)", x->steps);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int point = 0; point < %d; point++)", x->winograd->points);
    cu_line(c, "float v[%d], u[%d];", x->unit_rows, x->unit_cols);
    emit_fragment(c, "v", x->rows, x->unit_rows, "thread_row", v_pitch(x));
    emit_fragment(c, "u", x->cols, x->unit_cols, "thread_col", u_pitch(x));
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", x->unit_cols);
    cu_line(c, "#pragma unroll");
    cu_line(c, "    for (int j = 0; j < %d; j++)", x->unit_rows);
    cu_line(c, "        sums[point][i][j] += v[j] * u[i];");
    cu_close(c);
}

void winograd_slice(Code *c, const Contract *x, const char *what, const char *all)
{
    long long depth = x->slice_depth;
    if (x->slices > 1) {
        cu_line(c, "const int slice = blockIdx.z, first_%s = slice * %lld;", what, depth);
        cu_line(c, "const int last_%s = first_%s + %lld < %s ? first_%s + %lld : %s;", what, what, depth, all, what, depth, all);
    } else {
        cu_line(c, "const int first_%s = 0, last_%s = %s;", what, what, all);
    }
    cu_line(c, "const int steps = (last_%s - first_%s + %d) / %d;", what, what, x->steps - 1, x->steps);
}

void winograd_steps(Code *c, const Contract *x, const char *first, void (*load)(Code *, const Contract *), void (*place)(Code *, const Contract *))
{
    cu_open(c, "for (int step = -1; step < steps; step++)");
    cu_open(c, "if (step >= 0)");
    cu_line(c, "CP_ASYNC_WAIT(0);");
    cu_line(c, "__syncthreads();   // this step's V and U are there, the last step's are read");
    cu_close(c);
    cu_line(c, "const int next = step + 1, from = %s + next * %d;", first, x->steps);
    cu_line(c, "float *v_next = v_part + next %% 2 * %d, *u_next = u_part + next %% 2 * %d, inputs[%d];", x->steps * v_pitch(x),
            x->steps * u_pitch(x), points_of(x));
    cu_open(c, "if (next < steps)");
    load(c, x);
    cu_close(c);
    cu_line(c, "CP_ASYNC_COMMIT();");
    cu_open(c, "if (step >= 0)");
    emit_sums(c, x);
    cu_close(c);
    cu_open(c, "if (next < steps)");
    place(c, x);
    cu_close(c);
    cu_close(c);
}

void winograd_exchange(Code *c, const Contract *x)
{
    int32_t groups = x->unit_rows / 4, col_groups = x->unit_cols / 4, pitch = winograd_pitch(x->rows, x->unit_rows);
    cu_line(c, "CP_ASYNC_WAIT(0);");
    cu_line(c, "__syncthreads();");
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int point = 0; point < %d; point++)", x->winograd->points);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", x->unit_cols);
    cu_line(c, "float *to = shared + ((first_point + point) * %d + 4 * thread_col + i %% 4 + i / 4 * %d) * %d + 4 * thread_row;", x->cols,
            x->cols / col_groups, pitch);
    for (int32_t i = 0; i < groups; i++)
        cu_line(c, "store4(to + %d, sums[point][i] + %d);", i * (x->rows / groups), 4 * i);
    cu_close(c);
    cu_line(c, "__syncthreads();");
    cu_open(c, "for (int pair = threadIdx.x; pair < %d; pair += %d)", x->rows * x->cols, x->threads);
}

void winograd_take(Code *c, const Contract *x)
{
    cu_line(c, "float sums_of_pair[%d];", points_of(x));
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", points_of(x));
    cu_line(c, "    sums_of_pair[i] = shared[(i * %d + pair / %d) * %d + pair %% %d];", x->cols, x->rows, winograd_pitch(x->rows, x->unit_rows),
            x->rows);
}

const char *winograd_partial(Code *c, const Contract *x)
{
    return arena_printf(c->arena, "partial[%lldll * slice + %lld * %s + %s]", contract_slice_sums(x), (long long)x->row.extent,
                        axis_name(c, x->winograd->filter), contract_flat(c, &x->row));
}

/* ---- outputs ---- */
/* The outputs at row p of the tile: four at once, or one by one; or partial sums. */
static void emit_row(Code *c, const Contract *x)
{
    const GpuWinograd *g = x->winograd;
    int m = g->form->m, width = c->k->axis[g->q].extent;
    const char *q = axis_name(c, g->q);
    bool wide = x->slices == 1 && m == WIDE && wide_access(c->l, c->k, c->k->out[0].at, g->q);
    if (wide) {
        c->name[x->sum] = arena_printf(c->arena, "outputs[row_at * %d + u]", m);
        cu_line(c, "const int first_%s = %d * across;", q, m);
        wide_map(c, g->q);
        return;
    }
    c->name[x->sum] = arena_printf(c->arena, "outputs[row_at * %d + col_at]", m);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int col_at = 0; col_at < %d; col_at++)", m);
    cu_line(c, "const int %s = %d * across + col_at;", q, m);
    if (width % m)
        cu_line(c, "if (%s >= %d) continue;", q, width);
    if (x->slices > 1)
        cu_line(c, "%s = %s;", winograd_partial(c, x), c->name[x->sum]);
    else
        cu_outputs(c, false);
    cu_close(c);
}

static void emit_outputs(Code *c, const Contract *x)
{
    const GpuWinograd *g = x->winograd;
    const WinogradForm *f = g->form;
    int32_t height = c->k->axis[g->p].extent;
    winograd_exchange(c, x);
    cu_line(c, "const int numbered = first_tile + pair %% %d, %s = first_filter + pair / %d;", x->rows, axis_name(c, g->filter), x->rows);
    cu_line(c, "if (numbered >= samples * %d%s) continue;", g->across * g->down,
            x->col.extent % x->cols ? arena_printf(c->arena, " || %s >= %lld", axis_name(c, g->filter), (long long)x->col.extent) : "");
    cu_line(c, "const int %s = numbered / %d, down = numbered / %d %% %d, across = numbered %% %d;", axis_name(c, g->n), g->across * g->down,
            g->across, g->down, g->across);
    cu_line(c, "float outputs[%d];", f->m * f->m);
    winograd_take(c, x);
    cu_line(c, "%s(sums_of_pair, outputs, 1);", winograd_function(c->arena, f, TRANSFORM_OUTPUTS));
    c->name[x->sum] = "outputs[0]";
    for (int o = 0; o < c->k->n_out && x->slices == 1; o++)
        cu_hoist(c, c->k->out[o].value, 1u << g->p | 1u << g->q);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int row_at = 0; row_at < %d; row_at++)", f->m);
    cu_line(c, "const int %s = %d * down + row_at;", axis_name(c, g->p), f->m);
    if (height % f->m)
        cu_line(c, "if (%s >= %d) continue;", axis_name(c, g->p), height);
    emit_row(c, x);
    cu_close(c);
    cu_close(c);
}

void winograd_emit(Code *c, const GpuBody *body)
{
    const Contract *x = body->contract;
    const GpuWinograd *g = x->winograd;
    int32_t line = x->cols / 4;
    cu_line(c, "// By Winograd %s: SUM stands for the convolution by the weights that `%s` holds transformed, [channel][point][filter].", g->form->name,
            c->buffer[c->k->access[x->b].buf]);
    winograd_begin(c, x);
    cu_line(c, "const int first_tile = block * %d, first_filter = blockIdx.y * %d;", x->rows, x->cols);
    winograd_slice(c, x, "channel", arena_printf(c->arena, "%d", g->channels));
    cu_line(c, "const int copy_filter = threadIdx.x %% %d * 4, copy_line = threadIdx.x / %d;", line, line);
    emit_own_tile(c, x);
    winograd_steps(c, x, "first_channel", emit_load, emit_place);
    emit_outputs(c, x);
}
