/* Sums over the points of a tile, for every channel (Kernel.tile_sum), in the loops of the epilogue.
 * In: a product whose channel is alone among the rows or the columns. Out: lines in front of, in and behind the inner loop over points,
 * and behind both. A column's points are a warp's: each lane sums its own, then all lanes. A row's points are spread over the groups
 * of lanes that have the row: their parts meet in shared memory.
 * Moments: each lane (group) has a mean of its own, or the warp's, before it squares: nothing is lost when the mean is large. */
#include "codegen/gpu/contract.h"

static const char *value_of(Code *c, int i) { return cu_value(c, c->k->tile_sum[i].value); }

static int32_t groups_of(const Contract *x) { return x->threads / contract_lanes(x); }

static const char *part_at(Code *c, int i, bool rows)
{
    const Buffer *b = &c->l->buffers.at[c->k->access[c->k->tile_sum[i].at].buf];
    return arena_printf(c->arena, "%s[%lld * %s + %s]", c->buffer[c->k->access[c->k->tile_sum[i].at].buf], (long long)b->shape.dim[1], rows ? "row" : "col",
                        rows ? arena_printf(c->arena, "(int)%s", contract_block(c, 'y')) : "block");
}

void contract_sums_begin(Code *c, const Contract *x, bool rows)
{
    int32_t most = rows ? x->cols : x->rows;
    const char *name = rows ? "col" : "row";
    cu_line(c, "const int left = %s - first_%s, points = left < 0 ? 0 : left < %d ? left : %d;   // of the tile, for a channel's sums", contract_limit(c, rows ? &x->col : &x->row),
            name, most, most);
    if (rows)
        cu_line(c, "float *const parts = shared + %d;   // [sum][%d][%d rows]", contract_pitch(x) * x->cols, groups_of(x), x->rows);
}

/* In front of the loop over points. */
void contract_sums_start(Code *c, const Contract *x, bool rows)
{
    for (int i = 0; i < c->k->n_tile_sums; i++)
        cu_line(c, "float total%d = 0.0f;", i);
    if (c->k->tile_moments && !rows)
        cu_line(c, "float kept[%d];", x->rows / contract_lanes(x));
}

/* At each point. */
void contract_sums_add(Code *c, bool rows)
{
    for (int i = 0; i < (c->k->tile_moments ? 1 : c->k->n_tile_sums); i++)
        cu_line(c, "total%d += %s;", i, value_of(c, i));
    if (c->k->tile_moments && !rows)
        cu_line(c, "kept[i] = %s;", value_of(c, 0));
}

/* ---- a column ---- */
void contract_sums_of_column(Code *c, const Contract *x)
{
    cu_line(c, "total0 = warp_sum(total0);");
    if (c->k->tile_moments) {
        cu_line(c, "const float mean = total0 / points;");
        cu_line(c, "#pragma unroll");
        cu_line(c, "for (int i = 0; i < %d; i++)", x->rows / GPU_WARP);
        cu_line(c, "    if (32 * i + (int)threadIdx.x %% 32 < points) total1 += (kept[i] - mean) * (kept[i] - mean);");
    }
    for (int i = 1; i < c->k->n_tile_sums; i++)
        cu_line(c, "total%d = warp_sum(total%d);", i, i);
    cu_open(c, "if (threadIdx.x %% 32 == 0)");
    for (int i = 0; i < c->k->n_tile_sums; i++)
        cu_line(c, "%s = total%d;", part_at(c, i, false), i);
    cu_close(c);
}

/* ---- rows ---- */
/* How many of `points` columns a group of lanes has. */
static void own_points(Code *c, const Contract *x, const char *group)
{
    cu_line(c, "const int own = (points - %s + %d) / %d;", group, groups_of(x) - 1, groups_of(x));
}

/* Behind the loop over a row's points; of moments, inside of another one (contract_sums_square). */
void contract_sums_mean(Code *c, const Contract *x)
{
    own_points(c, x, arena_printf(c->arena, "(int)threadIdx.x / %d", contract_lanes(x)));
    cu_line(c, "const float mean = total0 / own;");
}

void contract_sums_square(Code *c)
{
    cu_line(c, "const float off = %s - mean;", value_of(c, 0));
    cu_line(c, "total1 += off * off;");
}

void contract_sums_of_row(Code *c, const Contract *x)
{
    for (int i = 0; i < c->k->n_tile_sums; i++)
        cu_line(c, "parts[%d + threadIdx.x / %d * %d + row_at] = total%d;", i * groups_of(x) * x->rows, contract_lanes(x), x->rows, i);
}

void contract_sums_of_rows(Code *c, const Contract *x)
{
    int32_t groups = groups_of(x), size = groups * x->rows;
    cu_line(c, "__syncthreads();");
    cu_open(c, "for (int row_at = threadIdx.x; row_at < %d; row_at += %d)", x->rows, x->threads);
    cu_line(c, "const int row = first_row + row_at;");
    cu_line(c, "if (row >= %s) continue;", contract_limit(c, &x->row));
    contract_sums_start(c, x, true);
    cu_line(c, "for (int group = 0; group < %d; group++)", groups);
    cu_line(c, "    total0 += parts[group * %d + row_at];", x->rows);
    if (c->k->tile_moments) {
        cu_line(c, "const float mean = total0 / points;");
        cu_open(c, "for (int group = 0; group < %d; group++)", groups);
        own_points(c, x, "group");
        cu_line(c, "if (own <= 0) continue;");
        cu_line(c, "const float off = parts[group * %d + row_at] / own - mean;", x->rows);
        cu_line(c, "total1 += parts[%d + group * %d + row_at] + own * off * off;", size, x->rows);
        cu_close(c);
    } else if (c->k->n_tile_sums > 1) {
        cu_line(c, "for (int group = 0; group < %d; group++)", groups);
        cu_line(c, "    total1 += parts[%d + group * %d + row_at];", size, x->rows);
    }
    for (int i = 0; i < c->k->n_tile_sums; i++)
        cu_line(c, "%s = total%d;", part_at(c, i, true), i);
    cu_close(c);
}
