/* Reads whole files and writes files atomically.
 * In: paths. Out: bytes in memory, or a file on disk.
 * Relies on POSIX; leaves no half-written file: data is synced before the rename, and the folder after it.
 * Idea: weights are hundreds of megabytes, so regular files are mapped; 64 KB of buffering serve the writers. */
#include "runtime/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE_BUFFER = 1 << 16, SMALL = 1 << 18 }; /* SMALL: reading costs less than mapping */

/* guess: the expected length, or anything. */
static bool read_stream(int fd, const char *path, size_t guess, FileBytes *out, RtError *e)
{
    size_t cap = guess + 1, len = 0; /* one more, so that the end shows without growing */
    uint8_t *buf = malloc(cap);
    for (;;) {
        if (buf && len == cap) {
            uint8_t *more = cap < (size_t)1 << 40 ? realloc(buf, cap *= 2) : NULL;
            if (!more)
                free(buf);
            buf = more;
        }
        if (!buf)
            return rt_error_memory(e, cap);
        ssize_t got = read(fd, buf + len, cap - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(buf);
            return rt_error_errno(e, "cannot read '%s'", path);
        }
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *out = (FileBytes){buf, len, false};
    return true;
}

bool file_read(const char *path, FileBytes *out, RtError *e)
{
    *out = (FileBytes){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return rt_error_errno(e, "cannot open '%s'", path);
    struct stat st;
    bool ok;
    if (fstat(fd, &st) != 0) {
        ok = rt_error_errno(e, "cannot read '%s'", path);
    } else if (S_ISDIR(st.st_mode)) {
        ok = rt_error(e, RT_FILE, "cannot read '%s': it is a folder", path);
    } else if (S_ISREG(st.st_mode) && st.st_size > SMALL) {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        ok = at != MAP_FAILED || rt_error_errno(e, "cannot read '%s'", path);
        if (ok)
            *out = (FileBytes){at, (size_t)st.st_size, true};
    } else {
        ok = read_stream(fd, path, S_ISREG(st.st_mode) ? (size_t)st.st_size : WRITE_BUFFER, out, e);
    }
    close(fd);
    return ok;
}

void file_free(FileBytes *f)
{
    if (f->mapped)
        munmap(f->at, f->len);
    else
        free(f->at);
    *f = (FileBytes){0};
}

void file_forget(const FileBytes *f, const void *at, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)at + page - 1) & ~(page - 1), to = ((uintptr_t)at + bytes) & ~(page - 1);
    if (f->mapped && from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

bool file_exists(const char *path) { return access(path, R_OK) == 0; }

bool file_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool file_writer_open(FileWriter *w, const char *path, RtError *e)
{
    *w = (FileWriter){.fd = -1};
    size_t n = strlen(path);
    w->path = strdup(path);
    w->temp = calloc(1, n + 12);
    w->buf = malloc(WRITE_BUFFER);
    if (!w->path || !w->temp || !w->buf) {
        file_writer_abandon(w);
        return rt_error_memory(e, WRITE_BUFFER);
    }
    /* A device or a pipe (/dev/null, /dev/stdout) is written to, never replaced. */
    struct stat st;
    bool direct = stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
    snprintf(w->temp, n + 12, "%s.tmpXXXXXX", path);
    w->fd = direct ? open(path, O_WRONLY | O_CLOEXEC) : mkstemp(w->temp);
    if (direct)
        w->temp[0] = '\0';
    if (w->fd < 0) {
        rt_error_errno(e, "cannot write '%s'", path);
        w->temp[0] = '\0';
        file_writer_abandon(w);
        return false;
    }
    if (direct)
        return true;
    /* mkstemp makes private files; give them what the user's umask would. */
    mode_t mask = umask(022);
    umask(mask);
    fchmod(w->fd, 0666 & ~mask);
    return true;
}

static void flush(FileWriter *w, const uint8_t *p, size_t n)
{
    while (n && !w->error) {
        ssize_t put = write(w->fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            w->error = put ? errno : ENOSPC;
            return;
        }
        p += put;
        n -= (size_t)put;
    }
}

void file_writer_put(FileWriter *w, const void *bytes, size_t n)
{
    if (n >= WRITE_BUFFER || w->used + n > WRITE_BUFFER) {
        flush(w, w->buf, w->used);
        w->used = 0;
    }
    if (n >= WRITE_BUFFER) {
        flush(w, bytes, n);
    } else if (n) {
        memcpy(w->buf + w->used, bytes, n);
        w->used += n;
    }
}

static void sync_folder_of(const char *path)
{
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
    if (slash)
        slash[slash == copy] = '\0';
    int fd = copy ? open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

bool file_writer_commit(FileWriter *w, RtError *e)
{
    flush(w, w->buf, w->used);
    if (!w->error && fsync(w->fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        w->error = errno;
    if (close(w->fd) != 0 && !w->error)
        w->error = errno;
    w->fd = -1;
    if (!w->error && w->temp[0] && rename(w->temp, w->path) != 0)
        w->error = errno;
    bool ok = !w->error;
    if (ok && w->temp[0]) {
        w->temp[0] = '\0';
        sync_folder_of(w->path);
    } else if (!ok) {
        errno = w->error;
        rt_error_errno(e, "cannot write '%s'", w->path);
    }
    file_writer_abandon(w);
    return ok;
}

void file_writer_abandon(FileWriter *w)
{
    if (w->fd >= 0)
        close(w->fd);
    if (w->temp && w->temp[0])
        unlink(w->temp);
    free(w->temp);
    free(w->path);
    free(w->buf);
    *w = (FileWriter){.fd = -1};
}

bool file_write(const char *path, const void *bytes, size_t n, RtError *e)
{
    FileWriter w;
    if (!file_writer_open(&w, path, e))
        return false;
    file_writer_put(&w, bytes, n);
    return file_writer_commit(&w, e);
}
