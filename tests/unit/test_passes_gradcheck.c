/* Gradients made by train_step against central differences of the loss, in the reference interpreter's doubles.
 *
 * Every case is a small net: input, a layer with trainable weights (so that a gradient must flow through what follows), the
 * op under test, mean squared error against given targets or cross entropy. With SGD at a learning rate of 1 and nothing
 * else, p - p' is the gradient. Numbers are random but fixed, and nothing lies within a step of a kink.
 * A row of ops.def with a gradient rule, or an activation, without a case fails. */
#include "passes/train.h"
#include "tests/unit/op_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { BATCH = 3, SAMPLES = 2 };    /* fewer samples than the batch: means are over the real ones */

typedef struct { Graph *g; ValueId x; int params; } Net;
typedef struct { const char *name; Shape input; void (*build)(Net *, const void *); const void *with; bool cross_entropy; } Case;

static bool op_seen[OP_COUNT], act_seen[ACT_COUNT];

static ValueId add_param(Net *t, bool trainable)
{
    ParamAttrs attrs = {.init = INIT_ZEROS, .trainable = trainable, .buffer = !trainable};
    return graph_add_param(t->g, arena_printf(t->g->arena, "%d.weight", t->params++), &attrs, NULL, -1, (Span){0});
}

static void apply(Net *t, Op op, const ValueId *in, int n_in, Attrs attrs)
{
    op_seen[op] = true;
    if (op == OP_ACT)
        act_seen[attrs.act.kind] = true;
    t->x = node_out(t->g, graph_add_node(t->g, op, in, n_in, &attrs, -1, (Span){0}), 0);
}

/* Numbers left at 0 in the table of cases get their defaults. */
static void or_default(int64_t v[MAX_SPATIAL], int64_t usual)
{
    for (int i = 0; i < MAX_SPATIAL; i++)
        v[i] = v[i] ? v[i] : usual;
}

static void conv(Net *t, ConvAttrs c, bool bias)
{
    or_default(c.stride, 1);
    or_default(c.dilation, 1);
    c.groups = c.groups ? c.groups : 1;
    c.nd = c.nd ? c.nd : 2;
    c.in_channels = INFER;
    c.bias = bias;
    apply(t, OP_CONV, VALUES(t->x, add_param(t, true), bias ? add_param(t, true) : 0), (Attrs){.conv = c});
}

static void linear(Net *t, int64_t outs, bool bias)
{
    Attrs attrs = {.linear = {.in_features = INFER, .out_features = outs, .bias = bias}};
    apply(t, OP_LINEAR, VALUES(t->x, add_param(t, true), bias ? add_param(t, true) : 0), attrs);
}

/* A layer with weights over any input: kernel 1 convolution, or linear over features. */
static void weights(Net *t, const Shape *input, int64_t outs)
{
    int nd = input->rank - 1;
    if (nd == 0)
        linear(t, outs, true);
    else
        conv(t, (ConvAttrs){.nd = nd, .out_channels = outs, .kernel = {1, 1, 1}}, true);
}

static void build_conv(Net *t, const void *with) { conv(t, *(const ConvAttrs *)with, true); }
static void build_linear(Net *t, const void *with) { linear(t, *(const int *)with, true); }
static void pool(Net *t, Op op, PoolAttrs p)
{
    or_default(p.dilation, 1);
    apply(t, op, VALUES(t->x), (Attrs){.pool = p});
}
static void build_maxpool(Net *t, const void *with) { pool(t, OP_MAXPOOL, *(const PoolAttrs *)with); }
static void build_avgpool(Net *t, const void *with) { pool(t, OP_AVGPOOL, *(const PoolAttrs *)with); }
static void build_adaptive_avg(Net *t, const void *with)
{
    apply(t, OP_ADAPTIVE_AVG, VALUES(t->x), (Attrs){.adaptive = *(const AdaptiveAttrs *)with});
}
static void build_adaptive_max(Net *t, const void *with)
{
    apply(t, OP_ADAPTIVE_MAX, VALUES(t->x), (Attrs){.adaptive = *(const AdaptiveAttrs *)with});
}

static void build_batchnorm(Net *t, const void *with)
{
    const NormAttrs *a = with;
    ValueId gamma = a->affine ? add_param(t, true) : 0, beta = a->affine ? add_param(t, true) : 0;
    ValueId mean = add_param(t, false), var = add_param(t, false);
    apply(t, OP_BATCHNORM, VALUES(t->x, gamma, beta, mean, var), (Attrs){.norm = *a});
    op_seen[OP_BN_TRAIN] = true;
}

static void build_act(Net *t, const void *with) { apply(t, OP_ACT, VALUES(t->x), (Attrs){.act = *(const ActAttrs *)with}); }
static void build_prelu(Net *t, const void *with)
{
    apply(t, OP_ACT, VALUES(t->x, add_param(t, true)), (Attrs){.act = {.kind = ACT_PRELU, .p = {*(const int *)with, 0.25}}});
}
static void build_glu(Net *t, const void *with) { apply(t, OP_GLU, VALUES(t->x), (Attrs){.axis = {*(const int *)with}}); }
static void build_softmax(Net *t, const void *with) { apply(t, OP_SOFTMAX, VALUES(t->x), (Attrs){.axis = {*(const int *)with}}); }
static void build_log_softmax(Net *t, const void *with) { apply(t, OP_LOG_SOFTMAX, VALUES(t->x), (Attrs){.axis = {*(const int *)with}}); }
static void build_dropout(Net *t, const void *with)
{
    apply(t, OP_DROPOUT, VALUES(t->x), (Attrs){.dropout = {.p = 0.4, .channels = with != NULL}});
}
static void build_pad(Net *t, const void *with) { apply(t, OP_PAD, VALUES(t->x), (Attrs){.pad = *(const PadAttrs *)with}); }
static void build_flatten(Net *t, const void *with)
{
    (void)with;
    apply(t, OP_RESHAPE, VALUES(t->x), (Attrs){.flatten = {1, -1}});
    linear(t, 2, true);
}
static void build_add(Net *t, const void *with)   /* x read three times: by relu and by both sums */
{
    (void)with;
    ValueId x = t->x;
    apply(t, OP_ACT, VALUES(x), (Attrs){.act = {.kind = ACT_TANH}});
    apply(t, OP_ADD, VALUES(x, t->x), (Attrs){0});
    apply(t, OP_ADD, VALUES(t->x, x), (Attrs){0});
}
static void build_concat(Net *t, const void *with)
{
    (void)with;
    ValueId x = t->x, parts[3] = {x};
    for (int i = 1; i < 3; i++) {
        t->x = x;
        conv(t, (ConvAttrs){.out_channels = i, .kernel = {1, 1}}, false);
        parts[i] = t->x;
    }
    apply(t, OP_CONCAT, parts, 3, (Attrs){.axis = {1}});
}
static void build_nothing(Net *t, const void *with) { (void)t, (void)with; }

/* Every tensor the step reads, with its numbers: a caller's arrays by name. */
static RefNamed *random_params(Arena *a, const Graph *g, int *n)
{
    RefNamed *p = NEWN(a, RefNamed, g->nodes.len);
    *n = 0;
    for (NodeId id = 1; id < g->nodes.len; id++) {
        const Node *node = graph_node(g, id);
        if (node->op != OP_PARAM)
            continue;
        const Value *v = graph_value(g, node->out[0]);
        RefTensor t = case_gen(a, 77 + id, 2039, 1019, v->shape);
        p[(*n)++] = (RefNamed){v->name, t.data, shape_elements(&v->shape), NULL};
    }
    return p;
}

static double loss_of(const Graph *step, RefInputs in)
{
    Arena *a = arena_new();
    in.want = &step->loss;
    in.n_want = 1;
    RefRun *run = ref_run(a, step, &in);
    assert_null(run->error);
    double loss = run->value[step->loss].data[0];
    arena_free(a);
    return loss;
}

/* The graph of the case as written, shaped, and its training step. */
static Graph *step_of(Arena *a, const Case *c)
{
    Source src = source_from_text(a, "test", "", 0);
    Diags d;
    diags_init(&d, a, &src);
    Graph *g = graph_new(a, c->name, BATCH);
    g->input_shape = c->input;
    Net t = {.g = g};
    g->input = t.x = node_out(g, graph_add_node(g, OP_INPUT, NULL, 0, NULL, -1, (Span){0}), 0);
    weights(&t, &c->input, c->input.dim[0]);
    c->build(&t, c->with);
    g->output = t.x;
    TrainSpec spec = {.train = {.data = c->cross_entropy ? CNNC_DATA_MNIST : CNNC_DATA_NPY, .loss = !c->cross_entropy, .smoothing = 0.1}};
    Graph *step = shape(g, &d) ? train_step(a, g, &spec, &d) : NULL;
    diags_print(&d, stderr, DIAG_HUMAN, false);
    assert_non_null(step);
    const char *why;
    if (!graph_verify(step, &why))
        fail_msg("%s: %s", c->name, why);
    return step;
}

/* Largest difference between p - p' and the central difference, over all elements; counts non-zero gradients. */
static double check_param(const Case *c, const Graph *step, const RefRun *run, RefInputs in, StatePair pair, int *non_zero)
{
    const double h = 1e-5;
    const RefTensor *p = &run->value[pair.old], *next = &run->value[pair.next];
    double worst = 0, *data = NULL;
    for (int i = 0; i < in.n_params; i++)
        if (strcmp(in.params[i].name, graph_value(step, pair.old)->name) == 0)
            data = (double *)in.params[i].data;
    assert_non_null(data);
    for (int64_t i = 0; i < shape_elements(&p->shape); i++) {
        double gradient = p->data[i] - next->data[i], was = data[i];
        data[i] = was + h;
        double up = loss_of(step, in);
        data[i] = was - h;
        double down = loss_of(step, in);
        data[i] = was;
        double numeric = (up - down) / (2 * h), gap = fabs(gradient - numeric);
        *non_zero += fabs(gradient) > 1e-6;
        if (gap > 1e-7)
            print_error("%s: %s[%lld]: gradient %.10g, difference quotient %.10g\n", c->name, graph_value(step, pair.old)->name, (long long)i,
                        gradient, numeric);
        worst = gap > worst ? gap : worst;
    }
    return worst;
}

/* The same loss and next state from the simplified step. */
static void check_simplified(Arena *a, const Case *c, const Graph *step, const RefRun *run, RefInputs in)
{
    Graph *s = simplify(a, step);
    const char *why;
    if (!graph_verify(s, &why))
        fail_msg("%s, simplified: %s", c->name, why);
    RefRun *other = ref_run(a, s, &in);
    assert_null(other->error);
    assert_true(fabs(other->value[s->loss].data[0] - run->value[step->loss].data[0]) < 1e-12);
    assert_int_equal(s->updates.len, step->updates.len);
    for (uint32_t i = 0; i < s->updates.len; i++) {
        const RefTensor *x = &run->value[step->updates.at[i].next], *y = &other->value[s->updates.at[i].next];
        for (int64_t j = 0; j < shape_elements(&x->shape); j++)
            assert_true(fabs(x->data[j] - y->data[j]) < 1e-12);
    }
}

static int check_case(const Case *c)
{
    Arena *a = arena_new();
    Graph *step = step_of(a, c);
    double scalars[CNNC_SC_COUNT] = {[CNNC_SC_LR] = 1, [CNNC_SC_SEED] = 12345};
    RefInputs in = {.n = SAMPLES, .scalars = scalars, .n_scalars = CNNC_SC_COUNT};
    in.params = random_params(a, step, &in.n_params);
    in.input = case_gen(a, 5, 2039, 700, graph_value(step, step->input)->shape).data;
    in.labels = case_gen(a, 6, 2039, 700, graph_value(step, step->labels)->shape).data;
    double classes[] = {1, 0, 1, 2, 0, 1, 2, 1};
    if (c->cross_entropy)
        in.labels = classes;
    RefRun *run = ref_run(a, step, &in);
    assert_null(run->error);
    int non_zero = 0, params = 0;
    double worst = 0;
    for (uint32_t i = 0; i < step->updates.len; i++) {
        if (graph_def(step, step->updates.at[i].old)->attrs.param.buffer)
            continue;
        params++;
        worst = fmax(worst, check_param(c, step, run, in, step->updates.at[i], &non_zero));
    }
    if (!non_zero)
        print_error("%s: every gradient is zero\n", c->name);
    check_simplified(a, c, step, run, in);
    arena_free(a);
    return !(worst <= 1e-7) || !non_zero || !params;
}

#define S(...) {.rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dim = {__VA_ARGS__}}
#define CONV(...) &(ConvAttrs){__VA_ARGS__}
#define POOL(...) &(PoolAttrs){.nd = 2, __VA_ARGS__}
#define ADAPTIVE(...) &(AdaptiveAttrs){__VA_ARGS__}
#define PAD(...) &(PadAttrs){.nd = 2, .lo = {1, 2}, .hi = {2, 0}, __VA_ARGS__}

static void gradients_match(void **state)
{
    (void)state;
    const int one = 1, two = 2, three = 3;
    const Case cases[] = {
        {"conv", S(2, 4, 5), build_conv, CONV(.out_channels = 3, .kernel = {3, 2}, .pad_lo = {1, 0}, .pad_hi = {1, 0}), false},
        {"conv strided grouped", S(4, 5, 6), build_conv,
         CONV(.out_channels = 6, .groups = 2, .kernel = {2, 3}, .stride = {2, 3}, .dilation = {2, 1}, .pad_lo = {1, 1}, .pad_hi = {1, 1}), false},
        {"conv stride 2 dilation 2", S(1, 7, 7), build_conv, CONV(.out_channels = 2, .kernel = {3, 3}, .stride = {2, 2}, .dilation = {2, 2}), false},
        {"conv uneven padding", S(1, 4, 4), build_conv, CONV(.out_channels = 2, .kernel = {2, 2}, .pad_hi = {1, 1}), false},
        {"conv1d", S(2, 7), build_conv, CONV(.nd = 1, .out_channels = 2, .kernel = {3}, .stride = {2}, .pad_lo = {1}, .pad_hi = {1}), false},
        {"conv3d", S(1, 3, 3, 2), build_conv, CONV(.nd = 3, .out_channels = 2, .kernel = {2, 2, 1}), false},
        {"linear", S(4), build_linear, &three, false},
        {"linear on pictures", S(2, 2, 3), build_linear, &two, false},
        {"maxpool", S(2, 5, 5), build_maxpool, POOL(.kernel = {3, 2}, .stride = {2, 2}, .pad = {1, 0}, .ceil_mode = true), false},
        {"maxpool overlapping dilated", S(1, 5, 6), build_maxpool, POOL(.kernel = {2, 2}, .stride = {1, 1}, .dilation = {2, 1}), false},
        {"avgpool", S(2, 5, 5), build_avgpool, POOL(.kernel = {3, 2}, .stride = {2, 1}, .pad = {1, 1}, .count_include_pad = true), false},
        {"avgpool ceil", S(1, 6, 4), build_avgpool, POOL(.kernel = {3, 3}, .stride = {2, 2}, .pad = {1, 1}, .ceil_mode = true), false},
        {"avgpool divisor", S(1, 4, 4), build_avgpool, POOL(.kernel = {2, 2}, .stride = {2, 2}, .divisor_override = 3), false},
        {"adaptive avg", S(2, 5, 3), build_adaptive_avg, ADAPTIVE(2, {3, 2}), false},
        {"adaptive avg larger", S(1, 2, 3), build_adaptive_avg, ADAPTIVE(2, {3, 4}), false},
        {"adaptive max", S(2, 5, 3), build_adaptive_max, ADAPTIVE(2, {3, 2}), false},
        {"batchnorm", S(3, 2, 3), build_batchnorm, &(NormAttrs){INFER, 1e-5, 0.1, true, true}, false},
        {"batchnorm without affine", S(2, 4), build_batchnorm, &(NormAttrs){INFER, 1e-3, 0.1, false, true}, false},
        {"prelu", S(2, 3, 3), build_prelu, &one, false},
        {"prelu per channel", S(3, 4), build_prelu, &three, false},
        {"glu", S(4, 3), build_glu, &one, false},
        {"glu last", S(2, 4), build_glu, &two, false},
        {"softmax", S(4), build_softmax, &one, false},
        {"softmax over channels", S(3, 2, 2), build_softmax, &one, false},
        {"log softmax", S(3, 4), build_log_softmax, &two, false},
        {"dropout", S(3, 4), build_dropout, NULL, false},
        {"dropout2d", S(5, 2, 2), build_dropout, &one, false},
        {"flatten", S(2, 2, 2), build_flatten, NULL, false},
        {"pad", S(2, 3, 3), build_pad, PAD(.mode = PAD_CONSTANT, .value = 0.5), false},
        {"pad reflect", S(1, 3, 3), build_pad, PAD(.mode = PAD_REFLECT), false},
        {"pad replicate", S(1, 3, 3), build_pad, PAD(.mode = PAD_REPLICATE), false},
        {"pad circular", S(1, 3, 3), build_pad, PAD(.mode = PAD_CIRCULAR), false},
        {"add", S(2, 3), build_add, NULL, false},
        {"concat", S(2, 3, 2), build_concat, NULL, false},
        {"cross entropy", S(3), build_nothing, NULL, true},
        {"cross entropy of positions", S(3, 2), build_nothing, NULL, true},
    };
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        bad += check_case(&cases[i]);
    assert_int_equal(bad, 0);
}

static void activation_gradients_match(void **state)
{
    (void)state;
    static const ActAttrs acts[] = {
        {ACT_RELU, {0}}, {ACT_RELU6, {0}}, {ACT_LEAKY_RELU, {0.1}}, {ACT_RRELU, {0.1, 0.3}}, {ACT_ELU, {0.7}}, {ACT_CELU, {1.3}},
        {ACT_SELU, {0}}, {ACT_GELU, {0}}, {ACT_GELU_TANH, {0}}, {ACT_SILU, {0}}, {ACT_MISH, {0}}, {ACT_SIGMOID, {0}},
        {ACT_TANH, {0}}, {ACT_LOG_SIGMOID, {0}}, {ACT_SOFTSIGN, {0}}, {ACT_TANHSHRINK, {0}}, {ACT_SOFTPLUS, {2, 1}}, {ACT_HARDTANH, {-0.5, 0.8}},
        {ACT_HARDSIGMOID, {0}}, {ACT_HARDSWISH, {0}}, {ACT_SOFTSHRINK, {0.2}}, {ACT_HARDSHRINK, {0.3}}, {ACT_THRESHOLD, {0.1, -0.5}},
    };
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(acts); i++)
        bad += check_case(&(Case){act_text(acts[i].kind), S(3, 4), build_act, &acts[i], false});
    assert_int_equal(bad, 0);
}

static void every_rule_has_a_case(void **state)
{
    (void)state;
    int bad = 0;
    for (Op op = 0; op < OP_COUNT; op++)
        if (grad_rule(op) && !op_seen[op]) {
            print_error("no gradient case for %s\n", op_text(op));
            bad++;
        }
    for (ActKind k = 0; k < ACT_COUNT; k++)
        if (!act_seen[k]) {
            print_error("no gradient case for the activation %s\n", act_text(k));
            bad++;
        }
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_match),
        cmocka_unit_test(activation_gradients_match),
        cmocka_unit_test(every_rule_has_a_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
