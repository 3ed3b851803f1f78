/* Pointwise kernels become part of the pointwise kernel that alone reads what they make: one launch and one buffer less.
 * In: a kernel list. Out: the same list without the kernels that were joined to a reader.
 * A kernel joins when it has no reductions, one output, a short formula, and one reader, which has no reductions either and reads every
 * element at indices that are an axis each (a max pooling's gradient reads a ReLU's). What it reads must still be as it was. */
#include "codegen/gpu/code.h"
#include "codegen/choose.h"

#include <string.h>

enum { MOST_EXPRS = 24 };

/* Its values can be computed wherever they are read: they need no loop of their own, and do not ask where they are stored. */
static bool values_can_move(const Kernel *k)
{
    for (ExprId e = 1; e < k->n_expr; e++)
        if (k->expr[e].axes || k->expr[e].op == EX_ROWINDEX)
            return false;
    return k->part == WINOGRAD_NONE;
}

/* A kernel's output is the whole of a value that nobody sees in another shape. */
static bool may_join(const KernelList *l, const Kernel *k)
{
    if (k->n_out != 1 || k->n_expr > MOST_EXPRS || !values_can_move(k))
        return false;
    const Access *out = &k->access[k->out[0].at];
    const Buffer *b = &l->buffers.at[out->buf];
    bool alone = b->kind == BUF_WORK && b->dtype == DT_F32 && out->rank == k->n_axes;
    for (uint32_t i = 1; alone && i < l->buffers.len; i++)
        alone = i == (uint32_t)out->buf || buffer_root(l, (BufId)i) != buffer_root(l, out->buf);
    for (int d = 0; alone && d < out->rank; d++)
        alone = affine_pure_axis(&out->dim[d], k->n_axes) >= 0;
    for (int at = 0; alone && at < k->n_access; at++)
        for (int d = 0; alone && d < k->access[at].rank; d++)
            alone = !k->access[at].dim[d].table;
    return alone;
}

static bool touches(const KernelList *l, const Kernel *k, BufId root, bool writes)
{
    for (int at = 0; at < k->n_access; at++)
        if (buffer_root(l, k->access[at].buf) == root && (!writes || kernel_writes(k, (AccessId)at)))
            return true;
    return false;
}

/* The only kernel behind i that has to do with what i makes, when nothing that i reads changes before it runs; -1: there is none. */
static int only_reader(const KernelList *l, uint32_t i)
{
    const Kernel *k = &l->kernels.at[i];
    int found = -1;
    for (uint32_t j = 0; j < l->kernels.len; j++)
        if (j != i && touches(l, &l->kernels.at[j], buffer_root(l, k->access[k->out[0].at].buf), false)) {
            if (found >= 0 || j < i)
                return -1;
            found = (int)j;
        }
    for (int j = (int)i + 1; j < found; j++)
        for (int at = 0; at < k->n_access; at++)
            if (touches(l, &l->kernels.at[j], buffer_root(l, k->access[at].buf), true))
                return -1;
    for (int at = 0; found >= 0 && at < k->n_access; at++)
        if (touches(l, &l->kernels.at[found], buffer_root(l, k->access[at].buf), true))
            return -1;
    return found;
}

/* ---- joining ---- */
typedef struct { KernelList *l; const Kernel *from; Kernel *to; int8_t axis[MAX_AXIS]; ExprId *done; } Join;

/* The axes of `from` where `to` reads its output. False: an index is no axis, or reads past the ends. */
static bool map_axes(Join *j, const Access *read)
{
    const Access *out = &j->from->access[j->from->out[0].at];
    memset(j->axis, -1, sizeof j->axis);
    for (int d = 0; d < out->rank; d++) {
        int here = affine_pure_axis(&out->dim[d], j->from->n_axes), there = affine_pure_axis(&read->dim[d], j->to->n_axes);
        if (there < 0 || read->dim[d].guarded || j->from->axis[here].extent != j->to->axis[there].extent ||
            j->from->axis[here].batch != j->to->axis[there].batch)
            return false;
        j->axis[here] = (int8_t)there;
    }
    return true;
}

static AccessId joined_access(Join *j, AccessId at)
{
    const Access *from = &j->from->access[at];
    AccessId id = kernel_access(j->l, j->to, from->buf);
    j->to->access[id].fill = from->fill;
    for (int d = 0; d < from->rank; d++) {
        Affine f = from->dim[d];
        memset(f.coef, 0, sizeof f.coef);
        for (int a = 0; a < j->from->n_axes; a++)
            if (from->dim[d].coef[a])
                f.coef[j->axis[a]] += from->dim[d].coef[a];
        j->to->access[id].dim[d] = f;
    }
    return id;
}

static ExprId joined(Join *j, ExprId e)
{
    if (!e || j->done[e])
        return e ? j->done[e] : 0;
    Expr x = j->from->expr[e];
    if (x.op == EX_LOAD) {
        j->done[e] = expr_load(j->l, j->to, joined_access(j, x.at));
        return j->done[e];
    }
    x.a = joined(j, x.a);
    x.b = joined(j, x.b);
    x.c = joined(j, x.c);
    if (x.op == EX_INDEX)
        x.axis = j->axis[x.axis];
    j->done[e] = expr_add(j->l, j->to, x);
    return j->done[e];
}

/* `to` anew, with the formula of `from` in place of its only load of that buffer. */
static bool join(Arena *a, KernelList *l, const Kernel *from, const Kernel *old, Kernel *out)
{
    BufId b = from->access[from->out[0].at].buf;
    Kernel *to = kernel_part(l, old->name, old);
    Join j = {.l = l, .from = from, .to = to, .done = NEWN(a, ExprId, from->n_expr)},
         same = {.l = l, .from = old, .to = to, .done = NEWN(a, ExprId, old->n_expr)};
    for (int x = 0; x < old->n_axes; x++) {
        same.axis[x] = (int8_t)kernel_axis(to, old->axis[x].kind, old->axis[x].name, old->axis[x].extent, old->axis[x].batch);
        to->axis[same.axis[x]] = old->axis[x];
    }
    to->macs = old->macs;
    for (ExprId e = 1; e < old->n_expr; e++) {
        if (old->expr[e].op != EX_LOAD || old->access[old->expr[e].at].buf != b)
            continue;
        memset(j.done, 0, sizeof *j.done * (size_t)from->n_expr);
        if (!map_axes(&j, &old->access[old->expr[e].at]))
            return false;
        same.done[e] = joined(&j, from->out[0].value);
    }
    for (int o = 0; o < old->n_out; o++) {
        ExprId v = joined(&same, old->out[o].value);
        kernel_out(to, joined_access(&same, old->out[o].at), v);
    }
    *out = *to;
    return true;
}

void joins_find(Arena *a, KernelList *l)
{
    for (uint32_t i = 0; i < l->kernels.len; i++) {
        int reader = may_join(l, &l->kernels.at[i]) ? only_reader(l, i) : -1;
        Kernel *to = reader >= 0 ? &l->kernels.at[reader] : NULL;
        if (!to || !values_can_move(to) || !join(a, l, &l->kernels.at[i], to, to))
            continue;
        l->kernels.len--;
        memmove(&l->kernels.at[i], &l->kernels.at[i + 1], sizeof *l->kernels.at * (l->kernels.len - i));
        i--;
    }
}
