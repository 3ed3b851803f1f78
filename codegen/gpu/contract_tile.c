/* The tile that a product of matrices is cut into, and how its operands get into shared memory.
 * In: a Contract with its groups of axes and its precision. Out: tile, slices, loads, and the groups in the order that loads like best.
 *
 * The tile is the one of a fixed list with the least estimated time: what a step issues per thread, how many blocks a
 * multiprocessor gets, what is computed past the edges. Products with few tiles and a long depth are cut along the depth as
 * well; slices are fixed by the shape, and their sums are added in order.
 *
 * Loads. A copy takes up to 16 bytes where elements lie side by side along the innermost axis of a group, nothing guards that axis,
 * and every other step through the buffer is a multiple of the copy. Which axis of a group is innermost is free, so the one is taken
 * that allows the widest copies. Float32 products keep tiles [depth][row] whatever the load, mma.c reads both ways. */
#include "codegen/gpu/code.h"

#include <math.h>

enum { STEPS_F32 = 8, STAGES = 4, STAGES_LONG = 3, LEAST_SLICE = 64, MOST_SLICES = 128, COPY_BYTES = 16, STEP_BYTES = 64, STEP_BYTES_LONG = 128 };
/* Float32, cycles of a thread: issuing four floats from shared memory, one asynchronous copy with its address. Of a launch; per byte of
 * partial sums for a multiprocessor. */
#define COST_SHARED 4.0
#define COST_COPY 10.0
#define COST_LAUNCH 4000.0
#define COST_BYTE 0.06
/* Of a multiprocessor: threads that hide latencies, bytes a cycle from shared memory. */
enum { BUSY_THREADS = 256, SHARED_BYTES = 128 };
/* Tensor cores, measured on an H100: the share of their peak that mma.sync reaches; cycles that the warps of a block wait in a step for
 * each other and for fragments; of a block until the first tiles are there; instructions of a warp in a step besides copies, loads and
 * products, of a copy whose axes the whole block has in common and of another, of an element that is rounded on the way, and of a point of
 * the epilogue. */
#define TENSOR_SHARE 0.65
#define STEP_WAIT 150.0
#define BLOCK_START 2500.0
enum { STEP_INSTRUCTIONS = 30, COPY_INSTRUCTIONS = 8, APART_INSTRUCTIONS = 16, ROUNDED_INSTRUCTIONS = 20, POINT_INSTRUCTIONS = 15 };
enum { SCHEDULERS = 4, REGISTERS = 65536, OTHER_REGISTERS = 110 };   /* of a multiprocessor; of a thread besides sums */

typedef struct { int32_t rows, cols, unit_rows, unit_cols; } TileShape;
static const TileShape thread_shapes[] = {
    {128, 128, 8, 8}, {128, 64, 8, 8}, {128, 64, 8, 4}, {64, 128, 8, 8}, {64, 64, 8, 4}, {64, 64, 4, 4}, {128, 32, 8, 4},
    {128, 16, 4, 4}, {64, 32, 4, 4}, {32, 64, 4, 4}, {32, 128, 4, 8}, {64, 16, 4, 4}, {32, 32, 4, 4}, {128, 8, 4, 4}, {64, 8, 4, 4},
};
static const TileShape warp_shapes[] = {
    {128, 128, 64, 32}, {128, 128, 64, 64}, {128, 256, 64, 64}, {256, 128, 64, 64}, {64, 256, 64, 64}, {128, 64, 64, 32}, {64, 128, 32, 64},
    {64, 128, 64, 32}, {128, 64, 32, 32}, {64, 128, 32, 32}, {64, 64, 32, 32}, {64, 64, 32, 16}, {128, 32, 32, 32}, {32, 128, 32, 32},
    {64, 32, 32, 16}, {32, 64, 16, 32}, {32, 32, 16, 16}, {128, 16, 32, 16}, {64, 16, 16, 16}, {16, 64, 16, 16},
};

bool contract_is_uniform(const Contract *c, const Kernel *k)
{
    const Axis *last = c->depth.n > 0 ? &k->axis[c->depth.axis[c->depth.n - 1]] : NULL;
    return last && !last->batch && last->extent % c->steps == 0;
}

int32_t contract_element_bytes(const Contract *c) { return c->products == PRECISION_BF16 ? 2 : 4; }

int32_t contract_copy_bytes(const Contract *c, const TileLoad *x) { return x->vector * contract_element_bytes(c); }

bool contract_has_small_copies(const Contract *c)
{
    return contract_copy_bytes(c, &c->a_load) < COPY_BYTES || contract_copy_bytes(c, &c->b_load) < COPY_BYTES;
}

int32_t contract_tile_elements(const Contract *c, const TileLoad *x, int32_t size) { return x->pitch * (x->depth_inside ? size : c->steps); }

int32_t contract_shared_bytes(const Contract *c)
{
    if (c->winograd)
        return c->winograd->shared_bytes;
    int32_t tiles =
        c->stages * contract_element_bytes(c) * (contract_tile_elements(c, &c->a_load, c->rows) + contract_tile_elements(c, &c->b_load, c->cols));
    int32_t sums = contract_epilogue_bytes(c);
    return tiles > sums ? tiles : sums;
}

/* ---- loads ---- */
/* Which axes of the group, from the innermost on, are one row of neighbours in `at` that nothing guards; *length: its elements. (Of an
 * axis of one point, a 1x1 window, any step is right.) */
static uint32_t neighbours(const KernelList *l, const Kernel *k, AccessId at, const AxisGroup *g, int64_t *length)
{
    uint32_t axes = 0;
    *length = 1;
    for (int i = g->n - 1; i >= 0; i--) {
        int axis = g->axis[i];
        bool guarded = false;
        for (int d = 0; d < k->access[at].rank; d++)
            guarded = guarded || (k->access[at].dim[d].coef[axis] && k->access[at].dim[d].guarded);
        if (k->axis[axis].batch || (k->axis[axis].extent > 1 && (guarded || access_step(l, k, at, axis) != *length)))
            break;
        *length *= k->axis[axis].extent;
        axes |= 1u << axis;
    }
    return axes;
}

/* Every step but those along `axes` is a multiple of `vector` elements. */
static bool steps_by(const KernelList *l, const Kernel *k, AccessId at, uint32_t axes, int32_t vector)
{
    const Access *s = &k->access[at];
    int64_t stride[MAX_RANK], offset = 0;
    layout_strides(&l->buffers.at[s->buf], stride);
    for (int d = 0; d < s->rank; d++)
        offset += stride[d] * s->dim[d].offset;
    for (int a = 0; a < k->n_axes; a++)
        if (!(axes >> a & 1) && k->axis[a].extent > 1 && access_step(l, k, at, a) % vector)
            return false;
    return offset % vector == 0;
}

/* Elements of the widest copies of an operand along the group's innermost axes; 0: its elements must be rounded on the way. */
static int32_t vector_along(const Contract *c, const KernelList *l, const Kernel *k, AccessId at, const AxisGroup *g)
{
    int32_t bytes = contract_element_bytes(c);
    bool narrow = l->buffers.at[k->access[at].buf].dtype == DT_BF16;
    if (narrow != (c->products == PRECISION_BF16))
        return 0;
    int64_t length;
    uint32_t axes = neighbours(l, k, at, g, &length);
    for (int32_t v = COPY_BYTES / bytes; v > 1; v /= 2)
        if (length % v == 0 && steps_by(l, k, at, axes, v))
            return v;
    return narrow ? 0 : 1;   /* a copy has four bytes at least */
}

/* How many elements lie together when threads walk along the group's innermost axes. */
static double run_length(const KernelList *l, const Kernel *k, AccessId at, const AxisGroup *g)
{
    int64_t run = 1;
    for (int i = g->n - 1; i >= 0; i--) {
        int64_t extent = k->axis[g->axis[i]].extent, stride = access_stride(l, k, at, g->axis[i]);
        if (extent > 1 && stride != run)
            return run > 1 || !stride ? (double)run : 1 / (double)stride;
        run *= extent;
    }
    return (double)run;
}

/* The axis that lies side by side in `at` comes last. The batch stays first. (Of a 1x1 window every step is 1.) */
static AxisGroup turned(const KernelList *l, const Kernel *k, AccessId at, const AxisGroup *g)
{
    AxisGroup out = *g;
    int n = 0, last = -1;
    for (int i = 0; i < g->n; i++)
        if (!k->axis[g->axis[i]].batch && k->axis[g->axis[i]].extent > 1 && access_step(l, k, at, g->axis[i]) == 1)
            last = g->axis[i];
    for (int i = 0; i < g->n && last >= 0; i++)
        if (g->axis[i] != last)
            out.axis[n++] = g->axis[i];
    if (last >= 0)
        out.axis[n] = (int8_t)last;
    return out;
}

/* How at is best loaded, its own group of axes in the order that this needs. */
static TileLoad best_load(const Contract *c, const KernelList *l, const Kernel *k, AccessId at, AxisGroup *own, const AxisGroup *depth)
{
    AxisGroup other = turned(l, k, at, own);
    int32_t along = vector_along(c, l, k, at, depth), plain = vector_along(c, l, k, at, own), moved = vector_along(c, l, k, at, &other);
    if (c->products == PRECISION_F32)
        along = 1;
    if (moved > plain && moved > along) {
        *own = other;
        plain = moved;
    }
    bool by_depth = along != plain ? along > plain : run_length(l, k, at, depth) > run_length(l, k, at, own);
    return (TileLoad){.along_depth = by_depth, .depth_inside = by_depth && c->products != PRECISION_F32, .vector = by_depth ? along : plain};
}

static void choose_loads(Contract *c, const KernelList *l, const Kernel *k)
{
    const AxisGroup depths[] = {c->depth, turned(l, k, c->a, &c->depth), turned(l, k, c->b, &c->depth)};
    Contract best = {0};
    for (size_t i = 0; i < ARRAY_LEN(depths); i++) {
        Contract now = *c;
        now.depth = depths[i];
        now.a_load = best_load(&now, l, k, now.a, &now.row, &now.depth);
        now.b_load = best_load(&now, l, k, now.b, &now.col, &now.depth);
        if (i == 0 || now.a_load.vector + now.b_load.vector > best.a_load.vector + best.b_load.vector)
            best = now;
    }
    *c = best;
}

/* Float32: threads write and read neighbours. Tensor cores' lines along the depth are permuted instead (mma.c). Lines along rows: of bf16
 * eight of 16 bytes, which an odd number of them apart lie in all banks; of tf32 four lines of eight floats 8 or 24 apart, modulo 32. */
static void set_pitch(const Contract *c, TileLoad *x, int32_t size)
{
    if (x->depth_inside)
        x->pitch = c->steps;
    else
        x->pitch = size + (c->products == PRECISION_F32 ? 4 : 8);
}

/* ---- tiles ---- */
static double up(double x, double to) { return ceil(x / to) * to; }

static int32_t shape_threads(const Contract *c, const TileShape *s)
{
    return s->rows / s->unit_rows * (s->cols / s->unit_cols) * (c->products == PRECISION_F32 ? 1 : GPU_WARP);
}

static double copies(const TileLoad *x, double elements) { return elements / (x->vector ? x->vector : 1); }

/* Cycles of a multiprocessor's threads for one step of a block, in float32. */
static double step_cycles_f32(const Contract *c, const TileShape *s)
{
    double loads = COST_COPY * (copies(&c->a_load, s->rows) + copies(&c->b_load, s->cols)) * c->steps;
    return ((s->rows * s->cols + COST_SHARED * s->rows * s->cols / 4 * (1.0 / s->unit_rows + 1.0 / s->unit_cols)) * c->steps + loads) /
           CONTRACT_LANES;
}

static double cycles_f32(const Contract *c, const TileShape *s, double per_processor, double steps)
{
    double busy = per_processor * shape_threads(c, s);
    return per_processor * steps * step_cycles_f32(c, s) * (busy < BUSY_THREADS ? BUSY_THREADS / busy : 1);
}

/* Instructions of all threads for a step's copies of one operand. */
static double copy_instructions(const Contract *c, const Kernel *k, const TileLoad *x, double elements)
{
    if (!x->vector)
        return elements * ROUNDED_INSTRUCTIONS;
    return elements / x->vector * (contract_is_uniform(c, k) ? COPY_INSTRUCTIONS : APART_INSTRUCTIONS);
}

/* What a step of a block takes of a multiprocessor when others hide its waits: tensor cores, instructions, shared memory. */
static double step_cycles(const Contract *c, const Kernel *k, const TileShape *s, const GpuTarget *t)
{
    double macs = (double)s->rows * s->cols * c->steps, element = contract_element_bytes(c), warps = shape_threads(c, s) / (double)GPU_WARP;
    double tensor = macs / (TENSOR_SHARE * t->macs[c->products]);
    double fragments = macs * (1.0 / s->unit_rows + 1.0 / s->unit_cols) * element, tiles = (s->rows + s->cols) * c->steps * element;
    double copied = copy_instructions(c, k, &c->a_load, s->rows * c->steps) + copy_instructions(c, k, &c->b_load, s->cols * c->steps);
    double instructions = macs / (c->products == PRECISION_BF16 ? 2048 : 1024) + fragments / 512 + copied / GPU_WARP + warps * STEP_INSTRUCTIONS;
    return fmax(tensor, fmax(instructions / SCHEDULERS, (fragments + tiles) / SHARED_BYTES));
}

/* Blocks that run on a multiprocessor at a time. */
static double at_a_time(const Contract *c, const TileShape *s, const GpuTarget *t)
{
    double threads = shape_threads(c, s), registers = threads * (s->rows * s->cols / threads + OTHER_REGISTERS);
    double tiles = c->stages * (s->rows + s->cols) * (double)c->steps * contract_element_bytes(c), sums = (s->rows + 4.0) * s->cols * sizeof(float);
    return fmax(1, floor(fmin(REGISTERS / registers, t->shared_bytes / fmax(tiles, sums))));
}

static double cycles_tensor(const Contract *c, const Kernel *k, const TileShape *s, const GpuTarget *t, double per_processor, double steps)
{
    double together = fmin(per_processor, at_a_time(c, s, t)), rounds = ceil(per_processor / together), alone = step_cycles(c, k, s, t);
    double epilogue = (double)s->rows * s->cols * POINT_INSTRUCTIONS / CONTRACT_LANES;
    return rounds * (BLOCK_START + steps * fmax(together * alone, alone + STEP_WAIT)) + per_processor * epilogue;
}

double contract_parts_cycles(double sums, int slices, const GpuTarget *t) { return COST_LAUNCH + COST_BYTE * 8 * sums * slices / t->multiprocessors; }

/* Estimated cycles on t with `slices` slices. */
static double cost(const Contract *c, const Kernel *k, const TileShape *s, int slices, const GpuTarget *t)
{
    double blocks = up((double)c->row.extent, s->rows) / s->rows * up((double)c->col.extent, s->cols) / s->cols * (double)c->both.extent * slices;
    double steps = up(ceil((double)c->depth.extent / slices), c->steps) / c->steps, per_processor = ceil(blocks / t->multiprocessors);
    double cycles = c->products == PRECISION_F32 ? cycles_f32(c, s, per_processor, steps) : cycles_tensor(c, k, s, t, per_processor, steps);
    double sums = (double)c->row.extent * (double)c->col.extent * (double)c->both.extent;
    return cycles + (slices > 1 ? contract_parts_cycles(sums, slices, t) : 0);
}

static void take_shape(Contract *c, const TileShape *s)
{
    c->rows = s->rows;
    c->cols = s->cols;
    c->unit_rows = s->unit_rows;
    c->unit_cols = s->unit_cols;
    c->threads = shape_threads(c, s);
}

/* Addresses of copies take registers, elements that are rounded on the way wait in some, too: beside few sums. */
static bool fits_registers(const Contract *c, const Kernel *k, const TileShape *s)
{
    enum { MOST_SUMS = 48, MOST_SUMS_AND_ROUNDED = 64, MANY_SUMS = 128, MOST_COPIES = 16, MOST_WINDOWS = 12 };
    double threads = shape_threads(c, s), sums = s->rows * s->cols / threads;
    double rounded = ((c->a_load.vector ? 0 : s->rows) + (c->b_load.vector ? 0 : s->cols)) * c->steps / threads;
    if (c->products == PRECISION_F32)
        return true;
    if (contract_has_small_copies(c))
        return sums <= MOST_SUMS && sums + rounded <= MOST_SUMS_AND_ROUNDED;
    bool own_taps = c->a_load.along_depth && !contract_is_uniform(c, k);   /* a thread's copies are of a tap that others have not */
    double copied = (copies(&c->a_load, s->rows) + copies(&c->b_load, s->cols)) * c->steps / threads;
    return sums < MANY_SUMS || copied <= (own_taps ? MOST_WINDOWS : MOST_COPIES);
}

/* The best shape and number of slices at c's steps, if it is better than c->cycles. */
static bool choose_shape(Contract *c, const Kernel *k, const GpuTarget *t)
{
    bool by_threads = c->products == PRECISION_F32, found = false;
    const TileShape *shapes = by_threads ? thread_shapes : warp_shapes;
    size_t n = by_threads ? ARRAY_LEN(thread_shapes) : ARRAY_LEN(warp_shapes);
    for (size_t i = 0; i < n; i++)
        for (int slices = 1; slices <= MOST_SLICES; slices *= 2) {
            double now = cost(c, k, &shapes[i], slices, t);
            if (now >= c->cycles || !fits_registers(c, k, &shapes[i]) || (slices > 1 && c->depth.extent / slices < LEAST_SLICE))
                continue;
            c->cycles = now;
            take_shape(c, &shapes[i]);
            c->slices = slices;
            found = true;
        }
    return found;
}

/* Long steps wait less often, and take more shared memory. */
static void choose_steps(Contract *c, const KernelList *l, const Kernel *k, const GpuTarget *t)
{
    Contract longer = *c;
    c->stages = STAGES;
    c->steps = c->products == PRECISION_F32 ? STEPS_F32 : STEP_BYTES / contract_element_bytes(c);
    c->cycles = INFINITY;
    choose_loads(c, l, k);
    choose_shape(c, k, t);
    if (c->products == PRECISION_F32)
        return;
    longer.stages = STAGES_LONG;
    longer.steps = STEP_BYTES_LONG / contract_element_bytes(c);
    longer.cycles = c->cycles;
    choose_loads(&longer, l, k);
    if (choose_shape(&longer, k, t))
        *c = longer;
}

int64_t contract_steps(const Contract *c) { return c->depth.dynamic ? INT64_MAX : (c->slice_depth + c->steps - 1) / c->steps; }

void contract_choose_tile(Contract *c, const KernelList *l, const Kernel *k, const GpuTarget *t)
{
    choose_steps(c, l, k, t);
    set_pitch(c, &c->a_load, c->rows);
    set_pitch(c, &c->b_load, c->cols);
    c->slice_depth = ((c->depth.extent + c->slices - 1) / c->slices + c->steps - 1) / c->steps * c->steps;
    c->slices = (int32_t)((c->depth.extent + c->slice_depth - 1) / c->slice_depth);
    if (contract_steps(c) < c->stages)
        c->stages = (int32_t)contract_steps(c);
}
