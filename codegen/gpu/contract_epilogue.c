/* The end of a tile of products: values and stores of its sums.
 * In: a product whose threads hold their sums in registers, in the order that multiplying likes. Out: lines that compute and store its
 * outputs, or the partial sums of a slice.
 *
 * The sums go through shared memory, where the tiles of the factors were. A loop then walks along the rows, which are neighbours in
 * memory, 32 lanes side by side, so that stores lie together; and the formula stands in the text four times instead of once for each
 * sum of a thread, which is most of the time that compiling took. Of rows and columns the outer loop takes those that have values of
 * their own (a bias, a batchnorm's scale): these are computed once each. */
#include "codegen/gpu/contract.h"

enum { AT_ONCE = 4 };   /* points that a thread has under way */

int32_t contract_pitch(const Contract *x) { return x->rows + 4; }

int32_t contract_lanes(const Contract *x) { return x->rows < GPU_WARP ? x->rows : GPU_WARP; }

int32_t contract_epilogue_bytes(const Contract *x)
{
    return (contract_pitch(x) * x->cols + x->row_sums * (x->threads / contract_lanes(x)) * x->rows) * (int32_t)sizeof(float);
}

/* ---- to shared memory ---- */
static void put_sums_of_threads(Code *c, const Contract *x)
{
    int32_t row_groups = x->unit_rows / 4, col_groups = x->unit_cols / 4;
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i += 4)", x->unit_rows);
    cu_line(c, "#pragma unroll");
    cu_open(c, "    for (int j = 0; j < %d; j++)", x->unit_cols);
    cu_line(c, "const float four[4] = {sums[i][j], sums[i + 1][j], sums[i + 2][j], sums[i + 3][j]};");
    cu_line(c, "store4(&shared[(4 * thread_col + j %% 4 + j / 4 * %d) * %d + 4 * thread_row + i / 4 * %d], four);", x->cols / col_groups, contract_pitch(x),
            x->rows / row_groups);
    cu_close(c);
}

static void put_sums(Code *c, const Contract *x)
{
    cu_line(c, "CP_ASYNC_WAIT(0);");
    cu_line(c, "__syncthreads();   // the tiles are read: the sums take their place, [%d columns][%d rows]", x->cols, contract_pitch(x));
    if (x->products == PRECISION_F32)
        put_sums_of_threads(c, x);
    else
        mma_put_sums(c, x, contract_pitch(x));
    cu_line(c, "__syncthreads();");
}

/* ---- loops ---- */
/* Some value that is loaded depends on rows alone. */
static bool rows_have_values(const Code *c, const Contract *x)
{
    for (ExprId e = 1; e < c->k->n_expr; e++) {
        uint32_t axes = c->k->expr[e].free_axes;
        if (c->k->expr[e].op == EX_LOAD && axes && !(axes & ~group_axes(&x->row)))
            return true;
    }
    return false;
}

/* Opens a loop over the thread's columns or rows, which leaves out those past the matrix. Lanes have neighbouring rows. */
static void open_loop(Code *c, const Contract *x, bool cols, int32_t unroll)
{
    int32_t lanes = contract_lanes(x);
    const char *name = cols ? "col" : "row", *limit = contract_limit(c, cols ? &x->col : &x->row);
    const AxisGroup *g = cols ? &x->col : &x->row;
    cu_line(c, "#pragma unroll %d", unroll);
    if (cols)
        cu_open(c, "for (int col_at = threadIdx.x / %d; col_at < %d; col_at += %d)", lanes, x->cols, x->threads / lanes);
    else
        cu_open(c, "for (int i = 0; i < %d; i++)", x->rows / lanes);
    if (!cols)
        cu_line(c, "const int row_at = %d * i + threadIdx.x %% %d;", lanes, lanes);
    cu_line(c, "const int %s = first_%s + %s_at;", name, name, name);
    cu_line(c, "if (%s >= %s) continue;", name, limit);
    if (x->slices == 1)
        cu_split(c, name, g->axis, g->n);
}

static const char *sum_at(Code *c, const Contract *x) { return arena_printf(c->arena, "shared[col_at * %d + row_at]", contract_pitch(x)); }

/* Values and stores of one point, its axes being variables. */
static void emit_point(Code *c, const Contract *x)
{
    const char *sum = sum_at(c, x);
    if (x->slices > 1) {
        cu_line(c, "partial[%lldll * slice + %s] = %s;", (long long)(x->row.extent * x->col.extent * x->both.extent), contract_partial_index(c, x), sum);
        return;
    }
    cu_line(c, "const float sum = %s;", sum);
    cu_outputs(c, false);
}

/* The second sweep over a row's points, for their squared distances from their mean. */
static void square_row(Code *c, const Contract *x)
{
    contract_sums_mean(c, x);
    open_loop(c, x, true, AT_ONCE);
    cu_line(c, "const float sum = %s;", sum_at(c, x));
    contract_sums_square(c);
    cu_close(c);
}

void contract_epilogue(Code *c, const Contract *x)
{
    bool sums = c->k->n_tile_sums > 0, by_rows = sums ? x->row_sums > 0 : rows_have_values(c, x);
    int32_t rounds = x->rows / contract_lanes(x);
    const uint32_t inner = group_axes(by_rows ? &x->col : &x->row);
    const char **kept = cu_keep(c);
    put_sums(c, x);
    c->name[x->sum] = "sum";
    if (sums)
        contract_sums_begin(c, x, by_rows);
    open_loop(c, x, !by_rows, by_rows || sums ? 1 : (AT_ONCE + rounds - 1) / rounds);
    for (int o = 0; o < c->k->n_out && x->slices == 1; o++)
        cu_hoist(c, c->k->out[o].value, inner);
    for (int i = 0; i < c->k->n_tile_sums; i++)
        cu_hoist(c, c->k->tile_sum[i].value, inner);
    if (sums)
        contract_sums_start(c, x, by_rows);
    const char **outer = cu_keep(c);
    open_loop(c, x, by_rows, by_rows ? AT_ONCE : rounds);
    emit_point(c, x);
    if (sums)
        contract_sums_add(c, by_rows);
    cu_close(c);
    cu_restore(c, outer);
    if (by_rows && c->k->tile_moments)
        square_row(c, x);
    if (sums)
        (by_rows ? contract_sums_of_row : contract_sums_of_column)(c, x);
    cu_close(c);
    cu_restore(c, kept);
    if (sums && by_rows)
        contract_sums_of_rows(c, x);
}
