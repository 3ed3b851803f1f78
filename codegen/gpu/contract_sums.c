/* Sums over the points of a tile, for every channel (Kernel.tile_sum), in the loops of the epilogue.
 * In: a product whose channel is alone among the rows or the columns. Out: lines in front of, in and behind the inner loop over points,
 * and behind both. A column's points are a warp's: each lane sums its own, then all lanes. A row's points are spread over the groups
 * of lanes that have the row: their parts meet in shared memory.
 * A lane that has four rows of a column at once sums them as four points of the column, or each for itself.
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

/* "[u]" of sums that each row of a lane has for itself. */
static const char *of_row(const Contract *x, bool rows) { return rows && contract_wide(x) ? "[u]" : ""; }

/* In front of the loop over points. */
void contract_sums_start(Code *c, const Contract *x, bool rows)
{
    for (int i = 0; i < c->k->n_tile_sums; i++)
        cu_line(c, *of_row(x, rows) ? "float total%d[4] = {0.0f};" : "float total%d = 0.0f;", i);
    if (c->k->tile_moments && !rows)
        cu_line(c, contract_wide(x) ? "float kept[%d][4];" : "float kept[%d];", contract_rounds(x));
}

/* At each point. */
void contract_sums_add(Code *c, const Contract *x, bool rows, const char *inside)
{
    for (int i = 0; i < (c->k->tile_moments ? 1 : c->k->n_tile_sums); i++) {
        const char *value = value_of(c, i);
        cu_line(c, "total%d%s += %s;", i, of_row(x, rows), inside ? arena_printf(c->arena, "%s ? %s : 0.0f", inside, value) : value);
    }
    if (c->k->tile_moments && !rows)
        cu_line(c, contract_wide(x) ? "kept[i][u] = %s;" : "kept[i] = %s;", value_of(c, 0));
}

/* ---- a column ---- */
void contract_sums_of_column(Code *c, const Contract *x)
{
    const bool wide = contract_wide(x);
    cu_line(c, "total0 = warp_sum(total0);");
    if (c->k->tile_moments) {
        cu_line(c, "const float mean = total0 / points;");
        cu_line(c, "#pragma unroll");
        cu_open(c, "for (int i = 0; i < %d * %d; i++)", contract_rounds(x), wide ? x->lane_rows : 1);
        if (wide)
            cu_line(c, "const float off = kept[i / %d][i %% %d] - mean;", x->lane_rows, x->lane_rows);
        else
            cu_line(c, "const float off = kept[i] - mean;");
        if (wide)
            cu_line(c, "if (%d * (32 * (i / %d) + (int)threadIdx.x %% 32) < points) total1 += off * off;", x->lane_rows, x->lane_rows);
        else
            cu_line(c, "if (32 * i + (int)threadIdx.x %% 32 < points) total1 += off * off;");
        cu_close(c);
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
    if (contract_wide(x))
        cu_line(c, "const float mean[4] = {total0[0] / own, total0[1] / own, total0[2] / own, total0[3] / own};");
    else
        cu_line(c, "const float mean = total0 / own;");
}

void contract_sums_square(Code *c, const Contract *x, const char *inside)
{
    cu_line(c, "const float off = %s - mean%s;", value_of(c, 0), of_row(x, true));
    cu_line(c, "total1%s += %s;", of_row(x, true), inside ? arena_printf(c->arena, "%s ? off * off : 0.0f", inside) : "off * off");
}

void contract_sums_of_row(Code *c, const Contract *x)
{
    for (int i = 0; i < c->k->n_tile_sums; i++) {
        int32_t first = i * groups_of(x) * x->rows, lanes = contract_lanes(x);
        const char *part = arena_printf(c->arena, "parts[%d + threadIdx.x / %d * %d + row_at]", first, lanes, x->rows);
        if (contract_wide(x))
            cu_line(c, "store4(&%s, total%d);", part, i);
        else
            cu_line(c, "%s = total%d;", part, i);
    }
}

void contract_sums_of_rows(Code *c, const Contract *x)
{
    int32_t groups = groups_of(x), size = groups * x->rows;
    cu_line(c, "__syncthreads();");
    cu_open(c, "for (int row_at = threadIdx.x; row_at < %d; row_at += %d)", x->rows, x->threads);
    cu_line(c, "const int row = first_row + row_at;");
    cu_line(c, "if (row >= %s) continue;", contract_limit(c, &x->row));
    for (int i = 0; i < c->k->n_tile_sums; i++)
        cu_line(c, "float total%d = 0.0f;", i);
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
