// Attention of one row over the sinks and the window of its session: rule ATTENTION of docs/numerics.md.
//
// A block, or a cluster of blocks, takes the query heads that share one key head, HEADS of them. Scores come first, a lane for
// each key; then the greatest of them; then weights, and for each unit of 32 keys a chain of weighted values; last, the chains
// are folded in ascending order. Blocks of a cluster take runs of units and push their chains to whichever folds them. A key
// that is not visible is in no chain.
#include <cooperative_groups.h>

#include "rotation.cuh"

namespace groups = cooperative_groups;

constexpr int ATTENTION_THREADS = 256;
// Blocks of a cluster at most.
constexpr int MOST_BLOCKS = 8;
// Values that are on their way at once.
constexpr int AHEAD = 16;

struct Attention {
    // What was made before attention, and, where `alone` is set, is finished here: no row of the pass sees another one.
    Rotation made;
    float *out;
    float scale;
    // Units that a block has room for at once.
    u32 room;
    u32 cluster;
    u32 alone;
};

// The segments of 32 keys that a row may see: those of the sinks, then the window's. A unit makes one chain: a segment, or the
// last of the sinks and the first of the window where both are the same 32 positions.
struct Seen {
    u64 first;
    u64 low;
    u64 last;
    u64 sink_end;
    // The slot of the window's first segment, and where the ring ends.
    u32 window_slot;
    u32 end_slot;
    u32 ring;
    int sinks;
    int segments;
    bool joined;

    __device__ Seen(const Slots &slots, const Row &row) {
        low = window_start(slots, row.position);
        last = row.last;
        sink_end = slots.sink < last + 1 ? slots.sink : last + 1;
        sinks = (int)((sink_end + SEGMENT - 1) / SEGMENT);
        first = low / SEGMENT;
        u64 end = low <= last ? last / SEGMENT + 1 : first;
        segments = sinks + (int)(end - first);
        joined = end > first && (u64)sinks == first + 1;
        ring = slots.ring;
        window_slot = slots.sink_slots + (u32)(first * SEGMENT % ring);
        end_slot = slots.sink_slots + ring;
    }
    __device__ int units() const { return segments - joined; }
    // The first segment of a unit; that of one past the last is one past the last.
    __device__ int begin(int unit) const { return joined && unit >= sinks ? unit + 1 : unit; }
    __device__ int end(int unit) const { return begin(unit + 1); }
    // The keys of a segment that are seen, counted from its first.
    __device__ void visible(int segment, int &from, int &to) const {
        u64 start, a, b;
        if (segment < sinks) {
            start = (u64)segment * SEGMENT;
            a = 0;
            b = sink_end;
        } else {
            start = (first + (segment - sinks)) * SEGMENT;
            a = low;
            b = last + 1;
        }
        from = a <= start ? 0 : a >= start + SEGMENT ? SEGMENT : (int)(a - start);
        to = b <= start ? 0 : b >= start + SEGMENT ? SEGMENT : (int)(b - start);
    }
    __device__ u32 slot(int segment) const {
        if (segment < sinks) return segment * SEGMENT;
        // What is seen is no longer than the ring, so it wraps once at most.
        u32 slot = window_slot + (segment - sinks) * SEGMENT;
        return slot < end_slot ? slot : slot - ring;
    }
};

template <int ELEMENT> __device__ __forceinline__ float element_at(const Sequence &sequence, u64 at, float scale) {
    if (ELEMENT == ELEMENT_F16) return __half2float(reinterpret_cast<const __half *>(sequence.elements)[at]);
    if (ELEMENT == ELEMENT_F32) return reinterpret_cast<const float *>(sequence.elements)[at];
    return product((float)reinterpret_cast<const signed char *>(sequence.elements)[at], scale);
}

__device__ __forceinline__ float widened(u16 scale) { return __uint_as_float((u32)scale << 16); }

// Scores of the 32 keys of a segment for HEADS queries, a key for each lane.
template <int ELEMENT, int HEADS>
__device__ __forceinline__ void score(const Sequence &sequence, u64 keys, int dim, const float *queries, float scale, float (&scores)[HEADS]) {
    int lane = threadIdx.x % 32;
    u64 own = keys + (u64)(lane / LANES * LANES) * dim + lane % LANES;
#pragma unroll
    for (int h = 0; h < HEADS; h++) scores[h] = 0.0f;
    for (int segment = 0; segment < dim / SEGMENT; segment++) {
        u64 at = own + (u64)segment * SEGMENT * LANES;
        float by = 1.0f;
        if (ELEMENT == ELEMENT_INT8) by = widened(sequence.scales[at / (LANES * SEGMENT) * LANES + at % LANES]);
        float key[SEGMENT], c[HEADS];
#pragma unroll
        for (int k = 0; k < SEGMENT; k++) key[k] = element_at<ELEMENT>(sequence, at + k * LANES, by);
#pragma unroll
        for (int h = 0; h < HEADS; h++) c[h] = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT; k += 4)
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float4 q = *reinterpret_cast<const float4 *>(queries + h * dim + segment * SEGMENT + k);
                c[h] = fused(q.x, key[k], c[h]);
                c[h] = fused(q.y, key[k + 1], c[h]);
                c[h] = fused(q.z, key[k + 2], c[h]);
                c[h] = fused(q.w, key[k + 3], c[h]);
            }
#pragma unroll
        for (int h = 0; h < HEADS; h++) scores[h] = sum(scores[h], c[h]);
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) scores[h] = product(scores[h], scale);
}

// Two neighbouring dimensions of a value.
template <int ELEMENT> __device__ __forceinline__ float2 pair_at(const Sequence &sequence, u64 at) {
    if (ELEMENT == ELEMENT_F16)
        return __half22float2(*reinterpret_cast<const __half2 *>(reinterpret_cast<const __half *>(sequence.elements) + at));
    if (ELEMENT == ELEMENT_F32) return *reinterpret_cast<const float2 *>(reinterpret_cast<const float *>(sequence.elements) + at);
    float by = widened(sequence.scales[at / SEGMENT]);
    char2 pair = *reinterpret_cast<const char2 *>(sequence.elements + at);
    return make_float2(product((float)(signed char)pair.x, by), product((float)(signed char)pair.y, by));
}

template <int ELEMENT, int HEADS> __device__ __forceinline__ void attend(const Attention &args) {
    extern __shared__ float4 attention_shared[];
    __shared__ float maxima[ATTENTION_THREADS / 32][HEADS], peak[HEADS], totals[HEADS];
#if __CUDA_ARCH__ >= 900
    __shared__ float peaks[MOST_BLOCKS][HEADS];
#endif
    begin_next();
    const Rotation &made = args.made;
    int dim = made.dim, group = made.heads / made.kv_heads, parts = group / HEADS;
    int rank = blockIdx.x % args.cluster, which = blockIdx.x / args.cluster;
    int kv_head = which / parts, head = kv_head * group + which % parts * HEADS;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    int capacity = (args.room + 1) * SEGMENT;
    float *queries = reinterpret_cast<float *>(attention_shared), *sink_queries = queries + HEADS * dim, *folded = sink_queries + HEADS * dim;
    float *scores = folded + HEADS * dim, *sums = scores + HEADS * capacity, *chains = sums + HEADS * args.room * args.cluster;
    // The plan was there before the pass began, and so was all of the cache but the row's own position: what this block needs of
    // it is on its way while the kernel before this one still runs.
    Row row = made.rows[blockIdx.y];
    Sequence sequence = made.sequences[row.sequence];
    Slots slots = made.slots[sequence.layout * made.layers];
    Seen seen(slots, row);
    u64 all = (u64)(slots.sink_slots + slots.ring) * dim;
    u64 keys = slots.start + kv_head * all, values = slots.start + (made.kv_heads + kv_head) * all;
    int units = seen.units(), first = units * rank / args.cluster, end = units * (rank + 1) / args.cluster;
    if (args.alone) {
        constexpr int WIDTH = ELEMENT == ELEMENT_F16 ? 2 : ELEMENT == ELEMENT_F32 ? 4 : 1;
        int lines = SEGMENT * dim * WIDTH / 128;
        for (int i = threadIdx.x; i < (seen.begin(end) - seen.begin(first)) * 2 * lines; i += blockDim.x) {
            int segment = seen.begin(first) + i / (2 * lines);
            u64 at = ((i % (2 * lines) < lines ? keys : values) + (u64)seen.slot(segment) * dim) * WIDTH + i % lines * 128;
            asm volatile("prefetch.global.L2 [%0];" ::"l"(sequence.elements + at));
        }
    }
    wait_for_last();
    u64 own_head = (u64)blockIdx.y * made.heads + head, own_key = (u64)blockIdx.y * made.kv_heads + kv_head;
    if (args.alone) {
        // Scratch of what comes later holds what is not rotated yet.
        float *q = folded, *k = scores, *v = k + dim, *turned_k = v + dim, *parts_of = turned_k + dim;
        fetch_heads(q, made.queries + own_head * dim, made.query_bias ? made.query_bias + head * dim : nullptr, HEADS * dim);
        // The last block of a cluster has the row's own position.
        bool writes = rank + 1 == (int)args.cluster;
        if (writes) {
            fetch_heads(k, made.keys + own_key * dim, made.key_bias ? made.key_bias + kv_head * dim : nullptr, dim);
            fetch_heads(v, made.values + own_key * dim, made.value_bias ? made.value_bias + kv_head * dim : nullptr, dim);
        }
        __syncthreads();
        if (made.query_norm) normalise_heads(q, HEADS, dim, made.query_norm, made.epsilon, parts_of);
        if (made.key_norm && writes) normalise_heads(k, 1, dim, made.key_norm, made.epsilon, parts_of);
        const float *angles = angles_of(made.angles, made.own_angles, row.angles, made.places, dim);
        const float *sink_angles = angles_of(made.sink_angles, made.own_sink_angles, row.sink_angles, made.places, dim);
        for (int i = threadIdx.x; i < HEADS * dim; i += blockDim.x) {
            queries[i] = turned(q + i / dim * dim, angles, i % dim, dim);
            sink_queries[i] = seen.sinks > 0 ? turned(q + i / dim * dim, sink_angles, i % dim, dim) : 0.0f;
        }
        if (writes) {
            for (int i = threadIdx.x; i < dim; i += blockDim.x) turned_k[i] = turned(k, angles, i, dim);
            __syncthreads();
            write_to_slab(made, sequence, slots, row.position, kv_head, 1, turned_k, v);
        }
        __syncthreads();
    } else {
        for (int i = threadIdx.x; i < HEADS * dim; i += blockDim.x) {
            queries[i] = made.window_queries[own_head * dim + i];
            sink_queries[i] = seen.sinks > 0 ? made.sink_queries[own_head * dim + i] : 0.0f;
        }
    }
    for (int i = threadIdx.x; i < HEADS * dim; i += blockDim.x) folded[i] = 0.0f;
    if (threadIdx.x < HEADS) totals[threadIdx.x] = 0.0f;
    __syncthreads();

    // The units of this block, and the pieces of them that there is room for; several pieces only without a cluster.
    bool whole = end - first <= (int)args.room;
    float most[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) most[h] = -INFINITY;
    int base = seen.begin(first);
    for (int segment = base + warp; segment < seen.begin(end); segment += warps) {
        float found[HEADS];
        score<ELEMENT, HEADS>(sequence, keys + (u64)seen.slot(segment) * dim, dim, segment < seen.sinks ? sink_queries : queries, args.scale, found);
        int from, to;
        seen.visible(segment, from, to);
        bool is_seen = from <= lane && lane < to;
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            if (is_seen && found[h] > most[h]) most[h] = found[h];
            if (whole) scores[h * capacity + (segment - base) * SEGMENT + lane] = found[h];
        }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        for (int offset = 16; offset > 0; offset /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, most[h], offset);
            most[h] = other > most[h] ? other : most[h];
        }
        if (lane == 0) maxima[warp][h] = most[h];
    }
    __syncthreads();
    if (threadIdx.x < HEADS) {
        float found = -INFINITY;
        for (int w = 0; w < warps; w++) found = maxima[w][threadIdx.x] > found ? maxima[w][threadIdx.x] : found;
        peak[threadIdx.x] = found;
    }
    __syncthreads();
#if __CUDA_ARCH__ >= 900
    if (args.cluster > 1) {
        groups::cluster_group cluster = groups::this_cluster();
        if (threadIdx.x < args.cluster * HEADS) {
            int h = threadIdx.x % HEADS;
            cluster.map_shared_rank(&peaks[0][0], threadIdx.x / HEADS)[rank * HEADS + h] = peak[h];
        }
        cluster.sync();
        if (threadIdx.x < HEADS) {
            float found = -INFINITY;
            for (u32 other = 0; other < args.cluster; other++) {
                float value = peaks[other][threadIdx.x];
                found = value > found ? value : found;
            }
            peak[threadIdx.x] = found;
        }
        __syncthreads();
    }
#endif

    for (int piece = first; piece < end || piece == first; piece += args.room) {
        int piece_end = piece + (int)args.room < end ? piece + (int)args.room : end;
        base = seen.begin(piece);
        int segments = seen.begin(piece_end) - base;
        if (!whole) {
            for (int segment = warp; segment < segments; segment += warps) {
                float found[HEADS];
                int at = base + segment;
                score<ELEMENT, HEADS>(sequence, keys + (u64)seen.slot(at) * dim, dim, at < seen.sinks ? sink_queries : queries, args.scale, found);
#pragma unroll
                for (int h = 0; h < HEADS; h++) scores[h * capacity + segment * SEGMENT + lane] = found[h];
            }
            __syncthreads();
        }
        // Weights; those of keys that are not seen are never read.
        for (int i = threadIdx.x; i < HEADS * segments * SEGMENT; i += blockDim.x) {
            int h = i / (segments * SEGMENT), at = h * capacity + i % (segments * SEGMENT);
            scores[at] = exponential(__fsub_rn(scores[at], peak[h]));
        }
        __syncthreads();
        for (int i = threadIdx.x; i < HEADS * (piece_end - piece); i += blockDim.x) {
            int h = i % HEADS, unit = piece + i / HEADS;
            float s = 0.0f;
            for (int segment = seen.begin(unit); segment < seen.end(unit); segment++) {
                const float *weights = scores + h * capacity + (segment - base) * SEGMENT;
                int from, to;
                seen.visible(segment, from, to);
                if (from == 0 && to == SEGMENT) {
#pragma unroll
                    for (int k = 0; k < SEGMENT; k += 4) {
                        float4 w = *reinterpret_cast<const float4 *>(weights + k);
                        s = sum(sum(sum(sum(s, w.x), w.y), w.z), w.w);
                    }
                } else {
                    for (int k = from; k < to; k++) s = sum(s, weights[k]);
                }
            }
            if (args.cluster == 1) sums[(unit - piece) * HEADS + h] = s;
#if __CUDA_ARCH__ >= 900
            else
                for (u32 other = 0; other < args.cluster; other++)
                    groups::this_cluster().map_shared_rank(sums, other)[unit * HEADS + h] = s;
#endif
        }
        for (int unit = piece + warp; unit < piece_end; unit += warps) {
            for (int d = 2 * lane; d < dim; d += 64) {
                float2 c[HEADS];
#pragma unroll
                for (int h = 0; h < HEADS; h++) c[h] = make_float2(0.0f, 0.0f);
                for (int segment = seen.begin(unit); segment < seen.end(unit); segment++) {
                    const float *weights = scores + (segment - base) * SEGMENT;
                    u64 at = values + (u64)seen.slot(segment) * dim + d;
                    int from, to;
                    seen.visible(segment, from, to);
                    if (from == 0 && to == SEGMENT) {
#pragma unroll
                        for (int k = 0; k < SEGMENT; k += AHEAD) {
                            float2 value[AHEAD];
#pragma unroll
                            for (int i = 0; i < AHEAD; i++) value[i] = pair_at<ELEMENT>(sequence, at + (u64)(k + i) * dim);
#pragma unroll
                            for (int i = 0; i < AHEAD; i += 4)
#pragma unroll
                                for (int h = 0; h < HEADS; h++) {
                                    float4 w = *reinterpret_cast<const float4 *>(weights + h * capacity + k + i);
                                    float ws[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
                                    for (int j = 0; j < 4; j++) {
                                        c[h].x = fused(ws[j], value[i + j].x, c[h].x);
                                        c[h].y = fused(ws[j], value[i + j].y, c[h].y);
                                    }
                                }
                        }
                    } else {
                        for (int k = from; k < to; k++) {
                            float2 value = pair_at<ELEMENT>(sequence, at + (u64)k * dim);
#pragma unroll
                            for (int h = 0; h < HEADS; h++) {
                                float w = weights[h * capacity + k];
                                c[h].x = fused(w, value.x, c[h].x);
                                c[h].y = fused(w, value.y, c[h].y);
                            }
                        }
                    }
                }
#pragma unroll
                for (int h = 0; h < HEADS; h++) {
                    if (args.cluster == 1) *reinterpret_cast<float2 *>(chains + ((unit - piece) * HEADS + h) * dim + d) = c[h];
#if __CUDA_ARCH__ >= 900
                    else {
                        // Each block folds a part of the outputs: its chains go there.
                        int part = HEADS * dim / args.cluster, at = h * dim + d;
                        float *theirs = groups::this_cluster().map_shared_rank(chains, at / part);
                        *reinterpret_cast<float2 *>(theirs + unit * part + at % part) = c[h];
                    }
#endif
                }
            }
        }
        __syncthreads();
        if (args.cluster == 1) {
            for (int i = threadIdx.x; i < HEADS * dim; i += blockDim.x) {
                float t = folded[i];
#pragma unroll 4
                for (int unit = 0; unit < piece_end - piece; unit++) t = sum(t, chains[unit * HEADS * dim + i]);
                folded[i] = t;
            }
            if (threadIdx.x < HEADS) {
                float total = totals[threadIdx.x];
                for (int unit = 0; unit < piece_end - piece; unit++) total = sum(total, sums[unit * HEADS + threadIdx.x]);
                totals[threadIdx.x] = total;
            }
            __syncthreads();
        }
    }
#if __CUDA_ARCH__ >= 900
    if (args.cluster > 1) {
        groups::this_cluster().sync();
        int part = HEADS * dim / args.cluster;
        for (int i = threadIdx.x; i < part; i += blockDim.x) {
            int at = rank * part + i, h = at / dim;
            float t = 0.0f, total = 0.0f;
#pragma unroll 8
            for (int unit = 0; unit < units; unit++) {
                t = sum(t, chains[unit * part + i]);
                total = sum(total, sums[unit * HEADS + h]);
            }
            args.out[own_head * dim + at] = product(t, __fdiv_rn(1.0f, total));
        }
        return;
    }
#endif
    for (int i = threadIdx.x; i < HEADS * dim; i += blockDim.x)
        args.out[own_head * dim + i] = product(folded[i], __fdiv_rn(1.0f, totals[i / dim]));
}

#define ATTEND(NAME, ELEMENT, HEADS)                                                                                       \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 2) attend_##NAME##_##HEADS(                               \
        const __grid_constant__ Attention args) {                                                                          \
        attend<ELEMENT, HEADS>(args);                                                                                      \
    }
#define ATTEND_ALL(NAME, ELEMENT)                                                                                          \
    ATTEND(NAME, ELEMENT, 1) ATTEND(NAME, ELEMENT, 2) ATTEND(NAME, ELEMENT, 3) ATTEND(NAME, ELEMENT, 4)
ATTEND_ALL(f16, ELEMENT_F16)
ATTEND_ALL(f32, ELEMENT_F32)
ATTEND_ALL(int8, ELEMENT_INT8)
