/* Optimizers: the update of one parameter as one op.
 *
 * In: a parameter p, its gradient g, the train block. Out: p' and the optimizer's state tensors with their next values as
 * update pairs. Invariant: state tensors are named "optimizer.KIND.PARAMETER", start as zeros and have the parameter's shape.
 * Idea: numbers that a schedule may change between steps (learning rate, momentum or beta1, the bias corrections) are
 * run-time scalars; the rest are attributes. The formulas stand in ops.def. */
#include "passes/train.h"

static OptAttrs opt_attrs(const CnncTrain *c)
{
    return (OptAttrs){.momentum = c->momentum, .dampening = c->dampening, .weight_decay = c->weight_decay, .beta1 = c->beta1,
                      .beta2 = c->beta2, .eps = c->eps, .alpha = c->alpha, .nesterov = c->nesterov, .centered = c->centered};
}

/* PyTorch's SGD keeps a buffer when momentum is not 0; OneCycleLR gives it one even where the optimizer says 0. */
static bool has_momentum(const CnncTrain *c)
{
    enum { CYCLE_MOMENTUM = 8 };    /* position in CnncTrain.sched of OneCycleLR */
    return c->momentum != 0 || (c->schedule == CNNC_SCHED_ONECYCLE && c->sched[CYCLE_MOMENTUM] != 0);
}

static ValueId add_state(Train *t, ValueId p, const char *kind)
{
    const Node *def = graph_def(t->g, p);
    const Value *value = graph_value(t->g, p);
    Shape shape = value->shape;
    ParamAttrs attrs = {.init = INIT_ZEROS, .optimizer = true};
    const char *name = arena_printf(t->g->arena, "optimizer.%s.%s", kind, value->name ? value->name : "?");
    return graph_add_param(t->g, name, &attrs, &shape, def->layer, def->span);
}

/* state[i] (0: absent) is input 2 + i and output 1 + i. */
typedef struct { Op op; ValueId in[8]; int n_in; int n_state; ValueId state[3]; } Update;

static Update update_sgd(Train *t, ValueId p, ValueId g)
{
    bool momentum = has_momentum(&t->spec->train);
    ValueId buf = momentum ? add_state(t, p, "momentum") : 0, lr = train_scalar(t, CNNC_SC_LR);
    ValueId m = momentum ? train_scalar(t, CNNC_SC_MOMENTUM) : 0;
    /* With dampening the first step must not damp (buf = g); without it 0*momentum + g is the same. */
    ValueId first = momentum && t->spec->train.dampening != 0 ? train_scalar(t, CNNC_SC_FIRST) : 0;
    return (Update){OP_SGD, {p, g, buf, lr, m, first}, 6, 1, {buf}};
}

static Update update_adam(Train *t, ValueId p, ValueId g)
{
    ValueId m = add_state(t, p, "exp_avg"), v = add_state(t, p, "exp_avg_sq");
    ValueId lr = train_scalar(t, CNNC_SC_LR), beta1 = train_scalar(t, CNNC_SC_MOMENTUM);
    ValueId bias1 = train_scalar(t, CNNC_SC_BIAS1), bias2 = train_scalar(t, CNNC_SC_BIAS2);
    Op op = t->spec->train.optimizer == CNNC_OPT_ADAMW ? OP_ADAMW : OP_ADAM;
    return (Update){op, {p, g, m, v, lr, beta1, bias1, bias2}, 8, 2, {m, v}};
}

static Update update_rmsprop(Train *t, ValueId p, ValueId g)
{
    bool momentum = has_momentum(&t->spec->train);
    ValueId v = add_state(t, p, "square_avg"), buf = momentum ? add_state(t, p, "momentum") : 0;
    ValueId mean = t->spec->train.centered ? add_state(t, p, "grad_avg") : 0, lr = train_scalar(t, CNNC_SC_LR);
    ValueId m = momentum ? train_scalar(t, CNNC_SC_MOMENTUM) : 0;
    return (Update){OP_RMSPROP, {p, g, v, buf, mean, lr, m}, 7, 3, {v, buf, mean}};
}

void optimizer_update(Train *t, ValueId p, ValueId gradient)
{
    Graph *g = t->g;
    Update u;
    switch ((CnncOptimizer)t->spec->train.optimizer) {
    case CNNC_OPT_ADAM:
    case CNNC_OPT_ADAMW: u = update_adam(t, p, gradient); break;
    case CNNC_OPT_RMSPROP: u = update_rmsprop(t, p, gradient); break;
    default: u = update_sgd(t, p, gradient);
    }
    Attrs attrs = {.opt = opt_attrs(&t->spec->train)};
    NodeId n = emit_node(g, origin_of(graph_def(g, p)), u.op, u.in, u.n_in, &attrs);
    vec_push(g->arena, &g->updates, (StatePair){p, emit_like(g, n, 0, p)});
    for (int i = 0; i < u.n_state; i++)
        if (u.state[i])
            vec_push(g->arena, &g->updates, (StatePair){u.state[i], emit_like(g, n, 1 + i, p)});
}
