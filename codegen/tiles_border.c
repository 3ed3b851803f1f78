/* Borders of zeros around images that convolutions in tiles read past their border (see tiles.h).
 * In: kernels whose operands may be bf16. Out: such images are larger, by a border of zeros that two kernels write; whoever makes the
 * image writes inside the border, whoever reads it reads there. Relies on: accesses are affine. Leaves: every element is written once.
 *
 *   y[n,k,p,q] = ..      x(y[n,c,p+r-1 in 0..56,q+s-1 in 0..56])      becomes      y[n,k,p+1,q+1] = ..      x(y[n,c,p+r,q+s])
 *
 * What tiles_pad copies instead: images in float32, those that it or tiles_few lays out, and those that somebody sees with another shape. */
#include "codegen/tiles.h"
#include "codegen/choose.h"

typedef struct { int64_t width[MAX_RANK]; } Border;   /* by dim, on both sides */

/* ---- which images ---- */
static bool moves(const Access *x)
{
    for (int d = 0; d < x->rank; d++)
        if (x->dim[d].table || x->dim[d].div > 1)
            return false;
    return true;
}

/* Has nobody another view of b, an index into it that is not affine, or a layout of its own for it? */
static bool all_move(const KernelList *l, BufId b)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access; at++) {
            if (buffer_root(l, k->access[at].buf) != b)
                continue;
            if (k->access[at].buf != b || !moves(&k->access[at]) || k->part != WINOGRAD_NONE || tiles_few_fit(l, k))
                return false;
        }
    }
    return true;
}

static bool can_have_border(const KernelList *l, BufId b)
{
    const Buffer *x = &l->buffers.at[b];
    return x->kind == BUF_WORK && !x->alias_of && !x->strip_elements && x->shape.dim[1] % 2 == 0 && all_move(l, b);
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Widens the border to what access x reaches. */
static void widen(const KernelList *l, const Kernel *k, const Access *x, Border *border)
{
    for (int d = 0; d < x->rank; d++) {
        int64_t first, last, extent = l->buffers.at[x->buf].shape.dim[d];
        affine_range(k, &x->dim[d], &first, &last);
        border->width[d] = larger(border->width[d], larger(-first, last - extent + 1));
    }
}

/* The border that convolutions in tiles want around b; false: none. */
static bool find_border(const KernelList *l, BufId b, Border *border)
{
    bool found = false;
    *border = (Border){0};
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        Product p;
        if (!tiles_cross_border(l, k, &p) || k->access[p.x].buf != b)
            continue;
        widen(l, k, &k->access[p.x], border);
        found = true;
    }
    return found;
}

/* ---- moved accesses ---- */
/* Does f, moved already, stay within the image and its border, where it read zeros past the image? */
static bool stays_inside(const Kernel *k, const Affine *f, int64_t extent)
{
    int64_t first, last;
    affine_range(k, f, &first, &last);
    return first >= 0 && last < extent;
}

static void move_access(const KernelList *l, Kernel *k, AccessId at, const Border *border)
{
    Access *x = &k->access[at];
    for (int d = 0; d < x->rank; d++) {
        Affine *f = &x->dim[d];
        int64_t extent = l->buffers.at[x->buf].shape.dim[d];
        bool whole = f->lo == 0 && f->hi == extent - 2 * border->width[d];
        f->offset += (int32_t)border->width[d];
        f->lo += (int32_t)border->width[d];
        f->hi += (int32_t)border->width[d];
        if (f->guarded && whole && x->fill == 0 && !kernel_writes(k, at) && stays_inside(k, f, extent))
            f->guarded = false;
        if (!f->guarded) {
            f->lo = 0;
            f->hi = (int32_t)extent;
        }
    }
}

/* ---- zeros ---- */
/* Both edges of b along dim `edge`: all of the dims after it, of those before only what lies inside their border. */
static Kernel *edge_kernel(KernelList *l, BufId b, const Border *border, int edge, const Kernel *for_)
{
    static const char *const names[MAX_RANK] = {"n", "c", "h", "w"};
    const Buffer *y = &l->buffers.at[b];
    Kernel *k = kernel_new(l, arena_printf(l->arena, "%s.border", for_->name), for_->layer, for_->span);
    AccessId out = kernel_access(l, k, b);
    for (int d = 0; d < y->shape.rank; d++) {
        Affine *f = access_dim(k, out, d);
        int64_t width = border->width[d], inside = y->shape.dim[d] - 2 * width;
        if (d == edge) {
            affine_axis(f, kernel_axis(k, AXIS_PAR, "e", 2, false), (int32_t)(inside + width));
            affine_axis(f, kernel_axis(k, AXIS_PAR, names[d], width, false), 1);
        } else {
            affine_axis(f, kernel_axis(k, AXIS_PAR, names[d], d < edge ? inside : y->shape.dim[d], d == 0), 1);
            f->offset = d < edge ? (int32_t)width : 0;
        }
    }
    kernel_out(k, out, expr_const(l, k, 0));
    return k;
}

static uint32_t last_writer(const KernelList *l, BufId b)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (int o = 0; o < l->kernels.at[i].n_out; o++)
            if (l->kernels.at[i].access[l->kernels.at[i].out[o].at].buf == b)
                last = i;
    return last;
}

/* Behind the last kernel that writes b: the first one chooses its layout. */
static void add_edges(KernelList *l, BufId b, const Border *border)
{
    Vec(Kernel) out = {0};
    uint32_t last = last_writer(l, b);
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        vec_push(l->arena, &out, l->kernels.at[i]);
        for (int d = 0; d < l->buffers.at[b].shape.rank && i == last; d++)
            if (border->width[d])
                vec_push(l->arena, &out, *edge_kernel(l, b, border, d, &l->kernels.at[i]));
    }
    l->kernels.at = out.at;
    l->kernels.len = out.len;
    l->kernels.cap = out.cap;
}

static void add_border(KernelList *l, BufId b, const Border *border)
{
    Buffer *x = &l->buffers.at[b];
    x->value = 0;
    for (int d = 0; d < x->shape.rank; d++)
        x->shape.dim[d] += 2 * border->width[d];
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        Kernel *k = &l->kernels.at[i];
        for (AccessId at = 0; at < k->n_access; at++)
            if (k->access[at].buf == b)
                move_access(l, k, at, border);
    }
    add_edges(l, b, border);
}

void tiles_border(KernelList *l)
{
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        Border border;
        if (find_border(l, (BufId)b, &border) && can_have_border(l, (BufId)b))
            add_border(l, (BufId)b, &border);
    }
}
