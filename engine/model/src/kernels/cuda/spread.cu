// Matrix products of more than a few rows, where all segments of a tile have a warp each: the segments are spread over the warps of a
// block, or of a cluster of blocks. A warp widens the weights of its segment for OUTPUTS outputs, fetches and normalises the activations
// of ROWS rows, and makes their chains, and waits for no other warp, but for the sums of squares of rows. Then each block folds some of
// the outputs. spread.rs chooses tiles so that there is one for each processor at most.
#include "cluster.cuh"
#include "copies.cuh"
#include "formats.cuh"

// Distance of rows of activations, and of outputs' weights, in shared memory: lanes that read at once hit different banks.
constexpr int SPREAD_PITCH = SEGMENT + 4;

template <int ROWS, int OUTPUTS, int MATRICES> struct Spread {
    // Lanes of a warp over rows, and over outputs: a lane has every ROW_LANES-th row, and every COLUMN_LANES-th output.
    static constexpr int ROW_LANES = ROWS == 32 ? 8 : 4, COLUMN_LANES = 32 / ROW_LANES;
    static constexpr int LANE_ROWS = ROWS / ROW_LANES, LANE_OUTPUTS = OUTPUTS / COLUMN_LANES;
    // Outputs of each matrix.
    static constexpr int EACH = OUTPUTS / MATRICES;

    // Where a row lies in a chain: those of a lane are neighbours.
    __device__ static int place_of(int row) { return row % ROW_LANES * LANE_ROWS + row / ROW_LANES; }
    __device__ static int row_at(int place) { return place / LANE_ROWS + place % LANE_ROWS * ROW_LANES; }

    // Folds one output of a row. `step` is how many chains of a segment lie side by side.
    __device__ __forceinline__ static float fold(int segments, int step, bool minimum, const float *chains, const float2 *scales, const float *sums) {
        float t = 0.0f;
#pragma unroll 6
        for (int segment = 0; segment < segments; segment++) {
            float2 by = *scales;
            t = fused(by.x, *chains, t);
            if (minimum) t = fused(by.y, *sums, t);
            chains += step * ROWS;
            scales += step;
            sums += ROWS;
        }
        return t;
    }

    // SHARED: by a cluster of several blocks.
    template <bool SHARED> __device__ __forceinline__ static void linear(const Linear &args) {
        extern __shared__ float4 spread_shared[];
        begin_next();
        int cluster = SHARED ? gridDim.x : 1, rank = SHARED ? blockIdx.x : 0;
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
        int segments = args.segments, segment = rank * warps + warp;
        bool works = segment < segments;
        // Outputs, of each matrix, that a block folds at most.
        int folded = SHARED ? (EACH + cluster - 1) / cluster : EACH, step = MATRICES * folded;
        float *x = reinterpret_cast<float *>(spread_shared), *widened = x + warps * ROWS * SPREAD_PITCH;
        float *chains = widened + warps * OUTPUTS * SPREAD_PITCH;
        float2 *scales = reinterpret_cast<float2 *>(chains + segments * step * ROWS);
        float *sums = reinterpret_cast<float *>(scales + segments * step), *squares = sums + segments * ROWS;
        // Rows are not normalised where blocks share their segments.
        u64 *inbox = reinterpret_cast<u64 *>(squares);
        if (SHARED) {
            int own = min(max(EACH - rank * folded, 0), folded);
            if (threadIdx.x == 0) open_inbox(inbox, segments * (MATRICES * own * (ROWS * sizeof(float) + sizeof(float2)) + ROWS * sizeof(float)));
            say_there();
        }
        float *own_x = x + warp * ROWS * SPREAD_PITCH, *own_weights = widened + warp * OUTPUTS * SPREAD_PITCH;

        // The product of this block, and which of its outputs.
        int tile = blockIdx.y, index = 0;
        if (MATRICES == 1)
            for (;; index++) {
                int tiles = (args.products[index].matrix.rows + EACH - 1) / EACH;
                if (tile < tiles || index + 1 == args.count) break;
                tile -= tiles;
            }
        // The output that this lane widens.
        int own = lane % OUTPUTS, output = tile * EACH + own % EACH;
        const Matrix &matrix = args.products[MATRICES == 2 ? own / EACH : index].matrix;
        bool widens = works && lane < OUTPUTS && output < matrix.rows;
        u32 kind = matrix.kind;
        const u8 *weights = panel_of(matrix, output / PANEL);
        Raw raw;
        if (widens) WITH_KIND(kind, (load_raw<KIND>(weights, segment, output % PANEL, raw)));
        // Activations go in pieces of 16 bytes: a lane has one piece of every fourth row.
        int piece = lane % 8 * 4, first = blockIdx.z * ROWS;
        float4 norm_weight = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (args.norm && works) norm_weight = __ldg(reinterpret_cast<const float4 *>(args.norm + segment * SEGMENT + piece));
        float2 by = make_float2(0.0f, 0.0f);
        if (widens)
            WITH_KIND(kind, {
                widen<KIND>(raw, weights, segment, output % PANEL, own_weights + own * SPREAD_PITCH);
                by = decode_scales<KIND>(raw.scales, 0);
            });
        wait_for_last();
        if (works) {
            const float *from = args.x + segment * SEGMENT + piece;
#pragma unroll
            for (int row = lane / 8; row < ROWS; row += 4) {
                bool is_row = first + row < args.rows;
                copy_ahead(own_x + row * SPREAD_PITCH + piece, from + (u64)(is_row ? first + row : 0) * args.x_stride, is_row);
            }
        }
        copies_end();
        // What this thread folds, and what that is added to.
        int item = threadIdx.x / ROWS, place = threadIdx.x % ROWS, row = first + row_at(place), made = tile * EACH + rank * folded + item;
        const Product &target = args.products[index];
        bool folds = item < folded && rank * folded + item < EACH && row < args.rows && made < target.matrix.rows;
        float *out = target.out + row * target.stride + made;
        float before = 0.0f;
        if (args.mode == ACCUMULATE && folds) before = *out;
        wait_for_copies<0>();
        __syncwarp();

        if (args.norm) {
            // Rule NORM. Every warp adds up the sums of all segments, and normalises its own.
            if (lane < ROWS) {
                float c = 0.0f;
                if (works)
#pragma unroll
                    for (int k = 0; k < SEGMENT; k += 4) {
                        float4 v = *reinterpret_cast<const float4 *>(own_x + lane * SPREAD_PITCH + k);
                        c = fused(v.w, v.w, fused(v.z, v.z, fused(v.y, v.y, fused(v.x, v.x, c))));
                    }
                squares[warp * ROWS + lane] = c;
            }
            __syncthreads();
            float total = 0.0f;
#pragma unroll 6
            for (int i = 0; i < segments; i++) total = sum(total, squares[i * ROWS + lane % ROWS]);
            float inverse = inverse_root(total, segments * SEGMENT, args.epsilon);
#pragma unroll
            for (int i = 0; i < ROWS; i += 4) {
                int own_row = i + lane / 8;
                float of_row = __shfl_sync(0xffffffffu, inverse, own_row);
                float4 *at = reinterpret_cast<float4 *>(own_x + own_row * SPREAD_PITCH + piece), v = *at;
                *at = make_float4(product(product(v.x, of_row), norm_weight.x), product(product(v.y, of_row), norm_weight.y),
                                  product(product(v.z, of_row), norm_weight.z), product(product(v.w, of_row), norm_weight.w));
            }
            __syncwarp();
        }

        float c[LANE_ROWS][LANE_OUTPUTS], s = 0.0f;
#pragma unroll
        for (int r = 0; r < LANE_ROWS; r++)
#pragma unroll
            for (int j = 0; j < LANE_OUTPUTS; j++) c[r][j] = 0.0f;
        if (works) {
            const float *at = own_x + lane / COLUMN_LANES * SPREAD_PITCH, *weight = own_weights + lane % COLUMN_LANES * SPREAD_PITCH;
#pragma unroll 2
            for (int k = 0; k < SEGMENT; k += 4) {
                float4 w[LANE_OUTPUTS];
#pragma unroll
                for (int j = 0; j < LANE_OUTPUTS; j++) w[j] = *reinterpret_cast<const float4 *>(weight + j * COLUMN_LANES * SPREAD_PITCH + k);
#pragma unroll
                for (int r = 0; r < LANE_ROWS; r++) {
                    float4 v = *reinterpret_cast<const float4 *>(at + r * ROW_LANES * SPREAD_PITCH + k);
#pragma unroll
                    for (int j = 0; j < LANE_OUTPUTS; j++) c[r][j] = fused(v.x, w[j].x, c[r][j]);
#pragma unroll
                    for (int j = 0; j < LANE_OUTPUTS; j++) c[r][j] = fused(v.y, w[j].y, c[r][j]);
#pragma unroll
                    for (int j = 0; j < LANE_OUTPUTS; j++) c[r][j] = fused(v.z, w[j].z, c[r][j]);
#pragma unroll
                    for (int j = 0; j < LANE_OUTPUTS; j++) c[r][j] = fused(v.w, w[j].w, c[r][j]);
                }
            }
#pragma unroll
            for (int k = 0; k < SEGMENT; k += 4) {
                float4 v = *reinterpret_cast<const float4 *>(own_x + lane % ROWS * SPREAD_PITCH + k);
                s = sum(sum(sum(sum(s, v.x), v.y), v.z), v.w);
            }
        }
        if (SHARED) wait_until_there();
        if (works) {
            // Chains of an output, and its scale, go to the block that folds it, sums to all.
            auto slot = [&](int column, int &block) {
                int of = column % EACH;
                block = SHARED ? of / folded : 0;
                return segment * step + column / EACH * folded + of - block * folded;
            };
#pragma unroll
            for (int j = 0; j < LANE_OUTPUTS; j++) {
                int block, at = slot(lane % COLUMN_LANES + j * COLUMN_LANES, block) * ROWS + lane / COLUMN_LANES * LANE_ROWS;
                if constexpr (LANE_ROWS == 4) send<SHARED>(reinterpret_cast<float4 *>(chains + at), inbox, block, make_float4(c[0][j], c[1][j], c[2][j], c[3][j]));
                else send<SHARED>(reinterpret_cast<float2 *>(chains + at), inbox, block, make_float2(c[0][j], c[1][j]));
            }
            if (lane < OUTPUTS) {
                int block, at = slot(own, block);
                send<SHARED>(scales + at, inbox, block, by);
            }
            if (lane < ROWS)
                for (int block = 0; block < cluster; block++) send<SHARED>(sums + segment * ROWS + place_of(lane), inbox, block, s);
        }
        wait_for_inbox<SHARED>(inbox);
        if (!folds) return;
        const float *from = chains + item * ROWS + place, *own_sums = sums + place;
        const float2 *scaled = scales + item;
        float t = fold(segments, step, has_minimum(args.products[index].matrix.kind), from, scaled, own_sums);
        if (MATRICES == 2) {
            float u = fold(segments, step, has_minimum(args.products[1].matrix.kind), from + folded * ROWS, scaled + folded, own_sums);
            *out = gated(t, u, args.gelu);
        } else {
            *out = args.mode == ACCUMULATE ? sum(before, t) : t;
        }
    }
};

// Where tiles are large, a block has a processor to itself.
#define LINEAR_SPREAD(ROWS, OUTPUTS, MATRICES)                                                                             \
    extern "C" __global__ void __launch_bounds__(640, 1) linear_spread_##ROWS##_##OUTPUTS##_##MATRICES(const __grid_constant__ Linear args) { \
        if (gridDim.x == 1) Spread<ROWS, OUTPUTS, MATRICES>::linear<false>(args);                                         \
        else Spread<ROWS, OUTPUTS, MATRICES>::linear<true>(args);                                                          \
    }
LINEAR_SPREAD(8, 16, 1)
LINEAR_SPREAD(8, 32, 1)
LINEAR_SPREAD(16, 32, 1)
LINEAR_SPREAD(32, 24, 1)
LINEAR_SPREAD(8, 32, 2)
LINEAR_SPREAD(16, 32, 2)
LINEAR_SPREAD(32, 24, 2)
LINEAR_SPREAD(32, 32, 2)
