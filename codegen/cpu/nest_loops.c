/* The loop over one axis of a nest.
 * In: the axis, its tile, what stands inside. Out: that, once for each index or tile, in the function being built.
 * Idea: where guards (padding) depend on the axis, its range is cut: tiles wholly inside run in a
 * loop without guards, the few at the edges are emitted with constant indices, so that their out-of-range taps vanish at
 * compile time; a reduction loop whose guard is known when it opens is clipped to the taps in range. Nothing is padded
 * in memory and no zero is multiplied. */
#include "codegen/cpu/nest.h"

#include <string.h>

enum { MAX_STATIC_TILES = 8, MAX_GUARDS = 96 };

static LLVMValueRef min_max(Ctx *c, LLVMIntPredicate pred, LLVMValueRef a, LLVMValueRef b)
{
    if (LLVMIsConstant(a) && LLVMIsConstant(b) && LLVMIsAConstantInt(a) && LLVMIsAConstantInt(b)) {
        int64_t x = LLVMConstIntGetSExtValue(a), y = LLVMConstIntGetSExtValue(b);
        return (pred == LLVMIntSLT ? x < y : x > y) ? a : b;
    }
    return LLVMBuildSelect(c->e->b, LLVMBuildICmp(c->e->b, pred, a, b, ""), a, b, "");
}

void for_points(Ctx *c, uint32_t mask, Body body, void *arg)
{
    for (int a = 0; a < c->k->n_axes; a++) {
        if (!(mask >> a & 1))
            continue;
        for (int i = 0; i < c->axis[a].points; i++) {
            c->pt[a] = i;
            for_points(c, mask & ~(1u << a), body, arg);
        }
        c->pt[a] = 0;
        return;
    }
    body(c, arg);
}

/* ---- opening and closing one instance of an axis ---- */
AxisSaved axis_save(Ctx *c, int a)
{
    AxisSaved s = {.memo = memo_mark(c), .axis = c->axis[a]};
    s.ptr = NEWN(c->e->arena, LLVMValueRef, c->k->n_access);
    s.off = NEWN(c->e->arena, int64_t, c->k->n_access);
    for (int i = 0; i < c->k->n_access; i++) {
        s.ptr[i] = c->acc[i].ptr;
        s.off[i] = c->acc[i].off;
    }
    return s;
}

void axis_restore(Ctx *c, int a, const AxisSaved *s)
{
    for (int i = 0; i < c->k->n_access; i++) {
        c->acc[i].ptr = s->ptr[i];
        c->acc[i].off = s->off[i];
    }
    c->axis[a] = s->axis;
    memo_reset(c, s->memo);
}

static void run_static(Ctx *c, int a, int64_t index, int32_t points, int32_t step, bool partial, Body body, void *arg)
{
    AxisSaved s = axis_save(c, a);
    c->axis[a] = (AxisState){.bound = true, .is_static = true, .cst = index, .unit = step, .points = points, .step = step, .partial = partial};
    access_bind_static(c, a, index);
    body(c, arg);
    axis_restore(c, a, &s);
}

/* for (u = from; u < to; u += points) with index u * unit. */
static void run_loop(Ctx *c, int a, LLVMValueRef from, LLVMValueRef to, int32_t points, int32_t unit, bool partial, Body body, void *arg)
{
    AxisSaved s = axis_save(c, a);
    Loop l = emit_loop_begin(c->e, from, to, points, c->k->axis[a].name);
    c->axis[a] = (AxisState){.bound = true, .block = l.iv, .unit = unit, .points = points, .step = unit, .partial = partial};
    access_bind(c, a, l.iv, unit);
    body(c, arg);
    emit_loop_end(c->e, &l);
    axis_restore(c, a, &s);
}

void axis_blocks(Ctx *c, int a, int64_t count, int32_t unit, Body body, void *arg)
{
    if (count == 1)
        run_static(c, a, 0, 1, unit, false, body, arg);
    else
        run_loop(c, a, emit_i64(c->e, 0), emit_i64(c->e, count), 1, unit, false, body, arg);
}

/* ---- guards that depend on an axis ---- */
typedef struct { AccessId at; int dim; } GuardRef;

/* Is everything else in this guard constant or unrolled once axis a is? */
static bool peelable(const Ctx *c, const Affine *f, int a)
{
    if (!f->guarded || !f->coef[a] || f->table || f->div > 1)
        return false;
    for (int o = 0; o < c->k->n_axes; o++)
        if (o != a && f->coef[o] && c->axis[o].bound && !c->axis[o].is_static)
            return false;
    return true;
}

static int find_peelable(Ctx *c, int a, GuardRef *out, int max)
{
    int n = 0;
    for (AccessId at = 0; at < c->k->n_access; at++)
        for (int d = 0; d < c->k->access[at].rank; d++)
            if (!c->acc[at].guard_off[d] && peelable(c, &c->k->access[at].dim[d], a) && n < max)
                out[n++] = (GuardRef){at, d};
    return n;
}

static void switch_guards(Ctx *c, const GuardRef *g, int n, int by)
{
    for (int i = 0; i < n; i++)
        c->acc[g[i].at].guard_off[g[i].dim] += by;
}

static bool all_inside(const Ctx *c, const GuardRef *g, int n, int a, int64_t first, int64_t last)
{
    for (int i = 0; i < n; i++)
        if (!guard_is_inside(c, &c->k->access[g[i].at].dim[g[i].dim], a, first, last))
            return false;
    return true;
}

/* ---- static extents ---- */
typedef struct { Ctx *c; int a; int64_t extent; int32_t tile, unit; bool masked; Body body; void *arg; } Range;

static bool unit_is_partial(const Range *r, int64_t unit_index) { return r->masked && (unit_index + 1) * r->unit > r->extent; }

static void run_tile(Range *r, int64_t first_unit, int32_t points)
{
    run_static(r->c, r->a, first_unit * r->unit, points, r->unit, unit_is_partial(r, first_unit + points - 1), r->body, r->arg);
}

static void run_tiles(Range *r, int64_t from_tile, int64_t to_tile)
{
    if (to_tile - from_tile == 1)
        run_tile(r, from_tile * r->tile, r->tile);
    else if (to_tile > from_tile)
        run_loop(r->c, r->a, emit_i64(r->c->e, from_tile * r->tile), emit_i64(r->c->e, to_tile * r->tile), r->tile, r->unit, false, r->body, r->arg);
}

static void run_peeled(Range *r)
{
    GuardRef g[MAX_GUARDS];
    Ctx *c = r->c;
    int n = find_peelable(c, r->a, g, MAX_GUARDS);
    int64_t units = (r->extent + r->unit - 1) / r->unit, tiles = units / r->tile, rest = units % r->tile;
    int64_t whole = tiles;                                   /* tiles that need no lane mask */
    while (whole > 0 && unit_is_partial(r, whole * r->tile - 1))
        whole--;
    int64_t left = 0, right = whole, span = (int64_t)r->tile * r->unit;
    if (n) {
        while (left < whole && !all_inside(c, g, n, r->a, left * span, (left + 1) * span - 1))
            left++;
        right = left;
        while (right < whole && all_inside(c, g, n, r->a, right * span, (right + 1) * span - 1))
            right++;
    }
    bool loop_all = n && left + (whole - right) > MAX_STATIC_TILES;
    if (loop_all) {                                          /* too many edges: run-time guards */
        run_tiles(r, 0, whole);
    } else {
        for (int64_t t = 0; t < left; t++)
            run_tile(r, t * r->tile, r->tile);
        switch_guards(c, g, n, +1);
        run_tiles(r, left, right);
        switch_guards(c, g, n, -1);
        for (int64_t t = right; t < whole; t++)
            run_tile(r, t * r->tile, r->tile);
    }
    for (int64_t t = whole; t < tiles; t++)
        run_tile(r, t * r->tile, r->tile);
    if (rest && r->a == c->nest->transpose_axis && kernel_is_copy(c->k))   /* writing twice does no harm: the last tile is whole and overlaps */
        run_tile(r, units - r->tile, r->tile);
    else if (rest)
        run_tile(r, tiles * r->tile, (int32_t)rest);
}

/* ---- clipping ---- */
/* A guard of a skippable access whose other axes are all known here. */
static bool clippable(const Ctx *c, AccessId at, const Affine *f, int a)
{
    if (!c->acc[at].skippable || !f->guarded || !f->coef[a] || f->table || f->div > 1)
        return false;
    for (int o = 0; o < c->k->n_axes; o++)
        if (o != a && f->coef[o] &&
            (!c->axis[o].bound || c->axis[o].points > 1 || (vector_active(c) && o == c->nest->vector_axis)))
            return false;
    return true;
}

static LLVMValueRef ceil_div(Ctx *c, LLVMValueRef x, int64_t by)
{
    if (by == 1)
        return x;
    return LLVMBuildSDiv(c->e->b, emit_add(c->e, x, emit_i64(c->e, by - 1)), emit_i64(c->e, by), "");
}

/* The range of axis a with lo <= rest + coef * a < hi. Numerators below zero round the wrong way, but only to values that
 * the caller's limits 0 and extent cut off. */
static void clip(Ctx *c, const Affine *f, int a, LLVMValueRef *from, LLVMValueRef *to)
{
    LLVMValueRef rest = emit_i64(c->e, f->offset);
    for (int o = 0; o < c->k->n_axes; o++)
        if (o != a && f->coef[o])
            rest = emit_add(c->e, rest, emit_mul(c->e, axis_index(c, o), f->coef[o]));
    LLVMValueRef lo = emit_i64(c->e, f->lo), hi = emit_i64(c->e, f->hi), first, end;
    if (f->coef[a] > 0) {
        first = ceil_div(c, LLVMBuildSub(c->e->b, lo, rest, ""), f->coef[a]);
        end = ceil_div(c, LLVMBuildSub(c->e->b, hi, rest, ""), f->coef[a]);
    } else {   /* rest - |coef| * a: a > (rest - hi) / |coef|, a <= (rest - lo) / |coef| */
        first = ceil_div(c, emit_add(c->e, LLVMBuildSub(c->e->b, rest, hi, ""), emit_i64(c->e, 1)), -f->coef[a]);
        end = ceil_div(c, emit_add(c->e, LLVMBuildSub(c->e->b, rest, lo, ""), emit_i64(c->e, 1)), -f->coef[a]);
    }
    *from = min_max(c, LLVMIntSGT, *from, first);
    *to = min_max(c, LLVMIntSLT, *to, end);
}

static bool same_affine(const Affine *x, const Affine *y)
{
    return !memcmp(x->coef, y->coef, sizeof x->coef) && x->offset == y->offset && x->lo == y->lo && x->hi == y->hi && x->div == y->div &&
           x->table == y->table;
}

/* Clips a reduction loop; fills g with the guards that then always hold. Returns how many. */
static int clip_axis(Ctx *c, int a, LLVMValueRef *from, LLVMValueRef *to, GuardRef *g, int max)
{
    int n = 0;
    for (AccessId at = 0; at < c->k->n_access; at++)
        for (int d = 0; d < c->k->access[at].rank; d++) {
            const Affine *f = &c->k->access[at].dim[d];
            if (c->acc[at].guard_off[d] || !clippable(c, at, f, a))
                continue;
            bool seen = false;
            for (int i = 0; i < n; i++)
                seen = seen || same_affine(f, &c->k->access[g[i].at].dim[g[i].dim]);
            if (!seen)
                clip(c, f, a, from, to);
            for (AccessId o = 0; o < c->k->n_access; o++)    /* the same condition elsewhere holds too */
                for (int e = 0; e < c->k->access[o].rank; e++)
                    if (n < max && c->k->access[o].dim[e].guarded && same_affine(f, &c->k->access[o].dim[e])) {
                        bool have = false;
                        for (int i = 0; i < n; i++)
                            have = have || (g[i].at == o && g[i].dim == e);
                        if (!have)
                            g[n++] = (GuardRef){o, e};
                    }
        }
    return n;
}

/* ---- axes along a blocked dim, not in the lanes: blocks, then the index inside ---- */
typedef struct { Ctx *c; int a; int lanes; int32_t tile; LLVMValueRef limit; int64_t inside; Body body; void *arg; } Split;

/* `points` indices of the block that is open. */
static void split_points(Split *s, LLVMValueRef from, int32_t points)
{
    Ctx *c = s->c;
    AxisState *x = &c->axis[s->a];
    x->lo = from;
    x->is_static = false;
    x->points = points;
    x->step = 1;
    access_bind(c, s->a, from, 1);
    s->body(c, s->arg);
}

static void split_loop(Split *s, LLVMValueRef from, LLVMValueRef to, int32_t points)
{
    AxisSaved saved = axis_save(s->c, s->a);
    Loop l = emit_loop_begin(s->c->e, from, to, points, "in");
    split_points(s, l.iv, points);
    emit_loop_end(s->c->e, &l);
    axis_restore(s->c, s->a, &saved);
}

static void split_unrolled(Split *s)
{
    for (int64_t i = 0; i < s->inside; i++) {
        AxisSaved saved = axis_save(s->c, s->a);
        split_points(s, emit_i64(s->c->e, i), 1);
        axis_restore(s->c, s->a, &saved);
    }
}

/* A tile divides a block, so its points lie side by side; what is left of a short block goes one by one. */
static void split_inside(Ctx *c, void *arg)
{
    Split *s = arg;
    Emit *e = c->e;
    LLVMValueRef to = emit_i64(e, s->inside), whole = emit_i64(e, s->inside / s->tile * s->tile);
    if (s->limit) {   /* run-time extent: the last block may be short */
        to = min_max(c, LLVMIntSLT, to, LLVMBuildSub(e->b, s->limit, axis_index(c, s->a), ""));
        whole = emit_mul(e, LLVMBuildSDiv(e->b, to, emit_i64(e, s->tile), ""), s->tile);
    }
    if (!s->limit && s->a == c->nest->unrolled_blocks) {
        split_unrolled(s);
        return;
    }
    if (s->inside >= s->tile)
        split_loop(s, emit_i64(e, 0), whole, s->tile);
    if (s->limit ? s->tile > 1 : s->inside % s->tile)
        split_loop(s, whole, to, 1);
}

static void for_split(Ctx *c, int a, LLVMValueRef from, LLVMValueRef to, int32_t tile, bool dynamic, Body body, void *arg)
{
    Emit *e = c->e;
    int lanes = c->split[a];
    Split s = {c, a, lanes, tile, dynamic && a != c->nest->portion_axis ? to : NULL, lanes, body, arg};   /* portions are of whole blocks */
    if (dynamic) {
        LLVMValueRef blocks = LLVMBuildSDiv(e->b, emit_add(e, to, emit_i64(e, lanes - 1)), emit_i64(e, lanes), "");
        run_loop(c, a, LLVMBuildSDiv(e->b, from, emit_i64(e, lanes), ""), blocks, 1, lanes, false, split_inside, &s);
        return;
    }
    int64_t extent = c->k->axis[a].extent, whole = extent / lanes, rest = extent % lanes;
    if (whole)
        run_loop(c, a, emit_i64(e, 0), emit_i64(e, whole), 1, lanes, false, split_inside, &s);
    s.inside = rest;
    if (rest)
        run_static(c, a, whole * lanes, 1, lanes, false, split_inside, &s);
}

/* ---- run-time extents ---- */
/* One index at a time, in two versions: inside lo..hi-1 the guards hold, elsewhere they are asked. */
typedef struct { int a, n; const GuardRef *g; int64_t lo, hi; Body body; void *arg; } Versions;

static void two_versions(Ctx *c, void *arg)
{
    const Versions *v = arg;
    Emit *e = c->e;
    LLVMValueRef i = axis_index(c, v->a);
    LLVMValueRef in = LLVMBuildAnd(e->b, LLVMBuildICmp(e->b, LLVMIntSGE, i, emit_i64(e, v->lo), ""),
                                   LLVMBuildICmp(e->b, LLVMIntSLT, i, emit_i64(e, v->hi), ""), "");
    uint32_t mark = memo_mark(c);
    If inside = emit_if_begin(e, in);
    switch_guards(c, v->g, v->n, +1);
    v->body(c, v->arg);
    switch_guards(c, v->g, v->n, -1);
    emit_if_end(e, &inside);
    memo_reset(c, mark);
    If outside = emit_if_begin(e, LLVMBuildNot(e->b, in, ""));
    v->body(c, v->arg);
    emit_if_end(e, &outside);
    memo_reset(c, mark);
}

/* Indices of axis a at which all these guards hold: an interval, since they are affine. */
static void interior(const Ctx *c, Versions *v)
{
    int64_t extent = c->k->axis[v->a].extent;
    while (v->lo < extent && !all_inside(c, v->g, v->n, v->a, v->lo, v->lo))
        v->lo++;
    v->hi = v->lo;
    while (v->hi < extent && all_inside(c, v->g, v->n, v->a, v->hi, v->hi))
        v->hi++;
}

static void for_dynamic(Ctx *c, int a, LLVMValueRef from, LLVMValueRef to, int32_t tile, int32_t unit, Body body, void *arg)
{
    Emit *e = c->e;
    const Axis *x = &c->k->axis[a];
    bool partial = unit > 1 && !c->padded && (x->batch || x->extent % unit);   /* slices end at whole vectors, or at the extent */
    LLVMValueRef first = LLVMBuildSDiv(e->b, from, emit_i64(e, unit), "");
    LLVMValueRef end = LLVMBuildSDiv(e->b, emit_add(e, to, emit_i64(e, unit - 1)), emit_i64(e, unit), "");
    GuardRef g[MAX_GUARDS];
    Versions v = {.a = a, .g = g, .body = body, .arg = arg};
    if (tile == 1 && unit == 1 && x->kind == AXIS_PAR && (v.n = find_peelable(c, a, g, MAX_GUARDS)) > 0) {
        interior(c, &v);
        run_loop(c, a, first, end, 1, 1, false, two_versions, &v);
        return;
    }
    if (tile > 1) {   /* tiles of whole vectors need no masks; what is left goes one vector at a time */
        LLVMValueRef full = partial ? LLVMBuildSDiv(e->b, to, emit_i64(e, unit), "") : end;
        LLVMValueRef count = min_max(c, LLVMIntSGT, LLVMBuildSub(e->b, full, first, ""), emit_i64(e, 0));
        LLVMValueRef whole = emit_mul(e, LLVMBuildSDiv(e->b, count, emit_i64(e, tile), ""), tile);
        LLVMValueRef middle = emit_add(e, first, whole);
        run_loop(c, a, first, middle, tile, unit, false, body, arg);
        first = middle;
    }
    run_loop(c, a, first, end, 1, unit, partial, body, arg);
}

static void for_unrolled(Ctx *c, int a, Body body, void *arg)
{
    for (int64_t i = 0; i < c->k->axis[a].extent; i++) {
        if (i > 0 && c->nest->apart)
            emit_fence(c->e);
        run_static(c, a, i, 1, 1, false, body, arg);
    }
}

/* The slice's number along axis a, and its size there; NULL: a is not cut. */
static LLVMValueRef slice_part(const Ctx *c, int a, int32_t *size)
{
    if (a == c->nest->slice_axis) {
        *size = c->nest->slice_size;
        return c->part[0];
    }
    for (int i = 0; i < c->nest->n_inner; i++)
        if (a == c->nest->inner_axis[i]) {
            *size = c->nest->inner_size[i];
            return c->part[i + 1];
        }
    return NULL;
}

bool axis_range(Ctx *c, int a, LLVMValueRef *from, LLVMValueRef *to)
{
    const Axis *x = &c->k->axis[a];
    int32_t size = 0;
    LLVMValueRef part = slice_part(c, a, &size);
    if (a == c->nest->portion_axis) {
        *from = emit_mul(c->e, c->portion, c->nest->portion);
        *to = emit_add(c->e, *from, emit_i64(c->e, c->nest->portion));
        return true;
    }
    *from = emit_i64(c->e, 0);
    *to = x->batch || part ? axis_limit(c, a) : emit_i64(c->e, x->extent);
    if (part) {
        *from = emit_mul(c->e, part, size);
        *to = min_max(c, LLVMIntSLT, *to, emit_add(c->e, *from, emit_i64(c->e, size)));
    }
    return x->batch || part;
}

void for_axis(Ctx *c, int a, int32_t tile, bool unroll, Body body, void *arg)
{
    const Axis *x = &c->k->axis[a];
    bool vector = a == c->nest->vector_axis && c->nest->lanes > 1;
    int32_t unit = vector ? c->nest->lanes : 1;
    if (unroll && !x->batch && !vector) {
        for_unrolled(c, a, body, arg);
        return;
    }
    LLVMValueRef from, to;
    bool dynamic = axis_range(c, a, &from, &to);
    if (c->split[a] && !vector) {
        for_split(c, a, from, to, tile, dynamic, body, arg);
        return;
    }
    if (dynamic) {
        for_dynamic(c, a, from, to, tile, unit, body, arg);
        return;
    }
    GuardRef g[MAX_GUARDS];
    int n = tile == 1 && !vector ? clip_axis(c, a, &from, &to, g, MAX_GUARDS) : 0;
    if (n) {
        switch_guards(c, g, n, +1);
        run_loop(c, a, from, to, 1, 1, false, body, arg);
        switch_guards(c, g, n, -1);
        return;
    }
    Range r = {c, a, x->extent, tile, unit, vector && !c->padded, body, arg};
    run_peeled(&r);
}
