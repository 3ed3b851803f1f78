/* code.c: from a checked module to running or written code; shared by run, predict, eval, verify, train, build, bench.
 * In: a Compile that driver_load accepted. Out: programs, objects, a JIT-compiled model.
 * Invariant: every function prints what went wrong and returns the exit status; later steps may rely on earlier ones.
 * The idea: one path for all: module -> Program -> object bytes -> JIT or file. */
#include "frontend/commands/code.h"
#include "frontend/commands/accuracy.h"
#include "frontend/commands/tune.h"
#include "codegen/gpu/gpu.h"
#include "codegen/gpu/nvrtc.h"
#include "runtime/checkpoint.h"
#include "runtime/cpu.h"
#include "runtime/device.h"
#include "runtime/init.h"
#include "runtime/weights.h"
#include <stdlib.h>
#include <string.h>

int code_runtime_error(const void *rt_error)
{
    const RtError *e = rt_error;
    if (e->text[0])
        fprintf(stderr, "cnnc: %s%s\n", e->kind == RT_INTERRUPTED ? "" : "error: ", e->text);
    return e->kind;
}

uint64_t code_seed(const Compile *cc) { return cc->o->has_seed ? (uint64_t)cc->o->seed : cc->module.train.train.seed; }

void code_tell_initial(const CodeGen *c)
{
    if (c->initial && !c->cc->o->quiet)
        fprintf(stderr, "cnnc: note: no --weights: using initial weights (seed %llu)\n", (unsigned long long)code_seed(c->cc));
}

static Precision precision_of(const char *option)
{
    bool given = option && strcmp(option, "f32") != 0;
    return !given ? PRECISION_F32 : !strcmp(option, "tf32") ? PRECISION_TF32 : PRECISION_BF16;
}

static bool has_compiler(void *context, const char **why)
{
    Nvrtc *n = nvrtc_open(((Compile *)context)->arena, why);
    nvrtc_close(n);
    return n != NULL;
}

int code_open(CodeGen *c, Compile *cc)
{
    const Options *o = cc->o;
    const DeviceNeeds needs = {has_compiler, cc};
    RtError e = {0};
    int sm = 0;
    if (o->device && !device_choose(o->device, &needs, &sm, o->quiet ? NULL : stderr, &e))
        return code_runtime_error(&e);
    if (!sm && precision_of(o->precision) == PRECISION_TF32)   /* --device auto, and there is no GPU */
        return driver_error(EXIT_USAGE, "--precision tf32 belongs to GPUs");
    return sm ? code_open_gpu(c, cc, &(GpuTargets){.sm = {sm}, .n = 1, .parts = GPU_PARTS_BY_CORES}) : code_open_cpu(c, cc);
}

int code_open_gpu(CodeGen *c, Compile *cc, const GpuTargets *gpus)
{
    const Options *o = cc->o;
    const struct {
        const char *name;
        bool given;
    } of_cpus[] = {{"--weights-precision", o->weights_precision && strcmp(o->weights_precision, "f32") != 0},
                   {"--tune", o->tune > 0}};
    for (size_t i = 0; i < ARRAY_LEN(of_cpus); i++)
        if (of_cpus[i].given)
            return driver_error(EXIT_USAGE, "%s is not implemented yet for GPUs", of_cpus[i].name);
    *c = (CodeGen){.cc = cc, .gpus = *gpus, 
                   .options = {.precision = precision_of(o->precision), .dump = o->dump, .dump_to = stdout, .name = o->name,
                               .no_winograd = o->no_winograd}};
    gpu_options(&c->options, gpu_target(gpus->sm[0]));
    return EXIT_FINE;
}

/* Code needs the CPU's instructions for bf16 only where it may use them. Tile registers of this machine that the system does not permit are
 * not there. */
static void use_bf16(CodeGen *c, const char *cpu, bool wanted)
{
    bool here = !cpu || !strcmp(cpu, "host") || !strcmp(cpu, "native");
    c->target.bf16 &= wanted;
    if (!wanted || (here && !cpu_has_features(CPU_TILE_FEATURES, NULL, 0)))
        c->target.tiles = 0;
    if (c->target.bf16)
        c->target.features = arena_printf(c->cc->arena, "%s,+avx512bf16", c->target.features);
}

int code_open_cpu(CodeGen *c, Compile *cc)
{
    const char *cpu = cc->o->cpu;
    if (cpu && strchr(cpu, ','))
        return driver_error(EXIT_USAGE, "--cpu %s: code for several CPUs goes into programs alone: build --emit exe, or --trainer", cpu);
    return code_open_one_cpu(c, cc, cpu);
}

int code_open_one_cpu(CodeGen *c, Compile *cc, const char *cpu)
{
    const char *why = NULL;
    const Options *o = cc->o;
    *c = (CodeGen){.cc = cc};
    c->backend = backend_open(cc->arena, &why);
    if (!c->backend)
        return driver_error(EXIT_DEVICE, "%s", why);
    if (!c->backend->target(cc->arena, o->target, cpu, &c->target, &why))
        return driver_error(EXIT_USAGE, "%s", why);
    /* tf32 is of GPUs: what a program for both does on a CPU is float32. */
    Precision precision = precision_of(o->precision) == PRECISION_BF16 ? PRECISION_BF16 : PRECISION_F32;
    use_bf16(c, cpu, precision == PRECISION_BF16);
    c->options = (CompileOptions){
        .target = target_nest(&c->target),
        .precision = precision,
        .weights_precision = precision_of(o->weights_precision),
        .dump = o->dump,
        .dump_to = stdout,
        .name = o->name,
        .no_winograd = o->no_winograd,
        .cpu = c->target.cpu,
        .features = c->target.features};
    return EXIT_FINE;
}

/* ---- weights ---- */

static void keep_names(Arena *a, Module *m, const StoredFacts *f)
{
    if (f->classes && !m->labels) {
        const char **names = NEWN(a, const char *, f->n_classes + 1);
        for (int i = 0; i < f->n_classes; i++)
            names[i] = arena_strdup(a, f->classes[i]);
        m->labels = names;
        m->n_labels = f->n_classes;
    }
    Normalize *z = &m->normalize;
    if (f->n_norm > 0 && f->n_norm <= 64 && z->given && z->automatic) {
        z->automatic = false;
        z->n = f->n_norm;
        for (int i = 0; i < f->n_norm; i++) {
            z->mean[i] = f->mean[i];
            z->std[i] = f->std[i];
        }
    }
}

/* Opens the file of --weights. */
static int open_weights(CodeGen *c)
{
    const Options *o = c->cc->o;
    WeightsFile *file = &c->cc->weights;
    WeightsMatch match;
    StoredFacts facts = {0};
    RtError e = {0};
    if (!weights_read(o->weights, file, &e) || !weights_match(file, o->weights, c->tensors, c->n_weights, o->partial, &match, &e) ||
        !stored_facts_read(file, &facts, &e))
        return code_runtime_error(&e);
    keep_names(c->cc->arena, &c->cc->module, &facts);
    stored_facts_free(&facts);
    c->options.weights_checksum = file->checksum;
    if (o->partial && !o->quiet)
        fprintf(stderr, "cnnc: note: %d tensors loaded, %d missing, %d left over, %d of another shape\n", match.loaded, match.missing,
                match.extra, match.misshapen);
    return EXIT_FINE;
}

int code_open_weights(CodeGen *c)
{
    c->tensors = compile_tensors(c->cc->arena, c->cc->module.graph, NULL, &c->n_weights, &c->state_bytes);
    c->initial = !c->cc->o->weights;
    return c->initial ? EXIT_FINE : open_weights(c);
}

/* Initial values, where the file has none. NULL: it has them all. */
static const char *initial_state(const CodeGen *c)
{
    if (!c->initial && !c->cc->o->partial)
        return NULL;
    char *state = arena_alloc(c->cc->arena, (size_t)c->state_bytes);
    Rng rng;
    rng_seed(&rng, code_seed(c->cc));
    init_state(c->tensors, c->n_weights, &rng, state, c->state_bytes);
    return state;
}

/* A file's element, whatever its type. */
static double file_value(const WeightsTensor *f, int64_t k) { return f->dtype == CNNC_I64 ? (double)f->i64[k] : (double)f->f32[k]; }

/* A tensor's values: floats stay where they are, in the file or in `state`; what is not floats there becomes doubles. A counter that no
 * file has is zero. */
static RefNamed name_weight(const CodeGen *c, const CnncTensor *t, const char *state)
{
    const WeightsTensor *f = weights_find(&c->cc->weights, t->name);
    RefNamed w = {.name = t->name, .count = tensor_elements(t)};
    if (f && !weights_fit(f, t))
        f = NULL;
    const char *at = state ? state + t->offset : NULL;
    if (t->dtype == CNNC_F32 && (!f || f->dtype == CNNC_F32)) {
        w.floats = f ? f->f32 : (const float *)(const void *)at;
        return w;
    }
    double *values = NEWN(c->cc->arena, double, w.count + 1);
    for (int64_t k = 0; k < w.count && (f || at); k++)
        values[k] = f ? file_value(f, k) : t->dtype == CNNC_I64 ? (double)((const int64_t *)(const void *)at)[k] : 0;
    w.data = values;
    return w;
}

void code_take_weights(CodeGen *c)
{
    if (c->weights || c->options.interface_only)
        return;
    const char *state = initial_state(c);
    c->weights = NEWN(c->cc->arena, RefNamed, c->n_weights + 1);
    for (int32_t i = 0; i < c->n_weights; i++)
        c->weights[i] = name_weight(c, &c->tensors[i], state);
}

int code_weights(CodeGen *c)
{
    int status = code_open_weights(c);
    if (!status)
        code_take_weights(c);
    return status;
}

/* ---- programs ---- */

/* NULL program: errors in diags (training may find some), or a dump was the aim. */
static int program_status(CodeGen *c)
{
    if (c->program)
        return EXIT_FINE;
    Compile *cc = c->cc;
    if (cc->diags.errors) {
        diags_print(&cc->diags, stderr, DIAG_HUMAN, driver_color(cc->o, stderr));
        return EXIT_MODEL;
    }
    if (cc->passes.dumped || c->options.dumped)
        return EXIT_FINE;
    return driver_error(EXIT_BUG, "the program could not be put together");
}

static Arena *program_arena(const CodeGen *c) { return c->programs ? c->programs : c->cc->arena; }

int code_inference(CodeGen *c, bool selftest)
{
    int status = c->cc->o->tune > 0 ? tune_inference(c) : EXIT_FINE;
    if (status)
        return status;
    c->options.selftest = selftest;
    if (c->cc->o->max_rel_err > 0)
        return accuracy_inference(c);
    bool narrow = c->options.precision != PRECISION_F32 || c->options.weights_precision == PRECISION_BF16;
    if (narrow && c->cc->o->verbose && accuracy_can_run(c))
        return accuracy_report(c);
    return code_inference_once(c);
}

int code_inference_once(CodeGen *c)
{
    c->program = compile_inference(program_arena(c), &c->cc->passes, c->weights, c->n_weights, &c->options);
    if (c->program)
        c->program->model.train = NULL;
    if (c->program && c->program->later && compile_wants_selftest(c->program, &c->options)) {
        code_take_weights(c);
        compile_selftest(c->program, c->cc->module.graph, c->weights, c->n_weights);
    }
    return program_status(c);
}

int code_training(CodeGen *c)
{
    int status = c->cc->o->tune > 0 ? tune_training(c) : EXIT_FINE;
    return status ? status : code_training_once(c);
}

int code_training_once(CodeGen *c)
{
    c->program = compile_training(program_arena(c), &c->cc->passes, &c->options);
    return program_status(c);
}

int code_object(CodeGen *c, CpuOutput kind, bool library, Bytes *out)
{
    const char *why = NULL;
    if (!c->backend->compile(program_arena(c), c->program, &c->target, kind, library, out, &why))
        return driver_error(EXIT_BUG, "%s", why);
    return EXIT_FINE;
}

int code_images(CodeGen *c)
{
    const char *why = NULL;
    gpu_emit(c->cc->arena, c->program);
    ImagesStatus status = gpu_compile(c->cc->arena, c->program, &c->gpus, c->uses, &why);
    if (status == IMAGES_NO_COMPILER)
        return driver_error(EXIT_DEVICE, "code for a GPU cannot be made: %s", why);
    return status == IMAGES_FINE ? EXIT_FINE : driver_error(EXIT_BUG, "%s", why);
}

int code_jit(CodeGen *c)
{
    const char *why = NULL;
    RtError e = {0};
    Bytes object;
    c->model = &c->program->model;
    if (!c->backend)
        return code_images(c);
    if (c->target.tools)
        return driver_error(EXIT_USAGE, "code for %s does not run on this machine: --target is for build", c->target.tools);
    int status = code_object(c, CPU_OBJECT, false, &object);
    if (status)
        return status;
    c->jit = c->backend->jit_load(program_arena(c), c->program, object, &c->model, &why);
    free(object.data);
    if (!c->jit)
        return driver_error(EXIT_BUG, "%s", why);
    return cpu_check("the code", c->model->cpu, c->model->features, &e) ? EXIT_FINE : code_runtime_error(&e);
}

int code_session_model(CodeGen *c, Compile *cc)
{
    int status = code_open(c, cc);
    if (!status)
        status = code_weights(c);
    if (!status)
        status = code_inference(c, false);
    if (!status)
        status = code_jit(c);
    return status;
}

void code_free(CodeGen *c)
{
    if (c->jit)
        c->backend->jit_free(c->jit);
    c->jit = NULL;
}

/* ---- --dump of what lies behind the checks ---- */

static int dump_llvm(CodeGen *c)
{
    Bytes text;
    int status = code_object(c, CPU_LLVM_IR, false, &text);
    if (status)
        return status;
    fwrite(text.data, 1, text.size, stdout);
    free(text.data);
    return EXIT_FINE;
}

enum { DUMP_SM = 90 };   /* --dump cuda shows the text for this GPU */

static int dump_cuda(Compile *cc, bool training)
{
    CodeGen c = {.cc = cc, .options = {.name = cc->o->name, .precision = precision_of(cc->o->precision), .no_winograd = cc->o->no_winograd}};
    gpu_options(&c.options, gpu_target(DUMP_SM));
    int status = code_weights(&c);
    if (!status)
        status = training ? code_training(&c) : code_inference(&c, false);
    if (!status)
        fputs(gpu_emit(cc->arena, c.program)->text, stdout);
    return status;
}

int code_dump(Compile *cc)
{
    CodeGen c;
    const char *stage = cc->o->dump;
    bool training =
        !strcmp(stage, "train_step") || !strcmp(stage, "eval_graph") || (driver_trains(cc->o) && cc->o->command != CMD_EVAL);
    if (!strcmp(stage, "eval_graph"))
        return passes_run(&cc->passes, PIPELINE_EVAL) ? EXIT_FINE : EXIT_MODEL;
    if (pass_find(stage) != PASS_COUNT && !cc->diags.errors) {
        bool fine = passes_run(&cc->passes, training ? PIPELINE_TRAIN : PIPELINE_INFER) != NULL;
        if (!fine)
            diags_print(&cc->diags, stderr, DIAG_HUMAN, driver_color(cc->o, stderr));
        return fine ? EXIT_FINE : EXIT_MODEL;
    }
    if (!strcmp(stage, "cuda"))
        return dump_cuda(cc, training);
    int status = code_open(&c, cc);
    if (!status)
        status = code_weights(&c);
    if (!status)
        status = training ? code_training(&c) : code_inference(&c, false);
    if (!status && c.program && !strcmp(stage, "llvm"))
        status = dump_llvm(&c);
    return status;
}
