/* From text to graph: values of expressions, state_dict names, parameters, the train block, -D and --input-shape. */
#include "frontend/elaborate_impl.h"
#include "passes/pass.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    Arena *arena;
    Source src;
    Diags diags;
    Module m;
    ElaborateOptions o;
    bool fine;
} Text;

static Text *read_with(const char *text, ElaborateOptions o)
{
    Arena *a = arena_new();
    Text *t = NEW(a, Text);
    t->arena = a;
    t->src = source_from_text(a, "test.cnn", text, strlen(text));
    t->o = o;
    t->o.name = "test";
    t->o.batch = 1;
    diags_init(&t->diags, a, &t->src);
    const Ast *ast = parse_file(a, &t->src, &t->diags, &t->o.broken);
    t->fine = elaborate(a, ast, &t->o, &t->diags, &t->m);
    return t;
}

static Text *read_text(const char *text) { return read_with(text, (ElaborateOptions){0}); }
static void done(Text *t) { arena_free(t->arena); }

/* The names of all parameters, or of all layers, with blanks between. */
static const char *param_names(const Text *t)
{
    const char *all = "";
    for (NodeId n = 1; n < t->m.graph->nodes.len; n++)
        if (graph_node(t->m.graph, n)->op == OP_PARAM)
            all = arena_printf(t->arena, "%s%s%s", all, *all ? " " : "",
                               graph_value(t->m.graph, graph_node(t->m.graph, n)->out[0])->name);
    return all;
}

static const char *layer_list(const Text *t)
{
    const char *all = "";
    for (uint32_t i = 0; i < t->m.graph->layers.len; i++)
        all =
            arena_printf(t->arena, "%s%s%s:%s", all, i ? " " : "", t->m.graph->layers.at[i].name, t->m.graph->layers.at[i].type);
    return all;
}

static void expect_layers(const char *text, const char *want)
{
    Text *t = read_text(text);
    assert_true(t->fine);
    assert_string_equal(layer_list(t), want);
    done(t);
}

static void expect_error(const char *text, const char *code)
{
    Text *t = read_text(text);
    assert_int_equal(t->diags.errors, 1);
    assert_string_equal(t->diags.first->code, code);
    done(t);
}

/* ---- expressions: out_channels of one layer says the value ---- */

static int64_t value_of(const char *expr)
{
    char text[400];
    snprintf(text, sizeof text, "input(1, 9, 9)\nLinear(_, %s)", expr);
    Text *t = read_text(text);
    if (!t->fine)
        fail_msg("%s: %s", expr, t->diags.first->text);
    int64_t v = graph_def(t->m.graph, t->m.graph->output)->attrs.linear.out_features;
    done(t);
    return v;
}

static void test_expressions(void **state)
{
    (void)state;
    static const struct {
        const char *expr;
        int64_t value;
    } cases[] = {
        {"1 + 2 * 3", 7},
        {"(1 + 2) * 3", 9},
        {"7 // 2", 3},
        {"-7 // 2", -4},
        {"7 // -2", -4},
        {"-7 % 3", 2},
        {"7 % -3", -2},
        {"2 ** 10", 1024},
        {"-2 ** 2", -4},
        {"2 ** 3 ** 2", 512},
        {"int(2 ** -1 * 8)", 4},
        {"int(7 / 2)", 3},
        {"int(-3.7)", -3},
        {"round(2.5)", 2},
        {"round(3.5)", 4},
        {"abs(-5)", 5},
        {"len([1, 2, (3, 4)])", 3},
        {"max(1, 5, 3)", 5},
        {"min([4, 2])", 2},
        {"[1, 2, 3][-1]", 3},
        {"((1, 2), (3, 4))[1][0]", 3},
        {"1 if 2 > 1 else 5", 1},
        {"1 if not 2 > 1 else 5", 5},
        {"3 if 1 < 2 < 3 else 4", 3},
        {"3 if 1 < 3 < 2 else 4", 4},
        {"0 or 6", 6},
        {"3 and 4", 4},
        {"8 if \"a\" in [\"a\"] else 9", 8},
        {"8 if 3 not in (1, 2) else 9", 8},
        {"range(3, 10, 3)[2]", 9},
        {"len(range(10, 0, -3))", 4},
        {"len([0] * 3 + [1])", 4},
        {"8 if \"ab\" + \"c\" == \"abc\" else 9", 8},
        {"0x10 + 1_000", 1016},
        {"9223372036854775807 // 2", 4611686018427387903},
        {"(-9223372036854775807 - 1) // 3", -3074457345618258603},
        {"5 if None == None else 6", 5},
        {"5 if 1 == True else 6", 5},
        {"len(\"a\\n\\\"\")", 3},
        {"5 if [1, (2, 3)] == [1, (2, 3)] else 6", 5},
        {"+4", 4},
        {"10 - 2 - 3", 5},
        {"100 // 10 // 2", 5},
        {"1 if 0 else 2 if 0 else 3", 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (value_of(cases[i].expr) != cases[i].value)
            fail_msg("%s is %lld", cases[i].expr, (long long)value_of(cases[i].expr));
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    expect_layers("input(1)\nReLU\nx: ReLU\nReLU", "0:ReLU x:ReLU 2:ReLU");
    expect_layers("input(1)\nblock B { ReLU, y: ReLU }\nB(), b: B, repeat 2 { ReLU }",
                  "0.0:ReLU 0.y:ReLU b.0:ReLU b.y:ReLU 2:ReLU 3:ReLU");
    expect_layers("input(1)\nresidual { ReLU } shortcut { Tanh }\nr: residual { }",
                  "0.body.0:ReLU 0.shortcut.0:Tanh 0:residual r:residual");
    expect_layers("input(1, 2)\nconcat { branch { ReLU } branch { } branch { ReLU, ReLU } }",
                  "0.0.0:ReLU 0.2.0:ReLU 0.2.1:ReLU 0:concat");
    expect_layers("input(1)\nSequential(ReLU, Sequential(ReLU))", "0:ReLU 1.0:ReLU");
    expect_layers("input(1)\nSequential(ReLU), ReLU", "0.0:ReLU 1:ReLU");
    expect_layers("input(1)\nf: Sequential(ReLU)", "f.0:ReLU");
    expect_layers("input(1)\nm = nn.Sequential(nn.ReLU(), nn.Sequential(OrderedDict([('a', nn.ReLU())])))\n", "0:ReLU 1.a:ReLU");
    expect_layers("input(1)\nSequential(\n (0): ReLU()\n (1): Sequential(\n (0): ReLU6()\n )\n)", "0:ReLU 1.0:ReLU6");
    expect_layers("input(1)\nfor a, b in [(1, True), (2, False)] { if b { ReLU } else { Tanh } }", "0:ReLU 1:Tanh");
    expect_layers("input(1)\nLazyLinear(3), LazyBatchNorm1d()", "0:Linear 1:BatchNorm1d");
    expect_layers("input(1)\nReLU ReLU; Tanh, ReLU()\n\nReLU", "0:ReLU 1:ReLU 2:Tanh 3:ReLU 4:ReLU");
    expect_layers("input(1)\nsequence: ReLU\n(3): ReLU()\nfinal: residual { inner: ReLU }",
                  "sequence:ReLU 3:ReLU final.body.inner:ReLU final:residual");
}

static void test_params(void **state)
{
    (void)state;
    Text *t = read_text("input(1, 8, 8)\nConv2d(_, 2, 3), BatchNorm2d(), c: Conv2d(_, 2, 3, bias=False, frozen=True), PReLU, "
                        "BatchNorm2d(affine=False)");
    assert_true(t->fine);
    assert_string_equal(param_names(t),
                        "0.weight 0.bias 1.weight 1.bias 1.running_mean 1.running_var 1.num_batches_tracked c.weight 3.weight "
                        "4.running_mean 4.running_var 4.num_batches_tracked");
    const Graph *g = t->m.graph;
    for (NodeId n = 1; n < g->nodes.len; n++) {
        const Node *node = graph_node(g, n);
        const char *name = node->op == OP_PARAM ? graph_value(g, node->out[0])->name : "";
        const ParamAttrs *p = &node->attrs.param;
        if (!strcmp(name, "0.weight"))
            assert_true(p->init == INIT_UNIFORM && p->weight_bound && p->trainable && !p->buffer);
        if (!strcmp(name, "0.bias"))
            assert_true(p->init == INIT_UNIFORM && !p->weight_bound && p->trainable);
        if (!strcmp(name, "c.weight"))
            assert_true(!p->trainable && !p->buffer);
        if (!strcmp(name, "1.running_var"))
            assert_true(p->init == INIT_ONES && p->buffer && !p->trainable);
        if (!strcmp(name, "1.num_batches_tracked"))
            assert_true(graph_value(g, node->out[0])->dtype == DT_I64 && p->buffer);
        if (!strcmp(name, "3.weight"))
            assert_true(p->init == INIT_CONST && p->bound == 0.25);
    }
    done(t);
}

static void test_attributes(void **state)
{
    (void)state;
    Text *t = read_text("input(4, 8, 8)\nConv2d(4, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=2, groups=2, bias=False)");
    const ConvAttrs *c = &graph_def(t->m.graph, t->m.graph->output)->attrs.conv;
    assert_true(t->fine && c->nd == 2 && c->kernel[0] == 3 && c->kernel[1] == 5 && c->stride[0] == 2 && c->stride[1] == 1 &&
                c->pad_lo[1] == 2 && c->pad_hi[0] == 1 && c->dilation[1] == 2 && c->groups == 2 && !c->bias);
    done(t);
    t = read_text("input(1, 8, 8)\nConv2d(1, 1, 4, padding='same', padding_mode='reflect')");
    const Node *conv = graph_def(t->m.graph, t->m.graph->output), *pad = graph_def(t->m.graph, conv->in[0]);
    assert_true(t->fine && pad->op == OP_PAD && pad->attrs.pad.lo[0] == 1 && pad->attrs.pad.hi[0] == 2 &&
                pad->attrs.pad.mode == PAD_REFLECT);
    done(t);
    t = read_text("input(1, 8, 8)\nConv2d(1, 2, 3, weight=Sobel(), bias=False)");
    const Node *w = graph_def(t->m.graph, graph_def(t->m.graph, t->m.graph->output)->in[1]);
    assert_true(t->fine && w->attrs.param.init == INIT_VALUES && w->attrs.param.n_values == 9 && w->attrs.param.values[5] == 2);
    done(t);
    t = read_text("input(1, 8, 8)\nMaxPool2d(3, ceil_mode=True)");
    const PoolAttrs *p = &graph_def(t->m.graph, t->m.graph->output)->attrs.pool;
    assert_true(p->kernel[1] == 3 && p->stride[1] == 3 && p->dilation[0] == 1 && p->ceil_mode);
    done(t);
}

/* ---- train, normalize, labels, options ---- */

static void test_train(void **state)
{
    (void)state;
    Text *t = read_with(
        "input(3, 8, 8)\nnormalize(mean=0.5, std=(1, 2, 3))\nlabels(\"a\", [\"b\"])\nFlatten\ntrain { data = Npy(\"x.npy\", "
        "\"y.npy\")\nvalid = 0.1\n"
        "epochs = 7; batch_size = 9\nloss = CrossEntropyLoss(label_smoothing=0.1)\noptimizer = AdamW(2e-3, betas=(0.8, 0.9))\n"
        "schedule = MultiStepLR([5, 3], gamma=0.5)\naugment = [RandomCrop(8, padding=1), RandomHorizontalFlip()]\nseed = 4, "
        "shuffle = False }",
        (ElaborateOptions){.folder = "models"});
    const CnncTrain *x = &t->m.train.train;
    assert_true(t->fine && t->m.train.present && x->data == CNNC_DATA_NPY && x->valid_fraction == 0.1 && x->epochs == 7 &&
                x->batch_size == 9);
    assert_string_equal(x->data_path, "models/x.npy");
    assert_true(x->smoothing == 0.1 && x->optimizer == CNNC_OPT_ADAMW && x->lr == 2e-3 && x->beta1 == 0.8 &&
                x->weight_decay == 0.01 && x->eps == 1e-8);
    assert_true(x->schedule == CNNC_SCHED_MULTISTEP && x->n_milestones == 2 && x->milestones[0] == 3 && x->sched[0] == 0.5);
    assert_true(x->n_augment == 2 && x->augment[0].p[0] == 8 && x->augment[0].p[2] == 1 && x->augment[1].p[0] == 0.5 &&
                x->seed == 4 && !x->shuffle);
    assert_true(t->m.n_labels == 2 && t->m.normalize.n == 3 && t->m.normalize.mean[2] == 0.5 && t->m.normalize.std[2] == 3);
    done(t);
    t = read_text("input(1)\nLinear(_, 1)");
    assert_true(!t->m.train.present && t->m.train.train.lr == 1e-3 && t->m.train.train.batch_size == 64 &&
                t->m.train.train.shuffle);
    done(t);
    t = read_text("input(1)\nLinear(_, 1)\ntrain { epochs = 3, schedule = OneCycleLR(0.1, style='fastai') }");
    assert_true(t->fine && t->m.train.train.sched[1] == 0.25 && t->m.train.train.sched[3] == 1e5 &&
                t->m.train.train.sched[9] == 1);
    done(t);
    t = read_text("input(1)\nLinear(_, 1)\ntrain { schedule = CosineAnnealingLR(), epochs = 3 }");
    assert_true(t->fine && t->m.train.train.sched[0] == 3);
    done(t);
}

static void test_defines(void **state)
{
    (void)state;
    Define d[] = {{"width", "3 + 1", false}, {"kind", "relu", false}, {"none", "1", false}};
    Text *t = read_with(
        "input(1)\nlet width = 6, let kind = \"x\"\nlet twice = width * 2\nLinear(_, twice)\nif kind == \"relu\" { ReLU }",
        (ElaborateOptions){.defines = d, .n_defines = 3});
    assert_true(t->fine && d[0].used && d[1].used && !d[2].used);
    assert_string_equal(layer_list(t), "0:Linear 1:ReLU");
    assert_int_equal(
        graph_node(t->m.graph, graph_value(t->m.graph, t->m.graph->layers.at[0].out)->def)->attrs.linear.out_features, 8);
    done(t);
}

static void test_input_shape(void **state)
{
    (void)state;
    Shape s = {.rank = 3, .dim = {3, 4, 5}};
    Text *t = read_with("input(1, 28, 28)\nReLU", (ElaborateOptions){.input = &s});
    assert_true(t->fine && t->m.graph->input_shape.dim[0] == 3);
    done(t);
    t = read_with("ReLU", (ElaborateOptions){.input = &s});
    assert_true(t->fine && t->m.graph->input_shape.dim[2] == 5);
    done(t);
}

static void test_spans(void **state)
{
    (void)state;
    const char *text = "input(1)\nblock B(n) {\n  Linear(_, out_features=n)\n}\nB(4)\n";
    Text *t = read_text(text);
    const Layer *l = &t->m.graph->layers.at[0];
    assert_memory_equal(text + l->span.start, "Linear(_, out_features=n)", l->span.end - l->span.start);
    assert_memory_equal(text + l->used_at.start, "B(4)", l->used_at.end - l->used_at.start);
    assert_memory_equal(text + l->arg_span[0].start, "_", 1);
    assert_memory_equal(text + l->arg_span[1].start, "out_features=n", l->arg_span[1].end - l->arg_span[1].start);
    assert_int_equal(l->arg_span[2].end, 0);
    done(t);
}

/* One mistake, one message. */
static void test_single_errors(void **state)
{
    (void)state;
    expect_error("input(1)\nLinear(1, [2, 3)\nLinear(_, 4)", "E0103");
    expect_error("input(1)\nSequential(ReLU,\nLinear(1,,2),\nReLU)\nReLU", "E0105");
    expect_error("input(1)\nConv2d(1, 2\nReLU()\nReLU()", "E0103");
    expect_error("Conv2d(1, 2", "E0103");
    expect_error("input(1)\nlet a = b\nLinear(_, a)", "E0211");
    expect_error("input(1)\nblock B(n) { Linear(_, n) }\nB(x)", "E0211");
    expect_error("input(1)\nrepeat 10 { Foo() }", "E0201");
    expect_error("input(1)\nblock B { Foo }\nB, B, repeat 3 { B }", "E0201");
    expect_error("input(1)\nReLU @", "E0101");
    expect_error("input(1)\nNet((a): ReLU())", "E0110");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expressions), cmocka_unit_test(test_names), cmocka_unit_test(test_params),
        cmocka_unit_test(test_attributes),  cmocka_unit_test(test_train), cmocka_unit_test(test_defines),
        cmocka_unit_test(test_input_shape), cmocka_unit_test(test_spans), cmocka_unit_test(test_single_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
