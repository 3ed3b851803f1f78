/* A model ready to answer.
 * In: a CnncModel, options. Out: outputs of any number of samples.
 * Invariant: the last call of a run may have fewer samples, and a sample's result depends on neither its neighbours nor
 * the batch's size, as far as the compiled function keeps to that.
 * Idea: preprocessing lies here, not in generated code, since pictures, bytes and floats need different ones. */
#include "runtime/session.h"
#include "runtime/cores.h"
#include "runtime/eval.h"
#include "runtime/samples.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *rt_shape_text(int32_t rank, const int64_t *shape, char *buffer, size_t size)
{
    size_t used = (size_t)snprintf(buffer, size, "[");
    for (int32_t i = 0; i < rank && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < size)
        snprintf(buffer + used, size - used, "]");
    return buffer;
}

OutKind model_out_kind(const CnncModel *m)
{
    int i = m->n_layers - 1;
    while (i > 0 && (strcmp(m->layers[i].type, "Identity") == 0 || strcmp(m->layers[i].type, "Flatten") == 0 ||
                     strncmp(m->layers[i].type, "Dropout", 7) == 0))
        i--;
    const char *last = i >= 0 ? m->layers[i].type : "";
    if (strcmp(last, "LogSoftmax") == 0)
        return OUT_LOG_PROBABILITIES;
    if (strcmp(last, "Softmax") == 0)
        return OUT_PROBABILITIES;
    return model_out_size(m) > 1 ? OUT_LOGITS : OUT_VALUES;
}

/* The model's own names and numbers, or those that came with the weights. */
static bool set_facts(Session *s, RtError *e)
{
    const CnncModel *m = s->model;
    const StoredFacts *f = &s->stored;
    s->norm = (DataNorm){m->n_mean, m->mean, m->std};
    if (m->n_mean < 0) {
        if (f->n_norm == 0)
            return rt_error(e, RT_FILE,
                            "the model says normalize(\"auto\"), but its weights hold no mean and std; train it first");
        s->norm = (DataNorm){f->n_norm, f->mean, f->std};
    }
    if (s->norm.n > 1 && s->norm.n != m->in_shape[0])
        return rt_error(e, RT_FILE, "normalize has %d values, but the input has %lld channels", s->norm.n,
                        (long long)m->in_shape[0]);
    if (m->n_classes > 0)
        s->classes = m->n_classes == s->out_size ? m->class_names : NULL;
    else
        s->classes = f->n_classes == s->out_size ? (const char *const *)f->classes : NULL;
    s->kind = model_out_kind(m);
    return true;
}

bool session_open(Session *s, const CnncModel *m, const SessionOptions *o, RtError *e)
{
    *s =
        (Session){.model = m, .infer = m->infer ? m->infer : m->eval, .in_size = model_in_size(m), .out_size = model_out_size(m)};
    if (!s->infer)
        return rt_error(e, RT_USAGE, "this program was built without inference");
    s->batch = o->batch > 0 && o->batch < s->infer->batch ? o->batch : s->infer->batch;
    int wanted = o->threads > 0 ? o->threads : cores_allowed(), useful = stages_useful_threads(s->infer, s->batch);
    s->threads = threads_new(wanted < useful ? wanted : useful);
    s->exec = s->threads ? exec_new(m, &s->infer, 1, s->threads, e) : NULL;
    if (!s->threads)
        rt_error_memory(e, sizeof(void *));
    if (s->exec && o->load && !o->load(s, o, e)) {
        session_close(s);
        return false;
    }
    const ExecCallShape shape = {.function = s->infer, .batch = s->batch};
    if (s->exec && exec_put_state(s->exec, e) && exec_call_open(s->exec, &s->call, &shape, e) && set_facts(s, e)) {
        s->x = s->call.x;
        s->out = s->call.out;
        return true;
    }
    session_close(s);
    return false;
}

void session_close(Session *s)
{
    if (s->exec)
        exec_call_close(s->exec, &s->call);
    exec_free(s->exec);
    threads_free(s->threads);
    stored_facts_free(&s->stored);
    *s = (Session){0};
}

bool session_run(Session *s, int64_t n, RtError *e)
{
    s->call.n = n;
    return exec_start(s->exec, &s->call, e) && exec_finish(s->exec, &s->call, e);
}

void session_normalize(const Session *s, float *x)
{
    int64_t channels = s->norm.n > 1 ? s->norm.n : 1, plane = s->in_size / channels;
    if (s->norm.n <= 0)
        return;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < plane; i++)
            x[c * plane + i] = (x[c * plane + i] - s->norm.mean[c]) / s->norm.std[c];
}

void session_normalize_bytes(const Session *s, const uint8_t *v, float *x)
{
    for (int64_t i = 0; i < s->in_size; i++)
        x[i] = (float)v[i] / 255.0f;
    session_normalize(s, x);
}

bool session_infer(Session *s, const float *in, int64_t n, float *out, RtError *e)
{
    for (int64_t first = 0; first < n; first += s->batch) {
        int64_t now = n - first < s->batch ? n - first : s->batch;
        memcpy(s->x, in + first * s->in_size, (size_t)(now * s->in_size) * sizeof *in);
        for (int64_t i = 0; i < now; i++)
            session_normalize(s, s->x + i * s->in_size);
        if (!session_run(s, now, e))
            return false;
        memcpy(out + first * s->out_size, s->out, (size_t)(now * s->out_size) * sizeof *out);
    }
    return true;
}

bool session_infer_bytes(Session *s, const uint8_t *in, int64_t n, float *out, RtError *e)
{
    for (int64_t first = 0; first < n; first += s->batch) {
        int64_t now = n - first < s->batch ? n - first : s->batch;
        for (int64_t i = 0; i < now; i++)
            session_normalize_bytes(s, in + (first + i) * s->in_size, s->x + i * s->in_size);
        if (!session_run(s, now, e))
            return false;
        memcpy(out + first * s->out_size, s->out, (size_t)(now * s->out_size) * sizeof *out);
    }
    return true;
}

bool session_infer_file(Session *s, const char *input, const char *output, RtError *e)
{
    Samples in = {0};
    int64_t shape[CNNC_MAX_RANK + 1];
    const CnncModel *m = s->model;
    if (!samples_read(input, m->in_rank, m->in_shape, &in, e))
        return false;
    size_t count = (size_t)(in.n * s->out_size);
    float *out = malloc(count * sizeof *out + 1);
    bool fine = out != NULL;
    if (!fine)
        rt_error_memory(e, count * sizeof *out);
    if (fine && in.u8)
        fine = session_infer_bytes(s, in.u8, in.n, out, e);
    else if (fine)
        fine = session_infer(s, in.f32, in.n, out, e);
    shape[0] = in.n;
    for (int i = 0; i < m->out_rank; i++)
        shape[i + 1] = m->out_shape[i];
    fine = fine && npy_write_f32(output, m->out_rank + 1, shape, out, e);
    samples_free(&in);
    free(out);
    return fine;
}

void session_probabilities(const Session *s, const float *out, double *p)
{
    double top = (double)out[0], sum = 0;
    for (int64_t i = 1; i < s->out_size; i++)
        top = (double)out[i] > top ? (double)out[i] : top;
    for (int64_t i = 0; i < s->out_size; i++) {
        double x = (double)out[i];
        p[i] = s->kind == OUT_LOGITS ? exp(x - top) : s->kind == OUT_LOG_PROBABILITIES ? exp(x) : x;
        sum += p[i];
    }
    for (int64_t i = 0; s->kind == OUT_LOGITS && i < s->out_size; i++)
        p[i] /= sum;
}
