/* Data sets and batches: the readers on small real files, on wrong ones, and the arithmetic of a batch. */
#include "runtime/augment.h"
#include "runtime/data.h"
#include "runtime/file.h"
#include "runtime/image.h"
#include "runtime/npy.h"
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA "tests/unit/data/"

static RtError error;
static char temp[64];
static const int64_t digit_shape[] = {1, 28, 28}, colour_shape[] = {3, 32, 32}, small_shape[] = {3, 8, 8},
                     grey_shape[] = {1, 4, 6};

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

static void refused(const DataRequest *r, const char *part)
{
    DataPair p;
    assert_false(data_open(r, &p, &error));
    if (!strstr(error.text, part))
        fail_msg("the error does not say '%s' but: %s", part, error.text);
}

static DataRequest request(CnncData kind, const char *path, const int64_t *shape)
{
    return (DataRequest){
        .kind = kind, .path = path, .in_rank = 3, .in_shape = shape, .n_outputs = 10, .want_train = true, .want_valid = true};
}

static char *in_temp(const char *name)
{
    static char path[8][160];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", temp, name);
    return p;
}

static void write_text(const char *name, const void *bytes, size_t n) { fine(file_write(in_temp(name), bytes, n, &error)); }

/* ---- MNIST ---- */

static void digits(void **state)
{
    (void)state;
    DataRequest r = request(CNNC_DATA_DIGITS, "examples/data", digit_shape);
    DataPair p;
    fine(data_open(&r, &p, &error));
    assert_int_equal(p.train.n, 6000);
    assert_true(p.has_valid && p.valid.n == 1000);
    const int32_t first[] = {5, 0, 4, 1, 9, 2}, test[] = {7, 2, 1, 0, 4, 1};
    assert_memory_equal(p.train.labels, first, sizeof first);
    assert_memory_equal(p.valid.labels, test, sizeof test);
    assert_string_equal(p.train.class_names[9], "9");
    float mean, std;
    fine(data_statistics(&p.train, &mean, &std, &error));
    assert_true(fabsf(mean - 0.1307f) < 0.003f && fabsf(std - 0.3081f) < 0.003f);
    data_pair_free(&p);
    r.n_outputs = 9;
    refused(&r, "label 9 of sample 4");
    r = request(CNNC_DATA_DIGITS, "examples/data", (const int64_t[]){1, 24, 20});
    refused(&r, "the model takes 1x24x20");
    r.may_crop = true; /* a random crop makes them fit; without one, the middle does */
    fine(data_open(&r, &p, &error));
    assert_true(p.valid.crop[0] == 24 && p.valid.crop[1] == 20);
    float x[480];
    fine(data_sample(&p.valid, 3, x, &error));
    assert_true(x[100] == (float)p.valid.u8[3 * 784 + (2 + 5) * 28 + 4] / 255.0f);
    data_pair_free(&p);
    r = request(CNNC_DATA_DIGITS, "examples/data", colour_shape);
    refused(&r, "samples of 1x28x28, the model takes 3x32x32");
    r = request(CNNC_DATA_MNIST, "/nowhere", digit_shape);
    refused(&r, "there is no folder '/nowhere'");
    r = request(CNNC_DATA_MNIST, DATA, digit_shape);
    refused(&r, "has no train-images-idx3-ubyte or .gz");
}

static void write_idx(const char *name, int rank, uint32_t n, size_t bytes, int fill)
{
    uint8_t f[1024] = {0, 0, 8, (uint8_t)rank};
    const uint32_t dims[3] = {n, 4, 6};
    for (int i = 0; i < rank; i++)
        f[7 + 4 * i] = (uint8_t)dims[i];
    memset(f + 4 + 4 * rank, fill, bytes);
    write_text(name, f, 4 + 4 * (size_t)rank + bytes);
}

static void mnist_folders_and_mistakes(void **state)
{
    (void)state;
    mkdir(in_temp("FashionMNIST"), 0777);
    mkdir(in_temp("FashionMNIST/raw"), 0777);
    write_idx("FashionMNIST/raw/train-images-idx3-ubyte", 3, 3, 72, 7);
    write_idx("FashionMNIST/raw/train-labels-idx1-ubyte", 1, 3, 3, 9);
    DataRequest r = request(CNNC_DATA_FASHION, temp, grey_shape);
    refused(&r, "t10k");
    r.want_valid = false;
    DataPair p;
    fine(data_open(&r, &p, &error));
    assert_true(p.train.n == 3 && !p.has_valid && p.train.u8[71] == 7);
    assert_string_equal(p.train.class_names[p.train.labels[2]], "Ankle boot");
    data_pair_free(&p);
    write_idx("FashionMNIST/raw/train-labels-idx1-ubyte", 1, 4, 4, 9);
    refused(&r, "has 3 pictures");
    write_idx("FashionMNIST/raw/train-labels-idx1-ubyte", 1, 3, 3, 11);
    refused(&r, "label 11 of picture 0 is out of range");
    write_idx("FashionMNIST/raw/train-images-idx3-ubyte", 3, 3, 71, 7);
    refused(&r, "cut short: its header promises 72 elements, 71 bytes follow");
    write_text("FashionMNIST/raw/train-images-idx3-ubyte", "\x1f\x8b\x08\0\0\0\0\0\0\3abc", 13);
    refused(&r, "gzip cannot unpack it");
    write_text("FashionMNIST/raw/train-images-idx3-ubyte", "hello, world", 12);
    refused(&r, "is not an IDX file");
}

/* ---- CIFAR ---- */

static void same_set(const Dataset *a, const Dataset *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->u8, b->u8, (size_t)(a->n * a->sample));
    assert_memory_equal(a->labels, b->labels, (size_t)a->n * sizeof *a->labels);
}

static void cifar_binary_is_pickled(void **state)
{
    (void)state;
    const char *const folders[2][2] = {{DATA "cifar-10-batches-bin", DATA "cifar-10-batches-py"},
                                       {DATA "cifar-100-binary", DATA "cifar-100-python"}};
    for (int kind = 0; kind < 2; kind++) {
        DataPair a, b;
        DataRequest r = request(kind ? CNNC_DATA_CIFAR100 : CNNC_DATA_CIFAR10, folders[kind][0], colour_shape);
        r.n_outputs = kind ? 100 : 10;
        fine(data_open(&r, &a, &error));
        r.path = folders[kind][1];
        fine(data_open(&r, &b, &error));
        assert_int_equal(a.train.n, kind ? 2 : 10);
        same_set(&a.train, &b.train);
        same_set(&a.valid, &b.valid);
        assert_string_equal(a.train.class_names[3], "class3");
        assert_string_equal(b.train.class_names[9], "class9");
        data_pair_free(&a);
        data_pair_free(&b);
    }
    DataRequest r = request(CNNC_DATA_CIFAR10, DATA, colour_shape); /* found inside */
    DataPair p;
    fine(data_open(&r, &p, &error));
    data_pair_free(&p);
    r.path = "tests";
    refused(&r, "has no CIFAR-10 files");
    write_text("test_batch.bin", "abc", 3);
    write_text("test_batch", "cos\nsystem\n(S'true'\ntR.", 24);
    r.path = temp;
    r.want_train = false;
    refused(&r, "no whole number of records");
    unlink(in_temp("test_batch.bin"));
    refused(&r, "asks Python for 'os.system'");
    write_text("test_batch",
               "\x80\x02}q\x00U\x04"
               "dataK\x01s.",
               16);
    refused(&r, "is not a CIFAR-10 batch");
}

/* ---- folders ---- */

static void picture_folder(void **state)
{
    (void)state;
    DataRequest r = request(CNNC_DATA_FOLDER, DATA "pictures", small_shape);
    DataPair now, later;
    fine(data_open(&r, &now, &error));
    assert_int_equal(now.train.n, 5);
    assert_int_equal(now.valid.n, 3);
    const int32_t labels[] = {0, 0, 0, 1, 1};
    assert_memory_equal(now.train.labels, labels, sizeof labels);
    assert_true(now.valid.labels[0] == 1); /* the test part lacks cats; a dog stays a dog */
    assert_string_equal(now.train.class_names[1], "dog");
    assert_true(now.train.u8[0] == 0 && now.train.u8[now.train.sample] == 40 && now.train.u8[4 * now.train.sample + 191] == 50);
    r.memory = 100; /* too little: decoded for every batch */
    fine(data_open(&r, &later, &error));
    assert_true(later.train.u8 == NULL && later.train.files != NULL);
    const int64_t ids[] = {4, 0, 3};
    float a[3 * 192], b[3 * 192];
    int32_t la[3], lb[3];
    fine(data_batch(&now.train, ids, 3, NULL, NULL, 0, a, la, &error));
    fine(data_batch(&later.train, ids, 3, NULL, NULL, 0, b, lb, &error));
    assert_memory_equal(a, b, sizeof a);
    assert_memory_equal(la, lb, sizeof la);
    float mean[2][3], std[2][3];
    fine(data_statistics(&now.train, mean[0], std[0], &error));
    fine(data_statistics(&later.train, mean[1], std[1], &error));
    assert_memory_equal(mean[0], mean[1], sizeof mean[0]);
    assert_memory_equal(std[0], std[1], sizeof std[0]);
    data_pair_free(&now);
    data_pair_free(&later);
    r.n_class_names = 3;
    refused(&r, "has 2 classes, the model has labels for 3");
    r = request(CNNC_DATA_FOLDER, "/nowhere", small_shape);
    refused(&r, "there is no folder");
    r.path = DATA "pictures/train/cat";
    refused(&r, "has no sub-folders");
}

static void folder_mistakes(void **state)
{
    (void)state;
    mkdir(in_temp("set"), 0777);
    mkdir(in_temp("set/b"), 0777);
    mkdir(in_temp("set/a"), 0777);
    mkdir(in_temp("set/.hidden"), 0777);
    write_text("set/a/x.pgm", "P2 1 1 255 9", 12);
    DataRequest r = request(CNNC_DATA_FOLDER, in_temp("set"), grey_shape);
    char *path = strdup(r.path);
    r.path = path;
    refused(&r, "class 'b' in");
    write_text("set/b/y.pgm", "P2 1 1 255 7", 12);
    DataPair p;
    fine(data_open(&r, &p, &error));
    assert_true(p.train.n == 2 && !p.has_valid && p.train.u8[23] == 9 && p.train.u8[47] == 7); /* grown to 4x6 */
    data_pair_free(&p);
    write_text("set/b/bad.png", "\x89PNG\r\n\x1a\n....", 12);
    write_text("set/a/bad.jpg", "JPEG", 4);
    refused(&r, "2 of 4 pictures cannot be read");
    assert_true(strstr(error.text, "a/bad.jpg") && strstr(error.text, "b/bad.png"));
    free(path);
}

/* ---- npy ---- */

static void npy_pairs(void **state)
{
    (void)state;
    char x[160], y[160];
    strcpy(x, in_temp("x.npy"));
    strcpy(y, in_temp("y.npy"));
    const uint8_t pixels[48] = {255, 51};
    const int64_t labels[2] = {1, 9};
    fine(npy_write(x, NPY_U8, 3, (const int64_t[]){2, 4, 6}, pixels, &error));
    fine(npy_write(y, NPY_I64, 1, (const int64_t[]){2}, labels, &error));
    DataRequest r = request(CNNC_DATA_NPY, x, grey_shape);
    refused(&r, "needs two files");
    r.path2 = y;
    DataPair p;
    fine(data_open(&r, &p, &error)); /* a channel axis is added */
    assert_true(p.train.n == 2 && p.train.rank == 3 && p.train.labels[1] == 9 && !p.has_valid);
    float v[24];
    fine(data_sample(&p.train, 0, v, &error));
    assert_true(v[0] == 1 && v[1] == 0.2f && v[2] == 0);
    data_pair_free(&p);
    r.regression = true;
    r.n_outputs = 1;
    fine(data_open(&r, &p, &error));
    assert_true(p.train.targets[1] == 9 && p.train.target == 1 && !p.train.labels);
    data_pair_free(&p);
    r.n_outputs = 3;
    refused(&r, "1 target values per sample, the model has 3 outputs");
    r = request(CNNC_DATA_NPY, x, grey_shape);
    r.path2 = x;
    refused(&r, "one class id per sample");
    fine(npy_write(y, NPY_I64, 1, (const int64_t[]){1}, labels, &error));
    r.path2 = y;
    refused(&r, "has 2 samples");
    fine(npy_write(y, NPY_I64, 1, (const int64_t[]){2}, (const int64_t[]){1, -1}, &error));
    refused(&r, "class id -1 of sample 1");
}

/* ---- batches ---- */

static void normalised_as_torchvision(void **state)
{
    (void)state;
    uint8_t all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    Dataset d = {.n = 1, .rank = 3, .shape = {1, 16, 16}, .sample = 256, .u8 = all};
    FILE *f = fopen(DATA "norm.txt", "r");
    assert_non_null(f);
    char line[128];
    while (fgets(line, sizeof line, f)) {
        float mean, std, x[256];
        uint64_t sum;
        assert_int_equal(sscanf(line, "%f %f %" SCNx64, &mean, &std, &sum), 3);
        const DataNorm norm = {1, &mean, &std};
        fine(data_batch(&d, (const int64_t[]){0}, 1, &norm, NULL, 0, x, NULL, &error));
        assert_true(fnv(x, sizeof x) == sum);
    }
    fclose(f);
}

/* A batch made with augmentation, written out the long way. */
static void augmented(void **state)
{
    (void)state;
    enum { C = 2, H = 5, W = 7, N = 200 };
    static uint8_t pixels[C * H * W];
    static float floats[C * H * W];
    for (int i = 0; i < C * H * W; i++) {
        pixels[i] = (uint8_t)(i + 1);
        floats[i] = (float)(i + 1) / 255.0f;
    }
    Dataset d = {.n = 1, .rank = 3, .shape = {C, H, W}, .sample = C * H * W, .u8 = pixels}, df = d;
    df.u8 = NULL;
    df.f32 = floats;
    const CnncAugment steps[] = {{CNNC_AUG_VFLIP, {0.5}}, {CNNC_AUG_CROP, {4, 6, 2}}, {CNNC_AUG_HFLIP, {1}}};
    const AugmentPlan plan = {steps, 3, 1};
    const float mean[] = {0.5f, 0.25f}, std[] = {0.5f, 2};
    const DataNorm norm = {2, mean, std};
    bool flipped[2] = {false, false};
    for (int64_t epoch = 0; epoch < N; epoch++) {
        float x[C * 4 * 6], xf[C * 4 * 6];
        fine(data_batch(&d, (const int64_t[]){0}, 1, &norm, &plan, epoch, x, NULL, &error));
        fine(data_batch(&df, (const int64_t[]){0}, 1, &norm, &plan, epoch, xf, NULL, &error));
        AugmentView v = augment_draw(&plan, epoch, 0, H, W);
        flipped[v.dy < 0] = true;
        for (int c = 0; c < C; c++)
            for (int y = 0; y < 4; y++)
                for (int i = 0; i < 6; i++) {
                    int64_t sy = v.y0 + y * v.dy, sx = v.x0 + i * v.dx;
                    float want = sy < 0 || sy >= H || sx < 0 || sx >= W ? 0 : (float)pixels[c * H * W + sy * W + sx] / 255.0f;
                    assert_true(x[c * 24 + y * 6 + i] == (want - mean[c]) / std[c]);
                    assert_true(xf[c * 24 + y * 6 + i] == (want - mean[c]) / std[c]);
                }
    }
    assert_true(flipped[0] && flipped[1]);
    /* without a plan, larger pictures give their middle */
    d.crop[0] = 3;
    d.crop[1] = 3;
    float x[C * 9];
    fine(data_batch(&d, (const int64_t[]){0}, 1, NULL, NULL, 0, x, NULL, &error));
    assert_true(x[0] == (float)(1 + W + 2) / 255.0f && x[9] == (float)(1 + H * W + W + 2) / 255.0f);
}

static void views(void **state)
{
    (void)state;
    DataRequest r = request(CNNC_DATA_DIGITS, "examples/data", digit_shape);
    r.want_valid = false;
    DataPair p;
    Rng g;
    rng_seed(&g, 3);
    fine(data_open(&r, &p, &error));
    fine(data_split(&p, 0.25, &g, &error));
    assert_true(p.train.n == 4500 && p.valid.n == 1500 && p.has_valid);
    static char seen[6000];
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < 6000; i++)
        seen[i < 4500 ? p.train.rows[i] : p.valid.rows[i - 4500]]++;
    assert_true(memchr(seen, 0, sizeof seen) == NULL && memchr(seen, 2, sizeof seen) == NULL);
    int32_t label;
    float x[784];
    fine(data_batch(&p.valid, (const int64_t[]){7}, 1, NULL, NULL, 0, x, &label, &error));
    assert_int_equal(label, p.train.labels[p.valid.rows[7]]);
    assert_true(x[14 * 28 + 14] == (float)p.train.u8[p.valid.rows[7] * 784 + 14 * 28 + 14] / 255.0f);
    data_truncate(&p.train, 10);
    assert_int_equal(p.train.n, 10);
    DataPair tiny = {.train = {.n = 3}};
    assert_false(data_split(&tiny, 0.1, &g, &error));
    data_pair_free(&p);
}

/* ---- broken files: any answer but a crash ---- */

static uint32_t dice(uint32_t *s) { return (*s = *s * 1664525u + 1013904223u) >> 8; }

/* CNNC_FUZZ_ROUNDS raises the number of mutations of each file. */
static void mutated_sets(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        CnncData kind;
    } sets[] = {
        {DATA "cifar-10-batches-py/test_batch", "test_batch", CNNC_DATA_CIFAR10},
        {DATA "cifar-10-batches-py/data_batch_1", "test_batch", CNNC_DATA_CIFAR10},
        {DATA "cifar-10-batches-py/data_batch_3", "test_batch", CNNC_DATA_CIFAR10},
        {DATA "cifar-10-batches-py/data_batch_4", "test_batch", CNNC_DATA_CIFAR10},
        {DATA "cifar-100-python/meta", "meta", CNNC_DATA_CIFAR100},
        {"examples/data/t10k-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz", CNNC_DATA_MNIST},
        {"examples/data/t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz", CNNC_DATA_MNIST},
    };
    const char *rounds = getenv("CNNC_FUZZ_ROUNDS");
    uint32_t seed = rounds ? (uint32_t)getpid() : 1;
    FileBytes f;
    fine(file_read(DATA "cifar-100-python/test", &f, &error));
    write_text("test", f.at, f.len);
    file_free(&f);
    fine(file_read("examples/data/t10k-labels-idx1-ubyte.gz", &f, &error));
    write_text("t10k-labels-idx1-ubyte.gz", f.at, f.len);
    file_free(&f);
    for (size_t k = 0; k < sizeof sets / sizeof *sets; k++) {
        fine(file_read(sets[k].from, &f, &error));
        for (int i = rounds ? atoi(rounds) : 100; i--;) {
            size_t len = dice(&seed) % 4 ? f.len : dice(&seed) % f.len;
            uint8_t *copy = malloc(len + 1);
            memcpy(copy, f.at, len);
            for (uint32_t hits = 1 + dice(&seed) % 3; hits-- && len;)
                copy[dice(&seed) % 2 ? dice(&seed) % len : dice(&seed) % (len < 200 ? len : 200)] = (uint8_t)dice(&seed);
            FILE *to = fopen(in_temp(sets[k].to), "wb"); /* plainly: these are many */
            fwrite(copy, 1, len, to);
            fclose(to);
            free(copy);
            DataRequest r = request(sets[k].kind, temp, sets[k].kind == CNNC_DATA_MNIST ? digit_shape : colour_shape);
            r.n_outputs = 0;
            r.want_train = false;
            DataPair p;
            if (data_open(&r, &p, &error))
                data_pair_free(&p);
        }
        file_free(&f);
    }
}

static int make_temp(void **state)
{
    (void)state;
    snprintf(temp, sizeof temp, "/tmp/cnnc-test-XXXXXX");
    return mkdtemp(temp) == NULL;
}

static int remove_temp(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", temp);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digits),
        cmocka_unit_test(mnist_folders_and_mistakes),
        cmocka_unit_test(cifar_binary_is_pickled),
        cmocka_unit_test(picture_folder),
        cmocka_unit_test(folder_mistakes),
        cmocka_unit_test(npy_pairs),
        cmocka_unit_test(normalised_as_torchvision),
        cmocka_unit_test(augmented),
        cmocka_unit_test(views),
        cmocka_unit_test(mutated_sets),
    };
    return cmocka_run_group_tests(tests, make_temp, remove_temp);
}
