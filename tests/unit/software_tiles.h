/* Tile registers in software (TileOps): what the instructions of AMX do, on memory of 1 KB a tile, and every rule whose breach is a fault
 * on a CPU: shapes within the palette, tiles configured before they are used, sizes of products that match, rows in memory that is the
 * program's, configured and released in turn. */
#ifndef CNNC_TESTS_UNIT_SOFTWARE_TILES_H
#define CNNC_TESTS_UNIT_SOFTWARE_TILES_H
#include "codegen/cpu/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { SOFTWARE_TILES = 8, SOFTWARE_ROWS = 16, SOFTWARE_BYTES = 64 };
typedef struct {
    bool configured;
    int rows[SOFTWARE_TILES], bytes[SOFTWARE_TILES];   /* of a row */
    unsigned char data[SOFTWARE_TILES][SOFTWARE_ROWS][SOFTWARE_BYTES];
    long dots;
    struct { const char *at; int64_t size; } area[3];  /* of memory that tiles may be loaded from */
} SoftwareTiles;
static SoftwareTiles software_tiles;

static void software_configure(const void *shapes)
{
    const unsigned char *s = shapes;
    SoftwareTiles *t = &software_tiles;
    assert_false(t->configured);
    assert_int_equal(s[0], 1);
    for (int i = 1; i < 16; i++)
        assert_int_equal(s[i], 0);
    for (int i = 0; i < SOFTWARE_TILES; i++) {
        t->bytes[i] = s[16 + 2 * i] | s[17 + 2 * i] << 8;
        t->rows[i] = s[48 + i];
        assert_in_range(t->bytes[i], 4, SOFTWARE_BYTES);
        assert_in_range(t->rows[i], 1, SOFTWARE_ROWS);
    }
    memset(t->data, 0xff, sizeof t->data);   /* what is used before it is set shows: NaN */
    t->configured = true;
}

static void software_zero(int32_t tile)
{
    assert_true(software_tiles.configured && tile >= 0 && tile < SOFTWARE_TILES);
    memset(software_tiles.data[tile], 0, sizeof software_tiles.data[tile]);
}

static void software_load(int32_t tile, const void *from, int64_t stride)
{
    SoftwareTiles *t = &software_tiles;
    assert_true(t->configured && tile >= 0 && tile < SOFTWARE_TILES);
    for (int i = 0; i < t->rows[tile]; i++) {
        const char *row = (const char *)from + i * stride;
        bool inside = false;
        for (int k = 0; k < 3; k++)
            inside = inside || (row >= t->area[k].at && row + t->bytes[tile] <= t->area[k].at + t->area[k].size);
        assert_true(inside);
        memcpy(t->data[tile][i], row, (size_t)t->bytes[tile]);
    }
}

static void software_store(int32_t tile, void *to, int64_t stride)
{
    SoftwareTiles *t = &software_tiles;
    assert_true(t->configured && tile >= 0 && tile < SOFTWARE_TILES);
    for (int i = 0; i < t->rows[tile]; i++)
        memcpy((char *)to + i * stride, t->data[tile][i], (size_t)t->bytes[tile]);
}

/* A tile of bf16 as float32, `values` in each row. */
static void software_widen(int32_t tile, int values, float to[SOFTWARE_ROWS][SOFTWARE_BYTES / 2])
{
    for (int i = 0; i < software_tiles.rows[tile]; i++)
        for (int k = 0; k < values; k++) {
            uint16_t half;
            memcpy(&half, &software_tiles.data[tile][i][2 * k], sizeof half);
            uint32_t bits = (uint32_t)half << 16;
            memcpy(&to[i][k], &bits, sizeof bits);
        }
}

static void software_dot(int32_t sum, int32_t a, int32_t b)
{
    SoftwareTiles *t = &software_tiles;
    assert_true(t->configured && sum != a && sum != b && a != b);
    assert_int_equal(t->rows[sum], t->rows[a]);
    assert_int_equal(t->bytes[sum], t->bytes[b]);
    assert_int_equal(t->bytes[a], 4 * t->rows[b]);
    float x[SOFTWARE_ROWS][SOFTWARE_BYTES / 2], y[SOFTWARE_ROWS][SOFTWARE_BYTES / 2];
    software_widen(a, t->bytes[a] / 2, x);
    software_widen(b, t->bytes[b] / 2, y);
    for (int m = 0; m < t->rows[sum]; m++)
        for (int n = 0; n < t->bytes[sum] / 4; n++) {
            float s;
            memcpy(&s, &t->data[sum][m][4 * n], sizeof s);
            for (int k = 0; k < t->rows[b]; k++) {
                s += x[m][2 * k] * y[k][2 * n];
                s += x[m][2 * k + 1] * y[k][2 * n + 1];
            }
            memcpy(&t->data[sum][m][4 * n], &s, sizeof s);
        }
    t->dots++;
}

static void software_release(void)
{
    assert_true(software_tiles.configured);
    software_tiles.configured = false;
}

static const TileOps software_ops = {software_configure, software_zero, software_load, software_dot, software_store, software_release};
#endif
