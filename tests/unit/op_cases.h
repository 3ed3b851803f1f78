/* Reads the files of tests/golden/ops (made by tests/torch/make_ops.py, which describes the format): one case is one node with its
 * inputs and PyTorch's outputs. Header-only, so that tests of several areas can include it. Everything lives in the arena
 * given to cases_open; a malformed file stops the test. */
#ifndef CNNC_TESTS_OP_CASES_H
#define CNNC_TESTS_OP_CASES_H
#include "ir/dropout.h"
#include "ir/ref/ref.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASE_MAX_IN = 12 };
typedef struct {
    const char *name;
    Op op;
    Attrs attrs;
    int n_in, n_out;
    RefTensor in[CASE_MAX_IN];      /* data == NULL: absent */
    RefTensor out[MAX_OUT];         /* data == NULL: not compared */
} OpCase;
typedef struct { Arena *a; FILE *file; const char *path; char *line; size_t room; int number; bool pending; } OpCases;

static const char *const op_case_files[] = {"conv", "pool", "norm", "act", "shape", "loss", "optim"};

static inline _Noreturn void cases_die(const OpCases *c, const char *why)
{
    fprintf(stderr, "%s:%d: %s: %s\n", c->path, c->number, why, c->line ? c->line : "");
    abort();
}

static inline OpCases cases_open(Arena *a, const char *stem)
{
    OpCases c = {.a = a, .path = arena_printf(a, "tests/golden/ops/%s.txt", stem)};
    c.file = fopen(c.path, "r");
    if (!c.file)
        cases_die(&c, "cannot be opened");
    return c;
}

static inline void cases_close(OpCases *c)
{
    fclose(c->file);
    free(c->line);
}

/* Where a key=value of an `op` line goes: a field of Attrs and how to read it. */
typedef enum { FIELD_I64S, FIELD_I64, FIELD_I32, FIELD_U32, FIELD_BOOL, FIELD_DOUBLE, FIELD_DOUBLES, FIELD_ACT, FIELD_PAD_MODE } CaseFieldType;
typedef struct { AttrKind kind; const char *key; size_t offset; CaseFieldType type; } CaseField;
#define CASE_FIELD(KIND, member, field, type) {ATTR_##KIND, #field, offsetof(Attrs, member.field), FIELD_##type}
static const CaseField case_fields[] = {
    CASE_FIELD(CONV, conv, nd, I32), CASE_FIELD(CONV, conv, kernel, I64S), CASE_FIELD(CONV, conv, stride, I64S),
    CASE_FIELD(CONV, conv, pad_lo, I64S), CASE_FIELD(CONV, conv, pad_hi, I64S), CASE_FIELD(CONV, conv, dilation, I64S),
    CASE_FIELD(CONV, conv, groups, I64), CASE_FIELD(CONV, conv, in_channels, I64), CASE_FIELD(CONV, conv, out_channels, I64),
    {ATTR_LINEAR, "in", offsetof(Attrs, linear.in_features), FIELD_I64}, {ATTR_LINEAR, "out", offsetof(Attrs, linear.out_features), FIELD_I64},
    CASE_FIELD(AXIS, axis, axis, I32), CASE_FIELD(POOL, pool, nd, I32), CASE_FIELD(POOL, pool, kernel, I64S),
    CASE_FIELD(POOL, pool, stride, I64S), CASE_FIELD(POOL, pool, pad, I64S), CASE_FIELD(POOL, pool, dilation, I64S),
    CASE_FIELD(POOL, pool, ceil_mode, BOOL), CASE_FIELD(POOL, pool, count_include_pad, BOOL), CASE_FIELD(POOL, pool, divisor_override, I64),
    CASE_FIELD(ADAPTIVE, adaptive, nd, I32), CASE_FIELD(ADAPTIVE, adaptive, out, I64S), CASE_FIELD(NORM, norm, features, I64),
    CASE_FIELD(NORM, norm, eps, DOUBLE), CASE_FIELD(NORM, norm, momentum, DOUBLE), CASE_FIELD(NORM, norm, track, BOOL),
    {ATTR_ACT, "act", offsetof(Attrs, act.kind), FIELD_ACT}, CASE_FIELD(ACT, act, p, DOUBLES), CASE_FIELD(PAD, pad, nd, I32),
    CASE_FIELD(PAD, pad, lo, I64S), CASE_FIELD(PAD, pad, hi, I64S), CASE_FIELD(PAD, pad, mode, PAD_MODE), CASE_FIELD(PAD, pad, value, DOUBLE),
    CASE_FIELD(SLICE, slice, axis, I32), CASE_FIELD(SLICE, slice, start, I64), CASE_FIELD(SLICE, slice, size, I64),
    CASE_FIELD(DROPOUT, dropout, p, DOUBLE), CASE_FIELD(DROPOUT, dropout, stream, U32), CASE_FIELD(LOSS, loss, smoothing, DOUBLE),
    CASE_FIELD(LOSS, loss, reduction, I32), CASE_FIELD(OPT, opt, momentum, DOUBLE), CASE_FIELD(OPT, opt, dampening, DOUBLE),
    CASE_FIELD(OPT, opt, weight_decay, DOUBLE), CASE_FIELD(OPT, opt, beta1, DOUBLE), CASE_FIELD(OPT, opt, beta2, DOUBLE),
    CASE_FIELD(OPT, opt, eps, DOUBLE), CASE_FIELD(OPT, opt, alpha, DOUBLE), CASE_FIELD(OPT, opt, nesterov, BOOL), CASE_FIELD(OPT, opt, centered, BOOL),
};

/* The index of `word` in names, as the value of an enumeration. */
static inline int case_word(const OpCases *c, const char *word, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    cases_die(c, "unknown word");
}

static inline void case_set_field(const OpCases *c, const CaseField *f, void *at, char *value)
{
    static const char *const acts[] = {
#define ACT(id, torch_name, text, ...) text,
#include "ir/activations.def"
#undef ACT
    };
    static const char *const modes[] = {"zeros", "reflect", "replicate", "circular", "constant"};
    char *s = value;
    switch (f->type) {
    case FIELD_I64: *(int64_t *)at = atoll(value); break;
    case FIELD_I32: *(int32_t *)at = atoi(value); break;
    case FIELD_U32: *(uint32_t *)at = (uint32_t)strtoul(value, NULL, 10); break;
    case FIELD_BOOL: *(bool *)at = atoi(value) != 0; break;
    case FIELD_DOUBLE: *(double *)at = atof(value); break;
    case FIELD_ACT: *(ActKind *)at = (ActKind)case_word(c, value, acts, ACT_COUNT); break;
    case FIELD_PAD_MODE: *(PadMode *)at = (PadMode)case_word(c, value, modes, 5); break;
    case FIELD_I64S:
        for (int i = 0; i < MAX_SPATIAL && *s; i++, s += *s == ',')
            ((int64_t *)at)[i] = strtoll(s, &s, 10);
        break;
    case FIELD_DOUBLES:
        for (int i = 0; i < 4 && *s; i++, s += *s == ',')
            ((double *)at)[i] = strtod(s, &s);
        break;
    }
}

static inline void case_read_op(const OpCases *c, OpCase *k, char *text)
{
    char *save, *word = strtok_r(text, " ", &save);
    for (k->op = 0; k->op < OP_COUNT && strcmp(op_text(k->op), word) != 0;)
        k->op++;
    if (k->op == OP_COUNT)
        cases_die(c, "unknown op");
    while ((word = strtok_r(NULL, " ", &save))) {
        char *eq = strchr(word, '=');
        size_t i = 0, n = sizeof case_fields / sizeof *case_fields;
        *eq = 0;
        while (i < n && (case_fields[i].kind != op_attr_kind(k->op) || strcmp(case_fields[i].key, word) != 0))
            i++;
        if (i == n)
            cases_die(c, "unknown attribute");
        case_set_field(c, &case_fields[i], (char *)&k->attrs + case_fields[i].offset, eq + 1);
    }
}

static inline Shape case_shape(char **s)
{
    Shape shape = {0};
    if (strncmp(*s, "scalar", 6) == 0) {
        *s += 6;
        return shape;
    }
    while (**s >= '0' && **s <= '9') {
        shape.dim[shape.rank++] = strtoll(*s, s, 10);
        *s += **s == ',';
    }
    return shape;
}

/* "SHAPE : values" */
static inline RefTensor case_data(const OpCases *c, char *s)
{
    RefTensor t = {.shape = case_shape(&s)};
    int64_t n = shape_elements(&t.shape);
    t.data = NEWN(c->a, double, n + 1);
    s = strchr(s, ':');
    if (!s)
        cases_die(c, "no values");
    s++;
    for (int64_t i = 0; i < n; i++) {
        char *end;
        t.data[i] = strtod(s, &end);
        if (end == s)
            cases_die(c, "too few values");
        s = end;
    }
    return t;
}

/* The tensor make_ops.py's Gen makes. */
static inline RefTensor case_gen(Arena *a, uint32_t seed, int levels, double denom, Shape shape)
{
    RefTensor t = {.shape = shape};
    int64_t n = shape_elements(&shape);
    t.data = NEWN(a, double, n + 1);
    for (int64_t i = 0; i < n; i++)
        t.data[i] = ((double)((dropout_mix(seed * 0x9E3779B9u + (uint32_t)i) >> 8) % (uint32_t)levels) - levels / 2) / denom;
    return t;
}

static inline RefTensor case_input(const OpCases *c, char *s)
{
    if (strcmp(s, "none") == 0)
        return (RefTensor){.data = NULL};
    if (strncmp(s, "data ", 5) == 0)
        return case_data(c, s + 5);
    if (strncmp(s, "gen ", 4) != 0)
        cases_die(c, "an input that is neither none, data nor gen");
    s += 4;
    uint32_t seed = (uint32_t)strtoul(s, &s, 10);
    int levels = (int)strtol(s, &s, 10);
    double denom = strtod(s, &s);
    s++;
    return case_gen(c->a, seed, levels, denom, case_shape(&s));
}

/* False at the end of the file. */
static inline bool cases_next(OpCases *c, OpCase *k)
{
    *k = (OpCase){0};
    bool inside = c->pending;
    if (c->pending)
        k->name = arena_strdup(c->a, c->line + 5);
    c->pending = false;
    while (getline(&c->line, &c->room, c->file) > 0) {
        c->number++;
        c->line[strcspn(c->line, "\n")] = 0;
        if (strncmp(c->line, "case ", 5) == 0) {
            if (inside)
                return c->pending = true;
            inside = true;
            k->name = arena_strdup(c->a, c->line + 5);
        } else if (strncmp(c->line, "op ", 3) == 0) {
            case_read_op(c, k, c->line + 3);
        } else if (strncmp(c->line, "in ", 3) == 0) {
            k->in[k->n_in++] = case_input(c, c->line + 3);
        } else if (strncmp(c->line, "out ", 4) == 0) {
            k->out[k->n_out++] = strcmp(c->line, "out any") == 0 ? (RefTensor){.data = NULL} : case_data(c, c->line + 4);
        } else if (c->line[0] != '#') {
            cases_die(c, "not understood");
        }
    }
    return inside;
}

/* A graph of the case's node alone: its inputs are leaves (params of the given shapes), nothing is batched. */
static inline NodeId case_graph(const OpCase *k, Graph *g)
{
    ValueId in[CASE_MAX_IN] = {0};
    for (int i = 0; i < k->n_in; i++)
        if (k->in[i].data)
            in[i] = graph_add_param(g, arena_printf(g->arena, "in%d", i), &(ParamAttrs){.init = INIT_ZEROS}, &k->in[i].shape, -1, (Span){0});
    NodeId n = graph_add_node(g, k->op, in, k->n_in, &k->attrs, -1, (Span){0});
    for (int i = 0; i < k->n_out; i++) {
        Value *v = graph_value(g, node_out(g, n, i));
        v->known = k->out[i].data != NULL;
        v->shape = k->out[i].shape;
    }
    return n;
}
#endif
