/* Sums over small windows, a thread several points along an axis that the window slides along: a depthwise convolution.
 * In: a kernel whose sum is one of products, of inputs at p * stride + r and of weights that do not know p. Out: the kernel's body.
 *
 *     for each of the other taps s
 *         line[j] = inputs that `points` neighbours along p need, each loaded once
 *         for each r:  sums[u] += line[stride * u + r] * its weight
 *
 * Three taps and four points need six inputs and three weights instead of twelve of each. Threads side by side keep neighbours along the innermost
 * axis, which is another one, so that their loads lie together. */
#include "codegen/gpu/code.h"

enum { MOST_TAPS = 7, LEAST_THREADS = 1 << 15 };

int access_window_dim(const Kernel *k, const Access *at, int p, int r)
{
    int found = -1;
    for (int d = 0; d < at->rank; d++) {
        const Affine *f = &at->dim[d];
        if (!f->coef[p] && !f->coef[r])
            continue;
        if (found >= 0 || f->coef[p] < 1 || (f->coef[r] != 1 && f->coef[r] != -1) || f->table || f->div > 1)
            return -1;
        for (int x = 0; x < k->n_axes; x++)
            if (x != p && x != r && f->coef[x])
                return -1;
        found = d;
    }
    return found;
}

static bool small_windows(const Kernel *k, const Contract *c)
{
    for (int i = 0; i < c->depth.n; i++)
        if (k->axis[c->depth.axis[i]].extent > MOST_TAPS || k->axis[c->depth.axis[i]].batch)
            return false;
    return c->depth.n > 0 && c->depth.n <= 2 && c->col.n == 0;
}

static int32_t points_along(int32_t extent, int64_t points)
{
    static const int32_t counts[] = {4, 7, 5, 3, 2};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (extent % counts[i] == 0 && points / counts[i] >= LEAST_THREADS)
            return counts[i];
    return 1;
}

void slide_find(Arena *a, GpuBody *x, const KernelList *l)
{
    const Kernel *k = x->k;
    const Contract *c = contract_as_product(a, l, k);
    if (!c || !small_windows(k, c))
        return;
    for (int i = 0; i + 1 < x->n_rows; i++)
        for (int j = 0; j < c->depth.n; j++) {
            int p = x->row[i], r = c->depth.axis[j];
            int32_t points = k->axis[p].batch ? 1 : points_along(k->axis[p].extent, x->points);
            bool fixed = true;
            for (int d = 0; d < k->access[c->b].rank; d++)
                fixed = fixed && !k->access[c->b].dim[d].coef[p];
            if (points == 1 || points <= x->slide || !fixed || k->axis[r].extent < 2 || access_window_dim(k, &k->access[c->a], p, r) < 0)
                continue;
            x->slide = points;
            x->slid = (int8_t)p;
            x->tap = (int8_t)r;
            x->contract = c;
        }
}

/* ---- text ---- */
static void split_points(Code *c, const GpuBody *x)
{
    int64_t below = 1;
    cu_line(c, "const int point = block * %d + threadIdx.x;", x->threads);
    cu_line(c, "if (point >= %lld) return;", (long long)(x->points / x->slide));
    for (int i = x->n_rows - 1; i >= 0; i--) {
        const Axis *a = &c->k->axis[x->row[i]];
        int32_t extent = x->row[i] == x->slid ? a->extent / x->slide : a->extent;
        const char *name =
            x->row[i] == x->slid ? arena_printf(c->arena, "first_%s = %d *", a->name, x->slide) : arena_printf(c->arena, "%s =", a->name);
        const char *shifted = below > 1 ? arena_printf(c->arena, "(unsigned)point / %lld", (long long)below) : "(unsigned)point";
        cu_line(c, "const int %s (int)(%s%s);", name, shifted, i > 0 ? arena_printf(c->arena, " %% %d", extent) : "");
        below *= extent;
    }
    for (int i = 0; i < x->n_rows; i++)
        if (cu_is_dynamic(c, x->row[i]))
            cu_line(c, "if (%s >= %s) return;", c->k->axis[x->row[i]].name, cu_extent(c, x->row[i]));
}

static void open_taps(Code *c, int axis)
{
    const char *name = c->k->axis[axis].name;
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int %s = 0; %s < %d; %s++)", name, name, c->k->axis[axis].extent, name);
}

/* The sums of one tap of the other axis. */
static void emit_line(Code *c, const GpuBody *x)
{
    const Kernel *k = c->k;
    const Contract *p = x->contract;
    const Affine *f = &k->access[p->a].dim[access_window_dim(k, &k->access[p->a], x->slid, x->tap)];
    const int32_t step = f->coef[x->slid], way = f->coef[x->tap], before = way < 0 ? step * (x->slide - 1) : 0;
    const int32_t length = step * (x->slide - 1) + k->axis[x->tap].extent;
    cu_line(c, "float line[%d];", length);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int j = 0; j < %d; j++)", length);
    cu_line(c, "const int %s = first_%s, %s = j%s;", k->axis[x->slid].name, k->axis[x->slid].name, k->axis[x->tap].name,
            before ? arena_printf(c->arena, " - %d", before) : "");
    cu_line(c, "line[j] = %s;", cu_load(c, p->a));
    cu_close(c);
    open_taps(c, x->tap);
    cu_line(c, "const float factor = %s;", cu_load(c, p->b));
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int u = 0; u < %d; u++) sums[u] += line[%s + %d%s * u] * factor;", x->slide, k->axis[x->tap].name, before,
            arena_printf(c->arena, way < 0 ? " - %d" : " + %d", step));
    cu_close(c);
}

void slide_emit(Code *c, const GpuBody *x)
{
    const AxisGroup *depth = &x->contract->depth;
    int other = -1;
    for (int i = 0; i < depth->n; i++)
        other = depth->axis[i] == x->tap ? other : depth->axis[i];
    split_points(c, x);
    cu_line(c, "float sums[%d] = {0.0f};", x->slide);
    if (other >= 0)
        open_taps(c, other);
    else
        cu_block(c);
    emit_line(c, x);
    cu_close(c);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int u = 0; u < %d; u++)", x->slide);
    cu_line(c, "const int %s = first_%s + u;", c->k->axis[x->slid].name, c->k->axis[x->slid].name);
    c->name[x->contract->sum] = "sums[u]";
    cu_outputs(c, false);
    cu_close(c);
}
