/* The end of a tile of products: values and stores of its sums.
 * In: a product whose threads hold their sums in registers, in the order that multiplying likes. Out: lines that compute and store its
 * outputs, or the partial sums of a slice.
 *
 * The sums go through shared memory, where the tiles of the factors were. A loop then walks along the rows, which are neighbours in
 * memory, lanes side by side, so that stores lie together; and the formula stands in the text four times instead of once for each
 * sum of a thread, which is most of the time that compiling took. Of rows and columns the outer loop takes those that have values of
 * their own (a bias, a batchnorm's scale): these are computed once each.
 *
 * Where neighbouring rows are neighbours in all outputs, four of them at a time, a lane takes four (wide.c): loads and stores of 16 bytes,
 * and a quarter of the divisions that find a column's place. Its loads are under way for several columns at once: past the matrix they
 * read the last column again, and only stores and sums look whether they are inside. */
#include "codegen/gpu/contract.h"

enum { AT_ONCE = 4 };   /* points, or columns of four points, that a thread has under way */

int32_t contract_pitch(const Contract *x) { return x->rows + 4; }

static int32_t lanes_of(const Contract *x, int32_t lane_rows) { return x->rows < GPU_WARP * lane_rows ? x->rows / lane_rows : GPU_WARP; }
int32_t contract_lanes(const Contract *x) { return lanes_of(x, contract_wide(x) ? x->lane_rows : 1); }
int32_t contract_rounds(const Contract *x) { return x->rows / (contract_lanes(x) * (contract_wide(x) ? x->lane_rows : 1)); }

int32_t contract_epilogue_bytes(const Contract *x)
{
    return (contract_pitch(x) * x->cols + x->row_sums * (x->threads / contract_lanes(x)) * x->rows) * (int32_t)sizeof(float);
}

int32_t contract_lane_rows(const KernelList *l, const Kernel *k, const Contract *c)
{
    int axis = c->row.axis[c->row.n - 1], lanes = lanes_of(c, WIDE);
    if (c->winograd || c->rows % (lanes * WIDE) || c->threads % lanes)
        return 1;
    if (c->slices > 1)
        return c->row.extent % WIDE == 0 ? WIDE : 1;
    bool column_sums = k->n_tile_sums > c->row_sums;   /* a column's points are a warp's */
    if (k->axis[axis].extent % WIDE || k->axis[axis].batch || (column_sums && lanes < GPU_WARP))
        return 1;
    for (int o = 0; o < k->n_out; o++)
        if (!wide_access(l, k, k->out[o].at, axis))
            return 1;
    return WIDE;
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

/* Some row or column of the tiles is past the matrix. */
static bool may_exceed(const Contract *x, bool cols)
{
    const AxisGroup *g = cols ? &x->col : &x->row;
    return g->dynamic || g->extent % (cols ? x->cols : x->rows);
}

/* "row" or "col" of "row_at"; past the matrix it is left out, or is the last one, when it goes on: then row_inside says so. */
static void declare_place(Code *c, const Contract *x, bool cols, bool goes_on)
{
    const char *name = cols ? "col" : "row", *limit = contract_limit(c, cols ? &x->col : &x->row);
    const char *place = arena_printf(c->arena, "first_%s + %s_at", name, name);
    if (goes_on && may_exceed(x, cols)) {
        cu_line(c, "const int %s_inside = %s < %s;", name, place, limit);
        cu_line(c, "const int %s = %s_inside ? %s : %s - %d;", name, name, place, limit, cols ? 1 : x->lane_rows);
        return;
    }
    cu_line(c, "const int %s = %s;", name, place);
    if (may_exceed(x, cols))
        cu_line(c, "if (%s >= %s) continue;", name, limit);
}

static void split_place(Code *c, const Contract *x, bool cols)
{
    const AxisGroup *g = cols ? &x->col : &x->row;
    int32_t by[MAX_AXIS] = {0};
    for (int i = 0; i < g->n; i++)
        by[i] = i == g->n - 1 ? x->lane_rows : 1;
    if (cols || !contract_wide(x)) {
        cu_split(c, cols ? "col" : "row", g->axis, g->n);
    } else {
        cu_line(c, "const int four = row / %d;", x->lane_rows);
        cu_split_by(c, "four", g->axis, g->n, by);
    }
}

/* Opens a loop over the thread's columns or rows, which leaves out those past the matrix, or goes on. Lanes have neighbouring rows. */
static void open_loop(Code *c, const Contract *x, bool cols, int32_t unroll, bool goes_on)
{
    int32_t lanes = contract_lanes(x), groups = x->threads / lanes;
    cu_line(c, "#pragma unroll %d", unroll);
    if (cols && contract_wide(x) && x->cols % groups == 0) {   /* a count that is known needs no remainder when it is unrolled */
        cu_open(c, "for (int j = 0; j < %d; j++)", x->cols / groups);
        cu_line(c, "const int col_at = %d * j + (int)threadIdx.x / %d;", groups, lanes);
    } else if (cols) {
        cu_open(c, "for (int col_at = threadIdx.x / %d; col_at < %d; col_at += %d)", lanes, x->cols, groups);
    } else {
        cu_open(c, "for (int i = 0; i < %d; i++)", contract_rounds(x));
    }
    if (!cols && contract_wide(x))
        cu_line(c, "const int row_at = %d * (%d * i + (int)threadIdx.x %% %d);", x->lane_rows, lanes, lanes);
    else if (!cols)
        cu_line(c, "const int row_at = %d * i + threadIdx.x %% %d;", lanes, lanes);
    declare_place(c, x, cols, goes_on);
    if (x->slices == 1)
        split_place(c, x, cols);
}

static const char *sum_at(Code *c, const Contract *x) { return arena_printf(c->arena, "shared[col_at * %d + row_at]", contract_pitch(x)); }

/* ---- points ---- */
/* Values and stores of one point, its axes being variables. */
static void emit_point(Code *c, const Contract *x, bool by_rows)
{
    if (x->slices > 1) {
        cu_line(c, "%s = %s;", contract_partial(c, x), sum_at(c, x));
        return;
    }
    cu_line(c, "const float sum = %s;", sum_at(c, x));
    cu_outputs(c, false);
    contract_sums_add(c, x, by_rows, NULL);
}

/* What tells whether the point counts, of loops that go on; NULL: it does. */
static const char *inside_of(const Contract *x, bool outer_goes_on, bool by_rows)
{
    bool cols = may_exceed(x, true) && (by_rows || outer_goes_on), rows = may_exceed(x, false) && (!by_rows || outer_goes_on);
    return cols && rows ? "col_inside && row_inside" : cols ? "col_inside" : rows ? "row_inside" : NULL;
}

static int row_axis(const Contract *x) { return x->row.axis[x->row.n - 1]; }

static void take_sums(Code *c, const Contract *x)
{
    cu_line(c, "float four_sums[%d];", x->lane_rows);
    cu_line(c, "load4(four_sums, &%s);", sum_at(c, x));
}

/* The same of four points. */
static void emit_four(Code *c, const Contract *x, const Wanted *w, bool by_rows, const char *inside)
{
    const char **kept = cu_keep(c), *only = inside ? arena_printf(c->arena, "if (%s) ", inside) : "";
    take_sums(c, x);
    if (x->slices > 1) {   /* of a sum of 64 bits NVRTC would not see that its store is one of 16 bytes */
        cu_line(c, "store4(&(partial + %lldll * slice)[apart(%s)], four_sums);", contract_slice_sums(x), contract_partial_index(c, x));
        return;
    }
    wide_declare_results(c);
    wide_points(c, row_axis(x), w);
    wide_results(c);
    contract_sums_add(c, x, by_rows, inside);
    wide_close(c);
    cu_restore(c, kept);
    wide_store(c, row_axis(x), only);
}

/* The second sweep over a row's points, for their squared distances from their mean. */
static void square_row(Code *c, const Contract *x, bool goes_on, const char *inside)
{
    const Wanted w = {.e = {c->k->tile_sum[0].value}, .n = 1};
    contract_sums_mean(c, x);
    open_loop(c, x, true, AT_ONCE, goes_on);
    if (contract_wide(x)) {
        take_sums(c, x);
        wide_points(c, row_axis(x), &w);
    } else {
        cu_line(c, "const float sum = %s;", sum_at(c, x));
    }
    contract_sums_square(c, x, inside);
    if (contract_wide(x))
        wide_close(c);
    cu_close(c);
}

/* ---- all ---- */
/* Some output is read as well: a place past the matrix would be read while another thread writes what stands for it. */
static bool updates_in_place(const KernelList *l, const Kernel *k)
{
    for (AccessId from = 0; from < k->n_access; from++)
        for (AccessId to = 0; to < k->n_access && !kernel_writes(k, from); to++)
            if (kernel_writes(k, to) && buffer_root(l, k->access[from].buf) == buffer_root(l, k->access[to].buf))
                return true;
    return false;
}

/* Values of the outer loop's rows or columns. */
static void emit_outer_values(Code *c, const Contract *x, const Wanted *w, bool by_rows)
{
    const uint32_t inner = group_axes(by_rows ? &x->col : &x->row);
    if (by_rows && contract_wide(x))
        wide_once(c, row_axis(x), inner, w);
    else
        for (int i = 0; i < w->n; i++)
            cu_hoist(c, w->e[i], inner);
}

void contract_epilogue(Code *c, const Contract *x)
{
    const Wanted w = x->slices == 1 ? wanted_of(c->k) : (Wanted){.n = 0};
    const bool wide = contract_wide(x), sums = c->k->n_tile_sums > 0, by_rows = sums ? x->row_sums > 0 : rows_have_values(c, x);
    const int32_t rounds = contract_rounds(x), outer_unroll = by_rows || sums ? 1 : (AT_ONCE + rounds - 1) / rounds;
    const bool goes_on = wide && x->slices == 1 && !updates_in_place(c->l, c->k), outer_goes_on = goes_on && outer_unroll > 1;
    const char **kept = cu_keep(c), *inside = goes_on ? inside_of(x, outer_goes_on, by_rows) : NULL;
    put_sums(c, x);
    c->name[x->sum] = wide ? "four_sums[u]" : "sum";
    if (sums)
        contract_sums_begin(c, x, by_rows);
    open_loop(c, x, !by_rows, outer_unroll, outer_goes_on);
    emit_outer_values(c, x, &w, by_rows);
    if (sums)
        contract_sums_start(c, x, by_rows);
    const char **outer = cu_keep(c);
    open_loop(c, x, by_rows, by_rows ? AT_ONCE : rounds, goes_on);
    if (wide)
        emit_four(c, x, &w, by_rows, inside);
    else
        emit_point(c, x, by_rows);
    cu_close(c);
    cu_restore(c, outer);
    if (by_rows && c->k->tile_moments)
        square_row(c, x, goes_on, inside);
    if (sums)
        (by_rows ? contract_sums_of_row : contract_sums_of_column)(c, x);
    cu_close(c);
    cu_restore(c, kept);
    if (sums && by_rows)
        contract_sums_of_rows(c, x);
}
