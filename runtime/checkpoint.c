/* Checkpoints.
 * In: the state block, a TrainState. Out: a safetensors file, complete or not there at all (weights_write renames).
 * Invariant: numbers are written so that they read back equal (hexadecimal floats), and a file that does not hold every
 * field is refused, so that a resumed run cannot silently differ.
 * Idea: one table of fields drives both the writer and the reader. */
#include "runtime/checkpoint.h"
#include "runtime/json_read.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { FIELD_I64, FIELD_U64, FIELD_I32, FIELD_BOOL, FIELD_DOUBLE } FieldKind;
typedef struct {
    const char *key;
    FieldKind kind;
    size_t offset;
} Field;
#define FIELD(key, kind, member)                                                                                                 \
    {                                                                                                                            \
        key, FIELD_##kind, offsetof(TrainState, member)                                                                          \
    }
static const Field fields[] = {
    FIELD("train.epoch", I64, epoch),
    FIELD("train.position", I64, position),
    FIELD("train.step", I64, step),
    FIELD("train.loss_sum", DOUBLE, loss_sum),
    FIELD("train.loss_n", I64, loss_n),
    FIELD("schedule.lr", DOUBLE, schedule.lr),
    FIELD("schedule.momentum", DOUBLE, schedule.momentum),
    FIELD("schedule.count", I64, schedule.count),
    FIELD("schedule.best", DOUBLE, schedule.best),
    FIELD("schedule.bad", I64, schedule.bad),
    FIELD("schedule.cooldown", I64, schedule.cooldown),
    FIELD("train.has_best", BOOL, has_best),
    FIELD("train.best", DOUBLE, best),
    FIELD("train.seed", U64, seed),
    FIELD("train.batch", I64, batch),
    FIELD("train.samples", I64, samples),
    FIELD("train.shuffle", I32, shuffle),
};
enum {
    N_FIELDS = sizeof fields / sizeof *fields,
    VALUE = 48,
    RNG_WORDS = 625,
    RNG_TEXT = RNG_WORDS * 8 + 1,
    MAX_META = N_FIELDS + 8
};

static void put_field(const Field *f, const TrainState *t, char out[VALUE])
{
    const char *p = (const char *)t + f->offset;
    switch (f->kind) {
    case FIELD_I64:
        snprintf(out, VALUE, "%lld", (long long)*(const int64_t *)p);
        break;
    case FIELD_U64:
        snprintf(out, VALUE, "%llu", (unsigned long long)*(const uint64_t *)p);
        break;
    case FIELD_I32:
        snprintf(out, VALUE, "%d", *(const int32_t *)p);
        break;
    case FIELD_BOOL:
        snprintf(out, VALUE, "%d", *(const bool *)p);
        break;
    case FIELD_DOUBLE:
        snprintf(out, VALUE, "%a", *(const double *)p);
        break;
    }
}

static bool take_field(const Field *f, const char *text, TrainState *t)
{
    char *p = (char *)t + f->offset, *end;
    if (f->kind == FIELD_DOUBLE) {
        *(double *)p = strtod(text, &end);
    } else if (f->kind == FIELD_U64) {
        *(uint64_t *)p = strtoull(text, &end, 10);
    } else {
        long long x = strtoll(text, &end, 10);
        if (f->kind == FIELD_I64)
            *(int64_t *)p = x;
        else if (f->kind == FIELD_I32)
            *(int32_t *)p = (int32_t)x;
        else
            *(bool *)p = x != 0;
    }
    return end != text && !*end;
}

static void put_rng(const Rng *g, char *out)
{
    for (int i = 0; i < RNG_WORDS; i++)
        snprintf(out + 8 * i, 9, "%08x", i < RNG_WORDS - 1 ? g->state[i] : g->next);
}

static bool take_rng(const char *text, Rng *g)
{
    if (strlen(text) != RNG_TEXT - 1)
        return false;
    for (int i = 0; i < RNG_WORDS; i++) {
        char word[9] = {0}, *end;
        memcpy(word, text + 8 * i, 8);
        uint32_t x = (uint32_t)strtoul(word, &end, 16);
        if (*end)
            return false;
        *(i < RNG_WORDS - 1 ? &g->state[i] : &g->next) = x;
    }
    return g->next <= 624;
}

/* "[0.1307, 0.3]", malloc'd; NULL without memory */
static char *join_floats(const float *x, int32_t n)
{
    char *text = malloc((size_t)n * 20 + 3), *p = text;
    if (!text)
        return NULL;
    *p++ = '[';
    for (int32_t i = 0; i < n; i++)
        p += sprintf(p, "%s%.9g", i ? ", " : "", (double)x[i]);
    strcpy(p, "]");
    return text;
}

static bool split_floats(const char *text, float **out, int32_t *n)
{
    Json j = {text, text + strlen(text)};
    size_t most = strlen(text) / 2 + 1;
    float *x = malloc(most * sizeof *x);
    double v;
    *out = x;
    *n = 0;
    if (!x || !json_take(&j, '['))
        return false;
    do {
        if (!json_number(&j, &v))
            return false;
        x[(*n)++] = (float)v;
    } while (json_take(&j, ','));
    return json_take(&j, ']') && json_end(&j);
}

/* Class names and normalisation as metadata; the values are malloc'd. */
static bool put_facts(const WeightsFacts *f, WeightsMeta *meta, int *n)
{
    int start = *n;
    if (f->n_classes > 0)
        meta[(*n)++] = (WeightsMeta){"classes", weights_join(f->classes, f->n_classes)};
    if (f->n_norm > 0) {
        meta[(*n)++] = (WeightsMeta){"mean", join_floats(f->mean, f->n_norm)};
        meta[(*n)++] = (WeightsMeta){"std", join_floats(f->std, f->n_norm)};
    }
    for (int i = start; i < *n; i++)
        if (!meta[i].value)
            return false;
    return true;
}

static bool write_file(const char *path, const CnncModel *m, const char *state, const WeightsFacts *facts, WeightsMeta *meta,
                       int n, unsigned roles, RtError *e)
{
    meta[n++] = (WeightsMeta){"format", "pt"}; /* what PyTorch's loaders look for */
    int owned = n;
    meta[n++] = (WeightsMeta){"model", strdup(m->name ? m->name : "")};
    bool fine = put_facts(facts, meta, &n) && meta[owned].value;
    fine = fine ? weights_write(path, m->tensors, m->n_tensors, roles, state, meta, n, e) : rt_error_memory(e, 1 << 16);
    for (int i = owned; i < n; i++)
        free(meta[i].value);
    return fine;
}

enum {
    ROLES_WEIGHTS = 1 << CNNC_ROLE_PARAM | 1 << CNNC_ROLE_FROZEN | 1 << CNNC_ROLE_BUFFER,
    ROLES_ALL = ROLES_WEIGHTS | 1 << CNNC_ROLE_OPTIMIZER
};

bool checkpoint_write_weights(const char *path, const CnncModel *m, const char *state, const WeightsFacts *facts, RtError *e)
{
    WeightsMeta meta[MAX_META];
    return write_file(path, m, state, facts, meta, 0, ROLES_WEIGHTS, e);
}

bool checkpoint_write(const char *path, const CnncModel *m, const char *state, const WeightsFacts *facts, const TrainState *t,
                      RtError *e)
{
    WeightsMeta meta[MAX_META];
    char values[N_FIELDS][VALUE], rng[RNG_TEXT];
    int n = 0;
    for (; n < N_FIELDS; n++) {
        put_field(&fields[n], t, values[n]);
        meta[n] = (WeightsMeta){(char *)fields[n].key, values[n]};
    }
    put_rng(&t->rng, rng);
    meta[n++] = (WeightsMeta){"train.rng", rng};
    if (m->plan && *m->plan)
        meta[n++] = (WeightsMeta){"train.plan", (char *)m->plan};
    return write_file(path, m, state, facts, meta, n, ROLES_ALL, e);
}

static bool take_train_state(const WeightsFile *w, const char *path, TrainState *t, RtError *e)
{
    if (!weights_meta(w, "train.step"))
        return rt_error(e, RT_FILE, "%s holds weights, but no checkpoint to resume from (--weights starts anew from it)", path);
    for (int i = 0; i < N_FIELDS; i++) {
        const char *text = weights_meta(w, fields[i].key);
        if (!text || !take_field(&fields[i], text, t))
            return rt_error(e, RT_FILE, "%s is a damaged checkpoint: its '%s' is %s", path, fields[i].key,
                            text ? "unreadable" : "missing");
    }
    const char *rng = weights_meta(w, "train.rng");
    if (!rng || !take_rng(rng, &t->rng))
        return rt_error(e, RT_FILE, "%s is a damaged checkpoint: its random generator's state is %s", path,
                        rng ? "unreadable" : "missing");
    if (t->epoch < 0 || t->position < 0 || t->step < 0 || t->batch < 1)
        return rt_error(e, RT_FILE, "%s is a damaged checkpoint: its counters are negative", path);
    return true;
}

bool checkpoint_read(const char *path, const CnncModel *m, char *state, TrainState *t, RtError *e)
{
    WeightsFile w = {0};
    WeightsMatch match;
    if (!weights_read(path, &w, e))
        return false;
    bool fine =
        take_train_state(&w, path, t, e) && weights_load(&w, path, m->tensors, m->n_tensors, false, true, state, &match, e);
    weights_free(&w);
    return fine;
}

char *checkpoint_plan(const char *path, RtError *e)
{
    WeightsFile w = {0};
    if (!weights_read(path, &w, e))
        return NULL;
    const char *text = weights_meta(&w, "train.plan");
    char *plan = strdup(text ? text : "");
    weights_free(&w);
    if (!plan)
        rt_error_memory(e, 64);
    return plan;
}

char *checkpoint_path(const char *path)
{
    static const char end[] = ".safetensors", insert[] = ".ckpt";
    size_t n = strlen(path), cut = n > sizeof end - 1 && strcmp(path + n - (sizeof end - 1), end) == 0 ? n - (sizeof end - 1) : n;
    char *out = malloc(n + sizeof insert + sizeof end);
    if (out)
        sprintf(out, "%.*s%s%s", (int)cut, path, insert, end);
    return out;
}

bool stored_facts_read(const WeightsFile *w, StoredFacts *out, RtError *e)
{
    const char *classes = weights_meta(w, "classes"), *mean = weights_meta(w, "mean"), *std = weights_meta(w, "std");
    int32_t n_std = 0;
    *out = (StoredFacts){0};
    if (classes)
        out->classes = weights_list(classes, &out->n_classes);
    bool fine = !classes || out->classes;
    if (fine && mean && std)
        fine = split_floats(mean, &out->mean, &out->n_norm) && split_floats(std, &out->std, &n_std) && n_std == out->n_norm;
    if (fine)
        return true;
    stored_facts_free(out);
    return rt_error(e, RT_FILE, "the weights file's metadata (classes, mean, std) is damaged");
}

void stored_facts_free(StoredFacts *f)
{
    if (f->classes)
        weights_list_free(f->classes, f->n_classes);
    free(f->mean);
    free(f->std);
    *f = (StoredFacts){0};
}
