/* The shape report: one row per layer, totals, memory. Reads a shaped module; owns nothing. */
#ifndef CNNC_PASSES_REPORT_H
#define CNNC_PASSES_REPORT_H
#include "passes/facts.h"
#include "passes/pass.h"

typedef enum { REPORT_TEXT, REPORT_JSON, REPORT_CSV, REPORT_MD, REPORT_HTML, REPORT_FORMATS } ReportFormat;
typedef struct {
    ReportFormat format;
    const Source *src; /* for lines and columns; may be NULL */
    int64_t memory;    /* --memory in bytes: which batch fits; 0: not asked */
    /* The planner's sums in bytes at a batch (weights and all buffers), or -1 when there is no plan. NULL: estimated. */
    int64_t (*planned_bytes)(void *context, int64_t batch, bool training);
    void *context;
    bool color; /* text only */
} ReportOptions;

ReportFormat report_format(const char *name);   /* "json"; REPORT_FORMATS: unknown */
extern const char *const REPORT_FORMAT_NAMES[]; /* NULL-terminated, in order of ReportFormat */
void report(const Module *m, const ReportOptions *o, FILE *to);

/* ---- between the report's files ---- */
typedef struct {
    const Module *m;
    const Graph *g;
    const ReportOptions *o;
    FILE *to;
    Arena *a;
    Facts facts;
    LineIndex lines;
    bool estimated; /* no plan: the bytes are an estimate */
    int64_t inference_bytes, training_bytes;
    int64_t fits_inference, fits_training; /* largest batches within `memory`; 0: not even one */
} Report;
LineCol report_place(const Report *r, Span s);
const char *report_shape(const Report *r, const Shape *s); /* "[6, 28, 28]" */
const char *report_field(const Report *r, const Field *f); /* "5x5", "whole" */
const char *report_jump(const Report *r, const Field *f);  /* "1", "2x1", "" */
void report_json(const Report *r);
void report_csv(const Report *r);
void report_md(const Report *r);
void report_html(const Report *r);
void report_text(const Report *r);
#endif
