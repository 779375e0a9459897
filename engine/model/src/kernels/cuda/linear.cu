// Matrix products of a few rows, which wait for memory. A block makes tiles of ROWS rows by COLUMNS outputs, all of their
// segments: each lane makes the chain of one output in one segment, for every row of the tile, and the chains are folded in
// ascending order at the end. More rows are for tiles.cu.
//
// Weights depend on nothing that was computed: they are loaded before the kernel waits for the one before it, and those of a
// block's next tile before it folds the last one's chains.
#include "formats.cuh"

// Distance of two segments of activations in shared memory: lanes that read four segments at once hit different banks.
constexpr int STRIDE = SEGMENT + 4;

// `x` are the tile's activations of the segment, a row STRIDE apart.
template <int KIND, int ROWS, int COLUMNS>
__device__ __forceinline__ void make_chains(const Weights<KIND> &weights, const float *x, float *chains) {
    constexpr int CHAINS = Shape<KIND>::CHAINS, LENGTH = SEGMENT / CHAINS;
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) {
        float c[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) c[r] = 0.0f;
#pragma unroll
        for (int k = chain * LENGTH; k < (chain + 1) * LENGTH; k += 4) {
            float q[4];
#pragma unroll
            for (int i = 0; i < 4; i++) q[i] = weights.at(k + i);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float4 v = *reinterpret_cast<const float4 *>(x + r * STRIDE + k);
                c[r] = fused(v.x, q[0], c[r]);
                c[r] = fused(v.y, q[1], c[r]);
                c[r] = fused(v.z, q[2], c[r]);
                c[r] = fused(v.w, q[3], c[r]);
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) chains[chain * ROWS * COLUMNS + r * COLUMNS] = c[r];
    }
}

// Goes on with the fold `t` of one output of one row over `segments` segments. Scales are COLUMNS apart for each chain, and sums
// ROWS for each segment.
template <int KIND, int ROWS, int COLUMNS>
__device__ __forceinline__ float fold_chains(int segments, const float *chains, const float2 *scales, const float *sums, float t) {
#pragma unroll 6
    for (int segment = 0; segment < segments; segment++) {
#pragma unroll
        for (int chain = 0; chain < Shape<KIND>::CHAINS; chain++) {
            int at = segment * Shape<KIND>::CHAINS + chain;
            float2 by = Shape<KIND>::PLAIN ? make_float2(1.0f, 0.0f) : scales[at * COLUMNS];
            float s = Shape<KIND>::MINIMUM ? sums[segment * ROWS] : 0.0f;
            t = fold<KIND>(by, chains[at * ROWS * COLUMNS], s, t);
        }
    }
    return t;
}

// Puts a tile's rows in shared memory: segment after segment, row after row.
template <int ROWS> __device__ __forceinline__ void stage(const Linear &args, int first, float *x) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    // One row is shared by all warps, several are a warp's each.
    for (int r = ROWS == 1 ? 0 : warp; r < ROWS; r += ROWS == 1 ? 1 : warps) {
        bool there = first + r < args.rows;
        const float *source = args.x + (u64)(first + r) * args.x_stride;
#pragma unroll 4
        for (int k = 4 * (ROWS == 1 ? threadIdx.x : lane); k < args.segments * SEGMENT; k += 4 * (ROWS == 1 ? blockDim.x : 32)) {
            float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (there) value = *reinterpret_cast<const float4 *>(source + k);
            *reinterpret_cast<float4 *>(x + (k / SEGMENT * ROWS + r) * STRIDE + k % SEGMENT) = value;
        }
    }
}

// The sums of staged segments, segment after segment, row after row.
template <int ROWS> __device__ __forceinline__ void sum_segments(int count, const float *x, float *sums) {
    for (int i = threadIdx.x; i < ROWS * count; i += blockDim.x) {
        float s = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT / 4; k++) {
            float4 v = *reinterpret_cast<const float4 *>(x + i * STRIDE + 4 * k);
            s = sum(sum(sum(sum(s, v.x), v.y), v.z), v.w);
        }
        sums[i] = s;
    }
}

// Normalises the staged rows, which are whole, and sums their segments. There is a thread for each row and segment.
template <int ROWS> __device__ __forceinline__ void normalise_staged(const Linear &args, float *x, float *sums, float *inverse) {
    int segments = args.segments, i = threadIdx.x;
    bool mine = i < ROWS * segments;
    float4 own[SEGMENT / 4], weights[SEGMENT / 4];
    if (mine) {
        const float4 *norm = reinterpret_cast<const float4 *>(args.norm + i / ROWS * SEGMENT);
        float c = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT / 4; k++) {
            weights[k] = __ldg(norm + k);
            own[k] = *reinterpret_cast<const float4 *>(x + i * STRIDE + 4 * k);
        }
#pragma unroll
        for (int k = 0; k < SEGMENT / 4; k++) {
            c = fused(own[k].x, own[k].x, c);
            c = fused(own[k].y, own[k].y, c);
            c = fused(own[k].z, own[k].z, c);
            c = fused(own[k].w, own[k].w, c);
        }
        sums[i] = c;
    }
    __syncthreads();
    if (threadIdx.x < ROWS) {
        float total = 0.0f;
#pragma unroll 6
        for (int segment = 0; segment < segments; segment++) total = sum(total, sums[segment * ROWS + threadIdx.x]);
        inverse[threadIdx.x] = inverse_root(total, segments * SEGMENT, args.epsilon);
    }
    __syncthreads();
    if (mine) {
        float by = inverse[i % ROWS], s = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT / 4; k++) {
            float4 y = make_float4(product(product(own[k].x, by), weights[k].x), product(product(own[k].y, by), weights[k].y),
                                   product(product(own[k].z, by), weights[k].z), product(product(own[k].w, by), weights[k].w));
            s = sum(sum(sum(sum(s, y.x), y.y), y.z), y.w);
            *reinterpret_cast<float4 *>(x + i * STRIDE + 4 * k) = y;
        }
        sums[i] = s;
    }
}

// The matrix of a unit of work, and its segment.
struct Unit {
    const u8 *panel;
    u32 kind;
    int segment;
};

// A tile of a product: its outputs, and the panels that they are made of; a gated product has two.
struct TileOf {
    int index;
    // Its first output, and which lanes of the panel it has.
    int output;
    int lane;
    const u8 *panels[2];
    u32 kinds[2];
};

template <int ROWS, int COLUMNS> __device__ __forceinline__ void linear(const Linear &args) {
    extern __shared__ float4 linear_shared[];
    constexpr int PARTS = 32 / COLUMNS, CELL = ROWS * COLUMNS;
    begin_next();
    int segments = args.segments;
    bool both = args.mode == GATED;
    int matrices = both ? 2 : 1, tiles = 0;
    bool minima = false;
    for (u32 i = 0; i < args.count; i++) {
        if (!both || i == 0) tiles += (args.products[i].matrix.rows + PANEL - 1) / PANEL * PARTS;
        minima |= has_minimum(args.products[i].matrix.kind);
    }
    // Cells of chains of one matrix, which has at most two chains in a segment.
    int cells = args.chains * segments;
    // Chains and their scales are there twice where a block makes several tiles: those of one are folded while those of the next
    // are made.
    int buffers = gridDim.x < tiles ? 2 : 1, width = matrices * cells * COLUMNS;
    float *x = reinterpret_cast<float *>(linear_shared);
    float2 *all_scales = reinterpret_cast<float2 *>(x + ROWS * segments * STRIDE);
    float *all_chains = reinterpret_cast<float *>(all_scales + buffers * width);
    float *sums = all_chains + buffers * width * ROWS, *inverse = sums + ROWS * segments;

    auto tile_at = [&](int tile) {
        TileOf found;
        found.index = 0;
        if (!both)
            for (;; found.index++) {
                int own = (args.products[found.index].matrix.rows + PANEL - 1) / PANEL * PARTS;
                if (tile < own || found.index + 1 == args.count) break;
                tile -= own;
            }
        found.lane = tile % PARTS * COLUMNS;
        found.output = tile / PARTS * PANEL + found.lane;
        const Matrix &matrix = args.products[found.index].matrix, &other = args.products[both ? 1 : found.index].matrix;
        found.panels[0] = panel_of(matrix, tile / PARTS);
        found.panels[1] = panel_of(other, tile / PARTS);
        found.kinds[0] = matrix.kind;
        found.kinds[1] = other.kind;
        return found;
    };
    int column = threadIdx.x % COLUMNS, step = blockDim.x / COLUMNS, units = matrices * segments, own = threadIdx.x / COLUMNS, first = blockIdx.y * ROWS;
    // Units are the segments of one matrix after those of the other.
    auto unit_at = [&](const TileOf &tile, int unit) {
        bool second = unit >= segments;
        return Unit{second ? tile.panels[1] : tile.panels[0], second ? tile.kinds[1] : tile.kinds[0], second ? unit - segments : unit};
    };
    auto load = [&](const TileOf &tile, int number, Raw &to) {
        Unit unit = unit_at(tile, number);
        WITH_KIND(unit.kind, (load_raw<KIND>(unit.panel, unit.segment, tile.lane + column, to)));
    };
    TileOf tile = tile_at(blockIdx.x);
    Raw loaded;
    if (own < units) load(tile, own, loaded);
    wait_for_last();

    stage<ROWS>(args, first, x);
    __syncthreads();
    if (args.norm) {
        normalise_staged<ROWS>(args, x, sums, inverse);
    } else if (minima) {
        sum_segments<ROWS>(segments, x, sums);
    }
    __syncthreads();
    for (int number = blockIdx.x, parity = 0; number < tiles; number += gridDim.x, parity ^= 1) {
        bool more = number + (int)gridDim.x < tiles;
        TileOf next = more ? tile_at(number + gridDim.x) : tile;
        float2 *scales = all_scales + parity * width;
        float *chains = all_chains + parity * width * ROWS;
        for (int unit = own; unit < units; unit += step) {
            Unit now = unit_at(tile, unit);
            Raw ahead;
            if (unit + step < units) load(tile, unit + step, ahead);
            else if (more) load(next, own, ahead);
            int cell = unit >= segments ? cells : 0;
            WITH_KIND(now.kind, {
                cell += now.segment * Shape<KIND>::CHAINS;
                make_chains<KIND COMMA ROWS COMMA COLUMNS>(weights_of<KIND>(loaded, now.panel, now.segment, tile.lane + column), x + now.segment * ROWS * STRIDE, chains + cell * CELL + column);
                if (!Shape<KIND>::PLAIN)
                    for (int chain = 0; chain < Shape<KIND>::CHAINS; chain++)
                        scales[(cell + chain) * COLUMNS + column] = decode_scales<KIND>(loaded.scales, chain);
            });
            loaded = ahead;
        }
        __syncthreads();
        // An output, or the gate and what it is for in neighbouring lanes.
        const Product &target = args.products[tile.index];
        for (int i = threadIdx.x; i < matrices * CELL; i += blockDim.x) {
            int which = both ? i % 2 : 0, item = both ? i / 2 : i, r = item / COLUMNS, c = item % COLUMNS, at = which * cells;
            float t = 0.0f;
            WITH_KIND(which ? tile.kinds[1] : tile.kinds[0],
                      (t = fold_chains<KIND, ROWS, COLUMNS>(segments, chains + at * CELL + r * COLUMNS + c, scales + at * COLUMNS + c, sums + r, t)));
            if (both) {
                float up = __shfl_down_sync(matrices * CELL < 32 ? 0xffffu : 0xffffffffu, t, 1);
                if (which) continue;
                t = gated(t, up, args.gelu);
            }
            int row = first + r, output = tile.output + c;
            if (row >= args.rows || output >= target.matrix.rows) continue;
            float *out = target.out + row * target.stride + output;
            *out = args.mode == ACCUMULATE ? sum(*out, t) : t;
        }
        tile = next;
    }
}

#define LINEAR(ROWS, COLUMNS, THREADS, BLOCKS)                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) linear_##ROWS##_##COLUMNS(const __grid_constant__ Linear args) {     \
        linear<ROWS, COLUMNS>(args);                                                                                       \
    }
LINEAR(1, 8, 512, 1)
LINEAR(1, 32, 512, 1)
LINEAR(2, 8, 512, 1)
LINEAR(2, 32, 512, 1)
LINEAR(4, 32, 512, 1)
