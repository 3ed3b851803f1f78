/* The CONTRACT skeleton: a block a tile of a matrix product.
 * In: a launch with its Contract. Out: the kernel's body, or that of the kernel that adds the slices of a split one.
 *
 *     start the copies of the first steps          a tile of a and of b in shared memory, `stages` of them: copies run ahead
 *     for each step along the depth:
 *         start the copies of a later step         (contract_load.c)
 *         float32: each thread 8 x 8 (or fewer) sums from fragments of both            (fma.c)
 *         tf32, bf16: each warp 64 x 64 (or fewer) sums by tensor cores                (mma.c)
 *         before the last of these, wait for the next step's copies, barrier
 *     the epilogue for each sum of the tile        (contract_epilogue.c)
 *
 * Few warps hold so many sums, and none may wait: the fragments of the next depth are loaded before the sums of this one, across steps,
 * too.
 *
 * What the threads' places in tiles and the rows of their copies add to addresses is computed once, before the loop, and hidden from the
 * compiler (`apart`): ptxas would compute it anew in each step, to spare registers, which took more time than the multiplying. */
#include "codegen/gpu/winograd.h"

/* ---- steps ---- */
/* Past the last step copies fill a tile with 0, which nothing reads; many small ones are left out there. */
static void emit_copies(Code *c, const Contract *x)
{
    const bool small = contract_has_small_copies(x);
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    cu_line(c, "const int from = first_depth + next * %d;", x->steps);
    contract_declare_fetched(c, x, &a);
    contract_declare_fetched(c, x, &b);
    if (small)
        cu_open(c, "if (next < steps)");
    contract_copy(c, x);
    if (small)
        cu_close(c);
    cu_line(c, "CP_ASYNC_COMMIT();");
}

static bool is_resident(const Contract *x) { return contract_steps(x) <= x->stages; }

void contract_copies(Code *c, const Contract *x)
{
    if (is_resident(x))
        return;
    cu_line(c, "const int next = step + %d;", x->stages - 1);
    emit_copies(c, x);
}

void contract_wait(Code *c, const Contract *x)
{
    if (is_resident(x))
        return;
    cu_line(c, "CP_ASYNC_WAIT(%d);", x->stages - 2);
    cu_line(c, "__syncthreads();   // the next step's tiles are there, this step's are read");
}

static void emit_places(Code *c, const Contract *x)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    contract_place(c, x, &a);
    contract_place(c, x, &b);
}

static void emit_depth_loop(Code *c, const Contract *x)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    contract_copy_begin(c, x, &a);
    contract_copy_begin(c, x, &b);
    cu_line(c, "#pragma unroll 1");
    cu_open(c, "for (int next = 0; next < %d; next++)", is_resident(x) ? x->stages : x->stages - 1);
    emit_copies(c, x);
    emit_places(c, x);
    cu_close(c);
    cu_line(c, "CP_ASYNC_WAIT(%d);", is_resident(x) ? 0 : x->stages - 2);
    cu_line(c, "__syncthreads();");
    (x->products == PRECISION_F32 ? fma_sums_begin : mma_sums_begin)(c, x);
    cu_line(c, "#pragma unroll 1");
    cu_open(c, "for (int step = 0; step < steps; step++)");
    (x->products == PRECISION_F32 ? fma_sums : mma_sums)(c, x);
    if (!is_resident(x))
        emit_places(c, x);
    cu_close(c);
}

/* ---- the whole ---- */
const char *contract_block(const Code *c, char axis) { return axis == 'y' ? (c->flat ? "block_y" : "blockIdx.y") : c->flat ? "block_z" : "blockIdx.z"; }

static void emit_tiles(Code *c, const Contract *x)
{
    const char *type = contract_element_type(x);
    int32_t a = contract_tile_elements(x, &x->a_load, x->rows), b = contract_tile_elements(x, &x->b_load, x->cols);
    cu_line(c, "extern __shared__ __align__(128) float shared[];");
    cu_line(c, "%s *a_tile = (%s *)shared, *b_tile = (%s *)shared + %d;   // %d times [%d][%d] and [%d][%d]", type, type, type, x->stages * a, x->stages,
            a / x->a_load.pitch, x->a_load.pitch, b / x->b_load.pitch, x->b_load.pitch);
}

static void emit_depth_limits(Code *c, const Contract *x)
{
    const char *limit = contract_limit(c, &x->depth);
    if (x->slices > 1) {
        cu_line(c, "const int slice = %s %% %d, first_depth = slice * %lld;", contract_block(c, 'z'), x->slices, (long long)x->slice_depth);
        cu_line(c, "const int last_depth = first_depth + %lld < %s ? first_depth + %lld : %s;", (long long)x->slice_depth, limit,
                (long long)x->slice_depth, limit);
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
    (x->products == PRECISION_F32 ? fma_begin : mma_begin)(c, x);
    emit_depth_loop(c, x);
    contract_epilogue(c, x);
}

/* ---- adding slices ---- */
const char *contract_partial_index(Code *c, const Contract *x)
{
    return arena_printf(c->arena, "(%s%lld * col) + row",
                        x->both.n ? arena_printf(c->arena, "%lld * both + ", (long long)(x->row.extent * x->col.extent)) : "",
                        (long long)x->row.extent);
}

long long contract_slice_sums(const Contract *x) { return (long long)(x->row.extent * x->col.extent * x->both.extent); }

const char *contract_partial(Code *c, const Contract *x)
{
    return arena_printf(c->arena, "partial[%lldll * slice + %s]", contract_slice_sums(x), contract_partial_index(c, x));
}

const char *contract_flat(Code *c, const AxisGroup *g)
{
    const char *sum = "0";
    for (int i = 0; i < g->n; i++)
        sum = i ? arena_printf(c->arena, "(%s) * %d + %s", sum, c->k->axis[g->axis[i]].extent, c->k->axis[g->axis[i]].name)
                : c->k->axis[g->axis[i]].name;
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
    cu_line(c, "const int row = %s, col = %s;", contract_flat(c, &x->row), contract_flat(c, &x->col));
    if (x->both.n)
        cu_line(c, "const int both = %s;", contract_flat(c, &x->both));
    cu_line(c, "float sum = 0.0f;");
    cu_line(c, "for (int slice = %s; slice < %d; slice += %d)", body->by_warps ? "threadIdx.x / 32" : "0", x->slices,
            body->by_warps ? body->threads / GPU_WARP : 1);
    cu_line(c, "    sum += %s;", contract_partial(c, x));
    c->name[x->sum] = "sum";
    if (body->by_warps) {
        cu_line(c, "sum = column_sum(sum, shared, %d, %d);", GPU_WARP, body->threads);
        cu_open(c, "if (threadIdx.x < 32 && found < %lld)", (long long)body->points);
    }
    cu_outputs(c, false);
    if (body->by_warps)
        cu_close(c);
}
