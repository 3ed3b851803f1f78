/* The gradient of a convolution's weights by Winograd in one kernel, the forward form transposed (codegen/winograd_dw.c):
 *
 *     dw[k, c] = G' (SUM over images and tiles of (A dy A') . (B' x B)) G
 *
 * In: a kernel SUM[n, p, q](dy * x). Out: its Contract, if it is quicker so; the kernel's body. A block has 32 channels and 32 filters and
 * sums over tiles of 4 x 4 of dy, six a step: half of its threads transform x for a channel and a tile each, the others dy for a filter
 * and a tile. What a slice of the tiles leaves are taps, since the last transform is linear. */
#include "codegen/gpu/winograd.h"

#include <math.h>

enum { M = 4, STEPS = 6, ROWS = 32, COLS = 32, UNIT_ROWS = 4, UNIT_COLS = 8, POINTS = 3, MOST_SLICES = 128, LEAST_STEPS = 4 };
/* Scalar operations of the transforms: of x, of dy, of a pair's sums. */
enum { X_OPERATIONS = 144, DY_OPERATIONS = 100, TAPS_OPERATIONS = 100 };

/* ---- costs ---- */
static double up(double x, double to) { return ceil(x / to) * to; }

static double cycles(const WinogradGradient *g, int64_t tiles, int slices, const GpuTarget *t)
{
    const double points = (double)g->a * g->a, pairs = ROWS * COLS;
    double sums = points * pairs * (1 + COST_FLOAT / 4 * (1.0 / UNIT_ROWS + 1.0 / UNIT_COLS));
    double x = ROWS * (X_OPERATIONS + points * (COST_INPUT + 1 + COST_FLOAT)),
           dy = COLS * (DY_OPERATIONS + M * M * (COST_INPUT + 1) + points * COST_FLOAT);
    double bytes = 4.0 * M * M * (1.5 * ROWS + COLS), tile = fmax((sums + x + dy) / CONTRACT_LANES, bytes / L2_BYTES);
    double epilogue = pairs * (points * (COST_FLOAT + 1) + TAPS_OPERATIONS + COST_OUTPUT * g->form->r * g->form->r) / CONTRACT_LANES;
    double blocks = ceil((double)g->channels / ROWS) * ceil((double)g->filters / COLS) * slices, depth = up(ceil((double)tiles / slices), STEPS);
    double of_all = ceil(blocks / t->multiprocessors) * (COST_BLOCK + depth * tile + epilogue);
    return of_all + (slices > 1 ? contract_parts_cycles((double)(g->channels * g->filters * g->form->r * g->form->r), slices, t) : 0);
}

/* ---- choosing ---- */
static bool choose_slices(Contract *c, const WinogradGradient *g, int64_t tiles, const GpuTarget *t)
{
    double best = MARGIN * c->cycles;
    int found = 0;
    for (int slices = 1; slices <= MOST_SLICES && (slices == 1 || tiles / slices >= LEAST_STEPS * STEPS); slices++) {
        double now = cycles(g, tiles, slices, t);
        if (now >= best)
            continue;
        best = now;
        found = slices;
    }
    if (!found)
        return false;
    c->cycles = best;
    c->slice_depth = (int64_t)up(ceil((double)tiles / found), STEPS);
    c->slices = (int32_t)((tiles + c->slice_depth - 1) / c->slice_depth);
    return true;
}

static void set_block(Contract *c, GpuWinograd *w)
{
    c->rows = ROWS;
    c->cols = COLS;
    c->unit_rows = UNIT_ROWS;
    c->unit_cols = UNIT_COLS;
    c->steps = STEPS;
    c->stages = 2;
    w->points = POINTS;
    int32_t points = w->form->a * w->form->a, staged = 2 * STEPS * (points * (ROWS + COLS) + 8),
            exchanged = points * COLS * winograd_pitch(ROWS, UNIT_ROWS);
    c->threads = ROWS / UNIT_ROWS * (COLS / UNIT_COLS) * points / POINTS;
    w->shared_bytes = (int32_t)sizeof(float) * (staged > exchanged ? staged : exchanged);
}

/* Rows are channels and taps, columns filters. */
static bool fits(const WinogradGradient *g, const Contract *c)
{
    bool fine = c && c->a == g->x && c->b == g->dy && c->row.n == 3 && c->col.n == 1 && c->col.axis[0] == g->filter && !c->both.n;
    for (int i = 0; fine && i < c->row.n; i++)
        fine = c->row.axis[i] == g->c || c->row.axis[i] == g->r || c->row.axis[i] == g->s;
    return fine;
}

const Contract *winograd_find_dw(Arena *a, KernelList *l, const GpuTarget *t, const Kernel *k, double error)
{
    WinogradGradient g = {.l = l, .k = k, .error = error};
    if (!winograd_recognise_gradient(&g) || k->axis[g.r].extent != 3)
        return NULL;
    Contract *c = contract_find(a, l, k, t, PRECISION_F32);
    g.form = &winograd_forms[0];
    for (size_t i = 0; i < ARRAY_LEN(winograd_forms); i++)
        if (winograd_forms[i].m == M && winograd_forms[i].r == 3)
            g.form = &winograd_forms[i];
    g.a = g.form->a;
    g.channels = k->axis[g.c].extent;
    g.filters = k->axis[g.filter].extent;
    int64_t down = (k->axis[g.p].extent + M - 1) / M, across = (k->axis[g.q].extent + M - 1) / M, tiles = k->axis[g.n].extent * down * across;
    if (!fits(&g, c) || g.form->error > error || !choose_slices(c, &g, tiles, t))
        return NULL;
    GpuWinograd *w = NEW(a, GpuWinograd);
    *w = (GpuWinograd){.form = g.form, .of_weights = true, .n = (int8_t)g.n, .p = (int8_t)g.p, .q = (int8_t)g.q, .filter = (int8_t)g.filter, .c = (int8_t)g.c,
                       .r = (int8_t)g.r, .s = (int8_t)g.s, .down = (int32_t)down, .across = (int32_t)across, .pad_h = -k->access[g.x].dim[2].offset,
                       .pad_w = -k->access[g.x].dim[3].offset, .channels = (int32_t)g.channels};
    set_block(c, w);
    double x = (double)tiles * (double)g.channels * ceil((double)g.filters / COLS),
           dy = (double)tiles * (double)g.filters * ceil((double)g.channels / ROWS);
    double pairs = (double)(g.channels * g.filters);
    w->flops = 2 * ((double)g.a * g.a * pairs * (double)tiles + X_OPERATIONS * x + DY_OPERATIONS * dy + TAPS_OPERATIONS * pairs * c->slices);
    c->winograd = w;
    return w->shared_bytes <= t->shared_bytes ? c : NULL;
}

/* ---- inputs ---- */
/* inputs[size][size] at rows from `top` and columns from `left` of operand `at`, 0 outside: of the thread's channel or filter. */
static void emit_patch(Code *c, const Contract *x, AccessId at, int size, int pad_h, int pad_w, const char *index, int64_t limit)
{
    const Buffer *in = &c->l->buffers.at[c->k->access[at].buf];
    int64_t stride[MAX_RANK];
    layout_strides(in, stride);
    cu_line(c, "const int top = %d * down - %d, left = %d * across - %d;", M, pad_h, M, pad_w);
    cu_line(c, "const int at = %lld * (numbered / %d) + %lld * (%s + own) + %lld * top + %lld * left;", (long long)stride[0], x->winograd->down * x->winograd->across,
            (long long)stride[1], index, (long long)stride[2], (long long)stride[3]);
    cu_line(c, "unsigned rows = 0, cols = 0;");
    cu_open(c, "if (numbered < last_tile%s)", limit % x->rows ? arena_printf(c->arena, " && %s + own < %lld", index, (long long)limit) : "");
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", size);
    cu_line(c, "rows |= ((unsigned)(top + i) < %du) << i;", (int)in->shape.dim[2]);
    cu_line(c, "cols |= ((unsigned)(left + i) < %du) << i;", (int)in->shape.dim[3]);
    cu_close(c);
    cu_close(c);
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", size * size);
    cu_line(c, "    inputs[i] = rows >> i / %d & cols >> i %% %d & 1 ? %s[at + %lld * (i / %d) + %lld * (i %% %d)] : 0.0f;", size, size,
            c->buffer[c->k->access[at].buf], (long long)stride[2], size, (long long)stride[3], size);
}

static void emit_load(Code *c, const Contract *x)
{
    const GpuWinograd *w = x->winograd;
    cu_line(c, "const int numbered = from + own_tile, down = numbered / %d %% %d, across = numbered %% %d;", w->across, w->down, w->across);
    cu_open(c, "if (threadIdx.x < %d)", x->threads / 2);
    emit_patch(c, x, x->a, w->form->a, w->pad_h, w->pad_w, "first_channel", x->winograd->channels);
    cu_close(c);
    cu_open(c, "else");
    emit_patch(c, x, x->b, w->form->m, 0, 0, "first_filter", x->col.extent);
    cu_close(c);
}

static void emit_place(Code *c, const Contract *x)
{
    const WinogradForm *f = x->winograd->form;
    int32_t points = winograd_points(x);
    cu_open(c, "if (threadIdx.x < %d)", x->threads / 2);
    cu_line(c, "%s(inputs, v_next + %d * own_tile + own, %d);", winograd_function(c->arena, f, TRANSFORM_INPUTS), points * x->rows + 4, x->rows);
    cu_close(c);
    cu_open(c, "else");
    cu_line(c, "%s(inputs, u_next + %d * own_tile + own, %d);", winograd_function(c->arena, f, TRANSFORM_SPREAD), points * x->cols + 4, x->cols);
    cu_close(c);
}

/* ---- outputs ---- */
static void emit_taps(Code *c, const Contract *x)
{
    const GpuWinograd *w = x->winograd;
    const char *channel = c->k->axis[w->c].name, *filter = c->k->axis[w->filter].name;
    winograd_exchange(c, x);
    cu_line(c, "const int %s = first_channel + pair %% %d, %s = first_filter + pair / %d;", channel, x->rows, filter, x->rows);
    if (w->channels % x->rows || x->col.extent % x->cols)
        cu_line(c, "if (%s >= %d || %s >= %lld) continue;", channel, w->channels, filter, (long long)x->col.extent);
    cu_line(c, "float taps[%d];", w->form->r * w->form->r);
    winograd_take(c, x);
    cu_line(c, "%s(sums_of_pair, taps, 1);", winograd_function(c->arena, w->form, TRANSFORM_TAPS));
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int tap = 0; tap < %d; tap++)", w->form->r * w->form->r);
    cu_line(c, "const int %s = tap / %d, %s = tap %% %d;", c->k->axis[w->r].name, w->form->r, c->k->axis[w->s].name, w->form->r);
    c->name[x->sum] = "taps[tap]";
    if (x->slices > 1)
        cu_line(c, "%s = taps[tap];", winograd_partial(c, x));
    else
        cu_outputs(c, false);
    cu_close(c);
    cu_close(c);
}

void winograd_emit_dw(Code *c, const GpuBody *body)
{
    const Contract *x = body->contract;
    const GpuWinograd *w = x->winograd;
    int32_t tiles = w->down * w->across, half = x->threads / 2;
    cu_line(c, "// By Winograd %s, transposed: SUM is G' (SUM over tiles of (A dy A') . (B' x B)) G.", w->form->name);
    winograd_begin(c, x);
    cu_line(c, "const int first_channel = block * %d, first_filter = blockIdx.y * %d;", x->rows, x->cols);
    winograd_slice(c, x, "tile", arena_printf(c->arena, "samples * %d", tiles));
    cu_line(c, "// What the thread transforms: the first half x of a channel, the other dy of a filter, of one tile of a step.");
    cu_line(c, "const int own_tile = threadIdx.x %% %d, own = threadIdx.x %% %d / %d;", x->steps, half, x->steps);
    winograd_steps(c, x, "first_tile", emit_load, emit_place);
    emit_taps(c, x);
}
