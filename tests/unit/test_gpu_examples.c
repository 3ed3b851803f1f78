/* The nets of examples/ as CUDA text on a CPU: evaluated, and some trained for a step, against the reference interpreter. Pictures
 * of 224 pixels are made 64, so that the interpreter is done in seconds; layers and channels are those of the files. Left out are
 * AlexNet, VGG-16 (hundreds of megabytes of weights for the same kernels) and ResNet-50. */
#include "tests/gpu/target.h"

#include "frontend/elaborate.h"

static const struct { const char *name; bool step; Precision precision; } examples[] = {
    {"lenet", true, PRECISION_F32},        {"conv20", true, PRECISION_F32},     {"simple_cnn", true, PRECISION_F32},
    {"tinyvgg", false, PRECISION_F32},     {"cifar_vgg", false, PRECISION_F32}, {"cifar_vgg", false, PRECISION_BF16},
    {"resnet18", false, PRECISION_F32},    {"resnet18", false, PRECISION_TF32}, {"mobilenet", false, PRECISION_F32},
    {"mobilenetv2", false, PRECISION_F32}, {"googlenet", false, PRECISION_F32}, {"googlenet", false, PRECISION_BF16},
};

typedef struct { Arena *a; Source src; Diags diags; Module module; PassContext passes; } Net;

static void load_net(Net *t, const char *name, int64_t batch)
{
    const char *path = arena_printf(t->a, "examples/%s.cnn", name), *why = NULL;
    Source file;
    if (!source_read(t->a, path, &file, &why))
        fail_msg("%s: %s", path, why);
    char *text = arena_strdup(t->a, file.text), *size = strstr(text, "224, 224");
    if (size)
        memcpy(size, " 64,  64", strlen(" 64,  64"));
    t->src = source_from_text(t->a, path, text, strlen(text));
    diags_init(&t->diags, t->a, &t->src);
    bool broken = false;
    Ast *ast = parse_file(t->a, &t->src, &t->diags, &broken);
    ElaborateOptions options = {.name = name, .batch = batch, .folder = "examples", .broken = broken};
    t->passes = (PassContext){.arena = t->a, .diags = &t->diags, .module = &t->module};
    if (!elaborate(t->a, ast, &options, &t->diags, &t->module) || !passes_run(&t->passes, PIPELINE_CHECK))
        fail_msg("%s does not pass its checks", path);
}

static void test_examples(void **unused)
{
    (void)unused;
    EmitTarget t = gpu_emit_target(90);
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        Net net = {.a = arena_new()};
        Case c = {.net = examples[i].name};
        load_net(&net, examples[i].name, 2);
        EmitTarget eval = gpu_emit_target_in(90, examples[i].precision);
        check_eval_of(net.a, &c, passes_run(&net.passes, PIPELINE_EVAL), &eval);
        if (examples[i].step)
            check_steps_of(net.a, &c, &net.module.train, passes_run(&net.passes, PIPELINE_TRAIN), &t, 1);
        arena_free(net.a);
    }
}

/* Small nets are a few launches: LeNet-5 one for its forward pass; a step has one for all samples, one for the weight
 * gradients of Linear (of large batches one each, and one more when the depth is cut), one for the other sums and updates. */
static void test_launches_of_a_small_net(void **unused)
{
    (void)unused;
    EmitTarget t = gpu_emit_target(90);
    for (int64_t batch = 1; batch <= 1024; batch *= 32) {
        Net net = {.a = arena_new()};
        load_net(&net, "lenet", batch);
        Graph *g = passes_run(&net.passes, PIPELINE_EVAL);
        const CnncGpu *eval = gpu_emit(net.a, compile_graph(net.a, g, &net.passes.fusion, &t.options));
        g = passes_run(&net.passes, PIPELINE_TRAIN);
        const CnncGpu *step = gpu_emit(net.a, compile_graph(net.a, g, &net.passes.fusion, &t.options));
        assert_int_equal(eval->infer->n_launches, 1);
        assert_true(step->step->n_launches <= 9);
        assert_true(eval->infer->launches[0].shared_bytes <= gpu_target(90)->shared_bytes);
        assert_true(step->step->launches[0].shared_bytes <= gpu_target(90)->shared_bytes);
        assert_true(eval->infer->launches[0].grid[0] >= (batch < 132 ? batch : 100));
        arena_free(net.a);
    }
}

/* Lanes wait for launches before them; the gradients of LeNet-5's weights wait for its samples alone, and share a launch. */
static void test_lanes(void **unused)
{
    (void)unused;
    static const char *const names[] = {"lenet", "cifar_vgg"};
    EmitTarget t = gpu_emit_target(90);
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        Net net = {.a = arena_new()};
        load_net(&net, names[k], 64);
        Graph *g = passes_run(&net.passes, PIPELINE_TRAIN);
        const CnncGpuFunction *f = gpu_emit(net.a, compile_graph(net.a, g, &net.passes.fusion, &t.options))->step;
        int chain[200] = {0}, longest = 0, last[CNNC_GPU_LANES] = {0}, lanes = 0;
        assert_true(f->n_launches < 200);
        for (int i = 0; i < f->n_launches; i++) {
            const CnncGpuLaunch *l = &f->launches[i];
            int behind = chain[last[l->lane]];
            for (int lane = 0; lane < CNNC_GPU_LANES; lane++) {
                assert_true(l->after[lane] <= i && (!l->after[lane] || (lane != l->lane && f->launches[l->after[lane] - 1].lane == lane)));
                behind = chain[l->after[lane]] > behind ? chain[l->after[lane]] : behind;
            }
            chain[i + 1] = behind + 1;
            longest = chain[i + 1] > longest ? chain[i + 1] : longest;
            last[l->lane] = i + 1;
            lanes = l->lane + 1 > lanes ? l->lane + 1 : lanes;
        }
        assert_true(k == 0 ? longest <= 3 : lanes > 1 && longest < f->n_launches);
        arena_free(net.a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_launches_of_a_small_net), cmocka_unit_test(test_lanes), cmocka_unit_test(test_examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
