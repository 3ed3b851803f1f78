/* Chooses the device.
 * In: what the user asked for, what the machine has. Out: CPU or GPU, and why.
 * Relies on cuda_probe. Idea: auto never fails; a device asked for by name is taken or refused, never replaced. */
#include "runtime/device.h"
#include "runtime/cuda.h"
#include <string.h>

static bool is_word(const char *wanted, const char *word) { return wanted && strcmp(wanted, word) == 0; }

static bool find_gpu(Cuda *found, RtError *why)
{
    if (!cuda_probe(found, why))
        return false;
    return found->sm >= CNNC_GPU_OLDEST || rt_error(why, RT_DEVICE, "%s (sm_%d) is too old: sm_%d or later is needed", found->name,
                                                    found->sm, CNNC_GPU_OLDEST);
}

bool device_choose(const char *wanted, const DeviceNeeds *needs, int *sm, FILE *notes, RtError *e)
{
    Cuda found;
    RtError why = {0};
    *sm = 0;
    if (is_word(wanted, "cpu"))
        return true;
    if (wanted && !is_word(wanted, "auto") && !is_word(wanted, "cuda"))
        return rt_error(e, RT_USAGE, "--device is cpu, cuda or auto, not '%s'", wanted);
    bool works = find_gpu(&found, &why);
    const char *missing = NULL;
    if (is_word(wanted, "cuda")) {
        *sm = works ? found.sm : 0;
        return works || rt_error(e, RT_DEVICE, "--device cuda: %s", why.text);
    }
    if (works && needs && !needs->is_there(needs->context, &missing))
        works = rt_error(&why, RT_DEVICE, "%s cannot be used: %s", found.name, missing);
    *sm = works ? found.sm : 0;
    if (notes && works)
        fprintf(notes, "device: GPU, %s (sm_%d)\n", found.name, found.sm);
    else if (notes)
        fprintf(notes, "device: CPU; %s\n", why.text);
    return true;
}

const CnncModel *device_model(const CnncModel *cpu, const CnncModel *gpu, const char *wanted, FILE *notes, RtError *e)
{
    int sm = 0;
    if (!gpu && is_word(wanted, "cuda")) {
        rt_error(e, RT_DEVICE, "--device cuda: this program was built without GPU code (--device cuda at build time)");
        return NULL;
    }
    if (!gpu && (!wanted || is_word(wanted, "auto")))
        return cpu;
    if (!device_choose(wanted, NULL, &sm, notes, e))
        return NULL;
    return sm ? gpu : cpu;
}
