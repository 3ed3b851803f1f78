/* elaborate_train.c: the train block.
 * In: its settings. Out: Module.train.
 * Invariant: every number of CnncTrain is in the range that the optimizer, loss and schedule are defined for; what was
 * not written has PyTorch's default.
 * The idea: SGD(...), MNIST(...) and the like have signatures like layers and are matched by the same code. */
#include "frontend/elaborate_impl.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- calls with signatures ---- */

/* clang-format off */
#define REQ(name, kind) {name, ARG_##kind, NULL, false}
#define OPT(name, kind, def) {name, ARG_##kind, def, false}
#define SETTING(name, nd, ...) {name, LAYER_SETTING, NULL, nd, (const ArgSpec[]){__VA_ARGS__}, (int)(sizeof((const ArgSpec[]){__VA_ARGS__}) / sizeof(ArgSpec))}
#define FOLDER_ARGS REQ("root", WORD), OPT("train", ANY, "None"), OPT("transform", ANY, "None"), OPT("target_transform", ANY, "None"), OPT("download", ANY, "None")
#define SCHEDULE_REST OPT("last_epoch", ANY, "None")

static const LayerSpec data_specs[] = {   /* in the order of CnncData, from CNNC_DATA_MNIST */
    SETTING("MNIST", 0, FOLDER_ARGS),
    SETTING("FashionMNIST", 0, FOLDER_ARGS),
    SETTING("CIFAR10", 0, FOLDER_ARGS),
    SETTING("CIFAR100", 0, FOLDER_ARGS),
    SETTING("ImageFolder", 2, REQ("root", WORD), OPT("size", SIZES_OR_NONE, "None")),
    SETTING("Npy", 0, REQ("x", WORD), REQ("y", WORD), OPT("valid_x", WORD, "''"), OPT("valid_y", WORD, "''"), OPT("valid", NUMBER, "0.0")),
    {"Digits", LAYER_SETTING, NULL, 0, NULL, 0},
};
static const LayerSpec loss_specs[] = {
    SETTING("CrossEntropyLoss", 0, OPT("weight", ANY, "None"), OPT("size_average", ANY, "None"), OPT("ignore_index", INT, "-100"), OPT("reduce", ANY, "None"),
            OPT("reduction", WORD, "'mean'"), OPT("label_smoothing", NUMBER, "0.0")),
    SETTING("MSELoss", 0, OPT("size_average", ANY, "None"), OPT("reduce", ANY, "None"), OPT("reduction", WORD, "'mean'")),
};
#define ADAM_ARGS(decay) OPT("lr", NUMBER, "0.001"), OPT("betas", ANY, "None"), OPT("eps", NUMBER, "1e-08"), OPT("weight_decay", NUMBER, decay), OPT("amsgrad", BOOL, "False")
static const LayerSpec optimizer_specs[] = {   /* in the order of CnncOptimizer */
    SETTING("SGD", 0, OPT("lr", NUMBER, "0.001"), OPT("momentum", NUMBER, "0.0"), OPT("dampening", NUMBER, "0.0"), OPT("weight_decay", NUMBER, "0.0"),
            OPT("nesterov", BOOL, "False")),
    SETTING("Adam", 0, ADAM_ARGS("0.0")),
    SETTING("AdamW", 0, ADAM_ARGS("0.01")),
    SETTING("RMSprop", 0, OPT("lr", NUMBER, "0.01"), OPT("alpha", NUMBER, "0.99"), OPT("eps", NUMBER, "1e-08"), OPT("weight_decay", NUMBER, "0.0"),
            OPT("momentum", NUMBER, "0.0"), OPT("centered", BOOL, "False")),
};
static const LayerSpec schedule_specs[] = {   /* in the order of CnncSchedule, from CNNC_SCHED_STEP */
    SETTING("StepLR", 0, REQ("step_size", INT), OPT("gamma", NUMBER, "0.1"), SCHEDULE_REST),
    SETTING("MultiStepLR", 0, {"milestones", ARG_FILTER, NULL, false}, OPT("gamma", NUMBER, "0.1"), SCHEDULE_REST),
    SETTING("ExponentialLR", 0, REQ("gamma", NUMBER), SCHEDULE_REST),
    SETTING("CosineAnnealingLR", 0, OPT("T_max", INT_OR_NONE, "None"), OPT("eta_min", NUMBER, "0.0"), SCHEDULE_REST),
    SETTING("OneCycleLR", 0, REQ("max_lr", NUMBER), OPT("total_steps", ANY, "None"), OPT("epochs", ANY, "None"), OPT("steps_per_epoch", ANY, "None"),
            OPT("pct_start", NUMBER_OR_NONE, "None"), OPT("anneal_strategy", WORD, "'cos'"), OPT("cycle_momentum", BOOL, "True"),
            OPT("base_momentum", NUMBER, "0.85"), OPT("max_momentum", NUMBER, "0.95"), OPT("div_factor", NUMBER, "25.0"),
            OPT("final_div_factor", NUMBER_OR_NONE, "None"), OPT("three_phase", BOOL, "False"), SCHEDULE_REST, OPT("style", WORD, "'torch'")),
    SETTING("ReduceLROnPlateau", 0, OPT("mode", WORD, "'min'"), OPT("factor", NUMBER, "0.1"), OPT("patience", INT, "10"), OPT("threshold", NUMBER, "0.0001"),
            OPT("threshold_mode", WORD, "'rel'"), OPT("cooldown", INT, "0"), OPT("min_lr", NUMBER, "0.0"), OPT("eps", NUMBER, "1e-08")),
};
static const LayerSpec augment_specs[] = {   /* in the order of CnncAugmentKind */
    SETTING("RandomCrop", 2, REQ("size", SIZES), OPT("padding", SIZES, "0")),
    SETTING("RandomHorizontalFlip", 0, OPT("p", NUMBER, "0.5")),
    SETTING("RandomVerticalFlip", 0, OPT("p", NUMBER, "0.5")),
};
/* clang-format on */

/* Matches a setting's value with one of the calls. Returns its index; -1: reported. */
static int match_call(Elab *e, const Val *v, const char *what, const LayerSpec *specs, int n, LayerCall *out)
{
    const char *names[16] = {0}, *name = v->kind == VK_WORD ? v->s : v->kind == VK_CALL ? v->ast->text : NULL, *all = "";
    for (int i = 0; i < n; i++) {
        names[i] = specs[i].name;
        all = arena_printf(e->arena, "%s%s%s", all, i == 0 ? "" : i == n - 1 ? " or " : ", ", specs[i].name);
        if (!name || strcmp(specs[i].name, name) != 0)
            continue;
        Ast *call = NEW(e->arena, Ast); /* a bare name is a call without arguments */
        *call = v->kind == VK_CALL ? *v->ast : (Ast){.kind = AST_CALL, .text = name, .span = v->span, .text_span = v->span};
        *out = (LayerCall){.spec = &specs[i], .ast = call};
        return layer_arguments(e, e->globals, out) ? i : -1;
    }
    if (!name) {
        diag_error(e->diags, v->span, "E0402", "%s must be %s, not %s", what, all, val_kind_text(v));
        return -1;
    }
    diag_error(e->diags, v->span, "E0402", "unknown %s '%s'", what, name);
    const char *near = nearest_word(name, names);
    diag_help(e->diags, near ? "did you mean %s?" : "known are %s", near ? near : all);
    return -1;
}

static double number(const LayerCall *c, const char *name)
{
    double x = 0;
    val_number(layer_arg(c, name), &x);
    return x;
}

/* A number between low and high; false: reported. */
static bool ranged(Elab *e, const LayerCall *c, const char *name, double low, double high, double *out)
{
    const Val *v = layer_arg(c, name);
    double x = number(c, name);
    if (x >= low && x <= high) {
        *out = x;
        return true;
    }
    const char *limits =
        high >= INT32_MAX ? arena_printf(e->arena, "at least %g", low) : arena_printf(e->arena, "between %g and %g", low, high);
    return diag_error(e->diags, v->span, "E0403", "%s of %s must be %s, not %s", name, c->spec->name, limits,
                      val_text(e->arena, v));
}

/* ---- data ---- */

static const char *path_arg(Elab *e, const LayerCall *c, const char *name)
{
    const char *s = layer_arg(c, name)->s;
    return s[0] ? elaborate_path(e->arena, e->options->folder, s) : NULL;
}

static void set_data(Elab *e, const Val *v)
{
    CnncTrain *t = &e->module->train.train;
    LayerCall c;
    int i = match_call(e, v, "data", data_specs, ARRAY_LEN(data_specs), &c);
    e->module->train.data_span = v->span;
    if (i < 0)
        return;
    t->data = CNNC_DATA_MNIST + i;
    if (t->data == CNNC_DATA_DIGITS)
        return;
    t->data_path = path_arg(e, &c, t->data == CNNC_DATA_NPY ? "x" : "root");
    if (t->data == CNNC_DATA_NPY) {
        t->data_path2 = path_arg(e, &c, "y");
        t->valid_path = path_arg(e, &c, "valid_x");
        t->valid_path2 = path_arg(e, &c, "valid_y");
        if (layer_arg(&c, "valid")->i || layer_arg(&c, "valid")->f != 0)
            ranged(e, &c, "valid", 0, 0.99, &t->valid_fraction);
        if (!t->valid_path != !t->valid_path2)
            diag_error(e->diags, v->span, "E0404", "validation data needs both valid_x and valid_y");
    }
    const Graph *g = e->graph;
    if (t->data == CNNC_DATA_FOLDER) {
        const Val *size = layer_arg(&c, "size");
        for (int k = 0; k < 2; k++)
            t->data_size[k] = size->kind == VK_NONE ? (g->input_shape.rank == 3 ? g->input_shape.dim[1 + k] : 0)
                              : val_is_list(size)   ? size->at[size->n == 1 ? 0 : k].i
                                                    : size->i;
        if (size->kind != VK_NONE &&
            (t->data_size[0] < 1 || t->data_size[1] < 1 || t->data_size[0] > 65536 || t->data_size[1] > 65536))
            diag_error(e->diags, size->span, "E0403", "size of ImageFolder must be from 1 to 65536");
    }
}

static void set_valid(Elab *e, const Val *v)
{
    CnncTrain *t = &e->module->train.train;
    double x;
    LayerCall c;
    if (v->kind != VK_BOOL && val_number(v, &x)) {
        if (x >= 0 && x < 1)
            t->valid_fraction = x;
        else
            diag_error(e->diags, v->span, "E0403", "valid must be a share between 0 and 1, not %s", val_text(e->arena, v));
    } else if (match_call(e, v, "valid", &data_specs[CNNC_DATA_NPY - CNNC_DATA_MNIST], 1, &c) == 0) {
        t->valid_path = path_arg(e, &c, "x");
        t->valid_path2 = path_arg(e, &c, "y");
    }
}

/* ---- loss, optimizer, schedule, augment ---- */

static void set_loss(Elab *e, const Val *v)
{
    CnncTrain *t = &e->module->train.train;
    LayerCall c;
    int i = match_call(e, v, "loss", loss_specs, ARRAY_LEN(loss_specs), &c);
    e->module->train.loss_span = v->span;
    if (i < 0)
        return;
    t->loss = i;
    const Val *reduction = layer_arg(&c, "reduction");
    if (strcmp(reduction->s, "mean") != 0)
        diag_error(e->diags, reduction->span, "E0203", "reduction='%s' is not implemented, only 'mean'", reduction->s);
    if (i == 0) {
        ranged(e, &c, "label_smoothing", 0, 1, &t->smoothing);
        if (layer_arg(&c, "ignore_index")->i != -100)
            diag_error(e->diags, layer_arg(&c, "ignore_index")->span, "E0203", "ignore_index is not implemented yet");
    }
    for (uint32_t k = 0; k < c.ast->kids.len; k++) {
        const Ast *arg = c.ast->kids.at[k];
        if (i == 0 && (k == 0 || arg->kind == AST_ARG) && (arg->kind != AST_ARG || !strcmp(arg->text, "weight")) &&
            (arg->kind == AST_ARG ? arg->a : arg)->kind != AST_NONE)
            diag_error(e->diags, arg->span, "E0203", "weight of CrossEntropyLoss is not implemented yet");
    }
}

/* betas=(0.9, 0.999) */
static void set_betas(Elab *e, const LayerCall *c, CnncTrain *t)
{
    for (uint32_t k = 0; k < c->ast->kids.len; k++) {
        const Ast *arg = c->ast->kids.at[k];
        if (!(arg->kind == AST_ARG ? !strcmp(arg->text, "betas") : k == 1))
            continue;
        Val v = eval(e, e->globals, arg->kind == AST_ARG ? arg->a : arg);
        double b[2];
        if (v.kind == VK_ERROR)
            return;
        if (!val_is_list(&v) || v.n != 2 || !val_number(&v.at[0], &b[0]) || !val_number(&v.at[1], &b[1])) {
            diag_error(e->diags, v.span, "E0224", "betas of %s must be a pair of numbers", c->spec->name);
            return;
        }
        if (!(b[0] >= 0 && b[0] < 1 && b[1] >= 0 && b[1] < 1)) {
            diag_error(e->diags, v.span, "E0403", "betas of %s must be at least 0 and less than 1", c->spec->name);
            diag_torch(e->diags, "Invalid beta parameter at index %d: %g", b[0] >= 0 && b[0] < 1,
                       b[0] >= 0 && b[0] < 1 ? b[1] : b[0]);
            return;
        }
        t->beta1 = b[0];
        t->beta2 = b[1];
    }
}

static void set_optimizer(Elab *e, const Val *v)
{
    CnncTrain *t = &e->module->train.train;
    LayerCall c;
    int i = match_call(e, v, "optimizer", optimizer_specs, ARRAY_LEN(optimizer_specs), &c);
    e->module->train.optimizer_span = v->span;
    if (i < 0)
        return;
    t->optimizer = i;
    t->momentum = t->dampening = 0;
    t->nesterov = t->centered = 0;
    ranged(e, &c, "lr", 0, HUGE_VAL, &t->lr);
    ranged(e, &c, "weight_decay", 0, HUGE_VAL, &t->weight_decay);
    if (i != CNNC_OPT_SGD)
        ranged(e, &c, "eps", 0, HUGE_VAL, &t->eps);
    if (i == CNNC_OPT_SGD || i == CNNC_OPT_RMSPROP)
        ranged(e, &c, "momentum", 0, HUGE_VAL, &t->momentum);
    if (i == CNNC_OPT_SGD) {
        t->dampening = number(&c, "dampening");
        t->nesterov = layer_arg(&c, "nesterov")->i != 0;
        if (t->nesterov && (t->momentum <= 0 || t->dampening != 0)) {
            diag_error(e->diags, layer_arg(&c, "nesterov")->span, "E0403", "nesterov needs a momentum above 0 and no dampening");
            diag_torch(e->diags, "Nesterov momentum requires a momentum and zero dampening");
        }
    } else if (i == CNNC_OPT_RMSPROP) {
        ranged(e, &c, "alpha", 0, HUGE_VAL, &t->alpha);
        t->centered = layer_arg(&c, "centered")->i != 0;
    } else {
        set_betas(e, &c, t);
        if (layer_arg(&c, "amsgrad")->i)
            diag_error(e->diags, layer_arg(&c, "amsgrad")->span, "E0203", "amsgrad is not implemented yet");
    }
}

static void set_milestones(Elab *e, const LayerCall *c, CnncTrain *t)
{
    const Val *v = layer_arg(c, "milestones");
    if (!val_is_list(v)) {
        diag_error(e->diags, v->span, "E0224", "milestones of MultiStepLR must be a list of epochs, not %s", val_kind_text(v));
        return;
    }
    int32_t *at = NEWN(e->arena, int32_t, v->n + 1);
    for (uint32_t i = 0; i < v->n; i++) {
        const Val *one = &v->at[i];
        if (one->kind != VK_INT || one->i < 0 || one->i > INT32_MAX) {
            diag_error(e->diags, one->span, "E0224", "a milestone is an epoch's number, not %s", val_text(e->arena, one));
            return;
        }
        uint32_t k = i; /* kept in order, as torch's counter of them is */
        for (; k > 0 && at[k - 1] > (int32_t)one->i; k--)
            at[k] = at[k - 1];
        at[k] = (int32_t)one->i;
    }
    t->milestones = at;
    t->n_milestones = (int32_t)v->n;
}

/* The place of a word among two; false: reported. */
static bool either(Elab *e, const LayerCall *c, const char *name, const char *zero, const char *one, double *out)
{
    const Val *v = layer_arg(c, name);
    if (strcmp(v->s, zero) != 0 && strcmp(v->s, one) != 0)
        return diag_error(e->diags, v->span, "E0227", "%s of %s must be '%s' or '%s', not '%s'", name, c->spec->name, zero, one,
                          v->s);
    *out = !strcmp(v->s, one);
    return true;
}

static void set_one_cycle(Elab *e, const LayerCall *c, CnncTrain *t)
{
    double *s = t->sched;
    either(e, c, "style", "torch", "fastai", &s[9]);
    bool fastai = s[9] != 0;
    ranged(e, c, "max_lr", 0, HUGE_VAL, &s[0]);
    s[1] = fastai ? 0.25 : 0.3;
    if (layer_arg(c, "pct_start")->kind != VK_NONE)
        ranged(e, c, "pct_start", 0, 1, &s[1]);
    ranged(e, c, "div_factor", 1e-300, HUGE_VAL, &s[2]);
    s[3] = fastai ? 1e5 : 1e4;
    if (layer_arg(c, "final_div_factor")->kind != VK_NONE)
        ranged(e, c, "final_div_factor", 1e-300, HUGE_VAL, &s[3]);
    ranged(e, c, "base_momentum", 0, 1, &s[4]);
    ranged(e, c, "max_momentum", 0, 1, &s[5]);
    s[6] = layer_arg(c, "three_phase")->i != 0;
    either(e, c, "anneal_strategy", "cos", "linear", &s[7]);
    s[8] = layer_arg(c, "cycle_momentum")->i != 0;
}

static void set_plateau(Elab *e, const LayerCall *c, CnncTrain *t)
{
    double rel = 0;
    if (ranged(e, c, "factor", 0, 1, &t->sched[0]) && t->sched[0] >= 1)
        diag_error(e->diags, layer_arg(c, "factor")->span, "E0403", "factor of ReduceLROnPlateau must be less than 1"),
            diag_torch(e->diags, "Factor should be < 1.0.");
    ranged(e, c, "patience", 0, HUGE_VAL, &t->sched[1]);
    ranged(e, c, "threshold", 0, HUGE_VAL, &t->sched[2]);
    ranged(e, c, "min_lr", 0, HUGE_VAL, &t->sched[3]);
    either(e, c, "mode", "min", "max", &t->sched[4]);
    ranged(e, c, "cooldown", 0, HUGE_VAL, &t->sched[5]);
    if (either(e, c, "threshold_mode", "rel", "abs", &rel) && rel != 0)
        diag_error(e->diags, layer_arg(c, "threshold_mode")->span, "E0203", "threshold_mode='abs' is not implemented yet");
}

static void set_schedule(Elab *e, const Val *v)
{
    CnncTrain *t = &e->module->train.train;
    LayerCall c;
    e->module->train.schedule_span = v->span;
    memset(t->sched, 0, sizeof t->sched);
    if (v->kind == VK_NONE) {
        t->schedule = CNNC_SCHED_CONSTANT;
        return;
    }
    int i = match_call(e, v, "schedule", schedule_specs, ARRAY_LEN(schedule_specs), &c);
    if (i < 0)
        return;
    t->schedule = CNNC_SCHED_STEP + i;
    switch (t->schedule) {
    case CNNC_SCHED_STEP:
        ranged(e, &c, "step_size", 1, INT32_MAX, &t->sched[0]);
        ranged(e, &c, "gamma", 0, HUGE_VAL, &t->sched[1]);
        break;
    case CNNC_SCHED_MULTISTEP:
        set_milestones(e, &c, t);
        ranged(e, &c, "gamma", 0, HUGE_VAL, &t->sched[0]);
        break;
    case CNNC_SCHED_EXPONENTIAL:
        ranged(e, &c, "gamma", 0, HUGE_VAL, &t->sched[0]);
        break;
    case CNNC_SCHED_COSINE: /* T_max 0: all epochs, filled in at the end of the block */
        if (layer_arg(&c, "T_max")->kind != VK_NONE)
            ranged(e, &c, "T_max", 1, INT32_MAX, &t->sched[0]);
        ranged(e, &c, "eta_min", 0, HUGE_VAL, &t->sched[1]);
        break;
    case CNNC_SCHED_ONECYCLE:
        set_one_cycle(e, &c, t);
        break;
    default:
        set_plateau(e, &c, t);
    }
}

static void set_augment(Elab *e, const Val *v)
{
    CnncTrain *t = &e->module->train.train;
    const Val *at = val_is_list(v) ? v->at : v;
    uint32_t n = val_is_list(v) ? v->n : v->kind == VK_NONE ? 0 : 1;
    CnncAugment *all = NEWN(e->arena, CnncAugment, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        LayerCall c;
        int k = match_call(e, &at[i], "augmentation", augment_specs, ARRAY_LEN(augment_specs), &c);
        if (k < 0)
            return;
        CnncAugment *a = &all[i];
        a->kind = k;
        if (k != CNNC_AUG_CROP) {
            ranged(e, &c, "p", 0, 1, &a->p[0]);
            continue;
        }
        const Val *size = layer_arg(&c, "size"), *padding = layer_arg(&c, "padding");
        for (int d = 0; d < 2; d++)
            a->p[d] = (double)(val_is_list(size) ? size->at[size->n == 1 ? 0 : d].i : size->i);
        a->p[2] = (double)(val_is_list(padding) ? padding->at[0].i : padding->i);
        if (val_is_list(padding) && padding->n == 2 && padding->at[0].i != padding->at[1].i)
            diag_error(e->diags, padding->span, "E0203", "RandomCrop with two different paddings is not implemented yet");
        if (a->p[0] < 1 || a->p[1] < 1 || a->p[2] < 0 || a->p[0] > 65536 || a->p[1] > 65536 || a->p[2] > 65536)
            diag_error(e->diags, at[i].span, "E0403", "RandomCrop needs a size of at least 1 and a padding of at least 0");
    }
    t->augment = all;
    t->n_augment = (int32_t)n;
}

/* ---- numbers ---- */

static void set_count(Elab *e, const Val *v, const char *name, int64_t low, int64_t high, int32_t *out)
{
    if (v->kind != VK_INT)
        diag_error(e->diags, v->span, "E0224", "%s must be an integer, not %s", name, val_kind_text(v));
    else if (v->i < low || v->i > high)
        diag_error(e->diags, v->span, "E0403", "%s must be from %" PRId64 " to %" PRId64 ", not %" PRId64, name, low, high, v->i);
    else
        *out = (int32_t)v->i;
}

static void set_epochs(Elab *e, const Val *v) { set_count(e, v, "epochs", 1, 1000000, &e->module->train.train.epochs); }
static void set_batch(Elab *e, const Val *v) { set_count(e, v, "batch_size", 1, 1 << 20, &e->module->train.train.batch_size); }

static void set_seed(Elab *e, const Val *v)
{
    if (v->kind == VK_INT && v->i >= 0)
        e->module->train.train.seed = (uint64_t)v->i;
    else
        diag_error(e->diags, v->span, "E0224", "seed must be an integer of at least 0, not %s",
                   v->kind == VK_INT ? val_text(e->arena, v) : val_kind_text(v));
}

static void set_shuffle(Elab *e, const Val *v)
{
    if (v->kind == VK_BOOL)
        e->module->train.train.shuffle = (int32_t)v->i;
    else
        diag_error(e->diags, v->span, "E0224", "shuffle must be True or False, not %s", val_kind_text(v));
}

static const struct {
    const char *name;
    void (*set)(Elab *, const Val *);
} settings[] = {
    {"data", set_data}, {"valid", set_valid},         {"epochs", set_epochs},     {"batch_size", set_batch},
    {"loss", set_loss}, {"optimizer", set_optimizer}, {"schedule", set_schedule}, {"augment", set_augment},
    {"seed", set_seed}, {"shuffle", set_shuffle},
};

static const struct {
    const char *theirs, *help;
} foreign_settings[] = {
    {"lr", "write optimizer = SGD(lr=...)"},
    {"learning_rate", "write optimizer = SGD(lr=...)"},
    {"momentum", "write optimizer = SGD(lr=..., momentum=...)"},
    {"weight_decay", "write optimizer = SGD(lr=..., weight_decay=...)"},
    {"scheduler", "did you mean schedule?"},
    {"criterion", "did you mean loss?"},
    {"batch", "did you mean batch_size?"},
    {"dataset", "did you mean data?"},
    {"transforms", "did you mean augment?"},
};

static void setting(Elab *e, const Ast *arg)
{
    const char *names[ARRAY_LEN(settings) + 1] = {0};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        names[i] = settings[i].name;
        if (strcmp(settings[i].name, arg->text) != 0)
            continue;
        Val v = eval_word(e, e->globals, arg->a);
        if (v.kind == VK_WORD && (settings[i].set == set_epochs || settings[i].set == set_batch || settings[i].set == set_seed ||
                                  settings[i].set == set_shuffle))
            v = eval(e, e->globals, arg->a); /* a number: the name must be known */
        if (v.kind != VK_ERROR)
            settings[i].set(e, &v);
        return;
    }
    diag_error(e->diags, arg->text_span, "E0401", "train has no setting '%s'", arg->text);
    for (size_t i = 0; i < ARRAY_LEN(foreign_settings); i++) {
        if (!strcmp(foreign_settings[i].theirs, arg->text)) {
            diag_help(e->diags, "%s", foreign_settings[i].help);
            return;
        }
    }
    const char *near = nearest_word(arg->text, names);
    if (near) {
        diag_help(e->diags, "did you mean %s?", near);
        diag_fix(e->diags, "%s", near);
    } else {
        diag_help(e->diags,
                  "its settings are data, valid, epochs, batch_size, loss, optimizer, schedule, augment, seed and shuffle");
    }
}

CnncTrain train_defaults(void)
{
    return (CnncTrain){.epochs = 1,
                       .batch_size = 64,
                       .shuffle = 1,
                       .optimizer = CNNC_OPT_SGD,
                       .lr = 1e-3,
                       .beta1 = 0.9,
                       .beta2 = 0.999,
                       .eps = 1e-8,
                       .alpha = 0.99};
}

void elaborate_train(Elab *e, const Ast *ast)
{
    TrainSpec *t = &e->module->train;
    if (t->present) {
        diag_error(e->diags, (Span){ast->span.start, ast->span.start + 5}, "E0401", "a second train block");
        diag_note(e->diags, (Span){t->span.start, t->span.start + 5}, "the first one is here");
        return;
    }
    t->present = true;
    t->span = ast->span;
    for (uint32_t i = 0; i < ast->kids.len; i++) {
        const Ast *arg = ast->kids.at[i];
        bool twice = false;
        for (uint32_t k = 0; k < i && !twice; k++) {
            twice = !strcmp(ast->kids.at[k]->text, arg->text);
            if (twice)
                diag_error(e->diags, arg->text_span, "E0222", "%s is set twice", arg->text),
                    diag_note(e->diags, ast->kids.at[k]->text_span, "the first time is here");
        }
        if (!twice)
            setting(e, arg);
    }
    if (t->train.schedule == CNNC_SCHED_COSINE && t->train.sched[0] == 0)
        t->train.sched[0] = t->train.epochs;
    if (t->train.valid_fraction > 0 && t->train.valid_path)
        diag_error(e->diags, t->data_span, "E0404", "validation data is given twice: as a share and as files");
}
