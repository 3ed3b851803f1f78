/* The kernel that makes inputs of a data set's samples: crops, flips and normalises (CnncGpuFeed of runtime/abi.h).
 * Out: text behind the text of a program. Relies on: nothing of what stands before. Idea: one thread an element; bytes go through
 * a table made on the host, so that the bits are those of the CPU. */
#include "codegen/gpu/images.h"

#include <string.h>

static const char feed[] =
    "\n"
    "#ifdef __cplusplus\n"
    "extern \"C\" {\n"
    "#endif\n"
    "typedef struct {\n"
    "    long long y0, x0;   // output (y, x) reads (y0 + y * dy, x0 + x * dx)\n"
    "    int dy, dx;\n"
    "} CnncView;\n"
    "typedef struct {\n"
    "    const void *samples;\n"
    "    const CnncView *views;\n"
    "    const float *table;\n"
    "    float *x;\n"
    "    long long n;\n"
    "    int bytes, channels, h, w, out_h, out_w;\n"
    "} CnncGpuFeed;\n"
    "\n"
    "// Samples of a data set to inputs: a crop or flip (outside is black), then normalised.\n"
    "__global__ void __launch_bounds__(256) cnnc_feed(CnncGpuFeed f)\n"
    "{\n"
    "    const long long at = blockIdx.x * 256ll + threadIdx.x;\n"
    "    if (at >= f.n * f.channels * f.out_h * f.out_w)\n"
    "        return;\n"
    "    const int x = at % f.out_w, y = at / f.out_w % f.out_h;\n"
    "    const long long plane = at / f.out_w / f.out_h;\n"
    "    const int channel = plane % f.channels;\n"
    "    const CnncView *view = &f.views[plane / f.channels];\n"
    "    const long long sy = view->y0 + (long long)y * view->dy, sx = view->x0 + (long long)x * view->dx;\n"
    "    const int inside = sy >= 0 && sy < f.h && sx >= 0 && sx < f.w;\n"
    "    const long long from = (plane * f.h + sy) * f.w + sx;\n"
    "    if (f.bytes) {\n"
    "        f.x[at] = f.table[channel * 256 + (inside ? ((const unsigned char *)f.samples)[from] : 0)];\n"
    "    } else {\n"
    "        const float value = inside ? ((const float *)f.samples)[from] : 0.0f;\n"
    "        f.x[at] = (value - f.table[channel * 2]) / f.table[channel * 2 + 1];\n"
    "    }\n"
    "}\n"
    "#ifdef __cplusplus\n"
    "}\n"
    "#endif\n";

void gpu_add_feed(Arena *a, Program *p)
{
    CnncGpu *g = NEW(a, CnncGpu);
    *g = *p->model.gpu;
    if (strstr(g->text, " cnnc_feed("))
        return;
    g->text = arena_printf(a, "%s%s", g->text, feed);
    p->model.gpu = g;
}
