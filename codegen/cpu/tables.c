/* tables.c: the CnncModel of a program, and everything it points to, as constants of the module.
 * In: Program.model with all pointers set but the stage functions and consts. Out: the global SYMBOL_model.
 * Relies on: the host and the target laying out these structs alike (both x86-64 System V).
 * Leaves: bytes of padding zero, so that equal models give equal objects.
 * Idea: each struct of runtime/abi.h is described by a list of fields; one walk copies plain bytes and turns pointers
 * into references to further globals. To add a field to abi.h: one row here (a field without a row is written as zero;
 * tests/unit/test_cpu_tables.c compares every field). */
#include "codegen/cpu/module.h"

#include <llvm-c/Core.h>
#include <stddef.h>
#include <string.h>

typedef enum {
    F_DATA,      /* bytes of the struct itself */
    F_STRING,    /* const char * */
    F_STRINGS,   /* array of count strings */
    F_BYTES,     /* array of count elements of `size` plain bytes */
    F_STRUCTS,   /* array of count structs of type `elem` */
    F_CODE,      /* the stage function in turn */
    F_CONSTS     /* SYMBOL_consts */
} FieldKind;
typedef enum { C_ONE, C_I32, C_I64, C_TEST_IN, C_TEST_OUT } CountKind;   /* how many: field at count_at, or n_test whole samples */

typedef struct Type Type;
typedef struct { FieldKind kind; size_t at, size; CountKind count; size_t count_at; const Type *elem; } Field;
struct Type { size_t size; const Field *fields; int n; };

#define DATA(T, f)              {F_DATA, offsetof(T, f), sizeof(((T *)0)->f), C_ONE, 0, NULL}
#define STRING(T, f)            {F_STRING, offsetof(T, f), 0, C_ONE, 0, NULL}
#define STRINGS(T, f, n)        {F_STRINGS, offsetof(T, f), 0, C_I32, offsetof(T, n), NULL}
#define BYTES(T, f, how, n)     {F_BYTES, offsetof(T, f), sizeof(*((T *)0)->f), how, offsetof(T, n), NULL}
#define ONE(T, f, type)         {F_STRUCTS, offsetof(T, f), 0, C_ONE, 0, &type}
#define STRUCTS(T, f, n, type)  {F_STRUCTS, offsetof(T, f), 0, C_I32, offsetof(T, n), &type}
#define TYPE(name, T)           static const Type name = {sizeof(T), name##_fields, (int)ARRAY_LEN(name##_fields)}

static const Field stage_fields[] = {
    {F_CODE, offsetof(CnncStage, fn), 0, C_ONE, 0, NULL}, DATA(CnncStage, slices), DATA(CnncStage, samples_per_slice),
    DATA(CnncStage, first_layer), DATA(CnncStage, last_layer), STRING(CnncStage, name), DATA(CnncStage, macs),
    DATA(CnncStage, fmas), DATA(CnncStage, bytes),
};
TYPE(stage, CnncStage);
#define FUNCTION_FIELDS                                                                                                             \
    STRUCTS(CnncFunction, stages, n_stages, stage), DATA(CnncFunction, n_stages), DATA(CnncFunction, batch),                         \
        DATA(CnncFunction, work_bytes), DATA(CnncFunction, scratch_bytes), DATA(CnncFunction, block), DATA(CnncFunction, rest),      \
        DATA(CnncFunction, in_floats), DATA(CnncFunction, out_floats)
static const Field single_fields[] = {FUNCTION_FIELDS};
TYPE(single, CnncFunction);
static const Field function_fields[] = {FUNCTION_FIELDS, ONE(CnncFunction, single, single)};
TYPE(function, CnncFunction);
static const Field tensor_fields[] = {
    STRING(CnncTensor, name), DATA(CnncTensor, dtype), DATA(CnncTensor, rank), DATA(CnncTensor, shape), DATA(CnncTensor, offset),
    DATA(CnncTensor, role), DATA(CnncTensor, init), DATA(CnncTensor, bound), BYTES(CnncTensor, values, C_I64, n_values),
    DATA(CnncTensor, n_values),
};
TYPE(tensor, CnncTensor);
static const Field layer_fields[] = {
    STRING(CnncLayer, name), STRING(CnncLayer, type), DATA(CnncLayer, rank), DATA(CnncLayer, shape), DATA(CnncLayer, macs),
    DATA(CnncLayer, params),
};
TYPE(layer, CnncLayer);
static const Field train_fields[] = {
    DATA(CnncTrain, data), STRING(CnncTrain, data_path), STRING(CnncTrain, data_path2), STRING(CnncTrain, valid_path),
    STRING(CnncTrain, valid_path2), DATA(CnncTrain, data_size), DATA(CnncTrain, valid_fraction), DATA(CnncTrain, epochs),
    DATA(CnncTrain, batch_size), DATA(CnncTrain, seed), DATA(CnncTrain, shuffle), DATA(CnncTrain, loss), DATA(CnncTrain, smoothing),
    DATA(CnncTrain, optimizer), DATA(CnncTrain, lr), DATA(CnncTrain, momentum), DATA(CnncTrain, dampening),
    DATA(CnncTrain, weight_decay), DATA(CnncTrain, beta1), DATA(CnncTrain, beta2), DATA(CnncTrain, eps), DATA(CnncTrain, alpha),
    DATA(CnncTrain, nesterov), DATA(CnncTrain, centered), DATA(CnncTrain, schedule), DATA(CnncTrain, sched),
    BYTES(CnncTrain, milestones, C_I32, n_milestones), DATA(CnncTrain, n_milestones), BYTES(CnncTrain, augment, C_I32, n_augment),
    DATA(CnncTrain, n_augment),
};
TYPE(train, CnncTrain);
static const Field launch_fields[] = {
    STRING(CnncGpuLaunch, entry), STRING(CnncGpuLaunch, name), DATA(CnncGpuLaunch, grid), DATA(CnncGpuLaunch, block),
    DATA(CnncGpuLaunch, shared_bytes), DATA(CnncGpuLaunch, sample_points), DATA(CnncGpuLaunch, block_points),
    DATA(CnncGpuLaunch, first_layer), DATA(CnncGpuLaunch, last_layer), DATA(CnncGpuLaunch, flops), DATA(CnncGpuLaunch, bytes),
    DATA(CnncGpuLaunch, cycles), DATA(CnncGpuLaunch, products),
    BYTES(CnncGpuLaunch, places, C_I32, n_places), DATA(CnncGpuLaunch, n_places), DATA(CnncGpuLaunch, lane), DATA(CnncGpuLaunch, after),
};
TYPE(launch, CnncGpuLaunch);
static const Field gpu_function_fields[] = {
    STRUCTS(CnncGpuFunction, launches, n_launches, launch), DATA(CnncGpuFunction, n_launches), DATA(CnncGpuFunction, batch),
    DATA(CnncGpuFunction, work_bytes),
};
TYPE(gpu_function, CnncGpuFunction);
static const Field gpu_image_fields[] = {
    DATA(CnncGpuImage, sm), DATA(CnncGpuImage, ptx), BYTES(CnncGpuImage, bytes, C_I64, size), DATA(CnncGpuImage, size),
};
TYPE(gpu_image, CnncGpuImage);
static const Field gpu_fields[] = {   /* without the text: a program has the images */
    DATA(CnncGpu, sm), STRUCTS(CnncGpu, images, n_images, gpu_image), DATA(CnncGpu, n_images),
    ONE(CnncGpu, infer, gpu_function), ONE(CnncGpu, eval, gpu_function), ONE(CnncGpu, step, gpu_function),
};
TYPE(gpu, CnncGpu);
static const Field model_fields[] = {
    DATA(CnncModel, abi_version), STRING(CnncModel, name), STRING(CnncModel, version), STRING(CnncModel, cpu), STRING(CnncModel, features),
    STRING(CnncModel, precision),
    DATA(CnncModel, in_rank), DATA(CnncModel, in_shape), DATA(CnncModel, out_rank), DATA(CnncModel, out_shape), DATA(CnncModel, n_mean),
    BYTES(CnncModel, mean, C_I32, n_mean), BYTES(CnncModel, std, C_I32, n_mean), DATA(CnncModel, n_classes),
    STRINGS(CnncModel, class_names, n_classes), STRUCTS(CnncModel, tensors, n_tensors, tensor), DATA(CnncModel, n_tensors),
    DATA(CnncModel, state_bytes), STRUCTS(CnncModel, layers, n_layers, layer), DATA(CnncModel, n_layers),
    {F_CONSTS, offsetof(CnncModel, consts), 0, C_ONE, 0, NULL}, DATA(CnncModel, consts_bytes), STRING(CnncModel, plan), DATA(CnncModel, weights_checksum),
    ONE(CnncModel, infer, function), ONE(CnncModel, eval, function), ONE(CnncModel, step, function), ONE(CnncModel, train, train),
    BYTES(CnncModel, test_in, C_TEST_IN, n_test), BYTES(CnncModel, test_out, C_TEST_OUT, n_test), DATA(CnncModel, n_test),
    DATA(CnncModel, test_tolerance), ONE(CnncModel, gpu, gpu),
};
TYPE(model, CnncModel);

typedef struct {
    Emit *e;
    const Program *p;
    const LLVMValueRef *fns;   /* stage functions not yet used */
} Writer;

/* A constant as it lies in memory: bytes with pointers at some places. */
typedef struct { char *bytes; size_t size; Vec(size_t) at; Vec(LLVMValueRef) pointer; } Image;

static LLVMValueRef byte_string(Emit *e, const char *data, size_t size)
{
    return LLVMConstStringInContext2(e->cx, data, size, true);
}

static LLVMValueRef private_global(Emit *e, LLVMValueRef init, unsigned align)
{
    LLVMValueRef g = LLVMAddGlobal(e->mod, LLVMTypeOf(init), "");
    LLVMSetInitializer(g, init);
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    LLVMSetGlobalConstant(g, true);
    LLVMSetAlignment(g, align);
    return g;
}

static LLVMValueRef string_global(Emit *e, const char *s)
{
    LLVMValueRef g = private_global(e, byte_string(e, s, strlen(s) + 1), 1);
    LLVMSetUnnamedAddress(g, LLVMGlobalUnnamedAddr);
    return g;
}

/* Packed struct of byte runs and pointers; the image's offsets are the layout. */
static LLVMValueRef image_constant(Emit *e, const Image *m)
{
    LLVMValueRef *parts = NEWN(e->arena, LLVMValueRef, 2 * m->at.len + 1);
    unsigned n = 0;
    size_t done = 0;
    for (uint32_t i = 0; i < m->at.len; i++) {
        if (m->at.at[i] > done)
            parts[n++] = byte_string(e, m->bytes + done, m->at.at[i] - done);
        parts[n++] = m->pointer.at[i];
        done = m->at.at[i] + sizeof(void *);
    }
    if (m->size > done)
        parts[n++] = byte_string(e, m->bytes + done, m->size - done);
    return LLVMConstStructInContext(e->cx, parts, n, true);
}

static void image_point(Writer *w, Image *m, size_t at, LLVMValueRef to)
{
    vec_push(w->e->arena, &m->at, at);
    vec_push(w->e->arena, &m->pointer, to);
}

static int64_t samples_elements(const int64_t *shape, int rank)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    return n;
}

static int64_t count_of(const Writer *w, const Field *f, const char *from)
{
    const CnncModel *m = &w->p->model;
    int32_t i32 = 0;
    int64_t n = 1;
    if (f->count == C_I64)
        memcpy(&n, from + f->count_at, sizeof n);
    else if (f->count != C_ONE) {
        memcpy(&i32, from + f->count_at, sizeof i32);
        n = i32;
    }
    if (f->count == C_TEST_IN)
        n *= samples_elements(m->in_shape, m->in_rank);
    else if (f->count == C_TEST_OUT)
        n *= samples_elements(m->out_shape, m->out_rank);
    return n > 0 ? n : 0;
}

static void image_struct(Writer *w, Image *m, size_t base, const Type *type, const char *from);

static LLVMValueRef structs_global(Writer *w, const Type *type, const char *from, int64_t n)
{
    Image m = {.size = type->size * (size_t)n};
    m.bytes = arena_alloc(w->e->arena, m.size);
    for (int64_t i = 0; i < n; i++)
        image_struct(w, &m, type->size * (size_t)i, type, from + type->size * (size_t)i);
    return private_global(w->e, image_constant(w->e, &m), 16);
}

static LLVMValueRef strings_global(Writer *w, const char *const *s, int64_t n)
{
    Image m = {.size = sizeof(char *) * (size_t)n};
    m.bytes = arena_alloc(w->e->arena, m.size);
    for (int64_t i = 0; i < n; i++)
        if (s[i])
            image_point(w, &m, sizeof(char *) * (size_t)i, string_global(w->e, s[i]));
    return private_global(w->e, image_constant(w->e, &m), 16);
}

/* `to` is where a pointer field points in memory now. */
static void image_pointer(Writer *w, Image *m, size_t at, const Field *f, const void *to, int64_t n)
{
    LLVMValueRef g = NULL;
    switch (f->kind) {
    case F_STRING: g = string_global(w->e, to); break;
    case F_STRINGS: g = strings_global(w, to, n); break;
    case F_BYTES: g = private_global(w->e, byte_string(w->e, to, f->size * (size_t)n), 64); break;
    case F_STRUCTS: g = structs_global(w, f->elem, to, n); break;
    default: BUG("not a pointer field");
    }
    image_point(w, m, at, g);
}

static LLVMValueRef consts_symbol(Writer *w)
{
    const char *name = arena_printf(w->e->arena, "%s_consts", w->p->symbol);
    LLVMValueRef g = LLVMAddGlobal(w->e->mod, w->e->i8, name);
    LLVMSetGlobalConstant(g, true);
    LLVMSetVisibility(g, LLVMHiddenVisibility);
    return g;
}

static void image_struct(Writer *w, Image *m, size_t base, const Type *type, const char *from)
{
    for (int i = 0; i < type->n; i++) {
        const Field *f = &type->fields[i];
        const void *to = NULL;
        if (f->kind == F_DATA) {
            memcpy(m->bytes + base + f->at, from + f->at, f->size);
            continue;
        }
        if (f->kind == F_CODE) {
            image_point(w, m, base + f->at, *w->fns++);
            continue;
        }
        memcpy(&to, from + f->at, sizeof to);
        if (f->kind == F_CONSTS) {
            if (w->p->model.consts_bytes > 0)
                image_point(w, m, base + f->at, consts_symbol(w));
            continue;
        }
        int64_t n = count_of(w, f, from);
        if (to && n > 0)
            image_pointer(w, m, base + f->at, f, to, n);
    }
}

static void append(LLVMValueRef **to, const LLVMValueRef *from, const CnncFunction *f)
{
    for (int i = 0; f && i < f->n_stages; i++)
        *(*to)++ = from[i];
}

static int stages_of(const CnncFunction *f) { return f ? f->n_stages : 0; }

void tables_emit(Emit *e, const Program *p, const StageFns *fns)
{
    CnncModel top = p->model;
    top.abi_version = CNNC_ABI_VERSION;
    top.version = top.version ? top.version : CNNC_VERSION;
    top.cpu = e->target->name;
    top.features = e->target->features;
    if (!fns->infer)
        top.infer = NULL;
    if (!fns->eval)
        top.eval = NULL;
    if (!fns->step)
        top.step = NULL;
    const CnncFunction *alone = top.infer ? top.infer->single : NULL;
    /* The stage functions in the order in which the walk meets them. */
    LLVMValueRef *order = NEWN(e->arena, LLVMValueRef, stages_of(top.infer) + stages_of(alone) + stages_of(top.eval) + stages_of(top.step) + 1),
                 *end = order;
    append(&end, fns->infer, top.infer);
    append(&end, fns->single, alone);
    append(&end, fns->eval, top.eval);
    append(&end, fns->step, top.step);

    Writer w = {e, p, order};
    Image m = {.size = sizeof(CnncModel)};
    m.bytes = arena_alloc(e->arena, m.size);
    image_struct(&w, &m, 0, &model, (const char *)&top);
    LLVMValueRef init = image_constant(e, &m);
    LLVMValueRef g = LLVMAddGlobal(e->mod, LLVMTypeOf(init), arena_printf(e->arena, "%s_model", p->symbol));
    LLVMSetInitializer(g, init);
    LLVMSetGlobalConstant(g, true);
    LLVMSetVisibility(g, LLVMHiddenVisibility);
    LLVMSetAlignment(g, 16);
}
