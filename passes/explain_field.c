/* The receptive field of a layer, step by step from the input.
 * In: the layer and the fields of all values. Out: one line per layer that widens the field.
 * Invariant: the last line's field is the layer's own.
 * Idea: walk back along the way with the larger field, then print forwards:
 *     field += (kernel - 1) * dilation * jump;   jump *= stride */
#include "passes/explain.h"

#include <inttypes.h>
#include <string.h>

enum { LONGEST_PATH = 4096, SHOWN_STEPS = 40 };

static bool widens(const Node *n)
{
    return n->op == OP_CONV || n->op == OP_MAXPOOL || n->op == OP_AVGPOOL || n->op == OP_ADAPTIVE_AVG || n->op == OP_ADAPTIVE_MAX;
}

/* Where sums and concats join, the input with the larger field. */
static ValueId wider_input(const Explain *e, const Node *n)
{
    ValueId best = n->in[0];
    if (n->op != OP_ADD && n->op != OP_CONCAT)
        return best;
    for (int i = 1; i < n->n_in; i++)
        if (e->facts->field[n->in[i]].size[0] > e->facts->field[best].size[0])
            best = n->in[i];
    return best;
}

static int path_from_input(const Explain *e, const Node *last, const Node **path)
{
    int n = 0;
    for (const Node *at = last; at && n < LONGEST_PATH;) {
        if (widens(at))
            path[n++] = at;
        ValueId v = at->n_in ? wider_input(e, at) : 0;
        at = v ? graph_def(e->g, v) : NULL;
    }
    for (int i = 0; i < n / 2; i++) {
        const Node *t = path[i];
        path[i] = path[n - 1 - i];
        path[n - 1 - i] = t;
    }
    return n;
}

typedef struct {
    int64_t kernel, dilation;
    double stride;
} Step;

static Step step_of(const Explain *e, const Node *n, int axis)
{
    if (n->op == OP_CONV)
        return (Step){n->attrs.conv.kernel[axis], n->attrs.conv.dilation[axis], (double)n->attrs.conv.stride[axis]};
    if (n->op == OP_MAXPOOL || n->op == OP_AVGPOOL)
        return (Step){n->attrs.pool.kernel[axis], n->attrs.pool.dilation[axis], (double)n->attrs.pool.stride[axis]};
    const Field *before = &e->facts->field[n->in[0]], *after = &e->facts->field[n->out[0]];
    double bin = (double)(after->size[axis] - before->size[axis]) / before->jump[axis] + 1;
    return (Step){(int64_t)(bin + 0.5), 1, after->jump[axis] / before->jump[axis]};
}

static void print_steps(const Explain *e, const Node **path, int n, int axis, const char *name)
{
    bool last_only = e->brief && n > 1;
    int width = (int)strlen("input");
    for (int i = last_only ? n - 1 : 0; i < n; i++) {
        const Layer *l = &e->g->layers.at[path[i]->layer];
        int needs = (int)(strlen(l->name) + strlen(l->type)) + 1;
        width = needs > width ? needs : width;
    }
    if (!last_only)
        fprintf(e->to, "  %-*s  field 1, jump 1%s\n", width, "input", name);
    for (int i = last_only ? n - 1 : 0; i < n; i++) {
        const Layer *l = &e->g->layers.at[path[i]->layer];
        const Field *before = &e->facts->field[path[i]->in[0]], *after = &e->facts->field[path[i]->out[0]];
        if (n > SHOWN_STEPS && i == SHOWN_STEPS / 2 && !last_only) {
            fprintf(e->to, "  %-*s  (%d more layers)\n", width, "...", n - SHOWN_STEPS);
            i = n - SHOWN_STEPS / 2 - 1;
            continue;
        }
        Step s = step_of(e, path[i], axis);
        const char *dilated = s.dilation > 1 ? arena_printf(e->a, "*%" PRId64, s.dilation) : "";
        fprintf(e->to, "  %-*s  field %" PRId64 " + (%" PRId64 "-1)%s*%g = %" PRId64 ", jump %g*%g = %g%s\n", width,
                arena_printf(e->a, "%s %s", l->name, l->type), before->size[axis], s.kernel, dilated, before->jump[axis],
                after->size[axis], before->jump[axis], s.stride, after->jump[axis], last_only ? name : "");
    }
}

void explain_field(const Explain *e)
{
    const Field *f = &e->f->field;
    const Shape *image = &e->g->input_shape;
    if ((e->brief && e->n && !widens(e->n)) || !e->n || (f->whole && image->rank < 2))
        return;
    explain_head(e, "Receptive field");
    if (f->whole) {
        fputs(e->n->op == OP_RESHAPE ? "  From here on there are no rows and columns: what follows sees the whole input.\n"
                                     : "  Every number here depends on the whole input.\n",
              e->to);
        return;
    }
    const Node **path = NEWN(e->a, const Node *, LONGEST_PATH);
    int n = path_from_input(e, e->n, path);
    bool same = true;
    for (int i = 1; i < f->nd; i++)
        for (int k = 0; k < n; k++) {
            Step s = step_of(e, path[k], 0), t = step_of(e, path[k], i);
            same = same && s.kernel == t.kernel && s.dilation == t.dilation && s.stride == t.stride;
        }
    static const char *const names[][3] = {
        {"", "", ""}, {"", "", ""}, {"   (rows)", "   (columns)", ""}, {"   (depth)", "   (rows)", "   (columns)"}};
    for (int i = 0; i < (same ? 1 : f->nd); i++)
        print_steps(e, path, n, i, same ? "" : names[f->nd][i]);
    const char *size = "", *of = "";
    for (int i = 0; i < f->nd; i++) {
        size = arena_printf(e->a, "%s%s%" PRId64, size, i ? "x" : "", f->size[i]);
        of = arena_printf(e->a, "%s%s%" PRId64, of, i ? "x" : "", image->dim[i + 1]);
    }
    fprintf(e->to, "  Each number here depends on %s of the %s input; its neighbour looks %g further along.\n", size, of,
            f->jump[0]);
    if (widens(e->n))
        explain_say(e, "The kernel widens the field by (K-1)*D*jump at once; the stride only multiplies the jump, so it widens "
                       "what comes after. "
                       "Padding does not enter: it adds border, not sight.");
}
