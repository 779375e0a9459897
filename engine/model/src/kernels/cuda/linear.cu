// Matrix products of a few rows, which wait for memory and for each other. A block makes tiles of ROWS rows by COLUMNS outputs, all
// of their segments. A thread has one segment, and one output of each tile: it makes their chains one after the other, for every
// row. Chains are folded in ascending order at the end. More rows are for spread.cu and tiles.cu.
//
// Weights depend on nothing that was computed. Each thread copies those of its first chains into stages of its own before the
// kernel waits for the one before it, and those of later ones as stages become free. What is on its way so takes no registers.
//
// There is a kernel for each kind of weights, and one for products of several: little of a step is arithmetic, and much of it is
// finding out what to do.
#include "formats.cuh"

// Distance of two segments of activations in shared memory: lanes that read four segments at once hit different banks.
constexpr int STRIDE = SEGMENT + 4;
// Outputs of a tile, and tiles of a panel.
constexpr int COLUMNS = 8, PARTS = PANEL / COLUMNS;
// Matrices' chains are so much apart that lanes that fold several of them hit different banks.
constexpr int BETWEEN = 8;

// Runs BODY with KIND standing for the kind, which is known when this is compiled unless it is MIXED.
#define WITH_OWN_KIND(kind, BODY)                                                                                          \
    if constexpr (OWN != MIXED) {                                                                                          \
        constexpr int KIND = OWN;                                                                                          \
        BODY;                                                                                                              \
    } else {                                                                                                               \
        WITH_KIND(kind, BODY)                                                                                              \
    }

// The activations of a segment: of one row a thread has them in registers, of more they are in shared memory, rows STRIDE apart.
template <int ROWS> struct Activations {
    const float *x;
    __device__ __forceinline__ float4 at(int row, int k) const { return *reinterpret_cast<const float4 *>(x + row * STRIDE + k); }
};
template <> struct Activations<1> {
    float4 x[SEGMENT / 4];
    __device__ __forceinline__ float4 at(int, int k) const { return x[k / 4]; }
};

template <int KIND, int ROWS>
__device__ __forceinline__ void make_chains(const Weights<KIND> &weights, const Activations<ROWS> &x, float *chains) {
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
                float4 v = x.at(r, k);
                c[r] = fused(v.w, q[3], fused(v.z, q[2], fused(v.y, q[1], fused(v.x, q[0], c[r]))));
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) chains[(chain * ROWS + r) * COLUMNS] = c[r];
    }
}

// The fold of one output of one row. Scales are COLUMNS apart for each chain, and sums ROWS for each segment.
template <int KIND, int ROWS>
__device__ __forceinline__ float fold_chains(int segments, const float *chains, const float2 *scales, const float *sums) {
    float t = 0.0f;
#pragma unroll 8
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

__device__ __forceinline__ float with_squares(float c, float4 v) { return fused(v.w, v.w, fused(v.z, v.z, fused(v.y, v.y, fused(v.x, v.x, c)))); }
__device__ __forceinline__ float with_sum(float s, float4 v) { return sum(sum(sum(sum(s, v.x), v.y), v.z), v.w); }
__device__ __forceinline__ float4 normalised(float4 v, float by, float4 w) {
    return make_float4(product(product(v.x, by), w.x), product(product(v.y, by), w.y), product(product(v.z, by), w.z), product(product(v.w, by), w.w));
}

// One over the root mean square of a row, from the squares of its segments, which are ROWS apart.
template <int ROWS> __device__ __forceinline__ float inverse_of(const float *squares, int segments, float epsilon) {
    float total = 0.0f;
#pragma unroll 8
    for (int segment = 0; segment < segments; segment++) total = sum(total, squares[segment * ROWS]);
    return inverse_root(total, segments * SEGMENT, epsilon);
}

// Where a row of activations lies; null, if there are not so many.
__device__ __forceinline__ const float *row_of(const Linear &args, int row) {
    return row < args.rows ? args.x + (args.map ? args.map[row] : row) * args.x_stride : nullptr;
}

// Puts several rows in shared memory, segment after segment, row after row; normalises them, where that is asked for, and sums their
// segments.
template <int ROWS>
__device__ __forceinline__ void stage_rows(const Linear &args, int first, float *x, const float *norm, float *squares, float *sums) {
    int segments = args.segments, warps = blockDim.x / 32;
    // A row is a warp's.
    for (int r = threadIdx.x / 32; r < ROWS; r += warps) {
        const float *source = row_of(args, first + r);
#pragma unroll 4
        for (int k = 4 * (threadIdx.x % 32); k < segments * SEGMENT; k += 4 * 32)
            *reinterpret_cast<float4 *>(x + (k / SEGMENT * ROWS + r) * STRIDE + k % SEGMENT) =
                source ? *reinterpret_cast<const float4 *>(source + k) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    __syncthreads();
    auto at = [&](int i, int k) -> float4 & { return *reinterpret_cast<float4 *>(x + i * STRIDE + k); };
    if (args.norm) {
        for (int i = threadIdx.x; i < ROWS * segments; i += blockDim.x) {
            float c = 0.0f;
#pragma unroll
            for (int k = 0; k < SEGMENT; k += 4) c = with_squares(c, at(i, k));
            squares[i] = c;
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < ROWS * segments; i += blockDim.x) {
        float by = args.norm ? inverse_of<ROWS>(squares + i % ROWS, segments, args.epsilon) : 0.0f, s = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT; k += 4) {
            float4 v = at(i, k);
            if (args.norm) at(i, k) = v = normalised(v, by, *reinterpret_cast<const float4 *>(norm + i / ROWS * STRIDE + k));
            s = with_sum(s, v);
        }
        sums[i] = s;
    }
    __syncthreads();
}

// Where the weights of one matrix for a tile lie: the panel, and the first of its lanes.
struct Source {
    const u8 *panel;
    u32 lane;
    u32 kind;
};

// A tile of a product: which product, and its number in there.
struct TileOf {
    u32 index;
    int tile;
};

template <int ROWS, int OWN> __device__ __forceinline__ void linear(const Linear &args) {
    extern __shared__ float4 linear_shared[];
    constexpr int CELL = ROWS * COLUMNS;
    begin_next();
    int segments = args.segments, tiles = 0;
    bool both = args.mode == GATED, minima = false, scaled = false;
    for (u32 i = 0; i < args.count; i++) {
        if (!both || i == 0) tiles += (args.products[i].matrix.rows + PANEL - 1) / PANEL * PARTS;
        minima |= has_minimum(args.products[i].matrix.kind);
        scaled |= args.products[i].matrix.kind < F16;
    }
    // The block's tiles are neighbours: those of a panel lie between each other. Some of them are folded together, and those of two such groups have room, if there
    // are two: while one is folded, chains of the next are made. Items are tiles by matrices, those of a tile side by side.
    int matrices = both ? 2 : 1, each = args.each, rest = tiles - (int)blockIdx.x * each, count = rest < each ? rest : each, group = args.group;
    int items = count * matrices, group_items = group * matrices, room = (count > group ? 2 : 1) * group_items;
    int cells = args.chains * segments, chain_pitch = cells * CELL + BETWEEN, scale_pitch = cells * COLUMNS + BETWEEN, of_rows = (ROWS * segments + 3) / 4 * 4;
    Source *sources = reinterpret_cast<Source *>(linear_shared);
    float *x = reinterpret_cast<float *>(sources + items), *norm = x + (ROWS > 1 ? ROWS * segments * STRIDE : 0), *squares = norm + (args.norm ? segments * STRIDE : 0), *sums = squares + of_rows;
    u8 *stages = reinterpret_cast<u8 *>(sums + of_rows);
    // Where there are fewer chains than stages, the last ones are never used.
    int stage_bytes = args.stage_bytes * blockDim.x, chains_of_thread = (segments + (int)args.share - 1) / (int)args.share * items;
    u8 *stages_end = stages + args.stages * stage_bytes;
    float2 *all_scales = reinterpret_cast<float2 *>(chains_of_thread < (int)args.stages ? stages + chains_of_thread * stage_bytes : stages_end);
    float *all_chains = reinterpret_cast<float *>(all_scales + (scaled ? room * scale_pitch : 0));

    auto tile_at = [&](int own) {
        TileOf found{0, (int)blockIdx.x * each + own};
        if (!both)
            for (; found.index + 1 < args.count; found.index++) {
                int own = (args.products[found.index].matrix.rows + PANEL - 1) / PANEL * PARTS;
                if (found.tile < own) break;
                found.tile -= own;
            }
        return found;
    };
    for (int i = threadIdx.x; i < items; i += blockDim.x) {
        TileOf at = tile_at(both ? i / 2 : i);
        const Matrix &matrix = args.products[both ? i % 2 : at.index].matrix;
        sources[i] = Source{panel_of(matrix, at.tile / PARTS), (u32)(at.tile % PARTS * COLUMNS), matrix.kind};
    }
    if (args.norm)
        for (int k = 4 * threadIdx.x; k < segments * SEGMENT; k += 4 * blockDim.x) copy_ahead(norm + k / SEGMENT * STRIDE + k % SEGMENT, args.norm + k);
    copies_end();
    __syncthreads();

    // A thread's share: a segment in each round. Group after group, round after round, item after item.
    int column = threadIdx.x % COLUMNS, own = (int)threadIdx.x / COLUMNS < (int)args.share ? (int)threadIdx.x / COLUMNS : segments;
    struct Place {
        int begin, end, segment, item;
    };
    auto after = [&](Place place) {
        if (++place.item < place.end) return place;
        place.item = place.begin;
        place.segment += args.share;
        // The first thread's segment tells whether there is another round.
        if (place.segment - own < segments) return place;
        return Place{place.end, place.end + group_items < items ? place.end + group_items : items, own, place.end};
    };
    Place now{0, group_items < items ? group_items : items, own, 0}, ahead = now;
    u8 *stage_ahead = stages;
    auto copy = [&]() {
        if (ahead.item < items && ahead.segment < segments) {
            Source source = sources[ahead.item];
            WITH_OWN_KIND(source.kind, (Staged<KIND>::copy(stage_ahead, source.panel, ahead.segment, source.lane + column)));
        }
        // One for each, and empty ones at the end, so that they can be counted.
        copies_end();
        ahead = after(ahead);
        stage_ahead += stage_bytes;
        if (stage_ahead == stages_end) stage_ahead = stages;
    };
#pragma unroll 1
    for (u32 i = 0; i < args.stages; i++) copy();
    // The output that a thread folds of each group: gate and up in neighbouring lanes.
    int first = blockIdx.y * ROWS, which = both ? threadIdx.x % 2 : 0, folded = both ? threadIdx.x / 2 : threadIdx.x, row = first + folded % CELL / COLUMNS, c = folded % COLUMNS;
    const float *only_row = ROWS == 1 ? row_of(args, first) : nullptr;
    wait_for_last();

    // Of one row: what it is normalised by, and whether the thread has its only segment in registers, and has made it what it shall be.
    float by = 0.0f;
    bool once = args.share >= segments, loaded = false, made = false;
    Activations<ROWS> mine;
    auto load = [&](int segment) {
        if constexpr (ROWS == 1)
#pragma unroll
            for (int k = 0; k < SEGMENT / 4; k++) mine.x[k] = *reinterpret_cast<const float4 *>(only_row + segment * SEGMENT + 4 * k);
    };
    if constexpr (ROWS == 1) {
        if (args.norm) {
            loaded = once;
#pragma unroll 1
            for (int segment = own; segment < segments; segment += args.share) {
                load(segment);
                float c = 0.0f;
#pragma unroll
                for (int k = 0; k < SEGMENT / 4; k++) c = with_squares(c, mine.x[k]);
                if (column == 0) squares[segment] = c;
            }
            wait_for_oldest<1>(args.stages);
            __syncthreads();
            by = inverse_of<1>(squares, segments, args.epsilon);
        }
    } else {
        wait_for_oldest<1>(args.stages);
        __syncthreads();
        stage_rows<ROWS>(args, first, x, norm, squares, sums);
    }
    u8 *stage = stages;
#pragma unroll 1
    for (int parity = 0; now.item < items; parity ^= 1) {
        int begin = now.begin, end = now.end, matrix = begin + folded / CELL * matrices + which;
        float *chains = all_chains + parity * group_items * chain_pitch;
        float2 *scales = all_scales + parity * group_items * scale_pitch;
        TileOf at = tile_at(matrix < end ? matrix / matrices : 0);
        const Product &target = args.products[at.index];
        int output = at.tile * COLUMNS + c;
        bool there = matrix < end && which == 0 && row < args.rows && output < target.matrix.rows;
        float *out = target.out + row * target.stride + output, before = 0.0f;
        if (there && args.mode == ACCUMULATE) before = *out;

#pragma unroll 1
        while (now.begin == begin && now.item < items) {
            int segment = now.segment;
            if constexpr (ROWS == 1) {
                if (segment < segments && !made) {
                    if (!loaded) load(segment);
                    float s = 0.0f;
#pragma unroll
                    for (int k = 0; k < SEGMENT / 4; k++) {
                        if (args.norm) mine.x[k] = normalised(mine.x[k], by, *reinterpret_cast<const float4 *>(norm + segment * STRIDE + 4 * k));
                        if (minima) s = with_sum(s, mine.x[k]);
                    }
                    if (minima && column == 0) sums[segment] = s;
                    made = once;
                }
            } else {
                mine.x = x + segment * ROWS * STRIDE;
            }
#pragma unroll 1
            do {
                wait_for_oldest<0>(args.stages);
                if (segment < segments) {
                    Source source = sources[now.item];
                    WITH_OWN_KIND(source.kind, {
                        int cell = segment * Shape<KIND>::CHAINS;
                        int matrix = now.item - begin;
                        (make_chains<KIND, ROWS>(Staged<KIND>::weights(stage), mine, chains + matrix * chain_pitch + cell * CELL + column));
                        if (!Shape<KIND>::PLAIN) {
                            RawScales raw = Staged<KIND>::scales(stage, source.lane + column);
                            for (int chain = 0; chain < Shape<KIND>::CHAINS; chain++)
                                scales[matrix * scale_pitch + (cell + chain) * COLUMNS + column] = decode_scales<KIND>(raw, chain);
                        }
                    });
                }
                copy();
                now = after(now);
                stage += stage_bytes;
                if (stage == stages_end) stage = stages;
            } while (now.item != now.begin);
        }
        __syncthreads();
        if (matrix < end) {
            int own = matrix - begin;
            float t = 0.0f;
            WITH_OWN_KIND(sources[matrix].kind,
                          (t = fold_chains<KIND, ROWS>(segments, chains + own * chain_pitch + folded % CELL, scales + own * scale_pitch + c, sums + folded % CELL / COLUMNS)));
            if (both) {
                // The last warp may be half full.
                int folding = (end - begin) * CELL - threadIdx.x / 32 * 32;
                float up = __shfl_down_sync(folding < 32 ? 0xffffu : 0xffffffffu, t, 1);
                t = gated(t, up, args.gelu);
            }
            if (there) *out = args.mode == ACCUMULATE ? sum(before, t) : t;
        }
    }
}

#define LINEAR(ROWS, NAME, KIND)                                                                                           \
    extern "C" __global__ void __launch_bounds__(384, 2) linear_##ROWS##_##NAME(const __grid_constant__ Linear args) {     \
        linear<ROWS, KIND>(args);                                                                                          \
    }
#define LINEAR_ALL(ROWS)                                                                                                   \
    LINEAR(ROWS, q4_0, Q4_0)                                                                                               \
    LINEAR(ROWS, q4_1, Q4_1)                                                                                               \
    LINEAR(ROWS, q5_0, Q5_0)                                                                                               \
    LINEAR(ROWS, q5_1, Q5_1)                                                                                               \
    LINEAR(ROWS, q8_0, Q8_0)                                                                                               \
    LINEAR(ROWS, q4_k, Q4K)                                                                                                \
    LINEAR(ROWS, q5_k, Q5K)                                                                                                \
    LINEAR(ROWS, q6_k, Q6K)                                                                                                \
    LINEAR(ROWS, f16, F16)                                                                                                 \
    LINEAR(ROWS, bf16, BF16)                                                                                               \
    LINEAR(ROWS, f32, F32)                                                                                                 \
    LINEAR(ROWS, mixed, MIXED)
LINEAR_ALL(1)
LINEAR_ALL(2)
LINEAR_ALL(4)
