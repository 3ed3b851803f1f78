/* strips: convolutions computed directly share strips of a slice with the windows that read them. */
#ifndef CNNC_CODEGEN_STRIPS_H
#define CNNC_CODEGEN_STRIPS_H
#include "codegen/nest.h"

/* Images in the lanes, slices deep (NestTarget.deep), buffers still plain. pairs: channels may be stored in pairs later, which a strip
 * does not cut. */
void strips(KernelList *l, const NestTarget *t, bool pairs);
#endif
