/* report: what the shapes mean, in one table.
 * In: a module after `shape`, and how to print it. Out: text, JSON, CSV, Markdown or HTML.
 * Invariant: all forms say the same numbers, taken from facts_of and from the planner (or its estimate).
 * Idea: everything is computed here once; each form is one function in report_formats.c and report_text.c. */
#include "passes/report.h"

#include <stdlib.h>
#include <string.h>

const char *const REPORT_FORMAT_NAMES[] = {"text", "json", "csv", "md", "html", NULL};

ReportFormat report_format(const char *name)
{
    ReportFormat f = REPORT_TEXT;
    while (f < REPORT_FORMATS && strcmp(REPORT_FORMAT_NAMES[f], name) != 0)
        f++;
    return f;
}

/* ---- memory ---- */

/* State tensors that the optimizer keeps per weight. */
static int optimizer_tensors(const CnncTrain *t)
{
    switch (t->optimizer) {
    case CNNC_OPT_SGD:
        return t->momentum != 0;
    case CNNC_OPT_RMSPROP:
        return 1 + (t->momentum != 0) + (t->centered != 0);
    default:
        return 2;
    }
}

static int64_t bytes_at(Report *r, int64_t batch, bool training)
{
    int64_t planned = r->o->planned_bytes ? r->o->planned_bytes(r->o->context, batch, training) : -1;
    if (planned >= 0)
        return planned;
    r->estimated = true;
    return training ? estimate_training_bytes(r->a, r->g, batch, optimizer_tensors(&r->m->train.train))
                    : estimate_inference_bytes(r->a, r->g, batch);
}

enum { LARGEST_BATCH = 1 << 20 };

/* Bytes grow nearly in proportion to the batch, in steps, and each answer costs a plan: the proportion guesses, a small
 * step beyond it brackets, halving ends. */
static int64_t largest_batch(Report *r, bool training)
{
    int64_t memory = r->o->memory, one = bytes_at(r, 1, training), some = bytes_at(r, 33, training);
    if (one > memory)
        return 0;
    int64_t fits = some <= memory ? 33 : 1, too_many = some <= memory ? LARGEST_BATCH + 1 : 33;
    double each = some > one ? (double)(some - one) / 32 : 1, guess = 1 + (double)(memory - one) / each;
    for (int tries = 0; too_many - fits > 1; tries++) {
        int64_t at = fits + (too_many - fits) / 2;
        if (tries == 0)
            at = guess < (double)LARGEST_BATCH ? (int64_t)guess : LARGEST_BATCH;
        else if (tries == 1)
            at = too_many > LARGEST_BATCH ? fits + fits / 64 + 1 : too_many - too_many / 64 - 1;
        at = at <= fits ? fits + 1 : at >= too_many ? too_many - 1 : at;
        *(bytes_at(r, at, training) <= memory ? &fits : &too_many) = at;
    }
    return fits;
}

/* ---- small texts ---- */

LineCol report_place(const Report *r, Span s) { return r->o->src ? line_index_find(&r->lines, s.start) : (LineCol){0, 0}; }

const char *report_shape(const Report *r, const Shape *s) { return s->rank > 0 ? shape_text(r->a, s, true) : "?"; }

const char *report_field(const Report *r, const Field *f)
{
    const char *text = "";
    for (int i = 0; !f->whole && i < f->nd; i++)
        text = arena_printf(r->a, "%s%s%lld", text, i ? "x" : "", (long long)f->size[i]);
    return f->whole ? "whole" : text;
}

const char *report_jump(const Report *r, const Field *f)
{
    const char *text = "";
    bool same = true;
    for (int i = 1; i < f->nd; i++)
        same = same && f->jump[i] == f->jump[0];
    for (int i = 0; !f->whole && i < (same ? 1 : f->nd); i++)
        text = arena_printf(r->a, "%s%s%g", text, i ? "x" : "", f->jump[i]);
    return text;
}

void report(const Module *m, const ReportOptions *o, FILE *to)
{
    static void (*const forms[REPORT_FORMATS])(const Report *) = {report_text, report_json, report_csv, report_md, report_html};
    Arena *a = arena_new();
    Report r = {.m = m, .g = m->graph, .o = o, .to = to, .a = a, .facts = facts_of(a, m->graph)};
    if (o->src)
        r.lines = source_index_lines(a, o->src);
    r.inference_bytes = bytes_at(&r, r.g->batch, false);
    r.training_bytes = bytes_at(&r, r.g->batch, true);
    if (o->memory > 0) {
        r.fits_inference = largest_batch(&r, false);
        r.fits_training = largest_batch(&r, true);
    }
    forms[o->format](&r);
    arena_free(a);
}
