/* The pointers that a kernel gets as arguments: which buffers, under which names.
 * In: the bodies of a function of the text. Out: c->buffer, the name of each buffer's pointer; c->parameters.
 * Idea: a text says neither where its buffers lie nor whose they are, so that equal kernels of a network are one text and launches
 * say where (CnncGpuLaunch.places). A buffer is called after its part in the kernel ("weight", "in2", "out"). A launch of slices, of
 * which a network has one, gets the areas that its many buffers lie in, which takes fewer registers, and keeps the network's names. */
#include "codegen/gpu/code.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* A C identifier: "%7" is v7, "3.weight" is t3_weight. */
static const char *identifier(Arena *a, const char *name)
{
    char *s = arena_printf(a, "%c%s", *name == '%' ? 'v' : 't', *name == '%' ? name + 1 : name);
    for (char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '_';
    return s;
}

static const char *after_last_dot(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* What a buffer is to its kernel. */
static const char *role(Code *c, BufId b, bool written)
{
    static const char *const scalars[CNNC_SC_COUNT] = {"lr", "momentum", "bias1", "bias2", "first_step", "seed"};
    static const char *const results[CNNC_RES_COUNT] = {"loss", "correct"};
    static const char *const tensors[] = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"};
    static const char optimizer[] = "optimizer.";
    const Place *p = &c->f->place[b];
    if (p->area == AREA_SCALARS)
        return scalars[p->offset / 4];
    if (p->area == AREA_RESULTS)
        return results[p->offset / 4];
    if (p->area == AREA_LABELS)
        return "labels";
    if (c->l->buffers.at[b].winograd)
        return "transformed";
    const char *name = c->l->buffers.at[buffer_root(c->l, b)].name, *last = after_last_dot(name);
    if (!strncmp(name, optimizer, sizeof optimizer - 1))   /* "optimizer.momentum.3.weight" */
        return arena_printf(c->arena, "%.*s_buffer", (int)strcspn(name + sizeof optimizer - 1, "."), name + sizeof optimizer - 1);
    for (size_t i = 0; i < ARRAY_LEN(tensors); i++)
        if (!strcmp(last, tensors[i]))
            return written && i < 2 ? "parameter" : tensors[i];   /* an optimizer does the same to all of them */
    return written ? "out" : "in";
}

static bool is_taken(const Code *c, const char *name)
{
    for (uint32_t b = 1; b < c->l->buffers.len; b++)
        if (c->buffer[b] && !strcmp(c->buffer[b], name))
            return true;
    return false;
}

/* The name, or the first of name2, name3 ... that is free. */
static const char *free_name(Code *c, const char *name)
{
    const char *out = name;
    for (int i = 2; is_taken(c, out); i++)
        out = arena_printf(c->arena, isdigit((unsigned char)name[strlen(name) - 1]) ? "%s_%d" : "%s%d", name, i);
    return out;
}

const char *cu_kernel_name(Arena *a, const KernelList *l, const Kernel *k)
{
    const char *name = k->name, *layer = k->layer >= 0 && (uint32_t)k->layer < l->graph->layers.len ? l->graph->layers.at[k->layer].name : "";
    size_t n = strlen(layer);
    if (n && !strncmp(name, layer, n) && name[n] == '.')
        name += n + 1;
    const char *last = after_last_dot(name);
    bool numbered = last > name && *last && strspn(last, "0123456789") == strlen(last);
    return arena_strndup(a, name, numbered ? (size_t)(last - 1 - name) : strlen(name));
}

/* ---- parameters ---- */
const char *cu_type(DType t)
{
    return t == DT_F32 ? "float" : t == DT_BF16 ? "bf16" : t == DT_I32 ? "int" : t == DT_U8 ? "unsigned char" : "long long";
}

static bool writes(const KernelList *l, const Kernel *k, BufId root)
{
    for (int at = 0; at < k->n_access; at++)
        if (kernel_writes(k, (AccessId)at) && buffer_root(l, k->access[at].buf) == root)
            return true;
    return false;
}

static void add_parameter(Code *c, BufId b, const char *name, bool written)
{
    const Buffer *x = &c->l->buffers.at[b];
    c->buffer[b] = free_name(c, name);
    vec_push(c->arena, &c->parameters, ((Parameter){
        .place = c->f->place[b], .name = c->buffer[b], .note = shape_text(c->arena, &x->shape, false),
        .type = arena_printf(c->arena, written ? "%s *" : "const %s *__restrict__ ", cu_type(x->dtype))}));
}

static void add_partial(Code *c, const Contract *x, bool written)
{
    add_parameter(c, x->partial, "partial", written);
    c->parameters.at[c->parameters.len - 1].note =
        arena_printf(c->arena, "[%d slices][%lld][%lld][%lld]", x->slices, (long long)x->both.extent, (long long)x->col.extent, (long long)x->row.extent);
}

/* The parameter of another buffer with the same bytes: a tensor and its next value. */
static const char *name_of_same(const Code *c, BufId b)
{
    const Place *at = &c->f->place[b];
    for (BufId other = 1; other < (BufId)c->l->buffers.len; other++)
        if (c->buffer[other] && c->l->buffers.at[other].dtype == c->l->buffers.at[b].dtype && c->f->place[other].area == at->area &&
            c->f->place[other].offset == at->offset)
            return c->buffer[other];
    return NULL;
}

void cu_name_buffers(Code *c, const GpuBody *x)
{
    c->buffer = NEWN(c->arena, const char *, c->l->buffers.len);
    c->parameters = (Parameters){0};
    for (int at = 0; at < x->k->n_access; at++) {
        BufId b = x->k->access[at].buf;
        bool written = writes(c->l, x->k, buffer_root(c->l, b));
        if (!body_touches(x, (AccessId)at))
            continue;
        if (!c->buffer[b])
            c->buffer[b] = name_of_same(c, b);
        if (!c->buffer[b])
            add_parameter(c, b, role(c, b, written), written);
    }
    if (body_is_cut(x))
        add_partial(c, x->contract, body_is_product(x));
}

void cu_name_areas(Code *c, const GpuBody *bodies, int n)
{
    static const struct { const char *type, *name, *note; } text[] = {
        [AREA_STATE] = {"char *", "state", "parameters, running statistics, the optimizer's state"}, [AREA_WORK] = {"char *", "work", "values"},
        [AREA_CONST] = {"const char *", "consts", "weights"}, [AREA_IN] = {"const char *", "in", "a batch"},
        [AREA_LABELS] = {"const char *", "labels", "its labels"}, [AREA_OUT] = {"char *", "out", "its outputs"},
        [AREA_SCALARS] = {"const char *", "scalars", "learning rate and the like"}, [AREA_RESULTS] = {"char *", "results", "loss, right answers"}};
    c->buffer = NEWN(c->arena, const char *, c->l->buffers.len);
    c->parameters = (Parameters){0};
    bool seen[ARRAY_LEN(text)] = {false};
    for (int i = 0; i < n; i++)
        for (int at = 0; at < bodies[i].k->n_access; at++) {
            BufId b = bodies[i].k->access[at].buf;
            Area area = c->f->place[b].area;
            if (!c->buffer[b])
                c->buffer[b] = free_name(c, identifier(c->arena, c->l->buffers.at[b].name));
            if (area != AREA_SCRATCH && !seen[area])
                vec_push(c->arena, &c->parameters, ((Parameter){{area, 0}, text[area].type, text[area].name, text[area].note}));
            seen[area] = true;
        }
}

void cu_parameters(Code *c)
{
    int width = 0;
    for (uint32_t i = 0; i < c->parameters.len; i++) {
        int n = (int)(strlen(c->parameters.at[i].type) + strlen(c->parameters.at[i].name));
        width = n > width ? n : width;
    }
    for (uint32_t i = 0; i < c->parameters.len; i++) {
        const Parameter *p = &c->parameters.at[i];
        cu_line(c, "    %s%s,%*s // %s", p->type, p->name, width - (int)(strlen(p->type) + strlen(p->name)), "", p->note);
    }
    cu_line(c, "    int samples)");
}

static void pointer_in_area(Code *c, BufId b)
{
    const Buffer *x = &c->l->buffers.at[b];
    const Place *p = &c->f->place[b];
    bool is_shared = p->area == AREA_SCRATCH;
    const char *constant = writes(c->l, c->k, buffer_root(c->l, b)) ? "" : "const ", *type = cu_type(x->dtype), *base = "shared", *back = "";
    for (uint32_t i = 0; i < c->parameters.len; i++)
        if (c->parameters.at[i].place.area == p->area)
            base = c->parameters.at[i].name;
    if (is_shared && x->batched && x->shape.dim[0])
        back = arena_printf(c->arena, " - first * %lld", (long long)(buffer_elements(x) / x->shape.dim[0]));
    if (p->offset)
        base = arena_printf(c->arena, is_shared ? "((%schar *)%s + %lld)" : "(%.0s%s + %lld)", constant, base, (long long)p->offset);
    cu_line(c, "%s%s *%s = (%s%s *)%s%s;   // %s %s%s", constant, type, c->buffer[b], constant, type, base, back, x->name,
            shape_text(c->arena, &x->shape, false), is_shared ? ", shared" : "");
}

void cu_pointers(Code *c)
{
    bool *seen = NEWN(c->arena, bool, c->l->buffers.len);
    for (int i = 0; i < c->k->n_access; i++) {
        BufId b = c->k->access[i].buf;
        if (!seen[b])
            pointer_in_area(c, b);
        seen[b] = true;
    }
}

/* ---- comments ---- */

/* A part of a cut product as a kernel of its own: SUM goes to slices, or comes from them. Their buffer is that of the new access. */
static Kernel cut_kernel(Arena *a, const GpuBody *x)
{
    Kernel k = *x->k;
    ExprId sum = x->contract->sum;
    AccessId partial = (AccessId)k.n_access++;
    k.access = NEWN(a, Access, k.n_access);
    memcpy(k.access, x->k->access, sizeof *k.access * (size_t)partial);
    k.access[partial] = (Access){.buf = x->contract->partial};
    k.expr = NEWN(a, Expr, k.n_expr);
    memcpy(k.expr, x->k->expr, sizeof *k.expr * (size_t)k.n_expr);
    if (x->form == GPU_PARTS) {
        k.expr[sum] = (Expr){.op = EX_LOAD, .at = partial};
        return k;
    }
    k.n_expr = sum + 1;
    k.n_out = 1;
    k.out[0] = (Out){.at = partial, .value = sum};
    return k;
}

/* The kernel with the names of the text: each access reads a buffer of its own. */
static void print_renamed(Code *c, const GpuBody *x, FILE *to)
{
    KernelList l = *c->l;
    Kernel k = body_is_cut(x) ? cut_kernel(c->arena, x) : *c->k;
    Access *access = NEWN(c->arena, Access, k.n_access);
    l.buffers.at = NEWN(c->arena, Buffer, k.n_access + 1);
    for (int i = 0; i < k.n_access; i++) {
        BufId b = k.access[i].buf;
        l.buffers.at[i + 1] = c->l->buffers.at[b];
        if (body_is_cut(x) && b == x->contract->partial)
            l.buffers.at[i + 1].name = x->form == GPU_PARTS ? "SUM(partial)" : "partial of a slice";
        else if (c->buffer[b])
            l.buffers.at[i + 1].name = c->buffer[b];
        access[i] = k.access[i];
        access[i].buf = (BufId)(i + 1);
    }
    k.access = access;
    k.name = cu_kernel_name(c->arena, c->l, c->k);
    kernel_print(&l, &k, to);
}

void cu_comment(Code *c, const GpuBody *x)
{
    char *text = NULL;
    size_t size = 0;
    FILE *m = open_memstream(&text, &size);
    if (!m)
        BUG("no memory");
    if (c->in_slice)
        kernel_print(c->l, c->k, m);
    else
        print_renamed(c, x, m);
    fclose(m);
    const Graph *g = c->l->graph;
    if (c->in_slice && c->k->layer >= 0 && (uint32_t)c->k->layer < g->layers.len)
        cu_line(c, "// layer %s: %s", g->layers.at[c->k->layer].name, g->layers.at[c->k->layer].type);
    for (char *line = text, *end; *line; line = end) {
        end = strchr(line, '\n') + 1;
        cu_line(c, "// %.*s", (int)(end - line - 1), line);
    }
    free(text);
}
