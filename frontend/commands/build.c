/* build: executables, libraries, objects, trainers and readable forms.
 * In: a model, weights. Out: the files asked for by --emit, each written beside its place and renamed.
 * Invariant: with one kind -o is the file, with several it is the stem; NAME.h, NAME.pc and NAME.py stand beside libraries.
 * The idea: one Program; an object with the library's functions or without; codegen/artifacts.h does the rest. Executables may
 * carry one for each of several CPUs. A GPU's code is one more Program, of which they carry the tables and images. */
#include "codegen/artifacts.h"
#include "codegen/gpu/nvrtc.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"
#include <stdlib.h>
#include <string.h>

typedef enum { EMIT_EXE, EMIT_LIB, EMIT_SHARED, EMIT_OBJ, EMIT_HEADER, EMIT_IR, EMIT_ASM, EMIT_CUDA, EMIT_PTX, EMIT_CUBIN, EMIT_KINDS } Emit;
static const struct {
    const char *name, *ending;
    bool gpu; /* what a GPU runs, in itself */
} emits[EMIT_KINDS] = {
    [EMIT_EXE] = {"exe", "", false},      [EMIT_LIB] = {"lib", ".a", false},       [EMIT_SHARED] = {"shared", ".so", false},
    [EMIT_OBJ] = {"obj", ".o", false},    [EMIT_HEADER] = {"header", ".h", false}, [EMIT_IR] = {"llvm-ir", ".ll", false},
    [EMIT_ASM] = {"asm", ".s", false},    [EMIT_CUDA] = {"cuda", ".cu", true},     [EMIT_PTX] = {"ptx", ".ptx", true},
    [EMIT_CUBIN] = {"cubin", ".cubin", true},
};

typedef struct {
    Compile *cc;
    CodeGen cpus[MAX_CPUS]; /* what needs most of a CPU first; libraries and objects: one */
    int n_cpus;
    CodeGen gpu; /* the same for GPUs */
    bool want[EMIT_KINDS];
    int n;
    bool any_cpu, any_gpu; /* kinds of which code for a CPU, for GPUs, is a part */
    unsigned inputs;
    const char *stem; /* of the files */
    Bytes object[2];  /* [1]: with the library's functions */
    Bytes tables;     /* the GPU's */
} Build;

/* --emit exe,lib */
static int parse_emit(Build *b)
{
    const char *text = b->cc->o->emit ? b->cc->o->emit : "exe";
    const char *names[EMIT_KINDS + 1] = {0};
    for (int k = 0; k < EMIT_KINDS; k++)
        names[k] = emits[k].name;
    while (*text) {
        size_t n = strcspn(text, ",");
        const char *word = arena_strndup(b->cc->arena, text, n);
        int k = 0;
        while (k < EMIT_KINDS && strcmp(emits[k].name, word) != 0)
            k++;
        if (k == EMIT_KINDS) {
            bool later = !strcmp(word, "wasm");
            driver_error(EXIT_USAGE, later ? "--emit %s is not implemented yet" : "--emit cannot make '%s'", word);
            const char *near = nearest_word(word, names);
            if (near && !later)
                fprintf(stderr, "help: did you mean %s?\n", near);
            return EXIT_USAGE;
        }
        b->n += !b->want[k];
        b->want[k] = true;
        text += n + (text[n] == ',');
    }
    if (b->n == 0)
        return driver_error(EXIT_USAGE, "--emit needs at least one kind");
    for (int k = 0; k < EMIT_KINDS; k++)
        if (b->cc->o->trainer && b->want[k] && k != EMIT_EXE && !emits[k].gpu)
            return driver_error(EXIT_USAGE, "--trainer builds an executable, or with --emit cuda,ptx,cubin what it does on a GPU");
    return EXIT_FINE;
}

/* --device auto: GPU code when there is a compiler for it. */
static bool can_make_gpu_code(const Build *b)
{
    const char *why = NULL;
    Nvrtc *nvrtc = nvrtc_open(b->cc->arena, &why);
    if (!b->cc->o->quiet)
        fprintf(stderr, nvrtc ? "cnnc: note: with code for GPUs (NVRTC %s)\n" : "cnnc: note: without code for GPUs: %s\n",
                nvrtc ? nvrtc_version(nvrtc) : why);
    nvrtc_close(nvrtc);
    return nvrtc != NULL;
}

/* What --device, --gpu and --emit together ask for. */
static int choose_devices(Build *b)
{
    const Options *o = b->cc->o;
    const char *why = NULL, *device = o->device ? o->device : o->gpu ? "cuda" : "cpu";
    for (int k = 0; k < EMIT_KINDS; k++) {
        b->any_cpu |= b->want[k] && !emits[k].gpu;
        b->any_gpu |= b->want[k] && emits[k].gpu;
    }
    if (!strcmp(device, "cuda") && !b->want[EMIT_EXE] && !b->any_gpu)
        return driver_error(EXIT_USAGE, "libraries and objects are for the CPU; --device cuda makes programs, and --emit cuda,ptx,cubin");
    b->any_gpu |= b->want[EMIT_EXE] && (!strcmp(device, "cuda") || (!strcmp(device, "auto") && can_make_gpu_code(b)));
    return gpu_targets_parse(b->cc->arena, o->gpu, &b->gpu.gpus, &why) ? EXIT_FINE : driver_error(EXIT_USAGE, "%s", why);
}

static const char *out_path(const Build *b, Emit kind)
{
    const Options *o = b->cc->o;
    if (b->n == 1 && o->out)
        return o->out;
    return arena_printf(b->cc->arena, "%s%s", b->stem, emits[kind].ending);
}

static int artifact_status(const ArtifactError *e) { return driver_error(e->exit_code, "%s", e->text); }

static int object_of(Build *b, bool library, Bytes *out)
{
    if (!b->object[library].data) {
        int status = code_object(&b->cpus[0], CPU_OBJECT, library, &b->object[library]);
        if (status)
            return status;
    }
    *out = b->object[library];
    return EXIT_FINE;
}

/* A file next to `path`, called NAME + ending. */
static const char *beside(const Build *b, const char *path, const char *ending)
{
    const char *slash = strrchr(path, '/');
    return arena_printf(b->cc->arena, "%.*s%s%s", slash ? (int)(slash - path + 1) : 0, path, b->cpus[0].options.name, ending);
}

/* Which pictures and arrays a program reads: what --inputs says, or all that the runtime can. */
static unsigned chosen_inputs(const Build *b)
{
    const char *tools = b->cpus[0].target.tools;
    if (b->cc->o->inputs)
        return b->inputs;
    unsigned inputs = artifact_inputs(b->cc->arena, tools, INPUT_ALL);
    if (!(inputs & INPUT_PNG) || !(inputs & INPUT_JPEG))
        if (!b->cc->o->quiet)
            fprintf(stderr, "cnnc: note: without readers of%s%s%s pictures: the runtime for %s lacks them\n", inputs & INPUT_PNG ? "" : " PNG",
                    (inputs & INPUT_PNG) || (inputs & INPUT_JPEG) ? "" : " and", inputs & INPUT_JPEG ? "" : " JPEG", tools);
    return inputs;
}

/* Files that hold the weights. */
static int linked_kinds(const Build *b) { return b->want[EMIT_EXE] + b->want[EMIT_LIB] + b->want[EMIT_SHARED] + b->want[EMIT_OBJ]; }

static int link_artifact(Build *b, Emit kind)
{
    static const ArtifactKind kinds[] = {
        [EMIT_EXE] = ARTIFACT_EXE, [EMIT_LIB] = ARTIFACT_LIB, [EMIT_SHARED] = ARTIFACT_SHARED, [EMIT_OBJ] = ARTIFACT_OBJ};
    Arena *a = b->cc->arena;
    const Program *p = b->cpus[0].program;
    const char *out = out_path(b, kind);
    ArtifactError e = {0};
    Bytes object;
    int status = object_of(b, kind != EMIT_EXE, &object);
    if (status)
        return status;
    if (p->later) {
        code_take_weights(&b->cpus[0]);
        compile_weights(b->cpus[0].program, b->cpus[0].weights, b->cpus[0].n_weights, linked_kinds(b) == 1);
    }
    ArtifactJob job = {.program = p, .object = object.data, .object_size = object.size, .out = out, .inputs = kind == EMIT_EXE ? chosen_inputs(b) : 0,
                       .tools = b->cpus[0].target.tools, .machine = b->cpus[0].target.machine};
    if (kind == EMIT_EXE && b->any_gpu) {
        job.gpu_program = b->gpu.program;
        job.gpu_object = b->tables.data;
        job.gpu_object_size = b->tables.size;
    }
    for (int i = 1; i < b->n_cpus; i++) {
        ArtifactCode *other = &job.others[job.n_others++];
        status = code_object(&b->cpus[i], CPU_OBJECT, false, &object);
        if (status)
            return status;
        *other = (ArtifactCode){b->cpus[i].program, object.data, object.size};
    }
    bool fine = artifact_link(a, b->cc->o->trainer ? ARTIFACT_TRAINER : kinds[kind], &job, &e);
    for (int i = 0; i < job.n_others; i++)
        free((void *)job.others[i].object);
    if (fine && (kind == EMIT_LIB || kind == EMIT_SHARED))
        fine = artifact_write_header(a, p, beside(b, out, ".h"), &e) &&
               artifact_write_pkgconfig(a, p, out, beside(b, out, ".pc"), &e) &&
               (kind == EMIT_LIB || artifact_write_python(a, p, out, beside(b, out, ".py"), &e));
    return fine ? EXIT_FINE : artifact_status(&e);
}

static int write_text(Build *b, Emit kind)
{
    Bytes text;
    ArtifactError e = {0};
    int status = code_object(&b->cpus[0], kind == EMIT_IR ? CPU_LLVM_IR : CPU_ASM,
                             b->want[EMIT_LIB] || b->want[EMIT_SHARED] || b->want[EMIT_OBJ], &text);
    if (status)
        return status;
    bool fine = artifact_write_file(b->cc->arena, out_path(b, kind), text.data, text.size, &e);
    free(text.data);
    return fine ? EXIT_FINE : artifact_status(&e);
}

/* One file a GPU: OUT, or OUT.sm_90.cubin where there are several. */
static int write_images(Build *b, Emit kind)
{
    const CnncGpu *g = b->gpu.program->model.gpu;
    Arena *a = b->cc->arena;
    ArtifactError e = {0};
    for (int32_t i = 0; i < g->n_images; i++) {
        const CnncGpuImage *x = &g->images[i];
        const char *out = out_path(b, kind);
        if (x->ptx != (kind == EMIT_PTX))
            continue;
        if (!x->ptx && b->gpu.gpus.n > 1) {
            size_t n = strlen(out), end = n > 6 && !strcmp(out + n - 6, ".cubin") ? 6 : 0;
            out = arena_printf(a, "%.*s.sm_%d.cubin", (int)(n - end), out, x->sm);
        }
        if (!artifact_write_file(a, out, x->bytes, x->ptx ? strlen(x->bytes) : (size_t)x->size, &e))
            return artifact_status(&e);
    }
    return EXIT_FINE;
}

static int emit(Build *b, Emit kind)
{
    ArtifactError e = {0};
    if (kind == EMIT_PTX || kind == EMIT_CUBIN)
        return write_images(b, kind);
    if (kind == EMIT_CUDA) {
        const char *text = b->gpu.program->model.gpu->text;
        return artifact_write_file(b->cc->arena, out_path(b, kind), text, strlen(text), &e) ? EXIT_FINE : artifact_status(&e);
    }
    if (kind == EMIT_HEADER)
        return artifact_write_header(b->cc->arena, b->cpus[0].program, out_path(b, kind), &e) ? EXIT_FINE : artifact_status(&e);
    return kind == EMIT_IR || kind == EMIT_ASM ? write_text(b, kind) : link_artifact(b, kind);
}

static const char *program_name(const Build *b)
{
    const Options *o = b->cc->o;
    return o->name ? o->name : artifact_name(b->cc->arena, b->n == 1 && o->out ? o->out : b->stem);
}

/* Programs of one model have one self-test. */
static void share_selftest(Program *to, const Program *from)
{
    CnncModel *m = &to->model;
    m->test_in = from->model.test_in;
    m->test_out = from->model.test_out;
    m->n_test = from->model.n_test;
    m->test_tolerance = from->model.test_tolerance / compile_tolerance(&from->model) * compile_tolerance(m);   /* of its own precision */
}

/* Opens one CPU more of --cpu A,B and puts it before those that need less of a CPU: what a program needs of it tells which to try first. */
static int add_cpu(Build *b, const char *name)
{
    CodeGen c;
    int status = code_open_one_cpu(&c, b->cc, name), at = b->n_cpus;
    if (status)
        return status;
    for (int i = 0; i < b->n_cpus; i++)
        if (!strcmp(b->cpus[i].target.features, c.target.features))
            return driver_error(EXIT_USAGE, "--cpu: code for %s and for %s needs the same instructions: one of them is enough",
                                b->cpus[i].target.name, c.target.name);
    for (; at > 0 && strlen(b->cpus[at - 1].target.features) < strlen(c.target.features); at--)
        b->cpus[at] = b->cpus[at - 1];
    b->cpus[at] = c;
    b->n_cpus++;
    return EXIT_FINE;
}

/* --cpu A,B: every list of features holds those of the levels below. */
static int open_cpus(Build *b)
{
    const Options *o = b->cc->o;
    if (!o->cpu || !strchr(o->cpu, ','))
        return add_cpu(b, o->cpu);
    for (int k = 0; k < EMIT_KINDS; k++)
        if (b->want[k] && k != EMIT_EXE && !emits[k].gpu)
            return driver_error(EXIT_USAGE, "--cpu %s: code for several CPUs goes into programs alone, not into --emit %s", o->cpu, emits[k].name);
    if (o->tune > 0 || o->max_rel_err > 0)
        return driver_error(EXIT_USAGE, "--cpu %s: %s runs the code, so it takes one CPU", o->cpu, o->tune > 0 ? "--tune" : "--max-rel-err");
    int status = EXIT_FINE;
    for (const char *p = o->cpu; !status && *p;) {
        size_t n = strcspn(p, ",");
        if (b->n_cpus == MAX_CPUS)
            return driver_error(EXIT_USAGE, "--cpu takes at most %d CPUs", MAX_CPUS);
        status = add_cpu(b, arena_strndup(b->cc->arena, p, n));
        p += n + (p[n] == ',');
    }
    return status;
}

/* The same model for another CPU: weights and self-test are the first one's. */
static int make_other_program(Build *b, int i)
{
    CodeGen *c = &b->cpus[i];
    const CodeGen *first = &b->cpus[0];
    c->options.name = program_name(b);
    c->weights = first->weights;
    c->n_weights = first->n_weights;
    c->options.weights_checksum = first->options.weights_checksum;
    int status = b->cc->o->trainer ? code_training(c) : code_inference(c, false);
    if (status)
        return status;
    c->program->symbol = arena_printf(b->cc->arena, "%s_cpu%d", c->program->symbol, i);
    share_selftest(c->program, first->program);
    return EXIT_FINE;
}

static int make_cpu_program(Build *b)
{
    CodeGen *c = &b->cpus[0];
    int status = open_cpus(b);
    if (status)
        return status;
    c->options.name = program_name(b);
    const Options *o = b->cc->o;
    c->options.interface_only = b->want[EMIT_HEADER] && b->n == 1;
    if (o->trainer) {
        status = code_training(c);
    } else {
        /* Weights take memory only when LLVM has given back its own, unless they are needed before: several programs are compared, or
         * another CPU or a GPU wants them too. */
        c->options.weights_later = b->n_cpus == 1 && !b->any_gpu && o->tune <= 0 && o->max_rel_err <= 0 && !o->verbose;
        status = c->options.weights_later ? code_open_weights(c) : code_weights(c);
        status = status ? status : code_inference(c, b->want[EMIT_EXE]);
    }
    for (int i = 1; i < b->n_cpus && !status; i++)
        status = make_other_program(b, i);
    return status;
}

/* A GPU that NVRTC does not know yet gets PTX, which is no cubin. */
static int check_cubins(const Build *b)
{
    const CnncGpu *g = b->gpu.program->model.gpu;
    for (int i = 0; b->want[EMIT_CUBIN] && i < b->gpu.gpus.n; i++) {
        bool found = false;
        for (int32_t j = 0; j < g->n_images; j++)
            found = found || (!g->images[j].ptx && g->images[j].sm == b->gpu.gpus.sm[i]);
        if (!found)
            return driver_error(EXIT_DEVICE, "this NVRTC makes no machine code for sm_%d: a newer CUDA toolkit does, or --emit ptx",
                                b->gpu.gpus.sm[i]);
    }
    return EXIT_FINE;
}

/* The compiled text, or the text alone when no more is asked for. */
static int make_gpu_code(Build *b)
{
    CodeGen *g = &b->gpu;
    bool exe = b->want[EMIT_EXE];
    if (!exe && !b->want[EMIT_PTX] && !b->want[EMIT_CUBIN]) {
        gpu_emit(b->cc->arena, g->program);
        gpu_add_feed(b->cc->arena, g->program);
        return EXIT_FINE;
    }
    g->gpus.ptx = exe ? g->gpus.ptx : b->want[EMIT_PTX] ? g->gpus.sm[0] : 0;
    g->gpus.n = exe || b->want[EMIT_CUBIN] ? g->gpus.n : 0;
    g->gpus.parts = b->want[EMIT_PTX] || b->want[EMIT_CUBIN] ? GPU_WHOLE : GPU_PARTS_BY_KERNELS;
    int status = code_images(g);
    return status ? status : check_cubins(b);
}

/* With the weights and the self-test of the CPU's program, when there is one. */
static int make_gpu_program(Build *b)
{
    CodeGen *g = &b->gpu;
    const CodeGen *c = &b->cpus[0];
    GpuTargets gpus = g->gpus;
    int status = code_open_gpu(g, b->cc, &gpus);
    if (status)
        return status;
    g->options.name = program_name(b);
    if (b->cc->o->trainer) {
        status = code_training(g);
    } else if (c->program) {
        g->weights = c->weights;
        g->n_weights = c->n_weights;
        g->options.weights_checksum = c->options.weights_checksum;
        status = code_inference(g, false);
    } else {
        /* Texts and cubins hold no weights: they are never read, unless results are compared. */
        g->options.weights_later = b->cc->o->max_rel_err <= 0 && !b->cc->o->verbose;
        status = g->options.weights_later ? code_open_weights(g) : code_weights(g);
        if (!status)
            status = code_inference(g, false);
    }
    if (status)
        return status;
    g->program->symbol = arena_printf(b->cc->arena, "%s_gpu", g->program->symbol);
    if (c->program && !b->cc->o->trainer)
        share_selftest(g->program, c->program);
    return make_gpu_code(b);
}

/* The GPU's program as data: the CPU's back end writes objects. */
static int make_tables(Build *b)
{
    const char *why = NULL;
    const CodeGen *c = &b->cpus[0];
    if (!c->backend->compile(b->cc->arena, b->gpu.program, &c->target, CPU_OBJECT, false, &b->tables, &why))
        return driver_error(EXIT_BUG, "%s", why);
    return EXIT_FINE;
}

/* --threads of a library: a pool. */
static int choose_pool(const Build *b, int32_t *threads)
{
    enum { MOST = 1024 };
    const Options *o = b->cc->o;
    bool library = b->want[EMIT_LIB] || b->want[EMIT_SHARED] || b->want[EMIT_OBJ];
    *threads = o->threads > 1 ? (int32_t)o->threads : 0;
    if (library && o->threads > MOST)
        return driver_error(EXIT_USAGE, "a library has at most %d threads", MOST);
    return EXIT_FINE;
}

static int make_programs(Build *b)
{
    const Options *o = b->cc->o;
    int32_t threads;
    if (o->recompute && !o->trainer)
        return driver_error(EXIT_USAGE, "--recompute concerns training: build --trainer --recompute");
    if (o->trainer && b->cc->module.train.train.data == CNNC_DATA_NONE)
        return driver_error(EXIT_FILE, "%s has no train { } block that names its data", b->cc->path);
    int status = choose_pool(b, &threads);
    if (!status && b->any_cpu)
        status = make_cpu_program(b);
    if (!status && b->any_cpu)
        b->cpus[0].program->library_threads = threads;
    if (!status && b->any_gpu)
        status = make_gpu_program(b);
    if (!status && b->any_cpu && b->any_gpu)
        status = make_tables(b);
    if (!status && !o->trainer)
        code_tell_initial(b->any_cpu ? &b->cpus[0] : &b->gpu);
    return status;
}

static int build(Compile *cc)
{
    Build b = {.cc = cc, .inputs = INPUT_ALL, .stem = cc->o->out ? cc->o->out : cc->stem};
    const char *why = NULL;
    int status = parse_emit(&b);
    if (!status && cc->o->inputs && !artifact_parse_inputs(cc->arena, cc->o->inputs, &b.inputs, &why))
        status = driver_error(EXIT_USAGE, "%s", why);
    if (!status)
        status = choose_devices(&b);
    if (!status)
        status = make_programs(&b);
    for (int k = 0; k < EMIT_KINDS && !status; k++)
        if (b.want[k])
            status = emit(&b, (Emit)k);
    for (int i = 0; i < 2; i++)
        free(b.object[i].data);
    free(b.tables.data);
    code_free(&b.cpus[0]);
    return status;
}

int command_build(Options *o)
{
    Compile cc;
    bool done;
    int status = driver_load(&cc, o, o->args.at[0], &done);
    if (!status && !done)
        status = build(&cc);
    driver_free(&cc);
    return status;
}
