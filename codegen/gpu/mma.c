/* All that is known of tensor cores: sums of products of tf32 and bf16 by mma.sync.
 * In: tiles of both operands in shared memory, [row][depth] or [depth][row], of floats (tf32) or bf16. Out: float32 sums.
 *
 * A warp has a tile of unit_rows x unit_cols sums as fragments of 16 x 8, four sums a lane: rows lane / 4 and lane / 4 + 8, columns
 * lane % 4 * 2 and the next. One instruction adds the products of 8 depths of tf32, or 16 of bf16:
 *
 *     tf32  m16n8k8    a: row lane / 4 (+ 8), depth lane % 4 (+ 4)      b: column lane / 4, depth lane % 4 (+ 4)
 *     bf16  m16n8k16   the same with pairs of depths: lane % 4 * 2 and the next (+ 8)
 *
 * Fragments come by ldmatrix: each lane names a line of 16 bytes, and 8 x 8 elements of bf16 (8 x 4 floats) are dealt to the lanes, turned
 * when lines run along rows. Lines along the depth have their pieces of 16 bytes permuted, so that copies and fragments alike use all
 * banks; lines along rows lie an odd number of 16 bytes apart. What ldmatrix cannot turn, floats in lines along rows, is read one by one.
 * Floats are rounded to tf32 (to the nearest) on the way. */
#include "codegen/gpu/contract.h"

const char mma_prelude[] =
    "\n"
    "// Values stored in 16 bits: the upper half of a float, rounded to the nearest, ties to even.\n"
    "typedef unsigned short bf16;\n"
    "static __device__ __forceinline__ float from_bf16(bf16 x) { return __int_as_float((int)((unsigned)x << 16)); }\n"
    "\n"
    "#ifndef CNNC_HOST\n"
    "static __device__ __forceinline__ bf16 to_bf16(float x)\n"
    "{\n"
    "    bf16 y;\n"
    "    asm(\"cvt.rn.bf16.f32 %0, %1;\" : \"=h\"(y) : \"f\"(x));\n"
    "    return y;\n"
    "}\n"
    "\n"
    "static __device__ __forceinline__ unsigned to_bf16_pair(float low, float high)\n"
    "{\n"
    "    unsigned y;\n"
    "    asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(y) : \"f\"(high), \"f\"(low));\n"
    "    return y;\n"
    "}\n"
    "\n"
    "// The bits of a float rounded to 10 bits of mantissa.\n"
    "static __device__ __forceinline__ unsigned to_tf32(float x)\n"
    "{\n"
    "    unsigned y;\n"
    "    asm(\"cvt.rna.tf32.f32 %0, %1;\" : \"=r\"(y) : \"f\"(x));\n"
    "    return y;\n"
    "}\n"
    "\n"
    "// Four matrices of 8 x 8 bf16: lane i names line i % 8 of matrix i / 8, and gets of each elements 2 * (i % 4) and the next of line i / 4.\n"
    "static __device__ __forceinline__ void ldmatrix4(unsigned *to, shared_at line)\n"
    "{\n"
    "    asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\"\n"
    "                 : \"=r\"(to[0]), \"=r\"(to[1]), \"=r\"(to[2]), \"=r\"(to[3]) : \"r\"(line) : \"memory\");\n"
    "}\n"
    "\n"
    "// The same turned: of each matrix element i / 4 of lines 2 * (i % 4) and the next.\n"
    "static __device__ __forceinline__ void ldmatrix4_turned(unsigned *to, shared_at line)\n"
    "{\n"
    "    asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\"\n"
    "                 : \"=r\"(to[0]), \"=r\"(to[1]), \"=r\"(to[2]), \"=r\"(to[3]) : \"r\"(line) : \"memory\");\n"
    "}\n"
    "\n"
    "// sums[16][8] += a[16][16] * b[16][8], of bf16; a[16][8] * b[8][8], of tf32. All lanes together.\n"
    "static __device__ __forceinline__ void mma_bf16(float *sums, const unsigned *a, const unsigned *b)\n"
    "{\n"
    "    asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\"\n"
    "                 : \"+f\"(sums[0]), \"+f\"(sums[1]), \"+f\"(sums[2]), \"+f\"(sums[3])\n"
    "                 : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n"
    "}\n"
    "\n"
    "static __device__ __forceinline__ void mma_tf32(float *sums, const unsigned *a, const unsigned *b)\n"
    "{\n"
    "    asm volatile(\"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\"\n"
    "                 : \"+f\"(sums[0]), \"+f\"(sums[1]), \"+f\"(sums[2]), \"+f\"(sums[3])\n"
    "                 : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n"
    "}\n"
    "#endif\n"
    "\n"
    "// Four neighbours, by 8 bytes.\n"
    "static __device__ __forceinline__ void load4_bf16(float *to, const bf16 *from)\n"
    "{\n"
    "    const uint2 pairs = *(const uint2 *)from;\n"
    "    to[0] = __int_as_float((int)(pairs.x << 16));\n"
    "    to[1] = __int_as_float((int)(pairs.x & 0xffff0000u));\n"
    "    to[2] = __int_as_float((int)(pairs.y << 16));\n"
    "    to[3] = __int_as_float((int)(pairs.y & 0xffff0000u));\n"
    "}\n"
    "\n"
    "static __device__ __forceinline__ void store4_bf16(bf16 *to, const float *from)\n"
    "{\n"
    "    uint2 pairs;\n"
    "    pairs.x = to_bf16_pair(from[0], from[1]);\n"
    "    pairs.y = to_bf16_pair(from[2], from[3]);\n"
    "    *(uint2 *)to = pairs;\n"
    "}\n"
    "\n"
    "// Where a lane's part of a fragment starts in a tile: of a 16 rows, of b 16 columns (two fragments); 16 depths of bf16, 8 of tf32.\n"
    "// Lines along the depth, of 64 or 128 bytes, in bytes: piece p of line L is at p ^ turn, so that eight lines' pieces lie in all banks.\n"
    "static __device__ __forceinline__ int lane_in_lines(int line, int piece, int bytes)\n"
    "{\n"
    "    return line * bytes + (piece ^ (bytes == 64 ? line / 2 % 4 : line % 8)) * 16;\n"
    "}\n"
    "static __device__ __forceinline__ int lane_of_a(int bytes) { return lane_in_lines(threadIdx.x % 16, threadIdx.x / 16 % 2, bytes); }\n"
    "static __device__ __forceinline__ int lane_of_b(int bytes) { return lane_in_lines(threadIdx.x % 8 + threadIdx.x / 16 % 2 * 8, threadIdx.x / 8 % 2, bytes); }\n"
    "// Lines along rows or columns, `pitch` bytes apart.\n"
    "static __device__ __forceinline__ int bf16_lane_of_a_turned(int pitch) { return (threadIdx.x % 8 + threadIdx.x / 16 % 2 * 8) * pitch + threadIdx.x / 8 % 2 * 16; }\n"
    "static __device__ __forceinline__ int bf16_lane_of_b_turned(int pitch) { return threadIdx.x % 16 * pitch + threadIdx.x / 16 % 2 * 16; }\n"
    "static __device__ __forceinline__ int tf32_lane_turned(int pitch) { return threadIdx.x % 4 * pitch + threadIdx.x % 32 / 4 * 4; }\n"
    "static __device__ __forceinline__ void round_tf32(unsigned *x)\n"
    "{\n"
    "    for (int i = 0; i < 4; i++)\n"
    "        x[i] = to_tf32(__int_as_float((int)x[i]));\n"
    "}\n"
    "static __device__ __forceinline__ void tf32_a_turned(unsigned *to, const float *at, int pitch)\n"
    "{\n"
    "    to[0] = to_tf32(at[0]);\n"
    "    to[1] = to_tf32(at[8]);\n"
    "    to[2] = to_tf32(at[4 * pitch]);\n"
    "    to[3] = to_tf32(at[4 * pitch + 8]);\n"
    "}\n"
    "static __device__ __forceinline__ void tf32_b_turned(unsigned *to, const float *at, int pitch)\n"
    "{\n"
    "    to[0] = to_tf32(at[0]);\n"
    "    to[1] = to_tf32(at[4 * pitch]);\n"
    "    to[2] = to_tf32(at[8]);\n"
    "    to[3] = to_tf32(at[4 * pitch + 8]);\n"
    "}\n";

static int32_t depth_of_one(const Contract *x) { return x->products == PRECISION_BF16 ? 16 : 8; }

/* Fragments come by ldmatrix; else, of floats whose lines run along rows or columns, one by one. */
static bool by_matrices(const Contract *x, const Operand *o) { return x->products == PRECISION_BF16 || o->load->depth_inside; }

/* A lane's start in a tile of the operand, "a_lane", and in the one that is read now: an address, or a pointer to floats. */
static void emit_lane(Code *c, const Contract *x, const Operand *o)
{
    int32_t bytes = contract_element_bytes(x) * o->load->pitch;
    if (o->load->depth_inside)
        cu_line(c, "const shared_at %s_lane = fixed_at((char *)%s_tile + warp_%s * %d + lane_of_%s(%d));", o->name, o->name, o->index, bytes, o->name,
                bytes);
    else if (by_matrices(x, o))
        cu_line(c, "const shared_at %s_lane = fixed_at((char *)(%s_tile + warp_%s) + bf16_lane_of_%s_turned(%d));", o->name, o->name, o->index,
                o->name, bytes);
    else
        cu_line(c, "const float *const %s_lane = %s_tile + apart(warp_%s + tf32_lane_turned(%d) / 4);", o->name, o->name, o->index, bytes);
}

void mma_begin(Code *c, const Contract *x)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    int32_t down = x->rows / x->unit_rows;
    cu_line(c, "const int warp_row = threadIdx.x / 32 %% %d * %d, warp_col = threadIdx.x / %d * %d;", down, x->unit_rows, 32 * down, x->unit_cols);
    emit_lane(c, x, &a);
    emit_lane(c, x, &b);
    cu_line(c, "float sums[%d][%d][4] = {{{0.0f}}};   // of a warp: fragments of 16 x 8", x->unit_rows / 16, x->unit_cols / 8);
}

/* `count` loads of 16 rows or columns each, of the step's instruction `k`, into the half of the fragments that it uses. */
static void emit_fragments_of(Code *c, const Contract *x, const Operand *o, int32_t count, int32_t k)
{
    bool inside = o->load->depth_inside;
    int32_t pitch = o->load->pitch, bytes = contract_element_bytes(x), depth = k * depth_of_one(x);
    const char *to = arena_printf(c->arena, "%s_part[%d][i]", o->name, k % 2);
    cu_line(c, "#pragma unroll");
    cu_open(c, "for (int i = 0; i < %d; i++)", count);
    if (inside)
        cu_line(c, "ldmatrix4(%s, (%s_now ^ %d) + i * %d);", to, o->name, bytes * depth, bytes * 16 * pitch);
    else if (by_matrices(x, o))
        cu_line(c, "ldmatrix4_turned(%s, %s_now + i * %d + %d);", to, o->name, bytes * 16, bytes * depth * pitch);
    else
        cu_line(c, "tf32_%s_turned(%s, %s_now + i * 16 + %d, %d);", o->name, to, o->name, depth * pitch, pitch);
    if (inside && x->products == PRECISION_TF32)
        cu_line(c, "round_tf32(%s);", to);
    cu_close(c);
}

static void emit_fragments(Code *c, const Contract *x, int32_t k)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    emit_fragments_of(c, x, &a, x->unit_rows / 16, k);
    emit_fragments_of(c, x, &b, x->unit_cols / 16, k);
}

/* The operand's tile of the next step is read from here on. */
static void emit_next(Code *c, const Contract *x, const Operand *o)
{
    cu_line(c, "%s_now = %s_lane + (step + 1) %% %d * %d;", o->name, o->name, x->stages,
            (by_matrices(x, o) ? contract_element_bytes(x) : 1) * contract_tile_elements(x, o->load, o->size));
}

void mma_sums_begin(Code *c, const Contract *x)
{
    const Operand o[] = {contract_operand(x, false), contract_operand(x, true)};
    for (int i = 0; i < 2; i++)
        cu_line(c, "%s%s_now = %s_lane;", by_matrices(x, &o[i]) ? "shared_at " : "const float *", o[i].name, o[i].name);
    cu_line(c, "unsigned a_part[2][%d][4], b_part[2][%d][4];   // of one instruction's depth, and of the next", x->unit_rows / 16, x->unit_cols / 16);
    emit_fragments(c, x, 0);
}

void mma_sums(Code *c, const Contract *x)
{
    const Operand a = contract_operand(x, false), b = contract_operand(x, true);
    int32_t instructions = x->steps / depth_of_one(x);
    for (int32_t k = 0; k < instructions; k++) {
        bool last = k == instructions - 1;
        if (last) {
            contract_wait(c, x);
            emit_next(c, x, &a);
            emit_next(c, x, &b);
        }
        emit_fragments(c, x, last ? 0 : k + 1);
        if (k == 0)
            contract_copies(c, x);
        cu_line(c, "#pragma unroll");
        cu_line(c, "for (int i = 0; i < %d; i++)", x->unit_rows / 16);
        cu_line(c, "#pragma unroll");
        cu_line(c, "    for (int j = 0; j < %d; j++)", x->unit_cols / 8);
        cu_line(c, "        mma_%s(sums[i][j], a_part[%d][i], &b_part[%d][j / 2][j %% 2 * 2]);", x->products == PRECISION_BF16 ? "bf16" : "tf32",
                k % 2, k % 2);
    }
}

void mma_put_sums(Code *c, const Contract *x, int32_t pitch)
{
    cu_line(c, "#pragma unroll");
    cu_line(c, "for (int i = 0; i < %d; i++)", x->unit_rows / 16);
    cu_line(c, "#pragma unroll");
    cu_line(c, "    for (int j = 0; j < %d; j++)", x->unit_cols / 8);
    cu_line(c, "#pragma unroll");
    cu_line(c, "        for (int s = 0; s < 4; s++)");
    cu_line(c, "            shared[(warp_col + 8 * j + threadIdx.x %% 4 * 2 + s %% 2) * %d + warp_row + 16 * i + s / 2 * 8 + threadIdx.x %% 32 / 4] = sums[i][j][s];", pitch);
}
