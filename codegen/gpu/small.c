/* Small functions: those whose values of one sample fit in a block's shared memory, and whose samples need nothing of each other
 * but sums that come at the end. Forward, loss and backward of all samples are then one launch.
 * In: kernels in plain layouts. Out: samples of a slice, and the sums over the batch split into sums of slices.
 *
 * Kernels fall into four kinds: on samples (every output has the batch as an axis); repeated (a count over labels, so small that
 * every block makes its own); split sums (the weight gradient of a convolution: a block adds its samples, the rest adds blocks);
 * and all others, which run after the slices (the weight gradient of Linear is an outer product per sample: better one product
 * over the batch). A function is small when no kernel on samples needs one of the others, and its values fit. */
#include "codegen/gpu/code.h"
#include "codegen/choose.h"
#include "codegen/split.h"

#include <string.h>

enum { ALIGN = 64, REPEATED_POINTS = 4096, SPLIT_POINTS = 8, KEEP_SHARED = 1024 };
#define MOST_MACS 4e6      /* per sample: more are better off in tiles on the whole GPU */

static int sample_axis(const Kernel *k)
{
    for (int a = 0; a < k->n_axes; a++)
        if (k->axis[a].kind == AXIS_PAR && k->axis[a].batch && !k->axis[a].batch_step)
            return a;
    return -1;
}

bool small_is_sliced(const Kernel *k)
{
    int s = sample_axis(k);
    for (int o = 0; s >= 0 && o < k->n_out; o++)
        if (!(out_axes(k, o) >> s & 1))
            s = -1;
    return s >= 0;
}

static bool reads(const Kernel *k, BufId b)
{
    for (int i = 0; i < k->n_access; i++)
        if (k->access[i].buf == b && !kernel_writes(k, (AccessId)i))
            return true;
    return false;
}

static bool sliced_reader(const KernelList *l, const Kernel *k)
{
    for (uint32_t i = 0; i < l->kernels.len; i++)
        for (int o = 0; o < k->n_out && small_is_sliced(&l->kernels.at[i]); o++)
            if (reads(&l->kernels.at[i], k->access[k->out[o].at].buf))
                return true;
    return false;
}

bool small_is_repeated(const KernelList *l, const Kernel *k)
{
    int64_t work = 1;
    for (int e = 1; e < k->n_expr; e++)
        work = axes_points(k, k->expr[e].axes) > work ? axes_points(k, k->expr[e].axes) : work;
    bool fits = work <= REPEATED_POINTS;
    for (int o = 0; o < k->n_out; o++)
        fits = fits && out_axes(k, o) == 0 && l->buffers.at[k->access[k->out[o].at].buf].kind == BUF_WORK;
    for (int i = 0; i < k->n_access; i++) {
        BufKind kind = l->buffers.at[k->access[i].buf].kind;
        fits = fits && (kernel_writes(k, (AccessId)i) || kind == BUF_LABELS || kind == BUF_INPUT);
    }
    return fits && sliced_reader(l, k);
}

/* Sums over the batch alone stay whole: they run after the slices. */
static bool stays_whole(const KernelList *l, const Kernel *k, void *unused)
{
    (void)l;
    (void)unused;
    for (int e = 1; e < k->n_expr; e++) {
        uint32_t batch = 0;
        for (int a = 0; a < k->n_axes; a++)
            batch |= k->axis[a].batch ? 1u << a : 0;
        uint32_t axes = k->expr[e].axes;
        if (k->expr[e].op == EX_SUM && (axes & batch) && axes_points(k, axes & ~batch) >= SPLIT_POINTS)
            return false;
    }
    return true;
}

static bool in_slices(const KernelList *l, const Kernel *k)
{
    return small_is_sliced(k) || small_is_repeated(l, k) || !stays_whole(l, k, NULL);
}

/* No kernel on samples reads what a kernel outside the slices writes. */
static bool samples_are_alone(const KernelList *l)
{
    bool *outside = NEWN(l->arena, bool, l->buffers.len);
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        const Kernel *k = &l->kernels.at[i];
        bool inner = small_is_sliced(k) || small_is_repeated(l, k);
        for (int at = 0; at < k->n_access; at++) {
            BufId root = buffer_root(l, k->access[at].buf);
            if (inner && outside[root])
                return false;
            if (!inner && kernel_writes(k, (AccessId)at))
                outside[root] = true;
        }
    }
    return true;
}

/* Bytes of shared memory for one sample, as the plan will place them. */
static int64_t sample_bytes(Arena *a, const KernelList *l)
{
    Life *life = NEWN(a, Life, l->buffers.len);
    int n = 0;
    for (uint32_t b = 1; b < l->buffers.len; b++) {
        const Buffer *x = &l->buffers.at[b];
        Life f = {.buf = (BufId)b, .area = AREA_SCRATCH, .first = -1};
        bool inner = x->kind == BUF_WORK && x->batched && buffer_root(l, (BufId)b) == (BufId)b;
        for (uint32_t i = 0; inner && i < l->kernels.len; i++)
            for (int at = 0; at < l->kernels.at[i].n_access; at++)
                if (buffer_root(l, l->kernels.at[i].access[at].buf) == (BufId)b) {
                    f.first = f.first < 0 ? (int32_t)i : f.first;
                    f.last = (int32_t)i;
                    inner = inner && in_slices(l, &l->kernels.at[i]);
                }
        f.bytes = (buffer_elements(x) / (x->shape.rank && x->shape.dim[0] ? x->shape.dim[0] : 1) * (int64_t)dtype_size(x->dtype) + ALIGN - 1) /
                  ALIGN * ALIGN;
        if (inner && f.first >= 0)
            life[n++] = f;
    }
    Function f = {.place = NEWN(a, Place, l->buffers.len)};
    plan_place_lives(&f, life, n);
    return f.scratch_bytes;
}

/* What repeated kernels compute is a block's own: others that need it get a copy of the kernel and of what it writes. */
static void copy_repeated(Arena *a, KernelList *l)
{
    uint32_t n = l->kernels.len;
    KernelList done = {0};
    for (uint32_t i = 0; i < n; i++) {
        vec_push(a, &done.kernels, l->kernels.at[i]);
        if (!small_is_repeated(l, &l->kernels.at[i]))
            continue;
        Kernel k = l->kernels.at[i];
        k.name = arena_printf(a, "%s.again", k.name);
        k.access = arena_grow(a, k.access, sizeof *k.access * (size_t)k.n_access, sizeof *k.access * (size_t)k.n_access);
        for (int o = 0; o < k.n_out; o++) {   /* readers follow, and are not yet in the new list */
            BufId *out = &k.access[k.out[o].at].buf, old = *out;
            Buffer b = l->buffers.at[old];
            *out = kernels_add_buffer(l, &b);
            for (uint32_t j = 0; j < n; j++)
                for (int at = 0; at < l->kernels.at[j].n_access && j != i && !small_is_sliced(&l->kernels.at[j]); at++)
                    if (l->kernels.at[j].access[at].buf == old)
                        l->kernels.at[j].access[at].buf = *out;
        }
        vec_push(a, &done.kernels, k);
    }
    l->kernels.at = done.kernels.at;
    l->kernels.len = done.kernels.len;
    l->kernels.cap = done.kernels.cap;
}

int64_t small_slices(Arena *a, KernelList *l, const GpuTarget *t)
{
    double macs = 0;
    bool any = false;
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        macs += l->kernels.at[i].macs;
        any = any || small_is_sliced(&l->kernels.at[i]);
    }
    if (!any || macs > MOST_MACS || l->graph->batch < 1 || !samples_are_alone(l))
        return 0;
    int64_t bytes = sample_bytes(a, l), fit = bytes ? (t->shared_bytes - KEEP_SHARED) / bytes : l->graph->batch;
    int64_t samples = (l->graph->batch + t->multiprocessors - 1) / t->multiprocessors;
    if (fit < 1)
        return 0;
    samples = samples < fit ? samples : fit;
    split_batch_reductions(l, samples, stays_whole, NULL);
    copy_repeated(a, l);
    return samples;
}
