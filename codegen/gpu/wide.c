/* Four neighbours at once: loads and stores of 16 bytes.
 * In: an axis along which a body takes four points a step. Out: lines that load four elements of each access that allows it into an
 * array, a loop over the four in which those loads have names, and stores of four.
 * Relies on buffers that begin at multiples of 16 bytes. An access allows it when the axis is its innermost one, nothing guards the
 * axis, and all other steps are multiples of four; what does not is loaded one by one. */
#include "codegen/gpu/code.h"

/* Elements of 4 bytes that lie side by side along the axis, the first of each four at a multiple of four. */
bool wide_access(const KernelList *l, const Kernel *k, AccessId at, int axis)
{
    const Access *s = &k->access[at];
    const Buffer *b = &l->buffers.at[s->buf];
    int64_t stride[MAX_RANK];
    layout_strides(b, stride);
    if ((b->dtype != DT_F32 && b->dtype != DT_I32) || access_stride(l, k, at, axis) != 1)
        return false;
    for (int d = 0; d < s->rank; d++) {
        const Affine *f = &s->dim[d];
        if (f->table || f->div > 1 || f->guarded || stride[d] * f->offset % WIDE)
            return false;
        for (int a = 0; a < k->n_axes; a++)
            if (f->coef[a] < 0 || (a != axis && stride[d] * f->coef[a] % WIDE))
                return false;
    }
    return true;
}

static bool is_dense(const Kernel *k, int axis) { return k->axis[axis].extent % WIDE == 0 && !k->axis[axis].batch; }

bool wide_map_pays(const KernelList *l, const Kernel *k, int axis)
{
    enum { LEAST_POINTS = 1 << 18 };   /* fewer are better spread over the GPU */
    if (!is_dense(k, axis) || axes_points(k, out_axes(k, 0)) < LEAST_POINTS)
        return false;
    for (int e = 1; e < k->n_expr; e++)
        if (k->expr[e].axes)   /* a reduction in each thread has loads enough under way */
            return false;
    for (int o = 0; o < k->n_out; o++)
        if (!wide_access(l, k, k->out[o].at, axis))
            return false;
    return true;
}

int wide_sum_axis(const Code *c, uint32_t axes)
{
    const Kernel *k = c->k;
    int axis = -1;
    for (int a = 0; a < k->n_axes; a++)
        axis = axes >> a & 1 ? a : axis;
    if (c->in_slice || c->columns || axis < 0 || !is_dense(k, axis))
        return -1;
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].op == EX_LOAD && (k->expr[e].free_axes & axes) && wide_access(c->l, k, k->expr[e].at, axis))
            return axis;
    return -1;
}

static const char *type_at(const Code *c, AccessId at) { return c->l->buffers.at[c->k->access[at].buf].dtype == DT_I32 ? "int" : "float"; }
static const char *suffix_at(const Code *c, AccessId at) { return c->l->buffers.at[c->k->access[at].buf].dtype == DT_I32 ? "i" : ""; }

void wide_open(Code *c, int axis)
{
    const char *name = c->k->axis[axis].name;
    bool *four = NEWN(c->arena, bool, c->k->n_expr);
    for (ExprId e = 1; e < c->k->n_expr; e++) {
        four[e] = c->k->expr[e].op == EX_LOAD && !c->name[e] && wide_access(c->l, c->k, c->k->expr[e].at, axis);
        if (four[e])
            cu_line(c, "%s four%d[%d];", type_at(c, c->k->expr[e].at), e, WIDE);
    }
    cu_block(c);
    cu_line(c, "const int %s = first_%s;", name, name);
    for (ExprId e = 1; e < c->k->n_expr; e++)
        if (four[e])
            cu_line(c, "load4%s(four%d, &%s);", suffix_at(c, c->k->expr[e].at), e, cu_element(c, c->k->expr[e].at));
    cu_close(c);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int u = 0; u < %d; u++)", WIDE);
    cu_line(c, "const int %s = first_%s + u;", name, name);
    for (ExprId e = 1; e < c->k->n_expr; e++)
        if (four[e])
            c->name[e] = arena_printf(c->arena, "four%d[u]", e);
}

void wide_map(Code *c, int axis)
{
    const Kernel *k = c->k;
    for (int o = 0; o < k->n_out; o++)
        cu_hoist(c, k->out[o].value, 1u << axis);
    for (int o = 0; o < k->n_out; o++)
        cu_line(c, "%s result%d[%d];", type_at(c, k->out[o].at), o, WIDE);
    const char **kept = cu_keep(c);
    wide_open(c, axis);
    for (int o = 0; o < k->n_out; o++)
        cu_line(c, "result%d[u] = %s;", o, cu_value(c, k->out[o].value));
    cu_close(c);
    cu_restore(c, kept);
    cu_line(c, "const int %s = first_%s;", k->axis[axis].name, k->axis[axis].name);
    for (int o = 0; o < k->n_out; o++)
        cu_line(c, "store4%s(&%s, result%d);", suffix_at(c, k->out[o].at), cu_element(c, k->out[o].at), o);
}
