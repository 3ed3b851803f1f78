/* A folder of compiled kernels.
 * In: a key (text, options, versions), parts. Out: the parts again, in a later run.
 * Invariant: an entry appears whole, by rename, and is checked when it is read. Idea: one file an entry,
 *
 *     Head | key | length of each part | parts        named by a hash of the key; its time of change is that of its last use */
#include "codegen/gpu/cache.h"
#include "ir/base/vec.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct { char magic[8]; uint64_t key_size, n, checksum; } Head;   /* checksum: of all bytes behind the head */
static const char magic[8] = "cnnc-k2";
static const char ending[] = ".kernels";

/* FNV-1a's step, over eight bytes at once and with its high half brought down: texts and images are a megabyte. */
static uint64_t hash(const char *bytes, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u ^ n;
    for (size_t i = 0; i < n; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, n - i < sizeof word ? n - i : sizeof word);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return h;
}

static const char *folder(Arena *a)
{
    const char *given = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (given && *given == '/')
        return arena_printf(a, "%s/cnnc", given);
    return home && *home == '/' ? arena_printf(a, "%s/.cache/cnnc", home) : NULL;
}

static const char *entry_path(Arena *a, const char *key)
{
    const char *dir = folder(a);
    return dir ? arena_printf(a, "%s/%016llx%s", dir, (unsigned long long)hash(key, strlen(key)), ending) : NULL;
}

static bool read_file(Arena *a, const char *path, char **bytes, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool fine = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= (off_t)sizeof(Head) && st.st_size <= CACHE_BYTES;
    if (fine) {
        *size = (size_t)st.st_size;
        *bytes = arena_alloc(a, *size);
        fine = read(fd, *bytes, *size) == (ssize_t)*size;
    }
    if (fine)
        futimens(fd, NULL);   /* used now */
    if (fd >= 0)
        close(fd);
    return fine;
}

bool cache_get(Arena *a, const char *key, CachePart *parts, int n)
{
    const char *path = entry_path(a, key);
    char *bytes;
    size_t size, lengths = (size_t)n * sizeof(uint64_t), key_size = strlen(key);
    if (!path || !read_file(a, path, &bytes, &size))
        return false;
    Head head;
    memcpy(&head, bytes, sizeof head);
    const char *at = bytes + sizeof head, *end = bytes + size;
    if (memcmp(head.magic, magic, sizeof magic) || head.n != (uint64_t)n || head.key_size != key_size ||
        (size_t)(end - at) < key_size + lengths || head.checksum != hash(at, (size_t)(end - at)) || memcmp(at, key, key_size))
        return false;
    const char *length = at + key_size;
    at = length + lengths;
    for (int i = 0; i < n; i++) {
        uint64_t part;
        memcpy(&part, length + (size_t)i * sizeof part, sizeof part);
        if (part > (uint64_t)(end - at))
            return false;
        char *copy = arena_alloc(a, part);   /* aligned */
        memcpy(copy, at, part);
        parts[i] = (CachePart){copy, part};
        at += part;
    }
    return true;
}

static bool write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done <= 0)
            return false;
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

static const char *entry_bytes(Arena *a, const char *key, const CachePart *parts, int n, size_t *size)
{
    Head head = {.key_size = strlen(key), .n = (uint64_t)n};
    memcpy(head.magic, magic, sizeof magic);
    *size = sizeof head + head.key_size + (size_t)n * sizeof(uint64_t);
    for (int i = 0; i < n; i++)
        *size += parts[i].size;
    char *bytes = arena_alloc(a, *size), *at = bytes + sizeof head;
    memcpy(at, key, head.key_size);
    at += head.key_size;
    for (int i = 0; i < n; i++, at += sizeof(uint64_t))
        memcpy(at, &(uint64_t){parts[i].size}, sizeof(uint64_t));
    for (int i = 0; i < n; i++) {
        memcpy(at, parts[i].bytes, parts[i].size);
        at += parts[i].size;
    }
    head.checksum = hash(bytes + sizeof head, *size - sizeof head);
    memcpy(bytes, &head, sizeof head);
    return bytes;
}

void cache_put(Arena *a, const char *key, const CachePart *parts, int n)
{
    const char *path = entry_path(a, key), *dir = folder(a);
    size_t size;
    if (!path)
        return;
    char *parent = arena_strdup(a, dir);
    *strrchr(parent, '/') = '\0';
    mkdir(parent, 0700);
    mkdir(dir, 0700);
    char *temporary = arena_printf(a, "%s.XXXXXX", path);
    int fd = mkstemp(temporary);
    if (fd < 0)
        return;
    const char *bytes = entry_bytes(a, key, parts, n, &size);
    bool fine = write_all(fd, bytes, size);
    fine = close(fd) == 0 && fine;
    if (!fine || rename(temporary, path) != 0)
        unlink(temporary);
    cache_trim(a, CACHE_BYTES);
}

/* ---- size ---- */

typedef struct { const char *path; int64_t size; struct timespec used; } Entry;

static int by_use(const void *a, const void *b)
{
    const struct timespec *x = &((const Entry *)a)->used, *y = &((const Entry *)b)->used;
    return x->tv_sec != y->tv_sec ? (x->tv_sec > y->tv_sec) - (x->tv_sec < y->tv_sec) : (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

void cache_trim(Arena *a, int64_t most)
{
    const char *dir = folder(a);
    DIR *d = dir ? opendir(dir) : NULL;
    Vec(Entry) entries = {0};
    int64_t total = 0;
    if (!d)
        return;
    for (const struct dirent *f; (f = readdir(d));) {
        const char *path = arena_printf(a, "%s/%s", dir, f->d_name);
        struct stat st;
        if (!strstr(f->d_name, ending) || stat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        vec_push(a, &entries, ((Entry){path, st.st_size, st.st_mtim}));
        total += st.st_size;
    }
    closedir(d);
    if (entries.len)
        qsort(entries.at, entries.len, sizeof *entries.at, by_use);
    for (uint32_t i = 0; i < entries.len && total > most; i++) {
        unlink(entries.at[i].path);
        total -= entries.at[i].size;
    }
}
