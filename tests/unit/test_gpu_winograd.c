/* Convolutions by Winograd on GPUs: random sizes against the reference interpreter, forward, both gradients, samples short of the
 * batch; GPUs of one to a hundred multiprocessors, so that every tile is taken, and channels are cut into slices. */
#include "codegen/gpu/plan.h"
#include "tests/gpu/target.h"


enum { NETS = 14 };

typedef struct { int forms[2], of_five, gradients, cut, blocks[64]; } Taken;   /* launches: by form, of weight gradients, cut into slices, by rows and columns */

static void count(const Function *f, Taken *n)
{
    for (int i = 0; f && i < f->gpu->n_launches; i++) {
        const GpuBody *b = &f->gpu->launches[i].body[0];
        const GpuWinograd *g = b->form == GPU_CONTRACT ? b->contract->winograd : NULL;
        if (!g)
            continue;
        n->forms[g->form->m == 4]++;
        n->gradients += g->of_weights;
        n->of_five += g->form->r == 5;
        n->cut += b->contract->slices > 1;
        n->blocks[(g->form->m == 4) << 5 | b->contract->rows / 8 << 2 | (b->contract->cols / 16 - 1)]++;
    }
}

static void *count_and_load(Arena *a, Program *p, const EmitTarget *t, const char *net, const CnncModel **model)
{
    count(p->step, (Taken *)(uintptr_t)t->ctx);
    count(p->infer, (Taken *)(uintptr_t)t->ctx);
    return gpu_load(a, p, t, net, model);
}

static uint32_t seed;
static int pick(int n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int)(seed >> 9) % n;
}

static const char *some_conv(Arena *a)
{
    static const int filters[] = {16, 20, 32, 36, 48, 64, 68, 72};
    static const char *const after[] = {"act ReLU; ", "bn; act SiLU; ", "act Tanh; ", "bn; act Sigmoid; "};
    int k = pick(4) ? 3 : 5;
    return arena_printf(a, "conv out=%d k=%d p=%d b=%d; %s", filters[pick(ARRAY_LEN(filters))], k, pick(k), pick(2), after[pick(ARRAY_LEN(after))]);
}

static void test_random_convolutions(void **unused)
{
    (void)unused;
    static const int multiprocessors[] = {1, 4, 30, 132}, families[] = {80, 90};
    Taken n = {0};
    for (uint32_t i = 0; i < NETS; i++) {
        Arena *a = arena_new();
        seed = i * 2654435761u + 1;
        GpuTarget gpu = *gpu_target(families[i % 2]);
        gpu.multiprocessors = multiprocessors[i / 2 % ARRAY_LEN(multiprocessors)];
        Case c = {.input = shape_of(3, 20 + pick(40), 10 + pick(9), 9 + pick(12)), .train = "train opt=sgd lr=0.05 momentum=0.9"};
        c.net = arena_printf(a, "%s%sres{conv out=40 k=1; conv out=40 k=3 p=1}{conv out=40 k=1}; act ReLU; aavg; flatten; linear out=5", some_conv(a),
                             some_conv(a));
        EmitTarget t = gpu_emit_target(families[i % 2]);
        t.options.plan_ctx = &gpu;
        t.load = count_and_load;
        t.ctx = &n;
        int64_t batch = (i % 3 == 0) + 1 + pick(3);
        if (i % 3 == 0)
            check_step(a, &c, &t, batch);
        else
            check_infer(a, &c, &t, batch);
        arena_free(a);
    }
    for (int i = 0; i < 64; i++)
        if (n.blocks[i] && getenv("SHOW_BLOCKS"))
            print_message("F(%d) %d rows, %d columns: %d\n", i >> 5 ? 4 : 2, (i >> 2 & 7) * 8, (i % 4 + 1) * 16, n.blocks[i]);
    assert_true(n.forms[0] > 0 && n.forms[1] > 0 && n.gradients > 0 && n.of_five > 0 && n.cut > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_convolutions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
