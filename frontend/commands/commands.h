/* The commands: one function each, one file each. Every one returns an exit status and has printed what went wrong. */
#ifndef CNNC_FRONTEND_COMMANDS_COMMANDS_H
#define CNNC_FRONTEND_COMMANDS_COMMANDS_H
#include "frontend/options.h"

int command_check(Options *o);
int command_report(Options *o);
int command_explain(Options *o);
int command_init(Options *o);
int command_train(Options *o);
int command_eval(Options *o);
int command_run(Options *o);
int command_predict(Options *o);
int command_verify(Options *o);
int command_build(Options *o);
int command_bench(Options *o);
#endif
