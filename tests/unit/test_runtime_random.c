/* Initial values and orders against tests/unit/data/random.txt, which PyTorch wrote. */
#include "runtime/augment.h"
#include "runtime/data.h"
#include "runtime/init.h"
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t fnv(const void *bytes, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const uint8_t *p = bytes; n--; p++)
        h = (h ^ *p) * UINT64_C(0x100000001b3);
    return h;
}

static void check_tensor(const char *line, Rng *g)
{
    char name[64], kind[16];
    int fan, rank, used;
    float first;
    uint64_t sum;
    assert_int_equal(sscanf(line, "tensor %63s %15s %d %f %" SCNx64 " %d%n", name, kind, &fan, &first, &sum, &rank, &used), 6);
    bool counter = strstr(name, "num_batches_tracked") != NULL;
    CnncTensor t = {.name = name, .rank = rank, .dtype = counter ? CNNC_I64 : CNNC_F32, .init = 3, .bound = (double)first};
    for (int d = 0; d < rank; d++) {
        t.shape[d] = strtoll(line + used, (char **)&line, 10);
        used = 0;
    }
    if (fan) {
        t.init = 0;
        t.bound = kind[0] == 'w' ? sqrt(3) * (sqrt(2.0 / (1 + 5)) / sqrt(fan)) : 1 / sqrt(fan);
    }
    size_t bytes = (size_t)tensor_bytes(&t);
    float *out = malloc(bytes + 4);
    init_tensor(&t, g, out);
    if (fnv(out, bytes) != sum)
        fail_msg("%s: other values than PyTorch's; the first is %.9g, not %.9g", name, (double)out[0], (double)first);
    free(out);
}

static void check_order(const char *line, Rng *g)
{
    unsigned long long seed;
    long long n, first;
    int shuffle, epoch;
    uint64_t sum;
    bool is_epoch = sscanf(line, "epoch %llu %lld %d %d %" SCNx64 " %lld", &seed, &n, &shuffle, &epoch, &sum, &first) == 6;
    if (!is_epoch)
        assert_int_equal(sscanf(line, "perm %llu %lld %" SCNx64 " %lld", &seed, &n, &sum, &first), 4);
    int64_t *ids = malloc((size_t)n * sizeof *ids);
    if (!is_epoch || epoch == 0)
        rng_seed(g, seed);
    if (is_epoch)
        rng_epoch_order(g, shuffle, n, ids);
    else
        rng_permutation(g, n, ids);
    assert_int_equal(ids[0], first);
    assert_true(fnv(ids, (size_t)n * sizeof *ids) == sum);
    free(ids);
}

static void check_split(const char *line)
{
    unsigned long long seed;
    long long a, b;
    uint64_t sum_a, sum_b;
    assert_int_equal(sscanf(line, "split %llu %lld %lld %" SCNx64 " %" SCNx64, &seed, &a, &b, &sum_a, &sum_b), 5);
    DataPair pair = {.train = {.n = a + b}};
    Rng g;
    RtError e;
    rng_seed(&g, seed);
    assert_true(data_split(&pair, 0.1, &g, &e));
    assert_int_equal(pair.train.n, a);
    assert_int_equal(pair.valid.n, b);
    assert_true(fnv(pair.train.rows, (size_t)a * 8) == sum_a);
    assert_true(fnv(pair.valid.rows, (size_t)b * 8) == sum_b);
    data_pair_free(&pair);
}

static void as_pytorch(void **state)
{
    (void)state;
    FILE *f = fopen("tests/unit/data/random.txt", "r");
    assert_non_null(f);
    char line[256];
    Rng g;
    int lines = 0;
    float after, got;
    for (; fgets(line, sizeof line, f); lines++) {
        if (strncmp(line, "net ", 4) == 0) {
            rng_seed(&g, strtoull(line + 4, NULL, 10));
        } else if (strncmp(line, "tensor ", 7) == 0) {
            check_tensor(line, &g);
        } else if (strncmp(line, "split ", 6) == 0) {
            check_split(line);
        } else if (sscanf(line, "after %f", &after) == 1) {
            rng_uniform(&g, 0, 1, &got, 1);
            assert_true(got == after);
        } else {
            check_order(line, &g);
        }
    }
    fclose(f);
    assert_true(lines > 40);
}

static void known_numbers(void **state)
{
    (void)state;
    Rng g;
    float v[3];
    rng_seed(&g, 5489);
    assert_int_equal(rng_u32(&g), 3499211612u); /* the reference implementation's first output */
    rng_seed(&g, UINT64_C(0xffffffff00000000));
    rng_uniform(&g, 0, 1, v, 3);
    assert_true(v[0] == .49625659f && v[1] == .76822180f && v[2] == .08847743f);
}

static void state_block(void **state)
{
    (void)state;
    const float filter[2] = {-1, 1};
    const CnncTensor t[] = {
        {.name = "w", .rank = 2, .shape = {3, 2}, .offset = 0, .init = 4, .values = filter, .n_values = 2},
        {.name = "count", .dtype = CNNC_I64, .rank = 0, .offset = 64, .init = 1},
        {.name = "v", .rank = 1, .shape = {1}, .offset = 128, .init = 2},
    };
    char block[192];
    memset(block, 0x55, sizeof block);
    Rng g, before;
    rng_seed(&g, 1);
    before = g;
    init_state(t, 3, &g, block, sizeof block);
    const float *w = (const float *)block;
    assert_true(w[0] == -1 && w[1] == 1 && w[4] == -1 && w[5] == 1 && w[6] == 0 && w[32] == 1);
    assert_memory_equal(&g, &before, sizeof g); /* nothing was drawn */
}

static void augment_is_a_function(void **state)
{
    (void)state;
    const CnncAugment steps[] = {{CNNC_AUG_CROP, {8, 8, 2}}, {CNNC_AUG_HFLIP, {0.5}}};
    AugmentPlan p = {steps, 2, 7};
    RtError e;
    int64_t h, w;
    int flips = 0, places[5] = {0};
    assert_true(augment_out_size(&p, 8, 8, &h, &w, &e));
    assert_true(h == 8 && w == 8);
    for (int i = 0; i < 10000; i++) {
        AugmentView v = augment_draw(&p, 3, i, 8, 8), again = augment_draw(&p, 3, i, 8, 8);
        assert_true(v.y0 == again.y0 && v.x0 == again.x0 && v.dx == again.dx);
        flips += v.dx < 0;
        assert_true(v.dy == 1 && v.y0 >= -2 && v.y0 <= 2);
        int64_t left = v.dx > 0 ? v.x0 : v.x0 - 7;
        assert_true(left >= -2 && left <= 2);
        places[left + 2]++;
    }
    assert_true(flips > 4700 && flips < 5300);
    for (int i = 0; i < 5; i++)
        assert_true(places[i] > 1800 && places[i] < 2200);
    const CnncAugment large[] = {{CNNC_AUG_CROP, {20, 20, 2}}};
    p = (AugmentPlan){large, 1, 7};
    assert_false(augment_out_size(&p, 8, 8, &h, &w, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_numbers), cmocka_unit_test(as_pytorch),
                                       cmocka_unit_test(state_block), cmocka_unit_test(augment_is_a_function)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
