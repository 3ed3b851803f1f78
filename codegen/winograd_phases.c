/* Strided convolutions as convolutions of stride 1 (polyphase), so that Winograd can do them.
 * In: a convolution of r x r taps and stride s that winograd_recognise found. Out: the same over s^2 phases of its input, which are
 * channels, with R = ceil(r / s) taps each way:
 *
 *   phases    x'[n, (i, j, c), u, v] = x[n, c, s*u + i - pad, s*v + j - pad]   0 outside the image
 *   weights   w'[k, (i, j, c), t, q] = w[k, c, s*t + i, s*q + j]               0 beyond the taps
 *   y[n, k, p, q] = SUM[c', t, u](x'[n, c', p + t, q + u] * w'[k, c', t, u])
 *
 * A 7x7 convolution of stride 2 over 3 channels is one of 4x4 taps over 12: 192 products an output instead of 147, of which
 * F(3x3, 4x4) leaves 48, and 40 without those that are zero because a phase has fewer taps. */
#include "codegen/winograd_impl.h"

#include <string.h>

typedef WinogradConv Wino;

/* Of the phases along one dim, those with R taps: the first ones. The others have a tap less: at the point infinity, which sees the last
 * tap alone, they are zero. */
static int full(int taps, int stride) { return taps - stride * ((taps - 1) / stride); }

/* Phases in an order in which those with R taps down, and those with R across, are neighbours: first the ones with fewer taps down but R
 * across, then R both ways, R down alone, and neither. */
static int place_of(int taps, int s, int i, int j)
{
    int f = full(taps, s);
    if (i >= f && j < f)
        return (i - f) * f + j;
    if (i < f)
        return (s - f) * f + (j < f ? i * f + j : f * f + i * (s - f) + j - f);
    return s * s - (s - f) * (s - f) + (i - f) * (s - f) + j - f;
}

void winograd_count_phases(Wino *w)
{
    w->taps = w->r;
    w->r = (w->taps + w->stride - 1) / w->stride;
    w->channels *= w->stride * w->stride;
}

WinogradRange winograd_full_phases(const Wino *w, bool down, bool across)
{
    int64_t s = w->stride, f = full(w->taps, w->stride), channels = w->channels / (s * s), short_ = s - f;
    int64_t first = down ? short_ * f : 0, end = across ? s * f : down ? short_ * f + f * s : s * s;
    return (WinogradRange){first * channels, (end - first) * channels};
}

/* s * u + phase + offset along a dim of `extent`. */
static void phase_index(const Wino *w, Affine *f, int u, int64_t offset, int64_t extent)
{
    affine_axis(f, u, w->stride);
    f->offset = (int32_t)offset;
    affine_guard(f, 0, (int32_t)extent);
}

/* to[a, place * C + c, u, v] = from[a, c, s*u + i - pad_h, s*v + j - pad_w] for every phase (i, j); a: images, or filters. */
static Kernel *phases_kernel(Wino *w, BufId from, BufId to, const char *suffix, int64_t pad_h, int64_t pad_w)
{
    KernelList *l = w->l;
    Kernel *k = kernel_part(l, arena_printf(l->arena, "%s.%s", w->k->name, suffix), w->k);
    const Buffer *x = &l->buffers.at[from], *y = &l->buffers.at[to];
    int s = w->stride, channels = (int)(w->channels / (s * s));
    int a = kernel_axis(k, AXIS_PAR, y->batched ? "n" : "k", y->shape.dim[0], y->batched), c = kernel_axis(k, AXIS_PAR, "c", channels, false);
    int u = kernel_axis(k, AXIS_PAR, "u", y->shape.dim[2], false), v = kernel_axis(k, AXIS_PAR, "v", y->shape.dim[3], false);
    for (int phase = 0; phase < s * s; phase++) {
        AccessId at = kernel_access(l, k, from);
        affine_axis(access_dim(k, at, 0), a, 1);
        affine_axis(access_dim(k, at, 1), c, 1);
        phase_index(w, access_dim(k, at, 2), u, phase / s - pad_h, x->shape.dim[2]);
        phase_index(w, access_dim(k, at, 3), v, phase % s - pad_w, x->shape.dim[3]);
        ExprId value = expr_load(l, k, at);
        AccessId out = kernel_access(l, k, to);
        affine_axis(access_dim(k, out, 0), a, 1);
        affine_axis(access_dim(k, out, 1), c, 1);
        access_dim(k, out, 1)->offset = place_of(w->taps, s, phase / s, phase % s) * channels;
        affine_axis(access_dim(k, out, 2), u, 1);
        affine_axis(access_dim(k, out, 3), v, 1);
        kernel_out(k, out, value);
    }
    return k;
}

static BufId phases_buffer(Wino *w, const char *suffix, bool batched, Shape shape)
{
    Buffer b = {.kind = BUF_WORK, .dtype = DT_F32, .batched = batched, .shape = shape, .layout = layout_plain(4)};
    b.name = arena_printf(w->l->arena, "%s.%s", w->k->name, suffix);
    return kernels_add_buffer(w->l, &b);
}

void winograd_over_phases(Wino *w, WinogradKernels *out)
{
    KernelList *l = w->l;
    Kernel *k = NEW(l->arena, Kernel);
    *k = *w->k;
    k->access = NEWN(l->arena, Access, k->n_access);
    memcpy(k->access, w->k->access, sizeof *k->access * (size_t)k->n_access);
    BufId x = k->access[w->x].buf, weights = k->access[w->w].buf;
    Shape phases = shape_of(4, k->axis[w->n].extent, w->channels, w->height + w->r - 1, w->width + w->r - 1);
    k->access[w->x].buf = phases_buffer(w, "phases", true, phases);
    vec_push(l->arena, out, *phases_kernel(w, x, k->access[w->x].buf, "phases", w->pad_h, w->pad_w));
    if (l->buffers.at[weights].kind != BUF_CONST) {
        k->access[w->w].buf = phases_buffer(w, "weight_phases", false, shape_of(4, w->filters, w->channels, (int64_t)w->r, (int64_t)w->r));
        vec_push(l->arena, out, *phases_kernel(w, weights, k->access[w->w].buf, "weight_phases", 0, 0));
    }
    w->pad_h = w->pad_w = 0;
    w->k = k;
}

void winograd_phase_weights(const double *w, int64_t filters, int64_t channels, int taps, int stride, double *to)
{
    int r = (taps + stride - 1) / stride, phases = stride * stride;
    for (int64_t k = 0; k < filters; k++)
        for (int phase = 0; phase < phases; phase++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t place = (k * phases + place_of(taps, stride, phase / stride, phase % stride)) * channels + c;
                for (int i = 0; i < r * r; i++) {
                    int row = stride * (i / r) + phase / stride, column = stride * (i % r) + phase % stride;
                    bool inside = row < taps && column < taps;
                    to[place * r * r + i] = inside ? w[((k * channels + c) * taps + row) * taps + column] : 0;
                }
            }
}
