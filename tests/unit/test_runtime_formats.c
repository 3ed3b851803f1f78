/* Arrays, weights and pictures against what numpy, PyTorch and Pillow say of tests/unit/data, and broken copies of all of them.
 */
#include "runtime/file.h"
#include "runtime/image.h"
#include "runtime/init.h"
#include "runtime/npy.h"
#include "runtime/pt.h"
#include "runtime/safetensors.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA "tests/unit/data/"

static RtError error;

static uint64_t fnv(const void *bytes, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const uint8_t *p = bytes; n--; p++)
        h = (h ^ *p) * UINT64_C(0x100000001b3);
    return h;
}

static void fine(bool ok)
{
    if (!ok)
        fail_msg("%s", error.text);
}

/* Must fail with a text that holds `part`. */
static void refused(bool ok, const char *part)
{
    assert_false(ok);
    assert_true(error.kind == RT_FILE || error.kind == RT_INTERNAL);
    if (!strstr(error.text, part))
        fail_msg("the error does not say '%s' but: %s", part, error.text);
}

static FILE *open_list(const char *name)
{
    FILE *f = fopen(name, "r");
    assert_non_null(f);
    return f;
}

/* ---- npy ---- */

static void npy_as_numpy(void **state)
{
    (void)state;
    FILE *f = open_list(DATA "npy.txt");
    char line[256];
    int count = 0;
    for (; fgets(line, sizeof line, f); count++) {
        char name[64], path[128], type[16];
        uint64_t sum;
        int rank, used;
        assert_int_equal(sscanf(line, "%63s %15s %" SCNx64 " %d%n", name, type, &sum, &rank, &used), 4);
        snprintf(path, sizeof path, DATA "%s", name);
        NpyArray a;
        fine(npy_read(path, &a, &error));
        assert_string_equal(npy_type_name(a.dtype), type);
        assert_int_equal(a.rank, rank);
        char *p = line + used;
        for (int d = 0; d < rank; d++)
            assert_int_equal(a.shape[d], strtoll(p, &p, 10));
        float *v = npy_to_f32(&a, &error);
        assert_true(fnv(v, (size_t)a.n * sizeof *v) == sum);
        free(v);
        npy_free(&a);
    }
    fclose(f);
    assert_true(count >= 14);
}

static void npy_refusals(void **state)
{
    (void)state;
    NpyArray a;
    refused(npy_read(DATA "bad_big.npy", &a, &error), "'>f4'");
    refused(npy_read(DATA "bad_complex.npy", &a, &error), "'<c16'");
    refused(npy_read(DATA "bad_records.npy", &a, &error), "records");
    refused(npy_read(DATA "none.npy", &a, &error), "No such file");
    refused(npy_read(DATA "rgb.png", &a, &error), "is not a .npy file");
    refused(npy_read("tests", &a, &error), "is a folder");
    char head[256];
    size_t n = npy_header(head, NPY_F32, 2, (const int64_t[]){3, 5});
    assert_int_equal(n % 64, 0);
    refused(npy_parse((uint8_t *)head, n, "h", &a, &error), "15 elements of float32 need 60 bytes, the file has 0");
    n = npy_header(head, NPY_F64, 3, (const int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40, 2});
    refused(npy_parse((uint8_t *)head, n, "h", &a, &error), "too large");
    NpyArray half = {.dtype = NPY_F32, .rank = 1, .shape = {1}, .n = 1, .data = (float[]){0.5f}};
    assert_null(npy_to_i64(&half, "h", &error));
    assert_non_null(strstr(error.text, "not a whole number"));
}

static void npy_writes_what_it_reads(void **state)
{
    (void)state;
    const char *path = "/tmp/cnnc-test-runtime.npy";
    const float v[6] = {1, 2, 3, 4, 5, 6.5f};
    fine(npy_write_f32(path, 2, (const int64_t[]){2, 3}, v, &error));
    NpyArray a;
    fine(npy_read(path, &a, &error));
    assert_true(a.rank == 2 && a.shape[0] == 2 && a.shape[1] == 3);
    assert_memory_equal(a.data, v, sizeof v);
    npy_free(&a);
    unlink(path);
    refused(npy_write_f32("/nowhere/x.npy", 0, NULL, v, &error), "cannot write '/nowhere/x.npy'");
    refused(npy_write_f32("/dev/full", 2, (const int64_t[]){2, 3}, v, &error), "No space left");
}

/* ---- weights ---- */

static void weights_as_pytorch(void **state)
{
    (void)state;
    FILE *f = open_list(DATA "weights.txt");
    char line[256], last[64] = "";
    WeightsFile w = {0};
    int count = 0;
    for (; fgets(line, sizeof line, f); count++) {
        char file[64], name[64], path[128], type[8];
        uint64_t sum;
        int rank, used;
        assert_int_equal(sscanf(line, "%63s %63s %7s %" SCNx64 " %d%n", file, name, type, &sum, &rank, &used), 5);
        if (strcmp(file, last) != 0) {
            weights_free(&w);
            strcpy(last, file);
            snprintf(path, sizeof path, DATA "%s", file);
            fine(weights_read(path, &w, &error));
        }
        const WeightsTensor *t = weights_find(&w, name);
        if (!t)
            fail_msg("%s lacks %s", file, name);
        assert_int_equal(t->rank, rank);
        assert_int_equal(t->dtype, type[0] == 'i' ? CNNC_I64 : CNNC_F32);
        char *p = line + used;
        for (int d = 0; d < rank; d++)
            assert_int_equal(t->shape[d], strtoll(p, &p, 10));
        if (fnv(t->data, (size_t)t->n * (t->dtype == CNNC_I64 ? 8 : 4)) != sum)
            fail_msg("%s: other values in %s", file, name);
    }
    weights_free(&w);
    fclose(f);
    assert_true(count > 40);
}

static void weights_refusals(void **state)
{
    (void)state;
    WeightsFile w;
    refused(weights_read(DATA "evil.pt", &w, &error), "'posix.system'");
    refused(weights_read(DATA "whole.pt", &w, &error), "'__main__.Net'");
    refused(weights_read(DATA "legacy.pt", &w, &error), "before 1.6");
    refused(weights_read(DATA "rgb.png", &w, &error), "is neither a safetensors file nor a PyTorch state_dict");
    refused(weights_read("tests", &w, &error), "is a folder");
}

/* A safetensors file made of a header and `data` bytes. */
static bool parse_text(const char *header, size_t data)
{
    size_t n = strlen(header);
    uint8_t *bytes = calloc(1, 8 + n + data);
    WeightsFile w;
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, header, n);
    bool ok = safetensors_parse(bytes, 8 + n + data, "t", false, &w, &error);
    free(bytes);
    weights_free(&w);
    return ok;
}

static void safetensors_is_strict(void **state)
{
    (void)state;
    fine(parse_text("{}", 0));
    fine(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  ", 8));
    fine(parse_text("{\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]},\"a\":{\"shape\":[1],\"dtype\":\"F32\","
                    "\"data_offsets\":[0,4]}}",
                    8));
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7), "cut short");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9), "left over");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12), "hole");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8), "cannot lie in bytes 0 to 8");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
                       "\"data_offsets\":[0,8]}}",
                       8),
            "inside");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],"
                       "\"data_offsets\":[4,8]}}",
                       8),
            "stands twice");
    refused(parse_text("{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8), "'C64'");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4), "lacks data_offsets");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4), "whole numbers");
    refused(parse_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,0]}}", 0), "too large");
    refused(parse_text("{\"__metadata__\":{\"a\":1}}", 0), "strings only");
    refused(parse_text("[]", 0), "begin with '{'");
    refused(parse_text("{\"a\":1}", 0), "not an object");
    refused(parse_text("{} x", 0), "text after");
    uint8_t huge[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, '{', '}'};
    WeightsFile w;
    refused(safetensors_parse(huge, sizeof huge, "t", false, &w, &error), "header should have");
    refused(safetensors_parse(huge, 3, "t", false, &w, &error), "shorter than 8");
}

static const CnncTensor net[] = {
    {.name = "0.weight", .rank = 4, .shape = {4, 1, 3, 3}, .offset = 0},
    {.name = "0.bias", .rank = 1, .shape = {4}, .offset = 192},
    {.name = "1.weight", .rank = 1, .shape = {4}, .offset = 256},
    {.name = "1.bias", .rank = 1, .shape = {4}, .offset = 320},
    {.name = "1.running_mean", .rank = 1, .shape = {4}, .offset = 384, .role = CNNC_ROLE_BUFFER},
    {.name = "1.running_var", .rank = 1, .shape = {4}, .offset = 448, .role = CNNC_ROLE_BUFFER},
    {.name = "1.num_batches_tracked", .rank = 0, .dtype = CNNC_I64, .offset = 512, .role = CNNC_ROLE_BUFFER},
    {.name = "4.weight", .rank = 2, .shape = {3, 16}, .offset = 576},
    {.name = "4.bias", .rank = 1, .shape = {3}, .offset = 768},
    {.name = "optimizer.momentum.4.bias", .rank = 1, .shape = {3}, .offset = 832, .role = CNNC_ROLE_OPTIMIZER},
};
enum { NET = sizeof net / sizeof *net, STATE = 896 };

static void weights_meet_a_model(void **state)
{
    (void)state;
    _Alignas(64) char a[STATE] = {0}, b[STATE] = {0};
    WeightsFile pt, st;
    WeightsMatch m;
    fine(weights_read(DATA "net.pt", &pt, &error));
    fine(weights_read(DATA "net.safetensors", &st, &error));
    assert_true(pt.checksum == st.checksum && pt.checksum);
    fine(weights_load(&pt, "net.pt", net, NET, false, false, a, &m, &error));
    assert_true(m.loaded == 9 && !m.missing && !m.extra && !m.misshapen);
    fine(weights_load(&st, "net.safetensors", net, NET, false, false, b, &m, &error));
    assert_memory_equal(a, b, STATE);
    assert_true(((float *)a)[0] != 0);
    refused(weights_load(&pt, "net.pt", net, NET, false, true, a, &m, &error), "'optimizer.momentum.4.bias' [3] is missing");
    CnncTensor other[NET];
    memcpy(other, net, sizeof net);
    other[7].shape[1] = 20;
    other[8].name = "5.bias";
    refused(weights_load(&pt, "net.pt", other, NET, false, false, b, &m, &error), "1 missing, 1 extra, 1 of another shape");
    assert_non_null(strstr(error.text, "'4.weight' has shape [3, 16] in the file, the model needs [3, 20]"));
    assert_non_null(strstr(error.text, "'5.bias' [3] is missing in the file"));
    assert_non_null(strstr(error.text, "'4.bias' [3] in the file is not in the model"));
    assert_memory_equal(a, b, STATE); /* nothing was touched */
    fine(weights_load(&pt, "net.pt", other, NET, true, false, b, &m, &error));
    assert_true(m.loaded == 7 && m.missing == 1 && m.extra == 1 && m.misshapen == 1);
    weights_free(&pt);
    weights_free(&st);
}

static void weights_round_trip(void **state)
{
    (void)state;
    const char *path = "/tmp/cnnc-test-runtime.safetensors", *const names[] = {"cat", "say \"hi\"\n", "\xc3\xb6"};
    _Alignas(64) char a[STATE], b[STATE] = {0};
    for (int i = 0; i < STATE; i++)
        a[i] = (char)(i * 7);
    char *classes = weights_join(names, 3);
    const WeightsMeta meta[] = {{"classes", classes}, {"odd \xff", "x"}};
    unsigned all = 1u << CNNC_ROLE_PARAM | 1u << CNNC_ROLE_BUFFER | 1u << CNNC_ROLE_OPTIMIZER;
    fine(weights_write(path, net, NET, all, a, meta, 2, &error));
    WeightsFile w;
    fine(weights_read(path, &w, &error));
    fine(weights_load(&w, path, net, NET, false, true, b, NULL, &error));
    for (int i = 0; i < NET; i++)
        assert_memory_equal(a + net[i].offset, b + net[i].offset, (size_t)tensor_bytes(&net[i]));
    assert_string_equal(weights_meta(&w, "classes"), classes);
    assert_string_equal(weights_meta(&w, "odd \xef\xbf\xbd"), "x");
    int n;
    char **list = weights_list(weights_meta(&w, "classes"), &n);
    assert_int_equal(n, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(list[i], names[i]);
    weights_list_free(list, n);
    assert_null(weights_list("[\"a\", 3]", &n));
    free(classes);
    weights_free(&w);
    /* a folder that cannot be written to: nothing is left behind */
    unlink(path);
    refused(weights_write("/proc/none/x.safetensors", net, NET, all, a, NULL, 0, &error), "cannot write");
}

/* ---- pictures ---- */

static void images_as_pillow(void **state)
{
    (void)state;
    FILE *f = open_list(DATA "images.txt");
    char line[256];
    int count = 0, wrong = 0;
    for (; fgets(line, sizeof line, f); count++) {
        char name[64], path[128];
        int c;
        long long h, w;
        uint64_t sum;
        assert_int_equal(sscanf(line, "%63s %d %lld %lld %" SCNx64, name, &c, &h, &w, &sum), 5);
        snprintf(path, sizeof path, DATA "%s", name);
        Image i;
        fine(image_load(path, c, h, w, &i, &error));
        assert_int_equal(i.c, c);
        if (fnv(i.at, (size_t)(i.h * i.w * i.c)) != sum) {
            print_message("%s c=%d %lldx%lld: other pixels than Pillow's\n", name, c, h, w);
            wrong++;
        }
        image_free(&i);
    }
    fclose(f);
    assert_int_equal(wrong, 0);
    assert_true(count > 50);
}

static void image_refusals(void **state)
{
    (void)state;
    Image i;
    refused(image_read(DATA "net.pt", 3, &i, &error), "not a picture");
    refused(image_read(DATA "none.png", 3, &i, &error), "No such file");
    refused(image_read(DATA "rgb.png", 2, &i, &error), "1 or 3 channels");
    refused(image_decode((const uint8_t *)"P5\n70000 70000\n255\n", 19, "x", 1, &i, &error), "do not fit");
    refused(image_decode((const uint8_t *)"P5\n0 3\n255\n", 11, "x", 1, &i, &error), "without pixels");
    refused(image_decode((const uint8_t *)"P2 2 1 255\n9 z", 14, "x", 1, &i, &error), "pixels are missing");
    refused(image_decode((const uint8_t *)"", 0, "x", 1, &i, &error), "empty");
    static const char *const cut[] = {"rgb.png", "420.jpg", "raw.ppm", "interlaced.png", "progressive.jpg"};
    for (size_t k = 0; k < sizeof cut / sizeof *cut; k++) {
        char path[64];
        FileBytes f;
        snprintf(path, sizeof path, DATA "%s", cut[k]);
        fine(file_read(path, &f, &error));
        for (size_t n = 1; n < f.len - 16; n += 1 + f.len / 97)
            refused(image_decode(f.at, n, cut[k], 3, &i, &error), cut[k]);
        file_free(&f);
    }
}

/* Large safetensors are used where they are mapped, unless their bytes do not lie on multiples of four. */
static void large_weights_are_lent(void **state)
{
    (void)state;
    enum { MANY = 3 << 20 };
    float *values = malloc(sizeof *values * MANY), *loaded = calloc(MANY, sizeof *loaded);
    const CnncTensor want = {.name = "w", .dtype = CNNC_F32, .rank = 1, .shape = {MANY}};
    for (int i = 0; i < MANY; i++)
        values[i] = (float)(i % 1000003) * 0.5f;
    for (int odd = 0; odd < 2; odd++) {
        char path[] = "/tmp/cnnc-lent-XXXXXX";
        WeightsFile w;
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        char text[128] = {0};
        int n = snprintf(text, sizeof text, "{\"w\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", MANY, 4 * MANY);
        uint64_t header = (uint64_t)(n + (8 - n % 8) % 8 + odd);   /* padded with blanks, as the format says; or one more */
        memset(text + n, ' ', sizeof text - (size_t)n);
        assert_true(write(fd, &header, 8) == 8 && write(fd, text, header) == (ssize_t)header && write(fd, values, 4 * MANY) == 4 * MANY);
        close(fd);
        fine(weights_read(path, &w, &error));
        assert_int_equal(w.at[0].lent, !odd);
        fine(weights_load(&w, path, &want, 1, false, false, (char *)loaded, NULL, &error));
        assert_memory_equal(loaded, values, sizeof *values * MANY);
        assert_memory_equal(w.at[0].data, values, sizeof *values * MANY);   /* pages that went come back */
        weights_free(&w);
        unlink(path);
    }
    free(values);
    free(loaded);
}

/* ---- broken files: any answer but a crash ---- */

static uint32_t dice(uint32_t *s) { return (*s = *s * 1664525u + 1013904223u) >> 8; }

static void try_reader(const char *name, const uint8_t *bytes, size_t len)
{
    WeightsFile w;
    NpyArray a;
    Image i;
    if (strstr(name, ".npy")) {
        if (npy_parse(bytes, len, name, &a, &error))
            npy_free(&a);
    } else if (strstr(name, ".pt")) {
        if (pt_parse(bytes, len, name, &w, &error))
            weights_free(&w);
    } else if (strstr(name, ".safetensors")) {
        if (safetensors_parse(bytes, len, name, false, &w, &error))
            weights_free(&w);
    } else if (image_decode(bytes, len, name, 3, &i, &error)) {
        image_free(&i);
    }
}

/* CNNC_FUZZ_ROUNDS raises the number of mutations of each file. */
static void mutated_files(void **state)
{
    (void)state;
    static const char *const names[] = {
        "f4.npy",          "fortran.npy", "mixed.pt",    "checkpoint.pt",  "odd.pt",     "evil.pt", "mixed.safetensors",
        "net.safetensors", "rgb.png",     "palette.png", "interlaced.png", "grey16.png", "420.jpg", "cmyk.jpg",
        "progressive.jpg", "plain.ppm",   "max100.pgm"};
    const char *rounds = getenv("CNNC_FUZZ_ROUNDS");
    int n = rounds ? atoi(rounds) : 300;
    uint32_t seed = rounds ? (uint32_t)getpid() : 1;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[64];
        FileBytes f;
        snprintf(path, sizeof path, DATA "%s", names[k]);
        fine(file_read(path, &f, &error));
        for (int i = 0; i < n; i++) {
            size_t len = dice(&seed) % 4 ? f.len : dice(&seed) % f.len;
            uint8_t *copy = malloc(len + 1); /* exactly as long as it is, so that reading past the end is seen */
            memcpy(copy, f.at, len);
            for (uint32_t hits = 1 + dice(&seed) % 4; hits-- && len;) {
                size_t at = dice(&seed) % 2 ? dice(&seed) % len : dice(&seed) % (len < 256 ? len : 256);
                copy[at] = dice(&seed) % 3 ? (uint8_t)dice(&seed) : (uint8_t)(copy[at] ^ 1 << dice(&seed) % 8);
            }
            try_reader(names[k], copy, len);
            free(copy);
        }
        file_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy_as_numpy),         cmocka_unit_test(npy_refusals),       cmocka_unit_test(npy_writes_what_it_reads),
        cmocka_unit_test(weights_as_pytorch),   cmocka_unit_test(weights_refusals),   cmocka_unit_test(safetensors_is_strict),
        cmocka_unit_test(weights_meet_a_model), cmocka_unit_test(weights_round_trip), cmocka_unit_test(images_as_pillow),
        cmocka_unit_test(image_refusals),       cmocka_unit_test(large_weights_are_lent),
        cmocka_unit_test(mutated_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
