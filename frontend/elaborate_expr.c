/* elaborate_expr.c: the value of an expression, by Python's rules.
 * In: an expression and the names in scope. Out: a Val; VK_ERROR when something was reported (E021x).
 * Invariant: no value is too large to hold (lists at most MAX_LIST items, integers 64 bits), so that no text can make the
 * compiler run out of memory or time. A VK_ERROR operand makes a silent VK_ERROR.
 * The idea: integers stay integers except under `/`; // and % round toward minus infinity. */
#include "frontend/elaborate_impl.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MAX_LIST = 1000000, MAX_STEPS = 3000000, MAX_ERRORS = 5000 };

static Val error_val(const Ast *ast) { return (Val){.kind = VK_ERROR, .ast = ast, .span = ast->span}; }

Val val_int(int64_t i, const Ast *ast) { return (Val){.kind = VK_INT, .i = i, .ast = ast, .span = ast->span}; }

static Val val_float(double f, const Ast *ast) { return (Val){.kind = VK_FLOAT, .f = f, .ast = ast, .span = ast->span}; }

static Val val_bool(bool b, const Ast *ast) { return (Val){.kind = VK_BOOL, .i = b, .ast = ast, .span = ast->span}; }

bool e_step(Elab *e, const Ast *at)
{
    /* A mistake inside a long loop is made again in each turn; what stands here is told once, and enough was seen. */
    if (e->stop || e->diags->errors + e->diags->repeated > MAX_ERRORS)
        return false;
    if (++e->steps > MAX_STEPS) {
        e->stop = true;
        return diag_error(e->diags, at->span, "E0230", "expanding this file takes more than %d steps", MAX_STEPS);
    }
    return true;
}

/* ---- arithmetic ---- */

static Val overflow(Elab *e, const Ast *ast)
{
    diag_error(e->diags, ast->span, "E0214", "the result does not fit in 64 bits");
    return error_val(ast);
}

static Val division_by_zero(Elab *e, const Ast *ast)
{
    diag_error(e->diags, ast->span, "E0213", "division by zero");
    return error_val(ast);
}

static Val int_power(Elab *e, const Ast *ast, int64_t base, int64_t exponent)
{
    int64_t r = 1;
    if (exponent < 0)
        return base == 0 ? division_by_zero(e, ast) : val_float(pow((double)base, (double)exponent), ast);
    if (base == 0 || base == 1)
        return val_int(exponent == 0 ? 1 : base, ast);
    if (base == -1)
        return val_int(exponent % 2 ? -1 : 1, ast);
    for (int64_t i = 0; i < exponent; i++)
        if (__builtin_mul_overflow(r, base, &r))
            return overflow(e, ast);
    return val_int(r, ast);
}

static Val int_arithmetic(Elab *e, const Ast *ast, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool lost = false;
    switch (ast->op) {
    case AO_ADD:
        lost = __builtin_add_overflow(a, b, &r);
        break;
    case AO_SUB:
        lost = __builtin_sub_overflow(a, b, &r);
        break;
    case AO_MUL:
        lost = __builtin_mul_overflow(a, b, &r);
        break;
    case AO_POW:
        return int_power(e, ast, a, b);
    default:
        if (b == 0)
            return division_by_zero(e, ast);
        if (ast->op == AO_DIV)
            return val_float((double)a / (double)b, ast);
        if (b == -1) { /* INT64_MIN // -1 overflows, INT64_MIN % -1 traps */
            lost = ast->op == AO_FLOORDIV && __builtin_sub_overflow(0, a, &r);
            break;
        }
        r = a % b;
        bool down = r != 0 && (r < 0) != (b < 0);
        if (ast->op == AO_FLOORDIV)
            r = a / b - down;
        else if (down)
            r += b;
    }
    return lost ? overflow(e, ast) : val_int(r, ast);
}

static Val float_arithmetic(Elab *e, const Ast *ast, double a, double b)
{
    double r = 0;
    if (b == 0 && (ast->op == AO_DIV || ast->op == AO_FLOORDIV || ast->op == AO_MOD))
        return division_by_zero(e, ast);
    switch (ast->op) {
    case AO_ADD:
        r = a + b;
        break;
    case AO_SUB:
        r = a - b;
        break;
    case AO_MUL:
        r = a * b;
        break;
    case AO_DIV:
        r = a / b;
        break;
    case AO_POW:
        r = pow(a, b);
        break;
    case AO_FLOORDIV:
        r = floor(a / b);
        break;
    default:
        r = a - floor(a / b) * b;
        break;
    }
    if (!isfinite(r)) {
        diag_error(e->diags, ast->span, "E0214", "the result is not a finite number");
        return error_val(ast);
    }
    return val_float(r, ast);
}

static Val list_of(ValKind kind, const Val *items, uint32_t n, const Ast *ast)
{
    return (Val){.kind = kind, .at = items, .n = n, .ast = ast, .span = ast->span};
}

static Val too_long(Elab *e, const Ast *ast)
{
    diag_error(e->diags, ast->span, "E0215", "this list has more than %d items", MAX_LIST);
    return error_val(ast);
}

static Val concatenate(Elab *e, const Ast *ast, const Val *a, const Val *b)
{
    if ((uint64_t)a->n + b->n > MAX_LIST)
        return too_long(e, ast);
    e->steps += a->n + b->n;
    Val *items = NEWN(e->arena, Val, a->n + b->n + 1);
    for (uint32_t i = 0; i < a->n; i++)
        items[i] = a->at[i];
    for (uint32_t i = 0; i < b->n; i++)
        items[a->n + i] = b->at[i];
    return list_of(a->kind, items, a->n + b->n, ast);
}

static Val repeat_list(Elab *e, const Ast *ast, const Val *list, int64_t times)
{
    if (times < 0)
        times = 0;
    if (list->n && times > MAX_LIST / list->n)
        return too_long(e, ast);
    e->steps += list->n * times;
    Val *items = NEWN(e->arena, Val, list->n * times + 1);
    for (int64_t k = 0; k < times; k++)
        for (uint32_t i = 0; i < list->n; i++)
            items[k * list->n + i] = list->at[i];
    return list_of(list->kind, items, (uint32_t)(list->n * times), ast);
}

static Val bad_operands(Elab *e, const Ast *ast, const Val *a, const Val *b)
{
    diag_error(e->diags, ast->span, "E0212", "'%s' does not work between %s and %s", ast_op_text(ast->op), val_kind_text(a),
               val_kind_text(b));
    return error_val(ast);
}

static Val arithmetic(Elab *e, const Ast *ast, const Val *a, const Val *b)
{
    double x, y;
    if (val_is_integer(a) && val_is_integer(b))
        return int_arithmetic(e, ast, a->i, b->i);
    if (val_number(a, &x) && val_number(b, &y))
        return float_arithmetic(e, ast, x, y);
    if (ast->op == AO_ADD && a->kind == VK_STR && b->kind == VK_STR && strlen(a->s) + strlen(b->s) < 10000)
        return (Val){.kind = VK_STR, .s = arena_printf(e->arena, "%s%s", a->s, b->s), .ast = ast, .span = ast->span};
    if (ast->op == AO_ADD && (a->kind == VK_LIST || a->kind == VK_TUPLE) && a->kind == b->kind)
        return concatenate(e, ast, a, b);
    if (ast->op == AO_MUL && (a->kind == VK_LIST || a->kind == VK_TUPLE) && val_is_integer(b))
        return repeat_list(e, ast, a, b->i);
    if (ast->op == AO_MUL && (b->kind == VK_LIST || b->kind == VK_TUPLE) && val_is_integer(a))
        return repeat_list(e, ast, b, a->i);
    return bad_operands(e, ast, a, b);
}

static Val contains(Elab *e, const Ast *ast, const Val *a, const Val *b)
{
    bool found = false;
    if (b->kind == VK_STR && a->kind == VK_STR) {
        found = strstr(b->s, a->s) != NULL;
    } else if (val_is_list(b)) {
        e->steps += b->n / 16;
        for (uint32_t i = 0; i < b->n && !found; i++)
            found = val_equal(a, &b->at[i]);
    } else {
        return bad_operands(e, ast, a, b);
    }
    return val_bool(found == (ast->op == AO_IN), ast);
}

static Val comparison(Elab *e, const Ast *ast, const Val *a, const Val *b)
{
    double x, y;
    int order;
    if (ast->op == AO_EQ || ast->op == AO_NE)
        return val_bool(val_equal(a, b) == (ast->op == AO_EQ), ast);
    if (ast->op == AO_IN || ast->op == AO_NOT_IN)
        return contains(e, ast, a, b);
    if (val_is_integer(a) && val_is_integer(b))
        order = (a->i > b->i) - (a->i < b->i);
    else if (val_number(a, &x) && val_number(b, &y))
        order = (x > y) - (x < y);
    else if (a->kind == VK_STR && b->kind == VK_STR)
        order = strcmp(a->s, b->s);
    else
        return bad_operands(e, ast, a, b);
    switch (ast->op) {
    case AO_LT:
        return val_bool(order < 0, ast);
    case AO_LE:
        return val_bool(order <= 0, ast);
    case AO_GT:
        return val_bool(order > 0, ast);
    default:
        return val_bool(order >= 0, ast);
    }
}

static Val binary(Elab *e, Scope *scope, const Ast *ast)
{
    Val a = eval(e, scope, ast->a);
    if (a.kind == VK_ERROR)
        return error_val(ast);
    if (ast->op == AO_AND || ast->op == AO_OR) {
        if (val_is_true(&a) != (ast->op == AO_AND))
            return a;
        return eval(e, scope, ast->b);
    }
    Val b = eval(e, scope, ast->b);
    if (b.kind == VK_ERROR)
        return error_val(ast);
    if (a.kind == VK_INFER || b.kind == VK_INFER || a.kind == VK_CALL || b.kind == VK_CALL)
        return bad_operands(e, ast, &a, &b);
    return ast->op >= AO_EQ ? comparison(e, ast, &a, &b) : arithmetic(e, ast, &a, &b);
}

static Val unary(Elab *e, Scope *scope, const Ast *ast)
{
    Val a = eval(e, scope, ast->a);
    if (a.kind == VK_ERROR)
        return error_val(ast);
    if (ast->op == AO_NOT)
        return val_bool(!val_is_true(&a), ast);
    if (val_is_integer(&a)) {
        if (ast->op == AO_POS)
            return val_int(a.i, ast);
        return a.i == INT64_MIN ? overflow(e, ast) : val_int(-a.i, ast);
    }
    if (a.kind == VK_FLOAT)
        return val_float(ast->op == AO_NEG ? -a.f : a.f, ast);
    diag_error(e->diags, ast->span, "E0212", "'%s' does not work on %s", ast_op_text(ast->op), val_kind_text(&a));
    return error_val(ast);
}

static Val index_list(Elab *e, Scope *scope, const Ast *ast)
{
    Val list = eval(e, scope, ast->a), at = eval(e, scope, ast->b);
    if (list.kind == VK_ERROR || at.kind == VK_ERROR)
        return error_val(ast);
    if (!val_is_integer(&at) || (!val_is_list(&list) && list.kind != VK_STR)) {
        if (!val_is_integer(&at))
            diag_error(e->diags, ast->b->span, "E0216", "an index is an integer, not %s", val_kind_text(&at));
        else
            diag_error(e->diags, ast->a->span, "E0216", "only lists, tuples and strings have an index, not %s",
                       val_kind_text(&list));
        return error_val(ast);
    }
    int64_t n = list.kind == VK_STR ? (int64_t)strlen(list.s) : list.n, i = at.i < 0 ? at.i + n : at.i;
    if (i < 0 || i >= n) {
        diag_error(e->diags, ast->b->span, "E0216",
                   "index %" PRId64 " is out of range: there are %" PRId64 " items, numbered from 0", at.i, n);
        return error_val(ast);
    }
    if (list.kind == VK_STR)
        return (Val){.kind = VK_STR, .s = arena_strndup(e->arena, list.s + i, 1), .ast = ast, .span = ast->span};
    Val v = list.at[i];
    v.span = ast->span;
    return v;
}

/* ---- range len min max abs int float round ---- */

static Val make_range(Elab *e, const Ast *ast, const Val *v, uint32_t n)
{
    int64_t from = n > 1 ? v[0].i : 0, to = n > 1 ? v[1].i : v[0].i, step = n > 2 ? v[2].i : 1;
    for (uint32_t i = 0; i < n; i++) {
        if (!val_is_integer(&v[i])) {
            diag_error(e->diags, v[i].span, "E0217", "range takes integers, not %s", val_kind_text(&v[i]));
            return error_val(ast);
        }
    }
    if (step == 0) {
        diag_error(e->diags, v[2].span, "E0217", "range's step must not be 0");
        return error_val(ast);
    }
    Vec(Val) items = {0};
    for (int64_t i = from; step > 0 ? i < to : i > to;) {
        if (items.len >= MAX_LIST)
            return too_long(e, ast);
        vec_push(e->arena, &items, val_int(i, ast));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    e->steps += items.len;
    return list_of(VK_RANGE, items.at, items.len, ast);
}

static Val least_or_most(Elab *e, const Ast *ast, const Val *v, uint32_t n, bool most)
{
    if (n == 1 && val_is_list(&v[0])) {
        n = v[0].n;
        v = v[0].at;
    }
    const Val *best = NULL;
    double x, y = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!val_number(&v[i], &x)) {
            diag_error(e->diags, ast->span, "E0217", "%s takes numbers, not %s", ast->text, val_kind_text(&v[i]));
            return error_val(ast);
        }
        if (!best || (most ? x > y : x < y)) {
            best = &v[i];
            y = x;
        }
    }
    if (!best) {
        diag_error(e->diags, ast->span, "E0217", "%s of nothing", ast->text);
        return error_val(ast);
    }
    return *best;
}

/* Python's round: halves go to the even neighbour. */
static Val round_number(Elab *e, const Ast *ast, const Val *v, uint32_t n)
{
    double x = 0;
    if (!val_number(&v[0], &x) || (n > 1 && (!val_is_integer(&v[1]) || v[1].i < -15 || v[1].i > 15))) {
        diag_error(e->diags, ast->span, "E0217", "round takes a number and a count of digits");
        return error_val(ast);
    }
    if (val_is_integer(&v[0]))
        return val_int(v[0].i, ast);
    if (n > 1) {
        double scale = pow(10, (double)v[1].i);
        return val_float(rint(x * scale) / scale, ast);
    }
    return fabs(x) < 9.2e18 ? val_int((int64_t)rint(x), ast) : overflow(e, ast);
}

static Val convert(Elab *e, const Ast *ast, const Val *v)
{
    double x;
    if (!strcmp(ast->text, "len")) {
        if (v->kind == VK_STR)
            return val_int((int64_t)strlen(v->s), ast);
        if (val_is_list(v))
            return val_int(v->n, ast);
    } else if (val_number(v, &x)) {
        if (!strcmp(ast->text, "float"))
            return val_float(x, ast);
        if (!strcmp(ast->text, "int"))
            return val_is_integer(v) ? val_int(v->i, ast) : fabs(x) < 9.2e18 ? val_int((int64_t)x, ast) : overflow(e, ast);
        if (val_is_integer(v))
            return v->i == INT64_MIN ? overflow(e, ast) : val_int(v->i < 0 ? -v->i : v->i, ast);
        return val_float(fabs(x), ast);
    }
    diag_error(e->diags, v->span, "E0217", "%s does not work on %s", ast->text, val_kind_text(v));
    return error_val(ast);
}

static const struct {
    const char *name;
    uint32_t least, most;
} functions[] = {
    {"range", 1, 3}, {"len", 1, 1}, {"min", 1, 1000}, {"max", 1, 1000},
    {"abs", 1, 1},   {"int", 1, 1}, {"float", 1, 1},  {"round", 1, 2},
};

static Val call_function(Elab *e, Scope *scope, const Ast *ast, size_t f)
{
    Vec(Val) v = {0};
    bool bad = false;
    for (uint32_t i = 0; i < ast->kids.len; i++) {
        const Ast *arg = ast->kids.at[i];
        if (arg->kind == AST_ARG) {
            diag_error(e->diags, arg->span, "E0217", "%s takes no argument by name", ast->text);
            bad = true;
            continue;
        }
        Val one = eval(e, scope, arg);
        bad |= one.kind == VK_ERROR;
        vec_push(e->arena, &v, one);
    }
    if (bad)
        return error_val(ast);
    if (v.len < functions[f].least || v.len > functions[f].most) {
        diag_error(e->diags, ast->span, "E0217", "%s takes %s%u argument%s, not %u", ast->text,
                   functions[f].most > functions[f].least ? "at least " : "",
                   v.len > functions[f].most ? functions[f].most : functions[f].least, functions[f].least == 1 ? "" : "s", v.len);
        return error_val(ast);
    }
    if (f == 0)
        return make_range(e, ast, v.at, v.len);
    if (f == 2 || f == 3)
        return least_or_most(e, ast, v.at, v.len, f == 3);
    return f == 7 ? round_number(e, ast, v.at, v.len) : convert(e, ast, v.at);
}

static Val call(Elab *e, Scope *scope, const Ast *ast)
{
    for (size_t i = 0; i < ARRAY_LEN(functions); i++)
        if (!strcmp(functions[i].name, ast->text))
            return call_function(e, scope, ast, i);
    return (Val){.kind = VK_CALL, .ast = ast, .span = ast->span}; /* MNIST("x"), Sobel(): whoever takes it knows its name */
}

static Val items_of(Elab *e, Scope *scope, const Ast *ast)
{
    Val *items = NEWN(e->arena, Val, ast->kids.len + 1);
    bool bad = false;
    for (uint32_t i = 0; i < ast->kids.len; i++) {
        items[i] = eval(e, scope, ast->kids.at[i]);
        bad |= items[i].kind == VK_ERROR;
    }
    return bad ? error_val(ast) : list_of(ast->kind == AST_LIST ? VK_LIST : VK_TUPLE, items, ast->kids.len, ast);
}

/* The names a reader could have meant. */
static const char *nearest_name(Elab *e, const Scope *scope, const char *name)
{
    Vec(const char *) names = {0};
    for (; scope; scope = scope->up)
        for (Binding *b = scope->first; b; b = b->next)
            vec_push(e->arena, &names, b->name);
    static const char *const words[] = {"True", "False", "None"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        vec_push(e->arena, &names, words[i]);
    vec_push(e->arena, &names, NULL);
    return nearest_word(name, names.at);
}

static Val name(Elab *e, Scope *scope, const Ast *ast, bool word_allowed)
{
    Binding *b = scope_find(scope, ast->text);
    if (b) {
        Val v = b->value;
        v.span = ast->span;
        return v;
    }
    if (word_allowed)
        return (Val){.kind = VK_WORD, .s = ast->text, .ast = ast, .span = ast->span};
    diag_error(e->diags, ast->span, "E0211", "unknown name '%s'", ast->text);
    const char *near = nearest_name(e, scope, ast->text);
    if (near) {
        diag_help(e->diags, "did you mean %s?", near);
        diag_fix(e->diags, "%s", near);
    } else {
        diag_help(e->diags, "define it above: let %s = ...", ast->text);
    }
    return error_val(ast);
}

Val eval_word(Elab *e, Scope *scope, const Ast *ast)
{
    return ast->kind == AST_NAME ? name(e, scope, ast, true) : eval(e, scope, ast);
}

Val eval(Elab *e, Scope *scope, const Ast *ast)
{
    if (!e_step(e, ast))
        return error_val(ast);
    switch (ast->kind) {
    case AST_INT:
        return val_int(ast->i, ast);
    case AST_FLOAT:
        if (isfinite(ast->f))
            return val_float(ast->f, ast);
        return overflow(e, ast);
    case AST_STRING:
        return (Val){.kind = VK_STR, .s = ast->text, .ast = ast, .span = ast->span};
    case AST_BOOL:
        return val_bool(ast->i != 0, ast);
    case AST_NONE:
        return (Val){.kind = VK_NONE, .ast = ast, .span = ast->span};
    case AST_INFER:
        return (Val){.kind = VK_INFER, .ast = ast, .span = ast->span};
    case AST_NAME:
        return name(e, scope, ast, false);
    case AST_TUPLE:
    case AST_LIST:
        return items_of(e, scope, ast);
    case AST_UNARY:
        return unary(e, scope, ast);
    case AST_BINARY:
        return binary(e, scope, ast);
    case AST_TERNARY: {
        Val c = eval(e, scope, ast->c);
        return c.kind == VK_ERROR ? c : eval(e, scope, val_is_true(&c) ? ast->a : ast->b);
    }
    case AST_INDEX:
        return index_list(e, scope, ast);
    case AST_CALL:
        return call(e, scope, ast);
    case AST_ERROR:
    case AST_STAR:
        return error_val(ast);
    default:
        BUG("evaluating a node of kind %d", ast->kind);
    }
}
