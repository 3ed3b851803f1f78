/* Reads folders of pictures, one sub-folder per class: ImageFolder("dir", size=(H, W)).
 * In: dir/train/CLASS/... and dir/test|valid|val/CLASS/..., or dir/CLASS/... alone. Out: data sets of bytes in planes.
 * Relies on image.c; leaves pictures of one size. Classes and files are in torchvision's order: sorted by name.
 * Idea: all pictures are decoded once, by a few threads, when they fit in memory; otherwise the files are kept and each batch
 * decodes its own. All files that cannot be read are named at once. */
#include "runtime/data_readers.h"
#include "runtime/file.h"
#include "runtime/image.h"
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_DEPTH = 16, MAX_THREADS = 16 };
static const int64_t default_memory = (int64_t)2 << 30;

/* ---- names ---- */

typedef struct {
    char **at;
    int64_t n, cap;
} Names;

static bool names_add(Names *l, char *name)
{
    if (name && l->n == l->cap) {
        int64_t cap = l->cap ? l->cap * 2 : 64;
        char **more = realloc(l->at, (size_t)cap * sizeof *more);
        if (!more) {
            free(name);
            return false;
        }
        l->at = more;
        l->cap = cap;
    }
    if (name)
        l->at[l->n++] = name;
    return name != NULL;
}

static void names_free(Names *l)
{
    for (int64_t i = 0; i < l->n; i++)
        free(l->at[i]);
    free(l->at);
    *l = (Names){0};
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Entries of a folder, sorted; hidden ones are passed over. folders: only folders, otherwise only others. */
static bool list_folder(const char *path, bool folders, Names *out, RtError *e)
{
    DIR *dir = opendir(path);
    if (!dir)
        return rt_error_errno(e, "cannot open '%s'", path);
    bool ok = true;
    for (struct dirent *d; ok && (d = readdir(dir));) {
        char *full = d->d_name[0] == '.' ? NULL : path_join(path, d->d_name);
        if (full && file_is_folder(full) == folders)
            ok = names_add(out, strdup(d->d_name)) || rt_error_memory(e, strlen(d->d_name));
        free(full);
    }
    closedir(dir);
    if (out->n)
        qsort(out->at, (size_t)out->n, sizeof *out->at, by_name);
    return ok;
}

/* ---- files ---- */

static bool add_file(Dataset *d, int64_t *cap, char *path, int32_t label)
{
    if (path && d->n_files == *cap) {
        *cap = *cap ? *cap * 2 : 256;
        DataFile *more = realloc(d->files, (size_t)*cap * sizeof *more);
        if (!more) {
            free(path);
            return false;
        }
        d->files = more;
    }
    if (path)
        d->files[d->n_files++] = (DataFile){path, label};
    return path != NULL;
}

/* Pictures of a class, also in folders below. */
static bool find_files(const char *folder, int32_t label, int depth, Dataset *d, int64_t *cap, RtError *e)
{
    Names files = {0}, folders = {0};
    bool ok = list_folder(folder, false, &files, e) && list_folder(folder, true, &folders, e);
    for (int64_t i = 0; ok && i < files.n; i++)
        if (image_name_fits(files.at[i]))
            ok = add_file(d, cap, path_join(folder, files.at[i]), label) || rt_error_memory(e, sizeof *d->files);
    for (int64_t i = 0; ok && i < folders.n && depth < MAX_DEPTH; i++) {
        char *inner = path_join(folder, folders.at[i]);
        ok = inner ? find_files(inner, label, depth + 1, d, cap, e) : rt_error_memory(e, 1);
        free(inner);
    }
    names_free(&files);
    names_free(&folders);
    return ok;
}

static int64_t find_name(const Names *l, const char *name)
{
    for (int64_t i = 0; i < l->n; i++)
        if (strcmp(l->at[i], name) == 0)
            return i;
    return -1;
}

/* The files of all classes of one part. A class that training does not know is an error, one without pictures as well. */
static bool find_part(const char *folder, const Names *classes, Dataset *d, RtError *e)
{
    Names here = {0};
    int64_t cap = 0;
    bool ok = list_folder(folder, true, &here, e);
    for (int64_t i = 0; ok && i < here.n; i++) {
        int64_t label = find_name(classes, here.at[i]), before = d->n_files;
        char *path = path_join(folder, here.at[i]);
        if (label < 0)
            ok = rt_error(e, RT_FILE, "'%s' has a class '%s' that is not among the %" PRId64 " classes of the training part",
                          folder, here.at[i], classes->n);
        else
            ok = path ? find_files(path, (int32_t)label, 0, d, &cap, e) : rt_error_memory(e, 1);
        if (ok && d->n_files == before)
            ok = rt_error(e, RT_FILE, "class '%s' in '%s' has no pictures (PNG, JPEG, PGM or PPM)", here.at[i], folder);
        free(path);
    }
    names_free(&here);
    return ok;
}

/* ---- decoding ---- */

typedef struct {
    Dataset *d;
    atomic_llong next;
    atomic_int bad;
    char (*why)[512]; /* [files], empty where all is well; allocated at the first failure by whoever sees it first */
    pthread_mutex_t lock;
} Decode;

static void note_failure(Decode *job, int64_t i, const char *text)
{
    pthread_mutex_lock(&job->lock);
    if (!job->why)
        job->why = calloc((size_t)job->d->n_files, sizeof *job->why);
    if (job->why)
        snprintf(job->why[i], sizeof *job->why, "%.511s", text);
    pthread_mutex_unlock(&job->lock);
    atomic_fetch_add(&job->bad, 1);
}

static void *decode_some(void *arg)
{
    Decode *job = arg;
    Dataset *d = job->d;
    RtError *e = malloc(sizeof *e);
    for (int64_t i; e && (i = atomic_fetch_add(&job->next, 1)) < d->n_files && atomic_load(&job->bad) < 100;) {
        Image image;
        if (image_load(d->files[i].path, (int)d->shape[0], d->shape[1], d->shape[2], &image, e)) {
            image_to_planes(&image, d->u8 + i * d->sample);
            image_free(&image);
        } else {
            note_failure(job, i, e->text);
        }
    }
    if (!e)
        atomic_fetch_add(&job->bad, 1);
    free(e);
    return NULL;
}

static bool report_failures(const Decode *job, RtError *e)
{
    int bad = atomic_load(&job->bad);
    size_t len = 0;
    char text[8192] = "";
    int shown = 0;
    for (int64_t i = 0; job->why && i < job->d->n_files && shown < 10; i++)
        if (job->why[i][0]) {
            len += (size_t)snprintf(text + len, sizeof text - len, "\n  %s", job->why[i]);
            shown++;
        }
    if (bad > shown)
        snprintf(text + len, sizeof text - len, "\n  and %d more", bad - shown);
    return rt_error(e, RT_FILE, "%d of %" PRId64 " pictures cannot be read:%s", bad, job->d->n_files, text);
}

static bool decode_all(Dataset *d, RtError *e)
{
    Decode job = {.d = d};
    d->u8 = malloc((size_t)(d->n_files * d->sample) + 1);
    if (!d->u8)
        return rt_error_memory(e, (unsigned long long)(d->n_files * d->sample));
    pthread_mutex_init(&job.lock, NULL);
    pthread_t threads[MAX_THREADS];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int want = cores > MAX_THREADS ? MAX_THREADS : cores < 1 ? 1 : (int)cores, started = 0;
    /* the caller works too */
    while (started < want - 1 && started < d->n_files / 16 && pthread_create(&threads[started], NULL, decode_some, &job) == 0)
        started++;
    decode_some(&job);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&job.lock);
    bool ok = !atomic_load(&job.bad) || report_failures(&job, e);
    free(job.why);
    return ok;
}

static bool take_labels(Dataset *d, RtError *e)
{
    d->n = d->n_files;
    d->labels = malloc((size_t)d->n * sizeof *d->labels + 1);
    if (!d->labels)
        return rt_error_memory(e, (size_t)d->n * sizeof *d->labels);
    for (int64_t i = 0; i < d->n; i++)
        d->labels[i] = d->files[i].label;
    return true;
}

static bool open_part(const DataRequest *r, const char *folder, const Names *classes, Dataset *d, RtError *e)
{
    int64_t h = r->size[0] > 0 ? r->size[0] : r->in_rank == 3 ? r->in_shape[1] : 0;
    int64_t w = r->size[1] > 0 ? r->size[1] : r->size[0] > 0 ? r->size[0] : r->in_rank == 3 ? r->in_shape[2] : 0;
    int64_t c = r->in_rank == 3 ? r->in_shape[0] : 3;
    if (!h || !w || (c != 1 && c != 3))
        return rt_error(e, RT_FILE, "ImageFolder needs a model that takes pictures, input(1, H, W) or input(3, H, W)");
    if (!find_part(folder, classes, d, e) || !take_labels(d, e))
        return false;
    data_set_shape(d, 3, (const int64_t[]){c, h, w});
    d->n_classes = (int32_t)classes->n;
    d->class_names = data_copy_names((const char *const *)classes->at, d->n_classes);
    if (!d->class_names)
        return rt_error_memory(e, (size_t)classes->n);
    int64_t memory = r->memory ? r->memory : default_memory;
    if (d->sample > memory / (d->n_files ? d->n_files : 1))
        return true; /* each batch decodes its own */
    if (!decode_all(d, e))
        return false;
    for (int64_t i = 0; i < d->n_files; i++)
        free(d->files[i].path);
    free(d->files);
    d->files = NULL;
    d->n_files = 0;
    return true;
}

/* ---- the folder ---- */

static char *first_folder(const char *root, const char *const *names)
{
    for (; *names; names++) {
        char *path = path_join(root, *names);
        if (path && file_is_folder(path))
            return path;
        free(path);
    }
    return NULL;
}

bool data_open_folder(const DataRequest *r, DataPair *out, RtError *e)
{
    if (!file_is_folder(r->path))
        return rt_error(e, RT_FILE, "there is no folder '%s' to read pictures from", r->path);
    Names classes = {0};
    char *train = first_folder(r->path, (const char *const[]){"train", NULL});
    char *test = first_folder(r->path, (const char *const[]){"test", "valid", "val", NULL});
    const char *train_path = train ? train : test && !r->want_train ? test : r->path;
    bool whole = !train && !(test && !r->want_train); /* the classes lie in the folder itself */
    bool ok = list_folder(train_path, true, &classes, e);
    if (ok && classes.n == 0)
        ok = rt_error(e, RT_FILE, "'%s' has no sub-folders; each class of pictures needs its own", train_path);
    if (ok && r->n_class_names && r->n_class_names != classes.n)
        ok = rt_error(e, RT_FILE, "'%s' has %" PRId64 " classes, the model has labels for %d", train_path, classes.n,
                      r->n_class_names);
    out->has_valid = r->want_valid && test && !whole;
    if (ok && r->want_train)
        ok = open_part(r, train_path, &classes, &out->train, e);
    if (ok && out->has_valid)
        ok = open_part(r, test, &classes, &out->valid, e);
    names_free(&classes);
    free(train);
    free(test);
    return ok;
}
