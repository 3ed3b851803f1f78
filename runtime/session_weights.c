/* Weights of a session whose model reads them from its state.
 * In: a weights file, or a seed. Out: the state block, class names and normalisation.
 * Relies on the tensor table; apart from session.c so that programs with constants do not carry the file readers.
 * Idea: initial weights first, so that --partial leaves sensible values where the file has none. */
#include "runtime/init.h"
#include "runtime/session.h"

bool session_load_state(Session *s, const SessionOptions *o, RtError *e)
{
    const CnncModel *m = s->model;
    Rng g;
    rng_seed(&g, o->seed);
    init_state(m->tensors, m->n_tensors, &g, s->exec->state, m->state_bytes);
    if (!o->weights)
        return true;
    WeightsFile w = {0};
    WeightsMatch match;
    bool fine = weights_read(o->weights, &w, e) &&
                weights_load(&w, o->weights, m->tensors, m->n_tensors, o->partial, false, s->exec->state, &match, e) &&
                stored_facts_read(&w, &s->stored, e);
    weights_free(&w);
    return fine;
}
