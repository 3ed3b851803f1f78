/* Evaluation of a model on its test data, as a command.
 * In: a model with a train block, options. Out: metrics as text or JSON.
 * Invariant: the split is drawn as training draws it (after the initial weights), so that the part evaluated is the part
 * that training held back.
 * Idea: a session for the weights and facts, a data request for the data, an Eval over both. */
#include "runtime/eval.h"
#include "runtime/init.h"
#include "runtime/session.h"
#include <stdlib.h>
#include <string.h>

/* Opens the test part; *part: "test", "validation" or "training". */
static bool open_test(const CnncModel *m, const EvalOptions *o, DataPair *pair, Dataset **data, const char **part, RtError *e)
{
    DataRequest q = data_request(m);
    double fraction = m->train->valid_fraction;
    q.want_valid = true;
    char *paths = data_request_path(&q, o->data);
    if (paths && q.kind == CNNC_DATA_NPY) { /* arrays named on the command line are wholly what is asked for */
        q.valid_path = q.valid_path2 = NULL;
        fraction = 0;
    }
    bool fine = data_open(&q, pair, e);
    free(paths);
    if (!fine)
        return false;
    *part = o->data && q.kind == CNNC_DATA_NPY ? "given" : "test";
    if (!pair->has_valid && fraction > 0) {
        Rng g;
        char *state = calloc(1, (size_t)m->state_bytes + 8);
        if (!state)
            return rt_error_memory(e, (unsigned long long)m->state_bytes);
        rng_seed(&g, o->has_seed ? o->seed : m->train->seed);
        init_state(m->tensors, m->n_tensors, &g, state, m->state_bytes);
        free(state);
        if (!data_split(pair, fraction, &g, e))
            return false;
        *part = "validation";
    }
    *data = pair->has_valid ? &pair->valid : &pair->train;
    if (!pair->has_valid && strcmp(*part, "given") != 0)
        *part = "training";
    return true;
}

static bool evaluate(Session *s, const EvalOptions *o, const Dataset *data, const char *part, RtError *e)
{
    const CnncModel *m = s->model;
    Metrics metrics;
    Eval v = {0};
    if (!metrics_init(&metrics, metrics_loss_of(m->train), m->train->smoothing, (int32_t)s->out_size, (int32_t)o->top_losses, e))
        return false;
    bool fine = eval_init(&v, s->exec, s->infer, data, &s->norm, e) && eval_run(&v, &metrics, e);
    const char *const *names = s->classes;
    if (!names && data->class_names && data->n_classes == s->out_size)
        names = (const char *const *)data->class_names;
    if (fine && o->notes && (strcmp(part, "training") == 0 || strcmp(part, "validation") == 0))
        fprintf(o->notes, "evaluated on the %s data\n", part);
    if (fine && o->json)
        metrics_print_json(&metrics, o->to, names);
    else if (fine)
        metrics_print(&metrics, o->to, names);
    eval_free(&v);
    metrics_free(&metrics);
    return fine;
}

bool eval_model(const CnncModel *m, const EvalOptions *o, RtError *e)
{
    SessionOptions so = {
        .threads = o->threads, .weights = o->weights, .partial = o->partial, .load = m->infer ? NULL : session_load_state};
    Session s;
    DataPair pair = {0};
    Dataset *data = NULL;
    const char *part = NULL;
    if (!m->train)
        return rt_error(e, RT_FILE, "the model names no data: add a train block with a line such as data = MNIST(\"folder\")");
    if (!session_open(&s, m, &so, e))
        return false;
    bool fine = open_test(m, o, &pair, &data, &part, e) && evaluate(&s, o, data, part, e);
    data_pair_free(&pair);
    session_close(&s);
    return fine;
}
