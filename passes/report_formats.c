/* The report for other programs: JSON, CSV, Markdown, and a page of HTML that stands alone.
 * In: a Report. Out: the keys of the report's contract, numbers without separators (HTML and Markdown with).
 * Invariant: every string is escaped for its format.
 * Idea: one loop over the layers per format. */
#include "passes/report.h"

#include "ir/base/text.h"

#include <inttypes.h>
#include <string.h>

/* ---- JSON ---- */

static void json_shape(FILE *to, const Shape *s, int from)
{
    fputc('[', to);
    for (int i = from; i < s->rank; i++)
        fprintf(to, "%s%" PRId64, i > from ? ", " : "", s->dim[i]);
    fputc(']', to);
}

static void json_field(FILE *to, const Field *f)
{
    fputs(", \"receptive_field\": ", to);
    for (int i = 0; !f->whole && i < f->nd; i++)
        fprintf(to, "%s%" PRId64, i ? ", " : "[", f->size[i]);
    fputs(f->whole ? "null, \"jump\": " : "], \"jump\": ", to);
    for (int i = 0; !f->whole && i < f->nd; i++)
        fprintf(to, "%s%.10g", i ? ", " : "[", f->jump[i]);
    fputs(f->whole ? "null" : "]", to);
}

static void json_layer(const Report *r, const LayerFacts *f)
{
    FILE *to = r->to;
    LineCol at = report_place(r, f->layer->span);
    fputs("{\"name\": ", to);
    text_print_json(to, f->layer->name);
    fputs(", \"type\": ", to);
    text_print_json(to, f->layer->type);
    fprintf(to, ", \"line\": %u, \"column\": %u, \"used_at\": %u, \"in_shape\": ", at.line, at.column,
            report_place(r, f->layer->used_at).line);
    json_shape(to, &f->in, 1);
    fputs(", \"out_shape\": ", to);
    json_shape(to, &f->out, 1);
    fprintf(to, ", \"params\": %" PRId64 ", \"buffers\": %" PRId64 ", \"macs\": %" PRId64, f->params, f->buffers, f->macs);
    json_field(to, &f->field);
    fprintf(to, ", \"activation_bytes\": %" PRId64 ", \"formula\": ", f->activation_bytes);
    text_print_json(to, f->formula);
    fputc('}', to);
}

void report_json(const Report *r)
{
    FILE *to = r->to;
    fputs("{\"model\": ", to);
    text_print_json(to, r->g->name);
    fputs(", \"input\": ", to);
    json_shape(to, &r->g->input_shape, 0);
    fprintf(to, ", \"batch\": %" PRId64 ",\n \"layers\": [", r->g->batch);
    for (uint32_t i = 0; i < r->facts.n; i++) {
        fputs(i ? ",\n            " : "", to);
        json_layer(r, &r->facts.layer[i]);
    }
    const Facts *f = &r->facts;
    fprintf(to,
            "],\n \"totals\": {\"params\": %" PRId64 ", \"trainable_params\": %" PRId64 ", \"buffers\": %" PRId64
            ", \"macs\": %" PRId64,
            f->params, f->trainable, f->buffers, f->macs);
    fprintf(to, ",\n            \"inference_bytes\": %" PRId64 ", \"training_bytes\": %" PRId64, r->inference_bytes,
            r->training_bytes);
    if (r->o->memory > 0)
        fprintf(to,
                ",\n            \"memory\": %" PRId64 ", \"largest_inference_batch\": %" PRId64
                ", \"largest_training_batch\": %" PRId64,
                r->o->memory, r->fits_inference, r->fits_training);
    fputs("}\n}\n", to);
}

/* ---- CSV ---- */

static void csv_text(FILE *to, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        fputs(s, to);
        return;
    }
    fputc('"', to);
    for (; *s; s++)
        fputs(*s == '"' ? "\"\"" : (char[]){*s, '\0'}, to);
    fputc('"', to);
}

static const char *plain_shape(const Report *r, const Shape *s)
{
    const char *text = "";
    for (int i = 1; i < s->rank; i++)
        text = arena_printf(r->a, "%s%s%" PRId64, text, i > 1 ? "x" : "", s->dim[i]);
    return text;
}

void report_csv(const Report *r)
{
    fputs("name,type,line,column,used_at,in_shape,out_shape,params,buffers,macs,receptive_field,jump,activation_bytes,formula\n",
          r->to);
    for (uint32_t i = 0; i < r->facts.n; i++) {
        const LayerFacts *f = &r->facts.layer[i];
        LineCol at = report_place(r, f->layer->span);
        csv_text(r->to, f->layer->name);
        fprintf(r->to, ",%s,%u,%u,%u,%s,%s,%" PRId64 ",%" PRId64 ",%" PRId64 ",%s,%s,%" PRId64 ",", f->layer->type, at.line,
                at.column, report_place(r, f->layer->used_at).line, plain_shape(r, &f->in), plain_shape(r, &f->out), f->params,
                f->buffers, f->macs, f->field.whole ? "" : report_field(r, &f->field), report_jump(r, &f->field),
                f->activation_bytes);
        csv_text(r->to, f->formula);
        fputc('\n', r->to);
    }
}

/* ---- Markdown ---- */

static void md_text(FILE *to, const char *s)
{
    for (; *s; s++)
        fprintf(to, strchr("|*_`\\<", *s) ? "\\%c" : "%c", *s);
}

void report_md(const Report *r)
{
    const Facts *t = &r->facts;
    fputs("### ", r->to);
    md_text(r->to, r->g->name);
    fprintf(r->to, "\n\nInput %s, batch %" PRId64 ".\n\n", shape_text(r->a, &r->g->input_shape, false), r->g->batch);
    fputs("| layer | type | output | params | MACs | field | jump | memory | formula "
          "|\n|---|---|---|---:|---:|---:|---:|---:|---|\n",
          r->to);
    for (uint32_t i = 0; i < t->n; i++) {
        const LayerFacts *f = &t->layer[i];
        fputs("| ", r->to);
        md_text(r->to, f->layer->name);
        fprintf(r->to, " | %s | %s | %s | %s | %s | %s | %s | ", f->layer->type, report_shape(r, &f->out),
                text_thousands(r->a, f->params), text_thousands(r->a, f->macs), report_field(r, &f->field),
                report_jump(r, &f->field), text_bytes(r->a, f->activation_bytes));
        md_text(r->to, f->formula);
        fputs(" |\n", r->to);
    }
    fprintf(r->to, "| **total** | | | %s | %s | | | | |\n\n", text_thousands(r->a, t->params), text_thousands(r->a, t->macs));
    fprintf(r->to, "Inference %s, training %s at batch %" PRId64 "%s.\n", text_bytes(r->a, r->inference_bytes),
            text_bytes(r->a, r->training_bytes), r->g->batch, r->estimated ? " (estimated)" : "");
}

/* ---- HTML ---- */

static void html_text(FILE *to, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '<':
            fputs("&lt;", to);
            break;
        case '>':
            fputs("&gt;", to);
            break;
        case '&':
            fputs("&amp;", to);
            break;
        case '"':
            fputs("&quot;", to);
            break;
        default:
            fputc(*s, to);
        }
    }
}

/* A number with a bar behind it: its share of the total. */
static void html_share(const Report *r, int64_t n, int64_t total)
{
    double percent = total > 0 ? 100.0 * (double)n / (double)total : 0;
    if (n == 0) {
        fputs("<td></td>", r->to);
        return;
    }
    fprintf(r->to, "<td class=\"n\" style=\"background:linear-gradient(to left,#cfe3ff %.1f%%,transparent %.1f%%)\">%s</td>",
            percent, percent, text_thousands(r->a, n));
}

static void html_layer(const Report *r, const LayerFacts *f)
{
    fputs("<tr><td>", r->to);
    html_text(r->to, f->layer->name);
    fputs("</td><td>", r->to);
    html_text(r->to, f->layer->type);
    fprintf(r->to, "</td><td>%s</td>", report_shape(r, &f->out));
    html_share(r, f->params, r->facts.params);
    html_share(r, f->macs, r->facts.macs);
    fprintf(r->to, "<td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"f\">",
            report_field(r, &f->field), report_jump(r, &f->field), text_bytes(r->a, f->activation_bytes));
    html_text(r->to, f->formula);
    fputs("</td></tr>\n", r->to);
}

void report_html(const Report *r)
{
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>", r->to);
    html_text(r->to, r->g->name);
    fputs("</title>\n<style>body{font:14px/1.5 system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
          "td,th{padding:.25em .7em;border-bottom:1px solid "
          "#ddd;text-align:left;white-space:nowrap}.n{text-align:right;font-variant-numeric:tabular-nums}"
          ".f{font-family:ui-monospace,monospace;font-size:12px;color:#444}tfoot td{font-weight:bold}</style></head><body>\n<h1>",
          r->to);
    html_text(r->to, r->g->name);
    fprintf(r->to,
            "</h1>\n<p>Input %s, batch %" PRId64
            ". Inference %s, training %s%s.</p>\n<table><thead><tr><th>layer</th><th>type</th><th>output</th><th "
            "class=\"n\">params</th>"
            "<th class=\"n\">MACs</th><th class=\"n\">field</th><th class=\"n\">jump</th><th "
            "class=\"n\">memory</th><th>formula</th></tr></thead><tbody>\n",
            shape_text(r->a, &r->g->input_shape, false), r->g->batch, text_bytes(r->a, r->inference_bytes),
            text_bytes(r->a, r->training_bytes), r->estimated ? " (estimated)" : "");
    for (uint32_t i = 0; i < r->facts.n; i++)
        html_layer(r, &r->facts.layer[i]);
    fprintf(r->to,
            "</tbody><tfoot><tr><td>total</td><td></td><td></td><td class=\"n\">%s</td><td "
            "class=\"n\">%s</td><td></td><td></td><td></td><td></td></tr></tfoot></table>\n"
            "<p>Field: the part of the input one number depends on. Jump: how far apart in the input two neighbours look. Bars: "
            "share of the total.</p>\n</body></html>\n",
            text_thousands(r->a, r->facts.params), text_thousands(r->a, r->facts.macs));
}
