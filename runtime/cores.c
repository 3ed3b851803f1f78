/* Cores a process may use.
 * In: the affinity mask, /proc/self/cgroup, /proc/self/mountinfo and the quota files of control groups, versions 1 and 2.
 * Out: a number of cores. Invariant: what cannot be read limits nothing.
 * Idea: a quota holds for everything below its group, so every folder from the process's own group up to where the hierarchy
 * is mounted is asked, and the least wins:
 *
 *   mountinfo   36 25 0:31 ROOT AT rw - cgroup2 ...           version 2: the mount shows the group ROOT in the folder AT
 *               36 25 0:31 ROOT AT rw - cgroup - rw,cpu       version 1: the hierarchy that has the cpu controller
 *   cgroup      0::PATH    or    4:cpu,cpuacct:PATH           the process's group: AT + (PATH without ROOT) */
#include "runtime/cores.h"
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH = 4096 };
typedef struct { bool v2; char root[PATH], at[PATH]; } Mount;

/* Whether a list of words separated by commas has `word`. */
static bool lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",\n") == n && strncmp(p, word, n) == 0)
            return true;
    return false;
}

/* \040 is a space, in place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *p = text; *p; to++) {
        unsigned byte;
        if (*p == '\\' && sscanf(p + 1, "%3o", &byte) == 1) {
            *to = (char)byte;
            p += 4;
        } else {
            *to = *p++;
        }
    }
    *to = '\0';
}

/* Whether a line of mountinfo is a hierarchy of control groups that may hold CPU quotas. */
static bool parse_mount(const char *line, Mount *m)
{
    char type[32], options[1024];
    const char *rest = strstr(line, " - ");
    if (!rest || sscanf(rest, " - %31s %*s %1023s", type, options) != 2 || sscanf(line, "%*s %*s %*s %4095s %4095s", m->root, m->at) != 2)
        return false;
    unescape(m->root);
    unescape(m->at);
    m->v2 = strcmp(type, "cgroup2") == 0;
    return m->v2 || (strcmp(type, "cgroup") == 0 && lists(options, "cpu"));
}

/* The process's group in that hierarchy; "" when it is not told. */
static void own_group(const char *root, bool v2, char *path)
{
    char name[PATH], *line = NULL;
    size_t size = 0;
    path[0] = '\0';
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *f = fopen(name, "re");
    while (f && getline(&line, &size, f) > 0) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (v2 ? strncmp(line, "0:", 3) == 0 : lists(controllers + 1, "cpu"))
            snprintf(path, PATH, "%s", group);
    }
    free(line);
    if (f)
        fclose(f);
}

static bool read_line(const char *folder, const char *file, char *text, int size)
{
    char name[4 * PATH];
    FILE *f = snprintf(name, sizeof name, "%s/%s", folder, file) < (int)sizeof name ? fopen(name, "re") : NULL;
    bool read = f && fgets(text, size, f);
    if (f)
        fclose(f);
    return read;
}

/* Of one group alone; 0: none. */
static double group_quota(const char *folder, bool v2)
{
    char text[64];
    double quota = 0, period = 100000;
    if (v2 && (!read_line(folder, "cpu.max", text, sizeof text) || sscanf(text, "%lf %lf", &quota, &period) < 1))
        return 0;   /* also "max 100000" */
    if (!v2 && (!read_line(folder, "cpu.cfs_quota_us", text, sizeof text) || sscanf(text, "%lf", &quota) < 1))
        return 0;   /* -1: none */
    if (!v2 && read_line(folder, "cpu.cfs_period_us", text, sizeof text))
        sscanf(text, "%lf", &period);
    return quota > 0 && period > 0 ? quota / period : 0;
}

/* Of the groups from the process's own up to the mounted one. In another namespace the path may lie outside the mount: then
 * only that one is seen. */
static double mount_quota(const char *root, const Mount *m)
{
    char group[PATH], folder[3 * PATH];
    own_group(root, m->v2, group);
    size_t above = strcmp(m->root, "/") == 0 ? 0 : strlen(m->root), at = strlen(root) + strlen(m->at);
    bool inside = strncmp(group, m->root, above) == 0 && (!group[above] || group[above] == '/') && !strstr(group, "/..");
    snprintf(folder, sizeof folder, "%s%s%s", root, m->at, inside ? group + above : "");
    double least = 0;
    for (;;) {
        double quota = group_quota(folder, m->v2);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
        char *slash = strrchr(folder + at, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

double cores_quota(const char *root)
{
    char name[PATH], *line = NULL;
    size_t size = 0;
    double least = 0;
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(name, "re");
    while (f && getline(&line, &size, f) > 0) {
        Mount m;
        double quota = parse_mount(line, &m) ? mount_quota(root, &m) : 0;
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
    }
    free(line);
    if (f)
        fclose(f);
    return least;
}

/* Cores of the affinity mask; 0: it cannot be told. */
static int affinity_cores(void)
{
    int cores = 0;
#ifdef CPU_COUNT_S
    for (int most = 1024; most <= 1 << 18 && cores == 0; most *= 4) {
        cpu_set_t *set = CPU_ALLOC(most);
        if (set && sched_getaffinity(0, CPU_ALLOC_SIZE(most), set) == 0)
            cores = CPU_COUNT_S(CPU_ALLOC_SIZE(most), set);
        CPU_FREE(set);
    }
#endif
    return cores;
}

int cores_allowed(void)
{
    int n = affinity_cores();
    if (n <= 0)
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    double quota = cores_quota("");
    if (quota > 0 && quota < n)
        n = (int)quota + (quota > (int)quota);   /* rounded up */
    return n > 0 ? n : 1;
}
