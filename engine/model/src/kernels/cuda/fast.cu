// Matrix products of the fast mode: weights and activations rounded to bf16, products by tensor cores, sums in f32. Its bits are
// its own, and the same for a row in whatever company: docs/numerics.md, "The fast mode".
//
// A warp makes 16 outputs for each of its tiles, of 8 rows or more, over a quarter of the inputs; the four warps of a block have a
// quarter each, and their sums are added in ascending order. An instruction of the tensor cores takes 16 inputs, one after the
// other along the quarter. How many rows or tiles a warp has moves none of these sums to another place.
#include "formats.cuh"

// Inputs of one instruction, outputs of one tile, and rows of one instruction.
constexpr int STEP = 16, TILE_OUTPUTS = 16, TILE_COLUMNS = 8;
constexpr int FAST_WARPS = 4;
// Steps whose activations a warp stages at once, and the distance of their rows: lanes that read at once hit different banks.
constexpr int FAST_STEPS = 4, FAST_PITCH = FAST_STEPS * STEP + 8;

// `d` += 16 outputs by 16 inputs, times 16 inputs by 8 rows.
__device__ __forceinline__ void multiply(float (&d)[4], const uint4 &a, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 pair_of(float first, float second) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<u32 *>(&pair);
}

// ROW_TILES tiles of 8 rows by TILES tiles of 16 outputs, of MATRICES matrices: gate and up are made together.
template <int ROW_TILES, int TILES, int MATRICES> __device__ __forceinline__ void linear_fast(const Linear &args) {
    constexpr int ROWS = ROW_TILES * TILE_COLUMNS, OUTPUTS = TILES * TILE_OUTPUTS, ALL = TILES * MATRICES;
    constexpr int STAGED = FAST_WARPS * ROWS * FAST_PITCH * 2, SUMS = FAST_WARPS * MATRICES * OUTPUTS * ROWS * 4;
    __shared__ __align__(16) u8 shared[STAGED > SUMS ? STAGED : SUMS];
    begin_next();
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, within = lane % 4;
    // The product of this block, and its first output.
    int block = blockIdx.x, index = 0;
    if (MATRICES == 1)
        for (;; index++) {
            int blocks = (args.products[index].matrix.rows + OUTPUTS - 1) / OUTPUTS;
            if (block < blocks || index + 1 == args.count) break;
            block -= blocks;
        }
    int steps = args.segments * SEGMENT / STEP, begin = steps * warp / FAST_WARPS, end = steps * (warp + 1) / FAST_WARPS;
    int first = blockIdx.y * ROWS;
    // Weights lie as lanes take them: tile after tile of outputs, step after step, 16 bytes a lane. Tiles beyond the last are the
    // last.
    const uint4 *weights[ALL];
#pragma unroll
    for (int i = 0; i < ALL; i++) {
        const Matrix &matrix = args.products[index + i / TILES].matrix;
        int last = (matrix.rows + TILE_OUTPUTS - 1) / TILE_OUTPUTS - 1, tile = block * TILES + i % TILES;
        weights[i] = reinterpret_cast<const uint4 *>(matrix.data) + (u64)(tile < last ? tile : last) * steps * 32 + lane;
    }
    float sums[ALL][ROW_TILES][4];
#pragma unroll
    for (int i = 0; i < ALL; i++)
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
            for (int j = 0; j < 4; j++) sums[i][r][j] = 0.0f;
    u16 *staged = reinterpret_cast<u16 *>(shared) + warp * ROWS * FAST_PITCH;
    constexpr bool EARLY = ALL <= 2;
    uint4 ahead[EARLY ? FAST_STEPS : 1][EARLY ? ALL : 1];
    // Few tiles' weights are asked for before the kernel waits.
    auto load = [&](int from) {
#pragma unroll
        for (int s = 0; s < FAST_STEPS; s++)
#pragma unroll
            for (int i = 0; i < ALL; i++)
                if (EARLY && from + s < end) ahead[s][i] = __ldg(weights[i] + (from + s) * 32);
    };
    load(begin);
    wait_for_last();
#pragma unroll 1
    for (int from = begin; from < end; from += FAST_STEPS) {
        uint4 now[EARLY ? FAST_STEPS : 1][EARLY ? ALL : 1];
        if (EARLY) {
#pragma unroll
            for (int s = 0; s < FAST_STEPS; s++)
#pragma unroll
                for (int i = 0; i < ALL; i++) now[s][i] = ahead[s][i];
            load(from + FAST_STEPS);
        }
        int count = end - from < FAST_STEPS ? end - from : FAST_STEPS;
        __syncwarp();
        // Activations, in pieces of 16 bytes.
#pragma unroll 4
        for (int i = lane; i < ROWS * FAST_STEPS * STEP / 4; i += 32) {
            int r = i / (FAST_STEPS * STEP / 4), k = i % (FAST_STEPS * STEP / 4) * 4;
            float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (first + r < args.rows && k < count * STEP) x = *reinterpret_cast<const float4 *>(args.x + (u64)(first + r) * args.x_stride + from * STEP + k);
            *reinterpret_cast<uint2 *>(staged + r * FAST_PITCH + k) = make_uint2(pair_of(x.x, x.y), pair_of(x.z, x.w));
        }
        __syncwarp();
#pragma unroll
        for (int s = 0; s < FAST_STEPS; s++) {
            if (s >= count) break;
#pragma unroll
            for (int r = 0; r < ROW_TILES; r++) {
                const u16 *at = staged + (r * TILE_COLUMNS + group) * FAST_PITCH + s * STEP + 2 * within;
                u32 b0 = *reinterpret_cast<const u32 *>(at), b1 = *reinterpret_cast<const u32 *>(at + 8);
#pragma unroll
                for (int i = 0; i < ALL; i++) multiply(sums[i][r], EARLY ? now[EARLY ? s : 0][EARLY ? i : 0] : __ldg(weights[i] + (from + s) * 32), b0, b1);
            }
        }
    }
    // The quarters' sums: matrix after matrix, output after output, a row beside the other.
    __syncthreads();
    float *quarters = reinterpret_cast<float *>(shared);
#pragma unroll
    for (int i = 0; i < ALL; i++)
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int output = i * TILE_OUTPUTS + group + j / 2 * 8, row = r * TILE_COLUMNS + 2 * within + j % 2;
                quarters[(warp * MATRICES * OUTPUTS + output) * ROWS + row] = sums[i][r][j];
            }
    __syncthreads();
    const Product &target = args.products[index];
    for (int i = threadIdx.x; i < OUTPUTS * ROWS; i += 32 * FAST_WARPS) {
        // Neighbouring threads write neighbouring outputs.
        int output = i % OUTPUTS, row = i / OUTPUTS;
        if (first + row >= args.rows || block * OUTPUTS + output >= target.matrix.rows) continue;
        float made[MATRICES];
#pragma unroll
        for (int m = 0; m < MATRICES; m++) {
            const float *from = quarters + (m * OUTPUTS + output) * ROWS + row;
            float t = *from;
#pragma unroll
            for (int w = 1; w < FAST_WARPS; w++) t = sum(t, from[w * MATRICES * OUTPUTS * ROWS]);
            made[m] = t;
        }
        float *out = target.out + (u64)(first + row) * target.stride + block * OUTPUTS + output;
        if (MATRICES == 2) *out = gated(made[0], made[MATRICES - 1], args.gelu);
        else *out = args.mode == ACCUMULATE ? sum(*out, made[0]) : made[0];
    }
}

#define LINEAR_FAST(ROW_TILES, TILES, MATRICES)                                                                            \
    extern "C" __global__ void __launch_bounds__(32 * FAST_WARPS) linear_fast_##ROW_TILES##_##TILES##_##MATRICES(const __grid_constant__ Linear args) { \
        linear_fast<ROW_TILES, TILES, MATRICES>(args);                                                                     \
    }
LINEAR_FAST(1, 1, 1)
LINEAR_FAST(1, 1, 2)
LINEAR_FAST(4, 1, 1)
LINEAR_FAST(4, 1, 2)
LINEAR_FAST(4, 4, 1)
LINEAR_FAST(4, 2, 2)
