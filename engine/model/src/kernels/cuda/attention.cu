// Attention of one row over the sinks and the window of its session: rule ATTENTION of docs/numerics.md.
//
// A block, or a cluster of blocks, takes the query heads that share one key head, HEADS of them. Scores come first, a lane for
// each key; then the greatest of them; then weights, and for each unit of 32 keys a chain of weighted values; last, the chains
// are folded in ascending order. Blocks of a cluster take runs of units and read each other's chains at the end. A key that is
// not visible is in no chain.
#include <cooperative_groups.h>

#include "numerics.cuh"

namespace groups = cooperative_groups;

constexpr int ATTENTION_THREADS = 256;

struct Attention {
    const Row *rows;
    const Sequence *sequences;
    const Slots *slots;
    u32 layers;
    u32 heads;
    u32 kv_heads;
    u32 dim;
    const float *window_queries;
    const float *sink_queries;
    float *out;
    float scale;
    // 0: the output is row-major. Otherwise transposed, as `normalise` writes it.
    u32 padded;
    // Units that a block has room for at once.
    u32 room;
    u32 cluster;
};

// The segments of 32 keys that a row may see: those of the sinks, then the window's. A unit makes one chain: a segment, or the
// last of the sinks and the first of the window where both are the same 32 positions.
struct Seen {
    u64 first;
    u64 low;
    u64 last;
    u64 sink_end;
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
    __device__ u32 slot(const Slots &slots, int segment) const {
        if (segment < sinks) return segment * SEGMENT;
        return slots.sink_slots + (u32)((first + (segment - sinks)) * SEGMENT % slots.ring);
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
    extern __shared__ float attention_shared[];
    __shared__ float maxima[ATTENTION_THREADS / 32][HEADS], peak[HEADS], totals[HEADS];
    Row row = args.rows[blockIdx.y];
    Sequence sequence = args.sequences[row.sequence];
    Slots slots = args.slots[sequence.layout * args.layers];
    Seen seen(slots, row);
    int dim = args.dim, group = args.heads / args.kv_heads, parts = group / HEADS;
    int rank = blockIdx.x % args.cluster, which = blockIdx.x / args.cluster;
    int kv_head = which / parts, head = kv_head * group + which % parts * HEADS;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    int capacity = (args.room + 1) * SEGMENT;
    float *queries = attention_shared, *sink_queries = queries + HEADS * dim, *folded = sink_queries + HEADS * dim;
    float *scores = folded + HEADS * dim, *sums = scores + HEADS * capacity, *chains = sums + HEADS * args.room;

    u64 all = (u64)(slots.sink_slots + slots.ring) * dim;
    u64 keys = slots.start + kv_head * all, values = slots.start + (args.kv_heads + kv_head) * all;
    const float *own = args.window_queries + ((u64)blockIdx.y * args.heads + head) * dim;
    const float *own_sink = args.sink_queries + ((u64)blockIdx.y * args.heads + head) * dim;
    for (int i = threadIdx.x; i < HEADS * dim; i += blockDim.x) {
        queries[i] = own[i];
        sink_queries[i] = seen.sinks > 0 ? own_sink[i] : 0.0f;
        folded[i] = 0.0f;
    }
    if (threadIdx.x < HEADS) totals[threadIdx.x] = 0.0f;
    __syncthreads();

    // The units of this block, and the pieces of them that there is room for; several pieces only without a cluster.
    int units = seen.units(), first = units * rank / args.cluster, end = units * (rank + 1) / args.cluster;
    bool whole = end - first <= (int)args.room;
    float most[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) most[h] = -INFINITY;
    int base = seen.begin(first);
    for (int segment = base + warp; segment < seen.begin(end); segment += warps) {
        float found[HEADS];
        score<ELEMENT, HEADS>(sequence, keys + (u64)seen.slot(slots, segment) * dim, dim, segment < seen.sinks ? sink_queries : queries, args.scale, found);
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
#if __CUDA_ARCH__ >= 900
    if (args.cluster > 1) {
        groups::cluster_group cluster = groups::this_cluster();
        cluster.sync();
        float found = -INFINITY;
        if (threadIdx.x < HEADS)
            for (u32 other = 0; other < args.cluster; other++) {
                float value = cluster.map_shared_rank(peak, other)[threadIdx.x];
                found = value > found ? value : found;
            }
        cluster.sync();
        if (threadIdx.x < HEADS) peak[threadIdx.x] = found;
    }
#endif
    __syncthreads();

    for (int piece = first; piece < end || piece == first; piece += args.room) {
        int piece_end = piece + (int)args.room < end ? piece + (int)args.room : end;
        base = seen.begin(piece);
        int segments = seen.begin(piece_end) - base;
        if (!whole) {
            for (int segment = warp; segment < segments; segment += warps) {
                float found[HEADS];
                int at = base + segment;
                score<ELEMENT, HEADS>(sequence, keys + (u64)seen.slot(slots, at) * dim, dim, at < seen.sinks ? sink_queries : queries, args.scale, found);
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
            sums[(unit - piece) * HEADS + h] = s;
        }
        for (int unit = piece + warp; unit < piece_end; unit += warps) {
            for (int d = 2 * lane; d < dim; d += 64) {
                float2 c[HEADS];
#pragma unroll
                for (int h = 0; h < HEADS; h++) c[h] = make_float2(0.0f, 0.0f);
                for (int segment = seen.begin(unit); segment < seen.end(unit); segment++) {
                    const float *weights = scores + (segment - base) * SEGMENT;
                    u64 at = values + (u64)seen.slot(slots, segment) * dim + d;
                    int from, to;
                    seen.visible(segment, from, to);
                    if (from == 0 && to == SEGMENT) {
#pragma unroll
                        for (int k = 0; k < SEGMENT; k += 4) {
                            float2 value[4];
#pragma unroll
                            for (int i = 0; i < 4; i++) value[i] = pair_at<ELEMENT>(sequence, at + (u64)(k + i) * dim);
#pragma unroll
                            for (int h = 0; h < HEADS; h++) {
                                float4 w = *reinterpret_cast<const float4 *>(weights + h * capacity + k);
                                c[h].x = fused(w.x, value[0].x, c[h].x);
                                c[h].y = fused(w.x, value[0].y, c[h].y);
                                c[h].x = fused(w.y, value[1].x, c[h].x);
                                c[h].y = fused(w.y, value[1].y, c[h].y);
                                c[h].x = fused(w.z, value[2].x, c[h].x);
                                c[h].y = fused(w.z, value[2].y, c[h].y);
                                c[h].x = fused(w.w, value[3].x, c[h].x);
                                c[h].y = fused(w.w, value[3].y, c[h].y);
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
                for (int h = 0; h < HEADS; h++)
                    *reinterpret_cast<float2 *>(chains + ((unit - piece) * HEADS + h) * dim + d) = c[h];
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
        groups::cluster_group cluster = groups::this_cluster();
        cluster.sync();
        if (threadIdx.x < HEADS) {
            float total = 0.0f;
            for (int other = 0; other < (int)args.cluster; other++) {
                const float *theirs = cluster.map_shared_rank(sums, other);
                int count = units * (other + 1) / (int)args.cluster - units * other / (int)args.cluster;
                for (int unit = 0; unit < count; unit++) total = sum(total, theirs[unit * HEADS + threadIdx.x]);
            }
            totals[threadIdx.x] = total;
        }
        for (int i = rank * blockDim.x + threadIdx.x; i < HEADS * dim; i += args.cluster * blockDim.x) {
            float t = 0.0f;
            for (int other = 0; other < (int)args.cluster; other++) {
                const float *theirs = cluster.map_shared_rank(chains, other);
                int count = units * (other + 1) / (int)args.cluster - units * other / (int)args.cluster;
#pragma unroll 4
                for (int unit = 0; unit < count; unit++) t = sum(t, theirs[unit * HEADS * dim + i]);
            }
            folded[i] = t;
        }
        __syncthreads();
        for (int i = rank * blockDim.x + threadIdx.x; i < HEADS * dim; i += args.cluster * blockDim.x)
            args.out[((u64)blockIdx.y * args.heads + head) * dim + i] = product(folded[i], __fdiv_rn(1.0f, totals[i / dim]));
        // Nobody ends while its chains are read.
        cluster.sync();
        return;
    }
#endif
    int width = args.heads * dim;
    for (int i = threadIdx.x; i < HEADS * dim; i += blockDim.x) {
        float y = product(folded[i], __fdiv_rn(1.0f, totals[i / dim]));
        folded[i] = y;
        if (args.padded) args.out[(u64)(head * dim + i) * args.padded + blockIdx.y] = y;
        else args.out[(u64)blockIdx.y * width + head * dim + i] = y;
    }
    if (!args.padded) return;
    __syncthreads();
    for (int segment = threadIdx.x; segment < HEADS * dim / SEGMENT; segment += blockDim.x) {
        float s = 0.0f;
        for (int k = 0; k < SEGMENT; k++) s = sum(s, folded[segment * SEGMENT + k]);
        args.out[(u64)(width + head * dim / SEGMENT + segment) * args.padded + blockIdx.y] = s;
    }
}

#define ATTEND(NAME, ELEMENT, HEADS)                                                                                       \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attend_##NAME##_##HEADS(                               \
        const __grid_constant__ Attention args) {                                                                          \
        attend<ELEMENT, HEADS>(args);                                                                                      \
    }
#define ATTEND_ALL(NAME, ELEMENT)                                                                                          \
    ATTEND(NAME, ELEMENT, 1) ATTEND(NAME, ELEMENT, 2) ATTEND(NAME, ELEMENT, 3) ATTEND(NAME, ELEMENT, 4)
ATTEND_ALL(f16, ELEMENT_F16)
ATTEND_ALL(f32, ELEMENT_F32)
ATTEND_ALL(int8, ELEMENT_INT8)
