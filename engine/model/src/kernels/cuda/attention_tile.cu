// Attention of rows that see others of the same pass: of prompts, and of drafts that are verified.
//
// A block takes TILE_ROWS neighbouring rows of a session, and HEADS of the query heads that share a key head: its queries. Scores
// come first: a lane of a half warp has four neighbouring keys, and each half of the warp the queries of half of the rows, so
// that what is read of shared memory is used often. Then the greatest score of each query; then weights, and for each unit of
// 32 keys the chains of weighted values, four dimensions a lane; last, the chains are folded in ascending order. Where scores do not
// fit at once, they are made again for each piece that does.
#include "attention.cuh"

constexpr int TILE_THREADS = 256, TILE_WARPS = TILE_THREADS / 32;
// Lanes of half a warp, and what each has of keys, or of dimensions of a value.
constexpr int HALF = 16, OWN = 4;
// Dimensions of values that half a warp makes at once.
constexpr int SPAN = HALF * OWN;
// Floats between rows of queries and of scores, beyond their length: so the halves of a warp hit different banks.
constexpr int APART = 4;

// Four neighbouring elements of a slab, not looked at yet.
template <int ELEMENT> struct Four;
template <> struct Four<ELEMENT_F16> {
    uint2 raw;
    __device__ __forceinline__ void load(const Sequence &sequence, u64 at) {
        raw = *reinterpret_cast<const uint2 *>(reinterpret_cast<const __half *>(sequence.elements) + at);
    }
    __device__ __forceinline__ float4 numbers(float4) const {
        float2 low = __half22float2(*reinterpret_cast<const __half2 *>(&raw.x)), high = __half22float2(*reinterpret_cast<const __half2 *>(&raw.y));
        return make_float4(low.x, low.y, high.x, high.y);
    }
};
template <> struct Four<ELEMENT_F32> {
    float4 raw;
    __device__ __forceinline__ void load(const Sequence &sequence, u64 at) {
        raw = *reinterpret_cast<const float4 *>(reinterpret_cast<const float *>(sequence.elements) + at);
    }
    __device__ __forceinline__ float4 numbers(float4) const { return raw; }
};
template <> struct Four<ELEMENT_INT8> {
    char4 raw;
    __device__ __forceinline__ void load(const Sequence &sequence, u64 at) { raw = *reinterpret_cast<const char4 *>(sequence.elements + at); }
    __device__ __forceinline__ float4 numbers(float4 by) const {
        return make_float4(product((float)raw.x, by.x), product((float)raw.y, by.y), product((float)raw.z, by.z), product((float)raw.w, by.w));
    }
};

// The scores of QUERIES queries for the lane's four keys, which lie from `keys` on. Rows of queries are `pitch` floats apart.
template <int ELEMENT, int QUERIES>
__device__ __forceinline__ void score_four(const Sequence &sequence, int dim, u64 keys, const float *queries, int pitch, float scale, float (&scores)[QUERIES][OWN]) {
    // Loads that are on their way at once.
    constexpr int AHEAD = ELEMENT == ELEMENT_F32 ? 8 : 16;
#pragma unroll
    for (int q = 0; q < QUERIES; q++)
#pragma unroll
        for (int i = 0; i < OWN; i++) scores[q][i] = 0.0f;
#pragma unroll 1
    for (int segment = 0; segment < dim / SEGMENT; segment++) {
        u64 at = keys + (u64)segment * SEGMENT * LANES;
        float4 by = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
        if (ELEMENT == ELEMENT_INT8) {
            ushort4 four = *reinterpret_cast<const ushort4 *>(sequence.scales + at / (LANES * SEGMENT) * LANES + at % LANES);
            by = make_float4(widened(four.x), widened(four.y), widened(four.z), widened(four.w));
        }
        float c[QUERIES][OWN];
#pragma unroll
        for (int q = 0; q < QUERIES; q++)
#pragma unroll
            for (int i = 0; i < OWN; i++) c[q][i] = 0.0f;
#pragma unroll 1
        for (int k = 0; k < SEGMENT; k += AHEAD) {
            Four<ELEMENT> loaded[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) loaded[i].load(sequence, at + (k + i) * LANES);
#pragma unroll
            for (int i = 0; i < AHEAD; i += 4) {
                float4 key[4];
#pragma unroll
                for (int j = 0; j < 4; j++) key[j] = loaded[i + j].numbers(by);
#pragma unroll
                for (int q = 0; q < QUERIES; q++) {
                    float4 query = *reinterpret_cast<const float4 *>(queries + q * pitch + segment * SEGMENT + k + i);
                    float of[4] = {query.x, query.y, query.z, query.w};
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        c[q][0] = fused(of[j], key[j].x, c[q][0]);
                        c[q][1] = fused(of[j], key[j].y, c[q][1]);
                        c[q][2] = fused(of[j], key[j].z, c[q][2]);
                        c[q][3] = fused(of[j], key[j].w, c[q][3]);
                    }
                }
            }
        }
#pragma unroll
        for (int q = 0; q < QUERIES; q++)
#pragma unroll
            for (int i = 0; i < OWN; i++) scores[q][i] = sum(scores[q][i], c[q][i]);
    }
#pragma unroll
    for (int q = 0; q < QUERIES; q++)
#pragma unroll
        for (int i = 0; i < OWN; i++) scores[q][i] = product(scores[q][i], scale);
}

// Goes on with the chains of QUERIES queries for the lane's four dimensions over the 32 keys of a segment, whose values lie from
// `values` on. With MASKED, a key of negative weight is not seen by the query.
template <int ELEMENT, int QUERIES, bool MASKED>
__device__ __forceinline__ void add_values(const Sequence &sequence, int dim, u64 values, const float *weights, int pitch, float (&c)[QUERIES][OWN]) {
    constexpr int AHEAD = ELEMENT == ELEMENT_F32 ? 4 : 8;
#pragma unroll 1
    for (int k = 0; k < SEGMENT; k += AHEAD) {
        Four<ELEMENT> loaded[AHEAD];
        float by[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            u64 at = values + (u64)(k + i) * dim;
            loaded[i].load(sequence, at);
            by[i] = ELEMENT == ELEMENT_INT8 ? widened(sequence.scales[at / SEGMENT]) : 1.0f;
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i += 4) {
            float4 value[4];
#pragma unroll
            for (int j = 0; j < 4; j++) value[j] = loaded[i + j].numbers(make_float4(by[i + j], by[i + j], by[i + j], by[i + j]));
#pragma unroll
            for (int q = 0; q < QUERIES; q++) {
                float4 weight = *reinterpret_cast<const float4 *>(weights + q * pitch + k + i);
                float of[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (MASKED && of[j] < 0.0f) continue;
                    c[q][0] = fused(of[j], value[j].x, c[q][0]);
                    c[q][1] = fused(of[j], value[j].y, c[q][1]);
                    c[q][2] = fused(of[j], value[j].z, c[q][2]);
                    c[q][3] = fused(of[j], value[j].w, c[q][3]);
                }
            }
        }
    }
}

template <int ELEMENT, int HEADS> __device__ __forceinline__ void attend_tile(const Attention &args) {
    extern __shared__ float4 attention_tile_shared[];
    // Queries of a block, and of half a warp. A query is a row's head.
    constexpr int ALL = TILE_ROWS * HEADS, QUERIES = ALL / 2;
    __shared__ float maxima[TILE_WARPS][ALL], peak[ALL], totals[ALL];
    // What rows see; of rows that are not there, nothing.
    __shared__ Sight sights[TILE_ROWS];
    begin_next();
    const Rotation &made = args.made;
    int dim = made.dim, head = blockIdx.x * HEADS, kv_head = args.parts == 1 ? blockIdx.x : blockIdx.x / args.parts;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = lane / HALF, own = lane % HALF;
    int capacity = (args.room + 1) * SEGMENT, query_pitch = dim + APART, score_pitch = capacity + APART;
    float *queries = reinterpret_cast<float *>(attention_tile_shared), *sink_queries = queries + ALL * query_pitch;
    float *folded = sink_queries + ALL * query_pitch, *scores = folded + ALL * dim, *sums = scores + ALL * score_pitch;
    // Chains of a round, a unit for each warp; before that, the angles of the rows.
    float *chains = sums + (ALL * args.room + 3) / 4 * 4;
    // All of this was there before the pass began.
    RowTile tile = args.tiles[blockIdx.y];
    Sequence sequence = made.sequences[tile.sequence];
    Slots slots = made.slots[tile.layout * made.layers];
    u64 all = (u64)slots.count * dim, first_key = slots.start + kv_head * all, first_value = slots.start + (made.kv_heads + kv_head) * all;
    constexpr int ROW_THREADS = TILE_THREADS / TILE_ROWS;
    int turning = threadIdx.x / ROW_THREADS, there = threadIdx.x % ROW_THREADS;
    if (there == 0) sights[turning] = Sight{0, 0, 0, 0};
    if (turning < (int)tile.rows) {
        Row row = made.rows[tile.first + turning];
        const float *own_angles = angles_of(made.angles, made.own_angles, row.angles, made.places, dim);
        const float *sink_angles = angles_of(made.sink_angles, made.own_sink_angles, row.sink_angles, made.places, dim);
        for (int i = there; i < 2 * dim; i += ROW_THREADS) {
            chains[turning * 4 * dim + i] = own_angles[i];
            chains[turning * 4 * dim + 2 * dim + i] = sink_angles[i];
        }
        if (there == 0) sights[turning] = made.sights[tile.first + turning];
    }
    __syncthreads();
    wait_for_last();

    for (int q = warp; q < ALL; q += TILE_WARPS) {
        int r = q / HEADS, h = head + q % HEADS;
        const float *angles = chains + r * 4 * dim;
        float *x = folded + q * dim;
        // Of rows that are not there nothing is used.
        if (r < (int)tile.rows) finish_head(x, made.queries + ((u64)(tile.first + r) * made.heads + h) * dim, made.query_bias ? made.query_bias + h * dim : nullptr, made.query_norm, made.epsilon, dim);
        for (int d = lane; d < dim; d += 32) {
            queries[q * query_pitch + d] = turned(x, angles, d, dim);
            sink_queries[q * query_pitch + d] = tile.sinks > 0 ? turned(x, angles + 2 * dim, d, dim) : 0.0f;
        }
        __syncwarp();
        for (int d = lane; d < dim; d += 32) x[d] = 0.0f;
    }
    if (threadIdx.x < ALL) totals[threadIdx.x] = 0.0f;
    __syncthreads();

    // Scores of `count` segments from `base` on, two for a warp at once, and the greatest that are tile.
    int own_first = half * QUERIES;
    float most[QUERIES];
#pragma unroll
    for (int q = 0; q < QUERIES; q++) most[q] = -INFINITY;
    auto score_all = [&](int base, int count, bool keep) {
        for (int pair = 2 * warp; pair < count; pair += 2 * TILE_WARPS) {
            int segment = pair + own / 8, key = own % 8 * OWN;
            bool there = segment < count;
            int at = base + (there ? segment : pair);
            u64 keys = first_key + (u64)tile.slot(at) * dim + (u64)(key / LANES * LANES) * dim + key % LANES;
            const float *mine = (at < tile.sinks ? sink_queries : queries) + own_first * query_pitch;
            float found[QUERIES][OWN];
            score_four<ELEMENT, QUERIES>(sequence, dim, keys, mine, query_pitch, args.scale, found);
            if (!there) continue;
            if (keep) {
#pragma unroll
                for (int q = 0; q < QUERIES; q++)
                    *reinterpret_cast<float4 *>(scores + (own_first + q) * score_pitch + segment * SEGMENT + key) =
                        make_float4(found[q][0], found[q][1], found[q][2], found[q][3]);
            }
#pragma unroll
            for (int r = 0; r < TILE_ROWS / 2; r++) {
                int from, to;
                tile.visible(at, sights[half * (TILE_ROWS / 2) + r], from, to);
#pragma unroll
                for (int i = 0; i < OWN; i++) {
                    bool is_seen = from <= key + i && key + i < to;
#pragma unroll
                    for (int h = 0; h < HEADS; h++)
                        if (is_seen && found[r * HEADS + h][i] > most[r * HEADS + h]) most[r * HEADS + h] = found[r * HEADS + h][i];
                }
            }
        }
    };
    int units = tile.units();
    bool whole = units <= (int)args.room;
    score_all(0, tile.segments, whole);
#pragma unroll
    for (int q = 0; q < QUERIES; q++) {
        float greatest = most[q];
#pragma unroll
        for (int offset = HALF / 2; offset > 0; offset /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, greatest, offset);
            greatest = other > greatest ? other : greatest;
        }
        if (own == 0) maxima[warp][own_first + q] = greatest;
    }
    __syncthreads();
    if (threadIdx.x < ALL) {
        float found = -INFINITY;
#pragma unroll
        for (int w = 0; w < TILE_WARPS; w++) found = maxima[w][threadIdx.x] > found ? maxima[w][threadIdx.x] : found;
        peak[threadIdx.x] = found;
    }
    __syncthreads();

    for (int piece = 0; piece < units; piece += args.room) {
        int piece_end = piece + (int)args.room < units ? piece + (int)args.room : units;
        int base = tile.begin(piece), segments = tile.begin(piece_end) - base;
        if (!whole) {
            score_all(base, segments, true);
            __syncthreads();
        }
        // Weights; those of keys that are not seen are negative.
        for (int q = warp; q < ALL; q += TILE_WARPS) {
            Sight sight = sights[q / HEADS];
            float greatest = peak[q];
            float *at = scores + q * score_pitch + lane;
#pragma unroll 2
            for (int segment = 0; segment < segments; segment++, at += SEGMENT) {
                int from, to;
                tile.visible(base + segment, sight, from, to);
                float weight = exponential(__fsub_rn(*at, greatest));
                *at = from <= lane && lane < to ? weight : -1.0f;
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < ALL * (piece_end - piece); i += TILE_THREADS) {
            int q = i % ALL, unit = piece + i / ALL;
            float s = 0.0f;
            const float *weights = scores + q * score_pitch + (tile.begin(unit) - base) * SEGMENT, *end = scores + q * score_pitch + (tile.end(unit) - base) * SEGMENT;
#pragma unroll 2
            for (; weights < end; weights += 4) {
                float4 w = *reinterpret_cast<const float4 *>(weights);
                if (!(w.x < 0.0f)) s = sum(s, w.x);
                if (!(w.y < 0.0f)) s = sum(s, w.y);
                if (!(w.z < 0.0f)) s = sum(s, w.z);
                if (!(w.w < 0.0f)) s = sum(s, w.w);
            }
            sums[(unit - piece) * ALL + q] = s;
        }
        for (int span = 0; span < dim; span += SPAN)
            for (int round = piece; round < piece_end; round += TILE_WARPS) {
                int unit = round + warp, d = span + own * OWN;
                if (unit < piece_end && d < dim) {
                    float c[QUERIES][OWN];
#pragma unroll
                    for (int q = 0; q < QUERIES; q++)
#pragma unroll
                        for (int i = 0; i < OWN; i++) c[q][i] = 0.0f;
#pragma unroll 1
                    for (int segment = tile.begin(unit); segment < tile.end(unit); segment++) {
                        const float *weights = scores + own_first * score_pitch + (segment - base) * SEGMENT;
                        u64 values = first_value + (u64)tile.slot(segment) * dim + d;
                        // The first row sees the least at the end, and the last one at the beginning.
                        int from, to, late_from, late_to;
                        tile.visible(segment, sights[0], from, to);
                        tile.visible(segment, sights[TILE_ROWS - 1], late_from, late_to);
                        if (late_from <= 0 && to >= SEGMENT && tile.rows == TILE_ROWS) add_values<ELEMENT, QUERIES, false>(sequence, dim, values, weights, score_pitch, c);
                        else add_values<ELEMENT, QUERIES, true>(sequence, dim, values, weights, score_pitch, c);
                    }
#pragma unroll
                    for (int q = 0; q < QUERIES; q++)
                        *reinterpret_cast<float4 *>(chains + (warp * ALL + own_first + q) * SPAN + own * OWN) = make_float4(c[q][0], c[q][1], c[q][2], c[q][3]);
                }
                __syncthreads();
                int count = piece_end - round < TILE_WARPS ? piece_end - round : TILE_WARPS;
                for (int i = threadIdx.x; i < ALL * SPAN; i += TILE_THREADS) {
                    int q = i / SPAN, at = span + i % SPAN;
                    if (at >= dim) continue;
                    float t = folded[q * dim + at];
#pragma unroll 4
                    for (int w = 0; w < count; w++) t = sum(t, chains[w * ALL * SPAN + i]);
                    folded[q * dim + at] = t;
                }
                __syncthreads();
            }
        if (threadIdx.x < ALL) {
            float total = totals[threadIdx.x];
            for (int unit = 0; unit < piece_end - piece; unit++) total = sum(total, sums[unit * ALL + threadIdx.x]);
            totals[threadIdx.x] = total;
        }
        __syncthreads();
    }
    for (int q = warp; q < (int)tile.rows * HEADS; q += TILE_WARPS) {
        float by = __fdiv_rn(1.0f, totals[q]);
        float *out = args.out + ((u64)(tile.first + q / HEADS) * made.heads + head + q % HEADS) * dim;
        for (int d = lane; d < dim; d += 32) out[d] = product(folded[q * dim + d], by);
    }
}

#define ATTEND_TILE(NAME, ELEMENT, HEADS)                                                                                  \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, 3) attend_tile_##NAME##_##HEADS(const __grid_constant__ Attention args) { \
        attend_tile<ELEMENT, HEADS>(args);                                                                                 \
    }
#define ATTEND_TILE_ALL(NAME, ELEMENT)                                                                                     \
    ATTEND_TILE(NAME, ELEMENT, 1) ATTEND_TILE(NAME, ELEMENT, 2) ATTEND_TILE(NAME, ELEMENT, 3) ATTEND_TILE(NAME, ELEMENT, 4)
ATTEND_TILE_ALL(f16, ELEMENT_F16)
ATTEND_TILE_ALL(f32, ELEMENT_F32)
ATTEND_TILE_ALL(int8, ELEMENT_INT8)
