/* The stack machine behind pickle_parse, shared by unpickle.c (the opcodes) and unpickle_machine.c (its storage). Internal.
 * The machine owns its stack, marks and memo; values belong to the Pickle. Every function that fails has put its error. */
#ifndef CNNC_RUNTIME_UNPICKLE_MACHINE_H
#define CNNC_RUNTIME_UNPICKLE_MACHINE_H
#include "runtime/unpickle.h"

typedef struct {
    const uint8_t *p, *end;
    const char *file;
    const PickleGlobal *allowed; size_t n_allowed;
    Pickle *out; RtError *e;
    PickleValue **stack; size_t depth, stack_cap;
    size_t *marks; size_t n_marks, mark_cap;
    PickleValue **memo; size_t memo_cap, memo_next;
} PickleMachine;

bool machine_damaged(PickleMachine *m, const char *what);                    /* always false */
void *machine_alloc(PickleMachine *m, size_t bytes);                         /* zeroed; bounded by the file's length */
PickleValue *machine_value(PickleMachine *m, PickleKind kind);               /* NULL: no memory */
bool machine_append(PickleMachine *m, PickleValue *v, PickleValue *item);    /* to a container */
bool machine_push(PickleMachine *m, PickleValue *v);                         /* false also for NULL */
PickleValue *machine_pop(PickleMachine *m);                                  /* never below the last mark; NULL: there is none */
PickleValue *machine_top(PickleMachine *m);                                  /* NULL: there is none */
bool machine_mark(PickleMachine *m);
bool machine_memo_put(PickleMachine *m, uint64_t at);                        /* the top of the stack */
bool machine_memo_get(PickleMachine *m, uint64_t at);
void machine_free(PickleMachine *m);
#endif
