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
    "\n"
    "// Samples of a data set to inputs: a crop or flip (outside is black), then normalised.\n"
    "__global__ void __launch_bounds__(256) cnnc_feed(\n"
    "    const void *samples, const CnncView *views, const float *table, float *out, long long n,\n"
    "    int bytes, int channels, int h, int w, int out_h, int out_w)\n"
    "{\n"
    "    const long long at = blockIdx.x * 256ll + threadIdx.x;\n"
    "    if (at >= n * channels * out_h * out_w)\n"
    "        return;\n"
    "    const int x = at % out_w, y = at / out_w % out_h;\n"
    "    const long long plane = at / out_w / out_h;\n"
    "    const int channel = plane % channels;\n"
    "    const CnncView *view = &views[plane / channels];\n"
    "    const long long sy = view->y0 + (long long)y * view->dy, sx = view->x0 + (long long)x * view->dx;\n"
    "    const int inside = sy >= 0 && sy < h && sx >= 0 && sx < w;\n"
    "    const long long from = (plane * h + sy) * w + sx;\n"
    "    if (bytes) {\n"
    "        out[at] = table[channel * 256 + (inside ? ((const unsigned char *)samples)[from] : 0)];\n"
    "    } else {\n"
    "        const float value = inside ? ((const float *)samples)[from] : 0.0f;\n"
    "        out[at] = (value - table[channel * 2]) / table[channel * 2 + 1];\n"
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
