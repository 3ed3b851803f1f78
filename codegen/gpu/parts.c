/* A text in parts that are compiled at the same time.
 * In: a text, how many parts. Out: texts, each with what stands before the first kernel and some of the kernels.
 * Relies on kernels starting with `__global__` and ending with `}` at the start of a line; what stands between two kernels belongs to
 * the second. Idea: NVRTC takes most of its time kernel by kernel. */
#include "codegen/gpu/images.h"
#include "ir/base/vec.h"

#include <string.h>

typedef Vec(const char *) Cuts;

static const char *next_kernel(const char *at)
{
    const char *k = strstr(at, "\n__global__ ");
    return k ? k + 1 : NULL;
}

/* Where each kernel ends. */
static Cuts find_ends(Arena *a, const char *text)
{
    Cuts ends = {0};
    for (const char *k = next_kernel(text); k; k = next_kernel(k)) {
        const char *end = strstr(k, "\n}\n");
        if (!end)
            break;
        k = end + 2;
        vec_push(a, &ends, end + 3);
    }
    return ends;
}

int gpu_text_parts(Arena *a, const char *text, int most, const char *parts[CNNC_GPU_PARTS])
{
    enum { KERNELS_OF_A_PART = 4 };
    static const char close[] = "#ifdef __cplusplus\n}\n#endif\n";
    Cuts ends = find_ends(a, text);
    int n = (int)ends.len / KERNELS_OF_A_PART;
    n = n < most ? n : most;
    n = n < CNNC_GPU_PARTS ? n : CNNC_GPU_PARTS;
    const char *first = n > 1 ? next_kernel(text) : NULL;
    if (!first) {
        parts[0] = text;
        return 1;
    }
    /* What stands before the first kernel: its own comments and tables do no harm in other parts. */
    const char *from = first;
    for (int i = 0; i < n; i++) {
        bool last = i == n - 1;
        const char *to = last ? text + strlen(text) : ends.at[(int64_t)ends.len * (i + 1) / n - 1];
        parts[i] = arena_printf(a, "%.*s%.*s%s", (int)(first - text), text, (int)(to - from), from, last ? "" : close);
        from = to;
    }
    return n;
}
