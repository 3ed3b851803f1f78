/* build: executables, libraries, objects, trainers and readable forms.
 * In: a model, weights. Out: the files asked for by --emit, each written beside its place and renamed.
 * Invariant: with one kind -o is the file, with several it is the stem; NAME.h, NAME.pc and NAME.py stand beside libraries.
 * The idea: one Program; an object with the library's functions or without; codegen/artifacts.h does the rest. */
#include "codegen/artifacts.h"
#include "frontend/commands/code.h"
#include "frontend/commands/commands.h"
#include <stdlib.h>
#include <string.h>

typedef enum { EMIT_EXE, EMIT_LIB, EMIT_SHARED, EMIT_OBJ, EMIT_HEADER, EMIT_IR, EMIT_ASM, EMIT_KINDS } Emit;
static const struct {
    const char *name, *ending;
} emits[EMIT_KINDS] = {
    [EMIT_EXE] = {"exe", ""},   [EMIT_LIB] = {"lib", ".a"},       [EMIT_SHARED] = {"shared", ".so"},
    [EMIT_OBJ] = {"obj", ".o"}, [EMIT_HEADER] = {"header", ".h"}, [EMIT_IR] = {"llvm-ir", ".ll"},
    [EMIT_ASM] = {"asm", ".s"},
};

typedef struct {
    Compile *cc;
    CodeGen code;
    bool want[EMIT_KINDS];
    int n;
    unsigned inputs;
    const char *stem; /* of the files */
    Bytes object[2];  /* [1]: with the library's functions */
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
            bool later = !strcmp(word, "cuda") || !strcmp(word, "ptx") || !strcmp(word, "cubin") || !strcmp(word, "wasm");
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
    if (b->cc->o->trainer && (b->n > 1 || !b->want[EMIT_EXE]))
        return driver_error(EXIT_USAGE, "--trainer builds an executable and nothing else");
    return EXIT_FINE;
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
        int status = code_object(&b->code, CPU_OBJECT, library, &b->object[library]);
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
    return arena_printf(b->cc->arena, "%.*s%s%s", slash ? (int)(slash - path + 1) : 0, path, b->code.options.name, ending);
}

static int link_artifact(Build *b, Emit kind)
{
    static const ArtifactKind kinds[] = {
        [EMIT_EXE] = ARTIFACT_EXE, [EMIT_LIB] = ARTIFACT_LIB, [EMIT_SHARED] = ARTIFACT_SHARED, [EMIT_OBJ] = ARTIFACT_OBJ};
    Arena *a = b->cc->arena;
    const Program *p = b->code.program;
    const char *out = out_path(b, kind);
    ArtifactError e = {0};
    Bytes object;
    int status = object_of(b, kind != EMIT_EXE, &object);
    if (status)
        return status;
    ArtifactJob job = {.program = p, .object = object.data, .object_size = object.size, .out = out, .inputs = b->inputs};
    bool fine = artifact_link(a, b->cc->o->trainer ? ARTIFACT_TRAINER : kinds[kind], &job, &e);
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
    int status = code_object(&b->code, kind == EMIT_IR ? CPU_LLVM_IR : CPU_ASM,
                             b->want[EMIT_LIB] || b->want[EMIT_SHARED] || b->want[EMIT_OBJ], &text);
    if (status)
        return status;
    bool fine = artifact_write_file(b->cc->arena, out_path(b, kind), text.data, text.size, &e);
    free(text.data);
    return fine ? EXIT_FINE : artifact_status(&e);
}

static int emit(Build *b, Emit kind)
{
    ArtifactError e = {0};
    if (kind == EMIT_HEADER)
        return artifact_write_header(b->cc->arena, b->code.program, out_path(b, kind), &e) ? EXIT_FINE : artifact_status(&e);
    return kind == EMIT_IR || kind == EMIT_ASM ? write_text(b, kind) : link_artifact(b, kind);
}

static int make_program(Build *b)
{
    CodeGen *c = &b->code;
    const Options *o = b->cc->o;
    int status = code_open(c, b->cc);
    if (status)
        return status;
    c->options.name = o->name ? o->name : artifact_name(b->cc->arena, b->n == 1 && o->out ? o->out : b->stem);
    if (o->trainer) {
        if (b->cc->module.train.train.data == CNNC_DATA_NONE)
            return driver_error(EXIT_FILE, "%s has no train { } block that names its data", b->cc->path);
        return code_training(c);
    }
    status = code_weights(c);
    if (status)
        return status;
    code_tell_initial(c);
    return code_inference(c, b->want[EMIT_EXE]);
}

static int build(Compile *cc)
{
    Build b = {.cc = cc, .inputs = INPUT_ALL, .stem = cc->o->out ? cc->o->out : cc->stem};
    const char *why = NULL;
    int status = parse_emit(&b);
    if (!status && cc->o->inputs && !artifact_parse_inputs(cc->arena, cc->o->inputs, &b.inputs, &why))
        status = driver_error(EXIT_USAGE, "%s", why);
    if (!status)
        status = make_program(&b);
    for (int k = 0; k < EMIT_KINDS && !status; k++)
        if (b.want[k])
            status = emit(&b, (Emit)k);
    for (int i = 0; i < 2; i++)
        free(b.object[i].data);
    code_free(&b.code);
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
