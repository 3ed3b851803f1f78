/* Which copies of a product's operands are of an element, and which are filled with 0: padding, the edge of the matrix, samples past n.
 * In: a Contract, one of its operands. Out: what a row or column adds to addresses and guards, as variables computed before the loop over
 * steps; in a step, the condition of a copy.
 *
 * Lines along the depth (windows of a convolution) know before the loop which taps of theirs are inside: a bit for each row of the window
 * and one for each column. A step's copies then ask for two bits, where each would compare its row, its column and its depth; and a line
 * takes one register where it took three. */
#include "codegen/gpu/contract.h"

static uint32_t last_axis(const Contract *x) { return 1u << x->depth.axis[x->depth.n - 1]; }

/* The row's or column's axes, and the place along the depth's innermost axis where the thread's copies are of all steps. */
static uint32_t own_axes(const Code *c, const Contract *x, const Operand *o)
{
    return group_axes(o->group) | group_axes(&x->both) | (contract_is_uniform(x, c->k) ? last_axis(x) : 0);
}

/* An index that must be in range and that both move. */
static bool meets(const Code *c, const Contract *x, const Operand *o, const Affine *f)
{
    uint32_t axes = affine_axes(c->k, f);
    return f->guarded && axes & own_axes(c, x, o) && axes & group_axes(&x->depth);
}

/* The first such index of the operand from dim *d on, *d then being the dim behind it; NULL: there is none. */
static const Affine *next_meeting(const Code *c, const Contract *x, const Operand *o, int *d)
{
    const Access *at = &c->k->access[o->at];
    while (*d < at->rank)
        if (meets(c, x, o, &at->dim[(*d)++]))
            return &at->dim[*d - 1];
    return NULL;
}

/* Guards that need only those axes, each with && before it. */
static const char *guards_of(Code *c, const Operand *o, uint32_t axes, bool of_constants)
{
    const char *all = "";
    for (int d = 0; d < c->k->access[o->at].rank; d++) {
        const Affine *f = &c->k->access[o->at].dim[d];
        uint32_t has = affine_axes(c->k, f);
        if (f->guarded && !(has & ~axes) && (has || of_constants))
            all = arena_printf(c->arena, "%s && (unsigned)(%s) < %du", all, cu_dim_part(c, f, axes, true), f->hi - f->lo);
    }
    return all;
}

/* Some rows of some tiles are not there. */
static bool has_end(Code *c, const Contract *x, const Operand *o)
{
    return o->group->dynamic || o->group->extent % o->size != 0 || *guards_of(c, o, own_axes(c, x, o) & ~group_axes(&x->depth), true);
}

/* The depth's one axis that moves the index, from tap to tap; -1: there are several, or part of it is the row's own. */
static int moved_by(const Code *c, const Contract *x, const Operand *o, const Affine *f)
{
    uint32_t axes = affine_axes(c->k, f) & group_axes(&x->depth);
    return axes & (axes - 1) || axes & own_axes(c, x, o) ? -1 : __builtin_ctz(axes);
}

/* Lines along the depth: each knows which taps of its windows are inside, by a bit for each row of the window and one for each column. How
 * many bits (less than 32); 0: the operand has no such guards, or no room for them. */
static int32_t tap_bits(const Code *c, const Contract *x, const Operand *o)
{
    enum { MOST = 31 };
    int64_t bits = 0;
    const Affine *f;
    for (int d = 0; o->load->along_depth && (f = next_meeting(c, x, o, &d));) {
        int axis = moved_by(c, x, o, f);
        if (axis < 0)
            return 0;
        bits += c->k->axis[axis].extent;
    }
    return bits <= MOST ? (int32_t)bits : 0;
}

/* Variable taps: the bits of a line's own. */
static void emit_taps(Code *c, const Contract *x, const Operand *o)
{
    const Affine *f;
    int32_t bit = 0;
    cu_line(c, "int taps = 0;");
    for (int d = 0; (f = next_meeting(c, x, o, &d));) {
        const Axis *along = &c->k->axis[moved_by(c, x, o, f)];
        cu_line(c, "#pragma unroll");
        cu_line(c, "for (int %s = 0; %s < %d; %s++)", along->name, along->name, along->extent, along->name);
        cu_line(c, "    taps |= (int)((unsigned)(%s + %s) < %du) << %s;", cu_dim_part(c, f, own_axes(c, x, o), true),
                cu_dim_part(c, f, group_axes(&x->depth), false), f->hi - f->lo,
                bit ? arena_printf(c->arena, "(%d + %s)", bit, along->name) : along->name);
        bit += along->extent;
    }
}

void contract_emit_tap(Code *c, const Contract *x, const Operand *o)
{
    const char *tap = "";
    const Affine *f;
    int32_t bit = 0;
    if (!tap_bits(c, x, o))
        return;
    for (int d = 0; (f = next_meeting(c, x, o, &d));) {
        const Axis *along = &c->k->axis[moved_by(c, x, o, f)];
        tap = arena_printf(c->arena, "%s%s%d << %s", tap, *tap ? " | " : "", 1 << bit, along->name);
        bit += along->extent;
    }
    cu_line(c, "const int %s_tap = %s < last_depth ? %s : -1;", o->name, contract_is_uniform(x, c->k) ? "from" : "depth", tap);
}

void contract_emit_own(Code *c, const Contract *x, const Operand *o, const char *which)
{
    uint32_t own = own_axes(c, x, o), fixed = own & ~group_axes(&x->depth);
    const char *there = arena_printf(c->arena, "%s < %s%s", o->index, contract_limit(c, o->group), guards_of(c, o, fixed, true));
    cu_line(c, "%s_at%s = apart(%s);", o->name, which, cu_index_part(c, o->at, own, true));
    if (tap_bits(c, x, o)) {
        emit_taps(c, x, o);
        cu_line(c, "%s_taps%s = apart(%s ? taps : 0);", o->name, which, has_end(c, x, o) ? there : "true");
        return;
    }
    if (has_end(c, x, o))
        cu_line(c, "%s_end%s = apart(%s ? last_depth : 0);", o->name, which, there);
    for (int d = 0; d < c->k->access[o->at].rank; d++)
        if (meets(c, x, o, &c->k->access[o->at].dim[d]))
            cu_line(c, "%s_in%d%s = apart(%s);", o->name, d, which, cu_dim_part(c, &c->k->access[o->at].dim[d], own, true));
}

void contract_declare_own(Code *c, const Contract *x, const Operand *o, const char *size)
{
    bool taps = tap_bits(c, x, o) > 0;
    const char *more = taps || has_end(c, x, o) ? arena_printf(c->arena, ", %s_%s%s", o->name, taps ? "taps" : "end", size) : "";
    for (int d = 0; d < c->k->access[o->at].rank && !taps; d++)
        if (meets(c, x, o, &c->k->access[o->at].dim[d]))
            more = arena_printf(c->arena, "%s, %s_in%d%s", more, o->name, d, size);
    cu_line(c, "int %s_at%s%s;", o->name, size, more);
}

const char *contract_inside(Code *c, const Contract *x, const Operand *o, const char *which)
{
    bool uniform = contract_is_uniform(x, c->k);
    const char *alone = guards_of(c, o, group_axes(&x->depth) & ~(uniform ? last_axis(x) : 0), false);
    if (tap_bits(c, x, o))
        return arena_printf(c->arena, "(%s_taps%s & %s_tap) == %s_tap%s", o->name, which, o->name, o->name, alone);
    const char *end = has_end(c, x, o) ? arena_printf(c->arena, "%s_end%s", o->name, which) : "last_depth";
    const char *all = arena_printf(c->arena, "%s < %s", uniform ? "from" : "depth", end);
    for (int d = 0; d < c->k->access[o->at].rank; d++) {
        const Affine *f = &c->k->access[o->at].dim[d];
        if (meets(c, x, o, f))
            all = arena_printf(c->arena, "%s && (unsigned)(%s_in%d%s + %s) < %du", all, o->name, d, which, cu_dim_part(c, f, group_axes(&x->depth), false),
                               f->hi - f->lo);
    }
    return arena_printf(c->arena, "%s%s", all, alone);
}
