/* report: the table of layers.
 * In: a model. Out: passes/report.h's text on stdout or in a file. The idea: the planner's sums stand behind the memory
 * figures, asked for only when they are printed. */
#include "passes/report.h"
#include "frontend/commands/commands.h"
#include "frontend/commands/memory.h"

static int unknown_format(const Options *o)
{
    driver_error(EXIT_USAGE, "no report format is called '%s'", o->format);
    const char *near = nearest_word(o->format, REPORT_FORMAT_NAMES);
    if (near)
        fprintf(stderr, "help: did you mean %s?\n", near);
    return EXIT_USAGE;
}

int command_report(Options *o)
{
    Compile cc;
    Output out;
    bool done;
    ReportOptions r = {.format = o->format ? report_format(o->format) : REPORT_TEXT,
                       .memory = o->memory ? options_parse_bytes(o->memory) : 0};
    if (r.format == REPORT_FORMATS)
        return unknown_format(o);
    if (r.memory < 0)
        return driver_error(EXIT_USAGE, "--memory needs a size such as 8G, not '%s'", o->memory);
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done) {
        r.src = &cc.src;
        r.planned_bytes = memory_planned;
        r.context = &cc;
        status = driver_open_output(o, &out) ? EXIT_FINE : EXIT_FILE;
        if (!status) {
            r.color = driver_color(o, out.to);
            report(&cc.module, &r, out.to);
            status = driver_close_output(&out);
        }
    }
    driver_free(&cc);
    return status;
}
