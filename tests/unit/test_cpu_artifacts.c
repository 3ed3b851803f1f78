/* What `build` leaves, from an object made by the CPU back end: each kind is made in a folder with awkward characters in its
 * name, and used by a C program (or Python) from there. The stage is a stand-in: y = 2x + consts[i]. */
#include "codegen/artifacts_impl.h"
#include "codegen/cpu/module.h"

#include <dirent.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { FEATURES = 3, BATCH = 2 };

LLVMValueRef emit_stage(Emit *e, const Function *f, int s)
{
    LLVMTypeRef params[3] = {e->ptr, e->ptr, e->i64};
    LLVMValueRef fn = emit_function_begin(e, arena_printf(e->arena, "%s.stage%d", f->name, s),
                                          LLVMFunctionType(e->void_, params, 3, false), true);
    LLVMValueRef args = LLVMGetParam(fn, 0), slice = LLVMGetParam(fn, 2), p[3];
    const size_t at[3] = {offsetof(CnncArgs, in), offsetof(CnncArgs, out), offsetof(CnncArgs, consts)};
    for (int i = 0; i < 3; i++)
        p[i] = emit_load(e, e->ptr, emit_gep(e, e->i8, args, emit_i64(e, (int64_t)at[i])), 8);
    Loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, FEATURES), 1, "i");
    LLVMValueRef index = emit_add(e, emit_mul(e, slice, FEATURES), l.iv);
    LLVMValueRef x = emit_load(e, e->f32, emit_gep(e, e->f32, p[0], index), 4);
    LLVMValueRef c = emit_load(e, e->f32, emit_gep(e, e->f32, p[2], l.iv), 4);
    emit_store(e, emit_fma(e, x, emit_f32(e, 2), c), emit_gep(e, e->f32, p[1], index), 4);
    emit_loop_end(e, &l);
    emit_function_end(e);
    return fn;
}

static const CnncStage stages[] = {{NULL, BATCH, 1, -1, -1, "all", 1, 1, 1}};
static const CnncFunction infer = {.stages = stages, .n_stages = 1, .batch = BATCH};
static Stage plan[1] = {{.name = "all", .slices = BATCH, .samples_per_slice = 1}};
static Function infer_function = {.name = "infer", .stages = plan, .n_stages = 1, .batch = BATCH};
static const float consts[16] __attribute__((aligned(64))) = {100, 200, 300};
static const char *const classes[] = {"a", "b", "c"};

typedef struct { Arena *a; char dir[64]; Program program; Bytes object; int machine; } Work;

static int setup(void **state)
{
    Work *w = calloc(1, sizeof *w);
    w->a = arena_new();
    strcpy(w->dir, P_tmpdir "/cnnc \"test\" 'X XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->program = (Program){.arena = w->a, .symbol = "net", .infer = &infer_function};
    w->program.model = (CnncModel){.name = "net", .in_rank = 1, .in_shape = {FEATURES}, .out_rank = 1, .out_shape = {FEATURES}, .n_classes = 3,
                                   .class_names = classes, .consts = (const char *)consts, .consts_bytes = sizeof consts, .infer = &infer};
    CpuTarget t;
    const char *why = "";
    assert_true(target_find(w->a, NULL, "x86-64", &t, &why));
    w->machine = t.machine;
    if (!module_compile(w->a, &w->program, &t, CPU_OBJECT, true, &w->object, &why))
        fail_msg("%s", why);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    Work *w = *state;
    const char *output;
    char *rm[] = {"rm", "-rf", w->dir, NULL};
    run_program(w->a, rm, &output);
    free(w->object.data);
    arena_free(w->a);
    free(w);
    return 0;
}

static const char *in_dir(Work *w, const char *name) { return arena_printf(w->a, "%s/%s", w->dir, name); }

static int files_in(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void make(Work *w, ArtifactKind kind, const char *name)
{
    ArtifactError e = {0};
    ArtifactJob job = {.program = &w->program, .object = w->object.data, .object_size = w->object.size, .out = in_dir(w, name), .runtime_dir = w->dir,
                       .machine = w->machine};
    if (!artifact_link(w->a, kind, &job, &e))
        fail_msg("%s", e.text);
}

static void put(Work *w, const char *name, const char *text)
{
    ArtifactError e = {0};
    if (!artifact_write_file(w->a, in_dir(w, name), text, strlen(text), &e))
        fail_msg("%s", e.text);
}

/* Runs `sh -c command` in the folder; its last line is its exit status's reason. */
static const char *shell(Work *w, const char *command)
{
    const char *output;
    char *argv[] = {"sh", "-c", arena_printf(w->a, "cd \"$0\" && %s", command), w->dir, NULL};
    if (run_program(w->a, argv, &output) != 0)
        fail_msg("%s: %s", command, output);
    return output;
}

static const char caller[] =
    "#include \"net.h\"\n#include <stdio.h>\n#include <string.h>\n"
    "int main(void) { float in[NET_BATCH * NET_INPUT_SIZE] = {1, 2, 3, 4, 5, 6}, out[NET_BATCH * NET_OUTPUT_SIZE] = {0};\n"
    "  static _Alignas(64) char ws[NET_WORKSPACE_SIZE + 64];\n"
    "  int64_t want[] = NET_INPUT_SHAPE;\n"
    "  if (net_workspace_size() != NET_WORKSPACE_SIZE || net_batch() != NET_BATCH || net_input_rank() != NET_INPUT_RANK) return 2;\n"
    "  if (memcmp(want, net_input_shape(), sizeof want) || net_classes() != 3 || strcmp(net_class_name(2), \"c\") || net_class_name(3)) return 3;\n"
    "  if (net_infer(in, out, ws)) return 4;\n"
    "  for (int i = 0; i < 6; i++) printf(\"%g \", out[i]);\n"
    "  return 0; }\n";

static void check_caller(Work *w, const char *link)
{
    ArtifactError e = {0};
    assert_true(artifact_write_header(w->a, &w->program, in_dir(w, "net.h"), &e));
    put(w, "main.c", caller);
    const char *out = shell(w, arena_printf(w->a, "cc -Wall -Wextra -Werror -std=c11 -pedantic main.c %s -o main && ./main", link));
    assert_string_equal(out, "102 204 306 108 210 312 ");
}

static void test_object(void **state)
{
    make(*state, ARTIFACT_OBJ, "net.o");
    check_caller(*state, "net.o");
}

static void test_archive(void **state)
{
    make(*state, ARTIFACT_LIB, "libnet.a");
    make(*state, ARTIFACT_LIB, "libnet.a");   /* over the old one */
    check_caller(*state, "libnet.a");
}

static void test_shared(void **state)
{
    Work *w = *state;
    make(w, ARTIFACT_SHARED, "net.so");
    check_caller(w, "./net.so -Wl,-rpath,'$ORIGIN'");
    const char *needs = shell(w, "readelf -d net.so");
    assert_null(strstr(needs, "NEEDED"));
    assert_null(strstr(needs, "TEXTREL"));
    const char *names = shell(w, "nm -D --defined-only net.so");
    assert_null(strstr(names, "net_model"));
    assert_non_null(strstr(names, "net_infer_n"));
}

static void test_cplusplus_header(void **state)
{
    Work *w = *state;
    ArtifactError e = {0};
    assert_true(artifact_write_header(w->a, &w->program, in_dir(w, "net.h"), &e));
    shell(w, "printf '#include \"net.h\"\\nextern \"C\" int (*f)(const float *, float *, void *);\\nint (*f)(const float *, float *, void *) = net_infer;\\n' > m.cc && "
             "cc -x c++ -fsyntax-only -Wall -Werror m.cc");
}

static void test_python(void **state)
{
    Work *w = *state;
    ArtifactError e = {0};
    if (system("python3 -c 'import ctypes' 2>/dev/null") != 0)
        skip();
    make(w, ARTIFACT_SHARED, "libnet.so");
    assert_true(artifact_write_python(w->a, &w->program, "libnet.so", in_dir(w, "net.py"), &e));
    const char *out = shell(w, "PYTHONDONTWRITEBYTECODE=1 python3 -c 'import net; print(net.batch, net.input_shape, net.classes, "
                               "net.infer([1, 2, 3] * 3))'");
    assert_string_equal(out, "2 (3,) ['a', 'b', 'c'] [102.0, 204.0, 306.0, 102.0, 204.0, 306.0, 102.0, 204.0, 306.0]");
}

/* NAME.so and NAME.py side by side: `import NAME` must mean the latter. */
static void test_python_beside_library(void **state)
{
    Work *w = *state;
    ArtifactError e = {0};
    if (system("python3 -c 'import ctypes' 2>/dev/null") != 0)
        skip();
    make(w, ARTIFACT_SHARED, "net.so");
    assert_true(artifact_write_python(w->a, &w->program, "net.so", in_dir(w, "net.py"), &e));
    const char *out = shell(w, "PYTHONDONTWRITEBYTECODE=1 python3 -c 'import net, sys; print(net.infer([1, 2, 3]), sys.modules[\"net\"] is net)'");
    assert_string_equal(out, "[102.0, 204.0, 306.0] True");
}

static void test_pkgconfig(void **state)
{
    Work *w = *state;
    ArtifactError e = {0};
    assert_true(artifact_write_pkgconfig(w->a, &w->program, "some/where/libnet.a", in_dir(w, "net.pc"), &e));
    assert_non_null(strstr(shell(w, "cat net.pc"), "Libs: ${pcfiledir}/libnet.a"));
}

/* ---- a library with a pool of 3 threads ---- */

/* Calls from one thread, from four at once, and from a forked child, and the threads that are there meanwhile. */
static const char pool_caller[] =
    "#include \"net.h\"\n#include <dirent.h>\n#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
    "static int threads(void) { DIR *d = opendir(\"/proc/self/task\"); int n = 0; for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';\n"
    "  closedir(d); return n; }\n"
    "static void *calls(void *nothing) { char *ws = aligned_alloc(64, NET_WORKSPACE_SIZE + 64);\n"
    "  for (int turn = 0; turn < 1000; turn++) { float in[NET_BATCH * NET_INPUT_SIZE], out[NET_BATCH * NET_OUTPUT_SIZE] = {0};\n"
    "    for (int i = 0; i < NET_BATCH * NET_INPUT_SIZE; i++) in[i] = (float)(i + turn);\n"
    "    if (net_infer(in, out, ws)) exit(9);\n"
    "    for (int i = 0; i < NET_BATCH * NET_INPUT_SIZE; i++) if (out[i] != 2 * in[i] + 100.0f * (float)(i % 3 + 1)) exit(8); }\n"
    "  free(ws); return nothing; }\n"
    "int main(void) { pthread_t t[4]; int status = 0;\n"
    "  if (threads() != NET_THREADS) return 2;\n"
    "  calls(0);\n"
    "  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, calls, 0);\n"
    "  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);\n"
    "  if (fork() == 0) { if (threads() != 1) exit(3); calls(0); exit(threads() == NET_THREADS ? 0 : 4); }\n"
    "  wait(&status); if (status) return 5;\n"
    "  pthread_create(&t[0], 0, calls, 0);   /* computes while the process ends */\n"
    "  printf(\"fine\"); return 0; }\n";

static const char pool_opener[] =
    "#include <dirent.h>\n#include <dlfcn.h>\n#include <stdio.h>\n#include <unistd.h>\n"
    "static int threads(void) { DIR *d = opendir(\"/proc/self/task\"); int n = 0; for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';\n"
    "  closedir(d); return n; }\n"
    "int main(void) { for (int turn = 0; turn < 20; turn++) {\n"
    "    void *l = dlopen(\"./net.so\", RTLD_NOW); if (!l || threads() != 3) return 2;\n"
    "    int (*infer)(const float *, float *, void *); *(void **)&infer = dlsym(l, \"net_infer\");\n"
    "    float in[6] = {1, 2, 3, 4, 5, 6}, out[6]; static _Alignas(64) char ws[64];\n"
    "    if (infer(in, out, ws) || out[5] != 312) return 3;\n"
    "    if (dlclose(l)) return 4;\n"
    "    for (int i = 0; threads() != 1; i++) { if (i > 1000) return 5; usleep(1000); } }   /* a joined thread may be seen to go */\n"
    "  printf(\"fine\"); return 0; }\n";

static void test_pool(void **state)
{
    static const CnncStage heavy[] = {{NULL, BATCH, 1, -1, -1, "all", 1, 1e9, 1}};
    static const CnncFunction heavy_infer = {.stages = heavy, .n_stages = 1, .batch = BATCH};
    Work *w = *state;
    CpuTarget t;
    const char *why = "";
    ArtifactError e = {0};
    w->program.library_threads = 3;
    w->program.model.infer = &heavy_infer;
    free(w->object.data);
    assert_true(target_find(w->a, NULL, "x86-64", &t, &why) && module_compile(w->a, &w->program, &t, CPU_OBJECT, true, &w->object, &why));
    assert_true(artifact_write_header(w->a, &w->program, in_dir(w, "net.h"), &e));
    put(w, "pool.c", pool_caller);
    put(w, "open.c", pool_opener);
    static const struct { ArtifactKind kind; const char *name; } made[] = {{ARTIFACT_LIB, "net.a"}, {ARTIFACT_SHARED, "net.so"}, {ARTIFACT_OBJ, "net.o"}};
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        ArtifactJob job = {
            .program = &w->program, .object = w->object.data, .object_size = w->object.size, .out = in_dir(w, made[i].name), .machine = w->machine};
        if (!artifact_link(w->a, made[i].kind, &job, &e))
            fail_msg("%s", e.text);
        const char *output = shell(w, arena_printf(w->a, "cc -Wall -Wextra -Werror -std=gnu11 pool.c ./%s -Wl,-rpath,'$ORIGIN' -lpthread -o pool && "
                                                         "timeout 60 ./pool || { echo exit $?; false; }", made[i].name));
        assert_string_equal(output, "fine");
    }
    assert_string_equal(shell(w, "cc -std=gnu11 open.c -ldl -o open && timeout 60 ./open"), "fine");
    assert_null(strstr(shell(w, "nm -D --defined-only net.so; nm -g --defined-only net.a"), "threads_"));
    assert_true(artifact_write_pkgconfig(w->a, &w->program, "net.a", in_dir(w, "net.pc"), &e));
    assert_non_null(strstr(shell(w, "cat net.pc"), "net.a -lpthread"));
}

static void test_executable(void **state)
{
    Work *w = *state;
    put(w, "m.c", "#include \"runtime/abi.h\"\n#include <stdio.h>\n"
                  "int main(void) { float in[6] = {1, 2, 3}, out[6]; CnncArgs a = {.consts = cnnc_model.consts, .in = in, .out = out, .n = 1};\n"
                  "cnnc_model.infer->stages[0].fn(&a, 0, 0); printf(\"%s %g %g\", cnnc_model.name, out[0], out[2]); return (long)a.consts & 63; }\n");
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    shell(w, arena_printf(w->a, "cc -I'%s' -c m.c && echo 'int nothing;' > e.c && cc -c e.c && ar rcs libcnnc_infer_main.a m.o && ar rcs libcnnc_program.a e.o", here));
    make(w, ARTIFACT_EXE, "app");
    assert_string_equal(shell(w, "./app"), "net 102 306");
    const char *needs = shell(w, "readelf -d app | grep NEEDED");
    assert_null(strstr(needs, "libz"));
    assert_null(strstr(needs, "libpng"));
}

static void test_failures_leave_nothing(void **state)
{
    Work *w = *state;
    ArtifactError e = {0};
    ArtifactJob job = {.program = &w->program, .object = "no object", .object_size = 9, .out = in_dir(w, "x.so")};
    assert_false(artifact_link(w->a, ARTIFACT_SHARED, &job, &e));
    assert_int_equal(e.exit_code, 70);
    assert_non_null(strstr(e.text, "exit status"));
    job.cc = "no-such-compiler";
    assert_false(artifact_link(w->a, ARTIFACT_SHARED, &job, &e));
    assert_int_equal(e.exit_code, 3);
    assert_non_null(strstr(e.text, "cannot run 'no-such-compiler'"));
    job.out = in_dir(w, "no/such/folder/x.so");
    assert_false(artifact_link(w->a, ARTIFACT_SHARED, &job, &e));
    assert_int_equal(e.exit_code, 3);
    job.out = w->dir;
    assert_false(artifact_link(w->a, ARTIFACT_SHARED, &job, &e));
    assert_non_null(strstr(e.text, "it is a folder"));
    job.out = in_dir(w, "app");
    job.cc = NULL;
    job.runtime_dir = NULL;   /* a test program has no runtime beside it, unless the build folder's is there */
    if (access("libcnnc_program.a", R_OK) != 0)
        assert_false(artifact_link(w->a, ARTIFACT_EXE, &job, &e));
    assert_int_equal(files_in(w->dir), 0);
}

/* An interrupt while the compiler runs: this process ends by it, after the temporary files are gone. */
static void test_interrupt_leaves_nothing(void **state)
{
    Work *w = *state;
    put(w, "cc.sh", "#!/bin/sh\nkill -INT $PPID\nexit 1\n");
    assert_int_equal(chmod(in_dir(w, "cc.sh"), 0755), 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        ArtifactError e = {0};
        ArtifactJob job = {.program = &w->program, .object = "x", .object_size = 1, .out = in_dir(w, "x.so"), .cc = in_dir(w, "cc.sh")};
        artifact_link(w->a, ARTIFACT_SHARED, &job, &e);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_int_equal(files_in(w->dir), 1);   /* cc.sh */
}

static void test_names(void **state)
{
    Work *w = *state;
    static const char *const pairs[][2] = {{"out/net", "net"}, {"libnet.so", "net"}, {"out/libnet.a", "net"}, {"a.b/le-net.5", "le_net_5"},
                                           {"lib", "lib"}, {"3d.so", "_3d"}, {"", "model"}, {"x/", "model"}, {"lib.so", "lib"}, {".so", "_so"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        assert_string_equal(artifact_name(w->a, pairs[i][0]), pairs[i][1]);
    unsigned inputs;
    const char *why;
    assert_true(artifact_parse_inputs(w->a, "npy,idx,pgm", &inputs, &why) && inputs == (INPUT_NPY | INPUT_IDX | INPUT_PGM));
    assert_true(artifact_parse_inputs(w->a, "all", &inputs, &why) && inputs == INPUT_ALL);
    assert_false(artifact_parse_inputs(w->a, "png,gif", &inputs, &why));
    assert_non_null(strstr(why, "\"gif\""));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_names), TEST(test_object), TEST(test_archive), TEST(test_shared), TEST(test_cplusplus_header),
                                       TEST(test_python), TEST(test_python_beside_library), TEST(test_pkgconfig), TEST(test_pool), TEST(test_executable),
                                       TEST(test_failures_leave_nothing), TEST(test_interrupt_leaves_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
