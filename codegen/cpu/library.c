/* library.c: the C API of a compiled model (the header in LANGUAGE.md's section 3).
 * In: the stage functions of p->infer. Out: external functions NAME_infer, NAME_infer_n, NAME_workspace_size ...
 * Relies on: SYMBOL_model for the address of the constants. Leaves: without a pool no calls out of the object and no
 * mutable data.
 * Idea: the runtime's stage loop written out for one calling thread, or with a pool (p->library_threads) a call of it:
 *
 *   for each stage, for slice = 0 .. (samples_per_slice ? ceil(n / samples_per_slice) : slices) - 1: stage(args, scratch, slice)
 *
 * The workspace is the work area, one scratch area a thread and, when the net normalises, the normalised input, each rounded to
 * 64 bytes. */
#include "codegen/artifacts.h"
#include "codegen/cpu/module.h"

#include <stddef.h>
#include <string.h>

typedef struct { Emit *e; const Program *p; const StageFns *fns; } Lib;

static LLVMValueRef begin(Lib *l, const char *name, LLVMTypeRef returns, LLVMTypeRef *params, unsigned n)
{
    return emit_function_begin(l->e, arena_printf(l->e->arena, "%s_%s", l->p->symbol, name), LLVMFunctionType(returns, params, n, false), true);
}

static void end(Lib *l, LLVMValueRef result)
{
    LLVMBuildRet(l->e->b, result);
    emit_function_end(l->e);
}

static void getter(Lib *l, const char *name, LLVMTypeRef type, LLVMValueRef result)
{
    begin(l, name, type, NULL, 0);
    end(l, result);
}

static LLVMValueRef global(Lib *l, LLVMValueRef init, unsigned align)
{
    LLVMValueRef g = LLVMAddGlobal(l->e->mod, LLVMTypeOf(init), "");
    LLVMSetInitializer(g, init);
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    LLVMSetGlobalConstant(g, true);
    LLVMSetAlignment(g, align);
    return g;
}

static LLVMValueRef string(Lib *l, const char *s) { return global(l, LLVMConstStringInContext2(l->e->cx, s, strlen(s), false), 1); }

/* Shapes as the caller sees them: the batch first. */
static LLVMValueRef shape(Lib *l, const int64_t *dims, int rank)
{
    LLVMValueRef v[CNNC_MAX_RANK + 1];
    v[0] = emit_i64(l->e, l->p->infer->batch);
    for (int i = 0; i < rank; i++)
        v[i + 1] = emit_i64(l->e, dims[i]);
    return global(l, LLVMConstArray2(l->e->i64, v, (uint64_t)rank + 1), 8);
}

static void store_arg(Lib *l, LLVMValueRef args, size_t at, LLVMValueRef v)
{
    emit_store(l->e, v, emit_gep(l->e, l->e->i8, args, emit_i64(l->e, (int64_t)at)), 8);
}

/* arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA): Linux gives tile registers (AMX) to a process that asked. Not 0: it does not. Asking again
 * changes nothing and costs less than keeping in mind, for all threads, that it was done. */
static LLVMValueRef ask_for_tiles(Emit *e)
{
    static const char constraints[] = "={rax},{rax},{rdi},{rsi},~{rcx},~{r11},~{memory}";
    LLVMTypeRef params[3] = {e->i64, e->i64, e->i64}, type = LLVMFunctionType(e->i64, params, 3, false);
    LLVMValueRef args[3] = {emit_i64(e, 158), emit_i64(e, 0x1023), emit_i64(e, 18)};
    return emit_asm(e, type, "syscall", constraints, args, 3);
}

/* The number of slices that n samples need. */
static LLVMValueRef slices_for(Emit *e, const Stage *s, LLVMValueRef n)
{
    if (s->samples_per_slice <= 0)
        return emit_i64(e, s->slices);
    LLVMValueRef up = emit_add(e, n, emit_i64(e, s->samples_per_slice - 1));
    LLVMValueRef need = LLVMBuildUDiv(e->b, up, emit_i64(e, s->samples_per_slice), "");
    LLVMValueRef over = LLVMBuildICmp(e->b, LLVMIntSGT, need, emit_i64(e, s->slices), "");
    return LLVMBuildSelect(e->b, over, emit_i64(e, s->slices), need, "");
}

/* return `code` from the function being built when cond holds */
static void refuse(Emit *e, LLVMValueRef cond, int code)
{
    LLVMBasicBlockRef bad = LLVMAppendBasicBlockInContext(e->cx, e->fn, "bad"), good = LLVMAppendBasicBlockInContext(e->cx, e->fn, "good");
    LLVMBuildCondBr(e->b, cond, bad, good);
    LLVMPositionBuilderAtEnd(e->b, bad);
    LLVMBuildRet(e->b, emit_i32(e, code));
    LLVMPositionBuilderAtEnd(e->b, good);
}

static void check_arguments(Lib *l, LLVMValueRef in, LLVMValueRef out, LLVMValueRef n, LLVMValueRef workspace)
{
    Emit *e = l->e;
    refuse(e, LLVMBuildOr(e->b, LLVMBuildIsNull(e->b, in, ""), LLVMBuildIsNull(e->b, out, ""), ""), 1);
    LLVMValueRef low = LLVMBuildICmp(e->b, LLVMIntSLT, n, emit_i32(e, 1), "");
    LLVMValueRef high = LLVMBuildICmp(e->b, LLVMIntSGT, n, emit_i32(e, l->p->infer->batch), "");
    refuse(e, LLVMBuildOr(e->b, low, high, ""), 2);
    LLVMValueRef bits = LLVMBuildAnd(e->b, LLVMBuildPtrToInt(e->b, workspace, e->i64, ""), emit_i64(e, 63), "");
    LLVMValueRef odd = LLVMBuildICmp(e->b, LLVMIntNE, bits, emit_i64(e, 0), "");
    if (artifact_workspace(l->p) > 0)
        odd = LLVMBuildOr(e->b, odd, LLVMBuildIsNull(e->b, workspace, ""), "");
    refuse(e, odd, 3);
}

/* A pointer field of SYMBOL_model. */
static LLVMValueRef model_field(Lib *l, size_t at)
{
    Emit *e = l->e;
    LLVMValueRef table = LLVMGetNamedGlobal(e->mod, arena_printf(e->arena, "%s_model", l->p->symbol));
    return emit_load(e, e->ptr, emit_gep(e, e->i8, table, emit_i64(e, (int64_t)at)), 8);
}

static LLVMValueRef build_args(Lib *l, LLVMValueRef in, LLVMValueRef out, LLVMValueRef n, LLVMValueRef workspace)
{
    Emit *e = l->e;
    LLVMValueRef args = emit_alloca(e, LLVMArrayType2(e->i64, sizeof(CnncArgs) / 8), "args");
    LLVMSetAlignment(args, 16);
    LLVMValueRef null = LLVMConstNull(e->ptr);
    LLVMValueRef consts = model_field(l, offsetof(CnncModel, consts));
    LLVMSetVolatile(consts, true);   /* else it is folded into a 32-bit distance to SYMBOL_consts, which the JIT may put out of reach */
    store_arg(l, args, offsetof(CnncArgs, state), null);
    store_arg(l, args, offsetof(CnncArgs, work), workspace);
    store_arg(l, args, offsetof(CnncArgs, consts), consts);
    store_arg(l, args, offsetof(CnncArgs, in), in);
    store_arg(l, args, offsetof(CnncArgs, labels), null);
    store_arg(l, args, offsetof(CnncArgs, out), out);
    store_arg(l, args, offsetof(CnncArgs, scalars), null);
    store_arg(l, args, offsetof(CnncArgs, results), null);
    store_arg(l, args, offsetof(CnncArgs, n), n);
    return args;
}

/* to[i] = (from[i] - mean) / std for i in 0..count-1: whole vectors, then single numbers. */
static void emit_normalize_plane(Lib *l, LLVMValueRef from, LLVMValueRef to, int64_t count, double mean, double std)
{
    Emit *e = l->e;
    int64_t lanes = e->target->lanes, whole = count / lanes * lanes;
    for (int tail = 0; tail < 2; tail++) {
        int width = tail ? 1 : (int)lanes;
        LLVMTypeRef t = emit_vec(e, e->f32, width);
        Loop i = emit_loop_begin(e, emit_i64(e, tail ? whole : 0), emit_i64(e, tail ? count : whole), width, "i");
        LLVMValueRef x = emit_load(e, t, emit_gep(e, e->f32, from, i.iv), 4);
        x = LLVMBuildFSub(e->b, x, emit_splat(e, emit_f32(e, mean), width), "");
        x = LLVMBuildFDiv(e->b, x, emit_splat(e, emit_f32(e, std), width), "");
        emit_store(e, x, emit_gep(e, e->f32, to, i.iv), 4);
        emit_loop_end(e, &i);
    }
}

/* The caller's floats count as pixels / 255: the compiled-in normalisation comes first. Returns what the stages read. */
static LLVMValueRef emit_normalize(Lib *l, LLVMValueRef in, LLVMValueRef n, LLVMValueRef workspace)
{
    Emit *e = l->e;
    const CnncModel *m = &l->p->model;
    if (m->n_mean <= 0)
        return in;
    int64_t floats = artifact_input_floats(m), channels = m->n_mean, plane = floats / channels;
    LLVMValueRef to = emit_gep(e, e->i8, workspace,
                               emit_i64(e, artifact_round64(l->p->infer->work_bytes) + artifact_scratch(l->p)));
    Loop sample = emit_loop_begin(e, emit_i64(e, 0), n, 1, "sample");
    LLVMValueRef at = emit_mul(e, sample.iv, floats);
    for (int64_t c = 0; c < channels; c++) {
        LLVMValueRef i = emit_add(e, at, emit_i64(e, c * plane));
        emit_normalize_plane(l, emit_gep(e, e->f32, in, i), emit_gep(e, e->f32, to, i), plane, m->mean[c], m->std[c]);
    }
    emit_loop_end(e, &sample);
    return to;
}

static void emit_stage_loop(Emit *e, const Function *f, LLVMValueRef *fns, LLVMValueRef args, LLVMValueRef n, LLVMValueRef scratch)
{
    for (int s = 0; s < f->n_stages; s++) {
        Loop loop = emit_loop_begin(e, emit_i64(e, 0), slices_for(e, &f->stages[s], n), 1, "slice");
        LLVMValueRef call[3] = {args, scratch, loop.iv};
        LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fns[s]), fns[s], call, 3, "");
        emit_loop_end(e, &loop);
    }
}

/* Whole blocks of images, then the samples after them one by one where those are few (CnncFunction.single). */
static void emit_block_loop(Lib *l, LLVMValueRef args, LLVMValueRef n, LLVMValueRef scratch)
{
    Emit *e = l->e;
    const CnncFunction *f = l->p->model.infer;
    LLVMValueRef in = emit_load(e, e->ptr, emit_gep(e, e->i8, args, emit_i64(e, offsetof(CnncArgs, in))), 8);
    LLVMValueRef out = emit_load(e, e->ptr, emit_gep(e, e->i8, args, emit_i64(e, offsetof(CnncArgs, out))), 8);
    LLVMValueRef rest = LLVMBuildURem(e->b, n, emit_i64(e, f->block), ""), few = LLVMBuildICmp(e->b, LLVMIntSLE, rest, emit_i64(e, f->rest), "");
    LLVMValueRef whole = LLVMBuildSub(e->b, n, LLVMBuildSelect(e->b, few, rest, emit_i64(e, 0), ""), "");
    If blocks = emit_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, whole, emit_i64(e, 0), ""));
    store_arg(l, args, offsetof(CnncArgs, n), whole);
    emit_stage_loop(e, l->p->infer, l->fns->infer, args, whole, scratch);
    emit_if_end(e, &blocks);
    Loop sample = emit_loop_begin(e, whole, n, 1, "sample");
    store_arg(l, args, offsetof(CnncArgs, in), emit_gep(e, e->f32, in, emit_mul(e, sample.iv, f->in_floats)));
    store_arg(l, args, offsetof(CnncArgs, out), emit_gep(e, e->f32, out, emit_mul(e, sample.iv, f->out_floats)));
    store_arg(l, args, offsetof(CnncArgs, n), emit_i64(e, 1));
    emit_stage_loop(e, l->p->single, l->fns->single, args, emit_i64(e, 1), scratch);
    emit_loop_end(e, &sample);
}

/* What runtime/library_main.c has and wants. The names become local when it is joined with this object. */
static void emit_pooled_loop(Lib *l, LLVMValueRef args, LLVMValueRef scratch)
{
    Emit *e = l->e;
    LLVMValueRef threads = LLVMAddGlobal(e->mod, e->i32, "cnnc_library_threads");
    LLVMSetInitializer(threads, emit_i32(e, l->p->library_threads));
    LLVMSetGlobalConstant(threads, true);
    LLVMSetVisibility(threads, LLVMHiddenVisibility);
    LLVMTypeRef params[4] = {e->ptr, e->ptr, e->ptr, e->i64}, type = LLVMFunctionType(e->void_, params, 4, false);
    LLVMValueRef run = LLVMAddFunction(e->mod, "cnnc_library_run", type);
    LLVMSetVisibility(run, LLVMHiddenVisibility);
    LLVMValueRef call[4] = {model_field(l, offsetof(CnncModel, infer)), args, scratch, emit_i64(e, artifact_scratch_stride(l->p))};
    LLVMBuildCall2(e->b, type, run, call, 4, "");
}

static LLVMValueRef emit_infer_n(Lib *l)
{
    Emit *e = l->e;
    const Function *f = l->p->infer;
    LLVMTypeRef params[4] = {e->ptr, e->ptr, e->i32, e->ptr};
    LLVMValueRef fn = begin(l, "infer_n", e->i32, params, 4);
    LLVMValueRef in = LLVMGetParam(fn, 0), out = LLVMGetParam(fn, 1), n = LLVMGetParam(fn, 2), workspace = LLVMGetParam(fn, 3);
    check_arguments(l, in, out, n, workspace);
    if (module_uses_tiles(f) && !e->target->software_tiles)
        refuse(e, LLVMBuildICmp(e->b, LLVMIntNE, ask_for_tiles(e), emit_i64(e, 0), ""), 4);
    LLVMValueRef wide = LLVMBuildSExt(e->b, n, e->i64, "");
    LLVMValueRef args = build_args(l, emit_normalize(l, in, wide, workspace), out, wide, workspace);
    LLVMValueRef scratch = emit_gep(e, e->i8, workspace, emit_i64(e, artifact_round64(f->work_bytes)));
    if (l->p->library_threads > 0)
        emit_pooled_loop(l, args, scratch);
    else if (l->p->single)
        emit_block_loop(l, args, wide, scratch);
    else
        emit_stage_loop(e, f, l->fns->infer, args, wide, scratch);
    end(l, emit_i32(e, 0));
    return fn;
}

static void emit_infer(Lib *l, LLVMValueRef infer_n)
{
    Emit *e = l->e;
    LLVMTypeRef params[3] = {e->ptr, e->ptr, e->ptr};
    LLVMValueRef fn = begin(l, "infer", e->i32, params, 3);
    LLVMValueRef call[4] = {LLVMGetParam(fn, 0), LLVMGetParam(fn, 1), emit_i32(e, l->p->infer->batch), LLVMGetParam(fn, 2)};
    end(l, LLVMBuildCall2(e->b, LLVMGlobalGetValueType(infer_n), infer_n, call, 4, ""));
}

/* NAME_class_name(i): the name, or NULL when i is out of range or no names were given. */
static void emit_class_name(Lib *l)
{
    Emit *e = l->e;
    const CnncModel *m = &l->p->model;
    LLVMValueRef fn = begin(l, "class_name", e->ptr, &e->i32, 1);
    if (m->n_classes <= 0 || !m->class_names) {
        end(l, LLVMConstNull(e->ptr));
        return;
    }
    LLVMValueRef *names = NEWN(e->arena, LLVMValueRef, m->n_classes);
    for (int i = 0; i < m->n_classes; i++)
        names[i] = string(l, m->class_names[i]);
    LLVMValueRef table = global(l, LLVMConstArray2(e->ptr, names, (uint64_t)m->n_classes), 8);
    LLVMValueRef i = LLVMGetParam(fn, 0);
    LLVMValueRef inside = LLVMBuildICmp(e->b, LLVMIntULT, i, emit_i32(e, m->n_classes), "");
    LLVMValueRef safe = LLVMBuildSelect(e->b, inside, i, emit_i32(e, 0), "");
    LLVMValueRef name = emit_load(e, e->ptr, emit_gep(e, e->ptr, table, LLVMBuildZExt(e->b, safe, e->i64, "")), 8);
    end(l, LLVMBuildSelect(e->b, inside, name, LLVMConstNull(e->ptr), ""));
}

static const char *dims_text(Arena *a, const int64_t *dims, int rank)
{
    const char *text = "";
    for (int i = 0; i < rank; i++)
        text = arena_printf(a, "%s%s%lld", text, i ? ", " : "", (long long)dims[i]);
    return arena_printf(a, "[%s]", text);
}

static const char *info_text(const Lib *l)
{
    const CnncModel *m = &l->p->model;
    Arena *a = l->e->arena;
    const char *threads = l->p->library_threads > 0 ? arena_printf(a, "%d threads, ", l->p->library_threads) : "";
    return arena_printf(a, "%s: input %s, output %s, batch %d, %sweights %016llx, for %s (%s), cnnc %s", m->name ? m->name : l->p->symbol,
                        dims_text(a, m->in_shape, m->in_rank), dims_text(a, m->out_shape, m->out_rank), (int)l->p->infer->batch,
                        threads, (unsigned long long)m->weights_checksum, l->e->target->name, l->e->target->cpu, CNNC_VERSION);
}

void library_emit(Emit *e, const Program *p, const StageFns *fns)
{
    Lib l = {e, p, fns};
    const CnncModel *m = &p->model;
    getter(&l, "workspace_size", e->i64, emit_i64(e, artifact_workspace(p)));
    emit_infer(&l, emit_infer_n(&l));
    getter(&l, "abi_version", e->i32, emit_i32(e, CNNC_ABI_VERSION));
    getter(&l, "info", e->ptr, string(&l, info_text(&l)));
    getter(&l, "batch", e->i32, emit_i32(e, p->infer->batch));
    getter(&l, "input_rank", e->i32, emit_i32(e, m->in_rank + 1));
    getter(&l, "output_rank", e->i32, emit_i32(e, m->out_rank + 1));
    getter(&l, "input_shape", e->ptr, shape(&l, m->in_shape, m->in_rank));
    getter(&l, "output_shape", e->ptr, shape(&l, m->out_shape, m->out_rank));
    getter(&l, "classes", e->i32, emit_i32(e, m->n_classes));
    emit_class_name(&l);
}
