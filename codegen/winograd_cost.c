/* Which convolutions pay by Winograd, and by which form.
 * In: a convolution that winograd_recognise found. Out: its form, precision and tiles. Costs are turns of the multipliers, one for a
 * vector's multiply-adds, per image, channel and filter where nothing else is said; what they rest on was measured on Zen 4.
 *
 * Where the CPU multiplies pairs of bf16 and the user permits them, V and U may be bf16 for F(2x2, 3x3), whose rounding errors are 1.6
 * times those of the direct convolution in bf16; F(4x4, 3x3) would have 4 times. */
#include "codegen/tiles.h"
#include "codegen/winograd_impl.h"

enum { MIN_CHANNELS = 32, MIN_TILED = 6, PANEL_TILES = 16 };
#define NARROW_TURNS 0.5  /* for a multiply-add of pairs of bf16, where one of float32 takes one */
#define MIN_PHASES 0.7   /* of the lanes, channels of phases */
typedef WinogradConv Wino;

static int64_t tiles(const Wino *w, const WinogradForm *f) { return (w->height + f->m - 1) / f->m * ((w->width + f->m - 1) / f->m); }

/* Images in the lanes: cycles for a vector of images with one multiply-add a cycle, measured on Zen 4 with 3 to 20 channels: the direct
 * convolution, and products and transforms (of a tile, for each channel and each filter) by a form. */
static double direct_cycles(const Wino *w)
{
    if (w->stride > 1)
        return 1.1 * (double)(w->height * w->width * w->taps * w->taps * w->channels / (w->stride * w->stride) * w->filters);
    const Shape *x = &w->l->buffers.at[w->k->access[w->x].buf].shape;
    return 1.1 * (double)(winograd_taps_inside(w->height, w->r, w->pad_h, x->dim[2]) * winograd_taps_inside(w->width, w->r, w->pad_w, x->dim[3])) *
           (double)(w->channels * w->filters);
}

static double image_cycles(const Wino *w, const WinogradForm *f)
{
    double points = (double)(f->a * f->a), outputs = (double)(f->m * f->m), c = (double)w->channels, k = (double)w->filters;
    return (double)tiles(w, f) * (points * c * k + 4.7 * points * c + (2.5 * points + 11 * outputs) * k);
}

static const WinogradForm *best_form_for_images(const Wino *w)
{
    const WinogradForm *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(winograd_forms); i++) {
        const WinogradForm *f = &winograd_forms[i];
        if (f->r == w->r && f->error <= w->error && image_cycles(w, f) < (best ? image_cycles(w, best) : direct_cycles(w)))
            best = f;
    }
    return best;
}

/* Turns of the multipliers, two vectors of float32 a cycle, for a multiply-add of the direct convolution: of bf16 half as many, and in
 * tile registers less. */
static double direct_turns(const Wino *w)
{
    const NestTarget *t = w->t;
    Product p;
    if (t->tiles && !w->images && tiles_fit(w->l, w->k, &p))
        return 2.0 * t->lanes / t->tiles;
    return t->pairs && !t->slow_pairs ? NARROW_TURNS : 1;
}

/* Operations of a transform on a tile. */
static double transform_operations(const WinogradForm *f) { return f->a == 4 ? 45 : 100; }

/* Turns in which so many weights a channel and filter come from beyond L2, in float32. */
static double weights_turns(const Wino *w, double weights)
{
    const double turns_per_byte = 2.4;   /* 25 GB/s */
    double pairs = (double)w->channels / (w->stride * w->stride) * (double)w->filters, bytes = 4 * weights;
    return pairs * bytes > (double)w->t->l2 ? bytes * turns_per_byte / (double)w->batch : 0;
}

/* Turns of the multipliers per image, channel and filter: products, transforms, for each channel and each filter, and reading weights. */
static double form_cost(const Wino *w, const WinogradForm *f, bool narrow)
{
    double n = (double)tiles(w, f), p = n * f->a * f->a, u = weights_turns(w, f->a * f->a / (narrow ? 2.0 : 1));
    return p * (narrow ? NARROW_TURNS : 1) + n * transform_operations(f) * (1 / (double)w->channels + 1 / (double)w->filters) + u;
}

/* The same for a strided convolution, per channel of its input: phases with fewer taps have fewer products, and all are made once more,
 * measured at 8 turns a vector; at 40 where channels fill no vectors, and strided rows are turned. */
static double phases_cost(const Wino *w, const WinogradForm *f)
{
    double s = w->stride, full = w->taps - s * (w->r - 1), points = full * f->a + (s - full) * (f->a - 1);
    double n = (double)tiles(w, f), c = (double)w->channels / (s * s), k = (double)w->filters;
    double made = w->channels / (w->stride * w->stride) % w->t->lanes == 0 ? 8 : 40;
    return n * points * points + n * transform_operations(f) * (s * s / k + 1 / c) + made * s * s * (double)(w->height * w->width) / k +
           weights_turns(w, points * points);
}

/* The form that takes fewest turns, where it takes fewer than the direct convolution; that multiplies pairs where there are any. */
static const WinogradForm *best_form_for_phases(const Wino *w)
{
    const WinogradForm *best = NULL;
    double taps = (double)w->taps * w->taps, least = (double)(w->height * w->width) * taps * direct_turns(w) + weights_turns(w, taps);
    for (size_t i = 0; i < ARRAY_LEN(winograd_forms); i++) {
        const WinogradForm *f = &winograd_forms[i];
        if (f->r != w->r || f->error > w->error || phases_cost(w, f) >= least)
            continue;
        least = phases_cost(w, f);
        best = f;
    }
    return best;
}

/* Few tiles read as many transformed weights as they multiply: then the smaller tile wins, which has fewer of them. */
static const WinogradForm *best_form(const Wino *w)
{
    if (w->images)
        return best_form_for_images(w);
    if (w->stride > 1)
        return best_form_for_phases(w);
    const WinogradForm *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(winograd_forms); i++) {
        const WinogradForm *f = &winograd_forms[i];
        if (f->r != w->r || f->error > w->error)
            continue;
        bool enough = best && w->batch * tiles(w, best) >= PANEL_TILES;
        bool better = !best || (enough ? tiles(w, f) * f->a * f->a <= tiles(w, best) * best->a * best->a : f->m < best->m);
        best = better ? f : best;
    }
    return best;
}

/* F(2x2, 3x3) over pairs of bf16 where that is less work than the best form in float32. */
static void consider_narrow(Wino *w)
{
    if (!w->t->pairs || w->t->slow_pairs || w->images || w->stride > 1 || w->l->buffers.at[w->k->access[w->w].buf].kind != BUF_CONST)
        return;
    for (size_t i = 0; i < ARRAY_LEN(winograd_forms); i++) {
        const WinogradForm *f = &winograd_forms[i];
        if (f->m != 2 || f->r != 3 || w->r != 3 || (w->form && form_cost(w, f, true) > 0.95 * form_cost(w, w->form, false)))
            continue;
        w->form = f;
        w->narrow = true;
    }
}

/* Tile registers multiply so fast that the transforms seldom pay. */
static bool direct_in_tiles(const Wino *w)
{
    double turns = direct_turns(w);
    return turns < NARROW_TURNS && w->stride == 1 && (double)(w->height * w->width * w->r * w->r) * turns < form_cost(w, w->form, w->narrow);
}

/* With channels in the lanes: are there enough of them, in whole vectors? Few phases of an image may leave a part of a vector empty. */
static bool channels_fit(const Wino *w)
{
    int64_t lanes = w->t->lanes, padded = (w->channels + lanes - 1) / lanes * lanes;
    bool input = w->stride > 1 ? w->channels >= MIN_PHASES * padded : w->channels % lanes == 0 && w->channels >= MIN_CHANNELS;
    return input && w->filters % lanes == 0 && w->filters >= MIN_CHANNELS;
}

/* Enough channels to cover the transforms, and tiles that are not mostly border. */
bool winograd_pays(Wino *w)
{
    int64_t lanes = w->t->lanes, smaller = w->height < w->width ? w->height : w->width;
    if (w->stride > 1)
        winograd_count_phases(w);
    if (lanes < 4 || smaller < MIN_TILED || (!w->images && !channels_fit(w)))
        return false;
    w->batch = w->k->axis[w->n].extent;
    w->form = best_form(w);
    consider_narrow(w);
    if (!w->form || direct_in_tiles(w))
        return false;
    w->m = w->form->m;
    w->a = w->form->a;
    w->th = (w->height + w->m - 1) / w->m;
    w->tw = (w->width + w->m - 1) / w->m;
    return true;
}
