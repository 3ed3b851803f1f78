/* CpuTarget: what the emitters know about a CPU. From `--cpu NAME` (host, x86-64, x86-64-v3, x86-64-v4, znver4, skylake-avx512 ...,
 * generic) and `--target TRIPLE`. Constants are committed here per family, so that a plan depends on the name alone.
 *
 * Code uses the instructions of one of four levels (x86-64, -v2, -v3, -v4: psABI's names) and is scheduled for the CPU named,
 * so that what a program needs is known exactly and its numbers do not change between CPUs of one level. */
#ifndef CNNC_CODEGEN_CPU_TARGET_H
#define CNNC_CODEGEN_CPU_TARGET_H
#include <stdbool.h>
#include <stdint.h>

#define CPU_TILE_FEATURES "+amx-tile,+amx-bf16"

/* What stands for the instructions of tile registers on a machine that lacks them: tests of their code run there. */
typedef struct TileOps {
    void (*configure)(const void *shapes);
    void (*zero)(int32_t tile);
    void (*load)(int32_t tile, const void *from, int64_t stride);
    void (*dot)(int32_t sum, int32_t a, int32_t b);
    void (*store)(int32_t tile, void *to, int64_t stride);
    void (*release)(void);
} TileOps;

typedef struct {
    const char *triple, *cpu, *features;   /* as LLVM takes them; features: exactly what the code needs */
    const char *name;                      /* a row of target.c's table: as the user said it, or the host's */
    int lanes;                             /* float32 per vector: 16, 8, 4 */
    int registers;                         /* vector registers: 32 or 16 */
    bool masks;                            /* cheap masked loads and stores (AVX-512; AVX2's are usable) */
    bool fma;
    bool bf16;                             /* AVX512-BF16: dot products of pairs of bf16; used when `features` is given +avx512bf16 too */
    int tiles;                             /* AMX: multiply-adds of bf16 a cycle in tile registers, 0: none; code that uses them needs
                                            * CPU_TILE_FEATURES as well as `features` */
    const TileOps *software_tiles;         /* NULL: instructions */
    int64_t l1, l2, l3;                    /* bytes; l3: what one core can reach */
    const char *tune;                      /* CPU to schedule for, as LLVM takes it */
} CpuTarget;
#endif
