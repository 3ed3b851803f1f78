/* Shape inference: PyTorch's sizes for 1,070 random windows (tests/torch/shapes.txt), inferred attributes, initial bounds,
 * printed forms, every error's text, and that one mistake is told once while the next is still found. */
#include "tests/unit/graph_build.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- PyTorch's sizes ---- */

typedef struct {
    char op[32];
    int64_t nd, in[4], out, kernel[3], stride[3], pad[3], dilation[3], groups, mode;
    char result[64];
} Case;

static bool read_case(FILE *f, Case *c)
{
    if (fscanf(f, "%31s %" SCNd64, c->op, &c->nd) != 2)
        return false;
    int64_t *all[] = {&c->in[0],       &c->in[1],       &c->in[2],       &c->in[3],     &c->out,    &c->kernel[0], &c->kernel[1],
                      &c->kernel[2],   &c->stride[0],   &c->stride[1],   &c->stride[2], &c->pad[0], &c->pad[1],    &c->pad[2],
                      &c->dilation[0], &c->dilation[1], &c->dilation[2], &c->groups,    &c->mode};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        assert_int_equal(fscanf(f, "%" SCNd64, all[i]), 1);
    assert_int_equal(fscanf(f, " = %63[^\n]", c->result), 1);
    return true;
}

static NodeId build_case(Build *b, const Case *c)
{
    if (strcmp(c->op, "conv") == 0) {
        ConvAttrs k = {.nd = (int)c->nd,
                       .in_channels = INFER,
                       .out_channels = c->out,
                       .groups = c->groups,
                       .padding = (PaddingKind)c->mode,
                       .bias = true};
        memcpy(k.kernel, c->kernel, sizeof k.kernel);
        memcpy(k.stride, c->stride, sizeof k.stride);
        memcpy(k.dilation, c->dilation, sizeof k.dilation);
        memcpy(k.pad_lo, c->pad, sizeof k.pad_lo);
        memcpy(k.pad_hi, c->pad, sizeof k.pad_hi);
        return build_conv(b, &k, "");
    }
    if (strncmp(c->op, "adaptive", 8) == 0) {
        Attrs attrs;
        memset(&attrs, 0, sizeof attrs);
        attrs.adaptive.nd = (int)c->nd;
        memcpy(attrs.adaptive.out, c->kernel, sizeof attrs.adaptive.out);
        return build_node(b, strstr(c->op, "max") ? OP_ADAPTIVE_MAX : OP_ADAPTIVE_AVG, &b->at, 1, &attrs,
                          build_layer(b, "AdaptiveAvgPool2d", ""));
    }
    PoolAttrs p = {.nd = (int)c->nd, .ceil_mode = c->mode == 1};
    memcpy(p.kernel, c->kernel, sizeof p.kernel);
    memcpy(p.stride, c->stride, sizeof p.stride);
    memcpy(p.dilation, c->dilation, sizeof p.dilation);
    memcpy(p.pad, c->pad, sizeof p.pad);
    return build_pool(b, strcmp(c->op, "maxpool") == 0 ? OP_MAXPOOL : OP_AVGPOOL, &p, "");
}

static void test_torch_sizes(void **state)
{
    (void)state;
    FILE *f = fopen("tests/torch/shapes.txt", "r");
    assert_non_null(f);
    Case c;
    int n = 0;
    for (; read_case(f, &c); n++) {
        Build b;
        build_begin(&b, "", (int)c.nd + 1, c.in, 2);
        NodeId id = build_case(&b, &c);
        bool fine = shape(b.g, &b.d);
        const Value *v = graph_value(b.g, node_out(b.g, id, 0));
        const char *got = "";
        for (int i = 1; fine && i < v->shape.rank; i++)
            got = arena_printf(b.a, "%s%s%" PRId64, got, i > 1 ? " " : "", v->shape.dim[i]);
        if (strcmp(fine ? got : "error", c.result) != 0)
            fail_msg("case %d (%s): got %s, PyTorch %s", n + 1, c.op, fine ? got : "error", c.result);
        assert_true(!fine || (v->known && v->batched && v->shape.dim[0] == 2));
        arena_free(b.a);
    }
    assert_int_equal(n, 1070);
    fclose(f);
}

/* ---- what is filled in ---- */

static void test_filled_in(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "", 3, (int64_t[]){1, 28, 28}, 1);
    NodeId conv = build_conv2d(&b, INFER, 6, 5, 1, 2, "");
    build_relu(&b, "");
    build_maxpool2d(&b, 2, "");
    build_flatten(&b, "");
    NodeId linear = build_linear(&b, INFER, 10, "");
    assert_true(shape(b.g, &b.d));
    const Node *c = graph_node(b.g, conv), *l = graph_node(b.g, linear);
    assert_int_equal(c->attrs.conv.in_channels, 1);
    assert_int_equal(l->attrs.linear.in_features, 6 * 14 * 14);
    assert_string_equal(shape_text(b.a, &graph_value(b.g, c->in[1])->shape, false), "[6, 1, 5, 5]");
    assert_string_equal(shape_text(b.a, &graph_value(b.g, l->in[1])->shape, false), "[10, 1176]");
    const ParamAttrs *w = &graph_def(b.g, c->in[1])->attrs.param, *bias = &graph_def(b.g, c->in[2])->attrs.param;
    assert_true(w->bound == sqrt(3.0) * (sqrt(2.0 / 6.0) / sqrt(25.0)));
    assert_true(bias->bound == 1.0 / sqrt(25.0) && bias->fan_in == 25);
    static const char *const printed[] = {
        "Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))",
        "ReLU()",
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "Flatten(start_dim=1, end_dim=-1)",
        "Linear(in_features=1176, out_features=10, bias=True)",
    };
    for (int i = 0; i < 5; i++)
        assert_string_equal(b.g->layers.at[i].printed, printed[i]);
    const char *why = NULL;
    assert_true(graph_verify(b.g, &why));
    assert_true(shape(b.g, &b.d)); /* again: nothing changes */
    assert_string_equal(b.g->layers.at[3].printed, printed[3]);
    arena_free(b.a);
}

static void test_printed_norm_and_acts(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "", 3, (int64_t[]){4, 8, 8}, 1);
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.norm = (NormAttrs){.features = INFER, .eps = 1e-5, .momentum = 0.1, .affine = true, .track = true};
    build_node(&b, OP_BATCHNORM, &b.at, 1, &attrs, build_layer(&b, "BatchNorm2d", ""));
    static const struct {
        ActKind kind;
        const char *type;
        double p[2];
        const char *printed;
    } acts[] = {
        {ACT_LEAKY_RELU, "LeakyReLU", {0.2}, "LeakyReLU(negative_slope=0.2)"},
        {ACT_SOFTPLUS, "Softplus", {1, 20}, "Softplus(beta=1.0, threshold=20.0)"},
        {ACT_HARDTANH, "Hardtanh", {-1, 1}, "Hardtanh(min_val=-1.0, max_val=1.0)"},
        {ACT_SOFTSHRINK, "Softshrink", {0.5}, "Softshrink(0.5)"},
        {ACT_GELU_TANH, "GELU", {0}, "GELU(approximate='tanh')"},
        {ACT_RRELU, "RReLU", {0.125, 1.0 / 3}, "RReLU(lower=0.125, upper=0.3333333333333333)"},
        {ACT_SILU, "SiLU", {0}, "SiLU()"},
        {ACT_PRELU, "PReLU", {4, 0.25}, "PReLU(num_parameters=4)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        memset(&attrs, 0, sizeof attrs);
        attrs.act = (ActAttrs){.kind = acts[i].kind, .p = {acts[i].p[0], acts[i].p[1]}};
        LayerId l = build_layer(&b, acts[i].type, "");
        ValueId w = acts[i].kind == ACT_PRELU ? build_param(&b, "weight", l, false) : 0;
        build_node(&b, OP_ACT, (ValueId[]){b.at, w}, 2, &attrs, l);
    }
    assert_true(shape(b.g, &b.d));
    assert_string_equal(b.g->layers.at[0].printed,
                        "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)");
    for (size_t i = 0; i < ARRAY_LEN(acts); i++)
        assert_string_equal(b.g->layers.at[i + 1].printed, acts[i].printed);
    arena_free(b.a);
}

/* ---- errors ---- */

static void expect_messages(Build *b, const char *want)
{
    bool fine = shape(b->g, &b->d);
    char *got = build_messages(b, DIAG_HUMAN);
    assert_string_equal(got, want);
    assert_true(fine == (*want == '\0'));
    free(got);
    arena_free(b->a);
}

static void test_linear_error(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "input(1, 28, 28)\nConv2d(1, 20, 5)\nMaxPool2d(2)\nFlatten()\nLinear(3136, 100)\nLinear(100, 10)\n", 3,
                (int64_t[]){1, 28, 28}, 1);
    build_conv2d(&b, 1, 20, 5, 1, 0, "Conv2d(1, 20, 5)");
    build_maxpool2d(&b, 2, "MaxPool2d(2)");
    build_flatten(&b, "Flatten()");
    build_linear(&b, 3136, 100, "Linear(3136, 100)");
    build_arg(&b, 0, "3136");
    build_linear(&b, 100, 10, "Linear(100, 10)");
    expect_messages(&b, "t.cnn:5:8: error: Linear expects 3136 input features but receives 2880 [E0307]\n"
                        "    5 | Linear(3136, 100)\n"
                        "      |        ^^^^\n"
                        "    4 | Flatten()\n"
                        "      | --------- note: [20, 12, 12] becomes 20 * 12 * 12 = 2880 here\n"
                        "      = help: write Linear(2880, 100), or Linear(_, 100) to have it inferred\n"
                        "      = PyTorch: mat1 and mat2 shapes cannot be multiplied (64x2880 and 3136x100)\n");
}

/* The classic: two 3x3 convolutions counted as one. */
static void test_forgotten_convolution(void **state)
{
    (void)state;
    Build b;
    build_begin(&b,
                "input(1, 28, 28)\nConv2d(1, hidden, 3)\nConv2d(_, 10, 3)\nFlatten()\nLinear(in_features=hidden * 26 * 26, "
                "out_features=4)\n",
                3, (int64_t[]){1, 28, 28}, 1);
    build_conv2d(&b, 1, 10, 3, 1, 0, "Conv2d(1, hidden, 3)");
    build_conv2d(&b, INFER, 10, 3, 1, 0, "Conv2d(_, 10, 3)");
    build_flatten(&b, "Flatten()");
    build_linear(&b, 6760, 4, "Linear(in_features=hidden * 26 * 26, out_features=4)");
    build_arg(&b, 0, "in_features=hidden * 26 * 26");
    expect_messages(&b,
                    "t.cnn:5:20: error: Linear expects 6760 input features but receives 5760 [E0307]\n"
                    "    5 | Linear(in_features=hidden * 26 * 26, out_features=4)\n"
                    "      |                    ^^^^^^^^^^^^^^^^\n"
                    "    4 | Flatten()\n"
                    "      | --------- note: [10, 24, 24] becomes 10 * 24 * 24 = 5760 here\n"
                    "    2 | Conv2d(1, hidden, 3)\n"
                    "      | -------------------- note: 6760 = 10 * 26 * 26 is the size here; the layers after it leave 24x24\n"
                    "      = help: write Linear(in_features=hidden * 24 * 24, out_features=4), or Linear(in_features=_, "
                    "out_features=4) to have it inferred\n"
                    "      = PyTorch: mat1 and mat2 shapes cannot be multiplied (64x5760 and 6760x4)\n");
}

static void test_several_errors(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "input(3, 8, 8)\nConv2d(1, 6, 3)\nReLU()\nConv2d(16, 16, 9)\nMaxPool2d(2)\nConv2d(8, 4, 1)\n", 3,
                (int64_t[]){3, 8, 8}, 1);
    build_conv2d(&b, 1, 6, 3, 1, 0, "Conv2d(1, 6, 3)");
    build_arg(&b, 0, "1");
    build_relu(&b, "ReLU()");
    build_conv2d(&b, 16, 16, 9, 1, 0, "Conv2d(16, 16, 9)");
    build_arg(&b, 0, "16");
    build_arg(&b, 2, "9");
    build_maxpool2d(&b, 2, "MaxPool2d(2)"); /* its size is unknown: silent; its channels are known */
    build_conv2d(&b, 8, 4, 1, 1, 0, "Conv2d(8, 4, 1)");
    build_arg(&b, 0, "8");
    expect_messages(&b, "t.cnn:2:8: error: Conv2d expects 1 input channels but receives 3 [E0303]\n"
                        "    2 | Conv2d(1, 6, 3)\n"
                        "      |        ^\n"
                        "    1 | input(3, 8, 8)\n"
                        "      | -------------- note: the input is [3, 8, 8]\n"
                        "      = help: write Conv2d(3, 6, 3), or Conv2d(_, 6, 3) to have it inferred\n"
                        "      = PyTorch: Given groups=1, weight of size [6, 1, 3, 3], expected input[64, 3, 8, 8] to have 1 "
                        "channels, but got 3 channels instead\n"
                        "t.cnn:4:8: error: Conv2d expects 16 input channels but receives 6 [E0303]\n"
                        "    4 | Conv2d(16, 16, 9)\n"
                        "      |        ^^\n"
                        "    2 | Conv2d(1, 6, 3)\n"
                        "      | --------------- note: makes [6, 6, 6] here\n"
                        "      = help: write Conv2d(6, 16, 9), or Conv2d(_, 16, 9) to have it inferred\n"
                        "      = PyTorch: Given groups=1, weight of size [16, 16, 9, 9], expected input[64, 6, 6, 6] to have 16 "
                        "channels, but got 6 channels instead\n"
                        "t.cnn:4:16: error: Conv2d's 9 x 9 window does not fit its 6 x 6 input: floor((6 + 2*0 - 1*(9-1) - 1)/1 "
                        "+ 1) = -2 [E0304]\n"
                        "    4 | Conv2d(16, 16, 9)\n"
                        "      |                ^\n"
                        "    2 | Conv2d(1, 6, 3)\n"
                        "      | --------------- note: makes [6, 6, 6] here\n"
                        "      = help: a kernel of at most 6 fits here; or write padding=2, or shrink less before it\n"
                        "      = PyTorch: Calculated padded input size per channel: (6 x 6). Kernel size: (9 x 9). Kernel size "
                        "can't be greater than actual input size\n"
                        "t.cnn:6:8: error: Conv2d expects 8 input channels but receives 16 [E0303]\n"
                        "    6 | Conv2d(8, 4, 1)\n"
                        "      |        ^\n"
                        "    5 | MaxPool2d(2)\n"
                        "      | ------------ note: makes [16, ?, ?] here\n"
                        "      = help: write Conv2d(16, 4, 1), or Conv2d(_, 4, 1) to have it inferred\n");
}

/* Layers that cannot be, each on an input of so many dims, and the code of the one error they give. */
static const struct {
    Op op;
    const char *type;
    Attrs attrs;
    int rank;
    int64_t in[3];
    const char *want;
} one_line[] = {
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = 4,
               .groups = 3,
               .kernel = {1, 1},
               .stride = {1, 1},
               .dilation = {1, 1}}},
     3,
     {3, 8, 8},
     "E0305"},
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = 4,
               .groups = 1,
               .kernel = {3, 3},
               .stride = {0, 1},
               .dilation = {1, 1}}},
     3,
     {3, 8, 8},
     "E0306"},
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = 4,
               .groups = 0,
               .kernel = {3, 3},
               .stride = {1, 1},
               .dilation = {1, 1}}},
     3,
     {3, 8, 8},
     "E0306"},
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = 4,
               .groups = 1,
               .kernel = {3, 3},
               .stride = {2, 2},
               .dilation = {1, 1},
               .padding = PADDING_SAME}},
     3,
     {3, 8, 8},
     "E0312"},
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = INT64_MAX,
               .groups = 1,
               .kernel = {3, 3},
               .stride = {1, 1},
               .dilation = {1, 1}}},
     3,
     {3, 8, 8},
     "E0319"},
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = INT32_MAX,
               .groups = 1,
               .kernel = {1, 1},
               .stride = {1, 1},
               .dilation = {1, 1}}},
     3,
     {1, 8, 8},
     "E0319"},
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = 1,
               .groups = 1,
               .kernel = {1, 1},
               .stride = {1, 1},
               .dilation = {1, 1},
               .pad_lo = {INT32_MAX, INT32_MAX},
               .pad_hi = {INT32_MAX, INT32_MAX}}},
     3,
     {1, 8, 8},
     "E0319"},
    {OP_CONV,
     "Conv2d",
     {.conv = {.nd = 2,
               .in_channels = INFER,
               .out_channels = 4,
               .groups = 1,
               .kernel = {3, 3},
               .stride = {1, 1},
               .dilation = {1, 1}}},
     1,
     {784},
     "E0302"},
    {OP_LINEAR, "Linear", {.linear = {INFER, 0, true}}, 1, {784}, "E0306"},
    {OP_MAXPOOL,
     "MaxPool2d",
     {.pool = {.nd = 2, .kernel = {2, 2}, .stride = {2, 2}, .pad = {2, 2}, .dilation = {1, 1}}},
     3,
     {1, 8, 8},
     "E0308"},
    {OP_MAXPOOL,
     "MaxPool2d",
     {.pool = {.nd = 2, .kernel = {3, 3}, .stride = {3, 3}, .dilation = {1, 1}}},
     3,
     {1, 2, 2},
     "E0309"},
    {OP_BATCHNORM, "BatchNorm2d", {.norm = {.features = 5, .eps = 1e-5, .momentum = 0.1}}, 3, {4, 2, 2}, "E0310"},
    {OP_BATCHNORM, "BatchNorm1d", {.norm = {.features = 4, .eps = 1e-5, .momentum = 0.1}}, 3, {4, 2, 2}, "E0302"},
    {OP_PAD, "ReflectionPad2d", {.pad = {.nd = 2, .lo = {4, 4}, .hi = {4, 4}, .mode = PAD_REFLECT}}, 3, {1, 4, 4}, "E0313"},
    {OP_PAD, "ZeroPad2d", {.pad = {.nd = 2, .lo = {-2, -2}, .hi = {-2, -2}, .mode = PAD_CONSTANT}}, 3, {1, 4, 4}, "E0313"},
    {OP_RESHAPE, "Flatten", {.flatten = {2, 1}}, 3, {1, 4, 4}, "E0314"},
    {OP_RESHAPE, "Flatten", {.flatten = {0, -1}}, 3, {1, 4, 4}, "E0315"},
    {OP_RESHAPE, "Flatten", {.flatten = {1, 7}}, 3, {1, 4, 4}, "E0314"},
    {OP_SOFTMAX, "Softmax", {.axis = {4}}, 3, {1, 4, 4}, "E0314"},
    {OP_SOFTMAX, "Softmax", {.axis = {0}}, 1, {4}, "E0315"},
    {OP_SOFTMAX, "Softmax", {.axis = {AXIS_NONE}}, 2, {4, 4}, "E0315"},
    {OP_GLU, "GLU", {.axis = {-1}}, 1, {5}, "E0316"},
    {OP_ACT, "PReLU", {.act = {.kind = ACT_PRELU, .p = {3}}}, 3, {4, 2, 2}, "E0322"},
    {OP_DROPOUT, "Dropout", {.dropout = {.p = 50}}, 1, {4}, "E0323"},
    {OP_ADAPTIVE_AVG, "AdaptiveAvgPool2d", {.adaptive = {2, {-1, 1}}}, 3, {4, 2, 2}, "E0306"},
    {OP_ACT, "ReLU", {.act = {.kind = ACT_RELU}}, 3, {0, 2, 2}, "E0301"},
};

static void test_one_line_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(one_line); i++) {
        Build b;
        build_begin(&b, "input(1)\nlayer\n", one_line[i].rank, one_line[i].in, 1);
        LayerId l = build_layer(&b, one_line[i].type, "layer");
        ValueId w = build_param(&b, "weight", l, true);
        build_node(&b, one_line[i].op, (ValueId[]){b.at, w},
                   one_line[i].op == OP_CONV || one_line[i].op == OP_LINEAR || one_line[i].op == OP_ACT ? 2 : 1, &one_line[i].attrs, l);
        if (shape(b.g, &b.d) || b.d.errors != 1 || strcmp(b.d.first->code, one_line[i].want) != 0) {
            char *got = build_messages(&b, DIAG_SHORT);
            fail_msg("case %zu (%s): wanted %s, got:\n%s", i, one_line[i].type, one_line[i].want, got);
        }
        arena_free(b.a);
    }
}

/* ---- joins ---- */

static void test_residual_error(void **state)
{
    (void)state;
    Build b;
    build_begin(&b, "input(64, 56, 56)\nresidual { Conv2d(_, 128, 3, 2, 1) }\n", 3, (int64_t[]){64, 56, 56}, 8);
    ValueId in = b.at;
    build_conv2d(&b, INFER, 128, 3, 2, 1, "Conv2d(_, 128, 3, 2, 1)");
    LayerId l = build_layer(&b, "residual", "residual { Conv2d(_, 128, 3, 2, 1) }");
    b.g->layers.at[l].arg_span = NULL;
    b.g->layers.at[l].in = in;
    build_node(&b, OP_ADD, (ValueId[]){b.at, in}, 2, NULL, l);
    expect_messages(
        &b, "t.cnn:2:1: error: residual cannot add [128, 28, 28] and [64, 56, 56] [E0317]\n"
            "    2 | residual { Conv2d(_, 128, 3, 2, 1) }\n"
            "      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
            "    2 | residual { Conv2d(_, 128, 3, 2, 1) }\n"
            "      |            ----------------------- note: makes [128, 28, 28] here\n"
            "    1 | input(64, 56, 56)\n"
            "      | ----------------- note: the input is [64, 56, 56]\n"
            "      = help: give the block's input its own way: shortcut { Conv2d(_, 128, 1, stride=2) }\n"
            "      = PyTorch: The size of tensor a (128) must match the size of tensor b (64) at non-singleton dimension 1\n");
}

static void test_concat(void **state)
{
    (void)state;
    for (int64_t pad = 0; pad <= 1; pad++) {
        Build b;
        build_begin(&b, "", 3, (int64_t[]){3, 8, 8}, 1);
        ValueId in = b.at, left, right;
        build_conv2d(&b, INFER, 4, 1, 1, 0, "");
        left = b.at;
        b.at = in;
        build_conv2d(&b, INFER, 5, 3, 1, pad, "");
        right = b.at;
        Attrs attrs;
        memset(&attrs, 0, sizeof attrs);
        attrs.axis.axis = 1;
        build_node(&b, OP_CONCAT, (ValueId[]){left, right, in}, 3, &attrs, build_layer(&b, "concat", ""));
        assert_true(shape(b.g, &b.d) == (pad == 1));
        Shape s = graph_value(b.g, b.at)->shape;
        assert_int_equal(s.dim[1], 12);
        if (pad == 0)
            assert_string_equal(b.d.first->code, "E0318");
        arena_free(b.a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch_sizes),
        cmocka_unit_test(test_filled_in),
        cmocka_unit_test(test_printed_norm_and_acts),
        cmocka_unit_test(test_linear_error),
        cmocka_unit_test(test_forgotten_convolution),
        cmocka_unit_test(test_several_errors),
        cmocka_unit_test(test_one_line_errors),
        cmocka_unit_test(test_residual_error),
        cmocka_unit_test(test_concat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
