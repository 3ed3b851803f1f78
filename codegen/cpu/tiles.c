/* Contractions in tile registers (AMX).
 * In: a nest whose rows_axis is not -1 (codegen/tiles.h). Out: its sums in a buffer on the stack, and its outputs computed from
 * there row by row, as those of any other nest are computed from registers.
 *
 *   ldtilecfg
 *   loops over the other axes, v columns at a time
 *     for the rows, `step` at a time                     the last step may share rows with the one before it
 *       tilezero 0..3
 *       for r, s: for c, `depth` pairs at a time
 *         tileloadd a (4, 5), b (6, 7); tdpbf16ps 0..3
 *         for the next few rows of the last step: outputs      tile registers multiply meanwhile
 *       tilestored 0..3                              to one half of the buffer
 *     for the rows of the last step: outputs
 *   tilerelease
 *
 * Tile registers are named by number, through LLVM's explicit instructions: all tiles of a nest have one of three shapes, known here, so
 * the configuration is a constant and there is nothing for a register allocator to do or to spill. (With LLVM's own x86_amx values
 * the loops are the same, but shapes are kept in general registers and written to the stack at run time.) Sums are 0..3, so that
 * m x n <= 4; tiles of b take turns in 6 and 7. */
#include "codegen/cpu/nest.h"
#include "codegen/tiles.h"

#include <string.h>

enum { SUMS = 0, ROWS_A = 4, COLUMNS_B = 6, TILES = 8, ROW_BYTES = 64, LINE_BYTES = 64, TILE_BYTES = 1024, STEP_BYTES = 4096 };

typedef struct {
    Body outputs;
    AccessId a, b;
    ExprId sum;
    int m, n;            /* tiles of rows and of columns of this step */
    int pair_axis;       /* the axis, beside the rows', along which two tiles of rows lie; -1: they lie along the rows' axis */
    int level;           /* of the summed axes */
} Step;

/* ---- the six operations ---- */
static LLVMValueRef number(Ctx *c, int tile)
{
    return c->e->target->software_tiles ? emit_i32(c->e, tile) : LLVMConstInt(c->e->i8, (unsigned)tile, false);
}

/* llvm.x86.NAME(args), or `software` where the target has it. */
static void call(Ctx *c, const char *name, void (*software)(void), LLVMValueRef *args, unsigned n)
{
    Emit *e = c->e;
    const char *full = arena_printf(e->arena, "llvm.x86.%s", name);
    unsigned id = LLVMLookupIntrinsicID(full, strlen(full));
    LLVMTypeRef type = LLVMIntrinsicGetType(e->cx, id, NULL, 0), params[3];
    LLVMValueRef fn = NULL;
    if (e->target->software_tiles) {
        for (unsigned i = 0; i < n; i++)
            params[i] = LLVMTypeOf(args[i]);
        type = LLVMFunctionType(e->void_, params, n, false);
        fn = LLVMConstIntToPtr(emit_i64(e, (int64_t)(uintptr_t)software), e->ptr);
    } else {
        fn = LLVMGetIntrinsicDeclaration(e->mod, id, NULL, 0);
    }
    LLVMBuildCall2(e->b, type, fn, args, n, "");
}

typedef void (*AnyFn)(void);
#define SOFTWARE(c, op) ((c)->e->target->software_tiles ? (AnyFn)(c)->e->target->software_tiles->op : NULL)

static void tile_zero(Ctx *c, int tile)
{
    LLVMValueRef args[1] = {number(c, tile)};
    call(c, "tilezero", SOFTWARE(c, zero), args, 1);
}

static void tile_load(Ctx *c, int tile, LLVMValueRef from, int64_t stride)
{
    LLVMValueRef args[3] = {number(c, tile), from, emit_i64(c->e, stride)};
    call(c, "tileloadd64", SOFTWARE(c, load), args, 3);
}

static void tile_dot(Ctx *c, int sum, int a, int b)
{
    LLVMValueRef args[3] = {number(c, sum), number(c, a), number(c, b)};
    call(c, "tdpbf16ps", SOFTWARE(c, dot), args, 3);
}

static void tile_store(Ctx *c, int tile, LLVMValueRef to, int64_t stride)
{
    LLVMValueRef args[3] = {number(c, tile), to, emit_i64(c->e, stride)};
    call(c, "tilestored64", SOFTWARE(c, store), args, 3);
}

/* ---- a nest ---- */
static LLVMValueRef get(Ctx *c, LLVMValueRef from) { return emit_load(c->e, c->e->i64, from, 8); }
static void put(Ctx *c, LLVMValueRef to, LLVMValueRef value) { emit_store(c->e, value, to, 8); }

/* What ldtilecfg reads: palette 1, then bytes of a row and number of rows of each tile. */
static LLVMValueRef shapes(Ctx *c)
{
    unsigned char bytes[64] = {1};
    int rows = tiles_rows(c->nest), depth = c->nest->depth;
    for (int i = 0; i < TILES; i++) {
        bytes[16 + 2 * i] = (unsigned char)(i >= ROWS_A && i < COLUMNS_B ? 4 * depth : ROW_BYTES);
        bytes[48 + i] = (unsigned char)(i >= COLUMNS_B ? depth : rows);
    }
    LLVMValueRef init = LLVMConstStringInContext2(c->e->cx, (const char *)bytes, sizeof bytes, true);
    LLVMValueRef g = LLVMAddGlobal(c->e->mod, LLVMTypeOf(init), "shapes");
    LLVMSetInitializer(g, init);
    LLVMSetGlobalConstant(g, true);
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    LLVMSetAlignment(g, 64);
    return g;
}

void tiles_begin(Ctx *c)
{
    LLVMValueRef args[1] = {shapes(c)};
    call(c, "ldtilecfg", SOFTWARE(c, configure), args, 1);
    c->sums = emit_alloca(c->e, LLVMArrayType2(c->e->i8, 2 * STEP_BYTES), "sums");
    LLVMSetAlignment(c->sums, 64);
    LLVMValueRef *const late[] = {&c->late.start, &c->late.next, &c->late.end, &c->late.sums};
    for (size_t i = 0; i < ARRAY_LEN(late); i++)
        *late[i] = emit_alloca(c->e, c->e->i64, "late");
    put(c, c->late.sums, emit_i64(c->e, 0));
}

void tiles_end(Ctx *c) { call(c, "tilerelease", SOFTWARE(c, release), NULL, 0); }

/* ---- rows ---- */
static LLVMValueRef smaller(Ctx *c, LLVMValueRef x, LLVMValueRef y)
{
    return LLVMBuildSelect(c->e->b, LLVMBuildICmp(c->e->b, LLVMIntSLT, x, y, ""), x, y, "");
}

/* ---- one step ---- */
static Step find_step(const Ctx *c, Body outputs)
{
    Step s = {.pair_axis = -1, .outputs = outputs};
    const Nest *n = c->nest;
    for (ExprId e = 1; e < c->k->n_expr; e++)
        if (c->k->expr[e].op == EX_SUM)
            s.sum = e;
    const Expr *m = &c->k->expr[c->k->expr[s.sum].a];
    bool swap = access_axes(c->k, c->k->expr[m->a].at) >> n->vector_axis & 1;
    s.a = c->k->expr[swap ? m->b : m->a].at;
    s.b = c->k->expr[swap ? m->a : m->b].at;
    s.n = c->axis[n->vector_axis].points;
    s.m = tiles_along_rows(n);
    for (int i = 0; i < c->k->n_axes; i++)
        if (i != n->vector_axis && i != n->rows_axis && c->axis[i].points > 1) {
            s.pair_axis = i;
            s.m = c->axis[i].points;
        }
    return s;
}

/* Rows from the first row of a step to the first row of its tile i, where tiles lie along the rows' axis. */
static int64_t first_row(const Ctx *c, const Step *s, int i) { return s->pair_axis < 0 && i ? c->nest->tile[c->nest->rows_axis] - tiles_rows(c->nest) : 0; }

/* The same in memory: the second of two lines lies a pitch further. */
static int64_t first_row_of_a(const Ctx *c, const Step *s, int i) { return c->nest->lines_a_step == 2 && i ? c->nest->pitch : first_row(c, s, i); }

static int64_t stride_along(const Ctx *c, AccessId at, int axis) { return c->acc[at].lin.unit[axis] * (int64_t)sizeof(int32_t); }

/* Tile i of rows, vector j of columns. */
static void set_point(Ctx *c, const Step *s, int i, int j)
{
    c->pt[c->nest->vector_axis] = j;
    if (s->pair_axis >= 0)
        c->pt[s->pair_axis] = i;
}

static void load_rows(Ctx *c, const Step *s, int i)
{
    set_point(c, s, i, 0);
    LLVMValueRef from = access_pointer(c, s->a);
    set_point(c, s, 0, 0);
    int64_t stride = stride_along(c, s->a, c->nest->rows_axis);
    tile_load(c, ROWS_A + i, emit_gep(c->e, c->e->i8, from, emit_i64(c->e, first_row_of_a(c, s, i) * stride)), stride);
}

static void load_columns(Ctx *c, const Step *s, int j)
{
    set_point(c, s, 0, j);
    tile_load(c, COLUMNS_B + j % 2, access_pointer(c, s->b), stride_along(c, s->b, c->nest->depth_axis));
    set_point(c, s, 0, 0);
}

/* Where the sums of tile i, column vector j lie in the buffer; of its row `row` counted in the step. */
static int64_t sums_at(const Ctx *c, const Step *s, int i, int j)
{
    int64_t row = s->pair_axis < 0 ? first_row(c, s, i) : (int64_t)i * c->nest->tile[c->nest->rows_axis];
    return (row * s->n + j) * ROW_BYTES;
}

static void store_sums(Ctx *c, const Step *s)
{
    LLVMValueRef at = emit_gep(c->e, c->e->i8, c->sums, get(c, c->late.sums));
    for (int i = 0; i < s->m; i++)
        for (int j = 0; j < s->n; j++)
            tile_store(c, SUMS + i * s->n + j, emit_gep(c->e, c->e->i8, at, emit_i64(c->e, sums_at(c, s, i, j))), (int64_t)s->n * ROW_BYTES);
}

/* The sums of one row of the step, at every point, become values of the sum. */
static void load_sums(Ctx *c, const Step *s, LLVMValueRef row)
{
    Emit *e = c->e;
    LLVMValueRef at = emit_gep(e, e->i8, c->sums, emit_add(e, get(c, c->late.sums), emit_mul(e, row, (int64_t)s->n * ROW_BYTES)));
    LLVMTypeRef type = emit_vec(e, e->f32, TILE_COLUMNS);
    for (int i = 0; i < (s->pair_axis < 0 ? 1 : s->m); i++)
        for (int j = 0; j < s->n; j++) {
            set_point(c, s, i, j);
            memo_put(c, s->sum, emit_load(e, type, emit_gep(e, e->i8, at, emit_i64(e, sums_at(c, s, i, j))), 64));
        }
    set_point(c, s, 0, 0);
}

/* ---- outputs, row by row ---- */
static void bind_index(Ctx *c, int a, LLVMValueRef index)
{
    c->axis[a] = (AxisState){.bound = true, .lo = index, .unit = 1, .points = 1, .step = 1};
    access_bind(c, a, index, 1);
}

/* Of all rows, the one that is row `row` of a step from `start` on. */
static LLVMValueRef index_of_row(Ctx *c, LLVMValueRef start, LLVMValueRef row)
{
    Emit *e = c->e;
    int32_t line = c->k->axis[c->nest->rows_axis].extent;
    LLVMValueRef at = emit_add(e, start, row);
    if (c->nest->lines_a_step != 2)
        return at;
    LLVMValueRef first = LLVMBuildICmp(e->b, LLVMIntSLT, row, emit_i64(e, line), "");
    return LLVMBuildSelect(e->b, first, at, emit_add(e, at, emit_i64(e, c->nest->pitch - line)), "");
}

/* Row `at` of all, whose sums are in row `row` of their step: a point of a line, or between two of them. */
static void output_row(Ctx *c, const Step *s, LLVMValueRef at, LLVMValueRef row)
{
    Emit *e = c->e;
    int a = c->nest->rows_axis, lines = c->nest->lines_axis;
    LLVMValueRef point = at;
    If inside = {0};
    if (lines >= 0) {
        LLVMValueRef pitch = emit_i64(e, c->nest->pitch);
        point = LLVMBuildURem(e->b, at, pitch, "");
        bind_index(c, lines, LLVMBuildUDiv(e->b, at, pitch, ""));
    }
    bool between = lines >= 0 && !c->nest->lines_a_step;
    if (between)
        inside = emit_if_begin(e, LLVMBuildICmp(e->b, LLVMIntULT, point, emit_i64(e, c->k->axis[a].extent), ""));
    bind_index(c, a, point);
    load_sums(c, s, row);
    s->outputs(c, NULL);
    if (between)
        emit_if_end(e, &inside);
}

/* As before the loop over rows: neither they nor what is summed is bound. */
static void late_row(Ctx *c, const Step *s, LLVMValueRef start, LLVMValueRef row)
{
    AxisState axis[MAX_AXIS];
    AxisSaved saved = axis_save(c, c->nest->rows_axis);
    memcpy(axis, c->axis, sizeof axis);
    axis_restore(c, c->nest->rows_axis, c->before_rows);
    for (int i = 0; i < c->nest->n_red; i++)
        c->axis[c->nest->red[i]] = (AxisState){.points = 1};
    output_row(c, s, index_of_row(c, start, row), row);
    memcpy(c->axis, axis, sizeof axis);
    axis_restore(c, c->nest->rows_axis, &saved);
}

/* The next `most` of them, or all (0). */
static void late_rows(Ctx *c, const Step *s, int most)
{
    Emit *e = c->e;
    LLVMValueRef next = get(c, c->late.next), end = get(c, c->late.end), start = get(c, c->late.start);
    if (most)
        end = smaller(c, emit_add(e, next, emit_i64(e, most)), end);
    Loop l = emit_loop_begin(e, next, end, 1, "row");
    late_row(c, s, start, l.iv);
    emit_loop_end(e, &l);
    put(c, c->late.next, end);
}

/* Outputs are computed while the next step's products are: tile registers have a unit of their own. So many rows with each product, so
 * that none is left. */
static int rows_a_product(const Ctx *c)
{
    int64_t products = 1, rows = c->nest->tile[c->nest->rows_axis];
    for (int i = 0; i < c->nest->n_red; i++)
        products *= c->k->axis[c->nest->red[i]].extent;
    products /= c->nest->depth;
    return (int)((rows + products - 1) / products);
}

static void fetch_next_panel(Ctx *c, const Step *s)
{
    for (int i = 0; i < c->nest->lines_ahead; i++)
        emit_prefetch(c->e,
                      emit_gep(c->e, c->e->i8, access_pointer(c, s->b), emit_add(c->e, c->next_panel, emit_i64(c->e, (int64_t)i * LINE_BYTES))));
}

static void multiply(Ctx *c, void *arg)
{
    const Step *s = arg;
    fetch_next_panel(c, s);
    for (int i = 0; i < s->m; i++) {
        load_rows(c, s, i);
        for (int j = 0; j < s->n; j++) {
            if (i == 0)
                load_columns(c, s, j);
            tile_dot(c, SUMS + i * s->n + j, ROWS_A + i, COLUMNS_B + j % 2);
        }
    }
    late_rows(c, s, rows_a_product(c));
}

static void add_up(Ctx *c, void *arg)
{
    Step s = *(const Step *)arg;
    int a = c->nest->red[s.level++];
    if (a == c->nest->depth_axis)
        axis_blocks(c, a, c->k->axis[a].extent / c->nest->depth, c->nest->depth, multiply, &s);
    else
        for_axis(c, a, 1, false, add_up, &s);
}

void tiles_contract(Ctx *c, Body outputs)
{
    Emit *e = c->e;
    Step s = find_step(c, outputs);
    for (int i = 0; i < s.m * s.n; i++)
        tile_zero(c, SUMS + i);
    add_up(c, &s);
    LLVMValueRef other = LLVMBuildSub(e->b, emit_i64(e, STEP_BYTES), get(c, c->late.sums), "");
    put(c, c->late.sums, other);
    put(c, c->late.start, c->axis[c->nest->rows_axis].lo);
    put(c, c->late.next, c->rows_from);
    put(c, c->late.end, c->rows_to);
    store_sums(c, &s);
}

/* ---- the loop over rows ---- */
/* Tiles always have all their rows: where fewer are left, from `at` up to `to` of `all`, the step starts earlier, and only those left are
 * stored. With fewer images than the batch, rows past the last one are of whatever lies there, and are not stored. */
static LLVMValueRef place_step(Ctx *c, LLVMValueRef at, LLVMValueRef to, int32_t all, bool whole)
{
    Emit *e = c->e;
    int32_t step = c->nest->tile[c->nest->rows_axis];
    LLVMValueRef start = all % step ? smaller(c, at, emit_i64(e, all - step)) : at;
    c->rows_from = LLVMBuildSub(e->b, at, start, "");
    c->rows_to = whole && all % step == 0 ? emit_i64(e, step) : LLVMBuildSub(e->b, smaller(c, emit_add(e, at, emit_i64(e, step)), to), start, "");
    return start;
}

/* What the loop runs over: rows; or the steps of whole lines, or pairs of lines. */
static bool range_of_rows(Ctx *c, LLVMValueRef *from, LLVMValueRef *to)
{
    const Nest *n = c->nest;
    if (n->lines_axis < 0)
        return axis_range(c, n->rows_axis, from, to);
    if (n->lines_a_step == 0) {
        *from = emit_i64(c->e, 0);
        *to = emit_i64(c->e, tiles_all_rows(n));
        return false;
    }
    bool part = axis_range(c, n->lines_axis, from, to);
    *from = emit_mul(c->e, *from, tiles_steps_of_line(n));
    *to = emit_mul(c->e, *to, tiles_steps_of_line(n));
    return part;
}

static LLVMValueRef place_in_lines(Ctx *c, LLVMValueRef at)
{
    Emit *e = c->e;
    const Nest *n = c->nest;
    LLVMValueRef steps = emit_i64(e, tiles_steps_of_line(n)), line = LLVMBuildUDiv(e->b, at, steps, ""), step = LLVMBuildURem(e->b, at, steps, "");
    int32_t rows = n->k->axis[n->rows_axis].extent * n->lines_a_step;
    LLVMValueRef start = place_step(c, emit_mul(e, step, n->tile[n->rows_axis]), emit_i64(e, rows), rows, true);
    return emit_add(e, emit_mul(e, line, n->pitch), start);
}

/* The step's part of the next panel: lines_ahead lines after those of the step before, through the panel's tiles one by one. */
static void find_next_panel(Ctx *c, const Step *s, LLVMValueRef step)
{
    Emit *e = c->e;
    int64_t columns = c->acc[s->b].lin.block[c->nest->vector_axis] * (int64_t)sizeof(int32_t);
    LLVMValueRef at = emit_mul(e, step, (int64_t)c->nest->lines_ahead * LINE_BYTES), tile = emit_i64(e, TILE_BYTES);
    LLVMValueRef vector = emit_add(e, LLVMBuildUDiv(e->b, at, tile, ""), emit_i64(e, s->n));
    c->next_panel = emit_add(e, emit_mul(e, vector, columns), LLVMBuildURem(e->b, at, tile, ""));
}

void tiles_for_rows(Ctx *c, Body body, void *arg, Body outputs)
{
    Emit *e = c->e;
    const Nest *n = c->nest;
    int a = n->rows_axis;
    LLVMValueRef from, to;
    bool some = range_of_rows(c, &from, &to);
    AxisSaved saved = axis_save(c, a);
    c->before_rows = &saved;
    put(c, c->late.next, emit_i64(e, 0));
    put(c, c->late.end, emit_i64(e, 0));
    int32_t by = n->lines_a_step ? n->lines_a_step : n->tile[a];
    Step s = find_step(c, outputs);
    Loop l = emit_loop_begin(e, from, to, by, c->k->axis[a].name);
    if (n->lines_ahead)
        find_next_panel(c, &s, LLVMBuildUDiv(e->b, LLVMBuildSub(e->b, l.iv, from, ""), emit_i64(e, by), ""));
    LLVMValueRef start = n->lines_a_step ? place_in_lines(c, l.iv) : place_step(c, l.iv, to, tiles_all_rows(n), !some);
    c->axis[a] = (AxisState){.bound = true, .lo = start, .unit = 1, .points = n->tile[a], .step = 1};
    access_bind(c, a, start, 1);
    body(c, arg);
    emit_loop_end(e, &l);
    axis_restore(c, a, &saved);
    late_rows(c, &s, 0);
}
