/* Winograd's transforms as device functions.
 * In: the launches of a text. Out: a function for each transform of each form that they use, in front of all kernels.
 * Idea: a kernel only says how far apart its results lie. NVRTC puts a function in place when it has tidied it once, where lines in
 * every kernel cost it, and us, as much again; registers and instructions are the same. */
#include "codegen/gpu/winograd.h"

typedef struct { const char *name; WinogradRow row; bool from_outputs, to_outputs, to_taps; } Transform;
static const Transform transforms[TRANSFORMS] = {
    [TRANSFORM_INPUTS] = {.name = "inputs", .row = winograd_input_row},
    [TRANSFORM_OUTPUTS] = {.name = "outputs", .row = winograd_output_row, .to_outputs = true},
    [TRANSFORM_SPREAD] = {.name = "spread", .row = winograd_spread_row, .from_outputs = true},
    [TRANSFORM_TAPS] = {.name = "taps", .row = winograd_taps_row, .to_taps = true},
};

const char *winograd_function(Arena *a, const WinogradForm *f, WinogradTransform t)
{
    return arena_printf(a, "winograd_%s_%dx%d_%dx%d", transforms[t].name, f->m, f->m, f->r, f->r);
}

/* from[n][n] as loads of a kernel, and what the transform makes of them as its n_to^2 outputs. */
static Kernel *transform_kernel(KernelList *l, const WinogradForm *f, const Transform *t, ExprId *from, int n_to)
{
    int n = t->from_outputs ? f->m : f->a;
    Kernel *k = kernel_new(l, "transform", -1, (Span){0});
    const Buffer in = {.name = "from", .kind = BUF_WORK, .dtype = DT_F32, .shape = shape_of(1, n * n), .layout = layout_plain(1)};
    BufId b = kernels_add_buffer(l, &in);
    ExprId to[MAX_A * MAX_A];
    for (int i = 0; i < n * n; i++) {
        AccessId at = kernel_access(l, k, b);
        access_dim(k, at, 0)->offset = i;
        from[i] = expr_load(l, k, at);
    }
    winograd_square(l, k, f, t->row, from, n, to, n_to);
    for (int i = 0; i < n_to * n_to; i++)
        kernel_out(k, 0, to[i]);
    return k;
}

static void emit_function(Code *c, const WinogradForm *f, WinogradTransform t)
{
    const Transform *x = &transforms[t];
    int n = x->from_outputs ? f->m : f->a, n_to = x->to_outputs ? f->m : x->to_taps ? f->r : f->a;
    ExprId from[MAX_A * MAX_A];
    KernelList *l = kernels_new(c->arena, c->l->graph);
    Code of = {.arena = c->arena, .to = c->to, .l = l};
    cu_begin(&of, transform_kernel(l, f, x, from, n_to));
    for (int i = 0; i < n * n; i++)
        of.name[from[i]] = arena_printf(c->arena, "from[%d]", i);
    fputc('\n', c->to);
    cu_line(&of, "// Winograd %s: [%d][%d] to [%d][%d], `pitch` from one to the next.", f->name, n, n, n_to, n_to);
    cu_line(&of, "static __device__ __forceinline__ void %s(const float *from, float *to, int pitch)", winograd_function(c->arena, f, t));
    cu_block(&of);
    for (int i = 0; i < n_to * n_to; i++)
        cu_line(&of, "to[%d * pitch] = %s;", i, cu_value(&of, of.k->out[i].value));
    cu_close(&of);
}

/* ---- which of them ---- */
typedef struct { bool used[WINOGRAD_FORMS][TRANSFORMS]; } Used;

static void add_used(Used *u, const Function *f)
{
    for (int i = 0; f && i < f->gpu->n_launches; i++)
        for (int j = 0; j < f->gpu->launches[i].n_bodies; j++) {
            const GpuBody *b = &f->gpu->launches[i].body[j];
            const GpuWinograd *w = b->form == GPU_CONTRACT ? b->contract->winograd : NULL;
            if (!w)
                continue;
            bool *used = u->used[w->form - winograd_forms];
            used[TRANSFORM_INPUTS] = true;
            used[TRANSFORM_OUTPUTS] = used[TRANSFORM_OUTPUTS] || !w->of_weights;
            used[TRANSFORM_SPREAD] = used[TRANSFORM_SPREAD] || w->of_weights;
            used[TRANSFORM_TAPS] = used[TRANSFORM_TAPS] || w->of_weights;
        }
}

void winograd_functions(Arena *a, const Program *p, FILE *to)
{
    const Function *any = p->infer ? p->infer : p->step;
    Code c = {.arena = a, .to = to, .l = any->kernels};
    Used u = {0};
    add_used(&u, p->infer);
    add_used(&u, p->eval);
    add_used(&u, p->step);
    for (int f = 0; f < WINOGRAD_FORMS; f++)
        for (int t = 0; t < TRANSFORMS; t++)
            if (u.used[f][t])
                emit_function(&c, &winograd_forms[f], (WinogradTransform)t);
}
