/* elaborate_value.c: values and the names bound to them.
 * In: values. Out: their texts, comparisons, truth, as Python has them. Invariant: nothing here reports anything.
 * The idea: a Val is small and copied; lists point into the arena and are never changed. */
#include "frontend/elaborate_impl.h"
#include <inttypes.h>
#include <string.h>

Binding *scope_find(const Scope *scope, const char *name)
{
    for (; scope; scope = scope->up)
        for (Binding *b = scope->first; b; b = b->next)
            if (!strcmp(b->name, name))
                return b;
    return NULL;
}

void scope_bind(Elab *e, Scope *scope, const char *name, Val value, Span span)
{
    Binding *b = NEW(e->arena, Binding);
    *b = (Binding){.next = scope->first, .name = name, .value = value, .span = span};
    scope->first = b;
}

const char *val_kind_text(const Val *v)
{
    static const char *const text[] = {
        [VK_ERROR] = "an error", [VK_NONE] = "None",    [VK_BOOL] = "True or False", [VK_INT] = "an integer",
        [VK_FLOAT] = "a float",  [VK_STR] = "a string", [VK_LIST] = "a list",        [VK_TUPLE] = "a tuple",
        [VK_RANGE] = "a range",  [VK_INFER] = "_",      [VK_CALL] = "a call",        [VK_WORD] = "a name",
    };
    if (v->kind == VK_BOOL)
        return v->i ? "True" : "False";
    return text[v->kind];
}

/* A float as Python prints it: shortest form that reads back, with ".0" where it would look like an integer. */
static const char *float_text(Arena *a, double f)
{
    const char *s = NULL;
    for (int digits = 1; digits <= 17; digits++) {
        s = arena_printf(a, "%.*g", digits, f);
        double back = 0;
        if (sscanf(s, "%lf", &back) == 1 && back == f)
            break;
    }
    return strpbrk(s, ".en") ? s : arena_printf(a, "%s.0", s);
}

const char *val_text(Arena *a, const Val *v)
{
    switch (v->kind) {
    case VK_INT:
        return arena_printf(a, "%" PRId64, v->i);
    case VK_BOOL:
        return v->i ? "True" : "False";
    case VK_FLOAT:
        return float_text(a, v->f);
    case VK_STR:
        return arena_printf(a, "'%.60s'", v->s);
    case VK_WORD:
        return v->s;
    case VK_NONE:
        return "None";
    case VK_INFER:
        return "_";
    case VK_CALL:
        return arena_printf(a, "%s(...)", v->ast->text);
    case VK_LIST:
    case VK_TUPLE:
    case VK_RANGE:
        break;
    case VK_ERROR:
        return "?";
    }
    const char *text = "";
    for (uint32_t i = 0; i < v->n && i < 6; i++)
        text = arena_printf(a, "%s%s%s", text, i ? ", " : "", val_text(a, &v->at[i]));
    if (v->n > 6)
        text = arena_printf(a, "%s, ...", text);
    return v->kind == VK_TUPLE ? arena_printf(a, v->n == 1 ? "(%s,)" : "(%s)", text) : arena_printf(a, "[%s]", text);
}

bool val_number(const Val *v, double *out)
{
    if (v->kind == VK_INT || v->kind == VK_BOOL)
        *out = (double)v->i;
    else if (v->kind == VK_FLOAT)
        *out = v->f;
    else
        return false;
    return true;
}

bool val_is_list(const Val *v) { return v->kind == VK_LIST || v->kind == VK_TUPLE || v->kind == VK_RANGE; }

bool val_is_integer(const Val *v) { return v->kind == VK_INT || v->kind == VK_BOOL; }

bool val_is_true(const Val *v)
{
    switch (v->kind) {
    case VK_BOOL:
    case VK_INT:
        return v->i != 0;
    case VK_FLOAT:
        return v->f != 0;
    case VK_STR:
        return v->s[0] != 0;
    case VK_LIST:
    case VK_TUPLE:
    case VK_RANGE:
        return v->n > 0;
    case VK_NONE:
        return false;
    default:
        return true;
    }
}

bool val_equal(const Val *a, const Val *b)
{
    double x, y;
    if (val_is_integer(a) && val_is_integer(b))
        return a->i == b->i;
    if (val_number(a, &x) && val_number(b, &y))
        return x == y;
    if (a->kind == VK_STR && b->kind == VK_STR)
        return !strcmp(a->s, b->s);
    if (a->kind != b->kind)
        return false;
    if (!val_is_list(a))
        return a->kind == VK_NONE;
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!val_equal(&a->at[i], &b->at[i]))
            return false;
    return true;
}
