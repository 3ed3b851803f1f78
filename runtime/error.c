/* Builds the texts of runtime errors.
 * In: printf-style parts. Out: an RtError.
 * Relies on nothing; never fails: texts that are too long are cut.
 * Idea: one function per way an error arises, all of them returning false. */
#include "runtime/error.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

bool rt_error(RtError *e, RtErrorKind kind, const char *fmt, ...)
{
    if (!e)
        return false;
    va_list ap;
    va_start(ap, fmt);
    e->kind = kind;
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    return false;
}

bool rt_error_errno(RtError *e, const char *fmt, ...)
{
    int saved = errno;
    if (!e)
        return false;
    va_list ap;
    va_start(ap, fmt);
    e->kind = RT_FILE;
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    size_t len = strlen(e->text);
    snprintf(e->text + len, sizeof e->text - len, ": %s", strerror(saved));
    return false;
}

bool rt_error_memory(RtError *e, unsigned long long bytes)
{
    return rt_error(e, RT_INTERNAL, "not enough memory for %.1f MB", (double)bytes / 1e6);
}
