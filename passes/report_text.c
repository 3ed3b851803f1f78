/* The report as a table for people.
 * In: a Report. Out: aligned columns, totals, and what the words mean.
 * Invariant: columns are as wide as their widest cell, numbers to the right.
 * Idea: cells are made first, then measured, then printed. */
#include "passes/report.h"

#include "ir/base/text.h"

#include <inttypes.h>
#include <string.h>

enum { COLUMNS = 9 };
typedef struct {
    const char *head;
    bool right;
} Column;
static const Column COLUMN[COLUMNS] = {{"layer", false}, {"type", false}, {"output", false}, {"params", true},  {"MACs", true},
                                       {"field", true},  {"jump", true},  {"memory", true},  {"formula", false}};

typedef struct {
    const char *cell[COLUMNS];
} Row;

static Row layer_row(const Report *r, const LayerFacts *f)
{
    Arena *a = r->a;
    return (Row){{f->layer->name, f->layer->type, report_shape(r, &f->out), f->params ? text_thousands(a, f->params) : "",
                  f->macs ? text_thousands(a, f->macs) : "", report_field(r, &f->field), report_jump(r, &f->field),
                  text_bytes(a, f->activation_bytes), f->formula}};
}

static void print_row(const Report *r, const Row *row, const size_t *width)
{
    const char *line = " ";
    for (int c = 0; c < COLUMNS; c++) {
        int pad = (int)(width[c] - strlen(row->cell[c]));
        line = COLUMN[c].right
                   ? arena_printf(r->a, "%s%s%*s%s", line, c ? "  " : " ", pad, "", row->cell[c])
                   : arena_printf(r->a, "%s%s%s%*s", line, c ? "  " : " ", row->cell[c], c + 1 < COLUMNS ? pad : 0, "");
    }
    int n = (int)strlen(line);
    while (n > 0 && line[n - 1] == ' ')
        n--;
    fprintf(r->to, "%.*s\n", n, line);
}

static void print_table(const Report *r)
{
    size_t width[COLUMNS];
    Row *rows = NEWN(r->a, Row, r->facts.n + 2), head;
    for (int c = 0; c < COLUMNS; c++) {
        head.cell[c] = COLUMN[c].head;
        width[c] = strlen(head.cell[c]);
    }
    Row total = {{"total", "", "", text_thousands(r->a, r->facts.params), text_thousands(r->a, r->facts.macs), "", "", "", ""}};
    for (uint32_t i = 0; i < r->facts.n; i++)
        rows[i] = layer_row(r, &r->facts.layer[i]);
    rows[r->facts.n] = total;
    for (uint32_t i = 0; i <= r->facts.n; i++)
        for (int c = 0; c < COLUMNS; c++)
            width[c] = strlen(rows[i].cell[c]) > width[c] ? strlen(rows[i].cell[c]) : width[c];
    const char *bold = r->o->color ? "\033[1m" : "", *end = r->o->color ? "\033[0m" : "";
    fputs(bold, r->to);
    print_row(r, &head, width);
    fputs(end, r->to);
    for (uint32_t i = 0; i < r->facts.n; i++)
        print_row(r, &rows[i], width);
    fputs(bold, r->to);
    print_row(r, &rows[r->facts.n], width);
    fputs(end, r->to);
}

static void print_totals(const Report *r)
{
    Arena *a = r->a;
    const Facts *f = &r->facts;
    const char *about = r->estimated ? "about " : "";
    fprintf(r->to, "\n  parameters  %s (%s)", text_thousands(a, f->params), text_bytes(a, f->params * 4));
    if (f->trainable != f->params)
        fprintf(r->to, ", %s of them trained", text_thousands(a, f->trainable));
    if (f->buffers)
        fprintf(r->to, "; %s buffer values", text_thousands(a, f->buffers));
    fprintf(r->to, "\n  work        %s multiply-accumulates a sample\n", text_thousands(a, f->macs));
    fprintf(r->to, "  inference   %s%s at batch %" PRId64 ", weights and all buffers\n", about, text_bytes(a, r->inference_bytes),
            r->g->batch);
    fprintf(r->to, "  training    %s%s at batch %" PRId64 ", with gradients and optimizer state\n", about,
            text_bytes(a, r->training_bytes), r->g->batch);
    if (r->o->memory > 0) {
        fprintf(r->to, "  %s holds a batch of %s%s for inference", text_bytes(a, r->o->memory), about,
                text_thousands(a, r->fits_inference));
        fprintf(r->to, ", of %s%s for training\n", about, text_thousands(a, r->fits_training));
    }
}

void report_text(const Report *r)
{
    fprintf(r->to, "%s: input %s, batch %" PRId64 "\n\n", r->g->name, shape_text(r->a, &r->g->input_shape, false), r->g->batch);
    print_table(r);
    print_totals(r);
    fputs("\n  output: channels, rows, columns of one sample. MACs: multiply-accumulates a sample, without bias.\n"
          "  field: the part of the input one number depends on; jump: how far apart in the input two neighbours look.\n"
          "  whole: after Flatten and Linear every number depends on the whole input. memory: the output at this batch.\n"
          "  `cnnc explain MODEL LAYER` works each of these out step by step.\n",
          r->to);
}
