/* The CONTRACT skeleton: a block a tile of a matrix product.
 * In: a launch with its Contract. Out: the kernel's body, or that of the kernel that adds the slices of a split one.
 *
 *     for each step of 8 along the depth:          a tile of a [8][rows + pad] and of b [8][cols + pad] in shared memory,
 *         wait for its copies, barrier             `stages` of them: copies run that many steps ahead
 *         start the copies of a later step
 *         each thread: 8 x 8 (or fewer) sums from fragments of both
 *     the epilogue for each sum of the thread
 *
 * Copies are asynchronous, four bytes each: an element that is out of range (padding, the edge of the matrix, samples past n)
 * is filled with 0 by the copy itself. A thread's rows are groups of four, a quarter (or half) tile apart, so that a warp reads
 * shared memory in whole lines. */
#include "codegen/gpu/code.h"

/* ---- loading ---- */
typedef struct { const char *tile; AccessId at; const AxisGroup *group; bool along_depth; int32_t size; const char *index; } Operand;

static int32_t block_threads(const Contract *x) { return x->rows / x->thread_rows * (x->cols / x->thread_cols); }

static const char *group_limit(Code *c, const AxisGroup *g)
{
    int64_t inner = 1;
    for (int i = 1; i < g->n; i++)
        inner *= c->k->axis[g->axis[i]].extent;
    return g->dynamic ? arena_printf(c->arena, "samples * %lld", (long long)inner) : arena_printf(c->arena, "%lld", (long long)g->extent);
}

/* The copies of one operand's tile for the step whose depth begins at `from`. */
static void emit_copies(Code *c, const Contract *x, const Operand *o)
{
    int32_t count = o->size * x->steps / block_threads(x);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", count);
    cu_line(c, "const int element = threadIdx.x + i * %d;", block_threads(x));
    if (o->along_depth) {
        cu_line(c, "const int depth = from + element %% %d, %s = first_%s + element / %d;", x->steps, o->index, o->index, x->steps);
        cu_line(c, "float *to = %s + next %% %d * %d + element %% %d * %d + element / %d;", o->tile, x->stages, x->steps * (o->size + CONTRACT_PAD),
                x->steps, o->size + CONTRACT_PAD, x->steps);
    } else {
        cu_line(c, "const int depth = from + element / %d, %s = first_%s + element %% %d;", o->size, o->index, o->index, o->size);
        cu_line(c, "float *to = %s + next %% %d * %d + element / %d * %d + element %% %d;", o->tile, x->stages, x->steps * (o->size + CONTRACT_PAD),
                o->size, o->size + CONTRACT_PAD, o->size);
    }
    cu_split(c, o->index, o->group->axis, o->group->n);
    cu_split(c, "depth", x->depth.axis, x->depth.n);
    const char *guard = cu_guard(c, o->at);
    cu_line(c, "const int inside = %s < %s && depth < last_depth%s%s;", o->index, group_limit(c, o->group), guard ? " && " : "", guard ? guard : "");
    cu_line(c, "cp_async4(to, inside ? &%s : %s, inside);", cu_element(c, o->at), c->buffer[c->k->access[o->at].buf]);
    cu_close(c);
}

/* ---- sums ---- */

/* `count` floats of a tile's row: groups of four, `size` / groups apart, the thread's number times four from the start of each. */
static void emit_fragment(Code *c, const char *name, const char *tile, int32_t size, int32_t count)
{
    for (int32_t g = 0; g < count / 4; g++)
        cu_line(c, "load4(%s + %d, &%s[depth * %d + 4 * thread_%s + %d]);", name, 4 * g, tile, size + CONTRACT_PAD, name, g * (size / (count / 4)));
}

static void emit_sums(Code *c, const Contract *x)
{
    cu_line(c, "const float *a_now = a_tile + step %% %d * %d, *b_now = b_tile + step %% %d * %d;", x->stages, x->steps * (x->rows + CONTRACT_PAD),
            x->stages, x->steps * (x->cols + CONTRACT_PAD));
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int depth = 0; depth < %d; depth++)", x->steps);
    cu_line(c, "float row[%d], col[%d];", x->thread_rows, x->thread_cols);
    emit_fragment(c, "row", "a_now", x->rows, x->thread_rows);
    emit_fragment(c, "col", "b_now", x->cols, x->thread_cols);
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", x->thread_rows);
    cu_line(c, "#pragma unroll");
    cu_line(c, "    for (int j = 0; j < %d; j++)", x->thread_cols);
    cu_line(c, "        sums[i][j] += row[i] * col[j];");
    cu_close(c);
}

static void emit_depth_loop(Code *c, const Contract *x)
{
    const Operand a = {"a_tile", x->a, &x->row, x->a_along_depth, x->rows, "row"};
    const Operand b = {"b_tile", x->b, &x->col, x->b_along_depth, x->cols, "col"};
    cu_open(c, "for (int step = %d; step < steps; step++)", 1 - x->stages);
    cu_open(c, "if (step >= 0)");
    cu_line(c, "CP_ASYNC_WAIT(%d);", x->stages - 2);
    cu_line(c, "__syncthreads();   // this step's tiles are there, the last step's are read");
    cu_close(c);
    cu_line(c, "const int next = step + %d, from = first_depth + next * %d;", x->stages - 1, x->steps);
    cu_open(c, "if (next < steps)");
    emit_copies(c, x, &a);
    emit_copies(c, x, &b);
    cu_close(c);
    cu_line(c, "CP_ASYNC_COMMIT();");
    cu_line(c, "if (step < 0) continue;");
    emit_sums(c, x);
    cu_close(c);
}

/* ---- epilogue ---- */
static const char *tile_index(Code *c, const char *name, int32_t size, int32_t count, const char *i)
{
    int32_t groups = count / 4;
    return groups == 1 ? arena_printf(c->arena, "first_%s + 4 * thread_%s + %s", name, name, i)
                       : arena_printf(c->arena, "first_%s + 4 * thread_%s + %s %% 4 + %s / 4 * %d", name, name, i, i, size / groups);
}

/* Values and stores of one point, its axes being variables; `sum` holds the product. */
static void emit_outputs(Code *c, const Contract *x, const char *sum)
{
    c->name[x->sum] = sum;
    cu_outputs(c, false);
}

static const char *partial_index(Code *c, const Contract *x)
{
    return arena_printf(c->arena, "(%s%lld * col) + row", x->both.n ? arena_printf(c->arena, "%lld * both + ", (long long)(x->row.extent * x->col.extent)) : "",
                        (long long)x->row.extent);
}

static void emit_epilogue(Code *c, const Contract *x)
{
    const Columns cols = {"j", tile_index(c, "col", x->cols, x->thread_cols, "j"), group_limit(c, &x->col), x->thread_cols};
    c->name[x->sum] = "sums[i][j]";
    if (x->slices == 1)
        cu_columns(c, x, &cols);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", x->thread_rows);
    cu_line(c, "const int row = %s;", tile_index(c, "row", x->rows, x->thread_rows, "i"));
    cu_line(c, "if (row >= %s) continue;", group_limit(c, &x->row));
    if (x->slices == 1)
        cu_split(c, "row", x->row.axis, x->row.n);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int j = 0; j < %d; j++)", x->thread_cols);
    cu_line(c, "const int col = %s;", cols.col);
    cu_line(c, "if (col >= %s) continue;", cols.limit);
    if (x->slices == 1) {
        cu_split(c, "col", x->col.axis, x->col.n);
        emit_outputs(c, x, "sums[i][j]");
    } else {
        cu_line(c, "partial[%lldll * slice + %s] = sums[i][j];", (long long)(x->row.extent * x->col.extent * x->both.extent), partial_index(c, x));
    }
    cu_close(c);
    cu_close(c);
}

void contract_emit(Code *c, const GpuBody *body)
{
    const Contract *x = body->contract;
    int32_t across = x->rows / x->thread_rows;
    const char *limit = group_limit(c, &x->depth);
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "float *a_tile = shared, *b_tile = shared + %d;   // %d times [%d][%d] and [%d][%d]", x->stages * x->steps * (x->rows + CONTRACT_PAD),
            x->stages, x->steps, x->rows + CONTRACT_PAD, x->steps, x->cols + CONTRACT_PAD);
    cu_line(c, "const int thread_row = threadIdx.x %% %d, thread_col = threadIdx.x / %d;", across, across);
    cu_line(c, "const int first_row = block * %d, first_col = blockIdx.y * %d;", x->rows, x->cols);
    if (x->slices > 1) {
        cu_line(c, "const int slice = blockIdx.z %% %d, first_depth = slice * %lld;", x->slices, (long long)x->slice_depth);
        cu_line(c, "const int last_depth = first_depth + %lld < %s ? first_depth + %lld : %s;", (long long)x->slice_depth, limit, (long long)x->slice_depth, limit);
    } else {
        cu_line(c, "const int first_depth = 0, last_depth = %s;", limit);
    }
    if (x->both.n) {
        cu_line(c, "const int both = blockIdx.z / %d;", x->slices);
        cu_split(c, "both", x->both.axis, x->both.n);
    }
    cu_line(c, "const int steps = (last_depth - first_depth + %d) / %d;", x->steps - 1, x->steps);
    cu_line(c, "float sums[%d][%d] = {{0.0f}};", x->thread_rows, x->thread_cols);
    emit_depth_loop(c, x);
    cu_line(c, "CP_ASYNC_WAIT(0);");
    emit_epilogue(c, x);
}

/* ---- adding slices ---- */
static const char *flat(Code *c, const AxisGroup *g)
{
    const char *sum = "0";
    for (int i = 0; i < g->n; i++)
        sum = i ? arena_printf(c->arena, "(%s) * %d + %s", sum, c->k->axis[g->axis[i]].extent, c->k->axis[g->axis[i]].name) : c->k->axis[g->axis[i]].name;
    return sum;
}

void parts_emit(Code *c, const GpuBody *body)
{
    const Contract *x = body->contract;
    cu_point(c, body);
    cu_line(c, "const int row = %s, col = %s;", flat(c, &x->row), flat(c, &x->col));
    if (x->both.n)
        cu_line(c, "const int both = %s;", flat(c, &x->both));
    cu_line(c, "float sum = 0.0f;");
    cu_line(c, "for (int slice = 0; slice < %d; slice++)", x->slices);
    cu_line(c, "    sum += partial[%lldll * slice + %s];", (long long)(x->row.extent * x->col.extent * x->both.extent), partial_index(c, x));
    emit_outputs(c, x, "sum");
}
