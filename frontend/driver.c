/* driver.c: the pipeline on one page.
 * In: a path and options. Out: a checked module, or diagnostics and an exit status.
 * Invariant: parsing, elaboration, shapes and warnings always all run, and are reported together, in order of place.
 * The idea:
 *     text --parse--> Ast --elaborate--> Module --shape, lint--> checked Module --> report, explain
 *                                                                                --> compile (commands/code.c) */
#include "frontend/driver.h"
#include "frontend/backend.h"
#include "frontend/commands/code.h"
#include "frontend/pasted.h"
#include "runtime/samples.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int driver_error(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("cnnc: error: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return status;
}

bool driver_color(const Options *o, FILE *to)
{
    if (o->color && strcmp(o->color, "auto") != 0)
        return !strcmp(o->color, "always");
    const char *term = getenv("TERM");
    return isatty(fileno(to)) && !getenv("NO_COLOR") && term && strcmp(term, "dumb") != 0;
}

/* ---- output files: written beside their place, then renamed ---- */

bool driver_open_output(const Options *o, Output *out)
{
    *out = (Output){.to = stdout};
    if (!o->out || !strcmp(o->out, "-"))
        return true;
    size_t n = strlen(o->out) + 24;
    out->final = strdup(o->out);
    out->temporary = malloc(n);
    if (!out->final || !out->temporary)
        BUG("no memory for a file name");
    snprintf(out->temporary, n, "%s.%ld.tmp", o->out, (long)getpid());
    out->to = fopen(out->temporary, "w");
    if (out->to)
        return true;
    driver_error(EXIT_FILE, "%s cannot be written: %s", o->out, strerror(errno));
    free(out->final);
    free(out->temporary);
    return false;
}

int driver_close_output(Output *out)
{
    bool fine = fflush(out->to) == 0 && !ferror(out->to);
    int status = EXIT_FINE;
    if (out->final) {
        fine = fclose(out->to) == 0 && fine;
        fine = fine && rename(out->temporary, out->final) == 0;
        if (!fine)
            unlink(out->temporary);
    }
    if (!fine)
        status =
            driver_error(EXIT_FILE, "%s cannot be written: %s", out->final ? out->final : "standard output", strerror(errno));
    free(out->final);
    free(out->temporary);
    return status;
}

/* ---- the model's name and folder ---- */

static const char *stem_of(Arena *a, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return arena_strndup(a, name, dot && dot != name ? (size_t)(dot - name) : strlen(name));
}

static const char *folder_of(Arena *a, const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? arena_strndup(a, path, slash == path ? 1 : (size_t)(slash - path)) : NULL;
}

/* ---- options that concern the model ---- */

static int prepare(Compile *cc)
{
    Options *o = cc->o;
    ElaborateOptions *e = &cc->elaborate;
    *e = (ElaborateOptions){.name = cc->stem,
                            .batch = o->batch ? o->batch : 1,
                            .folder = folder_of(cc->arena, cc->path),
                            .defines = o->defines.at,
                            .n_defines = (int)o->defines.len};
    if (o->input_shape) {
        if (!options_parse_shape(o->input_shape, &cc->input))
            return driver_error(EXIT_USAGE, "--input-shape needs 1 to 4 sizes, as in 1,28,28, not '%s'", o->input_shape);
        e->input = &cc->input;
    }
    return EXIT_FINE;
}

static int check_defines(Compile *cc)
{
    for (uint32_t i = 0; i < cc->o->defines.len; i++) {
        const Define *d = &cc->o->defines.at[i];
        const char *const *names = elaborate_let_names(cc->arena, cc->ast);
        bool known = false;
        for (int k = 0; names[k]; k++)
            known |= !strcmp(names[k], d->name);
        if (known)
            continue;
        driver_error(EXIT_USAGE, "-D %s: the file has no top-level let %s", d->name, d->name);
        const char *near = nearest_word(d->name, names);
        if (near)
            fprintf(stderr, "help: did you mean -D %s=%s?\n", near, d->text);
        return EXIT_USAGE;
    }
    return EXIT_FINE;
}

static void prepare_diags(Compile *cc)
{
    Options *o = cc->o;
    diags_init(&cc->diags, cc->arena, &cc->src);
    cc->diags.warnings_are_errors = o->warnings_are_errors;
    if (o->warnings_off.len) {
        vec_push(cc->arena, &o->warnings_off, NULL);
        cc->diags.off = o->warnings_off.at;
        o->warnings_off.len--;
    }
}

static void print_diags(Compile *cc)
{
    const char *form = cc->o->error_format ? cc->o->error_format : "human";
    DiagFormat f = form[0] == 'j' ? DIAG_JSON : form[0] == 's' ? DIAG_SHORT : DIAG_HUMAN;
    if (cc->o->quiet && !cc->diags.errors)
        return;
    diags_print(&cc->diags, stderr, f, driver_color(cc->o, stderr));
}

/* ---- the data that comes along ---- */

/* Where Digits() finds its files: installed, beside the build folder, or where the sources were. */
static const char *digits_folder(Arena *a)
{
    const char *dir = backend_program_dir(a);
    const char *places[] = {arena_printf(a, "%s/../share/cnnc/data", dir), arena_printf(a, "%s/../examples/data", dir),
                            CNNC_DATA_DIR};
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (access(arena_printf(a, "%s/train-images-idx3-ubyte.gz", places[i]), R_OK) == 0)
            return places[i];
    return places[0];
}

/* ---- the front half ---- */

bool driver_trains(const Options *o) { return (o->command & (CMD_TRAIN | CMD_EVAL)) || o->trainer || o->train_bench; }

static bool is_stage(const Compile *cc, const char *stage) { return cc->o->dump && !strcmp(cc->o->dump, stage); }

static bool is_known_stage(Compile *cc)
{
    Words names = {0};
    static const char *const stages[] = {"ast", "graph", "kernels", "stages", "plan", "tile", "llvm", "cuda"};
    for (size_t i = 0; i < ARRAY_LEN(stages); i++)
        vec_push(cc->arena, &names, stages[i]);
    for (PassId id = 0; id < PASS_COUNT; id++)
        vec_push(cc->arena, &names, pass_name(id));
    vec_push(cc->arena, &names, NULL);
    for (uint32_t i = 0; i + 1 < names.len; i++)
        if (is_stage(cc, names.at[i]))
            return true;
    driver_error(EXIT_USAGE, "no stage is called '%s'", cc->o->dump);
    const char *near = nearest_word(cc->o->dump, names.at);
    if (near)
        fprintf(stderr, "help: did you mean %s?\n", near);
    return false;
}

static void prepare_passes(Compile *cc)
{
    cc->passes = (PassContext){.arena = cc->arena,
                               .diags = &cc->diags,
                               .module = &cc->module,
                               .recompute = cc->o->recompute ? RECOMPUTE_MOST : RECOMPUTE_NOTHING,
                               .verify = cc->o->verify_each,
                               .time = cc->o->time_passes,
                               .dump = cc->o->dump,
                               .dump_to = stdout};
    for (uint32_t i = 0; i < cc->o->no_pass.len; i++)
        cc->passes.off[pass_find(cc->o->no_pass.at[i])] = true;
}

/* A BatchNorm without running statistics normalises over the samples of a call: all of --input is one call then. */
static void batch_of_input(Compile *cc)
{
    Graph *g = cc->module.graph;
    bool needed = false;
    for (NodeId n = 1; n < g->nodes.len; n++)
        needed = needed || (graph_node(g, n)->op == OP_BATCHNORM && !graph_node(g, n)->attrs.norm.track);
    if (!needed || cc->o->batch || !cc->o->input)
        return;
    RtError ignored = {0};   /* whoever reads the samples tells what is wrong with them */
    Samples samples;
    if (!samples_read(cc->o->input, g->input_shape.rank, g->input_shape.dim, &samples, &ignored))
        return;
    if (samples.n > 0)
        g->batch = samples.n;
    samples_free(&samples);
}

/* Text to checked module. True: a dump ended it. */
static bool front_half(Compile *cc)
{
    ElaborateOptions *e = &cc->elaborate;
    bool fine;
    if (pasted_class(cc->arena, &cc->src, &cc->diags))
        return false;
    cc->ast = parse_file(cc->arena, &cc->src, &cc->diags, &e->broken);
    if (is_stage(cc, "ast") && !cc->diags.errors) {
        ast_print(cc->ast, stdout);
        return true;
    }
    fine = elaborate(cc->arena, cc->ast, e, &cc->diags, &cc->module);
    if (cc->module.train.train.data == CNNC_DATA_DIGITS)
        cc->module.train.train.data_path = digits_folder(cc->arena);
    if (driver_trains(cc->o) && !cc->o->batch)
        cc->module.graph->batch = cc->module.train.train.batch_size;
    if (cc->module.graph)
        batch_of_input(cc);
    if (is_stage(cc, "graph") && fine && !cc->diags.errors) {
        graph_print(cc->module.graph, stdout);
        return true;
    }
    prepare_passes(cc);
    passes_run(&cc->passes, PIPELINE_CHECK);
    return cc->passes.dumped && !cc->diags.errors;
}

int driver_load(Compile *cc, Options *o, const char *path, bool *done)
{
    const char *why = NULL;
    *done = false;
    *cc = (Compile){.arena = arena_new(), .o = o, .path = path};
    cc->stem = stem_of(cc->arena, path);
    if (o->dump && !is_known_stage(cc))
        return EXIT_USAGE;
    int status = prepare(cc);
    if (status)
        return status;
    if (!source_read(cc->arena, path, &cc->src, &why))
        return driver_error(EXIT_FILE, "%s: %s", path, why);
    prepare_diags(cc);
    *done = front_half(cc);
    status = cc->ast ? check_defines(cc) : EXIT_FINE;
    if (status)
        return status;
    print_diags(cc);
    if (cc->diags.errors)
        return EXIT_MODEL;
    if (o->dump && !*done) {
        *done = true;
        return code_dump(cc);
    }
    return EXIT_FINE;
}

void driver_free(Compile *cc)
{
    weights_free(&cc->weights);
    if (cc->arena)
        arena_free(cc->arena);
    cc->arena = NULL;
}
