/* tune: --tune SECONDS. Plans that differ in one choice are compiled and timed on this machine, one after the other; each that is
 * faster becomes the plan that the next one differs from. The result is in c->options.choices. */
#ifndef CNNC_FRONTEND_COMMANDS_TUNE_H
#define CNNC_FRONTEND_COMMANDS_TUNE_H
#include "frontend/commands/code.h"

/* Each returns an exit status and prints what it found. */
int tune_inference(CodeGen *c);
int tune_training(CodeGen *c);
#endif
