// Attention of rows that are alone in their session: of generation, of any number of sessions.
//
// A cluster of blocks takes the query heads of a row that share one key head, HEADS of them. Each block has a run of the units of
// 32 keys, and each of its warps every n-th of them, of n warps. A warp copies keys, then values, into a ring of stages of its own, and
// begins before the kernel waits for the one before it: all but the row's own position was there before the pass. Scores come
// first, then the greatest of all blocks, then weights, and for each unit the chain of weighted values. Chains go to the block
// of the cluster that folds them, in ascending order.
#include "attention.cuh"
#include "cluster.cuh"
#include "copies.cuh"

// Warps of a block, and blocks of a cluster, at most.
constexpr int MOST_WARPS = 8, MOST_BLOCKS = 8;

// How the 32 keys, or values, of a segment lie in a stage: as in the slab, but that of keys each 32 dimensions of 16 keys are
// shifted, so that the lanes that read at once hit different banks. Behind them stand the scales of int8.
template <int ELEMENT> struct Stage {
    static constexpr int WIDTH = ELEMENT == ELEMENT_F16 ? 2 : ELEMENT == ELEMENT_F32 ? 4 : 1;
    // Bytes of 32 dimensions of 16 keys.
    static constexpr int BLOCK = SEGMENT * LANES * WIDTH;
    static constexpr int SHIFT = 32;
    // Dimensions that a lane puts in place at once: those of a scale.
    static constexpr int STEP = ELEMENT == ELEMENT_INT8 ? SEGMENT : 1;

    // Each block is shifted by 8 banks more than the one before it, and the second half by 16 banks beside the first.
    __device__ static int half_shift(int dim) { return (dim + SHIFT + 31) / 128 * 128 + 2 * SHIFT; }
    __device__ static int shift(int half, int block, int dim) { return half * half_shift(dim) + block * SHIFT; }
    // Where the scales begin.
    __device__ static int scales(int dim) { return SEGMENT * dim * WIDTH + half_shift(dim) + dim; }
    __device__ static int bytes(int dim) { return scales(dim) + (ELEMENT == ELEMENT_INT8 ? 2 * dim : 0); }

    // Copies the segment whose first element is `from`; every lane of the warp takes part.
    __device__ __forceinline__ static void copy(u8 *to, const Sequence &sequence, u64 from, int dim, bool keys) {
        int lane = threadIdx.x % 32, bytes = SEGMENT / 2 * dim * WIDTH;
        const u8 *elements = sequence.elements + from * WIDTH;
#pragma unroll 1
        for (int half = 0; half < 2; half++)
#pragma unroll 4
            for (int at = 16 * lane; at < bytes; at += 16 * 32)
                copy_ahead(to + half * bytes + at + (keys ? shift(half, at / BLOCK, dim) : 0), elements + half * bytes + at);
        if (ELEMENT == ELEMENT_INT8) {
            const u8 *scales_from = reinterpret_cast<const u8 *>(sequence.scales + from / SEGMENT);
            for (int at = 16 * lane; at < 2 * dim; at += 16 * 32) copy_ahead(to + scales(dim) + at, scales_from + at);
        }
    }
    // Puts a key, or a value, where the copy has what was there before.
    __device__ __forceinline__ static void put_key(u8 *stage, int key, const float *x, int dim) {
        int half = key / LANES, own = key % LANES;
        for (int d = threadIdx.x % 32 * STEP; d < dim; d += 32 * STEP) {
            u8 *to = stage + ((half * dim + d) * LANES + own) * WIDTH + shift(half, d / SEGMENT, dim);
            if (ELEMENT == ELEMENT_F16) *reinterpret_cast<__half *>(to) = __float2half_rn(x[d]);
            if (ELEMENT == ELEMENT_F32) *reinterpret_cast<float *>(to) = x[d];
            if (ELEMENT == ELEMENT_INT8)
                quantise(x + d, reinterpret_cast<signed char *>(to), LANES, reinterpret_cast<u16 *>(stage + scales(dim)) + (half * (dim / SEGMENT) + d / SEGMENT) * LANES + own);
        }
    }
    __device__ __forceinline__ static void put_value(u8 *stage, int key, const float *x, int dim) {
        for (int d = threadIdx.x % 32 * STEP; d < dim; d += 32 * STEP) {
            u8 *to = stage + (key * dim + d) * WIDTH;
            if (ELEMENT == ELEMENT_F16) *reinterpret_cast<__half *>(to) = __float2half_rn(x[d]);
            if (ELEMENT == ELEMENT_F32) *reinterpret_cast<float *>(to) = x[d];
            if (ELEMENT == ELEMENT_INT8) quantise(x + d, reinterpret_cast<signed char *>(to), 1, reinterpret_cast<u16 *>(stage + scales(dim)) + (key * dim + d) / SEGMENT);
        }
    }
};

// Two neighbouring elements of a stage.
template <int ELEMENT> __device__ __forceinline__ float2 pair_at(const u8 *at, float2 by) {
    if (ELEMENT == ELEMENT_F16) return __half22float2(*reinterpret_cast<const __half2 *>(at));
    if (ELEMENT == ELEMENT_F32) return *reinterpret_cast<const float2 *>(at);
    char2 pair = *reinterpret_cast<const char2 *>(at);
    return make_float2(product((float)pair.x, by.x), product((float)pair.y, by.y));
}

// Scores of the 32 keys of a stage for HEADS queries. Lane l has keys 2 (l % 16) and the one after it, and each half of the warp
// every second chain of 32 dimensions; both halves have the result.
template <int ELEMENT, int HEADS>
__device__ __forceinline__ void score_stage(const u8 *stage, int dim, const float *queries, float scale, float2 (&scores)[HEADS]) {
    int lane = threadIdx.x % 32, chain = lane / 16, half = lane % 16 / 8, own = lane % 8 * 2, chains = dim / SEGMENT;
#pragma unroll
    for (int h = 0; h < HEADS; h++) scores[h] = make_float2(0.0f, 0.0f);
#pragma unroll 1
    for (int first = 0; first < chains; first += 2) {
        int mine = first + chain;
        float2 c[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) c[h] = make_float2(0.0f, 0.0f);
        if (mine < chains) {
            const u8 *from = stage + ((half * dim + mine * SEGMENT) * LANES + own) * Stage<ELEMENT>::WIDTH + Stage<ELEMENT>::shift(half, mine, dim);
            float2 by = make_float2(1.0f, 1.0f);
            if (ELEMENT == ELEMENT_INT8) {
                const u16 *scales = reinterpret_cast<const u16 *>(stage + Stage<ELEMENT>::scales(dim)) + (half * chains + mine) * LANES + own;
                by = make_float2(widened(scales[0]), widened(scales[1]));
            }
            const float *mine_of = queries + mine * SEGMENT;
#pragma unroll 2
            for (int k = 0; k < SEGMENT; k += 4) {
                float2 key[4];
#pragma unroll
                for (int i = 0; i < 4; i++) key[i] = pair_at<ELEMENT>(from + (k + i) * LANES * Stage<ELEMENT>::WIDTH, by);
#pragma unroll
                for (int h = 0; h < HEADS; h++) {
                    float4 query = *reinterpret_cast<const float4 *>(mine_of + h * dim + k);
                    float of[4] = {query.x, query.y, query.z, query.w};
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        c[h].x = fused(of[i], key[i].x, c[h].x);
                        c[h].y = fused(of[i], key[i].y, c[h].y);
                    }
                }
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float2 other = make_float2(__shfl_xor_sync(0xffffffffu, c[h].x, 16), __shfl_xor_sync(0xffffffffu, c[h].y, 16));
            float2 even = chain ? other : c[h], odd = chain ? c[h] : other;
            scores[h] = make_float2(sum(scores[h].x, even.x), sum(scores[h].y, even.y));
            if (first + 1 < chains) scores[h] = make_float2(sum(scores[h].x, odd.x), sum(scores[h].y, odd.y));
        }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) scores[h] = make_float2(product(scores[h].x, scale), product(scores[h].y, scale));
}

// Goes on with the chains of dimensions `d` and the one after it over the 32 values of a stage, and with the sum of the weights of
// one of the heads, which each lane has another one of. Rows of weights are `pitch` apart; a key of negative weight is not seen, of
// which there are none where ALL are seen.
template <int ELEMENT, int HEADS, bool ALL>
__device__ __forceinline__ void add_stage(const u8 *stage, int dim, int d, const float *weights, const float *summed, int pitch, float2 (&c)[HEADS], float &s) {
    const u16 *scales = reinterpret_cast<const u16 *>(stage + Stage<ELEMENT>::scales(dim));
#pragma unroll 2
    for (int k = 0; k < SEGMENT; k += 4) {
        float2 value[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float by = ELEMENT == ELEMENT_INT8 ? widened(scales[((k + i) * dim + d) / SEGMENT]) : 1.0f;
            value[i] = pair_at<ELEMENT>(stage + ((k + i) * dim + d) * Stage<ELEMENT>::WIDTH, make_float2(by, by));
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float4 weight = *reinterpret_cast<const float4 *>(weights + h * pitch + k);
            float of[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (!ALL && of[i] < 0.0f) continue;
                c[h].x = fused(of[i], value[i].x, c[h].x);
                c[h].y = fused(of[i], value[i].y, c[h].y);
            }
        }
        float4 weight = *reinterpret_cast<const float4 *>(summed + k);
        float of[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (ALL || !(of[i] < 0.0f)) s = sum(s, of[i]);
    }
}

// SHARED: by a cluster of several blocks.
template <int ELEMENT, int HEADS, bool SHARED> __device__ __forceinline__ void attend(const Attention &args) {
    extern __shared__ float4 attention_shared[];
    __shared__ float maxima[MOST_BLOCKS * MOST_WARPS][HEADS];
    begin_next();
    const Rotation &made = args.made;
    int log = SHARED ? args.cluster : 0, dim = made.dim, cluster = 1 << log, rank = SHARED ? blockIdx.x : 0, head = blockIdx.y * HEADS;
    int kv_head = args.parts == 1 ? blockIdx.y : blockIdx.y / args.parts, lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = 1 << args.warps;
    // Of each query, a block of the cluster folds so many dimensions.
    int share = dim >> log, part = HEADS * share, capacity = (args.room + 1) * SEGMENT, all_units = args.room << log;
    u8 *stages = reinterpret_cast<u8 *>(attention_shared);
    int stage_bytes = Stage<ELEMENT>::bytes(dim), count = args.stages;
    float *queries = reinterpret_cast<float *>(stages + warps * count * stage_bytes), *sink_queries = queries + HEADS * dim;
    float *x = sink_queries + HEADS * dim, *v = x + (HEADS + 1) * dim, *turned_k = v + dim, *angles = turned_k + dim;
    float *scores = angles + 4 * dim, *chains = scores + HEADS * capacity, *sums = chains + all_units * part;
    // For the greatest scores, and for chains.
    u64 *inboxes = reinterpret_cast<u64 *>(sums + all_units * HEADS);
    stages += warp * count * stage_bytes;

    // The plan was there before the pass began, and so was all of the cache but the row's own position.
    RowTile tile = args.tiles[blockIdx.z];
    Row row = made.rows[blockIdx.z];
    Sight sight = made.sights[blockIdx.z];
    // Rows that are alone are as many as sessions, in their order: nothing has to be read to find it.
    Sequence sequence = made.sequences[blockIdx.z];
    Slots slots = made.slots[tile.layout * made.layers];
    u64 all = (u64)slots.count * dim, first_key = slots.start + kv_head * all, first_value = slots.start + (made.kv_heads + kv_head) * all;
    int units = tile.units();
    if (SHARED) {
        if (threadIdx.x == 0) {
            open_inbox(inboxes, cluster * warps * HEADS * sizeof(float));
            open_inbox(inboxes + 1, units * (part + HEADS) * sizeof(float));
        }
        say_there();
    }
    int first = units * rank >> log, end = units * (rank + 1) >> log, base = tile.begin(first);
    // The warp's units, and among its segments the second one of a joined unit.
    int own_units = first + warp < end ? ((end - first - warp - 1) >> args.warps) + 1 : 0;
    int twin = -1, into = tile.sinks - 1 - first - warp;
    if (tile.joined && into >= 0 && (into & (warps - 1)) == 0 && into >> args.warps < own_units) twin = (into >> args.warps) + 1;
    int own_segments = own_units + (twin >= 0);
    auto segment_at = [&](int index) {
        bool later = twin >= 0 && index >= twin;
        return tile.begin(first + warp + (index - later) * warps) + (index == twin);
    };
    // Copies of the warp: its keys, then its values. A commit for each, and empty ones at the end, so that they can be counted.
    int copied = 0;
    u8 *copy_to = stages;
    auto copy = [&]() {
        if (copied < 2 * own_segments) {
            bool is_key = copied < own_segments;
            u64 from = (is_key ? first_key : first_value) + (u64)tile.slot(segment_at(is_key ? copied : copied - own_segments)) * dim;
            Stage<ELEMENT>::copy(copy_to, sequence, from, dim, is_key);
        }
        copies_end();
        copied++;
        copy_to += stage_bytes;
        if (copy_to == stages + count * stage_bytes) copy_to = stages;
    };
#pragma unroll 1
    for (int index = 0; index < count; index++) copy();
    const float *own_angles = angles_of(made.angles, made.own_angles, row.angles, made.places, dim);
    const float *sink_angles = angles_of(made.sink_angles, made.own_sink_angles, row.sink_angles, made.places, dim);
    for (int i = threadIdx.x; i < 2 * dim; i += blockDim.x) {
        angles[i] = own_angles[i];
        angles[2 * dim + i] = sink_angles[i];
    }
    __syncthreads();
    wait_for_last();

    // The last block of a cluster has the row's own position. Heads are finished by a warp each: the queries, the key, the value.
    bool writes = rank + 1 == cluster;
    for (int i = warp; i < (writes ? HEADS + 2 : HEADS); i += warps) {
        bool is_query = i < HEADS, is_key = i == HEADS;
        int h = is_query ? head + i : kv_head;
        u64 at = ((u64)blockIdx.z * (is_query ? made.heads : made.kv_heads) + h) * dim;
        const float *from = (is_query ? made.queries : is_key ? made.keys : made.values) + at;
        const float *bias = is_query ? made.query_bias : is_key ? made.key_bias : made.value_bias;
        const float *norm = is_query ? made.query_norm : is_key ? made.key_norm : nullptr;
        // The value lies behind the key.
        float *own = x + i * dim;
        finish_head(own, from, bias ? bias + h * dim : nullptr, norm, made.epsilon, dim);
        if (!is_query && !is_key) continue;
        float *to = is_query ? queries + i * dim : turned_k;
        for (int d = lane; d < dim; d += 32) {
            to[d] = turned(own, angles, d, dim);
            if (is_query) sink_queries[i * dim + d] = tile.sinks > 0 ? turned(own, angles + 2 * dim, d, dim) : 0.0f;
        }
    }
    __syncthreads();
    // The own position is the last that is seen, and a sink while there are no others.
    int own_segment = writes ? tile.segments - 1 : -1, own_place = sight.slot % SEGMENT;

    u8 *stage = stages;
    auto next_stage = [&]() {
        stage += stage_bytes;
        if (stage == stages + count * stage_bytes) stage = stages;
    };
    float most[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) most[h] = -INFINITY;
#pragma unroll 1
    for (int index = 0; index < own_segments; index++, next_stage()) {
        int segment = segment_at(index), two = lane % 16 * 2, from, to;
        wait_for_all_but(count - 1);
        __syncwarp();
        if (segment == own_segment) {
            Stage<ELEMENT>::put_key(stage, own_place, turned_k, dim);
            __syncwarp();
        }
        float2 found[HEADS];
        score_stage<ELEMENT, HEADS>(stage, dim, segment < tile.sinks ? sink_queries : queries, args.scale, found);
        tile.visible(segment, sight, from, to);
        bool one = from <= two && two < to, other = from <= two + 1 && two + 1 < to;
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            if (one && found[h].x > most[h]) most[h] = found[h].x;
            if (other && found[h].y > most[h]) most[h] = found[h].y;
            if (lane < 16) *reinterpret_cast<float2 *>(scores + h * capacity + (segment - base) * SEGMENT + two) = found[h];
        }
        __syncwarp();
        copy();
    }
    // The greatest of the warp goes to all blocks of the cluster.
#pragma unroll
    for (int h = 0; h < HEADS; h++)
#pragma unroll
        for (int offset = 8; offset > 0; offset /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, most[h], offset);
            most[h] = other > most[h] ? other : most[h];
        }
    if (SHARED) wait_until_there();
    if (lane < cluster)
#pragma unroll
        for (int h = 0; h < HEADS; h++) send<SHARED>(maxima[rank * warps + warp] + h, inboxes, lane, most[h]);
    wait_for_inbox<SHARED>(inboxes);
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        most[h] = -INFINITY;
        for (int w = lane; w < warps << log; w += 32) most[h] = maxima[w][h] > most[h] ? maxima[w][h] : most[h];
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, most[h], offset);
            most[h] = other > most[h] ? other : most[h];
        }
    }

    // Weights of the warp's keys; those of keys that are not seen are negative.
#pragma unroll 1
    for (int index = 0; index < own_segments; index++) {
        int segment = segment_at(index), from, to;
        tile.visible(segment, sight, from, to);
        float *at = scores + (segment - base) * SEGMENT + lane;
#pragma unroll
        for (int h = 0; h < HEADS; h++, at += capacity) {
            float weight = exponential(__fsub_rn(*at, most[h]));
            *at = from <= lane && lane < to ? weight : -1.0f;
        }
    }
    __syncwarp();
#pragma unroll 1
    for (int unit = first + warp; unit < end; unit += warps) {
        int segment = tile.begin(unit), both = tile.end(unit) - segment;
        if (both > 1) wait_for_all_but(0);
        else wait_for_all_but(count - 1);
        __syncwarp();
        u8 *last = stage;
        if (both > 1) {
            next_stage();
            last = stage;
            stage = stage == stages ? stages + (count - 1) * stage_bytes : stage - stage_bytes;
        }
        if (segment + both - 1 == own_segment) Stage<ELEMENT>::put_value(last, own_place, v, dim);
        __syncwarp();
        const float *weights = scores + (segment - base) * SEGMENT;
#pragma unroll 1
        for (int d = 2 * lane; d < dim; d += 64) {
            float2 c[HEADS];
            float s = 0.0f;
#pragma unroll
            for (int h = 0; h < HEADS; h++) c[h] = make_float2(0.0f, 0.0f);
#pragma unroll 1
            for (int i = 0; i < both; i++) {
                const float *own = weights + i * SEGMENT, *summed = own + lane % HEADS * capacity;
                int from, to;
                tile.visible(segment + i, sight, from, to);
                if (from <= 0 && to >= SEGMENT) add_stage<ELEMENT, HEADS, true>(i ? last : stage, dim, d, own, summed, capacity, c, s);
                else add_stage<ELEMENT, HEADS, false>(i ? last : stage, dim, d, own, summed, capacity, c, s);
            }
            // Chains go to the block that folds them.
            int block = SHARED ? d / share : 0;
            float *to = chains + unit * part + d - block * share;
#pragma unroll
            for (int h = 0; h < HEADS; h++) send<SHARED>(reinterpret_cast<float2 *>(to + h * share), inboxes + 1, block, c[h]);
            // The sum of each head for each block, from one of the lanes that have it.
            int at_once = (dim < 64 ? dim / 2 : 32) / HEADS;
            if (d < 64 && lane < at_once * HEADS)
                for (int to = lane / HEADS; to < cluster; to += at_once) send<SHARED>(sums + unit * HEADS + lane % HEADS, inboxes + 1, to, s);
        }
        __syncwarp();
        for (int i = 0; i < both; i++) {
            copy();
            next_stage();
        }
    }
    wait_for_inbox<SHARED>(inboxes + 1);
    for (int i = threadIdx.x; i < part; i += blockDim.x) {
        int h = i / share, d = i - h * share;
        float t = 0.0f, total = 0.0f;
        const float *chain = chains + i, *s = sums + h;
#pragma unroll 4
        for (int unit = 0; unit < units; unit++, chain += part, s += HEADS) {
            t = sum(t, *chain);
            total = sum(total, *s);
        }
        args.out[((u64)blockIdx.z * made.heads + head + h) * dim + rank * share + d] = product(t, __fdiv_rn(1.0f, total));
    }
    // Last, since nothing here waits for it.
    if (writes && warp == 0) write_to_slab(made, sequence, slots, sight.slot, kv_head, turned_k, v);
}

#define ATTEND(NAME, ELEMENT, HEADS)                                                                                       \
    extern "C" __global__ void __launch_bounds__(32 * MOST_WARPS, 2) attend_##NAME##_##HEADS(const __grid_constant__ Attention args) { \
        if (args.cluster == 0) attend<ELEMENT, HEADS, false>(args);                                                        \
        else attend<ELEMENT, HEADS, true>(args);                                                                           \
    }
#define ATTEND_ALL(NAME, ELEMENT)                                                                                          \
    ATTEND(NAME, ELEMENT, 1) ATTEND(NAME, ELEMENT, 2) ATTEND(NAME, ELEMENT, 3) ATTEND(NAME, ELEMENT, 4)
ATTEND_ALL(f16, ELEMENT_F16)
ATTEND_ALL(f32, ELEMENT_F32)
ATTEND_ALL(int8, ELEMENT_INT8)
