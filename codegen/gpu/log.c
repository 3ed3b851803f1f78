/* What NVRTC and ptxas say, read.
 * In: the log of a compilation. Out: which layer a mistake belongs to; registers and memory of each kernel.
 * Relies on lines "FILE(LINE): error: ..." and, with ptxas -v, on blocks
 *     ptxas info    : Compiling entry function 'NAME' for 'sm_90'
 *     ... 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
 *     ptxas info    : Used 8 registers, used 1 barriers, 1024 bytes smem
 * Words that are not there count as zero. */
#include "codegen/gpu/images.h"
#include "ir/base/vec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- mistakes ---- */

/* The name between `__global__` and `(` of the last kernel that begins at or above the line; NULL: above all of them. */
static const char *kernel_at(Arena *a, const char *text, int line)
{
    const char *found = NULL;
    for (int i = 1; i <= line && text; i++) {
        const char *end = strchr(text, '\n'), *kernel = strstr(text, "__global__ ");
        const char *open = kernel && (!end || kernel < end) ? strchr(kernel, '(') : NULL;
        if (open && !strncmp(kernel, "__global__ void __launch_bounds__", 33))
            open = strchr(open + 1, '(');
        const char *name = open;
        while (name && name > text && name[-1] != ' ')
            name--;
        if (name)
            found = arena_strndup(a, name, (size_t)(open - name));
        text = end ? end + 1 : NULL;
    }
    return found;
}

/* The layers of the launches of a kernel. */
typedef struct { Arena *a; const CnncModel *m; const char *entry, *text; int n; bool *seen; } Layers;

static void add_layers(Layers *l, const CnncGpuFunction *f)
{
    enum { MOST = 4 };
    for (int i = 0; f && i < f->n_launches; i++) {
        int32_t layer = f->launches[i].first_layer;
        if (strcmp(f->launches[i].entry, l->entry) || layer < 0 || layer >= l->m->n_layers || l->seen[layer])
            continue;
        l->seen[layer] = true;
        if (++l->n <= MOST)
            l->text = arena_printf(l->a, "%s%s%s (%s)", l->text, l->n > 1 ? ", " : "", l->m->layers[layer].name, l->m->layers[layer].type);
        else if (l->n == MOST + 1)
            l->text = arena_printf(l->a, "%s and others", l->text);
    }
}

/* The line number of the log's first error; 0: none is told. */
static int error_line(const char *log)
{
    const char *error = strstr(log, "error");
    const char *at = error;
    while (at && at > log && at[-1] != '\n')
        at--;
    for (const char *open = at; open && open < error; open++)
        if ((*open == '(' || *open == ':') && open[1] >= '0' && open[1] <= '9')
            return atoi(open + 1);
    return 0;
}

const char *gpu_explain_log(Arena *a, const CnncModel *m, const char *text, const char *log)
{
    int line = error_line(log);
    const char *entry = line > 0 ? kernel_at(a, text, line) : NULL;
    Layers l = {.a = a, .m = m, .entry = entry ? entry : "", .text = "", .seen = NEWN(a, bool, m->n_layers + 1)};
    add_layers(&l, m->gpu->infer);
    add_layers(&l, m->gpu->eval);
    add_layers(&l, m->gpu->step);
    return arena_printf(a, "NVRTC refuses the kernel %s%s%s:\n%s", entry ? entry : "text", l.n > 1 ? " of layers " : l.n ? " of layer " : "", l.text, log);
}

/* ---- what kernels use ---- */

/* The number before `word` in the line, 0 when the word is not there. */
static int number_before(const char *line, const char *end, const char *word)
{
    const char *at = strstr(line, word);
    if (!at || at >= end)
        return 0;
    while (at > line && at[-1] >= '0' && at[-1] <= '9')
        at--;
    return atoi(at);
}

static void read_line(GpuUse *u, const char *line, const char *end)
{
    if (strstr(line, " bytes stack frame") && strstr(line, " bytes stack frame") < end) {
        u->stack_bytes = number_before(line, end, " bytes stack frame");
        u->spill_stores = number_before(line, end, " bytes spill stores");
        u->spill_loads = number_before(line, end, " bytes spill loads");
    }
    if (strstr(line, " registers") && strstr(line, " registers") < end) {
        u->registers = number_before(line, end, " registers");
        u->shared_bytes = number_before(line, end, " bytes smem");
    }
}

GpuUses gpu_read_uses(Arena *a, int sm, const char *log)
{
    static const char start[] = "Compiling entry function '";
    Vec(GpuUse) uses = {0};
    for (const char *line = log, *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        const char *name = strstr(line, start);
        if (name && name < end) {
            name += sizeof start - 1;
            vec_push(a, &uses, ((GpuUse){.entry = arena_strndup(a, name, strcspn(name, "'"))}));
        } else if (uses.len) {
            read_line(&uses.at[uses.len - 1], line, end);
        }
    }
    return (GpuUses){sm, uses.at, (int)uses.len};
}
