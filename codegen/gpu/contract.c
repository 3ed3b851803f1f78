/* The CONTRACT skeleton: a block a tile of a matrix product.
 * In: a launch with its Contract. Out: the kernel's body, or that of the kernel that adds the slices of a split one.
 *
 *     for each step along the depth:               a tile of a and of b in shared memory, `stages` of them: copies run ahead
 *         wait for its copies, barrier
 *         start the copies of a later step         (contract_load.c)
 *         float32: each thread 8 x 8 (or fewer) sums from fragments of both
 *         tf32, bf16: each warp 64 x 32 (or fewer) sums by tensor cores (mma.c)
 *     the epilogue for each sum of the tile        (contract_epilogue.c)
 *
 * In float32 tiles lie as their loads are widest. [depth][row]: a thread's rows are groups of four, a quarter (or half) tile apart, so
 * that a warp reads shared memory in whole lines. [row][depth]: it reads four depths of a row at once.
 *
 * What the threads' places in tiles and the rows of their copies add to addresses is computed once, before the loop, and hidden from the
 * compiler (`apart`): ptxas would compute it anew in each step, to spare registers, which took more time than the multiplying. */
#include "codegen/gpu/winograd.h"

/* ---- sums ---- */

/* A thread's rows (or columns). A tile [depth][row]: groups of four, so that it loads four at once; a tile [row][depth]: as far apart as
 * there are threads, so that these read different banks. */
static int32_t unit_of(const Contract *x, const Operand *o) { return o->load == &x->a_load ? x->unit_rows : x->unit_cols; }

static const char *lane_place(Code *c, const Contract *x, const Operand *o, int32_t i)
{
    int32_t unit = unit_of(x, o);
    return o->load->depth_inside ? arena_printf(c->arena, "%d", o->size / unit * i * o->load->pitch) : arena_printf(c->arena, "%d", i * (o->size / (unit / 4)));
}

static void emit_lane(Code *c, const Contract *x, const Operand *o)
{
    if (o->load->depth_inside)
        cu_line(c, "const float *const %s_lane = %s_tile + apart(thread_%s * %d);", o->name, o->name, o->index, o->load->pitch);
    else
        cu_line(c, "const float *const %s_lane = %s_tile + apart(4 * thread_%s);", o->name, o->name, o->index);
    (void)x;
}

static void emit_now(Code *c, const Contract *x, const Operand *o)
{
    cu_line(c, "const float *%s_now = %s_lane + step %% %d * %d;", o->name, o->name, x->stages, contract_tile_elements(x, o->load, o->size));
}

/* All of a thread's rows at one depth. */
static void emit_fragment(Code *c, const Contract *x, const Operand *o, const char *depth)
{
    int32_t unit = unit_of(x, o);
    cu_line(c, "float %s[%d];", o->index, unit);
    for (int32_t g = 0; g < unit / 4; g++)
        cu_line(c, "load4(%s + %d, &%s_now[%s * %d + %s]);", o->index, 4 * g, o->name, depth, o->load->pitch, lane_place(c, x, o, g));
}

/* The same at four depths, [row][4]. */
static void emit_fragment_of_four(Code *c, const Contract *x, const Operand *o)
{
    int32_t unit = unit_of(x, o);
    cu_line(c, "float %s[%d][4];", o->index, unit);
    for (int32_t i = 0; i < unit; i++)
        cu_line(c, "load4(%s[%d], &%s_now[depth + %s]);", o->index, i, o->name, lane_place(c, x, o, i));
}

static void emit_product(Code *c, const Contract *x, const char *row, const char *col)
{
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", x->unit_rows);
    cu_line(c, "#pragma unroll");
    cu_line(c, "    for (int j = 0; j < %d; j++)", x->unit_cols);
    cu_line(c, "        sums[i][j] += %s * %s;", row, col);
}

/* Enough multiply-adds in the text to hide loads of fragments and the loop itself; more only take time to compile. */
static int32_t depths_at_once(const Contract *x)
{
    enum { ENOUGH = 128 };
    int32_t n = ENOUGH / (x->unit_rows * x->unit_cols);
    return n < 1 ? 1 : n < x->steps ? n : x->steps;
}

/* One of both, or both, [row][depth]: four depths at once. */
static void emit_sums_of_four(Code *c, const Contract *x, const Operand *a, const Operand *b)
{
    const bool a_inside = a->load->depth_inside, b_inside = b->load->depth_inside;
    cu_line(c, "#pragma unroll 1");
    cu_open(c, "for (int depth = 0; depth < %d; depth += 4)", x->steps);
    emit_fragment_of_four(c, x, a_inside ? a : b);
    if (a_inside && b_inside) {
        cu_line(c, "#pragma unroll");
        cu_open(c, "for (int j = 0; j < %d; j++)", x->unit_cols);
        cu_line(c, "float col[4];");
        cu_line(c, "load4(col, &b_now[depth + j * %d]);", x->cols / x->unit_cols * b->load->pitch);
        cu_line(c, "#pragma unroll");
        cu_line(c, "for (int d = 0; d < 4; d++)");
        cu_line(c, "#pragma unroll");
        cu_line(c, "    for (int i = 0; i < %d; i++)", x->unit_rows);
        cu_line(c, "        sums[i][j] += row[i][d] * col[d];");
    } else {
        cu_line(c, "#pragma unroll");
        cu_open(c, "for (int d = 0; d < 4; d++)");
        emit_fragment(c, x, a_inside ? b : a, "(depth + d)");
        emit_product(c, x, a_inside ? "row[i][d]" : "row[i]", b_inside ? "col[j][d]" : "col[j]");
    }
    cu_close(c);
    cu_close(c);
}

static void emit_sums(Code *c, const Contract *x)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    emit_now(c, x, &a);
    emit_now(c, x, &b);
    if (a.load->depth_inside || b.load->depth_inside) {
        emit_sums_of_four(c, x, &a, &b);
        return;
    }
    cu_line(c, "#pragma unroll %d", depths_at_once(x));
    cu_open(c, "for (int depth = 0; depth < %d; depth++)", x->steps);
    emit_fragment(c, x, &a, "depth");
    emit_fragment(c, x, &b, "depth");
    emit_product(c, x, "row[i]", "col[j]");
    cu_close(c);
}

static void emit_depth_loop(Code *c, const Contract *x)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    contract_copy_begin(c, x, &a);
    contract_copy_begin(c, x, &b);
    cu_open(c, "for (int step = %d; step < steps; step++)", 1 - x->stages);
    cu_open(c, "if (step >= 0)");
    cu_line(c, "CP_ASYNC_WAIT(%d);", x->stages - 2);
    cu_line(c, "__syncthreads();   // this step's tiles are there, the last step's are read");
    cu_close(c);
    cu_line(c, "const int next = step + %d, from = first_depth + next * %d;", x->stages - 1, x->steps);
    contract_declare_fetched(c, x, &a);
    contract_declare_fetched(c, x, &b);
    cu_open(c, "if (next < steps)");
    contract_copy(c, x, &a);
    contract_copy(c, x, &b);
    cu_close(c);
    cu_line(c, "CP_ASYNC_COMMIT();");
    cu_open(c, "if (step >= 0)");
    if (x->products == PRECISION_F32)
        emit_sums(c, x);
    else
        mma_sums(c, x);
    cu_close(c);
    if (!x->a_load.vector || !x->b_load.vector) {
        cu_open(c, "if (next < steps)");
        contract_place(c, x, &a);
        contract_place(c, x, &b);
        cu_close(c);
    }
    cu_close(c);
}

/* ---- the whole ---- */
const char *contract_block(const Code *c, char axis) { return axis == 'y' ? (c->flat ? "block_y" : "blockIdx.y") : c->flat ? "block_z" : "blockIdx.z"; }

static void emit_tiles(Code *c, const Contract *x)
{
    const char *type = contract_element_type(x);
    int32_t a = contract_tile_elements(x, &x->a_load, x->rows), b = contract_tile_elements(x, &x->b_load, x->cols);
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "%s *a_tile = (%s *)shared, *b_tile = (%s *)shared + %d;   // %d times [%d][%d] and [%d][%d]", type, type, type, x->stages * a, x->stages,
            a / x->a_load.pitch, x->a_load.pitch, b / x->b_load.pitch, x->b_load.pitch);
}

static void emit_depth_limits(Code *c, const Contract *x)
{
    const char *limit = contract_limit(c, &x->depth);
    if (x->slices > 1) {
        cu_line(c, "const int slice = %s %% %d, first_depth = slice * %lld;", contract_block(c, 'z'), x->slices, (long long)x->slice_depth);
        cu_line(c, "const int last_depth = first_depth + %lld < %s ? first_depth + %lld : %s;", (long long)x->slice_depth, limit, (long long)x->slice_depth, limit);
    } else {
        cu_line(c, "const int first_depth = 0, last_depth = %s;", limit);
    }
    cu_line(c, "const int steps = (last_depth - first_depth + %d) / %d;", x->steps - 1, x->steps);
}

void contract_emit(Code *c, const GpuBody *body)
{
    const Contract *x = body->contract;
    if (x->winograd) {
        (x->winograd->of_weights ? winograd_emit_dw : winograd_emit)(c, body);
        return;
    }
    int32_t across = x->rows / x->unit_rows;
    c->flat = body->flat;
    if (body->flat) {
        cu_line(c, "const int block_y = block / %d %% %d, block_z = block / %d;", body->grid[0], body->grid[1], body->grid[0] * body->grid[1]);
        cu_line(c, "block %%= %d;", body->grid[0]);
    }
    emit_tiles(c, x);
    cu_line(c, "const int first_row = block * %d, first_col = %s * %d;", x->rows, contract_block(c, 'y'), x->cols);
    emit_depth_limits(c, x);
    if (x->both.n) {
        cu_line(c, "const int both = %s / %d;", contract_block(c, 'z'), x->slices);
        cu_split(c, "both", x->both.axis, x->both.n);
    }
    if (x->products == PRECISION_F32) {
        cu_line(c, "const int thread_row = threadIdx.x %% %d, thread_col = threadIdx.x / %d;", across, across);
        const Operand a = contract_operand(x, false), b = contract_operand(x, true);
        emit_lane(c, x, &a);
        emit_lane(c, x, &b);
        cu_line(c, "float sums[%d][%d] = {{0.0f}};", x->unit_rows, x->unit_cols);
    } else {
        mma_begin(c, x);
    }
    emit_depth_loop(c, x);
    contract_epilogue(c, x);
}

/* ---- adding slices ---- */
const char *contract_partial_index(Code *c, const Contract *x)
{
    return arena_printf(c->arena, "(%s%lld * col) + row", x->both.n ? arena_printf(c->arena, "%lld * both + ", (long long)(x->row.extent * x->col.extent)) : "",
                        (long long)x->row.extent);
}

static const char *flat(Code *c, const AxisGroup *g)
{
    const char *sum = "0";
    for (int i = 0; i < g->n; i++)
        sum = i ? arena_printf(c->arena, "(%s) * %d + %s", sum, c->k->axis[g->axis[i]].extent, c->k->axis[g->axis[i]].name) : c->k->axis[g->axis[i]].name;
    return sum;
}

/* 32 points a block: each warp adds some of the slices, then the warps' sums are added. */
static void open_shared_parts(Code *c, const GpuBody *body)
{
    cu_line(c, "extern __shared__ __align__(16) float shared[];");
    cu_line(c, "const int found = block * 32 + threadIdx.x %% 32, point = found < %lld ? found : %lld;   // all lanes meet at barriers", (long long)body->points,
            (long long)body->points - 1);
    cu_split(c, "point", body->row, body->n_rows);
}

void parts_emit(Code *c, const GpuBody *body)
{
    const Contract *x = body->contract;
    if (body->by_warps)
        open_shared_parts(c, body);
    else
        cu_point(c, body);
    cu_line(c, "const int row = %s, col = %s;", flat(c, &x->row), flat(c, &x->col));
    if (x->both.n)
        cu_line(c, "const int both = %s;", flat(c, &x->both));
    cu_line(c, "float sum = 0.0f;");
    cu_line(c, "for (int slice = %s; slice < %d; slice += %d)", body->by_warps ? "threadIdx.x / 32" : "0", x->slices, body->by_warps ? body->threads / GPU_WARP : 1);
    cu_line(c, "    sum += partial[%lldll * slice + %s];", (long long)(x->row.extent * x->col.extent * x->both.extent), contract_partial_index(c, x));
    c->name[x->sum] = "sum";
    if (body->by_warps) {
        cu_line(c, "sum = column_sum(sum, shared, %d, %d);", GPU_WARP, body->threads);
        cu_open(c, "if (threadIdx.x < 32 && found < %lld)", (long long)body->points);
    }
    cu_outputs(c, false);
    if (body->by_warps)
        cu_close(c);
}
