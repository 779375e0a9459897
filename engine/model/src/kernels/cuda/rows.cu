// What happens to a row between the products: its embedding, normalisation, rotation and its place in the cache, and which
// logit is the greatest.
#include "formats.cuh"

template <int KIND> __device__ __forceinline__ void dequantise(const u8 *panel, int segment, int lane, float scale, float *out) {
    Weights<KIND> weights;
    weights.load(panel, segment, lane);
#pragma unroll
    for (int k = 0; k < SEGMENT; k++) {
        float2 scales = scales_of<KIND>(panel, segment, k / (SEGMENT / Shape<KIND>::CHAINS), lane);
        float value = weights.at(k);
        if (!Shape<KIND>::PLAIN) value = sum(product(scales.x, value), scales.y);
        out[k] = scale == 1.0f ? value : product(value, scale);
    }
}

// The embedding of each row's token, dequantised: d * q + m, each operation rounded. One block a row.
extern "C" __global__ void embed(const __grid_constant__ Matrix matrix, const Row *rows, float *residual, u32 segments, float scale) {
    u32 token = rows[blockIdx.x].token, lane = token % PANEL;
    const u8 *panel = panel_of(matrix, token / PANEL, segments);
    float *out = residual + (u64)blockIdx.x * segments * SEGMENT;
    for (int segment = threadIdx.x; segment < segments; segment += blockDim.x) {
        WITH_KIND(matrix.kind, (dequantise<KIND>(panel, segment, lane, scale, out + segment * SEGMENT)));
    }
}

// One over the root mean square of `length` values in shared memory: chains of 32, folded in ascending order by one thread.
// `chains` has room for length / 32; every thread gets the result.
__device__ __forceinline__ float inverse_rms(const float *x, int length, float epsilon, float *chains) {
    __shared__ float inverse;
    int segments = length / SEGMENT;
    for (int segment = threadIdx.x; segment < segments; segment += blockDim.x) {
        float c = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT; k++) {
            // Threads begin at different inputs' banks only if the values were padded; a row is short enough for that not to matter.
            float value = x[segment * SEGMENT + k];
            c = fused(value, value, c);
        }
        chains[segment] = c;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0.0f;
        for (int segment = 0; segment < segments; segment++) total = sum(total, chains[segment]);
        inverse = inverse_root(total, length, epsilon);
    }
    __syncthreads();
    return inverse;
}

// Rule NORM for the rows that `map` names (all, where it is null). With `padded` 0 the result is row-major; otherwise it is
// transposed, `padded` rows for each input, and the sums of its segments stand behind it. One block a row.
extern "C" __global__ void normalise(const float *x, const u32 *map, const float *weights, float epsilon, u32 columns, float *out, u32 padded) {
    extern __shared__ float row_shared[];
    float *row = row_shared, *chains = row_shared + columns;
    const float *from = x + (u64)(map ? map[blockIdx.x] : blockIdx.x) * columns;
    for (int k = threadIdx.x; k < columns; k += blockDim.x) row[k] = from[k];
    __syncthreads();
    float inverse = inverse_rms(row, columns, epsilon, chains);
    for (int k = threadIdx.x; k < columns; k += blockDim.x) {
        float y = product(product(row[k], inverse), __ldg(weights + k));
        row[k] = y;
        if (padded) out[(u64)k * padded + blockIdx.x] = y;
        else out[(u64)blockIdx.x * columns + k] = y;
    }
    if (!padded) return;
    __syncthreads();
    for (int segment = threadIdx.x; segment < columns / SEGMENT; segment += blockDim.x) {
        float s = 0.0f;
        for (int k = 0; k < SEGMENT; k++) s = sum(s, row[segment * SEGMENT + k]);
        out[(u64)(columns + segment) * padded + blockIdx.x] = s;
    }
}

// Adds a bias to what a half of a block has made, normalises it, and adds it to the residual stream; each where the model does
// so. One block a row.
extern "C" __global__ void add_branch(const float *branch, const float *bias, const float *weights, float epsilon, u32 columns, float *residual) {
    extern __shared__ float row_shared[];
    float *row = row_shared, *chains = row_shared + columns;
    const float *from = branch + (u64)blockIdx.x * columns;
    float *to = residual + (u64)blockIdx.x * columns;
    for (int k = threadIdx.x; k < columns; k += blockDim.x) row[k] = bias ? sum(from[k], bias[k]) : from[k];
    __syncthreads();
    float inverse = weights ? inverse_rms(row, columns, epsilon, chains) : 1.0f;
    for (int k = threadIdx.x; k < columns; k += blockDim.x) {
        float y = weights ? product(product(row[k], inverse), weights[k]) : row[k];
        to[k] = sum(to[k], y);
    }
}

// Queries, keys and values of one layer, and what is done to them before attention.
struct Rotation {
    const Row *rows;
    const Sequence *sequences;
    // The layouts of this layer: `layers` apart.
    const Slots *slots;
    u32 layers;
    u32 heads;
    u32 kv_heads;
    u32 dim;
    // Row-major products; biases and norms of heads, or null.
    const float *queries;
    const float *keys;
    const float *values;
    const float *query_bias;
    const float *key_bias;
    const float *value_bias;
    const float *query_norm;
    const float *key_norm;
    // 2 * dim numbers for each place: cosines, then signed sines. Tables of the first `places`, and the pass's own beyond.
    const float *angles;
    const float *sink_angles;
    const float *own_angles;
    const float *own_sink_angles;
    float *window_queries;
    float *sink_queries;
    u32 places;
    float epsilon;
    u32 element;
    u32 unused;
};

__device__ __forceinline__ const float *angles_of(const float *table, const float *own, u32 place, u32 places, int dim) {
    return place < places ? table + (u64)place * 2 * dim : own + (u64)(place - places) * 2 * dim;
}

__device__ __forceinline__ u32 slot_of(const Slots &slots, u64 position) {
    return position < slots.sink ? (u32)position : slots.sink_slots + (u32)(position % slots.ring);
}

// Rule KV-INT8: the scale of a block is the least bfloat16 that is not below its greatest magnitude over 127.
__device__ __forceinline__ void quantise(const float *block, signed char *quants, int step, u16 *scale) {
    float greatest = 0.0f;
    for (int i = 0; i < SEGMENT; i++) {
        float magnitude = fabsf(block[i]);
        if (magnitude > greatest || isnan(magnitude)) greatest = magnitude;
    }
    float raw = __fdiv_rn(greatest, 127.0f);
    u16 bits = isnan(raw) ? 0x7fc0 : (u16)((__float_as_uint(raw) + 0xffffu) >> 16);
    *scale = bits;
    float by = __uint_as_float((u32)bits << 16);
    for (int i = 0; i < SEGMENT; i++) {
        float quotient = bits == 0 ? 0.0f : rintf(__fdiv_rn(block[i], by));
        // As Rust converts: what is no number is 0, and what is beyond the range its end.
        quotient = isnan(quotient) ? 0.0f : quotient < -128.0f ? -128.0f : quotient > 127.0f ? 127.0f : quotient;
        quants[i * step] = (signed char)(int)quotient;
    }
}

__device__ __forceinline__ float turned(const float *x, const float *angles, int d, int dim) {
    return sum(product(x[d], angles[d]), product(x[d ^ 1], angles[dim + d]));
}

// Adds biases, normalises heads, rotates queries and keys, and writes keys and values into the slab. One block a row.
extern "C" __global__ void rotate_and_store(const __grid_constant__ Rotation args) {
    extern __shared__ float row_shared[];
    Row row = args.rows[blockIdx.x];
    Sequence sequence = args.sequences[row.sequence];
    Slots slots = args.slots[sequence.layout * args.layers];
    int dim = args.dim, queries = args.heads * dim, keys = args.kv_heads * dim;
    float *q = row_shared, *k = q + queries, *v = k + keys, *turned_k = v + keys, *chains = turned_k + keys;
    u64 at = blockIdx.x;
    for (int i = threadIdx.x; i < queries; i += blockDim.x) {
        float value = args.queries[at * queries + i];
        q[i] = args.query_bias ? sum(value, args.query_bias[i]) : value;
    }
    for (int i = threadIdx.x; i < keys; i += blockDim.x) {
        float key = args.keys[at * keys + i], value = args.values[at * keys + i];
        k[i] = args.key_bias ? sum(key, args.key_bias[i]) : key;
        v[i] = args.value_bias ? sum(value, args.value_bias[i]) : value;
    }
    __syncthreads();
    // Queries and keys stand one after the other, so heads are counted through.
    int segments = dim / SEGMENT, first = args.query_norm ? 0 : args.heads, end = args.key_norm ? args.heads + args.kv_heads : args.heads;
    if (first < end) {
        for (int i = first * segments + threadIdx.x; i < end * segments; i += blockDim.x) {
            float c = 0.0f;
            for (int j = 0; j < SEGMENT; j++) c = fused(q[i * SEGMENT + j], q[i * SEGMENT + j], c);
            chains[i] = c;
        }
        __syncthreads();
        for (int head = first + threadIdx.x; head < end; head += blockDim.x) {
            float total = 0.0f;
            for (int segment = 0; segment < segments; segment++) total = sum(total, chains[head * segments + segment]);
            chains[head * segments] = inverse_root(total, dim, args.epsilon);
        }
        __syncthreads();
        for (int i = first * dim + threadIdx.x; i < end * dim; i += blockDim.x) {
            const float *weights = i < queries ? args.query_norm : args.key_norm;
            q[i] = product(product(q[i], chains[i / dim * segments]), weights[i % dim]);
        }
        __syncthreads();
    }
    const float *angles = angles_of(args.angles, args.own_angles, row.angles, args.places, dim);
    const float *sink_angles = angles_of(args.sink_angles, args.own_sink_angles, row.sink_angles, args.places, dim);
    for (int i = threadIdx.x; i < queries; i += blockDim.x) {
        const float *head = q + i / dim * dim;
        args.window_queries[at * queries + i] = turned(head, angles, i % dim, dim);
        if (slots.sink > 0) {
            args.sink_queries[at * queries + i] = turned(head, sink_angles, i % dim, dim);
        }
    }
    u32 slot = slot_of(slots, row.position);
    u64 all = (u64)(slots.sink_slots + slots.ring) * dim;
    u64 key_first = slots.start + (u64)(slot / LANES * LANES) * dim + slot % LANES;
    u64 value_first = slots.start + args.kv_heads * all + (u64)slot * dim;
    if (args.element == ELEMENT_INT8) {
        for (int i = threadIdx.x; i < keys; i += blockDim.x) turned_k[i] = turned(k + i / dim * dim, angles, i % dim, dim);
        __syncthreads();
        signed char *slab = reinterpret_cast<signed char *>(sequence.elements);
        for (int i = threadIdx.x; i < 2 * keys / SEGMENT; i += blockDim.x) {
            bool is_value = i >= keys / SEGMENT;
            int from = i % (keys / SEGMENT) * SEGMENT, head = from / dim, d = from % dim;
            if (is_value) {
                u64 to = value_first + head * all + d;
                quantise(v + from, slab + to, 1, sequence.scales + to / SEGMENT);
            } else {
                u64 to = key_first + head * all + (u64)d * LANES;
                u64 scale = to / (LANES * SEGMENT) * LANES + to % LANES;
                quantise(turned_k + from, slab + to, LANES, sequence.scales + scale);
            }
        }
        return;
    }
    for (int i = threadIdx.x; i < keys; i += blockDim.x) {
        int head = i / dim, d = i % dim;
        float key = turned(k + head * dim, angles, d, dim), value = v[i];
        u64 key_at = key_first + head * all + (u64)d * LANES, value_at = value_first + head * all + d;
        if (args.element == ELEMENT_F16) {
            __half *slab = reinterpret_cast<__half *>(sequence.elements);
            slab[key_at] = __float2half_rn(key);
            slab[value_at] = __float2half_rn(value);
        } else {
            float *slab = reinterpret_cast<float *>(sequence.elements);
            slab[key_at] = key;
            slab[value_at] = value;
        }
    }
}

// A number whose order is that of logits, and, among equals, the reverse of their ids. What is no number is below all others,
// unless it is the first: then nothing is above it, as on the CPU.
__device__ __forceinline__ u64 rank_of(float logit, u32 id) {
    u64 low = 0xffffffffu - id;
    if (isnan(logit)) return id == 0 ? ~0ull : low;
    u32 bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (u64)bits << 32 | low;
}

// Raises `best[row]` to the rank of the greatest logit of each row. Blocks of a row share it.
extern "C" __global__ void greatest(const float *logits, u32 vocabulary, u64 *best) {
    const float *row = logits + (u64)blockIdx.y * vocabulary;
    u64 rank = 0;
    for (u32 id = blockIdx.x * blockDim.x + threadIdx.x; id < vocabulary; id += gridDim.x * blockDim.x) {
        u64 other = rank_of(row[id], id);
        rank = other > rank ? other : rank;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        u64 other = __shfl_down_sync(0xffffffffu, rank, offset);
        rank = other > rank ? other : rank;
    }
    if (threadIdx.x % 32 == 0) atomicMax(best + blockIdx.y, rank);
}
