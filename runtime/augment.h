/* Random crops and flips of training pictures. Each sample's draw is a pure function of (seed, epoch, sample), so it depends
 * neither on threads nor on the batch. Crops pad with black (0 before normalisation), as torchvision does before ToTensor. */
#ifndef CNNC_RUNTIME_AUGMENT_H
#define CNNC_RUNTIME_AUGMENT_H
#include "runtime/abi.h"
#include "runtime/error.h"

typedef struct AugmentPlan { const CnncAugment *at; int32_t n; uint64_t seed; } AugmentPlan;
typedef CnncView AugmentView;   /* where one output picture comes from; outside is black */

/* Size after the crops; false when a crop is larger than what it crops. */
bool augment_out_size(const AugmentPlan *p, int64_t h, int64_t w, int64_t *out_h, int64_t *out_w, RtError *e);
AugmentView augment_draw(const AugmentPlan *p, int64_t epoch, int64_t sample, int64_t h, int64_t w);
#endif
