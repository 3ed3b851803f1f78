/* elaborate_names.c: the names of layers, as state_dict has them.
 * In: labels and places in sequences. Out: dotted names, rows of the layer table.
 * Invariant: no two layers or sequences of a model have the same full name; a clash is reported and gets a name that
 * clashes with nothing, so that it is told once.
 * The idea: one hash set of full names, since a prefix belongs to one sequence alone. */
#include "frontend/elaborate_impl.h"
#include <inttypes.h>
#include <string.h>

enum { MAX_LEVELS = 200 };

static uint32_t hash_text(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

static uint32_t name_slot(const Elab *e, const char *name)
{
    uint32_t i = hash_text(name) & (e->cap_names - 1);
    while (e->names[i].name && strcmp(e->names[i].name, name) != 0)
        i = (i + 1) & (e->cap_names - 1);
    return i;
}

static void grow_names(Elab *e)
{
    uint32_t old_cap = e->cap_names;
    __typeof__(e->names) old = e->names;
    e->cap_names = old_cap ? old_cap * 2 : 256;
    e->names = arena_alloc(e->arena, sizeof *e->names * e->cap_names);
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i].name)
            e->names[name_slot(e, old[i].name)] = old[i];
}

bool is_keyword(const char *word)
{
    static const char *const words[] = {"let",      "block",    "repeat", "for",    "in",    "if",        "elif",  "else",
                                        "residual", "shortcut", "concat", "branch", "train", "and",       "or",    "not",
                                        "True",     "False",    "None",   "_",      "input", "normalize", "labels"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!strcmp(words[i], word))
            return true;
    return false;
}

static bool check_label(Elab *e, const Ast *ast)
{
    if (!ast->label[0])
        return diag_error(e->diags, ast->label_span, "E0205", "a layer's name must not be empty");
    if (strchr(ast->label, '.'))
        return diag_error(e->diags, ast->label_span, "E0205", "a layer's name must not contain '.'");
    if (is_keyword(ast->label))
        return diag_error(e->diags, ast->label_span, "E0205", "'%s' is a keyword and cannot be a name", ast->label);
    return true;
}

/* The full name of the next layer of seq: its label, or its place. Counts it. */
const char *next_name(Elab *e, Seq *seq, const Ast *ast)
{
    int64_t index = seq->index++;
    const char *own = ast->label && check_label(e, ast) ? ast->label : arena_printf(e->arena, "%" PRId64, index);
    const char *name = arena_printf(e->arena, "%s%s", seq->prefix, own);
    if (e->n_names * 2 >= e->cap_names)
        grow_names(e);
    uint32_t slot = name_slot(e, name);
    Span here = ast->label ? ast->label_span : ast->span;
    if (e->names[slot].name) {
        diag_error(e->diags, here, "E0204", "two layers of one sequence are called '%s'", own);
        Span before = e->names[slot].span;
        if (before.start != here.start)
            diag_note(e->diags, before, "the first one is here");
        else
            diag_help(e->diags, "a name inside repeat or for is used again and again: leave it out");
        return arena_printf(e->arena, "%s?%u", name, e->n_names);
    }
    e->names[slot].name = name;
    e->names[slot].span = here;
    e->n_names++;
    return name;
}

Seq inner_sequence(Elab *e, const Seq *outer, const char *prefix, const Ast *at)
{
    Seq s = {.prefix = prefix, .depth = outer->depth + 1};
    if (s.depth > MAX_LEVELS && !e->stop) {
        e->stop = true;
        diag_error(e->diags, at->span, "E0232", "sequences nest deeper than %d", MAX_LEVELS);
    }
    return s;
}

LayerId add_layer(Elab *e, const char *name, const char *type, const Ast *ast, const Span *arg_span, ValueId in)
{
    Layer layer = {.name = name,
                   .type = type,
                   .span = ast->span,
                   .used_at = e->in_block ? e->used_at : ast->span,
                   .arg_span = arg_span,
                   .in = in,
                   .out = in};
    if (e->graph->layers.len >= MAX_LAYERS && !e->stop) {
        e->stop = true;
        diag_error(e->diags, ast->span, "E0231", "this file expands to more than %d layers", MAX_LAYERS);
    }
    vec_push(e->arena, &e->graph->layers, layer);
    return (LayerId)e->graph->layers.len - 1;
}
