/* Loads of a product's operands into tiles in shared memory.
 * In: a Contract, one of its operands. Out: lines that copy the tile of one step, or fetch it into registers and later place it.
 * Relies on variables: first_row or first_col, `from` (the step's first depth), `next` (its number), last_depth.
 *
 * Copies are asynchronous, of 4 to 16 bytes: what is out of range (padding, the edge of the matrix, samples past n) is filled with 0
 * by the copy itself. An operand that is stored wider than it is multiplied, or whose neighbours in memory are not neighbours in a
 * tile, is fetched element by element before the sums of the running step, and placed after them. */
#include "codegen/gpu/contract.h"

#include <string.h>

const char *contract_limit(Code *c, const AxisGroup *g)
{
    int64_t inner = 1;
    for (int i = 1; i < g->n; i++)
        inner *= c->k->axis[g->axis[i]].extent;
    return g->dynamic ? arena_printf(c->arena, "samples * %lld", (long long)inner) : arena_printf(c->arena, "%lld", (long long)g->extent);
}

Operand contract_operand(const Contract *x, bool b)
{
    return b ? (Operand){"b", "col", x->b, &x->col, &x->b_load, x->cols} : (Operand){"a", "row", x->a, &x->row, &x->a_load, x->rows};
}

const char *contract_element_type(const Contract *x) { return x->products == PRECISION_BF16 ? "bf16" : "float"; }

/* Which copies of a tile a thread has: `line` copies make a line of the tile, `total` all of it. A thread that has one place in every
 * line it copies (`fixed`) knows one of its two indices outside of the loop over its copies. */
typedef struct { int32_t line, total, vector; bool fixed; } Copies;

static Copies copies_of(const Contract *x, const Operand *o)
{
    int32_t vector = o->load->vector ? o->load->vector : 1, line = (o->load->along_depth ? x->steps : o->size) / vector;
    return (Copies){line, o->size * x->steps / vector, vector, x->threads % line == 0};
}

static void open_elements(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", (n.total + x->threads - 1) / x->threads);
    if (!n.fixed || n.total % x->threads)
        cu_line(c, "const int element = threadIdx.x + i * %d;", x->threads);
    if (n.total % x->threads)
        cu_line(c, "if (element >= %d) break;", n.total);
}

/* Where the copy is in the tile: along its line, and which line. */
static const char *place_in_line(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    const char *of = n.fixed ? "threadIdx.x" : "element", *at = n.fixed && n.line == x->threads ? of : arena_printf(c->arena, "%s %% %d", of, n.line);
    return n.vector > 1 ? arena_printf(c->arena, "%s * %d", at, n.vector) : at;
}

static const char *line_number(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    if (!n.fixed)
        return arena_printf(c->arena, "element / %d", n.line);
    int32_t lines = x->threads / n.line;
    const char *first = lines > 1 ? arena_printf(c->arena, "threadIdx.x / %d + ", n.line) : "";
    return arena_printf(c->arena, lines > 1 ? "%s%d * i" : "%si", first, lines);
}

static const char *place_along(Code *c, const Contract *x, const Operand *o, bool depth)
{
    return depth == o->load->along_depth ? place_in_line(c, x, o) : line_number(c, x, o);
}

/* Elements between a thread's copies in a tile, when it has one place in its lines. */
static int32_t copies_apart(const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    int32_t lines = x->threads / n.line;
    return o->load->depth_inside == o->load->along_depth ? lines * o->load->pitch : lines;
}

/* Its first copy's place in a tile. */
static const char *place_of_thread(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    const char *line = arena_printf(c->arena, "threadIdx.x / %d", n.line), *at = place_in_line(c, x, o);
    bool lies = o->load->depth_inside == o->load->along_depth;
    return lies ? arena_printf(c->arena, "%s * %d + %s", line, o->load->pitch, at) : arena_printf(c->arena, "(%s) * %d + %s", at, o->load->pitch, line);
}

/* The element's address in the tile of step `next`. */
static const char *tile_place(Code *c, const Contract *x, const Operand *o)
{
    int32_t size = contract_tile_elements(x, o->load, o->size);
    if (copies_of(x, o).fixed)
        return arena_printf(c->arena, "%s_to + next %% %d * %d + %d * i", o->name, x->stages, size, copies_apart(x, o));
    bool inside = o->load->depth_inside;
    const char *line = place_along(c, x, o, !inside);
    return arena_printf(c->arena, strchr(line, '+') ? "%s_tile + next %% %d * %d + (%s) * %d + %s" : "%s_tile + next %% %d * %d + %s * %d + %s", o->name, x->stages,
                        size, line, o->load->pitch, place_along(c, x, o, inside));
}

/* The axes of the depth, or of the rows or columns, at the copy. */
static void emit_index(Code *c, const Contract *x, const Operand *o, bool depth)
{
    const char *place = place_along(c, x, o, depth);
    if (depth)
        cu_line(c, "const int depth = from + %s;", place);
    else
        cu_line(c, "const int %s = first_%s + %s;", o->index, o->index, place);
    cu_split(c, depth ? "depth" : o->index, (depth ? &x->depth : o->group)->axis, (depth ? &x->depth : o->group)->n);
}

/* ---- what a copy's row or column knows before the loop over steps ---- */
static uint32_t own_axes(const Contract *x, const Operand *o) { return group_axes(o->group) | group_axes(&x->both); }

static uint32_t dim_axes(const Code *c, const Affine *f)
{
    uint32_t mask = 0;
    for (int a = 0; a < c->k->n_axes; a++)
        mask |= f->coef[a] ? 1u << a : 0;
    return mask;
}

static bool meets(const Code *c, const Contract *x, const Operand *o, const Affine *f)
{
    uint32_t axes = dim_axes(c, f);
    return f->guarded && axes & own_axes(x, o) && axes & group_axes(&x->depth);
}

/* Guards that need only those axes, each with && before it. */
static const char *guards_of(Code *c, const Operand *o, uint32_t axes, bool of_constants)
{
    const char *all = "";
    for (int d = 0; d < c->k->access[o->at].rank; d++) {
        const Affine *f = &c->k->access[o->at].dim[d];
        uint32_t has = dim_axes(c, f);
        if (f->guarded && !(has & ~axes) && (has || of_constants))
            all = arena_printf(c->arena, "%s && (unsigned)(%s) < %du", all, cu_dim_part(c, f, axes, true), f->hi - f->lo);
    }
    return all;
}

/* Variables NAME_at (in the address), NAME_end (of the depths that count), NAME_in0 ... (in guarded indices that the depth moves). */
static void emit_own_part(Code *c, const Contract *x, const Operand *o, const char *which)
{
    uint32_t own = own_axes(x, o);
    cu_line(c, "%s_at%s = apart(%s);", o->name, which, cu_index_part(c, o->at, own, true));
    cu_line(c, "%s_end%s = apart(%s < %s%s ? last_depth : 0);", o->name, which, o->index, contract_limit(c, o->group), guards_of(c, o, own, true));
    for (int d = 0; d < c->k->access[o->at].rank; d++)
        if (meets(c, x, o, &c->k->access[o->at].dim[d]))
            cu_line(c, "%s_in%d%s = apart(%s);", o->name, d, which, cu_dim_part(c, &c->k->access[o->at].dim[d], own, true));
}

static void declare_own_part(Code *c, const Contract *x, const Operand *o, const char *size)
{
    const char *more = "";
    for (int d = 0; d < c->k->access[o->at].rank; d++)
        if (meets(c, x, o, &c->k->access[o->at].dim[d]))
            more = arena_printf(c->arena, "%s, %s_in%d%s", more, o->name, d, size);
    cu_line(c, "int %s_at%s, %s_end%s%s;", o->name, size, o->name, size, more);
}

void contract_copy_begin(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    if (!n.fixed)
        return;
    int32_t lines = (n.total + x->threads - 1) / x->threads;
    declare_own_part(c, x, o, o->load->along_depth ? arena_printf(c->arena, "[%d]", lines) : "");
    if (o->load->along_depth) {
        cu_line(c, "#pragma unroll");
        cu_open(c, "for (int i = 0; i < %d; i++)", lines);
    } else {
        cu_block(c);
    }
    emit_index(c, x, o, false);
    emit_own_part(c, x, o, o->load->along_depth ? "[i]" : "");
    cu_close(c);
    cu_line(c, "%s *const %s_to = %s_tile + apart(%s);", contract_element_type(x), o->name, o->name, place_of_thread(c, x, o));
}

/* ---- copies ---- */
static const char *rounded(Code *c, AccessId at, const char *element)
{
    bool narrow = c->l->buffers.at[c->k->access[at].buf].dtype == DT_BF16;
    return narrow ? element : arena_printf(c->arena, "to_bf16(%s)", element);
}

/* Of an operand whose threads have one place in their lines: what changes from step to step. */
static void copy_fixed(Code *c, const Contract *x, const Operand *o)
{
    bool along = o->load->along_depth;
    const char *which = along ? "[i]" : "", *guards = guards_of(c, o, group_axes(&x->depth), false);
    for (int d = 0; d < c->k->access[o->at].rank; d++) {
        const Affine *f = &c->k->access[o->at].dim[d];
        if (meets(c, x, o, f))
            guards = arena_printf(c->arena, "%s && (unsigned)(%s_in%d%s + %s) < %du", guards, o->name, d, which, cu_dim_part(c, f, group_axes(&x->depth), false),
                                  f->hi - f->lo);
    }
    if (along) {
        cu_block(c);
        emit_index(c, x, o, true);
    }
    open_elements(c, x, o);
    if (!along)
        emit_index(c, x, o, true);
    const char *element = arena_printf(c->arena, "%s[%s_at%s + %s]", c->buffer[c->k->access[o->at].buf], o->name, which,
                                       cu_index_part(c, o->at, group_axes(&x->depth), false));
    const char *inside = arena_printf(c->arena, "depth < %s_end%s%s", o->name, which, guards);
    if (o->load->vector)
        cu_line(c, "cp_async%d(%s, &%s, %s);", contract_copy_bytes(x, o->load), tile_place(c, x, o), element, inside);
    else
        cu_line(c, "%s_fetched[i] = %s ? %s : 0;", o->name, inside, rounded(c, o->at, element));
    cu_close(c);
    if (along)
        cu_close(c);
}

void contract_copy(Code *c, const Contract *x, const Operand *o)
{
    if (copies_of(x, o).fixed) {
        copy_fixed(c, x, o);
        return;
    }
    const char *guard = cu_guard(c, o->at);
    open_elements(c, x, o);
    emit_index(c, x, o, true);
    emit_index(c, x, o, false);
    cu_line(c, "const int inside = %s < %s && depth < last_depth%s%s;", o->index, contract_limit(c, o->group), guard ? " && " : "", guard ? guard : "");
    if (o->load->vector)
        cu_line(c, "cp_async%d(%s, &%s, inside);", contract_copy_bytes(x, o->load), tile_place(c, x, o), cu_element(c, o->at));
    else
        cu_line(c, "%s_fetched[i] = inside ? %s : 0;", o->name, rounded(c, o->at, cu_element(c, o->at)));
    cu_close(c);
}

void contract_declare_fetched(Code *c, const Contract *x, const Operand *o)
{
    if (!o->load->vector)
        cu_line(c, "bf16 %s_fetched[%d];", o->name, (o->size * x->steps + x->threads - 1) / x->threads);
}

void contract_place(Code *c, const Contract *x, const Operand *o)
{
    if (o->load->vector)
        return;
    open_elements(c, x, o);
    cu_line(c, "*(%s) = %s_fetched[i];", tile_place(c, x, o), o->name);
    cu_close(c);
}
