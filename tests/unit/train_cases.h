/* The cases of tests/unit/data/train.txt: nets, how they are trained, and what PyTorch got. The same numbers go in on both
 * sides: step k sees images "inputK", labels "labelsK" and the learning rate lr * (1 - 0.1 k); step 2 has one sample less.
 * For programs that also include cmocka. Everything lives in the arena given. */
#ifndef CNNC_TESTS_TRAIN_CASES_H
#define CNNC_TESTS_TRAIN_CASES_H
#include "tests/unit/nets.h"

#include "ir/ref/ref.h"

enum { STEPS = 5, MOST_TENSORS = 64 };

typedef struct { const char *name; int64_t n; const char *numbers; } Expected;
typedef struct {
    const char *net, *train;
    Shape input;
    double loss[STEPS];
    int right[STEPS];
    Expected tensor[MOST_TENSORS];
    int n_tensors;
} Case;

static inline double case_option(const Case *c, const char *key, double otherwise) { return net_number(c->train, key, otherwise); }

static inline void case_read_tensor(Arena *a, Case *c, char *line)
{
    Expected *e = &c->tensor[c->n_tensors++];
    size_t len = strcspn(line, " ");
    e->name = arena_strndup(a, line, len);
    char *end;
    e->n = strtoll(line + len, &end, 10);
    e->numbers = arena_strdup(a, end);
}

/* The committed cases, or those of the file that CNNC_TRAIN_CASES names (make_train.py FILE SEED COUNT makes more). */
static inline FILE *case_open(void)
{
    const char *other = getenv("CNNC_TRAIN_CASES");
    return fopen(other ? other : "tests/unit/data/train.txt", "r");
}

/* The next case of the file; false at its end. */
static inline bool case_next(Arena *a, FILE *f, Case *c)
{
    char line[1 << 14];
    *c = (Case){0};
    while (fgets(line, sizeof line, f) && strncmp(line, "end", 3) != 0) {
        line[strcspn(line, "\n")] = 0;
        char *rest = line + strcspn(line, " ") + 1;
        if (strncmp(line, "net ", 4) == 0)
            c->net = arena_strdup(a, rest);
        else if (strncmp(line, "train ", 6) == 0)
            c->train = arena_strdup(a, line);
        else if (strncmp(line, "tensor ", 7) == 0 && c->n_tensors < MOST_TENSORS)
            case_read_tensor(a, c, rest);
        else if (strncmp(line, "input ", 6) == 0)
            for (char *p = rest; *p; p += strspn(p, " "))
                c->input.dim[c->input.rank++] = strtoll(p, &p, 10);
        else
            for (int i = 0; i < STEPS && (line[0] == 'l' || line[0] == 'r'); i++)
                if (line[0] == 'l')
                    c->loss[i] = strtod(rest, &rest);
                else
                    c->right[i] = (int)strtol(rest, &rest, 10);
    }
    return c->net != NULL;
}

static inline TrainSpec case_spec(const Case *c)
{
    TrainSpec s = {.present = true};
    const char *t = c->train;
    s.train = (CnncTrain){
        .optimizer = strstr(t, "opt=adamw") ? CNNC_OPT_ADAMW : strstr(t, "opt=adam") ? CNNC_OPT_ADAM
                   : strstr(t, "opt=rmsprop") ? CNNC_OPT_RMSPROP : CNNC_OPT_SGD,
        .loss = strstr(t, "loss=mse") != NULL,
        .data = case_option(c, "targets", 0) != 0 ? CNNC_DATA_NPY : CNNC_DATA_NONE,
        .smoothing = case_option(c, "smoothing", 0), .lr = case_option(c, "lr", 0), .momentum = case_option(c, "momentum", 0),
        .dampening = case_option(c, "damp", 0), .nesterov = case_option(c, "nesterov", 0) != 0,
        .centered = case_option(c, "centered", 0) != 0, .weight_decay = case_option(c, "wd", 0),
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .alpha = 0.99};
    return s;
}

/* The step of a case's net, for so many samples. */
static inline Graph *case_step(Arena *a, const Case *c, int64_t batch)
{
    TrainSpec spec = case_spec(c);
    Diags d;
    diags_init(&d, a, NULL);
    return simplify(a, train_step(a, simplify(a, net_build(a, c->net, batch, c->input)), &spec, &d));
}

/* Storage for every state tensor of graph g with its starting values, by ValueId; NULL for other values. */
static inline double **state_start(Arena *a, const Graph *g)
{
    double **state = NEWN(a, double *, g->values.len);
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        if (node->op != OP_PARAM)
            continue;
        const Value *v = graph_value(g, node->out[0]);
        state[node->out[0]] = NEWN(a, double, shape_elements(&v->shape));
        net_init(v->name, &v->shape, state[node->out[0]]);
    }
    return state;
}

/* What step k of a training graph gets. */
static inline RefInputs step_inputs(Arena *a, const Graph *g, const CnncTrain *c, double **state, int k)
{
    int64_t n = g->batch - (k == 2), per_sample = shape_elements(&g->input_shape);
    Shape out = graph_value(g, g->output)->shape;
    int64_t per_output = shape_elements(&out) / out.dim[0];
    double *x = NEWN(a, double, n * per_sample), *u = NEWN(a, double, n * per_output), *s = NEWN(a, double, CNNC_SC_COUNT);
    net_fill(arena_printf(a, "input%d", k), x, n * per_sample);
    for (int64_t i = 0; i < n * per_sample; i++)
        x[i] = 2 * x[i] - 1;
    net_fill(arena_printf(a, "labels%d", k), u, n * per_output);
    for (int64_t i = 0; i < n * per_output; i++)
        u[i] = graph_value(g, g->labels)->dtype == DT_I32 ? floor(u[i] * (double)out.dim[1]) : u[i] - 0.5;
    bool adam = c->optimizer == CNNC_OPT_ADAM || c->optimizer == CNNC_OPT_ADAMW;
    s[CNNC_SC_LR] = c->lr * (1 - 0.1 * k);
    s[CNNC_SC_MOMENTUM] = adam ? c->beta1 : c->momentum;
    s[CNNC_SC_BIAS1] = 1 - pow(c->beta1, k + 1);
    s[CNNC_SC_BIAS2] = 1 - pow(c->beta2, k + 1);
    s[CNNC_SC_FIRST] = k == 0;
    s[CNNC_SC_SEED] = 77 + k;
    return (RefInputs){.n = n, .input = x, .labels = u, .scalars = s, .n_scalars = CNNC_SC_COUNT,
                       .param_of_value = (const double *const *)state};
}

/* Writes the next values over the old ones. */
static inline void state_advance(const Graph *g, double **state, const RefRun *run)
{
    for (uint32_t i = 0; i < g->updates.len; i++) {
        const RefTensor *next = &run->value[g->updates.at[i].next];
        memcpy(state[g->updates.at[i].old], next->data, sizeof(double) * (size_t)shape_elements(&next->shape));
    }
}
#endif
