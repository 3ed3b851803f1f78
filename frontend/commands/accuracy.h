/* accuracy: --max-rel-err E. The error of a compiled program is the largest absolute difference of an output from the reference
 * interpreter's (double precision, on the self-test's samples) over the largest absolute output. */
#ifndef CNNC_FRONTEND_COMMANDS_ACCURACY_H
#define CNNC_FRONTEND_COMMANDS_ACCURACY_H
#include "frontend/commands/code.h"

/* Compiles c->program with the fastest algorithms whose error, measured, is at most E; prints the error. Returns an exit status:
 * EXIT_MODEL when the plain program's error is larger still. */
int accuracy_inference(CodeGen *c);
/* Can the program be run here: on this CPU, on a GPU that is here? */
bool accuracy_can_run(const CodeGen *c);
/* Compiles c->program and tells its error on stderr, where it can run; returns an exit status. */
int accuracy_report(CodeGen *c);
#endif
