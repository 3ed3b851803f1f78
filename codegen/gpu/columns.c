/* Values of a product's epilogue that depend on the column alone, such as a batchnorm's scale: computed once for each column of a
 * thread instead of once for each of its sums, which saves work and most of the time that the text takes to compile.
 * In: a product whose sum has a name. Out: an array for each such value, of which c->name knows. Loads alone are left where they
 * are: they cost little, and arrays cost registers. */
#include "codegen/gpu/code.h"
#include "ir/base/vec.h"

typedef Vec(ExprId) Exprs;

static uint32_t group_mask(const AxisGroup *g)
{
    uint32_t mask = 0;
    for (int i = 0; i < g->n; i++)
        mask |= 1u << g->axis[i];
    return mask;
}

static bool is_computed(const Expr *x)
{
    return x->op != EX_LOAD && x->op != EX_CONST && x->op != EX_ICONST && x->op != EX_INDEX && x->op != EX_N && x->op != EX_ROWINDEX &&
           x->axes == 0 && !x->is_int && !x->is_bool;
}

/* The largest parts of e that are computed from columns only. */
static void find_values(Code *c, const Contract *p, ExprId e, Exprs *out)
{
    const Expr *x = &c->k->expr[e];
    uint32_t cols = group_mask(&p->col), others = group_mask(&p->row) | group_mask(&p->depth);
    if (!e || c->name[e])
        return;
    if (!is_computed(x) || (x->free_axes & others) || !(x->free_axes & cols)) {
        find_values(c, p, x->a, out);
        find_values(c, p, x->b, out);
        find_values(c, p, x->c, out);
        return;
    }
    for (uint32_t i = 0; i < out->len; i++)
        if (out->at[i] == e)
            return;
    vec_push(c->arena, out, e);
}

void cu_columns(Code *c, const Contract *p, const Columns *cols)
{
    Exprs values = {0};
    for (int o = 0; o < c->k->n_out; o++)
        find_values(c, p, c->k->out[o].value, &values);
    if (!values.len)
        return;
    const char **kept = cu_keep(c);
    for (uint32_t i = 0; i < values.len; i++)
        cu_line(c, "float column_e%d[%d];", values.at[i], cols->count);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int %s = 0; %s < %d; %s++)", cols->index, cols->index, cols->count, cols->index);
    cu_line(c, "const int col = %s;", cols->col);
    cu_line(c, "if (col >= %s) continue;", cols->limit);
    cu_split(c, "col", p->col.axis, p->col.n);
    for (uint32_t i = 0; i < values.len; i++)
        cu_line(c, "column_e%d[%s] = %s;", values.at[i], cols->index, cu_value(c, values.at[i]));
    cu_close(c);
    cu_restore(c, kept);
    for (uint32_t i = 0; i < values.len; i++)
        c->name[values.at[i]] = arena_printf(c->arena, "column_e%d[%s]", values.at[i], cols->index);
}
