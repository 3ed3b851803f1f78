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

/* Which copies of a tile a thread has: `line` copies make a line of the tile, `total` all of it. A thread that has the same `places` (one
 * or, in a long line, a few) in every line it copies (`fixed`) knows one of its two indices outside of the loop over its copies. */
typedef struct { int32_t line, total, vector, places; bool fixed; } Copies;

static Copies copies_of(const Contract *x, const Operand *o)
{
    int32_t vector = o->load->vector ? o->load->vector : 1, line = (o->load->along_depth ? x->steps : o->size) / vector;
    int32_t places = !o->load->along_depth && line > x->threads && line % x->threads == 0 ? line / x->threads : 1;
    return (Copies){line, o->size * x->steps / vector, vector, places, places > 1 || x->threads % line == 0};
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
    if (n.places > 1)
        at = arena_printf(c->arena, n.vector > 1 ? "(threadIdx.x + i %% %d * %d)" : "threadIdx.x + i %% %d * %d", n.places, x->threads);
    return n.vector > 1 ? arena_printf(c->arena, "%s * %d", at, n.vector) : at;
}

static const char *line_number(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    if (!n.fixed)
        return arena_printf(c->arena, "element / %d", n.line);
    if (n.places > 1)
        return arena_printf(c->arena, "i / %d", n.places);
    int32_t lines = x->threads / n.line;
    const char *first = lines > 1 ? arena_printf(c->arena, "threadIdx.x / %d + ", n.line) : "";
    return arena_printf(c->arena, lines > 1 ? "%s%d * i" : "%si", first, lines);
}

static const char *place_along(Code *c, const Contract *x, const Operand *o, bool depth)
{
    return depth == o->load->along_depth ? place_in_line(c, x, o) : line_number(c, x, o);
}

/* Of its first copy. */
static const char *line_of_thread(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    return x->threads > n.line ? arena_printf(c->arena, "threadIdx.x / %d", n.line) : "0";
}

/* Of tensor cores' tiles along the depth, whose pieces of 16 bytes are permuted: line L has its piece p at p ^ turn(L). */
static bool is_permuted(const Contract *x, const Operand *o) { return x->products != PRECISION_F32 && o->load->depth_inside; }

/* The offset of the element at a place of a line. */
static const char *offset_in_tile(Code *c, const Contract *x, const Operand *o, const char *line, const char *place)
{
    int32_t piece = 16 / contract_element_bytes(x), pieces = x->steps / piece;
    if (!is_permuted(x, o))
        return arena_printf(c->arena, "(%s) * %d + %s", line, o->load->pitch, place);
    return arena_printf(c->arena, "(%s) * %d + ((%s) / %d ^ (%s) / %d %% %d) * %d + (%s) %% %d", line, o->load->pitch, place, piece, line, 8 / pieces, pieces, piece, place,
                        piece);
}

/* A thread's copies lie the same way in their lines, so many elements apart; 0: they do not. */
static int32_t copies_apart(const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    int32_t lines = x->threads / n.line;
    if (!n.fixed || n.places > 1 || (is_permuted(x, o) && lines % 8))
        return 0;
    return o->load->depth_inside == o->load->along_depth ? lines * o->load->pitch : lines;
}

/* Its first copy's place in a tile. */
static const char *place_of_thread(Code *c, const Contract *x, const Operand *o)
{
    const char *line = line_of_thread(c, x, o), *at = place_in_line(c, x, o);
    bool lies = o->load->depth_inside == o->load->along_depth;
    return offset_in_tile(c, x, o, lies ? line : at, lies ? at : line);
}

/* Where the element goes in the tile of step `next`: for a copy an address, else a pointer. */
static const char *tile_place(Code *c, const Contract *x, const Operand *o)
{
    int32_t size = contract_tile_elements(x, o->load, o->size), bytes = o->load->vector ? contract_element_bytes(x) : 1;
    if (copies_apart(x, o))
        return arena_printf(c->arena, "%s_to + next %% %d * %d + %d * i", o->name, x->stages, bytes * size, bytes * copies_apart(x, o));
    bool inside = o->load->depth_inside;
    const char *offset = offset_in_tile(c, x, o, place_along(c, x, o, !inside), place_along(c, x, o, inside));
    const char *place = arena_printf(c->arena, "%s_tile + next %% %d * %d + %s", o->name, x->stages, size, offset);
    return o->load->vector ? arena_printf(c->arena, "shared_at_of(%s)", place) : place;
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

/* ---- before the loop over steps ---- */
/* How many own parts a thread has: one for each line along the depth, else for each of its places in a line. */
static int32_t own_parts(const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    return o->load->along_depth ? (n.total + x->threads - 1) / x->threads : n.places;
}

void contract_copy_begin(Code *c, const Contract *x, const Operand *o)
{
    int32_t parts = own_parts(x, o);
    bool several = o->load->along_depth || parts > 1;
    if (!copies_of(x, o).fixed)
        return;
    contract_declare_own(c, x, o, several ? arena_printf(c->arena, "[%d]", parts) : "");
    if (several) {
        cu_line(c, "#pragma unroll");
        cu_open(c, "for (int i = 0; i < %d; i++)", parts);
    } else {
        cu_block(c);
    }
    emit_index(c, x, o, false);
    if (contract_is_uniform(x, c->k))
        cu_line(c, "const int %s = %s;", c->k->axis[x->depth.axis[x->depth.n - 1]].name,
                o->load->along_depth ? place_in_line(c, x, o) : line_of_thread(c, x, o));
    contract_emit_own(c, x, o, several ? "[i]" : "");
    cu_close(c);
    if (!copies_apart(x, o))
        return;
    if (o->load->vector)
        cu_line(c, "const shared_at %s_to = fixed_at(%s_tile + %s);", o->name, o->name, place_of_thread(c, x, o));
    else
        cu_line(c, "%s *const %s_to = %s_tile + apart(%s);", contract_element_type(x), o->name, o->name, place_of_thread(c, x, o));
}

/* ---- copies ---- */
static const char *rounded(Code *c, AccessId at, const char *element)
{
    bool narrow = c->l->buffers.at[c->k->access[at].buf].dtype == DT_BF16;
    return narrow ? element : arena_printf(c->arena, "to_bf16(%s)", element);
}

/* The step's axes of the depth for all of a thread's copies: where the step is uniform all but the thread's own place. */
static void open_depth(Code *c, const Contract *x, const Operand *o)
{
    const int last = x->depth.n - 1;
    cu_block(c);
    if (contract_is_uniform(x, c->k)) {
        const Axis *inner = &c->k->axis[x->depth.axis[last]];
        cu_line(c, "const int %s = (int)((unsigned)from %% %d), others = (int)((unsigned)from / %d);", o->load->along_depth ? inner->name : "first", inner->extent,
                inner->extent);
        cu_split(c, "others", x->depth.axis, last);
    } else if (o->load->along_depth) {
        emit_index(c, x, o, true);
    }
}

static void emit_depth_of_copy(Code *c, const Contract *x, const Operand *o)
{
    const Copies n = copies_of(x, o);
    const char *name = c->k->axis[x->depth.axis[x->depth.n - 1]].name;
    if (contract_is_uniform(x, c->k))
        cu_line(c, n.places > 1 ? "const int %s = first + i / %d;" : "const int %s = first + %d * i;", name,
                n.places > 1 ? n.places : x->threads / n.line);
    else
        emit_index(c, x, o, true);
}

/* Windows slide: elements come again, in neighbouring rows and later steps. */
static bool overlaps(const Code *c, const Contract *x, const Operand *o)
{
    for (int d = 0; d < c->k->access[o->at].rank; d++) {
        uint32_t axes = affine_axes(c->k, &c->k->access[o->at].dim[d]);
        if (axes & group_axes(o->group) && axes & group_axes(&x->depth))
            return true;
    }
    return false;
}

static void emit_copy(Code *c, const Contract *x, const Operand *o, const char *element, const char *inside)
{
    int32_t bytes = contract_copy_bytes(x, o->load);
    cu_line(c, "cp_async%d%s(%s, &%s, %s);", bytes, bytes == 16 && overlaps(c, x, o) ? "_near" : "", tile_place(c, x, o), element, inside);
}

/* A copy by a thread that has one place in its lines: what changes from step to step. */
static void emit_fixed(Code *c, const Contract *x, const Operand *o)
{
    int32_t places = copies_of(x, o).places;
    const char *which = o->load->along_depth ? "[i]" : places > 1 ? arena_printf(c->arena, "[i %% %d]", places) : "";
    const char *moved = cu_index_part(c, o->at, group_axes(&x->depth), false), *inside = contract_inside(c, x, o, which);
    const char *element = arena_printf(c->arena, "%s[%s_at%s + %s]", c->buffer[c->k->access[o->at].buf], o->name, which, moved);
    if (o->load->vector)
        emit_copy(c, x, o, element, inside);
    else
        cu_line(c, "%s_fetched[i] = %s ? %s : 0;", o->name, inside, rounded(c, o->at, element));
}

static void open_fixed(Code *c, const Contract *x, const Operand *o)
{
    open_elements(c, x, o);
    if (!o->load->along_depth)
        emit_depth_of_copy(c, x, o);
}

static void copy_fixed(Code *c, const Contract *x, const Operand *o)
{
    contract_emit_tap(c, x, o);
    open_fixed(c, x, o);
    emit_fixed(c, x, o);
    cu_close(c);
}

static void copy_loose(Code *c, const Contract *x, const Operand *o)
{
    const char *guard = cu_guard(c, o->at);
    open_elements(c, x, o);
    emit_index(c, x, o, true);
    emit_index(c, x, o, false);
    cu_line(c, "const int inside = %s < %s && depth < last_depth%s%s;", o->index, contract_limit(c, o->group), guard ? " && " : "",
            guard ? guard : "");
    if (o->load->vector)
        emit_copy(c, x, o, cu_element(c, o->at), "inside");
    else
        cu_line(c, "%s_fetched[i] = inside ? %s : 0;", o->name, rounded(c, o->at, cu_element(c, o->at)));
    cu_close(c);
}

static void copy_alone(Code *c, const Contract *x, const Operand *o)
{
    if (!copies_of(x, o).fixed) {
        copy_loose(c, x, o);
        return;
    }
    open_depth(c, x, o);
    copy_fixed(c, x, o);
    cu_close(c);
}

/* A thread's copies of both are of the same places along the depth. */
static bool share_depth(const Contract *x, const Operand *a, const Operand *b)
{
    const Copies of_a = copies_of(x, a), of_b = copies_of(x, b);
    return of_a.fixed && of_b.fixed && a->load->along_depth == b->load->along_depth && of_a.line == of_b.line && of_a.vector == of_b.vector &&
           of_a.places == of_b.places;
}

void contract_copy(Code *c, const Contract *x)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    if (!share_depth(x, &a, &b)) {
        copy_alone(c, x, &a);
        copy_alone(c, x, &b);
        return;
    }
    open_depth(c, x, &a);
    if (a.load->along_depth) {
        copy_fixed(c, x, &a);
        copy_fixed(c, x, &b);
    } else {
        open_fixed(c, x, &a);
        emit_fixed(c, x, &a);
        emit_fixed(c, x, &b);
        cu_close(c);
    }
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
    cu_open(c, "if (next < steps)");
    open_elements(c, x, o);
    cu_line(c, "*(%s) = %s_fetched[i];", tile_place(c, x, o), o->name);
    cu_close(c);
    cu_close(c);
}
