/* 300 random nets, their training steps in float32 and their evaluation in every precision as CUDA text on a CPU, against the reference interpreter: layers in
 * any order, sizes that divide nothing, every optimizer. The generator is seeded by the net's number. */
#include "tests/gpu/target.h"

enum { NETS = 150 };   /* each trained and evaluated */

typedef struct { uint32_t seed; Arena *a; const char *text; int64_t c, h, w; } Maker;

static int pick(Maker *m, int n)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return (int)(m->seed >> 9) % n;
}

static void add(Maker *m, const char *layer) { m->text = *m->text ? arena_printf(m->a, "%s; %s", m->text, layer) : layer; }

static void add_conv(Maker *m)
{
    int k = 1 + pick(m, 3), s = 1 + pick(m, 2), p = pick(m, k), g = pick(m, 4) ? 1 : (int)m->c, out = (1 + pick(m, 5)) * g;
    if (m->h + 2 * p < k || m->w + 2 * p < k || out > 40)
        return;
    add(m, arena_printf(m->a, "conv out=%d k=%d s=%d p=%d g=%d b=%d", out, k, s, p, g, pick(m, 2)));
    m->c = out;
    m->h = (m->h + 2 * p - k) / s + 1;
    m->w = (m->w + 2 * p - k) / s + 1;
}

static void add_pool(Maker *m)
{
    int k = 2 + pick(m, 2), s = 1 + pick(m, k), p = pick(m, 2);
    if (m->h < k || m->w < k)
        return;
    add(m, arena_printf(m->a, "%s k=%d s=%d p=%d", pick(m, 2) ? "maxpool" : "avgpool", k, s, p));
    m->h = (m->h + 2 * p - k) / s + 1;
    m->w = (m->w + 2 * p - k) / s + 1;
}

static void add_layer(Maker *m)
{
    static const char *const acts[] = {"ReLU", "SiLU", "GELU", "Tanh", "ELU", "Hardswish", "LeakyReLU", "Softplus", "PReLU", "Sigmoid"};
    switch (pick(m, 7)) {
    case 0: add_pool(m); return;
    case 1: add(m, arena_printf(m->a, "act %s", acts[pick(m, ARRAY_LEN(acts))])); return;
    case 2: add(m, m->h * m->w > 3 ? "bn" : "act ReLU6"); return;
    case 3: add(m, arena_printf(m->a, "dropout p=0.%d", 1 + pick(m, 6))); return;
    case 4: add(m, arena_printf(m->a, "res{conv out=%d k=3 p=1; act ReLU}{}", (int)m->c)); return;
    default: add_conv(m); return;
    }
}

static const char *make_net(Maker *m)
{
    for (int i = 2 + pick(m, 4); i > 0; i--)
        add_layer(m);
    add(m, "flatten");
    if (pick(m, 2))
        add(m, arena_printf(m->a, "linear out=%d; act ReLU", 2 + pick(m, 30)));
    add(m, arena_printf(m->a, "linear out=%d", 2 + pick(m, 9)));
    return m->text;
}

static const char *make_training(Maker *m)
{
    static const char *const optimizers[] = {"sgd lr=0.05 momentum=0.9 wd=0.01", "sgd lr=0.1 momentum=0.8 nesterov=1", "adam lr=0.01",
                                             "adamw lr=0.01 wd=0.1", "rmsprop lr=0.01 momentum=0.5"};
    return arena_printf(m->a, "train opt=%s", optimizers[pick(m, ARRAY_LEN(optimizers))]);
}

static void test_random_nets(void **unused)
{
    (void)unused;
    static const int families[] = {80, 90, 100};
    for (uint32_t i = 0; i < NETS; i++) {
        Maker m = {.seed = i * 2654435761u + 1, .a = arena_new(), .text = "", .c = 1 + i % 4, .h = 5 + i % 9, .w = 4 + i % 7};
        Case c = {.input = shape_of(3, m.c, m.h, m.w)};
        c.net = make_net(&m);
        c.train = make_training(&m);
        int64_t batch = 2 + pick(&m, 7);
        EmitTarget t = gpu_emit_target(families[i % 3]);
        TrainSpec spec = case_spec(&c);
        check_steps_of(m.a, &c, &spec, case_step(m.a, &c, batch), &t, 1);
        t = gpu_emit_target_in(families[i % 3], (Precision)(i / 3 % 3));
        check_infer(m.a, &c, &t, batch);
        arena_free(m.a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_nets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
