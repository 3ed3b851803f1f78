/* CpuTarget: what the emitters know about a CPU. From `--cpu NAME` (host, x86-64, x86-64-v3, x86-64-v4, znver4, skylake-avx512 ...,
 * generic) and `--target TRIPLE`. Constants are committed in target.c per family, so that a plan depends on the name alone.
 *
 * Code uses the instructions of one of four levels of x86-64 (x86-64, -v2, -v3, -v4: psABI's names) or those of every aarch64, and
 * is scheduled for the CPU named, so that what a program needs is known exactly and its numbers do not change between CPUs of one
 * level. */
#ifndef CNNC_CODEGEN_CPU_TARGET_H
#define CNNC_CODEGEN_CPU_TARGET_H
#include "codegen/nest.h"
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
    const char *tools;                     /* another machine than this one: what the names of its cross compiler's parts start with,
                                              and the folder of its runtime ("aarch64-linux-gnu"); NULL: this machine */
    int machine;                           /* of its ELF files: EM_X86_64, EM_AARCH64 */
    const char *name;                      /* a row of target.c's tables: as the user said it, or the host's */
    int lanes;                             /* float32 per vector: 16, 8, 4 */
    int registers;                         /* vector registers: 32 or 16 */
    bool masks;                            /* cheap masked loads and stores (AVX-512; AVX2's are usable) */
    bool fma;
    bool load_store;                       /* arithmetic takes operands from registers alone (Arm), not from memory */
    bool bf16;                             /* AVX512-BF16: dot products of pairs of bf16; used when `features` is given +avx512bf16 too */
    bool slow_pairs;                       /* ... one in two cycles, where two vectors of float32 are multiplied in one */
    int tiles;                             /* AMX: multiply-adds of bf16 a cycle in tile registers, 0: none; code that uses them needs
                                            * CPU_TILE_FEATURES as well as `features` */
    const TileOps *software_tiles;         /* NULL: instructions */
    int64_t l1, l2, l3;                    /* bytes; l3: what one core can reach */
    const char *tune;                      /* CPU to schedule for, as LLVM takes it */
} CpuTarget;

/* What schedules need to know of it. */
static inline NestTarget target_nest(const CpuTarget *t)
{
    return (NestTarget){.lanes = t->lanes, .registers = t->registers, .l1 = t->l1, .l2 = t->l2, .l3 = t->l3, .pairs = t->bf16, .slow_pairs = t->slow_pairs, .tiles = t->tiles,
                        .load_store = t->load_store, .products = !t->fma};
}
#endif
