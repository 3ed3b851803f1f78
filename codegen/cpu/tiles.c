/* Contractions in tile registers (AMX).
 * In: a nest whose rows_axis is not -1 (codegen/tiles.h). Out: its sums in a buffer of 4 KB on the stack, and its outputs computed from
 * there row by row, as those of any other nest are computed from registers.
 *
 *   ldtilecfg
 *   loops over the other axes, v columns at a time
 *     for the rows, `step` at a time                     the last step may share rows with the one before it
 *       tilezero 0..3
 *       for r, s: for c, `depth` pairs at a time
 *         tileloadd a (4, 5), b (6, 7); tdpbf16ps 0..3
 *       tilestored 0..3                              to the buffer; straight to the output where that is the sum itself
 *       for the rows of this step: outputs
 *   tilerelease
 *
 * Tile registers are named by number, through LLVM's explicit instructions: all tiles of a nest have one of three shapes, known here, so
 * the configuration is a constant and there is nothing for a register allocator to do or to spill. (With LLVM's own x86_amx values
 * the loops are the same, but shapes are kept in general registers and written to the stack at run time.) Sums are 0..3, so that
 * m x n <= 4; tiles of b take turns in 6 and 7. */
#include "codegen/cpu/nest.h"
#include "codegen/tiles.h"

#include <string.h>

enum { SUMS = 0, ROWS_A = 4, COLUMNS_B = 6, TILES = 8, ROW_BYTES = 64, BUFFER_BYTES = 4096 };

typedef struct {
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
    c->sums = emit_alloca(c->e, LLVMArrayType2(c->e->i8, BUFFER_BYTES), "sums");
    LLVMSetAlignment(c->sums, 64);
}

void tiles_end(Ctx *c) { call(c, "tilerelease", SOFTWARE(c, release), NULL, 0); }

/* ---- rows ---- */
static LLVMValueRef smaller(Ctx *c, LLVMValueRef x, LLVMValueRef y)
{
    return LLVMBuildSelect(c->e->b, LLVMBuildICmp(c->e->b, LLVMIntSLT, x, y, ""), x, y, "");
}

/* The rows of this slice, or of all lines; true: at run time. */
static bool rows_range(Ctx *c, LLVMValueRef *from, LLVMValueRef *to)
{
    if (c->nest->lines_axis < 0)
        return axis_range(c, c->nest->rows_axis, from, to);
    *from = emit_i64(c->e, 0);
    *to = emit_i64(c->e, tiles_all_rows(c->nest));
    return false;
}

/* Tiles always have all their rows: where fewer are left the step starts earlier, and only those left are stored. With fewer images
 * than the batch, rows past the last one are of whatever lies there, and are not stored. */
void tiles_for_rows(Ctx *c, Body body, void *arg)
{
    Emit *e = c->e;
    int a = c->nest->rows_axis;
    int32_t step = c->nest->tile[a], all = tiles_all_rows(c->nest);
    LLVMValueRef from, to;
    bool some = rows_range(c, &from, &to);
    AxisSaved saved = axis_save(c, a);
    Loop l = emit_loop_begin(e, from, to, step, c->k->axis[a].name);
    LLVMValueRef start = all % step || some ? smaller(c, l.iv, emit_i64(e, all - step)) : l.iv;
    c->axis[a] = (AxisState){.bound = true, .lo = start, .unit = 1, .points = step, .step = 1};
    access_bind(c, a, start, 1);
    c->before_rows = &saved;
    c->rows_from = LLVMBuildSub(e->b, l.iv, start, "");
    c->rows_to = all % step == 0 && !some ? emit_i64(e, step) : LLVMBuildSub(e->b, smaller(c, emit_add(e, l.iv, emit_i64(e, step)), to), start, "");
    body(c, arg);
    emit_loop_end(e, &l);
    axis_restore(c, a, &saved);
}

/* ---- one step ---- */
static Step find_step(const Ctx *c)
{
    Step s = {.pair_axis = -1};
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
    tile_load(c, ROWS_A + i, emit_gep(c->e, c->e->i8, from, emit_i64(c->e, first_row(c, s, i) * stride)), stride);
}

static void load_columns(Ctx *c, const Step *s, int j)
{
    set_point(c, s, 0, j);
    tile_load(c, COLUMNS_B + j % 2, access_pointer(c, s->b), stride_along(c, s->b, c->nest->depth_axis));
    set_point(c, s, 0, 0);
}

static void multiply(Ctx *c, void *arg)
{
    const Step *s = arg;
    for (int i = 0; i < s->m; i++) {
        load_rows(c, s, i);
        for (int j = 0; j < s->n; j++) {
            if (i == 0)
                load_columns(c, s, j);
            tile_dot(c, SUMS + i * s->n + j, ROWS_A + i, COLUMNS_B + j % 2);
        }
    }
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

/* Where the sums of tile i, column vector j lie in the buffer; of its row `row` counted in the step. */
static int64_t sums_at(const Ctx *c, const Step *s, int i, int j)
{
    int64_t row = s->pair_axis < 0 ? first_row(c, s, i) : (int64_t)i * c->nest->tile[c->nest->rows_axis];
    return (row * s->n + j) * ROW_BYTES;
}

static void store_sums(Ctx *c, const Step *s)
{
    for (int i = 0; i < s->m; i++)
        for (int j = 0; j < s->n; j++)
            tile_store(c, SUMS + i * s->n + j, emit_gep(c->e, c->e->i8, c->sums, emit_i64(c->e, sums_at(c, s, i, j))), (int64_t)s->n * ROW_BYTES);
}

/* The sums of one row of the step, at every point, become values of the sum. */
static void load_sums(Ctx *c, const Step *s, LLVMValueRef row)
{
    Emit *e = c->e;
    LLVMValueRef at = emit_gep(e, e->i8, c->sums, emit_mul(e, row, (int64_t)s->n * ROW_BYTES));
    LLVMTypeRef type = emit_vec(e, e->f32, TILE_COLUMNS);
    for (int i = 0; i < (s->pair_axis < 0 ? 1 : s->m); i++)
        for (int j = 0; j < s->n; j++) {
            set_point(c, s, i, j);
            memo_put(c, s->sum, emit_load(e, type, emit_gep(e, e->i8, at, emit_i64(e, sums_at(c, s, i, j))), 64));
        }
    set_point(c, s, 0, 0);
}

/* Is the only output the sum, in whole vectors of float32 and rows a fixed distance apart (a product of Winograd's)? */
static bool output_is_sum(const Ctx *c, const Step *s)
{
    AccessId y = c->k->out[0].at;
    const AccessState *acc = &c->acc[y];
    int v = c->nest->vector_axis, rows = c->nest->rows_axis;
    if (c->nest->lines_axis >= 0 || c->k->n_out != 1 || c->k->out[0].value != s->sum || acc->dtype != DT_F32 || !acc->fast || c->k->axis[rows].batch)
        return false;
    for (int d = 0; d < c->k->access[y].rank; d++)
        if (c->k->access[y].dim[d].guarded)
            return false;
    return access_lane_stride(&acc->lin, v) == 1 && !acc->lin.block[rows] && (acc->lin.block[v] || c->k->axis[v].extent % TILE_COLUMNS == 0);
}

/* Rows that two steps share are stored twice, with the same sums. */
static void store_output(Ctx *c, const Step *s)
{
    AccessId y = c->k->out[0].at;
    int64_t stride = stride_along(c, y, c->nest->rows_axis);
    for (int i = 0; i < s->m; i++)
        for (int j = 0; j < s->n; j++) {
            set_point(c, s, i, j);
            LLVMValueRef to = emit_gep(c->e, c->e->i8, access_pointer(c, y), emit_i64(c->e, first_row(c, s, i) * stride));
            tile_store(c, SUMS + i * s->n + j, to, stride);
        }
    set_point(c, s, 0, 0);
}

/* ---- outputs, row by row ---- */
typedef struct { const Step *s; Body outputs; void *arg; } Rows;

static void bind_index(Ctx *c, int a, LLVMValueRef index, LLVMValueRef moved)
{
    c->axis[a] = (AxisState){.bound = true, .lo = index, .unit = 1, .points = 1, .step = 1};
    access_bind(c, a, moved, 1);
}

static void output_row(Ctx *c, const Rows *r, LLVMValueRef row)
{
    int a = c->nest->rows_axis;
    AxisSaved saved = axis_save(c, a);
    bind_index(c, a, emit_add(c->e, c->axis[a].lo, row), row);
    load_sums(c, r->s, row);
    r->outputs(c, r->arg);
    axis_restore(c, a, &saved);
}

/* A row is a point of a line, or lies between two lines. */
static void output_of_lines(Ctx *c, const Rows *r, LLVMValueRef row)
{
    Emit *e = c->e;
    int a = c->nest->rows_axis, lines = c->nest->lines_axis;
    LLVMValueRef at = emit_add(e, c->axis[a].lo, row), pitch = emit_i64(e, c->nest->pitch);
    LLVMValueRef line = LLVMBuildUDiv(e->b, at, pitch, ""), point = LLVMBuildURem(e->b, at, pitch, "");
    AxisSaved saved = axis_save(c, a), saved_line = axis_save(c, lines);
    If inside = emit_if_begin(e, LLVMBuildICmp(e->b, LLVMIntULT, point, emit_i64(e, c->k->axis[a].extent), ""));
    axis_restore(c, a, c->before_rows);
    bind_index(c, lines, line, line);
    bind_index(c, a, point, point);
    load_sums(c, r->s, row);
    r->outputs(c, r->arg);
    emit_if_end(e, &inside);
    axis_restore(c, lines, &saved_line);
    axis_restore(c, a, &saved);
}

void tiles_contract(Ctx *c, Body outputs, void *arg)
{
    Emit *e = c->e;
    Step s = find_step(c);
    for (int i = 0; i < s.m * s.n; i++)
        tile_zero(c, SUMS + i);
    add_up(c, &s);
    if (output_is_sum(c, &s)) {
        store_output(c, &s);
        return;
    }
    store_sums(c, &s);
    Rows rows = {&s, outputs, arg};
    Loop l = emit_loop_begin(e, c->rows_from, c->rows_to, 1, "row");
    if (c->nest->lines_axis >= 0)
        output_of_lines(c, &rows, l.iv);
    else
        output_row(c, &rows, l.iv);
    emit_loop_end(e, &l);
}
