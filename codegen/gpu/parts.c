/* A text in parts that are compiled at the same time.
 * In: a text, how many parts. Out: texts, each with what stands before the first kernel and some of the kernels.
 * Relies on kernels starting with `__global__` and ending with `}` at the start of a line; what stands between two kernels belongs to
 * the second. Idea: NVRTC takes most of its time kernel by kernel; they are dealt out in turn, because neighbours are alike. */
#include "codegen/gpu/images.h"
#include "ir/base/diag.h"
#include "ir/base/vec.h"

#include <stdio.h>
#include <stdlib.h>
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

/* There and back: a product and what adds its slices take turns, and each part gets as many of both. */
static uint32_t part_of(uint32_t kernel, uint32_t n)
{
    uint32_t at = kernel % n;
    return kernel / n % 2 ? n - 1 - at : at;
}

int gpu_text_parts(Arena *a, const char *text, int most, int kernels, const char *parts[CNNC_GPU_PARTS])
{
    static const char close[] = "#ifdef __cplusplus\n}\n#endif\n";
    Cuts ends = find_ends(a, text);
    int n = (int)ends.len / kernels;
    n = n < most ? n : most;
    n = n < CNNC_GPU_PARTS ? n : CNNC_GPU_PARTS;
    const char *first = n > 1 ? next_kernel(text) : NULL;
    if (!first) {
        parts[0] = text;
        return 1;
    }
    /* What stands before the first kernel: its own comments and tables do no harm in other parts. */
    for (int i = 0; i < n; i++) {
        char *bytes = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&bytes, &size);
        if (!to)
            BUG("no memory for a part of the text");
        fprintf(to, "%.*s", (int)(first - text), text);
        for (uint32_t k = 0; k < ends.len; k++) {
            const char *from = k ? ends.at[k - 1] : first;
            if (part_of(k, (uint32_t)n) == (uint32_t)i)
                fwrite(from, 1, (size_t)(ends.at[k] - from), to);
        }
        fputs(i == n - 1 ? ends.at[ends.len - 1] : close, to);
        fclose(to);
        parts[i] = arena_strndup(a, bytes, size);
        free(bytes);
    }
    return n;
}
