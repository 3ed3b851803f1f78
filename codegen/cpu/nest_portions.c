/* Long sums, a portion at a time (Nest.portion).
 * In: the loops that a portion goes through, as a body. Out: the same body twice, for all portions but the last one and for that.
 * Invariant: between portions the sum lies in the output, as float32. Idea: see codegen/schedule_portions.c. */
#include "codegen/cpu/nest.h"

void portions_in_turn(Ctx *c, Body body, void *arg)
{
    Emit *e = c->e;
    int64_t last = c->k->axis[c->nest->portion_axis].extent / c->nest->portion - 1;
    uint32_t mark = memo_mark(c);
    Loop l = emit_loop_begin(e, emit_i64(e, 0), emit_i64(e, last), 1, "portion");
    c->portion = l.iv;
    body(c, arg);
    emit_loop_end(e, &l);
    memo_reset(c, mark);
    c->portion = emit_i64(e, last);
    c->last_portion = true;
    body(c, arg);
    c->last_portion = false;
    c->portion = NULL;
}

static void store_sum(Ctx *c, void *unused)
{
    (void)unused;
    const Out *out = &c->k->out[0];
    LLVMValueRef sum = eval(c, nest_sum(c->nest));
    LLVMValueRef more = LLVMBuildFAdd(c->e->b, portion_sum_so_far(c), sum, "");
    LLVMValueRef first = LLVMBuildICmp(c->e->b, LLVMIntEQ, c->portion, emit_i64(c->e, 0), "");
    access_store(c, out->at, LLVMBuildSelect(c->e->b, first, sum, more, ""), NULL);
}

void portion_store(Ctx *c) { for_points(c, open_points(c), store_sum, NULL); }

LLVMValueRef portion_sum_so_far(Ctx *c) { return access_load(c, c->k->out[0].at, NULL); }
