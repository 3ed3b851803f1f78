/* explain: the worked arithmetic of layers, and the long texts of codes.
 * In: a module after `shape` and a layer's name, or a code. Out: text that teaches, with this model's numbers.
 * Invariant: every number printed is computed from the shapes; no number is quoted.
 * Idea: one header per layer, the paragraphs of its kind (explain_kinds.c, explain_window.c), its receptive field. */
#include "passes/explain.h"

#include "ir/base/text.h"
#include "passes/codes.h"
#include "passes/shape.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

/* ---- wrapped text ---- */

enum { WIDTH = 100 };

static void print_wrapped(FILE *to, const char *text, int indent)
{
    int column = 0;
    for (const char *p = text; *p;) {
        size_t word = strcspn(p, " \n");
        if (column && column + 1 + (int)word > WIDTH) {
            fputc('\n', to);
            column = 0;
        }
        fprintf(to, "%*s%.*s", column ? 1 : indent, "", (int)word, p);
        column += (column ? 1 : indent) + (int)word;
        p += word;
        if (*p == '\n') {
            fputc('\n', to);
            column = 0;
        }
        p += *p != '\0';
    }
    fputc('\n', to);
}

void explain_say(const Explain *e, const char *fmt, ...)
{
    va_list ap;
    if (e->told)
        return;
    va_start(ap, fmt);
    print_wrapped(e->to, arena_vprintf(e->a, fmt, ap), 2);
    va_end(ap);
}

void explain_head(const Explain *e, const char *head) { fprintf(e->to, "\n%s\n", head); }

const char *explain_number(const Explain *e, int64_t n) { return text_thousands(e->a, n); }

/* ---- one layer ---- */

static const char *sample(Arena *a, const Shape *s) { return s->rank > 0 ? shape_text(a, s, true) : "?"; }

static void explain_one(Explain *e, const LayerFacts *f)
{
    e->f = f;
    e->n = f->main ? graph_node(e->g, f->main) : NULL;
    fprintf(e->to, "%s: %s\n", f->layer->name, f->layer->printed ? f->layer->printed : f->layer->type);
    fprintf(e->to, "  input %s -> output %s\n", sample(e->a, &f->in), sample(e->a, &f->out));
    explain_kind(e);
    explain_field(e);
}

/* All layers (name NULL), those of one name, or those of one type. What is the same for all of a kind is told once. */
static void explain_some(const Module *m, const char *name, bool by_type, FILE *to)
{
    Arena *a = arena_new();
    Facts facts = facts_of(a, m->graph);
    Explain e = {.m = m, .g = m->graph, .to = to, .a = a, .facts = &facts, .brief = !name || by_type};
    bool told[OP_COUNT] = {false}, first = true;
    for (uint32_t i = 0; i < facts.n; i++) {
        const LayerFacts *f = &facts.layer[i];
        Op op = f->main ? graph_node(e.g, f->main)->op : OP_INPUT;
        if (name && strcmp(f->layer->name, name) != 0 && !(by_type && strcasecmp(f->layer->type, name) == 0))
            continue;
        fputs(first ? "" : "\n", to);
        first = false;
        e.told = told[op];
        explain_one(&e, f);
        told[op] = true;
    }
    arena_free(a);
}

LayerId explain_find(const Graph *g, const char *name)
{
    for (uint32_t i = 0; i < g->layers.len; i++)
        if (strcmp(g->layers.at[i].name, name) == 0)
            return (LayerId)i;
    for (uint32_t i = 0; i < g->layers.len; i++)
        if (strcasecmp(g->layers.at[i].type, name) == 0)
            return (LayerId)i;
    return -1;
}

bool explain_layer(const Module *m, const char *name, FILE *to, const char **nearest)
{
    const Graph *g = m->graph;
    LayerId found = explain_find(g, name);
    if (found >= 0) {
        explain_some(m, name, strcmp(g->layers.at[found].name, name) != 0, to);
        return true;
    }
    const char **names = NEWN(g->arena, const char *, 2 * g->layers.len + 1);
    for (uint32_t i = 0; i < g->layers.len; i++) {
        names[2 * i] = g->layers.at[i].name;
        names[2 * i + 1] = g->layers.at[i].type;
    }
    *nearest = nearest_word(name, names);
    return false;
}

void explain_model(const Module *m, FILE *to) { explain_some(m, NULL, false, to); }

/* ---- codes ---- */

bool explain_code(const char *code, FILE *to)
{
    const CodeRow *c = code_find(code);
    if (!c)
        return false;
    fprintf(to, "%s%s%s: %s\n\n", c->code, *c->name ? " " : "", c->name, c->title);
    print_wrapped(to, c->text, 0);
    if (*c->name)
        fprintf(to, "\n-W no-%s turns this warning off, -W error makes warnings errors.\n", c->name);
    return true;
}

void explain_warnings(FILE *to)
{
    fputs("Warnings; -W no-NAME turns one off, -W error makes all of them errors, `cnnc explain NAME` tells more.\n\n", to);
    for (size_t i = 0; i < N_CODES; i++)
        if (*CODES[i].name)
            fprintf(to, "  %s  %-20s  %s\n", CODES[i].code, CODES[i].name, CODES[i].title);
}
