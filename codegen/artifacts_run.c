/* artifacts_run.c: half-made files and the programs that make them.
 * In: paths, bytes, argument lists. Out: files renamed into place, or an ArtifactError.
 * Relies on: the folder of `out` being writable; rename being atomic inside it. Leaves: no temporary file.
 * Idea: arguments go to the child as they are (posix_spawn, no shell), so that no file name needs quoting. */
#include "codegen/artifacts_impl.h"
#include "codegen/consts.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

bool artifact_fail(Arena *a, ArtifactError *e, int exit_code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    e->exit_code = exit_code;
    e->text = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return false;
}

static bool cannot_write(Arena *a, ArtifactError *e, const char *out, const char *reason)
{
    return artifact_fail(a, e, 3, "cannot write '%s': %s", out, reason);
}

/* ---- files ---- */
bool temp_open(Arena *a, const char *out, TempDir *t, ArtifactError *e)
{
    struct stat s;
    *t = (TempDir){0};
    if (stat(out, &s) == 0 && S_ISDIR(s.st_mode))
        return cannot_write(a, e, out, "it is a folder");
    char *dir = arena_printf(a, "%s.tmpXXXXXX", out);
    sigset_t interrupts;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    sigaddset(&interrupts, SIGTERM);
    sigaddset(&interrupts, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &interrupts, &t->signals);
    if (!mkdtemp(dir)) {
        int why = errno;
        pthread_sigmask(SIG_SETMASK, &t->signals, NULL);
        return cannot_write(a, e, out, strerror(why));
    }
    t->dir = dir;
    return true;
}

const char *temp_file(Arena *a, TempDir *t, const char *name)
{
    if (t->n == MAX_TEMP_FILES)
        BUG("too many temporary files");
    return t->file[t->n++] = arena_printf(a, "%s/%s", t->dir, name);
}

static bool put_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size < (1u << 30) ? size : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static bool put_some(void *fd, const void *bytes, size_t n) { return put_all(*(const int *)fd, bytes, n); }

bool temp_put_parts(Arena *a, TempDir *t, const char *name, const TempPart *parts, int n, const char **path, ArtifactError *e)
{
    *path = temp_file(a, t, name);
    int fd = open(*path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return cannot_write(a, e, *path, strerror(errno));
    bool ok = true;
    for (int i = 0; i < n && ok; i++)
        ok = parts[i].later ? consts_write(parts[i].later->consts, &parts[i].later->in, put_some, &fd) : put_all(fd, parts[i].data, parts[i].size);
    int why = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    return ok || cannot_write(a, e, *path, strerror(why));
}

bool temp_put(Arena *a, TempDir *t, const char *name, const void *data, size_t size, const char **path, ArtifactError *e)
{
    return temp_put_parts(a, t, name, &(TempPart){data, size, NULL}, 1, path, e);
}

bool temp_move(Arena *a, const char *file, const char *out, ArtifactError *e)
{
    return rename(file, out) == 0 || cannot_write(a, e, out, strerror(errno));
}

void temp_close(TempDir *t)
{
    for (int i = 0; i < t->n; i++)
        unlink(t->file[i]);
    if (!t->dir)
        return;
    rmdir(t->dir);
    t->dir = NULL;
    pthread_sigmask(SIG_SETMASK, &t->signals, NULL);
}

bool artifact_write_file(Arena *a, const char *out, const void *data, size_t size, ArtifactError *e)
{
    TempDir t;
    const char *file;
    bool ok = temp_open(a, out, &t, e) && temp_put(a, &t, "file", data, size, &file, e) && temp_move(a, file, out, e);
    temp_close(&t);
    return ok;
}

/* ---- programs ---- */
static const char *read_all(Arena *a, int fd)
{
    Vec(char) text = {0};
    char part[4096];
    for (;;) {
        ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n && text.len < 8000; i++)   /* the first messages say what is wrong */
            vec_push(a, &text, part[i]);
    }
    while (text.len && text.at[text.len - 1] == '\n')
        text.len--;
    vec_push(a, &text, '\0');
    return text.at;
}

static pid_t start_program(char *const argv[], int out, int *error)
{
    extern char **environ;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;   /* the child may be interrupted */
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, out, 2);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t child = -1;
    *error = posix_spawnp(&child, argv[0], &actions, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return child;
}

int run_program(Arena *a, char *const argv[], const char **output)
{
    int ends[2], error;
    *output = "";
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = start_program(argv, ends[1], &error);
    close(ends[1]);
    if (error == 0)
        *output = read_all(a, ends[0]);
    close(ends[0]);
    if (error != 0) {
        errno = error;
        return -1;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
