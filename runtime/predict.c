/* Predictions.
 * In: paths. Out: for each sample the most probable classes.
 * Invariant: results come in the order of the paths, whatever the batch.
 * Idea: samples of one file or of many pictures fill the session's batch; when it is full it is run and printed. */
#include "runtime/predict.h"
#include "runtime/file.h"
#include "runtime/json_write.h"
#include "runtime/samples.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *file;
    int64_t index;
} Item; /* index: sample in the file, -1 when it is the only one */

typedef struct {
    Session *s;
    const PredictOptions *o;
    Item *items; /* [batch]: what lies in s->x */
    double *p;   /* [out_size] */
    int64_t n, printed, files_failed, files;
    RtError first; /* of the files that failed */
    RtError device; /* of the device, which ends it all */
    bool no_memory;
} Predict;

static const char *label_of(const Session *s, int64_t i, char buffer[24])
{
    if (s->classes)
        return s->classes[i];
    snprintf(buffer, 24, "%lld", (long long)i);
    return buffer;
}

static int64_t take_best(double *p, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (p[i] > p[best])
            best = i;
    return best;
}

static void put_class(Predict *d, int64_t k, int64_t c, double probability)
{
    FILE *to = d->o->to;
    char buffer[24];
    const char *label = label_of(d->s, c, buffer);
    if (d->o->json) {
        fputs(k ? ", {\"label\": " : "{\"label\": ", to);
        json_put_string(to, label);
        fprintf(to, ", \"index\": %lld, \"probability\": ", (long long)c);
        json_put_number(to, probability);
        putc('}', to);
    } else if (d->s->kind == OUT_VALUES) {
        fprintf(to, "%s%.6g", k ? ", " : "", probability);
    } else {
        fprintf(to, "%s%s (%.2f %%)", k ? ", " : "", label, 100 * probability);
    }
}

static void put_item(Predict *d, const Item *item, const float *out)
{
    FILE *to = d->o->to;
    int64_t top = d->o->top > 0 ? d->o->top : 3;
    top = top < d->s->out_size ? top : d->s->out_size;
    if (d->o->json) {
        fputs(d->printed ? ",\n {\"file\": " : "\n {\"file\": ", to);
        json_put_string(to, item->file);
        if (item->index >= 0)
            fprintf(to, ", \"sample\": %lld", (long long)item->index);
        fputs(", \"top\": [", to);
    } else if (item->index >= 0) {
        fprintf(to, "%s[%lld]: ", item->file, (long long)item->index);
    } else {
        fprintf(to, "%s: ", item->file);
    }
    session_probabilities(d->s, out, d->p);
    for (int64_t k = 0; k < top; k++) {
        int64_t c = take_best(d->p, d->s->out_size);
        put_class(d, k, c, d->p[c]);
        d->p[c] = -HUGE_VAL;
    }
    fputs(d->o->json ? "]}" : "\n", to);
    d->printed++;
}

static void flush(Predict *d)
{
    bool fine = d->n == 0 || (!d->device.kind && session_run(d->s, d->n, &d->device));
    for (int64_t i = 0; i < d->n; i++) {
        if (fine)
            put_item(d, &d->items[i], d->s->out + i * d->s->out_size);
        free(d->items[i].file);
    }
    d->n = 0;
}

static void add_sample(Predict *d, const char *path, int64_t index, const Samples *a, int64_t i)
{
    Session *s = d->s;
    float *x = s->x + d->n * s->in_size;
    if (a->u8) {
        session_normalize_bytes(s, a->u8 + i * s->in_size, x);
    } else {
        memcpy(x, a->f32 + i * s->in_size, (size_t)s->in_size * sizeof *x);
        session_normalize(s, x);
    }
    d->items[d->n] = (Item){strdup(path), index};
    d->no_memory = d->no_memory || !d->items[d->n].file;
    d->n += d->items[d->n].file != NULL;
    if (d->n == s->batch)
        flush(d);
}

static void complain(Predict *d, const RtError *e)
{
    if (d->files_failed++ == 0)
        d->first = *e;
    if (d->o->complaints)
        fprintf(d->o->complaints, "%s: error: %s\n", d->o->program, e->text);
}

static void add_file(Predict *d, const char *path)
{
    Samples a;
    RtError e = {0};
    const CnncModel *m = d->s->model;
    d->files++;
    if (!samples_read_any(path, m->in_rank, m->in_shape, &a, &e)) {
        complain(d, &e);
        return;
    }
    for (int64_t i = 0; i < a.n; i++)
        add_sample(d, path, a.n == 1 ? -1 : i, &a, i);
    samples_free(&a);
}

static int not_hidden(const struct dirent *d) { return d->d_name[0] != '.'; }

/* depth: folders that link to themselves end somewhere */
static void add_folder(Predict *d, const char *path, int depth)
{
    struct dirent **list = NULL;
    int n = scandir(path, &list, not_hidden, alphasort);
    RtError e = {0};
    if (n < 0) {
        rt_error_errno(&e, "cannot read the folder %s", path);
        complain(d, &e);
    }
    for (int i = 0; i < n; i++) {
        char *inner = malloc(strlen(path) + strlen(list[i]->d_name) + 2);
        d->no_memory = d->no_memory || !inner;
        if (inner) {
            sprintf(inner, "%s%s%s", path, path[0] && path[strlen(path) - 1] == '/' ? "" : "/", list[i]->d_name);
            if (file_is_folder(inner) && depth < 32)
                add_folder(d, inner, depth + 1);
            else if (samples_name_fits(inner))
                add_file(d, inner);
        }
        free(inner);
        free(list[i]);
    }
    free(list);
}

bool predict_paths(Session *s, char *const *paths, int n, const PredictOptions *o, RtError *e)
{
    Predict d = {.s = s, .o = o};
    d.items = calloc((size_t)s->batch, sizeof *d.items);
    d.p = malloc((size_t)s->out_size * sizeof *d.p);
    d.no_memory = !d.items || !d.p;
    if (o->json && !d.no_memory)
        putc('[', o->to);
    for (int i = 0; i < n && !d.no_memory; i++) {
        if (file_is_folder(paths[i]))
            add_folder(&d, paths[i], 0);
        else
            add_file(&d, paths[i]);
    }
    if (!d.no_memory)
        flush(&d);
    if (o->json && d.items)
        fputs("\n]\n", o->to);
    free(d.items);
    free(d.p);
    if (d.no_memory)
        return rt_error_memory(e, (unsigned long long)s->batch * sizeof *d.items);
    if (d.device.kind) {
        *e = d.device;
        return false;
    }
    if (fflush(o->to) != 0 || ferror(o->to))
        return rt_error(e, RT_FILE, "the results could not be written");
    if (d.files == 0 && d.files_failed == 0)
        return rt_error(e, RT_FILE, "no pictures or arrays were found in %s", paths[0]);
    if (d.files_failed == 0)
        return true;
    *e = d.first;
    if (o->complaints)
        e->text[0] = '\0';
    return false;
}
