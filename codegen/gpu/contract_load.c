/* Loads of a product's operands into tiles in shared memory.
 * In: a Contract, one of its operands. Out: lines that copy the tile of one step, or fetch it into registers and later place it.
 * Relies on variables: first_row or first_col, `from` (the step's first depth), `next` (its number), last_depth.
 *
 * Copies are asynchronous, of 4 to 16 bytes: what is out of range (padding, the edge of the matrix, samples past n) is filled with 0
 * by the copy itself. An operand that is stored wider than it is multiplied, or whose neighbours in memory are not neighbours in a
 * tile, is fetched element by element before the sums of the running step, and placed after them. */
#include "codegen/gpu/contract.h"

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

/* One loop over what the thread loads; `element` counts copies of the tile. */
static void open_elements(Code *c, const Contract *x, const Operand *o)
{
    int32_t vector = o->load->vector ? o->load->vector : 1, total = o->size * x->steps / vector;
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", (total + x->threads - 1) / x->threads);
    cu_line(c, "const int element = threadIdx.x + i * %d;", x->threads);
    if (total % x->threads)
        cu_line(c, "if (element >= %d) break;", total);
}

/* Where `element` is in the tile: along the line of copies, and which line. */
static const char *place_along(Code *c, const Contract *x, const Operand *o, bool depth)
{
    int32_t vector = o->load->vector ? o->load->vector : 1, line = (o->load->along_depth ? x->steps : o->size) / vector;
    if (depth != o->load->along_depth)
        return arena_printf(c->arena, "element / %d", line);
    return vector > 1 ? arena_printf(c->arena, "element %% %d * %d", line, vector) : arena_printf(c->arena, "element %% %d", line);
}

/* The element's address in the tile of step `next`. */
static const char *tile_place(Code *c, const Contract *x, const Operand *o)
{
    const char *depth = place_along(c, x, o, true), *index = place_along(c, x, o, false);
    bool inside = o->load->depth_inside;
    return arena_printf(c->arena, "%s_tile + next %% %d * %d + %s * %d + %s", o->name, x->stages, contract_tile_elements(x, o->load, o->size),
                        inside ? index : depth, o->load->pitch, inside ? depth : index);
}

/* The axes at the element, and whether it is in range. */
static void emit_point(Code *c, const Contract *x, const Operand *o)
{
    cu_line(c, "const int depth = from + %s, %s = first_%s + %s;", place_along(c, x, o, true), o->index, o->index, place_along(c, x, o, false));
    cu_split(c, o->index, o->group->axis, o->group->n);
    cu_split(c, "depth", x->depth.axis, x->depth.n);
    const char *guard = cu_guard(c, o->at);
    cu_line(c, "const int inside = %s < %s && depth < last_depth%s%s;", o->index, contract_limit(c, o->group), guard ? " && " : "", guard ? guard : "");
}

static const char *rounded_element(Code *c, AccessId at)
{
    bool narrow = c->l->buffers.at[c->k->access[at].buf].dtype == DT_BF16;
    return narrow ? cu_element(c, at) : arena_printf(c->arena, "to_bf16(%s)", cu_element(c, at));
}

void contract_copy(Code *c, const Contract *x, const Operand *o)
{
    const char *buffer = c->buffer[c->k->access[o->at].buf];
    open_elements(c, x, o);
    emit_point(c, x, o);
    if (o->load->vector)
        cu_line(c, "cp_async%d(%s, inside ? &%s : %s, inside);", contract_copy_bytes(x, o->load), tile_place(c, x, o), cu_element(c, o->at), buffer);
    else
        cu_line(c, "%s_fetched[i] = inside ? %s : 0;", o->name, rounded_element(c, o->at));
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
