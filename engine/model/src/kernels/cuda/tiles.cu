// Matrix products of more than a few rows. A block makes a tile of ROWS rows by 32 outputs; its WARPS warps share the segments. A warp
// widens the weights of a segment into shared memory of its own, and makes the tile's chains of that segment, each lane those of
// ROWS / 4 rows and 4 outputs. Then the block folds the chains of its warps, in ascending order, and goes on to the next
// segments, whose activations and weights are on their way meanwhile. Where a block has a processor to itself, it has room for the
// chains of two rounds: some warps make the next ones while others fold, and it normalises its rows if it has all of their segments.
#include "copies.cuh"
#include "formats.cuh"

// Lanes of a warp over the rows of a tile, and over its outputs.
constexpr int ROW_LANES = 4, COLUMN_LANES = 8, LANE_COLUMNS = PANEL / COLUMN_LANES;
// Distance of rows of activations, and of outputs' weights, in shared memory: lanes that read at once hit different banks.
constexpr int PITCH = SEGMENT + 4;
// Floats of a segment's widened weights.
constexpr int WIDENED = PANEL * PITCH + 8 * (LANE_COLUMNS - 1);

// Where the weights of an output lie: the four of a lane are 8 apart, so that lanes of a warp read neighbours, and shifted by
// 8 banks each, so that lanes that write neighbours do not meet.
__device__ __forceinline__ int widened_at(int column) {
    int own = column % LANE_COLUMNS;
    return (own * COLUMN_LANES + column / LANE_COLUMNS) * PITCH + 8 * own;
}

template <int WIDTH> struct Vector;
template <> struct Vector<1> { typedef float type; };
template <> struct Vector<2> { typedef float2 type; };
template <> struct Vector<4> { typedef float4 type; };

// Goes on with the folds of WIDTH neighbouring outputs of one row over `units` units, of which each has CHAINS chains, and one is
// STEP units after the other. Where a kind has no scale it is 1, and fma(1, c, t) is t + c.
template <int ROWS, int WIDTH, int STEP, int CHAINS>
__device__ __forceinline__ void fold_units(int units, int cells, bool minimum, const float *chains, const float2 *scales, const float *sums, float (&t)[WIDTH]) {
    int chain_step = STEP * cells * ROWS * PANEL, scale_step = STEP * cells * PANEL;
#pragma unroll 1
    for (int unit = 0; unit < units; unit++) {
        float s = minimum ? *sums : 0.0f;
#pragma unroll
        for (int chain = 0; chain < CHAINS; chain++) {
            float c[WIDTH];
            float2 by[WIDTH];
            *reinterpret_cast<typename Vector<WIDTH>::type *>(c) = *reinterpret_cast<const typename Vector<WIDTH>::type *>(chains + chain * ROWS * PANEL);
            if constexpr (WIDTH == 1) by[0] = scales[chain * PANEL];
#pragma unroll
            for (int i = 0; i + 1 < WIDTH; i += 2)
                *reinterpret_cast<float4 *>(by + i) = *reinterpret_cast<const float4 *>(scales + chain * PANEL + i);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                t[i] = fused(by[i].x, c[i], t[i]);
                if (minimum) t[i] = fused(by[i].y, s, t[i]);
            }
        }
        chains += chain_step;
        scales += scale_step;
        sums += STEP * ROWS;
    }
}
template <int ROWS, int WIDTH, int STEP>
__device__ __forceinline__ void fold_either(int units, int cells, int count, bool minimum, const float *chains, const float2 *scales, const float *sums, float (&t)[WIDTH]) {
    if (count == 1) fold_units<ROWS, WIDTH, STEP, 1>(units, cells, minimum, chains, scales, sums, t);
    else fold_units<ROWS, WIDTH, STEP, 2>(units, cells, minimum, chains, scales, sums, t);
}

// Rule NORM for the rows of a tile, which lie in `x` with all of their segments. `scratch` has room for a chain for each segment of
// each row; `weight` is that of the piece of 16 bytes which is this thread's of every row that it takes.
template <int ROWS, int THREADS> __device__ __forceinline__ void normalise_tile(float *x, int segments, float epsilon, float4 weight, float *scratch) {
    for (int i = threadIdx.x; i < ROWS * segments; i += THREADS) {
        const float *own = x + i * PITCH;
        float c = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT; k += 4) {
            float4 v = *reinterpret_cast<const float4 *>(own + k);
            c = fused(v.w, v.w, fused(v.z, v.z, fused(v.y, v.y, fused(v.x, v.x, c))));
        }
        scratch[i] = c;
    }
    __syncthreads();
    float *inverses = scratch + ROWS * segments;
    if (threadIdx.x < ROWS) {
        float total = 0.0f;
#pragma unroll 6
        for (int segment = 0; segment < segments; segment++) total = sum(total, scratch[segment * ROWS + threadIdx.x]);
        inverses[threadIdx.x] = inverse_root(total, segments * SEGMENT, epsilon);
    }
    __syncthreads();
    int pieces = segments * (SEGMENT / 4), piece = threadIdx.x % pieces, rows_at_once = THREADS / pieces;
    float *own = x + piece / (SEGMENT / 4) * ROWS * PITCH + piece % (SEGMENT / 4) * 4;
    int first = threadIdx.x / pieces;
    // Where the rows that are taken at once are no more threads' worth, the last threads have none.
    for (int row = first < rows_at_once ? first : ROWS; row < ROWS; row += rows_at_once) {
        float4 *at = reinterpret_cast<float4 *>(own + row * PITCH), v = *at;
        float by = inverses[row];
        *at = make_float4(product(product(v.x, by), weight.x), product(product(v.y, by), weight.y), product(product(v.z, by), weight.z),
                          product(product(v.w, by), weight.w));
    }
}

template <int ROWS, int WARPS, bool ALONE> __device__ __forceinline__ void linear_tile(const Linear &args) {
    extern __shared__ float4 tile_shared[];
    // Rounds whose chains have room, and those whose scales have: scales are written before the round that needs them.
    constexpr int CHAIN_ROUNDS = ALONE ? 2 : 1, SCALE_ROUNDS = CHAIN_ROUNDS + 1;
    constexpr int LANE_ROWS = ROWS / ROW_LANES, WIDTH = ROWS / 8, THREADS = 32 * WARPS;
    static_assert(THREADS >= ROWS * PANEL / WIDTH, "a thread folds once");
    begin_next();
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    bool both = args.mode == GATED;
    int segments = args.segments, cells = args.chains;
    // Segments of a round.
    int share = both ? WARPS / 2 : WARPS, rounds = (segments + share - 1) / share;

    // Two buffers of activations, and of each warp: widened weights, chains, scales, sums.
    int staged = share * ROWS * PITCH;
    float *x = reinterpret_cast<float *>(tile_shared), *widened = x + (rounds > 1 ? 2 : 1) * staged;
    float *chains = widened + WARPS * WIDENED;
    int chains_of_round = WARPS * cells * ROWS * PANEL, scales_of_round = WARPS * cells * PANEL;
    float2 *scales = reinterpret_cast<float2 *>(chains + CHAIN_ROUNDS * chains_of_round);
    float *sums = reinterpret_cast<float *>(scales + SCALE_ROUNDS * scales_of_round);

    // The product of this block, and which of its panels.
    int panel = blockIdx.x, index = 0;
    if (!both)
        for (;; index++) {
            int panels = (args.products[index].matrix.rows + PANEL - 1) / PANEL;
            if (panel < panels || index + 1 == args.count) break;
            panel -= panels;
        }
    // The matrix that this warp widens.
    int which = both ? warp % 2 : index;
    const u8 *weights = panel_of(args.products[which].matrix, panel);
    u32 kind = args.products[which].matrix.kind;
    int own = both ? warp / 2 : warp, first = blockIdx.y * ROWS;
    u32 kind_a = args.products[both ? 0 : index].matrix.kind, kind_b = args.products[1].matrix.kind;
    bool minimum_a = has_minimum(kind_a), minimum_b = has_minimum(kind_b);
    int chains_a = kind_a == Q6K ? 2 : 1, chains_b = kind_b == Q6K ? 2 : 1;

    float *own_weights = widened + warp * WIDENED, *own_chains = chains + warp * cells * ROWS * PANEL, *own_sums = sums + warp * ROWS;
    Raw raw;
    auto load = [&](int segment) { WITH_KIND(kind, (load_raw<KIND>(weights, segment, lane, raw))); };
    auto put = [&](int round, int segment) {
        float2 *to = scales + round % SCALE_ROUNDS * scales_of_round + warp * cells * PANEL + lane;
        WITH_KIND(kind, {
            widen<KIND>(raw, weights, segment, lane, own_weights + widened_at(lane));
            for (int chain = 0; chain < Shape<KIND>::CHAINS; chain++) to[chain * PANEL] = decode_scales<KIND>(raw.scales, chain);
        });
        __syncwarp();
    };
    // What this thread fetches of a segment, and of every AT_ONCE-th after it.
    constexpr int AT_ONCE = THREADS / (ROWS * SEGMENT / 4);
    int staged_k = threadIdx.x % (SEGMENT / 4), staged_row = threadIdx.x / (SEGMENT / 4) % ROWS, staged_at = threadIdx.x / (ROWS * SEGMENT / 4);
    bool there = first + staged_row < args.rows;
    const float *source = args.x + (u64)(there ? first + staged_row : 0) * args.x_stride + staged_at * SEGMENT + 4 * staged_k;
    // Activations of a round: rows of its segments, in pieces of 16 bytes.
    auto fetch = [&](int round) {
        int count = segments - round * share < share ? segments - round * share : share;
        const float *from = source + round * share * SEGMENT;
        float *to = x + round % 2 * staged + (staged_at * ROWS + staged_row) * PITCH + 4 * staged_k;
        // Where warps are no multiple of what a segment takes, the last threads have none.
        for (int segment = staged_at < AT_ONCE ? staged_at : count; segment < count; segment += AT_ONCE, from += AT_ONCE * SEGMENT, to += AT_ONCE * ROWS * PITCH) copy_ahead(to, from, there);
        copies_end();
    };

    // Rows are normalised here only where they fit with all of their segments, of at most two rounds.
    bool normalises = ALONE && args.norm;
    float4 norm_weight = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (normalises) norm_weight = __ldg(reinterpret_cast<const float4 *>(args.norm) + threadIdx.x % (segments * (SEGMENT / 4)));
    if (own < segments) load(own);
    if (own < segments) put(0, own);
    wait_for_last();
    fetch(0);
    if (normalises && rounds > 1) fetch(1);

    // What this thread folds: WIDTH outputs of a row. `u` is the second matrix's, or what the result is added to.
    const Product &target = args.products[index];
    int item_row = threadIdx.x / (PANEL / WIDTH), item_column = threadIdx.x % (PANEL / WIDTH) * WIDTH;
    bool folds = item_row < ROWS;
    int row = first + item_row, output = panel * PANEL + item_column;
    float t[WIDTH], u[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        t[i] = u[i] = 0.0f;
        if (args.mode == ACCUMULATE && folds && row < args.rows && output + i < target.matrix.rows) u[i] = target.out[row * target.stride + output + i];
    }
    const float *folded = chains + item_row * PANEL + item_column, *item_sums = sums + item_row;
    const float2 *item_scales = scales + item_column;

    if (normalises) {
        wait_for_copies<0>();
        __syncthreads();
        normalise_tile<ROWS, THREADS>(x, segments, args.epsilon, norm_weight, chains);
    }
    for (int round = 0; round < rounds; round++) {
        int from = round * share, count = segments - from < share ? segments - from : share, next = from + share + own;
        if (!ALONE || round == 0) {
            wait_for_copies<0>();
            // Activations are there, and the last round's chains are folded.
            __syncthreads();
        }
        if (round + 1 < rounds) {
            if (!normalises) fetch(round + 1);
            if (next < segments) load(next);
        }
        if (own < count) {
            const float *mine = x + round % 2 * staged + own * ROWS * PITCH;
            bool two = kind == Q6K;
            float c[LANE_ROWS][LANE_COLUMNS];
#pragma unroll
            for (int r = 0; r < LANE_ROWS; r++)
#pragma unroll
                for (int j = 0; j < LANE_COLUMNS; j++) c[r][j] = 0.0f;
            const float *at = mine + lane / COLUMN_LANES * PITCH, *by = own_weights + lane % COLUMN_LANES * PITCH;
            float *to = own_chains + round % CHAIN_ROUNDS * chains_of_round + lane / COLUMN_LANES * PANEL + lane % COLUMN_LANES * LANE_COLUMNS;
            auto store = [&](float *to) {
#pragma unroll
                for (int r = 0; r < LANE_ROWS; r++)
                    *reinterpret_cast<float4 *>(to + r * ROW_LANES * PANEL) = make_float4(c[r][0], c[r][1], c[r][2], c[r][3]);
            };
#pragma unroll 2
            for (int k = 0; k < SEGMENT; k += 4) {
                if (two && k == SEGMENT / 2) {
                    store(to);
                    to += ROWS * PANEL;
#pragma unroll
                    for (int r = 0; r < LANE_ROWS; r++)
#pragma unroll
                        for (int j = 0; j < LANE_COLUMNS; j++) c[r][j] = 0.0f;
                }
                float4 w[LANE_COLUMNS];
#pragma unroll
                for (int j = 0; j < LANE_COLUMNS; j++) w[j] = *reinterpret_cast<const float4 *>(by + j * (COLUMN_LANES * PITCH + 8) + k);
#pragma unroll
                for (int r = 0; r < LANE_ROWS; r++) {
                    float4 v = *reinterpret_cast<const float4 *>(at + r * ROW_LANES * PITCH + k);
#pragma unroll
                    for (int j = 0; j < LANE_COLUMNS; j++) c[r][j] = fused(v.x, w[j].x, c[r][j]);
#pragma unroll
                    for (int j = 0; j < LANE_COLUMNS; j++) c[r][j] = fused(v.y, w[j].y, c[r][j]);
#pragma unroll
                    for (int j = 0; j < LANE_COLUMNS; j++) c[r][j] = fused(v.z, w[j].z, c[r][j]);
#pragma unroll
                    for (int j = 0; j < LANE_COLUMNS; j++) c[r][j] = fused(v.w, w[j].w, c[r][j]);
                }
            }
            store(to);
            if (has_minimum(kind) && lane < ROWS) {
                float s = 0.0f;
#pragma unroll
                for (int k = 0; k < SEGMENT; k += 4) {
                    float4 v = *reinterpret_cast<const float4 *>(mine + lane * PITCH + k);
                    s = sum(sum(sum(sum(s, v.x), v.y), v.z), v.w);
                }
                own_sums[round % CHAIN_ROUNDS * WARPS * ROWS + lane] = s;
            }
            // Who is done with its weights makes room for the next.
            __syncwarp();
            if (next < segments) put(round + 1, next);
        }
        // Where folds go on beside the next round, its activations are there too.
        if (ALONE) wait_for_copies<0>();
        __syncthreads();
        if (folds) {
            const float *made = folded + round % CHAIN_ROUNDS * chains_of_round, *s = item_sums + round % CHAIN_ROUNDS * WARPS * ROWS;
            const float2 *by = item_scales + round % SCALE_ROUNDS * scales_of_round;
            if (both) {
                fold_either<ROWS, WIDTH, 2>(count, cells, chains_a, minimum_a, made, by, s, t);
                fold_either<ROWS, WIDTH, 2>(count, cells, chains_b, minimum_b, made + cells * ROWS * PANEL, by + cells * PANEL, s + ROWS, u);
            } else {
                fold_either<ROWS, WIDTH, 1>(count, cells, chains_a, minimum_a, made, by, s, t);
            }
        }
    }

    if (!folds || row >= args.rows) return;
    float *out = target.out + row * target.stride + output;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        if (output + i >= target.matrix.rows) break;
        if (both) out[i] = gated(t[i], u[i], args.gelu);
        else if (args.mode == ACCUMULATE) out[i] = sum(u[i], t[i]);
        else out[i] = t[i];
    }
}

// Blocks of more than half the warps of a processor have it to themselves.
#define LINEAR_TILE(ROWS, WARPS)                                                                                           \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, WARPS > 8 ? 1 : 2) linear_tile_##ROWS##_##WARPS(const __grid_constant__ Linear args) { \
        linear_tile<ROWS, WARPS, (WARPS > 8)>(args);                                                                      \
    }
LINEAR_TILE(8, 8)
LINEAR_TILE(8, 16)
LINEAR_TILE(8, 18)
LINEAR_TILE(8, 20)
LINEAR_TILE(8, 24)
LINEAR_TILE(16, 8)
LINEAR_TILE(16, 16)
LINEAR_TILE(16, 18)
LINEAR_TILE(16, 20)
LINEAR_TILE(32, 8)
