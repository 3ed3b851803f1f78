/* artifacts.c: object + constants + runtime -> executable, library or one linked object.
 * In: ArtifactJob. Out: the file, or an ArtifactError.
 * Relies on: a C compiler driver for linking (`cc`; for another machine its cross compiler), `ar` for archives, the runtime's
 * archives (artifacts_runtime.c). Leaves: the file complete under its name, or nothing.
 * Idea: the constants are an object of their own that defines SYMBOL_consts, aligned to 64 (artifacts_elf.c):
 *
 *   exe, trainer    cc  code.o weights.o main.a program.a [png jpeg] z m, cnnc_model = SYMBOL_model, unused sections dropped;
 *                   with GPU code also its tables and weights, and cnnc_gpu_model; for several CPUs each one's code and
 *                   weights, and cnnc_models
 *   shared          cc -shared -nostdlib  code.o weights.o python.c   (needs nothing, not even libc; with a pool libc)
 *   obj             cc -r -nostdlib       code.o weights.o
 *   lib             ar                    code.o weights.o
 *
 * Where a library has a pool of threads, code.o is first joined with what of the runtime it needs, and the names in between
 * become local: cc -r -nostdlib code.o library_main.a program.a; objcopy --localize-hidden. */
#include "codegen/artifacts_impl.h"
#include "ir/base/vec.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Arena *a;
    const ArtifactJob *job;
    ArtifactError *e;
    TempDir temp;
    /* Objects: code, the GPU's tables, and each one's constants; NULL for what there is not. */
    const char *code, *weights, *gpu_code, *gpu_weights, *other_code[MAX_CPUS], *other_weights[MAX_CPUS];
    const char *models;   /* C text: the list of the models for several CPUs */
    Vec(char *) argv;
} Linker;

static void arg(Linker *l, const char *s) { vec_push(l->a, &l->argv, (char *)s); }

static void arg_start(Linker *l, const char *program)
{
    l->argv.len = 0;
    arg(l, program);
}

static const char *compiler(const Linker *l)
{
    const char *env = getenv("CC"), *tools = l->job->tools;
    return l->job->cc ? l->job->cc : env && *env && !strchr(env, ' ') ? env : tools ? arena_printf(l->a, "%s-gcc", tools) : "cc";
}

/* "ar", or that of another machine. */
static const char *tool(const Linker *l, const char *name) { return l->job->tools ? arena_printf(l->a, "%s-%s", l->job->tools, name) : name; }

/* Debian's package of a cross compiler: gcc-x86-64-linux-gnu. */
static const char *compiler_package(const Linker *l)
{
    char *package = arena_printf(l->a, l->job->tools ? "gcc-%s" : "gcc", l->job->tools);
    for (char *c = package; *c; c++)
        *c = *c == '_' ? '-' : *c;
    return package;
}

/* What may be wrong when the linker fails, by what it said. */
static const char *link_help(const Linker *l, const char *output)
{
    if (strstr(output, "cannot find -l"))
        return "\ninstall the static libraries (Debian: apt install libpng-dev libjpeg-dev zlib1g-dev) or leave readers out with --inputs";
    return l->job->tools ? arena_printf(l->a, "\nthe compiler (%s-gcc, or what CC names) must be one for %s", l->job->tools, l->job->tools) : "";
}

static bool run(Linker *l)
{
    const char *output;
    arg(l, NULL);
    const char *program = l->argv.at[0];
    int status = run_program(l->a, l->argv.at, &output);
    if (status == 0)
        return true;
    if (status < 0)
        return artifact_fail(l->a, l->e, 3, "cannot run '%s', which makes '%s': %s; install a C compiler (Debian: apt install %s)", program,
                             l->job->out, strerror(errno), compiler_package(l));
    return artifact_fail(l->a, l->e, 70, "'%s' could not make '%s' (exit status %d):\n%s%s", program, l->job->out, status, output,
                         link_help(l, output));
}

/* ---- one recipe each ---- */
static bool link_parts(Linker *l, const char *const *options, const char *result)
{
    arg_start(l, compiler(l));
    for (int i = 0; options[i]; i++)
        arg(l, options[i]);
    arg(l, "-o");
    arg(l, result);
    arg(l, l->code);
    if (l->weights)
        arg(l, l->weights);
    return run(l);
}

/* The pool of threads becomes a part of l->code. */
static bool join_pool(Linker *l)
{
    Runtime r;
    const char *joined = temp_file(l->a, &l->temp, arena_printf(l->a, "%s_threads.o", l->job->program->symbol));
    if (!runtime_find(l->a, l->job, &r, l->e))
        return false;
    const char *const words[] = {compiler(l), "-r", "-nostdlib", "-o", joined, l->code, arena_printf(l->a, "%s/libcnnc_library_main.a", r.dir),
                                 arena_printf(l->a, "%s/libcnnc_program.a", r.dir)};
    l->argv.len = 0;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        arg(l, words[i]);
    if (!run(l))
        return false;
    arg_start(l, tool(l, "objcopy"));
    arg(l, "--localize-hidden");
    arg(l, joined);
    l->code = joined;
    return run(l);
}

static bool link_object(Linker *l, const char *result)
{
    return link_parts(l, (const char *[]){"-r", "-nostdlib", NULL}, result);
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool link_shared(Linker *l, const char *result)
{
    const char *source = python_entry_source(l->a, l->job->program), *entry;
    if (!temp_put(l->a, &l->temp, "python.c", source, strlen(source), &entry, l->e))
        return false;
    const char *name = arena_printf(l->a, "-Wl,-soname=%s", last_part(l->job->out));
    bool plain = !strchr(name + 4, ',');   /* a comma would split the option */
    bool pool = l->job->program->library_threads > 0;
    return link_parts(l, (const char *[]){"-shared", pool ? "-pthread" : "-nostdlib", "-fPIC", "-O1", "-w", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
                                          "-Wl,-Bsymbolic", "-Wl,-s", "-Wl,-z,noexecstack", "-Wl,--build-id=none", entry, plain ? name : "-shared", NULL}, result);
}

static bool make_archive(Linker *l, const char *result)
{
    arg_start(l, tool(l, "ar"));
    arg(l, "rcs");
    arg(l, result);
    arg(l, l->code);
    if (l->weights)
        arg(l, l->weights);
    return run(l);
}

/* cnnc_models (runtime/abi.h). */
static bool put_models(Linker *l)
{
    const ArtifactJob *job = l->job;
    const char *externs = arena_printf(l->a, "extern const char %s_model[]", job->program->symbol),
               *list = arena_printf(l->a, "%s_model", job->program->symbol);
    for (int i = 0; i < job->n_others; i++) {
        externs = arena_printf(l->a, "%s, %s_model[]", externs, job->others[i].program->symbol);
        list = arena_printf(l->a, "%s, %s_model", list, job->others[i].program->symbol);
    }
    const char *source =
        arena_printf(l->a, "%s;\nextern const void *const cnnc_models[];\nconst void *const cnnc_models[] = {%s, 0};\n", externs, list);
    return temp_put(l->a, &l->temp, "models.c", source, strlen(source), &l->models, l->e);
}

static void link_others(Linker *l)
{
    for (int i = 0; i < l->job->n_others; i++) {
        arg(l, l->other_code[i]);
        if (l->other_weights[i])
            arg(l, l->other_weights[i]);
    }
    if (l->models) {
        arg(l, "-fPIE");
        arg(l, l->models);
    }
}

static bool link_program(Linker *l, bool trainer, const char *result)
{
    Runtime r;
    if (!runtime_find(l->a, l->job, &r, l->e))
        return false;
    arg_start(l, compiler(l));
    arg(l, "-o");
    arg(l, result);
    arg(l, l->code);
    if (l->weights)
        arg(l, l->weights);
    arg(l, arena_printf(l->a, "-Wl,--defsym=cnnc_model=%s_model", l->job->program->symbol));
    link_others(l);
    if (l->gpu_code) {
        arg(l, l->gpu_code);
        if (l->gpu_weights)
            arg(l, l->gpu_weights);
        arg(l, arena_printf(l->a, "-Wl,--defsym=cnnc_gpu_model=%s_model", l->job->gpu_program->symbol));
        arg(l, "-Wl,-u,exec_cuda");
    }
    if (l->job->inputs & INPUT_PNG)
        arg(l, "-Wl,-u,image_decode_png");
    if (l->job->inputs & INPUT_JPEG)
        arg(l, "-Wl,-u,image_decode_jpeg");
    arg(l, arena_printf(l->a, "%s/libcnnc_%s_main.a", r.dir, trainer ? "train" : "infer"));
    arg(l, arena_printf(l->a, "%s/libcnnc_program.a", r.dir));
    if (l->job->inputs & INPUT_PNG)
        arg(l, "-l:libpng.a");
    if (l->job->inputs & INPUT_JPEG)
        arg(l, "-l:libjpeg.a");
    if (r.zlib)
        arg(l, "-l:libz.a");
    static const char *const rest[] = {"-lm", "-pthread", "-pie", "-Wl,--gc-sections", "-Wl,-s", "-Wl,--as-needed", "-ldl", "-Wl,-z,noexecstack"};
    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        arg(l, rest[i]);
    return run(l);
}

/* A program's object and its constants. */
static bool put_program(Linker *l, const Program *p, const void *object, size_t size, const char **code, const char **weights)
{
    return temp_put(l->a, &l->temp, arena_printf(l->a, "%s.o", p->symbol), object, size, code, l->e) &&
           (p->model.consts_bytes <= 0 || temp_put_weights(l->a, &l->temp, p, l->job->machine, weights, l->e));
}

static bool put_others(Linker *l)
{
    bool ok = l->job->n_others == 0 || put_models(l);
    for (int i = 0; i < l->job->n_others && ok; i++) {
        const ArtifactCode *c = &l->job->others[i];
        ok = put_program(l, c->program, c->object, c->object_size, &l->other_code[i], &l->other_weights[i]);
    }
    return ok;
}

bool artifact_link(Arena *a, ArtifactKind kind, const ArtifactJob *job, ArtifactError *e)
{
    Linker l = {.a = a, .job = job, .e = e};
    bool ok = temp_open(a, job->out, &l.temp, e) &&
              put_program(&l, job->program, job->object, job->object_size, &l.code, &l.weights) && put_others(&l) &&
              (!job->gpu_program ||
               put_program(&l, job->gpu_program, job->gpu_object, job->gpu_object_size, &l.gpu_code, &l.gpu_weights));
    bool program = kind == ARTIFACT_EXE || kind == ARTIFACT_TRAINER;
    if (ok && !program && job->program->library_threads > 0)
        ok = join_pool(&l);
    if (ok) {
        const char *result = temp_file(a, &l.temp, "result");
        switch (kind) {
        case ARTIFACT_EXE: ok = link_program(&l, false, result); break;
        case ARTIFACT_TRAINER: ok = link_program(&l, true, result); break;
        case ARTIFACT_SHARED: ok = link_shared(&l, result); break;
        case ARTIFACT_LIB: ok = make_archive(&l, result); break;
        case ARTIFACT_OBJ: ok = link_object(&l, result); break;
        }
        ok = ok && temp_move(a, result, job->out, e);
    }
    temp_close(&l.temp);
    return ok;
}

/* ---- names ---- */
const char *artifact_name(Arena *a, const char *path)
{
    static const char *const ends[] = {".so", ".a", ".o", ".h", ".pc", ".py", ".ll", ".s", ".exe", NULL};
    char *name = arena_strdup(a, last_part(path));
    for (int i = 0; ends[i]; i++) {
        size_t n = strlen(name), m = strlen(ends[i]);
        if (n > m && strcmp(name + n - m, ends[i]) == 0) {
            name[n - m] = '\0';
            break;
        }
    }
    if (strncmp(name, "lib", 3) == 0 && name[3])
        name += 3;
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c))
            *c = '_';
    if (!*name)
        return "model";
    return isdigit((unsigned char)*name) ? arena_printf(a, "_%s", name) : name;
}

bool artifact_parse_inputs(Arena *a, const char *text, unsigned *inputs, const char **why)
{
    static const struct { const char *name; unsigned bit; } known[] = {
        {"png", INPUT_PNG}, {"jpeg", INPUT_JPEG}, {"jpg", INPUT_JPEG}, {"pgm", INPUT_PGM}, {"ppm", INPUT_PGM},
        {"idx", INPUT_IDX}, {"npy", INPUT_NPY}, {"all", INPUT_ALL}, {"none", 0}};
    *inputs = 0;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ", "), i = 0;
        while (n && i < ARRAY_LEN(known) && !(strlen(known[i].name) == n && strncmp(known[i].name, p, n) == 0))
            i++;
        if (i == ARRAY_LEN(known)) {
            *why = arena_printf(a, "unknown input kind \"%.*s\"; there are png, jpeg, pgm, idx, npy and all", (int)n, p);
            return false;
        }
        if (n)
            *inputs |= known[i].bit;
        p += n;
        p += strspn(p, ", ");
    }
    return true;
}
