/* check: diagnostics only.
 * In: a model. Out: errors and warnings on stderr, the exit status. The idea: driver_load does it all. */
#include "frontend/commands/commands.h"
#include "frontend/driver.h"

int command_check(Options *o)
{
    Compile cc;
    bool done;
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done && o->verbose)
        fprintf(stderr, "%s: %u layers, %d warning%s\n", o->args.at[0], cc.module.graph->layers.len, cc.diags.warnings,
                cc.diags.warnings == 1 ? "" : "s");
    driver_free(&cc);
    return status;
}
