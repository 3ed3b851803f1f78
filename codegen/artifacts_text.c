/* artifacts_text.c: what stands beside a library: C header, pkg-config file, Python module.
 * In: the Program (names, shapes, sizes) and the library's file name. Out: text files.
 * Relies on: library.c exporting exactly these functions. Leaves: nothing else.
 * Idea: plain text with NAME put in; sizes are macros too, so that callers can use arrays. */
#include "codegen/artifacts_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text with each @ replaced by the library's NAME and each ^ by NAME in capitals. */
static void put_named(FILE *f, const char *text, const char *name)
{
    for (const char *p = text; *p; p++) {
        if (*p == '@')
            fputs(name, f);
        else if (*p == '^')
            for (const char *c = name; *c; c++)
                fputc(toupper((unsigned char)*c), f);
        else
            fputc(*p, f);
    }
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int64_t elements(const int64_t *shape, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    return n;
}

static void put_shape(FILE *f, const int64_t *shape, int rank)
{
    for (int i = 0; i < rank; i++)
        fprintf(f, ", %lld", (long long)shape[i]);
}

static bool finish(Arena *a, FILE *f, char **text, size_t *size, const char *out, ArtifactError *e)
{
    bool ok = fclose(f) == 0 ? artifact_write_file(a, out, *text, *size, e) : artifact_fail(a, e, 70, "out of memory");
    free(*text);
    return ok;
}

static const char functions[] =
    "#ifdef __cplusplus\n"
    "extern \"C\" {\n"
    "#endif\n"
    "\n"
    "size_t @_workspace_size(void);                                       /* bytes; align the workspace to 64 */\n"
    "int    @_infer(const float *in, float *out, void *workspace);        /* ^_BATCH samples; 0 means done */\n"
    "int    @_infer_n(const float *in, float *out, int n, void *workspace);   /* 1..^_BATCH samples */\n"
    "int    @_abi_version(void);\n"
    "const char *@_info(void);\n"
    "int    @_batch(void);\n"
    "int    @_input_rank(void), @_output_rank(void);                      /* shapes have the batch first */\n"
    "const int64_t *@_input_shape(void), *@_output_shape(void);\n"
    "int    @_classes(void);                                              /* 0: no class names */\n"
    "const char *@_class_name(int i);                                     /* NULL out of range */\n"
    "\n"
    "#ifdef __cplusplus\n"
    "}\n"
    "#endif\n"
    "#endif\n";

static const char pool_says[] =
    ": its own and those of a pool, which the library has from the time it is loaded until it is\n"
    " * unloaded or the process exits. They sleep between calls. No call allocates. Calls on several threads at once are fine, with a\n"
    " * workspace each: one has the pool, the others compute on their own threads alone, to the same bits. A forked child may call,\n"
    " * too; its first call starts threads anew. Link with -lpthread.\n"
    " *";

bool artifact_write_header(Arena *a, const Program *p, const char *out, ArtifactError *e)
{
    const CnncModel *m = &p->model;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return artifact_fail(a, e, 70, "out of memory");
    put_named(f, "/* @.h: the compiled network @, made by cnnc " CNNC_VERSION ".\n", p->symbol);
    if (p->library_threads > 0)
        fprintf(f, " * A call computes on %d threads%s", p->library_threads, pool_says);
    else
        fputs(" * No allocation, no globals, re-entrant: one workspace per thread.", f);
    put_named(f, " `in` and `out` are row-major float32.\n"
                 " * infer returns 1 for a missing array, 2 for n out of range, 3 for a missing or misaligned workspace, 4 where code for tile\n"
                 " * registers (AMX) runs on a CPU or system that does not give them. */\n"
                 "#ifndef ^_H\n#define ^_H\n#include <stddef.h>\n#include <stdint.h>\n\n", p->symbol);
    const struct { const char *name; int64_t value; const char *says; } sizes[] = {
        {"ABI_VERSION", CNNC_ABI_VERSION, ""},
        {"BATCH", p->infer->batch, "samples in one call of infer"},
        {"INPUT_RANK", m->in_rank + 1, ""},
        {"INPUT_SIZE", elements(m->in_shape, m->in_rank), "floats per sample"},
        {"OUTPUT_RANK", m->out_rank + 1, ""},
        {"OUTPUT_SIZE", elements(m->out_shape, m->out_rank), "floats per sample"},
        {"CLASSES", m->n_classes, "class names known"},
        {"WORKSPACE_SIZE", artifact_workspace(p), "bytes"},
        {"THREADS", p->library_threads > 0 ? p->library_threads : 1, "of one call"},
    };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        put_named(f, "#define ^_", p->symbol);
        fprintf(f, "%s %lld", sizes[i].name, (long long)sizes[i].value);
        fprintf(f, *sizes[i].says ? "   /* %s */\n" : "\n", sizes[i].says);
    }
    put_named(f, "#define ^_INPUT_SHAPE {^_BATCH", p->symbol);
    put_shape(f, m->in_shape, m->in_rank);
    put_named(f, "}\n#define ^_OUTPUT_SHAPE {^_BATCH", p->symbol);
    put_shape(f, m->out_shape, m->out_rank);
    fputs("}\n\n", f);
    put_named(f, functions, p->symbol);
    return finish(a, f, &text, &size, out, e);
}

bool artifact_write_pkgconfig(Arena *a, const Program *p, const char *library, const char *out, ArtifactError *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return artifact_fail(a, e, 70, "out of memory");
    fprintf(f, "Name: %s\nDescription: the compiled network %s\nVersion: " CNNC_VERSION "\n", p->symbol, p->model.name ? p->model.name : p->symbol);
    fprintf(f, "Cflags: -I${pcfiledir}\nLibs: ${pcfiledir}/%s%s\n", file_name(library), p->library_threads > 0 ? " -lpthread" : "");
    return finish(a, f, &text, &size, out, e);
}

static const char module[] =
    "def _load():\n"
    "    here = os.path.dirname(os.path.abspath(__file__))\n"
    "    for name in _FILES:\n"
    "        path = os.path.join(here, name)\n"
    "        if os.path.exists(path):\n"
    "            return ctypes.CDLL(path)\n"
    "    raise OSError('the shared library of @ (%s) is not beside %s' % (' or '.join(_FILES), __file__))\n"
    "\n"
    "\n"
    "_lib = _load()\n"
    "_P = ctypes.c_void_p\n"
    "_lib.@_infer_n.argtypes = [_P, _P, ctypes.c_int, _P]\n"
    "_lib.@_workspace_size.restype = ctypes.c_size_t\n"
    "_lib.@_info.restype = ctypes.c_char_p\n"
    "_lib.@_class_name.restype = ctypes.c_char_p\n"
    "_lib.@_class_name.argtypes = [ctypes.c_int]\n"
    "for _f in (_lib.@_input_shape, _lib.@_output_shape):\n"
    "    _f.restype = ctypes.POINTER(ctypes.c_int64)\n"
    "\n"
    "batch = _lib.@_batch()\n"
    "info = _lib.@_info().decode()\n"
    "input_shape = tuple(_lib.@_input_shape()[1:_lib.@_input_rank()])     # without the batch\n"
    "output_shape = tuple(_lib.@_output_shape()[1:_lib.@_output_rank()])\n"
    "classes = [_lib.@_class_name(i).decode() for i in range(_lib.@_classes())]\n"
    "\n"
    "\n"
    "def _size(shape):\n"
    "    n = 1\n"
    "    for d in shape:\n"
    "        n *= d\n"
    "    return n\n"
    "\n"
    "\n"
    "_IN, _OUT = _size(input_shape), _size(output_shape)\n"
    "_local = threading.local()\n"
    "\n"
    "\n"
    "def _workspace():\n"
    "    if not hasattr(_local, 'space'):   # one per thread\n"
    "        _local.space = ctypes.create_string_buffer(_lib.@_workspace_size() + 64)\n"
    "    at = ctypes.addressof(_local.space)\n"
    "    return at + -at % 64\n"
    "\n"
    "\n"
    "def _run(in_at, out_at, n):\n"
    "    for first in range(0, n, batch):\n"
    "        count = min(batch, n - first)\n"
    "        code = _lib.@_infer_n(in_at + 4 * _IN * first, out_at + 4 * _OUT * first, count, _workspace())\n"
    "        if code:\n"
    "            raise RuntimeError('@_infer_n returned %d' % code)\n"
    "\n"
    "\n"
    "def infer(x):\n"
    "    \"\"\"x: a NumPy array [n, *input_shape] (or one sample without n), any n; the result is an array [n, *output_shape].\n"
    "    A flat sequence of n * prod(input_shape) numbers works without NumPy and gives a flat list.\"\"\"\n"
    "    if hasattr(x, '__array__') or hasattr(x, '__array_interface__'):\n"
    "        import numpy\n"
    "        x = numpy.ascontiguousarray(x, dtype=numpy.float32)\n"
    "        single = x.shape == input_shape\n"
    "        if not single and x.shape[1:] != input_shape:\n"
    "            raise ValueError('@ takes [n, %s], not %s' % (', '.join(map(str, input_shape)), list(x.shape)))\n"
    "        n = 1 if single else x.shape[0]\n"
    "        out = numpy.empty((n,) + output_shape, dtype=numpy.float32)\n"
    "        _run(x.ctypes.data, out.ctypes.data, n)\n"
    "        return out[0] if single else out\n"
    "    if len(x) % _IN:\n"
    "        raise ValueError('@ takes a multiple of %d numbers, not %d' % (_IN, len(x)))\n"
    "    n = len(x) // _IN\n"
    "    data, out = (ctypes.c_float * len(x))(*x), (ctypes.c_float * (n * _OUT))()\n"
    "    _run(ctypes.addressof(data), ctypes.addressof(out), n)\n"
    "    return list(out)\n";

bool artifact_write_python(Arena *a, const Program *p, const char *library, const char *out, ArtifactError *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return artifact_fail(a, e, 70, "out of memory");
    put_named(f, "\"\"\"The compiled network @, made by cnnc " CNNC_VERSION ": @.infer(x), @.classes, @.input_shape ...\"\"\"\n"
                 "import ctypes\nimport os\nimport threading\n\n", p->symbol);
    fputs("_FILES = ['", f);
    for (const char *c = file_name(library); *c; c++)
        fprintf(f, *c == '\'' || *c == '\\' ? "\\%c" : "%c", *c);
    put_named(f, "', '@.so', 'lib@.so']\n\n\n", p->symbol);
    put_named(f, module, p->symbol);
    return finish(a, f, &text, &size, out, e);
}

/* Python looks for NAME.so before NAME.py and takes it for an extension module. So the library is one, as far as it must: its
 * create slot runs the NAME.py beside it and returns that module. All of Python's functions are weak: other programs never
 * see them. The structures are those of Python's stable ABI (3.5 and later). */
static const char python_entry[] =
    "typedef struct { long refs; void *type, *init; long index; void *copy; } Base;\n"
    "typedef struct { int slot; void *value; } Slot;\n"
    "typedef struct { Base base; const char *name, *doc; long size; void *methods; Slot *slots; void *traverse, *clear, *free; } Def;\n"
    "#define WEAK __attribute__((weak))\n"
    "WEAK void *PyModuleDef_Init(Def *);\n"
    "WEAK void *PyDict_New(void);\n"
    "WEAK int PyDict_SetItemString(void *, const char *, void *);\n"
    "WEAK void *PyDict_GetItemString(void *, const char *);\n"
    "WEAK void *PyRun_String(const char *, int, void *, void *);\n"
    "WEAK void Py_IncRef(void *);\n"
    "WEAK void Py_DecRef(void *);\n"
    "static void *create(void *spec, Def *def) {\n"
    "    void *names = PyDict_New(), *done, *module = 0;\n"
    "    (void)def;\n"
    "    if (!names || PyDict_SetItemString(names, \"spec\", spec)) return 0;\n"
    "    done = PyRun_String(\"import importlib.util as u, os\\n\"\n"
    "        \"s = u.spec_from_file_location(spec.name, os.path.join(os.path.dirname(spec.origin), '@.py'))\\n\"\n"
    "        \"module = u.module_from_spec(s)\\n\"\n"
    "        \"s.loader.exec_module(module)\\n\", 257, names, names);\n"
    "    if (done) { Py_DecRef(done); module = PyDict_GetItemString(names, \"module\"); if (module) Py_IncRef(module); }\n"
    "    Py_DecRef(names);\n"
    "    return module;\n"
    "}\n"
    "static Slot slots[] = {{1, (void *)create}, {0, 0}};   /* 1: Py_mod_create */\n"
    "static Def def = {{1, 0, 0, 0, 0}, \"@\", 0, 0, 0, slots, 0, 0, 0};\n"
    "void *PyInit_@(void);\n"
    "void *PyInit_@(void) { return PyModuleDef_Init ? PyModuleDef_Init(&def) : 0; }\n";

const char *python_entry_source(Arena *a, const Program *p)
{
    Vec(char) text = {0};
    for (const char *c = python_entry; *c; c++)
        if (*c == '@')
            for (const char *n = p->symbol; *n; n++)
                vec_push(a, &text, *n);
        else
            vec_push(a, &text, *c);
    vec_push(a, &text, '\0');
    return text.at;
}
