/* What surrounds the text of a GPU program: names of GPUs, the compiler's log read, the cache on disk, rooflines. */
#include "codegen/gpu/cache.h"
#include "codegen/gpu/images.h"
#include "codegen/gpu/nvrtc_known.h"
#include "codegen/gpu/roofline.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void names_of_gpus(void **state)
{
    (void)state;
    Arena *a = arena_new();
    GpuTargets t;
    const char *why = NULL;
    assert_true(gpu_targets_parse(a, NULL, &t, &why) && t.n == 3 && t.sm[0] == 80 && t.sm[2] == 100 && t.ptx == 80);
    assert_true(gpu_targets_parse(a, "sm_100, sm_90,86", &t, &why) && t.n == 3 && t.sm[0] == 86 && t.sm[1] == 90 && t.sm[2] == 100);
    static const char *const wrong[] = {"", "h100", "sm_", "sm_90a", "sm_9", "sm_75", "80 90x", "80,81,82,83,84,85,86,87,88"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        why = NULL;
        assert_false(gpu_targets_parse(a, wrong[i], &t, &why));
        assert_non_null(why);
    }
    arena_free(a);
}

static const char text[] = "typedef int Integer;\n"
                           "// layer conv1\n"
                           "__global__ void __launch_bounds__(256) infer0_conv(\n"
                           "    const float *in,   // [1, 3]\n"
                           "    int samples)\n"
                           "{\n"
                           "}\n"
                           "__global__ void infer1_relu(int samples)\n"
                           "{\n"
                           "    wrong;\n"
                           "}\n";

static void mistakes_name_their_layer(void **state)
{
    (void)state;
    Arena *a = arena_new();
    const CnncLayer layers[] = {{.name = "conv1", .type = "Conv2d"}, {.name = "2", .type = "ReLU"}, {.name = "4", .type = "GELU"}};
    CnncGpuLaunch launches[] = {{.entry = "infer0_conv", .name = "conv1.conv", .first_layer = 0},
                                {.entry = "infer1_relu", .name = "2.relu", .first_layer = 1},
                                {.entry = "infer1_relu", .name = "4.relu", .first_layer = 2}};
    CnncGpuFunction infer = {.launches = launches, .n_launches = 3};
    const CnncGpu gpu = {.text = text, .infer = &infer};
    const CnncModel m = {.layers = layers, .n_layers = 3, .gpu = &gpu};
    const char *wrong = "cnnc.cu(10): error: identifier \"wrong\" is undefined\n";
    assert_non_null(strstr(gpu_explain_log(a, &m, text, wrong), "kernel infer1_relu of layers 2 (ReLU), 4 (GELU):\ncnnc.cu(10)"));
    assert_non_null(
        strstr(gpu_explain_log(a, &m, text, "cnnc.cu(6): warning: x\ncnnc.cu(6): error: y\n"), "kernel infer0_conv of layer conv1 (Conv2d):\n"));
    const CnncGpu twice = {.text = text, .infer = &infer, .step = &infer};
    const CnncModel both = {.layers = layers, .n_layers = 3, .gpu = &twice};
    launches[0].entry = "infer1_relu";
    assert_non_null(strstr(gpu_explain_log(a, &both, text, wrong), "of layers conv1 (Conv2d), 2 (ReLU), 4 (GELU):\n"));
    assert_non_null(strstr(gpu_explain_log(a, &m, text, "cnnc.cu(1): error: y\n"), "kernel text:"));
    assert_non_null(strstr(gpu_explain_log(a, &m, text, "out of memory\n"), "out of memory"));
    arena_free(a);
}

/* Each kernel is in one part, each part has what stands before the first. */
static void texts_in_parts(void **state)
{
    (void)state;
    Arena *a = arena_new();
    const char *whole = "typedef int Integer;\n", *parts[CNNC_GPU_PARTS];
    for (int i = 0; i < 9; i++)
        whole = arena_printf(a, "%s\n// kernel %d\n__global__ void k%d(int samples)\n{\n    if (samples) {\n    }\n}\n", whole, i, i);
    whole = arena_printf(a, "%s// the end\n", whole);
    assert_true(gpu_text_parts(a, whole, 1, 4, parts) == 1 && parts[0] == whole);
    assert_int_equal(gpu_text_parts(a, whole, 8, 16, parts), 1);
    assert_int_equal(gpu_text_parts(a, whole, 8, 4, parts), 2);   /* four kernels a part at least */
    for (int i = 0; i < 9; i++) {
        const char *name = arena_printf(a, " k%d(", i);
        int part = (i + 1) / 2 % 2;   /* 0 1 1 0 0 1 1 0 0: dealt out there and back */
        assert_true(strstr(parts[part], name) && !strstr(parts[1 - part], name));
    }
    assert_true(strstr(parts[0], "typedef") && strstr(parts[1], "typedef") && strstr(parts[1], "// the end"));
    assert_int_equal(gpu_text_parts(a, "no kernel\n", 8, 4, parts), 1);
    arena_free(a);
}

static void resources_are_read(void **state)
{
    (void)state;
    Arena *a = arena_new();
    GpuUses u = gpu_read_uses(a, 90, "ptxas info    : 0 bytes gmem\n"
                                     "ptxas info    : Compiling entry function 'one' for 'sm_90'\n"
                                     "ptxas info    : Function properties for one\n"
                                     "    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
                                     "ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem, 400 bytes cmem[0]\n"
                                     "ptxas info    : Compiling entry function 'two' for 'sm_90'\n"
                                     "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
                                     "ptxas info    : Used 8 registers\n");
    assert_true(u.sm == 90 && u.n == 2);
    assert_string_equal(u.uses[0].entry, "one");
    assert_true(u.uses[0].registers == 255 && u.uses[0].shared_bytes == 1024 && u.uses[0].stack_bytes == 16 && u.uses[0].spill_stores == 8 &&
                u.uses[0].spill_loads == 12);
    assert_true(u.uses[1].registers == 8 && u.uses[1].shared_bytes == 0 && u.uses[1].spill_stores == 0);
    assert_int_equal(gpu_read_uses(a, 90, "").n, 0);
    arena_free(a);
}

/* By the limits of each: 2048 threads, 64K registers, 164 or 228 KiB, 32 blocks. */
static void occupancy_and_bounds(void **state)
{
    (void)state;
    const GpuFacts *a100 = gpu_facts(80), *h100 = gpu_facts(90);
    assert_true(gpu_facts(86) == a100 && gpu_facts(103)->sm == 100 && gpu_facts(75) == NULL);
    assert_int_equal(gpu_resident_blocks(h100, 32, 256, 0), 8);           /* threads */
    assert_int_equal(gpu_resident_blocks(h100, 128, 256, 0), 2);          /* registers */
    assert_int_equal(gpu_resident_blocks(h100, 255, 1024, 0), 0);         /* too many registers */
    assert_int_equal(gpu_resident_blocks(h100, 32, 128, 100 << 10), 2);   /* shared memory */
    assert_int_equal(gpu_resident_blocks(a100, 32, 128, 100 << 10), 1);
    assert_int_equal(gpu_resident_blocks(h100, 16, 32, 0), 32);           /* blocks */
    assert_true(gpu_bound(h100, &(CnncGpuLaunch){.flops = 66.9e12}) == 1 && gpu_bound(h100, &(CnncGpuLaunch){.flops = 1, .bytes = 3.35e12}) == 1);
    /* Two lanes: the second launch runs beside the first and the third waits for both; half the blocks leave half the GPU idle. */
    CnncGpuLaunch three[] = {{.grid = {132, 1, 1}, .flops = 66.9e9},
                             {.grid = {132, 1, 1}, .flops = 66.9e6, .lane = 1},
                             {.grid = {66, 1, 1}, .flops = 66.9e9, .after = {0, 2}}};
    const CnncGpuFunction f = {three, 3, 1, 0};
    double one = gpu_estimate(h100, &three[0]), half = gpu_estimate(h100, &three[2]), all = gpu_estimate_all(h100, &f);
    assert_true(one > 2e-3 && one < 2.1e-3 && half > 1.9 * one && all > one + half && all < one + half + 1e-5);
    CnncGpuLaunch slices = {.grid = {133, 1, 1}, .cycles = 1e6};
    assert_true(gpu_estimate(h100, &slices) > 2e-3 && gpu_estimate(h100, &slices) < 2.2e-3);   /* two waves, at half of the speed that was counted */
}

/* ---- the cache ---- */

static char home[] = "/tmp/cnnc-cache-XXXXXX";

static int make_home(void **state)
{
    (void)state;
    return !mkdtemp(home) || setenv("XDG_CACHE_HOME", home, 1) != 0;
}

/* The name of the n-th entry in order of readdir; how many there are. */
static int entries(char *path, size_t size)
{
    char folder[64];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/cnnc", home);
    DIR *d = opendir(folder);
    for (const struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.') {
            n++;
            snprintf(path, size, "%s/%s", folder, f->d_name);
        }
    if (d)
        closedir(d);
    return n;
}

static int remove_home(void **state)
{
    (void)state;
    Arena *a = arena_new();
    char path[400];
    cache_trim(a, 0);
    int left = entries(path, sizeof path);
    arena_free(a);
    snprintf(path, sizeof path, "%s/cnnc", home);
    return left != 0 || rmdir(path) != 0 || rmdir(home) != 0;
}

static void damage(const char *path, long at)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    fputc(c ^ 1, f);
    fclose(f);
}

static void entries_come_back_whole_or_not_at_all(void **state)
{
    (void)state;
    Arena *a = arena_new();
    const CachePart parts[2] = {{"cubin\0bytes", 11}, {"", 0}};
    CachePart got[2];
    char path[400];
    assert_false(cache_get(a, "key", got, 2));
    cache_put(a, "key", parts, 2);
    assert_int_equal(entries(path, sizeof path), 1);
    assert_true(cache_get(a, "key", got, 2) && got[0].size == 11 && got[1].size == 0);
    assert_memory_equal(got[0].bytes, parts[0].bytes, 11);
    assert_false(cache_get(a, "kez", got, 2) || cache_get(a, "key", got, 1));
    for (int i = 0; i < 4; i++) {   /* head, key, lengths, parts */
        static const long places[] = {3, 33, 40, -1};
        damage(path, places[i]);
        assert_false(cache_get(a, "key", got, 2));
        damage(path, places[i]);
        assert_true(cache_get(a, "key", got, 2));
    }
    assert_int_equal(truncate(path, 50), 0);
    assert_false(cache_get(a, "key", got, 2));
    assert_int_equal(truncate(path, 0), 0);
    assert_false(cache_get(a, "key", got, 2));
    cache_put(a, "key", parts, 2);
    assert_true(cache_get(a, "key", got, 2));
    arena_free(a);
}

static void the_oldest_go_first(void **state)
{
    (void)state;
    Arena *a = arena_new();
    static char big[10000];
    CachePart got;
    for (int i = 0; i < 4; i++) {
        cache_put(a, arena_printf(a, "entry %d", i), &(CachePart){big, sizeof big}, 1);
        usleep(20000);
    }
    assert_true(cache_get(a, "entry 0", &got, 1));   /* used again: the youngest */
    cache_trim(a, 25000);
    assert_true(cache_get(a, "entry 0", &got, 1) && cache_get(a, "entry 3", &got, 1));
    assert_false(cache_get(a, "entry 1", &got, 1) || cache_get(a, "entry 2", &got, 1));
    arena_free(a);
}

static void a_library_is_known_until_it_changes(void **state)
{
    (void)state;
    Arena *a = arena_new();
    const char *path = arena_printf(a, "%s/libnvrtc.so", home);
    const NvrtcKnown known = {.name = "libnvrtc.so", .path = path, .version = "13.0", .sm = {80, 90}, .n_sm = 2};
    NvrtcKnown k;
    FILE *f = fopen(path, "w");
    assert_true(f && fputs("code", f) >= 0 && fclose(f) == 0);
    setenv("CNNC_NVRTC", "one", 1);
    assert_false(nvrtc_recall(a, &k));
    nvrtc_remember(a, &known);
    assert_true(nvrtc_recall(a, &k) && k.n_sm == 2 && k.sm[1] == 90);
    assert_string_equal(k.name, known.name);
    assert_string_equal(k.path, known.path);
    assert_string_equal(k.version, known.version);
    setenv("CNNC_NVRTC", "other", 1);   /* another one is found */
    assert_false(nvrtc_recall(a, &k));
    nvrtc_remember(a, &(NvrtcKnown){.name = "libnvrtc.so", .path = "libnvrtc.so", .version = ""});
    assert_false(nvrtc_recall(a, &k));
    setenv("CNNC_NVRTC", "one", 1);
    assert_true(nvrtc_recall(a, &k));
    assert_int_equal(truncate(path, 3), 0);
    assert_false(nvrtc_recall(a, &k));
    assert_int_equal(unlink(path), 0);
    unsetenv("CNNC_NVRTC");
    arena_free(a);
}

/* What a process of its own says: true. */
static pid_t start(bool (*test)(Arena *a))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        Arena *a = arena_new();
        bool fine = test(a);
        arena_free(a);
        _exit(fine ? 0 : 1);
    }
    return child;
}

static void must_end_well(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* One entry, written again and again with other bytes of another length: each part is of one piece, and the two belong together. */
static bool writes_and_reads(Arena *a)
{
    enum { MOST = 60000, TIMES = 200 };
    char *bytes = arena_alloc(a, MOST);
    CachePart got[2];
    srand((unsigned)getpid());
    for (int i = 0; i < TIMES; i++) {
        int value = rand() % 256;
        size_t size = 1 + (size_t)rand() % (MOST - 1);
        memset(bytes, value, size);
        cache_put(a, "wanted by all", (CachePart[]){{bytes, size}, {bytes, 1}}, 2);
        if (!cache_get(a, "wanted by all", got, 2) || got[1].size != 1)
            return false;
        for (size_t j = 0; j < got[0].size; j++)
            if (got[0].bytes[j] != got[1].bytes[0])
                return false;
    }
    return true;
}

static void writers_do_not_disturb_each_other(void **state)
{
    enum { WRITERS = 4 };
    (void)state;
    pid_t writer[WRITERS];
    char path[400];
    Arena *a = arena_new();
    cache_trim(a, 0);
    arena_free(a);
    for (int i = 0; i < WRITERS; i++)
        writer[i] = start(writes_and_reads);
    for (int i = 0; i < WRITERS; i++)
        must_end_well(writer[i]);
    assert_int_equal(entries(path, sizeof path), 1);
}

static bool keeps_nothing(Arena *a)
{
    static char big[10000];
    CachePart got;
    cache_put(a, "not to be kept", &(CachePart){big, sizeof big}, 1);
    return !cache_get(a, "not to be kept", &got, 1);
}

static bool keeps_nothing_on_a_full_disk(Arena *a)
{
    signal(SIGXFSZ, SIG_IGN);   /* writes then fail as they do on a full disk */
    return setrlimit(RLIMIT_FSIZE, &(struct rlimit){5000, 5000}) == 0 && keeps_nothing(a);
}

static bool keeps_nothing_in_a_folder_of_others(Arena *a)
{
    char folder[64];
    snprintf(folder, sizeof folder, "%s/cnnc", home);
    bool nobody = geteuid() == 0 ? setgid(65534) == 0 && setuid(65534) == 0 : chmod(folder, 0500) == 0;
    return nobody && keeps_nothing(a);
}

static void a_cache_that_cannot_be_written_does_no_harm(void **state)
{
    (void)state;
    char path[400], folder[64];
    int before = entries(path, sizeof path);
    must_end_well(start(keeps_nothing_on_a_full_disk));
    assert_int_equal(entries(path, sizeof path), before);   /* nor half a file */
    must_end_well(start(keeps_nothing_in_a_folder_of_others));
    snprintf(folder, sizeof folder, "%s/cnnc", home);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(entries(path, sizeof path), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_gpus), cmocka_unit_test(mistakes_name_their_layer), cmocka_unit_test(texts_in_parts), cmocka_unit_test(resources_are_read),
        cmocka_unit_test(occupancy_and_bounds), cmocka_unit_test(entries_come_back_whole_or_not_at_all), cmocka_unit_test(the_oldest_go_first),
        cmocka_unit_test(a_library_is_known_until_it_changes),
        cmocka_unit_test(writers_do_not_disturb_each_other), cmocka_unit_test(a_cache_that_cannot_be_written_does_no_harm),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
