/* The text form of kernels (--dump=kernels):
 *
 *   conv1.fwd  n<=64 k=20 p=24 q=24 | c=1 r=5 s=5
 *     y[n,k,p,q] = relu(SUM[c,r,s](x[n,c,p+r-2 in 0..28,q+s-2 in 0..28] * w[k,c,r,s]) + b[k])
 *
 * Axes before the bar are parallel, those after it reduced; `<=` marks the batch. A value used twice gets a line of its
 * own, `t7 = ...`, before the first output.
 * In: a KernelList. Out: text. Relies on nothing but valid indices, so that it can show kernels the verifier refuses. */
#include "codegen/kernel.h"
#include <stdlib.h>

typedef struct { const KernelList *l; const Kernel *k; FILE *to; const uint8_t *named; } Print;

static const char *const op_names[] = {
#define SCALAR(id, text, arity, c) [EX_##id] = text,
#include "ir/scalars.def"
#undef SCALAR
};
static const uint8_t op_arity[] = {
#define SCALAR(id, text, arity, c) [EX_##id] = arity,
#include "ir/scalars.def"
#undef SCALAR
};

static const char *infix(ExprOp op)
{
    switch (op) {
    case EX_ADD: case EX_IADD: return " + ";
    case EX_SUB: return " - ";
    case EX_MUL: case EX_IMUL: return " * ";
    case EX_DIV: return " / ";
    case EX_LT: return " < ";
    case EX_ULT: return " <u ";
    case EX_LE: return " <= ";
    case EX_GT: return " > ";
    case EX_GE: return " >= ";
    case EX_EQ: case EX_IEQ: return " == ";
    case EX_AND: return " and ";
    case EX_OR: return " or ";
    case EX_IXOR: return " ^ ";
    case EX_ISHR: return " >> ";
    default: return NULL;
    }
}

static void print_affine(const Print *p, const Affine *f, const Buffer *b, int d)
{
    bool any = false;
    if (f->div > 1)
        fputc('(', p->to);
    if (f->table) {
        fprintf(p->to, "table%s[%s", f->table_axis2 >= 0 ? "2" : "", p->k->axis[f->table_axis].name);
        if (f->table_axis2 >= 0)
            fprintf(p->to, ",%s", p->k->axis[f->table_axis2].name);
        fputc(']', p->to);
        any = true;
    }
    for (int x = 0; x < p->k->n_axes; x++) {
        int c = f->coef[x];
        if (c == 0)
            continue;
        fputs(c < 0 ? "-" : any ? "+" : "", p->to);
        if (c != 1 && c != -1)
            fprintf(p->to, "%d", c < 0 ? -c : c);
        fputs(p->k->axis[x].name, p->to);
        any = true;
    }
    if (f->offset || !any)
        fprintf(p->to, any ? "%+d" : "%d", f->offset);
    if (f->div > 1)
        fprintf(p->to, ")/%d", f->div);
    if (f->guarded && f->table == NULL && f->lo == 0 && f->hi == b->shape.dim[d])
        fprintf(p->to, " in 0..%d", f->hi);
    else if (f->guarded)
        fprintf(p->to, " in %d..%d", f->lo, f->hi);
}

static void print_access(const Print *p, AccessId at)
{
    const Access *s = &p->k->access[at];
    const Buffer *b = &p->l->buffers.at[s->buf];
    bool guarded = false;
    fputs(b->name, p->to);
    if (s->rank == 0)
        return;
    fputc('[', p->to);
    for (int d = 0; d < s->rank; d++) {
        if (d)
            fputc(',', p->to);
        print_affine(p, &s->dim[d], b, d);
        guarded |= s->dim[d].guarded;
    }
    if (guarded && s->fill != 0)
        fprintf(p->to, " else %g", (double)s->fill);
    fputc(']', p->to);
}

static void print_axes(const Print *p, uint32_t axes)
{
    const char *sep = "[";
    for (int x = 0; x < p->k->n_axes; x++) {
        if (axes >> x & 1) {
            fprintf(p->to, "%s%s", sep, p->k->axis[x].name);
            sep = ",";
        }
    }
    fputs(axes ? "]" : "[]", p->to);
}

static void print_expr(const Print *p, ExprId id, bool nested);

/* sel(x < 0, 0, x) is how activations.def writes relu. */
static bool print_relu(const Print *p, const Expr *e)
{
    const Expr *cond = &p->k->expr[e->a], *zero = &p->k->expr[e->b];
    if (e->op != EX_SEL || cond->op != EX_LT || cond->a != e->c || cond->b != e->b || zero->op != EX_CONST || zero->imm != 0)
        return false;
    fputs("relu(", p->to);
    print_expr(p, e->c, false);
    fputc(')', p->to);
    return true;
}

static void print_call(const Print *p, const char *name, const ExprId *args, int n)
{
    fprintf(p->to, "%s(", name);
    for (int i = 0; i < n; i++) {
        fputs(i ? ", " : "", p->to);
        print_expr(p, args[i], false);
    }
    fputc(')', p->to);
}

static void print_reduction(const Print *p, const Expr *e)
{
    fputs(e->op == EX_SUM ? "SUM" : e->op == EX_ARGMAX ? "ARGMAX" : "MAX", p->to);
    print_axes(p, e->axes);
    print_call(p, "", (ExprId[]){e->a, e->b}, e->op == EX_ARGMAX ? 2 : 1);
}

static void print_number(const Print *p, double v)
{
    char text[40];
    snprintf(text, sizeof text, "%.6g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof text, "%.17g", v);
    fputs(text, p->to);
}

static void print_body(const Print *p, ExprId id, bool nested)
{
    const Expr *e = &p->k->expr[id];
    switch (e->op) {
    case EX_CONST: print_number(p, e->imm); return;
    case EX_ICONST: fprintf(p->to, "%d", e->iimm); return;
    case EX_LOAD: print_access(p, e->at); return;
    case EX_INDEX: fprintf(p->to, "#%s", p->k->axis[e->axis].name); return;
    case EX_N: fputs("N", p->to); return;
    case EX_ROWINDEX: fputs("#row(", p->to); print_access(p, e->at); fputc(')', p->to); return;
    case EX_SUM: case EX_MAX_OVER: case EX_ARGMAX: print_reduction(p, e); return;
    default: break;
    }
    if (print_relu(p, e))
        return;
    if (infix(e->op)) {
        fputs(nested ? "(" : "", p->to);
        print_expr(p, e->a, true);
        fputs(infix(e->op), p->to);
        print_expr(p, e->b, true);
        fputs(nested ? ")" : "", p->to);
        return;
    }
    if (e->op == EX_DOT) {
        print_call(p, "dot", (ExprId[]){e->a, e->b}, 2);
        return;
    }
    print_call(p, op_names[e->op], (ExprId[]){e->a, e->b, e->c}, op_arity[e->op]);
}

static void print_expr(const Print *p, ExprId id, bool nested)
{
    if (p->named[id])
        fprintf(p->to, "t%d", id);
    else
        print_body(p, id, nested);
}

static bool is_leaf(ExprOp op)
{
    return op == EX_CONST || op == EX_ICONST || op == EX_LOAD || op == EX_INDEX || op == EX_N || op == EX_ROWINDEX;
}

/* Which values get a name: used more than once and more than a load. relu's own second use of its operand does not count. */
static void mark_named(const Kernel *k, uint8_t *named, int *uses)
{
    for (int i = 1; i < k->n_expr; i++) {
        const Expr *e = &k->expr[i];
        ExprId arg[3] = {e->a, e->b, e->c};
        for (int j = 0; j < 3; j++)
            uses[arg[j]]++;
        if (e->op == EX_SEL && k->expr[e->a].op == EX_LT && k->expr[e->a].a == e->c && k->expr[e->b].op == EX_CONST)
            uses[e->c]--;
    }
    for (int o = 0; o < k->n_out; o++)
        uses[k->out[o].value]++;
    for (int i = 1; i < k->n_expr; i++)
        named[i] = uses[i] > 1 && !is_leaf(k->expr[i].op);
}

static void print_head(const Kernel *k, FILE *to)
{
    fprintf(to, "%s ", k->name);
    for (int kind = AXIS_PAR; kind <= AXIS_RED; kind++) {
        bool first = true;
        for (int x = 0; x < k->n_axes; x++) {
            if (k->axis[x].kind != (AxisKind)kind)
                continue;
            fprintf(to, "%s%s%s%d", first && kind == AXIS_RED ? " | " : " ", k->axis[x].name, k->axis[x].batch ? "<=" : "=",
                    k->axis[x].extent);
            first = false;
        }
    }
    fputc('\n', to);
}

void kernel_print(const KernelList *l, const Kernel *k, FILE *to)
{
    ArenaMark mark = arena_mark(l->arena);
    uint8_t *named = NEWN(l->arena, uint8_t, k->n_expr + 1);
    Print p = {l, k, to, named};
    mark_named(k, named, NEWN(l->arena, int, k->n_expr + 1));
    print_head(k, to);
    for (int i = 1; i < k->n_expr; i++) {
        if (!named[i])
            continue;
        fprintf(to, "  t%d = ", i);
        print_body(&p, (ExprId)i, false);
        fputc('\n', to);
    }
    for (int o = 0; o < k->n_out; o++) {
        fputs("  ", to);
        print_access(&p, k->out[o].at);
        fputs(" = ", to);
        print_expr(&p, k->out[o].value, false);
        fputc('\n', to);
    }
    for (int i = 0; i < k->n_tile_sums; i++) {
        fputs("  ", to);
        print_access(&p, k->tile_sum[i].at);
        fputs(k->tile_moments && i == 1 ? " = of each tile: squared distances from the mean of " : " = of each tile: sum of ", to);
        print_expr(&p, k->tile_sum[i].value, false);
        fputc('\n', to);
    }
    arena_reset(l->arena, mark);
}

static const char *kind_text(BufKind k)
{
    static const char *const text[] = {[BUF_INPUT] = "input", [BUF_LABELS] = "labels", [BUF_OUTPUT] = "output",
                                       [BUF_STATE] = "state", [BUF_CONST] = "const", [BUF_SCALAR] = "scalar",
                                       [BUF_RESULT] = "result", [BUF_WORK] = "work"};
    return text[k];
}

static void buffer_print(const KernelList *l, const Buffer *b, FILE *to)
{
    static const char *const types[] = {
        [DT_F32] = "f32", [DT_I32] = "i32", [DT_U8] = "u8", [DT_I64] = "i64", [DT_BF16] = "bf16", [DT_BF16X2] = "bf16x2"};
    fprintf(to, "%s: %s %s%s", b->name, kind_text(b->kind), types[b->dtype], shape_text(l->arena, &b->shape, false));
    if (b->layout.block_dim >= 0)
        fprintf(to, " blocked(dim %d by %d)", b->layout.block_dim, b->layout.lanes);
    if (b->layout.paired)
        fprintf(to, " pairs(dim %d)", layout_pair_dim(&b->layout));
    if (b->alias_of)
        fprintf(to, " = %s", l->buffers.at[b->alias_of].name);
    if (b->updates)
        fprintf(to, " updates %s", l->buffers.at[b->updates].name);
    fputc('\n', to);
}

void kernels_print(const KernelList *l, FILE *to)
{
    for (uint32_t i = 1; i < l->buffers.len; i++)
        buffer_print(l, &l->buffers.at[i], to);
    for (uint32_t i = 0; i < l->kernels.len; i++)
        kernel_print(l, &l->kernels.at[i], to);
}
