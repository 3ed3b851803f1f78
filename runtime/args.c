/* Command line options.
 * In: a table and argv. Out: values, and argv without the options.
 * Invariant: a value is written only when its text is wholly a number of the kind asked for.
 * Idea: the parser knows nothing of any option; what is near a wrong word is measured by edit distance. */
#include "runtime/args.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const Arg *find(const Arg *table, int n, const char *word, size_t length)
{
    for (int i = 0; i < n; i++)
        if ((strlen(table[i].name) == length && memcmp(table[i].name, word, length) == 0) ||
            (table[i].letter && strlen(table[i].letter) == length && memcmp(table[i].letter, word, length) == 0))
            return &table[i];
    return NULL;
}

/* Edit distance; words longer than 31 letters are far from everything. */
static int distance(const char *a, const char *b)
{
    int row[32], m = (int)strlen(a), n = (int)strlen(b);
    if (m > 31 || n > 31)
        return 99;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            best = best < up + 1 ? best : up + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
            diagonal = up;
        }
    }
    return row[n];
}

static bool unknown(const Arg *table, int n, const char *word, RtError *e)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const char *near = NULL;
    int best = 3;
    for (int i = 0; i < n; i++) {
        int d = distance(name, table[i].name);
        if (d < best) {
            best = d;
            near = table[i].name;
        }
    }
    if (near)
        return rt_error(e, RT_USAGE, "unknown option %s; did you mean %s?", name, near);
    return rt_error(e, RT_USAGE, "unknown option %s (--help lists them)", name);
}

static bool set(const Arg *a, const char *text, RtError *e)
{
    char *end;
    errno = 0;
    if (a->kind == ARG_TEXT) {
        *(const char **)a->value = text;
        return true;
    }
    if (a->kind == ARG_INT) {
        long long x = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return rt_error(e, RT_USAGE, "%s takes a whole number, not '%s'", a->name, text);
        if ((double)x < a->min)
            return rt_error(e, RT_USAGE, "%s must be at least %.0f, not %lld", a->name, a->min, x);
        *(int64_t *)a->value = x;
        return true;
    }
    double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x))
        return rt_error(e, RT_USAGE, "%s takes a number, not '%s'", a->name, text);
    if (x < a->min)
        return rt_error(e, RT_USAGE, "%s must be at least %g, not %g", a->name, a->min, x);
    *(double *)a->value = x;
    return true;
}

bool args_parse(const Arg *table, int n, int *argc, char **argv, RtError *e)
{
    int kept = 1, i = 1;
    for (; i < *argc; i++) {
        char *word = argv[i];
        if (strcmp(word, "--") == 0) {
            i++;
            break;
        }
        if (word[0] != '-' || !word[1]) {
            argv[kept++] = word;
            continue;
        }
        size_t length = strcspn(word, "=");
        const Arg *a = find(table, n, word, length);
        if (!a)
            return unknown(table, n, word, e);
        if (a->kind == ARG_FLAG) {
            if (word[length])
                return rt_error(e, RT_USAGE, "%s takes no value", a->name);
            *(bool *)a->value = true;
            continue;
        }
        if (!word[length] && i + 1 >= *argc)
            return rt_error(e, RT_USAGE, "%s needs a value (%s)", a->name, a->meta);
        if (!set(a, word[length] ? word + length + 1 : argv[++i], e))
            return false;
    }
    for (; i < *argc; i++)
        argv[kept++] = argv[i];
    *argc = kept;
    argv[kept] = NULL;
    return true;
}

void args_print(FILE *to, const Arg *table, int n)
{
    for (int i = 0; i < n; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", table[i].letter ? table[i].letter : "", table[i].letter ? ", " : "",
                 table[i].name, table[i].meta ? " " : "", table[i].meta ? table[i].meta : "");
        fprintf(to, "  %-28s %s\n", left, table[i].help);
    }
}
