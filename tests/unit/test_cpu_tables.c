/* The tables of a model survive the way into an object and back: every field of runtime/abi.h is compared, and the stages
 * run, alone and through the C API of a library. The stages here are a stand-in (y = 2x, one sample a slice). */
#include "codegen/cpu/module.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FEATURES = 3, BATCH = 4 };

/* The stage: out[slice] = 2 * in[slice], for samples below n. */
LLVMValueRef emit_stage(Emit *e, const Function *f, int s)
{
    LLVMTypeRef params[3] = {e->ptr, e->ptr, e->i64};
    LLVMValueRef fn = emit_function_begin(e, arena_printf(e->arena, "%s.stage%d", f->name, s),
                                          LLVMFunctionType(e->void_, params, 3, false), true);
    LLVMValueRef args = LLVMGetParam(fn, 0), slice = LLVMGetParam(fn, 2);
    LLVMValueRef in = emit_load(e, e->ptr, emit_gep(e, e->i8, args, emit_i64(e, offsetof(CnncArgs, in))), 8);
    LLVMValueRef out = emit_load(e, e->ptr, emit_gep(e, e->i8, args, emit_i64(e, offsetof(CnncArgs, out))), 8);
    Loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, FEATURES), 1, "i");
    LLVMValueRef at = emit_add(e, emit_mul(e, slice, FEATURES), l.iv);
    LLVMValueRef x = emit_load(e, e->f32, emit_gep(e, e->f32, in, at), 4);
    emit_store(e, emit_scalar_op(e, EX_MUL, x, emit_f32(e, 2), NULL), emit_gep(e, e->f32, out, at), 4);
    emit_loop_end(e, &l);
    emit_function_end(e);
    return fn;
}

static const int32_t milestones[] = {2, 5, 9};
static const CnncAugment augment[] = {{CNNC_AUG_CROP, {28, 28, 2, 0}}, {CNNC_AUG_HFLIP, {0.5, 0, 0, 0}}};
static const CnncTrain train = {
    .data = CNNC_DATA_NPY, .data_path = "x.npy", .data_path2 = "y.npy", .valid_path = NULL, .data_size = {7, 8}, .valid_fraction = 0.25,
    .epochs = 3, .batch_size = 64, .seed = 0x123456789abcdefull, .shuffle = 1, .loss = 1, .smoothing = 0.1, .optimizer = CNNC_OPT_ADAMW,
    .lr = 0.5, .momentum = 0.9, .dampening = 0.01, .weight_decay = 5e-4, .beta1 = 0.91, .beta2 = 0.99, .eps = 1e-7, .alpha = 0.98,
    .nesterov = 1, .centered = 1, .schedule = CNNC_SCHED_MULTISTEP, .sched = {0.1, 1, 2, 3, 4, 5, 6, 7, 8, 9},
    .milestones = milestones, .n_milestones = 3, .augment = augment, .n_augment = 2,
};
static const float values[] = {1.5f, -2.5f}, mean[] = {0.5f, 0.25f, 0.125f}, dev[] = {1, 2, 4};
static const float test_in[] = {1, 2, 3, 4, 5, 6}, test_out[] = {2, 4, 6, 8, 10, 12};
static const CnncTensor tensors[] = {
    {"0.weight", CNNC_F32, 2, {3, 3}, 0, CNNC_ROLE_PARAM, 0, 0.57735, NULL, 0},
    {"sobel.weight", CNNC_F32, 1, {2}, 64, CNNC_ROLE_FROZEN, 4, 0, values, 2},
    {"1.num_batches_tracked", CNNC_I64, 0, {0}, 128, CNNC_ROLE_BUFFER, 1, 0, NULL, 0},
};
static const CnncLayer layers[] = {{"0", "Linear", 1, {3}, 9, 12}, {"quote\"\\\n", "ReLU", 2, {3, 9}, 0, 0}};
static const char *const classes[] = {"zero", "\xc3\xa9in", "zwei"};
static const CnncStage stages[] = {{NULL, BATCH, 1, 0, 1, "all \"of\" it", 9.5, 8.25, 1024}};
static const CnncFunction infer = {.stages = stages, .n_stages = 1, .batch = BATCH, .work_bytes = 1000, .scratch_bytes = 70};
static const CnncStage two_stages[] = {{NULL, BATCH, 1, 0, 0, "first", 1, 3, 5}, {NULL, 2, 0, 1, 1, "second", 2, 4, 6}};
static const CnncFunction step = {.stages = two_stages, .n_stages = 2, .batch = BATCH, .work_bytes = 5000, .scratch_bytes = 0};
static const CnncGpuPlace places[] = {{CNNC_AT_STATE, 64}, {CNNC_AT_WORK, 4096}};
static const CnncGpuLaunch launches[] = {
    {"infer0_0_linear", "0.linear", {7, 2, 1}, 256, 1024, 784, 256, 0, 0, 18, 60, 900, CNNC_PRODUCTS_BF16, places, 2, 0, {0, 0, 0, 0}},
    {"infer1_1_relu", "1.relu", {1, 1, 1}, 32, 0, 0, 0, 1, 1, 0, 24, 0, 0, NULL, 0, 3, {1, 0, 0, 0}}};
static const CnncGpuFunction gpu_infer = {launches, 2, BATCH, 4096};
static const CnncGpuImage images[] = {{90, 0, "\177ELF\0cubin", 10}, {80, 1, ".version 8.0", 13}};
static const CnncGpu gpu = {"__global__ ...", 90, images, 2, &gpu_infer, NULL, NULL};
static const char consts[64] __attribute__((aligned(64))) = "packed";

static Stage infer_plan[1] = {{.name = "all", .slices = BATCH, .samples_per_slice = 1}};
static Stage step_plan[2] = {{.name = "first", .slices = BATCH, .samples_per_slice = 1}, {.name = "second", .slices = 2}};
static Function infer_function = {.name = "infer", .stages = infer_plan, .n_stages = 1, .batch = BATCH, .work_bytes = 1000, .scratch_bytes = 70};
static Function step_function = {.name = "step", .stages = step_plan, .n_stages = 2, .batch = BATCH, .work_bytes = 5000};

static Program make_program(Arena *a)
{
    Program p = {.arena = a, .symbol = "tiny", .infer = &infer_function, .step = &step_function};
    p.model = (CnncModel){.name = "tiny net", .in_rank = 1, .in_shape = {FEATURES}, .out_rank = 1, .out_shape = {FEATURES}, .n_mean = 3,
                          .mean = mean, .std = dev, .n_classes = 3, .class_names = classes, .tensors = tensors, .n_tensors = 3,
                          .state_bytes = 192, .layers = layers, .n_layers = 2, .consts = consts, .consts_bytes = 64,
                          .weights_checksum = 0xfedcba9876543210ull, .infer = &infer, .step = &step, .train = &train, .test_in = test_in,
                          .test_out = test_out, .n_test = 2, .test_tolerance = 1e-5, .gpu = &gpu};
    return p;
}

static void same_text(const char *a, const char *b)
{
    if (!b)
        assert_null(a);
    else
        assert_string_equal(a, b);
}

static void compare_function(const CnncFunction *got, const CnncFunction *want)
{
    assert_int_equal(got->n_stages, want->n_stages);
    assert_int_equal(got->batch, want->batch);
    assert_true(got->work_bytes == want->work_bytes && got->scratch_bytes == want->scratch_bytes);
    for (int i = 0; i < want->n_stages; i++) {
        const CnncStage *g = &got->stages[i], *w = &want->stages[i];
        assert_non_null(g->fn);
        assert_true(i == 0 || g->fn != got->stages[0].fn);
        assert_string_equal(g->name, w->name);
        assert_true(g->slices == w->slices && g->samples_per_slice == w->samples_per_slice && g->first_layer == w->first_layer &&
                    g->last_layer == w->last_layer && g->macs == w->macs && g->fmas == w->fmas && g->bytes == w->bytes);
    }
}

static void compare_tensors(const CnncModel *got)
{
    assert_int_equal(got->n_tensors, 3);
    for (int i = 0; i < 3; i++) {
        const CnncTensor *g = &got->tensors[i], *w = &tensors[i];
        assert_string_equal(g->name, w->name);
        assert_memory_equal(g->shape, w->shape, sizeof w->shape);
        assert_true(g->dtype == w->dtype && g->rank == w->rank && g->offset == w->offset && g->role == w->role && g->init == w->init &&
                    g->bound == w->bound && g->n_values == w->n_values);
        assert_int_equal(!g->values, !w->values);
        if (w->values)
            assert_memory_equal(g->values, w->values, 4 * (size_t)w->n_values);
    }
}

static void compare_train(const CnncTrain *g)
{
    CnncTrain flat = *g;   /* with the pointers of the original, the bytes must be equal */
    same_text(g->data_path, train.data_path);
    same_text(g->data_path2, train.data_path2);
    same_text(g->valid_path, train.valid_path);
    same_text(g->valid_path2, train.valid_path2);
    assert_memory_equal(g->milestones, milestones, sizeof milestones);
    assert_memory_equal(g->augment, augment, sizeof augment);
    flat.data_path = train.data_path;
    flat.data_path2 = train.data_path2;
    flat.milestones = milestones;
    flat.augment = augment;
    assert_memory_equal(&flat, &train, sizeof train);
}

static void compare_gpu(const CnncGpu *g)
{
    assert_true(!g->text && g->sm == 90 && g->n_images == 2 && !g->eval && !g->step);
    for (int i = 0; i < 2; i++) {
        assert_true(g->images[i].sm == images[i].sm && g->images[i].ptx == images[i].ptx && g->images[i].size == images[i].size);
        assert_memory_equal(g->images[i].bytes, images[i].bytes, (size_t)images[i].size);
    }
    assert_true(g->infer->n_launches == 2 && g->infer->batch == BATCH && g->infer->work_bytes == 4096);
    for (int i = 0; i < 2; i++) {
        CnncGpuLaunch flat = g->infer->launches[i];
        assert_string_equal(flat.entry, launches[i].entry);
        assert_string_equal(flat.name, launches[i].name);
        flat.entry = launches[i].entry;
        flat.name = launches[i].name;
        assert_true(flat.n_places == launches[i].n_places);
        if (flat.n_places)
            assert_memory_equal(flat.places, places, sizeof places);
        flat.places = launches[i].places;
        assert_memory_equal(&flat, &launches[i], sizeof flat);
    }
}

static void compare_model(const CnncModel *g, const CnncModel *w, const CpuTarget *t)
{
    assert_int_equal(g->abi_version, CNNC_ABI_VERSION);
    assert_string_equal(g->name, w->name);
    assert_string_equal(g->version, CNNC_VERSION);
    assert_string_equal(g->cpu, t->name);
    assert_string_equal(g->features, t->features);
    assert_true(g->in_rank == w->in_rank && g->out_rank == w->out_rank && g->n_mean == w->n_mean && g->n_classes == w->n_classes);
    assert_memory_equal(g->in_shape, w->in_shape, sizeof w->in_shape);
    assert_memory_equal(g->out_shape, w->out_shape, sizeof w->out_shape);
    assert_memory_equal(g->mean, mean, sizeof mean);
    assert_memory_equal(g->std, dev, sizeof dev);
    for (int i = 0; i < 3; i++)
        assert_string_equal(g->class_names[i], classes[i]);
    compare_tensors(g);
    assert_int_equal(g->n_layers, 2);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(g->layers[i].name, layers[i].name);
        assert_string_equal(g->layers[i].type, layers[i].type);
        assert_memory_equal(g->layers[i].shape, layers[i].shape, sizeof layers[i].shape);
        assert_true(g->layers[i].rank == layers[i].rank && g->layers[i].macs == layers[i].macs && g->layers[i].params == layers[i].params);
    }
    assert_true(g->state_bytes == w->state_bytes && g->consts_bytes == w->consts_bytes && g->weights_checksum == w->weights_checksum);
    assert_ptr_equal(g->consts, consts);
    compare_function(g->infer, &infer);
    assert_null(g->eval);
    compare_function(g->step, &step);
    compare_train(g->train);
    assert_memory_equal(g->test_in, test_in, sizeof test_in);
    assert_memory_equal(g->test_out, test_out, sizeof test_out);
    assert_true(g->n_test == w->n_test && g->test_tolerance == w->test_tolerance);
    compare_gpu(g->gpu);
}

typedef struct { Arena *arena; Program program; CpuTarget target; CpuJit *jit; const CnncModel *model; } Loaded;

static Loaded load(bool library)
{
    Loaded l = {.arena = arena_new()};
    const char *why = "";
    l.program = make_program(l.arena);
    if (!target_find(l.arena, NULL, "host", &l.target, &why))
        fail_msg("%s", why);
    Bytes object;
    if (!module_compile(l.arena, &l.program, &l.target, CPU_OBJECT, library, &object, &why))
        fail_msg("%s", why);
    l.jit = jit_load(l.arena, &l.program, object, &l.model, &why);
    if (!l.jit)
        fail_msg("%s", why);
    free(object.data);
    return l;
}

static void unload(Loaded *l)
{
    jit_free(l->jit);
    arena_free(l->arena);
}

static void test_model_survives(void **state)
{
    (void)state;
    Loaded l = load(false);
    compare_model(l.model, &l.program.model, &l.target);
    float in[6] = {1, 2, 3, 4, 5, 6}, out[6] = {0};
    CnncArgs args = {.in = in, .out = out, .n = 2};
    l.model->infer->stages[0].fn(&args, NULL, 1);
    assert_true(out[2] == 0 && out[3] == 8 && out[5] == 12);
    assert_null(jit_find(l.jit, "tiny_infer"));
    unload(&l);
}

static void test_library(void **state)
{
    (void)state;
    Loaded l = load(true);
    union { void *p; size_t (*size)(void); int (*infer)(const float *, float *, void *); int (*infer_n)(const float *, float *, int, void *);
            int (*number)(void); const char *(*text)(void); const int64_t *(*shape)(void); const char *(*class_name)(int); } f;
    f.p = jit_find(l.jit, "tiny_workspace_size");
    assert_int_equal(f.size(), 1024 + 128 + 64);   /* work, scratch, normalised input */
    float in[FEATURES * BATCH], out[FEATURES * BATCH] = {0};
    _Alignas(64) static char workspace[2048];
    for (int i = 0; i < FEATURES * BATCH; i++)
        in[i] = (float)i;
    f.p = jit_find(l.jit, "tiny_infer_n");
    assert_int_equal(f.infer_n(in, out, 2, workspace), 0);
    assert_true(out[4] == 2 * (4 - mean[1]) / dev[1] && out[5] == 2 * (5 - mean[2]) / dev[2] && out[6] == 0);
    assert_int_not_equal(f.infer_n(in, out, 0, workspace), 0);
    assert_int_not_equal(f.infer_n(in, out, BATCH + 1, workspace), 0);
    assert_int_not_equal(f.infer_n(NULL, out, 1, workspace), 0);
    assert_int_not_equal(f.infer_n(in, out, 1, NULL), 0);
    assert_int_not_equal(f.infer_n(in, out, 1, workspace + 4), 0);
    f.p = jit_find(l.jit, "tiny_infer");
    assert_int_equal(f.infer(in, out, workspace), 0);
    assert_true(out[11] == 2 * (11 - mean[2]) / dev[2]);
    f.p = jit_find(l.jit, "tiny_batch");
    assert_int_equal(f.number(), BATCH);
    f.p = jit_find(l.jit, "tiny_classes");
    assert_int_equal(f.number(), 3);
    f.p = jit_find(l.jit, "tiny_class_name");
    assert_string_equal(f.class_name(1), classes[1]);
    assert_null(f.class_name(3));
    assert_null(f.class_name(-1));
    f.p = jit_find(l.jit, "tiny_input_rank");
    assert_int_equal(f.number(), 2);
    f.p = jit_find(l.jit, "tiny_input_shape");
    assert_true(f.shape()[0] == BATCH && f.shape()[1] == FEATURES);
    f.p = jit_find(l.jit, "tiny_info");
    assert_non_null(strstr(f.text(), "tiny net: input [3], output [3], batch 4, weights fedcba9876543210"));
    f.p = jit_find(l.jit, "tiny_abi_version");
    assert_int_equal(f.number(), CNNC_ABI_VERSION);
    unload(&l);
}

static void test_same_bytes_each_time(void **state)
{
    (void)state;
    Arena *a = arena_new();
    Program p = make_program(a);
    CpuTarget t;
    const char *why;
    Bytes one, two, text;
    assert_true(target_find(a, NULL, "x86-64-v3", &t, &why));
    assert_true(module_compile(a, &p, &t, CPU_OBJECT, true, &one, &why));
    assert_true(module_compile(a, &p, &t, CPU_OBJECT, true, &two, &why));
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    free(one.data);
    free(two.data);
    assert_true(module_compile(a, &p, &t, CPU_LLVM_IR, false, &text, &why));
    assert_non_null(memmem(text.data, text.size, "@tiny_model", 11));
    free(text.data);
    assert_true(module_compile(a, &p, &t, CPU_ASM, false, &text, &why));
    assert_non_null(memmem(text.data, text.size, "infer.stage0", 12));
    free(text.data);
    arena_free(a);
}

static void test_targets(void **state)
{
    (void)state;
    Arena *a = arena_new();
    CpuTarget t;
    const char *why = NULL;
    assert_true(target_find(a, NULL, "x86-64-v4", &t, &why) && t.lanes == 16 && t.registers == 32 && t.masks && t.fma);
    assert_true(target_find(a, NULL, "znver3", &t, &why) && t.lanes == 8 && t.registers == 16 && t.fma);
    assert_string_equal(t.cpu, "x86-64-v3");
    assert_string_equal(t.tune, "znver3");
    assert_true(target_find(a, "x86_64-linux-gnu", "generic", &t, &why) && t.lanes == 4 && !t.fma);
    assert_true(target_find(a, NULL, "skylake_avx512", &t, &why) && t.lanes == 16);
    assert_true(target_find(a, NULL, NULL, &t, &why) && t.lanes >= 4);
    assert_false(target_find(a, NULL, "znver44", &t, &why));
    assert_string_equal(why, "unknown CPU \"znver44\"; did you mean \"znver4\"?");
    assert_false(target_find(a, NULL, "x86-64-v5", &t, &why));
    assert_false(target_find(a, NULL, "qqqqqqqqqqqqqqq", &t, &why));
    assert_non_null(strstr(why, "unknown CPU"));
    assert_false(target_find(a, "riscv64-linux-gnu", NULL, &t, &why));
    assert_non_null(strstr(why, "makes code for x86_64-linux-gnu and aarch64-linux-gnu"));
    assert_false(target_find(a, "x86_65-linux-gnu", NULL, &t, &why));
    assert_non_null(strstr(why, "did you mean"));
    arena_free(a);
}

static void test_aarch64(void **state)
{
    (void)state;
    Arena *a = arena_new();
    CpuTarget t;
    const char *why = NULL;
    assert_true(target_find(a, "aarch64-unknown-linux-gnu", "cortex-a72", &t, &why));
    assert_true(t.lanes == 4 && t.registers == 32 && t.fma && !t.masks && !t.bf16 && t.load_store && t.l2 == 1 << 20);
    assert_string_equal(t.cpu, "generic");
    assert_string_equal(t.features, "+fp-armv8,+neon");
    assert_true(target_find(a, "arm64", "apple-m1", &t, &why));
    assert_string_equal(t.tune, "apple-a14");
    assert_false(target_find(a, "aarch64-linux-gnu", "znver4", &t, &why));
    assert_string_equal(why, "\"znver4\" is a CPU of x86-64: add --target x86_64-linux-gnu");
    assert_false(target_find(a, "aarch64-linux-gnu", "cortex-a722", &t, &why));
    assert_string_equal(why, "unknown CPU \"cortex-a722\"; did you mean \"cortex-a72\"?");
#if defined(__x86_64__)
    assert_true(target_find(a, "aarch64-linux-gnu", NULL, &t, &why));
    assert_string_equal(t.name, "generic");
    assert_string_equal(t.tools, "aarch64-linux-gnu");
    assert_false(target_find(a, "aarch64-linux-gnu", "native", &t, &why));
    assert_non_null(strstr(why, "name it"));
    assert_true(target_find(a, "x86_64-linux-gnu", NULL, &t, &why) && !t.tools);
#endif
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model_survives), cmocka_unit_test(test_library),
                                       cmocka_unit_test(test_same_bytes_each_time), cmocka_unit_test(test_targets),
                                       cmocka_unit_test(test_aarch64)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
