/* What the machine's CPU has, against what a program was built for. */
#ifndef CNNC_RUNTIME_CPU_H
#define CNNC_RUNTIME_CPU_H
#include "runtime/abi.h"
#include "runtime/error.h"
#include <stdbool.h>
#include <stddef.h>

/* True when this CPU and system have every feature of `features` ("+avx2,+fma,..."; names unknown here are not asked for).
 * For "+amx-tile" the process asks the system to be allowed tile registers, which it is then.
 * Otherwise false, and `missing` holds the names of those that lack, separated by ", ". */
bool cpu_has_features(const char *features, char *missing, size_t size);
/* Fails with RT_DEVICE and a sentence when the CPU lacks what `program` needs. */
bool cpu_check(const char *program, const char *cpu, const char *features, RtError *e);
/* Of several models (NULL ends them) the first whose instructions are all here, or the last one; `only` where there are not several. */
const CnncModel *cpu_model(const CnncModel *only, const CnncModel *const *several);
/* The brand string, for --info; never empty. */
void cpu_name(char *out, size_t size);
#endif
