/* split: reductions over the batch become sums over slices, so that slices can run on any thread and still add up in order. */
#ifndef CNNC_CODEGEN_SPLIT_H
#define CNNC_CODEGEN_SPLIT_H
#include "codegen/kernel.h"

/* Replaces every kernel that sums over the batch, and for which keep(l, k, arg) is false, by kernels (one a sweep) that write partial
 * sums [slices][...] (slice axis first, `samples` per slice) and one that adds them in slice order and goes on. */
void split_batch_reductions(KernelList *l, int64_t samples, bool (*keep)(const KernelList *, const Kernel *, void *), void *arg);
/* Before it: a mean and its variance become one kernel that takes both of every slice, about the slice's own mean. */
void split_moments(KernelList *l, int64_t samples);
#endif
