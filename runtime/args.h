/* Options of a program: a table, filled in from the command line. The strings stay argv's. */
#ifndef CNNC_RUNTIME_ARGS_H
#define CNNC_RUNTIME_ARGS_H
#include "runtime/error.h"
#include <stdint.h>
#include <stdio.h>

typedef enum { ARG_FLAG, ARG_INT, ARG_NUMBER, ARG_TEXT } ArgKind;   /* value: bool *, int64_t *, double *, const char ** */
typedef struct {
    const char *name;        /* "--epochs" */
    const char *letter;      /* "-o", or NULL */
    ArgKind kind;
    void *value;             /* left alone when the option is absent */
    double min;              /* least value of numbers */
    const char *meta, *help; /* "N", "a sentence" */
} Arg;

/* Takes the options out of argv, in any place, as `--x v` or `--x=v`; *argc arguments (argv[0] among them) are left.
 * After `--` everything is left. False (RT_USAGE) names the bad option and the nearest known one. */
bool args_parse(const Arg *table, int n, int *argc, char **argv, RtError *e);
void args_print(FILE *to, const Arg *table, int n);   /* the options' help, one line each */
#endif
