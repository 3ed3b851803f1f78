/* elaborate_header.c: input(...), normalize(...) and labels(...), which are written like layers and are none.
 * In: their calls. Out: Graph.input_shape and the input's node, Module.normalize, Module.labels.
 * Invariant: each stands once, at the top of the file; the input before the first layer.
 * The idea: they say what stands around the net: the shape of a sample, what its pixels are made into, what its outputs mean. */
#include "frontend/elaborate_impl.h"
#include <inttypes.h>
#include <string.h>

/* ---- input ---- */

static bool input_size(Elab *e, const Val *v)
{
    if (v->kind == VK_ERROR)
        return false;
    if (v->kind != VK_INT)
        return diag_error(e->diags, v->span, "E0224", "a size of the input must be an integer, not %s", val_kind_text(v));
    if (v->i < 1 || v->i > INT32_MAX)
        return diag_error(e->diags, v->span, "E0301", "a size of the input must be from 1 to %d, not %" PRId64, INT32_MAX, v->i);
    return true;
}

/* input(1, 28, 28), or the sizes as one tuple. False: reported. */
static bool input_sizes(Elab *e, Scope *scope, const Ast *ast, Shape *out)
{
    uint32_t n = ast->kids.len;
    Val *v = NEWN(e->arena, Val, n + 1);
    bool fine = true;
    *out = (Shape){0};
    for (uint32_t i = 0; i < n; i++) {
        const Ast *arg = ast->kids.at[i];
        if (arg->kind == AST_ARG)
            fine = diag_error(e->diags, arg->span, "E0221", "input takes sizes without names");
        v[i] = eval(e, scope, arg->kind == AST_ARG ? arg->a : arg);
    }
    const Val *at = n == 1 && val_is_list(v) ? v->at : v;
    n = n == 1 && val_is_list(v) ? v->n : n;
    if (n < 1 || n > 4) {
        diag_error(e->diags, ast->span, "E0301", "input takes 1 to 4 sizes, not %u", n);
        diag_help(e->diags, "write input(C, H, W): channels, height, width");
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        fine &= input_size(e, &at[i]);
        out->dim[out->rank++] = at[i].i;
    }
    return fine;
}

void elaborate_input(Elab *e, Scope *scope, const Ast *ast)
{
    if (e->has_input) {
        diag_error(e->diags, ast->span, "E0207", "a second input(...)");
        diag_note(e->diags, e->input_span, "the first one is here");
        return;
    }
    e->has_input = true;
    e->input_span = ast->span;
    if (e->past_input) {
        diag_error(e->diags, ast->span, "E0207", "input(...) must stand before the layers");
        diag_note(e->diags, e->first_layer, "the first layer is here");
        return;
    }
    Shape sizes;
    bool fine = input_sizes(e, scope, ast, &sizes);
    Graph *g = e->graph;
    if (e->options->input) { /* --input-shape replaces it */
        graph_def(g, g->input)->span = ast->span;
        return;
    }
    if (!fine)
        return;
    g->input_shape = sizes;
    g->input = node_out(g, graph_add_node(g, OP_INPUT, NULL, 0, NULL, -1, ast->span), 0);
}

/* ---- normalize and labels ---- */

/* One number for all channels or a list of one each. False: reported. */
static bool channel_numbers(Elab *e, const Val *v, const char *name, double out[64], int *n)
{
    const Val *at = val_is_list(v) ? v->at : v;
    *n = val_is_list(v) ? (int)(v->n > 64 ? 65 : v->n) : 1;
    if (*n < 1 || *n > 64)
        return diag_error(e->diags, v->span, "E0405", "%s takes one number, or one for each of at most 64 channels", name);
    for (int i = 0; i < *n; i++)
        if (at[i].kind == VK_BOOL || !val_number(&at[i], &out[i]))
            return diag_error(e->diags, at[i].span, "E0405", "%s must be numbers, not %s", name, val_kind_text(&at[i]));
    for (int i = 0; i < *n; i++)
        if (!strcmp(name, "std") && !(out[i] > 0))
            return diag_error(e->diags, at[i].span, "E0405", "std must be above 0, not %s", val_text(e->arena, &at[i]));
    return true;
}

static void check_channels(Elab *e, const Normalize *z)
{
    const Shape *in = &e->graph->input_shape;
    int64_t channels = in->rank > 1 ? in->dim[0] : 1;
    if (in->rank > 0 && z->n != 1 && z->n != channels)
        diag_error(e->diags, z->span, "E0405", "normalize has numbers for %d channels, the input has %" PRId64, z->n, channels);
}

static const ArgSpec normalize_args[] = {
    {"mean", ARG_FILTER, NULL, false},
    {"std", ARG_FILTER, NULL, false},
    {"inplace", ARG_ANY, "False", false},
};
static const LayerSpec normalize_spec = {"normalize", LAYER_SETTING, NULL, 0, normalize_args, ARRAY_LEN(normalize_args)};

/* The arguments as (mean, std). False: reported. */
static bool normalize_arguments(Elab *e, Scope *scope, const Ast *ast, Val out[2])
{
    LayerCall c = {.spec = &normalize_spec, .ast = ast};
    if (!layer_arguments(e, scope, &c))
        return false;
    out[0] = *layer_arg(&c, "mean");
    out[1] = *layer_arg(&c, "std");
    return true;
}

void elaborate_normalize(Elab *e, Scope *scope, const Ast *ast)
{
    Normalize *z = &e->module->normalize, new = {.given = true, .span = ast->span};
    if (z->given) {
        diag_error(e->diags, ast->span, "E0405", "a second normalize(...)");
        diag_note(e->diags, z->span, "the first one is here");
        return;
    }
    z->given = true;
    z->span = ast->span;
    if (ast->kids.len == 1 && ast->kids.at[0]->kind == AST_STRING) {
        if (strcmp(ast->kids.at[0]->text, "auto") != 0)
            diag_error(e->diags, ast->kids.at[0]->span, "E0405", "normalize takes mean and std, or \"auto\"");
        z->automatic = true;
        return;
    }
    Val v[2];
    int n_std;
    if (!normalize_arguments(e, scope, ast, v) || !channel_numbers(e, &v[0], "mean", new.mean, &new.n) ||
        !channel_numbers(e, &v[1], "std", new.std, &n_std))
        return;
    if (new.n != n_std &&new.n != 1 && n_std != 1) {
        diag_error(e->diags, ast->span, "E0405", "mean has %d numbers, std has %d", new.n, n_std);
        return;
    }
    for (int i = 1; i < n_std && new.n == 1; i++)
        new.mean[i] = new.mean[0];
    for (int i = 1; i < new.n &&n_std == 1; i++)
        new.std[i] = new.std[0];
    new.n = new.n > n_std ? new.n : n_std;
    *z = new;
    check_channels(e, z);
}

void elaborate_labels(Elab *e, Scope *scope, const Ast *ast)
{
    Module *m = e->module;
    Vec(const char *) names = {0};
    if (m->labels) {
        diag_error(e->diags, ast->span, "E0406", "a second labels(...)");
        return;
    }
    for (uint32_t i = 0; i < ast->kids.len; i++) {
        const Ast *arg = ast->kids.at[i];
        Val v = eval(e, scope, arg->kind == AST_ARG ? arg->a : arg);
        const Val *at = val_is_list(&v) ? v.at : &v;
        for (uint32_t k = 0; k < (val_is_list(&v) ? v.n : 1); k++) {
            if (at[k].kind == VK_STR)
                vec_push(e->arena, &names, at[k].s);
            else if (at[k].kind == VK_INT)
                vec_push(e->arena, &names, val_text(e->arena, &at[k]));
            else if (at[k].kind != VK_ERROR)
                diag_error(e->diags, at[k].span, "E0406", "a label is a string, not %s", val_kind_text(&at[k]));
        }
    }
    if (!names.len && !ast->kids.len)
        diag_error(e->diags, ast->span, "E0406", "labels(...) names no class");
    m->n_labels = (int)names.len;
    vec_push(e->arena, &names, NULL);
    m->labels = names.at;
}
