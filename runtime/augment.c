/* Draws the random views of augmentation.
 * In: the plan, an epoch and a sample's number. Out: where the output picture's pixels come from.
 * Relies on augment_out_size having accepted the plan; leaves no state: every draw is a hash.
 * Idea: crops and flips compose into one affine index map per axis, so pixels are moved once.
 *     flip: y -> size - 1 - y       crop: y -> y + start - padding */
#include "runtime/augment.h"
#include "runtime/rng.h"

static void crop_size(const CnncAugment *a, int64_t *h, int64_t *w)
{
    *h = (int64_t)a->p[0];
    *w = a->p[1] > 0 ? (int64_t)a->p[1] : *h;
}

bool augment_out_size(const AugmentPlan *p, int64_t h, int64_t w, int64_t *out_h, int64_t *out_w, RtError *e)
{
    for (int i = 0; i < p->n; i++) {
        if (p->at[i].kind != CNNC_AUG_CROP)
            continue;
        int64_t ch, cw, pad = (int64_t)p->at[i].p[2];
        crop_size(&p->at[i], &ch, &cw);
        if (ch < 1 || cw < 1 || pad < 0 || ch > h + 2 * pad || cw > w + 2 * pad)
            return rt_error(e, RT_FAIL, "RandomCrop of %lldx%lld does not fit pictures of %lldx%lld with padding %lld",
                            (long long)ch, (long long)cw, (long long)h, (long long)w, (long long)pad);
        h = ch;
        w = cw;
    }
    *out_h = h;
    *out_w = w;
    return true;
}

/* A number in [0, n), unbiased to 2^-40 for any picture size. */
static int64_t below(uint64_t bits, int64_t n) { return (int64_t)((unsigned __int128)bits * (uint64_t)n >> 64); }
static bool coin(uint64_t bits, double p) { return (double)(bits >> 11) * 0x1p-53 < p; }

AugmentView augment_draw(const AugmentPlan *p, int64_t epoch, int64_t sample, int64_t h, int64_t w)
{
    AugmentView v = {0, 0, 1, 1};
    for (int i = 0; i < p->n; i++) {
        uint64_t stream = (uint64_t)epoch * 64 + (uint64_t)i * 2, index = (uint64_t)sample;
        uint64_t a = rng_hash(p->seed, stream, index), b = rng_hash(p->seed, stream + 1, index);
        const CnncAugment *step = &p->at[i];
        if (step->kind == CNNC_AUG_CROP) {
            int64_t ch, cw, pad = (int64_t)step->p[2];
            crop_size(step, &ch, &cw);
            v.y0 += v.dy * (below(a, h + 2 * pad - ch + 1) - pad);
            v.x0 += v.dx * (below(b, w + 2 * pad - cw + 1) - pad);
            h = ch;
            w = cw;
        } else if (step->kind == CNNC_AUG_HFLIP && coin(a, step->p[0])) {
            v.x0 += v.dx * (w - 1);
            v.dx = -v.dx;
        } else if (step->kind == CNNC_AUG_VFLIP && coin(a, step->p[0])) {
            v.y0 += v.dy * (h - 1);
            v.dy = -v.dy;
        }
    }
    return v;
}
