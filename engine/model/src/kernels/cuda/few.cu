// Matrix products of few rows: decoding. A block makes a tile of ROWS rows by COLUMNS outputs, all of their segments at once:
// each lane makes the chain of one output in one segment, for every row of the tile, and the chains are folded in ascending
// order at the end. So a step that waits for memory has every byte of its weights in flight at once.
#include "formats.cuh"

// Distance of two segments of activations in shared memory: lanes that read four segments at once hit different banks.
constexpr int STRIDE = SEGMENT + 4;

template <int KIND, int ROWS, int COLUMNS>
__device__ __forceinline__ void make_chains(const u8 *panel, int lane, int segment, const float *x, int row_stride, float *chains) {
    Weights<KIND> weights;
    weights.load(panel, segment, lane);
    x += segment * STRIDE;
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
                float4 v = *reinterpret_cast<const float4 *>(x + r * row_stride + k);
                c[r] = fused(v.x, q[0], c[r]);
                c[r] = fused(v.y, q[1], c[r]);
                c[r] = fused(v.z, q[2], c[r]);
                c[r] = fused(v.w, q[3], c[r]);
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) chains[(segment * CHAINS + chain) * ROWS * COLUMNS + r * COLUMNS] = c[r];
    }
}

template <int KIND, int STEP>
__device__ __forceinline__ float fold_chains(const u8 *panel, int lane, int segments, const float *chains, const float *sums) {
    float t = 0.0f;
#pragma unroll 6
    for (int segment = 0; segment < segments; segment++) {
#pragma unroll
        for (int chain = 0; chain < Shape<KIND>::CHAINS; chain++) {
            float2 scales = scales_of<KIND>(panel, segment, chain, lane);
            float s = Shape<KIND>::MINIMUM ? sums[segment] : 0.0f;
            t = fold<KIND>(scales, chains[(segment * Shape<KIND>::CHAINS + chain) * STEP], s, t);
        }
    }
    return t;
}

// Puts the activations of a tile's rows in shared memory, normalised where the products ask for it.
template <int ROWS>
__device__ __forceinline__ void stage(const Linear &args, int first, float *x, float *sums, float *inverse) {
    int segments = args.segments, columns = segments * SEGMENT, row_stride = segments * STRIDE;
    for (int i = threadIdx.x; i < ROWS * columns / 4; i += blockDim.x) {
        int r = i / (columns / 4), k = i % (columns / 4) * 4;
        float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (first + r < args.rows) {
            u64 row = args.map ? args.map[first + r] : first + r;
            value = *reinterpret_cast<const float4 *>(args.x + row * args.x_stride + k);
        }
        *reinterpret_cast<float4 *>(x + r * row_stride + k / SEGMENT * STRIDE + k % SEGMENT) = value;
    }
    __syncthreads();
    if (args.norm) {
        for (int i = threadIdx.x; i < ROWS * segments; i += blockDim.x) {
            const float *at = x + i * STRIDE;
            float c = 0.0f;
#pragma unroll
            for (int k = 0; k < SEGMENT; k++) c = fused(at[k], at[k], c);
            sums[i] = c;
        }
        __syncthreads();
        for (int r = threadIdx.x; r < ROWS; r += blockDim.x) {
            float total = 0.0f;
#pragma unroll 6
            for (int segment = 0; segment < segments; segment++) total = sum(total, sums[r * segments + segment]);
            inverse[r] = inverse_root(total, columns, args.epsilon);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < ROWS * columns; i += blockDim.x) {
            int r = i / columns, k = i % columns;
            float *at = x + r * row_stride + k / SEGMENT * STRIDE + k % SEGMENT;
            *at = product(product(*at, inverse[r]), __ldg(args.norm + k));
        }
        __syncthreads();
    }
    bool minima = false;
    for (int i = 0; i < args.count; i++) minima |= has_minimum(args.products[i].matrix.kind);
    if (minima) {
        for (int i = threadIdx.x; i < ROWS * segments; i += blockDim.x) {
            const float *at = x + i * STRIDE;
            float s = 0.0f;
#pragma unroll
            for (int k = 0; k < SEGMENT; k++) s = sum(s, at[k]);
            sums[i] = s;
        }
    }
    // Before the chains are folded there is another barrier, and only then are the sums read.
}

template <int ROWS, int COLUMNS> __device__ __forceinline__ void few_rows(const Linear &args) {
    extern __shared__ float few_shared[];
    constexpr int PARTS = 32 / COLUMNS;
    int segments = args.segments;
    float *x = few_shared;
    float *sums = x + ROWS * segments * STRIDE;
    float *inverse = sums + ROWS * segments;
    float *results = inverse + ROWS;
    float *chains = results + 2 * ROWS * COLUMNS;

    // The product of this block, and which of its tiles.
    int tile = blockIdx.x, index = 0;
    bool both = args.mode == GATED;
    if (!both)
        for (;; index++) {
            int tiles = (args.products[index].matrix.rows + PANEL - 1) / PANEL * PARTS;
            if (tile < tiles || index + 1 == args.count) break;
            tile -= tiles;
        }
    int panel = tile / PARTS, lane_first = tile % PARTS * COLUMNS, first = blockIdx.y * ROWS;
    const u8 *panels[2];
    panels[0] = panel_of(args.products[index].matrix, panel, segments);
    panels[1] = both ? panel_of(args.products[1].matrix, panel, segments) : panels[0];
    int matrices = both ? 2 : 1;
    // Chains of the second matrix come after those of the first, which has at most two in a segment.
    int chains_of_one = segments * ROWS * COLUMNS * (args.products[index].matrix.kind == Q6K ? 2 : 1);

    stage<ROWS>(args, first, x, sums, inverse);

    int column = threadIdx.x % COLUMNS, lane = lane_first + column;
    for (int unit = threadIdx.x / COLUMNS; unit < matrices * segments; unit += blockDim.x / COLUMNS) {
        int which = unit / segments, segment = unit % segments;
        float *to = chains + which * chains_of_one + column;
        u32 kind = args.products[index + which].matrix.kind;
        WITH_KIND(kind, (make_chains<KIND, ROWS, COLUMNS>(panels[which], lane, segment, x, segments * STRIDE, to)));
    }
    __syncthreads();

    for (int i = threadIdx.x; i < matrices * ROWS * COLUMNS; i += blockDim.x) {
        int which = i / (ROWS * COLUMNS), r = i / COLUMNS % ROWS, c = i % COLUMNS;
        const float *from = chains + which * chains_of_one + r * COLUMNS + c;
        u32 kind = args.products[index + which].matrix.kind;
        float t;
        WITH_KIND(kind, (t = fold_chains<KIND, ROWS * COLUMNS>(panels[which], lane_first + c, segments, from, sums + r * segments)));
        results[i] = t;
    }
    __syncthreads();

    const Product &target = args.products[index];
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += blockDim.x) {
        int row = first + i / COLUMNS, output = panel * PANEL + lane_first + i % COLUMNS;
        if (row >= args.rows || output >= target.matrix.rows) continue;
        float *out = target.out + row * target.stride + output;
        if (args.mode == GATED) *out = gated(results[i], results[ROWS * COLUMNS + i], args.gelu);
        else if (args.mode == ACCUMULATE) *out = sum(*out, results[i]);
        else *out = results[i];
    }
}

#define FEW(ROWS, COLUMNS)                                                                                                 \
    extern "C" __global__ void __launch_bounds__(512) few_##ROWS##_##COLUMNS(const __grid_constant__ Linear args) {        \
        few_rows<ROWS, COLUMNS>(args);                                                                                     \
    }
FEW(1, 8)
FEW(1, 32)
FEW(2, 8)
FEW(2, 32)
FEW(4, 32)
FEW(8, 32)
