/* From the text of random nets to numbers, by the reference interpreter: language, shapes, batch norm folding, simplify,
 * gradients and optimizers against PyTorch's float64 results, at double's accuracy and without any generated code.
 *
 * Runs over tests/diff/sample (expectations stored as float32) and over the folder named by CNNC_NETS, if set (float64). */
#include "frontend/elaborate.h"
#include "passes/pass.h"
#include "tests/unit/random_nets.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef struct {
    Arena *a;
    const char *folder;
    cJSON *facts;
    Module module;
    Diags diags;
    Source src;
    RefTensor x, expect;
    RefNamed *weights;
    int32_t n_weights;
} Net;

static const char *path_in(const Net *t, const char *file) { return arena_printf(t->a, "%s/%s", t->folder, file); }
static double fact(const Net *t, const char *key) { return cJSON_GetObjectItem(t->facts, key)->valuedouble; }
static double fact_at(const Net *t, const char *key, int i)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItem(t->facts, key), i)->valuedouble;
}

static bool net_load(Net *t, int64_t batch)
{
    const char *why;
    if (!source_read(t->a, path_in(t, "net.cnn"), &t->src, &why)) {
        print_error("%s: %s\n", t->folder, why);
        return false;
    }
    diags_init(&t->diags, t->a, &t->src);
    bool broken = false;
    Ast *ast = parse_file(t->a, &t->src, &t->diags, &broken);
    ElaborateOptions options = {.name = "net", .batch = batch, .folder = t->folder, .broken = broken};
    bool fine = elaborate(t->a, ast, &options, &t->diags, &t->module);
    PassContext c = {.arena = t->a, .diags = &t->diags, .module = &t->module};
    fine = fine && passes_run(&c, PIPELINE_CHECK);
    if (!fine)
        diags_print(&t->diags, stderr, DIAG_HUMAN, false);
    return fine;
}

static Graph *pipeline(Net *t, Pipeline which, bool plain)
{
    PassContext c = {.arena = t->a, .diags = &t->diags, .module = &t->module, .verify = true};
    c.off[PASS_simplify] = c.off[PASS_bn_fold] = plain;
    return passes_run(&c, which);
}

/* Within `digits` of the largest expected value, and `slack`. */
static bool near(const Net *t, const char *what, const RefTensor *got, const double *want, int64_t n, double digits, double slack)
{
    double scale = 1e-6;
    if (shape_elements(&got->shape) != n) {
        print_error("%s: %s has %lld elements, expected %lld\n", t->folder, what, (long long)shape_elements(&got->shape),
                    (long long)n);
        return false;
    }
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got->data[i] - want[i]) <= digits * scale + slack)) {
            print_error("%s: %s[%lld] is %.12g, expected %.12g\n", t->folder, what, (long long)i, got->data[i], want[i]);
            return false;
        }
    return true;
}

static bool output_agrees(Net *t, Pipeline which, bool plain, const RefNamed *weights, int32_t n_weights, double digits)
{
    Graph *g = pipeline(t, which, plain);
    RefInputs in = {
        .n = t->x.shape.dim[0], .input = t->x.data, .params = weights, .n_params = n_weights, .want = &g->output, .n_want = 1};
    RefRun *run = ref_run(t->a, g, &in);
    if (run->error) {
        print_error("%s: %s\n", t->folder, run->error);
        return false;
    }
    const char *what =
        arena_printf(t->a, "output (%s%s)", which == PIPELINE_EVAL ? "eval" : "infer", plain ? ", passes off" : "");
    return near(t, what, &run->value[g->output], t->expect.data, shape_elements(&t->expect.shape), digits, 0);
}

static bool all_outputs_agree(Net *t, const RefNamed *weights, int32_t n, double digits)
{
    return output_agrees(t, PIPELINE_INFER, false, weights, n, digits) &&
           output_agrees(t, PIPELINE_EVAL, false, weights, n, digits) &&
           output_agrees(t, PIPELINE_EVAL, true, weights, n, digits);
}

/* The values the step reads: the case's weights, and zeros for the optimizer's state. */
static RefNamed *step_params(const Net *t, const Graph *g, int32_t *n)
{
    RefNamed *p = NEWN(t->a, RefNamed, (uint32_t)t->n_weights + g->nodes.len);
    memcpy(p, t->weights, sizeof *p * (size_t)t->n_weights);
    *n = t->n_weights;
    for (NodeId id = 1; id < g->nodes.len; id++)
        if (graph_node(g, id)->op == OP_PARAM && graph_node(g, id)->attrs.param.optimizer) {
            const Value *v = graph_value(g, graph_node(g, id)->out[0]);
            int64_t count = shape_elements(&v->shape);
            p[(*n)++] = (RefNamed){v->name, NEWN(t->a, double, count + 1), count, NULL};
        }
    return p;
}

/* Five steps; params[] then holds the state after them. */
static bool five_steps_agree(Net *t, const Graph *g, RefNamed *params, int32_t n_params, double digits)
{
    RefTensor y = net_read_npy(t->a, path_in(t, "y.npy"));
    int64_t rows = t->x.shape.dim[0], batch = (int64_t)fact(t, "batch"), at = 0;
    int64_t x_row = shape_elements(&t->x.shape) / rows, y_row = shape_elements(&y.shape) / rows;
    double beta2 = t->module.train.train.beta2;
    for (int step = 0; step < (int)fact(t, "steps"); step++) {
        int64_t n = rows - at < batch ? rows - at : batch;
        double scalars[CNNC_SC_COUNT] = {[CNNC_SC_LR] = fact_at(t, "lr", step),
                                         [CNNC_SC_MOMENTUM] = fact_at(t, "momentum", step),
                                         [CNNC_SC_FIRST] = step == 0};
        scalars[CNNC_SC_BIAS1] = 1 - pow(scalars[CNNC_SC_MOMENTUM], step + 1);
        scalars[CNNC_SC_BIAS2] = 1 - pow(beta2, step + 1);
        RefInputs in = {.n = n,
                        .input = t->x.data + at * x_row,
                        .labels = y.data + at * y_row,
                        .scalars = scalars,
                        .n_scalars = CNNC_SC_COUNT,
                        .params = params,
                        .n_params = n_params};
        RefRun *run = ref_run(t->a, g, &in);
        if (run->error) {
            print_error("%s: step %d: %s\n", t->folder, step, run->error);
            return false;
        }
        double want = fact_at(t, "losses", step);
        if (!near(t, arena_printf(t->a, "loss of step %d", step), &run->value[g->loss], &want, 1, digits, 0))
            return false;
        for (uint32_t i = 0; i < g->updates.len; i++)
            for (int32_t k = 0; k < n_params; k++)
                if (strcmp(params[k].name, graph_value(g, g->updates.at[i].old)->name) == 0)
                    params[k].data = run->value[g->updates.at[i].next].data;
        at = at + n == rows ? 0 : at + n;
    }
    return true;
}

static bool weights_agree(const Net *t, const RefNamed *params, int32_t n_params, double digits)
{
    int32_t n_want;
    RefNamed *want = net_read_safetensors(t->a, path_in(t, "after.safetensors"), &n_want);
    for (int32_t i = 0; i < n_want; i++) {
        const cJSON *about = cJSON_GetObjectItem(cJSON_GetObjectItem(t->facts, "tensors"), want[i].name);
        int32_t k = 0;
        while (k < n_params && strcmp(params[k].name, want[i].name) != 0)
            k++;
        if (cJSON_IsTrue(cJSON_GetObjectItem(about, "zero_gradient")) || strstr(want[i].name, "running_mean"))
            continue;
        if (k == n_params) {
            print_error("%s: no %s\n", t->folder, want[i].name);
            return false;
        }
        /* What float32 already makes of it tells how much the optimizer blows up the last digits (PyTorch's own CELU, for one,
         * has 8). */
        double slack = 0.05 * cJSON_GetObjectItem(about, "gap")->valuedouble;
        RefTensor got = {{1, {params[k].count}}, (double *)params[k].data};
        if (!near(t, want[i].name, &got, want[i].data, want[i].count, digits, slack))
            return false;
    }
    return true;
}

static bool training_agrees(Net *t, bool with_weights)
{
    for (int plain = 0; plain < 2; plain++) {
        Graph *g = pipeline(t, PIPELINE_TRAIN, plain);
        if (!g) {
            diags_print(&t->diags, stderr, DIAG_HUMAN, false);
            return false;
        }
        int32_t n;
        RefNamed *params = step_params(t, g, &n);
        if (!five_steps_agree(t, g, params, n, 1e-7))
            return false;
        if (with_weights && !weights_agree(t, params, n, 1e-7))
            return false;
        /* What PyTorch rounds in a zero gradient (a bias before batch norm) Adam makes visible: the outputs are looser. */
        if (!all_outputs_agree(t, params, n, with_weights ? 1e-3 : 1e-4))
            return false;
    }
    return true;
}

static bool net_agrees(const char *folder)
{
    Net t = {.a = arena_new(), .folder = folder};
    t.facts = cJSON_Parse(net_file_read(t.a, path_in(&t, "case.json")).data);
    t.x = net_read_npy(t.a, path_in(&t, "x.npy"));
    t.expect = net_read_npy(t.a, path_in(&t, "expect.npy"));
    t.weights = net_read_safetensors(t.a, path_in(&t, "weights.safetensors"), &t.n_weights);
    bool training = cJSON_GetObjectItem(t.facts, "losses") != NULL, full = cJSON_GetObjectItem(t.facts, "tensors") != NULL;
    bool sample = strstr(folder, "tests/diff/sample") != NULL;
    bool ok = net_load(&t, t.x.shape.dim[0]); /* training batches are smaller: n counts */
    ok = ok && (training ? training_agrees(&t, full) : all_outputs_agree(&t, t.weights, t.n_weights, sample ? 1e-6 : 1e-9));
    if (!ok)
        print_error("%s disagrees\n", folder);
    cJSON_Delete(t.facts);
    arena_free(t.a);
    return ok;
}

/* Every case folder in `all`: how many there are, and how many disagree. */
static void run_folder(const char *all, int *count, int *bad)
{
    DIR *d = opendir(all);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", all, e->d_name);
        if (e->d_name[0] == '.')
            continue;
        ++*count;
        *bad += !net_agrees(path);
    }
    if (d)
        closedir(d);
}

static void random_nets_agree_with_pytorch(void **state)
{
    (void)state;
    int count = 0, bad = 0;
    if (getenv("CNNC_NETS"))
        run_folder(getenv("CNNC_NETS"), &count, &bad);
    else
        run_folder("tests/diff/sample", &count, &bad);
    print_message("%d of %d nets agree\n", count - bad, count);
    assert_true(count > 0);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_nets_agree_with_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
