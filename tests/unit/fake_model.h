/* A model whose stages are written by hand, for tests of the runtime: a linear classifier, softmax cross entropy, SGD with
 * momentum. Its sums are in slice order, its noise comes from the step's seed, as in generated code. Samples: F floats. */
#ifndef TESTS_FAKE_MODEL_H
#define TESTS_FAKE_MODEL_H
#include "runtime/abi.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { F = 12, C = 4, BATCH = 16, PER_SLICE = 4, SLICES = BATCH / PER_SLICE, W_AT = 0, B_AT = 256, VW_AT = 320, VB_AT = 576, COUNT_AT = 640, STATE = 704 };
typedef struct { float w[C][F], b[C], loss, correct; } FakePartial;

static void fake_logits(const float *w, const float *b, const float *x, float *y)
{
    for (int c = 0; c < C; c++) {
        y[c] = b[c];
        for (int f = 0; f < F; f++)
            y[c] += w[c * F + f] * x[f];
    }
}

static void fake_forward(const CnncArgs *a, char *scratch, int64_t slice)
{
    (void)scratch;
    for (int64_t i = slice * PER_SLICE; i < a->n && i < (slice + 1) * PER_SLICE; i++)
        fake_logits((const float *)(a->state + W_AT), (const float *)(a->state + B_AT), a->in + i * F, a->out + i * C);
}

static void fake_gradient(const CnncArgs *a, char *scratch, int64_t slice)
{
    FakePartial *p = (FakePartial *)a->work + slice;
    float *y = (float *)scratch;
    memset(p, 0, sizeof *p);
    for (int64_t i = slice * PER_SLICE; i < a->n && i < (slice + 1) * PER_SLICE; i++) {
        const float *x = a->in + i * F;
        int32_t label = ((const int32_t *)a->labels)[i], best = 0;
        fake_logits((const float *)(a->state + W_AT), (const float *)(a->state + B_AT), x, y);
        float sum = 0, top = y[0];
        for (int c = 1; c < C; c++)
            if (y[c] > top)
                top = y[best = c];
        float at_label = y[label];
        for (int c = 0; c < C; c++)
            sum += y[c] = expf(y[c] - top);
        p->loss += logf(sum) + top - at_label;
        p->correct += best == label;
        for (int c = 0; c < C; c++) {
            float g = (y[c] / sum - (float)(c == label)) / (float)a->n;
            p->b[c] += g;
            for (int f = 0; f < F; f++)
                p->w[c][f] += g * x[f];
        }
    }
}

static void fake_update_one(const CnncArgs *a, float *p, float *v, float g)
{
    uint32_t seed;
    memcpy(&seed, &a->scalars[CNNC_SC_SEED], sizeof seed);
    g *= 1 + (float)(seed & 15) * 1e-3f;
    *v = a->scalars[CNNC_SC_FIRST] != 0 ? g : a->scalars[CNNC_SC_MOMENTUM] * *v + g;
    *p -= a->scalars[CNNC_SC_LR] * *v;
}

static void fake_update(const CnncArgs *a, char *scratch, int64_t slice)
{
    (void)scratch;
    (void)slice;
    const FakePartial *p = (const FakePartial *)a->work;
    int64_t used = (a->n + PER_SLICE - 1) / PER_SLICE;
    float loss = 0, correct = 0;
    for (int i = 0; i < C * F + C; i++) {
        bool bias = i >= C * F;
        float g = 0;
        for (int64_t s = 0; s < used; s++)
            g += bias ? p[s].b[i - C * F] : (&p[s].w[0][0])[i];
        fake_update_one(a, (float *)(a->state + (bias ? B_AT : W_AT)) + (bias ? i - C * F : i),
                        (float *)(a->state + (bias ? VB_AT : VW_AT)) + (bias ? i - C * F : i), g);
    }
    for (int64_t s = 0; s < used; s++) {
        loss += p[s].loss;
        correct += p[s].correct;
    }
    ++*(int64_t *)(a->state + COUNT_AT);
    a->results[CNNC_RES_LOSS] = loss / (float)a->n;
    a->results[CNNC_RES_CORRECT] = correct;
}

static const CnncStage fake_step_stages[] = {
    {fake_gradient, SLICES, PER_SLICE, 0, 0, "gradient", 1e6, BATCH * 1e6, 1e4},   /* large enough to share */
    {fake_update, 1, 0, 0, 0, "update", 0, 0, 1e3},
};
static const CnncStage fake_eval_stages[] = {{fake_forward, SLICES, PER_SLICE, 0, 0, "forward", 1e6, BATCH * 1e6, 1e4}};
static const CnncFunction fake_step = {
    .stages = fake_step_stages, .n_stages = 2, .batch = BATCH, .work_bytes = SLICES * sizeof(FakePartial), .scratch_bytes = C * sizeof(float)};
static const CnncFunction fake_eval = {.stages = fake_eval_stages, .n_stages = 1, .batch = BATCH};
static const CnncTensor fake_tensors[] = {
    {.name = "0.weight", .rank = 2, .shape = {C, F}, .offset = W_AT, .role = CNNC_ROLE_PARAM, .init = 0, .bound = 0.28867513459481287},
    {.name = "0.bias", .rank = 1, .shape = {C}, .offset = B_AT, .role = CNNC_ROLE_PARAM, .init = 0, .bound = 0.28867513459481287},
    {.name = "0.steps", .dtype = CNNC_I64, .offset = COUNT_AT, .role = CNNC_ROLE_BUFFER, .init = 1},
    {.name = "optimizer.momentum.0.weight", .rank = 2, .shape = {C, F}, .offset = VW_AT, .role = CNNC_ROLE_OPTIMIZER, .init = 1},
    {.name = "optimizer.momentum.0.bias", .rank = 1, .shape = {C}, .offset = VB_AT, .role = CNNC_ROLE_OPTIMIZER, .init = 1},
};
static const CnncLayer fake_layers[] = {{"0", "Linear", 1, {C}, C * F, C * F + C}};
static const char *const fake_classes[] = {"ant", "bee", "cat", "do\"g"};

static CnncTrain fake_train(void)
{
    return (CnncTrain){.data = CNNC_DATA_NPY, .epochs = 3, .batch_size = BATCH, .seed = 5, .shuffle = 1, .valid_fraction = 0.2,
                       .optimizer = CNNC_OPT_SGD, .lr = 0.1, .momentum = 0.9, .schedule = CNNC_SCHED_CONSTANT};
}

static CnncModel fake_model(const CnncTrain *train)
{
    return (CnncModel){.abi_version = CNNC_ABI_VERSION, .name = "fake", .version = "0", .cpu = "", .features = "",
                       .in_rank = 1, .in_shape = {F}, .out_rank = 1, .out_shape = {C}, .n_classes = C, .class_names = fake_classes,
                       .tensors = fake_tensors, .n_tensors = 5, .state_bytes = STATE, .layers = fake_layers, .n_layers = 1,
                       .eval = &fake_eval, .step = &fake_step, .train = train};
}
#endif
