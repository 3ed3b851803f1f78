/* Products in float32 by multiply-adds of threads, as mma.c has those of tensor cores.
 * In: tiles [depth][row] and [depth][col] of both operands in shared memory. Out: each thread's unit_rows x unit_cols sums.
 *
 * A thread's rows are groups of four, a quarter (or half) tile apart, and its columns likewise: a warp of 8 x 4 threads then reads each
 * fragment in one line of shared memory. */
#include "codegen/gpu/contract.h"

/* Lanes of a warp along the rows: 8 x 4 of them read each fragment in one line of shared memory. */
static int32_t lanes_across(const Contract *x)
{
    int32_t down = x->cols / x->unit_cols;
    return down >= 4 ? 8 : GPU_WARP / down;
}

void fma_begin(Code *c, const Contract *x)
{
    int32_t lanes = lanes_across(x), warps = x->rows / x->unit_rows / lanes;
    cu_line(c, "const int thread_row = threadIdx.x %% %d + threadIdx.x / 32 %% %d * %d, thread_col = threadIdx.x %% 32 / %d + threadIdx.x / %d * %d;", lanes, warps, lanes,
            lanes, GPU_WARP * warps, GPU_WARP / lanes);
    cu_line(c, "const float *const a_lane = a_tile + apart(4 * thread_row), *const b_lane = b_tile + apart(4 * thread_col);");
    cu_line(c, "float sums[%d][%d] = {{0.0f}};", x->unit_rows, x->unit_cols);
}

/* A thread's rows or columns at `depth`: groups of four, `size` / groups apart. */
static void emit_fragment(Code *c, const Operand *o, int32_t count, const char *depth)
{
    for (int32_t g = 0; g < count / 4; g++)
        cu_line(c, "load4(%s[%s %% 2] + %d, &%s_now[%s * %d + %d]);", o->index, depth, 4 * g, o->name, depth, o->load->pitch,
                g * (o->size / (count / 4)));
}

static void emit_fragments(Code *c, const Contract *x, const char *depth)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    emit_fragment(c, &a, x->unit_rows, depth);
    emit_fragment(c, &b, x->unit_cols, depth);
}

/* Enough multiply-adds in the text to hide loads of fragments and the loop itself; more only take time to compile. Even: fragments take
 * turns. */
static int32_t depths_at_once(const Contract *x)
{
    enum { ENOUGH = 128 };
    int32_t n = ENOUGH / (x->unit_rows * x->unit_cols);
    return n < 2 ? 2 : n < x->steps ? n : x->steps;
}

static void emit_product(Code *c, const Contract *x, const char *depth)
{
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", x->unit_rows);
    cu_line(c, "#pragma unroll");
    cu_line(c, "    for (int j = 0; j < %d; j++)", x->unit_cols);
    cu_line(c, "        sums[i][j] += row[%s %% 2][i] * col[%s %% 2][j];", depth, depth);
}

static void emit_tiles_of(Code *c, const Contract *x, const char *step)
{
    cu_line(c, "a_now = a_lane + %s %% %d * %d;", step, x->stages, contract_tile_elements(x, &x->a_load, x->rows));
    cu_line(c, "b_now = b_lane + %s %% %d * %d;", step, x->stages, contract_tile_elements(x, &x->b_load, x->cols));
}

void fma_sums_begin(Code *c, const Contract *x)
{
    cu_line(c, "const float *a_now = a_lane, *b_now = b_lane;");
    cu_line(c, "float row[2][%d], col[2][%d];   // at one depth, and at the next", x->unit_rows, x->unit_cols);
    emit_fragments(c, x, "0");
}

void fma_sums(Code *c, const Contract *x)
{
    const char *last = arena_printf(c->arena, "%d", x->steps - 1), *before = arena_printf(c->arena, "%d", x->steps - 2);
    contract_copies(c, x);
    cu_line(c, "#pragma unroll %d", depths_at_once(x));
    cu_open(c, "for (int depth = 0; depth < %s; depth++)", before);
    emit_fragments(c, x, "(depth + 1)");
    emit_product(c, x, "depth");
    cu_close(c);
    emit_fragments(c, x, last);
    emit_product(c, x, before);
    contract_wait(c, x);
    emit_tiles_of(c, x, "(step + 1)");
    emit_fragments(c, x, "0");
    emit_product(c, x, last);
}
