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

/* The element's address in the tile of step `next`. */
static const char *tile_place(Code *c, const Contract *x, const Operand *o)
{
    bool inside = o->load->depth_inside;
    const char *line = place_along(c, x, o, !inside);
    return arena_printf(c->arena, strchr(line, '+') ? "%s_tile + next %% %d * %d + (%s) * %d + %s" : "%s_tile + next %% %d * %d + %s * %d + %s", o->name, x->stages,
                        contract_tile_elements(x, o->load, o->size), line, o->load->pitch, place_along(c, x, o, inside));
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

void contract_copy_begin(Code *c, const Contract *x, const Operand *o)
{
    if (copies_of(x, o).fixed && !o->load->along_depth)
        emit_index(c, x, o, false);
}

static const char *rounded_element(Code *c, AccessId at)
{
    bool narrow = c->l->buffers.at[c->k->access[at].buf].dtype == DT_BF16;
    return narrow ? cu_element(c, at) : arena_printf(c->arena, "to_bf16(%s)", cu_element(c, at));
}

void contract_copy(Code *c, const Contract *x, const Operand *o)
{
    bool fixed = copies_of(x, o).fixed, along_depth = o->load->along_depth;
    const char *guard = cu_guard(c, o->at);
    if (fixed && along_depth) {
        cu_block(c);
        emit_index(c, x, o, true);
    }
    open_elements(c, x, o);
    if (!fixed || !along_depth)
        emit_index(c, x, o, true);
    if (!fixed || along_depth)
        emit_index(c, x, o, false);
    cu_line(c, "const int inside = %s < %s && depth < last_depth%s%s;", o->index, contract_limit(c, o->group), guard ? " && " : "", guard ? guard : "");
    if (o->load->vector)
        cu_line(c, "cp_async%d(%s, &%s, inside);", contract_copy_bytes(x, o->load), tile_place(c, x, o), cu_element(c, o->at));
    else
        cu_line(c, "%s_fetched[i] = inside ? %s : 0;", o->name, rounded_element(c, o->at));
    cu_close(c);
    if (fixed && along_depth)
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
