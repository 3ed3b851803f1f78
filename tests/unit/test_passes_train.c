/* train_step against PyTorch: five steps of small nets, run by the reference interpreter in double precision, agree with
 * tests/unit/data/train.txt to 1e-9 in every loss and every tensor; with and without simplify. */
#include "tests/unit/nets.h"

#include "ir/ref/ref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { STEPS = 5, MOST_TENSORS = 256 };

typedef struct {
    const char *net, *input, *train;   /* the lines after their first word; `train` whole */
    double loss[STEPS];
    int right[STEPS];
} Case;
typedef struct { Arena *a; Graph *g; int n; RefNamed state[MOST_TENSORS]; TrainSpec spec; } Trainer;

static double option(const char *train, const char *key, double otherwise) { return net_number(train, key, otherwise); }

static TrainSpec spec_of(const char *t)
{
    TrainSpec s = {.present = true};
    CnncTrain *c = &s.train;
    c->optimizer = strstr(t, "opt=adamw") ? CNNC_OPT_ADAMW : strstr(t, "opt=adam") ? CNNC_OPT_ADAM
                 : strstr(t, "opt=rmsprop") ? CNNC_OPT_RMSPROP : CNNC_OPT_SGD;
    c->loss = strstr(t, "loss=mse") != NULL;
    c->data = option(t, "targets", 0) != 0 ? CNNC_DATA_NPY : CNNC_DATA_NONE;
    c->smoothing = option(t, "smoothing", 0);
    c->lr = option(t, "lr", 0);
    c->momentum = option(t, "momentum", 0);
    c->dampening = option(t, "damp", 0);
    c->nesterov = option(t, "nesterov", 0) != 0;
    c->centered = option(t, "centered", 0) != 0;
    c->weight_decay = option(t, "wd", 0);
    c->beta1 = 0.9;
    c->beta2 = 0.999;
    c->eps = 1e-8;
    c->alpha = 0.99;
    return s;
}

static double *state_find(Trainer *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->state[i].name, name) == 0)
            return (double *)t->state[i].data;
    return NULL;
}

/* Storage for every state tensor of the step, with its starting values. */
static void state_start(Trainer *t)
{
    t->n = 0;
    for (NodeId n = 1; n < t->g->nodes.len; n++) {
        const Node *node = graph_node(t->g, n);
        if (node->op != OP_PARAM)
            continue;
        const Value *v = graph_value(t->g, node->out[0]);
        double *data = NEWN(t->a, double, shape_elements(&v->shape));
        net_init(v->name, &v->shape, data);
        assert_true(t->n < MOST_TENSORS);
        t->state[t->n++] = (RefNamed){v->name, data, shape_elements(&v->shape)};
    }
}

static double *labels_of(Trainer *t, int step, int64_t n)
{
    Shape out = graph_value(t->g, t->g->output)->shape;
    const Value *labels = graph_value(t->g, t->g->labels);
    int64_t all = n * shape_elements(&out) / out.dim[0];
    double *u = NEWN(t->a, double, all);
    net_fill(arena_printf(t->a, "labels%d", step), u, all);
    for (int64_t i = 0; i < all; i++)
        u[i] = labels->dtype == DT_I32 ? floor(u[i] * (double)out.dim[1]) : u[i] - 0.5;
    return u;
}

static void one_step(Trainer *t, int step, double *loss, int *right)
{
    Graph *g = t->g;
    int64_t n = g->batch - (step == 2), per_sample = shape_elements(&g->input_shape);
    double *x = NEWN(t->a, double, n * per_sample), scalars[CNNC_SC_COUNT] = {0};
    net_fill(arena_printf(t->a, "input%d", step), x, n * per_sample);
    for (int64_t i = 0; i < n * per_sample; i++)
        x[i] = 2 * x[i] - 1;
    const CnncTrain *c = &t->spec.train;
    bool adam = c->optimizer == CNNC_OPT_ADAM || c->optimizer == CNNC_OPT_ADAMW;
    scalars[CNNC_SC_LR] = c->lr * (1 - 0.1 * step);
    scalars[CNNC_SC_MOMENTUM] = adam ? c->beta1 : c->momentum;
    scalars[CNNC_SC_BIAS1] = 1 - pow(c->beta1, step + 1);
    scalars[CNNC_SC_BIAS2] = 1 - pow(c->beta2, step + 1);
    scalars[CNNC_SC_FIRST] = step == 0;
    RefInputs in = {.n = n, .input = x, .labels = labels_of(t, step, n), .scalars = scalars, .n_scalars = CNNC_SC_COUNT,
                    .params = t->state, .n_params = t->n};
    RefRun *run = ref_run(t->a, g, &in);
    assert_null(run->error);
    *loss = run->value[g->loss].data[0];
    *right = g->correct ? (int)run->value[g->correct].data[0] : 0;
    for (uint32_t i = 0; i < g->updates.len; i++) {
        double *to = state_find(t, graph_value(g, g->updates.at[i].old)->name);
        const RefTensor *next = &run->value[g->updates.at[i].next];
        memcpy(to, next->data, sizeof *to * (size_t)shape_elements(&next->shape));
    }
}

static Graph *checked(Graph *g)
{
    const char *why = NULL;
    assert_non_null(g);
    if (!graph_verify(g, &why))
        fail_msg("%s", why);
    return g;
}

/* The net of the case, trained; simplified before and after gradients, or not at all. */
static void train_case(Trainer *t, const Case *c, bool simplified, double *loss, int *right)
{
    int64_t dim[MAX_RANK];
    int rank = 0;
    for (char *p = (char *)c->input; *p; p += strspn(p, " "))
        dim[rank++] = strtoll(p, &p, 10);
    t->spec = spec_of(c->train);
    Graph *g = net_build(t->a, c->net, (int64_t)net_number(c->train, "batch", 1), shape_from(rank, dim));
    Diags d;
    diags_init(&d, t->a, NULL);
    if (simplified)
        g = checked(simplify(t->a, g));
    g = checked(train_step(t->a, g, &t->spec, &d));
    if (simplified)
        g = checked(simplify(t->a, g));
    t->g = g;
    state_start(t);
    for (int step = 0; step < STEPS; step++)
        one_step(t, step, &loss[step], &right[step]);
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-9 * (1 + fabs(b)); }

static void check_tensor(Trainer *t, const Case *c, char *line)
{
    char *name = strtok(line, " ");
    int64_t n = strtoll(strtok(NULL, " "), NULL, 10);
    const double *have = state_find(t, name);
    if (!have)
        fail_msg("%s: no tensor %s", c->net, name);
    for (int64_t i = 0; i < n; i++) {
        double want = strtod(strtok(NULL, " "), NULL);
        if (!near(have[i], want))
            fail_msg("%s: %s[%lld] is %.12g, PyTorch has %.12g", c->net, name, (long long)i, have[i], want);
    }
}

static void read_numbers(const char *line, Case *c, bool losses)
{
    char *p = (char *)line;
    for (int i = 0; i < STEPS; i++) {
        if (losses)
            c->loss[i] = strtod(p, &p);
        else
            c->right[i] = (int)strtol(p, &p, 10);
    }
}

/* Goes through the file once; returns the number of cases. */
static int check_file(bool simplified)
{
    FILE *f = fopen("tests/unit/data/train.txt", "r");
    assert_non_null(f);
    char line[1 << 15];
    Case c = {0};
    Trainer *t = NULL;
    int cases = 0;
    Arena *lines = arena_new();
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *rest = strchr(line, ' ');
        if (strncmp(line, "net ", 4) == 0)
            c.net = arena_strdup(lines, rest + 1);
        else if (strncmp(line, "input ", 6) == 0)
            c.input = arena_strdup(lines, rest + 1);
        else if (strncmp(line, "train ", 6) == 0)
            c.train = arena_strdup(lines, line);
        else if (strncmp(line, "loss ", 5) == 0)
            read_numbers(rest, &c, true);
        else if (strncmp(line, "right ", 6) == 0) {
            read_numbers(rest, &c, false);
            double loss[STEPS];
            int right[STEPS];
            t = calloc(1, sizeof *t);
            t->a = arena_new();
            train_case(t, &c, simplified, loss, right);
            for (int i = 0; i < STEPS; i++) {
                if (!near(loss[i], c.loss[i]))
                    fail_msg("%s: loss of step %d is %.14g, PyTorch has %.14g", c.net, i, loss[i], c.loss[i]);
                assert_int_equal(right[i], c.right[i]);
            }
        } else if (strncmp(line, "tensor ", 7) == 0)
            check_tensor(t, &c, rest + 1);
        else if (strcmp(line, "end") == 0) {
            arena_free(t->a);
            free(t);
            cases++;
        }
    }
    fclose(f);
    arena_free(lines);
    return cases;
}

static void test_five_steps(void **state)
{
    (void)state;
    assert_true(check_file(false) >= 20);
}

static void test_five_steps_simplified(void **state)
{
    (void)state;
    assert_true(check_file(true) >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_five_steps), cmocka_unit_test(test_five_steps_simplified)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
