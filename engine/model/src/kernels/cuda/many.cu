// Matrix products of many rows: prompts. A block makes a tile of 64 rows by 32 outputs, segment after segment: the weights of
// a segment are widened once for all rows of the tile, and each thread makes the chains of 4 rows by 4 outputs and folds them.
#include "formats.cuh"

constexpr int TILE_ROWS = 64;
constexpr int MANY_THREADS = 128;

// What a tile needs of one segment, twice: one is read while the other is filled.
struct Stage {
    float x[SEGMENT][TILE_ROWS];
    float sums[TILE_ROWS];
    // For the matrix, or for gate and up.
    float weights[2][SEGMENT][PANEL];
    float2 scales[2][2][PANEL];
};

// Widened weights of one quarter of a segment of one output: 8 inputs, on their way to shared memory.
struct Ahead {
    float x[16];
    float weights[2][8];
    float2 scales[2];
    float sums;
};

template <int KIND, int QUARTER> __device__ __forceinline__ void widen_quarter(const u8 *panel, int segment, int lane, float *out) {
    // Pieces that this quarter does not use are not loaded: nothing reads them.
    Weights<KIND> weights;
    weights.load(panel, segment, lane);
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = weights.at(8 * QUARTER + i);
}

template <int KIND> __device__ __forceinline__ void widen(const u8 *panel, int segment, int lane, int quarter, float *out) {
    switch (quarter) {
    case 0: widen_quarter<KIND, 0>(panel, segment, lane, out); break;
    case 1: widen_quarter<KIND, 1>(panel, segment, lane, out); break;
    case 2: widen_quarter<KIND, 2>(panel, segment, lane, out); break;
    default: widen_quarter<KIND, 3>(panel, segment, lane, out);
    }
}

template <int MATRICES>
__device__ __forceinline__ void fetch(const Linear &args, const u8 *const *panels, const u32 *kinds, int first, int segment, Ahead &ahead) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // Rows of 64 inputs: 16 threads a row of 4, 8 inputs at once.
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int k = i * 8 + threadIdx.x / 16, row = threadIdx.x % 16 * 4;
        float4 value = *reinterpret_cast<const float4 *>(args.x + (u64)(segment * SEGMENT + k) * args.padded + first + row);
        ahead.x[4 * i] = value.x;
        ahead.x[4 * i + 1] = value.y;
        ahead.x[4 * i + 2] = value.z;
        ahead.x[4 * i + 3] = value.w;
    }
#pragma unroll
    for (int which = 0; which < MATRICES; which++) {
        WITH_KIND(kinds[which], (widen<KIND>(panels[which], segment, lane, warp, ahead.weights[which])));
        // Two warps load the scales of the two chains.
        if (warp < 2) WITH_KIND(kinds[which], ahead.scales[which] = (scales_of<KIND>(panels[which], segment, warp, lane)));
    }
    if (threadIdx.x < TILE_ROWS) ahead.sums = args.sums[(u64)segment * args.padded + first + threadIdx.x];
}

template <int MATRICES> __device__ __forceinline__ void put(const Ahead &ahead, Stage &stage) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int k = i * 8 + threadIdx.x / 16, row = threadIdx.x % 16 * 4;
        *reinterpret_cast<float4 *>(&stage.x[k][row]) =
            make_float4(ahead.x[4 * i], ahead.x[4 * i + 1], ahead.x[4 * i + 2], ahead.x[4 * i + 3]);
    }
#pragma unroll
    for (int which = 0; which < MATRICES; which++) {
#pragma unroll
        for (int i = 0; i < 8; i++) stage.weights[which][warp * 8 + i][lane] = ahead.weights[which][i];
        if (warp < 2) stage.scales[which][warp][lane] = ahead.scales[which];
    }
    if (threadIdx.x < TILE_ROWS) stage.sums[threadIdx.x] = ahead.sums;
}

// Continues the chains of 4 rows by 4 outputs over inputs `from` to `to`.
__device__ __forceinline__ void extend(const Stage &stage, int which, int rows, int columns, int from, int to, float (&c)[4][4]) {
#pragma unroll 8
    for (int k = from; k < to; k++) {
        float4 x = *reinterpret_cast<const float4 *>(&stage.x[k][rows]);
        float4 w = *reinterpret_cast<const float4 *>(&stage.weights[which][k][columns]);
        float xs[4] = {x.x, x.y, x.z, x.w}, ws[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int o = 0; o < 4; o++) c[r][o] = fused(xs[r], ws[o], c[r][o]);
    }
}

__device__ __forceinline__ void fold_tile(const Stage &stage, u32 kind, int which, int chain, int rows, int columns, float (&c)[4][4], float (&t)[4][4]) {
#pragma unroll
    for (int o = 0; o < 4; o++) {
        float2 scales = stage.scales[which][chain][columns + o];
#pragma unroll
        for (int r = 0; r < 4; r++) {
            if (kind >= F16) {
                t[r][o] = sum(t[r][o], c[r][o]);
            } else {
                t[r][o] = fused(scales.x, c[r][o], t[r][o]);
                if (has_minimum(kind)) t[r][o] = fused(scales.y, stage.sums[rows + r], t[r][o]);
            }
            c[r][o] = 0.0f;
        }
    }
}

template <int MATRICES> __device__ __forceinline__ void many_rows(const Linear &args) {
    __shared__ Stage stages[2];
    int segments = args.segments, tile = blockIdx.x, index = 0, first = blockIdx.y * TILE_ROWS;
    if constexpr (MATRICES == 1)
        for (;; index++) {
            int tiles = (args.products[index].matrix.rows + PANEL - 1) / PANEL;
            if (tile < tiles || index + 1 == args.count) break;
            tile -= tiles;
        }
    const u8 *panels[MATRICES];
    u32 kinds[MATRICES];
#pragma unroll
    for (int which = 0; which < MATRICES; which++) {
        panels[which] = panel_of(args.products[index + which].matrix, tile, segments);
        kinds[which] = args.products[index + which].matrix.kind;
    }
    int rows = threadIdx.x / 8 * 4, columns = threadIdx.x % 8 * 4;
    float c[4][4], t[MATRICES][4][4];
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int o = 0; o < 4; o++) {
            c[r][o] = 0.0f;
#pragma unroll
            for (int which = 0; which < MATRICES; which++) t[which][r][o] = 0.0f;
        }

    Ahead ahead;
    fetch<MATRICES>(args, panels, kinds, first, 0, ahead);
    put<MATRICES>(ahead, stages[0]);
    __syncthreads();
    for (int segment = 0; segment < segments; segment++) {
        const Stage &stage = stages[segment % 2];
        if (segment + 1 < segments) fetch<MATRICES>(args, panels, kinds, first, segment + 1, ahead);
#pragma unroll
        for (int which = 0; which < MATRICES; which++) {
            if (kinds[which] == Q6K) {
                extend(stage, which, rows, columns, 0, SEGMENT / 2, c);
                fold_tile(stage, Q6K, which, 0, rows, columns, c, t[which]);
                extend(stage, which, rows, columns, SEGMENT / 2, SEGMENT, c);
                fold_tile(stage, Q6K, which, 1, rows, columns, c, t[which]);
            } else {
                extend(stage, which, rows, columns, 0, SEGMENT, c);
                fold_tile(stage, kinds[which], which, 0, rows, columns, c, t[which]);
            }
        }
        if (segment + 1 < segments) put<MATRICES>(ahead, stages[(segment + 1) % 2]);
        __syncthreads();
    }

    const Product &target = args.products[index];
    if constexpr (MATRICES == 2) {
        // A panel of outputs is a segment of the next product's inputs: it is written transposed, and summed.
        float(*y)[TILE_ROWS] = stages[0].x;
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int o = 0; o < 4; o++) y[columns + o][rows + r] = gated(t[0][r][o], t[MATRICES - 1][r][o], args.gelu);
        __syncthreads();
        for (int i = threadIdx.x; i < PANEL * TILE_ROWS / 4; i += MANY_THREADS) {
            int o = i / (TILE_ROWS / 4), row = i % (TILE_ROWS / 4) * 4;
            float *out = target.out + (u64)(tile * PANEL + o) * args.padded + first + row;
            *reinterpret_cast<float4 *>(out) = *reinterpret_cast<const float4 *>(&y[o][row]);
        }
        if (threadIdx.x < TILE_ROWS) {
            float s = 0.0f;
#pragma unroll
            for (int o = 0; o < PANEL; o++) s = sum(s, y[o][threadIdx.x]);
            // Sums stand behind the values.
            float *sums = target.out + (u64)target.matrix.rows * args.padded;
            sums[(u64)tile * args.padded + first + threadIdx.x] = s;
        }
    } else {
#pragma unroll
        for (int r = 0; r < 4; r++) {
            int row = first + rows + r;
            if (row >= args.rows) continue;
#pragma unroll
            for (int o = 0; o < 4; o++) {
                int output = tile * PANEL + columns + o;
                if (output >= target.matrix.rows) continue;
                float *out = target.out + (u64)row * target.stride + output;
                *out = args.mode == ACCUMULATE ? sum(*out, t[0][r][o]) : t[0][r][o];
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(MANY_THREADS) many_one(const __grid_constant__ Linear args) { many_rows<1>(args); }
extern "C" __global__ void __launch_bounds__(MANY_THREADS) many_gated(const __grid_constant__ Linear args) { many_rows<2>(args); }
