/* Opens NVIDIA's driver and a device.
 * In: libcuda.so.1 on this machine. Out: a table of its functions, a device with its context.
 * Relies on the driver's interface being stable: the names exported are those of the versions declared in cuda.h.
 * Idea: nothing is linked, so that one program runs with and without a GPU. */
#include "runtime/cuda.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static bool find_functions(Cuda *c, const char *library, RtError *e)
{
    const char *missing = NULL;
#define CUDA_FIND(field, symbol, arguments) \
    *(void **)&c->api.field = dlsym(c->library, #symbol); \
    missing = c->api.field ? missing : #symbol;
    CUDA_FUNCTIONS(CUDA_FIND)
#undef CUDA_FIND
    return !missing || rt_error(e, RT_DEVICE, "the GPU driver %s is too old: it has no %s (CUDA 11.4 or later is needed)", library, missing);
}

static bool open_library(Cuda *c, RtError *e)
{
    const char *given = getenv("CNNC_CUDA_DRIVER"), *library = given && *given ? given : "libcuda.so.1";
    /* Kept, once used: it has threads, and starting it takes long. */
    c->library = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!c->library)
        return rt_error(e, RT_DEVICE, "there is no GPU driver on this machine (%s)", dlerror());
    return find_functions(c, library, e);
}

bool cuda_fine(const Cuda *c, int result, RtError *e, const char *what)
{
    const char *name = NULL, *text = NULL;
    if (result == 0)
        return true;
    c->api.error_name(result, &name);
    c->api.error_text(result, &text);
    return rt_error(e, RT_DEVICE, "%s: the GPU driver says %s (%s)", what, text ? text : "something unknown", name ? name : "no name");
}

static bool find_device(Cuda *c, RtError *e)
{
    int n = 0, major = 0, minor = 0;
    const CudaApi *a = &c->api;
    int result = a->init(0);
    if (result == 0)
        result = a->device_count(&n);
    if (result == CUDA_ERROR_NO_DEVICE || (result == 0 && n == 0))
        return rt_error(e, RT_DEVICE, "there is a GPU driver, but it shows no GPU");
    return cuda_fine(c, result, e, "starting the GPU") && cuda_fine(c, a->device_get(&c->device, 0), e, "starting the GPU") &&
           cuda_fine(c, a->device_name(c->name, sizeof c->name, c->device), e, "asking the GPU") &&
           cuda_fine(c, a->device_attribute(&major, CUDA_ATTR_MAJOR, c->device), e, "asking the GPU") &&
           cuda_fine(c, a->device_attribute(&minor, CUDA_ATTR_MINOR, c->device), e, "asking the GPU") &&
           cuda_fine(c, a->device_attribute(&c->multiprocessors, CUDA_ATTR_MULTIPROCESSORS, c->device), e, "asking the GPU") &&
           cuda_fine(c, a->driver_version(&c->driver), e, "asking the GPU") && ((c->sm = 10 * major + minor), true);
}

bool cuda_open(Cuda *c, RtError *e)
{
    *c = (Cuda){0};
    if (open_library(c, e) && find_device(c, e) &&
        cuda_fine(c, c->api.context_retain(&c->context, c->device), e, "starting the GPU") &&
        cuda_fine(c, c->api.context_use(c->context), e, "starting the GPU"))
        return true;
    cuda_close(c);
    return false;
}

bool cuda_probe(Cuda *c, RtError *e)
{
    *c = (Cuda){0};
    bool fine = open_library(c, e) && find_device(c, e);
    cuda_close(c);
    return fine;
}

void cuda_close(Cuda *c)
{
    if (c->context)
        c->api.context_release(c->device);
    if (c->library)
        dlclose(c->library);
    c->context = NULL;
    c->library = NULL;
}
